/* Workers take what they have a thread for, and nothing else. */
#include "tests/support/test.h"

#include "src/base/thread.h"
#include "src/base/workers.h"

#define MOST 3

struct job {
    struct work work; /* first */
    struct gate *gate;
};
/* Jobs that have begun wait here until it is open. */
struct gate {
    struct nx_mutex lock;
    struct nx_cond changed;
    unsigned begun;
    bool open;
};

static void gate_init(struct gate *g)
{
    *g = (struct gate){0};
    nx_mutex_init(&g->lock, NX_RANK_STATS);
    nx_cond_init(&g->changed);
}

static void gate_done(struct gate *g)
{
    nx_cond_done(&g->changed);
    nx_mutex_done(&g->lock);
}

static void run(struct work *w)
{
    struct gate *g = ((struct job *)(void *)w)->gate;

    nx_lock(&g->lock);
    g->begun++;
    nx_cond_broadcast(&g->changed);
    while (!g->open)
        nx_cond_wait(&g->changed, &g->lock);
    nx_unlock(&g->lock);
}

static void wait_for_begun(struct gate *g, unsigned n)
{
    nx_lock(&g->lock);
    while (g->begun < n)
        nx_cond_wait(&g->changed, &g->lock);
    nx_unlock(&g->lock);
}

static void set_open(struct gate *g, bool open)
{
    nx_lock(&g->lock);
    g->open = open;
    nx_cond_broadcast(&g->changed);
    nx_unlock(&g->lock);
}

static bool send(struct workers *p, struct job *j, struct gate *g)
{
    *j = (struct job){.work.run = run, .gate = g};
    return workers_send(p, &j->work);
}

/* All at a time, however often; one more is not taken. */
static void as_many_work_as_there_may_be(void **state)
{
    struct workers *p = workers_new(MOST, "test", NULL);
    struct job jobs[MOST + 1];
    struct gate g;

    (void)state;
    assert_non_null(p);
    assert_int_equal(workers_most(p), MOST);
    gate_init(&g);
    for (unsigned round = 1; round <= 20; round++) {
        set_open(&g, false);
        for (unsigned i = 0; i < MOST; i++) {
            assert_true(workers_idle(p));
            assert_true(send(p, &jobs[i], &g));
        }
        assert_false(workers_idle(p));
        assert_false(send(p, &jobs[MOST], &g));
        assert_false(work_is_out(&jobs[MOST].work));
        wait_for_begun(&g, round * MOST);
        assert_false(workers_crowded(p));
        set_open(&g, true);
        for (unsigned i = 0; i < MOST; i++) {
            workers_wait(p, &jobs[i].work);
            assert_false(work_is_out(&jobs[i].work));
        }
    }
    gate_done(&g);
    workers_free(p);
}

static void users_count_as_well(void **state)
{
    uint32_t users = MOST;
    struct workers *p = workers_new(MOST, "test", &users);
    struct job jobs[2];
    struct gate g;

    (void)state;
    assert_non_null(p);
    gate_init(&g);
    assert_true(send(p, &jobs[0], &g));
    assert_false(workers_idle(p));
    assert_false(send(p, &jobs[1], &g));
    assert_false(workers_crowded(p));
    __atomic_store_n(&users, MOST + 1, __ATOMIC_RELAXED); /* it came later, and does not wait */
    assert_true(workers_crowded(p));
    set_open(&g, true);
    workers_wait(p, &jobs[0].work);
    assert_false(workers_crowded(p));
    assert_false(workers_idle(p));
    gate_done(&g);
    workers_free(p);
}

static void who_sends_nothing_has_no_threads(void **state)
{
    (void)state;
    workers_free(workers_new(MOST, "test", NULL));
    workers_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_work_as_there_may_be),
        cmocka_unit_test(users_count_as_well),
        cmocka_unit_test(who_sends_nothing_has_no_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
