/* wal.h - the write-ahead log: what a restart rebuilds the newest rows from.
 *
 * The log keeps frames of bytes in numbered segments and knows nothing of what they mean; the caller
 * says which segments it needs no more. wal_pack.h codes rows.
 * A segment must make sense on its own: whoever writes asks wal_segment(), says again in the new
 * segment what its frames rely on, and names the segment when writing.
 *
 * Owner    one log per storage: storage_open() opens it, storage_close() closes it.
 * Threads  wal_segment(), wal_write(): any writer. wal_sync(), wal_rotate(), wal_truncate(): one thread
 *          at a time (who has the turn, sync.c). wal_get_stats(): any.
 * Units    sizes in bytes, times in ms. On disk: FORMAT.md, "The log". */
#pragma once

#include "src/base/alarm.h"
#include "src/base/fs.h"

#define WAL_SEGMENT_BYTES_DEFAULT (4u << 20)

struct wal;
struct wal_opts {
    struct fs *fs;        /* borrowed; outlives the log */
    const char *dir;      /* copied; made if missing, its parent is the caller's to sync */
    size_t segment_bytes; /* 0: the default; wal_full() is true from here on */
};

/* Sees one frame during replay, oldest first; `payload` is valid during the call. NX_CORRUPT means that the
 * bytes make no sense: they are treated as damage. Any other failure ends the replay. */
typedef nx_status wal_visit_fn(void *ctx, uint32_t segment, uint8_t type, struct nx_slice payload,
                               struct nx_err *err);

/* Opens or creates the log, replays it through `visit` and begins a new segment. A torn tail is cut;
 * damage is set aside as NAME.damaged and the rest replayed. Without space for the new segment the
 * log opens all the same and wal_write() tries again. */
NX_NODISCARD nx_status wal_open(struct wal **out, const struct wal_opts *opts, wal_visit_fn *visit,
                                void *ctx, struct nx_err *err);
void wal_close(struct wal *w); /* accepts NULL; does not sync */

/* Once, before others write: `unsynced` is set to unsynced_ms when a frame is written and all before it is
 * on disk; `full` is rung when a frame makes wal_full() true. Both borrowed until the log is closed. */
void wal_watch(struct wal *w, struct nx_alarm *unsynced, int64_t unsynced_ms,
               struct nx_alarm *full);

/* Appends a frame to `to`: payload as it is or, if that saves an eighth, by LZ4. `type` is 1..127.
 * Failures show in buf_status(to). */
void wal_frame(struct buf *to, uint8_t type, struct nx_slice payload);

/* The same, always as it is: for a payload that LZ4 has nothing to find in. */
void wal_frame_plain(struct buf *to, uint8_t type, struct nx_slice payload);

/* The segment that frames now go to. */
uint32_t wal_segment(const struct wal *w);
/* Appends whole frames made for `segment`. Once it returns NX_OK they survive kill -9; power loss only
 * after the next wal_sync(). NX_CANCELED: the segment has changed, make them again. NX_NOSPACE, NX_IO
 * leave the log as it was: the caller may try again. */
NX_NODISCARD nx_status wal_write(struct wal *w, uint32_t segment, struct nx_slice frames,
                                 struct nx_err *err);

/* The newest segment is large enough. */
bool wal_full(const struct wal *w);
void wal_set_segment_bytes(struct wal *w, size_t bytes); /* the worker */
/* Everything written before the call is on disk after it. After NX_IO what is on disk is unknown:
 * the caller rotates and writes again what it can't lose. */
NX_NODISCARD nx_status wal_sync(struct wal *w, struct nx_err *err);
/* Frames were written since the last sync began. Any thread. */
bool wal_unsynced(struct wal *w);
/* Begins a new segment, then syncs the old one (which may fail as wal_sync does, with *moved true). */
NX_NODISCARD nx_status wal_rotate(struct wal *w, bool *moved, struct nx_err *err);
/* Unlinks segments before `segment`, but not the newest. */
NX_NODISCARD nx_status wal_truncate(struct wal *w, uint32_t segment, struct nx_err *err);

struct wal_stats {
    uint64_t bytes; /* on disk, all segments */
    uint32_t segment;
    uint64_t fsyncs, corruptions, truncations, append_failures;
    uint64_t lost_bytes; /* cut or set aside at replay */
    uint64_t written_bytes;
};
void wal_get_stats(struct wal *w, struct wal_stats *out);
