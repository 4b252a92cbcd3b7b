/* test_ticker.c - a store with its threads does in time what is to be done, though none of them looks each
 * second: syncs, segments, blocks, a failed disk, retention. The waits below end as soon as what they wait
 * for is there; without a wake-up it would come with the slow tick, after their bound. */
#include "tests/support/test.h"

#include <stdatomic.h>
#include <time.h>

#include "src/base/clock.h"
#include "storage/storage.h"
#include "tests/storage/series.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define T0       1700000000000LL
#define BLOCK_MS 60000
#define IN_TIME  10000 /* ms; the slow tick comes after a minute */

struct world {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g;
    uint32_t col;
    struct nx_err err;
};

static void nap(int64_t ms)
{
    const struct timespec ts = {ms / 1000, (long)(ms % 1000 * 1000000)};

    nanosleep(&ts, NULL);
}

static atomic_int sync_ms; /* what one takes */
static nx_status (*quick_sync)(struct fs *fs, struct fs_file *f, struct nx_err *e);

static nx_status slow_sync(struct fs *fs, struct fs_file *f, struct nx_err *e)
{
    nx_status st = quick_sync(fs, f, e);

    if (atomic_load(&sync_ms))
        nap(atomic_load(&sync_ms));
    return st;
}

static void open_seeded(struct world *w, const struct storage_opts *opts, uint64_t seed)
{
    struct storage_opts o = *opts;
    struct label v[] = {{STR(LABEL_NAME), STR("m")}};
    struct labels ls = {v, 1};

    *w = (struct world){.sim = simfs_new(seed)};
    o.fs = simfs_fs(w->sim);
    o.dir = "data";
    atomic_store(&sync_ms, 0);
    quick_sync = o.fs->sync;
    o.fs->sync = slow_sync;
    assert_ok(storage_open(&w->s, &o, &w->err), &w->err);
    assert_ok(storage_group_open(w->s, &w->g, &w->err), &w->err);
    assert_ok(storage_group_column(w->g, &ls, &w->col, NULL, &w->err), &w->err);
}

static void open_store(struct world *w, const struct storage_opts *opts)
{
    open_seeded(w, opts, 1);
}

static void close_store(struct world *w)
{
    storage_group_close(w->g);
    storage_close(w->s);
    simfs_free(w->sim);
}

static void append(struct world *w, int64_t t_ms)
{
    double v = (double)t_ms;

    assert_ok(storage_group_append(w->g, t_ms, &w->col, &v, 1, NULL, &w->err), &w->err);
}

/* Waits until `field` of the statistics is `least` or more; false when the time is over. */
static bool comes(struct world *w, size_t field, uint64_t least)
{
    for (int64_t ms = 0; ms < IN_TIME; ms += 5) {
        struct storage_stats st = stats_of(w->s);
        if (*(const uint64_t *)(const void *)((const char *)&st + field) >= least)
            return true;
        nap(5);
    }
    return false;
}
#define COMES(w, field, least) comes(w, offsetof(struct storage_stats, field), least)

/* ---- syncs --------------------------------------------------------------------------------------- */

/* The worker begins with a tick, and the first row begins a segment: after that all is still. */
static void settle(struct world *w)
{
    uint64_t segment = stats_of(w->s).wal_segment;

    append(w, T0);
    assert_true(COMES(w, wal_segment, segment + 1));
    nap(150);
}

static void a_row_is_synced_when_its_time_has_come_and_then_nothing_is(void **state)
{
    const struct storage_opts o = {.fsync_ms = 40};
    struct world w;
    uint64_t before;

    (void)state;
    open_store(&w, &o);
    settle(&w);
    for (int i = 1; i <= 3; i++) {
        before = stats_of(w.s).wal_fsyncs;
        nap(100);
        assert_int_equal(stats_of(w.s).wal_fsyncs, before); /* nothing was written */
        append(&w, T0 + i * 1000);
        assert_true(COMES(&w, wal_fsyncs, before + 1));
    }
    close_store(&w);
}

/* Rows keep coming while syncs are under way; each of them must have its own in the end. */
static void what_is_written_during_a_sync_gets_one_of_its_own(void **state)
{
    const struct storage_opts o = {.fsync_ms = 4};
    struct world w;
    int64_t t_ms = T0 + 1000;

    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        open_seeded(&w, &o, seed);
        settle(&w);
        atomic_store(&sync_ms, 5);
        for (int i = 0; i < 200; i++, t_ms += 10) {
            append(&w, t_ms);
            if (i % 20 == 0)
                nap(1);
        }
        nap(100);
        simfs_cut_power_now(w.sim);
        atomic_store(&sync_ms, 0);
        uint64_t had = stats_of(w.s).head_samples_appended;
        storage_group_close(w.g);
        storage_close(w.s);
        simfs_restore_power(w.sim);
        const struct storage_opts again = {.fs = simfs_fs(w.sim), .dir = "data", .no_worker = true};
        assert_ok(storage_open(&w.s, &again, &w.err), &w.err);
        assert_int_equal(scan_count(w.s, "m"), had);
        storage_close(w.s);
        simfs_free(w.sim);
    }
}

static void a_failed_sync_moves_the_log_at_once_and_loses_nothing(void **state)
{
    const struct storage_opts o = {.fsync_ms = 20};
    struct world w;
    uint64_t segment, syncs;

    (void)state;
    open_store(&w, &o);
    settle(&w);
    segment = stats_of(w.s).wal_segment;
    simfs_fail_kind_at(w.sim, SIMFS_SYNC, 1);
    append(&w, T0 + 1000);
    assert_true(COMES(&w, wal_segment, segment + 1));
    nap(100);
    syncs = stats_of(w.s).wal_fsyncs;
    append(&w, T0 + 2000); /* and syncing goes on as before */
    assert_true(COMES(&w, wal_fsyncs, syncs + 1));
    close_store(&w);
}

/* A disk that fails while a segment is closed, and once more when its rows are written again. */
static void a_failed_change_of_segments_is_made_good(void **state)
{
    const struct storage_opts o = {.wal_segment_bytes = 4096, .fsync_ms = 60000};
    struct world w;
    uint64_t segment;
    int64_t t_ms = T0;

    (void)state;
    open_store(&w, &o);
    settle(&w);
    segment = stats_of(w.s).wal_segment;
    for (uint64_t begun = stats_of(w.s).wal_bytes; stats_of(w.s).wal_bytes < begun + 3500;) {
        append(&w, t_ms += 1); /* so that few rows are not synced, and written again */
        assert_ok(storage_sync_wait(w.s, &w.err), &w.err);
    }
    simfs_fail_kind_from(w.sim, SIMFS_SYNC, 2); /* the first is that of the new segment's head */
    for (; stats_of(w.s).wal_segment == segment && t_ms < T0 + 100000; nap(1))
        append(&w, t_ms += 1);
    assert_true(COMES(&w, wal_segment, segment + 1));
    nap(100);
    assert_int_equal(storage_sync_wait(w.s, &w.err), NX_IO);
    simfs_heal(w.sim);
    storage_tick(w.s, clock_now_ms() + 30000); /* when it is tried again */
    assert_ok(storage_sync_wait(w.s, &w.err), &w.err);
    close_store(&w);
}

/* ---- the tick ------------------------------------------------------------------------------------ */

static void a_full_segment_is_closed_at_once(void **state)
{
    const struct storage_opts o = {.wal_segment_bytes = 4096, .fsync_ms = 1000};
    struct world w;
    uint64_t segment;
    int64_t t_ms = T0;

    (void)state;
    open_store(&w, &o);
    settle(&w);
    segment = stats_of(w.s).wal_segment;
    while (stats_of(w.s).wal_bytes < 3 * 4096 && t_ms < T0 + 10000)
        append(&w, t_ms += 1);
    assert_true(COMES(&w, wal_segment, segment + 1));
    close_store(&w);
}

static void a_block_is_written_when_its_time_has_come(void **state)
{
    const struct storage_opts o = {.min_block_ms = BLOCK_MS};
    const int64_t start = T0 / BLOCK_MS * BLOCK_MS;
    struct world w;

    (void)state;
    open_store(&w, &o);
    for (int64_t t_ms = start; t_ms < start + BLOCK_MS; t_ms += 5000)
        append(&w, t_ms);
    nap(100);
    append(&w, start + BLOCK_MS); /* the next span begins */
    assert_true(COMES(&w, wal_segment, 2));
    nap(100);
    assert_int_equal(stats_of(w.s).blocks, 0);
    append(&w, start + BLOCK_MS + BLOCK_MS / 2);
    assert_true(COMES(&w, blocks, 1));
    close_store(&w);
}

/* What a reader held back goes when it has gone, though each append syncs, many a second. */
static void appends_that_sync_do_not_put_off_the_tick(void **state)
{
    const struct storage_opts o = {.min_block_ms = BLOCK_MS, .fsync_each = true};
    const int64_t start = T0 / BLOCK_MS * BLOCK_MS;
    int64_t t_ms = start + BLOCK_MS + BLOCK_MS / 2;
    struct world w;
    struct querier *q;

    (void)state;
    open_store(&w, &o);
    append(&w, start);
    assert_ok(storage_querier(w.s, INT64_MIN, INT64_MAX, &q, &w.err), &w.err);
    append(&w, t_ms);
    assert_true(COMES(&w, blocks, 1));
    querier_close(q);
    for (int64_t ms = 0; ms < IN_TIME && stats_of(w.s).head_min_ms == start; ms += 50) {
        append(&w, ++t_ms);
        nap(50);
    }
    assert_true(stats_of(w.s).head_min_ms > start);
    close_store(&w);
}

static void another_retention_takes_effect_at_once(void **state)
{
    const struct storage_opts o = {.min_block_ms = BLOCK_MS};
    const struct storage_retention r = {.time_ms = 2 * BLOCK_MS};
    const int64_t start = T0 / BLOCK_MS * BLOCK_MS;
    struct world w;

    (void)state;
    open_store(&w, &o);
    append(&w, start);
    append(&w, start + 2 * BLOCK_MS);
    assert_true(COMES(&w, blocks, 1));
    append(&w, start + 10 * BLOCK_MS);
    assert_true(COMES(&w, blocks, 2));
    nap(1200); /* nothing is left to wait for */
    storage_set_retention(w.s, &r);
    assert_true(COMES(&w, retention_deletions, 1));
    close_store(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_synced_when_its_time_has_come_and_then_nothing_is),
        cmocka_unit_test(what_is_written_during_a_sync_gets_one_of_its_own),
        cmocka_unit_test(a_failed_sync_moves_the_log_at_once_and_loses_nothing),
        cmocka_unit_test(a_failed_change_of_segments_is_made_good),
        cmocka_unit_test(a_full_segment_is_closed_at_once),
        cmocka_unit_test(a_block_is_written_when_its_time_has_come),
        cmocka_unit_test(appends_that_sync_do_not_put_off_the_tick),
        cmocka_unit_test(another_retention_takes_effect_at_once),
    };

    quiet_log();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
