/* request.c - what others borrow of scraping: requests, one target's labels.
 *
 * WHY     Alertmanagers, `query`, `check healthy` and their kin take the same HTTP settings as a job, and
 *         `check` judges targets as a job would: there is one code for either. */
#include "src/scrape/scrape.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/text.h"
#include "src/scrape/fetch.h"
#include "src/scrape/target.h"
#include "src/scrape/token.h"

nx_status scrape_target_labels(const struct config_scrape *job, struct nx_slice address,
                               const struct labels *group, struct arena *a,
                               struct labels *discovered, struct labels *labels, struct nx_err *err)
{
    struct relabel_work work = {0};
    struct target_made made = {0};
    nx_status st = relabel_work_init(&work, err);

    if (!st)
        st = target_make(job, address, group, &work, a, &made, err);
    relabel_work_done(&work);
    *discovered = made.discovered;
    if (!st)
        *labels = made.all;
    return st;
}

struct scrape_client {
    struct fetch *f;
    struct fetch_client *c;
    struct token_ask *ask; /* under way; NULL: the request itself is */
};

nx_status scrape_client_new(struct scrape_client **out, const struct config_http *http,
                            struct nx_err *err)
{
    static const struct config_http plain = {
        .follow_redirects = true, .enable_http2 = true, .proxy.from_environment = true};
    struct scrape_client *c = calloc(1, sizeof *c);
    nx_status st = NX_OK;

    if (!c || !(c->f = fetch_new()))
        st = nx_fail(err, NX_NOMEM, "out of memory");
    else
        st = fetch_client_new(&c->c, http ? http : &plain, err);
    if (st) {
        scrape_client_free(c);
        return st;
    }
    *out = c;
    return NX_OK;
}

void scrape_client_free(struct scrape_client *c)
{
    if (!c)
        return;
    token_ask_free(c->ask);
    fetch_client_free(c->c);
    fetch_free(c->f);
    free(c);
}

static size_t take(char *bytes, size_t size, size_t n, void *arg)
{
    struct buf *b = arg;

    if (!b)
        return size * n;
    buf_append(b, bytes, size * n);
    return b->failed ? 0 : size * n;
}

/* Lines that are there from the client's settings come first. */
static nx_status add_lines(struct fetch *f, const char *const *v, size_t n, struct nx_err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct curl_slist *more = curl_slist_append(f->headers, v[i]);
        if (!more)
            return nx_fail(err, NX_NOMEM, "out of memory");
        f->headers = more;
    }
    return NX_OK;
}

static nx_status begin(struct fetch *f, struct fetch_client *c, const struct scrape_request *r,
                       struct buf *body, struct nx_err *err)
{
    static const char *const at_once[] = {
        "Expect:"}; /* a large form is sent without being asked for */
    const struct fetch_request fr = {.url = r->url,
                                     .user_agent = r->user_agent,
                                     .timeout_ms = r->timeout_ms,
                                     .cancel = r->cancel};
    nx_status st = fetch_begin(f, c, &fr, err);

    if (!st)
        st = add_lines(f, r->headers, r->n_headers, err);
    if (!st && r->form)
        st = add_lines(f, at_once, 1, err);
    if (st)
        return st;
    curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, f->headers);
    curl_easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(f->easy, CURLOPT_WRITEDATA, body);
    if (r->form)
        curl_easy_setopt(f->easy, CURLOPT_POSTFIELDS, r->form);
    if (r->method)
        curl_easy_setopt(f->easy, CURLOPT_CUSTOMREQUEST, r->method);
    if (r->stay)
        curl_easy_setopt(f->easy, CURLOPT_FOLLOWLOCATION, 0L);
    return NX_OK;
}

/* fetch_check() judges a scrape: here any status is an answer, and a POST is called one. */
static nx_status finish(const struct fetch *f, const struct scrape_request *r, struct nx_err *err)
{
    nx_status st;

    if (f->result == CURLE_OK)
        return NX_OK;
    if (f->result == CURLE_ABORTED_BY_CALLBACK)
        return nx_fail(err, NX_CANCELED, "context canceled");
    st = fetch_check(f, r->url, err);
    if (st && r->form && err && strncmp(err->text, "Get ", 4) == 0) {
        memmove(err->text + 5, err->text + 4, sizeof err->text - 5);
        err->text[sizeof err->text - 1] = '\0';
        memcpy(err->text, "Post ", 5);
    }
    return st;
}

nx_status scrape_client_ask(struct scrape_client *c, const struct scrape_request *r,
                            struct scrape_answer *out, struct buf *body, struct nx_err *err)
{
    struct fetch *f = c->f;
    nx_status st;

    if (fetch_client_needs_token(c->c))
        fetch_client_get_token(c->c, r->timeout_ms, r->cancel);
    fetch_clear(f);
    st = begin(f, c->c, r, body, err);
    if (st)
        return st;
    f->result = curl_easy_perform(f->easy);
    st = body ? buf_status(body, err) : NX_OK;
    return st ? st : scrape_client_end(c, r, (int)f->result, out, err);
}

static nx_status begin_itself(struct scrape_client *c, const struct scrape_request *r,
                              struct buf *body, void **easy, struct nx_err *err)
{
    nx_status st;

    fetch_clear(c->f);
    st = begin(c->f, c->c, r, body, err);
    *easy = st ? NULL : c->f->easy;
    return st;
}

nx_status scrape_client_begin(struct scrape_client *c, const struct scrape_request *r,
                              struct buf *body, void **easy, struct nx_err *err)
{
    if (!fetch_client_needs_token(c->c))
        return begin_itself(c, r, body, easy, err);
    token_ask_free(c->ask);
    c->ask = token_ask_new(fetch_client_token(c->c));
    return c->ask ? token_ask_begin(c->ask, r->timeout_ms, r->cancel, easy, err)
                  : nx_fail(err, NX_NOMEM, "out of memory");
}

nx_status scrape_client_next(struct scrape_client *c, const struct scrape_request *r, int result,
                             struct buf *body, void **easy, struct nx_err *err)
{
    *easy = NULL;
    if (!c->ask)
        return NX_OK;
    if (token_ask_end(c->ask, result))
        return token_ask_begin(c->ask, r->timeout_ms, r->cancel, easy, err);
    token_ask_free(c->ask);
    c->ask = NULL;
    return begin_itself(c, r, body, easy, err);
}

bool scrape_client_asks_token(const struct scrape_client *c)
{
    return c->ask != NULL;
}

nx_status scrape_client_end(struct scrape_client *c, const struct scrape_request *r, int result,
                            struct scrape_answer *out, struct nx_err *err)
{
    struct fetch *f = c->f;
    nx_status st;

    f->result = (CURLcode)result;
    st = finish(f, r, err);
    if (!st) {
        out->code = f->code;
        fetch_status(f, out->status);
    }
    return st;
}

void scrape_client_secure(const struct scrape_client *c, void *easy)
{
    fetch_client_secure(c->c, easy);
    fetch_leave_names_behind(easy);
}

nx_status scrape_request(const struct scrape_request *r, int *code, struct buf *body,
                         struct nx_err *err)
{
    struct scrape_client *c = NULL;
    struct scrape_answer answer = {0};
    nx_status st = scrape_client_new(&c, r->http, err);

    if (!st)
        st = scrape_client_ask(c, r, &answer, body, err);
    if (!st)
        *code = answer.code;
    scrape_client_free(c);
    return st;
}
