/* lex.c - the lexer: a switch over character classes, with a little state.
 *
 * WHY    PromQL's tokens depend on where they stand: inside braces words are label names whatever
 *        they say, inside brackets `:` is a colon and not a name, and `fill` is a keyword only
 *        before a parenthesis. Prometheus's messages tell which state the lexer was in.
 * SHAPE  lex_next() looks at the state and calls one of lex_braces, lex_duration, lex_plain, each of
 *        which takes one token. Helpers read characters (UTF-8 decoded; a bad byte reads as U+FFFD).
 * RULES  L1  A message's position is where the token at work begins. A parenthesis or colon that is
 *            a token of its own, but one too many, has been taken: the position is after it.
 *        L2  After `[` only duration expressions may come, up to and with the first number.
 *        L3  What a number is, is decided by its characters; whether it is one (1e400), by the parser. */
#include "promql/lex.h"

#include <stdio.h>
#include <string.h>

#include "src/base/text.h"

#define RUNE_EOF UINT32_MAX
#define RUNE_BAD 0xFFFDu

static const char digits[] = "0123456789";

/* ---- keywords ------------------------------------------------------------------------------- */

// clang-format off
static const struct {
    const char *word;
    enum lex_type type;
} keywords[] = { /* sorted: looked up by halves */
    { "anchored",     TOK_ANCHORED },
    { "and",          TOK_AND },
    { "atan2",        TOK_ATAN2 },
    { "avg",          TOK_AVG },
    { "bool",         TOK_BOOL },
    { "bottomk",      TOK_BOTTOMK },
    { "by",           TOK_BY },
    { "count",        TOK_COUNT },
    { "count_values", TOK_COUNT_VALUES },
    { "end",          TOK_END },
    { "fill",         TOK_FILL },
    { "fill_left",    TOK_FILL_LEFT },
    { "fill_right",   TOK_FILL_RIGHT },
    { "group",        TOK_GROUP },
    { "group_left",   TOK_GROUP_LEFT },
    { "group_right",  TOK_GROUP_RIGHT },
    { "ignoring",     TOK_IGNORING },
    { "inf",          TOK_NUMBER },
    { "limit_ratio",  TOK_LIMIT_RATIO },
    { "limitk",       TOK_LIMITK },
    { "max",          TOK_MAX },
    { "max_of",       TOK_MAX_OF },
    { "min",          TOK_MIN },
    { "min_of",       TOK_MIN_OF },
    { "nan",          TOK_NUMBER },
    { "offset",       TOK_OFFSET },
    { "on",           TOK_ON },
    { "or",           TOK_OR },
    { "quantile",     TOK_QUANTILE },
    { "range",        TOK_RANGE },
    { "smoothed",     TOK_SMOOTHED },
    { "start",        TOK_START },
    { "stddev",       TOK_STDDEV },
    { "stdvar",       TOK_STDVAR },
    { "step",         TOK_STEP },
    { "sum",          TOK_SUM },
    { "topk",         TOK_TOPK },
    { "unless",       TOK_UNLESS },
    { "without",      TOK_WITHOUT },
};
// clang-format on

/* Compares without regard to ASCII case; `lower` is in lower case. */
static int cmp_word(struct nx_slice word, const char *lower)
{
    for (size_t i = 0; i < word.len; i++) {
        unsigned char c = (unsigned char)word.ptr[i];

        if (c >= 'A' && c <= 'Z')
            c = (unsigned char)(c + ('a' - 'A'));
        if (c != (unsigned char)lower[i])
            return c < (unsigned char)lower[i] ? -1 : 1;
    }
    return lower[word.len] ? -1 : 0;
}

/* TOK_IDENTIFIER if the word is none. */
static enum lex_type keyword_of(struct nx_slice word)
{
    size_t lo = 0, hi = NX_COUNT(keywords);

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = cmp_word(word, keywords[mid].word);

        if (c == 0)
            return keywords[mid].type;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return TOK_IDENTIFIER;
}

/* ---- characters ----------------------------------------------------------------------------- */

static bool is_space(uint32_t r)
{
    return r == ' ' || r == '\t' || r == '\n' || r == '\r';
}

static bool is_digit(uint32_t r)
{
    return r >= '0' && r <= '9';
}

static bool is_alpha(uint32_t r)
{
    return r == '_' || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z');
}

static bool is_alnum(uint32_t r)
{
    return is_alpha(r) || is_digit(r);
}

static uint32_t next(struct lexer *l)
{
    uint32_t r;
    size_t n;

    if (l->pos >= l->in.len) {
        l->width = 0;
        return RUNE_EOF;
    }
    n = text_utf8_take(nx_slice_of(l->in.ptr + l->pos, l->in.len - l->pos), &r);
    if (n == 0) {
        r = RUNE_BAD;
        n = 1;
    }
    l->width = (uint32_t)n;
    l->pos += l->width;
    return r;
}

static void backup(struct lexer *l)
{
    l->pos -= l->width;
}

static uint32_t peek(struct lexer *l)
{
    uint32_t r = next(l);

    backup(l);
    return r;
}

static bool is_in(uint32_t r, const char *set)
{
    return r > 0 && r < 0x80 && strchr(set, (int)r);
}

/* Takes the next character if it is in the set. */
static bool accept(struct lexer *l, const char *set)
{
    if (is_in(next(l), set))
        return true;
    backup(l);
    return false;
}

static void skip_spaces(struct lexer *l)
{
    while (is_space(peek(l)))
        next(l);
    l->start = l->pos;
}

/* ---- tokens and messages -------------------------------------------------------------------- */

static struct token emit(struct lexer *l, enum lex_type type)
{
    struct token t = {type, l->start, nx_slice_of(l->in.ptr + l->start, l->pos - l->start)};

    l->start = l->pos;
    return t;
}

nx_status lex_fail(struct lexer *l, uint32_t pos, const char *fmt, ...)
{
    char text[NX_ERR_TEXT_BYTES];
    size_t line = 1, line_start = 0;
    va_list ap;

    if (l->failed)
        return l->failed;
    l->failed = NX_BADINPUT;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (l->in.len == 0)
        return nx_fail(l->err, NX_BADINPUT, "unknown position: parse error: %s", text);
    for (size_t i = 0; i < pos && i < l->in.len; i++) {
        if (l->in.ptr[i] == '\n') {
            line++;
            line_start = i + 1;
        }
    }
    return nx_fail(l->err, NX_BADINPUT, "%zu:%zu: parse error: %s", line, pos - line_start + 1,
                   text);
}

nx_status lex_fail_buf(struct lexer *l, uint32_t pos, struct buf *b)
{
    if (!l->failed && b->failed)
        l->failed = buf_status(b, l->err);
    (void)lex_fail(l, pos, "%s", buf_cstr(b));
    buf_done(b);
    return l->failed;
}

static struct token fail(struct lexer *l, const char *what)
{
    (void)lex_fail(l, l->start, "%s", what);
    return (struct token){.type = TOK_ERROR, .pos = l->start};
}

static struct token fail_buf(struct lexer *l, struct buf *b)
{
    (void)lex_fail_buf(l, l->start, b);
    return (struct token){.type = TOK_ERROR, .pos = l->start};
}

/* A character in single quotes, as Go's %q writes it. */
static void quote_rune(struct buf *b, uint32_t r)
{
    static const char names[] = "abtnvfr"; /* \a is 7 */

    if (r == RUNE_EOF)
        r = RUNE_BAD;
    buf_char(b, '\'');
    if (r == '\'' || r == '\\')
        buf_printf(b, "\\%c", (int)r);
    else if (r >= 7 && r <= 13)
        buf_printf(b, "\\%c", names[r - 7]);
    else if (r < ' ' || r == 0x7f)
        buf_printf(b, "\\x%02x", r);
    else if (!text_printable(r))
        buf_printf(b, r < 0x10000 ? "\\u%04x" : "\\U%08x", r);
    else
        text_utf8(b, r);
    buf_char(b, '\'');
}

/* A message that ends in a quoted character and `after`. */
static struct token fail_rune(struct lexer *l, const char *what, uint32_t r, const char *after)
{
    struct buf b;

    buf_init(&b, 0);
    buf_printf(&b, "%s%s", what, *what ? " " : "");
    quote_rune(&b, r);
    buf_str(&b, after);
    return fail_buf(l, &b);
}

/* A message about an escape: the character as U+007A 'z'. */
static struct token fail_escape(struct lexer *l, const char *before, uint32_t r, const char *after)
{
    struct buf b;

    buf_init(&b, 0);
    buf_printf(&b, "%s U+%04X", before, r);
    if (r >= ' ' && text_printable(r)) {
        buf_char(&b, ' ');
        if (r == '\'' || r == '\\')
            buf_printf(&b, "'%c'", (int)r);
        else
            quote_rune(&b, r);
    }
    buf_str(&b, after);
    return fail_buf(l, &b);
}

/* A message that ends in the bytes of the token at work, quoted. */
static struct token fail_text(struct lexer *l, const char *what)
{
    struct buf b;
    size_t n = l->pos - l->start;

    buf_init(&b, 0);
    buf_printf(&b, "%s: ", what);
    text_quote(&b,
               nx_slice_of(l->in.ptr + l->start, n < NX_ERR_TEXT_BYTES ? n : NX_ERR_TEXT_BYTES));
    return fail_buf(l, &b);
}

void lex_describe(struct buf *b, const struct token *t)
{
    static const char *const kinds[] = {
        [TOK_STRING] = "string ", [TOK_NUMBER] = "number ", [TOK_DURATION] = "duration "};
    size_t n = 0;

    if (t->type == TOK_EOF) {
        buf_str(b, "end of input");
    } else if (t->type == TOK_IDENTIFIER || t->type == TOK_METRIC_IDENTIFIER) {
        buf_str(b, t->type == TOK_IDENTIFIER ? "identifier " : "metric identifier ");
        text_quote(b, t->text);
    } else if (t->type >= TOK_ADD) {
        buf_str(b, t->type >= TOK_BOOL ? "<" : lex_is_agg(t->type) ? "<aggr:" : "<op:");
        buf_slice(b, t->text);
        buf_char(b, '>');
    } else {
        if (t->type < NX_COUNT(kinds) && kinds[t->type])
            buf_str(b, kinds[t->type]);
        if (t->text.len <= 10) {
            text_quote(b, t->text);
            return;
        }
        for (unsigned i = 0; i < 10 && n < t->text.len; i++) { /* ten characters of it */
            uint32_t r;
            size_t w = text_utf8_take(nx_slice_of(t->text.ptr + n, t->text.len - n), &r);

            n += w ? w : 1;
        }
        text_quote(b, nx_slice_of(t->text.ptr, n));
        buf_str(b, "...");
    }
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* Takes what looks like a number; false if the characters can't be one (they stay taken). */
static bool scan_number(struct lexer *l)
{
    static const char hex[] = "0123456789abcdefABCDEF";
    const char *digit = digits;
    uint32_t initial = l->pos;
    bool dot = false, exponent = false;

    if (accept(l, "0") && accept(l, "xX")) {
        accept(l, "_");
        digit = hex;
    }
    accept(l, ".");
    accept(l, digit);
    for (;;) {
        uint32_t r = peek(l);

        if (!is_in(r, digit) && !is_in(r, "._eE"))
            break;
        if ((r == '.' && dot) || (is_in(r, "eE") && exponent)) {
            next(l);
            return false;
        }
        if (accept(l, ".")) {
            dot = true;
            if (accept(l, "_.") || digit == hex)
                return false;
        } else if (accept(l, "eE")) {
            exponent = true;
            accept(l, "+-");
            if (accept(l, "._eE") || peek(l) == RUNE_EOF)
                return false;
        } else if (accept(l, "_")) {
            if (accept(l, "._eE") || peek(l) == RUNE_EOF)
                return false;
        } else {
            while (accept(l, digit))
                ;
        }
    }
    return l->pos != initial && !is_alnum(peek(l));
}

/* After the first number: a unit, then numbers and units. Order and spelling are the parser's. */
static bool scan_duration(struct lexer *l)
{
    if (!accept(l, "smhdwy"))
        return false;
    accept(l, "s"); /* ms */
    while (accept(l, digits)) {
        while (accept(l, digits))
            ;
        if (!accept(l, "smhdw"))
            return false;
        accept(l, "s");
    }
    return !is_alnum(next(l));
}

static struct token lex_number(struct lexer *l)
{
    l->in_duration = false; /* L2 */
    if (scan_number(l))
        return emit(l, TOK_NUMBER);
    if (scan_duration(l)) {
        backup(l);
        return emit(l, TOK_DURATION);
    }
    return fail_text(l, "bad number or duration syntax");
}

/* ---- strings -------------------------------------------------------------------------------- */

static uint32_t digit_value(uint32_t r)
{
    if (is_digit(r))
        return r - '0';
    if (r >= 'a' && r <= 'f')
        return r - 'a' + 10;
    if (r >= 'A' && r <= 'F')
        return r - 'A' + 10;
    return 16;
}

/* After a backslash. False: *bad holds the error. */
static bool scan_escape(struct lexer *l, uint32_t quote, struct token *bad)
{
    uint32_t r = next(l), n, base = 16, max = 0x10FFFF, x = 0;

    if (is_in(r, "abfnrtv\\") || r == quote)
        return true;
    if (r >= '0' && r <= '7') {
        n = 3;
        base = 8;
        max = 255;
    } else if (r == 'x' || r == 'u' || r == 'U') {
        n = r == 'x' ? 2 : r == 'u' ? 4 : 8;
        max = r == 'x' ? 255 : max;
        r = next(l);
    } else {
        *bad = r == RUNE_EOF ? fail(l, "escape sequence not terminated")
                             : fail_escape(l, "unknown escape sequence", r, "");
        return false;
    }
    for (; n > 0; n--) {
        uint32_t d = digit_value(r);

        if (d >= base) {
            *bad = r == RUNE_EOF ? fail(l, "escape sequence not terminated")
                                 : fail_escape(l, "illegal character", r, " in escape sequence");
            return false;
        }
        x = x * base + d;
        if (n > 1)
            r = next(l);
    }
    if (x > max || (x >= 0xD800 && x < 0xE000)) {
        *bad = fail(l, "escape sequence is an invalid Unicode code point");
        return false;
    }
    return true;
}

static struct token lex_string(struct lexer *l, uint32_t quote)
{
    struct token bad;

    l->in_duration = false;
    for (;;) {
        uint32_t r = next(l);

        if (r == quote)
            return emit(l, TOK_STRING);
        if (r == RUNE_BAD)
            return fail(l, "invalid UTF-8 rune");
        if (quote == '`') {
            if (r == RUNE_EOF)
                return fail(l, "unterminated raw string");
        } else if (r == '\\') {
            if (!scan_escape(l, quote, &bad))
                return bad;
        } else if (r == RUNE_EOF || r == '\n') {
            return fail(l, "unterminated quoted string");
        }
    }
}

/* ---- words ---------------------------------------------------------------------------------- */

static bool paren_follows(const struct lexer *l)
{
    uint32_t i = l->pos;

    while (i < l->in.len && is_space((unsigned char)l->in.ptr[i]))
        i++;
    return i < l->in.len && l->in.ptr[i] == '(';
}

static struct token lex_word(struct lexer *l)
{
    enum lex_type type;
    bool colon = l->in.ptr[l->start] == ':';
    uint32_t r;

    while (is_alnum(r = next(l)) || r == ':')
        colon = colon || r == ':';
    backup(l);
    type = keyword_of(nx_slice_of(l->in.ptr + l->start, l->pos - l->start));
    if ((type == TOK_FILL || type == TOK_FILL_LEFT || type == TOK_FILL_RIGHT) && !paren_follows(l))
        type = TOK_IDENTIFIER;
    return emit(l, colon ? TOK_METRIC_IDENTIFIER : type);
}

/* Inside brackets: step, range, max_of, min_of. `type` TOK_EOF: another word (it stays taken). */
static struct token lex_duration_word(struct lexer *l)
{
    enum lex_type type;

    while (is_alpha(next(l)))
        ;
    backup(l);
    type = keyword_of(nx_slice_of(l->in.ptr + l->start, l->pos - l->start));
    if (type >= TOK_STEP && type <= TOK_MIN_OF)
        return emit(l, type);
    return (struct token){.type = TOK_EOF};
}

/* ---- the states ----------------------------------------------------------------------------- */

static void skip_comment(struct lexer *l)
{
    while (l->pos < l->in.len && l->in.ptr[l->pos] != '\n' && l->in.ptr[l->pos] != '\r')
        l->pos++;
    l->start = l->pos;
}

static struct token lex_braces(struct lexer *l)
{
    uint32_t r = next(l), after;

    switch (r) {
    case RUNE_EOF:
        return fail(l, "unexpected end of input inside braces");
    case ',':
        return emit(l, TOK_COMMA);
    case '"':
    case '\'':
    case '`':
        return lex_string(l, r);
    case '=':
        return emit(l, accept(l, "~") ? TOK_EQL_REGEX : TOK_EQL);
    case '!':
        after = next(l);
        if (after == '~' || after == '=')
            return emit(l, after == '~' ? TOK_NEQ_REGEX : TOK_NEQ);
        return fail_rune(l, "unexpected character after '!' inside braces:", after, "");
    case '{':
        return fail_rune(l, "unexpected left brace", r, "");
    case '}':
        l->brace_open = false;
        return emit(l, TOK_RIGHT_BRACE);
    default:
        break;
    }
    if (!is_alpha(r))
        return fail_rune(l, "unexpected character inside braces:", r, "");
    while (is_alnum(next(l)))
        ;
    backup(l);
    return emit(l, TOK_IDENTIFIER);
}

static struct token lex_right_paren(struct lexer *l)
{
    struct token t = emit(l, TOK_RIGHT_PAREN);

    if (--l->paren_depth < 0) /* L1 */
        return fail_rune(l, "unexpected right parenthesis", ')', "");
    return t;
}

/* What all states but braces have in common: TOK_EOF if `r` is none of it. */
static struct token lex_arithmetic(struct lexer *l, uint32_t r)
{
    switch (r) {
    case '+':
        return emit(l, TOK_ADD);
    case '-':
        return emit(l, TOK_SUB);
    case '*':
        return emit(l, TOK_MUL);
    case '/':
        return emit(l, TOK_DIV);
    case '%':
        return emit(l, TOK_MOD);
    case '^':
        return emit(l, TOK_POW);
    case ',':
        return emit(l, TOK_COMMA);
    case '(':
        l->paren_depth++;
        return emit(l, TOK_LEFT_PAREN);
    case ')':
        return lex_right_paren(l);
    default:
        return (struct token){.type = TOK_EOF};
    }
}

static struct token lex_duration(struct lexer *l)
{
    uint32_t r = next(l);
    struct token t = lex_arithmetic(l, r);

    if (t.type != TOK_EOF)
        return t;
    if (r == RUNE_EOF)
        return fail(l, "unexpected end of input in duration expression");
    if (r == ']') {
        l->bracket_open = l->got_colon = l->in_duration = false;
        return emit(l, TOK_RIGHT_BRACKET);
    }
    if (r == ':') {
        t = emit(l, TOK_COLON);
        if (!l->got_duration) /* L1 */
            return fail(l, "unexpected colon before duration in duration expression");
        if (l->got_colon)
            return fail(l, "unexpected repeated colon in duration expression");
        l->got_colon = true;
        return t;
    }
    if (is_in(r, "sSrRmM")) {
        t = lex_duration_word(l);
        if (t.type != TOK_EOF)
            return t;
    } else if (is_digit(r) || (r == '.' && is_digit(peek(l)))) {
        l->width = 1;
        backup(l);
        l->got_duration = true;
        return lex_number(l);
    }
    return fail_rune(l, "unexpected character in duration expression:", r, "");
}

static struct token lex_comparison(struct lexer *l, uint32_t r)
{
    uint32_t after;

    switch (r) {
    case '=':
        if (accept(l, "="))
            return emit(l, TOK_EQLC);
        if (peek(l) == '~')
            return fail_rune(l, "unexpected character after '=':", '~', "");
        return emit(l, TOK_EQL);
    case '!':
        after = next(l);
        if (after != '=')
            return fail_rune(l, "unexpected character after '!':", after, "");
        return emit(l, TOK_NEQ);
    case '<':
        if (accept(l, "="))
            return emit(l, TOK_LTE);
        return emit(l, accept(l, "/") ? TOK_TRIM_UPPER : TOK_LSS);
    default: /* '>' */
        if (accept(l, "="))
            return emit(l, TOK_GTE);
        return emit(l, accept(l, "/") ? TOK_TRIM_LOWER : TOK_GTR);
    }
}

/* A letter or colon while a bracket is open, after the first number. */
static struct token lex_bracket_word(struct lexer *l, uint32_t r)
{
    struct token t;

    if (r == ':') {
        if (l->got_colon)
            return fail_rune(l, "unexpected colon", r, "");
        l->got_colon = true;
        return emit(l, TOK_COLON);
    }
    if (is_in(r, "sSrRmM")) {
        t = lex_duration_word(l);
        if (t.type != TOK_EOF)
            return t;
    }
    return fail_rune(l, "unexpected character:", r, ", expected ':'");
}

static struct token lex_left_bracket(struct lexer *l)
{
    struct token t;

    if (l->bracket_open)
        return fail_rune(l, "unexpected left bracket", '[', "");
    t = emit(l, TOK_LEFT_BRACKET);
    l->got_colon = false;
    l->bracket_open = l->in_duration = true;
    return t;
}

static struct token lex_right_bracket(struct lexer *l)
{
    if (!l->bracket_open)
        return fail_rune(l, "unexpected right bracket", ']', "");
    l->bracket_open = false;
    return emit(l, TOK_RIGHT_BRACKET);
}

static struct token lex_end(struct lexer *l)
{
    if (l->paren_depth != 0)
        return fail(l, "unclosed left parenthesis");
    if (l->bracket_open)
        return fail(l, "unclosed left bracket");
    return emit(l, TOK_EOF);
}

static struct token lex_plain(struct lexer *l)
{
    uint32_t r = next(l);
    struct token t = lex_arithmetic(l, r);

    if (t.type != TOK_EOF)
        return t;
    switch (r) {
    case RUNE_EOF:
        return lex_end(l);
    case '=':
    case '!':
    case '<':
    case '>':
        return lex_comparison(l, r);
    case '"':
    case '\'':
    case '`':
        return lex_string(l, r);
    case '{':
        l->brace_open = true;
        return emit(l, TOK_LEFT_BRACE);
    case '[':
        return lex_left_bracket(l);
    case ']':
        return lex_right_bracket(l);
    case '@':
        return emit(l, TOK_AT);
    default:
        break;
    }
    if (is_digit(r) || (r == '.' && is_digit(peek(l)))) {
        l->width = 1;
        backup(l);
        return lex_number(l);
    }
    if (is_alpha(r) || r == ':')
        return l->bracket_open ? lex_bracket_word(l, r) : lex_word(l);
    return fail_rune(l, "unexpected character:", r, "");
}

void lex_init(struct lexer *l, struct nx_slice text, struct nx_err *err)
{
    *l = (struct lexer){.in = text, .err = err};
}

struct token lex_next(struct lexer *l)
{
    for (;;) {
        skip_spaces(l);
        if (l->in_duration)
            return lex_duration(l);
        if (l->pos < l->in.len && l->in.ptr[l->pos] == '#')
            skip_comment(l);
        else
            return l->brace_open ? lex_braces(l) : lex_plain(l);
    }
}
