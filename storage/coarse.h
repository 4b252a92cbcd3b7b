/* coarse.h - blocks of a resolution: what they hold of each series and window, written and read.
 *
 * A window of resolution R is the time (k * R, (k + 1) * R]. Of the samples of a series in it one *point* is
 * kept. Its time is that of the last sample, so that it is found by whoever looks for the newest
 * sample at a time. On disk: FORMAT.md, "Blocks of a resolution".
 *
 * Threads  as of the block.
 * Units    milliseconds. */
#pragma once

#include "storage/block.h"

struct coarse_point {
    int64_t t; /* of the last sample, or of the stale marker */
    double last;
    double min, max, sum,
        count; /* count 0: a stale marker, and `last` is it; the rest means nothing */
    double
        fallen; /* sum of the values from which it fell since the point before; 0 where that is not told */
    double
        first; /* if has_first: the first sample, at t_first <= t. Then nothing came before it in the */
    int64_t t_first; /* window before, and `fallen` begins there */
    bool has_first;
};
struct coarse_points {
    struct coarse_point *v;
    size_t n, cap;
    struct arena_share *share; /* as of struct samples */
    size_t most;
};
void coarse_points_done(struct coarse_points *p); /* accepts all zero */

/* The number of the window that t is in. */
static inline int64_t coarse_window(int64_t t, int64_t resolution_ms)
{
    return t / resolution_ms + (t % resolution_ms > 0);
}

/* ---- making ----------------------------------------------------------------------------------- */

/* Points of one series from samples or finer points that come in time order. */
struct coarse_maker {
    int64_t resolution_ms;
    struct coarse_points *to; /* borrowed; appended to */
    bool any;                 /* there was a sample before: */
    double prev;              /* the last one, */
    int64_t prev_window;      /* that it was in */
    bool pending;             /* something of `window` is not told yet: */
    int64_t window;
    bool open;   /* the last of `to` is not complete */
    double lost; /* what the sum was rounded by */
    bool stale;  /* a marker came last, at stale_ms */
    int64_t stale_ms;
    uint64_t n_fallen; /* points that fell */
    bool negative;
};
NX_NODISCARD nx_status coarse_add(struct coarse_maker *m, const struct coarse_point *p,
                                  struct nx_err *err);
/* A sample as a point of its own. */
struct coarse_point coarse_of_sample(int64_t t, double v);
NX_NODISCARD nx_status coarse_end(struct coarse_maker *m, struct nx_err *err);
/* Is it kept how far the series fell? Named like a counter, or never below 0 and falling in few windows. */
bool coarse_is_counter(const struct coarse_maker *m, struct nx_slice name);

/* The next series of a block of that resolution. No points: it is left out. */
struct coarse_buffers { /* working memory; all zero at first */
    struct samples column;
};
NX_NODISCARD nx_status coarse_write(struct block_writer *w, const struct block_meta *meta,
                                    const struct labels *ls, const struct coarse_points *p,
                                    bool counter, struct coarse_buffers *b, struct nx_err *err);

/* ---- reading ---------------------------------------------------------------------------------- */

/* Appends the points of series `ref` with times in [mint, maxt], less what is deleted. As block_read(). */
NX_NODISCARD nx_status coarse_read(struct block *b, uint64_t ref, int64_t mint, int64_t maxt,
                                   struct coarse_points *to, struct samples *column,
                                   struct chunk_scratch *s, struct nx_err *err);
/* A counter as it were had it never been reset, over all that is read of a series, part by part in time order. */
struct coarse_rise {
    bool any;
    double prev;    /* as it was stored, */
    int64_t prev_t; /* at this time */
    double lost;    /* to resets so far */
};
/* Samples x[from..n) of the next part. */
void coarse_rise_samples(struct coarse_rise *rise, struct samples *x, size_t from);

/* What a reader with that use sees of the points in [mint, maxt], appended. `exact`: windows begin with the
 * value that the one before ended with (storage.h, column.exact). `rise` is for READ_COUNTER. */
NX_NODISCARD nx_status coarse_emit(const struct coarse_points *p, int64_t resolution_ms,
                                   enum read_use use, bool exact, int64_t mint, int64_t maxt,
                                   struct coarse_rise *rise, struct samples *to,
                                   struct nx_err *err);
