/* points.h - functions of ranges where the store has points of a coarser resolution and not samples.
 *
 * Private to promql/. docs/DOWNSAMPLING.md says what comes of it. */
#pragma once

#include "promql/eval.h"

struct points_use {
    const char *function;
    enum read_use use;
    /* Points that the function needs: where points are all there is, a range that is too short to hold so many is
     * taken as that many resolutions long. */
    uint8_t needs;
    bool grows; /* with the range: then the result is what falls to the range that was asked for */
    bool mean;  /* of the sums by the counts */
    void (*slide)(const struct pql_slide *s, double *out,
                  uint8_t *has); /* NULL: the function's own */
};
/* Never NULL. */
const struct points_use *points_use_of(const struct pql_func *f);

/* What the store is told of an instant selector, or of a range. */
struct read_hint points_hint(enum read_use use, const struct eval_times *tm, const int64_t *pin,
                             int64_t offset_ms, int64_t range_ms);
/* Into ev->col, as ops->read; the hint may be NULL: samples as they are, points as their last values. What it
 * allocates is the query's memory; errors are what the query fails with. With `most` (not 0) it may stop when
 * there are more: then ev->col.over is set, the status says nothing and err is not touched. */
NX_NODISCARD nx_status points_read(struct eval *ev, const struct series *s,
                                   const struct read_hint *h, int64_t mint, int64_t maxt,
                                   size_t most, struct nx_err *err);
