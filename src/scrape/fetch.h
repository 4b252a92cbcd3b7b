/* fetch.h - one HTTP GET of an exposition, over libcurl. Private to src/scrape.
 *
 * Owner    a fetch_client belongs to a job: what its http settings are for libcurl. A fetch belongs to
 *          the loop while it runs, and to a worker while its body is read.
 * Threads  fetch_begin() and the callbacks run in the loop thread. */
#pragma once

#include <curl/curl.h>

#include "src/config/config.h"

struct fetch_client;

/* `cfg` is borrowed until the client is freed. Files that cfg names are read at each request. */
NX_NODISCARD nx_status fetch_client_new(struct fetch_client **out, const struct config_http *cfg,
                                        struct nx_err *err);
void fetch_client_free(struct fetch_client *c); /* accepts NULL */

/* OAuth2: whether a token has to be had before the next request; and the call that gets it, which
 * blocks. Threads: any; one fetch_client_get_token() at a time. */
bool fetch_client_needs_token(const struct fetch_client *c);
void fetch_client_get_token(struct fetch_client *c, int64_t timeout_ms);

struct fetch {
    CURL *easy;
    struct curl_slist *headers, *proxy_headers, *connect_to;
    struct buf body;    /* as received */
    size_t limit_bytes; /* of the body, uncompressed; 0: the general limit */
    bool gzip, over_limit;
    int code;        /* of the last response */
    char status[80]; /* "404 Not Found" */
    char content_type[256];
    char peer[128]; /* "tcp 127.0.0.1:80": the first address tried */
    char why[CURL_ERROR_SIZE];
    CURLcode result;
    void *owner;           /* the target */
    int64_t begun_mono_ns; /* when the request began */
    int64_t t_ms;          /* of the samples */
    struct fetch *next;    /* in a queue */
};
struct fetch *fetch_new(void); /* NULL out of memory */
void fetch_free(struct fetch *f);

struct fetch_request {
    const char *url, *user_agent, *accept;
    const char *unix_socket; /* NULL: none */
    int64_t timeout_ms;
    bool compression;
    size_t limit_bytes;
};
/* Makes the easy handle ready for curl_multi_add_handle(). Fails when a credentials file can't be read. */
NX_NODISCARD nx_status fetch_begin(struct fetch *f, struct fetch_client *c,
                                   const struct fetch_request *r, struct nx_err *err);
/* After the transfer: NX_OK for a 200, else the error in Go's words. */
NX_NODISCARD nx_status fetch_check(const struct fetch *f, const char *url, struct nx_err *err);
/* Puts `Get "URL": ` before the text, as Go's client does with all its failures. */
nx_status fetch_context(const char *url, struct nx_err *err);
/* Frees what belongs to the request; keeps the handle, and a body buffer of moderate size. */
void fetch_clear(struct fetch *f);
