/* head_batch.h - many series of the head at a time. See head_batch.c.
 *
 * Owner    a reader (head.h) has a list of batches, one for each of its selections that the head keeps.
 * Threads  batch_read(): several at a time, and beside one batch_add(); the rest one. */
#pragma once

#include "storage/head.h"

struct batch;
struct batches {
    struct batch *first; /* atomic: batches are added while others are read */
    struct head *head;   /* borrowed */
    uint64_t seq;        /* of the reader: appends up to this one are seen */
    int64_t from_ms;     /* the same: rows before this are not */
};

/* Which of the selection's series have samples in rows of [mint, maxt]: alive[i] is set for those, and left for
 * what the rows do not tell. Under the index lock. */
void batch_alive_locked(const struct batches *b, const struct selection *s, int64_t mint,
                        int64_t maxt, uint8_t *alive);
/* The series of `list` (borrowed, as long as the reader) are about to be read. `at` has the place of each in the
 * selection. Without memory there is no batch: series are read one by one. */
void batch_add(struct batches *b, const struct selection *s, const struct series_list *list,
               const uint32_t *at);
/* The samples of a series in [mint, maxt], if it is of a batch and can be read so: borrowed from the batch. With
 * `newest` the newest alone. `share` counts what is allocated; may be NULL. */
bool batch_read(struct batches *b, const struct series *s, int64_t mint, int64_t maxt, bool newest,
                struct arena_share *share, const int64_t **t, const double **v, size_t *n);
void batches_done(struct batches *b);
