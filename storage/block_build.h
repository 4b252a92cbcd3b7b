/* block_build.h - collects the series of a block being written and writes its index.
 *
 * Strings are kept once; a series costs some bytes per label that differs from the series before it.
 * Threads: one. */
#pragma once

#include "storage/block_format.h"

struct block_build;
struct block_build *block_build_new(void); /* NULL out of memory */
void block_build_free(struct block_build *b);

/* The next series, in label order (checked by the caller); labels are copied. It has n_chunks >= 1
 * chunks with samples in [mint, maxt]. */
NX_NODISCARD nx_status block_build_add(struct block_build *b, const struct labels *ls,
                                       uint32_t n_chunks, int64_t mint, int64_t maxt,
                                       struct nx_err *err);
/* Writes and syncs the file. *bytes gets its size. */
NX_NODISCARD nx_status block_build_write(struct block_build *b, struct fs *fs, const char *path,
                                         const char *ulid, int level, uint64_t *bytes,
                                         struct nx_err *err);
