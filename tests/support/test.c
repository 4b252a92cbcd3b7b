/* test.c - folders and numbers for tests. */
#include "tests/support/test.h"

#include <sys/stat.h>

#include "src/base/fs.h"

const char *test_shared_dir(void)
{
    const char *dir = getenv("NX_SHARED");
    struct stat sb;

    if (!dir)
        dir = "../shared";
    if (stat(dir, &sb) == 0)
        return dir;
    print_message("skipped: no shared test data (NX_SHARED or ../shared)\n");
    return NULL;
}

void test_tmpdir_new(struct test_tmpdir *t)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(t->path, sizeof t->path, "%s/narthex-test.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(t->path))
        fail_msg("cannot make %s", t->path);
}

void test_tmpdir_done(struct test_tmpdir *t)
{
    struct nx_err err;

    assert_ok(fs_remove_tree(fs_real(), t->path, &err), &err);
}

uint64_t test_random(struct test_random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint64_t test_random_below(struct test_random *r, uint64_t below)
{
    return below ? test_random(r) % below : 0;
}
