/* direct_message.h - what a notice says: its texts, and the bodies that the services take. Private to src/notify.
 *
 * Memory   everything lives in the notice's arena, unless a buffer says otherwise.
 * Threads  one at a time per notice. */
#pragma once

#include "src/base/buf.h"
#include "src/notify/direct_groups.h"

struct message {
    const struct notice *notice;
    struct arena *arena; /* the notice's */
    const char *status;  /* "firing", "resolved" */
    size_t n_shown;      /* alerts in it: the first of the notice's */
    struct labels common_labels, common_annotations;
    struct nx_slice external_url, key;
    struct template_value root;
    const char *dedup; /* 64 hex digits, from the key */
};
/* `external_url` is borrowed, and taken where the file has none. */
NX_NODISCARD nx_status message_make(struct message *out, const struct notice *n,
                                    struct nx_slice external_url, struct nx_err *err);
/* A template's text with a NUL behind it; empty for NULL. What goes wrong in a template stands in its place, so that
 * the alert is told all the same; of one that is very long its beginning. At most `max_chars` characters (0: no bound), the last of a longer one is an
 * ellipsis. */
struct nx_slice message_text(const struct message *m, const struct template *t, size_t max_chars);
struct nx_slice message_field(const struct message *m, enum direct_text field, size_t max_chars);

/* The body of a POST for any kind but email. `secret` is PagerDuty's routing key, or ntfy's topic. */
NX_NODISCARD nx_status message_json(const struct message *m, const char *secret, struct buf *out,
                                    struct nx_err *err);
uint64_t alert_fingerprint(const struct labels *ls); /* Prometheus's own, as in a webhook's body */

/* An email: lines of its head (without their ends; long ones are folded by CRLF and a blank), and its two bodies. */
struct mail {
    const char **headers;
    size_t n_headers;
    struct nx_slice text, html; /* one may be empty */
    const char *from;           /* the bare address */
    const char **to;
    size_t n_to;
};
/* `id` makes the Message-ID unlike all others. */
NX_NODISCARD nx_status message_mail(const struct message *m, int64_t now_ms, uint64_t id,
                                    struct mail *out, struct nx_err *err);
/* "Ops <ops@example.com>, dev@example.com": the addresses alone. NX_BADINPUT. */
NX_NODISCARD nx_status mail_addresses(struct arena *a, struct nx_slice text, const char ***out,
                                      size_t *n, struct nx_err *err);
/* A header's value in ASCII: as it is, or in encoded words (RFC 2047), folded. Line ends become blanks. */
void mail_header_value(struct buf *b, struct nx_slice s);
