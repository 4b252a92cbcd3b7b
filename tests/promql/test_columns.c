/* test_columns.c - decoded columns of a store on disk: what they take is the query's memory, and that is bounded
 * by its windows and not by what it reads. */
#include "tests/support/test.h"

#include <math.h>

#include "promql/promql.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "tests/promql/same.h"

#define T0 1700000000000LL
/* Samples of the longest series, a second apart. */
#define LONG (TEST_STRIDE > 1 ? 60000 : 200000)

static struct {
    struct test_tmpdir dir;
    struct storage *store;
    struct pql_source source;
} f;

static struct nx_err err;

static double value_at(unsigned series, int64_t k)
{
    return series == 1 ? (double)(k % 1000) / 7 : (double)(k * (series + 1) % 100000);
}

#define SERIES 3
static const int64_t every_ms[SERIES] = {1000, 15000, 3000};

/* What a series has in [from, to) of T0; each hundredth sample is missing. */
static void append(struct storage_group *g, uint32_t col, unsigned series, int64_t from, int64_t to)
{
    static struct storage_sample v[1000];
    struct storage_appended done;
    size_t n = 0;

    for (int64_t k = (from + every_ms[series] - 1) / every_ms[series]; k * every_ms[series] < to;
         k++)
        if (k % 100 != 50)
            v[n++] = (struct storage_sample){col, T0 + k * every_ms[series], value_at(series, k)};
    assert_ok(storage_group_append_samples(g, v, n, &done, &err), &err);
    assert_int_equal(done.appended, n);
}

/* m_total{i="0"} and so on, side by side in time as they would come. */
static void fill(void)
{
    struct storage_group *g[SERIES];
    uint32_t col[SERIES];

    for (unsigned i = 0; i < SERIES; i++) {
        char number[16];
        struct label l[2] = {{STR(LABEL_NAME), STR("m_total")}, {STR("i"), {0}}};
        struct labels ls = {l, 2};

        snprintf(number, sizeof number, "%u", i);
        l[1].value = STR(number);
        assert_ok(storage_group_open_loose(f.store, &g[i], &err), &err);
        assert_ok(storage_group_column(g[i], &ls, &col[i], NULL, &err), &err);
    }
    for (int64_t t = 0; t < LONG * 1000; t += 1000000)
        for (unsigned i = 0; i < SERIES; i++)
            append(g[i], col[i], i, t, t + 1000000);
    for (unsigned i = 0; i < SERIES; i++)
        storage_group_close(g[i]);
}

static int setup(void **state)
{
    (void)state;
    log_setup(LOG_ERROR_LEVEL, LOG_FORMAT_LOGFMT);
    test_tmpdir_new(&f.dir);
    struct storage_opts o = {.fs = fs_real(), .dir = f.dir.path, .no_worker = true};
    assert_ok(storage_open(&f.store, &o, &err), &err);
    fill();
    struct storage_stats st;
    storage_tick(f.store,
                 T0 + LONG * 1000); /* most of it goes to blocks, the rest stays in the head */
    storage_get_stats(f.store, &st);
    assert_in_range(st.blocks, 2, 100);
    f.source = pql_source_storage(f.store);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    storage_close(f.store);
    test_tmpdir_done(&f.dir);
    return 0;
}

static struct pql_engine *engine_of(struct pql_engine_opts o)
{
    struct pql_engine *e;

    o.features.experimental_functions = o.features.extended_range = true;
    assert_ok(pql_engine_new(&e, &o, &err), &err);
    return e;
}

static nx_status ask(struct pql_engine *e, const char *text, int64_t start, int64_t end,
                     int64_t step, struct pql_result **r)
{
    struct pql_query q = {.text = STR(text),
                          .instant = step == 0,
                          .start_ms = T0 + start,
                          .end_ms = T0 + end,
                          .step_ms = step,
                          .source = &f.source};

    return pql_exec(e, &q, r, &err);
}

static void a_window_counts_against_the_bytes_of_a_query(void **state)
{
    struct memory *m = memory_new(1u << 30, NULL, NULL);
    struct pql_engine *small =
        engine_of((struct pql_engine_opts){.memory = m, .max_bytes = LONG * 10});
    struct pql_engine *large =
        engine_of((struct pql_engine_opts){.memory = m, .max_bytes = LONG * 80});
    struct memory_stats st;
    struct pql_result *r;
    char window[64];

    (void)state;
    snprintf(window, sizeof window, "count_over_time(m_total{i='0'}[%ds])", LONG);
    assert_status(ask(small, window, LONG * 1000, 0, 0, &r), NX_EXEC);
    assert_non_null(strstr(err.text, "bytes of memory in query execution (--query.max-memory)"));
    assert_ok(ask(large, window, LONG * 1000, 0, 0, &r), &err);
    assert_int_equal(r->n_series, 1);
    assert_true(r->series[0].v[0] == LONG / 100 * 99 - 1);
    pql_result_free(r);
    assert_ok(ask(small, "count_over_time(m_total{i='0'}[200s])", LONG * 1000, 0, 0, &r), &err);
    pql_result_free(r);
    memory_get_stats(m, &st);
    assert_int_equal(st.query_bytes, 0);
    pql_engine_free(small);
    pql_engine_free(large);
    memory_free(m);
}

static void pieces_change_nothing(void **state)
{
    static const char *const functions[] = {"avg_over_time",
                                            "changes",
                                            "count_over_time",
                                            "delta",
                                            "deriv",
                                            "first_over_time",
                                            "idelta",
                                            "increase",
                                            "irate",
                                            "last_over_time",
                                            "mad_over_time",
                                            "max_over_time",
                                            "min_over_time",
                                            "rate",
                                            "present_over_time",
                                            "resets",
                                            "stddev_over_time",
                                            "sum_over_time",
                                            "ts_of_last_over_time",
                                            "ts_of_max_over_time",
                                            "stdvar_over_time",
                                            "absent_over_time"};
    static const char *const others[] = {"m_total",
                                         "sum(m_total)",
                                         "timestamp(m_total)",
                                         "m_total offset 7m",
                                         "m_total @ 1700100000",
                                         "m_total smoothed",
                                         "rate(m_total[10m] anchored)",
                                         "rate(m_total[10m] smoothed)",
                                         "resets(m_total[10m] anchored)",
                                         "quantile_over_time(0.9, m_total[10m])",
                                         "quantile_over_time(time() / 1700100000, m_total[10m])",
                                         "predict_linear(m_total[10m], 3600)",
                                         "predict_linear(m_total[10m], time() - 1700000000)",
                                         "double_exponential_smoothing(m_total[10m], 0.5, 0.1)",
                                         "max_over_time(rate(m_total[2m])[10m:30s])",
                                         "rate(m_total[1d])",
                                         "rate(m_total[10m] offset -1h)"};
    struct pql_engine *whole = engine_of((struct pql_engine_opts){.column_samples = UINT32_MAX});
    struct pql_engine *cut = engine_of((struct pql_engine_opts){.column_samples = 1000});
    struct pql_query q = {.start_ms = T0 - 600000,
                          .end_ms = T0 + LONG * 1000,
                          .step_ms = 613000,
                          .source = &f.source};
    char text[128];

    (void)state;
    for (size_t i = 0; i < NX_COUNT(functions); i++) {
        for (size_t k = 0; k < 2; k++) {
            snprintf(text, sizeof text, "%s(m_total[%s])", functions[i], k ? "3h" : "90s");
            q.text = STR(text);
            assert_true(same_on_both(whole, cut, &q));
        }
    }
    for (size_t i = 0; i < NX_COUNT(others); i++) {
        q.text = STR(others[i]);
        assert_true(same_on_both(whole, cut, &q));
    }
    pql_engine_free(whole);
    pql_engine_free(cut);
}

/* Of the whole of a query's memory but its result. */
static uint64_t peak_bytes(const char *text, int64_t end, int64_t step)
{
    uint64_t least = 64u << 10, most = 64u << 20;

    while (most > least + least / 16) { /* the least bound with which it works */
        const uint64_t mid = least + (most - least) / 2;
        struct pql_engine *e =
            engine_of((struct pql_engine_opts){.max_bytes = mid, .column_samples = LONG / 20});
        struct pql_result *r = NULL;
        nx_status st = ask(e, text, 0, end, step, &r);

        if (st && !strstr(err.text, "--query.max-memory"))
            fail_msg("%s: %s", text, err.text);
        if (st)
            least = mid;
        else
            most = mid;
        pql_result_free(r);
        pql_engine_free(e);
    }
    return most;
}

static void memory_is_bounded_by_the_window(void **state)
{
    static const char *const texts[] = {"max_over_time(m_total{i='0'}[5m])", "m_total{i='0'}",
                                        "sum(rate(m_total{i='0'}[5m]))"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        /* A tenth of the samples and all, as many steps of each. */
        uint64_t some = peak_bytes(texts[i], LONG * 100, LONG),
                 many = peak_bytes(texts[i], LONG * 1000, LONG * 10);

        printf("%s: %llu KiB, %llu KiB for ten times the samples\n", texts[i],
               (unsigned long long)some >> 10, (unsigned long long)many >> 10);
        assert_in_range(many, 0, some + (256u << 10)); /* a chunk more or less */
        assert_in_range(many, 0, LONG * 8);            /* LONG * 16 it would be as a whole */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_counts_against_the_bytes_of_a_query),
        cmocka_unit_test(pieces_change_nothing),
        cmocka_unit_test(memory_is_bounded_by_the_window),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
