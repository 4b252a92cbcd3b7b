/* tables.c - the sections of prometheus.yml, field by field, and what is checked while they are
 * read.
 *
 * SHAPE   A table for each section, in the order in which it is printed, its defaults, and a check.
 *         What needs the whole file (inheritance, unique names) is in validate.c; the HTTP client
 *         block in http.c; service discoveries in sd.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "src/config/decode.h"
#include "src/config/validate.h"

#define FAIL(field, ...) return decode_fail_key(d, map, field, __VA_ARGS__)

typedef nx_status check_fn(struct decoder *d, const struct yaml_node *map, void *obj);
static check_fn check_global, check_scrape, check_alerting, check_alertmanager, check_remote_write,
    check_remote_read, check_sigv4, check_azuread, check_tsdb, check_retention, check_tracing,
    check_otlp;

/* ---- relabelling ---- */

// clang-format off
static const struct relabel_rule relabel_defaults = {
    .separator = { ";", 1 }, .regex_text = { "(.*)", 4 }, .replacement = { "$1", 2 }, .action = RELABEL_REPLACE,
    .default_regex = true, .target_label = EMPTY_SLICE,
};
static const struct field relabel_fields[] = {
    FIELD(F_LABEL_NAMES, relabel_rule, source_labels, "source_labels", F_OMIT | F_FLOW),
    FIELD(F_STR,    relabel_rule, separator,    "separator",    0),
    FIELD(F_REGEX,  relabel_rule, regex_text,   "regex",        F_OMIT),
    FIELD(F_UINT,   relabel_rule, modulus,      "modulus",      F_OMIT, .go = "uint64"),
    FIELD(F_STR,    relabel_rule, target_label, "target_label", F_OMIT),
    FIELD(F_STR,    relabel_rule, replacement,  "replacement",  0),
    FIELD(F_ACTION, relabel_rule, action,       "action",       F_OMIT),
};
const struct record relabel_record = {
    .go = "relabel.plain", .size = sizeof(struct relabel_rule), .defaults = &relabel_defaults, .resets = true,
    .fields = relabel_fields, .n_fields = NX_COUNT(relabel_fields), .line_offset = offsetof(struct relabel_rule, line),
};
#define RELABEL_ROW(tag, member, name) \
    FIELD(F_LIST, tag, member, name, F_OMIT, .record = &relabel_record, .go = "[]*relabel.Config")

/* ---- global ---- */

static const struct field global_fields[] = {
    FIELD(F_DURATION, config_global, scrape_interval_ms,      "scrape_interval",     F_OMIT),
    FIELD(F_DURATION, config_global, scrape_timeout_ms,       "scrape_timeout",      F_OMIT),
    FIELD(F_STRS,     config_global, scrape_protocols.text,   "scrape_protocols",    F_OMIT, .go = "[]config.ScrapeProtocol"),
    FIELD(F_DURATION, config_global, evaluation_interval_ms,  "evaluation_interval", F_OMIT),
    FIELD(F_DURATION, config_global, rule_query_offset_ms,    "rule_query_offset",   F_OMIT),
    FIELD(F_PATH,     config_global, query_log_file,          "query_log_file",      F_OMIT),
    FIELD(F_PATH,     config_global, scrape_failure_log_file, "scrape_failure_log_file", F_OMIT),
    FIELD(F_LABELS,   config_global, external_labels,         "external_labels",     F_OMIT),
    FIELD(F_BYTES,    config_global, limits.body_size_bytes,  "body_size_limit",     F_OMIT),
    FIELD(F_UINT,     config_global, limits.samples,          "sample_limit",        F_OMIT),
    FIELD(F_UINT,     config_global, limits.targets,          "target_limit",        F_OMIT),
    FIELD(F_UINT,     config_global, limits.labels,           "label_limit",         F_OMIT),
    FIELD(F_UINT,     config_global, limits.label_name_bytes, "label_name_length_limit", F_OMIT),
    FIELD(F_UINT,     config_global, limits.label_value_bytes, "label_value_length_limit", F_OMIT),
    FIELD(F_UINT,     config_global, limits.keep_dropped_targets, "keep_dropped_targets", F_OMIT),
    FIELD(F_VALIDATION, config_global, validation,            "metric_name_validation_scheme", F_OMIT),
    FIELD(F_STR,      config_global, escaping_text,           "metric_name_escaping_scheme", F_OMIT),
    FIELD(F_TRI,      config_global, scrape_native_histograms, "scrape_native_histograms", F_OMIT),
    FIELD(F_BOOL,     config_global, convert_classic_histograms_to_nhcb, "convert_classic_histograms_to_nhcb", F_OMIT),
    FIELD(F_BOOL,     config_global, always_scrape_classic_histograms, "always_scrape_classic_histograms", F_OMIT),
    FIELD(F_TRI,      config_global, extra_scrape_metrics,    "extra_scrape_metrics", F_OMIT),
};
static const struct config_global global_start = {
    .scrape_native_histograms = CONFIG_UNSET, .extra_scrape_metrics = CONFIG_UNSET,
};
static const struct record global_record = {
    .go = "config.plain", .size = sizeof(struct config_global), .defaults = &global_start, .resets = true,
    .fields = global_fields, .n_fields = NX_COUNT(global_fields), .line_offset = NO_LINE, .check = check_global,
};
static const struct field runtime_fields[] = {
    FIELD(F_INT, config_runtime, gogc, "gogc", F_OMIT),
};
static const struct record runtime_record = {
    .go = "config.RuntimeConfig", .size = sizeof(struct config_runtime),
    .fields = runtime_fields, .n_fields = NX_COUNT(runtime_fields), .line_offset = NO_LINE,
};

/* ---- scrape_configs ---- */

#define HTTP_DEFAULTS { .follow_redirects = true, .enable_http2 = true }
static const struct config_scrape scrape_defaults = {
    .metrics_path = { "/metrics", 8 }, .scheme = { "http", 4 }, .honor_timestamps = true, .enable_compression = true,
    .http = HTTP_DEFAULTS, .scrape_native_histograms = CONFIG_UNSET, .always_scrape_classic_histograms = CONFIG_UNSET,
    .convert_classic_histograms_to_nhcb = CONFIG_UNSET, .extra_scrape_metrics = CONFIG_UNSET,
    .file = EMPTY_SLICE,
};
static const struct field scrape_fields[] = {
    FIELD(F_STR,      config_scrape, job_name,                   "job_name",                   0),
    FIELD(F_BOOL,     config_scrape, honor_labels,               "honor_labels",               F_OMIT),
    FIELD(F_BOOL,     config_scrape, honor_timestamps,           "honor_timestamps",           0),
    FIELD(F_BOOL,     config_scrape, track_timestamps_staleness, "track_timestamps_staleness", 0),
    FIELD(F_PARAMS,   config_scrape, params,                     "params",                     F_OMIT),
    FIELD(F_DURATION, config_scrape, scrape_interval_ms,         "scrape_interval",            F_OMIT),
    FIELD(F_DURATION, config_scrape, scrape_timeout_ms,          "scrape_timeout",             F_OMIT),
    FIELD(F_STRS,     config_scrape, scrape_protocols.text,      "scrape_protocols",           F_OMIT,
                                                                 .go = "[]config.ScrapeProtocol"),
    FIELD(F_STR,      config_scrape, fallback_text,              "fallback_scrape_protocol",   F_OMIT,
                                                                 .go = "config.ScrapeProtocol"),
    FIELD(F_TRI,      config_scrape, scrape_native_histograms,   "scrape_native_histograms",   F_OMIT),
    FIELD(F_TRI,      config_scrape, always_scrape_classic_histograms, "always_scrape_classic_histograms", F_OMIT),
    FIELD(F_TRI,      config_scrape, convert_classic_histograms_to_nhcb, "convert_classic_histograms_to_nhcb", F_OMIT),
    FIELD(F_PATH,     config_scrape, scrape_failure_log_file,    "scrape_failure_log_file",    F_OMIT),
    FIELD(F_STR,      config_scrape, metrics_path,               "metrics_path",               F_OMIT),
    FIELD(F_STR,      config_scrape, scheme,                     "scheme",                     F_OMIT),
    FIELD(F_BOOL,     config_scrape, enable_compression,         "enable_compression",         0),
    FIELD(F_BYTES,    config_scrape, limits.body_size_bytes,     "body_size_limit",            F_OMIT),
    FIELD(F_UINT,     config_scrape, limits.samples,             "sample_limit",               F_OMIT),
    FIELD(F_UINT,     config_scrape, limits.targets,             "target_limit",               F_OMIT),
    FIELD(F_UINT,     config_scrape, limits.labels,              "label_limit",                F_OMIT),
    FIELD(F_UINT,     config_scrape, limits.label_name_bytes,    "label_name_length_limit",    F_OMIT),
    FIELD(F_UINT,     config_scrape, limits.label_value_bytes,   "label_value_length_limit",   F_OMIT),
    FIELD(F_UINT,     config_scrape, native_histogram_bucket_limit, "native_histogram_bucket_limit", F_OMIT),
    FIELD(F_FLOAT,    config_scrape, native_histogram_min_bucket_factor, "native_histogram_min_bucket_factor", F_OMIT),
    FIELD(F_UINT,     config_scrape, limits.keep_dropped_targets, "keep_dropped_targets",      F_OMIT),
    FIELD(F_VALIDATION, config_scrape, validation,               "metric_name_validation_scheme", F_OMIT),
    FIELD(F_STR,      config_scrape, escaping_text,              "metric_name_escaping_scheme", F_OMIT),
    FIELD(F_TRI,      config_scrape, extra_scrape_metrics,       "extra_scrape_metrics",       F_OMIT),
    FIELD(F_INLINE,   config_scrape, http,                       "",                           0, .record = &http_record),
    RELABEL_ROW(config_scrape, relabel,                          "relabel_configs"),
    RELABEL_ROW(config_scrape, metric_relabel,                   "metric_relabel_configs"),
    FIELD(F_SDS,      config_scrape, sds,                        "",                           0),
};
const struct record scrape_record = {
    .go = "config.ScrapeConfig", .size = sizeof(struct config_scrape), .defaults = &scrape_defaults, .resets = true,
    .fields = scrape_fields, .n_fields = NX_COUNT(scrape_fields), .line_offset = offsetof(struct config_scrape, line),
    .check = check_scrape,
};
static const struct field scrape_file_fields[] = {
    FIELD(F_LIST, config, scrape_configs, "scrape_configs", F_OMIT, .record = &scrape_record, .go = "[]*config.ScrapeConfig"),
};
/* A file of scrape_config_files: of a struct config nothing but its jobs. */
const struct record scrape_file_record = {
    .go = "config.ScrapeConfigs", .size = sizeof(struct config),
    .fields = scrape_file_fields, .n_fields = NX_COUNT(scrape_file_fields), .line_offset = NO_LINE,
};

/* ---- alerting ---- */

static const struct field sigv4_fields[] = {
    FIELD(F_STR,    config_sigv4, region,                "region",                F_OMIT),
    FIELD(F_STR,    config_sigv4, access_key,            "access_key",            F_OMIT),
    FIELD(F_SECRET, config_sigv4, secret_key,            "secret_key",            F_OMIT),
    FIELD(F_STR,    config_sigv4, profile,               "profile",               F_OMIT),
    FIELD(F_STR,    config_sigv4, role_arn,              "role_arn",              F_OMIT),
    FIELD(F_STR,    config_sigv4, external_id,           "external_id",           F_OMIT),
    FIELD(F_BOOL,   config_sigv4, use_fips_sts_endpoint, "use_fips_sts_endpoint", F_OMIT),
    FIELD(F_STR,    config_sigv4, service_name,          "service_name",          F_OMIT),
};
static const struct record sigv4_record = {
    .go = "sigv4.plain", .size = sizeof(struct config_sigv4), .resets = true, .fields = sigv4_fields,
    .n_fields = NX_COUNT(sigv4_fields), .line_offset = NO_LINE, .check = check_sigv4,
};
static const struct choice api_versions = { "v2", "expected Alertmanager api version to be one of [v2] but got ", false };
static const struct config_alertmanager alertmanager_defaults = {
    .scheme = { "http", 4 }, .timeout_ms = 10000, .api_version = { "v2", 2 }, .http = HTTP_DEFAULTS,
};
static const struct field alertmanager_fields[] = {
    FIELD(F_INLINE,   config_alertmanager, http,        "",            0, .record = &http_record),
    FIELD(F_POINTER,  config_alertmanager, sigv4,       "sigv4",       F_OMIT, .record = &sigv4_record),
    FIELD(F_STR,      config_alertmanager, scheme,      "scheme",      F_OMIT),
    FIELD(F_STR,      config_alertmanager, path_prefix, "path_prefix", F_OMIT),
    FIELD(F_DURATION, config_alertmanager, timeout_ms,  "timeout",     F_OMIT),
    FIELD(F_CHOICE,   config_alertmanager, api_version, "api_version", 0, .choice = &api_versions, .go = "config.plain"),
    RELABEL_ROW(config_alertmanager, relabel,           "relabel_configs"),
    RELABEL_ROW(config_alertmanager, alert_relabel,     "alert_relabel_configs"),
    FIELD(F_SDS,      config_alertmanager, sds,         "",            0),
};
const struct record alertmanager_record = {
    .go = "config.AlertmanagerConfig", .size = sizeof(struct config_alertmanager), .defaults = &alertmanager_defaults,
    .resets = true, .fields = alertmanager_fields, .n_fields = NX_COUNT(alertmanager_fields),
    .line_offset = offsetof(struct config_alertmanager, line), .check = check_alertmanager,
};
static const struct field alerting_fields[] = {
    RELABEL_ROW(config_alerting, alert_relabel, "alert_relabel_configs"),
    FIELD(F_LIST, config_alerting, alertmanagers, "alertmanagers", F_OMIT, .record = &alertmanager_record,
                                                  .go = "config.AlertmanagerConfigs"),
};
static const struct record alerting_record = {
    .go = "config.plain", .size = sizeof(struct config_alerting), .resets = true, .fields = alerting_fields,
    .n_fields = NX_COUNT(alerting_fields), .line_offset = NO_LINE, .check = check_alerting,
};

/* ---- remote_write, remote_read ---- */

#define SIMPLE_RECORD(name, tag, go_name) \
    static const struct record name##_record = { \
        .go = go_name, .size = sizeof(struct tag), .fields = name##_fields, .n_fields = NX_COUNT(name##_fields), \
        .line_offset = NO_LINE }
static const struct field az_managed_fields[] = {
    FIELD(F_STR, config_azuread_managed, client_id, "client_id", F_OMIT),
};
SIMPLE_RECORD(az_managed, config_azuread_managed, "azuread.ManagedIdentityConfig");
static const struct field az_workload_fields[] = {
    FIELD(F_STR, config_azuread_workload, client_id,       "client_id",       F_OMIT),
    FIELD(F_STR, config_azuread_workload, tenant_id,       "tenant_id",       F_OMIT),
    FIELD(F_STR, config_azuread_workload, token_file_path, "token_file_path", F_OMIT),
};
SIMPLE_RECORD(az_workload, config_azuread_workload, "azuread.WorkloadIdentityConfig");
static const struct field az_oauth_fields[] = {
    FIELD(F_STR,    config_azuread_oauth, client_id,     "client_id",     F_OMIT),
    FIELD(F_SECRET, config_azuread_oauth, client_secret, "client_secret", F_OMIT),
    FIELD(F_STR,    config_azuread_oauth, tenant_id,     "tenant_id",     F_OMIT),
};
SIMPLE_RECORD(az_oauth, config_azuread_oauth, "azuread.OAuthConfig");
static const struct field az_sdk_fields[] = {
    FIELD(F_STR, config_azuread_sdk, tenant_id, "tenant_id", F_OMIT),
};
SIMPLE_RECORD(az_sdk, config_azuread_sdk, "azuread.SDKConfig");
static const struct field az_certificate_fields[] = {
    FIELD(F_STR,    config_azuread_certificate, client_id,              "client_id",              F_OMIT),
    FIELD(F_STR,    config_azuread_certificate, tenant_id,              "tenant_id",              F_OMIT),
    FIELD(F_STR,    config_azuread_certificate, certificate_path,       "certificate_path",       F_OMIT),
    FIELD(F_STR,    config_azuread_certificate, certificate_key_path,   "certificate_key_path",   F_OMIT),
    FIELD(F_SECRET, config_azuread_certificate, certificate_password,   "certificate_password",   F_OMIT),
    FIELD(F_BOOL,   config_azuread_certificate, send_certificate_chain, "send_certificate_chain", F_OMIT),
};
SIMPLE_RECORD(az_certificate, config_azuread_certificate, "azuread.CertificateConfig");
static const struct field azuread_fields[] = {
    FIELD(F_POINTER, config_azuread, managed_identity,  "managed_identity",  F_OMIT, .record = &az_managed_record),
    FIELD(F_POINTER, config_azuread, workload_identity, "workload_identity", F_OMIT, .record = &az_workload_record),
    FIELD(F_POINTER, config_azuread, oauth,             "oauth",             F_OMIT, .record = &az_oauth_record),
    FIELD(F_POINTER, config_azuread, sdk,               "sdk",               F_OMIT, .record = &az_sdk_record),
    FIELD(F_POINTER, config_azuread, certificate,       "certificate",       F_OMIT, .record = &az_certificate_record),
    FIELD(F_STR,     config_azuread, cloud,             "cloud",             F_OMIT),
    FIELD(F_STR,     config_azuread, scope,             "scope",             F_OMIT),
};
static const struct record azuread_record = {
    .go = "azuread.plain", .size = sizeof(struct config_azuread), .resets = true, .fields = azuread_fields,
    .n_fields = NX_COUNT(azuread_fields), .line_offset = NO_LINE, .check = check_azuread,
};
static const struct field google_iam_fields[] = {
    FIELD(F_STR, config_google_iam, credentials_file, "credentials_file", F_OMIT),
};
SIMPLE_RECORD(google_iam, config_google_iam, "googleiam.Config");

static const struct field queue_fields[] = {
    FIELD(F_INT,      config_queue, capacity,               "capacity",             F_OMIT),
    FIELD(F_INT,      config_queue, max_shards,             "max_shards",           F_OMIT),
    FIELD(F_INT,      config_queue, min_shards,             "min_shards",           F_OMIT),
    FIELD(F_INT,      config_queue, max_samples_per_send,   "max_samples_per_send", F_OMIT),
    FIELD(F_DURATION, config_queue, batch_send_deadline_ms, "batch_send_deadline",  F_OMIT),
    FIELD(F_DURATION, config_queue, min_backoff_ms,         "min_backoff",          F_OMIT),
    FIELD(F_DURATION, config_queue, max_backoff_ms,         "max_backoff",          F_OMIT),
    FIELD(F_BOOL,     config_queue, retry_on_http_429,      "retry_on_http_429",    F_OMIT),
    FIELD(F_DURATION, config_queue, sample_age_limit_ms,    "sample_age_limit",     F_OMIT),
};
SIMPLE_RECORD(queue, config_queue, "config.QueueConfig");
static const struct field metadata_fields[] = {
    FIELD(F_BOOL,     config_metadata, send,                 "send",                 0),
    FIELD(F_DURATION, config_metadata, send_interval_ms,     "send_interval",        0),
    FIELD(F_INT,      config_metadata, max_samples_per_send, "max_samples_per_send", F_OMIT),
};
SIMPLE_RECORD(metadata, config_metadata, "config.MetadataConfig");

static const struct config_remote_write remote_write_defaults = {
    .remote_timeout_ms = 30000, .protobuf_message = { "prometheus.WriteRequest", 23 },
    .queue = { .capacity = 10000, .max_shards = 50, .min_shards = 1, .max_samples_per_send = 2000,
               .batch_send_deadline_ms = 5000, .min_backoff_ms = 30, .max_backoff_ms = 5000 },
    .metadata = { .send = true, .send_interval_ms = 60000, .max_samples_per_send = 2000 },
    .http = { .follow_redirects = true, .enable_http2 = false },
};
static const struct field remote_write_fields[] = {
    FIELD(F_URL,      config_remote_write, url,                    "url",                    0),
    FIELD(F_DURATION, config_remote_write, remote_timeout_ms,      "remote_timeout",         F_OMIT),
    FIELD(F_PAIRS,    config_remote_write, headers,                "headers",                F_OMIT),
    RELABEL_ROW(config_remote_write, write_relabel,                "write_relabel_configs"),
    FIELD(F_STR,      config_remote_write, name,                   "name",                   F_OMIT),
    FIELD(F_BOOL,     config_remote_write, send_exemplars,         "send_exemplars",         F_OMIT),
    FIELD(F_BOOL,     config_remote_write, send_native_histograms, "send_native_histograms", F_OMIT),
    FIELD(F_BOOL,     config_remote_write, round_robin_dns,        "round_robin_dns",        F_OMIT),
    FIELD(F_STR,      config_remote_write, protobuf_message,       "protobuf_message",       F_OMIT, .go = "remote.WriteMessageType"),
    FIELD(F_BOOL,     config_remote_write, failed_request_logging, "failed_request_logging", F_OMIT),
    FIELD(F_INLINE,   config_remote_write, http,                   "",                       0, .record = &http_record),
    FIELD(F_STRUCT,   config_remote_write, queue,                  "queue_config",           F_OMIT, .record = &queue_record),
    FIELD(F_STRUCT,   config_remote_write, metadata,               "metadata_config",        F_OMIT, .record = &metadata_record),
    FIELD(F_POINTER,  config_remote_write, sigv4,                  "sigv4",                  F_OMIT, .record = &sigv4_record),
    FIELD(F_POINTER,  config_remote_write, azuread,                "azuread",                F_OMIT, .record = &azuread_record),
    FIELD(F_POINTER,  config_remote_write, google_iam,             "google_iam",             F_OMIT, .record = &google_iam_record),
};
static const struct record remote_write_record = {
    .go = "config.plain", .size = sizeof(struct config_remote_write), .defaults = &remote_write_defaults, .resets = true,
    .fields = remote_write_fields, .n_fields = NX_COUNT(remote_write_fields),
    .line_offset = offsetof(struct config_remote_write, line), .check = check_remote_write,
};

static const struct config_remote_read remote_read_defaults = {
    .remote_timeout_ms = 60000, .chunked_read_limit_bytes = 50000000, .http = HTTP_DEFAULTS, .filter_external_labels = true,
};
static const struct field remote_read_fields[] = {
    FIELD(F_URL,      config_remote_read, url,                      "url",                    0),
    FIELD(F_DURATION, config_remote_read, remote_timeout_ms,        "remote_timeout",         F_OMIT),
    FIELD(F_UINT,     config_remote_read, chunked_read_limit_bytes, "chunked_read_limit",     F_OMIT, .go = "uint64"),
    FIELD(F_PAIRS,    config_remote_read, headers,                  "headers",                F_OMIT),
    FIELD(F_BOOL,     config_remote_read, read_recent,              "read_recent",            F_OMIT),
    FIELD(F_STR,      config_remote_read, name,                     "name",                   F_OMIT),
    FIELD(F_INLINE,   config_remote_read, http,                     "",                       0, .record = &http_record),
    FIELD(F_LABEL_SET, config_remote_read, required_matchers,       "required_matchers",      F_OMIT),
    FIELD(F_BOOL,     config_remote_read, filter_external_labels,   "filter_external_labels", F_OMIT),
};
static const struct record remote_read_record = {
    .go = "config.plain", .size = sizeof(struct config_remote_read), .defaults = &remote_read_defaults, .resets = true,
    .fields = remote_read_fields, .n_fields = NX_COUNT(remote_read_fields),
    .line_offset = offsetof(struct config_remote_read, line), .check = check_remote_read,
};

/* ---- storage, tracing, otlp ---- */

static const struct field retention_fields[] = {
    FIELD(F_DURATION, config_retention, time_ms,    "time",       F_OMIT),
    FIELD(F_BYTES,    config_retention, size_bytes, "size",       F_OMIT),
    FIELD(F_FLOAT,    config_retention, percentage, "percentage", F_OMIT),
};
static const struct record retention_record = {
    .go = "config.plain", .size = sizeof(struct config_retention), .resets = true, .fields = retention_fields,
    .n_fields = NX_COUNT(retention_fields), .line_offset = NO_LINE, .check = check_retention,
};
static const struct field chunk_encoding_fields[] = {
    FIELD(F_STR, config_chunk_encoding, floats, "floats", F_OMIT),
};
SIMPLE_RECORD(chunk_encoding, config_chunk_encoding, "config.ChunkEncodingConfig");
static const struct field tsdb_fields[] = {
    /* Prometheus prints this one under the name of its variable, and takes it. */
    FIELD(F_INT,      config_tsdb, shown_window_ms,             "outofordertimewindow",     0, .go = "int64"),
    FIELD(F_DURATION, config_tsdb, out_of_order_time_window_ms, "out_of_order_time_window", F_OMIT),
    FIELD(F_FLOAT,    config_tsdb, stale_series_compaction_threshold, "stale_series_compaction_threshold", F_OMIT),
    FIELD(F_STRUCT,   config_tsdb, chunk_encoding,              "chunk_encoding",           F_OMIT, .record = &chunk_encoding_record),
    FIELD(F_STRUCT,   config_tsdb, retention,                   "retention",                0, .record = &retention_record),
};
static const struct record tsdb_record = {
    .go = "config.plain", .size = sizeof(struct config_tsdb), .resets = true, .fields = tsdb_fields,
    .n_fields = NX_COUNT(tsdb_fields), .line_offset = NO_LINE, .check = check_tsdb,
};
static const struct field exemplars_fields[] = {
    FIELD(F_INT, config_exemplars, max_exemplars, "max_exemplars", F_OMIT, .go = "int64"),
};
SIMPLE_RECORD(exemplars, config_exemplars, "config.ExemplarsConfig");
static const struct field storage_fields[] = {
    FIELD(F_STRUCT,  config_storage, tsdb,      "tsdb",      0, .record = &tsdb_record),
    FIELD(F_POINTER, config_storage, exemplars, "exemplars", F_OMIT, .record = &exemplars_record),
};
SIMPLE_RECORD(storage, config_storage, "config.StorageConfig");

static const struct choice client_types = {
    "http grpc", "expected tracing client type to be to be http or grpc, but got ", false };
static const struct config_tracing tracing_defaults = { .client_type = { "grpc", 4 } };
static const struct field tracing_fields[] = {
    FIELD(F_CHOICE,   config_tracing, client_type,       "client_type",       F_OMIT, .choice = &client_types, .go = "config.plain"),
    FIELD(F_STR,      config_tracing, endpoint,          "endpoint",          F_OMIT),
    FIELD(F_FLOAT,    config_tracing, sampling_fraction, "sampling_fraction", F_OMIT),
    FIELD(F_BOOL,     config_tracing, insecure,          "insecure",          F_OMIT),
    FIELD(F_STRUCT,   config_tracing, tls,               "tls_config",        F_OMIT, .record = &tls_record),
    FIELD(F_PAIRS,    config_tracing, headers,           "headers",           F_OMIT),
    FIELD(F_STR,      config_tracing, compression,       "compression",       F_OMIT),
    FIELD(F_DURATION, config_tracing, timeout_ms,        "timeout",           F_OMIT),
};
static const struct record tracing_record = {
    .go = "config.plain", .size = sizeof(struct config_tracing), .defaults = &tracing_defaults, .resets = true,
    .fields = tracing_fields, .n_fields = NX_COUNT(tracing_fields), .line_offset = NO_LINE, .check = check_tracing,
};

static const struct field otlp_fields[] = {
    FIELD(F_BOOL, config_otlp, promote_all_resource_attributes, "promote_all_resource_attributes", F_OMIT),
    FIELD(F_STRS, config_otlp, promote_resource_attributes, "promote_resource_attributes", F_OMIT),
    FIELD(F_STRS, config_otlp, ignore_resource_attributes, "ignore_resource_attributes", F_OMIT),
    FIELD(F_STR,  config_otlp, translation_strategy, "translation_strategy", F_OMIT,
                               .go = "otlptranslator.TranslationStrategyOption"),
    FIELD(F_BOOL, config_otlp, keep_identifying_resource_attributes, "keep_identifying_resource_attributes", F_OMIT),
    FIELD(F_BOOL, config_otlp, convert_histograms_to_nhcb, "convert_histograms_to_nhcb", F_OMIT),
    FIELD(F_BOOL, config_otlp, promote_scope_metadata, "promote_scope_metadata", F_OMIT),
    FIELD(F_BOOL, config_otlp, label_name_underscore_sanitization, "label_name_underscore_sanitization", F_OMIT),
    FIELD(F_BOOL, config_otlp, label_name_preserve_multiple_underscores, "label_name_preserve_multiple_underscores", F_OMIT),
};
const struct config_otlp otlp_defaults = {
    .translation_strategy = { "UnderscoreEscapingWithSuffixes", 30 },
    .label_name_underscore_sanitization = true, .label_name_preserve_multiple_underscores = true,
};
static const struct record otlp_record = {
    .go = "config.plain", .size = sizeof(struct config_otlp), .defaults = &otlp_defaults, .resets = true,
    .fields = otlp_fields, .n_fields = NX_COUNT(otlp_fields), .line_offset = NO_LINE, .check = check_otlp,
};

/* ---- the file ---- */

static const struct field config_fields[] = {
    FIELD(F_STRUCT, config, global,              "global",              0, .record = &global_record),
    FIELD(F_STRUCT, config, runtime,             "runtime",             F_OMIT, .record = &runtime_record),
    FIELD(F_STRUCT, config, alerting,            "alerting",            F_OMIT, .record = &alerting_record),
    FIELD(F_PATHS,  config, rule_files,          "rule_files",          F_OMIT),
    FIELD(F_PATHS,  config, scrape_config_files, "scrape_config_files", F_OMIT),
    FIELD(F_LIST,   config, scrape_configs,      "scrape_configs",      F_OMIT, .record = &scrape_record,
                                                                        .go = "[]*config.ScrapeConfig"),
    FIELD(F_STRUCT, config, storage,             "storage",             0, .record = &storage_record),
    FIELD(F_STRUCT, config, tracing,             "tracing",             F_OMIT, .record = &tracing_record),
    FIELD(F_LIST,   config, remote_write,        "remote_write",        F_OMIT, .record = &remote_write_record,
                                                                        .go = "[]*config.RemoteWriteConfig"),
    FIELD(F_LIST,   config, remote_read,         "remote_read",         F_OMIT, .record = &remote_read_record,
                                                                        .go = "[]*config.RemoteReadConfig"),
    FIELD(F_STRUCT, config, otlp,                "otlp",                F_OMIT, .record = &otlp_record),
};
const struct record config_record = {
    .go = "config.plain", .size = sizeof(struct config),
    .fields = config_fields, .n_fields = NX_COUNT(config_fields), .line_offset = NO_LINE, .check = validate_config,
};
// clang-format on

/* ---- checks of sections ---- */

/* In a list whose items are pointers in Prometheus, a null item is an error of its own: here it has
 * no line. */
static nx_status refuse_null_rules(struct decoder *d, const struct yaml_node *map,
                                   const struct relabel_rules *rules, const char *field,
                                   const char *text)
{
    for (size_t i = 0; i < rules->n; i++) {
        if (!rules->v[i].line)
            return decode_fail_item(d, map, field, i, "%s", text);
    }
    return NX_OK;
}

static bool sd_is_null(const struct config_sd *sd, size_t *index)
{
    *index = 0;
    if (sd->kind != CONFIG_SD_STATIC)
        return !sd->u.any;
    for (size_t i = 0; i < sd->u.statics->n; i++) {
        *index = i;
        if (!sd->u.statics->v[i].targets.v)
            return true;
    }
    return false;
}

static nx_status refuse_null_sds(struct decoder *d, const struct yaml_node *map,
                                 const struct config_sds *sds)
{
    size_t nth = 0, index;

    for (size_t i = 0; i < sds->n; i++) {
        const char *key = config_sd_key(sds->v[i].kind);

        nth = i && sds->v[i - 1].kind == sds->v[i].kind ? nth + 1 : 0;
        if (sd_is_null(&sds->v[i], &index))
            return decode_fail_item(d, map, key, index + nth, "empty or null section in %s", key);
    }
    return NX_OK;
}

/* People put URLs where addresses belong; a relabelling rule might take them apart, so only without
 * any. */
static nx_status refuse_url_targets(struct decoder *d, const struct yaml_node *map,
                                    const struct config_sds *sds)
{
    for (size_t i = 0; i < sds->n; i++) {
        if (sds->v[i].kind != CONFIG_SD_STATIC)
            continue;
        for (size_t g = 0; g < sds->v[i].u.statics->n; g++) {
            const struct config_target_group *group = &sds->v[i].u.statics->v[g];

            for (size_t t = 0; t < group->targets.n; t++) {
                if (memchr(group->targets.v[t].ptr, '/', group->targets.v[t].len))
                    return decode_fail_item(d, map, "static_configs", g,
                                            "%s is not a valid hostname",
                                            decode_quote(d, group->targets.v[t]));
            }
        }
    }
    return NX_OK;
}

static nx_status check_scrape(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_scrape *s = obj;
    nx_status st;

    if ((st = refuse_null_sds(d, map, &s->sds)))
        return st;
    if (!s->job_name.len)
        FAIL("job_name", "job_name is empty");
    if ((st = check_http(d, map, &s->http)))
        return st;
    if (!s->relabel.n && (st = refuse_url_targets(d, map, &s->sds)))
        return st;
    st = refuse_null_rules(d, map, &s->relabel, "relabel_configs",
                           "empty or null target relabeling rule in scrape config");
    if (!st)
        st = refuse_null_rules(d, map, &s->metric_relabel, "metric_relabel_configs",
                               "empty or null metric relabeling rule in scrape config");
    return st;
}

static nx_status check_alerting(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_alerting *a = obj;

    for (size_t i = 0; i < a->alertmanagers.n; i++) {
        if (!a->alertmanagers.v[i].line)
            return decode_fail_item(d, map, "alertmanagers", i,
                                    "empty or null Alertmanager config section");
    }
    return refuse_null_rules(d, map, &a->alert_relabel, "alert_relabel_configs",
                             "empty or null alert relabeling rule");
}

static nx_status check_alertmanager(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_alertmanager *a = obj;
    nx_status st;

    if ((st = refuse_null_sds(d, map, &a->sds)) || (st = check_http(d, map, &a->http)))
        return st;
    if (a->sigv4 && (a->http.basic_auth || a->http.authorization || a->http.oauth2))
        FAIL("sigv4",
             "at most one of basic_auth, authorization, oauth2, & sigv4 must be configured");
    if (!a->relabel.n && (st = refuse_url_targets(d, map, &a->sds)))
        return st;
    st = refuse_null_rules(d, map, &a->relabel, "relabel_configs",
                           "empty or null Alertmanager target relabeling rule");
    if (!st)
        st = refuse_null_rules(d, map, &a->alert_relabel, "alert_relabel_configs",
                               "empty or null Alertmanager alert relabeling rule");
    return st;
}

static nx_status check_global(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_global *g = obj;

    if (!g->validation)
        g->validation = CONFIG_VALIDATION_UTF8;
    for (uint32_t i = 0; i < g->external_labels.n; i++) {
        const struct label *l = &g->external_labels.v[i];
        bool legacy = g->validation == CONFIG_VALIDATION_LEGACY;

        if (!(legacy ? label_name_legacy_valid(l->name) : label_name_valid(l->name)))
            FAIL("external_labels", "%s is not a valid label name", decode_quote(d, l->name));
        if (!utf8_valid(l->value))
            FAIL("external_labels", "%s is not a valid label value", decode_quote(d, l->value));
    }
    if (!g->scrape_interval_ms)
        g->scrape_interval_ms = 60000;
    if (g->scrape_timeout_ms > g->scrape_interval_ms)
        FAIL("scrape_timeout", "global scrape timeout greater than scrape interval");
    if (!g->scrape_timeout_ms)
        g->scrape_timeout_ms = g->scrape_interval_ms < 10000 ? g->scrape_interval_ms : 10000;
    if (!g->evaluation_interval_ms)
        g->evaluation_interval_ms = 60000;
    if (g->scrape_native_histograms == CONFIG_UNSET)
        g->scrape_native_histograms = CONFIG_NO;
    if (g->extra_scrape_metrics == CONFIG_UNSET)
        g->extra_scrape_metrics = CONFIG_NO;
    return g->scrape_protocols.text.v
               ? validate_protocols(d, map, &g->scrape_protocols, "global config")
               : NX_OK;
}

/* Headers that remote storage sets itself. */
static nx_status check_header_names(struct decoder *d, const struct yaml_node *map,
                                    const struct config_pairs *headers, const char *authorization)
{
    static const char *const reserved[] = {
        "host",
        "content-encoding",
        "content-length",
        "content-type",
        "user-agent",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "www-authenticate",
        "accept-encoding",
        "x-prometheus-remote-write-version",
        "x-prometheus-remote-read-version",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-content-sha256",
    };

    for (size_t i = 0; i < headers->n; i++) {
        const char *name = headers->v[i].name.ptr;

        if (!strcasecmp(name, "authorization"))
            FAIL("headers", "%s", authorization);
        for (size_t k = 0; k < NX_COUNT(reserved); k++) {
            if (!strcasecmp(name, reserved[k]))
                FAIL("headers", "%s is a reserved header. It must not be changed", name);
        }
    }
    return NX_OK;
}

#define USE_AUTH_FIELDS                                                                            \
    "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, "      \
    "azuread or google_iam "                                                                       \
    "parameter"

static nx_status check_queue(struct decoder *d, const struct yaml_node *remote,
                             const struct config_queue *q)
{
    const struct yaml_node *map = yaml_get(remote, "queue_config", NULL);

    if (!map)
        map = remote;
    if (q->max_shards <= 0)
        FAIL("max_shards", "remote write queue max_shards must be positive");
    if (q->min_shards <= 0)
        FAIL("min_shards", "remote write queue min_shards must be positive");
    if (q->min_shards > q->max_shards)
        FAIL("min_shards", "remote write queue min_shards must not be greater than max_shards");
    if (q->max_samples_per_send <= 0)
        FAIL("max_samples_per_send", "remote write queue max_samples_per_send must be positive");
    if (q->capacity <= 0)
        FAIL("capacity", "remote write queue capacity must be positive");
    if (q->max_backoff_ms < q->min_backoff_ms)
        FAIL("max_backoff", "remote write queue max_backoff must not be less than min_backoff");
    return NX_OK;
}

static nx_status check_one_auth(struct decoder *d, const struct yaml_node *map,
                                const struct config_remote_write *w)
{
    const struct {
        const void *said;
        const char *name;
    } kinds[] = {{w->http.basic_auth, "basic_auth"},
                 {w->http.authorization, "authorization"},
                 {w->http.oauth2, "oauth2"},
                 {w->sigv4, "sigv4"},
                 {w->azuread, "azuread"},
                 {w->google_iam, "google_iam"}};
    char names[100] = "";
    const char *last = "url";
    unsigned n = 0;

    for (size_t i = 0; i < NX_COUNT(kinds); i++) {
        if (!kinds[i].said)
            continue;
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", n++ ? " " : "",
                 kinds[i].name);
        last = kinds[i].name;
    }
    if (n > 1)
        FAIL(last,
             "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must "
             "be configured. "
             "Currently configured: [%s]",
             names);
    return NX_OK;
}

static nx_status check_remote_write(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_remote_write *w = obj;
    nx_status st;

    if (!w->url.set)
        FAIL("url", "url for remote_write is empty");
    if ((st = refuse_null_rules(d, map, &w->write_relabel, "write_relabel_configs",
                                "empty or null relabeling rule in remote write config")) ||
        (st = check_header_names(d, map, &w->headers, USE_AUTH_FIELDS)))
        return st;
    if (!nx_slice_is(w->protobuf_message, "prometheus.WriteRequest") &&
        !nx_slice_is(w->protobuf_message, "io.prometheus.write.v2.Request"))
        FAIL("protobuf_message",
             "invalid protobuf_message value: unknown type for remote write protobuf message %s, "
             "supported: "
             "prometheus.WriteRequest, io.prometheus.write.v2.Request",
             w->protobuf_message.ptr);
    if ((st = check_http(d, map, &w->http)) || (st = check_queue(d, map, &w->queue)))
        return st;
    return check_one_auth(d, map, w);
}

static nx_status check_remote_read(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_remote_read *r = obj;
    nx_status st;

    if (!r->url.set)
        FAIL("url", "url for remote_read is empty");
    st = check_header_names(d, map, &r->headers, USE_AUTH_FIELDS);
    return st ? st : check_http(d, map, &r->http);
}

static nx_status check_sigv4(struct decoder *d, const struct yaml_node *map, void *obj)
{
    const struct config_sigv4 *s = obj;

    if (!s->access_key.len != !s->secret_key.value.len)
        FAIL(s->access_key.len ? "access_key" : "secret_key",
             "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in "
             "the SigV4 config");
    if (s->external_id.len && !s->role_arn.len)
        FAIL("external_id", "external_id can only be used with role_arn");
    return NX_OK;
}

static bool is_uuid(struct nx_slice s)
{
    static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    if (s.len != sizeof shape - 1)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        bool hex = s.ptr[i] && strchr("0123456789abcdefABCDEF", s.ptr[i]);

        if (shape[i] == '-' ? s.ptr[i] != '-' : !hex)
            return false;
    }
    return true;
}

static nx_status check_azuread_ids(struct decoder *d, const struct yaml_node *map, const char *what,
                                   const char *key, struct nx_slice client, struct nx_slice tenant)
{
    if (!client.len)
        FAIL(key, "must provide an Azure %s client_id in the Azure AD config", what);
    if (!tenant.len)
        FAIL(key, "must provide an Azure %s tenant_id in the Azure AD config", what);
    if (!is_uuid(client))
        FAIL(key, "the provided Azure %s client_id is invalid", what);
    return NX_OK;
}

static nx_status check_azuread_kind(struct decoder *d, const struct yaml_node *map,
                                    struct config_azuread *a)
{
    nx_status st;

    if (a->managed_identity && a->managed_identity->client_id.len &&
        !is_uuid(a->managed_identity->client_id))
        FAIL("managed_identity", "the provided Azure Managed Identity client_id is invalid");
    if (a->workload_identity) {
        const struct config_azuread_workload *w = a->workload_identity;
        const char *file = getenv("AZURE_FEDERATED_TOKEN_FILE");

        if ((st = check_azuread_ids(d, map, "Workload Identity", "workload_identity", w->client_id,
                                    w->tenant_id)))
            return st;
        if (!is_uuid(w->tenant_id))
            FAIL("workload_identity", "the provided Azure Workload Identity tenant_id is invalid");
        if (!w->token_file_path.len) {
            file = arena_strdup(
                d->arena,
                file && *file ? file : "/var/run/secrets/azure/tokens/azure-identity-token");
            if (!file)
                return d->failed = arena_failed(d->arena, d->err);
            a->workload_identity->token_file_path = nx_slice_str(file);
        }
    }
    if (a->oauth) {
        if (a->oauth->client_id.len && !a->oauth->client_secret.value.len)
            FAIL("oauth", "must provide an Azure OAuth client_secret in the Azure AD config");
        if ((st = check_azuread_ids(d, map, "OAuth", "oauth", a->oauth->client_id,
                                    a->oauth->tenant_id)))
            return st;
    }
    if (a->certificate) {
        const struct config_azuread_certificate *c = a->certificate;

        if ((st = check_azuread_ids(d, map, "Certificate", "certificate", c->client_id,
                                    c->tenant_id)))
            return st;
        if (!c->certificate_path.len)
            FAIL("certificate",
                 "must provide an Azure Certificate certificate_path in the Azure AD config");
    }
    return NX_OK;
}

static nx_status check_azuread(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_azuread *a = obj;
    int kinds =
        !!a->managed_identity + !!a->workload_identity + !!a->oauth + !!a->sdk + !!a->certificate;
    nx_status st;

    if (!a->cloud.len)
        a->cloud = nx_slice_str("AzurePublic");
    if (!nx_slice_is(a->cloud, "AzurePublic") && !nx_slice_is(a->cloud, "AzureChina") &&
        !nx_slice_is(a->cloud, "AzureGovernment"))
        FAIL("cloud", "must provide a cloud in the Azure AD config");
    if (!kinds)
        FAIL("cloud", "must provide an Azure Managed Identity, Azure Workload Identity, Azure "
                      "OAuth, Azure Certificate "
                      "or Azure SDK in the Azure AD config");
    if (kinds > 1)
        FAIL("cloud", "cannot provide multiple authentication methods in the Azure AD config");
    if ((st = check_azuread_kind(d, map, a)))
        return st;
    for (size_t i = 0; i < a->scope.len; i++) {
        unsigned char c = (unsigned char)a->scope.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!word && (!c || !strchr("_ \t\n\f\r:/.-", c)))
            FAIL("scope", "the provided scope contains invalid characters");
    }
    return NX_OK;
}

static nx_status check_retention(struct decoder *d, const struct yaml_node *map, void *obj)
{
    const struct config_retention *r = obj;
    struct buf b;
    char size[64];

    buf_init(&b, sizeof size - 1);
    units_print(&b, r->size_bytes);
    snprintf(size, sizeof size, "%s", buf_cstr(&b));
    buf_done(&b);
    if (r->size_bytes < 0)
        FAIL("size", "'storage.tsdb.retention.size' must be greater than or equal to 0, got %s",
             size);
    if (!(r->percentage >= 0 && r->percentage <= 100))
        FAIL("percentage",
             "'storage.tsdb.retention.percentage' must be in the range [0, 100], got %g",
             r->percentage);
    return NX_OK;
}

static nx_status check_tsdb(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_tsdb *t = obj;
    struct nx_slice floats = t->chunk_encoding.floats;

    t->shown_window_ms = t->out_of_order_time_window_ms;
    if (floats.len && !nx_slice_is(floats, "xor") && !nx_slice_is(floats, "xor2"))
        FAIL("chunk_encoding",
             "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be "
             "omitted entirely, "
             "got %s",
             decode_quote(d, floats));
    return NX_OK;
}

static nx_status check_tracing(struct decoder *d, const struct yaml_node *map, void *obj)
{
    const struct config_tracing *t = obj;
    nx_status st = check_header_names(
        d, map, &t->headers, "custom authorization header configuration is not yet supported");

    if (st)
        return st;
    if (!t->endpoint.len)
        FAIL("endpoint", "tracing endpoint must be set");
    if (t->compression.len && !nx_slice_is(t->compression, "gzip"))
        FAIL("compression", "invalid compression type %s provided, valid options: gzip",
             t->compression.ptr);
    return NX_OK;
}

static struct nx_slice trimmed(struct nx_slice s)
{
    while (s.len && strchr(" \t\n\v\f\r", *s.ptr))
        s.ptr++, s.len--;
    while (s.len && strchr(" \t\n\v\f\r", s.ptr[s.len - 1]))
        s.len--;
    return s;
}

/* Trims the names; every empty or doubled one gets a line of the message. */
static nx_status check_attributes(struct decoder *d, const struct yaml_node *map, const char *field,
                                  const char *adjective, struct config_strings *names)
{
    char lines[700] = "";
    size_t used = 0, bad = 0;

    for (size_t i = 0; i < names->n; i++) {
        struct nx_slice name = trimmed(names->v[i]);
        bool twice = false;

        for (size_t k = 0; k < i && name.len && !twice; k++)
            twice = nx_slice_eq(names->v[k], name);
        if (name.len && !twice) {
            char *copy = arena_strndup(d->arena, name.ptr, name.len);

            if (!copy)
                return d->failed = arena_failed(d->arena, d->err);
            names->v[i] = nx_slice_of(copy, name.len);
            continue;
        }
        used += (size_t)snprintf(lines + used, sizeof lines - used,
                                 "%s%s %s OTel resource attribute%s%s", bad++ ? "\n" : "",
                                 twice ? "duplicated" : "empty", adjective, twice ? " " : "",
                                 twice ? decode_quote(d, name) : "");
        if (used >= sizeof lines)
            used = sizeof lines - 1;
    }
    if (bad)
        FAIL(field, "invalid '%s': %s", field, lines);
    return NX_OK;
}

static nx_status check_otlp(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_otlp *o = obj;

    if (o->promote_all_resource_attributes) {
        if (o->promote_resource_attributes.n)
            FAIL("promote_resource_attributes",
                 "'promote_all_resource_attributes' and 'promote_resource_attributes' "
                 "cannot be configured simultaneously");
        return check_attributes(d, map, "ignore_resource_attributes", "ignored",
                                &o->ignore_resource_attributes);
    }
    if (o->ignore_resource_attributes.n)
        FAIL("ignore_resource_attributes",
             "'ignore_resource_attributes' cannot be configured unless "
             "'promote_all_resource_attributes' is true");
    return check_attributes(d, map, "promote_resource_attributes", "promoted",
                            &o->promote_resource_attributes);
}
