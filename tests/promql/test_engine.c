/* test_engine.c - what surrounds an evaluation: limits, time, places, errors, results, statistics. */
#include "tests/support/test.h"

#include <math.h>
#include <pthread.h>

#include "promql/teststore.h"
#include "src/base/clock.h"
#include "src/base/thread.h"
#include "tests/support/oom.h"

static struct pql_engine *engine_of(struct pql_engine_opts opts)
{
    struct pql_engine *e = NULL;
    struct nx_err err;

    assert_ok(pql_engine_new(&e, &opts, &err), &err);
    return e;
}

static void add(struct teststore *s, const char *name, const char *label, const char *value,
                int64_t t, double v)
{
    struct label l[2] = {{STR("__name__"), STR(name)},
                         {STR(label ? label : ""), STR(value ? value : "")}};
    struct labels ls = {l, label ? 2u : 1u};
    struct nx_err err;

    assert_ok(teststore_add(s, &ls, t, v, &err), &err);
}

/* m{i="0".."9"} with samples each 15 s over ten minutes; n_total likewise, named like a counter. */
static struct teststore *filled(void)
{
    struct teststore *s = teststore_new();

    assert_non_null(s);
    for (int i = 0; i < 10; i++) {
        char value[16];

        snprintf(value, sizeof value, "%d", i);
        for (int64_t t = 0; t <= 600000; t += 15000) {
            add(s, "m", "i", value, t, (double)(t / 1000 + i));
            add(s, "n_total", "i", value, t, (double)(t / 1000 * (i + 1)));
        }
    }
    return s;
}

static nx_status ask(struct pql_engine *e, const struct pql_source *source, const char *text,
                     int64_t start, int64_t end, int64_t step, struct pql_result **r,
                     struct nx_err *err)
{
    struct pql_query q = {.text = STR(text),
                          .instant = step == 0,
                          .start_ms = start,
                          .end_ms = end,
                          .step_ms = step,
                          .source = source};

    *r = NULL;
    return pql_exec(e, &q, r, err);
}

static void fails_with(struct pql_engine *e, const struct pql_source *source, const char *text,
                       int64_t step, nx_status want, const char *message)
{
    struct pql_result *r;
    struct nx_err err = {0};
    nx_status st = ask(e, source, text, 600000, 600000, step, &r, &err);

    if (st != want || strcmp(err.text, message) != 0)
        fail_msg("%s: %s: \"%s\", wanted \"%s\"", text, nx_status_text(st), err.text, message);
    assert_null(r);
}

/* ---- results -------------------------------------------------------------------------------------- */

static void results_have_the_type_of_the_query(void **state)
{
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e = engine_of((struct pql_engine_opts){0});
    struct pql_result *r;
    struct nx_err err;

    (void)state;
    assert_ok(ask(e, &source, "1 + 2", 5000, 5000, 0, &r, &err), &err);
    assert_int_equal(r->type, PQL_SCALAR);
    assert_true(r->scalar == 3);
    assert_int_equal(r->t_ms, 5000);
    pql_result_free(r);

    assert_ok(ask(e, &source, "('text')", 5000, 5000, 0, &r, &err), &err);
    assert_int_equal(r->type, PQL_STRING);
    assert_text(r->string, "text", "string");
    pql_result_free(r);

    assert_ok(ask(e, &source, "m", 607000, 0, 0, &r, &err), &err);
    assert_int_equal(r->type, PQL_VECTOR);
    assert_int_equal(r->n_series, 10);
    assert_int_equal(r->series[3].n, 1);
    assert_true(r->series[3].v[0] == 603);
    assert_int_equal(r->series[3].t[0], 607000); /* the time of the query, not of the sample */
    pql_result_free(r);

    assert_ok(ask(e, &source, "m[1m]", 600000, 0, 0, &r, &err), &err);
    assert_int_equal(r->type, PQL_MATRIX);
    assert_int_equal(r->series[0].n, 4); /* open on the left */
    assert_int_equal(r->series[0].t[0], 555000);
    pql_result_free(r);

    assert_ok(ask(e, &source, "time()", 10000, 30000, 10000, &r, &err), &err);
    assert_int_equal(r->type, PQL_MATRIX);
    assert_int_equal(r->n_series, 1);
    assert_int_equal(r->series[0].labels.n, 0);
    assert_int_equal(r->series[0].n, 3);
    assert_true(r->series[0].v[2] == 30);
    pql_result_free(r);

    assert_ok(ask(e, &source, "m", 30000, 10000, 10000, &r, &err),
              &err); /* ends before it starts */
    assert_int_equal(r->type, PQL_MATRIX);
    assert_int_equal(r->n_series, 0);
    pql_result_free(r);
    pql_engine_free(e);
    teststore_free(s);
}

static void points_leave_gaps_out(void **state)
{
    struct teststore *s = teststore_new();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e = engine_of((struct pql_engine_opts){0});
    struct pql_result *r;
    struct nx_err err;

    (void)state;
    add(s, "m", NULL, NULL, 0, 1);
    add(s, "m", NULL, NULL, 900000, 2);
    assert_ok(ask(e, &source, "m", 0, 1200000, 150000, &r, &err), &err);
    assert_int_equal(r->n_series, 1);
    assert_int_equal(r->series[0].n,
                     4); /* 0, 150 s; 900 s, 1050 s; at 300 s and 1200 s it is just out of reach */
    assert_int_equal(r->series[0].t[1], 150000);
    assert_int_equal(r->series[0].t[2], 900000);
    assert_true(r->series[0].v[3] == 2);
    pql_result_free(r);
    pql_engine_free(e);
    teststore_free(s);
}

/* ---- errors ------------------------------------------------------------------------------------------ */

static void errors_are_worded_as_prometheus_words_them(void **state)
{
    static const struct {
        const char *text;
        int64_t step;
        nx_status st;
        const char *message;
    } cases[] = {
        {"m[1m]", 1000, NX_BADINPUT,
         "invalid expression type \"range vector\" for range query, must be Scalar or instant "
         "Vector"},
        {"'x'", 1000, NX_BADINPUT,
         "invalid expression type \"string\" for range query, must be Scalar or instant Vector"},
        {"m", -1, NX_BADINPUT,
         "zero or negative query resolution step widths are not accepted. Try a positive integer"},
        {"absent_over_time(rate({__name__=~\"m|n_total\"}[5m])[2m:1m])", 0, NX_EXEC,
         "vector cannot contain metrics with the same labelset"},
        {"-{__name__=~'m|n_total'}", 0, NX_EXEC,
         "vector cannot contain metrics with the same labelset"},
        {"rate({__name__=~'m|n_total'}[5m])", 0, NX_EXEC,
         "vector cannot contain metrics with the same labelset"},
        {"abs({__name__=~'m|n_total'})", 1000, NX_EXEC,
         "vector cannot contain metrics with the same labelset"},
        {"label_replace(m, 'i', 'x', '', '')", 0, NX_EXEC,
         "vector cannot contain metrics with the same labelset"},
        {"m + on() n_total", 0, NX_EXEC,
         "found duplicate series for the match group {} on the right hand-side of the operation: "
         "[{__name__=\"n_total\", i=\"0\"}, {__name__=\"n_total\", i=\"1\"}];many-to-many matching "
         "not allowed: "
         "matching labels must be unique on one side"},
        {"m + on() group_right n_total", 0, NX_EXEC,
         "found duplicate series for the match group {} on the left hand-side of the operation: "
         "[{__name__=\"m\", i=\"0\"}, {__name__=\"m\", i=\"1\"}];many-to-many matching not "
         "allowed: "
         "matching labels must be unique on one side"},
        {"m + on() max(n_total)", 0, NX_EXEC,
         "multiple matches for labels: many-to-one matching must be explicit "
         "(group_left/group_right)"},
        {"m > on() max(n_total)", 0, NX_EXEC,
         "multiple matches for labels: many-to-one matching must be explicit "
         "(group_left/group_right)"},
        {"m + on() group_left(i) label_replace(max(n_total), 'i', 'x', '', '')", 0, NX_EXEC,
         "multiple matches for labels: grouping labels must ensure unique matches"},
        {"topk(NaN, m)", 0, NX_EXEC, "Parameter value is NaN"},
        {"rate(m[+(1 - 2) * 3])", 0, NX_BADINPUT, "9:19: duration must be greater than 0"},
        {"rate(m[(0)])", 0, NX_BADINPUT, "7:9: duration must be greater than 0"},
        {"rate(m[min_of(1, -2)])", 0, NX_BADINPUT, "14:19: duration must be greater than 0"},
        {"max_over_time(m[(1 - 2):-step()])", 0, NX_BADINPUT,
         "24:31: duration must be greater than 0"},
        {"topk(1e30, m)", 0, NX_EXEC, "Scalar value 1e+30 overflows int64"},
        {"label_replace(m, 'i', '', 'i', '(')", 0, NX_EXEC,
         "invalid regular expression in label_replace(): ("},
        {"label_replace(m, '', '', 'i', '')", 0, NX_EXEC,
         "invalid destination label name in label_replace(): "},
        {"label_join(m, 'x', '', '')", 0, NX_EXEC, "invalid source label name in label_join(): "},
        {"count_values('', m)", 0, NX_EXEC, "invalid label name \"\""},
        {"double_exponential_smoothing(m[5m], 1, 0.5)", 0, NX_EXEC,
         "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000"},
        {"double_exponential_smoothing(m[5m], 0.5, 0)", 0, NX_EXEC,
         "invalid trend factor. Expected: 0 < tf < 1, got: 0.000000"},
        {"sum(changes(m[5m] smoothed))", 0, NX_EXEC,
         "smoothed modifier can only be used with: delta, increase, rate - not with changes"},
        {"sum(", 0, NX_BADINPUT, NULL},
    };
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e = engine_of((struct pql_engine_opts){
        .features = {.experimental_functions = true, .extended_range = true}});

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        struct pql_result *r;
        struct nx_err err;

        if (cases[i].message)
            fails_with(e, &source, cases[i].text, cases[i].step, cases[i].st, cases[i].message);
        else
            assert_status(ask(e, &source, cases[i].text, 0, 0, 0, &r, &err), cases[i].st);
    }
    pql_engine_free(e);
    teststore_free(s);
}

/* Names that go are told apart by time: where two series never have a point at once they become one. */
static void series_that_lose_their_names_join_where_they_do_not_meet(void **state)
{
    struct teststore *s = teststore_new();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e = engine_of((struct pql_engine_opts){.lookback_ms = 60000});
    struct pql_result *r;
    struct nx_err err;

    (void)state;
    add(s, "a", NULL, NULL, 0, 1);
    add(s, "b", NULL, NULL, 120000, 2);
    assert_ok(ask(e, &source, "-{__name__=~'a|b'}", 0, 120000, 60000, &r, &err), &err);
    assert_int_equal(r->n_series, 1);
    assert_int_equal(r->series[0].n, 2);
    assert_true(r->series[0].v[0] == -1 && r->series[0].v[1] == -2);
    pql_result_free(r);
    /* Functions of ranges tell series apart as a whole. */
    assert_status(
        ask(e, &source, "sum_over_time({__name__=~'a|b'}[1m])", 0, 120000, 60000, &r, &err),
        NX_EXEC);
    pql_engine_free(e);
    teststore_free(s);
}

/* ---- limits --------------------------------------------------------------------------------------------- */

static void too_many_samples_are_refused(void **state)
{
    static const char text[] =
        "query processing would load too many samples into memory in query execution";
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *nine = engine_of((struct pql_engine_opts){.max_samples = 9});
    struct pql_engine *forty = engine_of((struct pql_engine_opts){.max_samples = 40});
    struct pql_result *r;
    struct nx_err err;

    (void)state;
    fails_with(nine, &source, "m", 0, NX_EXEC, text);
    fails_with(nine, &source, "sum(m)", 0, NX_EXEC,
               text); /* what goes in counts, not what comes out */
    fails_with(nine, &source, "sum_over_time(m{i='1'}[5m])", 0, NX_EXEC, text);
    fails_with(nine, &source, "max_over_time(m{i='1'}[5m:15s])", 0, NX_EXEC, text);
    fails_with(nine, &source, "m{i='1'}[5m]", 0, NX_EXEC, text);
    assert_ok(ask(nine, &source, "m{i='1'}", 600000, 0, 0, &r, &err), &err);
    assert_int_equal(r->stats.samples_total, 1);
    assert_int_equal(r->stats.samples_peak, 1);
    pql_result_free(r);
    /* Ten series at four steps fit; at five they don't. */
    assert_ok(ask(forty, &source, "m", 0, 180000, 60000, &r, &err), &err);
    assert_int_equal(r->stats.samples_total, 40);
    assert_int_equal(r->stats.samples_peak, 40);
    pql_result_free(r);
    assert_status(ask(forty, &source, "m", 0, 240000, 60000, &r, &err), NX_EXEC);
    assert_string_equal(err.text, text);
    /* A subquery of more steps than could ever be held. */
    assert_status(ask(forty, &source, "max_over_time(vector(1)[10y:1ms])", 0, 0, 0, &r, &err),
                  NX_EXEC);
    assert_string_equal(err.text, text);
    pql_engine_free(nine);
    pql_engine_free(forty);
    teststore_free(s);
}

static uint64_t memory_use;

static uint64_t read_use(void *ctx)
{
    (void)ctx;
    return memory_use;
}

static void memory_near_its_limit_ends_queries(void **state)
{
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct memory *m = memory_new(10u << 20, read_use, NULL);
    struct pql_engine *e = engine_of((struct pql_engine_opts){.memory = m});
    struct pql_engine *small = engine_of((struct pql_engine_opts){.memory = m, .max_bytes = 65536});
    const char *large = "max_over_time(vector(1)[6h:1s]) + m", *range = "m * 2";
    struct memory_stats st;
    struct pql_result *r;
    struct nx_err err;

    (void)state;
    memory_use = 1 << 20;
    assert_ok(ask(e, &source, range, 0, 600000, 1000, &r, &err), &err);
    memory_get_stats(m, &st);
    assert_in_range(st.query_bytes, 1000, 1 << 20); /* the result, until it is freed */
    pql_result_free(r);
    memory_get_stats(m, &st);
    assert_int_equal(st.query_bytes, 0);
    /* One query's own bound. */
    assert_status(ask(small, &source, range, 0, 600000, 100, &r, &err), NX_EXEC);
    assert_non_null(strstr(err.text, "--query.max-memory"));
    assert_ok(ask(small, &source, "m{i='1'}", 0, 0, 0, &r, &err), &err);
    pql_result_free(r);
    /* The process's: at the start, and on the way. */
    memory_use = (9u << 20) - (100u << 10); /* room for 100 KiB */
    struct timespec wait = {0, 20000000};
    nanosleep(&wait, NULL); /* an old look at the process is not good any more */
    assert_ok(ask(e, &source, "m{i='1'}", 0, 0, 0, &r, &err), &err);
    pql_result_free(r);
    assert_status(ask(e, &source, range, 0, 600000, 100, &r, &err), NX_OVERLOADED);
    assert_non_null(strstr(err.text, "--memory.limit"));
    memory_use = 9u << 20;
    nanosleep(&wait, NULL);
    assert_status(ask(e, &source, "1", 0, 0, 0, &r, &err), NX_OVERLOADED);
    memory_use = 1 << 20;
    nanosleep(&wait, NULL);
    assert_ok(ask(e, &source, range, 0, 600000, 100, &r, &err), &err);
    pql_result_free(r);
    assert_ok(ask(e, &source, large, 0, 0, 0, &r, &err), &err);
    pql_result_free(r);
    memory_get_stats(m, &st);
    assert_int_equal(st.query_bytes, 0);
    assert_true(st.refused_queries >= 2);
    pql_engine_free(e);
    pql_engine_free(small);
    memory_free(m);
    teststore_free(s);
}

/* A source around another one that calls back at each read. */
struct around {
    struct querier q;
    struct querier *inner;
    struct pql_source source;
    nx_status (*on_read)(struct around *a, struct nx_err *err);
    int cancel, reads;
    struct pql_engine *engine;
};

static nx_status around_select(struct querier *q, const struct matcher *m, size_t n, int64_t mint,
                               int64_t maxt, struct arena *arena, struct series_list *out,
                               struct nx_err *err)
{
    struct around *a = (struct around *)q;

    return a->inner->ops->select(a->inner, m, n, mint, maxt, arena, out, err);
}

static nx_status around_read(struct querier *q, const struct series *series, int64_t mint,
                             int64_t maxt, struct column *c, struct nx_err *err)
{
    struct around *a = (struct around *)q;
    nx_status st;

    a->reads++;
    st = a->on_read(a, err);
    return st ? st : a->inner->ops->read(a->inner, series, mint, maxt, c, err);
}

static void around_close(struct querier *q)
{
    querier_close(((struct around *)q)->inner);
}

static nx_status around_open(void *ctx, int64_t mint, int64_t maxt, struct querier **out,
                             struct nx_err *err)
{
    static const struct querier_ops ops = {
        .select = around_select, .read = around_read, .close = around_close};
    struct around *a = ctx;

    a->q.ops = &ops;
    *out = &a->q;
    return a->source.open(a->source.ctx, mint, maxt, &a->inner, err);
}

static nx_status take_a_minute(struct around *a, struct nx_err *err)
{
    (void)a, (void)err;
    clock_fake_advance(60000);
    return NX_OK;
}

static nx_status cancel_at_the_third(struct around *a, struct nx_err *err)
{
    (void)err;
    if (a->reads == 3)
        __atomic_store_n(&a->cancel, 1, __ATOMIC_RELAXED);
    return NX_OK;
}

static nx_status fail_to_read(struct around *a, struct nx_err *err)
{
    (void)a;
    return nx_fail(err, NX_CORRUPT, "page 7: checksum does not match");
}

static void slow_queries_time_out_between_series(void **state)
{
    struct teststore *s = filled();
    struct around a = {.source = teststore_source(s), .on_read = take_a_minute};
    struct pql_source source = {around_open, &a};
    struct pql_engine *e = engine_of((struct pql_engine_opts){.timeout_ms = 150000});
    struct pql_result *r;
    struct nx_err err;
    struct pql_query q = {
        .text = STR("sum(m)"), .instant = true, .start_ms = 600000, .source = &source};

    (void)state;
    clock_fake_set(1000000);
    fails_with(e, &source, "sum(m)", 0, NX_TIMEOUT, "query timed out in expression evaluation");
    assert_int_equal(a.reads, 3);
    a.reads = 0;
    q.timeout_ms = 90000; /* the query's own, if it is shorter */
    assert_status(pql_exec(e, &q, &r, &err), NX_TIMEOUT);
    assert_int_equal(a.reads, 2);
    a.reads = 0;
    q.timeout_ms = 9000000;
    assert_status(pql_exec(e, &q, &r, &err), NX_TIMEOUT);
    assert_int_equal(a.reads, 3);
    clock_fake_off();
    pql_engine_free(e);
    teststore_free(s);
}

static void canceled_queries_stop_between_series(void **state)
{
    struct teststore *s = filled();
    struct around a = {.source = teststore_source(s), .on_read = cancel_at_the_third};
    struct pql_source source = {around_open, &a};
    struct pql_engine *e = engine_of((struct pql_engine_opts){0});
    struct pql_query q = {.text = STR("sum(m)"),
                          .instant = true,
                          .start_ms = 600000,
                          .source = &source,
                          .cancel = &a.cancel};
    struct pql_result *r = NULL;
    struct nx_err err;

    (void)state;
    assert_status(pql_exec(e, &q, &r, &err), NX_CANCELED);
    assert_string_equal(err.text, "query was canceled in expression evaluation");
    assert_int_equal(a.reads, 3);
    pql_engine_free(e);
    teststore_free(s);
}

static void what_the_store_says_is_passed_on(void **state)
{
    struct teststore *s = filled();
    struct around a = {.source = teststore_source(s), .on_read = fail_to_read};
    struct pql_source source = {around_open, &a};
    struct pql_engine *e = engine_of((struct pql_engine_opts){0});

    (void)state;
    fails_with(e, &source, "sum(m)", 0, NX_CORRUPT,
               "expanding series: page 7: checksum does not match");
    fails_with(e, &source, "sum(rate(m[1m]))", 0, NX_CORRUPT,
               "expanding series: page 7: checksum does not match");
    pql_engine_free(e);
    teststore_free(s);
}

/* Windows that overlap take a sample at each step and read it once. */
static void samples_of_windows_are_read_once(void **state)
{
    static const struct {
        const char *text;
        int64_t start_ms, end_ms, step_ms;
        uint64_t total, read;
    } asked[] = {
        {"m{i='1'}", 300000, 300000, 0, 1, 1},
        {"m{i='1'}", 300000, 360000, 30000, 3, 3},
        {"sum_over_time(m{i='1'}[2m])", 300000, 300000, 0, 8, 8},
        {"sum_over_time(m{i='1'}[2m])", 300000, 360000, 30000, 24, 12}, /* 8, then 2 and 2 */
        {"sum_over_time(m{i='1'}[30s])", 300000, 420000, 60000, 6, 6},  /* they do not overlap */
        {"sum_over_time(m{i='1'}[2m] @ 600)", 300000, 360000, 30000, 24, 8},
        {"sum_over_time(m{i='1'}[2m:1m])", 300000, 300000, 0, 2, 2},
    };
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e = engine_of((struct pql_engine_opts){0});
    struct pql_result *r;
    struct nx_err err;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(asked); i++) {
        assert_ok(ask(e, &source, asked[i].text, asked[i].start_ms, asked[i].end_ms,
                      asked[i].step_ms, &r, &err),
                  &err);
        if (r->stats.samples_total != asked[i].total || r->stats.samples_read != asked[i].read)
            fail_msg("%s: %llu, %llu", asked[i].text, (unsigned long long)r->stats.samples_total,
                     (unsigned long long)r->stats.samples_read);
        pql_result_free(r);
    }
    pql_engine_free(e);
    teststore_free(s);
}

static void counts_are(const char *text, const char *what, const uint64_t *got,
                       const uint64_t *want, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (got[k] != want[k])
            fail_msg("%s: %s at step %zu: %llu, wanted %llu", text, what, k,
                     (unsigned long long)got[k], (unsigned long long)want[k]);
}

/* Samples each 15 s; steps at 300, 360 and 420 s. */
static void samples_are_told_by_step(void **state)
{
    static const struct {
        const char *text;
        uint64_t total[3], read[3];
    } asked[] = {
        {"m{i='1'}", {1, 1, 1}, {1, 1, 1}},
        {"m{i='1'} @ 10", {1, 1, 1}, {1, 0, 0}}, /* stands for all, read once */
        {"m", {10, 10, 10}, {10, 10, 10}},
        {"sum_over_time(m{i='1'}[2m])", {8, 8, 8}, {8, 4, 4}},
        {"sum_over_time(m{i='1'}[30s])", {2, 2, 2}, {2, 2, 2}},
        {"sum_over_time(m{i='1'}[2m] @ 600)", {8, 8, 8}, {8, 0, 0}},
        {"predict_linear(m{i='1'}[2m] @ 600, 1)", {8, 8, 8}, {8, 0, 0}},
        {"timestamp(m{i='1'})", {1, 1, 1}, {1, 1, 1}},
        {"1 + time()", {0}, {0}},
        /* A subquery's windows count in total; what it read, at the first step that sees it. */
        {"sum_over_time(m{i='1'}[2m:1m])", {2, 2, 2}, {2, 1, 1}},
        {"sum_over_time(m{i='1'}[2m:1m] offset 1m)", {2, 2, 2}, {2, 1, 1}},
        {"max_over_time(sum_over_time(m{i='1'}[1m])[2m:30s])", {4, 4, 4}, {10, 4, 4}},
        /* What lies between two windows is not told, though it is evaluated. */
        {"sum_over_time(m{i='1'}[30s:15s])", {2, 2, 2}, {2, 2, 2}},
        {"sum_over_time((m{i='1'} @ 10)[2m:1m])", {2, 2, 2}, {1, 0, 0}},
        {"sum_over_time(m{i='1'}[2m:1m] @ 600)", {2, 2, 2}, {2, 0, 0}},
        {"predict_linear(m{i='1'}[2m:1m] @ 60, 1)", {2, 2, 2}, {0, 0, 0}},
    };
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e = engine_of((struct pql_engine_opts){.per_step_stats = true});
    struct pql_query q = {.start_ms = 300000,
                          .end_ms = 420000,
                          .step_ms = 60000,
                          .source = &source,
                          .per_step_stats = true};
    struct nx_err err;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(asked); i++) {
        struct pql_result *r = NULL;
        uint64_t total = 0, read = 0;

        q.text = STR(asked[i].text);
        assert_ok(pql_exec(e, &q, &r, &err), &err);
        assert_int_equal(r->stats.by_step.n, 3);
        assert_int_equal(r->stats.by_step.start_ms, 300000);
        assert_int_equal(r->stats.by_step.step_ms, 60000);
        counts_are(asked[i].text, "total", r->stats.by_step.total, asked[i].total, 3);
        counts_are(asked[i].text, "read", r->stats.by_step.read, asked[i].read, 3);
        pql_result_free(r);
        q.per_step_stats = false; /* and as many in all for who does not ask for steps */
        assert_ok(pql_exec(e, &q, &r, &err), &err);
        q.per_step_stats = true;
        for (size_t k = 0; k < 3; k++) {
            total += asked[i].total[k];
            read += asked[i].read[k];
        }
        if (r->stats.samples_total != total || r->stats.samples_read != read)
            fail_msg("%s: %llu samples in all, %llu of them read", asked[i].text,
                     (unsigned long long)r->stats.samples_total,
                     (unsigned long long)r->stats.samples_read);
        pql_result_free(r);
    }
    pql_engine_free(e);
    teststore_free(s);
}

/* One step for an instant query; none for who did not ask, or asked an engine that does not count. */
static void samples_by_step_are_told_when_asked_for(void **state)
{
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct nx_err err;

    (void)state;
    for (int on = 0; on < 4; on++) {
        struct pql_engine *e = engine_of((struct pql_engine_opts){.per_step_stats = on & 1});
        struct pql_query q = {.text = STR("m[1m:30s]"),
                              .instant = true,
                              .start_ms = 300000,
                              .source = &source,
                              .per_step_stats = on & 2};
        struct pql_result *r = NULL;

        assert_ok(pql_exec(e, &q, &r, &err), &err);
        assert_int_equal(r->stats.samples_total, 20);
        assert_int_equal(r->stats.by_step.n, on == 3);
        if (on == 3) {
            assert_int_equal(r->stats.by_step.total[0], 20);
            assert_int_equal(r->stats.by_step.read[0], 20);
        }
        pql_result_free(r);
        pql_engine_free(e);
    }
    teststore_free(s);
}

/* While a query reads, another finds no place. */
static nx_status ask_for_a_second_place(struct around *a, struct nx_err *err)
{
    struct pql_source none = a->source;
    struct pql_query q = {.text = STR("1"), .instant = true, .source = &none, .timeout_ms = 30};
    struct pql_result *r = NULL;
    struct pql_engine_stats stats;
    int stop = 1;

    (void)err;
    pql_engine_get_stats(a->engine, &stats);
    assert_int_equal(stats.active, 1);
    struct nx_err other;
    assert_status(pql_exec(a->engine, &q, &r, &other), NX_TIMEOUT);
    assert_string_equal(other.text, "query timed out in query queue");
    q.cancel = &stop;
    assert_status(pql_exec(a->engine, &q, &r, &other), NX_CANCELED);
    assert_string_equal(other.text, "query was canceled in query queue");
    return NX_OK;
}

static void queries_wait_for_a_place(void **state)
{
    struct teststore *s = filled();
    struct pql_engine *e = engine_of((struct pql_engine_opts){.max_concurrency = 1});
    struct around a = {
        .source = teststore_source(s), .on_read = ask_for_a_second_place, .engine = e};
    struct pql_source source = {around_open, &a};
    struct pql_engine_stats stats;
    struct pql_result *r;
    struct nx_err err;

    (void)state;
    pql_engine_get_stats(e, &stats);
    assert_true(isnan(stats.inner_eval.p50));
    assert_int_equal(stats.max_concurrency, 1);
    assert_ok(ask(e, &source, "m{i='1'}", 600000, 0, 0, &r, &err), &err);
    pql_result_free(r);
    pql_engine_get_stats(e, &stats);
    assert_int_equal(stats.queries, 1);
    assert_int_equal(stats.active, 0);
    assert_int_equal(stats.samples_total, 1);
    assert_int_equal(stats.queue.count, 1);
    assert_true(stats.inner_eval.sum >= 0.02); /* the other waited in it */
    assert_false(isnan(stats.inner_eval.p99));
    pql_engine_free(e);
    teststore_free(s);
}

/* ---- annotations ------------------------------------------------------------------------------------------ */

static void annotations_tell_text_and_position(void **state)
{
    static const struct {
        const char *text, *warning, *info;
        int64_t step;
    } cases[] = {
        {"1 +\n rate(m{i='1'}[5m])", NULL,
         "PromQL info: metric might not be a counter, name does not end in "
         "_total/_sum/_count/_bucket: \"m\" (2:7)",
         0},
        {"rate(n_total{i='1'}[5m])", NULL, NULL, 0},
        {"quantile(1.5, m)",
         "PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:10)", NULL, 0},
        {"quantile_over_time(-1, m[5m])",
         "PromQL warning: quantile value should be between 0 and 1, got -1 (1:20)", NULL, 0},
        {"histogram_quantile(NaN, label_replace(m, \"le\", \"+Inf\", \"\", \"\"))",
         "PromQL warning: quantile value should be between 0 and 1, got NaN (1:20)", NULL, 0},
        {"limit_ratio(2, m)",
         "PromQL warning: ratio value should be between -1 and 1, got 2, capping to 1 (1:13)", NULL,
         0},
        {"sort(m)",
         "PromQL warning: sort is ineffective for range queries since results are always ordered "
         "by labels (1:1)",
         NULL, 1000},
    };
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e =
        engine_of((struct pql_engine_opts){.features = {.experimental_functions = true}});

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        struct pql_result *r;
        struct nx_err err;

        assert_ok(ask(e, &source, cases[i].text, 590000, 600000, cases[i].step, &r, &err), &err);
        if (cases[i].warning) {
            assert_true(r->n_warnings > 0);
            assert_string_equal(r->warnings[0], cases[i].warning);
        } else {
            assert_int_equal(r->n_warnings, 0);
        }
        assert_int_equal(r->n_infos, cases[i].info != NULL);
        if (cases[i].info)
            assert_string_equal(r->infos[0], cases[i].info);
        pql_result_free(r);
    }
    pql_engine_free(e);
    teststore_free(s);
}

static void no_more_than_ten_annotations_are_told(void **state)
{
    struct teststore *s = teststore_new();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e = engine_of((struct pql_engine_opts){0});
    struct pql_result *r;
    struct nx_err err;

    (void)state;
    for (int i = 0; i < 13; i++) {
        char value[16];

        snprintf(value, sizeof value, "bad%02d", i);
        add(s, "h", "le", value, 0, 1);
    }
    assert_ok(ask(e, &source, "histogram_quantile(0.5, h)", 0, 0, 0, &r, &err), &err);
    assert_int_equal(r->n_warnings, 11);
    assert_string_equal(r->warnings[10], "3 more warning annotations omitted");
    pql_result_free(r);
    pql_engine_free(e);
    teststore_free(s);
}

/* A falling bucket is told once, with what was seen of it over all steps. */
static void monotonicity_infos_are_merged(void **state)
{
    struct teststore *s = teststore_new();
    struct pql_source source = teststore_source(s);
    struct pql_engine *e = engine_of((struct pql_engine_opts){0});
    struct pql_result *r;
    struct nx_err err;

    (void)state;
    for (int64_t t = 0; t <= 120000; t += 60000) {
        add(s, "h", "le", "1", t, 10);
        add(s, "h", "le", "2", t, 8);
        add(s, "h", "le", "5", t, 7);
        add(s, "h", "le", "+Inf", t, 20);
    }
    assert_ok(ask(e, &source, "histogram_quantile(0.5, h)", 0, 120000, 60000, &r, &err), &err);
    assert_int_equal(r->n_infos, 1);
    assert_string_equal(
        r->infos[0],
        "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see "
        "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile), "
        "from "
        "buckets 2 to 5, with a max diff of 3, over 3 samples from 1970-01-01T00:00:00Z to "
        "1970-01-01T00:02:00Z (1:25)");
    pql_result_free(r);
    pql_engine_free(e);
    teststore_free(s);
}

/* ---- faults, threads ----------------------------------------------------------------------------------------- */

static const char *const many[] = {
    "m",
    "sum by (i) (rate(n_total[5m]))",
    "topk(2, m) or bottomk(3, m)",
    "m * on (i) group_left n_total",
    "max_over_time(rate(n_total[1m])[5m:1m])",
    "histogram_quantile(0.5, label_replace(m, 'le', '$1', 'i', '(.*)'))",
    "label_join(m, 'x', '-', 'i', '__name__')",
    "count_values('v', m)",
    "quantile(0.5, m) + avg_over_time(m[5m])",
    "sort_desc(m)",
    "absent(nosuch{a='b'})",
    "quantile_over_time(0.9, m[5m])",
    "m @ 300 + 1",
    "max_over_time(m[5m]) - min_over_time(m[5m]) / max_over_time(m[5m])",
    "m / (m > 0)",
};

static void every_allocation_may_fail(void **state)
{
    struct teststore *s = filled();
    struct pql_source source = teststore_source(s);
    /* no helpers: what one has no memory for is done without it, so that the query goes on */
    struct pql_engine *e = engine_of((struct pql_engine_opts){.helpers = UINT32_MAX});

    (void)state;
    for (size_t i = 0; i < NX_COUNT(many); i++) {
        for (unsigned n = 1;; n++) {
            struct pql_result *r;
            struct nx_err err;
            nx_status st;

            oom_fail_at(n);
            st = ask(e, &source, many[i], 300000, 600000, i % 2 ? 0 : 60000, &r, &err);
            if (!oom_off()) {
                assert_ok(st, &err);
                pql_result_free(r);
                break;
            }
            if (st != NX_NOMEM)
                fail_msg("%s: allocation %u: %s: %s", many[i], n, nx_status_text(st),
                         st ? err.text : "");
        }
    }
    pql_engine_free(e);
    teststore_free(s);
}

struct worker {
    struct nx_thread thread;
    struct pql_engine *e;
    struct pql_source source;
    unsigned seed, wrong;
    double *want; /* a sum over the result of each query */
};

static double digest(const struct pql_result *r)
{
    double d = (double)r->n_series;

    for (size_t i = 0; i < r->n_series; i++)
        for (size_t k = 0; k < r->series[i].n; k++)
            d += (isnan(r->series[i].v[k]) ? 77 : r->series[i].v[k]) * (double)(k + i + 1) +
                 (double)r->series[i].t[k];
    return d;
}

static void work(void *arg)
{
    struct worker *w = arg;

    for (unsigned i = 0; i < 60; i++) {
        size_t at = (i + w->seed) % NX_COUNT(many);
        struct pql_engine_stats stats;
        struct pql_result *r;
        struct nx_err err;

        if (ask(w->e, &w->source, many[at], 300000, 600000, 60000, &r, &err)) {
            w->wrong++;
            continue;
        }
        if (digest(r) != w->want[at])
            w->wrong++;
        pql_result_free(r);
        pql_engine_get_stats(w->e, &stats);
        pql_engine_set_default_step(w->e, 60000);
    }
}

static void many_threads_get_the_answers_of_one(void **state)
{
    struct teststore *s = filled();
    struct pql_engine *e = engine_of((struct pql_engine_opts){.max_concurrency = 3});
    double want[NX_COUNT(many)];
    struct worker w[6];
    struct pql_engine_stats stats;

    (void)state;
    struct pql_source source = teststore_source(s);
    for (size_t i = 0; i < NX_COUNT(many); i++) {
        struct pql_result *r;
        struct nx_err err;

        assert_ok(ask(e, &source, many[i], 300000, 600000, 60000, &r, &err), &err);
        want[i] = digest(r);
        pql_result_free(r);
    }
    for (unsigned i = 0; i < NX_COUNT(w); i++) {
        struct nx_err err;

        w[i] = (struct worker){.e = e, .source = source, .seed = i * 5, .want = want};
        assert_ok(nx_thread_start(&w[i].thread, "query", work, &w[i], &err), &err);
    }
    for (size_t i = 0; i < NX_COUNT(w); i++) {
        nx_thread_join(&w[i].thread);
        assert_int_equal(w[i].wrong, 0);
    }
    pql_engine_get_stats(e, &stats);
    assert_int_equal(stats.queries, NX_COUNT(many) + 60 * NX_COUNT(w));
    assert_int_equal(stats.active, 0);
    pql_engine_free(e);
    teststore_free(s);
}

/* As deep as the parser lets them be, on the small stack of a thread. */
static void ask_deep(void *arg)
{
    struct worker *w = arg;
    static const struct {
        const char *open, *middle, *close;
        unsigned times;
    } shapes[] = {{"abs(", "m", ")", 250},
                  {"", "m", " + 1", 500},
                  {"", "m", " or m", 500},
                  {"sum by (i) (", "m", ")", 250},
                  {"-", "m", "", 250},
                  {"1 + (", "1", ")", 120},
                  {"max_over_time(", "m", "[1m:1m])", 60},
                  {"label_replace(", "m", ", 'a', '', '', '')", 250}};

    for (size_t i = 0; i < NX_COUNT(shapes); i++) {
        struct pql_result *r = NULL;
        struct nx_err err;
        struct buf b;

        buf_init(&b, 0);
        for (unsigned k = 0; k < shapes[i].times; k++)
            buf_str(&b, shapes[i].open);
        buf_str(&b, shapes[i].middle);
        for (unsigned k = 0; k < shapes[i].times; k++)
            buf_str(&b, shapes[i].close);
        if (ask(w->e, &w->source, buf_cstr(&b), 300000, 600000, 60000, &r, &err)) {
            printf("%zu: %s\n", i, err.text);
            w->wrong++;
        }
        pql_result_free(r);
        buf_done(&b);
    }
}

static void deep_expressions_fit_the_stack_of_a_thread(void **state)
{
    struct teststore *s = filled();
    struct worker w = {.e = engine_of((struct pql_engine_opts){0}), .source = teststore_source(s)};
    struct nx_err err;

    (void)state;
    assert_ok(nx_thread_start(&w.thread, "deep", ask_deep, &w, &err), &err);
    nx_thread_join(&w.thread);
    assert_int_equal(w.wrong, 0);
    pql_engine_free(w.e);
    teststore_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_have_the_type_of_the_query),
        cmocka_unit_test(points_leave_gaps_out),
        cmocka_unit_test(errors_are_worded_as_prometheus_words_them),
        cmocka_unit_test(series_that_lose_their_names_join_where_they_do_not_meet),
        cmocka_unit_test(too_many_samples_are_refused),
        cmocka_unit_test(memory_near_its_limit_ends_queries),
        cmocka_unit_test(slow_queries_time_out_between_series),
        cmocka_unit_test(canceled_queries_stop_between_series),
        cmocka_unit_test(what_the_store_says_is_passed_on),
        cmocka_unit_test(samples_of_windows_are_read_once),
        cmocka_unit_test(samples_are_told_by_step),
        cmocka_unit_test(samples_by_step_are_told_when_asked_for),
        cmocka_unit_test(queries_wait_for_a_place),
        cmocka_unit_test(annotations_tell_text_and_position),
        cmocka_unit_test(no_more_than_ten_annotations_are_told),
        cmocka_unit_test(monotonicity_infos_are_merged),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(many_threads_get_the_answers_of_one),
        cmocka_unit_test(deep_expressions_fit_the_stack_of_a_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
