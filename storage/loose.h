/* loose.h - samples of the head that are not in rows: each with a time of its own, kept by series.
 *
 * Two kinds come here: samples out of order, of any series, and samples in order of a series that is
 * written by a loose group (storage_group_open_loose()), whose times it shares with no other. A series'
 * loose samples lie in a short sorted array and in seals, each of one block's span; the log has frames
 * of their own for them (loose_log.c). When the log wants to be shorter they go to chunk files, in batches
 * of many series (loose_store.c). Private to storage/.
 *
 * Owner    one per head: loose_new(), loose_free().
 * Threads  *_locked need loose->lock, which comes after a group's lock and shared_lock and before the
 *          log's. What does not say so takes it itself. A seal is immutable but for its flags.
 * Units    Unix milliseconds. */
#pragma once

#include <stdatomic.h>

#include "src/base/thread.h"
#include "src/base/buf.h"
#include "storage/chunk.h"
#include "storage/headfile.h"
#include "storage/samples.h"
#include "storage/storage.h"
#include "storage/wal.h"

struct head;
struct index;

#define LOOSE_TAIL 16u /* samples before they are sealed */

struct loose_sample {
    int64_t t_ms;
    double v;
    uint64_t seq; /* of the append, as of a row */
};

struct loose_seal {
    atomic_uint refs;
    uint32_t n, times_bytes, values_bytes;
    int64_t min_ms, max_ms;
    uint64_t seq_last;
    uint64_t wal_epoch;  /* syncs of the log done when it was made */
    uint32_t segment;    /* of the log, that holds its oldest sample */
    bool keeps_seq;      /* some reader did not see all of it when it was made */
    bool taken, written; /* under lock: a block is being made of it, was made of it */
    bool storing;        /* under lock: it is being written to a chunk file */
    uint64_t seq[];      /* n, if keeps_seq; then the times and the values as chunk.h codes them */
};

struct loose_series {
    uint32_t series;
    uint32_t segment; /* of the log that defines it and holds what log_ms and log_v say; 0: none */
    uint32_t since;   /* of the log: what v has is there from this segment on; if it has anything */
    uint32_t in_file; /* chunk file that defines it; the worker's */
    uint32_t n, cap, reserved;
    uint32_t n_seals, cap_seals;
    bool bound;        /* a loose group writes it */
    uint8_t hint;      /* wal_row_encode()'s */
    int64_t newest_ms; /* in order, here or elsewhere; INT64_MIN: none known */
    double newest;
    int64_t log_ms; /* of its last sample in that segment */
    double log_v;
    struct loose_sample *v; /* by time, each time once */
    struct loose_seal **seals;
};

/* A sample that was judged and waits for the log. */
struct loose_staged {
    struct loose_series *s;
    int64_t t_ms;
    double v;
    int64_t was_ms; /* what newest_ms and newest were before */
    double was;
    bool late; /* out of order */
};

struct loose {
    struct head *head;
    int64_t block_ms;     /* set once */
    struct nx_mutex lock; /* NX_RANK_LOOSE */

    /* under lock */
    struct loose_series **table; /* by number, open addressing; NULL: a hole */
    uint32_t mask, n;
    struct loose_staged *staged;
    size_t n_staged, cap_staged;
    uint64_t mark;                /* number of the last mark in the log */
    struct loose_batch **batches; /* in chunk files, by age */
    uint32_t n_batches, cap_batches;
    uint32_t needed;  /* the first segment of the log that is needed; UINT32_MAX: none */
    bool ask_needed;  /* it may be a later one */
    bool gone_untold; /* head/gone lacks some batches that are written */

    /* atomic: written under lock, read without as a hint */
    atomic_uint_least32_t count;          /* series and batches that are here */
    atomic_int_least64_t min_ms, max_ms;  /* of all samples; may be too wide */
    atomic_uint_least64_t samples, bytes; /* held, in memory; bytes of seals and arrays */
    atomic_int_least64_t window_ms;       /* out-of-order samples are taken this far back; 0: not */
    atomic_uint_least64_t appended, too_old; /* out of order: taken, refused by the window */
    /* How much older than the head's newest what is out of order was, taken or not: not cumulative. */
    atomic_uint_least64_t late[STORAGE_LATE_BOUNDS + 1], late_ms;
};

struct loose *loose_new(struct head *h, int64_t block_ms); /* NULL out of memory */
void loose_free(struct loose *l);                          /* accepts NULL */

/* ---- writing --------------------------------------------------------------------------------- */

/* A loose group begins to write `series`, whose newest sample elsewhere is told if it has one. */
NX_NODISCARD nx_status loose_bind(struct loose *l, uint32_t series, bool has_newest, int64_t t_ms,
                                  double v, struct nx_err *err);
void loose_unbind(struct loose *l, uint32_t series);
/* Raises t and v to the newest sample in order that is known here. */
NX_NODISCARD nx_status loose_newest(struct loose *l, uint32_t series, bool *found, int64_t *t_ms,
                                    double *v, struct nx_err *err);

enum loose_verdict { LOOSE_TAKEN, LOOSE_SAME, LOOSE_DUPLICATE, LOOSE_OLD, LOOSE_TOO_OLD };
/* Stages a sample out of order (of a series written by rows, or of any), unless the window says no.
 * max_ms: the head's newest when the append began. */
NX_NODISCARD nx_status loose_late_locked(struct loose *l, uint32_t series, int64_t t_ms, double v,
                                         int64_t max_ms, enum loose_verdict *verdict,
                                         struct nx_err *err);
/* Judges and stages a sample of a series that a loose group writes. low_ms: older ones are not in order. */
NX_NODISCARD nx_status loose_judge_locked(struct loose *l, uint32_t series, int64_t t_ms, double v,
                                          int64_t low_ms, int64_t max_ms,
                                          enum loose_verdict *verdict, struct nx_err *err);
/* What is staged becomes visible, as append `seq`; can't fail. */
void loose_publish_locked(struct loose *l, uint64_t seq);
/* What is staged is forgotten. */
void loose_undo_locked(struct loose *l);

/* ---- the log (loose_log.c) -------------------------------------------------------------------- */

/* Frames for what is staged, for `segment`; `t_ms` is the time that wal_write() will be told. `ix` is
 * NULL when the index is not locked: then NX_CANCELED if a series has to be defined. */
NX_NODISCARD nx_status loose_log_locked(struct loose *l, struct index *ix, uint32_t segment,
                                        int64_t t_ms, struct buf *frames, struct buf *payload,
                                        struct nx_err *err);
/* They are written: later ones are told against them. */
void loose_logged_locked(struct loose *l, uint32_t segment);
/* Writes what is in memory and may not have reached the disk again. With the index locked. */
NX_NODISCARD nx_status loose_relog(struct loose *l, struct index *ix, struct wal *wal,
                                   uint64_t epoch, struct nx_err *err);

struct loose_replay;
struct loose_replay *loose_replay_new(struct loose *l); /* NULL out of memory */
void loose_replay_free(struct loose_replay *r);         /* accepts NULL */
/* Segment `segment` calls the series of the index `id`. */
NX_NODISCARD nx_status loose_replay_define(struct loose_replay *r, uint32_t segment, uint32_t id,
                                           uint32_t series, struct nx_err *err);
/* False: it does not call any so. */
bool loose_replay_series(const struct loose_replay *r, uint32_t segment, uint32_t id,
                         uint32_t *series);
void loose_replay_forget(struct loose_replay *r); /* all that was defined */
/* The other frames of types FRAME_LOOSE_*; as replay_visit(). */
NX_NODISCARD nx_status loose_replay_visit(struct loose_replay *r, uint32_t segment, uint8_t type,
                                          struct reader *in, uint64_t *taken, struct nx_err *err);

/* ---- reading --------------------------------------------------------------------------------- */

/* There may be samples in the range. */
bool loose_overlaps(struct loose *l, int64_t mint, int64_t maxt);
bool loose_series_overlaps(struct loose *l, uint32_t series, int64_t mint, int64_t maxt);
/* Merges the samples of `series` up to append `seq` into to[first..), which ascends: of equal times the
 * one that was there, or came first, stays. `pending`: without what blocks have already. */
NX_NODISCARD nx_status loose_read(struct loose *l, uint32_t series, uint64_t seq, bool pending,
                                  int64_t mint, int64_t maxt, struct samples *to, size_t first,
                                  struct nx_err *err);

/* ---- into blocks ------------------------------------------------------------------------------ */

/* Seals what lies in [from_ms, before_ms), both the start of a span, and is in no block, and marks it as
 * taken: in memory and, unless wal is NULL, in the log. *any: there was something. The blocks to come must
 * cover all of that range: what is taken counts as being in them. */
NX_NODISCARD nx_status loose_take(struct loose *l, struct wal *wal, int64_t from_ms,
                                  int64_t before_ms, bool *any, struct nx_err *err);
/* It is in blocks (`done`), or it is not and will be taken again. The worker. */
void loose_taken(struct loose *l, struct wal *wal, bool done);
/* Starts of the block spans in which there is something taken, ascending; malloc'ed. */
NX_NODISCARD nx_status loose_taken_spans(struct loose *l, int64_t **starts, size_t *n,
                                         struct nx_err *err);
/* Frees series that nothing is held of and nobody writes; before that, if `written`, what is in blocks. */
void loose_drop(struct loose *l, bool written);
/* The series has samples here, or a writer. */
bool loose_holds(struct loose *l, uint32_t series);
/* The lowest time not before from_ms; INT64_MAX if there is none. */
int64_t loose_lowest(struct loose *l, int64_t from_ms);

struct loose_counts {
    uint64_t series, seals, samples, bytes; /* in memory */
    uint64_t batches, entries, stored;      /* in chunk files; samples of them */
};
void loose_get_counts(struct loose *l, struct loose_counts *out);

/* ---- into chunk files (loose_store.c): the worker ----------------------------------------------- */

/* Stores what the log's segments up to `up_to` are kept for. As head_store(). */
NX_NODISCARD nx_status loose_store(struct head *h, uint32_t up_to, void (*between)(void *ctx),
                                   void *ctx, struct nx_err *err);
/* The first segment of the log that a start needs; UINT32_MAX: none. */
uint32_t loose_log_needed(struct loose *l);
/* A chunk file has that batch (taken), found at a start. */
NX_NODISCARD nx_status loose_found(struct loose *l, struct loose_batch *b, struct nx_err *err);
/* Tells the chunk files which batches are in blocks, if they don't know. False: it failed. */
bool loose_tell_gone(struct loose *l);

/* ---- between loose.c, loose_log.c and loose_store.c ----------------------------------------------------------- */

/* Found or made. NULL out of memory. */
struct loose_series *loose_get_locked(struct loose *l, uint32_t series);
/* Decodes a seal; t and v have room for n. */
NX_NODISCARD nx_status loose_seal_read(const struct loose_seal *s, int64_t *t, double *v,
                                       struct chunk_scratch *scratch, struct nx_err *err);
NX_NODISCARD nx_status loose_stage_locked(struct loose *l, struct loose_series *s, int64_t t_ms,
                                          double v, bool late, struct nx_err *err);
NX_NODISCARD nx_status loose_take_locked(struct loose *l, int64_t from_ms, int64_t before_ms,
                                         bool *any, struct nx_err *err);
void loose_take_batches_locked(struct loose *l, int64_t from_ms, int64_t before_ms, bool *any);
void loose_taken_locked(struct loose *l, bool done);
/* What is in the array becomes seals. */
NX_NODISCARD nx_status loose_seal_all_locked(struct loose *l, struct loose_series *s,
                                             struct work *w, struct nx_err *err);
/* Adds samples of a seal to `to`, which ascends, and those in [mint, maxt] that appends up to `seq` brought. */
NX_NODISCARD nx_status loose_add_seal(const struct loose_seal *s, uint64_t seq, int64_t mint,
                                      int64_t maxt, struct work *w, struct samples *to,
                                      struct nx_err *err);
struct loose_seal *loose_seal_ref(struct loose_seal *s);
void loose_seal_unref(struct loose_seal *s);     /* accepts NULL */
void loose_widen(struct loose *l, int64_t t_ms); /* min_ms and max_ms; under the lock */
/* The newest sample of the series in batches; INT64_MIN: there is none. */
int64_t loose_stored_up_to_locked(const struct loose *l, uint32_t series);
/* Takes the seals that were stored, of one span, out of memory. */
void loose_stored_locked(struct loose *l, struct loose_series *s, int64_t span);
NX_NODISCARD bool loose_batches_room_locked(struct loose *l, uint32_t n);
void loose_add_batch_locked(struct loose *l, struct loose_batch *b); /* taken; there is room */
