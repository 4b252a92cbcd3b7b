/* schedule.c - who is next, and when.
 *
 * WHY     Each target has its own place in its interval (target_first_ns), so a thousand targets do not
 *         come at once, and the place is the same after a restart. But waking up for one target costs more
 *         than most of what is done for it then: caches are cold, threads and the system have to be
 *         gone through. So places are told in slots, of which there are so few that some targets come
 *         together.
 * RULES   C1  Ticks lie on a grid of wall time; waiting is done on the steady clock. Each tick is
 *             computed anew from the wall clock, so a clock that was set finds its grid by itself.
 *         C2  Samples carry the tick's own time if the scrape began within the tolerance of it: then
 *             timestamps are evenly spaced and cost next to nothing to store.
 *         C3  A target keeps the seed it began with: a reload with other external labels moves nobody.
 *         C4  The number of slots is a power of two that follows the number of targets: more than
 *             MOST_A_SLOT a slot on average double it, fewer than LEAST_A_SLOT halve it. So a target that
 *             comes or goes seldom moves others, and if so by half a slot at most, once. Those that
 *             were not scraped yet move at once, so a start does not begin with an odd interval.
 * SHAPE   A binary heap by due time; a target knows its place in it. */
#include "src/scrape/manager.h"

#include <stdlib.h>

#include "src/base/clock.h"

#define NS_PER_MS    1000000ll
#define MOST_A_SLOT  16u
#define LEAST_A_SLOT 4u

static void place(struct scrape *s, size_t at, struct target *t)
{
    s->heap[at] = t;
    t->heap_at = at;
}

static void sift_up(struct scrape *s, size_t at, struct target *t)
{
    while (at > 0 && s->heap[(at - 1) / 2]->due_mono_ns > t->due_mono_ns) {
        place(s, at, s->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(s, at, t);
}

static void sift_down(struct scrape *s, size_t at, struct target *t)
{
    for (;;) {
        size_t child = at * 2 + 1;
        if (child + 1 < s->n_heap && s->heap[child + 1]->due_mono_ns < s->heap[child]->due_mono_ns)
            child++;
        if (child >= s->n_heap || s->heap[child]->due_mono_ns >= t->due_mono_ns)
            break;
        place(s, at, s->heap[child]);
        at = child;
    }
    place(s, at, t);
}

static void set_tick(const struct scrape *s, struct target *t, int64_t not_before_ns,
                     int64_t now_ns)
{
    t->ideal_ns = target_first_ns(t->hash, t->seed, t->interval_ms * NS_PER_MS,
                                  SCHEDULE_SLOTS << s->slot_bits, not_before_ns);
    t->due_mono_ns = clock_mono_ns() + (t->ideal_ns - now_ns); /* C1 */
}

/* There are other slots now: who was never scraped takes its place among them, unless its time has come
 * (it begins at once, or waits for a token). */
static void place_new(struct scrape *s)
{
    int64_t now = clock_now_ns();

    for (size_t i = 0; i < s->n_heap; i++)
        if (!s->heap[i]->last_begun_mono_ns && !s->heap[i]->ending && s->heap[i]->ideal_ns > now)
            set_tick(s, s->heap[i], now, now);
    for (size_t i = s->n_heap / 2; i-- > 0;)
        sift_down(s, i, s->heap[i]);
}

/* C4 */
static void fit_slots(struct scrape *s)
{
    unsigned bits = s->slot_bits;

    while (s->n_heap > (size_t)MOST_A_SLOT * SCHEDULE_SLOTS << bits)
        bits++;
    while (bits && s->n_heap < (size_t)LEAST_A_SLOT * SCHEDULE_SLOTS << bits)
        bits--;
    if (bits == s->slot_bits)
        return;
    s->slot_bits = bits;
    place_new(s);
}

bool schedule_put(struct scrape *s, struct target *t)
{
    if (t->heap_at != SIZE_MAX)
        schedule_remove(s, t);
    if (s->n_heap == s->cap_heap) {
        size_t cap = s->cap_heap ? s->cap_heap * 2 : 64;
        struct target **heap = reallocarray(s->heap, cap, sizeof(struct target *));
        if (!heap)
            return false;
        s->heap = heap;
        s->cap_heap = cap;
    }
    sift_up(s, s->n_heap++, t);
    fit_slots(s);
    return true;
}

void schedule_remove(struct scrape *s, struct target *t)
{
    size_t at = t->heap_at;
    struct target *last;

    if (at == SIZE_MAX)
        return;
    t->heap_at = SIZE_MAX;
    last = s->heap[--s->n_heap];
    if (last == t)
        return;
    if (at > 0 && s->heap[(at - 1) / 2]->due_mono_ns > last->due_mono_ns)
        sift_up(s, at, last);
    else
        sift_down(s, at, last);
}

struct target *schedule_first(const struct scrape *s)
{
    return s->n_heap ? s->heap[0] : NULL;
}

void schedule_begin(const struct scrape *s, struct target *t)
{
    int64_t now = clock_now_ns();

    t->seed = s->seed; /* C3 */
    set_tick(s, t, now, now);
}

void schedule_next(const struct scrape *s, struct target *t)
{
    int64_t now = clock_now_ns();

    set_tick(s, t, now + t->interval_ms * NS_PER_MS / 2, now);
}

int64_t schedule_stamp_ms(const struct scrape *s, const struct target *t, int64_t now_ns)
{
    int64_t tolerance = s->opts.timestamp_tolerance_ms * NS_PER_MS, off = now_ns - t->ideal_ns;

    if (tolerance > t->interval_ms * NS_PER_MS / 100)
        tolerance = t->interval_ms * NS_PER_MS / 100;
    if (!s->opts.no_adjust_timestamps && off >= -tolerance && off <= tolerance) /* C2 */
        return t->ideal_ns / NS_PER_MS;
    return now_ns / NS_PER_MS;
}
