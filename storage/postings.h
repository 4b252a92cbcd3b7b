/* postings.h - sets of series numbers, and matchers evaluated over them.
 *
 * A set is an ascending array of distinct numbers. Results live in the arena of the caller (a query's,
 * so they count against its limit); inputs are borrowed. The head's index and a block's index both
 * give a struct postings_source, so matchers mean the same over either.
 *
 * Threads  as the arena: one at a time. */
#pragma once

#include "storage/storage.h"

struct ids {
    const uint32_t *v;
    size_t n;
};

/* A growing list of sets in an arena, for union. */
struct id_sets {
    struct ids *v;
    size_t n, cap;
};

NX_NODISCARD nx_status ids_and(struct arena *a, struct ids x, struct ids y, struct ids *out,
                               struct nx_err *err);
/* x without y. */
NX_NODISCARD nx_status ids_minus(struct arena *a, struct ids x, struct ids y, struct ids *out,
                                 struct nx_err *err);
NX_NODISCARD nx_status ids_or(struct arena *a, const struct ids *sets, size_t n, struct ids *out,
                              struct nx_err *err);
NX_NODISCARD nx_status ids_range(struct arena *a, uint32_t from, size_t n, struct ids *out,
                                 struct nx_err *err);
bool ids_has(struct ids x, uint32_t id);
NX_NODISCARD nx_status id_sets_add(struct id_sets *sets, struct arena *a, struct ids x,
                                   struct nx_err *err);

/* Whether the value is wanted. */
typedef bool postings_want_fn(void *ctx, struct nx_slice value);

struct postings_source {
    void *ctx;
    /* Every series. */
    nx_status (*all)(void *ctx, struct arena *a, struct ids *out, struct nx_err *err);
    /* The series with name=value; an empty set if there is none. `value` is not empty. */
    nx_status (*of)(void *ctx, struct nx_slice name, struct nx_slice value, struct arena *a,
                    struct ids *out, struct nx_err *err);
    /* Adds to `sets` those of each value of `name` that starts with `prefix` (may be empty) and for
     * which want() is true (NULL: all are wanted). */
    nx_status (*scan)(void *ctx, struct nx_slice name, struct nx_slice prefix,
                      postings_want_fn *want, void *want_ctx, struct arena *a, struct id_sets *sets,
                      struct nx_err *err);
};

/* The series that match all n matchers (n 0: every series). A label that a series lacks is "". */
NX_NODISCARD nx_status postings_select(const struct postings_source *src, const struct matcher *m,
                                       size_t n, struct arena *a, struct ids *out,
                                       struct nx_err *err);
