/* aws_session.c - keys in use: those of an identity, or temporary ones that AWS's security token service gave.
 *
 * SHAPE   One or two steps, each a POST to the service: a token of somebody else's for keys (AssumeRoleWithWebIdentity), and
 *         keys for those of a role (AssumeRole).
 * RULES   W1  Temporary keys are asked for anew half a minute before they end, five minutes where AWS has new ones by
 *             then. What fails then is tried again with the next request, and as long as they are good the old ones
 *             go on.
 *         W2  A file with a token is read at each asking: whoever writes it changes it. */
#include "src/notify/aws.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/fs.h"
#include "src/base/text.h"
#include "src/scrape/scrape.h"

#define VERSION       "2011-06-15"
#define EARLY_MS      30000
#define META_EARLY_MS 300000
#define SECONDS       900 /* that a role's keys are good */
#define ANSWER_BYTES  (1u << 20)
#define TOKEN_BYTES   (64u << 10)
#define FORM          "application/x-www-form-urlencoded"

struct aws_session {
    const struct aws_identity *id;
    const char *user_agent;
    struct scrape_client *client; /* to the service; NULL: not asked yet */
    struct aws_temporary own, role;
};
struct asking { /* of one aws_session_sign() */
    int64_t timeout_ms;
    const int *cancel;
};

void aws_temporary_init(struct aws_temporary *t)
{
    buf_init(&t->access, TOKEN_BYTES);
    buf_init(&t->secret, TOKEN_BYTES);
    buf_init(&t->token, TOKEN_BYTES);
    t->ends_ms = 0;
}

void aws_temporary_done(struct aws_temporary *t)
{
    buf_done(&t->access);
    buf_done(&t->secret);
    buf_done(&t->token);
}

struct aws_session *aws_session_new(const struct aws_identity *id, const char *user_agent)
{
    struct aws_session *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->id = id;
    s->user_agent = user_agent;
    aws_temporary_init(&s->own);
    aws_temporary_init(&s->role);
    return s;
}

void aws_session_free(struct aws_session *s)
{
    if (!s)
        return;
    scrape_client_free(s->client);
    aws_temporary_done(&s->own);
    aws_temporary_done(&s->role);
    free(s);
}

/* ---- the answer ----------------------------------------------------------------------------------------- */

static nx_status take_key(struct nx_slice xml, const char *name, struct buf *to, struct nx_err *err)
{
    nx_status st = aws_element(xml, name, to, err);

    if (!st && !aws_is_word(buf_view(to)))
        st = nx_fail(err, NX_CORRUPT, "%s in the answer is none", name);
    return !st && !to->len ? nx_fail(err, NX_CORRUPT, "%s in the answer is empty", name) : st;
}

static nx_status take_keys(struct nx_slice xml, struct aws_temporary *to, struct nx_err *err)
{
    struct aws_temporary t;
    struct buf when;
    nx_status st;

    aws_temporary_init(&t);
    buf_init(&when, 100);
    st = take_key(xml, "AccessKeyId", &t.access, err);
    if (!st)
        st = take_key(xml, "SecretAccessKey", &t.secret, err);
    if (!st)
        st = take_key(xml, "SessionToken", &t.token, err);
    if (!st)
        st = aws_element(xml, "Expiration", &when, err);
    if (!st && !clock_parse_rfc3339(buf_view(&when), &t.ends_ms))
        st = nx_fail(err, NX_CORRUPT, "Expiration in the answer is no time");
    if (!st) {
        aws_temporary_done(to);
        *to = t;
        aws_temporary_init(&t);
    }
    buf_done(&when);
    aws_temporary_done(&t);
    return st;
}

/* An answer that says no, in AWS's words as far as they are there. */
static nx_status refused(struct nx_slice xml, const char *status, struct nx_err *err)
{
    struct buf code, message;

    buf_init(&code, 200);
    buf_init(&message, 400);
    if (aws_element(xml, "Code", &code, NULL) || aws_element(xml, "Message", &message, NULL))
        nx_fail(err, NX_UNAVAILABLE, "%s", status);
    else
        nx_fail(err, NX_UNAVAILABLE, "%s, %s: %s", status, buf_cstr(&code), buf_cstr(&message));
    buf_done(&code);
    buf_done(&message);
    return NX_UNAVAILABLE;
}

/* ---- asking --------------------------------------------------------------------------------------------- */

static nx_status sign_with(const struct sigv4_keys *keys, const struct aws_identity *id,
                           struct nx_slice service, const char *url, struct nx_slice type,
                           struct nx_slice body, struct sigv4_signed *out, struct nx_err *err)
{
    const struct sigv4_request r = {.url = nx_slice_str(url),
                                    .content_type = type,
                                    .body = body,
                                    .region = id->region,
                                    .service = service,
                                    .now_ms = clock_now_ms()};

    return sigv4_sign(&r, keys, out, err);
}

/* `keys` NULL: unsigned. */
static nx_status post(struct aws_session *s, const struct asking *how, struct buf *form,
                      const struct sigv4_keys *keys, struct buf *answer, struct nx_err *err)
{
    const char *headers[1 + SIGV4_LINES] = {"Content-Type: " FORM};
    struct scrape_request r = {.url = s->id->sts_url,
                               .user_agent = s->user_agent,
                               .form = buf_cstr(form),
                               .headers = headers,
                               .n_headers = 1,
                               .stay = true,
                               .timeout_ms = how->timeout_ms,
                               .cancel = how->cancel};
    struct scrape_answer a = {0};
    struct sigv4_signed sig;
    nx_status st = buf_status(form, err);

    sigv4_init(&sig);
    if (!st && keys)
        st = sign_with(keys, s->id, nx_slice_str("sts"), r.url, nx_slice_str(FORM), buf_view(form),
                       &sig, err);
    if (!st && keys)
        sigv4_put(&sig, &r, headers);
    if (!st && !s->client)
        st = scrape_client_new(&s->client, NULL, err);
    if (!st)
        st = scrape_client_ask(s->client, &r, &a, answer, err);
    if (!st && a.code != 200)
        st = refused(buf_view(answer), a.status, err);
    sigv4_done(&sig);
    return st;
}

static void put(struct buf *form, const char *name, struct nx_slice value)
{
    buf_printf(form, "&%s=", name);
    text_url_escape(form, value, "", false);
}

static void begin_form(struct buf *form, const char *action, struct nx_slice role,
                       struct nx_slice session)
{
    buf_printf(form, "Action=%s&Version=" VERSION "&DurationSeconds=%d", action, SECONDS);
    put(form, "RoleArn", role);
    put(form, "RoleSessionName", session.len ? session : nx_slice_str("narthex"));
}

static nx_status ask(struct aws_session *s, const struct asking *how, const char *action,
                     struct buf *form, const struct sigv4_keys *keys, struct aws_temporary *to,
                     struct nx_err *err)
{
    struct buf answer;
    nx_status st;

    buf_init(&answer, ANSWER_BYTES);
    st = post(s, how, form, keys, &answer, err);
    if (!st)
        st = take_keys(buf_view(&answer), to, err);
    buf_done(&answer);
    return st ? nx_context(err, "operation error STS: %s", action) : NX_OK;
}

static nx_status ask_web(struct aws_session *s, const struct asking *how, struct nx_err *err)
{
    const struct aws_web_identity *w = &s->id->web;
    struct buf form, token;
    nx_status st;

    buf_init(&form, 4 * TOKEN_BYTES);
    buf_init(&token, TOKEN_BYTES);
    st = fs_read_file(fs_real(), w->token_file.ptr, &token, err); /* W2 */
    buf_trim_end(&token);
    begin_form(&form, "AssumeRoleWithWebIdentity", w->role_arn, w->session_name);
    put(&form, "WebIdentityToken", buf_view(&token));
    if (!st)
        st = ask(s, how, "AssumeRoleWithWebIdentity", &form, NULL, &s->own, err);
    buf_done(&form);
    buf_done(&token);
    return st;
}

static nx_status ask_role(struct aws_session *s, const struct asking *how,
                          const struct sigv4_keys *keys, struct nx_err *err)
{
    struct buf form;
    nx_status st;

    buf_init(&form, TOKEN_BYTES);
    begin_form(&form, "AssumeRole", s->id->role_arn, nx_slice_of("", 0));
    if (s->id->external_id.len)
        put(&form, "ExternalId", s->id->external_id);
    st = ask(s, how, "AssumeRole", &form, keys, &s->role, err);
    buf_done(&form);
    return st;
}

/* ---- keys ----------------------------------------------------------------------------------------------- */

static bool are_good(const struct aws_temporary *t, int64_t early_ms)
{
    return t->ends_ms && clock_now_ms() + early_ms < t->ends_ms;
}

static struct sigv4_keys keys_of(const struct aws_temporary *t)
{
    return (struct sigv4_keys){buf_view(&t->access), buf_view(&t->secret), buf_view(&t->token)};
}

/* W1. Those that a role is taken on with, if there is one. */
static nx_status own_keys(struct aws_session *s, const struct asking *how, struct sigv4_keys *out,
                          struct nx_err *err)
{
    nx_status st = NX_OK;

    if (s->id->source == AWS_KEYS) {
        *out = s->id->keys;
        return NX_OK;
    }
    if (s->id->source == AWS_WEB && !are_good(&s->own, EARLY_MS))
        st = ask_web(s, how, err);
    else if (s->id->source != AWS_WEB && !are_good(&s->own, META_EARLY_MS))
        st = aws_meta_ask(s->id, s->user_agent, how->timeout_ms, how->cancel, &s->own, err);
    if (st && !are_good(&s->own, 0))
        return st;
    *out = keys_of(&s->own);
    return NX_OK;
}

static nx_status get_keys(struct aws_session *s, const struct asking *how, struct sigv4_keys *out,
                          struct nx_err *err)
{
    struct sigv4_keys own;
    nx_status st = NX_OK;

    if (!s->id->role_arn.len)
        return own_keys(s, how, out, err);
    if (!are_good(&s->role, EARLY_MS)) {
        st = own_keys(s, how, &own, err);
        if (!st)
            st = ask_role(s, how, &own, err);
    }
    if (st && !are_good(&s->role, 0))
        return st;
    *out = keys_of(&s->role);
    return NX_OK;
}

nx_status aws_session_check(struct aws_session *s, int64_t timeout_ms, struct nx_err *err)
{
    const struct asking how = {timeout_ms, NULL};
    struct sigv4_keys unused;

    if (s->id->source != AWS_MACHINE || !own_keys(s, &how, &unused, err))
        return NX_OK;
    return nx_context(err, "could not get SigV4 credentials");
}

nx_status aws_session_sign(struct aws_session *s, const char *url, struct nx_slice content_type,
                           struct nx_slice body, int64_t timeout_ms, const int *cancel,
                           struct sigv4_signed *out, struct nx_err *err)
{
    const struct asking how = {timeout_ms, cancel};
    struct sigv4_keys keys;
    nx_status st = get_keys(s, &how, &keys, err);

    if (st)
        return nx_context(err, "error retrieving credentials");
    st = sign_with(&keys, s->id, s->id->service, url, content_type, body, out, err);
    return st ? nx_context(err, "failed to sign request") : NX_OK;
}
