/* head_append.c - one row goes in, or samples with times of their own: judged, logged, made visible.
 *
 * SHAPE   Judging makes a row (of the group, and one of each shared series' group) that holds what is
 *         accepted, and stages what is no part of a row (loose.c): late samples, and those of a loose
 *         group. The log gets the frames of all of them in one write; then they become visible.
 * RULES   A1  A segment of the log defines a group before its first row: a group that the newest segment
 *             does not know is defined anew, with all its columns, and its row told against nothing.
 *         A2  What a group knows of the log (wal_segment, undefined, last row) changes only when the
 *             write has succeeded.
 *         A4  Late is what is older than its series' newest sample, or than the head takes rows; the
 *             window it must lie in ends at the head's newest time as it was when the append began.
 *         A3  Definitions need the index, whose lock comes before a group's: an append that finds it
 *             needs them starts over with the index locked. Without new series that is once a segment.
 *         A5  The states that rows are packed by move on while a row is coded. If the log does not take it,
 *             the group is one that no segment knows. */
#include <stdlib.h>
#include <string.h>

#include "storage/define.h"
#include "storage/head.h"

#define DEFINE_BYTES (1u << 20) /* one frame of definitions is closed at this size */

struct staged {
    struct storage_group *g;
    struct row *row;
    bool coded; /* the group's states have moved on with it */
};

struct append {
    struct head *h;
    struct storage_group *g;
    struct work *w;
    int64_t t_ms;
    int64_t min_valid, head_max_ms; /* of the head, as the append began */
    uint32_t segment;
    bool with_index; /* the index is locked */
    bool shared;     /* shared_lock is held */
    bool loose;      /* the lock of head.loose is held */
    struct storage_appended res;
    uint32_t n_taken;
    uint32_t late[STORAGE_LATE_BOUNDS + 1]; /* what came out of order, by how late it was */
    uint64_t late_ms;
};

/* What is appended: a row at append.t_ms, or samples. */
struct input {
    const uint32_t *cols;
    const double *values;
    const struct storage_sample *samples;
    size_t n;
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "appending a row");
}

/* ---- judging --------------------------------------------------------------------------------- */

static nx_status stage(struct append *a, struct storage_group *g, uint32_t n, struct row **out,
                       struct nx_err *err)
{
    struct work *w = a->w;

    if (w->n_staged == w->cap_staged) {
        size_t cap = w->cap_staged * 2 + 4;
        struct staged *staged = realloc(w->staged, cap * sizeof *staged);
        if (!staged)
            return no_memory(err);
        w->staged = staged;
        w->cap_staged = cap;
    }
    *out = group_row_new(a->t_ms, n);
    if (!*out)
        return no_memory(err);
    w->staged[w->n_staged++] = (struct staged){g, *out, false};
    return NX_OK;
}

static void drop_staged(struct work *w)
{
    for (size_t i = 0; i < w->n_staged; i++)
        free(w->staged[i].row);
    w->n_staged = 0;
}

static struct loose *take_loose(struct append *a)
{
    if (!a->loose)
        nx_lock(&a->h->loose->lock);
    a->loose = true;
    return a->h->loose;
}

const double storage_late_bounds[STORAGE_LATE_BOUNDS] = {600,   1800,  3600, 7200,
                                                         10800, 21600, 43200};

/* A sample can't go where its series' samples in order go: whether it is taken or not, as Prometheus counts. */
static void saw_late(struct append *a, uint32_t n)
{
    const uint64_t late_ms = (uint64_t)a->head_max_ms - (uint64_t)a->t_ms;
    uint32_t i = 0;

    if (a->head_max_ms == INT64_MIN || a->t_ms >= a->head_max_ms)
        return;
    while (i < STORAGE_LATE_BOUNDS && (double)late_ms > storage_late_bounds[i] * 1000)
        i++;
    a->late[i] += n;
    a->late_ms += late_ms * n;
}

static void count_loose(struct append *a, enum loose_verdict verdict)
{
    switch (verdict) {
    case LOOSE_TAKEN:
        a->n_taken++;
        a->res.appended++;
        break;
    case LOOSE_SAME:
        a->res.appended++;
        break;
    case LOOSE_DUPLICATE:
        a->res.duplicate++;
        break;
    case LOOSE_OLD:
        a->res.out_of_order++;
        break;
    case LOOSE_TOO_OLD:
        a->res.too_old++;
        break;
    }
}

/* A4 */
static nx_status judge_late(struct append *a, uint32_t series, double v, struct nx_err *err)
{
    enum loose_verdict verdict = LOOSE_OLD;
    nx_status st = NX_OK;

    saw_late(a, 1);
    if (atomic_load_explicit(&a->h->loose->window_ms, memory_order_relaxed) > 0)
        st = loose_late_locked(take_loose(a), series, a->t_ms, v, a->head_max_ms, &verdict, err);
    else if (a->t_ms < a->min_valid) {
        a->res.out_of_bounds++;
        return NX_OK;
    }
    if (!st)
        count_loose(a, verdict);
    return st;
}

/* Of a column that a loose group writes. */
static nx_status judge_loose(struct append *a, uint32_t series, double v, struct nx_err *err)
{
    enum loose_verdict verdict = LOOSE_OLD;
    struct loose *l = take_loose(a);
    nx_status st;

    if (chunk_is_absent(v))
        v = num_from_bits(NUM_NAN_BITS);
    if (a->t_ms < a->min_valid)
        return judge_late(a, series, v, err);
    st = loose_judge_locked(l, series, a->t_ms, v, a->min_valid, a->head_max_ms, &verdict, err);
    if (st)
        return st;
    if (verdict == LOOSE_OLD || verdict == LOOSE_TOO_OLD ||
        (verdict == LOOSE_TAKEN && l->staged[l->n_staged - 1].late))
        saw_late(a, 1);
    count_loose(a, verdict);
    return NX_OK;
}

/* Puts a sample into the row unless the order rules say no. */
static nx_status judge(struct append *a, struct storage_group *g, struct row *row, uint32_t col,
                       double v, struct nx_err *err)
{
    enum verdict verdict = SAMPLE_TAKE;
    nx_status st;

    if (chunk_is_absent(v))
        v = num_from_bits(NUM_NAN_BITS); /* that one pattern is ours */
    if (!chunk_is_absent(row->v[col])) { /* a second time in this row */
        a->res.duplicate++;
        return NX_OK;
    }
    if (a->t_ms < a->min_valid)
        return judge_late(a, g->cols[col].series, v, err);
    st = group_judge_locked(g, col, a->t_ms, v, &verdict, err);
    if (st)
        return st;
    switch (verdict) {
    case SAMPLE_TAKE:
        row->v[col] = v;
        a->n_taken++;
        a->res.appended++;
        break;
    case SAMPLE_SAME:
        a->res.appended++; /* accepted, and there already */
        break;
    case SAMPLE_DUPLICATE:
        a->res.duplicate++;
        break;
    case SAMPLE_OLD:
        return judge_late(a, g->cols[col].series, v, err);
    }
    return NX_OK;
}

static struct row *row_of_shared(const struct append *a, const struct storage_group *to)
{
    for (size_t i = 1; i < a->w->n_staged; i++) {
        if (a->w->staged[i].g == to)
            return a->w->staged[i].row;
    }
    return NULL;
}

static nx_status judge_shared(struct append *a, uint32_t col, double v, struct nx_err *err)
{
    struct storage_group *to = a->g->shared[a->g->cols[col].from];
    struct row *row = row_of_shared(a, to);
    nx_status st = row ? NX_OK : stage(a, to, 1, &row, err);

    return st ? st : judge(a, to, row, 0, v, err);
}

static nx_status check_column(const struct storage_group *g, uint32_t c, struct nx_err *err)
{
    if (c >= g->n_cols || g->cols[c].state == COL_FREE)
        return nx_fail(err, NX_BADINPUT, "column %u is not open", c);
    return NX_OK;
}

static bool all_own(struct storage_group *g)
{
    for (uint32_t c = 0; c < g->n_cols && !g->all_own; c++) {
        if (g->cols[c].state != COL_OWN)
            return false;
    }
    return g->all_own = true;
}

/* Nearly every row: all of it is newer than what is there. Returns how many samples it took; at the first
 * that is not so plain it stops. */
static size_t take_plain(struct append *a, struct row *row, const struct input *in)
{
    size_t i = 0;

    for (; i < in->n; i++) {
        uint32_t c = in->cols[i];
        if (c >= row->n || !chunk_is_absent(row->v[c]) || chunk_is_absent(in->values[i]))
            break;
        row->v[c] = in->values[i];
    }
    a->n_taken += (uint32_t)i;
    a->res.appended += (uint32_t)i;
    return i;
}

static nx_status judge_row(struct append *a, const struct input *in, struct nx_err *err)
{
    struct storage_group *g = a->g;
    const bool newest = a->t_ms > g->newest_ms && a->t_ms >= a->min_valid;
    struct row *row;
    nx_status st = stage(a, g, g->loose ? 0 : g->n_cols, &row, err);
    size_t i = 0;

    if (!st && newest && !g->loose && all_own(g))
        i = take_plain(a, row, in);
    for (; i < in->n && !st; i++) {
        uint32_t c = in->cols[i];
        double v = in->values[i];
        st = check_column(g, c, err);
        if (st)
            break;
        if (g->cols[c].state == COL_SHARED)
            st = judge_shared(a, c, v, err);
        else if (g->loose)
            st = judge_loose(a, g->cols[c].series, v, err);
        else if (newest && chunk_is_absent(row->v[c]) && !chunk_is_absent(v)) {
            row->v[c] = v;
            a->n_taken++;
            a->res.appended++;
        } else
            st = judge(a, g, row, c, v, err);
    }
    return st;
}

/* Those of shared columns are appended on their own, by storage_group_append_samples(). */
static nx_status judge_samples(struct append *a, const struct input *in, struct nx_err *err)
{
    struct storage_group *g = a->g;
    nx_status st = NX_OK;

    for (size_t i = 0; i < in->n && !st; i++) {
        const struct storage_sample *x = &in->samples[i];
        st = check_column(g, x->col, err);
        a->t_ms = x->t_ms;
        if (!st && g->cols[x->col].state == COL_OWN)
            st = judge_loose(a, g->cols[x->col].series, x->value, err);
    }
    return st;
}

/* Rows that took nothing are not rows. */
static void drop_empty_rows(struct work *w)
{
    size_t kept = 0;

    for (size_t i = 0; i < w->n_staged; i++) {
        const struct row *r = w->staged[i].row;
        bool any = false;
        for (uint32_t c = 0; c < r->n && !any; c++)
            any = !chunk_is_absent(r->v[c]);
        if (any)
            w->staged[kept++] = w->staged[i];
        else
            free(w->staged[i].row);
    }
    w->n_staged = kept;
}

/* ---- the log --------------------------------------------------------------------------------- */

/* Frames of FRAME_COLUMNS: the group, then columns to the end of the payload. */
/* `freed`: those too whose writer is done with them. */
static void put_columns(struct append *a, struct storage_group *g, const uint32_t *cols, uint32_t n,
                        bool freed)
{
    struct buf *p = &a->w->payload;
    const struct memseries *before = NULL;
    size_t head;

    buf_clear(p);
    buf_uvarint(p, g->wal_id);
    head = p->len;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t c = cols ? cols[i] : i;
        const struct memseries *s = NULL;
        if (g->cols[c].state == COL_OWN || (freed && g->cols[c].state == COL_FREE))
            s = index_series(a->h->ix, g->cols[c].series);
        NX_ASSERT_ALWAYS(s || g->cols[c].state != COL_OWN); /* an open column keeps its series */
        if (s) {
            define_put(p, a->h->ix, c, NULL, s, before);
            before = s;
        }
        if (p->len > head && (i + 1 == n || p->len >= DEFINE_BYTES)) {
            if (buf_status(p, NULL))
                a->w->frames.failed = p->failed;
            wal_frame(&a->w->frames, FRAME_COLUMNS, buf_view(p));
            p->len = head;
            before = NULL;
        }
    }
}

static bool needs_definition(const struct append *a, const struct storage_group *g)
{
    return g->wal_segment != a->segment || g->n_undefined > 0;
}

/* A1. `row` is the number of the group's row that comes next in the segment. */
static void put_definition(struct append *a, struct storage_group *g, uint32_t row, bool freed)
{
    struct buf *p = &a->w->payload;

    if (g->wal_segment == a->segment) {
        put_columns(a, g, g->undefined, g->n_undefined, false);
        return;
    }
    buf_clear(p);
    buf_uvarint(p, g->wal_id);
    buf_uvarint(p, row);
    wal_frame(&a->w->frames, FRAME_GROUP, buf_view(p));
    put_columns(a, g, NULL, g->n_cols, freed);
}

/* `before` is the row that the segment holds last of this group, or NULL. */
static void put_row(struct work *w, struct storage_group *g, const struct row *row,
                    const struct row *before)
{
    struct buf *p = &w->payload;

    buf_clear(p);
    buf_uvarint(p, g->wal_id);
    buf_varint(p, (int64_t)((uint64_t)row->t_ms - (uint64_t)(before ? before->t_ms : 0)));
    buf_uvarint(p, row->n);
    if (!before)
        memset(g->states, 0, g->n_cols * sizeof *g->states);
    wal_pack_encode(p, row->v, row->n, before ? before->v : NULL, before ? before->n : 0,
                    g->states);
    if (buf_status(p, NULL))
        w->frames.failed = p->failed;
    wal_frame_plain(&w->frames, FRAME_PACKED, buf_view(p));
}

static nx_status log_rows(struct append *a, struct nx_err *err)
{
    struct work *w = a->w;

    buf_clear(&w->frames);
    for (size_t i = 0; i < w->n_staged; i++) {
        struct storage_group *g = w->staged[i].g;
        if (needs_definition(a, g)) {
            if (!a->with_index)
                return nx_fail(err, NX_CANCELED, "a definition is needed"); /* A3 */
            put_definition(a, g, g->next_row, false);
        }
        put_row(w, g, w->staged[i].row, g->wal_segment == a->segment ? g->last : NULL);
        w->staged[i].coded = true;
    }
    return buf_status(&w->frames, err);
}

static size_t n_loose(const struct append *a)
{
    return a->loose ? a->h->loose->n_staged : 0;
}

/* What a frame of loose samples tells times against: the newest of all. */
static int64_t log_time(const struct append *a)
{
    const struct loose *l = a->h->loose;
    int64_t t_ms = a->w->n_staged ? a->t_ms : INT64_MIN, max_ms = atomic_load(&a->h->max_ms);

    if (n_loose(a) && max_ms > t_ms)
        t_ms = max_ms;
    for (size_t i = 0; i < n_loose(a); i++)
        t_ms = l->staged[i].t_ms > t_ms ? l->staged[i].t_ms : t_ms;
    return t_ms;
}

static nx_status write_log(struct append *a, struct nx_err *err)
{
    struct work *w = a->w;
    int64_t t_ms = log_time(a);
    nx_status st = log_rows(a, err);

    if (!st && n_loose(a))
        st = loose_log_locked(a->h->loose, a->with_index ? a->h->ix : NULL, a->segment, t_ms,
                              &w->frames, &w->payload, err);
    if (!st)
        st = wal_write(a->h->wal, a->segment, buf_view(&w->frames), err);
    for (size_t i = 0; i < w->n_staged && st; i++)
        if (w->staged[i].coded)
            w->staged[i].g->wal_segment = 0; /* A5 */
    return st;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* A block's span ends: the tail that lies before it becomes a seal (group.c, G4). */
static nx_status make_room(struct storage_group *g, int64_t t_ms, struct nx_err *err)
{
    int64_t span = g->head->block_ms;
    nx_status st = NX_OK;

    if (g->next_row >= GROUP_MAX_ROWS)
        return nx_fail(err, NX_LIMIT, "a group takes no more than %u rows", GROUP_MAX_ROWS);
    if (g->n_rows && floor_div(g->rows[0]->t_ms, span) != floor_div(t_ms, span))
        st = group_seal_locked(g, err);
    return st ? st : group_room_locked(g, err);
}

static void publish_loose(struct append *a, uint64_t seq)
{
    struct loose *l = a->h->loose;
    int64_t min_ms = INT64_MAX, max_ms = INT64_MIN;

    for (size_t i = 0; i < l->n_staged; i++) {
        const struct loose_staged *x = &l->staged[i];
        if (x->late)
            continue;
        min_ms = x->t_ms < min_ms ? x->t_ms : min_ms;
        max_ms = x->t_ms > max_ms ? x->t_ms : max_ms;
    }
    if (max_ms != INT64_MIN) {
        head_saw(a->h, min_ms);
        head_saw(a->h, max_ms);
    }
    loose_logged_locked(l, a->segment);
    loose_publish_locked(l, seq);
}

/* H3 of head.c, A2 */
static void publish(struct append *a)
{
    struct work *w = a->w;

    uint64_t seq = head_next_seq(a->h);

    if (w->n_staged)
        head_saw(a->h, a->t_ms);
    if (n_loose(a))
        publish_loose(a, seq);
    for (size_t i = 0; i < w->n_staged; i++) {
        struct storage_group *g = w->staged[i].g;
        group_push_locked(g, w->staged[i].row, seq, a->segment);
        g->wal_segment = a->segment;
        g->n_undefined = 0;
        if (group_tail_is_full(g))
            (void)group_seal_locked(g,
                                    NULL); /* without memory it is tried again with the next row */
    }
    w->n_staged = 0;
}

static nx_status append_locked(struct append *a, const struct input *in, struct nx_err *err)
{
    struct work *w = a->w;
    nx_status st;

    a->head_max_ms = atomic_load(&a->h->max_ms);
    a->min_valid = head_min_valid(a->h);
    if (!in->samples && a->t_ms < a->min_valid &&
        atomic_load_explicit(&a->h->loose->window_ms, memory_order_relaxed) <= 0) {
        a->res.out_of_bounds = (uint32_t)in->n;
        saw_late(a, (uint32_t)in->n);
        return NX_OK;
    }
    st = in->samples ? judge_samples(a, in, err) : judge_row(a, in, err);
    if (st)
        return st;
    drop_empty_rows(w);
    if (w->n_staged == 0 && n_loose(a) == 0)
        return NX_OK;
    for (size_t i = 0; i < w->n_staged && !st; i++)
        st = make_room(w->staged[i].g, a->t_ms, err);
    if (!st)
        st = write_log(a, err);
    if (!st)
        publish(a);
    return st;
}

/* NX_CANCELED: try again, with the index. */
static nx_status try_append(struct append *a, const struct input *in, struct nx_err *err)
{
    nx_status st;

    a->segment = wal_segment(a->h->wal);
    a->res = (struct storage_appended){0};
    a->n_taken = 0;
    memset(a->late, 0, sizeof a->late);
    a->late_ms = 0;
    if (a->with_index)
        nx_rdlock(&a->h->lock);
    nx_lock(a->g->lock);
    a->shared = a->g->n_shared > 0;
    if (a->shared)
        nx_lock(&a->h->shared_lock);
    st = append_locked(a, in, err);
    drop_staged(a->w);
    if (a->loose) {
        loose_undo_locked(a->h->loose); /* what was not published */
        nx_unlock(&a->h->loose->lock);
        a->loose = false;
    }
    if (a->shared)
        nx_unlock(&a->h->shared_lock);
    nx_unlock(a->g->lock);
    if (a->with_index)
        nx_rwunlock(&a->h->lock);
    return st;
}

static void count_late(const struct append *a)
{
    for (size_t i = 0; i <= STORAGE_LATE_BOUNDS && a->late_ms; i++) {
        if (a->late[i])
            atomic_fetch_add_explicit(&a->h->loose->late[i], a->late[i], memory_order_relaxed);
    }
    if (a->late_ms)
        atomic_fetch_add_explicit(&a->h->loose->late_ms, a->late_ms, memory_order_relaxed);
}

static void count(struct append *a)
{
    count_late(a);
    atomic_fetch_add_explicit(&a->h->samples, a->n_taken, memory_order_relaxed);
    if (a->res.duplicate)
        atomic_fetch_add_explicit(&a->h->duplicates, a->res.duplicate, memory_order_relaxed);
    if (a->res.out_of_order)
        atomic_fetch_add_explicit(&a->h->out_of_order, a->res.out_of_order, memory_order_relaxed);
    if (a->res.too_old)
        atomic_fetch_add_explicit(&a->h->loose->too_old, a->res.too_old, memory_order_relaxed);
    if (a->res.out_of_bounds)
        atomic_fetch_add_explicit(&a->h->out_of_bounds, a->res.out_of_bounds, memory_order_relaxed);
}

static nx_status append(struct storage_group *g, int64_t t_ms, const struct input *in,
                        struct storage_appended *res, struct nx_err *err)
{
    struct append a = {.h = g->head, .g = g, .t_ms = t_ms};
    nx_status st;

    a.w = head_work(a.h);
    if (!a.w)
        return no_memory(err);
    do {
        st = try_append(&a, in, err);
        a.with_index = true;
    } while (st == NX_CANCELED);
    head_work_back(a.h, a.w);
    if (st)
        return st;
    count(&a);
    *res = a.res;
    return a.h->commit && (a.n_taken || a.res.appended) ? storage_sync_wait(a.h->commit, err)
                                                        : NX_OK;
}

nx_status storage_group_append(struct storage_group *g, int64_t t_ms, const uint32_t *cols,
                               const double *values, size_t n, struct storage_appended *res,
                               struct nx_err *err)
{
    const struct input in = {.cols = cols, .values = values, .n = n};
    struct storage_appended ignored;

    return append(g, t_ms, &in, res ? res : &ignored, err);
}

static void add_up(struct storage_appended *to, const struct storage_appended *more)
{
    to->appended += more->appended;
    to->duplicate += more->duplicate;
    to->out_of_order += more->out_of_order;
    to->out_of_bounds += more->out_of_bounds;
    to->too_old += more->too_old;
}

/* By the group's writer, so that columns do not change but to become shared. */
static bool is_shared(struct storage_group *g, uint32_t col)
{
    bool shared;

    nx_lock(g->lock);
    shared = g->cols[col].state == COL_SHARED;
    nx_unlock(g->lock);
    return shared;
}

nx_status storage_group_append_samples(struct storage_group *g, const struct storage_sample *v,
                                       size_t n, struct storage_appended *res, struct nx_err *err)
{
    const struct input in = {.samples = v, .n = n};
    struct storage_appended all = {0}, one;
    nx_status st;
    size_t judged;

    if (!g->loose || n > STORAGE_SAMPLES_MAX)
        return nx_fail(err, NX_BADINPUT, "samples for a group that takes rows, or too many");
    if (n == 0) {
        if (res)
            *res = all;
        return NX_OK;
    }
    st = append(g, v[0].t_ms, &in, &all, err);
    judged =
        (size_t)all.appended + all.duplicate + all.out_of_order + all.out_of_bounds + all.too_old;
    for (size_t i = 0; i < n && !st && judged < n; i++) { /* the rest is shared */
        if (!is_shared(g, v[i].col))
            continue;
        st = storage_group_append(g, v[i].t_ms, &v[i].col, &v[i].value, 1, &one, err);
        judged++;
        if (!st)
            add_up(&all, &one);
    }
    if (!st && res)
        *res = all;
    return st;
}

/* ---- logging again --------------------------------------------------------------------------- */

/* Rows of the newest seals that may not have been synced, decoded one by one into `row`. */
static nx_status put_seal_rows(struct append *a, struct storage_group *g, const struct seal *s,
                               struct row **before, struct nx_err *err)
{
    struct work *w = a->w;
    nx_status st = NX_OK;
    double *all = malloc(((size_t)s->n_cols * s->n_rows + 1) * sizeof *all);

    if (!all)
        return no_memory(err);
    st = work_room(w, s->n_rows, 0, err);
    if (!st)
        st = seal_times(s, w->t, w->scratch, err);
    for (uint32_t c = 0; c < s->n_cols && !st; c++)
        st = seal_column(s, c, all + (size_t)c * s->n_rows, w->scratch, err);
    for (uint32_t i = 0; i < s->n_rows && !st; i++) {
        struct row *row = group_row_new(w->t[i], s->n_cols);
        if (!row) {
            st = no_memory(err);
            break;
        }
        for (uint32_t c = 0; c < s->n_cols; c++) {
            if (c < g->n_cols && g->cols[c].state != COL_SHARED && g->cols[c].from < s->end)
                row->v[c] = all[(size_t)c * s->n_rows + i];
        }
        put_row(w, g, row, *before);
        free(*before);
        *before = row;
    }
    free(all);
    return st;
}

/* The number of the row that is written first, if the seals from `from` on are. */
static uint32_t first_relogged(const struct storage_group *g, uint32_t from)
{
    return from < g->n_seals ? g->seals[from]->first : g->sealed;
}

/* Also when a writer was there first and the segment holds the group: by their numbers a replay knows rows
 * that it reads twice, and the last row written stays the group's last. */
static nx_status relog_group(struct append *a, struct storage_group *g, uint32_t epoch,
                             struct nx_err *err)
{
    nx_status st = NX_OK;
    uint32_t from = g->n_seals;
    wal_pack_state *own_states = NULL;
    struct row *before = NULL;
    const struct row *newest = NULL;
    struct buf *frames = &a->w->frames;

    buf_clear(frames);
    while (from > 0 && !g->seals[from - 1]->file && g->seals[from - 1]->epoch >= epoch)
        from--;
    if (from == g->n_seals && g->n_rows == 0)
        return NX_OK;
    if (!g->states) /* it is closed */
        g->states = own_states = calloc(g->n_cols + 1u, sizeof *own_states);
    if (!g->states)
        return no_memory(err);
    put_definition(a, g, first_relogged(g, from), true);
    for (; from < g->n_seals && !st; from++)
        st = put_seal_rows(a, g, g->seals[from], &before, err);
    newest = before;
    for (uint32_t i = 0; i < g->n_rows && !st; i++) {
        put_row(a->w, g, g->rows[i], newest);
        newest = g->rows[i];
    }
    if (!st)
        st = buf_status(frames, err);
    if (!st)
        st = wal_write(a->h->wal, a->segment, buf_view(frames), err);
    if (!st) {
        g->wal_segment = a->segment;
        g->n_undefined = 0;
    } else {
        g->wal_segment = 0; /* A5 */
    }
    if (own_states)
        g->states = NULL;
    free(own_states);
    free(before);
    return st;
}

nx_status head_relog(struct head *h, uint64_t epoch, struct nx_err *err)
{
    struct append a = {.h = h, .with_index = true};
    nx_status st = NX_OK;

    a.w = head_work(h);
    if (!a.w)
        return no_memory(err);
    a.segment = wal_segment(h->wal);
    for (uint32_t i = 0; !st; i++) {
        nx_rdlock(&h->lock);
        bool end = i >= h->n_groups;
        struct storage_group *g = end ? NULL : h->groups[i];
        if (g) {
            nx_lock(g->lock);
            st = relog_group(&a, g, (uint32_t)epoch, err);
            nx_unlock(g->lock);
        }
        nx_rwunlock(&h->lock);
        if (end)
            break;
    }
    if (!st) {
        nx_rdlock(&h->lock);
        st = loose_relog(h->loose, h->ix, h->wal, epoch, err);
        nx_rwunlock(&h->lock);
    }
    head_work_back(h, a.w);
    return st;
}
