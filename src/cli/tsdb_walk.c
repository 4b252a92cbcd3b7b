#include "src/cli/tsdb.h"

/* tsdb_walk.c - a data folder as dump and export read it: blocks and log as one, changing nothing.
 *
 * Samples come in runs of thirty days at most, series by series, so memory holds the labels of what is
 * selected at a time and one run. */

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "promql/promql.h"
#include "src/base/log.h"

#define RUN_MS   (30ll * 24 * 3600 * 1000)
#define MAX_RUNS 1024 /* a range of millennia is not walked month by month */

static nx_status parse_sets(struct tsdb_walk *w, const struct flags *f, struct nx_err *err)
{
    const char *const *list;
    size_t n = flags_given(f, "match") ? flags_list(f, "match", &list) : 0;

    w->sets = n ? arena_array(w->arena, n, sizeof *w->sets) : NULL;
    if (n && !w->sets)
        return arena_failed(w->arena, err);
    for (size_t i = 0; i < n; i++) {
        struct matcher *m = NULL;
        size_t count = 0;
        nx_status st = pql_parse_selector(w->arena, nx_slice_str(list[i]), &m, &count, err);
        if (st)
            return st;
        w->sets[w->n_sets++] = (struct matcher_set){m, count};
    }
    return NX_OK;
}

/* What opening says of damage. A try that met a merge complains, too, and was made again: so it is shown only
 * if in the end there is damage. */
static void keep_log(void *ctx, const char *line, size_t len)
{
    struct buf *b = ctx;

    buf_append(b, line, len);
    if (len && line[len - 1] != '\n')
        buf_char(b, '\n');
}

static bool is_damaged(struct storage *s, struct storage_stats *stats)
{
    storage_get_stats(s, stats);
    return stats->block_loads_failed || stats->pages_damaged || stats->wal_corruptions;
}

/* Blocks are held open, two files each. */
static void allow_files(void)
{
    struct rlimit rl;

    if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
        rl.rlim_cur = rl.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &rl); /* else files are opened when they are read */
    }
}

static nx_status open_folder(struct tsdb_walk *w, const char *dir, struct nx_err *err)
{
    struct storage_opts o = {.fs = fs_real(), .dir = dir};
    struct storage_stats stats;
    struct buf log;
    nx_status st;

    log_setup(LOG_ERROR_LEVEL,
              LOG_FORMAT_LOGFMT); /* replay tells of what it does, but damage alone matters here */
    allow_files();
    buf_init(&log, 64u << 10);
    log_capture(keep_log, &log);
    st = storage_open_readonly(&w->storage, &o, err);
    log_capture(NULL, NULL);
    if (st || is_damaged(w->storage, &stats))
        fwrite(log.ptr ? log.ptr : "", 1, log.len, stderr);
    buf_done(&log);
    if (st == NX_NOTFOUND)
        st = nx_fail(err, st, "opening the db dir: stat %s: no such file or directory", dir);
    return st;
}

nx_status tsdb_walk_open(struct tsdb_walk *w, const struct flags *f, struct nx_err *err)
{
    struct storage_stats stats;
    nx_status st;

    *w = (struct tsdb_walk){
        .mint = flags_int(f, "min-time"), .maxt = flags_int(f, "max-time"), .arena = arena_new(0)};
    if (!w->arena)
        return nx_fail(err, NX_NOMEM, "out of memory");
    st = open_folder(w, f->n_args ? f->args[0] : "data/", err);
    if (!st)
        st = parse_sets(w, f, err);
    if (st)
        return st;
    storage_get_stats(w->storage, &stats);
    w->mint = w->mint > stats.oldest_ms ? w->mint : stats.oldest_ms;
    w->maxt = w->maxt < stats.newest_ms ? w->maxt : stats.newest_ms;
    return storage_querier(w->storage, w->mint, w->maxt, &w->querier, err);
}

void tsdb_walk_close(struct tsdb_walk *w)
{
    for (size_t i = 0; i < w->n_sets; i++)
        pql_matchers_done((struct matcher *)(uintptr_t)w->sets[i].m, w->sets[i].n);
    querier_close(w->querier);
    storage_close(w->storage);
    arena_free(w->arena);
    *w = (struct tsdb_walk){0};
}

static int by_labels(const void *a, const void *b)
{
    return labels_cmp(&((const struct series *)a)->labels, &((const struct series *)b)->labels);
}

/* Appends `more` to `all`, both in the arena. */
static nx_status join(struct series_list *all, const struct series_list *more, struct arena *a,
                      struct nx_err *err)
{
    struct series *v;

    if (!more->n)
        return NX_OK;
    v = arena_grow(a, all->v, all->n * sizeof *v, (all->n + more->n) * sizeof *v);
    if (!v)
        return arena_failed(a, err);
    memcpy(v + all->n, more->v, more->n * sizeof *v);
    *all = (struct series_list){v, all->n + more->n};
    return NX_OK;
}

static nx_status select_set(struct tsdb_walk *w, const struct matcher_set *set,
                            const struct matcher *also, int64_t mint, int64_t maxt, struct arena *a,
                            struct series_list *out, struct nx_err *err)
{
    struct matcher *m = arena_array(a, set->n + 1, sizeof *m);

    if (!m)
        return arena_failed(a, err);
    if (set->n)
        memcpy(m, set->m, set->n * sizeof *m);
    if (also)
        m[set->n] = *also;
    return w->querier->ops->select(w->querier, m, set->n + (also != NULL), mint, maxt, a, out, err);
}

nx_status tsdb_walk_select(struct tsdb_walk *w, const struct matcher *also, int64_t mint,
                           int64_t maxt, struct arena *a, struct series_list *out,
                           struct nx_err *err)
{
    static const struct matcher_set everything = {NULL, 0};
    struct series_list all = {0};
    size_t kept = 0;
    nx_status st = NX_OK;

    *out = all;
    if (mint > maxt)
        return NX_OK;
    if (w->n_sets < 2)
        return select_set(w, w->n_sets ? w->sets : &everything, also, mint, maxt, a, out, err);
    for (size_t i = 0; i < w->n_sets && !st; i++) {
        struct series_list one = {0};
        st = select_set(w, &w->sets[i], also, mint, maxt, a, &one, err);
        if (!st)
            st = join(&all, &one, a, err);
    }
    if (st)
        return st;
    if (all.n)
        qsort(all.v, all.n, sizeof *all.v, by_labels);
    for (size_t i = 0; i < all.n; i++) {
        if (!kept || !labels_eq(&all.v[kept - 1].labels, &all.v[i].labels))
            all.v[kept++] = all.v[i];
    }
    *out = (struct series_list){all.v, kept};
    return NX_OK;
}

nx_status tsdb_walk_read(struct tsdb_walk *w, const struct series *s, int64_t mint, int64_t maxt,
                         struct column *column, tsdb_run_fn *show, void *ctx, struct nx_err *err)
{
    const uint64_t span = mint <= maxt ? (uint64_t)maxt - (uint64_t)mint : 0;
    const uint64_t step = span / MAX_RUNS > RUN_MS ? span / MAX_RUNS : RUN_MS;
    nx_status st = NX_OK;

    for (int64_t from = mint; from <= maxt && !st;) {
        bool last = (uint64_t)maxt - (uint64_t)from <= step;
        int64_t to = last ? maxt : (int64_t)((uint64_t)from + step);
        st = w->querier->ops->read(w->querier, s, from, to, column, err);
        if (!st && column->n)
            st = show(ctx, s, column, err);
        if (last)
            break;
        from = to + 1;
    }
    return st;
}

bool tsdb_walk_is_damaged(const struct tsdb_walk *w)
{
    struct storage_stats stats;

    if (!is_damaged(w->storage, &stats))
        return false;
    fprintf(stderr,
            "damaged data was left out: %llu blocks that do not open, %llu pages of blocks, "
            "%llu places in the log\n",
            (unsigned long long)stats.block_loads_failed, (unsigned long long)stats.pages_damaged,
            (unsigned long long)stats.wal_corruptions);
    return true;
}
