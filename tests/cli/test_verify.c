/* test_verify.c - `tsdb verify` on a folder with files of every kind: each of them, damaged anywhere, is
 * named. (Blocks, to the byte: tests/storage/test_verify.c.) */
#include "tests/support/test.h"

#include <fcntl.h>
#include <unistd.h>

#include "src/base/log.h"
#include "src/cli/tool.h"
#include "storage/storage.h"

#define MINUTE 60000LL
#define STEP   (MINUTE / 2) /* between rows */
#define HOUR   3600000LL
#define T0     1700006400000LL /* a multiple of two hours */
#define PLACES 6u              /* of each file */

static struct nx_err err;
static struct test_tmpdir tmp;
static char data[300];

/* ---- a folder -------------------------------------------------------------------------------- */

static void write_rows(struct storage *s, struct storage_group *g, const uint32_t *cols, size_t n,
                       int64_t from, int64_t rows)
{
    double v[8];

    assert_true(n <= NX_COUNT(v));
    for (int64_t i = 0; i < rows; i++) {
        for (size_t k = 0; k < n; k++)
            v[k] = (double)(i * (int64_t)(k + 1)) / 4;
        assert_ok(storage_group_append(g, from + i * STEP, cols, v, n, NULL, &err), &err);
        if (i % 60 == 0)
            storage_tick(s, from + i * STEP);
    }
}

static void delete_some(struct storage *s, int64_t from, int64_t to)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR("i"), .value = STR("2")};
    struct matcher_set set = {&m, 1};

    assert_ok(storage_delete(s, &set, 1, from, to, &err), &err);
}

/* A block with tombstones, a chunk file, a log, the note on what blocks hold, deletions of what is not in a block. */
static void make_folder(void)
{
    struct storage_opts o = {
        .fs = fs_real(), .dir = data, .min_block_ms = 2 * HOUR, .no_worker = true};
    struct storage_group *g;
    struct storage *s;
    uint32_t cols[5];

    assert_ok(storage_open(&s, &o, &err), &err);
    assert_ok(storage_group_open(s, &g, &err), &err);
    for (unsigned i = 0; i < NX_COUNT(cols); i++) {
        char text[8];
        struct label v[2] = {{STR(LABEL_NAME), STR("m")}, {STR("i"), {0}}};
        struct labels ls = {v, 2};
        snprintf(text, sizeof text, "%u", i);
        v[1].value = STR(text);
        assert_ok(storage_group_column(g, &ls, &cols[i], NULL, &err), &err);
    }
    write_rows(s, g, cols, NX_COUNT(cols), T0, 470);
    delete_some(s, T0 + 10 * MINUTE, T0 + 20 * MINUTE);
    delete_some(s, T0 + 200 * MINUTE, T0 + 205 * MINUTE);
    write_rows(s, g, cols, NX_COUNT(cols), T0 + 235 * MINUTE, 5);
    storage_group_close(g);
    storage_close(s);
}

static int begin(void **state)
{
    (void)state;
    test_tmpdir_new(&tmp);
    snprintf(data, sizeof data, "%s/data", tmp.path);
    make_folder();
    return 0;
}

static int finish(void **state)
{
    (void)state;
    test_tmpdir_done(&tmp);
    return 0;
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Runs `tsdb verify`; what it printed is in *out (to be freed). */
static int verify(const char *flag, char **out)
{
    char path[400];
    const char *argv[] = {"tsdb", "verify", data, flag};
    struct buf text;
    int kept, fd, code;

    snprintf(path, sizeof path, "%s/out", tmp.path);
    fflush(stdout);
    kept = dup(STDOUT_FILENO);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(kept >= 0 && fd >= 0);
    assert_true(dup2(fd, STDOUT_FILENO) == STDOUT_FILENO);
    code = tool_main(flag ? 4 : 3, (char **)(uintptr_t)argv);
    fflush(stdout);
    assert_true(dup2(kept, STDOUT_FILENO) == STDOUT_FILENO);
    close(kept);
    close(fd);
    buf_init(&text, 0);
    assert_ok(fs_read_file(fs_real(), path, &text, &err), &err);
    *out = strdup(buf_cstr(&text));
    buf_done(&text);
    return code;
}

static void is_good(void)
{
    char *out;
    int code = verify(NULL, &out);

    if (code)
        fail_msg("a good folder: %s", out);
    assert_non_null(strstr(out, "\nno problems\n"));
    free(out);
}

static void flip_and_verify(const char *path, uint64_t at, uint8_t mask)
{
    struct fs *fs = fs_real();
    struct fs_file *f;
    uint8_t byte;
    size_t n;
    char *out;
    int code;

    assert_ok(fs->open(fs, path, FS_READ | FS_WRITE, &f, &err), &err);
    assert_ok(fs->pread(fs, f, &byte, 1, at, &n, &err), &err);
    byte ^= mask;
    assert_ok(fs->pwrite(fs, f, &byte, 1, at, &n, &err), &err);
    code = verify(NULL, &out);
    byte ^= mask;
    assert_ok(fs->pwrite(fs, f, &byte, 1, at, &n, &err), &err);
    fs->close(fs, f);
    if (code != 1 || !strstr(out, path))
        fail_msg("%s: bit %02x of byte %llu: code %d: %s", path, mask, (unsigned long long)at, code,
                 out);
    free(out);
}

/* Some places of every file below `dir`; returns how many files. */
static unsigned flip_in(const char *dir)
{
    struct fs *fs = fs_real();
    struct fs_names names = {0};
    unsigned files = 0;

    assert_ok(fs->list(fs, dir, &names, &err), &err);
    for (size_t i = 0; i < names.n; i++) {
        char path[600];
        struct fs_stat stat;
        snprintf(path, sizeof path, "%s/%s", dir, names.v[i]);
        assert_ok(fs->stat(fs, path, &stat, &err), &err);
        if (stat.is_dir)
            files += flip_in(path);
        else if (stat.bytes > 16) { /* the lock is empty, and so is a segment without frames */
            for (unsigned k = 0; k < PLACES; k++)
                flip_and_verify(path, k * (stat.bytes - 1) / (PLACES - 1), (uint8_t)(1u << k));
            files++;
        }
    }
    fs_names_done(&names);
    return files;
}

static bool has_file(const char *name)
{
    char path[600];
    struct fs_stat stat;

    snprintf(path, sizeof path, "%s/%s", data, name);
    return fs_real()->stat(fs_real(), path, &stat, &err) == NX_OK && stat.bytes > 16;
}

static void damage_in_any_file_is_told_with_its_name(void **state)
{
    (void)state;
    is_good();
    assert_true(has_file("wal/flushed") && has_file("wal/deleted"));
    assert_true(has_file("head/00000002"));
    /* those, a segment of the log; meta.json, index, chunks and tombstones of a block */
    assert_in_range(flip_in(data), 8, 30);
    is_good();
}

static void a_log_that_was_cut_is_told(void **state)
{
    struct fs *fs = fs_real();
    struct fs_names names = {0};
    char dir[400], path[600], *out;
    struct fs_file *f;
    uint64_t size;

    (void)state;
    snprintf(dir, sizeof dir, "%s/wal", data);
    assert_ok(fs->list(fs, dir, &names, &err), &err);
    for (size_t i = names.n; i-- > 0;) {
        if (names.v[i][0] != '0')
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, names.v[i]);
        assert_ok(fs->open(fs, path, FS_READ | FS_WRITE, &f, &err), &err);
        assert_ok(fs->size(fs, f, &size, &err), &err);
        if (size > 40)
            break;
        fs->close(fs, f);
    }
    assert_ok(fs->truncate(fs, f, size - 3, &err), &err);
    fs->close(fs, f);
    assert_int_equal(verify("--json", &out), 1);
    assert_non_null(strstr(out, "{\"problems\":[{\"file\":\""));
    assert_non_null(strstr(out, path));
    assert_non_null(strstr(out, "\"offset\":"));
    assert_non_null(strstr(out, "ends within a frame"));
    free(out);
    fs_names_done(&names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(damage_in_any_file_is_told_with_its_name, begin, finish),
        cmocka_unit_test_setup_teardown(a_log_that_was_cut_is_told, begin, finish),
    };

    log_setup(LOG_ERROR_LEVEL, LOG_FORMAT_LOGFMT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
