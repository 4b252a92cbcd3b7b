/* notify.c - alerts from rules to the queues of Alertmanagers, and which Alertmanagers there are.
 *
 * SHAPE   A section is an entry of alerting.alertmanagers; it has a sender for each Alertmanager that discovery knows.
 *         An alert is made once, relabelled once for all and once more for a section that asks for it, and shared
 *         by the queues.
 * RULES   N1  An Alertmanager that has the URL of one before keeps its queue, in order, whatever else a reload
 *             changed: first those of a section that says the same, then any of a section that does not.
 *         N2  Senders that leave are freed when they have; until then they are on a list of their own.
 *         N3  A thread watches discovery only while there is something that may change: static Alertmanagers
 *             need none. It looks at what changed at most every five seconds.
 *         N4  Discovery is used by the watching thread while there is one, else by notify_apply(), which ends the
 *             thread before and starts it again.
 *         N5  A configuration is taken over whole or not at all.
 * THREADS n->lock guards the configuration and the lists. Who hands over alerts holds it for reading while labels are
 *         relabelled and queues are filled; who changes lists holds it for writing for a moment. The other
 *         consumer is called without it. */
#include "src/notify/notify.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/notify/manager.h"

#define DEFAULT_BATCH 256
#define LINGER_MS     (120 * 1000)
#define SETTLE_MS     5000 /* N3 */

/* ---- which Alertmanagers there are -------------------------------------------------------------------- */

/* Room for n more on the list of those that leave, and those that have are freed (N2). */
static nx_status reap(struct notify *n, size_t more, struct nx_err *err)
{
    struct sender **v;
    size_t left = 0;

    for (size_t i = 0; i < n->n_leaving; i++) {
        if (sender_left(n->leaving[i]))
            sender_free(n->leaving[i]);
        else
            n->leaving[left++] = n->leaving[i];
    }
    n->n_leaving = left;
    v = realloc(n->leaving, (left + more + 1) * sizeof(struct sender *));
    if (!v)
        return nx_fail(err, NX_NOMEM, "out of memory");
    n->leaving = v;
    return NX_OK;
}

static void let_go(struct notify *n, struct sender *s)
{
    sender_leave(s);
    n->leaving[n->n_leaving++] = s;
}

/* Brings a section's lists up to what discovery knows. */
static void sync_section(struct notify *n, struct section *s)
{
    struct section_found f = {0};
    size_t n_old = s->n_senders;
    struct sender **old = malloc((n_old + 1) * sizeof(struct sender *));
    struct nx_err err = {0};
    nx_status st = old ? reap(n, n_old, &err) : nx_fail(&err, NX_NOMEM, "out of memory");

    if (!st)
        st = section_find(s, n->discovery, &n->opts, s->senders, n_old, &f, &err);
    if (st) { /* as it was, then */
        log_error("Finding Alertmanagers failed", "component", "notifier", "err", err.text);
    } else {
        for (size_t i = 0; i < n_old; i++)
            old[i] = s->senders[i];
        nx_wrlock(&n->lock);
        section_take(s, &f);
        nx_rwunlock(&n->lock);
        for (size_t i = 0; i < n_old; i++)
            if (!section_has(s, old[i]))
                let_go(n, old[i]);
    }
    free(old);
}

/* ---- watching discovery --------------------------------------------------------------------------------- */

struct changes {
    struct notify *n;
    bool any;
};

static void on_changed(void *ctx, struct nx_slice name)
{
    struct changes *c = ctx;
    struct notify *n = c->n;

    c->any = true;
    for (size_t i = 0; i < n->n_sections; i++)
        if (nx_slice_is(name, n->sections[i]->name))
            sync_section(n, n->sections[i]);
}

static void keep_discovery_stats(struct notify *n)
{
    struct arena *a = arena_new(0);
    struct discovery_stats stats;

    if (a && !discovery_get_stats(n->discovery, a, &stats, NULL)) {
        nx_wrlock(&n->lock);
        n->file_read_errors = stats.file_read_errors;
        nx_rwunlock(&n->lock);
    }
    arena_free(a);
}

static bool stopping(const struct notify *n)
{
    return __atomic_load_n(&n->stop, __ATOMIC_ACQUIRE) != 0;
}

/* Until discovery has news, is due, or the watcher is to end. */
static void wait_for_news(struct notify *n)
{
    int64_t next_ms = discovery_next_ms(n->discovery), now_ms = clock_mono_ns() / 1000000;
    int64_t wait_ms = next_ms > now_ms ? next_ms - now_ms : 0;
    struct pollfd fds[] = {{.fd = n->wake_fd, .events = POLLIN},
                           {.fd = discovery_fd(n->discovery), .events = POLLIN}};

    poll(fds, 2, wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms);
}

static void watch(void *arg)
{
    struct notify *n = arg;
    struct pollfd wake = {.fd = n->wake_fd, .events = POLLIN};

    for (;;) {
        struct changes c = {n, false};

        wait_for_news(n);
        if (stopping(n))
            return;
        discovery_poll(n->discovery, clock_mono_ns() / 1000000, on_changed, &c);
        keep_discovery_stats(n);
        if (c.any)
            poll(&wake, 1, SETTLE_MS); /* N3 */
    }
}

static void stop_watching(struct notify *n)
{
    uint64_t count = 1;

    if (!n->watching)
        return;
    __atomic_store_n(&n->stop, 1, __ATOMIC_RELEASE);
    while (write(n->wake_fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
    nx_thread_join(&n->watcher);
    while (read(n->wake_fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
    __atomic_store_n(&n->stop, 0, __ATOMIC_RELEASE);
    n->watching = false;
}

static void start_watching(struct notify *n)
{
    struct nx_err err = {0};

    if (n->watching || discovery_next_ms(n->discovery) == INT64_MAX) /* N3 */
        return;
    if (nx_thread_start(&n->watcher, "notify-sd", watch, n, &err))
        log_error("Alertmanagers are not looked for any more", "component", "notifier", "err",
                  err.text);
    else
        n->watching = true;
}

/* ---- taking a configuration over ---------------------------------------------------------------------- */

/* What is to be there, made beside what is. */
struct plan {
    struct section **fresh;
    size_t n_fresh;
    struct section **same; /* by fresh one: the old one that says the same; NULL: none */
    struct sender **rest;  /* of the other old ones; NULL: taken */
    size_t n_rest;
};

static void free_sections(struct section **v, size_t n)
{
    for (size_t i = 0; v && i < n; i++)
        section_free(v[i]);
    free(v);
}

static void plan_done(struct plan *p)
{
    free_sections(p->fresh, p->n_fresh);
    free(p->same);
    free(p->rest);
}

static nx_status make_section(struct section **out, const struct config *cfg, size_t i,
                              struct nx_err *err)
{
    const struct config_alertmanager *am = &cfg->alerting.alertmanagers.v[i];
    struct section *s = *out = calloc(1, sizeof *s);

    if (!s)
        return nx_fail(err, NX_NOMEM, "out of memory");
    snprintf(s->name, sizeof s->name, "config-%zu", i);
    s->fingerprint = am->fingerprint;
    return sender_settings_new(&s->settings, cfg, am, err);
}

static bool is_taken(const struct plan *p, const struct section *old)
{
    bool taken = false;

    for (size_t i = 0; i < p->n_fresh; i++)
        taken |= p->same[i] == old;
    return taken;
}

static void plan_same(const struct notify *n, struct plan *p)
{
    for (size_t i = 0; i < p->n_fresh; i++)
        for (size_t k = 0; k < n->n_sections && !p->same[i]; k++)
            if (n->sections[k]->fingerprint == p->fresh[i]->fingerprint &&
                !is_taken(p, n->sections[k]))
                p->same[i] = n->sections[k];
    for (size_t k = 0; k < n->n_sections; k++)
        for (size_t i = 0; i < n->sections[k]->n_senders && !is_taken(p, n->sections[k]); i++)
            p->rest[p->n_rest++] = n->sections[k]->senders[i];
}

static nx_status plan_make(struct notify *n, const struct config *cfg, struct plan *p,
                           struct nx_err *err)
{
    size_t n_fresh = cfg->alerting.alertmanagers.n, n_old = 0;
    nx_status st = NX_OK;

    for (size_t i = 0; i < n->n_sections; i++)
        n_old += n->sections[i]->n_senders;
    p->fresh = calloc(n_fresh + 1, sizeof(struct section *));
    p->same = calloc(n_fresh + 1, sizeof(struct section *));
    p->rest = calloc(n_old + 1, sizeof(struct sender *));
    if (!p->fresh || !p->same || !p->rest)
        return nx_fail(err, NX_NOMEM, "out of memory");
    while (!st && p->n_fresh < n_fresh) {
        st = make_section(&p->fresh[p->n_fresh], cfg, p->n_fresh, err);
        p->n_fresh++;
    }
    if (st)
        return st;
    plan_same(n, p);
    return reap(n, n_old, err);
}

static nx_status apply_discovery(struct notify *n, const struct config *cfg, const struct plan *p,
                                 struct nx_err *err)
{
    struct discovery_set *sets = calloc(p->n_fresh + 1, sizeof *sets);
    nx_status st;

    if (!sets)
        return nx_fail(err, NX_NOMEM, "out of memory");
    for (size_t i = 0; i < p->n_fresh; i++)
        sets[i] = (struct discovery_set){nx_slice_str(p->fresh[i]->name),
                                         &cfg->alerting.alertmanagers.v[i].sds};
    st = discovery_apply(n->discovery, sets, p->n_fresh, err);
    free(sets);
    return st;
}

/* A new section's senders (N1). Out of memory it begins with none, and finds them when discovery changes. */
static void fill(struct notify *n, struct plan *p, size_t i)
{
    struct sender **known = p->same[i] ? p->same[i]->senders : p->rest;
    size_t n_known = p->same[i] ? p->same[i]->n_senders : p->n_rest;
    struct section *s = p->fresh[i];
    struct section_found f = {0};
    struct nx_err err = {0};

    if (section_find(s, n->discovery, &n->opts, known, n_known, &f, &err)) {
        log_error("Finding Alertmanagers failed", "component", "notifier", "err", err.text);
        return;
    }
    section_take(s, &f);
    for (size_t k = 0; k < p->n_rest; k++)
        if (section_has(s, p->rest[k]))
            p->rest[k] = NULL;
}

/* The new sections in place of the old ones, in one step; senders that are in none of them go. */
static void swap_in(struct notify *n, const struct config *cfg, struct plan *p)
{
    const struct config *old_cfg = n->cfg;
    struct section **old = n->sections;
    size_t n_old = n->n_sections;

    nx_wrlock(&n->lock);
    n->cfg = config_ref(cfg);
    n->sections = p->fresh;
    n->n_sections = p->n_fresh;
    for (size_t i = 0; i < n->n_sections; i++)
        for (size_t k = 0; k < n->sections[i]->n_senders; k++)
            sender_set_settings(n->sections[i]->senders[k], n->sections[i]->settings);
    nx_rwunlock(&n->lock);
    for (size_t i = 0; i < n_old; i++)
        for (size_t k = 0; k < old[i]->n_senders; k++) {
            bool kept = false;

            for (size_t s = 0; s < n->n_sections; s++)
                kept |= section_has(n->sections[s], old[i]->senders[k]);
            if (!kept)
                let_go(n, old[i]->senders[k]);
        }
    p->fresh = old; /* to be freed with the plan */
    p->n_fresh = n_old;
    config_unref(old_cfg);
}

nx_status notify_check(const struct config *cfg, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < cfg->alerting.alertmanagers.n && !st; i++) {
        struct sender_settings *s = NULL;
        st = sender_settings_new(&s, cfg, &cfg->alerting.alertmanagers.v[i], err);
        if (!st)
            st = sender_settings_check(s, err);
        sender_settings_unref(s);
    }
    return st;
}

nx_status notify_apply(struct notify *n, const struct config *cfg, struct nx_err *err)
{
    struct plan p = {0};
    nx_status st;

    stop_watching(n);
    st = plan_make(n, cfg, &p, err);
    if (!st)
        st = apply_discovery(n, cfg, &p, err);
    if (!st) { /* N5 */
        for (size_t i = 0; i < p.n_fresh; i++)
            fill(n, &p, i);
        swap_in(n, cfg, &p);
        keep_discovery_stats(n);
    }
    plan_done(&p);
    start_watching(n);
    return st;
}

/* ---- up and down ---------------------------------------------------------------------------------------- */

nx_status notify_new(struct notify **out, const struct notify_opts *opts, struct nx_err *err)
{
    struct notify *n = calloc(1, sizeof *n);
    nx_status st = NX_OK;

    if (!n)
        return nx_fail(err, NX_NOMEM, "out of memory");
    nx_rwlock_init(&n->lock, NX_RANK_NOTIFY);
    n->user_agent = strdup(opts->user_agent ? opts->user_agent : "Narthex/" NX_VERSION);
    n->opts = (struct sender_opts){
        .queue_capacity = opts->queue_capacity,
        .batch_size = opts->batch_size ? opts->batch_size : DEFAULT_BATCH,
        .drain = opts->drain,
        .user_agent = n->user_agent,
        .linger_ms = LINGER_MS,
    };
    n->also = opts->also;
    n->also_ctx = opts->also_ctx;
    n->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (n->wake_fd < 0)
        st = nx_fail_errno(err, errno, "starting to notify");
    else if (!n->user_agent)
        st = nx_fail(err, NX_NOMEM, "out of memory");
    else
        st = discovery_new(&n->discovery, err);
    if (st) {
        notify_free(n);
        return st;
    }
    *out = n;
    return NX_OK;
}

void notify_free(struct notify *n)
{
    if (!n)
        return;
    stop_watching(n);
    for (size_t i = 0; i < n->n_sections; i++) /* all at once */
        for (size_t k = 0; k < n->sections[i]->n_senders; k++)
            sender_leave(n->sections[i]->senders[k]);
    for (size_t i = 0; i < n->n_sections; i++)
        for (size_t k = 0; k < n->sections[i]->n_senders; k++)
            sender_free(n->sections[i]->senders[k]);
    for (size_t i = 0; i < n->n_leaving; i++)
        sender_free(n->leaving[i]);
    free(n->leaving);
    free_sections(n->sections, n->n_sections);
    discovery_free(n->discovery);
    config_unref(n->cfg);
    if (n->wake_fd >= 0)
        close(n->wake_fd);
    nx_rwlock_done(&n->lock);
    free(n->user_agent);
    free(n);
}

/* ---- alerts --------------------------------------------------------------------------------------------- */

struct batch { /* an alert each, NULL where it was dropped until they are moved up */
    const struct notify_alert **v;
    size_t n;
};

static nx_status batch_init(struct batch *b, size_t n, struct nx_err *err)
{
    b->n = 0;
    b->v = malloc((n + 1) * sizeof(const struct notify_alert *));
    return b->v ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");
}

static void batch_done(struct batch *b)
{
    for (size_t i = 0; b->v && i < b->n; i++)
        notify_alert_unref(b->v[i]);
    free(b->v);
}

/* Notices as alerts, with external labels and the rules that hold for all. */
static nx_status make_alerts(const struct config *cfg, struct relabel_work *work,
                             const struct rule_notice *v, size_t count, struct batch *out,
                             struct nx_err *err)
{
    nx_status st = batch_init(out, count, err);

    for (size_t i = 0; i < count && !st; i++) {
        struct labels labels;
        bool kept;

        st = alert_relabel(work, &v[i].labels, &cfg->global.external_labels,
                           &cfg->alerting.alert_relabel, &kept, &labels, err);
        if (st || !kept)
            continue;
        out->v[out->n] = alert_new(&labels, &v[i]);
        if (out->v[out->n])
            out->n++;
        else
            st = nx_fail(err, NX_NOMEM, "out of memory");
    }
    return st;
}

/* The same alerts for one section, by its own rules. What they don't change is shared. */
static nx_status for_section(const struct section *s, struct relabel_work *work,
                             const struct batch *all, struct batch *out, struct nx_err *err)
{
    const struct relabel_rules *rules = &sender_settings_section(s->settings)->alert_relabel;
    nx_status st = batch_init(out, all->n, err);

    for (size_t i = 0; i < all->n && !st; i++) {
        struct labels labels;
        bool kept;

        st = alert_relabel(work, &all->v[i]->labels, NULL, rules, &kept, &labels, err);
        if (st || !kept)
            continue;
        out->v[out->n] = labels_eq(&labels, &all->v[i]->labels)
                             ? notify_alert_ref(all->v[i])
                             : alert_with_labels(all->v[i], &labels);
        if (out->v[out->n])
            out->n++;
        else
            st = nx_fail(err, NX_NOMEM, "out of memory");
    }
    return st;
}

static nx_status queue_section(const struct section *s, struct relabel_work *work,
                               const struct batch *all, struct nx_err *err)
{
    struct batch own = {0};
    const struct batch *b = all;
    nx_status st = NX_OK;

    if (sender_settings_section(s->settings)->alert_relabel.n) {
        st = for_section(s, work, all, &own, err);
        b = &own;
    }
    for (size_t i = 0; i < s->n_senders && b->n; i++)
        sender_add(s->senders[i], b->v, b->n);
    batch_done(&own);
    return st;
}

void notify_take(void *ctx, const struct rule_notice *v, size_t count)
{
    struct notify *n = ctx;
    struct relabel_work work = {0};
    struct batch all = {0};
    struct nx_err err = {0};
    nx_status st = NX_OK;

    nx_rdlock(&n->lock);
    if (n->cfg && (n->n_sections || n->also)) {
        st = relabel_work_init(&work, &err);
        if (!st)
            st = make_alerts(n->cfg, &work, v, count, &all, &err);
        for (size_t i = 0; i < n->n_sections && all.n; i++) { /* what could be made is sent */
            nx_status bad = queue_section(n->sections[i], &work, &all, &err);
            st = st ? st : bad;
        }
        relabel_work_done(&work);
    }
    nx_rwunlock(&n->lock);
    if (all.n && n->also)
        n->also(n->also_ctx, all.v, all.n);
    batch_done(&all);
    if (st)
        log_error("Alerts are not sent", "component", "notifier", "err", err.text);
}
