/* test_memory_limit.c - --memory.limit, and Prometheus's flags that stand in for it. */
#include "tests/support/test.h"

#include <sys/stat.h>

#include "src/cli/memory_limit.h"
#include "src/cli/server.h"

static struct test_tmpdir dir; /* a machine with 1000 MiB */

static int setup(void **state)
{
    char path[512];
    FILE *f;

    (void)state;
    test_tmpdir_new(&dir);
    snprintf(path, sizeof path, "%s/proc", dir.path);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/proc/meminfo", dir.path);
    f = fopen(path, "w");
    if (!f)
        return 1;
    fputs("MemTotal: 1024000 kB\n", f);
    fclose(f);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_tmpdir_done(&dir);
    return 0;
}

/* The limit in MiB that the arguments give, or -1 with a text in err. */
static double limit_of(const char *root, const char *a, const char *b, struct nx_err *err)
{
    const char *argv[] = {a, b};
    struct flags f;
    bool bad;
    uint64_t limit = 1;
    char why[64];
    nx_status st;

    assert_ok(flags_parse(&f, server_flags, server_n_flags, a ? b ? 2 : 1 : 0,
                          (char **)(uintptr_t)argv, &bad, err),
              err);
    st = memory_limit_of(&f, root, &limit, why, err);
    flags_done(&f);
    return st ? -1 : (double)limit / (1 << 20);
}

static void a_limit_is_a_size_a_share_or_none(void **state)
{
    static const struct {
        const char *a, *b;
        double mib;
    } v[] = {
        {NULL, NULL, 900},
        {"--memory.limit=512MB", NULL, 512},
        {"--memory.limit=512MiB", NULL, 512},
        {"--memory.limit=1.5GB", NULL, 1536},
        {"--memory.limit=80%", NULL, 800},
        {"--memory.limit=12.5%", NULL, 125},
        {"--memory.limit=0", NULL, 0},
        {"--memory.limit=0B", NULL, 0},
        {"--auto-gomemlimit.ratio=0.5", NULL, 500},
        {"--no-auto-gomemlimit", NULL, 0},
        {"--no-auto-gomemlimit", "--memory.limit=64MB", 64},
        {"--auto-gomemlimit.ratio=0.001", NULL, 8}, /* not too small to work */
    };
    struct nx_err err;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(v); i++)
        assert_true(limit_of(dir.path, v[i].a, v[i].b, &err) == v[i].mib);
}

static void what_is_no_limit_is_an_error(void **state)
{
    static const char *const v[] = {
        "--memory.limit=x", "--memory.limit=%",   "--memory.limit=0%",   "--memory.limit=101%",
        "--memory.limit=5", "--memory.limit=1MB", "--memory.limit=-5MB", "--memory.limit=nan%"};
    struct nx_err err;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(v); i++) {
        assert_true(limit_of(dir.path, v[i], NULL, &err) == -1);
        assert_non_null(strstr(err.text, "--memory.limit"));
    }
    /* A machine that can't be read: no limit by itself, an error when a share of it was asked for. */
    assert_true(limit_of("/nowhere", NULL, NULL, &err) == 0);
    assert_true(limit_of("/nowhere", "--memory.limit=50%", NULL, &err) == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limit_is_a_size_a_share_or_none),
        cmocka_unit_test(what_is_no_limit_is_an_error),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
