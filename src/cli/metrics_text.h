/* metrics_text.h - an exposition as families, for `check metrics`. Private to src/cli.
 *
 * src/expo reads what a server scrapes, line by line; this reads it as the library does that Go's exporters
 * test themselves with: by family, and stricter. */
#pragma once

#include "src/base/arena.h"
#include "src/base/status.h"

enum metrics_type {
    METRICS_UNTYPED,
    METRICS_COUNTER,
    METRICS_GAUGE,
    METRICS_SUMMARY,
    METRICS_HISTOGRAM,
    METRICS_GAUGE_HISTOGRAM
};
const char *metrics_type_name(enum metrics_type t); /* "gauge_histogram" */

struct metrics_label {
    struct nx_slice name, value;
};
/* One metric: of a histogram or summary all its lines together. */
struct metrics_metric {
    struct metrics_label
        *labels; /* as written, le and quantile left out where they are the type's own */
    size_t n_labels;
    size_t n_parts; /* buckets or quantiles */
};
struct metrics_family {
    struct nx_slice name;
    bool has_help, has_type;
    enum metrics_type type;
    struct metrics_metric *v;
    size_t n, cap;
};
struct metrics_families {
    struct metrics_family *v; /* those without a metric are left out */
    size_t n, cap;
};

/* Everything lives in the arena. NX_BADINPUT: "text format parsing error in line 3: ...". */
NX_NODISCARD nx_status metrics_read(struct nx_slice text, struct arena *a,
                                    struct metrics_families *out, struct nx_err *err);
