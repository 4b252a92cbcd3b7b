/* labels.c - the labels of one series, out of the bytes that the parser found to be one.
 *
 * WHY     Labels are looked at only when a series is new to a target, so the parser does not take them
 *         apart; it keeps the bytes, and they are walked here a second time.
 * RULES   L1  The input was accepted by expo_next(): quotes and braces match, every name has a value.
 *             What was not is still walked within its bounds.
 *         L2  A value without a backslash is borrowed, any other is decoded into the arena.
 *         L3  le of a histogram and quantile of a summary are written as OpenMetrics floats ("1" is
 *             "1.0"), so that both formats name the same series. What is no number stays. */
#include "src/expo/expo.h"

#include <string.h>

#include "src/base/num.h"
#include "src/expo/number.h"

struct nx_slice expo_unescape(struct nx_slice s, bool quotes, struct arena *a)
{
    char *to, *out;

    if (s.len == 0 || !memchr(s.ptr, '\\', s.len))
        return s;
    out = to = arena_alloc(a, s.len);
    if (!out)
        return nx_slice_of(NULL, 0);
    for (size_t i = 0; i < s.len; i++) {
        char next = i + 1 < s.len ? s.ptr[i + 1] : '\0';
        if (s.ptr[i] == '\\' && (next == '\\' || next == 'n' || (quotes && next == '"'))) {
            *to++ = next == 'n' ? '\n' : next;
            i++;
        } else {
            *to++ = s.ptr[i];
        }
    }
    return nx_slice_of(out, (size_t)(to - out));
}

/* A reader over the bytes between braces. */
struct walk {
    const char *p, *end;
};

static void skip_between(struct walk *w)
{
    while (w->p < w->end && (*w->p == ' ' || *w->p == '\t' || *w->p == ','))
        w->p++;
}

/* A word, or a string without its quotes; *quoted tells which. */
static struct nx_slice take_word(struct walk *w, bool *quoted)
{
    const char *from = w->p;

    *quoted = from < w->end && *from == '"';
    if (!*quoted) {
        while (w->p < w->end && !strchr(" \t=,}{", *w->p))
            w->p++;
        return nx_slice_of(from, (size_t)(w->p - from));
    }
    for (w->p++; w->p < w->end && *w->p != '"'; w->p++)
        if (*w->p == '\\' && w->p + 1 < w->end)
            w->p++;
    from++;
    if (w->p < w->end)
        w->p++; /* the quote */
    return nx_slice_of(from, (size_t)(w->p - 1 > from ? w->p - 1 - from : 0));
}

static bool take_byte(struct walk *w, char c)
{
    while (w->p < w->end && (*w->p == ' ' || *w->p == '\t'))
        w->p++;
    if (w->p >= w->end || *w->p != c)
        return false;
    w->p++;
    return true;
}

static struct nx_slice normal_value(struct nx_slice name, struct nx_slice value,
                                    enum expo_type type, struct arena *a)
{
    char text[NUM_TEXT_BYTES];
    double v;

    if (!(type == EXPO_HISTOGRAM && nx_slice_is(name, "le")) &&
        !(type == EXPO_SUMMARY && nx_slice_is(name, "quantile")))
        return value;
    if (!num_parse(value, &v, NULL))
        return value;
    return arena_slice(a, nx_slice_of(text, num_format_om(text, v)));
}

static size_t most_labels(struct nx_slice series)
{
    size_t n = 2; /* the name, and one that '=' does not announce */

    for (const char *p = series.ptr, *end = p + series.len;
         (p = memchr(p, '=', (size_t)(end - p)));) {
        n++;
        p++;
    }
    return n;
}

/* Insertion: label sets are short and mostly sorted already. Equal names end up side by side. */
static void sort_labels(struct expo_labels *ls)
{
    for (uint32_t i = 1; i < ls->n; i++) {
        struct label l = ls->v[i];
        uint32_t at = i;
        while (at > 0 && nx_slice_cmp(ls->v[at - 1].name, l.name) > 0) {
            ls->v[at] = ls->v[at - 1];
            at--;
        }
        ls->v[at] = l;
    }
    for (uint32_t i = 1; i < ls->n && !ls->repeated.ptr; i++)
        if (nx_slice_eq(ls->v[i - 1].name, ls->v[i].name))
            ls->repeated = ls->v[i].name;
}

/* One `name="value"` or `"metric name"`; false at the end. */
static bool take_label(struct walk *w, enum expo_type type, struct arena *a, struct label *l)
{
    bool quoted, quoted_value;

    skip_between(w);
    if (w->p >= w->end || *w->p == '}')
        return false;
    l->name = take_word(w, &quoted);
    if (l->name.len == 0 && !quoted)
        return false;
    if (quoted)
        l->name = expo_unescape(l->name, true, a);
    if (!take_byte(w, '=')) { /* the metric's name */
        l->value = l->name;
        l->name = nx_slice_str(LABEL_NAME);
        return true;
    }
    while (w->p < w->end && (*w->p == ' ' || *w->p == '\t'))
        w->p++;
    l->value = expo_unescape(take_word(w, &quoted_value), true, a);
    if (l->value.ptr)
        l->value = normal_value(l->name, l->value, type, a);
    return true;
}

nx_status expo_labels(struct nx_slice series, enum expo_type type, struct arena *a,
                      struct expo_labels *out, struct nx_err *err)
{
    struct walk w = {series.ptr, series.ptr + series.len};
    size_t cap = most_labels(series);
    struct expo_labels ls = {.v = arena_array(a, cap, sizeof *ls.v)};
    bool quoted;

    if (!ls.v)
        return arena_failed(a, err);
    if (w.p < w.end && *w.p != '{')
        ls.v[ls.n++] = (struct label){nx_slice_str(LABEL_NAME), take_word(&w, &quoted)};
    if (take_byte(&w, '{'))
        while (ls.n < cap && take_label(&w, type, a, &ls.v[ls.n])) {
            if (!ls.v[ls.n].name.ptr || !ls.v[ls.n].value.ptr)
                return arena_failed(a, err);
            ls.n++;
        }
    sort_labels(&ls);
    *out = ls;
    return NX_OK;
}

nx_status expo_exemplar(struct nx_slice text, struct arena *a, struct expo_exemplar *out,
                        struct nx_err *err)
{
    struct walk w = {text.ptr, text.ptr + text.len};
    struct expo_exemplar ex = {0};
    size_t cap = most_labels(text);
    struct nx_slice word;
    bool quoted;
    double seconds;

    ex.labels.v = arena_array(a, cap, sizeof *ex.labels.v);
    if (!ex.labels.v)
        return arena_failed(a, err);
    if (take_byte(&w, '{'))
        while (ex.labels.n < cap && take_label(&w, EXPO_UNKNOWN, a, &ex.labels.v[ex.labels.n]))
            ex.labels.n++;
    if (!take_byte(&w, '}'))
        return nx_fail(err, NX_BADINPUT, "exemplar without labels");
    skip_between(&w);
    word = take_word(&w, &quoted);
    if (number_parse(word, &ex.value, err))
        return NX_BADINPUT;
    skip_between(&w);
    word = take_word(&w, &quoted);
    if (word.len) {
        if (number_parse(word, &seconds, err))
            return NX_BADINPUT;
        ex.has_ts = true;
        ex.ts_ms = seconds > -9e15 && seconds < 9e15 ? (int64_t)(seconds * 1000) : INT64_MIN;
    }
    sort_labels(&ex.labels);
    *out = ex;
    return NX_OK;
}
