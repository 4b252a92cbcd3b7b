/* test_import.c - whole folders of Prometheus brought over, through power cuts and full disks.
 *
 * The folder: two blocks that overlap in [40, 60) s, the second of samples out of order; a head behind 60 s, part of
 * it in a checkpoint, part in the head's chunks; deletions in a block and in the log. What is to come out is in an
 * array of each series' values by the second. */
#include "tests/support/test.h"

#include "src/base/num.h"
#include "src/promdata/chunk.h"
#include "src/promdata/promdata.h"
#include "tests/support/oom.h"
#include "tests/support/promfiles.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define T0      1700000000000ll
#define SECONDS 100
#define SERIES  4
#define FIRST   "01JGFJJZ00ABCDEFGHJKMNPQRS"
#define SECOND  "01JGFJJZ01ABCDEFGHJKMNPQRS"
#define NOTHING 0x7ff4000000000a5eull

#define HALF_MADE "01JGFJJZ02ABCDEFGHJKMNPQRS.tmp-for-creation" /* when it was killed */

static struct world {
    struct simfs *sim;
    struct fs *fs;
    uint64_t want[SERIES][SECONDS];
    struct label labels[SERIES][2];
    struct labels ls[SERIES];
    char text[SERIES][16];
    struct promdata_result res;
    struct nx_err err;
    size_t damaged;
} w;

static int64_t at(int second)
{
    return T0 + second * 1000;
}

static double value(int series, int second)
{
    return series * 1000 + second + 0.25;
}

/* A chunk of the seconds [from, to), each `step`-th. */
static void chunk(struct buf *b, int series, int from, int to, int step, double off)
{
    int64_t t[SECONDS];
    double v[SECONDS];
    size_t n = 0;

    for (int s = from; s < to; s += step) {
        t[n] = at(s);
        v[n++] = value(series, s) + off;
    }
    buf_init(b, 0);
    prom_xor(b, t, v, n);
}

static void want(int series, int from, int to, int step)
{
    for (int s = from; s < to; s += step)
        w.want[series][s] = num_bits(value(series, s));
}

static void unwant(int series, int from, int to)
{
    for (int s = from; s < to; s++)
        w.want[series][s] = NOTHING;
}

static void put_block(const char *name, int from, int to, int step, double off, const char *hint)
{
    struct prom_chunk_meta metas[SERIES];
    struct prom_series series[SERIES];
    struct buf file, index, meta, stones;
    char path[128];
    const int64_t spans[][2] = {{at(3), at(5)}};

    buf_init(&file, 0);
    buf_init(&index, 0);
    buf_init(&meta, 0);
    buf_init(&stones, 0);
    for (int i = 0; i < SERIES; i++) {
        struct buf b;
        chunk(&b, i, from, to, step, off);
        metas[i] = (struct prom_chunk_meta){at(from), at(from + (to - 1 - from) / step * step),
                                            prom_chunk(&file, PD_XOR, &b)};
        series[i] = (struct prom_series){.labels = w.ls[i], .chunks = &metas[i], .n = 1};
        buf_done(&b);
    }
    prom_index(&index, 2, series, SERIES);
    prom_meta(&meta, name, at(from), at(to), hint);
    prom_tombstones(&stones, &series[1].id, spans, hint ? 0 : 1);
    snprintf(path, sizeof path, "data/%s/chunks/000001", name);
    prom_put(w.fs, path, &file);
    snprintf(path, sizeof path, "data/%s/index", name);
    prom_put(w.fs, path, &index);
    snprintf(path, sizeof path, "data/%s/tombstones", name);
    prom_put(w.fs, path, &stones);
    snprintf(path, sizeof path, "data/%s/meta.json", name);
    prom_put(w.fs, path, &meta);
    buf_done(&file);
    buf_done(&index);
    buf_done(&meta);
    buf_done(&stones);
}

/* One record of samples of all series at a second; `ref` is that of series 0. */
static void scrape(struct buf *segment, uint64_t ref, int second, double off)
{
    uint64_t refs[SERIES];
    int64_t t[SERIES];
    double v[SERIES];
    struct buf b;

    for (int i = 0; i < SERIES; i++) {
        refs[i] = ref + (uint64_t)i;
        t[i] = at(second);
        v[i] = value(i, second) + off;
    }
    buf_init(&b, 0);
    prom_samples_record(&b, refs, t, v, SERIES);
    prom_record(segment, &b, second % 2 ? 's' : 0);
    buf_done(&b);
}

static void define(struct buf *segment, uint64_t ref, int first)
{
    struct buf b;

    buf_init(&b, 0);
    for (int i = first; i < SERIES; i++)
        prom_series_record(&b, ref + (uint64_t)i, &w.ls[i]);
    prom_record(segment, &b, 'z');
    buf_done(&b);
}

static void put_head(void)
{
    struct buf s, b;

    buf_init(&s, 0);
    buf_init(&b, 0);
    define(&s, 11, 0);
    for (int sec = 55; sec < 65; sec++) /* before 60 s they are in the block */
        scrape(&s, 11, sec, 0);
    prom_put(w.fs, "data/wal/checkpoint.00000004/00000000", &s);
    prom_put(w.fs, "data/wal/checkpoint.00000007.tmp/00000000", &s);
    prom_put(w.fs, "data/wal/00000004", &b); /* covered by the checkpoint */
    buf_clear(&s);
    for (int sec = 65; sec < 80; sec++)
        scrape(&s, 11, sec, 0);
    scrape(&s, 11, 70, 5); /* refused as late */
    prom_stone_record(&b, 13, at(62), at(68));
    prom_record(&s, &b, 0);
    prom_put(w.fs, "data/wal/00000005", &s);
    buf_clear(&s);
    define(&s, 31, 1); /* new numbers for series 1 to 3 */
    for (int sec = 80; sec < 90; sec++)
        scrape(&s, 31, sec, 0); /* 31 itself is nobody's */
    s.len -= 3;                 /* the last one was never written whole */
    prom_put(w.fs, "data/wal/00000006", &s);
    /* Seconds 60 to 69 of series 0 are in the head's chunks, too; and some of 3 out of order. */
    buf_clear(&s);
    buf_done(&b);
    chunk(&b, 0, 60, 70, 1, 0);
    prom_head_chunk(&s, 11, at(60), at(69), PD_XOR, &b);
    buf_done(&b);
    chunk(&b, 3, 90, 96, 2, 0);
    prom_head_chunk(&s, 14, at(90), at(94), PD_XOR | 128, &b);
    prom_put(w.fs, "data/chunks_head/000001", &s);
    buf_done(&b);
    buf_clear(&s);
    buf_init(&b, 0);
    {
        const uint64_t refs[] = {14, 14, 14};
        const int64_t t[] = {at(94), at(97), at(1)};
        const double v[] = {value(3, 94), value(3, 97),
                            value(3, 1) + 7}; /* the last: not as the block has it */
        prom_samples_record(&b, refs, t, v, 3);
    }
    prom_record(&s, &b, 's');
    prom_put(w.fs, "data/wbl/00000000", &s);
    buf_done(&s);
    buf_done(&b);
}

static void build(void)
{
    memset(&w, 0, sizeof w);
    w.sim = simfs_new(7);
    w.fs = simfs_fs(w.sim);
    for (int i = 0; i < SERIES; i++) {
        snprintf(w.text[i], sizeof w.text[i], "s%d", i);
        w.labels[i][0] = (struct label){STR(LABEL_NAME), STR("m")};
        w.labels[i][1] = (struct label){STR("i"), STR(w.text[i])};
        w.ls[i] = (struct labels){w.labels[i], 2};
        unwant(i, 0, SECONDS);
    }
    put_block(FIRST, 0, 60, 1, 0, NULL);
    put_block(SECOND, 40, 61, 2, 3,
              "from-out-of-order"); /* other values at the same times; 60 s is new */
    put_head();
    for (int i = 0; i < SERIES; i++) {
        want(i, 0, 60, 1);
        want(i, 60, 80, 1);
        w.want[i][60] = num_bits(value(i, 60));
        if (i)
            want(i, 80, 89, 1);
    }
    unwant(1, 3, 6);
    unwant(2, 62, 69);
    want(3, 90, 96, 2);
    want(3, 97, 98, 1);
}

static void on_damage(void *ctx, const char *path, uint64_t offset, const char *what)
{
    (void)ctx;
    (void)path;
    (void)offset;
    (void)what;
    w.damaged++;
}

static nx_status import(bool dry)
{
    const struct promdata_opts o = {
        .fs = w.fs, .dir = "data", .out = "out", .dry_run = dry, .damage = on_damage};

    return promdata_import(&o, &w.res, &w.err);
}

/* At 60 s the block of late samples and the log disagree: either may be shown. */
static bool is_right(int series, int second, uint64_t bits)
{
    return bits == w.want[series][second] ||
           (second == 60 && bits == num_bits(value(series, 60) + 3)) ||
           (series == 3 && second == 1 && bits == num_bits(value(3, 1) + 7));
}

/* Everything that is to be there is, and nothing else. */
static void check(const char *dir)
{
    const struct storage_opts so = {
        .fs = w.fs, .dir = dir, .no_worker = true, .min_block_ms = 7200000};
    struct storage *s = NULL;
    struct querier *q = NULL;
    struct series_list list;
    struct arena *a = arena_new(0);

    assert_ok(storage_open(&s, &so, &w.err), &w.err);
    assert_ok(storage_querier(s, INT64_MIN, INT64_MAX, &q, &w.err), &w.err);
    assert_ok(q->ops->select(q, NULL, 0, INT64_MIN, INT64_MAX, a, &list, &w.err), &w.err);
    assert_int_equal(list.n, SERIES);
    for (int i = 0; i < SERIES; i++) {
        uint64_t got[SECONDS];
        struct column c = {0};
        assert_true(labels_eq(&list.v[i].labels, &w.ls[i]));
        for (int k = 0; k < SECONDS; k++)
            got[k] = NOTHING;
        assert_ok(q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &c, &w.err), &w.err);
        for (size_t k = 0; k < c.n; k++) {
            assert_true((c.t[k] - T0) % 1000 == 0 && c.t[k] >= T0 && c.t[k] < at(SECONDS));
            got[(c.t[k] - T0) / 1000] = num_bits(c.v[k]);
        }
        column_done(&c);
        for (int k = 0; k < SECONDS; k++)
            if (!is_right(i, k, got[k]))
                fail_msg("series %d at %d s: %" PRIx64 ", wanted %" PRIx64, i, k, got[k],
                         w.want[i][k]);
    }
    querier_close(q);
    storage_close(s);
    arena_free(a);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void blocks_and_head_come_over(void **state)
{
    (void)state;
    build();
    assert_ok(import(true), &w.err);
    assert_int_equal(w.res.blocks, 2);
    assert_ok(import(false), &w.err);
    assert_int_equal(w.damaged, 0);
    assert_int_equal(w.res.blocks, 2);
    assert_int_equal(w.res.present, 0);
    assert_int_equal(w.res.conflicting, 10 * SERIES); /* 40, 42 ... 58 s */
    assert_int_equal(w.res.covered, 5 * SERIES);
    assert_int_equal(w.res.late, SERIES);
    assert_int_equal(w.res.deleted, 7);
    assert_int_equal(w.res.unknown_samples, 9); /* of number 31 */
    assert_int_equal(w.res.torn, 1);
    assert_false(w.res.changed);
    check("out");
    assert_ok(import(false), &w.err);
    assert_int_equal(w.res.written, 0);
    assert_true(w.res.present >= 2);
    check("out");
    simfs_free(w.sim);
}

static void an_import_cut_anywhere_goes_on_when_run_again(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n += 1 + TEST_STRIDE / 2) {
        nx_status st;
        bool cut;
        build();
        if (n % 2)
            simfs_cut_power_at(w.sim, n);
        else
            simfs_kill_at(w.sim, n);
        st = import(false);
        cut = simfs_power_was_cut(w.sim);
        assert_true(cut || st == NX_OK);
        if (cut && n % 2 == 0)
            simfs_restart(w.sim);
        else /* without a cut: now, for what is done must stay */
            simfs_restore_power(w.sim);
        if (!cut)
            check("out");
        w.damaged = 0;
        assert_ok(import(false), &w.err);
        assert_int_equal(w.damaged, 0);
        check("out");
        simfs_free(w.sim);
        if (!cut)
            return;
    }
}

static void a_full_disk_fails_the_import_and_space_lets_it_go_on(void **state)
{
    (void)state;
    for (uint64_t space = 0;; space += 200) {
        nx_status st;
        build();
        simfs_set_space(w.sim, simfs_used(w.sim) + space);
        st = import(false);
        if (st) {
            assert_int_equal(st, NX_NOSPACE);
            simfs_set_space(w.sim, UINT64_MAX);
            assert_ok(import(false), &w.err);
        }
        check("out");
        simfs_free(w.sim);
        if (!st)
            return;
    }
}

/* What can't be read is told as damage, or fails the import, and a second run has everything. Nothing is lost in
 * silence. */
static void an_error_at_any_step_is_told_or_fails(void **state)
{
    uint64_t steps;

    (void)state;
    build();
    steps = simfs_ops(w.sim);
    assert_ok(import(false), &w.err);
    steps = simfs_ops(w.sim) - steps;
    simfs_free(w.sim);
    for (uint64_t n = 1; n <= steps; n += TEST_STRIDE) {
        nx_status st;
        build();
        simfs_fail_at(w.sim, n);
        st = import(false);
        simfs_heal(w.sim);
        if (st)
            assert_ok(import(false), &w.err);
        if (st || (w.damaged == 0 && !w.res.changed))
            check("out");
        simfs_free(w.sim);
    }
}

static void in_place_nothing_is_lost_wherever_it_stops(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n += 1 + TEST_STRIDE / 3) {
        struct promdata_opts o = {.dir = "data", .out = "data/" PROMDATA_FOLDER};
        struct fs_stat stat;
        bool cut;

        build();
        o.fs = w.fs;
        assert_ok(fs_mkdirs(w.fs, "data/" HALF_MADE, &w.err), &w.err);
        assert_ok(promdata_import(&o, &w.res, &w.err), &w.err);
        simfs_cut_power_at(w.sim, n);
        cut = promdata_swap(w.fs, "data", &w.err) != NX_OK;
        assert_true(!cut || simfs_power_was_cut(w.sim));
        simfs_restore_power(w.sim);
        if (cut) {
            const struct storage_opts so = {.fs = w.fs, .dir = "data", .no_worker = true};
            struct storage *s = NULL;
            /* A server that starts now refuses the folder, unless all is in its place. */
            if (storage_open(&s, &so, &w.err) == NX_OK) {
                storage_close(s);
                check("data");
            }
            if (promdata_is_moving(w.fs, "data")) {
                struct promdata_opts again = o;
                again.out = "out";
                assert_status(promdata_import(&again, &w.res, &w.err), NX_BADINPUT);
                assert_ok(promdata_swap(w.fs, "data", &w.err), &w.err);
            } else if (w.fs->stat(w.fs, "data/prometheus/wal", &stat, NULL)) {
                assert_ok(promdata_import(&o, &w.res, &w.err), &w.err);
                assert_ok(promdata_swap(w.fs, "data", &w.err), &w.err);
            }
        }
        assert_false(promdata_is_moving(w.fs, "data"));
        assert_ok(w.fs->stat(w.fs, "data/prometheus/" FIRST "/index", &stat, &w.err), &w.err);
        assert_ok(w.fs->stat(w.fs, "data/prometheus/wal/00000005", &stat, &w.err), &w.err);
        assert_ok(w.fs->stat(w.fs, "data/prometheus/chunks_head", &stat, &w.err), &w.err);
        assert_ok(w.fs->stat(w.fs, "data/prometheus/" HALF_MADE, &stat, &w.err), &w.err);
        check("data");
        simfs_free(w.sim);
        if (!cut)
            return;
    }
}

/* Memory that ends at any allocation fails the import, or costs nothing, and is never taken for damage. */
static void out_of_memory_at_any_allocation_loses_nothing(void **state)
{
    (void)state;
    for (unsigned n = 1;; n += TEST_STRIDE) {
        bool failed;
        nx_status st;
        build();
        oom_fail_at(n);
        st = import(false);
        failed = oom_off();
        if (st && (!failed || st != NX_NOMEM))
            fail_msg("allocation %u: %s: %s", n, nx_status_text(st), w.err.text);
        if (w.damaged)
            fail_msg("allocation %u was told as damage", n);
        if (st)
            assert_ok(import(false), &w.err);
        if (!w.res.changed)
            check("out");
        simfs_free(w.sim);
        if (!failed)
            return;
    }
}

/* 1,000 hours in one block of Prometheus become blocks of 486, as Prometheus would have cut them. */
static void a_very_long_block_is_cut_and_each_sample_comes_once(void **state)
{
    enum { CHUNKS = 10, PER = 25, STEP = 4 * 3600 * 1000 };
    struct label l[] = {{STR(LABEL_NAME), STR("long")}};
    struct prom_chunk_meta metas[CHUNKS];
    struct prom_series series = {.labels = {l, 1}, .chunks = metas, .n = CHUNKS};
    struct buf file, b;
    const struct storage_opts so = {.dir = "out", .no_worker = true};
    struct storage_opts opts = so;
    struct promdata_opts o = {.dir = "data", .out = "out"};
    struct storage *s = NULL;
    struct querier *q = NULL;
    struct series_list list;
    struct column c = {0};
    struct arena *a = arena_new(0);

    (void)state;
    memset(&w, 0, sizeof w);
    w.sim = simfs_new(3);
    opts.fs = o.fs = w.fs = simfs_fs(w.sim);
    buf_init(&file, 0);
    for (int i = 0; i < CHUNKS; i++) {
        int64_t t[PER];
        double v[PER];
        for (int k = 0; k < PER; k++) {
            t[k] = T0 + (int64_t)(i * PER + k) * STEP;
            v[k] = i * PER + k;
        }
        buf_init(&b, 0);
        prom_xor(&b, t, v, PER);
        metas[i] = (struct prom_chunk_meta){t[0], t[PER - 1], prom_chunk(&file, PD_XOR, &b)};
        buf_done(&b);
    }
    prom_put(w.fs, "data/" FIRST "/chunks/000001", &file);
    buf_clear(&file);
    prom_index(&file, 2, &series, 1);
    prom_put(w.fs, "data/" FIRST "/index", &file);
    buf_clear(&file);
    prom_meta(&file, FIRST, T0, T0 + (int64_t)CHUNKS * PER * STEP, NULL);
    prom_put(w.fs, "data/" FIRST "/meta.json", &file);
    buf_done(&file);
    assert_ok(promdata_import(&o, &w.res, &w.err), &w.err);
    assert_in_range(w.res.written, 3, 4);
    assert_int_equal(w.res.samples, CHUNKS * PER);
    assert_ok(storage_open(&s, &opts, &w.err), &w.err);
    assert_ok(storage_querier(s, INT64_MIN, INT64_MAX, &q, &w.err), &w.err);
    assert_ok(q->ops->select(q, NULL, 0, INT64_MIN, INT64_MAX, a, &list, &w.err), &w.err);
    assert_int_equal(list.n, 1);
    assert_ok(q->ops->read(q, &list.v[0], INT64_MIN, INT64_MAX, &c, &w.err), &w.err);
    assert_int_equal(c.n, CHUNKS * PER);
    for (size_t k = 0; k < c.n; k++)
        assert_true(c.t[k] == T0 + (int64_t)k * STEP && c.v[k] == (double)k);
    column_done(&c);
    querier_close(q);
    storage_close(s);
    arena_free(a);
    simfs_free(w.sim);
}

static void a_held_lock_is_respected(void **state)
{
    struct fs_file *lock = NULL;

    (void)state;
    build();
    assert_ok(w.fs->lock(w.fs, "data/lock", &lock, &w.err), &w.err);
    assert_status(import(false), NX_UNAVAILABLE);
    assert_non_null(strstr(w.err.text, "a Prometheus is running on data"));
    w.fs->unlock(w.fs, lock);
    assert_ok(import(false), &w.err);
    assert_ok(w.fs->lock(w.fs, "out/lock", &lock, &w.err), &w.err);
    assert_ok(import(false), &w.err);
    assert_true(w.res.served);
    w.fs->unlock(w.fs, lock);
    simfs_free(w.sim);
}

static void over_the_folder_itself_nothing_is_written(void **state)
{
    struct promdata_opts o = {.dir = "data", .out = "data"};

    (void)state;
    build();
    o.fs = w.fs;
    assert_status(promdata_import(&o, &w.res, &w.err), NX_BADINPUT);
    o.dir = "out";
    assert_status(promdata_import(&o, &w.res, &w.err), NX_NOTFOUND);
    simfs_free(w.sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_and_head_come_over),
        cmocka_unit_test(an_import_cut_anywhere_goes_on_when_run_again),
        cmocka_unit_test(a_full_disk_fails_the_import_and_space_lets_it_go_on),
        cmocka_unit_test(an_error_at_any_step_is_told_or_fails),
        cmocka_unit_test(in_place_nothing_is_lost_wherever_it_stops),
        cmocka_unit_test(out_of_memory_at_any_allocation_loses_nothing),
        cmocka_unit_test(a_very_long_block_is_cut_and_each_sample_comes_once),
        cmocka_unit_test(a_held_lock_is_respected),
        cmocka_unit_test(over_the_folder_itself_nothing_is_written),
    };

    quiet_log();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
