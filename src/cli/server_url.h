/* server_url.h - the server that a command asks: its URL and how it wants to be asked. Private to src/cli. */
#pragma once

#include "src/cli/flags.h"
#include "src/config/config.h"

struct server_url {
    struct arena *arena;
    char *base;            /* "http://host:port/prefix", without slashes at its end */
    const char *host_part; /* of base: behind the scheme and the two slashes */
    struct config_http http;
    bool has_http;
    const char **headers; /* "Name: value" */
    size_t n_headers;
};

/* Takes the URL as it was given, and the flags http.config.file and header where the command has them. Tells
 * what is wrong on standard error; then false. server_url_done() in any case. */
bool server_url_init(struct server_url *s, const struct flags *f, const char *url);
void server_url_done(struct server_url *s);

/* A GET, or with a form a POST, of a path under the URL. As scrape_request(). */
NX_NODISCARD nx_status server_url_ask(const struct server_url *s, const char *path,
                                      const char *form, int64_t timeout_ms, int *code,
                                      struct buf *body, struct nx_err *err);

/* Appends name=value to a query or form, escaped as Go's url.Values are. */
void url_param(struct buf *b, const char *name, struct nx_slice value);
