/* test_loose.c - late samples and samples with times of their own: the rules of order one by one, what
 * becomes of them in blocks and in the log, and faults at every step.
 *
 * The workload of the faults: series of a group that takes rows and of a loose group; each fourth row of a
 * series is left out at first and comes 17 rows later, when its span is a block already. */
#include "tests/support/test.h"

#include "storage/storage_impl.h"
#include "tests/storage/series.h"
#include "tests/support/oom.h"
#include "tests/support/faults.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define T0       1700000000000LL
#define BLOCK_MS 10000
#define STEP_MS  1000
#define LATE     17
#define ROWS     60
#define SERIES   6

/* ---- a store with one series at hand ----------------------------------------------------------- */

struct one {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g;
    uint32_t col;
    bool loose;
    bool keep_overlapping;
    int64_t window_ms;
    struct nx_err err;
};

static uint32_t column_of(struct storage_group *g, const char *name)
{
    struct label l = {STR(LABEL_NAME), STR(name)};
    struct labels ls = {&l, 1};
    struct nx_err err;
    uint32_t col = 0;

    assert_ok(storage_group_column(g, &ls, &col, NULL, &err), &err);
    return col;
}

static void one_open(struct one *o)
{
    struct storage_opts opts = {.fs = simfs_fs(o->sim),
                                .dir = "data",
                                .min_block_ms = BLOCK_MS,
                                .keep_overlapping = o->keep_overlapping,
                                .max_block_ms = o->keep_overlapping ? BLOCK_MS : 0,
                                .out_of_order_window_ms = o->window_ms,
                                .no_worker = true};

    assert_ok(storage_open(&o->s, &opts, &o->err), &o->err);
    if (o->loose)
        assert_ok(storage_group_open_loose(o->s, &o->g, &o->err), &o->err);
    else
        assert_ok(storage_group_open(o->s, &o->g, &o->err), &o->err);
    o->col = column_of(o->g, "m");
}

static void one_new(struct one *o, bool loose, int64_t window_ms)
{
    *o = (struct one){.sim = simfs_new(1), .loose = loose, .window_ms = window_ms};
    one_open(o);
}

static void one_close(struct one *o)
{
    storage_group_close(o->g);
    storage_close(o->s);
}

static void one_reopen(struct one *o)
{
    one_close(o);
    simfs_restart(o->sim);
    one_open(o);
}

static void one_free(struct one *o)
{
    one_close(o);
    simfs_free(o->sim);
}

/* One sample; the counts as "appended duplicate out-of-order out-of-bounds too-old". */
static const char *put(struct one *o, int64_t t, double v)
{
    static char text[64];
    struct storage_appended r = {0};
    struct storage_sample x = {o->col, T0 + t, v};

    if (o->loose)
        assert_ok(storage_group_append_samples(o->g, &x, 1, &r, &o->err), &o->err);
    else
        assert_ok(storage_group_append(o->g, T0 + t, &o->col, &v, 1, &r, &o->err), &o->err);
    snprintf(text, sizeof text, "%u %u %u %u %u", r.appended, r.duplicate, r.out_of_order,
             r.out_of_bounds, r.too_old);
    return text;
}
#define TAKEN     "1 0 0 0 0"
#define DUPLICATE "0 1 0 0 0"
#define OLD       "0 0 1 0 0"
#define BOUNDS    "0 0 0 1 0"
#define TOO_OLD   "0 0 0 0 1"

/* All samples of all series, by label: "m 0=1 1000=2; " */
static const char *all(struct storage *s)
{
    static char text[4096];
    struct scan x;
    size_t len = 0;

    text[0] = 0;
    for (scan_begin(&x, s, NULL); scan_next(&x);) {
        struct nx_slice name = labels_get_str(x.labels, LABEL_NAME);
        len += (size_t)snprintf(text + len, sizeof text - len, "%.*s", (int)name.len, name.ptr);
        for (size_t k = 0; k < x.c.n && len < sizeof text - 64; k++)
            len += (size_t)snprintf(text + len, sizeof text - len, " %lld=%g",
                                    (long long)(x.c.t[k] - T0), x.c.v[k]);
        len += (size_t)snprintf(text + len, sizeof text - len, "; ");
    }
    return text;
}

static uint64_t held(struct one *o)
{
    struct loose_counts c;

    loose_get_counts(o->s->head->loose, &c);
    return c.samples;
}

static uint64_t n_blocks(struct one *o)
{
    struct storage_stats st;

    storage_get_stats(o->s, &st);
    return st.blocks;
}

/* Time passes, so that spans before `t` are flushed. */
static void pass(struct one *o, int64_t t)
{
    uint32_t clock = column_of(o->g, "z");
    double v = 0;

    assert_ok(storage_group_append(o->g, T0 + t, &clock, &v, 1, NULL, &o->err), &o->err);
    storage_tick(o->s, T0 + t);
}

/* ---- the rules ----------------------------------------------------------------------------------- */

static void without_a_window_what_is_late_is_refused(void **state)
{
    (void)state;
    for (int loose = 0; loose < 2; loose++) {
        struct one o;
        one_new(&o, loose, 0);
        assert_string_equal(put(&o, 20000, 1), TAKEN);
        assert_string_equal(put(&o, 20000, 1), TAKEN);     /* STO-003 */
        assert_string_equal(put(&o, 20000, 2), DUPLICATE); /* STO-004 */
        assert_string_equal(put(&o, 19999, 1), OLD);       /* STO-002 */
        assert_string_equal(put(&o, 15000, 1), OLD);       /* STO-001: half a block before */
        assert_string_equal(put(&o, 14999, 1), BOUNDS);
        assert_string_equal(put(&o, 20001, 3), TAKEN);
        assert_string_equal(all(o.s), "m 20000=1 20001=3; ");
        one_reopen(&o);
        assert_string_equal(all(o.s), "m 20000=1 20001=3; ");
        assert_string_equal(put(&o, 20001, 4), DUPLICATE);
        assert_string_equal(put(&o, 20000, 4), OLD);
        one_free(&o);
    }
}

static void within_the_window_what_is_late_is_taken(void **state)
{
    (void)state;
    for (int loose = 0; loose < 2; loose++) {
        struct one o;
        struct storage_stats st;
        one_new(&o, loose, 30000);
        assert_string_equal(put(&o, 100000, 1), TAKEN);
        assert_string_equal(put(&o, 70000, 2), TAKEN); /* STO-005 */
        assert_string_equal(put(&o, 69999, 2), TOO_OLD);
        assert_string_equal(put(&o, 99999, 3), TAKEN); /* that is not even half a block late */
        assert_string_equal(put(&o, 80000, 4), TAKEN);
        assert_string_equal(put(&o, 80000, 5), TAKEN); /* STO-006: no error, and the first stays */
        assert_string_equal(put(&o, 100000, 1), TAKEN);
        assert_string_equal(put(&o, 100000, 6), DUPLICATE);
        assert_string_equal(all(o.s), "m 70000=2 80000=4 99999=3 100000=1; ");
        storage_get_stats(o.s, &st);
        assert_int_equal(st.out_of_order_appended, 3);
        assert_int_equal(st.too_old, 1);
        assert_int_equal(st.out_of_order, 0);
        assert_int_equal(st.out_of_bounds, 0);
        one_reopen(&o);
        assert_string_equal(all(o.s), "m 70000=2 80000=4 99999=3 100000=1; ");
        assert_string_equal(put(&o, 99000, 7), TAKEN); /* late still, after the restart */
        assert_string_equal(put(&o, 69999, 7), TOO_OLD);
        one_free(&o);
    }
}

/* STO-007: what counts is the newest time of all series. */
static void the_window_ends_at_the_newest_of_the_head(void **state)
{
    (void)state;
    for (int loose = 0; loose < 2; loose++) {
        struct one o;
        double v = 1;
        uint32_t other;
        one_new(&o, loose, 30000);
        other = column_of(o.g, "other");
        assert_string_equal(put(&o, 0, 1), TAKEN);
        assert_ok(storage_group_append(o.g, T0 + 50000, &other, &v, 1, NULL, &o.err), &o.err);
        assert_string_equal(put(&o, 19999, 2), TOO_OLD); /* newer than all of its series */
        assert_string_equal(put(&o, 20000, 2), TAKEN);
        assert_string_equal(all(o.s), "m 0=1 20000=2; other 50000=1; ");
        one_free(&o);
    }
}

/* CFG-135 */
static void the_window_may_change_and_what_is_stored_stays(void **state)
{
    struct one o;

    (void)state;
    one_new(&o, false, 0);
    assert_string_equal(put(&o, 100000, 1), TAKEN);
    assert_string_equal(put(&o, 98000, 1), OLD);
    storage_set_out_of_order_window(o.s, 5000);
    assert_string_equal(put(&o, 98000, 2), TAKEN);
    assert_string_equal(put(&o, 94000, 2), TOO_OLD);
    storage_set_out_of_order_window(o.s, 0);
    assert_string_equal(put(&o, 98500, 3), OLD);
    assert_string_equal(put(&o, 90000, 3), BOUNDS);
    o.window_ms = 0;
    one_reopen(&o);
    assert_string_equal(all(o.s), "m 98000=2 100000=1; ");
    one_free(&o);
}

static void a_row_is_late_for_some_of_its_series_only(void **state)
{
    struct one o;
    struct storage_appended r;
    uint32_t cols[2];
    const double a[] = {1, 2}, b[] = {3, 4};

    (void)state;
    one_new(&o, false, 5000);
    cols[0] = o.col;
    cols[1] = column_of(o.g, "n");
    assert_ok(storage_group_append(o.g, T0 + 9000, cols, a, 1, &r, &o.err), &o.err);
    assert_ok(storage_group_append(o.g, T0 + 8000, cols, b, 2, &r, &o.err), &o.err);
    assert_int_equal(r.appended, 2);
    assert_string_equal(all(o.s), "m 8000=3 9000=1; n 8000=4; ");
    one_reopen(&o);
    assert_string_equal(all(o.s), "m 8000=3 9000=1; n 8000=4; ");
    one_free(&o);
}

/* ---- batches ------------------------------------------------------------------------------------- */

static void a_batch_is_judged_in_the_order_given(void **state)
{
    struct one o;
    struct storage_appended r;

    (void)state;
    one_new(&o, true, 0);
    uint32_t n = column_of(o.g, "n");
    const struct storage_sample v[] = {
        {o.col, T0 + 3000, 1}, {o.col, T0 + 2000, 2}, {n, T0 + 2000, 3}, {o.col, T0 + 3000, 1},
        {o.col, T0 + 3000, 4}, {o.col, T0 + 4000, 5}, {n, T0 + 2001, 6}};
    assert_ok(storage_group_append_samples(o.g, v, NX_COUNT(v), &r, &o.err), &o.err);
    assert_int_equal(r.appended, 5);
    assert_int_equal(r.out_of_order, 1);
    assert_int_equal(r.duplicate, 1);
    assert_string_equal(all(o.s), "m 3000=1 4000=5; n 2000=3 2001=6; ");
    one_reopen(&o);
    assert_string_equal(all(o.s), "m 3000=1 4000=5; n 2000=3 2001=6; ");
    one_free(&o);
}

static void a_batch_that_fails_has_changed_nothing(void **state)
{
    struct one o;
    struct storage_appended r = {0};

    (void)state;
    one_new(&o, true, 5000);
    const struct storage_sample v[] = {{o.col, T0 + 3000, 1}, {o.col, T0 + 2000, 2}},
                                bad[] = {{o.col, T0 + 3000, 1}, {99, T0, 2}};
    assert_int_equal(storage_group_append_samples(o.g, bad, 2, &r, &o.err), NX_BADINPUT);
    simfs_fail_kind_from(o.sim, SIMFS_WRITE, 1);
    assert_int_equal(storage_group_append_samples(o.g, v, 2, &r, &o.err), NX_IO);
    simfs_heal(o.sim);
    assert_string_equal(all(o.s), "");
    assert_int_equal(held(&o), 0);
    assert_ok(storage_group_append_samples(o.g, v, 2, &r, &o.err), &o.err);
    assert_int_equal(r.appended, 2);
    assert_string_equal(all(o.s), "m 2000=2 3000=1; ");
    one_free(&o);
}

static void a_group_that_takes_rows_takes_no_batch(void **state)
{
    struct one o;

    (void)state;
    one_new(&o, false, 0);
    const struct storage_sample v = {o.col, T0, 1};
    assert_int_equal(storage_group_append_samples(o.g, &v, 1, NULL, &o.err), NX_BADINPUT);
    one_free(&o);
}

/* Rows, then loose, then rows again, and both at once: the newest sample is known everywhere. */
static void a_series_goes_from_rows_to_loose_and_back(void **state)
{
    struct one o;
    struct storage_group *rows;
    struct storage_appended r;
    uint32_t col;
    double v = 9;

    (void)state;
    one_new(&o, true, 0);
    storage_group_release(o.g, o.col);
    assert_ok(storage_group_open(o.s, &rows, &o.err), &o.err);
    col = column_of(rows, "m");
    assert_ok(storage_group_append(rows, T0 + 1000, &col, &v, 1, NULL, &o.err), &o.err);
    storage_group_release(rows, col);
    o.col = column_of(o.g, "m");
    assert_string_equal(put(&o, 1000, 8), DUPLICATE);
    assert_string_equal(put(&o, 999, 8), OLD);
    assert_string_equal(put(&o, 2000, 2), TAKEN);
    storage_group_release(o.g, o.col);
    col = column_of(rows, "m");
    assert_ok(storage_group_append(rows, T0 + 2000, &col, &v, 1, &r, &o.err), &o.err);
    assert_int_equal(r.duplicate, 1);
    assert_ok(storage_group_append(rows, T0 + 3000, &col, &v, 1, &r, &o.err), &o.err);
    assert_int_equal(r.appended, 1);
    o.col = column_of(o.g, "m"); /* both write it */
    assert_string_equal(put(&o, 2500, 5), OLD);
    assert_string_equal(put(&o, 4000, 4), TAKEN);
    assert_ok(storage_group_append(rows, T0 + 3500, &col, &v, 1, &r, &o.err), &o.err);
    assert_int_equal(r.out_of_order, 1);
    assert_string_equal(all(o.s), "m 1000=9 2000=2 3000=9 4000=4; ");
    storage_group_close(rows);
    one_reopen(&o);
    assert_string_equal(all(o.s), "m 1000=9 2000=2 3000=9 4000=4; ");
    one_free(&o);
}

static void a_series_is_moved_with_what_is_known_of_it(void **state)
{
    struct one o;
    struct storage_group *rows;
    struct storage_appended r;
    const double v[] = {1, 2};
    uint32_t cols[2];

    (void)state;
    one_new(&o, true, 0);
    storage_group_release(o.g, o.col);
    assert_ok(storage_group_open(o.s, &rows, &o.err), &o.err);
    cols[0] = column_of(rows, "m");
    cols[1] = column_of(rows, "n");
    assert_ok(storage_group_append(rows, T0 + 1000, cols, v, 2, NULL, &o.err), &o.err);
    assert_ok(storage_group_move(rows, cols[0], o.g, &o.col, &o.err), &o.err);
    assert_string_equal(put(&o, 1000, 9), DUPLICATE);
    assert_string_equal(put(&o, 999, 9), OLD);
    assert_string_equal(put(&o, 2000, 3), TAKEN);
    assert_int_equal(storage_group_append(rows, T0 + 3000, cols, v, 2, NULL, &o.err), NX_BADINPUT);
    assert_ok(storage_group_append(rows, T0 + 3000, cols + 1, v + 1, 1, &r, &o.err), &o.err);
    assert_int_equal(r.appended, 1);
    assert_string_equal(all(o.s), "m 1000=1 2000=3; n 1000=2 3000=2; ");
    cols[0] = column_of(rows, "m"); /* both, now: moving that column leads there, too */
    storage_group_release(o.g, o.col);
    assert_ok(storage_group_move(rows, cols[0], o.g, &o.col, &o.err), &o.err);
    assert_string_equal(put(&o, 4000, 4), TAKEN);
    storage_group_close(rows);
    one_reopen(&o);
    assert_string_equal(all(o.s), "m 1000=1 2000=3 4000=4; n 1000=2 3000=2; ");
    one_free(&o);
}

static void a_snapshot_has_late_samples_too(void **state)
{
    struct one o, copy;
    char name[STORAGE_SNAPSHOT_NAME_BYTES], dir[96];

    (void)state;
    one_new(&o, false, 100000);
    assert_string_equal(put(&o, 5000, 1), TAKEN);
    pass(&o, 16000);
    assert_string_equal(put(&o, 4000, 2), TAKEN);
    assert_string_equal(put(&o, -20000, 3), TAKEN); /* of a span that has no block */
    assert_string_equal(put(&o, 17000, 4), TAKEN);
    assert_string_equal(put(&o, 16500, 5), TAKEN);
    assert_ok(storage_snapshot(o.s, false, name, &o.err), &o.err);
    snprintf(dir, sizeof dir, "data/snapshots/%s", name);
    struct storage_opts opts = {
        .fs = simfs_fs(o.sim), .dir = dir, .min_block_ms = BLOCK_MS, .no_worker = true};
    assert_ok(storage_open(&copy.s, &opts, &o.err), &o.err);
    assert_string_equal(all(copy.s), "m -20000=3 4000=2 5000=1 16500=5 17000=4; z 16000=0; ");
    storage_close(copy.s);
    assert_string_equal(all(o.s), "m -20000=3 4000=2 5000=1 16500=5 17000=4; z 16000=0; ");
    one_free(&o);
}

static void the_log_takes_a_few_bytes_for_a_sample(void **state)
{
    enum { N = 1000, ROUNDS = 50 };
    struct one o;
    struct storage_sample v[N];
    struct storage_stats before, after;

    (void)state;
    one_new(&o, true, 0);
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        v[i] = (struct storage_sample){column_of(o.g, name), T0 + i, i};
    }
    assert_ok(storage_group_append_samples(o.g, v, N, NULL, &o.err), &o.err);
    storage_get_stats(o.s, &before);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) {
            v[i].t_ms += 15000;
            v[i].value += i % 3 ? i : 0;
        }
        assert_ok(storage_group_append_samples(o.g, v, N, NULL, &o.err), &o.err);
    }
    storage_get_stats(o.s, &after);
    assert_true(after.wal_bytes - before.wal_bytes < 2ull * N * ROUNDS);
    one_free(&o);
}

/* ---- blocks -------------------------------------------------------------------------------------- */

static void late_samples_of_an_open_span_are_in_its_block(void **state)
{
    struct one o;

    (void)state;
    one_new(&o, false, 100000);
    assert_string_equal(put(&o, 5000, 1), TAKEN);
    assert_string_equal(put(&o, 3000, 2), TAKEN);
    pass(&o, 16000);
    assert_int_equal(n_blocks(&o), 1);
    assert_int_equal(held(&o), 0);
    assert_string_equal(all(o.s), "m 3000=2 5000=1; z 16000=0; ");
    one_reopen(&o);
    assert_int_equal(held(&o), 0);
    assert_string_equal(all(o.s), "m 3000=2 5000=1; z 16000=0; ");
    one_free(&o);
}

/* Blocks that say of themselves that all they have came out of order. */
static size_t n_late(struct one *o)
{
    size_t n = 0;

    for (size_t i = 0; i < o->s->n_blocks; i++)
        n += block_meta(o->s->blocks[i])->late;
    return n;
}

/* Buckets of ten minutes, half an hour, an hour, ...; as Prometheus counts: whatever becomes of the sample. */
static void how_late_samples_were_is_counted(void **state)
{
    struct storage_stats st;
    struct one o;

    (void)state;
    one_new(&o, false, 0);
    assert_string_equal(put(&o, 4000000, 1), TAKEN);
    assert_string_equal(put(&o, 4000000, 2), DUPLICATE);
    assert_string_equal(put(&o, 3999000, 2), OLD);
    assert_string_equal(put(&o, 3400000, 3), BOUNDS); /* ten minutes: in the first bucket */
    storage_set_out_of_order_window(o.s, 1000000);
    assert_string_equal(put(&o, 3399999, 3), TAKEN);
    assert_string_equal(put(&o, 0, 4), TOO_OLD);
    storage_get_stats(o.s, &st);
    assert_int_equal(st.late[0], 2);
    assert_int_equal(st.late[1], 1);
    assert_int_equal(st.late[2], 0);
    assert_int_equal(st.late[3], 1);
    assert_int_equal(st.late_ms, 1000 + 600000 + 600001 + 4000000);
    one_close(&o);
    simfs_free(o.sim);
    one_new(&o, true, 100000);
    assert_string_equal(put(&o, 10000, 1), TAKEN);
    assert_string_equal(put(&o, 9000, 1), TAKEN);
    assert_string_equal(put(&o, 10000, 1), TAKEN);
    assert_string_equal(put(&o, 11000, 1), TAKEN);
    storage_get_stats(o.s, &st);
    assert_int_equal(st.late[0], 1);
    assert_int_equal(st.late_ms, 1000);
    one_free(&o);
}

static void late_samples_of_a_block_get_one_and_are_merged(void **state)
{
    (void)state;
    for (int keep = 0; keep < 2; keep++) { /* STO-118; without merging both blocks stay */
        struct one o = {.sim = simfs_new(1), .window_ms = 100000, .keep_overlapping = keep};
        one_open(&o);
        assert_string_equal(put(&o, 5000, 1), TAKEN);
        pass(&o, 16000);
        assert_int_equal(n_blocks(&o), 1);
        assert_string_equal(put(&o, 4000, 2), TAKEN);
        assert_string_equal(put(&o, 5000, 3), TAKEN); /* the block's was first */
        assert_int_equal(n_blocks(&o), 1);
        assert_int_equal(held(&o), 2);
        assert_string_equal(all(o.s), "m 4000=2 5000=1; z 16000=0; ");
        pass(&o, 26000);
        assert_int_equal(n_blocks(&o), keep ? 3 : 2);
        assert_int_equal(n_late(&o), keep ? 1 : 0); /* the hint goes when others are merged in */
        assert_int_equal(held(&o), 0);
        assert_string_equal(all(o.s), "m 4000=2 5000=1; z 16000=0 26000=0; ");
        one_reopen(&o); /* the log still has them, and says that they are in a block */
        assert_int_equal(held(&o), 0);
        assert_string_equal(all(o.s), "m 4000=2 5000=1; z 16000=0 26000=0; ");
        storage_tick(o.s, T0 + 26000);
        assert_int_equal(n_blocks(&o), keep ? 3 : 2);
        assert_int_equal(n_late(&o), keep ? 1 : 0);
        one_free(&o);
    }
}

/* What comes for an older span while that span's late samples are being written is not of this flush. */
static void a_span_takes_no_late_samples_of_others(void **state)
{
    struct one o;
    bool any;

    (void)state;
    one_new(&o, false, 100000);
    pass(&o, 26000);
    assert_string_equal(put(&o, 4000, 1), TAKEN);
    assert_string_equal(put(&o, 12000, 2), TAKEN);
    assert_string_equal(put(&o, 22000, 3), TAKEN);
    assert_ok(loose_take(o.s->head->loose, o.s->wal, T0 + 10000, T0 + 20000, &any, &o.err), &o.err);
    assert_true(any);
    loose_taken(o.s->head->loose, o.s->wal, true); /* as if its block were there */
    loose_drop(o.s->head->loose, true);
    assert_int_equal(held(&o), 1);
    assert_string_equal(all(o.s), "m 4000=1 22000=3; z 26000=0; ");
    one_reopen(&o); /* and so the log says */
    assert_int_equal(held(&o), 1);
    assert_string_equal(all(o.s), "m 4000=1 22000=3; z 26000=0; ");
    assert_ok(loose_take(o.s->head->loose, o.s->wal, T0, T0 + 10000, &any, &o.err), &o.err);
    loose_taken(o.s->head->loose, o.s->wal, false); /* that failed */
    pass(&o, 46000);
    assert_int_equal(held(&o), 0);
    assert_string_equal(all(o.s), "m 4000=1 22000=3; z 26000=0 46000=0; ");
    one_free(&o);
}

/* Older late samples were first, whichever of them were merged already. */
static void of_late_samples_in_several_blocks_the_first_stays(void **state)
{
    static const char want[] = "m 4000=1 4001=1 4002=2 4003=3 4004=4; ";
    struct one o = {.sim = simfs_new(1), .window_ms = 100000, .keep_overlapping = true};

    (void)state;
    one_open(&o);
    pass(&o, 16000);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(put(&o, 4000, i + 1), TAKEN);
        assert_string_equal(put(&o, 4001 + i, i + 1), TAKEN);
        pass(&o, 26000 + i * 10000);
        assert_int_equal(held(&o), 0);
    }
    assert_int_equal(n_blocks(&o), 8);
    assert_true(strncmp(all(o.s), want, strlen(want)) == 0);
    o.keep_overlapping = false;
    one_reopen(&o);
    assert_true(strncmp(all(o.s), want, strlen(want)) == 0);
    storage_tick(o.s, T0 + 56000);
    assert_true(n_blocks(&o) <= 3);
    assert_true(strncmp(all(o.s), want, strlen(want)) == 0);
    one_free(&o);
}

/* A reader that was there before goes on seeing what it saw while blocks take it over. */
static void a_reader_keeps_its_late_samples_over_a_flush(void **state)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;
    struct one o;

    (void)state;
    one_new(&o, false, 100000);
    assert_string_equal(put(&o, 5000, 1), TAKEN);
    pass(&o, 16000);
    assert_string_equal(put(&o, 4000, 2), TAKEN);
    assert_ok(storage_querier(o.s, INT64_MIN, INT64_MAX, &q, &o.err), &o.err);
    assert_ok(q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, &o.err), &o.err);
    assert_string_equal(put(&o, 3000, 3), TAKEN);
    pass(&o, 26000);
    assert_int_equal(held(&o), 2);
    assert_ok(q->ops->read(q, &list.v[0], INT64_MIN, INT64_MAX, &c, &o.err), &o.err);
    assert_int_equal(c.n, 2);
    assert_true(c.t[0] == T0 + 4000 && c.t[1] == T0 + 5000);
    column_done(&c);
    querier_close(q);
    arena_free(a);
    storage_tick(o.s, T0 + 27000);
    assert_int_equal(held(&o), 0);
    assert_string_equal(all(o.s), "m 3000=3 4000=2 5000=1; z 16000=0 26000=0; ");
    one_free(&o);
}

/* ---- faults -------------------------------------------------------------------------------------- */

struct model {
    uint8_t tried[SERIES][ROWS * 2], acked[SERIES][ROWS * 2], synced[SERIES][ROWS * 2];
};

struct run {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g[2]; /* of rows, and loose */
    uint32_t cols[SERIES];
    bool has[SERIES];
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
                             .out_of_order_window_ms = 1000000,
                             .wal_segment_bytes = 1500,
                             .no_worker = true};

    return storage_open(&r->s, &o, err) == NX_OK;
}

static bool open_groups(struct run *r)
{
    bool all = true;

    if (!r->g[0] && storage_group_open(r->s, &r->g[0], NULL))
        return false;
    if (!r->g[1] && storage_group_open_loose(r->s, &r->g[1], NULL))
        return false;
    for (int i = 0; i < SERIES; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        struct label v = {STR(LABEL_NAME), STR(name)};
        struct labels ls = {&v, 1};
        if (!r->has[i])
            r->has[i] = !storage_group_column(r->g[i % 2], &ls, &r->cols[i], NULL, NULL);
        all = all && r->has[i];
    }
    return all;
}

static void close_groups(struct run *r)
{
    for (int i = 0; i < 2; i++) {
        storage_group_close(r->g[i]);
        r->g[i] = NULL;
    }
    memset(r->has, 0, sizeof r->has);
}

static bool is_put_off(int series, int row)
{
    return (row + series) % 4 == 0;
}

/* The samples of a row that are on time, or (late) those that were put off. */
static bool append_row(struct run *r, int group, int row, bool late)
{
    uint32_t cols[SERIES];
    double v[SERIES];
    struct storage_sample x[SERIES];
    int which[SERIES];
    size_t n = 0;
    nx_status st;

    for (int i = group; i < SERIES; i += 2) {
        if (!r->has[i] || is_put_off(i, row) != late)
            continue;
        cols[n] = r->cols[i];
        v[n] = value_of(i, row);
        x[n] = (struct storage_sample){cols[n], T0 + row * STEP_MS, v[n]};
        which[n++] = i;
        r->m.tried[i][row] = 1;
    }
    if (n == 0)
        return true;
    st = group ? storage_group_append_samples(r->g[1], x, n, NULL, NULL)
               : storage_group_append(r->g[0], T0 + row * STEP_MS, cols, v, n, NULL, NULL);
    if (st)
        return false;
    for (size_t i = 0; i < n; i++)
        r->m.acked[which[i]][row] = 1;
    return true;
}

static void work(struct run *r, int from, int to, bool stop)
{
    struct storage_stats before, after;

    for (int row = from; row < to && !r->stopped; row++) {
        bool ok = true;
        for (int g = 0; g < 2 && (ok || !stop); g++) {
            ok = append_row(r, g, row, false) && ok;
            if (row >= LATE)
                ok = append_row(r, g, row - LATE, true) && ok;
        }
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

/* False: it could not be read. What is read must be right in any case. */
static bool read_all(struct run *r, uint8_t got[SERIES][ROWS * 2], const char *what, uint64_t step)
{
    struct matcher m = {.type = MATCH_NEQ, .name = STR(LABEL_NAME), .value = STR("")};
    struct arena *a = arena_new(0);
    struct series_list list = {0};
    struct column c = {0};
    struct querier *q = NULL;
    bool ok = a && storage_querier(r->s, INT64_MIN, INT64_MAX, &q, NULL) == NX_OK &&
              q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, NULL) == NX_OK;

    for (size_t i = 0; i < list.n && ok; i++) {
        int series = labels_get_str(&list.v[i].labels, LABEL_NAME).ptr[1] - '0';
        ok = q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &c, NULL) == NX_OK;
        for (size_t j = 0; j < c.n; j++) {
            int row = (int)((c.t[j] - T0) / STEP_MS);
            if (row < 0 || row >= ROWS * 2 || !r->m.tried[series][row] ||
                c.v[j] != value_of(series, row) || (j && c.t[j] <= c.t[j - 1]))
                fail_msg("%s at step %" PRIu64 ": series %d has %g at row %d, which nobody wrote",
                         what, step, series, c.v[j], row);
            got[series][row] = 1;
        }
    }
    column_done(&c);
    querier_close(q);
    arena_free(a);
    return ok;
}

static void check(struct run *r, const uint8_t must[SERIES][ROWS * 2], const char *what,
                  uint64_t step)
{
    uint8_t got[SERIES][ROWS * 2] = {0};

    assert_true(read_all(r, got, what, step));
    for (int i = 0; i < SERIES; i++) {
        for (int row = 0; row < ROWS * 2; row++) {
            if (must[i][row] && !got[i][row])
                fail_msg("%s at step %" PRIu64 ": series %d lost row %d", what, step, i, row);
        }
    }
}

/* The store goes on, takes late samples too, and writes blocks. */
static void go_on(struct run *r, const char *what, uint64_t step)
{
    struct model had = r->m;
    struct storage_stats st;

    assert_true(open_groups(r));
    r->stopped = false;
    work(r, ROWS, ROWS * 2, true);
    if (r->stopped)
        fail_msg("%s at step %" PRIu64 ": the store takes nothing any more", what, step);
    for (int i = 0; i < SERIES; i++)
        memcpy(had.synced[i] + ROWS - LATE, r->m.acked[i] + ROWS - LATE, ROWS + LATE);
    for (int i = 0; i < SERIES; i++) { /* what was on time then may have been lost */
        for (int row = ROWS - LATE; row < ROWS; row++)
            had.synced[i][row] = had.synced[i][row] && is_put_off(i, row);
    }
    storage_get_stats(r->s, &st);
    assert_true(st.blocks > 0);
    assert_true(st.out_of_order_appended > 0);
    check(r, had.synced, what, step);
    close_groups(r);
}

/* False when the workload ended before the fault came. */
static bool one_fault(void *ctx, enum fault fault, uint64_t seed, uint64_t step)
{
    struct run r = {.sim = simfs_new(seed * 7919 + step)};
    struct nx_err err = {0};
    const char *what = fault_name(fault);
    bool came = true;

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
    }
    fault_end(r.sim, fault);
    if (!open_store(&r, &err))
        fail_msg("%s at step %" PRIu64 ": the store does not open: %s", what, step, err.text);
    if (fault != FAULT_POWER)
        memcpy(r.m.synced, r.m.acked, sizeof r.m.synced);
    check(&r, r.m.synced, what, step);
    go_on(&r, what, step);
    storage_close(r.s);
    simfs_free(r.sim);
    return came;
}

static void every_step(enum fault fault)
{
    uint64_t end = fault_sweep(one_fault, NULL, fault, 40, 29);

    assert_true(end > 200);
    fault_seeds(one_fault, NULL, fault, 2, end, 101);
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

static void a_failed_sync_is_made_good_by_the_next(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 120; n += 5 * TEST_STRIDE) {
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

static void a_full_disk_refuses_and_takes_again_when_there_is_space(void **state)
{
    (void)state;
    for (uint64_t space = 0; space < 40000; space += 2400 * TEST_STRIDE) {
        struct run r = {.sim = simfs_new(space)};
        struct nx_err err = {0};
        assert_true(open_store(&r, &err));
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

static bool one_allocation(unsigned n)
{
    struct run r = {.sim = simfs_new(1)};
    uint8_t got[SERIES][ROWS * 2];
    bool failed;

    oom_fail_at(n);
    if (!open_store(&r, NULL))
        r.s = NULL;
    for (int row = 0; row < ROWS && r.s; row++) {
        if (open_groups(&r) || (r.g[0] && r.g[1]))
            work(&r, row, row + 1, false);
        if (row % 20 == 19)
            (void)read_all(&r, got, "no memory", n);
    }
    failed = oom_off();
    if (!r.s)
        assert_true(open_store(&r, NULL));
    check(&r, r.m.acked, "no memory", n);
    close_groups(&r);
    memcpy(r.m.synced, r.m.acked, sizeof r.m.synced);
    go_on(&r, "no memory", n);
    storage_close(r.s);
    assert_true(open_store(&r, NULL));
    check(&r, r.m.acked, "no memory, restarted", n);
    storage_close(r.s);
    simfs_free(r.sim);
    return failed;
}

static void nothing_accepted_is_lost_when_an_allocation_fails(void **state)
{
    unsigned n = 1;

    (void)state;
    while (one_allocation(n))
        n += (n < 100 ? 1 : 151) * TEST_STRIDE;
    assert_true(n > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_window_what_is_late_is_refused),
        cmocka_unit_test(within_the_window_what_is_late_is_taken),
        cmocka_unit_test(the_window_ends_at_the_newest_of_the_head),
        cmocka_unit_test(the_window_may_change_and_what_is_stored_stays),
        cmocka_unit_test(a_row_is_late_for_some_of_its_series_only),
        cmocka_unit_test(a_batch_is_judged_in_the_order_given),
        cmocka_unit_test(a_batch_that_fails_has_changed_nothing),
        cmocka_unit_test(a_group_that_takes_rows_takes_no_batch),
        cmocka_unit_test(a_series_goes_from_rows_to_loose_and_back),
        cmocka_unit_test(a_series_is_moved_with_what_is_known_of_it),
        cmocka_unit_test(a_snapshot_has_late_samples_too),
        cmocka_unit_test(the_log_takes_a_few_bytes_for_a_sample),
        cmocka_unit_test(late_samples_of_an_open_span_are_in_its_block),
        cmocka_unit_test(how_late_samples_were_is_counted),
        cmocka_unit_test(late_samples_of_a_block_get_one_and_are_merged),
        cmocka_unit_test(a_span_takes_no_late_samples_of_others),
        cmocka_unit_test(of_late_samples_in_several_blocks_the_first_stays),
        cmocka_unit_test(a_reader_keeps_its_late_samples_over_a_flush),
        cmocka_unit_test(what_was_synced_survives_a_power_cut_at_every_step),
        cmocka_unit_test(what_was_acknowledged_survives_a_kill_at_every_step),
        cmocka_unit_test(an_error_at_any_step_loses_nothing_acknowledged),
        cmocka_unit_test(a_failed_sync_is_made_good_by_the_next),
        cmocka_unit_test(a_full_disk_refuses_and_takes_again_when_there_is_space),
        cmocka_unit_test(nothing_accepted_is_lost_when_an_allocation_fails),
    };

    quiet_log();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
