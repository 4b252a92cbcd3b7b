/* web.h - the HTTP face: Prometheus's API, its health and lifecycle pages, our own /metrics.
 *
 * Owner    one server; web_open() starts it, web_close() waits for answers under way.
 * Threads  libmicrohttpd's pool runs the handlers; everything handed over below must be safe to call
 *          from many threads and outlive the server. */
#pragma once

#include "promql/promql.h"
#include "src/base/fs.h"
#include "src/base/status.h"
#include "src/notify/notify.h"
#include "src/rules/rules.h"
#include "src/scrape/scrape.h"
#include "storage/storage.h"

struct web;

struct web_flag { /* one command-line flag, for /api/v1/status/flags */
    const char *name, *value;
};

/* What only the owner of everything can do or knows. `ctx` is passed to each. */
struct web_hooks {
    void *ctx;
    bool (*ready)(void *ctx);                           /* past start-up and not stopping */
    nx_status (*reload)(void *ctx, struct nx_err *err); /* runs a reload and waits for it */
    void (*quit)(void *ctx);
    void (*config_yaml)(void *ctx, struct buf *out); /* the loaded configuration, secrets hidden */
    void (*reload_status)(void *ctx, bool *ok, int64_t *last_success_ms);
};

struct web_opts {
    const char *const *listen; /* "host:port"; at least one */
    size_t n_listen;
    const char *external_url; /* NULL: derived */
    const char *route_prefix; /* NULL: path of external_url */
    const char *page_title;
    const char *cors_origin;  /* regex; NULL: .* */
    unsigned max_connections; /* 0: 512 */
    int64_t read_timeout_ms;  /* 0: 5 min */
    bool enable_lifecycle, enable_admin_api;
    const char *storage_retention; /* text for runtimeinfo, "15d" */
    const struct web_flag *flags;  /* sorted by name; borrowed */
    size_t n_flags;
    int64_t start_ms;
    struct memory *memory;        /* borrowed; NULL: no limit */
    struct pql_features features; /* the engine's, for what is only parsed */
    struct web_hooks hooks;
};

/* What answers are made from. All are borrowed. */
struct query_log;
struct web_data {
    struct storage *storage;
    struct scrape *scrape;
    struct pql_engine *engine;
    struct query_log *query_log; /* may be NULL */
    struct rules *rules;         /* may be NULL */
    struct notify *notify;       /* may be NULL */
    struct direct *direct;       /* may be NULL */
};

/* Listens and answers. Until web_attach() that is only what needs no data; hooks.ready must not say
 * true before. */
NX_NODISCARD nx_status web_open(struct web **out, const struct web_opts *opts, struct nx_err *err);
void web_attach(struct web *w, const struct web_data *data); /* copied; once */
/* The port of listener i, for tests that listen on port 0. */
unsigned web_port(const struct web *w, size_t i);
/* Refuses new requests, cancels those under way, sends what is there; two or three seconds at most. */
void web_close(struct web *w); /* accepts NULL */

/* Where others reach the server: external_url, or what it is derived to. Valid as long as the server. */
const char *web_external_url(const struct web *w);
/* Checks external_url, as web_open() does, with the text that Prometheus has for it. */
NX_NODISCARD nx_status web_check_url(const char *url, struct nx_err *err);
/* The lines of --version: "NAME, version ...", who built what and when. */
void web_version_text(struct buf *b, const char *name);

/* ---- the query log, and the file that names the queries under way (querylog.c) ------------------ */

/* One, that outlives the engine whose queries it watches. query_log_set_file(): one thread at a time; the
 * watch: any. */

/* Makes DIR/queries.active with room for max_queries; what a process that ended without a word left there is
 * logged first. A file that can't be made is logged and done without. NX_NOMEM. */
NX_NODISCARD nx_status query_log_new(struct query_log **out, struct fs *fs, const char *dir,
                                     uint32_t max_queries, struct nx_err *err);
void query_log_free(struct query_log *l); /* accepts NULL */

/* One line of JSON per query goes to the end of `path`, from now on; empty: nowhere. Opened anew at each
 * call, so that a log that was moved away is let go. On failure everything stays as it was. */
NX_NODISCARD nx_status query_log_set_file(struct query_log *l, struct nx_slice path,
                                          struct nx_err *err);
const struct pql_watch *query_log_watch(struct query_log *l);

struct query_log_stats {
    bool enabled;
    uint64_t failures; /* lines that could not be written */
};
void query_log_get_stats(struct query_log *l, struct query_log_stats *out); /* NULL: all zero */
