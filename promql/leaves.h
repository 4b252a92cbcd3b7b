/* leaves.h - what several selectors of a query read alike is read once. Private to promql/.
 *
 * Memory   plan and rows that are kept lie in the work arena, and go with the query.
 * Threads  the query's own alone. */
#pragma once

#include "promql/eval.h"

/* One evaluation of a leaf. `group` NULL: it has nothing in common with another. */
struct leaf_group;
struct leaf_use {
    struct leaf_group *group;
    uint32_t variant;
};
/* What the windows of a series had in them, which each use counts. */
struct leaf_seen {
    uint64_t all, fresh;
    size_t largest;
};

/* Finds what is alike, before anything is evaluated: ev->leaves, NULL if nothing is. */
NX_NODISCARD nx_status leaves_plan(struct eval *ev, const struct pql_expr *e, struct nx_err *err);
/* What it reads may be read for another leaf, too. */
bool leaf_is_shared(const struct eval *ev, const struct pql_expr *e);
/* A selector, or the call of a function over one, is evaluated at tm over the series of `list`. */
NX_NODISCARD nx_status leaf_open(struct eval *ev, const struct pql_expr *e,
                                 const struct eval_times *tm, const struct series_list *list,
                                 struct leaf_use *out, struct nx_err *err);

/* The row of series i, copied, if it was made for this use before; false: it must be read. */
bool leaf_take(const struct leaf_use *u, size_t i, struct row *into, struct leaf_seen *seen);
/* It was read: keeps the row for those who come after, if anybody may. */
NX_NODISCARD nx_status leaf_keep(struct eval *ev, const struct leaf_use *u, size_t i,
                                 const struct row *row, const struct leaf_seen *seen,
                                 struct nx_err *err);

/* The other functions over the same windows: the number of all, the call of one (NULL: the use's own). */
uint32_t leaf_variants(const struct leaf_use *u);
const struct pql_expr *leaf_variant(const struct leaf_use *u, uint32_t variant);
/* Where to put a variant's row of series i, made of the same samples. NULL in *out: nobody needs it. */
NX_NODISCARD nx_status leaf_room(struct eval *ev, const struct leaf_use *u, uint32_t variant,
                                 size_t i, struct row **out, struct nx_err *err);
/* It is all there. */
void leaf_made(const struct leaf_use *u, uint32_t variant, size_t i, const struct leaf_seen *seen);
