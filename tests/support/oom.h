/* oom.h - allocations that fail when a test says so.
 *
 * All tests are linked with malloc, calloc, realloc, reallocarray, aligned_alloc, strdup, strndup and
 * vasprintf/asprintf wrapped (--wrap, so sanitizers still see the real ones). Nothing fails until
 * oom_fail_at(). C++'s new and what libraries allocate inside are not touched.
 *
 *     for (unsigned n = 1;; n++) {
 *         oom_fail_at(n);
 *         st = thing_new(...);
 *         if (!oom_off())
 *             break;               the call needed fewer than n allocations: all were tried
 *         assert_int_equal(st, NX_NOMEM);
 *     }
 *
 * Threads: the count is this thread's; other threads' allocations never fail. */
#pragma once

#include <stdbool.h>

/* The n-th allocation from here on fails, n counted from 1; only that one. */
void oom_fail_at(unsigned n);
/* That one and all after it. */
void oom_fail_from(unsigned n);
/* Ends it; true if an allocation was made to fail. */
bool oom_off(void);

/* Test tools' own allocations: between the two nothing is counted and nothing fails. They nest. */
void oom_pause(void);
void oom_resume(void);
