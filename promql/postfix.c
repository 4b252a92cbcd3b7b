/* postfix.c - what stands behind an operand: [range], [range:step], offset, @, anchored, smoothed.
 *
 * RULES  F1  All of them change the operand at their left, which must be able to take them: a range wants
 *            a selector without modifiers, offset and @ a selector, a range or a subquery.
 *        F2  The modifiers of a range live in its selector. They come in any order, each once.
 *        F3  Faults of meaning are reported when the modifier is read to its end, as Prometheus does. */
#include "promql/parse.h"

#include <math.h>
#include <stdio.h>

static nx_status range_new(struct parser *p, uint32_t open, struct pql_expr *of,
                           struct pql_dur range, struct pql_expr **out)
{
    const char *fault = NULL;
    struct pql_expr *e = NULL;
    nx_status st;

    if (of->kind != PQL_NODE_SELECTOR)
        fault = "ranges only allowed for vector selectors";
    else if (of->selector.shift.has_offset)
        fault = "no offset modifiers allowed before range";
    else if (of->selector.shift.at != PQL_AT_NONE)
        fault = "no @ modifiers allowed before range";
    if (fault)
        return parse_fail(p, open, "%s", fault);
    st = parse_node(p, PQL_NODE_RANGE, PQL_MATRIX, (struct pql_pos){of->pos.start, p->last_closing},
                    &e);
    if (st)
        return st;
    e->range.selector = of;
    e->range.range = range;
    *out = e;
    return parse_above(p, e, of);
}

static nx_status parse_subquery(struct parser *p, struct pql_expr *of, struct pql_dur range,
                                struct pql_expr **out)
{
    struct pql_dur step = {0, NULL};
    struct pql_expr *e = NULL;
    nx_status st;

    p->where = IN_SUBQUERY_STEP;
    if (parse_peek(p) != TOK_RIGHT_BRACKET) {
        const uint32_t at = p->ahead.pos;

        st = parse_range_duration(p, &step);
        if (!st && !step.ms && !step.expr) /* Prometheus would divide by it */
            st = parse_fail(p, at, "step of a subquery must be a millisecond at least");
        if (st)
            return st;
    }
    if (!parse_take_if(p, TOK_RIGHT_BRACKET))
        return parse_unexpected(p, IN_SUBQUERY_END);
    st = parse_node(p, PQL_NODE_SUBQUERY, PQL_MATRIX,
                    (struct pql_pos){of->pos.start, p->last_closing}, &e);
    if (st)
        return st;
    e->sub.inner = of;
    e->sub.range = range;
    e->sub.step = step;
    *out = e;
    return parse_above(p, e, of);
}

/* [range] or [range:step] behind *e, which it becomes part of. */
static nx_status parse_bracket(struct parser *p, struct pql_expr **e)
{
    enum parse_where outer = p->where;
    struct token open = parse_take(p);
    struct pql_dur range;
    nx_status st;

    p->where = IN_RANGE_SELECTOR;
    st = parse_range_duration(p, &range);
    if (st)
        return st;
    if (parse_take_if(p, TOK_RIGHT_BRACKET))
        st = range_new(p, open.pos, *e, range, e);
    else if (parse_take_if(p, TOK_COLON))
        st = parse_subquery(p, *e, range, e);
    else
        st = parse_unexpected(p, IN_RANGE);
    p->where = outer;
    return st;
}

/* The selector or subquery that modifiers of `e` change; NULL if it takes none. `sel` is the
 * selector of a range. */
static struct pql_shift *shift_of(struct pql_expr *e, struct pql_expr *sel)
{
    switch ((int)e->kind) {
    case PQL_NODE_SELECTOR:
        return &e->selector.shift;
    case PQL_NODE_RANGE:
        return &sel->selector.shift;
    case PQL_NODE_SUBQUERY:
        return &e->sub.shift;
    default:
        return NULL;
    }
}

static nx_status parse_offset(struct parser *p, struct pql_expr *e, struct pql_expr *sel)
{
    enum parse_where outer = p->where;
    struct pql_shift *shift = shift_of(e, sel);
    struct pql_dur offset;
    double seconds;
    nx_status st;

    parse_take(p);
    p->where = IN_OFFSET;
    st = parse_offset_duration(p, &offset, &seconds);
    p->where = outer;
    if (st)
        return st;
    if (!shift)
        return parse_fail(p, e->pos.start,
                          "offset modifier must be preceded by an instant vector selector or range "
                          "vector selector or a subquery");
    if (shift->has_offset)
        return parse_fail(p, e->pos.start, "offset may not be set multiple times");
    shift->offset = offset;
    shift->has_offset = offset.expr || round(seconds * 1e9) != 0;
    e->pos.end = p->last_closing;
    return NX_OK;
}

/* A time literal behind @, with its sign. */
static nx_status parse_at_time(struct parser *p, double *seconds)
{
    struct token t = {.type = TOK_EOF};
    bool minus;
    nx_status st;

    if (parse_peek(p) == TOK_ADD || p->ahead.type == TOK_SUB)
        t = parse_take(p);
    minus = t.type == TOK_SUB;
    if (parse_peek(p) != TOK_NUMBER && p->ahead.type != TOK_DURATION)
        return parse_unexpected(p, IN_AT);
    t = parse_take(p);
    st = parse_number(p, &t, seconds);
    if (!st && minus)
        *seconds = -*seconds;
    return st;
}

/* start() or end() behind @. */
static nx_status parse_at_word(struct parser *p, enum pql_at_kind *at)
{
    *at = parse_take(p).type == TOK_START ? PQL_AT_START : PQL_AT_END;
    if (!parse_take_if(p, TOK_LEFT_PAREN) || !parse_take_if(p, TOK_RIGHT_PAREN))
        return parse_unexpected(p, IN_AT);
    return NX_OK;
}

static nx_status check_at_bounds(struct parser *p, const struct pql_expr *e, double seconds)
{
    char text[400];

    if (seconds < 9223372036854775808.0 && seconds > -9223372036854775808.0)
        return NX_OK;
    if (isnan(seconds))
        snprintf(text, sizeof text, "NaN");
    else if (isinf(seconds))
        snprintf(text, sizeof text, "%sInf", seconds > 0 ? "+" : "-");
    else
        snprintf(text, sizeof text, "%f", seconds);
    return parse_fail(p, e->pos.start, "timestamp out of bounds for @ modifier: %s", text);
}

static nx_status parse_at(struct parser *p, struct pql_expr *e, struct pql_expr *sel)
{
    struct pql_shift *shift = shift_of(e, sel);
    enum pql_at_kind at = PQL_AT_TIME;
    double seconds = 0, ms;
    nx_status st;

    parse_take(p);
    if (parse_peek(p) == TOK_START || p->ahead.type == TOK_END)
        st = parse_at_word(p, &at);
    else
        st = parse_at_time(p, &seconds);
    if (!st)
        st = check_at_bounds(p, e, seconds);
    if (st)
        return st;
    if (!shift)
        return parse_fail(
            p, e->pos.start,
            "@ modifier must be preceded by an instant vector selector or range vector "
            "selector or a subquery");
    if (shift->at != PQL_AT_NONE)
        return parse_fail(p, e->pos.start, "@ <timestamp> may not be set multiple times");
    ms = round(seconds * 1000);
    shift->at = at;
    shift->at_ms =
        ms < 9223372036854775808.0 && ms >= -9223372036854775808.0 ? (int64_t)ms : INT64_MIN;
    e->pos.end = p->last_closing;
    return NX_OK;
}

/* anchored or smoothed, the next token. */
static nx_status parse_extended(struct parser *p, struct pql_expr *e, struct pql_expr *sel)
{
    bool anchored = parse_take(p).type == TOK_ANCHORED;
    const char *word = anchored ? "anchored" : "smoothed";

    if (!p->features.extended_range)
        return parse_fail(p, e->pos.start, "%s modifier is experimental and not enabled", word);
    if (e->kind == PQL_NODE_SUBQUERY)
        return parse_fail(p, e->pos.start, "%s modifier is not supported for subqueries", word);
    if (e->kind != PQL_NODE_SELECTOR && e->kind != PQL_NODE_RANGE)
        return parse_fail(p, e->pos.start, "%s modifier not implemented", word);
    if (anchored)
        sel->selector.anchored = true;
    else
        sel->selector.smoothed = true;
    if (sel->selector.anchored && sel->selector.smoothed)
        return parse_fail(p, e->pos.start,
                          "anchored and smoothed modifiers cannot be used together");
    return NX_OK;
}

nx_status parse_postfixes(struct parser *p, struct pql_expr **e)
{
    struct pql_expr *sel = *e; /* of a range: what is before its `[` */
    nx_status st = NX_OK;

    while (!st) {
        switch ((int)parse_peek(p)) {
        case TOK_LEFT_BRACKET:
            sel = *e;
            st = parse_bracket(p, e);
            break;
        case TOK_OFFSET:
            st = parse_offset(p, *e, sel);
            break;
        case TOK_AT:
            st = parse_at(p, *e, sel);
            break;
        case TOK_ANCHORED:
        case TOK_SMOOTHED:
            st = parse_extended(p, *e, sel);
            break;
        default:
            return NX_OK;
        }
    }
    return st;
}
