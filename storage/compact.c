/* compact.c - merges blocks of a store, one set after another, while it is in use.
 *
 * SHAPE   Look at the list, plan, merge, read the new block back, change the list over, delete what was
 *         merged. A thread of its own at low priority does that when a block was flushed and every half
 *         minute; a store without threads does it in its tick.
 * RULES   C1  Sources are deleted when the new block is published, was read back whole, the folder was
 *             synced and the new block is in the list. A crash in between leaves both; readers bear
 *             that. What is found in the list beside a block that was made of it goes soon after the
 *             start, when that block was read whole.
 *         C2  Readers change over in one step: under the store's lock the sources leave the list and the
 *             new block enters it. Who has the sources open reads on. If one of the sources has
 *             left the list meanwhile (retention), the new block is deleted instead.
 *         C3  What can't be read is left as it is: a damaged source is not touched again before the next
 *             start, one that gives errors not for a while. What is around it goes on being merged.
 *         C4  What can't be written (no space, no memory, a failing disk) is tried again, after pauses
 *             from one minute up to an hour.
 *         C5  Sources are read through a cache of the merge's own: what queries use stays in theirs.
 *         C6  Deleting is done from one place at a time: who takes a block off the list deletes it.
 *         C7  When there is nothing to merge, one block after the other is written again without the series
 *             that rules of retention keep no longer; merging leaves them out as well. It goes as a merge of
 *             one does.
 *         C8  A merge has a turn (turns.c) and ends without a result when somebody waits for it.
 *         C9  What is deleted is left out of the new block. When there is nothing to merge, a block with
 *             many tombstones is written anew by itself; if nothing is left of it, it just goes.
 * THREADS All here, but for compact_rewrite(), runs on the compactor's thread (or in the tick). `busy` and
 *         the list of blocks are under storage.lock, which is not held across I/O. */
#include "storage/compact.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "storage/storage_impl.h"

#define LOOK_EVERY_MS     30000
#define PAUSE_MS          60000 /* C4: after the first failure; doubled by each */
#define PAUSE_MAX_MS      3600000
#define NICE              10
#define IDLE_IO           (3 << 13) /* ioprio_set(2): class "idle" */
#define CACHE_SOURCE      (384u << 10)
#define CACHE_LEAST       (4u << 20)
#define CACHE_VERIFY      (4u << 20)
#define FOREVER           INT64_MAX
#define LOG_NUMBER(value) log_fmt("%lld", (long long)(value))

struct avoided {
    char ulid[BLOCK_ULID_LEN + 1];
    int64_t until_ms; /* by the steady clock */
};

struct compactor {
    struct storage *s;
    struct nx_thread thread;
    bool own_thread;
    atomic_bool stop;

    struct nx_mutex lock; /* NX_RANK_BLOCKS */
    struct nx_cond wake;
    bool more; /* under lock */

    /* the thread's own */
    int64_t not_before_ms, pause_ms; /* C4; by the steady clock */
    struct avoided *avoided;         /* C3 */
    size_t n_avoided;
    struct keep_checks *checks;

    bool busy; /* under storage.lock: a block is being published, or some are being deleted */
};

/* The blocks of one look at the list, with references. */
struct look {
    struct block **v;
    struct compact_block *plan;
    size_t n;   /* blocks of samples, by min_ms; they come first */
    size_t all; /* those of points after them */
    int64_t max_block_ms;
    struct keep keep; /* with a reference on the rules */
    uint64_t rules_version;
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "merging blocks");
}

static int64_t steady_ms(void)
{
    return clock_mono_ns() / 1000000;
}

/* ---- who was made of whom -------------------------------------------------------------------- */

bool compact_made_of(const struct block_meta *m, const char *ulid)
{
    if (m->level < 2 || strcmp(m->ulid, ulid) == 0)
        return false;
    for (size_t i = 0; i < m->n_parents; i++) {
        if (strcmp(m->parents[i].ulid, ulid) == 0)
            return true;
    }
    for (size_t i = 0; i < m->n_sources; i++) {
        if (strcmp(m->sources[i], ulid) == 0)
            return true;
    }
    return false;
}

bool compact_busy(struct storage *s)
{
    bool busy;

    nx_lock(&s->lock);
    busy = s->compactor && s->compactor->busy;
    nx_unlock(&s->lock);
    return busy;
}

static void set_busy(struct compactor *c, bool busy)
{
    nx_lock(&c->s->lock);
    c->busy = busy;
    nx_unlock(&c->s->lock);
}

/* ---- looking ---------------------------------------------------------------------------------- */

static bool is_avoided(const struct compactor *c, const char *ulid, int64_t now_ms)
{
    for (size_t i = 0; i < c->n_avoided; i++) {
        if (strcmp(c->avoided[i].ulid, ulid) == 0)
            return c->avoided[i].until_ms > now_ms;
    }
    return false;
}

/* Without memory to note it, all merging waits (C4). */
static bool avoid(struct compactor *c, const char *ulid, int64_t until_ms)
{
    struct avoided *more;

    for (size_t i = 0; i < c->n_avoided; i++) {
        if (strcmp(c->avoided[i].ulid, ulid) == 0) {
            c->avoided[i].until_ms = until_ms;
            return true;
        }
    }
    more = realloc(c->avoided, (c->n_avoided + 1) * sizeof *more);
    if (!more)
        return false;
    c->avoided = more;
    memcpy(more[c->n_avoided].ulid, ulid, sizeof more->ulid);
    more[c->n_avoided++].until_ms = until_ms;
    return true;
}

static void look_done(struct look *l)
{
    for (size_t i = 0; i < l->all; i++)
        block_unref(l->v[i]);
    free(l->v);
    free(l->plan);
    keep_rules_unref((struct keep_rules *)(uintptr_t)l->keep.rules); /* ours: look() */
    *l = (struct look){0};
}

static nx_status look(struct compactor *c, struct look *l, struct nx_err *err)
{
    struct storage *s = c->s;
    const int64_t now_ms = steady_ms();
    nx_status st = NX_OK;

    nx_lock(&s->lock);
    l->max_block_ms = s->max_block_ms;
    l->keep = retention_keep_locked(s);
    l->keep.rules = keep_rules_ref(s->rules);
    l->rules_version = s->rules_version;
    l->v = calloc(s->n_blocks + 1, sizeof(struct block *));
    l->plan = calloc(s->n_blocks + 1, sizeof *l->plan);
    if (!l->v || !l->plan)
        st = no_memory(err);
    for (size_t i = 0; i < 2 * s->n_blocks && !st; i++) {
        struct block *b = s->blocks[i % s->n_blocks];
        const struct block_meta *m = block_meta(b);
        if ((m->resolution_ms > 0) != (i >= s->n_blocks))
            continue;
        l->plan[l->all] =
            (struct compact_block){m->min_ms, m->max_ms, is_avoided(c, m->ulid, now_ms)};
        l->v[l->all++] = block_ref(b);
        l->n += m->resolution_ms == 0;
    }
    nx_unlock(&s->lock);
    return st;
}

/* ---- merging ---------------------------------------------------------------------------------- */

struct job {
    struct block *listed[COMPACT_MAX_SOURCES]; /* borrowed of the look */
    struct block *source[COMPACT_MAX_SOURCES]; /* the same, opened for the merge (C5) */
    size_t n;
    char ulid[BLOCK_ULID_LEN + 1];
    struct keep keep;                         /* what is left out while it is written, */
    bool leave_out;                           /* if anything */
    int64_t resolution_ms;                    /* of the new block */
    bool by_rule;                             /* it is written for what is left out */
    bool beside;                              /* it does not replace its source, but `stale` */
    struct block *stale[COMPACT_MAX_SOURCES]; /* borrowed of the look */
    size_t n_stale;
    int64_t max_ms; /* end of the new block */
    size_t bad;     /* the source that failed, or COMPACT_NONE */
    struct compact_result res;
};

static nx_status open_sources(struct compactor *c, struct job *j, struct cache *cache,
                              struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < j->n && !st; i++) {
        st = block_open(&j->source[i], c->s->fs, cache, block_dir(j->listed[i]), err);
        if (st && st != NX_NOMEM)
            j->bad = i;
    }
    return st;
}

static int64_t job_from_ms(void *ctx, const struct labels *ls)
{
    const struct job *j = ctx;

    return keep_from(&j->keep, ls, j->max_ms);
}

static nx_status write_merged(struct compactor *c, struct job *j, struct nx_err *err)
{
    const size_t want = j->n * CACHE_SOURCE;
    struct cache *cache = cache_new(want > CACHE_LEAST ? want : CACHE_LEAST);
    nx_status st = cache ? open_sources(c, j, cache, err) : no_memory(err);

    if (!st) {
        struct compact_merge m = {.fs = c->s->fs,
                                  .dir = c->s->dir,
                                  .ulid = j->ulid,
                                  .source = j->source,
                                  .n = j->n,
                                  .stop = &c->s->give_way,
                                  .from_ms = j->leave_out ? job_from_ms : NULL,
                                  .ctx = j};
        if (j->resolution_ms)
            st = compact_downsample(&m, j->resolution_ms, &j->res, err);
        else
            st = compact_merge(&m, &j->res, err);
        j->bad = j->res.bad;
    }
    for (size_t i = 0; i < j->n; i++)
        block_unref(j->source[i]);
    cache_free(cache);
    return st;
}

static char *dir_of(const struct storage *s, const char *ulid)
{
    char *dir;

    return asprintf(&dir, "%s/%s", s->dir, ulid) < 0 ? NULL : dir;
}

/* C1: every byte of the new block is read and checked before anything is deleted for it. */
static nx_status verify(struct compactor *c, const char *dir, struct nx_err *err)
{
    struct cache *cache = cache_new(CACHE_VERIFY);
    struct block *b = NULL;
    nx_status st = cache ? block_open(&b, c->s->fs, cache, dir, err) : no_memory(err);

    if (!st)
        st = block_verify(b, err);
    block_unref(b);
    cache_free(cache);
    return st;
}

/* A new block that is not wanted. If it can't be deleted it is found by the next look at the folder (B4 of
 * retention.c), and what then overlaps is dealt with as after a crash. The same goes for sources. */
static void discard(struct compactor *c, const char *ulid)
{
    struct storage *s = c->s;
    char *from = dir_of(s, ulid), *to = NULL;
    nx_status st = NX_OK;

    if (from && asprintf(&to, "%s" BLOCK_DELETING_SUFFIX, from) < 0)
        to = NULL;
    if (to)
        st = s->fs->rename(s->fs, from, to, NULL);
    if (to && !st)
        st = fs_remove_tree(s->fs, to, NULL);
    free(from);
    free(to);
}

/* C2. *gone: a source is not in the list any more, and nothing was changed. */
static nx_status change_over(struct compactor *c, struct job *j, bool *gone, struct nx_err *err)
{
    struct storage *s = c->s;
    char *dir = dir_of(s, j->ulid);
    struct block *b = NULL;
    nx_status st = dir ? verify(c, dir, err) : no_memory(err);

    if (!st)
        st = s->fs->sync_dir(s->fs, s->dir, err);
    if (!st)
        st = blocks_room(s, err);
    if (!st)
        st = block_open(&b, s->fs, s->cache, dir, err);
    free(dir);
    if (j->beside)
        *gone = !st && !blocks_replace(s, j->stale, j->n_stale, b);
    else
        *gone = !st && !blocks_replace(s, j->listed, j->n, b);
    if (*gone)
        block_unref(b);
    return st;
}

static bool is_plain(const struct storage *s, const char *ulid)
{
    for (size_t i = 0; i < s->n_plain; i++)
        if (strcmp(s->plain[i], ulid) == 0)
            return true;
    return false;
}

/* No points can be made of it: nobody is to wait for them. Without memory to note it, it is tried again. */
static void stays_plain(struct compactor *c, const char *ulid)
{
    struct storage *s = c->s;
    char(*more)[BLOCK_ULID_LEN + 1];

    nx_lock(&s->lock);
    more = is_plain(s, ulid) ? NULL : realloc(s->plain, (s->n_plain + 1) * sizeof *more);
    if (more) {
        s->plain = more;
        memcpy(more[s->n_plain++], ulid, sizeof *more);
    }
    nx_unlock(&s->lock);
}

static nx_status merge(struct compactor *c, struct job *j, bool *gone, struct nx_err *err)
{
    nx_status st;

    for (size_t i = 0; i < j->n; i++) {
        const struct block_meta *m = block_meta(j->listed[i]);
        j->max_ms = i == 0 || m->max_ms > j->max_ms ? m->max_ms : j->max_ms;
    }
    *gone = false;
    block_ulid(j->ulid, clock_now_ms());
    set_busy(c, true);
    st = write_merged(c, j, err);
    if (j->beside && ((st == NX_NOTFOUND && j->bad == COMPACT_NONE) || st == NX_CORRUPT))
        stays_plain(c, block_meta(j->listed[0])->ulid);
    if (j->beside && st == NX_NOTFOUND && j->bad == COMPACT_NONE)
        st = NX_OK; /* there is nothing to tell of it */
    else if (st == NX_NOTFOUND && j->bad == COMPACT_NONE &&
             (j->res.expired || j->res.deleted)) { /* all was left out */
        *gone = !blocks_replace(c->s, j->listed, j->n, NULL);
        st = NX_OK;
    } else {
        if (!st)
            st = change_over(c, j, gone, err);
        if (st || *gone)
            discard(c, j->ulid);
    }
    for (size_t i = 0; i < (j->beside ? j->n_stale : j->n) && !st && !*gone; i++)
        blocks_delete(c->s, block_ref(j->beside ? j->stale[i] : j->listed[i]), NULL);
    set_busy(c, false);
    return st;
}

/* ---- and what comes of it --------------------------------------------------------------------- */

static void failed(struct compactor *c, const struct job *j, nx_status st, const struct nx_err *err)
{
    const char *bad = j->bad != COMPACT_NONE ? block_meta(j->listed[j->bad])->ulid : NULL;
    const int64_t now_ms = steady_ms();

    if (bad && avoid(c, bad, st == NX_CORRUPT ? FOREVER : now_ms + PAUSE_MAX_MS)) {
        log_error("A block can't be read for merging and is left as it is", "block", bad, "err",
                  err->text);
        return;
    }
    c->pause_ms = c->pause_ms ? c->pause_ms * 2 : PAUSE_MS;
    if (c->pause_ms > PAUSE_MAX_MS)
        c->pause_ms = PAUSE_MAX_MS;
    c->not_before_ms = now_ms + c->pause_ms;
    log_error("Merging blocks failed; it will be tried again", "in_seconds",
              LOG_NUMBER(c->pause_ms / 1000), "err", err->text);
}

static void succeeded(struct compactor *c, const struct job *j, int64_t start_ms)
{
    c->pause_ms = 0;
    log_info(j->beside  ? "Made a block of a coarser resolution"
             : j->n > 1 ? "Merged blocks"
                        : "Wrote a block again without what need not be kept",
             "count", LOG_NUMBER(j->n), "ulid", j->ulid, "mint",
             LOG_NUMBER(block_meta(j->listed[0])->min_ms), "samples", LOG_NUMBER(j->res.samples),
             "duplicates", LOG_NUMBER(j->res.dropped), "expired", LOG_NUMBER(j->res.expired),
             "deleted", LOG_NUMBER(j->res.deleted), "duration_ms",
             LOG_NUMBER(steady_ms() - start_ms));
}

/* True if the list changed, or may be looked at again at once. */
static bool run_job(struct compactor *c, struct job *j)
{
    struct storage *s = c->s;
    struct nx_err err = {0};
    const int64_t start_ms = steady_ms();
    bool gone;
    nx_status st = merge(c, j, &gone, &err);

    if (st == NX_CANCELED)
        return false;
    if (gone)
        return true;
    nx_lock(&s->lock);
    s->compactions += st == NX_OK;
    s->compactions_failed += st != NX_OK;
    s->rewrites += st == NX_OK && j->n == 1 && !j->beside;
    s->downsampled += st == NX_OK && j->beside;
    s->samples_expired += st == NX_OK ? j->res.expired : 0;
    nx_unlock(&s->lock);
    if (st)
        failed(c, j, st, &err);
    else
        succeeded(c, j, start_ms);
    return true;
}

nx_status compact_rewrite(struct compactor *c, struct block *b, struct nx_err *err)
{
    struct job j = {
        .bad = COMPACT_NONE, .listed = {b}, .n = 1, .resolution_ms = block_meta(b)->resolution_ms};
    const int64_t start_ms = steady_ms();
    bool gone;
    nx_status st = merge(c, &j, &gone, err);

    if (!st && !gone)
        succeeded(c, &j, start_ms);
    return st;
}

/* C9: a block that is not the newest, of which one in twenty series has deleted samples, or a few series many
 * spans of them. */
static size_t worth_cleaning(const struct look *l, size_t pick[COMPACT_MAX_SOURCES])
{
    for (size_t i = 0; i < l->all; i++) {
        uint64_t series, spans;
        if (i + 1 == l->n)
            continue;
        block_count_tombs(l->v[i], &series, &spans);
        if (!l->plan[i].avoid && spans * 20 > block_meta(l->v[i])->n_series + 1) {
            pick[0] = i;
            return 1;
        }
    }
    return 0;
}

/* Merging is done: one block that holds what need not be kept any more. */
static bool plan_keep(struct compactor *c, const struct look *l, struct job *j)
{
    struct nx_err err = {0};
    size_t which;
    nx_status st = keep_find(c->checks, c->s->fs, l->v, l->plan, l->all, &l->keep, l->rules_version,
                             &c->s->give_way, &which, &err);

    if (which != COMPACT_NONE)
        j->listed[0] = l->v[which];
    if (st && st != NX_CANCELED) {
        j->bad = which != COMPACT_NONE && st != NX_NOMEM ? 0 : COMPACT_NONE;
        failed(c, j, st, &err);
    }
    j->n = !st && which != COMPACT_NONE;
    j->by_rule = j->n > 0;
    return j->n > 0;
}

/* Merging is done: one block that is to be kept at a coarser resolution. */
static bool plan_coarse(struct compactor *c, const struct look *l, struct job *j)
{
    const struct keep_rules *rules = l->keep.rules;
    struct storage *s = c->s;

    for (size_t i = 0; i < l->all && keep_n_levels(rules); i++) {
        const struct block_meta *m = block_meta(l->v[i]);
        bool plain;
        if (l->plan[i].avoid || !coarse_is_wanted(l->v, l->all, &l->keep, m, true))
            continue;
        nx_lock(&s->lock);
        plain = is_plain(s, m->ulid);
        nx_unlock(&s->lock);
        if (plain)
            continue;
        j->listed[0] = l->v[i];
        j->n = 1;
        j->beside = true;
        j->resolution_ms = keep_level(rules, coarse_level_of(&l->keep, m))->resolution_ms;
        for (size_t k = l->n; k < l->all && j->n_stale < COMPACT_MAX_SOURCES; k++)
            if (block_meta(l->v[k])->resolution_ms == j->resolution_ms &&
                coarse_is_part(block_meta(l->v[k]), m))
                j->stale[j->n_stale++] = l->v[k];
        return true;
    }
    return false;
}

/* What is left out: by the rules, in all resolutions. What only the retention of all ends goes in whole
 * blocks, and not before points were made of it. */
static void prepare(const struct look *l, struct job *j)
{
    if (!j->beside)
        j->resolution_ms = block_meta(j->listed[0])->resolution_ms;
    j->keep = keep_of_resolution(&l->keep, j->resolution_ms);
    j->leave_out = keep_n_rules(l->keep.rules) > 0;
    if (keep_n_levels(l->keep.rules) && !j->by_rule &&
        (j->n > 1 || coarse_is_wanted(l->v, l->all, &l->keep, block_meta(j->listed[0]), false)))
        j->keep.retention_ms = 0;
}

/* Merges one set, or writes one block again. False when there is nothing to do now. */
static bool merge_one(struct compactor *c)
{
    struct compact_plan_opts o = {.block_ms = c->s->block_ms,
                                  .overlapping = !c->s->keep_overlapping};
    size_t pick[COMPACT_MAX_SOURCES];
    struct job j = {.bad = COMPACT_NONE};
    struct look l = {0};
    struct nx_err err;
    bool more = false;

    if (atomic_load(&c->stop) || steady_ms() < c->not_before_ms)
        return false;
    if (look(c, &l, &err)) {
        failed(c, &j, NX_NOMEM, &err);
    } else {
        o.max_block_ms = l.max_block_ms;
        j.n = compact_plan(&o, l.plan, l.n, pick);
        if (j.n == 0)
            j.n = worth_cleaning(&l, pick);
        for (size_t i = 0; i < j.n; i++)
            j.listed[i] = l.v[pick[i]];
        more = j.n > 0 || plan_coarse(c, &l, &j) || plan_keep(c, &l, &j);
        if (more) {
            prepare(&l, &j);
            more = run_job(c, &j);
        }
    }
    look_done(&l);
    return more;
}

/* ---- after a crash ---------------------------------------------------------------------------- */

/* Points made again of a block that had grown. */
static bool is_older_version(const struct block_meta *now, const struct block_meta *m)
{
    return m->resolution_ms && strcmp(m->ulid, now->ulid) < 0 && coarse_is_part(m, now);
}

static bool is_rest_of(const struct block_meta *merged, const struct block_meta *m)
{
    if (m->resolution_ms !=
        merged->resolution_ms) /* points are kept beside what they were made of */
        return false;
    return m->min_ms >= merged->min_ms && m->max_ms <= merged->max_ms &&
           (compact_made_of(merged, m->ulid) || is_older_version(merged, m));
}

/* Deletes block `i` of the look, unless somebody else is about to. */
static void drop_rest(struct compactor *c, struct look *l, size_t i)
{
    if (blocks_replace(c->s, &l->v[i], 1, NULL))
        blocks_delete(c->s, block_ref(l->v[i]),
                      "Deleted a block that was found beside the one it had been merged into");
}

static void drop_rests_of(struct compactor *c, struct look *l, size_t merged)
{
    const struct block_meta *meta = block_meta(l->v[merged]);
    struct nx_err err;
    bool whole = false;

    for (size_t i = 0; i < l->all; i++) {
        if (!is_rest_of(meta, block_meta(l->v[i])))
            continue;
        if (!whole) {
            nx_status st = verify(c, block_dir(l->v[merged]), &err);
            if (!st)
                st = c->s->fs->sync_dir(c->s->fs, c->s->dir, &err);
            if (st) {
                struct job j = {.listed = {l->v[merged]}, .n = 1, .bad = 0};
                failed(c, &j, st, &err);
                return;
            }
            whole = true;
        }
        drop_rest(c, l, i);
    }
}

/* C1: blocks of the list that were merged into another of the list. */
static void drop_rests(struct compactor *c)
{
    struct look l = {0};
    struct nx_err err;
    const int64_t now_ms = steady_ms();

    set_busy(c, true);
    if (!look(c, &l, &err)) {
        for (size_t i = 0; i < l.all && now_ms >= c->not_before_ms; i++) {
            const struct block_meta *m = block_meta(l.v[i]);
            if (m->level > 1 && !is_avoided(c, m->ulid, now_ms) && !atomic_load(&c->stop))
                drop_rests_of(c, &l, i);
        }
    }
    set_busy(c, false);
    look_done(&l);
}

/* ---- life ------------------------------------------------------------------------------------- */

/* Neither is promised by the system; without them it is merely less polite. */
static void step_back(void)
{
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    (void)syscall(SYS_ioprio_set, 1, 0, IDLE_IO);
}

/* All that is to be done, as long as nobody else wants a turn (turns.c). */
static void in_turn(struct compactor *c)
{
    bool more = true;

    for (bool first = true; more && work_try(c->s, WORK_MERGE); first = false) {
        if (first)
            drop_rests(c);
        more = merge_one(c);
        work_give(c->s, WORK_MERGE);
    }
}

static void work(void *arg)
{
    struct compactor *c = arg;

    step_back();
    while (!atomic_load(&c->stop)) {
        in_turn(c);
        nx_lock(&c->lock);
        if (!c->more && !atomic_load(&c->stop))
            (void)nx_cond_wait_ms(&c->wake, &c->lock, LOOK_EVERY_MS);
        c->more = false;
        nx_unlock(&c->lock);
    }
}

static void wake(struct compactor *c)
{
    nx_lock(&c->lock);
    c->more = true;
    nx_cond_signal(&c->wake);
    nx_unlock(&c->lock);
}

void compact_look(struct compactor *c)
{
    if (c->own_thread)
        wake(c);
}

void compact_tick(struct compactor *c, bool more)
{
    if (c->own_thread) {
        if (more)
            wake(c);
        return;
    }
    in_turn(c);
}

nx_status compact_open(struct compactor **out, struct storage *s, bool own_thread,
                       struct nx_err *err)
{
    struct compactor *c = calloc(1, sizeof *c);
    nx_status st = NX_OK;

    if (!c)
        return no_memory(err);
    c->s = s;
    nx_mutex_init(&c->lock, NX_RANK_BLOCKS); /* never with storage.lock */
    nx_cond_init(&c->wake);
    c->checks = keep_checks_new();
    *out = c; /* before the thread, which needs it there */
    if (!c->checks)
        return no_memory(err);
    if (own_thread) {
        st = nx_thread_start(&c->thread, "compact", work, c, err);
        c->own_thread = !st;
    }
    return st;
}

void compact_close(struct compactor *c)
{
    if (!c)
        return;
    atomic_store(&c->stop, true);
    atomic_store(&c->s->give_way, true); /* after `stop`, which is looked at with each turn */
    if (c->own_thread) {
        wake(c);
        nx_thread_join(&c->thread);
    }
    nx_cond_done(&c->wake);
    nx_mutex_done(&c->lock);
    free(c->avoided);
    keep_checks_free(c->checks);
    free(c);
}
