/* request.c - what tools borrow of scraping: one request, one target's labels.
 *
 * WHY     `query`, `check healthy` and their kin take the same HTTP settings as a job, and `check` judges
 *         targets as a job would: there is one code for either. */
#include "src/scrape/scrape.h"

#include <string.h>

#include "src/base/text.h"
#include "src/scrape/fetch.h"
#include "src/scrape/target.h"

nx_status scrape_target_labels(const struct config_scrape *job, struct nx_slice address,
                               const struct labels *group, struct arena *a,
                               struct labels *discovered, struct labels *labels, struct nx_err *err)
{
    struct target_scratch scratch = {0};
    struct target_made made = {0};
    nx_status st = target_scratch_init(&scratch, err);

    if (!st)
        st = target_make(job, address, group, &scratch, a, &made, err);
    target_scratch_done(&scratch);
    *discovered = made.discovered;
    if (!st)
        *labels = made.all;
    return st;
}

static size_t take(char *bytes, size_t size, size_t n, void *arg)
{
    struct buf *b = arg;

    buf_append(b, bytes, size * n);
    return b->failed ? 0 : size * n;
}

static nx_status ask(struct fetch *f, struct fetch_client *c, const struct scrape_request *r,
                     struct buf *body, struct nx_err *err)
{
    const struct fetch_request fr = {
        .url = r->url, .user_agent = r->user_agent, .timeout_ms = r->timeout_ms};
    nx_status st;

    if (fetch_client_needs_token(c))
        fetch_client_get_token(c, r->timeout_ms);
    st = fetch_begin(f, c, &fr, err);
    if (st)
        return st;
    for (size_t i = 0; i < r->n_headers; i++) {
        struct curl_slist *more = curl_slist_append(f->headers, r->headers[i]);
        if (!more)
            return nx_fail(err, NX_NOMEM, "out of memory");
        f->headers = more;
    }
    curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, f->headers);
    curl_easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(f->easy, CURLOPT_WRITEDATA, body);
    if (r->form)
        curl_easy_setopt(f->easy, CURLOPT_POSTFIELDS, r->form);
    f->result = curl_easy_perform(f->easy);
    st = buf_status(body, err);
    if (!st && f->result != CURLE_OK) {
        st = fetch_check(f, r->url, err);
        /* Its words are a GET's. */
        if (st && r->form && err && strncmp(err->text, "Get ", 4) == 0) {
            memmove(err->text + 5, err->text + 4, sizeof err->text - 5);
            err->text[sizeof err->text - 1] = '\0';
            memcpy(err->text, "Post ", 5);
        }
    }
    return st;
}

nx_status scrape_request(const struct scrape_request *r, int *code, struct buf *body,
                         struct nx_err *err)
{
    static const struct config_http plain = {
        .follow_redirects = true, .enable_http2 = true, .proxy.from_environment = true};
    struct fetch_client *c = NULL;
    struct fetch *f = fetch_new();
    nx_status st = f ? fetch_client_new(&c, r->http ? r->http : &plain, err)
                     : nx_fail(err, NX_NOMEM, "out of memory");

    if (!st)
        st = ask(f, c, r, body, err);
    if (!st)
        *code = f->code;
    fetch_client_free(c);
    fetch_free(f);
    return st;
}
