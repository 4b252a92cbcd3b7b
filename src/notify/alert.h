/* alert.h - alerts as they are shared, and as the Alertmanager's API takes them. Private to src/notify. */
#pragma once

#include "src/notify/notify.h"
#include "src/relabel/relabel.h"

/* One reference; all is copied. NULL out of memory. */
struct notify_alert *alert_new(const struct labels *labels, const struct rule_notice *from);
/* The same with other labels. */
struct notify_alert *alert_with_labels(const struct notify_alert *from,
                                       const struct labels *labels);

/* Labels after `external` (where they are absent; may be NULL) and rules: valid until `w` is used again or
 * done. *kept false: the rules dropped the alert. */
NX_NODISCARD nx_status alert_relabel(struct relabel_work *w, const struct labels *from,
                                     const struct labels *external,
                                     const struct relabel_rules *rules, bool *kept,
                                     struct labels *out, struct nx_err *err);

/* The body of POST /api/v2/alerts. */
void alerts_json(struct buf *b, const struct notify_alert *const *v, size_t n);
