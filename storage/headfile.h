/* headfile.h - chunk files: what the head has sealed, on disk, so that it need not stay in memory or in
 * the log.
 *
 * Files are numbered, written from front to back and never touched again; each says what it needs to be
 * read alone: groups and their columns, then the seals of their rows. A seal's values are in pages of
 * neighbouring columns that are read, one by one, through the cache.
 *
 * Owner    one set per storage. A file lives as long as a seal in memory leads to it.
 * Threads  headfiles_*: one thread at a time (the worker). headfile_*: any.
 * Units    bytes; Unix milliseconds. On disk: FORMAT.md, "Chunk files". */
#pragma once

#include "src/base/fs.h"
#include "storage/cache.h"
#include "storage/seal.h"

struct headfile;
struct headfiles;

/* What a start finds, oldest first. */
struct headfile_visitor {
    void *ctx;
    /* Columns of groups: see define.h. NX_CORRUPT: the record makes no sense and is left out. */
    nx_status (*columns)(void *ctx, struct nx_slice payload, struct nx_err *err);
    /* `seal` (taken) of that group. */
    nx_status (*seal)(void *ctx, uint32_t group, struct seal *seal, struct nx_err *err);
};

/* Opens or makes the folder and reads what describes the seals in it, not their values. What a power cut
 * left half written at the end of a file is cut off; damage is counted and gone around. */
NX_NODISCARD nx_status headfiles_open(struct headfiles **out, struct fs *fs, const char *dir,
                                      struct cache *cache, const struct headfile_visitor *v,
                                      struct nx_err *err);
void headfiles_close(struct headfiles *hs); /* accepts NULL; no seal may lead to a file any more */

/* The file that records go to; 0: there is none, the next record makes one. It changes after a failure,
 * when it is large enough, and by headfiles_rotate(). */
uint32_t headfiles_number(const struct headfiles *hs);
/* Add a record. NX_NOSPACE, NX_IO: everything since the last headfiles_sync() has to be written again. */
NX_NODISCARD nx_status headfiles_columns(struct headfiles *hs, struct nx_slice payload,
                                         struct nx_err *err);
/* `s` is one of chunks, in memory. *stored (a reference) may be used once headfiles_sync() returned NX_OK. */
NX_NODISCARD nx_status headfiles_seal(struct headfiles *hs, uint32_t group, const struct seal *s,
                                      struct seal **stored, struct nx_err *err);
/* All records are on disk. A failure is as above. */
NX_NODISCARD nx_status headfiles_sync(struct headfiles *hs, struct nx_err *err);
size_t headfiles_unsynced(const struct headfiles *hs); /* bytes since the last one */
/* After a sync: the next record begins a file. */
void headfiles_rotate(struct headfiles *hs);
/* Deletes files that no seal leads to. */
void headfiles_sweep(struct headfiles *hs);

struct headfile_stats {
    uint64_t files, bytes, written_bytes;
    uint64_t damaged; /* records and pages; any thread may ask */
    uint64_t lost_bytes;
};
void headfiles_get_stats(struct headfiles *hs, struct headfile_stats *out);

struct headfile *headfile_ref(struct headfile *f);
void headfile_unref(struct headfile *f); /* accepts NULL */
/* Of a stored seal: n_rows values; all absent where it has none. NX_CORRUPT is counted and logged. */
NX_NODISCARD nx_status headfile_times(const struct seal *s, int64_t *t,
                                      struct chunk_scratch *scratch, struct nx_err *err);
NX_NODISCARD nx_status headfile_column(const struct seal *s, uint32_t col, double *v,
                                       struct chunk_scratch *scratch, struct nx_err *err);
