/* config.h - prometheus.yml as plain typed structs.
 *
 * A configuration is loaded whole or not at all: read, decoded strictly against tables of fields,
 * filled with defaults, checked, its regexes compiled, its relative paths joined to the folder of
 * the file. What the rest of the program gets never changes afterwards.
 *
 * Owner    config_load() gives one reference; config_ref() and config_unref() share it, and the
 *          last unref frees everything in it. All pointers below live as long as the configuration.
 * Threads  any thread may read a configuration it holds a reference to.
 * Units    times are milliseconds, sizes bytes. In limits 0 means none.
 * Strings  every nx_slice here has a non-NULL ptr and a NUL after its last byte, so that .ptr is a
 *          C string wherever the text itself holds no NUL. Unset strings have length 0. */
#pragma once

#include "src/base/buf.h"
#include "src/base/labels.h"
#include "src/base/log.h"
#include "src/base/regex.h"
#include "src/base/status.h"

/* ---- small shapes ---------------------------------------------------------------------------- */

/* Text that is never shown: a type of its own, so that no printer takes it by mistake. */
struct config_secret {
    struct nx_slice value; /* empty: unset */
};
struct config_strings {
    struct nx_slice *v;
    size_t n;
};
struct config_secrets {
    struct config_secret *v;
    size_t n;
};
/* name: value, sorted by name */
struct config_pair {
    struct nx_slice name, value;
};
struct config_pairs {
    struct config_pair *v;
    size_t n;
};
/* name: [value, ...], sorted by name */
struct config_values {
    struct nx_slice name;
    struct config_strings values;
};
struct config_params {
    struct config_values *v;
    size_t n;
};
/* A URL whose text was found well formed. `shown` has xxxxx for the password. */
struct config_url {
    struct nx_slice text, shown;  /* empty: unset or empty */
    struct nx_slice scheme, host; /* host as written, with the port */
    bool set;
};
/* Settings that a job inherits when it does not say. After a load never CONFIG_UNSET: `if (x)` is
 * safe. */
enum config_tri { CONFIG_UNSET = -1, CONFIG_NO = 0, CONFIG_YES = 1 };

/* ---- the HTTP client block: scrapes, discovery, remote storage, Alertmanagers ------------------ */

struct config_basic_auth {
    struct nx_slice username, username_file, username_ref;
    struct config_secret password;
    struct nx_slice password_file, password_ref;
};
struct config_authorization { /* bearer_token and bearer_token_file end up here, too */
    struct nx_slice type;     /* "Bearer" */
    struct config_secret credentials;
    struct nx_slice credentials_file, credentials_ref;
};
enum config_tls_version {
    CONFIG_TLS_UNSET,
    CONFIG_TLS10,
    CONFIG_TLS11,
    CONFIG_TLS12,
    CONFIG_TLS13
};
struct config_tls {
    struct nx_slice ca, cert;
    struct config_secret key;
    struct nx_slice ca_file, cert_file, key_file;
    struct nx_slice ca_ref, cert_ref, key_ref;
    struct nx_slice server_name;
    bool insecure_skip_verify;
    enum config_tls_version min_version, max_version;
};
struct config_proxy_header {
    struct nx_slice name;
    struct config_secrets values;
};
struct config_proxy {
    struct config_url url;
    struct nx_slice no_proxy;
    bool from_environment;
    struct config_proxy_headers {
        struct config_proxy_header *v;
        size_t n;
    } connect_header;
};
struct config_http_header { /* all values of the three lists are sent */
    struct nx_slice name;
    struct config_strings values;
    struct config_secrets secrets;
    struct config_strings files;
};
struct config_http_headers {
    struct config_http_header *v;
    size_t n;
};
struct yaml_node; /* free-form YAML, as read */
struct config_oauth2 {
    struct nx_slice client_id;
    struct config_secret client_secret;
    struct nx_slice client_secret_file, client_secret_ref;
    struct nx_slice client_certificate_key_id;
    struct config_secret client_certificate_key;
    struct nx_slice client_certificate_key_file, client_certificate_key_ref;
    struct nx_slice grant_type, signature_algorithm, iss, audience;
    const struct yaml_node *claims; /* NULL: unset */
    struct config_strings scopes;
    struct nx_slice token_url;
    struct config_pairs endpoint_params;
    struct config_tls tls;
    struct config_proxy proxy;
};
struct config_http {
    struct config_basic_auth *basic_auth;       /* NULL: unset; at most one of these three */
    struct config_authorization *authorization; /* NULL: unset */
    struct config_oauth2 *oauth2;               /* NULL: unset */
    struct config_secret bearer_token;          /* only while loading; see authorization */
    struct nx_slice bearer_token_file;          /* likewise */
    struct config_tls tls;
    bool follow_redirects, enable_http2;
    struct config_proxy proxy;
    struct config_http_headers headers;
};

/* ---- relabelling (applied by src/relabel) ------------------------------------------------------ */

enum relabel_action {
    RELABEL_REPLACE,
    RELABEL_KEEP,
    RELABEL_DROP,
    RELABEL_KEEPEQUAL,
    RELABEL_DROPEQUAL,
    RELABEL_HASHMOD,
    RELABEL_LABELMAP,
    RELABEL_LABELDROP,
    RELABEL_LABELKEEP,
    RELABEL_LOWERCASE,
    RELABEL_UPPERCASE,
    RELABEL_ACTION_COUNT
};
struct relabel_rule {
    struct config_strings source_labels;
    struct nx_slice separator, regex_text;
    uint64_t modulus;
    struct nx_slice target_label, replacement;
    enum relabel_action action;
    const struct regex *regex; /* compiled; never NULL after a load */
    bool default_regex;        /* not said: (.*), which matches whatever there is */
    bool legacy_names;         /* metric_name_validation_scheme: legacy */
    int line;
};
struct relabel_rules {
    const struct relabel_rule *v;
    size_t n;
};

/* ---- service discovery ------------------------------------------------------------------------- */

// clang-format off
/* All kinds there are: the key is KIND_sd_configs (static_configs for static). */
#define CONFIG_SD_LIST(X) \
    X(AWS, aws) X(AZURE, azure) X(CONSUL, consul) X(DIGITALOCEAN, digitalocean) X(DNS, dns) \
    X(DOCKER, docker) X(DOCKERSWARM, dockerswarm) X(EC2, ec2) X(EUREKA, eureka) X(FILE, file) \
    X(GCE, gce) X(HETZNER, hetzner) X(HTTP, http) X(IONOS, ionos) X(KUBERNETES, kubernetes) \
    X(KUMA, kuma) X(LIGHTSAIL, lightsail) X(LINODE, linode) X(MARATHON, marathon) X(NERVE, nerve) \
    X(NOMAD, nomad) X(OCI, oci) X(OPENSTACK, openstack) X(OUTSCALE, outscale) \
    X(OVHCLOUD, ovhcloud) X(PUPPETDB, puppetdb) X(SCALEWAY, scaleway) X(SERVERSET, serverset) \
    X(STACKIT, stackit) X(STATIC, static) X(TRITON, triton) X(UYUNI, uyuni) X(VULTR, vultr)
// clang-format on
#define CONFIG_SD_ENUM(upper, lower) CONFIG_SD_##upper,
enum config_sd_kind { CONFIG_SD_LIST(CONFIG_SD_ENUM) CONFIG_SD_COUNT };
#undef CONFIG_SD_ENUM

/* One target group: the targets are values of __address__; labels go to each of them. */
struct config_target_group {
    struct config_strings targets;
    struct labels labels; /* may hold empty values: such a label is removed from the target */
};
struct config_static_sd {
    struct config_target_group *v; /* the group's source is its index */
    size_t n;
};
struct config_file_sd {
    struct config_strings files; /* globs, joined to the folder of the config file */
    int64_t refresh_interval_ms;
};
/* One entry of a KIND_sd_configs list; of static_configs the whole list is one entry. The structs
 * of the other kinds are in src/config/sd.h, as src/discovery learns to use them. */
struct config_sd {
    enum config_sd_kind kind;
    int line;
    uint64_t fingerprint; /* equal for entries that say the same */
    union {
        const void *any;
        const struct config_static_sd *statics;
        const struct config_file_sd *file;
    } u;
};
struct config_sds {
    const struct config_sd *v; /* by kind's name, then as written */
    size_t n;
};

/* ---- sections ---------------------------------------------------------------------------------- */

enum config_validation {
    CONFIG_VALIDATION_UNSET,
    CONFIG_VALIDATION_LEGACY,
    CONFIG_VALIDATION_UTF8
};
enum config_escaping {
    CONFIG_ESCAPE_UNSET,
    CONFIG_ESCAPE_ALLOW_UTF8,
    CONFIG_ESCAPE_UNDERSCORES,
    CONFIG_ESCAPE_DOTS,
    CONFIG_ESCAPE_VALUES
};
enum config_protocol {
    CONFIG_PROTO_UNSET,
    CONFIG_PROTO_OM_0_0_1,
    CONFIG_PROTO_OM_1_0_0,
    CONFIG_PROTO_PROTOBUF,
    CONFIG_PROTO_TEXT_0_0_4,
    CONFIG_PROTO_TEXT_1_0_0
};
struct config_protocols {
    enum config_protocol *v; /* most wanted first */
    size_t n;
    struct config_strings
        text; /* as written; v NULL: not said (in `global`; a job always has some) */
};

/* What a job may set for itself and otherwise has from `global`. */
struct config_limits {
    int64_t body_size_bytes;
    uint64_t samples, targets, labels, label_name_bytes, label_value_bytes;
    uint64_t keep_dropped_targets;
};

struct config_global {
    int64_t scrape_interval_ms, scrape_timeout_ms, evaluation_interval_ms, rule_query_offset_ms;
    struct config_protocols scrape_protocols;
    struct nx_slice query_log_file, scrape_failure_log_file;
    struct labels
        external_labels; /* ${VAR} expanded; may hold empty values, as shown by status/config */
    struct config_limits limits;
    enum config_validation validation;
    struct nx_slice escaping_text; /* metric_name_escaping_scheme as written */
    enum config_tri scrape_native_histograms, extra_scrape_metrics;
    bool convert_classic_histograms_to_nhcb, always_scrape_classic_histograms;
};

struct config_scrape {
    struct nx_slice job_name;
    bool honor_labels, honor_timestamps, track_timestamps_staleness;
    struct config_params params;
    int64_t scrape_interval_ms, scrape_timeout_ms;
    struct config_protocols scrape_protocols;
    enum config_protocol fallback_scrape_protocol; /* CONFIG_PROTO_UNSET: none */
    struct nx_slice fallback_text;
    enum config_tri scrape_native_histograms, always_scrape_classic_histograms,
        convert_classic_histograms_to_nhcb, extra_scrape_metrics;
    struct nx_slice scrape_failure_log_file;
    struct nx_slice metrics_path, scheme;
    bool enable_compression;
    struct config_limits limits;
    uint64_t native_histogram_bucket_limit;
    double native_histogram_min_bucket_factor;
    enum config_validation validation;
    enum config_escaping escaping;
    struct nx_slice escaping_text;
    struct config_sds sds;
    struct config_http http;
    struct relabel_rules relabel, metric_relabel;

    struct nx_slice file; /* the scrape_config_files file it is from; empty: the main file */
    int line;             /* of the section; for messages */
    uint64_t fingerprint; /* equal for sections that say the same, secrets included */
};

struct config_sigv4 {
    struct nx_slice region, access_key;
    struct config_secret secret_key;
    struct nx_slice profile, role_arn, external_id;
    bool use_fips_sts_endpoint;
    struct nx_slice service_name;
};
struct config_alertmanager {
    struct config_sds sds;
    struct config_http http;
    struct config_sigv4 *sigv4; /* NULL: unset */
    struct nx_slice scheme, path_prefix;
    int64_t timeout_ms;
    struct nx_slice api_version; /* "v2" */
    struct relabel_rules relabel, alert_relabel;
    uint64_t fingerprint; /* equal for entries that say the same, secrets included */
    int line;
};

struct config_azuread {
    struct config_azuread_managed {
        struct nx_slice client_id;
    } * managed_identity;
    struct config_azuread_workload {
        struct nx_slice client_id, tenant_id, token_file_path;
    } * workload_identity;
    struct config_azuread_oauth {
        struct nx_slice client_id;
        struct config_secret client_secret;
        struct nx_slice tenant_id;
    } * oauth;
    struct config_azuread_sdk {
        struct nx_slice tenant_id;
    } * sdk;
    struct config_azuread_certificate {
        struct nx_slice client_id, tenant_id, certificate_path, certificate_key_path;
        struct config_secret certificate_password;
        bool send_certificate_chain;
    } * certificate;
    struct nx_slice cloud, scope;
};
struct config_google_iam {
    struct nx_slice credentials_file;
};
struct config_queue {
    int64_t capacity, max_shards, min_shards, max_samples_per_send;
    int64_t batch_send_deadline_ms, min_backoff_ms, max_backoff_ms;
    bool retry_on_http_429;
    int64_t sample_age_limit_ms;
};
struct config_metadata {
    bool send;
    int64_t send_interval_ms, max_samples_per_send;
};
struct config_remote_write {
    struct config_url url;
    int64_t remote_timeout_ms;
    struct config_pairs headers;
    struct relabel_rules write_relabel;
    struct nx_slice name;
    bool send_exemplars, send_native_histograms, round_robin_dns;
    struct nx_slice protobuf_message;
    bool failed_request_logging;
    struct config_http http;
    struct config_queue queue;
    struct config_metadata metadata;
    struct config_sigv4 *sigv4;           /* NULL: unset; at most one kind of authorization */
    struct config_azuread *azuread;       /* NULL: unset */
    struct config_google_iam *google_iam; /* NULL: unset */
    int line;
};
struct config_remote_read {
    struct config_url url;
    int64_t remote_timeout_ms;
    uint64_t chunked_read_limit_bytes;
    struct config_pairs headers;
    bool read_recent;
    struct nx_slice name;
    struct config_http http;
    struct labels required_matchers;
    bool filter_external_labels;
    int line;
};

struct config_storage {
    struct config_tsdb {
        int64_t out_of_order_time_window_ms;
        int64_t shown_window_ms; /* the same; only printed */
        double stale_series_compaction_threshold;
        struct config_chunk_encoding {
            struct nx_slice floats; /* "", "xor", "xor2" */
        } chunk_encoding;
        struct config_retention {
            int64_t time_ms;    /* 0: the flag decides */
            int64_t size_bytes; /* 0: the flag decides */
            double percentage;  /* of the disk; 0: none */
        } retention;
    } tsdb;
    struct config_exemplars {
        int64_t max_exemplars;
    } * exemplars; /* NULL: not said */
};

struct config_tracing {
    struct nx_slice client_type, endpoint; /* endpoint empty: no tracing */
    double sampling_fraction;
    bool insecure;
    struct config_tls tls;
    struct config_pairs headers;
    struct nx_slice compression;
    int64_t timeout_ms;
};

struct config_otlp {
    bool promote_all_resource_attributes;
    struct config_strings promote_resource_attributes, ignore_resource_attributes;
    struct nx_slice translation_strategy;
    bool keep_identifying_resource_attributes, convert_histograms_to_nhcb, promote_scope_metadata;
    bool label_name_underscore_sanitization, label_name_preserve_multiple_underscores;
};

struct config {
    struct config_global global;
    struct config_runtime {
        int64_t gogc;
    } runtime;
    struct config_alerting {
        struct relabel_rules alert_relabel;
        struct config_alertmanagers {
            const struct config_alertmanager *v;
            size_t n;
        } alertmanagers;
    } alerting;
    struct config_strings rule_files;          /* globs, joined to the folder of the config file */
    struct config_strings scrape_config_files; /* likewise; their jobs are in scrape_configs */
    struct config_scrapes {
        const struct config_scrape
            *v; /* the main file's first, then those of scrape_config_files */
        size_t n;
    } scrape_configs;
    struct config_storage storage;
    struct config_tracing tracing;
    struct config_remote_writes {
        const struct config_remote_write *v;
        size_t n;
    } remote_write;
    struct config_remote_reads {
        const struct config_remote_read *v;
        size_t n;
    } remote_read;
    struct config_otlp otlp;

    struct nx_slice path; /* of the main file */
};

/* Is this a URL, as Go's url.Parse answers, with its words? */
NX_NODISCARD nx_status config_check_url(struct nx_slice text, struct nx_err *err);

/* ---- loading ----------------------------------------------------------------------------------- */

struct config_opts {
    bool agent;                 /* refuse what agent mode refuses */
    bool ignore_unknown_fields; /* unknown keys are passed over in silence */
    bool only_main_file;        /* leave scrape_config_files alone */
    /* Sees a warning of the load itself (an unset ${VAR}); NULL: none are told. */
    void (*warn)(void *ctx, const char *text);
    void *ctx;
};

/* Reads and checks a file and the scrape_config_files it names. On failure err holds Prometheus's
 * text with file and line in it, several lines where several fields are wrong:
 *   parsing YAML file a.yml: yaml: unmarshal errors:
 *     line 3: field foo not found in type config.plain
 * opts may be NULL. NX_BADINPUT for a bad configuration, NX_NOTFOUND or NX_IO for an unreadable
 * one. */
NX_NODISCARD nx_status config_load(struct config **out, const char *path,
                                   const struct config_opts *opts, struct nx_err *err);
/* The same from text; relative paths are joined to `dir`, `path` is for messages. Both copied. */
NX_NODISCARD nx_status config_parse(struct config **out, struct nx_slice text, const char *path,
                                    const char *dir, const struct config_opts *opts,
                                    struct nx_err *err);
struct config *config_ref(const struct config *cfg);
void config_unref(const struct config *cfg); /* accepts NULL */

/* The configuration as YAML, as /api/v1/status/config shows it: defaults filled in, fields in
 * Prometheus's order, secrets as <secret>. Appends; buf_status() tells whether it is complete. */
void config_yaml(const struct config *cfg, struct buf *out);

/* Calls fn once for each part that the configuration uses and that is accepted but without effect
 * in this version. `text` is valid during the call. */
void config_warnings(const struct config *cfg, void (*fn)(void *ctx, const char *text), void *ctx);
/* All such parts, used or not, for the documentation: "key", "what it means". NULL after the
 * last. */
const char *config_later(size_t i, const char **what);

/* The HTTP client block of a service discovery; NULL for kinds that have none. */
const struct config_http *config_sd_http(const struct config_sd *sd);
const char *config_sd_name(enum config_sd_kind kind);     /* "file" */
const char *config_sd_key(enum config_sd_kind kind);      /* "file_sd_configs" */
const char *config_protocol_name(enum config_protocol p); /* "OpenMetricsText1.0.0" */
const char *
config_protocol_header(enum config_protocol p); /* "application/openmetrics-text;version=1.0.0" */
const char *config_escaping_name(enum config_escaping e); /* "allow-utf-8" */

/* A list of target groups as file_sd and http_sd have it, from YAML (JSON is read by
 * src/discovery). */
NX_NODISCARD nx_status config_parse_target_groups(struct arena *a, struct nx_slice text,
                                                  struct config_static_sd *out, struct nx_err *err);
/* The files that a pattern names now, sorted, in the arena; none is no error. NX_BADINPUT: it is no pattern. */
NX_NODISCARD nx_status config_glob(const char *pattern, struct arena *a, struct config_strings *out,
                                   struct nx_err *err);

/* ---- rules of retention ------------------------------------------------------------------------- */

/* A file of its own, named by --storage.tsdb.retention.rules. Everything lives in the arena. */
struct config_keep {
    struct config_keep_rules {
        struct config_keep_rule {
            struct nx_slice match; /* a selector; not parsed here */
            int64_t keep_ms;
            int line;
        } * v;
        size_t n;
    } retention; /* the first that matches a series decides */
    struct config_keep_levels {
        struct config_keep_level {
            int64_t after_ms, resolution_ms, keep_ms;
            int line;
        } * v;
        size_t n;
    } downsample; /* times and resolutions ascend, and resolutions are multiples */
};
/* As config_load(): whole or not at all, the text names file, line and field. */
NX_NODISCARD nx_status config_load_keep(struct config_keep *out, const char *path, struct arena *a,
                                        struct nx_err *err);

/* ---- direct notification ------------------------------------------------------------------------- */

/* A file of its own, named by --notify.file. Everything lives in the arena. Texts are templates, which are not
 * parsed here; neither are matchers. */
enum config_notify_kind {
    CONFIG_NOTIFY_WEBHOOK,
    CONFIG_NOTIFY_SLACK,
    CONFIG_NOTIFY_TEAMS,
    CONFIG_NOTIFY_DISCORD,
    CONFIG_NOTIFY_PAGERDUTY,
    CONFIG_NOTIFY_NTFY,
    CONFIG_NOTIFY_EMAIL,
    CONFIG_NOTIFY_KINDS
};
const char *
config_notify_name(enum config_notify_kind kind); /* "webhook": its key, and in metrics */

/* How one receiver is reached: of every kind's fields those that it has, the rest unset. */
struct config_notify_via {
    struct config_secret url; /* api_url, webhook_url */
    struct nx_slice url_file;
    struct config_secret key; /* routing_key, token, auth_password */
    struct nx_slice key_file;
    struct config_http http;
    int64_t timeout_ms;
    uint64_t max_alerts; /* of a webhook; 0: all */
    struct nx_slice title, text, fallback, pretext, footer, title_link, color, channel, username,
        icon_emoji, icon_url, content, avatar_url, client, client_url, severity, source, class_text,
        component, group, priority, tags, click;
    bool link_names;
    struct config_pairs details;
    struct config_notify_links {
        struct config_notify_link {
            struct nx_slice href, text;
            int line;
        } * v;
        size_t n;
    } links;
    struct nx_slice to, from, smarthost, hello, auth_username, auth_identity, html;
    bool require_tls;
    enum config_tri implicit_tls; /* from the start; unset: at port 465 */
    struct config_tls tls;
    struct config_pairs headers;
};
struct config_notify_receiver {
    struct nx_slice name;
    struct config_strings matchers, group_by;
    int64_t group_wait_ms, group_interval_ms, repeat_interval_ms;
    enum config_tri send_resolved;
    struct config_notify_via *via[CONFIG_NOTIFY_KINDS]; /* one of them */
    enum config_notify_kind kind;                       /* which */
    int line;
};
struct config_notify_silence {
    struct config_strings matchers;
    struct nx_slice from, until, comment;
    int64_t from_ms, until_ms; /* INT64_MIN, INT64_MAX: not said */
    int line;
};
struct config_notify {
    struct config_url external_url;  /* not set: the server's own */
    struct config_strings templates; /* patterns of files */
    struct config_notify_receivers {
        struct config_notify_receiver *v;
        size_t n;
    } receivers;
    struct config_notify_silences {
        struct config_notify_silence *v;
        size_t n;
    } silences;
};
/* As config_load(): whole or not at all, the text names file, line and field. */
NX_NODISCARD nx_status config_load_notify(struct config_notify *out, const char *path,
                                          struct arena *a, struct nx_err *err);
NX_NODISCARD nx_status config_parse_notify(struct config_notify *out, struct nx_slice text,
                                           const char *path, struct arena *a, struct nx_err *err);

/* ---- small files of their own ------------------------------------------------------------------- */

/* An HTTP client block as a file (--http.config.file); relative paths are joined to its folder. Everything
 * lives in the arena. */
NX_NODISCARD nx_status config_load_http(struct config_http *out, const char *path, struct arena *a,
                                        struct nx_err *err);

/* How the web server is to listen (--web.config.file). */
struct config_web {
    struct config_web_tls {
        struct nx_slice cert;
        struct config_secret key;
        struct nx_slice client_ca, cert_file, key_file, client_auth_type, client_ca_file;
        struct config_strings cipher_suites, curve_preferences;
        struct nx_slice min_version, max_version; /* "TLS12" */
        bool prefer_server_cipher_suites;
        struct config_strings client_allowed_sans;
    } tls;
    struct config_web_http {
        bool http2;
        struct config_pairs headers;
    } http;
    struct config_web_rate {
        int64_t burst;
        struct nx_slice interval; /* as written; empty: no limit */
    } rate;
    struct config_pairs users; /* name: bcrypt hash */
};
/* Reads and checks all that can be told without opening certificates. Everything lives in the arena. */
NX_NODISCARD nx_status config_load_web(struct config_web *out, const char *path, struct arena *a,
                                       struct nx_err *err);

/* ---- rule files --------------------------------------------------------------------------------- */

/* A file of rules as it is written; src/rules checks what it says. Everything lives in the arena. */
struct config_at { /* where a value stands; 0: it is not there */
    uint32_t line, column;
};
struct config_rule {
    struct nx_slice record, alert, expr;
    int64_t for_ms, keep_firing_for_ms;
    struct config_pairs labels, annotations;
    struct config_at record_at, alert_at, expr_at;
    int line;
};
struct config_rule_group {
    struct nx_slice name;
    int64_t interval_ms, query_offset_ms, limit;
    bool has_query_offset;
    struct config_pairs labels;
    struct config_rules {
        struct config_rule *v;
        size_t n;
    } rules; /* none is null */
    struct config_at at;
    int line;
};
struct config_rule_file {
    struct config_rule_groups {
        struct config_rule_group *v;
        size_t n;
    } groups;            /* none is null */
    bool more_documents; /* which are not read */
};
/* Errors are those of Prometheus's decoder, without the file's name:
 *   yaml: unmarshal errors:
 *     line 3: field foo not found in type rulefmt.RuleGroup */
NX_NODISCARD nx_status config_parse_rules(struct config_rule_file *out, struct nx_slice text,
                                          bool ignore_unknown_fields, struct arena *a,
                                          struct nx_err *err);
/* A whole file, at most NX_LIMIT_CONFIG_BYTES, appended to `to`: "open x.yml: no such file or directory". */
NX_NODISCARD nx_status config_read_text(const char *path, struct buf *to, struct nx_err *err);

/* ---- unit tests of rules ------------------------------------------------------------------------ */

/* A file for `test rules`, as it is written. Everything lives in the arena. */
struct config_test_alert {
    struct config_pairs labels, annotations;
};
struct config_alert_test {
    int64_t eval_ms;
    struct nx_slice alertname;
    struct config_test_alerts {
        struct config_test_alert *v;
        size_t n;
    } alerts;
};
struct config_test_sample {
    struct nx_slice labels, histogram; /* with a histogram the value says nothing */
    double value;
};
struct config_expr_test {
    struct nx_slice expr;
    int64_t eval_ms;
    struct config_test_samples {
        struct config_test_sample *v;
        size_t n;
    } samples;
};
struct config_test_series {
    struct nx_slice series, values;
};
struct config_test {
    struct nx_slice name;
    int64_t interval_ms; /* 0: that of the file */
    struct config_test_input {
        struct config_test_series *v;
        size_t n;
    } input;
    struct config_alert_tests {
        struct config_alert_test *v;
        size_t n;
    } alerts;
    struct config_expr_tests {
        struct config_expr_test *v;
        size_t n;
    } exprs;
    struct labels external_labels;
    struct nx_slice external_url, start_timestamp;
};
struct config_tests {
    struct config_strings rule_files; /* as written: patterns, from the file's folder */
    int64_t interval_ms;              /* 0: not said */
    struct config_strings group_order;
    struct config_test_list {
        struct config_test *v;
        size_t n;
    } tests;
    bool fuzzy_compare;
};
NX_NODISCARD nx_status config_load_tests(struct config_tests *out, const char *path,
                                         struct arena *a, struct nx_err *err);
/* A path from the folder of a file: as Go's filepath.Join. NULL out of memory. */
char *config_path_beside(struct arena *a, const char *file, const char *path);

/* ---- `check config` ----------------------------------------------------------------------------- */

struct config_check_flags {
    bool syntax_only, agent;
    bool lint_too_long_scrape_interval, lint_fatal; /* linting of rules: check_rules() does it */
    int64_t lookback_delta_ms; /* 0: 5 min; for the too-long-scrape-interval lint */
    /* Checks one rules file and appends promtool's lines to the two texts; returns promtool's exit
     * code for it. NULL: rule files are only looked for. */
    int (*check_rules)(void *ctx, const char *path, struct buf *out, struct buf *errs);
    /* Reads a file of target groups: discovery_read_file(). NULL: YAML's rules for all of them. */
    nx_status (*read_groups)(const char *path, struct arena *a, struct config_static_sd *out,
                             struct nx_err *err);
    /* Checks the targets that a job would make of some groups. NULL: not checked. */
    nx_status (*check_groups)(void *ctx, const struct config_scrape *job,
                              const struct config_static_sd *groups, struct nx_err *err);
    /* The same for Alertmanagers. */
    nx_status (*check_alertmanagers)(void *ctx, const struct config_alertmanager *am,
                                     const struct config_static_sd *groups, struct nx_err *err);
    void *ctx; /* of the functions */
};
/* What `check config FILE` prints and its exit code: 0, 1 (bad), or 3 (lint, with lint_fatal). */
int config_check(const char *path, const struct config_check_flags *flags, struct buf *out,
                 struct buf *errs);
