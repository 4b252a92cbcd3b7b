/* funcs.c - the table of functions.
 *
 * WHY   Checker, evaluator, printer and documentation must agree on every signature, so a function is
 *       one row here and its kernel one function in a fn_*.c.
 * RULES F1  Rows are sorted by name: pql_func_find() searches by halves, and a test checks the order.
 *       F2  The last argument type of a row repeats up to max_args, or without bound with MANY. */
#include "promql/funcs.h"

#include <stdlib.h>
#include <string.h>

#include "promql/fn.h"

#define NON     PQL_NONE
#define SCA     PQL_SCALAR
#define VEC     PQL_VECTOR
#define MAT     PQL_MATRIX
#define STR     PQL_STRING
#define KEEP    PQL_F_KEEP_NAME
#define COUNTER PQL_F_COUNTER
#define EXP     PQL_F_EXPERIMENTAL
#define MANY    PQL_F_VARIADIC
#define PERSTEP PQL_F_PER_STEP
#define ANCH    PQL_F_ANCHORED
#define SMOO    PQL_F_SMOOTHED
#define ROOMY   PQL_F_ROOMY

// clang-format off
const struct pql_func pql_funcs[] = {
    /* name                           result args                    min max flags                kernel */
    { "abs",                            VEC, { VEC },                     1,  0, 0,                     .map = map_abs },
    { "absent",                         VEC, { VEC },                     1,  0, 0,                     .call = fn_absent },
    { "absent_over_time",               VEC, { MAT },                     1,  0, 0,                     .call = fn_absent_over_time },
    { "acos",                           VEC, { VEC },                     1,  0, 0,                     .map = map_acos },
    { "acosh",                          VEC, { VEC },                     1,  0, 0,                     .map = map_acosh },
    { "asin",                           VEC, { VEC },                     1,  0, 0,                     .map = map_asin },
    { "asinh",                          VEC, { VEC },                     1,  0, 0,                     .map = map_asinh },
    { "atan",                           VEC, { VEC },                     1,  0, 0,                     .map = map_atan },
    { "atanh",                          VEC, { VEC },                     1,  0, 0,                     .map = map_atanh },
    { "avg_over_time",                  VEC, { MAT },                     1,  0, ROOMY,                 .slide = slide_avg_over_time },
    { "ceil",                           VEC, { VEC },                     1,  0, 0,                     .map = map_ceil },
    { "changes",                        VEC, { MAT },                     1,  0, ANCH,                  .slide = slide_changes },
    { "clamp",                          VEC, { VEC, SCA, SCA },           3,  0, 0,                     .call = fn_clamp },
    { "clamp_max",                      VEC, { VEC, SCA },                2,  0, 0,                     .map = map_clamp_max },
    { "clamp_min",                      VEC, { VEC, SCA },                2,  0, 0,                     .map = map_clamp_min },
    { "cos",                            VEC, { VEC },                     1,  0, 0,                     .map = map_cos },
    { "cosh",                           VEC, { VEC },                     1,  0, 0,                     .map = map_cosh },
    { "count_over_time",                VEC, { MAT },                     1,  0, 0,                     .slide = slide_count_over_time },
    { "day_of_month",                   VEC, { VEC },                     0,  0, PERSTEP,               .map = map_day_of_month },
    { "day_of_week",                    VEC, { VEC },                     0,  0, PERSTEP,               .map = map_day_of_week },
    { "day_of_year",                    VEC, { VEC },                     0,  0, PERSTEP,               .map = map_day_of_year },
    { "days_in_month",                  VEC, { VEC },                     0,  0, PERSTEP,               .map = map_days_in_month },
    { "deg",                            VEC, { VEC },                     1,  0, 0,                     .map = map_deg },
    { "delta",                          VEC, { MAT },                     1,  0, ANCH | SMOO,           .slide = slide_delta },
    { "deriv",                          VEC, { MAT },                     1,  0, ROOMY,                 .slide = slide_deriv },
    { "double_exponential_smoothing",   VEC, { MAT, SCA, SCA },           3,  0, EXP,                   .window = win_double_exponential_smoothing },
    { "end",                            SCA, { NON },                     0,  0, EXP,                   .call = fn_end },
    { "exp",                            VEC, { VEC },                     1,  0, 0,                     .map = map_exp },
    { "first_over_time",                VEC, { MAT },                     1,  0, KEEP,                  .slide = slide_first_over_time },
    { "floor",                          VEC, { VEC },                     1,  0, 0,                     .map = map_floor },
    { "histogram_avg",                  VEC, { VEC },                     1,  0, 0,                     .call = fn_native_only },
    { "histogram_count",                VEC, { VEC },                     1,  0, 0,                     .call = fn_native_only },
    { "histogram_fraction",             VEC, { SCA, SCA, VEC },           3,  0, 0,                     .call = fn_histogram_fraction },
    { "histogram_quantile",             VEC, { SCA, VEC },                2,  0, 0,                     .call = fn_histogram_quantile },
    { "histogram_quantiles",            VEC, { VEC, STR, SCA },           3, 12, EXP,                   .call = fn_histogram_quantiles },
    { "histogram_stddev",               VEC, { VEC },                     1,  0, 0,                     .call = fn_native_only },
    { "histogram_stdvar",               VEC, { VEC },                     1,  0, 0,                     .call = fn_native_only },
    { "histogram_sum",                  VEC, { VEC },                     1,  0, 0,                     .call = fn_native_only },
    { "hour",                           VEC, { VEC },                     0,  0, PERSTEP,               .map = map_hour },
    { "idelta",                         VEC, { MAT },                     1,  0, 0,                     .slide = slide_idelta },
    { "increase",                       VEC, { MAT },                     1,  0, COUNTER | ANCH | SMOO, .slide = slide_increase },
    { "info",                           VEC, { VEC, VEC },                1,  0, EXP | KEEP,            .call = fn_info },
    { "irate",                          VEC, { MAT },                     1,  0, 0,                     .slide = slide_irate },
    { "label_join",                     VEC, { VEC, STR, STR, STR },      3,  0, KEEP | MANY,           .call = fn_label_join },
    { "label_replace",                  VEC, { VEC, STR, STR, STR, STR }, 5,  0, KEEP,                  .call = fn_label_replace },
    { "last_over_time",                 VEC, { MAT },                     1,  0, KEEP,                  .slide = slide_last_over_time },
    { "ln",                             VEC, { VEC },                     1,  0, 0,                     .map = map_ln },
    { "log10",                          VEC, { VEC },                     1,  0, 0,                     .map = map_log10 },
    { "log2",                           VEC, { VEC },                     1,  0, 0,                     .map = map_log2 },
    { "mad_over_time",                  VEC, { MAT },                     1,  0, EXP | ROOMY,           .slide = slide_mad_over_time },
    { "max_of",                         SCA, { SCA, SCA },                2,  0, EXP,                   .call = fn_max_of },
    { "max_over_time",                  VEC, { MAT },                     1,  0, 0,                     .slide = slide_max_over_time },
    { "min_of",                         SCA, { SCA, SCA },                2,  0, EXP,                   .call = fn_min_of },
    { "min_over_time",                  VEC, { MAT },                     1,  0, 0,                     .slide = slide_min_over_time },
    { "minute",                         VEC, { VEC },                     0,  0, PERSTEP,               .map = map_minute },
    { "month",                          VEC, { VEC },                     0,  0, PERSTEP,               .map = map_month },
    { "pi",                             SCA, { NON },                     0,  0, 0,                     .call = fn_pi },
    { "predict_linear",                 VEC, { MAT, SCA },                2,  0, PERSTEP | ROOMY,       .slide = slide_predict_linear },
    { "present_over_time",              VEC, { MAT },                     1,  0, 0,                     .slide = slide_present_over_time },
    { "quantile_over_time",             VEC, { SCA, MAT },                2,  0, ROOMY,                 .slide = slide_quantile_over_time },
    { "rad",                            VEC, { VEC },                     1,  0, 0,                     .map = map_rad },
    { "range",                          SCA, { NON },                     0,  0, EXP,                   .call = fn_range },
    { "rate",                           VEC, { MAT },                     1,  0, COUNTER | ANCH | SMOO, .slide = slide_rate },
    { "resets",                         VEC, { MAT },                     1,  0, ANCH,                  .slide = slide_resets },
    { "round",                          VEC, { VEC, SCA },                1,  0, 0,                     .map = map_round },
    { "scalar",                         SCA, { VEC },                     1,  0, 0,                     .call = fn_scalar },
    { "sgn",                            VEC, { VEC },                     1,  0, 0,                     .map = map_sgn },
    { "sin",                            VEC, { VEC },                     1,  0, 0,                     .map = map_sin },
    { "sinh",                           VEC, { VEC },                     1,  0, 0,                     .map = map_sinh },
    { "sort",                           VEC, { VEC },                     1,  0, KEEP,                  .call = fn_sort },
    { "sort_by_label",                  VEC, { VEC, STR },                1,  0, EXP | KEEP | MANY,     .call = fn_sort_by_label },
    { "sort_by_label_desc",             VEC, { VEC, STR },                1,  0, EXP | KEEP | MANY,     .call = fn_sort_by_label_desc },
    { "sort_desc",                      VEC, { VEC },                     1,  0, KEEP,                  .call = fn_sort_desc },
    { "sqrt",                           VEC, { VEC },                     1,  0, 0,                     .map = map_sqrt },
    { "start",                          SCA, { NON },                     0,  0, EXP,                   .call = fn_start },
    { "start_timestamp",                VEC, { VEC },                     1,  0, EXP,                   .call = fn_start_timestamp },
    { "stddev_over_time",               VEC, { MAT },                     1,  0, 0,                     .slide = slide_stddev_over_time },
    { "stdvar_over_time",               VEC, { MAT },                     1,  0, 0,                     .slide = slide_stdvar_over_time },
    { "step",                           SCA, { NON },                     0,  0, EXP,                   .call = fn_step },
    { "sum_over_time",                  VEC, { MAT },                     1,  0, ROOMY,                 .slide = slide_sum_over_time },
    { "tan",                            VEC, { VEC },                     1,  0, 0,                     .map = map_tan },
    { "tanh",                           VEC, { VEC },                     1,  0, 0,                     .map = map_tanh },
    { "time",                           SCA, { NON },                     0,  0, PERSTEP,               .call = fn_time },
    { "timestamp",                      VEC, { VEC },                     1,  0, PERSTEP,               .call = fn_timestamp },
    { "ts_of_first_over_time",          VEC, { MAT },                     1,  0, EXP,                   .slide = slide_ts_of_first_over_time },
    { "ts_of_last_over_time",           VEC, { MAT },                     1,  0, EXP,                   .slide = slide_ts_of_last_over_time },
    { "ts_of_max_over_time",            VEC, { MAT },                     1,  0, EXP,                   .slide = slide_ts_of_max_over_time },
    { "ts_of_min_over_time",            VEC, { MAT },                     1,  0, EXP,                   .slide = slide_ts_of_min_over_time },
    { "vector",                         VEC, { SCA },                     1,  0, 0,                     .call = fn_vector },
    { "year",                           VEC, { VEC },                     0,  0, PERSTEP,               .map = map_year },
};
// clang-format on

const size_t pql_n_funcs = NX_COUNT(pql_funcs);

static int compare_name(const void *key, const void *row)
{
    const struct nx_slice *name = key;
    const struct pql_func *f = row;

    return nx_slice_cmp(*name, nx_slice_str(f->name));
}

const struct pql_func *pql_func_find(struct nx_slice name)
{
    return bsearch(&name, pql_funcs, pql_n_funcs, sizeof pql_funcs[0], compare_name);
}
