/* pieces.h - a long series is read a run of steps at a time. Private to promql/.
 *
 * Threads  a struct pieces is used by one thread at a time.
 * Units    milliseconds. */
#pragma once

#include "promql/eval.h"

/* The steps [from, to). All zero: none yet. */
struct piece {
    uint32_t from, to;
};

/* How one selector's series are read for the steps of tm: the step with data time d sees the samples in
 * (d - before, d + beyond]. */
struct pieces {
    const struct eval_times *tm;
    int64_t pin_ms, offset_ms, before_ms, beyond_ms;
    bool pinned;
    /* What the data times of a piece's steps span; 0: it is not known yet. Learnt from the series before. */
    int64_t span_ms;
};

/* The piece after *p (which becomes it), read into ev->col. A series of few samples, as most are, is one
 * piece. */
NX_NODISCARD nx_status pieces_read(struct eval *ev, struct pieces *ps, const struct series *s,
                                   const struct read_hint *h, struct piece *p, struct nx_err *err);
/* The same piece once more, for another use. */
NX_NODISCARD nx_status pieces_read_again(struct eval *ev, const struct pieces *ps,
                                         const struct series *s, const struct read_hint *h,
                                         const struct piece *p, struct nx_err *err);
/* The steps of a piece, and its part of a row. */
struct eval_times piece_times(const struct eval_times *tm, const struct piece *p);
static inline struct row piece_row(const struct row *r, const struct piece *p)
{
    return (struct row){r->v + p->from, r->has + p->from, 0};
}
