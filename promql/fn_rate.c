/* fn_rate.c - how fast the samples in a range change: rate, increase, delta, irate, idelta.
 *
 * WHY    `rate(x[5m])` is in most queries, over many series at once. What it costs above reading two samples a
 *        step is guesses of the processor that fail: few steps need more than those two and a factor.
 * SHAPE  Steps are worked in blocks. In most blocks no counter falls and none is near zero: they take a loop
 *        without branches. In others each step is looked at alone.
 * RULES  R1  The counter's falls are found once; each window adds those inside it.
 *        R2  What times alone decide, the factor by which a change is widened to the whole range, is kept
 *            from series to series while these have the same times.
 *        R3  Both ways give the same bits. */
#include "promql/fn.h"

#include <math.h>
#include <string.h>

#define BLOCK 32 /* steps */

/* ---- rate, increase, delta ---------------------------------------------------------------------- */

static double seconds(int64_t ms)
{
    return (double)ms / 1000;
}

/* The change over the samples, widened to the whole range as far as they suggest that it goes on. */
static double extrapolate(double change, double first, int64_t first_t, int64_t last_t, size_t n,
                          int64_t start, int64_t end, bool counter)
{
    double to_start = seconds(first_t - start), to_end = seconds(end - last_t);
    double sampled = seconds(last_t - first_t), gap = sampled / (double)(n - 1), near = gap * 1.1;

    if (to_start >= near)
        to_start = gap / 2;
    if (counter && change > 0 && first >= 0) { /* it was not below zero before */
        double to_zero = sampled * (first / change);

        if (to_zero < to_start)
            to_start = to_zero;
    }
    if (to_end >= near)
        to_end = gap / 2;
    return sampled != 0 ? (sampled + to_start + to_end) / sampled : 1.0;
}

static double line_at(const int64_t *t, const double *v, size_t i, int64_t at, bool counter)
{
    double from = counter && v[i + 1] < v[i] ? 0 : v[i];

    return from + (v[i + 1] - from) * (double)(at - t[i]) / (double)(t[i + 1] - t[i]);
}

/* Anchored and smoothed ranges: values at both edges, nothing extrapolated. */
static bool extended_change(const struct pql_slide *s, size_t lo, size_t hi, int64_t end,
                            bool counter, double *out)
{
    const int64_t *t = s->t + lo, start = end - s->range_ms;
    const double *v = s->v + lo;
    size_t n = hi - lo, first = 0, last = n - 1, stop;
    double left, right, change, prev;

    while (first + 1 < last && t[first + 1] <= start)
        first++;
    if (first < last && t[first] > start)
        first = 0;
    if (s->smoothed) {
        for (last = 0; last < n - 1 && t[last] < end; last++)
            ;
        if (t[first] > end)
            return false;
    }
    if (t[last] <= start)
        return false;
    left = s->smoothed && t[first] < start ? line_at(t, v, first, start, counter) : v[first];
    right =
        s->smoothed && last > 0 && t[last] > end ? line_at(t, v, last - 1, end, counter) : v[last];
    change = right - left;
    stop = t[last] >= end ? last : last + 1;
    prev = left;
    double correction = 0;
    for (size_t i = t[first] <= start ? first + 1 : first; i < stop && counter; i++) {
        if (v[i] < prev)
            correction += prev;
        prev = v[i];
    }
    if (counter && right < prev)
        correction += prev;
    *out = change + correction;
    return true;
}

static double widen(const struct pql_slide *s, uint32_t k, double change, bool counter,
                    bool per_second)
{
    uint32_t lo = s->lo[k], hi = s->hi[k];
    double factor = extrapolate(change, s->v[lo], s->t[lo], s->t[hi - 1], hi - lo,
                                s->end[k] - s->range_ms, s->end[k], counter);

    return per_second ? factor / seconds(s->range_ms) : factor;
}

/* The notes: of each step its factor where zero does not come into it, then of each below which first /
 * change it may (rounding apart). Both are 0 for a window with less than two samples. (R2) */
static void note_factors(const struct pql_slide *s, bool per_second)
{
    double *factor = s->notes, *reach = s->notes + s->tm->n;

    for (uint32_t k = 0; k < s->tm->n; k++) {
        uint32_t lo = s->lo[k], hi = s->hi[k];
        double to_start, sampled;

        factor[k] = reach[k] = 0;
        if (hi - lo < 2)
            continue;
        to_start = seconds(s->t[lo] - (s->end[k] - s->range_ms));
        sampled = seconds(s->t[hi - 1] - s->t[lo]);
        factor[k] = widen(s, k, 0, false, per_second);
        reach[k] = sampled != 0 ? to_start / sampled * 1.001 : INFINITY;
    }
    *s->noted = true;
}

static void slide_extended(const struct pql_slide *s, double *out, uint8_t *has, bool counter,
                           bool per_second)
{
    for (uint32_t k = 0; k < s->tm->n; k++) {
        uint32_t lo = s->lo[k], hi = s->hi[k];
        double change = 0;

        if (slide_stops(s, hi - lo))
            return;
        has[k] = hi > lo && extended_change(s, lo, hi, s->end[k], counter, &change);
        out[k] = !has[k] ? 0 : per_second ? change / seconds(s->range_ms) : change;
    }
}

struct
    falls { /* of the counter, by the sample they end at; those before `from` are behind all windows */
    uint32_t *at;
    size_t n, from;
};

/* R1. Whole blocks are told to have none. */
static void find_falls(struct falls *f, const double *v, size_t n)
{
    size_t j = 1;

    while (j < n) {
        const size_t end = j + 64 <= n ? j + 64 : n;
        int any = 0;

        for (size_t i = j; i < end; i++)
            any |= v[i] < v[i - 1];
        for (; any && j < end; j++) { /* without a branch; there is room for all */
            f->at[f->n] = (uint32_t)j;
            f->n += v[j] < v[j - 1];
        }
        j = end;
    }
}

static void change_step(const struct pql_slide *s, struct falls *f, uint32_t k, bool counter,
                        bool per_second, double *out)
{
    const double *factor = s->notes, *reach = s->notes + s->tm->n;
    uint32_t lo = s->lo[k], hi = s->hi[k];
    double first = s->v[lo], change = s->v[hi - 1] - first;

    while (f->from < f->n && f->at[f->from] <= lo)
        f->from++;
    for (size_t i = f->from; i < f->n && f->at[i] < hi; i++)
        change += s->v[f->at[i] - 1];
    if (counter && change > 0 && first >= 0 && !(first > change * reach[k]))
        *out = change * widen(s, k, change, true, per_second);
    else
        *out = change * factor[k];
}

/* The steps [k, end), if they all have two samples or more and nothing is to be looked at twice. */
static bool change_block(const struct pql_slide *s, struct falls *f, uint32_t k, uint32_t end,
                         bool counter, double *out)
{
    const double *factor = s->notes, *reach = s->notes + s->tm->n;
    int short_ones = 0, near_zero = 0;

    for (uint32_t i = k; i < end; i++)
        short_ones |= s->hi[i] - s->lo[i] < 2;
    if (short_ones)
        return false;
    while (f->from < f->n && f->at[f->from] <= s->lo[k])
        f->from++;
    if (f->from < f->n && f->at[f->from] < s->hi[end - 1])
        return false;
    for (uint32_t i = k; i < end; i++) {
        double first = s->v[s->lo[i]], change = s->v[s->hi[i] - 1] - first;

        out[i] = change * factor[i];
        near_zero |= (change > 0) & (first >= 0) & !(first > change * reach[i]);
    }
    return !(counter && near_zero);
}

static void slide_change(const struct pql_slide *s, double *out, uint8_t *has, bool counter,
                         bool per_second)
{
    struct falls f = {.at = (uint32_t *)(void *)s->scratch};
    const uint32_t n = s->tm->n;

    if (s->anchored || s->smoothed) {
        slide_extended(s, out, has, counter, per_second);
        return;
    }
    if (!*s->noted)
        note_factors(s, per_second);
    if (counter)
        find_falls(&f, s->v, s->n);
    for (uint32_t k = 0, end; k < n; k = end) {
        end = n - k > BLOCK ? k + BLOCK : n;
        memset(has + k, 1, end - k);
        if (change_block(s, &f, k, end, counter, out)) /* R3 */
            continue;
        for (uint32_t i = k; i < end; i++) {
            has[i] = s->hi[i] - s->lo[i] >= 2;
            out[i] = 0;
            if (slide_stops(s, s->hi[i] - s->lo[i]))
                return;
            if (has[i])
                change_step(s, &f, i, counter, per_second, out + i);
        }
    }
}

void slide_rate(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_change(s, out, has, true, true);
}

void slide_increase(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_change(s, out, has, true, false);
}

void slide_delta(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_change(s, out, has, false, false);
}

static void slide_last_two(const struct pql_slide *s, double *out, uint8_t *has, bool counter)
{
    for (uint32_t k = 0; k < s->tm->n; k++) {
        uint32_t hi = s->hi[k];
        double a, b;
        int64_t gap;

        has[k] = 0;
        out[k] = 0;
        if (hi - s->lo[k] < 2)
            continue;
        a = s->v[hi - 2];
        b = s->v[hi - 1];
        gap = s->t[hi - 1] - s->t[hi - 2];
        if (gap == 0)
            continue;
        has[k] = 1;
        out[k] = counter && b < a ? b : b - a;
        if (counter)
            out[k] /= seconds(gap);
    }
}

void slide_irate(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_last_two(s, out, has, true);
}

void slide_idelta(const struct pql_slide *s, double *out, uint8_t *has)
{
    slide_last_two(s, out, has, false);
}
