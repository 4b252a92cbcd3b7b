/* counts.c - the samples that a query takes, by scope and, when asked for, by step.
 *
 * WHY    Statistics tell what each step alone would take (total) and what was not taken already for the step
 *        before (read). A part that is evaluated once, or on the steps of a subquery, counts on steps of its
 *        own, and rows are pulled late and in any order: so each evaluation has counts of its own, which the
 *        times of its rows lead to, and they are put together when the query is over.
 * RULES  C1  A row counts where its times say, whoever pulls it and when.
 *        C2  What is evaluated once counts in total at each step that it stands for, and is read at the first.
 *        C3  A subquery below a function: its total does not count, as the windows over it do. What it read
 *            counts at the first step whose window has it, or not at all if it lies between two windows.
 *        C4  A subquery that is the result counts as a whole, at the last step.
 *        C5  Arrays by step are there only for who needs them: without, a row costs two sums and a test.
 * THREADS Each lane has its own sums; arrays by step are shared, and added to atomically. counts_settle() is
 *         called when all lanes have ended. */
#include "promql/eval.h"

static uint64_t *by_step(struct arena *a, uint32_t n)
{
    uint64_t *v = arena_array(a, n, sizeof *v);

    for (uint32_t k = 0; v && k < n; k++)
        v[k] = 0;
    return v;
}

static nx_status add_arrays(struct eval *ev, struct eval_counts *c, struct arena *a, uint32_t n,
                            bool total, struct nx_err *err)
{
    c->read_at = by_step(a, n);
    c->total_at = total ? by_step(a, n) : NULL;
    return c->read_at && (c->total_at || !total) ? NX_OK : eval_nomem(ev, a, err);
}

nx_status counts_new(struct eval *ev, struct eval_times *tm, bool by_step, struct nx_err *err)
{
    struct eval_counts *c = arena_zalloc(ev->work, sizeof *c);
    nx_status st = NX_OK;

    if (!c)
        return eval_nomem(ev, ev->work, err);
    if (by_step)
        st = add_arrays(ev, c, ev->out, tm->n, true, err);
    c->tm = tm;
    c->next = ev->counts;
    ev->counts = c;
    tm->counts = c;
    return st;
}

nx_status counts_once(struct eval *ev, struct eval_times *once, const struct eval_times *parent,
                      struct nx_err *err)
{
    nx_status st = counts_new(ev, once, false, err);

    if (!st) {
        once->counts->kind = COUNTS_ONCE;
        once->counts->parent = parent;
    }
    return st;
}

nx_status counts_subquery(struct eval *ev, struct eval_times *inner,
                          const struct eval_times *parent, int64_t range_ms, int64_t offset_ms,
                          struct nx_err *err)
{
    nx_status st = counts_new(ev, inner, false, err);
    struct eval_counts *c = inner->counts;

    if (st)
        return st;
    c->kind = COUNTS_WINDOWS;
    c->parent = parent;
    c->range_ms = range_ms;
    c->offset_ms = offset_ms;
    /* With @ its windows are elsewhere: before those that C3 looks for, perhaps. */
    if (parent->n > 1 && (parent->step > range_ms || parent->counts->read_at ||
                          inner->start + offset_ms <= parent->start - range_ms))
        st = add_arrays(ev, c, ev->work, inner->n, false, err);
    return st;
}

static void add_at(uint64_t *at, uint64_t n)
{
    __atomic_fetch_add(at, n, __ATOMIC_RELAXED);
}

void counts_windows_at(struct eval_counts *c, const struct windows_seen *w)
{
    uint32_t seen = w->before;

    for (uint32_t k = w->from; k < w->to; seen = w->hi[k++]) {
        if (c->total_at)
            add_at(&c->total_at[k], w->hi[k] - w->lo[k]);
        if (w->fresh)
            add_at(&c->read_at[k], w->hi[k] - (seen > w->lo[k] ? seen : w->lo[k]));
    }
}

void counts_instants_at(struct eval_counts *c, const struct row *row)
{
    for (uint32_t k = 0; k < c->tm->n; k++) {
        if (!row->has[k])
            continue;
        if (c->total_at)
            add_at(&c->total_at[k], 1);
        add_at(&c->read_at[k], 1);
    }
}

/* ---- putting together -------------------------------------------------------------------------- */

static void add_read(struct eval_counts *to, uint32_t k, uint64_t n)
{
    to->lanes[0].read += n;
    if (to->read_at)
        to->read_at[k] += n;
}

/* C2 */
static void settle_once(const struct eval_counts *c, struct eval_counts *to)
{
    const struct eval_tally *from = &c->lanes[0];

    to->lanes[0].total += from->total * c->parent->n;
    for (uint32_t k = 0; to->total_at && k < c->parent->n; k++)
        to->total_at[k] += from->total;
    add_read(to, 0, from->read);
}

/* C3 */
static void settle_windows(const struct eval_counts *c, struct eval_counts *to)
{
    const struct eval_times *parent = c->parent;

    if (!c->read_at) {
        add_read(to, 0, c->lanes[0].read);
        return;
    }
    for (uint32_t i = 0; i < c->tm->n; i++) {
        int64_t t = eval_time(c->tm, i) + c->offset_ms, k = 0;

        if (!c->read_at[i])
            continue;
        if (t > parent->start)
            k = (t - parent->start + parent->step - 1) / parent->step;
        if (k >= parent->n)
            k = parent->n - 1;
        if (t > eval_time(parent, (uint32_t)k) - c->range_ms)
            add_read(to, (uint32_t)k, c->read_at[i]);
    }
}

/* C4 */
static void settle_result(const struct eval_counts *c, struct eval_counts *to)
{
    to->lanes[0].total += c->lanes[0].total;
    if (to->total_at)
        to->total_at[c->parent->n - 1] += c->lanes[0].total;
    add_read(to, c->parent->n - 1, c->lanes[0].read);
}

static void settle(struct eval_counts *c)
{
    for (size_t lane = 1; lane < EVAL_LANES; lane++) {
        c->lanes[0].total += c->lanes[lane].total;
        c->lanes[0].read += c->lanes[lane].read;
    }
    switch (c->kind) {
    case COUNTS_QUERY:
        break;
    case COUNTS_ONCE:
        settle_once(c, c->parent->counts);
        break;
    case COUNTS_WINDOWS:
        settle_windows(c, c->parent->counts);
        break;
    case COUNTS_RESULT:
        settle_result(c, c->parent->counts);
        break;
    }
}

const struct eval_counts *counts_settle(struct eval *ev)
{
    const struct eval_counts *last = NULL;

    /* The newest are the innermost: a parent is there before its children. */
    for (struct eval_counts *c = ev->counts; c; c = c->next) {
        settle(c);
        last = c;
    }
    ev->counts = NULL;
    return last;
}
