/* test_cgroup.c - limits are read from trees of files as kernels and containers show them. */
#include "tests/support/test.h"

#include <sys/stat.h>

#include "src/base/cgroup.h"

struct tree {
    struct test_tmpdir dir;
};

static void put(struct tree *t, const char *path, const char *text)
{
    char full[1024];
    FILE *f;

    snprintf(full, sizeof full, "%s%s", t->dir.path, path);
    for (char *p = full + strlen(t->dir.path) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0777);
        *p = '/';
    }
    f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define V2 "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"

static void expect(struct tree *t, uint64_t want, const char *want_from)
{
    const char *from = NULL;

    assert_int_equal(memory_available(t->dir.path, &from), want);
    assert_string_equal(from, want_from);
}

static void the_lowest_limit_of_the_cgroups_holds(void **state)
{
    struct tree t;
    const char *from;

    (void)state;
    test_tmpdir_new(&t.dir);
    assert_int_equal(memory_available(t.dir.path, &from), 0); /* nothing can be told */
    put(&t, "/proc/meminfo", "MemFree:  5 kB\nMemTotal:       8000000 kB\n");
    expect(&t, 8192000000, "machine");
    put(&t, "/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" V2);
    put(&t, "/proc/self/cgroup", "0::/user.slice/app.service\n");
    put(&t, "/sys/fs/cgroup/user.slice/app.service/memory.max", "max\n");
    expect(&t, 8192000000, "machine");
    put(&t, "/sys/fs/cgroup/user.slice/memory.max", "1000000000\n"); /* a parent's */
    expect(&t, 1000000000, "cgroup");
    put(&t, "/sys/fs/cgroup/user.slice/app.service/memory.max", "500000000\n");
    expect(&t, 500000000, "cgroup");
    put(&t, "/sys/fs/cgroup/user.slice/app.service/memory.max",
        "99000000000\n"); /* more than all */
    put(&t, "/sys/fs/cgroup/user.slice/memory.max", "nonsense\n");
    expect(&t, 8192000000, "machine");
    test_tmpdir_done(&t.dir);
}

static void a_container_sees_its_group_as_the_root(void **state)
{
    struct tree t;

    (void)state;
    test_tmpdir_new(&t.dir);
    put(&t, "/proc/meminfo", "MemTotal: 8000000 kB\n");
    put(&t, "/proc/self/mountinfo", V2);
    put(&t, "/proc/self/cgroup", "0::/\n");
    put(&t, "/sys/fs/cgroup/memory.max", "268435456\n");
    expect(&t, 268435456, "cgroup");
    put(&t, "/proc/self/cgroup", "0::/../elsewhere\n");
    expect(&t, 268435456, "cgroup");
    test_tmpdir_done(&t.dir);
}

static void version_one_is_read_as_well(void **state)
{
    struct tree t;

    (void)state;
    test_tmpdir_new(&t.dir);
    put(&t, "/proc/meminfo", "MemTotal: 8000000 kB\n");
    put(&t, "/proc/self/mountinfo",
        "40 30 0:30 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"
        "41 30 0:31 /docker/abc /sys/fs/cgroup/mem\\040ory ro - cgroup cgroup rw,memory\n");
    put(&t, "/proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc/inner\n0::/x\n");
    put(&t, "/sys/fs/cgroup/mem ory/memory.limit_in_bytes", "300000000\n");
    put(&t, "/sys/fs/cgroup/cpu/memory.limit_in_bytes", "1\n"); /* another hierarchy */
    expect(&t, 300000000, "cgroup");
    put(&t, "/sys/fs/cgroup/mem ory/inner/memory.limit_in_bytes", "200000000\n");
    expect(&t, 200000000, "cgroup");
    put(&t, "/sys/fs/cgroup/mem ory/inner/memory.limit_in_bytes", "9223372036854771712\n");
    put(&t, "/sys/fs/cgroup/mem ory/memory.limit_in_bytes", "9223372036854771712\n");
    expect(&t, 8192000000, "machine");
    test_tmpdir_done(&t.dir);
}

static void whole_processors_of_the_lowest_quota_count(void **state)
{
    struct tree t;
    unsigned all;

    (void)state;
    test_tmpdir_new(&t.dir);
    all = cpus_available(t.dir.path);
    assert_in_range(all, 1, 100000);
    put(&t, "/proc/self/mountinfo", V2);
    put(&t, "/proc/self/cgroup", "0::/pods/one\n");
    put(&t, "/sys/fs/cgroup/pods/one/cpu.max", "max 100000\n");
    assert_int_equal(cpus_available(t.dir.path), all);
    put(&t, "/sys/fs/cgroup/pods/cpu.max", "199999 100000\n"); /* not two */
    assert_int_equal(cpus_available(t.dir.path), 1);
    put(&t, "/sys/fs/cgroup/pods/cpu.max", "200000 100000\n");
    assert_int_equal(cpus_available(t.dir.path), all < 2 ? all : 2);
    put(&t, "/sys/fs/cgroup/pods/one/cpu.max", "1 100000000\n");
    assert_int_equal(cpus_available(t.dir.path), 1);
    put(&t, "/sys/fs/cgroup/pods/one/cpu.max", "nonsense\n");
    put(&t, "/sys/fs/cgroup/pods/cpu.max", "100000 0\n");
    assert_int_equal(cpus_available(t.dir.path), all);
    test_tmpdir_done(&t.dir);
}

static void quotas_of_version_one_are_read_as_well(void **state)
{
    struct tree t;
    unsigned all;

    (void)state;
    test_tmpdir_new(&t.dir);
    all = cpus_available(t.dir.path);
    put(&t, "/proc/self/mountinfo",
        "40 30 0:30 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n");
    put(&t, "/proc/self/cgroup", "5:cpu,cpuacct:/a\n");
    put(&t, "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n");
    put(&t, "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpus_available(t.dir.path), all);
    put(&t, "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "150000\n");
    assert_int_equal(cpus_available(t.dir.path), 1);
    test_tmpdir_done(&t.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lowest_limit_of_the_cgroups_holds),
        cmocka_unit_test(a_container_sees_its_group_as_the_root),
        cmocka_unit_test(version_one_is_read_as_well),
        cmocka_unit_test(whole_processors_of_the_lowest_quota_count),
        cmocka_unit_test(quotas_of_version_one_are_read_as_well),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
