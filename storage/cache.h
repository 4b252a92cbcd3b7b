/* cache.h - pages of data files in memory: one bounded LRU for all blocks.
 *
 * A page is read, checked and unpacked by a loader when it is first asked for; then it is shared by
 * all readers and immutable. A page in use is pinned and stays whatever the bound says; the bound
 * holds again when the pins are gone.
 *
 * Owner    one cache per storage; it outlives all files that read through it.
 * Threads  any. The lock (NX_RANK_CACHE) is not held while a loader runs; two readers that miss the
 *          same page at the same time both load it and one copy is kept. */
#pragma once

#include "storage/files.h"

struct cache;

struct cache_page { /* immutable while pinned */
    const uint8_t *ptr;
    size_t len;
    void *entry; /* the cache's own */
};

/* Makes the page: malloc'ed *ptr (taken by the cache on success). */
typedef nx_status cache_load_fn(void *ctx, uint64_t page, uint8_t **ptr, size_t *len,
                                struct nx_err *err);

struct cache *cache_new(size_t limit_bytes); /* NULL out of memory */
void cache_free(struct cache *c);            /* accepts NULL; nothing may be pinned */
/* Shrinks at once if need be. */
void cache_set_limit(struct cache *c, size_t limit_bytes);

#define CACHE_MAX_FILES 256u
/* The pool of the files that pages come from: at most CACHE_MAX_FILES are open and idle. */
struct files *cache_files(struct cache *c);

uint64_t cache_file_id(struct cache *c);                /* a number never given before */
void cache_forget_file(struct cache *c, uint64_t file); /* its unpinned pages go */

/* Pins page `page` of `file`. Fails as `load` fails, or with NX_NOMEM. */
NX_NODISCARD nx_status cache_get(struct cache *c, uint64_t file, uint64_t page, cache_load_fn *load,
                                 void *ctx, struct cache_page *out, struct nx_err *err);
void cache_put(struct cache *c, struct cache_page *p); /* accepts all zero; clears it */
/* More than an eighth of the bound is pinned: who only keeps a page because he may come back puts it. */
bool cache_crowded(struct cache *c);

struct cache_stats {
    uint64_t hits, misses, evictions;
    uint64_t pages, bytes, pinned_bytes, limit_bytes;
};
void cache_get_stats(struct cache *c, struct cache_stats *out);
