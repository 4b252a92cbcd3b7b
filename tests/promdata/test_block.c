/* test_block.c - blocks of Prometheus, whole and damaged. */
#include "tests/support/test.h"

#include "src/base/num.h"
#include "src/promdata/block.h"
#include "tests/support/promfiles.h"
#include "tests/support/simfs.h"

#define N_SERIES 24
#define N_CHUNKS 3
#define PER      10 /* samples of a chunk */
#define ULID     "01JGFJJZ00ABCDEFGHJKMNPQRS"
#define DIR      "data/" ULID

static struct world {
    struct simfs *sim;
    struct fs *fs;
    struct pd_damage damage;
    char told[512];
    struct nx_err err;
    struct label labels[N_SERIES][3];
    char text[N_SERIES][16];
    struct prom_chunk_meta chunks[N_SERIES][N_CHUNKS];
    struct prom_series series[N_SERIES];
    struct buf index, segments[2];
} w;

static int64_t time_of(int series, int i)
{
    return 1000000 + i * 1000 + series % 3;
}

static double value_of(int series, int i)
{
    return series * 100 + i * 0.5;
}

static void on_damage(void *ctx, const char *path, uint64_t offset, const char *what)
{
    (void)ctx;
    snprintf(w.told, sizeof w.told, "%s at %" PRIu64 ": %s", path, offset, what);
}

static void put_chunks(int i)
{
    for (int c = 0; c < N_CHUNKS; c++) {
        const int file = i >= N_SERIES / 2;
        int64_t t[PER];
        double v[PER];
        struct buf b;
        uint32_t at;

        for (int k = 0; k < PER; k++) {
            t[k] = time_of(i, c * PER + k);
            v[k] = value_of(i, c * PER + k);
        }
        buf_init(&b, 0);
        if (i == 5 && c == 1) /* histograms: 7 of them */
            buf_append(&b, "\0\7\0", 3);
        else if (i % 4 == 3)
            prom_xor2(&b, t, v, PER, i % 3);
        else
            prom_xor(&b, t, v, PER);
        at = prom_chunk(&w.segments[file],
                        i == 5 && c == 1 ? PD_HISTOGRAM
                        : i % 4 == 3     ? PD_XOR2
                                         : PD_XOR,
                        &b);
        w.chunks[i][c] = (struct prom_chunk_meta){t[0], t[PER - 1], (uint64_t)file << 32 | at};
        buf_done(&b);
    }
}

static void build(uint8_t version)
{
    struct buf b;

    memset(&w, 0, sizeof w);
    w.sim = simfs_new(1);
    w.fs = simfs_fs(w.sim);
    w.damage = (struct pd_damage){.tell = on_damage};
    for (int i = 0; i < N_SERIES; i++) {
        snprintf(w.text[i], sizeof w.text[i], "v%02d", i);
        w.labels[i][0] = (struct label){STR(LABEL_NAME), STR("metric")};
        w.labels[i][1] = (struct label){STR("a"), STR(w.text[i])};
        w.labels[i][2] = (struct label){STR("job"), STR("x")};
        put_chunks(i);
        w.series[i] =
            (struct prom_series){.labels = {w.labels[i], 3}, .chunks = w.chunks[i], .n = N_CHUNKS};
    }
    buf_init(&w.index, 0);
    prom_index(&w.index, version, w.series, N_SERIES);
    prom_put(w.fs, DIR "/index", &w.index);
    prom_put(w.fs, DIR "/chunks/000001", &w.segments[0]);
    prom_put(w.fs, DIR "/chunks/000002", &w.segments[1]);
    buf_init(&b, 0);
    prom_meta(&b, ULID, time_of(0, 0), time_of(2, N_CHUNKS * PER), "from-out-of-order");
    prom_put(w.fs, DIR "/meta.json", &b);
    buf_done(&b);
}

static void unbuild(void)
{
    buf_done(&w.index);
    buf_done(&w.segments[0]);
    buf_done(&w.segments[1]);
    simfs_free(w.sim);
}

/* Reads all there is, each sample of which must be right; returns how many. */
static size_t read_all(struct pd_block *b, struct pd_histograms *h)
{
    struct pd_samples s = {0};
    struct pd_same same = {0};
    size_t n = 0;
    bool end = false;

    pd_block_rewind(b);
    for (int last = -1;;) {
        struct pd_series x;
        int i;
        assert_ok(pd_block_next(b, &x, &end, &w.err), &w.err);
        if (end)
            break;
        assert_int_equal(x.labels.n, 3);
        i = atoi(labels_get_str(&x.labels, "a").ptr + 1);
        assert_true(i > last && i < N_SERIES && labels_eq(&x.labels, &w.series[i].labels));
        last = i;
        s.n = 0;
        assert_ok(pd_block_read(b, &x, INT64_MIN, INT64_MAX, &s, &same, h, &w.err), &w.err);
        for (size_t k = 0; k < s.n; k++) {
            const int row = (int)((s.t[k] - 1000000) / 1000);
            assert_int_equal(s.t[k], time_of(i, row));
            assert_true(s.v[k] == value_of(i, row));
        }
        n += s.n;
    }
    pd_samples_done(&s);
    return n;
}

#define ALL (N_SERIES * N_CHUNKS * PER - PER) /* a chunk has histograms */

static void a_block_of_every_version_is_read(void **state)
{
    (void)state;
    for (uint8_t version = 1; version <= 3; version++) {
        struct pd_histograms h = {0};
        struct pd_block *b = NULL;
        build(version);
        assert_ok(pd_block_open(&b, w.fs, DIR, &w.damage, &w.err), &w.err);
        assert_non_null(pd_block_meta(b));
        assert_true(pd_block_meta(b)->aside);
        assert_int_equal(pd_block_meta(b)->min_ms, 1000000);
        assert_int_equal(read_all(b, &h), ALL);
        assert_true(h.any);
        assert_int_equal(h.samples, 7);
        assert_int_equal(w.damage.n, 0);
        pd_block_close(b);
        unbuild();
    }
}

static void what_was_deleted_is_left_out(void **state)
{
    (void)state;
    for (uint8_t version = 1; version <= 2; version++) {
        struct pd_histograms h = {0};
        struct pd_block *b = NULL;
        struct buf stones;
        build(version);
        const uint64_t refs[] = {w.series[7].id, w.series[2].id, w.series[7].id, w.series[7].id};
        const int64_t spans[][2] = {{time_of(7, 3), time_of(7, 5)},
                                    {INT64_MIN, INT64_MAX},
                                    {time_of(7, 4), time_of(7, 12)},
                                    {time_of(7, 29), time_of(7, 29)}};
        buf_init(&stones, 0);
        prom_tombstones(&stones, refs, spans, 4);
        prom_put(w.fs, DIR "/tombstones", &stones);
        assert_ok(pd_block_open(&b, w.fs, DIR, &w.damage, &w.err), &w.err);
        assert_int_equal(read_all(b, &h), ALL - N_CHUNKS * PER - 10 - 1);
        assert_int_equal(w.damage.n, 0);
        pd_block_close(b);
        /* Damaged, they are told, and what can be read of them holds. */
        stones.ptr[stones.len - 1] ^= 1;
        prom_put(w.fs, DIR "/tombstones", &stones);
        assert_ok(pd_block_open(&b, w.fs, DIR, &w.damage, &w.err), &w.err);
        assert_int_equal(w.damage.n, 1);
        assert_non_null(strstr(w.told, "tombstones at 0"));
        assert_int_equal(read_all(b, &h), ALL - N_CHUNKS * PER - 10 - 1);
        pd_block_close(b);
        buf_done(&stones);
        unbuild();
    }
}

/* One flipped bit anywhere in a file costs what it lies in, is told, and falsifies nothing. */
static void flip_each_byte(uint8_t version, const char *path, struct buf *file, size_t most_lost)
{
    for (size_t at = 0; at < file->len; at += TEST_STRIDE) {
        struct pd_histograms h = {0};
        struct pd_block *b = NULL;
        nx_status st;
        size_t n;
        file->ptr[at] ^= (char)(1 << at % 8);
        prom_put(w.fs, path, file);
        file->ptr[at] ^= (char)(1 << at % 8);
        w.damage.n = 0;
        st = pd_block_open(&b, w.fs, DIR, &w.damage, &w.err);
        if (st) { /* the index's magic or its symbols */
            assert_int_equal(st, NX_CORRUPT);
            assert_true(file == &w.index);
            continue;
        }
        n = read_all(b, &h);
        if (n + most_lost < ALL)
            fail_msg("version %u, byte %zu of %s: %zu samples of %d", version, at, path, n, ALL);
        if (n < ALL)
            assert_true(w.damage.n >= 1 && w.damage.n <= 2);
        pd_block_close(b);
    }
    prom_put(w.fs, path, file);
}

static void a_flipped_bit_costs_what_it_lies_in(void **state)
{
    (void)state;
    for (uint8_t version = 1; version <= 2; version++) {
        build(version);
        flip_each_byte(version, DIR "/index", &w.index, N_CHUNKS * PER);
        flip_each_byte(version, DIR "/chunks/000001", &w.segments[0], PER);
        unbuild();
    }
}

static void a_file_cut_anywhere_gives_what_is_left(void **state)
{
    (void)state;
    build(2);
    for (size_t len = 0; len < w.index.len; len += 3 * TEST_STRIDE) {
        struct pd_histograms h = {0};
        struct pd_block *b = NULL;
        struct buf cut = w.index;
        cut.len = len;
        prom_put(w.fs, DIR "/index", &cut);
        w.damage.n = 0;
        if (pd_block_open(&b, w.fs, DIR, &w.damage, &w.err) == NX_OK) {
            (void)read_all(b, &h); /* checks each sample */
            assert_true(w.damage.n >= 1);
            pd_block_close(b);
        }
    }
    prom_put(w.fs, DIR "/index", &w.index);
    for (size_t len = 0; len < w.segments[1].len; len += TEST_STRIDE) {
        struct pd_histograms h = {0};
        struct pd_block *b = NULL;
        struct buf cut = w.segments[1];
        cut.len = len;
        prom_put(w.fs, DIR "/chunks/000002", &cut);
        w.damage.n = 0;
        assert_ok(pd_block_open(&b, w.fs, DIR, &w.damage, &w.err), &w.err);
        assert_true(read_all(b, &h) >= ALL / 2 - PER);
        assert_true(w.damage.n >= 1);
        pd_block_close(b);
    }
    unbuild();
}

static void a_missing_file_of_chunks_costs_its_chunks(void **state)
{
    struct pd_histograms h = {0};
    struct pd_block *b = NULL;

    (void)state;
    build(2);
    assert_ok(w.fs->unlink(w.fs, DIR "/chunks/000002", &w.err), &w.err);
    assert_ok(w.fs->unlink(w.fs, DIR "/meta.json", &w.err), &w.err);
    assert_ok(pd_block_open(&b, w.fs, DIR, &w.damage, &w.err), &w.err);
    assert_null(pd_block_meta(b));
    assert_int_equal(read_all(b, &h), ALL - N_SERIES / 2 * N_CHUNKS * PER);
    assert_int_equal(w.damage.n, 1 + N_SERIES / 2 * N_CHUNKS);
    pd_block_close(b);
    unbuild();
}

static void a_span_gives_the_samples_within_it(void **state)
{
    struct pd_samples s = {0};
    struct pd_same same = {0};
    struct pd_histograms h = {0};
    struct pd_block *b = NULL;
    struct pd_series x;
    bool end;

    (void)state;
    build(2);
    assert_ok(pd_block_open(&b, w.fs, DIR, &w.damage, &w.err), &w.err);
    assert_ok(pd_block_next(b, &x, &end, &w.err), &w.err);
    assert_ok(pd_block_read(b, &x, time_of(0, 8), time_of(0, 21) - 1, &s, &same, &h, &w.err),
              &w.err);
    assert_int_equal(s.n, 13);
    assert_int_equal(s.t[0], time_of(0, 8));
    assert_int_equal(s.t[12], time_of(0, 20));
    pd_samples_done(&s);
    pd_block_close(b);
    unbuild();
}

static void meta_of_another_version_or_shape_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "{\"minTime\":1,\"maxTime\":2}",
                                      "{\"minTime\":1,\"maxTime\":2,\"version\":2}",
                                      "{\"minTime\":3,\"maxTime\":2,\"version\":1}",
                                      "{\"minTime\":\"3\",\"maxTime\":4,\"version\":1}"};
    struct pd_meta m;
    struct nx_err err;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(bad); i++)
        assert_status(pd_meta_parse(STR(bad[i]), &m, &err), NX_CORRUPT);
    assert_ok(
        pd_meta_parse(STR("{\"minTime\":-3,\"maxTime\":2,\"version\":1,\"more\":[]}"), &m, &err),
        &err);
    assert_true(m.min_ms == -3 && m.max_ms == 2 && !m.aside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_of_every_version_is_read),
        cmocka_unit_test(what_was_deleted_is_left_out),
        cmocka_unit_test(a_flipped_bit_costs_what_it_lies_in),
        cmocka_unit_test(a_file_cut_anywhere_gives_what_is_left),
        cmocka_unit_test(a_missing_file_of_chunks_costs_its_chunks),
        cmocka_unit_test(a_span_gives_the_samples_within_it),
        cmocka_unit_test(meta_of_another_version_or_shape_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
