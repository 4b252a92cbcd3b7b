/* fn_math.c - functions of one value: mathematics and dates. */
#include "promql/fn.h"

#include <math.h>
#include <string.h>

#define PI 3.141592653589793238462643383279502884

/* As Go's math.Min and math.Max: an infinity wins, then a NaN. */
static double go_min(double a, double b)
{
    if (a == -INFINITY || b == -INFINITY)
        return -INFINITY;
    if (isnan(a) || isnan(b))
        return (double)NAN;
    if (a == 0 && a == b)
        return signbit(a) ? a : b;
    return a < b ? a : b;
}

static double go_max(double a, double b)
{
    if (a == INFINITY || b == INFINITY)
        return INFINITY;
    if (isnan(a) || isnan(b))
        return (double)NAN;
    if (a == 0 && a == b)
        return signbit(a) ? b : a;
    return a > b ? a : b;
}

#define PLAIN(name, expr)                                                                          \
    double map_##name(double v, const double *args)                                                \
    {                                                                                              \
        (void)args;                                                                                \
        return expr;                                                                               \
    }
PLAIN(abs, fabs(v))
PLAIN(acos, acos(v))
PLAIN(acosh, acosh(v))
PLAIN(asin, asin(v))
PLAIN(asinh, asinh(v))
PLAIN(atan, atan(v))
PLAIN(atanh, atanh(v))
PLAIN(ceil, ceil(v))
PLAIN(cos, cos(v))
PLAIN(cosh, cosh(v))
PLAIN(deg, v * 180 / PI)
PLAIN(exp, exp(v))
PLAIN(floor, floor(v))
PLAIN(ln, log(v))
PLAIN(log10, log10(v))
PLAIN(log2, log2(v))
PLAIN(rad, v *PI / 180)
PLAIN(sgn, v<0 ? -1 : v> 0 ? 1 : v)
PLAIN(sin, sin(v))
PLAIN(sinh, sinh(v))
PLAIN(sqrt, sqrt(v))
PLAIN(tan, tan(v))
PLAIN(tanh, tanh(v))

double map_clamp_max(double v, const double *args)
{
    return go_max(-INFINITY, go_min(args[0], v));
}

double map_clamp_min(double v, const double *args)
{
    return go_max(args[0], go_min(INFINITY, v));
}

double map_round(double v, const double *args)
{
    double inverse = 1.0 / args[0];

    return floor(v * inverse + 0.5) / inverse;
}

/* ---- dates ------------------------------------------------------------------------------------ */

/* Go counts from a year so long ago that every int64 of seconds is after it, and which starts a cycle
 * of 400 years. Arithmetic wraps, so that even senseless times give its numbers. */
#define ABSOLUTE_YEAR    (-292277022399ll)
#define UNIX_TO_ABSOLUTE 9223372028715321600ull

struct date {
    int64_t year;
    unsigned month, day, yday, wday; /* month and day from 1, the others from 0 */
    uint64_t seconds;                /* of the day */
    bool leap;
};

static unsigned month_days(unsigned month, bool leap)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[month - 1] + (month == 2 && leap ? 1u : 0u);
}

static struct date date_of(double v)
{
    bool fits = v >= -9223372036854775808.0 && v < 9223372036854775808.0;
    int64_t unix_s = fits ? (int64_t)v : INT64_MIN;
    uint64_t at = (uint64_t)unix_s + UNIX_TO_ABSOLUTE, days = at / 86400, rest = days % 146097;
    uint64_t centuries = rest / 36524, fours, years;
    struct date d = {.seconds = at % 86400, .wday = (unsigned)((days + 1) % 7), .month = 1};

    centuries -= centuries >> 2; /* the last day of the cycle belongs to its fourth century */
    rest -= centuries * 36524;
    fours = rest / 1461;
    rest -= fours * 1461;
    years = rest / 365;
    years -= years >> 2;
    rest -= years * 365;
    d.year = (int64_t)(days / 146097 * 400 + centuries * 100 + fours * 4 + years) + ABSOLUTE_YEAR;
    d.leap = d.year % 4 == 0 && (d.year % 100 != 0 || d.year % 400 == 0);
    d.yday = (unsigned)rest;
    while (rest >= month_days(d.month, d.leap))
        rest -= month_days(d.month++, d.leap);
    d.day = (unsigned)rest + 1;
    return d;
}

#define DATE(name, expr)                                                                           \
    double map_##name(double v, const double *args)                                                \
    {                                                                                              \
        struct date d = date_of(v);                                                                \
                                                                                                   \
        (void)args;                                                                                \
        return (double)(expr);                                                                     \
    }
DATE(day_of_month, d.day)
DATE(day_of_week, d.wday)
DATE(day_of_year, d.yday + 1)
DATE(days_in_month, month_days(d.month, d.leap))
DATE(hour, d.seconds / 3600)
DATE(minute, d.seconds % 3600 / 60)
DATE(month, d.month)
DATE(year, d.year)

/* ---- clamp: no points where the bounds are crossed ---------------------------------------------- */

struct clamp {
    double *min, *max;
    struct annots told; /* by both */
};

static nx_status clamp_pull(struct eval *ev, struct rows *r, size_t i, struct row *into,
                            struct nx_err *err)
{
    const struct clamp *c = r->ctx;
    nx_status st = rows_pull(ev, r->child, i, into, err);

    if (st)
        return st;
    into->points = 0;
    for (uint32_t k = 0; k < r->tm->n; k++) {
        into->has[k] = into->has[k] & !(c->max[k] < c->min[k]);
        into->v[k] = go_max(c->min[k], go_min(c->max[k], into->v[k]));
        into->points += into->has[k];
    }
    eval_told_behind(ev, r, i, &c->told);
    return NX_OK;
}

nx_status fn_clamp(struct pql_call *c, struct nx_err *err)
{
    struct clamp *ctx = arena_zalloc(c->ev->work, sizeof *ctx);
    struct rows *child;
    nx_status st;

    if (!ctx)
        return eval_nomem(c->ev, c->ev->work, err);
    st = eval_rows(c->ev, c->e->call.args[0], c->tm, &child, err);
    if (!st)
        st = eval_scalar_behind(c->ev, c->e->call.args[1], c->tm, &ctx->min, &ctx->told, err);
    if (!st)
        st = eval_scalar_behind(c->ev, c->e->call.args[2], c->tm, &ctx->max, &ctx->told, err);
    if (!st)
        st = rows_over(c->ev, child, clamp_pull, ctx, &c->rows, err);
    return st ? st : rows_drop_names(c->ev, c->rows, false, err);
}

/* ---- scalars ---------------------------------------------------------------------------------- */

static nx_status constant(struct pql_call *c, double v)
{
    for (uint32_t k = 0; k < c->tm->n; k++)
        c->scalar[k] = v;
    return NX_OK;
}

nx_status fn_pi(struct pql_call *c, struct nx_err *err)
{
    (void)err;
    return constant(c, PI);
}

nx_status fn_start(struct pql_call *c, struct nx_err *err)
{
    (void)err;
    return constant(c, (double)c->ev->q_start_ms / 1000);
}

nx_status fn_end(struct pql_call *c, struct nx_err *err)
{
    (void)err;
    return constant(c, (double)c->ev->q_end_ms / 1000);
}

nx_status fn_range(struct pql_call *c, struct nx_err *err)
{
    (void)err;
    return constant(c, (double)(c->ev->q_end_ms - c->ev->q_start_ms) / 1000);
}

nx_status fn_step(struct pql_call *c, struct nx_err *err)
{
    (void)err;
    return constant(c, c->ev->q_start_ms == c->ev->q_end_ms ? 0 : (double)c->ev->q_step_ms / 1000);
}

nx_status fn_time(struct pql_call *c, struct nx_err *err)
{
    (void)err;
    for (uint32_t k = 0; k < c->tm->n; k++)
        c->scalar[k] = (double)eval_time(c->tm, k) / 1000;
    return NX_OK;
}

static nx_status pick_of(struct pql_call *c, double (*pick)(double, double), struct nx_err *err)
{
    double *a, *b;
    nx_status st = eval_scalar(c->ev, c->e->call.args[0], c->tm, &a, err);

    if (!st)
        st = eval_scalar(c->ev, c->e->call.args[1], c->tm, &b, err);
    for (uint32_t k = 0; k < c->tm->n && !st; k++)
        c->scalar[k] = pick(a[k], b[k]);
    return st;
}

nx_status fn_max_of(struct pql_call *c, struct nx_err *err)
{
    return pick_of(c, go_max, err);
}

nx_status fn_min_of(struct pql_call *c, struct nx_err *err)
{
    return pick_of(c, go_min, err);
}
