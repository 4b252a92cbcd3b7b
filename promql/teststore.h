/* teststore.h - a store in memory, for scripts and tests. Private to promql/.
 *
 * Threads: adding by one thread while nobody reads; reading by any number. */
#pragma once

#include "promql/promql.h"

struct teststore;
struct teststore *teststore_new(void);    /* NULL out of memory */
void teststore_free(struct teststore *s); /* accepts NULL; its queriers must be closed */
void teststore_clear(struct teststore *s);

/* Adds samples in any order; of two at one time the first stays. Labels are copied. */
NX_NODISCARD nx_status teststore_add(struct teststore *s, const struct labels *ls, int64_t t_ms,
                                     double v, struct nx_err *err);
/* The newest sample of a series; false: it has none. */
struct teststore_sample {
    int64_t t_ms;
    double v;
};
bool teststore_newest(const struct teststore *s, const struct labels *ls,
                      struct teststore_sample *out);
/* Notes a sample of a kind that this store can't hold. A select that would give it sets the mark below. */
NX_NODISCARD nx_status teststore_add_unheld(struct teststore *s, const struct labels *ls,
                                            int64_t t_ms, struct nx_err *err);
bool teststore_met_unheld(struct teststore *s); /* since the last call */

struct pql_source teststore_source(struct teststore *s);
