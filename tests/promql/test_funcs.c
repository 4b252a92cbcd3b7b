/* test_funcs.c - the table of functions keeps its rules. */
#include "tests/support/test.h"

#include "promql/funcs.h"

static void rows_are_sorted_and_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < pql_n_funcs; i++) {
        if (i && strcmp(pql_funcs[i - 1].name, pql_funcs[i].name) >= 0)
            fail_msg("%s stands before %s", pql_funcs[i - 1].name, pql_funcs[i].name);
        assert_ptr_equal(pql_func_find(STR(pql_funcs[i].name)), &pql_funcs[i]);
    }
    assert_null(pql_func_find(STR("")));
    assert_null(pql_func_find(STR("ab")));
    assert_null(pql_func_find(STR("absen")));
    assert_null(pql_func_find(STR("zzz")));
    assert_null(pql_func_find(LIT("abs\0")));
}

/* One kernel each, of the kind that its arguments and its result ask for. */
static void each_has_the_kernel_of_its_kind(void **state)
{
    (void)state;
    for (size_t i = 0; i < pql_n_funcs; i++) {
        const struct pql_func *f = &pql_funcs[i];
        size_t n_args = 0, n_ranges = 0;
        int kernels =
            (f->map != NULL) + (f->window != NULL) + (f->slide != NULL) + (f->call != NULL);

        while (n_args < PQL_MAX_ARGS && f->args[n_args] != PQL_NONE)
            n_ranges += f->args[n_args++] == PQL_MATRIX;
        if (kernels != 1)
            fail_msg("%s has %d kernels", f->name, kernels);
        if ((f->window || f->slide) != (n_ranges == 1 && !f->call))
            fail_msg("%s: its kernel is not for its arguments", f->name);
        if (f->map && (f->args[0] != PQL_VECTOR || f->result != PQL_VECTOR))
            fail_msg("%s maps what is no vector", f->name);
        if (f->result == PQL_SCALAR && !f->call)
            fail_msg("%s gives a scalar by way of rows", f->name);
        if (f->min_args > n_args + 1 || (f->max_args && f->max_args < n_args))
            fail_msg("%s: %u to %u of %zu arguments", f->name, f->min_args, f->max_args, n_args);
    }
}

static void every_function_of_the_language_is_there(void **state)
{
    static const char *const names[] = {"abs",
                                        "absent",
                                        "absent_over_time",
                                        "acos",
                                        "acosh",
                                        "asin",
                                        "asinh",
                                        "atan",
                                        "atanh",
                                        "avg_over_time",
                                        "ceil",
                                        "changes",
                                        "clamp",
                                        "clamp_max",
                                        "clamp_min",
                                        "cos",
                                        "cosh",
                                        "count_over_time",
                                        "day_of_month",
                                        "day_of_week",
                                        "day_of_year",
                                        "days_in_month",
                                        "deg",
                                        "delta",
                                        "deriv",
                                        "double_exponential_smoothing",
                                        "end",
                                        "exp",
                                        "first_over_time",
                                        "floor",
                                        "histogram_avg",
                                        "histogram_count",
                                        "histogram_fraction",
                                        "histogram_quantile",
                                        "histogram_quantiles",
                                        "histogram_stddev",
                                        "histogram_stdvar",
                                        "histogram_sum",
                                        "hour",
                                        "idelta",
                                        "increase",
                                        "info",
                                        "irate",
                                        "label_join",
                                        "label_replace",
                                        "last_over_time",
                                        "ln",
                                        "log10",
                                        "log2",
                                        "mad_over_time",
                                        "max_of",
                                        "max_over_time",
                                        "min_of",
                                        "min_over_time",
                                        "minute",
                                        "month",
                                        "pi",
                                        "predict_linear",
                                        "present_over_time",
                                        "quantile_over_time",
                                        "rad",
                                        "range",
                                        "rate",
                                        "resets",
                                        "round",
                                        "scalar",
                                        "sgn",
                                        "sin",
                                        "sinh",
                                        "sort",
                                        "sort_by_label",
                                        "sort_by_label_desc",
                                        "sort_desc",
                                        "sqrt",
                                        "start",
                                        "start_timestamp",
                                        "stddev_over_time",
                                        "stdvar_over_time",
                                        "step",
                                        "sum_over_time",
                                        "tan",
                                        "tanh",
                                        "time",
                                        "timestamp",
                                        "ts_of_first_over_time",
                                        "ts_of_last_over_time",
                                        "ts_of_max_over_time",
                                        "ts_of_min_over_time",
                                        "vector",
                                        "year"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(names); i++)
        if (!pql_func_find(STR(names[i])))
            fail_msg("there is no %s", names[i]);
    assert_int_equal(pql_n_funcs, NX_COUNT(names));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_sorted_and_found),
        cmocka_unit_test(each_has_the_kernel_of_its_kind),
        cmocka_unit_test(every_function_of_the_language_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
