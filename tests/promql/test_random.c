/* test_random.c - a range query is its instants: random well-typed expressions over random data, each
 * evaluated over a range and at each of its steps; and once more with series cut into pieces of a few samples.
 * So are its samples: a step counts in total what it takes alone. The seed says all; NX_SEED sets another, NX_ROUNDS
 * how many expressions. */
#include "tests/promql/expressions.h"
#include "tests/promql/same.h"

#define STEPS 9

/* ---- comparing --------------------------------------------------------------------------------------- */

static bool close_to(double a, double b)
{
    if ((isnan(a) && isnan(b)) || a == b)
        return true;
    return fabs(a - b) <= 1e-11 * (fabs(a) + fabs(b));
}

/* The point of a range result at time t for these labels; NULL if there is none. */
static const double *point(const struct pql_result *r, const struct labels *ls, int64_t t)
{
    for (size_t i = 0; i < r->n_series; i++) {
        if (!labels_eq(&r->series[i].labels, ls))
            continue;
        for (size_t k = 0; k < r->series[i].n; k++)
            if (r->series[i].t[k] == t)
                return &r->series[i].v[k];
    }
    return NULL;
}

static size_t points_at(const struct pql_result *r, int64_t t)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n_series; i++)
        for (size_t k = 0; k < r->series[i].n; k++)
            n += r->series[i].t[k] == t;
    return n;
}

struct tally {
    unsigned compared, failed, points;
};

static uint64_t sum_of(const uint64_t *v, size_t n)
{
    uint64_t sum = 0;

    for (size_t k = 0; k < n; k++)
        sum += v[k];
    return sum;
}

static void samples_add_up(const char *text, const struct pql_result *r)
{
    const size_t n = r->stats.by_step.n;

    if (n != STEPS || sum_of(r->stats.by_step.total, n) != r->stats.samples_total ||
        sum_of(r->stats.by_step.read, n) != r->stats.samples_read)
        fail_msg("%s: samples of %zu steps do not add up", text, n);
}

static void compare(struct pql_engine *e, struct pql_engine *in_pieces,
                    const struct pql_source *source, const char *text, struct tally *tally)
{
    struct pql_query q = {.text = STR(text),
                          .start_ms = 0,
                          .end_ms = (STEPS - 1) * 61000,
                          .step_ms = 61000,
                          .per_step_stats = true,
                          .source = source};
    struct pql_result *range_result = NULL, *r = NULL;
    struct nx_err err;
    nx_status st = pql_exec(e, &q, &range_result, &err);

    if (st) {
        if (st != NX_EXEC)
            fail_msg("%s: %s: %s", text, nx_status_text(st), err.text);
        tally->failed++;
        return;
    }
    samples_add_up(text, range_result);
    for (int64_t t = 0, k = 0; t <= q.end_ms; t += q.step_ms, k++) {
        struct pql_query one = q;

        one.instant = true;
        one.start_ms = t;
        if (pql_exec(e, &one, &r, &err))
            fail_msg("%s at %lld: %s, but the range went well", text, (long long)t, err.text);
        if (r->stats.samples_total != range_result->stats.by_step.total[k])
            fail_msg("%s at %lld: %llu samples, but %llu in the range", text, (long long)t,
                     (unsigned long long)r->stats.samples_total,
                     (unsigned long long)range_result->stats.by_step.total[k]);
        if (r->n_series != points_at(range_result, t))
            fail_msg("%s at %lld: %zu series, but %zu in the range", text, (long long)t,
                     r->n_series, points_at(range_result, t));
        for (size_t i = 0; i < r->n_series; i++) {
            const double *v = point(range_result, &r->series[i].labels, t);

            if (!v || !close_to(*v, r->series[i].v[0]))
                fail_msg("%s at %lld: series %zu is %.17g, but %.17g in the range", text,
                         (long long)t, i, r->series[i].v[0], v ? *v : (double)NAN);
            tally->points++;
        }
        pql_result_free(r);
    }
    tally->compared++;
    pql_result_free(range_result);
    same_on_both(e, in_pieces, &q);
    q.step_ms = 7001;
    same_on_both(e, in_pieces, &q);
}

static void run_rounds(uint64_t seed, unsigned rounds, bool delayed)
{
    struct gen g = {.r = {seed}, .no_or = delayed};
    struct teststore *s = teststore_new();
    struct pql_source source = teststore_source(s);
    struct pql_engine_opts opts = {.per_step_stats = true,
                                   .features = {.experimental_functions = true,
                                                .binop_fill = true,
                                                .delayed_name_removal = delayed}};
    struct pql_engine *e = NULL, *in_pieces = NULL;
    struct tally tally = {0};
    struct nx_err err;

    assert_non_null(s);
    assert_ok(pql_engine_new(&e, &opts, &err), &err);
    opts.column_samples = 5;
    assert_ok(pql_engine_new(&in_pieces, &opts, &err), &err);
    buf_init(&g.b, 0);
    fill(&g, s);
    for (unsigned i = 0; i < rounds; i++) {
        buf_clear(&g.b);
        g.left = 8;
        vector(&g, 1 + below(&g, 4));
        compare(e, in_pieces, &source, buf_cstr(&g.b), &tally);
    }
    printf("seed %" PRIu64 ": %u compared at %u points, %u with an error\n", seed, tally.compared,
           tally.points, tally.failed);
    assert_true(tally.compared > rounds / 3);
    buf_done(&g.b);
    pql_engine_free(e);
    pql_engine_free(in_pieces);
    teststore_free(s);
}

static void a_range_query_is_its_instants(void **state)
{
    (void)state;
    run_rounds(setting("NX_SEED", 1), (unsigned)setting("NX_ROUNDS", 1500), false);
}

static void a_range_query_is_its_instants_with_names_that_go_late(void **state)
{
    (void)state;
    run_rounds(setting("NX_SEED", 2), (unsigned)setting("NX_ROUNDS", 800), true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_query_is_its_instants),
        cmocka_unit_test(a_range_query_is_its_instants_with_names_that_go_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
