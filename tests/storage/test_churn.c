/* test_churn.c - series come and go, and leave nothing behind: a dozen generations of two hours each, on a
 * clock of our own. */
#include "tests/support/test.h"

#include <malloc.h>

#include "src/base/log.h"
#include "storage/storage.h"

#define HOUR        3600000LL
#define T0          1699999200000LL /* a multiple of two hours */
#define GENERATIONS 12u
#define GROUPS      20u
#define PER         100u
#define ROWS        20u

static void ignore_line(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    (void)line;
    (void)len;
}

static struct storage_group *new_group(struct storage *s, unsigned number, uint32_t cols[PER])
{
    struct storage_group *g;
    struct nx_err err;
    char pod[32], one[32];

    assert_ok(storage_group_open(s, &g, &err), &err);
    snprintf(pod, sizeof pod, "pod-%u", number);
    for (unsigned i = 0; i < PER; i++) {
        struct label v[] = {{STR(LABEL_NAME), STR("m")}, {STR("one"), {0}}, {STR("pod"), STR(pod)}};
        struct labels ls = {v, 3};
        bool created;
        snprintf(one, sizeof one, "%u-%u", number, i); /* a string of its own for each series */
        v[1].value = STR(one);
        assert_ok(storage_group_column(g, &ls, &cols[i], &created, &err), &err);
        assert_true(created);
    }
    return g;
}

static void generation(struct storage *s, unsigned k)
{
    static uint32_t cols[GROUPS][PER];
    struct storage_group *g[GROUPS];
    struct nx_err err;
    double v[PER];

    for (unsigned i = 0; i < GROUPS; i++)
        g[i] = new_group(s, k * GROUPS + i, cols[i]);
    for (unsigned row = 0; row < ROWS; row++) {
        int64_t t_ms = T0 + k * 2 * HOUR + row * 2 * HOUR / ROWS;
        for (unsigned i = 0; i < PER; i++)
            v[i] = row * i;
        for (unsigned i = 0; i < GROUPS; i++)
            assert_ok(storage_group_append(g[i], t_ms, cols[i], v, PER, NULL, &err), &err);
        storage_tick(s, t_ms);
    }
    for (unsigned i = 0; i < GROUPS; i++)
        storage_group_close(g[i]);
}

/* Allocated by this process; 0 where the allocator does not tell (sanitizers bring their own). */
static size_t allocated(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

static void what_has_left_the_head_costs_nothing(void **state)
{
    struct test_tmpdir dir;
    struct storage_opts o = {.fs = fs_real(), .no_worker = true};
    struct storage_stats st, early = {0};
    size_t bytes = 0, now = 0;
    struct storage *s;
    struct nx_err err;

    (void)state;
    log_capture(ignore_line, NULL);
    test_tmpdir_new(&dir);
    o.dir = dir.path;
    assert_ok(storage_open(&s, &o, &err), &err);
    for (unsigned k = 0; k < GENERATIONS; k++) {
        generation(s, k);
        storage_get_stats(s, &st);
        now = allocated();
        if (k == 3) {
            early = st;
            bytes = now;
        }
        if (k < 3)
            continue;
        assert_in_range(st.head_series, 1, 2 * GROUPS * PER); /* this generation, and the last */
        assert_int_equal(st.head_series, early.head_series);
        assert_int_equal(st.symbols, early.symbols);
        assert_int_equal(st.label_pairs, early.label_pairs);
        assert_in_range(now, 0, bytes + bytes / 20 + (64u << 10));
    }
    assert_int_equal(st.series_created, GENERATIONS * GROUPS * PER);
    assert_int_equal(st.series_removed, st.series_created - st.head_series);
    assert_true(bytes == 0 || bytes > 100 * st.head_series); /* the figure is no constant */
    storage_close(s);
    test_tmpdir_done(&dir);
    log_capture(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_left_the_head_costs_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
