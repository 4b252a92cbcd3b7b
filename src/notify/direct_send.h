/* direct_send.h - one message on its way to one receiver, once. Private to src/notify.
 *
 * Owner    the thread of direct notification.
 * Secrets  in files are read anew for each delivery, and never told: errors name a URL's host alone. */
#pragma once

#include "src/notify/direct_message.h"

struct delivery;
/* Ready to be added to a multi handle: *easy is a CURL *. The message outlives it. NX_BADINPUT: it is no use to try
 * again. */
NX_NODISCARD nx_status delivery_begin(struct delivery **out, const struct message *m,
                                      int64_t now_ms, uint64_t id, void **easy, struct nx_err *err);

/* After a transfer, when its handle is in no multi handle any more: another one to be made before the delivery is over,
 * or NULL: delivery_end() tells. A failure is one that may pass. */
NX_NODISCARD nx_status delivery_next(struct delivery *d, int result, void **easy,
                                     struct nx_err *err);

enum delivered { DELIVERED, DELIVERY_TRY_AGAIN, DELIVERY_REFUSED };
/* `result` is the CURLcode. What is not DELIVERED has a reason, by Alertmanager's words ("clientError", "serverError",
 * "contextDeadlineExceeded", "other") and in `err`. *wait_ms: before which the receiver does not want to be asked again; 0: it
 * does not say. */
enum delivered delivery_end(struct delivery *d, int result, const char **reason, int64_t *wait_ms,
                            struct nx_err *err);
void delivery_free(
    struct delivery *d); /* accepts NULL; its handle is in no multi handle any more */
