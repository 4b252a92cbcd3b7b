/* pieces.c - see pieces.h.
 *
 * WHY   A year of a series that is sampled each second is 500 MB of decoded samples, and a result of a few hundred
 *       points needs none of them at the same time but those of a window. So no more is decoded at once than
 *       ev->column_samples, or twice a window that has more.
 * RULES P1  A step's value depends on the samples of its window alone: how a series is cut changes no bit of a
 *           result. (Points of a coarser resolution that tell how far a counter rose count from where
 *           reading began: there the last bits may differ.)
 *       P2  Nobody knows how many samples a series has before it is read. The first try is to read it as a whole;
 *           the store stops when it has more than a piece may have, and these tell how dense they are.
 *       P3  A piece whose steps span less than a window is not cut further: most of what it holds is that window.
 *           It may hold what two windows may; more is too many samples for the query anyway.
 *       P4  A sample is decoded about twice at most: a piece's steps span a window or more, or all. */
#include "promql/pieces.h"

#include "promql/points.h"

struct eval_times piece_times(const struct eval_times *tm, const struct piece *p)
{
    struct eval_times part = *tm;

    part.start = eval_time(tm, p->from);
    part.n = p->to - p->from;
    if (p->to < tm->n)
        part.end = eval_time(tm, p->to - 1);
    return part;
}

static int64_t data_time(const struct pieces *ps, uint32_t k)
{
    return (ps->pinned ? ps->pin_ms : eval_time(ps->tm, k)) - ps->offset_ms;
}

static int64_t steps_span(const struct pieces *ps, const struct piece *p)
{
    return data_time(ps, p->to - 1) - data_time(ps, p->from);
}

/* As many steps from p->from on as a piece may have. */
static void take_steps(const struct pieces *ps, struct piece *p)
{
    const uint32_t left = ps->tm->n - p->from;
    uint64_t n = left;

    if (ps->span_ms && !ps->pinned && ps->tm->step > 0)
        n = (uint64_t)(ps->span_ms / ps->tm->step) + 1;
    p->to = p->from + (n < left ? (uint32_t)n : left);
}

static nx_status read_steps(struct eval *ev, const struct pieces *ps, const struct series *s,
                            const struct read_hint *h, const struct piece *p, size_t most,
                            struct nx_err *err)
{
    return points_read(ev, s, h, data_time(ps, p->from) - ps->before_ms + 1,
                       data_time(ps, p->to - 1) + ps->beyond_ms, most, err);
}

/* P2: a span that is at most half of what was too much. */
static void shorten(const struct eval *ev, struct pieces *ps, int64_t tried_ms)
{
    const struct column *c = &ev->col;
    const int64_t window_ms = ps->before_ms + ps->beyond_ms;
    double fits = (double)tried_ms / 4;

    if (c->n > 1 && c->t[c->n - 1] > c->t[0])
        fits =
            (double)(c->t[c->n - 1] - c->t[0]) / (double)c->n * (double)ev->column_samples * 3 / 4 -
            (double)window_ms;
    if (fits < (double)window_ms)
        fits = (double)window_ms;
    ps->span_ms = fits < (double)(tried_ms / 2) ? (int64_t)fits : tried_ms / 2;
    if (ps->span_ms < 1)
        ps->span_ms = 1; /* one step */
}

nx_status pieces_read(struct eval *ev, struct pieces *ps, const struct series *s,
                      const struct read_hint *h, struct piece *p, struct nx_err *err)
{
    p->from = p->to;
    for (;;) {
        int64_t span_ms;
        bool one, least;
        nx_status st;

        take_steps(ps, p);
        span_ms = steps_span(ps, p);
        one = p->to - p->from == 1 || span_ms == 0;
        least = one || span_ms <= ps->before_ms + ps->beyond_ms;
        st = read_steps(ev, ps, s, h, p, least ? eval_most(ev) : ev->column_samples, err);
        if (!ev->col.over) {
            /* Series that are not as dense take longer pieces. */
            if (!st && p->to < ps->tm->n && ev->col.n < ev->column_samples / 4 &&
                ps->span_ms < INT64_MAX / 2)
                ps->span_ms *= 2;
            return st;
        }
        if (one)
            return eval_too_many(err);
        shorten(ev, ps, span_ms);
        st = eval_check(ev, err);
        if (st)
            return st;
    }
}

nx_status pieces_read_again(struct eval *ev, const struct pieces *ps, const struct series *s,
                            const struct read_hint *h, const struct piece *p, struct nx_err *err)
{
    return read_steps(ev, ps, s, h, p, 0, err);
}
