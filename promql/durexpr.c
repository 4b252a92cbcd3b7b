/* durexpr.c - durations in brackets and after `offset`, and what they come to.
 *
 * SHAPE  In brackets: the arithmetic of the language (+ - below * / % below ^, which binds to the
 *        right) over numbers, durations, step(), range(), min_of() and max_of(). A sign binds as *.
 * RULES  D1  After `offset` only a signed literal, one of the four functions or a parenthesis is taken:
 *            `a offset 5m + 3` adds 3 to a. An unsigned parenthesis, or two signs, may go on as an
 *            expression: `a offset (5m) + 3` is an offset of 5m3s.
 *        D2  A lone literal is a constant and not an expression; a parenthesis around it makes it one.
 *        D3  Constants are rounded to nanoseconds and then cut to milliseconds, as Prometheus does. */
#include "promql/parse.h"

#include <math.h>

enum { PREC_ADD = 1, PREC_MUL, PREC_POW };

static const struct dur_op {
    enum lex_type token;
    enum pql_dur_op op;
    int prec;
} dur_ops[] = {
    {TOK_ADD, PQL_DUR_ADD, PREC_ADD}, {TOK_SUB, PQL_DUR_SUB, PREC_ADD},
    {TOK_MUL, PQL_DUR_MUL, PREC_MUL}, {TOK_DIV, PQL_DUR_DIV, PREC_MUL},
    {TOK_MOD, PQL_DUR_MOD, PREC_MUL}, {TOK_POW, PQL_DUR_POW, PREC_POW},
};

static nx_status parse_dur(struct parser *p, int min_prec, struct pql_durexpr **out);

static nx_status dur_new(struct parser *p, enum pql_dur_op op, uint32_t start,
                         struct pql_durexpr **out)
{
    struct pql_durexpr *d = NULL;

    if (++p->n_duration > NX_LIMIT_QUERY_DEPTH)
        return parse_fail(p, start, "duration expression has more than %u parts",
                          NX_LIMIT_QUERY_DEPTH);
    d = arena_zalloc(p->arena, sizeof *d);
    if (!d)
        return parse_nomem(p);
    d->op = op;
    d->pos = (struct pql_pos){start, p->last_closing};
    *out = d;
    return NX_OK;
}

/* Whether seconds leave the range of nanoseconds in 64 bits; NaN, which Prometheus lets through to
 * become 292 years, does too. */
static bool out_of_range(double seconds)
{
    return !(seconds <= 9223372036.854775808 && seconds >= -9223372036.854775808);
}

static int64_t to_ns(double seconds)
{
    double ns = round(seconds * 1e9);

    if (ns >= 9223372036854775808.0)
        return INT64_MAX;
    return ns < -9223372036854775808.0 ? INT64_MIN : (int64_t)ns;
}

/* A literal, which the next token is. `sign` is the token of a sign before it, or NULL. */
static nx_status parse_dur_literal(struct parser *p, const struct token *sign,
                                   struct pql_durexpr **out)
{
    struct token t = parse_take(p);
    double v;
    nx_status st = parse_number(p, &t, &v);

    if (st)
        return st;
    if (sign && sign->type == TOK_SUB)
        v = -v;
    if (out_of_range(v))
        return parse_fail(p, sign ? sign->pos : t.pos, "duration out of range");
    st = dur_new(p, PQL_DUR_NUM, sign ? sign->pos : t.pos, out);
    if (st)
        return st;
    (*out)->value = v;
    (*out)->is_duration = t.type == TOK_DURATION;
    return NX_OK;
}

/* step() and range(), min_of(a, b) and max_of(a, b). */
static nx_status parse_dur_func(struct parser *p, struct pql_durexpr **out)
{
    static const enum pql_dur_op ops[] = {PQL_DUR_STEP, PQL_DUR_RANGE, PQL_DUR_MAX, PQL_DUR_MIN};
    struct token t = parse_take(p);
    struct pql_durexpr *a = NULL, *b = NULL;
    nx_status st;

    if (!parse_take_if(p, TOK_LEFT_PAREN))
        return parse_unexpected(p, p->where);
    if (t.type == TOK_MAX_OF || t.type == TOK_MIN_OF) {
        st = parse_dur(p, PREC_ADD, &a);
        if (st)
            return st;
        if (!parse_take_if(p, TOK_COMMA))
            return parse_unexpected(p, p->where);
        st = parse_dur(p, PREC_ADD, &b);
        if (st)
            return st;
    }
    if (!parse_take_if(p, TOK_RIGHT_PAREN))
        return parse_unexpected(p, p->where);
    st = dur_new(p, ops[t.type - TOK_STEP], t.pos, out);
    if (st)
        return st;
    (*out)->lhs = a;
    (*out)->rhs = b;
    if (a) /* errors tell where the arguments are */
        (*out)->pos = (struct pql_pos){a->pos.start, b->pos.end};
    return NX_OK;
}

/* ( expression ). One parenthesis is kept of several. */
static nx_status parse_dur_paren(struct parser *p, struct pql_durexpr **out)
{
    struct token open = parse_take(p);
    struct pql_durexpr *inner = NULL;
    nx_status st = parse_dur(p, PREC_ADD, &inner);

    if (st)
        return st;
    if (!parse_take_if(p, TOK_RIGHT_PAREN))
        return parse_unexpected(p, p->where);
    if (inner->op == PQL_DUR_PAREN) {
        *out = inner;
        return NX_OK;
    }
    st = dur_new(p, PQL_DUR_PAREN, inner->op == PQL_DUR_NUM ? open.pos : inner->pos.start, out);
    if (st)
        return st;
    (*out)->lhs = inner;
    (*out)->pos.end = inner->pos.end; /* errors tell it without the parentheses, or one */
    return NX_OK;
}

/* Puts a sign, already taken, before `inner`. */
static nx_status apply_sign(struct parser *p, const struct token *sign, struct pql_durexpr *inner,
                            struct pql_durexpr **out)
{
    nx_status st;

    if (inner->op == PQL_DUR_NUM) { /* D2: still a literal */
        inner->value = sign->type == TOK_SUB ? -inner->value : inner->value;
        inner->pos.start = sign->pos;
        if (out_of_range(inner->value))
            return parse_fail(p, sign->pos, "duration out of range");
        *out = inner;
        return NX_OK;
    }
    if (sign->type == TOK_ADD) {
        *out = inner;
        return NX_OK;
    }
    st = dur_new(p, PQL_DUR_NEG, sign->pos, out);
    if (st)
        return st;
    (*out)->lhs = inner;
    (*out)->pos.end = inner->pos.end;
    return NX_OK;
}

static nx_status parse_dur_operand(struct parser *p, struct pql_durexpr **out)
{
    struct pql_durexpr *inner = NULL;
    struct token sign;
    nx_status st;

    switch ((int)parse_peek(p)) {
    case TOK_NUMBER:
    case TOK_DURATION:
        return parse_dur_literal(p, NULL, out);
    case TOK_STEP:
    case TOK_RANGE:
    case TOK_MAX_OF:
    case TOK_MIN_OF:
        return parse_dur_func(p, out);
    case TOK_LEFT_PAREN:
        return parse_dur_paren(p, out);
    case TOK_ADD:
    case TOK_SUB:
        sign = parse_take(p);
        st = parse_dur(p, PREC_POW, &inner);
        return st ? st : apply_sign(p, &sign, inner, out);
    default:
        return parse_unexpected(p, p->where);
    }
}

static const struct dur_op *dur_op_of(enum lex_type type)
{
    for (size_t i = 0; i < NX_COUNT(dur_ops); i++)
        if (dur_ops[i].token == type)
            return &dur_ops[i];
    return NULL;
}

/* The operators that follow *lhs. */
static nx_status parse_dur_rest(struct parser *p, int min_prec, struct pql_durexpr **lhs)
{
    const struct dur_op *op;

    while ((op = dur_op_of(parse_peek(p))) && op->prec >= min_prec) {
        struct token t = parse_take(p);
        struct pql_durexpr *rhs = NULL, *both = NULL;
        nx_status st = parse_dur(p, op->prec == PREC_POW ? PREC_POW : op->prec + 1, &rhs);

        if (st)
            return st;
        if ((t.type == TOK_DIV || t.type == TOK_MOD) && rhs->op == PQL_DUR_NUM && rhs->value == 0)
            return parse_fail(p, t.pos, "%s by zero", t.type == TOK_DIV ? "division" : "modulo");
        st = dur_new(p, op->op, (*lhs)->pos.start, &both);
        if (st)
            return st;
        both->lhs = *lhs;
        both->rhs = rhs;
        both->pos.end = rhs->pos.end;
        *lhs = both;
    }
    return NX_OK;
}

static nx_status parse_dur(struct parser *p, int min_prec, struct pql_durexpr **out)
{
    nx_status st = parse_deeper(p, p->ahead.pos);

    if (st)
        return st;
    st = parse_dur_operand(p, out);
    if (!st)
        st = parse_dur_rest(p, min_prec, out);
    p->depth--;
    return st;
}

nx_status parse_range_duration(struct parser *p, struct pql_dur *out)
{
    struct pql_durexpr *d = NULL;
    nx_status st;

    p->n_duration = 0;
    st = parse_dur(p, PREC_ADD, &d);
    if (st)
        return st;
    if (d->op != PQL_DUR_NUM) {
        *out = (struct pql_dur){0, d};
        return NX_OK;
    }
    if (d->value <= 0)
        return parse_fail(p, d->pos.start, "duration must be greater than 0");
    *out = (struct pql_dur){to_ns(d->value) / 1000000, NULL}; /* D3 */
    return NX_OK;
}

/* Behind one sign (D1). */
static nx_status parse_signed_offset(struct parser *p, struct pql_durexpr **out)
{
    struct token sign = parse_take(p);
    enum lex_type t = parse_peek(p);
    struct pql_durexpr *inner = NULL;
    nx_status st;

    if (t == TOK_NUMBER || t == TOK_DURATION)
        return parse_dur_literal(p, &sign, out);
    if (t == TOK_ADD || t == TOK_SUB) {
        st = parse_dur(p, PREC_POW, &inner);
        if (!st)
            st = apply_sign(p, &sign, inner, out);
        return st ? st : parse_dur_rest(p, PREC_ADD, out);
    }
    st = parse_dur_operand(p, &inner);
    if (!st && sign.type == TOK_ADD) { /* told in the tree; printed before a parenthesis it ends */
        st = dur_new(p, PQL_DUR_POS, sign.pos, out);
        if (!st)
            (*out)->lhs = inner;
        return st;
    }
    return st ? st : apply_sign(p, &sign, inner, out);
}

nx_status parse_offset_duration(struct parser *p, struct pql_dur *out, double *seconds)
{
    enum lex_type t = parse_peek(p);
    struct pql_durexpr *d = NULL;
    nx_status st;

    p->n_duration = 0;
    if (t == TOK_ADD || t == TOK_SUB) {
        st = parse_signed_offset(p, &d);
    } else {
        st = parse_dur_operand(p, &d);
        if (!st && t == TOK_LEFT_PAREN)
            st = parse_dur_rest(p, PREC_ADD, &d);
    }
    if (st)
        return st;
    *seconds = d->op == PQL_DUR_NUM ? d->value : 0;
    *out = d->op == PQL_DUR_NUM ? (struct pql_dur){to_ns(d->value) / 1000000, NULL}
                                : (struct pql_dur){0, d};
    return NX_OK;
}
