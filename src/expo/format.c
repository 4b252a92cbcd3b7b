/* format.c - which parser a Content-Type asks for.
 *
 * RULES   F1  The media type decides; parameters (version, charset, escaping) must be well formed but
 *             do not matter: both versions of a format are read alike.
 *         F2  Without a usable header the configured fallback is taken, and without that the scrape
 *             fails: 3.x guesses nothing. */
#include "src/expo/expo.h"

#include <string.h>
#include <strings.h>

#include "src/base/text.h"

/* RFC 2045 token characters. */
static bool is_token_char(char c)
{
    return c > ' ' && c < 0x7f && !strchr("()<>@,;:\\\"/[]?=", c);
}

static struct nx_slice trim(struct nx_slice s)
{
    while (s.len && (*s.ptr == ' ' || *s.ptr == '\t'))
        s = nx_slice_of(s.ptr + 1, s.len - 1);
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

static size_t token_len(struct nx_slice s)
{
    size_t n = 0;

    while (n < s.len && is_token_char(s.ptr[n]))
        n++;
    return n;
}

/* Why a media type is none, as Go's mime package says; NULL if it is one. */
static const char *bad_media_type(struct nx_slice type)
{
    size_t n = token_len(type);
    struct nx_slice rest = nx_slice_of(type.ptr + n, type.len - n);

    if (n == 0)
        return "mime: no media type";
    if (rest.len == 0)
        return NULL;
    if (*rest.ptr != '/')
        return "mime: expected slash after first token";
    rest = nx_slice_of(rest.ptr + 1, rest.len - 1);
    n = token_len(rest);
    if (n == 0)
        return "mime: expected token after slash";
    return n == rest.len ? NULL : "mime: unexpected content after media subtype";
}

/* Walks `; name=value` parts; false if one is malformed. A lone semicolon at the end is fine. */
static bool params_ok(struct nx_slice s)
{
    while ((s = trim(s)).len) {
        size_t n;
        if (*s.ptr != ';')
            return false;
        s = trim(nx_slice_of(s.ptr + 1, s.len - 1));
        if (s.len == 0)
            return true;
        n = token_len(s);
        s = trim(nx_slice_of(s.ptr + n, s.len - n));
        if (n == 0 || s.len == 0 || *s.ptr != '=')
            return false;
        s = trim(nx_slice_of(s.ptr + 1, s.len - 1));
        if (s.len && *s.ptr == '"') {
            for (n = 1; n < s.len && s.ptr[n] != '"'; n++)
                if (s.ptr[n] == '\\')
                    n++;
            n = n < s.len ? n + 1 : 0;
        } else {
            n = token_len(s);
        }
        if (n == 0)
            return false;
        s = nx_slice_of(s.ptr + n, s.len - n);
    }
    return true;
}

static bool is_ignoring_case(struct nx_slice s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.ptr, word, s.len) == 0;
}

static bool fallback_format(struct nx_slice fallback, enum expo_format *out)
{
    bool om = fallback.len >= 11 && memcmp(fallback.ptr, "OpenMetrics", 11) == 0;

    *out = om ? EXPO_OPENMETRICS : EXPO_TEXT;
    return om || (fallback.len >= 14 && memcmp(fallback.ptr, "PrometheusText", 14) == 0);
}

nx_status expo_format_choose(struct nx_slice content_type, struct nx_slice fallback,
                             enum expo_format *out, struct nx_err *err)
{
    const char *semicolon =
        content_type.len ? memchr(content_type.ptr, ';', content_type.len) : NULL;
    size_t n = semicolon ? (size_t)(semicolon - content_type.ptr) : content_type.len;
    struct nx_slice type = trim(nx_slice_of(content_type.ptr, n));
    struct nx_slice params = nx_slice_of(content_type.ptr + n, content_type.len - n);
    char quoted[TEXT_QUOTED_BYTES];
    const char *why = NULL;

    if (content_type.len > 0) {
        why = bad_media_type(type);
        if (!why && !params_ok(params))
            why = "mime: invalid media parameter";
        if (!why && is_ignoring_case(type, "text/plain")) {
            *out = EXPO_TEXT;
            return NX_OK;
        }
        if (!why && is_ignoring_case(type, "application/openmetrics-text")) {
            *out = EXPO_OPENMETRICS;
            return NX_OK;
        }
    }
    if (fallback_format(fallback, out)) /* F2 */
        return NX_OK;
    if (content_type.len == 0)
        return nx_fail(err, NX_BADINPUT,
                       "non-compliant scrape target sending blank Content-Type and no "
                       "fallback_scrape_protocol "
                       "specified for target");
    if (why) {
        char after[128] = " and no fallback_scrape_protocol for target\n";
        strncat(after, why, sizeof after - strlen(after) - 1);
        return nx_fail(err, NX_BADINPUT, "cannot parse Content-Type %s%s",
                       text_quoted(quoted, content_type), after);
    }
    return nx_fail(
        err, NX_BADINPUT,
        "received unsupported Content-Type %s and no fallback_scrape_protocol specified for target",
        text_quoted(quoted, content_type));
}
