/* url.c - are these bytes a URL? As Go's net/url.Parse answers, with its words.
 *
 * RULES   L1  Only what a configuration can get wrong is looked at: control characters, the scheme,
 *             the host with its port and brackets, escapes. What is accepted keeps its text.
 *         L2  `shown` is the text with a password replaced by xxxxx. */
#include <string.h>

#include "src/base/text.h"
#include "src/config/decode.h"

struct url_try {
    struct nx_slice text;
    struct nx_err *err;
};

static nx_status bad(const struct url_try *t, const char *why, struct nx_slice quoted,
                     const char *after)
{
    char text[TEXT_QUOTED_BYTES], part[TEXT_QUOTED_BYTES];

    return nx_fail(t->err, NX_BADINPUT, "parse %s: %s%s%s", text_quoted(text, t->text), why,
                   quoted.ptr ? text_quoted(part, quoted) : "", after);
}

static const struct nx_slice nothing;

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* The bytes before the first ':' if they are a scheme; *rest what follows. */
static nx_status take_scheme(const struct url_try *t, struct nx_slice *scheme,
                             struct nx_slice *rest)
{
    *scheme = nx_slice_of("", 0);
    *rest = t->text;
    for (size_t i = 0; i < t->text.len; i++) {
        char c = t->text.ptr[i];

        if (is_alpha(c))
            continue;
        if (is_digit(c) || c == '+' || c == '-' || c == '.') {
            if (!i)
                return NX_OK;
            continue;
        }
        if (c != ':')
            return NX_OK;
        if (!i)
            return bad(t, "missing protocol scheme", nothing, "");
        *scheme = nx_slice_of(t->text.ptr, i);
        *rest = nx_slice_of(t->text.ptr + i + 1, t->text.len - i - 1);
        return NX_OK;
    }
    return NX_OK;
}

static nx_status check_escapes(const struct url_try *t, struct nx_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '%' && (i + 2 >= s.len || !is_hex(s.ptr[i + 1]) || !is_hex(s.ptr[i + 2])))
            return bad(t, "invalid URL escape ",
                       nx_slice_of(s.ptr + i, s.len - i > 3 ? 3 : s.len - i), "");
    }
    return NX_OK;
}

static nx_status check_port(const struct url_try *t, struct nx_slice port)
{
    for (size_t i = 1; i < port.len; i++) {
        if (!is_digit(port.ptr[i]))
            return bad(t, "invalid port ", port, " after host");
    }
    if (port.len && *port.ptr != ':')
        return bad(t, "invalid port ", port, " after host");
    return NX_OK;
}

static nx_status check_host(const struct url_try *t, struct nx_slice host)
{
    const char *colon;

    if (host.len && *host.ptr == '[') {
        const char *end = memrchr(host.ptr, ']', host.len);

        if (!end)
            return bad(t, "missing ']' in host", nothing, "");
        return check_port(t, nx_slice_of(end + 1, host.len - (size_t)(end + 1 - host.ptr)));
    }
    colon = memrchr(host.ptr, ':', host.len);
    if (colon && check_port(t, nx_slice_of(colon, host.len - (size_t)(colon - host.ptr))))
        return NX_BADINPUT;
    for (size_t i = 0; i < host.len; i++) {
        if ((unsigned char)host.ptr[i] < 0x80 && strchr(" \"<>\\^`{|}", host.ptr[i]))
            return bad(t, "invalid character ", nx_slice_of(host.ptr + i, 1), " in host name");
    }
    return check_escapes(t, host);
}

/* //user:password@host:port, up to the path. *secret is the password. */
static nx_status take_authority(const struct url_try *t, struct nx_slice rest,
                                struct nx_slice *host, struct nx_slice *secret)
{
    size_t len = 2;
    const char *at;

    while (len < rest.len && !strchr("/?#", rest.ptr[len]))
        len++;
    *host = nx_slice_of(rest.ptr + 2, len - 2);
    at = memrchr(host->ptr, '@', host->len);
    if (at) {
        struct nx_slice user = {host->ptr, (size_t)(at - host->ptr)};
        const char *colon = memchr(user.ptr, ':', user.len);

        for (size_t i = 0; i < user.len; i++) {
            if (!is_alpha(user.ptr[i]) && !is_digit(user.ptr[i]) &&
                !strchr("-._:~!$&'()*+,;=%@", user.ptr[i]))
                return bad(t, "net/url: invalid userinfo", nothing, "");
        }
        if (check_escapes(t, user))
            return NX_BADINPUT;
        if (colon)
            *secret = nx_slice_of(colon + 1, (size_t)(at - colon - 1));
        host->len -= (size_t)(at + 1 - host->ptr);
        host->ptr = at + 1;
    }
    return check_host(t, *host);
}

static nx_status split(const struct url_try *t, struct nx_slice *scheme, struct nx_slice *host,
                       struct nx_slice *secret)
{
    struct nx_slice rest, path;
    const char *slash, *colon;
    size_t n;

    for (size_t i = 0; i < t->text.len; i++) {
        if ((unsigned char)t->text.ptr[i] < 0x20 || t->text.ptr[i] == 0x7f)
            return bad(t, "net/url: invalid control character in URL", nothing, "");
    }
    if (take_scheme(t, scheme, &rest))
        return NX_BADINPUT;
    for (n = 0; n < rest.len && !strchr("?#", rest.ptr[n]);)
        n++;
    path = nx_slice_of(rest.ptr, n);
    if (path.len >= 2 && path.ptr[0] == '/' && path.ptr[1] == '/') {
        if (take_authority(t, path, host, secret))
            return NX_BADINPUT;
        path.len -= (size_t)(host->ptr + host->len - path.ptr);
        path.ptr = host->ptr + host->len;
    } else if (!scheme->len && path.len && *path.ptr != '/') {
        colon = memchr(path.ptr, ':', path.len);
        slash = memchr(path.ptr, '/', path.len);
        if (colon && (!slash || colon < slash))
            return bad(t, "first path segment in URL cannot contain colon", nothing, "");
    } else if (scheme->len && (!path.len || *path.ptr != '/')) {
        return NX_OK; /* opaque: mailto:x */
    }
    return check_escapes(t, path);
}

nx_status config_check_url(struct nx_slice text, struct nx_err *err)
{
    struct url_try t = {text, err};
    struct nx_slice scheme, host = {"", 0}, secret = {NULL, 0};

    return split(&t, &scheme, &host, &secret);
}

nx_status url_parse(struct arena *a, struct nx_slice text, struct config_url *out,
                    struct nx_err *err)
{
    struct url_try t = {text, err};
    struct nx_slice scheme = {"", 0}, host = {"", 0}, secret = {NULL, 0};
    struct config_url url = {.set = true};
    char *copy, *lower;

    if (split(&t, &scheme, &host, &secret))
        return NX_BADINPUT;
    copy = arena_strndup(a, text.ptr, text.len);
    lower = arena_strndup(a, scheme.ptr, scheme.len);
    url.host = nx_slice_of(arena_strndup(a, host.ptr, host.len), host.len);
    if (!copy || !lower || !url.host.ptr)
        return arena_failed(a, err);
    for (size_t i = 0; i < scheme.len; i++)
        lower[i] = lower[i] >= 'A' && lower[i] <= 'Z' ? (char)(lower[i] + 32) : lower[i];
    url.text = url.shown = nx_slice_of(copy, text.len);
    url.scheme = nx_slice_of(lower, scheme.len);
    if (secret.ptr) { /* L2 */
        size_t before = (size_t)(secret.ptr - text.ptr);
        size_t after = text.len - before - secret.len;
        char *shown = arena_printf(a, "%.*sxxxxx%.*s", (int)before, text.ptr, (int)after,
                                   secret.ptr + secret.len);

        if (!shown)
            return arena_failed(a, err);
        url.shown = nx_slice_of(shown, before + 5 + after);
    }
    *out = url;
    return NX_OK;
}
