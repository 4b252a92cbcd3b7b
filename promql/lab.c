/* lab.c - a store in memory with an engine over it, for unit tests of rules.
 *
 * SHAPE Input lines are parsed when they come and become samples as time reaches them: a rule must not see what
 *       has not happened yet, whatever its offset. */
#include <stdlib.h>
#include <string.h>

#include "promql/series.h"
#include "promql/teststore.h"
#include "src/base/num.h"

struct lab_line {
    struct series_line line;
    size_t at; /* the first value that is not in the store yet */
    int64_t start_ms, interval_ms;
};

struct pql_lab {
    struct teststore *store;
    struct pql_engine *engine;
    struct pql_source source;
    struct arena *a;
    struct lab_line *v;
    size_t n, cap;
};

void pql_lab_free(struct pql_lab *l)
{
    if (!l)
        return;
    pql_engine_free(l->engine);
    teststore_free(l->store);
    arena_free(l->a);
    free(l);
}

nx_status pql_lab_new(struct pql_lab **out, const struct pql_engine_opts *opts, struct nx_err *err)
{
    struct pql_lab *l = calloc(1, sizeof *l);
    nx_status st;

    if (!l)
        return nx_fail(err, NX_NOMEM, "out of memory");
    l->a = arena_new(0);
    l->store = teststore_new();
    st = l->a && l->store ? pql_engine_new(&l->engine, opts, err)
                          : nx_fail(err, NX_NOMEM, "out of memory");
    if (st) {
        pql_lab_free(l);
        return st;
    }
    l->source = teststore_source(l->store);
    *out = l;
    return NX_OK;
}

struct pql_engine *pql_lab_engine(struct pql_lab *l)
{
    return l->engine;
}

const struct pql_source *pql_lab_source(const struct pql_lab *l)
{
    return &l->source;
}

static nx_status add_line(struct pql_lab *l, const struct lab_line *line, struct nx_err *err)
{
    /* Of a series that is given twice, the last counts. */
    for (size_t i = 0; i < l->n; i++) {
        if (labels_eq(&l->v[i].line.labels, &line->line.labels)) {
            l->v[i] = *line;
            return NX_OK;
        }
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        struct lab_line *v = arena_grow(l->a, l->v, l->cap * sizeof *v, cap * sizeof *v);
        if (!v)
            return arena_failed(l->a, err);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = *line;
    return NX_OK;
}

nx_status pql_lab_series(struct pql_lab *l, struct nx_slice series, struct nx_slice values,
                         int64_t start_ms, int64_t interval_ms, struct nx_err *err)
{
    struct lab_line line = {.start_ms = start_ms, .interval_ms = interval_ms};
    char *text =
        arena_printf(l->a, "%.*s %.*s", (int)series.len, series.ptr, (int)values.len, values.ptr);
    nx_status st =
        text ? series_parse(l->a, nx_slice_str(text), &line.line, err) : arena_failed(l->a, err);

    if (!st && !line.line.labels.n)
        st = nx_fail(err, NX_BADINPUT, "empty labelset: invalid sample");
    return st ? st : add_line(l, &line, err);
}

nx_status pql_lab_advance(struct pql_lab *l, int64_t t_ms, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < l->n; i++) {
        struct lab_line *line = &l->v[i];
        for (; line->at < line->line.n && !st; line->at++) {
            int64_t t = line->start_ms + (int64_t)line->at * line->interval_ms;
            const struct series_value *v = &line->line.v[line->at];
            if (t > t_ms)
                break;
            if (v->is == SERIES_VALUE)
                st = teststore_add(l->store, &line->line.labels, t, v->v, err);
            else if (v->is == SERIES_HISTOGRAM)
                st = teststore_add_unheld(l->store, &line->line.labels, t, err);
        }
    }
    return st;
}

nx_status pql_lab_add(struct pql_lab *l, const struct labels *ls, int64_t t_ms, double v,
                      enum pql_lab_taken *taken, struct nx_err *err)
{
    struct teststore_sample newest;

    *taken = PQL_LAB_ADDED;
    if (teststore_newest(l->store, ls, &newest) && newest.t_ms >= t_ms) {
        if (newest.t_ms > t_ms)
            *taken = PQL_LAB_LATE;
        else if (num_bits(newest.v) != num_bits(v))
            *taken = PQL_LAB_DUPLICATE;
        return NX_OK;
    }
    return teststore_add(l->store, ls, t_ms, v, err);
}

bool pql_lab_met_histograms(struct pql_lab *l)
{
    return teststore_met_unheld(l->store);
}

nx_status pql_parse_metric(struct arena *a, struct nx_slice text, struct labels *out,
                           struct nx_err *err)
{
    struct series_line line;
    nx_status st = series_parse(a, text, &line, err);

    if (!st && line.n)
        st = nx_fail(err, NX_BADINPUT, "unexpected values after the labels");
    if (!st)
        *out = line.labels;
    return st;
}
