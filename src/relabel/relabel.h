/* relabel.h - rewriting of label sets by relabel_configs, metric_relabel_configs and their kin.
 *
 * Owner    the rules belong to a configuration (src/config); a relabel_work belongs to whoever
 *          applies them and holds the bytes of the values they make.
 * Threads  rules may be applied by many threads at once; a relabel_work is used by one at a time. */
#pragma once

#include "src/base/arena.h"
#include "src/base/labels.h"
#include "src/config/config.h"

/* One set of labels at a time, for as many as there are: in steady state nothing is allocated. */
struct relabel_work {
    struct labels_builder labels;
    struct arena *arena; /* values and names that rules made of the set */
    struct buf joined;   /* source values put together */
    struct buf expanded;
};
NX_NODISCARD nx_status relabel_work_init(struct relabel_work *w, struct nx_err *err);
/* Begins a set with the labels of `base` (borrowed; NULL: none). What rules made of the last one is gone. */
void relabel_work_begin(struct relabel_work *w, const struct labels *base);
void relabel_work_done(struct relabel_work *w); /* accepts a zeroed one */

/* Applies the rules in order to w->labels; *kept false: a keep, drop, keepequal or dropequal rule said so, and later
 * rules did not run. A rule that changes nothing allocates nothing. labelmap can make names that are not valid, even
 * empty ones, as it does in Prometheus: whoever uses the result checks its names. Values are borrowed from where
 * w->labels had them, from the rules' configuration, or from `w` until its next _begin() or _done(). Fails with
 * NX_NOMEM alone, and leaves the labels half done. */
NX_NODISCARD nx_status relabel_apply(const struct relabel_rules *rules, struct relabel_work *w,
                                     bool *kept, struct nx_err *err);
