/* block.h - sealed data on disk: a folder with an index and pages of chunks, never changed.
 *
 * A block covers [min_ms, max_ms) and holds, per series in label order, chunks of values that point
 * at shared vectors of timestamps. It is written under NAME.tmp-for-creation and appears under its
 * ULID by one rename, whole or not at all. It is read by pread through the page cache; opening reads
 * meta.json and the roots of both files, whatever the size. Samples can be deleted: a file beside the
 * sealed ones says which are, and readers leave those out. On disk: FORMAT.md, "Blocks".
 *
 * Owner    block_open() gives a reference; block_ref/unref share it. The last one closes the files, which
 *          are open when they are read and else only some of them (files.h).
 * Threads  a block may be read by any threads at a time. A writer belongs to one thread.
 * Units    Unix milliseconds; ranges asked for include both ends. Sizes in bytes. */
#pragma once

#include "storage/cache.h"
#include "storage/chunk.h"
#include "storage/samples.h"
#include "storage/storage.h"
#include "storage/tombs.h"

#define BLOCK_ULID_LEN        26u
#define BLOCK_TMP_SUFFIX      ".tmp-for-creation"
#define BLOCK_DELETING_SUFFIX ".tmp-for-deletion" /* renamed to before its files go */

/* Fills `to` with a new ULID of the time `now_ms`; ascending within a process. */
void block_ulid(char to[BLOCK_ULID_LEN + 1], int64_t now_ms);
bool block_ulid_valid(const char *name); /* is this folder name a block's? */

/* ---- what meta.json says --------------------------------------------------------------------- */

struct block_parent {
    char ulid[BLOCK_ULID_LEN + 1];
    int64_t min_ms, max_ms;
};
/* What a block of a resolution holds of each series (storage/coarse.h). */
enum block_column {
    COLUMN_LAST,
    COLUMN_MIN,
    COLUMN_MAX,
    COLUMN_SUM,
    COLUMN_FALLEN,
    COLUMN_FIRST,
    COLUMN_COUNT,
    COLUMNS
};
struct block_meta {
    char ulid[BLOCK_ULID_LEN + 1];
    int64_t min_ms, max_ms; /* max exclusive */
    uint64_t n_samples, n_series, n_chunks;
    uint32_t level;                      /* 1: from the head */
    char (*sources)[BLOCK_ULID_LEN + 1]; /* level-1 blocks it was made from; itself for level 1 */
    size_t n_sources;
    struct block_parent *parents;
    size_t n_parents;
    bool late;             /* all samples came out of order: the hint `from-out-of-order` */
    int64_t resolution_ms; /* 0: samples; else points of windows of that length, see below */
    uint64_t bytes;        /* of all files; not in meta.json */
};
/* In a block of a resolution what block_read() and its kin call the time t is, for column c, t +
 * block_column_shift(c), and min_ms and max_ms bound t itself. Read them by storage/coarse.h. */
static inline int64_t block_column_shift(const struct block_meta *m, unsigned c)
{
    return (int64_t)c * (m->max_ms - m->min_ms);
}
/* The end of what block_read() calls times. */
static inline int64_t block_times_end(const struct block_meta *m)
{
    return m->max_ms + (m->resolution_ms ? block_column_shift(m, COLUMNS - 1) : 0);
}

/* ---- writing --------------------------------------------------------------------------------- */

struct block_writer;
struct block_writer_opts {
    struct fs *fs;                             /* borrowed */
    const char *dir;                           /* the data folder, parent of the block; copied */
    const char *ulid;                          /* NULL: made from the clock; copied */
    int64_t min_ms, max_ms;                    /* max exclusive; every sample must lie within */
    uint32_t level;                            /* 0: 1 */
    const char (*sources)[BLOCK_ULID_LEN + 1]; /* copied; none: the block itself */
    size_t n_sources;
    const struct block_parent *parents; /* copied */
    size_t n_parents;
    bool late;             /* see block_meta */
    int64_t resolution_ms; /* of a block of points; 0: of samples */
    bool fast;             /* LZ4 and the fast encoder rather than the smallest result */
};
/* Makes the temporary folder. A leftover of the same name is removed first. */
NX_NODISCARD nx_status block_writer_open(struct block_writer **out,
                                         const struct block_writer_opts *opts, struct nx_err *err);
/* Registers the timestamps of rows, strictly ascending, 1 <= n <= CHUNK_MAX_ROWS; copied. Equal vectors
 * get the same number. May be called between series at any time. */
NX_NODISCARD nx_status block_writer_times(struct block_writer *w, const int64_t *t, size_t n,
                                          uint32_t *times, struct nx_err *err);
/* Begins the next series; labels must be greater than the last one's, else NX_BADINPUT. A series that
 * gets no sample is left out of the block. */
NX_NODISCARD nx_status block_writer_series(struct block_writer *w, const struct labels *ls,
                                           struct nx_err *err);
/* Adds values of the current series, parallel to the whole vector `times`; CHUNK_ABSENT where it has
 * none (all absent: nothing is added). Chunks of a series come in time order and do not overlap. */
NX_NODISCARD nx_status block_writer_chunk(struct block_writer *w, uint32_t times, const double *v,
                                          size_t n, struct nx_err *err);
/* Writes the index, syncs all, renames, syncs the parent. *meta (may be NULL) gets what was written; free
 * with block_meta_done. A block without samples is not written: NX_NOTFOUND. After a failure only
 * block_writer_close() may follow. If it was the very last sync that failed, the block may be there
 * nonetheless, whole: who then writes the same samples again has them twice, which reading bears. */
NX_NODISCARD nx_status block_writer_commit(struct block_writer *w, struct block_meta *meta,
                                           struct nx_err *err);
/* Accepts NULL. Without a commit it removes the temporary folder, as far as that is possible. */
void block_writer_close(struct block_writer *w);
void block_meta_done(struct block_meta *m);

/* ---- reading --------------------------------------------------------------------------------- */

struct block;

/* Fails with NX_CORRUPT when meta.json or the root of a file is damaged or of an unknown version,
 * NX_NOTFOUND when there is no such folder. `cache` and `fs` are borrowed and outlive the block. */
NX_NODISCARD nx_status block_open(struct block **out, struct fs *fs, struct cache *cache,
                                  const char *dir, struct nx_err *err);
struct block *block_ref(struct block *b);
void block_unref(struct block *b); /* accepts NULL */

/* Before its files go: who has a reference besides the caller can read on. */
NX_NODISCARD nx_status block_keep_open(struct block *b, struct nx_err *err);

const struct block_meta *block_meta(const struct block *b);
const char *block_dir(const struct block *b);
uint64_t block_bytes(struct block *b); /* of all files, that of the tombstones included */
/* Found so far; each page counts once, and a damaged copy of the tombstones as a page. */
uint64_t block_pages_damaged(const struct block *b);
bool block_tombs_damaged(const struct block *b); /* one of the two copies; the other one is used */

/* Series that match all n matchers (n may be 0) and may have samples in [mint, maxt], in label order.
 * Labels live in the arena; series.ref is the series' number in the block, 0 <= ref < n_series. */
NX_NODISCARD nx_status block_select(struct block *b, const struct matcher *m, size_t n,
                                    int64_t mint, int64_t maxt, struct arena *a,
                                    struct series_list *out, struct nx_err *err);
/* The first of them, `most` at most unless something was deleted. */
NX_NODISCARD nx_status block_select_some(struct block *b, const struct matcher *m, size_t n,
                                         int64_t mint, int64_t maxt, size_t most, struct arena *a,
                                         struct series_list *out, struct nx_err *err);
/* Appends the samples of series `ref` in [mint, maxt]. NX_CORRUPT: a page is damaged; what other pages
 * hold was appended, and the text names block, series and times. The caller may go on. */
NX_NODISCARD nx_status block_read(struct block *b, uint64_t ref, int64_t mint, int64_t maxt,
                                  struct samples *to, struct chunk_scratch *s, struct nx_err *err);
/* The same for many series, one after the other. While these are of one block, and the cache has room, pages that
 * the last one was found in stay pinned: the block (borrowed) outlives that. `marks`: numbers are 0
 * (chunk_decode_first()). One thread at a time. */
struct block_reader;
struct block_reader *block_reader_new(void); /* NULL out of memory */
NX_NODISCARD nx_status block_reader_read(struct block_reader *r, struct block *b, uint64_t ref,
                                         int64_t mint, int64_t maxt, bool marks, struct samples *to,
                                         struct chunk_scratch *s, struct nx_err *err);
void block_reader_free(struct block_reader *r); /* accepts NULL */
/* The same, deleted samples included. */
NX_NODISCARD nx_status block_read_sealed(struct block *b, uint64_t ref, int64_t mint, int64_t maxt,
                                         struct samples *to, struct chunk_scratch *s,
                                         struct nx_err *err);
/* Drops what is deleted of series `ref` from x[from..n), samples of it; returns how many went. */
size_t block_drop_deleted(struct block *b, uint64_t ref, struct samples *x, size_t from);
/* As the querier operations of the same name in storage.h. */
NX_NODISCARD nx_status block_label_names(struct block *b, const struct matcher *m, size_t n,
                                         int64_t mint, int64_t maxt, size_t limit, struct arena *a,
                                         struct nx_slice **out, size_t *n_out, struct nx_err *err);
NX_NODISCARD nx_status block_label_values(struct block *b, struct nx_slice name,
                                          const struct matcher *m, size_t n, int64_t mint,
                                          int64_t maxt, size_t limit, struct arena *a,
                                          struct nx_slice **out, size_t *n_out, struct nx_err *err);

/* ---- deleting -------------------------------------------------------------------------------- */

/* Hides the samples in [mint, maxt] of the series that match, from all readers and after a restart: the
 * block's file of tombstones is published anew. *series (may be NULL) gets how many lost samples. One
 * caller at a time. On failure nothing has changed, but for what a restart may then find deleted. */
NX_NODISCARD nx_status block_delete(struct block *b, const struct matcher *m, size_t n,
                                    int64_t mint, int64_t maxt, uint64_t *series,
                                    struct nx_err *err);
/* Series with deleted samples, and spans of time in all of them. */
void block_count_tombs(struct block *b, uint64_t *series, uint64_t *spans);

/* ---- piece by piece --------------------------------------------------------------------------- */

/* For compaction, checks and tests; deleted samples are in all of these. Labels of one series (in the arena), and its chunks one by one. */
NX_NODISCARD nx_status block_series(struct block *b, uint64_t ref, struct arena *a,
                                    struct labels *out, struct nx_err *err);
/* Times of the first and last sample of one series. */
NX_NODISCARD nx_status block_series_span(struct block *b, uint64_t ref, int64_t *min_ms,
                                         int64_t *max_ms, struct nx_err *err);
/* Labels of the `n` series from `first` on, which the block must have. */
NX_NODISCARD nx_status block_series_run(struct block *b, uint64_t first, size_t n, struct arena *a,
                                        struct series_list *out, struct nx_err *err);
struct block_chunk {    /* valid during the call */
    uint32_t times;     /* number of the vector of timestamps within the block */
    uint32_t first_row; /* of that vector; t[0] is its time */
    const int64_t *t;
    const double *v; /* CHUNK_ABSENT allowed */
    size_t n;
    size_t bytes; /* in its page */
};
typedef nx_status block_chunk_fn(void *ctx, const struct block_chunk *c, struct nx_err *err);
NX_NODISCARD nx_status block_chunks(struct block *b, uint64_t ref, block_chunk_fn *visit, void *ctx,
                                    struct chunk_scratch *s, struct nx_err *err);
/* Reads everything: each checksum, each order rule, that every chunk decodes. */
NX_NODISCARD nx_status block_verify(struct block *b, struct nx_err *err);
