/* funcs.c - the table of functions.
 *
 * WHY   Checker, evaluator, printer and documentation must agree on every signature, so a function is
 *       one row here and its kernel one function in a fn_*.c.
 * RULES F1  Rows are sorted by name: pql_func_find() searches by halves, and a test checks the order.
 *       F2  The last argument type of a row repeats up to max_args, or without bound with MANY. */
#include "promql/funcs.h"

#include <stdlib.h>
#include <string.h>

#define NON PQL_NONE
#define SCA PQL_SCALAR
#define VEC PQL_VECTOR
#define MAT PQL_MATRIX
#define STR PQL_STRING
#define KEEP PQL_F_KEEP_NAME
#define COUNTER PQL_F_COUNTER
#define EXP PQL_F_EXPERIMENTAL
#define MANY PQL_F_VARIADIC

// clang-format off
const struct pql_func pql_funcs[] = {
    /* name                           result args                    min max flags */
    { "abs",                            VEC, { VEC },                     1,  0, .flags = 0 },
    { "absent",                         VEC, { VEC },                     1,  0, .flags = 0 },
    { "absent_over_time",               VEC, { MAT },                     1,  0, .flags = 0 },
    { "acos",                           VEC, { VEC },                     1,  0, .flags = 0 },
    { "acosh",                          VEC, { VEC },                     1,  0, .flags = 0 },
    { "asin",                           VEC, { VEC },                     1,  0, .flags = 0 },
    { "asinh",                          VEC, { VEC },                     1,  0, .flags = 0 },
    { "atan",                           VEC, { VEC },                     1,  0, .flags = 0 },
    { "atanh",                          VEC, { VEC },                     1,  0, .flags = 0 },
    { "avg_over_time",                  VEC, { MAT },                     1,  0, .flags = 0 },
    { "ceil",                           VEC, { VEC },                     1,  0, .flags = 0 },
    { "changes",                        VEC, { MAT },                     1,  0, .flags = 0 },
    { "clamp",                          VEC, { VEC, SCA, SCA },           3,  0, .flags = 0 },
    { "clamp_max",                      VEC, { VEC, SCA },                2,  0, .flags = 0 },
    { "clamp_min",                      VEC, { VEC, SCA },                2,  0, .flags = 0 },
    { "cos",                            VEC, { VEC },                     1,  0, .flags = 0 },
    { "cosh",                           VEC, { VEC },                     1,  0, .flags = 0 },
    { "count_over_time",                VEC, { MAT },                     1,  0, .flags = 0 },
    { "day_of_month",                   VEC, { VEC },                     0,  0, .flags = 0 },
    { "day_of_week",                    VEC, { VEC },                     0,  0, .flags = 0 },
    { "day_of_year",                    VEC, { VEC },                     0,  0, .flags = 0 },
    { "days_in_month",                  VEC, { VEC },                     0,  0, .flags = 0 },
    { "deg",                            VEC, { VEC },                     1,  0, .flags = 0 },
    { "delta",                          VEC, { MAT },                     1,  0, .flags = 0 },
    { "deriv",                          VEC, { MAT },                     1,  0, .flags = 0 },
    { "double_exponential_smoothing",   VEC, { MAT, SCA, SCA },           3,  0, .flags = EXP },
    { "end",                            SCA, { NON },                     0,  0, .flags = EXP },
    { "exp",                            VEC, { VEC },                     1,  0, .flags = 0 },
    { "first_over_time",                VEC, { MAT },                     1,  0, .flags = KEEP },
    { "floor",                          VEC, { VEC },                     1,  0, .flags = 0 },
    { "histogram_avg",                  VEC, { VEC },                     1,  0, .flags = 0 },
    { "histogram_count",                VEC, { VEC },                     1,  0, .flags = 0 },
    { "histogram_fraction",             VEC, { SCA, SCA, VEC },           3,  0, .flags = 0 },
    { "histogram_quantile",             VEC, { SCA, VEC },                2,  0, .flags = 0 },
    { "histogram_quantiles",            VEC, { VEC, STR, SCA },           3, 12, .flags = EXP },
    { "histogram_stddev",               VEC, { VEC },                     1,  0, .flags = 0 },
    { "histogram_stdvar",               VEC, { VEC },                     1,  0, .flags = 0 },
    { "histogram_sum",                  VEC, { VEC },                     1,  0, .flags = 0 },
    { "hour",                           VEC, { VEC },                     0,  0, .flags = 0 },
    { "idelta",                         VEC, { MAT },                     1,  0, .flags = 0 },
    { "increase",                       VEC, { MAT },                     1,  0, .flags = COUNTER },
    { "info",                           VEC, { VEC, VEC },                1,  0, .flags = EXP | KEEP },
    { "irate",                          VEC, { MAT },                     1,  0, .flags = COUNTER },
    { "label_join",                     VEC, { VEC, STR, STR, STR },      3,  0, .flags = KEEP | MANY },
    { "label_replace",                  VEC, { VEC, STR, STR, STR, STR }, 5,  0, .flags = KEEP },
    { "last_over_time",                 VEC, { MAT },                     1,  0, .flags = KEEP },
    { "ln",                             VEC, { VEC },                     1,  0, .flags = 0 },
    { "log10",                          VEC, { VEC },                     1,  0, .flags = 0 },
    { "log2",                           VEC, { VEC },                     1,  0, .flags = 0 },
    { "mad_over_time",                  VEC, { MAT },                     1,  0, .flags = EXP },
    { "max_of",                         SCA, { SCA, SCA },                2,  0, .flags = EXP },
    { "max_over_time",                  VEC, { MAT },                     1,  0, .flags = 0 },
    { "min_of",                         SCA, { SCA, SCA },                2,  0, .flags = EXP },
    { "min_over_time",                  VEC, { MAT },                     1,  0, .flags = 0 },
    { "minute",                         VEC, { VEC },                     0,  0, .flags = 0 },
    { "month",                          VEC, { VEC },                     0,  0, .flags = 0 },
    { "pi",                             SCA, { NON },                     0,  0, .flags = 0 },
    { "predict_linear",                 VEC, { MAT, SCA },                2,  0, .flags = 0 },
    { "present_over_time",              VEC, { MAT },                     1,  0, .flags = 0 },
    { "quantile_over_time",             VEC, { SCA, MAT },                2,  0, .flags = 0 },
    { "rad",                            VEC, { VEC },                     1,  0, .flags = 0 },
    { "range",                          SCA, { NON },                     0,  0, .flags = EXP },
    { "rate",                           VEC, { MAT },                     1,  0, .flags = COUNTER },
    { "resets",                         VEC, { MAT },                     1,  0, .flags = 0 },
    { "round",                          VEC, { VEC, SCA },                1,  0, .flags = 0 },
    { "scalar",                         SCA, { VEC },                     1,  0, .flags = 0 },
    { "sgn",                            VEC, { VEC },                     1,  0, .flags = 0 },
    { "sin",                            VEC, { VEC },                     1,  0, .flags = 0 },
    { "sinh",                           VEC, { VEC },                     1,  0, .flags = 0 },
    { "sort",                           VEC, { VEC },                     1,  0, .flags = KEEP },
    { "sort_by_label",                  VEC, { VEC, STR },                1,  0, .flags = EXP | KEEP | MANY },
    { "sort_by_label_desc",             VEC, { VEC, STR },                1,  0, .flags = EXP | KEEP | MANY },
    { "sort_desc",                      VEC, { VEC },                     1,  0, .flags = KEEP },
    { "sqrt",                           VEC, { VEC },                     1,  0, .flags = 0 },
    { "start",                          SCA, { NON },                     0,  0, .flags = EXP },
    { "start_timestamp",                VEC, { VEC },                     1,  0, .flags = EXP },
    { "stddev_over_time",               VEC, { MAT },                     1,  0, .flags = 0 },
    { "stdvar_over_time",               VEC, { MAT },                     1,  0, .flags = 0 },
    { "step",                           SCA, { NON },                     0,  0, .flags = EXP },
    { "sum_over_time",                  VEC, { MAT },                     1,  0, .flags = 0 },
    { "tan",                            VEC, { VEC },                     1,  0, .flags = 0 },
    { "tanh",                           VEC, { VEC },                     1,  0, .flags = 0 },
    { "time",                           SCA, { NON },                     0,  0, .flags = 0 },
    { "timestamp",                      VEC, { VEC },                     1,  0, .flags = 0 },
    { "ts_of_first_over_time",          VEC, { MAT },                     1,  0, .flags = EXP },
    { "ts_of_last_over_time",           VEC, { MAT },                     1,  0, .flags = EXP },
    { "ts_of_max_over_time",            VEC, { MAT },                     1,  0, .flags = EXP },
    { "ts_of_min_over_time",            VEC, { MAT },                     1,  0, .flags = EXP },
    { "vector",                         VEC, { SCA },                     1,  0, .flags = 0 },
    { "year",                           VEC, { VEC },                     0,  0, .flags = 0 },
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
