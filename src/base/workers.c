/* workers.c - see workers.h.
 *
 * WHY     A large query on an otherwise idle machine should have all of it; many queries at a time have one processor
 *         each anyway, and more threads would only take turns. Rules that do not read each other may be evaluated at a time.
 * RULES   P1  Workers and users at work together are not more than there are to be when work is taken. A user that
 *             comes later does not wait: workers see that it is crowded, and end.
 *         P2  There is never more work out than there may be threads, so none waits for other work.
 * THREADS `lock` guards the list of work and the counts; what P1 needs may be read without. A worker holds no lock while
 *         it works. */
#include "src/base/workers.h"

#include <stdio.h>
#include <stdlib.h>

#include "src/base/thread.h"

struct workers {
    /* set once */
    unsigned most;
    const char *name;
    const uint32_t *n_users; /* atomic; NULL: they do not count */

    struct nx_mutex lock;
    struct nx_cond sent, ended;
    /* under lock; busy may be read without */
    unsigned n_threads, busy;
    struct work *first, **last;
    bool stop;
    struct nx_thread threads[];
};

struct workers *workers_new(unsigned most, const char *name, const uint32_t *n_users)
{
    struct workers *p = calloc(1, sizeof *p + most * sizeof p->threads[0]);

    if (!p)
        return NULL;
    p->most = most;
    p->name = name;
    p->n_users = n_users;
    p->last = &p->first;
    nx_mutex_init(&p->lock, NX_RANK_QUEUE);
    nx_cond_init(&p->sent);
    nx_cond_init(&p->ended);
    return p;
}

void workers_free(struct workers *p)
{
    if (!p)
        return;
    nx_lock(&p->lock);
    NX_ASSERT(p->busy == 0);
    p->stop = true;
    nx_cond_broadcast(&p->sent);
    nx_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++)
        nx_thread_join(&p->threads[i]);
    nx_cond_done(&p->ended);
    nx_cond_done(&p->sent);
    nx_mutex_done(&p->lock);
    free(p);
}

unsigned workers_most(const struct workers *p)
{
    return p->most;
}

/* Threads at work besides those that there are to be. */
static int surplus(const struct workers *p)
{
    uint32_t users = p->n_users ? __atomic_load_n(p->n_users, __ATOMIC_RELAXED) : 0;
    unsigned busy = __atomic_load_n(&p->busy, __ATOMIC_RELAXED);

    return (int)(users + busy) - (int)(p->most + 1);
}

bool workers_crowded(const struct workers *p)
{
    return surplus(p) > 0;
}

bool workers_idle(const struct workers *p)
{
    return surplus(p) < 0 && __atomic_load_n(&p->busy, __ATOMIC_RELAXED) < p->most;
}

static void set_busy_locked(struct workers *p, unsigned n)
{
    NX_ASSERT(nx_mutex_held(&p->lock));
    __atomic_store_n(&p->busy, n, __ATOMIC_RELAXED);
}

static void work(void *arg)
{
    struct workers *p = arg;

    nx_lock(&p->lock);
    for (;;) {
        struct work *w = p->first;

        if (!w) {
            if (p->stop)
                break;
            nx_cond_wait(&p->sent, &p->lock);
            continue;
        }
        p->first = w->next;
        if (!p->first)
            p->last = &p->first;
        nx_unlock(&p->lock);
        w->run(w);
        nx_lock(&p->lock);
        __atomic_store_n(&w->out, false, __ATOMIC_RELEASE);
        set_busy_locked(p, p->busy - 1);
        nx_cond_broadcast(&p->ended);
    }
    nx_unlock(&p->lock);
}

/* One more thread if all are busy; false if there can't be one. */
static bool thread_for_locked(struct workers *p)
{
    char name[16];

    NX_ASSERT(nx_mutex_held(&p->lock));
    if (p->busy < p->n_threads)
        return true;
    snprintf(name, sizeof name, "%s-%u", p->name, p->n_threads + 1);
    if (nx_thread_start(&p->threads[p->n_threads], name, work, p, NULL))
        return false;
    p->n_threads++;
    return true;
}

bool workers_send(struct workers *p, struct work *w)
{
    bool sent;

    nx_lock(&p->lock);
    NX_ASSERT(!work_is_out(w));
    sent = workers_idle(p) && thread_for_locked(p); /* P1, P2 */
    if (sent) {
        set_busy_locked(p, p->busy + 1);
        __atomic_store_n(&w->out, true, __ATOMIC_RELAXED);
        w->next = NULL;
        *p->last = w;
        p->last = &w->next;
        nx_cond_signal(&p->sent);
    }
    nx_unlock(&p->lock);
    return sent;
}

void workers_wait(struct workers *p, struct work *w)
{
    nx_lock(&p->lock);
    while (work_is_out(w))
        nx_cond_wait(&p->ended, &p->lock);
    nx_unlock(&p->lock);
}
