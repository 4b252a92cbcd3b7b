/* later.c - what is taken from a configuration and has no effect yet.
 *
 * WHY     A prometheus.yml is accepted whole, so that nobody has to edit one to start. What would
 *         not happen is said once at startup, and in the README; both come from this table.
 * RULES   Whoever builds a part deletes its row, in the same commit. */
#include <string.h>

#include "src/config/decode.h"

struct later {
    const char *key, *what;
    bool (*used)(const struct config *cfg);
};

static bool any_sd(const struct config_sds *sds, enum config_sd_kind kind)
{
    for (size_t i = 0; i < sds->n; i++) {
        if (sds->v[i].kind == kind)
            return true;
    }
    return false;
}

static bool uses_sd(const struct config *cfg, enum config_sd_kind kind)
{
    bool used = false;

    for (size_t i = 0; i < cfg->scrape_configs.n && !used; i++)
        used = any_sd(&cfg->scrape_configs.v[i].sds, kind);
    for (size_t i = 0; i < cfg->alerting.alertmanagers.n && !used; i++)
        used = any_sd(&cfg->alerting.alertmanagers.v[i].sds, kind);
    return used;
}

static bool uses_remote_write(const struct config *cfg)
{
    return cfg->remote_write.n > 0;
}

static bool uses_remote_read(const struct config *cfg)
{
    return cfg->remote_read.n > 0;
}

static bool uses_tracing(const struct config *cfg)
{
    return cfg->tracing.endpoint.len > 0;
}

static bool uses_otlp(const struct config *cfg)
{
    const struct config_otlp *o = &cfg->otlp;

    return o->promote_all_resource_attributes || o->promote_resource_attributes.n ||
           o->keep_identifying_resource_attributes || o->convert_histograms_to_nhcb ||
           o->promote_scope_metadata;
}

static bool uses_stale_compaction(const struct config *cfg)
{
    return cfg->storage.tsdb.stale_series_compaction_threshold != 0;
}

static bool uses_native_histograms(const struct config *cfg)
{
    for (size_t i = 0; i < cfg->scrape_configs.n; i++) {
        const struct config_scrape *s = &cfg->scrape_configs.v[i];

        if (s->scrape_native_histograms || s->convert_classic_histograms_to_nhcb ||
            s->native_histogram_bucket_limit || s->native_histogram_min_bucket_factor != 0)
            return true;
    }
    return false;
}

static bool uses_protobuf(const struct config *cfg)
{
    for (size_t i = 0; i < cfg->scrape_configs.n; i++) {
        const struct config_scrape *s = &cfg->scrape_configs.v[i];

        for (size_t k = 0; k < s->scrape_protocols.n; k++) {
            if (s->scrape_protocols.v[k] == CONFIG_PROTO_PROTOBUF && !s->scrape_native_histograms)
                return true;
        }
    }
    return false;
}

/* Of jobs and Alertmanagers: those that are asked. */
static bool any_http(const struct config *cfg, bool (*is)(const struct config_http *h))
{
    bool any = false;

    for (size_t i = 0; i < cfg->scrape_configs.n && !any; i++)
        any = is(&cfg->scrape_configs.v[i].http);
    for (size_t i = 0; i < cfg->alerting.alertmanagers.n && !any; i++)
        any = is(&cfg->alerting.alertmanagers.v[i].http);
    return any;
}

static bool has_jwt(const struct config_http *h)
{
    return h->oauth2 &&
           nx_slice_is(h->oauth2->grant_type, "urn:ietf:params:oauth:grant-type:jwt-bearer");
}

static bool uses_jwt(const struct config *cfg)
{
    return any_http(cfg, has_jwt);
}

static bool has_refs(const struct config_http *h)
{
    return (h->basic_auth &&
            (h->basic_auth->username_ref.len || h->basic_auth->password_ref.len)) ||
           (h->authorization && h->authorization->credentials_ref.len) ||
           (h->oauth2 && h->oauth2->client_secret_ref.len) || h->tls.ca_ref.len ||
           h->tls.cert_ref.len || h->tls.key_ref.len;
}

/* There is no secret manager to ask. */
static bool uses_refs(const struct config *cfg)
{
    return any_http(cfg, has_refs);
}

// clang-format off
static const struct later rows[] = {
    { "remote_write",               "samples are not sent to remote storage",                uses_remote_write },
    { "remote_read",                "remote storage is not asked",                           uses_remote_read },
    { "tracing",                    "traces are not sent",                                   uses_tracing },
    { "otlp",                       "there is no OTLP receiver for its settings",            uses_otlp },
    { "storage.tsdb.stale_series_compaction_threshold", "stale series leave with their block", uses_stale_compaction },
    { "scrape_native_histograms, convert_classic_histograms_to_nhcb, native_histogram_*",
                                    "native histograms are not scraped",                     uses_native_histograms },
    { "scrape_protocols: PrometheusProto", "targets are asked for the text formats only",    uses_protobuf },
    { "oauth2.grant_type: ...jwt-bearer", "requests with it fail: there is only client_credentials", uses_jwt },
    { "*_ref (secret manager)",     "there is no secret manager to ask",                     uses_refs },
};
// clang-format on

/* Service discoveries that give targets. */
static bool sd_works(enum config_sd_kind kind)
{
    return kind == CONFIG_SD_STATIC || kind == CONFIG_SD_FILE;
}

static const char no_targets[] = "gives no targets";

const char *config_later(size_t i, const char **what)
{
    if (i < NX_COUNT(rows)) {
        *what = rows[i].what;
        return rows[i].key;
    }
    i -= NX_COUNT(rows);
    for (int kind = 0; kind < CONFIG_SD_COUNT; kind++) {
        if (!sd_works((enum config_sd_kind)kind) && !i--) {
            *what = no_targets;
            return config_sd_key((enum config_sd_kind)kind);
        }
    }
    return NULL;
}

static void warn_about(const char *key, const char *what, void (*fn)(void *ctx, const char *text),
                       void *ctx)
{
    struct buf b;

    buf_init(&b, 1000);
    buf_printf(&b, "%s is accepted but has no effect in this version: %s", key, what);
    fn(ctx, buf_cstr(&b));
    buf_done(&b);
}

void config_warnings(const struct config *cfg, void (*fn)(void *ctx, const char *text), void *ctx)
{
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        if (rows[i].used(cfg))
            warn_about(rows[i].key, rows[i].what, fn, ctx);
    }
    for (int kind = 0; kind < CONFIG_SD_COUNT; kind++) {
        if (!sd_works((enum config_sd_kind)kind) && uses_sd(cfg, (enum config_sd_kind)kind))
            warn_about(config_sd_key((enum config_sd_kind)kind), no_targets, fn, ctx);
    }
}
