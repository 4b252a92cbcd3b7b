/* cgroup.h - what this process can have of the machine.
 *
 * Threads  any. Files are read at each call. */
#pragma once

#include "src/base/status.h"

/* Memory in bytes: the lowest limit of our control groups, or the machine's. 0: can't be told. `root` is put before
 * all paths ("" but in tests). `*from` is "cgroup" or "machine". */
uint64_t memory_available(const char *root, const char **from);

/* Processors that may be kept busy: those we may run on, or whole ones of what our control groups give us, if that is
 * less. At least 1. */
unsigned cpus_available(const char *root);
