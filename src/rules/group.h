/* group.h - one group of rules while it runs. Private to src/rules.
 *
 * Threads  the evaluating thread owns everything; what views show is under `lock` besides. With a pool, rules
 *          of one stage are evaluated by several threads, each its own rule. */
#pragma once

#include "src/base/thread.h"
#include "src/base/workers.h"
#include "src/rules/table.h"
#include "src/template/template.h"

/* A series that a rule wrote at its last evaluation. */
struct out {
    struct keyed key;     /* its labels */
    struct labels source; /* of the sample it is made of: recording rules */
    void *block;          /* holds both */
    uint32_t col;
    bool has_col;
    bool written;  /* once, by this group or the one before it: so it has an end */
    uint64_t seen; /* number of the evaluation that gave it last */
};

struct alert {
    struct keyed key;
    struct labels annotations;
    void *block, *annotations_block;
    enum alert_state state;
    double value;
    int64_t active_ns, fired_ns, resolved_ns, sent_ns, valid_ns, keep_firing_ns; /* 0: not */
    uint64_t seen;
};

/* What an evaluation is about to write. */
struct pending {
    struct out *out;
    double value;
};

struct rule_state {
    const struct rule *rule;
    const struct pql_expr *expr;             /* of its query, kept from evaluation to evaluation */
    struct template **labels, **annotations; /* NULL: nothing but text; parallel to the rule's */
    size_t stage;
    /* of the evaluation under way */
    struct arena *arena;
    struct pending *pending;
    size_t n_pending, cap_pending;
    bool failed; /* nothing is written */
    bool refused;
    struct nx_err err; /* why */
    double took_s;
    int64_t began_ns;
    /* under the group's lock */
    enum rule_health health;
    char *last_error; /* NULL: none */
    double eval_s;
    int64_t last_eval_ns;
    struct table alerts;
    /* the evaluating thread's */
    struct table outs;
    uint64_t round;
    bool restored;
    bool taken; /* what it had is another group's rule's now */
};

struct rule_counters { /* atomic */
    uint64_t evaluations, failures, samples, iterations, missed;
    uint64_t expansions, expansion_failures;
};

struct durations;
struct rule_group {
    /* set once */
    const struct rule_files *files;
    const struct rule_group_def *def;
    struct rule_env env;
    struct arena *arena; /* expressions, templates, copies of env's strings */
    struct arena
        *scratch; /* of rules that are evaluated one after the other; NULL: each has its own */
    int64_t interval_ms, query_offset_ms;
    uint64_t env_print; /* equal for groups that run under the same conditions */
    size_t n_stages;
    bool in_parallel; /* rules of a stage may be evaluated at once */
    struct workers *pool;
    struct durations *rule_durations; /* shared; may be NULL */

    struct rule_state *rules;
    void **writers;     /* by stage; NULL: not open yet */
    struct out **stale; /* of rules that are gone */
    size_t n_stale;
    int64_t row_ms;  /* time of the samples being written */
    uint32_t *marks; /* by column: the row it was last in */
    uint32_t n_marks, mark;

    struct rule_counters counters;
    struct nx_mutex lock;
    /* under lock */
    double eval_s, rules_s, restore_s;
    int64_t last_eval_ns;
    bool stopped; /* atomic: evaluation ends early */
};

/* A time at which samples are: queries know milliseconds. */
static inline int64_t rule_time_ms(int64_t ns)
{
    const int64_t ms = 1000000;

    return ns >= 0 ? ns / ms : -((-ns + ms - 1) / ms);
}

/* deps.c: puts each rule into a stage: rules of one stage do not read what others of it write. Their expressions
 * are there. */
NX_NODISCARD nx_status rule_stages(struct rule_group *g, bool parallel, struct nx_err *err);

/* evaluate.c: one rule, up to what it is about to write. */
void rule_run(struct rule_group *g, struct rule_state *r, int64_t t_ns);
/* Sends alerts that are due. */
void rule_send(struct rule_group *g, struct rule_state *r, int64_t t_ns);
void alert_free(struct alert *a);
void out_free(struct out *o);
/* write.c: what the rules of a stage are about to write, as rows; then what is over is forgotten. */
void rule_write_stage(struct rule_group *g, size_t stage);
void rule_write_stale(struct rule_group *g, int64_t t_ns); /* of rules that are gone */
/* All that the group wrote is over; for a group that is gone. */
void rule_group_end_series(struct rule_group *g, int64_t t_ns);
void rule_close_writers(struct rule_group *g);

/* restore.c: for how long alerts were pending before a restart. */
struct rule_restore {
    int64_t outage_tolerance_ms, grace_period_ms;
};
void rule_group_restore(struct rule_group *g, int64_t now_ns, const struct rule_restore *how);

/* group.c: a group that was replaced gives its state to the one that follows it. */
void rule_group_take_over(struct rule_group *g, struct rule_group *from);

/* pool.c: threads that evaluate rules beside the group's own. */
struct workers *rule_pool_new(unsigned max); /* workers_free() ends it */
void rule_pool_run(struct workers *p, struct rule_group *g, size_t stage, int64_t t_ns);
