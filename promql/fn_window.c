/* fn_window.c - functions of the samples in a range.
 *
 * WHY   Windows of neighbouring steps overlap: where the next result can be had from the last, work is
 *       by sample and not by window. It must give the same bits as going over each window afresh.
 * RULES W2  min and max keep a deque of candidates.
 *       W3  sum and avg use prefix sums only where these are exact (whole numbers below 2^53);
 *           otherwise each window is summed with compensation, as Prometheus does.
 *       W4  Where one operation waits for the last, several windows are worked side by side (sums.h). */
#include "promql/fn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "promql/sums.h"
#include "src/base/num.h"

static double seconds(int64_t ms)
{
    return (double)ms / 1000;
}

/* ---- counts ------------------------------------------------------------------------------------- */

void slide_count_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    for (uint32_t k = 0; k < s->tm->n; k++) {
        out[k] = s->hi[k] - s->lo[k];
        has[k] = s->hi[k] > s->lo[k];
    }
}

void slide_present_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    for (uint32_t k = 0; k < s->tm->n; k++) {
        out[k] = 1;
        has[k] = s->hi[k] > s->lo[k];
    }
}

void slide_first_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    for (uint32_t k = 0; k < s->tm->n; k++) {
        has[k] = s->hi[k] > s->lo[k];
        out[k] = has[k] ? s->v[s->lo[k]] : 0;
    }
}

void slide_last_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    for (uint32_t k = 0; k < s->tm->n; k++) {
        has[k] = s->hi[k] > s->lo[k];
        out[k] = has[k] ? s->v[s->hi[k] - 1] : 0;
    }
}

static bool is_reset(double prev, double v)
{
    return v < prev;
}

static bool is_change(double prev, double v)
{
    return v != prev && !(isnan(v) && isnan(prev));
}

static void slide_events(const struct pql_slide *s, double *out, uint8_t *has,
                         bool (*event)(double, double))
{
    uint32_t *before = (uint32_t *)(void *)s->scratch; /* events up to each sample */
    uint32_t count = 0;

    for (size_t j = 0; j < s->n; j++) {
        count += j > 0 && event(s->v[j - 1], s->v[j]);
        before[j] = count;
    }
    for (uint32_t k = 0; k < s->tm->n; k++) {
        uint32_t lo = s->lo[k], hi = s->hi[k];

        if (s->anchored) { /* from the newest sample not in the range, which must have one */
            int64_t start = s->end[k] - s->range_ms;

            if (slide_stops(s, hi - lo))
                return;
            while (lo + 1 < hi && s->t[lo + 1] <= start)
                lo++;
            if (lo + 1 == hi && s->t[lo] <= start)
                hi = lo;
        }
        has[k] = hi > lo;
        out[k] = has[k] ? before[hi - 1] - before[lo] : 0;
    }
}

void slide_resets(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_events(s, out, has, is_reset);
}

void slide_changes(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_events(s, out, has, is_change);
}

/* ---- sum and avg -------------------------------------------------------------------------------- */

/* W3 */
bool window_exact_prefixes(const struct pql_slide *s, double *prefix)
{
    const double limit = 9007199254740992.0;
    double sum = 0, all = 0;

    for (size_t j = 0; j < s->n; j++) {
        double v = s->v[j];

        if (!(fabs(v) < limit) || v != trunc(v) || (v == 0 && signbit(v)))
            return false;
        prefix[j] = sum;
        sum += v;
        all += fabs(v);
        if (all >= limit)
            return false;
    }
    prefix[s->n] = sum;
    return true;
}

static double window_sum(const double *v, size_t n)
{
    double sum = 0, c = 0;

    if (sums_alone(v, n, &sum, &c))
        return sum + c;
    sum = c = 0;
    for (size_t i = 0; i < n; i++)
        kahan_add(v[i], &sum, &c);
    return isinf(sum) ? sum : sum + c;
}

static double window_avg(const double *v, size_t n)
{
    double sum, c, count = 1;
    bool incremental = false;

    if (sums_alone(v, n, &sum, &c) && sum != 0) /* else a zero's sign depends on the first */
        return sum / (double)n + c / (double)n;
    sum = v[0];
    c = 0;
    for (size_t i = 1; i < n; i++) {
        count = (double)(i + 1);
        if (!incremental) {
            double new_sum = sum, new_c = c;

            kahan_add(v[i], &new_sum, &new_c);
            if (!isinf(new_sum)) {
                sum = new_sum;
                c = new_c;
                continue;
            }
            incremental = true; /* from here on `sum` is the mean */
            sum /= count - 1;
            c /= count - 1;
        }
        double q = (count - 1) / count;
        sum *= q;
        c *= q;
        kahan_add(v[i] / count, &sum, &c);
    }
    return incremental ? sum + c : sum / count + c / count;
}

/* Where the windows of eight steps begin a stride apart and are equally long: their length, else 0. */
uint32_t windows_alike(const struct pql_slide *s, uint32_t k, uint32_t *stride)
{
    uint32_t lo = s->lo[k], n = s->hi[k] - lo;

    if (k + SUMS_WIDE > s->tm->n)
        return 0;
    *stride = s->lo[k + 1] - lo;
    for (uint32_t i = 1; i < SUMS_WIDE; i++)
        if (s->lo[k + i] != lo + i * *stride || s->hi[k + i] - s->lo[k + i] != n)
            return 0;
    return *stride ? n : 0;
}

struct sum_run {
    const struct pql_slide *s;
    bool avg;
    struct sums_layout layout;
    unsigned misses; /* blocks of another stride, one after the other */
};

/* A layout is worth it where windows share samples; another one, where the stride has changed for good. */
static bool lay_out(struct sum_run *r, uint32_t stride)
{
    struct sums_layout *l = &r->layout;

    if (l->v && l->stride == stride) {
        r->misses = 0;
        return true;
    }
    if (l->v && ++r->misses < 8)
        return false;
    sums_lay_out(l, r->s->v, r->s->n, stride, r->s->scratch + r->s->n + 1);
    r->misses = 0;
    return true;
}

/* Four additions and more of eight windows each, side by side (W4). */
static bool sum_eight(struct sum_run *r, uint32_t k, double *out)
{
    const struct pql_slide *s = r->s;
    const double *v[SUMS_WIDE];
    uint32_t stride, n = windows_alike(s, k, &stride);
    struct sums x;

    if (k + SUMS_WIDE > s->tm->n)
        return false;
    for (uint32_t i = 0; i < SUMS_WIDE; i++)
        v[i] = s->v + s->lo[k + i];
    if (n >= 4 && lay_out(r, stride)) {
        sums_of(&r->layout, s->lo[k], n, NULL, &x);
    } else {
        n = UINT32_MAX;
        for (uint32_t i = 0; i < SUMS_WIDE; i++)
            n = s->hi[k + i] - s->lo[k + i] < n ? s->hi[k + i] - s->lo[k + i] : n;
        if (n < 4)
            return false;
        sums_apart(v, n, &x);
    }
    for (uint32_t i = 0; i < SUMS_WIDE; i++) {
        const uint32_t all = s->hi[k + i] - s->lo[k + i];

        sums_go_on(&x.sum[i], &x.c[i], v[i] + n, all - n);
        if (!sums_hold(&x, (int)i) || (r->avg && x.sum[i] == 0))
            out[i] = r->avg ? window_avg(v[i], all) : window_sum(v[i], all);
        else
            out[i] = r->avg ? x.sum[i] / all + x.c[i] / all : x.sum[i] + x.c[i];
    }
    return true;
}

static void slide_sums(const struct pql_slide *s, double *out, uint8_t *has, bool avg)
{
    double *prefix = s->scratch;
    bool exact = window_exact_prefixes(s, prefix);
    struct sum_run run = {.s = s, .avg = avg};

    for (uint32_t k = 0; k < s->tm->n; k++) {
        uint32_t lo = s->lo[k], n = s->hi[k] - lo;

        has[k] = n > 0;
        out[k] = 0;
        if (!n)
            continue;
        if (!exact && slide_stops(s, n))
            return;
        if (exact) {
            out[k] = avg ? (prefix[lo + n] - prefix[lo]) / n : prefix[lo + n] - prefix[lo];
        } else if (k && s->lo[k - 1] == lo && s->hi[k - 1] == lo + n) {
            out[k] = out[k - 1];
        } else if (sum_eight(&run, k, out + k)) {
            memset(has + k, 1, SUMS_WIDE);
            k += SUMS_WIDE - 1;
        } else {
            out[k] = avg ? window_avg(s->v + lo, n) : window_sum(s->v + lo, n);
        }
    }
}

void slide_sum_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_sums(s, out, has, false);
}

void slide_avg_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_sums(s, out, has, true);
}

/* ---- min and max --------------------------------------------------------------------------------- */

/* With `times`, the time in seconds of the newest sample that has the value, else the value. */
static void slide_extreme(const struct pql_slide *s, double *out, uint8_t *has, bool max,
                          bool times)
{
    uint32_t *deque = (uint32_t *)(void *)s->scratch; /* best first; NaNs are not in it */
    size_t head = 0, tail = 0;
    uint32_t next = 0;

    for (uint32_t k = 0; k < s->tm->n; k++) {
        uint32_t lo = s->lo[k], hi = s->hi[k], best;

        for (; next < hi; next++) {
            double v = s->v[next];

            if (isnan(v))
                continue;
            while (tail > head && ((max ? s->v[deque[tail - 1]] < v : s->v[deque[tail - 1]] > v) ||
                                   (times && s->v[deque[tail - 1]] == v)))
                tail--;
            deque[tail++] = next;
        }
        while (head < tail && deque[head] < lo)
            head++;
        has[k] = hi > lo;
        out[k] = 0;
        if (!has[k])
            continue;
        best = head < tail ? deque[head] : hi - 1;
        out[k] = times ? seconds(s->t[best]) : s->v[best];
    }
}

void slide_max_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_extreme(s, out, has, true, false);
}

void slide_min_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_extreme(s, out, has, false, false);
}

void slide_ts_of_max_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_extreme(s, out, has, true, true);
}

void slide_ts_of_min_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_extreme(s, out, has, false, true);
}

void slide_ts_of_first_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    for (uint32_t k = 0; k < s->tm->n; k++) {
        has[k] = s->hi[k] > s->lo[k];
        out[k] = has[k] ? seconds(s->t[s->lo[k]]) : 0;
    }
}

void slide_ts_of_last_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    for (uint32_t k = 0; k < s->tm->n; k++) {
        has[k] = s->hi[k] > s->lo[k];
        /* Prometheus takes the later of this and 0 */
        out[k] = has[k] ? fmax(seconds(s->t[s->hi[k] - 1]), 0) : 0;
    }
}

/* ---- moments and lines ------------------------------------------------------------------------------ */

static double variance_alone(const double *v, uint32_t n)
{
    struct moments m = {0};

    moments_go_on(&m, v, 0, n);
    return (m.squares + m.c_squares) / n;
}

/* Each addition waits for the last, so eight windows are worked side by side (W4). */
static bool variance_eight(const struct pql_slide *s, uint32_t k, double *out)
{
    const double *v[SUMS_WIDE];
    struct moments m[SUMS_WIDE];
    uint32_t common = UINT32_MAX;

    if (k + SUMS_WIDE > s->tm->n)
        return false;
    for (uint32_t i = 0; i < SUMS_WIDE; i++) {
        const uint32_t n = s->hi[k + i] - s->lo[k + i];

        v[i] = s->v + s->lo[k + i];
        common = n < common ? n : common;
    }
    if (!common)
        return false;
    moments_apart(v, common, m);
    for (uint32_t i = 0; i < SUMS_WIDE; i++) {
        const uint32_t n = s->hi[k + i] - s->lo[k + i];

        if (moments_hold(&m[i])) {
            moments_go_on(&m[i], v[i], common, n);
            out[i] = (m[i].squares + m[i].c_squares) / n;
        } else {
            out[i] = variance_alone(v[i], n);
        }
    }
    return true;
}

static void slide_variance(const struct pql_slide *s, double *out, uint8_t *has, bool root)
{
    for (uint32_t k = 0, done; k < s->tm->n; k += done) {
        uint32_t lo = s->lo[k], n = s->hi[k] - lo;

        done = 1;
        has[k] = n > 0;
        out[k] = 0;
        if (!n)
            continue;
        if (k && s->lo[k - 1] == lo && s->hi[k - 1] == s->hi[k]) {
            out[k] = out[k - 1];
            continue;
        }
        if (slide_stops(s, n))
            return;
        if (variance_eight(s, k, out + k)) {
            memset(has + k, 1, SUMS_WIDE);
            done = SUMS_WIDE;
        } else {
            out[k] = variance_alone(s->v + lo, n);
        }
        for (uint32_t i = 0; i < done && root; i++)
            out[k + i] = sqrt(out[k + i]);
    }
}

void slide_stdvar_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_variance(s, out, has, false);
}

void slide_stddev_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_variance(s, out, has, true);
}

static bool factor_fails(const struct pql_window *w, const char *what, const char *letter, double f)
{
    if (!(f <= 0 || f >= 1))
        return false;
    if (isinf(f))
        *w->failed = nx_fail(w->err, NX_EXEC, "invalid %s factor. Expected: 0 < %s < 1, got: %sInf",
                             what, letter, f > 0 ? "+" : "-");
    else
        *w->failed = nx_fail(w->err, NX_EXEC, "invalid %s factor. Expected: 0 < %s < 1, got: %f",
                             what, letter, f);
    return true;
}

bool win_double_exponential_smoothing(const struct pql_window *w, const double *args, double *out)
{
    double sf = args[0], tf = args[1], s0 = 0, s1 = w->v[0], b;

    if (factor_fails(w, "smoothing", "sf", sf) || factor_fails(w, "trend", "tf", tf) || w->n < 2)
        return false;
    b = w->v[1] - w->v[0];
    for (size_t i = 1; i < w->n; i++) {
        double x = sf * w->v[i], y;

        if (i > 1)
            b = tf * (s1 - s0) + (1 - tf) * b;
        y = (1 - sf) * (s1 + b);
        s0 = s1;
        s1 = x + y;
    }
    *out = s1;
    return true;
}
