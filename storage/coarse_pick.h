/* coarse_pick.h - which of the blocks that hold a series is read for which time.
 *
 * Threads  any; pure. Units: milliseconds. */
#pragma once

#include "storage/storage.h"

/* A source of one series: what it covers. */
struct pick_source {
    int64_t min_ms, max_ms; /* max exclusive */
    int64_t resolution_ms;  /* 0: samples */
};
/* A stretch of time to be read from a source; both ends included. */
struct pick_part {
    size_t source;
    int64_t from_ms, to_ms;
};

/* Points of this resolution answer as samples would at the times of the hint. */
bool pick_is_exact(const struct read_hint *h, int64_t resolution_ms);
/* Parts in time order of the sources that hold the series, for `n` of them: at most pick_max(n). Where several cover
 * a time: the coarsest that is exact for the hint (NULL: none is), else the finest. Sources of one resolution may
 * overlap. Returns how many. */
size_t pick_parts(const struct pick_source *v, size_t n, const struct read_hint *h,
                  struct pick_part *out);
static inline size_t pick_max(size_t n)
{
    return n * (n + 1);
}
