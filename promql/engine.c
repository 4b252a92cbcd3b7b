/* engine.c - runs queries: parse, wait for a place, evaluate, hand over the result.
 *
 * WHY     Many users share one engine. A query may take as many samples, as much time and as many of the
 *         places as was set, and then gets an error in Prometheus's words.
 * RULES   G1  The time-out counts from the call, the wait for a place included.
 *         G2  Samples are counted as Prometheus counts them; besides, each arena is bounded in bytes.
 *         G3  A result owns its arena and nothing else: labels, points and texts are in it.
 *         G4  A range result is sorted by labels; an instant vector keeps the order it was made in.
 *         G5  Near the process's memory limit no query begins, and one that needs more is ended; both with
 *             NX_OVERLOADED, as it may well work later. What one query takes is bounded besides.
 *         G6  Helpers never make a query fail: where their memory may have, it is done anew without them.
 * THREADS Any number in pql_exec(). engine.lock guards places and statistics; it is not held while a
 *         query runs. Large queries may have more threads than the caller's (eval_ahead.c): all have ended
 *         when pql_exec() returns. */
#include "promql/eval.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "promql/leaves.h"
#include "src/base/cgroup.h"
#include "src/base/clock.h"
#include "src/base/thread.h"
#include "src/base/workers.h"

#define STAT_KEPT      512                  /* durations each quantile is taken from */
#define STAT_WINDOW_NS (600ll * 1000000000) /* older ones do not count */
#define MOST_HELPERS   64u

struct stat_ring {
    uint64_t count;
    double sum;
    struct {
        int64_t at_ns;
        double s;
    } last[STAT_KEPT];
};

enum stat_slice { STAT_QUEUE, STAT_PREPARE, STAT_EVAL, STAT_SORT, STAT_SLICES };

struct pql_engine {
    /* set once */
    struct pql_engine_opts opts;
    struct workers *helpers; /* NULL: none */
    int64_t default_step_ms; /* atomic */

    struct nx_mutex lock;
    struct nx_cond freed;
    /* under lock; active may be read without */
    uint32_t active;
    uint64_t queries, samples_total, samples_read;
    struct stat_ring slices[STAT_SLICES];
};

nx_status pql_engine_new(struct pql_engine **out, const struct pql_engine_opts *opts,
                         struct nx_err *err)
{
    struct pql_engine *e = calloc(1, sizeof *e);

    if (!e)
        return nx_fail(err, NX_NOMEM, "making a query engine");
    e->opts = *opts;
    if (!e->opts.lookback_ms)
        e->opts.lookback_ms = 300000;
    if (!e->opts.timeout_ms)
        e->opts.timeout_ms = 120000;
    if (!e->opts.max_samples)
        e->opts.max_samples = 50000000;
    if (!e->opts.max_concurrency)
        e->opts.max_concurrency = 20;
    if (!e->opts.column_samples)
        e->opts.column_samples = 131072;
    e->default_step_ms = 60000;
    nx_mutex_init(&e->lock, NX_RANK_STATS);
    nx_cond_init(&e->freed);
    if (!e->opts.helpers)
        e->opts.helpers = cpus_available("") - 1;
    if (e->opts.helpers && e->opts.helpers != UINT32_MAX) {
        e->helpers = workers_new(e->opts.helpers < MOST_HELPERS ? e->opts.helpers : MOST_HELPERS,
                                 "query", &e->active);
        if (!e->helpers) {
            pql_engine_free(e);
            return nx_fail(err, NX_NOMEM, "making a query engine");
        }
    }
    *out = e;
    return NX_OK;
}

void pql_engine_free(struct pql_engine *e)
{
    if (!e)
        return;
    workers_free(e->helpers);
    nx_cond_done(&e->freed);
    nx_mutex_done(&e->lock);
    free(e);
}

nx_status pql_engine_parse(const struct pql_engine *e, struct arena *a, struct nx_slice text,
                           const struct pql_expr **out, struct nx_err *err)
{
    return pql_parse(a, text, &e->opts.features, out, err);
}

void pql_engine_set_default_step(struct pql_engine *e, int64_t step_ms)
{
    __atomic_store_n(&e->default_step_ms, step_ms > 0 ? step_ms : 60000, __ATOMIC_RELAXED);
}

/* ---- statistics --------------------------------------------------------------------------------- */

static void stat_add_locked(struct pql_engine *e, enum stat_slice slice, int64_t now_ns, double s)
{
    struct stat_ring *r = &e->slices[slice];
    size_t at = r->count % STAT_KEPT;

    NX_ASSERT(nx_mutex_held(&e->lock));
    r->last[at].at_ns = now_ns;
    r->last[at].s = s;
    r->count++;
    r->sum += s;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void stat_read(const struct stat_ring *r, int64_t now_ns, uint64_t *count, double *sum,
                      double q[3])
{
    static const double at[] = {0.5, 0.9, 0.99};
    double v[STAT_KEPT];
    size_t n = 0, held = r->count < STAT_KEPT ? (size_t)r->count : STAT_KEPT;

    *count = r->count;
    *sum = r->sum;
    for (size_t i = 0; i < held; i++)
        if (now_ns - r->last[i].at_ns <= STAT_WINDOW_NS)
            v[n++] = r->last[i].s;
    qsort(v, n, sizeof *v, compare_doubles);
    for (size_t i = 0; i < 3; i++)
        q[i] = n ? v[(size_t)(at[i] * (double)(n - 1) + 0.5)] : (double)NAN;
}

void pql_engine_get_stats(struct pql_engine *e, struct pql_engine_stats *out)
{
    int64_t now = clock_mono_ns();
    double q[3];

    nx_lock(&e->lock);
    *out = (struct pql_engine_stats){.queries = e->queries,
                                     .active = e->active,
                                     .max_concurrency = e->opts.max_concurrency,
                                     .samples_total = e->samples_total,
                                     .samples_read = e->samples_read};
#define SLICE(field, slice)                                                                        \
    stat_read(&e->slices[slice], now, &out->field.count, &out->field.sum, q);                      \
    out->field.p50 = q[0];                                                                         \
    out->field.p90 = q[1];                                                                         \
    out->field.p99 = q[2]
    SLICE(queue, STAT_QUEUE);
    SLICE(prepare, STAT_PREPARE);
    SLICE(inner_eval, STAT_EVAL);
    SLICE(sort, STAT_SORT);
#undef SLICE
    nx_unlock(&e->lock);
}

/* ---- places ----------------------------------------------------------------------------------------- */

static bool is_canceled(const struct pql_query *q)
{
    return q->cancel && __atomic_load_n(q->cancel, __ATOMIC_RELAXED);
}

static void set_active_locked(struct pql_engine *e, uint32_t n)
{
    NX_ASSERT(nx_mutex_held(&e->lock));
    __atomic_store_n(&e->active, n, __ATOMIC_RELAXED);
}

/* Waits for a place (G1). The wait is in pieces, as a cancel flag wakes nobody. */
static nx_status place_take(struct pql_engine *e, const struct pql_query *q, int64_t deadline_ns,
                            struct nx_err *err)
{
    nx_status st = NX_OK;

    nx_lock(&e->lock);
    while (e->active >= e->opts.max_concurrency && !st) {
        int64_t left_ms = (deadline_ns - clock_mono_ns()) / 1000000;

        if (is_canceled(q))
            st = eval_stopped(NX_CANCELED, "query queue", err);
        else if (left_ms <= 0)
            st = eval_stopped(NX_TIMEOUT, "query queue", err);
        else
            nx_cond_wait_ms(&e->freed, &e->lock, left_ms < 50 ? left_ms : 50);
    }
    if (!st)
        set_active_locked(e, e->active + 1);
    nx_unlock(&e->lock);
    return st;
}

static void place_give(struct pql_engine *e, const struct pql_result *r, bool ok)
{
    int64_t now = clock_mono_ns();

    nx_lock(&e->lock);
    set_active_locked(e, e->active - 1);
    e->queries++;
    e->samples_total += r->stats.samples_total;
    e->samples_read += r->stats.samples_read;
    if (ok) {
        stat_add_locked(e, STAT_QUEUE, now, r->stats.queue_s);
        stat_add_locked(e, STAT_PREPARE, now, r->stats.prepare_s);
        stat_add_locked(e, STAT_EVAL, now, r->stats.eval_s);
        stat_add_locked(e, STAT_SORT, now, r->stats.sort_s);
    }
    nx_cond_signal(&e->freed);
    nx_unlock(&e->lock);
}

/* ---- results ------------------------------------------------------------------------------------------ */

struct run {
    struct eval ev;
    struct arena_share share;
    const struct pql_query *q;
    const struct pql_expr *parsed, *expr; /* as it was written; as it is evaluated */
    const struct pql_expr *own;           /* `parsed`, where nobody keeps it */
    struct eval_times tm;
    bool fold, share_leaves;
    bool by_step; /* samples of each step are asked for */
    struct pql_result *result;
};

/* Points of a row. Rows with all steps share one array of times. */
static nx_status put_row(struct run *r, const struct row *row, int64_t **all_times,
                         struct pql_series *out, struct nx_err *err)
{
    struct arena *a = r->ev.out;
    uint32_t n = r->tm.n;
    double *v = arena_array(a, row->points, sizeof *v);
    bool full = row->points == n;
    int64_t *t = full ? *all_times : arena_array(a, row->points, sizeof *t);

    if (full && !t)
        t = *all_times = arena_array(a, n, sizeof *t);
    if (!t || !v)
        return eval_nomem(&r->ev, a, err);
    if (full && all_times && row->points) {
        memcpy(v, row->v, n * sizeof *v);
        for (uint32_t k = 0; k < n; k++)
            t[k] = eval_time(&r->tm, k);
    } else {
        size_t at = 0;

        for (uint32_t k = 0; k < n; k++) {
            if (!row->has[k])
                continue;
            t[at] = eval_time(&r->tm, k);
            v[at++] = row->v[k];
        }
    }
    out->t = t;
    out->v = v;
    out->n = row->points;
    return NX_OK;
}

static nx_status run_vector(struct run *r, struct nx_err *err)
{
    struct rows *rows = NULL;
    struct row scratch, row;
    int64_t *all_times = NULL;
    struct pql_result *res = r->result;
    nx_status st = eval_rows(&r->ev, r->expr, &r->tm, &rows, err);

    if (!st)
        st = rows_settle_names(&r->ev, rows, err);
    if (!st)
        st = row_new(&r->ev, &r->tm, &scratch, err);
    if (st)
        return st;
    res->series = arena_array(r->ev.out, rows->n ? rows->n : 1, sizeof *res->series);
    if (!res->series)
        return eval_nomem(&r->ev, r->ev.out, err);
    rows_ahead(&r->ev, rows);
    for (size_t i = 0; i < rows->n; i++) {
        struct pql_series *s = &res->series[res->n_series];

        st = rows_view(&r->ev, rows, i, &scratch, &row, err);
        if (st)
            return st;
        if (!row.points)
            continue;
        st = put_row(r, &row, &all_times, s, err);
        if (st)
            return st;
        s->labels = rows->labels[i];
        res->n_series++;
    }
    return NX_OK;
}

static nx_status run_scalar(struct run *r, struct nx_err *err)
{
    struct pql_result *res = r->result;
    double *v;
    uint8_t *has;
    int64_t *all_times = NULL;
    nx_status st = eval_scalar(&r->ev, r->expr, &r->tm, &v, err);

    if (st)
        return st;
    st = eval_room(&r->ev, r->tm.n, err);
    if (st)
        return st;
    if (r->q->instant) {
        res->scalar = v[0];
        return NX_OK;
    }
    has = arena_alloc(r->ev.work, r->tm.n);
    res->series = arena_zalloc(r->ev.out, sizeof *res->series);
    if (!has || !res->series)
        return eval_nomem(&r->ev, r->ev.work, err);
    memset(has, 1, r->tm.n);
    res->n_series = 1;
    return put_row(r, &(struct row){v, has, r->tm.n}, &all_times, &res->series[0], err);
}

static int compare_series(const void *a, const void *b)
{
    return labels_cmp(&((const struct pql_series *)a)->labels,
                      &((const struct pql_series *)b)->labels);
}

static nx_status run_eval(struct run *r, struct nx_err *err)
{
    struct pql_result *res = r->result;

    res->t_ms = r->tm.start;
    res->type = r->q->instant ? pql_expr_type(r->expr) : PQL_MATRIX;
    switch (pql_expr_type(r->expr)) {
    case PQL_SCALAR:
        return run_scalar(r, err);
    case PQL_VECTOR:
        return run_vector(r, err);
    case PQL_MATRIX:
        return eval_matrix(&r->ev, eval_unparen(r->expr), &r->tm, &res->series, &res->n_series,
                           err);
    case PQL_STRING:
        res->string = arena_slice(r->ev.out, eval_string(r->expr));
        return res->string.ptr ? NX_OK : eval_nomem(&r->ev, r->ev.out, err);
    default:
        return nx_fail(err, NX_EXEC, "unexpected error: an expression without a type");
    }
}

/* ---- one query ------------------------------------------------------------------------------------------ */

static double since(int64_t *from_ns)
{
    int64_t now = clock_mono_ns();
    double s = (double)(now - *from_ns) / 1e9;

    *from_ns = now;
    return s;
}

static nx_status check_query(const struct run *r, struct nx_err *err)
{
    enum pql_type type = pql_expr_type(r->expr);

    if (r->q->instant)
        return NX_OK;
    if (type != PQL_VECTOR && type != PQL_SCALAR)
        return nx_fail(
            err, NX_BADINPUT,
            "invalid expression type \"%s\" for range query, must be Scalar or instant Vector",
            pql_type_name(type));
    if (r->q->step_ms <= 0)
        return nx_fail(err, NX_BADINPUT,
                       "zero or negative query resolution step widths are not accepted. Try a "
                       "positive integer");
    return NX_OK;
}

static nx_status set_times(struct run *r, struct nx_err *err)
{
    const struct pql_query *q = r->q;
    int64_t n;

    r->tm = (struct eval_times){.start = r->ev.q_start_ms,
                                .step = q->instant ? 1 : q->step_ms,
                                .end = q->instant ? r->ev.q_start_ms : r->ev.q_end_ms,
                                .n = 1};
    if (q->instant)
        return NX_OK;
    n = r->ev.q_end_ms < r->tm.start ? 0 : (r->ev.q_end_ms - r->tm.start) / q->step_ms + 1;
    if (n > INT32_MAX)
        return eval_too_many(err);
    r->tm.n = (uint32_t)n;
    return NX_OK;
}

static nx_status prepare(struct run *r, struct nx_err *err)
{
    int64_t mint, maxt;
    bool any;
    nx_status st = check_query(r, err);

    if (!st)
        st = set_times(r, err);
    if (!st && r->tm.n)
        st = counts_new(&r->ev, &r->tm, r->by_step, err);
    if (!st && r->fold && r->tm.n)
        st = fold_constants(&r->ev, r->parsed, &r->tm, &r->expr, err);
    if (!st)
        st = eval_span(&r->ev, r->parsed, &mint, &maxt, &any, err);
    if (st || !any || !r->tm.n)
        return st;
    return r->q->source->open(r->q->source->ctx, mint, maxt, &r->ev.querier, err);
}

/* While it evaluates, a query that is called off or out of time gets no memory: so it ends, too, where
 * many series are looked up. Whoever notices, it is told in the same words. */
static nx_status run_bounded(struct run *r, struct nx_err *err)
{
    struct arena_share *share = &r->share;
    nx_status st;

    share->cancel = r->ev.cancel;
    share->deadline_ns = r->ev.deadline_ns;
    st = r->share_leaves ? leaves_plan(&r->ev, r->expr, err) : NX_OK;
    if (!st)
        st = run_eval(r, err);
    ahead_end(&r->ev); /* if it failed half-way */
    share->cancel = NULL;
    share->deadline_ns = 0;
    return st == NX_CANCELED || st == NX_TIMEOUT ? eval_stopped(st, EVAL_WHERE, err) : st;
}

static nx_status tell_annots(struct run *r, struct nx_err *err)
{
    struct pql_result *res = r->result;
    const struct annots *as = &r->ev.annots;
    nx_status st = annots_texts(as, ANNOT_WARNING, r->q->text, r->ev.out, &res->warnings,
                                &res->n_warnings, err);

    if (!st)
        st = annots_texts(as, ANNOT_INFO, r->q->text, r->ev.out, &res->infos, &res->n_infos, err);
    if (st) /* some had no memory when they came, in an arena that has gone since, perhaps */
        st = eval_no_memory(&r->ev, arena_share_exceeded(r->ev.share) ? NX_LIMIT : st, err);
    return st;
}

static nx_status run_query(struct run *r, struct nx_err *err)
{
    struct pql_result *res = r->result;
    int64_t at = clock_mono_ns();
    nx_status st = prepare(r, err);

    res->stats.prepare_s = since(&at);
    if (!st)
        st = eval_check(&r->ev, err);
    if (!st && r->tm.n)
        st = run_bounded(r, err);
    else if (!st)
        res->type = PQL_MATRIX; /* a range that ends before it starts */
    res->stats.eval_s = since(&at);
    if (st)
        return st;
    if (res->type == PQL_MATRIX && res->n_series)
        qsort(res->series, res->n_series, sizeof *res->series, compare_series);
    if (res->type == PQL_MATRIX)
        res->stats.sort_s = since(&at);
    return tell_annots(r, err);
}

/* What it took, whether it came to its end or not. */
static void note_samples(struct run *r)
{
    const struct eval_counts *c = counts_settle(&r->ev);
    struct pql_result *res = r->result;

    res->stats.samples_peak = r->ev.peak;
    if (!c)
        return;
    res->stats.samples_total = c->lanes[0].total;
    res->stats.samples_read = c->lanes[0].read;
    if (!c->total_at)
        return;
    res->stats.by_step.n = r->tm.n;
    res->stats.by_step.start_ms = r->tm.start;
    res->stats.by_step.step_ms = r->tm.step;
    res->stats.by_step.total = c->total_at;
    res->stats.by_step.read = c->read_at;
}

static size_t arena_limit(uint64_t max_samples)
{
    uint64_t bytes =
        max_samples > (SIZE_MAX - (64u << 20)) / 24 ? SIZE_MAX : max_samples * 24 + (64u << 20);

    return bytes > SIZE_MAX ? SIZE_MAX : (size_t)bytes;
}

static nx_status run_open(struct run *r, struct pql_engine *e, const struct pql_query *q,
                          int64_t deadline_ns, struct nx_err *err)
{
    size_t limit = arena_limit(e->opts.max_samples);
    uint64_t bytes = e->opts.max_bytes ? e->opts.max_bytes : memory_limit(e->opts.memory) / 3;

    *r = (struct run){.q = q,
                      .fold = !e->opts.no_folding,
                      .share_leaves = !e->opts.no_sharing,
                      .by_step = e->opts.per_step_stats && q->per_step_stats};
    r->ev = (struct eval){.work = arena_new(limit),
                          .out = arena_new(limit),
                          .source = q->source,
                          .lookback_ms = q->lookback_ms ? q->lookback_ms : e->opts.lookback_ms,
                          .default_step_ms = __atomic_load_n(&e->default_step_ms, __ATOMIC_RELAXED),
                          .q_start_ms = eval_clamp_time(q->start_ms),
                          .q_end_ms = eval_clamp_time(q->instant ? q->start_ms : q->end_ms),
                          .q_step_ms = q->instant ? 0 : q->step_ms,
                          .instant = q->instant,
                          .delayed_names = e->opts.features.delayed_name_removal,
                          .max_samples = e->opts.max_samples,
                          .column_samples = e->opts.column_samples,
                          .helpers = q->alone ? NULL : e->helpers,
                          .ahead_rows = e->opts.ahead_rows,
                          .deadline_ns = deadline_ns,
                          .cancel = q->cancel};
    r->share = (struct arena_share){.limit_bytes = bytes < SIZE_MAX ? (size_t)bytes : SIZE_MAX,
                                    .memory = e->opts.memory};
    r->ev.share = &r->share;
    if (!r->ev.work || !r->ev.out)
        return nx_fail(err, NX_NOMEM, "starting a query");
    arena_join(r->ev.work, &r->share);
    arena_join(r->ev.out, &r->share);
    r->ev.annots.a = r->ev.work;
    r->result = arena_zalloc(r->ev.out, sizeof *r->result);
    if (!r->result)
        return eval_nomem(&r->ev, r->ev.out, err);
    r->result->arena = r->ev.out;
    /* Labels of the result may point at names and values of the tree, so it lives as long. */
    nx_status st = q->expr ? NX_OK : pql_engine_parse(e, r->ev.out, q->text, &r->own, err);
    r->expr = r->parsed = q->expr ? q->expr : r->own;
    return st;
}

static void run_close(struct run *r)
{
    column_done(&r->ev.col);
    querier_close(r->ev.querier);
    pql_expr_done(r->own);
    arena_free(r->ev.work);
    arena_free(r->ev.out);
}

/* G6: *run is closed, and it is `again` from then on, if that can be opened. */
static nx_status run_again_alone(struct run **run, struct run *again, struct pql_engine *e,
                                 struct nx_err *err)
{
    struct run *r = *run;

    if (run_open(again, e, r->q, r->ev.deadline_ns, NULL)) {
        run_close(again);
        return NX_EXEC; /* err says why */
    }
    again->ev.helpers = NULL;
    again->result->stats.queue_s = r->result->stats.queue_s;
    run_close(r);
    *run = again;
    return run_query(again, err);
}

nx_status pql_exec(struct pql_engine *e, const struct pql_query *q, struct pql_result **out,
                   struct nx_err *err)
{
    struct run runs[2], *r = &runs[0];
    struct nx_err own;
    const struct pql_watch *watch = NULL;
    uint32_t watched = PQL_NOT_BEGUN;
    int64_t begun = clock_mono_ns(), at, executed, timeout_ms = e->opts.timeout_ms;
    bool placed = false;
    nx_status st;

    if (!err)
        err = &own; /* contexts are put before the text */
    if (q->timeout_ms && q->timeout_ms < timeout_ms)
        timeout_ms = q->timeout_ms;
    st = memory_admit_query(e->opts.memory, err); /* G5 */
    if (st)
        return st;
    st = run_open(r, e, q, begun + timeout_ms * 1000000, err);
    if (!st)
        st = check_query(r, err);
    if (st)
        goto done;
    watch = e->opts.watch;
    at = executed = clock_mono_ns();
    st = place_take(e, q, r->ev.deadline_ns, err);
    r->result->stats.queue_s = since(&at);
    placed = st == NX_OK;
    if (placed) {
        if (watch)
            watched = watch->begin(watch->ctx, q);
        st = run_query(r, err);
        if (st == NX_EXEC && ahead_may_have_failed(&r->ev))
            st = run_again_alone(&r, &runs[1], e, err);
        note_samples(r);
    }
    r->result->stats.total_s = since(&executed);

done:
    if (watch)
        watch->end(watch->ctx, watched, q, r->result, st ? err : NULL);
    if (placed)
        place_give(e, r->result, !st);
    if (!st) {
        arena_leave(r->ev.out);
        *out = r->result;
        r->ev.out = NULL; /* the result's now */
    }
    run_close(r);
    return st;
}

void pql_result_free(struct pql_result *r)
{
    if (r)
        arena_free(r->arena);
}
