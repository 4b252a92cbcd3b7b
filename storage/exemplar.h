/* exemplar.h - the newest exemplars of all series: a bounded ring in memory. Private to storage/.
 *
 * Owner    one per storage. It copies what it is given and holds no reference to the head: a series that
 *          left the store is forgotten when its last exemplar is overwritten.
 * Threads  any; see exemplar.c.
 * Units    times are Unix milliseconds. */
#pragma once

#include "storage/storage.h"

#define EXEMPLAR_MAX_CHARS 128u /* names and values of one label set, in UTF-8 characters */

struct exemplars;
/* Off (no room) until exemplars_set_max(). NULL out of memory. */
struct exemplars *exemplars_new(void);
void exemplars_free(struct exemplars *x); /* accepts NULL */

/* The rest as the functions of storage.h that are named alike. */
bool exemplars_on(struct exemplars *x);
void exemplars_set_max(struct exemplars *x, int64_t max);
NX_NODISCARD nx_status exemplars_add(struct exemplars *x, const struct labels *series,
                                     const struct storage_exemplar *e,
                                     enum storage_exemplar_result *got, struct nx_err *err);
NX_NODISCARD nx_status exemplars_select(struct exemplars *x, const struct matcher_set *sets,
                                        size_t n_sets, int64_t mint, int64_t maxt, struct arena *a,
                                        struct storage_exemplar_list *out, struct nx_err *err);

struct exemplar_stats {
    uint64_t appended, out_of_order; /* since the start */
    uint64_t exemplars, series, max;
    int64_t oldest_ms; /* of the exemplar that is overwritten next; 0: there is none */
    size_t bytes;      /* held */
};
void exemplars_get_stats(struct exemplars *x, struct exemplar_stats *out);
