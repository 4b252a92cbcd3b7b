/* promdata.h - moving in: reads a data folder of Prometheus and writes its samples as blocks of Narthex.
 *
 * Read are blocks (index versions 1 to 3, chunks of floats, tombstones) and the head (checkpoint, log, chunks written
 * out, the log of samples out of order), of Prometheus 2 and 3, the latter with XOR2 and start timestamps (which are
 * not kept). The result is what that Prometheus would serve after its next start, plus what lies behind
 * damage at which it would stop. The folder is only read.
 *
 * Threads  one call at a time a folder; it blocks for as long as it takes.
 * Units    Unix milliseconds, bytes. */
#pragma once

#include "storage/storage.h"

struct promdata_result {
    uint64_t blocks, blocks_refused; /* of Prometheus: found, and not readable at all */
    uint64_t written, present;       /* of Narthex: blocks written now, and by an earlier run */
    uint64_t samples;                /* in the blocks written (dry_run: that would be) */
    uint64_t equal,
        conflicting;    /* dropped for one of the same time: with the same value, with another */
    uint64_t covered;   /* of the log, older than the newest block: its own copy is in there */
    uint64_t uncovered; /* the same, but no block spans them: Prometheus has hidden them */
    uint64_t late;      /* of the log, refused by Prometheus because the series had a newer one */
    uint64_t deleted;   /* of the log, by its tombstones */
    uint64_t unknown_samples; /* of the log, of series that it does not define */
    uint64_t histogram_series, histogram_samples; /* native ones: left out */
    uint64_t exemplar_records, unknown_records;   /* of the log; read over */
    uint64_t damaged;                             /* places that were told to `damage` */
    uint64_t torn; /* unfinished ends of the log, as a crash leaves them */
    bool changed;  /* while it was read: it is in use */
    bool served;   /* a running Narthex has the folder written to */
};

struct promdata_opts {
    struct fs *fs;   /* borrowed */
    const char *dir; /* borrowed */
    const char *out; /* borrowed; made if missing */
    bool dry_run;    /* read all, write nothing */
    void *ctx;
    void (*damage)(void *ctx, const char *path, uint64_t offset, const char *what);
    void (*note)(void *ctx, const char *text);
    void (*block)(void *ctx, const struct storage_import_block *b); /* one was written */
    void (*progress)(void *ctx, const char *what, size_t done, size_t of);
};

/* Blocks are published one by one under names that follow from what is in them, so an import that was
 * interrupted goes on where it was when it is called again. NX_UNAVAILABLE: Prometheus is running on
 * `dir`, or another import on `out`; NX_BADINPUT: `dir` is not Prometheus's, or `out` is; NX_IO, NX_NOSPACE: of `out`.
 * Damage in `dir` is no failure: see result. */
NX_NODISCARD nx_status promdata_import(const struct promdata_opts *o, struct promdata_result *res,
                                       struct nx_err *err);

/* Where an import goes if nothing else is said: a folder of this name within Prometheus's. */
#define PROMDATA_FOLDER "narthex"

/* Makes the folder Narthex's after an import into dir/narthex: Prometheus's files go to dir/prometheus, the new blocks
 * to dir. Only renames; called again, it goes on where it was interrupted. NX_BADINPUT: dir/prometheus exists. */
NX_NODISCARD nx_status promdata_swap(struct fs *fs, const char *dir, struct nx_err *err);
/* A swap of that folder has begun and is to be finished. */
bool promdata_is_moving(struct fs *fs, const char *dir);
