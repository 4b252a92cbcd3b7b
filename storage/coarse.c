/* coarse.c - see coarse.h.
 *
 * RULES   P1  A window is open at its start, as PromQL's ranges are: a range that begins and ends on
 *             multiples of the resolution holds whole windows and nothing else.
 *         P2  A stale marker is told only if it is the last of its window, as a point of its own: what comes
 *             back within a window was not gone.
 *         P3  `fallen` counts from the point before if that is in the window before or in the same one, else
 *             from the first sample, which is then told. So over any run of points the increase of a
 *             counter is last - first + the sum of fallen, plus what it fell between them.
 *         P4  Columns lie behind one another on the block's axis of time: column c of time t at
 *             t + c * (max_ms - min_ms). What is not stored of `min` and `max` is as `last`, of `sum` as
 *             `last * count`, of `fallen` 0. `count` is stored of each point. */
#include "storage/coarse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_WINDOWS                                                                              \
    8192      /* windows of a chunk; cut alike for all series, so that they share times */
#define FEW 8 /* a counter falls in one window of so many at most */

void coarse_points_done(struct coarse_points *p)
{
    free(p->v);
    arena_share_give(p->share, p->cap * sizeof *p->v);
    *p = (struct coarse_points){0};
}

static nx_status add_point(struct coarse_points *p, const struct coarse_point *one,
                           struct nx_err *err)
{
    if (p->most && p->n > p->most)
        return nx_fail(err, NX_LIMIT, "more than %zu points of a series", p->most);
    if (p->n == p->cap) {
        size_t cap = p->cap * 2 + 64;
        nx_status st = arena_share_take(p->share, (cap - p->cap) * sizeof *p->v, err);
        struct coarse_point *v = st ? NULL : realloc(p->v, cap * sizeof *v);
        if (st)
            return st;
        if (!v) {
            arena_share_give(p->share, (cap - p->cap) * sizeof *p->v);
            return nx_fail(err, NX_NOMEM, "out of memory for points of a coarser resolution");
        }
        p->v = v;
        p->cap = cap;
    }
    p->v[p->n++] = *one;
    return NX_OK;
}

static bool is_stale_point(const struct coarse_point *p)
{
    return p->count == 0;
}

/* ---- making ----------------------------------------------------------------------------------- */

struct coarse_point coarse_of_sample(int64_t t, double v)
{
    if (num_is_stale(v))
        return (struct coarse_point){.t = t, .last = v};
    return (struct coarse_point){.t = t,
                                 .last = v,
                                 .min = v,
                                 .max = v,
                                 .sum = v,
                                 .count = 1,
                                 .first = v,
                                 .t_first = t,
                                 .has_first = true};
}

static nx_status close_window(struct coarse_maker *m, struct nx_err *err)
{
    const struct coarse_point stale = {.t = m->stale_ms, .last = num_from_bits(NUM_STALE_BITS)};
    const bool tell = m->stale; /* P2 */

    if (m->open) {
        struct coarse_point *p = &m->to->v[m->to->n - 1];
        if (isfinite(p->sum))
            p->sum += m->lost;
        m->n_fallen += p->fallen > 0;
        m->negative = m->negative || p->min < 0;
    }
    m->open = m->pending = m->stale = false;
    return tell ? add_point(m->to, &stale, err) : NX_OK;
}

static void add_sum(struct coarse_maker *m, struct coarse_point *to, double v)
{
    const double sum = to->sum + v;

    m->lost += fabs(to->sum) >= fabs(v) ? (to->sum - sum) + v : (v - sum) + to->sum;
    to->sum = sum;
}

/* Into the open window. */
static void join(struct coarse_maker *m, const struct coarse_point *p)
{
    struct coarse_point *to = &m->to->v[m->to->n - 1];

    if (p->has_first && p->first < m->prev)
        to->fallen += m->prev;
    to->fallen += p->fallen;
    to->t = p->t;
    to->last = p->last;
    to->min = p->min < to->min || isnan(to->min) ? p->min : to->min;
    to->max = p->max > to->max || isnan(to->max) ? p->max : to->max;
    to->count += p->count;
    add_sum(m, to, p->sum);
}

/* The first of its window. */
static nx_status begin(struct coarse_maker *m, const struct coarse_point *p, int64_t window,
                       struct nx_err *err)
{
    struct coarse_point one = *p;

    if (!p->has_first && !m->any)
        one.fallen = 0; /* what it fell from was left out */
    if (p->has_first && m->any && m->prev_window >= window - 1) { /* P3 */
        one.has_first = false;
        one.fallen += p->first < m->prev ? m->prev : 0;
    }
    m->open = true;
    m->lost = 0;
    return add_point(m->to, &one, err);
}

nx_status coarse_add(struct coarse_maker *m, const struct coarse_point *p, struct nx_err *err)
{
    const int64_t window = coarse_window(p->t, m->resolution_ms);
    nx_status st = NX_OK;

    if (m->pending && window != m->window)
        st = close_window(m, err);
    if (st)
        return st;
    m->pending = true;
    m->window = window;
    m->stale = is_stale_point(p);
    m->stale_ms = p->t;
    if (m->stale)
        return NX_OK;
    if (m->open)
        join(m, p);
    else
        st = begin(m, p, window, err);
    m->any = true;
    m->prev = p->last;
    m->prev_window = window;
    return st;
}

nx_status coarse_end(struct coarse_maker *m, struct nx_err *err)
{
    return m->pending ? close_window(m, err) : NX_OK;
}

static bool ends_with(struct nx_slice s, const char *end)
{
    const size_t n = strlen(end);

    return s.len >= n && memcmp(s.ptr + s.len - n, end, n) == 0;
}

bool coarse_is_counter(const struct coarse_maker *m, struct nx_slice name)
{
    if (ends_with(name, "_total") || ends_with(name, "_count") || ends_with(name, "_sum") ||
        ends_with(name, "_bucket"))
        return true;
    return !m->negative && m->n_fallen * FEW <= m->to->n;
}

/* ---- writing ---------------------------------------------------------------------------------- */

static double value_of(const struct coarse_point *p, enum block_column c)
{
    switch (c) {
    case COLUMN_LAST:
        return p->last;
    case COLUMN_MIN:
        return p->min;
    case COLUMN_MAX:
        return p->max;
    case COLUMN_SUM:
        return p->sum;
    case COLUMN_FALLEN:
        return p->fallen;
    case COLUMN_FIRST:
        return p->first;
    default:
        return p->count;
    }
}

static bool same(double a, double b)
{
    return num_bits(a) == num_bits(b);
}

static bool in_column(const struct coarse_point *p, enum block_column c, bool counter)
{
    if (c == COLUMN_LAST || c == COLUMN_COUNT)
        return true;
    if (c == COLUMN_FALLEN)
        return counter && p->fallen > 0;
    return !is_stale_point(p) && (c != COLUMN_FIRST || p->has_first);
}

/* P4: a column that says nothing new is not stored. */
static bool is_implied(const struct coarse_points *p, enum block_column c)
{
    if (c != COLUMN_MIN && c != COLUMN_MAX && c != COLUMN_SUM)
        return false;
    for (size_t i = 0; i < p->n; i++) {
        const struct coarse_point *one = &p->v[i];
        double without = c == COLUMN_SUM ? one->last * one->count : one->last;
        if (!is_stale_point(one) && !same(value_of(one, c), without))
            return false;
    }
    return true;
}

static nx_status put_column(struct block_writer *w, const struct samples *s, int64_t resolution_ms,
                            int64_t shift, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t from = 0, to = 0; from < s->n && !st; from = to) {
        const int64_t slice = coarse_window(s->t[from] - shift, resolution_ms) / SLICE_WINDOWS;
        uint32_t times = 0;
        while (to < s->n && to - from < CHUNK_MAX_ROWS &&
               coarse_window(s->t[to] - shift, resolution_ms) / SLICE_WINDOWS == slice)
            to++;
        st = block_writer_times(w, s->t + from, to - from, &times, err);
        if (!st)
            st = block_writer_chunk(w, times, s->v + from, to - from, err);
    }
    return st;
}

nx_status coarse_write(struct block_writer *w, const struct block_meta *meta,
                       const struct labels *ls, const struct coarse_points *p, bool counter,
                       struct coarse_buffers *b, struct nx_err *err)
{
    nx_status st = NX_OK;

    if (p->n == 0)
        return NX_OK;
    st = block_writer_series(w, ls, err);
    for (unsigned c = 0; c < COLUMNS && !st; c++) {
        const int64_t shift = block_column_shift(meta, c);
        b->column.n = 0;
        if (is_implied(p, c))
            continue;
        for (size_t i = 0; i < p->n && !st; i++)
            if (in_column(&p->v[i], c, counter))
                st = samples_add(&b->column,
                                 (c == COLUMN_FIRST ? p->v[i].t_first : p->v[i].t) + shift,
                                 value_of(&p->v[i], c), err);
        if (!st)
            st = put_column(w, &b->column, meta->resolution_ms, shift, err);
    }
    return st;
}

/* ---- reading ---------------------------------------------------------------------------------- */

static void set_value(struct coarse_point *p, enum block_column c, int64_t t, double v)
{
    switch (c) {
    case COLUMN_MIN:
        p->min = v;
        break;
    case COLUMN_MAX:
        p->max = v;
        break;
    case COLUMN_SUM:
        p->sum = v;
        break;
    case COLUMN_FALLEN:
        p->fallen = v;
        break;
    case COLUMN_FIRST:
        p->first = v;
        p->t_first = t;
        p->has_first = true;
        break;
    default:
        p->count = v;
    }
}

/* Gives the points of p[from..n) what a column says; both are in time order. */
static void put_values(struct coarse_points *p, size_t from, enum block_column c, int64_t shift,
                       int64_t resolution_ms, const struct samples *s)
{
    size_t at = from;

    for (size_t i = 0; i < s->n; i++) {
        const int64_t t = s->t[i] - shift, window = coarse_window(t, resolution_ms);
        while (at < p->n && p->v[at].t < t)
            at++;
        if (at == p->n)
            return;
        if (c == COLUMN_FIRST ? coarse_window(p->v[at].t, resolution_ms) == window
                              : p->v[at].t == t)
            set_value(&p->v[at], c, t, s->v[i]);
    }
}

/* What was not stored (P4), once `count` is known. A point that has lost it to a damaged page goes. */
static void put_implied(struct coarse_points *p, size_t from)
{
    size_t kept = from;

    for (size_t i = from; i < p->n; i++) {
        struct coarse_point *one = &p->v[i];
        if (is_stale_point(one) != num_is_stale(one->last))
            continue;
        if (chunk_is_absent(one->sum))
            one->sum = one->last * one->count;
        if (chunk_is_absent(one->min))
            one->min = one->last;
        if (chunk_is_absent(one->max))
            one->max = one->last;
        p->v[kept++] = *one;
    }
    p->n = kept;
}

nx_status coarse_read(struct block *b, uint64_t ref, int64_t mint, int64_t maxt,
                      struct coarse_points *to, struct samples *column, struct chunk_scratch *s,
                      struct nx_err *err)
{
    const struct block_meta *meta = block_meta(b);
    const size_t from = to->n;
    struct nx_err damage = {0};
    nx_status st = NX_OK, damaged = NX_OK;

    mint = mint > meta->min_ms ? mint : meta->min_ms;
    maxt = maxt < meta->max_ms - 1 ? maxt : meta->max_ms - 1;
    if (mint > maxt)
        return NX_OK;
    for (unsigned c = 0; c < COLUMNS && !st; c++) {
        const int64_t shift = block_column_shift(meta, c);
        /* a first sample may be before its window's last by all of the window */
        const int64_t low = c == COLUMN_FIRST && mint - meta->min_ms > meta->resolution_ms
                                ? mint - meta->resolution_ms
                            : c == COLUMN_FIRST ? meta->min_ms
                                                : mint;
        column->n = 0;
        if (c == COLUMN_LAST) /* what is deleted is told in true times */
            st = block_read(b, ref, low, maxt, column, s, err);
        else
            st = block_read_sealed(b, ref, low + shift, maxt + shift, column, s, err);
        if (st == NX_CORRUPT) { /* what other pages hold is there */
            damaged = st;
            damage = err ? *err : damage;
            st = NX_OK;
        }
        for (size_t i = 0; c == COLUMN_LAST && i < column->n && !st; i++)
            st = add_point(to,
                           &(struct coarse_point){.t = column->t[i],
                                                  .last = column->v[i],
                                                  .min = chunk_absent(),
                                                  .max = chunk_absent(),
                                                  .sum = chunk_absent()},
                           err);
        if (c != COLUMN_LAST && !st)
            put_values(to, from, c, shift, meta->resolution_ms, column);
    }
    put_implied(to, from);
    if (damaged && !st)
        return nx_fail(err, damaged, "%s", damage.text);
    return st;
}

/* ---- what a reader sees ------------------------------------------------------------------------ */

struct emit {
    struct samples *to;
    int64_t mint, maxt;
    int64_t last_t; /* of what was emitted or passed over */
    struct nx_err *err;
    nx_status st;
};

/* Times must ascend: what has no room between its neighbours is left out. */
static bool put(struct emit *e, int64_t t, double v, int64_t before)
{
    if (t <= e->last_t || t >= before)
        return false;
    e->last_t = t;
    if (!e->st && t >= e->mint && t <= e->maxt)
        e->st = samples_add(e->to, t, v, e->err);
    return true;
}

/* The change over the window begins with what came before it: with the first sample where nothing did, with the last
 * of the window before where that is asked for. */
static void put_begin(struct emit *e, const struct coarse_point *p, const struct coarse_point *prev,
                      int64_t resolution_ms, bool exact, double lost)
{
    const int64_t window = coarse_window(p->t, resolution_ms);

    if (p->has_first && (exact || !prev))
        (void)put(e, p->t_first, p->first + lost, p->t);
    else if (!p->has_first && exact && prev && coarse_window(prev->t, resolution_ms) == window - 1)
        (void)put(e, (window - 1) * resolution_ms + 1, prev->last + lost, p->t);
}

/* P3 */
static void put_risen(struct emit *e, const struct coarse_point *p, const struct coarse_point *prev,
                      int64_t resolution_ms, bool exact, struct coarse_rise *rise)
{
    const bool near = rise->any && coarse_window(rise->prev_t, resolution_ms) >=
                                       coarse_window(p->t, resolution_ms) - 1;
    static const struct coarse_point before; /* there is one, in another part */

    if (p->has_first && rise->any && p->first < rise->prev)
        rise->lost += rise->prev;
    put_begin(e, p, prev ? prev : near ? &before : NULL, resolution_ms, exact, rise->lost);
    rise->lost += p->fallen;
    if (!p->has_first && p->fallen == 0 && rise->any && p->last < rise->prev)
        rise->lost += rise->prev; /* it was not told how far it fell */
    (void)put(e, p->t, p->last + rise->lost, INT64_MAX);
    *rise = (struct coarse_rise){true, p->last, p->t, rise->lost};
}

void coarse_rise_samples(struct coarse_rise *rise, struct samples *x, size_t from)
{
    for (size_t i = from; i < x->n; i++) {
        const double v = x->v[i];
        if (num_is_stale(v))
            continue;
        if (rise->any && v < rise->prev && x->t[i] > rise->prev_t)
            rise->lost += rise->prev;
        x->v[i] = v + rise->lost;
        if (!rise->any || x->t[i] > rise->prev_t)
            *rise = (struct coarse_rise){true, v, x->t[i], rise->lost};
    }
}

/* A fall as samples show it: from somewhere to 0. */
static void put_falls(struct emit *e, const struct coarse_point *p)
{
    if (p->fallen > 0 && put(e, p->t - 2, p->fallen, p->t))
        (void)put(e, p->t - 1, 0, p->t);
    (void)put(e, p->t, p->last, INT64_MAX);
}

static double plain_value(const struct coarse_point *p, enum read_use use)
{
    switch (use) {
    case READ_MIN:
        return p->min;
    case READ_MAX:
        return p->max;
    case READ_SUM:
        return p->sum;
    case READ_COUNT:
        return p->count;
    default:
        return p->last;
    }
}

nx_status coarse_emit(const struct coarse_points *p, int64_t resolution_ms, enum read_use use,
                      bool exact, int64_t mint, int64_t maxt, struct coarse_rise *rise,
                      struct samples *to, struct nx_err *err)
{
    struct emit e = {.to = to, .mint = mint, .maxt = maxt, .last_t = INT64_MIN, .err = err};
    const struct coarse_point *prev = NULL;

    for (size_t i = 0; i < p->n && !e.st; i++) {
        const struct coarse_point *one = &p->v[i];
        if (is_stale_point(one)) {
            (void)put(&e, one->t, one->last, INT64_MAX);
            continue;
        }
        if (use == READ_COUNTER) {
            put_risen(&e, one, prev, resolution_ms, exact, rise);
        } else if (use == READ_FALLS) {
            put_falls(&e, one);
        } else {
            if (use == READ_CHANGE)
                put_begin(&e, one, prev, resolution_ms, exact, 0);
            (void)put(&e, one->t, plain_value(one, use), INT64_MAX);
        }
        prev = one;
    }
    return e.st;
}
