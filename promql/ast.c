/* ast.c - names of types and operators, and walks over a tree.
 *
 * RULES  A1  Walks go by recursion: no tree is higher than NX_LIMIT_QUERY_DEPTH. */
#include "promql/ast.h"

const char *pql_type_name(enum pql_type t)
{
    static const char *const names[] = {[PQL_NONE] = "none",
                                        [PQL_SCALAR] = "scalar",
                                        [PQL_VECTOR] = "instant vector",
                                        [PQL_MATRIX] = "range vector",
                                        [PQL_STRING] = "string"};

    return names[t];
}

// clang-format off
const char *pql_op_text(enum pql_op op)
{
    static const char *const texts[] = {
        [PQL_OP_OR] = "or", [PQL_OP_AND] = "and", [PQL_OP_UNLESS] = "unless",
        [PQL_OP_EQ] = "==", [PQL_OP_NE] = "!=", [PQL_OP_LT] = "<", [PQL_OP_LE] = "<=",
        [PQL_OP_GT] = ">", [PQL_OP_GE] = ">=",
        [PQL_OP_ADD] = "+", [PQL_OP_SUB] = "-", [PQL_OP_MUL] = "*", [PQL_OP_DIV] = "/",
        [PQL_OP_MOD] = "%", [PQL_OP_ATAN2] = "atan2", [PQL_OP_POW] = "^",
        [PQL_OP_TRIM_UPPER] = "</", [PQL_OP_TRIM_LOWER] = ">/",
    };

    return texts[op];
}

const char *pql_agg_text(enum pql_agg agg)
{
    static const char *const texts[] = {
        [PQL_AGG_SUM] = "sum", [PQL_AGG_AVG] = "avg", [PQL_AGG_COUNT] = "count", [PQL_AGG_MIN] = "min",
        [PQL_AGG_MAX] = "max", [PQL_AGG_GROUP] = "group", [PQL_AGG_STDDEV] = "stddev",
        [PQL_AGG_STDVAR] = "stdvar", [PQL_AGG_TOPK] = "topk", [PQL_AGG_BOTTOMK] = "bottomk",
        [PQL_AGG_COUNT_VALUES] = "count_values", [PQL_AGG_QUANTILE] = "quantile",
        [PQL_AGG_LIMITK] = "limitk", [PQL_AGG_LIMIT_RATIO] = "limit_ratio",
    };

    return texts[agg];
}
// clang-format on

enum pql_type pql_expr_type(const struct pql_expr *e)
{
    return e->type;
}

void pql_each_selector(const struct pql_expr *e,
                       void (*fn)(void *ctx, const struct matcher *m, size_t n), void *ctx)
{
    switch (e->kind) {
    case PQL_NODE_NUMBER:
    case PQL_NODE_STRING:
        return;
    case PQL_NODE_SELECTOR:
        fn(ctx, e->selector.m, e->selector.n);
        return;
    case PQL_NODE_RANGE:
        pql_each_selector(e->range.selector, fn, ctx);
        return;
    case PQL_NODE_SUBQUERY:
        pql_each_selector(e->sub.inner, fn, ctx);
        return;
    case PQL_NODE_CALL:
        for (size_t i = 0; i < e->call.n; i++)
            pql_each_selector(e->call.args[i], fn, ctx);
        return;
    case PQL_NODE_AGGREGATE:
        if (e->agg.param)
            pql_each_selector(e->agg.param, fn, ctx);
        pql_each_selector(e->agg.inner, fn, ctx);
        return;
    case PQL_NODE_UNARY:
        pql_each_selector(e->unary.inner, fn, ctx);
        return;
    case PQL_NODE_BINARY:
        pql_each_selector(e->binary.lhs, fn, ctx);
        pql_each_selector(e->binary.rhs, fn, ctx);
        return;
    case PQL_NODE_PAREN:
        pql_each_selector(e->paren, fn, ctx);
        return;
    }
}

/* The tree owns its regexes, though it shows them as constants. */
static void free_regexes(void *ctx, const struct matcher *m, size_t n)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        regex_free((struct regex *)(uintptr_t)m[i].re);
}

void pql_expr_done(const struct pql_expr *e)
{
    if (e)
        pql_each_selector(e, free_regexes, NULL);
}

const struct pql_expr *pql_child(const struct pql_expr *e, size_t i)
{
    switch (e->kind) {
    case PQL_NODE_SUBQUERY:
        return i == 0 ? e->sub.inner : NULL;
    case PQL_NODE_CALL:
        return i < e->call.n ? e->call.args[i] : NULL;
    case PQL_NODE_AGGREGATE:
        return i == 0 ? e->agg.inner : i == 1 ? e->agg.param : NULL;
    case PQL_NODE_UNARY:
        return i == 0 ? e->unary.inner : NULL;
    case PQL_NODE_BINARY:
        return i == 0 ? e->binary.lhs : i == 1 ? e->binary.rhs : NULL;
    case PQL_NODE_PAREN:
        return i == 0 ? e->paren : NULL;
    default:
        return NULL;
    }
}
