/* eval.c - the evaluator's middle: which node is made by what, and the simple ones.
 *
 * WHY   Dashboards ask for a day at a time. Going a series at a time over all steps decodes each series
 *       once and keeps the inner loops over plain arrays.
 * SHAPE eval_rows() gives lazy rows (eval.h); eval_scalar() gives one value a step; strings are read off
 *       the tree. Selectors and ranges are in eval_select.c, aggregations in aggr.c, matching in
 *       binop.c, functions in fn_*.c.
 * RULES E1  A subtree that can't change with the step is evaluated at the first step and repeated.
 *       E2  Parentheses around an argument are not there: not for timestamp(), not for positions.
 *       E3  eval_check() runs at each node and each pulled row: a query stops within one series.
 *       E4  Annotations are added when rows are pulled, so an answer is complete only when all are. */
#include "promql/eval.h"

#include <math.h>
#include <string.h>

#include "promql/fn.h"
#include "src/base/clock.h"

nx_status eval_stopped(nx_status st, const char *where, struct nx_err *err)
{
    return nx_fail(err, st, "query %s in %s", st == NX_CANCELED ? "was canceled" : "timed out",
                   where);
}

nx_status eval_check(const struct eval *ev, struct nx_err *err)
{
    if (ev->cancel && __atomic_load_n(ev->cancel, __ATOMIC_RELAXED))
        return eval_stopped(NX_CANCELED, EVAL_WHERE, err);
    if (clock_mono_coarse_ns() > ev->deadline_ns)
        return eval_stopped(NX_TIMEOUT, EVAL_WHERE, err);
    return NX_OK;
}

const struct pql_expr *eval_unparen(const struct pql_expr *e)
{
    while (e->kind == PQL_NODE_PAREN)
        e = e->paren;
    return e;
}

struct nx_slice eval_string(const struct pql_expr *e)
{
    return eval_unparen(e)->string;
}

/* ---- durations -------------------------------------------------------------------------------- */

static nx_status durexpr(const struct eval *ev, const struct pql_durexpr *d, double *out,
                         struct nx_err *err)
{
    double l = 0, r = 0;
    nx_status st = NX_OK;

    if (d->lhs)
        st = durexpr(ev, d->lhs, &l, err);
    if (!st && d->rhs)
        st = durexpr(ev, d->rhs, &r, err);
    if (st)
        return st;
    double one = d->rhs ? r : l; /* operand of a sign or of parentheses */
    switch (d->op) {
    case PQL_DUR_NUM:
        *out = d->value;
        break;
    case PQL_DUR_STEP:
        *out = (double)ev->q_step_ms / 1000;
        break;
    case PQL_DUR_RANGE:
        *out = (double)(ev->q_end_ms - ev->q_start_ms) / 1000;
        break;
    case PQL_DUR_NEG:
        *out = -one;
        break;
    case PQL_DUR_POS:
    case PQL_DUR_PAREN:
        *out = one;
        break;
    case PQL_DUR_ADD:
        *out = l + r;
        break;
    case PQL_DUR_SUB:
        *out = l - r;
        break;
    case PQL_DUR_MUL:
        *out = l * r;
        break;
    case PQL_DUR_DIV:
        if (r == 0)
            return nx_fail(err, NX_BADINPUT, "%u:%u: division by zero", d->pos.start, d->pos.end);
        *out = l / r;
        break;
    case PQL_DUR_MOD:
        if (r == 0)
            return nx_fail(err, NX_BADINPUT, "%u:%u: modulo by zero", d->pos.start, d->pos.end);
        *out = fmod(l, r);
        break;
    case PQL_DUR_POW:
        *out = pow(l, r);
        break;
    case PQL_DUR_MIN:
        *out = fmin(l, r);
        break;
    case PQL_DUR_MAX:
        *out = fmax(l, r);
        break;
    }
    return NX_OK;
}

nx_status eval_dur(const struct eval *ev, const struct pql_dur *d, bool may_be_negative,
                   int64_t *ms, struct nx_err *err)
{
    double s;
    nx_status st;

    if (!d->expr) {
        *ms = d->ms;
        return NX_OK;
    }
    st = durexpr(ev, d->expr, &s, err);
    if (st)
        return st;
    if (isnan(s) || isinf(s))
        return nx_fail(err, NX_BADINPUT, "%u:%u: duration is NaN or infinite", d->expr->pos.start,
                       d->expr->pos.end);
    if (s <= 0 && !may_be_negative)
        return nx_fail(err, NX_BADINPUT, "%u:%u: duration must be greater than 0",
                       d->expr->pos.start, d->expr->pos.end);
    if (fabs(s) > 9223372036.0)
        return nx_fail(err, NX_BADINPUT, "%u:%u: duration is out of range", d->expr->pos.start,
                       d->expr->pos.end);
    *ms = (int64_t)(s * 1000);
    return NX_OK;
}

/* ---- the times that are read ------------------------------------------------------------------ */

struct span {
    const struct eval *ev;
    int64_t mint, maxt;
    bool any;
};

static nx_status span_of(struct span *s, const struct pql_expr *e, int64_t start, int64_t end,
                         struct nx_err *err);

static void span_add(struct span *s, int64_t mint, int64_t maxt)
{
    if (!s->any || mint < s->mint)
        s->mint = mint;
    if (!s->any || maxt > s->maxt)
        s->maxt = maxt;
    s->any = true;
}

/* Moves [start, end] to the data times that `shift` makes of them. */
static nx_status span_shift(const struct eval *ev, const struct pql_shift *shift, int64_t *start,
                            int64_t *end, struct nx_err *err)
{
    int64_t offset = 0, at = 0;
    nx_status st = eval_dur(ev, &shift->offset, true, &offset, err);

    if (st)
        return st;
    if (eval_at(ev, shift, &at))
        *start = *end = at;
    *start -= offset;
    *end -= offset;
    return NX_OK;
}

static nx_status span_selector(struct span *s, const struct pql_expr *e, int64_t range_ms,
                               int64_t start, int64_t end, struct nx_err *err)
{
    const struct pql_selector *sel = &e->selector;
    nx_status st = span_shift(s->ev, &sel->shift, &start, &end, err);

    if (st)
        return st;
    start -= range_ms ? range_ms : s->ev->lookback_ms;
    if (range_ms && (sel->anchored || sel->smoothed))
        start -= s->ev->lookback_ms;
    if (sel->smoothed)
        end += s->ev->lookback_ms;
    span_add(s, start + 1, end);
    return NX_OK;
}

static nx_status span_subquery(struct span *s, const struct pql_expr *e, int64_t start, int64_t end,
                               struct nx_err *err)
{
    int64_t range = 0, step;
    nx_status st = span_shift(s->ev, &e->sub.shift, &start, &end, err);

    if (!st && e->sub.step.expr)
        st = eval_dur(s->ev, &e->sub.step, false, &step, err);
    if (!st) /* of several faults Prometheus tells that of the offset, then of the step */
        st = eval_dur(s->ev, &e->sub.range, false, &range, err);
    return st ? st : span_of(s, e->sub.inner, start - range, end, err);
}

static nx_status span_call(struct span *s, const struct pql_expr *e, int64_t start, int64_t end,
                           struct nx_err *err)
{
    bool info = nx_slice_is(nx_slice_str(e->call.func->name), "info");
    nx_status st = NX_OK;

    for (size_t i = 0; i < e->call.n && !st; i++)
        st = span_of(s, e->call.args[i], start, end, err);
    if (info && s->any) /* its series are read where the argument's are, and an instant before */
        span_add(s, s->mint - s->ev->lookback_ms, s->maxt);
    return st;
}

static nx_status span_of(struct span *s, const struct pql_expr *e, int64_t start, int64_t end,
                         struct nx_err *err)
{
    nx_status st;
    int64_t range;

    switch (e->kind) {
    case PQL_NODE_NUMBER:
    case PQL_NODE_STRING:
        return NX_OK;
    case PQL_NODE_SELECTOR:
        return span_selector(s, e, 0, start, end, err);
    case PQL_NODE_RANGE:
        st = eval_dur(s->ev, &e->range.range, false, &range, err);
        return st ? st : span_selector(s, e->range.selector, range, start, end, err);
    case PQL_NODE_SUBQUERY:
        return span_subquery(s, e, start, end, err);
    case PQL_NODE_CALL:
        return span_call(s, e, start, end, err);
    case PQL_NODE_AGGREGATE:
        st = span_of(s, e->agg.inner, start, end, err);
        return st || !e->agg.param ? st : span_of(s, e->agg.param, start, end, err);
    case PQL_NODE_UNARY:
        return span_of(s, e->unary.inner, start, end, err);
    case PQL_NODE_BINARY:
        st = span_of(s, e->binary.lhs, start, end, err);
        return st ? st : span_of(s, e->binary.rhs, start, end, err);
    case PQL_NODE_PAREN:
        return span_of(s, e->paren, start, end, err);
    }
    return NX_OK;
}

nx_status eval_span(const struct eval *ev, const struct pql_expr *e, int64_t *mint, int64_t *maxt,
                    bool *any, struct nx_err *err)
{
    struct span s = {.ev = ev};
    nx_status st = span_of(&s, e, ev->q_start_ms, ev->q_end_ms, err);

    if (st)
        return st;
    *mint = s.mint;
    *maxt = s.maxt;
    *any = s.any;
    return NX_OK;
}

/* ---- what does not change with the step (E1) -------------------------------------------------- */

static bool is_invariant(const struct pql_expr *e);

static bool call_is_invariant(const struct pql_expr *e)
{
    for (size_t i = 0; i < e->call.n; i++)
        if (!is_invariant(e->call.args[i]))
            return false;
    if (!(e->call.func->flags & PQL_F_PER_STEP))
        return true;
    /* timestamp(x @ t) is the sample's own time; around anything else it is the step's. */
    return strcmp(e->call.func->name, "timestamp") == 0 &&
           eval_unparen(e->call.args[0])->kind == PQL_NODE_SELECTOR;
}

static bool is_invariant(const struct pql_expr *e)
{
    switch (e->kind) {
    case PQL_NODE_NUMBER:
    case PQL_NODE_STRING:
        return true;
    case PQL_NODE_SELECTOR:
        return e->selector.shift.at != PQL_AT_NONE;
    case PQL_NODE_RANGE:
        return is_invariant(e->range.selector);
    case PQL_NODE_SUBQUERY:
        return e->sub.shift.at != PQL_AT_NONE;
    case PQL_NODE_CALL:
        return call_is_invariant(e);
    case PQL_NODE_AGGREGATE: /* its parameter is not looked at, as in Prometheus */
        return is_invariant(e->agg.inner);
    case PQL_NODE_UNARY:
        return is_invariant(e->unary.inner);
    case PQL_NODE_BINARY:
        return is_invariant(e->binary.lhs) && is_invariant(e->binary.rhs);
    case PQL_NODE_PAREN:
        return is_invariant(e->paren);
    }
    return false;
}

static nx_status repeat_pull(struct eval *ev, struct rows *r, size_t i, struct row *into,
                             struct nx_err *err)
{
    double v = r->child->data[i].v[0];

    for (uint32_t k = 0; k < r->tm->n; k++)
        into->v[k] = v;
    memset(into->has, 1, r->tm->n);
    into->points = r->tm->n;
    return eval_hold(ev, r, r->tm->n - 1, err);
}

static nx_status first_step(struct eval *ev, const struct eval_times *tm,
                            const struct eval_times **out, struct nx_err *err)
{
    struct eval_times *once = arena_alloc(ev->work, sizeof *once);

    if (!once)
        return eval_nomem(ev, ev->work, err);
    *once = (struct eval_times){tm->start, tm->step, tm->start, 1, NULL};
    *out = once;
    return counts_once(ev, once, tm, err);
}

static nx_status eval_repeated(struct eval *ev, const struct pql_expr *e,
                               const struct eval_times *tm, struct rows **out, struct nx_err *err)
{
    const struct eval_times *once = NULL;
    struct rows *r, *child;
    nx_status st = first_step(ev, tm, &once, err);

    if (!st)
        st = eval_rows(ev, e, once, &child, err);
    if (!st)
        st = rows_make(ev, child, err);
    if (!st)
        st = rows_over(ev, child, repeat_pull, NULL, &r, err);
    if (st)
        return st;
    r->tm = tm;
    *out = r;
    return NX_OK;
}

/* ---- scalars ---------------------------------------------------------------------------------- */

static nx_status scalar_node(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                             double *v, struct nx_err *err)
{
    double *l, *r;
    nx_status st;

    switch (e->kind) {
    case PQL_NODE_NUMBER:
        for (uint32_t k = 0; k < tm->n; k++)
            v[k] = e->number.value;
        return NX_OK;
    case PQL_NODE_UNARY:
        st = eval_scalar(ev, e->unary.inner, tm, &l, err);
        for (uint32_t k = 0; k < tm->n && !st; k++)
            v[k] = e->unary.minus ? -l[k] : l[k];
        return st;
    case PQL_NODE_BINARY:
        st = eval_scalar(ev, e->binary.lhs, tm, &l, err);
        if (!st)
            st = eval_scalar(ev, e->binary.rhs, tm, &r, err);
        if (!st && (e->binary.op == PQL_OP_TRIM_UPPER || e->binary.op == PQL_OP_TRIM_LOWER))
            st = nx_fail(err, NX_EXEC, "operator \"%s\" not allowed for Scalar operations",
                         pql_op_text(e->binary.op));
        for (uint32_t k = 0; k < tm->n && !st; k++)
            v[k] = binop_scalar(e->binary.op, l[k], r[k]);
        return st;
    case PQL_NODE_CALL: {
        struct pql_call c = {.ev = ev, .e = e, .tm = tm, .scalar = v};
        return e->call.func->call(&c, err);
    }
    default:
        return nx_fail(err, NX_EXEC, "unexpected error: a node that is no scalar");
    }
}

nx_status eval_scalar(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                      double **out, struct nx_err *err)
{
    double *v = arena_array(ev->work, tm->n, sizeof *v);
    nx_status st;

    e = eval_unparen(e);
    if (!v)
        return eval_nomem(ev, ev->work, err);
    st = eval_check(ev, err);
    if (st)
        return st;
    if (tm->n > 1 && e->kind != PQL_NODE_NUMBER && is_invariant(e)) {
        const struct eval_times *once = NULL;

        st = first_step(ev, tm, &once, err);
        if (!st)
            st = scalar_node(ev, e, once, v, err);
        for (uint32_t k = 1; k < tm->n; k++)
            v[k] = v[0];
    } else {
        st = scalar_node(ev, e, tm, v, err);
    }
    if (!st)
        *out = v;
    return st;
}

nx_status eval_scalar_behind(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                             double **out, struct annots *told, struct nx_err *err)
{
    const struct annots before = ev->annots;
    struct annots own;
    nx_status st;

    ev->annots = (struct annots){.a = before.a};
    st = eval_scalar(ev, e, tm, out, err);
    own = ev->annots;
    ev->annots = before;
    annots_merge(&ev->annots, &own);
    told->a = own.a;
    annots_merge(told, &own);
    ev->annots.failed |= told->failed;
    return st;
}

void eval_told_behind(struct eval *ev, const struct rows *r, size_t i, const struct annots *told)
{
    if (told->n && i + 1 == r->n)
        annots_repeat(&ev->annots, told);
}

/* ---- vectors ---------------------------------------------------------------------------------- */

static nx_status minus_pull(struct eval *ev, struct rows *r, size_t i, struct row *into,
                            struct nx_err *err)
{
    nx_status st = rows_pull(ev, r->child, i, into, err);

    for (uint32_t k = 0; k < r->tm->n && !st; k++)
        into->v[k] = -into->v[k];
    return st;
}

static nx_status eval_unary(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                            struct rows **out, struct nx_err *err)
{
    struct rows *child, *r;
    nx_status st = eval_rows(ev, e->unary.inner, tm, &child, err);

    if (st)
        return st;
    if (!e->unary.minus) {
        *out = child;
        return NX_OK;
    }
    st = rows_over(ev, child, minus_pull, NULL, &r, err);
    if (!st)
        st = rows_drop_names(ev, r, false, err);
    if (!st)
        *out = r;
    return st;
}

struct with_scalar {
    const struct pql_expr *e;
    double *scalar, *tmp;
    bool scalar_first;
    struct annots told; /* by the scalar, if it is the second */
};

static nx_status with_scalar_pull(struct eval *ev, struct rows *r, size_t i, struct row *into,
                                  struct nx_err *err)
{
    struct with_scalar *c = r->ctx;
    uint32_t n = r->tm->n;
    nx_status st = rows_pull(ev, r->child, i, into, err);

    if (st)
        return st;
    eval_told_behind(ev, r, i, &c->told);
    if (!pql_op_is_comparison(c->e->binary.op)) {
        if (c->scalar_first)
            binop_apply(c->e->binary.op, c->scalar, into->v, n, into->v, NULL);
        else
            binop_apply(c->e->binary.op, into->v, c->scalar, n, into->v, NULL);
        return NX_OK;
    }
    into->points = 0;
    for (uint32_t k = 0; k < n; k++) {
        double a = c->scalar_first ? c->scalar[k] : into->v[k],
               b = c->scalar_first ? into->v[k] : c->scalar[k];
        bool yes = binop_scalar(c->e->binary.op, a, b) != 0;

        if (c->e->binary.return_bool)
            into->v[k] = yes;
        else
            into->has[k] = into->has[k] & yes;
        into->points += into->has[k];
    }
    return NX_OK;
}

static nx_status eval_with_scalar(struct eval *ev, const struct pql_expr *e,
                                  const struct eval_times *tm, struct rows **out,
                                  struct nx_err *err)
{
    struct with_scalar *c = arena_zalloc(ev->work, sizeof *c);
    struct rows *child, *r;
    nx_status st = NX_OK;

    if (!c)
        return eval_nomem(ev, ev->work, err);
    c->e = e;
    c->scalar_first = e->binary.lhs->type == PQL_SCALAR;
    if (c->scalar_first) /* of two errors the left one is told */
        st = eval_scalar(ev, e->binary.lhs, tm, &c->scalar, err);
    if (!st)
        st = eval_rows(ev, c->scalar_first ? e->binary.rhs : e->binary.lhs, tm, &child, err);
    if (!st && !c->scalar_first)
        st = eval_scalar_behind(ev, e->binary.rhs, tm, &c->scalar, &c->told, err);
    if (st)
        return st;
    if (e->binary.op == PQL_OP_TRIM_UPPER || e->binary.op == PQL_OP_TRIM_LOWER) {
        const char *op = pql_op_text(e->binary.op);

        st = rows_make(ev, child, err);
        if (st)
            return st;
        if (child->n)
            annots_add(
                &ev->annots, ANNOT_INFO, e->pos,
                "incompatible sample types encountered for binary operator \"%s\": float %s float",
                op, op);
        return rows_new(ev, tm, 0, out, err);
    }
    st = rows_over(ev, child, with_scalar_pull, c, &r, err);
    if (!st && (!pql_op_is_comparison(e->binary.op) || e->binary.return_bool))
        st = rows_drop_names(ev, r, false, err);
    if (!st)
        *out = r;
    return st;
}

struct map_call {
    const struct pql_func *func;
    double *args[PQL_MAX_ARGS];
    size_t n_args;
    struct annots told; /* by the arguments behind the first */
};

static nx_status map_pull(struct eval *ev, struct rows *r, size_t i, struct row *into,
                          struct nx_err *err)
{
    struct map_call *c = r->ctx;
    double args[PQL_MAX_ARGS] = {1}; /* what round() goes without */
    nx_status st = rows_pull(ev, r->child, i, into, err);

    for (uint32_t k = 0; k < r->tm->n && !st; k++) {
        if (!into->has[k])
            continue;
        for (size_t a = 0; a < c->n_args; a++)
            args[a] = c->args[a][k];
        into->v[k] = c->func->map(into->v[k], args);
    }
    if (!st)
        eval_told_behind(ev, r, i, &c->told);
    return st;
}

/* vector(time()) in whole seconds: what a date function goes without. */
static nx_status step_seconds(struct eval *ev, const struct eval_times *tm, struct rows **out,
                              struct nx_err *err)
{
    const struct labels none = {0};
    struct row *row;
    nx_status st = rows_made(ev, tm, 1, out, err);

    if (!st)
        st = rows_append(ev, *out, &none, &row, err);
    if (st)
        return st;
    for (uint32_t k = 0; k < tm->n; k++)
        row->v[k] = (double)(eval_time(tm, k) / 1000);
    memset(row->has, 1, tm->n);
    row->points = tm->n;
    return eval_hold(ev, *out, tm->n, err);
}

static nx_status eval_map_call(struct eval *ev, const struct pql_expr *e,
                               const struct eval_times *tm, struct rows **out, struct nx_err *err)
{
    struct map_call *c = arena_zalloc(ev->work, sizeof *c);
    struct rows *child, *r;
    nx_status st;

    if (!c)
        return eval_nomem(ev, ev->work, err);
    c->func = e->call.func;
    st = e->call.n ? eval_rows(ev, e->call.args[0], tm, &child, err)
                   : step_seconds(ev, tm, &child, err);
    for (size_t i = 1; i < e->call.n && !st; i++)
        st = eval_scalar_behind(ev, e->call.args[i], tm, &c->args[c->n_args++], &c->told, err);
    if (!st)
        st = rows_over(ev, child, map_pull, c, &r, err);
    if (!st && !(c->func->flags & PQL_F_KEEP_NAME))
        st = rows_drop_names(ev, r, false, err);
    if (!st)
        *out = r;
    return st;
}

static nx_status eval_call(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                           struct rows **out, struct nx_err *err)
{
    const struct pql_func *f = e->call.func;

    if (f->map)
        return eval_map_call(ev, e, tm, out, err);
    if (f->window || f->slide)
        return eval_range_call(ev, e, tm, out, err);
    struct pql_call c = {.ev = ev, .e = e, .tm = tm};
    nx_status st = f->call(&c, err);
    if (!st)
        *out = c.rows;
    return st;
}

static nx_status eval_binary(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                             struct rows **out, struct nx_err *err)
{
    if (e->binary.lhs->type == PQL_VECTOR && e->binary.rhs->type == PQL_VECTOR)
        return eval_vector_binop(ev, e, tm, out, err);
    return eval_with_scalar(ev, e, tm, out, err);
}

nx_status eval_rows(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                    struct rows **out, struct nx_err *err)
{
    nx_status st = eval_check(ev, err);

    if (st)
        return st;
    e = eval_unparen(e);
    if (tm->n > 0 && tm->start != tm->end && is_invariant(e))
        return eval_repeated(ev, e, tm, out, err);
    switch (e->kind) {
    case PQL_NODE_SELECTOR:
        return eval_selector(ev, e, tm, false, out, err);
    case PQL_NODE_CALL:
        return eval_call(ev, e, tm, out, err);
    case PQL_NODE_AGGREGATE:
        return eval_aggregate(ev, e, tm, out, err);
    case PQL_NODE_UNARY:
        return eval_unary(ev, e, tm, out, err);
    case PQL_NODE_BINARY:
        return eval_binary(ev, e, tm, out, err);
    default:
        return nx_fail(err, NX_EXEC, "unexpected error: a node that is no instant vector");
    }
}
