/* test_compact.c - a store that merges its blocks, over disks that fail, and while it is read.
 *
 * Blocks are written by hand, one after another with a few series each; then the store is opened over
 * them and ticks, which merges them. Whatever happens on the way, every sample is there once. */
#include "tests/support/test.h"

#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/base/thread.h"
#include "storage/compact.h"
#include "tests/storage/series.h"
#include "tests/support/oom.h"
#include "tests/support/faults.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define SERIES   6
#define ROWS     8 /* of a block */
#define BLOCK_MS 10000
#define STEP_MS  (BLOCK_MS / ROWS)
#define T0       (1700000000000LL / (27 * BLOCK_MS) * (27 * BLOCK_MS))
#define BLOCKS   13 /* 9 + 3 + 1: the last is left alone, and so is, in time, what has room to come */
#define LEFT     3 /* blocks when all is merged: 9, 3 and the newest */

static struct nx_err err;

static double value_of(int series, int64_t t_ms)
{
    return series * 1000 + (double)((t_ms - T0) / STEP_MS % 77) / 4;
}

static struct labels labels_of(struct label *l, char name[16], int series)
{
    snprintf(name, 8, "s%d", series);
    *l = (struct label){STR(LABEL_NAME), STR(name)};
    return (struct labels){l, 1};
}

static void write_block(struct fs *fs, int64_t min_ms, int64_t max_ms, char to[BLOCK_ULID_LEN + 1])
{
    struct block_writer_opts o = {.fs = fs, .dir = "data", .min_ms = min_ms, .max_ms = max_ms};
    struct block_writer *w = NULL;
    struct block_meta meta;

    assert_ok(block_writer_open(&w, &o, &err), &err);
    for (int s = 0; s < SERIES; s++) {
        int64_t t[256];
        double v[256];
        char name[16];
        struct label l;
        struct labels ls = labels_of(&l, name, s);
        size_t n = 0;
        uint32_t times;
        for (int64_t at = min_ms; at < max_ms; at += STEP_MS, n++) {
            t[n] = at;
            v[n] = value_of(s, at);
        }
        assert_ok(block_writer_series(w, &ls, &err), &err);
        assert_ok(block_writer_times(w, t, n, &times, &err), &err);
        assert_ok(block_writer_chunk(w, times, v, n, &err), &err);
    }
    assert_ok(block_writer_commit(w, &meta, &err), &err);
    block_writer_close(w);
    memcpy(to, meta.ulid, sizeof meta.ulid);
    block_meta_done(&meta);
}

struct disk {
    struct simfs *sim;
    struct fs *fs;
    char ulid[BLOCKS][BLOCK_ULID_LEN + 1];
};

static void disk_new(struct disk *d, uint64_t seed)
{
    d->sim = simfs_new(seed);
    d->fs = simfs_fs(d->sim);
    assert_ok(d->fs->mkdir(d->fs, "data", &err), &err);
    assert_ok(d->fs->sync_dir(d->fs, ".", &err), &err);
    for (int i = 0; i < BLOCKS; i++)
        write_block(d->fs, T0 + i * BLOCK_MS, T0 + (i + 1) * BLOCK_MS, d->ulid[i]);
}

static struct storage *open_store(struct disk *d)
{
    struct storage_opts o = {
        .fs = d->fs, .dir = "data", .min_block_ms = BLOCK_MS, .no_worker = true};
    struct storage *s = NULL;

    return storage_open(&s, &o, &err) == NX_OK ? s : NULL;
}

/* Every sample of [from, to) once, but none of [lost_from, lost_to) of any series need be there. */
static void check(struct storage *s, int64_t from, int64_t to, int64_t lost_from, int64_t lost_to,
                  const char *what, uint64_t step)
{
    struct scan x;

    scan_begin(&x, s, NULL);
    if (x.list.n != SERIES)
        fail_msg("%s at step %" PRIu64 ": %zu series", what, step, x.list.n);
    for (int i = 0; scan_next(&x); i++) {
        size_t k = 0;
        for (int64_t t = from; t < to; t += STEP_MS) {
            bool there = k < x.c.n && x.c.t[k] == t && x.c.v[k] == value_of(i, t);
            if (!there && (t < lost_from || t >= lost_to))
                fail_msg("%s at step %" PRIu64 ": series %d has not the sample of row %lld", what,
                         step, i, (long long)((t - T0) / STEP_MS));
            k += there;
        }
        if (k != x.c.n)
            fail_msg("%s at step %" PRIu64 ": series %d has more than was written", what, step, i);
    }
}

static void check_all(struct storage *s, const char *what, uint64_t step)
{
    check(s, T0, T0 + BLOCKS * BLOCK_MS, 0, 0, what, step);
}

/* Folders of blocks, finished or not. */
static size_t block_folders(struct disk *d)
{
    struct fs_names names = {0};
    size_t n = 0;

    assert_ok(d->fs->list(d->fs, "data", &names, &err), &err);
    for (size_t i = 0; i < names.n; i++)
        n += strlen(names.v[i]) >= BLOCK_ULID_LEN;
    fs_names_done(&names);
    return n;
}

static void blocks_are_merged_and_their_sources_go(void **state)
{
    struct disk d;
    struct storage *s;
    struct storage_stats st;

    (void)state;
    disk_new(&d, 1);
    s = open_store(&d);
    assert_non_null(s);
    assert_int_equal(stats_of(s).blocks, BLOCKS);
    check_all(s, "before", 0);
    storage_tick(s, T0);
    st = stats_of(s);
    assert_int_equal(st.blocks, LEFT);
    assert_int_equal(st.compactions, 5); /* 4 of three blocks, 1 of what those gave */
    assert_int_equal(st.compactions_failed, 0);
    assert_int_equal(block_folders(&d), LEFT);
    check_all(s, "after", 0);
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).compactions, 5);
    storage_close(s);
    s = open_store(&d);
    assert_non_null(s);
    check_all(s, "opened again", 0);
    storage_close(s);
    simfs_free(d.sim);
}

static void the_largest_range_allowed_is_not_exceeded(void **state)
{
    struct disk d;
    struct storage_opts o = {
        .dir = "data", .min_block_ms = BLOCK_MS, .max_block_ms = 3 * BLOCK_MS, .no_worker = true};
    struct storage *s = NULL;

    (void)state;
    disk_new(&d, 1);
    o.fs = d.fs;
    assert_ok(storage_open(&s, &o, &err), &err);
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).blocks, 5);
    check_all(s, "three", 0);
    storage_close(s);
    simfs_free(d.sim);
}

static void blocks_that_overlap_are_merged_unless_they_are_to_stay(void **state)
{
    (void)state;
    for (int keep = 0; keep < 2; keep++) {
        struct disk d;
        struct storage_opts o = {.dir = "data",
                                 .min_block_ms = BLOCK_MS,
                                 .max_block_ms = BLOCK_MS,
                                 .keep_overlapping = keep,
                                 .no_worker = true};
        struct storage *s = NULL;
        char ulid[BLOCK_ULID_LEN + 1];
        disk_new(&d, 1);
        write_block(d.fs, T0 + 2 * BLOCK_MS + 3 * STEP_MS, T0 + 5 * BLOCK_MS, ulid);
        write_block(d.fs, T0 + 12 * BLOCK_MS, T0 + 13 * BLOCK_MS, ulid);
        o.fs = d.fs;
        assert_ok(storage_open(&s, &o, &err), &err);
        check_all(s, "overlapping", 0);
        storage_tick(s, T0);
        assert_int_equal(stats_of(s).blocks, keep ? BLOCKS + 2 : BLOCKS - 2);
        check_all(s, "merged", 0);
        storage_close(s);
        simfs_free(d.sim);
    }
}

static void a_reader_goes_on_with_the_blocks_it_had(void **state)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("s3")};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;
    struct disk d;

    (void)state;
    disk_new(&d, 1);
    struct storage *s = open_store(&d);
    assert_ok(storage_querier(s, INT64_MIN, INT64_MAX, &q, &err), &err);
    assert_ok(q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, &err), &err);
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).blocks, LEFT);
    assert_ok(q->ops->read(q, &list.v[0], INT64_MIN, INT64_MAX, &c, &err), &err);
    assert_int_equal(c.n, BLOCKS * ROWS);
    column_done(&c);
    querier_close(q);
    arena_free(a);
    storage_close(s);
    simfs_free(d.sim);
}

/* ---- faults ----------------------------------------------------------------------------------- */

/* False when all was merged before the fault came. */
static bool one_fault(void *ctx, enum fault fault, uint64_t seed, uint64_t step)
{
    const char *what = fault_name(fault);
    struct disk d;
    struct storage *s;
    bool came;

    (void)ctx;
    disk_new(&d, seed * 7919 + step);
    s = open_store(&d);
    assert_non_null(s);
    fault_arm(d.sim, fault, step);
    storage_tick(s, T0);
    came = fault_came(d.sim, fault);
    simfs_heal(d.sim);
    if (fault == FAULT_ERROR) {
        check_all(s, what, step);
        clock_fake_advance(7200 * 1000); /* past any pause */
        storage_tick(s, T0);
        check_all(s, "after an error", step);
        if (stats_of(s).blocks != LEFT)
            fail_msg("error at step %" PRIu64 ": %" PRIu64 " blocks are left", step,
                     stats_of(s).blocks);
    }
    storage_close(s);
    fault_end(d.sim, fault);
    s = open_store(&d);
    if (!s)
        fail_msg("%s at step %" PRIu64 ": %s", what, step, err.text);
    check_all(s, what, step);
    storage_tick(s, T0);
    check_all(s, "after a start", step);
    if (stats_of(s).blocks != LEFT || block_folders(&d) != LEFT)
        fail_msg("%s at step %" PRIu64 ": %" PRIu64 " blocks are left", what, step,
                 stats_of(s).blocks);
    storage_close(s);
    simfs_free(d.sim);
    return came;
}

static void every_step(enum fault fault)
{
    uint64_t end;

    clock_fake_set(T0);
    end = fault_sweep(one_fault, NULL, fault, 300, 3);
    assert_true(end > 200);
    fault_seeds(one_fault, NULL, fault, 3, end, 17);
    clock_fake_off();
}

static void a_power_cut_at_any_step_loses_and_doubles_nothing(void **state)
{
    (void)state;
    every_step(FAULT_POWER);
}

static void a_kill_at_any_step_loses_and_doubles_nothing(void **state)
{
    (void)state;
    every_step(FAULT_KILL);
}

static void an_error_at_any_step_is_made_good_later(void **state)
{
    (void)state;
    every_step(FAULT_ERROR);
}

static void a_full_disk_is_borne_until_there_is_space(void **state)
{
    (void)state;
    clock_fake_set(T0);
    for (uint64_t space = 0;; space += 128 * TEST_STRIDE) {
        struct disk d;
        disk_new(&d, space);
        struct storage *s = open_store(&d);
        simfs_set_space(d.sim, simfs_used(d.sim) + space);
        storage_tick(s, T0);
        struct storage_stats st = stats_of(s);
        check_all(s, "full", space);
        assert_int_equal(block_folders(&d), st.blocks); /* no rest of the failed one */
        if (st.compactions_failed) {
            assert_int_equal(st.compactions_failed, 1);
            for (int i = 0; i < 10; i++)
                storage_tick(s, T0);
            assert_int_equal(stats_of(s).compactions_failed, 1); /* it waits */
            clock_fake_advance(61000);
            storage_tick(s, T0);
            assert_int_equal(stats_of(s).compactions_failed, 2);
            clock_fake_advance(61000);
            storage_tick(s, T0);
            assert_int_equal(stats_of(s).compactions_failed, 2); /* longer */
        }
        simfs_set_space(d.sim, UINT64_MAX);
        clock_fake_advance(122000);
        storage_tick(s, T0);
        assert_int_equal(stats_of(s).blocks, LEFT);
        check_all(s, "space", space);
        storage_close(s);
        simfs_free(d.sim);
        if (!st.compactions_failed) {
            assert_true(space > 500);
            break;
        }
    }
    clock_fake_off();
}

static void memory_that_fails_is_borne(void **state)
{
    (void)state;
    clock_fake_set(T0);
    for (unsigned n = 1;; n += (n < 400 ? 1 : 7) * TEST_STRIDE) {
        struct disk d;
        disk_new(&d, 1);
        struct storage *s = open_store(&d);
        oom_fail_at(n);
        storage_tick(s, T0);
        bool came = oom_off();
        check_all(s, "no memory", n);
        clock_fake_advance(7200 * 1000);
        storage_tick(s, T0);
        check_all(s, "memory again", n);
        assert_int_equal(stats_of(s).blocks, LEFT);
        assert_int_equal(block_folders(&d), LEFT);
        storage_close(s);
        simfs_free(d.sim);
        if (!came)
            break;
    }
    clock_fake_off();
}

static size_t lines_of_damage;
static char damaged_ulid[BLOCK_ULID_LEN + 1];

static void count_lines(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    lines_of_damage += memmem(line, len, "can't be read for merging", 25) &&
                       memmem(line, len, damaged_ulid, BLOCK_ULID_LEN) &&
                       memmem(line, len, "series", 6);
}

static void a_damaged_block_is_reported_once_and_left_alone(void **state)
{
    struct disk d;

    (void)state;
    disk_new(&d, 1);
    struct storage *s = open_store(&d);
    char path[64];
    snprintf(path, sizeof path, "data/%s/chunks", d.ulid[4]);
    memcpy(damaged_ulid, d.ulid[4], sizeof damaged_ulid);
    assert_true(simfs_flip(d.sim, path, 40, 4));
    log_capture(count_lines, NULL);
    for (int i = 0; i < 20; i++)
        storage_tick(s, T0);
    struct storage_stats st = stats_of(s);
    log_capture(NULL, NULL);
    assert_int_equal(lines_of_damage, 1);
    assert_int_equal(st.compactions_failed, 1);
    /* 0..3, 3, 4 alone, 5, 6..9 with 5 as one side of it, 9..12, 12 */
    assert_true(st.blocks < BLOCKS - 4 && st.blocks > LEFT);
    assert_true(simfs_flip(d.sim, path, 40, 4)); /* still there, as it was */
    check_all(s, "damage", 0);
    storage_close(s);
    s = open_store(&d); /* another start, another try */
    storage_tick(s, T0);
    check_all(s, "damage healed", 0);
    storage_close(s);
    simfs_free(d.sim);
}

/* What a crash between publishing and deleting leaves, but that the new block was damaged since. */
static void sources_stay_when_the_merged_block_is_damaged(void **state)
{
    struct disk d;
    struct cache *cache = cache_new(1u << 20);
    struct block *b[9];
    struct compact_result res;
    static const char ulid[] = "01JGFJJZ00ABCDEFGHJKMNPQRS";
    char path[64];

    (void)state;
    for (int damaged = 0; damaged < 2; damaged++) {
        disk_new(&d, 1);
        for (int i = 0; i < 9; i++) {
            snprintf(path, sizeof path, "data/%s", d.ulid[i]);
            assert_ok(block_open(&b[i], d.fs, cache, path, &err), &err);
        }
        struct compact_merge m = {.fs = d.fs, .dir = "data", .ulid = ulid, .source = b, .n = 9};
        assert_ok(compact_merge(&m, &res, &err), &err);
        for (int i = 0; i < 9; i++)
            block_unref(b[i]);
        snprintf(path, sizeof path, "data/%s/chunks", ulid);
        if (damaged)
            assert_true(simfs_flip(d.sim, path, 40, 4));
        struct storage *s = open_store(&d);
        check_all(s, "found", (uint64_t)damaged);
        storage_tick(s, T0);
        storage_tick(s, T0);
        check_all(s, "cleared", (uint64_t)damaged);
        assert_int_equal(stats_of(s).blocks, damaged ? LEFT + 1 : LEFT);
        assert_int_equal(stats_of(s).compactions_failed, 0);
        storage_close(s);
        simfs_free(d.sim);
    }
    cache_free(cache);
}

static void a_merged_block_goes_when_all_of_it_is_past_retention(void **state)
{
    struct disk d;
    struct storage_opts o = {.dir = "data",
                             .min_block_ms = BLOCK_MS,
                             .max_block_ms = 9 * BLOCK_MS,
                             .retention_ms = 4 * BLOCK_MS + 1,
                             .no_worker = true};
    struct storage *s = NULL;

    (void)state;
    disk_new(&d, 1);
    o.fs = d.fs;
    o.retention_ms = 0;
    assert_ok(storage_open(&s, &o, &err), &err);
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).blocks, LEFT);
    /* the first ends 4 blocks before the newest */
    storage_set_retention(s, &(struct storage_retention){.time_ms = 4 * BLOCK_MS + 1});
    storage_tick(s, T0);
    check_all(s, "kept", 0);
    storage_set_retention(s, &(struct storage_retention){.time_ms = 4 * BLOCK_MS});
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).blocks, LEFT - 1);
    check(s, T0 + 9 * BLOCK_MS, T0 + BLOCKS * BLOCK_MS, 0, 0, "gone", 0);
    storage_close(s);
    simfs_free(d.sim);
}

/* ---- at the same time ------------------------------------------------------------------------- */

#define READERS 2
#define LIVE    400 /* rows */

struct shared {
    struct storage *s;
    atomic_int row, failed;
    atomic_bool done;
};

/* All rows that were there before the query are in it, once, in order. */
static int read_once(struct shared *sh)
{
    struct matcher m = {.type = MATCH_NEQ, .name = STR(LABEL_NAME), .value = STR("")};
    struct arena *a = arena_new(0);
    struct series_list list = {0};
    struct column c = {0};
    struct querier *q = NULL;
    struct nx_err own;
    const int rows = atomic_load(&sh->row);
    int bad = 0;

    if (!a || storage_querier(sh->s, INT64_MIN, INT64_MAX, &q, &own) ||
        q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, &own))
        bad = __LINE__;
    if (!bad && rows && list.n != SERIES)
        bad = __LINE__;
    for (size_t i = 0; i < list.n && !bad; i++) {
        if (q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &c, &own) || (int)c.n < rows)
            bad = __LINE__;
        for (size_t k = 0; k < c.n && !bad; k++)
            if (c.t[k] != T0 + (int64_t)k * STEP_MS || c.v[k] != value_of((int)i, c.t[k]))
                bad = __LINE__;
    }
    column_done(&c);
    querier_close(q);
    arena_free(a);
    return bad;
}

static void read_all_the_time(void *arg)
{
    struct shared *sh = arg;

    while (!atomic_load(&sh->done)) {
        int none = 0, bad = read_once(sh);
        if (bad)
            atomic_compare_exchange_strong(&sh->failed, &none, bad);
    }
}

static void tick_all_the_time(void *arg)
{
    struct shared *sh = arg;

    while (!atomic_load(&sh->done)) {
        storage_tick(sh->s, clock_now_ms());
        sched_yield();
    }
}

/* The compactor has its own thread here, and the worker, too; more ticks make the blocks come faster. */
static void readers_see_each_sample_once_while_blocks_are_merged(void **state)
{
    struct test_tmpdir dir;
    struct shared sh = {.s = NULL};
    struct nx_thread readers[READERS] = {0}, ticker = {0};
    struct storage_group *g = NULL;
    uint32_t cols[SERIES];
    struct storage_stats st;

    (void)state;
    test_tmpdir_new(&dir);
    struct storage_opts o = {.fs = fs_real(), .dir = dir.path, .min_block_ms = BLOCK_MS};
    assert_ok(storage_open(&sh.s, &o, &err), &err);
    assert_ok(storage_group_open(sh.s, &g, &err), &err);
    for (int i = 0; i < SERIES; i++) {
        char name[16];
        struct label l;
        struct labels ls = labels_of(&l, name, i);
        assert_ok(storage_group_column(g, &ls, &cols[i], NULL, &err), &err);
    }
    for (int i = 0; i < READERS; i++)
        assert_ok(nx_thread_start(&readers[i], "reader", read_all_the_time, &sh, &err), &err);
    assert_ok(nx_thread_start(&ticker, "ticker", tick_all_the_time, &sh, &err), &err);
    for (int row = 0; row < LIVE; row++) {
        int64_t t = T0 + (int64_t)row * STEP_MS;
        double v[SERIES];
        for (int i = 0; i < SERIES; i++)
            v[i] = value_of(i, t);
        assert_ok(storage_group_append(g, t, cols, v, SERIES, NULL, &err), &err);
        atomic_store(&sh.row, row + 1);
        if (row % ROWS == 0)
            clock_sleep_until_mono_ns(clock_mono_ns() + 2000000);
    }
    for (int i = 0; i < 12000; i++) {
        storage_get_stats(sh.s, &st);
        if (st.blocks < 10 && st.compactions > 40)
            break;
        clock_sleep_until_mono_ns(clock_mono_ns() + 10000000);
    }
    atomic_store(&sh.done, true);
    for (int i = 0; i < READERS; i++)
        nx_thread_join(&readers[i]);
    nx_thread_join(&ticker);
    if (atomic_load(&sh.failed))
        fail_msg("the check in line %d failed", atomic_load(&sh.failed));
    assert_true(st.blocks < 10 && st.compactions > 40);
    assert_int_equal(st.compactions_failed, 0);
    assert_int_equal(read_once(&sh), 0);
    storage_group_close(g);
    storage_close(sh.s);
    test_tmpdir_done(&dir);
}

/* The store is closed while its own thread is at it: a merge is given up or done, nothing is in between. */
static void closing_in_the_middle_leaves_whole_blocks(void **state)
{
    (void)state;
    for (int64_t pause_us = 0; pause_us < 6000; pause_us += 300) {
        struct disk d;
        struct storage *s = NULL;
        disk_new(&d, (uint64_t)pause_us);
        struct storage_opts o = {.fs = d.fs, .dir = "data", .min_block_ms = BLOCK_MS};
        assert_ok(storage_open(&s, &o, &err), &err);
        clock_sleep_until_mono_ns(clock_mono_ns() + pause_us * 1000);
        check_all(s, "own thread", (uint64_t)pause_us);
        storage_close(s);
        s = open_store(&d);
        assert_int_equal(block_folders(&d), stats_of(s).blocks);
        check_all(s, "closed", (uint64_t)pause_us);
        storage_tick(s, T0);
        assert_int_equal(stats_of(s).blocks, LEFT);
        check_all(s, "merged", (uint64_t)pause_us);
        storage_close(s);
        simfs_free(d.sim);
    }
}

/* ---- memory ----------------------------------------------------------------------------------- */

#define MANY_SERIES 1500
#define MANY_ROWS   480
#define MANY_BLOCKS 9
#define MEMORY_MIB  16 /* the samples alone are 99 MiB */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static long peak_kib(void)
{
    struct rusage u;

    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return u.ru_maxrss;
}

static void write_many(const char *dir, int number, char to[BLOCK_ULID_LEN + 1])
{
    struct block_writer_opts o = {.fs = fs_real(),
                                  .dir = dir,
                                  .min_ms = T0 + number * 7200000LL,
                                  .max_ms = T0 + (number + 1) * 7200000LL,
                                  .fast = true};
    struct block_writer *w = NULL;
    struct block_meta meta;
    struct test_random r = {(uint64_t)number + 1};
    static int64_t t[MANY_ROWS];
    static double v[MANY_ROWS];
    double counter = number * 1e6;

    assert_ok(block_writer_open(&w, &o, &err), &err);
    for (int s = 0; s < MANY_SERIES; s++) {
        char name[16];
        struct label l = {STR(LABEL_NAME), {0}};
        struct labels ls = {&l, 1};
        uint32_t times;
        snprintf(name, sizeof name, "s%06d", s);
        l.value = STR(name);
        for (int i = 0; i < MANY_ROWS; i++) {
            t[i] = o.min_ms + i * 15000 + s % 50;
            v[i] = counter += (double)test_random_below(&r, 5000);
        }
        assert_ok(block_writer_series(w, &ls, &err), &err);
        assert_ok(block_writer_times(w, t, MANY_ROWS, &times, &err), &err);
        assert_ok(block_writer_chunk(w, times, v, MANY_ROWS, &err), &err);
    }
    assert_ok(block_writer_commit(w, &meta, &err), &err);
    block_writer_close(w);
    memcpy(to, meta.ulid, sizeof meta.ulid);
    block_meta_done(&meta);
}

static void memory_does_not_grow_with_the_samples(void **state)
{
    struct test_tmpdir dir;
    struct cache *cache;
    struct block *b[MANY_BLOCKS];
    struct compact_result res;
    char ulid[BLOCK_ULID_LEN + 1], path[512];

    (void)state;
    if (SANITIZED)
        skip();
    cache = cache_new(4u << 20);
    test_tmpdir_new(&dir);
    for (int i = 0; i < MANY_BLOCKS; i++) {
        write_many(dir.path, i, ulid);
        snprintf(path, sizeof path, "%s/%s", dir.path, ulid);
        assert_ok(block_open(&b[i], fs_real(), cache, path, &err), &err);
    }
    malloc_trim(0);
    long before = peak_kib();
    block_ulid(ulid, T0);
    struct compact_merge m = {
        .fs = fs_real(), .dir = dir.path, .ulid = ulid, .source = b, .n = MANY_BLOCKS};
    assert_ok(compact_merge(&m, &res, &err), &err);
    long grew = peak_kib() - before;
    assert_int_equal(res.samples, MANY_SERIES * MANY_ROWS * MANY_BLOCKS);
    print_message("%" PRIu64 " samples: the peak rose by %ld KiB\n", res.samples, grew);
    assert_true(grew < MEMORY_MIB * 1024);
    for (int i = 0; i < MANY_BLOCKS; i++)
        block_unref(b[i]);
    cache_free(cache);
    test_tmpdir_done(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_does_not_grow_with_the_samples, quiet_setup),
        cmocka_unit_test_setup(blocks_are_merged_and_their_sources_go, quiet_setup),
        cmocka_unit_test_setup(the_largest_range_allowed_is_not_exceeded, quiet_setup),
        cmocka_unit_test_setup(blocks_that_overlap_are_merged_unless_they_are_to_stay, quiet_setup),
        cmocka_unit_test_setup(a_reader_goes_on_with_the_blocks_it_had, quiet_setup),
        cmocka_unit_test_setup(a_power_cut_at_any_step_loses_and_doubles_nothing, quiet_setup),
        cmocka_unit_test_setup(a_kill_at_any_step_loses_and_doubles_nothing, quiet_setup),
        cmocka_unit_test_setup(an_error_at_any_step_is_made_good_later, quiet_setup),
        cmocka_unit_test_setup(a_full_disk_is_borne_until_there_is_space, quiet_setup),
        cmocka_unit_test_setup(memory_that_fails_is_borne, quiet_setup),
        cmocka_unit_test_setup(a_damaged_block_is_reported_once_and_left_alone, quiet_setup),
        cmocka_unit_test_setup(sources_stay_when_the_merged_block_is_damaged, quiet_setup),
        cmocka_unit_test_setup(a_merged_block_goes_when_all_of_it_is_past_retention, quiet_setup),
        cmocka_unit_test_setup(readers_see_each_sample_once_while_blocks_are_merged, quiet_setup),
        cmocka_unit_test_setup(closing_in_the_middle_leaves_whole_blocks, quiet_setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
