/* test_pressure.c - a store near the process's memory limit. */
#include "tests/support/test.h"

#include "src/base/clock.h"
#include "src/base/log.h"
#include "storage/storage.h"
#include "tests/support/simfs.h"

#define T0    1700000000000LL
#define HOUR  3600000LL
#define LIMIT (64u << 20)

static uint64_t fake_use;

static uint64_t read_fake(void *ctx)
{
    (void)ctx;
    return fake_use;
}

struct fixture {
    struct simfs *sim;
    struct memory *m;
    struct storage *s;
    struct storage_group *g;
    int64_t now;
    struct nx_err err;
};

static void open_store(struct fixture *f)
{
    struct storage_opts o = {
        .fs = simfs_fs(f->sim), .dir = "data", .no_worker = true, .memory = f->m};

    assert_ok(storage_open(&f->s, &o, &f->err), &f->err);
    assert_ok(storage_group_open(f->s, &f->g, &f->err), &f->err);
}

static void close_store(struct fixture *f)
{
    storage_group_close(f->g);
    storage_close(f->s);
}

static void ignore_line(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    (void)line;
    (void)len;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    log_capture(ignore_line, NULL);
    clock_fake_set(T0);
    f->now = T0;
    f->sim = simfs_new(11);
    fake_use = 10 << 20;
    f->m = memory_new(LIMIT, read_fake, NULL);
    open_store(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close_store(f);
    memory_free(f->m);
    simfs_free(f->sim);
    clock_fake_off();
    log_capture(NULL, NULL);
    free(f);
    return 0;
}

static void use(struct fixture *f, uint64_t bytes)
{
    fake_use = bytes;
    clock_fake_advance(1000);
    f->now += 1000;
    storage_tick(f->s, f->now);
}

static struct labels labels_of(struct label v[2], char text[16], unsigned number)
{
    v[0] = (struct label){STR(LABEL_NAME), STR("m")};
    snprintf(text, 16, "%u", number);
    v[1] = (struct label){STR("i"), STR(text)};
    return (struct labels){v, 2};
}

static nx_status column(struct fixture *f, unsigned number, uint32_t *col)
{
    struct label v[2];
    char text[16];
    struct labels ls = labels_of(v, text, number);

    return storage_group_column(f->g, &ls, col, NULL, &f->err);
}

static uint64_t cache_limit(struct fixture *f)
{
    struct storage_stats st;

    storage_get_stats(f->s, &st);
    return st.cache_limit_bytes;
}

static bool append(struct fixture *f, const uint32_t *cols, size_t n)
{
    struct storage_appended res;
    double v[8] = {1, 2, 3, 4, 5, 6, 7, 8};

    f->now += 15000;
    assert_ok(storage_group_append(f->g, f->now, cols, v, n, &res, &f->err), &f->err);
    return res.appended == n;
}

static void new_series_are_refused_and_known_ones_never(void **state)
{
    struct fixture *f = *state;
    struct label v[2];
    char text[16];
    struct labels ls = labels_of(v, text, 3);
    uint32_t cols[4], again;

    for (unsigned i = 0; i < 3; i++)
        assert_ok(column(f, i, &cols[i]), &f->err);
    use(f, LIMIT - 1);
    assert_status(column(f, 3, &cols[3]), NX_LIMIT);
    assert_non_null(strstr(f->err.text, "--memory.limit"));
    assert_false(storage_knows(f->s, &ls));
    assert_true(append(f, cols, 3));
    assert_ok(column(f, 1, &again), &f->err);
    assert_int_equal(again, cols[1]);
    /* Its writer left, and one comes back: it is the same series, not a new one. */
    storage_group_release(f->g, cols[2]);
    assert_ok(column(f, 2, &cols[2]), &f->err);
    assert_true(append(f, cols, 3));
    close_store(f);
    open_store(f); /* after a restart they are known from the log */
    for (unsigned i = 0; i < 3; i++)
        assert_ok(column(f, i, &cols[i]), &f->err);
    assert_status(column(f, 3, &cols[3]), NX_LIMIT);
    use(f, LIMIT / 2);
    assert_ok(column(f, 3, &cols[3]), &f->err);
    assert_true(storage_knows(f->s, &ls));
    assert_true(append(f, cols, 4));
    struct memory_stats st;
    memory_get_stats(f->m, &st);
    assert_int_equal(st.refused_series, 2);
}

static void exemplars_are_not_kept_at_the_limit(void **state)
{
    struct fixture *f = *state;
    struct label v[2];
    char text[16];
    struct labels ls = labels_of(v, text, 1);
    struct storage_exemplar e = {.value = 1, .t_ms = T0};
    enum storage_exemplar_result got;

    storage_set_max_exemplars(f->s, 100);
    use(f, LIMIT - 1);
    assert_ok(storage_exemplar_add(f->s, &ls, &e, &got, &f->err), &f->err);
    assert_int_equal(got, EXEMPLAR_NO_MEMORY);
    use(f, LIMIT / 2);
    assert_ok(storage_exemplar_add(f->s, &ls, &e, &got, &f->err), &f->err);
    assert_int_equal(got, EXEMPLAR_STORED);
}

/* Reads all of one series from blocks, so that the cache has pages. */
static size_t read_all(struct fixture *f)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
    struct series_list list;
    struct column c = {0};
    struct querier *q;
    struct arena *a = arena_new(0);
    size_t n = 0;

    assert_ok(storage_querier(f->s, T0, f->now, &q, &f->err), &f->err);
    assert_ok(q->ops->select(q, &m, 1, T0, f->now, a, &list, &f->err), &f->err);
    for (size_t i = 0; i < list.n; i++) {
        assert_ok(q->ops->read(q, &list.v[i], T0, f->now, &c, &f->err), &f->err);
        n += c.n;
    }
    column_done(&c);
    querier_close(q);
    arena_free(a);
    return n;
}

static void the_cache_shrinks_and_grows_back(void **state)
{
    struct fixture *f = *state;
    uint64_t plenty = cache_limit(f);
    struct test_random r = {5};
    struct storage_stats st;
    uint32_t cols[64];
    double v[64];
    size_t all, n_cols = 64;

    for (unsigned i = 0; i < n_cols; i++)
        assert_ok(column(f, i, &cols[i]), &f->err);
    while (f->now < T0 + 8 * HOUR) { /* noise, so that pages are large */
        for (unsigned i = 0; i < n_cols; i++)
            v[i] = (double)test_random(&r) * 1e-9;
        f->now += 15000;
        assert_ok(storage_group_append(f->g, f->now, cols, v, n_cols, NULL, &f->err), &f->err);
    }
    storage_tick(f->s, f->now);
    storage_get_stats(f->s, &st);
    assert_in_range(st.blocks, 1, 10);
    all = read_all(f);
    storage_get_stats(f->s, &st);
    assert_in_range(st.cache_bytes, 800u << 10, plenty);
    /* At once, when somebody meets a shortage. */
    fake_use = LIMIT;
    clock_fake_advance(1000);
    assert_status(memory_admit_query(f->m, &f->err), NX_OVERLOADED);
    storage_get_stats(f->s, &st);
    assert_in_range(st.cache_bytes, 0, LIMIT / 128);
    assert_in_range(st.cache_limit_bytes, 1, LIMIT / 128);
    /* A small cache is as good as a large one, but for speed. */
    assert_int_equal(read_all(f), all);
    for (int i = 0; i < 20; i++)
        use(f, LIMIT / 2);
    assert_int_equal(cache_limit(f), plenty);
    assert_int_equal(read_all(f), all);
    /* And with the ticks, when nobody asks. */
    use(f, LIMIT - LIMIT / 4 + (100u << 20));
    storage_get_stats(f->s, &st);
    assert_in_range(st.cache_bytes, 0, LIMIT / 128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(new_series_are_refused_and_known_ones_never, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(exemplars_are_not_kept_at_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(the_cache_shrinks_and_grows_back, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
