/* tree.h - a parsed template: tokens, nodes, named parts. Private to src/template.
 *
 * Nodes live in the template's arena and never change. A node knows its byte in the source, which errors
 * turn into line and column, and prints as the source it stands for. */
#pragma once

#include "src/template/template.h"

enum token_kind {
    TOK_ERROR,
    TOK_EOF,
    TOK_TEXT,
    TOK_LEFT,
    TOK_RIGHT,
    TOK_SPACE,
    TOK_BOOL,
    TOK_CHAR, /* printable, for ',' and what is wrong */
    TOK_CHAR_CONST,
    TOK_ASSIGN,
    TOK_DECLARE,
    TOK_FIELD,
    TOK_IDENT,
    TOK_LPAREN,
    TOK_RPAREN,
    TOK_NUMBER,
    TOK_PIPE,
    TOK_STRING,
    TOK_RAW,
    TOK_VARIABLE,
    TOK_KEYWORD, /* what follows are keywords */
    TOK_BLOCK,
    TOK_BREAK,
    TOK_CONTINUE,
    TOK_DEFINE,
    TOK_DOT,
    TOK_ELSE,
    TOK_END,
    TOK_IF,
    TOK_NIL,
    TOK_RANGE,
    TOK_TEMPLATE,
    TOK_WITH
};
struct token {
    enum token_kind kind;
    uint32_t pos, line;
    struct nx_slice text; /* TOK_ERROR: what is wrong */
};
struct tokens {
    struct token *v;
    size_t n, cap;
};
/* Always ends in TOK_EOF or TOK_ERROR. NX_NOMEM. */
NX_NODISCARD nx_status lex_template(struct arena *a, struct nx_slice text, struct tokens *out,
                                    struct nx_err *err);

enum node_kind {
    NODE_LIST,
    NODE_TEXT,
    NODE_ACTION,
    NODE_PIPE,
    NODE_COMMAND,
    NODE_IDENT,
    NODE_FIELD,
    NODE_CHAIN,
    NODE_VARIABLE,
    NODE_DOT,
    NODE_NIL,
    NODE_BOOL,
    NODE_NUMBER,
    NODE_STRING,
    NODE_IF,
    NODE_WITH,
    NODE_RANGE,
    NODE_TEMPLATE,
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_END,
    NODE_ELSE
};
struct node {
    enum node_kind kind;
    uint32_t pos;
    struct node **kids; /* list: nodes; pipe: commands; command: arguments */
    uint32_t n_kids, cap_kids;
    struct nx_slice
        text; /* text, identifier, string (unquoted), name of a template, number as written */
    struct nx_slice quoted;  /* string, name of a template: as written */
    struct nx_slice *idents; /* field, chain, variable ("$x" first) */
    uint32_t n_idents;
    struct node
        *pipe; /* action, if, with, range, template (may be NULL); chain: what it starts from */
    struct node *list, *otherwise; /* if, with, range; otherwise may be NULL */
    struct node **decls;           /* pipe: variables */
    uint32_t n_decls;
    bool assigns; /* pipe: = and not := */
    bool truth;
    bool is_int, is_float, as_float; /* number: fits, and a constant of it is a float */
    int64_t i;
    double f;
};

struct part {
    struct nx_slice name;
    struct node *list;
    const struct template *in; /* whose text it is from */
};
struct template
{
    struct arena *arena;
    struct nx_slice name, text;
    struct part *parts; /* the first is the template itself */
    size_t n_parts, cap_parts;
    const struct template_library *library; /* NULL: none */
};
struct template_library {
    struct arena *arena;
    struct part *parts;
    size_t n_parts, cap_parts;
};
/* NULL: nobody has it. The template's own go first. */
const struct part *template_find_part(const struct template *t, struct nx_slice name);

void node_print(struct buf *b, const struct node *n); /* as Go's Node.String() */

/* funcs.c. Alerts have no `tmpl`, as in Prometheus: it is for pages; nor what only notifications have. */
bool template_has_function(struct nx_slice name, bool of_alert);
