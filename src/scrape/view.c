/* view.c - what others see of the manager: snapshots in the caller's arena.
 *
 * THREADS Any. s->lock holds the lists still, s->status the results; both are held for copying only. */
#include "src/scrape/manager.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/num.h"

#define RECENT_NS (10ll * 60 * 1000000000)

/* ---- targets --------------------------------------------------------------------------------------- */

static struct nx_slice duration(struct arena *a, int64_t ms)
{
    char text[NUM_TEXT_BYTES];

    return arena_slice(a, nx_slice_of(text, num_format_duration(text, ms)));
}

/* The host part of a host[:port], without the port. */
static struct nx_slice host_only(struct nx_slice s)
{
    size_t n = s.len;

    while (n > 0 && s.ptr[n - 1] >= '0' && s.ptr[n - 1] <= '9')
        n--;
    return n > 0 && n < s.len && s.ptr[n - 1] == ':' ? nx_slice_of(s.ptr, n - 1) : s;
}

static struct nx_slice after_host(struct nx_slice authority, struct nx_slice host)
{
    return nx_slice_of(authority.ptr + host.len, authority.len - host.len);
}

/* The URL with a local host replaced by one that others can reach (SCR-100). */
static struct nx_slice global_url(const char *url, struct nx_slice global_host, struct arena *a)
{
    struct nx_slice whole = nx_slice_str(url), authority, host, rest, port, name;
    const char *from = strstr(url, "://"), *to;
    char *p;

    if (!from || global_host.len == 0)
        return arena_slice(a, whole);
    from += 3;
    to = from + strcspn(from, "/?#");
    authority = nx_slice_of(from, (size_t)(to - from));
    host = host_only(authority);
    if (!nx_slice_is(host, "localhost") && !nx_slice_is(host, "127.0.0.1") &&
        !nx_slice_is(host, "[::1]"))
        return arena_slice(a, whole);
    port = after_host(authority, host);
    rest = nx_slice_of(to, whole.len - (size_t)(to - url));
    name = host_only(global_host);
    p = arena_printf(a, "%.*s%.*s%.*s%.*s", (int)(from - url), url, (int)name.len, name.ptr,
                     (int)port.len, port.ptr, (int)rest.len, rest.ptr);
    return p ? nx_slice_str(p) : nx_slice_of(NULL, 0);
}

static nx_status show_target(const struct pool *p, const struct target *t,
                             struct nx_slice global_host, struct arena *a, struct target_info *out,
                             struct nx_err *err)
{
    nx_status st = labels_copy(a, &t->discovered, &out->discovered, err);

    if (!st)
        st = labels_copy(a, &t->labels, &out->labels, err);
    if (st)
        return st;
    out->pool = arena_slice(a, nx_slice_str(p->name));
    out->scrape_url = arena_slice(a, nx_slice_str(t->url));
    out->global_url = global_url(t->url, global_host, a);
    out->last_error = arena_slice(a, nx_slice_str(t->last_error));
    out->last_scrape_ms = t->last_scrape_ms;
    out->last_duration_s = t->last_duration_s;
    out->health = t->health;
    out->scrape_interval = duration(a, t->interval_ms);
    out->scrape_timeout = duration(a, t->timeout_ms);
    if (!out->pool.ptr || !out->scrape_url.ptr || !out->global_url.ptr || !out->last_error.ptr ||
        !out->scrape_interval.ptr || !out->scrape_timeout.ptr)
        return arena_failed(a, err);
    return NX_OK;
}

static int by_pool_and_url(const void *a, const void *b)
{
    const struct target_info *x = a, *y = b;
    int c = nx_slice_cmp(x->pool, y->pool);

    if (!c)
        c = nx_slice_cmp(x->scrape_url, y->scrape_url);
    return c ? c : labels_cmp(&x->labels, &y->labels);
}

static int by_text(const void *a, const void *b)
{
    return nx_slice_cmp(*(const struct nx_slice *)a, *(const struct nx_slice *)b);
}

static int by_dropped_pool(const void *a, const void *b)
{
    return nx_slice_cmp(((const struct dropped_info *)a)->pool,
                        ((const struct dropped_info *)b)->pool);
}

static int by_count_pool(const void *a, const void *b)
{
    return nx_slice_cmp(((const struct pool_count *)a)->pool, ((const struct pool_count *)b)->pool);
}

static nx_status make_room(struct scrape *s, struct arena *a, struct targets_info *out,
                           struct nx_err *err)
{
    size_t active = 0, dropped = 0;

    for (size_t i = 0; i < s->n_pools; i++) {
        active += s->pools[i]->n_targets;
        dropped += s->pools[i]->n_dropped;
    }
    memset(out, 0, sizeof *out);
    out->active = arena_array(a, active, sizeof *out->active);
    out->dropped = arena_array(a, dropped, sizeof *out->dropped);
    out->dropped_counts = arena_array(a, s->n_pools, sizeof *out->dropped_counts);
    out->pools = arena_array(a, s->n_pools, sizeof *out->pools);
    return out->active && out->dropped && out->dropped_counts && out->pools ? NX_OK
                                                                            : arena_failed(a, err);
}

static nx_status show_pool(const struct pool *p, struct nx_slice global_host, struct arena *a,
                           struct targets_info *out, struct nx_err *err)
{
    struct nx_slice name = arena_slice(a, nx_slice_str(p->name));
    nx_status st = name.ptr ? NX_OK : arena_failed(a, err);

    for (size_t i = 0; i < p->n_targets && !st; i++)
        st = show_target(p, p->targets[i], global_host, a, &out->active[out->n_active++], err);
    for (size_t i = 0; i < p->n_dropped && !st; i++) {
        out->dropped[out->n_dropped].pool = name;
        st = labels_copy(a, &p->dropped[i], &out->dropped[out->n_dropped++].discovered, err);
    }
    if (p->gone || st)
        return st;
    out->dropped_counts[out->n_dropped_counts++] = (struct pool_count){name, p->dropped_count};
    out->pools[out->n_pools++] = name;
    return NX_OK;
}

nx_status scrape_get_targets(struct scrape *s, struct nx_slice global_host, struct arena *a,
                             struct targets_info *out, struct nx_err *err)
{
    struct targets_info info;
    nx_status st;

    nx_lock(&s->lock);
    st = make_room(s, a, &info, err);
    nx_lock(&s->status);
    for (size_t i = 0; i < s->n_pools && !st; i++)
        st = show_pool(s->pools[i], global_host, a, &info, err);
    nx_unlock(&s->status);
    nx_unlock(&s->lock);
    if (st)
        return st;
    qsort(info.active, info.n_active, sizeof *info.active, by_pool_and_url);
    qsort(info.dropped, info.n_dropped, sizeof *info.dropped, by_dropped_pool);
    qsort(info.dropped_counts, info.n_dropped_counts, sizeof *info.dropped_counts, by_count_pool);
    qsort(info.pools, info.n_pools, sizeof *info.pools, by_text);
    *out = info;
    return NX_OK;
}

/* ---- metadata -------------------------------------------------------------------------------------- */

struct metadata_list {
    const struct metadata_ask *ask;
    struct metadata_info *v;
    size_t n, cap;
    struct meta_entry *said; /* families so far: open addressing by their interned numbers */
    size_t n_said, mask;
};

static bool list_full(const struct metadata_list *list)
{
    return list->ask->most && list->n >= list->ask->most;
}

static size_t family_slot(const struct metadata_list *list, const struct meta_entry *e)
{
    size_t at = (e->name * UINT64_C(0x9e3779b97f4a7c15) + e->help * UINT64_C(0xc2b2ae3d27d4eb4f) +
                 e->unit + e->type) >>
                    20 &
                list->mask;

    while (list->said[at].name &&
           (list->said[at].name != e->name || list->said[at].help != e->help ||
            list->said[at].unit != e->unit || list->said[at].type != e->type ||
            list->said[at].openmetrics != e->openmetrics))
        at = (at + 1) & list->mask;
    return at;
}

/* *fresh: no target before said the same. */
static nx_status family_add(struct metadata_list *list, const struct meta_entry *e, struct arena *a,
                            bool *fresh, struct nx_err *err)
{
    size_t at;

    if (list->n_said * 2 >= list->mask) {
        struct metadata_list more = *list;
        more.mask = list->mask ? list->mask * 2 + 1 : 63;
        more.said = arena_array(a, more.mask + 1, sizeof *more.said);
        if (!more.said)
            return arena_failed(a, err);
        for (size_t i = 0; list->said && i <= list->mask; i++)
            if (list->said[i].name)
                more.said[family_slot(&more, &list->said[i])] = list->said[i];
        list->said = more.said;
        list->mask = more.mask;
    }
    at = family_slot(list, e);
    *fresh = !list->said[at].name;
    list->n_said += *fresh;
    /* Not last_iter: the target's worker writes that without the lock. */
    list->said[at] = (struct meta_entry){.name = e->name,
                                         .help = e->help,
                                         .unit = e->unit,
                                         .type = e->type,
                                         .openmetrics = e->openmetrics};
    return NX_OK;
}

static nx_status show_entry(struct scrape *s, const struct meta_entry *e,
                            const struct labels *target, struct arena *a,
                            struct metadata_list *list, struct nx_err *err)
{
    const struct intern *pool = s->env.pool;
    struct metadata_info *m;

    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        list->v = arena_grow(a, list->v, list->cap * sizeof *list->v, cap * sizeof *list->v);
        list->cap = cap;
        if (!list->v)
            return arena_failed(a, err);
    }
    m = &list->v[list->n++];
    m->target = *target;
    m->metric = arena_slice(a, intern_str(pool, e->name));
    m->type = nx_slice_str(expo_type_text((enum expo_type)e->type));
    m->help = arena_slice(a, e->help ? intern_str(pool, e->help) : nx_slice_of("", 0));
    m->unit = arena_slice(a, e->unit ? intern_str(pool, e->unit) : nx_slice_of("", 0));
    if (m->help.ptr)
        m->help = expo_unescape(m->help, e->openmetrics, a);
    return m->metric.ptr && m->help.ptr && m->unit.ptr ? NX_OK : arena_failed(a, err);
}

static nx_status show_metadata(struct scrape *s, const struct target *t, struct arena *a,
                               struct metadata_list *list, struct nx_err *err)
{
    const struct metadata_ask *ask = list->ask;
    struct labels labels = {0};
    nx_status st = NX_OK;

    if (!matchers_match(ask->match, ask->n_match, &t->labels))
        return NX_OK;
    for (uint32_t i = 0; i < t->in.meta.n && !list_full(list) && !st; i++) {
        const struct meta_entry *e = &t->in.meta.v[i];
        bool fresh = true;
        if (!e->name ||
            (ask->metric.len && !nx_slice_eq(ask->metric, intern_str(s->env.pool, e->name))))
            continue;
        if (ask->families)
            st = family_add(list, e, a, &fresh, err);
        else if (!labels.v)
            st = labels_copy(a, &t->labels, &labels, err);
        if (!st && fresh)
            st = show_entry(s, e, &labels, a, list, err);
    }
    return st;
}

static int by_target_and_metric(const void *a, const void *b)
{
    const struct metadata_info *x = a, *y = b;
    int c = labels_cmp(&x->target, &y->target);

    return c ? c : nx_slice_cmp(x->metric, y->metric);
}

nx_status scrape_get_metadata(struct scrape *s, const struct metadata_ask *ask, struct arena *a,
                              struct metadata_info **out, size_t *n, struct nx_err *err)
{
    struct metadata_list list = {.ask = ask};
    nx_status st = NX_OK;

    nx_lock(&s->lock);
    nx_lock(&s->status);
    for (size_t i = 0; i < s->n_pools; i++)
        for (size_t k = 0; k < s->pools[i]->n_targets && !st; k++)
            st = show_metadata(s, s->pools[i]->targets[k], a, &list, err);
    nx_unlock(&s->status);
    nx_unlock(&s->lock);
    if (st)
        return st;
    if (list.n)
        qsort(list.v, list.n, sizeof *list.v, by_target_and_metric);
    *out = list.v;
    *n = list.n;
    return NX_OK;
}

/* ---- numbers --------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double quantile(const double *v, size_t n, double q)
{
    return n ? v[(size_t)(q * (double)(n - 1) + 0.5)] : NAN;
}

static void show_interval(const struct interval_seen *seen, struct arena *a,
                          struct scrape_interval_stats *out)
{
    size_t have = seen->count < INTERVAL_SAMPLES ? (size_t)seen->count : INTERVAL_SAMPLES, n = 0;
    int64_t oldest = clock_mono_ns() - RECENT_NS;
    double v[INTERVAL_SAMPLES];

    for (size_t i = 0; i < have; i++)
        if (seen->last[i].mono_ns >= oldest)
            v[n++] = seen->last[i].seconds;
    qsort(v, n, sizeof *v, by_value);
    *out = (struct scrape_interval_stats){
        .interval = duration(a, seen->interval_ms), .count = seen->count, .sum = seen->sum};
    out->p01 = quantile(v, n, 0.01);
    out->p05 = quantile(v, n, 0.05);
    out->p50 = quantile(v, n, 0.5);
    out->p90 = quantile(v, n, 0.9);
    out->p99 = quantile(v, n, 0.99);
}

static void count_metadata(const struct scrape *s, const struct pool *p, struct scrape_stats *out)
{
    for (size_t k = 0; k < p->n_targets; k++) {
        size_t n = 0;
        out->metadata_bytes += meta_text_bytes(&p->targets[k]->in.meta, s->env.pool, &n);
        out->metadata_entries += n;
    }
}

nx_status scrape_get_stats(struct scrape *s, struct arena *a, struct scrape_stats *out,
                           struct nx_err *err)
{
    struct scrape_stats st;
    bool ok = true;

    nx_lock(&s->lock);
    nx_lock(&s->status);
    st = s->count;
    st.by_pool = arena_array(a, s->n_pools, sizeof *st.by_pool);
    st.by_interval = arena_array(a, s->n_intervals, sizeof *st.by_interval);
    ok = st.by_pool && st.by_interval;
    for (size_t i = 0; i < s->n_pools && ok; i++) {
        const struct pool *p = s->pools[i];
        if (p->gone)
            continue;
        st.by_pool[st.n_by_pool] =
            (struct scrape_pool_stats){.pool = arena_slice(a, nx_slice_str(p->name)),
                                       .targets = p->n_targets,
                                       .discovered = p->discovered,
                                       .syncs = p->syncs,
                                       .target_limit = p->target_limit,
                                       .sync_failed = p->sync_failed,
                                       .sync_seconds_sum = p->sync_seconds};
        ok = st.by_pool[st.n_by_pool++].pool.ptr != NULL;
        st.pools++;
        count_metadata(s, p, &st);
    }
    for (size_t i = 0; i < s->n_intervals && ok; i++) {
        show_interval(&s->intervals[i], a, &st.by_interval[st.n_by_interval]);
        ok = st.by_interval[st.n_by_interval++].interval.ptr != NULL;
    }
    nx_unlock(&s->status);
    nx_unlock(&s->lock);
    if (!ok)
        return arena_failed(a, err);
    *out = st;
    return NX_OK;
}
