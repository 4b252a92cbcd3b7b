/* sigv4.h - POSTs signed as AWS takes them: Signature Version 4. Private to src/notify.
 *
 * Nothing here sends, waits, or asks for the time.
 * Threads  any. */
#pragma once

#include "src/base/buf.h"
#include "src/base/status.h"

struct sigv4_keys {
    struct nx_slice access, secret;
    struct nx_slice token; /* of temporary keys; empty: none */
};
struct sigv4_request {
    struct nx_slice url; /* http or https, escaped, without a query */
    struct nx_slice content_type, body;
    struct nx_slice region, service;
    int64_t now_ms;
};

/* What is to be sent: another spelling of the URL, and lines of the head in this order, each with what was signed. */
enum { SIGV4_HOST, SIGV4_DATE, SIGV4_AUTHORIZATION, SIGV4_TOKEN, SIGV4_LINES };
struct scrape_request;
struct sigv4_signed {
    struct buf url;
    struct buf lines[SIGV4_LINES]; /* "Host: example.com"; that of the token is empty without one */
};
void sigv4_init(struct sigv4_signed *s);
void sigv4_done(struct sigv4_signed *s);
/* Puts them in place of what is there. NX_BADINPUT: the URL is none. */
NX_NODISCARD nx_status sigv4_sign(const struct sigv4_request *r, const struct sigv4_keys *keys,
                                  struct sigv4_signed *out, struct nx_err *err);
/* Has a request say so: it gets the URL, and the lines behind those that it has in `headers`, which has room for SIGV4_LINES
 * more. Redirects are not followed: they would be signed for another place. */
void sigv4_put(struct sigv4_signed *s, struct scrape_request *to, const char **headers);
