/* sender.c - one Alertmanager: a queue, and who sends what is in it.
 *
 * WHY     An Alertmanager that hangs or is gone must cost nobody anything but itself: so each has a queue with bounds,
 *         in alerts and in bytes, and a thread of its own. What is lost is sent again with the next resend.
 * RULES   Q1  Full means that the oldest alerts go. They are counted as dropped.
 *         Q2  A batch that fails is dropped and counted, never tried again: by then rules have newer ones.
 *         Q3  There is a thread only while there is something to send and for a while after it; it keeps the
 *             connection that long. A server whose alerts are quiet has none.
 *         Q4  Who leaves takes nothing any more. With `drain` the rest is sent; the first request that no server
 *             answers ends that, so that a dead Alertmanager costs a stop one time-out and not one a batch.
 *         Q5  New settings hold from the next batch on, with a connection of their own.
 * STATES  of the thread: NONE -> RUNNING (alerts came) -> NONE (nothing came for linger_ms; or left)
 * THREADS s->lock is held for moments: not while anything is sent. The one that starts a thread joins the one
 *         before it, which has let go of the lock for the last time. */
#include "src/notify/sender.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/durations.h"
#include "src/base/limits.h"
#include "src/base/log.h"
#include "src/base/thread.h"
#include "src/notify/alert.h"
#include "src/notify/aws.h"
#include "src/scrape/scrape.h"

#define CONTENT_TYPE "application/json"
#define CHECK_MS     2000

struct sender_settings {
    atomic_uint refs;
    const struct config *cfg;
    const struct config_alertmanager *am;
    struct aws_identity *identity; /* NULL: requests are not signed */
};

struct sender {
    /* set once */
    char *url;
    const struct sender_opts *opts;
    struct durations *took;
    int cancel; /* atomic: ends the request under way */

    struct nx_mutex lock;
    struct nx_cond wake;
    /* under lock */
    struct sender_settings *settings;
    const struct notify_alert **ring;
    size_t cap, first, n, bytes;
    struct nx_thread thread;
    bool running; /* the thread will look at the queue again */
    bool leaving;
    uint64_t sent, errors, dropped;
};

/* ---- settings --------------------------------------------------------------------------------------- */

nx_status sender_settings_new(struct sender_settings **out, const struct config *cfg,
                              const struct config_alertmanager *am, struct nx_err *err)
{
    struct sender_settings *s = calloc(1, sizeof *s);
    nx_status st = NX_OK;

    if (!s)
        return nx_fail(err, NX_NOMEM, "out of memory");
    if (am->sigv4)
        st = aws_identity_new(&s->identity, am->sigv4, err);
    if (st) {
        free(s);
        return st;
    }
    atomic_init(&s->refs, 1);
    s->cfg = config_ref(cfg);
    s->am = am;
    *out = s;
    return NX_OK;
}

static struct sender_settings *sender_settings_ref(struct sender_settings *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void sender_settings_unref(struct sender_settings *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    aws_identity_free(s->identity);
    config_unref(s->cfg);
    free(s);
}

nx_status sender_settings_check(const struct sender_settings *s, struct nx_err *err)
{
    struct aws_session *aws;
    nx_status st;

    if (!s->identity)
        return NX_OK;
    aws = aws_session_new(s->identity, "Narthex/" NX_VERSION);
    st = aws ? aws_session_check(aws, CHECK_MS, err) : nx_fail(err, NX_NOMEM, "out of memory");
    aws_session_free(aws);
    return st;
}

const struct config_alertmanager *sender_settings_section(const struct sender_settings *s)
{
    return s->am;
}

/* ---- the queue -------------------------------------------------------------------------------------- */

static const struct notify_alert *pop_locked(struct sender *s)
{
    const struct notify_alert *a = s->ring[s->first];

    s->first = (s->first + 1) % s->cap;
    s->n--;
    s->bytes -= a->bytes;
    return a;
}

static void drop_locked(struct sender *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        notify_alert_unref(pop_locked(s));
    s->dropped += n;
}

static bool grow_locked(struct sender *s)
{
    size_t cap = s->cap ? s->cap * 2 : 16;
    const struct notify_alert **ring = malloc(cap * sizeof(const struct notify_alert *));

    if (!ring)
        return false;
    for (size_t i = 0; i < s->n; i++)
        ring[i] = s->ring[(s->first + i) % s->cap];
    free(s->ring);
    s->ring = ring;
    s->cap = cap;
    s->first = 0;
    return true;
}

/* Queues the newest of them; the number of those, queued before or new, that had to go (Q1). */
static size_t push_locked(struct sender *s, const struct notify_alert *const *v, size_t n)
{
    size_t gone = 0;

    for (size_t i = 0; i < n; i++) {
        bool fits = s->opts->queue_capacity && v[i]->bytes <= NX_LIMIT_NOTIFY_QUEUE_BYTES;

        while (fits && s->n &&
               (s->n >= s->opts->queue_capacity ||
                s->bytes + v[i]->bytes > NX_LIMIT_NOTIFY_QUEUE_BYTES)) {
            drop_locked(s, 1);
            gone++;
        }
        if (!fits || (s->n == s->cap && !grow_locked(s))) {
            s->dropped++;
            gone++;
            continue;
        }
        s->ring[(s->first + s->n++) % s->cap] = notify_alert_ref(v[i]);
        s->bytes += v[i]->bytes;
    }
    return gone;
}

/* The next batch; NULL out of memory: then it is dropped. */
static const struct notify_alert **take_locked(struct sender *s, size_t *n)
{
    size_t bytes = 0, most = s->opts->batch_size;
    const struct notify_alert **v;

    for (*n = 0; *n < s->n && *n < most; ++*n) {
        bytes += s->ring[(s->first + *n) % s->cap]->bytes;
        if (*n && bytes > NX_LIMIT_NOTIFY_BATCH_BYTES)
            break;
    }
    v = malloc(*n * sizeof(const struct notify_alert *));
    if (!v) {
        drop_locked(s, *n);
        return NULL;
    }
    for (size_t i = 0; i < *n; i++)
        v[i] = pop_locked(s);
    return v;
}

/* ---- sending ---------------------------------------------------------------------------------------- */

/* What the thread sends with. */
struct line {
    struct sender_settings *settings; /* that the client was made for */
    struct scrape_client *client;
    struct aws_session *aws; /* NULL: requests are not signed */
    struct buf body;
};

static void hang_up(struct line *l)
{
    scrape_client_free(l->client);
    aws_session_free(l->aws);
    sender_settings_unref(l->settings);
    l->client = NULL;
    l->aws = NULL;
    l->settings = NULL;
}

/* Takes the reference (Q5). */
static nx_status dial(const struct sender *s, struct line *l, struct sender_settings *settings,
                      struct nx_err *err)
{
    if (l->client && l->settings == settings) {
        sender_settings_unref(settings);
        return NX_OK;
    }
    hang_up(l);
    l->settings = settings;
    if (settings->identity && !(l->aws = aws_session_new(settings->identity, s->opts->user_agent)))
        return nx_fail(err, NX_NOMEM, "out of memory");
    return scrape_client_new(&l->client, &settings->am->http, err);
}

/* One request; `r` has its body. */
static nx_status ask(struct sender *s, struct line *l, struct scrape_request *r,
                     struct scrape_answer *answer, struct nx_err *err)
{
    const char *headers[1 + SIGV4_LINES] = {"Content-Type: " CONTENT_TYPE};
    struct sigv4_signed sig;
    nx_status st = NX_OK;

    r->headers = headers;
    r->n_headers = 1;
    sigv4_init(&sig);
    if (l->aws)
        st = aws_session_sign(l->aws, s->url, nx_slice_str(CONTENT_TYPE), buf_view(&l->body),
                              r->timeout_ms, r->cancel, &sig, err);
    if (st) {
        nx_context(err, "Post \"%s\"", s->url);
    } else {
        if (l->aws)
            sigv4_put(&sig, r, headers);
        st = scrape_client_ask(l->client, r, answer, NULL, err);
    }
    sigv4_done(&sig);
    return st;
}

/* NX_UNAVAILABLE for an answer that says no; any other code: there was no answer. */
static nx_status post(struct sender *s, struct line *l, const struct notify_alert *const *v,
                      size_t n, bool *answered, struct nx_err *err)
{
    struct scrape_answer answer = {0};
    struct scrape_request r = {
        .url = s->url,
        .user_agent = s->opts->user_agent,
        .timeout_ms = l->settings->am->timeout_ms,
        .cancel = &s->cancel,
    };
    nx_status st;

    if (r.timeout_ms <= 0) /* to libcurl that would be forever */
        return nx_fail(err, NX_TIMEOUT, "Post \"%s\": context deadline exceeded", s->url);
    buf_clear(&l->body);
    alerts_json(&l->body, v, n);
    r.form = buf_cstr(&l->body);
    st = buf_status(&l->body, err);
    if (!st)
        st = ask(s, l, &r, &answer, err);
    if (st)
        return st;
    *answered = true;
    if (answer.code / 100 != 2)
        return nx_fail(err, NX_UNAVAILABLE, "bad response status %s", answer.status);
    return NX_OK;
}

/* Sends one batch and counts it. False: there was no answer. Begins and ends under the lock. */
static bool send_locked(struct sender *s, struct line *l)
{
    struct sender_settings *settings = sender_settings_ref(s->settings);
    bool answered = false;
    struct nx_err err = {0};
    int64_t from;
    size_t n;
    const struct notify_alert **v = take_locked(s, &n);
    nx_status st;

    nx_unlock(&s->lock);
    from = clock_mono_ns();
    st = dial(s, l, settings, &err);
    if (!st)
        st = v ? post(s, l, v, n, &answered, &err) : nx_fail(&err, NX_NOMEM, "out of memory");
    if (st)
        log_error("Error sending alerts", "component", "notifier", "alertmanager", s->url, "count",
                  log_fmt("%zu", n), "err", err.text);
    else
        durations_add(s->took, (double)(clock_mono_ns() - from) / 1e9);
    for (size_t i = 0; v && i < n; i++)
        notify_alert_unref(v[i]);
    nx_lock(&s->lock);
    if (!st) {
        s->sent += n;
    } else { /* Q2 */
        s->errors += n;
        s->dropped += v ? n : 0;
    }
    free(v);
    return answered;
}

/* Waits for alerts; false: there is no reason to wait any longer. */
static bool wait_locked(struct sender *s)
{
    while (!s->n) {
        if (s->leaving)
            return false;
        if (!nx_cond_wait_ms(&s->wake, &s->lock, s->opts->linger_ms) && !s->n) /* Q3 */
            return false;
    }
    return !s->leaving || s->opts->drain;
}

/* Nothing is left to be done; what is queued all the same is dropped. */
static void finish_locked(struct sender *s)
{
    if (s->n)
        log_warn("Alert notification queue not drained on shutdown, dropping alerts", "component",
                 "notifier", "alertmanager", s->url, "count", log_fmt("%zu", s->n));
    drop_locked(s, s->n);
    free(s->ring);
    s->ring = NULL;
    s->cap = s->first = 0;
    s->running = false;
}

static void run(void *arg)
{
    struct sender *s = arg;
    struct line l = {0};
    bool dead = false; /* Q4 */

    buf_init(&l.body, NX_LIMIT_NOTIFY_BODY_BYTES);
    nx_lock(&s->lock);
    do {
        while (!dead && wait_locked(s))
            dead = !send_locked(s, &l) && s->leaving;
        nx_unlock(&s->lock);
        hang_up(&l);
        buf_done(&l.body);
        nx_lock(&s->lock); /* more may have come */
    } while (s->n && !dead && (!s->leaving || s->opts->drain));
    finish_locked(s);
    nx_unlock(&s->lock);
}

static void start_locked(struct sender *s)
{
    struct nx_err err = {0};

    if (s->running)
        return;
    nx_thread_join(&s->thread); /* of the one before, if there was one */
    if (nx_thread_start(&s->thread, "notify", run, s, &err))
        log_error("Error sending alerts", "component", "notifier", "alertmanager", s->url, "err",
                  err.text);
    else
        s->running = true;
}

/* ---- one Alertmanager ------------------------------------------------------------------------------- */

struct sender *sender_new(const char *url, struct sender_settings *settings,
                          const struct sender_opts *opts)
{
    struct sender *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->url = strdup(url);
    s->took = durations_new();
    if (!s->url || !s->took) {
        free(s->url);
        durations_free(s->took);
        free(s);
        return NULL;
    }
    s->opts = opts;
    s->settings = sender_settings_ref(settings);
    nx_mutex_init(&s->lock, NX_RANK_QUEUE);
    nx_cond_init(&s->wake);
    return s;
}

const char *sender_url(const struct sender *s)
{
    return s->url;
}

void sender_set_settings(struct sender *s, struct sender_settings *settings)
{
    struct sender_settings *old;

    nx_lock(&s->lock);
    old = s->settings;
    s->settings = sender_settings_ref(settings);
    nx_unlock(&s->lock);
    sender_settings_unref(old);
}

void sender_add(struct sender *s, const struct notify_alert *const *v, size_t n)
{
    size_t gone = 0;

    nx_lock(&s->lock);
    if (!s->leaving) {
        gone = push_locked(s, v, n);
        if (s->n)
            start_locked(s);
        nx_cond_signal(&s->wake);
    }
    nx_unlock(&s->lock);
    if (gone)
        log_warn("Alert notification queue full, dropping alerts", "component", "notifier",
                 "alertmanager", s->url, "count", log_fmt("%zu", gone));
}

void sender_leave(struct sender *s)
{
    nx_lock(&s->lock);
    if (!s->leaving) {
        s->leaving = true;
        if (s->n)
            start_locked(s);
        if (!s->opts->drain)
            __atomic_store_n(&s->cancel, 1, __ATOMIC_RELEASE);
        nx_cond_signal(&s->wake);
    }
    nx_unlock(&s->lock);
}

bool sender_left(struct sender *s)
{
    bool left;

    nx_lock(&s->lock);
    left = s->leaving && !s->running;
    nx_unlock(&s->lock);
    return left;
}

void sender_free(struct sender *s)
{
    if (!s)
        return;
    sender_leave(s);
    nx_thread_join(&s->thread);
    drop_locked(s, s->n); /* of one whose thread could not be started */
    free(s->ring);
    sender_settings_unref(s->settings);
    durations_free(s->took);
    nx_cond_done(&s->wake);
    nx_mutex_done(&s->lock);
    free(s->url);
    free(s);
}

/* Of two that have one URL the quantiles are those of the one with more requests. */
void sender_count(struct sender *s, struct notify_url_stats *to)
{
    static const size_t at[] = {2, 3, 4}; /* of the five */
    struct durations_view v;

    durations_read(s->took, &v);
    for (size_t i = 0; i < NX_COUNT(at); i++)
        if (!to->count || v.count > to->count)
            to->quantile[i] = v.quantile[at[i]];
    to->count += v.count;
    to->sum += v.sum;
    for (size_t i = 0; i < DURATION_BUCKETS; i++)
        to->bucket[i] += v.bucket[i];
    nx_lock(&s->lock);
    to->sent += s->sent;
    to->errors += s->errors;
    to->dropped += s->dropped;
    to->queued += s->n;
    nx_unlock(&s->lock);
}
