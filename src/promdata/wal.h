/* wal.h - Prometheus's logs: segments to records, records to series and samples. Private to src/promdata.
 *
 * Threads  one.
 * Hostile  records and what they unpack to are bounded by PD_MAX_RECORD_BYTES. */
#pragma once

#include "src/base/labels.h"
#include "src/promdata/file.h"

#define PD_MAX_RECORD_BYTES (128u << 20)

/* ---- segments ------------------------------------------------------------------------------- */

struct pd_wal {
    struct fs *fs;
    struct pd_damage *damage;
    struct buf fragments, unpacked;
    struct arena *arena; /* for labels */
    struct labels_builder labels;
    uint64_t records; /* seen so far */
    bool again;       /* what is damaged was told before, except within samples */
    bool in_samples;  /* the record at hand holds them */
    uint64_t torn;    /* ends of newest segments that were never written whole */
};
NX_NODISCARD nx_status pd_wal_init(struct pd_wal *w, struct fs *fs, struct pd_damage *damage,
                                   struct nx_err *err);
void pd_wal_done(struct pd_wal *w);

/* What a record holds; a NULL is read over. A status that is not NX_OK ends the reading. */
struct pd_visitor {
    void *ctx;
    nx_status (*series)(void *ctx, uint64_t ref, const struct labels *ls, struct nx_err *err);
    nx_status (*sample)(void *ctx, uint64_t ref, int64_t t_ms, double v, struct nx_err *err);
    nx_status (*stone)(void *ctx, uint64_t ref, int64_t min_ms, int64_t max_ms, struct nx_err *err);
    nx_status (*histogram)(void *ctx, uint64_t ref, int64_t t_ms, struct nx_err *err);
    uint64_t exemplar_records, unknown_records;
};

/* Reads the segments of `dir` whose number is above `after` (-1: all), oldest first. `newest`: this is the end
 * of the log, which a crash may have torn. A folder that is missing has none. */
NX_NODISCARD nx_status pd_wal_read(struct pd_wal *w, const char *dir, int64_t after, bool newest,
                                   struct pd_visitor *v, struct nx_err *err);
/* One segment's name to its number; false: it is something else. */
bool pd_segment_number(const char *name, int64_t *number);

/* ---- records -------------------------------------------------------------------------------- */

/* NX_CORRUPT: the record breaks off; what came before was visited. */
NX_NODISCARD nx_status pd_record_read(struct pd_wal *w, const uint8_t *p, size_t len,
                                      struct pd_visitor *v, struct nx_err *err);

/* ---- chunks of the head --------------------------------------------------------------------- */

struct pd_head_chunk {
    uint64_t ref; /* of the series, as in the log */
    int64_t min_ms, max_ms;
    uint8_t encoding;
    bool out_of_order;
    const uint8_t *bytes; /* valid during the call */
    size_t len;
    const char *path; /* of its file, and where it is in it */
    uint64_t at;
};
typedef nx_status pd_head_chunk_fn(void *ctx, const struct pd_head_chunk *c, struct nx_err *err);
/* Reads the files of `dir` (chunks_head), oldest first. A folder that is missing has none. */
NX_NODISCARD nx_status pd_head_chunks_read(struct fs *fs, const char *dir, struct pd_damage *damage,
                                           pd_head_chunk_fn *visit, void *ctx, struct nx_err *err);
