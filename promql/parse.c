/* parse.c - the parser: expressions by climbing precedences, one function a construct.
 *
 * WHY     Users know Prometheus's messages, and tools match on them. So the parser reads as far ahead
 *         as Prometheus's does and no further, and checks what it has built at the same moments: of
 *         two faults the same one is reported.
 * SHAPE   parse_expr() takes an operand and then operators from the table below while they bind
 *         tightly enough. Operands are primaries with their postfixes ([range], offset, @, ...).
 * RULES   G1  Postfixes (postfix.c) bind tighter than any operator; a sign binds as * does: -2^2 is -(2^2).
 *         G2  A sign before a number literal makes a number literal.
 *         G3  `where` names the innermost construct that messages know. It is set while the parts of
 *             an aggregation, offset, @ or bracket are parsed, and put back behind them.
 *         G4  Depth is bounded twice: of calls (a hostile text must not run out of stack) and of the
 *             tree, for everyone who walks it by recursion.
 * THREADS None of its own; a parser lives on the stack of pql_parse(). */
#include "promql/parse.h"

#include "promql/funcs.h"
#include "src/base/text.h"

static const struct op {
    enum lex_type token;
    enum pql_op op;
    uint8_t prec;
} ops[] = {
    {TOK_OR, PQL_OP_OR, 1},
    {TOK_AND, PQL_OP_AND, 2},
    {TOK_UNLESS, PQL_OP_UNLESS, 2},
    {TOK_EQLC, PQL_OP_EQ, 3},
    {TOK_NEQ, PQL_OP_NE, 3},
    {TOK_LSS, PQL_OP_LT, 3},
    {TOK_LTE, PQL_OP_LE, 3},
    {TOK_GTR, PQL_OP_GT, 3},
    {TOK_GTE, PQL_OP_GE, 3},
    {TOK_TRIM_UPPER, PQL_OP_TRIM_UPPER, 3},
    {TOK_TRIM_LOWER, PQL_OP_TRIM_LOWER, 3},
    {TOK_ADD, PQL_OP_ADD, 4},
    {TOK_SUB, PQL_OP_SUB, 4},
    {TOK_MUL, PQL_OP_MUL, 5},
    {TOK_DIV, PQL_OP_DIV, 5},
    {TOK_MOD, PQL_OP_MOD, 5},
    {TOK_ATAN2, PQL_OP_ATAN2, 5},
    {TOK_POW, PQL_OP_POW, 6}, /* the one that binds to the right */
};
enum { PREC_LOWEST = 1, PREC_POW = 6 };

static nx_status parse_expr(struct parser *p, unsigned min_prec, struct pql_expr **out);

/* ---- tokens and messages -------------------------------------------------------------------- */

enum lex_type parse_peek(struct parser *p)
{
    if (!p->has_ahead) {
        p->ahead = lex_next(&p->lex);
        p->has_ahead = true;
        switch ((int)p->ahead.type) {
        case TOK_RIGHT_BRACE:
        case TOK_RIGHT_PAREN:
        case TOK_RIGHT_BRACKET:
        case TOK_DURATION:
        case TOK_NUMBER:
            p->last_closing = p->ahead.pos + (uint32_t)p->ahead.text.len;
            break;
        default:
            break;
        }
    }
    return p->ahead.type;
}

struct token parse_take(struct parser *p)
{
    (void)parse_peek(p);
    p->has_ahead = false;
    return p->ahead;
}

bool parse_take_if(struct parser *p, enum lex_type type)
{
    if (parse_peek(p) != type)
        return false;
    p->has_ahead = false;
    return true;
}

// clang-format off
static const struct {
    const char *in, *expected;
} places[] = {
    [IN_NOTHING]         = { NULL, NULL },
    [IN_AGGREGATION]     = { "aggregation", NULL },
    [IN_OFFSET]          = { "offset", "number, duration, step(), or range()" },
    [IN_AT]              = { "@", "timestamp" },
    [IN_RANGE_SELECTOR]  = { "subquery or range selector", "number, duration, step(), or range()" },
    [IN_RANGE]           = { "subquery or range", "\":\" or \"]\"" },
    [IN_SUBQUERY_STEP]   = { "subquery selector", "number, duration, step(), range(), or \"]\"" },
    [IN_SUBQUERY_END]    = { "subquery selector", "\"]\"" },
    [IN_GROUPING]        = { "grouping opts", "\"(\"" },
    [IN_GROUPING_LABEL]  = { "grouping opts", "label" },
    [IN_GROUPING_COMMA]  = { "grouping opts", "\",\" or \")\"" },
    [IN_LABELS]          = { "label matching", "identifier or \"}\"" },
    [IN_LABELS_OPERATOR] = { "label matching", "label matching operator" },
    [IN_LABELS_VALUE]    = { "label matching", "string" },
    [IN_LABELS_COMMA]    = { "label matching", "\",\" or \"}\"" },
};
// clang-format on

nx_status parse_unexpected(struct parser *p, enum parse_where where)
{
    struct buf b;

    if (parse_peek(p) == TOK_ERROR)
        return p->lex.failed;
    buf_init(&b, 0);
    buf_str(&b, "unexpected ");
    lex_describe(&b, &p->ahead);
    if (places[where].in)
        buf_printf(&b, " in %s", places[where].in);
    if (places[where].expected)
        buf_printf(&b, ", expected %s", places[where].expected);
    return lex_fail_buf(&p->lex, p->ahead.pos, &b);
}

nx_status parse_fail_quoted(struct parser *p, uint32_t pos, const char *before,
                            struct nx_slice what, const char *after)
{
    struct buf b;

    buf_init(&b, 0);
    buf_str(&b, before);
    text_quote(&b, what);
    buf_str(&b, after);
    return lex_fail_buf(&p->lex, pos, &b);
}

nx_status parse_nomem(struct parser *p)
{
    return arena_failed(p->arena, p->lex.err);
}

static nx_status too_deep(struct parser *p, uint32_t pos, unsigned levels)
{
    return parse_fail(p, pos, "expression is nested more than %u levels deep", levels);
}

nx_status parse_deeper(struct parser *p, uint32_t pos)
{
    return ++p->depth > PARSE_MAX_NESTING ? too_deep(p, pos, PARSE_MAX_NESTING) : NX_OK;
}

/* ---- nodes ---------------------------------------------------------------------------------- */

nx_status parse_node(struct parser *p, enum pql_kind kind, enum pql_type type, struct pql_pos pos,
                     struct pql_expr **out)
{
    struct pql_expr *e = arena_zalloc(p->arena, sizeof *e);

    if (!e)
        return parse_nomem(p);
    e->kind = kind;
    e->type = type;
    e->pos = pos;
    e->height = 1;
    *out = e;
    return NX_OK;
}

nx_status parse_above(struct parser *p, struct pql_expr *e, const struct pql_expr *c)
{
    if (c->height >= e->height)
        e->height = c->height + 1;
    return e->height > NX_LIMIT_QUERY_DEPTH ? too_deep(p, e->pos.start, NX_LIMIT_QUERY_DEPTH)
                                            : NX_OK;
}

/* A growing list in the arena: makes room for one more, by doubling. */
static void *list_room(struct parser *p, void *v, size_t n, size_t size)
{
    if (n & (n - 1)) /* not 0, 1, 2, 4, ... */
        return v;
    return arena_grow(p->arena, v, n * size, (n ? n * 2 : 1) * size);
}

/* ---- grouping labels -------------------------------------------------------------------------- */

static bool is_label(enum lex_type t)
{
    return t == TOK_IDENTIFIER || t == TOK_METRIC_IDENTIFIER ||
           (t >= TOK_START && t <= TOK_MIN_OF) || (t >= TOK_AND && t != TOK_WITHOUT);
}

static nx_status parse_label(struct parser *p, struct nx_slice *out)
{
    enum lex_type type = parse_peek(p);
    struct token t;
    nx_status st;

    if (type != TOK_STRING && !is_label(type))
        return parse_unexpected(p, IN_GROUPING_LABEL);
    t = parse_take(p);
    *out = t.text;
    if (type == TOK_STRING) {
        st = parse_string(p, &t, out);
        if (st)
            return st;
    }
    if (!label_name_valid(*out))
        return parse_fail_quoted(p, t.pos, "invalid label name for grouping: ", *out, "");
    return NX_OK;
}

/* ( labels ); a comma may stand at the end. */
static nx_status parse_labels(struct parser *p, const struct nx_slice **out, size_t *n)
{
    struct nx_slice *v = NULL;
    size_t have = 0;
    nx_status st;

    if (!parse_take_if(p, TOK_LEFT_PAREN))
        return parse_unexpected(p, IN_GROUPING);
    while (!parse_take_if(p, TOK_RIGHT_PAREN)) {
        v = list_room(p, v, have, sizeof *v);
        if (!v)
            return parse_nomem(p);
        st = parse_label(p, &v[have]);
        if (st)
            return st;
        have++;
        if (!parse_take_if(p, TOK_COMMA) && parse_peek(p) != TOK_RIGHT_PAREN)
            return parse_unexpected(p, IN_GROUPING_COMMA);
    }
    *out = v;
    *n = have;
    return NX_OK;
}

/* ---- calls and aggregations --------------------------------------------------------------------- */

/* Words that may name a metric: all but those that only stand behind an operator. */
static bool is_metric_name(enum lex_type t)
{
    switch ((int)t) {
    case TOK_IDENTIFIER:
    case TOK_METRIC_IDENTIFIER:
    case TOK_AND:
    case TOK_OR:
    case TOK_UNLESS:
        return true;
    case TOK_BOOL:
    case TOK_ON:
    case TOK_IGNORING:
    case TOK_GROUP_LEFT:
    case TOK_GROUP_RIGHT:
        return false;
    default:
        return (t >= TOK_START && t <= TOK_MIN_OF) || t >= TOK_SUM;
    }
}

static bool starts_expr(enum lex_type t)
{
    switch ((int)t) {
    case TOK_STRING:
    case TOK_NUMBER:
    case TOK_DURATION:
    case TOK_LEFT_PAREN:
    case TOK_LEFT_BRACE:
    case TOK_ADD:
    case TOK_SUB:
        return true;
    default:
        return is_metric_name(t);
    }
}

/* ( expressions ), the `(` being the next token. */
static nx_status parse_args(struct parser *p, const struct pql_expr ***out, size_t *n)
{
    const struct pql_expr **v = NULL;
    struct pql_expr *e = NULL;
    struct token comma;
    size_t have = 0;
    nx_status st;

    if (!parse_take_if(p, TOK_LEFT_PAREN))
        return parse_unexpected(p, p->where);
    if (!parse_take_if(p, TOK_RIGHT_PAREN)) {
        for (;;) {
            st = parse_expr(p, PREC_LOWEST, &e);
            if (st)
                return st;
            v = list_room(p, v, have, sizeof *v);
            if (!v)
                return parse_nomem(p);
            v[have++] = e;
            if (parse_take_if(p, TOK_RIGHT_PAREN))
                break;
            if (parse_peek(p) != TOK_COMMA)
                return parse_unexpected(p, p->where);
            comma = parse_take(p);
            if (!starts_expr(parse_peek(p)))
                return parse_fail(p, comma.pos,
                                  "trailing commas not allowed in function call args");
        }
    }
    *out = v;
    *n = have;
    return NX_OK;
}

static nx_status parse_call(struct parser *p, const struct token *name, struct pql_expr **out)
{
    const struct pql_func *f;
    struct pql_expr *e = NULL;
    nx_status st = parse_node(p, PQL_NODE_CALL, PQL_NONE, (struct pql_pos){name->pos, 0}, &e);

    if (!st)
        st = parse_args(p, &e->call.args, &e->call.n);
    if (st)
        return st;
    e->pos.end = p->last_closing;
    f = pql_func_find(name->text);
    if (!f)
        return parse_fail_quoted(p, name->pos, "unknown function with name ", name->text, "");
    if ((f->flags & PQL_F_EXPERIMENTAL) && !p->features.experimental_functions)
        return parse_fail_quoted(p, name->pos, "function ", name->text, " is not enabled");
    e->call.func = f;
    e->type = f->result;
    for (size_t i = 0; i < e->call.n && !st; i++)
        st = parse_above(p, e, e->call.args[i]);
    *out = e;
    return st;
}

static bool agg_has_param(enum pql_agg op)
{
    return op >= PQL_AGG_TOPK;
}

/* by (...) or without (...), the word being the next token. */
static nx_status parse_agg_clause(struct parser *p, struct pql_expr *e)
{
    e->agg.without = parse_take(p).type == TOK_WITHOUT;
    return parse_labels(p, &e->agg.labels, &e->agg.n);
}

/* Hands the n arguments to the operator. */
static nx_status agg_set_args(struct parser *p, struct pql_expr *e, const struct pql_expr **args,
                              size_t n)
{
    size_t want = agg_has_param(e->agg.op) ? 2 : 1;
    nx_status st = NX_OK;

    if (n == 0)
        return parse_fail(p, e->pos.start, "no arguments for aggregate expression provided");
    if (e->agg.op >= PQL_AGG_LIMITK && !p->features.experimental_functions)
        return parse_fail(p, e->pos.start,
                          "%s() is experimental and must be enabled with "
                          "--enable-feature=promql-experimental-functions",
                          pql_agg_text(e->agg.op));
    if (n != want)
        return parse_fail(
            p, e->pos.start,
            "wrong number of arguments for aggregate expression provided, expected %zu, got %zu",
            want, n);
    e->agg.param = want == 2 ? args[0] : NULL;
    e->agg.inner = args[want - 1];
    for (size_t i = 0; i < n && !st; i++)
        st = parse_above(p, e, args[i]);
    return st;
}

/* The operator is taken; the next token is `(`, by or without. */
static nx_status parse_aggregate(struct parser *p, const struct token *name, struct pql_expr **out)
{
    enum parse_where outer = p->where;
    const struct pql_expr **args = NULL;
    struct pql_expr *e = NULL;
    size_t n = 0;
    bool clause = parse_peek(p) != TOK_LEFT_PAREN;
    nx_status st =
        parse_node(p, PQL_NODE_AGGREGATE, PQL_VECTOR, (struct pql_pos){name->pos, 0}, &e);

    if (st)
        return st;
    p->where = IN_AGGREGATION; /* G3 */
    e->agg.op = (enum pql_agg)(name->type - TOK_SUM);
    if (clause)
        st = parse_agg_clause(p, e);
    if (!st)
        st = parse_args(p, &args, &n);
    if (st)
        return st;
    e->pos.end = p->last_closing;
    if (!clause && (parse_peek(p) == TOK_BY || p->ahead.type == TOK_WITHOUT)) {
        st = parse_agg_clause(p, e);
        if (st)
            return st;
        e->pos.end = p->last_closing;
    }
    p->where = outer;
    *out = e;
    return agg_set_args(p, e, args, n);
}

/* ---- primaries -------------------------------------------------------------------------------- */

static nx_status parse_literal(struct parser *p, struct pql_expr **out)
{
    struct token t = parse_take(p);
    struct pql_expr *e = NULL;
    nx_status st;

    st = parse_node(p, t.type == TOK_STRING ? PQL_NODE_STRING : PQL_NODE_NUMBER,
                    t.type == TOK_STRING ? PQL_STRING : PQL_SCALAR,
                    (struct pql_pos){t.pos, t.pos + (uint32_t)t.text.len}, &e);
    if (st)
        return st;
    *out = e;
    if (t.type == TOK_STRING)
        return parse_string(p, &t, &e->string);
    e->number.duration = t.type == TOK_DURATION;
    return parse_number(p, &t, &e->number.value);
}

static nx_status parse_paren(struct parser *p, struct pql_expr **out)
{
    struct token open = parse_take(p);
    struct pql_expr *inner = NULL, *e = NULL;
    nx_status st = parse_expr(p, PREC_LOWEST, &inner);

    if (st)
        return st;
    if (!parse_take_if(p, TOK_RIGHT_PAREN))
        return parse_unexpected(p, p->where);
    st =
        parse_node(p, PQL_NODE_PAREN, inner->type, (struct pql_pos){open.pos, p->last_closing}, &e);
    if (st)
        return st;
    e->paren = inner;
    *out = e;
    return parse_above(p, e, inner);
}

/* A selector; `name` is NULL before `{`. */
static nx_status parse_selector_node(struct parser *p, const struct token *name,
                                     struct pql_expr **out)
{
    struct matcher *m;
    struct pql_expr *e = NULL;
    nx_status st = parse_node(p, PQL_NODE_SELECTOR, PQL_VECTOR, (struct pql_pos){0, 0}, &e);

    if (!st)
        st = parse_selector(p, name, &m, &e->selector.n, &e->pos);
    if (st)
        return st;
    e->selector.m = m;
    if (name)
        e->selector.name = name->text;
    *out = e;
    return NX_OK;
}

/* What begins with a word: a call, an aggregation or a metric. */
static nx_status parse_word(struct parser *p, struct pql_expr **out)
{
    struct token t = parse_take(p);
    enum lex_type after = parse_peek(p);

    if (lex_is_agg(t.type) && (after == TOK_LEFT_PAREN || after == TOK_BY || after == TOK_WITHOUT))
        return parse_aggregate(p, &t, out);
    if (after == TOK_LEFT_PAREN &&
        (t.type == TOK_IDENTIFIER || (t.type >= TOK_START && t.type <= TOK_MIN_OF)))
        return parse_call(p, &t, out);
    return parse_selector_node(p, &t, out);
}

static nx_status parse_primary(struct parser *p, struct pql_expr **out)
{
    switch ((int)parse_peek(p)) {
    case TOK_NUMBER:
    case TOK_DURATION:
    case TOK_STRING:
        return parse_literal(p, out);
    case TOK_LEFT_PAREN:
        return parse_paren(p, out);
    case TOK_LEFT_BRACE:
        return parse_selector_node(p, NULL, out);
    default:
        if (starts_expr(p->ahead.type))
            return parse_word(p, out);
        return parse_unexpected(p, p->where);
    }
}

/* ---- operators -------------------------------------------------------------------------------- */

/* The number in fill(...). */
static nx_status parse_fill_value(struct parser *p, double *out)
{
    bool minus = false;
    struct token t;
    nx_status st;

    parse_take(p); /* fill, fill_left or fill_right */
    if (!parse_take_if(p, TOK_LEFT_PAREN))
        return parse_unexpected(p, p->where);
    if (parse_peek(p) == TOK_ADD || p->ahead.type == TOK_SUB)
        minus = parse_take(p).type == TOK_SUB;
    if (parse_peek(p) != TOK_NUMBER && p->ahead.type != TOK_DURATION)
        return parse_unexpected(p, p->where);
    t = parse_take(p);
    st = parse_number(p, &t, out);
    if (st)
        return st;
    if (minus)
        *out = -*out;
    return parse_take_if(p, TOK_RIGHT_PAREN) ? NX_OK : parse_unexpected(p, p->where);
}

/* fill(x), or fill_left(x) and fill_right(x) in any order. */
static nx_status parse_fills(struct parser *p, struct pql_matching *m)
{
    enum lex_type t = parse_peek(p);
    nx_status st = NX_OK;

    if (t == TOK_FILL) {
        st = parse_fill_value(p, &m->fill_left);
        m->fill_right = m->fill_left;
        m->has_fill_left = m->has_fill_right = true;
        return st;
    }
    for (int i = 0; i < 2 && !st; i++) {
        if (!m->has_fill_left && parse_peek(p) == TOK_FILL_LEFT) {
            m->has_fill_left = true;
            st = parse_fill_value(p, &m->fill_left);
        } else if (!m->has_fill_right && parse_peek(p) == TOK_FILL_RIGHT) {
            m->has_fill_right = true;
            st = parse_fill_value(p, &m->fill_right);
        }
    }
    return st;
}

/* What may stand between an operator and its right side. */
static nx_status parse_modifiers(struct parser *p, struct pql_expr *e)
{
    struct pql_matching *m = &e->binary.match;
    nx_status st;

    e->binary.return_bool = parse_take_if(p, TOK_BOOL);
    if (parse_peek(p) == TOK_ON || p->ahead.type == TOK_IGNORING) {
        m->present = true;
        m->on = parse_take(p).type == TOK_ON;
        st = parse_labels(p, &m->labels, &m->n);
        if (st)
            return st;
        if (parse_peek(p) == TOK_GROUP_LEFT || p->ahead.type == TOK_GROUP_RIGHT) {
            m->card = parse_take(p).type == TOK_GROUP_LEFT ? PQL_MANY_TO_ONE : PQL_ONE_TO_MANY;
            if (parse_peek(p) == TOK_LEFT_PAREN || !starts_expr(p->ahead.type)) {
                st = parse_labels(p, &m->include, &m->n_include);
                if (st)
                    return st;
            }
        }
    }
    return parse_fills(p, m);
}

static const struct op *op_of(enum lex_type type)
{
    for (size_t i = 0; i < NX_COUNT(ops); i++)
        if (ops[i].token == type)
            return &ops[i];
    return NULL;
}

/* Joins both sides of `e`, whose operator and modifiers are set. */
static nx_status join(struct parser *p, struct pql_expr *e, struct pql_expr *lhs,
                      struct pql_expr *rhs)
{
    nx_status st;

    e->binary.lhs = lhs;
    e->binary.rhs = rhs;
    e->pos = (struct pql_pos){lhs->pos.start, rhs->pos.end};
    e->type = lhs->type == PQL_SCALAR && rhs->type == PQL_SCALAR ? PQL_SCALAR : PQL_VECTOR;
    if (!p->features.binop_fill &&
        (e->binary.match.has_fill_left || e->binary.match.has_fill_right))
        return parse_fail(p, e->pos.start, "binop fill modifiers are experimental and not enabled");
    st = parse_above(p, e, lhs);
    return st ? st : parse_above(p, e, rhs);
}

/* Puts a sign, already taken, before `inner` (G2). */
static nx_status apply_sign(struct parser *p, const struct token *sign, struct pql_expr *inner,
                            struct pql_expr **out)
{
    nx_status st;

    if (inner->kind == PQL_NODE_NUMBER) {
        if (sign->type == TOK_SUB)
            inner->number.value = -inner->number.value;
        inner->pos.start = sign->pos;
        *out = inner;
        return NX_OK;
    }
    st = parse_node(p, PQL_NODE_UNARY, inner->type, (struct pql_pos){sign->pos, inner->pos.end},
                    out);
    if (st)
        return st;
    (*out)->unary.minus = sign->type == TOK_SUB;
    (*out)->unary.inner = inner;
    return parse_above(p, *out, inner);
}

static nx_status parse_operand(struct parser *p, struct pql_expr **out)
{
    struct pql_expr *inner = NULL;
    struct token sign;
    nx_status st;

    if (parse_peek(p) == TOK_ADD || p->ahead.type == TOK_SUB) {
        sign = parse_take(p);
        st = parse_expr(p, PREC_POW, &inner); /* G1 */
        return st ? st : apply_sign(p, &sign, inner, out);
    }
    st = parse_primary(p, out);
    return st ? st : parse_postfixes(p, out);
}

static nx_status parse_expr(struct parser *p, unsigned min_prec, struct pql_expr **out)
{
    struct pql_expr *lhs = NULL, *rhs = NULL, *e = NULL;
    const struct op *op;
    nx_status st = parse_deeper(p, p->ahead.pos);

    if (!st)
        st = parse_operand(p, &lhs);
    while (!st && (op = op_of(parse_peek(p))) && op->prec >= min_prec) {
        parse_take(p);
        st = parse_node(p, PQL_NODE_BINARY, PQL_NONE, (struct pql_pos){0, 0}, &e);
        if (st)
            break;
        e->binary.op = op->op;
        st = parse_modifiers(p, e);
        if (!st)
            st = parse_expr(p, op->prec == PREC_POW ? PREC_POW : op->prec + 1u, &rhs);
        if (!st)
            st = join(p, e, lhs, rhs);
        lhs = e;
    }
    if (!st)
        *out = lhs;
    p->depth--;
    return st;
}

/* ---- the front door --------------------------------------------------------------------------- */

/* The tree points into a copy of the text. */
static nx_status parser_init(struct parser *p, struct arena *a, struct nx_slice text,
                             const struct pql_features *features, struct nx_err *err)
{
    struct nx_slice copy;

    *p = (struct parser){.arena = a};
    if (text.len > NX_LIMIT_QUERY_BYTES)
        return nx_fail(err, NX_BADINPUT, "1:1: parse error: expression is longer than %u bytes",
                       NX_LIMIT_QUERY_BYTES);
    copy = arena_slice(a, text);
    if (!copy.ptr)
        return arena_failed(a, err);
    if (features)
        p->features = *features;
    lex_init(&p->lex, copy, err);
    return NX_OK;
}

nx_status pql_parse(struct arena *a, struct nx_slice text, const struct pql_features *features,
                    const struct pql_expr **out, struct nx_err *err)
{
    struct parser p;
    struct pql_expr *e = NULL;
    nx_status st = parser_init(&p, a, text, features, err);

    if (st)
        return st;
    if (parse_peek(&p) == TOK_EOF) {
        st = parse_fail(&p, 0, "no expression found in input");
        goto done;
    }
    st = parse_expr(&p, PREC_LOWEST, &e);
    if (st)
        goto done;
    if (parse_peek(&p) != TOK_EOF) {
        st = parse_unexpected(&p, IN_NOTHING);
        goto done;
    }
    st = parse_check(&p, e);
    if (st)
        goto done;
    *out = e;
    p.regexes = NULL; /* now the tree's */

done:
    parse_free_regexes(&p);
    return st;
}

nx_status pql_check_match(const struct matcher *m, size_t n, struct nx_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!parse_matches_empty(&m[i]))
            return NX_OK;
    return nx_fail(err, NX_BADINPUT, "match[] must contain at least one non-empty matcher");
}

/* A selector and nothing else. */
static nx_status parse_lone_selector(struct parser *p, struct matcher **m, size_t *n)
{
    struct token name;
    struct pql_pos pos;
    bool named = is_metric_name(parse_peek(p));
    nx_status st;

    if (!named && p->ahead.type != TOK_LEFT_BRACE)
        return parse_unexpected(p, IN_NOTHING);
    if (named)
        name = parse_take(p);
    st = parse_selector(p, named ? &name : NULL, m, n, &pos);
    if (st)
        return st;
    return parse_peek(p) == TOK_EOF ? NX_OK : parse_unexpected(p, IN_NOTHING);
}

nx_status pql_parse_selector(struct arena *a, struct nx_slice text, struct matcher **out, size_t *n,
                             struct nx_err *err)
{
    struct parser p;
    struct matcher *m;
    size_t found;
    nx_status st = parser_init(&p, a, text, NULL, err);

    if (st)
        return st;
    st = parse_lone_selector(&p, &m, &found);
    if (st)
        goto done;
    *out = m;
    *n = found;
    p.regexes = NULL; /* now the caller's */

done:
    parse_free_regexes(&p);
    return st;
}
