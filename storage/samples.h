/* samples.h - a growing pair of arrays, times and values: what readers append to.
 *
 * Owner    who declared it; samples_done() frees. Empty is all zero bits.
 * Threads  one at a time.
 * Units    Unix milliseconds. */
#pragma once

#include "src/base/arena.h"
#include "src/base/status.h"

struct samples {
    int64_t *t;
    double *v;
    size_t n, cap;
    struct arena_share *share; /* counts the bytes; borrowed; NULL: nobody does */
    size_t
        most; /* once it has more than that it takes no more: NX_LIMIT, and `over` is set; 0: any number */
    bool over;
};

/* Makes room for `extra` more at t + n and v + n (caller adds to n). NX_NOMEM, and as arena_share_take(). */
NX_NODISCARD nx_status samples_reserve(struct samples *s, size_t extra, struct nx_err *err);
NX_NODISCARD nx_status samples_add(struct samples *s, int64_t t_ms, double v, struct nx_err *err);
/* Appends those of n rows that lie in [mint, maxt] and whose value is not CHUNK_ABSENT; t ascends. */
NX_NODISCARD nx_status samples_add_rows(struct samples *s, const int64_t *t, const double *v,
                                        size_t n, int64_t mint, int64_t maxt, struct nx_err *err);
void samples_done(struct samples *s); /* accepts all zero */
