/* files.h - data files that are open when they are read, and only some of them at a time.
 *
 * A store has two files for each block and may have thousands of blocks; a query reads a few. A file is
 * opened at its first read and stays open until more than `max` are and it was idle for longest.
 *
 * Owner    a pool belongs to the page cache (cache.h) and outlives its files.
 * Threads  any; a lock of its own (NX_RANK_STATS), never held while a file is opened or closed. */
#pragma once

#include "src/base/fs.h"

struct files;
struct files *files_new(size_t max); /* NULL out of memory */
void files_free(struct files *p);    /* accepts NULL; no file of it may be left */
size_t files_open(struct files *p);  /* how many are open now */

/* One file of a pool: in the struct of who reads it, set up by lazy_file_init(). */
struct lazy_file {
    struct files *pool;
    struct fs *fs;    /* borrowed */
    const char *path; /* borrowed */
    /* under the pool's lock */
    struct fs_file *file; /* NULL: not open */
    unsigned pins;
    bool keep, idle;               /* idle: in the list */
    struct lazy_file *prev, *next; /* idle ones, the longest idle first */
};
void lazy_file_init(struct lazy_file *f, struct files *pool, struct fs *fs, const char *path);
void lazy_file_done(struct lazy_file *f); /* accepts all zero; nobody may have it pinned */

/* The file, open for reading until lazy_file_put(). */
NX_NODISCARD nx_status lazy_file_get(struct lazy_file *f, struct fs_file **out, struct nx_err *err);
void lazy_file_put(struct lazy_file *f);
/* Opens it and keeps it open to the end: its name is about to go. */
NX_NODISCARD nx_status lazy_file_keep(struct lazy_file *f, struct nx_err *err);
