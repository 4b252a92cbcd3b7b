/* group.h - rows of one writer in memory: an open tail, and sealed spans of coded columns.
 *
 * A row is one allocation: a timestamp and a double per column, CHUNK_ABSENT where there is no sample.
 * After at most GROUP_TAIL_ROWS rows, or when a row begins another block's span, the tail is sealed: each column
 * becomes a few bytes, the timestamps one vector for all, everything in one allocation. Such light seals
 * are joined into ones of chunks later, by the worker. Seals are shared by reference, so that readers
 * decode without a lock; their numbers rise.
 *
 * Rows lie in the order they were accepted and are numbered in that order, from 0, as long as the group
 * lives, restarts included: by its number a row is known in memory, in the log and in chunk files. Each
 * series' samples ascend in time, rows may not: a row may be older than the one before if its series are
 * others.
 *
 * Owner    the head keeps groups in slots and frees them when closed and empty.
 * Threads  *_locked need g->lock. A seal is immutable. */
#pragma once

#include "src/base/thread.h"
#include "storage/samples.h"
#include "storage/seal.h"
#include "storage/storage.h"
#include "storage/wal_pack.h"

#define GROUP_TAIL_ROWS 8u /* raw: eight bytes each a series; sealed, three or so */

/* Numbers of rows are of 32 bits, some of which say something else: at a row a second those last for 68 years.
 * Whoever is faster opens another group in time. */
#define GROUP_MAX_ROWS (UINT32_MAX / 2 - 1)

struct head;

struct row {
    int64_t t_ms;
    uint64_t seq; /* of the append, head-wide and rising; given by group_push_locked() */
    uint32_t n;   /* columns that the group had then; the rest are absent */
    double v[];
};

enum col_state { COL_FREE, COL_OWN, COL_SHARED };

struct col {
    uint32_t series; /* COL_FREE: the one it had */
    uint32_t from;   /* number of the first row it is bound for; COL_SHARED: place in `shared` */
    uint8_t state;
};

struct free_col {
    uint32_t col;
    uint32_t row; /* may be bound anew once the rows before this one are sealed */
};

/* A column was another series's for rows [from, to), of which some are not in a chunk file yet. */
struct past {
    uint32_t col, series, from, to;
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
    wal_pack_state *states; /* parallel to cols: of the rows in the log */
    uint32_t n_cols, cap_cols;
    struct free_col *free_cols; /* row ascends */
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
    uint32_t sealed;   /* rows before this are in seals; the tail begins here */
    uint32_t next_row; /* number of the row to come */
    bool rebound;      /* a column was bound to another series since the last seal */
    bool all_own;      /* every column is COL_OWN; false: not known */
    int64_t newest_ms; /* rows after this need no look at their series */
    struct inherited *inherited;
    uint32_t n_inherited, cap_inherited;
    struct past *past; /* by `to` */
    uint32_t n_past, cap_past;

    uint32_t wal_segment; /* that defines the group and holds its last row */
    uint32_t *undefined;  /* columns that it does not define yet */
    uint32_t n_undefined, cap_undefined;
    uint32_t tail_segment; /* that holds the tail's first row */
    uint32_t in_file;      /* chunk file that defines the group, as of row in_file_row; 0: none */
    uint32_t in_file_row;
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
/* Columns up to n exist, new ones without a series: for a start. NX_CORRUPT: no group has so many. */
NX_NODISCARD nx_status group_cols_room(struct storage_group *g, uint32_t n, struct nx_err *err);
/* The given column, as a replay has it. */
NX_NODISCARD nx_status group_bind_at_locked(struct storage_group *g, uint32_t series, uint32_t col,
                                            struct nx_err *err);
/* NX_NOMEM: it is free, but its number never comes back. */
nx_status group_free_col_locked(struct storage_group *g, uint32_t col, struct nx_err *err);
/* Gives a freed column that still stands for `series` back to it. */
bool group_take_back_locked(struct storage_group *g, uint32_t series, uint32_t col);
NX_NODISCARD nx_status group_inherit_locked(struct storage_group *g, uint32_t col, int64_t t_ms,
                                            double v, struct nx_err *err);

/* The newest sample in `col` of rows [from, to), or inherited by that column when it was bound at `from`. */
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
/* Takes the row, which becomes visible to readers that see `seq` and lies in that segment of the log. */
void group_push_locked(struct storage_group *g, struct row *row, uint64_t seq, uint32_t segment);
/* The tail is to be sealed. Not all groups' after the same round of rows: what the tails of many groups
 * take together would go up and down. */
static inline bool group_tail_is_full(const struct storage_group *g)
{
    return g->n_rows >= GROUP_TAIL_ROWS || (g->next_row + g->slot) % GROUP_TAIL_ROWS == 0;
}
/* Turns the tail into a seal; nothing to do without rows. NX_NOMEM leaves the tail as it is, which is no
 * harm: it is tried again. */
nx_status group_seal_locked(struct storage_group *g, struct nx_err *err);

/* Runs of seals that are to become one: not stored ones, of rows that every reader sees, neighbours. */
#define GROUP_RUN_MAX 64u
/* The first run from row `from` on that is worth storing; with `all` any. *n 0: there is none. Takes references. */
void group_take_run_locked(struct storage_group *g, uint32_t from, bool all,
                           struct seal *run[GROUP_RUN_MAX], uint32_t *n);
/* Puts `by` (taken) where the seals of its rows were. False, and nothing has changed: they are gone. */
bool group_replace_rows_locked(struct storage_group *g, struct seal *by);
/* Joins runs in memory, without storing them: for a disk that takes nothing. Takes and gives back g->lock;
 * codes without it. */
NX_NODISCARD nx_status group_join_seals(struct storage_group *g, struct nx_err *err);
/* Rows were stored or dropped: forgets what only unstored rows need. */
void group_settle_locked(struct storage_group *g);
/* The oldest segment of the log with a row, not older than from_ms, that is nowhere else on disk;
 * UINT32_MAX: it needs none. */
uint32_t group_log_needed_locked(const struct storage_group *g, int64_t from_ms);
/* Remembers whose the column was for rows before `to`, before it becomes another series's. */
NX_NODISCARD nx_status group_remember_locked(struct storage_group *g, uint32_t col, uint32_t to,
                                             struct nx_err *err);
/* Drops seals whose rows are all older than before_ms. */
void group_drop_locked(struct storage_group *g, int64_t before_ms);
/* Number of the oldest row held, or of the one to come. */
uint32_t group_oldest_locked(const struct storage_group *g);
bool group_empty_locked(const struct storage_group *g);
