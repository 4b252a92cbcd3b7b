/* direct_send.c - one delivery: a POST, or an email, as a handle of libcurl.
 *
 * RULES   S1  A URL may be a secret: what is told of it is its scheme and its host. An answer that repeats a part of it, as
 *             "Cannot POST /services/..." does, is not told.
 *         S2  4xx is final, but 408 and 429; 5xx and whatever is between us and the receiver may pass.
 *         S3  A name server that is silent holds nobody up (fetch.c, F7). Nor does a mail server that has taken a
 *             message and is slow to say goodbye: libcurl waits for that inside one call, for two minutes if nobody
 *             stops it. */
#include "src/notify/direct_send.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/fs.h"
#include "src/scrape/scrape.h"

#define SECRET_BYTES 65536u
#define BEARER       "Authorization: Bearer "
#define MOST_WAIT_S  3600
#define ANSWER_BYTES 2048u /* of an answer's body, for its words in the log */
#define GOODBYE_NS   500000000ll
#define LEAST_SECRET 6u /* bytes: shorter parts of a URL are words, as "hook" */

struct delivery {
    const struct message *message;
    struct scrape_client *client; /* of mail: for its TLS settings */
    struct config_http mail_http;
    struct scrape_request request;
    const char *header_v[3];
    CURL *mail_easy, *post_easy; /* the latter is the client's */
    curl_mime *mime;
    struct curl_slist *mail_headers, *rcpt;
    bool mail_sent;        /* the server asked for the message */
    int64_t mail_taken_ns; /* when it said that it has it; 0: not yet */
    char why[CURL_ERROR_SIZE];
    struct buf url, shown, secret, auth, body, answer;
};

void delivery_free(struct delivery *d)
{
    if (!d)
        return;
    scrape_client_free(d->client);
    if (d->mail_easy)
        curl_easy_cleanup(d->mail_easy);
    curl_mime_free(d->mime);
    curl_slist_free_all(d->mail_headers);
    curl_slist_free_all(d->rcpt);
    buf_done(&d->url);
    buf_done(&d->shown);
    buf_done(&d->secret);
    buf_done(&d->auth);
    buf_done(&d->body);
    buf_done(&d->answer);
    free(d);
}

/* ---- what it takes --------------------------------------------------------------------------------------- */

/* A secret of the file, or of one that it names. Only a password may hold blanks. */
static nx_status get_secret(struct nx_slice given, struct nx_slice file, bool password,
                            struct buf *to, struct nx_err *err)
{
    if (!file.len) {
        buf_slice(to, given);
    } else {
        nx_status st = fs_read_file(fs_real(), file.ptr, to, err);
        if (st)
            return st;
        buf_trim_end(to);
    }
    for (size_t i = 0; i < to->len; i++)
        if ((unsigned char)to->ptr[i] < ' ' + !password || to->ptr[i] == 127)
            return nx_fail(err, NX_BADINPUT, "the secret%s%s holds a blank or a control character",
                           file.len ? " in " : "", file.len ? file.ptr : "");
    if (!to->len)
        return nx_fail(err, NX_BADINPUT, "%s is empty", file.ptr);
    return buf_status(to, err);
}

/* S1 */
static nx_status set_shown(struct delivery *d, struct nx_err *err)
{
    const char *url = buf_cstr(&d->url), *host = strstr(url, "://"), *end, *at;

    if (!host || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0))
        return nx_fail(err, NX_BADINPUT, "the URL in %s is not an http or https URL",
                       d->message->notice->receiver->via->url_file.ptr);
    host += 3;
    end = host + strcspn(host, "/?#");
    at = memrchr(host, '@', (size_t)(end - host));
    buf_append(&d->shown, url, (size_t)(host - url));
    host = at ? at + 1 : host;
    buf_append(&d->shown, host, (size_t)(end - host));
    buf_cstr(&d->shown);
    return buf_status(&d->shown, err);
}

/* Its topic is the last part of ntfy's URL; JSON is taken at what is before. */
static nx_status cut_topic(struct delivery *d, struct nx_err *err)
{
    const char *slash = memrchr(d->url.ptr, '/', d->url.len);
    size_t at = slash ? (size_t)(slash - d->url.ptr) : 0;

    if (!slash || at + 1 == d->url.len || memchr(d->url.ptr, '?', d->url.len) || at < d->shown.len)
        return nx_fail(err, NX_BADINPUT, "the URL of ntfy at %s does not end in /TOPIC",
                       buf_cstr(&d->shown));
    buf_append(&d->secret, slash + 1, d->url.len - at - 1);
    d->url.len = at + 1;
    return NX_OK;
}

static size_t on_answer(char *bytes, size_t size, size_t n, void *arg)
{
    struct buf *b = arg;
    size_t room = b->limit_bytes - b->len;

    buf_append(b, bytes, size * n < room ? size * n : room);
    return size * n;
}

/* ---- a POST ------------------------------------------------------------------------------------------------- */

/* A POST, or a request for the token that it needs. */
static void is_begun(struct delivery *d, CURL *easy)
{
    if (scrape_client_asks_token(d->client))
        return;
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &d->answer);
    d->request.url = buf_cstr(&d->shown);
    d->post_easy = easy;
}

static nx_status begin_post(struct delivery *d, void **easy, struct nx_err *err)
{
    const struct config_notify_via *via = d->message->notice->receiver->via;
    enum config_notify_kind kind = d->message->notice->receiver->cfg->kind;
    size_t n = 0;
    nx_status st = get_secret(via->url.value, via->url_file, false, &d->url, err);

    if (!st)
        st = set_shown(d, err);
    if (!st && kind == CONFIG_NOTIFY_PAGERDUTY)
        st = get_secret(via->key.value, via->key_file, false, &d->secret, err);
    if (!st && kind == CONFIG_NOTIFY_NTFY)
        st = cut_topic(d, err);
    d->header_v[n++] = "Content-Type: application/json";
    if (!st && kind == CONFIG_NOTIFY_NTFY && (via->key.value.len || via->key_file.len)) {
        struct buf token;
        buf_init(&token, SECRET_BYTES);
        st = get_secret(via->key.value, via->key_file, false, &token, err);
        buf_str(&d->auth, BEARER);
        buf_slice(&d->auth, buf_view(&token));
        buf_done(&token);
        d->header_v[n++] = buf_cstr(&d->auth);
    }
    if (!st)
        st = message_json(d->message, buf_cstr(&d->secret), &d->body, err);
    if (!st)
        st = scrape_client_new(&d->client, &via->http, err);
    if (st)
        return st;
    d->request = (struct scrape_request){.url = buf_cstr(&d->url),
                                         .user_agent = "Narthex/" NX_VERSION,
                                         .form = buf_cstr(&d->body),
                                         .headers = d->header_v,
                                         .n_headers = n,
                                         .timeout_ms = via->timeout_ms};
    st = scrape_client_begin(d->client, &d->request, NULL, easy, err);
    if (!st)
        is_begun(d, *easy);
    return st;
}

nx_status delivery_next(struct delivery *d, int result, void **easy, struct nx_err *err)
{
    nx_status st;

    *easy = NULL;
    if (d->mail_easy)
        return NX_OK;
    st = scrape_client_next(d->client, &d->request, result, NULL, easy, err);
    if (!st && *easy)
        is_begun(d, *easy);
    return st;
}

/* ---- an email ------------------------------------------------------------------------------------------------ */

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory");
}

static nx_status add_line(struct curl_slist **list, const char *line, struct nx_err *err)
{
    struct curl_slist *more = curl_slist_append(*list, line);

    if (!more)
        return no_memory(err);
    *list = more;
    return NX_OK;
}

static bool add_part(curl_mime *to, struct nx_slice text, const char *type)
{
    curl_mimepart *p = curl_mime_addpart(to);

    return p && !curl_mime_data(p, text.ptr, text.len) && !curl_mime_type(p, type) &&
           !curl_mime_encoder(p, "quoted-printable");
}

/* Alternatives, the better one last. */
static nx_status add_bodies(struct delivery *d, const struct mail *mail, struct nx_err *err)
{
    static const char plain[] = "text/plain; charset=UTF-8", html[] = "text/html; charset=UTF-8";
    bool ok = true;

    d->mime = curl_mime_init(d->mail_easy);
    if (!d->mime)
        return no_memory(err);
    if (mail->text.len || !mail->html.len)
        ok = add_part(d->mime, mail->text, plain);
    if (mail->html.len)
        ok = ok && add_part(d->mime, mail->html, html);
    if (ok && add_line(&d->mail_headers, "Content-Type: multipart/alternative", err))
        return err->code;
    if (ok)
        ok = !curl_easy_setopt(d->mail_easy, CURLOPT_MIMEPOST, d->mime);
    return ok ? NX_OK : no_memory(err);
}

static nx_status mail_login(struct delivery *d, struct nx_err *err)
{
    const struct config_notify_via *via = d->message->notice->receiver->via;
    struct buf password;
    nx_status st;

    if (!via->auth_username.len)
        return NX_OK;
    buf_init(&password, SECRET_BYTES);
    st = get_secret(via->key.value, via->key_file, true, &password, err);
    if (!st) {
        curl_easy_setopt(d->mail_easy, CURLOPT_USERNAME, via->auth_username.ptr);
        curl_easy_setopt(d->mail_easy, CURLOPT_PASSWORD, buf_cstr(&password));
        if (via->auth_identity.len)
            curl_easy_setopt(d->mail_easy, CURLOPT_SASL_AUTHZID, via->auth_identity.ptr);
    }
    buf_done(&password);
    return st;
}

/* Each line that the server says. */
static size_t on_reply(char *line, size_t size, size_t n, void *arg)
{
    struct delivery *d = arg;

    if (size * n > 3 && d->mail_sent && !d->mail_taken_ns && *line == '2')
        d->mail_taken_ns = clock_mono_ns();
    d->mail_sent = d->mail_sent || (size * n > 3 && memcmp(line, "354", 3) == 0);
    return size * n;
}

/* S3: nothing is of interest after the message is taken. */
static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t e)
{
    const struct delivery *d = arg;

    (void)a, (void)b, (void)c, (void)e;
    return d->mail_taken_ns && clock_mono_ns() - d->mail_taken_ns > GOODBYE_NS;
}

static void mail_options(struct delivery *d, const struct mail *mail)
{
    const struct config_notify_via *via = d->message->notice->receiver->via;
    bool at_465 =
        via->smarthost.len > 4 && !strcmp(via->smarthost.ptr + via->smarthost.len - 4, ":465");
    bool at_once = via->implicit_tls == CONFIG_UNSET ? at_465 : via->implicit_tls == CONFIG_YES;
    CURL *e = d->mail_easy;

    buf_printf(&d->url, "%s://%s/%s", at_once ? "smtps" : "smtp", via->smarthost.ptr,
               via->hello.ptr);
    buf_str(&d->shown, via->smarthost.ptr);
    curl_easy_setopt(e, CURLOPT_URL, buf_cstr(&d->url));
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, d->why);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L); /* and so it says QUIT */
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)via->timeout_ms);
    curl_easy_setopt(e, CURLOPT_USE_SSL,
                     (long)(at_once || via->require_tls ? CURLUSESSL_ALL : CURLUSESSL_NONE));
    curl_easy_setopt(e, CURLOPT_MAIL_FROM, mail->from);
    curl_easy_setopt(e, CURLOPT_MAIL_RCPT, d->rcpt);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, &d->answer);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_reply);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, d);
    curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(e, CURLOPT_XFERINFODATA, d);
    scrape_client_secure(d->client, e);
}

static nx_status begin_mail(struct delivery *d, int64_t now_ms, uint64_t id, void **easy,
                            struct nx_err *err)
{
    struct mail mail = {0};
    nx_status st = message_mail(d->message, now_ms, id, &mail, err);

    d->mail_http.tls = d->message->notice->receiver->via->tls;
    if (!st)
        st = scrape_client_new(&d->client, &d->mail_http, err);
    if (!st && !(d->mail_easy = curl_easy_init()))
        st = no_memory(err);
    for (size_t i = 0; i < mail.n_headers && !st; i++)
        st = add_line(&d->mail_headers, mail.headers[i], err);
    for (size_t i = 0; i < mail.n_to && !st; i++)
        st = add_line(&d->rcpt, mail.to[i], err);
    if (!st)
        st = add_bodies(d, &mail, err);
    if (!st) {
        mail_options(d, &mail);
        curl_easy_setopt(d->mail_easy, CURLOPT_HTTPHEADER, d->mail_headers);
    }
    if (!st)
        st = mail_login(d, err);
    *easy = d->mail_easy;
    return st;
}

nx_status delivery_begin(struct delivery **out, const struct message *m, int64_t now_ms,
                         uint64_t id, void **easy, struct nx_err *err)
{
    struct delivery *d = calloc(1, sizeof *d);
    nx_status st;

    if (!d)
        return no_memory(err);
    d->message = m;
    buf_init(&d->url, SECRET_BYTES);
    buf_init(&d->shown, SECRET_BYTES);
    buf_init(&d->secret, SECRET_BYTES);
    buf_init(&d->auth, 2 * SECRET_BYTES);
    buf_init(&d->answer, ANSWER_BYTES);
    if (m->notice->receiver->cfg->kind == CONFIG_NOTIFY_EMAIL)
        st = begin_mail(d, now_ms, id, easy, err);
    else
        st = begin_post(d, easy, err);
    if (st) {
        delivery_free(d);
        return st;
    }
    *out = d;
    return NX_OK;
}

/* ---- what came of it ------------------------------------------------------------------------------------------ */

static bool holds(const struct buf *answer, const char *part, size_t len)
{
    return len >= LEAST_SECRET && memmem(answer->ptr, answer->len, part, len);
}

/* S1: whether an answer holds the key or the token, or a part of the URL that is not its host. */
static bool tells_secret(struct delivery *d)
{
    const char *at = strstr(buf_cstr(&d->url), "://"), *host, *end;

    if (holds(&d->answer, d->secret.ptr, d->secret.len) ||
        (d->auth.len &&
         holds(&d->answer, d->auth.ptr + strlen(BEARER), d->auth.len - strlen(BEARER))))
        return true;
    if (!at)
        return false;
    at += 3;
    end = at + strcspn(at, "/?#");
    host = memrchr(at, '@', (size_t)(end - at));
    host = host ? host + 1 : at;
    while (*at) {
        size_t len;
        at = at == host ? end : at;
        at += strspn(at, "/?#&=:@");
        len = strcspn(at, "/?#&=:@");
        if (at != host && holds(&d->answer, at, len))
            return true;
        at += at == host ? 0 : len;
    }
    return false;
}

/* Of the answer's body what fits a line. */
static void add_words(struct buf *b, struct delivery *d)
{
    const struct buf *answer = &d->answer;
    size_t n = answer->len < 200 ? answer->len : 200;

    if (n && tells_secret(d))
        return;
    if (n)
        buf_str(b, ": ");
    for (size_t i = 0; i < n; i++)
        buf_char(b, (unsigned char)answer->ptr[i] < ' ' ? ' ' : answer->ptr[i]);
}

/* Slack says 200 to some requests that it refuses. */
static bool says_not_ok(const struct delivery *d)
{
    json_t *o, *ok;
    bool no;

    if (d->message->notice->receiver->cfg->kind != CONFIG_NOTIFY_SLACK || !d->answer.len ||
        *d->answer.ptr != '{')
        return false;
    o = json_loadb(d->answer.ptr, d->answer.len, 0, NULL);
    ok = json_object_get(o, "ok");
    no = ok && !json_is_true(ok);
    json_decref(o);
    return no;
}

static enum delivered judge_post(struct delivery *d, int result, const char **reason,
                                 int64_t *wait_ms, struct nx_err *err)
{
    struct scrape_answer a = {0};
    curl_off_t after = 0;
    enum delivered how = DELIVERY_REFUSED;
    struct buf b;

    if (scrape_client_end(d->client, &d->request, result, &a, err)) {
        *reason = result == CURLE_OPERATION_TIMEDOUT ? "contextDeadlineExceeded" : "other";
        return DELIVERY_TRY_AGAIN;
    }
    if (a.code / 100 == 2 && !says_not_ok(d))
        return DELIVERED;
    if (a.code / 100 == 5 || a.code == 429 || a.code == 408)
        how = DELIVERY_TRY_AGAIN; /* S2 */
    *reason = a.code / 100 == 5 ? "serverError" : "clientError";
    if (!curl_easy_getinfo(d->post_easy, CURLINFO_RETRY_AFTER, &after) && after > 0)
        *wait_ms = after < MOST_WAIT_S ? (int64_t)after * 1000 : MOST_WAIT_S * 1000;
    buf_init(&b, 600);
    buf_printf(&b, "%s answered %s", buf_cstr(&d->shown), a.status);
    add_words(&b, d);
    nx_fail(err, NX_UNAVAILABLE, "%s", buf_cstr(&b));
    buf_done(&b);
    return how;
}

static enum delivered judge_mail(struct delivery *d, int result, const char **reason,
                                 struct nx_err *err)
{
    long code = 0;

    if (result == CURLE_OK || d->mail_taken_ns)
        return DELIVERED;
    curl_easy_getinfo(d->mail_easy, CURLINFO_RESPONSE_CODE, &code);
    nx_fail(err, NX_UNAVAILABLE, "%s: %s", buf_cstr(&d->shown),
            d->why[0] ? d->why : curl_easy_strerror((CURLcode)result));
    *reason = result == CURLE_OPERATION_TIMEDOUT ? "contextDeadlineExceeded"
              : code / 100 == 5                  ? "clientError"
              : code / 100 == 4                  ? "serverError"
                                                 : "other";
    return code / 100 == 5 || result == CURLE_USE_SSL_FAILED || result == CURLE_LOGIN_DENIED
               ? DELIVERY_REFUSED
               : DELIVERY_TRY_AGAIN;
}

enum delivered delivery_end(struct delivery *d, int result, const char **reason, int64_t *wait_ms,
                            struct nx_err *err)
{
    *wait_ms = 0;
    *reason = "other";
    return d->mail_easy ? judge_mail(d, result, reason, err)
                        : judge_post(d, result, reason, wait_ms, err);
}
