/* alarm.c - a timer that any thread may set and one waits for.
 *
 * WHY     A condition variable costs its waiter a wake-up only to learn of a new deadline, and needs a
 *         lock, which whoever makes work may not be allowed to take. A timer of the kernel is set by
 *         one system call.
 * RULES   A1  A ring is noted before the timer is set, and whoever sets the timer to something else looks
 *             at that note after it: so a ring is never lost to a deadline.
 *         A2  The waiter takes the note away before it looks for work. */
#include "src/base/alarm.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL

static void set_ns(const struct nx_alarm *a, int64_t ns) /* 0: never */
{
    const struct itimerspec t = {
        .it_value = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)}};

    NX_ASSERT_ALWAYS(a->fd < 0 || timerfd_settime(a->fd, 0, &t, NULL) == 0);
}

nx_status nx_alarm_open(struct nx_alarm *a, struct nx_err *err)
{
    atomic_init(&a->rung, false);
    a->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    return a->fd >= 0 ? NX_OK : nx_fail_errno(err, errno, "making a timer");
}

void nx_alarm_close(struct nx_alarm *a)
{
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
}

void nx_alarm_set(struct nx_alarm *a, int64_t ms)
{
    int64_t most = INT32_MAX; /* 24 days; keeps tv_sec in range on 32 bits */

    set_ns(a, ms < 0 ? 0 : ms == 0 ? 1 : (ms < most ? ms : most) * 1000000);
    if (atomic_load(&a->rung)) /* A1 */
        set_ns(a, 1);
}

void nx_alarm_ring(struct nx_alarm *a)
{
    atomic_store(&a->rung, true); /* A1 */
    set_ns(a, 1);
}

void nx_alarm_wait(struct nx_alarm *a)
{
    uint64_t times;
    ssize_t n;

    do
        n = read(a->fd, &times, sizeof times);
    while (n < 0 && errno == EINTR);
    NX_ASSERT_ALWAYS(n == (ssize_t)sizeof times);
    atomic_store(&a->rung, false); /* A2 */
}
