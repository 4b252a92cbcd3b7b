/* block_format.h - names and numbers that the writer and the reader of blocks share (FORMAT.md, "Blocks"). */
#pragma once

#include "storage/block.h"
#include "storage/postings.h"
#include "storage/tombs.h"
#include "storage/page.h"

#define BLOCK_FORMAT 1u /* "narthex": {"format": ...} in meta.json */

#define BLOCK_FORMAT_COARSE                                                                        \
    2u /* a block of points: older programs must not take them for samples */
#define BLOCK_MAX_RESOLUTION_MS (24 * 3600000LL)

#define BLOCK_INDEX_FILE   "index"
#define BLOCK_CHUNKS_FILE  "chunks"
#define BLOCK_META_FILE    "meta.json"
#define BLOCK_INDEX_MAGIC  "NXindex\n"
#define BLOCK_CHUNKS_MAGIC "NXchunk\n"

/* Trees of the index. Items: label names; values of all names; lists of the values; series; spans. */
enum { IX_NAMES, IX_VALUES, IX_POSTINGS, IX_SERIES, IX_SPANS };
/* Trees of the chunks file. Items: chunks in series order; vectors of timestamps. */
enum { CH_CHUNKS, CH_TIMES };

#define BLOCK_CHUNK_PAGE_BYTES (64u << 10) /* a page is closed when its chunks reach this */
#define BLOCK_TIMES_PAGE_BYTES (8u << 10)
#define BLOCK_INDEX_PAGE_BYTES (32u << 10) /* of what a reader unpacks it to */

/* The root of either file names the block; both must say the same as meta.json. */
#define BLOCK_EXTRA_BYTES BLOCK_ULID_LEN

/* meta.json: text with its own checksum; see block_meta.c. */
NX_NODISCARD nx_status block_meta_print(const struct block_meta *m, struct buf *to,
                                        struct nx_err *err);
NX_NODISCARD nx_status block_meta_parse(struct nx_slice text, struct block_meta *m,
                                        struct nx_err *err);
/* Deep copy; `to` is overwritten. */
NX_NODISCARD nx_status block_meta_copy(const struct block_meta *from, struct block_meta *to,
                                       struct nx_err *err);

/* What block_tombs.c needs of a block: its index, and its tombstones (a reference; NULL: none). */
struct block_index;
struct block_index *block_index_of(struct block *b);
struct fs *block_fs(struct block *b);
struct tombs *block_tombs(struct block *b);
/* Takes `t`, which readers see from now on. `bytes` is the size of its file. */
void block_set_tombs(struct block *b, struct tombs *t, uint64_t bytes);

/* block_tombs.c */
#define BLOCK_TOMBS_FILE "tombstones"
/* Reads the file of a block, if there is one. *damaged: one of its two copies is, which is logged. */
NX_NODISCARD nx_status block_tombs_read(struct fs *fs, const char *dir, const char *ulid,
                                        uint64_t n_series, struct tombs **out, uint64_t *bytes,
                                        bool *damaged, struct nx_err *err);
/* Leaves out of the list what has no sample in [mint, maxt] but deleted ones. */
NX_NODISCARD nx_status block_drop_dead(struct block *b, const struct tombs *t, int64_t mint,
                                       int64_t maxt, struct series_list *list, struct nx_err *err);
/* The same for series numbers (`ids` NULL: all), into the arena. */
NX_NODISCARD nx_status block_alive_ids(struct block *b, const struct tombs *t, int64_t mint,
                                       int64_t maxt, const struct ids *ids, struct arena *a,
                                       struct ids *out, struct nx_err *err);
