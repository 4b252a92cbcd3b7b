/* fn.h - the kernels that the table of functions points at. Private to promql/. */
#pragma once

#include "promql/eval.h"

/* clang-format off */
#define FN_MAPS(X) X(abs) X(acos) X(acosh) X(asin) X(asinh) X(atan) X(atanh) X(ceil) X(clamp_max) X(clamp_min) \
    X(cos) X(cosh) X(day_of_month) X(day_of_week) X(day_of_year) X(days_in_month) X(deg) X(exp) X(floor) X(hour) \
    X(ln) X(log10) X(log2) X(minute) X(month) X(rad) X(round) X(sgn) X(sin) X(sinh) X(sqrt) X(tan) X(tanh) X(year)
#define FN_WINDOWS(X) X(double_exponential_smoothing)
#define FN_SLIDES(X) X(avg_over_time) X(changes) X(count_over_time) X(delta) X(deriv) X(first_over_time) X(idelta) \
    X(increase) X(irate) X(last_over_time) X(max_over_time) X(min_over_time) X(present_over_time) \
    X(predict_linear) X(quantile_over_time) X(rate) X(resets) X(stddev_over_time) X(stdvar_over_time) X(sum_over_time) \
    X(mad_over_time) X(ts_of_first_over_time) X(ts_of_last_over_time) X(ts_of_max_over_time) X(ts_of_min_over_time)
#define FN_CALLS(X) X(absent) X(absent_over_time) X(clamp) X(end) X(histogram_fraction) X(histogram_quantile) \
    X(histogram_quantiles) X(info) X(label_join) X(label_replace) X(max_of) X(min_of) X(native_only) X(pi) X(range) \
    X(scalar) X(sort) X(sort_by_label) X(sort_by_label_desc) X(sort_desc) X(start) X(start_timestamp) X(step) \
    X(time) X(timestamp) X(vector)
/* clang-format on */

#define FN_MAP(name) double map_##name(double v, const double *args);
#define FN_WINDOW(name)                                                                            \
    bool win_##name(const struct pql_window *w, const double *args, double *out);
#define FN_SLIDE(name) void slide_##name(const struct pql_slide *s, double *out, uint8_t *has);
#define FN_CALL(name)  nx_status fn_##name(struct pql_call *c, struct nx_err *err);
FN_MAPS(FN_MAP)
FN_WINDOWS(FN_WINDOW)
FN_SLIDES(FN_SLIDE)
FN_CALLS(FN_CALL)
#undef FN_MAP
#undef FN_WINDOW
#undef FN_SLIDE
#undef FN_CALL

/* Rows that are made, with room for n and none of them there yet. */
NX_NODISCARD nx_status rows_made(struct eval *ev, const struct eval_times *tm, size_t n,
                                 struct rows **out, struct nx_err *err);
/* Appends a row with all presence bytes clear. */
NX_NODISCARD nx_status rows_append(struct eval *ev, struct rows *r, const struct labels *labels,
                                   struct row **out, struct nx_err *err);

/* For kernels whose work may be more than that of going over the series once: n samples more are next. True when
 * the query is to stop, and from then on: then what the kernel leaves is not looked at. */
static inline bool slide_stops(const struct pql_slide *s, uint64_t n)
{
    if (!*s->failed)
        *s->failed = eval_spend(s->ev, n, s->err);
    return *s->failed != NX_OK;
}

/* Prefix sums of the values, n + 1 of them. False unless all are exact: then none may be used. */
bool window_exact_prefixes(const struct pql_slide *s, double *prefix);
uint32_t windows_alike(const struct pql_slide *s, uint32_t k, uint32_t *stride);
