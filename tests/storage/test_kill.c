/* test_kill.c - a process that is killed while it writes: on the real file system, by SIGKILL.
 *
 * The child appends rows and says after each one, through a pipe, that it was accepted; the parent kills
 * it at some point, opens the folder and must find every row it was told of, and nothing else. The same
 * folder goes on from round to round. */
#include "tests/support/test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "storage/storage.h"
#include "tests/storage/series.h"
#include "tests/support/quiet.h"

#define ROUNDS   25
#define COLUMNS  50
#define BLOCK_MS 20000
#define STEP_MS  100
#define T0       1700000000000LL

static struct storage *open_store(const char *dir)
{
    struct storage_opts o = {.fs = fs_real(),
                             .dir = dir,
                             .min_block_ms = BLOCK_MS,
                             .wal_segment_bytes = 30000,
                             .fsync_ms = 5,
                             .no_worker = true};
    struct storage *s;
    struct nx_err err;

    assert_ok(storage_open(&s, &o, &err), &err);
    return s;
}

static double value_of(int64_t row, int col)
{
    return col % 3 ? (double)(row * (col + 1)) : 0.5 * col;
}

/* Never returns; the pipe's other end reads the number of rows. */
static void write_for_ever(const char *dir, int64_t row, int pipe_fd)
{
    struct storage *s = open_store(dir);
    struct storage_group *g;
    uint32_t cols[COLUMNS];
    double v[COLUMNS];

    if (storage_group_open(s, &g, NULL))
        _exit(2);
    for (int i = 0; i < COLUMNS; i++) {
        char text[16];
        struct label l[2] = {{STR(LABEL_NAME), STR("m")}, {STR("c"), {0}}};
        struct labels ls = {l, 2};
        snprintf(text, sizeof text, "%03d", i);
        l[1].value = STR(text);
        if (storage_group_column(g, &ls, &cols[i], NULL, NULL))
            _exit(3);
    }
    for (;; row++) {
        for (int i = 0; i < COLUMNS; i++)
            v[i] = value_of(row, i);
        if (storage_group_append(g, T0 + row * STEP_MS, cols, v, COLUMNS, NULL, NULL))
            _exit(4);
        if (write(pipe_fd, &row, sizeof row) != sizeof row)
            _exit(5);
        storage_tick(s, T0 + row * STEP_MS);
    }
}

/* Rows that the child told of before it died, plus one. */
static int64_t run_and_kill(const char *dir, int64_t row, int64_t after_rows, int64_t after_ns)
{
    int fds[2], status;
    int64_t told, next = row;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        write_for_ever(dir, row, fds[1]);
    }
    close(fds[1]);
    do {
        assert_int_equal(read(fds[0], &told, sizeof told), sizeof told);
    } while (told < row + after_rows);
    next = told + 1;
    clock_sleep_until_mono_ns(clock_mono_ns() + after_ns);
    kill(pid, SIGKILL);
    while (read(fds[0], &told, sizeof told) == sizeof told)
        next = told + 1;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    return next;
}

/* Everything up to `told` is there; one row more may be. Returns how many there are. */
static int64_t check(const char *dir, int64_t told, uint64_t *blocks)
{
    struct storage *s = open_store(dir);
    struct scan x;
    int64_t n = -1;

    scan_begin(&x, s, "m");
    assert_int_equal(x.list.n, COLUMNS);
    for (int i = 0; scan_next(&x); i++) {
        n = i ? n : (int64_t)x.c.n;
        assert_int_equal(x.c.n, n);
        for (size_t j = 0; j < x.c.n; j++) {
            assert_int_equal(x.c.t[j], T0 + (int64_t)j * STEP_MS);
            assert_true(x.c.v[j] == value_of((int64_t)j, i));
        }
    }
    assert_in_range(n, told, told + 1);
    *blocks = stats_of(s).blocks;
    storage_close(s);
    return n;
}

static void nothing_acknowledged_is_lost_by_sigkill(void **state)
{
    struct test_tmpdir dir;
    struct test_random rnd = {11};
    int64_t row = 0;
    uint64_t blocks = 0;

    (void)state;
    test_tmpdir_new(&dir);
    for (int round = 0; round < ROUNDS; round++) {
        row = run_and_kill(dir.path, row, (int64_t)test_random_below(&rnd, 150),
                           (int64_t)test_random_below(&rnd, 3000000));
        row = check(dir.path, row, &blocks);
    }
    print_message("%" PRId64 " rows, %" PRIu64 " blocks\n", row, blocks);
    assert_true(blocks > 1); /* smaller ones are merged in between */
    test_tmpdir_done(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost_by_sigkill),
    };
    quiet_log();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
