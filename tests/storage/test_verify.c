/* test_verify.c - no bit of a block can change without verify saying where. */
#include "tests/support/test.h"

#include "src/base/hash.h"
#include "src/base/log.h"
#include "storage/storage.h"
#include "tests/support/simfs.h"

#define HOUR 3600000LL
#define T0   1700006400000LL /* a multiple of two hours */
#define ROWS 300

static struct nx_err err;

/* What verify said. */
struct said {
    unsigned problems, notes;
    char first[2048]; /* "file@offset: what" of the first problem */
    char note[2048];
};

static void on_problem(void *ctx, const struct storage_problem *p)
{
    struct said *s = ctx;

    if (!s->problems++)
        snprintf(s->first, sizeof s->first, "%s@%lld: %s", p->file, (long long)p->offset, p->what);
}

static void on_note(void *ctx, const struct storage_problem *p)
{
    struct said *s = ctx;

    s->notes++;
    snprintf(s->note, sizeof s->note, "%s: %s", p->file, p->what);
}

static struct said verify(struct fs *fs, struct storage_verified *out)
{
    struct said s = {0};

    assert_ok(storage_verify_blocks(fs, "data", on_problem, on_note, &s, out, &err), &err);
    assert_int_equal(s.problems, out->problems);
    assert_int_equal(s.notes, out->notes);
    return s;
}

/* Values that need pages of every kind: counters, text-like gauges, noise. */
static void load(struct fs *fs, int64_t from, unsigned n_series)
{
    struct storage_import *im;
    struct test_random rnd = {5};

    assert_ok(storage_import_open(&im, fs, "data", 0, &err), &err);
    for (unsigned i = 0; i < n_series; i++) {
        char text[16];
        struct label v[2] = {{STR(LABEL_NAME), STR("metric")}, {STR("i"), {0}}};
        struct labels ls = {v, 2};
        uint32_t ref;
        snprintf(text, sizeof text, "%u", i);
        v[1].value = STR(text);
        assert_ok(storage_import_series(im, &ls, &ref, &err), &err);
        for (unsigned k = 0; k < ROWS; k++) {
            double value = i % 3 == 0   ? k * 10.0
                           : i % 3 == 1 ? (double)(test_random(&rnd) % 1000) / 8
                                        : (double)test_random(&rnd);
            assert_ok(storage_import_add(im, ref, from + k * 15000 + i % 2, value, &err), &err);
        }
    }
    assert_ok(storage_import_finish(im, NULL, NULL, &err), &err);
    storage_import_close(im);
}

static struct fs_names names_of(struct fs *fs, const char *dir)
{
    struct fs_names names = {0};

    assert_ok(fs->list(fs, dir, &names, &err), &err);
    return names;
}

static void flip(struct fs *fs, const char *path, uint64_t at, uint8_t mask)
{
    struct fs_file *f;
    uint8_t byte;
    size_t n;

    assert_ok(fs->open(fs, path, FS_READ | FS_WRITE, &f, &err), &err);
    assert_ok(fs->pread(fs, f, &byte, 1, at, &n, &err), &err);
    byte ^= mask;
    assert_ok(fs->pwrite(fs, f, &byte, 1, at, &n, &err), &err);
    fs->close(fs, f);
}

static uint64_t size_of(struct fs *fs, const char *path)
{
    struct fs_stat stat;

    assert_ok(fs->stat(fs, path, &stat, &err), &err);
    return stat.bytes;
}

static void a_good_folder_has_no_problems(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct storage_verified out;
    struct said s;

    (void)state;
    load(simfs_fs(sim), T0, 20);
    load(simfs_fs(sim), T0 + 24 * HOUR, 3);
    s = verify(simfs_fs(sim), &out);
    assert_int_equal(s.problems, 0);
    assert_int_equal(s.notes, 0);
    assert_int_equal(out.blocks, 2);
    assert_int_equal(out.series, 23);
    assert_int_equal(out.samples, 23 * ROWS);
    assert_true(out.pages > 8);
    simfs_free(sim);
}

/* Every byte of small files, and a few hundred of larger ones, in each of which some bit changes. */
static void every_flipped_bit_is_found_and_its_file_named(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct fs_names blocks, files;
    struct storage_verified out;
    unsigned tried = 0;

    (void)state;
    load(fs, T0, 9);
    blocks = names_of(fs, "data");
    assert_int_equal(blocks.n, 1);
    char dir[128];
    snprintf(dir, sizeof dir, "data/%s", blocks.v[0]);
    files = names_of(fs, dir);
    for (size_t i = 0; i < files.n; i++) {
        char path[256];
        uint64_t size, step;
        snprintf(path, sizeof path, "%s/%s", dir, files.v[i]);
        size = size_of(fs, path);
        step = (size / 400 + 1) * TEST_STRIDE;
        for (uint64_t at = 0; at < size; at += step) {
            uint8_t mask = (uint8_t)(1u << (at / step % 8));
            flip(fs, path, at, mask);
            struct said s = verify(fs, &out);
            if (!s.problems || strncmp(s.first, path, strlen(path)) != 0)
                fail_msg("%s: bit %02x of byte %llu: %u problems: %s", path, mask,
                         (unsigned long long)at, s.problems, s.first);
            flip(fs, path, at, mask);
            tried++;
        }
    }
    assert_true(tried > 200 / TEST_STRIDE);
    assert_int_equal(verify(fs, &out).problems, 0);
    fs_names_done(&files);
    fs_names_done(&blocks);
    simfs_free(sim);
}

/* The first page of the chunks begins at 16. */
static void a_damaged_page_tells_place_series_and_times(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct fs_names blocks;
    struct storage_verified out;
    struct said s;
    char path[128], want[512];

    (void)state;
    load(fs, T0, 9);
    blocks = names_of(fs, "data");
    snprintf(path, sizeof path, "data/%s/chunks", blocks.v[0]);
    flip(fs, path, 60, 1);
    s = verify(fs, &out);
    assert_int_equal(s.problems, 1); /* once, not for each of nine series */
    snprintf(want, sizeof want,
             "%s@16: page of chunks 0 to 8: its checksum does not match; 9 series from "
             "metric{i=\"0\"} to metric{i=\"8\"} lose samples of %lld to %lld",
             path, T0, T0 + (ROWS - 1) * 15000 + 1);
    assert_string_equal(s.first, want);
    fs_names_done(&blocks);
    simfs_free(sim);
}

static void read_text(struct fs *fs, const char *path, struct buf *to)
{
    buf_init(to, 0);
    assert_ok(fs_read_file(fs, path, to, &err), &err);
}

/* A checksum that is right says nothing of what was written under it. */
static void counts_and_files_that_do_not_fit_are_found(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct fs_names blocks;
    struct storage_verified out;
    struct buf text;
    char path[128], other[128], crc[9], *at;
    struct said s;

    (void)state;
    load(fs, T0, 2);
    load(fs, T0 + 24 * HOUR, 2);
    blocks = names_of(fs, "data");
    assert_int_equal(blocks.n, 2);
    snprintf(path, sizeof path, "data/%s/meta.json", blocks.v[0]);
    read_text(fs, path, &text);
    at = strstr((char *)(uintptr_t)buf_cstr(&text), "\"numSamples\": 600");
    assert_non_null(at);
    at[14] = '7';
    at = strstr(at, "\"crc32c\": \"") + 11;
    memset(at, '0', 8);
    snprintf(crc, sizeof crc, "%08x", crc32c(0, text.ptr, text.len));
    memcpy(at, crc, 8);
    assert_ok(fs_publish(fs, path, text.ptr, text.len, &err), &err);
    s = verify(fs, &out);
    assert_int_equal(s.problems, 1);
    assert_non_null(strstr(s.first, "meta.json@-1: it counts 700 samples"));
    buf_done(&text);

    snprintf(path, sizeof path, "data/%s/chunks", blocks.v[0]);
    snprintf(other, sizeof other, "data/%s/chunks", blocks.v[1]);
    read_text(fs, other, &text);
    assert_ok(fs_publish(fs, path, text.ptr, text.len, &err), &err);
    s = verify(fs, &out);
    assert_int_equal(s.problems, 1);
    assert_non_null(strstr(s.first, "its files belong to different blocks"));
    buf_done(&text);

    assert_ok(fs->unlink(fs, path, &err), &err);
    s = verify(fs, &out);
    assert_int_equal(s.problems, 1);
    assert_true(strncmp(s.first, path, strlen(path)) == 0);
    fs_names_done(&blocks);
    simfs_free(sim);
}

static void what_overlaps_and_what_is_unfinished_is_a_note(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct storage_verified out;
    struct said s;

    (void)state;
    load(fs, T0, 2);
    load(fs, T0 + 1000, 1);
    s = verify(fs, &out);
    assert_int_equal(s.problems, 0);
    assert_int_equal(s.notes, 1);
    assert_non_null(strstr(s.note, "overlaps block"));
    assert_ok(fs->mkdir(fs, "data/01JGFJJZ00ABCDEFGHJKMNPQRS.tmp-for-creation", &err), &err);
    s = verify(fs, &out);
    assert_int_equal(s.notes, 2);
    assert_int_equal(s.problems, 0);
    simfs_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_folder_has_no_problems),
        cmocka_unit_test(every_flipped_bit_is_found_and_its_file_named),
        cmocka_unit_test(a_damaged_page_tells_place_series_and_times),
        cmocka_unit_test(counts_and_files_that_do_not_fit_are_found),
        cmocka_unit_test(what_overlaps_and_what_is_unfinished_is_a_note),
    };

    log_setup(LOG_ERROR_LEVEL, LOG_FORMAT_LOGFMT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
