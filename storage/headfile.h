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
struct work;

/* ---- loose samples that are stored -------------------------------------------------------------- */

/* Samples of a series, of one block's span, next to each other in time. */
struct loose_entry {
    uint32_t series, at;  /* its place in the record */
    uint32_t first, last; /* times, less the batch's min_ms */
};
struct loose_batch {
    atomic_uint refs;
    struct headfile *file;
    uint64_t at; /* of the record */
    uint32_t head_bytes, n_pages, n;
    uint64_t n_samples;
    int64_t min_ms, max_ms;
    bool taken, written;    /* as those of a seal (loose.h) */
    uint8_t *pages;         /* their directory */
    struct loose_entry v[]; /* by series and age */
};
struct loose_batch *loose_batch_ref(struct loose_batch *b);
void loose_batch_unref(struct loose_batch *b); /* accepts NULL */
size_t loose_batch_bytes(const struct loose_batch *b);
/* Puts the entries in order of series; those of one series stay as they are. */
void loose_batch_sort(struct loose_batch *b);
/* The first entry of the series; b->n: it has none. */
uint32_t loose_batch_find(const struct loose_batch *b, uint32_t series);

/* ---- files -------------------------------------------------------------------------------------- */

/* What a start finds, oldest first. */
struct headfile_visitor {
    void *ctx;
    /* Columns of groups: see define.h. NX_CORRUPT: the record makes no sense and is left out. */
    nx_status (*columns)(void *ctx, struct nx_slice payload, struct nx_err *err);
    /* `seal` (taken) of that group. */
    nx_status (*seal)(void *ctx, uint32_t group, struct seal *seal, struct nx_err *err);
    /* Series of loose samples, as the file calls them: see define.h. */
    nx_status (*series)(void *ctx, uint32_t file, struct nx_slice payload, struct nx_err *err);
    /* The entries of `b` have the file's numbers: puts the series' in their place, and the entries in order.
     * NX_CORRUPT: the file does not say which series one is. */
    nx_status (*number)(void *ctx, uint32_t file, struct loose_batch *b, struct nx_err *err);
    /* That batch (taken) is whole. */
    nx_status (*samples)(void *ctx, struct loose_batch *b, struct nx_err *err);
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
/* Series of loose samples, as columns are. */
NX_NODISCARD nx_status headfiles_series(struct headfiles *hs, struct nx_slice payload,
                                        struct nx_err *err);
/* One record of loose samples: of each series, by number, its samples in order of time, at most
 * CHUNK_MAX_ROWS at a time; all within UINT32_MAX ms. _begin() forgets what was begun before. */
void headfiles_samples_begin(struct headfiles *hs);
NX_NODISCARD nx_status headfiles_samples_add(struct headfiles *hs, uint32_t series,
                                             const int64_t *t, const double *v, uint32_t n,
                                             struct chunk_scratch *scratch, struct nx_err *err);
size_t headfiles_samples_bytes(const struct headfiles *hs); /* of the record so far */
/* *out as headfiles_seal() has it. */
NX_NODISCARD nx_status headfiles_samples_end(struct headfiles *hs, struct loose_batch **out,
                                             struct nx_err *err);
/* Notes that blocks have what is in those batches, so that a start leaves it out. */
NX_NODISCARD nx_status headfiles_samples_gone(struct headfiles *hs, struct loose_batch *const *v,
                                              size_t n, struct nx_err *err);
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
/* The samples of entry `i` in w->t and w->v. As headfile_column(). */
NX_NODISCARD nx_status headfile_samples(const struct loose_batch *b, uint32_t i, struct work *w,
                                        uint32_t *n, struct nx_err *err);
