/* discovery.h - where targets come from: the mechanisms behind *_sd_configs.
 *
 * A set is a job's list of service discoveries; the caller names the sets and says what is in them.
 * discovery_poll() looks for changes, and discovery_groups() gives a set's target groups as they
 * are now.
 *
 * Owner    one per user (the scrape manager has one, the Alertmanager sender another).
 * Threads  used by one thread at a time, that of its owner. Files are read in the caller's thread.
 * Units    times are milliseconds on the clock of src/base/clock.h (clock_mono_ns() / 1000000). */
#pragma once

#include "src/base/arena.h"
#include "src/base/labels.h"
#include "src/config/config.h"

struct discovery;

NX_NODISCARD nx_status discovery_new(struct discovery **out, struct nx_err *err);
void discovery_free(struct discovery *d); /* accepts NULL */

struct discovery_set {
    struct nx_slice name; /* unique: the job's name */
    const struct config_sds
        *sds; /* borrowed until the next discovery_apply() or discovery_free() */
};

/* Replaces the sets. What is the same as before (by content, whatever the set) keeps its state and
 * its groups; new mechanisms have read their files when this returns. A mechanism that cannot
 * deliver at the moment does not fail the call. On failure the old sets stay. */
NX_NODISCARD nx_status discovery_apply(struct discovery *d, const struct discovery_set *sets,
                                       size_t n, struct nx_err *err);

/* Looks for changes and calls `changed` once for each set that has any, at most as often as files
 * change or their refresh_interval passes. Cheap when nothing happened. Failures are logged and
 * counted, and the groups known before stay. */
void discovery_poll(struct discovery *d, int64_t mono_ms,
                    void (*changed)(void *ctx, struct nx_slice set_name), void *ctx);
/* When discovery_poll() has to be called next at the latest; INT64_MAX: never. */
int64_t discovery_next_ms(const struct discovery *d);
/* A descriptor that becomes readable when discovery_poll() is worth calling sooner; -1: there is
 * none. */
int discovery_fd(const struct discovery *d);

/* One group: every target gets its address as __address__, then the group's labels. */
struct discovery_group {
    struct nx_slice source; /* unique in its set; stable while the group exists */
    struct config_strings targets;
    struct labels labels; /* with __meta_ labels; may hold empty values (they remove a label) */
};
struct discovery_groups {
    struct discovery_group *v;
    size_t n;
};
/* The groups of a set now, in a stable order, copied into `a`. An unknown set has none. */
NX_NODISCARD nx_status discovery_groups(const struct discovery *d, struct nx_slice set_name,
                                        struct arena *a, struct discovery_groups *out,
                                        struct nx_err *err);

/* Reads one file of target groups as file_sd does: .json, .yml and .yaml, strictly. */
NX_NODISCARD nx_status discovery_read_file(const char *path, struct arena *a,
                                           struct config_static_sd *out, struct nx_err *err);

/* The same from text; the path's extension tells the format. */
NX_NODISCARD nx_status discovery_parse(const char *path, struct nx_slice text, struct arena *a,
                                       struct config_static_sd *out, struct nx_err *err);

struct discovery_file_stat {
    struct nx_slice path;
    int64_t mtime_ms;
};
struct discovery_stats {
    uint64_t file_read_errors;         /* prometheus_sd_file_read_errors_total */
    uint64_t watcher_errors;           /* prometheus_sd_file_watcher_errors_total */
    uint64_t file_scans;               /* prometheus_sd_file_scan_duration_seconds_count */
    double file_scan_seconds;          /* ..._sum */
    uint64_t updates;                  /* prometheus_sd_updates_total */
    struct discovery_file_stat *files; /* prometheus_sd_file_mtime_seconds */
    size_t n_files;
};
NX_NODISCARD nx_status discovery_get_stats(const struct discovery *d, struct arena *a,
                                           struct discovery_stats *out, struct nx_err *err);
/* Targets known in a set, before relabelling: prometheus_sd_discovered_targets. */
size_t discovery_target_count(const struct discovery *d, struct nx_slice set_name);
