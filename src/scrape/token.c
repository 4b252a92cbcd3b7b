/* token.c - OAuth2 tokens by the client credentials grant (RFC 6749, 4.4).
 *
 * RULES   K1  The client's name and secret go in the Authorization header; a server that refuses that
 *             gets them in the form, and is remembered as one that wants it so.
 *         K2  A failure is kept only until the next request asks: then it is tried again.
 * NOT     The JWT bearer grant: says so when it is asked for. */
#include "src/scrape/token.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/fs.h"
#include "src/base/thread.h"
#include "src/scrape/fetch.h"

#define EARLY_NS     (10ll * 1000 * 1000 * 1000)
#define SECRET_BYTES (1u << 20)
#define UNLIMITED_NS INT64_MAX

struct token {
    const struct config_oauth2 *cfg;
    struct config_http http; /* how the token URL is asked */
    bool in_form;            /* K1; of token_get() alone */
    struct nx_mutex lock;
    struct buf header; /* under lock, as all below; empty: none */
    int64_t ends_mono_ns;
    struct buf why; /* of the last failure; empty: none */
};

nx_status token_new(struct token **out, const struct config_oauth2 *cfg, struct nx_err *err)
{
    struct token *t = calloc(1, sizeof *t);

    if (!t)
        return nx_fail(err, NX_NOMEM, "out of memory");
    t->cfg = cfg;
    t->http.tls = cfg->tls;
    t->http.proxy = cfg->proxy;
    t->http.follow_redirects = t->http.enable_http2 = true;
    nx_mutex_init(&t->lock, NX_RANK_STATS);
    buf_init(&t->header, SECRET_BYTES);
    buf_init(&t->why, NX_ERR_TEXT_BYTES);
    *out = t;
    return NX_OK;
}

void token_free(struct token *t)
{
    if (!t)
        return;
    buf_done(&t->header);
    buf_done(&t->why);
    nx_mutex_done(&t->lock);
    free(t);
}

bool token_needed(struct token *t)
{
    bool needed;

    nx_lock(&t->lock);
    needed = t->header.len == 0 ||
             (t->ends_mono_ns != UNLIMITED_NS && clock_mono_ns() + EARLY_NS > t->ends_mono_ns);
    nx_unlock(&t->lock);
    return needed;
}

nx_status token_header(struct token *t, struct buf *to, struct nx_err *err)
{
    nx_status st = NX_OK;

    nx_lock(&t->lock);
    if (t->header.len)
        buf_slice(to, buf_view(&t->header));
    else
        st = nx_fail(err, NX_UNAVAILABLE, "oauth2: cannot fetch token: %s",
                     t->why.len ? buf_cstr(&t->why) : "not asked yet");
    nx_unlock(&t->lock);
    return st;
}

/* ---- asking -------------------------------------------------------------------------------------- */

static void put_form(CURL *easy, struct buf *b, const char *name, struct nx_slice value)
{
    char *text = curl_easy_escape(easy, value.ptr, (int)value.len);

    if (!text) {
        b->failed = NX_NOMEM;
        return;
    }
    buf_printf(b, "%s%s=", b->len ? "&" : "", name);
    buf_str(b, text);
    curl_free(text);
}

static nx_status secret_of(const struct config_oauth2 *c, struct buf *to, struct nx_err *err)
{
    nx_status st = NX_OK;

    buf_slice(to, c->client_secret.value);
    if (c->client_secret_file.len) {
        buf_clear(to);
        st = fs_read_file(fs_real(), c->client_secret_file.ptr, to, err);
        buf_trim_end(to);
    }
    return st;
}

static void form_of(struct token *t, CURL *easy, struct nx_slice secret, struct buf *form)
{
    const struct config_oauth2 *c = t->cfg;
    struct buf scopes;

    put_form(easy, form, "grant_type", nx_slice_str("client_credentials"));
    buf_init(&scopes, SECRET_BYTES);
    for (size_t i = 0; i < c->scopes.n; i++) {
        if (i)
            buf_char(&scopes, ' ');
        buf_slice(&scopes, c->scopes.v[i]);
    }
    if (c->scopes.n)
        put_form(easy, form, "scope", buf_view(&scopes));
    for (size_t i = 0; i < c->endpoint_params.n; i++)
        put_form(easy, form, c->endpoint_params.v[i].name.ptr, c->endpoint_params.v[i].value);
    if (t->in_form) { /* K1 */
        put_form(easy, form, "client_id", c->client_id);
        put_form(easy, form, "client_secret", secret);
    }
    buf_done(&scopes);
}

struct token_ask {
    struct token *t;
    struct fetch *f;
    struct fetch_client *client;
    bool again; /* K1: it is the second time */
};

struct token_ask *token_ask_new(struct token *t)
{
    struct token_ask *a = calloc(1, sizeof *a);

    if (a)
        a->t = t;
    return a;
}

void token_ask_free(struct token_ask *a)
{
    if (!a)
        return;
    fetch_free(a->f);
    fetch_client_free(a->client);
    free(a);
}

/* One POST. */
static nx_status prepare(struct token *t, struct fetch *f, struct fetch_client *client,
                         int64_t timeout_ms, const int *cancel, struct nx_err *err)
{
    const struct fetch_request r = {.url = t->cfg->token_url.ptr,
                                    .user_agent = "Narthex/" NX_VERSION,
                                    .accept = "application/json",
                                    .timeout_ms = timeout_ms,
                                    .cancel = cancel};
    struct buf form, secret;
    nx_status st;

    buf_init(&form, SECRET_BYTES);
    buf_init(&secret, SECRET_BYTES);
    st = secret_of(t->cfg, &secret, err);
    if (!st)
        st = fetch_begin(f, client, &r, err);
    if (st)
        goto done;
    form_of(t, f->easy, buf_view(&secret), &form);
    st = buf_status(&form, err);
    if (st)
        goto done;
    if (curl_easy_setopt(f->easy, CURLOPT_COPYPOSTFIELDS, buf_cstr(&form)))
        st = nx_fail(err, NX_NOMEM, "out of memory");
    if (!t->in_form) {
        curl_easy_setopt(f->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(f->easy, CURLOPT_USERNAME, t->cfg->client_id.ptr);
        curl_easy_setopt(f->easy, CURLOPT_PASSWORD, buf_cstr(&secret));
    }

done:
    buf_done(&form);
    buf_done(&secret);
    return st;
}

nx_status token_ask_begin(struct token_ask *a, int64_t timeout_ms, const int *cancel, void **easy,
                          struct nx_err *err)
{
    const struct config_oauth2 *c = a->t->cfg;
    nx_status st = NX_OK;

    if (c->grant_type.len && !nx_slice_is(c->grant_type, "client_credentials"))
        return nx_fail(err, NX_BADINPUT, "grant type %.*s is not supported", (int)c->grant_type.len,
                       c->grant_type.ptr);
    if (!a->f && !(a->f = fetch_new()))
        return nx_fail(err, NX_NOMEM, "out of memory");
    if (!a->client)
        st = fetch_client_new(&a->client, &a->t->http, err);
    fetch_clear(a->f);
    if (!st)
        st = prepare(a->t, a->f, a->client, timeout_ms, cancel, err);
    if (!st)
        *easy = a->f->easy;
    return st;
}

/* Takes token_type, access_token and expires_in out of the answer. */
static nx_status keep_answer(struct token *t, const struct fetch *f, struct nx_err *err)
{
    json_t *j = json_loadb(f->body.ptr ? f->body.ptr : "", f->body.len, 0, NULL);
    const char *access = json_string_value(json_object_get(j, "access_token"));
    const char *type = json_string_value(json_object_get(j, "token_type"));
    double seconds = json_number_value(json_object_get(j, "expires_in"));
    nx_status st = NX_OK;

    if (!access || !*access) {
        st = nx_fail(err, NX_BADINPUT, "server response missing access_token");
    } else {
        bool bearer = !type || !*type || strcasecmp(type, "bearer") == 0;
        nx_lock(&t->lock);
        buf_clear(&t->header);
        buf_printf(&t->header, "%s %s", bearer ? "Bearer" : type, access);
        t->ends_mono_ns = seconds > 0 && seconds < 1e9 ? clock_mono_ns() + (int64_t)(seconds * 1e9)
                                                       : UNLIMITED_NS;
        buf_clear(&t->why);
        nx_unlock(&t->lock);
    }
    json_decref(j);
    return st;
}

static void keep_failure(struct token *t, const struct nx_err *err)
{
    nx_lock(&t->lock);
    buf_clear(&t->header);
    buf_clear(&t->why);
    buf_str(&t->why, err->text);
    nx_unlock(&t->lock);
}

bool token_ask_end(struct token_ask *a, int result)
{
    struct nx_err err = {0};
    nx_status st;

    a->f->result = (CURLcode)result;
    st = fetch_check(a->f, a->t->cfg->token_url.ptr, &err);
    if (st == NX_UNAVAILABLE && !a->again && a->f->code >= 400 && a->f->code < 500) { /* K1 */
        a->t->in_form = !a->t->in_form;
        a->again = true;
        return true;
    }
    if (!st)
        st = keep_answer(a->t, a->f, &err);
    if (st)
        keep_failure(a->t, &err);
    return false;
}

void token_get(struct token *t, int64_t timeout_ms, const int *cancel)
{
    struct token_ask *a = token_ask_new(t);
    struct nx_err err = {0};
    void *easy = NULL;
    nx_status st = a ? NX_OK : nx_fail(&err, NX_NOMEM, "out of memory");

    do {
        if (!st)
            st = token_ask_begin(a, timeout_ms, cancel, &easy, &err);
    } while (!st && token_ask_end(a, (int)curl_easy_perform(easy)));
    if (st)
        keep_failure(t, &err);
    token_ask_free(a);
}
