/* aws_meta.c - keys of the container or the machine that we run on.
 *
 * SHAPE   A container has a URL in its environment that answers with keys, to who sends the token that is there, too. A
 *         machine (EC2) has a service at an address of its own: a token by PUT, the name of the machine's role, its keys.
 * RULES   B1  Asked directly, whatever proxies there are: what answers stands beside us.
 *         B2  The token in a file is read at each asking: whoever writes it changes it.
 * NOT     The machine's service without a token (version 1). */
#include "src/notify/aws.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/fs.h"
#include "src/scrape/scrape.h"

#define ANSWER_BYTES (64u << 10)
#define LINE_BYTES   (16u << 10)
#define ROLES_PATH   "/latest/meta-data/iam/security-credentials/"

struct meta {
    const struct aws_identity *id;
    struct scrape_client *client;
    struct scrape_request r; /* what all have */
};

/* One request; its answer, which must be a 200. */
static nx_status get(struct meta *m, const char *url, const char *header, struct buf *answer,
                     struct nx_err *err)
{
    struct scrape_answer a = {0};
    nx_status st;

    m->r.url = url;
    m->r.headers = &header;
    m->r.n_headers = header && *header;
    buf_clear(answer);
    st = scrape_client_ask(m->client, &m->r, &a, answer, err);
    m->r.headers = NULL;
    if (!st && a.code != 200)
        st = nx_fail(err, NX_UNAVAILABLE, "%s: %s", url, a.status);
    buf_trim_end(answer);
    return st;
}

/* ---- keys ----------------------------------------------------------------------------------------------- */

static nx_status take_text(json_t *o, const char *name, struct buf *to, struct nx_err *err)
{
    const char *s = json_string_value(json_object_get(o, name));

    if (!s || !*s || !aws_is_word(nx_slice_str(s)))
        return nx_fail(err, NX_CORRUPT, "%s in the answer is none", name);
    buf_str(to, s);
    return buf_status(to, err);
}

static bool has(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);

    return v && !json_is_null(v) && !(json_is_string(v) && !json_string_length(v));
}

/* Keys without a token and an end are there for good: who gives a container keys may have no others. */
nx_status aws_meta_keys(struct nx_slice json, struct aws_temporary *to, struct nx_err *err)
{
    json_t *o = json_loadb(json.ptr ? json.ptr : "", json.len, 0, NULL);
    const char *when = json_string_value(json_object_get(o, "Expiration"));
    struct aws_temporary t;
    nx_status st;

    aws_temporary_init(&t);
    st = take_text(o, "AccessKeyId", &t.access, err);
    if (!st)
        st = take_text(o, "SecretAccessKey", &t.secret, err);
    if (!st && has(o, "Token"))
        st = take_text(o, "Token", &t.token, err);
    if (!st && !t.token.len && !has(o, "Expiration"))
        t.ends_ms = INT64_MAX;
    else if (!st && (!when || !clock_parse_rfc3339(nx_slice_str(when), &t.ends_ms)))
        st = nx_fail(err, NX_CORRUPT, "Expiration in the answer is no time");
    json_decref(o);
    if (st) {
        aws_temporary_done(&t);
        return st;
    }
    aws_temporary_done(to);
    *to = t;
    return NX_OK;
}

/* ---- whom to ask ---------------------------------------------------------------------------------------- */

static nx_status of_container(struct meta *m, struct aws_temporary *to, struct nx_err *err)
{
    const struct aws_container *c = &m->id->container;
    struct buf header, token, answer;
    nx_status st = NX_OK;

    buf_init(&header, LINE_BYTES);
    buf_init(&token, LINE_BYTES);
    buf_init(&answer, ANSWER_BYTES);
    buf_slice(&token, c->token);
    if (c->token_file.len) { /* B2 */
        buf_clear(&token);
        st = fs_read_file(fs_real(), c->token_file.ptr, &token, err);
        buf_trim_end(&token);
    }
    for (size_t i = 0; i < token.len && !st; i++)
        if ((unsigned char)token.ptr[i] < ' ' || token.ptr[i] == 127)
            st = nx_fail(err, NX_BADINPUT, "the token of the container holds a control character");
    if (token.len) {
        buf_str(&header, "Authorization: ");
        buf_slice(&header, buf_view(&token));
    }
    if (!st)
        st = buf_status(&header, err);
    if (!st)
        st = get(m, c->url.ptr, buf_cstr(&header), &answer, err);
    if (!st)
        st = aws_meta_keys(buf_view(&answer), to, err);
    buf_done(&header);
    buf_done(&token);
    buf_done(&answer);
    return st;
}

static const char *url_of(struct buf *b, struct nx_slice begin, const char *path,
                          struct nx_slice end)
{
    buf_clear(b);
    buf_slice(b, begin);
    buf_str(b, path);
    buf_slice(b, end);
    return buf_cstr(b);
}

static nx_status of_machine(struct meta *m, struct aws_temporary *to, struct nx_err *err)
{
    const struct nx_slice base = m->id->machine_url, none = nx_slice_of("", 0);
    struct buf url, header, answer, role;
    nx_status st;

    buf_init(&url, LINE_BYTES);
    buf_init(&header, LINE_BYTES);
    buf_init(&answer, ANSWER_BYTES);
    buf_init(&role, ANSWER_BYTES);
    m->r.method = "PUT";
    st = get(m, url_of(&url, base, "/latest/api/token", none),
             "X-aws-ec2-metadata-token-ttl-seconds: 300", &answer, err);
    m->r.method = NULL;
    if (!st && !aws_is_word(buf_view(&answer)))
        st = nx_fail(err, NX_CORRUPT, "the machine's token is none");
    buf_str(&header, "X-aws-ec2-metadata-token: ");
    buf_slice(&header, buf_view(&answer));
    if (!st)
        st = buf_status(&header, err);
    if (!st)
        st = get(m, url_of(&url, base, ROLES_PATH, none), buf_cstr(&header), &role, err);
    if (!st && (!role.len || !aws_is_word(buf_view(&role))))
        st = nx_fail(err, NX_NOTFOUND, "the machine has no role");
    if (!st)
        st = get(m, url_of(&url, base, ROLES_PATH, buf_view(&role)), buf_cstr(&header), &answer,
                 err);
    if (!st)
        st = aws_meta_keys(buf_view(&answer), to, err);
    buf_done(&url);
    buf_done(&header);
    buf_done(&answer);
    buf_done(&role);
    return st;
}

nx_status aws_meta_ask(const struct aws_identity *id, const char *user_agent, int64_t timeout_ms,
                       const int *cancel, struct aws_temporary *to, struct nx_err *err)
{
    static const struct config_http direct = {.follow_redirects = false}; /* B1 */
    struct meta m = {
        .id = id,
        .r = {.user_agent = user_agent, .timeout_ms = timeout_ms, .cancel = cancel, .stay = true}};
    nx_status st = scrape_client_new(&m.client, &direct, err);

    if (!st && id->source == AWS_CONTAINER)
        st = of_container(&m, to, err);
    else if (!st)
        st = of_machine(&m, to, err);
    scrape_client_free(m.client);
    return st ? nx_context(err, id->source == AWS_CONTAINER ? "keys of the container"
                                                            : "keys of the machine (EC2)")
              : NX_OK;
}
