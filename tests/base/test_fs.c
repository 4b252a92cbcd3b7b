/* test_fs.c - the real file system, and what is built on any: whole files, trees, publishing. */
#include "tests/support/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "src/base/fs.h"
#include "tests/support/oom.h"
#include "tests/support/simfs.h"

static struct nx_err err;
static struct test_tmpdir tmp;

static int begin(void **state)
{
    (void)state;
    test_tmpdir_new(&tmp);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    test_tmpdir_done(&tmp);
    return 0;
}

/* A path in the test's folder; a few live at a time. */
static const char *in_tmp(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *p = paths[next++ % 4];

    snprintf(p, sizeof paths[0], "%s/%s", tmp.path, name);
    return p;
}

static void removing_a_tree_does_not_follow_links(void **state)
{
    struct fs *fs = fs_real();
    struct fs_stat sb;

    (void)state;
    assert_ok(fs_mkdirs(fs, in_tmp("keep"), &err), &err);
    assert_ok(fs_publish(fs, in_tmp("keep/file"), "x", 1, &err), &err);
    assert_ok(fs_mkdirs(fs, in_tmp("tree/a/b"), &err), &err);
    assert_int_equal(symlink(in_tmp("keep"), in_tmp("tree/a/link")), 0);
    assert_int_equal(symlink("/nowhere", in_tmp("tree/dangling")), 0);
    assert_ok(fs_remove_tree(fs, in_tmp("tree"), &err), &err);
    assert_status(fs->stat(fs, in_tmp("tree"), &sb, &err), NX_NOTFOUND);
    assert_ok(fs->stat(fs, in_tmp("keep/file"), &sb, &err), &err);
}

static void errors_name_the_path(void **state)
{
    struct fs *fs = fs_real();
    struct fs_file *f;

    (void)state;
    assert_status(fs->open(fs, "/nowhere/file", FS_READ, &f, &err), NX_NOTFOUND);
    assert_string_equal(err.text, "opening /nowhere/file: No such file or directory");
    assert_ok(fs->open(fs, "/dev/full", FS_WRITE, &f, &err), &err);
    size_t wrote = 7;
    assert_status(fs->write(fs, f, "x", 1, &wrote, &err), NX_NOSPACE);
    assert_string_equal(err.text, "writing /dev/full: No space left on device");
    assert_int_equal(wrote, 0);
    fs->close(fs, f);
}

static void files_are_closed_on_exec(void **state)
{
    struct fs *fs = fs_real();
    struct fs_file *f, *lock;
    char command[600];

    (void)state;
    assert_ok(fs->open(fs, in_tmp("open"), FS_WRITE | FS_CREATE, &f, &err), &err);
    assert_ok(fs->lock(fs, in_tmp("lock"), &lock, &err), &err);
    snprintf(command, sizeof command, "! ls -l /proc/self/fd | grep -q %s", tmp.path);
    assert_int_equal(system(command), 0);
    fs->close(fs, f);
    fs->unlock(fs, lock);
}

static void reading_a_file_keeps_to_the_limit(void **state)
{
    struct fs *fs = fs_real();

    (void)state;
    assert_ok(fs_publish(fs, in_tmp("f"), "0123456789", 10, &err), &err);
    for (size_t limit = 1; limit < 20; limit++) {
        struct buf b;
        nx_status st;

        buf_init(&b, limit);
        buf_char(&b, '>');
        st = fs_read_file(fs, in_tmp("f"), &b, &err);
        assert_int_equal(st, limit < 11 ? NX_LIMIT : NX_OK);
        assert_buf(&b, st ? ">" : ">0123456789", "content");
        if (st)
            assert_non_null(strstr(err.text, "/f"));
        buf_done(&b);
    }
}

static void files_that_do_not_tell_their_size_are_read_too(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 20);
    assert_ok(fs_read_file(fs_real(), "/proc/self/status", &b, &err), &err);
    assert_non_null(strstr(buf_cstr(&b), "VmRSS"));
    buf_done(&b);
}

static void a_large_file_is_read_whole(void **state)
{
    size_t n = 300000;
    char *text = malloc(n);
    struct buf b;

    (void)state;
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(i * 31 % 251);
    assert_ok(fs_publish(fs_real(), in_tmp("f"), text, n, &err), &err);
    buf_init(&b, 0);
    assert_ok(fs_read_file(fs_real(), in_tmp("f"), &b, &err), &err);
    assert_int_equal(b.len, n);
    assert_memory_equal(b.ptr, text, n);
    buf_done(&b);
    free(text);
}

/* Publishing with the n-th operation failing: an error, the old content, no leftover once healed. */
static void publishing_that_fails_leaves_the_old_file(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct simfs *sim = simfs_new(n);
        struct fs *fs = simfs_fs(sim);
        struct fs_names names;
        struct buf b;
        bool failed;
        nx_status st;

        assert_ok(fs->mkdir(fs, "d", &err), &err);
        assert_ok(fs_publish(fs, "d/f", "old", 3, &err), &err);
        simfs_fail_at(sim, n);
        st = fs_publish(fs, "d/f", "new", 3, &err);
        failed = simfs_failed(sim);
        assert_int_equal(st, failed ? NX_IO : NX_OK);
        simfs_heal(sim);
        buf_init(&b, 100);
        assert_ok(fs_read_file(fs, "d/f", &b, &err), &err);
        assert_true(nx_slice_is(buf_view(&b), "new") ||
                    (failed && nx_slice_is(buf_view(&b), "old")));
        buf_done(&b);
        assert_ok(fs->list(fs, "d", &names, &err), &err);
        assert_int_equal(names.n, 1);
        fs_names_done(&names);
        simfs_free(sim);
        if (!failed) {
            assert_int_equal(n, 6); /* open, write, sync, rename, sync_dir */
            return;
        }
    }
}

static void publishing_to_a_full_disk_leaves_the_old_file(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct buf b;

    (void)state;
    assert_ok(fs_publish(fs, "f", "old", 3, &err), &err);
    simfs_set_space(sim, 5);
    assert_status(fs_publish(fs, "f", "new text", 8, &err), NX_NOSPACE);
    assert_int_equal(simfs_used(sim), 3); /* what was written in vain is gone */
    buf_init(&b, 100);
    assert_ok(fs_read_file(fs, "f", &b, &err), &err);
    assert_buf(&b, "old", "f");
    buf_done(&b);
    simfs_free(sim);
}

/* Each call over both file systems, out of memory at every allocation. */
static void out_of_memory_is_an_error_like_any_other(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *both[] = {fs_real(), simfs_fs(sim)};

    (void)state;
    assert_ok(fs_mkdirs(both[1], tmp.path, &err), &err);
    for (size_t i = 0; i < NX_COUNT(both); i++) {
        struct fs *fs = both[i];

        for (unsigned n = 1;; n++) {
            struct fs_names names = {0};
            struct buf b;
            nx_status st;
            bool hit;

            buf_init(&b, 0);
            oom_fail_at(n);
            st = fs_mkdirs(fs, in_tmp("x/y"), &err);
            st = st ? st : fs_publish(fs, in_tmp("x/y/f"), "abc", 3, &err);
            st = st ? st : fs_read_file(fs, in_tmp("x/y/f"), &b, &err);
            st = st ? st : fs->list(fs, in_tmp("x/y"), &names, &err);
            st = st ? st : fs_remove_tree(fs, in_tmp("x"), &err);
            hit = oom_off();
            assert_int_equal(st, hit ? NX_NOMEM : NX_OK);
            buf_done(&b);
            fs_names_done(&names);
            if (!hit) {
                assert_in_range(n, 5, 40);
                break;
            }
        }
    }
    simfs_free(sim);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, finish)
    const struct CMUnitTest tests[] = {
        TEST(removing_a_tree_does_not_follow_links),
        TEST(errors_name_the_path),
        TEST(files_are_closed_on_exec),
        TEST(reading_a_file_keeps_to_the_limit),
        TEST(files_that_do_not_tell_their_size_are_read_too),
        TEST(a_large_file_is_read_whole),
        TEST(publishing_that_fails_leaves_the_old_file),
        TEST(publishing_to_a_full_disk_leaves_the_old_file),
        TEST(out_of_memory_is_an_error_like_any_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
