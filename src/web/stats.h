/* stats.h - counters of requests by route. Private to src/web. Threads: any. */
#pragma once

#include "src/web/http.h"

enum { WEB_DURATION_BUCKETS = 9, WEB_SIZE_BUCKETS = 8, WEB_CODES = 13, WEB_MAX_BUCKETS = 10 };

struct web_histogram {
    uint64_t bucket[WEB_MAX_BUCKETS]; /* not cumulative; the last one used is +Inf */
    uint64_t sum;                     /* nanoseconds or bytes */
};
struct web_route_stats {
    uint64_t code[WEB_CODES];
    struct web_histogram duration, size;
};
struct web_stats {
    struct web_route_stats *route; /* by web_stats_index() */
};
extern const double web_duration_bounds[WEB_DURATION_BUCKETS]; /* seconds */
extern const double web_size_bounds[WEB_SIZE_BUCKETS];         /* bytes */
extern const unsigned web_codes[WEB_CODES];

size_t web_stats_index(const struct web_route *route);
