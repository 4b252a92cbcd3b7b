/* fn_info.c - info(): labels of info metrics put on series of the same instance and job.
 *
 * SHAPE For each name of an info metric, info series are found by instance and job. A base series takes
 *       the labels of the newest sample at each step; as these may change over the steps, one base
 *       series may give several rows.
 * RULES I1  Labels that the base series has are kept; two info metrics that disagree are an error.
 *       I2  Series that are info series themselves pass unchanged.
 *       I3  @ and offset of the argument's first selector apply to the info series as well.
 *       I4  Info series whose instance or job no base series has are not looked at. */
#include "promql/fn.h"
#include "promql/points.h"

#include <string.h>

#include "src/base/num.h"
#include "src/base/regex.h"

static const char *const identifying[] = {"instance", "job"};

struct info {
    struct pql_call *c;
    struct rows *base;
    const struct matcher *wanted; /* the selector's; names are told apart by LABEL_NAME */
    size_t n_wanted;
    bool pinned;
    int64_t pin_ms, offset_ms;
    struct series_list list; /* info series */
    struct row *at;          /* of each: sample times as values */
    struct labels_builder builder;
    struct rows *out;
    size_t cap;
    struct label_index index;
};

/* ---- which info series ---------------------------------------------------------------------------- */

/* The first selector of the tree, with what surrounding subqueries add to it. */
static bool first_selector(struct info *in, const struct pql_expr *e, int64_t offset, bool pinned,
                           int64_t pin, nx_status *st, struct nx_err *err)
{
    const struct eval *ev = in->c->ev;
    int64_t own = 0;

    switch (e->kind) {
    case PQL_NODE_SELECTOR:
        *st = eval_dur(ev, &e->selector.shift.offset, true, &own, err);
        in->pinned = eval_at(ev, &e->selector.shift, &in->pin_ms);
        in->offset_ms = own + (in->pinned ? 0 : offset);
        if (!in->pinned && pinned) {
            in->pinned = true;
            in->pin_ms = pin;
        }
        return true;
    case PQL_NODE_RANGE:
        return first_selector(in, e->range.selector, offset, pinned, pin, st, err);
    case PQL_NODE_SUBQUERY:
        *st = eval_dur(ev, &e->sub.shift.offset, true, &own, err);
        if (eval_at(ev, &e->sub.shift, &pin)) {
            pinned = true;
            offset = 0;
        }
        return first_selector(in, e->sub.inner, offset + own, pinned, pin, st, err);
    case PQL_NODE_CALL:
        for (size_t i = 0; i < e->call.n; i++)
            if (first_selector(in, e->call.args[i], offset, pinned, pin, st, err))
                return true;
        return false;
    case PQL_NODE_AGGREGATE:
        return first_selector(in, e->agg.inner, offset, pinned, pin, st, err) ||
               (e->agg.param && first_selector(in, e->agg.param, offset, pinned, pin, st, err));
    case PQL_NODE_UNARY:
        return first_selector(in, e->unary.inner, offset, pinned, pin, st, err);
    case PQL_NODE_BINARY:
        return first_selector(in, e->binary.lhs, offset, pinned, pin, st, err) ||
               first_selector(in, e->binary.rhs, offset, pinned, pin, st, err);
    case PQL_NODE_PAREN:
        return first_selector(in, e->paren, offset, pinned, pin, st, err);
    default:
        return false;
    }
}

static bool is_name_matcher(const struct matcher *m)
{
    return nx_slice_is(m->name, LABEL_NAME);
}

/* Whether the wanted names alone say which metrics: one of them must be positive. */
static bool names_are_given(const struct info *in, bool *any)
{
    bool positive = false;

    *any = false;
    for (size_t i = 0; i < in->n_wanted; i++) {
        if (!is_name_matcher(&in->wanted[i]))
            continue;
        *any = true;
        positive |= in->wanted[i].type == MATCH_EQ || in->wanted[i].type == MATCH_RE;
    }
    return positive;
}

static bool ends_in_info(struct nx_slice name)
{
    return name.len > 5 && memcmp(name.ptr + name.len - 5, "_info", 5) == 0;
}

/* Would a metric of this name be an info metric here? */
static bool is_info_name(const struct info *in, struct nx_slice name)
{
    bool any, positive = names_are_given(in, &any);

    if (!any)
        return nx_slice_is(name, "target_info");
    if (!positive && !ends_in_info(name))
        return false;
    for (size_t i = 0; i < in->n_wanted; i++)
        if (is_name_matcher(&in->wanted[i]) && !matcher_matches(&in->wanted[i], name))
            return false;
    return true;
}

/* The values that base series have of an identifying label. */
static nx_status known_values(const struct info *in, const struct nx_slice *label,
                              struct label_index *x, struct nx_err *err)
{
    struct eval *ev = in->c->ev;
    nx_status st = NX_OK;
    bool created;
    uint32_t id;

    label_index_some(x, ev->work, label, 1, true);
    for (size_t i = 0; i < in->base->n && !st; i++) {
        const struct labels *ls = &in->base->labels[i];

        if (labels_get(ls, *label).len && !is_info_name(in, labels_get_str(ls, LABEL_NAME)))
            st = label_index_add(ev, x, ls, &id, &created, err);
    }
    return st;
}

/* I4. False in *any: no base series has one. */
static nx_status keep_known(struct info *in, bool *any, struct nx_err *err)
{
    *any = false;
    for (size_t j = 0; j < NX_COUNT(identifying); j++) {
        const struct nx_slice label = nx_slice_str(identifying[j]);
        struct label_index x;
        size_t kept = 0;
        nx_status st = known_values(in, &label, &x, err);

        if (st)
            return st;
        if (!x.n)
            continue;
        *any = true;
        for (size_t i = 0; i < in->list.n; i++)
            if (label_index_find(&x, &in->list.v[i].labels) != UINT32_MAX)
                in->list.v[kept++] = in->list.v[i];
        in->list.n = kept;
    }
    return NX_OK;
}

static nx_status select_info(struct info *in, struct nx_err *err)
{
    struct eval *ev = in->c->ev;
    struct matcher *m = arena_array(ev->work, in->n_wanted + 1, sizeof *m);
    const struct eval_times *tm = in->c->tm;
    struct regex *re = NULL;
    size_t n = 0;
    bool any, positive = names_are_given(in, &any);
    nx_status st = NX_OK;

    if (!m)
        return eval_nomem(ev, ev->work, err);
    for (size_t i = 0; i < in->n_wanted; i++)
        m[n++] = in->wanted[i];
    if (!any) {
        m[n++] =
            (struct matcher){MATCH_EQ, nx_slice_str(LABEL_NAME), nx_slice_str("target_info"), NULL};
    } else if (!positive) {
        st = regex_new(&re, nx_slice_str(".+_info"), err);
        m[n++] = (struct matcher){MATCH_RE, nx_slice_str(LABEL_NAME), nx_slice_str(".+_info"), re};
    }
    int64_t first = (in->pinned ? in->pin_ms : tm->start) - in->offset_ms;
    int64_t last = (in->pinned ? in->pin_ms : eval_time(tm, tm->n - 1)) - in->offset_ms;
    if (!st)
        st = ev->querier->ops->select(ev->querier, m, n, first - ev->lookback_ms + 1, last, ev->out,
                                      &in->list, err);
    regex_free(re);
    if (!st)
        st = keep_known(in, &any, err);
    in->at = arena_array(ev->work, in->list.n + 1, sizeof *in->at);
    if (!st && !in->at)
        st = eval_nomem(ev, ev->work, err);
    for (size_t i = 0; i < in->list.n && !st; i++) {
        st = row_new(ev, tm, &in->at[i], err);
        if (!st)
            st = points_read(ev, &in->list.v[i], NULL, first - ev->lookback_ms + 1, last, 0, err);
        if (!st)
            select_instants(&ev->col, tm, in->pinned ? &in->pin_ms : NULL, in->offset_ms,
                            ev->lookback_ms, true, &in->at[i]);
        if (!st)
            count_instants(ev, tm, &in->at[i]);
    }
    return st;
}

/* ---- joining ----------------------------------------------------------------------------------------- */

static bool same_identity(const struct labels *a, const struct labels *b)
{
    for (size_t j = 0; j < NX_COUNT(identifying); j++)
        if (!nx_slice_eq(labels_get_str(a, identifying[j]), labels_get_str(b, identifying[j])))
            return false;
    return true;
}

static nx_status conflict(const struct info *in, size_t a, size_t b, uint32_t k, struct nx_err *err)
{
    struct buf x, y;
    long long t = (long long)(in->at[a].v[k] * 1000);
    nx_status st;

    buf_init(&x, 0);
    buf_init(&y, 0);
    labels_print_set(&x, &in->list.v[a].labels);
    labels_print_set(&y, &in->list.v[b].labels);
    st = nx_fail(err, NX_EXEC,
                 "found duplicate series for info metric: existing %s @ %lld, new %s @ %lld",
                 buf_cstr(&x), t, buf_cstr(&y), t);
    buf_done(&x);
    buf_done(&y);
    return st;
}

/* Two info series of one name and identity, with samples of the same age at a step, contradict. */
static nx_status check_conflicts(const struct info *in, struct nx_err *err)
{
    for (size_t a = 0; a < in->list.n; a++) {
        const struct labels *x = &in->list.v[a].labels;

        for (size_t b = a + 1; b < in->list.n; b++) {
            const struct labels *y = &in->list.v[b].labels;

            if (!nx_slice_eq(labels_get_str(x, LABEL_NAME), labels_get_str(y, LABEL_NAME)) ||
                !same_identity(x, y))
                continue;
            for (uint32_t k = 0; k < in->c->tm->n; k++)
                if (in->at[a].has[k] && in->at[b].has[k] && in->at[a].v[k] == in->at[b].v[k])
                    return conflict(in, a, b, k, err);
        }
    }
    return NX_OK;
}

/* The newest series at step k of those that fit `base` and are called like series i. */
static bool is_newest(const struct info *in, const uint32_t *fit, size_t n, size_t i, uint32_t k)
{
    struct nx_slice name = labels_get_str(&in->list.v[fit[i]].labels, LABEL_NAME);

    if (!in->at[fit[i]].has[k])
        return false;
    for (size_t j = 0; j < n; j++) {
        if (j == i || !in->at[fit[j]].has[k] || in->at[fit[j]].v[k] <= in->at[fit[i]].v[k])
            continue;
        if (nx_slice_eq(name, labels_get_str(&in->list.v[fit[j]].labels, LABEL_NAME)))
            return false;
    }
    return true;
}

static bool is_wanted(const struct info *in, struct nx_slice name)
{
    bool any = false;

    for (size_t i = 0; i < in->n_wanted; i++) {
        if (is_name_matcher(&in->wanted[i]))
            continue;
        any = true;
        if (nx_slice_eq(in->wanted[i].name, name))
            return true;
    }
    return !any;
}

static nx_status add_labels(struct info *in, const struct labels *base, const struct labels *from,
                            struct nx_err *err)
{
    for (uint32_t i = 0; i < from->n; i++) {
        struct nx_slice name = from->v[i].name, old;

        if (nx_slice_is(name, LABEL_NAME) || !is_wanted(in, name))
            continue;
        old = labels_builder_get(&in->builder, name);
        if (labels_get(base, name).len) {
            continue;
        } else if (old.len && !nx_slice_eq(old, from->v[i].value)) {
            return nx_fail(err, NX_EXEC, "conflicting label: %.*s", (int)name.len, name.ptr);
        }
        labels_builder_set(&in->builder, name, from->v[i].value);
    }
    return NX_OK;
}

/* Without info series, a base series stays only if all wanted labels may be absent. */
static bool stays_without(const struct info *in)
{
    const struct nx_slice empty = {"", 0};

    for (size_t i = 0; i < in->n_wanted; i++)
        if (!is_name_matcher(&in->wanted[i]) && !matcher_matches(&in->wanted[i], empty))
            return false;
    return true;
}

static nx_status put_point(struct info *in, const struct labels *ls, size_t base, uint32_t k,
                           struct nx_err *err)
{
    struct eval *ev = in->c->ev;
    struct rows *r = in->out;
    struct labels *mine = arena_alloc(ev->work, sizeof *mine);
    struct row *row;
    bool created;
    uint32_t id;
    nx_status st;

    if (!mine)
        return eval_nomem(ev, ev->work, err);
    *mine = *ls;
    st = label_index_add(ev, &in->index, mine, &id, &created, err);
    if (st)
        return st;
    if (created) {
        if (r->n == in->cap) {
            size_t cap = in->cap * 2 + 16;

            r->data =
                arena_grow(ev->work, r->data, in->cap * sizeof *r->data, cap * sizeof *r->data);
            r->labels = arena_grow(ev->work, r->labels, in->cap * sizeof *r->labels,
                                   cap * sizeof *r->labels);
            r->drop = arena_grow(ev->work, r->drop, in->cap, cap);
            if (!r->data || !r->labels || !r->drop)
                return eval_nomem(ev, ev->work, err);
            in->cap = cap;
        }
        r->drop[r->n] = row_drops(in->base, base);
        st = rows_append(ev, r, mine, &row, err);
        if (st)
            return st;
    }
    row = &r->data[id];
    if (row->has[k])
        return eval_same_labelset(err);
    row->has[k] = 1;
    row->v[k] = in->base->data[base].v[k];
    row->points++;
    return eval_hold(ev, r, 1, err);
}

/* The same set of info series as at the step before gives the same labels. */
static nx_status enrich(struct info *in, size_t base, uint32_t *fit, size_t n, struct nx_err *err)
{
    const struct labels *ls = &in->base->labels[base];
    struct eval *ev = in->c->ev;
    uint8_t *now = arena_zalloc(ev->work, n + 1), *last = arena_zalloc(ev->work, n + 1);
    struct labels built = *ls;
    bool first = true, found = false;
    nx_status st = NX_OK;

    if (!now || !last)
        return eval_nomem(ev, ev->work, err);
    for (uint32_t k = 0; k < in->c->tm->n && !st; k++) {
        if (!in->base->data[base].has[k])
            continue;
        for (size_t i = 0; i < n; i++)
            now[i] = is_newest(in, fit, n, i, k);
        if (first || memcmp(now, last, n) != 0) {
            found = false;
            labels_builder_reset(&in->builder, ls);
            for (size_t i = 0; i < n && !st; i++) {
                if (!now[i])
                    continue;
                found = true;
                st = add_labels(in, ls, &in->list.v[fit[i]].labels, err);
            }
            if (!st)
                st = labels_keep(ev, &in->builder, &built, err);
            memcpy(last, now, n);
            first = false;
        }
        if (!st && (found || stays_without(in)))
            st = put_point(in, &built, base, k, err);
    }
    return st;
}

static nx_status pass_through(struct info *in, size_t base, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (uint32_t k = 0; k < in->c->tm->n && !st; k++)
        if (in->base->data[base].has[k])
            st = put_point(in, &in->base->labels[base], base, k, err);
    return st;
}

static nx_status join_all(struct info *in, struct nx_err *err)
{
    uint32_t *fit = arena_array(in->c->ev->work, in->list.n + 1, sizeof *fit);
    nx_status st = check_conflicts(in, err);

    if (!fit)
        return eval_nomem(in->c->ev, in->c->ev->work, err);
    for (size_t i = 0; i < in->base->n && !st; i++) {
        const struct labels *ls = &in->base->labels[i];
        size_t n = 0;

        st = eval_check(in->c->ev, err);
        if (st)
            return st;
        if (is_info_name(in, labels_get_str(ls, LABEL_NAME))) {
            st = pass_through(in, i, err);
            continue;
        }
        for (size_t j = 0; j < in->list.n; j++)
            if (same_identity(ls, &in->list.v[j].labels))
                fit[n++] = (uint32_t)j;
        st = enrich(in, i, fit, n, err);
    }
    return st;
}

nx_status fn_info(struct pql_call *c, struct nx_err *err)
{
    struct info in = {.c = c};
    nx_status st = NX_OK;
    bool any = false;

    first_selector(&in, c->e->call.args[0], 0, false, 0, &st, err);
    if (!st)
        st = eval_rows(c->ev, c->e->call.args[0], c->tm, &in.base, err);
    if (!st)
        st = rows_make(c->ev, in.base, err);
    if (!st)
        st = rows_made(c->ev, c->tm, 0, &in.out, err);
    if (st)
        return st;
    if (c->e->call.n > 1) {
        const struct pql_expr *sel = eval_unparen(c->e->call.args[1]);

        in.wanted = sel->selector.m;
        in.n_wanted = sel->selector.n;
    }
    labels_builder_init(&in.builder);
    label_index_init(&in.index, c->ev->work);
    if (!st)
        st = keep_known(&in, &any, err);
    if (!st && any && c->ev->querier)
        st = select_info(&in, err);
    if (!st)
        st = join_all(&in, err);
    labels_builder_done(&in.builder);
    rows_release(c->ev, in.base);
    c->rows = in.out;
    return st;
}
