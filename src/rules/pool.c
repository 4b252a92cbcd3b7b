#include "src/rules/group.h"

/* pool.c - rules that are evaluated beside the threads of their groups (concurrent-rule-eval).
 *
 * RULES   P1  At most `max` rules of all groups together are evaluated here at a time. A rule for which there is
 *             no place is evaluated by its group's own thread at once, so nobody ever waits for a place.
 * THREADS Any number of groups' threads in rule_pool_run(). */

#define MAX_THREADS 64u

struct job {
    struct work work; /* first */
    struct rule_group *g;
    struct rule_state *r;
    int64_t t_ns;
};

struct workers *rule_pool_new(unsigned max)
{
    return workers_new(max < MAX_THREADS ? max : MAX_THREADS, "rule", NULL);
}

static void run(struct work *w)
{
    const struct job *j = (const struct job *)(void *)w;

    rule_run(j->g, j->r, j->t_ns);
}

/* NULL: as many are out as there may be. */
static struct job *free_job(struct job jobs[MAX_THREADS])
{
    for (unsigned i = 0; i < MAX_THREADS; i++)
        if (!work_is_out(&jobs[i].work))
            return &jobs[i];
    return NULL;
}

void rule_pool_run(struct workers *p, struct rule_group *g, size_t stage, int64_t t_ns)
{
    struct job jobs[MAX_THREADS] = {0};
    size_t in_stage = 0;

    for (size_t i = 0; i < g->def->n_rules; i++)
        in_stage += g->rules[i].stage == stage;
    for (size_t i = 0; i < g->def->n_rules; i++) {
        struct job *j = in_stage > 1 ? free_job(jobs) : NULL;

        if (g->rules[i].stage != stage)
            continue;
        if (j)
            *j = (struct job){.work.run = run, .g = g, .r = &g->rules[i], .t_ns = t_ns};
        if (!j || !workers_send(p, &j->work))
            rule_run(g, &g->rules[i], t_ns);
    }
    for (unsigned i = 0; i < MAX_THREADS; i++)
        if (work_is_out(&jobs[i].work))
            workers_wait(p, &jobs[i].work);
}
