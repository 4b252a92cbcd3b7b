/* shared_times.h - timestamps that series have in common, found before they are written to a block.
 *
 * Series of one (instance, job) mostly share their timestamps, but who loads a dump or another's block has them series
 * by series, and one that lacks a row or two has a vector of its own. So all are surveyed first, the timestamps of
 * each (instance, job) united, and a series is written over the union where that is not much longer than
 * itself: rows it lacks are absent.
 *
 * Owner    who declared it: all zero is empty, shared_times_done() frees. Threads: one. */
#pragma once

#include "storage/block.h"

struct shared_group;
struct shared_times {
    struct shared_group *v;
    uint32_t n, cap;
    uint32_t *slots;
    size_t n_slots;
    int64_t *merged;
    size_t cap_merged;
    double *rows;
};
void shared_times_done(struct shared_times *s);
void shared_times_clear(struct shared_times *s); /* for the next block */

/* The survey: n ascending timestamps of a series. */
NX_NODISCARD nx_status shared_times_add(struct shared_times *s, const struct labels *ls,
                                        const int64_t *t, size_t n, struct nx_err *err);
/* Writes the samples of the writer's current series, whose timestamps were surveyed; else NX_BADINPUT. */
NX_NODISCARD nx_status shared_times_put(struct shared_times *s, struct block_writer *w,
                                        const struct labels *ls, const int64_t *t, const double *v,
                                        size_t n, struct nx_err *err);
