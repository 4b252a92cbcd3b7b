/* Set operations against the plainest way to do the same. */
#include "tests/support/test.h"

#include "storage/postings.h"

#define UNIVERSE 400u

static struct nx_err err;

struct set {
    bool has[UNIVERSE];
    uint32_t v[UNIVERSE];
    struct ids ids;
};

/* Sparse, dense, in runs, empty or full. */
static void fill(struct set *s, struct test_random *r)
{
    const uint64_t one_in = 1 + test_random_below(r, 40), mode = test_random_below(r, 5);
    bool on = false;

    s->ids = (struct ids){s->v, 0};
    for (uint32_t i = 0; i < UNIVERSE; i++) {
        if (test_random_below(r, one_in) == 0)
            on = mode == 1 ? !on : true;
        else if (mode != 1)
            on = false;
        s->has[i] = mode == 2 ? false : mode == 3 ? true : on;
        if (s->has[i])
            s->v[s->ids.n++] = i;
    }
}

static void is(struct ids got, const struct set *x, const struct set *y, char op)
{
    size_t at = 0;

    for (uint32_t i = 0; i < UNIVERSE; i++) {
        const bool want = op == '&'   ? x->has[i] && y->has[i]
                          : op == '-' ? x->has[i] && !y->has[i]
                                      : x->has[i] || y->has[i];
        if (want && (at >= got.n || got.v[at++] != i))
            fail_msg("%u is missing after %c", i, op);
        assert_true(ids_has(got, i) == want);
    }
    assert_int_equal(at, got.n);
}

static void two_sets_meet(void **state)
{
    struct test_random r = {1};
    struct arena *a = arena_new(0);

    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct set x, y;
        struct ids got;

        arena_reset(a);
        fill(&x, &r);
        fill(&y, &r);
        assert_ok(ids_and(a, x.ids, y.ids, &got, &err), &err);
        is(got, &x, &y, '&');
        assert_ok(ids_minus(a, x.ids, y.ids, &got, &err), &err);
        is(got, &x, &y, '-');
        assert_ok(ids_or(a, (struct ids[]){x.ids, y.ids}, 2, &got, &err), &err);
        is(got, &x, &y, '|');
    }
    arena_free(a);
}

static void many_sets_unite(void **state)
{
    struct test_random r = {2};
    struct arena *a = arena_new(0);

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct set s[9], all = {.ids = {NULL, 0}};
        struct ids list[9], got;
        const size_t n = test_random_below(&r, 10);

        arena_reset(a);
        for (size_t i = 0; i < n; i++) {
            fill(&s[i], &r);
            list[i] = s[i].ids;
            for (uint32_t k = 0; k < UNIVERSE; k++)
                all.has[k] |= s[i].has[k];
        }
        assert_ok(ids_or(a, list, n, &got, &err), &err);
        is(got, &all, &all, '|');
    }
    arena_free(a);
}

static void the_arenas_limit_is_reported(void **state)
{
    struct arena *a = arena_new(4096);
    struct ids got;

    (void)state;
    assert_status(ids_range(a, 5, 100000, &got, &err), NX_LIMIT);
    assert_ok(ids_range(a, 5, 3, &got, &err), &err);
    assert_int_equal(got.v[2], 7);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_sets_meet),
        cmocka_unit_test(many_sets_unite),
        cmocka_unit_test(the_arenas_limit_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
