/* fn_info.c - info(): labels of info metrics put on series of the same instance and job.
 *
 * SHAPE For each name of an info metric, info series are found by instance and job. A base series takes
 *       the labels of the newest sample at each step; as these may change over the steps, one base
 *       series may give several rows.
 * RULES I1  Labels that the base series has are kept; two info metrics that disagree are an error.
 *       I2  Series that are info series themselves pass unchanged.
 *       I3  @ and offset of the argument's first selector apply to the info series as well.
 *       I4  Info series whose instance or job no base series has are not looked at.
 *       I5  Of info series of one name and identity the one with the newest sample counts at a step; two that
 *           are equally new contradict. */
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
    uint32_t steps; /* to be joined */
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

/* Info series by what some of their labels say: those of set i are v[first[i]] up to v[first[i + 1]]. */
struct sets {
    struct label_index index;
    struct nx_slice names[3];
    uint32_t *first, *v;
};

static nx_status sets_make(const struct info *in, struct sets *s, size_t n_names,
                           struct nx_err *err)
{
    struct eval *ev = in->c->ev;
    const size_t n = in->list.n;
    uint32_t *of = arena_array(ev->work, n + 1, sizeof *of);

    s->v = arena_array(ev->work, n + 1, sizeof *s->v);
    s->first = arena_zalloc(ev->work, (n + 2) * sizeof *s->first);
    if (!of || !s->v || !s->first)
        return eval_nomem(ev, ev->work, err);
    label_index_some(&s->index, ev->work, s->names, n_names, true);
    for (size_t i = 0; i < n; i++) {
        bool created;
        nx_status st = label_index_add(ev, &s->index, &in->list.v[i].labels, &of[i], &created, err);

        if (st)
            return st;
        s->first[of[i] + 2]++;
    }
    for (size_t i = 2; i < n + 2; i++)
        s->first[i] += s->first[i - 1];
    for (size_t i = 0; i < n; i++)
        s->v[s->first[of[i] + 1]++] = (uint32_t)i;
    return NX_OK;
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

/* What contradicts first: at the first step, and there the first series of all. */
struct clash {
    uint32_t k, a, b;
    bool any;
};

/* Of series of one name and identity only the newest stays at step k; false where two are equally new. */
static bool keep_newest(const struct info *in, const uint32_t *v, size_t n, uint32_t k,
                        struct clash *c)
{
    uint32_t newest = UINT32_MAX;

    for (size_t i = 0; i < n; i++) {
        if (!in->at[v[i]].has[k])
            continue;
        if (newest != UINT32_MAX && in->at[v[i]].v[k] == in->at[newest].v[k]) {
            if (!c->any || k < c->k || v[i] < c->b)
                *c = (struct clash){k, newest, v[i], true};
            return false;
        }
        if (newest == UINT32_MAX || in->at[v[i]].v[k] > in->at[newest].v[k])
            newest = v[i];
    }
    for (size_t i = 0; i < n; i++)
        in->at[v[i]].has[k] &= v[i] == newest;
    return true;
}

/* At which steps is there a base series at all? */
static void mark_based(const struct info *in, uint8_t *based)
{
    for (size_t i = 0; i < in->base->n; i++)
        for (uint32_t k = 0; k < in->c->tm->n; k++)
            based[k] |= in->base->data[i].has[k];
}

/* I5. Leaves the presence bytes of what is newest. Where series contradict, the steps before are still to be
 * joined: they may fail for another reason. */
static nx_status settle_kin(struct info *in, struct clash *out, struct nx_err *err)
{
    struct eval *ev = in->c->ev;
    struct sets kin = {.names = {nx_slice_str(LABEL_NAME), nx_slice_str(identifying[0]),
                                 nx_slice_str(identifying[1])}};
    uint8_t *based = arena_zalloc(ev->work, in->c->tm->n);
    struct clash c = {0};
    nx_status st = based ? sets_make(in, &kin, 3, err) : eval_nomem(ev, ev->work, err);

    if (!st)
        mark_based(in, based);
    for (size_t i = 0; !st && i < kin.index.n; i++) {
        const uint32_t *v = kin.v + kin.first[i];
        const size_t n = kin.first[i + 1] - kin.first[i];

        if (n < 2)
            continue;
        st = eval_check(ev, err);
        for (uint32_t k = 0; k < in->c->tm->n && !st && !(c.any && k > c.k); k++) {
            if (based[k] && !keep_newest(in, v, n, k, &c))
                break;
            st = eval_spend(ev, n, err);
        }
    }
    *out = c;
    in->steps = c.any ? c.k : in->c->tm->n;
    return st;
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

/* The row of these labels, made if it is the first. */
static nx_status row_of(struct info *in, const struct labels *ls, size_t base, uint32_t *id,
                        struct nx_err *err)
{
    struct eval *ev = in->c->ev;
    struct rows *r = in->out;
    struct labels *mine = arena_alloc(ev->work, sizeof *mine);
    struct row *row;
    bool created;
    nx_status st;

    if (!mine)
        return eval_nomem(ev, ev->work, err);
    *mine = *ls;
    st = label_index_add(ev, &in->index, mine, id, &created, err);
    if (st || !created)
        return st;
    if (r->n == in->cap) {
        size_t cap = in->cap * 2 + 16;

        r->data = arena_grow(ev->work, r->data, in->cap * sizeof *r->data, cap * sizeof *r->data);
        r->labels =
            arena_grow(ev->work, r->labels, in->cap * sizeof *r->labels, cap * sizeof *r->labels);
        r->drop = arena_grow(ev->work, r->drop, in->cap, cap);
        if (!r->data || !r->labels || !r->drop)
            return eval_nomem(ev, ev->work, err);
        in->cap = cap;
    }
    r->drop[r->n] = row_drops(in->base, base);
    return rows_append(ev, r, mine, &row, err);
}

static nx_status put_point(struct info *in, uint32_t id, size_t base, uint32_t k,
                           struct nx_err *err)
{
    struct row *row = &in->out->data[id];

    if (row->has[k])
        return eval_same_labelset(err);
    row->has[k] = 1;
    row->v[k] = in->base->data[base].v[k];
    row->points++;
    return eval_hold(in->c->ev, in->out, 1, err);
}

/* The labels of a base series and of the info series that are newest at step k. */
static nx_status build_labels(struct info *in, size_t base, const uint32_t *fit, size_t n,
                              uint32_t k, struct labels *out, bool *found, struct nx_err *err)
{
    const struct labels *ls = &in->base->labels[base];
    nx_status st = eval_spend(in->c->ev, n, err);

    *found = false;
    labels_builder_reset(&in->builder, ls);
    for (size_t i = 0; i < n && !st; i++) {
        if (!in->at[fit[i]].has[k])
            continue;
        *found = true;
        st = add_labels(in, ls, &in->list.v[fit[i]].labels, err);
    }
    return st ? st : labels_keep(in->c->ev, &in->builder, out, err);
}

/* Whether the info series `fit` that are newest at step k are others than at the step before. */
static void mark_changes(const struct info *in, const uint32_t *fit, size_t n, uint8_t *changes)
{
    memset(changes, 0, in->c->tm->n);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *has = in->at[fit[i]].has;

        for (uint32_t k = 1; k < in->c->tm->n; k++)
            changes[k] |= has[k] ^ has[k - 1];
    }
}

/* The same set of info series as at the step before gives the same labels. */
static nx_status enrich(struct info *in, size_t base, const uint32_t *fit, size_t n,
                        const uint8_t *changes, struct nx_err *err)
{
    bool stale = true, found = false, keeps = stays_without(in);
    uint32_t id = UINT32_MAX;
    struct labels built;
    nx_status st = NX_OK;

    for (uint32_t k = 0; k < in->steps && !st; k++) {
        stale |= changes[k];
        if (!in->base->data[base].has[k])
            continue;
        if (stale) {
            id = UINT32_MAX;
            st = build_labels(in, base, fit, n, k, &built, &found, err);
            stale = false;
        }
        if (!st && !found && !keeps)
            continue;
        if (!st && id == UINT32_MAX)
            st = row_of(in, &built, base, &id, err);
        if (!st)
            st = put_point(in, id, base, k, err);
    }
    return st;
}

static nx_status pass_through(struct info *in, size_t base, struct nx_err *err)
{
    uint32_t id = UINT32_MAX;
    nx_status st = NX_OK;

    for (uint32_t k = 0; k < in->steps && !st; k++) {
        if (!in->base->data[base].has[k])
            continue;
        if (id == UINT32_MAX)
            st = row_of(in, &in->base->labels[base], base, &id, err);
        if (!st)
            st = put_point(in, id, base, k, err);
    }
    return st;
}

static nx_status join_all(struct info *in, struct nx_err *err)
{
    struct eval *ev = in->c->ev;
    struct sets who = {.names = {nx_slice_str(identifying[0]), nx_slice_str(identifying[1])}};
    uint8_t *changes = arena_alloc(ev->work, in->c->tm->n);
    uint32_t marked = 0; /* the identity that `changes` are of; UINT32_MAX: no info series */
    bool first = true;
    struct clash clash = {0};
    nx_status st = changes ? settle_kin(in, &clash, err) : eval_nomem(ev, ev->work, err);

    if (!st)
        st = sets_make(in, &who, 2, err);
    for (size_t i = 0; i < in->base->n && !st; i++) {
        const struct labels *ls = &in->base->labels[i];
        const uint32_t *fit = NULL;
        size_t n = 0;
        uint32_t id;

        st = eval_check(ev, err);
        if (st)
            return st;
        if (is_info_name(in, labels_get_str(ls, LABEL_NAME))) {
            st = pass_through(in, i, err);
            continue;
        }
        id = label_index_find(&who.index, ls);
        if (id != UINT32_MAX) {
            fit = who.v + who.first[id];
            n = who.first[id + 1] - who.first[id];
        }
        if (first || id != marked)
            mark_changes(in, fit, n, changes);
        marked = id;
        first = false;
        st = enrich(in, i, fit, n, changes, err);
    }
    return !st && clash.any ? conflict(in, clash.a, clash.b, clash.k, err) : st;
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
