/* test_load.c - one block from series in the order of their labels. */
#include "tests/support/test.h"

#include "src/base/log.h"
#include "src/base/num.h"
#include "storage/block.h"
#include "storage/storage.h"
#include "tests/support/simfs.h"

#define ULID "01JGFJJZ00ABCDEFGHJKMNPQRS"
#define ROWS 10000 /* more than a chunk holds */

static struct nx_err err;

struct one {
    struct label v[3];
    char instance[8], number[8];
    struct labels ls;
};

static const struct labels *series(struct one *s, const char *instance, int number)
{
    snprintf(s->instance, sizeof s->instance, "%s", instance);
    snprintf(s->number, sizeof s->number, "%03d", number);
    s->v[0] = (struct label){STR("instance"), STR(s->instance)};
    s->v[1] = (struct label){STR("n"), STR(s->number)};
    s->ls = (struct labels){s->v, 2};
    return &s->ls;
}

static struct storage_load *open_load(struct fs *fs)
{
    const struct storage_load_opts o = {.fs = fs, .dir = "d", .ulid = ULID};
    struct storage_load *l = NULL;

    assert_ok(fs_mkdirs(fs, "d", &err), &err);
    assert_ok(storage_load_open(&l, &o, &err), &err);
    return l;
}

/* Series k of an instance lacks each row that k divides (from 2 on); those of "b" lie a bit later. */
static size_t rows_of(int k, const char *instance, int64_t *t, double *v)
{
    size_t n = 0;

    for (int i = 0; i < ROWS; i++) {
        if (k > 1 && i % k == 0)
            continue;
        t[n] = 1000000 + i * 15000 + (instance[0] == 'b' ? 77 : 0);
        v[n++] = i * k % 977;
    }
    return n;
}

static void what_was_surveyed_is_written_to_the_bit(void **state)
{
    static const char *const instances[] = {"a", "b"};
    struct simfs *sim = simfs_new(1);
    struct storage_load *l = open_load(simfs_fs(sim));
    int64_t *t = calloc(ROWS, sizeof *t);
    double *v = calloc(ROWS, sizeof *v);
    struct cache *cache = cache_new(0);
    struct chunk_scratch *scratch = chunk_scratch_new();
    struct storage_import_block b;
    struct block *block;
    struct samples got = {0};
    uint64_t samples = 0, ref = 0;
    struct one s;

    (void)state;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 2; i++)
            for (int k = 1; k < 6; k++) {
                const size_t n = rows_of(k, instances[i], t, v);
                samples += round ? n : 0;
                if (round)
                    assert_ok(storage_load_series(l, series(&s, instances[i], k), t, v, n, &err),
                              &err);
                else
                    assert_ok(storage_load_survey(l, series(&s, instances[i], k), t, n, &err),
                              &err);
            }
    assert_ok(storage_load_finish(l, &b, &err), &err);
    storage_load_close(l);
    assert_string_equal(b.ulid, ULID);
    assert_int_equal(b.samples, samples);
    assert_int_equal(b.series, 10);
    assert_int_equal(b.min_ms, 1000000);
    assert_int_equal(b.max_ms, 1000000 + (ROWS - 1) * 15000 + 77 + 1);
    assert_true((double)b.bytes / (double)samples <
                1.3); /* timestamps once an instance, not once a series */
    assert_ok(block_open(&block, simfs_fs(sim), cache, "d/" ULID, &err), &err);
    assert_ok(block_verify(block, &err), &err);
    for (int i = 0; i < 2; i++)
        for (int k = 1; k < 6; k++, ref++) {
            const size_t n = rows_of(k, instances[i], t, v);
            got.n = 0;
            assert_ok(block_read(block, ref, INT64_MIN, INT64_MAX, &got, scratch, &err), &err);
            assert_int_equal(got.n, n);
            assert_memory_equal(got.t, t, n * sizeof *t);
            assert_memory_equal(got.v, v, n * sizeof *v);
        }
    block_unref(block);
    samples_done(&got);
    chunk_scratch_free(scratch);
    cache_free(cache);
    free(t);
    free(v);
    simfs_free(sim);
}

static void series_out_of_order_and_samples_unheard_of_are_refused(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct storage_load *l = open_load(simfs_fs(sim));
    const int64_t t[] = {10, 20, 30}, other[] = {10, 25, 30};
    const double v[] = {1, num_from_bits(CHUNK_ABSENT_BITS), 3};
    struct storage_import_block b;
    struct fs_stat stat;
    struct one s;

    (void)state;
    assert_status(storage_load_series(l, series(&s, "a", 1), t, v, 3, &err), NX_BADINPUT);
    assert_ok(storage_load_survey(l, series(&s, "a", 1), t, 3, &err), &err);
    assert_ok(storage_load_survey(l, series(&s, "a", 2), t, 3, &err), &err);
    assert_ok(storage_load_series(l, series(&s, "a", 2), t, v, 3, &err), &err);
    assert_status(storage_load_series(l, series(&s, "a", 1), t, v, 3, &err), NX_BADINPUT);
    assert_status(storage_load_series(l, series(&s, "a", 3), other, v, 3, &err), NX_BADINPUT);
    assert_int_equal(simfs_fs(sim)->stat(simfs_fs(sim), "d/" ULID, &stat, &err), NX_NOTFOUND);
    assert_ok(storage_load_finish(l, &b, &err), &err);
    assert_true(b.samples >= 3); /* bits that stand for "no sample" became a NaN */
    storage_load_close(l);
    /* Nothing surveyed, nothing written; and without a finish nothing is left. */
    l = open_load(simfs_fs(sim));
    assert_status(storage_load_finish(l, &b, &err), NX_NOTFOUND);
    storage_load_close(l);
    storage_load_close(NULL);
    simfs_free(sim);
}

struct origins {
    char text[256];
};

static nx_status on_origin(void *ctx, const char *ulid, struct nx_err *e)
{
    struct origins *o = ctx;

    (void)e;
    strncat(o->text, ulid + 24, 2);
    return NX_OK;
}

static void origins_are_blocks_and_what_was_merged_into_them(void **state)
{
    static const char sources[2][BLOCK_ULID_LEN + 1] = {"01JGFJJZ00ABCDEFGHJKMNPQRV",
                                                        "01JGFJJZ00ABCDEFGHJKMNPQRW"};
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    const struct block_writer_opts o = {.fs = fs,
                                        .dir = "d",
                                        .ulid = ULID,
                                        .min_ms = 0,
                                        .max_ms = 100,
                                        .sources = sources,
                                        .n_sources = 2};
    struct block_writer *w;
    struct origins got = {""};
    struct one s;
    uint32_t times;

    (void)state;
    assert_ok(storage_origins(fs, "d", on_origin, &got, &err), &err);
    assert_ok(fs_mkdirs(fs, "d/01JGFJJZ00ABCDEFGHJKMNPQRX", &err), &err); /* not a block of ours */
    assert_ok(block_writer_open(&w, &o, &err), &err);
    assert_ok(block_writer_times(w, (int64_t[]){5}, 1, &times, &err), &err);
    assert_ok(block_writer_series(w, series(&s, "a", 1), &err), &err);
    assert_ok(block_writer_chunk(w, times, (double[]){5}, 1, &err), &err);
    assert_ok(block_writer_commit(w, NULL, &err), &err);
    block_writer_close(w);
    assert_ok(storage_origins(fs, "d", on_origin, &got, &err), &err);
    assert_string_equal(got.text, "RSRVRW");
    simfs_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_surveyed_is_written_to_the_bit),
        cmocka_unit_test(series_out_of_order_and_samples_unheard_of_are_refused),
        cmocka_unit_test(origins_are_blocks_and_what_was_merged_into_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
