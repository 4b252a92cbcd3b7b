/* helpers.c - threads that large queries share.
 *
 * WHY     A large query on an otherwise idle machine should have all of it; many queries at a time have one
 *         processor each anyway, and more threads would only take turns.
 * RULES   P1  Queries at work and helpers at work together are not more than the processors when a helper
 *             is lent. One that comes later does not wait: helpers see that it is crowded, and end.
 *         P2  Nobody waits for a helper to be free.
 * THREADS `lock` guards the list of jobs and the count of threads; the counts that P1 needs may be read
 *         without. A helper holds no lock while it runs a job. */
#include "promql/helpers.h"

#include <stdlib.h>

#include "src/base/thread.h"

struct helpers {
    /* set once */
    unsigned n_most;
    const uint32_t *n_queries; /* atomic */

    struct nx_mutex lock;
    struct nx_cond sent, ended;
    /* under lock; busy may be read without */
    unsigned n_threads, busy;
    struct helper_job *first, **last;
    bool stop;
    struct nx_thread threads[];
};

struct helpers *helpers_new(unsigned n_threads, const uint32_t *n_queries)
{
    struct helpers *h = calloc(1, sizeof *h + n_threads * sizeof h->threads[0]);

    if (!h)
        return NULL;
    h->n_most = n_threads;
    h->n_queries = n_queries;
    h->last = &h->first;
    nx_mutex_init(&h->lock, NX_RANK_QUEUE);
    nx_cond_init(&h->sent);
    nx_cond_init(&h->ended);
    return h;
}

void helpers_free(struct helpers *h)
{
    if (!h)
        return;
    nx_lock(&h->lock);
    NX_ASSERT(h->busy == 0);
    h->stop = true;
    nx_cond_broadcast(&h->sent);
    nx_unlock(&h->lock);
    for (unsigned i = 0; i < h->n_threads; i++)
        nx_thread_join(&h->threads[i]);
    nx_cond_done(&h->ended);
    nx_cond_done(&h->sent);
    nx_mutex_done(&h->lock);
    free(h);
}

unsigned helpers_most(const struct helpers *h)
{
    return h->n_most;
}

/* Threads at work besides those that there are processors for. */
static int surplus(const struct helpers *h)
{
    uint32_t queries = __atomic_load_n(h->n_queries, __ATOMIC_RELAXED);
    unsigned busy = __atomic_load_n(&h->busy, __ATOMIC_RELAXED);

    return (int)(queries + busy) - (int)(h->n_most + 1);
}

bool helpers_crowded(const struct helpers *h)
{
    return surplus(h) > 0;
}

bool helpers_idle(const struct helpers *h)
{
    return surplus(h) < 0 && __atomic_load_n(&h->busy, __ATOMIC_RELAXED) < h->n_most;
}

static void set_busy_locked(struct helpers *h, unsigned n)
{
    NX_ASSERT(nx_mutex_held(&h->lock));
    __atomic_store_n(&h->busy, n, __ATOMIC_RELAXED);
}

static void help(void *arg)
{
    struct helpers *h = arg;

    nx_lock(&h->lock);
    for (;;) {
        struct helper_job *job = h->first;

        if (!job) {
            if (h->stop)
                break;
            nx_cond_wait(&h->sent, &h->lock);
            continue;
        }
        h->first = job->next;
        if (!h->first)
            h->last = &h->first;
        nx_unlock(&h->lock);
        job->run(job);
        nx_lock(&h->lock);
        __atomic_store_n(&job->out, false, __ATOMIC_RELEASE);
        set_busy_locked(h, h->busy - 1);
        nx_cond_broadcast(&h->ended);
    }
    nx_unlock(&h->lock);
}

/* One more thread if all are busy; false if there can't be one. */
static bool thread_for_locked(struct helpers *h)
{
    NX_ASSERT(nx_mutex_held(&h->lock));
    if (h->busy < h->n_threads)
        return true;
    if (nx_thread_start(&h->threads[h->n_threads], "query", help, h, NULL))
        return false;
    h->n_threads++;
    return true;
}

bool helpers_send(struct helpers *h, struct helper_job *job)
{
    bool sent = false;

    nx_lock(&h->lock);
    NX_ASSERT(!helper_is_out(job));
    if (helpers_idle(h) && thread_for_locked(h)) { /* P1 */
        set_busy_locked(h, h->busy + 1);
        __atomic_store_n(&job->out, true, __ATOMIC_RELAXED);
        job->next = NULL;
        *h->last = job;
        h->last = &job->next;
        nx_cond_signal(&h->sent);
        sent = true;
    }
    nx_unlock(&h->lock);
    return sent;
}

void helpers_wait(struct helpers *h, struct helper_job *job)
{
    nx_lock(&h->lock);
    while (helper_is_out(job))
        nx_cond_wait(&h->ended, &h->lock);
    nx_unlock(&h->lock);
}
