/* test_compact_merge.c - merging blocks, against a model that is an array per series.
 *
 * A world is made from a seed: series of a few groups with times of their own, values of all kinds, gaps
 * as absent rows or as times left out, and blocks that follow one another, leave holes or overlap. */
#include "tests/support/test.h"

#include "storage/compact.h"
#include "tests/support/oom.h"
#include "tests/support/simfs.h"

#define SERIES  24
#define GROUPS  4
#define SOURCES 6
#define SPAN    60 /* ms of a block */
#define TIMES   (SPAN * (SOURCES + 2))
#define T0      1700000000000LL
#define STALE   0x7ff0000000000002ull

struct world {
    struct simfs *sim;
    struct fs *fs;
    struct test_random r;
    struct cache *cache;
    struct block *source[SOURCES];
    size_t n;
    uint64_t want[SERIES][TIMES]; /* bits; CHUNK_ABSENT_BITS: no sample */
    uint64_t samples;             /* in all sources together */
    struct nx_err err;
};

static struct label series_labels[SERIES][3];
static char series_text[SERIES][2][16];

static struct labels labels_of(int series)
{
    struct label *l = series_labels[series];

    snprintf(series_text[series][0], sizeof series_text[0][0], "m%d", series % 5);
    snprintf(series_text[series][1], sizeof series_text[0][0], "%02d", series);
    l[0] = (struct label){STR(LABEL_NAME), STR(series_text[series][0])};
    l[1] = (struct label){STR("i"), STR(series_text[series][1])};
    l[2] = (struct label){STR("only"), STR("some")};
    return (struct labels){l, series % 3 ? 2 : 3};
}

static int by_labels(const void *a, const void *b)
{
    struct labels x = labels_of(*(const int *)a), y = labels_of(*(const int *)b);

    return labels_cmp(&x, &y);
}

static double random_value(struct test_random *r, int series)
{
    static const uint64_t odd[] = {STALE,
                                   NUM_NAN_BITS,
                                   0x7ff8deadbeef0001ull,
                                   0xfff8000000000000ull,
                                   0x8000000000000000ull,
                                   0x7ff0000000000000ull,
                                   0xfff0000000000000ull,
                                   1,
                                   0x000fffffffffffffull};

    if (test_random_below(r, 10) == 0)
        return num_from_bits(odd[test_random_below(r, NX_COUNT(odd))]);
    if (series % 4 == 0)
        return series;
    if (series % 4 == 1)
        return (double)test_random_below(r, 1000) / 8;
    return num_from_bits(test_random(r) & 0x7fefffffffffffffull);
}

/* The times of a group within the block: some ms of each, other ones in each group. */
static size_t group_times(struct test_random *r, int group, int64_t min_ms, int64_t *t)
{
    size_t n = 0;

    for (int64_t i = 0; i < SPAN; i++)
        if ((i + group) % (group + 1) == 0 || test_random_below(r, 20) == 0)
            t[n++] = min_ms + i;
    return n;
}

static void put_series(struct world *w, struct block_writer *bw, int series, const int64_t *t,
                       size_t n)
{
    struct labels ls = labels_of(series);
    double v[SPAN];
    int64_t own[SPAN];
    size_t kept = 0;
    uint32_t times;
    bool absent_rows = test_random_below(&w->r, 2) == 0;
    unsigned gaps = (unsigned)test_random_below(&w->r, 3) * 4;

    assert_ok(block_writer_series(bw, &ls, &w->err), &w->err);
    for (size_t i = 0; i < n; i++) {
        double x =
            test_random_below(&w->r, 16) < gaps ? chunk_absent() : random_value(&w->r, series);
        if (chunk_is_absent(x) && !absent_rows)
            continue;
        own[kept] = t[i];
        v[kept++] = x;
        if (chunk_is_absent(x))
            continue;
        w->samples++;
        if (w->want[series][t[i] - T0] == CHUNK_ABSENT_BITS) /* the first source's is kept */
            w->want[series][t[i] - T0] = num_bits(x);
    }
    if (kept == 0)
        return;
    assert_ok(block_writer_times(bw, own, kept, &times, &w->err), &w->err);
    assert_ok(block_writer_chunk(bw, times, v, kept, &w->err), &w->err);
}

/* A block from min_ms on; false if it would have been empty. */
static bool add_source(struct world *w, int64_t min_ms)
{
    struct block_writer_opts o = {.fs = w->fs,
                                  .dir = "data",
                                  .min_ms = min_ms,
                                  .max_ms = min_ms + SPAN,
                                  .level = 1 + (uint32_t)test_random_below(&w->r, 3),
                                  .fast = test_random_below(&w->r, 2) == 0};
    struct block_writer *bw = NULL;
    struct block_meta meta;
    int64_t t[GROUPS][SPAN];
    size_t n[GROUPS];
    int order[SERIES];
    char path[64];

    for (int g = 0; g < GROUPS; g++)
        n[g] = group_times(&w->r, g, min_ms, t[g]);
    for (int i = 0; i < SERIES; i++)
        order[i] = i;
    qsort(order, SERIES, sizeof *order, by_labels);
    assert_ok(block_writer_open(&bw, &o, &w->err), &w->err);
    for (int i = 0; i < SERIES; i++)
        if (test_random_below(&w->r, 4))
            put_series(w, bw, order[i], t[order[i] % GROUPS], n[order[i] % GROUPS]);
    nx_status st = block_writer_commit(bw, &meta, &w->err);
    block_writer_close(bw);
    if (st == NX_NOTFOUND)
        return false;
    assert_ok(st, &w->err);
    snprintf(path, sizeof path, "data/%s", meta.ulid);
    block_meta_done(&meta);
    assert_ok(block_open(&w->source[w->n++], w->fs, w->cache, path, &w->err), &w->err);
    return true;
}

static void world_new(struct world *w, uint64_t seed)
{
    int64_t min_ms = T0;

    memset(w, 0, sizeof *w);
    w->sim = simfs_new(seed);
    w->fs = simfs_fs(w->sim);
    w->r.state = seed;
    w->cache = cache_new(1u << 20);
    for (int s = 0; s < SERIES; s++)
        for (int i = 0; i < TIMES; i++)
            w->want[s][i] = CHUNK_ABSENT_BITS;
    assert_ok(w->fs->mkdir(w->fs, "data", &w->err), &w->err);
    size_t n = 1 + test_random_below(&w->r, SOURCES);
    for (size_t i = 0; i < n; i++) {
        (void)add_source(w, min_ms);
        if (seed % 2) /* follow one another, some with a hole */
            min_ms += SPAN + (test_random_below(&w->r, 4) == 0 ? 7 : 0);
        else
            min_ms += (int64_t)test_random_below(&w->r, SPAN + 10);
    }
    if (w->n == 0)
        assert_true(add_source(w, min_ms));
}

static void world_done(struct world *w)
{
    for (size_t i = 0; i < w->n; i++)
        block_unref(w->source[i]);
    cache_free(w->cache);
    simfs_free(w->sim);
}

static nx_status run_merge(struct world *w, const char *ulid, struct compact_result *res)
{
    struct compact_merge m = {
        .fs = w->fs, .dir = "data", .ulid = ulid, .source = w->source, .n = w->n};

    return compact_merge(&m, res, &w->err);
}

static const char ulid[] = "01JGFJJZ00ABCDEFGHJKMNPQRS";

static struct block *open_merged(struct world *w)
{
    struct block *b = NULL;

    assert_ok(block_open(&b, w->fs, w->cache, "data/01JGFJJZ00ABCDEFGHJKMNPQRS", &w->err), &w->err);
    return b;
}

static size_t names_in_folder(struct world *w)
{
    struct fs_names names = {0};
    size_t n;

    assert_ok(w->fs->list(w->fs, "data", &names, &w->err), &w->err);
    n = names.n;
    fs_names_done(&names);
    return n;
}

static void check_samples(struct world *w, struct block *b)
{
    struct chunk_scratch *scratch = chunk_scratch_new();
    struct arena *a = arena_new(0);
    struct samples got = {0};
    struct series_list list;
    bool seen[SERIES] = {false};

    assert_ok(block_verify(b, &w->err), &w->err);
    assert_ok(block_select(b, NULL, 0, INT64_MIN, INT64_MAX, a, &list, &w->err), &w->err);
    for (size_t i = 0; i < list.n; i++) {
        struct nx_slice number = labels_get_str(&list.v[i].labels, "i");
        int series = (number.ptr[0] - '0') * 10 + number.ptr[1] - '0';
        struct labels ls = labels_of(series);
        size_t at = 0;
        assert_true(labels_eq(&ls, &list.v[i].labels));
        seen[series] = true;
        got.n = 0;
        assert_ok(block_read(b, list.v[i].ref, INT64_MIN, INT64_MAX, &got, scratch, &w->err),
                  &w->err);
        for (int k = 0; k < TIMES; k++) {
            if (w->want[series][k] == CHUNK_ABSENT_BITS)
                continue;
            assert_true(at < got.n && got.t[at] == T0 + k);
            assert_int_equal(num_bits(got.v[at]), w->want[series][k]);
            at++;
        }
        assert_int_equal(at, got.n);
    }
    for (int s = 0; s < SERIES; s++)
        for (int k = 0; k < TIMES && !seen[s]; k++)
            assert_true(w->want[s][k] == CHUNK_ABSENT_BITS);
    samples_done(&got);
    arena_free(a);
    chunk_scratch_free(scratch);
}

static void check_origins(struct world *w, struct block *b)
{
    const struct block_meta *m = block_meta(b);
    int64_t min_ms = INT64_MAX, max_ms = INT64_MIN;
    uint32_t level = 0;

    assert_int_equal(m->n_parents, w->n);
    for (size_t i = 0; i < w->n; i++) {
        const struct block_meta *p = block_meta(w->source[i]);
        assert_string_equal(m->parents[i].ulid, p->ulid);
        assert_true(m->parents[i].min_ms == p->min_ms && m->parents[i].max_ms == p->max_ms);
        assert_true(compact_made_of(m, p->ulid));
        assert_false(compact_made_of(p, m->ulid));
        min_ms = p->min_ms < min_ms ? p->min_ms : min_ms;
        max_ms = p->max_ms > max_ms ? p->max_ms : max_ms;
        level = p->level > level ? p->level : level;
    }
    assert_false(compact_made_of(m, m->ulid));
    assert_true(m->min_ms == min_ms && m->max_ms == max_ms);
    assert_int_equal(m->level, level + 1);
    assert_int_equal(m->n_sources, w->n);
    for (size_t i = 1; i < m->n_sources; i++)
        assert_true(strcmp(m->sources[i - 1], m->sources[i]) < 0);
}

static void a_merged_block_holds_what_its_sources_held(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed += TEST_STRIDE) {
        struct world w;
        struct compact_result res;
        world_new(&w, seed);
        assert_ok(run_merge(&w, ulid, &res), &w.err);
        struct block *b = open_merged(&w);
        check_samples(&w, b);
        check_origins(&w, b);
        assert_int_equal(res.samples, block_meta(b)->n_samples);
        assert_int_equal(res.samples + res.dropped, w.samples);
        assert_true(seed % 2 == 0 || res.dropped == 0);
        block_unref(b);
        world_done(&w);
    }
}

/* ---- chunks and times ------------------------------------------------------------------------- */

struct shape {
    uint32_t vectors[4096];
    size_t n_vectors, chunks, rows_max;
};

static nx_status look_at_chunk(void *ctx, const struct block_chunk *c, struct nx_err *err)
{
    struct shape *s = ctx;
    size_t i = 0;

    (void)err;
    while (i < s->n_vectors && s->vectors[i] != c->times)
        i++;
    if (i == s->n_vectors)
        s->vectors[s->n_vectors++] = c->times;
    s->chunks++;
    s->rows_max = c->n > s->rows_max ? c->n : s->rows_max;
    return NX_OK;
}

static struct shape shape_of(struct world *w, struct block *b)
{
    struct chunk_scratch *scratch = chunk_scratch_new();
    struct shape s = {.n_vectors = 0};

    for (uint64_t i = 0; i < block_meta(b)->n_series; i++)
        assert_ok(block_chunks(b, i, look_at_chunk, &s, scratch, &w->err), &w->err);
    chunk_scratch_free(scratch);
    return s;
}

/* Blocks of two groups of ten series each, `rows` rows a block, values that need to be stored. */
static void regular_world(struct world *w, size_t n, size_t rows)
{
    static int64_t t[CHUNK_MAX_ROWS];
    static double v[CHUNK_MAX_ROWS];

    memset(w, 0, sizeof *w);
    w->sim = simfs_new(1);
    w->fs = simfs_fs(w->sim);
    w->cache = cache_new(4u << 20);
    assert_ok(w->fs->mkdir(w->fs, "data", &w->err), &w->err);
    for (size_t k = 0; k < n; k++) {
        int64_t min_ms = T0 + (int64_t)(k * rows) * 1000;
        struct block_writer_opts o = {.fs = w->fs,
                                      .dir = "data",
                                      .min_ms = min_ms,
                                      .max_ms = min_ms + (int64_t)rows * 1000,
                                      .fast = true};
        struct block_writer *bw = NULL;
        struct block_meta meta;
        char name[16], path[64];
        uint32_t times = 0;
        assert_ok(block_writer_open(&bw, &o, &w->err), &w->err);
        for (int s = 0; s < 20; s++) {
            struct label l = {STR(LABEL_NAME), STR(name)};
            struct labels ls = {&l, 1};
            snprintf(name, sizeof name, "s%02d", s);
            l.value = STR(name);
            for (size_t i = 0; i < rows; i++) {
                t[i] = min_ms + (int64_t)i * 1000 + (s % 2 ? (int64_t)(i * i % 7) : 500);
                v[i] = (double)((i * (size_t)(s + 1)) % 17);
            }
            assert_ok(block_writer_series(bw, &ls, &w->err), &w->err);
            assert_ok(block_writer_times(bw, t, rows, &times, &w->err), &w->err);
            assert_ok(block_writer_chunk(bw, times, v, rows, &w->err), &w->err);
        }
        assert_ok(block_writer_commit(bw, &meta, &w->err), &w->err);
        block_writer_close(bw);
        snprintf(path, sizeof path, "data/%s", meta.ulid);
        block_meta_done(&meta);
        assert_ok(block_open(&w->source[w->n++], w->fs, w->cache, path, &w->err), &w->err);
    }
}

static void series_of_a_group_share_their_times_in_one_chunk_each(void **state)
{
    struct world w;
    struct compact_result res;

    (void)state;
    regular_world(&w, 6, 480);
    assert_ok(run_merge(&w, ulid, &res), &w.err);
    struct block *b = open_merged(&w);
    struct shape s = shape_of(&w, b);
    assert_int_equal(s.chunks, 20);
    assert_int_equal(s.n_vectors, 2);
    assert_int_equal(s.rows_max, 6 * 480);
    block_unref(b);
    world_done(&w);
}

static void more_rows_than_fit_are_cut_alike_for_all(void **state)
{
    struct world w;
    struct compact_result res;

    (void)state;
    regular_world(&w, 6, 7000); /* windows of one block each */
    assert_ok(run_merge(&w, ulid, &res), &w.err);
    struct block *b = open_merged(&w);
    struct shape s = shape_of(&w, b);
    assert_int_equal(s.n_vectors * 10, s.chunks);
    assert_true(s.rows_max <= 8192 && s.rows_max > 3000);
    assert_ok(block_verify(b, &w.err), &w.err);
    block_unref(b);
    world_done(&w);
}

/* Two blocks of a few ms each that overlap and hold more rows than one chunk may. */
static void what_overlaps_is_cut_when_it_is_too_long(void **state)
{
    static int64_t t[CHUNK_MAX_ROWS];
    static double v[CHUNK_MAX_ROWS];
    struct world w = {0};
    struct compact_result res;
    struct label l = {STR(LABEL_NAME), STR("x")};
    struct labels ls = {&l, 1};

    (void)state;
    w.sim = simfs_new(1);
    w.fs = simfs_fs(w.sim);
    w.cache = cache_new(4u << 20);
    assert_ok(w.fs->mkdir(w.fs, "data", &w.err), &w.err);
    for (int k = 0; k < 3; k++) {
        struct block_writer_opts o = {.fs = w.fs,
                                      .dir = "data",
                                      .min_ms = T0,
                                      .max_ms = T0 + 10 * CHUNK_MAX_ROWS,
                                      .fast = true};
        struct block_writer *bw = NULL;
        struct block_meta meta;
        char path[64];
        uint32_t times;
        for (int i = 0; i < (int)CHUNK_MAX_ROWS; i++) {
            t[i] = T0 + i * 3 + k;
            v[i] = t[i] % 1000;
        }
        assert_ok(block_writer_open(&bw, &o, &w.err), &w.err);
        assert_ok(block_writer_series(bw, &ls, &w.err), &w.err);
        assert_ok(block_writer_times(bw, t, CHUNK_MAX_ROWS, &times, &w.err), &w.err);
        assert_ok(block_writer_chunk(bw, times, v, CHUNK_MAX_ROWS, &w.err), &w.err);
        assert_ok(block_writer_commit(bw, &meta, &w.err), &w.err);
        block_writer_close(bw);
        snprintf(path, sizeof path, "data/%s", meta.ulid);
        block_meta_done(&meta);
        assert_ok(block_open(&w.source[w.n++], w.fs, w.cache, path, &w.err), &w.err);
    }
    assert_ok(run_merge(&w, ulid, &res), &w.err);
    assert_int_equal(res.samples, 3 * CHUNK_MAX_ROWS);
    assert_int_equal(res.dropped, 0);
    struct block *b = open_merged(&w);
    struct samples got = {0};
    struct chunk_scratch *scratch = chunk_scratch_new();
    assert_ok(block_verify(b, &w.err), &w.err);
    assert_ok(block_read(b, 0, INT64_MIN, INT64_MAX, &got, scratch, &w.err), &w.err);
    assert_int_equal(got.n, 3 * CHUNK_MAX_ROWS);
    for (size_t i = 0; i < got.n; i++)
        assert_true(got.t[i] == T0 + (int64_t)i && got.v[i] == (double)(got.t[i] % 1000));
    samples_done(&got);
    chunk_scratch_free(scratch);
    block_unref(b);
    world_done(&w);
}

/* ---- what goes wrong -------------------------------------------------------------------------- */

static void a_flipped_bit_anywhere_ends_the_merge_and_names_the_source(void **state)
{
    static const char *const files[] = {"chunks", "index"};
    size_t found = 0, tried = 0;

    (void)state;
    for (uint64_t off = 0;; off += 13) {
        bool any = false;
        for (size_t f = 0; f < 2; f++) {
            struct world w;
            struct compact_result res;
            char path[128];
            world_new(&w, 7);
            assert_true(w.n > 2);
            cache_set_limit(w.cache, 0); /* read it again */
            snprintf(path, sizeof path, "%s/%s", block_dir(w.source[1]), files[f]);
            if (simfs_flip(w.sim, path, off, (uint8_t)(1u << off % 8))) {
                size_t names = names_in_folder(&w);
                any = true;
                tried++;
                nx_status st = run_merge(&w, ulid, &res);
                if (st) {
                    assert_int_equal(st, NX_CORRUPT);
                    assert_int_equal(res.bad, 1);
                    assert_non_null(strstr(w.err.text, block_meta(w.source[1])->ulid));
                    assert_int_equal(names_in_folder(&w), names);
                    found++;
                } else { /* header, footer and root were read when it was opened; lists of series
                          * are not needed */
                    struct block *b = open_merged(&w);
                    check_samples(&w, b);
                    block_unref(b);
                }
            }
            world_done(&w);
        }
        if (!any)
            break;
    }
    assert_true(tried > 100 && found > tried / 3);
}

static void memory_that_fails_leaves_no_block(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct world w;
        struct compact_result res;
        world_new(&w, 4);
        size_t names = names_in_folder(&w);
        oom_fail_at(n);
        nx_status st = run_merge(&w, ulid, &res);
        bool came = oom_off();
        if (st) {
            assert_int_equal(st, NX_NOMEM);
            assert_int_equal(res.bad, COMPACT_NONE);
            assert_int_equal(names_in_folder(&w), names);
        } else {
            struct block *b = open_merged(&w);
            check_samples(&w, b);
            block_unref(b);
        }
        world_done(&w);
        if (!came)
            break;
    }
}

static void an_error_at_any_step_leaves_no_block_or_a_whole_one(void **state)
{
    (void)state;
    for (uint64_t step = 1;; step++) {
        struct world w;
        struct compact_result res;
        world_new(&w, 7);
        cache_set_limit(w.cache, 0);
        size_t names = names_in_folder(&w);
        simfs_fail_at(w.sim, step);
        nx_status st = run_merge(&w, ulid, &res);
        bool came = simfs_failed(w.sim);
        simfs_heal(w.sim);
        if (st)
            assert_int_equal(st, NX_IO);
        if (names_in_folder(&w) > names + 1)
            fail_msg("step %" PRIu64 " left something behind", step);
        struct block *b = NULL;
        if (!st ||
            block_open(&b, w.fs, w.cache, "data/01JGFJJZ00ABCDEFGHJKMNPQRS", NULL) == NX_OK) {
            b = b ? b : open_merged(&w);
            check_samples(&w, b);
            block_unref(b);
        }
        world_done(&w);
        if (!came)
            break;
    }
}

static void a_merge_can_be_called_off(void **state)
{
    struct world w;
    struct compact_result res;
    atomic_bool stop = true;

    (void)state;
    world_new(&w, 3);
    size_t names = names_in_folder(&w);
    struct compact_merge m = {
        .fs = w.fs, .dir = "data", .ulid = ulid, .source = w.source, .n = w.n, .stop = &stop};
    assert_status(compact_merge(&m, &res, &w.err), NX_CANCELED);
    assert_int_equal(names_in_folder(&w), names);
    world_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_merged_block_holds_what_its_sources_held),
        cmocka_unit_test(series_of_a_group_share_their_times_in_one_chunk_each),
        cmocka_unit_test(more_rows_than_fit_are_cut_alike_for_all),
        cmocka_unit_test(what_overlaps_is_cut_when_it_is_too_long),
        cmocka_unit_test(a_flipped_bit_anywhere_ends_the_merge_and_names_the_source),
        cmocka_unit_test(memory_that_fails_leaves_no_block),
        cmocka_unit_test(an_error_at_any_step_leaves_no_block_or_a_whole_one),
        cmocka_unit_test(a_merge_can_be_called_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
