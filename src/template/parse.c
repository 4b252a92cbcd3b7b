/* parse.c - a template's tokens as a tree, by recursive descent.
 *
 * RULES   A1  Errors are told in the words of Go's parser, with the line of the token that was read last.
 *         A2  Variables are known by name while parsing: one that no text before declared is an error.
 *         A3  Nesting is bounded, since parsing and execution go down by recursion. */
#include "src/template/tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/num.h"
#include "src/base/text.h"

#define MAX_NESTING 200 /* A3 */

struct parser {
    struct template *t;
    struct arena *a;
    struct tokens in;
    size_t at, far; /* the next token; one past the last that was looked at (A1) */
    struct nx_slice *vars;
    size_t n_vars, cap_vars;
    uint32_t action_line; /* 0: not in an action */
    int ranges, depth;
    bool of_alert;
    struct nx_err *err;
    nx_status st;
};

/* ---- saying what is wrong ---- */

static struct node *fail(struct parser *p, const char *fmt, ...) NX_PRINTF(2, 3);
static struct node *fail(struct parser *p, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    if (p->st)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->st = nx_fail(p->err, NX_BADINPUT, "template: %.*s:%u: %s", (int)p->t->name.len,
                    p->t->name.ptr, p->in.v[p->far ? p->far - 1 : 0].line, text);
    return NULL;
}

static void *out_of_memory(struct parser *p)
{
    if (!p->st)
        p->st = arena_failed(p->a, p->err);
    return NULL;
}

static struct node *fail_quoted(struct parser *p, const char *before, struct nx_slice s,
                                const char *after)
{
    char quoted[TEXT_QUOTED_BYTES];

    return fail(p, "%s%s%s", before, text_quoted(quoted, s), after);
}

static struct node *unexpected(struct parser *p, const struct token *t, const char *context)
{
    char in[128];

    if (t->kind == TOK_ERROR) {
        const char *what = t->text.ptr;
        size_t len = t->text.len;
        bool action = len > 7 && !memcmp(what + len - 7, " action", 7);
        if (!p->action_line || p->action_line == t->line)
            return fail(p, "%s", what);
        return fail(p, "%s%s started at %.*s:%u", what, action ? "" : " in action",
                    (int)p->t->name.len, p->t->name.ptr, p->action_line);
    }
    if (t->kind == TOK_EOF)
        return fail(p, "unexpected EOF in %s", context);
    if (t->kind > TOK_KEYWORD)
        return fail(p, "unexpected <%.*s> in %s", (int)t->text.len, t->text.ptr, context);
    snprintf(in, sizeof in, "%s in %s", t->text.len > 10 ? "..." : "", context);
    return fail_quoted(p, "unexpected ",
                       nx_slice_of(t->text.ptr, t->text.len > 10 ? 10 : t->text.len), in);
}

/* ---- tokens ---- */

static const struct token *peek(struct parser *p)
{
    size_t i = p->at < p->in.n ? p->at : p->in.n - 1;

    if (i + 1 > p->far)
        p->far = i + 1;
    return &p->in.v[i];
}

static const struct token *next(struct parser *p)
{
    const struct token *t = peek(p);

    if (p->at < p->in.n)
        p->at++;
    return t;
}

static const struct token *peek_nonspace(struct parser *p)
{
    while (peek(p)->kind == TOK_SPACE)
        p->at++;
    return peek(p);
}

static const struct token *next_nonspace(struct parser *p)
{
    peek_nonspace(p);
    return next(p);
}

static bool expect_right(struct parser *p, const char *context)
{
    const struct token *t = next_nonspace(p);

    if (t->kind == TOK_RIGHT)
        return true;
    unexpected(p, t, context);
    return false;
}

/* ---- nodes ---- */

static struct node *node_new(struct parser *p, enum node_kind kind, uint32_t pos)
{
    struct node *n = arena_zalloc(p->a, sizeof *n);

    if (!n)
        return out_of_memory(p);
    n->kind = kind;
    n->pos = pos;
    return n;
}

static bool add_kid(struct parser *p, struct node *n, struct node *kid)
{
    if (!kid)
        return false;
    if (n->n_kids == n->cap_kids) {
        uint32_t cap = n->cap_kids ? n->cap_kids * 2 : 4;
        struct node **v =
            arena_grow(p->a, n->kids, n->cap_kids * sizeof(void *), cap * sizeof(void *));
        if (!v)
            return out_of_memory(p) != NULL;
        n->kids = v;
        n->cap_kids = cap;
    }
    n->kids[n->n_kids++] = kid;
    return true;
}

/* ".a" behind what is there; `name` without the point. */
static bool add_ident(struct parser *p, struct node *n, struct nx_slice name)
{
    struct nx_slice *v =
        arena_grow(p->a, n->idents, n->n_idents * sizeof *v, (n->n_idents + 1u) * sizeof *v);

    if (!v)
        return out_of_memory(p) != NULL;
    n->idents = v;
    v[n->n_idents++] = name;
    return true;
}

static struct nx_slice after_point(struct nx_slice field)
{
    return nx_slice_of(field.ptr + 1, field.len - 1);
}

static bool add_var(struct parser *p, struct nx_slice name)
{
    if (p->n_vars == p->cap_vars) {
        size_t cap = p->cap_vars ? p->cap_vars * 2 : 16;
        struct nx_slice *v = arena_grow(p->a, p->vars, p->cap_vars * sizeof *v, cap * sizeof *v);
        if (!v)
            return out_of_memory(p) != NULL;
        p->vars = v;
        p->cap_vars = cap;
    }
    p->vars[p->n_vars++] = name;
    return true;
}

/* ---- constants ---- */

static int hex_digit(int c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* The digits of an escape: two of \x, four of \u. False if they are not there. */
static bool unquote_digits(const char **at, const char *end, int n, int base, uint32_t *c)
{
    *c = 0;
    for (int i = 0; i < n; i++, (*at)++) {
        int d = *at < end ? hex_digit((unsigned char)**at) : -1;
        if (d < 0 || d >= base)
            return false;
        *c = *c * (uint32_t)base + (uint32_t)d;
    }
    return true;
}

static bool unquote_escape(const char **at, const char *end, char quote, struct buf *b)
{
    static const char from[] = "abfnrtv\\", to[] = "\a\b\f\n\r\t\v\\";
    char e = *at < end ? *(*at)++ : 0;
    const char *simple = e ? strchr(from, e) : NULL;
    uint32_t c = 0;

    if (simple || e == quote) {
        buf_char(b, simple ? to[simple - from] : quote);
        return true;
    }
    if (e == 'x') {
        if (!unquote_digits(at, end, 2, 16, &c))
            return false;
        buf_char(b, (char)c);
        return true;
    }
    if (e >= '0' && e <= '7') {
        (*at)--;
        if (!unquote_digits(at, end, 3, 8, &c) || c > 255)
            return false;
        buf_char(b, (char)c);
        return true;
    }
    if ((e != 'u' && e != 'U') || !unquote_digits(at, end, e == 'u' ? 4 : 8, 16, &c) ||
        c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return false;
    text_utf8(b, c);
    return true;
}

static bool unquote(struct parser *p, const struct token *t, struct nx_slice *out)
{
    const char *at = t->text.ptr + 1, *end = t->text.ptr + t->text.len - 1;
    char quote = t->text.ptr[0];
    struct buf b;
    bool ok = true;

    buf_init(&b, 0);
    while (at < end && ok) {
        char c = *at++;
        if (quote == '`' && c == '\r')
            continue;
        if (c == '\\' && quote != '`')
            ok = unquote_escape(&at, end, quote, &b);
        else
            buf_char(&b, c);
    }
    *out = nx_slice_of(arena_strndup(p->a, b.ptr ? b.ptr : "", b.len), b.len);
    if (ok && !p->st)
        p->st = buf_status(&b, p->err);
    buf_done(&b);
    if (p->st)
        return false;
    if (!ok)
        return fail(p, "invalid syntax") != NULL;
    return out->ptr || out_of_memory(p);
}

static bool parse_int(const char *s, int64_t *out)
{
    const char *digits = s + (*s == '+' || *s == '-');
    int base = 10;
    char *end;

    if (digits[0] == '0' && digits[1]) {
        base = (digits[1] | 32) == 'x' ? 16 : (digits[1] | 32) == 'b' ? 2 : 8;
        digits += base == 8 && (digits[1] | 32) != 'o' ? 0 : 2;
    }
    if (hex_digit((unsigned char)*digits) < 0)
        return false;
    errno = 0;
    unsigned long long v = strtoull(digits, &end, base);
    if (*end || errno || v > (*s == '-' ? 1ull << 63 : (1ull << 63) - 1))
        return false;
    *out = *s == '-' ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

static bool number_value(struct parser *p, struct node *n)
{
    char text[128];
    size_t len = 0;
    bool out_of_range, hex;
    char *end;

    for (size_t i = 0; i < n->text.len && len + 1 < sizeof text; i++)
        if (n->text.ptr[i] != '_')
            text[len++] = n->text.ptr[i];
    text[len] = 0;
    hex = strpbrk(text, "xX") != NULL;
    n->is_int = parse_int(text, &n->i);
    if (n->is_int) {
        n->is_float = true;
        n->f = (double)n->i;
    } else if (hex ? (n->f = strtod(text, &end), !*end && strpbrk(text, "pP"))
                   : num_parse(nx_slice_of(text, len), &n->f, &out_of_range)) {
        if (!strpbrk(text, ".eEpP"))
            return fail(p, "integer overflow: \"%s\"", text) != NULL;
        n->is_float = true;
        n->is_int = n->f >= -0x1p63 && n->f < 0x1p63 && (double)(int64_t)n->f == n->f;
        n->i = n->is_int ? (int64_t)n->f : 0;
    } else {
        return fail_quoted(p, "illegal number syntax: ", n->text, "") != NULL;
    }
    n->as_float = n->is_float && !(hex && !strpbrk(text, "pP")) && strpbrk(text, ".eEpP");
    return true;
}

static struct node *number(struct parser *p, const struct token *t)
{
    struct node *n = node_new(p, NODE_NUMBER, t->pos);
    struct nx_slice s;
    uint32_t c;

    if (!n)
        return NULL;
    n->text = t->text;
    if (t->kind == TOK_NUMBER)
        return number_value(p, n) ? n : NULL;
    if (!unquote(p, t, &s))
        return NULL;
    if (!s.len)
        return fail(p, "invalid syntax");
    if (text_utf8_take(s, &c) != s.len)
        return fail(p, "malformed character constant: %.*s", (int)t->text.len, t->text.ptr);
    n->is_int = n->is_float = true;
    n->i = (int64_t)c;
    n->f = (double)c;
    return n;
}

/* ---- pipelines ---- */

static struct node *pipeline(struct parser *p, const char *context, enum token_kind end);

static struct node *variable_new(struct parser *p, const struct token *t)
{
    struct node *n = node_new(p, NODE_VARIABLE, t->pos);

    return n && add_ident(p, n, t->text) ? n : NULL;
}

static struct node *use_variable(struct parser *p, const struct token *t)
{

    for (size_t i = 0; i < p->n_vars; i++)
        if (nx_slice_eq(p->vars[i], t->text))
            return variable_new(p, t);
    return fail_quoted(p, "undefined variable ", t->text, "");
}

/* NULL without a failure: no term begins here. */
static struct node *term(struct parser *p)
{
    const struct token *t = next_nonspace(p);
    struct node *n = NULL;

    switch (t->kind) {
    case TOK_IDENT:
        if (!template_has_function(t->text, p->of_alert)) {
            return fail_quoted(p, "function ", t->text, " not defined");
        }
        if ((n = node_new(p, NODE_IDENT, t->pos)))
            n->text = t->text;
        return n;
    case TOK_DOT:
        return node_new(p, NODE_DOT, t->pos);
    case TOK_NIL:
        return node_new(p, NODE_NIL, t->pos);
    case TOK_VARIABLE:
        return use_variable(p, t);
    case TOK_FIELD:
        n = node_new(p, NODE_FIELD, t->pos);
        return n && add_ident(p, n, after_point(t->text)) ? n : NULL;
    case TOK_BOOL:
        if ((n = node_new(p, NODE_BOOL, t->pos)))
            n->truth = t->text.len == 4;
        return n;
    case TOK_CHAR_CONST:
    case TOK_NUMBER:
        return number(p, t);
    case TOK_LPAREN:
        return pipeline(p, "parenthesized pipeline", TOK_RPAREN);
    case TOK_STRING:
    case TOK_RAW:
        if (!(n = node_new(p, NODE_STRING, t->pos)) || !unquote(p, t, &n->text))
            return NULL;
        n->quoted = t->text;
        return n;
    default:
        p->at--;
        return NULL;
    }
}

/* A term with the fields behind it. */
static struct node *operand(struct parser *p)
{
    struct node *n = term(p), *chain;
    struct buf b;
    uint32_t pos;

    if (!n || peek(p)->kind != TOK_FIELD)
        return n;
    pos = peek(p)->pos;
    switch (n->kind) {
    case NODE_FIELD:
    case NODE_VARIABLE:
        chain = n;
        chain->pos = pos;
        break;
    default:
        if (!(chain = node_new(p, NODE_CHAIN, pos)))
            return NULL;
        chain->pipe = n;
    }
    while (peek(p)->kind == TOK_FIELD)
        if (!add_ident(p, chain, after_point(next(p)->text)))
            return NULL;
    if (n->kind == NODE_BOOL || n->kind == NODE_STRING || n->kind == NODE_NUMBER ||
        n->kind == NODE_NIL || n->kind == NODE_DOT) {
        buf_init(&b, 256);
        node_print(&b, n);
        fail_quoted(p, "unexpected . after term ", buf_view(&b), "");
        buf_done(&b);
        return NULL;
    }
    return chain;
}

static struct node *command(struct parser *p)
{
    struct node *cmd = node_new(p, NODE_COMMAND, peek_nonspace(p)->pos);

    while (cmd) {
        struct node *arg;
        const struct token *t;

        peek_nonspace(p);
        arg = operand(p);
        if (p->st || (arg && !add_kid(p, cmd, arg)))
            return NULL;
        t = next(p);
        if (t->kind == TOK_SPACE)
            continue;
        if (t->kind == TOK_RIGHT || t->kind == TOK_RPAREN)
            p->at--;
        else if (t->kind != TOK_PIPE)
            return unexpected(p, t, "operand");
        break;
    }
    if (cmd && !cmd->n_kids)
        return fail(p, "empty command");
    return cmd;
}

static bool add_decl(struct parser *p, struct node *pipe, const struct token *v)
{
    struct node *n = variable_new(p, v);
    struct node **decls = arena_grow(p->a, pipe->decls, pipe->n_decls * sizeof(void *),
                                     (pipe->n_decls + 1u) * sizeof(void *));

    if (!decls)
        return out_of_memory(p) != NULL;
    pipe->decls = decls;
    if (!n || !add_var(p, v->text))
        return false;
    decls[pipe->n_decls++] = n;
    return true;
}

/* "$x :=", "$x =", "$i, $x :=" before a pipeline. */
static bool declarations(struct parser *p, struct node *pipe, const char *context)
{
    for (;;) {
        const struct token *v = peek_nonspace(p), *t;
        size_t before = p->at;

        if (v->kind != TOK_VARIABLE)
            return true;
        next(p);
        t = peek_nonspace(p);
        if (t->kind == TOK_ASSIGN || t->kind == TOK_DECLARE) {
            pipe->assigns = t->kind == TOK_ASSIGN;
            next(p);
            return add_decl(p, pipe, v);
        }
        if (t->kind != TOK_CHAR || t->text.ptr[0] != ',') {
            p->at = before;
            return true;
        }
        next(p);
        if (!add_decl(p, pipe, v))
            return false;
        if (strcmp(context, "range") != 0 || pipe->n_decls >= 2)
            return fail(p, "too many declarations in %s", context) != NULL;
        t = peek_nonspace(p);
        if (t->kind != TOK_VARIABLE && t->kind != TOK_RIGHT && t->kind != TOK_RPAREN)
            return fail(p, "range can only initialize variables") != NULL;
    }
}

static bool check_pipeline(struct parser *p, const struct node *pipe, const char *context)
{
    if (!pipe->n_kids)
        return fail(p, "missing value for %s", context) != NULL;
    for (uint32_t i = 1; i < pipe->n_kids; i++)
        switch (pipe->kids[i]->kids[0]->kind) {
        case NODE_BOOL:
        case NODE_DOT:
        case NODE_NIL:
        case NODE_NUMBER:
        case NODE_STRING:
            return fail(p, "non executable command in pipeline stage %u", i + 1) != NULL;
        default:
            break;
        }
    return true;
}

static struct node *commands(struct parser *p, struct node *pipe, const char *context,
                             enum token_kind end)
{
    for (;;) {
        const struct token *t = next_nonspace(p);

        if (t->kind == end)
            return check_pipeline(p, pipe, context) ? pipe : NULL;
        switch (t->kind) {
        case TOK_BOOL:
        case TOK_CHAR_CONST:
        case TOK_DOT:
        case TOK_FIELD:
        case TOK_IDENT:
        case TOK_NUMBER:
        case TOK_NIL:
        case TOK_RAW:
        case TOK_STRING:
        case TOK_VARIABLE:
        case TOK_LPAREN:
            p->at--;
            if (!add_kid(p, pipe, command(p)))
                return NULL;
            break;
        default:
            return unexpected(p, t, context);
        }
    }
}

static struct node *pipeline(struct parser *p, const char *context, enum token_kind end)
{
    struct node *pipe = node_new(p, NODE_PIPE, peek_nonspace(p)->pos);

    if (!pipe)
        return NULL;
    if (++p->depth > MAX_NESTING)
        return fail(p, "nested too deeply");
    if (!declarations(p, pipe, context))
        return NULL;
    pipe = commands(p, pipe, context, end);
    p->depth--;
    return pipe;
}

/* ---- actions ---- */

static struct node *text_or_action(struct parser *p);
static struct node *control(struct parser *p, enum node_kind kind, const char *context);

/* Up to {{end}} or {{else}}, which goes to *last. */
static struct node *item_list(struct parser *p, struct node **last)
{
    struct node *list = node_new(p, NODE_LIST, peek_nonspace(p)->pos), *n;

    while (list && peek_nonspace(p)->kind != TOK_EOF) {
        if (!(n = text_or_action(p)))
            return NULL;
        if (n->kind == NODE_END || n->kind == NODE_ELSE) {
            *last = n;
            return list;
        }
        if (!add_kid(p, list, n))
            return NULL;
    }
    return list ? fail(p, "unexpected EOF") : NULL;
}

static bool else_branch(struct parser *p, struct node *n)
{
    enum token_kind again = n->kind == NODE_IF ? TOK_IF : TOK_WITH;
    struct node *last = NULL;

    if (n->kind != NODE_RANGE && peek(p)->kind == again) {
        uint32_t pos = next(p)->pos;
        n->otherwise = node_new(p, NODE_LIST, pos);
        return n->otherwise &&
               add_kid(p, n->otherwise, control(p, n->kind, n->kind == NODE_IF ? "if" : "with"));
    }
    if (!(n->otherwise = item_list(p, &last)))
        return false;
    if (last->kind != NODE_END)
        return fail(p, "expected end; found {{else}}") != NULL;
    return true;
}

static struct node *control(struct parser *p, enum node_kind kind, const char *context)
{
    size_t n_vars = p->n_vars;
    struct node *n = node_new(p, kind, p->in.v[p->at ? p->at - 1 : 0].pos), *last = NULL;

    if (!n)
        return NULL;
    if (++p->depth > MAX_NESTING)
        return fail(p, "nested too deeply");
    if (!(n->pipe = pipeline(p, context, TOK_RIGHT)))
        return NULL;
    n->pos = n->pipe->pos;
    p->ranges += kind == NODE_RANGE;
    n->list = item_list(p, &last);
    p->ranges -= kind == NODE_RANGE;
    if (!n->list || (last->kind == NODE_ELSE && !else_branch(p, n)))
        return NULL;
    p->n_vars = n_vars;
    p->depth--;
    return n;
}

static struct node *else_control(struct parser *p)
{
    const struct token *t = peek_nonspace(p);
    struct node *n = node_new(p, NODE_ELSE, t->pos);

    if (t->kind == TOK_IF || t->kind == TOK_WITH)
        return n;
    return expect_right(p, "else") ? n : NULL;
}

static struct node *jump(struct parser *p, enum node_kind kind, const char *shown)
{
    struct node *n = node_new(p, kind, p->in.v[p->at - 1].pos);
    const struct token *t = next_nonspace(p);

    if (t->kind != TOK_RIGHT)
        return unexpected(p, t, shown);
    if (!p->ranges)
        return fail(p, "%s outside {{range}}", shown);
    return n;
}

static struct part *find_part(struct part *v, size_t n, struct nx_slice name)
{
    for (size_t i = 0; i < n; i++)
        if (nx_slice_eq(v[i].name, name))
            return &v[i];
    return NULL;
}

/* Nothing but white space. */
static bool is_empty(const struct node *list)
{
    for (uint32_t i = 0; list && i < list->n_kids; i++) {
        const struct node *n = list->kids[i];
        if (n->kind != NODE_TEXT)
            return false;
        for (size_t k = 0; k < n->text.len; k++)
            if (!strchr(" \t\r\n\v\f", n->text.ptr[k]) || !n->text.ptr[k])
                return false;
    }
    return true;
}

static bool is_defined(const struct part *p)
{
    return p && p->list && !is_empty(p->list);
}

static bool add_part(struct parser *p, struct nx_slice name, struct node *list)
{
    struct template *t = p->t;
    struct part *old = find_part(t->parts, t->n_parts, name);

    if (is_defined(old)) {
        if (is_empty(list))
            return true;
        return fail_quoted(p, "template: multiple definition of template ", name, "") != NULL;
    }
    if (old) {
        old->list = list;
        return true;
    }
    if (t->n_parts == t->cap_parts) {
        size_t cap = t->cap_parts * 2 + 4;
        struct part *v = arena_grow(p->a, t->parts, t->cap_parts * sizeof *v, cap * sizeof *v);
        if (!v)
            return out_of_memory(p) != NULL;
        t->parts = v;
        t->cap_parts = cap;
    }
    t->parts[t->n_parts++] = (struct part){name, list, t};
    return true;
}

/* What {{define}} and {{block}} hold: variables from outside are not known in it. */
static bool definition(struct parser *p, struct nx_slice name, const char *context)
{
    struct nx_slice *vars = p->vars;
    size_t n_vars = p->n_vars, cap = p->cap_vars;
    int ranges = p->ranges;
    struct node *list, *last = NULL;

    p->vars = NULL;
    p->n_vars = p->cap_vars = 0;
    p->ranges = 0;
    if (!add_var(p, nx_slice_str("$")) || !(list = item_list(p, &last)))
        return false;
    if (last->kind != NODE_END)
        return fail(p, "unexpected {{else}} in %s", context) != NULL;
    p->vars = vars;
    p->n_vars = n_vars;
    p->cap_vars = cap;
    p->ranges = ranges;
    return add_part(p, name, list);
}

static struct node *template_control(struct parser *p, bool block)
{
    const char *context = block ? "block clause" : "template clause";
    const struct token *t = next_nonspace(p);
    struct node *n = node_new(p, NODE_TEMPLATE, t->pos);

    if (!n)
        return NULL;
    if (t->kind != TOK_STRING && t->kind != TOK_RAW)
        return unexpected(p, t, context);
    if (!unquote(p, t, &n->text))
        return NULL;
    n->quoted = t->text;
    if (!block && peek_nonspace(p)->kind == TOK_RIGHT) {
        next(p);
        return n;
    }
    if (!(n->pipe = pipeline(p, context, TOK_RIGHT)))
        return NULL;
    if (block && !definition(p, n->text, context))
        return NULL;
    return n;
}

static struct node *action(struct parser *p)
{
    const struct token *t = next_nonspace(p);
    struct node *n;

    switch (t->kind) {
    case TOK_BLOCK:
        return template_control(p, true);
    case TOK_BREAK:
        return jump(p, NODE_BREAK, "{{break}}");
    case TOK_CONTINUE:
        return jump(p, NODE_CONTINUE, "{{continue}}");
    case TOK_ELSE:
        return else_control(p);
    case TOK_END:
        n = node_new(p, NODE_END, t->pos);
        return expect_right(p, "end") ? n : NULL;
    case TOK_IF:
        return control(p, NODE_IF, "if");
    case TOK_RANGE:
        return control(p, NODE_RANGE, "range");
    case TOK_TEMPLATE:
        return template_control(p, false);
    case TOK_WITH:
        return control(p, NODE_WITH, "with");
    default:
        p->at--;
        if (!(n = node_new(p, NODE_ACTION, peek(p)->pos)))
            return NULL;
        n->pipe = pipeline(p, "command", TOK_RIGHT);
        return n->pipe ? n : NULL;
    }
}

static struct node *text_or_action(struct parser *p)
{
    const struct token *t = next_nonspace(p);
    struct node *n;

    if (t->kind == TOK_TEXT) {
        if ((n = node_new(p, NODE_TEXT, t->pos)))
            n->text = t->text;
        return n;
    }
    if (t->kind != TOK_LEFT)
        return unexpected(p, t, "input");
    p->action_line = t->line;
    n = action(p);
    p->action_line = 0;
    return n;
}

static bool define(struct parser *p)
{
    const struct token *t = next_nonspace(p);
    struct nx_slice name;

    if (t->kind != TOK_STRING && t->kind != TOK_RAW)
        return unexpected(p, t, "define clause") != NULL;
    return unquote(p, t, &name) && expect_right(p, "define clause") &&
           definition(p, name, "define clause");
}

/* The whole text: definitions are taken out of it. */
static bool parse_all(struct parser *p, struct node *root)
{
    while (peek(p)->kind != TOK_EOF) {
        struct node *n;

        if (peek(p)->kind == TOK_LEFT) {
            size_t before = p->at;
            next(p);
            if (next_nonspace(p)->kind == TOK_DEFINE) {
                if (!define(p))
                    return false;
                continue;
            }
            p->at = before;
        }
        if (!(n = text_or_action(p)))
            return false;
        if (n->kind == NODE_END || n->kind == NODE_ELSE)
            return fail(p, "unexpected {{%s}}", n->kind == NODE_END ? "end" : "else") != NULL;
        if (!add_kid(p, root, n))
            return false;
    }
    return true;
}

static nx_status parse(struct template **out, struct arena *a, struct nx_slice name,
                       struct nx_slice text, bool of_alert, struct nx_err *err)
{
    struct parser p = {.a = a, .t = arena_zalloc(a, sizeof *p.t), .of_alert = of_alert, .err = err};
    struct node *root;
    nx_status st;

    if (!p.t)
        return arena_failed(a, err);
    p.t->arena = a;
    p.t->name = arena_slice(a, name);
    p.t->text = arena_slice(a, text);
    p.t->parts = arena_array(a, 1, sizeof *p.t->parts);
    root = node_new(&p, NODE_LIST, 0);
    if (!p.t->name.ptr || !p.t->text.ptr || !p.t->parts || !root)
        return arena_failed(a, err);
    p.t->parts[0] = (struct part){p.t->name, NULL, p.t};
    p.t->n_parts = p.t->cap_parts = 1;
    st = lex_template(a, p.t->text, &p.in, err);
    if (st)
        return st;
    if (!add_var(&p, nx_slice_str("$")) || !parse_all(&p, root))
        return p.st;
    if (!add_part(&p, p.t->name, root))
        return p.st;
    *out = p.t;
    return NX_OK;
}

nx_status template_parse(struct template **out, struct arena *a, struct nx_slice name,
                         struct nx_slice text, struct nx_err *err)
{
    return parse(out, a, name, text, false, err);
}

nx_status template_parse_alert(struct template **out, struct arena *a, struct nx_slice name,
                               struct nx_slice text, struct nx_err *err)
{
    static const char prefix[] = TEMPLATE_ALERT_PREFIX;
    char *all = arena_alloc(a, sizeof prefix + text.len);

    if (!all)
        return arena_failed(a, err);
    memcpy(all, prefix, sizeof prefix - 1);
    memcpy(all + sizeof prefix - 1, text.ptr, text.len);
    return parse(out, a, name, nx_slice_of(all, sizeof prefix - 1 + text.len), true, err);
}

nx_status template_parse_with(struct template **out, struct arena *a, struct nx_slice name,
                              struct nx_slice text, const struct template_library *library,
                              struct nx_err *err)
{
    struct template *t = NULL;
    nx_status st = parse(&t, a, name, text, false, err);

    if (st)
        return st;
    t->library = library;
    *out = t;
    return NX_OK;
}

/* ---- libraries ---- */

struct template_library *template_library_new(struct arena *a)
{
    struct template_library *l = arena_zalloc(a, sizeof *l);

    if (l)
        l->arena = a;
    return l;
}

nx_status template_library_add(struct template_library *l, struct nx_slice name,
                               struct nx_slice text, struct nx_err *err)
{
    struct template *t = NULL;
    nx_status st = parse(&t, l->arena, name, text, false, err);
    size_t cap = l->n_parts + (st ? 0 : t->n_parts);

    if (st)
        return st;
    if (cap > l->cap_parts) {
        struct part *v = arena_grow(l->arena, l->parts, l->cap_parts * sizeof *v, cap * sizeof *v);
        if (!v)
            return arena_failed(l->arena, err);
        l->parts = v;
        l->cap_parts = cap;
    }
    for (size_t i = 0; i < t->n_parts; i++) {
        struct part *old = find_part(l->parts, l->n_parts, t->parts[i].name);
        if (!old)
            l->parts[l->n_parts++] = t->parts[i];
        else if (is_defined(&t->parts[i]) || !is_defined(old))
            *old = t->parts[i];
    }
    return NX_OK;
}

const struct part *template_find_part(const struct template *t, struct nx_slice name)
{
    size_t own = t->library ? 1 : 0; /* a text of a notification is named for messages alone */
    const struct part *p = find_part(t->parts + own, t->n_parts - own, name);

    return p || !t->library ? p : find_part(t->library->parts, t->library->n_parts, name);
}

bool template_is_text(struct nx_slice text)
{
    return !memmem(text.ptr, text.len, "{{", 2);
}
