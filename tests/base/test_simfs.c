/* test_simfs.c - the simulated file system itself: what it may lose, and what it must not. */
#include "tests/support/test.h"

#include "tests/support/simfs.h"

static struct nx_err err;

static struct fs_file *open_file(struct fs *fs, const char *path, int flags)
{
    struct fs_file *f = NULL;

    assert_ok(fs->open(fs, path, flags, &f, &err), &err);
    return f;
}

static void put(struct fs *fs, struct fs_file *f, const char *text)
{
    size_t wrote;

    assert_ok(fs->write(fs, f, text, strlen(text), &wrote, &err), &err);
    assert_int_equal(wrote, strlen(text));
}

/* The content of a file, or NULL if there is none; the caller frees. */
static char *content(struct fs *fs, const char *path)
{
    struct buf b;
    nx_status st;
    char *text;

    buf_init(&b, 1 << 20);
    st = fs_read_file(fs, path, &b, &err);
    text = st ? NULL : strdup(buf_cstr(&b));
    buf_done(&b);
    if (st)
        assert_int_equal(st, NX_NOTFOUND);
    return text;
}

static void assert_content(struct fs *fs, const char *path, const char *want)
{
    char *got = content(fs, path);

    assert_non_null(got);
    assert_string_equal(got, want);
    free(got);
}

static void synced_bytes_under_a_synced_name_survive_any_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct simfs *sim = simfs_new(seed);
        struct fs *fs = simfs_fs(sim);
        struct fs_file *f;

        assert_ok(fs->mkdir(fs, "d", &err), &err);
        assert_ok(fs->sync_dir(fs, ".", &err), &err);
        f = open_file(fs, "d/a", FS_WRITE | FS_CREATE);
        put(fs, f, "kept");
        assert_ok(fs->sync(fs, f, &err), &err);
        assert_ok(fs->sync_dir(fs, "d", &err), &err);
        put(fs, f, ", perhaps");
        simfs_restore_power(sim);
        char *got = content(fs, "d/a");
        assert_non_null(got);
        assert_memory_equal(got, "kept", 4);
        free(got);
        fs->close(fs, f);
        simfs_free(sim);
    }
}

static void unsynced_bytes_are_kept_lost_and_torn_over_the_seeds(void **state)
{
    unsigned kept = 0, lost = 0, torn = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct simfs *sim = simfs_new(seed);
        struct fs *fs = simfs_fs(sim);
        struct fs_file *f = open_file(fs, "a", FS_WRITE | FS_CREATE);
        char *got;

        assert_ok(fs->sync_dir(fs, "/", &err), &err);
        put(fs, f, "0123456789");
        simfs_restore_power(sim);
        got = content(fs, "a");
        assert_non_null(got);
        assert_true(strncmp(got, "0123456789", strlen(got)) == 0);
        kept += strlen(got) == 10;
        lost += strlen(got) == 0;
        torn += strlen(got) > 0 && strlen(got) < 10;
        free(got);
        fs->close(fs, f);
        simfs_free(sim);
    }
    assert_true(kept > 20 && lost > 20 && torn > 20);
}

static void a_name_without_sync_dir_may_go_although_its_bytes_were_synced(void **state)
{
    unsigned there = 0, gone = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct simfs *sim = simfs_new(seed);
        struct fs *fs = simfs_fs(sim);
        struct fs_file *f = open_file(fs, "a", FS_WRITE | FS_CREATE);
        char *got;

        put(fs, f, "x");
        assert_ok(fs->sync(fs, f, &err), &err);
        simfs_restore_power(sim);
        got = content(fs, "a");
        if (got)
            assert_string_equal(got, "x");
        there += got != NULL;
        gone += got == NULL;
        free(got);
        fs->close(fs, f);
        simfs_free(sim);
    }
    assert_true(there > 20 && gone > 20);
}

/* fs_publish, cut at every step: the old content or the new, whole; after it returned the new one. */
static void publishing_survives_a_cut_at_every_step(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        for (uint64_t cut = 1;; cut++) {
            struct simfs *sim = simfs_new(seed);
            struct fs *fs = simfs_fs(sim);
            bool published, finished;
            char *got;

            assert_ok(fs_publish(fs, "f", "old", 3, &err), &err);
            simfs_cut_power_at(sim, cut);
            published = fs_publish(fs, "f", "new text", 8, &err) == NX_OK;
            finished = !simfs_power_was_cut(sim);
            assert_true(published == finished);
            simfs_restore_power(sim);
            got = content(fs, "f");
            assert_non_null(got);
            assert_true(strcmp(got, "new text") == 0 || (!published && strcmp(got, "old") == 0));
            free(got);
            simfs_free(sim);
            if (finished) {
                assert_in_range(cut, 4, 20); /* there were steps to cut */
                break;
            }
        }
    }
}

static void a_missing_sync_is_found_out(void **state)
{
    bool caught = false;

    (void)state;
    for (uint64_t seed = 0; seed < 100 && !caught; seed++) {
        struct simfs *sim = simfs_new(seed);
        struct fs *fs = simfs_fs(sim);
        struct fs_file *f = open_file(fs, "f.tmp", FS_WRITE | FS_CREATE);
        char *got;

        put(fs, f, "text"); /* no sync before the rename: the classic mistake */
        assert_ok(fs->rename(fs, "f.tmp", "f", &err), &err);
        assert_ok(fs->sync_dir(fs, ".", &err), &err);
        simfs_restore_power(sim);
        got = content(fs, "f");
        assert_non_null(got);
        caught = strcmp(got, "text") != 0;
        free(got);
        fs->close(fs, f);
        simfs_free(sim);
    }
    assert_true(caught);
}

static void the_same_seed_loses_the_same(void **state)
{
    char *first = NULL;

    (void)state;
    for (int round = 0; round < 2; round++) {
        struct simfs *sim = simfs_new(7);
        struct fs *fs = simfs_fs(sim);
        struct fs_file *f = open_file(fs, "a", FS_WRITE | FS_CREATE);
        char *got;

        assert_ok(fs->sync_dir(fs, "/", &err), &err);
        for (int i = 0; i < 20; i++)
            put(fs, f, "some text, ");
        simfs_restore_power(sim);
        got = content(fs, "a");
        if (round)
            assert_string_equal(got, first);
        free(first);
        first = got;
        fs->close(fs, f);
        simfs_free(sim);
    }
    free(first);
}

static void after_the_cut_nothing_works_until_power_is_back(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct fs_file *f = open_file(fs, "a", FS_READ | FS_WRITE | FS_CREATE), *g;
    struct fs_stat sb;
    size_t n;
    char c;

    (void)state;
    simfs_cut_power_now(sim);
    assert_true(simfs_power_was_cut(sim));
    assert_status(fs->write(fs, f, "x", 1, &n, &err), NX_IO);
    assert_status(fs->pread(fs, f, &c, 1, 0, &n, &err), NX_IO);
    assert_status(fs->sync(fs, f, &err), NX_IO);
    assert_status(fs->open(fs, "b", FS_WRITE | FS_CREATE, &g, &err), NX_IO);
    assert_status(fs->stat(fs, "a", &sb, &err), NX_IO);
    simfs_restore_power(sim);
    assert_false(simfs_power_was_cut(sim));
    assert_status(fs->write(fs, f, "x", 1, &n, &err), NX_IO); /* stale */
    fs->close(fs, f);
    f = open_file(fs, "b", FS_WRITE | FS_CREATE);
    put(fs, f, "fine");
    fs->close(fs, f);
    simfs_free(sim);
}

static void a_kill_loses_nothing_that_was_written(void **state)
{
    (void)state;
    for (uint64_t at = 1;; at++) {
        struct simfs *sim = simfs_new(at);
        struct fs *fs = simfs_fs(sim);
        struct fs_file *f = open_file(fs, "a", FS_WRITE | FS_CREATE);
        size_t done = 0, wrote;
        bool finished;
        char *got;

        simfs_kill_at(sim, at);
        while (done < 20 && !fs->write(fs, f, "abc", 3, &wrote, &err))
            done++;
        finished = !simfs_power_was_cut(sim);
        simfs_restart(sim);
        got = content(fs, "a");
        assert_non_null(got);
        assert_in_range(strlen(got), done * 3, done * 3 + (finished ? 0 : 3));
        free(got);
        fs->close(fs, f);
        simfs_free(sim);
        if (finished)
            return;
    }
}

static void an_injected_error_hits_one_operation(void **state)
{
    struct simfs *sim = simfs_new(3);
    struct fs *fs = simfs_fs(sim);
    struct fs_file *f = open_file(fs, "a", FS_WRITE | FS_CREATE);
    size_t n;

    (void)state;
    simfs_fail_at(sim, 2);
    put(fs, f, "one");
    assert_false(simfs_failed(sim));
    assert_status(fs->write(fs, f, "two", 3, &n, &err), NX_IO);
    assert_non_null(strstr(err.text, "writing a"));
    assert_in_range(n, 0, 3);
    assert_true(simfs_failed(sim));
    put(fs, f, "three");
    simfs_fail_kind_from(sim, SIMFS_SYNC, 1);
    put(fs, f, "four");
    assert_status(fs->sync(fs, f, &err), NX_IO);
    assert_status(fs->sync(fs, f, &err), NX_IO);
    simfs_heal(sim);
    assert_ok(fs->sync(fs, f, &err), &err);
    fs->close(fs, f);
    simfs_free(sim);
}

static void what_a_failed_sync_lost_a_later_one_does_not_bring_back(void **state)
{
    unsigned whole = 0, holes = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct simfs *sim = simfs_new(seed);
        struct fs *fs = simfs_fs(sim);
        struct fs_file *f = open_file(fs, "a", FS_WRITE | FS_CREATE);
        struct fs_stat sb;
        char *got;

        assert_ok(fs->sync_dir(fs, ".", &err), &err);
        put(fs, f, "data");
        simfs_fail_kind_at(sim, SIMFS_SYNC, 1);
        assert_status(fs->sync(fs, f, &err), NX_IO);
        assert_content(fs, "a", "data"); /* still to be seen */
        assert_ok(fs->sync(fs, f, &err), &err);
        simfs_restore_power(sim);
        got = content(fs, "a");
        assert_non_null(got);
        assert_ok(fs->stat(fs, "a", &sb, &err), &err);
        whole += strcmp(got, "data") == 0;
        holes += sb.bytes == 0;
        free(got);
        fs->close(fs, f);
        simfs_free(sim);
    }
    assert_true(whole > 10 && holes > 10 && whole + holes == 100);
}

static void a_full_disk_takes_what_fits_and_recovers(void **state)
{
    struct simfs *sim = simfs_new(5);
    struct fs *fs = simfs_fs(sim);
    struct fs_file *f = open_file(fs, "a", FS_WRITE | FS_CREATE | FS_APPEND);
    struct fs_file *g = open_file(fs, "b", FS_WRITE | FS_CREATE);
    size_t n;

    (void)state;
    put(fs, g, "12345");
    simfs_set_space(sim, 12);
    put(fs, f, "abcd");
    assert_status(fs->write(fs, f, "efghij", 6, &n, &err), NX_NOSPACE);
    assert_int_equal(n, 3);
    assert_content(fs, "a", "abcdefg");
    assert_int_equal(simfs_used(sim), 12);
    assert_ok(fs->pwrite(fs, g, "54321", 5, 0, &n, &err), &err); /* in place: no room needed */
    fs->close(fs, g);
    assert_ok(fs->unlink(fs, "b", &err), &err);
    put(fs, f, "hij");
    assert_content(fs, "a", "abcdefghij");
    fs->close(fs, f);
    simfs_free(sim);
}

/* The same script on both: what the simulation answers, the real file system answers too. */
static void behave(struct fs *fs, const char *root, struct buf *log)
{
    char a[300], b[300], d[300], e[300];
    struct fs_file *f = NULL, *g = NULL;
    struct fs_names names = {0};
    struct fs_stat sb = {0};
    uint64_t size = 0;
    char text[16];
    size_t n;

#define SAY(call) buf_printf(log, "%s=%s\n", #call, nx_status_text(call))
    snprintf(a, sizeof a, "%s/a", root);
    snprintf(b, sizeof b, "%s/b", root);
    snprintf(d, sizeof d, "%s/d", root);
    snprintf(e, sizeof e, "%s/d/e/f", root);
    SAY(fs->open(fs, a, FS_READ, &f, NULL));
    SAY(fs->open(fs, a, FS_READ | FS_WRITE | FS_CREATE | FS_EXCL, &f, NULL));
    SAY(fs->open(fs, a, FS_WRITE | FS_CREATE | FS_EXCL, &g, NULL));
    SAY(fs->write(fs, f, "hello", 5, &n, NULL));
    SAY(fs->pwrite(fs, f, "J", 1, 0, &n, NULL));
    SAY(fs->pwrite(fs, f, "!", 1, 7, &n, NULL));
    SAY(fs->write(fs, f, ",", 1, &n, NULL));
    SAY(fs->pread(fs, f, text, sizeof text, 0, &n, NULL));
    for (size_t i = 0; i < n; i++)
        buf_printf(log, "%02x", (unsigned char)text[i]);
    SAY(fs->pread(fs, f, text, 4, 100, &n, NULL));
    buf_printf(log, "%zu ", n);
    SAY(fs->truncate(fs, f, 3, NULL));
    SAY(fs->size(fs, f, &size, NULL));
    buf_printf(log, "%" PRIu64 "\n", size);
    SAY(fs->rename(fs, a, b, NULL));
    SAY(fs->rename(fs, a, b, NULL));
    SAY(fs->stat(fs, b, &sb, NULL));
    buf_printf(log, "%" PRIu64 " %d\n", sb.bytes, sb.is_dir);
    SAY(fs->link(fs, a, b, NULL));
    SAY(fs->link(fs, b, b, NULL));
    SAY(fs->link(fs, b, e, NULL));
    SAY(fs->link(fs, root, a, NULL));
    SAY(fs->link(fs, b, a, NULL));
    SAY(fs->pwrite(fs, f, "K", 1, 0, &n, NULL));
    SAY(fs->stat(fs, a, &sb, NULL));
    SAY(fs->unlink(fs, b, NULL));
    SAY(fs->rename(fs, a, b, NULL));
    SAY(fs->unlink(fs, a, NULL));
    SAY(fs->mkdir(fs, e, NULL));
    SAY(fs_mkdirs(fs, e, NULL));
    SAY(fs_mkdirs(fs, e, NULL));
    SAY(fs->mkdir(fs, b, NULL));
    SAY(fs->rmdir(fs, d, NULL));
    SAY(fs->unlink(fs, d, NULL));
    SAY(fs->rename(fs, b, d, NULL));
    SAY(fs->list(fs, root, &names, NULL));
    for (size_t i = 0; i < names.n; i++)
        buf_printf(log, "%s ", names.v[i]);
    fs_names_done(&names);
    SAY(fs->list(fs, b, &names, NULL));
    SAY(fs->sync(fs, f, NULL));
    SAY(fs->sync_dir(fs, d, NULL));
    SAY(fs->lock(fs, a, &g, NULL));
    fs->close(fs, f);
    SAY(fs->lock(fs, a, &f, NULL));
    fs->unlock(fs, g);
    SAY(fs->lock(fs, a, &f, NULL));
    fs->unlock(fs, f);
    SAY(fs_publish(fs, b, "0123456789", 10, NULL));
    SAY(fs->open(fs, b, FS_WRITE | FS_APPEND, &f, NULL));
    SAY(fs->write(fs, f, "x", 1, &n, NULL));
    SAY(fs->pread(fs, f, text, 1, 0, &n, NULL));
    fs->close(fs, f);
    SAY(fs_remove_tree(fs, d, NULL));
    SAY(fs_remove_tree(fs, d, NULL));
    SAY(fs->stat(fs, d, &sb, NULL));
    fs->close(fs, NULL);
#undef SAY
}

static void the_simulation_answers_as_the_real_file_system(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct test_tmpdir tmp;
    struct buf simulated, real;

    (void)state;
    buf_init(&simulated, 0);
    buf_init(&real, 0);
    test_tmpdir_new(&tmp);
    behave(fs_real(), tmp.path, &real);
    assert_ok(simfs_fs(sim)->mkdir(simfs_fs(sim), "root", &err), &err);
    behave(simfs_fs(sim), "root", &simulated);
    assert_string_equal(buf_cstr(&simulated), buf_cstr(&real));
    assert_non_null(strstr(buf_cstr(&real), "4a656c6c6f2c0021")); /* the script did something */
    test_tmpdir_done(&tmp);
    buf_done(&simulated);
    buf_done(&real);
    simfs_free(sim);
}

static void a_flipped_byte_stays_flipped(void **state)
{
    struct simfs *sim = simfs_new(2);
    struct fs *fs = simfs_fs(sim);

    (void)state;
    assert_ok(fs_publish(fs, "f", "abc", 3, &err), &err);
    assert_true(simfs_flip(sim, "f", 1, 0x20));
    assert_false(simfs_flip(sim, "f", 3, 1));
    assert_false(simfs_flip(sim, "g", 0, 1));
    simfs_restore_power(sim);
    assert_content(fs, "f", "aBc");
    simfs_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synced_bytes_under_a_synced_name_survive_any_cut),
        cmocka_unit_test(unsynced_bytes_are_kept_lost_and_torn_over_the_seeds),
        cmocka_unit_test(a_name_without_sync_dir_may_go_although_its_bytes_were_synced),
        cmocka_unit_test(publishing_survives_a_cut_at_every_step),
        cmocka_unit_test(a_missing_sync_is_found_out),
        cmocka_unit_test(the_same_seed_loses_the_same),
        cmocka_unit_test(after_the_cut_nothing_works_until_power_is_back),
        cmocka_unit_test(a_kill_loses_nothing_that_was_written),
        cmocka_unit_test(an_injected_error_hits_one_operation),
        cmocka_unit_test(what_a_failed_sync_lost_a_later_one_does_not_bring_back),
        cmocka_unit_test(a_full_disk_takes_what_fits_and_recovers),
        cmocka_unit_test(the_simulation_answers_as_the_real_file_system),
        cmocka_unit_test(a_flipped_byte_stays_flipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
