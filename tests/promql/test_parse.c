/* test_parse.c - the tree: shapes, values and positions; and what hostile texts and a full memory do. */
#include "tests/support/test.h"

#include <pthread.h>

#include "promql/ast.h"
#include "promql/funcs.h"
#include "src/base/limits.h"
#include "tests/support/oom.h"

static const struct pql_features everything = {
    .experimental_functions = true, .binop_fill = true, .extended_range = true};

struct parsed {
    struct arena *a;
    const struct pql_expr *e;
};

static int setup(void **state)
{
    struct parsed *p = calloc(1, sizeof *p);

    if (p)
        p->a = arena_new(0);
    *state = p;
    return p && p->a ? 0 : -1;
}

static int teardown(void **state)
{
    struct parsed *p = *state;

    pql_expr_done(p->e);
    arena_free(p->a);
    free(p);
    return 0;
}

static const struct pql_expr *parse(void **state, const char *text)
{
    struct parsed *p = *state;
    struct nx_err err;

    pql_expr_done(p->e);
    p->e = NULL;
    assert_ok(pql_parse(p->a, STR(text), &everything, &p->e, &err), &err);
    return p->e;
}

static void assert_pos(const struct pql_expr *e, uint32_t start, uint32_t end)
{
    assert_int_equal(e->pos.start, start);
    assert_int_equal(e->pos.end, end);
}

static void the_tree_outlives_the_text(void **state)
{
    char text[] = "up{job=\"a\"}";
    struct parsed *p = *state;
    struct nx_err err;

    assert_ok(pql_parse(p->a, STR(text), NULL, &p->e, &err), &err);
    memset(text, 'x', sizeof text);
    assert_text(p->e->selector.name, "up", "name");
    assert_text(p->e->selector.m[0].value, "a", "value");
}

static void selectors_hold_their_matchers_and_then_the_name(void **state)
{
    const struct pql_expr *e = parse(state, " up{b!=\"1\", a=~\"x|y\"} ");

    assert_int_equal(e->kind, PQL_NODE_SELECTOR);
    assert_int_equal(e->type, PQL_VECTOR);
    assert_pos(e, 1, 21);
    assert_int_equal(e->selector.n, 3);
    assert_text(e->selector.m[0].name, "b", "first");
    assert_int_equal(e->selector.m[0].type, MATCH_NEQ);
    assert_int_equal(e->selector.m[1].type, MATCH_RE);
    assert_true(regex_match(e->selector.m[1].re, LIT("y")));
    assert_text(e->selector.m[2].name, LABEL_NAME, "last");
    assert_text(e->selector.m[2].value, "up", "last");
    assert_text(e->selector.name, "up", "name");

    e = parse(state, "{\"a.b\"}");
    assert_int_equal(e->selector.name.len, 0);
    assert_int_equal(e->selector.n, 1);
    assert_text(e->selector.m[0].value, "a.b", "quoted name");
}

static void shifts_go_to_the_selector(void **state)
{
    const struct pql_expr *e = parse(state, "up[5m] offset -1m30s @ 1603774568.123");
    const struct pql_shift *s = &e->range.selector->selector.shift;

    assert_int_equal(e->kind, PQL_NODE_RANGE);
    assert_int_equal(e->type, PQL_MATRIX);
    assert_int_equal(e->range.range.ms, 300000);
    assert_true(s->has_offset);
    assert_int_equal(s->offset.ms, -90000);
    assert_int_equal(s->at, PQL_AT_TIME);
    assert_int_equal(s->at_ms, 1603774568123);
    assert_pos(e, 0, 37);

    e = parse(state, "(up)[1h:5] @ start() offset 0");
    assert_int_equal(e->kind, PQL_NODE_SUBQUERY);
    assert_int_equal(e->sub.range.ms, 3600000);
    assert_int_equal(e->sub.step.ms, 5000);
    assert_int_equal(e->sub.shift.at, PQL_AT_START);
    assert_false(e->sub.shift.has_offset);
}

static void durations_are_cut_to_milliseconds(void **state)
{
    assert_int_equal(parse(state, "up[0.0019]")->range.range.ms, 1);
    assert_int_equal(parse(state, "up[1.9999999999]")->range.range.ms,
                     2000); /* rounded to ns before */
    assert_int_equal(parse(state, "up offset -0.0019")->selector.shift.offset.ms, -1);
    assert_int_equal(parse(state, "up[9223372036.854775807]")->range.range.ms,
                     INT64_C(9223372036854));
}

static void duration_expressions_keep_their_shape(void **state)
{
    const struct pql_expr *e = parse(state, "up[5m + step() * -range() ^ 2]");
    const struct pql_durexpr *d = e->range.range.expr;

    assert_non_null(d);
    assert_int_equal(d->op, PQL_DUR_ADD);
    assert_true(d->lhs->is_duration);
    assert_true(d->lhs->value == 300);
    assert_int_equal(d->rhs->op, PQL_DUR_MUL);
    assert_int_equal(d->rhs->lhs->op, PQL_DUR_STEP);
    assert_int_equal(d->rhs->rhs->op, PQL_DUR_NEG);
    assert_int_equal(d->rhs->rhs->lhs->op, PQL_DUR_POW);
    assert_int_equal(d->pos.start, 3);
    assert_int_equal(d->pos.end, 29);

    e = parse(state, "up offset (5m)");
    assert_true(e->selector.shift.has_offset);
    assert_int_equal(e->selector.shift.offset.expr->op, PQL_DUR_PAREN);
}

static void operators_bind_by_precedence(void **state)
{
    const struct pql_expr *e = parse(state, "a or b and c > 1 + 2 * -d ^ 3 ^ 4");

    assert_int_equal(e->binary.op, PQL_OP_OR);
    e = e->binary.rhs;
    assert_int_equal(e->binary.op, PQL_OP_AND);
    e = e->binary.rhs;
    assert_int_equal(e->binary.op, PQL_OP_GT);
    e = e->binary.rhs;
    assert_int_equal(e->binary.op, PQL_OP_ADD);
    e = e->binary.rhs;
    assert_int_equal(e->binary.op, PQL_OP_MUL);
    e = e->binary.rhs;
    assert_int_equal(e->kind, PQL_NODE_UNARY);
    e = e->unary.inner;
    assert_int_equal(e->binary.op, PQL_OP_POW);
    assert_int_equal(e->binary.rhs->binary.op, PQL_OP_POW); /* to the right */

    e = parse(state, "a - b - c");
    assert_int_equal(e->binary.lhs->kind, PQL_NODE_BINARY); /* to the left */
    assert_int_equal(e->binary.rhs->kind, PQL_NODE_SELECTOR);
}

static void matching_is_kept_between_vectors_only(void **state)
{
    const struct pql_expr *e = parse(state, "a * on(x, \"y z\") group_right(w) fill_left(2) b");
    const struct pql_matching *m = &e->binary.match;

    assert_true(m->present);
    assert_true(m->on);
    assert_int_equal(m->n, 2);
    assert_text(m->labels[1], "y z", "label");
    assert_int_equal(m->card, PQL_ONE_TO_MANY);
    assert_int_equal(m->n_include, 1);
    assert_true(m->has_fill_left && !m->has_fill_right);
    assert_true(m->fill_left == 2);

    assert_int_equal(parse(state, "a and b")->binary.match.card, PQL_MANY_TO_MANY);
    e = parse(state, "1 + on() group_left() b");
    assert_false(e->binary.match.present);
    assert_int_equal(e->binary.match.card, PQL_ONE_TO_ONE);
}

static void types_are_known(void **state)
{
    assert_int_equal(pql_expr_type(parse(state, "1 + (2)")), PQL_SCALAR);
    assert_int_equal(pql_expr_type(parse(state, "1 + a")), PQL_VECTOR);
    assert_int_equal(pql_expr_type(parse(state, "-(a)")), PQL_VECTOR);
    assert_int_equal(pql_expr_type(parse(state, "('x')")), PQL_STRING);
    assert_int_equal(pql_expr_type(parse(state, "a[1m]")), PQL_MATRIX);
    assert_int_equal(pql_expr_type(parse(state, "a[1m:]")), PQL_MATRIX);
    assert_int_equal(pql_expr_type(parse(state, "time()")), PQL_SCALAR);
    assert_int_equal(pql_expr_type(parse(state, "sum(a)")), PQL_VECTOR);
    assert_string_equal(pql_type_name(PQL_MATRIX), "range vector");
}

static void aggregations_hold_parameter_and_labels(void **state)
{
    const struct pql_expr *e = parse(state, "topk(3, a) without (x, y)");

    assert_int_equal(e->agg.op, PQL_AGG_TOPK);
    assert_true(e->agg.param->number.value == 3);
    assert_int_equal(e->agg.inner->kind, PQL_NODE_SELECTOR);
    assert_true(e->agg.without);
    assert_int_equal(e->agg.n, 2);
    assert_pos(e, 0, 25);
}

static void note(void *ctx, const struct matcher *m, size_t n)
{
    buf_slice(ctx, m[n - 1].value);
}

static void selectors_are_visited_in_source_order(void **state)
{
    struct buf b;

    buf_init(&b, 0);
    pql_each_selector(
        parse(state,
              "sum(a + -b) / (count_over_time(c[1m:]) * 2) ^ rate(d[1m]) + topk(scalar(e), f)"),
        note, &b);
    assert_buf(&b, "abcdef", "order");
    buf_done(&b);
}

#ifdef __SANITIZE_ADDRESS__
enum { STACK_BYTES = 4 << 20 }; /* frames are several times their size */
#else
enum { STACK_BYTES = 256 << 10 };
#endif

/* ---- hostile texts ---------------------------------------------------------------------------- */

static const struct {
    const char *before, *middle, *after;
} nests[] = {
    {"(", "a", ")"},       {"-", "a", ""},         {"abs(", "a", ")"},
    {"sum(", "a", ")"},    {"a ^ ", "a", ""},      {"", "a", " + a"},
    {"", "a", "[5m:1m]"},  {"a[(", "1", ")]"},     {"a[-", "step()", "]"},
    {"a[1^", "1", "]"},    {"a[1", "+1", "]"},     {"a offset (", "1", ")"},
    {"{", "", ""},         {"a + on(x) ", "", ""}, {"min_of(", "1", ",1)"},
    {"vector(", "1", ")"},
};

/* before^n middle after^n; the parts in brackets are repeated inside the brackets. */
static void nest(struct buf *b, size_t which, size_t n)
{
    const char *before = nests[which].before, *after = nests[which].after;
    bool bracket = strncmp(before, "a[", 2) == 0, offset = strncmp(before, "a offset ", 9) == 0;

    buf_init(b, 0);
    if (bracket)
        buf_str(b, "a[");
    if (offset)
        buf_str(b, "a offset ");
    before += bracket ? 2 : offset ? 9 : 0;
    for (size_t i = 0; i < n; i++)
        buf_str(b, before);
    for (size_t i = 0; i < (bracket && nests[which].middle[0] == '+' ? n : 1); i++)
        buf_str(b, nests[which].middle);
    for (size_t i = 0; i < n; i++)
        buf_append(b, after, strlen(after) - (bracket ? 1 : 0));
    if (bracket)
        buf_char(b, ']');
}

static void parse_nest(size_t which, size_t n, bool *ok)
{
    struct arena *a = arena_new(0);
    const struct pql_expr *e = NULL;
    struct nx_err err;
    struct buf text, out;
    nx_status st;

    nest(&text, which, n);
    st = pql_parse(a, buf_view(&text), &everything, &e, &err);
    *ok = st == NX_OK;
    if (st == NX_OK) {
        assert_true(e->height <= NX_LIMIT_QUERY_DEPTH);
        buf_init(&out, 0);
        pql_print(&out, e);
        pql_format(&out, e);
        buf_done(&out);
    } else {
        assert_int_equal(st, NX_BADINPUT);
    }
    pql_expr_done(e);
    buf_done(&text);
    arena_free(a);
}

/* The deepest tree that is taken, and far deeper texts, in a thread with the server's stack. */
static void *nest_all(void *unused)
{
    for (size_t i = 0; i < NX_COUNT(nests); i++) {
        bool ok;

        for (size_t n = 250; n < 260; n++)
            parse_nest(i, n, &ok);
        for (size_t n = NX_LIMIT_QUERY_DEPTH - 4; n < NX_LIMIT_QUERY_DEPTH + 4; n++)
            parse_nest(i, n, &ok);
        assert_false(ok);
        parse_nest(i, 200000, &ok);
        assert_false(ok);
        parse_nest(i, 20, &ok);
    }
    return unused;
}

static void deep_nesting_is_refused_and_needs_little_stack(void **state)
{
    pthread_attr_t attr;
    pthread_t t;

    (void)state;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&t, &attr, nest_all, NULL), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    pthread_attr_destroy(&attr);
}

static void the_depth_message_is_clear(void **state)
{
    struct parsed *p = *state;
    struct nx_err err;
    struct buf b;

    nest(&b, 0, 600);
    assert_status(pql_parse(p->a, buf_view(&b), NULL, &p->e, &err), NX_BADINPUT);
    assert_non_null(
        strstr(err.text, "parse error: expression is nested more than 256 levels deep"));
    buf_done(&b);
}

static void wide_expressions_are_taken(void **state)
{
    struct buf b;

    buf_init(&b, 0);
    buf_str(&b, "label_join(a, \"x\", \",\"");
    for (int i = 0; i < 5000; i++)
        buf_printf(&b, ", \"label_%d\"", i);
    buf_str(&b, ")");
    assert_int_equal(parse(state, buf_cstr(&b))->call.n, 5003);
    buf_clear(&b);
    buf_str(&b, "a{");
    for (int i = 0; i < 3000; i++)
        buf_printf(&b, "l%d!=\"x\",", i);
    buf_str(&b, "}");
    assert_int_equal(parse(state, buf_cstr(&b))->selector.n, 3001);
    buf_done(&b);
}

static void texts_beyond_the_limit_are_refused(void **state)
{
    struct parsed *p = *state;
    size_t n = NX_LIMIT_QUERY_BYTES + 1;
    char *text = malloc(n);
    struct nx_err err;

    assert_non_null(text);
    memset(text, ' ', n);
    assert_status(pql_parse(p->a, nx_slice_of(text, n), NULL, &p->e, &err), NX_BADINPUT);
    assert_non_null(strstr(err.text, "longer than"));
    free(text);
}

static void texts_may_hold_any_byte(void **state)
{
    struct parsed *p = *state;
    struct nx_err err;

    assert_status(pql_parse(p->a, LIT("a\0b"), NULL, &p->e, &err), NX_BADINPUT);
    assert_string_equal(err.text, "1:2: parse error: unexpected character: '\\x00'");
    assert_status(pql_parse(p->a, LIT("a\xff"), NULL, &p->e, &err), NX_BADINPUT);
    assert_string_equal(err.text, "1:2: parse error: unexpected character: '\xef\xbf\xbd'");
    assert_status(pql_parse(p->a, LIT("\"\xff\""), NULL, &p->e, &err), NX_BADINPUT);
    assert_string_equal(err.text, "1:1: parse error: invalid UTF-8 rune");
}

/* ---- memory ----------------------------------------------------------------------------------- */

static void running_out_of_memory_is_an_error(void **state)
{
    static const char *const texts[] = {"sum by (a, b) (rate(x{l=~\"a.*\",m!=\"b\"}[5m + step()])) "
                                        "/ on(c) group_left(d) y offset (1m * 2)",
                                        "x{a=~\"b\"} unexpected", "unknown_function(x)",
                                        "x{y=\"z\"} == bool \"\\z\""};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        for (unsigned n = 1;; n++) {
            const struct pql_expr *e = NULL;
            struct arena *a;
            struct nx_err err;
            nx_status st = NX_NOMEM;

            oom_fail_at(n);
            a = arena_new(0);
            if (a)
                st = pql_parse(a, STR(texts[i]), &everything, &e, &err);
            pql_expr_done(e);
            arena_free(a);
            if (!oom_off())
                break;
            assert_int_equal(st, NX_NOMEM);
        }
    }
}

static void a_full_arena_is_an_error(void **state)
{
    (void)state;
    for (size_t limit = 4096; limit < 200000; limit += 4096) {
        const struct pql_expr *e = NULL;
        struct arena *a = arena_new(limit);
        struct nx_err err;
        struct buf b;
        nx_status st;

        buf_init(&b, 0);
        buf_str(&b, "label_join(a{x=~\"y\"}, \"x\", \",\"");
        for (int i = 0; i < 500; i++)
            buf_printf(&b, ", \"label_%d\"", i);
        buf_str(&b, ")");
        st = pql_parse(a, buf_view(&b), NULL, &e, &err);
        if (st)
            assert_int_equal(st, NX_LIMIT);
        pql_expr_done(e);
        buf_done(&b);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_tree_outlives_the_text, setup, teardown),
        cmocka_unit_test_setup_teardown(selectors_hold_their_matchers_and_then_the_name, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(shifts_go_to_the_selector, setup, teardown),
        cmocka_unit_test_setup_teardown(durations_are_cut_to_milliseconds, setup, teardown),
        cmocka_unit_test_setup_teardown(duration_expressions_keep_their_shape, setup, teardown),
        cmocka_unit_test_setup_teardown(operators_bind_by_precedence, setup, teardown),
        cmocka_unit_test_setup_teardown(matching_is_kept_between_vectors_only, setup, teardown),
        cmocka_unit_test_setup_teardown(types_are_known, setup, teardown),
        cmocka_unit_test_setup_teardown(aggregations_hold_parameter_and_labels, setup, teardown),
        cmocka_unit_test_setup_teardown(selectors_are_visited_in_source_order, setup, teardown),
        cmocka_unit_test(deep_nesting_is_refused_and_needs_little_stack),
        cmocka_unit_test_setup_teardown(the_depth_message_is_clear, setup, teardown),
        cmocka_unit_test_setup_teardown(wide_expressions_are_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(texts_beyond_the_limit_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(texts_may_hold_any_byte, setup, teardown),
        cmocka_unit_test(running_out_of_memory_is_an_error),
        cmocka_unit_test(a_full_arena_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
