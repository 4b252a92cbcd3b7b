/* compact_plan.c - which blocks go together.
 *
 * WHY     A query over a month should open a few blocks and not hundreds, and what is alike over hours
 *         is stored once. Merging by factors writes each sample a few times over its life.
 * RULES   P1  Ranges are block, 3 * block, 9 * block, ... up to the largest allowed, each aligned to its own
 *             size from 1970 on. Smaller ranges go first.
 *         P2  Blocks that lie within one range go together when they fill it from end to end, or when
 *             a newer block shows that nothing more will come for it.
 *         P3  The newest block is left alone: who copies blocks away gets each of them for a while.
 *         P4  Blocks that overlap (loaded in bulk, restored) come first of all, whatever their size.
 *         P5  A block to avoid divides the list: what is on one side of it does not go with the other.
 *         P6  Every merge makes the list shorter, so repeating ends. */
#include "storage/compact.h"

#include "storage/head.h"

#define FACTOR 3
#define RANGES 10 /* as many sizes as Prometheus has */

static size_t at_most(size_t n, size_t max)
{
    return n < max ? n : max;
}

/* P4: the first run of blocks each of which overlaps those before it. */
static size_t overlapping(const struct compact_block *v, size_t n, size_t pick[COMPACT_MAX_SOURCES])
{
    int64_t max_ms = INT64_MIN;
    size_t got = 0;

    for (size_t i = 0; i < n && got < COMPACT_MAX_SOURCES; i++) {
        if (v[i].avoid)
            continue;
        if (got == 0 || v[i].min_ms < max_ms)
            pick[got++] = i;
        else if (got > 1)
            break;
        else
            pick[0] = i;
        max_ms = v[i].max_ms > max_ms ? v[i].max_ms : max_ms;
    }
    return got > 1 ? got : 0;
}

/* How many blocks from v[0] on lie in the range that v[0] begins in and that ends at end_ms. */
static size_t in_range(const struct compact_block *v, size_t n, int64_t end_ms, int64_t *max_ms)
{
    size_t i = 0;

    *max_ms = INT64_MIN;
    for (; i < n && !v[i].avoid && v[i].max_ms <= end_ms; i++) /* P5 */
        *max_ms = v[i].max_ms > *max_ms ? v[i].max_ms : *max_ms;
    return i;
}

static size_t within(const struct compact_block *v, size_t n, int64_t range_ms,
                     size_t pick[COMPACT_MAX_SOURCES])
{
    const int64_t newest_ms = v[n - 1].min_ms;

    for (size_t i = 0; i < n;) {
        const int64_t end_ms = (floor_div(v[i].min_ms, range_ms) + 1) * range_ms;
        int64_t max_ms;
        size_t got = in_range(v + i, n - i, end_ms, &max_ms);
        if (got > 1 && (max_ms - v[i].min_ms == range_ms || end_ms <= newest_ms)) { /* P2 */
            got = at_most(got, COMPACT_MAX_SOURCES);
            for (size_t k = 0; k < got; k++)
                pick[k] = i + k;
            return got;
        }
        i += got ? got : 1;
    }
    return 0;
}

size_t compact_plan(const struct compact_plan_opts *o, const struct compact_block *v, size_t n,
                    size_t pick[COMPACT_MAX_SOURCES])
{
    int64_t range_ms = o->block_ms;
    size_t got = o->overlapping ? overlapping(v, n, pick) : 0;

    if (got || n < 3) /* P3: of two, one is left */
        return got;
    for (int i = 1; i < RANGES && range_ms <= o->max_block_ms / FACTOR; i++) { /* P1 */
        range_ms *= FACTOR;
        got = within(v, n - 1, range_ms, pick);
        if (got)
            return got;
    }
    return 0;
}
