/* literals.c - the values of number, duration and string tokens.
 *
 * RULES  V1  A number is an integer with Go's base prefixes (0x, 0o, 0b, and a plain 0 for octal) if
 *            it can be read as one, and else a decimal float. `_` may stand between digits, and
 *            between a prefix and its digits.
 *        V2  A duration is its seconds: 5m is 300. */
#include "promql/parse.h"

#include <string.h>

#include "src/base/num.h"
#include "src/base/text.h"

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Whether underscores only separate digits (V1). */
static bool underscores_ok(struct nx_slice s)
{
    size_t i = 0;
    char before = '^'; /* of: 0 a digit or prefix, _ an underscore, ! anything else, ^ the start */
    bool hex = false;

    if (s.len >= 2 && s.ptr[0] == '0' && strchr("xXoObB", s.ptr[1])) {
        i = 2;
        before = '0';
        hex = s.ptr[1] == 'x' || s.ptr[1] == 'X';
    }
    for (; i < s.len; i++) {
        char c = s.ptr[i];

        if ((c >= '0' && c <= '9') || (hex && is_hex(c))) {
            before = '0';
        } else if (c == '_') {
            if (before != '0')
                return false;
            before = '_';
        } else {
            if (before == '_')
                return false;
            before = '!';
        }
    }
    return before != '_';
}

static unsigned digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    return is_hex(c) ? (unsigned)((c | 0x20) - 'a') + 10 : 99;
}

/* An integer with an optional base prefix that fits int64_t. */
static bool parse_integer(struct nx_slice s, double *out)
{
    unsigned base = 10;
    size_t i = 0;
    uint64_t v = 0;
    bool any = false;

    if (s.len >= 1 && s.ptr[0] == '0') {
        char c = s.len >= 3 ? (char)(s.ptr[1] | 0x20) : '\0';

        base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 8;
        i = c == 'x' || c == 'o' || c == 'b' ? 2 : 1;
        any = i == 1;
    }
    for (; i < s.len; i++) {
        unsigned d = digit_of(s.ptr[i]);

        if (s.ptr[i] == '_')
            continue;
        if (d >= base || __builtin_mul_overflow(v, (uint64_t)base, &v) ||
            __builtin_add_overflow(v, (uint64_t)d, &v))
            return false;
        any = true;
    }
    if (!any || v > INT64_MAX)
        return false;
    *out = (double)v;
    return true;
}

/* A decimal float; its underscores are known to be right. */
static bool parse_float(struct parser *p, struct nx_slice s, double *out, bool *out_of_range)
{
    char *plain = arena_alloc(p->arena, s.len + 1);
    size_t n = 0;

    if (!plain)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] != '_')
            plain[n++] = s.ptr[i];
    return num_parse(nx_slice_of(plain, n), out, out_of_range);
}

static nx_status parse_duration_token(struct parser *p, const struct token *t, double *out)
{
    struct nx_err err;
    int64_t ms;

    if (num_parse_duration(t->text, &ms, &err))
        return parse_fail(p, t->pos, "%s", err.text);
    *out = (double)(ms / 1000) + (double)(ms % 1000 * 1000000) / 1e9; /* V2 */
    return NX_OK;
}

nx_status parse_number(struct parser *p, const struct token *t, double *out)
{
    bool out_of_range = false;

    if (t->type == TOK_DURATION)
        return parse_duration_token(p, t, out);
    if (underscores_ok(t->text)) {
        if (parse_integer(t->text, out) || parse_float(p, t->text, out, &out_of_range))
            return NX_OK;
    }
    return parse_fail_quoted(p, t->pos, "error parsing number: strconv.ParseFloat: parsing ",
                             t->text, out_of_range ? ": value out of range" : ": invalid syntax");
}

/* Reads n digits of a base. The lexer has checked that they are there. */
static uint32_t take_digits(const char **at, unsigned n, unsigned base)
{
    uint32_t v = 0;

    while (n--)
        v = v * base + digit_of(*(*at)++);
    return v;
}

/* One escape; *at stands behind the backslash. */
static char *put_escape(char *to, const char **at)
{
    static const char letters[] = "abfnrtv", values[] = "\a\b\f\n\r\t\v";
    char c = *(*at)++;
    const char *found;

    switch (c) {
    case 'x':
        *to++ = (char)take_digits(at, 2, 16);
        return to;
    case 'u':
        return to + text_utf8_put(to, take_digits(at, 4, 16));
    case 'U':
        return to + text_utf8_put(to, take_digits(at, 8, 16));
    default:
        break;
    }
    if (c >= '0' && c <= '7') {
        (*at)--;
        *to++ = (char)take_digits(at, 3, 8);
        return to;
    }
    found = strchr(letters, c);
    *to++ = found ? values[found - letters] : c; /* else a quote or a backslash */
    return to;
}

nx_status parse_string(struct parser *p, const struct token *t, struct nx_slice *out)
{
    const char *at = t->text.ptr + 1, *end = t->text.ptr + t->text.len - 1;
    char *buf = arena_alloc(p->arena, t->text.len),
         *to = buf; /* no escape is longer than its text */

    if (!buf)
        return parse_nomem(p);
    while (at < end) {
        if (*at == '\\' && *t->text.ptr != '`') {
            at++;
            to = put_escape(to, &at);
        } else {
            *to++ = *at++;
        }
    }
    *out = nx_slice_of(buf, (size_t)(to - buf));
    return NX_OK;
}
