/* lanes.h - compensated sums, several side by side.
 *
 * WHY  kahan_add() waits for its last result, so one sum leaves the processor idle most of the time.
 *      Four sums of four windows are worked together; each has the very bits it would have alone. */
#pragma once

#include <math.h>
#include <stdint.h>

#define LANES 4
typedef double lanes __attribute__((vector_size(16)));
typedef int64_t lane_mask __attribute__((vector_size(16)));

static inline lanes lane_pick(lane_mask m, lanes a, lanes b)
{
    return (lanes)((m & (lane_mask)a) | (~m & (lane_mask)b));
}

static inline lanes lane_abs(lanes a)
{
    return (lanes)((lane_mask)a & INT64_MAX);
}

/* kahan_add() on two pairs. */
static inline void kahan_lanes(const lanes x[2], lanes sum[2], lanes c[2])
{
    for (int i = 0; i < 2; i++) {
        lanes t = sum[i] + x[i], low;

        low =
            lane_pick(lane_abs(sum[i]) >= lane_abs(x[i]), (sum[i] - t) + x[i], (x[i] - t) + sum[i]);
        c[i] = lane_pick(lane_abs(t) == INFINITY, (lanes){0, 0}, c[i] + low);
        sum[i] = t;
    }
}
