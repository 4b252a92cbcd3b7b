/* workers.h - a few threads for work that their users would otherwise do themselves.
 *
 * Work is taken only if a thread is free for it, and a processor is likely to be idle: nobody waits for a place, and who
 * gets none goes on alone.
 *
 * Threads  any. Those of the workers are made when there is first something for them to do, and stay. */
#pragma once

#include "src/base/status.h"

struct workers;

/* A piece of work. All zero before it is sent. */
struct work {
    void (*run)(struct work *w); /* on a worker's thread */
    bool out;                    /* sent, and not ended; atomic; the workers' */
    struct work *next;           /* the workers' */
};

/* At most `most` threads, named name-1, name-2, ... (borrowed). With n_users (atomic; borrowed), those who send work have
 * a thread each, too, and all together are to be `most` + 1 at most. NULL: out of memory. */
struct workers *workers_new(unsigned most, const char *name, const uint32_t *n_users);
void workers_free(struct workers *p); /* accepts NULL; all work has ended */

unsigned workers_most(const struct workers *p);
/* There are more threads at work than there are to be: work had better end. */
bool workers_crowded(const struct workers *p);
/* Would workers_send() do it? Costs two loads; things may change. */
bool workers_idle(const struct workers *p);
/* False: nobody is free. Else the work (borrowed until it has ended) runs soon. */
bool workers_send(struct workers *p, struct work *w);
static inline bool work_is_out(const struct work *w)
{
    return __atomic_load_n(&w->out, __ATOMIC_ACQUIRE);
}
/* Until the work has ended, if it is out. The worker does not touch it after that. */
void workers_wait(struct workers *p, struct work *w);
