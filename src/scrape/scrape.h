/* scrape.h - from targets to rows: asks every target on its schedule and appends what it answers.
 *
 * Owner    one manager per server; it holds the discovery of its jobs and one storage group per target.
 * Threads  one loop thread (libcurl multi) and a few workers that parse and append; the functions below
 *          may be called from any thread. A target is worked on by one thread at a time.
 * Units    times are Unix milliseconds unless the name says otherwise. */
#pragma once

#include "src/base/arena.h"
#include "src/base/buf.h"
#include "src/base/labels.h"
#include "src/base/status.h"
#include "src/config/config.h"
#include "storage/storage.h"

struct scrape;

struct scrape_opts {
    struct storage *storage;        /* borrowed; outlives the manager */
    struct memory *memory;          /* the same; NULL: no limit */
    unsigned workers;               /* parse-and-append threads; 0: 2 */
    const char *user_agent;         /* copied; NULL: "Narthex/VERSION" */
    int64_t discovery_reload_ms;    /* shortest time between two syncs of a job; 0: 5000 */
    int64_t timestamp_tolerance_ms; /* 0: 2 */
    bool no_adjust_timestamps;
    bool extra_metrics; /* feature extra-scrape-metrics */
};

NX_NODISCARD nx_status scrape_new(struct scrape **out, const struct scrape_opts *opts,
                                  struct nx_err *err);
/* Takes over a configuration (counted by the caller: config outlives the next apply or scrape_free).
 * Unchanged targets keep their schedule, series and state. */
NX_NODISCARD nx_status scrape_apply(struct scrape *s, const struct config *cfg, struct nx_err *err);
void scrape_free(
    struct scrape *s); /* stops, waits for what is under way; writes no stale markers */

enum target_health { TARGET_UNKNOWN, TARGET_UP, TARGET_DOWN };

/* A snapshot of one target, in the caller's arena. */
struct target_info {
    struct nx_slice pool;                   /* job_name of the config */
    struct labels discovered;               /* before relabelling */
    struct labels labels;                   /* as attached to samples */
    struct nx_slice scrape_url, global_url; /* global_url: localhost replaced by the host's name */
    struct nx_slice last_error;
    int64_t last_scrape_ms; /* 0: never; the API then shows 0001-01-01T00:00:00Z */
    double last_duration_s;
    enum target_health health;
    struct nx_slice scrape_interval, scrape_timeout; /* "15s" */
};
struct dropped_info {
    struct nx_slice pool;
    struct labels discovered;
};
struct targets_info {
    struct target_info *active;
    size_t n_active;
    struct dropped_info *dropped;
    size_t n_dropped;
    struct pool_count {
        struct nx_slice pool;
        uint64_t dropped;
    } * dropped_counts;
    size_t n_dropped_counts;
    struct nx_slice *pools; /* all pool names, sorted */
    size_t n_pools;
};
/* Active targets by pool, then URL. global_host replaces localhost/127.0.0.1 in global_url ("host" or "host:port"
 * is the caller's to give); may be empty. */
NX_NODISCARD nx_status scrape_get_targets(struct scrape *s, struct nx_slice global_host,
                                          struct arena *a, struct targets_info *out,
                                          struct nx_err *err);

/* Metadata of one family of one target. type is a lower-case Prometheus word ("counter", "unknown"). */
struct metadata_info {
    struct labels target;
    struct nx_slice metric, type, help, unit;
};
struct metadata_ask {
    struct nx_slice metric;      /* empty: all */
    const struct matcher *match; /* on the targets' labels */
    size_t n_match, most;        /* entries; 0: no bound */
    bool families; /* what several targets say alike is told once, and `target` is empty */
};
/* Entries by target, then metric; with a bound it is not said which. */
NX_NODISCARD nx_status scrape_get_metadata(struct scrape *s, const struct metadata_ask *ask,
                                           struct arena *a, struct metadata_info **out, size_t *n,
                                           struct nx_err *err);

/* Numbers behind our own /metrics; counters since start. */
struct scrape_pool_stats {
    struct nx_slice pool;
    uint64_t targets, discovered, syncs, target_limit; /* discovered: before relabelling */
    uint64_t sync_failed;
    double sync_seconds_sum;
};
struct scrape_interval_stats { /* prometheus_target_interval_length_seconds */
    struct nx_slice interval;
    uint64_t count;
    double sum, p01, p05, p50, p90, p99; /* over the last ten minutes; NaN when idle */
};
struct scrape_stats {
    uint64_t pools, pools_failed, reloads, reloads_failed;
    uint64_t sample_limit, body_size_limit, label_limits,
        target_limit; /* scrapes or pools over a limit */
    uint64_t out_of_order, duplicate_timestamp, out_of_bounds;
    uint64_t exemplar_out_of_order;
    uint64_t metadata_entries, metadata_bytes;
    uint64_t cache_flush_forced;
    uint64_t sd_file_read_errors;
    struct scrape_pool_stats *by_pool;
    size_t n_by_pool;
    struct scrape_interval_stats *by_interval;
    size_t n_by_interval;
};
NX_NODISCARD nx_status scrape_get_stats(struct scrape *s, struct arena *a, struct scrape_stats *out,
                                        struct nx_err *err);

/* ---- for others ---------------------------------------------------------------------------------- */

/* The labels of one target of a group before and after relabelling, in the arena; `labels` empty: dropped.
 * NX_BADINPUT: it is no target, and why; then `discovered` is set all the same. */
NX_NODISCARD nx_status scrape_target_labels(const struct config_scrape *job,
                                            struct nx_slice address, const struct labels *group,
                                            struct arena *a, struct labels *discovered,
                                            struct labels *labels, struct nx_err *err);

/* One request, asked as a scrape would be with the same client settings, but none of a scrape's headers. */
struct scrape_request {
    const struct config_http *http; /* NULL: Go's defaults */
    const char *url, *user_agent;
    const char *form; /* the body of a POST: a form, unless a header says what it is; NULL: a GET */
    const char *method;         /* NULL: GET, or POST with a form */
    const char *const *headers; /* "Name: value" */
    size_t n_headers;
    bool stay; /* no redirect is followed, whatever the settings say: it is an answer */
    int64_t timeout_ms;
    const int
        *cancel; /* atomic: ends the request within a second once it is not 0; NULL: nothing does */
};
/* Blocks. Appends the body of whatever answer there is to `body`. A failure of the transport is worded as
 * Go's client words it. */
NX_NODISCARD nx_status scrape_request(const struct scrape_request *r, int *code, struct buf *body,
                                      struct nx_err *err);

/* For many requests with the same settings: keeps connections and an OAuth2 token from one to the next.
 * Threads: one at a time. */
struct scrape_client;
struct scrape_answer {
    int code;
    char status[80]; /* "404 Not Found" */
};
/* `http` is borrowed until scrape_client_free(); NULL: Go's defaults. */
NX_NODISCARD nx_status scrape_client_new(struct scrape_client **out, const struct config_http *http,
                                         struct nx_err *err);
void scrape_client_free(struct scrape_client *c); /* accepts NULL */
/* As scrape_request(), with the client's settings instead of r->http. Without `body` the answer's is dropped. */
NX_NODISCARD nx_status scrape_client_ask(struct scrape_client *c, const struct scrape_request *r,
                                         struct scrape_answer *out, struct buf *body,
                                         struct nx_err *err);
/* The same in two halves, for who has a multi handle of libcurl: *easy, the client's CURL *, is ready to be added to
 * it. r->form lives until the end. For OAuth2 that may be the request for a token. When it is done, `result` is
 * the CURLcode: scrape_client_next() gives what is to be done after it, or NULL; then scrape_client_end() tells what came
 * of the request itself. There r->url is the URL that is told in an error. */
NX_NODISCARD nx_status scrape_client_begin(struct scrape_client *c, const struct scrape_request *r,
                                           struct buf *body, void **easy, struct nx_err *err);
NX_NODISCARD nx_status scrape_client_next(struct scrape_client *c, const struct scrape_request *r,
                                          int result, struct buf *body, void **easy,
                                          struct nx_err *err);
bool scrape_client_asks_token(const struct scrape_client *c); /* and not yet the request itself */
NX_NODISCARD nx_status scrape_client_end(struct scrape_client *c, const struct scrape_request *r,
                                         int result, struct scrape_answer *out, struct nx_err *err);
/* The client's TLS settings, without server_name, for a handle of libcurl that is not its own; and its end waits
 * for no name server. */
void scrape_client_secure(const struct scrape_client *c, void *easy);
