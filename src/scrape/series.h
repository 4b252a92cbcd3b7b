/* series.h - from the labels a target exposes to the labels that are stored. Private to src/scrape.
 *
 * Threads  a relabel_work belongs to one worker; rules and target labels may be read by many. */
#pragma once

#include "src/config/config.h"
#include "src/expo/expo.h"
#include "src/relabel/relabel.h"

/* What a job says about its samples; borrowed from the configuration. */
struct sample_rules {
    bool honor_labels, honor_timestamps, track_timestamps, legacy_names;
    struct relabel_rules relabel; /* metric_relabel_configs */
    uint64_t sample_limit, label_limit, label_name_limit, label_value_limit;
    struct nx_slice fallback; /* fallback_scrape_protocol's name */
};
void sample_rules_of(struct sample_rules *r, const struct config_scrape *cfg);

/* Labels of a series as stored: merged with the target's, relabelled, checked. Copied into `a`. An
 * empty set means that the rules drop it. NX_BADINPUT fails the scrape; *label_limit then tells
 * whether a label limit was the reason. */
NX_NODISCARD nx_status series_labels(struct nx_slice series, enum expo_type type,
                                     const struct labels *target, const struct sample_rules *r,
                                     struct relabel_work *w, struct arena *a, struct labels *out,
                                     bool *label_limit, struct nx_err *err);

/* Labels of a report series ("up"): the name and the target's labels. */
NX_NODISCARD nx_status series_report_labels(const char *name, const struct labels *target,
                                            struct relabel_work *w, struct labels *out,
                                            struct nx_err *err);
