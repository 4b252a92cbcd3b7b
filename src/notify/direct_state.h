/* direct_state.h - what receivers were told, as text, so that the next start knows. Private to src/notify.
 *
 * Its form is in storage/FORMAT.md: notify.json. */
#pragma once

#include "src/notify/direct_groups.h"

/* Appends. groups_changed() is false afterwards. */
NX_NODISCARD nx_status state_write(struct groups *g, struct buf *out, int64_t now_ms,
                                   struct nx_err *err);
/* Alerts that were told as firing are firing again: for `grace_ms`, and then for as long as rules last said that they
 * are good. NX_CORRUPT: this is no such text, and nothing was taken. */
NX_NODISCARD nx_status state_read(struct groups *g, struct nx_slice text, int64_t now_ms,
                                  int64_t grace_ms, struct nx_err *err);
