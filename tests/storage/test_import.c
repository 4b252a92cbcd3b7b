/* Bulk loading: samples in any order become aligned blocks that hold just them. */
#include "tests/support/test.h"

#include <math.h>
#include <unistd.h>

#include "src/base/num.h"
#include "storage/block.h"
#include "tests/support/oom.h"
#include "tests/support/simfs.h"

#define DIR     "out"
#define HOUR_MS INT64_C(3600000)

static struct nx_err err;

struct seen {
    char ulids[64][27];
    size_t n;
    uint64_t samples, bytes;
    int64_t last_max;
};

static void seen(void *ctx, const struct storage_import_block *b)
{
    struct seen *s = ctx;

    assert_true(s->n < NX_COUNT(s->ulids));
    assert_true(s->n == 0 || b->min_ms >= s->last_max);
    memcpy(s->ulids[s->n++], b->ulid, 27);
    s->samples += b->samples;
    s->bytes += b->bytes;
    s->last_max = b->max_ms;
}

static uint32_t series_of(struct storage_import *im, const char *name, const char *instance)
{
    struct label v[2] = {{STR(LABEL_NAME), STR(name)}, {STR("instance"), STR(instance)}};
    struct labels ls = {v, 2};
    uint32_t ref;

    assert_ok(storage_import_series(im, &ls, &ref, &err), &err);
    return ref;
}

/* All samples of the series over all blocks. */
static struct samples read_all(struct fs *fs, const struct seen *blocks, const char *name,
                               const char *instance)
{
    struct samples got = {0};
    struct cache *cache = cache_new(1 << 20);
    struct chunk_scratch *scratch = chunk_scratch_new();
    struct arena *a = arena_new(0);
    const struct matcher m[2] = {{MATCH_EQ, STR(LABEL_NAME), STR(name), NULL},
                                 {MATCH_EQ, STR("instance"), STR(instance), NULL}};

    for (size_t i = 0; i < blocks->n; i++) {
        struct series_list list;
        struct block *b;
        char path[64];

        snprintf(path, sizeof path, DIR "/%s", blocks->ulids[i]);
        assert_ok(block_open(&b, fs, cache, path, &err), &err);
        assert_ok(block_verify(b, &err), &err);
        assert_ok(block_select(b, m, 2, INT64_MIN, INT64_MAX, a, &list, &err), &err);
        assert_in_range(list.n, 0, 1);
        if (list.n)
            assert_ok(block_read(b, list.v[0].ref, INT64_MIN, INT64_MAX, &got, scratch, &err),
                      &err);
        block_unref(b);
    }
    cache_free(cache);
    chunk_scratch_free(scratch);
    arena_free(a);
    return got;
}

static void only_blocks_are_left(struct fs *fs, size_t n)
{
    struct fs_names names;

    assert_ok(fs->list(fs, DIR, &names, &err), &err);
    assert_int_equal(names.n, n);
    for (size_t i = 0; i < names.n; i++)
        assert_true(block_ulid_valid(names.v[i]));
    fs_names_done(&names);
}

static void samples_in_any_order_are_cut_into_aligned_blocks(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct storage_import *im;
    struct test_random r = {3};
    struct seen blocks = {.n = 0};
    enum { N = 5000 };
    int64_t t[N];
    uint32_t a, b;
    struct samples got;

    (void)state;
    assert_ok(storage_import_open(&im, fs, DIR, 0, &err), &err);
    a = series_of(im, "m", "a");
    b = series_of(im, "m", "b");
    assert_int_equal(series_of(im, "m", "a"), a);
    for (int i = 0; i < N; i++)
        t[i] = i * 10000 - 20 * HOUR_MS / 2; /* also before 1970 */
    for (int i = N - 1; i > 0; i--) {
        size_t k = test_random_below(&r, (uint64_t)i + 1);
        int64_t swap = t[i];
        t[i] = t[k];
        t[k] = swap;
    }
    for (int i = 0; i < N; i++) {
        assert_ok(storage_import_add(im, a, t[i], (double)t[i] / 7, &err), &err);
        if (i % 3 == 0)
            assert_ok(storage_import_add(im, b, t[i], (double)i, &err), &err);
        if (i % 5 == 0) /* again, with another value: the first one stays */
            assert_ok(storage_import_add(im, a, t[i], -1, &err), &err);
    }
    assert_ok(storage_import_finish(im, seen, &blocks, &err), &err);
    storage_import_close(im);
    assert_int_equal(blocks.n, 7); /* 5000 times 10 s are 13.9 hours */
    assert_int_equal(blocks.samples, N + (N + 2) / 3);
    only_blocks_are_left(fs, 7);
    got = read_all(fs, &blocks, "m", "a");
    assert_int_equal(got.n, N);
    for (size_t i = 0; i < got.n; i++) {
        assert_int_equal(got.t[i], (int64_t)i * 10000 - 10 * HOUR_MS);
        assert_true(got.v[i] == (double)got.t[i] / 7);
    }
    samples_done(&got);
    simfs_free(sim);
}

static void series_of_one_instance_share_their_timestamps(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct storage_import *im;
    struct seen blocks = {.n = 0};
    struct test_random r = {4};
    int64_t t[480];
    struct cache *cache = cache_new(1 << 20);
    struct samples got;

    (void)state;
    for (int i = 0; i < 480; i++) /* jitter that costs something to store */
        t[i] = i * 15000 + (int64_t)test_random_below(&r, 4000);
    assert_ok(storage_import_open(&im, fs, DIR, 2 * HOUR_MS, &err), &err);
    for (int s = 0; s < 200; s++) {
        char name[16];
        uint32_t ref;

        snprintf(name, sizeof name, "m%03d", s);
        ref = series_of(im, name, "a");
        for (int i = s % 4 == 1 ? 100 : 0; i < 480; i++) /* some come late, some have holes */
            if (s % 4 != 2 || i % 10)
                assert_ok(storage_import_add(im, ref, t[i], i, &err), &err);
    }
    assert_ok(storage_import_finish(im, seen, &blocks, &err), &err);
    storage_import_close(im);
    assert_int_equal(blocks.n, 1);
    assert_true(blocks.bytes < 480 * 2 + 200 * 25); /* one vector; and each series little */
    got = read_all(fs, &blocks, "m002", "a");
    assert_int_equal(got.n, 432);
    for (size_t i = 0; i < got.n; i++)
        assert_int_equal(got.t[i], t[(int)got.v[i]]);
    samples_done(&got);
    cache_free(cache);
    simfs_free(sim);
}

static double noise(uint64_t i)
{
    struct test_random r = {i};

    return num_from_bits(0x3ff0000000000000u | test_random(&r) >> 12);
}

static void a_long_dump_goes_through_the_spill(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct storage_import *im;
    struct seen blocks = {.n = 0};
    struct samples got;
    enum { N = 800000 };
    uint32_t ref;

    (void)state;
    assert_ok(storage_import_open(&im, fs, DIR, 200 * HOUR_MS, &err), &err);
    ref = series_of(im, "noise", "a");
    for (int64_t i = 0; i < N; i++) /* noise does not shrink: 5 MB */
        assert_ok(storage_import_add(im, ref, i * 100, noise((uint64_t)i), &err), &err);
    assert_true(simfs_used(sim) > 1 << 20);
    assert_ok(storage_import_finish(im, seen, &blocks, &err), &err);
    storage_import_close(im);
    only_blocks_are_left(fs, blocks.n);
    got = read_all(fs, &blocks, "noise", "a");
    assert_int_equal(got.n, N);
    for (size_t i = 0; i < got.n; i++)
        if (got.t[i] != (int64_t)i * 100 || num_bits(got.v[i]) != num_bits(noise(i)))
            fail_msg("sample %zu is another one", i);
    samples_done(&got);
    simfs_free(sim);
}

static void an_import_that_is_closed_leaves_nothing(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct storage_import *im;
    struct fs_stat stat;

    (void)state;
    assert_ok(storage_import_open(&im, simfs_fs(sim), DIR, 0, &err), &err);
    assert_ok(storage_import_add(im, series_of(im, "m", "a"), 5, 1, &err), &err);
    storage_import_close(im);
    assert_status(simfs_fs(sim)->stat(simfs_fs(sim), DIR, &stat, &err),
                  NX_NOTFOUND); /* not even the folder */
    assert_ok(storage_import_open(&im, simfs_fs(sim), DIR, 0, &err), &err);
    assert_ok(storage_import_finish(im, NULL, NULL, &err), &err); /* nothing to write */
    only_blocks_are_left(simfs_fs(sim), 0);
    assert_status(storage_import_add(im, 0, 5, 1, &err), NX_BADINPUT);
    storage_import_close(im);
    storage_import_close(NULL);
    simfs_free(sim);
}

/* Every step of an import that fails is reported; finished blocks are whole. */
static void an_error_at_any_step_is_reported(void **state)
{
    (void)state;
    for (unsigned at = 1;; at++) {
        struct simfs *sim = simfs_new(at);
        struct storage_import *im = NULL;
        struct seen blocks = {.n = 0};
        bool failed;
        nx_status st;

        simfs_fail_at(sim, at);
        st = storage_import_open(&im, simfs_fs(sim), DIR, 0, &err);
        for (int i = 0; i < 3000 && !st; i++)
            st = storage_import_add(im, series_of(im, "m", i % 2 ? "a" : "b"), i * 5000, i, &err);
        if (!st)
            st = storage_import_finish(im, seen, &blocks, &err);
        storage_import_close(im);
        failed = simfs_failed(sim);
        simfs_heal(sim);
        if (failed && st == NX_OK)
            fail_msg("step %u failed and nobody said so", at);
        if (blocks.n) {
            struct samples got = read_all(simfs_fs(sim), &blocks, "m", "a"); /* verifies */
            samples_done(&got);
        }
        simfs_free(sim);
        if (!failed)
            break;
        assert_in_range(at, 1, 1000);
    }
}

static void out_of_memory_at_any_allocation_is_reported(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct simfs *sim = simfs_new(1);
        struct storage_import *im = NULL;
        bool failed;
        nx_status st;

        oom_fail_at(n);
        st = storage_import_open(&im, simfs_fs(sim), DIR, 0, &err);
        for (int i = 0; i < 400 && !st; i++) {
            struct label v[1] = {{STR("a"), STR(i % 3 ? "x" : "y")}};
            const struct labels ls = {v, 1};
            uint32_t ref = 0;

            st = storage_import_series(im, &ls, &ref, &err);
            if (!st) /* backwards, with holes: sorting and uniting have work to do */
                st = storage_import_add(im, ref, (400 - i) * 15000, i, &err);
        }
        if (!st)
            st = storage_import_finish(im, NULL, NULL, &err);
        failed = oom_off();
        if (st && (!failed || st != NX_NOMEM))
            fail_msg("allocation %u: %s: %s", n, nx_status_text(st), err.text);
        storage_import_close(im);
        simfs_free(sim);
        if (!failed)
            break;
        assert_in_range(n, 1, 3000);
    }
}

/* name{a="b",c="d"} of the recorded file: no escapes in it. */
static void parse(char *s, struct labels_builder *b)
{
    char *p = strchr(s, '{');

    labels_builder_reset(b, NULL);
    labels_builder_set(b, STR(LABEL_NAME), nx_slice_of(s, p ? (size_t)(p - s) : strlen(s)));
    for (p = p ? p + 1 : NULL; p && *p && *p != '}';) {
        char *eq = strchr(p, '='), *end = strchr(eq + 2, '"');
        while (end[1] != ',' && end[1] != '}')
            end = strchr(end + 1, '"');
        labels_builder_set(b, nx_slice_of(p, (size_t)(eq - p)),
                           nx_slice_of(eq + 2, (size_t)(end - eq - 2)));
        p = end + (end[1] == ',' ? 2 : 1);
    }
}

static void recorded_targets_take_less_than_eight_tenths_of_a_byte_a_sample(void **state)
{
    static char line[1 << 16];
    char path[512];
    struct simfs *sim;
    struct storage_import *im;
    struct labels_builder b;
    struct seen blocks = {.n = 0};
    struct samples got;
    uint64_t n = 0;
    double sum = 0, stored = 0;
    char command[600];
    FILE *f;

    (void)state;
    if (!test_shared_dir())
        skip();
    snprintf(path, sizeof path, "%s/data/real.om.gz", test_shared_dir());
    if (access(path, R_OK) != 0) {
        print_message("%s is not there: skipped\n", path);
        skip();
    }
    snprintf(command, sizeof command, "gzip -dc '%s'", path);
    f = popen(command, "r");
    assert_non_null(f);
    sim = simfs_new(1);
    labels_builder_init(&b);
    assert_ok(storage_import_open(&im, simfs_fs(sim), DIR, 0, &err), &err);
    while (fgets(line, sizeof line, f)) {
        char *time, *value;
        struct labels ls;
        uint32_t ref;
        double v;

        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#')
            continue;
        time = strrchr(line, ' ');
        *time++ = '\0';
        value = strrchr(line, ' ');
        *value++ = '\0';
        assert_true(num_parse(STR(value), &v, NULL));
        parse(line, &b);
        assert_ok(labels_builder_build(&b, &ls, &err), &err);
        assert_ok(storage_import_series(im, &ls, &ref, &err), &err);
        assert_ok(storage_import_add(im, ref, (int64_t)llround(strtod(time, NULL) * 1000), v, &err),
                  &err);
        if (nx_slice_is(labels_get_str(&ls, LABEL_NAME), "process_cpu_seconds_total") &&
            nx_slice_is(labels_get_str(&ls, "instance"), "node-1:9100"))
            sum += v;
        n++;
    }
    assert_int_equal(pclose(f), 0);
    assert_ok(storage_import_finish(im, seen, &blocks, &err), &err);
    storage_import_close(im);
    assert_int_equal(blocks.samples, n);
    got = read_all(simfs_fs(sim), &blocks, "process_cpu_seconds_total", "node-1:9100");
    for (size_t i = 0; i < got.n; i++)
        stored += got.v[i];
    assert_true(got.n > 0 && stored == sum);
    print_message("%.4f bytes a sample\n", (double)blocks.bytes / (double)n);
    assert_true((double)blocks.bytes / (double)n < 0.8);
    samples_done(&got);
    labels_builder_done(&b);
    simfs_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_in_any_order_are_cut_into_aligned_blocks),
        cmocka_unit_test(series_of_one_instance_share_their_timestamps),
        cmocka_unit_test(a_long_dump_goes_through_the_spill),
        cmocka_unit_test(an_import_that_is_closed_leaves_nothing),
        cmocka_unit_test(an_error_at_any_step_is_reported),
        cmocka_unit_test(out_of_memory_at_any_allocation_is_reported),
        cmocka_unit_test(recorded_targets_take_less_than_eight_tenths_of_a_byte_a_sample),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
