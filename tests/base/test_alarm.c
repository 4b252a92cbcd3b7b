/* test_alarm.c - a thread sleeps until its alarm: at its time, at once by a ring, and never past one. */
#include "tests/support/test.h"

#include <sched.h>
#include <stdatomic.h>

#include "src/base/alarm.h"
#include "src/base/clock.h"
#include "src/base/thread.h"

static struct nx_err err;

/* From `start` on, which is before the alarm was set: the test may lose the processor in between. */
static int64_t waited_ms(struct nx_alarm *a, int64_t start)
{
    nx_alarm_wait(a);
    return (clock_mono_ns() - start) / 1000000;
}

static void it_goes_off_at_the_time_that_was_set_last(void **state)
{
    struct nx_alarm a;
    int64_t start;

    (void)state;
    assert_ok(nx_alarm_open(&a, &err), &err);
    nx_alarm_set(&a, 3600000);
    start = clock_mono_ns();
    nx_alarm_set(&a, 30);
    assert_in_range(waited_ms(&a, start), 29, 30000);
    start = clock_mono_ns();
    nx_alarm_set(&a, 0);
    assert_in_range(waited_ms(&a, start), 0, 30000);
    nx_alarm_close(&a);
}

static void a_ring_stands_whatever_is_set_after_it(void **state)
{
    struct nx_alarm a;
    int64_t start = clock_mono_ns();

    (void)state;
    assert_ok(nx_alarm_open(&a, &err), &err);
    nx_alarm_ring(&a);
    nx_alarm_set(&a, 3600000);
    assert_in_range(waited_ms(&a, start), 0, 30000);
    nx_alarm_ring(&a);
    nx_alarm_set(&a, -1);
    assert_in_range(waited_ms(&a, start), 0, 30000);
    start = clock_mono_ns();
    nx_alarm_set(&a, 20); /* the ring was waited for */
    assert_in_range(waited_ms(&a, start), 19, 30000);
    nx_alarm_close(&a);
}

static void one_that_is_not_open_does_nothing(void **state)
{
    struct nx_alarm a = {.fd = -1};

    (void)state;
    nx_alarm_set(&a, 1);
    nx_alarm_ring(&a);
    nx_alarm_close(&a);
    assert_int_equal(a.fd, -1);
}

struct work {
    struct nx_alarm alarm;
    atomic_int made, found;
};

static void sleeper(void *arg)
{
    struct work *w = arg;

    while (atomic_load(&w->found) < 2000) {
        atomic_store(&w->found, atomic_load(&w->made));
        nx_alarm_set(&w->alarm, 3600000); /* a lost ring would sleep this long */
        nx_alarm_wait(&w->alarm);
    }
}

static void no_ring_is_lost_between_looking_and_sleeping(void **state)
{
    struct work w = {.made = 0};
    struct nx_thread t;

    (void)state;
    assert_ok(nx_alarm_open(&w.alarm, &err), &err);
    assert_ok(nx_thread_start(&t, "sleeper", sleeper, &w, &err), &err);
    for (int i = 1; i <= 2000; i++) {
        atomic_store(&w.made, i);
        nx_alarm_ring(&w.alarm);
        if (i % 2)
            while (atomic_load(&w.found) < i) /* in step, and not */
                sched_yield();
    }
    while (atomic_load(&w.found) < 2000)
        sched_yield();
    nx_alarm_ring(&w.alarm);
    nx_thread_join(&t);
    nx_alarm_close(&w.alarm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_goes_off_at_the_time_that_was_set_last),
        cmocka_unit_test(a_ring_stands_whatever_is_set_after_it),
        cmocka_unit_test(one_that_is_not_open_does_nothing),
        cmocka_unit_test(no_ring_is_lost_between_looking_and_sleeping),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
