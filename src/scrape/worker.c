/* worker.c - from a finished transfer to a row.
 *
 * RULES   W1  Whatever happened, one row goes to the store: samples, or stale markers; and the reports.
 *         W2  A result is shown (health, last error) after its row is in.
 *         W3  A body that comes over a kept connection is read into the worker's own buffer: of a hundred
 *             works under way only those are in memory that are read or worked on, and the same lines of
 *             the cache serve one body after the other. A body that does not come at once keeps the
 *             buffer; the worker that has all of it gets it.
 *         W4  One worker at a time leads: it waits for connections and goes over what comes. The others
 *             sleep, since two that take turns would both wake for every few bodies. It gives the lead away
 *             before what may take long: many bodies at once, a large one, a work of the todo queue.
 * THREADS Each worker has its own scratch. Works come by the todo queue, or by epoll when a kept
 *         connection has bytes (asker.c); they go back by the done queue. */
#include "src/scrape/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/limits.h"
#include "src/base/log.h"
#include "src/base/text.h"
#include "src/scrape/wire.h"

#define KEEP_PLAIN_BYTES (1u << 20)
#define MOST_READY       8u           /* that the leader keeps for itself */
#define LARGE_BYTES      (256u << 10) /* of a body that the leader does not go over */
#define LARGE_GZIP_BYTES (16u << 10)  /* of one that is compressed: a tenth, or less */

struct worker {
    struct scrape *s;
    struct ingest_scratch scratch;
    struct expo_gunzip *gunzip;
    struct buf plain;               /* a body uncompressed */
    struct buf spare;               /* W3: for a body as it comes */
    bool leads;                     /* W4 */
    struct work *ready[MOST_READY]; /* their connections have bytes */
    unsigned n_ready, at_ready;
};

/* What one scrape came to. */
struct outcome {
    struct ingest_result res;
    struct nx_err err; /* of the scrape; text empty: it is fine */
    bool up, body_limit;
    int64_t body_bytes;
};

/* ---- reading ----------------------------------------------------------------------------------------- */

/* The body as it was before it was compressed: from *at on. */
static nx_status unpack(struct worker *k, const struct work *w, struct buf **body, size_t *at,
                        struct nx_err *err)
{
    const struct fetch *f = w->fetch;
    uint64_t limit = w->job->c->limits.body_size_bytes, room;
    nx_status st;

    *body = &w->fetch->body;
    *at = f->body_at;
    if (!f->gzip)
        return NX_OK;
    *body = &k->plain;
    *at = 0;
    buf_clear(&k->plain);
    /* A body of exactly the limit is too large (SCR-013). */
    k->plain.limit_bytes =
        limit && limit <= NX_LIMIT_SCRAPE_BODY_BYTES ? limit - 1 : NX_LIMIT_SCRAPE_BODY_BYTES;
    room = memory_room(k->s->opts.memory);
    if (room < NX_LIMIT_SCRAPE_BODY_BYTES)
        room += k->plain.cap + KEEP_PLAIN_BYTES;
    if (room < k->plain.limit_bytes)
        k->plain.limit_bytes = (size_t)room;
    st = expo_gunzip_run(k->gunzip, nx_slice_of(f->body.ptr + f->body_at, f->body.len - f->body_at),
                         &k->plain, err);
    if (st == NX_LIMIT && k->plain.limit_bytes == room)
        return nx_fail(
            err, NX_UNAVAILABLE,
            "no memory for the body: the limit of %llu bytes is reached (--memory.limit)",
            (unsigned long long)memory_limit(k->s->opts.memory));
    if (st == NX_LIMIT && limit)
        return nx_fail(err, NX_LIMIT, "body size limit exceeded");
    return st;
}

/* The fence that the parser wants behind the body. */
static nx_status put_fence(struct buf *body, size_t *len, struct nx_err *err)
{
    *len = body->len;
    body->limit_bytes = 0;
    buf_char(body, '\n');
    return buf_status(body, err);
}

static nx_status read_body(struct worker *k, const struct work *w, const struct ingest_target *t,
                           struct outcome *o)
{
    struct target *target = w->target;
    enum expo_format format;
    struct buf *body;
    size_t at, len;
    nx_status st;

    if (w->failed) {
        o->err = *w->failed;
        return o->err.code;
    }
    st = fetch_check(w->fetch, target->url, &o->err);
    if (!st)
        st = unpack(k, w, &body, &at, &o->err);
    o->body_limit = st == NX_LIMIT;
    if (!st)
        st = put_fence(body, &len, &o->err);
    if (st)
        return st;
    len -= at;
    o->body_bytes = (int64_t)len;
    if (len == 0) /* SCR-018 */
        return NX_OK;
    st = expo_format_choose(nx_slice_str(w->fetch->content_type), w->job->rules.fallback, &format,
                            &o->err);
    if (st)
        return st;
    o->up = true; /* a row was made; of what, the status tells */
    return ingest_body(&target->in, &k->s->env, t, format, body->ptr + at, len, w->t_ms,
                       &k->scratch, &o->res, &o->err);
}

static void fill_reports(const struct work *w, const struct outcome *o, double *v)
{
    v[REPORT_UP] = o->up ? 1 : 0;
    v[REPORT_DURATION] = (double)(clock_mono_ns() - w->begun_mono_ns) / 1e9;
    v[REPORT_SCRAPED] = o->res.scraped;
    v[REPORT_POST_RELABEL] = o->res.post_relabel;
    v[REPORT_ADDED] = o->up ? o->res.added : 0;
    v[REPORT_TIMEOUT] = (double)w->timeout_ms / 1000;
    v[REPORT_SAMPLE_LIMIT] = (double)w->job->rules.sample_limit;
    v[REPORT_BODY_BYTES] = o->body_limit ? -1 : (double)o->body_bytes;
}

/* ---- telling ----------------------------------------------------------------------------------------- */

static void warn_dropped(const struct work *w, const char *msg, uint32_t n)
{
    if (n)
        log_warn(msg, "scrape_pool", w->target->pool->name, "target", w->target->url, "num_dropped",
                 log_fmt("%u", n));
}

/* One JSON line in scrape_failure_log_file (SCR-097). Failures are rare: the file is opened for each. */
static void log_failure(const struct work *w, const char *why)
{
    struct nx_slice path = w->job->c->scrape_failure_log_file;
    char when[40];
    struct buf b;
    int fd;

    log_debug("Scrape failed", "scrape_pool", w->target->pool->name, "target", w->target->url,
              "err", why);
    if (path.len == 0)
        return;
    when[clock_format_rfc3339(when, clock_now_ns())] = '\0';
    buf_init(&b, 1u << 16);
    buf_printf(&b, "{\"time\":\"%s\",\"level\":\"ERROR\",\"msg\":", when);
    text_json(&b, nx_slice_str(why));
    buf_str(&b, ",\"job_name\":");
    text_json(&b, nx_slice_str(w->target->pool->name));
    buf_str(&b, ",\"target\":");
    text_json(&b, nx_slice_str(w->target->url));
    buf_str(&b, "}\n");
    fd = open(path.ptr, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, b.ptr, b.len) != (ssize_t)b.len)
        log_warn("Writing the scrape failure log failed", "file", path.ptr, "err",
                 log_fmt("errno %d", errno));
    if (fd >= 0)
        close(fd);
    buf_done(&b);
}

static void show(struct worker *k, const struct work *w, const struct outcome *o, double seconds)
{
    struct scrape *s = k->s;
    struct target *t = w->target;
    const struct ingest_result *r = &o->res;
    char *text = o->err.text[0] ? strdup(o->err.text) : NULL, *old;

    nx_lock(&s->status);
    old = t->last_error;
    t->last_error = text;
    t->health = o->up ? TARGET_UP : TARGET_DOWN;
    t->last_scrape_ms = w->t_ms;
    t->last_duration_s = seconds;
    s->count.out_of_order += r->out_of_order;
    s->count.duplicate_timestamp += r->duplicate;
    s->count.out_of_bounds += r->out_of_bounds;
    s->count.exemplar_out_of_order += r->exemplar_out_of_order;
    s->count.sample_limit += r->sample_limit;
    s->count.label_limits += r->label_limit;
    s->count.body_size_limit += o->body_limit;
    nx_unlock(&s->status);
    free(old);
}

static void tell(const struct work *w, const struct outcome *o, nx_status append,
                 const struct nx_err *append_err)
{
    warn_dropped(w, "Error on ingesting out-of-order samples", o->res.out_of_order);
    warn_dropped(w, "Error on ingesting samples with different value but same timestamp",
                 o->res.duplicate);
    warn_dropped(w, "Error on ingesting samples that are too old or are too far into the future",
                 o->res.out_of_bounds);
    warn_dropped(w, "Error on ingesting out-of-order exemplars", o->res.exemplar_out_of_order);
    if (append)
        log_error("Scrape commit failed", "scrape_pool", w->target->pool->name, "target",
                  w->target->url, "err", append_err->text);
    if (!o->up)
        log_failure(w, o->err.text);
}

/* ---- works ------------------------------------------------------------------------------------------- */

static void run_scrape(struct worker *k, struct work *w)
{
    struct target *target = w->target;
    const struct ingest_target t = {&w->job->rules, &target->labels};
    struct outcome o = {0};
    struct nx_err append_err = {0};
    double reports[REPORT_COUNT];
    nx_status st = read_body(k, w, &t, &o), append;
    bool row = o.up;

    o.up = st == NX_OK;
    if (o.up)
        o.err.text[0] = 0; /* of what was no failure after all: a series that was refused */
    if (!row && ingest_nothing(&target->in, &k->s->env, &t, &k->scratch, &append_err)) {
        if (o.up)
            o.err = append_err;
        o.up = false;
    }
    fill_reports(w, &o, reports);
    append = target->in.group
                 ? ingest_commit(&target->in, &k->s->env, &t, w->t_ms, reports,
                                 w->job->extra_metrics ? REPORT_COUNT : REPORT_PLAIN_COUNT,
                                 &k->scratch, &o.res, &append_err)
                 : NX_NOMEM;
    if (!o.err.text[0] && append)
        o.err = append_err;
    if (!o.err.text[0] && o.res.refused)
        nx_fail(
            &o.err, NX_LIMIT,
            "%u new series were refused: memory in use (%.1f MiB) is near the limit of %.1f MiB "
            "(--memory.limit); the other series are stored",
            o.res.refused, (double)memory_used(k->s->opts.memory) / 1048576,
            (double)memory_limit(k->s->opts.memory) / 1048576);
    show(k, w, &o, reports[REPORT_DURATION]); /* W2 */
    tell(w, &o, append, &append_err);
}

static void run_end(struct worker *k, struct work *w)
{
    const struct ingest_target t = {&w->job->rules, &w->target->labels};
    struct nx_err err = {0};

    if (ingest_end(&w->target->in, &k->s->env, &t, w->t_ms, &k->scratch, &err))
        log_warn("Stale append failed", "scrape_pool", w->target->pool->name, "target",
                 w->target->url, "err", err.text);
}

static void run(struct worker *k, struct work *w)
{
    switch (w->kind) {
    case WORK_SCRAPE:
        run_scrape(k, w);
        break;
    case WORK_END:
        run_end(k, w);
        break;
    case WORK_TOKEN:
        fetch_client_get_token(w->job->client, w->timeout_ms, NULL);
        break;
    }
    ingest_scratch_trim(&k->scratch);
    if (k->plain.cap > KEEP_PLAIN_BYTES)
        buf_done(&k->plain);
}

void worker_ring(struct scrape *s)
{
    const uint64_t one = 1;

    while (write(s->bell_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static void swap(struct buf *a, struct buf *b)
{
    struct buf was = *a;

    *a = *b;
    *b = was;
}

/* A work whose answer has begun to come. False: not all of it is there. */
static bool receive(struct worker *k, struct work *w)
{
    struct scrape *s = k->s;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = w};
    enum wire_got got;

    if (atomic_load(&w->received)) /* A4 of asker.c */
        return false;
    if (w->fetch->body.len == 0) /* W3 */
        swap(&w->fetch->body, &k->spare);
    got = wire_read(w->fd, w->fetch);
    if (got == WIRE_MORE) {
        atomic_store(&w->received, false);
        if (epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) == 0)
            return false;
    }
    if (got != WIRE_DONE) {
        bool late = clock_mono_ns() >= w->deadline_mono_ns;
        w->fetch->result = late ? CURLE_OPERATION_TIMEDOUT : CURLE_RECV_ERROR;
        w->again = !late;
    }
    atomic_store(&w->received, true);
    return true;
}

/* W3: the body is done with. */
static void take_spare(struct worker *k, struct work *w)
{
    if (w->wired && w->fetch->body.cap > k->spare.cap)
        swap(&w->fetch->body, &k->spare);
    if (k->spare.cap > KEEP_PLAIN_BYTES)
        buf_done(&k->spare);
    buf_clear(&k->spare);
    k->spare.limit_bytes = NX_LIMIT_SCRAPE_BODY_BYTES;
}

/* W4 */
static void give_lead(struct worker *k)
{
    if (!k->leads)
        return;
    k->leads = false;
    nx_lock(&k->s->queue);
    k->s->led = false;
    nx_cond_signal(&k->s->lead);
    nx_unlock(&k->s->queue);
}

/* A work of the queue; NULL: there is none, and this worker leads, or has to stop. */
static struct work *take_todo(struct worker *k, bool *stop)
{
    struct scrape *s = k->s;
    struct work *w;

    nx_lock(&s->queue);
    for (;;) {
        w = work_pop(&s->todo);
        *stop = s->stop;
        if (w || *stop || k->leads)
            break;
        if (!s->led) {
            s->led = k->leads = true;
            break;
        }
        nx_cond_wait(&s->lead, &s->queue);
    }
    if (*stop)
        nx_cond_broadcast(&s->lead);
    else if (s->todo.first || (w && !s->led && !k->leads)) /* somebody has to lead */
        nx_cond_signal(&s->lead);
    nx_unlock(&s->queue);
    return w;
}

/* The leader's: what the loop rings the bell for is found by take_todo(). */
static void wait_for_bytes(struct worker *k)
{
    struct epoll_event ev[MOST_READY];
    int n = epoll_wait(k->s->epoll_fd, ev, NX_COUNT(ev), -1);

    k->n_ready = k->at_ready = 0;
    for (int i = 0; i < n; i++)
        if (ev[i].data.ptr)
            k->ready[k->n_ready++] = ev[i].data.ptr;
    if (k->n_ready == MOST_READY)
        give_lead(k);
}

/* Whoever leads next is told of them again. */
static void give_ready(struct worker *k)
{
    unsigned kept = 0;

    for (; k->at_ready < k->n_ready; k->at_ready++) {
        struct work *w = k->ready[k->at_ready];
        struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = w};
        if (epoll_ctl(k->s->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev))
            k->ready[kept++] = w;
    }
    k->at_ready = 0;
    k->n_ready = kept;
}

static bool is_large(const struct fetch *f)
{
    return f->body.len > (f->gzip ? LARGE_GZIP_BYTES : LARGE_BYTES);
}

/* The next work, or NULL when the end has come. */
static struct work *next_work(struct worker *k)
{
    for (;;) {
        struct work *w;
        bool stop;

        while (k->at_ready < k->n_ready) {
            w = k->ready[k->at_ready++];
            if (!receive(k, w))
                continue;
            if (is_large(w->fetch)) {
                give_ready(k);
                give_lead(k);
            }
            return w;
        }
        w = take_todo(k, &stop);
        if (w)
            give_lead(k);
        if (w || stop)
            return w;
        wait_for_bytes(k);
    }
}

/* The loop takes finished scrapes back when it wakes anyway, as it does for every scrape that begins; it
 * is woken only for what cannot wait. */
#define MOST_DONE 64u

static bool give_back(struct scrape *s, struct work *w)
{
    bool wake;

    nx_lock(&s->queue);
    wake = w->kind != WORK_SCRAPE || w->again || s->eager || ++s->n_done >= MOST_DONE;
    work_push(&s->done, w);
    nx_unlock(&s->queue);
    return wake;
}

void worker_main(void *arg)
{
    struct worker k = {.s = arg};
    struct nx_err err = {0};
    struct work *w;

    buf_init(&k.plain, 0);
    buf_init(&k.spare, NX_LIMIT_SCRAPE_BODY_BYTES);
    k.gunzip = expo_gunzip_new();
    if (ingest_scratch_init(&k.scratch, &err) || !k.gunzip) {
        log_error("A scrape worker could not start", "err", "out of memory");
    } else {
        while ((w = next_work(&k))) {
            if (!w->wired || !w->again)
                run(&k, w);
            take_spare(&k, w);
            if (give_back(k.s, w))
                loop_wake(k.s);
        }
    }
    ingest_scratch_done(&k.scratch);
    expo_gunzip_free(k.gunzip);
    buf_done(&k.plain);
    buf_done(&k.spare);
}
