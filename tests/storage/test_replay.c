/* test_replay.c - logs that a start finds seldom: one of the first version, one whose group has used up its numbers of
 * rows; and what is appended while a block is written. */
#include "tests/support/test.h"

#include "src/base/hash.h"
#include "storage/storage_impl.h"
#include "tests/storage/series.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define T0       1700000000000LL
#define BLOCK_MS 10000

static struct nx_err err;

static struct storage *open_store(struct fs *fs, int64_t window_ms)
{
    struct storage_opts o = {.fs = fs,
                             .dir = "data",
                             .min_block_ms = BLOCK_MS,
                             .out_of_order_window_ms = window_ms,
                             .no_worker = true};
    struct storage *s = NULL;

    assert_ok(storage_open(&s, &o, &err), &err);
    return s;
}

static uint32_t column_of(struct storage_group *g, const char *name)
{
    struct label l = {STR(LABEL_NAME), STR(name)};
    uint32_t col = 0;

    assert_ok(storage_group_column(g, &(struct labels){&l, 1}, &col, NULL, &err), &err);
    return col;
}

/* "0=1 15000=1 " */
static const char *samples_of(struct storage *s, const char *name)
{
    static char text[2000];
    struct scan x;
    size_t len = 0;

    text[0] = 0;
    scan_begin(&x, s, name);
    assert_true(x.list.n <= 1);
    while (scan_next(&x))
        for (size_t i = 0; i < x.c.n && len < sizeof text - 64; i++)
            len += (size_t)snprintf(text + len, sizeof text - len, "%lld=%g ",
                                    (long long)(x.c.t[i] - T0), x.c.v[i]);
    return text;
}

/* ---- version 1 of the log ---------------------------------------------------------------------- */

static void frame(struct buf *to, uint8_t type, const void *payload, size_t n)
{
    size_t start = to->len;

    buf_u8(to, type);
    buf_uvarint(to, n);
    buf_append(to, payload, n);
    buf_u32le(to, crc32c(0, to->ptr + start, to->len - start));
}

/* As FORMAT.md has it: the series `up` and `temperature`, rows at 0, 15 s, and once more at 15 s, which is dropped. */
static void put_version_1(struct buf *to)
{
    static const char columns[] = "\x07"                       /* group 7 */
                                  "\x00\x01\x08__name__\x02up" /* column 0, one label */
                                  "\x01\x01\x08__name__\x0btemperature";
    static const char row[] = "\x09"          /* an integer, then anything else */
                              "\x02"          /* 1 - 0 */
                              "\x01\xae\x03"; /* one digit: 215 - 0 */
    static const char next[] = "\x08"         /* the same, then anything else */
                               "\x02\x32";    /* two digits: 2175 - 2150 */
    static const char again[] = "\x08"
                                "\x02\x00";
    struct buf p;

    buf_u32le(to, 0x4c57584e); /* NXWL */
    buf_u32le(to, 1);
    buf_u32le(to, 1);
    buf_u32le(to, crc32c(0, to->ptr, 12));
    frame(to, 1, "\x07", 1);
    frame(to, 2, columns, sizeof columns - 1);
    buf_init(&p, 0);
    buf_uvarint(&p, 7);
    buf_varint(&p, T0);
    buf_uvarint(&p, 2);
    buf_append(&p, row, sizeof row - 1);
    frame(to, 3, p.ptr, p.len);
    for (int i = 0; i < 2; i++) {
        buf_clear(&p);
        buf_uvarint(&p, 7);
        buf_varint(&p, i ? 0 : 3000);
        buf_uvarint(&p, 2);
        if (i)
            buf_append(&p, again, sizeof again - 1);
        else
            buf_append(&p, next, sizeof next - 1);
        frame(to, 3, p.ptr, p.len);
    }
    buf_done(&p);
}

static void a_log_of_version_1_is_read_and_goes_on(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct storage_group *g;
    struct storage *s;
    struct buf log;
    uint32_t col;
    double v = 22;

    (void)state;
    buf_init(&log, 0);
    put_version_1(&log);
    assert_ok(fs_mkdirs(fs, "data/wal", &err), &err);
    assert_ok(fs_publish(fs, "data/wal/00000001", log.ptr, log.len, &err), &err);
    for (int start = 0; start < 3;
         start++) { /* from the log, from a chunk file, and with what came since */
        s = open_store(fs, 0);
        assert_string_equal(samples_of(s, "up"), "0=1 3000=1 ");
        assert_string_equal(samples_of(s, "temperature"),
                            start < 2 ? "0=21.5 3000=21.75 " : "0=21.5 3000=21.75 4000=22 ");
        if (start == 0)
            storage_tick(s, T0 + 3000);
        if (start == 1) {
            assert_ok(storage_group_open(s, &g, &err), &err);
            col = column_of(g, "temperature");
            assert_ok(storage_group_append(g, T0 + 4000, &col, &v, 1, NULL, &err), &err);
            storage_group_close(g);
        }
        storage_close(s);
    }
    buf_done(&log);
    simfs_free(sim);
}

/* ---- the last row ------------------------------------------------------------------------------ */

static void a_group_ends_before_its_numbers_do(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct storage *s = open_store(simfs_fs(sim), 0);
    struct storage_group *g;
    uint32_t col;
    double v = 1;

    (void)state;
    assert_ok(storage_group_open(s, &g, &err), &err);
    col = column_of(g, "m");
    assert_ok(storage_group_append(g, T0, &col, &v, 1, NULL, &err), &err);
    nx_lock(g->lock); /* as if the rows between were in blocks */
    assert_ok(group_seal_locked(g, &err), &err);
    g->sealed = g->next_row = GROUP_MAX_ROWS - 2;
    g->wal_segment = 0;
    nx_unlock(g->lock);
    assert_ok(storage_group_append(g, T0 + 1000, &col, &v, 1, NULL, &err), &err);
    assert_ok(storage_group_append(g, T0 + 2000, &col, &v, 1, NULL, &err), &err);
    assert_status(storage_group_append(g, T0 + 3000, &col, &v, 1, NULL, &err), NX_LIMIT);
    storage_group_close(g);
    for (int start = 0; start < 3; start++) { /* from the log and from a chunk file */
        storage_close(s);
        s = open_store(simfs_fs(sim), 0);
        assert_string_equal(samples_of(s, "m"), "0=1 1000=1 2000=1 ");
        storage_tick(s, T0 + 2000);
    }
    assert_ok(storage_group_open(s, &g, &err), &err); /* another group takes the series */
    col = column_of(g, "m");
    assert_ok(storage_group_append(g, T0 + 3000, &col, &v, 1, NULL, &err), &err);
    assert_string_equal(samples_of(s, "m"), "0=1 1000=1 2000=1 3000=1 ");
    storage_group_close(g);
    storage_close(s);
    simfs_free(sim);
}

/* ---- appending while a block is written (F2 of flush.c) ------------------------------------------ */

/* The simulated disk, made to append a sample of the span that is being written before it makes, renames or syncs. */
struct meddler {
    struct fs under; /* as it was */
    struct storage_group *g;
    uint32_t col;
    int64_t next_ms, end_ms;
    unsigned tried, taken, refused;
};
static struct meddler meddler;

static void meddle(void)
{
    struct storage_group *g = meddler.g;
    struct storage_appended res = {0};
    double v = 7;

    if (!g || meddler.next_ms >= meddler.end_ms)
        return;
    meddler.g = NULL; /* the append works on files, too */
    assert_ok(storage_group_append(g, meddler.next_ms, &meddler.col, &v, 1, &res, &err), &err);
    meddler.next_ms += 10;
    meddler.tried++;
    meddler.taken += res.appended;
    meddler.refused += res.out_of_bounds;
    meddler.g = g;
}

static nx_status meddling_rename(struct fs *fs, const char *from, const char *to, struct nx_err *e)
{
    meddle();
    return meddler.under.rename(fs, from, to, e);
}

static nx_status meddling_mkdir(struct fs *fs, const char *path, struct nx_err *e)
{
    meddle();
    return meddler.under.mkdir(fs, path, e);
}

static nx_status meddling_sync_dir(struct fs *fs, const char *path, struct nx_err *e)
{
    meddle();
    return meddler.under.sync_dir(fs, path, e);
}

/* What comes for the span meanwhile is refused or, with a window, kept: what was taken is never lost. */
static void what_is_taken_while_a_block_is_written_is_there(void **state)
{
    (void)state;
    for (int64_t window_ms = 0; window_ms <= 100000; window_ms += 100000) {
        struct simfs *sim = simfs_new(1);
        struct storage *s;
        struct storage_group *g, *other;
        struct storage_stats st;
        uint32_t col, late;
        double v = 1;
        char want[2000] = "";
        size_t len = 0;
        struct fs *fs = simfs_fs(sim);
        meddler = (struct meddler){.under = *fs};
        fs->rename = meddling_rename;
        fs->mkdir = meddling_mkdir;
        fs->sync_dir = meddling_sync_dir;
        s = open_store(fs, window_ms);
        assert_ok(storage_group_open(s, &g, &err), &err);
        assert_ok(storage_group_open(s, &other, &err), &err);
        col = column_of(g, "m");
        late = column_of(other, "late");
        for (int64_t t = 0; t < BLOCK_MS + BLOCK_MS / 2 + 1000; t += 1000) {
            assert_ok(storage_group_append(g, T0 + t, &col, &v, 1, NULL, &err), &err);
            if (t == BLOCK_MS + BLOCK_MS / 2) { /* the first span is due */
                meddler.col = late;
                meddler.next_ms = T0 + 9000;
                meddler.end_ms = T0 + BLOCK_MS;
                meddler.g = other;
            }
            storage_tick(s, T0 + t);
        }
        meddler.g = NULL;
        storage_get_stats(s, &st);
        assert_int_equal(st.blocks, 1);
        assert_true(meddler.tried >= 5);
        assert_int_equal(window_ms ? meddler.taken : meddler.refused, meddler.tried);
        for (unsigned i = 0; i < meddler.taken; i++)
            len += (size_t)snprintf(want + len, sizeof want - len, "%u=7 ", 9000 + i * 10);
        assert_string_equal(samples_of(s, "late"), want);
        storage_group_close(g);
        storage_group_close(other);
        storage_close(s);
        simfs_restart(sim);
        s = open_store(fs, window_ms);
        assert_string_equal(samples_of(s, "late"), want);
        storage_close(s);
        simfs_free(sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_of_version_1_is_read_and_goes_on),
        cmocka_unit_test(a_group_ends_before_its_numbers_do),
        cmocka_unit_test(what_is_taken_while_a_block_is_written_is_there),
    };
    quiet_log();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
