/* test_columns.c - decoded columns of a store on disk: what they take is the query's memory. */
#include "tests/support/test.h"

#include <math.h>

#include "promql/promql.h"
#include "src/base/memory.h"

#define T0   1700000000000LL
#define LONG 200000 /* samples of the longest series, a second apart */

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

/* m{i="series"}: n samples, `every` ms apart; each hundredth is missing. */
static void fill(unsigned series, int64_t n, int64_t every)
{
    char number[16];
    struct label l[2] = {{STR(LABEL_NAME), STR("m_total")}, {STR("i"), {0}}};
    struct labels ls = {l, 2};
    struct storage_sample *v = malloc((size_t)n * sizeof *v);
    struct storage_group *g;
    uint32_t col;
    size_t had = 0;

    snprintf(number, sizeof number, "%u", series);
    l[1].value = STR(number);
    assert_non_null(v);
    assert_ok(storage_group_open_loose(f.store, &g, &err), &err);
    assert_ok(storage_group_column(g, &ls, &col, NULL, &err), &err);
    for (int64_t k = 0; k < n; k++)
        if (k % 100 != 50)
            v[had++] = (struct storage_sample){col, T0 + k * every, value_at(series, k)};
    assert_ok(storage_group_append_samples(g, v, had, NULL, &err), &err);
    storage_group_close(g);
    free(v);
}

static int setup(void **state)
{
    (void)state;
    test_tmpdir_new(&f.dir);
    struct storage_opts o = {.fs = fs_real(), .dir = f.dir.path, .no_worker = true};
    assert_ok(storage_open(&f.store, &o, &err), &err);
    fill(0, LONG, 1000);
    fill(1, LONG / 15, 15000);
    fill(2, LONG / 3, 3000);
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
        engine_of((struct pql_engine_opts){.memory = m, .max_bytes = 2u << 20});
    struct pql_engine *large =
        engine_of((struct pql_engine_opts){.memory = m, .max_bytes = 16u << 20});
    struct memory_stats st;
    struct pql_result *r;
    const char *window = "count_over_time(m_total{i='0'}[200000s])";

    (void)state;
    assert_status(ask(small, window, LONG * 1000, 0, 0, &r), NX_EXEC);
    assert_string_equal(err.text,
                        "query needs more than its 2097152 bytes of memory in query execution "
                        "(--query.max-memory)");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_counts_against_the_bytes_of_a_query),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
