/* clock.h - the only place that asks for the time. Tests move the clock by hand.
 *
 * Units are in the names. Wall time is Unix time. Threads: any. */
#pragma once

#include "src/base/status.h"

int64_t clock_now_ms(void);         /* wall */
int64_t clock_now_ns(void);         /* wall */
int64_t clock_mono_ns(void);        /* steady; for durations and deadlines */
int64_t clock_mono_coarse_ns(void); /* the same, some milliseconds late, and cheaper */
int64_t clock_process_cpu_ns(void);
void clock_sleep_until_mono_ns(int64_t mono_ns);

/* Tests: from here on all clocks stand still at `wall_ms` until moved. clock_fake_off() ends it. */
void clock_fake_set(int64_t wall_ms);
void clock_fake_advance(int64_t ms);
/* Each look by clock_mono_coarse_ns() moves the clocks by so much: a test that counts looks, and ends what has a
 * deadline at any of them. */
void clock_fake_tick(int64_t ms);
void clock_fake_off(void);

/* RFC 3339 in UTC with as many fractional digits as needed up to nanoseconds ("2026-01-02T03:04:05.5Z"). */
size_t clock_format_rfc3339(char to[40], int64_t wall_ns);
bool clock_parse_rfc3339(struct nx_slice s, int64_t *wall_ms);
