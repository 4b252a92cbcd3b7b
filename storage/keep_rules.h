/* keep_rules.h - how long each series is kept: rules by matcher, first match wins.
 *
 * Owner    shared by references; never changed once made.
 * Threads  any.
 * Units    milliseconds. A time is passed when the newest block ends that much after something else. */
#pragma once

#include "storage/storage.h"

struct keep_rules;

/* Copies, matchers and all. NX_BADINPUT: a regular expression or a number makes no sense. */
NX_NODISCARD nx_status keep_rules_new(struct keep_rules **out, const struct storage_rules *from,
                                      struct nx_err *err);
struct keep_rules *keep_rules_ref(struct keep_rules *k); /* accepts NULL */
void keep_rules_unref(struct keep_rules *k);             /* accepts NULL */

/* What decides at one moment. */
struct keep {
    const struct keep_rules *rules; /* NULL: none */
    int64_t retention_ms;           /* of series that no rule matches; 0: for ever */
    int64_t newest_ms;              /* end of the newest block */
};

/* Levels of downsampling. */
size_t keep_n_levels(const struct keep_rules *k); /* accepts NULL */
const struct storage_level *keep_level(const struct keep_rules *k, size_t i);
/* The same for blocks of a resolution: its level's time instead of the retention of all, if there is one. */
struct keep keep_of_resolution(const struct keep *k, int64_t resolution_ms);

size_t keep_n_rules(const struct keep_rules *k); /* accepts NULL */
/* The place of the first rule that matches; keep_n_rules() if none does. */
size_t keep_rule_of(const struct keep_rules *k, const struct labels *ls);
/* The longest time that any series is kept; INT64_MAX: for ever. */
int64_t keep_longest(const struct keep *k);
/* Series of `rule` have no business in a block that ends at max_ms. */
bool keep_passed(const struct keep *k, size_t rule, int64_t max_ms);
/* How many rules, the lack of one counted as one, have passed for such a block. It only grows with time. */
size_t keep_n_passed(const struct keep *k, int64_t max_ms);
/* Samples of a series before this need not be kept when a block that ends at max_ms is written again;
 * INT64_MAX: none of them. */
int64_t keep_from(const struct keep *k, const struct labels *ls, int64_t max_ms);
