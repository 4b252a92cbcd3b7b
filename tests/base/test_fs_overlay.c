/* test_fs_overlay.c - changes are seen above and never below. */
#include "tests/support/test.h"

#include "src/base/fs.h"
#include "src/base/fs_overlay.h"
#include "tests/support/simfs.h"

static struct nx_err err;
static struct simfs *sim;
static struct fs *below, *fs;

static int begin(void **state)
{
    (void)state;
    sim = simfs_new(1);
    below = simfs_fs(sim);
    assert_ok(fs_mkdirs(below, "/d/sub", &err), &err);
    assert_ok(fs_publish(below, "/d/a", "alpha", 5, &err), &err);
    assert_ok(fs_publish(below, "/d/b", "beta", 4, &err), &err);
    assert_ok(fs_publish(below, "/d/sub/c", "gamma", 5, &err), &err);
    assert_ok(fs_overlay_new(&fs, below, 1000, &err), &err);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    fs_overlay_free(fs);
    simfs_free(sim);
    return 0;
}

static void holds(struct fs *of, const char *path, const char *text)
{
    struct buf b;

    buf_init(&b, 0);
    assert_ok(fs_read_file(of, path, &b, &err), &err);
    assert_string_equal(buf_cstr(&b), text);
    buf_done(&b);
}

static void lists(struct fs *of, const char *path, const char *want)
{
    struct fs_names names = {0};
    struct buf b;

    buf_init(&b, 0);
    assert_ok(of->list(of, path, &names, &err), &err);
    for (size_t i = 0; i < names.n; i++)
        buf_printf(&b, "%s%s", i ? " " : "", names.v[i]);
    assert_string_equal(buf_cstr(&b), want);
    buf_done(&b);
    fs_names_done(&names);
}

static void below_is_as_it_was(void)
{
    lists(below, "/d", "a b sub");
    lists(below, "/d/sub", "c");
    holds(below, "/d/a", "alpha");
    holds(below, "/d/b", "beta");
    holds(below, "/d/sub/c", "gamma");
}

static void cutting_and_writing_change_only_what_is_above(void **state)
{
    struct fs_file *f, *other;
    uint64_t bytes;
    size_t wrote;

    (void)state;
    assert_ok(fs->open(fs, "/d/a", FS_READ | FS_WRITE, &f, &err), &err);
    assert_ok(fs->truncate(fs, f, 3, &err), &err);
    holds(fs, "/d/a", "alp");
    assert_ok(fs->size(fs, f, &bytes, &err), &err);
    assert_int_equal(bytes, 3);
    assert_ok(fs->open(fs, "/d/a", FS_READ, &other, &err), &err);
    assert_ok(fs->pwrite(fs, f, "XY", 2, 4, &wrote, &err), &err);
    assert_int_equal(wrote, 2);
    assert_ok(fs->size(fs, other, &bytes, &err), &err);
    assert_int_equal(bytes, 6);
    fs->close(fs, other);
    fs->close(fs, f);
    {
        struct buf b;
        buf_init(&b, 0);
        assert_ok(fs_read_file(fs, "/d/a", &b, &err), &err);
        assert_int_equal(b.len, 6);
        assert_memory_equal(b.ptr, "alp\0XY", 6); /* what was cut does not come back */
        buf_done(&b);
    }
    below_is_as_it_was();
}

static void names_change_only_above(void **state)
{
    struct fs_stat stat;
    struct fs_file *f;

    (void)state;
    assert_ok(fs->rename(fs, "/d/a", "/d/a.damaged", &err), &err);
    holds(fs, "/d/a.damaged", "alpha");
    assert_status(fs->stat(fs, "/d/a", &stat, &err), NX_NOTFOUND);
    assert_ok(fs->unlink(fs, "/d/b", &err), &err);
    assert_status(fs->open(fs, "/d/b", FS_READ, &f, &err), NX_NOTFOUND);
    assert_status(fs->unlink(fs, "/d/b", &err), NX_NOTFOUND);
    assert_ok(fs_publish(fs, "/d/new", "1", 1, &err), &err);
    lists(fs, "/d", "a.damaged new sub");
    assert_ok(fs_remove_tree(fs, "/d/sub", &err), &err);
    assert_status(fs->stat(fs, "/d/sub/c", &stat, &err), NX_NOTFOUND);
    assert_ok(fs_mkdirs(fs, "/d/made/deep", &err), &err);
    assert_ok(fs_publish(fs, "/d/made/deep/x", "2", 1, &err), &err);
    assert_ok(fs_publish(fs, "/d/b", "again", 5, &err), &err);
    lists(fs, "/d", "a.damaged b made new");
    lists(fs, "/d/made/deep", "x");
    holds(fs, "/d/b", "again");
    assert_true(fs->rmdir(fs, "/d/made", &err) != NX_OK);
    assert_ok(fs_remove_tree(fs, "/d/made", &err), &err);
    below_is_as_it_was();
}

static void a_lock_is_nobody_elses(void **state)
{
    struct fs_file *theirs, *ours;

    (void)state;
    assert_ok(below->lock(below, "/d/lock", &theirs, &err), &err);
    assert_ok(fs->lock(fs, "/d/lock", &ours, &err), &err);
    fs->unlock(fs, ours);
    below->unlock(below, theirs);
}

static void what_is_kept_has_a_bound(void **state)
{
    static const char big[2000];
    struct fs_file *f;
    size_t wrote;

    (void)state;
    assert_ok(fs->open(fs, "/d/big", FS_WRITE | FS_CREATE, &f, &err), &err);
    assert_ok(fs->write(fs, f, big, 400, &wrote, &err), &err);
    assert_status(fs->write(fs, f, big, sizeof big, &wrote, &err), NX_NOSPACE);
    assert_int_equal(wrote, 0);
    fs->close(fs, f);
    below_is_as_it_was();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cutting_and_writing_change_only_what_is_above, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(names_change_only_above, begin, finish),
        cmocka_unit_test_setup_teardown(a_lock_is_nobody_elses, begin, finish),
        cmocka_unit_test_setup_teardown(what_is_kept_has_a_bound, begin, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
