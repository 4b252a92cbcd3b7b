/* parse.c - expositions from bytes to entries.
 *
 * WHY     A scrape is judged line by line and its error text is read by people who know it from
 *         Prometheus. So this scanner makes the tokens that Prometheus's makes, in the same states, and
 *         complains at the same byte; but it scans with plain loops, decodes no label and allocates
 *         nothing until a line is wrong.
 * SHAPE   lex_text() and lex_openmetrics() turn the bytes at x->at into one token, by x->state. The
 *         entry functions check the order of tokens. expo_try_*() take a whole line by comparison.
 * RULES   P1  body[len] is a newline. In text it belongs to the body (a last line without one is right);
 *             in OpenMetrics it is only a fence. So a scan for something that is not a newline, or up to
 *             one, needs no bound.
 *         P2  A token that fails leaves x->at at the first byte that did not fit: the error text quotes
 *             up to and with it.
 *         P3  The bytes of a label value or a quoted name may hold newlines in text (Prometheus's scanner
 *             allows it), so a line is known to be one only after its tokens were read.
 *         P4  expo_try_sample() never takes what expo_next() would refuse, and gives what it would give. */
#include "src/expo/expo.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/base/num.h"
#include "src/base/text.h"
#include "src/expo/number.h"

// clang-format off
#define TOKEN_LIST(X) \
    X(INVALID) X(EOF) X(LINEBREAK) X(HELP) X(TYPE) X(UNIT) X(EOFWORD) X(TEXT) X(COMMENT) X(MNAME) X(QSTRING) \
    X(BOPEN) X(BCLOSE) X(LNAME) X(LVALUE) X(COMMA) X(EQUAL) X(TIMESTAMP) X(VALUE)
// clang-format on
#define TOKEN_ENUM(name) TOK_##name,
enum token { TOKEN_LIST(TOKEN_ENUM) };
#undef TOKEN_ENUM
#define TOKEN_TEXT(name) [TOK_##name] = #name,
static const char *const token_texts[] = {TOKEN_LIST(TOKEN_TEXT)};
#undef TOKEN_TEXT

enum state {
    S_INIT,
    S_META1,
    S_META2,
    S_LABELS,
    S_LVALUE,
    S_VALUE,
    S_TIMESTAMP,
    S_EXEMPLAR,
    S_EVALUE,
    S_ETIMESTAMP
};

/* ---- tokens ---------------------------------------------------------------------------------- */

/* What a byte can be part of. */
enum { LETTER = 1, DIGIT = 2, COLON = 4, QUOTED_END = 8 };
// clang-format off
static const uint8_t classes[256] = {
    ['a' ... 'z'] = LETTER, ['A' ... 'Z'] = LETTER, ['_'] = LETTER, ['0' ... '9'] = DIGIT, [':'] = COLON,
    ['"'] = QUOTED_END, ['\\'] = QUOTED_END, ['\n'] = QUOTED_END,
};
// clang-format on

static bool is(char c, unsigned class)
{
    return classes[(unsigned char)c] & class;
}

static bool is_letter(char c) /* of a label name */
{
    return is(c, LETTER);
}

static bool is_digit(char c)
{
    return is(c, DIGIT);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static const char *skip_name(const char *p, bool colon)
{
    unsigned class = LETTER | DIGIT | (colon ? COLON : 0);

    while (is(*p, class))
        p++;
    return p;
}

static enum token take(struct expo *x, const char *to, enum state next, enum token t)
{
    x->at = to;
    x->state = (uint8_t)next;
    return t;
}

static enum token refuse(struct expo *x, const char *at)
{
    x->at = at < x->end ? at : x->end; /* P2 */
    return TOK_INVALID;
}

/* A string in quotes at x->at. The scan needs no bound: there is a newline at the end (P1). */
static enum token take_quoted(struct expo *x, bool newlines, enum state next, enum token t)
{
    const char *p = x->at + 1;

    for (;; p++) {
        while (!is(*p, QUOTED_END))
            p++;
        if (p >= x->end)
            break;
        if (*p == '"')
            return take(x, p + 1, next, t);
        if (*p == '\\' && (p + 1 >= x->end || *++p == '\n'))
            break;
        if (*p == '\n' && (!newlines || p + 1 >= x->end))
            break;
    }
    return refuse(x, p);
}

/* What stands between braces is alike in both formats and in exemplars. */
static enum token lex_in_braces(struct expo *x, bool exemplar, bool newlines)
{
    enum state here = exemplar ? S_EXEMPLAR : S_LABELS;

    switch (*x->at) {
    case '}':
        return take(x, x->at + 1, exemplar ? S_EVALUE : S_VALUE, TOK_BCLOSE);
    case '=':
        return take(x, x->at + 1, exemplar ? S_EVALUE : S_LVALUE, TOK_EQUAL);
    case ',':
        return take(x, x->at + 1, here, TOK_COMMA);
    case '"':
        return take_quoted(x, newlines, here, TOK_QSTRING);
    default:
        if (!is_letter(*x->at))
            return refuse(x, x->at);
        return take(x, skip_name(x->at, false), here, TOK_LNAME);
    }
}

static enum token lex_family_name(struct expo *x)
{
    if (*x->at == '"')
        return take_quoted(x, true, S_META2, TOK_MNAME);
    if (!is_letter(*x->at) && *x->at != ':')
        return refuse(x, x->at);
    return take(x, skip_name(x->at, true), S_META2, TOK_MNAME);
}

static enum token lex_series_start(struct expo *x)
{
    if (*x->at == '{')
        return take(x, x->at + 1, S_LABELS, TOK_BOPEN);
    if (!is_letter(*x->at) && *x->at != ':')
        return refuse(x, x->at);
    return take(x, skip_name(x->at, true), S_VALUE, TOK_MNAME);
}

static enum token lex_text_comment(struct expo *x)
{
    const char *p = x->at + 1;

    if (is_blank(*p)) {
        while (is_blank(*p))
            p++;
        if (x->end - p > 4 && (memcmp(p, "HELP", 4) == 0 || memcmp(p, "TYPE", 4) == 0)) {
            enum token t = *p == 'H' ? TOK_HELP : TOK_TYPE;
            p += 4;
            if (is_blank(*p)) {
                while (is_blank(*p))
                    p++;
                return take(x, p, S_META1, t);
            }
        }
    }
    p = memchr(p, '\n', (size_t)(x->end - p));
    return take(x, p ? p : x->end, S_INIT, TOK_COMMENT);
}

static enum token lex_text_value(struct expo *x)
{
    const char *p = x->at;

    if (*p == '{')
        return take(x, p + 1, S_LABELS, TOK_BOPEN);
    while (*p != '{' && !is_blank(*p) && *p != '\n' && *p != '\0')
        p++;
    if (p == x->at)
        return refuse(x, p);
    return take(x, p, S_TIMESTAMP, TOK_VALUE);
}

static enum token lex_text(struct expo *x)
{
    const char *p;

    if (x->state != S_META2)
        while (x->at < x->end && is_blank(*x->at))
            x->at++;
    if (x->at >= x->end)
        return TOK_EOF;
    x->start = x->at;
    switch (x->state) {
    case S_INIT:
        if (*x->at == '\n')
            return take(x, x->at + 1, S_INIT, TOK_LINEBREAK);
        if (*x->at == '#')
            return lex_text_comment(x);
        if (*x->at == '\0')
            return take(x, x->at + 1, S_INIT,
                        TOK_EOF); /* a NUL ends the text, as it does in Prometheus */
        return lex_series_start(x);
    case S_META1:
        return lex_family_name(x);
    case S_META2:
        p = memchr(x->at, '\n', (size_t)(x->end - x->at)); /* is there: P1 */
        return take(x, p, S_INIT, TOK_TEXT);
    case S_LABELS:
        return lex_in_braces(x, false, true);
    case S_LVALUE:
        return *x->at == '"' ? take_quoted(x, true, S_LABELS, TOK_LVALUE) : refuse(x, x->at);
    case S_VALUE:
        return lex_text_value(x);
    default: /* S_TIMESTAMP */
        if (*x->at == '\n')
            return take(x, x->at + 1, S_INIT, TOK_LINEBREAK);
        for (p = x->at; is_digit(*p);)
            p++;
        return p == x->at ? refuse(x, p) : take(x, p, S_TIMESTAMP, TOK_TIMESTAMP);
    }
}

static enum token lex_openmetrics_comment(struct expo *x)
{
    static const struct {
        const char *word;
        enum token t;
    } words[] = {
        {"HELP ", TOK_HELP}, {"TYPE ", TOK_TYPE}, {"UNIT ", TOK_UNIT}, {"EOF", TOK_EOFWORD}};
    const char *p = x->at + 1, *furthest;

    if (p >= x->end || *p != ' ')
        return refuse(x, p);
    furthest = ++p;
    for (size_t i = 0; i < NX_COUNT(words); i++) {
        const char *w = words[i].word, *q = p;
        while (*w && q < x->end && *q == *w)
            q++, w++;
        if (!*w) {
            if (words[i].t == TOK_EOFWORD)
                return take(x, q < x->end && *q == '\n' ? q + 1 : q, S_INIT, TOK_EOFWORD);
            return take(x, q, S_META1, words[i].t);
        }
        if (q > furthest)
            furthest = q;
    }
    return refuse(x, furthest);
}

/* One blank and what follows it up to a blank or newline. */
static enum token lex_spaced(struct expo *x, enum state next, enum token t)
{
    const char *p = x->at;

    if (*p != ' ')
        return refuse(x, p);
    for (p++; p < x->end && *p != ' ' && *p != '\n';)
        p++;
    return p == x->at + 1 ? refuse(x, p) : take(x, p, next, t);
}

static enum token lex_openmetrics_after_value(struct expo *x)
{
    const char *p = x->at;

    if (*p == '\n')
        return take(x, p + 1, S_INIT, TOK_LINEBREAK);
    if (x->end - p >= 3 && memcmp(p, " # ", 3) == 0) {
        if (p + 3 < x->end && p[3] == '{')
            return take(x, p + 4, S_EXEMPLAR, TOK_COMMENT);
        return refuse(x, p + 3);
    }
    return lex_spaced(x, S_TIMESTAMP, TOK_TIMESTAMP);
}

static enum token lex_openmetrics(struct expo *x)
{
    const char *p;

    if (x->at >= x->end)
        return TOK_EOF;
    x->start = x->at;
    switch (x->state) {
    case S_INIT:
        return *x->at == '#' ? lex_openmetrics_comment(x) : lex_series_start(x);
    case S_META1:
        return lex_family_name(x);
    case S_META2:
        if (*x->at != ' ')
            return refuse(x, x->at);
        p = memchr(x->at, '\n', (size_t)(x->end - x->at));
        return p ? take(x, p + 1, S_INIT, TOK_TEXT) : refuse(x, x->end);
    case S_LABELS:
        return lex_in_braces(x, false, true);
    case S_LVALUE:
        return *x->at == '"' ? take_quoted(x, false, S_LABELS, TOK_LVALUE) : refuse(x, x->at);
    case S_VALUE:
        if (*x->at == '{')
            return take(x, x->at + 1, S_LABELS, TOK_BOPEN);
        return lex_spaced(x, S_TIMESTAMP, TOK_VALUE);
    case S_TIMESTAMP:
        return lex_openmetrics_after_value(x);
    case S_EXEMPLAR:
        return lex_in_braces(x, true, false);
    case S_EVALUE:
        if (*x->at == '"')
            return take_quoted(x, false, S_EXEMPLAR, TOK_LVALUE);
        return lex_spaced(x, S_ETIMESTAMP, TOK_VALUE);
    default: /* S_ETIMESTAMP */
        if (*x->at == '\n')
            return take(x, x->at + 1, S_INIT, TOK_LINEBREAK);
        return lex_spaced(x, S_ETIMESTAMP, TOK_TIMESTAMP);
    }
}

static enum token lex(struct expo *x)
{
    return x->format == EXPO_TEXT ? lex_text(x) : lex_openmetrics(x);
}

/* ---- complaints ------------------------------------------------------------------------------ */

static struct nx_slice so_far(const struct expo *x)
{
    return nx_slice_of(x->entry, (size_t)(x->at - x->entry));
}

static struct nx_slice token_bytes(const struct expo *x)
{
    return nx_slice_of(x->start, (size_t)(x->at - x->start));
}

/* WHAT, got "TOKEN" ("KIND") while parsing: "LINE SO FAR" */
static nx_status unexpected(struct expo *x, const char *what, enum token got, struct nx_err *err)
{
    const char *to = x->at < x->end ? x->at + 1 : x->end;
    char token[TEXT_QUOTED_BYTES], line[TEXT_QUOTED_BYTES];

    text_quoted(token, nx_slice_of(x->start, (size_t)(to - x->start)));
    text_quoted(line, nx_slice_of(x->entry, (size_t)(to - x->entry)));
    return nx_fail(err, NX_BADINPUT, "%s, got %s (\"%s\") while parsing: %s", what, token,
                   token_texts[got], line);
}

/* BEFORE "QUOTED" AFTER, then another quoted part if there is one. */
static nx_status complain(struct nx_err *err, const char *before, struct nx_slice quoted,
                          const char *after)
{
    char text[TEXT_QUOTED_BYTES];

    return nx_fail(err, NX_BADINPUT, "%s%s%s", before, text_quoted(text, quoted), after);
}

/* Adds where it happened to a text that tells what. */
static nx_status at_line(const struct expo *x, struct nx_err *err)
{
    char before[512];

    snprintf(before, sizeof before, "%.*s while parsing: ", 400, err ? err->text : "");
    return complain(err, before, so_far(x), "");
}

static nx_status no_end(struct nx_err *err)
{
    return nx_fail(err, NX_BADINPUT, "data does not end with # EOF");
}

/* ---- TYPE, HELP, UNIT ------------------------------------------------------------------------ */

static const char *const type_texts[] = {
    [EXPO_UNKNOWN] = "unknown",
    [EXPO_COUNTER] = "counter",
    [EXPO_GAUGE] = "gauge",
    [EXPO_HISTOGRAM] = "histogram",
    [EXPO_GAUGEHISTOGRAM] = "gaugehistogram",
    [EXPO_SUMMARY] = "summary",
    [EXPO_INFO] = "info",
    [EXPO_STATESET] = "stateset",
};

const char *expo_type_text(enum expo_type t)
{
    return (size_t)t < NX_COUNT(type_texts) ? type_texts[t] : "unknown";
}

static bool type_of(enum expo_format f, struct nx_slice s, enum expo_type *out)
{
    if (f == EXPO_TEXT && nx_slice_is(s, "untyped")) {
        *out = EXPO_UNKNOWN;
        return true;
    }
    for (size_t i = 0; i < NX_COUNT(type_texts); i++) {
        bool here = f == EXPO_OPENMETRICS || i == EXPO_COUNTER || i == EXPO_GAUGE ||
                    i == EXPO_HISTOGRAM || i == EXPO_SUMMARY;
        if (here && nx_slice_is(s, type_texts[i])) {
            *out = (enum expo_type)i;
            return true;
        }
    }
    return false;
}

static nx_status check_unit(const struct expo_entry *e, struct nx_err *err)
{
    struct nx_slice m = e->name, u = e->text;
    char unit[TEXT_QUOTED_BYTES], metric[TEXT_QUOTED_BYTES];

    if (u.len == 0 || (m.len > u.len && memcmp(m.ptr + m.len - u.len, u.ptr, u.len) == 0 &&
                       m.ptr[m.len - u.len - 1] == '_'))
        return NX_OK;
    return nx_fail(err, NX_BADINPUT, "unit %s not a suffix of metric %s", text_quoted(unit, u),
                   text_quoted(metric, m));
}

static nx_status meta_name(struct expo *x, enum token kind, struct expo_entry *e,
                           struct nx_err *err)
{
    enum token t = lex(x);
    struct nx_slice name = token_bytes(x);
    char what[64];

    if (t != TOK_MNAME) {
        snprintf(what, sizeof what, "expected metric name after %s", token_texts[kind]);
        return unexpected(x, what, t, err);
    }
    if (name.len >= 2 && name.ptr[0] == '"')
        name = nx_slice_of(name.ptr + 1, name.len - 2);
    e->name = name;
    return NX_OK;
}

static nx_status meta_text(struct expo *x, enum token kind, struct expo_entry *e,
                           struct nx_err *err)
{
    enum token t = lex(x);
    struct nx_slice text = token_bytes(x);

    if (t != TOK_TEXT) {
        if (x->format == EXPO_OPENMETRICS)
            return nx_fail(err, NX_BADINPUT, "expected text in %s", token_texts[kind]);
        return nx_fail(err, NX_BADINPUT, "expected text in %s, got %s", token_texts[kind],
                       token_texts[t]);
    }
    if (x->format == EXPO_OPENMETRICS && text.len > 1)
        text.len--; /* its newline */
    e->text = text.len > 1 ? nx_slice_of(text.ptr + 1, text.len - 1) : nx_slice_of(text.ptr, 0);
    return NX_OK;
}

static nx_status next_meta(struct expo *x, enum token kind, struct expo_entry *e,
                           struct nx_err *err)
{
    nx_status st = meta_name(x, kind, e, err);

    if (!st)
        st = meta_text(x, kind, e, err);
    if (st)
        return st;
    e->kind = kind == TOK_HELP ? EXPO_HELP : kind == TOK_TYPE ? EXPO_TYPE : EXPO_UNIT;
    if (e->kind == EXPO_TYPE) {
        if (!type_of(x->format, e->text, &e->type))
            return complain(err, "invalid metric type ", e->text, "");
        x->type = e->type;
    } else if (e->kind == EXPO_HELP && !utf8_valid(e->text)) {
        return complain(err, "help text ", e->text, " is not a valid utf8 string");
    }
    if (x->format == EXPO_TEXT) {
        enum token t = lex(x);
        if (t != TOK_LINEBREAK)
            return unexpected(x, "linebreak expected after metadata", t, err);
    }
    return e->kind == EXPO_UNIT ? check_unit(e, err) : NX_OK;
}

/* UTF-8? Nearly all texts are ASCII. */
static bool text_ok(struct nx_slice s)
{
    const char *p = s.ptr, *end = p + s.len;
    uint64_t word, high = 0;

    for (; end - p >= 8; p += 8) {
        memcpy(&word, p, 8);
        high |= word;
    }
    for (; p < end; p++)
        high |= (uint64_t)(*p & 0x80);
    return !(high & 0x8080808080808080ull) || utf8_valid(s);
}

/* ---- samples --------------------------------------------------------------------------------- */

/* `= "value"` and a comma if there is one; *t is the token after. */
static nx_status label_rest(struct expo *x, enum token *t, struct nx_err *err)
{
    if (*t != TOK_EQUAL)
        return unexpected(x, "expected equal", *t, err);
    *t = lex(x);
    if (*t != TOK_LVALUE)
        return unexpected(x, "expected label value", *t, err);
    if (!text_ok(token_bytes(x)))
        return complain(err, "invalid UTF-8 label value: ", token_bytes(x), "");
    *t = lex(x);
    if (*t == TOK_COMMA)
        *t = lex(x);
    else if (x->format == EXPO_OPENMETRICS && *t != TOK_BCLOSE)
        return unexpected(x, "expected comma or brace close", *t, err);
    return NX_OK;
}

/* From behind the opening brace to behind the closing one. A quoted string alone is the metric's name. */
static nx_status labels_in_braces(struct expo *x, bool *named, bool exemplar, struct nx_err *err)
{
    enum token t = lex(x);

    while (t != TOK_BCLOSE) {
        bool quoted = t == TOK_QSTRING;
        nx_status st;

        if (t != TOK_LNAME && !quoted)
            return unexpected(x, "expected label name", t, err);
        t = lex(x);
        if ((quoted || x->format == EXPO_OPENMETRICS) && (t == TOK_COMMA || t == TOK_BCLOSE)) {
            /* OpenMetrics in Prometheus takes an unquoted word here too, and cuts its ends; refused. */
            if (exemplar || !quoted)
                return unexpected(x, exemplar ? "expected label name" : "expected equal", t, err);
            if (*named)
                return complain(err, "metric name already set while parsing: ", so_far(x), "");
            *named = true;
            if (t == TOK_COMMA)
                t = lex(x);
            continue;
        }
        st = label_rest(x, &t, err);
        if (st)
            return st;
    }
    return NX_OK;
}

static nx_status text_timestamp(struct expo *x, struct expo_entry *e, struct nx_err *err)
{
    enum token t = lex(x);

    if (t == TOK_LINEBREAK)
        return NX_OK;
    if (t != TOK_TIMESTAMP)
        return unexpected(x, "expected timestamp or new record", t, err);
    if (!num_parse_i64(token_bytes(x), &e->ts_ms)) {
        complain(err, "strconv.ParseInt: parsing ", token_bytes(x), ": value out of range");
        return at_line(x, err);
    }
    e->has_ts = true;
    t = lex(x);
    return t == TOK_LINEBREAK ? NX_OK
                              : unexpected(x, "expected next entry after timestamp", t, err);
}

static int64_t to_ms(double seconds)
{
    seconds *= 1000;
    /* Beyond 64 bits Go's conversion gives the smallest number; so far from now all are refused alike. */
    return seconds >= -9.2e18 && seconds <= 9.2e18 ? (int64_t)seconds : INT64_MIN;
}

/* Seconds in the token at hand to milliseconds, towards zero. */
static nx_status float_timestamp(struct expo *x, const char *what, int64_t *ms, struct nx_err *err)
{
    struct nx_slice s = token_bytes(x);
    double seconds;

    if (number_parse(nx_slice_of(s.ptr + 1, s.len - 1), &seconds, err))
        return at_line(x, err);
    if (isnan(seconds) || isinf(seconds))
        return nx_fail(err, NX_BADINPUT, "invalid %s %s", what,
                       isnan(seconds) ? "NaN"
                       : seconds > 0  ? "+Inf"
                                      : "-Inf");
    *ms = to_ms(seconds);
    return NX_OK;
}

static nx_status openmetrics_value(struct expo *x, enum token t, const char *after, double *v,
                                   struct nx_err *err)
{
    struct nx_slice s = token_bytes(x);
    char what[64];

    if (t != TOK_VALUE) {
        snprintf(what, sizeof what, "expected value after %s", after);
        return unexpected(x, what, t, err);
    }
    return number_parse(nx_slice_of(s.ptr + 1, s.len - 1), v, err) ? at_line(x, err) : NX_OK;
}

/* From behind ` # {` to the end of the line. */
static nx_status skip_exemplar(struct expo *x, struct expo_entry *e, struct nx_err *err)
{
    const char *from = x->at - 1;
    bool named = false;
    double v;
    int64_t ms;
    nx_status st = labels_in_braces(x, &named, true, err);
    enum token t;

    if (!st)
        st = openmetrics_value(x, lex(x), "exemplar labels", &v, err);
    if (st)
        return st;
    t = lex(x);
    if (t == TOK_TIMESTAMP) {
        st = float_timestamp(x, "exemplar timestamp", &ms, err);
        if (st)
            return st;
        t = lex(x);
        if (t != TOK_LINEBREAK)
            return unexpected(x, "expected next entry after exemplar timestamp", t, err);
    }
    if (t == TOK_EOF)
        return no_end(err);
    if (t != TOK_LINEBREAK)
        return unexpected(x, "expected timestamp or comment", t, err);
    e->exemplar = nx_slice_of(from, (size_t)(x->at - 1 - from));
    return NX_OK;
}

static nx_status openmetrics_end_of_line(struct expo *x, struct expo_entry *e, struct nx_err *err)
{
    enum token t = lex(x);
    bool stamped = t == TOK_TIMESTAMP;
    nx_status st;

    if (stamped) {
        st = float_timestamp(x, "timestamp", &e->ts_ms, err);
        if (st)
            return st;
        e->has_ts = true;
        t = lex(x);
    }
    if (t == TOK_COMMENT)
        return skip_exemplar(x, e, err);
    if (t == TOK_LINEBREAK)
        return NX_OK;
    if (stamped)
        return unexpected(x, "expected next entry after timestamp", t, err);
    if (t == TOK_EOF)
        return no_end(err);
    /* Prometheus takes the sample and then stumbles over the rest as if it were the next line. */
    x->entry = x->at;
    return unexpected(x, "expected a valid start token", lex(x), err);
}

/* The value and what follows it; `t` is the token after the series. */
static nx_status value_and_rest(struct expo *x, enum token t, bool named, struct expo_entry *e,
                                struct nx_err *err)
{
    struct nx_slice s = token_bytes(x);

    if (!named)
        return complain(err, "metric name not set while parsing: ", so_far(x), "");
    if (x->format == EXPO_OPENMETRICS) {
        nx_status st = openmetrics_value(x, t, "metric", &e->value, err);
        e->prefix = nx_slice_of(x->entry, (size_t)(x->start + 1 - x->entry));
        return st ? st : openmetrics_end_of_line(x, e, err);
    }
    if (t != TOK_VALUE)
        return unexpected(x, "expected value after metric", t, err);
    if (number_scan(s.ptr, &e->value) != s.ptr + s.len && number_parse(s, &e->value, err))
        return at_line(x, err);
    e->prefix = nx_slice_of(x->entry, (size_t)(x->start - x->entry));
    return text_timestamp(x, e, err);
}

static nx_status next_series(struct expo *x, enum token t, struct expo_entry *e, struct nx_err *err)
{
    bool named = t == TOK_MNAME;
    nx_status st = NX_OK;

    if (named && x->start != x->entry) /* SCR-020: blanks would become part of the name */
        return complain(err, "invalid metric name or label names: ", so_far(x), "");
    e->kind = EXPO_SERIES;
    e->series = so_far(x);
    if (named)
        t = lex(x);
    if (t == TOK_BOPEN) {
        st = labels_in_braces(x, &named, false, err);
        if (st)
            return st;
        e->series = so_far(x);
        t = lex(x);
    }
    return value_and_rest(x, t, named, e, err);
}

/* ---- entries --------------------------------------------------------------------------------- */

void expo_init(struct expo *x, enum expo_format format, const char *body, size_t len)
{
    NX_ASSERT(body[len] == '\n'); /* P1 */
    *x = (struct expo){.base = body, .at = body, .start = body, .entry = body, .format = format};
    x->end = body + len + (format == EXPO_TEXT ? 1 : 0);
}

bool expo_at_line(const struct expo *x)
{
    return x->state == S_INIT && x->at < x->end;
}

static nx_status next_openmetrics(struct expo *x, enum token t, struct expo_entry *e,
                                  struct nx_err *err)
{
    switch (t) {
    case TOK_EOFWORD:
        if (lex(x) != TOK_EOF)
            return nx_fail(err, NX_BADINPUT, "unexpected data after # EOF");
        e->kind = EXPO_END;
        return NX_OK;
    case TOK_EOF:
        return no_end(err);
    case TOK_HELP:
    case TOK_TYPE:
    case TOK_UNIT:
        return next_meta(x, t, e, err);
    case TOK_MNAME:
    case TOK_BOPEN:
        return next_series(x, t, e, err);
    default:
        return unexpected(x, "expected a valid start token", t, err);
    }
}

static nx_status next_text(struct expo *x, enum token t, struct expo_entry *e, struct nx_err *err)
{
    switch (t) {
    case TOK_EOF:
        e->kind = EXPO_END;
        x->at = x->end;
        return NX_OK;
    case TOK_HELP:
    case TOK_TYPE:
        return next_meta(x, t, e, err);
    case TOK_COMMENT:
        e->kind = EXPO_COMMENT;
        e->text = token_bytes(x);
        t = lex(x);
        return t == TOK_LINEBREAK ? NX_OK
                                  : unexpected(x, "linebreak expected after comment", t, err);
    case TOK_MNAME:
    case TOK_BOPEN:
        return next_series(x, t, e, err);
    default:
        return unexpected(x, "expected a valid start token", t, err);
    }
}

nx_status expo_next(struct expo *x, struct expo_entry *e, struct nx_err *err)
{
    enum token t;
    nx_status st;

    *e = (struct expo_entry){0};
    do {
        x->entry = x->at;
        t = lex(x);
    } while (t == TOK_LINEBREAK && x->format == EXPO_TEXT);
    st = x->format == EXPO_TEXT ? next_text(x, t, e, err) : next_openmetrics(x, t, e, err);
    e->line = so_far(x);
    return st;
}

/* A plain decimal; NULL if it is anything else. */
static const char *scan_number(const struct expo *x, const char *p, double *v)
{
    return x->end - p >= NUMBER_AHEAD ? number_scan_ahead(p, v) : number_scan(p, v);
}

/* OpenMetrics' timestamp in seconds after one blank; NULL if it is anything but a plain decimal. */
static const char *scan_seconds(const struct expo *x, const char *p, int64_t *ms)
{
    double seconds;

    p = scan_number(x, p + 1, &seconds);
    if (p)
        *ms = to_ms(seconds);
    return p;
}

/* Digits of a text timestamp after one blank; NULL if it is anything else. */
static const char *scan_timestamp(const char *p, int64_t *ms)
{
    const char *first = ++p;
    int64_t v = 0;

    for (; is_digit(*p) && p - first < 18; p++)
        v = v * 10 + (*p - '0');
    *ms = v;
    return p == first ? NULL : p;
}

bool expo_try_value(struct expo *x, const char *value, struct expo_sample *out)
{
    const char *p;

    if (!is_blank(value[-1]) && value[-1] != '}')
        return false; /* `i-2` had the prefix `i`; `i1` is another name */
    p = scan_number(x, value, &out->value);
    if (!p || (*p != '\n' && *p != ' ')) {
        for (p = value; *p != '\n' && !is_blank(*p) && *p != '{' && *p != '\0';)
            p++;
        if (!num_parse(nx_slice_of(value, (size_t)(p - value)), &out->value, NULL))
            return false;
    }
    out->has_ts = false;
    if (*p == ' ') {
        p = x->format == EXPO_TEXT ? scan_timestamp(p, &out->ts_ms)
                                   : scan_seconds(x, p, &out->ts_ms);
        if (!p)
            return false;
        out->has_ts = true;
    }
    if (*p != '\n' || p >= x->end) /* P4: OpenMetrics needs its own newline, not the fence */
        return false;
    x->at = p + 1;
    return true;
}

bool expo_try_sample(struct expo *x, const char *prefix, size_t len, struct expo_sample *out)
{
    return (size_t)(x->end - x->at) > len && memcmp(x->at, prefix, len) == 0 &&
           expo_try_value(x, x->at + len, out);
}
