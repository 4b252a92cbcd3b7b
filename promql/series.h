/* series.h - series notation of scripts: `metric{a="b"} 1+2x3 _ stale NaN`. Private to promql/.
 *
 *   _      a gap          _xN    N gaps
 *   V      a value        VxN    the value N + 1 times
 *   V+DxN  V, V + D, ... : N + 1 values (also V-DxN)
 *   stale  a stale marker  {{...}} a native histogram: its place is kept, not its value */
#pragma once

#include "promql/promql.h"

enum series_item { SERIES_GAP, SERIES_VALUE, SERIES_HISTOGRAM };

struct series_value {
    enum series_item is;
    double v;
};

struct series_line {
    struct labels labels;
    struct series_value *v; /* both in the arena */
    size_t n;
};

NX_NODISCARD nx_status series_parse(struct arena *a, struct nx_slice line, struct series_line *out,
                                    struct nx_err *err);
/* A number as scripts write it: decimal, 0x1F, Inf, NaN, signed. */
bool series_number(struct nx_slice s, double *out);
