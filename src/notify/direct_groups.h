/* direct_groups.h - which alerts there are, how they are grouped, and when whom to tell what. Private to
 * src/notify. Nothing here sends, waits, or asks for the time.
 *
 * Owner    one struct groups per struct direct.
 * Threads  one at a time: the owner's lock is held around every call.
 * Units    milliseconds of Unix time. */
#pragma once

#include "src/notify/direct_plan.h"
#include "src/notify/notify.h"

struct groups;
struct groups_limits {
    size_t alerts, bytes; /* more are not taken */
};
NX_NODISCARD nx_status groups_new(struct groups **out, struct direct_plan *plan,
                                  const struct groups_limits *limits, struct nx_err *err);
void groups_free(struct groups *g); /* accepts NULL */

/* An alert that rules told of, or tell of again. False: there is no room for it (or no memory). */
bool groups_take(struct groups *g, const struct notify_alert *a, int64_t now_ms);

/* Another file from now on: alerts that are known are grouped anew, and what receivers of the same name were told
 * stays told. On failure all is as before. */
NX_NODISCARD nx_status groups_set_plan(struct groups *g, struct direct_plan *plan, int64_t now_ms,
                                       struct nx_err *err);

/* What is to be told to one receiver now. */
struct notice_alert {
    const struct notify_alert *alert; /* one reference */
    bool resolved;
    int64_t ends_ns; /* of one that is resolved */
};
struct notice {
    struct direct_plan *plan; /* one reference */
    const struct direct_receiver *receiver;
    struct labels group_labels;  /* in the arena */
    struct notice_alert *alerts; /* sorted by labels */
    size_t n_alerts, n_firing;
    struct arena *arena;
    int64_t made_ms;
    struct group *group; /* that of `groups`; NULL: gone */
};
/* The next notice that is due; *out NULL: none is. The group gets no other one before groups_told(). */
NX_NODISCARD nx_status groups_next(struct groups *g, int64_t now_ms, struct notice **out,
                                   struct nx_err *err);
/* It was delivered, or it could not be. Frees it. */
void groups_told(struct groups *g, struct notice *n, bool delivered, int64_t now_ms);
/* It was not, and is to be made anew at once: another file says how. Frees it. */
void groups_again(struct notice *n, int64_t now_ms);
/* Was it made by a file that holds no more? */
bool groups_outdated(const struct groups *g, const struct notice *n);
/* When groups_next() is to be asked again; INT64_MAX: not before something is taken. */
int64_t groups_due_ms(const struct groups *g);

/* What receivers were told, for the next start. groups_changed(): since groups_each_told() was last called. */
bool groups_changed(const struct groups *g);
/* Each alert that a receiver was told of as firing, and not yet as over. */
typedef void groups_told_fn(void *ctx, struct nx_slice receiver, int64_t told_ms,
                            const struct notify_alert *a, int64_t good_until_ms);
void groups_each_told(struct groups *g, groups_told_fn *fn, void *ctx);
/* Takes an alert as groups_take() does, one that the receiver was told of. A receiver that is unknown or does not
 * match any more is passed over. */
bool groups_take_told(struct groups *g, struct nx_slice receiver, const struct notify_alert *a,
                      int64_t told_ms, int64_t now_ms);

struct groups_stats {
    size_t alerts, groups, silenced;
    size_t bytes;
    uint64_t dropped;
};
/* Without the silenced ones: costs nothing. */
void groups_count(const struct groups *g, struct groups_stats *out);
void groups_get_stats(const struct groups *g, int64_t now_ms, struct groups_stats *out);
