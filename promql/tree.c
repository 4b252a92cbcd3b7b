/* tree.c - the tree of an expression as JSON, for who draws it.
 *
 * SHAPE  An object for each node, its "type" named as Prometheus's /api/v1/parse_query names it; children are
 *        objects in it. Keys are in order, so that equal trees are equal texts.
 * RULES  J1  A duration that is an expression has its object beside the number, which is then 0; a parenthesis
 *            around it is its "wrapped", one around a lone literal a plus without a left side. */
#include "promql/ast.h"
#include "promql/funcs.h"

#include <inttypes.h>

#include "src/base/num.h"
#include "src/base/text.h"

static void put_expr(struct buf *b, const struct pql_expr *e);

static void put_bool(struct buf *b, bool v)
{
    buf_str(b, v ? "true" : "false");
}

static void put_strings(struct buf *b, const struct nx_slice *v, size_t n)
{
    buf_char(b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_char(b, ',');
        text_json(b, v[i]);
    }
    buf_char(b, ']');
}

/* A number in quotes, never with an exponent. */
static void put_number(struct buf *b, double v)
{
    buf_char(b, '"');
    buf_num_plain(b, v);
    buf_char(b, '"');
}

/* ---- durations -------------------------------------------------------------------------------- */

static void put_durexpr(struct buf *b, const struct pql_durexpr *d, bool wrapped);

static const char *dur_op_text(enum pql_dur_op op)
{
    static const char *const texts[] = {
        [PQL_DUR_STEP] = "step",  [PQL_DUR_RANGE] = "range", [PQL_DUR_NEG] = "-",
        [PQL_DUR_ADD] = "+",      [PQL_DUR_SUB] = "-",       [PQL_DUR_MUL] = "*",
        [PQL_DUR_DIV] = "/",      [PQL_DUR_MOD] = "%",       [PQL_DUR_POW] = "^",
        [PQL_DUR_MIN] = "min_of", [PQL_DUR_MAX] = "max_of",  [PQL_DUR_PAREN] = "+",
        [PQL_DUR_POS] = "+",
    };

    return texts[op];
}

static void put_dur_side(struct buf *b, const struct pql_durexpr *d)
{
    if (d)
        put_durexpr(b, d, false);
    else
        buf_str(b, "null");
}

static void put_durexpr(struct buf *b, const struct pql_durexpr *d, bool wrapped)
{
    bool unary = d->op == PQL_DUR_NEG || d->op == PQL_DUR_POS || d->op == PQL_DUR_PAREN;

    if (d->op == PQL_DUR_POS && d->lhs->op == PQL_DUR_PAREN) { /* which says the same */
        put_durexpr(b, d->lhs, wrapped);
        return;
    }
    if (d->op == PQL_DUR_PAREN && d->lhs->op != PQL_DUR_NUM) {
        put_durexpr(b, d->lhs, true);
        return;
    }
    if (d->op == PQL_DUR_NUM) {
        buf_str(b, "{\"duration\":");
        put_bool(b, d->is_duration);
        buf_str(b, ",\"type\":\"numberLiteral\",\"val\":");
        put_number(b, d->value);
        buf_char(b, '}');
        return;
    }
    buf_str(b, "{\"lhs\":");
    put_dur_side(b, unary ? NULL : d->lhs);
    buf_printf(b, ",\"op\":\"%s\",\"rhs\":", dur_op_text(d->op));
    put_dur_side(b, unary ? d->lhs : d->rhs);
    buf_str(b, ",\"type\":\"durationExpr\",\"wrapped\":");
    put_bool(b, wrapped || d->op == PQL_DUR_PAREN);
    buf_char(b, '}');
}

/* "NAME":ms,"NAMEExpr":... (J1) */
static void put_dur(struct buf *b, const char *name, const struct pql_dur *d)
{
    buf_printf(b, "\"%s\":%" PRId64 ",\"%sExpr\":", name, d->expr ? 0 : d->ms, name);
    put_dur_side(b, d->expr);
}

static void put_start_or_end(struct buf *b, const struct pql_shift *s)
{
    buf_str(b, "\"startOrEnd\":");
    buf_str(b, s->at == PQL_AT_START ? "\"start\"" : s->at == PQL_AT_END ? "\"end\"" : "null");
}

static void put_timestamp(struct buf *b, const struct pql_shift *s)
{
    if (s->at == PQL_AT_TIME)
        buf_printf(b, "\"timestamp\":%" PRId64, s->at_ms);
    else
        buf_str(b, "\"timestamp\":null");
}

/* ---- selectors -------------------------------------------------------------------------------- */

static void put_matchers(struct buf *b, const struct pql_selector *s)
{
    static const char *const types[] = {
        [MATCH_EQ] = "=", [MATCH_NEQ] = "!=", [MATCH_RE] = "=~", [MATCH_NRE] = "!~"};

    buf_str(b, "\"matchers\":[");
    for (size_t i = 0; i < s->n; i++) {
        buf_str(b, i ? ",{\"name\":" : "{\"name\":");
        text_json(b, s->m[i].name);
        buf_printf(b, ",\"type\":\"%s\",\"value\":", types[s->m[i].type]);
        text_json(b, s->m[i].value);
        buf_char(b, '}');
    }
    buf_char(b, ']');
}

/* A selector, or a range when `range` is there. */
static void put_selector(struct buf *b, const struct pql_selector *s, const struct pql_dur *range)
{
    buf_str(b, "{\"anchored\":");
    put_bool(b, s->anchored);
    buf_char(b, ',');
    put_matchers(b, s);
    buf_str(b, ",\"name\":");
    text_json(b, s->name);
    buf_char(b, ',');
    put_dur(b, "offset", &s->shift.offset);
    buf_char(b, ',');
    if (range) {
        put_dur(b, "range", range);
        buf_char(b, ',');
    }
    buf_str(b, "\"smoothed\":");
    put_bool(b, s->smoothed);
    buf_char(b, ',');
    put_start_or_end(b, &s->shift);
    buf_char(b, ',');
    put_timestamp(b, &s->shift);
    buf_str(b, range ? ",\"type\":\"matrixSelector\"}" : ",\"type\":\"vectorSelector\"}");
}

static void put_subquery(struct buf *b, const struct pql_expr *e)
{
    buf_str(b, "{\"expr\":");
    put_expr(b, e->sub.inner);
    buf_char(b, ',');
    put_dur(b, "offset", &e->sub.shift.offset);
    buf_char(b, ',');
    put_dur(b, "range", &e->sub.range);
    buf_char(b, ',');
    put_start_or_end(b, &e->sub.shift);
    buf_char(b, ',');
    put_dur(b, "step", &e->sub.step);
    buf_char(b, ',');
    put_timestamp(b, &e->sub.shift);
    buf_str(b, ",\"type\":\"subquery\"}");
}

/* ---- calls, aggregations, operators ------------------------------------------------------------- */

static const char *type_text(enum pql_type t)
{
    static const char *const texts[] = {[PQL_NONE] = "none",
                                        [PQL_SCALAR] = "scalar",
                                        [PQL_VECTOR] = "vector",
                                        [PQL_MATRIX] = "matrix",
                                        [PQL_STRING] = "string"};

    return texts[t];
}

/* The signature: types of the arguments that must be there and of one more if there may be, and how many more
 * that is, -1 for any number. */
static void put_func(struct buf *b, const struct pql_func *f)
{
    unsigned listed = 0, most, types;
    int more;

    while (listed < PQL_MAX_ARGS && f->args[listed] != PQL_NONE)
        listed++;
    most = f->max_args ? f->max_args : listed;
    more = f->flags & PQL_F_VARIADIC ? -1 : (int)(most - f->min_args);
    types = f->min_args + (more ? 1u : 0u);
    buf_str(b, "{\"argTypes\":[");
    for (unsigned i = 0; i < types; i++)
        buf_printf(b, "%s\"%s\"", i ? "," : "", type_text(f->args[i < listed ? i : listed - 1]));
    buf_printf(b, "],\"name\":\"%s\",\"returnType\":\"%s\",\"variadic\":%d}", f->name,
               type_text(f->result), more);
}

static void put_call(struct buf *b, const struct pql_expr *e)
{
    buf_str(b, "{\"args\":[");
    for (size_t i = 0; i < e->call.n; i++) {
        if (i)
            buf_char(b, ',');
        put_expr(b, e->call.args[i]);
    }
    buf_str(b, "],\"func\":");
    put_func(b, e->call.func);
    buf_str(b, ",\"type\":\"call\"}");
}

static void put_aggregate(struct buf *b, const struct pql_expr *e)
{
    buf_str(b, "{\"expr\":");
    put_expr(b, e->agg.inner);
    buf_str(b, ",\"grouping\":");
    put_strings(b, e->agg.labels, e->agg.n);
    buf_printf(b, ",\"op\":\"%s\",\"param\":", pql_agg_text(e->agg.op));
    if (e->agg.param)
        put_expr(b, e->agg.param);
    else
        buf_str(b, "null");
    buf_str(b, ",\"type\":\"aggregation\",\"without\":");
    put_bool(b, e->agg.without);
    buf_char(b, '}');
}

/* A number of JSON; what JSON has no number for is null. */
static void put_fill(struct buf *b, bool has, double v)
{
    if (has && v - v == 0)
        buf_num(b, v);
    else
        buf_str(b, "null");
}

static void put_matching(struct buf *b, const struct pql_matching *m)
{
    static const char *const cards[] = {[PQL_ONE_TO_ONE] = "one-to-one",
                                        [PQL_MANY_TO_ONE] = "many-to-one",
                                        [PQL_ONE_TO_MANY] = "one-to-many",
                                        [PQL_MANY_TO_MANY] = "many-to-many"};

    buf_printf(b, "{\"card\":\"%s\",\"fillValues\":{\"lhs\":", cards[m->card]);
    put_fill(b, m->has_fill_left, m->fill_left);
    buf_str(b, ",\"rhs\":");
    put_fill(b, m->has_fill_right, m->fill_right);
    buf_str(b, "},\"include\":");
    put_strings(b, m->include, m->n_include);
    buf_str(b, ",\"labels\":");
    put_strings(b, m->labels, m->n);
    buf_str(b, ",\"on\":");
    put_bool(b, m->on);
    buf_char(b, '}');
}

static void put_binary(struct buf *b, const struct pql_expr *e)
{
    buf_str(b, "{\"bool\":");
    put_bool(b, e->binary.return_bool);
    buf_str(b, ",\"lhs\":");
    put_expr(b, e->binary.lhs);
    buf_str(b, ",\"matching\":");
    if (e->binary.lhs->type == PQL_VECTOR && e->binary.rhs->type == PQL_VECTOR)
        put_matching(b, &e->binary.match);
    else
        buf_str(b, "null");
    buf_printf(b, ",\"op\":\"%s\",\"rhs\":", pql_op_text(e->binary.op));
    put_expr(b, e->binary.rhs);
    buf_str(b, ",\"type\":\"binaryExpr\"}");
}

static void put_expr(struct buf *b, const struct pql_expr *e)
{
    switch (e->kind) {
    case PQL_NODE_NUMBER:
        buf_str(b, "{\"type\":\"numberLiteral\",\"val\":");
        put_number(b, e->number.value);
        buf_char(b, '}');
        return;
    case PQL_NODE_STRING:
        buf_str(b, "{\"type\":\"stringLiteral\",\"val\":");
        text_json(b, e->string);
        buf_char(b, '}');
        return;
    case PQL_NODE_SELECTOR:
        put_selector(b, &e->selector, NULL);
        return;
    case PQL_NODE_RANGE:
        put_selector(b, &e->range.selector->selector, &e->range.range);
        return;
    case PQL_NODE_SUBQUERY:
        put_subquery(b, e);
        return;
    case PQL_NODE_CALL:
        put_call(b, e);
        return;
    case PQL_NODE_AGGREGATE:
        put_aggregate(b, e);
        return;
    case PQL_NODE_UNARY:
        buf_str(b, "{\"expr\":");
        put_expr(b, e->unary.inner);
        buf_printf(b, ",\"op\":\"%c\",\"type\":\"unaryExpr\"}", e->unary.minus ? '-' : '+');
        return;
    case PQL_NODE_BINARY:
        put_binary(b, e);
        return;
    case PQL_NODE_PAREN:
        buf_str(b, "{\"expr\":");
        put_expr(b, e->paren);
        buf_str(b, ",\"type\":\"parenExpr\"}");
        return;
    }
}

void pql_print_tree(struct buf *b, const struct pql_expr *e)
{
    put_expr(b, e);
}
