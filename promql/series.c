/* series.c - the notation in which scripts load and expect series. */
#include "promql/series.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/num.h"

#define SERIES_MAX_VALUES (1u << 24) /* "0x10000000" is met: one more than ten millions */

struct values {
    struct arena *a;
    struct series_value *v;
    size_t n, cap;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct nx_slice skip_blanks(struct nx_slice s)
{
    while (s.len && is_blank(*s.ptr)) {
        s.ptr++;
        s.len--;
    }
    return s;
}

static struct nx_slice advance(struct nx_slice s, size_t n)
{
    return (struct nx_slice){s.ptr + n, s.len - n};
}

static bool no_case_prefix(struct nx_slice s, const char *word)
{
    size_t len = strlen(word);

    return s.len >= len && strncasecmp(s.ptr, word, len) == 0;
}

bool series_number(struct nx_slice s, double *out)
{
    bool minus = false;

    if (s.len && (*s.ptr == '+' || *s.ptr == '-')) {
        minus = *s.ptr == '-';
        s = advance(s, 1);
    }
    if (s.len > 2 && s.ptr[0] == '0' && (s.ptr[1] == 'x' || s.ptr[1] == 'X')) {
        uint64_t n = 0;

        for (size_t i = 2; i < s.len; i++) {
            char c = s.ptr[i];

            if (c >= '0' && c <= '9')
                n = n * 16 + (uint64_t)(c - '0');
            else if ((c | 32) >= 'a' && (c | 32) <= 'f')
                n = n * 16 + (uint64_t)((c | 32) - 'a' + 10);
            else
                return false;
        }
        *out = minus ? -(double)n : (double)n;
        return true;
    }
    if (!s.len || *s.ptr == '+' || *s.ptr == '-' || !num_parse(s, out, NULL))
        return false;
    if (minus && !isnan(*out))
        *out = -*out;
    return true;
}

/* The number that `s` starts with; 0 if there is none. Of "1-2x3" it is "1", of "2x3" the "2". */
static size_t number_length(struct nx_slice s)
{
    size_t n = 0;

    if (s.len && (*s.ptr == '+' || *s.ptr == '-'))
        n++;
    if (no_case_prefix(advance(s, n), "inf") || no_case_prefix(advance(s, n), "nan"))
        return n + 3;
    while (n < s.len) {
        char c = s.ptr[n];
        bool exponent = (c == 'e' || c == 'E') && n + 1 < s.len;

        if (!((c >= '0' && c <= '9') || c == '.' || exponent))
            break;
        n++;
        if (exponent && (s.ptr[n] == '+' || s.ptr[n] == '-'))
            n++;
    }
    return n;
}

static nx_status put(struct values *v, enum series_item is, double value, struct nx_err *err)
{
    if (v->n == SERIES_MAX_VALUES)
        return nx_fail(err, NX_LIMIT, "too many values in one series");
    if (v->n == v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 16;
        struct series_value *p = arena_grow(v->a, v->v, v->cap * sizeof *p, cap * sizeof *p);

        if (!p)
            return arena_failed(v->a, err);
        v->v = p;
        v->cap = cap;
    }
    v->v[v->n++] = (struct series_value){is, value};
    return NX_OK;
}

static nx_status put_run(struct values *v, enum series_item is, double value, double delta,
                         uint64_t n, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (uint64_t i = 0; i < n && !st; i++) {
        st = put(v, is, value, err);
        value += delta;
    }
    return st;
}

/* "xN" at the end of an item. *times is left alone without one. */
static bool take_times(struct nx_slice s, uint64_t *times)
{
    if (!s.len)
        return true;
    return *s.ptr == 'x' && num_parse_u64(advance(s, 1), times);
}

static nx_status bad_item(struct nx_slice item, struct nx_err *err)
{
    return nx_fail(err, NX_BADINPUT, "unexpected \"%.*s\" in series values", (int)item.len,
                   item.ptr);
}

static nx_status put_item(struct values *v, struct nx_slice item, struct nx_err *err)
{
    struct nx_slice rest;
    uint64_t times = 0;
    double value, delta = 0;
    size_t len;

    if (*item.ptr == '_') {
        times = 1;
        if (!take_times(advance(item, 1), &times))
            return bad_item(item, err);
        return put_run(v, SERIES_GAP, 0, 0, times, err);
    }
    if (item.len >= 5 && memcmp(item.ptr, "stale", 5) == 0) {
        len = 5;
        if (item.len > len && item.ptr[len] == 'x') /* a word of its own there: "stalex3" */
            return bad_item(item, err);
        value = num_from_bits(NUM_STALE_BITS); /* any more, as in "stale+0x3", are plain NaNs */
    } else {
        len = number_length(item);
        if (!len || !series_number((struct nx_slice){item.ptr, len}, &value))
            return bad_item(item, err);
    }
    rest = advance(item, len);
    if (rest.len && (*rest.ptr == '+' || *rest.ptr == '-')) {
        len = number_length(rest);
        if (!len || !series_number((struct nx_slice){rest.ptr, len}, &delta))
            return bad_item(item, err);
        rest = advance(rest, len);
        if (!rest.len)
            return bad_item(item, err);
    }
    if (!take_times(rest, &times))
        return bad_item(item, err);
    return put_run(v, SERIES_VALUE, value, delta, times + 1, err);
}

/* "{{...}}", perhaps with "+{{...}}" and "xN". */
static nx_status put_histogram(struct values *v, struct nx_slice *s, struct nx_err *err)
{
    uint64_t times = 0;
    size_t n = 0;

    for (;;) {
        const char *end = memmem(s->ptr, s->len, "}}", 2);

        if (!end)
            return nx_fail(err, NX_BADINPUT, "a histogram without its }}");
        *s = advance(*s, (size_t)(end - s->ptr) + 2);
        if (s->len < 3 || (*s->ptr != '+' && *s->ptr != '-') || memcmp(s->ptr + 1, "{{", 2) != 0)
            break;
    }
    while (n < s->len && !is_blank(s->ptr[n]))
        n++;
    if (!take_times((struct nx_slice){s->ptr, n}, &times))
        return bad_item((struct nx_slice){s->ptr, n}, err);
    *s = advance(*s, n);
    return put_run(v, SERIES_HISTOGRAM, 0, 0, times + 1, err);
}

/* Where the labels end: before the first blank outside quotes and braces. */
static size_t metric_length(struct nx_slice s)
{
    bool braces = false;
    char quote = 0;

    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];

        if (quote) {
            if (c == '\\' && quote != '`')
                i++;
            else if (c == quote)
                quote = 0;
        } else if (c == '"' || c == '\'' || c == '`') {
            quote = c;
        } else if (c == '{') {
            if (!braces && i + 1 < s.len && s.ptr[i + 1] == '{')
                return i;
            braces = true;
        } else if (c == '}' && braces) {
            return i + 1;
        } else if (is_blank(c) && !braces) {
            struct nx_slice rest = skip_blanks(advance(s, i));

            if (!(rest.len && *rest.ptr == '{' && !(rest.len > 1 && rest.ptr[1] == '{')))
                return i;
        }
    }
    return s.len;
}

static nx_status parse_metric(struct arena *a, struct nx_slice text, struct labels *out,
                              struct nx_err *err)
{
    struct matcher *m = NULL;
    struct labels_builder b;
    struct labels built;
    size_t n = 0;
    nx_status st;

    *out = (struct labels){0};
    if (!text.len || nx_slice_is(text, "{}"))
        return NX_OK;
    st = pql_parse_selector(a, text, &m, &n, err);
    if (st)
        return st;
    labels_builder_init(&b);
    for (size_t i = 0; i < n && !st; i++) {
        if (m[i].type != MATCH_EQ)
            st = nx_fail(err, NX_BADINPUT, "a series is written with =");
        labels_builder_set(&b, m[i].name, m[i].value);
    }
    if (!st)
        st = labels_builder_build(&b, &built, err);
    if (!st)
        st = labels_copy(a, &built, out, err);
    labels_builder_done(&b);
    pql_matchers_done(m, n);
    return st;
}

nx_status series_parse(struct arena *a, struct nx_slice line, struct series_line *out,
                       struct nx_err *err)
{
    struct values v = {.a = a};
    size_t metric = metric_length(line);
    struct nx_slice rest = advance(line, metric);
    nx_status st = parse_metric(a, (struct nx_slice){line.ptr, metric}, &out->labels, err);

    for (rest = skip_blanks(rest); rest.len && !st; rest = skip_blanks(rest)) {
        size_t n = 0;

        if (rest.len > 1 && rest.ptr[0] == '{' && rest.ptr[1] == '{') {
            st = put_histogram(&v, &rest, err);
            continue;
        }
        while (n < rest.len && !is_blank(rest.ptr[n]))
            n++;
        st = put_item(&v, (struct nx_slice){rest.ptr, n}, err);
        rest = advance(rest, n);
    }
    out->v = v.v;
    out->n = v.n;
    return st;
}
