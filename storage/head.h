/* head.h - the newest samples, in memory: groups, the index over their series, the order rules.
 *
 * Owner    one head per storage.
 * Threads  see head.c; `lock` is the index lock of the program's lock order. */
#pragma once

#include "storage/group.h"
#include "storage/headfile.h"
#include "storage/index.h"
#include "storage/loose.h"
#include "storage/selections.h"
#include "storage/tombs.h"
#include "storage/wal.h"

/* Working memory for one append, seal or read; borrowed from the head for as long as it takes. */
struct work {
    struct work *next;
    struct chunk_scratch *scratch;
    struct buf data;            /* a seal in the making */
    struct buf frames, payload; /* for the log */
    double *v;
    int64_t *t;
    uint32_t cap_rows;
    uint32_t *off;
    size_t cap_off;
    struct staged *staged; /* rows judged and not yet visible */
    size_t n_staged, cap_staged;
};

struct head {
    struct wal *wal;         /* set once, after the replay; not owned */
    struct headfiles *files; /* the same */
    int64_t block_ms;        /* set once */
    struct storage *commit;  /* set once: an append waits for its sync; NULL: it does not */
    struct memory *memory;   /* set once; NULL: no limit */

    struct nx_rwlock lock; /* the four below, and the homes of series */
    struct index *ix;
    struct storage_group **groups; /* by slot; NULL: free */
    uint32_t n_groups, cap_groups;
    uint32_t *free_slots; /* as a stack; room for cap_groups */
    uint32_t n_free_slots;
    uint32_t next_wal_id;

    struct selections *selections; /* set once */
    struct nx_mutex shared_lock;   /* groups of series that several groups write */
    struct loose *loose;           /* set once: samples that are not in rows */

    struct nx_mutex pool_lock;
    struct work *pool;
    uint32_t n_pool;

    atomic_int_least64_t floor_ms; /* rows before this are in blocks: refused */
    atomic_int_least64_t max_ms;   /* INT64_MIN: nothing was ever appended */
    atomic_int_least64_t min_ms;   /* INT64_MAX: nothing is held; exact after head_drop() */
    atomic_uint_least64_t samples, duplicates, out_of_order, out_of_bounds;
    atomic_uint_least64_t series_created, series_removed;
    atomic_uint_least64_t seq;       /* appends so far */
    struct head_reader *readers;     /* a list of the open ones, under pool_lock */
    struct tombs *tombs;             /* by number of series, under pool_lock (head_tombs.c) */
    struct nx_alarm *worker;         /* set once; NULL: none. Rung when max_ms comes to: */
    atomic_int_least64_t ring_at_ms; /* INT64_MAX: not set */
    atomic_uint_least64_t wal_epoch; /* syncs of the log that succeeded */
};

NX_NODISCARD nx_status head_open(struct head **out, int64_t block_ms, struct nx_err *err);
void head_close(struct head *h); /* accepts NULL; all groups go, open ones too */

static inline int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* ---- working memory: any thread, under any storage lock --------------------------------------- */

struct work *head_work(struct head *h); /* NULL out of memory */
void head_work_back(struct head *h, struct work *w);
/* What nobody has borrowed gives its buffers up: new series and large seals made them grow. */
void head_work_tidy(struct head *h);
/* Room for n_rows in t and v, n_off in off. */
NX_NODISCARD nx_status work_room(struct work *w, size_t n_rows, size_t n_off, struct nx_err *err);

static inline uint64_t head_wal_epoch(const struct head *h)
{
    return atomic_load(&h->wal_epoch);
}

/* The number of an append. Taken under the locks of all groups it goes to. */
static inline uint64_t head_next_seq(struct head *h)
{
    return atomic_fetch_add(&h->seq, 1) + 1;
}
/* Appends up to this one are seen by every reader, those to come included. */
uint64_t head_seen_by_all(struct head *h);

/* ---- groups ---------------------------------------------------------------------------------- */

/* wal_id 0: a new one. Under h->lock for writing. */
NX_NODISCARD nx_status head_new_group_locked(struct head *h, uint32_t wal_id, struct nx_mutex *lock,
                                             struct storage_group **out, struct nx_err *err);
/* Appends and replay: raises max_ms, lowers min_ms; rings for the worker (ring_at_ms). */
void head_saw(struct head *h, int64_t t_ms);
/* Samples before this are out of bounds. */
int64_t head_min_valid(const struct head *h);

/* A start: first what chunk files say (head_load.c), then the log's frames (head_replay.c). */
struct replay;
NX_NODISCARD nx_status replay_open(struct replay **out, struct head *h, struct nx_err *err);
struct headfile_visitor replay_headfiles(struct replay *r);
/* All chunk files were seen. */
NX_NODISCARD nx_status replay_headfiles_end(struct replay *r, struct nx_err *err);
nx_status replay_visit(void *ctx, uint32_t segment, uint8_t type, struct nx_slice payload,
                       struct nx_err *err);
/* Ends the replay: its groups are closed, their series wait for new writers. */
void replay_close(struct replay *r);             /* accepts NULL */
uint64_t replay_samples(const struct replay *r); /* of the log */

/* Writes what is in memory and may not have reached the disk into the log's newest segment again: after
 * a failed sync (head_append.c). */
NX_NODISCARD nx_status head_relog(struct head *h, uint64_t epoch, struct nx_err *err);

/* ---- reading (head_read.c) -------------------------------------------------------------------- */

/* What one reader keeps from read to read. */
struct head_reader;
NX_NODISCARD nx_status head_reader_new(struct head_reader **out, struct head *h,
                                       struct nx_err *err);
/* One more that sees exactly what `r` sees, for another thread; freed before `r` is. NULL: out of memory. */
struct head_reader *head_reader_beside(struct head_reader *r);
void head_reader_free(struct head_reader *r); /* accepts NULL */
/* Rows before from_ms are not seen, and of loose samples, if `pending`, not those that blocks have. */
void head_reader_skip(struct head_reader *r, int64_t from_ms, bool pending);
/* As the querier operations of the same name; `most`: as select_some; `only` (may be NULL): as select_for. Series
 * without samples in the range may be left out. */
NX_NODISCARD nx_status head_select(struct head_reader *r, const struct matcher *m, size_t n,
                                   int64_t mint, int64_t maxt, size_t most,
                                   const struct label_names *only, struct arena *a,
                                   struct series_list *out, struct nx_err *err);
NX_NODISCARD nx_status head_label_names(struct head_reader *r, const struct matcher *m, size_t n,
                                        int64_t mint, int64_t maxt, size_t limit, struct arena *a,
                                        struct nx_slice **out, size_t *n_out, struct nx_err *err);
NX_NODISCARD nx_status head_label_values(struct head_reader *r, struct nx_slice name,
                                         const struct matcher *m, size_t n, int64_t mint,
                                         int64_t maxt, size_t limit, struct arena *a,
                                         struct nx_slice **out, size_t *n_out, struct nx_err *err);
/* Appends the samples of series `id` in [mint, maxt]; none when it is gone. A reader sees what was
 * appended before it was made. */
NX_NODISCARD nx_status head_read(struct head_reader *r, uint32_t id, int64_t mint, int64_t maxt,
                                 struct samples *to, struct nx_err *err);

/* The same for a series as head_select() of this reader gave it, without a copy: valid as long as the reader.
 * False: it is to be read by itself. With `newest` the newest sample is all that is wanted. `share` (may be NULL)
 * counts what is allocated. Several threads at a time, beside a head_select(). */
bool head_read_together(struct head_reader *r, const struct series *s, int64_t mint, int64_t maxt,
                        bool newest, struct arena_share *share, struct column *c);
/* As head_read(), deleted samples included: for head_tombs.c. */
NX_NODISCARD nx_status head_read_all(struct head_reader *r, uint32_t id, int64_t mint, int64_t maxt,
                                     struct samples *to, struct nx_err *err);
const struct tombs *head_reader_tombs(const struct head_reader *r); /* NULL: none; the reader's */

/* All series with samples in the range, in label order; malloc'ed. For a flush. Deleted ones are among them. */
NX_NODISCARD nx_status head_sorted(struct head_reader *r, int64_t mint, int64_t maxt,
                                   uint32_t **ids, size_t *n, struct nx_err *err);
/* Labels of one series, copied; NX_NOTFOUND when it is gone. */
NX_NODISCARD nx_status head_labels(struct head_reader *r, uint32_t id, struct arena *a,
                                   struct labels *out, struct nx_err *err);

/* ---- deleting (head_tombs.c): one thread at a time ---------------------------------------------- */

/* Hides what the head has now in [mint, maxt] of the series that match. `path` is the note that a restart
 * reads: it is published anew before readers see the change. Samples to come are not hidden. On failure
 * nothing has changed, but for what a restart may then find deleted. */
NX_NODISCARD nx_status head_delete(struct head *h, struct fs *fs, const char *path,
                                   const struct matcher *m, size_t n, int64_t mint, int64_t maxt,
                                   struct nx_err *err);
/* Reads the note, when all series are there. Damage is logged, and the note set aside. */
NX_NODISCARD nx_status head_tombs_load(struct head *h, struct fs *fs, const char *path,
                                       struct nx_err *err);
/* Forgets deletions of which the head holds nothing any more, after head_drop(). */
void head_tombs_prune(struct head *h, struct fs *fs, const char *path);
/* Leaves out of the list (whose refs are numbers of series) what has no sample in [mint, maxt] but deleted ones. */
NX_NODISCARD nx_status head_drop_dead(struct head_reader *r, int64_t mint, int64_t maxt,
                                      struct series_list *list, struct nx_err *err);

/* Label names (`name` NULL) or values of a name, of series that head_select() gives. */
NX_NODISCARD nx_status head_list_alive(struct head_reader *r, const struct nx_slice *name,
                                       const struct matcher *m, size_t n, int64_t mint,
                                       int64_t maxt, struct arena *a, struct nx_slice **out,
                                       size_t *n_out, struct nx_err *err);

/* ---- upkeep (head_gc.c): the worker ----------------------------------------------------------- */

/* Seals tails with rows before `before_ms` (INT64_MAX: all). */
NX_NODISCARD nx_status head_seal(struct head *h, int64_t before_ms, struct nx_err *err);
/* The lowest time not before `from_ms`; INT64_MAX if there is none. */
int64_t head_lowest(struct head *h, int64_t from_ms);
/* Drops rows before `before_ms`, series and groups that have nothing left, and gives memory back. */
void head_drop(struct head *h, int64_t before_ms);

struct head_counts {
    uint64_t groups; /* open ones */
    uint64_t seals, chunks, stored_chunks, rows, bytes;
};
void head_get_counts(struct head *h, struct head_counts *out);

/* ---- chunk files (head_store.c): the worker ----------------------------------------------------- */

/* Writes seals that are large enough, and everything that the log's segments up to `up_to` (0: none) are
 * kept for, to chunk files. `between` (may be NULL) is called now and then, without a lock. */
NX_NODISCARD nx_status head_store(struct head *h, uint32_t up_to, void (*between)(void *ctx),
                                  void *ctx, struct nx_err *err);
/* Joins small seals of all groups in memory: for a disk that takes nothing. */
NX_NODISCARD nx_status head_join(struct head *h, struct nx_err *err);
/* The first segment of the log that a start would need for rows not before from_ms; UINT32_MAX: none. */
uint32_t head_log_needed(struct head *h, int64_t from_ms);

/* ---- frame types of the log ------------------------------------------------------------------- */

enum {
    FRAME_GROUP = 1,
    FRAME_COLUMNS_V1 = 2,
    FRAME_ROW = 3,
    FRAME_LOOSE_SERIES = 4,
    FRAME_LOOSE = 5,
    FRAME_LOOSE_MARK = 6,
    FRAME_LOOSE_DONE = 7,
    FRAME_COLUMNS = 8,
    FRAME_PACKED = 9 /* a row */
};
