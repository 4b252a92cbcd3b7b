/* memory_limit.h - from the flags to the number of bytes that the process may have. Private to src/cli.
 * Threads: one at a time. */
#pragma once

#include "src/cli/flags.h"

/* --memory.limit, or without it the share --auto-gomemlimit.ratio of what there is; 0: no limit. `root` as for
 * memory_available(). `why` (64 bytes) gets where the number comes from. NX_BADINPUT: no such limit. */
NX_NODISCARD nx_status memory_limit_of(const struct flags *f, const char *root, uint64_t *limit,
                                       char why[64], struct nx_err *err);
