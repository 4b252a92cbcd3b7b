/* target.h - from a discovered address to what is scraped: labels, URL, times. Private to src/scrape.
 *
 * Threads  plain functions over the caller's memory. */
#pragma once

#include "src/config/config.h"
#include "src/relabel/relabel.h"

struct target_made {
    struct labels discovered; /* before relabelling */
    struct labels
        all; /* after it, __ labels included, __meta_ ones not; empty: dropped by the rules */
    struct nx_slice url;
    int64_t interval_ms, timeout_ms;
    uint64_t hash; /* of labels and URL: equal ones are one target */
};

/* Makes one target, in `a`. NX_BADINPUT: it is no target, and why (SCR-049..052); `discovered` is set then,
 * and nothing else is. */
NX_NODISCARD nx_status target_make(const struct config_scrape *cfg, struct nx_slice address,
                                   const struct labels *group, struct relabel_work *w,
                                   struct arena *a, struct target_made *out, struct nx_err *err);

/* The time of the first scrape at or after now: the target's own place in the interval, which has so many
 * slots; the same after every start. All in nanoseconds. */
int64_t target_first_ns(uint64_t hash, uint64_t seed, int64_t interval_ns, uint32_t slots,
                        int64_t now_ns);
/* What differs between servers that scrape the same targets: host name and external labels. */
uint64_t target_seed(const struct labels *external);

/* A copy in one allocation; v NULL on failure with n > 0. Free v. `public_only` leaves __ labels out. */
struct labels labels_packed(const struct labels *from, bool public_only);
