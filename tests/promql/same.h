/* same.h - two ways of evaluating a query must give the same, to the bit: series in their order, annotations with
 * their positions, statistics. */
#pragma once

#include "tests/support/test.h"

#include "promql/promql.h"
#include "src/base/num.h"

static inline void same_texts(char **a, size_t n_a, char **b, size_t n_b, const char *about)
{
    if (n_a != n_b)
        fail_msg("%s: %zu annotations, %zu the other way", about, n_a, n_b);
    for (size_t i = 0; i < n_a; i++)
        if (strcmp(a[i], b[i]) != 0)
            fail_msg("%s: \"%s\", \"%s\" the other way", about, a[i], b[i]);
}

/* Which sign a NaN that was computed has is nothing that Prometheus tells. */
static inline bool same_value(double a, double b)
{
    return num_bits(a) == num_bits(b) || (a != a && b != b);
}

static inline void same_series(const struct pql_series *a, const struct pql_series *b,
                               const char *about)
{
    if (!labels_eq(&a->labels, &b->labels) || a->n != b->n)
        fail_msg("%s: another series, or %zu points and %zu", about, a->n, b->n);
    for (size_t k = 0; k < a->n; k++)
        if (a->t[k] != b->t[k] || !same_value(a->v[k], b->v[k]))
            fail_msg("%s at %lld: %.17g, %.17g at %lld the other way", about, (long long)a->t[k],
                     a->v[k], b->v[k], (long long)b->t[k]);
}

static inline void same_results(const struct pql_result *a, const struct pql_result *b,
                                const char *about)
{
    if (a->type != b->type || a->n_series != b->n_series)
        fail_msg("%s: %zu series, %zu the other way", about, a->n_series, b->n_series);
    for (size_t i = 0; i < a->n_series; i++)
        same_series(&a->series[i], &b->series[i], about);
    if (a->type == PQL_SCALAR)
        assert_true(same_value(a->scalar, b->scalar));
    same_texts(a->warnings, a->n_warnings, b->warnings, b->n_warnings, about);
    same_texts(a->infos, a->n_infos, b->infos, b->n_infos, about);
    if (a->stats.samples_total != b->stats.samples_total ||
        a->stats.samples_read != b->stats.samples_read)
        fail_msg(
            "%s: samples total %llu, read %llu; %llu, %llu the other way", about,
            (unsigned long long)a->stats.samples_total, (unsigned long long)a->stats.samples_read,
            (unsigned long long)b->stats.samples_total, (unsigned long long)b->stats.samples_read);
}

/* A way that makes fewer values in between may have a lower one. */
static inline void same_peak(const struct pql_result *a, const struct pql_result *b,
                             const char *about)
{
    if (a->stats.samples_peak != b->stats.samples_peak)
        fail_msg("%s: samples peak %llu, %llu the other way", about,
                 (unsigned long long)a->stats.samples_peak,
                 (unsigned long long)b->stats.samples_peak);
}

static inline void same_steps(const struct pql_result *a, const struct pql_result *b,
                              const char *about)
{
    const size_t n = a->stats.by_step.n;

    if (n != b->stats.by_step.n)
        fail_msg("%s: statistics of %zu steps, %zu the other way", about, n, b->stats.by_step.n);
    for (size_t k = 0; k < n; k++)
        if (a->stats.by_step.total[k] != b->stats.by_step.total[k] ||
            a->stats.by_step.read[k] != b->stats.by_step.read[k])
            fail_msg("%s: step %zu has other statistics the other way", about, k);
}

/* Both well, then true, or failed with the same words. */
static inline bool same_status(nx_status a, const struct nx_err *err_a, nx_status b,
                               const struct nx_err *err_b, const char *about)
{
    if (a != b || (a && strcmp(err_a->text, err_b->text) != 0))
        fail_msg("%s: %s: %s, the other way %s: %s", about, nx_status_text(a), a ? err_a->text : "",
                 nx_status_text(b), b ? err_b->text : "");
    return !a;
}

/* Runs the query on both engines; either may fail, then both with the same words. True: they have results. */
static inline bool same_on_both(struct pql_engine *one, struct pql_engine *other,
                                const struct pql_query *q)
{
    char about[512];
    struct pql_result *a = NULL, *b = NULL;
    struct nx_err err_a, err_b;
    nx_status st_a = pql_exec(one, q, &a, &err_a), st_b = pql_exec(other, q, &b, &err_b);
    bool well;

    snprintf(about, sizeof about, "%.*s", (int)q->text.len, q->text.ptr);
    well = same_status(st_a, &err_a, st_b, &err_b, about);
    if (well) {
        same_results(a, b, about);
        same_peak(a, b, about);
        same_steps(a, b, about);
    }
    pql_result_free(a);
    pql_result_free(b);
    return well;
}
