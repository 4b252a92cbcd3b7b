/* thread.h - threads with names, and locks that know their rank.
 *
 * A thread may only take locks of rising rank; debug builds assert it. The ranks are one list, so
 * the lock order of the whole program is on this page (docs/ARCHITECTURE.md holds the thread map). */
#pragma once

#include <pthread.h>

#include "src/base/status.h"

enum nx_rank {
    NX_RANK_CLI = 1,    /* server.lock: reload, shutdown */
    NX_RANK_WEB,        /* web: connection and query tables */
    NX_RANK_SCRAPE,     /* scrape manager: pools and targets */
    NX_RANK_RULES,      /* rules: the list of groups */
    NX_RANK_RULE_GROUP, /* rules: how one group stands */
    NX_RANK_NOTIFY,     /* notify: which Alertmanagers there are */
    NX_RANK_TARGET,     /* one target's status and metadata */
    NX_RANK_QUEUE,      /* queues between threads */
    NX_RANK_SYNC,       /* storage: whose turn it is to sync the log */
    NX_RANK_BLOCKS,     /* storage: the list of blocks */
    NX_RANK_INDEX,      /* storage: the head's index */
    NX_RANK_SELECTIONS, /* storage: what selectors gave the last time */
    NX_RANK_GROUP,      /* storage: one group */
    NX_RANK_SHARED,     /* storage: series that several groups write */
    NX_RANK_LOOSE,      /* storage: samples that are not in rows */
    NX_RANK_WAL,        /* storage: the log */
    NX_RANK_CACHE,      /* storage: the page cache */
    NX_RANK_SYMBOLS,    /* base: interned strings */
    NX_RANK_STATS,      /* counters */
    NX_RANK_LOG         /* the log's own; last */
};

struct nx_mutex {
    pthread_mutex_t m;
    enum nx_rank rank;
};
void nx_mutex_init(struct nx_mutex *m, enum nx_rank rank);
void nx_mutex_done(struct nx_mutex *m);
void nx_lock(struct nx_mutex *m);
void nx_unlock(struct nx_mutex *m);
bool nx_mutex_held(
    const struct nx_mutex *m); /* by this thread; true in builds without assertions */

/* Readers and writers; ranks as above. Writers are preferred. */
struct nx_rwlock {
    pthread_rwlock_t l;
    enum nx_rank rank;
};
void nx_rwlock_init(struct nx_rwlock *l, enum nx_rank rank);
void nx_rwlock_done(struct nx_rwlock *l);
void nx_rdlock(struct nx_rwlock *l);
void nx_wrlock(struct nx_rwlock *l);
void nx_rwunlock(struct nx_rwlock *l);

struct nx_cond {
    pthread_cond_t c; /* on the monotonic clock */
};
void nx_cond_init(struct nx_cond *c);
void nx_cond_done(struct nx_cond *c);
void nx_cond_wait(struct nx_cond *c, struct nx_mutex *m);
/* False when `timeout_ms` passed. Waits by the real clock even while a test's clock stands still. */
bool nx_cond_wait_ms(struct nx_cond *c, struct nx_mutex *m, int64_t timeout_ms);
void nx_cond_signal(struct nx_cond *c);
void nx_cond_broadcast(struct nx_cond *c);

/* Stacks are 1 MiB, of which only what is used is ever resident: deep expressions need a few hundred
 * KiB. `name` has at most 15 characters. */
struct nx_thread {
    pthread_t id;
    bool running;
};
NX_NODISCARD nx_status nx_thread_start(struct nx_thread *t, const char *name, void (*fn)(void *),
                                       void *arg, struct nx_err *err);
void nx_thread_join(struct nx_thread *t); /* accepts one that was never started */
