/* section.h - one entry of alerting.alertmanagers: the Alertmanagers it has now. Private to src/notify.
 *
 * Threads  section_sync() and who makes and frees sections: one at a time. The lists are read by others: they
 *          change under notify.lock. */
#pragma once

#include "src/base/limits.h"
#include "src/discovery/discovery.h"
#include "src/notify/alert.h"
#include "src/notify/sender.h"

struct section {
    char name[32]; /* "config-0": its set of discovery */
    uint64_t fingerprint;
    struct sender_settings *settings;
    struct sender **senders; /* one a URL */
    size_t n_senders;
    char **dropped; /* URLs */
    size_t n_dropped;
    uint64_t discovered; /* targets, before relabelling */
};

/* What a section is to have, found before any list changes. */
struct section_found {
    struct sender **senders; /* those that it has, and new ones */
    size_t n_senders;
    struct sender **gone; /* of those that it has */
    size_t n_gone;
    char **dropped;
    size_t n_dropped;
    uint64_t discovered;
};
NX_NODISCARD nx_status section_find(const struct section *s, const struct discovery *d,
                                    const struct sender_opts *opts, struct section_found *out,
                                    struct nx_err *err);
void section_free(struct section *s); /* senders must have been taken; accepts NULL */
void section_free_urls(char **v, size_t n);
