/* head_gc.c - what leaves the head, and what is made smaller in it.
 *
 * RULES   C1  Rows go when a block has them and no reader needs them any more (storage.c sees to both).
 *         C2  A home goes when its column is done and all seals of it have gone; a series goes with its
 *             last home, a group when it is closed and empty and no home is left in it.
 *         C3  Nothing here holds the index for longer than a pass over the series takes. */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "storage/head.h"

/* Calls fn for each group, with its lock held and the index locked for reading. */
static nx_status each_group(struct head *h,
                            nx_status (*fn)(struct storage_group *g, void *ctx, struct nx_err *err),
                            void *ctx, struct nx_err *err)
{
    nx_status st = NX_OK;
    bool end = false;

    for (uint32_t i = 0; !end && !st; i++) {
        nx_rdlock(&h->lock);
        end = i >= h->n_groups;
        struct storage_group *g = end ? NULL : h->groups[i];
        if (g) {
            nx_lock(g->lock);
            st = fn(g, ctx, err);
            nx_unlock(g->lock);
        }
        nx_rwunlock(&h->lock);
    }
    return st;
}

static nx_status seal_before(struct storage_group *g, void *ctx, struct nx_err *err)
{
    const int64_t *before_ms = ctx;

    for (uint32_t i = 0; i < g->n_rows; i++) {
        if (*before_ms == INT64_MAX || g->rows[i]->t_ms < *before_ms)
            return group_seal_locked(g, err);
    }
    return NX_OK;
}

nx_status head_seal(struct head *h, int64_t before_ms, struct nx_err *err)
{
    return each_group(h, seal_before, &before_ms, err);
}

static nx_status drop_before(struct storage_group *g, void *ctx, struct nx_err *err)
{
    const int64_t *before_ms = ctx;

    (void)err;
    group_drop_locked(g, *before_ms);
    return NX_OK;
}

/* ---- series and groups ----------------------------------------------------------------------- */

static bool home_gone(const void *ctx, const struct home *home)
{
    const struct head *h = ctx;
    struct storage_group *g = h->groups[home->group];
    bool gone;

    nx_lock(g->lock);
    if (g->closed && group_empty_locked(g))
        gone = true;
    else
        gone = home->to != HOME_OPEN && home->to <= group_oldest_locked(g);
    nx_unlock(g->lock);
    return gone;
}

/* False when memory ran out before all homes were looked at: then no group may go. */
static bool drop_series_locked(struct head *h)
{
    uint32_t end = index_end(h->ix), *gone = NULL;
    size_t n = 0, cap = 0;
    bool all = true;

    for (uint32_t id = 1; id < end && all; id++) {
        struct memseries *s = index_series(h->ix, id);
        if (!s || !memseries_prune(h->ix, s, home_gone, h)) /* C2 */
            continue;
        s->home.group = HOME_NONE; /* its group may go, whether the series can or not */
        if (loose_holds(h->loose, id))
            continue;
        if (n == cap) {
            cap = cap * 2 + 256;
            uint32_t *more = realloc(gone, cap * sizeof *more);
            if (!more) {
                all = false;
                break;
            }
            gone = more;
        }
        gone[n++] = id;
    }
    n = n ? index_remove(h->ix, gone, n) : 0;
    atomic_fetch_add(&h->series_removed, n);
    free(gone);
    return all;
}

static bool group_gone(struct storage_group *g)
{
    bool gone;

    nx_lock(g->lock);
    gone = g->closed && group_empty_locked(g);
    nx_unlock(g->lock);
    return gone;
}

static void drop_groups_locked(struct head *h)
{
    for (uint32_t i = 0; i < h->n_groups; i++) {
        struct storage_group *g = h->groups[i];
        if (!g || !group_gone(g))
            continue;
        group_free(g);
        h->groups[i] = NULL;
        h->free_slots[h->n_free_slots++] = i;
    }
}

struct lowest {
    int64_t from_ms, min_ms;
};

static void lower(struct lowest *l, int64_t min_ms, int64_t max_ms)
{
    if (max_ms < l->from_ms)
        return;
    if (min_ms < l->from_ms) /* a straggler's seal: as good as exact */
        min_ms = l->from_ms;
    if (min_ms < l->min_ms)
        l->min_ms = min_ms;
}

static nx_status lowest_of(struct storage_group *g, void *ctx, struct nx_err *err)
{
    (void)err;
    for (uint32_t i = 0; i < g->n_seals; i++)
        lower(ctx, g->seals[i]->min_ms, g->seals[i]->max_ms);
    for (uint32_t i = 0; i < g->n_rows; i++)
        lower(ctx, g->rows[i]->t_ms, g->rows[i]->t_ms);
    return NX_OK;
}

int64_t head_lowest(struct head *h, int64_t from_ms)
{
    struct lowest l = {from_ms, INT64_MAX};
    int64_t floor_ms = atomic_load(&h->floor_ms), loose_ms;

    (void)!each_group(h, lowest_of, &l, NULL);
    /* Late ones of before the floor do not make the head begin there. */
    loose_ms = loose_lowest(h->loose, from_ms > floor_ms ? from_ms : floor_ms);
    return loose_ms < l.min_ms ? loose_ms : l.min_ms;
}

void head_drop(struct head *h, int64_t before_ms)
{
    int64_t min_ms, was;

    (void)!each_group(h, drop_before, &before_ms, NULL);
    loose_drop(h->loose, false);
    nx_wrlock(&h->lock);
    if (drop_series_locked(h))
        drop_groups_locked(h);
    nx_rwunlock(&h->lock);
    /* An append meanwhile may lower it further: then that is what stays. */
    was = atomic_load(&h->min_ms);
    min_ms = head_lowest(h, INT64_MIN);
    atomic_compare_exchange_strong(&h->min_ms, &was, min_ms);
    malloc_trim(0);
}

static nx_status count_group(struct storage_group *g, void *ctx, struct nx_err *err)
{
    struct head_counts *c = ctx;

    (void)err;
    c->groups += g->closed ? 0 : 1;
    c->seals += g->n_seals;
    for (uint32_t i = 0; i < g->n_seals; i++)
        c->stored_chunks += g->seals[i]->file ? g->seals[i]->n_cols : 0;
    c->rows += g->n_rows;
    for (uint32_t i = 0; i < g->n_seals; i++) {
        c->bytes += seal_bytes(g->seals[i]);
        c->chunks += g->seals[i]->n_cols;
    }
    c->chunks += g->n_rows ? g->n_cols : 0;
    return NX_OK;
}

void head_get_counts(struct head *h, struct head_counts *out)
{
    struct loose_counts loose;

    *out = (struct head_counts){0};
    (void)!each_group(h, count_group, out, NULL);
    loose_get_counts(h->loose, &loose);
    out->chunks += loose.seals + loose.entries;
    out->stored_chunks += loose.entries;
    out->bytes += loose.bytes;
}
