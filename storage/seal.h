/* seal.h - a span of rows of one group, coded column by column: in memory, or in a chunk file.
 *
 * Light seals are made of a group's open tail, a few rows at a time; many of them become one of chunks,
 * which goes to a chunk file (headfile.h). In memory there then only is what finds it again.
 *
 * Owner    shared by reference. Threads: immutable. Units: Unix milliseconds, bytes. */
#pragma once

#include <stdatomic.h>

#include "src/base/status.h"
#include "storage/chunk.h"

struct work;
struct headfile;

struct seal {
    atomic_uint refs;
    uint32_t first, end; /* numbers of its rows: [first, end), of which some may be missing */
    uint64_t seq_first, seq_last; /* of its rows' appends */
    uint32_t n_rows, n_cols;
    int64_t min_ms, max_ms;
    uint32_t segment; /* of the log, that holds its oldest row */
    uint32_t epoch;   /* syncs of the log done when it was made */
    bool ascending;   /* timestamps do, strictly */
    bool light;       /* columns by wal_row_encode_column(), not yet chunks */
    bool keeps_seq;   /* some reader did not see all of it when it was made */
    /* A column changed its series before this seal: not to be joined with earlier ones. */
    bool rebound;
    bool has_map; /* of a stored one: some columns have no sample */
    /* Where it is stored, then without light and keeps_seq; NULL: it is here. */
    struct headfile *file;
    uint64_t at;
    uint32_t head_bytes;
    /* Here: chunk of column c: data + off[c] .. off[c + 1]; empty: all absent. The timestamps are in
     * off[n_cols] .. off[n_cols + 1]. Then, if keeps_seq, each row's seq less seq_first; then data.
     * Stored: nothing or, with has_map, a bit for each column that has samples. */
    uint32_t off[];
};

static inline const uint8_t *seal_data(const struct seal *s)
{
    return (const uint8_t *)(s->off + s->n_cols + 2 + (s->keeps_seq ? s->n_rows : 0));
}
/* The column has samples. */
static inline bool seal_has(const struct seal *s, uint32_t col)
{
    if (col >= s->n_cols)
        return false;
    if (s->file)
        return !s->has_map || (s->off[col / 32] >> col % 32 & 1);
    return s->off[col] != s->off[col + 1];
}

size_t seal_bytes(const struct seal *s); /* in memory */
/* How many of its rows, from the first, were appended up to `seq`. */
uint32_t seal_rows_up_to(const struct seal *s, uint64_t seq);
struct seal *seal_ref(struct seal *s);
void seal_unref(struct seal *s); /* accepts NULL */

/* n_rows values. A stored seal is read through the cache: NX_CORRUPT, NX_IO. */
NX_NODISCARD nx_status seal_times(const struct seal *s, int64_t *t, struct chunk_scratch *scratch,
                                  struct nx_err *err);
/* All absent where the column has no chunk. */
NX_NODISCARD nx_status seal_column(const struct seal *s, uint32_t col, double *v,
                                   struct chunk_scratch *scratch, struct nx_err *err);

/* A seal in the making: columns are added in turn, from 0, then the timestamps. */
struct sealing {
    struct work *w;
    uint32_t n_rows, n_cols;
    bool light, keeps_seq;
};
NX_NODISCARD nx_status sealing_begin(struct sealing *b, uint32_t n_rows, uint32_t n_cols,
                                     struct nx_err *err);
/* digits: after the point, what the column is known for, if it is to be light; 0: nothing is known. */
NX_NODISCARD nx_status sealing_column(struct sealing *b, uint32_t col, const double *v,
                                      unsigned digits, struct nx_err *err);
/* Numbers, sequence and what else only the caller knows are zero. */
NX_NODISCARD nx_status sealing_end(struct sealing *b, const int64_t *t, struct seal **out,
                                   struct nx_err *err);

/* One seal of chunks of the rows of all n, in memory; numbers and the like are those of the run. */
NX_NODISCARD nx_status seal_join(struct seal *const *v, uint32_t n, struct work *w,
                                 struct seal **out, struct nx_err *err);
/* What stays in memory of `s`, which is stored at `at` of `f`. NULL out of memory. */
struct seal *seal_stored_at(const struct seal *s, struct headfile *f, uint64_t at,
                            uint32_t head_bytes);
