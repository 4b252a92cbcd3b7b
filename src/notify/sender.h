/* sender.h - one Alertmanager: a queue, and a thread that sends what is in it. Private to src/notify.
 *
 * Threads  sender_add(): any. Starting to leave and freeing: one at a time. */
#pragma once

#include "src/notify/notify.h"

/* What senders of one section have in common. Shared, never changes. */
struct sender_settings;
/* One reference; `cfg` holds `am`. Fails as aws_identity_new() does, where requests are to be signed. */
NX_NODISCARD nx_status sender_settings_new(struct sender_settings **out, const struct config *cfg,
                                           const struct config_alertmanager *am,
                                           struct nx_err *err);
void sender_settings_unref(struct sender_settings *s); /* accepts NULL */
/* Whether there is somebody to sign for: may ask the machine that we run on, which blocks for seconds at most. */
NX_NODISCARD nx_status sender_settings_check(const struct sender_settings *s, struct nx_err *err);
const struct config_alertmanager *sender_settings_section(const struct sender_settings *s);

struct sender_opts { /* of all; borrowed by each */
    size_t queue_capacity, batch_size;
    bool drain;
    const char *user_agent;
    int64_t linger_ms; /* how long the thread and its connection wait for more */
};

struct sender;
/* NULL out of memory. */
struct sender *sender_new(const char *url, struct sender_settings *settings,
                          const struct sender_opts *opts);
const char *sender_url(const struct sender *s);
void sender_set_settings(struct sender *s, struct sender_settings *settings);
/* Queues alerts; the oldest make room for them. */
void sender_add(struct sender *s, const struct notify_alert *const *v, size_t n);
/* Nothing more is taken. What is queued is still sent, with `drain`, else dropped; a request under way
 * is then ended. */
void sender_leave(struct sender *s);
bool sender_left(struct sender *s); /* and has nothing to do any more */
void sender_free(struct sender *s); /* leaves, waits until it has, frees; accepts NULL */
/* Adds its counts to those of the same URL. */
void sender_count(struct sender *s, struct notify_url_stats *to);
