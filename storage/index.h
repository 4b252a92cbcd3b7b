/* index.h - the head's series: found by labels, by number, and by matchers.
 *
 * A label pair (name and value) is kept once for all series that carry it; a series is a row of pair
 * numbers, and a pair has the ascending list of its series. Series numbers only rise and are never
 * given twice, so lists stay sorted by appending.
 *
 * Owner    one index per head. A memseries belongs to the index and goes with index_remove().
 * Threads  none of its own: changes need the head's index lock for writing, the rest for reading. */
#pragma once

#include "src/base/intern.h"
#include "storage/postings.h"

/* Where samples of a series lie: column `col` of the group in slot `group`, in rows [from, to). */
struct home {
    uint32_t group;
    uint32_t col;
    uint32_t from, to; /* numbers of rows; to HOME_OPEN: it still grows */
};
#define HOME_OPEN UINT32_MAX
#define HOME_NONE UINT32_MAX /* group of a series that has no home yet */

/* Valid until a series is added or removed, or the lock is given back. */
struct memseries {
    uint32_t id;
    uint32_t hash;    /* low bits of labels_hash() */
    struct home home; /* the newest */
    uint32_t old;     /* see memseries_old(); the index's own */
    uint32_t n_pairs;
    uint32_t pairs[]; /* in label order */
};

struct index;
struct index *index_new(void); /* NULL out of memory */
void index_free(struct index *ix);

struct memseries *index_find(const struct index *ix, const struct labels *ls, uint64_t hash);
/* Adds a label set that is not there. Fails with NX_NOMEM and has then changed nothing. */
NX_NODISCARD nx_status index_add(struct index *ix, const struct labels *ls, uint64_t hash,
                                 struct memseries **out, struct nx_err *err);
/* NULL when it is gone. */
struct memseries *index_series(const struct index *ix, uint32_t id);
/* A series will be asked for soon: memory is slow where it was not looked at for long. */
void index_prefetch(const struct index *ix, uint32_t id);
/* Numbers are below this; for loops over all series. */
uint32_t index_end(const struct index *ix);
size_t index_count(const struct index *ix);
uint64_t index_removals(const struct index *ix); /* how often index_remove() took something out */
/* Removes many at once (ascending): lists are gone through once for all of them. Out of memory it
 * removes fewer; returns how many went. */
size_t index_remove(struct index *ix, const uint32_t *ids, size_t n);

/* The homes before the newest, oldest first: all samples in them are older. Valid as `s` is. */
struct home *memseries_old(const struct index *ix, const struct memseries *s, uint32_t *n);
/* Leaves the first n of them; the homes may have been changed and put in another order before. */
void memseries_keep_old(struct index *ix, struct memseries *s, uint32_t n);
/* Undoes a memseries_move(): the newest of the old ones (there must be one) is the newest again. */
void memseries_back(struct index *ix, struct memseries *s);
/* Makes `h` the newest home; the one before moves to the old ones. */
NX_NODISCARD nx_status memseries_move(struct index *ix, struct memseries *s, struct home h,
                                      struct nx_err *err);
/* Drops homes that are gone; true when none is left. */
bool memseries_prune(struct index *ix, struct memseries *s,
                     bool (*gone)(const void *ctx, const struct home *home), const void *ctx);

/* The index as matchers see it. Valid while the lock is held. */
struct postings_source index_source(struct index *ix);

/* Labels of `ids`, sorted as labels_cmp sorts; ref is the series number. Strings are copied into the
 * arena once each and shared. */
NX_NODISCARD nx_status index_labels(const struct index *ix, struct ids ids, struct arena *a,
                                    struct series_list *out, struct nx_err *err);
/* The same for series that are sorted so already. With `only` (may be NULL) labels of other names may be left out. */
NX_NODISCARD nx_status index_labels_sorted(const struct index *ix, struct ids ids,
                                           const struct label_names *only, struct arena *a,
                                           struct series_list *out, struct nx_err *err);
/* Sorts series numbers by labels, in place. */
NX_NODISCARD nx_status index_sort(const struct index *ix, uint32_t *ids, size_t n,
                                  struct nx_err *err);
/* Some of the series: those of `ids` (ascending) for which want() is true; NULL: all of them. */
struct index_pick {
    struct ids ids;
    bool (*want)(void *ctx, const struct memseries *s);
    void *ctx;
};
/* Sorted, distinct, copied. `of` NULL: of all series. limit as in storage.h. */
NX_NODISCARD nx_status index_label_names(const struct index *ix, const struct index_pick *of,
                                         size_t limit, struct arena *a, struct nx_slice **out,
                                         size_t *n_out, struct nx_err *err);
NX_NODISCARD nx_status index_label_values(const struct index *ix, struct nx_slice name,
                                          const struct index_pick *of, size_t limit,
                                          struct arena *a, struct nx_slice **out, size_t *n_out,
                                          struct nx_err *err);

/* Label i of a series; borrowed while the series stays. */
struct label index_label(const struct index *ix, const struct memseries *s, uint32_t i);

struct index_stats {
    uint64_t series, pairs, names, symbols, symbol_bytes;
};
void index_get_stats(const struct index *ix, struct index_stats *out);
NX_NODISCARD nx_status index_cardinality(const struct index *ix, size_t limit, struct arena *a,
                                         struct storage_cardinality *out, struct nx_err *err);
