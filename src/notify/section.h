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

/* What a section is to have, found before any list changes: of its URLs, senders from `known` (which may hold NULLs)
 * where there are any, else new ones. */
struct section_found {
    struct sender **senders;
    size_t n_senders;
    char **dropped;
    size_t n_dropped;
    uint64_t discovered;
};
NX_NODISCARD nx_status section_find(const struct section *s, const struct discovery *d,
                                    const struct sender_opts *opts, struct sender *const *known,
                                    size_t n_known, struct section_found *out, struct nx_err *err);
/* Puts that in place of what the section has, and frees the lists of that. */
void section_take(struct section *s, const struct section_found *f);
bool section_has(const struct section *s, const struct sender *sender);
void section_free(struct section *s); /* but not its senders; accepts NULL */
