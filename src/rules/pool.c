#include "src/rules/group.h"

/* pool.c - threads that evaluate rules beside the threads of their groups (concurrent-rule-eval).
 *
 * RULES   P1  At most `max` rules of all groups together are evaluated here at a time. A rule for which there is
 *             no place is evaluated by its group's own thread at once, so nobody ever waits for a place.
 *         P2  Threads are made when there is first something for them to do.
 * THREADS Any number of groups' threads in rule_pool_run(). The lock is not held while a rule is evaluated. */

#include <stdio.h>
#include <stdlib.h>

#define MAX_THREADS 64u

struct batch {
    size_t left; /* under the pool's lock */
};
struct job {
    struct rule_group *g;
    struct rule_state *r;
    int64_t t_ns;
    struct batch *batch;
};

struct rule_pool {
    unsigned max; /* set once */
    struct nx_mutex lock;
    struct nx_cond work, done;
    /* under lock */
    struct job jobs[MAX_THREADS]; /* taken from the end */
    unsigned n_jobs, busy;        /* busy: jobs that wait or run (P1) */
    struct nx_thread threads[MAX_THREADS];
    unsigned n_threads;
    bool stop;
};

static void work(void *arg)
{
    struct rule_pool *p = arg;

    nx_lock(&p->lock);
    for (;;) {
        while (!p->n_jobs && !p->stop)
            nx_cond_wait(&p->work, &p->lock);
        if (!p->n_jobs)
            break;
        struct job j = p->jobs[--p->n_jobs];
        nx_unlock(&p->lock);
        rule_run(j.g, j.r, j.t_ns);
        nx_lock(&p->lock);
        p->busy--;
        if (!--j.batch->left)
            nx_cond_broadcast(&p->done);
    }
    nx_unlock(&p->lock);
}

struct rule_pool *rule_pool_new(unsigned max)
{
    struct rule_pool *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    p->max = max < MAX_THREADS ? max : MAX_THREADS;
    nx_mutex_init(&p->lock, NX_RANK_QUEUE);
    nx_cond_init(&p->work);
    nx_cond_init(&p->done);
    return p;
}

void rule_pool_free(struct rule_pool *p)
{
    if (!p)
        return;
    nx_lock(&p->lock);
    p->stop = true;
    nx_cond_broadcast(&p->work);
    nx_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++)
        nx_thread_join(&p->threads[i]);
    nx_cond_done(&p->work);
    nx_cond_done(&p->done);
    nx_mutex_done(&p->lock);
    free(p);
}

/* P2 */
static bool have_thread_locked(struct rule_pool *p)
{
    char name[16];

    if (p->n_threads > p->busy)
        return true;
    snprintf(name, sizeof name, "rule-%u", p->n_threads + 1);
    if (nx_thread_start(&p->threads[p->n_threads], name, work, p, NULL))
        return false;
    p->n_threads++;
    return true;
}

/* Whether a thread of the pool takes it. */
static bool hand_over(struct rule_pool *p, const struct job *j)
{
    bool taken;

    nx_lock(&p->lock);
    taken = p->busy < p->max && have_thread_locked(p);
    if (taken) {
        p->busy++;
        p->jobs[p->n_jobs++] = *j;
        j->batch->left++;
        nx_cond_signal(&p->work);
    }
    nx_unlock(&p->lock);
    return taken;
}

void rule_pool_run(struct rule_pool *p, struct rule_group *g, size_t stage, int64_t t_ns)
{
    struct batch batch = {0};
    size_t in_stage = 0;

    for (size_t i = 0; i < g->def->n_rules; i++)
        in_stage += g->rules[i].stage == stage;
    for (size_t i = 0; i < g->def->n_rules; i++) {
        const struct job j = {g, &g->rules[i], t_ns, &batch};
        if (g->rules[i].stage != stage)
            continue;
        if (in_stage < 2 || !hand_over(p, &j))
            rule_run(g, &g->rules[i], t_ns);
    }
    nx_lock(&p->lock);
    while (batch.left)
        nx_cond_wait(&p->done, &p->lock);
    nx_unlock(&p->lock);
}
