/* manager.h - struct notify, for those who work on it. Private to src/notify. */
#pragma once

#include "src/base/thread.h"
#include "src/notify/section.h"

struct notify {
    /* set once */
    struct sender_opts opts;
    char *user_agent;
    notify_fn *also;
    void *also_ctx;
    int wake_fd;

    struct discovery *discovery; /* N4 */
    struct nx_thread watcher;
    bool watching;
    int stop; /* atomic: the watcher is to end */

    struct nx_rwlock lock;
    /* under lock */
    const struct config *cfg; /* NULL: none yet */
    struct section **sections;
    size_t n_sections;
    struct sender **leaving; /* N2; of who changes lists */
    size_t n_leaving;
    uint64_t file_read_errors;
};
