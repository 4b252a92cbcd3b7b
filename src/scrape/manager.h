/* manager.h - the insides of the scrape manager. Private to src/scrape.
 *
 * Threads  The loop thread owns pools, targets, the schedule and all that is under way. A target that is
 *          FETCHING or INGESTING is being worked on; its ingest belongs to the worker then, and comes
 *          back with the work. Lists that other threads read change under s->lock; a target's last
 *          result, metadata and all counters change under s->status. Lock order: lock, status, queue.
 * Jobs     A job is a snapshot of what a scrape_config says. Works hold it by reference, so a reload can
 *          replace it while works are under way; references are counted by the loop alone. */
#pragma once

#include <stdatomic.h>

#include "src/base/thread.h"
#include "src/discovery/discovery.h"
#include "src/scrape/fetch.h"
#include "src/scrape/ingest.h"
#include "src/scrape/scrape.h"
#include "src/scrape/target.h"

struct job {
    unsigned refs;
    const struct config *cfg; /* a reference */
    const struct config_scrape *c;
    struct sample_rules rules;
    struct fetch_client *client;
    char *accept;
    bool extra_metrics;
    bool getting_token;     /* a worker is at it */
    int64_t token_tried_ns; /* when the last answer came; Unix time */
};
NX_NODISCARD nx_status job_new(struct job **out, const struct config *cfg,
                               const struct config_scrape *c, bool extra_metrics,
                               struct nx_err *err);
void job_unref(struct job *j); /* accepts NULL */

enum target_state { TARGET_WAITING, TARGET_FETCHING, TARGET_INGESTING };
enum target_ending { ENDING_NOT, ENDING_TICK, ENDING_GRACE }; /* SCR-078 */

struct target {
    /* loop */
    struct pool *pool;
    uint64_t hash;     /* of the target as made: two of one hash are one target */
    uint64_t identity; /* of public labels and URL: what keeps series over a change of times */
    uint64_t seed;     /* the server's when it began */
    int64_t interval_ms, timeout_ms;
    int64_t due_mono_ns, ideal_ns; /* of the next scrape; ideal_ns is Unix time */
    size_t heap_at;                /* SIZE_MAX: not in the schedule */
    int64_t last_begun_mono_ns;    /* 0: never */
    enum target_state state;
    struct work *fetching; /* its work while libcurl has it */
    int kept_fd;           /* the connection for the next request (wire.h); -1: none */
    enum target_ending ending;
    int64_t end_ms;   /* of the stale markers */
    bool missed;      /* a tick came while it was worked on */
    bool relearn;     /* to be told to the ingest when nobody works on it */
    bool seen;        /* during a sync */
    size_t body_hint; /* bytes of the last body */

    /* set once, or by the loop under s->lock */
    struct labels discovered, all, labels; /* each one allocation; labels: the public ones */
    char *url, *unix_socket;

    struct ingest in; /* whoever works on it */

    /* under s->status */
    enum target_health health;
    char *last_error; /* NULL: none */
    int64_t last_scrape_ms;
    double last_duration_s;
};

struct pool {
    char *name;
    uint64_t fingerprint;
    struct job *job;   /* loop */
    bool gone;         /* not in the configuration any more: waits for its targets to end */
    bool dirty;        /* discovery changed since the last sync */
    char *limit_error; /* loop; NULL: within target_limit */

    /* under s->lock */
    struct target **targets; /* active */
    size_t n_targets;
    struct target **ending;
    size_t n_ending;
    struct labels *dropped; /* discovered labels */
    size_t n_dropped;
    uint64_t dropped_count;
    uint64_t target_limit;

    /* under s->status */
    uint64_t syncs, sync_failed, discovered;
    double sync_seconds;
};

enum work_kind { WORK_SCRAPE, WORK_END, WORK_TOKEN };
struct work {
    enum work_kind kind;
    struct fetch *fetch;
    struct target *target; /* NULL for WORK_TOKEN */
    struct job *job;       /* a reference */
    int64_t t_ms, timeout_ms, begun_mono_ns;
    struct nx_err *failed; /* before or instead of a transfer; NULL: not */
    struct work *next;

    /* A request over the target's kept connection. The loop alone closes that. */
    bool wired;
    int fd;
    int64_t deadline_mono_ns;
    struct work *wire_prev, *wire_next; /* loop: those that are under way */
    atomic_bool received;               /* by the worker: there is nothing more to wait for */
    bool again;                         /* the worker says: to be asked by libcurl */
};
struct work_queue { /* under s->queue */
    struct work *first, *last;
};

#define INTERVAL_SAMPLES 512
struct interval_seen { /* SCR-063; under s->status */
    int64_t interval_ms;
    uint64_t count;
    double sum;
    struct {
        int64_t mono_ns;
        double seconds;
    } last[INTERVAL_SAMPLES];
};

struct scrape {
    struct scrape_opts opts;
    char *user_agent;
    struct ingest_env env;
    uint64_t seed; /* loop */

    struct nx_mutex lock; /* rank SCRAPE: lists of pools and targets, and what follows */
    struct pool **pools;
    size_t n_pools;
    const struct config *pending; /* asked for by scrape_apply(); a reference */
    uint64_t asked, answered;     /* applies */
    nx_status apply_status;
    struct nx_err apply_err;
    struct nx_cond applied;

    struct nx_mutex status;    /* rank TARGET: results, metadata, counters */
    struct scrape_stats count; /* only its plain counters */
    struct interval_seen *intervals;
    size_t n_intervals;

    int epoll_fd; /* what workers wait at: bell_fd, and kept connections with their work as data */
    int bell_fd;  /* rung when there is something in `todo`, or the end has come */

    struct nx_mutex queue; /* rank QUEUE */
    struct work_queue todo, done;
    unsigned n_done;
    bool led;            /* a worker waits at epoll_fd, or is to do so soon */
    struct nx_cond lead; /* the others wait for this */
    bool eager;          /* the loop wants to hear of every work that is done */
    bool stop;

    int loop_epoll_fd; /* what the loop waits at: wake_fd and discovery */
    int wake_fd;

    /* loop */
    CURLM *multi;
    size_t n_transfers; /* that libcurl has */
    struct discovery *discovery;
    struct target **heap;
    size_t n_heap, cap_heap;
    unsigned slot_bits; /* of an interval there are SCHEDULE_SLOTS << slot_bits */
    struct work *idle;  /* kept for reuse */
    struct work *wired;
    int64_t wired_check_mono_ns; /* no deadline of these is before it */
    unsigned n_idle;
    int64_t next_sync_mono_ms;
    struct relabel_work work;

    struct nx_thread loop;
    struct nx_thread *workers;
    unsigned n_workers;
};

/* asker.c: requests over kept connections. Loop thread. */
bool asker_ask(struct scrape *s, struct work *w, const struct fetch_request *r);
void asker_finish(struct scrape *s, struct work *w); /* w came back from its worker */
void asker_keep(struct target *t, struct fetch *f);  /* after a transfer by libcurl */
void asker_drop(struct target *t);                   /* closes the kept connection, if any */
void asker_check_deadlines(struct scrape *s);
int64_t asker_wait_ms(const struct scrape *s, int64_t now_mono_ns); /* until that is to be called */

/* schedule.c: the targets by time. */
#define SCHEDULE_SLOTS 1u                              /* of an interval, at least */
bool schedule_put(struct scrape *s, struct target *t); /* new, or moved to another due_mono_ns */
void schedule_remove(struct scrape *s, struct target *t);
struct target *schedule_first(const struct scrape *s); /* NULL: none */
/* Sets the next tick after now, half an interval away at least. */
void schedule_next(const struct scrape *s, struct target *t);
/* The first tick of a new target. */
void schedule_begin(const struct scrape *s, struct target *t);
/* The time to stamp samples with that are scraped now (SCR-061). */
int64_t schedule_stamp_ms(const struct scrape *s, const struct target *t, int64_t now_ns);

/* pool.c: what is scraped. Loop thread. */
NX_NODISCARD nx_status pools_apply(struct scrape *s, const struct config *cfg, struct nx_err *err);
void pools_poll_discovery(struct scrape *s);
void pools_end_target(struct scrape *s, struct target *t); /* its stale markers are written */
void pools_free(struct scrape *s);

/* loop.c, worker.c: the threads. */
void loop_main(void *arg);
void loop_wake(struct scrape *s);
void target_lend(struct target *t); /* its ingest belongs to the workers from here on */
void worker_main(void *arg);
void worker_ring(struct scrape *s); /* wakes one; it wakes the next if there is more to do */
void work_push(struct work_queue *q, struct work *w); /* with s->queue held */
struct work *work_pop(struct work_queue *q);
void work_free(struct work *w);
