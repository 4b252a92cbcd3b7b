/* durations.h - how long something takes, over and over: a histogram since the start, and quantiles of the last ten
 * minutes (of the last few hundred times in them).
 *
 * Threads  any. Takes a lock of rank STATS. Units are seconds. */
#pragma once

#include "src/base/status.h"

#define DURATION_BUCKETS 5 /* up to 0.01, 0.1, 1, 10 s, and above */

struct durations;
struct durations *durations_new(void);    /* NULL out of memory */
void durations_free(struct durations *d); /* accepts NULL */
void durations_add(struct durations *d, double seconds);

struct durations_view {
    uint64_t count, bucket[DURATION_BUCKETS]; /* not cumulative */
    double sum, quantile[5];                  /* 0.01, 0.05, 0.5, 0.9, 0.99; NaN: none */
};
/* Without `d` there were none yet. */
void durations_read(struct durations *d, struct durations_view *out);
