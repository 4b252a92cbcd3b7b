/* lex.c - a template's text as tokens.
 *
 * RULES   L1  All tokens are made at once; what is wrong is the last of them, and the parser, which may
 *             find something wrong before it, decides what is told.
 *         L2  Spaces inside actions are tokens: "$x .y" is not "$x.y".
 *         L3  Letters beyond ASCII are taken for letters, whatever they are. */
#include "src/template/tree.h"

#include <string.h>

#include "src/base/text.h"

struct lexer {
    struct arena *arena;
    struct nx_slice in;
    size_t pos, start;
    uint32_t line; /* of `counted` */
    size_t counted;
    int parens;
    struct tokens out;
    struct nx_err *err;
    nx_status st;
    bool done;
};

static uint32_t line_at(struct lexer *l, size_t pos)
{
    for (; l->counted < pos; l->counted++)
        l->line += l->in.ptr[l->counted] == '\n';
    return l->line;
}

static void put(struct lexer *l, enum token_kind kind, struct nx_slice text)
{
    if (l->out.n == l->out.cap) {
        size_t cap = l->out.cap ? l->out.cap * 2 : 32;
        struct token *v = arena_grow(l->arena, l->out.v, l->out.cap * sizeof *v, cap * sizeof *v);
        if (!v) {
            l->st = arena_failed(l->arena, l->err);
            l->done = true;
            return;
        }
        l->out.v = v;
        l->out.cap = cap;
    }
    l->out.v[l->out.n++] = (struct token){kind, (uint32_t)l->start, line_at(l, l->start), text};
    l->start = l->pos;
}

static void emit(struct lexer *l, enum token_kind kind)
{
    put(l, kind, nx_slice_of(l->in.ptr + l->start, l->pos - l->start));
}

static void fail(struct lexer *l, const char *text)
{
    if (!text)
        l->st = arena_failed(l->arena, l->err);
    else
        put(l, TOK_ERROR, nx_slice_str(text));
    l->done = true;
}

static struct nx_slice rest(const struct lexer *l)
{
    return nx_slice_of(l->in.ptr + l->pos, l->in.len - l->pos);
}

static bool starts(struct nx_slice s, const char *with)
{
    size_t n = strlen(with);

    return s.len >= n && !memcmp(s.ptr, with, n);
}

static bool is_space(int c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_word(int c)
{
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           c >= 0x80; /* L3 */
}

static int peek(const struct lexer *l)
{
    return l->pos < l->in.len ? (unsigned char)l->in.ptr[l->pos] : -1;
}

/* "U+0040 '@'", of the character at the lexer's place. */
static const char *show(struct lexer *l, const char *before)
{
    uint32_t c = 0;
    size_t n = text_utf8_take(rest(l), &c);

    if (!n)
        return arena_printf(l->arena, "%sU+FFFD '\xef\xbf\xbd'", before);
    if (!text_printable(c))
        return arena_printf(l->arena, "%sU+%04X", before, c);
    return arena_printf(l->arena, "%sU+%04X '%.*s'", before, c, (int)n, l->in.ptr + l->pos);
}

static bool right_trim_at(const struct lexer *l, size_t pos)
{
    return pos + 1 < l->in.len && is_space((unsigned char)l->in.ptr[pos]) &&
           l->in.ptr[pos + 1] == '-';
}

static bool at_right(const struct lexer *l, bool *trim)
{
    struct nx_slice s = rest(l);

    *trim = right_trim_at(l, l->pos) && s.len >= 4 && s.ptr[2] == '}' && s.ptr[3] == '}';
    return *trim || starts(s, "}}");
}

static void skip_spaces(struct lexer *l)
{
    while (is_space(peek(l)))
        l->pos++;
    l->start = l->pos;
}

/* ---- text ---- */

static void lex_text(struct lexer *l, bool *inside)
{
    struct nx_slice s = rest(l);
    const char *at = memmem(s.ptr, s.len, "{{", 2);
    size_t len = at ? (size_t)(at - s.ptr) : s.len, keep = len;
    const char *after = at ? at + 2 : NULL;

    if (at && after + 1 < l->in.ptr + l->in.len && after[0] == '-' &&
        is_space((unsigned char)after[1]))
        while (keep && is_space((unsigned char)s.ptr[keep - 1]))
            keep--;
    l->pos += keep;
    if (keep)
        emit(l, TOK_TEXT);
    l->pos = l->start = l->pos + (len - keep);
    if (at) {
        *inside = true;
    } else {
        emit(l, TOK_EOF);
        l->done = true;
    }
}

static void lex_comment(struct lexer *l)
{
    struct nx_slice s = rest(l);
    const char *end = memmem(s.ptr + 2, s.len - 2, "*/", 2);
    bool trim;

    if (!end) {
        fail(l, "unclosed comment");
        return;
    }
    l->pos += (size_t)(end - s.ptr) + 2;
    if (!at_right(l, &trim)) {
        fail(l, "comment ends before closing delimiter");
        return;
    }
    l->pos += trim ? 4 : 2;
    l->start = l->pos;
    if (trim)
        skip_spaces(l);
}

/* False for a comment, after which text goes on. */
static bool lex_left(struct lexer *l)
{
    size_t marker;

    l->pos += 2;
    marker =
        peek(l) == '-' && l->pos + 1 < l->in.len && is_space((unsigned char)l->in.ptr[l->pos + 1])
            ? 2
            : 0;
    l->pos += marker;
    if (starts(rest(l), "/*")) {
        l->start = l->pos;
        lex_comment(l);
        return false;
    }
    l->pos -= marker;
    emit(l, TOK_LEFT);
    l->pos += marker;
    l->start = l->pos;
    l->parens = 0;
    return true;
}

/* ---- inside of actions ---- */

static bool at_terminator(const struct lexer *l)
{
    int c = peek(l);

    return c < 0 || is_space(c) || c == '.' || c == ',' || c == '|' || c == ':' || c == ')' ||
           c == '(' || starts(rest(l), "}}");
}

static void lex_word(struct lexer *l)
{
    static const struct {
        const char *word;
        enum token_kind kind;
    } words[] = {{"block", TOK_BLOCK},
                 {"break", TOK_BREAK},
                 {"continue", TOK_CONTINUE},
                 {"define", TOK_DEFINE},
                 {"else", TOK_ELSE},
                 {"end", TOK_END},
                 {"if", TOK_IF},
                 {"nil", TOK_NIL},
                 {"range", TOK_RANGE},
                 {"template", TOK_TEMPLATE},
                 {"with", TOK_WITH},
                 {"true", TOK_BOOL},
                 {"false", TOK_BOOL}};
    struct nx_slice word;

    while (is_word(peek(l)))
        l->pos++;
    if (!at_terminator(l)) {
        fail(l, show(l, "bad character "));
        return;
    }
    word = nx_slice_of(l->in.ptr + l->start, l->pos - l->start);
    for (size_t i = 0; i < NX_COUNT(words); i++)
        if (nx_slice_is(word, words[i].word)) {
            emit(l, words[i].kind);
            return;
        }
    emit(l, TOK_IDENT);
}

/* After '.' or '$'. */
static void lex_field(struct lexer *l, enum token_kind kind)
{
    if (at_terminator(l)) {
        emit(l, kind == TOK_FIELD ? TOK_DOT : kind);
        return;
    }
    while (is_word(peek(l)))
        l->pos++;
    if (!at_terminator(l))
        fail(l, show(l, "bad character "));
    else
        emit(l, kind);
}

static bool accept(struct lexer *l, const char *set)
{
    int c = peek(l);

    if (c <= 0 || !strchr(set, c))
        return false;
    l->pos++;
    return true;
}

static void accept_run(struct lexer *l, const char *set)
{
    while (accept(l, set))
        ;
}

static bool scan_number(struct lexer *l)
{
    const char *digits = "0123456789_";

    accept(l, "+-");
    if (accept(l, "0")) {
        if (accept(l, "xX"))
            digits = "0123456789abcdefABCDEF_";
        else if (accept(l, "oO"))
            digits = "01234567_";
        else if (accept(l, "bB"))
            digits = "01_";
    }
    accept_run(l, digits);
    if (accept(l, "."))
        accept_run(l, digits);
    if (strlen(digits) == 11 && accept(l, "eE")) {
        accept(l, "+-");
        accept_run(l, "0123456789_");
    }
    if (strlen(digits) == 23 && accept(l, "pP")) {
        accept(l, "+-");
        accept_run(l, "0123456789_");
    }
    if (!is_word(peek(l)))
        return true;
    l->pos++;
    return false;
}

static void lex_number(struct lexer *l)
{
    /* "1+2i" is a number to Go, but there is nothing that takes one. */
    if (scan_number(l) && ((peek(l) != '+' && peek(l) != '-') || (scan_number(l), false))) {
        emit(l, TOK_NUMBER);
        return;
    }
    struct buf b;
    buf_init(&b, 4096);
    buf_str(&b, "bad number syntax: ");
    text_quote(&b, nx_slice_of(l->in.ptr + l->start, l->pos - l->start));
    fail(l, arena_strdup(l->arena, buf_cstr(&b)));
    buf_done(&b);
}

/* Strings and characters, from the opening quote on. */
static void lex_quoted(struct lexer *l, char quote, enum token_kind kind, const char *unterminated)
{
    for (l->pos++;; l->pos++) {
        int c = peek(l);
        if (c == '\\' && quote != '`') {
            l->pos++;
            c = peek(l);
            if (c >= 0 && c != '\n')
                continue;
        }
        if (c < 0 || (c == '\n' && quote != '`')) {
            fail(l, unterminated);
            return;
        }
        if (c == quote)
            break;
    }
    l->pos++;
    emit(l, kind);
}

static void lex_space(struct lexer *l)
{
    size_t from = l->pos;

    while (is_space(peek(l)))
        l->pos++;
    /* The last one may belong to a trim marker. */
    if (right_trim_at(l, l->pos - 1) && l->pos + 3 <= l->in.len &&
        !memcmp(l->in.ptr + l->pos + 1, "}}", 2)) {
        l->pos--;
        if (l->pos == from)
            return; /* taken as the right delimiter */
    }
    emit(l, TOK_SPACE);
}

static void lex_right(struct lexer *l, bool trim, bool *inside)
{
    if (l->parens) {
        fail(l, "unclosed left paren");
        return;
    }
    if (trim)
        l->start = l->pos += 2;
    l->pos += 2;
    emit(l, TOK_RIGHT);
    if (trim)
        skip_spaces(l);
    *inside = false;
}

static void lex_paren(struct lexer *l, int c)
{
    l->pos++;
    l->parens += c == '(' ? 1 : -1;
    if (l->parens < 0)
        fail(l, "unexpected right paren");
    else
        emit(l, c == '(' ? TOK_LPAREN : TOK_RPAREN);
}

static void lex_inside(struct lexer *l, bool *inside)
{
    bool trim;
    int c;

    if (at_right(l, &trim)) {
        lex_right(l, trim, inside);
        return;
    }
    c = peek(l);
    if (c < 0) {
        fail(l, "unclosed action");
    } else if (is_space(c)) {
        lex_space(l);
    } else if (c == '=') {
        l->pos++;
        emit(l, TOK_ASSIGN);
    } else if (c == ':') {
        l->pos++;
        if (peek(l) != '=') {
            fail(l, "expected :=");
            return;
        }
        l->pos++;
        emit(l, TOK_DECLARE);
    } else if (c == '|') {
        l->pos++;
        emit(l, TOK_PIPE);
    } else if (c == '"') {
        lex_quoted(l, '"', TOK_STRING, "unterminated quoted string");
    } else if (c == '`') {
        lex_quoted(l, '`', TOK_RAW, "unterminated raw quoted string");
    } else if (c == '\'') {
        lex_quoted(l, '\'', TOK_CHAR_CONST, "unterminated character constant");
    } else if (c == '$') {
        l->pos++;
        lex_field(l, TOK_VARIABLE);
    } else if (c == '.' && (l->pos + 1 == l->in.len || l->in.ptr[l->pos + 1] < '0' ||
                            l->in.ptr[l->pos + 1] > '9')) {
        l->pos++;
        lex_field(l, TOK_FIELD);
    } else if (c == '.' || c == '+' || c == '-' || (c >= '0' && c <= '9')) {
        lex_number(l);
    } else if (is_word(c)) {
        lex_word(l);
    } else if (c == '(' || c == ')') {
        lex_paren(l, c);
    } else if (c > 0x20 && c < 0x7f) {
        l->pos++;
        emit(l, TOK_CHAR);
    } else {
        fail(l, show(l, "unrecognized character in action: "));
    }
}

nx_status lex_template(struct arena *a, struct nx_slice text, struct tokens *out,
                       struct nx_err *err)
{
    struct lexer l = {.arena = a, .in = text, .line = 1, .err = err};
    bool inside = false, action = false;

    while (!l.done) {
        if (!inside) {
            lex_text(&l, &inside);
        } else if (!action) {
            action = inside = lex_left(&l);
        } else {
            lex_inside(&l, &inside);
            action = inside;
        }
    }
    if (!l.st)
        *out = l.out;
    return l.st;
}
