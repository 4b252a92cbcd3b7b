/* samples.c - times and values side by side. */
#include "storage/samples.h"

#include <stdlib.h>
#include <string.h>

#include "storage/chunk.h"

#define FIRST_CAP 64u

static nx_status set_cap(struct samples *s, size_t cap, struct nx_err *err)
{
    const size_t more = (cap - s->cap) * (sizeof *s->t + sizeof *s->v);
    nx_status st = arena_share_take(s->share, more, err);
    int64_t *t;
    double *v;

    if (st)
        return st;
    t = realloc(s->t, cap * sizeof *t);
    if (t)
        s->t = t;
    v = t ? realloc(s->v, cap * sizeof *v) : NULL;
    if (v)
        s->v = v;
    if (!t || !v) {
        arena_share_give(s->share, more);
        return nx_fail(err, NX_NOMEM, "out of memory for %zu samples", cap);
    }
    s->cap = cap;
    return NX_OK;
}

nx_status samples_reserve(struct samples *s, size_t extra, struct nx_err *err)
{
    size_t need, cap = s->cap ? s->cap : FIRST_CAP;

    s->over = s->most && s->n > s->most;
    if (s->over)
        return nx_fail(err, NX_LIMIT, "more than %zu samples of a series", s->most);
    if (s->cap - s->n >= extra)
        return NX_OK;
    if (__builtin_add_overflow(s->n, extra, &need) || need > SIZE_MAX / 2 / sizeof *s->t)
        return nx_fail(err, NX_NOMEM, "out of memory for %zu samples", extra);
    while (cap < need)
        cap *= 2;
    return set_cap(s, cap, err);
}

nx_status samples_add(struct samples *s, int64_t t_ms, double v, struct nx_err *err)
{
    if (s->n == s->cap) {
        nx_status st = samples_reserve(s, 1, err);
        if (st)
            return st;
    }
    s->t[s->n] = t_ms;
    s->v[s->n++] = v;
    return NX_OK;
}

/* How many of the ascending t are below `limit`. */
static size_t count_below(const int64_t *t, size_t n, int64_t limit)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t[mid] < limit)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Absent values are NaNs, and most columns have no NaN at all. */
static bool any_absent(const double *v, size_t n)
{
    int nans = 0;

    for (size_t i = 0; i < n; i++)
        nans |= v[i] != v[i];
    for (size_t i = 0; i < n && nans; i++)
        if (chunk_is_absent(v[i]))
            return true;
    return false;
}

nx_status samples_add_rows(struct samples *s, const int64_t *t, const double *v, size_t n,
                           int64_t mint, int64_t maxt, struct nx_err *err)
{
    const size_t from = count_below(t, n, mint);
    const size_t to = maxt == INT64_MAX ? n : count_below(t, n, maxt + 1);
    size_t at = s->n;
    nx_status st;

    if (from >= to)
        return NX_OK;
    st = samples_reserve(s, to - from, err);
    if (st)
        return st;
    if (!any_absent(v + from, to - from)) {
        memcpy(s->t + at, t + from, (to - from) * sizeof *t);
        memmove(s->v + at, v + from, (to - from) * sizeof *v); /* mostly where they are to be */
        s->n += to - from;
        return NX_OK;
    }
    for (size_t i = from; i < to; i++) { /* no branch: an absent value is overwritten by the next */
        s->t[at] = t[i];
        s->v[at] = v[i];
        at += !chunk_is_absent(v[i]);
    }
    s->n = at;
    return NX_OK;
}

void samples_done(struct samples *s)
{
    free(s->t);
    free(s->v);
    arena_share_give(s->share, s->cap * (sizeof *s->t + sizeof *s->v));
    *s = (struct samples){0};
}
