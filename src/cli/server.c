#include "src/cli/server.h"

/* server.c - builds the parts, hands each what it needs, and takes them down again.
 *
 * ORDER    Up: configuration, web (which says "not ready"), storage (replays its log), engine, scraping;
 *          then the targets are applied and the server is ready. Down: web, rules, what they send, scraping,
 *          storage.
 * RELOAD   SIGHUP and /-/reload load the file anew, and the files it names. Only when that succeeds is anything
 *          replaced; each part then takes the new configuration in turn. What may fail there is memory; the
 *          parts behind the first that does keep what they have, and the reload counts as failed.
 * THREADS  The main thread waits for signals; reloads run on it or on a web worker, one at a time,
 *          for whom server.busy is set; the start sets it as well: an early reload waits. A flag, not a
 *          lock that is held, because applying a configuration waits for other threads. */

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "promql/promql.h"
#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/num.h"
#include "src/base/regex.h"
#include "src/base/thread.h"
#include "src/cli/keep.h"
#include "src/cli/memory_limit.h"
#include "src/config/config.h"
#include "src/notify/notify.h"
#include "src/rules/rules.h"
#include "src/scrape/scrape.h"
#include "src/web/web.h"
#include "storage/storage.h"

#define DEFAULT_RETENTION_MS  (15ll * 24 * 3600 * 1000)
#define DEFAULT_MAX_EXEMPLARS 100000

struct server {
    struct flags flags;
    struct memory *memory;
    struct storage *storage;
    struct pql_engine *engine;
    struct query_log *query_log;
    struct scrape *scrape;
    struct notify *notify;
    struct direct *direct; /* NULL: no --notify.file */
    struct rules *rules;
    struct web *web;
    bool ready;      /* atomic */
    bool quit_asked; /* atomic: by the web server */
    struct pql_features features;
    bool extra_metrics;
    bool per_step_stats; /* promql-per-step-stats */
    bool exemplars;      /* are stored */
    bool concurrent_rules;

    struct nx_mutex lock; /* busy, started */
    struct nx_cond turn_over;
    bool busy;    /* somebody changes the parts or their configuration */
    bool started; /* all parts are there */

    struct nx_mutex state; /* cfg, reload_ok, reload_ms: held for a moment, by readers as well */
    struct config *cfg;
    bool reload_ok;
    int64_t reload_ms;
    int64_t start_ms;
    char retention_text[96];
    bool bad_setting; /* what keeps us from starting is a setting: exit code 2 */
    struct web_flag *web_flags;
    sigset_t signals;
};

/* ---- configuration ------------------------------------------------------------------------------- */

static void on_load_warning(void *ctx, const char *text)
{
    (void)ctx;
    log_warn(text, "component", "config");
}

static void on_config_warning(void *ctx, const char *text)
{
    (void)ctx;
    log_warn("Part of the configuration has no effect", "component", "config", "detail", text);
}

static nx_status load_config(struct server *s, struct config **out, struct nx_err *err)
{
    const char *path = flags_str(&s->flags, "config.file");
    struct config_opts opts = {.warn = on_load_warning};
    nx_status st = config_load(out, path, &opts, err);

    if (!st)
        config_warnings(*out, on_config_warning, NULL);
    return st;
}

/* The configuration's retention wins over the flags, bound by bound. Without any bound it is 15 days. */
static struct storage_retention retention(const struct server *s, const struct config *cfg)
{
    const struct config_retention *c = &cfg->storage.tsdb.retention;
    const char *time = flags_str(&s->flags, "storage.tsdb.retention.time");
    struct storage_retention r = {.bytes = flags_bytes(&s->flags, "storage.tsdb.retention.size"),
                                  .percent = c->percentage};

    if (time[0] && num_parse_duration(nx_slice_str(time), &r.time_ms, NULL))
        r.time_ms = 0;
    if (c->time_ms)
        r.time_ms = c->time_ms;
    if (c->size_bytes)
        r.bytes = (uint64_t)c->size_bytes;
    if (!r.time_ms && !r.bytes && !(r.percent > 0))
        r.time_ms = DEFAULT_RETENTION_MS;
    return r;
}

static nx_status load_rules(const struct server *s, struct keep_file *out, struct nx_err *err)
{
    const char *path = flags_str(&s->flags, "storage.tsdb.retention.rules");

    if (!keep_file_load(out, path, err))
        return NX_OK;
    return nx_context(
        err, "couldn't load rules of retention (--storage.tsdb.retention.rules=\"%s\")", path);
}

/* *out NULL: there is no direct notification. */
static nx_status load_plan(const struct server *s, struct direct_plan **out, struct nx_err *err)
{
    const char *path = flags_str(&s->flags, "notify.file");

    *out = NULL;
    if (!path[0] || !direct_plan_load(out, path, err))
        return NX_OK;
    return nx_context(err, "couldn't load direct notification (--notify.file=\"%s\")", path);
}

/* "15d", "15d or 512MiB or 80%"; as it was at the start. */
static void describe_retention(struct server *s, const struct storage_retention *r)
{
    char text[NUM_TEXT_BYTES];
    static const char units[] = "BKMGTPE";
    uint64_t bytes = r->bytes;
    size_t u = 0;
    int n = 0;

    if (r->time_ms)
        n = snprintf(s->retention_text, sizeof s->retention_text, "%.*s",
                     (int)num_format_duration(text, r->time_ms), text);
    while (bytes && bytes % 1024 == 0 && u < 6) {
        bytes /= 1024;
        u++;
    }
    if (bytes)
        n += snprintf(s->retention_text + n, sizeof s->retention_text - (size_t)n, "%s%llu%.*s%s",
                      n ? " or " : "", (unsigned long long)bytes, u > 0, &units[u], u ? "iB" : "B");
    if (r->percent > 0)
        snprintf(s->retention_text + n, sizeof s->retention_text - (size_t)n, "%s%g%%",
                 n ? " or " : "", r->percent);
}

/* Only the feature flag makes room for them; how much, the configuration may say. */
static int64_t max_exemplars(const struct server *s, const struct config *cfg)
{
    if (!s->exemplars)
        return 0;
    return cfg->storage.exemplars ? cfg->storage.exemplars->max_exemplars : DEFAULT_MAX_EXEMPLARS;
}

/* Hands a configuration to every part, in turn, until one fails. */
static nx_status apply(struct server *s, const struct config *cfg, const struct keep_file *rules,
                       struct nx_err *err)
{
    const struct storage_retention r = retention(s, cfg);
    struct rule_files *files = NULL;
    nx_status st = rules_load(s->rules, cfg, &files, err);

    if (!st)
        st = notify_check(cfg, err);
    if (st) {
        rule_files_unref(files);
        return st;
    }
    if ((rules && storage_set_rules(s->storage, &rules->rules, err)) ||
        query_log_set_file(s->query_log, cfg->global.query_log_file, err)) {
        rule_files_unref(files);
        return err->code;
    }
    storage_set_retention(s->storage, &r);
    storage_set_max_exemplars(s->storage, max_exemplars(s, cfg));
    storage_set_out_of_order_window(s->storage, cfg->storage.tsdb.out_of_order_time_window_ms);
    pql_engine_set_default_step(s->engine, cfg->global.evaluation_interval_ms);
    st = scrape_apply(s->scrape, cfg, err);
    if (!st)
        st = notify_apply(s->notify, cfg, err);
    if (!st)
        st = rules_apply(s->rules, cfg, files, err);
    rule_files_unref(files);
    return st;
}

static void set_reload_state(struct server *s, struct config *cfg, bool ok)
{
    struct config *old = NULL;

    nx_lock(&s->state);
    if (cfg) {
        old = s->cfg;
        s->cfg = cfg;
    }
    s->reload_ok = ok;
    if (ok)
        s->reload_ms = clock_now_ms();
    nx_unlock(&s->state);
    config_unref(old);
}

/* Waits until nobody else is about it; whether there is something to change. */
static bool take_turn(struct server *s)
{
    nx_lock(&s->lock);
    while (s->busy)
        nx_cond_wait(&s->turn_over, &s->lock);
    s->busy = true;
    bool started = s->started;
    nx_unlock(&s->lock);
    return started;
}

static void end_turn(struct server *s, bool started)
{
    nx_lock(&s->lock);
    s->busy = false;
    s->started = started;
    nx_cond_signal(&s->turn_over);
    nx_unlock(&s->lock);
}

static nx_status reload(void *ctx, struct nx_err *err)
{
    struct server *s = ctx;
    struct config *cfg = NULL;
    struct keep_file rules = {0};
    struct direct_plan *plan = NULL;
    nx_status st;

    if (!take_turn(s)) {
        end_turn(s, false);
        return nx_fail(err, NX_UNAVAILABLE, "the server is not running");
    }
    log_info("Loading configuration file", "filename", flags_str(&s->flags, "config.file"));
    st = load_config(s, &cfg, err);
    if (st) {
        nx_context(err, "couldn't load configuration (--config.file=\"%s\")",
                   flags_str(&s->flags, "config.file"));
    } else {
        st = load_rules(s, &rules, err);
        if (!st)
            st = load_plan(s, &plan, err);
        if (!st)
            st = apply(s, cfg, &rules, err);
        if (!st && plan)
            st = direct_apply(s->direct, plan, err);
        keep_file_done(&rules);
        direct_plan_unref(plan);
        if (st) {
            nx_context(err,
                       "one or more errors occurred while applying the new configuration "
                       "(--config.file=\"%s\")",
                       flags_str(&s->flags, "config.file"));
            config_unref(cfg); /* the scrape manager still has the old one */
            cfg = NULL;
        }
    }
    set_reload_state(s, cfg, st == NX_OK);
    end_turn(s, true);
    if (st)
        log_error("Error reloading config", "err", err->text);
    else
        log_info("Completed loading of configuration file", "filename",
                 flags_str(&s->flags, "config.file"));
    return st;
}

/* ---- hooks of the web server --------------------------------------------------------------------- */

static bool hook_ready(void *ctx)
{
    return __atomic_load_n(&((struct server *)ctx)->ready, __ATOMIC_ACQUIRE);
}

static void hook_quit(void *ctx)
{
    __atomic_store_n(&((struct server *)ctx)->quit_asked, true, __ATOMIC_RELEASE);
    kill(getpid(), SIGTERM);
}

static void hook_config_yaml(void *ctx, struct buf *out)
{
    struct server *s = ctx;

    nx_lock(&s->state);
    struct config *cfg = config_ref(s->cfg);
    nx_unlock(&s->state);
    config_yaml(cfg, out);
    config_unref(cfg);
}

static void hook_reload_status(void *ctx, bool *ok, int64_t *last_success_ms)
{
    struct server *s = ctx;

    nx_lock(&s->state);
    *ok = s->reload_ok;
    *last_success_ms = s->reload_ms;
    nx_unlock(&s->state);
}

/* ---- parts --------------------------------------------------------------------------------------- */

/* Features that change what we do; all other known names only get a line in the log. */
static void set_feature(struct server *s, const char *name, size_t len)
{
    static const char *const later[] = {"created-timestamp-zero-ingestion",
                                        "delayed-compaction",
                                        "memory-snapshot-on-shutdown",
                                        "metadata-wal-records",
                                        "otlp-deltatocumulative",
                                        "otlp-native-delta-ingestion",
                                        "search-api",
                                        "st-storage",
                                        "type-and-unit-labels",
                                        "auto-reload-config",
                                        "native-histograms"};
    struct nx_slice n = {name, len};
    char *text = strndup(name, len);

    if (nx_slice_is(n, "promql-experimental-functions"))
        s->features.experimental_functions = true;
    else if (nx_slice_is(n, "promql-binop-fill-modifiers"))
        s->features.binop_fill = true;
    else if (nx_slice_is(n, "promql-extended-range-selectors"))
        s->features.extended_range = true;
    else if (nx_slice_is(n, "promql-delayed-name-removal"))
        s->features.delayed_name_removal = true;
    else if (nx_slice_is(n, "promql-per-step-stats"))
        s->per_step_stats = true;
    else if (nx_slice_is(n, "extra-scrape-metrics"))
        s->extra_metrics = true;
    else if (nx_slice_is(n, "exemplar-storage"))
        s->exemplars = true;
    else if (nx_slice_is(n, "concurrent-rule-eval"))
        s->concurrent_rules = true;
    else if (len) {
        bool known = false;
        for (size_t i = 0; i < NX_COUNT(later); i++)
            known = known || nx_slice_is(n, later[i]);
        log_warn(known ? "Feature has no effect in this version"
                       : "Unknown option for --enable-feature",
                 "option", text);
    }
    free(text);
}

static void set_features(struct server *s)
{
    const char *const *list;
    size_t n = flags_list(&s->flags, "enable-feature", &list);

    for (size_t i = 0; i < n; i++)
        for (const char *at = list[i]; *at;) {
            size_t len = strcspn(at, ",");
            set_feature(s, at, len);
            at += len + (at[len] == ',');
        }
}

static nx_status open_storage(struct server *s, struct nx_err *err)
{
    struct storage_opts o = {
        .fs = fs_real(),
        .dir = flags_str(&s->flags, "storage.tsdb.path"),
        .min_block_ms = flags_ms(&s->flags, "storage.tsdb.min-block-duration"),
        .max_block_ms = flags_ms(&s->flags, "storage.tsdb.max-block-duration"),
        .keep_overlapping = !flags_bool(&s->flags, "storage.tsdb.allow-overlapping-compaction"),
        .wal_segment_bytes = flags_bytes(&s->flags, "storage.tsdb.wal-segment-size"),
        .fsync_ms = flags_ms(&s->flags, "storage.tsdb.wal-fsync-interval"),
        .fsync_each = flags_ms(&s->flags, "storage.tsdb.wal-fsync-interval") == 0,
        .no_lockfile = flags_bool(&s->flags, "storage.tsdb.no-lockfile"),
        .memory = s->memory,
    };

    const struct storage_retention r = retention(s, s->cfg);
    o.retention_ms = r.time_ms;
    o.retention_bytes = r.bytes;
    o.retention_percent = r.percent;
    struct keep_file rules = {0};
    if (load_rules(s, &rules, err)) {
        s->bad_setting = true;
        return err->code;
    }
    o.rules = &rules.rules;
    log_info("Starting TSDB ...");
    nx_status opened = storage_open(&s->storage, &o, err);
    keep_file_done(&rules);
    if (opened)
        return nx_context(err, "opening storage failed");
    struct storage_stats st;
    storage_get_stats(s->storage, &st);
    if (r.percent > 0 && st.disk_bytes == 0) {
        s->bad_setting = true;
        return nx_fail(err, NX_UNAVAILABLE,
                       "unable to detect total capacity of metric storage at %s, please disable "
                       "retention percentage (%g%%)",
                       o.dir, r.percent);
    }
    log_info("TSDB started", "series", log_fmt("%llu", (unsigned long long)st.head_series),
             "blocks", log_fmt("%llu", (unsigned long long)st.blocks), "wal_replay_ms",
             log_fmt("%llu", (unsigned long long)st.wal_replay_ms));
    return NX_OK;
}

static nx_status open_engine(struct server *s, struct nx_err *err)
{
    struct pql_engine_opts o = {
        .lookback_ms = flags_ms(&s->flags, "query.lookback-delta"),
        .timeout_ms = flags_ms(&s->flags, "query.timeout"),
        .max_samples = (uint64_t)flags_int(&s->flags, "query.max-samples"),
        .max_concurrency = (uint32_t)flags_int(&s->flags, "query.max-concurrency"),
        .memory = s->memory,
        .max_bytes = flags_bytes(&s->flags, "query.max-memory"),
        .features = s->features,
        .per_step_stats = s->per_step_stats,
    };
    nx_status st =
        query_log_new(&s->query_log, fs_real(), flags_str(&s->flags, "storage.tsdb.path"),
                      o.max_concurrency ? o.max_concurrency : 20, err);

    if (st)
        return st;
    o.watch = query_log_watch(s->query_log);
    return pql_engine_new(&s->engine, &o, err);
}

static nx_status open_scrape(struct server *s, struct nx_err *err)
{
    struct scrape_opts o = {
        .storage = s->storage,
        .memory = s->memory,
        .discovery_reload_ms = flags_ms(&s->flags, "scrape.discovery-reload-interval"),
        .timestamp_tolerance_ms = flags_ms(&s->flags, "scrape.timestamp-tolerance"),
        .no_adjust_timestamps = !flags_bool(&s->flags, "scrape.adjust-timestamps"),
        .extra_metrics = s->extra_metrics,
    };

    return scrape_new(&s->scrape, &o, err);
}

static nx_status open_direct(struct server *s, struct nx_err *err)
{
    struct direct_opts o = {
        .fs = fs_real(),
        .state_dir = flags_str(&s->flags, "storage.tsdb.path"),
        .external_url = web_external_url(s->web),
        .grace_ms = flags_ms(&s->flags, "rules.alert.for-grace-period"),
    };
    struct direct_plan *plan = NULL;
    nx_status st = load_plan(s, &plan, err);

    s->bad_setting = st != NX_OK;
    if (plan)
        st = direct_open(&s->direct, &o, plan, err);
    direct_plan_unref(plan);
    return st;
}

static nx_status open_notify(struct server *s, struct nx_err *err)
{
    int64_t capacity = flags_int(&s->flags, "alertmanager.notification-queue-capacity"),
            batch = flags_int(&s->flags, "alertmanager.notification-batch-size");
    struct notify_opts o = {
        .queue_capacity = capacity > 0 ? (size_t)capacity : 0,
        .batch_size = batch > 0 ? (size_t)batch : 0,
        .drain = flags_bool(&s->flags, "alertmanager.drain-notification-queue-on-shutdown"),
        .also = s->direct ? direct_take : NULL,
        .also_ctx = s->direct,
    };

    return notify_new(&s->notify, &o, err);
}

/* None is what a negative number means, too. */
static unsigned concurrent_evals(const struct server *s)
{
    const int64_t n = flags_int(&s->flags, "rules.max-concurrent-evals");

    return n < 0 ? 0 : n > UINT16_MAX ? UINT16_MAX : (unsigned)n;
}

static nx_status open_rules(struct server *s, struct nx_err *err)
{
    struct rules_opts o = {
        .storage = s->storage,
        .engine = s->engine,
        .external_url = web_external_url(s->web),
        .outage_tolerance_ms = flags_ms(&s->flags, "rules.alert.for-outage-tolerance"),
        .grace_period_ms = flags_ms(&s->flags, "rules.alert.for-grace-period"),
        .resend_delay_ms = flags_ms(&s->flags, "rules.alert.resend-delay"),
        .parallel = s->concurrent_rules,
        .max_concurrent = concurrent_evals(s),
        .features = s->features,
        .notify = notify_take,
        .notify_ctx = s->notify,
    };

    return rules_new(&s->rules, &o, err);
}

static nx_status open_web(struct server *s, struct nx_err *err)
{
    const char *const *listen;
    size_t n_listen = flags_list(&s->flags, "web.listen-address", &listen);
    const char *prefix = flags_str(&s->flags, "web.route-prefix");
    struct web_opts o = {
        .listen = listen,
        .n_listen = n_listen,
        .external_url = flags_str(&s->flags, "web.external-url"),
        .route_prefix = prefix[0] ? prefix : NULL,
        .page_title = flags_str(&s->flags, "web.page-title"),
        .cors_origin = flags_str(&s->flags, "web.cors.origin"),
        .max_connections = (unsigned)flags_int(&s->flags, "web.max-connections"),
        .read_timeout_ms = flags_ms(&s->flags, "web.read-timeout"),
        .enable_lifecycle = flags_bool(&s->flags, "web.enable-lifecycle"),
        .enable_admin_api = flags_bool(&s->flags, "web.enable-admin-api"),
        .storage_retention = s->retention_text,
        .flags = s->web_flags,
        .n_flags = server_n_flags,
        .start_ms = s->start_ms,
        .memory = s->memory,
        .features = s->features,
        .hooks = {s, hook_ready, reload, hook_quit, hook_config_yaml, hook_reload_status},
    };
    const struct storage_retention r = retention(s, s->cfg);
    describe_retention(s, &r);
    nx_status st = web_open(&s->web, &o, err);
    if (!st)
        for (size_t i = 0; i < n_listen; i++)
            log_info("Listening on", "component", "web", "address", listen[i], "port",
                     log_fmt("%u", web_port(s->web, i)));
    return st;
}

static nx_status start_parts(struct server *s, struct nx_err *err)
{
    nx_status st = open_storage(s, err);

    if (!st)
        st = open_engine(s, err);
    if (!st)
        st = open_scrape(s, err);
    if (!st)
        st = open_direct(s, err);
    if (!st)
        st = open_notify(s, err);
    if (!st)
        st = open_rules(s, err);
    if (!st) {
        struct web_data data = {s->storage, s->scrape, s->engine, s->query_log,
                                s->rules,   s->notify, s->direct};
        web_attach(s->web, &data);
        st = apply(s, s->cfg, NULL, err); /* the rules it was opened with */
    }
    return st;
}

static nx_status open_memory(struct server *s, struct nx_err *err)
{
    uint64_t limit = 0;
    char why[64] = "";
    nx_status st = memory_limit_of(&s->flags, "", &limit, why, err);

    if (st)
        return st;
    s->memory = memory_new(limit, NULL, NULL);
    if (!s->memory)
        return nx_fail(err, NX_NOMEM, "starting the server");
    if (limit)
        log_info("Memory is limited", "bytes", log_fmt("%llu", (unsigned long long)limit), "from",
                 why);
    return NX_OK;
}

/* What the cgroup allows may change while we run. */
static void refresh_memory(struct server *s)
{
    uint64_t limit = 0, before = memory_limit(s->memory);
    char why[64] = "";

    if (memory_limit_of(&s->flags, "", &limit, why, NULL) || limit == before)
        return;
    memory_set_limit(s->memory, limit);
    log_info("The memory limit has changed", "bytes", log_fmt("%llu", (unsigned long long)limit),
             "from", why);
}

static nx_status start(struct server *s, struct nx_err *err)
{
    nx_status st;

    take_turn(s);
    st = open_memory(s, err);
    if (st) {
        log_error("Fatal error", "err", err->text);
        end_turn(s, false);
        return st;
    }
    st = open_web(s, err);
    if (st) {
        log_error("Unable to start web listener", "err", err->text);
    } else {
        st = start_parts(s, err);
        if (st)
            log_error("Fatal error", "err", err->text);
    }
    end_turn(s, st == NX_OK);
    if (!st) {
        __atomic_store_n(&s->ready, true, __ATOMIC_RELEASE);
        log_info("Server is ready to receive web requests.");
    }
    return st;
}

/* The web server asks all others, so it goes first. */
static void stop(struct server *s)
{
    __atomic_store_n(&s->ready, false, __ATOMIC_RELEASE);
    if (s->storage)
        storage_stop_admin(s->storage); /* else an answer may take as long as its blocks */
    web_close(s->web);
    rules_free(s->rules);
    if (s->notify)
        log_info("Stopping notification manager...", "component", "notifier");
    notify_free(s->notify);
    direct_close(s->direct);
    if (s->scrape)
        log_info("Stopping scrape manager...");
    scrape_free(s->scrape);
    pql_engine_free(s->engine);
    query_log_free(s->query_log);
    storage_close(s->storage);
    memory_free(s->memory);
}

/* ---- flags ----------------------------------------------------------------------------------------- */

/* As /api/v1/status/flags shows them: the value, lists joined by commas. */
static nx_status make_web_flags(struct server *s, struct nx_err *err)
{
    s->web_flags = arena_array(s->flags.arena, server_n_flags, sizeof *s->web_flags);
    for (size_t i = 0; s->web_flags && i < server_n_flags; i++) {
        const char *const *list;
        size_t n = flags_list(&s->flags, server_flags[i].name, &list);
        const char *text = n ? list[0] : "";
        for (size_t k = 1; k < n; k++)
            text = arena_printf(s->flags.arena, "%s,%s", text, list[k]);
        s->web_flags[i] = (struct web_flag){server_flags[i].name, text};
    }
    return s->web_flags ? NX_OK : arena_failed(s->flags.arena, err);
}

/* Flags of parts that are still to come: told when they are given, refused where silence would harm. */
static nx_status check_later(const struct server *s, struct nx_err *err)
{
    for (size_t i = 0; i < server_n_flags; i++) {
        const struct flag *row = &server_flags[i];
        if (!s->flags.values[i].n || strcmp(flags_str(&s->flags, row->name), row->value) == 0)
            continue;
        if (row->marks & FLAG_REFUSED)
            return nx_fail(
                err, NX_BADINPUT,
                "flag --%s is not supported in this version; refusing to start without its effect",
                row->name);
        if (row->marks & FLAG_LATER)
            log_warn("Flag has no effect in this version", "flag", log_fmt("--%s", row->name));
    }
    return NX_OK;
}

static int usage_error(const struct nx_err *err, bool bad_value)
{
    struct buf b;

    fprintf(stderr, "Error parsing command line arguments: %s\n", err->text);
    if (!bad_value) {
        fprintf(stderr, "prometheus: error: %s\n", err->text);
        return 1;
    }
    buf_init(&b, 0);
    flags_usage(&b, "usage: prometheus [<flags>]\n\nThe Prometheus monitoring server", server_flags,
                server_n_flags, false);
    fputs(buf_cstr(&b), stdout);
    buf_done(&b);
    return 2;
}

static bool parse_flags(struct server *s, int argc, char **argv, int *code)
{
    struct nx_err err = {0};
    bool bad_value = false;
    struct buf b;
    int64_t ms;

    *code = 0;
    if (flags_parse(&s->flags, server_flags, server_n_flags, argc, argv, &bad_value, &err)) {
        *code = usage_error(&err, bad_value);
        return false;
    }
    if (s->flags.help) {
        buf_init(&b, 0);
        flags_usage(&b, "usage: prometheus [<flags>]\n\nThe Prometheus monitoring server",
                    server_flags, server_n_flags, false);
        fputs(buf_cstr(&b), stdout);
        buf_done(&b);
        return false;
    }
    if (s->flags.version) {
        cli_print_version("prometheus");
        return false;
    }
    const char *time = flags_str(&s->flags, "storage.tsdb.retention.time");
    if (s->flags.n_args)
        nx_fail(&err, NX_BADINPUT, "unexpected %s", s->flags.args[0]);
    else if (time[0] && num_parse_duration(nx_slice_str(time), &ms, &err))
        bad_value = true;
    else
        return true;
    *code = usage_error(&err, bad_value);
    return false;
}

static void setup_log(const struct server *s)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    const char *level = flags_str(&s->flags, "log.level");
    enum log_level l = LOG_INFO_LEVEL;

    for (size_t i = 0; i < NX_COUNT(levels); i++)
        if (strcmp(level, levels[i]) == 0)
            l = (enum log_level)i;
    log_setup(l, strcmp(flags_str(&s->flags, "log.format"), "json") == 0 ? LOG_FORMAT_JSON
                                                                         : LOG_FORMAT_LOGFMT);
}

/* ---- run --------------------------------------------------------------------------------------------- */

/* Blocked in every thread and waited for by the main one; an early SIGHUP waits, too. */
static void block_signals(struct server *s)
{
    sigemptyset(&s->signals);
    sigaddset(&s->signals, SIGTERM);
    sigaddset(&s->signals, SIGINT);
    sigaddset(&s->signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The next signal; 0 when it is time to look at the memory limit again. */
static int next_signal(const struct server *s)
{
    int64_t ms = flags_ms(&s->flags, "auto-gomemlimit.refresh-interval");
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    int sig;

    for (;;) {
        if (ms > 0) {
            sig = sigtimedwait(&s->signals, NULL, &ts);
            if (sig > 0)
                return sig;
            if (errno == EAGAIN)
                return 0;
        } else if (sigwait(&s->signals, &sig) == 0) {
            return sig;
        }
    }
}

static void wait_for_end(struct server *s)
{
    for (;;) {
        int sig = next_signal(s);
        if (!sig) {
            refresh_memory(s);
            continue;
        }
        if (sig == SIGHUP) {
            struct nx_err err = {0};
            reload(s, &err);
            continue;
        }
        if (__atomic_load_n(&s->quit_asked, __ATOMIC_ACQUIRE))
            log_warn("Received termination request via web service, exiting gracefully...");
        else
            log_warn("Received an OS signal, exiting gracefully...", "signal",
                     sig == SIGINT ? "interrupt" : "terminated");
        return;
    }
}

/* One descriptor for each target and client: as many as the system lets us have, as Go's programs do. */
static void raise_descriptors(void)
{
    struct rlimit rl;

    if (getrlimit(RLIMIT_NOFILE, &rl) || rl.rlim_cur >= rl.rlim_max)
        return;
    rl.rlim_cur = rl.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &rl))
        log_debug("Could not raise the limit of open files");
}

/* Few arenas and early trimming: memory that is freed goes back to the system. */
static void tune_allocator(void)
{
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_TRIM_THRESHOLD, 256 << 10);
    mallopt(M_MMAP_THRESHOLD, 256 << 10);
}

/* What Prometheus checks before anything else, on plain standard error. Returns the exit code. */
static int check_front(const struct server *s)
{
    const char *url = flags_str(&s->flags, "web.external-url"),
               *cors = flags_str(&s->flags, "web.cors.origin");
    double ratio = strtod(flags_str(&s->flags, "auto-gomemlimit.ratio"), NULL);
    struct regex *re = NULL;
    struct nx_err err = {0};
    int code = 0;

    if (ratio <= 0 || ratio > 1) {
        fputs("--auto-gomemlimit.ratio must be greater than 0 and less than or equal to 1.\n",
              stderr);
        code = 1;
    } else if (web_check_url(url, &err)) {
        fprintf(stderr, "parse external URL \"%s\": %s\n", url, err.text);
        code = 2;
    } else if (regex_new_for_relabel(&re, nx_slice_str(cors), &err)) {
        fprintf(stderr, "could not compile CORS regex string \"%s\": %s\n", cors, err.text);
        code = 2;
    }
    regex_free(re);
    return code;
}

static int refuse_agent_flags(const struct server *s)
{
    bool any = false;

    for (size_t i = 0; i < server_n_flags; i++)
        if (s->flags.values[i].n && (server_flags[i].marks & FLAG_AGENT)) {
            fprintf(stderr, "%s\"--%s\"",
                    any ? " " : "The following flag(s) can only be used in agent mode: [",
                    server_flags[i].name);
            any = true;
        }
    if (any)
        fputs("]\n", stderr);
    return any ? 3 : 0;
}

static int load_first_config(struct server *s)
{
    const char *file = flags_str(&s->flags, "config.file");
    char *path = realpath(file, NULL);
    struct nx_err err = {0};
    int code = 0;

    if (load_config(s, &s->cfg, &err)) {
        char msg[512];
        snprintf(msg, sizeof msg, "Error loading config (--config.file=%s)", file);
        log_error(msg, "file", path ? path : file, "err", err.text);
        code = 2;
    } else {
        set_reload_state(s, NULL, true);
    }
    free(path);
    return code;
}

static int run(struct server *s)
{
    struct nx_err err = {0};
    int code = refuse_agent_flags(s);

    if (!code)
        code = check_front(s);
    if (code)
        return code;
    if (check_later(s, &err) || make_web_flags(s, &err)) {
        log_error("Fatal error", "err", err.text);
        return 1;
    }
    log_info("Starting Narthex", "version", NX_VERSION);
    set_features(s);
    code = load_first_config(s);
    if (code)
        return code;
    if (start(s, &err) == NX_OK)
        wait_for_end(s);
    else
        code = s->bad_setting ? 2 : 1;
    stop(s);
    config_unref(s->cfg);
    if (!code)
        log_info("See you next time!");
    return code;
}

int server_main(int argc, char **argv)
{
    struct server *s = calloc(1, sizeof *s);
    int code = 1;

    if (!s)
        return 1;
    tune_allocator();
    raise_descriptors();
    s->start_ms = clock_now_ms();
    nx_mutex_init(&s->lock, NX_RANK_CLI);
    nx_cond_init(&s->turn_over);
    nx_mutex_init(&s->state, NX_RANK_STATS);
    block_signals(s);
    if (parse_flags(s, argc, argv, &code)) {
        setup_log(s);
        code = run(s);
    }
    flags_done(&s->flags);
    nx_cond_done(&s->turn_over);
    nx_mutex_done(&s->lock);
    nx_mutex_done(&s->state);
    free(s);
    return code;
}
