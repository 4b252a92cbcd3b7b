/* retention.c - the list of blocks: opened, watched, deleted when their time is over.
 *
 * RULES   B1  A block that does not open is left where it is, counted and logged; it is tried again at the
 *             next start.
 *         B2  A block goes by a rename to NAME.tmp-for-deletion and then file by file; what a crash
 *             leaves of it, or of a block half written, goes at the next start.
 *         B3  Whole blocks only, the oldest first. By time: the newest block's end is a retention past
 *             its end, or the longest time that a rule keeps series for; what goes earlier is left out
 *             by writing the block again (compact_keep.c). By size: the blocks and the log together are larger than allowed, in
 *             bytes or as a share of the disk.
 *         B4  Blocks that were put into the folder by hand are picked up within a minute, and those
 *             taken away are forgotten. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "storage/compact.h"
#include "storage/storage_impl.h"

#define RESCAN_MS 60000

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "the list of blocks");
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

/* ---- the list -------------------------------------------------------------------------------- */

static nx_status room_locked(struct storage *s, struct nx_err *err)
{
    if (s->n_blocks < s->cap_blocks)
        return NX_OK;
    size_t cap = s->cap_blocks * 2 + 16;
    struct block **blocks = realloc(s->blocks, cap * sizeof(struct block *));
    if (!blocks)
        return no_memory(err);
    s->blocks = blocks;
    s->cap_blocks = cap;
    return NX_OK;
}

/* The level-1 block that it has of the oldest. */
static const char *oldest_source(const struct block_meta *m)
{
    const char *oldest = m->ulid;

    for (size_t i = 0; i < m->n_sources; i++)
        oldest = i == 0 || strcmp(m->sources[i], oldest) < 0 ? m->sources[i] : oldest;
    return oldest;
}

/* By time. Of blocks that begin together, as those of late samples do with others, the one that has what
 * was written first: of two samples of one time readers and merges keep that of the first block. */
static bool comes_before(const struct block_meta *a, const struct block_meta *b)
{
    if (a->min_ms != b->min_ms)
        return a->min_ms < b->min_ms;
    return strcmp(oldest_source(a), oldest_source(b)) < 0;
}

static void insert_locked(struct storage *s, struct block *b)
{
    size_t i = s->n_blocks++;

    for (; i > 0 && comes_before(block_meta(b), block_meta(s->blocks[i - 1])); i--)
        s->blocks[i] = s->blocks[i - 1];
    s->blocks[i] = b;
}

/* Takes out without a change of the order; gives the list's reference. */
static struct block *take_locked(struct storage *s, size_t i)
{
    struct block *b = s->blocks[i];

    s->n_blocks--;
    memmove(&s->blocks[i], &s->blocks[i + 1], (s->n_blocks - i) * sizeof(struct block *));
    return b;
}

static size_t place_locked(const struct storage *s, const struct block *b)
{
    size_t i = 0;

    while (i < s->n_blocks && s->blocks[i] != b)
        i++;
    return i;
}

nx_status blocks_room(struct storage *s, struct nx_err *err)
{
    nx_status st;

    nx_lock(&s->lock);
    st = room_locked(s, err);
    nx_unlock(&s->lock);
    return st;
}

bool blocks_replace(struct storage *s, struct block *const *old, size_t n, struct block *b)
{
    bool all = true;

    nx_lock(&s->lock);
    for (size_t i = 0; i < n && all; i++)
        all = place_locked(s, old[i]) < s->n_blocks;
    if (all && b && n == 0)
        all = room_locked(s, NULL) == NX_OK;
    for (size_t i = 0; i < n && all; i++)
        block_unref(take_locked(s, place_locked(s, old[i]))); /* the caller has references, too */
    if (all && b)
        insert_locked(s, b);
    s->replaced += all;
    nx_unlock(&s->lock);
    if (all)
        storage_ring(s); /* what was kept for want of these may be past its time */
    return all;
}

/* Readers get the block and the head without its rows in one step (Q1 of querier.c). */
nx_status blocks_add(struct storage *s, const char *ulid, int64_t head_from_ms, struct nx_err *err)
{
    struct block *b = NULL;
    char *dir = NULL;
    nx_status st = NX_OK;

    if (ulid) {
        if (asprintf(&dir, "%s/%s", s->dir, ulid) < 0)
            return no_memory(err);
        st = block_open(&b, s->fs, s->cache, dir, err);
    }
    free(dir);
    if (st)
        return st;
    nx_lock(&s->lock);
    if (b)
        st = room_locked(s, err);
    if (!st && b)
        insert_locked(s, b);
    if (!st && head_from_ms > s->head_from_ms)
        s->head_from_ms = head_from_ms;
    nx_unlock(&s->lock);
    if (st)
        block_unref(b);
    return st;
}

/* B1 */
static nx_status open_found(struct storage *s, const char *ulid, bool complain, struct nx_err *err)
{
    nx_status st = blocks_add(s, ulid, INT64_MIN, err);

    if (!st || st == NX_NOMEM || !complain)
        return st == NX_NOMEM ? st : NX_OK;
    nx_lock(&s->lock);
    s->loads_failed++;
    s->set_aside++;
    nx_unlock(&s->lock);
    log_error(
        "A block could not be opened; it is left as it is and its data is missing from results",
        "block", ulid, "dir", s->dir, "err", err ? err->text : NULL);
    return NX_OK;
}

static void remove_leftover(struct storage *s, const char *name)
{
    char *path;
    struct nx_err err;

    if (asprintf(&path, "%s/%s", s->dir, name) < 0)
        return;
    if (fs_remove_tree(s->fs, path, &err))
        log_warn("An unfinished folder could not be removed", "path", path, "err", err.text);
    else
        log_info("Removed an unfinished folder", "path", path);
    free(path);
}

nx_status blocks_open(struct storage *s, struct nx_err *err)
{
    struct fs_names names = {0};
    struct nx_err own;
    nx_status st = s->fs->list(s->fs, s->dir, &names, err);

    for (size_t i = 0; i < names.n && !st; i++) {
        const char *name = names.v[i];
        if (ends_with(name, BLOCK_TMP_SUFFIX) || ends_with(name, BLOCK_DELETING_SUFFIX))
            remove_leftover(s, name); /* B2 */
        else if (block_ulid_valid(name))
            st = open_found(s, name, true, err ? err : &own);
    }
    fs_names_done(&names);
    return st;
}

/* ---- B4 -------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool in_names(const struct fs_names *names, const char *ulid)
{
    return names->n && bsearch(&ulid, names->v, names->n, sizeof *names->v, by_name);
}

/* The names of the blocks of the list, sorted. */
static bool open_ulids(struct storage *s, struct fs_names *out)
{
    bool ok;

    nx_lock(&s->lock);
    *out = (struct fs_names){.v = calloc(s->n_blocks + 1, sizeof(char *))};
    ok = out->v != NULL;
    for (size_t i = 0; ok && i < s->n_blocks; i++) {
        out->v[i] = strdup(block_meta(s->blocks[i])->ulid);
        ok = out->v[i] != NULL;
        out->n += ok;
    }
    nx_unlock(&s->lock);
    if (ok && out->n)
        qsort(out->v, out->n, sizeof *out->v, by_name);
    return ok;
}

static void forget_missing(struct storage *s, const struct fs_names *names, uint64_t replaced)
{
    struct block *gone;

    do {
        gone = NULL;
        nx_lock(&s->lock);
        for (size_t i = 0; i < s->n_blocks && !gone && s->replaced == replaced; i++) {
            if (!in_names(names, block_meta(s->blocks[i])->ulid))
                gone = take_locked(s, i);
        }
        nx_unlock(&s->lock);
        if (gone)
            log_warn("A block is gone from the folder", "block", block_meta(gone)->ulid, "dir",
                     s->dir);
        block_unref(gone);
    } while (gone);
}

static void rescan(struct storage *s)
{
    struct fs_names names = {0}, known = {0};
    struct nx_err err;
    uint64_t replaced;

    nx_lock(&s->lock);
    replaced = s->replaced; /* else the names are older than the list, and say nothing of it */
    nx_unlock(&s->lock);
    if (s->fs->list(s->fs, s->dir, &names, &err)) {
        log_warn("The data folder could not be listed", "err", err.text);
        return;
    }
    forget_missing(s, &names, replaced);
    /* What was being published when the folder was listed must be in the list by now; else another time. */
    if (compact_busy(s) || !open_ulids(s, &known))
        fs_names_done(&names);
    for (size_t i = 0; i < names.n; i++) {
        if (compact_busy(s))
            continue;
        if (ends_with(names.v[i], BLOCK_DELETING_SUFFIX)) /* that failed, or the name is old */
            remove_leftover(s, names.v[i]);
        else if (block_ulid_valid(names.v[i]) && !in_names(&known, names.v[i]))
            (void)!open_found(s, names.v[i], false, &err);
    }
    fs_names_done(&names);
    fs_names_done(&known);
}

/* ---- B3 -------------------------------------------------------------------------------------- */

struct keep retention_keep_locked(const struct storage *s)
{
    struct keep k = {s->rules, s->retention.time_ms, INT64_MIN};

    for (size_t i = 0; i < s->n_blocks; i++) {
        int64_t max = block_meta(s->blocks[i])->max_ms;
        k.newest_ms = max > k.newest_ms ? max : k.newest_ms;
    }
    return k;
}

/* L3 of coarse_plan.c */
static bool waits_for_points_locked(const struct storage *s, const struct keep *k,
                                    const struct block_meta *m)
{
    if (!keep_n_levels(s->rules) || !coarse_is_wanted(s->blocks, s->n_blocks, k, m, false))
        return false;
    for (size_t i = 0; i < s->n_plain; i++)
        if (strcmp(s->plain[i], m->ulid) == 0)
            return false;
    return true;
}

/* Takes the block to delete off the list, or NULL. */
static struct block *take_over_time(struct storage *s)
{
    struct block *found = NULL;
    struct keep all;

    nx_lock(&s->lock);
    all = retention_keep_locked(s);
    for (size_t i = 0; i < s->n_blocks; i++) {
        const struct block_meta *m = block_meta(s->blocks[i]);
        const struct keep k = keep_of_resolution(&all, m->resolution_ms);
        if (k.newest_ms - m->max_ms < keep_longest(&k) || waits_for_points_locked(s, &all, m))
            continue;
        found = take_locked(s, i);
        s->time_deletions++;
        break;
    }
    nx_unlock(&s->lock);
    return found;
}

/* The disk may be enlarged while we run, so it is asked again and again. */
void retention_measure(struct storage *s)
{
    struct nx_err err;
    uint64_t bytes = 0, before;
    bool asked;

    nx_lock(&s->lock);
    asked = s->retention.percent > 0;
    before = s->disk_bytes;
    nx_unlock(&s->lock);
    if (!asked)
        return;
    if (s->fs->capacity(s->fs, s->dir, &bytes, &err)) {
        if (!s->disk_unknown)
            log_warn("The size of the disk is not known; retention by percentage rests on what was "
                     "last known, if anything",
                     "dir", s->dir, "err", err.text);
        s->disk_unknown = true;
        return;
    }
    s->disk_unknown = false;
    if (bytes == before)
        return;
    nx_lock(&s->lock);
    s->disk_bytes = bytes;
    nx_unlock(&s->lock);
}

/* Bytes that may be used; 0: there is no bound. A share of the disk is at least a byte. */
static uint64_t size_limit_locked(const struct storage *s)
{
    const struct storage_retention *r = &s->retention;
    uint64_t share;

    if (!(r->percent > 0) || r->percent >= 100 || s->disk_bytes == 0)
        return r->bytes;
    share = (uint64_t)((double)s->disk_bytes / 100 * r->percent) + 1;
    return r->bytes && r->bytes < share ? r->bytes : share;
}

static struct block *take_over_size(struct storage *s)
{
    struct block *found = NULL;
    struct wal_stats wal;
    uint64_t bytes, limit;

    wal_get_stats(s->wal, &wal);
    bytes = wal.bytes;
    nx_lock(&s->lock);
    for (size_t i = 0; i < s->n_blocks; i++)
        bytes += block_bytes(s->blocks[i]);
    limit = size_limit_locked(s);
    if (limit && bytes > limit && s->n_blocks) {
        found = take_locked(s, 0);
        s->size_deletions++;
    }
    nx_unlock(&s->lock);
    return found;
}

/* B2. For readers that have the block its files are kept open. */
void blocks_delete(struct storage *s, struct block *b, const char *msg)
{
    struct nx_err err;
    const char *ulid = block_meta(b)->ulid;
    char *from = NULL, *to = NULL;
    nx_status st = NX_OK;

    if (asprintf(&from, "%s/%s", s->dir, ulid) < 0)
        from = NULL;
    if (asprintf(&to, "%s/%s%s", s->dir, ulid, BLOCK_DELETING_SUFFIX) < 0)
        to = NULL;
    if (from && to) {
        if (block_keep_open(b, &err))
            log_warn("Queries under way may fail for a block that is being deleted", "block", ulid,
                     "err", err.text);
        st = s->fs->rename(s->fs, from, to, &err);
        if (!st) /* else a power cut could leave the old name with a part of the files */
            st = s->fs->sync_dir(s->fs, s->dir, &err);
        if (!st)
            st = fs_remove_tree(s->fs, to, &err);
        if (st)
            log_error("Deleting a block failed", "block", ulid, "err", err.text);
        else if (msg)
            log_info(msg, "block", ulid);
    }
    free(from);
    free(to);
    block_unref(b);
}

void retention_run(struct storage *s)
{
    struct block *b;
    int64_t now_ms = clock_mono_ns() / 1000000;

    if (now_ms - s->rescanned_ms >= RESCAN_MS) {
        s->rescanned_ms = now_ms;
        rescan(s);
    }
    retention_measure(s);
    while ((b = take_over_time(s)) != NULL || (b = take_over_size(s)) != NULL)
        blocks_delete(s, b, "Deleted a block past its retention");
}
