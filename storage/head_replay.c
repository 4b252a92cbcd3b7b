/* head_replay.c - the log's frames become rows again.
 *
 * SHAPE   A group of the log becomes a group of the head, under the same number, so that it goes on from
 *         one segment to the next. Rows are decoded over the row before, in place, and pushed to the
 *         group's tail; sealing happens as it does for a writer.
 * RULES   P1  A segment relies on nothing of another: FRAME_GROUP forgets the row before.
 *         P2  Rows before the head's floor are in blocks and dropped; they still count as the row before.
 *         P3  Samples are judged by the order rules as a writer's are, so that what was logged twice
 *             (after a failed sync) is there once.
 *         P4  Bytes are from outside although their checksum was right: numbers are bounded, and what
 *             makes no sense is NX_CORRUPT. */
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/limits.h"
#include "storage/head.h"
#include "storage/wal_row.h"

struct rgroup {
    struct storage_group *g;
    uint32_t segment; /* that last defined it */
    bool has_row;
    int64_t t_ms;
    double *row; /* the one before */
    uint32_t n, cap;
};

struct replay {
    struct head *h;
    struct loose_replay *loose;
    struct rgroup *groups; /* by number, open addressing; g NULL: a hole */
    uint32_t mask, n;
    uint64_t samples;
    struct label *labels; /* of the series being read */
    uint32_t cap_labels;
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "replaying the log");
}

static nx_status nonsense(struct nx_err *err)
{
    return nx_fail(err, NX_CORRUPT, "a frame that makes no sense");
}

nx_status replay_open(struct replay **out, struct head *h, struct nx_err *err)
{
    struct replay *r = calloc(1, sizeof *r);

    if (r) {
        r->h = h;
        r->mask = 63;
        r->groups = calloc(r->mask + 1, sizeof *r->groups);
        r->loose = loose_replay_new(h->loose);
    }
    if (!r || !r->groups || !r->loose) {
        if (r) {
            free(r->groups);
            loose_replay_free(r->loose);
        }
        free(r);
        return no_memory(err);
    }
    *out = r;
    return NX_OK;
}

void replay_close(struct replay *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; i <= r->mask; i++) {
        struct storage_group *g = r->groups[i].g;
        free(r->groups[i].row);
        if (!g)
            continue;
        nx_lock(g->lock);
        group_close_locked(g);
        nx_unlock(g->lock);
    }
    loose_replay_free(r->loose);
    free(r->groups);
    free(r->labels);
    free(r);
}

uint64_t replay_samples(const struct replay *r)
{
    return r->samples;
}

/* ---- groups ---------------------------------------------------------------------------------- */

static struct rgroup *find_group(struct replay *r, uint32_t id)
{
    uint32_t i = id * 0x9e3779b9u & r->mask;

    while (r->groups[i].g && r->groups[i].g->wal_id != id)
        i = (i + 1) & r->mask;
    return &r->groups[i];
}

static nx_status groups_room(struct replay *r, struct nx_err *err)
{
    struct replay bigger = *r;

    if ((r->n + 1) * 4ull <= (r->mask + 1ull) * 3)
        return NX_OK;
    bigger.mask = r->mask * 2 + 1;
    bigger.groups = calloc((size_t)bigger.mask + 1, sizeof *bigger.groups);
    if (!bigger.groups)
        return no_memory(err);
    for (uint32_t i = 0; i <= r->mask; i++) {
        if (r->groups[i].g)
            *find_group(&bigger, r->groups[i].g->wal_id) = r->groups[i];
    }
    free(r->groups);
    *r = bigger;
    return NX_OK;
}

static nx_status read_group(struct replay *r, uint32_t segment, struct reader *in,
                            struct nx_err *err)
{
    uint64_t id = reader_uvarint(in);
    struct rgroup *rg;
    struct storage_group *g = NULL;
    nx_status st;

    if (in->bad || id == 0 || id >= UINT32_MAX || reader_left(in))
        return nonsense(err);
    st = groups_room(r, err);
    if (st)
        return st;
    rg = find_group(r, (uint32_t)id);
    if (!rg->g) {
        nx_wrlock(&r->h->lock);
        st = head_new_group_locked(r->h, (uint32_t)id, NULL, &g, err);
        nx_rwunlock(&r->h->lock);
        if (st)
            return st;
        *rg = (struct rgroup){.g = g};
        r->n++;
    }
    rg->segment = segment; /* P1 */
    rg->has_row = false;
    return NX_OK;
}

/* ---- columns --------------------------------------------------------------------------------- */

static nx_status read_labels(struct replay *r, struct reader *in, struct labels *out,
                             struct nx_err *err)
{
    uint64_t n = reader_uvarint(in);

    if (in->bad || n == 0 || n > NX_LIMIT_LABELS_PER_SERIES || n * 2 > reader_left(in))
        return nonsense(err);
    if (n > r->cap_labels) {
        struct label *labels = realloc(r->labels, n * sizeof *labels);
        if (!labels)
            return no_memory(err);
        r->labels = labels;
        r->cap_labels = (uint32_t)n;
    }
    for (uint64_t i = 0; i < n; i++) {
        struct label *l = &r->labels[i];
        l->name = reader_bytes(in, reader_uvarint(in));
        l->value = reader_bytes(in, reader_uvarint(in));
        if (in->bad || l->name.len == 0 || l->value.len == 0 ||
            (i && nx_slice_cmp(r->labels[i - 1].name, l->name) >= 0))
            return nonsense(err);
    }
    *out = (struct labels){r->labels, (uint32_t)n};
    return NX_OK;
}

/* The series that had the column does not grow there any more. */
static void end_home_at(struct head *h, const struct storage_group *g, uint32_t col)
{
    struct memseries *s = col < g->n_cols ? index_series(h->ix, g->cols[col].series) : NULL;

    if (s && s->home.group == g->slot && s->home.col == col && s->home.to == HOME_OPEN)
        s->home.to = g->seq;
}

static nx_status settle_at(struct head *h, struct storage_group *g, struct memseries *s,
                           uint32_t col, struct nx_err *err)
{
    bool found;
    int64_t t_ms = 0;
    double v = 0;
    nx_status st = head_newest_locked(h, s, &found, &t_ms, &v, err);

    if (st)
        return st;
    nx_lock(g->lock);
    end_home_at(h, g, col);
    nx_unlock(g->lock);
    if (s->home.group != HOME_NONE && s->home.to == HOME_OPEN) {
        struct storage_group *was = h->groups[s->home.group];
        nx_lock(was->lock);
        s->home.to = was->seq;
        nx_unlock(was->lock);
    }
    nx_lock(g->lock);
    st = group_bind_at_locked(g, s->id, col, err);
    if (!st && found)
        st = group_inherit_locked(g, col, t_ms, v, err);
    nx_unlock(g->lock);
    return st ? st
              : memseries_move(s, (struct home){g->slot, col, g->cols[col].from, HOME_OPEN}, err);
}

static nx_status read_columns(struct replay *r, uint32_t segment, struct reader *in,
                              struct nx_err *err)
{
    struct head *h = r->h;
    uint64_t id = reader_uvarint(in);
    struct storage_group *g = find_group(r, (uint32_t)id)->g;
    nx_status st = NX_OK;

    if (in->bad || id >= UINT32_MAX || !g || find_group(r, (uint32_t)id)->segment != segment)
        return nonsense(err);
    nx_wrlock(&h->lock);
    while (reader_left(in) && !st) {
        uint64_t col = reader_uvarint(in);
        struct labels ls;
        struct memseries *s;
        uint64_t hash;
        st = col > UINT32_MAX ? nonsense(err) : read_labels(r, in, &ls, err);
        if (st)
            break;
        hash = labels_hash(&ls);
        s = index_find(h->ix, &ls, hash);
        if (!s)
            st = index_add(h->ix, &ls, hash, &s, err);
        if (st || (s->home.group == g->slot && s->home.col == col && s->home.to == HOME_OPEN))
            continue;
        st = settle_at(h, g, s, (uint32_t)col, err);
    }
    nx_rwunlock(&h->lock);
    return st;
}

/* FRAME_LOOSE_SERIES: to the end, numbers of series and their labels. */
static nx_status read_loose_series(struct replay *r, uint32_t segment, struct reader *in,
                                   struct nx_err *err)
{
    struct head *h = r->h;
    nx_status st = NX_OK;

    nx_wrlock(&h->lock);
    while (reader_left(in) && !st) {
        uint64_t id = reader_uvarint(in), hash;
        struct labels ls;
        struct memseries *s;
        st = id == 0 || id >= UINT32_MAX ? nonsense(err) : read_labels(r, in, &ls, err);
        if (st)
            break;
        hash = labels_hash(&ls);
        s = index_find(h->ix, &ls, hash);
        if (!s)
            st = index_add(h->ix, &ls, hash, &s, err);
        if (!st)
            st = loose_replay_define(r->loose, segment, (uint32_t)id, s->id, err);
    }
    nx_rwunlock(&h->lock);
    return st;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static nx_status row_room(struct rgroup *rg, uint32_t n, struct nx_err *err)
{
    if (n <= rg->cap)
        return NX_OK;
    double *row = realloc(rg->row, n * sizeof *row);
    if (!row)
        return no_memory(err);
    rg->row = row;
    rg->cap = n;
    return NX_OK;
}

/* P3 */
static nx_status take_samples(struct storage_group *g, struct row *row, uint64_t *taken,
                              struct nx_err *err)
{
    nx_status st = NX_OK;
    bool judge = row->t_ms <= g->newest_ms;

    for (uint32_t c = 0; c < row->n && !st; c++) {
        enum verdict verdict = SAMPLE_TAKE;
        if (chunk_is_absent(row->v[c]))
            continue;
        if (g->cols[c].state != COL_OWN)
            verdict = SAMPLE_OLD; /* a column that nothing defined */
        else if (judge)
            st = group_judge_locked(g, c, row->t_ms, row->v[c], &verdict, err);
        if (verdict == SAMPLE_TAKE)
            (*taken)++;
        else
            row->v[c] = chunk_absent();
    }
    return st;
}

static nx_status push_row(struct replay *r, struct rgroup *rg, struct nx_err *err)
{
    struct storage_group *g = rg->g;
    int64_t span = r->h->block_ms;
    uint64_t taken = 0;
    /* The last columns may be free or lead to other groups: those are not defined here. */
    uint32_t n = rg->n < g->n_cols ? rg->n : g->n_cols;
    struct row *row = group_row_new(rg->t_ms, n);
    nx_status st;

    if (!row)
        return no_memory(err);
    if (n)
        memcpy(row->v, rg->row, n * sizeof row->v[0]);
    nx_lock(g->lock);
    st = take_samples(g, row, &taken, err);
    if (!st && taken && g->n_rows &&
        floor_div(g->rows[0]->t_ms, span) != floor_div(row->t_ms, span))
        st = group_seal_locked(g, err);
    if (!st && taken)
        st = group_room_locked(g, err);
    if (!st && taken) {
        group_push_locked(g, row, head_next_seq(r->h));
        row = NULL;
        if (g->n_rows == GROUP_TAIL_ROWS)
            st = group_seal_locked(g, err);
    }
    nx_unlock(g->lock);
    free(row);
    if (!st && taken)
        head_saw(r->h, rg->t_ms);
    r->samples += taken;
    return st;
}

static nx_status read_row(struct replay *r, uint32_t segment, struct reader *in, int64_t *max_ms,
                          struct nx_err *err)
{
    uint64_t id = reader_uvarint(in);
    int64_t t = reader_varint(in);
    uint64_t n = reader_uvarint(in);
    struct rgroup *rg = find_group(r, (uint32_t)id);
    nx_status st;

    if (in->bad || id >= UINT32_MAX || !rg->g || rg->segment != segment ||
        n > 4 * (uint64_t)reader_left(in))
        return nonsense(err);
    st = row_room(rg, (uint32_t)n, err);
    if (st)
        return st;
    if (!wal_row_decode(in, rg->row, n, rg->row, rg->has_row ? rg->n : 0) || reader_left(in))
        return nonsense(err);
    rg->t_ms = rg->has_row ? (int64_t)((uint64_t)rg->t_ms + (uint64_t)t) : t;
    rg->n = (uint32_t)n;
    rg->has_row = true;
    if (rg->t_ms > *max_ms)
        *max_ms = rg->t_ms;
    if (rg->t_ms < atomic_load(&r->h->floor_ms)) /* P2 */
        return NX_OK;
    return push_row(r, rg, err);
}

nx_status replay_visit(void *ctx, uint32_t segment, uint8_t type, struct nx_slice payload,
                       int64_t *max_ms, struct nx_err *err)
{
    struct replay *r = ctx;
    struct reader in = reader_of(payload.ptr, payload.len);

    switch (type) {
    case FRAME_GROUP:
        return read_group(r, segment, &in, err);
    case FRAME_COLUMNS:
        return read_columns(r, segment, &in, err);
    case FRAME_ROW:
        return read_row(r, segment, &in, max_ms, err);
    case FRAME_LOOSE_SERIES:
        return read_loose_series(r, segment, &in, err);
    case FRAME_LOOSE:
    case FRAME_LOOSE_MARK:
    case FRAME_LOOSE_DONE:
        return loose_replay_visit(r->loose, segment, type, &in, max_ms, &r->samples, err);
    default:
        return nx_fail(err, NX_CORRUPT, "a frame of unknown type %u", type);
    }
}
