/* head_store.c - seals go from memory to chunk files.
 *
 * SHAPE   For each group, runs of seals become one of chunks, which is written; a batch of such is synced;
 *         then what is in memory gives way to what finds it on disk. Then the log needs those rows no more.
 * WHICH   Runs of JOIN_ROWS rows and more, or that can't grow (group.c). And everything that a segment of the
 *         log, up to a given one, is kept for: tails, leftovers of closed groups. So the log stays short.
 * RULES   T1  Nothing in memory changes before the sync (headfile.c, X1). A failure leaves it as it is.
 *         T2  A file defines a group and all its columns before its first seal, and columns bound later before
 *             the first seal that has them.
 * THREADS The worker. Coding is done without a lock; columns are read under the index's and the group's. */
#include <stdlib.h>
#include <string.h>

#include "storage/define.h"
#include "storage/head.h"

#define BATCH_BYTES  (2u << 20) /* synced at a time */
#define DEFINE_BYTES (1u << 20) /* of one record of columns */

struct pending {
    struct storage_group *g;
    struct seal *stored;
};

struct storing {
    struct head *h;
    struct work *w;
    struct pending *v;
    size_t n, cap;
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "storing chunks");
}

/* ---- columns ----------------------------------------------------------------------------------- */

struct defining {
    struct storing *s;
    struct storage_group *g;
    uint32_t from, to; /* bindings of rows in [from, to) */
    size_t head;       /* bytes of the payload that say the group */
    const struct memseries *before;
};

static nx_status end_columns(struct defining *d, struct nx_err *err)
{
    struct buf *p = &d->s->w->payload;
    nx_status st = buf_status(p, err);

    if (!st && p->len > d->head)
        st = headfiles_columns(d->s->h->files, buf_view(p), err);
    p->len = d->head;
    d->before = NULL;
    return st;
}

static nx_status put_binding(struct defining *d, uint32_t col, uint32_t series, uint32_t from,
                             struct nx_err *err)
{
    struct buf *p = &d->s->w->payload;
    const struct memseries *s = index_series(d->s->h->ix, series);

    if (!s || from < d->from || from >= d->to)
        return NX_OK;
    define_put(p, d->s->h->ix, col, &from, s, d->before);
    d->before = s;
    return p->len < DEFINE_BYTES ? NX_OK : end_columns(d, err);
}

/* T2: bindings from row d->from on. */
static nx_status put_bindings_locked(struct defining *d, struct nx_err *err)
{
    struct storage_group *g = d->g;
    struct buf *p = &d->s->w->payload;
    nx_status st = NX_OK;

    buf_clear(p);
    buf_uvarint(p, g->wal_id);
    d->head = p->len;
    for (uint32_t i = 0; i < g->n_past && !st; i++)
        st = put_binding(d, g->past[i].col, g->past[i].series, g->past[i].from, err);
    for (uint32_t c = 0; c < g->n_cols && !st; c++) {
        if (g->cols[c].state != COL_SHARED)
            st = put_binding(d, c, g->cols[c].series, g->cols[c].from, err);
    }
    return st ? st : end_columns(d, err);
}

static nx_status put_columns(struct storing *s, struct storage_group *g, const struct seal *seal,
                             struct nx_err *err)
{
    uint32_t number = headfiles_number(s->h->files);
    struct defining d = {.s = s, .g = g, .to = seal->end};
    nx_status st;

    if (number && g->in_file == number) /* only the worker changes these two */
        d.from = g->in_file_row;
    nx_rdlock(&s->h->lock);
    nx_lock(g->lock);
    st = put_bindings_locked(&d, err);
    nx_unlock(g->lock);
    nx_rwunlock(&s->h->lock);
    if (st)
        return st;
    g->in_file = headfiles_number(s->h->files);
    g->in_file_row = seal->end;
    return NX_OK;
}

/* ---- seals ------------------------------------------------------------------------------------- */

static void forget_pending(struct storing *s)
{
    for (size_t i = 0; i < s->n; i++) {
        seal_unref(s->v[i].stored);
        s->v[i].g->in_file = 0;
    }
    s->n = 0;
}

/* T1 */
static nx_status commit(struct storing *s, struct nx_err *err)
{
    nx_status st = headfiles_sync(s->h->files, err);

    for (size_t i = 0; i < s->n && !st; i++) {
        struct storage_group *g = s->v[i].g;
        nx_lock(g->lock);
        if (group_replace_rows_locked(g, s->v[i].stored))
            group_settle_locked(g);
        else
            seal_unref(s->v[i].stored);
        nx_unlock(g->lock);
    }
    if (!st)
        s->n = 0;
    return st;
}

static nx_status write_run(struct storing *s, struct storage_group *g, struct seal *const *run,
                           uint32_t n, struct nx_err *err)
{
    struct seal *joined = NULL, *stored = NULL;
    nx_status st = NX_OK;

    if (s->n == s->cap) {
        size_t cap = s->cap * 2 + 64;
        struct pending *v = realloc(s->v, cap * sizeof *v);
        if (!v)
            return no_memory(err);
        s->v = v;
        s->cap = cap;
    }
    if (n > 1 || run[0]->light)
        st = seal_join(run, n, s->w, &joined, err);
    if (!st)
        st = put_columns(s, g, joined ? joined : run[0], err);
    if (!st && headfiles_number(s->h->files) != g->in_file) /* no columns, no file yet */
        g->in_file = 0;
    if (!st)
        st = headfiles_seal(s->h->files, g->wal_id, joined ? joined : run[0], &stored, err);
    if (!st)
        s->v[s->n++] = (struct pending){g, stored};
    seal_unref(joined);
    return st;
}

/* The group is needed by the log's segments up to `up_to`: its tail becomes a seal, too. */
static nx_status begin_group(struct head *h, struct storage_group *g, uint32_t up_to, bool *all,
                             struct nx_err *err)
{
    nx_status st = NX_OK;

    nx_lock(g->lock);
    *all = up_to && group_log_needed_locked(g, atomic_load(&h->floor_ms)) <= up_to;
    if (*all && g->n_rows && g->tail_segment <= up_to)
        st = group_seal_locked(g, err);
    nx_unlock(g->lock);
    return st;
}

static nx_status store_group(struct storing *s, struct storage_group *g, uint32_t up_to,
                             struct nx_err *err)
{
    struct seal *run[GROUP_RUN_MAX];
    uint32_t n, from = 0;
    bool all;
    nx_status st = begin_group(s->h, g, up_to, &all, err);

    do {
        nx_lock(g->lock);
        group_take_run_locked(g, from, all, run, &n);
        nx_unlock(g->lock);
        if (n && !st)
            st = write_run(s, g, run, n, err);
        from = n ? run[n - 1]->end : from;
        for (uint32_t i = 0; i < n; i++)
            seal_unref(run[i]);
        if (!st && headfiles_unsynced(s->h->files) >= BATCH_BYTES)
            st = commit(s, err);
    } while (n && !st);
    return st;
}

/* Only the worker frees groups, so the pointer stays good without the index lock. */
static struct storage_group *group_at(struct head *h, uint32_t i, bool *end)
{
    struct storage_group *g;

    nx_rdlock(&h->lock);
    *end = i >= h->n_groups;
    g = *end ? NULL : h->groups[i];
    nx_rwunlock(&h->lock);
    return g;
}

nx_status head_store(struct head *h, uint32_t up_to, void (*between)(void *ctx), void *ctx,
                     struct nx_err *err)
{
    struct storing s = {.h = h, .w = head_work(h)};
    nx_status st = s.w ? NX_OK : no_memory(err);
    bool end = false;

    for (uint32_t i = 0; !end && !st; i++) {
        struct storage_group *g = group_at(h, i, &end);
        size_t pending = s.n;
        if (g)
            st = store_group(&s, g, up_to, err);
        if (s.n < pending && between)
            between(ctx);
    }
    if (!st)
        st = commit(&s, err);
    forget_pending(&s);
    head_work_back(h, s.w);
    free(s.v);
    return st || !up_to ? st : loose_store(h, up_to, between, ctx, err);
}

nx_status head_join(struct head *h, struct nx_err *err)
{
    nx_status st = NX_OK;
    bool end = false;

    for (uint32_t i = 0; !end && !st; i++) {
        struct storage_group *g = group_at(h, i, &end);
        if (g)
            st = group_join_seals(g, err);
    }
    return st;
}

uint32_t head_log_needed(struct head *h, int64_t from_ms)
{
    uint32_t least = loose_log_needed(h->loose);
    bool end = false;

    for (uint32_t i = 0; !end; i++) {
        struct storage_group *g = group_at(h, i, &end);
        uint32_t needed;
        if (!g)
            continue;
        nx_lock(g->lock);
        needed = group_log_needed_locked(g, from_ms);
        nx_unlock(g->lock);
        least = needed < least ? needed : least;
    }
    return least;
}
