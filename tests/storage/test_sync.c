/* test_sync.c - who waits for the log to be synced gets what it waits for; and two writers that come to
 * share a series while both append keep its order. */
#include "tests/support/test.h"

#include <stdatomic.h>

#include "src/base/thread.h"
#include "storage/storage.h"
#include "tests/storage/series.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define T0 1700000000000LL

struct world {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g;
    uint32_t col;
    struct nx_err err;
};

static void open_store(struct world *w, bool each)
{
    struct storage_opts o = {
        .fs = simfs_fs(w->sim), .dir = "data", .fsync_each = each, .no_worker = true};

    assert_ok(storage_open(&w->s, &o, &w->err), &w->err);
}

static void begin(struct world *w, uint64_t seed, bool each)
{
    *w = (struct world){.sim = simfs_new(seed)};
    open_store(w, each);
    assert_ok(storage_group_open(w->s, &w->g, &w->err), &w->err);
    w->col = numbered_column(w->g, 0);
}

static nx_status append(struct world *w, int row)
{
    double v = row;

    return storage_group_append(w->g, T0 + row * 1000, &w->col, &v, 1, NULL, &w->err);
}

static void power_goes_and_comes(struct world *w)
{
    simfs_cut_power_now(w->sim);
    storage_group_close(w->g);
    storage_close(w->s);
    simfs_restore_power(w->sim);
    open_store(w, false);
}

static void end(struct world *w)
{
    storage_close(w->s);
    simfs_free(w->sim);
}

static void what_was_waited_for_survives_a_power_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct world w;
        begin(&w, seed, false);
        for (int row = 0; row < 20; row++)
            assert_ok(append(&w, row), &w.err);
        assert_ok(storage_sync_wait(w.s, &w.err), &w.err);
        for (int row = 20; row < 30; row++)
            assert_ok(append(&w, row), &w.err);
        power_goes_and_comes(&w);
        assert_in_range(scan_count(w.s, "m"), 20, 30);
        end(&w);
    }
}

static void with_a_sync_for_each_append_none_is_lost(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct world w;
        begin(&w, seed, true);
        for (int row = 0; row < 12; row++)
            assert_ok(append(&w, row), &w.err);
        power_goes_and_comes(&w);
        assert_int_equal(scan_count(w.s, "m"), 12);
        end(&w);
    }
}

/* It is told; when the worker has moved the log, the next one is right again, and for older rows too. */
static void a_failed_sync_is_told_to_who_waits(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct world w;
        begin(&w, seed, false);
        for (int row = 0; row < 40; row++) /* two seals and a part of a third */
            assert_ok(append(&w, row), &w.err);
        simfs_fail_kind_at(w.sim, SIMFS_SYNC, 1);
        assert_status(storage_sync_wait(w.s, &w.err), NX_IO);
        assert_status(storage_sync_wait(w.s, &w.err), NX_IO);
        storage_tick(w.s, T0 + 40000);
        assert_ok(storage_sync_wait(w.s, &w.err), &w.err);
        power_goes_and_comes(&w);
        assert_int_equal(scan_count(w.s, "m"), 40);
        end(&w);
    }
}

/* ---- threads ------------------------------------------------------------------------------------- */

struct together {
    struct storage_group *g;
    uint32_t col;
    atomic_int row; /* appended so far */
    atomic_bool stop;
};

static void append_on(void *arg)
{
    struct together *t = arg;

    for (int row = 1; row < 2000 && !atomic_load(&t->stop); row++) {
        double v = row;
        if (storage_group_append(t->g, T0 + row, &t->col, &v, 1, NULL, NULL))
            return;
        atomic_store(&t->row, row);
    }
}

/* The second writer comes while the first appends: nothing older than what the first was told is in gets in. */
static void a_series_that_becomes_shared_keeps_its_order(void **state)
{
    struct world w = {.sim = simfs_new(1)};
    struct storage_group *other;

    (void)state;
    open_store(&w, false);
    assert_ok(storage_group_open(w.s, &other, &w.err), &w.err);
    for (int i = 1; i <= 350 / TEST_STRIDE; i++) {
        struct together t = {0};
        struct storage_appended got;
        struct nx_thread thread;
        uint32_t col;
        double v = -1;
        int row;
        assert_ok(storage_group_open(w.s, &t.g, &w.err), &w.err);
        t.col = numbered_column(t.g, i);
        assert_ok(nx_thread_start(&thread, "writer", append_on, &t, &w.err), &w.err);
        while (atomic_load(&t.row) < 2 + i % 40)
            ;
        col = numbered_column(other, i);
        row = atomic_load(&t.row);
        assert_ok(storage_group_append(other, T0 + row - 1, &col, &v, 1, &got, &w.err), &w.err);
        assert_int_equal(got.appended, 0);
        assert_int_equal(got.out_of_order, 1);
        atomic_store(&t.stop, true);
        nx_thread_join(&thread);
        storage_group_release(other, col);
        storage_group_close(t.g);
    }
    storage_group_close(other);
    end(&w);
}

static void append_each(void *arg)
{
    struct together *t = arg;

    for (int row = 1; row <= 50; row++) {
        double v = row;
        if (storage_group_append(t->g, T0 + row, &t->col, &v, 1, NULL, NULL))
            return;
        atomic_store(&t->row, row);
    }
}

static void writers_share_a_sync(void **state)
{
    struct world w = {.sim = simfs_new(2)};
    struct together t[4] = {0};
    struct nx_thread threads[4];
    struct storage_stats st;

    (void)state;
    open_store(&w, true);
    for (int i = 0; i < 4; i++) {
        assert_ok(storage_group_open(w.s, &t[i].g, &w.err), &w.err);
        t[i].col = numbered_column(t[i].g, i);
    }
    for (int i = 0; i < 4; i++)
        assert_ok(nx_thread_start(&threads[i], "writer", append_each, &t[i], &w.err), &w.err);
    for (int i = 0; i < 4; i++) {
        nx_thread_join(&threads[i]);
        assert_int_equal(atomic_load(&t[i].row), 50);
    }
    storage_get_stats(w.s, &st);
    assert_in_range(st.wal_fsyncs, 50, 200);
    for (int i = 1; i < 4; i++)
        storage_group_close(t[i].g);
    w.g = t[0].g;
    power_goes_and_comes(&w);
    assert_int_equal(scan_count(w.s, "m"), 200);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_waited_for_survives_a_power_cut),
        cmocka_unit_test(with_a_sync_for_each_append_none_is_lost),
        cmocka_unit_test(a_failed_sync_is_told_to_who_waits),
        cmocka_unit_test(a_series_that_becomes_shared_keeps_its_order),
        cmocka_unit_test(writers_share_a_sync),
    };
    quiet_log();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
