/* expo.h - the exposition formats as text: Prometheus text 0.0.4/1.0.0 and OpenMetrics 0.0.1/1.0.0, in and out.
 *
 * Owner    a parser is a small struct on the caller's stack; it borrows the body and owns nothing.
 * Threads  one at a time per parser; the functions over plain bytes may be called from any thread.
 * Units    timestamps are Unix milliseconds in both formats; values are as written.
 * Errors   worded as Prometheus words them, because users see them in /api/v1/targets. */
#pragma once

#include "src/base/arena.h"
#include "src/base/buf.h"
#include "src/base/labels.h"
#include "src/base/status.h"

/* ---- which format --------------------------------------------------------------------------- */

enum expo_format { EXPO_TEXT, EXPO_OPENMETRICS };

/* Chooses the parser by the Content-Type header (ptr NULL or empty: none was sent). `fallback` is the
 * configured fallback_scrape_protocol as Prometheus names it ("PrometheusText0.0.4", ...), or empty.
 * Without a usable header and without a fallback: NX_BADINPUT. */
NX_NODISCARD nx_status expo_format_choose(struct nx_slice content_type, struct nx_slice fallback,
                                          enum expo_format *out, struct nx_err *err);

/* ---- reading -------------------------------------------------------------------------------- */

enum expo_type {
    EXPO_UNKNOWN, /* also "untyped" */
    EXPO_COUNTER,
    EXPO_GAUGE,
    EXPO_HISTOGRAM,
    EXPO_GAUGEHISTOGRAM,
    EXPO_SUMMARY,
    EXPO_INFO,
    EXPO_STATESET,
};
const char *expo_type_text(enum expo_type t); /* "counter", ...; EXPO_UNKNOWN is "unknown" */

enum expo_kind { EXPO_END, EXPO_SERIES, EXPO_TYPE, EXPO_HELP, EXPO_UNIT, EXPO_COMMENT };

/* One entry. Slices point into the body. */
struct expo_entry {
    enum expo_kind kind;
    struct nx_slice line; /* from its first byte up to and with its newline */
    /* SERIES: */
    struct nx_slice series; /* name and labels as written; identifies the series within a target */
    struct nx_slice prefix; /* everything before the value, blanks included */
    double value;           /* any NaN is NUM_NAN_BITS */
    bool has_ts;
    int64_t ts_ms;
    struct nx_slice exemplar; /* `{labels} value [timestamp]` as written; empty if none */
    /* TYPE, HELP, UNIT: */
    struct nx_slice name; /* of the family, unquoted, still escaped */
    struct nx_slice text; /* help (still escaped) or unit; COMMENT: the line */
    enum expo_type type;
};

struct expo {
    const char *base, *end; /* the body; text: with the extra newline at its end */
    const char *at, *start; /* the token being read */
    const char *entry;      /* where the current entry began */
    enum expo_format format;
    uint8_t state;
    enum expo_type type; /* of the last TYPE line: decides how le and quantile are written */
};

/* body[len] must be readable and hold '\n': both formats are scanned up to a newline without bounds. */
void expo_init(struct expo *x, enum expo_format format, const char *body, size_t len);

/* The next entry; EXPO_END at the end. NX_BADINPUT fails the whole body; the parser is then done. */
NX_NODISCARD nx_status expo_next(struct expo *x, struct expo_entry *e, struct nx_err *err);

/* A sample of a line whose bytes before the value are already known. */
struct expo_sample {
    double value;
    int64_t ts_ms;
    bool has_ts;
};
/* If the parser stands at the start of a line that is `prefix`, a plain value, an optional timestamp
 * (OpenMetrics: a plain decimal) and a newline, takes the line and returns true. Otherwise nothing is
 * taken and expo_next() must decide: false says nothing about the line being right or wrong. `prefix`
 * must come from an entry of the same format. */
bool expo_try_sample(struct expo *x, const char *prefix, size_t len, struct expo_sample *out);
/* The same for a caller that compared the prefix itself: `value` is behind it. */
bool expo_try_value(struct expo *x, const char *value, struct expo_sample *out);
/* True between two entries: where expo_try_* may be asked. */
bool expo_at_line(const struct expo *x);

/* Labels of one series as scraped: decoded, sorted by name, empty values and repeated names still in.
 * le and quantile are normalised by `type` as 3.x does. Bytes live in the body or in `a`. */
struct expo_labels {
    struct label *v;
    uint32_t n;
    struct nx_slice repeated; /* a name that stands twice; ptr NULL if none does */
};
NX_NODISCARD nx_status expo_labels(struct nx_slice series, enum expo_type type, struct arena *a,
                                   struct expo_labels *out, struct nx_err *err);

/* Help text or label value without its escapes; borrowed if there is nothing to do, else in `a`.
 * `quotes`: \" is an escape too (label values, OpenMetrics help). ptr NULL out of memory. */
struct nx_slice expo_unescape(struct nx_slice s, bool quotes, struct arena *a);

/* An OpenMetrics exemplar, decoded. */
struct expo_exemplar {
    struct expo_labels labels;
    double value;
    bool has_ts;
    int64_t ts_ms;
};
NX_NODISCARD nx_status expo_exemplar(struct nx_slice text, struct arena *a,
                                     struct expo_exemplar *out, struct nx_err *err);

/* ---- gzip ----------------------------------------------------------------------------------- */

/* A decompressor that keeps its memory from body to body. */
struct expo_gunzip;
struct expo_gunzip *expo_gunzip_new(void); /* NULL out of memory */
void expo_gunzip_free(struct expo_gunzip *g);
/* Appends the decoded bytes to `out`. NX_LIMIT when they are more than out's limit; NX_BADINPUT with
 * Go's words for what is no gzip. */
NX_NODISCARD nx_status expo_gunzip_run(struct expo_gunzip *g, struct nx_slice in, struct buf *out,
                                       struct nx_err *err);

/* ---- writing -------------------------------------------------------------------------------- */

struct expo_pair { /* a label as C strings, for our own metrics */
    const char *name, *value;
};

/* Heads a family: its HELP and TYPE lines (help may be NULL). In OpenMetrics a counter's family name
 * goes without _total, whatever `name` says. */
void expo_write_family(struct buf *b, enum expo_format f, const char *name, enum expo_type type,
                       const char *help);
/* One sample line. `suffix` is appended to the name ("_sum", "_bucket", ""). */
void expo_write_sample(struct buf *b, enum expo_format f, const char *name, const char *suffix,
                       const struct expo_pair *pairs, size_t n, double value);
/* One sample line of a label set with its __name__; names that are not legacy-valid are quoted. */
void expo_write_series(struct buf *b, enum expo_format f, const struct labels *ls, double value,
                       bool has_ts, int64_t ts_ms);
/* Ends an OpenMetrics exposition; nothing for text. */
void expo_write_end(struct buf *b, enum expo_format f);
/* The Content-Type to send ("text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8"). */
const char *expo_content_type(enum expo_format f);
