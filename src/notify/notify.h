/* notify.h - alerts out: from what rules say to those who are to know.
 *
 * Rules hand over notices; each becomes an alert that is shared by whoever sends it: external labels are added,
 * alerting.alert_relabel_configs applied. Alertmanagers of the configuration get it from here, each from a queue of
 * its own, so that one that is slow or dead harms nobody else. Another consumer may be named besides.
 *
 * Owner    one per server.
 * Threads  notify_apply() one at a time; all else any.
 * Units    moments are nanoseconds of Unix time (_ns). */
#pragma once

#include "src/base/arena.h"
#include "src/base/durations.h"
#include "src/base/labels.h"
#include "src/base/status.h"
#include "src/config/config.h"
#include "src/rules/rules.h"

/* ---- alerts --------------------------------------------------------------------------------------- */

/* Never changes once made; goes with its last reference. Strings have a NUL after their last byte. */
struct notify_alert {
    struct labels labels, annotations; /* labels: with external labels, after relabelling */
    int64_t starts_ns;                 /* since when it fires */
    int64_t ends_ns; /* resolved: when it ended; else until when it is good if nobody says more */
    bool resolved;
    struct nx_slice generator_url;
    size_t bytes; /* that it takes */
};
const struct notify_alert *notify_alert_ref(const struct notify_alert *a);
void notify_alert_unref(const struct notify_alert *a); /* accepts NULL */

/* Takes alerts: valid during the call, refer to those that are to stay. Called by the threads that evaluate
 * rules, several at once: must not wait. */
typedef void notify_fn(void *ctx, const struct notify_alert *const *v, size_t n);

/* ---- the sender ------------------------------------------------------------------------------------- */

struct notify;
struct notify_opts {
    size_t queue_capacity;  /* alerts that may wait for one Alertmanager */
    size_t batch_size;      /* most alerts in one request; 0: 256 */
    bool drain;             /* what is queued is sent before notify_free() returns */
    const char *user_agent; /* copied; NULL: "Narthex/VERSION" */
    notify_fn *also;        /* gets all alerts, too; NULL: nobody */
    void *also_ctx;
};
NX_NODISCARD nx_status notify_new(struct notify **out, const struct notify_opts *opts,
                                  struct nx_err *err);
/* Ends what is being sent; with `drain` only after it was tried. Accepts NULL. */
void notify_free(struct notify *n);

/* Whether a configuration can be taken over: fails where the keys are not there that requests are to be signed with. May
 * ask the machine that we run on for them, which takes seconds at most. */
NX_NODISCARD nx_status notify_check(const struct config *cfg, struct nx_err *err);
/* Takes a configuration over (a reference is kept). Alertmanagers that are still there, by URL, keep their queues;
 * those that are gone are sent what is queued for them, with `drain`. On failure all is as before. */
NX_NODISCARD nx_status notify_apply(struct notify *n, const struct config *cfg, struct nx_err *err);

/* A rule_notify_fn, with the struct notify as its context: queues, and never waits for the network. */
void notify_take(void *n, const struct rule_notice *v, size_t count);

/* URLs of Alertmanagers, in the arena: those that are sent to, and those that relabel_configs dropped. */
struct notify_urls {
    struct nx_slice *active, *dropped;
    size_t n_active, n_dropped;
};
NX_NODISCARD nx_status notify_urls(struct notify *n, struct arena *a, struct notify_urls *out,
                                   struct nx_err *err);

/* Counters of one URL, since it is an Alertmanager. */
struct notify_url_stats {
    const char *url; /* in the arena */
    uint64_t sent, errors, dropped, queued;
    uint64_t count, bucket[DURATION_BUCKETS]; /* requests that succeeded; not cumulative */
    double sum, quantile[3]; /* s; 0.5, 0.9, 0.99 of the last ten minutes; NaN: none */
};
struct notify_set_stats {
    const char *name; /* "config-0" */
    uint64_t discovered;
};
struct notify_stats {
    struct notify_url_stats *urls; /* sorted */
    size_t n_urls;
    struct notify_set_stats *sets;
    size_t n_sets;
    uint64_t queue_capacity, discovered; /* discovered: and active */
    uint64_t file_read_errors;
};
NX_NODISCARD nx_status notify_get_stats(struct notify *n, struct arena *a, struct notify_stats *out,
                                        struct nx_err *err);

/* ---- for the tools ---------------------------------------------------------------------------------- */

/* The URL that alerts for one target of a group are sent to, in the arena. *dropped: relabel_configs did; the URL is
 * the one it would have had. NX_BADINPUT: it is none, and why. */
struct relabel_work;
NX_NODISCARD nx_status notify_url(const struct config_alertmanager *am, struct nx_slice address,
                                  const struct labels *group, struct relabel_work *work,
                                  struct arena *a, bool *dropped, struct nx_slice *url,
                                  struct nx_err *err);

/* ---- without an Alertmanager ------------------------------------------------------------------------ */

#include "src/notify/direct.h"
