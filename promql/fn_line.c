/* fn_line.c - lines laid through the samples of a range: deriv, predict_linear.
 *
 * WHY    A window of an hour has hundreds of samples and there is a window at each step: four sums with
 *        compensation over each of them made these the slowest functions of all. Samples of a target
 *        come at even gaps, so neighbouring windows look alike but for their values.
 * SHAPE  A window with even gaps is told by the number of its samples, their gap, and how far the first is
 *        from the time of evaluation: `even` keeps the x of such a window and the sums that x alone
 *        decides. What is left is the sum of x * y, for eight windows at a time (sums.h), and that of y.
 * RULES  L1  Bits are those of Prometheus's sums over each window afresh, in the order of the samples.
 *        L2  The sum of y comes from prefix sums only where these are exact (fn_window.c, W3).
 *        L3  A window with uneven gaps is worked alone. */
#include "promql/fn.h"

#include <math.h>

#include "promql/sums.h"

struct line {
    double slope, intercept;
};

struct line_sums {
    double x, cx, y, cy, xy, cxy, xx, cxx;
};

static double line_x(int64_t t, int64_t at)
{
    return (double)(t - at) / 1e3;
}

/* All values are `first`: there is nothing to compute, and nothing to round. */
static struct line level_line(double first)
{
    return isinf(first) ? (struct line){(double)NAN, (double)NAN} : (struct line){0, first};
}

static struct line line_of(const struct line_sums *s, double n)
{
    double x = s->x + s->cx, y = s->y + s->cy, xy = s->xy + s->cxy, xx = s->xx + s->cxx;
    struct line l = {.slope = (xy - x * y / n) / (xx - x * x / n)};

    l.intercept = y / n - l.slope * x / n;
    return l;
}

/* Least squares; the intercept is at `at`. */
static struct line line_alone(const int64_t *t, const double *v, size_t n, int64_t at)
{
    struct line_sums s = {0};
    bool level = true;

    for (size_t i = 0; i < n; i++) {
        double x = line_x(t[i], at), y = v[i];

        level = level && (i == 0 || y == v[0]);
        kahan_add(x, &s.x, &s.cx);
        kahan_add(y, &s.y, &s.cy);
        kahan_add(x * y, &s.xy, &s.cxy);
        kahan_add(x * x, &s.xx, &s.cxx);
    }
    return level ? level_line(v[0]) : line_of(&s, (double)n);
}

/* ---- windows with even gaps --------------------------------------------------------------------- */

struct even {
    size_t n;
    int64_t gap, first; /* first: of the first sample, after `at` */
    struct line_sums s; /* of x and xx */
    double *x;
};

static void even_make(struct even *e, const int64_t *t, size_t n, int64_t at)
{
    *e = (struct even){.n = n, .gap = t[1] - t[0], .first = t[0] - at, .x = e->x};
    for (size_t i = 0; i < n; i++) {
        e->x[i] = line_x(t[i], at);
        kahan_add(e->x[i], &e->s.x, &e->s.cx);
        kahan_add(e->x[i] * e->x[i], &e->s.xx, &e->s.cxx);
    }
}

static bool even_is(const struct even *e, const int64_t *t, size_t n, int64_t at)
{
    return n == e->n && t[1] - t[0] == e->gap && t[0] - at == e->first;
}

/* ---- the functions ------------------------------------------------------------------------------ */

struct line_run {
    const struct pql_slide *s;
    bool from_first; /* intercepts are at the first sample of the window, not at the step */
    const double *prefix;
    struct even even;
    struct sums_layout layout;
    size_t seen, uneven; /* gaps were looked at up to `seen`; the last that is not the one before */
    size_t level_end;    /* values from the first of the last window on are alike up to there */
};

static int64_t line_at_ms(const struct line_run *r, uint32_t k)
{
    return r->from_first ? r->s->t[r->s->lo[k]] : eval_time(r->s->tm, k);
}

/* Are all gaps in [lo, hi) alike? `hi` never goes back. */
static bool gaps_even(struct line_run *r, size_t lo, size_t hi)
{
    const int64_t *t = r->s->t;

    for (; r->seen < hi; r->seen++) {
        size_t j = r->seen;
        if (j >= 2 && t[j] - t[j - 1] != t[j - 1] - t[j - 2])
            r->uneven = j;
    }
    return r->uneven <= lo + 1;
}

/* Are all values in [lo, hi) alike? `lo` never goes back. */
static bool is_level(struct line_run *r, size_t lo, size_t hi)
{
    const struct pql_slide *s = r->s;

    if (r->level_end <= lo)
        for (r->level_end = lo + 1; r->level_end < s->n && s->v[r->level_end] == s->v[lo];)
            r->level_end++;
    return hi <= r->level_end;
}

/* Eight windows of e->n samples at k; false where they are not alike. */
static bool try_eight(struct line_run *r, uint32_t k, struct line out[SUMS_WIDE])
{
    const struct pql_slide *s = r->s;
    struct even *e = &r->even;
    struct sums y, xy;
    uint32_t stride, n = windows_alike(s, k, &stride), lo = s->lo[k];

    if (n < 8 || !gaps_even(r, lo, s->hi[k + SUMS_WIDE - 1]))
        return false;
    if (!even_is(e, s->t + lo, n, line_at_ms(r, k)))
        even_make(e, s->t + lo, n, line_at_ms(r, k));
    for (uint32_t i = 1; i < SUMS_WIDE; i++)
        if (!even_is(e, s->t + lo + i * stride, n, line_at_ms(r, k + i)))
            return false;
    if (!r->layout.v)
        sums_lay_out(&r->layout, s->v, s->n, stride, s->scratch + 2 * s->n + 2);
    if (r->layout.stride != stride)
        return false;
    sums_of(&r->layout, lo, n, e->x, &xy);
    if (!r->prefix)
        sums_of(&r->layout, lo, n, NULL, &y);
    for (uint32_t i = 0; i < SUMS_WIDE; i++, lo += stride) {
        struct line_sums all = e->s;

        all.xy = xy.sum[i];
        all.cxy = xy.c[i];
        all.y = r->prefix ? r->prefix[lo + n] - r->prefix[lo] : y.sum[i];
        all.cy = r->prefix ? 0 : y.c[i];
        if (is_level(r, lo, lo + n))
            out[i] = level_line(s->v[lo]);
        else if (!sums_hold(&xy, (int)i) || (!r->prefix && !sums_hold(&y, (int)i)))
            out[i] = line_alone(s->t + lo, s->v + lo, n, line_at_ms(r, k + i));
        else
            out[i] = line_of(&all, (double)n);
    }
    return true;
}

static void slide_lines(const struct pql_slide *s, double *out, uint8_t *has, bool predict)
{
    struct line_run r = {.s = s, .from_first = !predict, .even.x = s->scratch + s->n + 1};
    struct line l[SUMS_WIDE];

    r.prefix = window_exact_prefixes(s, s->scratch) ? s->scratch : NULL; /* L2 */
    for (uint32_t k = 0, done = 1; k < s->tm->n; k += done) {
        uint32_t lo = s->lo[k], n = s->hi[k] - lo;

        if (slide_stops(s, n))
            return;
        done = n >= 2 && try_eight(&r, k, l) ? SUMS_WIDE : 1;
        if (done == 1 && n >= 2)
            l[0] = line_alone(s->t + lo, s->v + lo, n, line_at_ms(&r, k)); /* L3 */
        for (uint32_t i = 0; i < done; i++) {
            has[k + i] = n >= 2;
            out[k + i] = n < 2     ? 0
                         : predict ? l[i].slope * s->arg[0][k + i] + l[i].intercept
                                   : l[i].slope;
        }
    }
}

void slide_deriv(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_lines(s, out, has, false);
}

void slide_predict_linear(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_lines(s, out, has, true);
}
