/* page.h - a file of checked, compressed pages, found by number: what a block's index and chunks are.
 *
 * A page file holds a few *trees*. A tree is a sequence of numbered items (series, values, chunks, ...)
 * cut into pages; a page knows the number of its first item, and a directory of one or two levels
 * finds the page of any number. The file ends in a root with all directories' tops; opening reads the
 * root alone. On disk: FORMAT.md, "Page files".
 *
 * Owner    a reader is opened and closed by a block; pages are pinned in the cache.
 * Threads  a reader: any. A writer: one. */
#pragma once

#include "src/base/fs.h"
#include "storage/cache.h"

#define PAGE_MAX_TREES   8u
#define PAGE_MAX_RAW     (256u << 20) /* a page that claims more is damaged */
#define PAGE_VERSION     1u
#define PAGE_MAGIC_BYTES 8u

struct page_writer;
/* Creates `path`; magic is PAGE_MAGIC_BYTES long. level 0: LZ4; else LZ4 HC of that level. */
NX_NODISCARD nx_status page_writer_open(struct page_writer **out, struct fs *fs, const char *path,
                                        const char *magic, int level, struct nx_err *err);
/* Appends a page of `tree` whose first item is `first`; the first items of a tree ascend strictly from 0. */
NX_NODISCARD nx_status page_writer_add(struct page_writer *w, unsigned tree, uint64_t first,
                                       const void *ptr, size_t len, struct nx_err *err);
/* Writes directories and root, syncs. n_items[t] is how many items tree t has in all; `extra` is kept
 * in the root. *bytes gets the size of the file. */
NX_NODISCARD nx_status page_writer_finish(struct page_writer *w,
                                          const uint64_t n_items[PAGE_MAX_TREES],
                                          struct nx_slice extra, uint64_t *bytes,
                                          struct nx_err *err);
void page_writer_close(struct page_writer *w); /* accepts NULL; leaves the file */

struct page_file;
struct page_opts {
    struct fs *fs;       /* borrowed */
    struct cache *cache; /* borrowed */
    const char *magic;   /* PAGE_MAGIC_BYTES */
    /* Turns a page's bytes as stored into what the cache holds; NULL: as they are. Takes *ptr
     * (malloc'ed) and replaces it. Fails with NX_CORRUPT. */
    nx_status (*unpack)(unsigned tree, uint8_t **ptr, size_t *len, struct nx_err *err);
};
NX_NODISCARD nx_status page_file_open(struct page_file **out, const char *path,
                                      const struct page_opts *opts, struct nx_err *err);
void page_file_close(struct page_file *f); /* accepts NULL */
/* The file stays open from now on, since its name is about to go. */
NX_NODISCARD nx_status page_file_keep(struct page_file *f, struct nx_err *err);

struct nx_slice page_file_extra(const struct page_file *f);
uint64_t page_file_items(const struct page_file *f, unsigned tree);
uint64_t page_file_bytes(const struct page_file *f);
uint64_t page_file_damaged(const struct page_file *f); /* pages found damaged so far, each once */

struct page {
    const uint8_t *ptr; /* immutable until page_put */
    size_t len;
    uint64_t first, end; /* its items are first .. end - 1 */
    struct cache_page pin;
};
/* Pins the page of item `item`, which must be below page_file_items(). NX_CORRUPT names file and place. */
NX_NODISCARD nx_status page_get(struct page_file *f, unsigned tree, uint64_t item, struct page *out,
                                struct nx_err *err);
void page_put(struct page_file *f, struct page *p); /* accepts all zero; clears it */

/* Derived data under numbers of the file that no page has: `key` is below 2^62. */
NX_NODISCARD nx_status page_derived(struct page_file *f, uint64_t key, cache_load_fn *load,
                                    void *ctx, struct cache_page *out, struct nx_err *err);
void page_derived_put(struct page_file *f, struct cache_page *p);
bool page_cache_crowded(struct page_file *f); /* cache_crowded() */

/* One page as a scan finds it. */
struct page_seen {
    unsigned tree;
    bool directory;      /* of the tree: without it the pages of its items are not found */
    uint64_t first, end; /* its items are first .. end - 1 */
    uint64_t at;         /* offset in the file */
    const char *why;     /* NULL: it is whole; valid during the call */
};
typedef void page_seen_fn(void *ctx, const struct page_seen *p);
/* Reads and checks every page anew, whatever the cache holds, and goes on past damage. */
NX_NODISCARD nx_status page_file_scan(struct page_file *f, page_seen_fn *seen, void *ctx,
                                      struct nx_err *err);
