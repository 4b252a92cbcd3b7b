/* check.c - types, once the syntax is right.
 *
 * SHAPE  One walk, children first, in the order of Prometheus's checker: of two faults the same one is
 *        reported. The walk also settles what depends on types: vector matching means nothing where
 *        one side is a scalar, and set operators match many to many.
 * RULES  C1  Depth is bounded by the height of the tree, which the parser has checked. */
#include "promql/parse.h"

#include "promql/funcs.h"
#include "src/base/text.h"

static nx_status check(struct parser *p, struct pql_expr *e);

/* The tree is still ours to change: nobody else has seen it. */
static nx_status check_child(struct parser *p, const struct pql_expr *e)
{
    return check(p, (struct pql_expr *)(uintptr_t)e);
}

static bool is_operand(const struct pql_expr *e)
{
    return e->type == PQL_SCALAR || e->type == PQL_VECTOR;
}

static nx_status expect(struct parser *p, const struct pql_expr *e, enum pql_type want,
                        const char *in)
{
    nx_status st = check_child(p, e);

    if (!st && e->type != want)
        st = parse_fail(p, e->pos.start, "expected type %s in %s, got %s", pql_type_name(want), in,
                        pql_type_name(e->type));
    return st;
}

static nx_status check_aggregate(struct parser *p, const struct pql_expr *e)
{
    nx_status st = expect(p, e->agg.inner, PQL_VECTOR, "aggregation expression");

    if (!st && e->agg.param)
        st = expect(p, e->agg.param, e->agg.op == PQL_AGG_COUNT_VALUES ? PQL_STRING : PQL_SCALAR,
                    "aggregation parameter");
    return st;
}

/* Where the operator begins: behind the left side and its blanks. */
static uint32_t op_pos(const struct parser *p, const struct pql_expr *e)
{
    uint32_t i = e->binary.lhs->pos.end;

    while (i < p->lex.in.len && (p->lex.in.ptr[i] == ' ' || p->lex.in.ptr[i] == '\t' ||
                                 p->lex.in.ptr[i] == '\n' || p->lex.in.ptr[i] == '\r'))
        i++;
    return i;
}

/* on (a) group_left (a) has no meaning. */
static nx_status check_grouping(struct parser *p, const struct pql_expr *e)
{
    const struct pql_matching *m = &e->binary.match;

    for (size_t i = 0; m->on && i < m->n; i++)
        for (size_t k = 0; k < m->n_include; k++)
            if (nx_slice_eq(m->labels[i], m->include[k]))
                return parse_fail_quoted(p, op_pos(p, e), "label ", m->labels[i],
                                         " must not occur in ON and GROUP clause at once");
    return NX_OK;
}

/* Sides of right types; `e` may lose its matching. */
static nx_status check_matching(struct parser *p, struct pql_expr *e)
{
    struct pql_matching *m = &e->binary.match;
    bool set = pql_op_is_set(e->binary.op), fills = m->has_fill_left || m->has_fill_right;
    uint32_t pos = e->pos.start;

    if (e->binary.lhs->type == PQL_VECTOR && e->binary.rhs->type == PQL_VECTOR) {
        if (set && (m->card == PQL_MANY_TO_ONE || m->card == PQL_ONE_TO_MANY))
            return parse_fail(p, pos, "no grouping allowed for \"%s\" operation",
                              pql_op_text(e->binary.op));
        if (set && fills)
            return parse_fail(p, pos, "filling in missing series not allowed for set operators");
        return NX_OK;
    }
    if (m->n > 0)
        return parse_fail(p, pos, "vector matching only allowed between instant vectors");
    if (fills)
        return parse_fail(p, pos, "filling in missing series only allowed between instant vectors");
    *m = (struct pql_matching){0};
    if (set)
        return parse_fail(p, pos, "set operator \"%s\" not allowed in binary scalar expression",
                          pql_op_text(e->binary.op));
    return NX_OK;
}

static nx_status check_binary(struct parser *p, struct pql_expr *e)
{
    static const char operand[] =
        "binary expression must contain only scalar and instant vector types";
    const struct pql_expr *lhs = e->binary.lhs, *rhs = e->binary.rhs;
    bool comparison = pql_op_is_comparison(e->binary.op);
    nx_status st = check_child(p, lhs);

    if (!st)
        st = check_child(p, rhs);
    if (st)
        return st;
    if (e->binary.return_bool && !comparison)
        return parse_fail(p, op_pos(p, e),
                          "bool modifier can only be used on comparison operators");
    if (comparison && !e->binary.return_bool && lhs->type == PQL_SCALAR && rhs->type == PQL_SCALAR)
        return parse_fail(p, op_pos(p, e), "comparisons between scalars must use BOOL modifier");
    if (pql_op_is_set(e->binary.op) && e->binary.match.card == PQL_ONE_TO_ONE)
        e->binary.match.card = PQL_MANY_TO_MANY;
    st = check_grouping(p, e);
    if (st)
        return st;
    if (!is_operand(lhs) || !is_operand(rhs))
        return parse_fail(p, is_operand(lhs) ? rhs->pos.start : lhs->pos.start, "%s", operand);
    return check_matching(p, e);
}

/* How many arguments. */
static nx_status check_count(struct parser *p, const struct pql_expr *e, size_t listed)
{
    const struct pql_func *f = e->call.func;
    size_t n = e->call.n, max = f->max_args ? f->max_args : listed;

    if (f->min_args == max && !(f->flags & PQL_F_VARIADIC)) {
        if (n == max)
            return NX_OK;
        return parse_fail(p, e->pos.start, "expected %zu argument(s) in call to \"%s\", got %zu",
                          max, f->name, n);
    }
    if (n < f->min_args)
        return parse_fail(p, e->pos.start,
                          "expected at least %u argument(s) in call to \"%s\", got %zu",
                          f->min_args, f->name, n);
    if (n > max && !(f->flags & PQL_F_VARIADIC))
        return parse_fail(p, e->pos.start,
                          "expected at most %zu argument(s) in call to \"%s\", got %zu", max,
                          f->name, n);
    return NX_OK;
}

/* The second argument of info(): a selector of labels alone, which may select everything. */
static nx_status check_info(struct parser *p, const struct pql_expr *e)
{
    const struct pql_expr *arg = e->call.args[1];

    if (arg->type != PQL_VECTOR)
        return parse_fail(p, e->pos.start, "expected type %s in call to function \"%s\", got %s",
                          pql_type_name(PQL_VECTOR), e->call.func->name, pql_type_name(arg->type));
    if (arg->kind == PQL_NODE_SELECTOR && arg->selector.name.len)
        return parse_fail(p, arg->pos.start,
                          "expected label selectors only, got vector selector instead");
    if (arg->kind != PQL_NODE_SELECTOR)
        return parse_fail(p, arg->pos.start, "expected label selectors only");
    return NX_OK;
}

static nx_status check_call(struct parser *p, const struct pql_expr *e)
{
    const struct pql_func *f = e->call.func;
    bool info = nx_slice_is(nx_slice_of("info", 4), f->name);
    size_t listed = 0;
    nx_status st;

    while (listed < PQL_MAX_ARGS && f->args[listed] != PQL_NONE)
        listed++;
    st = check_count(p, e, listed);
    if (!st && info && e->call.n > 1)
        st = check_info(p, e);
    for (size_t i = 0; i < e->call.n && !st; i++) {
        const struct pql_expr *arg = e->call.args[i];
        enum pql_type want = f->args[i < listed ? i : listed - 1];

        if (!(info && i == 1))
            st = check_child(p, arg);
        if (!st && arg->type != want)
            st =
                parse_fail(p, arg->pos.start, "expected type %s in call to function \"%s\", got %s",
                           pql_type_name(want), f->name, pql_type_name(arg->type));
    }
    return st;
}

static nx_status check_selector(struct parser *p, const struct pql_expr *e)
{
    const struct pql_selector *s = &e->selector;

    if (s->name.len) {
        for (size_t i = 0; i + 1 < s->n; i++) { /* the last one is for `name` */
            struct buf b;

            if (!nx_slice_is(s->m[i].name, LABEL_NAME))
                continue;
            buf_init(&b, 0);
            buf_str(&b, "metric name must not be set twice: ");
            text_quote(&b, s->name);
            buf_str(&b, " or ");
            text_quote(&b, s->m[i].value);
            return lex_fail_buf(&p->lex, e->pos.start, &b);
        }
        return NX_OK;
    }
    for (size_t i = 0; i < s->n; i++)
        if (!parse_matches_empty(&s->m[i]))
            return NX_OK;
    return parse_fail(p, e->pos.start,
                      "vector selector must contain at least one non-empty matcher");
}

static nx_status check_subquery(struct parser *p, const struct pql_expr *e)
{
    static const char *const names[] = {[PQL_NONE] = "none",
                                        [PQL_SCALAR] = "scalar",
                                        [PQL_VECTOR] = "vector",
                                        [PQL_MATRIX] = "matrix",
                                        [PQL_STRING] = "string"};
    nx_status st = check_child(p, e->sub.inner);

    if (!st && e->sub.inner->type != PQL_VECTOR)
        st = parse_fail(p, e->pos.start,
                        "subquery is only allowed on instant vector, got %s instead",
                        names[e->sub.inner->type]);
    return st;
}

static nx_status check_unary(struct parser *p, const struct pql_expr *e)
{
    nx_status st = check_child(p, e->unary.inner);

    if (!st && !is_operand(e->unary.inner))
        st = parse_fail(
            p, e->pos.start,
            "unary expression only allowed on expressions of type scalar or instant vector, "
            "got \"%s\"",
            pql_type_name(e->unary.inner->type));
    return st;
}

static nx_status check(struct parser *p, struct pql_expr *e)
{
    switch (e->kind) {
    case PQL_NODE_NUMBER:
    case PQL_NODE_STRING:
        return NX_OK;
    case PQL_NODE_SELECTOR:
        return check_selector(p, e);
    case PQL_NODE_RANGE:
        return check_selector(p, e->range.selector);
    case PQL_NODE_SUBQUERY:
        return check_subquery(p, e);
    case PQL_NODE_CALL:
        return check_call(p, e);
    case PQL_NODE_AGGREGATE:
        return check_aggregate(p, e);
    case PQL_NODE_UNARY:
        return check_unary(p, e);
    case PQL_NODE_BINARY:
        return check_binary(p, e);
    case PQL_NODE_PAREN:
        return check_child(p, e->paren);
    }
    return NX_OK;
}

nx_status parse_check(struct parser *p, struct pql_expr *e)
{
    return check(p, e);
}
