/* rules.h - recording and alerting rules: files to groups, groups to samples and alerts.
 *
 * Three layers, each usable without the next:
 *   files    rule_files_load() reads and checks; nothing of it changes afterwards (`check rules`).
 *   group    a rule_group evaluates one group at a time that the caller gives, over any source of data and
 *            into any sink (`test rules`, and the manager below).
 *   manager  struct rules runs the groups of a configuration on their schedule, over a storage.
 *
 * Units    durations are milliseconds, moments nanoseconds of Unix time (_ns), unless a name says otherwise.
 * Strings  as in config.h: every nx_slice has a NUL after its last byte.
 * Threads  files: any, once loaded. A group: one thread at a time for rule_group_eval(), any for
 *          rule_group_view(). The manager: rules_apply() one at a time, all else any. */
#pragma once

#include "promql/promql.h"
#include "src/base/arena.h"
#include "src/base/durations.h"
#include "src/base/labels.h"
#include "src/base/status.h"
#include "src/config/config.h"
#include "storage/storage.h"

/* ---- files -------------------------------------------------------------------------------------- */

struct rule {
    bool alerting;
    struct nx_slice name;  /* of the series, or of the alert */
    struct nx_slice query; /* canonical: as pql_print() writes it */
    int64_t for_ms, keep_firing_for_ms;
    /* Sorted. The group's labels under the rule's own; values of an alert's are templates. A value may be
     * empty: that label is removed from the result. */
    struct labels labels, annotations;
};

/* One group of a file. */
struct rule_group_def {
    struct nx_slice file, name;
    int64_t interval_ms;     /* 0: global.evaluation_interval */
    int64_t query_offset_ms; /* -1: global.rule_query_offset */
    int64_t limit;           /* 0: none */
    const struct rule *rules;
    size_t n_rules;
    uint64_t fingerprint; /* equal for groups that say the same */
};

struct rule_files {
    const struct rule_group_def *groups; /* in the order of files, then as written */
    size_t n_groups, n_rules;
    struct pql_features features; /* that they were read with */
};

struct rule_load_opts {
    struct pql_features features;
    bool legacy_names;          /* metric_name_validation_scheme: legacy */
    bool ignore_unknown_fields; /* unknown keys are passed over in silence */
    /* Sees every error of the file that is wrong, as Prometheus words it:
     *   alerts.yml: 7:11: group "g", rule 1, "Down": could not parse expression: 1:3: parse error: ...
     * Texts are valid during the call. Either may be NULL. */
    void (*error)(void *ctx, const char *text);
    void (*warn)(void *ctx, const char *text);
    void *ctx;
};

/* Reads files in the order given, whole or not at all, and stops after the first that is wrong; *out is one
 * reference. On failure `err` holds the first error. opts may be NULL. NX_BADINPUT for bad content; else why a
 * file could not be read. */
NX_NODISCARD nx_status rule_files_load(struct rule_files **out, const struct nx_slice *paths,
                                       size_t n_paths, const struct rule_load_opts *opts,
                                       struct nx_err *err);
/* The same for the text of one file; `name` is for messages and becomes the groups' file. */
NX_NODISCARD nx_status rule_files_parse(struct rule_files **out, struct nx_slice text,
                                        const char *name, const struct rule_load_opts *opts,
                                        struct nx_err *err);
struct rule_files *rule_files_ref(const struct rule_files *f);
void rule_files_unref(const struct rule_files *f); /* accepts NULL */

/* ---- one group ---------------------------------------------------------------------------------- */

/* Where results go. A writer is asked by one thread at a time; a row is a time and one value a column, as in
 * storage.h, and a stale marker is a value like any other (NUM_STALE_BITS). */
struct rule_sink {
    void *ctx;
    nx_status (*open)(void *ctx, void **writer, struct nx_err *err);
    /* Finds or makes the column of a series; labels are copied. */
    nx_status (*column)(void *writer, const struct labels *ls, uint32_t *col, struct nx_err *err);
    /* `refused` counts what the order rules kept out: that is no failure. */
    nx_status (*append)(void *writer, int64_t t_ms, const uint32_t *cols, const double *values,
                        size_t n, struct storage_appended *refused, struct nx_err *err);
    void (*release)(void *writer, uint32_t col);
    void (*close)(void *writer);
};
struct rule_sink rule_sink_storage(struct storage *s);

/* An alert that is to be told: it fires, or it did and is over. Valid during the call. */
struct rule_notice {
    struct labels labels, annotations; /* without external labels */
    int64_t starts_ns,
        ends_ns; /* `ends` of one that fires: until when it is good if nobody says more */
    bool resolved;
    const char *generator_url;
};
typedef void rule_notify_fn(void *ctx, const struct rule_notice *v, size_t n);

/* What a group needs to run. */
struct rule_env {
    struct pql_engine *engine;       /* borrowed */
    const struct pql_source *source; /* borrowed */
    struct rule_sink sink;
    int64_t interval_ms;     /* of groups that do not say */
    int64_t query_offset_ms; /* likewise */
    struct labels external_labels;
    const char *external_url; /* of links and templates; NULL: "" */
    /* ALERTS and ALERTS_FOR_STATE are written from the first evaluation on; else only after
     * rule_group_restore(). */
    bool restored;
    rule_notify_fn *notify; /* NULL: nobody is told */
    void *notify_ctx;
    int64_t resend_delay_ms;
    const int *cancel; /* atomic, borrowed: non-zero ends queries; may be NULL */
    bool quiet;        /* failures are not logged; they are in the views all the same */
    bool parallel; /* rules that do not read each other may run at once (concurrent-rule-eval) */
};

struct rule_group;
/* `def` belongs to `files`, of which the group takes a reference; strings and labels of `env` are copied. */
NX_NODISCARD nx_status rule_group_new(struct rule_group **out, const struct rule_files *files,
                                      const struct rule_group_def *def, const struct rule_env *env,
                                      struct nx_err *err);
void rule_group_free(struct rule_group *g); /* accepts NULL; what it wrote stays as it is */

/* Evaluates all rules in order as of `t_ns` less the query offset, appends their results, sends what is to be
 * sent. What fails is in the view of its rule. */
void rule_group_eval(struct rule_group *g, int64_t t_ns);

/* How rules and alerts stand: copies, in the arena. */
enum rule_health { RULE_UNKNOWN, RULE_OK, RULE_BAD };
const char *rule_health_name(enum rule_health h); /* "unknown", "ok", "err" */
enum alert_state { ALERT_UNKNOWN, ALERT_INACTIVE, ALERT_PENDING, ALERT_FIRING };
const char *alert_state_name(enum alert_state s); /* "unknown", "inactive", "pending", "firing" */

struct alert_view { /* of a pending or firing one */
    struct labels labels, annotations;
    enum alert_state state;
    double value;
    int64_t active_ns, fired_ns, keep_firing_since_ns; /* 0: not */
};
struct rule_view {
    const struct rule *rule; /* the group's files' */
    enum rule_health health;
    struct nx_slice last_error; /* empty: none */
    double eval_s;
    int64_t last_eval_ns;      /* when the last evaluation began, by the clock; 0: never */
    enum alert_state state;    /* of an alerting rule: the highest of its alerts */
    struct alert_view *alerts; /* sorted by labels */
    size_t n_alerts;
};
struct rule_group_view {
    const struct rule_group_def *def;
    int64_t interval_ms;
    double eval_s;
    int64_t last_eval_ns; /* by the clock; 0: never */
    struct rule_view *rules;
    size_t n_rules;
};
NX_NODISCARD nx_status rule_group_view(struct rule_group *g, struct arena *a,
                                       struct rule_group_view *out, struct nx_err *err);

/* ---- the manager -------------------------------------------------------------------------------- */

/* A group's moments are multiples of its interval and an offset that name and file give: the last one at or before
 * at_ns. */
int64_t rule_group_moment(const struct rule_group_def *def, int64_t interval_ms, int64_t at_ns);

/* Runs the groups of a configuration, each at its interval and at the offset in it that its name and file give
 * it. Without groups there is no thread; else as many as groups are evaluated at a time, and one more. */
struct rules;
struct rules_opts {
    struct storage *storage; /* borrowed, and so is the engine */
    struct pql_engine *engine;
    const char *external_url; /* copied */
    int64_t outage_tolerance_ms, grace_period_ms, resend_delay_ms;
    bool parallel;
    unsigned max_concurrent; /* rules at once besides the groups' own threads, with `parallel` */
    struct pql_features features;
    rule_notify_fn *notify; /* called by the groups' threads; NULL: nobody is told */
    void *notify_ctx;
};
NX_NODISCARD nx_status rules_new(struct rules **out, const struct rules_opts *opts,
                                 struct nx_err *err);
/* Ends evaluations under way and waits for them; series are not ended. Accepts NULL. */
void rules_free(struct rules *r);

/* Reads what rule_files of a configuration name now; errors are logged. A reference goes to *out. */
NX_NODISCARD nx_status rules_load(struct rules *r, const struct config *cfg,
                                  struct rule_files **out, struct nx_err *err);
/* Takes groups (borrowed) and settings over. Groups that say the same go on undisturbed; changed ones take over
 * the state of those of their name; series of those that are gone are ended after two intervals. On failure
 * all is as before. */
NX_NODISCARD nx_status rules_apply(struct rules *r, const struct config *cfg,
                                   const struct rule_files *files, struct nx_err *err);

/* How all groups stand, by file, then name. */
struct rules_view {
    struct rule_group_view *groups; /* in the arena */
    size_t n_groups;
    const struct rule_files **files; /* held, until rules_view_done() */
    size_t n_files;
};
NX_NODISCARD nx_status rules_view(struct rules *r, struct arena *a, struct rules_view *out,
                                  struct nx_err *err);
void rules_view_done(struct rules_view *v);

struct rule_group_stats {
    const char *key; /* "FILE;NAME", in the arena */
    uint64_t evaluations, failures, iterations, missed, samples, rules;
    double interval_s, last_duration_s, last_rules_s, last_eval_s,
        restore_s; /* restore_s < 0: not done */
};
struct rules_stats {
    struct rule_group_stats *groups; /* in the arena; sorted by key */
    size_t n_groups;
    uint64_t expansions, expansion_failures;
    struct durations_view rule, group;
};
NX_NODISCARD nx_status rules_get_stats(struct rules *r, struct arena *a, struct rules_stats *out,
                                       struct nx_err *err);
