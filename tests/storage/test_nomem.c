/* test_nomem.c - the store when memory runs out: each allocation fails in turn, nothing that was
 * accepted is lost, and the store goes on. */
#include "tests/support/test.h"

#include "storage/storage.h"
#include "tests/support/oom.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define SERIES   5
#define ROWS     80
#define T0       1700000000000LL
#define STEP_MS  1000
#define BLOCK_MS 20000

struct world {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g;
    uint32_t cols[SERIES];
    bool has[SERIES];
    uint8_t tried[SERIES][ROWS * 2], acked[SERIES][ROWS * 2];
};

static double value_of(int series, int row)
{
    return series % 2 ? row * 1.25 : series;
}

static bool open_store(struct world *w)
{
    struct storage_opts o = {
        .fs = simfs_fs(w->sim), .dir = "data", .min_block_ms = BLOCK_MS, .no_worker = true};

    return storage_open(&w->s, &o, NULL) == NX_OK;
}

static void add_columns(struct world *w)
{
    for (int i = 0; i < SERIES && w->g; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        struct label l[] = {
            {STR(LABEL_NAME), STR(name)}, {STR("n"), STR(name)}, {STR("x"), STR("y")}};
        struct labels ls = {l, NX_COUNT(l)};
        if (!w->has[i])
            w->has[i] = storage_group_column(w->g, &ls, &w->cols[i], NULL, NULL) == NX_OK;
    }
}

static void append_row(struct world *w, int row)
{
    uint32_t cols[SERIES];
    double v[SERIES];
    int which[SERIES];
    size_t n = 0;

    for (int i = 0; i < SERIES; i++) {
        if (!w->has[i])
            continue;
        cols[n] = w->cols[i];
        v[n] = value_of(i, row);
        which[n++] = i;
        w->tried[i][row] = 1;
    }
    if (n && storage_group_append(w->g, T0 + row * STEP_MS, cols, v, n, NULL, NULL) == NX_OK) {
        for (size_t i = 0; i < n; i++)
            w->acked[which[i]][row] = 1;
    }
}

/* True if all could be read. What is read must be right in any case. */
static bool read_all(struct world *w, uint8_t got[SERIES][ROWS * 2])
{
    struct matcher m = {.type = MATCH_EQ, .name = STR("x"), .value = STR("y")};
    struct arena *a = arena_new(0);
    struct series_list list = {0};
    struct column c = {0};
    struct querier *q = NULL;
    bool ok = a && storage_querier(w->s, INT64_MIN, INT64_MAX, &q, NULL) == NX_OK &&
              q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, NULL) == NX_OK;

    for (size_t i = 0; i < list.n && ok; i++) {
        int series = labels_get_str(&list.v[i].labels, "n").ptr[1] - '0';
        ok = q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &c, NULL) == NX_OK;
        for (size_t j = 0; j < c.n; j++) {
            int row = (int)((c.t[j] - T0) / STEP_MS);
            assert_true(row >= 0 && row < ROWS * 2 && w->tried[series][row]);
            assert_true(c.v[j] == value_of(series, row));
            got[series][row] = 1;
        }
    }
    column_done(&c);
    querier_close(q);
    arena_free(a);
    return ok;
}

static void check(struct world *w, unsigned n)
{
    uint8_t got[SERIES][ROWS * 2] = {0};

    assert_true(read_all(w, got));
    for (int i = 0; i < SERIES; i++) {
        for (int row = 0; row < ROWS * 2; row++) {
            if (w->acked[i][row] && !got[i][row])
                fail_msg("allocation %u: series %d lost row %d", n, i, row);
        }
    }
}

static bool one(unsigned n)
{
    struct world w = {.sim = simfs_new(1)};
    uint8_t got[SERIES][ROWS * 2];
    bool failed;

    oom_fail_at(n);
    if (open_store(&w) && storage_group_open(w.s, &w.g, NULL))
        w.g = NULL;
    for (int row = 0; row < ROWS && w.s && w.g; row++) {
        add_columns(&w);
        append_row(&w, row);
        storage_tick(w.s, T0 + row * STEP_MS);
        if (row % 30 == 29) {
            (void)read_all(&w, got);
            storage_group_release(w.g, w.cols[1]);
            w.has[1] = false;
        }
    }
    failed = oom_off();
    if (!w.s) { /* a failed open has left nothing behind that is in the way */
        assert_true(open_store(&w));
    }
    if (!w.g)
        assert_int_equal(storage_group_open(w.s, &w.g, NULL), NX_OK);
    check(&w, n);
    for (int row = ROWS; row < ROWS * 2; row++) {
        add_columns(&w);
        append_row(&w, row);
        storage_tick(w.s, T0 + row * STEP_MS);
        for (int i = 0; i < SERIES; i++)
            assert_true(w.acked[i][row]);
    }
    check(&w, n);
    storage_group_close(w.g);
    storage_close(w.s);
    w.s = NULL;
    assert_true(open_store(&w));
    check(&w, n);
    storage_close(w.s);
    simfs_free(w.sim);
    return failed;
}

static void nothing_accepted_is_lost_when_an_allocation_fails(void **state)
{
    unsigned n = 1;

    (void)state;
    while (one(n))
        n += n < 150 ? 1 : 23;
    assert_true(n > 300);
}

/* A folder with blocks and a log, opened with the n-th allocation failing; false if it had them all. */
static bool one_open(unsigned n)
{
    struct world w = {.sim = simfs_new(1)};
    bool open, failed;

    assert_true(open_store(&w));
    assert_int_equal(storage_group_open(w.s, &w.g, NULL), NX_OK);
    for (int row = 0; row < 50; row++) {
        add_columns(&w);
        append_row(&w, row);
        storage_tick(w.s, T0 + row * STEP_MS);
    }
    storage_group_close(w.g);
    storage_close(w.s);
    w.s = NULL;
    oom_fail_at(n);
    open = open_store(&w);
    failed = oom_off();
    if (open)
        check(&w, n);
    storage_close(open ? w.s : NULL);
    assert_true(open_store(&w));
    check(&w, n);
    storage_close(w.s);
    simfs_free(w.sim);
    return failed;
}

static void an_opening_without_memory_fails_and_changes_nothing(void **state)
{
    unsigned n = 1;

    (void)state;
    while (one_open(n))
        n += n < 60 ? 1 : 5;
    assert_true(n > 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_accepted_is_lost_when_an_allocation_fails),
        cmocka_unit_test(an_opening_without_memory_fails_and_changes_nothing),
    };
    quiet_log();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
