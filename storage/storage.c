/* storage.c - the store: opened, ticked, closed.
 *
 * SHAPE   dir/lock        held while the store is open
 *         dir/wal/        the log (wal.c) and how far blocks cover it (flush.c)
 *         dir/head/       chunk files (headfile.c)
 *         dir/ULID/       blocks (block.h)
 * RULES   S1  Opening takes the lock before it changes anything, and not even that in a folder that is
 *             Prometheus's.
 *         S2  Blocks are opened before the log is replayed: they say which rows need no replaying.
 *         S3  A failed sync leaves it open what is on disk: a new segment is begun and what the old one
 *             may have lost is written again.
 *         S4  When a segment of the log is closed, all rows in it go to chunk files; then it is deleted. So a
 *             start replays little more than one segment. It is closed when it has SERIES_BYTES for each
 *             series, so that chunks get enough rows, and at the end of a block's span.
 * THREADS The worker runs storage_tick() when it may be needed (ticker.c); tests may run it themselves. One at a
 *         time has the turn, I/O and waits included: a flag, not a lock that is held, because a tick waits for
 *         the log. */
#include "storage/storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/fs_overlay.h"
#include "src/base/log.h"
#include "storage/compact.h"
#include "storage/exemplar.h"
#include "storage/storage_impl.h"

#define HOUR_MS          3600000LL
#define BLOCK_MS_DEFAULT (2 * HOUR_MS)
#define MAX_BLOCK_MS     (31 * 24 * HOUR_MS)
#define FSYNC_MS_DEFAULT 1000
#define CACHE_BYTES      (32u << 20)
#define JOIN_MS          15000
#define RELOG_PAUSE_MS   10000
#define SERIES_BYTES     64u                /* of a segment: some fifty rows of most targets */
#define INDEX_MAGIC      "\xba\xaa\xd7\x00" /* of a block of Prometheus */

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "opening the store");
}

/* ---- another's folder ------------------------------------------------------------------------ */

static bool exists(struct fs *fs, const char *dir, const char *name)
{
    char path[4096];
    struct fs_stat stat;

    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return false;
    return fs->stat(fs, path, &stat, NULL) == NX_OK;
}

static bool is_their_block(struct fs *fs, const char *dir, const char *name)
{
    char path[4096];
    struct fs_file *f = NULL;
    char magic[4];
    size_t got = 0;

    if (!block_ulid_valid(name) ||
        snprintf(path, sizeof path, "%s/%s/index", dir, name) >= (int)sizeof path ||
        fs->open(fs, path, FS_READ, &f, NULL))
        return false;
    if (fs->pread(fs, f, magic, sizeof magic, 0, &got, NULL))
        got = 0;
    fs->close(fs, f);
    return got == sizeof magic && memcmp(magic, INDEX_MAGIC, sizeof magic) == 0;
}

/* S1 */
static nx_status refuse_prometheus(struct fs *fs, const char *dir, struct nx_err *err)
{
    struct fs_names names = {0};
    nx_status st = fs->list(fs, dir, &names, err);
    const char *sign = NULL;

    if (st)
        return st;
    if (exists(fs, dir, "chunks_head"))
        sign = "chunks_head";
    else if (exists(fs, dir, "wal/00000000")) /* ours begins with 1 */
        sign = "wal/00000000";
    for (size_t i = 0; i < names.n && !sign; i++) {
        if (is_their_block(fs, dir, names.v[i]))
            sign = names.v[i];
    }
    if (sign)
        st = nx_fail(err, NX_UNAVAILABLE,
                     "%s is a data folder of Prometheus (it holds %s), whose format is not "
                     "Narthex's. To take its data over, run `narthex tsdb import --in-place %s`, "
                     "which keeps Prometheus's files in %s/prometheus, and start again; to begin "
                     "with nothing, choose another folder with --storage.tsdb.path",
                     dir, sign, dir, dir);
    fs_names_done(&names);
    return st;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int64_t or_default(int64_t v, int64_t otherwise)
{
    return v > 0 ? v : otherwise;
}

static int64_t max_block(const struct storage *s)
{
    int64_t tenth = s->retention.time_ms / 10;

    if (s->max_block_given_ms > 0)
        return s->max_block_given_ms;
    return tenth > 0 && tenth < MAX_BLOCK_MS ? tenth : MAX_BLOCK_MS;
}

static nx_status new_storage(struct storage **out, const struct storage_opts *o, struct nx_err *err)
{
    struct storage *s = calloc(1, sizeof *s);

    if (!s)
        return no_memory(err);
    nx_mutex_init(&s->tick_lock, NX_RANK_QUEUE);
    nx_cond_init(&s->tick_over);
    nx_mutex_init(&s->log_lock, NX_RANK_SYNC);
    nx_cond_init(&s->log_free);
    s->sync_alarm.fd = s->worker_alarm.fd = -1;
    nx_mutex_init(&s->lock, NX_RANK_BLOCKS);
    nx_cond_init(&s->work_done);
    s->fs = o->fs;
    s->block_ms = or_default(o->min_block_ms, BLOCK_MS_DEFAULT);
    s->max_block_given_ms = o->max_block_ms;
    s->retention =
        (struct storage_retention){o->retention_ms, o->retention_bytes, o->retention_percent};
    s->max_block_ms = max_block(s);
    s->keep_overlapping = o->keep_overlapping;
    s->fsync_ms = or_default(o->fsync_ms, FSYNC_MS_DEFAULT);
    s->drop_before_ms = s->head_from_ms = INT64_MIN;
    if (o->rules) {
        nx_status st = keep_rules_new(&s->rules, o->rules, err);
        *out = s;
        if (st)
            return st;
    }
    s->dir = strdup(o->dir);
    s->memory = o->memory;
    s->cache_bytes = o->cache_bytes ? o->cache_bytes : CACHE_BYTES;
    s->cache = cache_new(s->cache_bytes);
    s->exemplars = exemplars_new();
    *out = s;
    return s->dir && s->cache && s->exemplars ? NX_OK : no_memory(err);
}

/* A folder just made is safe when the folders above are synced. Those may be unreadable to us; then
 * they are not ours to look after. */
static void sync_parents(struct fs *fs, char *path)
{
    for (size_t i = strlen(path); i-- > 0;) {
        if (path[i] != '/')
            continue;
        path[i] = 0;
        (void)fs->sync_dir(fs, i ? path : "/", NULL);
        path[i] = '/';
    }
    if (path[0] != '/')
        (void)fs->sync_dir(fs, ".", NULL);
}

static nx_status take_folder(struct storage *s, const struct storage_opts *o, struct nx_err *err)
{
    char path[4096];
    nx_status st = fs_mkdirs(s->fs, s->dir, err);

    if (st)
        return st;
    sync_parents(s->fs, s->dir);
    if (snprintf(path, sizeof path, "%s/lock", s->dir) >= (int)sizeof path)
        return nx_fail(err, NX_BADINPUT, "%s: the path is too long", s->dir);
    st = refuse_prometheus(s->fs, s->dir, err);
    if (!st && !o->no_lockfile)
        st = s->fs->lock(s->fs, path, &s->lockfile, err);
    return st;
}

static nx_status open_headfiles(struct storage *s, struct replay *r, struct nx_err *err)
{
    struct headfile_visitor v = replay_headfiles(r);
    char *dir;
    nx_status st;

    if (asprintf(&dir, "%s/head", s->dir) < 0)
        return no_memory(err);
    st = headfiles_open(&s->files, s->fs, dir, s->cache, &v, err);
    s->head->files = s->files;
    free(dir);
    return st ? st : replay_headfiles_end(r, err);
}

static nx_status open_wal(struct storage *s, struct replay *r, struct nx_err *err)
{
    char *dir;
    nx_status st;

    if (asprintf(&dir, "%s/wal", s->dir) < 0)
        return no_memory(err);
    st = fs_mkdirs(s->fs, dir, err);
    if (!st)
        st = s->fs->sync_dir(s->fs, s->dir, err);
    if (!st) {
        struct wal_opts wo = {s->fs, dir, s->segment_bytes};
        st = wal_open(&s->wal, &wo, replay_visit, r, err);
    }
    free(dir);
    return st;
}

static nx_status replay(struct storage *s, struct nx_err *err)
{
    struct replay *r = NULL;
    int64_t start = clock_mono_ns();
    nx_status st = replay_open(&r, s->head, err);

    if (!st)
        st = open_headfiles(s, r, err);
    if (!st)
        st = open_wal(s, r, err);
    s->replay_ms = (clock_mono_ns() - start) / 1000000;
    if (!st && replay_samples(r))
        log_info("Replayed the log", "samples",
                 log_fmt("%llu", (unsigned long long)replay_samples(r)), "ms",
                 log_fmt("%lld", (long long)s->replay_ms));
    replay_close(r);
    s->head->wal = s->wal;
    if (!st) { /* what was there at the start goes to chunk files with the first tick */
        s->store_up_to = wal_segment(s->wal) - 1;
        headfiles_sweep(s->files);
    }
    return st;
}

/* When the log was replayed: a tombstone needs its series. */
static nx_status load_deletions(struct storage *s, struct nx_err *err)
{
    char *path = delete_note_path(s);
    nx_status st = path ? head_tombs_load(s->head, s->fs, path, err) : no_memory(err);

    free(path);
    return st;
}

/* Before anything that rings them. Without threads nobody waits, and they stay closed. */
static nx_status open_alarms(struct storage *s, const struct storage_opts *o, struct nx_err *err)
{
    nx_status st = NX_OK;

    if (!o->no_worker)
        st = nx_alarm_open(&s->worker_alarm, err);
    if (!st && !o->no_worker && !o->fsync_each)
        st = nx_alarm_open(&s->sync_alarm, err);
    return st;
}

nx_status storage_open(struct storage **out, const struct storage_opts *opts, struct nx_err *err)
{
    struct storage *s = NULL;
    int64_t floor_ms = INT64_MIN;
    nx_status st = new_storage(&s, opts, err);

    if (!st)
        st = take_folder(s, opts, err);
    if (!st)
        st = open_alarms(s, opts, err);
    if (!st)
        st = head_open(&s->head, s->block_ms, err);
    if (!st)
        st = blocks_open(s, err); /* S2 */
    if (!st)
        snapshots_clean(s);
    if (!st)
        retention_measure(s);
    if (!st)
        st = flush_recover(s, &floor_ms, err);
    if (st)
        goto done;
    atomic_store(&s->head->floor_ms, floor_ms);
    s->head_from_ms = floor_ms;
    s->head->memory = s->memory;
    pressure_open(s);
    storage_set_out_of_order_window(s, opts->out_of_order_window_ms);
    s->segment_bytes = opts->wal_segment_bytes;
    st = replay(s, err);
    if (!st)
        st = load_deletions(s, err);
    s->segment_span = floor_div(atomic_load(&s->head->max_ms), s->block_ms);
    if (!st)
        st = compact_open(&s->compactor, s, !opts->no_worker, err);
    s->head->commit = opts->fsync_each ? s : NULL;
    if (!st)
        st = sync_open(s, !opts->no_worker && !opts->fsync_each, err);
    if (!st && !opts->no_worker)
        st = ticker_open(s, err);
    if (st)
        goto done;
    *out = s;
    s = NULL;

done:
    storage_close(s);
    return st;
}

void storage_close(struct storage *s)
{
    if (!s)
        return;
    ticker_close(s);
    sync_close(s);
    compact_close(s->compactor);
    pressure_close(s);
    NX_ASSERT(s->queriers == NULL);
    if (s->wal && wal_sync(s->wal, NULL))
        log_warn("The last sync of the log failed", "dir", s->dir);
    wal_close(s->wal);
    head_close(s->head);
    headfiles_close(s->files);
    for (size_t i = 0; i < s->n_blocks; i++)
        block_unref(s->blocks[i]);
    free(s->blocks);
    free(s->plain);
    keep_rules_unref(s->rules);
    cache_free(s->cache);
    exemplars_free(s->exemplars);
    if (s->lockfile)
        s->fs->unlock(s->fs, s->lockfile);
    fs_overlay_free(s->overlay);
    nx_cond_done(&s->work_done);
    nx_mutex_done(&s->lock);
    nx_alarm_close(&s->worker_alarm);
    nx_alarm_close(&s->sync_alarm);
    nx_cond_done(&s->log_free);
    nx_mutex_done(&s->log_lock);
    nx_cond_done(&s->tick_over);
    nx_mutex_done(&s->tick_lock);
    free(s->dir);
    free(s);
}

nx_status storage_group_open(struct storage *s, struct storage_group **out, struct nx_err *err)
{
    nx_status st;

    nx_wrlock(&s->head->lock);
    st = head_new_group_locked(s->head, 0, NULL, out, err);
    nx_rwunlock(&s->head->lock);
    return st;
}

bool storage_knows(struct storage *s, const struct labels *ls)
{
    struct head *h = s->head;
    bool known;

    nx_rdlock(&h->lock);
    known = index_find(h->ix, ls, labels_hash(ls)) != NULL;
    nx_rwunlock(&h->lock);
    return known;
}

nx_status storage_group_open_loose(struct storage *s, struct storage_group **out,
                                   struct nx_err *err)
{
    nx_status st = storage_group_open(s, out, err);

    if (!st)
        (*out)->loose = true; /* nobody else knows it yet */
    return st;
}

void storage_set_out_of_order_window(struct storage *s, int64_t window_ms)
{
    atomic_store(&s->head->loose->window_ms, window_ms > 0 ? window_ms : 0);
}

/* ---- the tick -------------------------------------------------------------------------------- */

/* S3 */
static void relog(struct storage *s, int64_t now_ms)
{
    struct nx_err err = {0};
    nx_status st;

    s->relog_after_ms = now_ms + RELOG_PAUSE_MS;
    st = head_relog(s->head, s->relog_epoch, &err);
    if (!st)
        st = wal_sync(s->wal, &err);
    s->relog_due = st != NX_OK;
    if (st)
        log_error("The log could not be written again after a failed sync", "err", err.text);
    else
        log_warn("The log goes on in a new segment after a failed sync", "dir", s->dir);
}

/* Rows of the last epoch may have been written while the sync that ended it was under way. */
static void relog_is_due(struct storage *s)
{
    uint64_t epoch = head_wal_epoch(s->head);

    if (!s->relog_due)
        s->relog_epoch = epoch ? epoch - 1 : 0;
    s->relog_due = true;
}

static void move_off_segment(struct storage *s, int64_t now_ms)
{
    struct nx_err err = {0};
    bool moved = false;

    relog_is_due(s);
    if (!wal_rotate(s->wal, &moved, &err) ||
        moved) { /* that the old one can't be synced is known */
        relog(s, now_ms);
        return;
    }
    s->relog_after_ms = now_ms + RELOG_PAUSE_MS;
    log_error("No new log segment after a failed sync", "err", err.text);
}

static void sync_log(struct storage *s, int64_t now_ms)
{
    struct nx_err err;
    nx_status st = wal_sync(s->wal, &err);

    s->synced_ms = now_ms;
    if (!st) {
        if (s->relog_due && now_ms >= s->relog_after_ms)
            relog(s, now_ms);
        if (!s->relog_due) {
            atomic_fetch_add(&s->head->wal_epoch, 1);
            atomic_store(&s->sync_trouble, false);
        }
        return;
    }
    log_error("Syncing the log failed", "err", err.text);
    if (now_ms >= s->relog_after_ms)
        move_off_segment(s, now_ms);
}

static size_t segment_bytes(struct storage *s)
{
    size_t series;

    if (s->segment_bytes)
        return s->segment_bytes;
    nx_rdlock(&s->head->lock);
    series = index_count(s->head->ix);
    nx_rwunlock(&s->head->lock);
    return series * SERIES_BYTES > WAL_SEGMENT_BYTES_DEFAULT ? series * SERIES_BYTES
                                                             : WAL_SEGMENT_BYTES_DEFAULT;
}

/* S4 */
static void rotate_log(struct storage *s, int64_t now_ms)
{
    struct nx_err err;
    int64_t max_ms = atomic_load(&s->head->max_ms), span = floor_div(max_ms, s->block_ms);
    uint32_t closed = wal_segment(s->wal);
    bool moved = false;
    nx_status st;

    wal_set_segment_bytes(s->wal, segment_bytes(s));
    if (now_ms < s->relog_after_ms ||
        (!wal_full(s->wal) && (max_ms == INT64_MIN || span == s->segment_span)))
        return;
    st = wal_rotate(s->wal, &moved, &err);
    if (moved) {
        s->rotate_files = s->rotate_files || span != s->segment_span;
        s->segment_span = span;
        s->store_up_to = closed;
    }
    if (!st)
        return;
    log_error("Beginning a segment of the log failed", "err", err.text);
    if (moved) { /* the old one was not synced */
        relog_is_due(s);
        relog(s, now_ms);
    } else {
        s->relog_after_ms = now_ms + RELOG_PAUSE_MS;
    }
}

/* ---- chunk files ------------------------------------------------------------------------------ */

static bool due(int64_t now_ms, int64_t last_ms, int64_t every_ms);

static void sync_between(void *ctx)
{
    struct storage *s = ctx;
    int64_t now_ms = s->tick_ms + (clock_mono_ns() - s->tick_ns) / 1000000;

    if (s->has_syncer || !due(now_ms, s->synced_ms, s->fsync_ms))
        return;
    log_turn_take(s);
    sync_log(s, now_ms);
    log_turn_give(s);
}

/* S4. What a disk refuses stays in memory and in the log, and is tried again. */
static void store_chunks(struct storage *s, int64_t now_ms)
{
    struct nx_err err;
    bool all = s->store_up_to != 0;
    nx_status st;

    if (now_ms < s->store_after_ms || (!all && !due(now_ms, s->joined_ms, JOIN_MS)))
        return;
    s->joined_ms = now_ms;
    st = head_store(s->head, s->store_up_to, sync_between, s, &err);
    if (st) {
        log_error("Writing a chunk file failed", "err", err.text);
        s->store_after_ms = now_ms + RELOG_PAUSE_MS;
        if (head_join(s->head, &err))
            log_warn("Joining chunks in memory failed", "err", err.text);
    } else if (head_log_needed(s->head, s->head_from_ms) > s->store_up_to) {
        s->store_up_to = 0; /* else a reader still looks at rows in there */
        if (s->rotate_files)
            headfiles_rotate(s->files);
        s->rotate_files = false;
    }
}

/* Rows that are in chunk files or blocks need no log. */
static void truncate_log(struct storage *s)
{
    struct nx_err err;
    nx_status st;

    log_turn_take(s);
    st = wal_truncate(s->wal, head_log_needed(s->head, s->head_from_ms), &err);
    log_turn_give(s);
    if (st)
        log_warn("Deleting a segment of the log failed", "err", err.text);
    headfiles_sweep(s->files);
}

static bool due(int64_t now_ms, int64_t last_ms, int64_t every_ms)
{
    return now_ms - last_ms >= every_ms || now_ms < last_ms; /* the clock was set back */
}

/* True if there are new blocks. A deletion or a snapshot under way puts it off to the next tick. */
static bool flush_all_due(struct storage *s, int64_t now_ms)
{
    struct nx_err err;
    bool wrote = true, more = false;

    s->flush_waits = true;
    if (!work_try(s, WORK_FLUSH))
        return false;
    s->flush_waits = false;
    while (wrote) {
        if (flush_due(s, &wrote, &err)) {
            log_error("Writing a block failed", "err", err.text);
            s->flush_waits = true;
            break;
        }
        more = more || wrote;
    }
    if (flush_late_due(s, now_ms, &wrote, &err))
        log_error("Writing a block of late samples failed", "err", err.text);
    more = more || wrote;
    flush_drop(s);
    work_give(s, WORK_FLUSH);
    return more;
}

static void tick_begin(struct storage *s)
{
    nx_lock(&s->tick_lock);
    while (s->ticking)
        nx_cond_wait(&s->tick_over, &s->tick_lock);
    s->ticking = true;
    nx_unlock(&s->tick_lock);
}

static void tick_end(struct storage *s)
{
    nx_lock(&s->tick_lock);
    s->ticking = false;
    nx_cond_signal(&s->tick_over);
    nx_unlock(&s->tick_lock);
}

void storage_tick(struct storage *s, int64_t now_ms)
{
    bool more;

    tick_begin(s);
    s->tick_ms = now_ms;
    s->tick_ns = clock_mono_ns();
    log_turn_take(s);
    if (s->has_syncer ? atomic_load(&s->sync_trouble) || s->relog_due
                      : due(now_ms, s->synced_ms, s->fsync_ms))
        sync_log(s, now_ms);
    rotate_log(s, now_ms);
    log_turn_give(s);
    store_chunks(s, now_ms);
    more = flush_all_due(s, now_ms);
    truncate_log(s);
    retention_run(s);
    pressure_tick(s);
    compact_tick(s->compactor, more);
    tick_end(s);
}

static bool waits(struct storage *s)
{
    int64_t newest_ms = atomic_load(&s->head->max_ms);

    return atomic_load(&s->sync_trouble) || s->relog_due || /* a disk that fails */
           clock_now_ms() < s->store_after_ms || wal_full(s->wal) ||
           (newest_ms != INT64_MIN && floor_div(newest_ms, s->block_ms) != s->segment_span) ||
           (!s->has_syncer && wal_unsynced(s->wal)) || s->flush_waits || s->store_up_to ||
           s->drop_before_ms != INT64_MIN || s->late_written || /* readers */
           s->memory_near;
}

bool storage_waits(struct storage *s)
{
    bool some;

    tick_begin(s); /* the tick's own state */
    some = waits(s);
    tick_end(s);
    return some;
}

void storage_set_retention(struct storage *s, const struct storage_retention *r)
{
    nx_lock(&s->lock);
    s->retention = *r;
    s->max_block_ms = max_block(s);
    s->rules_version++;
    nx_unlock(&s->lock);
    storage_ring(s);
}

nx_status storage_set_rules(struct storage *s, const struct storage_rules *rules,
                            struct nx_err *err)
{
    struct keep_rules *k = NULL, *old;
    nx_status st = rules ? keep_rules_new(&k, rules, err) : NX_OK;

    if (st)
        return st;
    nx_lock(&s->lock);
    old = s->rules;
    s->rules = k;
    s->rules_version++;
    nx_unlock(&s->lock);
    keep_rules_unref(old);
    storage_ring(s);
    compact_look(s->compactor);
    return NX_OK;
}
