/* storage_impl.h - what storage.c, querier.c, flush.c and retention.c share: the store itself.
 *
 * Owner    storage_open() and storage_close().
 * Threads  as the comments at the fields say. The worker is the thread that runs storage_tick(). */
#pragma once

#include "src/base/alarm.h"
#include "storage/block.h"
#include "storage/head.h"
#include "storage/keep_rules.h"

struct store_querier;

struct storage {
    /* set once */
    struct fs *fs;
    char *dir;
    int64_t block_ms, max_block_given_ms, fsync_ms;
    struct head *head;
    struct wal *wal;
    struct headfiles *files; /* of the head's chunks */
    size_t segment_bytes;    /* 0: as suits the number of series */
    struct cache *cache;
    size_t cache_bytes;    /* what it may be when memory is plenty */
    struct memory *memory; /* NULL: no limit */
    struct exemplars *exemplars;
    struct fs_file *lockfile; /* NULL: none was asked for */
    struct fs *overlay;       /* NULL, or fs, which keeps changes in memory (readonly.c) */
    struct nx_thread worker;
    bool has_worker;
    struct nx_alarm worker_alarm; /* not open without the thread; so is sync_alarm */
    atomic_bool stop;
    struct compactor *compactor;
    bool keep_overlapping; /* blocks that overlap stay as they are */

    struct nx_mutex tick_lock; /* whose turn the tick is: */
    struct nx_cond tick_over;
    bool ticking;
    /* of the one whose turn it is: the worker's own state */
    int64_t tick_ms, tick_ns; /* when this tick began, by its own clock and the steady one */
    int64_t synced_ms;        /* time of the last sync */
    int64_t joined_ms;
    int64_t rescanned_ms;          /* by the steady clock */
    int64_t trimmed_ns, tidied_ns; /* by the steady clock */
    enum memory_level level_told;
    int64_t relog_after_ms; /* no new segment before this: the disk fails */
    int64_t store_after_ms; /* no chunk file before this: the disk fails */
    uint32_t store_up_to;   /* segments of the log up to this one are to be emptied */
    bool rotate_files;      /* the next chunks are of another span: they begin a file */
    bool flush_waits; /* a block could not be written: another has the turn, or the disk fails */
    bool memory_near; /* so much is used that the next tick may have to do something */
    bool relog_due;   /* rows after relog_epoch are to be written again */
    uint64_t relog_epoch;
    int64_t
        drop_before_ms; /* rows to drop from the head when no reader needs them; INT64_MIN: none */
    bool disk_unknown;  /* the size of the disk could not be had; that was said */
    bool late_written;  /* late samples are in blocks and wait for the readers opened before: */
    uint64_t late_written_at; /* n_entered then */
    int64_t late_flushed_ms;  /* when that was last done because there was so much */
    int64_t segment_span;     /* number of the block span that the newest segment began in */

    struct nx_mutex
        log_lock; /* NX_RANK_SYNC: whose turn it is to work on the log's files (sync.c) */
    struct nx_cond log_free;
    bool log_busy;
    uint64_t sync_asked, sync_done, sync_failed; /* numbers of those that wait for a sync */
    struct nx_err sync_error;
    struct nx_thread syncer;
    bool has_syncer;
    struct nx_alarm sync_alarm;
    atomic_bool stop_syncing;
    atomic_bool sync_trouble; /* a sync failed since the worker's last that did not */

    struct nx_mutex
        lock; /* NX_RANK_BLOCKS: the list of blocks, the open queriers, retention, counts */
    struct block **blocks; /* by min_ms */
    size_t n_blocks, cap_blocks;
    uint64_t replaced;    /* counts blocks_replace() */
    int64_t head_from_ms; /* rows of the head before this are in blocks: new readers skip them */
    struct store_querier *queriers; /* a list of the open ones */
    uint64_t n_entered;             /* queriers that were ever opened */
    struct storage_retention retention;
    struct keep_rules *rules; /* NULL: none; owned, and whoever works by them has a reference */
    uint64_t rules_version;   /* counts changes of either */
    uint64_t rewrites, samples_expired, downsampled;
    char (*plain)[BLOCK_ULID_LEN + 1]; /* blocks that no points can be made of, by their names */
    size_t n_plain;
    int64_t max_block_ms; /* follows the retention, unless max_block_given_ms */
    uint64_t disk_bytes;  /* 0: not known */
    uint64_t compactions, compactions_failed, time_deletions, size_deletions;
    uint64_t loads_failed, set_aside;
    int64_t replay_ms;
    unsigned working;                  /* of enum storage_work, under way */
    uint64_t work_ticket, work_served; /* who waits for a turn has a number */
    struct nx_cond work_done;
    atomic_bool give_way; /* to the merge that is under way: somebody waits. Set under lock */
    atomic_bool no_admin; /* storage_stop_admin() */
};

/* pressure.c: the process's memory limit. */
void pressure_open(struct storage *s);
void pressure_close(struct storage *s); /* nobody tells shortages after it */
void pressure_tick(struct storage *s);
/* turns.c: what changes blocks, one of a kind at a time. A flush and a merge may go on together; a deletion
 * and a snapshot want neither. */
enum storage_work { WORK_FLUSH = 1, WORK_MERGE = 2 };
/* False when it, or who waits for it, must be let go first. */
NX_NODISCARD bool work_try(struct storage *s, unsigned what);
/* Waits for its turn; a merge under way is asked to give way. */
void work_take(struct storage *s, unsigned what);
void work_give(struct storage *s, unsigned what);

/* delete.c */
char *
delete_note_path(const struct storage *s); /* what is deleted in the head; malloc'ed, or NULL */
/* The blocks of the list, with references; end with blocks_list_done(). */
NX_NODISCARD nx_status blocks_list(struct storage *s, struct block ***out, size_t *n_out,
                                   struct nx_err *err);
void blocks_list_done(struct block **v, size_t n);
bool blocks_has(struct storage *s, const struct block *b); /* it is in the list still */

/* snapshot.c: removes what a crash left of one. */
void snapshots_clean(struct storage *s);

/* ticker.c */
NX_NODISCARD nx_status ticker_open(struct storage *s, struct nx_err *err);
void ticker_close(struct storage *s);
/* There is something to do for the tick. Any thread, under any lock; nothing in a store without a worker. */
void storage_ring(struct storage *s);
/* By the worker, after a tick: it is to look again soon. */
bool storage_waits(struct storage *s);

/* sync.c: with the turn the log may be synced, rotated and truncated. */
void log_turn_take(struct storage *s);
void log_turn_give(struct storage *s);
NX_NODISCARD nx_status sync_open(struct storage *s, bool thread, struct nx_err *err);
void sync_close(struct storage *s);

/* querier.c */
/* Some open reader still needs rows of the head before `before_ms`. */
bool storage_is_read_before(struct storage *s, int64_t before_ms);
/* Some open reader was among the first n_entered ones. */
bool storage_is_open_since(struct storage *s, uint64_t n_entered);

/* flush.c: rows of whole spans become blocks. */
/* The floor that the head's own blocks give; INT64_MIN if there is none. Call with blocks open. */
NX_NODISCARD nx_status flush_recover(struct storage *s, int64_t *floor_ms, struct nx_err *err);
/* Writes the oldest span that is due, if one is. *wrote tells. */
NX_NODISCARD nx_status flush_due(struct storage *s, bool *wrote, struct nx_err *err);
/* Writes late samples of spans whose block is there, if they have become many. */
NX_NODISCARD nx_status flush_late_due(struct storage *s, int64_t now_ms, bool *wrote,
                                      struct nx_err *err);
/* Writes what the reader sees in [start_ms, end_ms) as a block under `dir`; `late`: all of it came out of order.
 * *empty: that was nothing. */
NX_NODISCARD nx_status flush_write(struct storage *s, struct head_reader *head, const char *dir,
                                   int64_t start_ms, int64_t end_ms, bool late, const char *ulid,
                                   bool *empty, struct nx_err *err);
/* Drops what the last flush left to drop, once readers allow it. */
void flush_drop(struct storage *s);

/* retention.c */
NX_NODISCARD nx_status blocks_open(struct storage *s, struct nx_err *err);
NX_NODISCARD nx_status blocks_add(struct storage *s, const char *ulid, int64_t head_from_ms,
                                  struct nx_err *err);
/* Room for one more on the list, so that blocks_replace() of none need not ask for memory. */
NX_NODISCARD nx_status blocks_room(struct storage *s, struct nx_err *err);
/* Puts `b` (taken; NULL: nothing) into the list for the `n` blocks `old`, whose references the list gives up.
 * False, and nothing is changed, when one of them is not in the list any more. */
NX_NODISCARD bool blocks_replace(struct storage *s, struct block *const *old, size_t n,
                                 struct block *b);
/* Deletes the files of a block that was taken off the list (taken). `msg` is logged, unless NULL. */
void blocks_delete(struct storage *s, struct block *b, const char *msg);
/* What decides now; `rules` are the store's (borrowed until the lock is given up). */
struct keep retention_keep_locked(const struct storage *s);
/* coarse_plan.c. `v` are all blocks, under lock or referenced. */
/* The level that a block is to be kept at next; keep_n_levels(): none. */
size_t coarse_level_of(const struct keep *k, const struct block_meta *m);
/* All that `part` was made of went into `of`. */
bool coarse_is_part(const struct block_meta *part, const struct block_meta *of);
/* Points are to be made of a block and are not there; `soon`: only if its time has come. */
bool coarse_is_wanted(struct block *const *v, size_t n, const struct keep *k,
                      const struct block_meta *m, bool soon);
/* Asks for the size of the disk, if a bound depends on it. */
void retention_measure(struct storage *s);
void retention_run(struct storage *s);
