/* version.h - what we say we are. Clients (Grafana, dashboards) choose features by the version of
 * Prometheus whose behaviour they will find, so that is the version we give; the revision names our
 * own source. Private to src/web. */
#pragma once

#define WEB_PROMETHEUS_VERSION "3.5.0"
#define WEB_BRANCH             "HEAD"
#define WEB_BUILD_USER         "narthex"
#define WEB_GO_VERSION         "none"

extern const char web_revision[];   /* of the source, "unknown" outside of a checkout */
extern const char web_build_date[]; /* YYYYMMDD-HH:MM:SS, UTC */
extern const char web_arch[];       /* as Go names it: "amd64" */
