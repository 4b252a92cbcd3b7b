/* head_load.c - chunk files are found at a start.
 *
 * SHAPE   Records come in the order they were written. A group's seals are put in the order of their rows;
 *         columns are kept as the group itself keeps them: the newest binding in cols, older ones in past.
 *         When all files were seen, each binding becomes a home of its series.
 * RULES   L1  Of two seals with the same rows the later one counts (headfile.c, X3).
 *         L2  A seal whose rows are all in blocks is dropped, but its rows count as known.
 *         L3  Homes that come from different groups are in no order here: at the end of a start they are put
 *             in order of time.
 *         L4  Bytes are from outside although their checksum was right.
 *         L5  A seal has samples of one series in a column (group.c, G1). Files say when a column was bound, not
 *             since when it had been free: where that is in the middle of a seal, the series before has
 *             nothing in it. */
#include <stdlib.h>
#include <string.h>

#include "storage/grow.h"
#include "storage/head_replay.h"

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "reading chunk files");
}

/* ---- columns ----------------------------------------------------------------------------------- */

static nx_status cols_up_to(struct storage_group *g, uint32_t col, struct nx_err *err)
{
    if (col < g->n_cols)
        return NX_OK;
    return group_cols_room(g, col + 1, err);
}

/* A binding that was before, or in between, those that are known. */
static nx_status add_past(struct storage_group *g, uint32_t col, uint32_t series, uint32_t from,
                          uint32_t to, struct nx_err *err)
{
    for (uint32_t i = 0; i < g->n_past; i++) {
        if (g->past[i].col == col && g->past[i].from == from)
            return NX_OK;
    }
    if (!grow(&g->past, g->n_past, &g->cap_past, sizeof *g->past, 8))
        return no_memory(err);
    g->past[g->n_past++] = (struct past){col, series, from, to};
    return NX_OK;
}

static nx_status bind(struct storage_group *g, uint32_t col, uint32_t series, uint32_t from,
                      struct nx_err *err)
{
    nx_status st = cols_up_to(g, col, err);
    struct col *c;

    if (st)
        return st;
    c = &g->cols[col];
    if (c->series && from < c->from)
        return add_past(g, col, series, from, c->from, err);
    if (c->series == series || (c->series && from == c->from))
        return NX_OK;
    if (c->series)
        st = add_past(g, col, c->series, c->from, from, err);
    if (!st)
        *c = (struct col){.series = series, .from = from, .state = COL_OWN};
    return st;
}

static nx_status see_columns(void *ctx, struct nx_slice payload, struct nx_err *err)
{
    struct replay *r = ctx;
    struct define_reader *d = &r->def;
    struct rgroup *rg = NULL;
    uint64_t id;
    nx_status st;

    define_begin(d, reader_of(payload.ptr, payload.len), true, false);
    id = reader_uvarint(&d->in);
    if (d->in.bad || id == 0 || id >= UINT32_MAX)
        return nx_fail(err, NX_CORRUPT, "columns of no group");
    st = replay_group(r, (uint32_t)id, &rg, err);
    if (st)
        return st;
    nx_wrlock(&r->h->lock);
    while (reader_left(&d->in) && !st) {
        uint32_t col = 0, from = 0;
        struct memseries *s = NULL;
        st = replay_column(r, &col, &from, &s, err);
        if (!st)
            st = bind(rg->g, col, s->id, from, err);
    }
    nx_rwunlock(&r->h->lock);
    return st;
}

/* ---- seals ------------------------------------------------------------------------------------- */

/* L1. Nearly always it comes last. */
static nx_status add_seal(struct storage_group *g, struct seal *s, struct nx_err *err)
{
    uint32_t kept = 0, at;

    for (uint32_t i = 0; i < g->n_seals; i++) {
        struct seal *old = g->seals[i];
        if (old->first < s->end && s->first < old->end)
            seal_unref(old);
        else
            g->seals[kept++] = old;
    }
    g->n_seals = kept;
    if (!grow(&g->seals, g->n_seals, &g->cap_seals, sizeof(struct seal *), 2))
        return no_memory(err);
    for (at = g->n_seals; at > 0 && g->seals[at - 1]->first > s->first; at--)
        g->seals[at] = g->seals[at - 1];
    g->seals[at] = s;
    g->n_seals++;
    return NX_OK;
}

static nx_status see_seal(void *ctx, uint32_t group, struct seal *s, struct nx_err *err)
{
    struct replay *r = ctx;
    struct storage_group *g = replay_find(r, group)->g;
    int64_t floor_ms = atomic_load(&r->h->floor_ms);
    nx_status st = NX_OK;

    if (g && s->end > g->next_row)
        g->next_row = g->sealed = s->end;
    if (!g || s->max_ms < floor_ms) { /* L2 */
        seal_unref(s);
        return NX_OK;
    }
    st = add_seal(g, s, err);
    if (st) {
        seal_unref(s);
        return st;
    }
    if (s->max_ms > g->newest_ms)
        g->newest_ms = s->max_ms;
    head_saw(r->h, s->max_ms);
    head_saw(r->h, s->min_ms < floor_ms ? floor_ms : s->min_ms);
    return NX_OK;
}

/* ---- loose samples ------------------------------------------------------------------------------- */

/* L4 */
static nx_status see_series(void *ctx, uint32_t file, struct nx_slice payload, struct nx_err *err)
{
    struct replay *r = ctx;

    return replay_loose_series(r, file, reader_of(payload.ptr, payload.len), false, err);
}

static nx_status see_number(void *ctx, uint32_t file, struct loose_batch *b, struct nx_err *err)
{
    const struct replay *r = ctx;

    for (uint32_t i = 0; i < b->n; i++) {
        if (!loose_replay_series(r->loose, file, b->v[i].series, &b->v[i].series))
            return nx_fail(err, NX_CORRUPT, "loose samples of a series that is not told");
    }
    loose_batch_sort(b);
    return NX_OK;
}

static nx_status see_samples(void *ctx, struct loose_batch *b, struct nx_err *err)
{
    struct replay *r = ctx;
    int64_t floor_ms = atomic_load(&r->h->floor_ms);

    if (b->max_ms >= floor_ms) {
        head_saw(r->h, b->max_ms);
        head_saw(r->h, b->min_ms < floor_ms ? floor_ms : b->min_ms);
    }
    return loose_found(r->h->loose, b, err);
}

struct headfile_visitor replay_headfiles(struct replay *r)
{
    return (struct headfile_visitor){r, see_columns, see_seal, see_series, see_number, see_samples};
}

/* ---- homes ------------------------------------------------------------------------------------- */

static nx_status add_home(struct head *h, struct storage_group *g, uint32_t series, uint32_t col,
                          uint32_t from, uint32_t to, struct nx_err *err)
{
    struct memseries *s = index_series(h->ix, series);

    if (!s || g->n_seals == 0)
        return NX_OK;
    return memseries_move(h->ix, s, (struct home){g->slot, col, from, to}, err);
}

static int by_place(const void *a, const void *b)
{
    const struct past *x = a, *y = b;

    if (x->col != y->col)
        return x->col < y->col ? -1 : 1;
    return (x->from > y->from) - (x->from < y->from);
}

/* The seal that begins before `row` and ends behind it; NULL: there is none. */
static const struct seal *seal_around(const struct storage_group *g, uint32_t row)
{
    uint32_t lo = 0, hi = g->n_seals; /* the first one that ends behind it is in [lo, hi] */

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (g->seals[mid]->end <= row)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < g->n_seals && g->seals[lo]->first < row ? g->seals[lo] : NULL;
}

/* Each binding ends where the next of its column begins, or before. L5 */
static void end_past(struct storage_group *g)
{
    if (g->n_past > 1)
        qsort(g->past, g->n_past, sizeof *g->past, by_place);
    for (uint32_t i = 0; i < g->n_past; i++) {
        struct past *p = &g->past[i];
        const struct seal *around;
        if (i + 1 < g->n_past && p[1].col == p->col)
            p->to = p[1].from;
        around = seal_around(g, p->to);
        if (around)
            p->to = around->first;
    }
}

static nx_status add_homes(struct head *h, struct storage_group *g, struct nx_err *err)
{
    nx_status st = NX_OK;

    end_past(g);
    for (uint32_t i = 0; i < g->n_past && !st; i++) {
        const struct past *p = &g->past[i];
        st = add_home(h, g, p->series, p->col, p->from, p->to, err);
    }
    for (uint32_t c = 0; c < g->n_cols && !st; c++) {
        if (g->cols[c].series)
            st = add_home(h, g, g->cols[c].series, c, g->cols[c].from, HOME_OPEN, err);
    }
    if (g->n_seals == 0) { /* as if it had never been bound: what the log defines finds a home */
        for (uint32_t c = 0; c < g->n_cols; c++)
            g->cols[c] = (struct col){0};
    }
    g->n_past = 0;
    return st;
}

nx_status replay_headfiles_end(struct replay *r, struct nx_err *err)
{
    nx_status st = NX_OK;

    nx_wrlock(&r->h->lock);
    for (uint32_t i = 0; i <= r->mask && !st; i++) {
        if (r->groups[i].g)
            st = add_homes(r->h, r->groups[i].g, err);
    }
    nx_rwunlock(&r->h->lock);
    loose_replay_forget(r->loose);
    return st;
}

/* ---- the order of homes -------------------------------------------------------------------------- */

/* The first time of the series there; INT64_MAX: it has no sample. */
static int64_t first_time(struct head *h, const struct home *home)
{
    struct storage_group *g = h->groups[home->group];
    int64_t t_ms = INT64_MAX;

    nx_lock(g->lock);
    for (uint32_t i = 0; i < g->n_seals && t_ms == INT64_MAX; i++) {
        const struct seal *s = g->seals[i];
        if (s->end > home->from && s->first < home->to && seal_has(s, home->col))
            t_ms = s->min_ms;
    }
    if (t_ms == INT64_MAX && g->n_rows && home->to > g->sealed)
        t_ms = g->rows[0]->t_ms; /* there was no memory to seal it */
    nx_unlock(g->lock);
    return t_ms;
}

static void order_homes(struct head *h, struct memseries *s)
{
    uint32_t n = 0, n_old;
    struct home *old = memseries_old(h->ix, s, &n_old);

    for (uint32_t i = 0; i < n_old; i++) { /* insertion: there are few */
        struct home home = old[i];
        int64_t t_ms = first_time(h, &home);
        uint32_t at = n;
        if (t_ms == INT64_MAX)
            continue;
        while (at > 0 && first_time(h, &old[at - 1]) > t_ms) {
            old[at] = old[at - 1];
            at--;
        }
        old[at] = home;
        n++;
    }
    int64_t newest_ms = first_time(h, &s->home);
    if (n && newest_ms == INT64_MAX) {
        s->home = old[--n];
    } else if (n && first_time(h, &old[n - 1]) > newest_ms) {
        struct home home = s->home;
        uint32_t at = n - 1;
        s->home = old[at];
        for (; at > 0 && first_time(h, &old[at - 1]) > newest_ms; at--)
            old[at] = old[at - 1];
        old[at] = home;
    }
    memseries_keep_old(h->ix, s, n);
}

void replay_order_homes(struct head *h)
{
    nx_wrlock(&h->lock);
    for (uint32_t id = 1, end = index_end(h->ix); id < end; id++) {
        struct memseries *s = index_series(h->ix, id);
        if (s && s->old)
            order_homes(h, s);
    }
    nx_rwunlock(&h->lock);
}
