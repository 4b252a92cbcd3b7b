/* routes.c - every path we answer, as a list.
 *
 * A row is: pattern, methods, flags, handler. Prometheus's paths come first; label values also take
 * POST, which Prometheus refuses, because Grafana's suggestions send it. */
#include "src/web/http.h"

#define API   (WEB_GATED | WEB_CORS | WEB_COMPRESS)
#define QUICK (API | WEB_INLINE)

// clang-format off
const struct web_route web_routes[] = {
    { "/api/v1/query",                      WEB_GET | WEB_POST,            API,                   api_query },
    { "/api/v1/query_range",                WEB_GET | WEB_POST,            API,                   api_query_range },
    { "/api/v1/query_exemplars",            WEB_GET | WEB_POST,            API,                   api_query_exemplars },
    { "/api/v1/format_query",               WEB_GET | WEB_POST,            API,                   api_format_query },
    { "/api/v1/parse_query",                WEB_GET | WEB_POST,            API,                   api_parse_query },
    { "/api/v1/labels",                     WEB_GET | WEB_POST,            API,                   api_labels },
    { "/api/v1/label/:name/values",         WEB_GET | WEB_POST,            API,                   api_label_values },
    { "/api/v1/series",                     WEB_GET | WEB_POST,            API,                   api_series },
    { "/api/v1/metadata",                   WEB_GET,                       API,                   api_metadata },
    { "/api/v1/targets",                    WEB_GET,                       API,                   api_targets },
    { "/api/v1/targets/metadata",           WEB_GET,                       API,                   api_targets_metadata },
    { "/api/v1/scrape_pools",               WEB_GET,                       API,                   api_scrape_pools },
    { "/api/v1/rules",                      WEB_GET,                       API,                   api_rules },
    { "/api/v1/alerts",                     WEB_GET,                       API,                   api_alerts },
    { "/api/v1/alertmanagers",              WEB_GET,                       QUICK,                 api_alertmanagers },
    { "/api/v1/status/config",              WEB_GET,                       API,                   api_status_config },
    { "/api/v1/status/flags",               WEB_GET,                       QUICK,                 api_status_flags },
    { "/api/v1/status/buildinfo",           WEB_GET,                       QUICK,                 api_status_buildinfo },
    { "/api/v1/status/runtimeinfo",         WEB_GET,                       QUICK,                 api_status_runtimeinfo },
    { "/api/v1/status/tsdb",                WEB_GET,                       API,                   api_status_tsdb },
    { "/api/v1/status/walreplay",           WEB_GET,                       WEB_CORS | WEB_INLINE, api_status_walreplay },
    { "/api/v1/admin/tsdb/delete_series",   WEB_POST | WEB_PUT,            API,                   api_delete_series },
    { "/api/v1/admin/tsdb/clean_tombstones", WEB_POST | WEB_PUT,           API,                   api_clean_tombstones },
    { "/api/v1/admin/tsdb/snapshot",        WEB_POST | WEB_PUT,            API,                   api_snapshot },
    { "/-/healthy",                         WEB_GET | WEB_HEAD,            WEB_INLINE,            page_healthy },
    { "/-/ready",                           WEB_GET | WEB_HEAD,            WEB_INLINE | WEB_GATED, page_ready },
    { "/-/reload",                          WEB_POST | WEB_PUT,            0,                     page_reload },
    { "/-/reload",                          WEB_GET,                       WEB_INLINE,            page_lifecycle_get },
    { "/-/quit",                            WEB_POST | WEB_PUT,            WEB_INLINE,            page_quit },
    { "/-/quit",                            WEB_GET,                       WEB_INLINE,            page_lifecycle_get },
    { "/metrics",                           WEB_GET,                       WEB_COMPRESS,          page_metrics },
    { "/version",                           WEB_GET,                       WEB_INLINE,            page_version },
    { "/",                                  WEB_GET,                       0,                     page_root },
};
// clang-format on
const size_t web_n_routes = NX_COUNT(web_routes);
