/* test_readonly.c - a folder is read beside its owner, and nothing in it changes. */
#include "tests/support/test.h"

#include "src/base/hash.h"
#include "src/base/log.h"
#include "src/base/thread.h"
#include "storage/storage.h"
#include "tests/storage/series.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define MINUTE 60000LL
#define HOUR   3600000LL
#define T0     1700006400000LL /* a multiple of two hours */

static struct nx_err err;

static void open_owner(struct storage **s, struct fs *fs)
{
    struct storage_opts o = {.fs = fs, .dir = "data", .min_block_ms = 2 * HOUR, .no_worker = true};

    assert_ok(storage_open(s, &o, &err), &err);
}

static nx_status open_reader(struct storage **s, struct fs *fs)
{
    struct storage_opts o = {.fs = fs, .dir = "data", .min_block_ms = 2 * HOUR};

    return storage_open_readonly(s, &o, &err);
}

struct writer {
    struct storage *s;
    struct storage_group *g;
    uint32_t col;
    int64_t next; /* rows so far */
};

static void writer_open(struct writer *w, struct fs *fs)
{
    struct label l = {STR(LABEL_NAME), STR("m")};
    struct labels ls = {&l, 1};

    *w = (struct writer){0};
    open_owner(&w->s, fs);
    assert_ok(storage_group_open(w->s, &w->g, &err), &err);
    assert_ok(storage_group_column(w->g, &ls, &w->col, NULL, &err), &err);
}

/* A row a minute; the value is the row's number. */
static void write_rows(struct writer *w, int64_t n)
{
    for (int64_t end = w->next + n; w->next < end; w->next++) {
        double v = (double)w->next;
        assert_ok(storage_group_append(w->g, T0 + w->next * MINUTE, &w->col, &v, 1, NULL, &err),
                  &err);
    }
}

static void tick(struct writer *w)
{
    storage_tick(w->s, T0 + w->next * MINUTE);
}

static void writer_close(struct writer *w)
{
    storage_group_close(w->g);
    storage_close(w->s);
}

/* The reader has rows 0, 1, 2, ... without a gap and each once; returns how many. */
static int64_t rows_read(struct storage *s)
{
    struct scan x;
    int64_t n = 0;

    scan_begin(&x, s, NULL);
    assert_true(x.list.n <= 1);
    while (scan_next(&x))
        for (; n < (int64_t)x.c.n; n++) {
            assert_int_equal(x.c.t[n], T0 + n * MINUTE);
            assert_true(x.c.v[n] == (double)n);
        }
    return n;
}

/* Names and bytes of all that is in the folder. */
static uint64_t digest(struct fs *fs, const char *dir)
{
    struct fs_names names = {0};
    uint64_t h = hash_bytes(dir, strlen(dir));

    assert_ok(fs->list(fs, dir, &names, &err), &err);
    for (size_t i = 0; i < names.n; i++) {
        char path[512];
        struct fs_stat stat;
        snprintf(path, sizeof path, "%s/%s", dir, names.v[i]);
        assert_ok(fs->stat(fs, path, &stat, &err), &err);
        if (stat.is_dir) {
            h = hash_mix(h, digest(fs, path));
        } else {
            struct buf b;
            buf_init(&b, 0);
            assert_ok(fs_read_file(fs, path, &b, &err), &err);
            h = hash_mix(hash_mix(h, hash_bytes(path, strlen(path))),
                         hash_bytes(b.len ? b.ptr : "", b.len));
            buf_done(&b);
        }
    }
    fs_names_done(&names);
    return h;
}

static void a_folder_in_use_is_read_and_left_as_it_is(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct storage *reader;
    struct storage_stats stats;
    struct writer w;
    uint64_t before;

    (void)state;
    writer_open(&w, fs);
    write_rows(&w, 200); /* one span is due, the rest is in the log */
    tick(&w);
    before = digest(fs, "data");
    assert_ok(open_reader(&reader, fs), &err);
    assert_int_equal(rows_read(reader), 200);
    assert_true(digest(fs, "data") == before);
    write_rows(&w, 5); /* the owner goes on; what was opened does not move */
    assert_int_equal(rows_read(reader), 200);
    storage_close(reader);
    write_rows(&w, 300);
    tick(&w);
    assert_ok(open_reader(&reader, fs), &err);
    write_rows(&w, 240); /* the blocks that the reader has are merged and deleted */
    tick(&w);
    tick(&w);
    storage_get_stats(w.s, &stats);
    assert_true(stats.blocks < 4);
    assert_int_equal(rows_read(reader), 505);
    storage_close(reader);
    writer_close(&w);

    /* The same, with the owner away. */
    before = digest(fs, "data");
    assert_ok(open_reader(&reader, fs), &err);
    assert_int_equal(rows_read(reader), 745);
    storage_close(reader);
    assert_true(digest(fs, "data") == before);
    simfs_free(sim);
}

static void append_bytes(struct fs *fs, const char *path, const char *bytes, size_t n)
{
    struct fs_file *f;
    uint64_t size;
    size_t wrote;

    assert_ok(fs->open(fs, path, FS_READ | FS_WRITE | FS_CREATE, &f, &err), &err);
    assert_ok(fs->size(fs, f, &size, &err), &err);
    assert_ok(fs->pwrite(fs, f, bytes, n, size, &wrote, &err), &err);
    fs->close(fs, f);
}

/* What an owner would mend at its start: a torn tail, damage, and things half made. */
static void what_an_owner_would_mend_is_left_to_it(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct storage *reader;
    struct writer w;
    uint64_t before;

    (void)state;
    writer_open(&w, fs);
    write_rows(&w, 10);
    writer_close(&w);
    append_bytes(fs, "data/wal/00000001", "\x03\x7fhalf a frame", 14);
    append_bytes(fs, "data/wal/00000009", "this is no log segment at all", 29);
    append_bytes(fs, "data/wal/00000010", "", 0);
    assert_ok(fs_mkdirs(fs, "data/01JGFJJZ00ABCDEFGHJKMNPQRS.tmp-for-creation", &err), &err);
    append_bytes(fs, "data/01JGFJJZ00ABCDEFGHJKMNPQRS.tmp-for-creation/index", "x", 1);
    before = digest(fs, "data");
    assert_ok(open_reader(&reader, fs), &err);
    assert_int_equal(rows_read(reader), 10);
    storage_close(reader);
    assert_true(digest(fs, "data") == before);
    simfs_free(sim);
}

static void a_missing_folder_is_not_made(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct storage *reader;
    struct fs_stat stat;

    (void)state;
    assert_status(open_reader(&reader, simfs_fs(sim)), NX_NOTFOUND);
    assert_status(simfs_fs(sim)->stat(simfs_fs(sim), "data", &stat, &err), NX_NOTFOUND);
    simfs_free(sim);
}

/* ---- the owner moves data while a reader opens ----------------------------------------------- */

/* Calls through to simfs; before the n-th one the owner flushes spans and merges blocks. */
static struct fs *through, hooked;
static uint64_t calls, act_at;
static struct writer *actor;

static void act(void *arg)
{
    struct storage_stats before, after;

    (void)arg;
    storage_get_stats(actor->s, &before);
    write_rows(actor, 260);
    tick(actor);
    tick(actor);
    storage_get_stats(actor->s, &after);
    assert_true(after.compactions > before.compactions + 2); /* flushes, and a merge of six hours */
    assert_true(after.blocks < before.blocks + 2);
}

/* In a thread of its own, as the reader may hold locks. */
static void step(void)
{
    struct nx_thread t = {0};

    if (++calls != act_at)
        return;
    assert_ok(nx_thread_start(&t, "owner", act, NULL, &err), &err);
    nx_thread_join(&t);
}

static nx_status h_open(struct fs *fs, const char *path, int flags, struct fs_file **out,
                        struct nx_err *e)
{
    (void)fs;
    assert_int_equal(flags, FS_READ);
    step();
    return through->open(through, path, flags, out, e);
}

static void h_close(struct fs *fs, struct fs_file *f)
{
    (void)fs;
    through->close(through, f);
}

static nx_status h_pread(struct fs *fs, struct fs_file *f, void *to, size_t len, uint64_t off,
                         size_t *got, struct nx_err *e)
{
    (void)fs;
    step();
    return through->pread(through, f, to, len, off, got, e);
}

static nx_status h_size(struct fs *fs, struct fs_file *f, uint64_t *bytes, struct nx_err *e)
{
    (void)fs;
    step();
    return through->size(through, f, bytes, e);
}

static nx_status h_list(struct fs *fs, const char *path, struct fs_names *out, struct nx_err *e)
{
    (void)fs;
    step();
    return through->list(through, path, out, e);
}

static nx_status h_stat(struct fs *fs, const char *path, struct fs_stat *out, struct nx_err *e)
{
    (void)fs;
    step();
    return through->stat(through, path, out, e);
}

/* Everything else is NULL: a reader that asked for it would crash (RO1). */
static void flushes_and_merges_at_any_step_of_opening_lose_nothing(void **state)
{
    (void)state;
    hooked = (struct fs){.open = h_open,
                         .close = h_close,
                         .pread = h_pread,
                         .size = h_size,
                         .list = h_list,
                         .stat = h_stat};
    for (uint64_t at = 1;; at += TEST_STRIDE) {
        struct simfs *sim = simfs_new(3);
        struct storage *reader = NULL;
        struct writer w;
        int64_t rows;
        bool finished;

        through = simfs_fs(sim);
        writer_open(&w, through);
        write_rows(&w, 370);
        tick(&w);
        write_rows(&w, 20);
        actor = &w;
        calls = 0;
        act_at = at;
        assert_ok(open_reader(&reader, &hooked), &err);
        finished = calls < at;
        act_at = 0;
        rows = rows_read(reader);
        assert_true(rows >= 390);
        storage_close(reader);
        writer_close(&w);
        simfs_free(sim);
        if (finished)
            return;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_in_use_is_read_and_left_as_it_is),
        cmocka_unit_test(what_an_owner_would_mend_is_left_to_it),
        cmocka_unit_test(a_missing_folder_is_not_made),
        cmocka_unit_test(flushes_and_merges_at_any_step_of_opening_lose_nothing),
    };

    log_setup(LOG_ERROR_LEVEL, LOG_FORMAT_LOGFMT);
    quiet_log(); /* a try that meets a merge complains of missing blocks, and is made again */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
