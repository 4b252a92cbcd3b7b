#include "src/web/stats.h"

/* stats.c - what the server counts of its own requests. Counters are atomics: requests end on one thread
 * and are read on another, and nobody needs two of them to agree. */

#include <stdlib.h>
#include <string.h>

const double web_duration_bounds[WEB_DURATION_BUCKETS] = {0.1, 0.2, 0.4, 1, 3, 8, 20, 60, 120};
const double web_size_bounds[WEB_SIZE_BUCKETS] = {100, 1000, 10000, 1e5, 1e6, 1e7, 1e8, 1e9};
const unsigned web_codes[WEB_CODES] = {200, 204, 301, 302, 308, 400, 403,
                                       404, 405, 422, 499, 500, 503};

struct web_stats *web_stats_new(void)
{
    struct web_stats *s = calloc(1, sizeof *s);

    if (s && !(s->route = calloc(web_n_routes, sizeof *s->route))) {
        free(s);
        s = NULL;
    }
    return s;
}

void web_stats_free(struct web_stats *s)
{
    if (!s)
        return;
    free(s->route);
    free(s);
}

static void count(uint64_t *c, uint64_t by)
{
    __atomic_add_fetch(c, by, __ATOMIC_RELAXED);
}

static void observe(struct web_histogram *h, const double *bounds, size_t n, double v, uint64_t sum)
{
    size_t i = 0;

    while (i < n && v > bounds[i])
        i++;
    count(&h->bucket[i], 1);
    count(&h->sum, sum);
}

/* Rows of the table with one pattern are one handler: the first of them counts. */
size_t web_stats_index(const struct web_route *route)
{
    size_t i = 0;

    while (strcmp(web_routes[i].pattern, route->pattern) != 0)
        i++;
    return i;
}

void web_stats_request(struct web_stats *s, const struct web_route *route, unsigned status,
                       double seconds, uint64_t bytes)
{
    struct web_route_stats *r = &s->route[web_stats_index(route)];

    for (size_t i = 0; i < WEB_CODES; i++)
        if (web_codes[i] == status)
            count(&r->code[i], 1);
    observe(&r->duration, web_duration_bounds, WEB_DURATION_BUCKETS, seconds,
            (uint64_t)(seconds * 1e9));
    observe(&r->size, web_size_bounds, WEB_SIZE_BUCKETS, (double)bytes, bytes);
}
