/* direct.c - direct notification: the thread, the deliveries under way, the state on disk.
 *
 * WHY     A dispatcher (direct_groups.c) says what is due; this file has it delivered and remembers what was.
 * SHAPE   A job is a notice from when it is due until it is delivered or given up. All are on one multi handle of libcurl, so
 *         that a receiver that hangs holds nobody up; each group has one job at most.
 * RULES   D1  A delivery that may succeed later is tried again after 1, 2, 4, ... 60 s, or when the receiver says, until
 *             group_interval (at least 10 s) is over. Then it is given up; the group is looked at again, and what was not
 *             told is still to be told.
 *         D2  After something was told, what receivers know is written before the thread sleeps: a restart neither
 *             repeats nor loses it. A disk that is slow or full delays that, and never a notification.
 *         D3  After a reload nothing is begun by the old file: what was to be tried again is made anew by the new one,
 *             at once. What is on its way stays on it.
 *         D4  Of at most MOST_JOBS jobs. More groups that are due wait for their turn.
 * STATES  of a job: WAITING (for next_ms) -> RUNNING (on the multi handle) -> WAITING | done
 * THREADS d->lock guards the groups and the counters. Rules' threads take it in direct_take(), a reload in direct_apply(),
 *         for as long as that takes in memory. Jobs and curl are the thread's own. The thread sleeps in curl_multi_poll();
 *         curl_multi_wakeup() ends that. */
#include "src/notify/direct.h"

#include <curl/curl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/limits.h"
#include "src/base/log.h"
#include "src/base/thread.h"
#include "src/notify/direct_send.h"
#include "src/notify/direct_state.h"

#define MOST_JOBS        16
#define FIRST_BACKOFF_MS 1000
#define MOST_BACKOFF_MS  60000
#define LEAST_TRIES_MS   10000
#define STOP_MS          1000
#define STATE_RETRY_MS   30000
#define STATE_NAME       "notify.json"
#define STATE_BYTES      (128u << 20)

struct job {
    struct job *next;
    struct notice *notice;
    struct message message;
    struct arena_mark mark;    /* of the notice's arena, after the message */
    bool made;                 /* there is a message */
    struct delivery *delivery; /* not NULL: RUNNING */
    CURL *easy;
    unsigned tries;
    int64_t next_ms, deadline_ms; /* of the monotonic clock, as all of D1 and D2 */
    int64_t began_ns;
};

struct direct {
    /* set once */
    struct fs *fs;
    char *state_path, *external_url;
    size_t state_bytes;
    CURLM *multi;
    struct nx_thread thread;
    atomic_bool stop;

    struct nx_mutex lock;
    /* under lock */
    struct groups *groups;
    struct direct_stats stats;

    /* the thread's own */
    struct job *jobs;
    size_t n_jobs;
    uint64_t next_id;
    int64_t save_after_ms; /* monotonic; not before; 0: at once */
    bool save_failed, save_wanted;
};

const char *const direct_reasons[DIRECT_REASONS] = {"clientError", "serverError",
                                                    "contextDeadlineExceeded", "other"};

static int64_t mono_ms(void)
{
    return clock_mono_ns() / 1000000;
}

/* ---- jobs --------------------------------------------------------------------------------------------------- */

static const struct config_notify_receiver *receiver_of(const struct job *j)
{
    return j->notice->receiver->cfg;
}

static void count_try(struct direct *d, const struct job *j, bool ok)
{
    static const double bounds[DIRECT_BUCKETS - 1] = {0.1, 0.5, 1, 5};
    struct direct_kind_stats *k = &d->stats.kinds[receiver_of(j)->kind];
    double s = (double)(clock_mono_ns() - j->began_ns) / 1e9;
    size_t b = 0;

    while (b < NX_COUNT(bounds) && s > bounds[b])
        b++;
    nx_lock(&d->lock);
    k->requests++;
    k->requests_failed += !ok;
    k->bucket[b]++;
    k->seconds += s;
    nx_unlock(&d->lock);
}

static void count_end(struct direct *d, const struct job *j, const char *reason)
{
    struct direct_kind_stats *k = &d->stats.kinds[receiver_of(j)->kind];

    nx_lock(&d->lock);
    k->sent++;
    for (size_t i = 0; reason && i < DIRECT_REASONS; i++)
        k->failed[i] += strcmp(direct_reasons[i], reason) == 0;
    nx_unlock(&d->lock);
}

/* Takes it off the list. Its notice is not its any more. */
static void free_job(struct direct *d, struct job *j)
{
    struct job **at = &d->jobs;

    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    d->n_jobs--;
    free(j);
}

/* D3. False: the file is the same. */
static bool make_anew(struct direct *d, struct job *j)
{
    bool anew;

    nx_lock(&d->lock);
    anew = groups_outdated(d->groups, j->notice);
    if (anew)
        groups_again(j->notice, clock_now_ms());
    nx_unlock(&d->lock);
    if (anew)
        free_job(d, j);
    return anew;
}

/* `reason` NULL: it was delivered. */
static void end_job(struct direct *d, struct job *j, const char *reason, const char *why)
{
    const struct config_notify_receiver *r = receiver_of(j);

    if (reason)
        log_error("Notification failed", "component", "notify", "receiver", r->name.ptr,
                  "integration", config_notify_name(r->kind), "alerts",
                  log_fmt("%zu", j->notice->n_alerts), "attempts", log_fmt("%u", j->tries), "err",
                  why);
    else
        log_debug("Notified", "component", "notify", "receiver", r->name.ptr, "integration",
                  config_notify_name(r->kind), "alerts", log_fmt("%zu", j->notice->n_alerts));
    count_end(d, j, reason);
    nx_lock(&d->lock);
    groups_told(d->groups, j->notice, !reason, clock_now_ms());
    nx_unlock(&d->lock);
    free_job(d, j);
}

/* D1 */
static void try_later(struct direct *d, struct job *j, int64_t wait_ms, const char *reason,
                      const char *why)
{
    int64_t now = mono_ms(), backoff = FIRST_BACKOFF_MS;

    for (unsigned i = 1; i < j->tries && backoff < MOST_BACKOFF_MS; i++)
        backoff *= 2;
    backoff = backoff < MOST_BACKOFF_MS ? backoff : MOST_BACKOFF_MS;
    j->next_ms = now + (wait_ms > backoff ? wait_ms : backoff);
    if (j->next_ms > j->deadline_ms) {
        end_job(d, j, reason, why);
        return;
    }
    if (j->tries == 1)
        log_warn("Notification failed, it will be tried again", "component", "notify", "receiver",
                 receiver_of(j)->name.ptr, "integration", config_notify_name(receiver_of(j)->kind),
                 "err", why);
}

static bool add_handle(struct direct *d, struct job *j, void *easy)
{
    j->easy = easy;
    curl_easy_setopt(j->easy, CURLOPT_PRIVATE, j);
    return !curl_multi_add_handle(d->multi, j->easy);
}

static void start_job(struct direct *d, struct job *j)
{
    struct nx_err err = {0};
    nx_status st = NX_OK;
    void *easy = NULL;

    j->tries++;
    j->began_ns = clock_mono_ns();
    if (!j->made) {
        st = message_make(&j->message, j->notice, nx_slice_str(d->external_url), &err);
        j->made = !st;
        j->mark = arena_mark(j->notice->arena);
    } else {
        arena_release(j->notice->arena, j->mark);
    }
    if (!st)
        st = delivery_begin(&j->delivery, &j->message, clock_now_ms(), d->next_id++, &easy, &err);
    if (!st) {
        if (add_handle(d, j, easy))
            return;
        delivery_free(j->delivery);
        j->delivery = NULL;
        st = nx_fail(&err, NX_NOMEM, "out of memory");
    }
    count_try(d, j, false);
    if (st == NX_BADINPUT || st == NX_LIMIT)
        end_job(d, j, "other", err.text);
    else
        try_later(d, j, 0, "other", err.text);
}

static void finish_job(struct direct *d, struct job *j, CURLcode result)
{
    struct nx_err err = {0};
    const char *reason = "other";
    int64_t wait_ms = 0;
    void *easy = NULL;
    enum delivered how = DELIVERY_TRY_AGAIN;
    nx_status st;

    curl_multi_remove_handle(d->multi, j->easy);
    st = delivery_next(j->delivery, (int)result, &easy, &err);
    if (easy && add_handle(d, j, easy))
        return;
    if (easy)
        st = nx_fail(&err, NX_NOMEM, "out of memory");
    if (!st)
        how = delivery_end(j->delivery, (int)result, &reason, &wait_ms, &err);
    delivery_free(j->delivery);
    j->delivery = NULL;
    j->easy = NULL;
    count_try(d, j, how == DELIVERED);
    if (how != DELIVERED && make_anew(d, j))
        return;
    if (how == DELIVERY_TRY_AGAIN)
        try_later(d, j, wait_ms, reason, err.text);
    else
        end_job(d, j, how == DELIVERED ? NULL : reason, err.text);
}

static void collect(struct direct *d)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(d->multi, &left))) {
        CURLcode result = msg->data.result;
        char *job = NULL;
        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &job);
        finish_job(d, (struct job *)(void *)job, result);
    }
}

/* ---- what is due ---------------------------------------------------------------------------------------------- */

static struct notice *next_notice(struct direct *d, int64_t now_ms)
{
    struct nx_err err = {0};
    struct notice *n = NULL;

    nx_lock(&d->lock);
    nx_status st = groups_next(d->groups, now_ms, &n, &err);
    nx_unlock(&d->lock);
    if (st)
        log_error("Could not make a notification", "component", "notify", "err", err.text);
    return n;
}

static void start_due(struct direct *d)
{
    int64_t now = clock_now_ms(), mono = mono_ms();
    struct notice *n;

    for (struct job *j = d->jobs, *next; j; j = next) {
        next = j->next;
        if (!j->delivery)
            make_anew(d, j);
    }
    while (d->n_jobs < MOST_JOBS && (n = next_notice(d, now))) { /* D4 */
        int64_t tries_ms = n->receiver->cfg->group_interval_ms;
        struct job *j = calloc(1, sizeof *j);
        if (!j) {
            nx_lock(&d->lock);
            groups_told(d->groups, n, false, now);
            nx_unlock(&d->lock);
            return;
        }
        j->notice = n;
        j->deadline_ms = mono + (tries_ms > LEAST_TRIES_MS ? tries_ms : LEAST_TRIES_MS);
        j->next = d->jobs;
        d->jobs = j;
        d->n_jobs++;
        start_job(d, j);
    }
    for (struct job *j = d->jobs, *next; j; j = next) {
        next = j->next;
        if (!j->delivery && j->next_ms <= mono)
            start_job(d, j);
    }
}

/* ---- the state --------------------------------------------------------------------------------------------------- */

static nx_status write_state(struct direct *d, struct nx_err *err)
{
    struct buf b;
    nx_status st;

    buf_init(&b, d->state_bytes);
    nx_lock(&d->lock);
    st = state_write(d->groups, &b, clock_now_ms(), err);
    nx_unlock(&d->lock);
    if (!st)
        st = fs_publish(d->fs, d->state_path, b.ptr, b.len, err);
    buf_done(&b);
    return st;
}

/* D2. What takes long is done less often. */
static void save(struct direct *d)
{
    int64_t now = mono_ms(), began;
    struct nx_err err = {0};

    nx_lock(&d->lock);
    d->save_wanted = d->save_wanted || groups_changed(d->groups);
    nx_unlock(&d->lock);
    if (!d->state_path || !d->save_wanted || now < d->save_after_ms)
        return;
    began = clock_mono_ns();
    if (write_state(d, &err)) {
        if (!d->save_failed)
            log_error("What was notified could not be saved; a restart now would notify again",
                      "component", "notify", "file", d->state_path, "err", err.text);
        d->save_failed = true;
        d->save_after_ms = now + STATE_RETRY_MS;
        nx_lock(&d->lock);
        d->stats.state_failures++;
        nx_unlock(&d->lock);
        return;
    }
    if (d->save_failed)
        log_info("What was notified is saved again", "component", "notify");
    d->save_failed = d->save_wanted = false;
    d->save_after_ms = now + (clock_mono_ns() - began) / 1000000 * 10;
}

static nx_status load_state(struct direct *d, int64_t grace_ms, struct nx_err *err)
{
    struct nx_err why = {0};
    struct buf b;
    nx_status st;

    buf_init(&b, d->state_bytes);
    st = fs_read_file(d->fs, d->state_path, &b, &why);
    if (!st)
        st = state_read(d->groups, buf_view(&b), clock_now_ms(), grace_ms, &why);
    buf_done(&b);
    if (st == NX_NOMEM)
        return nx_fail(err, st, "%s", why.text);
    if (st && st != NX_NOTFOUND)
        log_warn("What was notified before is not known; alerts that fire are notified anew",
                 "component", "notify", "file", d->state_path, "err", why.text);
    return NX_OK;
}

/* ---- the thread ---------------------------------------------------------------------------------------------------- */

/* How long there is nothing to do, if nobody wakes us. */
static int wait_ms(struct direct *d)
{
    int64_t due = INT64_MAX, mono = mono_ms(), left = INT32_MAX;

    if (d->n_jobs < MOST_JOBS) {
        nx_lock(&d->lock);
        due = groups_due_ms(d->groups);
        nx_unlock(&d->lock);
        if (due - clock_now_ms() < left)
            left = due - clock_now_ms();
    }
    for (const struct job *j = d->jobs; j; j = j->next)
        if (!j->delivery && j->next_ms - mono < left)
            left = j->next_ms - mono;
    if (d->save_wanted && d->state_path && d->save_after_ms - mono < left)
        left = d->save_after_ms - mono;
    return left > 0 ? (int)left : 0;
}

static bool any_running(const struct direct *d)
{
    for (const struct job *j = d->jobs; j; j = j->next)
        if (j->delivery)
            return true;
    return false;
}

static void perform(struct direct *d)
{
    int running;

    curl_multi_perform(d->multi, &running);
    collect(d);
}

static void drop_jobs(struct direct *d)
{
    while (d->jobs) {
        struct job *j = d->jobs;
        d->jobs = j->next;
        if (j->delivery)
            curl_multi_remove_handle(d->multi, j->easy);
        delivery_free(j->delivery);
        nx_lock(&d->lock);
        groups_told(d->groups, j->notice, false, clock_now_ms());
        nx_unlock(&d->lock);
        free(j);
    }
    d->n_jobs = 0;
}

static void run(void *arg)
{
    struct direct *d = arg;
    int64_t stop_ns = 0;

    while (!atomic_load(&d->stop)) {
        start_due(d);
        perform(d);
        save(d);
        if (!atomic_load(&d->stop))
            curl_multi_poll(d->multi, NULL, 0, wait_ms(d), NULL);
    }
    stop_ns = clock_mono_ns() + STOP_MS * 1000000ll;
    while (any_running(d) && clock_mono_ns() < stop_ns) {
        perform(d);
        if (any_running(d))
            curl_multi_poll(d->multi, NULL, 0, 50, NULL);
    }
    drop_jobs(d);
    d->save_after_ms = 0;
    save(d);
}

/* ---- opening and closing --------------------------------------------------------------------------------------------- */

static nx_status open_all(struct direct *d, const struct direct_opts *o, struct direct_plan *plan,
                          struct nx_err *err)
{
    const struct groups_limits limits = {NX_LIMIT_NOTIFY_ALERTS, NX_LIMIT_NOTIFY_ALERT_BYTES};
    nx_status st;

    d->fs = o->fs;
    d->state_bytes = o->state_bytes ? o->state_bytes : STATE_BYTES;
    d->external_url = strdup(o->external_url ? o->external_url : "");
    d->multi = curl_multi_init();
    if (!d->external_url || !d->multi ||
        (o->state_dir && asprintf(&d->state_path, "%s/" STATE_NAME, o->state_dir) < 0))
        return nx_fail(err, NX_NOMEM, "out of memory");
    curl_multi_setopt(d->multi, CURLMOPT_MAXCONNECTS, 4L); /* kept for the next message */
    st = groups_new(&d->groups, plan, &limits, err);
    if (!st && d->state_path)
        st = load_state(d, o->grace_ms, err);
    return st ? st : nx_thread_start(&d->thread, "notify-direct", run, d, err);
}

nx_status direct_open(struct direct **out, const struct direct_opts *opts, struct direct_plan *plan,
                      struct nx_err *err)
{
    struct direct *d = calloc(1, sizeof *d);
    nx_status st;

    if (!d)
        return nx_fail(err, NX_NOMEM, "out of memory");
    nx_mutex_init(&d->lock, NX_RANK_QUEUE);
    atomic_init(&d->stop, false);
    d->next_id = (uint64_t)clock_now_ns();
    for (unsigned k = 0; k < CONFIG_NOTIFY_KINDS; k++)
        d->stats.kinds[k].integration = config_notify_name((enum config_notify_kind)k);
    d->stats.reload_ms = (uint64_t)clock_now_ms();
    st = open_all(d, opts, plan, err);
    if (st) {
        direct_close(d);
        return st;
    }
    *out = d;
    return NX_OK;
}

void direct_close(struct direct *d)
{
    if (!d)
        return;
    atomic_store(&d->stop, true);
    if (d->multi)
        curl_multi_wakeup(d->multi);
    nx_thread_join(&d->thread);
    groups_free(d->groups);
    if (d->multi)
        curl_multi_cleanup(d->multi);
    nx_mutex_done(&d->lock);
    free(d->state_path);
    free(d->external_url);
    free(d);
}

nx_status direct_apply(struct direct *d, struct direct_plan *plan, struct nx_err *err)
{
    nx_lock(&d->lock);
    nx_status st = groups_set_plan(d->groups, plan, clock_now_ms(), err);
    if (!st)
        d->stats.reload_ms = (uint64_t)clock_now_ms();
    nx_unlock(&d->lock);
    curl_multi_wakeup(d->multi);
    return st;
}

void direct_take(void *ctx, const struct notify_alert *const *v, size_t n)
{
    struct direct *d = ctx;
    int64_t now = clock_now_ms();
    struct groups_stats before, after;
    size_t refused = 0;

    nx_lock(&d->lock);
    groups_count(d->groups, &before);
    for (size_t i = 0; i < n; i++)
        refused += !groups_take(d->groups, v[i], now);
    groups_count(d->groups, &after);
    nx_unlock(&d->lock);
    if (after.groups != before.groups) /* only a new one is due before we wake anyway */
        curl_multi_wakeup(d->multi);
    if (refused)
        log_error("Too many alerts: some are not notified", "component", "notify", "alerts",
                  log_fmt("%zu", refused));
}

void direct_get_stats(struct direct *d, struct direct_stats *out)
{
    struct groups_stats g;

    nx_lock(&d->lock);
    groups_get_stats(d->groups, clock_now_ms(), &g);
    *out = d->stats;
    nx_unlock(&d->lock);
    out->alerts = g.alerts;
    out->silenced = g.silenced;
    out->groups = g.groups;
    out->bytes = g.bytes;
    out->dropped = g.dropped;
}
