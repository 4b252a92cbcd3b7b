/* helpers.h - threads that large queries share. Private to promql/.
 *
 * Who has work for a second thread asks for one and gets it only if a processor is likely to be idle: each
 * query at work counts as one that is busy, and each helper. Who gets none goes on alone.
 *
 * Owner    the engine. Threads are made when they are first needed, and stay.
 * Threads  any. */
#pragma once

#include "src/base/status.h"

struct helpers;

/* A piece of work. All zero before it is sent. */
struct helper_job {
    void (*run)(struct helper_job *job); /* on a helper's thread */
    bool out;                            /* sent, and not ended; atomic; the pool's */
    struct helper_job *next;             /* the pool's */
};

/* At most n_threads helpers, where *n_queries (atomic; borrowed) queries are at work on n_threads + 1
 * processors. NULL: out of memory. */
struct helpers *helpers_new(unsigned n_threads, const uint32_t *n_queries);
void helpers_free(struct helpers *h); /* accepts NULL; all jobs have ended */

/* How many helpers there may be at all. */
unsigned helpers_most(const struct helpers *h);
/* There are more threads at work than processors: a helper had better end. */
bool helpers_crowded(const struct helpers *h);
/* Would helpers_send() do it? Costs two loads; things may change. */
bool helpers_idle(const struct helpers *h);
static inline bool helper_is_out(const struct helper_job *job)
{
    return __atomic_load_n(&job->out, __ATOMIC_ACQUIRE);
}
/* False: nobody is free. Else the job (borrowed until it has ended) runs soon. */
bool helpers_send(struct helpers *h, struct helper_job *job);
/* Until the job has ended, if it is out. The helper does not touch it after that. */
void helpers_wait(struct helpers *h, struct helper_job *job);
