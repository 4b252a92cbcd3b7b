/* test_loose_store.c - loose samples in chunk files: they leave memory and the log, are read there, judged
 * against, found at a start, and gone when a block has them; damage costs its own samples and no others.
 * Faults at every step, with stores like this among them: test_loose.c. Against a model: test_loose_model.c. */
#include "tests/support/test.h"

#include "storage/storage_impl.h"
#include "tests/storage/series.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define T0       1700006400000LL /* the start of a span of two hours */
#define STEP_MS  10000
#define SERIES   40
#define MAX_ROWS 900
#define SEGMENT  6000

struct world {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g, *rows;
    struct storage_sample v[SERIES];
    uint32_t row_col;
    struct nx_err err;
};

/* Each series has times of its own. */
static int64_t time_of(int series, int row)
{
    return T0 + row * STEP_MS + series * 7 + row * series % 5;
}

static void open_store(struct world *w)
{
    struct storage_opts o = {.fs = simfs_fs(w->sim),
                             .dir = "data",
                             .wal_segment_bytes = SEGMENT,
                             .out_of_order_window_ms = 4 * 3600000,
                             .no_worker = true};

    assert_ok(storage_open(&w->s, &o, &w->err), &w->err);
}

static void open_groups(struct world *w)
{
    struct label row = {STR(LABEL_NAME), STR("rows")};

    assert_ok(storage_group_open_loose(w->s, &w->g, &w->err), &w->err);
    for (int i = 0; i < SERIES; i++)
        w->v[i].col = numbered_column(w->g, i);
    assert_ok(storage_group_open(w->s, &w->rows, &w->err), &w->err);
    assert_ok(storage_group_column(w->rows, &(struct labels){&row, 1}, &w->row_col, NULL, &w->err),
              &w->err);
}

static nx_status append(struct world *w, int row, struct storage_appended *res)
{
    for (int i = 0; i < SERIES; i++) {
        w->v[i].t_ms = time_of(i, row);
        w->v[i].value = numbered_value(i, row);
    }
    return storage_group_append_samples(w->g, w->v, SERIES, res, &w->err);
}

/* With a row of the other group each tenth time. */
static void append_rows(struct world *w, int from, int to)
{
    for (int row = from; row < to; row++) {
        double v = row;
        assert_ok(append(w, row, NULL), &w->err);
        if (row % 10 == 0)
            assert_ok(storage_group_append(w->rows, T0 + row * STEP_MS + 9999, &w->row_col, &v, 1,
                                           NULL, &w->err),
                      &w->err);
        storage_tick(w->s, T0 + row * STEP_MS);
    }
}

static void begin(struct world *w, uint64_t seed)
{
    *w = (struct world){.sim = simfs_new(seed)};
    open_store(w);
    open_groups(w);
}

static void close_groups(struct world *w)
{
    storage_group_close(w->g);
    storage_group_close(w->rows);
    w->g = w->rows = NULL;
}

static void end(struct world *w)
{
    close_groups(w);
    storage_close(w->s);
    simfs_free(w->sim);
}

static void restart(struct world *w)
{
    close_groups(w);
    storage_close(w->s);
    simfs_restart(w->sim);
    open_store(w);
}

/* Samples that are there; fails on one that nobody wrote, or twice. */
static int count(struct world *w, int rows)
{
    struct scan x;
    int n = 0;

    for (scan_begin(&x, w->s, "m"); scan_next(&x); n += (int)x.c.n) {
        int series = series_number(x.labels);
        for (size_t k = 0; k < x.c.n; k++) {
            int row = (int)((x.c.t[k] - T0) / STEP_MS);
            assert_in_range(row, 0, rows - 1);
            assert_true(x.c.t[k] == time_of(series, row));
            assert_true(k == 0 || x.c.t[k] > x.c.t[k - 1]);
            assert_true(x.c.v[k] == numbered_value(series, row));
        }
    }
    return n;
}

static struct loose_counts counts(struct world *w)
{
    struct loose_counts c;

    loose_get_counts(w->s->head->loose, &c);
    return c;
}

static void count_problem(void *ctx, const struct storage_problem *p)
{
    unsigned *n = ctx;

    assert_non_null(p->what);
    (*n)++;
}

/* What verify has to say of the chunk files. */
static unsigned problems(struct world *w)
{
    struct storage_verified out;
    unsigned n = 0;

    assert_ok(storage_verify_head_files(simfs_fs(w->sim), "data", count_problem, &n, &out, &w->err),
              &w->err);
    assert_int_equal(out.problems, n);
    return n;
}

static void samples_leave_memory_and_the_log_for_a_chunk_file(void **state)
{
    struct world w;
    struct loose_counts c;

    (void)state;
    begin(&w, 1);
    append_rows(&w, 0, 600);
    c = counts(&w);
    assert_true(stats_of(w.s).wal_bytes < 3 * SEGMENT);
    assert_true(c.samples < 600 * SERIES / 4);
    assert_int_equal(c.samples + c.stored, 600 * SERIES);
    assert_int_equal(count(&w, 600), 600 * SERIES);
    restart(&w);
    /* The log is short, and what it has of samples that are stored is passed over. */
    assert_true(counts(&w).samples + counts(&w).stored == 600 * SERIES);
    assert_true(counts(&w).samples < 600 * SERIES / 4);
    assert_int_equal(count(&w, 600), 600 * SERIES);
    assert_int_equal(stats_of(w.s).chunks_damaged, 0);
    open_groups(&w);
    append_rows(&w, 600, 700);
    assert_int_equal(count(&w, 700), 700 * SERIES);
    end(&w);
}

/* After a start the newest sample of a series may be in a chunk file only. */
static void the_order_rules_know_what_is_stored(void **state)
{
    struct world w;
    struct storage_appended res;

    (void)state;
    begin(&w, 2);
    append_rows(&w, 0, 100);
    restart(&w);
    storage_tick(w.s, T0 + 100 * STEP_MS); /* stores all that the log had */
    restart(&w);
    assert_int_equal(counts(&w).samples, 0);
    assert_int_equal(counts(&w).stored, 100 * SERIES);
    open_groups(&w);
    assert_ok(append(&w, 99, &res), &w.err); /* the same, with the same values */
    assert_int_equal(res.appended, SERIES);  /* as Prometheus counts it */
    assert_int_equal(counts(&w).samples, 0);
    for (int i = 0; i < SERIES; i++)
        w.v[i].value += 1;
    assert_ok(storage_group_append_samples(w.g, w.v, SERIES, &res, &w.err), &w.err);
    assert_int_equal(res.duplicate, SERIES);
    assert_ok(append(&w, 50, &res), &w.err); /* late: taken, and what was there first stays */
    assert_int_equal(res.appended, SERIES);
    assert_int_equal(count(&w, 100), 100 * SERIES);
    append_rows(&w, 100, 130);
    assert_int_equal(count(&w, 130), 130 * SERIES);
    end(&w);
}

/* Late samples of spans that are blocks already are stored by span, and go into blocks with the next flush;
 * then a start does not find them in the file any more, although it is there for others. */
static void what_a_block_has_is_gone_from_the_file(void **state)
{
    struct world w;
    struct fs_stat st;

    (void)state;
    begin(&w, 3);
    append_rows(&w, 0, 300);
    for (int row = 1100; row < 1110; row++) { /* the next span; the first one becomes a block */
        double v = row;
        assert_ok(storage_group_append(w.rows, T0 + row * STEP_MS, &w.row_col, &v, 1, NULL, &w.err),
                  &w.err);
        storage_tick(w.s, T0 + row * STEP_MS);
    }
    assert_true(stats_of(w.s).blocks == 1);
    assert_int_equal(counts(&w).stored, 0);
    append_rows(&w, 300, 500); /* late */
    assert_true(counts(&w).stored > 100 * SERIES);
    assert_int_equal(count(&w, 500), 500 * SERIES);
    restart(&w);
    assert_int_equal(count(&w, 500), 500 * SERIES);
    open_groups(&w);
    for (int row = 1800; row < 1830; row++) {
        double v = row;
        assert_ok(storage_group_append(w.rows, T0 + row * STEP_MS, &w.row_col, &v, 1, NULL, &w.err),
                  &w.err);
        storage_tick(w.s, T0 + row * STEP_MS);
    }
    assert_int_equal(counts(&w).batches, 0);
    assert_int_equal(count(&w, 500), 500 * SERIES);
    assert_ok(simfs_fs(w.sim)->stat(simfs_fs(w.sim), "data/head/gone", &st, &w.err), &w.err);
    restart(&w);
    assert_int_equal(counts(&w).batches, 0);
    assert_int_equal(count(&w, 500), 500 * SERIES);
    open_groups(&w);
    end(&w);
}

/* If the note of what is gone is lost, samples are there twice and seen once. */
static void without_the_note_samples_are_found_again_and_seen_once(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 4);
    append_rows(&w, 0, 200);
    /* As a block does: and the file stays, since the other group's rows are in it. */
    bool any;
    assert_ok(loose_take(w.s->head->loose, w.s->wal, T0, T0 + 7200000, &any, &w.err), &w.err);
    assert_true(any);
    loose_taken(w.s->head->loose, w.s->wal, true);
    loose_drop(w.s->head->loose, true);
    assert_int_equal(count(&w, 200), 0);
    restart(&w);
    assert_int_equal(count(&w, 200), 0);
    assert_int_equal(problems(&w), 0);
    assert_true(simfs_flip(w.sim, "data/head/gone", 9, 1));
    assert_int_equal(problems(&w), 1);
    restart(&w);
    assert_true(counts(&w).batches > 0);
    assert_true(count(&w, 200) > 0);
    open_groups(&w);
    append_rows(&w, 200, 260);
    end(&w);
}

/* A flipped bit costs at most the samples of a batch, or of the series that the file can't tell, is counted, and
 * the rest is served; the store goes on. */
static void a_flipped_bit_anywhere_is_found_and_contained(void **state)
{
    (void)state;
    for (uint64_t off = 0;; off += off < 500 ? 7 : 97 * TEST_STRIDE) {
        struct world w;
        struct fs_stat st = {0};
        int n, again;
        begin(&w, 5);
        append_rows(&w, 0, 160);
        restart(&w);
        storage_tick(w.s, T0 + 160 * STEP_MS);
        assert_ok(simfs_fs(w.sim)->stat(simfs_fs(w.sim), "data/head/00000001", &st, &w.err),
                  &w.err);
        assert_int_equal(problems(&w), 0);
        bool there = simfs_flip(w.sim, "data/head/00000001", off, (uint8_t)(1u << (off / 7) % 8));
        assert_true(!there || problems(&w) > 0);
        restart(&w);
        n = count(&w, 160);
        if (!there)
            assert_int_equal(n, 160 * SERIES);
        else if (off + 20 < st.bytes) /* there is the last mark */
            assert_true(stats_of(w.s).chunks_damaged > 0);
        open_groups(&w);
        append_rows(&w, 160, 200);
        restart(&w);
        again = count(&w, 200);
        assert_int_equal(again, n + 40 * SERIES);
        open_groups(&w);
        end(&w);
        if (!there)
            break;
    }
}

/* A reader that does not see all of it keeps a series' samples where they are, and the log with them. */
static void what_a_reader_must_not_see_is_not_stored(void **state)
{
    struct world w;
    struct querier *q;

    (void)state;
    begin(&w, 6);
    append_rows(&w, 0, 5);
    uint64_t stored = counts(&w).stored;
    assert_ok(storage_querier(w.s, INT64_MIN, INT64_MAX, &q, &w.err), &w.err);
    append_rows(&w, 5, 600);
    assert_int_equal(counts(&w).stored, stored);
    assert_true(stats_of(w.s).wal_bytes > 4 * SEGMENT);
    querier_close(q);
    append_rows(&w, 600, 601);
    assert_int_equal(counts(&w).samples + counts(&w).stored, 601 * SERIES);
    assert_true(counts(&w).stored > 300 * SERIES);
    assert_true(stats_of(w.s).wal_bytes < 2 * SEGMENT);
    assert_int_equal(count(&w, 601), 601 * SERIES);
    end(&w);
}

/* A series with more samples in a span than a chunk takes. */
static void a_busy_series_is_several_entries(void **state)
{
    struct world w;
    enum { N = 20000 };
    struct storage_sample v[100];
    struct samples got = {0};

    (void)state;
    begin(&w, 7);
    for (int i = 0; i < N; i += 100) {
        for (int k = 0; k < 100; k++)
            v[k] = (struct storage_sample){w.v[0].col, T0 + (i + k) * 100, (i + k) * 0.5};
        assert_ok(storage_group_append_samples(w.g, v, 100, NULL, &w.err), &w.err);
    }
    storage_tick(w.s, T0); /* the segment is closed, and all of it stored */
    assert_int_equal(counts(&w).stored, N);
    assert_true(counts(&w).entries >= 2);
    restart(&w);
    assert_int_equal(counts(&w).stored, N);
    assert_ok(
        loose_read(w.s->head->loose, 1, UINT64_MAX, false, INT64_MIN, INT64_MAX, &got, 0, &w.err),
        &w.err);
    assert_int_equal(got.n, N);
    for (int i = 0; i < N; i++)
        assert_true(got.t[i] == T0 + i * 100 && got.v[i] == i * 0.5);
    samples_done(&got);
    open_groups(&w);
    end(&w);
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
            (void)append(&w, row, NULL); /* the log may refuse it */
            storage_tick(w.s, T0 + row * STEP_MS);
        }
        simfs_heal(w.sim);
        int had = count(&w, 120);
        append_rows(&w, 120, 200);
        assert_int_equal(count(&w, 200), had + 80 * SERIES);
        assert_true(stats_of(w.s).wal_bytes < 5 * SEGMENT);
        restart(&w);
        assert_int_equal(count(&w, 200), had + 80 * SERIES);
        open_groups(&w);
        end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_leave_memory_and_the_log_for_a_chunk_file),
        cmocka_unit_test(the_order_rules_know_what_is_stored),
        cmocka_unit_test(what_a_block_has_is_gone_from_the_file),
        cmocka_unit_test(without_the_note_samples_are_found_again_and_seen_once),
        cmocka_unit_test(a_flipped_bit_anywhere_is_found_and_contained),
        cmocka_unit_test(what_a_reader_must_not_see_is_not_stored),
        cmocka_unit_test(a_busy_series_is_several_entries),
        cmocka_unit_test(a_disk_that_fails_costs_nothing),
    };
    quiet_log();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
