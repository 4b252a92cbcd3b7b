/* test_thread.c - ranked locks, conditions, threads; and the clock that tests move. */
#include "tests/support/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/thread.h"

static struct nx_err err;

/* Does `fn` end the process by an assertion? */
static bool aborts(void (*fn)(void))
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static struct nx_mutex low, high;
static struct nx_rwlock between;
static struct nx_cond cond;

static int make_locks(void **state)
{
    (void)state;
    nx_mutex_init(&low, NX_RANK_GROUP);
    nx_rwlock_init(&between, NX_RANK_WAL);
    nx_mutex_init(&high, NX_RANK_STATS);
    nx_cond_init(&cond);
    return 0;
}

static int free_locks(void **state)
{
    (void)state;
    nx_cond_done(&cond);
    nx_mutex_done(&high);
    nx_rwlock_done(&between);
    nx_mutex_done(&low);
    return 0;
}

static void in_order(void)
{
    nx_lock(&low);
    nx_rdlock(&between);
    nx_lock(&high);
    nx_unlock(&low); /* giving back in any order is fine */
    nx_unlock(&high);
    nx_rwunlock(&between);
    nx_wrlock(&between);
    nx_rwunlock(&between);
    nx_lock(&low);
    nx_unlock(&low);
}

static void out_of_order(void)
{
    nx_lock(&high);
    nx_lock(&low);
}

static void rwlock_out_of_order(void)
{
    nx_lock(&high);
    nx_rdlock(&between);
}

static void twice(void)
{
    nx_lock(&low);
    nx_lock(&low);
}

static void not_mine(void)
{
    nx_unlock(&low);
}

static void wait_holding_another(void)
{
    nx_lock(&low);
    nx_lock(&high);
    nx_cond_wait_ms(&cond, &high, 1);
}

static void locks_of_rising_rank_are_fine_and_others_are_caught(void **state)
{
    (void)state;
    in_order();
#ifdef NX_ASSERTS
    assert_false(aborts(in_order));
    assert_true(aborts(out_of_order));
    assert_true(aborts(rwlock_out_of_order));
    assert_true(aborts(twice));
    assert_true(aborts(not_mine));
    assert_true(aborts(wait_holding_another));
    nx_lock(&low);
    assert_true(nx_mutex_held(&low));
    assert_false(nx_mutex_held(&high));
    nx_unlock(&low);
    assert_false(nx_mutex_held(&low));
#else
    (void)aborts, (void)out_of_order, (void)rwlock_out_of_order, (void)twice, (void)not_mine;
    (void)wait_holding_another;
    skip(); /* ranks are checked in builds with assertions */
#endif
}

static unsigned counter;

static void count_up(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10000; i++) {
        nx_lock(&low);
        counter++;
        nx_unlock(&low);
    }
}

static void threads_count_without_losing_one(void **state)
{
    struct nx_thread t[4];

    (void)state;
    counter = 0;
    for (size_t i = 0; i < NX_COUNT(t); i++)
        assert_ok(nx_thread_start(&t[i], "counter", count_up, NULL, &err), &err);
    for (size_t i = 0; i < NX_COUNT(t); i++)
        nx_thread_join(&t[i]);
    assert_int_equal(counter, 40000);
}

static char thread_name[32];
static size_t thread_stack;

static void look_around(void *arg)
{
    pthread_attr_t attr;

    *(bool *)arg = true;
    pthread_getname_np(pthread_self(), thread_name, sizeof thread_name);
    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        pthread_attr_getstacksize(&attr, &thread_stack);
        pthread_attr_destroy(&attr);
    }
}

static void a_thread_has_its_name_and_a_small_stack(void **state)
{
    struct nx_thread t, never = {0};
    bool ran = false;

    (void)state;
    assert_ok(nx_thread_start(&t, "a-name-that-is-too-long", look_around, &ran, &err), &err);
    nx_thread_join(&t);
    nx_thread_join(&t); /* the second time there is nothing to do */
    nx_thread_join(&never);
    assert_true(ran);
    assert_string_equal(thread_name, "a-name-that-is-");
    assert_in_range(thread_stack, 128 << 10,
                    TEST_STRIDE > 1 ? 8 << 20 : 2 << 20); /* wider frames */
}

static bool ready;

static void get_ready(void *arg)
{
    (void)arg;
    nx_lock(&low);
    ready = true;
    nx_cond_broadcast(&cond);
    nx_unlock(&low);
}

static void a_condition_wakes_and_times_out(void **state)
{
    struct nx_thread t;

    (void)state;
    ready = false;
    nx_lock(&low);
    assert_false(nx_cond_wait_ms(&cond, &low, 5));
    assert_false(nx_cond_wait_ms(&cond, &low, -1));
    assert_ok(nx_thread_start(&t, "ready", get_ready, NULL, &err), &err);
    while (!ready)
        nx_cond_wait(&cond, &low);
    ready = false;
    nx_unlock(&low);
    nx_thread_join(&t);
    nx_lock(&low);
    assert_ok(nx_thread_start(&t, "ready", get_ready, NULL, &err), &err);
    while (!ready)
        assert_true(nx_cond_wait_ms(&cond, &low, INT64_MAX));
    nx_unlock(&low);
    nx_thread_join(&t);
}

static atomic_int woken;

static void sleep_an_hour(void *arg)
{
    clock_sleep_until_mono_ns(*(int64_t *)arg);
    atomic_store(&woken, 1);
}

static void the_fake_clock_stands_until_it_is_moved(void **state)
{
    struct nx_thread t;
    int64_t mono, until;

    (void)state;
    clock_fake_set(1000);
    mono = clock_mono_ns();
    assert_true(clock_now_ms() == 1000 && clock_now_ns() == 1000000000);
    clock_fake_advance(500);
    assert_true(clock_now_ms() == 1500);
    assert_true(clock_mono_ns() - mono == 500000000);
    clock_fake_set(-1500); /* the wall jumps back, the steady clock does not */
    assert_true(clock_now_ms() == -1500);
    assert_true(clock_mono_ns() - mono == 500000000);
    until = clock_mono_ns() + 3600 * INT64_C(1000000000);
    atomic_store(&woken, 0);
    assert_ok(nx_thread_start(&t, "sleeper", sleep_an_hour, &until, &err), &err);
    clock_fake_advance(3599 * 1000);
    assert_int_equal(atomic_load(&woken), 0);
    clock_fake_advance(1000);
    nx_thread_join(&t);
    assert_int_equal(atomic_load(&woken), 1);
    clock_fake_off();
    assert_true(clock_now_ms() > INT64_C(1600000000000));
}

static void the_real_clocks_go_on(void **state)
{
    int64_t mono = clock_mono_ns(), cpu = clock_process_cpu_ns();

    (void)state;
    clock_sleep_until_mono_ns(mono + 2000000);
    assert_true(clock_mono_ns() >= mono + 2000000);
    clock_sleep_until_mono_ns(mono); /* long past */
    assert_true(clock_process_cpu_ns() >= cpu && cpu > 0);
}

static void times_print_with_as_many_digits_as_they_need(void **state)
{
    // clang-format off
    static const struct { int64_t ns; const char *want; } cases[] = {
        { 0,                   "1970-01-01T00:00:00Z" },
        { 1767323045500000000, "2026-01-02T03:04:05.5Z" },
        { 1767323045000000001, "2026-01-02T03:04:05.000000001Z" },
        { 951782400000000000,  "2000-02-29T00:00:00Z" },
        { -1,                  "1969-12-31T23:59:59.999999999Z" },
        { INT64_MIN,           "1677-09-21T00:12:43.145224192Z" },
        { INT64_MAX,           "2262-04-11T23:47:16.854775807Z" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        char to[40];
        size_t n = clock_format_rfc3339(to, cases[i].ns);

        assert_string_equal(to, cases[i].want);
        assert_int_equal(n, strlen(cases[i].want));
    }
}

static void times_parse_as_rfc3339_and_nothing_else_does(void **state)
{
    // clang-format off
    static const struct { const char *text; int64_t ms; } good[] = {
        { "1970-01-01T00:00:00Z",             0 },
        { "2026-01-02T03:04:05.678Z",         1767323045678 },
        { "2026-01-02T03:04:05.6789999Z",     1767323045678 },
        { "2026-01-02T05:04:05.5+02:00",      1767323045500 },
        { "2026-01-01T21:34:05-05:30",        1767323045000 },
        { "2000-02-29T00:00:00Z",             951782400000 },
        { "0001-01-01T00:00:00Z",             -62135596800000 },
        { "9999-12-31T23:59:59.999Z",         253402300799999 },
        { "1969-12-31T23:59:59.5Z",           -500 },
    };
    static const char *const bad[] = {
        "", "now", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05z",
        "2026-01-02 03:04:05Z", "2026-13-02T03:04:05Z", "2026-00-02T03:04:05Z",
        "2026-02-29T03:04:05Z", "1900-02-29T03:04:05Z", "2026-01-32T03:04:05Z",
        "2026-01-02T24:04:05Z", "2026-01-02T03:60:05Z", "2026-01-02T03:04:60Z",
        "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05+0200", "2026-01-02T03:04:05+02:0",
        "2026-01-02T03:04:05Zx", "2026-1-02T03:04:05Z", "+026-01-02T03:04:05Z",
        "2026-01-02T03:04:05+25:00", "2026-01-02T03:04:05+",
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < NX_COUNT(good); i++) {
        int64_t ms = 1;

        assert_true(clock_parse_rfc3339(STR(good[i].text), &ms));
        assert_true(ms == good[i].ms);
    }
    for (size_t i = 0; i < NX_COUNT(bad); i++) {
        int64_t ms = 1;

        if (clock_parse_rfc3339(STR(bad[i]), &ms))
            fail_msg("\"%s\" was taken", bad[i]);
        assert_true(ms == 1);
    }
}

int main(void)
{
#define LOCKS(fn) cmocka_unit_test_setup_teardown(fn, make_locks, free_locks)
    const struct CMUnitTest tests[] = {
        LOCKS(locks_of_rising_rank_are_fine_and_others_are_caught),
        LOCKS(threads_count_without_losing_one),
        cmocka_unit_test(a_thread_has_its_name_and_a_small_stack),
        LOCKS(a_condition_wakes_and_times_out),
        cmocka_unit_test(the_fake_clock_stands_until_it_is_moved),
        cmocka_unit_test(the_real_clocks_go_on),
        cmocka_unit_test(times_print_with_as_many_digits_as_they_need),
        cmocka_unit_test(times_parse_as_rfc3339_and_nothing_else_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
