/* test_label_lists.c - names and values of some series are those that the series have.
 *
 * Which way a list is found, by the series or by the lists of values, depends on how many there are of each;
 * the selections here are from one series to all of them, in the head and in a block. */
#include "tests/support/test.h"

#include "src/base/sort.h"
#include "storage/storage.h"
#include "tests/support/simfs.h"

#define HOUR 3600000LL
#define T0   1700006400000LL /* a multiple of two hours */

enum { N_SERIES = 6000 };

static struct nx_err err;

struct fixture {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g;
    struct querier *q;
    struct arena *a;
    uint32_t cols[N_SERIES];
    double zeros[N_SERIES];
};

/* Few metrics, more hosts, a number of its own for every third, a zone for the series of one metric. */
static uint32_t column(struct fixture *f, uint32_t i)
{
    char metric[16], host[24], id[16];
    struct label v[4] = {{STR(LABEL_NAME), STR(metric)}, {STR("host"), STR(host)}};
    struct labels ls = {v, 2};
    uint32_t col;

    snprintf(metric, sizeof metric, "m%u", i % 10);
    snprintf(host, sizeof host, "host-%03u:9100", i / 10 % 200);
    snprintf(id, sizeof id, "%06x", i * 7919 % (1u << 20));
    v[0].value = STR(metric);
    v[1].value = STR(host);
    if (i % 3 == 0)
        v[ls.n++] = (struct label){STR("id"), STR(id)};
    else
        v[ls.n++] = (struct label){STR("mode"), i / 2000 == 0   ? STR("user")
                                                : i / 2000 == 1 ? STR("idle")
                                                                : STR("nice")};
    if (i % 10 == 4)
        v[ls.n++] = (struct label){STR("zone"), i % 20 == 4 ? STR("a") : STR("b")};
    assert_ok(storage_group_column(f->g, &ls, &col, NULL, &err), &err);
    return col;
}

/* Even series are in a block; the odd ones and those that 4 divides have newer samples, in the head. */
static void fill(struct fixture *f)
{
    struct storage_opts o = {.fs = simfs_fs(f->sim = simfs_new(1)),
                             .dir = "data",
                             .min_block_ms = 2 * HOUR,
                             .no_worker = true};
    uint32_t old[N_SERIES], young[N_SERIES], n_old = 0, n_young = 0;

    f->a = arena_new(0);
    assert_ok(storage_open(&f->s, &o, &err), &err);
    assert_ok(storage_group_open(f->s, &f->g, &err), &err);
    for (uint32_t i = 0; i < N_SERIES; i++) {
        const uint32_t col = column(f, i);
        if (i % 2 == 0)
            old[n_old++] = col;
        if (i % 2 || i % 4 == 0)
            young[n_young++] = col;
    }
    assert_ok(storage_group_append(f->g, T0, old, f->zeros, n_old, NULL, &err), &err);
    assert_ok(storage_group_append(f->g, T0 + 6 * HOUR, young, f->zeros, n_young, NULL, &err),
              &err);
    storage_tick(f->s, T0 + 6 * HOUR);
    storage_tick(f->s, T0 + 6 * HOUR + 1);
    struct storage_stats stats;
    storage_get_stats(f->s, &stats);
    assert_int_equal(stats.blocks, 1);
    assert_ok(storage_querier(f->s, INT64_MIN, INT64_MAX, &f->q, &err), &err);
}

static void empty(struct fixture *f)
{
    querier_close(f->q);
    storage_group_close(f->g);
    storage_close(f->s);
    simfs_free(f->sim);
    arena_free(f->a);
}

static size_t unique(struct nx_slice *v, size_t n)
{
    size_t kept = 0;

    nx_sort_slices(v, n);
    for (size_t i = 0; i < n; i++)
        if (!kept || !nx_slice_eq(v[kept - 1], v[i]))
            v[kept++] = v[i];
    return kept;
}

/* Names, or values of `name`, as the labels of the series say. */
static size_t naive(struct fixture *f, const struct series_list *list, const char *name,
                    struct nx_slice **out)
{
    size_t n = 0;

    *out = arena_array(f->a, list->n * 4 + 1, sizeof **out);
    for (size_t i = 0; i < list->n; i++)
        for (uint32_t k = 0; k < list->v[i].labels.n; k++) {
            const struct label *l = &list->v[i].labels.v[k];
            if (!name)
                (*out)[n++] = l->name;
            else if (nx_slice_is(l->name, name))
                (*out)[n++] = l->value;
        }
    return unique(*out, n);
}

static void list_is(struct fixture *f, const struct matcher *m, size_t n, int64_t mint,
                    const char *name, size_t limit, const struct nx_slice *want, size_t n_want)
{
    struct nx_slice *v;
    size_t got;

    if (name)
        assert_ok(f->q->ops->label_values(f->q, STR(name), m, n, mint, INT64_MAX, limit, f->a, &v,
                                          &got, &err),
                  &err);
    else
        assert_ok(f->q->ops->label_names(f->q, m, n, mint, INT64_MAX, limit, f->a, &v, &got, &err),
                  &err);
    assert_int_equal(got, limit && n_want > limit ? limit + 1 : n_want);
    for (size_t i = 0; i < got; i++)
        assert_true(nx_slice_eq(v[i], want[i]));
}

static void some_are_among_all(struct fixture *f, const struct matcher *m, size_t n, int64_t mint,
                               const struct series_list *all)
{
    const size_t most[] = {1, 10, 1000, N_SERIES};
    struct series_list some;

    for (size_t i = 0; i < NX_COUNT(most); i++) {
        assert_ok(f->q->ops->select_some(f->q, m, n, mint, INT64_MAX, most[i], f->a, &some, &err),
                  &err);
        assert_in_range(some.n, most[i] < all->n ? most[i] : all->n,
                        2 * most[i] < all->n ? 2 * most[i] : all->n);
        for (size_t k = 0, at = 0; k < some.n; k++, at++) {
            while (at < all->n && !labels_eq(&all->v[at].labels, &some.v[k].labels))
                at++;
            assert_true(at < all->n);
        }
    }
}

static void lists_are_those_of(struct fixture *f, const struct matcher *m, size_t n)
{
    static const char *const names[] = {NULL, LABEL_NAME, "host", "id", "mode", "zone", "none"};

    for (int late = 0; late < 2; late++) {
        const int64_t mint = late ? T0 + 5 * HOUR : INT64_MIN; /* what is in the head alone */
        struct series_list list;

        arena_reset(f->a);
        assert_ok(f->q->ops->select(f->q, m, n, mint, INT64_MAX, f->a, &list, &err), &err);
        some_are_among_all(f, m, n, mint, &list);
        for (size_t i = 0; i < NX_COUNT(names); i++) {
            struct nx_slice *want;
            const size_t n_want = naive(f, &list, names[i], &want);
            const size_t limits[] = {0, 1, n_want, n_want + 1};
            for (size_t k = 0; k < NX_COUNT(limits); k++)
                list_is(f, m, n, mint, names[i], limits[k], want, n_want);
        }
    }
}

static void labels_of_selections_are_what_their_series_have(void **state)
{
    static const struct {
        enum matcher_type type;
        const char *name, *value;
    } asked[] = {
        {MATCH_EQ, LABEL_NAME, "m3"},    {MATCH_EQ, "host", "host-007:9100"},
        {MATCH_EQ, "id", "000000"},      {MATCH_EQ, "zone", "a"},
        {MATCH_EQ, "mode", "user"},      {MATCH_NEQ, "mode", ""},
        {MATCH_EQ, "mode", ""},          {MATCH_NEQ, LABEL_NAME, ""},
        {MATCH_RE, "host", "host-0.*"},  {MATCH_RE, "host", ".+"},
        {MATCH_NRE, "host", "host-0.*"}, {MATCH_RE, "id", "0.*|f.*"},
        {MATCH_RE, "id", ".*0"},         {MATCH_RE, LABEL_NAME, "m1|m2|m4|m7"},
        {MATCH_EQ, "host", "no such"},   {MATCH_NRE, "zone", "a|c"},
    };
    static struct fixture f;

    (void)state;
    fill(&f);
    for (size_t i = 0; i < NX_COUNT(asked); i++) {
        struct matcher m[2] = {{asked[i].type, STR(asked[i].name), STR(asked[i].value), NULL},
                               {MATCH_EQ, STR(LABEL_NAME), STR("m4"), NULL}};
        struct regex *re = NULL;
        if (asked[i].type == MATCH_RE || asked[i].type == MATCH_NRE)
            assert_ok(regex_new(&re, STR(asked[i].value), &err), &err);
        m[0].re = re;
        lists_are_those_of(&f, m, 1);
        lists_are_those_of(&f, m, 2);
        regex_free(re);
    }
    empty(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_of_selections_are_what_their_series_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
