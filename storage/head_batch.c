/* head_batch.c - the series of a selection are read together: a group's rows are looked at once for all of them.
 *
 * WHY     A rule reads few samples of many series. One by one, each costs the locks, the seals that matter, their
 *         timestamps and a miss of the cache for each row; together they share all but their values.
 * SHAPE   The first read of a series of a selection reads all of it, group by group in the order of columns: under
 *         the locks, references on seals and a copy of the tail's columns; then decoded without a lock. What it
 *         gives lies in an arena until the reader goes.
 * RULES   B1  What is read is what head_read() would give (D1 to D4 of head_read.c), to the bit. Where anything is
 *             unusual, a series is left out and read by it: several homes that matter, loose samples, rows that are
 *             not in order of time, damage, many rows.
 *         B2  Of series that are read for their newest value only that one is taken.
 *         B3  A batch is bounded in rows of a group and in bytes; past them series are read one by one.
 *         B4  Who comes while a batch is being made reads on its own.
 *         B5  What was not looked at since the last evaluation is in no cache: where it will be needed is told to the
 *             processor ahead, all of a run at once. A run is decoded when the next one was taken, so that memory has
 *             the time.
 * THREADS `state` of a batch: whoever takes it from NEW makes it; READY is final and what lies there immutable. */
#include "storage/head_batch.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_SERIES 8u         /* fewer are read one by one */
#define BATCH_BYTES  (8u << 20) /* B3, of one batch */
#define MAX_SEALS    16u
#define MAX_ROWS     512u /* of a group, in the seals that matter */
#define MAX_COLS     1024u
#define AHEAD        8u /* series */
#define LINE         64u
#define MOST_LINES   64u /* told ahead of one seal */

enum { NEW, BUSY, READY, NONE };

struct got {
    const int64_t *t;
    const double *v;
    uint32_t n;
    bool ok;
};
struct made {
    int state; /* atomic */
    int64_t mint, maxt;
    int64_t from_ms; /* of rows: what is before is in blocks */
    struct arena *a;
    struct got *got; /* parallel to the list */
};
struct batch {
    struct batch *next;
    const struct series *v;
    size_t n;
    uint32_t *order;     /* places in v, by home */
    struct made made[2]; /* all samples; the newest (B2) */
};

/* ---- which have samples -------------------------------------------------------------------------------- */

/* What `last` has in a column that was bound anew after it is another series's. */
static bool has_rows(const struct storage_group *g, uint32_t from)
{
    return from < g->next_row;
}

static bool in_rows(const struct storage_group *g, const struct home *home, int64_t mint,
                    int64_t maxt)
{
    const uint32_t col = home->col;

    if (!has_rows(g, home->from))
        return false;
    for (uint32_t i = g->n_rows; i-- > 0;) {
        const struct row *row = g->rows[i];
        if (col < row->n && row->t_ms >= mint && row->t_ms <= maxt && !chunk_is_absent(row->v[col]))
            return true;
    }
    return !g->n_rows && g->last && col < g->last->n && g->last->t_ms >= mint &&
           g->last->t_ms <= maxt && !chunk_is_absent(g->last->v[col]);
}

void batch_alive_locked(const struct batches *b, const struct selection *s, int64_t mint,
                        int64_t maxt, uint8_t *alive)
{
    const struct head *h = b->head;
    struct storage_group *g = NULL;
    uint32_t slot = HOME_NONE;

    for (size_t i = 0; i < s->n; i++) {
        const struct memseries *m = index_series(h->ix, s->ids[s->homes[i]]);
        if (i + AHEAD < s->n) /* B5 */
            index_prefetch(h->ix, s->ids[s->homes[i + AHEAD]]);
        if (m->home.group == HOME_NONE || m->home.to != HOME_OPEN)
            continue;
        if (m->home.group != slot) {
            if (g)
                nx_unlock(g->lock);
            slot = m->home.group;
            g = h->groups[slot];
            nx_lock(g->lock);
        }
        if (in_rows(g, &m->home, mint, maxt))
            alive[s->homes[i]] = 1;
    }
    if (g)
        nx_unlock(g->lock);
}

void batch_add(struct batches *b, const struct selection *s, const struct series_list *list,
               const uint32_t *at)
{
    struct batch *x = list->n >= BATCH_SERIES ? calloc(1, sizeof *x) : NULL;
    uint32_t *place = x ? malloc(s->n * sizeof *place) : NULL;
    size_t n = 0;

    if (!place || !(x->order = malloc(list->n * sizeof *x->order))) {
        free(place);
        free(x);
        return;
    }
    memset(place, 0xff, s->n * sizeof *place);
    for (uint32_t i = 0; i < list->n; i++)
        place[at[i]] = i;
    for (size_t i = 0; i < s->n; i++)
        if (place[s->homes[i]] != UINT32_MAX)
            x->order[n++] = place[s->homes[i]];
    free(place);
    x->v = list->v;
    x->n = list->n;
    x->next = b->first;
    __atomic_store_n(&b->first, x, __ATOMIC_RELEASE); /* others may be reading */
}

void batches_done(struct batches *b)
{
    while (b->first) {
        struct batch *x = b->first;
        b->first = x->next;
        arena_free(x->made[0].a);
        arena_free(x->made[1].a);
        free(x->order);
        free(x);
    }
}

/* ---- one group ----------------------------------------------------------------------------------------- */

struct column_of {
    uint32_t col, from;
    uint32_t at; /* in the list */
};

/* A run of series of one group, and what was taken of it under the locks. */
struct run {
    const struct batches *b;
    struct batch *x;
    struct made *m;
    struct work *w;
    struct column_of cols[MAX_COLS];
    uint32_t n_cols;
    struct seal *seals[MAX_SEALS];
    uint32_t from[MAX_SEALS], to[MAX_SEALS]; /* rows of a seal that count */
    uint32_t n_seals, n_sealed;              /* rows of all seals; later of those that count */
    uint32_t n_tail, n_rows;                 /* room for rows; the tail's are the last */
    bool taken;                              /* what is there is to be decoded */
    int64_t *t;
    double *v; /* n_rows for each column */
};

/* Samples of homes before this one are older than all here: none of them counts. */
static bool began_before(const struct storage_group *g, const struct home *home, int64_t mint)
{
    for (uint32_t i = 0; i < g->n_seals && g->seals[i]->max_ms < mint; i++)
        if (g->seals[i]->first >= home->from && seal_has(g->seals[i], home->col))
            return true;
    return false;
}

/* The next series of one group; false at the end. `i` goes on. */
static bool next_run_locked(struct run *r, size_t *i, struct storage_group **g)
{
    const struct head *h = r->b->head;
    uint32_t slot = HOME_NONE;

    r->n_cols = 0;
    for (; *i < r->x->n && r->n_cols < MAX_COLS; ++*i) {
        const uint32_t at = r->x->order[*i];
        const struct memseries *s = index_series(h->ix, (uint32_t)r->x->v[at].ref);
        uint32_t n_old;
        if (!s || s->home.group == HOME_NONE || s->home.to != HOME_OPEN)
            continue;
        if (slot != HOME_NONE && s->home.group != slot)
            break;
        slot = s->home.group;
        (void)memseries_old(h->ix, s, &n_old);
        /* Whether old homes matter is seen below, under the group's lock. */
        r->cols[r->n_cols++] =
            (struct column_of){s->home.col, s->home.from, n_old ? at | 1u << 31 : at};
    }
    *g = slot == HOME_NONE ? NULL : h->groups[slot];
    return r->n_cols > 0;
}

/* B2 */
static bool take_newest_locked(struct run *r, const struct storage_group *g)
{
    struct made *m = r->m;
    const struct row *rows[GROUP_TAIL_ROWS + 1];
    uint32_t n = 0;

    for (uint32_t i = g->n_rows; i-- > 0 && n < GROUP_TAIL_ROWS;)
        if (g->rows[i]->seq <= r->b->seq && g->rows[i]->t_ms >= m->from_ms &&
            g->rows[i]->t_ms <= m->maxt)
            rows[n++] = g->rows[i];
    if (!g->n_rows && g->last && g->last->seq <= r->b->seq && g->last->t_ms >= m->from_ms &&
        g->last->t_ms <= m->maxt)
        rows[n++] = g->last;
    r->t = arena_alloc(m->a, (n + 1) * sizeof *r->t);
    r->v = arena_alloc(m->a, r->n_cols * sizeof *r->v);
    if (!r->t || !r->v)
        return false;
    for (uint32_t i = 0; i < n; i++)
        r->t[i] = rows[i]->t_ms;
    for (uint32_t c = 0; c < r->n_cols; c++) {
        const uint32_t col = r->cols[c].col;
        for (uint32_t i = 0; i < n && has_rows(g, r->cols[c].from); i++) {
            if (col >= rows[i]->n || chunk_is_absent(rows[i]->v[col]))
                continue;
            r->v[c] = rows[i]->v[col];
            m->got[r->cols[c].at & ~(1u << 31)] = (struct got){r->t + i, r->v + c, 1, true};
            break;
        }
    }
    return true;
}

/* B5 */
static void ahead_locked(const struct run *r, const struct storage_group *g)
{
    for (uint32_t i = 0; i < g->n_seals; i++)
        __builtin_prefetch(&g->seals[i]->n_rows);
    for (uint32_t i = 0; i < g->n_rows; i++)
        __builtin_prefetch(&g->rows[i]->v[r->cols[0].col]);
}

/* B5: where the bytes of the columns are, then these. */
static void offsets_ahead(const struct run *r)
{
    for (uint32_t i = 0; i < r->n_seals; i++) {
        const struct seal *s = r->seals[i];
        if (s->file)
            continue;
        if (r->cols[0].col < s->n_cols)
            __builtin_prefetch(&s->off[r->cols[0].col]);
        __builtin_prefetch(&s->off[s->n_cols]);
    }
}

static void bytes_ahead(const struct run *r)
{
    for (uint32_t i = 0; i < r->n_seals && r->n_cols; i++) {
        const struct seal *s = r->seals[i];
        const uint32_t first = r->cols[0].col, last = r->cols[r->n_cols - 1].col;
        const uint8_t *p, *end;
        if (s->file)
            continue;
        __builtin_prefetch(seal_data(s) + s->off[s->n_cols]);
        if (last >= s->n_cols)
            continue;
        p = seal_data(s) + s->off[first];
        end = seal_data(s) + s->off[last + 1];
        if (end - p > (ptrdiff_t)(LINE * MOST_LINES)) /* they lie apart, perhaps */
            continue;
        for (; p < end; p += LINE)
            __builtin_prefetch(p);
    }
}

static bool take_seals_locked(struct run *r, const struct storage_group *g)
{
    int64_t last = INT64_MIN;
    bool good = true;

    r->n_seals = r->n_sealed = 0;
    for (uint32_t i = 0; i < g->n_seals && good; i++) {
        struct seal *s = g->seals[i];
        if (s->max_ms < r->m->from_ms || s->min_ms > r->m->maxt || s->seq_first > r->b->seq)
            continue;
        good = r->n_seals < MAX_SEALS && r->n_sealed + s->n_rows <= MAX_ROWS && s->ascending &&
               s->min_ms > last;
        if (!good)
            break;
        last = s->max_ms;
        r->n_sealed += s->n_rows;
        r->seals[r->n_seals++] = seal_ref(s);
    }
    return good;
}

/* The tail's rows, as the last ones of r->v. */
static bool take_tail_locked(struct run *r, const struct storage_group *g)
{
    const struct row *rows[GROUP_TAIL_ROWS];
    int64_t last = r->n_seals ? r->seals[r->n_seals - 1]->max_ms : INT64_MIN;

    r->n_tail = 0;
    for (uint32_t i = 0; i < g->n_rows && g->rows[i]->seq <= r->b->seq; i++) {
        const struct row *row = g->rows[i];
        if (row->t_ms < r->m->from_ms || row->t_ms > r->m->maxt)
            continue;
        if (row->t_ms <= last || r->n_tail == GROUP_TAIL_ROWS)
            return false;
        last = row->t_ms;
        rows[r->n_tail++] = row;
    }
    r->n_rows = r->n_sealed + r->n_tail;
    r->t = arena_alloc(r->m->a, (r->n_rows + 1) * sizeof *r->t);
    r->v = arena_alloc(r->m->a, ((size_t)r->n_rows * r->n_cols + 1) * sizeof *r->v);
    if (!r->t || !r->v)
        return false;
    for (uint32_t i = 0; i < r->n_tail; i++) {
        const uint32_t at = r->n_sealed + i, n = rows[i]->n;
        r->t[at] = rows[i]->t_ms;
        for (uint32_t c = 0; c < r->n_cols; c++)
            r->v[(size_t)c * r->n_rows + at] =
                r->cols[c].col < n ? rows[i]->v[r->cols[c].col] : chunk_absent();
    }
    return true;
}

/* Those with old homes that matter are left out (B1). */
static void drop_moved_locked(struct run *r, const struct storage_group *g)
{
    uint32_t kept = 0;

    for (uint32_t c = 0; c < r->n_cols; c++) {
        struct column_of *col = &r->cols[c];
        const struct home home = {.col = col->col, .from = col->from};
        if (col->at >> 31 && !began_before(g, &home, r->m->from_ms))
            continue;
        r->cols[kept] = *col;
        r->cols[kept++].at &= ~(1u << 31);
    }
    r->n_cols = kept;
}

/* Timestamps of the rows that count, right before the tail's. */
static bool decode_times(struct run *r)
{
    uint32_t at;

    for (uint32_t i = r->n_seals, end = r->n_sealed; i-- > 0; end = at) {
        const struct seal *s = r->seals[i];
        const uint32_t n = seal_rows_up_to(s, r->b->seq);
        if (work_room(r->w, s->n_rows, 0, NULL) || seal_times(s, r->w->t, r->w->scratch, NULL))
            return false;
        r->from[i] = 0;
        r->to[i] = n;
        while (r->from[i] < n && r->w->t[r->from[i]] < r->m->from_ms)
            r->from[i]++;
        while (r->to[i] > r->from[i] && r->w->t[r->to[i] - 1] > r->m->maxt)
            r->to[i]--;
        at = end - (r->to[i] - r->from[i]);
        memcpy(r->t + at, r->w->t + r->from[i], (end - at) * sizeof *r->t);
    }
    return true;
}

/* Values of one column; false: damage. *n of them count, the last ones of `to`. */
static bool decode_column(struct run *r, const struct column_of *c, double *to, uint32_t *n)
{
    uint32_t end = r->n_sealed;

    for (uint32_t i = r->n_seals; i-- > 0;) {
        const struct seal *s = r->seals[i];
        const uint32_t rows = r->to[i] - r->from[i];
        end -= rows;
        if (!rows)
            continue;
        if (s->end <= c->from || !seal_has(s, c->col)) {
            for (uint32_t k = 0; k < rows; k++)
                to[end + k] = chunk_absent();
            continue;
        }
        double *all = rows == s->n_rows ? to + end : r->w->v;
        if (seal_column(s, c->col, all, r->w->scratch, NULL))
            return false;
        if (all != to + end)
            memcpy(to + end, all + r->from[i], rows * sizeof *to);
    }
    *n = r->n_rows - end;
    return true;
}

static uint32_t count_absent(const double *v, uint32_t n)
{
    uint32_t absent = 0;
    int nans = 0;

    for (uint32_t i = 0; i < n; i++)
        nans |= v[i] != v[i];
    for (uint32_t i = 0; i < n && nans; i++)
        absent += chunk_is_absent(v[i]);
    return absent;
}

/* A column some rows of which have no sample has timestamps of its own. */
static bool compact(struct run *r, const int64_t *t, double *v, uint32_t n, struct got *got)
{
    int64_t *own = arena_alloc(r->m->a, (n + 1) * sizeof *own);
    uint32_t kept = 0;

    if (!own)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (chunk_is_absent(v[i]))
            continue;
        own[kept] = t[i];
        v[kept++] = v[i];
    }
    *got = (struct got){own, v, kept, true};
    return true;
}

static bool decode_run(struct run *r)
{
    if (!decode_times(r))
        return true; /* the reads will tell */
    for (uint32_t c = 0; c < r->n_cols; c++) {
        double *v = r->v + (size_t)c * r->n_rows;
        struct got *got = &r->m->got[r->cols[c].at];
        uint32_t n;
        if (!decode_column(r, &r->cols[c], v, &n))
            continue;
        const int64_t *t = r->t + (r->n_rows - n);
        v += r->n_rows - n;
        if (!count_absent(v, n))
            *got = (struct got){t, v, n, true};
        else if (!compact(r, t, v, n, got))
            return false;
    }
    return true;
}

/* ---- a batch --------------------------------------------------------------------------------------------- */

/* The next run, as far as it needs locks. False: there is no memory for more. */
static bool take_run(struct run *r, size_t *i, bool newest, bool *more)
{
    struct head *h = r->b->head;
    struct storage_group *g = NULL;
    bool memory = true;

    nx_rdlock(&h->lock);
    *more = next_run_locked(r, i, &g);
    if (*more) {
        nx_lock(g->lock);
        if (newest) {
            memory = take_newest_locked(r, g);
        } else {
            ahead_locked(r, g);
            drop_moved_locked(r, g);
            r->taken = take_seals_locked(r, g) && take_tail_locked(r, g);
        }
        nx_unlock(g->lock);
        offsets_ahead(r);
    }
    nx_rwunlock(&h->lock);
    return memory;
}

static bool end_run(struct run *r)
{
    const bool memory = !r->taken || decode_run(r);

    for (uint32_t k = 0; k < r->n_seals; k++)
        seal_unref(r->seals[k]);
    r->n_seals = 0;
    r->taken = false;
    return memory;
}

/* B5 */
static void make_runs(struct run r[2], bool newest)
{
    bool memory = true, more = true;
    size_t i = 0;

    for (unsigned k = 0; memory && more; k ^= 1) {
        memory = take_run(&r[k], &i, newest, &more);
        memory = end_run(&r[k ^ 1]) && memory;
        if (r[k].taken)
            bytes_ahead(&r[k]);
    }
    (void)end_run(&r[0]); /* one of them is the last */
    (void)end_run(&r[1]);
}

static int make(const struct batches *b, struct batch *x, struct made *m, bool newest,
                struct arena_share *share)
{
    struct run *r = malloc(2 * sizeof *r);
    struct work *w;

    m->a = arena_new(BATCH_BYTES);
    if (m->a && share)
        arena_join(m->a, share);
    m->got = m->a ? arena_array(m->a, x->n, sizeof *m->got) : NULL;
    if (!r || !m->got || loose_overlaps(b->head->loose, m->mint, m->maxt)) {
        free(r);
        return NONE;
    }
    w = head_work(b->head);
    for (unsigned k = 0; k < 2; k++) {
        r[k].b = b;
        r[k].x = x;
        r[k].m = m;
        r[k].w = w;
        r[k].n_seals = 0;
        r[k].taken = false;
    }
    if (w)
        make_runs(r, newest);
    head_work_back(b->head, w);
    free(r);
    return READY;
}

bool batch_read(struct batches *b, const struct series *s, int64_t mint, int64_t maxt, bool newest,
                struct arena_share *share, const int64_t **t, const double **v, size_t *n)
{
    struct batch *x = __atomic_load_n(&b->first, __ATOMIC_ACQUIRE);
    struct made *m;
    int state = NEW;

    while (x && !(s >= x->v && s < x->v + x->n))
        x = x->next;
    if (!x)
        return false;
    m = &x->made[newest];
    if (__atomic_compare_exchange_n(&m->state, &state, BUSY, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_ACQUIRE)) {
        m->mint = mint;
        m->maxt = maxt;
        m->from_ms = mint > b->from_ms ? mint : b->from_ms;
        state = make(b, x, m, newest, share);
        __atomic_store_n(&m->state, state, __ATOMIC_RELEASE);
    }
    if (state != READY || m->mint != mint || m->maxt != maxt || !m->got[s - x->v].ok)
        return false;
    *t = m->got[s - x->v].t;
    *v = m->got[s - x->v].v;
    *n = m->got[s - x->v].n;
    return true;
}
