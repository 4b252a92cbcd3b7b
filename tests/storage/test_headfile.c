/* test_headfile.c - chunk files: what is stored is read, whatever happened to the file; the log goes when its
 * rows are stored; damage costs its own rows and no others. */
#include "tests/support/test.h"

#include "src/base/hash.h"
#include "storage/storage.h"
#include "tests/storage/series.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define T0       1700006400000LL /* the start of a span of two hours */
#define STEP_MS  10000
#define SERIES   40
#define MAX_ROWS 600

struct world {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g;
    uint32_t cols[SERIES];
    struct nx_err err;
};

static void open_store(struct world *w)
{
    struct storage_opts o = {
        .fs = simfs_fs(w->sim), .dir = "data", .wal_segment_bytes = 6000, .no_worker = true};

    assert_ok(storage_open(&w->s, &o, &w->err), &w->err);
}

static void open_group(struct world *w)
{
    assert_ok(storage_group_open(w->s, &w->g, &w->err), &w->err);
    for (int i = 0; i < SERIES; i++)
        w->cols[i] = numbered_column(w->g, i);
}

static nx_status append(struct world *w, int row)
{
    double v[SERIES];

    for (int i = 0; i < SERIES; i++)
        v[i] = numbered_value(i, row);
    return storage_group_append(w->g, T0 + row * STEP_MS, w->cols, v, SERIES, NULL, &w->err);
}

static void append_rows(struct world *w, int from, int to)
{
    for (int row = from; row < to; row++) {
        assert_ok(append(w, row), &w->err);
        storage_tick(w->s, T0 + row * STEP_MS);
    }
}

static void begin(struct world *w, uint64_t seed)
{
    *w = (struct world){.sim = simfs_new(seed)};
    open_store(w);
    open_group(w);
}

static void end(struct world *w)
{
    storage_group_close(w->g);
    storage_close(w->s);
    simfs_free(w->sim);
}

/* Closes without the worker having done anything more, and opens again. */
static void restart(struct world *w)
{
    storage_group_close(w->g);
    w->g = NULL;
    storage_close(w->s);
    simfs_restart(w->sim);
    open_store(w);
}

/* How many rows each series has; fails on a value that nobody wrote or a time out of order. Rows of which
 * some series have a sample and others not count in *uneven. */
static int count_rows(struct world *w, int rows, int *uneven)
{
    int has[MAX_ROWS] = {0}, n = 0;
    struct scan x;

    for (scan_begin(&x, w->s, "m"); scan_next(&x);) {
        int series = series_number(x.labels);
        for (size_t k = 0; k < x.c.n; k++) {
            int row = (int)((x.c.t[k] - T0) / STEP_MS);
            assert_in_range(row, 0, rows - 1);
            assert_true(k == 0 || x.c.t[k] > x.c.t[k - 1]);
            assert_true(x.c.v[k] == numbered_value(series, row));
            has[row]++;
        }
    }
    if (uneven)
        *uneven = 0;
    for (int i = 0; i < rows; i++) {
        n += has[i] == SERIES;
        if (uneven)
            *uneven += has[i] != 0 && has[i] != SERIES;
    }
    return n;
}

static void rows_leave_memory_and_the_log_for_a_chunk_file(void **state)
{
    struct world w;
    struct storage_stats st;

    (void)state;
    begin(&w, 1);
    append_rows(&w, 0, 400);
    st = stats_of(w.s);
    assert_true(st.chunk_files >= 1);
    assert_true(st.chunks_stored >= 2 * SERIES);
    assert_true(st.wal_bytes < 3 * 6000);
    assert_true(st.wal_truncations > 0);
    assert_int_equal(count_rows(&w, 400, NULL), 400);
    restart(&w);
    assert_int_equal(count_rows(&w, 400, NULL), 400);
    assert_int_equal(stats_of(w.s).chunks_damaged, 0);
    open_group(&w); /* the series go on where they were, and so do the order rules */
    assert_ok(append(&w, 399), &w.err);
    append_rows(&w, 400, 500);
    assert_int_equal(count_rows(&w, 500, NULL), 500);
    end(&w);
}

static void what_a_closed_group_left_does_not_keep_the_log(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 2);
    append_rows(&w, 0, 3);
    storage_group_close(w.g);
    open_group(&w);
    append_rows(&w, 3, 200);
    assert_true(stats_of(w.s).wal_bytes < 3 * 6000);
    restart(&w);
    assert_int_equal(count_rows(&w, 200, NULL), 200);
    end(&w);
}

/* Columns are one series's after the other's, with rows in between in which they are nobody's. The last one. */
static uint32_t append_in_turns(struct world *w, int rows)
{
    uint32_t mine = 0, last = 0;
    int series = SERIES;

    for (int row = 0; row < rows; row++) {
        uint32_t cols[2] = {w->cols[0], mine};
        double v[2] = {numbered_value(0, row), numbered_value(series, row)};
        bool has = row % 20 >= 5;
        if (row % 20 == 5) {
            cols[1] = mine = numbered_column(w->g, series);
            last = mine > last ? mine : last;
        }
        assert_ok(
            storage_group_append(w->g, T0 + row * STEP_MS, cols, v, has ? 2 : 1, NULL, &w->err),
            &w->err);
        if (row % 20 == 19) {
            storage_group_release(w->g, mine);
            series++;
        }
        storage_tick(w->s, T0 + row * STEP_MS);
    }
    return last;
}

static void a_stored_column_that_changed_hands_gives_nobody_the_others_samples(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 4);
    assert_in_range(append_in_turns(&w, 600), SERIES, SERIES + 3); /* 30 series in few columns */
    assert_true(stats_of(w.s).chunk_files >= 1);
    count_rows(&w, 600, NULL); /* which fails on a value of another series */
    restart(&w);
    count_rows(&w, 600, NULL);
    end(&w);
}

static void chunk_files_go_when_blocks_have_their_rows(void **state)
{
    struct world w;
    struct fs_names names = {0};

    (void)state;
    begin(&w, 3);
    for (int row = 0; row < 4000; row += 1) {
        double v = row;
        assert_ok(storage_group_append(w.g, T0 + row * STEP_MS, w.cols, &v, 1, NULL, &w.err),
                  &w.err);
        if (row % 10 == 0)
            storage_tick(w.s, T0 + row * STEP_MS);
    }
    storage_tick(w.s, T0 + 4000 * STEP_MS);
    assert_true(stats_of(w.s).blocks >= 2);
    assert_ok(simfs_fs(w.sim)->list(simfs_fs(w.sim), "data/head", &names, &w.err), &w.err);
    assert_in_range(names.n, 1, 3);
    assert_int_equal(stats_of(w.s).chunk_files, names.n);
    fs_names_done(&names);
    end(&w);
}

/* A flipped bit costs at most the samples of a record, is counted, and the rest is served, also after the
 * next start; the store goes on. */
static void a_flipped_bit_anywhere_is_found_and_contained(void **state)
{
    (void)state;
    for (uint64_t off = 0;; off += off < 400 ? 3 : 41 * TEST_STRIDE) {
        struct world w;
        int rows, uneven, again;
        struct fs_stat st = {0};
        uint64_t size;
        begin(&w, 4);
        append_rows(&w, 0, 300);
        rows = (int)stats_of(w.s).chunks_stored / SERIES;
        assert_true(rows > 0);
        restart(&w);
        storage_tick(w.s, T0 + 300 * STEP_MS);
        assert_ok(simfs_fs(w.sim)->stat(simfs_fs(w.sim), "data/head/00000001", &st, &w.err),
                  &w.err);
        size = st.bytes;
        bool is_there =
            simfs_flip(w.sim, "data/head/00000001", off, (uint8_t)(1u << (off / 3) % 8));
        restart(&w);
        rows = count_rows(&w, 300, &uneven);
        if (!is_there)
            assert_int_equal(rows, 300);
        else if (off + 20 < size) /* there is the last mark, which is missed by nobody */
            assert_true(stats_of(w.s).chunks_damaged > 0);
        /* Up to 144 rows are in a record; header and columns are needed by all of the file. */
        assert_true(off < 400 || rows + uneven >= 300 - 144);
        open_group(&w);
        append_rows(&w, 300, 330);
        restart(&w);
        again = count_rows(&w, 330, NULL);
        assert_int_equal(again, rows + 30);
        end(&w);
        if (!is_there)
            break;
    }
}

/* A disk that takes no chunk file leaves memory and log as they are; when it does again, they are emptied. */
static void a_disk_that_fails_costs_nothing(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 30; n++) {
        struct world w;
        begin(&w, n);
        append_rows(&w, 0, 40);
        simfs_fail_kind_from(w.sim, n % 2 ? SIMFS_SYNC : SIMFS_SYNC | SIMFS_WRITE | SIMFS_OPEN, n);
        for (int row = 40; row < 120; row++) {
            (void)append(&w, row); /* the log may refuse it */
            storage_tick(w.s, T0 + row * STEP_MS);
        }
        simfs_heal(w.sim);
        int rows = count_rows(&w, 120, NULL);
        append_rows(&w, 120, 300);
        assert_int_equal(count_rows(&w, 300, NULL), rows + 180);
        assert_true(stats_of(w.s).wal_bytes < 5 * 6000);
        restart(&w);
        assert_int_equal(count_rows(&w, 300, NULL), rows + 180);
        end(&w);
    }
}

/* A record that is longer than the log's rest is cut by a power loss at any of its bytes. */
static void a_torn_end_is_cut_and_the_log_has_its_rows(void **state)
{
    (void)state;
    for (uint64_t step = 1; step < 900; step += 7 * TEST_STRIDE) {
        struct world w;
        int row = 0, synced = 0;
        begin(&w, step);
        simfs_cut_power_at(w.sim, step);
        for (; row < 300 && !simfs_power_was_cut(w.sim); row++) {
            uint64_t before = stats_of(w.s).wal_fsyncs;
            if (append(&w, row))
                break;
            storage_tick(w.s, T0 + row * STEP_MS);
            if (!simfs_power_was_cut(w.sim) && stats_of(w.s).wal_fsyncs > before)
                synced = row + 1;
        }
        storage_group_close(w.g);
        storage_close(w.s);
        simfs_restore_power(w.sim);
        open_store(&w);
        int rows = count_rows(&w, 300, NULL);
        assert_in_range(rows, synced, row + 1);
        open_group(&w);
        append_rows(&w, 300, 400);
        assert_int_equal(count_rows(&w, 400, NULL), rows + 100);
        restart(&w);
        assert_int_equal(count_rows(&w, 400, NULL), rows + 100);
        end(&w);
    }
}

/* Makes the first chunk file one of another version, its header right. */
static void set_version(struct world *w, uint8_t version)
{
    static const char *const path = "data/head/00000001";
    uint8_t h[12], crc[4];
    struct buf text;

    buf_init(&text, 0);
    assert_ok(fs_read_file(simfs_fs(w->sim), path, &text, &w->err), &w->err);
    memcpy(h, text.ptr, sizeof h);
    assert_true(simfs_flip(w->sim, path, 4, h[4] ^ version));
    h[4] = version;
    put_u32le(crc, crc32c(0, h, sizeof h));
    for (int i = 0; i < 4; i++)
        assert_true(simfs_flip(w->sim, path, 12 + (uint64_t)i, crc[i] ^ (uint8_t)text.ptr[12 + i]));
    buf_done(&text);
}

/* X6 */
static void a_file_of_version_1_is_read_and_one_of_a_later_version_refused(void **state)
{
    struct storage_opts o = {.dir = "data", .no_worker = true};
    struct world w;
    uint64_t stored;

    (void)state;
    begin(&w, 8);
    append_rows(&w, 0, 400);
    stored = stats_of(w.s).chunks_stored;
    assert_true(stored >= 2 * SERIES);
    storage_group_close(w.g);
    storage_close(w.s);
    set_version(&w, 3);
    simfs_restart(w.sim);
    o.fs = simfs_fs(w.sim);
    assert_int_equal(storage_open(&w.s, &o, &w.err), NX_UNAVAILABLE);
    assert_non_null(strstr(w.err.text, "is in version 3 of the format of chunk files"));
    set_version(&w, 1);
    open_store(&w);
    assert_int_equal(stats_of(w.s).chunks_damaged, 0);
    assert_int_equal(count_rows(&w, 400, NULL), 400);
    open_group(&w);
    append_rows(&w, 400, 600); /* to a file of this version */
    restart(&w);
    assert_int_equal(count_rows(&w, 600, NULL), 600);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_leave_memory_and_the_log_for_a_chunk_file),
        cmocka_unit_test(what_a_closed_group_left_does_not_keep_the_log),
        cmocka_unit_test(a_stored_column_that_changed_hands_gives_nobody_the_others_samples),
        cmocka_unit_test(chunk_files_go_when_blocks_have_their_rows),
        cmocka_unit_test(a_flipped_bit_anywhere_is_found_and_contained),
        cmocka_unit_test(a_disk_that_fails_costs_nothing),
        cmocka_unit_test(a_torn_end_is_cut_and_the_log_has_its_rows),
        cmocka_unit_test(a_file_of_version_1_is_read_and_one_of_a_later_version_refused),
    };
    quiet_log();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
