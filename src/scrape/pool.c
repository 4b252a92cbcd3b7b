/* pool.c - which targets there are: from target groups to running targets, and back to none.
 *
 * RULES   P1  A target is known again by its public labels and URL. It then keeps schedule, state and
 *             series, whatever else changed about it; a new interval only moves its ticks.
 *         P2  A target that goes is kept for two intervals and a bit, and then its series get stale
 *             markers at the time of the first tick it missed (SCR-078). If it comes back before that,
 *             nothing was lost.
 *         P3  A job that says something else than before makes its targets learn their series anew: the
 *             same labels find the same columns, so only what is really gone ends.
 *         P4  A configuration is taken over whole or not at all.
 * THREADS The loop thread. Lists are changed under s->lock, because others read them. */
#include "src/scrape/manager.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/hash.h"
#include "src/base/log.h"

/* ---- targets ----------------------------------------------------------------------------------- */

static void target_free(struct scrape *s, struct target *t)
{
    if (!t)
        return;
    schedule_remove(s, t);
    asker_drop(t);
    ingest_done(&t->in, s->env.pool);
    free((void *)(uintptr_t)t->discovered.v); /* const in the view, ours to free */
    free((void *)(uintptr_t)t->all.v);
    free((void *)(uintptr_t)t->labels.v);
    free(t->url);
    free(t->unix_socket);
    free(t->last_error);
    free(t);
}

static uint64_t identity_of(const struct labels *all, struct nx_slice url)
{
    uint64_t h = hash_bytes(url.ptr, url.len);

    for (uint32_t i = 0; i < all->n; i++) {
        const struct label *l = &all->v[i];
        if (l->name.len >= 2 && memcmp(l->name.ptr, "__", 2) == 0 &&
            !nx_slice_is(l->name, "__unix_socket__"))
            continue;
        h = hash_mix(h, hash_bytes(l->name.ptr, l->name.len));
        h = hash_mix(h, hash_bytes(l->value.ptr, l->value.len));
    }
    return h;
}

static bool replace_labels(struct labels *to, const struct labels *from, bool public_only)
{
    struct labels packed = labels_packed(from, public_only);

    if (!packed.v)
        return false;
    free((void *)(uintptr_t)to->v);
    *to = packed;
    return true;
}

static struct target *target_new(struct pool *p, const struct target_made *m)
{
    struct target *t = calloc(1, sizeof *t);
    struct nx_slice socket = labels_get_str(&m->all, "__unix_socket__");

    if (!t)
        return NULL;
    t->pool = p;
    t->hash = m->hash;
    t->identity = identity_of(&m->all, m->url);
    t->interval_ms = m->interval_ms;
    t->timeout_ms = m->timeout_ms;
    t->heap_at = SIZE_MAX;
    t->kept_fd = -1;
    t->url = strndup(m->url.ptr, m->url.len);
    t->unix_socket = socket.len ? strndup(socket.ptr, socket.len) : NULL;
    if (!t->url || (socket.len && !t->unix_socket) ||
        !replace_labels(&t->discovered, &m->discovered, false) ||
        !replace_labels(&t->all, &m->all, false) || !replace_labels(&t->labels, &m->all, true)) {
        free((void *)(uintptr_t)t->discovered.v);
        free((void *)(uintptr_t)t->all.v);
        free(t->url);
        free(t->unix_socket);
        free(t);
        return NULL;
    }
    return t;
}

/* Takes over what a sync found about a target that is there (P1). Under s->lock. */
static void target_update_locked(struct scrape *s, struct target *t, const struct target_made *m)
{
    bool times = t->interval_ms != m->interval_ms || t->hash != m->hash;

    if (!labels_eq(&t->discovered, &m->discovered))
        (void)replace_labels(&t->discovered, &m->discovered,
                             false); /* out of memory: shows the old ones */
    if (!labels_eq(&t->all, &m->all))
        (void)replace_labels(&t->all, &m->all, false);
    t->hash = m->hash;
    t->interval_ms = m->interval_ms;
    t->timeout_ms = m->timeout_ms;
    if (times || t->ending) {
        t->ending = ENDING_NOT;
        schedule_begin(s, t);
        (void)schedule_put(s, t); /* it has a place: no memory is needed */
    }
}

/* ---- what discovery says ------------------------------------------------------------------------- */

struct found {                /* by one sync */
    struct target_made *made; /* in the arena; targets to be scraped, each once */
    size_t n, cap;
    struct labels *dropped;
    size_t n_dropped, cap_dropped;
    uint64_t dropped_count, failed, discovered;
};

static int by_hash(const void *a, const void *b)
{
    const struct target_made *x = a, *y = b;

    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

static bool found_add(struct arena *a, struct found *f, const struct target_made *m,
                      uint64_t keep_dropped)
{
    if (m->all.n == 0) {
        f->dropped_count++;
        if (keep_dropped && f->n_dropped >= keep_dropped)
            return true;
        if (f->n_dropped == f->cap_dropped) {
            size_t cap = f->cap_dropped ? f->cap_dropped * 2 : 16;
            f->dropped = arena_grow(a, f->dropped, f->cap_dropped * sizeof *f->dropped,
                                    cap * sizeof *f->dropped);
            f->cap_dropped = cap;
        }
        if (f->dropped)
            f->dropped[f->n_dropped++] = m->discovered;
        return f->dropped != NULL;
    }
    if (f->n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 16;
        f->made = arena_grow(a, f->made, f->cap * sizeof *f->made, cap * sizeof *f->made);
        f->cap = cap;
    }
    if (f->made)
        f->made[f->n++] = *m;
    return f->made != NULL;
}

static nx_status find_group(struct scrape *s, struct pool *p, const struct discovery_group *g,
                            struct arena *a, struct found *f, struct nx_err *err)
{
    for (size_t i = 0; i < g->targets.n; i++) {
        struct target_made m;
        nx_status st = target_make(p->job->c, g->targets.v[i], &g->labels, &s->work, a, &m, err);
        f->discovered++;
        if (st == NX_BADINPUT) {
            f->failed++;
            log_error("Creating target failed", "scrape_pool", p->name, "err",
                      log_fmt("instance %zu in group %.*s: %.150s", i, (int)g->source.len,
                              g->source.ptr, err->text));
            continue;
        }
        if (st)
            return st;
        if (!found_add(a, f, &m, p->job->c->limits.keep_dropped_targets))
            return arena_failed(a, err);
    }
    return NX_OK;
}

/* Everything discovery knows for this pool, made into targets; equal ones once (SCR-055). */
static nx_status find_all(struct scrape *s, struct pool *p, struct arena *a, struct found *f,
                          struct nx_err *err)
{
    struct discovery_groups groups;
    nx_status st = NX_OK;
    size_t n = 0;

    memset(f, 0, sizeof *f);
    if (p->gone)
        return NX_OK;
    st = discovery_groups(s->discovery, nx_slice_str(p->name), a, &groups, err);
    for (size_t i = 0; i < groups.n && !st; i++)
        st = find_group(s, p, &groups.v[i], a, f, err);
    if (st || f->n == 0)
        return st;
    qsort(f->made, f->n, sizeof *f->made, by_hash);
    for (size_t i = 0; i < f->n; i++)
        if (n == 0 || f->made[n - 1].hash != f->made[i].hash)
            f->made[n++] = f->made[i];
    f->n = n;
    return NX_OK;
}

/* ---- sync ---------------------------------------------------------------------------------------- */

static int by_identity(const void *a, const void *b)
{
    const struct target *x = *(struct target *const *)a, *y = *(struct target *const *)b;

    return x->identity < y->identity ? -1 : x->identity > y->identity;
}

/* A target of this identity that is not taken yet; one of the very hash is preferred. */
static struct target *find_old(struct target **old, size_t n, const struct target_made *m)
{
    uint64_t identity = identity_of(&m->all, m->url);
    size_t lo = 0, hi = n;
    struct target *best = NULL;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (old[mid]->identity < identity)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < n && old[lo]->identity == identity; lo++)
        if (!old[lo]->seen && (!best || old[lo]->hash == m->hash))
            best = old[lo];
    return best;
}

struct sync { /* the new lists of a pool, before they are its own */
    struct target **old;
    size_t n_old;
    struct target **active, **ending;
    size_t n_active, n_ending;
    struct labels *dropped;
    size_t n_dropped;
};

static void free_labels(struct labels *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)v[i].v);
    free(v);
}

static nx_status sync_prepare(struct pool *p, const struct found *f, struct sync *y,
                              struct nx_err *err)
{
    y->n_old = p->n_targets + p->n_ending;
    y->old = malloc((y->n_old + 1) * sizeof(struct target *));
    y->active = malloc((f->n + 1) * sizeof(struct target *));
    y->ending = malloc((y->n_old + 1) * sizeof(struct target *));
    y->dropped = calloc(f->n_dropped + 1, sizeof *y->dropped);
    if (!y->old || !y->active || !y->ending || !y->dropped)
        return nx_fail(err, NX_NOMEM, "out of memory");
    for (size_t i = 0; i < p->n_targets; i++)
        y->old[i] = p->targets[i];
    for (size_t i = 0; i < p->n_ending; i++)
        y->old[p->n_targets + i] = p->ending[i];
    for (size_t i = 0; i < y->n_old; i++)
        y->old[i]->seen = false;
    qsort(y->old, y->n_old, sizeof(struct target *), by_identity);
    for (size_t i = 0; i < f->n_dropped; i++) {
        y->dropped[i] = labels_packed(&f->dropped[i], false);
        if (!y->dropped[i].v)
            return nx_fail(err, NX_NOMEM, "out of memory");
        y->n_dropped++;
    }
    return NX_OK;
}

static void sync_done(struct sync *y)
{
    free(y->old);
    free(y->active);
    free(y->ending);
    free_labels(y->dropped, y->n_dropped);
}

/* Starts what is new, keeps what is known, lets go what is not found any more. Under s->lock. */
static void sync_targets_locked(struct scrape *s, struct pool *p, const struct found *f,
                                struct sync *y)
{
    for (size_t i = 0; i < f->n; i++) {
        struct target *t = find_old(y->old, y->n_old, &f->made[i]);
        if (t) {
            target_update_locked(s, t, &f->made[i]);
        } else {
            t = target_new(p, &f->made[i]);
            if (!t) {
                log_error("Creating target failed", "scrape_pool", p->name, "err", "out of memory");
                continue;
            }
            schedule_begin(s, t);
            (void)schedule_put(s, t); /* out of memory: tried again with the next sync below */
        }
        if (t->heap_at == SIZE_MAX && t->state == TARGET_WAITING)
            p->dirty = true;
        t->seen = true;
        y->active[y->n_active++] = t;
    }
    for (size_t i = 0; i < y->n_old; i++) {
        struct target *t = y->old[i];
        if (t->seen)
            continue;
        if (t->state == TARGET_WAITING && t->last_begun_mono_ns == 0) {
            target_free(s, t); /* never scraped: nothing to end */
            continue;
        }
        if (!t->ending)
            t->ending = ENDING_TICK; /* P2 */
        y->ending[y->n_ending++] = t;
    }
}

static void check_target_limit(struct scrape *s, struct pool *p)
{
    uint64_t limit = p->job->c->limits.targets;

    free(p->limit_error);
    p->limit_error = NULL;
    if (limit == 0 || p->n_targets <= limit)
        return;
    if (asprintf(&p->limit_error, "target_limit exceeded (number of targets: %zu, limit: %llu)",
                 p->n_targets, (unsigned long long)limit) < 0)
        p->limit_error = NULL;
    nx_lock(&s->status);
    s->count.target_limit++;
    nx_unlock(&s->status);
}

#define SWAP(a, b)                                                                                 \
    do {                                                                                           \
        __typeof__(a) swap_ = (a);                                                                 \
        (a) = (b);                                                                                 \
        (b) = swap_;                                                                               \
    } while (0)

static void pool_sync(struct scrape *s, struct pool *p)
{
    int64_t begun = clock_mono_ns();
    struct arena *a = arena_new(0);
    struct sync y = {0};
    struct found f = {0};
    struct nx_err err = {0};
    nx_status st = a ? find_all(s, p, a, &f, &err) : nx_fail(&err, NX_NOMEM, "out of memory");

    p->dirty = false;
    if (!st)
        st = sync_prepare(p, &f, &y, &err);
    if (st) {
        log_error("Syncing targets failed", "scrape_pool", p->name, "err", err.text);
        p->dirty = true; /* again at the next occasion */
    } else {
        nx_lock(&s->lock);
        sync_targets_locked(s, p, &f, &y);
        SWAP(p->targets, y.active);
        SWAP(p->ending, y.ending);
        SWAP(p->dropped, y.dropped);
        SWAP(p->n_dropped, y.n_dropped);
        p->n_targets = y.n_active;
        p->n_ending = y.n_ending;
        p->dropped_count = f.dropped_count;
        nx_unlock(&s->lock);
        check_target_limit(s, p);
    }
    nx_lock(&s->status);
    p->syncs++;
    p->sync_failed += f.failed;
    p->discovered = f.discovered;
    p->sync_seconds += (double)(clock_mono_ns() - begun) / 1e9;
    nx_unlock(&s->status);
    sync_done(&y);
    arena_free(a);
}

/* ---- pools --------------------------------------------------------------------------------------- */

static void pool_free(struct scrape *s, struct pool *p)
{
    for (size_t i = 0; i < p->n_targets; i++)
        target_free(s, p->targets[i]);
    for (size_t i = 0; i < p->n_ending; i++)
        target_free(s, p->ending[i]);
    free(p->targets);
    free(p->ending);
    free_labels(p->dropped, p->n_dropped);
    free(p->limit_error);
    free(p->name);
    job_unref(p->job);
    free(p);
}

static struct pool *find_pool(const struct scrape *s, struct nx_slice name)
{
    for (size_t i = 0; i < s->n_pools; i++)
        if (nx_slice_is(name, s->pools[i]->name))
            return s->pools[i];
    return NULL;
}

/* Frees pools that are gone and have nothing left to end. */
static void drop_empty_pools(struct scrape *s)
{
    size_t n = 0;

    nx_lock(&s->lock);
    for (size_t i = 0; i < s->n_pools; i++) {
        if (s->pools[i]->gone && s->pools[i]->n_targets + s->pools[i]->n_ending == 0)
            pool_free(s, s->pools[i]);
        else
            s->pools[n++] = s->pools[i];
    }
    s->n_pools = n;
    nx_unlock(&s->lock);
    curl_multi_setopt(s->multi, CURLMOPT_MAXCONNECTS, (long)(s->n_heap + 16));
}

/* The job is the pool's from now on. Takes the reference. */
static void give_job(struct pool *p, struct job *j)
{
    bool changed = p->fingerprint != j->c->fingerprint;

    job_unref(p->job);
    p->job = j;
    p->fingerprint = j->c->fingerprint;
    p->gone = false;
    p->dirty = true;
    p->target_limit = j->c->limits.targets;
    for (size_t i = 0; changed && i < p->n_targets; i++) /* P3 */
        p->targets[i]->relearn = true;
    for (size_t i = 0; changed && i < p->n_ending; i++)
        p->ending[i]->relearn = true;
}

static nx_status make_jobs(struct scrape *s, const struct config *cfg, struct job **jobs,
                           struct nx_err *err)
{
    for (size_t i = 0; i < cfg->scrape_configs.n; i++) {
        const struct config_scrape *c = &cfg->scrape_configs.v[i];
        if (job_new(&jobs[i], cfg, c, s->opts.extra_metrics, err))
            return nx_context(err, "scrape pool %.*s", (int)c->job_name.len, c->job_name.ptr);
    }
    return NX_OK;
}

/* Pools for all jobs: those that are there, and new ones at the end of the list. */
static nx_status make_pools(struct scrape *s, const struct config *cfg, struct pool **fresh,
                            size_t *n_fresh, struct nx_err *err)
{
    for (size_t i = 0; i < cfg->scrape_configs.n; i++) {
        struct nx_slice name = cfg->scrape_configs.v[i].job_name;
        if (find_pool(s, name))
            continue;
        fresh[*n_fresh] = calloc(1, sizeof(struct pool));
        if (fresh[*n_fresh])
            fresh[*n_fresh]->name = strndup(name.ptr, name.len);
        if (!fresh[*n_fresh] || !fresh[*n_fresh]->name) {
            free(fresh[*n_fresh]);
            return nx_fail(err, NX_NOMEM, "out of memory");
        }
        ++*n_fresh;
    }
    return NX_OK;
}

static nx_status apply_discovery(struct scrape *s, const struct config *cfg, struct nx_err *err)
{
    size_t n = cfg->scrape_configs.n;
    struct discovery_set *sets = calloc(n + 1, sizeof *sets);
    nx_status st;

    if (!sets)
        return nx_fail(err, NX_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        sets[i] = (struct discovery_set){cfg->scrape_configs.v[i].job_name,
                                         &cfg->scrape_configs.v[i].sds};
    st = discovery_apply(s->discovery, sets, n, err);
    free(sets);
    return st;
}

static void sync_dirty(struct scrape *s)
{
    for (size_t i = 0; i < s->n_pools; i++)
        if (s->pools[i]->dirty)
            pool_sync(s, s->pools[i]);
    drop_empty_pools(s);
    s->next_sync_mono_ms = clock_mono_ns() / 1000000 + s->opts.discovery_reload_ms;
}

nx_status pools_apply(struct scrape *s, const struct config *cfg, struct nx_err *err)
{
    size_t n = cfg->scrape_configs.n, n_fresh = 0;
    struct job **jobs = calloc(n + 1, sizeof(struct job *));
    struct pool **fresh = calloc(n + 1, sizeof(struct pool *));
    struct pool **pools = calloc(s->n_pools + n + 1, sizeof(struct pool *));
    nx_status st = jobs && fresh && pools ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");

    if (!st)
        st = make_jobs(s, cfg, jobs, err);
    if (!st)
        st = make_pools(s, cfg, fresh, &n_fresh, err);
    if (!st)
        st = apply_discovery(s, cfg, err);
    if (st)
        goto done; /* P4 */
    nx_lock(&s->lock);
    for (size_t i = 0; i < s->n_pools; i++)
        pools[i] = s->pools[i];
    for (size_t i = 0; i < n_fresh; i++)
        pools[s->n_pools + i] = fresh[i];
    SWAP(s->pools, pools);
    s->n_pools += n_fresh;
    n_fresh = 0;
    for (size_t i = 0; i < s->n_pools; i++)
        s->pools[i]->gone = s->pools[i]->dirty = true;
    for (size_t i = 0; i < n; i++) {
        give_job(find_pool(s, cfg->scrape_configs.v[i].job_name), jobs[i]);
        jobs[i] = NULL;
    }
    nx_unlock(&s->lock);
    s->seed = target_seed(&cfg->global.external_labels);
    sync_dirty(s);

done:
    for (size_t i = 0; jobs && i < n; i++)
        job_unref(jobs[i]);
    for (size_t i = 0; i < n_fresh; i++) {
        free(fresh[i]->name);
        free(fresh[i]);
    }
    free(jobs);
    free(fresh);
    free(pools);
    return st;
}

static void on_changed(void *ctx, struct nx_slice name)
{
    struct pool *p = find_pool(ctx, name);

    if (p)
        p->dirty = true;
}

static void keep_discovery_stats(struct scrape *s)
{
    struct arena *a = arena_new(0);
    struct discovery_stats stats;

    if (a && !discovery_get_stats(s->discovery, a, &stats, NULL)) {
        nx_lock(&s->status);
        s->count.sd_file_read_errors = stats.file_read_errors;
        nx_unlock(&s->status);
    }
    arena_free(a);
}

void pools_poll_discovery(struct scrape *s)
{
    int64_t now_ms = clock_mono_ns() / 1000000;
    bool dirty = false;

    discovery_poll(s->discovery, now_ms, on_changed, s);
    keep_discovery_stats(s);
    for (size_t i = 0; i < s->n_pools; i++)
        dirty |= s->pools[i]->dirty;
    if (dirty && now_ms >= s->next_sync_mono_ms)
        sync_dirty(s);
}

void pools_end_target(struct scrape *s, struct target *t)
{
    struct pool *p = t->pool;

    nx_lock(&s->lock);
    for (size_t i = 0; i < p->n_ending; i++)
        if (p->ending[i] == t)
            p->ending[i] = p->ending[--p->n_ending];
    nx_unlock(&s->lock);
    target_free(s, t);
    if (p->gone)
        drop_empty_pools(s);
}

void pools_free(struct scrape *s)
{
    for (size_t i = 0; i < s->n_pools; i++)
        pool_free(s, s->pools[i]);
    free(s->pools);
    s->pools = NULL;
    s->n_pools = 0;
}
