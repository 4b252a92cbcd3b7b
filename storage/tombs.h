/* tombs.h - which samples of which series are deleted, while the bytes that hold them stay.
 *
 * A set of tombstones maps numbers of series to spans of time. It never changes once made: a deletion makes
 * another one. Runs of series with the same spans are kept once, so that deleting all of a block, or a
 * job's series, takes next to nothing.
 *
 * Owner    shared by reference. NULL is the empty set in all of these functions.
 * Threads  any.
 * Units    Unix milliseconds; spans include both ends. On disk: FORMAT.md, "Tombstones". */
#pragma once

#include "src/base/buf.h"
#include "storage/samples.h"

struct tombs;

struct tspan {
    int64_t from_ms, to_ms;
};
struct tspans { /* ascending, with a gap between any two; valid while the set is */
    const struct tspan *v;
    size_t n;
};

struct tombs *tombs_ref(struct tombs *t);
void tombs_unref(struct tombs *t);

/* Spans of one series; none: n is 0. */
struct tspans tombs_of(const struct tombs *t, uint32_t id);
/* Series with tombstones; spans in all, each counted for each series. */
uint64_t tombs_n_series(const struct tombs *t);
uint64_t tombs_n_spans(const struct tombs *t);

/* Drops what lies in the spans from x[from..n), whose times ascend; returns how many went. */
size_t tspans_filter(struct tspans s, struct samples *x, size_t from);
/* The first part of [*from_ms, to_ms] that no span covers; false: all is covered. The next one is asked for with
 * *from_ms behind this one's end. */
bool tspans_gap(struct tspans s, int64_t from_ms, int64_t to_ms, struct tspan *gap);

struct tomb {
    uint32_t id;
    struct tspan span;
};
/* What is in `old` or among the n of `add`, which ascend by id. */
NX_NODISCARD nx_status tombs_merge(struct tombs **out, const struct tombs *old,
                                   const struct tomb *add, size_t n, struct nx_err *err);
/* What is left of `old` of the series that `keep` wants, without spans that end before `from_ms`. *out is
 * NULL when that is nothing. */
NX_NODISCARD nx_status tombs_prune(struct tombs **out, const struct tombs *old, int64_t from_ms,
                                   bool (*keep)(void *ctx, uint32_t id), void *ctx,
                                   struct nx_err *err);

/* Calls `fn` for each run of series, ascending, until it fails. */
typedef nx_status tombs_visit_fn(void *ctx, uint32_t first, uint32_t last, struct tspans s,
                                 struct nx_err *err);
NX_NODISCARD nx_status tombs_each(const struct tombs *t, tombs_visit_fn *fn, void *ctx,
                                  struct nx_err *err);

/* ---- bytes ------------------------------------------------------------------------------------ */

/* Spans as FORMAT.md has them. Reading appends at most `cap` to v; the reader is bad when they break a rule. */
void tspans_put(struct buf *to, struct tspans s);
size_t tspans_get(struct reader *r, struct tspan *v, size_t cap);

/* A block's file, whole. */
void tombs_encode(const struct tombs *t, const char *ulid, struct buf *to);
/* NX_CORRUPT: not such a file, or that of another block, or series that the block has not. */
NX_NODISCARD nx_status tombs_decode(struct tombs **out, struct nx_slice bytes, const char *ulid,
                                    uint64_t n_series, struct nx_err *err);
