/* selector.c - metric names and label matchers, and the selectors of match[].
 *
 * RULES  S1  The matchers in braces keep their order; the name before the braces comes last.
 *        S2  A quoted string without an operator is a metric name.
 *        S3  Each compiled regex is in the parser's list until the parse has succeeded; from then on
 *            the matchers are its only owner. */
#include "promql/parse.h"

void parse_free_regexes(struct parser *p)
{
    for (struct parse_regex *r = p->regexes; r; r = r->next)
        regex_free(r->re);
    p->regexes = NULL;
}

bool parse_matches_empty(const struct matcher *m)
{
    switch (m->type) {
    case MATCH_EQ:
        return m->value.len == 0;
    case MATCH_NEQ:
        return m->value.len != 0;
    case MATCH_RE:
        return regex_match(m->re, nx_slice_of("", 0));
    default:
        return !regex_match(m->re, nx_slice_of("", 0));
    }
}

void pql_matchers_done(struct matcher *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct regex *re = (struct regex *)(uintptr_t)m[i].re; /* ours: S3 */

        regex_free(re);
        m[i].re = NULL;
    }
}

/* Compiles the regex of a matcher that has one. `pos` is where its label begins. */
static nx_status compile(struct parser *p, struct matcher *m, uint32_t pos)
{
    struct parse_regex *node = arena_alloc(p->arena, sizeof *node);
    struct nx_err err;
    nx_status st;

    if (!node)
        return parse_nomem(p);
    st = regex_new(&node->re, m->value, &err);
    if (st == NX_BADINPUT)
        return parse_fail(p, pos, "%s", err.text);
    if (st)
        return nx_fail(p->lex.err, st, "%s", err.text);
    node->next = p->regexes;
    p->regexes = node;
    m->re = node->re;
    return NX_OK;
}

/* An operator and a string, for the label or quoted name in `name`. */
static nx_status parse_condition(struct parser *p, const struct token *name, struct matcher *m)
{
    struct token op = parse_take(p), value;
    nx_status st;

    if (parse_peek(p) != TOK_STRING)
        return parse_unexpected(p, IN_LABELS_VALUE);
    value = parse_take(p);
    st = parse_string(p, &value, &m->value);
    if (st)
        return st;
    m->type = op.type == TOK_EQL         ? MATCH_EQ
              : op.type == TOK_NEQ       ? MATCH_NEQ
              : op.type == TOK_EQL_REGEX ? MATCH_RE
                                         : MATCH_NRE;
    return m->type == MATCH_RE || m->type == MATCH_NRE ? compile(p, m, name->pos) : NX_OK;
}

static bool is_match_op(enum lex_type t)
{
    return t == TOK_EQL || t == TOK_NEQ || t == TOK_EQL_REGEX || t == TOK_NEQ_REGEX;
}

static nx_status parse_matcher(struct parser *p, struct matcher *m)
{
    enum lex_type t = parse_peek(p);
    struct token name;
    nx_status st;

    *m = (struct matcher){.type = MATCH_EQ};
    if (t != TOK_IDENTIFIER && t != TOK_STRING)
        return parse_unexpected(p, IN_LABELS);
    name = parse_take(p);
    m->name = name.text;
    if (t == TOK_STRING) {
        st = parse_string(p, &name, &m->name);
        if (st)
            return st;
    }
    if (is_match_op(parse_peek(p)))
        return parse_condition(p, &name, m);
    if (t == TOK_IDENTIFIER)
        return parse_unexpected(p, IN_LABELS_OPERATOR);
    m->value = m->name; /* S2 */
    m->name = nx_slice_str(LABEL_NAME);
    return NX_OK;
}

/* Adds `m` to a list that grows by doubling. */
static nx_status add_matcher(struct parser *p, struct matcher **v, size_t *n,
                             const struct matcher *m)
{
    if ((*n & (*n - 1)) == 0) { /* full: 0, 1, 2, 4, ... */
        size_t cap = *n ? *n * 2 : 1;
        struct matcher *more = arena_grow(p->arena, *v, *n * sizeof **v, cap * sizeof **v);

        if (!more)
            return parse_nomem(p);
        *v = more;
    }
    (*v)[(*n)++] = *m;
    return NX_OK;
}

/* { matchers }, the `{` being the next token. */
static nx_status parse_braces(struct parser *p, struct matcher **v, size_t *n)
{
    struct matcher m;
    nx_status st;

    parse_take(p);
    while (!parse_take_if(p, TOK_RIGHT_BRACE)) {
        st = parse_matcher(p, &m);
        if (!st)
            st = add_matcher(p, v, n, &m);
        if (st)
            return st;
        if (!parse_take_if(p, TOK_COMMA) && parse_peek(p) != TOK_RIGHT_BRACE)
            return parse_unexpected(p, IN_LABELS_COMMA);
    }
    return NX_OK;
}

nx_status parse_selector(struct parser *p, const struct token *name, struct matcher **out,
                         size_t *n, struct pql_pos *pos)
{
    struct matcher *v = NULL, by_name = {.type = MATCH_EQ};
    size_t have = 0;
    enum lex_type after = parse_peek(p);
    nx_status st;

    pos->start = name ? name->pos : p->ahead.pos;
    pos->end = name ? name->pos + (uint32_t)name->text.len : 0;
    if (after == TOK_LEFT_BRACE) {
        st = parse_braces(p, &v, &have);
        if (st)
            return st;
        pos->end = p->last_closing;
    }
    if (name) {
        by_name.name = nx_slice_str(LABEL_NAME);
        by_name.value = name->text;
        st = add_matcher(p, &v, &have, &by_name); /* S1 */
        if (st)
            return st;
    }
    *out = v;
    *n = have;
    return NX_OK;
}
