/* mechanism.h - what a service discovery mechanism is to the rest. Only for src/discovery.
 *
 * A mechanism is a row in the registry (discovery.c) and a file with its functions. A provider is
 * one configured instance of it; sets that say the same share one. */
#pragma once

#include "src/discovery/discovery.h"

/* Watches folders for files that come, change and go (watch.c). */
struct watcher {
    int fd; /* inotify; -1: there is none, mechanisms have to look for themselves */
    struct watch {
        int wd;
        char *dir;
        unsigned refs;
        bool touched; /* something happened since the last watcher_read */
    } * v;
    size_t n, cap;
    uint64_t errors;
};
void watcher_init(struct watcher *w);
void watcher_done(struct watcher *w);
/* A folder may be watched by many; false if it cannot be. */
bool watcher_add(struct watcher *w, const char *dir);
bool watcher_alive(const struct watcher *w, const char *dir); /* false once the folder has gone */
void watcher_drop(struct watcher *w, const char *dir);
void watcher_read(struct watcher *w); /* takes in what happened; see watch.touched */
bool watcher_touched(const struct watcher *w, const char *dir);

/* What mechanisms share. */
struct sd_env {
    struct watcher watcher;
    struct discovery_stats stats; /* counters only */
};

struct sd_mechanism {
    enum config_sd_kind kind;
    /* Takes from the configuration what it needs (copied), and may look for groups at once. */
    nx_status (*open)(void **state, const struct config_sd *sd, struct sd_env *env, int64_t mono_ms,
                      struct nx_err *err);
    void (*close)(void *state, struct sd_env *env); /* accepts NULL */
    /* Looks for changes; true if the groups are others than before. NULL: they never change. */
    bool (*poll)(void *state, struct sd_env *env, int64_t mono_ms);
    int64_t (*next_ms)(const void *state); /* when poll has to run at the latest; NULL: never */
    /* Appends its groups, copied into `a`; sources are unique within the provider. */
    nx_status (*groups)(const void *state, struct arena *a, struct discovery_groups *to,
                        struct nx_err *err);
    size_t (*count)(const void *state); /* targets */
    /* Files it reads, for the metrics; NULL: none. */
    nx_status (*files)(const void *state, struct arena *a, struct discovery_stats *to,
                       struct nx_err *err);
};
extern const struct sd_mechanism sd_static, sd_file;

/* Grows `to` by one group and returns it; NULL out of memory. */
struct discovery_group *groups_add(struct arena *a, struct discovery_groups *to);
/* Deep copies. `extra` (name NULL: none) is a label that the group gets besides, over one of its
 * own. */
nx_status group_copy(struct arena *a, const struct config_target_group *from, struct label extra,
                     struct discovery_group *to, struct nx_err *err);
