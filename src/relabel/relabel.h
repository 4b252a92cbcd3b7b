/* relabel.h - rewriting of label sets by relabel_configs, metric_relabel_configs and their kin.
 *
 * Owner    the rules belong to a configuration (src/config); a relabel_scratch belongs to whoever
 *          applies them and holds the bytes of the values they make.
 * Threads  rules may be applied by many threads at once; a scratch and a builder by one at a
 *          time. */
#pragma once

#include "src/base/arena.h"
#include "src/base/labels.h"
#include "src/config/config.h"

/* Memory for joined values, expanded templates and copies of names. What relabel_apply() put into
 * the builder may point here: valid until relabel_scratch_reset() or _done(). In steady state
 * nothing is allocated: reset keeps the memory. */
struct relabel_scratch {
    struct arena *arena; /* new values */
    struct buf joined;   /* source values put together */
    struct buf expanded;
};
NX_NODISCARD nx_status relabel_scratch_init(struct relabel_scratch *s, struct nx_err *err);
void relabel_scratch_reset(struct relabel_scratch *s);
void relabel_scratch_done(struct relabel_scratch *s); /* accepts a zeroed one */

enum relabel_verdict {
    RELABEL_KEPT,
    RELABEL_DROPPED, /* a keep, drop, keepequal or dropequal rule said so; later rules did not run */
    RELABEL_NOMEM
};

/* Applies the rules in order to the labels in `lb`. A rule that changes nothing allocates nothing.
 * labelmap can make names that are not valid, even empty ones, as it does in Prometheus: whoever
 * uses the result checks its names. Values are borrowed from `lb`, from the rules' configuration,
 * or from `s`. RELABEL_NOMEM leaves the builder half done. */
enum relabel_verdict relabel_apply(const struct relabel_rules *rules, struct labels_builder *lb,
                                   struct relabel_scratch *s);
