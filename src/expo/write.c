/* write.c - expositions out: our own /metrics and what other servers federate from us.
 *
 * RULES   R1  Text escapes a backslash and a newline in help; label values, and OpenMetrics help, a
 *             double quote too.
 *         R2  A name that is not legacy-valid is quoted inside the braces, as both 1.0.0 versions say. */
#include "src/expo/expo.h"

#include <string.h>

#include "src/base/num.h"

static void put_escaped(struct buf *b, struct nx_slice s, bool quotes)
{
    size_t from = 0;

    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c != '\\' && c != '\n' && !(quotes && c == '"'))
            continue;
        buf_append(b, s.ptr + from, i - from);
        buf_char(b, '\\');
        buf_char(b, c == '\n' ? 'n' : c);
        from = i + 1;
    }
    buf_append(b, s.ptr + from, s.len - from);
}

static void put_quoted(struct buf *b, struct nx_slice s)
{
    buf_char(b, '"');
    put_escaped(b, s, true);
    buf_char(b, '"');
}

static void put_value(struct buf *b, enum expo_format f, double v)
{
    char text[NUM_TEXT_BYTES];

    buf_append(b, text, f == EXPO_TEXT ? num_format_g(text, v) : num_format_om(text, v));
}

static void put_meta(struct buf *b, const char *word, struct nx_slice name)
{
    buf_str(b, "# ");
    buf_str(b, word);
    buf_char(b, ' ');
    if (metric_name_legacy_valid(name))
        buf_slice(b, name);
    else
        put_quoted(b, name);
    buf_char(b, ' ');
}

void expo_write_family(struct buf *b, enum expo_format f, const char *name, enum expo_type type,
                       const char *help)
{
    struct nx_slice family = nx_slice_str(name);
    const char *word = expo_type_text(type);

    if (f == EXPO_OPENMETRICS && type == EXPO_COUNTER && family.len > 6 &&
        memcmp(family.ptr + family.len - 6, "_total", 6) == 0)
        family.len -= 6;
    if (f == EXPO_TEXT) {
        if (type == EXPO_GAUGEHISTOGRAM)
            word = "histogram";
        else if (type == EXPO_INFO || type == EXPO_STATESET)
            word = "gauge";
        else if (type == EXPO_UNKNOWN)
            word = "untyped";
    }
    if (help) {
        put_meta(b, "HELP", family);
        put_escaped(b, nx_slice_str(help), f == EXPO_OPENMETRICS); /* R1 */
        buf_char(b, '\n');
    }
    put_meta(b, "TYPE", family);
    buf_str(b, word);
    buf_char(b, '\n');
}

void expo_write_sample(struct buf *b, enum expo_format f, const char *name, const char *suffix,
                       const struct expo_pair *pairs, size_t n, double value)
{
    buf_str(b, name);
    buf_str(b, suffix);
    for (size_t i = 0; i < n; i++) {
        buf_char(b, i == 0 ? '{' : ',');
        buf_str(b, pairs[i].name);
        buf_char(b, '=');
        put_quoted(b, nx_slice_str(pairs[i].value));
    }
    if (n)
        buf_char(b, '}');
    buf_char(b, ' ');
    put_value(b, f, value);
    buf_char(b, '\n');
}

void expo_write_series(struct buf *b, enum expo_format f, const struct labels *ls, double value,
                       bool has_ts, int64_t ts_ms)
{
    struct nx_slice name = labels_get_str(ls, LABEL_NAME);
    bool plain = metric_name_legacy_valid(name), any = false;

    if (plain) {
        buf_slice(b, name);
    } else { /* R2 */
        buf_char(b, '{');
        put_quoted(b, name);
        any = true;
    }
    for (uint32_t i = 0; i < ls->n; i++) {
        if (nx_slice_is(ls->v[i].name, LABEL_NAME))
            continue;
        buf_char(b, any ? ',' : '{');
        any = true;
        if (label_name_legacy_valid(ls->v[i].name))
            buf_slice(b, ls->v[i].name);
        else
            put_quoted(b, ls->v[i].name);
        buf_char(b, '=');
        put_quoted(b, ls->v[i].value);
    }
    if (any)
        buf_char(b, '}');
    buf_char(b, ' ');
    put_value(b, f, value);
    if (has_ts && f == EXPO_TEXT)
        buf_printf(b, " %lld", (long long)ts_ms);
    else if (has_ts)
        buf_printf(b, " %s%lld.%03lld", ts_ms < 0 ? "-" : "",
                   (long long)(ts_ms < 0 ? -(ts_ms / 1000) : ts_ms / 1000),
                   (long long)(ts_ms < 0 ? -(ts_ms % 1000) : ts_ms % 1000));
    buf_char(b, '\n');
}

void expo_write_end(struct buf *b, enum expo_format f)
{
    if (f == EXPO_OPENMETRICS)
        buf_str(b, "# EOF\n");
}

const char *expo_content_type(enum expo_format f)
{
    return f == EXPO_TEXT
               ? "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8"
               : "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8";
}
