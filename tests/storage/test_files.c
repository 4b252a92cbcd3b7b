/* test_files.c - a bounded number of open files: in a pool by itself, and under a store of many blocks. */
#include "tests/support/test.h"

#include <dirent.h>

#include "src/base/log.h"
#include "src/base/thread.h"
#include "storage/block.h"
#include "storage/files.h"
#include "tests/support/oom.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define N   20
#define MAX 4

static struct nx_err err;

static void put_files(struct fs *fs, char paths[N][16])
{
    for (int i = 0; i < N; i++) {
        snprintf(paths[i], 16, "f%d", i);
        assert_ok(fs_publish(fs, paths[i], paths[i], strlen(paths[i]), &err), &err);
    }
}

static void reads_its_name(struct lazy_file *f)
{
    struct fs_file *file;
    char text[16] = "";
    size_t got;

    assert_ok(lazy_file_get(f, &file, &err), &err);
    assert_ok(f->fs->pread(f->fs, file, text, sizeof text - 1, 0, &got, &err), &err);
    assert_string_equal(text, f->path);
    lazy_file_put(f);
}

static void idle_files_are_closed_and_opened_again(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct files *pool = files_new(MAX);
    struct lazy_file f[N];
    struct test_random rnd = {1};
    struct fs_file *file;
    char paths[N][16];

    (void)state;
    put_files(simfs_fs(sim), paths);
    for (int i = 0; i < N; i++)
        lazy_file_init(&f[i], pool, simfs_fs(sim), paths[i]);
    assert_int_equal(files_open(pool), 0);
    for (int i = 0; i < 500; i++) {
        reads_its_name(&f[test_random_below(&rnd, N)]);
        assert_in_range(files_open(pool), 1, MAX);
    }
    for (int i = 0; i < N; i++) /* pinned: as many as are needed */
        assert_ok(lazy_file_get(&f[i], &file, &err), &err);
    assert_int_equal(files_open(pool), N);
    for (int i = 0; i < N; i++)
        lazy_file_put(&f[i]);
    assert_int_equal(files_open(pool), MAX);
    /* the newest stayed: reading them opens nothing */
    uint64_t ops = simfs_ops(sim);
    for (int i = N - MAX; i < N; i++)
        reads_its_name(&f[i]);
    assert_int_equal(simfs_ops(sim) - ops, MAX);
    for (int i = 0; i < N; i++)
        lazy_file_done(&f[i]);
    assert_int_equal(files_open(pool), 0);
    files_free(pool);
    simfs_free(sim);
}

static void a_kept_file_outlives_its_name(void **state)
{
    struct simfs *sim = simfs_new(2);
    struct fs *fs = simfs_fs(sim);
    struct files *pool = files_new(MAX);
    struct lazy_file f[N];
    struct fs_file *file;
    char paths[N][16];

    (void)state;
    put_files(fs, paths);
    for (int i = 0; i < N; i++)
        lazy_file_init(&f[i], pool, fs, paths[i]);
    assert_ok(lazy_file_keep(&f[0], &err), &err);
    assert_ok(fs->unlink(fs, paths[0], &err), &err);
    assert_ok(fs->unlink(fs, paths[1], &err), &err);
    for (int i = 2; i < N; i++)
        reads_its_name(&f[i]);
    reads_its_name(&f[0]);
    assert_status(lazy_file_get(&f[1], &file, &err), NX_NOTFOUND);
    for (int i = 0; i < N; i++)
        lazy_file_done(&f[i]);
    files_free(pool);
    simfs_free(sim);
}

struct user {
    struct lazy_file *f;
    uint64_t seed;
    bool ok;
};

static void read_on(void *ctx)
{
    struct user *r = ctx;
    struct test_random rnd = {r->seed};

    r->ok = true;
    for (int i = 0; i < 2000 && r->ok; i++) {
        struct lazy_file *f = &r->f[test_random_below(&rnd, N)];
        struct fs_file *file;
        char text[16] = "";
        size_t got;
        r->ok = lazy_file_get(f, &file, NULL) == NX_OK &&
                f->fs->pread(f->fs, file, text, sizeof text - 1, 0, &got, NULL) == NX_OK &&
                strcmp(text, f->path) == 0;
        if (r->ok)
            lazy_file_put(f);
    }
}

static void threads_share_a_pool(void **state)
{
    struct simfs *sim = simfs_new(3);
    struct files *pool = files_new(MAX);
    struct lazy_file f[N];
    struct user r[4];
    struct nx_thread threads[4] = {0};
    char paths[N][16];

    (void)state;
    put_files(simfs_fs(sim), paths);
    for (int i = 0; i < N; i++)
        lazy_file_init(&f[i], pool, simfs_fs(sim), paths[i]);
    for (uint64_t i = 0; i < 4; i++) {
        r[i] = (struct user){f, i + 1, false};
        assert_ok(nx_thread_start(&threads[i], "reader", read_on, &r[i], &err), &err);
    }
    for (int i = 0; i < 4; i++)
        nx_thread_join(&threads[i]);
    for (int i = 0; i < 4; i++)
        assert_true(r[i].ok);
    assert_in_range(files_open(pool), 1, MAX);
    for (int i = 0; i < N; i++)
        lazy_file_done(&f[i]);
    files_free(pool);
    simfs_free(sim);
}

/* ---- a store of many blocks ------------------------------------------------------------------ */

#define BLOCKS  200
#define SPAN_MS 7200000
#define T0      (1700000000000LL / SPAN_MS * SPAN_MS)

static void write_block(struct fs *fs, const char *dir, int64_t min_ms)
{
    struct block_writer_opts o = {
        .fs = fs, .dir = dir, .min_ms = min_ms, .max_ms = min_ms + SPAN_MS, .fast = true};
    struct block_writer *w;
    struct label l = {STR(LABEL_NAME), STR("m")};
    const double v = 1;
    uint32_t times;

    assert_ok(block_writer_open(&w, &o, &err), &err);
    assert_ok(block_writer_times(w, &min_ms, 1, &times, &err), &err);
    assert_ok(block_writer_series(w, &(struct labels){&l, 1}, &err), &err);
    assert_ok(block_writer_chunk(w, times, &v, 1, &err), &err);
    assert_ok(block_writer_commit(w, NULL, &err), &err);
    block_writer_close(w);
}

static size_t open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static size_t read_all(struct querier *q)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    size_t n = 0;

    assert_ok(q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, &err), &err);
    for (size_t i = 0; i < list.n; i++) {
        assert_ok(q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &c, &err), &err);
        n += c.n;
    }
    column_done(&c);
    arena_free(a);
    return n;
}

static void many_blocks_need_few_descriptors(void **state)
{
    struct test_tmpdir tmp;
    struct storage_opts o = {.fs = fs_real(), .min_block_ms = SPAN_MS, .no_worker = true};
    struct storage *s;
    struct storage_stats st;
    struct querier *before, *after;
    size_t fds;

    (void)state;
    test_tmpdir_new(&tmp);
    o.dir = tmp.path;
    for (int i = 0; i < BLOCKS; i++)
        write_block(fs_real(), tmp.path, T0 + (int64_t)i * SPAN_MS);
    fds = open_descriptors();
    quiet_log();
    assert_ok(storage_open(&s, &o, &err), &err);
    storage_get_stats(s, &st);
    assert_int_equal(st.blocks, BLOCKS);
    assert_in_range(open_descriptors() - fds, 1, 300);
    assert_ok(storage_querier(s, INT64_MIN, INT64_MAX, &before, &err), &err);
    assert_int_equal(read_all(before), BLOCKS);
    assert_in_range(open_descriptors() - fds, 1, 300);
    storage_tick(s, T0); /* merges all that it can, and deletes those blocks */
    storage_get_stats(s, &st);
    assert_true(st.blocks < BLOCKS / 4);
    assert_ok(storage_querier(s, INT64_MIN, INT64_MAX, &after, &err), &err);
    assert_int_equal(read_all(before), BLOCKS); /* of files that have no name any more */
    assert_int_equal(read_all(after), BLOCKS);
    querier_close(before);
    querier_close(after);
    assert_in_range(open_descriptors() - fds, 1, 300);
    storage_close(s);
    assert_int_equal(open_descriptors(), fds);
    log_capture(NULL, NULL);
    test_tmpdir_done(&tmp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_files_are_closed_and_opened_again),
        cmocka_unit_test(a_kept_file_outlives_its_name),
        cmocka_unit_test(threads_share_a_pool),
        cmocka_unit_test(many_blocks_need_few_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
