/* head_read.c - samples come out of the head.
 *
 * SHAPE   For each home of a series: under the locks, take references on the seals that matter and copy
 *         the column's part of the tail (at most GROUP_TAIL_ROWS values); then decode without a lock.
 * RULES   D1  A reader sees the appends up to the one that was the newest when it was made, and no later
 *             ones: a row is there for all its series or for none, and a series that moves to another
 *             group meanwhile has no hole. An append takes its number under its groups' locks, so that
 *             one with a number that a reader sees is in place when the reader gets the lock.
 *         D2  The timestamps of a seal are decoded once per reader while it reads many series of a group.
 *         D3  Homes in order, seals in order, rows in order: a series' samples come out ascending. Where a
 *             disk that was damaged or a log that was written twice has it otherwise, the reader puts
 *             them in order, each time once. Loose samples (loose.c) are merged in at the end.
 *         D4  What was deleted before the reader was made is left out, wherever the samples lie.
 *         D5  A damaged page of a chunk file costs its samples; it was counted and logged when it was found. */
#include <stdlib.h>
#include <string.h>

#include "storage/head_batch.h"

#define SHARED_COLUMNS   4u         /* timestamps of seals with as many columns are kept */
#define KEPT_TIMES_BYTES (4u << 20) /* by one reader */
#define MAX_COPIED       64u        /* seals taken at a time */

struct kept_times {
    struct seal *seal; /* a reference; NULL: a hole */
    int64_t *t;
};

struct head_reader {
    struct head *h;
    struct work *w;
    struct kept_times *kept;
    size_t kept_mask, n_kept, kept_bytes;
    int64_t from_ms;                 /* rows before this are not seen */
    bool pending;                    /* of loose samples those that no block has */
    uint64_t seq;                    /* D1: appends up to this one are seen */
    struct tombs *tombs;             /* D4 */
    struct batches batches;          /* of what was selected */
    struct head_reader *next, *prev; /* under h->pool_lock */
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "reading from the head");
}

static void enter(struct head_reader *r)
{
    struct head *h = r->h;

    nx_lock(&h->pool_lock);
    r->seq = r->batches.seq = atomic_load(&h->seq);
    r->tombs = tombs_ref(h->tombs);
    r->next = h->readers;
    if (h->readers)
        h->readers->prev = r;
    h->readers = r;
    nx_unlock(&h->pool_lock);
}

/* As `r` sees things. */
static void enter_beside(struct head_reader *b, struct head_reader *r)
{
    nx_lock(&r->h->pool_lock);
    b->seq = r->seq;
    b->tombs = tombs_ref(r->tombs);
    b->prev = r; /* which stays until b is gone */
    b->next = r->next;
    if (r->next)
        r->next->prev = b;
    r->next = b;
    nx_unlock(&r->h->pool_lock);
}

static void leave(struct head_reader *r)
{
    struct head *h = r->h;

    nx_lock(&h->pool_lock);
    if (r->next)
        r->next->prev = r->prev;
    if (r->prev)
        r->prev->next = r->next;
    else
        h->readers = r->next;
    nx_unlock(&h->pool_lock);
}

uint64_t head_seen_by_all(struct head *h)
{
    uint64_t seq;

    nx_lock(&h->pool_lock);
    seq = atomic_load(&h->seq);
    for (const struct head_reader *r = h->readers; r; r = r->next)
        seq = r->seq < seq ? r->seq : seq;
    nx_unlock(&h->pool_lock);
    return seq;
}

/* Not entered yet. */
static struct head_reader *reader_make(struct head *h)
{
    struct head_reader *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->h = r->batches.head = h;
    r->from_ms = r->batches.from_ms = INT64_MIN;
    r->kept_mask = 15;
    r->w = head_work(h);
    r->kept = calloc(r->kept_mask + 1, sizeof *r->kept);
    if (r->w && r->kept)
        return r;
    head_work_back(h, r->w);
    free(r->kept);
    free(r);
    return NULL;
}

nx_status head_reader_new(struct head_reader **out, struct head *h, struct nx_err *err)
{
    struct head_reader *r = reader_make(h);

    if (!r)
        return no_memory(err);
    enter(r);
    *out = r;
    return NX_OK;
}

struct head_reader *head_reader_beside(struct head_reader *r)
{
    struct head_reader *b = reader_make(r->h);

    if (!b)
        return NULL;
    b->from_ms = r->from_ms;
    b->pending = r->pending;
    enter_beside(b, r);
    return b;
}

void head_reader_skip(struct head_reader *r, int64_t from_ms, bool pending)
{
    r->from_ms = r->batches.from_ms = from_ms;
    r->pending = pending;
}

static void forget_times(struct head_reader *r)
{
    for (size_t i = 0; r->kept && i <= r->kept_mask; i++) {
        seal_unref(r->kept[i].seal);
        free(r->kept[i].t);
        r->kept[i] = (struct kept_times){0};
    }
    r->n_kept = r->kept_bytes = 0;
}

void head_reader_free(struct head_reader *r)
{
    if (!r)
        return;
    leave(r);
    batches_done(&r->batches);
    forget_times(r);
    tombs_unref(r->tombs);
    head_work_back(r->h, r->w);
    free(r->kept);
    free(r);
}

/* ---- timestamps kept ------------------------------------------------------------------------- */

static size_t hash_pointer(const void *p)
{
    uint64_t x = (uint64_t)(uintptr_t)p * 0x9e3779b97f4a7c15ull;

    return (size_t)(x >> 32);
}

static struct kept_times *kept_slot(struct kept_times *v, size_t mask, const struct seal *s)
{
    size_t i = hash_pointer(s) & mask;

    while (v[i].seal && v[i].seal != s)
        i = (i + 1) & mask;
    return &v[i];
}

static bool kept_room(struct head_reader *r)
{
    size_t mask = r->kept_mask * 2 + 1;
    struct kept_times *bigger;

    if (r->n_kept * 2 < r->kept_mask)
        return true;
    bigger = calloc(mask + 1, sizeof *bigger);
    if (!bigger)
        return false;
    for (size_t i = 0; i <= r->kept_mask; i++) {
        if (r->kept[i].seal)
            *kept_slot(bigger, mask, r->kept[i].seal) = r->kept[i];
    }
    free(r->kept);
    r->kept = bigger;
    r->kept_mask = mask;
    return true;
}

/* D2. *t is the reader's, or w->t. */
static nx_status times_of(struct head_reader *r, struct seal *s, const int64_t **t,
                          struct nx_err *err)
{
    struct kept_times *k;
    size_t bytes = s->n_rows * sizeof(int64_t);
    nx_status st;

    *t = r->w->t;
    if (s->n_cols < SHARED_COLUMNS)
        return seal_times(s, r->w->t, r->w->scratch, err);
    k = kept_slot(r->kept, r->kept_mask, s);
    if (k->seal) {
        *t = k->t;
        return NX_OK;
    }
    st = seal_times(s, r->w->t, r->w->scratch, err);
    if (st)
        return st;
    if (r->kept_bytes + bytes > KEPT_TIMES_BYTES)
        forget_times(r);
    if (!kept_room(r))
        return NX_OK; /* it does without */
    k = kept_slot(r->kept, r->kept_mask, s);
    k->t = malloc(bytes);
    if (!k->t)
        return NX_OK;
    memcpy(k->t, r->w->t, bytes);
    k->seal = seal_ref(s);
    r->n_kept++;
    r->kept_bytes += bytes;
    return NX_OK;
}

/* ---- one home -------------------------------------------------------------------------------- */

/* What was taken under the locks. */
struct taken {
    struct seal *seals[MAX_COPIED];
    uint32_t n_seals;
    bool more; /* there are seals after these, from `next` on */
    uint32_t next;
    int64_t t[GROUP_TAIL_ROWS];
    double v[GROUP_TAIL_ROWS];
    uint32_t n_tail;
};

static void take_tail_locked(const struct storage_group *g, uint32_t col, uint64_t seq,
                             int64_t mint, int64_t maxt, struct taken *out)
{
    for (uint32_t i = 0; i < g->n_rows && g->rows[i]->seq <= seq; i++) {
        const struct row *row = g->rows[i];
        if (row->t_ms < mint || row->t_ms > maxt || col >= row->n || chunk_is_absent(row->v[col]))
            continue;
        out->t[out->n_tail] = row->t_ms;
        out->v[out->n_tail++] = row->v[col];
    }
}

static void take_locked(const struct storage_group *g, const struct home *home, uint64_t seq,
                        int64_t mint, int64_t maxt, uint32_t from, struct taken *out)
{
    out->n_seals = out->n_tail = 0;
    out->more = false;
    for (uint32_t i = 0; i < g->n_seals; i++) {
        struct seal *s = g->seals[i];
        if (s->end <= from || s->first >= home->to || s->max_ms < mint || s->min_ms > maxt ||
            s->seq_first > seq || !seal_has(s, home->col))
            continue;
        if (out->n_seals == MAX_COPIED) {
            out->more = true;
            out->next = s->first;
            return;
        }
        out->seals[out->n_seals++] = seal_ref(s);
    }
    if (home->to > g->sealed)
        take_tail_locked(g, home->col, seq, mint, maxt, out);
}

static nx_status decode_seal(struct head_reader *r, struct seal *s, uint32_t col, int64_t mint,
                             int64_t maxt, struct samples *to, struct nx_err *err)
{
    const int64_t *t = NULL;
    size_t n = seal_rows_up_to(s, r->seq);
    nx_status st = work_room(r->w, s->n_rows, 0, err);

    if (!st)
        st = times_of(r, s, &t, err);
    if (!st)
        st = seal_column(s, col, r->w->v, r->w->scratch, err);
    if (st)
        return s->file && st == NX_CORRUPT ? NX_OK : st; /* D5 */
    if (s->ascending)
        return samples_add_rows(to, t, r->w->v, n, mint, maxt, err);
    for (size_t j = 0; j < n && !st; j++) {
        if (t[j] >= mint && t[j] <= maxt && !chunk_is_absent(r->w->v[j]))
            st = samples_add(to, t[j], r->w->v[j], err);
    }
    return st;
}

static nx_status decode_taken(struct head_reader *r, struct taken *k, uint32_t col, int64_t mint,
                              int64_t maxt, struct samples *to, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (uint32_t i = 0; i < k->n_seals && !st; i++)
        st = decode_seal(r, k->seals[i], col, mint, maxt, to, err);
    for (uint32_t i = 0; i < k->n_tail && !st; i++)
        st = samples_add(to, k->t[i], k->v[i], err);
    for (uint32_t i = 0; i < k->n_seals; i++)
        seal_unref(k->seals[i]);
    return st;
}

/* Home number `i` of the series, oldest first; false when there are no more. */
static bool home_at(const struct index *ix, const struct memseries *s, uint32_t i, struct home *out)
{
    uint32_t n;
    const struct home *old = memseries_old(ix, s, &n);

    if (i > n || (i == n && s->home.group == HOME_NONE))
        return false;
    *out = i < n ? old[i] : s->home;
    return true;
}

/* The home after `done` (NULL: the first). Homes may go while a series is read, the oldest first: if
 * `done` is not there any more, all that are there come after it. */
static bool home_after(const struct index *ix, const struct memseries *s, const struct home *done,
                       struct home *out)
{
    struct home at;

    for (uint32_t i = 0; done && home_at(ix, s, i, &at); i++) {
        if (at.group == done->group && at.col == done->col && at.from == done->from)
            return home_at(ix, s, i + 1, out);
    }
    return home_at(ix, s, 0, out);
}

static bool has_home(const struct index *ix, const struct memseries *s, const struct home *home)
{
    struct home at;

    for (uint32_t i = 0; home_at(ix, s, i, &at); i++) {
        if (at.group == home->group && at.col == home->col && at.from == home->from)
            return true;
    }
    return false;
}

/* Samples from `from` on, ascending and each time once (D3). They nearly always are; of two with one time
 * the one that was there first stays. */
static void put_in_order(struct samples *x, size_t from)
{
    size_t n = from + 1;

    while (n < x->n && x->t[n] > x->t[n - 1])
        n++;
    if (n >= x->n)
        return;
    n = from;
    for (size_t i = from; i < x->n; i++) {
        int64_t t = x->t[i];
        double v = x->v[i];
        size_t at = n;
        while (at > from && x->t[at - 1] > t)
            at--;
        if (at > from && x->t[at - 1] == t)
            continue;
        memmove(x->t + at + 1, x->t + at, (n - at) * sizeof *x->t);
        memmove(x->v + at + 1, x->v + at, (n - at) * sizeof *x->v);
        x->t[at] = t;
        x->v[at] = v;
        n++;
    }
    x->n = n;
}

nx_status head_read_all(struct head_reader *r, uint32_t id, int64_t mint, int64_t maxt,
                        struct samples *to, struct nx_err *err)
{
    const size_t first = to->n;
    struct head *h = r->h;
    struct taken k = {.more = false};
    struct home home = {0};
    bool any = false, found = true;
    const int64_t rows_from = mint > r->from_ms ? mint : r->from_ms;
    nx_status st = NX_OK;

    while (!st) { /* D3 */
        const struct memseries *s;
        nx_rdlock(&h->lock);
        s = index_series(h->ix, id);
        k.more = k.more && s && has_home(h->ix, s, &home);
        found = s && (k.more || home_after(h->ix, s, any ? &home : NULL, &home));
        if (found) {
            struct storage_group *g = h->groups[home.group];
            nx_lock(g->lock);
            take_locked(g, &home, r->seq, rows_from, maxt, k.more ? k.next : home.from, &k);
            nx_unlock(g->lock);
        }
        nx_rwunlock(&h->lock);
        if (!found)
            break;
        any = true;
        st = decode_taken(r, &k, home.col, rows_from, maxt, to, err);
    }
    put_in_order(to, first);
    if (!st)
        st = loose_read(h->loose, id, r->seq, r->pending, mint, maxt, to, first, err);
    return st;
}

/* D4 */
nx_status head_read(struct head_reader *r, uint32_t id, int64_t mint, int64_t maxt,
                    struct samples *to, struct nx_err *err)
{
    const size_t first = to->n;
    nx_status st = head_read_all(r, id, mint, maxt, to, err);

    tspans_filter(tombs_of(r->tombs, id), to, first);
    return st;
}

bool head_read_together(struct head_reader *r, const struct series *s, int64_t mint, int64_t maxt,
                        bool newest, struct arena_share *share, struct column *c)
{
    return batch_read(&r->batches, s, mint, maxt, newest, share, &c->t, &c->v, &c->n);
}

const struct tombs *head_reader_tombs(const struct head_reader *r)
{
    return r->tombs;
}

/* ---- selecting ------------------------------------------------------------------------------- */

static bool home_overlaps(struct head *h, const struct home *home, int64_t mint, int64_t maxt)
{
    struct storage_group *g = h->groups[home->group];
    bool overlaps = false;

    nx_lock(g->lock);
    for (uint32_t i = g->n_seals; i-- > 0 && !overlaps;) {
        const struct seal *s = g->seals[i];
        overlaps = s->end > home->from && s->first < home->to && s->max_ms >= mint &&
                   s->min_ms <= maxt && seal_has(s, home->col);
    }
    for (uint32_t i = home->to > g->sealed ? g->n_rows : 0; i-- > 0 && !overlaps;) {
        const struct row *row = g->rows[i];
        overlaps = row->t_ms >= mint && row->t_ms <= maxt && home->col < row->n &&
                   !chunk_is_absent(row->v[home->col]);
    }
    nx_unlock(g->lock);
    return overlaps;
}

static bool series_overlaps(struct head_reader *r, const struct memseries *s, int64_t mint,
                            int64_t maxt)
{
    const int64_t rows_from = mint > r->from_ms ? mint : r->from_ms;
    struct home home;
    uint32_t n_old;

    (void)memseries_old(r->h->ix, s, &n_old);
    for (uint32_t i = n_old + 1; i-- > 0;) { /* the newest first: most queries look there */
        if (home_at(r->h->ix, s, i, &home) && home_overlaps(r->h, &home, rows_from, maxt))
            return true;
    }
    return loose_series_overlaps(r->h->loose, s->id, mint, maxt);
}

/* Matching series with samples in the range, the first `most` of them. */
static nx_status select_locked(struct head_reader *r, const struct matcher *m, size_t n,
                               int64_t mint, int64_t maxt, size_t most, struct arena *a,
                               struct ids *out, struct nx_err *err)
{
    struct postings_source src = index_source(r->h->ix);
    struct ids all;
    uint32_t *kept;
    size_t n_kept = 0;
    nx_status st = postings_select(&src, m, n, a, &all, err);

    if (st)
        return st;
    kept = arena_alloc(a, (all.n < most ? all.n : most) * sizeof *kept);
    if (!kept)
        return arena_failed(a, err);
    for (size_t i = 0; i < all.n && n_kept < most; i++) {
        if (series_overlaps(r, index_series(r->h->ix, all.v[i]), mint, maxt))
            kept[n_kept++] = all.v[i];
    }
    *out = (struct ids){kept, n_kept};
    return NX_OK;
}

/* What is alive of a selection that was made before; `list` is parallel to it. */
static nx_status list_alive_locked(struct head_reader *r, const struct selection *s, int64_t mint,
                                   int64_t maxt, const struct label_names *only, struct arena *a,
                                   struct series_list *out, struct nx_err *err)
{
    const struct index *ix = r->h->ix;
    const int64_t rows_from = mint > r->from_ms ? mint : r->from_ms;
    uint8_t *alive = calloc(s->n + 1, 1);
    uint32_t *ids = malloc((s->n + 1) * 2 * sizeof *ids), *at = ids + s->n, n = 0;
    nx_status st = alive && ids ? NX_OK : no_memory(err);

    if (!st)
        batch_alive_locked(&r->batches, s, rows_from, maxt, alive);
    for (uint32_t i = 0; i < s->n && !st; i++) {
        if (!alive[i] && !series_overlaps(r, index_series(ix, s->ids[i]), mint, maxt))
            continue;
        ids[n] = s->ids[i];
        at[n++] = i;
    }
    if (!st)
        st = index_labels_sorted(ix, (struct ids){ids, n}, only, a, out, err);
    if (!st)
        batch_add(&r->batches, s, out, at);
    free(alive);
    free(ids);
    return st;
}

/* The selection is kept as a whole: what of it is alive is another question each time. */
static nx_status keep_locked(struct head_reader *r, const struct matcher *m, size_t n,
                             struct ids all, const struct selection **out, struct nx_err *err)
{
    struct selections *kept = r->h->selections;
    uint32_t *ids = malloc((all.n + 1) * sizeof *ids);
    nx_status st = ids ? NX_OK : no_memory(err);

    if (!st) {
        memcpy(ids, all.v ? all.v : ids, all.n * sizeof *ids);
        st = index_sort(r->h->ix, ids, all.n, err);
    }
    if (!st)
        *out = selections_tell_locked(kept, r->h->ix, m, n, (struct ids){ids, all.n});
    free(ids);
    return st;
}

static nx_status select_kept_locked(struct head_reader *r, const struct matcher *m, size_t n,
                                    int64_t mint, int64_t maxt, const struct label_names *only,
                                    struct arena *a, bool *done, struct series_list *out,
                                    struct nx_err *err)
{
    struct postings_source src = index_source(r->h->ix);
    bool ask = false;
    const struct selection *s = selections_find_locked(r->h->selections, r->h->ix, m, n, &ask);
    nx_status st = NX_OK;

    if (!s && ask) {
        struct ids all;
        st = postings_select(&src, m, n, a, &all, err);
        if (!st)
            st = keep_locked(r, m, n, all, &s, err);
    }
    *done = s != NULL;
    if (s && !st)
        st = list_alive_locked(r, s, mint, maxt, only, a, out, err);
    selection_unref(s);
    return st;
}

nx_status head_select(struct head_reader *r, const struct matcher *m, size_t n, int64_t mint,
                      int64_t maxt, size_t most, const struct label_names *only, struct arena *a,
                      struct series_list *out, struct nx_err *err)
{
    struct ids ids = {0};
    bool done = false;
    nx_status st = NX_OK;

    nx_rdlock(&r->h->lock);
    if (most == SIZE_MAX && !r->tombs)
        st = select_kept_locked(r, m, n, mint, maxt, only, a, &done, out, err);
    if (!st && !done)
        st = select_locked(r, m, n, mint, maxt, r->tombs ? SIZE_MAX : most, a, &ids, err);
    if (!st && !done)
        st = index_labels(r->h->ix, ids, a, out, err);
    nx_rwunlock(&r->h->lock);
    return st || !r->tombs ? st : head_drop_dead(r, mint, maxt, out, err);
}

/* Which series of a selection a list of labels is about: told for those alone that could add to it. */
struct alive {
    struct head_reader *r;
    int64_t mint, maxt;
};

static bool is_alive(void *ctx, const struct memseries *s)
{
    const struct alive *x = ctx;

    return series_overlaps(x->r, s, x->mint, x->maxt);
}

/* `name` NULL: names, else its values. */
static nx_status list_locked(struct head_reader *r, const struct nx_slice *name,
                             const struct matcher *m, size_t n, struct alive *alive, size_t limit,
                             struct arena *a, struct nx_slice **out, size_t *n_out,
                             struct nx_err *err)
{
    struct index *ix = r->h->ix;
    struct postings_source src = index_source(ix);
    struct index_pick of = {.want = is_alive, .ctx = alive};
    nx_status st = n ? postings_select(&src, m, n, a, &of.ids, err) : NX_OK;

    if (st)
        return st;
    return name ? index_label_values(ix, *name, n ? &of : NULL, limit, a, out, n_out, err)
                : index_label_names(ix, n ? &of : NULL, limit, a, out, n_out, err);
}

static nx_status list_labels(struct head_reader *r, const struct nx_slice *name,
                             const struct matcher *m, size_t n, int64_t mint, int64_t maxt,
                             size_t limit, struct arena *a, struct nx_slice **out, size_t *n_out,
                             struct nx_err *err)
{
    struct alive alive = {r, mint, maxt};
    nx_status st;

    if (r->tombs)
        return head_list_alive(r, name, m, n, mint, maxt, a, out, n_out, err);
    nx_rdlock(&r->h->lock);
    st = list_locked(r, name, m, n, &alive, limit, a, out, n_out, err);
    nx_rwunlock(&r->h->lock);
    return st;
}

nx_status head_label_names(struct head_reader *r, const struct matcher *m, size_t n, int64_t mint,
                           int64_t maxt, size_t limit, struct arena *a, struct nx_slice **out,
                           size_t *n_out, struct nx_err *err)
{
    return list_labels(r, NULL, m, n, mint, maxt, limit, a, out, n_out, err);
}

nx_status head_label_values(struct head_reader *r, struct nx_slice name, const struct matcher *m,
                            size_t n, int64_t mint, int64_t maxt, size_t limit, struct arena *a,
                            struct nx_slice **out, size_t *n_out, struct nx_err *err)
{
    return list_labels(r, &name, m, n, mint, maxt, limit, a, out, n_out, err);
}

/* ---- for a flush ----------------------------------------------------------------------------- */

nx_status head_sorted(struct head_reader *r, int64_t mint, int64_t maxt, uint32_t **ids, size_t *n,
                      struct nx_err *err)
{
    struct head *h = r->h;
    nx_status st;
    size_t kept = 0;
    uint32_t *v;

    nx_rdlock(&h->lock);
    v = malloc((index_count(h->ix) + 1) * sizeof *v);
    for (uint32_t id = 1, end = index_end(h->ix); v && id < end; id++) {
        const struct memseries *s = index_series(h->ix, id);
        if (s && series_overlaps(r, s, mint, maxt))
            v[kept++] = id;
    }
    st = v ? index_sort(h->ix, v, kept, err) : no_memory(err);
    nx_rwunlock(&h->lock);
    if (st) {
        free(v);
        return st;
    }
    *ids = v;
    *n = kept;
    return NX_OK;
}

nx_status head_labels(struct head_reader *r, uint32_t id, struct arena *a, struct labels *out,
                      struct nx_err *err)
{
    struct series_list list;
    nx_status st;

    nx_rdlock(&r->h->lock);
    if (index_series(r->h->ix, id))
        st = index_labels(r->h->ix, (struct ids){&id, 1}, a, &list, err);
    else
        st = nx_fail(err, NX_NOTFOUND, "series %u", id);
    nx_rwunlock(&r->h->lock);
    if (!st)
        *out = list.v[0].labels;
    return st;
}
