/* parse.h - what the files of the parser share. Private to promql/{parse,postfix,durexpr,selector,
 * literals,check}.c.
 *
 * Every function returns NX_OK or the status of the first fault; the text is then in the lexer's err.
 * Nothing is done after a fault. */
#pragma once

#include "promql/ast.h"
#include "promql/lex.h"
#include "src/base/limits.h"

/* Where a token that fits nowhere is said to stand: the innermost construct with a name. */
enum parse_where {
    IN_NOTHING,
    IN_AGGREGATION,
    IN_OFFSET,
    IN_AT,
    IN_RANGE_SELECTOR,  /* after `[` */
    IN_RANGE,           /* after the first duration */
    IN_SUBQUERY_STEP,   /* after `:` */
    IN_SUBQUERY_END,    /* after the second duration */
    IN_GROUPING,        /* where a `(` must come */
    IN_GROUPING_LABEL,  /* where a label must come */
    IN_GROUPING_COMMA,  /* where `,` or `)` must come */
    IN_LABELS,          /* where a matcher must come */
    IN_LABELS_OPERATOR, /* after a label name */
    IN_LABELS_VALUE,    /* after the operator */
    IN_LABELS_COMMA     /* after a matcher */
};

/* Nesting that takes a call each: parentheses, arguments, signs, right sides. The parser needs more
 * stack a level than the walks over the tree that NX_LIMIT_QUERY_DEPTH bounds, so it takes fewer. */
#define PARSE_MAX_NESTING (NX_LIMIT_QUERY_DEPTH / 2)

/* A compiled regex of the tree at work, so that a failed parse can free it. */
struct parse_regex {
    struct regex *re;
    struct parse_regex *next;
};

struct parser {
    struct lexer lex;
    struct token ahead; /* read, not taken, if `has_ahead`; else the last one taken */
    bool has_ahead;
    uint32_t last_closing; /* end of the last token read that may close an expression */
    enum parse_where where;
    unsigned depth;      /* of nested calls; at most PARSE_MAX_NESTING */
    unsigned n_duration; /* nodes of the duration expression at work; bounded likewise */
    struct arena *arena;
    struct pql_features features;
    struct parse_regex *regexes;
};

/* The type of the next token, which stays. TOK_ERROR: the fault is reported already. */
enum lex_type parse_peek(struct parser *p);
struct token parse_take(struct parser *p); /* the token that parse_peek saw */
bool parse_take_if(struct parser *p, enum lex_type type);

/* "unexpected X in Y, expected Z" about the next token; Y and Z by `where`. */
nx_status parse_unexpected(struct parser *p, enum parse_where where);
/* A fault at byte `pos`. */
#define parse_fail(p, pos, ...) lex_fail(&(p)->lex, pos, __VA_ARGS__)
/* As parse_fail, with `what` quoted between the two texts. */
nx_status parse_fail_quoted(struct parser *p, uint32_t pos, const char *before,
                            struct nx_slice what, const char *after);
nx_status parse_nomem(struct parser *p);                /* the arena gave NULL */
nx_status parse_deeper(struct parser *p, uint32_t pos); /* depth++, within bounds */

/* A node of height 1, in the arena, and the claim that `e` has the child `c`. */
nx_status parse_node(struct parser *p, enum pql_kind kind, enum pql_type type, struct pql_pos pos,
                     struct pql_expr **out);
nx_status parse_above(struct parser *p, struct pql_expr *e, const struct pql_expr *c);

/* postfix.c: all postfixes behind *e, which becomes part of what they make. */
nx_status parse_postfixes(struct parser *p, struct pql_expr **e);

/* literals.c: tokens to values. */
nx_status parse_number(struct parser *p, const struct token *t,
                       double *out); /* NUMBER or DURATION */
nx_status parse_string(struct parser *p, const struct token *t, struct nx_slice *out);

/* durexpr.c: `p` stands behind the `[` or `:` (parse_range_duration, must be positive) or behind
 * `offset`. A plain number is *seconds; an expression is out->expr with *seconds 0. */
nx_status parse_range_duration(struct parser *p, struct pql_dur *out);
nx_status parse_offset_duration(struct parser *p, struct pql_dur *out, double *seconds);

/* selector.c: `name` is the token before or NULL; the next token may be `{`. The matchers are in the
 * arena. */
nx_status parse_selector(struct parser *p, const struct token *name, struct matcher **out,
                         size_t *n, struct pql_pos *pos);
bool parse_matches_empty(const struct matcher *m); /* an absent label satisfies it */
void parse_free_regexes(struct parser *p);

/* check.c: types, after the syntax is known to be right. */
nx_status parse_check(struct parser *p, struct pql_expr *e);
