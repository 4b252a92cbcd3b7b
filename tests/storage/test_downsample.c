/* test_downsample.c - blocks of points: what they hold, and a store that makes them over disks that fail.
 *
 * What PromQL makes of points is tested in tests/promql/test_downsample.c. */
#include "tests/support/test.h"

#include <math.h>

#include "src/base/clock.h"
#include "storage/coarse.h"
#include "storage/coarse_pick.h"
#include "storage/compact.h"
#include "tests/storage/series.h"
#include "tests/support/oom.h"
#include "tests/support/faults.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define R        1000 /* a resolution, ms */
#define BLOCK_MS 10000
#define STEP_MS  250
#define ROWS     (BLOCK_MS / STEP_MS)
#define T0       (1700000000000LL / (27 * BLOCK_MS) * (27 * BLOCK_MS))
#define BLOCKS   6
#define SERIES   3

static struct nx_err err;

static double stale(void)
{
    return num_from_bits(NUM_STALE_BITS);
}

/* ---- points of samples -------------------------------------------------------------------------- */

struct sample {
    int64_t t;
    double v;
};

static void make(struct coarse_points *to, struct coarse_maker *m, int64_t resolution_ms,
                 const struct sample *v, size_t n)
{
    *m = (struct coarse_maker){.resolution_ms = resolution_ms, .to = to};
    for (size_t i = 0; i < n; i++) {
        const struct coarse_point p = coarse_of_sample(v[i].t, v[i].v);
        assert_ok(coarse_add(m, &p, &err), &err);
    }
    assert_ok(coarse_end(m, &err), &err);
}

static void a_window_ends_with_its_multiple_and_tells_all_of_it(void **state)
{
    const struct sample in[] = {{100, 5}, {900, 2}, {1000, 4}, {1001, 7}, {2500, 1}, {3000, 3}};
    struct coarse_points p = {0};
    struct coarse_maker m;

    (void)state;
    make(&p, &m, R, in, NX_COUNT(in));
    assert_int_equal(p.n, 3);
    assert_int_equal(p.v[0].t, 1000);
    assert_true(p.v[0].last == 4 && p.v[0].min == 2 && p.v[0].max == 5 && p.v[0].sum == 11 &&
                p.v[0].count == 3);
    assert_true(p.v[0].has_first && p.v[0].first == 5 && p.v[0].t_first == 100);
    assert_true(p.v[0].fallen == 5);
    assert_int_equal(p.v[1].t, 1001);
    assert_true(!p.v[1].has_first && p.v[1].fallen == 0 && p.v[1].count == 1);
    assert_int_equal(p.v[2].t, 3000);
    assert_true(!p.v[2].has_first && p.v[2].fallen == 7 && p.v[2].sum == 4);
    assert_true(coarse_is_counter(&m, LIT("x_total")) && !coarse_is_counter(&m, LIT("x")));
    coarse_points_done(&p);
}

static void a_gap_begins_anew_and_a_marker_ends_only_what_it_ends(void **state)
{
    const struct sample in[] = {{500, 1},        {600, stale()}, {700, 2},        {1700, 3},
                                {1800, stale()}, {5500, 1},      {7100, stale()}, {8100, 9}};
    struct coarse_points p = {0};
    struct coarse_maker m;

    (void)state;
    make(&p, &m, R, in, NX_COUNT(in));
    assert_int_equal(p.n, 6);
    assert_true(p.v[0].t == 700 && p.v[0].count == 2);
    assert_true(p.v[1].t == 1700 && p.v[1].count == 1);
    assert_true(p.v[2].t == 1800 && p.v[2].count == 0 && num_is_stale(p.v[2].last));
    assert_true(p.v[3].t == 5500 && p.v[3].has_first && p.v[3].fallen == 0);
    assert_true(p.v[4].t == 7100 && num_is_stale(p.v[4].last));
    assert_true(p.v[5].t == 8100 && p.v[5].has_first);
    coarse_points_done(&p);
}

static void same_points(const struct coarse_points *a, const struct coarse_points *b, uint64_t seed)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        const struct coarse_point *x = &a->v[i], *y = &b->v[i];
        const double by = 1e-9 * (1 + fabs(x->sum) + fabs(x->fallen));
        if (x->t != y->t || num_bits(x->last) != num_bits(y->last) || x->count != y->count)
            fail_msg("seed %" PRIu64 ": point %zu differs", seed, i);
        if (x->count == 0)
            continue;
        if (x->min != y->min || x->max != y->max || fabs(x->sum - y->sum) > by ||
            fabs(x->fallen - y->fallen) > by || x->has_first != y->has_first ||
            (x->has_first && (x->first != y->first || x->t_first != y->t_first)))
            fail_msg("seed %" PRIu64 ": point %zu (%lld) tells other things", seed, i,
                     (long long)x->t);
    }
}

static size_t random_samples(struct test_random *r, struct sample *v, size_t cap)
{
    int64_t t = (int64_t)test_random_below(r, 3000);
    size_t n = 0;
    double x = 0;

    while (n < cap) {
        t += 1 + (int64_t)test_random_below(r, test_random_below(r, 30) ? 200 : 9000);
        x = test_random_below(r, 9) ? x + (double)test_random_below(r, 5) : 0;
        v[n++] = (struct sample){t, test_random_below(r, 25) ? x : stale()};
    }
    return n;
}

/* Of points of a second, points of five; and of those of five, the same again. */
static void points_of_points_are_those_of_the_samples(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct test_random r = {seed};
        struct sample v[400];
        const size_t n = random_samples(&r, v, NX_COUNT(v));
        struct coarse_points fine = {0}, coarse = {0}, of_fine = {0}, again = {0};
        struct coarse_maker m;
        make(&fine, &m, R, v, n);
        make(&coarse, &m, 5 * R, v, n);
        m = (struct coarse_maker){.resolution_ms = 5 * R, .to = &of_fine};
        for (size_t i = 0; i < fine.n; i++)
            assert_ok(coarse_add(&m, &fine.v[i], &err), &err);
        assert_ok(coarse_end(&m, &err), &err);
        same_points(&coarse, &of_fine, seed);
        m = (struct coarse_maker){.resolution_ms = 5 * R, .to = &again};
        for (size_t i = 0; i < coarse.n; i++)
            assert_ok(coarse_add(&m, &coarse.v[i], &err), &err);
        assert_ok(coarse_end(&m, &err), &err);
        same_points(&coarse, &again, seed);
        coarse_points_done(&fine);
        coarse_points_done(&coarse);
        coarse_points_done(&of_fine);
        coarse_points_done(&again);
    }
}

/* ---- blocks of points ---------------------------------------------------------------------------- */

static void a_block_of_points_gives_them_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct simfs *sim = simfs_new(seed);
        struct fs *fs = simfs_fs(sim);
        struct block_writer_opts o = {
            .fs = fs, .dir = "data", .min_ms = -5000, .max_ms = 1000000, .resolution_ms = R};
        const struct block_meta shape = {
            .min_ms = o.min_ms, .max_ms = o.max_ms, .resolution_ms = R};
        struct test_random r = {seed};
        struct coarse_points want[SERIES] = {{0}}, got = {0};
        struct coarse_buffers buffers = {{0}};
        struct block_writer *w = NULL;
        struct block_meta meta;
        struct cache *cache = cache_new(1 << 20);
        struct chunk_scratch *scratch = chunk_scratch_new();
        struct block *b = NULL;
        char dir[64];

        assert_ok(fs->mkdir(fs, "data", &err), &err);
        assert_ok(block_writer_open(&w, &o, &err), &err);
        for (int s = 0; s < SERIES; s++) {
            struct label l = {STR(LABEL_NAME), s == 0 ? LIT("a") : s == 1 ? LIT("b") : LIT("c")};
            struct labels ls = {&l, 1};
            struct sample v[600];
            struct coarse_maker m;
            size_t n = random_samples(&r, v, NX_COUNT(v));
            for (size_t i = 0; i < n && s == 1; i++)
                v[i].v = 7; /* nothing but `last` and `count` is stored */
            make(&want[s], &m, R, v, n);
            assert_ok(coarse_write(w, &shape, &ls, &want[s], true, &buffers, &err), &err);
        }
        assert_ok(block_writer_commit(w, &meta, &err), &err);
        block_writer_close(w);
        snprintf(dir, sizeof dir, "data/%s", meta.ulid);
        assert_ok(block_open(&b, fs, cache, dir, &err), &err);
        assert_int_equal(block_meta(b)->resolution_ms, R);
        assert_ok(block_verify(b, &err), &err);
        for (uint64_t s = 0; s < SERIES; s++) {
            int64_t from, to;
            got.n = 0;
            assert_ok(coarse_read(b, s, INT64_MIN, INT64_MAX, &got, &buffers.column, scratch, &err),
                      &err);
            same_points(&want[s], &got, seed);
            for (int i = 0; i < 20; i++) { /* and any part of them */
                struct coarse_points part = {0};
                from = (int64_t)test_random_below(&r, 200000) - 10000;
                to = from + (int64_t)test_random_below(&r, 50000);
                for (size_t k = 0; k < want[s].n; k++)
                    if (want[s].v[k].t >= from && want[s].v[k].t <= to) {
                        if (part.n == 0)
                            part.v = &want[s].v[k];
                        part.n++;
                    }
                got.n = 0;
                assert_ok(coarse_read(b, s, from, to, &got, &buffers.column, scratch, &err), &err);
                same_points(&part, &got, seed);
            }
        }
        block_meta_done(&meta);
        block_unref(b);
        cache_free(cache);
        chunk_scratch_free(scratch);
        samples_done(&buffers.column);
        coarse_points_done(&got);
        for (int s = 0; s < SERIES; s++)
            coarse_points_done(&want[s]);
        simfs_free(sim);
    }
}

/* ---- which is read -------------------------------------------------------------------------------- */

static void each_time_is_read_from_one_resolution(void **state)
{
    const struct pick_source v[] = {{0, 10000, 5 * R}, {0, 10000, R}, {6000, 20000, 0}};
    struct pick_part out[12];
    const struct read_hint odd = {READ_SUM, 17, R, R, false},
                           fine = {READ_SUM, 2 * R, R, 3 * R, false},
                           coarse = {READ_SUM, 5 * R, 10 * R, 5 * R, false},
                           shape = {READ_SHAPE, 5 * R, 10 * R, 5 * R, false},
                           once = {READ_VALUE, 5 * R, 0, 0, false};
    const struct read_hint *const raw_first[] = {NULL, &odd, &shape, &once};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(raw_first);
         i++) { /* the window that ends at 6000 is told whole */
        assert_int_equal(pick_parts(v, 3, raw_first[i], out), 2);
        assert_true(out[0].source == 1 && out[0].from_ms == 0 && out[0].to_ms == 6000);
        assert_true(out[1].source == 2 && out[1].from_ms == 6001 && out[1].to_ms == 19999);
    }
    assert_int_equal(pick_parts(v, 3, &fine, out), 2);
    assert_true(out[0].source == 1 && out[0].to_ms == 9999);
    assert_true(out[1].source == 2 && out[1].from_ms == 10000);
    assert_int_equal(pick_parts(v, 3, &coarse, out), 2);
    assert_true(out[0].source == 0 && out[0].to_ms == 9999);
    assert_true(out[1].source == 2 && out[1].from_ms == 10000);
}

/* ---- in a store ------------------------------------------------------------------------------------ */

static double value_of(int series, int64_t t)
{
    const int64_t k = (t - T0) / STEP_MS;

    return series == 0 ? (double)(k % 37) : (double)(k % 11) * (1 + series);
}

static void write_block(struct fs *fs, int number)
{
    const int64_t min_ms = T0 + number * BLOCK_MS;
    struct block_writer_opts o = {
        .fs = fs, .dir = "data", .min_ms = min_ms, .max_ms = min_ms + BLOCK_MS};
    struct block_writer *w = NULL;

    assert_ok(block_writer_open(&w, &o, &err), &err);
    for (int s = 0; s < SERIES; s++) {
        struct label l = {STR(LABEL_NAME), s == 0 ? LIT("a") : s == 1 ? LIT("b") : LIT("c")};
        struct labels ls = {&l, 1};
        int64_t t[ROWS];
        double v[ROWS];
        uint32_t times;
        for (int i = 0; i < ROWS; i++) {
            t[i] = min_ms + i * STEP_MS;
            v[i] = value_of(s, t[i]);
        }
        assert_ok(block_writer_series(w, &ls, &err), &err);
        assert_ok(block_writer_times(w, t, ROWS, &times, &err), &err);
        assert_ok(block_writer_chunk(w, times, v, ROWS, &err), &err);
    }
    assert_ok(block_writer_commit(w, NULL, &err), &err);
    block_writer_close(w);
}

static struct simfs *new_disk(uint64_t seed)
{
    struct simfs *sim = simfs_new(seed);
    struct fs *fs = simfs_fs(sim);

    assert_ok(fs->mkdir(fs, "data", &err), &err);
    assert_ok(fs->sync_dir(fs, ".", &err), &err);
    for (int i = 0; i < BLOCKS; i++)
        write_block(fs, i);
    return sim;
}

/* Samples for two blocks' time, points of a second for three, those of five seconds for ever. */
static struct storage *open_as(struct fs *fs, bool threads)
{
    static const struct storage_level levels[] = {{BLOCK_MS, R, 3 * BLOCK_MS},
                                                  {2 * BLOCK_MS, 5 * R, 1000 * BLOCK_MS}};
    const struct storage_rules rules = {.levels = levels, .n_levels = 2};
    struct storage_opts o = {.fs = fs,
                             .dir = "data",
                             .retention_ms = 2 * BLOCK_MS,
                             .min_block_ms = BLOCK_MS,
                             .max_block_ms = BLOCK_MS,
                             .rules = &rules,
                             .fsync_ms = 1, /* what the worker waits for is looked at as often */
                             .no_worker = !threads};
    struct storage *s = NULL;

    return storage_open(&s, &o, &err) == NX_OK ? s : NULL;
}

static struct storage *open_store(struct fs *fs)
{
    return open_as(fs, false);
}

/* Counts and sums over five seconds each are those of the samples, wherever they are read from. */
static void check_sums(struct storage *s, enum read_use use, uint64_t step)
{
    const struct read_hint h = {use, T0 + 5 * R, 5 * R, 5 * R, false};
    struct matcher m = {.type = MATCH_NEQ, .name = STR(LABEL_NAME), .value = STR("")};
    const int64_t end = T0 + BLOCKS * BLOCK_MS;
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;

    assert_ok(storage_querier(s, T0, end, &q, &err), &err);
    assert_ok(q->ops->select(q, &m, 1, T0, end, a, &list, &err), &err);
    assert_int_equal(list.n, SERIES);
    for (int k = 0; k < SERIES; k++) {
        size_t i = 0;
        assert_ok(q->ops->read_for(q, &list.v[k], &h, T0, end, &c, &err), &err);
        for (int64_t t = T0; t + 5 * R <= end; t += 5 * R) {
            double want = 0, got = 0;
            for (int64_t at = t == T0 ? t : t + STEP_MS; at <= t + 5 * R && at < end; at += STEP_MS)
                want += use == READ_COUNT ? 1 : value_of(k, at);
            for (; i < c.n && c.t[i] <= t + 5 * R; i++)
                got += use == READ_COUNT && c.resolution_ms == 0 ? 1 : c.v[i];
            if (got != want)
                fail_msg("step %" PRIu64 ": series %d, five seconds from %lld: %g and not %g", step,
                         k, (long long)(t - T0), got, want);
        }
        assert_int_equal(i, c.n);
    }
    column_done(&c);
    querier_close(q);
    arena_free(a);
}

static void check(struct storage *s, uint64_t step)
{
    check_sums(s, READ_SUM, step);
    check_sums(s, READ_COUNT, step);
}

#define LEFT                                                                                       \
    (2 + 2 + 4) /* samples of ages 0, 1; points of a second of 1 and 2; of five of 2 to 5 */

#define MADE 6 /* blocks of points */

static void samples_become_points_and_points_coarser_ones(void **state)
{
    struct simfs *sim = new_disk(1);
    struct storage *s = open_store(simfs_fs(sim));

    (void)state;
    check(s, 0);
    storage_tick(s, T0); /* points are made, */
    check(s, 1);
    storage_tick(s, T0); /* then the rest goes */
    check(s, 2);
    assert_int_equal(stats_of(s).blocks, LEFT);
    assert_int_equal(stats_of(s).downsampled, MADE);
    assert_int_equal(stats_of(s).compactions_failed, 0);
    storage_close(s);
    s = open_store(simfs_fs(sim));
    check(s, 3);
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).downsampled, 0); /* nothing is made twice */
    assert_int_equal(stats_of(s).blocks, LEFT);
    storage_close(s);
    simfs_free(sim);
}

static void readers_are_not_disturbed_by_the_threads_that_make_points(void **state)
{
    struct simfs *sim = new_disk(1);
    struct storage *s = open_as(simfs_fs(sim), true);
    const struct storage_level longer = {BLOCK_MS, 5 * R, 900 * BLOCK_MS};
    const struct storage_rules other = {.levels = &longer, .n_levels = 1};
    uint64_t round = 0;

    (void)state;
    for (; round < 100000; round++) {
        struct storage_stats now = stats_of(s);
        if (now.blocks == LEFT &&
            now.downsampled >= MADE) /* as many blocks are there on the way, too */
            break;
        check(s, round);
        if (round > 1000) /* the thread has the lowest priority: it gets its turn */
            clock_sleep_until_mono_ns(clock_mono_ns() + 2000000);
    }
    check(s, round);
    assert_int_equal(stats_of(s).blocks, LEFT);
    assert_ok(storage_set_rules(s, &other, &err), &err); /* while they run */
    check(s, round);
    storage_close(s);
    simfs_free(sim);
}

/* Loaded into a time that points were made of: they are made again. */
static void what_comes_late_is_in_the_points_at_last(void **state)
{
    static const struct storage_level level = {BLOCK_MS, R, 1000 * BLOCK_MS};
    const struct storage_rules rules = {.levels = &level, .n_levels = 1};
    struct simfs *sim = new_disk(1);
    struct storage_opts o = {.fs = simfs_fs(sim),
                             .dir = "data",
                             .min_block_ms = BLOCK_MS,
                             .max_block_ms = BLOCK_MS,
                             .rules = &rules,
                             .no_worker = true};
    const struct read_hint h = {READ_COUNT, T0 + R, R, R, false};
    struct block_writer_opts late = {
        .fs = o.fs, .dir = "data", .min_ms = T0 + BLOCK_MS, .max_ms = T0 + 2 * BLOCK_MS};
    struct matcher m = {.name = STR(LABEL_NAME), .value = STR("a")};
    struct label l = {STR(LABEL_NAME), LIT("a")};
    struct labels ls = {&l, 1};
    const int64_t t = T0 + BLOCK_MS + 2 * R + 1;
    const double v = 5;
    struct block_writer *w = NULL;
    struct storage *s = NULL;
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;
    uint32_t times;

    (void)state;
    assert_ok(storage_open(&s, &o, &err), &err);
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).downsampled, BLOCKS - 1);
    storage_close(s);
    assert_ok(block_writer_open(&w, &late, &err), &err);
    assert_ok(block_writer_series(w, &ls, &err), &err);
    assert_ok(block_writer_times(w, &t, 1, &times, &err), &err);
    assert_ok(block_writer_chunk(w, times, &v, 1, &err), &err);
    assert_ok(block_writer_commit(w, NULL, &err), &err);
    block_writer_close(w);
    assert_ok(storage_open(&s, &o, &err), &err);
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).downsampled, 1);
    assert_int_equal(stats_of(s).blocks, 2 * BLOCKS - 1);
    assert_ok(storage_querier(s, t - R, t + R, &q, &err), &err);
    assert_ok(q->ops->select(q, &m, 1, t, t + R, a, &list, &err), &err);
    assert_ok(q->ops->read_for(q, &list.v[0], &h, t, t + R - 1, &c, &err), &err);
    assert_int_equal(c.resolution_ms, R);
    assert_int_equal(c.n, 1);
    assert_true(c.v[0] == R / STEP_MS + 1);
    column_done(&c);
    querier_close(q);
    arena_free(a);
    storage_close(s);
    simfs_free(sim);
}

/* Points of what is deleted go with the next writing of their block. */
static void what_is_deleted_is_not_told_by_points(void **state)
{
    struct simfs *sim = new_disk(1);
    struct storage *s = open_store(simfs_fs(sim));
    struct matcher m = {.name = STR(LABEL_NAME), .value = STR("b")};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;

    (void)state;
    storage_tick(s, T0);
    storage_tick(s, T0);
    assert_ok(storage_delete(s, &(struct matcher_set){&m, 1}, 1, INT64_MIN,
                             T0 + BLOCK_MS + BLOCK_MS / 2, &err),
              &err);
    for (int round = 0; round < 2; round++) {
        assert_ok(storage_querier(s, T0, T0 + 4 * BLOCK_MS, &q, &err), &err);
        assert_ok(q->ops->select(q, &m, 1, T0, T0 + BLOCK_MS - 1, a, &list, &err), &err);
        assert_int_equal(list.n, 0);
        assert_ok(q->ops->select(q, &m, 1, T0, T0 + 4 * BLOCK_MS, a, &list, &err), &err);
        assert_int_equal(list.n, 1);
        assert_ok(q->ops->read(q, &list.v[0], T0, T0 + 4 * BLOCK_MS, &c, &err), &err);
        assert_true(c.n > 0 && c.t[0] > T0 + BLOCK_MS + BLOCK_MS / 2);
        querier_close(q);
        assert_ok(storage_clean_tombstones(s, &err), &err);
    }
    column_done(&c);
    arena_free(a);
    storage_close(s);
    simfs_free(sim);
}

static bool one_fault(void *ctx, enum fault fault, uint64_t seed, uint64_t step)
{
    struct simfs *sim = new_disk(step * 13 + (uint64_t)fault + seed - 1);
    struct storage *s = open_store(simfs_fs(sim));
    bool came;

    (void)ctx;
    fault_arm(sim, fault, step);
    storage_tick(s, T0);
    storage_tick(s, T0);
    came = fault_came(sim, fault);
    simfs_heal(sim);
    if (fault == FAULT_ERROR)
        check(s, step);
    storage_close(s);
    fault_end(sim, fault);
    s = open_store(simfs_fs(sim));
    if (!s)
        fail_msg("step %" PRIu64 ": %s", step, err.text);
    check(s, step);
    clock_fake_advance(7200 * 1000); /* past any pause */
    for (int i = 0; i < 3; i++)
        storage_tick(s, T0);
    check(s, step);
    if (stats_of(s).blocks != LEFT)
        fail_msg("step %" PRIu64 ": %" PRIu64 " blocks are left", step, stats_of(s).blocks);
    storage_close(s);
    simfs_free(sim);
    return came;
}

static void every_step(enum fault fault)
{
    clock_fake_set(T0);
    assert_true(fault_sweep(one_fault, NULL, fault, 100, 5) > 150);
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

/* Samples stay until their points are there. */
static void a_full_disk_is_borne_until_there_is_space(void **state)
{
    bool full = true;

    (void)state;
    clock_fake_set(T0);
    for (uint64_t space = 0; full; space += 300 * TEST_STRIDE) {
        struct simfs *sim = new_disk(space);
        struct storage *s = open_store(simfs_fs(sim));
        simfs_set_space(sim, simfs_used(sim) + space);
        for (int i = 0; i < 3; i++)
            storage_tick(s, T0);
        full = stats_of(s).compactions_failed > 0;
        assert_true(full || space > 500);
        check(s, space);
        simfs_set_space(sim, UINT64_MAX);
        clock_fake_advance(7200 * 1000); /* past any pause */
        for (int i = 0; i < 3; i++)
            storage_tick(s, T0);
        check(s, space);
        assert_int_equal(stats_of(s).blocks, LEFT);
        storage_close(s);
        s = open_store(simfs_fs(sim));
        check(s, space);
        assert_int_equal(stats_of(s).blocks, LEFT);
        storage_close(s);
        simfs_free(sim);
    }
    clock_fake_off();
}

static void memory_that_fails_is_borne(void **state)
{
    bool came = true;

    (void)state;
    clock_fake_set(T0);
    for (unsigned n = 1; came; n += (n < 100 ? 1 : 19) * TEST_STRIDE) {
        struct simfs *sim = new_disk(1);
        struct storage *s = open_store(simfs_fs(sim));
        oom_fail_at(n);
        storage_tick(s, T0);
        came = oom_off();
        check(s, n);
        clock_fake_advance(7200 * 1000);
        for (int i = 0; i < 3; i++)
            storage_tick(s, T0);
        check(s, n);
        assert_int_equal(stats_of(s).blocks, LEFT);
        storage_close(s);
        simfs_free(sim);
    }
    clock_fake_off();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_ends_with_its_multiple_and_tells_all_of_it),
        cmocka_unit_test(a_gap_begins_anew_and_a_marker_ends_only_what_it_ends),
        cmocka_unit_test(points_of_points_are_those_of_the_samples),
        cmocka_unit_test(a_block_of_points_gives_them_back),
        cmocka_unit_test(each_time_is_read_from_one_resolution),
        cmocka_unit_test_setup(samples_become_points_and_points_coarser_ones, quiet_setup),
        cmocka_unit_test_setup(readers_are_not_disturbed_by_the_threads_that_make_points,
                               quiet_setup),
        cmocka_unit_test_setup(what_comes_late_is_in_the_points_at_last, quiet_setup),
        cmocka_unit_test_setup(what_is_deleted_is_not_told_by_points, quiet_setup),
        cmocka_unit_test_setup(a_power_cut_at_any_step_loses_and_doubles_nothing, quiet_setup),
        cmocka_unit_test_setup(a_kill_at_any_step_loses_and_doubles_nothing, quiet_setup),
        cmocka_unit_test_setup(an_error_at_any_step_is_made_good_later, quiet_setup),
        cmocka_unit_test_setup(a_full_disk_is_borne_until_there_is_space, quiet_setup),
        cmocka_unit_test_setup(memory_that_fails_is_borne, quiet_setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
