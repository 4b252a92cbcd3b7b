/* direct.h - alerts told to people without an Alertmanager: a part of notify.h, which includes it.
 *
 * A file (docs/NOTIFY.md) names receivers: webhooks, chats, pagers, mail. Alerts are grouped, told, told again and
 * told to be over as Alertmanager does it for one route per receiver. There is one thread, which sleeps until something
 * is due; nothing of this exists without the file.
 *
 * Units    milliseconds of Unix time, unless a name says otherwise. */
#pragma once

#include "src/base/arena.h"
#include "src/base/buf.h"
#include "src/base/fs.h"
#include "src/base/status.h"

struct notify_alert;

/* ---- the file --------------------------------------------------------------------------------------- */

/* Read, checked and ready; shared by references. */
struct direct_plan;
/* Whole or not at all; the text names file, line and field. */
NX_NODISCARD nx_status direct_plan_load(struct direct_plan **out, const char *path,
                                        struct nx_err *err);
void direct_plan_unref(struct direct_plan *p); /* accepts NULL */
/* What `check notify` tells: lines of text. */
void direct_plan_describe(const struct direct_plan *p, int64_t now_ms, struct buf *out);

/* ---- the part --------------------------------------------------------------------------------------- */

struct direct;
struct direct_opts {
    struct fs *fs;            /* borrowed */
    const char *state_dir;    /* where notify.json is; copied; NULL: nothing survives */
    size_t state_bytes;       /* most of it; 0: 128 MiB */
    const char *external_url; /* copied; NULL: "" */
    /* How long after the start rules may be silent about an alert that was told before it. */
    int64_t grace_ms;
};
NX_NODISCARD nx_status direct_open(struct direct **out, const struct direct_opts *opts,
                                   struct direct_plan *plan, struct nx_err *err);
/* What is being sent gets a second more. Accepts NULL. Nobody may call direct_take() any more. */
void direct_close(struct direct *d);

/* From now on the file is this one. What was told stays told. On failure all is as before. */
NX_NODISCARD nx_status direct_apply(struct direct *d, struct direct_plan *plan, struct nx_err *err);

/* A notify_fn: the context is the struct direct. Never waits for the network. */
void direct_take(void *d, const struct notify_alert *const *v, size_t n);

/* ---- figures ---------------------------------------------------------------------------------------- */

#define DIRECT_BUCKETS 5 /* of seconds: up to 0.1, 0.5, 1, 5, and above */
#define DIRECT_REASONS 4
extern const char *const direct_reasons[DIRECT_REASONS]; /* "clientError", ... */
struct direct_kind_stats {
    const char *integration;               /* "slack" */
    uint64_t sent, failed[DIRECT_REASONS]; /* notifications, in the end */
    uint64_t requests, requests_failed;    /* tries */
    uint64_t bucket[DIRECT_BUCKETS];       /* of tries; not cumulative */
    double seconds;
};
#define DIRECT_KINDS 7
struct direct_stats {
    struct direct_kind_stats kinds[DIRECT_KINDS];
    uint64_t alerts, silenced, groups, bytes, dropped, state_failures, reload_ms;
};
void direct_get_stats(struct direct *d, struct direct_stats *out);
