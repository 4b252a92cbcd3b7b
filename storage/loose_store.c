/* loose_store.c - loose samples go from memory to chunk files, and are found there at a start.
 *
 * WHY     Else they would stay in memory, and keep the log, until their span becomes a block.
 * SHAPE   When a segment of the log is to be emptied: of each series that it is kept for all there is becomes
 *         seals, which are marked. Then, span by span, the oldest first, and series by series, those of one
 *         series and span become one entry of a batch (headfile_loose.c), in order of time, each time once. A
 *         batch of some thousand series is a record; when a few are synced they take the place of the seals.
 * RULES   V1  Nothing goes from memory before the sync. A failure takes the marks away, and that is all.
 *         V2  A series' seals are marked from its oldest on, up to the first that some reader does not see as
 *             a whole: so what is stored is older than what stays (L1, L6 of loose.c).
 *         V3  Spans are written in order, so that of a pass that was torn off the newer part is missing: the log
 *             has it, and a replay leaves out only samples in order that are not newer than what is stored.
 *         V4  A file says which series a number is before the first batch that has it. A number may be given
 *             to another series when no batch in memory has it.
 * THREADS The worker, one pass at a time. Coding is done without a lock. Entries of series are freed by the
 *         worker alone, so pointers to them stay good. */
#include <stdlib.h>
#include <string.h>

#include "src/base/log.h"
#include "storage/define.h"
#include "storage/grow.h"
#include "storage/head.h"

#define SYNC_BYTES   (2u << 20) /* synced at a time */
#define BATCH_BYTES  (4u << 20) /* of one batch */
#define BATCH_SERIES 4096u
#define ENTRY_ROWS   4096u      /* samples of a series that has more are several entries */
#define DEFINE_BYTES (1u << 20) /* of one record of series */
#define LOCKED       64u        /* series looked at in one go with the lock */

/* Seals of a series and span that are marked. */
struct item {
    struct loose_series *s;
    int64_t span;
};

struct pass {
    struct head *h;
    struct loose *l;
    struct work *w;
    uint32_t up_to;
    struct loose_series **series;
    size_t n_series;
    struct item *items;
    size_t n_items, cap_items;
    size_t committed, written; /* items that are done; that are in records */
    struct loose_batch **made; /* records since the last sync */
    uint32_t n_made, cap_made;
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "storing loose samples");
}

/* ---- what the log is kept for --------------------------------------------------------------------- */

static uint32_t needed_by(const struct loose_series *s)
{
    uint32_t needed = s->n ? s->since : UINT32_MAX;

    for (uint32_t i = 0; i < s->n_seals; i++) {
        if (!s->seals[i]->written && s->seals[i]->segment < needed)
            needed = s->seals[i]->segment;
    }
    return needed;
}

uint32_t loose_log_needed(struct loose *l)
{
    uint32_t needed;

    nx_lock(&l->lock);
    if (l->ask_needed) {
        l->needed = UINT32_MAX;
        for (uint32_t i = 0; i <= l->mask; i++) {
            uint32_t of = l->table[i] ? needed_by(l->table[i]) : UINT32_MAX;
            l->needed = of < l->needed ? of : l->needed;
        }
        l->ask_needed = false;
    }
    needed = l->needed;
    nx_unlock(&l->lock);
    return needed;
}

/* ---- marking ----------------------------------------------------------------------------------------- */

static nx_status find_series(struct pass *p, struct nx_err *err)
{
    struct loose *l = p->l;

    nx_lock(&l->lock);
    p->series = malloc((l->n + 1u) * sizeof(struct loose_series *));
    for (uint32_t i = 0; i <= l->mask && p->series; i++) {
        if (l->table[i] && needed_by(l->table[i]) <= p->up_to)
            p->series[p->n_series++] = l->table[i];
    }
    nx_unlock(&l->lock);
    return p->series ? NX_OK : no_memory(err);
}

static nx_status mark_locked(struct pass *p, struct loose_series *s, struct nx_err *err)
{
    const uint64_t seen = head_seen_by_all(p->h);
    /* What came later stays where it is: V2 holds, and a reader in the way does not make small seals of it. */
    bool asked = s->n && s->since <= p->up_to;
    nx_status st = asked ? loose_seal_all_locked(p->l, s, p->w, err) : NX_OK;

    for (uint32_t i = 0; i < s->n_seals && !st; i++) {
        struct loose_seal *seal = s->seals[i];
        int64_t span = floor_div(seal->min_ms, p->l->block_ms);
        if (seal->written)
            continue;
        if (seal->taken || seal->seq_last > seen) /* V2 */
            break;
        if (p->n_items == p->cap_items) {
            size_t cap = p->cap_items * 2 + 256;
            struct item *more = realloc(p->items, cap * sizeof *more);
            if (!more)
                return no_memory(err);
            p->items = more;
            p->cap_items = cap;
        }
        seal->storing = true;
        p->items[p->n_items++] = (struct item){s, span};
    }
    return st;
}

static int item_cmp(const void *x, const void *y)
{
    const struct item *a = x, *b = y;

    if (a->span != b->span)
        return a->span < b->span ? -1 : 1;
    return a->s->series < b->s->series ? -1 : a->s->series > b->s->series;
}

/* V3 */
static void sort_items(struct pass *p)
{
    size_t kept = 0;

    if (p->n_items)
        qsort(p->items, p->n_items, sizeof *p->items, item_cmp);
    for (size_t i = 0; i < p->n_items; i++) {
        if (!kept || item_cmp(&p->items[kept - 1], &p->items[i]) != 0)
            p->items[kept++] = p->items[i];
    }
    p->n_items = kept;
}

static nx_status mark_all(struct pass *p, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < p->n_series && !st;) {
        nx_lock(&p->l->lock);
        for (unsigned k = 0; k < LOCKED && i < p->n_series && !st; k++)
            st = mark_locked(p, p->series[i++], err);
        nx_unlock(&p->l->lock);
    }
    sort_items(p);
    return st;
}

/* V1 */
static void unmark_all(struct pass *p)
{
    for (size_t i = 0; i < p->n_series;) {
        nx_lock(&p->l->lock);
        for (unsigned k = 0; k < LOCKED && i < p->n_series; k++) {
            struct loose_series *s = p->series[i++];
            for (uint32_t j = 0; j < s->n_seals; j++)
                s->seals[j]->storing = false;
        }
        nx_unlock(&p->l->lock);
    }
}

/* ---- definitions --------------------------------------------------------------------------------------- */

static nx_status end_series(struct pass *p, struct nx_err *err)
{
    struct buf *b = &p->w->payload;
    nx_status st = buf_status(b, err);

    if (!st && b->len)
        st = headfiles_series(p->h->files, buf_view(b), err);
    buf_clear(b);
    return st;
}

/* V4: of items [from, to), those that the file that is written to does not know. */
static nx_status put_series(struct pass *p, size_t from, size_t to, struct nx_err *err)
{
    struct buf *b = &p->w->payload;
    const uint32_t file = headfiles_number(p->h->files);
    const struct memseries *before;
    size_t i = from;
    nx_status st = NX_OK;

    buf_clear(b);
    while (i < to && !st) {
        nx_rdlock(&p->h->lock);
        for (before = NULL; i < to && b->len < DEFINE_BYTES; i++) {
            const struct loose_series *s = p->items[i].s;
            const struct memseries *m = index_series(p->h->ix, s->series);
            NX_ASSERT_ALWAYS(m != NULL); /* what is held here keeps its series */
            if (file && s->in_file == file)
                continue;
            define_put(b, p->h->ix, s->series, NULL, m, before);
            before = m;
        }
        nx_rwunlock(&p->h->lock);
        st = end_series(p, err);
    }
    for (i = from; i < to && !st; i++)
        p->items[i].s->in_file = headfiles_number(p->h->files);
    return st;
}

/* ---- batches ---------------------------------------------------------------------------------------------- */

/* Samples of the marked seals, in order. */
static nx_status read_item(struct pass *p, const struct item *it, struct samples *x,
                           struct nx_err *err)
{
    struct loose *l = p->l;
    struct loose_seal **seals;
    uint32_t n = 0;
    nx_status st = NX_OK;

    nx_lock(&l->lock);
    seals = malloc(it->s->n_seals * sizeof(struct loose_seal *));
    for (uint32_t i = 0; i < it->s->n_seals && seals; i++) {
        struct loose_seal *seal = it->s->seals[i];
        if (seal->storing && floor_div(seal->min_ms, l->block_ms) == it->span)
            seals[n++] = loose_seal_ref(seal);
    }
    nx_unlock(&l->lock);
    if (!seals)
        return no_memory(err);
    x->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!st)
            st = loose_add_seal(seals[i], UINT64_MAX, INT64_MIN, INT64_MAX, p->w, x, err);
        loose_seal_unref(seals[i]);
    }
    free(seals);
    return st;
}

static nx_status put_item(struct pass *p, const struct item *it, struct samples *x,
                          struct nx_err *err)
{
    nx_status st = read_item(p, it, x, err);

    for (size_t at = 0; at < x->n && !st; at += ENTRY_ROWS) {
        uint32_t n = x->n - at < ENTRY_ROWS ? (uint32_t)(x->n - at) : ENTRY_ROWS;
        st = headfiles_samples_add(p->h->files, it->s->series, x->t + at, x->v + at, n,
                                   p->w->scratch, err);
    }
    return st;
}

/* One record, of items from p->written on. */
static nx_status put_batch(struct pass *p, struct nx_err *err)
{
    struct headfiles *files = p->h->files;
    const size_t from = p->written;
    size_t to = from, i = from;
    struct loose_batch *b = NULL;
    struct samples x = {0};
    nx_status st = NX_OK;

    while (to < p->n_items && to - from < BATCH_SERIES && p->items[to].span == p->items[from].span)
        to++;
    if (!grow(&p->made, p->n_made, &p->cap_made, sizeof(struct loose_batch *), 8))
        return no_memory(err);
    st = put_series(p, from, to, err);
    headfiles_samples_begin(files);
    while (i < to && !st && headfiles_samples_bytes(files) < BATCH_BYTES)
        st = put_item(p, &p->items[i++], &x, err);
    if (!st)
        st = headfiles_samples_end(files, &b, err);
    if (!st) {
        loose_batch_sort(b);
        p->made[p->n_made++] = b;
        p->written = i;
    }
    samples_done(&x);
    return st;
}

static nx_status commit(struct pass *p, struct nx_err *err)
{
    struct loose *l = p->l;
    nx_status st = headfiles_sync(p->h->files, err);
    bool room;

    if (st)
        return st;
    nx_lock(&l->lock);
    room = loose_batches_room_locked(l, p->n_made);
    for (uint32_t i = 0; i < p->n_made && room; i++)
        loose_add_batch_locked(l, p->made[i]);
    nx_unlock(&l->lock);
    if (!room)
        return no_memory(err);
    p->n_made = 0;
    while (p->committed <
           p->written) { /* meanwhile samples are there twice, which no reader sees */
        nx_lock(&l->lock);
        for (unsigned k = 0; k < LOCKED && p->committed < p->written; k++) {
            const struct item *it = &p->items[p->committed++];
            loose_stored_locked(l, it->s, it->span);
        }
        nx_unlock(&l->lock);
    }
    return NX_OK;
}

/* Definitions may not have reached the disk. */
static void forget(struct pass *p)
{
    for (uint32_t i = 0; i < p->n_made; i++)
        loose_batch_unref(p->made[i]);
    for (size_t i = 0; i < p->n_series; i++)
        p->series[i]->in_file = 0;
    unmark_all(p);
}

nx_status loose_store(struct head *h, uint32_t up_to, void (*between)(void *ctx), void *ctx,
                      struct nx_err *err)
{
    struct pass p = {.h = h, .l = h->loose, .up_to = up_to};
    nx_status st = NX_OK;

    if (loose_log_needed(h->loose) > up_to || h->block_ms > (int64_t)UINT32_MAX)
        return NX_OK; /* a batch has no more than 49 days */
    p.w = head_work(h);
    if (!p.w)
        return no_memory(err);
    st = find_series(&p, err);
    if (!st)
        st = mark_all(&p, err);
    while (p.written < p.n_items && !st) {
        st = put_batch(&p, err);
        if (!st && headfiles_unsynced(h->files) >= SYNC_BYTES)
            st = commit(&p, err);
        if (!st && between)
            between(ctx);
    }
    if (!st && p.n_made)
        st = commit(&p, err);
    if (st)
        forget(&p);
    head_work_back(h, p.w);
    free(p.series);
    free(p.items);
    free(p.made);
    return st;
}

/* ---- what blocks have ------------------------------------------------------------------------------------ */

bool loose_tell_gone(struct loose *l)
{
    struct loose_batch **v = NULL;
    struct nx_err err = {0};
    size_t n = 0;
    bool any;
    nx_status st = NX_OK;

    nx_lock(&l->lock);
    any = l->gone_untold;
    if (any)
        v = malloc(l->n_batches * sizeof(struct loose_batch *));
    for (uint32_t i = 0; i < l->n_batches && v; i++) {
        if (l->batches[i]->written)
            v[n++] = loose_batch_ref(l->batches[i]);
    }
    nx_unlock(&l->lock);
    if (!any)
        return true;
    st = v ? headfiles_samples_gone(l->head->files, v, n, &err) : no_memory(&err);
    for (size_t i = 0; i < n; i++)
        loose_batch_unref(v[i]);
    free(v);
    if (st) { /* it is tried again */
        log_warn("What blocks have of chunk files could not be noted", "err", err.text);
        return false;
    }
    nx_lock(&l->lock);
    l->gone_untold = false;
    nx_unlock(&l->lock);
    return true;
}

/* ---- a start ------------------------------------------------------------------------------------------------ */

nx_status loose_found(struct loose *l, struct loose_batch *b, struct nx_err *err)
{
    bool room;

    nx_lock(&l->lock);
    room = loose_batches_room_locked(l, 1);
    if (room) {
        loose_add_batch_locked(l, b);
        loose_widen(l, b->min_ms);
        loose_widen(l, b->max_ms);
    }
    nx_unlock(&l->lock);
    if (room)
        return NX_OK;
    loose_batch_unref(b);
    return no_memory(err);
}
