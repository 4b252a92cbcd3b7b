#include "src/web/stats.h"

/* selfmetrics.c - /metrics: ourselves, by the names that dashboards for Prometheus ask for.
 *
 * SHAPE   One table, sorted by name. A row is a plain number found at an offset of `struct self`, or a
 *         function that writes all samples of its family.
 * RULES   M1  Only what is true is told: no garbage collector that we don't have, no queue that does
 *             not exist yet. go_memstats_* are the allocator's own figures, which mean the same. */

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/base/num.h"
#include "src/expo/expo.h"
#include "src/web/process.h"
#include "src/web/version.h"

struct self {
    struct web_req *r;
    struct buf *b;
    enum expo_format format;
    struct storage_stats st;
    struct scrape_stats sc;
    struct pql_engine_stats en;
    struct query_log_stats ql;
    struct rules_stats ru;
    struct notify_stats no;
    struct direct_stats di;
    bool has_direct;
    struct process_info pr;
    struct memory_stats mem;
    bool has_data;
    uint64_t ready, reload_ok, conns_accepted, conns_closed, query_log_enabled;
    double reload_s, head_min_s, head_max_s, lowest_s, replay_s, exemplar_oldest_s;
    double retention_s, retention_percent;
    int64_t head_min_ms, head_max_ms, lowest_ms, mem_level;
};

enum kind { K_EMIT, K_U64, K_I64, K_F64 };
struct row {
    const char *name;
    enum expo_type type;
    enum kind kind;
    size_t offset;
    void (*emit)(const struct self *s, const struct row *row);
    const char *help;
};

static void sample(const struct self *s, const struct row *row, const char *suffix,
                   const struct expo_pair *pairs, size_t n, double v)
{
    expo_write_sample(s->b, s->format, row->name, suffix, pairs, n, v);
}

static const char *text_of(const struct self *s, struct nx_slice t)
{
    const char *c = arena_strndup(s->r->arena, t.ptr, t.len);

    return c ? c : "";
}

/* ---- families with labels -------------------------------------------------------------------------- */

static void emit_build_info(const struct self *s, const struct row *row)
{
    const struct expo_pair pairs[] = {{"branch", WEB_BRANCH},
                                      {"goarch", web_arch},
                                      {"goos", "linux"},
                                      {"goversion", WEB_GO_VERSION},
                                      {"revision", web_revision},
                                      {"tags", ""},
                                      {"version", WEB_PROMETHEUS_VERSION}};
    sample(s, row, "", pairs, NX_COUNT(pairs), 1);
}

static void emit_narthex_build_info(const struct self *s, const struct row *row)
{
    const struct expo_pair pairs[] = {{"revision", web_revision}, {"version", NX_VERSION}};

    sample(s, row, "", pairs, NX_COUNT(pairs), 1);
}

static void emit_by_type(const struct self *s, const struct row *row, double floats)
{
    sample(s, row, "", &(struct expo_pair){"type", "float"}, 1, floats);
    sample(s, row, "", &(struct expo_pair){"type", "histogram"}, 1, 0);
}

static void emit_appended(const struct self *s, const struct row *row)
{
    emit_by_type(s, row, (double)s->st.head_samples_appended);
}

static void emit_out_of_order(const struct self *s, const struct row *row)
{
    emit_by_type(s, row, (double)s->st.out_of_order);
}

static void emit_out_of_bounds(const struct self *s, const struct row *row)
{
    emit_by_type(s, row, (double)s->st.out_of_bounds);
}

static void emit_too_old(const struct self *s, const struct row *row)
{
    emit_by_type(s, row, (double)s->st.too_old);
}

static void emit_late_appended(const struct self *s, const struct row *row)
{
    emit_by_type(s, row, (double)s->st.out_of_order_appended);
}

/* A histogram's buckets (atomic, not cumulative): one for each of the n bounds, one more for all above. */
struct buckets {
    const uint64_t *count;
    const double *bound;
    size_t n;
};

/* `label`: of all samples, of a name before "le"; NULL: they have none. */
static void emit_histogram(const struct self *s, const struct row *row,
                           const struct expo_pair *label, struct buckets b, double sum)
{
    struct expo_pair pairs[] = {label ? *label : (struct expo_pair){"", NULL}, {"le", NULL}},
                     *from = pairs + !label;
    size_t n = label ? 1 : 0;
    char le[NUM_TEXT_BYTES + 1];
    uint64_t total = 0;

    pairs[1].value = le;
    for (size_t i = 0; i <= b.n; i++) {
        double bound = i < b.n ? b.bound[i] : INFINITY;
        total += __atomic_load_n(&b.count[i], __ATOMIC_RELAXED);
        le[s->format == EXPO_TEXT ? num_format_g(le, bound) : num_format_om(le, bound)] = 0;
        sample(s, row, "_bucket", from, n + 1, (double)total);
    }
    sample(s, row, "_sum", from, n, sum);
    sample(s, row, "_count", from, n, (double)total);
}

/* How late samples out of order were. */
static void emit_late(const struct self *s, const struct row *row)
{
    emit_histogram(s, row, NULL,
                   (struct buckets){s->st.late, storage_late_bounds, STORAGE_LATE_BOUNDS},
                   (double)s->st.late_ms / 1000);
}

static void emit_listener(const struct self *s, const struct row *row)
{
    double v = strstr(row->name, "accepted") ? (double)s->conns_accepted : (double)s->conns_closed;

    sample(s, row, "", &(struct expo_pair){"listener_name", "http"}, 1, v);
}

static void emit_discovered(const struct self *s, const struct row *row)
{
    for (size_t i = 0; i < s->sc.n_by_pool; i++) {
        const struct expo_pair pairs[] = {{"config", text_of(s, s->sc.by_pool[i].pool)},
                                          {"name", "scrape"}};
        sample(s, row, "", pairs, 2, (double)s->sc.by_pool[i].discovered);
    }
    for (size_t i = 0; i < s->no.n_sets; i++) {
        const struct expo_pair pairs[] = {{"config", s->no.sets[i].name}, {"name", "notify"}};
        sample(s, row, "", pairs, 2, (double)s->no.sets[i].discovered);
    }
}

/* One value per scrape pool; which one the row's offset into scrape_pool_stats says. */
static void emit_pool(const struct self *s, const struct row *row)
{
    for (size_t i = 0; i < s->sc.n_by_pool; i++) {
        const struct scrape_pool_stats *p = &s->sc.by_pool[i];
        uint64_t v;
        memcpy(&v, (const char *)p + row->offset, sizeof v);
        sample(s, row, "", &(struct expo_pair){"scrape_job", text_of(s, p->pool)}, 1, (double)v);
    }
}

static void emit_sync_length(const struct self *s, const struct row *row)
{
    for (size_t i = 0; i < s->sc.n_by_pool; i++) {
        const struct scrape_pool_stats *p = &s->sc.by_pool[i];
        const struct expo_pair pair = {"scrape_job", text_of(s, p->pool)};
        sample(s, row, "_sum", &pair, 1, p->sync_seconds_sum);
        sample(s, row, "_count", &pair, 1, (double)p->syncs);
    }
}

static void emit_interval_length(const struct self *s, const struct row *row)
{
    static const char *const names[] = {"0.01", "0.05", "0.5", "0.9", "0.99"};

    for (size_t i = 0; i < s->sc.n_by_interval; i++) {
        const struct scrape_interval_stats *v = &s->sc.by_interval[i];
        const double q[] = {v->p01, v->p05, v->p50, v->p90, v->p99};
        struct expo_pair pairs[2] = {{"interval", text_of(s, v->interval)}, {"quantile", NULL}};
        for (size_t k = 0; k < NX_COUNT(names); k++) {
            pairs[1].value = names[k];
            sample(s, row, "", pairs, 2, q[k]);
        }
        sample(s, row, "_sum", pairs, 1, v->sum);
        sample(s, row, "_count", pairs, 1, (double)v->count);
    }
}

static void emit_slice(const struct self *s, const struct row *row, const char *slice,
                       uint64_t count, double sum, double p50, double p90, double p99)
{
    struct expo_pair pairs[2] = {{"quantile", "0.5"}, {"slice", slice}};

    sample(s, row, "", pairs, 2, p50);
    pairs[0].value = "0.9";
    sample(s, row, "", pairs, 2, p90);
    pairs[0].value = "0.99";
    sample(s, row, "", pairs, 2, p99);
    sample(s, row, "_sum", &pairs[1], 1, sum);
    sample(s, row, "_count", &pairs[1], 1, (double)count);
}

static void emit_query_duration(const struct self *s, const struct row *row)
{
#define SLICE(name, field)                                                                         \
    emit_slice(s, row, name, s->en.field.count, s->en.field.sum, s->en.field.p50, s->en.field.p90, \
               s->en.field.p99)
    SLICE("inner_eval", inner_eval);
    SLICE("prepare_time", prepare);
    SLICE("queue_time", queue);
    SLICE("result_sort", sort);
#undef SLICE
}

/* ---- rules --------------------------------------------------------------------------------------------- */

/* One value per group; which one the row's offset into rule_group_stats says. */
static void emit_group_count(const struct self *s, const struct row *row)
{
    for (size_t i = 0; i < s->ru.n_groups; i++) {
        const struct rule_group_stats *g = &s->ru.groups[i];
        uint64_t v;
        memcpy(&v, (const char *)g + row->offset, sizeof v);
        sample(s, row, "", &(struct expo_pair){"rule_group", g->key}, 1, (double)v);
    }
}

static void emit_group_number(const struct self *s, const struct row *row)
{
    for (size_t i = 0; i < s->ru.n_groups; i++) {
        const struct rule_group_stats *g = &s->ru.groups[i];
        double v;
        memcpy(&v, (const char *)g + row->offset, sizeof v);
        if (v >= 0) /* else there was nothing to restore */
            sample(s, row, "", &(struct expo_pair){"rule_group", g->key}, 1, v);
    }
}

static void emit_rule_summary(const struct self *s, const struct row *row,
                              const struct durations_view *d, size_t first)
{
    static const char *const names[] = {"0.01", "0.05", "0.5", "0.9", "0.99"};

    for (size_t i = first; i < NX_COUNT(names); i++)
        sample(s, row, "", &(struct expo_pair){"quantile", names[i]}, 1, d->quantile[i]);
    sample(s, row, "_sum", NULL, 0, d->sum);
    sample(s, row, "_count", NULL, 0, (double)d->count);
}

static void emit_rule_histogram(const struct self *s, const struct row *row,
                                const struct durations_view *d)
{
    static const double bounds[] = {0.01, 0.1, 1, 10};

    emit_histogram(s, row, NULL, (struct buckets){d->bucket, bounds, NX_COUNT(bounds)}, d->sum);
}

/* ---- Alertmanagers --------------------------------------------------------------------------------------- */

/* One value per Alertmanager; which one the row's offset into notify_url_stats says. */
static void emit_alertmanager(const struct self *s, const struct row *row)
{
    for (size_t i = 0; i < s->no.n_urls; i++) {
        const struct notify_url_stats *u = &s->no.urls[i];
        uint64_t v;
        memcpy(&v, (const char *)u + row->offset, sizeof v);
        sample(s, row, "", &(struct expo_pair){"alertmanager", u->url}, 1, (double)v);
    }
}

/* Nothing of those that were never sent to. */
static void emit_notify_latency(const struct self *s, const struct row *row)
{
    static const char *const names[] = {"0.5", "0.9", "0.99"};

    for (size_t i = 0; i < s->no.n_urls; i++) {
        const struct notify_url_stats *u = &s->no.urls[i];
        struct expo_pair pairs[2] = {{"alertmanager", u->url}, {"quantile", NULL}};
        for (size_t k = 0; u->count && k < NX_COUNT(names); k++) {
            pairs[1].value = names[k];
            sample(s, row, "", pairs, 2, u->quantile[k]);
        }
        if (u->count) {
            sample(s, row, "_sum", pairs, 1, u->sum);
            sample(s, row, "_count", pairs, 1, (double)u->count);
        }
    }
}

static void emit_notify_buckets(const struct self *s, const struct row *row)
{
    static const double bounds[] = {0.01, 0.1, 1, 10};

    for (size_t i = 0; i < s->no.n_urls; i++) {
        const struct notify_url_stats *u = &s->no.urls[i];
        if (u->count)
            emit_histogram(s, row, &(struct expo_pair){"alertmanager", u->url},
                           (struct buckets){u->bucket, bounds, NX_COUNT(bounds)}, u->sum);
    }
}

/* ---- direct notification ------------------------------------------------------------------------------- */

/* Kinds of receivers that nothing was ever sent to are left out. */
static void emit_direct(const struct self *s, const struct row *row)
{
    for (size_t i = 0; i < DIRECT_KINDS; i++) {
        const struct direct_kind_stats *k = &s->di.kinds[i];
        uint64_t v;
        memcpy(&v, (const char *)k + row->offset, sizeof v);
        if (k->requests)
            sample(s, row, "", &(struct expo_pair){"integration", k->integration}, 1, (double)v);
    }
}

static void emit_direct_failed(const struct self *s, const struct row *row)
{
    for (size_t i = 0; i < DIRECT_KINDS; i++)
        for (size_t r = 0; s->di.kinds[i].requests && r < DIRECT_REASONS; r++) {
            const struct expo_pair pairs[] = {{"integration", s->di.kinds[i].integration},
                                              {"reason", direct_reasons[r]}};
            sample(s, row, "", pairs, 2, (double)s->di.kinds[i].failed[r]);
        }
}

static void emit_direct_seconds(const struct self *s, const struct row *row)
{
    static const double bounds[] = {0.1, 0.5, 1, 5};

    for (size_t i = 0; i < DIRECT_KINDS; i++) {
        const struct direct_kind_stats *k = &s->di.kinds[i];
        if (k->requests)
            emit_histogram(s, row, &(struct expo_pair){"integration", k->integration},
                           (struct buckets){k->bucket, bounds, NX_COUNT(bounds)}, k->seconds);
    }
}

static void emit_rule_duration(const struct self *s, const struct row *row)
{
    emit_rule_summary(s, row, &s->ru.rule, 2);
}

static void emit_rule_buckets(const struct self *s, const struct row *row)
{
    emit_rule_histogram(s, row, &s->ru.rule);
}

static void emit_group_duration(const struct self *s, const struct row *row)
{
    emit_rule_summary(s, row, &s->ru.group, 0);
}

static void emit_group_buckets(const struct self *s, const struct row *row)
{
    emit_rule_histogram(s, row, &s->ru.group);
}

/* ---- requests ---------------------------------------------------------------------------------------- */

static void emit_requests(const struct self *s, const struct row *row)
{
    const struct web_stats *st = web_ctx(s->r->w)->stats;
    char code[8];

    for (size_t i = 0; i < web_n_routes; i++) {
        if (web_stats_index(&web_routes[i]) != i)
            continue;
        for (size_t k = 0; k < WEB_CODES; k++) {
            uint64_t n = __atomic_load_n(&st->route[i].code[k], __ATOMIC_RELAXED);
            if (!n && web_codes[k] != 200) /* as in 3.x, code 200 is there from the start */
                continue;
            snprintf(code, sizeof code, "%u", web_codes[k]);
            const struct expo_pair pairs[] = {{"code", code}, {"handler", web_routes[i].pattern}};
            sample(s, row, "", pairs, 2, (double)n);
        }
    }
}

static void emit_of_handler(const struct self *s, const struct row *row, size_t route,
                            const struct web_histogram *h, const double *bounds, size_t n,
                            double unit)
{
    emit_histogram(s, row, &(struct expo_pair){"handler", web_routes[route].pattern},
                   (struct buckets){h->bucket, bounds, n},
                   (double)__atomic_load_n(&h->sum, __ATOMIC_RELAXED) * unit);
}

static bool asked(const struct web_histogram *h)
{
    for (size_t i = 0; i < WEB_MAX_BUCKETS; i++)
        if (__atomic_load_n(&h->bucket[i], __ATOMIC_RELAXED))
            return true;
    return false;
}

static void emit_http_duration(const struct self *s, const struct row *row)
{
    const struct web_stats *st = web_ctx(s->r->w)->stats;

    for (size_t i = 0; i < web_n_routes; i++)
        if (asked(&st->route[i].duration))
            emit_of_handler(s, row, i, &st->route[i].duration, web_duration_bounds,
                            WEB_DURATION_BUCKETS, 1e-9);
}

static void emit_http_size(const struct self *s, const struct row *row)
{
    const struct web_stats *st = web_ctx(s->r->w)->stats;

    for (size_t i = 0; i < web_n_routes; i++)
        if (asked(&st->route[i].size))
            emit_of_handler(s, row, i, &st->route[i].size, web_size_bounds, WEB_SIZE_BUCKETS, 1);
}

/* ---- the table ----------------------------------------------------------------------------------------- */

#define U(field)       K_U64, offsetof(struct self, field), NULL
#define I(field)       K_I64, offsetof(struct self, field), NULL
#define F(field)       K_F64, offsetof(struct self, field), NULL
#define E(fn)          K_EMIT, 0, fn
#define POOL(field)    K_EMIT, offsetof(struct scrape_pool_stats, field), emit_pool
#define AM(field)      K_EMIT, offsetof(struct notify_url_stats, field), emit_alertmanager
#define DIRECT(field)  K_EMIT, offsetof(struct direct_kind_stats, field), emit_direct
#define GROUP_N(field) K_EMIT, offsetof(struct rule_group_stats, field), emit_group_count
#define GROUP_F(field) K_EMIT, offsetof(struct rule_group_stats, field), emit_group_number
#define C              EXPO_COUNTER
#define G              EXPO_GAUGE

// clang-format off
static const struct row rows[] = {
    { "go_memstats_alloc_bytes",        G, U(pr.heap_used),  "Bytes the allocator has handed out and not got back." },
    { "go_memstats_heap_alloc_bytes",   G, U(pr.heap_used),  "Bytes the allocator has handed out and not got back." },
    { "go_memstats_heap_idle_bytes",    G, U(pr.heap_free),  "Bytes the allocator holds free." },
    { "go_memstats_heap_inuse_bytes",   G, U(pr.heap_used),  "Bytes the allocator has handed out and not got back." },
    { "go_memstats_heap_sys_bytes",     G, U(pr.heap_total), "Bytes the allocator has from the system." },
    { "go_memstats_sys_bytes",          G, U(pr.heap_total), "Bytes the allocator has from the system." },
    { "go_threads",                     G, U(pr.threads),    "Threads of the process." },
    { "narthex_build_info",             G, E(emit_narthex_build_info), "Always 1; the labels tell the version of Narthex." },
    { "narthex_config_last_reload_success_timestamp_seconds", G, F(reload_s), "When the configuration was last loaded." },
    { "narthex_config_last_reload_successful", G, U(reload_ok), "Whether the last attempt to load the configuration succeeded." },
    { "narthex_memory_level",           G, I(mem_level),     "What gives way for want of memory: 0 nothing, 1 caches, 2 queries, 3 new series." },
    { "narthex_memory_limit_bytes",     G, U(mem.limit),     "Limit of the process's memory (--memory.limit); 0: none." },
    { "narthex_memory_query_bytes",     G, U(mem.query_bytes), "Memory of queries under way and of their results." },
    { "narthex_memory_refused_queries_total", C, U(mem.refused_queries), "Queries refused or ended for want of memory." },
    { "narthex_memory_refused_series_total",  C, U(mem.refused_series),  "New series refused for want of memory, counted with each scrape that brought them." },
    { "narthex_memory_used_bytes",      G, U(mem.used),      "Anonymous memory of the process, as the limit counts it." },
    { "narthex_notify_alerts",                  G, U(di.alerts),   "Alerts that direct notification knows of." },
    { "narthex_notify_alerts_dropped_total",    C, U(di.dropped),  "Alerts that there was no room for." },
    { "narthex_notify_alerts_silenced",         G, U(di.silenced), "Alerts that a silence is about now." },
    { "narthex_notify_groups",                  G, U(di.groups),   "Groups of alerts." },
    { "narthex_notify_notifications_failed_total", C, E(emit_direct_failed), "Notifications that were given up." },
    { "narthex_notify_notifications_total",     C, DIRECT(sent),   "Notifications, delivered or given up." },
    { "narthex_notify_request_duration_seconds", EXPO_HISTOGRAM, E(emit_direct_seconds), "How long deliveries take, each try for itself." },
    { "narthex_notify_requests_failed_total",   C, DIRECT(requests_failed), "Tries to deliver that failed." },
    { "narthex_notify_requests_total",          C, DIRECT(requests), "Tries to deliver." },
    { "narthex_notify_state_failures_total",    C, U(di.state_failures), "How often what was notified could not be saved." },
    { "narthex_storage_blocks_downsampled_total", C, U(st.downsampled), "Blocks made of a coarser resolution." },
    { "narthex_storage_blocks_rewritten_total", C, U(st.rewrites), "Blocks written again because of rules of retention." },
    { "narthex_storage_blocks_set_aside_total", C, U(st.blocks_set_aside), "Damaged blocks that are not served." },
    { "narthex_storage_cache_bytes",    G, U(st.cache_bytes), "Bytes in the page cache." },
    { "narthex_storage_cache_limit_bytes", G, U(st.cache_limit_bytes), "Bytes that the page cache may have now." },
    { "narthex_storage_pages_damaged_total", C, U(st.pages_damaged), "Pages whose checksum did not match." },
    { "narthex_storage_samples_expired_total", C, U(st.samples_expired), "Samples that rules of retention left out." },
    { "narthex_storage_wal_append_failures_total", C, U(st.wal_append_failures), "Rows that the log could not take." },
    { "net_conntrack_listener_conn_accepted_total", C, E(emit_listener), "Connections taken by a listener." },
    { "net_conntrack_listener_conn_closed_total",   C, E(emit_listener), "Connections of a listener that were closed." },
    { "process_cpu_seconds_total",      C, F(pr.cpu_s),      "User and system CPU time." },
    { "process_max_fds",                G, U(pr.max_fds),    "Most file descriptors the process may open." },
    { "process_network_receive_bytes_total",  C, U(pr.net_in),  "Bytes received over the network by the process's namespace." },
    { "process_network_transmit_bytes_total", C, U(pr.net_out), "Bytes sent over the network by the process's namespace." },
    { "process_open_fds",               G, U(pr.open_fds),   "Open file descriptors." },
    { "process_resident_memory_bytes",  G, U(pr.resident),   "Resident memory." },
    { "process_start_time_seconds",     G, F(pr.start_s),    "Start of the process, in Unix time." },
    { "process_virtual_memory_bytes",   G, U(pr.virtual_bytes), "Virtual memory." },
    { "process_virtual_memory_max_bytes", G, U(pr.virtual_max), "Most virtual memory the process may have." },
    { "prometheus_build_info",          G, E(emit_build_info), "Always 1; the labels tell the version of Prometheus that the answers follow." },
    { "prometheus_config_last_reload_success_timestamp_seconds", G, F(reload_s), "When the configuration was last loaded." },
    { "prometheus_config_last_reload_successful", G, U(reload_ok), "Whether the last attempt to load the configuration succeeded." },
    { "prometheus_engine_queries",      G, U(en.active),     "Queries running or waiting." },
    { "prometheus_engine_queries_concurrent_max", G, U(en.max_concurrency), "Queries that may run at once." },
    { "prometheus_engine_query_duration_seconds", EXPO_SUMMARY, E(emit_query_duration), "Query times by part." },
    { "prometheus_engine_query_log_enabled", G, U(query_log_enabled), "Whether queries are logged: 1 or 0." },
    { "prometheus_engine_query_log_failures_total", C, U(ql.failures), "Queries that could not be logged." },
    { "prometheus_engine_query_samples_read_total", C, U(en.samples_read), "Samples read by all queries, each window's new ones." },
    { "prometheus_engine_query_samples_total", C, U(en.samples_total), "Samples read by all queries, as each step alone would." },
    { "prometheus_http_request_duration_seconds", EXPO_HISTOGRAM, E(emit_http_duration), "Time to answer requests." },
    { "prometheus_http_requests_total", C, E(emit_requests), "Requests by handler and status." },
    { "prometheus_http_response_size_bytes", EXPO_HISTOGRAM, E(emit_http_size), "Size of answers before compression." },
    { "prometheus_notifications_alertmanagers_discovered", G, U(no.discovered), "Alertmanagers that are found and sent to." },
    { "prometheus_notifications_dropped_total", C, AM(dropped), "Alerts that an Alertmanager did not get: the queue was full, or sending them failed." },
    { "prometheus_notifications_errors_total", C, AM(errors), "Alerts that could not be sent." },
    { "prometheus_notifications_latency_histogram_seconds", EXPO_HISTOGRAM, E(emit_notify_buckets), "How long it takes to send alerts." },
    { "prometheus_notifications_latency_seconds", EXPO_SUMMARY, E(emit_notify_latency), "How long it takes to send alerts." },
    { "prometheus_notifications_queue_capacity", G, U(no.queue_capacity), "Alerts that may wait for one Alertmanager." },
    { "prometheus_notifications_queue_length", G, AM(queued), "Alerts that wait." },
    { "prometheus_notifications_sent_total", C, AM(sent), "Alerts that were sent." },
    { "prometheus_ready",               G, U(ready),         "Whether start-up is done." },
    { "prometheus_rule_evaluation_duration_histogram_seconds", EXPO_HISTOGRAM, E(emit_rule_buckets), "How long rules take to evaluate." },
    { "prometheus_rule_evaluation_duration_seconds", EXPO_SUMMARY, E(emit_rule_duration), "How long rules take to evaluate." },
    { "prometheus_rule_evaluation_failures_total", C, GROUP_N(failures), "Evaluations of rules that failed." },
    { "prometheus_rule_evaluations_total", C, GROUP_N(evaluations), "Evaluations of rules." },
    { "prometheus_rule_group_duration_histogram_seconds", EXPO_HISTOGRAM, E(emit_group_buckets), "How long groups of rules take to evaluate." },
    { "prometheus_rule_group_duration_seconds", EXPO_SUMMARY, E(emit_group_duration), "How long groups of rules take to evaluate." },
    { "prometheus_rule_group_interval_seconds", G, GROUP_F(interval_s), "Interval of a group." },
    { "prometheus_rule_group_iterations_missed_total", C, GROUP_N(missed), "Evaluations left out because the one before took too long." },
    { "prometheus_rule_group_iterations_total", C, GROUP_N(iterations), "Evaluations that were due, made or missed." },
    { "prometheus_rule_group_last_duration_seconds", G, GROUP_F(last_duration_s), "How long the last evaluation took." },
    { "prometheus_rule_group_last_evaluation_samples", G, GROUP_N(samples), "Samples that the last evaluation gave." },
    { "prometheus_rule_group_last_evaluation_timestamp_seconds", G, GROUP_F(last_eval_s), "When the last evaluation began." },
    { "prometheus_rule_group_last_restore_duration_seconds", G, GROUP_F(restore_s), "How long it took to find since when alerts were pending before the start." },
    { "prometheus_rule_group_last_rule_duration_sum_seconds", G, GROUP_F(last_rules_s), "How long the rules of the last evaluation took, added up." },
    { "prometheus_rule_group_rules", G, GROUP_N(rules), "Rules of a group." },
    { "prometheus_sd_discovered_targets", G, E(emit_discovered), "Targets found by discovery." },
    { "prometheus_sd_file_read_errors_total", C, U(sc.sd_file_read_errors), "File discovery files that could not be read." },
    { "prometheus_target_interval_length_seconds", EXPO_SUMMARY, E(emit_interval_length), "Real times between scrapes." },
    { "prometheus_target_metadata_cache_bytes",   G, U(sc.metadata_bytes),   "Bytes of metadata kept for targets." },
    { "prometheus_target_metadata_cache_entries", G, U(sc.metadata_entries), "Metadata entries kept for targets." },
    { "prometheus_target_scrape_pool_exceeded_label_limits_total", C, U(sc.label_limits), "Scrapes that hit a label limit." },
    { "prometheus_target_scrape_pool_exceeded_target_limit_total", C, U(sc.target_limit), "Times a pool hit its target limit." },
    { "prometheus_target_scrape_pool_reloads_failed_total", C, U(sc.reloads_failed), "Failed reloads of scrape pools." },
    { "prometheus_target_scrape_pool_reloads_total", C, U(sc.reloads), "Reloads of scrape pools." },
    { "prometheus_target_scrape_pool_sync_total",    C, POOL(syncs),   "Syncs of a scrape pool with discovery." },
    { "prometheus_target_scrape_pool_target_limit",  G, POOL(target_limit), "Most targets a pool may have." },
    { "prometheus_target_scrape_pool_targets",       G, POOL(targets), "Targets of a scrape pool." },
    { "prometheus_target_scrape_pools_failed_total", C, U(sc.pools_failed), "Scrape pools that could not be made." },
    { "prometheus_target_scrape_pools_total",        C, U(sc.pools),   "Scrape pools that were made." },
    { "prometheus_target_scrapes_cache_flush_forced_total", C, U(sc.cache_flush_forced), "Layout caches dropped because they grew too large." },
    { "prometheus_target_scrapes_exceeded_body_size_limit_total", C, U(sc.body_size_limit), "Scrapes that hit the body size limit." },
    { "prometheus_target_scrapes_exceeded_sample_limit_total",    C, U(sc.sample_limit),    "Scrapes that hit the sample limit." },
    { "prometheus_target_scrapes_exemplar_out_of_order_total", C, U(sc.exemplar_out_of_order), "Exemplars refused: older than the newest of their series." },
    { "prometheus_target_scrapes_sample_duplicate_timestamp_total", C, U(sc.duplicate_timestamp), "Samples refused: same time, other value." },
    { "prometheus_target_scrapes_sample_out_of_bounds_total", C, U(sc.out_of_bounds), "Samples refused: time too far off." },
    { "prometheus_target_scrapes_sample_out_of_order_total",  C, U(sc.out_of_order),  "Samples refused: older than the newest." },
    { "prometheus_target_sync_failed_total",   C, POOL(sync_failed), "Targets of a pool that could not be made." },
    { "prometheus_target_sync_length_seconds", EXPO_SUMMARY, E(emit_sync_length), "Time to sync a pool with discovery." },
    { "prometheus_template_text_expansion_failures_total", C, U(ru.expansion_failures), "Templates of alerts that could not be expanded." },
    { "prometheus_template_text_expansions_total", C, U(ru.expansions), "Templates of alerts that were expanded." },
    { "prometheus_tsdb_blocks_loaded",        G, U(st.blocks),      "Blocks being served." },
    { "prometheus_tsdb_compactions_failed_total", C, U(st.compactions_failed), "Failed block writes." },
    { "prometheus_tsdb_compactions_total",    C, U(st.compactions), "Blocks written from the head or from other blocks." },
    { "prometheus_tsdb_data_replay_duration_seconds", G, F(replay_s), "Time the last start took to replay the log." },
    { "prometheus_tsdb_exemplar_exemplars_appended_total", C, U(st.exemplars_appended), "Exemplars stored." },
    { "prometheus_tsdb_exemplar_exemplars_in_storage",     G, U(st.exemplars), "Exemplars held." },
    { "prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds", G, F(exemplar_oldest_s), "Time of the oldest exemplar held." },
    { "prometheus_tsdb_exemplar_max_exemplars",            G, U(st.exemplars_max), "Most exemplars to be held; 0: none are stored." },
    { "prometheus_tsdb_exemplar_out_of_order_exemplars_total", C, U(st.exemplars_out_of_order), "Exemplars refused: older than the newest of their series." },
    { "prometheus_tsdb_exemplar_series_with_exemplars_in_storage", G, U(st.exemplar_series), "Series with exemplars." },
    { "prometheus_tsdb_head_chunks",          G, U(st.head_chunks), "Chunks in the head." },
    { "prometheus_tsdb_head_max_time",        G, I(head_max_ms),    "Newest time in the head, in ms." },
    { "prometheus_tsdb_head_max_time_seconds", G, F(head_max_s),    "Newest time in the head." },
    { "prometheus_tsdb_head_min_time",        G, I(head_min_ms),    "Oldest time in the head, in ms." },
    { "prometheus_tsdb_head_min_time_seconds", G, F(head_min_s),    "Oldest time in the head." },
    { "prometheus_tsdb_head_out_of_order_samples_appended_total", C, E(emit_late_appended), "Samples taken out of order." },
    { "prometheus_tsdb_head_samples_appended_total", C, E(emit_appended), "Samples appended." },
    { "prometheus_tsdb_head_series",          G, U(st.head_series), "Series in the head." },
    { "prometheus_tsdb_head_series_created_total", C, U(st.series_created), "Series made." },
    { "prometheus_tsdb_head_series_removed_total", C, U(st.series_removed), "Series dropped from the head." },
    { "prometheus_tsdb_lowest_timestamp",     G, I(lowest_ms),      "Oldest time stored, in ms." },
    { "prometheus_tsdb_lowest_timestamp_seconds", G, F(lowest_s),   "Oldest time stored." },
    { "prometheus_tsdb_out_of_bound_samples_total", C, E(emit_out_of_bounds), "Samples refused: too old for the head." },
    { "prometheus_tsdb_out_of_order_samples_total", C, E(emit_out_of_order), "Samples refused: older than the newest." },
    { "prometheus_tsdb_reloads_failures_total", C, U(st.block_loads_failed), "Blocks that could not be opened." },
    { "prometheus_tsdb_retention_limit_bytes", G, U(st.retention.bytes), "Most bytes of blocks to be kept; 0: no bound." },
    { "prometheus_tsdb_retention_limit_percentage", G, F(retention_percent), "Largest share of the disk for blocks; 0: no bound." },
    { "prometheus_tsdb_retention_limit_seconds", G, F(retention_s), "How long samples are kept; 0: no bound." },
    { "prometheus_tsdb_sample_ooo_delta", EXPO_HISTOGRAM, E(emit_late), "How much older than the newest of all samples out of order were, in seconds, taken or not." },
    { "prometheus_tsdb_size_retentions_total", C, U(st.size_retention_deletions), "Blocks deleted for size." },
    { "prometheus_tsdb_storage_blocks_bytes", G, U(st.block_bytes), "Bytes of all blocks." },
    { "prometheus_tsdb_symbol_table_size_bytes", G, U(st.symbol_bytes), "Bytes of label names and values in memory." },
    { "prometheus_tsdb_time_retentions_total", C, U(st.retention_deletions), "Blocks deleted for age." },
    { "prometheus_tsdb_too_old_samples_total", C, E(emit_too_old), "Samples refused: older than the window for samples out of order." },
    { "prometheus_tsdb_wal_corruptions_total", C, U(st.wal_corruptions), "Damaged places found in the log." },
    { "prometheus_tsdb_wal_segment_current",  G, U(st.wal_segment), "Number of the log segment being written." },
    { "prometheus_tsdb_wal_storage_size_bytes", G, U(st.wal_bytes), "Bytes of the log." },
    { "prometheus_tsdb_wal_truncations_total", C, U(st.wal_truncations), "Times the log was cut at its old end." },
    { "prometheus_tsdb_wal_writes_failed_total", C, U(st.wal_append_failures), "Rows that the log could not take." },
};
// clang-format on

static void write_row(const struct self *s, const struct row *row)
{
    const char *at = (const char *)s + row->offset;
    uint64_t u;
    int64_t i;
    double f;

    expo_write_family(s->b, s->format, row->name, row->type, row->help);
    switch (row->kind) {
    case K_EMIT:
        row->emit(s, row);
        break;
    case K_U64:
        memcpy(&u, at, sizeof u);
        sample(s, row, "", NULL, 0, (double)u);
        break;
    case K_I64:
        memcpy(&i, at, sizeof i);
        sample(s, row, "", NULL, 0, (double)i);
        break;
    case K_F64:
        memcpy(&f, at, sizeof f);
        sample(s, row, "", NULL, 0, f);
        break;
    }
}

/* What only exists once there is data to serve. */
static nx_status gather_data(struct self *s, const struct web_data *d, struct nx_err *err)
{
    storage_get_stats(d->storage, &s->st);
    pql_engine_get_stats(d->engine, &s->en);
    query_log_get_stats(d->query_log, &s->ql);
    s->query_log_enabled = s->ql.enabled;
    s->head_min_ms = s->st.head_min_ms;
    s->head_max_ms = s->st.head_max_ms;
    s->lowest_ms = s->st.oldest_ms;
    s->head_min_s = (double)s->head_min_ms / 1000;
    s->head_max_s = (double)s->head_max_ms / 1000;
    s->lowest_s = (double)s->lowest_ms / 1000;
    s->retention_s = (double)s->st.retention.time_ms / 1000;
    s->retention_percent = s->st.retention.percent;
    s->exemplar_oldest_s = (double)s->st.exemplar_oldest_ms / 1000;
    s->replay_s = (double)s->st.wal_replay_ms / 1000;
    if (d->rules && rules_get_stats(d->rules, s->r->arena, &s->ru, err))
        return err->code;
    if (d->notify && notify_get_stats(d->notify, s->r->arena, &s->no, err))
        return err->code;
    s->has_direct = d->direct != NULL;
    if (d->direct)
        direct_get_stats(d->direct, &s->di);
    if (scrape_get_stats(d->scrape, s->r->arena, &s->sc, err))
        return err->code;
    s->sc.sd_file_read_errors += s->no.file_read_errors;
    return NX_OK;
}

static nx_status gather(struct self *s, struct nx_err *err)
{
    const struct web_hooks *h = &web_ctx(s->r->w)->opts->hooks;
    const struct web_data *d = web_data(s->r->w);
    bool ok = true;
    int64_t last = 0;

    process_info_get(&s->pr);
    memory_get_stats(web_ctx(s->r->w)->opts->memory, &s->mem);
    s->mem_level = s->mem.level;
    web_conn_counts(s->r->w, &s->conns_accepted, &s->conns_closed);
    h->reload_status(h->ctx, &ok, &last);
    s->ready = h->ready(h->ctx);
    s->reload_ok = ok;
    s->reload_s = (double)last / 1000;
    s->has_data = d != NULL;
    return d ? gather_data(s, d, err) : NX_OK;
}

/* Families of the parts that web_attach() hands over: left out until then (M1). */
static bool needs_data(const char *name)
{
    static const char *const families[] = {
        "narthex_storage_", "prometheus_engine_", "prometheus_notifications_", "prometheus_rule_",
        "prometheus_sd_",   "prometheus_target_", "prometheus_template_",      "prometheus_tsdb_"};

    for (size_t i = 0; i < NX_COUNT(families); i++)
        if (strncmp(name, families[i], strlen(families[i])) == 0)
            return true;
    return false;
}

static bool of_direct(const struct row *row)
{
    return strncmp(row->name, "narthex_notify_", 15) == 0;
}

/* Families with a sample for each group of rules: left out where there is no group. */
static bool of_groups(const struct row *row)
{
    return row->emit == emit_group_count || row->emit == emit_group_number;
}

/* The client's choice: OpenMetrics when it names it before plain text, as Prometheus itself does. */
static enum expo_format wanted_format(struct web_req *r)
{
    const char *accept =
        MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
    const char *om = accept ? strstr(accept, "application/openmetrics-text") : NULL;
    const char *text = accept ? strstr(accept, "text/plain") : NULL;

    return om && (!text || om < text) ? EXPO_OPENMETRICS : EXPO_TEXT;
}

void page_metrics(struct web_req *r)
{
    struct self s = {.r = r, .b = &r->reply.body, .format = wanted_format(r)};
    struct nx_err err = {0};

    if (gather(&s, &err)) {
        web_text(r, 500, err.text);
        return;
    }
    r->reply.status = 200;
    r->reply.content_type = expo_content_type(s.format);
    for (size_t i = 0; i < NX_COUNT(rows); i++)
        if ((s.has_data || !needs_data(rows[i].name)) && (s.ru.n_groups || !of_groups(&rows[i])) &&
            (s.has_direct || !of_direct(&rows[i])))
            write_row(&s, &rows[i]);
    expo_write_end(s.b, s.format);
}
