/* compact.h - blocks are merged into larger ones: which, how, and by whom.
 *
 * The plan (compact_plan.c) says which blocks of a list go together; the merge (compact_merge.c) writes
 * one block of several; compact.c does both for a store and changes its list over.
 *
 * Units    Unix milliseconds; max_ms is exclusive. */
#pragma once

#include <stdatomic.h>

#include "storage/block.h"
#include "storage/keep_rules.h"

#define COMPACT_MAX_SOURCES 64u /* merged at once; more are merged in turns */

/* ---- the plan -------------------------------------------------------------------------------- */

struct compact_block {
    int64_t min_ms, max_ms;
    bool avoid; /* is to be left as it is */
};
struct compact_plan_opts {
    int64_t block_ms;     /* span of a first block */
    int64_t max_block_ms; /* no larger blocks are made of blocks that don't overlap */
    bool overlapping;     /* merge what overlaps */
};
/* Picks what to merge next of n blocks, sorted by min_ms: their places, ascending, go to `pick` (room for
 * COMPACT_MAX_SOURCES). Returns how many: 0, or at least 2. */
size_t compact_plan(const struct compact_plan_opts *o, const struct compact_block *v, size_t n,
                    size_t pick[COMPACT_MAX_SOURCES]);

/* ---- the merge ------------------------------------------------------------------------------- */

#define COMPACT_NONE SIZE_MAX

struct compact_merge {
    struct fs *fs;    /* borrowed */
    const char *dir;  /* the data folder */
    const char *ulid; /* of the new block */
    struct block *const
        *source; /* sorted by min_ms; of equal times the first source's sample is kept */
    size_t n;    /* 1 to COMPACT_MAX_SOURCES */
    const atomic_bool *stop; /* set: the merge ends with NX_CANCELED; may be NULL */
    /* Samples of the series before the time it gives are left out; NULL: none are. */
    int64_t (*from_ms)(void *ctx, const struct labels *ls);
    void *ctx;
};
struct compact_result {
    size_t bad; /* the source that could not be read, or COMPACT_NONE; set on failure too */
    uint64_t samples, dropped; /* written; dropped because another source had one of that time */
    uint64_t expired;          /* left out by from_ms() */
    uint64_t deleted;          /* left out because of tombstones */
};
/* Publishes a block that holds what the sources hold; NX_NOTFOUND: that is nothing, since all was left
 * out. On failure there is no new block (but see
 * block_writer_commit()); NX_CORRUPT: a source is damaged, and the text says where. Blocks the caller for
 * as long as it takes. */
NX_NODISCARD nx_status compact_merge(const struct compact_merge *c, struct compact_result *res,
                                     struct nx_err *err);

/* The same for one source, as points of a resolution: of samples, or of points that are as fine or finer. Nothing
 * but from_ms(), deletions and stale markers without a sample can leave nothing: NX_NOTFOUND. */
NX_NODISCARD nx_status compact_downsample(const struct compact_merge *c, int64_t resolution_ms,
                                          struct compact_result *res, struct nx_err *err);

/* ---- what need not be kept (compact_keep.c) --------------------------------------------------- */

struct keep_checks;                        /* remembers what was looked at */
struct keep_checks *keep_checks_new(void); /* NULL out of memory */
void keep_checks_free(struct keep_checks *c);
/* The first block of a list in which a series has passed its time, or COMPACT_NONE. On failure the one that
 * could not be read. Blocks that the plan avoids are left alone. */
NX_NODISCARD nx_status keep_find(struct keep_checks *c, struct fs *fs, struct block *const *v,
                                 const struct compact_block *plan, size_t n, const struct keep *k,
                                 uint64_t version, const atomic_bool *stop, size_t *which,
                                 struct nx_err *err);

/* ---- in a store ------------------------------------------------------------------------------ */

struct storage;
struct compactor;
/* `own_thread`: runs by itself until closed; else whenever compact_tick() is called. */
NX_NODISCARD nx_status compact_open(struct compactor **out, struct storage *s, bool own_thread,
                                    struct nx_err *err);
/* Ends a merge that is under way without a result. Accepts NULL. */
void compact_close(struct compactor *c);
/* The compactor's own thread, if it has one, looks at once: what is to be kept has changed. */
void compact_look(struct compactor *c);
/* Called by the worker after each round, `more` when there is a new block. */
void compact_tick(struct compactor *c, bool more);

/* Writes a block of the list anew without what is deleted in it. By any thread that has the turn for a
 * merge (turns.c). NX_CANCELED: somebody wanted the turn. */
NX_NODISCARD nx_status compact_rewrite(struct compactor *c, struct block *b, struct nx_err *err);

/* `m` was made of block `ulid`, directly or not. */
bool compact_made_of(const struct block_meta *m, const char *ulid);
/* Blocks are being published or deleted: what is found in the folder besides the list says nothing. */
bool compact_busy(struct storage *s);
