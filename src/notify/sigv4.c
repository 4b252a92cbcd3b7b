/* sigv4.c - POSTs signed as AWS takes them: Signature Version 4.
 *
 * WHY     AWS knows who asks by a hash of the request, keyed by a secret that is not sent. libcurl signs, too
 *         (CURLOPT_AWS_SIGV4), but the path as it is sent, where AWS wants it escaped once more, and its releases differ in
 *         what of the head they sign.
 * SHAPE   The canonical request, the text to sign with its hash, and a chain of HMACs for the key, as AWS documents them
 *         for all of its services but S3.
 * RULES   V1  What is signed is what is sent: the URL's path has no empty part and no dots, and the Host line is ours.
 *         V2  Signed are Content-Type, Host and the X-Amz-* lines that are added here. What proxies may change is not. */
#include "src/notify/sigv4.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "src/base/hash.h"
#include "src/base/limits.h"
#include "src/base/text.h"
#include "src/scrape/scrape.h"

#define ALGORITHM  "AWS4-HMAC-SHA256"
#define LINE_BYTES (64u << 10)

void sigv4_init(struct sigv4_signed *s)
{
    buf_init(&s->url, NX_LIMIT_URL_BYTES);
    for (size_t i = 0; i < SIGV4_LINES; i++)
        buf_init(&s->lines[i], LINE_BYTES);
}

void sigv4_done(struct sigv4_signed *s)
{
    buf_done(&s->url);
    for (size_t i = 0; i < SIGV4_LINES; i++)
        buf_done(&s->lines[i]);
}

/* ---- the URL -------------------------------------------------------------------------------------------- */

struct place { /* borrowed from the URL */
    struct nx_slice scheme, host, path;
};

/* The host as libcurl and Go name it: without the user, and without a port that is the scheme's. */
static bool split(struct nx_slice url, struct place *out)
{
    const char *end = url.ptr + url.len, *at = memmem(url.ptr, url.len, "://", 3), *slash, *user;
    struct nx_slice host, port;

    if (!at)
        return false;
    out->scheme = nx_slice_of(url.ptr, (size_t)(at - url.ptr));
    at += 3;
    slash = memchr(at, '/', (size_t)(end - at));
    slash = slash ? slash : end;
    user = memrchr(at, '@', (size_t)(slash - at));
    at = user ? user + 1 : at;
    host = nx_slice_of(at, (size_t)(slash - at));
    port = nx_slice_is(out->scheme, "https") ? nx_slice_of(":443", 4) : nx_slice_of(":80", 3);
    if (host.len > port.len && !memcmp(host.ptr + host.len - port.len, port.ptr, port.len))
        host.len -= port.len;
    else if (host.len && host.ptr[host.len - 1] == ':')
        host.len--;
    out->host = host;
    out->path = nx_slice_of(slash, (size_t)(end - slash));
    return host.len > 0;
}

/* V1 */
static nx_status put_url(const struct place *p, struct nx_slice from, struct buf *path,
                         struct buf *url, struct nx_err *err)
{
    text_join_path(path, p->path);
    if (!path->len)
        buf_char(path, '/');
    buf_append(url, from.ptr, (size_t)(p->path.ptr - from.ptr));
    buf_slice(url, buf_view(path));
    (void)buf_cstr(url);
    return path->failed ? buf_status(path, err) : buf_status(url, err);
}

/* ---- hashes --------------------------------------------------------------------------------------------- */

static void hex_of(struct nx_slice s, char to[HASH_HEX_BYTES])
{
    uint8_t digest[HASH_SHA256_BYTES];

    hash_sha256(s.ptr, s.len, digest);
    hash_hex(to, digest);
}

static void chain(uint8_t key[HASH_SHA256_BYTES], struct nx_slice text)
{
    hash_hmac_sha256(key, HASH_SHA256_BYTES, text.ptr, text.len, key);
}

/* ---- signing -------------------------------------------------------------------------------------------- */

struct moment {
    char text[17]; /* 20150830T123600Z; its first eight are the day */
};

static struct moment moment_of(int64_t now_ms)
{
    time_t t = (time_t)(now_ms / 1000);
    struct moment m = {""};
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(m.text, sizeof m.text, "%Y%m%dT%H%M%SZ", &tm);
    return m;
}

static void canonical(struct buf *b, const struct sigv4_request *r, const struct sigv4_keys *keys,
                      const struct place *p, struct nx_slice path, const struct moment *now,
                      const char *names)
{
    char hash[HASH_HEX_BYTES];

    buf_str(b, "POST\n");
    text_url_escape(b, path, "/", false);
    buf_str(b, "\n\ncontent-type:"); /* an empty query */
    buf_slice(b, r->content_type);
    buf_str(b, "\nhost:");
    buf_slice(b, p->host);
    buf_printf(b, "\nx-amz-date:%s\n", now->text);
    if (keys->token.len) {
        buf_str(b, "x-amz-security-token:");
        buf_slice(b, keys->token);
        buf_char(b, '\n');
    }
    hex_of(r->body, hash);
    buf_printf(b, "\n%s\n%s", names, hash);
}

static nx_status sign(const struct sigv4_request *r, const struct sigv4_keys *keys,
                      struct nx_slice request, struct nx_slice scope, const struct moment *now,
                      char signature[HASH_HEX_BYTES], struct nx_err *err)
{
    uint8_t key[HASH_SHA256_BYTES];
    char hash[HASH_HEX_BYTES];
    struct buf b;
    nx_status st;

    hex_of(request, hash);
    buf_init(&b, LINE_BYTES);
    buf_str(&b, "AWS4");
    buf_slice(&b, keys->secret);
    hash_hmac_sha256(b.ptr, b.len, now->text, 8, key);
    st = buf_status(&b, err);
    chain(key, r->region);
    chain(key, r->service);
    chain(key, nx_slice_str("aws4_request"));
    buf_clear(&b);
    buf_printf(&b, ALGORITHM "\n%s\n", now->text);
    buf_slice(&b, scope);
    buf_printf(&b, "\n%s", hash);
    chain(key, buf_view(&b));
    hash_hex(signature, key);
    if (!st)
        st = buf_status(&b, err);
    buf_done(&b);
    return st;
}

static void put_line(struct buf *to, const char *name, struct nx_slice value)
{
    buf_str(to, name);
    buf_str(to, ": ");
    buf_slice(to, value);
    (void)buf_cstr(to);
}

static nx_status put_lines(const struct sigv4_keys *keys, const struct place *p,
                           const struct moment *now, struct buf *authorization,
                           struct sigv4_signed *out, struct nx_err *err)
{
    nx_status st = NX_OK;

    put_line(&out->lines[SIGV4_HOST], "Host", p->host);
    put_line(&out->lines[SIGV4_DATE], "X-Amz-Date", nx_slice_str(now->text));
    put_line(&out->lines[SIGV4_AUTHORIZATION], "Authorization", buf_view(authorization));
    if (keys->token.len)
        put_line(&out->lines[SIGV4_TOKEN], "X-Amz-Security-Token", keys->token);
    for (size_t i = 0; i < SIGV4_LINES && !st; i++)
        st = buf_status(&out->lines[i], err);
    return st;
}

nx_status sigv4_sign(const struct sigv4_request *r, const struct sigv4_keys *keys,
                     struct sigv4_signed *out, struct nx_err *err)
{
    const char *names = keys->token.len ? "content-type;host;x-amz-date;x-amz-security-token"
                                        : "content-type;host;x-amz-date";
    const struct moment now = moment_of(r->now_ms);
    char signature[HASH_HEX_BYTES] = "";
    struct buf path, request, scope, line;
    struct place p;
    nx_status st;

    sigv4_done(out); /* empties it */
    if (!split(r->url, &p))
        return nx_fail(err, NX_BADINPUT, "the URL has no host");
    buf_init(&path, NX_LIMIT_URL_BYTES);
    buf_init(&request, 0);
    buf_init(&scope, LINE_BYTES);
    buf_init(&line, LINE_BYTES);
    st = put_url(&p, r->url, &path, &out->url, err);
    canonical(&request, r, keys, &p, buf_view(&path), &now, names);
    buf_printf(&scope, "%.8s/", now.text);
    buf_slice(&scope, r->region);
    buf_char(&scope, '/');
    buf_slice(&scope, r->service);
    buf_str(&scope, "/aws4_request");
    if (!st)
        st = buf_status(&request, err);
    if (!st)
        st = buf_status(&scope, err);
    if (!st)
        st = sign(r, keys, buf_view(&request), buf_view(&scope), &now, signature, err);
    buf_str(&line, ALGORITHM " Credential=");
    buf_slice(&line, keys->access);
    buf_char(&line, '/');
    buf_slice(&line, buf_view(&scope));
    buf_printf(&line, ", SignedHeaders=%s, Signature=%s", names, signature);
    if (!st)
        st = buf_status(&line, err);
    if (!st)
        st = put_lines(keys, &p, &now, &line, out, err);
    buf_done(&path);
    buf_done(&request);
    buf_done(&scope);
    buf_done(&line);
    return st;
}

void sigv4_put(struct sigv4_signed *s, struct scrape_request *to, const char **headers)
{
    to->url = buf_cstr(&s->url);
    to->stay = true;
    to->headers = headers;
    for (size_t i = 0; i < SIGV4_LINES; i++)
        if (s->lines[i].len)
            headers[to->n_headers++] = buf_cstr(&s->lines[i]);
}
