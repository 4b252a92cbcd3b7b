/* thread.c - pthreads with names, small stacks and ranked locks.
 *
 * RULES   T1  A thread takes locks of rising rank only. Two of one rank may not be held together:
 *             nothing says which would come first.
 *         T2  Waiting on a condition gives the mutex up and takes it back; no other lock may be held
 *             meanwhile, or whoever is to signal might need it.
 * SHAPE   Builds with assertions keep a list of held locks per thread; others pay nothing.
 * NOT     Returning errors from lock and unlock: with these attributes they fail only by our own
 *         mistakes. */
#include "src/base/thread.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL

/* Sanitizers widen every frame. */
#ifdef __has_feature /* clang's way of telling */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES (8u << 20)
#else
#define STACK_BYTES (1024u << 10)
#endif

#ifdef NX_ASSERTS
#define MAX_HELD 16
static _Thread_local struct {
    const void *lock;
    enum nx_rank rank;
} held[MAX_HELD];
static _Thread_local unsigned n_held;

static void note_taking(enum nx_rank rank) /* before it blocks: a deadlock names its line */
{
    for (unsigned i = 0; i < n_held; i++)
        NX_ASSERT(held[i].rank < rank); /* T1 */
    NX_ASSERT(n_held < MAX_HELD);
}

static void note_taken(const void *lock, enum nx_rank rank)
{
    held[n_held].lock = lock;
    held[n_held].rank = rank;
    n_held++;
}

static bool is_held(const void *lock)
{
    for (unsigned i = 0; i < n_held; i++) {
        if (held[i].lock == lock)
            return true;
    }
    return false;
}

static void note_given(const void *lock)
{
    unsigned i = 0;

    while (i < n_held && held[i].lock != lock)
        i++;
    NX_ASSERT(i < n_held); /* given back what it did not have */
    n_held--;
    memmove(&held[i], &held[i + 1], (n_held - i) * sizeof held[0]);
}

static void note_waiting(const void *lock)
{
    NX_ASSERT(n_held == 1 && held[0].lock == lock); /* T2 */
}
#else
static void note_taking(enum nx_rank rank)
{
    (void)rank;
}

static void note_taken(const void *lock, enum nx_rank rank)
{
    (void)lock;
    (void)rank;
}

static bool is_held(const void *lock)
{
    (void)lock;
    return true;
}

static void note_given(const void *lock)
{
    (void)lock;
}

static void note_waiting(const void *lock)
{
    (void)lock;
}
#endif

void nx_mutex_init(struct nx_mutex *m, enum nx_rank rank)
{
    m->rank = rank;
    NX_ASSERT_ALWAYS(pthread_mutex_init(&m->m, NULL) == 0);
}

void nx_mutex_done(struct nx_mutex *m)
{
    pthread_mutex_destroy(&m->m);
}

void nx_lock(struct nx_mutex *m)
{
    note_taking(m->rank);
    NX_ASSERT_ALWAYS(pthread_mutex_lock(&m->m) == 0);
    note_taken(m, m->rank);
}

void nx_unlock(struct nx_mutex *m)
{
    note_given(m);
    NX_ASSERT_ALWAYS(pthread_mutex_unlock(&m->m) == 0);
}

bool nx_mutex_held(const struct nx_mutex *m)
{
    return is_held(m);
}

void nx_rwlock_init(struct nx_rwlock *l, enum nx_rank rank)
{
    pthread_rwlockattr_t attr;

    l->rank = rank;
    NX_ASSERT_ALWAYS(pthread_rwlockattr_init(&attr) == 0);
    /* Safe because of T1: no thread takes a read lock twice. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    NX_ASSERT_ALWAYS(pthread_rwlock_init(&l->l, &attr) == 0);
    pthread_rwlockattr_destroy(&attr);
}

void nx_rwlock_done(struct nx_rwlock *l)
{
    pthread_rwlock_destroy(&l->l);
}

void nx_rdlock(struct nx_rwlock *l)
{
    note_taking(l->rank);
    NX_ASSERT_ALWAYS(pthread_rwlock_rdlock(&l->l) == 0);
    note_taken(l, l->rank);
}

void nx_wrlock(struct nx_rwlock *l)
{
    note_taking(l->rank);
    NX_ASSERT_ALWAYS(pthread_rwlock_wrlock(&l->l) == 0);
    note_taken(l, l->rank);
}

void nx_rwunlock(struct nx_rwlock *l)
{
    note_given(l);
    NX_ASSERT_ALWAYS(pthread_rwlock_unlock(&l->l) == 0);
}

void nx_cond_init(struct nx_cond *c)
{
    pthread_condattr_t attr;

    NX_ASSERT_ALWAYS(pthread_condattr_init(&attr) == 0);
    NX_ASSERT_ALWAYS(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    NX_ASSERT_ALWAYS(pthread_cond_init(&c->c, &attr) == 0);
    pthread_condattr_destroy(&attr);
}

void nx_cond_done(struct nx_cond *c)
{
    pthread_cond_destroy(&c->c);
}

void nx_cond_wait(struct nx_cond *c, struct nx_mutex *m)
{
    note_waiting(m);
    NX_ASSERT_ALWAYS(pthread_cond_wait(&c->c, &m->m) == 0);
}

bool nx_cond_wait_ms(struct nx_cond *c, struct nx_mutex *m, int64_t timeout_ms)
{
    struct timespec until;
    int rc;

    note_waiting(m);
    if (timeout_ms < 0)
        timeout_ms = 0;
    if (timeout_ms > INT32_MAX * 1000LL) /* 68 years; keeps tv_sec in range on 32 bits */
        timeout_ms = INT32_MAX * 1000LL;
    clock_gettime(CLOCK_MONOTONIC, &until); /* the real clock on purpose */
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000 * 1000000);
    if (until.tv_nsec >= NS_PER_S) {
        until.tv_sec++;
        until.tv_nsec -= NS_PER_S;
    }
    rc = pthread_cond_timedwait(&c->c, &m->m, &until);
    NX_ASSERT_ALWAYS(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

void nx_cond_signal(struct nx_cond *c)
{
    pthread_cond_signal(&c->c);
}

void nx_cond_broadcast(struct nx_cond *c)
{
    pthread_cond_broadcast(&c->c);
}

struct start {
    void (*fn)(void *);
    void *arg;
    char name[16];
};

static void *run(void *ctx)
{
    struct start s = *(struct start *)ctx;

    free(ctx);
    pthread_setname_np(pthread_self(), s.name);
    s.fn(s.arg);
#ifdef NX_ASSERTS
    NX_ASSERT(n_held == 0);
#endif
    return NULL;
}

static size_t stack_bytes(void)
{
    long least = sysconf(_SC_THREAD_STACK_MIN);

    return least > (long)STACK_BYTES ? (size_t)least : STACK_BYTES;
}

nx_status nx_thread_start(struct nx_thread *t, const char *name, void (*fn)(void *), void *arg,
                          struct nx_err *err)
{
    struct start *s = calloc(1, sizeof *s);
    pthread_attr_t attr;
    int rc;

    t->running = false;
    if (!s)
        return nx_fail(err, NX_NOMEM, "starting thread %s: out of memory", name);
    s->fn = fn;
    s->arg = arg;
    strncpy(s->name, name, sizeof s->name - 1);
    rc = pthread_attr_init(&attr);
    if (!rc) {
        rc = pthread_attr_setstacksize(&attr, stack_bytes());
        if (!rc)
            rc = pthread_create(&t->id, &attr, run, s);
        pthread_attr_destroy(&attr);
    }
    if (rc) {
        free(s);
        return nx_fail(err, NX_LIMIT, "starting thread %s: %s", name, strerror(rc));
    }
    t->running = true;
    return NX_OK;
}

void nx_thread_join(struct nx_thread *t)
{
    if (!t || !t->running)
        return;
    pthread_join(t->id, NULL);
    t->running = false;
}
