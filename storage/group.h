/* group.h - rows of one writer in memory: an open tail, and sealed spans of coded columns.
 *
 * A row is one allocation: a timestamp and a double per column, CHUNK_ABSENT where there is no sample.
 * After GROUP_TAIL_ROWS rows, or when a row begins another block's span, the tail is sealed: each column
 * becomes a few bytes, the timestamps one vector for all, everything in one allocation. Such light seals
 * are joined into ones of chunks later, by the worker. Seals are shared by reference, so that readers
 * decode without a lock; their numbers rise.
 *
 * Rows lie in the order they were accepted. Each series' samples ascend in time, rows may not: a row may
 * be older than the one before if its series are others.
 *
 * Owner    the head keeps groups in slots and frees them when closed and empty.
 * Threads  *_locked need g->lock. A seal is immutable. */
#pragma once

#include <stdatomic.h>

#include "src/base/thread.h"
#include "storage/chunk.h"
#include "storage/samples.h"
#include "storage/storage.h"

#define GROUP_TAIL_ROWS 16u

struct head;

struct row {
    int64_t t_ms;
    uint64_t seq; /* of the append, head-wide and rising; given by group_push_locked() */
    uint32_t n;   /* columns that the group had then; the rest are absent */
    double v[];
};

struct seal {
    atomic_uint refs;
    uint32_t first, last;         /* numbers: one seal, or a run of them joined */
    uint64_t seq_first, seq_last; /* of its rows' appends */
    uint32_t n_rows, n_cols;
    int64_t min_ms, max_ms;
    bool ascending; /* timestamps do, strictly */
    bool light;     /* columns by wal_row_encode_column(), not yet chunks */
    bool keeps_seq; /* some reader did not see all of it when it was made */
    /* A column changed its series before this seal: not to be joined with earlier ones. */
    bool rebound;
    /* Chunk of column c: data + off[c] .. off[c + 1]; empty: all absent. The timestamps are in
     * off[n_cols] .. off[n_cols + 1]. Then, if keeps_seq, each row's seq less seq_first; then data. */
    uint32_t off[];
};
static inline const uint8_t *seal_data(const struct seal *s)
{
    return (const uint8_t *)(s->off + s->n_cols + 2 + (s->keeps_seq ? s->n_rows : 0));
}
size_t seal_bytes(const struct seal *s);
/* How many of its rows, from the first, were appended up to `seq`. */
uint32_t seal_rows_up_to(const struct seal *s, uint64_t seq);
struct seal *seal_ref(struct seal *s);
void seal_unref(struct seal *s); /* accepts NULL */
NX_NODISCARD nx_status seal_times(const struct seal *s, int64_t *t, struct chunk_scratch *scratch,
                                  struct nx_err *err);
/* n_rows values; all absent where the column has no chunk. */
NX_NODISCARD nx_status seal_column(const struct seal *s, uint32_t col, double *v,
                                   struct chunk_scratch *scratch, struct nx_err *err);

enum col_state { COL_FREE, COL_OWN, COL_SHARED };

struct col {
    uint32_t series; /* COL_FREE: the one it had */
    uint32_t from;   /* number of the first seal it is bound for; COL_SHARED: place in `shared` */
    uint8_t state;
};

struct free_col {
    uint32_t col;
    uint32_t seq; /* may be bound anew once this seal is made */
};

/* The newest sample that a series has elsewhere, for the order rules. */
struct inherited {
    uint32_t col, from; /* as bound */
    int64_t t_ms;
    double v;
};

struct storage_group {
    struct head *head; /* set once */
    uint32_t slot;     /* set once */
    uint32_t wal_id;   /* set once; never given again */
    bool loose;        /* set once: its own columns' samples are kept by loose.c; it has no rows */
    struct nx_mutex *lock; /* own, or the head's shared_lock for a group of a shared series */
    struct nx_mutex own;

    /* under lock */
    struct col *cols;
    uint8_t *hints; /* parallel to cols */
    uint32_t n_cols, cap_cols;
    struct free_col *free_cols; /* seq ascends */
    uint32_t n_free, cap_free;
    struct storage_group **shared; /* where COL_SHARED columns go; NULL: an unused place */
    uint32_t n_shared, cap_shared;
    uint32_t users; /* of the group of a shared series: columns that lead here */

    struct row **rows; /* the tail */
    uint32_t n_rows, cap_rows;
    struct row
        *last; /* the newest row, in the tail or kept after sealing; the log tells against it */
    struct seal **seals;
    uint32_t n_seals, cap_seals;
    uint32_t seq;      /* number of the seal that the tail will be */
    bool rebound;      /* a column was bound to another series since the last seal */
    int64_t newest_ms; /* rows after this need no look at their series */
    struct inherited *inherited;
    uint32_t n_inherited, cap_inherited;

    uint32_t wal_segment; /* that defines the group and holds its last row */
    uint32_t *undefined;  /* columns that it does not define yet */
    uint32_t n_undefined, cap_undefined;
    uint64_t wal_epoch; /* syncs of the log done when the newest seal was made */
    bool closed;
};

/* lock NULL: its own. */
struct storage_group *group_new(struct head *h, uint32_t slot, uint32_t wal_id,
                                struct nx_mutex *lock);
void group_free(struct storage_group *g); /* accepts NULL */

/* The writer is done: seals what there is and frees what only a writer needs. */
void group_close_locked(struct storage_group *g);

/* A free or new column for `series`; COL_OWN. */
NX_NODISCARD nx_status group_bind_locked(struct storage_group *g, uint32_t series, uint32_t *col,
                                         struct nx_err *err);
/* The given column, as a replay has it. */
NX_NODISCARD nx_status group_bind_at_locked(struct storage_group *g, uint32_t series, uint32_t col,
                                            struct nx_err *err);
/* NX_NOMEM: it is free, but its number never comes back. */
nx_status group_free_col_locked(struct storage_group *g, uint32_t col, struct nx_err *err);
/* Gives a freed column that still stands for `series` back to it. */
bool group_take_back_locked(struct storage_group *g, uint32_t series, uint32_t col);
NX_NODISCARD nx_status group_inherit_locked(struct storage_group *g, uint32_t col, int64_t t_ms,
                                            double v, struct nx_err *err);

/* The newest sample in `col` of seals from..to (the tail is seal g->seq), or inherited by that column
 * when it was bound at `from`. */
NX_NODISCARD nx_status group_newest_locked(struct storage_group *g, uint32_t col, uint32_t from,
                                           uint32_t to, bool *found, int64_t *t_ms, double *v,
                                           struct nx_err *err);

enum verdict { SAMPLE_TAKE, SAMPLE_SAME, SAMPLE_DUPLICATE, SAMPLE_OLD };
NX_NODISCARD nx_status group_judge_locked(struct storage_group *g, uint32_t col, int64_t t_ms,
                                          double v, enum verdict *verdict, struct nx_err *err);

/* All absent. NULL out of memory. */
struct row *group_row_new(int64_t t_ms, uint32_t n);
/* Room for one more row, so that group_push_locked() can't fail. */
NX_NODISCARD nx_status group_room_locked(struct storage_group *g, struct nx_err *err);
/* Takes the row, which becomes visible to readers that see `seq`. */
void group_push_locked(struct storage_group *g, struct row *row, uint64_t seq);
/* Turns the tail into a seal; nothing to do without rows. NX_NOMEM leaves the tail as it is, which is no
 * harm: it is tried again. */
nx_status group_seal_locked(struct storage_group *g, struct nx_err *err);
/* Joins runs of small seals, of rows that every reader sees, into one. Takes and gives back g->lock; codes without it. */
NX_NODISCARD nx_status group_join_seals(struct storage_group *g, struct nx_err *err);
/* Drops seals whose rows are all older than before_ms. */
void group_drop_locked(struct storage_group *g, int64_t before_ms);
/* Number of the oldest seal held, or of the tail. */
uint32_t group_oldest_locked(const struct storage_group *g);
bool group_empty_locked(const struct storage_group *g);
