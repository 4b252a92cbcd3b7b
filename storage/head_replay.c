/* head_replay.c - the log's frames become rows again.
 *
 * SHAPE   A group of the log becomes a group of the head, under the same number, so that it goes on from
 *         one segment to the next, and from what chunk files have of it. Rows are decoded over the row before,
 *         in place, and pushed to the group's tail; sealing happens as it does for a writer.
 * RULES   P1  A segment relies on nothing of another: FRAME_GROUP forgets the row before and says the number
 *             of the row to come.
 *         P2  Rows before the head's floor are in blocks and dropped; they still count as the row before.
 *         P3  A row whose number is below the group's next is known, from a chunk file or because it was
 *             logged twice (after a failed sync): it only counts as the row before. Columns that are
 *             defined among such rows are bound when the first one is taken that is not known.
 *         P4  Bytes are from outside although their checksum was right: numbers are bounded, and what
 *             makes no sense is NX_CORRUPT. A group's samples of one series ascend whatever they say.
 *         P5  Homes are put in order of time at the end: the log's order of definitions need not be it. */
#include "storage/head_replay.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "storage/grow.h"
#include "storage/wal_row.h"

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
        free(r->groups[i].states);
        free(r->groups[i].defined);
        if (!g)
            continue;
        nx_lock(g->lock);
        group_close_locked(g);
        nx_unlock(g->lock);
    }
    replay_order_homes(r->h);
    loose_replay_free(r->loose);
    free(r->groups);
    define_done(&r->def);
    free(r);
}

uint64_t replay_samples(const struct replay *r)
{
    return r->samples;
}

/* ---- groups ---------------------------------------------------------------------------------- */

struct rgroup *replay_find(struct replay *r, uint32_t id)
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
            *replay_find(&bigger, r->groups[i].g->wal_id) = r->groups[i];
    }
    free(r->groups);
    *r = bigger;
    return NX_OK;
}

nx_status replay_group(struct replay *r, uint32_t id, struct rgroup **out, struct nx_err *err)
{
    struct storage_group *g = NULL;
    struct rgroup *rg;
    nx_status st = groups_room(r, err);

    if (st)
        return st;
    rg = replay_find(r, id);
    if (!rg->g) {
        nx_wrlock(&r->h->lock);
        st = head_new_group_locked(r->h, id, NULL, &g, err);
        nx_rwunlock(&r->h->lock);
        if (st)
            return st;
        *rg = (struct rgroup){.g = g};
        r->n++;
    }
    *out = rg;
    return NX_OK;
}

static nx_status read_group(struct replay *r, uint32_t segment, struct reader *in,
                            struct nx_err *err)
{
    uint64_t id = reader_uvarint(in), row = 0;
    struct rgroup *rg = NULL;
    bool judged = reader_left(in) == 0;
    nx_status st;

    if (!judged)
        row = reader_uvarint(in);
    if (in->bad || id == 0 || id >= UINT32_MAX || row > GROUP_MAX_ROWS || reader_left(in))
        return nonsense(err);
    st = replay_group(r, (uint32_t)id, &rg, err);
    if (st)
        return st;
    rg->segment = segment; /* P1 */
    rg->has_row = false;
    rg->n_states = 0;
    rg->judged = judged;
    rg->next = judged ? rg->g->next_row : (uint32_t)row;
    rg->n_defined = 0;
    if (rg->next <= rg->g->next_row)
        return NX_OK;
    nx_lock(rg->g->lock); /* rows in between are in blocks, or lost */
    st = group_seal_locked(rg->g, err);
    if (!st)
        rg->g->sealed = rg->g->next_row = rg->next;
    nx_unlock(rg->g->lock);
    return st;
}

/* ---- columns --------------------------------------------------------------------------------- */

static nx_status find_or_add(struct replay *r, const struct labels *ls, struct memseries **out,
                             struct nx_err *err)
{
    uint64_t hash = labels_hash(ls);

    *out = index_find(r->h->ix, ls, hash);
    return *out ? NX_OK : index_add(r->h->ix, ls, hash, out, err);
}

nx_status replay_column(struct replay *r, uint32_t *col, uint32_t *from, struct memseries **out,
                        struct nx_err *err)
{
    struct labels ls;
    nx_status st = define_get(&r->def, col, from, &ls, err);

    return st ? st : find_or_add(r, &ls, out, err);
}

/* The series that had the column does not grow there any more. */
static void end_home_at(struct head *h, const struct storage_group *g, uint32_t col)
{
    struct memseries *s = col < g->n_cols ? index_series(h->ix, g->cols[col].series) : NULL;

    uint32_t n_old = 0;
    struct home *old = s ? memseries_old(h->ix, s, &n_old) : NULL;

    for (uint32_t i = 0; s && i <= n_old; i++) {
        struct home *home = i < n_old ? &old[i] : &s->home;
        if (home->group == g->slot && home->col == col && home->to == HOME_OPEN)
            home->to = g->next_row;
    }
}

/* Nothing is inherited here: whatever is not in order then is put in order at the end, P5. */
static nx_status settle_at(struct head *h, struct storage_group *g, uint32_t series, uint32_t col,
                           struct nx_err *err)
{
    struct memseries *s = index_series(h->ix, series);
    nx_status st;

    if (!s || (col < g->n_cols && g->cols[col].series == series && s->home.group == g->slot &&
               s->home.col == col && s->home.to == HOME_OPEN))
        return NX_OK;
    nx_lock(g->lock);
    end_home_at(h, g, col);
    st = group_bind_at_locked(g, series, col, err);
    nx_unlock(g->lock);
    return st ? st
              : memseries_move(h->ix, s, (struct home){g->slot, col, g->cols[col].from, HOME_OPEN},
                               err);
}

/* P3 */
static nx_status settle_or_note(struct replay *r, struct rgroup *rg, uint32_t series, uint32_t col,
                                struct nx_err *err)
{
    if (rg->next >= rg->g->next_row)
        return settle_at(r->h, rg->g, series, col, err);
    if (!grow(&rg->defined, rg->n_defined, &rg->cap_defined, sizeof *rg->defined, 16))
        return no_memory(err);
    rg->defined[rg->n_defined++] = (struct rdefined){col, series};
    return NX_OK;
}

static nx_status settle_noted(struct replay *r, struct rgroup *rg, struct nx_err *err)
{
    nx_status st = NX_OK;

    if (rg->n_defined == 0)
        return NX_OK;
    nx_wrlock(&r->h->lock);
    for (uint32_t i = 0; i < rg->n_defined && !st; i++)
        st = settle_at(r->h, rg->g, rg->defined[i].series, rg->defined[i].col, err);
    nx_rwunlock(&r->h->lock);
    rg->n_defined = 0;
    return st;
}

static nx_status read_columns(struct replay *r, uint32_t segment, struct reader *in, bool plain,
                              struct nx_err *err)
{
    struct define_reader *d = &r->def;
    uint64_t id = reader_uvarint(in);
    struct rgroup *rg = replay_find(r, (uint32_t)id);
    nx_status st = NX_OK;

    if (in->bad || id >= UINT32_MAX || !rg->g || rg->segment != segment)
        return nonsense(err);
    define_begin(d, *in, false, plain);
    if (rg->next >= rg->g->next_row)
        st = settle_noted(r, rg, err);
    nx_wrlock(&r->h->lock);
    while (reader_left(&d->in) && !st) {
        uint32_t col = 0, from = 0;
        struct memseries *s = NULL;
        st = replay_column(r, &col, &from, &s, err);
        if (!st)
            st = settle_or_note(r, rg, s->id, col, err);
    }
    nx_rwunlock(&r->h->lock);
    return st;
}

nx_status replay_loose_series(struct replay *r, uint32_t segment, struct reader in, bool plain,
                              struct nx_err *err)
{
    struct define_reader *d = &r->def;
    nx_status st = NX_OK;

    define_begin(d, in, false, plain);
    nx_wrlock(&r->h->lock);
    while (reader_left(&d->in) && !st) {
        uint32_t id = 0, from;
        struct labels ls;
        struct memseries *s = NULL;
        st = define_get(d, &id, &from, &ls, err);
        if (!st && id == 0)
            st = nonsense(err);
        if (!st)
            st = find_or_add(r, &ls, &s, err);
        if (!st)
            st = loose_replay_define(r->loose, segment, id, s->id, err);
    }
    nx_rwunlock(&r->h->lock);
    return st;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static nx_status row_room(struct rgroup *rg, uint32_t n, struct nx_err *err)
{
    if (n <= rg->cap)
        return NX_OK;
    double *row = realloc(rg->row, n * sizeof *row);
    if (row)
        rg->row = row;
    wal_pack_state *states = row ? realloc(rg->states, n * sizeof *states) : NULL;
    if (!states)
        return no_memory(err);
    rg->states = states;
    rg->cap = n;
    return NX_OK;
}

/* A column that is new takes a bit at least, so a few bytes can't ask for much memory (P4). */
static bool too_many(const struct rgroup *rg, bool packed, uint64_t n, size_t left)
{
    return packed ? n > rg->n_states + 8 * (uint64_t)left : n > 4 * (uint64_t)left;
}

static bool decode_row(struct rgroup *rg, bool packed, struct reader *in, uint32_t n)
{
    uint32_t n_before = rg->has_row ? rg->n : 0;

    if (!packed)
        return wal_row_decode(in, rg->row, n, rg->row, n_before);
    if (n > rg->n_states) {
        memset(rg->states + rg->n_states, 0, (n - rg->n_states) * sizeof *rg->states);
        rg->n_states = n;
    }
    return wal_pack_decode(in, rg->row, n, rg->row, n_before, rg->states);
}

/* P4 */
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

/* A row of which nothing is kept has a number all the same. */
static void pass_row_locked(struct storage_group *g)
{
    g->next_row++;
    if (g->n_rows == 0)
        g->sealed = g->next_row;
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
        group_push_locked(g, row, head_next_seq(r->h), rg->segment);
        row = NULL;
        if (g->n_rows == GROUP_TAIL_ROWS)
            st = group_seal_locked(g, err);
    } else if (!st) {
        pass_row_locked(g);
    }
    nx_unlock(g->lock);
    free(row);
    if (!st && taken)
        head_saw(r->h, rg->t_ms);
    r->samples += taken;
    return st;
}

/* The row that was read, unless it is known. */
static nx_status take_row(struct replay *r, struct rgroup *rg, struct nx_err *err)
{
    struct storage_group *g = rg->g;
    nx_status st;

    if (rg->next >= GROUP_MAX_ROWS)
        return nonsense(err);
    if (rg->next++ < g->next_row) /* P3 */
        return NX_OK;
    if (rg->t_ms >= atomic_load(&r->h->floor_ms)) {
        st = settle_noted(r, rg, err);
        return st ? st : push_row(r, rg, err);
    }
    nx_lock(g->lock); /* P2 */
    pass_row_locked(g);
    nx_unlock(g->lock);
    return NX_OK;
}

static nx_status read_row(struct replay *r, uint32_t segment, bool packed, struct reader *in,
                          struct nx_err *err)
{
    uint64_t id = reader_uvarint(in);
    int64_t t = reader_varint(in);
    uint64_t n = reader_uvarint(in);
    struct rgroup *rg = replay_find(r, (uint32_t)id);
    nx_status st;

    if (in->bad || id >= UINT32_MAX || !rg->g || rg->segment != segment ||
        too_many(rg, packed, n, reader_left(in)))
        return nonsense(err);
    st = row_room(rg, (uint32_t)n, err);
    if (st)
        return st;
    if (!decode_row(rg, packed, in, (uint32_t)n) || reader_left(in))
        return nonsense(err);
    rg->t_ms = rg->has_row ? (int64_t)((uint64_t)rg->t_ms + (uint64_t)t) : t;
    rg->n = (uint32_t)n;
    rg->has_row = true;
    return take_row(r, rg, err);
}

nx_status replay_visit(void *ctx, uint32_t segment, uint8_t type, struct nx_slice payload,
                       struct nx_err *err)
{
    struct replay *r = ctx;
    struct reader in = reader_of(payload.ptr, payload.len);

    switch (type) {
    case FRAME_GROUP:
        return read_group(r, segment, &in, err);
    case FRAME_COLUMNS:
    case FRAME_COLUMNS_V1:
        return read_columns(r, segment, &in, type == FRAME_COLUMNS_V1, err);
    case FRAME_ROW:
    case FRAME_PACKED:
        return read_row(r, segment, type == FRAME_PACKED, &in, err);
    case FRAME_LOOSE_SERIES:
        return replay_loose_series(r, segment, in, true, err);
    case FRAME_LOOSE:
    case FRAME_LOOSE_MARK:
    case FRAME_LOOSE_DONE:
        return loose_replay_visit(r->loose, segment, type, &in, &r->samples, err);
    default:
        return nx_fail(err, NX_CORRUPT, "a frame of unknown type %u", type);
    }
}
