/* coarse_pick.c - see coarse_pick.h.
 *
 * WHY     A time may be held as samples, as points of five minutes and as points of an hour. Points are
 *         quicker to read; but where samples are there, no answer is to be worse because there are points.
 * RULES   G1  While there are samples, points are used only where they answer alike: at times, steps and
 *             ranges that are multiples of the resolution. A single instant value is read of samples.
 *         G2  A source is read where no source that is preferred covers the time.
 *         G3  Windows end where finer data begins, at a block's start B: the window that ends at B is told by
 *             the points, with the sample at B if it is in it; the finer ones go on behind it. */
#include "storage/coarse_pick.h"

#include <stdlib.h>

bool pick_is_exact(const struct read_hint *h, int64_t resolution_ms)
{
    if (!h || resolution_ms <= 0 || h->use == READ_FALLS || h->use == READ_SHAPE)
        return false;
    if (h->first_ms % resolution_ms || h->step_ms % resolution_ms || h->range_ms % resolution_ms)
        return false;
    return h->step_ms > 0 || h->range_ms > 0;
}

/* Smaller is preferred (G1). */
static int64_t rank(const struct read_hint *h, int64_t resolution_ms)
{
    return pick_is_exact(h, resolution_ms) && h->use != READ_CHANGE ? -resolution_ms
                                                                    : resolution_ms;
}

/* Takes [from, to] out of the parts of `source` in out[first..n). */
static size_t cut(struct pick_part *out, size_t first, size_t n, int64_t from, int64_t to)
{
    const size_t before = n;

    for (size_t i = first; i < before; i++) {
        struct pick_part *p = &out[i];
        const int64_t end = p->to_ms;
        if (p->from_ms > to || p->to_ms < from)
            continue;
        if (p->to_ms > to && p->from_ms < from) { /* it lies within */
            p->to_ms = from - 1;
            out[n++] = (struct pick_part){p->source, to + 1, end};
        } else if (p->from_ms < from) {
            p->to_ms = from - 1;
        } else if (p->to_ms > to) {
            p->from_ms = to + 1;
        } else {
            p->to_ms = p->from_ms - 1; /* nothing is left */
        }
    }
    return n;
}

static int by_time(const void *x, const void *y)
{
    const struct pick_part *a = x, *b = y;

    if (a->from_ms != b->from_ms)
        return a->from_ms < b->from_ms ? -1 : 1;
    return a->source < b->source ? -1 : a->source > b->source;
}

size_t pick_parts(const struct pick_source *v, size_t n, const struct read_hint *h,
                  struct pick_part *out)
{
    size_t n_out = 0, kept = 0;

    for (size_t i = 0; i < n; i++) {
        const int64_t mine = rank(h, v[i].resolution_ms);
        const size_t first = n_out;
        out[n_out++] = (struct pick_part){i, v[i].min_ms, v[i].max_ms - 1};
        for (size_t k = 0; k < n; k++) { /* G2 */
            int64_t from = v[k].min_ms;
            if (rank(h, v[k].resolution_ms) >= mine)
                continue;
            from += v[i].resolution_ms && v[i].resolution_ms > v[k].resolution_ms &&
                    v[i].min_ms < from; /* G3 */
            n_out = cut(out, first, n_out, from, v[k].max_ms - 1);
        }
        for (size_t k = 0; k < n; k++) { /* G3, seen from the other side */
            if (v[k].resolution_ms > v[i].resolution_ms && rank(h, v[k].resolution_ms) > mine &&
                v[k].min_ms < v[i].min_ms && v[k].max_ms > v[i].min_ms)
                for (size_t p = first; p < n_out; p++)
                    out[p].from_ms += out[p].from_ms == v[i].min_ms;
        }
    }
    for (size_t i = 0; i < n_out; i++)
        if (out[i].from_ms <= out[i].to_ms)
            out[kept++] = out[i];
    qsort(out, kept, sizeof *out, by_time);
    return kept;
}
