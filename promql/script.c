/* script.c - scripts in Prometheus's test language: load series, evaluate, compare.
 *
 * WHY   The expectation stands beside the query, so a script says what the language means, and the same
 *       script can be put to Prometheus.
 * SHAPE Line by line, each command is run as it is read, over a store in memory and an engine with all
 *       features on.
 * RULES T1  An instant query is also run with its selectors pinned by @ at other times, and each as the
 *           middle step of a range query: all must give what is expected.
 *       T2  Values agree within a relative 1e-6; label sets, presence and times exactly.
 *       T3  An eval that meets native histograms, in its data or its expectation, is counted as skipped.
 *       T4  What is wrong with the script itself ends it, as a failure. */
#include "promql/ast.h"
#include "promql/funcs.h"
#include "promql/series.h"
#include "promql/teststore.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/num.h"
#include "src/base/regex.h"

#define SCRIPT_EPSILON     0.000001
#define SCRIPT_MAX_SAMPLES 10000
#define SCRIPT_TIMEOUT_MS  100000

enum expectation {
    EXPECT_FAIL,
    EXPECT_WARN,
    EXPECT_NO_WARN,
    EXPECT_INFO,
    EXPECT_NO_INFO,
    EXPECT_ORDERED
};

struct expect {
    enum expectation what;
    struct nx_slice text; /* with neither text nor pattern anything fits */
    struct regex *re;
    bool any;
};

struct script {
    struct nx_slice rest;
    int line; /* of the line last read */
    struct teststore *store;
    struct pql_engine *engine;
    void (*report)(void *ctx, int line, const char *what);
    void *ctx;
    unsigned passed, failed, skipped;
};

struct eval_cmd {
    struct script *s;
    struct arena *a;
    int line;
    struct nx_slice expr;
    bool instant, no_range;
    int64_t start, end, step;                /* of an instant query all at its time */
    int64_t want_start, want_end, want_step; /* times of an expected range vector */
    struct expect *expects;
    size_t n_expects;
    struct series_line *want;
    size_t n_want;
    bool want_scalar, want_string, histograms, matrix_times;
    double scalar;
    struct nx_slice string;
    bool failed;
    char *why; /* the first failure */
};

/* ---- lines -------------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct nx_slice trim(struct nx_slice s)
{
    while (s.len && is_blank(*s.ptr)) {
        s.ptr++;
        s.len--;
    }
    while (s.len && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

/* The next line, trimmed; a comment is an empty line. */
static struct nx_slice peek_line(const struct script *s, size_t *bytes)
{
    const char *end = memchr(s->rest.ptr, '\n', s->rest.len);
    struct nx_slice line = {s->rest.ptr, end ? (size_t)(end - s->rest.ptr) : s->rest.len};

    *bytes = line.len + (end != NULL);
    line = trim(line);
    if (line.len && *line.ptr == '#')
        line.len = 0;
    return line;
}

static void skip_line(struct script *s, size_t bytes)
{
    s->rest.ptr += bytes;
    s->rest.len -= bytes;
    s->line++;
}

/* A line that belongs to the command at work: false at an empty one. */
static bool next_line(struct script *s, struct nx_slice *line)
{
    size_t bytes;

    if (!s->rest.len)
        return false;
    *line = peek_line(s, &bytes);
    if (!line->len)
        return false;
    skip_line(s, bytes);
    return true;
}

static bool starts_with(struct nx_slice s, const char *word)
{
    size_t len = strlen(word);

    return s.len >= len && memcmp(s.ptr, word, len) == 0;
}

static struct nx_slice after(struct nx_slice s, size_t n)
{
    return trim((struct nx_slice){s.ptr + n, s.len - n});
}

/* Takes the first word off. */
static struct nx_slice take_word(struct nx_slice *s)
{
    size_t n = 0;

    while (n < s->len && !is_blank(s->ptr[n]))
        n++;
    struct nx_slice word = {s->ptr, n};
    *s = after(*s, n);
    return word;
}

static bool take_if(struct nx_slice *s, const char *word)
{
    struct nx_slice rest = *s;

    if (!nx_slice_is(take_word(&rest), word))
        return false;
    *s = rest;
    return true;
}

/* ---- load ----------------------------------------------------------------------------------------- */

static bool ends_with(struct nx_slice s, const char *end)
{
    size_t len = strlen(end);

    return s.len > len && memcmp(s.ptr + s.len - len, end, len) == 0;
}

/* The native histogram that load_with_nhcb makes beside a classic one. */
static nx_status load_native(struct script *s, const struct series_line *l, int64_t step,
                             struct nx_err *err)
{
    static const char *const endings[] = {"_bucket", "_count", "_sum"};
    struct nx_slice name = labels_get_str(&l->labels, LABEL_NAME);
    struct labels_builder b;
    struct labels ls;
    nx_status st = NX_OK;

    for (size_t i = 0; i < NX_COUNT(endings); i++) {
        if (!ends_with(name, endings[i]))
            continue;
        name.len -= strlen(endings[i]);
        labels_builder_init(&b);
        labels_builder_reset(&b, &l->labels);
        labels_builder_set(&b, nx_slice_str(LABEL_NAME), name);
        labels_builder_del(&b, nx_slice_str("le"));
        st = labels_builder_build(&b, &ls, err);
        for (size_t k = 0; k < l->n && !st; k++)
            if (l->v[k].is == SERIES_VALUE)
                st = teststore_add_unheld(s->store, &ls, (int64_t)k * step, err);
        labels_builder_done(&b);
        return st;
    }
    return NX_OK;
}

static nx_status load_series(struct script *s, const struct series_line *l, int64_t step, bool nhcb,
                             struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t k = 0; !st && k < l->n; k++) {
        int64_t t = (int64_t)k * step;

        if (l->v[k].is == SERIES_VALUE)
            st = teststore_add(s->store, &l->labels, t, l->v[k].v, err);
        else if (l->v[k].is == SERIES_HISTOGRAM)
            st = teststore_add_unheld(s->store, &l->labels, t, err);
    }
    return !st && nhcb ? load_native(s, l, step, err) : st;
}

/* `metric@st` gives start timestamps, which samples here have not: what reads them is skipped (T3). */
static bool is_start_times(struct nx_slice line)
{
    struct nx_slice rest = line;

    return ends_with(take_word(&rest), "@st");
}

struct load {
    struct arena *a;
    struct series_line *v;
    bool *start_times;
    size_t n;
};

static nx_status read_series(struct load *l, struct nx_slice line, bool start_times,
                             struct nx_err *err)
{
    struct series_line *v = arena_grow(l->a, l->v, l->n * sizeof *v, (l->n + 1) * sizeof *v);
    bool *with = arena_grow(l->a, l->start_times, l->n, l->n + 1);

    if (!v || !with)
        return arena_failed(l->a, err);
    l->v = v;
    l->start_times = with;
    with[l->n] = start_times;
    return series_parse(l->a, line, &v[l->n++], err);
}

/* Of a series that is given twice, the last counts. */
static bool is_given_again(const struct load *l, size_t i)
{
    for (size_t j = i + 1; j < l->n; j++)
        if (labels_eq(&l->v[i].labels, &l->v[j].labels))
            return true;
    return false;
}

static nx_status load_all(struct script *s, const struct load *l, int64_t step, bool nhcb,
                          struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < l->n && !st; i++) {
        if (is_given_again(l, i))
            continue;
        st = load_series(s, &l->v[i], step, nhcb, err);
        for (size_t k = 0; l->start_times[i] && k < l->v[i].n && !st; k++)
            st = teststore_add_unheld(s->store, &l->v[i].labels, (int64_t)k * step, err);
    }
    return st;
}

static nx_status run_load(struct script *s, struct nx_slice line, struct nx_err *err)
{
    struct nx_slice word = take_word(&line);
    struct load l = {.a = arena_new(0)};
    bool nhcb = nx_slice_is(word, "load_with_nhcb"), start_times = false;
    int64_t step = 0;
    nx_status st = NX_OK;

    if (!l.a)
        st = nx_fail(err, NX_NOMEM, "loading series");
    else if (!nhcb && !nx_slice_is(word, "load"))
        st = nx_fail(err, NX_BADINPUT, "invalid load command. (load[_with_nhcb] <step:duration>)");
    else if (num_parse_duration(line, &step, err))
        st = nx_context(err, "invalid step definition \"%.*s\"", (int)line.len, line.ptr);
    while (!st && next_line(s, &line)) {
        bool is_times = is_start_times(line);

        if (!is_times)
            st = read_series(&l, line, start_times, err);
        start_times = is_times;
    }
    if (!st)
        st = load_all(s, &l, step, nhcb, err);
    arena_free(l.a);
    return st;
}

/* ---- eval: reading it ------------------------------------------------------------------------------- */

static nx_status add_expect(struct eval_cmd *c, struct expect e, struct nx_err *err)
{
    struct expect *v =
        arena_grow(c->a, c->expects, c->n_expects * sizeof *v, (c->n_expects + 1) * sizeof *v);

    if (!v) {
        regex_free(e.re);
        return arena_failed(c->a, err);
    }
    c->expects = v;
    v[c->n_expects++] = e;
    return NX_OK;
}

/* A pattern that may fit anywhere in the text. */
static nx_status compile_search(struct nx_slice pattern, struct regex **out, struct nx_err *err)
{
    struct buf b;
    nx_status st;

    buf_init(&b, 0);
    buf_str(&b, "(?s:.*)(?:");
    buf_slice(&b, pattern);
    buf_str(&b, ")(?s:.*)");
    st = buf_status(&b, err);
    if (!st)
        st = regex_new(out, buf_view(&b), err);
    buf_done(&b);
    return st;
}

static nx_status parse_expect(struct eval_cmd *c, struct nx_slice line, struct nx_err *err)
{
    static const char *const words[] = {"fail", "warn", "no_warn", "info", "no_info", "ordered"};
    struct expect e = {.any = true};
    struct nx_slice word = take_word(&line);
    size_t i = 0;
    nx_status st;

    while (i < NX_COUNT(words) && !nx_slice_is(word, words[i]))
        i++;
    if (i == NX_COUNT(words))
        return nx_fail(
            err, NX_BADINPUT,
            "invalid expect statement, must match `expect <type> <match_type>: <string>` format");
    e.what = (enum expectation)i;
    if (starts_with(line, "msg:")) {
        e.any = false;
        e.text = after(line, 4);
    } else if (starts_with(line, "regex:")) {
        e.any = false;
        st = compile_search(after(line, 6), &e.re, err);
        if (st)
            return st;
    } else if (line.len) {
        return nx_fail(
            err, NX_BADINPUT,
            "invalid expect statement, must match `expect <type> <match_type>: <string>` format");
    }
    return add_expect(c, e, err);
}

static nx_status parse_want_times(struct eval_cmd *c, struct nx_slice line, struct nx_err *err)
{
    nx_status st = NX_BADINPUT;

    if (take_if(&line, "from"))
        st = num_parse_duration(take_word(&line), &c->want_start, err);
    if (!st)
        st = take_if(&line, "to") ? num_parse_duration(take_word(&line), &c->want_end, err)
                                  : NX_BADINPUT;
    if (!st)
        st = take_if(&line, "step") ? num_parse_duration(line, &c->want_step, err) : NX_BADINPUT;
    if (st)
        return nx_fail(err, NX_BADINPUT, "invalid range vector definition");
    c->matrix_times = true;
    c->no_range = true;
    return NX_OK;
}

/* The text of a Go string literal, by way of the parser. */
static nx_status parse_want_string(struct eval_cmd *c, struct nx_slice line, struct nx_err *err)
{
    const struct pql_expr *e;
    nx_status st = pql_parse(c->a, line, &(struct pql_features){0}, &e, err);

    if (st || e->kind != PQL_NODE_STRING)
        return nx_fail(err, NX_BADINPUT, "expected string literal not valid");
    c->string = e->string;
    c->want_string = true;
    c->no_range = true;
    return NX_OK;
}

static nx_status parse_want_series(struct eval_cmd *c, struct nx_slice line, struct nx_err *err)
{
    struct series_line *v =
        arena_grow(c->a, c->want, c->n_want * sizeof *v, (c->n_want + 1) * sizeof *v);
    nx_status st;

    if (!v)
        return arena_failed(c->a, err);
    c->want = v;
    st = series_parse(c->a, line, &v[c->n_want], err);
    if (st)
        return st;
    for (size_t k = 0; k < v[c->n_want].n; k++)
        c->histograms |= v[c->n_want].v[k].is == SERIES_HISTOGRAM;
    if (c->instant && !c->matrix_times && v[c->n_want].n != 1)
        return nx_fail(err, NX_BADINPUT,
                       "expecting multiple values in instant evaluation not allowed");
    c->n_want++;
    return NX_OK;
}

static bool has_expect(const struct eval_cmd *c, enum expectation what)
{
    for (size_t i = 0; i < c->n_expects; i++)
        if (c->expects[i].what == what)
            return true;
    return false;
}

static nx_status parse_old_failure(struct eval_cmd *c, struct nx_slice line, struct nx_err *err)
{
    struct expect e = {.what = EXPECT_FAIL};
    nx_status st = NX_OK;

    if (starts_with(line, "expected_fail_message"))
        e.text = after(line, strlen("expected_fail_message"));
    else
        st = compile_search(after(line, strlen("expected_fail_regexp")), &e.re, err);
    if (st)
        return st;
    for (size_t i = 0; i < c->n_expects; i++) /* it says more than the eval_fail before it */
        if (c->expects[i].what == EXPECT_FAIL) {
            c->expects[i] = e;
            return NX_OK;
        }
    return add_expect(c, e, err);
}

static nx_status parse_want(struct eval_cmd *c, struct nx_err *err)
{
    struct nx_slice line;
    nx_status st = NX_OK;

    while (!st && next_line(c->s, &line)) {
        if (has_expect(c, EXPECT_FAIL) && starts_with(line, "expected_fail_"))
            return parse_old_failure(c, line, err);
        if (starts_with(line, "expect range vector"))
            st = parse_want_times(c, after(line, strlen("expect range vector")), err);
        else if (starts_with(line, "expect string"))
            st = parse_want_string(c, after(line, strlen("expect string")), err);
        else if (take_if(&line, "expect"))
            st = parse_expect(c, line, err);
        else if (series_number(line, &c->scalar)) {
            c->want_scalar = true;
            return NX_OK;
        } else
            st = parse_want_series(c, line, err);
    }
    return st;
}

static nx_status parse_times(struct eval_cmd *c, struct nx_slice *line, struct nx_err *err)
{
    nx_status st;

    if (c->instant) {
        if (!take_if(line, "at"))
            return nx_fail(err, NX_BADINPUT, "invalid evaluation command: no `at <time>`");
        st = num_parse_duration(take_word(line), &c->start, err);
        c->end = c->start;
        return st;
    }
    st = take_if(line, "from") ? num_parse_duration(take_word(line), &c->start, err) : NX_BADINPUT;
    if (!st)
        st = take_if(line, "to") ? num_parse_duration(take_word(line), &c->end, err) : NX_BADINPUT;
    if (!st)
        st = take_if(line, "step") ? num_parse_duration(take_word(line), &c->step, err)
                                   : NX_BADINPUT;
    if (st)
        return nx_fail(
            err, NX_BADINPUT,
            "invalid evaluation command: must be `range from <from> to <to> step <step>`");
    if (c->end < c->start)
        return nx_fail(err, NX_BADINPUT, "invalid test definition, it ends before it starts");
    return NX_OK;
}

static nx_status parse_eval(struct eval_cmd *c, struct nx_slice line, struct nx_err *err)
{
    static const struct {
        const char *word;
        bool expects;
        enum expectation what;
    } kinds[] = {{"eval", false, 0},
                 {"eval_fail", true, EXPECT_FAIL},
                 {"eval_warn", true, EXPECT_WARN},
                 {"eval_info", true, EXPECT_INFO},
                 {"eval_ordered", true, EXPECT_ORDERED}};
    struct nx_slice word = take_word(&line);
    size_t i = 0;
    nx_status st = NX_OK;

    while (i < NX_COUNT(kinds) && !nx_slice_is(word, kinds[i].word))
        i++;
    if (i == NX_COUNT(kinds))
        return nx_fail(err, NX_BADINPUT, "invalid evaluation command");
    if (kinds[i].expects)
        st = add_expect(c, (struct expect){.what = kinds[i].what, .any = true}, err);
    c->instant = take_if(&line, "instant");
    if (!c->instant && !take_if(&line, "range"))
        return nx_fail(err, NX_BADINPUT, "invalid evaluation command: neither instant nor range");
    if (!st)
        st = parse_times(c, &line, err);
    c->expr = line;
    c->want_start = c->start;
    c->want_end = c->end;
    c->want_step = c->step;
    return st ? st : parse_want(c, err);
}

/* ---- comparing --------------------------------------------------------------------------------------- */

static bool almost_equal(double a, double b)
{
    const double min_normal = 2.2250738585072014e-308;
    double sum, diff;

    if (num_is_stale(a) || num_is_stale(b))
        return num_is_stale(a) && num_is_stale(b);
    if ((isnan(a) && isnan(b)) || a == b)
        return true;
    sum = fabs(a) + fabs(b);
    diff = fabs(a - b);
    if (a == 0 || b == 0 || sum < min_normal)
        return diff < SCRIPT_EPSILON * min_normal;
    return diff / fmin(sum, 1.7976931348623157e308) < SCRIPT_EPSILON;
}

static void fail(struct eval_cmd *c, struct nx_slice expr, const char *mode, const char *fmt, ...)
    NX_PRINTF(4, 5);
static void fail(struct eval_cmd *c, struct nx_slice expr, const char *mode, const char *fmt, ...)
{
    char text[NX_ERR_TEXT_BYTES], whole[NX_ERR_TEXT_BYTES + 512];
    va_list args;

    if (c->failed)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(whole, sizeof whole, "%.*s%s: %s", (int)(expr.len < 400 ? expr.len : 400), expr.ptr,
             mode, text);
    c->failed = true;
    c->why = arena_strdup(c->a, whole);
}

struct shown { /* labels as text, for a message */
    struct buf b;
};

static const char *show(struct shown *s, const struct labels *ls)
{
    buf_init(&s->b, 0);
    labels_print(&s->b, ls);
    return buf_cstr(&s->b);
}

static const struct series_line *wanted(const struct eval_cmd *c, const struct labels *ls,
                                        size_t *at)
{
    for (size_t i = c->n_want; i-- > 0;) /* of a label set given twice the last counts */
        if (labels_eq(&c->want[i].labels, ls)) {
            *at = i;
            return &c->want[i];
        }
    return NULL;
}

/* Every expected series was in the result. */
static void check_all_seen(struct eval_cmd *c, struct nx_slice expr, const char *mode,
                           const bool *seen)
{
    for (size_t i = 0; i < c->n_want && !c->failed; i++) {
        struct shown t;
        size_t last = 0;

        wanted(c, &c->want[i].labels, &last);
        if (seen[last])
            continue;
        fail(c, expr, mode, "expected metric %s not found", show(&t, &c->want[i].labels));
        buf_done(&t.b);
    }
}

static void compare_points(struct eval_cmd *c, struct nx_slice expr, const struct pql_series *s,
                           const struct series_line *w)
{
    struct shown t;
    size_t at = 0;

    show(&t, &s->labels);
    for (size_t k = 0; k < w->n && !c->failed; k++) {
        int64_t when = c->want_start + (int64_t)k * c->want_step;

        if (when > c->want_end)
            fail(c, expr, "",
                 "expected %zu points for %s, but query time range cannot return this many points",
                 w->n, buf_cstr(&t.b));
        else if (w->v[k].is != SERIES_VALUE)
            continue;
        else if (at == s->n)
            fail(c, expr, "", "expected more than %zu points for %s", s->n, buf_cstr(&t.b));
        else if (s->t[at] != when)
            fail(c, expr, "", "point %zu of %s is at %lld, expected at %lld", at, buf_cstr(&t.b),
                 (long long)s->t[at], (long long)when);
        else if (!almost_equal(s->v[at], w->v[k].v))
            fail(c, expr, "", "value of %s at %lld is %.17g, expected %.17g", buf_cstr(&t.b),
                 (long long)when, s->v[at], w->v[k].v);
        at++;
    }
    if (at < s->n)
        fail(c, expr, "", "expected %zu points for %s, got %zu", at, buf_cstr(&t.b), s->n);
    buf_done(&t.b);
}

static void compare_matrix(struct eval_cmd *c, struct nx_slice expr, const struct pql_result *r,
                           bool *seen)
{
    struct shown t;
    size_t at;

    if (c->want_scalar)
        fail(c, expr, "", "expected a scalar, got a matrix");
    if (has_expect(c, EXPECT_ORDERED))
        fail(c, expr, "", "expected ordered result, but query returned a matrix");
    for (size_t i = 0; i < r->n_series && !c->failed; i++) {
        const struct series_line *w = wanted(c, &r->series[i].labels, &at);

        if (i && labels_cmp(&r->series[i - 1].labels, &r->series[i].labels) > 0)
            fail(c, expr, "", "the matrix is not sorted by labels");
        if (w) {
            seen[at] = true;
            compare_points(c, expr, &r->series[i], w);
            continue;
        }
        fail(c, expr, "", "unexpected metric %s in result, has %zu points, first %.17g",
             show(&t, &r->series[i].labels), r->series[i].n, r->series[i].v[0]);
        buf_done(&t.b);
    }
    check_all_seen(c, expr, "", seen);
}

/* A vector: of an instant result, or the points of a range result at time `when`. */
static void compare_vector(struct eval_cmd *c, struct nx_slice expr, const struct pql_result *r,
                           int64_t when, const char *mode, bool *seen)
{
    size_t pos = 0, at = 0;

    if (c->want_scalar)
        fail(c, expr, mode, "expected a scalar, got a vector of %zu", r->n_series);
    for (size_t i = 0; i < r->n_series && !c->failed; i++) {
        const struct pql_series *s = &r->series[i];
        const struct series_line *w = wanted(c, &s->labels, &at);
        struct shown t;
        size_t k = 0;

        while (k < s->n && s->t[k] != when)
            k++;
        if (k == s->n)
            continue;
        show(&t, &s->labels);
        if (!w)
            fail(c, expr, mode, "unexpected metric %s in result, has value %.17g", buf_cstr(&t.b),
                 s->v[k]);
        else if (!*mode && has_expect(c, EXPECT_ORDERED) && at != pos)
            fail(c, expr, mode, "expected metric %s at position %zu but was at %zu", buf_cstr(&t.b),
                 at + 1, pos + 1);
        else if (!almost_equal(w->v[0].v, s->v[k]))
            fail(c, expr, mode, "expected %.17g for %s but got %.17g", w->v[0].v, buf_cstr(&t.b),
                 s->v[k]);
        else
            seen[at] = true;
        buf_done(&t.b);
        pos++;
    }
    check_all_seen(c, expr, mode, seen);
}

static void compare_scalar(struct eval_cmd *c, struct nx_slice expr, double v, const char *mode)
{
    if (!c->want_scalar)
        fail(c, expr, mode, "expected a vector or matrix, got the scalar %.17g", v);
    else if (!almost_equal(c->scalar, v))
        fail(c, expr, mode, "expected scalar %.17g but got %.17g", c->scalar, v);
}

static void compare_result(struct eval_cmd *c, struct nx_slice expr, const struct pql_result *r,
                           bool *seen)
{
    memset(seen, 0, (c->n_want + 1) * sizeof *seen);
    switch (r->type) {
    case PQL_SCALAR:
        compare_scalar(c, expr, r->scalar, "");
        break;
    case PQL_STRING:
        if (!c->want_string || !nx_slice_eq(c->string, r->string))
            fail(c, expr, "", "expected string \"%.*s\" but got \"%.*s\"", (int)c->string.len,
                 c->string.ptr, (int)r->string.len, r->string.ptr);
        break;
    case PQL_VECTOR:
        compare_vector(c, expr, r, r->t_ms, "", seen);
        break;
    default:
        compare_matrix(c, expr, r, seen);
    }
}

/* ---- annotations and errors ---------------------------------------------------------------------------- */

static bool expect_fits(const struct expect *e, const char *text)
{
    if (e->any)
        return true;
    return e->re ? regex_match(e->re, nx_slice_str(text)) : nx_slice_is(e->text, text);
}

static void check_level(struct eval_cmd *c, struct nx_slice expr, enum expectation yes,
                        enum expectation no, const char *what, char *const *texts, size_t n)
{
    if (n && has_expect(c, no))
        fail(c, expr, "", "unexpected %s annotation: %s", what, texts[0]);
    if (!has_expect(c, yes))
        return;
    if (!n)
        fail(c, expr, "", "expected %s annotations but none were found", what);
    for (size_t i = 0; i < c->n_expects; i++) {
        bool fits = c->expects[i].what != yes;

        for (size_t k = 0; k < n && !fits; k++)
            fits = expect_fits(&c->expects[i], texts[k]);
        if (!fits)
            fail(c, expr, "", "no %s annotation as expected, but: %s", what, n ? texts[0] : "");
    }
    for (size_t k = 0; k < n; k++) {
        bool fits = false;

        for (size_t i = 0; i < c->n_expects && !fits; i++)
            fits = c->expects[i].what == yes && expect_fits(&c->expects[i], texts[k]);
        if (!fits)
            fail(c, expr, "", "unexpected %s annotation: %s", what, texts[k]);
    }
}

static void check_annotations(struct eval_cmd *c, struct nx_slice expr, const struct pql_result *r)
{
    check_level(c, expr, EXPECT_WARN, EXPECT_NO_WARN, "warn", r->warnings, r->n_warnings);
    check_level(c, expr, EXPECT_INFO, EXPECT_NO_INFO, "info", r->infos, r->n_infos);
}

static void check_error(struct eval_cmd *c, struct nx_slice expr, const char *text)
{
    bool expected = false;

    for (size_t i = 0; i < c->n_expects; i++) {
        if (c->expects[i].what != EXPECT_FAIL)
            continue;
        expected = true;
        if (!expect_fits(&c->expects[i], text))
            fail(c, expr, "", "failed otherwise than expected: %s", text);
    }
    if (!expected)
        fail(c, expr, "", "%s", text);
}

/* ---- pinning by @ (T1) ----------------------------------------------------------------------------------- */

static bool depends_on_time(const struct pql_expr *e)
{
    switch (e->kind) {
    case PQL_NODE_CALL:
        for (size_t i = 0; i < e->call.n; i++)
            if (depends_on_time(e->call.args[i]))
                return true;
        return (e->call.func->flags & PQL_F_PER_STEP) || strcmp(e->call.func->name, "start") == 0 ||
               strcmp(e->call.func->name, "end") == 0 || strcmp(e->call.func->name, "range") == 0 ||
               strcmp(e->call.func->name, "step") == 0;
    case PQL_NODE_AGGREGATE:
        return depends_on_time(e->agg.inner) || (e->agg.param && depends_on_time(e->agg.param));
    case PQL_NODE_BINARY:
        return depends_on_time(e->binary.lhs) || depends_on_time(e->binary.rhs);
    case PQL_NODE_UNARY:
        return depends_on_time(e->unary.inner);
    case PQL_NODE_PAREN:
        return depends_on_time(e->paren);
    case PQL_NODE_SUBQUERY: /* what is in it is pinned with it */
        return e->sub.shift.at == PQL_AT_NONE ? false : depends_on_time(e->sub.inner);
    default:
        return false;
    }
}

/* A copy in which all selectors and outermost subqueries without @ have it. NULL out of memory. */
static struct pql_expr *pinned(struct arena *a, const struct pql_expr *e, int64_t t)
{
    struct pql_expr *p = arena_alloc(a, sizeof *p);
    bool whole = true;

    if (!p)
        return NULL;
    *p = *e;
    switch (e->kind) {
    case PQL_NODE_SELECTOR:
        if (p->selector.shift.at == PQL_AT_NONE) {
            p->selector.shift.at = PQL_AT_TIME;
            p->selector.shift.at_ms = t;
        }
        break;
    case PQL_NODE_RANGE:
        whole = (p->range.selector = pinned(a, e->range.selector, t)) != NULL;
        break;
    case PQL_NODE_SUBQUERY:
        if (p->sub.shift.at == PQL_AT_NONE) {
            p->sub.shift.at = PQL_AT_TIME;
            p->sub.shift.at_ms = t;
        }
        break;
    case PQL_NODE_CALL:
        p->call.args = arena_array(a, e->call.n + 1, sizeof *p->call.args);
        for (size_t i = 0; p->call.args && i < e->call.n; i++)
            whole = (p->call.args[i] = pinned(a, e->call.args[i], t)) != NULL && whole;
        whole = whole && p->call.args;
        break;
    case PQL_NODE_AGGREGATE:
        whole = (p->agg.inner = pinned(a, e->agg.inner, t)) != NULL;
        if (e->agg.param)
            whole = (p->agg.param = pinned(a, e->agg.param, t)) != NULL && whole;
        break;
    case PQL_NODE_BINARY:
        p->binary.lhs = pinned(a, e->binary.lhs, t);
        p->binary.rhs = pinned(a, e->binary.rhs, t);
        whole = p->binary.lhs && p->binary.rhs;
        break;
    case PQL_NODE_UNARY:
        whole = (p->unary.inner = pinned(a, e->unary.inner, t)) != NULL;
        break;
    case PQL_NODE_PAREN:
        whole = (p->paren = pinned(a, e->paren, t)) != NULL;
        break;
    default:
        break;
    }
    return whole ? p : NULL;
}

/* ---- running ------------------------------------------------------------------------------------------------ */

static bool asks_for_query_times(struct nx_slice expr)
{
    static const char *const calls[] = {"start()", "end()", "range()", "step()"};

    for (size_t i = 0; i < NX_COUNT(calls); i++)
        if (memmem(expr.ptr, expr.len, calls[i], strlen(calls[i])))
            return true;
    return false;
}

/* The same query as the middle one of three steps. */
static void run_in_range(struct eval_cmd *c, struct nx_slice expr, int64_t at, bool scalar,
                         bool *seen)
{
    struct pql_source source = teststore_source(c->s->store);
    struct pql_query q = {.text = expr,
                          .start_ms = at - 60000,
                          .end_ms = at + 60000,
                          .step_ms = 60000,
                          .source = &source};
    struct pql_result *r = NULL;
    struct nx_err err;

    if (asks_for_query_times(expr))
        return;
    if (pql_exec(c->s->engine, &q, &r, &err)) {
        fail(c, expr, " (range mode)", "%s", err.text);
        return;
    }
    memset(seen, 0, (c->n_want + 1) * sizeof *seen);
    if (has_expect(c, EXPECT_ORDERED))
        ;
    else if (scalar)
        compare_scalar(c, expr, r->n_series && r->series[0].n > 1 ? r->series[0].v[1] : (double)NAN,
                       " (range mode)");
    else
        compare_vector(c, expr, r, at, " (range mode)", seen);
    pql_result_free(r);
}

static void run_one(struct eval_cmd *c, struct nx_slice expr, int64_t at)
{
    struct pql_source source = teststore_source(c->s->store);
    struct pql_query q = {.text = expr,
                          .instant = c->instant,
                          .start_ms = c->instant ? at : c->start,
                          .end_ms = c->end,
                          .step_ms = c->step,
                          .source = &source};
    struct pql_result *r = NULL;
    struct nx_err err;
    bool *seen = arena_array(c->a, c->n_want + 1, sizeof *seen);

    if (!seen) {
        fail(c, expr, "", "out of memory");
        return;
    }
    if (pql_exec(c->s->engine, &q, &r, &err)) {
        check_error(c, expr, err.text);
        return;
    }
    if (has_expect(c, EXPECT_FAIL))
        fail(c, expr, "", "expected an error but got none");
    check_annotations(c, expr, r);
    if (!c->failed)
        compare_result(c, expr, r, seen);
    bool scalar = r->type == PQL_SCALAR;
    pql_result_free(r);
    if (c->instant && !c->no_range && !c->failed)
        run_in_range(c, expr, at, scalar, seen);
}

static const struct pql_features all_features = {.experimental_functions = true,
                                                 .binop_fill = true,
                                                 .extended_range = true,
                                                 .delayed_name_removal = true};

static void run_pinned(struct eval_cmd *c)
{
    const struct pql_expr *e = NULL;
    struct pql_expr *p;
    int64_t t = c->start;
    const int64_t times[] = {t ? -10 * t : -1000, 0, t ? t / 5 : 1000, t, 10 * t};
    struct nx_err err;
    struct buf b;

    if (pql_parse(c->a, c->expr, &all_features, &e, &err))
        return; /* it failed before, as it was expected to */
    if (!depends_on_time(e)) {
        buf_init(&b, 0);
        p = pinned(c->a, e, t);
        if (p)
            pql_print(&b, p);
        if (!p || buf_status(&b, &err))
            fail(c, c->expr, "", "out of memory");
        for (size_t i = 0; i < (t ? 5u : 3u) && !c->failed; i++)
            run_one(c, buf_view(&b), times[i]);
        buf_done(&b);
    }
    pql_expr_done(e);
}

static void eval_cmd_done(struct eval_cmd *c)
{
    for (size_t i = 0; i < c->n_expects; i++)
        regex_free(c->expects[i].re);
    arena_free(c->a);
}

static nx_status run_eval(struct script *s, struct nx_slice line, struct nx_err *err)
{
    struct eval_cmd c = {.s = s, .a = arena_new(0), .line = s->line};
    nx_status st = c.a ? parse_eval(&c, line, err) : nx_fail(err, NX_NOMEM, "running a script");

    if (st)
        goto done;
    teststore_met_unheld(s->store);
    if (!c.histograms)
        run_one(&c, c.expr, c.start);
    if (!c.histograms && c.instant && !c.failed)
        run_pinned(&c);
    if (teststore_met_unheld(s->store) || c.histograms) {
        s->skipped++; /* T3 */
    } else if (c.failed) {
        s->report(s->ctx, c.line, c.why ? c.why : "failed");
        s->failed++;
    } else {
        s->passed++;
    }

done:
    eval_cmd_done(&c);
    return st;
}

static nx_status run_command(struct script *s, struct nx_slice line, struct nx_err *err)
{
    if (starts_with(line, "load"))
        return run_load(s, line, err);
    if (starts_with(line, "eval"))
        return run_eval(s, line, err);
    if (!nx_slice_is(line, "clear"))
        return nx_fail(err, NX_BADINPUT, "invalid command \"%.*s\"", (int)line.len, line.ptr);
    teststore_clear(s->store);
    return NX_OK;
}

nx_status pql_run_script(struct nx_slice text, const char *name,
                         void (*report)(void *ctx, int line, const char *what), void *ctx,
                         unsigned *passed, unsigned *failed, unsigned *skipped, struct nx_err *err)
{
    return pql_run_script_with(0, 0, text, name, report, ctx, passed, failed, skipped, err);
}

nx_status pql_run_script_with(uint32_t helpers, uint32_t ahead_rows, struct nx_slice text,
                              const char *name,
                              void (*report)(void *ctx, int line, const char *what), void *ctx,
                              unsigned *passed, unsigned *failed, unsigned *skipped,
                              struct nx_err *err)
{
    const struct pql_engine_opts opts = {.timeout_ms = SCRIPT_TIMEOUT_MS,
                                         .max_samples = SCRIPT_MAX_SAMPLES,
                                         .helpers = helpers,
                                         .ahead_rows = ahead_rows,
                                         .features = all_features};
    struct script s = {.rest = text, .report = report, .ctx = ctx, .store = teststore_new()};
    nx_status st = s.store ? pql_engine_new(&s.engine, &opts, err)
                           : nx_fail(err, NX_NOMEM, "running %s", name);
    struct nx_err wrong;

    while (!st && s.rest.len) {
        size_t bytes;
        struct nx_slice line = peek_line(&s, &bytes);

        skip_line(&s, bytes);
        if (line.len && run_command(&s, line, &wrong)) {
            report(ctx, s.line, wrong.text);
            s.failed++;
            break; /* T4 */
        }
    }
    pql_engine_free(s.engine);
    teststore_free(s.store);
    if (st)
        return st;
    *passed = s.passed;
    *failed = s.failed;
    *skipped = s.skipped;
    return NX_OK;
}
