/* table.h - things that label sets name: series that a rule writes, alerts that are active. Private to
 * src/rules. Threads: one at a time. */
#pragma once

#include "src/rules/rules.h"

struct keyed { /* first in whatever is kept */
    uint64_t hash;
    struct labels labels;
};
struct table {
    struct keyed **v; /* in the order they came */
    uint32_t n, cap;
    uint32_t *slots; /* index + 1; 0: free */
    uint32_t n_slots;
};
struct keyed *table_find(const struct table *t, const struct labels *ls, uint64_t hash);
/* The item is the caller's; its labels are not there yet. NX_NOMEM. */
NX_NODISCARD nx_status table_add(struct table *t, struct keyed *item, struct nx_err *err);
/* Takes out the items for which `gone` says so; it frees what it owns of them. */
void table_sweep(struct table *t, bool (*gone)(void *ctx, struct keyed *item), void *ctx);
void table_done(struct table *t); /* frees the table, not the items */

/* One block of memory with copies of both sets; free() ends both. NULL out of memory. `b` may be NULL. */
void *labels_own(const struct labels *a, struct labels *to_a, const struct labels *b,
                 struct labels *to_b);
