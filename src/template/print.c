#include "src/template/value.h"

/* print.c - values as text, as Go's fmt has it: Sprint, Sprintln, and Sprintf with its verbs, flags, widths
 * and the texts it puts where an argument does not fit its verb. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "src/base/num.h"
#include "src/base/text.h"

struct spec {
    char verb;
    bool minus, plus, sharp, space, zero, has_width, has_prec;
    int width, prec;
};

static void put_value(struct buf *b, const struct spec *s, const struct value *v, int depth);

/* Ends a buffer for a part of the text; its failure is that of the whole. */
static void spent(struct buf *whole, struct buf *part)
{
    if (part->failed && !whole->failed)
        whole->failed = part->failed;
    buf_done(part);
}

const char *value_type(const struct value *v)
{
    // clang-format off
    static const char *const names[] = {
        [V_NONE] = "<nil>", [V_BOOL] = "bool", [V_INT] = "int", [V_UINT8] = "uint8",
        [V_FLOAT] = "float64", [V_STRING] = "string", [V_HTML] = "template.HTML",
        [V_LABELS] = "map[string]string", [V_SAMPLE] = "*template.sample",
        [V_VECTOR] = "template.queryResult", [V_ARGS] = "map[string]interface {}",
        [V_TIME] = "*time.Time", [V_DURATION] = "*time.Duration", [V_MONTH] = "time.Month",
        [V_WEEKDAY] = "time.Weekday", [V_PAIRS] = "template.KV", [V_LIST] = "[]string",
        [V_NODE] = "template.Data",
        [V_DATA] = ("struct { Labels map[string]string; ExternalLabels map[string]string; "
                   "ExternalURL string; Value interface {} }"),
    };
    // clang-format on
    return v->kind == V_NODE && v->node->go ? v->node->go : names[v->kind];
}

bool value_truth(const struct value *v)
{
    switch (v->kind) {
    case V_NONE:
        return false;
    case V_BOOL:
        return v->b;
    case V_INT:
    case V_UINT8:
    case V_MONTH:
    case V_WEEKDAY:
        return v->i != 0;
    case V_FLOAT:
        return v->f != 0;
    case V_STRING:
    case V_HTML:
        return v->s.len > 0;
    case V_LABELS:
    case V_PAIRS:
        return v->labels.n > 0;
    case V_LIST:
        return v->list.n > 0;
    case V_NODE:
        return v->node->kind == TEMPLATE_RECORD || v->node->n_items > 0;
    case V_VECTOR:
        return v->vector->n > 0;
    case V_ARGS:
        return v->args.n > 0;
    default:
        return true;
    }
}

/* ---- times --------------------------------------------------------------------------------------- */

void print_time(struct buf *b, int64_t ns)
{
    int64_t s = ns / 1000000000, frac = ns % 1000000000;
    struct tm tm;
    time_t t;
    char digits[16];
    size_t n = 9;

    if (frac < 0) {
        frac += 1000000000;
        s--;
    }
    t = (time_t)s;
    gmtime_r(&t, &tm);
    buf_printf(b, "%04d-%02d-%02d %02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
               tm.tm_hour, tm.tm_min, tm.tm_sec);
    if (frac) {
        snprintf(digits, sizeof digits, "%09d", (int)frac);
        while (digits[n - 1] == '0')
            n--;
        buf_printf(b, ".%.*s", (int)n, digits);
    }
    buf_str(b, " +0000 UTC");
}

static void put_fraction(struct buf *b, uint64_t v, uint64_t unit, const char *name)
{
    char digits[24];
    size_t n = 0;

    buf_printf(b, "%llu", (unsigned long long)(v / unit));
    for (v %= unit; v && n < sizeof digits; n++) {
        unit /= 10;
        digits[n] = (char)('0' + v / unit);
        v %= unit;
    }
    if (n)
        buf_printf(b, ".%.*s", (int)n, digits);
    buf_str(b, name);
}

void print_duration(struct buf *b, int64_t ns)
{
    uint64_t u = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;

    if (ns < 0)
        buf_char(b, '-');
    if (!u) {
        buf_str(b, "0s");
    } else if (u < 1000) {
        buf_printf(b, "%lluns", (unsigned long long)u);
    } else if (u < 1000000) {
        put_fraction(b, u, 1000, "\xc2\xb5s");
    } else if (u < 1000000000) {
        put_fraction(b, u, 1000000, "ms");
    } else {
        uint64_t minutes = u / 60000000000u;
        if (minutes >= 60)
            buf_printf(b, "%lluh", (unsigned long long)(minutes / 60));
        if (minutes)
            buf_printf(b, "%llum", (unsigned long long)(minutes % 60));
        put_fraction(b, u % 60000000000u, 1000000000, "s");
    }
}

/* ---- padding ------------------------------------------------------------------------------------- */

static size_t count_runes(struct nx_slice s)
{
    size_t n = 0;
    uint32_t c;

    for (size_t i = 0, len; i < s.len; i += len, n++)
        if (!(len = text_utf8_take(nx_slice_of(s.ptr + i, s.len - i), &c)))
            len = 1;
    return n;
}

static void put_padded(struct buf *b, const struct spec *s, struct nx_slice text)
{
    size_t n = s->has_width ? count_runes(text) : 0;
    size_t pad = s->has_width && (size_t)s->width > n ? (size_t)s->width - n : 0;

    for (size_t i = 0; !s->minus && i < pad; i++)
        buf_char(b, s->zero ? '0' : ' ');
    buf_slice(b, text);
    for (size_t i = 0; s->minus && i < pad; i++)
        buf_char(b, ' ');
}

/* A number's sign stays in front of the zeros. */
static void put_number(struct buf *b, const struct spec *s, const char *sign, const char *digits)
{
    char text[700];
    size_t len = strlen(sign) + strlen(digits), n;

    if (!s->zero || s->minus || !s->has_width || (size_t)s->width <= len) {
        struct spec plain = *s;
        plain.zero = false;
        snprintf(text, sizeof text, "%s%s", sign, digits);
        put_padded(b, &plain, nx_slice_str(text));
        return;
    }
    buf_str(b, sign);
    for (n = len; n < (size_t)s->width; n++)
        buf_char(b, '0');
    buf_str(b, digits);
}

/* ---- kinds --------------------------------------------------------------------------------------- */

static void put_bad_verb(struct buf *b, const struct spec *s, const struct value *v)
{
    struct spec plain = *s; /* flags and all, as in Go */

    plain.verb = 'v';
    buf_printf(b, "%%!%c(", s->verb);
    if (v->kind == V_NONE) {
        buf_str(b, "<nil>");
    } else {
        buf_printf(b, "%s=", value_type(v));
        put_value(b, &plain, v, 0);
    }
    buf_char(b, ')');
}

static void put_rune(struct buf *b, int64_t c)
{
    bool valid = c >= 0 && c <= 0x10ffff && !(c >= 0xd800 && c < 0xe000);

    text_utf8(b, valid ? (uint32_t)c : 0xfffd);
}

static void put_digits(struct buf *b, const struct spec *s, int64_t i, unsigned base, bool upper,
                       const char *prefix)
{
    char digits[600], sign[8];
    size_t at = sizeof digits - 1, least = s->has_prec ? (size_t)s->prec : 1;
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;

    digits[at] = 0;
    if (least > 500)
        least = 500;
    for (size_t n = 0; n < least || u; n++) {
        digits[--at] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
        u /= base;
    }
    snprintf(sign, sizeof sign, "%s%s", i < 0 ? "-" : s->plus ? "+" : s->space ? " " : "", prefix);
    if (s->has_prec) {
        struct spec plain = *s;
        plain.zero = false;
        put_number(b, &plain, sign, digits + at);
    } else {
        put_number(b, s, sign, digits + at);
    }
}

static void put_int(struct buf *b, const struct spec *s, const struct value *v)
{
    struct buf one;
    char text[24];

    switch (s->verb) {
    case 'v':
    case 'd':
        put_digits(b, s, v->i, 10, false, "");
        break;
    case 'b':
        put_digits(b, s, v->i, 2, false, s->sharp ? "0b" : "");
        break;
    case 'o':
        put_digits(b, s, v->i, 8, false, s->sharp ? "0" : "");
        break;
    case 'O':
        put_digits(b, s, v->i, 8, false, "0o");
        break;
    case 'x':
    case 'X':
        put_digits(b, s, v->i, 16, s->verb == 'X', !s->sharp ? "" : s->verb == 'x' ? "0x" : "0X");
        break;
    case 'c':
    case 'q':
        buf_init(&one, TEXT_MAX_BYTES);
        if (s->verb == 'q')
            buf_char(&one, '\'');
        put_rune(&one, v->i);
        if (s->verb == 'q')
            buf_char(&one, '\'');
        put_padded(b, s, buf_view(&one));
        spent(b, &one);
        break;
    case 'U':
        snprintf(text, sizeof text, "U+%04llX", (unsigned long long)v->i);
        put_padded(b, s, nx_slice_str(text));
        break;
    default:
        put_bad_verb(b, s, v);
    }
}

static void put_float(struct buf *b, const struct spec *s, const struct value *v)
{
    char text[700], format[16];
    char verb = s->verb == 'v' ? 'g' : s->verb == 'F' ? 'f' : s->verb;
    double abs = fabs(v->f);
    const char *sign = signbit(v->f) ? "-" : s->plus ? "+" : s->space ? " " : "";
    int prec = s->has_prec ? s->prec : 6;

    if (!verb || !strchr("efgEG", verb)) {
        put_bad_verb(b, s, v);
        return;
    }
    if (!isfinite(v->f)) {
        struct spec plain = *s;
        plain.zero = false;
        snprintf(text, sizeof text, "%s",
                 isnan(v->f) ? (s->plus    ? "+NaN"
                                : s->space ? " NaN"
                                           : "NaN")
                 : v->f > 0  ? (s->space && !s->plus ? " Inf" : "+Inf")
                             : "-Inf");
        put_padded(b, &plain, nx_slice_str(text));
        return;
    }
    if ((verb == 'g' || verb == 'G') && !s->has_prec) {
        text[num_format_g(text, abs)] = 0;
        for (char *p = text; verb == 'G' && *p; p++)
            *p = *p == 'e' ? 'E' : *p;
    } else {
        snprintf(format, sizeof format, "%%%s.*%c", s->sharp ? "#" : "", verb);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, format, prec > 300 ? 300 : prec, abs); /* one of five verbs */
#pragma GCC diagnostic pop
    }
    put_number(b, s, sign, text);
}

static struct nx_slice cut_runes(struct nx_slice s, const struct spec *spec)
{
    size_t at = 0;
    uint32_t c;

    if (!spec->has_prec)
        return s;
    for (int n = 0; n < spec->prec && at < s.len; n++) {
        size_t len = text_utf8_take(nx_slice_of(s.ptr + at, s.len - at), &c);
        at += len ? len : 1;
    }
    return nx_slice_of(s.ptr, at);
}

static void put_text(struct buf *b, const struct spec *s, struct nx_slice text,
                     const struct value *v)
{
    struct buf made;

    switch (s->verb) {
    case 'v':
    case 's':
        put_padded(b, s, cut_runes(text, s));
        return;
    case 'q':
        buf_init(&made, TEXT_MAX_BYTES);
        text = cut_runes(text, s);
        if (s->sharp && !memchr(text.ptr, '`', text.len)) {
            buf_char(&made, '`');
            buf_slice(&made, text);
            buf_char(&made, '`');
        } else {
            text_quote(&made, text);
        }
        break;
    case 'x':
    case 'X':
        buf_init(&made, TEXT_MAX_BYTES);
        if (s->has_prec && (size_t)s->prec < text.len)
            text.len = (size_t)s->prec;
        for (size_t i = 0; i < text.len; i++) {
            if (i && s->space)
                buf_char(&made, ' ');
            buf_printf(&made, s->verb == 'x' ? "%02x" : "%02X", (unsigned char)text.ptr[i]);
        }
        break;
    default:
        put_bad_verb(b, s, v);
        return;
    }
    put_padded(b, s, buf_view(&made));
    spent(b, &made);
}

static void put_labels(struct buf *b, const struct spec *s, const struct labels *ls)
{
    buf_str(b, "map[");
    for (uint32_t i = 0; i < ls->n; i++) {
        struct value k = value_string(ls->v[i].name), v = value_string(ls->v[i].value);
        if (i)
            buf_char(b, ' ');
        put_value(b, s, &k, 1);
        buf_char(b, ':');
        put_value(b, s, &v, 1);
    }
    buf_char(b, ']');
}

static void put_compound(struct buf *b, const struct spec *s, const struct value *v, int depth)
{
    struct value part;

    switch (v->kind) {
    case V_LABELS:
    case V_PAIRS:
        put_labels(b, s, &v->labels);
        break;
    case V_SAMPLE:
        buf_str(b, depth ? "{" : "&{");
        put_labels(b, s, &v->sample->labels);
        buf_char(b, ' ');
        part = value_float(v->sample->value);
        put_value(b, s, &part, 1);
        buf_char(b, '}');
        break;
    case V_VECTOR: /* of pointers: there are no addresses to show */
        buf_char(b, '[');
        for (size_t i = 0; i < v->vector->n; i++)
            buf_str(b, i ? " 0xc000000000" : "0xc000000000");
        buf_char(b, ']');
        break;
    case V_ARGS:
        buf_str(b, "map[");
        for (size_t i = 0; i < v->args.n; i++) {
            part = value_string(v->args.v[i].name);
            if (i)
                buf_char(b, ' ');
            put_value(b, s, &part, 1);
            buf_char(b, ':');
            put_value(b, s, v->args.v[i].value, 1);
        }
        buf_char(b, ']');
        break;
    case V_LIST:
    case V_NODE:
        buf_char(b, '[');
        for (size_t i = 0; i < notice_count(v); i++) {
            notice_item(v, i, &part);
            if (i)
                buf_char(b, ' ');
            put_value(b, s, &part, 1);
        }
        buf_char(b, ']');
        break;
    default:
        buf_char(b, '{');
        put_labels(b, s, v->data->labels);
        buf_char(b, ' ');
        put_labels(b, s, v->data->external_labels);
        buf_char(b, ' ');
        part = value_string(v->data->external_url);
        put_value(b, s, &part, 1);
        buf_char(b, ' ');
        part = value_float(v->data->value);
        put_value(b, s, &part, 1);
        buf_char(b, '}');
    }
}

/* What has a method String in Go. */
static bool named(struct buf *b, const struct value *v)
{
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"},
                             *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                              "Thursday", "Friday", "Saturday"};

    switch (v->kind) {
    case V_TIME:
        print_time(b, v->i);
        return true;
    case V_DURATION:
        print_duration(b, v->i);
        return true;
    case V_MONTH:
        buf_str(b, months[v->i - 1]);
        return true;
    case V_WEEKDAY:
        buf_str(b, days[v->i]);
        return true;
    default:
        return false;
    }
}

static void put_value(struct buf *b, const struct spec *s, const struct value *v, int depth)
{
    struct buf text;

    switch (v->kind) {
    case V_NONE:
        if (s->verb == 'v')
            put_padded(b, s, nx_slice_str("<nil>"));
        else
            put_bad_verb(b, s, v);
        return;
    case V_BOOL:
        if (s->verb == 'v' || s->verb == 't')
            put_padded(b, s, nx_slice_str(v->b ? "true" : "false"));
        else
            put_bad_verb(b, s, v);
        return;
    case V_INT:
    case V_UINT8:
        put_int(b, s, v);
        return;
    case V_FLOAT:
        put_float(b, s, v);
        return;
    case V_STRING:
    case V_HTML:
        put_text(b, s, v->s, v);
        return;
    case V_TIME:
    case V_DURATION:
    case V_MONTH:
    case V_WEEKDAY:
        if (s->verb && strchr("vsxXq", s->verb)) {
            buf_init(&text, TEXT_MAX_BYTES);
            named(&text, v);
            put_text(b, s, buf_view(&text), v);
            spent(b, &text);
        } else {
            put_int(b, s, v);
        }
        return;
    default:
        put_compound(b, s, v, depth);
    }
}

/* ---- Sprint, Sprintln ------------------------------------------------------------------------------ */

static const struct spec as_is = {.verb = 'v'};

static bool is_string(const struct value *v)
{
    return v->kind == V_STRING || v->kind == V_HTML;
}

void print_values(struct buf *b, const struct value *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i && !is_string(&v[i]) && !is_string(&v[i - 1]))
            buf_char(b, ' ');
        put_value(b, &as_is, &v[i], 0);
    }
}

void print_line(struct buf *b, const struct value *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_char(b, ' ');
        put_value(b, &as_is, &v[i], 0);
    }
    buf_char(b, '\n');
}

void print_result(struct buf *b, const struct value *v)
{
    if (v->kind == V_NONE)
        buf_str(b, "<no value>");
    else
        put_value(b, &as_is, v, 1); /* pointers are followed before */
}

/* ---- Sprintf ----------------------------------------------------------------------------------------- */

struct formatter {
    struct buf *b;
    const char *p, *end;
    const struct value *v;
    size_t n, at;
    bool reordered, good_index;
};

/* "[3]": which argument is next. */
static void take_index(struct formatter *f)
{
    const char *close;
    size_t n = 0;

    if (f->p >= f->end || *f->p != '[')
        return;
    f->reordered = true;
    close = memchr(f->p, ']', (size_t)(f->end - f->p));
    if (!close) {
        f->good_index = false;
        f->p++;
        return;
    }
    for (const char *d = f->p + 1; d < close; d++)
        n = *d >= '0' && *d <= '9' && n < 10000 ? n * 10 + (size_t)(*d - '0') : 100000;
    f->p = close + 1;
    if (n >= 1 && n <= f->n)
        f->at = n - 1;
    else
        f->good_index = false;
}

/* A width or precision: digits or '*'. False if there is none. */
static bool take_size(struct formatter *f, int *out, bool *bad)
{
    bool any = false;

    *out = 0;
    *bad = false;
    take_index(f);
    if (f->p < f->end && *f->p == '*') {
        const struct value *v = f->at < f->n ? &f->v[f->at] : NULL;
        f->p++;
        if (!v || v->kind != V_INT || v->i < -1000000 || v->i > 1000000) {
            *bad = true;
        } else {
            *out = (int)v->i;
        }
        f->at += v != NULL;
        return !*bad;
    }
    for (; f->p < f->end && *f->p >= '0' && *f->p <= '9'; f->p++, any = true)
        if ((*out = *out * 10 + (*f->p - '0')) > 100000)
            *out = 100000;
    return any;
}

static void take_flags(struct formatter *f, struct spec *s)
{
    for (; f->p < f->end; f->p++)
        switch (*f->p) {
        case '#':
            s->sharp = true;
            break;
        case '0':
            s->zero = true;
            break;
        case '+':
            s->plus = true;
            break;
        case '-':
            s->minus = true;
            break;
        case ' ':
            s->space = true;
            break;
        default:
            return;
        }
}

static void take_spec(struct formatter *f, struct spec *s)
{
    bool bad;

    take_flags(f, s);
    s->has_width = take_size(f, &s->width, &bad);
    if (bad)
        buf_str(f->b, "%!(BADWIDTH)");
    if (s->width < 0) {
        s->width = -s->width;
        s->minus = true;
    }
    if (f->p < f->end && *f->p == '.') {
        f->p++;
        s->has_prec = take_size(f, &s->prec, &bad);
        if (bad)
            buf_str(f->b, "%!(BADPREC)");
        if (!bad && (!s->has_prec || s->prec < 0)) {
            s->has_prec = s->prec >= 0;
            s->prec = 0;
        }
    }
    take_index(f);
    if (s->minus)
        s->zero = false;
}

/* A verb and its argument. */
static void put_verb(struct formatter *f, struct spec *s)
{
    uint32_t c;
    size_t len;

    if (f->p >= f->end) {
        buf_str(f->b, "%!(NOVERB)");
        return;
    }
    len = text_utf8_take(nx_slice_of(f->p, (size_t)(f->end - f->p)), &c);
    len = len ? len : 1;
    s->verb = len == 1 ? *f->p : '?';
    if (len == 1 && *f->p == '%') {
        buf_char(f->b, '%');
    } else if (!f->good_index) {
        buf_printf(f->b, "%%!%.*s(BADINDEX)", (int)len, f->p);
    } else if (f->at >= f->n) {
        buf_printf(f->b, "%%!%.*s(MISSING)", (int)len, f->p);
    } else if (s->verb == 'T') {
        put_padded(f->b, s, nx_slice_str(value_type(&f->v[f->at++])));
    } else {
        put_value(f->b, s, &f->v[f->at++], 0);
    }
    f->p += len;
}

void print_format(struct buf *b, struct nx_slice format, const struct value *v, size_t n)
{
    struct formatter f = {.b = b, .p = format.ptr, .end = format.ptr + format.len, .v = v, .n = n};

    while (f.p < f.end) {
        const char *percent = memchr(f.p, '%', (size_t)(f.end - f.p));
        struct spec s = {0};

        buf_append(b, f.p, (size_t)((percent ? percent : f.end) - f.p));
        if (!percent)
            break;
        f.p = percent + 1;
        f.good_index = true;
        take_spec(&f, &s);
        put_verb(&f, &s);
    }
    if (f.reordered || f.at >= n)
        return;
    buf_str(b, "%!(EXTRA ");
    for (size_t i = f.at; i < n; i++) {
        if (i > f.at)
            buf_str(b, ", ");
        if (v[i].kind == V_NONE) {
            buf_str(b, "<nil>");
            continue;
        }
        buf_printf(b, "%s=", value_type(&v[i]));
        put_value(b, &as_is, &v[i], 0);
    }
    buf_char(b, ')');
}
