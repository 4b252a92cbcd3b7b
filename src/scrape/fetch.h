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

/* TLS settings for any handle: certificates, key, versions, whether to verify. */
void fetch_client_secure(const struct fetch_client *c, CURL *easy);

/* OAuth2: whether a token has to be had before the next request; and the call that gets it, which
 * blocks until it has it, the time is over, or *cancel (atomic; may be NULL) is not 0. Threads: any; one
 * fetch_client_get_token() at a time. */
bool fetch_client_needs_token(const struct fetch_client *c);
struct token *fetch_client_token(const struct fetch_client *c); /* to ask for it in steps */
void fetch_client_get_token(struct fetch_client *c, int64_t timeout_ms, const int *cancel);

/* Where wire.c is in an answer. */
struct fetch_wire {
    bool has_length, chunked;
    bool last;       /* the server closes the connection after this one */
    uint64_t length; /* of the body */
    size_t at, to;   /* chunks: read up to here, put together up to there */
};

struct fetch {
    CURL *easy;
    bool used; /* options were set */
    struct curl_slist *headers, *proxy_headers, *connect_to;
    struct buf body; /* as received, from body_at on */
    size_t body_at;
    size_t limit_bytes;    /* of the body, uncompressed; 0: the general limit */
    struct memory *memory; /* of the request */
    bool gzip, over_limit, over_memory;
    int code;        /* of the last response */
    char status[80]; /* "404 Not Found" */
    char content_type[256];
    char peer[128]; /* "tcp 127.0.0.1:80": the first address tried */
    char why[CURL_ERROR_SIZE];
    CURLcode result;
    void *owner; /* the work */
    bool plain;  /* asked for with nothing but what wire.c can ask, too */
    bool keep;   /* the answer says that the connection can be used again */
    int kept_fd; /* that connection after the transfer; -1: none */
    struct fetch_wire wire;
};
struct fetch *fetch_new(void); /* NULL out of memory */
void fetch_free(struct fetch *f);

struct fetch_request {
    const char *url, *user_agent;
    const char *accept;      /* NULL: no scrape, and none of a scrape's headers */
    const char *unix_socket; /* NULL: none */
    int64_t timeout_ms;
    bool compression;
    size_t limit_bytes;
    bool keep;             /* the connection, if wire.c can take it over */
    struct memory *memory; /* borrowed; NULL: no limit */
    const int *cancel;     /* atomic: ends the transfer once it is not 0; NULL: nothing does */
};
/* Does the client ask with nothing but what wire.c can ask, too: no credentials, proxy or headers? */
bool fetch_client_is_plain(const struct fetch_client *c);
void fetch_leave_names_behind(
    CURL *easy); /* its end waits for no name server; fetch_begin() sets it */
/* Makes the easy handle ready for curl_multi_add_handle(). Fails when a credentials file can't be read. */
NX_NODISCARD nx_status fetch_begin(struct fetch *f, struct fetch_client *c,
                                   const struct fetch_request *r, struct nx_err *err);
/* After a transfer with `plain`: the connection, if it can be used again; it is the caller's. -1: none. */
int fetch_take_connection(struct fetch *f);
/* After the transfer: NX_OK for a 200, else the error in Go's words. */
NX_NODISCARD nx_status fetch_check(const struct fetch *f, const char *url, struct nx_err *err);
/* "404 Not Found", also where the server sent no reason. */
void fetch_status(const struct fetch *f, char to[80]);
/* Puts `Get "URL": ` before the text, as Go's client does with all its failures. */
nx_status fetch_context(const char *url, struct nx_err *err);
/* For wire.c. A line of the answer's head, with its end; whether it is the header `name`, and then its
 * value without blanks; a timeout in seconds as it is sent, its length is returned. */
void fetch_header(struct fetch *f, struct nx_slice line);
bool fetch_header_is(struct nx_slice line, const char *name, struct nx_slice *value);
size_t fetch_seconds(char to[64], int64_t ms);
/* Frees what belongs to the request; keeps the handle, and a body buffer that is not very large. */
void fetch_clear(struct fetch *f);
/* After that: gives back a body buffer of more than that. */
void fetch_trim(struct fetch *f, size_t most_bytes);
