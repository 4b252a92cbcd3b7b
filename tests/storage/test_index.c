/* test_index.c - the head's index against a list of label sets that is searched from end to end. */
#include "tests/support/test.h"

#include "storage/index.h"

#define MAX_SERIES 400

struct entry {
    uint32_t id; /* 0: gone */
    char values[3][8];
};

struct fixture {
    struct index *ix;
    struct entry v[MAX_SERIES];
    size_t n;
    struct test_random rnd;
    struct nx_err err;
};

/* {__name__, job, zone}; an empty value is no label. */
static struct labels labels_of(const struct entry *e, struct label v[3])
{
    static const char *const names[] = {LABEL_NAME, "job", "zone"};
    uint32_t n = 0;

    for (int i = 0; i < 3; i++) {
        if (e->values[i][0])
            v[n++] = (struct label){STR(names[i]), STR(e->values[i])};
    }
    return (struct labels){v, n};
}

static void random_entry(struct fixture *f, struct entry *e)
{
    static const char *const zones[] = {"", "a", "b"};

    *e = (struct entry){0};
    snprintf(e->values[0], sizeof e->values[0], "m%u", (unsigned)test_random_below(&f->rnd, 6));
    snprintf(e->values[1], sizeof e->values[1], "j%u", (unsigned)test_random_below(&f->rnd, 40));
    snprintf(e->values[2], sizeof e->values[2], "%s", zones[test_random_below(&f->rnd, 3)]);
}

static void add(struct fixture *f)
{
    struct label v[3];
    struct memseries *s;
    struct entry e;

    random_entry(f, &e);
    struct labels ls = labels_of(&e, v);
    uint64_t hash = labels_hash(&ls);
    s = index_find(f->ix, &ls, hash);
    for (size_t i = 0; i < f->n; i++) {
        if (f->v[i].id && memcmp(f->v[i].values, e.values, sizeof e.values) == 0) {
            assert_non_null(s);
            assert_int_equal(s->id, f->v[i].id);
            return;
        }
    }
    assert_null(s);
    if (f->n == MAX_SERIES)
        return;
    assert_ok(index_add(f->ix, &ls, hash, &s, &f->err), &f->err);
    assert_int_equal(s->home.group, HOME_NONE);
    e.id = s->id;
    f->v[f->n++] = e;
}

static void remove_some(struct fixture *f)
{
    uint32_t ids[MAX_SERIES];
    size_t n = 0, kept = 0, at = test_random_below(&f->rnd, 5);

    for (size_t i = 0; i < f->n; i++) {
        if (i % 5 == at)
            ids[n++] = f->v[i].id; /* they ascend, as they were added */
        else
            f->v[kept++] = f->v[i];
    }
    f->n = kept;
    assert_int_equal(index_remove(f->ix, ids, n), n);
    for (size_t i = 0; i < n; i++)
        assert_null(index_series(f->ix, ids[i]));
}

static void check_selection(struct fixture *f, struct matcher *m, size_t n_m)
{
    struct arena *a = arena_new(0);
    struct postings_source src = index_source(f->ix);
    struct ids ids;
    struct series_list list;
    size_t want = 0;

    assert_ok(postings_select(&src, m, n_m, a, &ids, &f->err), &f->err);
    assert_ok(index_labels(f->ix, ids, a, &list, &f->err), &f->err);
    for (size_t i = 0; i < f->n; i++) {
        struct label v[3];
        struct labels ls = labels_of(&f->v[i], v);
        bool all = matchers_match(m, n_m, &ls);

        want += all;
        assert_int_equal(ids_has(ids, f->v[i].id), all);
    }
    assert_int_equal(list.n, want);
    for (size_t i = 1; i < list.n; i++)
        assert_true(labels_cmp(&list.v[i - 1].labels, &list.v[i].labels) < 0);
    arena_free(a);
}

static void check_lists(struct fixture *f)
{
    struct arena *a = arena_new(0);
    struct nx_slice *v;
    size_t n, zones = 0;
    struct index_stats st;
    bool a_zone = false, b_zone = false;

    for (size_t i = 0; i < f->n; i++) {
        a_zone = a_zone || f->v[i].values[2][0] == 'a';
        b_zone = b_zone || f->v[i].values[2][0] == 'b';
    }
    zones = (size_t)a_zone + b_zone;
    assert_ok(index_label_values(f->ix, STR("zone"), NULL, 0, a, &v, &n, &f->err), &f->err);
    assert_int_equal(n, zones);
    assert_ok(index_label_names(f->ix, NULL, 0, a, &v, &n, &f->err), &f->err);
    assert_int_equal(n, f->n ? 2 + (zones > 0) : 0);
    index_get_stats(f->ix, &st);
    assert_int_equal(st.series, f->n);
    assert_true(f->n || (st.pairs == 0 && st.symbols == 0)); /* nothing stays behind */
    arena_free(a);
}

static void the_index_agrees_with_a_list(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct regex *re;
    char job[8];

    (void)state;
    f->rnd.state = 99;
    f->ix = index_new();
    assert_ok(regex_new(&re, STR("j1.*|j2|"), &f->err), &f->err);
    for (int step = 0; step < 3000; step++) {
        snprintf(job, sizeof job, "j%u", (unsigned)test_random_below(&f->rnd, 40));
        struct matcher m[] = {
            {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m3")},
            {.type = (enum matcher_type)test_random_below(&f->rnd, 2),
             .name = STR("job"),
             .value = STR(job)},
            {.type = MATCH_NEQ,
             .name = STR("zone"),
             .value = STR(test_random_below(&f->rnd, 2) ? "" : "a")},
            {.type = step % 2 ? MATCH_RE : MATCH_NRE,
             .name = STR("job"),
             .value = STR("j1.*|j2|"),
             .re = re},
        };
        size_t first = test_random_below(&f->rnd, 4);
        add(f);
        if (step % 50 == 49)
            remove_some(f);
        if (step % 20 == 0)
            check_selection(f, m + first, test_random_below(&f->rnd, 5 - first));
        if (step % 100 == 0)
            check_lists(f);
    }
    while (f->n)
        remove_some(f);
    check_lists(f);
    regex_free(re);
    index_free(f->ix);
    free(f);
}

static bool group_is_even(const void *ctx, const struct home *home)
{
    (void)ctx;
    return home->group % 2 == 0;
}

static bool every_group(const void *ctx, const struct home *home)
{
    (void)ctx;
    (void)home;
    return true;
}

static void homes_are_kept_in_order(void **state)
{
    struct label v = {STR("a"), STR("b")};
    struct labels ls = {&v, 1};
    struct index *ix = index_new();
    const struct home *old;
    struct memseries *s;
    struct nx_err err;
    uint32_t n;

    (void)state;
    assert_ok(index_add(ix, &ls, labels_hash(&ls), &s, &err), &err);
    for (uint32_t i = 0; i < 5; i++)
        assert_ok(memseries_move(ix, s, (struct home){i, i * 2, 0, HOME_OPEN}, &err), &err);
    old = memseries_old(ix, s, &n);
    assert_int_equal(n, 4);
    assert_int_equal(old[0].group, 0);
    assert_int_equal(old[3].col, 6);
    assert_int_equal(s->home.group, 4);
    /* They go in any order; the newest of the rest takes the place of the newest. */
    assert_false(memseries_prune(ix, s, group_is_even, NULL));
    old = memseries_old(ix, s, &n);
    assert_int_equal(n, 1);
    assert_int_equal(old[0].group, 1);
    assert_int_equal(s->home.group, 3);
    assert_ok(memseries_move(ix, s, (struct home){7, 0, 0, HOME_OPEN}, &err), &err);
    assert_false(memseries_prune(ix, s, group_is_even, NULL));
    (void)memseries_old(ix, s, &n);
    assert_int_equal(n, 2);
    assert_true(memseries_prune(ix, s, every_group, NULL));
    assert_null(memseries_old(ix, s, &n));
    assert_int_equal(n, 0);
    index_free(ix);
}

static struct labels numbered(struct label v[2], char text[16], uint32_t number)
{
    snprintf(text, 16, "%u", number);
    v[0] = (struct label){STR(LABEL_NAME), STR("m")};
    v[1] = (struct label){STR("number"), STR(text)};
    return (struct labels){v, 2};
}

/* Every third series stays, with its homes: pages are packed around it. */
static void what_stays_is_found_when_pages_are_packed(void **state)
{
    enum { N = 5000 };
    struct index *ix = index_new();
    struct nx_err err;
    uint32_t *gone = calloc(N, sizeof *gone);
    size_t n_gone = 0;
    struct label v[2];
    char text[16];

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        struct labels ls = numbered(v, text, i);
        struct memseries *s;
        assert_ok(index_add(ix, &ls, labels_hash(&ls), &s, &err), &err);
        for (uint32_t k = 0; k < i % 7; k++)
            assert_ok(memseries_move(ix, s, (struct home){i, k, 0, HOME_OPEN}, &err), &err);
        if (i % 3)
            gone[n_gone++] = s->id;
    }
    assert_int_equal(index_remove(ix, gone, n_gone), n_gone);
    assert_int_equal(index_count(ix), N - n_gone);
    for (uint32_t i = 0; i < N; i++) {
        struct labels ls = numbered(v, text, i);
        struct memseries *s = index_find(ix, &ls, labels_hash(&ls));
        uint32_t n;
        if (i % 3) {
            assert_null(s);
            continue;
        }
        assert_non_null(s);
        assert_ptr_equal(s, index_series(ix, s->id));
        const struct home *old = memseries_old(ix, s, &n);
        assert_int_equal(n, i % 7 > 1 ? i % 7 - 1 : 0);
        for (uint32_t k = 0; k < n; k++)
            assert_true(old[k].group == i && old[k].col == k);
        if (i % 7)
            assert_true(s->home.group == i && s->home.col == i % 7 - 1);
    }
    free(gone);
    index_free(ix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_index_agrees_with_a_list),
        cmocka_unit_test(homes_are_kept_in_order),
        cmocka_unit_test(what_stays_is_found_when_pages_are_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
