/* test_faults.c - the store over a disk that loses power, fails, fills up; and a process that is killed.
 *
 * A workload appends rows of two groups, some columns changing now and then, and ticks, with blocks of a
 * few seconds, so that every kind of file is written. It keeps what was acknowledged and what of it was
 * synced. After the fault the store is opened again, and must hold
 *   - every sample that was synced (after a power cut) or acknowledged (after all else),
 *   - no sample that was not tried, and none with another value,
 * and it must take new rows. The fault is moved through all steps of the workload. */
#include "tests/support/test.h"

#include "storage/storage.h"
#include "tests/storage/series.h"
#include "tests/support/faults.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define T0       1700000000000LL
#define BLOCK_MS 10000
#define STEP_MS  1000
#define ROWS     60
#define SERIES   6

struct model {
    uint8_t tried[SERIES][ROWS * 2], acked[SERIES][ROWS * 2], synced[SERIES][ROWS * 2];
};

struct run {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g[2];
    uint32_t cols[SERIES];
    struct model m;
    bool stopped; /* an append failed */
};

static double value_of(int series, int row)
{
    return series * 1000.0 + (series % 2 ? row : row / 7 * 0.25);
}

static bool open_store(struct run *r, struct nx_err *err)
{
    struct storage_opts o = {.fs = simfs_fs(r->sim),
                             .dir = "data",
                             .min_block_ms = BLOCK_MS,
                             .wal_segment_bytes = 1500,
                             .no_worker = true};

    return storage_open(&r->s, &o, err) == NX_OK;
}

static bool open_groups(struct run *r)
{
    for (int i = 0; i < 2; i++) {
        if (storage_group_open(r->s, &r->g[i], NULL))
            return false;
    }
    for (int i = 0; i < SERIES; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        struct label v = {STR(LABEL_NAME), STR(name)};
        struct labels ls = {&v, 1};
        if (storage_group_column(r->g[i % 2], &ls, &r->cols[i], NULL, NULL))
            return false;
    }
    return true;
}

static void close_groups(struct run *r)
{
    for (int i = 0; i < 2; i++) {
        storage_group_close(r->g[i]);
        r->g[i] = NULL;
    }
}

static bool append_row(struct run *r, int group, int row)
{
    uint32_t cols[SERIES];
    double v[SERIES];
    int which[SERIES];
    size_t n = 0;

    for (int i = group; i < SERIES; i += 2) {
        if ((row + i) % 5 == 0 && row % 7)
            continue;
        cols[n] = r->cols[i];
        v[n] = value_of(i, row);
        which[n++] = i;
        r->m.tried[i][row] = 1;
    }
    if (storage_group_append(r->g[group], T0 + row * STEP_MS, cols, v, n, NULL, NULL))
        return false;
    for (size_t i = 0; i < n; i++)
        r->m.acked[which[i]][row] = 1;
    return true;
}

/* Rows `from` to `to`, a tick after each. With `stop`, until the first failure. */
static void work(struct run *r, int from, int to, bool stop)
{
    struct storage_stats before, after;

    for (int row = from; row < to && !r->stopped; row++) {
        bool ok = append_row(r, 0, row);
        ok = append_row(r, 1, row) && ok;
        r->stopped = stop && !ok;
        struct model acked = r->m;
        storage_get_stats(r->s, &before);
        storage_tick(r->s, T0 + row * STEP_MS);
        storage_get_stats(r->s, &after);
        if (!simfs_power_was_cut(r->sim) && !simfs_failed(r->sim) &&
            after.wal_fsyncs > before.wal_fsyncs)
            memcpy(r->m.synced, acked.acked, sizeof acked.acked);
    }
}

/* Reads everything and compares. `must` is what has to be there. */
static void check(struct run *r, const uint8_t must[SERIES][ROWS * 2], const char *what,
                  uint64_t step)
{
    uint8_t got[SERIES][ROWS * 2] = {0};
    struct scan x;

    for (scan_begin(&x, r->s, NULL); scan_next(&x);) {
        int series = labels_get_str(x.labels, LABEL_NAME).ptr[1] - '0';
        for (size_t j = 0; j < x.c.n; j++) {
            int row = (int)((x.c.t[j] - T0) / STEP_MS);
            if (row < 0 || row >= ROWS * 2 || !r->m.tried[series][row] ||
                x.c.v[j] != value_of(series, row) || (j && x.c.t[j] <= x.c.t[j - 1]))
                fail_msg("%s at step %" PRIu64 ": series %d has %g at row %d, which nobody wrote",
                         what, step, series, x.c.v[j], row);
            got[series][row] = 1;
        }
    }
    for (int i = 0; i < SERIES; i++) {
        for (int row = 0; row < ROWS * 2; row++) {
            if (must[i][row] && !got[i][row])
                fail_msg("%s at step %" PRIu64 ": series %d lost row %d", what, step, i, row);
        }
    }
}

/* The store goes on: it takes rows and, in time, writes blocks. */
static void go_on(struct run *r, const char *what, uint64_t step)
{
    struct model had = r->m;
    struct storage_stats st;

    assert_true(open_groups(r));
    r->stopped = false;
    work(r, ROWS, ROWS * 2, true);
    if (r->stopped)
        fail_msg("%s at step %" PRIu64 ": the store takes no rows any more", what, step);
    for (int i = 0; i < SERIES; i++)
        memcpy(had.synced[i] + ROWS, r->m.acked[i] + ROWS, ROWS);
    storage_get_stats(r->s, &st);
    assert_true(st.blocks > 0);
    assert_true(st.head_min_ms >= T0 + (ROWS + 20) * STEP_MS);
    check(r, had.synced, what, step);
    close_groups(r);
}

/* False when the workload ended before the fault came. */
static bool one_fault(void *ctx, enum fault fault, uint64_t seed, uint64_t step)
{
    struct run r = {.sim = simfs_new(seed * 7919 + step)};
    struct nx_err err = {0};
    const char *what = fault_name(fault);
    bool came;

    (void)ctx;
    fault_arm(r.sim, fault, step);
    if (open_store(&r, &err)) {
        if (open_groups(&r))
            work(&r, 0, ROWS, fault != FAULT_ERROR);
        close_groups(&r);
        came = fault_came(r.sim, fault);
        if (fault == FAULT_ERROR) {
            simfs_heal(r.sim);
            check(&r, r.m.acked, what, step); /* while it runs nothing is missing */
        }
        storage_close(r.s);
    } else {
        came = true;
    }
    fault_end(r.sim, fault);
    if (!open_store(&r, &err))
        fail_msg("%s at step %" PRIu64 ": the store does not open: %s", what, step, err.text);
    check(&r, fault == FAULT_POWER ? r.m.synced : r.m.acked, what, step);
    if (fault != FAULT_POWER)
        memcpy(r.m.synced, r.m.acked, sizeof r.m.synced);
    go_on(&r, what, step);
    storage_close(r.s);
    simfs_free(r.sim);
    return came;
}

static void every_step(enum fault fault)
{
    uint64_t end = fault_sweep(one_fault, NULL, fault, 300, 3);

    assert_true(end > 200);
    fault_seeds(one_fault, NULL, fault, 4, end, 17);
}

static void what_was_synced_survives_a_power_cut_at_every_step(void **state)
{
    (void)state;
    every_step(FAULT_POWER);
}

static void what_was_acknowledged_survives_a_kill_at_every_step(void **state)
{
    (void)state;
    every_step(FAULT_KILL);
}

static void an_error_at_any_step_loses_nothing_acknowledged(void **state)
{
    (void)state;
    every_step(FAULT_ERROR);
}

/* A sync that fails drops for good what the kernel had; power goes a little later, before a block could
 * have taken the rows over. What a later sync covered must be there, also what was written before the
 * failed one. */
static void a_failed_sync_is_made_good_by_the_next(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 120; n += TEST_STRIDE) {
        struct run r = {.sim = simfs_new(n)};
        struct nx_err err = {0};
        struct model before;
        int row = 0;
        assert_true(open_store(&r, &err));
        assert_true(open_groups(&r));
        simfs_fail_kind_at(r.sim, SIMFS_SYNC, n);
        while (row < ROWS && !simfs_failed(r.sim)) {
            work(&r, row, row + 1, false);
            row++;
        }
        simfs_heal(r.sim);
        work(&r, row, row + (int)(n % 3), false);
        row += (int)(n % 3);
        before = r.m;
        storage_tick(r.s, T0 + row * STEP_MS);
        simfs_cut_power_now(r.sim);
        close_groups(&r);
        storage_close(r.s);
        simfs_restore_power(r.sim);
        assert_true(open_store(&r, &err));
        check(&r, before.acked, "failed sync", n);
        storage_close(r.s);
        simfs_free(r.sim);
    }
}

static void a_full_disk_refuses_rows_and_takes_them_again_when_there_is_space(void **state)
{
    (void)state;
    for (uint64_t space = 0; space < 40000; space += 400) {
        struct run r = {.sim = simfs_new(space)};
        struct nx_err err = {0};
        if (!open_store(&r, &err)) /* a little space is needed for the folder's first files */
            assert_true(false);
        assert_true(open_groups(&r));
        simfs_set_space(r.sim, simfs_used(r.sim) + space);
        work(&r, 0, ROWS / 2, false);
        check(&r, r.m.acked, "full disk", space);
        simfs_set_space(r.sim, UINT64_MAX);
        r.stopped = false;
        work(&r, ROWS / 2, ROWS, true);
        assert_false(r.stopped);
        check(&r, r.m.acked, "space again", space);
        close_groups(&r);
        storage_close(r.s);
        simfs_restart(r.sim);
        assert_true(open_store(&r, &err));
        check(&r, r.m.acked, "full disk, restarted", space);
        storage_close(r.s);
        simfs_free(r.sim);
    }
}

/* A full disk at the start: what is there is served, and rows come when space does. */
static void a_store_opens_on_a_full_disk(void **state)
{
    struct run r = {.sim = simfs_new(3)};
    struct nx_err err = {0};

    (void)state;
    assert_true(open_store(&r, &err));
    assert_true(open_groups(&r));
    work(&r, 0, 20, true);
    close_groups(&r);
    storage_close(r.s);
    simfs_set_space(r.sim, simfs_used(r.sim));
    assert_true(open_store(&r, &err));
    check(&r, r.m.acked, "full at start", 0);
    assert_true(open_groups(&r));
    assert_false(append_row(&r, 0, 20));
    simfs_set_space(r.sim, UINT64_MAX);
    assert_true(append_row(&r, 0, 21));
    check(&r, r.m.acked, "space after start", 0);
    close_groups(&r);
    storage_close(r.s);
    simfs_free(r.sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_synced_survives_a_power_cut_at_every_step),
        cmocka_unit_test(what_was_acknowledged_survives_a_kill_at_every_step),
        cmocka_unit_test(an_error_at_any_step_loses_nothing_acknowledged),
        cmocka_unit_test(a_failed_sync_is_made_good_by_the_next),
        cmocka_unit_test(a_full_disk_refuses_rows_and_takes_them_again_when_there_is_space),
        cmocka_unit_test(a_store_opens_on_a_full_disk),
    };
    quiet_log(); /* hundreds of faults are told of */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
