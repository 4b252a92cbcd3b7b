/* test_downsample.c - the same queries over samples and over points of coarser resolutions: each claim of
 * docs/DOWNSAMPLING.md, with its bound.
 *
 * A day of made-up series, every 15 s, is loaded into a store that keeps samples, one that keeps points beside them,
 * and one that keeps points alone, of five minutes and of an hour. */
#include "tests/support/test.h"

#include <math.h>

#include "promql/promql.h"
#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/base/num.h"
#include "tests/promql/same.h"
#include "tests/support/simfs.h"

#define MIN   60000LL
#define HOUR  (60 * MIN)
#define T0    (1700000000000LL / (24 * HOUR) * (24 * HOUR))
#define HOURS 24
#define EVERY 15000LL
#define AT    3217 /* ms: when targets are scraped; not a multiple of anything */

static struct nx_err err;

enum made { REQUESTS, NOISE, LEVEL, GONE, EDGE, N_SERIES };
static const char *const names[] = {"requests_total", "noise", "level", "gone", "edge"};

/* Most that requests_total rises in 15 s; and what it is reset to. */
#define STEEPEST 12.0

static struct storage *samples, *beside, *alone;
static struct simfs *disks[3];
static struct pql_engine *engine;

static double next_value(enum made s, double last, int64_t k, struct test_random *r)
{
    switch (s) {
    case REQUESTS: /* falls every 67 minutes, amid windows, once twice in one */
        if (k % 269 == 200 || k == 1003 || k == 1009)
            return (double)test_random_below(r, 5);
        return last + (double)test_random_below(r, 1000) / 1000 * STEEPEST;
    case NOISE:
        return (double)test_random_below(r, 100000) / 1000 - 20;
    case LEVEL:
        return (double)(k / 500);
    default:
        return last + 1;
    }
}

/* GONE ends with a marker after 7 hours and 20 minutes and comes back for a while; EDGE has samples at whole minutes,
 * at the ends of windows among them. */
static void load(struct fs *fs)
{
    struct storage_import *im = NULL;

    assert_ok(storage_import_open(&im, fs, "data", 2 * HOUR, &err), &err);
    for (int s = 0; s < N_SERIES; s++) {
        struct label l = {STR(LABEL_NAME), STR(names[s])};
        struct labels ls = {&l, 1};
        struct test_random r = {(uint64_t)s + 1};
        double v = 0;
        uint32_t ref;
        assert_ok(storage_import_series(im, &ls, &ref, &err), &err);
        for (int64_t k = 0; k * EVERY < HOURS * HOUR; k++) {
            const int64_t t = T0 + k * EVERY + (s == EDGE ? 0 : AT);
            const int64_t ends = 7 * HOUR + 20 * MIN, again = 15 * HOUR + 2 * MIN;
            bool dead = s == GONE && k * EVERY >= ends && k * EVERY < again;
            v = next_value((enum made)s, v, k, &r);
            if (s == EDGE && k % 4)
                continue;
            if (dead && k * EVERY >= ends + EVERY)
                continue;
            assert_ok(
                storage_import_add(im, ref, t, dead ? num_from_bits(NUM_STALE_BITS) : v, &err),
                &err);
        }
    }
    assert_ok(storage_import_finish(im, NULL, NULL, &err), &err);
    storage_import_close(im);
}

static struct storage *open_store(struct simfs *sim, int64_t retention_ms,
                                  const struct storage_level *levels, size_t n)
{
    const struct storage_rules rules = {.levels = levels, .n_levels = n};
    struct storage_opts o = {.fs = simfs_fs(sim),
                             .dir = "data",
                             .retention_ms = retention_ms,
                             .max_block_ms = 2 * HOUR,
                             .rules = &rules,
                             .no_worker = true};
    struct storage *s = NULL;

    load(o.fs);
    assert_ok(storage_open(&s, &o, &err), &err);
    for (int i = 0; i < 3; i++)
        storage_tick(s, T0);
    return s;
}

static int open_all(void **state)
{
    static const struct storage_level both[] = {{2 * HOUR, 5 * MIN, 1000 * HOUR},
                                                {4 * HOUR, HOUR, 2000 * HOUR}};
    static const struct storage_level each[] = {{2 * HOUR, 5 * MIN, 13 * HOUR},
                                                {4 * HOUR, HOUR, 2000 * HOUR}};
    struct pql_engine_opts eo = {0};

    (void)state;
    log_setup(LOG_ERROR_LEVEL, LOG_FORMAT_LOGFMT);
    for (int i = 0; i < 3; i++)
        disks[i] = simfs_new((uint64_t)i);
    samples = open_store(disks[0], 0, NULL, 0);
    beside = open_store(disks[1], 0, both, 2);
    alone = open_store(disks[2], 6 * HOUR, each, 2);
    return pql_engine_new(&engine, &eo, &err);
}

static int close_all(void **state)
{
    (void)state;
    pql_engine_free(engine);
    storage_close(samples);
    storage_close(beside);
    storage_close(alone);
    for (int i = 0; i < 3; i++)
        simfs_free(disks[i]);
    return 0;
}

/* ---- asking ------------------------------------------------------------------------------------ */

struct times {
    int64_t start_ms, end_ms, step_ms;
};

static struct pql_result *ask(struct storage *s, const char *text, const struct times *tm)
{
    const struct pql_source source = pql_source_storage(s);
    struct pql_query q = {.text = STR(text),
                          .start_ms = tm->start_ms,
                          .end_ms = tm->end_ms,
                          .step_ms = tm->step_ms,
                          .source = &source};
    struct pql_result *r = NULL;

    if (pql_exec(engine, &q, &r, &err))
        fail_msg("%s: %s", text, err.text);
    return r;
}

/* The value of the only series at a time; NaN: none. */
static double at(const struct pql_result *r, int64_t t)
{
    assert_true(r->n_series <= 1);
    for (size_t i = 0; r->n_series && i < r->series[0].n; i++)
        if (r->series[0].t[i] == t)
            return r->series[0].v[i];
    return (double)NAN;
}

/* got lies between low - slack and high + slack at each step; what low has, got has, and nothing else. */
static void compare(const char *text, struct storage *s, const char *low, const char *high,
                    double slack, const struct times *tm)
{
    struct pql_result *got = ask(s, text, tm), *a = ask(samples, low, tm),
                      *b = ask(samples, high, tm);
    size_t seen = 0;

    for (int64_t t = tm->start_ms; t <= tm->end_ms; t += tm->step_ms) {
        const double v = at(got, t), x = at(a, t), y = at(b, t);
        const double by = slack + 1e-9 * fmax(fabs(x), fabs(y));
        seen += !isnan(v);
        if (isnan(v) != isnan(x) || v < x - by || v > y + by)
            fail_msg("%s at %lld min: %.17g is not between %.17g and %.17g (%g)", text,
                     (long long)((t - T0) / MIN), v, x, y, slack);
    }
    assert_true(seen > 0);
    pql_result_free(got);
    pql_result_free(a);
    pql_result_free(b);
}

static void equal(const char *text, struct storage *s, double slack, const struct times *tm)
{
    compare(text, s, text, text, slack, tm);
}

static void same_bits(const char *text, const struct times *tm)
{
    struct pql_result *a = ask(samples, text, tm), *b = ask(beside, text, tm);

    assert_int_equal(a->n_series, b->n_series);
    for (size_t i = 0; i < a->n_series; i++) {
        assert_int_equal(a->series[i].n, b->series[i].n);
        assert_memory_equal(a->series[i].v, b->series[i].v, a->series[i].n * sizeof(double));
    }
    pql_result_free(a);
    pql_result_free(b);
}

/* ---- claims ------------------------------------------------------------------------------------ */

static const struct times whole = {T0 + 3 * HOUR, T0 + HOURS *HOUR, HOUR},
                          odd = {T0 + 3 * HOUR + 7 * MIN + 11000, T0 + 23 * HOUR, 17 * MIN},
                          fives = {T0 + 3 * HOUR + 5 * MIN, T0 + HOURS *HOUR, 10 * MIN};

static void the_stores_hold_what_they_should(void **state)
{
    struct storage_stats st;

    (void)state;
    storage_get_stats(samples, &st);
    assert_int_equal(st.blocks, 12);
    assert_int_equal(st.downsampled, 0);
    storage_get_stats(beside, &st);
    assert_int_equal(st.downsampled, 11 + 10); /* the newest is 0 hours old, the next 2, ... */
    assert_int_equal(st.blocks, 12 + 11 + 10);
    storage_get_stats(alone, &st);
    assert_int_equal(st.downsampled, 6 + 10); /* what was old enough went to hours at once */
    /* Samples of 6 hours, points of 5 minutes from 2 to 13 hours of age, those of an hour from 4 on. */
    assert_int_equal(st.blocks, 3 + 6 + 10);
}

static void over_whole_windows_most_answers_are_the_same(void **state)
{
    static const char *const exact[] = {
        "requests_total",
        "noise",
        "gone",
        "edge",
        "noise offset 1h",
        "min_over_time(noise[2h])",
        "max_over_time(noise[2h])",
        "sum_over_time(noise[3h])",
        "count_over_time(noise[3h])",
        "avg_over_time(noise[3h])",
        "last_over_time(noise[1h])",
        "avg_over_time(edge[1h])",
        "count_over_time(edge[2h])",
        "count_over_time(gone[2h])",
        "max_over_time(gone[1h])",
        "present_over_time(gone[1h])",
        "avg_over_time(level[2h])",
        "sum_over_time(requests_total[2h] offset 1h)",
        "max_over_time(requests_total[1h] @ 1700006400)",
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(exact); i++) {
        equal(exact[i], beside, 0, &whole);
        equal(exact[i], alone, 0, &whole);
    }
    equal("max_over_time(noise[10m])", beside, 0, &fives);
    equal("sum_over_time(noise[20m])", beside, 0, &fives);
    equal("count_over_time(edge[5m])", beside, 0, &fives);
    equal("noise", beside, 0, &fives);
}

/* Rates from samples are as from the samples between: they know nothing of the first interval of a range and take it to
 * be as the others. Points know it. */
static void increases_count_every_reset(void **state)
{
    (void)state;
    equal("increase(requests_total[1h])", beside, 2 * STEEPEST, &whole);
    equal("increase(requests_total[1h])", alone, 2 * STEEPEST, &whole);
    equal("rate(requests_total[2h])", alone, 2 * STEEPEST / 7200, &whole);
    equal("increase(requests_total[10m])", beside, 2 * STEEPEST, &fives);
    equal("sum(rate(requests_total[3h]))", alone, 2 * STEEPEST / 10800, &whole);
    /* What was not summed over a fall would be off by hundreds. */
    assert_true(STEEPEST * 4 * 60 > 1000);
}

static void with_samples_there_no_answer_is_worse(void **state)
{
    static const char *const any[] = {
        "requests_total",
        "rate(requests_total[20m])",
        "quantile_over_time(0.9, noise[1h])",
        "stddev_over_time(noise[1h])",
        "delta(noise[1h])",
        "irate(requests_total[1h])",
        "resets(requests_total[2h])",
        "changes(noise[1h])",
        "deriv(noise[1h])",
        "min_over_time(noise[7m])",
    };
    static const char *const by_shape[] = {"quantile_over_time(0.9, noise[1h])", "delta(noise[1h])",
                                           "resets(requests_total[2h])",
                                           "irate(requests_total[1h])"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(any); i++)
        same_bits(any[i], &odd);
    for (size_t i = 0; i < NX_COUNT(by_shape); i++)
        same_bits(by_shape[i], &whole);
}

/* Windows belong to a range as a whole, by their last sample: a range is as much as a window longer or shorter. */
static void over_parts_of_windows_answers_are_a_window_off_at_most(void **state)
{
    (void)state;
    compare("max_over_time(noise[4h])", alone, "max_over_time(noise[3h] offset 1h)",
            "max_over_time(noise[5h])", 0, &odd);
    compare("min_over_time(noise[4h])", alone, "min_over_time(noise[5h])",
            "min_over_time(noise[3h] offset 1h)", 0, &odd);
    compare("count_over_time(noise[4h])", alone, "count_over_time(noise[3h])",
            "count_over_time(noise[5h])", 0, &odd);
    compare("sum_over_time(requests_total[4h])", alone,
            "sum_over_time(requests_total[2h] offset 1h)", "sum_over_time(requests_total[5h])", 0,
            &odd);
    equal("rate(requests_total[4h])", alone, STEEPEST / 15 * 0.2, &odd);
    equal("avg_over_time(level[4h])", alone, 1, &odd);
}

static void ranges_shorter_than_a_window_are_taken_for_one(void **state)
{
    const double mean = STEEPEST / 2 / 15; /* of the rate */
    const struct times old = {T0 + 3 * HOUR, T0 + 10 * HOUR, 13 * MIN};

    (void)state;
    compare("rate(requests_total[5m])", alone, "requests_total * 0 + 0.3",
            "requests_total * 0 + 0.5", 0, &old);
    assert_true(mean > 0.3 && mean < 0.5);
    compare("increase(requests_total[5m])", alone, "requests_total * 0 + 90",
            "requests_total * 0 + 150", 0, &old);
    compare("count_over_time(noise[5m])", alone, "noise * 0 + 20", "noise * 0 + 20", 0, &old);
    compare("avg_over_time(noise[5m])", alone, "avg_over_time(noise[1h]) - 25",
            "avg_over_time(noise[1h]) + 25", 0, &old);
}

/* Every instant finds the value of the window before. */
static void instants_between_points_have_values_until_the_series_ends(void **state)
{
    const struct times old = {T0 + 2 * HOUR, T0 + 10 * HOUR, 7 * MIN};
    struct pql_result *r = ask(alone, "noise", &old), *gone = ask(alone, "gone", &old);

    (void)state;
    for (int64_t t = old.start_ms; t <= old.end_ms; t += old.step_ms) {
        assert_false(isnan(at(r, t)));
        if (t < T0 + 7 * HOUR + 20 * MIN) /* it ended amid a window of an hour */
            assert_false(isnan(at(gone, t)));
        if (t > T0 + 7 * HOUR + 21 * MIN)
            assert_true(isnan(at(gone, t)));
    }
    pql_result_free(r);
    pql_result_free(gone);
}

/* What only the order of samples tells is told from the last of each window. */
static void shapes_are_those_of_the_last_values(void **state)
{
    const struct times old = {T0 + 6 * HOUR, T0 + 10 * HOUR, HOUR};
    struct pql_result *r = ask(alone, "quantile_over_time(0.5, noise[4h])", &old);

    (void)state;
    for (int64_t t = old.start_ms; t <= old.end_ms; t += old.step_ms)
        assert_true(at(r, t) >= -20 && at(r, t) <= 80);
    pql_result_free(r);
    compare("delta(level[4h])", alone, "delta(level[4h]) - 1", "delta(level[4h]) + 1", 0, &old);
    compare("resets(requests_total[4h])", alone,
            "count_over_time((resets(requests_total[1h]) > 0)[4h:1h])",
            "resets(requests_total[4h])", 0, &old); /* once a window at most */
}

static void names_and_labels_are_as_before(void **state)
{
    struct storage *const all[] = {samples, beside, alone};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(all); i++) {
        struct arena *a = arena_new(0);
        struct nx_slice *v;
        struct querier *q;
        size_t n;
        assert_ok(storage_querier(all[i], T0, T0 + 5 * HOUR, &q, &err), &err);
        assert_ok(q->ops->label_values(q, STR(LABEL_NAME), NULL, 0, T0, T0 + 5 * HOUR, 0, a, &v, &n,
                                       &err),
                  &err);
        assert_int_equal(n, N_SERIES);
        assert_ok(q->ops->label_names(q, NULL, 0, T0, T0 + 5 * HOUR, 0, a, &v, &n, &err), &err);
        assert_int_equal(n, 1);
        querier_close(q);
        arena_free(a);
    }
}

/* Neither sharing nor pieces may mix what points tell one function with what they tell another. */
static void uses_and_pieces_read_points_for_themselves(void **state)
{
    static const char *const shared[] = {
        "rate(requests_total[1h]) / rate(requests_total[1h])",
        "max_over_time(gone[1h]) - min_over_time(gone[1h])",
        "avg_over_time(gone[20m]) / count_over_time(gone[20m])",
        "sum(increase(requests_total[2m])) / count(resets(requests_total[2m]))",
        "gone / (gone > 0)",
        "count(noise) + sum(noise)"};
    static const char *const cut[] = {"gone",
                                      "max_over_time(gone[1h])",
                                      "avg_over_time(gone[1h])",
                                      "avg_over_time(gone[2m])",
                                      "count_over_time(gone[40m])",
                                      "sum_over_time(gone[2m])",
                                      "last_over_time(gone[3m])"};
    struct storage *const all[] = {samples, beside, alone};
    struct pql_engine *alone_engine = NULL, *in_pieces = NULL;

    (void)state;
    assert_ok(pql_engine_new(&alone_engine, &(struct pql_engine_opts){.no_sharing = true}, &err),
              &err);
    assert_ok(pql_engine_new(&in_pieces, &(struct pql_engine_opts){.column_samples = 100}, &err),
              &err);
    for (size_t i = 0; i < NX_COUNT(all); i++) {
        const struct pql_source source = pql_source_storage(all[i]);
        struct pql_query q = {.start_ms = T0, .end_ms = T0 + 12 * HOUR, .source = &source};
        for (q.step_ms = 7 * MIN; q.step_ms <= HOUR; q.step_ms += 53 * MIN) {
            for (size_t k = 0; k < NX_COUNT(shared); k++) {
                q.text = STR(shared[k]);
                assert_true(same_on_both(alone_engine, engine, &q));
            }
            for (size_t k = 0; k < NX_COUNT(cut); k++) {
                q.text = STR(cut[k]);
                assert_true(same_on_both(engine, in_pieces, &q));
            }
        }
    }
    pql_engine_free(alone_engine);
    pql_engine_free(in_pieces);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stores_hold_what_they_should),
        cmocka_unit_test(over_whole_windows_most_answers_are_the_same),
        cmocka_unit_test(increases_count_every_reset),
        cmocka_unit_test(with_samples_there_no_answer_is_worse),
        cmocka_unit_test(over_parts_of_windows_answers_are_a_window_off_at_most),
        cmocka_unit_test(ranges_shorter_than_a_window_are_taken_for_one),
        cmocka_unit_test(instants_between_points_have_values_until_the_series_ends),
        cmocka_unit_test(shapes_are_those_of_the_last_values),
        cmocka_unit_test(names_and_labels_are_as_before),
        cmocka_unit_test(uses_and_pieces_read_points_for_themselves),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
