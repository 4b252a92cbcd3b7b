/* alarm.h - what a thread sleeps on until something is to be done.
 *
 * For a thread that has nothing to do most of the time and does not look for work now and then. Who makes
 * work for it sets the alarm (there is something to do then) or rings it (now). What there is to do is
 * found elsewhere, by looking: the alarm only says that it is time to look, and may say so for nothing.
 *
 * Owner    whoever opens it; one thread waits.
 * Threads  nx_alarm_set() and nx_alarm_ring(): any, under any lock, for they take none. What was stored before
 *          a ring is seen by the looks after it.
 * Units    milliseconds of the real steady clock, even while a test's clock stands still. */
#pragma once

#include <stdatomic.h>

#include "src/base/status.h"

struct nx_alarm {
    int fd; /* -1: not open */
    atomic_bool rung;
};

NX_NODISCARD nx_status nx_alarm_open(struct nx_alarm *a, struct nx_err *err);
void nx_alarm_close(struct nx_alarm *a); /* accepts one that is not open (fd -1) */

/* These two do nothing to one that is not open: nobody waits then.
 * The next alarm is in `ms` (not before, and a little later at most), whatever was set before; never when
 * `ms` is negative. A ring that nobody has waited for stands. */
void nx_alarm_set(struct nx_alarm *a, int64_t ms);
void nx_alarm_ring(struct nx_alarm *a);
/* Sleeps until the time that was set, or a ring. */
void nx_alarm_wait(struct nx_alarm *a);
