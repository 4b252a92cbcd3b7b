/* test_ahead.c - helpers change nothing: what a query gives with rows made by several threads, a few at a time, is
 * what it gives without, to the bit: results, annotations, statistics, errors. NX_SEED, NX_ROUNDS as in
 * test_random.c. */
#include "tests/promql/expressions.h"
#include "tests/promql/picks.h"
#include "tests/promql/same.h"

#include <sched.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/thread.h"
#include "storage/storage.h"

/* ---- a source whose reader gives helpers a chance ------------------------------------------------- */

struct around {
    struct querier q;
    struct querier *inner;
    struct pql_source source;
    pthread_t consumer;
    bool patient;              /* the consumer waits a moment for helpers at each read */
    unsigned reads, by_helper; /* atomic */
    /* What happens at the read of the series whose ref is this; UINT64_MAX: at none. */
    uint64_t at;
    nx_status (*then)(struct around *a, struct nx_err *err);
    int cancel; /* atomic */
};

static nx_status around_select(struct querier *q, const struct matcher *m, size_t n, int64_t mint,
                               int64_t maxt, struct arena *a, struct series_list *out,
                               struct nx_err *err)
{
    struct querier *inner = ((struct around *)q)->inner;

    return inner->ops->select(inner, m, n, mint, maxt, a, out, err);
}

static void be_patient(const struct around *a)
{
    const unsigned seen = __atomic_load_n(&a->by_helper, __ATOMIC_RELAXED);

    for (int i = 0; i < 20 && __atomic_load_n(&a->by_helper, __ATOMIC_RELAXED) == seen; i++)
        sched_yield();
}

static nx_status around_read(struct querier *q, const struct series *series, int64_t mint,
                             int64_t maxt, struct column *c, struct nx_err *err)
{
    struct around *a = (struct around *)q;
    nx_status st = NX_OK;

    __atomic_fetch_add(&a->reads, 1, __ATOMIC_RELAXED);
    if (!pthread_equal(pthread_self(), a->consumer))
        __atomic_fetch_add(&a->by_helper, 1, __ATOMIC_RELAXED);
    else if (a->patient)
        be_patient(a);
    if (series->ref == a->at)
        st = a->then(a, err);
    return st ? st : a->inner->ops->read(a->inner, series, mint, maxt, c, err);
}

static void around_close(struct querier *q)
{
    querier_close(((struct around *)q)->inner);
}

static nx_status around_open(void *ctx, int64_t mint, int64_t maxt, struct querier **out,
                             struct nx_err *err)
{
    static const struct querier_ops ops = {.select = around_select,
                                           .read = around_read,
                                           .close = around_close,
                                           .reads_side_by_side = true};
    struct around *a = ctx;

    a->q.ops = &ops;
    a->consumer = pthread_self();
    *out = &a->q;
    return a->source.open(a->source.ctx, mint, maxt, &a->inner, err);
}

static struct around around_of(const struct pql_source *source)
{
    return (struct around){.source = *source, .patient = true, .at = UINT64_MAX};
}

static struct pql_engine *engine_of(uint32_t helpers, uint32_t ahead_rows,
                                    struct pql_engine_opts opts)
{
    struct pql_engine *e = NULL;
    struct nx_err err;

    opts.helpers = helpers;
    opts.ahead_rows = ahead_rows;
    opts.per_step_stats = true;
    opts.features.experimental_functions = opts.features.binop_fill = true;
    opts.features.extended_range = true;
    assert_ok(pql_engine_new(&e, &opts, &err), &err);
    return e;
}

/* ---- random expressions ---------------------------------------------------------------------------- */

static void run_rounds(uint64_t seed, unsigned rounds, bool delayed, size_t column_samples)
{
    const struct pql_engine_opts opts = {.features = {.delayed_name_removal = delayed},
                                         .column_samples = column_samples};
    struct gen g = {.r = {seed}, .no_or = delayed};
    struct teststore *s = teststore_new();
    struct pql_source inner = teststore_source(s);
    struct around a = around_of(&inner);
    struct pql_source source = {around_open, &a};
    struct pql_engine *alone = engine_of(UINT32_MAX, 0, opts), *helped[3];
    unsigned compared = 0;

    for (uint32_t i = 0; i < 3; i++)
        helped[i] = engine_of(1 + i, 1 + i, opts);
    buf_init(&g.b, 0);
    fill(&g, s);
    for (unsigned i = 0; i < rounds; i++) {
        struct pql_query q = {
            .end_ms = 500000, .step_ms = 61000, .per_step_stats = true, .source = &source};

        buf_clear(&g.b);
        g.left = 8;
        vector(&g, 1 + below(&g, 4));
        q.text = buf_view(&g.b);
        q.instant = i % 4 == 0;
        compared += same_on_both(alone, helped[i % 3], &q);
    }
    printf("seed %" PRIu64 ": %u compared, %u of %u reads by helpers\n", seed, compared,
           a.by_helper, a.reads);
    assert_true(compared > rounds / 3);
    assert_true(a.by_helper > a.reads / 20); /* of both engines */
    buf_done(&g.b);
    pql_engine_free(alone);
    for (int i = 0; i < 3; i++)
        pql_engine_free(helped[i]);
    teststore_free(s);
}

static void random_expressions_give_the_same(void **state)
{
    (void)state;
    run_rounds(setting("NX_SEED", 11), (unsigned)setting("NX_ROUNDS", 1500 / TEST_STRIDE), false,
               0);
}

static void and_with_names_that_go_late(void **state)
{
    (void)state;
    run_rounds(setting("NX_SEED", 12), (unsigned)setting("NX_ROUNDS", 800 / TEST_STRIDE), true, 0);
}

static void and_with_series_in_pieces(void **state)
{
    (void)state;
    run_rounds(setting("NX_SEED", 13), (unsigned)setting("NX_ROUNDS", 800 / TEST_STRIDE), false, 5);
}

/* ---- what ends a query ----------------------------------------------------------------------------- */

#define SERIES 40

/* m_total, w{i=""}: 40 each; w is no counter by its name. */
static struct teststore *filled_with(int series)
{
    struct teststore *s = teststore_new();
    struct nx_err err;

    assert_non_null(s);
    for (int i = 0; i < 2 * series; i++) {
        char number[16];
        struct label l[2] = {{STR(LABEL_NAME), STR(i < series ? "m_total" : "w")}, {STR("i"), {0}}};
        struct labels ls = {l, 2};

        snprintf(number, sizeof number, "%02d", i % series);
        l[1].value = STR(number);
        for (int64_t t = 0; t <= 600000; t += 5000)
            assert_ok(teststore_add(s, &ls, t, (double)(t * (i + 3) % 70000) / 7, &err), &err);
    }
    return s;
}

static struct teststore *filled(void)
{
    return filled_with(SERIES);
}

static struct pql_query query_of(const char *text, const struct pql_source *source)
{
    return (struct pql_query){
        .text = STR(text), .start_ms = 0, .end_ms = 600000, .step_ms = 10000, .source = source};
}

static const char *const texts[] = {
    "m_total",
    "sum by (i) (rate(m_total[1m]))",
    "rate(w[1m]) * 2 + 1",
    "quantile_over_time(2, w[2m])",
    "max_over_time(rate(w[1m])[3m:20s])",
    "topk(3, -m_total) / on (i) w",
    "double_exponential_smoothing(w[2m], 0.5, 0.5)",
};

/* Each limit from none at all to plenty: what fails fails with the same words, what does not gives the same. */
static void too_many_samples_are_too_many_for_both(void **state)
{
    struct teststore *s = filled();
    struct pql_source inner = teststore_source(s);
    struct around a = around_of(&inner);
    struct pql_source source = {around_open, &a};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        unsigned good = 0, bad = 0;

        for (uint64_t most = 20; most < 20000; most += most / 3 * TEST_STRIDE) {
            const struct pql_engine_opts opts = {.max_samples = most};
            struct pql_engine *alone = engine_of(UINT32_MAX, 0, opts);
            struct pql_engine *helped = engine_of(2, 1 + (uint32_t)most % 3, opts);
            struct pql_query q = query_of(texts[i], &source);

            if (same_on_both(alone, helped, &q))
                good++;
            else
                bad++;
            pql_engine_free(alone);
            pql_engine_free(helped);
        }
        assert_true(bad > 0 && (good > 0 || TEST_STRIDE > 1));
    }
    assert_true(a.by_helper > 0);
    teststore_free(s);
}

static nx_status fail_to_read(struct around *a, struct nx_err *err)
{
    return nx_fail(err, NX_CORRUPT, "page %d: checksum does not match", (int)a->at);
}

static void a_series_that_cant_be_read_fails_both(void **state)
{
    struct teststore *s = filled();
    struct pql_source inner = teststore_source(s);
    struct around a = around_of(&inner);
    struct pql_source source = {around_open, &a};
    struct pql_engine *alone = engine_of(UINT32_MAX, 0, (struct pql_engine_opts){0});
    struct pql_engine *helped = engine_of(2, 2, (struct pql_engine_opts){0});
    unsigned bad = 0;

    (void)state;
    a.then = fail_to_read;
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        struct pql_query q = query_of(texts[i], &source);

        for (a.at = 0; a.at < 2 * SERIES; a.at += TEST_STRIDE)
            bad += !same_on_both(alone, helped, &q);
    }
    assert_in_range(bad, NX_COUNT(texts) * SERIES / TEST_STRIDE / 2, 2 * NX_COUNT(texts) * SERIES);
    pql_engine_free(alone);
    pql_engine_free(helped);
    teststore_free(s);
}

static nx_status call_off(struct around *a, struct nx_err *err)
{
    (void)err;
    __atomic_store_n(&a->cancel, 1, __ATOMIC_RELAXED);
    return NX_OK;
}

static nx_status take_a_minute(struct around *a, struct nx_err *err)
{
    (void)a, (void)err;
    clock_fake_advance(60000);
    return NX_OK;
}

/* Wherever it happens, whoever is reading: the query ends soon. */
static void a_query_that_is_called_off_or_late_ends(void **state)
{
    struct teststore *s = filled();
    struct pql_source inner = teststore_source(s);
    struct around a = around_of(&inner);
    struct pql_source source = {around_open, &a};
    struct pql_engine *e = engine_of(2, 2, (struct pql_engine_opts){.timeout_ms = 30000});
    struct nx_err err;

    (void)state;
    clock_fake_set(1700000000000LL);
    for (a.at = 0; a.at < SERIES; a.at += TEST_STRIDE) {
        struct pql_query q = query_of("sum(m_total)", &source);
        struct pql_result *r = NULL;

        a.then = call_off;
        a.cancel = 0;
        a.reads = 0;
        q.cancel = &a.cancel;
        if (pql_exec(e, &q, &r, &err) == NX_OK) { /* the last one was being read */
            assert_int_equal(a.reads, SERIES);
            pql_result_free(r);
        } else {
            assert_non_null(strstr(err.text, "canceled"));
        }
        a.then = take_a_minute;
        q.cancel = NULL;
        if (pql_exec(e, &q, &r, &err) == NX_OK)
            pql_result_free(r);
        else
            assert_non_null(strstr(err.text, "timed out"));
    }
    clock_fake_off();
    pql_engine_free(e);
    teststore_free(s);
}

/* ---- memory ---------------------------------------------------------------------------------------- */

static uint64_t use_nothing(void *ctx)
{
    (void)ctx;
    return 1 << 20;
}

/* What helpers take is the query's, and given back. */
static void memory_of_helpers_is_the_query_s(void **state)
{
    struct teststore *s = filled();
    struct pql_source inner = teststore_source(s);
    struct around a = around_of(&inner);
    struct pql_source source = {around_open, &a};
    struct memory *m = memory_new(1u << 30, use_nothing, NULL);
    struct memory_stats st;
    unsigned good = 0, bad = 0;

    (void)state;
    for (uint64_t bytes = 20000; bytes < 600000; bytes += bytes / 8) {
        const struct pql_engine_opts opts = {.memory = m, .max_bytes = bytes};
        struct pql_engine *helped = engine_of(2, 2, opts);

        for (size_t i = 0; i < NX_COUNT(texts); i++) {
            struct pql_query q = query_of(texts[i], &source);
            struct pql_result *r = NULL;
            struct nx_err err;

            if (pql_exec(helped, &q, &r, &err) == NX_OK) {
                good++;
                pql_result_free(r);
            } else {
                bad++;
                assert_non_null(strstr(err.text, "--query.max-memory"));
            }
            memory_get_stats(m, &st);
            assert_int_equal(st.query_bytes, 0);
        }
        pql_engine_free(helped);
    }
    assert_true(good > 0 && bad > 0);
    assert_true(a.by_helper > 0);
    memory_free(m);
    teststore_free(s);
}

static bool has_enough(const struct pql_query *q, uint64_t bytes)
{
    struct pql_engine *e = engine_of(UINT32_MAX, 0, (struct pql_engine_opts){.max_bytes = bytes});
    struct pql_result *r = NULL;
    const bool enough = pql_exec(e, q, &r, NULL) == NX_OK;

    pql_result_free(r);
    pql_engine_free(e);
    return enough;
}

/* The least that a query needs alone, nearly. */
static uint64_t need_of(const struct pql_query *q)
{
    uint64_t enough = 1u << 26, too_little = 0;

    while (enough - too_little > 256) {
        const uint64_t mid = too_little + (enough - too_little) / 2;

        if (has_enough(q, mid))
            enough = mid;
        else
            too_little = mid;
    }
    return enough;
}

/* What has enough alone has enough with helpers. */
static void no_query_fails_for_the_memory_of_its_helpers(void **state)
{
    struct teststore *s = filled_with(4 * SERIES);
    struct pql_source inner = teststore_source(s);
    struct around a = around_of(&inner);
    struct pql_source source = {around_open, &a};
    struct pql_engine *alone = engine_of(UINT32_MAX, 0, (struct pql_engine_opts){0});

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        struct pql_query q = query_of(texts[i], &source);
        const uint64_t need = need_of(&q);

        for (uint64_t more = 0; more < need;
             more += (more / 4 + need / 200) * (TEST_STRIDE > 1 ? 4 : 1)) {
            const struct pql_engine_opts opts = {.max_bytes = need + more};
            struct pql_engine *helped = engine_of(1 + more % 3, 1 + more % 5, opts);

            assert_true(same_on_both(alone, helped, &q));
            pql_engine_free(helped);
        }
    }
    assert_true(a.by_helper > a.reads / 50);
    pql_engine_free(alone);
    teststore_free(s);
}

/* ---- several queries ------------------------------------------------------------------------------- */

struct asker {
    struct pql_engine *e;
    const struct pql_source *source;
    bool failed;
};

static void ask_often(void *arg)
{
    struct asker *a = arg;

    for (int i = 0; i < 60; i++) {
        struct pql_query q = query_of(texts[(unsigned)i % NX_COUNT(texts)], a->source);
        struct pql_result *r = NULL;

        a->failed |= pql_exec(a->e, &q, &r, NULL) != NX_OK || r->n_series == 0;
        pql_result_free(r);
    }
}

static void many_queries_share_few_helpers(void **state)
{
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e = engine_of(2, 1, (struct pql_engine_opts){0});
    struct asker a[4];
    struct nx_thread threads[4];
    struct nx_err err;

    (void)state;
    for (int i = 0; i < 4; i++) {
        a[i] = (struct asker){.e = e, .source = &source};
        assert_ok(nx_thread_start(&threads[i], "asker", ask_often, &a[i], &err), &err);
    }
    for (int i = 0; i < 4; i++) {
        nx_thread_join(&threads[i]);
        assert_false(a[i].failed);
    }
    pql_engine_free(e);
    teststore_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_expressions_give_the_same),
        cmocka_unit_test(and_with_names_that_go_late),
        cmocka_unit_test(and_with_series_in_pieces),
        cmocka_unit_test(too_many_samples_are_too_many_for_both),
        cmocka_unit_test(a_series_that_cant_be_read_fails_both),
        cmocka_unit_test(a_query_that_is_called_off_or_late_ends),
        cmocka_unit_test(memory_of_helpers_is_the_query_s),
        cmocka_unit_test(no_query_fails_for_the_memory_of_its_helpers),
        cmocka_unit_test(many_queries_share_few_helpers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
