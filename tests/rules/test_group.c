/* test_group.c - groups over a real store, evaluated at moments of the test's choosing: RUL-021 to RUL-052. */
#include "tests/support/test.h"

#include <math.h>

#include "src/rules/group.h"

#define S 1000000000ll /* a second */

static struct nx_err err;

struct world {
    struct test_tmpdir dir;
    struct storage *storage;
    struct pql_engine *engine;
    struct pql_source source;
    struct storage_group *input;
    struct rule_files *files;
    struct rule_group *group;
    struct buf sent;
    struct workers *pool; /* NULL: rules are evaluated one after the other */
    bool full;            /* the store takes nothing, */
    unsigned rows;        /* after these */
};

static void note(void *ctx, const struct rule_notice *v, size_t n)
{
    struct world *w = ctx;

    for (size_t i = 0; i < n; i++) {
        labels_print(&w->sent, &v[i].labels);
        buf_printf(&w->sent, " %lld-%lld %s%s\n", (long long)(v[i].starts_ns / S),
                   (long long)(v[i].ends_ns / S), v[i].generator_url,
                   v[i].resolved ? " resolved" : "");
    }
}

static struct world *open_world(void)
{
    struct world *w = calloc(1, sizeof *w);
    const struct storage_opts so = {.fs = fs_real(), .no_worker = true, .dir = w->dir.path};
    const struct pql_engine_opts eo = {0};

    test_tmpdir_new(&w->dir);
    assert_ok(storage_open(&w->storage, &so, &err), &err);
    assert_ok(pql_engine_new(&w->engine, &eo, &err), &err);
    assert_ok(storage_group_open(w->storage, &w->input, &err), &err);
    w->source = pql_source_storage(w->storage);
    buf_init(&w->sent, 0);
    return w;
}

static void close_world(struct world *w)
{
    rule_group_free(w->group);
    workers_free(w->pool);
    rule_files_unref(w->files);
    storage_group_close(w->input);
    pql_engine_free(w->engine);
    storage_close(w->storage);
    test_tmpdir_done(&w->dir);
    buf_done(&w->sent);
    free(w);
}

/* The store's sink, which may be full. */
static nx_status open_writer(void *ctx, void **writer, struct nx_err *e)
{
    struct world *w = ctx;
    struct rule_sink s = rule_sink_storage(w->storage);

    return s.open(s.ctx, writer, e);
}

static struct world *the_world; /* a writer is a group of the store, and says nothing of it */

static nx_status append_row(void *writer, int64_t t_ms, const uint32_t *cols, const double *values,
                            size_t n, struct storage_appended *refused, struct nx_err *e)
{
    struct rule_sink s = rule_sink_storage(the_world->storage);

    if (the_world->full && !the_world->rows)
        return nx_fail(e, NX_NOSPACE, "no space left");
    the_world->rows -= the_world->rows > 0;
    return s.append(writer, t_ms, cols, values, n, refused, e);
}

static struct rule_sink sink_of(struct world *w)
{
    struct rule_sink s = rule_sink_storage(w->storage);

    the_world = w;
    s.ctx = w;
    s.open = open_writer;
    s.append = append_row;
    return s;
}

static struct rule_group *group_of(struct world *w, const char *text, bool restored)
{
    static const struct label external[] = {{{"cluster", 7}, {"c1", 2}}};
    const struct rule_env env = {.engine = w->engine,
                                 .source = &w->source,
                                 .sink = sink_of(w),
                                 .interval_ms = 10000,
                                 .external_labels = {external, 1},
                                 .external_url = "http://x",
                                 .restored = restored,
                                 .notify = note,
                                 .notify_ctx = w,
                                 .resend_delay_ms = 60000,
                                 .parallel = w->pool != NULL,
                                 .quiet = true};

    assert_ok(rule_files_parse(&w->files, STR(text), "r.yml", NULL, &err), &err);
    assert_ok(rule_group_new(&w->group, w->files, &w->files->groups[0], &env, &err), &err);
    w->group->pool = w->pool;
    return w->group;
}

/* name{l=value} v at a second; a NaN ends it. */
static void put(struct world *w, const char *name, const char *l, int64_t second, double v)
{
    const struct label pairs[] = {{{"__name__", 8}, STR(name)}, {{"l", 1}, STR(l)}};
    const struct labels ls = {pairs, 2};
    uint32_t col;

    if (v != v)
        v = (union {
                uint64_t u;
                double d;
            }){0x7ff0000000000002ull}
                .d;
    assert_ok(storage_group_column(w->input, &ls, &col, NULL, &err), &err);
    assert_ok(storage_group_append(w->input, second * 1000, &col, &v, 1, NULL, &err), &err);
}

/* "labels => value" of an instant query, a line each, sorted; the caller frees. */
static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *ask(struct world *w, const char *expr, int64_t second)
{
    const struct pql_query q = {.text = STR(expr),
                                .instant = true,
                                .start_ms = second * 1000,
                                .end_ms = second * 1000,
                                .source = &w->source};
    struct pql_result *r = NULL;
    char *lines[64];
    struct buf b;
    char *text;

    assert_ok(pql_exec(w->engine, &q, &r, &err), &err);
    buf_init(&b, 0);
    for (size_t i = 0; i < r->n_series; i++) {
        buf_clear(&b);
        labels_print(&b, &r->series[i].labels);
        buf_printf(&b, " => %g\n", r->series[i].v[0]);
        lines[i] = strdup(buf_cstr(&b));
    }
    qsort(lines, r->n_series, sizeof *lines, by_text);
    buf_clear(&b);
    for (size_t i = 0; i < r->n_series; i++) {
        buf_str(&b, lines[i]);
        free(lines[i]);
    }
    text = strdup(buf_cstr(&b));
    buf_done(&b);
    pql_result_free(r);
    return text;
}

#define ASSERT_ASK(w, expr, second, want)                                                          \
    do {                                                                                           \
        char *got_ = ask(w, expr, second);                                                         \
        assert_string_equal(got_, want);                                                           \
        free(got_);                                                                                \
    } while (0)

/* One rule of the group as "health state alerts error". */
static char *stands(struct world *w, size_t rule)
{
    struct arena *a = arena_new(0);
    struct rule_group_view v;
    struct buf b;
    char *text;

    assert_ok(rule_group_view(w->group, a, &v, &err), &err);
    buf_init(&b, 0);
    buf_printf(&b, "%s", rule_health_name(v.rules[rule].health));
    if (v.rules[rule].rule->alerting)
        buf_printf(&b, " %s", alert_state_name(v.rules[rule].state));
    for (size_t i = 0; i < v.rules[rule].n_alerts; i++) {
        const struct alert_view *al = &v.rules[rule].alerts[i];
        buf_char(&b, ' ');
        labels_print(&b, &al->labels);
        labels_print(&b, &al->annotations);
        buf_printf(&b, "%s@%lld=%g", alert_state_name(al->state), (long long)(al->active_ns / S),
                   al->value);
        if (al->keep_firing_since_ns)
            buf_printf(&b, "~%lld", (long long)(al->keep_firing_since_ns / S));
    }
    if (v.rules[rule].last_error.len)
        buf_printf(&b, " %s", v.rules[rule].last_error.ptr);
    text = strdup(buf_cstr(&b));
    buf_done(&b);
    arena_free(a);
    return text;
}

#define ASSERT_STANDS(w, rule, want)                                                               \
    do {                                                                                           \
        char *got_ = stands(w, rule);                                                              \
        assert_string_equal(got_, want);                                                           \
        free(got_);                                                                                \
    } while (0)

static void eval(struct world *w, int64_t second)
{
    rule_group_eval(w->group, second * S);
}

/* ---- recording ---------------------------------------------------------------------------------- */

static void results_get_the_rules_name_and_labels(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  labels: {team: a, z: y}\n  rules:\n"
             "  - record: sum:x\n    expr: sum by (l) (x)\n    labels: {team: b}\n"
             "  - record: scalar\n    expr: 7\n"
             "  - record: no_l\n    expr: x{l=\"a\"}\n    labels: {l: ''}\n"
             "  - record: words\n    expr: '\"a\"'\n",
             true);
    put(w, "x", "a", 10, 1);
    put(w, "x", "b", 10, 2);
    eval(w, 10);
    ASSERT_ASK(
        w, "{team=~\".+\"}", 10,
        "no_l{team=\"a\", z=\"y\"} => 1\nscalar{team=\"a\", z=\"y\"} => 7\n"
        "sum:x{l=\"a\", team=\"b\", z=\"y\"} => 1\nsum:x{l=\"b\", team=\"b\", z=\"y\"} => 2\n");
    ASSERT_STANDS(w, 0, "ok");
    ASSERT_STANDS(w, 3, "err rule result is not a vector or scalar");
    close_world(w);
}

static void a_rule_sees_what_rules_before_it_wrote(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  rules:\n"
             "  - record: late\n    expr: c + 1\n" /* of the evaluation before */
             "  - record: b\n    expr: x * 10\n"
             "  - record: c\n    expr: b + 1\n"
             "  - alert: A\n    expr: c > 0\n"
             "  - record: alerts\n    expr: count(ALERTS{alertname=\"A\"})\n"
             "  - record: all\n    expr: count({__name__=~\"b|c\"})\n",
             true);
    put(w, "x", "a", 10, 1);
    eval(w, 10);
    ASSERT_ASK(w, "{__name__=~\"late|b|c|alerts|all\"}", 10,
               "alerts => 1\nall => 2\nb{l=\"a\"} => 10\nc{l=\"a\"} => 11\n");
    put(w, "x", "a", 20, 2);
    eval(w, 20);
    ASSERT_ASK(w, "{__name__=~\"late|c\"}", 20, "c{l=\"a\"} => 21\nlate{l=\"a\"} => 12\n");
    close_world(w);
}

static void a_series_that_vanishes_is_ended(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w, "groups:\n- name: g\n  rules:\n  - record: y\n    expr: x > 0\n", true);
    put(w, "x", "a", 10, 1);
    put(w, "x", "b", 10, 1);
    eval(w, 10);
    put(w, "x", "a", 20, 0);
    put(w, "x", "b", 20, 1);
    eval(w, 20);
    ASSERT_ASK(w, "y", 20, "y{l=\"b\"} => 1\n");
    ASSERT_ASK(w, "y", 19, "y{l=\"a\"} => 1\ny{l=\"b\"} => 1\n");
    put(w, "x", "a", 30, 5);
    eval(w, 30);
    ASSERT_ASK(w, "y", 30, "y{l=\"a\"} => 5\ny{l=\"b\"} => 1\n");
    close_world(w);
}

static void a_rule_that_fails_writes_and_ends_nothing(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  limit: 2\n  rules:\n"
             "  - record: y\n    expr: x\n    labels: {k: v}\n"
             "  - record: one\n    expr: sum without (l) (label_replace(x, \"m\", \"$1\", \"l\", "
             "\"(.)\"))\n"
             "    labels: {m: same}\n",
             true);
    put(w, "x", "a", 10, 1);
    eval(w, 10);
    ASSERT_STANDS(w, 0, "ok");
    ASSERT_STANDS(w, 1, "ok");
    put(w, "x", "b", 20, 1);
    eval(w, 20);
    ASSERT_STANDS(w, 0, "ok");
    ASSERT_STANDS(w, 1,
                  "err vector contains metrics with the same labelset after applying rule labels");
    ASSERT_ASK(w, "one", 20, "one{m=\"same\"} => 1\n"); /* not ended */
    put(w, "x", "c", 30, 1);
    eval(w, 30);
    ASSERT_STANDS(w, 0, "err exceeded limit of 2 with 3 series");
    ASSERT_ASK(w, "y{l=\"c\"}", 30, "");
    close_world(w);
}

/* More rules than there are ever threads for, each once, and those that read them after them. */
static void rules_of_a_stage_are_evaluated_by_several_threads(void **state)
{
    struct world *w = open_world();
    struct buf text;

    (void)state;
    w->pool = rule_pool_new(3);
    assert_non_null(w->pool);
    buf_init(&text, 0);
    buf_printf(&text, "groups:\n- name: g\n  rules:\n");
    for (int i = 0; i < 150; i++)
        buf_printf(&text, "  - record: r\n    expr: x + %d\n    labels: {i: \"%d\"}\n", i, i);
    buf_printf(&text, "  - record: all\n    expr: sum(r)\n");
    group_of(w, buf_cstr(&text), true);
    assert_true(w->group->in_parallel);
    for (int64_t second = 10; second <= 100; second += 10) {
        char want[64];

        put(w, "x", "a", second, (double)second);
        eval(w, second);
        snprintf(want, sizeof want, "all => %" PRId64 "\n", 150 * second + 149 * 150 / 2);
        ASSERT_ASK(w, "all", second, want);
        ASSERT_ASK(w, "count(r)", second, "{} => 150\n");
    }
    assert_true(workers_idle(w->pool));
    buf_done(&text);
    close_world(w);
}

static void a_rule_that_fails_for_ever_keeps_nothing(void **state)
{
    struct world *w = open_world();
    char l[32];

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  limit: 2\n  rules:\n  - record: over\n    expr: x\n"
             "  - record: twice\n    expr: label_replace(topk(1, x), \"n\", \"a\", \"\", \"\") or "
             "label_replace(topk(1, x), \"n\", \"b\", \"\", \"\")\n    labels: {n: c}\n",
             true);
    for (int i = 1; i < 20; i++) {
        for (int k = 0; k < 3; k++) {
            snprintf(l, sizeof l, "%d-%d", i, k);
            put(w, "x", l, i * 1000, i);
        }
        eval(w, i * 1000);
        ASSERT_STANDS(w, 0, "err exceeded limit of 2 with 3 series");
        ASSERT_STANDS(
            w, 1, "err vector contains metrics with the same labelset after applying rule labels");
        assert_int_equal(w->group->rules[0].outs.n + w->group->rules[1].outs.n, 0);
    }
    close_world(w);
}

static void what_the_store_refuses_is_the_rules_error(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  rules:\n"
             "  - record: y\n    expr: vector(1)\n"
             "  - record: y\n    expr: vector(1)\n"
             "  - record: y\n    expr: vector(2)\n"
             "  - record: z\n    expr: vector(3)\n"
             "  - record: u\n    expr: vector(1e6) or label_replace(vector(4), \"a\", \"b\", \"\", "
             "\"\")\n"
             "  - record: u\n    expr: vector(0.25) or label_replace(vector(4), \"a\", \"b\", "
             "\"\", \"\")\n",
             true);
    eval(w, 20);
    ASSERT_STANDS(w, 0, "ok");
    ASSERT_STANDS(w, 1, "ok"); /* the same again */
    ASSERT_STANDS(w, 2,
                  "err duplicate sample for timestamp 20000; overrides not allowed: existing 1, "
                  "new value 2");
    ASSERT_STANDS(w, 3, "ok");
    ASSERT_STANDS(
        w, 5,
        "err duplicate sample for timestamp 20000; overrides not allowed: existing 1e+06, "
        "new value 0.25"); /* the other series is the same again */
    eval(w, 10);
    ASSERT_STANDS(w, 0, "err out of order sample");
    ASSERT_STANDS(w, 3, "err out of order sample");
    ASSERT_ASK(w, "{__name__=~\"y|z\"}", 20, "y => 1\nz => 3\n");
    close_world(w);
}

static void the_query_offset_moves_queries_and_samples(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  query_offset: 5s\n  rules:\n  - record: y\n    expr: time()\n",
             true);
    eval(w, 100);
    ASSERT_ASK(w, "timestamp(y)", 100, "{} => 95\n");
    ASSERT_ASK(w, "y", 100, "y => 95\n");
    close_world(w);
}

static void a_row_that_the_store_cannot_take_is_an_error_and_nothing_is_forgotten(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w, "groups:\n- name: g\n  rules:\n  - record: y\n    expr: x > 0\n", true);
    put(w, "x", "a", 10, 1);
    eval(w, 10);
    put(w, "x", "a", 20, 0);
    w->full = true;
    eval(w, 20);
    ASSERT_STANDS(w, 0, "err no space left");
    ASSERT_ASK(w, "y", 20, "y{l=\"a\"} => 1\n");
    w->full = false;
    eval(w, 30);
    ASSERT_STANDS(w, 0, "ok");
    ASSERT_ASK(w, "y", 30, ""); /* ended with the next row */
    close_world(w);
}

static void a_full_disk_keeps_no_series_that_were_never_written(void **state)
{
    struct world *w = open_world();
    char l[32];

    (void)state;
    group_of(w, "groups:\n- name: g\n  rules:\n  - record: y\n    expr: x\n", true);
    put(w, "x", "first", 1000, 1);
    eval(w, 1000);
    w->full = true;
    for (int i = 2; i < 20; i++) {
        for (int k = 0; k < 3; k++) {
            snprintf(l, sizeof l, "%d-%d", i, k);
            put(w, "x", l, i * 1000, i);
        }
        eval(w, i * 1000);
        ASSERT_STANDS(w, 0, "err no space left");
        assert_int_equal(w->group->rules[0].outs.n, 1); /* the one that is to be ended */
    }
    w->full = false;
    put(w, "x", "last", 20000, 7);
    eval(w, 20000);
    ASSERT_STANDS(w, 0, "ok");
    ASSERT_ASK(w, "y{l=~\"first|last\"}", 20000, "y{l=\"last\"} => 7\n");
    close_world(w);
}

/* A series that several rules give has one column: it is there until the last of them is done with it. */
static void rules_may_give_one_series_in_turn(void **state)
{
    struct world *w = open_world();
    static const double x[] = {7, 3, 4, 9, 2, 8};
    char want[40];

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  rules:\n  - record: y\n    expr: x > 5\n"
             "  - record: y\n    expr: x <= 5\n  - record: z\n    expr: x\n",
             true);
    for (unsigned i = 0; i < NX_COUNT(x); i++) {
        int64_t t = 10 * (i + 1);
        put(w, "x", "a", t, x[i]);
        eval(w, t);
        for (size_t k = 0; k < 3; k++)
            ASSERT_STANDS(w, k, "ok");
        snprintf(want, sizeof want, "y{l=\"a\"} => %g\n", x[i]);
        ASSERT_ASK(w, "y", t, want);
    }
    put(w, "x", "a", 70, (double)NAN);
    put(w, "x", "b", 70, 1);
    eval(w, 70);
    ASSERT_ASK(w, "y", 70, "y{l=\"b\"} => 1\n");
    put(w, "x", "c", 80, 6);
    eval(w, 80);
    ASSERT_ASK(w, "y", 80, "y{l=\"b\"} => 1\ny{l=\"c\"} => 6\n");
    ASSERT_ASK(w, "z", 80, "z{l=\"b\"} => 1\nz{l=\"c\"} => 6\n");
    close_world(w);
}

static void rules_may_give_one_series_at_once(void **state)
{
    struct world *w = open_world();
    struct rule_group *old;
    struct rule_files *files;

    (void)state;
    old = group_of(w,
                   "groups:\n- name: g\n  rules:\n  - record: y\n    expr: x\n"
                   "  - record: y\n    expr: x < 5\n  - record: z\n    expr: x\n",
                   true);
    files = w->files;
    put(w, "x", "a", 10, 1);
    put(w, "x", "b", 10, 2);
    eval(w, 10);
    put(w, "x", "a", 20, (double)NAN); /* of both rules */
    put(w, "x", "b", 20, 6);           /* of one of them */
    eval(w, 20);
    ASSERT_ASK(w, "y", 20, "y{l=\"b\"} => 6\n");
    put(w, "x", "c", 30, 3);
    put(w, "x", "d", 30, 4);
    eval(w, 30);
    for (size_t k = 0; k < 3; k++)
        ASSERT_STANDS(w, k, "ok");
    ASSERT_ASK(w, "y", 30, "y{l=\"b\"} => 6\ny{l=\"c\"} => 3\ny{l=\"d\"} => 4\n");
    group_of(w, "groups:\n- name: g\n  rules:\n  - record: z\n    expr: x\n", true);
    rule_group_take_over(w->group, old);
    rule_group_free(old);
    rule_files_unref(files);
    eval(w, 40);
    ASSERT_ASK(w, "y", 40, "");
    close_world(w);
}

/* Nor does a row that failed take away a column that another rule has. */
static void a_full_disk_leaves_columns_to_those_that_have_them(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  rules:\n  - record: y\n    expr: x > 5\n"
             "  - record: y\n    expr: x <= 5\n",
             true);
    put(w, "x", "a", 10, 7);
    eval(w, 10);
    w->full = true;
    put(w, "x", "a", 20, 3);
    eval(w, 20);
    ASSERT_STANDS(w, 0, "err no space left");
    ASSERT_STANDS(w, 1, "err no space left");
    w->full = false;
    put(w, "x", "a", 30, 8);
    put(w, "x", "b", 30, 9);
    eval(w, 30);
    ASSERT_STANDS(w, 0, "ok");
    ASSERT_STANDS(w, 1, "ok");
    ASSERT_ASK(w, "y", 30, "y{l=\"a\"} => 8\ny{l=\"b\"} => 9\n");
    close_world(w);
}

/* A rule whose samples were in a row before the one that failed is well, but ends are in the last row. */
static void ends_in_a_row_that_failed_are_told_with_the_next(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  rules:\n  - record: y\n    expr: x\n"
             "  - record: y\n    expr: x < 5\n",
             true);
    put(w, "x", "a", 10, 1);
    put(w, "x", "b", 10, 7);
    eval(w, 10);
    w->full = true;
    w->rows = 1;
    put(w, "x", "b", 20, (double)NAN);
    eval(w, 20);
    ASSERT_STANDS(w, 0, "ok");
    ASSERT_STANDS(w, 1, "err no space left");
    w->full = false;
    eval(w, 30);
    ASSERT_STANDS(w, 1, "ok");
    ASSERT_ASK(w, "y", 30, "y{l=\"a\"} => 1\n");
    close_world(w);
}

static void a_group_that_follows_another_takes_over_its_state(void **state)
{
    struct world *w = open_world();
    struct rule_group *old;
    struct rule_files *files;

    (void)state;
    old = group_of(w,
                   "groups:\n- name: g\n  rules:\n  - record: kept\n    expr: x\n"
                   "  - record: gone\n    expr: x\n  - alert: A\n    expr: x > 0\n    for: 20s\n",
                   true);
    files = w->files;
    put(w, "x", "a", 10, 1);
    eval(w, 10);
    group_of(w,
             "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x >= 1\n    for: 20s\n"
             "  - record: kept\n    expr: x > 5\n",
             true);
    rule_group_take_over(w->group, old);
    rule_group_free(old);
    rule_files_unref(files);
    put(w, "x", "a", 30, 1);
    eval(w, 30);
    ASSERT_STANDS(w, 0, "ok firing {alertname=\"A\", l=\"a\"}{}firing@10=1");
    ASSERT_ASK(w, "{__name__=~\"kept|gone\"}", 30,
               ""); /* both are over: one by its rule, one with it */
    ASSERT_ASK(w, "ALERTS", 30, "ALERTS{alertname=\"A\", alertstate=\"firing\", l=\"a\"} => 1\n");
    rule_group_end_series(w->group, 40 * S);
    ASSERT_ASK(w, "{alertname=\"A\"}", 40, "");
    close_world(w);
}

/* What is kept of an expression knows nothing of series: those that come, go, or get other labels are seen. A group
 * that says something else has expressions of its own. */
static void a_kept_expression_sees_what_comes_and_goes(void **state)
{
    struct world *w = open_world();
    struct rule_group *old;
    struct rule_files *files;

    (void)state;
    old = group_of(w,
                   "groups:\n- name: g\n  rules:\n"
                   "  - record: n\n    expr: count by (l) (x{l=~\"a|b.*\"}) * 2\n"
                   "  - record: r\n    expr: sum(max_over_time(x{l!~\"c.+\"}[20s]))\n",
                   true);
    files = w->files;
    for (int64_t t = 10; t <= 40; t += 10) { /* selections are kept from the second time on */
        put(w, "x", "a", t, 1);
        eval(w, t);
        ASSERT_ASK(w, "n or r", t, "n{l=\"a\"} => 2\nr => 1\n");
    }
    put(w, "x", "b1", 50, 5);
    put(w, "x", "c1", 50, 7);
    put(w, "x", "c", 50, 9);
    put(w, "x", "a", 50, 1);
    eval(w, 50);
    ASSERT_ASK(w, "n or r", 50, "n{l=\"a\"} => 2\nn{l=\"b1\"} => 2\nr => 15\n");
    put(w, "x", "a", 60,
        (double)NAN); /* one ends, another gets a label that does not match any more */
    put(w, "x", "b1", 60, (double)NAN);
    put(w, "x", "c2", 60, 5);
    eval(w, 60);
    ASSERT_ASK(w, "n or r", 60, "r => 15\n");
    put(w, "x", "a", 70, 3);
    eval(w, 70);
    ASSERT_ASK(w, "n or r", 70, "n{l=\"a\"} => 2\nr => 3\n");
    group_of(w,
             "groups:\n- name: g\n  rules:\n"
             "  - record: n\n    expr: count by (l) (x{l=~\"c.*\"}) * 3\n",
             true);
    rule_group_take_over(w->group, old);
    rule_group_free(old);
    rule_files_unref(files);
    eval(w, 80);
    ASSERT_ASK(w, "n or r", 80, "n{l=\"c\"} => 3\nn{l=\"c1\"} => 3\nn{l=\"c2\"} => 3\n");
    close_world(w);
}

static void alerts_go_on_after_a_restart(void **state)
{
    static const char text[] =
        "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x > 0\n    for: 30m\n"
        "  - alert: Short\n    expr: x > 0\n    for: 1m\n"
        "  - alert: Fired\n    expr: x > 0\n    for: 11m\n";
    const struct rule_restore how = {3600000, 600000};
    struct world *w = open_world();
    struct rule_group *old;
    struct rule_files *files;

    (void)state;
    old = group_of(w, text, true);
    files = w->files;
    put(w, "x", "a", 1000, 1);
    eval(w, 1000);
    put(w, "x", "a", 1900, 1);
    eval(w, 1900); /* 15 of 30 minutes are over */
    rule_group_free(old);
    rule_files_unref(files);
    group_of(w, text, false);
    put(w, "x", "a", 2500, 1);
    eval(w, 2500);
    ASSERT_STANDS(w, 0, "ok pending {alertname=\"A\", l=\"a\"}{}pending@2500=1");
    rule_group_restore(w->group, 2500 * S, &how);
    ASSERT_STANDS(
        w, 0,
        "ok pending {alertname=\"A\", l=\"a\"}{}pending@1600=1"); /* the pause is not counted */
    ASSERT_STANDS(w, 1, "ok pending {alertname=\"Short\", l=\"a\"}{}pending@2500=1");
    ASSERT_STANDS(w, 2, "ok pending {alertname=\"Fired\", l=\"a\"}{}pending@1000=1");
    eval(w, 2510);
    ASSERT_STANDS(w, 2, "ok firing {alertname=\"Fired\", l=\"a\"}{}firing@1000=1");
    ASSERT_ASK(w, "ALERTS_FOR_STATE{alertname=\"A\"}", 2510,
               "ALERTS_FOR_STATE{alertname=\"A\", l=\"a\"} => 1600\n");
    close_world(w);
}

/* A reload between the start and the second evaluation. */
static void a_group_that_follows_one_that_was_not_restored_is_restored(void **state)
{
    const struct rule_restore how = {3600000, 600000};
    struct world *w = open_world();
    struct rule_group *old;
    struct rule_files *files;

    (void)state;
    put(w, "x", "a", 2500, 1);
    put(w, "x", "a", 2510, 1);
    old = group_of(w, "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x > 0\n    for: 30m\n",
                   false);
    files = w->files;
    {
        const struct label pairs[] = {{{"__name__", 8}, STR("ALERTS_FOR_STATE")},
                                      {{"alertname", 9}, STR("A")},
                                      {{"l", 1}, STR("a")}};
        const struct labels ls = {pairs, 3};
        const double since = 2000;
        uint32_t col;
        assert_ok(storage_group_column(w->input, &ls, &col, NULL, &err), &err);
        assert_ok(storage_group_append(w->input, 2511 * 1000, &col, &since, 1, NULL, &err), &err);
    }
    eval(w, 2500);
    group_of(w,
             "groups:\n- name: g\n  rules:\n  - alert: New\n    expr: x > 0\n"
             "  - alert: A\n    expr: x >= 1\n    for: 30m\n",
             true);
    rule_group_take_over(w->group, old);
    rule_group_free(old);
    rule_files_unref(files);
    eval(w, 2510);
    ASSERT_ASK(w, "ALERTS", 2510,
               "ALERTS{alertname=\"New\", alertstate=\"firing\", l=\"a\"} => 1\n");
    rule_group_restore(w->group, 2511 * S, &how);
    ASSERT_STANDS(w, 1, "ok pending {alertname=\"A\", l=\"a\"}{}pending@2000=1");
    close_world(w);
}

static void what_is_no_time_restores_nothing(void **state)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY, 1e300, -1e300, 9e9, -1};
    const struct rule_restore how = {3600000, 600000};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(bad); i++) {
        struct world *w = open_world();
        const struct label pairs[] = {{{"__name__", 8}, STR("ALERTS_FOR_STATE")},
                                      {{"alertname", 9}, STR("A")},
                                      {{"l", 1}, STR("a")}};
        const struct labels ls = {pairs, 3};
        uint32_t col;

        group_of(w, "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x > 0\n    for: 30m\n",
                 false);
        put(w, "x", "a", 2500, 1);
        assert_ok(storage_group_column(w->input, &ls, &col, NULL, &err), &err);
        assert_ok(storage_group_append(w->input, 2505 * 1000, &col, &bad[i], 1, NULL, &err), &err);
        eval(w, 2506);
        rule_group_restore(w->group, 2506 * S, &how);
        ASSERT_STANDS(w, 0, "ok pending {alertname=\"A\", l=\"a\"}{}pending@2506=1");
        close_world(w);
    }
}

/* ---- alerts ------------------------------------------------------------------------------------------ */

static void an_alert_goes_its_way(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  rules:\n  - alert: High\n    expr: x > 5\n    for: 20s\n"
             "    keep_firing_for: 20s\n    labels: {severity: '{{ if gt $value 9.0 }}bad{{ else "
             "}}warn{{ end }}'}\n"
             "    annotations: {s: '{{ $labels.l }} is {{ $value }} in {{ $externalLabels.cluster "
             "}}'}\n",
             true);
    put(w, "x", "a", 10, 1);
    ASSERT_STANDS(w, 0, "unknown unknown");
    eval(w, 10);
    ASSERT_STANDS(w, 0, "ok inactive");
    put(w, "x", "a", 20, 7);
    eval(w, 20);
    ASSERT_STANDS(w, 0,
                  "ok pending {alertname=\"High\", l=\"a\", severity=\"warn\"}{s=\"a is 7 in "
                  "c1\"}pending@20=7");
    ASSERT_ASK(
        w, "{alertname=\"High\"}", 20,
        "ALERTS_FOR_STATE{alertname=\"High\", l=\"a\", severity=\"warn\"} => 20\n"
        "ALERTS{alertname=\"High\", alertstate=\"pending\", l=\"a\", severity=\"warn\"} => 1\n");
    put(w, "x", "a", 40, 8);
    eval(w, 40);
    ASSERT_STANDS(w, 0,
                  "ok firing {alertname=\"High\", l=\"a\", severity=\"warn\"}{s=\"a is 8 in "
                  "c1\"}firing@20=8");
    ASSERT_ASK(
        w, "ALERTS", 40,
        "ALERTS{alertname=\"High\", alertstate=\"firing\", l=\"a\", severity=\"warn\"} => 1\n");
    assert_string_equal(buf_cstr(&w->sent),
                        "{alertname=\"High\", l=\"a\", severity=\"warn\"} 40-280 "
                        "http://x/graph?g0.expr=x+%3E+5&g0.tab=1\n");
    buf_clear(&w->sent);
    put(w, "x", "a", 50, 1);
    eval(w, 50); /* gone, but it keeps firing */
    ASSERT_STANDS(w, 0,
                  "ok firing {alertname=\"High\", l=\"a\", severity=\"warn\"}{s=\"a is 8 in "
                  "c1\"}firing@20=8~50");
    assert_int_equal(w->sent.len, 0);
    eval(w, 70);
    ASSERT_STANDS(w, 0, "ok inactive");
    ASSERT_ASK(w, "{alertname=\"High\"}", 70, "");
    assert_string_equal(buf_cstr(&w->sent),
                        "{alertname=\"High\", l=\"a\", severity=\"warn\"} 40-70 "
                        "http://x/graph?g0.expr=x+%3E+5&g0.tab=1 resolved\n");
    buf_clear(&w->sent);
    eval(w, 80); /* within the resend delay */
    assert_int_equal(w->sent.len, 0);
    eval(w, 140);
    assert_true(w->sent.len > 0); /* resolved, told again */
    put(w, "x", "a", 150, 7);
    eval(w, 150);
    ASSERT_STANDS(w, 0,
                  "ok pending {alertname=\"High\", l=\"a\", severity=\"warn\"}{s=\"a is 7 in "
                  "c1\"}pending@150=7");
    close_world(w);
}

/* RUL-044, RUL-051: every resend delay, for 15 minutes; the time it ended stays. */
static void a_resolved_alert_is_told_for_a_quarter_of_an_hour(void **state)
{
    struct world *w = open_world();
    const char *want = "{alertname=\"Up\", l=\"a\"} 20-40 "
                       "http://x/graph?g0.expr=x+%3E+5&g0.tab=1 resolved\n";
    unsigned told = 0;
    int64_t last = 0;

    (void)state;
    group_of(w, "groups:\n- name: g\n  rules:\n  - {alert: Up, expr: x > 5}\n", true);
    put(w, "x", "a", 20, 7);
    eval(w, 20);
    buf_clear(&w->sent);
    put(w, "x", "a", 40, 1);
    for (int64_t t = 40; t <= 40 + 20 * 60; t += 10) {
        eval(w, t);
        if (!w->sent.len)
            continue;
        assert_buf(&w->sent, want, "resolved");
        if (told++)
            assert_int_equal(t - last, 70); /* the first evaluation after a minute */
        last = t;
        buf_clear(&w->sent);
    }
    assert_int_equal(told, 1 + 15 * 60 / 70);
    close_world(w);
}

static void a_pending_alert_that_ends_is_forgotten(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w, "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x > 5\n    for: 1m\n", true);
    put(w, "x", "a", 10, 6);
    eval(w, 10);
    put(w, "x", "a", 20, 1);
    eval(w, 20);
    ASSERT_STANDS(w, 0, "ok inactive");
    ASSERT_ASK(w, "{alertname=\"A\"}", 20, "");
    assert_int_equal(w->sent.len, 0);
    close_world(w);
}

static void alerts_of_one_label_set_fail_the_rule(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  limit: 1\n  rules:\n"
             "  - alert: A\n    expr: x > 5\n    labels: {l: same}\n"
             "  - alert: B\n    expr: x > 5\n",
             true);
    put(w, "x", "a", 10, 6);
    eval(w, 10);
    ASSERT_STANDS(w, 0, "ok firing {alertname=\"A\", l=\"same\"}{}firing@10=6");
    put(w, "x", "b", 20, 6);
    eval(w, 20);
    ASSERT_STANDS(
        w, 0,
        "err firing {alertname=\"A\", l=\"same\"}{}firing@10=6 vector contains metrics with "
        "the same labelset after applying alert labels");
    ASSERT_STANDS(w, 1, "err inactive exceeded limit of 1 with 2 alerts");
    close_world(w);
}

static void a_template_that_fails_says_so_in_its_place(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w,
             "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x > 5\n"
             "    labels: {gone: '{{ $labels.nope }}'}\n"
             "    annotations: {a: '{{ $labels.l.m }}', b: '{{ query \"x\" | first | value }}', "
             "c: '{{ query \"nope\" | first | value }}', d: '{{ query \"(\" }}'}\n",
             true);
    put(w, "x", "a", 10, 6);
    eval(w, 10);
    ASSERT_STANDS(w, 0,
                  "ok firing {alertname=\"A\", l=\"a\"}{a=\"<error expanding template: error "
                  "executing template __alert_A: "
                  "template: __alert_A:1:122: executing \\\"__alert_A\\\" at <$labels.l.m>: can't "
                  "evaluate field m in type "
                  "string>\", b=\"6\", c=\"<error expanding template: error executing template "
                  "__alert_A: template: "
                  "__alert_A:1:130: executing \\\"__alert_A\\\" at <first>: error calling first: "
                  "first() called on vector with "
                  "no elements>\", d=\"<error expanding template: error executing template "
                  "__alert_A: template: "
                  "__alert_A:1:115: executing \\\"__alert_A\\\" at <query \\\"(\\\">: error "
                  "calling query: 1:2: parse error: "
                  "unclosed left parenthesis>\"}firing@10=6");
    close_world(w);
}

static void alerts_are_told_again_after_the_delay(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w, "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: vector(1)\n", true);
    eval(w, 100);
    assert_string_equal(
        buf_cstr(&w->sent),
        "{alertname=\"A\"} 100-340 http://x/graph?g0.expr=vector%281%29&g0.tab=1\n");
    buf_clear(&w->sent);
    eval(w, 160); /* not before the delay is over */
    assert_int_equal(w->sent.len, 0);
    eval(w, 170);
    assert_string_equal(
        buf_cstr(&w->sent),
        "{alertname=\"A\"} 100-410 http://x/graph?g0.expr=vector%281%29&g0.tab=1\n");
    close_world(w);
}

static void alerts_are_not_written_before_the_state_is_restored(void **state)
{
    struct world *w = open_world();

    (void)state;
    group_of(w, "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: vector(1)\n", false);
    eval(w, 100);
    ASSERT_ASK(w, "ALERTS", 100, "");
    ASSERT_STANDS(w, 0, "ok firing {alertname=\"A\"}{}firing@100=1");
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_get_the_rules_name_and_labels),
        cmocka_unit_test(a_rule_sees_what_rules_before_it_wrote),
        cmocka_unit_test(a_series_that_vanishes_is_ended),
        cmocka_unit_test(a_rule_that_fails_writes_and_ends_nothing),
        cmocka_unit_test(rules_of_a_stage_are_evaluated_by_several_threads),
        cmocka_unit_test(a_rule_that_fails_for_ever_keeps_nothing),
        cmocka_unit_test(what_the_store_refuses_is_the_rules_error),
        cmocka_unit_test(a_row_that_the_store_cannot_take_is_an_error_and_nothing_is_forgotten),
        cmocka_unit_test(a_full_disk_keeps_no_series_that_were_never_written),
        cmocka_unit_test(rules_may_give_one_series_in_turn),
        cmocka_unit_test(rules_may_give_one_series_at_once),
        cmocka_unit_test(a_full_disk_leaves_columns_to_those_that_have_them),
        cmocka_unit_test(ends_in_a_row_that_failed_are_told_with_the_next),
        cmocka_unit_test(a_group_that_follows_another_takes_over_its_state),
        cmocka_unit_test(a_kept_expression_sees_what_comes_and_goes),
        cmocka_unit_test(alerts_go_on_after_a_restart),
        cmocka_unit_test(a_group_that_follows_one_that_was_not_restored_is_restored),
        cmocka_unit_test(what_is_no_time_restores_nothing),
        cmocka_unit_test(the_query_offset_moves_queries_and_samples),
        cmocka_unit_test(an_alert_goes_its_way),
        cmocka_unit_test(a_resolved_alert_is_told_for_a_quarter_of_an_hour),
        cmocka_unit_test(a_pending_alert_that_ends_is_forgotten),
        cmocka_unit_test(alerts_of_one_label_set_fail_the_rule),
        cmocka_unit_test(a_template_that_fails_says_so_in_its_place),
        cmocka_unit_test(alerts_are_told_again_after_the_delay),
        cmocka_unit_test(alerts_are_not_written_before_the_state_is_restored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
