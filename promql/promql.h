/* promql.h - the query language: text to tree, tree to text, tree and data to result.
 *
 * Nothing here knows of HTTP or of where series live: data comes through the querier of
 * storage/storage.h, so that queries run as well over a test store or a remote one.
 *
 * Units    times and durations are milliseconds.
 * Memory   a parsed expression lives in the arena it was parsed into; a result owns its arena.
 * Threads  parsing and printing are pure; one engine serves any number of threads. */
#pragma once

#include "src/base/arena.h"
#include "src/base/buf.h"
#include "src/base/labels.h"
#include "src/base/memory.h"
#include "storage/storage.h"

struct pql_expr; /* promql/ast.h */

enum pql_type { PQL_NONE, PQL_SCALAR, PQL_VECTOR, PQL_MATRIX, PQL_STRING };
const char *pql_type_name(enum pql_type t); /* "instant vector", as Prometheus's messages have it */

/* What the parser lets through beyond the stable language (--enable-feature). */
struct pql_features {
    bool experimental_functions; /* promql-experimental-functions */
    bool binop_fill;             /* promql-binop-fill-modifiers */
    bool extended_range;         /* promql-extended-range-selectors */
    bool delayed_name_removal;   /* promql-delayed-name-removal */
};

/* Parses and type-checks. The error text is Prometheus's: `1:5: parse error: unexpected ...`. */
NX_NODISCARD nx_status pql_parse(struct arena *a, struct nx_slice text,
                                 const struct pql_features *features, const struct pql_expr **out,
                                 struct nx_err *err);
/* A bare series selector, as in match[]: its matchers, in the arena (regexes are freed with
 * pql_matchers_done). Fails as Prometheus's ParseMetricSelector does: `{}` is one, too. */
NX_NODISCARD nx_status pql_parse_selector(struct arena *a, struct nx_slice text,
                                          struct matcher **out, size_t *n, struct nx_err *err);
/* Fails, in Prometheus's words, unless one matcher refuses an absent label: what is asked of match[]. */
NX_NODISCARD nx_status pql_check_match(const struct matcher *m, size_t n, struct nx_err *err);
void pql_matchers_done(struct matcher *m, size_t n);
/* Frees what an expression holds outside its arena (compiled regexes). Accepts NULL. */
void pql_expr_done(const struct pql_expr *e);

enum pql_type pql_expr_type(const struct pql_expr *e);
void pql_print(struct buf *b, const struct pql_expr *e);  /* canonical, on one line */
void pql_format(struct buf *b, const struct pql_expr *e); /* as /api/v1/format_query lays it out */
/* The tree as a JSON object, as /api/v1/parse_query has it. */
void pql_print_tree(struct buf *b, const struct pql_expr *e);
/* Visits every vector selector of the tree, in source order. */
void pql_each_selector(const struct pql_expr *e,
                       void (*fn)(void *ctx, const struct matcher *m, size_t n), void *ctx);

/* Gives every selector of a tree a matcher (those of that name change), or takes those of a name away. For
 * printing alone: values are borrowed, a new regex is not compiled, and the tree, which nobody else may be
 * looking at, can't be evaluated any more. */
NX_NODISCARD nx_status pql_set_matcher(struct arena *a, const struct pql_expr *e,
                                       enum matcher_type type, struct nx_slice name,
                                       struct nx_slice value, struct nx_err *err);
void pql_delete_matchers(const struct pql_expr *e, struct nx_slice name);

/* ---- evaluation ------------------------------------------------------------------------------ */

struct pql_query;
struct pql_result;

/* Who asked, for the query log. What does not apply is empty. */
struct pql_origin {
    const char *client_ip, *method, *path; /* over HTTP */
    const char *rule_file, *rule_group;
};
/* Is told of every query whose text is right, by its own thread. */
struct pql_watch {
    void *ctx;
    /* It begins to run. At most max_concurrency have begun and not ended; the number goes to `end`. */
    uint32_t (*begin)(void *ctx, const struct pql_query *q);
    /* It ended: `err` is NULL, or why it failed; of `r` only the statistics are sure to be there. */
    void (*end)(void *ctx, uint32_t begun, const struct pql_query *q, const struct pql_result *r,
                const struct nx_err *err);
};
#define PQL_NOT_BEGUN UINT32_MAX /* for `end`: it found no place */

struct pql_engine;
struct pql_engine_opts {
    int64_t lookback_ms;      /* 0: 5 min */
    int64_t timeout_ms;       /* 0: 2 min */
    uint64_t max_samples;     /* 0: 50,000,000 */
    uint32_t max_concurrency; /* 0: 20 */
    uint32_t helpers;         /* threads that large queries share besides their own; 0: one for each
                               * processor but one; UINT32_MAX: none */
    uint32_t
        ahead_rows; /* 0: where it pays; else helpers make so many rows at a time of all that can
                               * be shared out, from the first row on (tests) */
    struct memory *memory; /* borrowed; NULL: no limit */
    uint64_t
        max_bytes; /* of memory for one query; 0: a third of the memory limit, if there is one */
    const struct pql_watch *watch; /* borrowed; may be NULL */
    struct pql_features features;
    bool per_step_stats; /* queries may ask for them (promql-per-step-stats) */
    bool no_sharing;     /* each selector is read for itself, too: to compare with */
    bool no_folding;     /* constants are evaluated at each step, too: to compare with */
    /* Samples of one series that are decoded at a time, where no window has more; 0: 131,072. No result
     * depends on it. */
    uint32_t column_samples;
};
NX_NODISCARD nx_status pql_engine_new(struct pql_engine **out, const struct pql_engine_opts *opts,
                                      struct nx_err *err);
void pql_engine_free(struct pql_engine *e);
/* pql_parse() of what the engine would run: for who asks the same again and again. */
NX_NODISCARD nx_status pql_engine_parse(const struct pql_engine *e, struct arena *a,
                                        struct nx_slice text, const struct pql_expr **out,
                                        struct nx_err *err);
/* global.evaluation_interval: the step of subqueries without one. May change at any time. */
void pql_engine_set_default_step(struct pql_engine *e, int64_t step_ms);

/* Where a query finds its data. */
struct pql_source {
    nx_status (*open)(void *ctx, int64_t mint, int64_t maxt, struct querier **out,
                      struct nx_err *err);
    void *ctx;
};
struct pql_source pql_source_storage(struct storage *s);

struct pql_query {
    struct nx_slice text;
    /* What pql_engine_parse() made of the text; borrowed, outlives the result. NULL: it is parsed for this query. */
    const struct pql_expr *expr;
    bool instant; /* one evaluation at start_ms; end and step are ignored */
    int64_t start_ms, end_ms, step_ms;
    int64_t lookback_ms; /* 0: the engine's */
    int64_t timeout_ms;  /* 0: the engine's; never more than the engine's */
    const struct pql_source *source;
    bool per_step_stats; /* count samples by step, if the engine does */
    const int *cancel;   /* set to non-zero (atomically) from another thread to stop; may be NULL */
    const struct pql_origin *origin; /* for the watch; may be NULL */
    bool
        alone; /* nobody waits for it, or others are at work beside it: it gets no help from other threads */
};

/* One series of a result. In a range result t[i] = start + k * step with gaps left out. */
struct pql_series {
    struct labels labels;
    const int64_t *t;
    const double *v;
    size_t n;
};

struct pql_result {
    enum pql_type type;        /* of the instant query, or PQL_MATRIX of a range query */
    struct pql_series *series; /* PQL_VECTOR (one point each), PQL_MATRIX */
    size_t n_series;
    double scalar;          /* PQL_SCALAR */
    struct nx_slice string; /* PQL_STRING */
    int64_t t_ms;           /* time of a scalar or string */
    char **warnings,
        **infos; /* "PromQL warning: ... (1:5)"; at most 10 each, plus a line that counts the rest */
    size_t n_warnings, n_infos;
    struct {
        uint64_t samples_total, samples_peak; /* as each step alone would take; held at a time */
        uint64_t samples_read; /* what windows share counts once; instants count at each step */
        struct {               /* samples_total and samples_read of each step; n 0: nobody asked */
            size_t n;
            int64_t start_ms, step_ms;
            const uint64_t *total, *read;
        } by_step;
        double queue_s, prepare_s, eval_s, sort_s, total_s; /* total: all but parsing */
    } stats;
    struct arena *arena; /* holds all of the above */
};

/* Parses and runs. Errors: NX_BADINPUT (parse or type), NX_EXEC (many-to-many and the like, and too many
 * samples), NX_TIMEOUT, NX_CANCELED, else what the querier failed with. The text is what the API's
 * "error" field shows, less the API's own prefix. */
NX_NODISCARD nx_status pql_exec(struct pql_engine *e, const struct pql_query *q,
                                struct pql_result **out, struct nx_err *err);
void pql_result_free(struct pql_result *r); /* accepts NULL */

struct pql_engine_stats {
    uint64_t queries, active, max_concurrency;
    uint64_t samples_total, samples_read;
    /* Durations by slice, in seconds, for prometheus_engine_query_duration_seconds. */
    struct {
        uint64_t count;
        double sum, p50, p90, p99; /* quantiles over the last ten minutes; NaN when idle */
    } queue, prepare, inner_eval, sort;
};
void pql_engine_get_stats(struct pql_engine *e, struct pql_engine_stats *out);

/* ---- scripts in Prometheus's test language ----------------------------------------------------- */

/* Runs one script (load, clear, eval instant/range, expect ...). Each failure is told to `report`; its counts
 * go to *passed, *failed and *skipped. Each instant query is also run as a range query and must agree. */
NX_NODISCARD nx_status pql_run_script(struct nx_slice text, const char *name,
                                      void (*report)(void *ctx, int line, const char *what),
                                      void *ctx, unsigned *passed, unsigned *failed,
                                      unsigned *skipped, struct nx_err *err);
/* The same with so many helpers, each making so many rows at a time (pql_engine_opts). */
NX_NODISCARD nx_status pql_run_script_with(uint32_t helpers, uint32_t ahead_rows,
                                           struct nx_slice text, const char *name,
                                           void (*report)(void *ctx, int line, const char *what),
                                           void *ctx, unsigned *passed, unsigned *failed,
                                           unsigned *skipped, struct nx_err *err);

/* ---- unit tests of rules ------------------------------------------------------------------------ */

/* A store in memory and an engine over it. Threads: one at a time. */
struct pql_lab;
NX_NODISCARD nx_status pql_lab_new(struct pql_lab **out, const struct pql_engine_opts *opts,
                                   struct nx_err *err);
void pql_lab_free(struct pql_lab *l); /* accepts NULL */
/* A series and its values in the notation of scripts: the k-th is that of start + k * interval. Copied. */
NX_NODISCARD nx_status pql_lab_series(struct pql_lab *l, struct nx_slice series,
                                      struct nx_slice values, int64_t start_ms, int64_t interval_ms,
                                      struct nx_err *err);
/* Time reaches t_ms: the samples of all series up to it are in the store. */
NX_NODISCARD nx_status pql_lab_advance(struct pql_lab *l, int64_t t_ms, struct nx_err *err);
/* A sample more, as a server would take it. Labels are copied. */
enum pql_lab_taken {
    PQL_LAB_ADDED,     /* or there already, the same to the bit */
    PQL_LAB_DUPLICATE, /* the newest of its series has another value at that time: that stays */
    PQL_LAB_LATE       /* older than the newest of its series: not added */
};
NX_NODISCARD nx_status pql_lab_add(struct pql_lab *l, const struct labels *ls, int64_t t_ms,
                                   double v, enum pql_lab_taken *taken, struct nx_err *err);
struct pql_engine *pql_lab_engine(struct pql_lab *l);
const struct pql_source *pql_lab_source(const struct pql_lab *l);
/* Since the last call: did a query select native histograms, which the store can't hold? */
bool pql_lab_met_histograms(struct pql_lab *l);

/* The labels that `name{a="b"}` says; in the arena. */
NX_NODISCARD nx_status pql_parse_metric(struct arena *a, struct nx_slice text, struct labels *out,
                                        struct nx_err *err);
