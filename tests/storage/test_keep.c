/* test_keep.c - what a store keeps: by a share of the disk, and how the largest block follows the retention. */
#include "tests/support/test.h"

#include "src/base/log.h"
#include "storage/storage_impl.h"
#include "tests/storage/series.h"
#include "tests/support/simfs.h"

#define BLOCK_MS 10000
#define T0       (1700000000000LL / (27 * BLOCK_MS) * (27 * BLOCK_MS))
#define BLOCKS   5
#define ROWS     400

static struct nx_err err;

/* Values that don't pack, so that a block has some size. */
static void write_block(struct fs *fs, int64_t min_ms)
{
    struct block_writer_opts o = {
        .fs = fs, .dir = "data", .min_ms = min_ms, .max_ms = min_ms + BLOCK_MS};
    struct label l = {STR(LABEL_NAME), STR("a")};
    struct labels ls = {&l, 1};
    struct test_random random = {(uint64_t)min_ms};
    struct block_writer *w = NULL;
    int64_t t[ROWS];
    double v[ROWS];
    uint32_t times;

    for (size_t i = 0; i < ROWS; i++) {
        t[i] = min_ms + (int64_t)i;
        v[i] = (double)test_random(&random) / 3;
    }
    assert_ok(block_writer_open(&w, &o, &err), &err);
    assert_ok(block_writer_series(w, &ls, &err), &err);
    assert_ok(block_writer_times(w, t, ROWS, &times, &err), &err);
    assert_ok(block_writer_chunk(w, times, v, ROWS, &err), &err);
    assert_ok(block_writer_commit(w, NULL, &err), &err);
    block_writer_close(w);
}

static struct storage *open_blocks(struct simfs *sim, struct storage_opts o)
{
    struct storage *s = NULL;

    o.fs = simfs_fs(sim);
    o.dir = "data";
    o.min_block_ms = BLOCK_MS;
    o.max_block_ms = o.retention_ms ? 0 : BLOCK_MS; /* then none is merged */
    o.no_worker = true;
    assert_ok(o.fs->mkdir(o.fs, "data", &err), &err);
    for (int i = 0; i < BLOCKS; i++)
        write_block(o.fs, T0 + i * BLOCK_MS);
    assert_ok(storage_open(&s, &o, &err), &err);
    return s;
}

static void a_share_of_the_disk_bounds_the_blocks(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct storage *s = open_blocks(sim, (struct storage_opts){.retention_percent = 50});
    const uint64_t one = stats_of(s).block_bytes / BLOCKS, wal = stats_of(s).wal_bytes;

    (void)state;
    assert_true(one > ROWS * 4);
    assert_int_equal(stats_of(s).disk_bytes, UINT64_MAX);
    simfs_set_space(sim, 2 * (BLOCKS + 1) * one);
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).blocks, BLOCKS); /* and the disk was smaller all at once */
    simfs_set_space(sim, 2 * (wal + 3 * one + one / 2));
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).blocks, 3);
    assert_int_equal(stats_of(s).size_retention_deletions, BLOCKS - 3);
    assert_int_equal(stats_of(s).oldest_ms, T0 + 2 * BLOCK_MS); /* the oldest went */

    simfs_fail_kind_from(sim, SIMFS_OTHER, 1); /* what was last known holds on */
    storage_set_retention(s, &(struct storage_retention){.percent = 100 / 3.0});
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).blocks, 2);
    simfs_heal(sim);
    storage_close(s);
    simfs_free(sim);
}

static void the_smaller_of_size_and_share_decides(void **state)
{
    struct simfs *sim = simfs_new(2);
    struct storage *s = open_blocks(sim, (struct storage_opts){0});
    const uint64_t one = stats_of(s).block_bytes / BLOCKS, wal = stats_of(s).wal_bytes;

    (void)state;
    simfs_set_space(sim, 100 * one);
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).disk_bytes, 0); /* nobody wanted to know */
    storage_set_retention(
        s, &(struct storage_retention){.bytes = wal + 4 * one + one / 2, .percent = 99});
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).blocks, 4);
    storage_set_retention(
        s, &(struct storage_retention){.bytes = wal + 4 * one + one / 2, .percent = 2.5});
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).blocks, wal > one / 2 ? 1 : 2);
    assert_true(stats_of(s).retention.percent == 2.5);
    storage_close(s);
    simfs_free(sim);
}

static void the_largest_block_follows_the_retention(void **state)
{
    struct simfs *sim = simfs_new(3);
    struct storage *s = open_blocks(sim, (struct storage_opts){.retention_ms = 1000LL * BLOCK_MS});

    (void)state;
    assert_int_equal(s->max_block_ms, 100 * BLOCK_MS);
    storage_set_retention(s, &(struct storage_retention){.time_ms = 300 * BLOCK_MS});
    assert_int_equal(s->max_block_ms, 30 * BLOCK_MS);
    storage_set_retention(s, &(struct storage_retention){.percent = 10});
    assert_int_equal(s->max_block_ms, 31 * 24 * 3600000LL);
    storage_close(s);
    simfs_free(sim);
}

static int quiet(void **state)
{
    (void)state;
    log_setup(LOG_ERROR_LEVEL, LOG_FORMAT_LOGFMT);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_share_of_the_disk_bounds_the_blocks),
        cmocka_unit_test(the_smaller_of_size_and_share_decides),
        cmocka_unit_test(the_largest_block_follows_the_retention),
    };

    return cmocka_run_group_tests(tests, quiet, NULL);
}
