/* points.c - see points.h. */
#include "promql/points.h"

#include <string.h>

#include "promql/fn.h"

// clang-format off
static const struct points_use rows[] = {
    /* function              what is read   needs  grows  mean   kernel */
    { "absent_over_time",    READ_VALUE,    1,     false, false, NULL },
    { "avg_over_time",       READ_SUM,      1,     false, true,  slide_sum_over_time },
    { "count_over_time",     READ_COUNT,    1,     true,  false, slide_sum_over_time },
    { "delta",               READ_CHANGE,   2,     true,  false, NULL },
    { "deriv",               READ_SHAPE,    2,     false, false, NULL },
    { "double_exponential_smoothing", READ_SHAPE, 2, false, false, NULL },
    { "idelta",              READ_SHAPE,    2,     false, false, NULL },
    { "increase",            READ_COUNTER,  2,     true,  false, NULL },
    { "irate",               READ_SHAPE,    2,     false, false, NULL },
    { "last_over_time",      READ_VALUE,    1,     false, false, NULL },
    { "max_over_time",       READ_MAX,      1,     false, false, NULL },
    { "min_over_time",       READ_MIN,      1,     false, false, NULL },
    { "predict_linear",      READ_SHAPE,    2,     false, false, NULL },
    { "present_over_time",   READ_VALUE,    1,     false, false, NULL },
    { "rate",                READ_COUNTER,  2,     false, false, NULL },
    { "resets",              READ_FALLS,    1,     false, false, NULL },
    { "sum_over_time",       READ_SUM,      1,     true,  false, NULL },
};
static const struct points_use other = { "", READ_SHAPE, 1, false, false, NULL };
// clang-format on

const struct points_use *points_use_of(const struct pql_func *f)
{
    for (size_t i = 0; i < NX_COUNT(rows); i++)
        if (strcmp(rows[i].function, f->name) == 0)
            return &rows[i];
    return &other;
}

struct read_hint points_hint(enum read_use use, const struct eval_times *tm, const int64_t *pin,
                             int64_t offset_ms, int64_t range_ms)
{
    return (struct read_hint){.use = use,
                              .first_ms = (pin ? *pin : tm->start) - offset_ms,
                              .step_ms = pin || tm->n < 2 ? 0 : tm->step,
                              .range_ms = range_ms};
}

nx_status points_read(struct eval *ev, const struct series *s, const struct read_hint *h,
                      int64_t mint, int64_t maxt, size_t most, struct nx_err *err)
{
    const struct querier_ops *ops = ev->querier->ops;
    struct column *c = &ev->col;
    struct nx_err why;
    nx_status st;

    c->share = ev->share;
    c->most = most;
    c->over = false;
    c->resolution_ms = 0;
    if (h && ops->read_for)
        st = ops->read_for(ev->querier, s, h, mint, maxt, c, &why);
    else
        st = ops->read(ev->querier, s, mint, maxt, c, &why);
    if (!st || c->over)
        return st;
    nx_fail(err, st, "%s", why.text);
    if (st == NX_LIMIT || st == NX_OVERLOADED || st == NX_CANCELED || st == NX_TIMEOUT)
        return eval_no_memory(ev, st, err);
    return st ? nx_context(err, "expanding series") : NX_OK;
}
