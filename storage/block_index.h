/* block_index.h - the index of a block on disk: names, values, lists of series, series.
 *
 * Threads  any. All memory that stays is the cache's; results go to arenas. Whatever fails because of
 *          what the file says fails with NX_CORRUPT. */
#pragma once

#include "storage/block_format.h"
#include "storage/page.h"
#include "storage/postings.h"

struct block_index;
NX_NODISCARD nx_status block_index_open(struct block_index **out, struct fs *fs,
                                        struct cache *cache, const char *path, struct nx_err *err);
void block_index_close(struct block_index *ix); /* accepts NULL */
struct page_file *block_index_file(struct block_index *ix);
uint64_t block_index_n_series(const struct block_index *ix);

/* One series as the index has it. */
struct block_index_series {
    uint32_t first_chunk, n_chunks;
    int64_t mint, maxt; /* of its first and last sample */
};
NX_NODISCARD nx_status block_index_get(struct block_index *ix, uint32_t id,
                                       struct block_index_series *out, struct nx_err *err);
/* The same for many series, one after the other: pages that the last one was found in stay pinned, until
 * block_index_leave(). Starts as {0}; of one index at a time. */
struct block_index_place {
    struct page series, spans;
};
NX_NODISCARD nx_status block_index_get_next(struct block_index *ix, uint32_t id,
                                            struct block_index_place *at,
                                            struct block_index_series *out, struct nx_err *err);
void block_index_leave(struct block_index *ix, struct block_index_place *at); /* clears it */

NX_NODISCARD nx_status block_index_match(struct block_index *ix, const struct matcher *m, size_t n,
                                         struct arena *a, struct ids *out, struct nx_err *err);
/* Labels of `ids`, those alone that have samples in [mint, maxt] by their first and last; the first `most`
 * of them. */
NX_NODISCARD nx_status block_index_labels(struct block_index *ix, struct ids ids, int64_t mint,
                                          int64_t maxt, size_t most, struct arena *a,
                                          struct series_list *out, struct nx_err *err);
/* Sorted names (values of `name`) that occur in `ids`; ids NULL: in any series. limit as in storage.h. */
NX_NODISCARD nx_status block_index_names(struct block_index *ix, const struct ids *ids,
                                         size_t limit, struct arena *a, struct nx_slice **out,
                                         size_t *n_out, struct nx_err *err);
NX_NODISCARD nx_status block_index_values(struct block_index *ix, struct nx_slice name,
                                          const struct ids *ids, size_t limit, struct arena *a,
                                          struct nx_slice **out, size_t *n_out, struct nx_err *err);
/* Reads all of it and checks what readers rely on: order of names, values and series, and that each
 * list holds exactly the series that have its pair. */
NX_NODISCARD nx_status block_index_verify(struct block_index *ix, struct nx_err *err);
