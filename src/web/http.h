/* http.h - requests and replies: what every handler of src/web gets and gives. Private to the folder.
 *
 * A request is read and written by whichever thread runs libmicrohttpd, which others wait for: handlers
 * of routes marked WEB_INLINE run there and must be quick; all others run when it is done (server.c).
 * A reply is either a finished buffer or a stream whose pieces are made as the client takes them, so
 * that a large result is never whole in memory.
 *
 * Memory   a request owns an arena; all that a handler builds may live there until the reply is sent. */
#pragma once

#include <microhttpd.h>

#include "src/base/arena.h"
#include "src/base/buf.h"
#include "src/web/web.h"

#define WEB_PIECE_BYTES (64u << 10) /* a stream is made in pieces of about this size */

enum web_method {
    WEB_GET = 1,
    WEB_POST = 2,
    WEB_PUT = 4,
    WEB_HEAD = 8,
    WEB_OPTIONS = 16,
    WEB_DELETE = 32,
    WEB_OTHER = 64
};

enum web_route_flags {
    WEB_INLINE = 1,   /* answered while libmicrohttpd runs */
    WEB_GATED = 2,    /* 503 until the server is ready */
    WEB_CORS = 4,     /* API: CORS headers, OPTIONS answers 204 */
    WEB_COMPRESS = 8, /* gzip where the client takes it */
    WEB_PREFIX = 16   /* the path may go on after the pattern */
};

struct web_req;
typedef void web_handler(struct web_req *r);

struct web_route {
    const char *pattern; /* "/api/v1/label/:name/values"; one :param at most */
    unsigned methods;    /* of enum web_method */
    unsigned flags;
    web_handler *handler;
};
extern const struct web_route web_routes[]; /* routes.c */
extern const size_t web_n_routes;

struct web_param {
    struct nx_slice key, value; /* decoded */
};

/* Appends the next piece of a reply to `out`; false when there is no more. */
typedef bool web_fill_fn(void *ctx, struct buf *out);

struct web_reply {
    unsigned status;
    const char *content_type; /* static; NULL: none */
    const char *location;     /* for redirects; in the arena */
    const char *allow;        /* for 405; in the arena */
    const char *stopping;     /* X-Prometheus-Stopping */
    bool nosniff, close;
    struct buf body;   /* the reply, or its first piece */
    web_fill_fn *fill; /* NULL: the body is all */
    void *fill_ctx;
    void (*fill_done)(void *ctx);
};

struct web_req {
    struct web *w;
    struct MHD_Connection *conn;
    enum web_method method;
    char *target;                    /* as it was sent, before decoding */
    struct nx_slice path, raw_query; /* of target; the route prefix is cut off path */
    struct nx_slice path_param;      /* decoded :param of the route */
    const struct web_route *route;   /* NULL: none matched */
    const char *method_text;         /* libmicrohttpd's, while the head is read */
    unsigned wrap;                   /* WEB_CORS, WEB_COMPRESS: headers that the reply gets */
    size_t header_bytes, body_bytes; /* as received */
    struct arena_share share;        /* of arena, where an answer can be large */
    struct buf form;                 /* body of a form */
    bool form_taken, form_too_large;
    bool url_semicolon;            /* a pair was dropped because of ';' */
    struct web_param *params;      /* body first, then URL */
    size_t n_params, n_url_params; /* URL ones are the last n_url_params */
    struct arena *arena;
    struct web_reply reply;
    int64_t start_ns;
    struct web_conn *client;
    struct web_out *out;  /* the reply being sent; out.c */
    bool seen, queued;    /* the turn's */
    bool filling;         /* the next piece is to be made, not the handler run */
    int cancel;           /* atomic: the client is gone or the server stops */
    struct web_req *next; /* in the queue or the running list */
};

/* ---- parameters (params.c) -------------------------------------------------------------------- */

/* Decodes URL and form into r->params. NX_NOMEM only. */
nx_status web_params_parse(struct web_req *r);
struct nx_slice web_param_get(const struct web_req *r, const char *key); /* first, or empty */
struct nx_slice web_url_param_get(const struct web_req *r, const char *key);
bool web_param_has(const struct web_req *r, const char *key);     /* and is not empty */
size_t web_param_count(const struct web_req *r, const char *key); /* how often it is given */
/* Percent-decoding into the arena; plus: '+' is a blank. False on bad escapes. */
bool web_unescape(struct arena *a, struct nx_slice s, bool plus, struct nx_slice *out);

/* A label name as clients put it into a path: after "U__", "__" is '_' and "_1f600_" a code point of up
 * to five digits (as in Prometheus). What does not begin so, or is not well escaped, stays as it is. */
struct nx_slice web_unescape_name(struct arena *a, struct nx_slice s);

/* Seconds as a float, RFC 3339, or Prometheus's two literals for the ends of time. */
nx_status web_parse_time(struct nx_slice s, int64_t *ms, struct nx_err *err);
/* Seconds as a float or a Prometheus duration. */
nx_status web_parse_duration(struct nx_slice s, int64_t *ms, struct nx_err *err);
/* The optional time parameter `key`; `absent_ms` when it is not there. */
nx_status web_param_time(const struct web_req *r, const char *key, int64_t absent_ms, int64_t *ms,
                         struct nx_err *err);
/* The parameter `limit`: 0 when absent. */
nx_status web_param_limit(const struct web_req *r, size_t *limit, struct nx_err *err);

/* All match[] parameters, parsed. */
struct web_match_sets {
    struct web_match_set {
        struct matcher *m;
        size_t n;
    } * v;
    size_t n;
};
/* NX_CANCELED when nobody waits for the answer any more. */
nx_status web_check(const struct web_req *r, struct nx_err *err);
nx_status web_param_matches(struct web_req *r, struct web_match_sets *out, struct nx_err *err);
void web_match_sets_done(struct web_match_sets *sets);

/* ---- replies (reply.c, json.c) ------------------------------------------------------------------ */

void web_text(struct web_req *r, unsigned status, const char *text); /* text/plain; charset=utf-8 */
/* A redirect as Go writes it; `location` is in the arena (NULL: out of memory). */
void web_redirect(struct web_req *r, unsigned status, const char *location);
void web_put_html(struct buf *b, const char *s); /* text as HTML, in or out of quotes */

#define WEB_ERROR_LIST(X)                                                                          \
    X(BAD_DATA, "bad_data", 400)                                                                   \
    X(EXECUTION, "execution", 422)                                                                 \
    X(CANCELED, "canceled", 499)                                                                   \
    X(TIMEOUT, "timeout", 503)                                                                     \
    X(INTERNAL, "internal", 500)                                                                   \
    X(UNAVAILABLE, "unavailable", 500)                                                             \
    X(OVERLOADED, "unavailable", 503)                                                              \
    X(NOT_FOUND, "not_found", 404)                                                                 \
    X(NOT_ACCEPTABLE, "not_acceptable", 406)
#define WEB_ERROR_ENUM(name, text, status) WEB_ERR_##name,
enum web_error { WEB_ERROR_LIST(WEB_ERROR_ENUM) WEB_ERROR_COUNT };

/* The JSON error envelope. web_fail takes type and text from `err`, with an optional prefix. */
void web_error(struct web_req *r, enum web_error type, const char *fmt, ...) NX_PRINTF(3, 4);
void web_fail(struct web_req *r, const struct nx_err *err, const char *prefix);

/* {"status":"success","data": ... }: begin, write the data to &r->reply.body, end. */
void web_ok_begin(struct web_req *r);
void web_ok_end(struct web_req *r, char *const *warnings, size_t n_warnings, char *const *infos,
                size_t n_infos);
/* The same envelope around an array whose items are made one by one while it is sent. */
void web_ok_list(struct web_req *r, size_t n, void (*item)(void *ctx, size_t i, struct buf *out),
                 void *ctx, const char *warning);

/* Quoted; <, >, & escaped as Go does. */
void json_text(struct buf *b, struct nx_slice s);
void json_cstr(struct buf *b, const char *s);
/* For who reads it as text: <, > and & stay. */
void json_readable(struct buf *b, struct nx_slice s);
void json_query_stats(struct buf *b,
                      const struct pql_result *r); /* the object "stats" (api_query.c) */
/* A sample's time: seconds, 0 or 3 decimals. Returns the length; there is no NUL. */
#define JSON_TIME_BYTES 32
size_t json_time_text(char to[JSON_TIME_BYTES], int64_t ms);
void json_time_ms(struct buf *b, int64_t ms);
/* One of many times near each other, which share their first digits, as it stands between two points:
 * `,[`, the time, `,"`. Starts as {0}. Writes up to JSON_TIMES_BYTES and returns the end. */
#define JSON_TIMES_BYTES (JSON_TIME_BYTES + 4)
struct json_times {
    int64_t from_ms; /* of 10,000 s */
    size_t at, len;  /* of the last four digits of seconds in the text; of the text, 0: none yet */
    char text[24];
};
char *json_times_put(struct json_times *c, char *to, int64_t ms);
void json_labels(struct buf *b, const struct labels *ls);
void json_rfc3339_ms(struct buf *b, int64_t wall_ms); /* quoted; 0 is year 1, Go's zero time */
void json_messages(struct buf *b, const char *key, char *const *v, size_t n);

/* ---- counters for our own /metrics (stats.c) ------------------------------------------------------ */

struct web_stats;
struct web_stats *web_stats_new(void);
void web_stats_free(struct web_stats *s);
void web_stats_request(struct web_stats *s, const struct web_route *route, unsigned status,
                       double seconds, uint64_t bytes);

/* What handlers may use of the server. */
struct web_ctx {
    const struct web_opts *opts;
    struct web_stats *stats;
    struct regex *cors;        /* NULL: any origin */
    const char *prefix;        /* route prefix without a slash at the end; "" for none */
    const char *external_path; /* path of the external URL, likewise */
    const char *hostname;
    const char *external_host; /* host:port */
    const char *external_url;  /* without a slash at the end */
};
const struct web_ctx *web_ctx(const struct web *w);
/* NULL until web_attach(), which gated routes never see. */
const struct web_data *web_data(const struct web *w);

/* connections for net_conntrack_listener_* */
void web_conn_counts(const struct web *w, uint64_t *accepted, uint64_t *closed);

/* ---- handlers ---------------------------------------------------------------------------------- */

web_handler api_query, api_query_range, api_query_exemplars, api_format_query,
    api_parse_query;                                                           /* api_query.c */
web_handler api_labels, api_label_values, api_series;                          /* api_series.c */
web_handler api_targets, api_targets_metadata, api_metadata, api_scrape_pools; /* api_targets.c */
web_handler api_rules, api_alerts, api_alertmanagers;                          /* api_rules.c */
web_handler api_status_config, api_status_flags, api_status_buildinfo, api_status_runtimeinfo,
    api_status_tsdb, api_status_walreplay;                         /* api_status.c */
web_handler api_delete_series, api_clean_tombstones, api_snapshot; /* api_admin.c */
web_handler page_root, page_version, page_healthy, page_ready, page_reload, page_quit,
    page_lifecycle_get;   /* pages.c */
web_handler page_metrics; /* selfmetrics.c */
