/* fold.c - what is the same number at every step becomes that number, before evaluation.
 *
 * WHY    People write `* 60 * 60` and `/ (1024 * 1024)`; the evaluator would make a value for each step of each
 *        part.
 * RULES  F1  Only scalars whose parts are numbers, and functions that look at nothing but the query: pi(), start(),
 *            end(), range(), step(), max_of(), min_of(), scalar(vector(NUMBER)).
 *        F2  The evaluator itself computes the number, so it is the same to the bit.
 *        F3  The tree that was parsed stays as it is, for printing, and shares what did not change. A number has
 *            the position of what it stands for, and parentheses stay: messages are the same.
 *        F4  What can't be computed is left for the evaluation to fail at, or not.
 * NOT    Laws of arithmetic: x * 2 * 3 is not x * 6, as each product is rounded. */
#include "promql/eval.h"

#include <string.h>

struct fold {
    struct eval *ev;
    const struct eval_times *once;
    struct nx_err *ignored; /* F4 */
};

static bool is_number(const struct pql_expr *e)
{
    return eval_unparen(e)->kind == PQL_NODE_NUMBER;
}

/* vector(NUMBER) */
static bool is_number_vector(const struct pql_expr *e)
{
    e = eval_unparen(e);
    return e->kind == PQL_NODE_CALL && strcmp(e->call.func->name, "vector") == 0 &&
           is_number(e->call.args[0]);
}

/* F1; its children are folded already. */
static bool is_constant(const struct pql_expr *e)
{
    if (e->type != PQL_SCALAR)
        return false;
    switch (e->kind) {
    case PQL_NODE_UNARY:
        return is_number(e->unary.inner);
    case PQL_NODE_BINARY:
        return is_number(e->binary.lhs) && is_number(e->binary.rhs);
    case PQL_NODE_CALL:
        if (strcmp(e->call.func->name, "scalar") == 0)
            return is_number_vector(e->call.args[0]);
        if (e->call.func->flags & PQL_F_PER_STEP)
            return false;
        for (size_t i = 0; i < e->call.n; i++)
            if (!is_number(e->call.args[i]))
                return false;
        return true;
    default:
        return false;
    }
}

static void set_child(struct pql_expr *e, size_t i, const struct pql_expr *child)
{
    switch (e->kind) {
    case PQL_NODE_SUBQUERY:
        e->sub.inner = child;
        break;
    case PQL_NODE_CALL:
        e->call.args[i] = child;
        break;
    case PQL_NODE_AGGREGATE:
        *(i == 0 ? &e->agg.inner : &e->agg.param) = child;
        break;
    case PQL_NODE_UNARY:
        e->unary.inner = child;
        break;
    case PQL_NODE_BINARY:
        *(i == 0 ? &e->binary.lhs : &e->binary.rhs) = child;
        break;
    default:
        e->paren = child;
    }
}

/* A copy whose children may be set; NULL without memory. */
static struct pql_expr *copy_of(const struct fold *f, const struct pql_expr *e)
{
    struct pql_expr *copy = arena_alloc(f->ev->work, sizeof *copy);

    if (!copy)
        return NULL;
    *copy = *e;
    if (e->kind == PQL_NODE_CALL) {
        copy->call.args = arena_array(f->ev->work, e->call.n, sizeof *copy->call.args);
        if (!copy->call.args)
            return NULL;
        memcpy(copy->call.args, e->call.args, e->call.n * sizeof *copy->call.args);
    }
    return copy;
}

/* The number that `e` is; NULL if it can't be computed. */
static const struct pql_expr *number_of(const struct fold *f, const struct pql_expr *e)
{
    struct pql_expr *number = arena_zalloc(f->ev->work, sizeof *number);
    double *v;

    if (!number || eval_scalar(f->ev, e, f->once, &v, f->ignored))
        return NULL;
    number->kind = PQL_NODE_NUMBER;
    number->type = PQL_SCALAR;
    number->pos = e->pos;
    number->height = 1;
    number->number.value = v[0];
    return number;
}

static nx_status fold(const struct fold *f, const struct pql_expr *e, const struct pql_expr **out,
                      struct nx_err *err)
{
    const struct pql_expr *child, *now = e, *number;
    struct pql_expr *mine = NULL;

    for (size_t i = 0; (child = pql_child(e, i)); i++) {
        const struct pql_expr *folded;
        nx_status st = fold(f, child, &folded, err);

        if (st)
            return st;
        if (folded == child)
            continue;
        if (!mine)
            now = mine = copy_of(f, e);
        if (!mine)
            return eval_nomem(f->ev, f->ev->work, err);
        set_child(mine, i, folded);
    }
    number = is_constant(now) ? number_of(f, now) : NULL;
    *out = number ? number : now;
    return NX_OK;
}

nx_status fold_constants(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                         const struct pql_expr **out, struct nx_err *err)
{
    const struct eval_times once = {tm->start, tm->step, tm->start, 1, tm->counts};

    struct nx_err ignored;

    return fold(&(struct fold){ev, &once, &ignored}, e, out, err);
}
