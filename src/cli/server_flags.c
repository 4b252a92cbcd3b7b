#include "src/cli/server.h"

/* server_flags.c - the flags of the server: Prometheus's, with its defaults and meanings.
 *
 * A row marked FLAG_LATER belongs to a part that is still to come; the README lists them. */

#define STR(name, def, marks, help)                                                                \
    {                                                                                              \
        name, FLAG_STRING, marks, def, NULL, 0, help                                               \
    }
#define BOOL(name, def, marks, help)                                                               \
    {                                                                                              \
        name, FLAG_BOOL, marks, def, NULL, 0, help                                                 \
    }
#define DUR(name, def, marks, help)                                                                \
    {                                                                                              \
        name, FLAG_DURATION, marks, def, NULL, 0, help                                             \
    }
#define BYTES(name, def, marks, help)                                                              \
    {                                                                                              \
        name, FLAG_BYTES, marks, def, NULL, 0, help                                                \
    }
#define INT(name, def, marks, help)                                                                \
    {                                                                                              \
        name, FLAG_INT, marks, def, NULL, 0, help                                                  \
    }
#define FLOAT(name, def, marks, help)                                                              \
    {                                                                                              \
        name, FLAG_FLOAT, marks, def, NULL, 0, help                                                \
    }
#define ENUM(name, def, of, marks, help)                                                           \
    {                                                                                              \
        name, FLAG_ENUM, marks, def, of, 0, help                                                   \
    }
#define LATER  FLAG_LATER
#define HIDDEN FLAG_HIDDEN

// clang-format off
const struct flag server_flags[] = {
    BOOL("agent",                                 "false", FLAG_REFUSED, "Run in agent mode (not in this version)."),
    BOOL("alertmanager.drain-notification-queue-on-shutdown", "true", 0, "Send all outstanding Alertmanager notifications when shutting down."),
    INT("alertmanager.notification-batch-size",   "256",   0,     "The maximum number of notifications per batch to send to the Alertmanager."),
    INT("alertmanager.notification-queue-capacity", "10000", 0,     "The capacity of the queue for pending Alertmanager notifications."),
    BOOL("auto-gomaxprocs",                       "true",  0, "Accepted for compatibility: threads here do not depend on a CPU quota."),
    BOOL("auto-gomemlimit",                       "true",  0, "Without memory.limit: limit memory to a share of what the cgroup or the machine has."),
    FLOAT("auto-gomemlimit.ratio",                "0.9",   0, "That share."),
    DUR("auto-gomemlimit.refresh-interval",       "0s",    0, "How often to look anew at what the cgroup or the machine has; 0: at the start alone."),
    BOOL("config.auto-reload",                    "false", LATER, "Reload the configuration when its files change."),
    DUR("config.auto-reload-interval",            "30s",   LATER, "How often to look for changes of the configuration."),
    STR("config.file",                            "prometheus.yml", 0, "Configuration file path."),
    STR("enable-feature",                         "",      FLAG_REPEATED, "Comma separated feature names to enable."),
    ENUM("log.format", "logfmt", "logfmt json",            0, "Output format of log messages. One of: [logfmt, json]"),
    ENUM("log.level", "info", "debug info warn error",     0, "Only log messages with the given severity or above. One of: [debug, info, warn, error]"),
    STR("memory.limit",                           "",      0, "Memory that the process may have: bytes (512MB), a share of what its cgroup or the machine has (80%), or 0 for no limit. Near it caches shrink, then queries are refused, then new series; series that are there are kept. Default: the share that auto-gomemlimit.ratio says."),
    STR("notify.file",                            "",      0, "Path to a file of receivers (webhooks, chats, pagers, mail) that are told of alerts without an Alertmanager. Not in Prometheus."),
    DUR("query.lookback-delta",                   "5m",    0, "The maximum lookback duration for retrieving metrics during expression evaluations and federation."),
    INT("query.max-concurrency",                  "20",    0, "Maximum number of queries executed concurrently."),
    BYTES("query.max-memory",                     "0B",    0, "Maximum memory a single query may take. Default: a third of memory.limit."),
    INT("query.max-samples",                      "50000000", 0, "Maximum number of samples a single query can load into memory."),
    DUR("query.timeout",                          "2m",    0, "Maximum time a query may take before being aborted."),
    DUR("rules.alert.for-grace-period",           "10m",   0,     "Minimum duration between alert and restored \"for\" state."),
    DUR("rules.alert.for-outage-tolerance",       "1h",    0,     "Max time to tolerate outage for restoring \"for\" state of alert."),
    DUR("rules.alert.resend-delay",               "1m",    0,     "Minimum amount of time to wait before resending an alert to Alertmanager."),
    INT("rules.max-concurrent-evals",             "4",     0,     "Global concurrency limit for independent rules that can run concurrently."),
    BOOL("scrape.adjust-timestamps",              "true",  HIDDEN, "Adjust scrape timestamps by up to scrape.timestamp-tolerance to align them to the intended schedule."),
    DUR("scrape.discovery-reload-interval",       "5s",    HIDDEN, "Interval used by scrape manager to throttle target groups updates."),
    DUR("scrape.timestamp-tolerance",             "2ms",   HIDDEN, "Timestamp tolerance. See scrape.adjust-timestamps."),
    INT("storage.agent.checkpoint-batch-size",    "1000",  FLAG_AGENT, "Number of series to write in one checkpoint batch."),
    BOOL("storage.agent.checkpoint-from-in-memory-series", "false", FLAG_AGENT, "Build checkpoints from series in memory."),
    BOOL("storage.agent.no-lockfile",             "false", FLAG_AGENT, "Do not create lockfile in data directory."),
    STR("storage.agent.path",                     "data-agent/", FLAG_AGENT, "Base path for metrics storage."),
    DUR("storage.agent.retention.max-time",       "4h",    FLAG_AGENT, "Maximum age samples may be before being considered for deletion when the WAL is truncated."),
    DUR("storage.agent.retention.min-time",       "5m",    FLAG_AGENT, "Minimum age samples may be before being considered for deletion when the WAL is truncated."),
    BOOL("storage.agent.wal-compression",         "true",  FLAG_AGENT, "Compress the agent WAL."),
    ENUM("storage.agent.wal-compression-type", "snappy", "snappy zstd", HIDDEN | FLAG_AGENT, "Compression algorithm for the agent WAL."),
    BYTES("storage.agent.wal-segment-size",       "0B",    HIDDEN | FLAG_AGENT, "Size at which to split WAL segment files. Example: 100MB"),
    DUR("storage.agent.wal-truncate-frequency",   "0s",    HIDDEN | FLAG_AGENT, "The frequency at which to truncate the WAL and remove old data."),
    DUR("storage.remote.flush-deadline",          "1m",    LATER, "How long to wait flushing samples on shutdown or config reload."),
    INT("storage.remote.read-concurrent-limit",   "10",    LATER, "Maximum number of concurrent remote read calls."),
    INT("storage.remote.read-max-bytes-in-frame", "1048576", LATER, "Maximum number of bytes in a single frame for streaming remote read."),
    INT("storage.remote.read-sample-limit",       "50000000", LATER, "Maximum overall number of samples to return via the remote read interface."),
    BOOL("storage.tsdb.allow-overlapping-compaction", "true", HIDDEN, "Allow compaction of overlapping blocks."),
    DUR("storage.tsdb.block-reload-interval",     "1m",    HIDDEN, "Accepted for compatibility: blocks are known without reloading."),
    STR("storage.tsdb.delay-compact-file.path",   "",      LATER, "Path to a JSON file with uploaded TSDB blocks."),
    INT("storage.tsdb.delayed-compaction.max-percent", "10", HIDDEN | LATER, "Sets the upper limit for the random compaction delay, as a percentage of the head chunk range."),
    INT("storage.tsdb.head-chunks-write-queue-size", "0",  0, "Accepted for compatibility: there is no such queue."),
    BYTES("storage.tsdb.max-block-chunk-segment-size", "512MB", HIDDEN | LATER, "The maximum size for a single chunk segment in a block."),
    DUR("storage.tsdb.max-block-duration",        "0s",    HIDDEN, "Maximum duration compacted blocks may span."),
    DUR("storage.tsdb.min-block-duration",        "2h",    HIDDEN, "Minimum duration of a data block before being persisted. For use in testing."),
    BOOL("storage.tsdb.no-lockfile",              "false", 0, "Do not create lockfile in data directory."),
    STR("storage.tsdb.path",                      "data/", 0, "Base path for metrics storage."),
    STR("storage.tsdb.retention.rules",           "",      0, "Path to a file of rules by which some series are kept for a shorter or longer time than others, and old samples at a coarser resolution. Not in Prometheus."),
    BYTES("storage.tsdb.retention.size",          "0B",    0, "Maximum number of bytes that can be stored for blocks. A unit is required, supported units: B, KB, MB, GB, TB, PB, EB. Ex: \"512MB\". Based on powers-of-2, so 1KB is 1024B."),
    STR("storage.tsdb.retention.time",            "",      0, "How long to retain samples in storage. If neither this flag nor \"storage.tsdb.retention.size\" is set, the retention time defaults to 15d. Units Supported: y, w, d, h, m, s, ms."),
    INT("storage.tsdb.samples-per-chunk",         "120",   HIDDEN | LATER, "Target number of samples per chunk."),
    BOOL("storage.tsdb.wal-compression",          "true",  HIDDEN | LATER, "Compress the tsdb WAL."),
    ENUM("storage.tsdb.wal-compression-type", "snappy", "snappy zstd", HIDDEN | LATER, "Compression algorithm for the tsdb WAL."),
    DUR("storage.tsdb.wal-fsync-interval",        "1s",    0, "How often the log is synced to disk: what power loss may take. 0: before each append is acknowledged. Not in Prometheus."),
    BYTES("storage.tsdb.wal-segment-size",        "0B",    HIDDEN, "Size at which to split the tsdb WAL segment files. Example: 100MB"),
    STR("web.config.file",                        "",      FLAG_REFUSED, "Path to configuration file that can enable TLS or authentication (not in this version)."),
    STR("web.console.libraries",                  "console_libraries", LATER, "Path to the console library directory."),
    STR("web.console.templates",                  "consoles", LATER, "Path to the console template directory, available at /consoles."),
    STR("web.cors.origin",                        ".*",    0, "Regex for CORS origin. It is fully anchored. Example: 'https?://(domain1|domain2)\\.com'"),
    BOOL("web.enable-admin-api",                  "false", 0, "Enable API endpoints for admin control actions."),
    BOOL("web.enable-lifecycle",                  "false", 0, "Enable shutdown and reload via HTTP request."),
    BOOL("web.enable-otlp-receiver",              "false", LATER, "Enable API endpoint accepting OTLP write requests."),
    BOOL("web.enable-remote-write-receiver",      "false", LATER, "Enable API endpoint accepting remote write requests."),
    STR("web.external-url",                       "",      0, "The URL under which the server is externally reachable (for example, if it is served via a reverse proxy). If the URL has a path portion, it will be used to prefix all HTTP endpoints."),
    STR("web.listen-address",                     "0.0.0.0:9090", FLAG_REPEATED, "Address to listen on for UI, API, and telemetry. Can be repeated."),
    INT("web.max-connections",                    "512",   0, "Maximum number of simultaneous connections across all listeners."),
    INT("web.max-notifications-subscribers",      "16",    LATER, "Limits the maximum number of subscribers that can concurrently receive live notifications."),
    STR("web.page-title",                         "Prometheus Time Series Collection and Processing Server", 0, "Document title of the page."),
    DUR("web.read-timeout",                       "5m",    0, "Maximum duration before timing out read of the request, and closing idle connections."),
    STR("web.remote-write-receiver.accepted-protobuf-messages", "", FLAG_REPEATED | LATER, "List of the remote write protobuf messages to accept when receiving the remote writes."),
    STR("web.route-prefix",                       "",      0, "Prefix for the internal routes of web endpoints. Defaults to path of --web.external-url."),
    INT("web.search.max-limit",                   "10000", LATER, "Upper bound of the limit parameter of the search API."),
    STR("web.user-assets",                        "",      LATER, "Path to static asset directory, available at /user."),
};
// clang-format on
const size_t server_n_flags = NX_COUNT(server_flags);
