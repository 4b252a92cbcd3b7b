/* head.c - the newest samples, in memory: groups and columns.
 *
 * SHAPE   A group is a writer's; a series is head-wide and has homes: columns of groups, oldest first,
 *         of which the newest grows. storage_group_column() finds or makes the home:
 *           nobody writes the series        a new column of this group; what the series had before is
 *                                           inherited as the mark that new samples must pass
 *           this group did                  its column again
 *           another open group does         the series moves to a group of its own, which both groups'
 *                                           columns (COL_SHARED) lead to
 * RULES   H1  Homes change under h->lock held for writing. A series' samples ascend from home to home.
 *         H2  A home that ends is closed at the number of the row to come of its group.
 *         H5  A series moves from a group that is being written to one of its own in one step, under both
 *             locks: the newest sample of it that the new group is told of is the last that the old one
 *             took.
 *         H3  A row becomes visible after the log has it, all at once under its group's lock.
 *         H4  Only a series that the index lacks can be refused for want of memory.
 * THREADS locks in order: lock (index), a group's, shared_lock, the log's, pool_lock. A writer that adds
 *         nothing takes its group's lock and the log's alone. */
#include "storage/head.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"

#define POOL_MAX 8u

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "the head");
}

nx_status head_open(struct head **out, int64_t block_ms, struct nx_err *err)
{
    struct head *h = calloc(1, sizeof *h);

    if (!h)
        return no_memory(err);
    nx_rwlock_init(&h->lock, NX_RANK_INDEX);
    nx_mutex_init(&h->shared_lock, NX_RANK_SHARED);
    nx_mutex_init(&h->pool_lock, NX_RANK_STATS);
    h->block_ms = block_ms;
    h->next_wal_id = 1;
    atomic_init(&h->floor_ms, INT64_MIN);
    atomic_init(&h->max_ms, INT64_MIN);
    atomic_init(&h->ring_at_ms, INT64_MAX);
    atomic_init(&h->min_ms, INT64_MAX);
    h->ix = index_new();
    h->loose = loose_new(h, block_ms);
    h->selections = selections_new();
    if (!h->ix || !h->loose || !h->selections) {
        head_close(h);
        return no_memory(err);
    }
    *out = h;
    return NX_OK;
}

static void work_free(struct work *w)
{
    if (!w)
        return;
    chunk_scratch_free(w->scratch);
    buf_done(&w->data);
    buf_done(&w->frames);
    buf_done(&w->payload);
    free(w->v);
    free(w->t);
    free(w->off);
    free(w->staged);
    free(w);
}

void head_close(struct head *h)
{
    if (!h)
        return;
    for (uint32_t i = 0; i < h->n_groups; i++)
        group_free(h->groups[i]);
    while (h->pool) {
        struct work *w = h->pool;
        h->pool = w->next;
        work_free(w);
    }
    free(h->groups);
    free(h->free_slots);
    loose_free(h->loose);
    selections_free(h->selections);
    index_free(h->ix);
    tombs_unref(h->tombs);
    nx_mutex_done(&h->pool_lock);
    nx_mutex_done(&h->shared_lock);
    nx_rwlock_done(&h->lock);
    free(h);
}

/* ---- working memory -------------------------------------------------------------------------- */

struct work *head_work(struct head *h)
{
    struct work *w;

    nx_lock(&h->pool_lock);
    w = h->pool;
    if (w) {
        h->pool = w->next;
        h->n_pool--;
    }
    nx_unlock(&h->pool_lock);
    if (w)
        return w;
    w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    buf_init(&w->data, UINT32_MAX);
    buf_init(&w->frames, 0);
    buf_init(&w->payload, 0);
    w->scratch = chunk_scratch_new();
    if (!w->scratch) {
        work_free(w);
        return NULL;
    }
    return w;
}

void head_work_back(struct head *h, struct work *w)
{
    if (!w)
        return;
    nx_lock(&h->pool_lock);
    if (h->n_pool < POOL_MAX) {
        w->next = h->pool;
        h->pool = w;
        h->n_pool++;
        w = NULL;
    }
    nx_unlock(&h->pool_lock);
    work_free(w);
}

nx_status work_room(struct work *w, size_t n_rows, size_t n_off, struct nx_err *err)
{
    if (n_rows > w->cap_rows) {
        double *v = realloc(w->v, n_rows * sizeof *v);
        if (v)
            w->v = v;
        int64_t *t = v ? realloc(w->t, n_rows * sizeof *t) : NULL;
        if (!t)
            return no_memory(err);
        w->t = t;
        w->cap_rows = (uint32_t)n_rows;
    }
    if (n_off > w->cap_off) {
        uint32_t *off = realloc(w->off, n_off * sizeof *off);
        if (!off)
            return no_memory(err);
        w->off = off;
        w->cap_off = n_off;
    }
    return NX_OK;
}

void head_work_tidy(struct head *h)
{
    nx_lock(&h->pool_lock);
    for (struct work *w = h->pool; w; w = w->next) {
        buf_done(&w->data);
        buf_done(&w->frames);
        buf_done(&w->payload);
    }
    nx_unlock(&h->pool_lock);
}

/* ---- time ------------------------------------------------------------------------------------ */

void head_saw(struct head *h, int64_t t_ms)
{
    int64_t was = atomic_load_explicit(&h->max_ms, memory_order_relaxed);

    while (t_ms > was && !atomic_compare_exchange_weak(&h->max_ms, &was, t_ms))
        ;
    was = atomic_load(&h->ring_at_ms);
    if (was != INT64_MAX && t_ms >= was && /* INT64_MAX: nobody waits */
        atomic_compare_exchange_strong(&h->ring_at_ms, &was, INT64_MAX))
        nx_alarm_ring(h->worker);
    was = atomic_load_explicit(&h->min_ms, memory_order_relaxed);
    while (t_ms < was && !atomic_compare_exchange_weak(&h->min_ms, &was, t_ms))
        ;
}

int64_t head_min_valid(const struct head *h)
{
    int64_t floor_ms = atomic_load(&h->floor_ms), max_ms = atomic_load(&h->max_ms);
    int64_t half = h->block_ms / 2;

    if (max_ms < INT64_MIN + half || max_ms - half < floor_ms)
        return floor_ms;
    return max_ms - half;
}

/* ---- groups ---------------------------------------------------------------------------------- */

static nx_status take_slot_locked(struct head *h, uint32_t *slot, struct nx_err *err)
{
    if (h->n_free_slots) {
        *slot = h->free_slots[--h->n_free_slots];
        return NX_OK;
    }
    if (h->n_groups == h->cap_groups) {
        uint32_t cap = h->cap_groups + h->cap_groups / 2 + 16;
        struct storage_group **groups = realloc(h->groups, cap * sizeof(struct storage_group *));
        if (groups)
            h->groups = groups;
        /* As large as the groups, so that freeing one needs no memory. */
        uint32_t *slots = groups ? realloc(h->free_slots, cap * sizeof *slots) : NULL;
        if (!slots)
            return no_memory(err);
        h->free_slots = slots;
        h->cap_groups = cap;
    }
    h->groups[h->n_groups] = NULL;
    *slot = h->n_groups++;
    return NX_OK;
}

nx_status head_new_group_locked(struct head *h, uint32_t wal_id, struct nx_mutex *lock,
                                struct storage_group **out, struct nx_err *err)
{
    uint32_t slot = 0;
    nx_status st = take_slot_locked(h, &slot, err);

    if (st)
        return st;
    if (!wal_id)
        wal_id = h->next_wal_id;
    if (wal_id >= h->next_wal_id)
        h->next_wal_id = wal_id + 1;
    *out = h->groups[slot] = group_new(h, slot, wal_id, lock);
    if (*out)
        return NX_OK;
    h->free_slots[h->n_free_slots++] = slot;
    return no_memory(err);
}

/* The newest sample in any of these homes, which ascend. */
static nx_status newest_in(struct head *h, const struct home *homes, uint32_t n, bool *found,
                           int64_t *t_ms, double *v, struct nx_err *err)
{
    nx_status st = NX_OK;

    *found = false;
    for (uint32_t i = n; i-- > 0 && !st && !*found;) {
        const struct home *at = &homes[i];
        struct storage_group *g = h->groups[at->group];
        nx_lock(g->lock);
        st = group_newest_locked(g, at->col, at->from, at->to, found, t_ms, v, err);
        nx_unlock(g->lock);
    }
    return st;
}

/* The newest sample in order of a series, in its homes or loose. Under h->lock. */
static nx_status head_newest_locked(struct head *h, const struct memseries *s, bool *found,
                                    int64_t *t_ms, double *v, struct nx_err *err)
{
    uint32_t n_old;
    const struct home *old = memseries_old(h->ix, s, &n_old);
    nx_status st = newest_in(h, &s->home, s->home.group != HOME_NONE, found, t_ms, v, err);

    if (!st && !*found)
        st = newest_in(h, old, n_old, found, t_ms, v, err);
    return st ? st : loose_newest(h->loose, s->id, found, t_ms, v, err);
}

/* ---- columns --------------------------------------------------------------------------------- */

static uint32_t next_row_of(struct storage_group *g)
{
    uint32_t row;

    nx_lock(g->lock);
    row = g->next_row;
    nx_unlock(g->lock);
    return row;
}

/* H2 */
static void end_home(struct head *h, struct memseries *s)
{
    if (s->home.group != HOME_NONE && s->home.to == HOME_OPEN)
        s->home.to = next_row_of(h->groups[s->home.group]);
}

/* Gives `s` a column of its own in g, told what its newest sample is so far. */
static nx_status settle_locked(struct head *h, struct storage_group *g, struct memseries *s,
                               uint32_t *col, struct nx_err *err)
{
    bool found;
    int64_t t_ms = 0;
    double v = 0;
    uint32_t from = 0;
    nx_status st = head_newest_locked(h, s, &found, &t_ms, &v, err);

    if (!st && g->loose)
        st = loose_bind(h->loose, s->id, found, t_ms, v, err);
    if (st)
        return st;
    end_home(h, s);
    nx_lock(g->lock);
    st = group_bind_locked(g, s->id, col, err);
    if (!st) {
        from = g->cols[*col].from;
        if (found && !g->loose)
            st = group_inherit_locked(g, *col, t_ms, v, err);
        if (st)
            (void)group_free_col_locked(g, *col, NULL);
    }
    nx_unlock(g->lock);
    if (!st) {
        st = memseries_move(h->ix, s, (struct home){g->slot, *col, from, HOME_OPEN}, err);
        if (st) {
            nx_lock(g->lock);
            (void)group_free_col_locked(g, *col, NULL);
            nx_unlock(g->lock);
        }
    }
    if (st && g->loose)
        loose_unbind(h->loose, s->id);
    return st;
}

static nx_status lead_room_locked(struct storage_group *g, uint32_t *at, struct nx_err *err)
{
    uint32_t i = 0;

    while (i < g->n_shared && g->shared[i])
        i++;
    if (i == g->cap_shared) {
        uint32_t cap = g->cap_shared * 2 + 4;
        struct storage_group **shared = realloc(g->shared, cap * sizeof(struct storage_group *));
        if (!shared)
            return no_memory(err);
        g->shared = shared;
        g->cap_shared = cap;
    }
    *at = i;
    return NX_OK;
}

/* A column of g that leads to the group `to` of a shared series. */
static nx_status lead_locked(struct storage_group *g, uint32_t col, struct storage_group *to,
                             struct nx_err *err)
{
    uint32_t i = 0;
    nx_status st = lead_room_locked(g, &i, err);

    if (!st)
        st = group_remember_locked(g, col, g->next_row, err);
    if (st)
        return st;
    if (g->loose && g->cols[col].state == COL_OWN)
        loose_unbind(g->head->loose, g->cols[col].series);
    g->shared[i] = to;
    if (i == g->n_shared)
        g->n_shared++;
    g->cols[col].state = COL_SHARED;
    g->all_own = false;
    g->cols[col].from = i;
    return NX_OK;
}

static nx_status add_lead(struct head *h, struct storage_group *g, struct memseries *s,
                          uint32_t *col, struct nx_err *err)
{
    struct storage_group *to = h->groups[s->home.group];
    nx_status st;

    nx_lock(g->lock);
    for (uint32_t c = 0; c < g->n_cols; c++) {
        if (g->cols[c].state == COL_SHARED && g->cols[c].series == s->id) {
            *col = c;
            nx_unlock(g->lock);
            return NX_OK;
        }
    }
    st = group_bind_locked(g, s->id, col, err);
    if (!st)
        st = lead_locked(g, *col, to, err);
    nx_unlock(g->lock);
    if (st)
        return st;
    nx_lock(to->lock);
    to->users++;
    nx_unlock(to->lock);
    return NX_OK;
}

/* H5: `other`, that may be appending all the while, appends to `own` from its next row on. `own` is told
 * what the newest sample is by then; *found, t_ms and v say so of older homes. */
static nx_status hand_over(struct storage_group *other, const struct home *was,
                           struct storage_group *own, uint32_t series, bool found, int64_t t_ms,
                           double v, struct nx_err *err)
{
    bool newer = false;
    nx_status st;

    nx_lock(other->lock);
    st = group_newest_locked(other, was->col, was->from, HOME_OPEN, &newer, &t_ms, &v, err);
    found = found || newer;
    if (!st)
        st = loose_newest(other->head->loose, series, &found, &t_ms, &v, err);
    nx_lock(own->lock);
    if (!st && found)
        st = group_inherit_locked(own, 0, t_ms, v, err);
    if (!st)
        st = lead_locked(other, was->col, own, err);
    own->users = 1;
    nx_unlock(own->lock);
    nx_unlock(other->lock);
    return st;
}

/* The newest sample of a series in the homes before the newest. */
static nx_status newest_before(struct head *h, const struct memseries *s, bool *found,
                               int64_t *t_ms, double *v, struct nx_err *err)
{
    uint32_t n_old;
    const struct home *old = memseries_old(h->ix, s, &n_old);

    return newest_in(h, old, n_old, found, t_ms, v, err);
}

/* Another open group writes `s`: moves it to a group of its own, with a column here and there. */
static nx_status share_locked(struct head *h, struct storage_group *g, struct memseries *s,
                              uint32_t *col, struct nx_err *err)
{
    struct storage_group *other = h->groups[s->home.group], *own;
    const struct home was = s->home;
    bool found = false, moved = false;
    int64_t t_ms = 0;
    double v = 0;
    uint32_t only = 0, n_old;
    struct home *old;
    nx_status st = head_new_group_locked(h, 0, &h->shared_lock, &own, err);

    if (st)
        return st;
    nx_lock(own->lock);
    st = group_bind_locked(own, s->id, &only, err);
    nx_unlock(own->lock);
    if (!st)
        st = newest_before(h, s, &found, &t_ms, &v, err);
    if (!st)
        st = memseries_move(h->ix, s, (struct home){own->slot, only, 0, HOME_OPEN}, err);
    if (!st) {
        moved = true;
        st = hand_over(other, &was, own, s->id, found, t_ms, v, err);
    }
    if (st) {
        if (moved)
            memseries_back(h->ix, s);
        own->closed = true; /* it is empty: it goes with the next head_drop() */
        return st;
    }
    old = memseries_old(h->ix, s, &n_old);
    old[n_old - 1].to = next_row_of(other); /* whatever is appended meanwhile has nothing of it */
    return add_lead(h, g, s, col, err);
}

static nx_status attach_locked(struct head *h, struct storage_group *g, struct memseries *s,
                               uint32_t *col, struct nx_err *err)
{
    struct storage_group *at = s->home.group == HOME_NONE ? NULL : h->groups[s->home.group];
    bool back = false, written;

    if (!at)
        return settle_locked(h, g, s, col, err);
    if (at == g) {
        *col = s->home.col;
        if (s->home.to == HOME_OPEN)
            return NX_OK;
        if (g->loose && loose_bind(h->loose, s->id, false, 0, 0, err))
            return NX_NOMEM;
        nx_lock(g->lock);
        back = group_take_back_locked(g, s->id, *col);
        nx_unlock(g->lock);
        if (back)
            s->home.to = HOME_OPEN;
        return back ? NX_OK : settle_locked(h, g, s, col, err);
    }
    nx_lock(at->lock);
    written = !at->closed && s->home.to == HOME_OPEN;
    nx_unlock(at->lock);
    if (!written)
        return settle_locked(h, g, s, col, err);
    return at->lock == &h->shared_lock ? add_lead(h, g, s, col, err)
                                       : share_locked(h, g, s, col, err);
}

static bool find_own(struct head *h, struct storage_group *g, const struct labels *ls,
                     uint64_t hash, uint32_t *col)
{
    const struct memseries *s;
    bool found;

    nx_rdlock(&h->lock);
    s = index_find(h->ix, ls, hash);
    found = s && s->home.group == g->slot && s->home.to == HOME_OPEN;
    if (found)
        *col = s->home.col;
    nx_rwunlock(&h->lock);
    return found;
}

nx_status storage_group_column(struct storage_group *g, const struct labels *ls, uint32_t *col,
                               bool *created, struct nx_err *err)
{
    struct head *h = g->head;
    uint64_t hash = labels_hash(ls);
    struct memseries *s;
    nx_status st = NX_OK;
    bool fresh = false;
    uint32_t c = 0;

    if (ls->n == 0)
        return nx_fail(err, NX_BADINPUT, "a series without labels");
    if (!find_own(h, g, ls, hash, &c)) {
        nx_wrlock(&h->lock);
        s = index_find(h->ix, ls, hash);
        fresh = !s;
        if (!s)
            st = memory_admit_series(h->memory, err); /* H4 */
        if (!s && !st)
            st = index_add(h->ix, ls, hash, &s, err);
        if (!st)
            st = attach_locked(h, g, s, &c, err);
        nx_rwunlock(&h->lock);
        if (!st && fresh)
            atomic_fetch_add(&h->series_created, 1);
    }
    if (st)
        return st;
    *col = c;
    if (created)
        *created = fresh;
    return NX_OK;
}

/* One column fewer leads to the group of a shared series; the last one closes it. */
static void leave_shared(struct head *h, struct storage_group *to, uint32_t series)
{
    struct memseries *s = index_series(h->ix, series);

    nx_lock(to->lock);
    if (--to->users == 0) {
        if (s && s->home.group == to->slot && s->home.to == HOME_OPEN)
            s->home.to = to->next_row; /* H2 */
        group_close_locked(to);
    }
    nx_unlock(to->lock);
}

/* Under h->lock for writing. */
static void release_locked(struct head *h, struct storage_group *g, uint32_t col)
{
    struct storage_group *to = NULL;
    struct memseries *s;
    uint32_t series;

    nx_lock(g->lock);
    NX_ASSERT(col < g->n_cols && g->cols[col].state != COL_FREE);
    series = g->cols[col].series;
    if (g->cols[col].state == COL_SHARED) {
        to = g->shared[g->cols[col].from];
        g->shared[g->cols[col].from] = NULL;
        g->cols[col].from = g->next_row;
    } else if (g->loose) {
        loose_unbind(h->loose, series);
    }
    (void)group_free_col_locked(g, col, NULL);
    s = index_series(h->ix, series);
    if (!to && s && s->home.group == g->slot && s->home.col == col)
        s->home.to = g->next_row; /* H2 */
    nx_unlock(g->lock);
    if (to)
        leave_shared(h, to, series);
}

void storage_group_release(struct storage_group *g, uint32_t col)
{
    struct head *h = g->head;

    nx_wrlock(&h->lock);
    release_locked(h, g, col);
    nx_rwunlock(&h->lock);
}

nx_status storage_group_move(struct storage_group *from, uint32_t col, struct storage_group *to,
                             uint32_t *out, struct nx_err *err)
{
    struct head *h = from->head;
    struct memseries *s;
    uint32_t c = 0;
    bool shared;
    nx_status st;

    NX_ASSERT(!from->loose && to != from);
    nx_wrlock(&h->lock);
    nx_lock(from->lock);
    NX_ASSERT(col < from->n_cols && from->cols[col].state != COL_FREE);
    shared = from->cols[col].state == COL_SHARED;
    s = index_series(h->ix, from->cols[col].series);
    nx_unlock(from->lock);
    NX_ASSERT_ALWAYS(s != NULL); /* an open column keeps its series */
    st = shared ? attach_locked(h, to, s, &c, err) : settle_locked(h, to, s, &c, err);
    if (!st)
        release_locked(h, from, col);
    else if (!shared)
        s->home.to = HOME_OPEN; /* as it was */
    nx_rwunlock(&h->lock);
    if (!st)
        *out = c;
    return st;
}

void storage_group_close(struct storage_group *g)
{
    struct head *h;

    if (!g)
        return;
    h = g->head;
    nx_lock(g->lock);
    (void)group_seal_locked(g, NULL); /* the long part, while the index is free */
    nx_unlock(g->lock);
    nx_wrlock(&h->lock);
    for (uint32_t c = 0; c < g->n_cols; c++) { /* the writer is gone: cols do not change */
        if (g->cols[c].state == COL_SHARED)
            leave_shared(h, g->shared[g->cols[c].from], g->cols[c].series);
        else if (g->loose && g->cols[c].state == COL_OWN)
            loose_unbind(h->loose, g->cols[c].series);
    }
    nx_lock(g->lock);
    group_close_locked(g);
    nx_unlock(g->lock);
    nx_rwunlock(&h->lock);
}
