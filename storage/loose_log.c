/* loose_log.c - loose samples in the log, and back.
 *
 * SHAPE   One append is one frame: the series, the times, the values, each kind together, since alike
 *         bytes side by side pack well. A series is named by the number that it has in the index, which a
 *         frame of definitions tells before its first sample in a segment (FORMAT.md, "The log").
 * RULES   R1  A time is told against the one that the series had last in this segment, less the step that
 *             the frame names: who sends at a pace sends zeros. A value is told as one of a row is.
 *         R2  What is told against is as it was before the frame, also for a series that is twice in it.
 *         R3  What the log knows of a series changes only when the write has succeeded.
 *         R4  A segment is kept as long as a sample in memory that no block has was logged there or later
 *             (loose_store.c): marks are newer than what they tell of, and segments go oldest first.
 *         R5  A mark says "what lies in this range and is here by now goes into blocks", and one like it
 *             later that it is there. A replay that finds but the first keeps the samples: they are then
 *             in memory and in a block, which readers bear. */
#include <stdlib.h>
#include <string.h>

#include "src/base/log.h"
#include "storage/bits.h"
#include "storage/head.h"
#include "storage/loose.h"
#include "storage/wal_row.h"

#define DEFINE_BYTES (1u << 20) /* one frame of definitions is closed at this size */
#define RELOG_AT     4096u      /* samples written again in one frame */

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "the log");
}

/* Columns of one frame. */
struct columns {
    double *v, *before;
    uint8_t *hints;
};

static bool columns_new(struct columns *c, size_t n)
{
    c->v = malloc(n * sizeof *c->v);
    c->before = malloc(n * sizeof *c->before);
    c->hints = malloc(n);
    return c->v && c->before && c->hints;
}

static void columns_free(struct columns *c)
{
    free(c->v);
    free(c->before);
    free(c->hints);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void put_slice(struct buf *b, struct nx_slice s)
{
    buf_uvarint(b, s.len);
    buf_slice(b, s);
}

static void end_frame(struct buf *frames, uint8_t type, struct buf *payload)
{
    if (buf_status(payload, NULL))
        frames->failed = payload->failed;
    wal_frame(frames, type, buf_view(payload));
    buf_clear(payload);
}

static void define(const struct index *ix, uint32_t series, struct buf *p)
{
    const struct memseries *s = index_series(ix, series);

    NX_ASSERT_ALWAYS(s != NULL); /* what is held here, or staged, keeps its series */
    buf_uvarint(p, series);
    buf_uvarint(p, s->n_pairs);
    for (uint32_t i = 0; i < s->n_pairs; i++) {
        struct label l = index_label(ix, s, i);
        put_slice(p, l.name);
        put_slice(p, l.value);
    }
}

static nx_status put_definitions(const struct loose *l, const struct index *ix, uint32_t segment,
                                 struct buf *frames, struct buf *p, struct nx_err *err)
{
    const struct loose_series *before = NULL;

    buf_clear(p);
    for (size_t i = 0; i < l->n_staged; i++) {
        const struct loose_series *s = l->staged[i].s;
        if (s->segment == segment || s == before)
            continue;
        if (!ix)
            return nx_fail(err, NX_CANCELED, "a definition is needed");
        define(ix, s->series, p);
        before = s;
        if (p->len >= DEFINE_BYTES)
            end_frame(frames, FRAME_LOOSE_SERIES, p);
    }
    if (p->len)
        end_frame(frames, FRAME_LOOSE_SERIES, p);
    return NX_OK;
}

static int64_t less(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

/* R1 */
static int64_t find_step(const struct loose *l, uint32_t segment)
{
    for (size_t i = 0; i < l->n_staged; i++) {
        if (l->staged[i].s->segment == segment)
            return less(l->staged[i].t_ms, l->staged[i].s->log_ms);
    }
    return 0;
}

static void put_series(const struct loose *l, struct buf *p)
{
    uint32_t before = 0;

    for (size_t i = 0; i < l->n_staged; i++) {
        uint32_t id = l->staged[i].s->series;
        buf_uvarint(p, zigzag((int64_t)id - (int64_t)before - 1) << 1 | l->staged[i].late);
        before = id;
    }
}

static void put_times(const struct loose *l, uint32_t segment, int64_t t_ms, int64_t step,
                      struct buf *p)
{
    int64_t before = t_ms;

    for (size_t i = 0; i < l->n_staged; i++) {
        const struct loose_staged *x = &l->staged[i];
        bool known = x->s->segment == segment;
        buf_varint(p, less(x->t_ms, known ? less(x->s->log_ms, less(0, step)) : before));
        before = x->t_ms;
    }
}

nx_status loose_log_locked(struct loose *l, struct index *ix, uint32_t segment, int64_t t_ms,
                           struct buf *frames, struct buf *payload, struct nx_err *err)
{
    struct columns c = {0};
    int64_t step = find_step(l, segment);
    nx_status st = put_definitions(l, ix, segment, frames, payload, err);

    NX_ASSERT(nx_mutex_held(&l->lock));
    if (st)
        return st;
    if (!columns_new(&c, l->n_staged)) {
        columns_free(&c);
        return no_memory(err);
    }
    for (size_t i = 0; i < l->n_staged; i++) {
        const struct loose_series *s = l->staged[i].s;
        c.v[i] = l->staged[i].v;
        c.before[i] = s->segment == segment ? s->log_v : chunk_absent(); /* R2 */
        c.hints[i] = s->hint;
    }
    buf_varint(payload, t_ms);
    buf_varint(payload, step);
    buf_uvarint(payload, l->n_staged);
    put_series(l, payload);
    put_times(l, segment, t_ms, step, payload);
    wal_row_encode(payload, c.v, l->n_staged, c.before, l->n_staged, c.hints);
    end_frame(frames, FRAME_LOOSE, payload);
    for (size_t i = 0; i < l->n_staged; i++)
        l->staged[i].s->hint = c.hints[i];
    columns_free(&c);
    return buf_status(frames, err);
}

void loose_logged_locked(struct loose *l, uint32_t segment)
{
    for (size_t i = 0; i < l->n_staged; i++) { /* R3 */
        struct loose_series *s = l->staged[i].s;
        s->segment = segment;
        s->log_ms = l->staged[i].t_ms;
        s->log_v = l->staged[i].v;
    }
}

/* ---- logging again --------------------------------------------------------------------------- */

static bool again(struct loose *l, struct loose_series *s, int64_t t_ms, double v)
{
    if (l->n_staged == l->cap_staged) {
        size_t cap = l->cap_staged * 2 + 64;
        struct loose_staged *staged = realloc(l->staged, cap * sizeof *staged);
        if (!staged)
            return false;
        l->staged = staged;
        l->cap_staged = cap;
    }
    /* But for the newest one, all are late then: they may be there already. */
    l->staged[l->n_staged++] =
        (struct loose_staged){.s = s, .t_ms = t_ms, .v = v, .late = t_ms != s->newest_ms};
    return true;
}

static nx_status again_series(struct loose *l, struct loose_series *s, uint64_t epoch,
                              struct work *w, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (uint32_t k = 0; k < s->n_seals && !st; k++) {
        const struct loose_seal *seal = s->seals[k];
        if (seal->written || seal->wal_epoch < epoch)
            continue;
        st = work_room(w, seal->n, 0, err);
        if (!st)
            st = loose_seal_read(seal, w->t, w->v, w->scratch, err);
        for (uint32_t i = 0; i < seal->n && !st; i++)
            st = again(l, s, w->t[i], w->v[i]) ? NX_OK : no_memory(err);
    }
    for (uint32_t i = 0; i < s->n && !st; i++)
        st = again(l, s, s->v[i].t_ms, s->v[i].v) ? NX_OK : no_memory(err);
    return st;
}

static nx_status write_again(struct loose *l, struct index *ix, struct wal *wal, struct work *w,
                             struct nx_err *err)
{
    uint32_t segment = wal_segment(wal);
    int64_t t_ms = atomic_load(&l->head->max_ms);
    nx_status st;

    if (l->n_staged == 0)
        return NX_OK;
    if (t_ms == INT64_MIN)
        t_ms = l->staged[0].t_ms;
    buf_clear(&w->frames);
    st = loose_log_locked(l, ix, segment, t_ms, &w->frames, &w->payload, err);
    if (!st)
        st = wal_write(wal, segment, buf_view(&w->frames), err);
    if (!st)
        loose_logged_locked(l, segment);
    l->n_staged = 0;
    return st;
}

nx_status loose_relog(struct loose *l, struct index *ix, struct wal *wal, uint64_t epoch,
                      struct nx_err *err)
{
    struct work *w = head_work(l->head);
    nx_status st = w ? NX_OK : no_memory(err);

    nx_lock(&l->lock);
    for (uint32_t i = 0; i <= l->mask && !st; i++) {
        if (l->table[i])
            st = again_series(l, l->table[i], epoch, w, err);
        if (!st && l->n_staged >= RELOG_AT)
            st = write_again(l, ix, wal, w, err);
    }
    if (!st)
        st = write_again(l, ix, wal, w, err);
    l->n_staged = 0;
    nx_unlock(&l->lock);
    head_work_back(l->head, w);
    return st;
}

/* ---- marks ----------------------------------------------------------------------------------- */

/* Without one a replay finds more than it needs (R5). */
static void put_mark(struct loose *l, struct wal *wal, uint8_t type, int64_t from_ms,
                     int64_t before_ms)
{
    struct buf frames, p;
    nx_status st;

    buf_init(&frames, 256);
    buf_init(&p, 64);
    buf_uvarint(&p, l->mark);
    if (type == FRAME_LOOSE_MARK) {
        buf_varint(&p, from_ms);
        buf_varint(&p, before_ms);
    }
    end_frame(&frames, type, &p);
    do
        st = wal_write(wal, wal_segment(wal), buf_view(&frames), NULL);
    while (st == NX_CANCELED);
    if (st)
        log_warn("Late samples may be found again by the next start", "err", nx_status_text(st));
    buf_done(&frames);
    buf_done(&p);
}

nx_status loose_take(struct loose *l, struct wal *wal, int64_t from_ms, int64_t before_ms,
                     bool *any, struct nx_err *err)
{
    nx_status st;

    *any = false;
    if (before_ms == INT64_MIN || !loose_overlaps(l, from_ms, before_ms - 1))
        return NX_OK;
    nx_lock(&l->lock);
    st = loose_take_locked(l, from_ms, before_ms, any, err);
    if (st)
        loose_taken_locked(l, false);
    else
        loose_take_batches_locked(l, from_ms, before_ms, any);
    l->mark++;
    if (!st && *any && wal)
        put_mark(l, wal, FRAME_LOOSE_MARK, from_ms, before_ms);
    nx_unlock(&l->lock);
    return st;
}

void loose_taken(struct loose *l, struct wal *wal, bool done)
{
    nx_lock(&l->lock);
    loose_taken_locked(l, done);
    nx_unlock(&l->lock);
    (void)loose_tell_gone(l); /* tried again before they are dropped */
    if (!done || !wal)
        return;
    nx_lock(&l->lock);
    put_mark(l, wal, FRAME_LOOSE_DONE, 0, 0);
    nx_unlock(&l->lock);
}

/* ---- replay ---------------------------------------------------------------------------------- */

/* A series as the log names it. */
struct named {
    uint32_t id, segment; /* segment 0: a hole */
    uint32_t series;
    int64_t ms;
    double v;
    bool had; /* ms and v are of this segment */
};

struct loose_replay {
    struct loose *l;
    struct named *named; /* open addressing */
    uint32_t mask, n;
    uint64_t mark; /* 0: none is open */
};

struct loose_replay *loose_replay_new(struct loose *l)
{
    struct loose_replay *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->l = l;
    r->mask = 15;
    r->named = calloc((size_t)r->mask + 1, sizeof *r->named);
    if (!r->named) {
        free(r);
        return NULL;
    }
    return r;
}

void loose_replay_free(struct loose_replay *r)
{
    if (!r)
        return;
    nx_lock(&r->l->lock);
    loose_taken_locked(r->l, false);
    nx_unlock(&r->l->lock);
    loose_drop(r->l, true);
    free(r->named);
    free(r);
}

static struct named *find_named(const struct loose_replay *r, uint32_t id)
{
    uint32_t i = (id * 0x9e3779b9u) & r->mask;

    while (r->named[i].segment && r->named[i].id != id)
        i = (i + 1) & r->mask;
    return &r->named[i];
}

nx_status loose_replay_define(struct loose_replay *r, uint32_t segment, uint32_t id,
                              uint32_t series, struct nx_err *err)
{
    struct loose_replay bigger = *r;
    struct named *to;

    if ((r->n + 1) * 4ull > (r->mask + 1ull) * 3) {
        bigger.mask = r->mask * 2 + 1;
        bigger.named = calloc((size_t)bigger.mask + 1, sizeof *bigger.named);
        if (!bigger.named)
            return no_memory(err);
        for (uint32_t i = 0; i <= r->mask; i++) {
            if (r->named[i].segment)
                *find_named(&bigger, r->named[i].id) = r->named[i];
        }
        free(r->named);
        *r = bigger;
    }
    to = find_named(r, id);
    r->n += to->segment == 0;
    *to = (struct named){.id = id, .segment = segment, .series = series};
    return NX_OK;
}

bool loose_replay_series(const struct loose_replay *r, uint32_t segment, uint32_t id,
                         uint32_t *series)
{
    const struct named *at = find_named(r, id);

    if (at->segment == 0 || at->segment != segment)
        return false;
    *series = at->series;
    return true;
}

void loose_replay_forget(struct loose_replay *r)
{
    memset(r->named, 0, ((size_t)r->mask + 1) * sizeof *r->named);
    r->n = 0;
}

struct read_samples {
    struct named **of;
    int64_t *t;
    double *v;
    bool *late;
};

static nx_status nonsense(struct nx_err *err)
{
    return nx_fail(err, NX_CORRUPT, "a frame of late samples that makes no sense");
}

static bool read_series(struct loose_replay *r, uint32_t segment, struct reader *in, uint64_t n,
                        struct read_samples *x)
{
    int64_t id = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t u = reader_uvarint(in), z = u >> 1;
        id = (int64_t)((uint64_t)id + 1 + ((z >> 1) ^ (0 - (z & 1))));
        if (in->bad || id <= 0 || id >= UINT32_MAX)
            return false;
        x->of[i] = find_named(r, (uint32_t)id);
        x->late[i] = u & 1;
        if (x->of[i]->segment != segment)
            return false;
    }
    return true;
}

/* The inverse of loose_log_locked(); `t_ms` and `step` were read. */
static bool read_columns(struct reader *in, uint64_t n, int64_t t_ms, int64_t step,
                         struct read_samples *x)
{
    int64_t before = t_ms;

    for (uint64_t i = 0; i < n; i++) {
        const struct named *s = x->of[i];
        uint64_t base = s->had ? (uint64_t)s->ms + (uint64_t)step : (uint64_t)before;
        x->t[i] = (int64_t)((uint64_t)reader_varint(in) + base);
        x->v[i] = s->had ? s->v : chunk_absent();
        before = x->t[i];
    }
    return !in->bad && wal_row_decode(in, x->v, n, x->v, n) && reader_left(in) == 0;
}

static nx_status take_one(struct loose_replay *r, const struct named *of, int64_t t_ms, double v,
                          bool late, uint64_t *taken, struct nx_err *err)
{
    struct head *h = r->l->head;
    struct loose_series *s;
    nx_status st;

    if (chunk_is_absent(v) || (!late && t_ms < atomic_load(&h->floor_ms))) /* in a block */
        return NX_OK;
    if (!late && t_ms <= loose_stored_up_to_locked(r->l, of->series)) /* L6 of loose.c */
        return NX_OK;
    s = loose_get_locked(r->l, of->series);
    if (!s)
        return no_memory(err);
    if (!late && t_ms <= s->newest_ms)
        return NX_OK; /* written twice, after a failed sync */
    s->segment = of->segment;
    st = loose_stage_locked(r->l, s, t_ms, v, late, err);
    if (!st && !late)
        head_saw(h, t_ms);
    *taken += !st;
    return st;
}

static nx_status take_all(struct loose_replay *r, const struct read_samples *x, uint64_t n,
                          uint64_t *taken, struct nx_err *err)
{
    struct loose *l = r->l;
    nx_status st = NX_OK;

    nx_lock(&l->lock);
    for (uint64_t i = 0; i < n && !st; i++)
        st = take_one(r, x->of[i], x->t[i], x->v[i], x->late[i], taken, err);
    if (st)
        loose_undo_locked(l);
    else
        loose_publish_locked(l, head_next_seq(l->head));
    nx_unlock(&l->lock);
    for (uint64_t i = 0; i < n; i++) {
        x->of[i]->ms = x->t[i];
        x->of[i]->v = x->v[i];
        x->of[i]->had = true;
    }
    return st;
}

static nx_status read_frame(struct loose_replay *r, uint32_t segment, struct reader *in,
                            uint64_t *taken, struct nx_err *err)
{
    int64_t t_ms = reader_varint(in), step = reader_varint(in);
    uint64_t n = reader_uvarint(in);
    struct read_samples x = {0};
    nx_status st = NX_OK;

    if (in->bad || n == 0 || n > reader_left(in)) /* each has a byte at least */
        return nonsense(err);
    x.of = malloc(n * sizeof(struct named *));
    x.t = malloc(n * sizeof *x.t);
    x.v = malloc(n * sizeof *x.v);
    x.late = malloc(n * sizeof *x.late);
    if (!x.of || !x.t || !x.v || !x.late)
        st = no_memory(err);
    else if (!read_series(r, segment, in, n, &x) || !read_columns(in, n, t_ms, step, &x))
        st = nonsense(err);
    else
        st = take_all(r, &x, n, taken, err);
    free(x.of);
    free(x.t);
    free(x.v);
    free(x.late);
    return st;
}

static nx_status read_mark(struct loose_replay *r, struct reader *in, struct nx_err *err)
{
    uint64_t number = reader_uvarint(in);
    int64_t from_ms = reader_varint(in), before_ms = reader_varint(in);
    bool any;
    nx_status st;

    if (in->bad || number == 0 || number >= UINT64_MAX / 2 || reader_left(in))
        return nonsense(err);
    nx_lock(&r->l->lock);
    loose_taken_locked(r->l, false);
    st = loose_take_locked(r->l, from_ms, before_ms, &any, err);
    if (number > r->l->mark)
        r->l->mark = number;
    nx_unlock(&r->l->lock);
    r->mark = st ? 0 : number;
    return st;
}

static nx_status read_done(struct loose_replay *r, struct reader *in, struct nx_err *err)
{
    uint64_t number = reader_uvarint(in);

    if (in->bad || reader_left(in))
        return nonsense(err);
    if (number != r->mark || number == 0)
        return NX_OK; /* R5: its mark is gone */
    nx_lock(&r->l->lock);
    loose_taken_locked(r->l, true);
    nx_unlock(&r->l->lock);
    loose_drop(r->l, true);
    r->mark = 0;
    return NX_OK;
}

nx_status loose_replay_visit(struct loose_replay *r, uint32_t segment, uint8_t type,
                             struct reader *in, uint64_t *taken, struct nx_err *err)
{
    switch (type) {
    case FRAME_LOOSE:
        return read_frame(r, segment, in, taken, err);
    case FRAME_LOOSE_MARK:
        return read_mark(r, in, err);
    default:
        return read_done(r, in, err);
    }
}
