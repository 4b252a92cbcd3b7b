/* fn_line.c - lines laid through the samples of a range: deriv, predict_linear.
 *
 * WHY    A window of an hour has hundreds of samples and there is a window at each step: four sums with
 *        compensation over each of them made these the slowest functions of all. Samples of a target
 *        come at even gaps, so neighbouring windows look alike but for their values.
 * SHAPE  A window with even gaps is told by the number of its samples, their gap, and how far the first is
 *        from the time of evaluation: `even` keeps the x of such a window and the sums that x alone
 *        decides. What is left is the sum of x * y, for four windows at a time, and that of y.
 * RULES  L1  Bits are those of Prometheus's sums over each window afresh, in the order of the samples.
 *        L2  The sum of y comes from prefix sums only where these are exact (fn_window.c, W3).
 *        L3  A window with uneven gaps is worked alone. */
#include "promql/fn.h"

#include <math.h>

#include "promql/lanes.h"

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

/* Four windows of e->n samples; `prefix` NULL: y is summed, too. */
static void four_lines(const struct even *e, const double *const v[LANES],
                       const double *const prefix[LANES], struct line out[LANES])
{
    lanes y[2] = {{0, 0}, {0, 0}}, cy[2] = {{0, 0}, {0, 0}};
    lanes xy[2] = {{0, 0}, {0, 0}}, cxy[2] = {{0, 0}, {0, 0}};
    const lanes first[2] = {{v[0][0], v[1][0]}, {v[2][0], v[3][0]}};
    lane_mask differ[2] = {{0, 0}, {0, 0}};

    for (size_t i = 0; i < e->n; i++) {
        const lanes vy[2] = {{v[0][i], v[1][i]}, {v[2][i], v[3][i]}};
        const lanes x = {e->x[i], e->x[i]}, product[2] = {x * vy[0], x * vy[1]};

        differ[0] |= vy[0] != first[0];
        differ[1] |= vy[1] != first[1];
        if (!prefix)
            kahan_lanes(vy, y, cy);
        kahan_lanes(product, xy, cxy);
    }
    for (int l = 0; l < LANES; l++) {
        struct line_sums s = e->s;

        s.y = prefix ? prefix[l][e->n] - prefix[l][0] : y[l / 2][l % 2];
        s.cy = prefix ? 0 : cy[l / 2][l % 2];
        s.xy = xy[l / 2][l % 2];
        s.cxy = cxy[l / 2][l % 2];
        out[l] = differ[l / 2][l % 2] ? line_of(&s, (double)e->n) : level_line(v[l][0]);
    }
}

/* ---- the functions ------------------------------------------------------------------------------ */

struct line_run {
    const struct pql_slide *s;
    bool from_first; /* intercepts are at the first sample of the window, not at the step */
    const double *prefix;
    struct even even;
    size_t seen, uneven; /* gaps were looked at up to `seen`; the last that is not the one before */
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

/* The windows at k and the three steps after it, if they look alike. */
static bool try_four(struct line_run *r, uint32_t k, struct line out[LANES])
{
    const struct pql_slide *s = r->s;
    const double *v[LANES], *prefix[LANES];
    uint32_t n = s->hi[k] - s->lo[k];

    if (k + LANES > s->tm->n || n < 8 || !gaps_even(r, s->lo[k], s->hi[k + LANES - 1]))
        return false;
    if (!even_is(&r->even, s->t + s->lo[k], n, line_at_ms(r, k)))
        even_make(&r->even, s->t + s->lo[k], n, line_at_ms(r, k));
    for (uint32_t i = 0; i < LANES; i++) {
        uint32_t lo = s->lo[k + i];
        if (s->hi[k + i] - lo != n || !even_is(&r->even, s->t + lo, n, line_at_ms(r, k + i)))
            return false;
        v[i] = s->v + lo;
        prefix[i] = r->prefix ? r->prefix + lo : NULL;
    }
    four_lines(&r->even, v, r->prefix ? prefix : NULL, out);
    return true;
}

static void slide_lines(const struct pql_slide *s, double *out, uint8_t *has, bool predict)
{
    struct line_run r = {.s = s, .from_first = !predict, .even.x = s->scratch + s->n + 1};
    struct line l[LANES];

    r.prefix = window_exact_prefixes(s, s->scratch) ? s->scratch : NULL; /* L2 */
    for (uint32_t k = 0, done = 1; k < s->tm->n; k += done) {
        uint32_t lo = s->lo[k], n = s->hi[k] - lo;

        done = n >= 2 && try_four(&r, k, l) ? LANES : 1;
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
