/* import.h - what the parts of an import share. Private to src/promdata. */
#pragma once

#include "src/promdata/block.h"
#include "src/promdata/promdata.h"
#include "src/promdata/wal.h"

#define PD_HOUR_MS   3600000ll
#define PD_ULID_SIZE 27u

/* A block of Prometheus. */
struct pd_unit {
    char name[PD_ULID_SIZE];
    int64_t min_ms, max_ms; /* max exclusive */
    bool aside;             /* see struct pd_meta */
    uint64_t print;         /* pd_block_print() */
};

struct pd_import {
    const struct promdata_opts *o;
    struct promdata_result *res;
    struct pd_damage damage;
    struct pd_unit *units; /* by min_ms, then name */
    size_t n_units;
    int64_t min_valid_ms;          /* the head's samples in order begin here */
    char (*present)[PD_ULID_SIZE]; /* origins of blocks in `out`; sorted */
    size_t n_present, cap_present;
    uint64_t *
        histograms; /* hashes of labels of series with native histograms: open addressing, 0 free */
    size_t n_histograms, cap_histograms;
    size_t steps, done; /* for progress */
};

/* A name that follows from what it names: `from` gives the time in it (the start of another ULID), or time_ms if that is
 * NULL. */
void pd_name(char to[PD_ULID_SIZE], const char *from, int64_t time_ms, uint64_t print);
bool pd_is_ulid(const char *name);
/* Prometheus's, by the start of its index; what can't be read is not. */
NX_NODISCARD nx_status pd_is_their_block(struct fs *fs, const char *dir, const char *name, bool *is,
                                         struct nx_err *err);
bool pd_is_present(const struct pd_import *im, const char *name);
/* Counts the series once. */
NX_NODISCARD nx_status pd_histogram_series(struct pd_import *im, const struct labels *ls,
                                           struct nx_err *err);
void pd_wrote(struct pd_import *im, const struct storage_import_block *b);
void pd_step(struct pd_import *im, const char *what);

/* import_blocks.c, import_head.c */
NX_NODISCARD nx_status pd_import_blocks(struct pd_import *im, struct nx_err *err);
NX_NODISCARD nx_status pd_import_head(struct pd_import *im, uint64_t print, struct nx_err *err);
