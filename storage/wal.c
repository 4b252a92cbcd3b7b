/* wal.c - the write-ahead log.
 *
 * WHY     Rows reach a block hours after they came. Until then this log is their only copy outside
 *         memory.
 * SHAPE   Numbered segments, each a header and a run of frames (FORMAT.md, "The log").
 * RULES   W1  A frame is handed to the kernel before wal_write() returns.
 *         W2  A sync covers every frame of its segment before it. A full segment is synced when the next one is
 *             open, before another sync of the log; as each can be replayed alone, the order of the two on
 *             disk is of no account.
 *         W3  Replay leaves a segment at its first bad frame. If the file ends within that frame, or
 *             holds nothing but zeros from there, it is a torn tail: cut, counted. Anything else is
 *             damage: the rest is copied to NAME.damaged, then cut, counted; replay goes on with the
 *             next segment. A tail is cut only when its copy is safe.
 *         W4  Segments are unlinked oldest first, when the caller says that all their rows are elsewhere on
 *             disk. Each names the one before it, so that one that is missing in between is noticed.
 *         W5  A failed write leaves no trace: the place of the next frame does not move, so what was
 *             half written is written over, or cut at replay.
 * STATES  a file -> broken (a sync failed; frames go on to it, syncs fail) -> a new file
 *         no file (no space at open or at a rotation that failed) -> a file, as soon as a write succeeds
 *         in making one.
 * THREADS Writers hold wal.lock for one write: that is the point of the lock. One thread at a time, whose turn
 *         it is (sync.c), makes, syncs and unlinks segments, and syncs without the lock; nobody else
 *         closes a file, so the one it syncs stays open.
 * NOT     Retrying fsync after EIO: the kernel may have dropped the pages and report success. */
#include "storage/wal.h"

#include <lz4.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/limits.h"
#include "src/base/log.h"
#include "src/base/thread.h"
#include "storage/numbered.h"

#define MAGIC          0x4c57584eu /* "NXWL" */
#define VERSION        2u
#define HEADER_BYTES   20u
#define V1_BYTES       16u /* the header of version 1 */
#define TYPE_LZ4       0x80u
#define READ_BYTES     (256u << 10)
#define LZ4_MIN_BYTES  64u
#define MAX_FRAME_HEAD 12u /* type and length */

struct segment {
    uint32_t number;
    uint64_t bytes;
};

struct wal {
    struct fs *fs;                    /* set once */
    char *dir;                        /* set once */
    struct nx_alarm *unsynced, *full; /* set once; NULL: nobody wants to know */
    int64_t unsynced_ms;              /* set once */
    struct nx_mutex lock;
    /* under lock */
    struct fs_file *file; /* of the newest segment; NULL: none could be made */
    uint64_t off;         /* where the next frame goes */
    uint64_t synced;      /* the file is on disk up to here */
    bool broken;          /* a sync of the file failed: no other one can make it good */
    struct segment *segs; /* oldest first; the last is the newest */
    size_t n_segs, cap_segs;
    struct wal_stats stats;
    /* atomic: writers read it before they take the lock, which checks it again */
    atomic_uint_least32_t newest;
    atomic_size_t newest_bytes;
    atomic_size_t segment_bytes;
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "the log");
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* type, uvarint length, payload, CRC-32C of all that. By LZ4 the payload is uvarint raw length + block. */
void wal_frame(struct buf *to, uint8_t type, struct nx_slice payload)
{
    size_t start = to->len, bound = payload.len - payload.len / 8;
    int packed = 0;
    char *room = NULL;
    char *lz = NULL;

    if (payload.len >= LZ4_MIN_BYTES && payload.len <= (size_t)LZ4_MAX_INPUT_SIZE) {
        room = malloc(bound);
        if (room)
            packed = LZ4_compress_fast(payload.ptr, room, (int)payload.len, (int)bound, 1);
        if (packed > 0)
            lz = room;
    }
    buf_u8(to, lz ? type | TYPE_LZ4 : type);
    if (lz) {
        char head[10];
        struct buf raw = {head, 0, sizeof head, 0, NX_OK};
        buf_uvarint(&raw, payload.len);
        buf_uvarint(to, raw.len + (size_t)packed);
        buf_append(to, head, raw.len);
        buf_append(to, lz, (size_t)packed);
    } else {
        buf_uvarint(to, payload.len);
        buf_slice(to, payload);
    }
    free(room);
    if (to->failed == NX_OK)
        buf_u32le(to, crc32c(0, to->ptr + start, to->len - start));
}

void wal_frame_plain(struct buf *to, uint8_t type, struct nx_slice payload)
{
    size_t start = to->len;

    buf_u8(to, type);
    buf_uvarint(to, payload.len);
    buf_slice(to, payload);
    if (to->failed == NX_OK)
        buf_u32le(to, crc32c(0, to->ptr + start, to->len - start));
}

static nx_status unpack(struct nx_slice packed, struct buf *to, struct nx_err *err)
{
    struct reader r = reader_of(packed.ptr, packed.len);
    uint64_t raw = reader_uvarint(&r);
    char *room;
    int got;

    if (r.bad || raw > NX_LIMIT_WAL_RECORD_BYTES || raw > 256 * (uint64_t)reader_left(&r))
        return nx_fail(err, NX_CORRUPT, "a packed frame of a wrong length");
    buf_clear(to);
    room = buf_reserve(to, raw);
    if (!room)
        return buf_status(to, err);
    got = LZ4_decompress_safe((const char *)r.ptr, room, (int)reader_left(&r), (int)raw);
    if (got < 0 || (uint64_t)got != raw)
        return nx_fail(err, NX_CORRUPT, "a packed frame that does not unpack");
    to->len = raw;
    return NX_OK;
}

/* ---- making segments ------------------------------------------------------------------------- */

static bool room_for_segment(struct wal *w)
{
    if (w->n_segs < w->cap_segs)
        return true;
    size_t cap = w->cap_segs * 2 + 8;
    struct segment *segs = realloc(w->segs, cap * sizeof *segs);
    if (!segs)
        return false;
    w->segs = segs;
    w->cap_segs = cap;
    return true;
}

static nx_status write_header(struct wal *w, struct fs_file *f, uint32_t number, uint32_t before,
                              struct nx_err *err)
{
    uint8_t h[HEADER_BYTES] = {0};
    size_t wrote;

    put_u32le(h, MAGIC);
    put_u16le(h + 4, VERSION);
    put_u32le(h + 8, number);
    put_u32le(h + 12, before);
    put_u32le(h + 16, crc32c(0, h, 16));
    return w->fs->pwrite(w->fs, f, h, sizeof h, 0, &wrote, err);
}

/* Makes the file of segment `number`, header written, name and header synced. `before` is the segment
 * before it, 0 if there is none. */
static nx_status make_segment(struct wal *w, uint32_t number, uint32_t before, struct fs_file **out,
                              struct nx_err *err)
{
    nx_status st;
    struct fs_file *f = NULL;
    char *path = numbered_path(w->dir, number, "");

    if (!path)
        return no_memory(err);
    st = w->fs->open(w->fs, path, FS_READ | FS_WRITE | FS_CREATE | FS_TRUNCATE, &f, err);
    if (!st)
        st = write_header(w, f, number, before, err);
    if (!st)
        st = w->fs->sync(w->fs, f, err);
    if (!st)
        st = w->fs->sync_dir(w->fs, w->dir, err);
    if (!st) {
        *out = f;
        f = NULL;
    } else if (f) {
        w->fs->close(w->fs, f);
        f = NULL;
        (void)w->fs->unlink(w->fs, path, NULL); /* it holds nothing */
    }
    free(path);
    return st;
}

static void begin_segment_locked(struct wal *w, uint32_t number, struct fs_file *f)
{
    NX_ASSERT(nx_mutex_held(&w->lock));
    w->file = f;
    w->off = w->synced = HEADER_BYTES;
    w->broken = false;
    w->segs[w->n_segs++] = (struct segment){number, HEADER_BYTES};
    atomic_store(&w->newest, number);
    atomic_store(&w->newest_bytes, HEADER_BYTES);
}

uint32_t wal_segment(const struct wal *w)
{
    return atomic_load(&w->newest);
}

bool wal_full(const struct wal *w)
{
    return atomic_load(&w->newest_bytes) >= atomic_load(&w->segment_bytes);
}

void wal_set_segment_bytes(struct wal *w, size_t bytes)
{
    atomic_store(&w->segment_bytes, bytes);
}

void wal_watch(struct wal *w, struct nx_alarm *unsynced, int64_t unsynced_ms, struct nx_alarm *full)
{
    w->unsynced = unsynced;
    w->unsynced_ms = unsynced_ms;
    w->full = full;
}

/* Of the list; only the worker changes that. */
static uint32_t last_segment(const struct wal *w)
{
    return w->n_segs ? w->segs[w->n_segs - 1].number : 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* After a rotation or an opening that found no space. Under the lock, as nobody else may write yet. */
static nx_status retry_segment_locked(struct wal *w, struct nx_err *err)
{
    struct fs_file *f;
    uint32_t number = atomic_load(&w->newest);
    nx_status st;

    if (!room_for_segment(w))
        return no_memory(err);
    st = make_segment(w, number, last_segment(w), &f, err);
    if (!st)
        begin_segment_locked(w, number, f);
    return st;
}

nx_status wal_write(struct wal *w, uint32_t segment, struct nx_slice frames, struct nx_err *err)
{
    nx_status st = NX_OK;
    size_t wrote = 0;
    bool first, was_full;

    nx_lock(&w->lock);
    if (segment != atomic_load(&w->newest)) {
        st = nx_fail(err, NX_CANCELED, "segment %u is closed", segment);
        goto done;
    }
    if (!w->file)
        st = retry_segment_locked(w, err);
    if (!st)
        st = w->fs->pwrite(w->fs, w->file, frames.ptr, frames.len, w->off, &wrote, err); /* W1 */
    if (st) {                                                                            /* W5 */
        w->stats.append_failures++;
        if (wrote)
            (void)w->fs->truncate(w->fs, w->file, w->off, NULL);
        goto done;
    }
    first = w->off == w->synced;
    was_full = wal_full(w);
    w->off += frames.len;
    w->stats.written_bytes += frames.len;
    w->segs[w->n_segs - 1].bytes = w->off;
    atomic_store(&w->newest_bytes, w->off);
    if (first && w->unsynced)
        nx_alarm_set(w->unsynced, w->unsynced_ms);
    if (!was_full && wal_full(w) && w->full)
        nx_alarm_ring(w->full);

done:
    nx_unlock(&w->lock);
    return st;
}

/* ---- the worker's ---------------------------------------------------------------------------- */

static nx_status sync_file(struct wal *w, struct fs_file *f, struct nx_err *err)
{
    nx_status st = w->fs->sync(w->fs, f, err);

    nx_lock(&w->lock);
    w->stats.fsyncs++;
    nx_unlock(&w->lock);
    return st;
}

nx_status wal_sync(struct wal *w, struct nx_err *err)
{
    struct fs_file *f;
    nx_status st;
    uint64_t off;
    bool broken;

    nx_lock(&w->lock);
    off = w->off;
    broken = w->broken;
    f = off > w->synced ? w->file : NULL;
    nx_unlock(&w->lock);
    if (broken)
        return nx_fail(err, NX_IO, "%s: an earlier sync of this segment failed", w->dir);
    if (!f)
        return NX_OK;
    st = sync_file(w, f, err); /* W2 */
    nx_lock(&w->lock);
    w->broken = st != NX_OK;
    if (!st)
        w->synced = off;
    nx_unlock(&w->lock);
    return st;
}

bool wal_unsynced(struct wal *w)
{
    bool unsynced;

    nx_lock(&w->lock);
    unsynced = w->off > w->synced;
    nx_unlock(&w->lock);
    return unsynced;
}

nx_status wal_rotate(struct wal *w, bool *moved, struct nx_err *err)
{
    nx_status st;
    struct fs_file *f, *old;
    uint32_t number = atomic_load(&w->newest) + 1;
    bool broken;

    *moved = false;
    st = make_segment(w, number, last_segment(w), &f, err);
    if (st)
        return st;
    nx_lock(&w->lock);
    if (!room_for_segment(w)) {
        nx_unlock(&w->lock);
        w->fs->close(w->fs, f);
        return no_memory(err);
    }
    old = w->file;
    broken = w->broken;
    begin_segment_locked(w, number, f);
    nx_unlock(&w->lock);
    *moved = true;
    if (old) {
        st = broken ? nx_fail(err, NX_IO, "%s: a sync of segment %u failed", w->dir, number - 1)
                    : sync_file(w, old, err);
        w->fs->close(w->fs, old);
    }
    return st;
}

/* The oldest segment, if it is one before `segment` and not the newest; else 0. */
static uint32_t oldest_before(struct wal *w, uint32_t segment)
{
    uint32_t number = 0;

    nx_lock(&w->lock);
    if (w->n_segs > 1 && w->segs[0].number < segment)
        number = w->segs[0].number;
    nx_unlock(&w->lock);
    return number;
}

static void forget_oldest(struct wal *w)
{
    nx_lock(&w->lock);
    w->n_segs--;
    memmove(&w->segs[0], &w->segs[1], w->n_segs * sizeof *w->segs);
    nx_unlock(&w->lock);
}

nx_status wal_truncate(struct wal *w, uint32_t segment, struct nx_err *err)
{
    nx_status st = NX_OK;
    uint32_t number;
    bool any = false;

    while (!st && (number = oldest_before(w, segment)) != 0) { /* W4 */
        char *path = numbered_path(w->dir, number, "");
        if (!path)
            return no_memory(err);
        st = w->fs->unlink(w->fs, path, err);
        if (st == NX_NOTFOUND)
            st = NX_OK;
        if (!st)
            forget_oldest(w);
        free(path);
        any = any || !st;
    }
    if (any) {
        nx_lock(&w->lock);
        w->stats.truncations++;
        nx_unlock(&w->lock);
    }
    return st;
}

void wal_get_stats(struct wal *w, struct wal_stats *out)
{
    nx_lock(&w->lock);
    *out = w->stats;
    out->segment = atomic_load(&w->newest);
    out->bytes = 0;
    for (size_t i = 0; i < w->n_segs; i++)
        out->bytes += w->segs[i].bytes;
    nx_unlock(&w->lock);
}

/* ---- replay ---------------------------------------------------------------------------------- */

/* A window that slides over a segment: `len` bytes from `base` are in buf.ptr. */
struct window {
    struct wal *w;
    struct fs_file *f;
    struct buf buf;
    uint64_t base;
    size_t pos; /* of the next frame, within the window */
    bool at_end;
};

/* Gets at least `want` bytes from pos on into the window, unless the file ends before. */
static nx_status window_fill(struct window *win, size_t want, struct nx_err *err)
{
    struct buf *b = &win->buf;
    nx_status st;
    size_t got, ask;
    char *room;

    if (b->len - win->pos >= want || win->at_end)
        return NX_OK;
    if (win->pos < b->len)
        memmove(b->ptr, b->ptr + win->pos, b->len - win->pos);
    b->len -= win->pos;
    win->base += win->pos;
    win->pos = 0;
    ask = want > READ_BYTES ? want - b->len : READ_BYTES;
    room = buf_reserve(b, ask);
    if (!room)
        return buf_status(b, err);
    st = win->w->fs->pread(win->w->fs, win->f, room, ask, win->base + b->len, &got, err);
    if (st)
        return st;
    b->len += got;
    win->at_end = got < ask;
    return NX_OK;
}

enum frame_found { FRAME_OK, FRAME_END, FRAME_TORN, FRAME_BAD };

/* Finds the frame at pos. FRAME_OK: *type and *payload are set and *bytes is its whole length. */
static nx_status next_frame(struct window *win, enum frame_found *found, uint8_t *type,
                            struct nx_slice *payload, size_t *bytes, struct nx_err *err)
{
    nx_status st = window_fill(win, MAX_FRAME_HEAD, err);
    struct reader r;
    uint64_t len;
    size_t head;
    const char *start;

    if (st)
        return st;
    if (win->buf.len == win->pos) {
        *found = FRAME_END;
        return NX_OK;
    }
    r = reader_of(win->buf.ptr + win->pos, win->buf.len - win->pos);
    *type = reader_u8(&r);
    len = reader_uvarint(&r);
    if (r.bad || len > NX_LIMIT_WAL_RECORD_BYTES) {
        *found = r.bad && win->at_end ? FRAME_TORN : FRAME_BAD;
        return NX_OK;
    }
    head = win->buf.len - win->pos - reader_left(&r);
    *bytes = head + (size_t)len + 4;
    st = window_fill(win, *bytes, err);
    if (st)
        return st;
    if (win->buf.len - win->pos < *bytes) {
        *found = FRAME_TORN;
        return NX_OK;
    }
    start = win->buf.ptr + win->pos;
    *payload = nx_slice_of(start + head, (size_t)len);
    *found = get_u32le(start + *bytes - 4) == crc32c(0, start, *bytes - 4) ? FRAME_OK : FRAME_BAD;
    return NX_OK;
}

/* From `off` to the end there are only zeros (space that was taken but not written when power went). */
static nx_status only_zeros(struct wal *w, struct fs_file *f, uint64_t off, bool *zeros,
                            struct nx_err *err)
{
    char page[4096];
    size_t got = sizeof page;

    *zeros = true;
    while (got == sizeof page && *zeros) {
        nx_status st = w->fs->pread(w->fs, f, page, sizeof page, off, &got, err);
        if (st)
            return st;
        for (size_t i = 0; i < got; i++)
            *zeros = *zeros && page[i] == 0;
        off += got;
    }
    return NX_OK;
}

static nx_status copy_tail(struct wal *w, struct fs_file *from, uint64_t off, uint32_t number,
                           struct nx_err *err)
{
    nx_status st;
    struct fs_file *to = NULL;
    char *path = numbered_path(w->dir, number, ".damaged"), *page = malloc(READ_BYTES);
    size_t got = READ_BYTES, wrote;
    uint64_t at = 0;

    if (!path || !page) {
        st = no_memory(err);
        goto done;
    }
    st = w->fs->open(w->fs, path, FS_WRITE | FS_CREATE | FS_TRUNCATE, &to, err);
    while (!st && got == READ_BYTES) {
        st = w->fs->pread(w->fs, from, page, READ_BYTES, off + at, &got, err);
        if (!st && got)
            st = w->fs->pwrite(w->fs, to, page, got, at, &wrote, err);
        at += got;
    }
    if (!st)
        st = w->fs->sync(w->fs, to, err);
    if (!st)
        st = w->fs->sync_dir(w->fs, w->dir, err);

done:
    w->fs->close(w->fs, to);
    free(path);
    free(page);
    return st;
}

/* W3. What can't be set aside (no space) stays and is met again at the next start. */
static void leave_tail(struct wal *w, struct fs_file *f, struct segment *s, uint64_t off, bool torn)
{
    struct nx_err err = {0};
    nx_status st = NX_OK;
    uint64_t size = off;

    if (w->fs->size(w->fs, f, &size, &err) || size <= off)
        return;
    if (!torn)
        st = only_zeros(w, f, off, &torn, &err);
    if (!st && !torn)
        st = copy_tail(w, f, off, s->number, &err);
    if (!st)
        st = w->fs->truncate(w->fs, f, off, &err);
    if (!st)
        st = w->fs->sync(w->fs, f, &err);
    s->bytes = st ? size : off;
    w->stats.lost_bytes += size - off;
    w->stats.corruptions += torn ? 0 : 1;
    log_warn(torn ? "Cut the torn tail of a log segment" : "Set damage in a log segment aside",
             "dir", w->dir, "segment", log_fmt("%u", s->number), "offset",
             log_fmt("%llu", (unsigned long long)off), "bytes",
             log_fmt("%llu", (unsigned long long)(size - off)), "err", st ? err.text : NULL);
}

/* *good: it is a header, of `*bytes` bytes, and `*before` the segment that it names. */
static nx_status check_header(struct wal *w, struct window *win, uint32_t number, bool *good,
                              uint32_t *before, struct nx_err *err)
{
    nx_status st = window_fill(win, HEADER_BYTES, err);
    const char *h = win->buf.ptr;
    size_t bytes;

    *good = false;
    *before = 0;
    if (st || win->buf.len < V1_BYTES || get_u32le(h) != MAGIC || get_u32le(h + 8) != number)
        return st;
    bytes = get_u16le(h + 4) == 1 ? V1_BYTES : HEADER_BYTES;
    if (win->buf.len < bytes || get_u32le(h + bytes - 4) != crc32c(0, h, bytes - 4))
        return NX_OK;
    if (get_u16le(h + 4) > VERSION)
        return nx_fail(
            err, NX_UNAVAILABLE,
            "%s/%0*u is in version %u of the log's format, this program reads up to version %u",
            w->dir, NUMBERED_DIGITS, number, get_u16le(h + 4), VERSION);
    *good = true;
    if (bytes == HEADER_BYTES)
        *before = get_u32le(h + 12);
    win->pos = bytes;
    return NX_OK;
}

/* W4. `seen` is the one before it in the folder, 0 if it is the first. */
static void check_gap(struct wal *w, uint32_t number, uint32_t before, uint32_t seen)
{
    if (!seen || before <= seen)
        return;
    w->stats.corruptions++;
    log_error("A segment of the log is missing: the rows in it are lost", "dir", w->dir, "segment",
              log_fmt("%u", before), "named_by", log_fmt("%u", number));
}

static nx_status replay_frames(struct window *win, struct segment *s, wal_visit_fn *visit,
                               void *ctx, struct buf *raw, bool *torn, bool *bad,
                               struct nx_err *err)
{
    for (;;) {
        enum frame_found found = FRAME_END;
        uint8_t type = 0;
        struct nx_slice payload = {0};
        size_t bytes = 0;
        nx_status st = next_frame(win, &found, &type, &payload, &bytes, err);
        if (st)
            return st;
        *torn = found == FRAME_TORN;
        *bad = found == FRAME_TORN || found == FRAME_BAD;
        if (found != FRAME_OK)
            return NX_OK;
        if (type & TYPE_LZ4) {
            st = unpack(payload, raw, err);
            payload = buf_view(raw);
        }
        if (!st)
            st = visit(ctx, s->number, type & (uint8_t)~TYPE_LZ4, payload, err);
        *bad = st == NX_CORRUPT;
        if (st)
            return *bad ? NX_OK : st;
        win->pos += bytes;
    }
}

/* A segment whose header is not one. Shorter than a header it was cut by a power loss before it held
 * anything; else it is damage as a whole. */
static nx_status refuse_segment(struct wal *w, struct fs_file *f, uint32_t number,
                                struct nx_err *err)
{
    nx_status st;
    uint64_t size = 0;
    char *path = numbered_path(w->dir, number, ""),
         *aside = numbered_path(w->dir, number, ".damaged");
    bool zeros = false;

    if (!path || !aside) {
        st = no_memory(err);
        goto done;
    }
    st = w->fs->size(w->fs, f, &size, err);
    if (!st)
        st = only_zeros(w, f, 0, &zeros, err);
    if (st)
        goto done;
    if (size < V1_BYTES || zeros) {
        st = w->fs->unlink(w->fs, path, err);
    } else {
        st = w->fs->rename(w->fs, path, aside, err);
        w->stats.corruptions++;
        w->stats.lost_bytes += size;
        log_warn("Set a damaged log segment aside", "file", aside, "bytes",
                 log_fmt("%llu", (unsigned long long)size));
    }

done:
    free(path);
    free(aside);
    return st;
}

static nx_status replay_segment(struct wal *w, uint32_t number, uint32_t seen, wal_visit_fn *visit,
                                void *ctx, struct buf *raw, struct nx_err *err)
{
    nx_status st;
    struct segment s = {number, 0};
    uint32_t before = 0;
    struct window win = {.w = w};
    char *path = numbered_path(w->dir, number, "");
    bool good = false, torn = false, bad = false;

    buf_init(&win.buf, 0);
    if (!path || !room_for_segment(w)) {
        st = no_memory(err);
        goto done;
    }
    st = w->fs->open(w->fs, path, FS_READ | FS_WRITE, &win.f, err);
    if (!st)
        st = check_header(w, &win, number, &good, &before, err);
    if (st)
        goto done;
    if (!good) {
        st = refuse_segment(w, win.f, number, err);
        goto done;
    }
    check_gap(w, number, before, seen);
    st = replay_frames(&win, &s, visit, ctx, raw, &torn, &bad, err);
    if (st)
        goto done;
    s.bytes = win.base + win.pos;
    if (bad)
        leave_tail(w, win.f, &s, s.bytes, torn);
    w->segs[w->n_segs++] = s;

done:
    w->fs->close(w->fs, win.f);
    buf_done(&win.buf);
    free(path);
    return st;
}

static nx_status replay_all(struct wal *w, wal_visit_fn *visit, void *ctx, uint32_t *newest,
                            struct nx_err *err)
{
    struct fs_names names = {0};
    struct buf raw;
    nx_status st = w->fs->list(w->fs, w->dir, &names, err);

    buf_init(&raw, 0);
    for (size_t i = 0; i < names.n && !st; i++) {
        uint32_t number = numbered_of(names.v[i]);
        if (!number)
            continue;
        if (strlen(names.v[i]) == NUMBERED_DIGITS)
            st = replay_segment(w, number, *newest, visit, ctx, &raw, err);
        *newest = number; /* names are sorted; what was set aside counts as seen */
    }
    fs_names_done(&names);
    buf_done(&raw);
    return st;
}

static nx_status first_segment(struct wal *w, uint32_t number, struct nx_err *err)
{
    nx_status st;

    nx_lock(&w->lock);
    atomic_store(&w->newest, number);
    st = retry_segment_locked(w, err);
    nx_unlock(&w->lock);
    if (st == NX_NOSPACE) {
        log_warn("No space for a log segment; appends fail until there is", "dir", w->dir);
        st = NX_OK;
    }
    return st;
}

nx_status wal_open(struct wal **out, const struct wal_opts *opts, wal_visit_fn *visit, void *ctx,
                   struct nx_err *err)
{
    nx_status st;
    struct wal *w = calloc(1, sizeof *w);
    uint32_t newest = 0;

    if (!w)
        return no_memory(err);
    nx_mutex_init(&w->lock, NX_RANK_WAL);
    w->fs = opts->fs;
    wal_set_segment_bytes(w, opts->segment_bytes ? opts->segment_bytes : WAL_SEGMENT_BYTES_DEFAULT);
    w->dir = strdup(opts->dir);
    st = w->dir ? fs_mkdirs(w->fs, w->dir, err) : no_memory(err);
    if (!st)
        st = replay_all(w, visit, ctx, &newest, err);
    if (!st)
        st = first_segment(w, newest + 1, err);
    if (st)
        goto done;
    *out = w;
    w = NULL;

done:
    wal_close(w);
    return st;
}

void wal_close(struct wal *w)
{
    if (!w)
        return;
    w->fs->close(w->fs, w->file);
    free(w->segs);
    free(w->dir);
    nx_mutex_done(&w->lock);
    free(w);
}
