/* block.h - a block of Prometheus: series from its index, chunks from its segments. Private to src/promdata.
 *
 * Owner    pd_block_open() and pd_block_close(). Threads: one.
 * Memory   the symbols of the index, one series, a piece of either file, the tombstones.
 * Damage   is told to `damage` and left out; only an index whose symbols can't be read is refused. */
#pragma once

#include "src/base/labels.h"
#include "src/promdata/chunk.h"
#include "src/promdata/meta.h"

struct pd_chunk {
    int64_t min_ms, max_ms; /* both inclusive */
    uint64_t ref;
};
/* One series; valid until the next one is asked for. */
struct pd_series {
    struct labels labels;
    uint64_t id; /* what tombstones call it */
    uint64_t at; /* in the file */
    const struct pd_chunk *chunks;
    size_t n;
};

struct pd_block;
NX_NODISCARD nx_status pd_block_open(struct pd_block **out, struct fs *fs, const char *dir,
                                     struct pd_damage *damage, struct nx_err *err);
void pd_block_close(struct pd_block *b);                       /* accepts NULL */
const struct pd_meta *pd_block_meta(const struct pd_block *b); /* NULL: it can't be read */
/* A number that changes with the index or the tombstones. */
uint64_t pd_block_print(const struct pd_block *b);

/* Series in the order of their labels; *end after the last one. */
void pd_block_rewind(struct pd_block *b);
NX_NODISCARD nx_status pd_block_next(struct pd_block *b, struct pd_series *out, bool *end,
                                     struct nx_err *err);

struct pd_histograms {
    uint64_t samples;
    bool any;
};
/* Appends the samples of a series in [min_ms, max_ms], in order, without those that were deleted. Chunks of
 * histograms that begin in the span are counted. */
NX_NODISCARD nx_status pd_block_read(struct pd_block *b, const struct pd_series *s, int64_t min_ms,
                                     int64_t max_ms, struct pd_samples *to, struct pd_same *same,
                                     struct pd_histograms *h, struct nx_err *err);
