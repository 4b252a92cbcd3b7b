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
 * THREADS Each lane counts for itself; counts_settle() is called when all of them have ended. */
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
    for (size_t lane = 0; lane < EVAL_LANES; lane++) {
        struct eval_tally *t = &c->lanes[lane];

        t->read_at = by_step(a, n);
        t->total_at = total ? by_step(a, n) : NULL;
        if (!t->read_at || (total && !t->total_at))
            return eval_nomem(ev, a, err);
    }
    return NX_OK;
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
    if (parent->n > 1 && (parent->step > range_ms || parent->counts->lanes[0].read_at))
        st = add_arrays(ev, c, ev->work, inner->n, false, err);
    return st;
}

void counts_windows_at(struct eval_tally *t, uint32_t n, const uint32_t *lo, const uint32_t *hi,
                       bool fresh)
{
    for (uint32_t k = 0, seen = 0; k < n; seen = hi[k++]) {
        if (t->total_at)
            t->total_at[k] += hi[k] - lo[k];
        if (fresh)
            t->read_at[k] += hi[k] - (seen > lo[k] ? seen : lo[k]);
    }
}

void counts_instants_at(struct eval_tally *t, const struct row *row, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        if (t->total_at)
            t->total_at[k] += row->has[k];
        t->read_at[k] += row->has[k];
    }
}

/* ---- putting together -------------------------------------------------------------------------- */

static void add_read(struct eval_tally *to, uint32_t k, uint64_t n)
{
    to->read += n;
    if (to->read_at)
        to->read_at[k] += n;
}

/* C2 */
static void settle_once(const struct eval_counts *c, struct eval_tally *to)
{
    const struct eval_tally *from = &c->lanes[0];

    to->total += from->total * c->parent->n;
    for (uint32_t k = 0; to->total_at && k < c->parent->n; k++)
        to->total_at[k] += from->total;
    add_read(to, 0, from->read);
}

/* C3 */
static void settle_windows(const struct eval_counts *c, struct eval_tally *to)
{
    const struct eval_tally *from = &c->lanes[0];
    const struct eval_times *parent = c->parent;

    if (!from->read_at) {
        add_read(to, 0, from->read);
        return;
    }
    for (uint32_t i = 0; i < c->tm->n; i++) {
        int64_t t = eval_time(c->tm, i) + c->offset_ms, k = 0;

        if (!from->read_at[i])
            continue;
        if (t > parent->start)
            k = (t - parent->start + parent->step - 1) / parent->step;
        if (k >= parent->n)
            k = parent->n - 1;
        if (t > eval_time(parent, (uint32_t)k) - c->range_ms)
            add_read(to, (uint32_t)k, from->read_at[i]);
    }
}

static void settle(struct eval_counts *c)
{
    struct eval_tally *all = &c->lanes[0];

    for (size_t lane = 1; lane < EVAL_LANES; lane++) {
        const struct eval_tally *t = &c->lanes[lane];

        all->total += t->total;
        all->read += t->read;
        for (uint32_t k = 0; t->total_at && k < c->tm->n; k++)
            all->total_at[k] += t->total_at[k];
        for (uint32_t k = 0; t->read_at && k < c->tm->n; k++)
            all->read_at[k] += t->read_at[k];
    }
    if (!c->parent)
        return;
    struct eval_tally *to = &c->parent->counts->lanes[0];
    switch (c->kind) {
    case COUNTS_QUERY:
        break;
    case COUNTS_ONCE:
        settle_once(c, to);
        break;
    case COUNTS_RESULT: /* C4 */
        to->total += all->total;
        if (to->total_at)
            to->total_at[c->parent->n - 1] += all->total;
        add_read(to, c->parent->n - 1, all->read);
        break;
    case COUNTS_WINDOWS:
        settle_windows(c, to);
        break;
    }
}

const struct eval_tally *counts_settle(struct eval *ev)
{
    static const struct eval_tally none;
    const struct eval_counts *last = NULL;

    /* The newest are the innermost: a parent is there before its children. */
    for (struct eval_counts *c = ev->counts; c; c = c->next) {
        settle(c);
        last = c;
    }
    ev->counts = NULL;
    return last ? &last->lanes[0] : &none;
}
