#include "src/cli/metrics_text.h"

/* metrics_text.c - the text format by families.
 *
 * RULES   X1  A line ends with a newline, the last one too.
 *         X2  A line whose name ends in _sum, _count or _bucket belongs to the histogram or summary of the
 *             name before that, if its TYPE line has been read.
 *         X3  HELP and TYPE stand once each, TYPE before the samples. */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "src/base/buf.h"
#include "src/base/labels.h"
#include "src/base/num.h"
#include "src/base/text.h"

enum part { PART_VALUE, PART_SUM, PART_COUNT };

struct parser {
    const char *at, *end;
    int line;
    struct arena *a;
    struct metrics_families *out;
    struct nx_err *err;
    /* of the line being read */
    struct metrics_family *family;
    enum part part;
    struct metrics_label *labels;
    size_t n_labels, cap_labels;
    bool has_own; /* le or quantile, where the type has it, and it is a number */
};

static const char *const type_names[] = {"untyped", "counter",   "gauge",
                                         "summary", "histogram", "gauge_histogram"};

const char *metrics_type_name(enum metrics_type t)
{
    return type_names[t];
}

/* ---- errors ---------------------------------------------------------------------------------------- */

static nx_status bad(struct parser *p, const char *what)
{
    return nx_fail(p->err, NX_BADINPUT, "text format parsing error in line %d: %s", p->line, what);
}

/* `before` "quoted" */
static nx_status bad_quoted(struct parser *p, const char *before, struct nx_slice s,
                            const char *after)
{
    char quoted[TEXT_QUOTED_BYTES];

    return nx_fail(p->err, NX_BADINPUT, "text format parsing error in line %d: %s%s%s", p->line,
                   before, text_quoted(quoted, s), after);
}

static nx_status bad_char(struct parser *p, const char *before, char c)
{
    char text[] = {c, 0};

    return nx_fail(p->err, NX_BADINPUT, "text format parsing error in line %d: %s'%s'", p->line,
                   before, c == '\n' ? "\\n" : text);
}

static nx_status bad_escape(struct parser *p, char c)
{
    return nx_fail(p->err, NX_BADINPUT,
                   "text format parsing error in line %d: invalid escape sequence '\\%c'", p->line,
                   c);
}

static nx_status bad_end(struct parser *p) /* X1 */
{
    return bad(p, "unexpected end of input stream");
}

static nx_status no_memory(struct parser *p)
{
    return arena_failed(p->a, p->err);
}

/* ---- tokens ---------------------------------------------------------------------------------------- */

static void skip_blanks(struct parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t'))
        p->at++;
}

static bool is_name_byte(char c, bool first, bool colon)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':') ||
           (!first && c >= '0' && c <= '9');
}

/* What stands in quotes, without them and its escapes. */
static nx_status take_quoted(struct parser *p, const char *what, struct nx_slice *out)
{
    struct buf b;
    nx_status st = NX_OK;
    bool closed = false;

    buf_init(&b, 0);
    for (p->at++; p->at < p->end && !closed && !st; p->at++) {
        char c = *p->at;
        if (c == '"') {
            closed = true;
        } else if (c == '\n') {
            char text[64];
            snprintf(text, sizeof text, "%s ", what);
            st = bad_quoted(p, text, buf_view(&b), " contains unescaped new-line");
        } else if (c != '\\') {
            buf_char(&b, c);
        } else if (++p->at < p->end) {
            if (*p->at != '\\' && *p->at != '"' && *p->at != 'n')
                st = bad_escape(p, *p->at);
            else
                buf_char(&b, *p->at == 'n' ? '\n' : *p->at);
        }
    }
    if (!st && !closed)
        st = bad_end(p);
    if (!st) {
        *out = arena_slice(p->a, buf_view(&b));
        st = out->ptr ? NX_OK : no_memory(p);
    }
    buf_done(&b);
    return st;
}

/* A name, in quotes or not; empty where none begins. */
static nx_status take_name(struct parser *p, bool metric, struct nx_slice *out)
{
    const char *from = p->at;

    if (p->at < p->end && *p->at == '"')
        return take_quoted(p, metric ? "metric name" : "label name", out);
    while (p->at < p->end && is_name_byte(*p->at, p->at == from, metric))
        p->at++;
    *out = nx_slice_of(from, (size_t)(p->at - from));
    return p->at == p->end ? bad_end(p) : NX_OK;
}

/* Up to a blank or the end of the line. */
static nx_status take_word(struct parser *p, struct nx_slice *out)
{
    const char *from = p->at;

    while (p->at < p->end && *p->at != ' ' && *p->at != '\t' && *p->at != '\n')
        p->at++;
    *out = nx_slice_of(from, (size_t)(p->at - from));
    return p->at == p->end ? bad_end(p) : NX_OK;
}

static nx_status take_rest(struct parser *p, struct nx_slice *out)
{
    const char *end = memchr(p->at, '\n', (size_t)(p->end - p->at));

    if (!end)
        return bad_end(p);
    *out = nx_slice_of(p->at, (size_t)(end - p->at));
    p->at = end;
    return NX_OK;
}

/* ---- families -------------------------------------------------------------------------------------- */

static struct metrics_family *find(const struct parser *p, struct nx_slice name)
{
    for (size_t i = p->out->n; i-- > 0;)
        if (nx_slice_eq(p->out->v[i].name, name))
            return &p->out->v[i];
    return NULL;
}

static bool take_suffix(struct nx_slice *name, const char *suffix)
{
    size_t n = strlen(suffix);

    if (name->len <= n || memcmp(name->ptr + name->len - n, suffix, n) != 0)
        return false;
    name->len -= n;
    return true;
}

static nx_status add_family(struct parser *p, struct nx_slice name)
{
    struct metrics_families *l = p->out;

    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        l->v = arena_grow(p->a, l->v, l->cap * sizeof *l->v, cap * sizeof *l->v);
        if (!l->v)
            return no_memory(p);
        l->cap = cap;
    }
    p->family = &l->v[l->n++];
    *p->family = (struct metrics_family){.name = name};
    return NX_OK;
}

/* The family that a line with this name belongs to (X2). */
static nx_status choose_family(struct parser *p, struct nx_slice name)
{
    struct nx_slice base = name;
    bool sum, count, bucket;

    p->part = PART_VALUE;
    if (!name.len || !utf8_valid(name))
        return bad_quoted(p, "invalid metric name ", name, "");
    p->family = find(p, name);
    if (p->family)
        return NX_OK;
    sum = take_suffix(&base, "_sum");
    count = !sum && take_suffix(&base, "_count");
    bucket = !sum && !count && take_suffix(&base, "_bucket");
    if (sum || count || bucket)
        p->family = find(p, base);
    if (p->family &&
        ((!bucket && p->family->type == METRICS_SUMMARY) || p->family->type == METRICS_HISTOGRAM)) {
        p->part = sum ? PART_SUM : count ? PART_COUNT : PART_VALUE;
        return NX_OK;
    }
    return add_family(p, name);
}

/* ---- comments -------------------------------------------------------------------------------------- */

static nx_status help_line(struct parser *p)
{
    struct nx_slice text = {0};
    nx_status st;

    if (p->family->has_help) /* X3 */
        return bad_quoted(p, "second HELP line for metric name ", p->family->name, "");
    st = take_rest(p, &text);
    for (size_t i = 0; !st && i < text.len; i++)
        if (text.ptr[i] == '\\' && (++i == text.len || !strchr("\\n\"", text.ptr[i])))
            st = bad_escape(p, i < text.len ? text.ptr[i] : '\n');
    p->family->has_help = true;
    return st;
}

static nx_status type_line(struct parser *p)
{
    struct nx_slice text = {0};
    nx_status st;

    if (p->family->has_type) /* X3 */
        return bad_quoted(p, "second TYPE line for metric name ", p->family->name,
                          ", or TYPE reported after samples");
    st = take_rest(p, &text);
    for (size_t i = 0; !st && i < NX_COUNT(type_names); i++) {
        if (strlen(type_names[i]) == text.len &&
            strncasecmp(type_names[i], text.ptr, text.len) == 0) {
            p->family->type = (enum metrics_type)i;
            p->family->has_type = true;
            return NX_OK;
        }
    }
    return st ? st : bad_quoted(p, "unknown metric type ", text, "");
}

static nx_status comment(struct parser *p)
{
    struct nx_slice word = {0}, name = {0};
    bool help;
    nx_status st;

    skip_blanks(p);
    st = take_word(p, &word);
    if (st || *p->at == '\n')
        return st;
    help = nx_slice_is(word, "HELP");
    if (!help && !nx_slice_is(word, "TYPE"))
        return take_rest(p, &word);
    skip_blanks(p);
    st = take_name(p, true, &name);
    if (st || *p->at == '\n')
        return st;
    if (*p->at != ' ' && *p->at != '\t')
        return bad(p, "invalid metric name in comment");
    st = choose_family(p, name);
    skip_blanks(p);
    if (!st && p->at == p->end)
        st = bad_end(p);
    if (st || *p->at == '\n')
        return st;
    return help ? help_line(p) : type_line(p);
}

/* ---- samples --------------------------------------------------------------------------------------- */

static bool is_own(const struct parser *p, struct nx_slice name)
{
    return (p->family->type == METRICS_SUMMARY && nx_slice_is(name, "quantile")) ||
           (p->family->type == METRICS_HISTOGRAM && nx_slice_is(name, "le"));
}

static nx_status add_label(struct parser *p, struct nx_slice name, struct nx_slice value)
{
    if (p->n_labels == p->cap_labels) {
        size_t cap = p->cap_labels ? 2 * p->cap_labels : 8;
        p->labels =
            arena_grow(p->a, p->labels, p->cap_labels * sizeof *p->labels, cap * sizeof *p->labels);
        if (!p->labels)
            return no_memory(p);
        p->cap_labels = cap;
    }
    p->labels[p->n_labels++] = (struct metrics_label){name, value};
    return NX_OK;
}

/* name="value", its name read. */
static nx_status label_value(struct parser *p, struct nx_slice name)
{
    struct nx_slice value = {0};
    double number;
    nx_status st;

    if (nx_slice_is(name, LABEL_NAME))
        return bad_quoted(p, "label name ", name, " is reserved");
    for (size_t i = 0; i < p->n_labels; i++)
        if (nx_slice_eq(p->labels[i].name, name))
            return bad_quoted(p, "duplicate label names for metric ", p->family->name, "");
    p->at++;
    skip_blanks(p);
    if (p->at == p->end)
        return bad_end(p);
    if (*p->at != '"')
        return bad_char(p, "expected '\"' at start of label value, found ", *p->at);
    st = take_quoted(p, "label value", &value);
    if (st)
        return st;
    if (!utf8_valid(value))
        return bad_quoted(p, "invalid label value ", value, "");
    if (!is_own(p, name))
        return add_label(p, name, value);
    if (!num_parse(value, &number, NULL))
        return bad_quoted(p,
                          nx_slice_is(name, "le") ? "expected float as value for 'le' label, got "
                                                  : "expected float as value for 'quantile' label, "
                                                    "got ",
                          value, "");
    p->has_own = !isnan(number);
    return NX_OK;
}

/* {a="b", c="d"}; in braces a name alone is the metric's. */
static nx_status label_set(struct parser *p, bool name_inside)
{
    struct nx_slice name = {0};
    nx_status st;

    for (p->at++;; p->at++) {
        skip_blanks(p);
        if (p->at == p->end)
            return bad_end(p);
        if (*p->at == '}')
            break;
        st = take_name(p, false, &name);
        if (st)
            return st;
        if (!name.len)
            return bad_quoted(p, "invalid label name for metric ",
                              p->family ? p->family->name : nx_slice_of("", 0), "");
        skip_blanks(p);
        if (p->at == p->end)
            return bad_end(p);
        if (*p->at == '=') {
            if (!p->family)
                return bad(p, "invalid metric name");
            st = label_value(p, name);
            if (st)
                return st;
            skip_blanks(p);
            if (p->at == p->end)
                return bad_end(p);
            if (*p->at != ',' && *p->at != '}')
                return bad_quoted(
                    p, "unexpected end of label value ",
                    p->n_labels ? p->labels[p->n_labels - 1].value : nx_slice_of("", 0), "");
        } else if (!name_inside) {
            return bad_char(p, "expected '=' after label name, found ", *p->at);
        } else if (*p->at != ',' && *p->at != '}') {
            return bad_char(p, "unexpected end of metric value ", *p->at);
        } else if ((st = choose_family(p, name))) {
            return st;
        }
        if (*p->at == '}')
            break;
    }
    p->at++;
    skip_blanks(p);
    return NX_OK;
}

static bool same_labels(const struct metrics_metric *m, const struct parser *p)
{
    if (m->n_labels != p->n_labels)
        return false;
    for (size_t i = 0; i < p->n_labels; i++) {
        size_t k = 0;
        while (k < m->n_labels && !(nx_slice_eq(m->labels[k].name, p->labels[i].name) &&
                                    nx_slice_eq(m->labels[k].value, p->labels[i].value)))
            k++;
        if (k == m->n_labels)
            return false;
    }
    return true;
}

/* Lines of one histogram or summary make one metric; any other line makes one of its own. The line's labels
 * are handed over. */
static nx_status add_metric(struct parser *p)
{
    struct metrics_family *f = p->family;
    bool parts = f->type == METRICS_SUMMARY || f->type == METRICS_HISTOGRAM;
    struct metrics_metric *m = NULL;

    for (size_t i = f->n; parts && i-- > 0 && !m;)
        if (same_labels(&f->v[i], p))
            m = &f->v[i];
    if (!m) {
        if (f->n == f->cap) {
            size_t cap = f->cap ? 2 * f->cap : 4;
            f->v = arena_grow(p->a, f->v, f->cap * sizeof *f->v, cap * sizeof *f->v);
            if (!f->v)
                return no_memory(p);
            f->cap = cap;
        }
        m = &f->v[f->n++];
        *m = (struct metrics_metric){.labels = p->labels, .n_labels = p->n_labels};
        p->labels = NULL;
        p->cap_labels = 0;
    }
    m->n_parts += parts && p->part == PART_VALUE && p->has_own;
    return NX_OK;
}

static nx_status timestamp(struct parser *p)
{
    struct nx_slice word = {0};
    int64_t t;
    nx_status st;

    skip_blanks(p);
    st = take_word(p, &word);
    if (st)
        return st;
    if (!num_parse_i64(word, &t))
        return bad_quoted(p, "expected integer as timestamp, got ", word, "");
    st = take_rest(p, &word);
    if (!st && word.len)
        st = bad_quoted(p, "spurious string after timestamp: ", word, "");
    return st;
}

static nx_status sample(struct parser *p)
{
    struct nx_slice name = {0}, word = {0};
    bool inside = *p->at == '{';
    double v;
    nx_status st = NX_OK;

    p->family = NULL;
    p->n_labels = 0;
    p->has_own = false;
    if (!inside) {
        st = take_name(p, true, &name);
        if (!st)
            st = name.len ? choose_family(p, name) : bad(p, "invalid metric name");
        if (st)
            return st;
        p->family->has_type = true; /* X3 */
        skip_blanks(p);
    }
    if (p->at < p->end && *p->at == '{')
        st = label_set(p, inside);
    if (!st && !p->family)
        st = bad(p, "invalid metric name");
    if (!st)
        p->family->has_type = true;
    if (!st)
        st = add_metric(p);
    if (!st)
        st = take_word(p, &word);
    if (st)
        return st;
    if (!num_parse(word, &v, NULL))
        return bad_quoted(p, "expected float as value, got ", word, "");
    return *p->at == '\n' ? NX_OK : timestamp(p);
}

nx_status metrics_read(struct nx_slice text, struct arena *a, struct metrics_families *out,
                       struct nx_err *err)
{
    struct metrics_families all = {0};
    struct parser p = {.at = text.ptr, .end = text.ptr + text.len, .a = a, .out = &all, .err = err};
    size_t n = 0;

    for (;; p.at++) {
        nx_status st = NX_OK;

        p.line++;
        skip_blanks(&p);
        if (p.at == p.end)
            break;
        if (*p.at == '#') {
            p.at++;
            st = comment(&p);
        } else if (*p.at != '\n') {
            st = sample(&p);
        }
        if (st)
            return st;
    }
    for (size_t i = 0; i < all.n; i++)
        if (all.v[i].n)
            all.v[n++] = all.v[i];
    all.n = n;
    *out = all;
    return NX_OK;
}
