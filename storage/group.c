/* group.c - rows of one writer in memory.
 *
 * WHY     An append must touch little memory and in order; a reader wants columns. So rows are kept as
 *         they come, a few of them, and turned into columns many at a time.
 * SHAPE   rows[0..n_rows)  the tail; `last` outlives sealing, since the log tells the next row by it
 *         seals[]          in the order of their rows' numbers
 * RULES   G1  A column is bound to one series per seal. A freed column is bound anew only after the
 *             tail that may hold samples of its old series was sealed.
 *         G2  Seals are joined only if no column changed its series between them.
 *         G3  A row newer than newest_ms is newer than every sample of every series the group writes,
 *             also of those inherited from other groups: it needs no judging.
 *         G4  A seal covers rows of one block's span only (the head seals before a row of another), so
 *             that a flush can drop whole seals. A straggler may break this; readers then skip rows.
 *         G5  A reader sees the appends up to the one that was the newest when it began. A
 *             seal that some open reader does not see all of keeps the number of each row's append, and
 *             is not joined or stored before that reader is gone.
 *         G6  Seals are stored in the order of their rows: what is before the first that is not, is.
 *         G7  Whose a column was is known (cols, past) as long as rows from then are not stored.
 * THREADS The writer and readers meet at g->lock; coding at a seal is done under it (a few rows), joining
 *         of seals is not. */
#include "storage/group.h"

#include <stdlib.h>
#include <string.h>

#include "storage/grow.h"
#include "storage/head.h"
#include "storage/wal_row.h"

#define JOIN_ROWS 128u /* a seal of at least this many rows grows no further */
#define MAX_COLS  (1u << 22)

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "the head");
}

/* ---- sealing ---------------------------------------------------------------------------------- */

/* What the log's states know of the column. */
static unsigned digits_of(const struct storage_group *g, uint32_t col)
{
    return g->states && col < g->n_cols ? wal_pack_digits(g->states[col]) : 0;
}

static nx_status code_tail(struct storage_group *g, struct work *w, struct seal **out,
                           struct nx_err *err)
{
    struct sealing b = {
        .w = w, .light = true, .keeps_seq = head_seen_by_all(g->head) < g->last->seq};
    uint32_t n_cols = 0;
    int64_t t[GROUP_TAIL_ROWS];
    double v[GROUP_TAIL_ROWS];
    nx_status st;

    for (uint32_t i = 0; i < g->n_rows; i++) {
        t[i] = g->rows[i]->t_ms;
        n_cols = g->rows[i]->n > n_cols ? g->rows[i]->n : n_cols;
    }
    st = sealing_begin(&b, g->n_rows, n_cols, err);
    for (uint32_t c = 0; c < n_cols && !st; c++) {
        for (uint32_t i = 0; i < g->n_rows; i++)
            v[i] = c < g->rows[i]->n ? g->rows[i]->v[c] : chunk_absent();
        st = sealing_column(&b, c, v, digits_of(g, c), err);
    }
    return st ? st : sealing_end(&b, t, out, err);
}

/* Series that have a sample of their own in a seal need the inherited one no more. */
static void forget_inherited(struct storage_group *g, const struct seal *s)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < g->n_inherited; i++) {
        uint32_t c = g->inherited[i].col;
        if (!seal_has(s, c))
            g->inherited[kept++] = g->inherited[i];
    }
    g->n_inherited = kept;
    if (kept == 0) {
        free(g->inherited);
        g->inherited = NULL;
        g->cap_inherited = 0;
    }
}

nx_status group_seal_locked(struct storage_group *g, struct nx_err *err)
{
    struct work *w;
    struct seal *s = NULL;
    nx_status st;

    NX_ASSERT(nx_mutex_held(g->lock));
    if (g->n_rows == 0)
        return NX_OK;
    if (!grow(&g->seals, g->n_seals, &g->cap_seals, sizeof(struct seal *), 2))
        return no_memory(err);
    w = head_work(g->head);
    st = w ? code_tail(g, w, &s, err) : no_memory(err);
    head_work_back(g->head, w);
    if (st)
        return st;
    s->first = g->sealed;
    s->end = g->sealed = g->next_row;
    s->seq_first = g->rows[0]->seq;
    s->seq_last = g->last->seq;
    for (uint32_t i = 0; s->keeps_seq && i < g->n_rows; i++) {
        uint64_t after = g->rows[i]->seq - s->seq_first;
        s->off[s->n_cols + 2 + i] = after < UINT32_MAX ? (uint32_t)after : UINT32_MAX;
    }
    s->segment = g->tail_segment;
    s->epoch = (uint32_t)head_wal_epoch(g->head);
    s->rebound = g->rebound;
    g->rebound = false;
    g->seals[g->n_seals++] = s;
    for (uint32_t i = 0; i + 1 < g->n_rows; i++)
        free(g->rows[i]); /* the last row stays as g->last */
    g->n_rows = 0;
    forget_inherited(g, s);
    return NX_OK;
}

/* ---- runs of seals ----------------------------------------------------------------------------- */

/* G2, G4, G5: `s` does not go into one seal with `prev`, which is before it. */
static bool is_apart(const struct storage_group *g, const struct seal *prev, const struct seal *s,
                     uint64_t seen)
{
    int64_t span = g->head->block_ms;

    return s->rebound || s->seq_last > seen || prev->seq_last > seen ||
           floor_div(s->min_ms, span) != floor_div(prev->min_ms, span);
}

void group_take_run_locked(struct storage_group *g, uint32_t from, bool all,
                           struct seal *run[GROUP_RUN_MAX], uint32_t *n)
{
    uint64_t seen = head_seen_by_all(g->head);
    uint32_t rows = 0, i = 0;

    NX_ASSERT(nx_mutex_held(g->lock));
    *n = 0;
    while (i < g->n_seals && (g->seals[i]->file || g->seals[i]->first < from))
        i++;
    for (; i < g->n_seals && *n < GROUP_RUN_MAX; i++) {
        struct seal *s = g->seals[i];
        bool apart = *n && (is_apart(g, run[*n - 1], s, seen) ||
                            rows + s->n_rows > JOIN_ROWS + GROUP_TAIL_ROWS);
        if (s->seq_last > seen && !*n)
            return; /* G5 */
        if (rows >= JOIN_ROWS || apart) {
            all = true; /* it will not grow */
            break;
        }
        run[(*n)++] = s;
        rows += s->n_rows;
    }
    if (!all && rows < JOIN_ROWS && *n < GROUP_RUN_MAX)
        *n = 0;
    for (i = 0; i < *n; i++)
        (void)seal_ref(run[i]);
}

bool group_replace_rows_locked(struct storage_group *g, struct seal *by)
{
    uint32_t at = 0, n = 0;

    NX_ASSERT(nx_mutex_held(g->lock));
    while (at < g->n_seals && g->seals[at]->first != by->first)
        at++;
    while (at + n < g->n_seals && g->seals[at + n]->end <= by->end && !g->seals[at + n]->file)
        n++;
    if (n == 0 || g->seals[at + n - 1]->end != by->end)
        return false; /* a flush has dropped some of it */
    for (uint32_t i = at; i < at + n; i++)
        seal_unref(g->seals[i]);
    g->seals[at] = by;
    g->n_seals -= n - 1;
    memmove(&g->seals[at + 1], &g->seals[at + n], (g->n_seals - at - 1) * sizeof(struct seal *));
    return true;
}

nx_status group_join_seals(struct storage_group *g, struct nx_err *err)
{
    struct seal *run[GROUP_RUN_MAX], *joined = NULL;
    uint32_t n, from = 0;
    nx_status st = NX_OK;

    do {
        nx_lock(g->lock);
        group_take_run_locked(g, from, false, run, &n);
        nx_unlock(g->lock);
        if (n > 1) {
            struct work *w = head_work(g->head);
            st = w ? seal_join(run, n, w, &joined, err) : no_memory(err);
            head_work_back(g->head, w);
        }
        if (n > 1 && !st) {
            nx_lock(g->lock);
            if (!group_replace_rows_locked(g, joined))
                seal_unref(joined);
            nx_unlock(g->lock);
        }
        from = n ? run[n - 1]->end : from;
        for (uint32_t i = 0; i < n; i++)
            seal_unref(run[i]);
    } while (n && !st);
    return st;
}

/* Rows before this one are in chunk files (or gone). */
static uint32_t group_unstored_locked(const struct storage_group *g)
{
    for (uint32_t i = 0; i < g->n_seals; i++) {
        if (!g->seals[i]->file)
            return g->seals[i]->first;
    }
    return g->sealed;
}

uint32_t group_log_needed_locked(const struct storage_group *g, int64_t from_ms)
{
    NX_ASSERT(nx_mutex_held(g->lock));
    for (uint32_t i = 0; i < g->n_seals; i++) {
        if (!g->seals[i]->file && g->seals[i]->max_ms >= from_ms)
            return g->seals[i]->segment;
    }
    return g->n_rows ? g->tail_segment : UINT32_MAX;
}

nx_status group_remember_locked(struct storage_group *g, uint32_t col, uint32_t to,
                                struct nx_err *err)
{
    const struct col *c = &g->cols[col];

    if (!c->series || c->from >= to || group_unstored_locked(g) >= to)
        return NX_OK;
    if (!grow(&g->past, g->n_past, &g->cap_past, sizeof *g->past, 2))
        return no_memory(err);
    g->past[g->n_past++] = (struct past){col, c->series, c->from, to};
    return NX_OK;
}

void group_settle_locked(struct storage_group *g)
{
    uint32_t unstored = group_unstored_locked(g), kept = 0;

    NX_ASSERT(nx_mutex_held(g->lock));
    for (uint32_t i = 0; i < g->n_past; i++) {
        if (g->past[i].to > unstored)
            g->past[kept++] = g->past[i];
    }
    g->n_past = kept;
    if (kept == 0) {
        free(g->past);
        g->past = NULL;
        g->cap_past = 0;
    }
    if (g->closed && unstored == g->next_row) {
        free(g->cols);
        g->cols = NULL;
        g->n_cols = g->cap_cols = 0;
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

struct storage_group *group_new(struct head *h, uint32_t slot, uint32_t wal_id,
                                struct nx_mutex *lock)
{
    struct storage_group *g = calloc(1, sizeof *g);

    if (!g)
        return NULL;
    nx_mutex_init(&g->own, NX_RANK_GROUP);
    g->head = h;
    g->slot = slot;
    g->wal_id = wal_id;
    g->lock = lock ? lock : &g->own;
    g->newest_ms = INT64_MIN;
    return g;
}

void group_free(struct storage_group *g)
{
    if (!g)
        return;
    if (g->n_rows == 0)
        free(g->last);
    for (uint32_t i = 0; i < g->n_rows; i++)
        free(g->rows[i]);
    for (uint32_t i = 0; i < g->n_seals; i++)
        seal_unref(g->seals[i]);
    free(g->rows);
    free(g->seals);
    free(g->cols);
    free(g->states);
    free(g->free_cols);
    free(g->shared);
    free(g->inherited);
    free(g->past);
    free(g->undefined);
    nx_mutex_done(&g->own);
    free(g);
}

void group_close_locked(struct storage_group *g)
{
    NX_ASSERT(nx_mutex_held(g->lock));
    g->closed = true;
    if (group_seal_locked(g, NULL))
        return; /* no memory: the tail is read as it is */
    free(g->rows);
    free(g->last);
    free(g->states);
    free(g->free_cols);
    free(g->undefined);
    g->rows = NULL;
    g->last = NULL;
    g->states = NULL;
    g->free_cols = NULL;
    g->undefined = NULL;
    g->n_free = g->cap_free = 0;
    g->n_undefined = g->cap_undefined = g->cap_rows = 0;
    group_settle_locked(g); /* its columns stay until all rows are stored */
}

/* ---- columns --------------------------------------------------------------------------------- */

static nx_status cols_room(struct storage_group *g, uint32_t n, struct nx_err *err)
{
    uint32_t cap = g->cap_cols;

    while (cap < n)
        cap += cap / 4 + 2;
    if (cap == g->cap_cols)
        return NX_OK;
    wal_pack_state *states = realloc(g->states, cap * sizeof *states);
    if (states)
        g->states = states;
    struct col *cols = states ? realloc(g->cols, cap * sizeof *cols) : NULL;
    if (!cols)
        return no_memory(err);
    g->cols = cols;
    g->cap_cols = cap;
    return NX_OK;
}

nx_status group_cols_room(struct storage_group *g, uint32_t n, struct nx_err *err)
{
    nx_status st;

    if (n > MAX_COLS)
        return nx_fail(err, NX_CORRUPT, "a column of number %u", n - 1);
    st = cols_room(g, n, err);
    for (; g->n_cols < n && !st; g->n_cols++) {
        g->all_own = false;
        g->cols[g->n_cols] = (struct col){0};
        g->states[g->n_cols] = 0;
    }
    return st;
}

static void bind_col(struct storage_group *g, uint32_t series, uint32_t col)
{
    g->cols[col] = (struct col){.series = series, .from = g->next_row, .state = COL_OWN};
    g->undefined[g->n_undefined++] = col;
}

nx_status group_bind_locked(struct storage_group *g, uint32_t series, uint32_t *col,
                            struct nx_err *err)
{
    NX_ASSERT(nx_mutex_held(g->lock));
    if (!grow(&g->undefined, g->n_undefined, &g->cap_undefined, sizeof *g->undefined, 2))
        return no_memory(err);
    if (g->loose)
        g->sealed = ++g->next_row; /* no row comes, but a home is known by its number */
    if (g->n_free && g->free_cols[0].row <= g->sealed) { /* G1 */
        nx_status st =
            g->loose ? NX_OK
                     : group_remember_locked(g, g->free_cols[0].col, g->free_cols[0].row, err);
        if (st)
            return st;
        *col = g->free_cols[0].col;
        g->n_free--;
        memmove(g->free_cols, g->free_cols + 1, g->n_free * sizeof *g->free_cols);
        g->rebound = true;
    } else {
        if (g->n_cols >= MAX_COLS)
            return nx_fail(err, NX_LIMIT, "a group of more than %u series", MAX_COLS);
        nx_status st = cols_room(g, g->n_cols + 1, err);
        if (st)
            return st;
        g->states[g->n_cols] = 0; /* one that is bound anew keeps its own, as in a reader */
        *col = g->n_cols++;
    }
    bind_col(g, series, *col);
    if (g->loose)
        g->n_undefined = 0; /* the log knows its series otherwise */
    return NX_OK;
}

nx_status group_bind_at_locked(struct storage_group *g, uint32_t series, uint32_t col,
                               struct nx_err *err)
{
    nx_status st = NX_OK;

    NX_ASSERT(nx_mutex_held(g->lock));
    if (col < g->n_cols && g->cols[col].series)
        st = group_seal_locked(g, err); /* G1 */
    if (!st && col < g->n_cols)
        st = group_remember_locked(g, col, g->next_row, err);
    if (!st)
        st = group_cols_room(g, col + 1, err);
    if (!st && !grow(&g->undefined, g->n_undefined, &g->cap_undefined, sizeof *g->undefined, 2))
        st = no_memory(err);
    if (st)
        return st;
    g->rebound = g->rebound || g->cols[col].series != 0;
    bind_col(g, series, col);
    g->n_undefined = 0; /* a replayed group is never written again */
    return NX_OK;
}

nx_status group_free_col_locked(struct storage_group *g, uint32_t col, struct nx_err *err)
{
    NX_ASSERT(nx_mutex_held(g->lock));
    g->cols[col].state = COL_FREE;
    g->all_own = false;
    if (!grow(&g->free_cols, g->n_free, &g->cap_free, sizeof *g->free_cols, 2))
        return no_memory(err);
    g->free_cols[g->n_free++] = (struct free_col){col, g->next_row};
    return NX_OK;
}

bool group_take_back_locked(struct storage_group *g, uint32_t series, uint32_t col)
{
    NX_ASSERT(nx_mutex_held(g->lock));
    if (g->cols[col].state != COL_FREE || g->cols[col].series != series)
        return false;
    if (!grow(&g->undefined, g->n_undefined, &g->cap_undefined, sizeof *g->undefined, 2))
        return false; /* it gets another column, or the error there */
    for (uint32_t i = 0; i < g->n_free; i++) {
        if (g->free_cols[i].col != col)
            continue;
        g->n_free--;
        memmove(&g->free_cols[i], &g->free_cols[i + 1], (g->n_free - i) * sizeof *g->free_cols);
        g->cols[col].state = COL_OWN;
        g->undefined[g->n_undefined++] = col; /* a segment begun meanwhile left it out */
        return true;
    }
    return false;
}

nx_status group_inherit_locked(struct storage_group *g, uint32_t col, int64_t t_ms, double v,
                               struct nx_err *err)
{
    NX_ASSERT(nx_mutex_held(g->lock));
    if (!grow(&g->inherited, g->n_inherited, &g->cap_inherited, sizeof *g->inherited, 2))
        return no_memory(err);
    g->inherited[g->n_inherited++] = (struct inherited){col, g->cols[col].from, t_ms, v};
    if (t_ms > g->newest_ms)
        g->newest_ms = t_ms; /* G3 */
    return NX_OK;
}

/* ---- order ----------------------------------------------------------------------------------- */

static nx_status newest_in_seal(struct storage_group *g, const struct seal *s, uint32_t col,
                                bool *found, int64_t *t_ms, double *v, struct nx_err *err)
{
    struct work *w;
    nx_status st;

    if (!seal_has(s, col))
        return NX_OK;
    w = head_work(g->head);
    st = w ? work_room(w, s->n_rows, 0, err) : no_memory(err);
    if (!st)
        st = seal_column(s, col, w->v, w->scratch, err);
    if (!st)
        st = seal_times(s, w->t, w->scratch, err);
    for (uint32_t i = s->n_rows; i-- > 0 && !st && !*found;) {
        if (chunk_is_absent(w->v[i]))
            continue;
        *found = true;
        *t_ms = w->t[i];
        *v = w->v[i];
    }
    head_work_back(g->head, w);
    return st;
}

nx_status group_newest_locked(struct storage_group *g, uint32_t col, uint32_t from, uint32_t to,
                              bool *found, int64_t *t_ms, double *v, struct nx_err *err)
{
    nx_status st = NX_OK;

    NX_ASSERT(nx_mutex_held(g->lock));
    *found = false;
    for (uint32_t i = to > g->sealed ? g->n_rows : 0; i-- > 0;) {
        const struct row *r = g->rows[i];
        if (col < r->n && !chunk_is_absent(r->v[col])) {
            *found = true;
            *t_ms = r->t_ms;
            *v = r->v[col];
            return NX_OK;
        }
    }
    for (uint32_t i = g->n_seals; i-- > 0 && g->seals[i]->end > from && !*found && !st;) {
        if (g->seals[i]->first < to)
            st = newest_in_seal(g, g->seals[i], col, found, t_ms, v, err);
    }
    for (uint32_t i = g->n_inherited; i-- > 0 && !*found && !st;) {
        if (g->inherited[i].col != col || g->inherited[i].from != from)
            continue;
        *found = true;
        *t_ms = g->inherited[i].t_ms;
        *v = g->inherited[i].v;
    }
    return st;
}

nx_status group_judge_locked(struct storage_group *g, uint32_t col, int64_t t_ms, double v,
                             enum verdict *verdict, struct nx_err *err)
{
    bool found;
    int64_t newest_ms = 0;
    double newest = 0;
    nx_status st;

    *verdict = SAMPLE_TAKE;
    if (t_ms > g->newest_ms) /* G3 */
        return NX_OK;
    st = group_newest_locked(g, col, g->cols[col].from, UINT32_MAX, &found, &newest_ms, &newest,
                             err);
    if (st || !found || t_ms > newest_ms)
        return st;
    if (t_ms < newest_ms)
        *verdict = SAMPLE_OLD;
    else
        *verdict = num_bits(v) == num_bits(newest) ? SAMPLE_SAME : SAMPLE_DUPLICATE;
    return NX_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

struct row *group_row_new(int64_t t_ms, uint32_t n)
{
    struct row *r = malloc(sizeof *r + n * sizeof r->v[0]);

    if (!r)
        return NULL;
    r->t_ms = t_ms;
    r->n = n;
    for (uint32_t i = 0; i < n; i++)
        r->v[i] = chunk_absent();
    return r;
}

nx_status group_room_locked(struct storage_group *g, struct nx_err *err)
{
    nx_status st = NX_OK;

    NX_ASSERT(nx_mutex_held(g->lock));
    if (g->n_rows >= GROUP_TAIL_ROWS)
        st = group_seal_locked(g, err); /* there was no memory for it last time */
    if (!st && !grow(&g->rows, g->n_rows, &g->cap_rows, sizeof(struct row *), 2))
        st = no_memory(err);
    return st;
}

void group_push_locked(struct storage_group *g, struct row *row, uint64_t seq, uint32_t segment)
{
    NX_ASSERT(nx_mutex_held(g->lock));
    NX_ASSERT(g->n_rows < g->cap_rows);
    if (g->n_rows == 0) {
        free(g->last);
        g->tail_segment = segment;
    }
    row->seq = seq;
    g->rows[g->n_rows++] = row;
    g->next_row++;
    g->last = row;
    if (row->t_ms > g->newest_ms)
        g->newest_ms = row->t_ms;
}

void group_drop_locked(struct storage_group *g, int64_t before_ms)
{
    uint32_t kept = 0;

    NX_ASSERT(nx_mutex_held(g->lock));
    for (uint32_t i = 0; i < g->n_seals; i++) {
        if (g->seals[i]->max_ms < before_ms)
            seal_unref(g->seals[i]);
        else
            g->seals[kept++] = g->seals[i];
    }
    g->n_seals = kept;
    group_settle_locked(g);
}

uint32_t group_oldest_locked(const struct storage_group *g)
{
    return g->n_seals ? g->seals[0]->first : g->sealed;
}

bool group_empty_locked(const struct storage_group *g)
{
    return g->n_seals == 0 && g->n_rows == 0;
}
