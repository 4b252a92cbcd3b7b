/* direct_match.c - matchers as Alertmanager writes them.
 *
 * SHAPE   [ "{" ] matcher { "," matcher } [ "," ] [ "}" ], where a matcher is NAME OP VALUE. NAME and VALUE are words
 *         (no blank and none of {}!=~,\"'`) or strings in double quotes with Go's escapes; OP is = != =~ !~.
 * NOT     Alertmanager's older grammar, in which an unquoted value may hold almost anything: what both read, both
 *         read alike. */
#include "src/notify/direct_match.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/text.h"

struct scan {
    struct nx_slice text;
    size_t at;
    struct arena *arena;
    struct nx_err *err;
};

static nx_status bad(struct scan *s, const char *what)
{
    struct buf b;

    buf_init(&b, 400);
    text_quote(&b, nx_slice_of(s->text.ptr, s->text.len < 80 ? s->text.len : 80));
    nx_fail(s->err, NX_BADINPUT, "bad matcher %s: %s at position %zu", buf_cstr(&b), what,
            s->at + 1);
    buf_done(&b);
    return NX_BADINPUT;
}

static int peek(const struct scan *s)
{
    return s->at < s->text.len ? (unsigned char)s->text.ptr[s->at] : -1;
}

static void skip_blanks(struct scan *s)
{
    while (peek(s) == ' ' || peek(s) == '\t' || peek(s) == '\n' || peek(s) == '\r')
        s->at++;
}

static bool reserved(int c)
{
    return c < 0 || c <= ' ' || strchr("{}!=~,\\\"'`", c);
}

/* After the backslash. */
static nx_status take_escape(struct scan *s, struct buf *b)
{
    static const char names[] = "abfnrtv\\\"'", means[] = "\a\b\f\n\r\t\v\\\"'";
    int c = peek(s);
    const char *found = c > 0 ? strchr(names, c) : NULL;
    size_t n = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t v = 0;

    if (found) {
        s->at++;
        buf_char(b, means[found - names]);
        return NX_OK;
    }
    if (!n)
        return bad(s, "unknown escape");
    s->at++;
    for (size_t i = 0; i < n; i++, s->at++) {
        int d = peek(s);
        int x = d >= '0' && d <= '9'   ? d - '0'
                : d >= 'a' && d <= 'f' ? d - 'a' + 10
                : d >= 'A' && d <= 'F' ? d - 'A' + 10
                                       : -1;
        if (x < 0)
            return bad(s, "unfinished escape");
        v = v << 4 | (uint32_t)x;
    }
    if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
        return bad(s, "escape of no character");
    if (n == 2)
        buf_char(b, (char)v);
    else
        text_utf8(b, v);
    return NX_OK;
}

static nx_status take_quoted(struct scan *s, struct nx_slice *out)
{
    nx_status st = NX_OK;
    struct buf b;

    buf_init(&b, s->text.len + 16);
    s->at++;
    while (!st && peek(s) != '"') {
        if (peek(s) < 0) {
            st = bad(s, "string without its end");
        } else if (peek(s) == '\\') {
            s->at++;
            st = take_escape(s, &b);
        } else {
            buf_char(&b, s->text.ptr[s->at++]);
        }
    }
    s->at++;
    if (!st)
        st = buf_status(&b, s->err);
    if (!st && !utf8_valid(buf_view(&b)))
        st = bad(s, "text that is not UTF-8");
    if (!st) {
        *out = arena_slice(s->arena, buf_view(&b));
        if (!out->ptr)
            st = arena_failed(s->arena, s->err);
    }
    buf_done(&b);
    return st;
}

static nx_status take_word(struct scan *s, const char *missing, struct nx_slice *out)
{
    size_t from;

    skip_blanks(s);
    if (peek(s) == '"')
        return take_quoted(s, out);
    from = s->at;
    while (!reserved(peek(s)))
        s->at++;
    if (s->at == from)
        return bad(s, missing);
    *out = arena_slice(s->arena, nx_slice_of(s->text.ptr + from, s->at - from));
    if (!out->ptr)
        return arena_failed(s->arena, s->err);
    return utf8_valid(*out) ? NX_OK : bad(s, "text that is not UTF-8");
}

static nx_status take_op(struct scan *s, bool *negative, bool *regex)
{
    int first, second;

    skip_blanks(s);
    first = peek(s);
    second = s->at + 1 < s->text.len ? s->text.ptr[s->at + 1] : -1;
    if ((first != '=' && first != '!') || (first == '!' && second != '=' && second != '~'))
        return bad(s, "=, !=, =~ or !~ is expected");
    *negative = first == '!';
    *regex = second == '~';
    s->at += first == '!' || second == '~' ? 2 : 1;
    return NX_OK;
}

static nx_status take_match(struct scan *s, struct match_list *list)
{
    struct match m = {0};
    bool regex = false;
    nx_status st = take_word(s, "a label's name is expected", &m.name);

    if (!st && !m.name.len)
        st = bad(s, "an empty name");
    if (!st)
        st = take_op(s, &m.negative, &regex);
    if (!st)
        st = take_word(s, "a value is expected", &m.value);
    if (!st && regex)
        st = regex_new(&m.re, m.value, s->err);
    if (st)
        return st;
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 4;
        struct match *v = reallocarray(list->v, cap, sizeof *v);
        if (!v) {
            regex_free(m.re);
            return nx_fail(s->err, NX_NOMEM, "out of memory");
        }
        list->v = v;
        list->cap = cap;
    }
    list->v[list->n++] = m;
    return NX_OK;
}

nx_status match_parse(struct match_list *list, struct arena *a, struct nx_slice text,
                      struct nx_err *err)
{
    struct scan s = {text, 0, a, err};
    size_t before = list->n;
    nx_status st = NX_OK;
    bool braces, more = true;

    skip_blanks(&s);
    braces = peek(&s) == '{';
    s.at += braces;
    while (!st && more) {
        skip_blanks(&s);
        if (list->n > before && (peek(&s) < 0 || peek(&s) == '}'))
            break; /* after a last comma */
        st = take_match(&s, list);
        skip_blanks(&s);
        more = peek(&s) == ',';
        s.at += more;
    }
    skip_blanks(&s);
    if (!st && braces && peek(&s) != '}')
        st = bad(&s, "} is expected");
    else if (!st && braces)
        s.at++;
    skip_blanks(&s);
    if (!st && s.at < text.len)
        st = bad(&s, "the end is expected");
    while (st && list->n > before)
        regex_free(list->v[--list->n].re);
    return st;
}

void match_list_done(struct match_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        regex_free(list->v[i].re);
    free(list->v);
    *list = (struct match_list){0};
}

bool match_all(const struct match_list *list, const struct labels *ls)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct match *m = &list->v[i];
        struct nx_slice v = labels_get(ls, m->name);
        bool same =
            m->re ? regex_match(m->re, v.ptr ? v : nx_slice_of("", 0)) : nx_slice_eq(m->value, v);
        if (same == m->negative)
            return false;
    }
    return true;
}

void match_print(struct buf *b, const struct match_list *list)
{
    buf_char(b, '{');
    for (size_t i = 0; i < list->n; i++) {
        const struct match *m = &list->v[i];
        if (i)
            buf_char(b, ',');
        if (label_name_legacy_valid(m->name))
            buf_slice(b, m->name);
        else
            text_quote(b, m->name);
        buf_str(b, m->re ? (m->negative ? "!~" : "=~") : m->negative ? "!=" : "=");
        text_quote(b, m->value);
    }
    buf_char(b, '}');
}
