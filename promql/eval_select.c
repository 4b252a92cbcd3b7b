/* eval_select.c - where values come from: selectors, ranges, subqueries.
 *
 * WHY   A series is decoded once for all steps of a query; instants and windows then only move two
 *       indexes along it. Long series come in pieces
 *       (pieces.c), and what another selector has read already is not read again (leaves.c).
 * RULES S1  An instant is the newest sample in (t - lookback, t]; a stale marker there hides the series.
 *       S2  A range is (t - range, t] without stale markers.
 *       S3  With @ the data time is fixed, with offset it is shifted; the time of the result is not.
 *       S4  A subquery's steps are multiples of its step, in the range as S2 has it.
 *       S6  A point of a coarser resolution holds until the next one may be: an instant that it lies within
 *           lookback and resolution of has its value. A range too short for points is taken as long as they
 *           need (points.h), for the times that only points are known of.
 *       S7  timestamp(x offset D @ T) reads what the offset leads to, but looks at it from T, as in Prometheus;
 *           that x is smoothed is nothing to it.
 *       S8  Samples in the windows of one series may be many more than it has: kernels that go over them look
 *           whether the query is to stop (slide_stops()).
 *       S9  Sets of labels that lack some are not compared: they are asked for where all series have one and the
 *           same name, so that they differ without it, too.
 *       S5  One column and one set of buffers serve all series: what a read gave is valid until the next. */
#include "promql/eval.h"

#include <math.h>
#include <string.h>

#include "promql/fn.h"
#include "promql/leaves.h"
#include "promql/pieces.h"
#include "promql/points.h"
#include "src/base/num.h"
#include "src/base/text.h"

bool eval_at(const struct eval *ev, const struct pql_shift *shift, int64_t *at_ms)
{
    switch (shift->at) {
    case PQL_AT_NONE:
        return false;
    case PQL_AT_TIME:
        *at_ms = eval_clamp_time(shift->at_ms);
        return true;
    case PQL_AT_START:
        *at_ms = ev->q_start_ms;
        return true;
    case PQL_AT_END:
        *at_ms = ev->q_end_ms;
        return true;
    }
    return false;
}

static bool same_matchers(const struct eval_selection *s, const struct matcher *m, size_t n)
{
    if (s->m == m)
        return s->n == n;
    if (s->n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (s->m[i].type != m[i].type || !nx_slice_eq(s->m[i].name, m[i].name) ||
            !nx_slice_eq(s->m[i].value, m[i].value))
            return false;
    return true;
}

/* S9: each has its name and nothing else that goes with it. */
static bool names_alone(const struct series_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct labels *ls = &list->v[i].labels;
        uint32_t going = 0;

        if (i && ls->v == list->v[i - 1].labels.v)
            continue;
        for (uint32_t k = 0; k < ls->n; k++)
            going += label_goes_with_name(ls->v[k].name);
        if (going != 1)
            return false;
    }
    return true;
}

static nx_status select_only(struct eval *ev, const struct matcher *m, size_t n, int64_t mint,
                             int64_t maxt, bool *done, struct series_list *out, struct nx_err *err)
{
    nx_status st =
        ev->querier->ops->select_for(ev->querier, m, n, mint, maxt, ev->only, ev->out, out, err);

    *done = !st && names_alone(out);
    return st;
}

static nx_status selection_failed(struct eval *ev, struct nx_err *err)
{
    return arena_failed(ev->out, NULL) == NX_LIMIT ? eval_nomem(ev, ev->out, err)
                                                   : nx_context(err, "expanding series");
}

static nx_status eval_select(struct eval *ev, const struct matcher *m, size_t n, int64_t mint,
                             int64_t maxt, struct series_list *out, struct nx_err *err)
{
    struct eval_selection *s;
    bool done = false;
    nx_status st;

    if (ev->only && ev->querier->ops->select_for) {
        st = select_only(ev, m, n, mint, maxt, &done, out, err);
        if (st || done)
            return st ? selection_failed(ev, err) : NX_OK;
    }
    for (s = ev->selections; s; s = s->next) {
        if (s->mint == mint && s->maxt == maxt && same_matchers(s, m, n)) {
            *out = s->list;
            return NX_OK;
        }
    }
    s = arena_zalloc(ev->work, sizeof *s);
    if (!s)
        return eval_nomem(ev, ev->work, err);
    *s =
        (struct eval_selection){.m = m, .n = n, .mint = mint, .maxt = maxt, .next = ev->selections};
    st = ev->querier->ops->select(ev->querier, m, n, mint, maxt, ev->out, &s->list, err);
    if (st)
        return selection_failed(ev, err);
    ev->selections = s;
    *out = s->list;
    return NX_OK;
}

static bool has_one_name(const struct pql_selector *sel)
{
    for (size_t i = 0; i < sel->n; i++)
        if (sel->m[i].type == MATCH_EQ && sel->m[i].value.len &&
            nx_slice_is(sel->m[i].name, LABEL_NAME))
            return true;
    return false;
}

bool eval_needs_only(const struct eval *ev, const struct pql_expr *e)
{
    const struct pql_expr *leaf = eval_unparen(e), *sel = leaf;

    if (leaf->kind == PQL_NODE_CALL && !leaf->call.func->window && !leaf->call.func->slide)
        return false;
    for (size_t i = 0; leaf->kind == PQL_NODE_CALL && i < leaf->call.n; i++) {
        const struct pql_expr *arg = eval_unparen(leaf->call.args[i]);

        if (arg->kind == PQL_NODE_RANGE)
            sel = arg->range.selector;
        else if (arg->kind != PQL_NODE_NUMBER)
            return false;
    }
    return sel->kind == PQL_NODE_SELECTOR && has_one_name(&sel->selector) && !ev->delayed_names &&
           !leaf_is_shared(ev, leaf);
}

static nx_status series_labels(struct eval *ev, const struct series_list *list, struct labels **out,
                               struct nx_err *err)
{
    struct labels *labels = arena_array(ev->work, list->n ? list->n : 1, sizeof *labels);

    if (!labels)
        return eval_nomem(ev, ev->work, err);
    for (size_t i = 0; i < list->n; i++)
        labels[i] = list->v[i].labels;
    *out = labels;
    return NX_OK;
}

/* ---- instants --------------------------------------------------------------------------------- */

struct instants {
    struct series_list list;
    struct pieces pieces;
    int64_t offset_ms;
    bool pinned, sample_times, smoothed;
    int64_t pin_ms;
    struct read_hint hint;
    struct leaf_use use;
};

/* Nearly all that an instant costs when it is read; how this lies in the processor's lines makes a tenth. */
__attribute__((aligned(64))) void select_instants(const struct column *c,
                                                  const struct eval_times *tm, const int64_t *pin,
                                                  int64_t offset_ms, int64_t lookback_ms,
                                                  bool sample_times, struct row *into)
{
    size_t j = 0; /* samples before j are not after the data time */
    uint32_t points = 0;

    for (uint32_t k = 0; k < tm->n; k++) {
        int64_t at = (pin ? *pin : eval_time(tm, k)) - offset_ms;
        bool has;

        while (j < c->n && c->t[j] <= at)
            j++;
        has = j > 0 && c->t[j - 1] > at - lookback_ms && !num_is_stale(c->v[j - 1]);
        into->has[k] = has;
        into->v[k] = !has ? 0 : sample_times ? (double)c->t[j - 1] / 1000 : c->v[j - 1];
        points += has;
    }
    into->points = points;
}

/* S6 */
static void select_points(const struct column *c, const struct eval_times *tm,
                          const struct instants *in, int64_t lookback_ms, struct row *into)
{
    size_t j = 0;

    into->points = 0;
    for (uint32_t k = 0; k < tm->n; k++) {
        int64_t at = (in->pinned ? in->pin_ms : eval_time(tm, k)) - in->offset_ms;
        int64_t reach = lookback_ms;
        bool has;

        while (j < c->n && c->t[j] <= at)
            j++;
        if (j > 0 && c->t[j - 1] <= c->coarse_to_ms)
            reach += c->resolution_ms;
        has = j > 0 && c->t[j - 1] > at - reach && !num_is_stale(c->v[j - 1]);
        into->has[k] = has;
        into->v[k] = !has ? 0 : in->sample_times ? (double)c->t[j - 1] / 1000 : c->v[j - 1];
        into->points += has;
    }
}

/* A smoothed instant lies on the line between the samples around it: the newest before it, the oldest not
 * before it, both within lookback and neither a stale marker. */
static void select_smoothed(const struct column *c, const struct eval_times *tm,
                            const struct instants *in, int64_t lookback_ms, struct row *into)
{
    size_t
        from = 0,
        j = 0; /* samples before j are before the data time; those before `from` beyond lookback */

    into->points = 0;
    for (uint32_t k = 0; k < tm->n; k++) {
        int64_t at = (in->pinned ? in->pin_ms : eval_time(tm, k)) - in->offset_ms;
        size_t before, after;

        while (j < c->n && c->t[j] < at)
            j++;
        while (from < j && c->t[from] <= at - lookback_ms)
            from++;
        for (before = j; before > from && num_is_stale(c->v[before - 1]);)
            before--;
        for (after = j;
             after < c->n && num_is_stale(c->v[after]) && c->t[after] <= at + lookback_ms;)
            after++;
        const bool has_before = before > from;
        const bool has_after = after < c->n && c->t[after] <= at + lookback_ms;

        into->has[k] = has_before || (has_after && c->t[after] == at);
        into->v[k] = 0;
        if (!into->has[k])
            continue;
        into->points++;
        if (!has_after) {
            into->v[k] = c->v[before - 1];
        } else if (c->t[after] == at) {
            into->v[k] = c->v[after];
        } else {
            const double v = c->v[before - 1];
            const int64_t t = c->t[before - 1];

            into->v[k] = v + (c->v[after] - v) * (double)(at - t) / (double)(c->t[after] - t);
        }
    }
}

static nx_status read_instants(struct eval *ev, const struct rows *r, size_t i, struct row *into,
                               struct nx_err *err)
{
    struct instants *in = r->ctx;
    struct piece p = {0, 0};

    into->points = 0;
    while (p.to < r->tm->n) {
        nx_status st = pieces_read(ev, &in->pieces, &in->list.v[i], &in->hint, &p, err);
        struct eval_times tm;
        struct row part;

        if (st)
            return st;
        tm = piece_times(r->tm, &p);
        part = piece_row(into, &p);
        if (ev->col.resolution_ms && !ev->col.exact)
            select_points(&ev->col, &tm, in, ev->lookback_ms, &part);
        else if (in->smoothed)
            select_smoothed(&ev->col, &tm, in, ev->lookback_ms, &part);
        else
            select_instants(&ev->col, &tm, in->pinned ? &in->pin_ms : NULL, in->offset_ms,
                            ev->lookback_ms, in->sample_times, &part);
        into->points += part.points;
    }
    return NX_OK;
}

static nx_status instants_pull(struct eval *ev, struct rows *r, size_t i, struct row *into,
                               struct nx_err *err)
{
    const struct instants *in = r->ctx;
    struct leaf_seen seen = {0, 0, 0};
    nx_status st = NX_OK;

    if (!leaf_take(&in->use, i, into, &seen)) {
        st = read_instants(ev, r, i, into, err);
        if (!st)
            st = leaf_keep(ev, &in->use, i, into, &seen, err);
    }
    if (st)
        return st;
    count_instants(ev, r->tm, into);
    return eval_hold(ev, r, into->points, err);
}

static nx_status instants_fork(struct eval *to, const struct rows *r, struct rows *copy,
                               struct nx_err *err)
{
    struct instants *in = arena_alloc(to->work, sizeof *in);

    if (!in)
        return eval_nomem(to, to->work, err);
    *in = *(const struct instants *)r->ctx;
    copy->ctx = in;
    return NX_OK;
}

void rows_only_marks(struct rows *r)
{
    if (r->pull == instants_pull && !r->data) {
        struct instants *in = r->ctx;

        in->hint.marks = !in->sample_times && !in->smoothed && !in->use.group;
    }
}

nx_status eval_selector(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                        bool sample_times, struct rows **out, struct nx_err *err)
{
    const struct pql_selector *sel = &e->selector;
    struct instants *in = arena_zalloc(ev->work, sizeof *in);
    int64_t mint, maxt;
    struct rows *r;
    nx_status st;

    if (!in)
        return eval_nomem(ev, ev->work, err);
    in->pinned = eval_at(ev, &sel->shift, &in->pin_ms);
    in->sample_times = sample_times;
    in->smoothed = sel->smoothed && !sample_times;
    st = eval_dur(ev, &sel->shift.offset, true, &in->offset_ms, err);
    if (st)
        return st;
    in->pieces = (struct pieces){.tm = tm,
                                 .pinned = in->pinned,
                                 .pin_ms = in->pin_ms,
                                 .offset_ms = in->offset_ms,
                                 .before_ms = ev->lookback_ms,
                                 .beyond_ms = in->smoothed ? ev->lookback_ms : 0};
    mint = (in->pinned ? in->pin_ms : tm->start) - in->offset_ms - ev->lookback_ms + 1;
    maxt = (in->pinned ? in->pin_ms : eval_time(tm, tm->n - 1)) - in->offset_ms;
    if (in->smoothed)
        maxt += ev->lookback_ms;
    if (sample_times && in->pinned) /* S7 */
        in->offset_ms = 0;
    in->hint = points_hint(READ_VALUE, tm, in->pinned ? &in->pin_ms : NULL, in->offset_ms, 0);
    st = eval_select(ev, sel->m, sel->n, mint, maxt, &in->list, err);
    if (!st && !sample_times)
        st = leaf_open(ev, e, tm, &in->list, &in->use, err);
    if (!st)
        st = rows_new(ev, tm, 0, &r, err);
    if (st)
        return st;
    st = series_labels(ev, &in->list, &r->labels, err);
    if (st)
        return st;
    r->n = in->list.n;
    r->pull = instants_pull;
    r->fork = in->use.group ? NULL : instants_fork; /* what is kept is one thread's */
    r->ctx = in;
    *out = r;
    return NX_OK;
}

/* ---- ranges ----------------------------------------------------------------------------------- */

static nx_status open_selector(struct eval *ev, const struct pql_expr *e,
                               const struct eval_times *tm, struct range_source *s,
                               struct nx_err *err)
{
    const struct pql_selector *sel = &e->range.selector->selector;
    struct series_list *list = arena_zalloc(ev->work, sizeof *list);
    nx_status st;

    if (!list)
        return eval_nomem(ev, ev->work, err);
    st = eval_dur(ev, &e->range.range, false, &s->range_ms, err);
    if (!st)
        st = eval_dur(ev, &sel->shift.offset, true, &s->offset_ms, err);
    if (st)
        return st;
    s->pinned = eval_at(ev, &sel->shift, &s->pin_ms);
    s->anchored = sel->anchored;
    s->smoothed = sel->smoothed;
    s->mint = (s->pinned ? s->pin_ms : tm->start) - s->offset_ms - s->range_ms + 1;
    s->maxt = (s->pinned ? s->pin_ms : eval_time(tm, tm->n - 1)) - s->offset_ms;
    if (s->anchored || s->smoothed)
        s->mint -= ev->lookback_ms;
    if (s->smoothed)
        s->maxt += ev->lookback_ms;
    s->hint = points_hint(READ_SHAPE, tm, s->pinned ? &s->pin_ms : NULL, s->offset_ms, s->range_ms);
    st = eval_select(ev, sel->m, sel->n, s->mint, s->maxt, list, err);
    if (st)
        return st;
    s->list = list;
    s->n = list->n;
    return series_labels(ev, list, &s->labels, err);
}

/* The steps of a subquery whose windows end between first and last (S4). */
static nx_status subquery_times(struct eval *ev, const struct range_source *s, int64_t first,
                                int64_t last, int64_t step, struct eval_times **out,
                                struct nx_err *err)
{
    struct eval_times *tm = arena_zalloc(ev->work, sizeof *tm);
    int64_t after = first - s->offset_ms - s->range_ms, end = last - s->offset_ms;

    if (!tm)
        return eval_nomem(ev, ev->work, err);
    tm->step = step;
    tm->end = end;
    tm->start = after / step * step;
    if (tm->start <= after)
        tm->start += step;
    if (end >= tm->start) {
        int64_t n = (end - tm->start) / step + 1;

        if (n > INT32_MAX)
            return eval_too_many(err);
        tm->n = (uint32_t)n;
    }
    *out = tm;
    return NX_OK;
}

static nx_status open_subquery(struct eval *ev, const struct pql_expr *e,
                               const struct eval_times *tm, struct range_source *s,
                               struct nx_err *err)
{
    struct eval_times *inner = NULL;
    int64_t step = 0, first, last;
    nx_status st = eval_dur(ev, &e->sub.range, false, &s->range_ms, err);

    if (!st)
        st = eval_dur(ev, &e->sub.shift.offset, true, &s->offset_ms, err);
    if (!st && (e->sub.step.ms || e->sub.step.expr))
        st = eval_dur(ev, &e->sub.step, false, &step, err);
    if (st)
        return st;
    if (!step)
        step = ev->default_step_ms;
    s->pinned = eval_at(ev, &e->sub.shift, &s->pin_ms);
    first = s->pinned ? s->pin_ms : tm->start;
    last = s->pinned ? s->pin_ms : eval_time(tm, tm->n - 1);
    st = subquery_times(ev, s, first, last, step, &inner, err);
    if (st)
        return st;
    if (inner->n == 0)
        return rows_new(ev, inner, 0, &s->inner, err);
    st = counts_subquery(ev, inner, tm, s->range_ms, s->offset_ms, err);
    if (!st)
        st = eval_rows(ev, e->sub.inner, inner, &s->inner, err);
    if (!st)
        st = row_new(ev, inner, &s->scratch, err);
    if (st)
        return st;
    s->n = s->inner->n;
    s->labels = s->inner->labels;
    return NX_OK;
}

static nx_status range_open(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                            struct range_source **out, struct nx_err *err)
{
    struct range_source *s = arena_zalloc(ev->work, sizeof *s);
    nx_status st;

    if (!s)
        return eval_nomem(ev, ev->work, err);
    s->lookback_ms = ev->lookback_ms;
    st = e->kind == PQL_NODE_RANGE ? open_selector(ev, e, tm, s, err)
                                   : open_subquery(ev, e, tm, s, err);
    if (!st)
        *out = s;
    return st;
}

static nx_status range_buffers(struct eval *ev, struct range_source *s, size_t n,
                               struct nx_err *err)
{
    size_t cap = n + n / 2 + 64;

    if (n <= s->cap)
        return NX_OK;
    s->cap = 0;
    s->t = arena_array(ev->work, cap, sizeof *s->t);
    s->v = arena_array(ev->work, cap, sizeof *s->v);
    if (!s->t || !s->v)
        return eval_nomem(ev, ev->work, err);
    s->cap = cap;
    return NX_OK;
}

static nx_status read_subquery(struct eval *ev, struct range_source *s, size_t i,
                               struct samples *out, struct nx_err *err)
{
    const struct eval_times *tm = s->inner->tm;
    struct row row;
    size_t n = 0;
    nx_status st = rows_view(ev, s->inner, i, &s->scratch, &row, err);

    if (!st)
        st = range_buffers(ev, s, row.points, err);
    if (st)
        return st;
    for (uint32_t k = 0; k < tm->n; k++) {
        if (!row.has[k])
            continue;
        s->t[n] = eval_time(tm, k);
        s->v[n++] = row.v[k];
    }
    *out = (struct samples){s->t, s->v, n};
    return NX_OK;
}

/* Stale markers are NaNs, and few columns have any: whole blocks are told to have none. */
static bool any_stale(const double *v, size_t n)
{
    size_t j = 0;

    for (; j + 64 <= n; j += 64) {
        int nans = 0, stale = 0;

        for (size_t i = 0; i < 64; i++)
            nans |= v[j + i] != v[j + i];
        for (size_t i = 0; i < 64 && nans; i++)
            stale |= num_is_stale(v[j + i]);
        if (stale)
            return true;
    }
    for (; j < n; j++)
        if (num_is_stale(v[j]))
            return true;
    return false;
}

/* What was read, without stale markers. */
static nx_status take_samples(struct eval *ev, struct range_source *s, struct samples *out,
                              struct nx_err *err)
{
    const struct column *c = &ev->col;
    size_t n = 0;
    nx_status st;

    if (!any_stale(c->v, c->n)) {
        *out = (struct samples){c->t, c->v, c->n};
        return NX_OK;
    }
    st = range_buffers(ev, s, c->n, err);
    if (st)
        return st;
    for (size_t j = 0; j < c->n; j++) {
        if (num_is_stale(c->v[j]))
            continue;
        s->t[n] = c->t[j];
        s->v[n++] = c->v[j];
    }
    *out = (struct samples){s->t, s->v, n};
    return NX_OK;
}

/* All samples of a series. Valid until the next read of any source. */
static nx_status range_read(struct eval *ev, struct range_source *s, size_t i, struct samples *out,
                            struct nx_err *err)
{
    nx_status st;

    if (s->inner)
        return read_subquery(ev, s, i, out, err);
    st = points_read(ev, &s->list->v[i], NULL, s->mint, s->maxt, eval_most(ev), err);
    if (ev->col.over)
        return eval_too_many(err);
    return st ? st : take_samples(ev, s, out, err);
}

/* ---- functions of ranges ---------------------------------------------------------------------- */

/* The windows of a piece's steps over the series at work; those of other steps mean nothing. */
struct windows {
    uint32_t *lo, *hi;
    struct windows_seen seen;
    size_t largest; /* samples in the largest */
    int64_t range_ms;
    struct piece piece;
    int64_t *times; /* of that series' samples */
    size_t n_times, times_cap;
    double *notes; /* of the kernel about these windows */
    bool noted;
};

struct range_call {
    const struct pql_expr *e, *arg; /* the call, its range */
    const struct pql_func *func;
    struct range_source *src;
    struct pieces pieces;
    double *args[PQL_MAX_ARGS];
    size_t n_args;
    struct windows asked, wide; /* wide: made when it is needed first, as is spare */
    int64_t *end;
    double *scratch;
    size_t scratch_cap;
    const struct points_use *points;
    struct row spare[2];
    struct label
        counter; /* the first label of a series that was found to be named like a counter */
    struct leaf_use use;
    struct range_call *
        *others;      /* variants of the use that are made of the same samples; NULL: its own */
    bool others_fail; /* for the series at work: each must read for itself */
};

static nx_status windows_new(struct eval *ev, const struct eval_times *tm, struct windows *w,
                             struct nx_err *err)
{
    w->lo = arena_array(ev->work, tm->n, sizeof *w->lo);
    w->hi = arena_array(ev->work, tm->n, sizeof *w->hi);
    w->notes = arena_array(ev->work, tm->n, 2 * sizeof *w->notes);
    return w->lo && w->hi && w->notes ? NX_OK : eval_nomem(ev, ev->work, err);
}

/* The windows of the steps of w->piece. */
static void find_windows(const struct range_call *c, struct windows *w, const struct samples *s)
{
    const struct range_source *src = c->src;
    int64_t before = w->range_ms + (src->anchored || src->smoothed ? src->lookback_ms : 0);
    int64_t beyond = src->smoothed ? src->lookback_ms : 0;
    size_t lo = 0, hi = 0;

    w->largest = 0;
    if (w->piece.from > 0) /* the piece before had these */
        while (hi < s->n && s->t[hi] <= c->end[w->piece.from - 1] + beyond)
            hi++;
    w->seen = (struct windows_seen){w->lo, w->hi, w->piece.from, w->piece.to, (uint32_t)hi, 0, 0};
    for (uint32_t k = w->piece.from; k < w->piece.to; k++) {
        const size_t seen = hi;
        int64_t end = c->end[k];

        while (hi < s->n && s->t[hi] <= end + beyond)
            hi++;
        while (lo < hi && s->t[lo] <= end - before)
            lo++;
        w->lo[k] = (uint32_t)lo;
        w->hi[k] = (uint32_t)hi;
        w->seen.all += hi - lo;
        w->seen.fresh += hi - (seen > lo ? seen : lo);
        if (hi - lo > w->largest)
            w->largest = hi - lo;
    }
}

/* Series of one target have their samples at the same times: then the windows are those of the series
 * before. */
static nx_status take_windows(struct eval *ev, const struct range_call *c, struct windows *w,
                              const struct piece *p, const struct samples *s, struct nx_err *err)
{
    if (s->n && s->n == w->n_times && w->piece.from == p->from && w->piece.to == p->to &&
        memcmp(s->t, w->times, s->n * sizeof *s->t) == 0)
        return NX_OK;
    if (s->n > w->times_cap) {
        const size_t cap = s->n + s->n / 2 + 64;

        w->times_cap = w->n_times = 0;
        w->times = arena_array(ev->work, cap, sizeof *w->times);
        if (!w->times)
            return eval_nomem(ev, ev->work, err);
        w->times_cap = cap;
    }
    if (s->n)
        memcpy(w->times, s->t, s->n * sizeof *s->t);
    w->n_times = s->n;
    w->piece = *p;
    w->noted = false;
    find_windows(c, w, s);
    return NX_OK;
}

static nx_status run_windows(struct eval *ev, const struct range_call *c, const struct windows *wi,
                             const struct rows *r, const struct samples *s, struct row *into,
                             struct nx_err *err)
{
    nx_status failed = NX_OK;
    double args[PQL_MAX_ARGS];

    for (uint32_t k = wi->piece.from; k < wi->piece.to; k++) {
        uint32_t n = wi->hi[k] - wi->lo[k];

        into->has[k] = 0;
        into->v[k] = 0;
        if (!n)
            continue;
        failed = eval_spend(ev, n, err); /* S8 */
        if (failed)
            return failed;
        struct pql_window w = {.t = s->t + wi->lo[k],
                               .v = s->v + wi->lo[k],
                               .n = n,
                               .start = c->end[k] - wi->range_ms,
                               .end = c->end[k],
                               .eval_ms = eval_time(r->tm, k),
                               .scratch = c->scratch,
                               .ev = ev,
                               .e = c->e,
                               .failed = &failed,
                               .err = err,
                               .anchored = c->src->anchored,
                               .smoothed = c->src->smoothed};
        for (size_t a = 0; a < c->n_args; a++)
            args[a] = c->args[a][k];
        into->has[k] = c->func->window(&w, args, &into->v[k]);
        if (failed)
            return failed;
    }
    return NX_OK;
}

static bool same_strings(const struct label *a, const struct label *b)
{
    return a->name.ptr == b->name.ptr && a->name.len == b->name.len &&
           a->value.ptr == b->value.ptr && a->value.len == b->value.len;
}

/* rate() over something that is not named like a counter. */
static void note_non_counter(struct eval *ev, struct range_call *c, size_t i)
{
    static const char *const endings[] = {"_total", "_sum", "_count", "_bucket"};
    const struct labels *ls = &c->src->labels[i];
    struct nx_slice name;
    char quoted[TEXT_QUOTED_BYTES];

    if (ls->n && ls->v[0].name.len && same_strings(&ls->v[0], &c->counter))
        return;
    name = labels_get_str(ls, LABEL_NAME);
    if (!name.len)
        return;
    for (size_t k = 0; k < NX_COUNT(endings); k++) {
        size_t len = strlen(endings[k]);

        if (name.len >= len && memcmp(name.ptr + name.len - len, endings[k], len) == 0) {
            if (nx_slice_is(ls->v[0].name, LABEL_NAME)) /* it comes first, nearly always */
                c->counter = ls->v[0];
            return;
        }
    }
    /* Prometheus has no position for what a subquery gave. */
    annots_add(&ev->annots, ANNOT_INFO, c->src->inner ? (struct pql_pos){0, 0} : c->arg->pos,
               "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: %s",
               text_quoted(quoted, name));
}

/* Room for the kernel, by the sample and at least as much as a window needs. */
static nx_status make_scratch(struct eval *ev, struct range_call *c, size_t n, bool roomy,
                              struct nx_err *err)
{
    size_t need, bytes, cap;

    if (__builtin_mul_overflow(n + 2, roomy ? 4u : 1u, &need) ||
        __builtin_add_overflow(need, need / 2 + 64, &cap) ||
        __builtin_mul_overflow(cap, sizeof *c->scratch, &bytes))
        return eval_too_many(err);
    if (need <= c->scratch_cap)
        return NX_OK;
    c->scratch_cap = 0;
    c->scratch = arena_alloc(ev->work, bytes);
    if (!c->scratch)
        return eval_nomem(ev, ev->work, err);
    c->scratch_cap = cap;
    return NX_OK;
}

static nx_status run_slide(struct eval *ev, const struct range_call *c, struct windows *w,
                           const struct rows *r, const struct piece *p, const struct samples *s,
                           bool points, struct row *into, struct nx_err *err)
{
    const struct eval_times tm = piece_times(r->tm, p);
    const double *args[PQL_MAX_ARGS];
    nx_status failed = NX_OK;

    for (size_t a = 0; a < c->n_args; a++)
        args[a] = c->args[a] + p->from;
    const struct pql_slide slide = {.t = s->t,
                                    .v = s->v,
                                    .n = s->n,
                                    .lo = w->lo + p->from,
                                    .hi = w->hi + p->from,
                                    .tm = &tm,
                                    .range_ms = w->range_ms,
                                    .end = c->end + p->from,
                                    .arg = args,
                                    .ev = ev,
                                    .e = c->e,
                                    .failed = &failed,
                                    .err = err,
                                    .anchored = c->src->anchored,
                                    .smoothed = c->src->smoothed,
                                    .scratch = c->scratch,
                                    .notes = w->notes + 2 * (size_t)p->from,
                                    .noted = &w->noted};
    (points ? c->points->slide : c->func->slide)(&slide, into->v + p->from, into->has + p->from);
    return failed;
}

/* The function over the windows of a piece of a series. */
static nx_status run_kernel(struct eval *ev, struct range_call *c, struct windows *w,
                            const struct rows *r, const struct piece *p, const struct samples *s,
                            struct row *into, struct nx_err *err)
{
    const bool points = !c->src->inner && ev->col.resolution_ms && c->points->slide;
    nx_status st = take_windows(ev, c, w, p, s, err);

    if (!st)
        st = eval_room(ev, w->largest, err);
    if (!st)
        st = make_scratch(ev, c, s->n, points || (c->func->flags & PQL_F_ROOMY), err);
    if (st)
        return st;
    return c->func->slide ? run_slide(ev, c, w, r, p, s, points, into, err)
                          : run_windows(ev, c, w, r, s, into, err);
}

static nx_status spare_row(struct eval *ev, struct range_call *c, const struct rows *r, size_t i,
                           struct nx_err *err)
{
    return c->spare[i].v ? NX_OK : row_new(ev, r->tm, &c->spare[i], err);
}

/* S6: the windows of steps that only points are known of, as long as the function needs them. */
static nx_status widen(struct eval *ev, struct range_call *c, const struct rows *r,
                       const struct piece *p, const struct samples *s, struct row *into,
                       struct nx_err *err)
{
    const int64_t asked_ms = c->asked.range_ms, wide_ms = c->points->needs * ev->col.resolution_ms;
    const double share = c->points->grows ? (double)asked_ms / (double)wide_ms : 1;
    const struct row *wide = &c->spare[0];
    nx_status st;

    if (ev->col.exact || asked_ms >= wide_ms)
        return NX_OK;
    st = spare_row(ev, c, r, 0, err);
    if (!st && !c->wide.lo)
        st = windows_new(ev, r->tm, &c->wide, err);
    if (st)
        return st;
    if (c->wide.range_ms != wide_ms)
        c->wide.n_times = 0;
    c->wide.range_ms = wide_ms;
    st = run_kernel(ev, c, &c->wide, r, p, s, &c->spare[0], err);
    for (uint32_t k = p->from; k < p->to && !st; k++) {
        if (c->end[k] - asked_ms >= ev->col.coarse_to_ms)
            continue;
        into->has[k] = wide->has[k];
        into->v[k] = wide->v[k] * share;
    }
    return st;
}

/* The other functions of the same ranges, over the same samples. Points tell each of them another thing. */
static nx_status run_others(struct eval *ev, struct range_call *c, const struct rows *r, size_t i,
                            const struct piece *p, const struct samples *s, struct nx_err *err)
{
    nx_status st = NX_OK;

    c->others_fail = c->others_fail || ev->col.resolution_ms;
    for (uint32_t v = 0; v < leaf_variants(&c->use) && !st && !c->others_fail; v++) {
        struct row *row;

        if (!c->others[v])
            continue;
        st = leaf_room(ev, &c->use, v, i, &row, err);
        if (!st && row)
            st = run_kernel(ev, c->others[v], &c->others[v]->asked, r, p, s, row, err);
    }
    return st;
}

static nx_status others_made(struct eval *ev, struct range_call *c, size_t i,
                             const struct leaf_seen *seen, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (uint32_t v = 0; v < leaf_variants(&c->use) && !st && !c->others_fail; v++) {
        struct row *row = NULL;

        if (c->others[v])
            st = leaf_room(ev, &c->use, v, i, &row, err);
        if (!st && row)
            leaf_made(&c->use, v, i, seen);
    }
    c->others_fail = false;
    return st;
}

/* What the function makes of a piece of a series that was read for a use. */
static nx_status run_use(struct eval *ev, struct range_call *c, const struct rows *r, size_t i,
                         const struct piece *p, struct row *into, struct nx_err *err)
{
    struct samples s;
    nx_status st = take_samples(ev, c->src, &s, err);

    if (!st)
        st = run_kernel(ev, c, &c->asked, r, p, &s, into, err);
    if (!st && ev->col.resolution_ms)
        st = widen(ev, c, r, p, &s, into, err);
    return st || !c->others ? st : run_others(ev, c, r, i, p, &s, err);
}

/* The mean of points is their sum by their count. */
static nx_status divide_by_count(struct eval *ev, struct range_call *c, const struct rows *r,
                                 size_t i, const struct piece *p, struct row *into,
                                 struct nx_err *err)
{
    const struct row *count = &c->spare[1];
    nx_status st = spare_row(ev, c, r, 1, err);

    c->src->hint.use = READ_COUNT;
    if (!st)
        st = pieces_read_again(ev, &c->pieces, &c->src->list->v[i], &c->src->hint, p, err);
    if (!st)
        st = run_use(ev, c, r, i, p, &c->spare[1], err);
    for (uint32_t k = p->from; k < p->to && !st; k++) {
        into->has[k] = into->has[k] && count->has[k];
        into->v[k] = into->has[k] ? into->v[k] / count->v[k] : 0;
    }
    return st;
}

/* Reads the next piece of a series and runs the function over it. */
static nx_status pull_piece(struct eval *ev, struct range_call *c, const struct rows *r, size_t i,
                            struct piece *p, struct row *into, struct nx_err *err)
{
    struct windows *w = &c->asked;
    nx_status st;

    c->src->hint.use = c->points->use;
    st = pieces_read(ev, &c->pieces, &c->src->list->v[i], &c->src->hint, p, err);
    if (!st)
        st = run_use(ev, c, r, i, p, into, err);
    if (st)
        return st;
    count_windows(ev, r->tm, &w->seen);
    return ev->col.resolution_ms && c->points->mean ? divide_by_count(ev, c, r, i, p, into, err)
                                                    : NX_OK;
}

static nx_status pull_subquery(struct eval *ev, struct range_call *c, const struct rows *r,
                               size_t i, struct row *into, struct nx_err *err)
{
    const struct piece whole = {0, r->tm->n};
    struct samples s;
    nx_status st = range_read(ev, c->src, i, &s, err);

    if (!st)
        st = run_kernel(ev, c, &c->asked, r, &whole, &s, into, err);
    if (st)
        return st;
    c->asked.seen.fresh = 0; /* they were counted where the subquery read them */
    count_windows(ev, r->tm, &c->asked.seen);
    return NX_OK;
}

/* Reads a series, if no other use has made this one's row yet. */
static nx_status pull_series(struct eval *ev, struct range_call *c, const struct rows *r, size_t i,
                             struct row *into, size_t *largest, struct nx_err *err)
{
    struct piece p = {0, 0};
    struct leaf_seen seen = {0, 0, 0};
    nx_status st = NX_OK;

    if (leaf_take(&c->use, i, into, &seen)) {
        st = eval_room(ev, seen.largest, err);
        count_windows(ev, r->tm,
                      &(struct windows_seen){.all = seen.all, .fresh = seen.fresh}); /* V1 */
        *largest = seen.largest;
        return st;
    }
    while (p.to < r->tm->n && !st) {
        st = pull_piece(ev, c, r, i, &p, into, err);
        if (st)
            break;
        seen.all += c->asked.seen.all;
        seen.fresh += c->asked.seen.fresh;
        if (c->asked.largest > seen.largest)
            seen.largest = c->asked.largest;
    }
    *largest = seen.largest;
    if (!st && c->others)
        st = others_made(ev, c, i, &seen, err);
    return st ? st : leaf_keep(ev, &c->use, i, into, &seen, err);
}

static nx_status range_pull(struct eval *ev, struct rows *r, size_t i, struct row *into,
                            struct nx_err *err)
{
    struct range_call *c = r->ctx;
    size_t largest = 0;
    nx_status st = c->src->inner ? pull_subquery(ev, c, r, i, into, err)
                                 : pull_series(ev, c, r, i, into, &largest, err);

    if (st)
        return st;
    if (c->src->inner)
        largest = c->asked.largest;
    into->points = 0;
    for (uint32_t k = 0; k < r->tm->n; k++)
        into->points += into->has[k];
    if (into->points && (c->func->flags & PQL_F_COUNTER))
        note_non_counter(ev, c, i);
    st = eval_hold(ev, r, into->points, err);
    if (!st && ev->held + largest > ev->peak) /* the window is held beside its results */
        ev->peak = ev->held + largest;
    return st;
}

static struct pieces range_pieces(const struct range_source *src, const struct eval_times *tm)
{
    const int64_t around_ms = src->anchored || src->smoothed ? src->lookback_ms : 0;

    return (struct pieces){.tm = tm,
                           .pinned = src->pinned,
                           .pin_ms = src->pin_ms,
                           .offset_ms = src->offset_ms,
                           .before_ms = src->range_ms + around_ms,
                           .beyond_ms = src->smoothed ? src->lookback_ms : 0};
}

static nx_status range_mode_check(const struct range_call *c, struct nx_err *err)
{
    const char *mode = c->src->anchored ? "anchored" : "smoothed";
    unsigned flag = c->src->anchored ? PQL_F_ANCHORED : PQL_F_SMOOTHED;

    if (!(c->src->anchored || c->src->smoothed) || (c->func->flags & flag))
        return NX_OK;
    return nx_fail(err, NX_EXEC, "%s modifier can only be used with: %s - not with %s", mode,
                   c->src->anchored ? "changes, delta, increase, rate, resets"
                                    : "delta, increase, rate",
                   c->func->name);
}

static nx_status range_call_args(struct eval *ev, struct range_call *c, const struct eval_times *tm,
                                 struct nx_err *err)
{
    nx_status st;

    for (size_t i = 0; i < c->e->call.n; i++) {
        const struct pql_expr *arg = eval_unparen(c->e->call.args[i]);

        if (arg->type == PQL_MATRIX) {
            c->arg = arg;
            continue;
        }
        st = eval_scalar(ev, arg, tm, &c->args[c->n_args++], err);
        if (st)
            return st;
    }
    return range_open(ev, c->arg, tm, &c->src, err);
}

static nx_status range_fork(struct eval *to, const struct rows *r, struct rows *copy,
                            struct nx_err *err)
{
    const struct range_call *from = r->ctx;
    struct range_call *c = arena_alloc(to->work, sizeof *c);
    struct range_source *src = arena_alloc(to->work, sizeof *src);
    nx_status st;

    if (!c || !src)
        return eval_nomem(to, to->work, err);
    *src = *from->src;
    src->inner = copy->child;
    src->t = NULL;
    src->v = NULL;
    src->cap = 0;
    *c = *from; /* what it does, and none of what it works with */
    c->src = src;
    c->asked = (struct windows){.range_ms = from->asked.range_ms};
    c->wide = (struct windows){0};
    c->scratch = NULL;
    c->scratch_cap = 0;
    c->spare[0] = c->spare[1] = (struct row){0};
    copy->ctx = c;
    st = windows_new(to, r->tm, &c->asked, err);
    return st || !src->inner ? st : row_new(to, src->inner->tm, &src->scratch, err);
}

static bool wants_marks(const struct pql_func *f)
{
    return f->slide == slide_count_over_time || f->slide == slide_present_over_time;
}

/* A call that runs beside `c`, over what that reads: its arguments are numbers (leaves.c, V5). */
static nx_status other_call(struct eval *ev, const struct range_call *c, const struct pql_expr *e,
                            const struct eval_times *tm, struct range_call **out,
                            struct nx_err *err)
{
    struct range_call *o = arena_zalloc(ev->work, sizeof *o);
    nx_status st = NX_OK;

    if (!o)
        return eval_nomem(ev, ev->work, err);
    o->e = e;
    o->func = e->call.func;
    o->points = points_use_of(o->func);
    o->src = c->src;
    o->end = c->end;
    o->asked.range_ms = c->asked.range_ms;
    st = windows_new(ev, tm, &o->asked, err);
    for (size_t i = 0; i < e->call.n && !st; i++) {
        const struct pql_expr *arg = eval_unparen(e->call.args[i]);

        if (arg->type == PQL_SCALAR)
            st = eval_scalar(ev, arg, tm, &o->args[o->n_args++], err);
    }
    *out = o;
    return st;
}

static nx_status share_range(struct eval *ev, struct range_call *c, const struct eval_times *tm,
                             struct nx_err *err)
{
    bool marks = wants_marks(c->func);
    nx_status st = leaf_open(ev, c->e, tm, c->src->list, &c->use, err);
    const uint32_t n = leaf_variants(&c->use);

    if (!st && n > 1) {
        c->others = arena_array(ev->work, n, sizeof *c->others);
        if (!c->others)
            return eval_nomem(ev, ev->work, err);
    }
    for (uint32_t v = 0; v < n && !st; v++) {
        const struct pql_expr *e = leaf_variant(&c->use, v);

        if (!e)
            continue;
        marks = marks && wants_marks(e->call.func);
        st = other_call(ev, c, e, tm, &c->others[v], err);
    }
    c->src->hint.marks = marks;
    return st;
}

nx_status eval_range_call(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                          struct rows **out, struct nx_err *err)
{
    struct range_call *c = arena_zalloc(ev->work, sizeof *c);
    struct rows *r;
    nx_status st;

    if (!c)
        return eval_nomem(ev, ev->work, err);
    c->e = e;
    c->func = e->call.func;
    c->points = points_use_of(c->func);
    c->end = arena_array(ev->work, tm->n, sizeof *c->end);
    if (!c->end)
        return eval_nomem(ev, ev->work, err);
    st = windows_new(ev, tm, &c->asked, err);
    if (!st)
        st = range_call_args(ev, c, tm, err);
    if (!st)
        st = range_mode_check(c, err);
    if (!st)
        st = rows_new(ev, tm, 0, &r, err);
    if (st)
        return st;
    c->asked.range_ms = c->src->range_ms;
    c->pieces = range_pieces(c->src, tm);
    for (uint32_t k = 0; k < tm->n; k++)
        c->end[k] = (c->src->pinned ? c->src->pin_ms : eval_time(tm, k)) - c->src->offset_ms;
    c->src->hint.marks = wants_marks(c->func);
    if (!c->src->inner) {
        st = share_range(ev, c, tm, err);
        if (st)
            return st;
    }
    r->n = c->src->n;
    r->labels = c->src->labels;
    r->pull = range_pull;
    r->fork = c->use.group ? NULL : range_fork;
    r->ctx = c;
    r->child = c->src->inner;
    if (c->src->inner)
        r->drop = c->src->inner->drop;
    if (!(c->func->flags & PQL_F_KEEP_NAME)) {
        st = rows_drop_names(ev, r, true, err);
        if (st)
            return st;
    }
    *out = r;
    return NX_OK;
}

/* ---- a range vector as a result --------------------------------------------------------------- */

/* Anchored and smoothed ranges have samples on both their edges. */
static size_t extend_samples(const struct range_source *src, int64_t start, int64_t end,
                             const struct samples *s, size_t lo, size_t hi, int64_t *t, double *v)
{
    size_t first = lo, last = hi - 1, n = 0;

    while (first + 1 <= last && s->t[first + 1] <= start)
        first++;
    if (src->smoothed)
        for (last = first; last < hi - 1 && s->t[last] < end; last++)
            ;
    if (s->t[last] <= start)
        return 0;
    t[n] = start;
    v[n] = s->v[first];
    if (src->smoothed && s->t[first] < start && first + 1 < hi)
        v[n] += (s->v[first + 1] - s->v[first]) * (double)(start - s->t[first]) /
                (double)(s->t[first + 1] - s->t[first]);
    n++;
    for (size_t j = s->t[first] <= start ? first + 1 : first; j <= last && s->t[j] < end; j++) {
        t[n] = s->t[j];
        v[n++] = s->v[j];
    }
    t[n] = end;
    v[n] = s->v[last];
    if (src->smoothed && last > lo && s->t[last] > end)
        v[n] = s->v[last - 1] + (s->v[last] - s->v[last - 1]) * (double)(end - s->t[last - 1]) /
                                    (double)(s->t[last] - s->t[last - 1]);
    return n + 1;
}

nx_status eval_matrix(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                      struct pql_series **out, size_t *n, struct nx_err *err)
{
    struct range_source *src;
    struct pql_series *series;
    size_t kept = 0;
    nx_status st = range_open(ev, e, tm, &src, err);

    if (!st && src->inner) {
        st = rows_settle_names(ev, src->inner, err);
        src->n = src->inner->n;
        src->labels = src->inner->labels;
    }
    if (st)
        return st;
    series = arena_array(ev->out, src->n ? src->n : 1, sizeof *series);
    if (!series)
        return eval_nomem(ev, ev->out, err);
    if (src->inner && src->inner->tm->counts)
        src->inner->tm->counts->kind = COUNTS_RESULT;
    for (size_t i = 0; i < src->n; i++) {
        int64_t end = (src->pinned ? src->pin_ms : tm->start) - src->offset_ms;
        struct samples s;

        st = eval_check(ev, err);
        if (!st)
            st = range_read(ev, src, i, &s, err);
        if (!st)
            st = eval_room(ev, s.n, err);
        if (st)
            return st;
        if (!s.n)
            continue;
        int64_t *t = arena_array(ev->out, s.n + 2, sizeof *t);
        double *v = arena_array(ev->out, s.n + 2, sizeof *v);
        if (!t || !v)
            return eval_nomem(ev, ev->out, err);
        size_t points = s.n;
        if (src->anchored || src->smoothed) {
            points = extend_samples(src, end - src->range_ms, end, &s, 0, s.n, t, v);
        } else {
            memcpy(t, s.t, s.n * sizeof *t);
            memcpy(v, s.v, s.n * sizeof *v);
        }
        if (!points)
            continue;
        ev->held += points;
        if (!src->inner)
            count_windows(ev, tm,
                          &(struct windows_seen){&(uint32_t){0}, &(uint32_t){(uint32_t)points}, 0,
                                                 1, 0, points, points});
        if (ev->held > ev->peak)
            ev->peak = ev->held;
        series[kept++] = (struct pql_series){.labels = src->labels[i], .t = t, .v = v, .n = points};
    }
    *out = series;
    *n = kept;
    return NX_OK;
}
