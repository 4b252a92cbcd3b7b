/* loop.c - the loop thread: starts scrapes on time and carries their bytes.
 *
 * WHY     Hundreds of targets wait most of the time. One thread with libcurl's multi interface does all
 *         the waiting; a few workers do the reading.
 * SHAPE   Each round: take over a new configuration, take back finished work, look at discovery, start
 *         what is due, let libcurl move bytes, hand finished transfers to the workers, wait.
 * RULES   L1  A target is scraped by one work at a time. A tick that comes meanwhile is remembered, and
 *             the scrape begins as soon as the one before is done; more than one tick is one (SCR-062).
 *         L2  A scrape that cannot begin (no credentials, over target_limit) goes to the workers as a
 *             failed one: its series end and up is 0.
 *         L3  A job that needs a token asks for it by one worker; its targets wait for the answer, be it
 *             good or bad.
 *         L4  A target that answered over a plain connection is asked over the same one again, and the
 *             workers wait for its bytes (asker.c). libcurl makes connections, and has all other cases.
 * STATES  of a target: WAITING -> FETCHING -> INGESTING -> WAITING, or without FETCHING (L4)
 * THREADS This one owns everything in struct scrape that is not said to be under a lock. */
#include "src/scrape/manager.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/scrape/wire.h"

#define KEEP_WORKS      32u
#define KEEP_BODY_BYTES (256u << 10)
#define REQUEST_BYTES   4096u
#define TOKEN_POLL_NS   (20ll * 1000 * 1000)

void work_push(struct work_queue *q, struct work *w)
{
    w->next = NULL;
    if (q->last)
        q->last->next = w;
    else
        q->first = w;
    q->last = w;
}

struct work *work_pop(struct work_queue *q)
{
    struct work *w = q->first;

    if (w) {
        q->first = w->next;
        if (!q->first)
            q->last = NULL;
    }
    return w;
}

void loop_wake(struct scrape *s)
{
    const uint64_t one = 1;

    while (write(s->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

/* ---- works --------------------------------------------------------------------------------------- */

void work_free(struct work *w)
{
    if (!w)
        return;
    job_unref(w->job);
    fetch_free(w->fetch);
    free(w->failed);
    free(w);
}

static struct work *work_take(struct scrape *s, enum work_kind kind, struct target *t,
                              struct job *j)
{
    struct work *w = s->idle;

    if (w) {
        s->idle = w->next;
        s->n_idle--;
    } else {
        w = calloc(1, sizeof *w);
        if (!w)
            return NULL;
        w->fetch = fetch_new();
        if (!w->fetch) {
            free(w);
            return NULL;
        }
    }
    w->kind = kind;
    w->target = t;
    w->job = j;
    w->wired = w->again = false;
    w->next = NULL;
    j->refs++;
    return w;
}

static void work_give_back(struct scrape *s, struct work *w)
{
    job_unref(w->job);
    w->job = NULL;
    free(w->failed);
    w->failed = NULL;
    if (s->n_idle >= KEEP_WORKS) {
        work_free(w);
        return;
    }
    fetch_clear(w->fetch);
    if (w->target && w->target->kept_fd >= 0)
        fetch_trim(w->fetch, REQUEST_BYTES); /* the next body comes to a worker's buffer */
    if (s->idle)
        fetch_trim(s->idle->fetch,
                   KEEP_BODY_BYTES); /* only the one that is taken next keeps much */
    w->next = s->idle;
    s->idle = w;
    s->n_idle++;
}

void target_lend(struct target *t)
{
    t->fetching = NULL;
    t->state = TARGET_INGESTING;
    if (t->relearn)
        ingest_relearn(&t->in);
    t->relearn = false;
}

static void hand_over(struct scrape *s, struct work *w)
{
    if (w->target)
        target_lend(w->target);
    nx_lock(&s->queue);
    work_push(&s->todo, w);
    nx_unlock(&s->queue);
    worker_ring(s);
}

static void fail(struct work *w, const struct nx_err *err)
{
    w->failed = malloc(sizeof *w->failed);
    if (w->failed)
        *w->failed = *err;
    else
        w->fetch->result = CURLE_OUT_OF_MEMORY; /* fails in the worker, with libcurl's text */
}

/* ---- starting ------------------------------------------------------------------------------------ */

static void count_interval(struct scrape *s, struct target *t, int64_t mono_ns)
{
    struct interval_seen *v = NULL;
    double seconds = (double)(mono_ns - t->last_begun_mono_ns) / 1e9;

    if (t->last_begun_mono_ns == 0)
        return;
    nx_lock(&s->status);
    for (size_t i = 0; i < s->n_intervals && !v; i++)
        if (s->intervals[i].interval_ms == t->interval_ms)
            v = &s->intervals[i];
    if (!v) {
        struct interval_seen *more = reallocarray(s->intervals, s->n_intervals + 1, sizeof *more);
        if (more) {
            s->intervals = more;
            v = &more[s->n_intervals++];
            memset(v, 0, sizeof *v);
            v->interval_ms = t->interval_ms;
        }
    }
    if (v) {
        v->last[v->count % INTERVAL_SAMPLES].mono_ns = mono_ns;
        v->last[v->count % INTERVAL_SAMPLES].seconds = seconds;
        v->count++;
        v->sum += seconds;
    }
    nx_unlock(&s->status);
}

/* True if the target has to wait for a token (L3). */
static bool wait_for_token(struct scrape *s, struct target *t)
{
    struct job *j = t->pool->job;
    struct work *w;

    if (!fetch_client_needs_token(j->client) || j->token_tried_ns >= t->ideal_ns)
        return false;
    t->due_mono_ns = clock_mono_ns() + TOKEN_POLL_NS;
    (void)schedule_put(s, t);
    if (j->getting_token)
        return true;
    w = work_take(s, WORK_TOKEN, NULL, j);
    if (w) {
        w->timeout_ms = t->timeout_ms;
        j->getting_token = true;
        hand_over(s, w);
    }
    return true;
}

static nx_status begin_fetch(struct scrape *s, struct work *w, struct target *t, struct nx_err *err)
{
    const struct config_scrape *c = w->job->c;
    const struct fetch_request r = {
        .url = t->url,
        .user_agent = s->user_agent,
        .accept = w->job->accept,
        .unix_socket = t->unix_socket,
        .timeout_ms = w->timeout_ms,
        .compression = c->enable_compression,
        .limit_bytes = c->limits.body_size_bytes,
        .keep = !t->unix_socket && fetch_client_is_plain(w->job->client) &&
                (t->kept_fd >= 0 || wire_takes(t->url)),
        .memory = s->opts.memory,
    };
    int64_t left_ms;
    nx_status st;

    if (t->pool->limit_error)
        return nx_fail(err, NX_LIMIT, "%s", t->pool->limit_error); /* L2 */
    if (asker_ask(s, w, &r))
        return NX_OK;
    st = fetch_begin(w->fetch, w->job->client, &r, err);
    if (st)
        return fetch_context(t->url, err);
    left_ms = w->timeout_ms - (clock_mono_ns() - w->begun_mono_ns) / 1000000;
    curl_easy_setopt(w->fetch->easy, CURLOPT_TIMEOUT_MS, (long)(left_ms > 0 ? left_ms : 1));
    (void)buf_reserve(&w->fetch->body, t->body_hint);
    w->fetch->owner = w;
    if (curl_multi_add_handle(s->multi, w->fetch->easy))
        return nx_fail(err, NX_NOMEM, "out of memory");
    s->n_transfers++;
    t->fetching = w;
    t->state = TARGET_FETCHING;
    return NX_OK;
}

static void start(struct scrape *s, struct target *t)
{
    struct nx_err err;
    struct work *w;

    if (wait_for_token(s, t))
        return;
    w = work_take(s, WORK_SCRAPE, t, t->pool->job);
    if (w) {
        w->begun_mono_ns = clock_mono_ns();
        w->t_ms = schedule_stamp_ms(s, t, clock_now_ns());
        w->timeout_ms = t->timeout_ms;
        count_interval(s, t, w->begun_mono_ns);
        t->last_begun_mono_ns = w->begun_mono_ns;
        t->state = TARGET_FETCHING;
    } else {
        log_error("Scrape skipped: out of memory", "scrape_pool", t->pool->name, "target", t->url);
    }
    schedule_next(s, t);
    (void)schedule_put(s, t);
    if (w && begin_fetch(s, w, t, &err)) {
        fail(w, &err);
        hand_over(s, w);
    }
}

/* ---- targets that go ------------------------------------------------------------------------------- */

static void end_step(struct scrape *s, struct target *t)
{
    int64_t interval_ns = t->interval_ms * 1000000;
    struct work *w = NULL;

    if (t->ending == ENDING_TICK) {
        t->end_ms = clock_now_ms();
        t->ending = ENDING_GRACE;
        t->due_mono_ns = clock_mono_ns() + interval_ns + interval_ns / 10;
    } else {
        if (t->state == TARGET_WAITING)
            w = work_take(s, WORK_END, t, t->pool->job);
        t->due_mono_ns = clock_mono_ns() + interval_ns; /* should the work not be had, or be slow */
        if (w) {
            w->t_ms = t->end_ms;
            hand_over(s, w);
        }
    }
    (void)schedule_put(s, t);
}

static void start_due(struct scrape *s)
{
    struct target *t;

    while ((t = schedule_first(s)) && t->due_mono_ns <= clock_mono_ns()) {
        if (t->ending) {
            end_step(s, t);
        } else if (t->state != TARGET_WAITING) {
            t->missed = true; /* L1 */
            nx_lock(&s->queue);
            s->eager = true;
            nx_unlock(&s->queue);
            schedule_next(s, t);
            (void)schedule_put(s, t);
        } else {
            start(s, t);
        }
    }
}

/* ---- what comes back --------------------------------------------------------------------------------- */

/* The kept connection did not do: the same by libcurl, in the time that is left. */
static void ask_again(struct scrape *s, struct work *w)
{
    struct nx_err err;

    fetch_clear(w->fetch);
    if (begin_fetch(s, w, w->target, &err)) {
        fail(w, &err);
        hand_over(s, w);
    }
}

static void finish(struct scrape *s, struct work *w)
{
    struct target *t = w->target;
    enum work_kind kind = w->kind;

    if (w->wired) {
        asker_finish(s, w);
        if (w->again) {
            ask_again(s, w);
            return;
        }
    }
    if (kind == WORK_TOKEN) {
        w->job->getting_token = false;
        w->job->token_tried_ns = clock_now_ns();
    }
    if (t)
        t->state = TARGET_WAITING;
    if (kind == WORK_SCRAPE && w->fetch->body.len)
        t->body_hint = w->fetch->body.len + 1;
    work_give_back(s, w);
    if (kind == WORK_END && t->ending == ENDING_GRACE) {
        pools_end_target(s, t);
    } else if (kind == WORK_SCRAPE && t->missed) {
        t->missed = false;
        if (!t->ending)
            start(s, t); /* L1 */
    }
}

static void take_back(struct scrape *s)
{
    struct work_queue done;
    struct work *w;

    nx_lock(&s->queue);
    done = s->done;
    s->done = (struct work_queue){0};
    s->n_done = 0;
    s->eager = false;
    nx_unlock(&s->queue);
    while ((w = work_pop(&done)))
        finish(s, w);
}

static void move_transfers(struct scrape *s)
{
    CURLMsg *m;
    int left;

    if (!s->n_transfers)
        return;
    curl_multi_perform(s->multi, &left);
    while ((m = curl_multi_info_read(s->multi, &left))) {
        CURL *easy = m->easy_handle;
        CURLcode result = m->data.result;
        struct fetch *f = NULL;
        char *private = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
        f = (struct fetch *)(void *)private;
        curl_multi_remove_handle(s->multi, easy); /* m is gone from here on */
        s->n_transfers--;
        f->result = result;
        asker_keep(((struct work *)f->owner)->target, f);
        hand_over(s, f->owner);
    }
}

/* ---- rounds ------------------------------------------------------------------------------------------ */

static void take_config(struct scrape *s)
{
    const struct config *cfg;
    struct nx_err err = {0};
    nx_status st;

    nx_lock(&s->lock);
    cfg = s->pending;
    s->pending = NULL;
    nx_unlock(&s->lock);
    if (!cfg)
        return;
    st = pools_apply(s, cfg, &err);
    config_unref(cfg);
    nx_lock(&s->lock);
    s->apply_status = st;
    s->apply_err = err;
    s->answered = s->asked;
    nx_cond_broadcast(&s->applied);
    nx_unlock(&s->lock);
    nx_lock(&s->status);
    s->count.reloads++;
    s->count.reloads_failed += st != NX_OK;
    nx_unlock(&s->status);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* -1: until something happens. */
static int wait_ms(const struct scrape *s)
{
    int64_t now = clock_mono_ns(), ms = asker_wait_ms(s, now);
    int64_t sd = discovery_next_ms(s->discovery);
    const struct target *t = schedule_first(s);

    if (t)
        ms = smaller(ms, (t->due_mono_ns - now + 999999) / 1000000);
    if (sd != INT64_MAX)
        ms = smaller(ms, sd - now / 1000000);
    for (size_t i = 0; i < s->n_pools; i++)
        if (s->pools[i]->dirty)
            ms = smaller(ms, s->next_sync_mono_ms - now / 1000000);
    return ms < 0 ? 0 : ms == INT64_MAX ? -1 : (int)smaller(ms, INT_MAX);
}

/* A work that somebody waits for may have been given back since take_back(), without a wake-up. */
static bool has_urgent_work(struct scrape *s)
{
    bool urgent;

    nx_lock(&s->queue);
    urgent = s->eager && s->done.first;
    nx_unlock(&s->queue);
    return urgent;
}

/* Waits for bytes, for discovery, for a wake-up, or for the next thing to do. True: discovery has news. */
static bool wait_for_news(struct scrape *s)
{
    struct curl_waitfd fd = {.fd = s->loop_epoll_fd, .events = CURL_WAIT_POLLIN};
    struct epoll_event ev[2];
    int n = has_urgent_work(s) ? 0 : wait_ms(s);
    bool news = false;

    if (s->n_transfers) { /* what libcurl waits for as well */
        curl_multi_poll(s->multi, &fd, 1, n < 0 ? INT_MAX : n, NULL); /* or until its own timers */
        n = 0;
    }
    n = epoll_wait(s->loop_epoll_fd, ev, NX_COUNT(ev), n);
    for (int i = 0; i < n; i++)
        news = news || ev[i].data.fd != s->wake_fd;
    return news;
}

static bool discovery_due(const struct scrape *s)
{
    int64_t now_ms = clock_mono_ns() / 1000000;

    for (size_t i = 0; i < s->n_pools; i++)
        if (s->pools[i]->dirty && now_ms >= s->next_sync_mono_ms)
            return true;
    return now_ms >= discovery_next_ms(s->discovery);
}

static bool stopping(struct scrape *s)
{
    bool stop;

    nx_lock(&s->queue);
    stop = s->stop;
    nx_unlock(&s->queue);
    return stop;
}

/* Transfers that are under way at the end are dropped; their targets write nothing more. */
static void abandon(struct scrape *s)
{
    for (size_t i = 0; i < s->n_heap; i++) {
        struct work *w = s->heap[i]->fetching;
        if (!w)
            continue;
        s->heap[i]->fetching = NULL;
        curl_multi_remove_handle(s->multi, w->fetch->easy);
        work_free(w);
    }
    while (s->idle) {
        struct work *w = s->idle;
        s->idle = w->next;
        work_free(w);
    }
}

void loop_main(void *arg)
{
    struct scrape *s = arg;
    bool news = false;

    while (!stopping(s)) {
        take_config(s);
        take_back(s);
        if (news || discovery_due(s))
            pools_poll_discovery(s);
        start_due(s);
        asker_check_deadlines(s);
        move_transfers(s);
        news = wait_for_news(s);
    }
    abandon(s);
}
