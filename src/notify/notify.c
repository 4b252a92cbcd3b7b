/* notify.c - alerts from rules to the queues of Alertmanagers, and which Alertmanagers there are.
 *
 * SHAPE   A section is an entry of alerting.alertmanagers; it has a sender for each Alertmanager that discovery knows.
 *         An alert is made once, relabelled once for all and once more for a section that asks for it, and shared
 *         by the queues.
 * RULES   N1  A section that says the same as before keeps its senders; the senders of one that says anything else
 *             leave, and new ones take their place.
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
    struct sender **senders = s->senders;
    char **dropped = s->dropped;
    size_t n_dropped = s->n_dropped;
    struct nx_err err = {0};

    if (reap(n, s->n_senders, &err) ||
        section_find(s, n->discovery, &n->opts, &f, &err)) { /* as it was, then */
        log_error("Finding Alertmanagers failed", "component", "notifier", "err", err.text);
        return;
    }
    nx_wrlock(&n->lock);
    s->senders = f.senders;
    s->n_senders = f.n_senders;
    s->dropped = f.dropped;
    s->n_dropped = f.n_dropped;
    s->discovered = f.discovered;
    nx_rwunlock(&n->lock);
    for (size_t i = 0; i < f.n_gone; i++)
        let_go(n, f.gone[i]);
    free(f.gone);
    free(senders);
    section_free_urls(dropped, n_dropped);
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

/* Of an old section that says the same, and that no other has taken over (N1). */
static struct section *find_same(struct section **old, size_t n, uint64_t fingerprint)
{
    for (size_t i = 0; i < n; i++)
        if (old[i]->n_senders && old[i]->fingerprint == fingerprint)
            return old[i];
    return NULL;
}

static void free_sections(struct section **v, size_t n)
{
    for (size_t i = 0; v && i < n; i++)
        section_free(v[i]);
    free(v);
}

static nx_status make_sections(const struct config *cfg, struct section ***out, struct nx_err *err)
{
    const struct config_alertmanagers *ams = &cfg->alerting.alertmanagers;
    struct section **v = calloc(ams->n + 1, sizeof(struct section *));
    bool ok = v != NULL;

    for (size_t i = 0; ok && i < ams->n; i++) {
        v[i] = calloc(1, sizeof(struct section));
        ok = v[i] && (v[i]->settings = sender_settings_new(cfg, &ams->v[i]));
        if (!ok)
            break;
        snprintf(v[i]->name, sizeof v[i]->name, "config-%zu", i);
        v[i]->fingerprint = ams->v[i].fingerprint;
    }
    if (!ok) {
        free_sections(v, ams->n);
        return nx_fail(err, NX_NOMEM, "out of memory");
    }
    *out = v;
    return NX_OK;
}

static nx_status apply_discovery(struct notify *n, const struct config *cfg,
                                 struct section *const *v, struct nx_err *err)
{
    const struct config_alertmanagers *ams = &cfg->alerting.alertmanagers;
    struct discovery_set *sets = calloc(ams->n + 1, sizeof *sets);
    nx_status st;

    if (!sets)
        return nx_fail(err, NX_NOMEM, "out of memory");
    for (size_t i = 0; i < ams->n; i++)
        sets[i] = (struct discovery_set){nx_slice_str(v[i]->name), &ams->v[i].sds};
    st = discovery_apply(n->discovery, sets, ams->n, err);
    free(sets);
    return st;
}

/* The new sections in place of the old ones, of which only those senders are left that nobody took. */
static void swap_in(struct notify *n, const struct config *cfg, struct section **fresh,
                    size_t n_fresh)
{
    struct section **old = n->sections;
    size_t n_old = n->n_sections;
    const struct config *old_cfg = n->cfg;

    nx_wrlock(&n->lock);
    for (size_t i = 0; i < n_fresh; i++) {
        struct section *same = find_same(old, n_old, fresh[i]->fingerprint);

        if (!same)
            continue;
        fresh[i]->senders = same->senders;
        fresh[i]->n_senders = same->n_senders;
        same->senders = NULL;
        same->n_senders = 0;
        for (size_t k = 0; k < fresh[i]->n_senders; k++)
            sender_set_settings(fresh[i]->senders[k], fresh[i]->settings);
    }
    n->cfg = config_ref(cfg);
    n->sections = fresh;
    n->n_sections = n_fresh;
    nx_rwunlock(&n->lock);
    for (size_t i = 0; i < n_old; i++)
        for (size_t k = 0; k < old[i]->n_senders; k++)
            let_go(n, old[i]->senders[k]);
    free_sections(old, n_old);
    config_unref(old_cfg);
}

nx_status notify_apply(struct notify *n, const struct config *cfg, struct nx_err *err)
{
    size_t n_senders = 0, n_fresh = cfg->alerting.alertmanagers.n;
    struct section **fresh = NULL;
    nx_status st;

    stop_watching(n);
    for (size_t i = 0; i < n->n_sections; i++)
        n_senders += n->sections[i]->n_senders;
    st = reap(n, n_senders, err);
    if (!st)
        st = make_sections(cfg, &fresh, err);
    if (!st)
        st = apply_discovery(n, cfg, fresh, err);
    if (st) { /* N5 */
        free_sections(fresh, n_fresh);
    } else {
        swap_in(n, cfg, fresh, n_fresh);
        for (size_t i = 0; i < n_fresh; i++)
            sync_section(n, fresh[i]);
        keep_discovery_stats(n);
    }
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
static nx_status make_alerts(const struct config *cfg, struct alert_scratch *scratch,
                             const struct rule_notice *v, size_t count, struct batch *out,
                             struct nx_err *err)
{
    nx_status st = batch_init(out, count, err);

    for (size_t i = 0; i < count && !st; i++) {
        struct labels labels;
        bool kept;

        st = alert_relabel(scratch, &v[i].labels, &cfg->global.external_labels,
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
static nx_status for_section(const struct section *s, struct alert_scratch *scratch,
                             const struct batch *all, struct batch *out, struct nx_err *err)
{
    const struct relabel_rules *rules = &sender_settings_section(s->settings)->alert_relabel;
    nx_status st = batch_init(out, all->n, err);

    for (size_t i = 0; i < all->n && !st; i++) {
        struct labels labels;
        bool kept;

        st = alert_relabel(scratch, &all->v[i]->labels, NULL, rules, &kept, &labels, err);
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

static nx_status queue_section(const struct section *s, struct alert_scratch *scratch,
                               const struct batch *all, struct nx_err *err)
{
    struct batch own = {0};
    const struct batch *b = all;
    nx_status st = NX_OK;

    if (sender_settings_section(s->settings)->alert_relabel.n) {
        st = for_section(s, scratch, all, &own, err);
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
    struct alert_scratch scratch = {0};
    struct batch all = {0};
    struct nx_err err = {0};
    nx_status st = NX_OK;

    nx_rdlock(&n->lock);
    if (n->cfg && (n->n_sections || n->also)) {
        st = alert_scratch_init(&scratch, &err);
        if (!st)
            st = make_alerts(n->cfg, &scratch, v, count, &all, &err);
        for (size_t i = 0; i < n->n_sections && all.n; i++) { /* what could be made is sent */
            nx_status bad = queue_section(n->sections[i], &scratch, &all, &err);
            st = st ? st : bad;
        }
        alert_scratch_done(&scratch);
    }
    nx_rwunlock(&n->lock);
    if (all.n && n->also)
        n->also(n->also_ctx, all.v, all.n);
    batch_done(&all);
    if (st)
        log_error("Alerts are not sent", "component", "notifier", "err", err.text);
}
