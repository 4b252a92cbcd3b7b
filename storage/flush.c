/* flush.c - the oldest span of the head becomes a block.
 *
 * SHAPE   A span [k * block, (k + 1) * block) is due when the head's newest row is half a block past its
 *         end. Then: new rows before the end are refused; tails with such rows are sealed; the
 *         block's name is noted in wal/flushed; the block is written and published; readers change
 *         over; the log's old segments go; the rows go from memory when no reader needs them.
 * RULES   F1  wal/flushed says: rows before `floor` are in blocks, and if the block `ulid` exists, rows
 *             before `end` are too. It is published before the block can appear, so a crash at any
 *             point leaves either the rows in the log or the block, and never both for a replay.
 *         F2  The floor rises before any group is sealed, and groups judge rows under their lock: when
 *             all were visited, nothing before the end can come any more.
 *         F3  Nothing goes from memory or log before the block was opened again.
 *             What is deleted is left out of the block; only a turn (turns.c) keeps more from
 *             being deleted meanwhile.
 *         F4  A flush that fails changes nothing but the floor; it is tried again.
 *         F5  Late samples (loose.c) of the span are in its block. Those of spans before it, whose blocks are
 *             there already, get blocks of their own first, which overlap others until they are merged; a
 *             flush that can't write those does not go on, since the log's segments may hold them.
 * FILE    wal/flushed (FORMAT.md): magic, version, floor, end, ulid (26 bytes or zeros), CRC-32C. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/hash.h"
#include "src/base/log.h"
#include "storage/compact.h"
#include "storage/storage_impl.h"

#define MAGIC      0x4c46584eu /* "NXFL" */
#define VERSION    1u
#define FILE_BYTES 56u

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "writing a block");
}

/* ---- wal/flushed ----------------------------------------------------------------------------- */

static nx_status note(struct storage *s, int64_t floor_ms, const char *ulid, int64_t end_ms,
                      struct nx_err *err)
{
    uint8_t b[FILE_BYTES] = {0};
    char *path;
    nx_status st;

    put_u32le(b, MAGIC);
    put_u16le(b + 4, VERSION);
    put_u64le(b + 8, (uint64_t)floor_ms);
    put_u64le(b + 16, (uint64_t)end_ms);
    if (ulid)
        memcpy(b + 24, ulid, BLOCK_ULID_LEN);
    put_u32le(b + FILE_BYTES - 4, crc32c(0, b, FILE_BYTES - 4));
    if (asprintf(&path, "%s/wal/flushed", s->dir) < 0)
        return no_memory(err);
    st = fs_publish(s->fs, path, b, sizeof b, err);
    free(path);
    return st;
}

/* It may have been merged into another one since. `name` is not terminated. */
static bool has_block(const struct storage *s, const char *name)
{
    char ulid[BLOCK_ULID_LEN + 1] = {0};

    memcpy(ulid, name, BLOCK_ULID_LEN);
    for (size_t i = 0; i < s->n_blocks; i++) {
        const struct block_meta *m = block_meta(s->blocks[i]);
        if (strcmp(m->ulid, ulid) == 0 || compact_made_of(m, ulid))
            return true;
    }
    return false;
}

nx_status flush_recover(struct storage *s, int64_t *floor_ms, struct nx_err *err)
{
    struct buf b;
    char *path;
    nx_status st;
    const char *p;

    *floor_ms = INT64_MIN;
    if (asprintf(&path, "%s/wal/flushed", s->dir) < 0)
        return no_memory(err);
    buf_init(&b, 4096);
    st = fs_read_file(s->fs, path, &b, err);
    p = b.ptr;
    if (st == NX_NOTFOUND) {
        st = NX_OK;
    } else if (st == NX_LIMIT ||
               (!st &&
                (b.len != FILE_BYTES || get_u32le(p) != MAGIC || get_u16le(p + 4) != VERSION ||
                 get_u32le(p + FILE_BYTES - 4) != crc32c(0, p, FILE_BYTES - 4)))) {
        /* The log may then repeat rows of the newest block; readers see equal times once. */
        log_warn("A note on what blocks hold is damaged and was left aside", "file", path);
        st = NX_OK;
    } else if (!st) {
        *floor_ms = (int64_t)get_u64le(p + 8);
        if (p[24] && has_block(s, p + 24))
            *floor_ms = (int64_t)get_u64le(p + 16); /* F1 */
    }
    buf_done(&b);
    free(path);
    return st;
}

/* ---- the block ------------------------------------------------------------------------------- */

/* Late samples of spans with a block are written with the next flush; before it if there is so much, but not
 * more often than this. */
#define LATE_BYTES    (32u << 20)
#define LATE_PAUSE_MS 600000

struct flush {
    struct storage *s;
    const char *dir; /* where the block goes */
    struct head_reader *head;
    struct block_writer *w;
    struct samples samples;
    struct arena *arena; /* labels of one series at a time */
    int64_t start_ms, end_ms;
    bool late; /* all of it came out of order */
};

static nx_status write_samples(struct flush *f, struct nx_err *err)
{
    const struct samples *x = &f->samples;
    nx_status st = NX_OK;

    for (size_t at = 0; at < x->n && !st; at += CHUNK_MAX_ROWS) {
        size_t n = x->n - at < CHUNK_MAX_ROWS ? x->n - at : CHUNK_MAX_ROWS;
        uint32_t times = 0;
        st = block_writer_times(f->w, x->t + at, n, &times, err);
        if (!st)
            st = block_writer_chunk(f->w, times, x->v + at, n, err);
    }
    return st;
}

static nx_status write_series(struct flush *f, uint32_t id, struct nx_err *err)
{
    struct labels ls;
    nx_status st;

    arena_reset(f->arena);
    f->samples.n = 0;
    st = head_labels(f->head, id, f->arena, &ls, err);
    if (!st)
        st = head_read(f->head, id, f->start_ms, f->end_ms - 1, &f->samples, err);
    if (st || f->samples.n == 0)
        return st;
    st = block_writer_series(f->w, &ls, err);
    return st ? st : write_samples(f, err);
}

/* *empty: there were no samples, and no block. */
static nx_status write_block(struct flush *f, const char *ulid, bool *empty, struct nx_err *err)
{
    struct block_writer_opts o = {.fs = f->s->fs,
                                  .dir = f->dir,
                                  .ulid = ulid,
                                  .min_ms = f->start_ms,
                                  .max_ms = f->end_ms,
                                  .late = f->late,
                                  .level = 1};
    uint32_t *ids = NULL;
    size_t n = 0;
    nx_status st = block_writer_open(&f->w, &o, err);

    if (!st)
        st = head_sorted(f->head, f->start_ms, f->end_ms - 1, &ids, &n, err);
    for (size_t i = 0; i < n && !st; i++)
        st = write_series(f, ids[i], err);
    if (!st)
        st = block_writer_commit(f->w, NULL, err);
    *empty = st == NX_NOTFOUND;
    block_writer_close(f->w);
    free(ids);
    return *empty ? NX_OK : st;
}

nx_status flush_write(struct storage *s, struct head_reader *head, const char *dir,
                      int64_t start_ms, int64_t end_ms, bool late, const char *ulid, bool *empty,
                      struct nx_err *err)
{
    struct flush f = {
        .s = s, .dir = dir, .head = head, .start_ms = start_ms, .end_ms = end_ms, .late = late};
    nx_status st;

    f.arena = arena_new(0);
    st = f.arena ? write_block(&f, ulid, empty, err) : no_memory(err);
    arena_free(f.arena);
    samples_done(&f.samples);
    return st;
}

static nx_status make_block(struct storage *s, int64_t start_ms, int64_t end_ms, bool late,
                            const char *ulid, bool *empty, struct nx_err *err)
{
    struct head_reader *head = NULL;
    nx_status st = head_reader_new(&head, s->head, err);

    if (!st) {
        head_reader_skip(head, s->head_from_ms, true);
        st = flush_write(s, head, s->dir, start_ms, end_ms, late, ulid, empty, err);
    }
    head_reader_free(head);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void raise_floor(struct head *h, int64_t floor_ms)
{
    int64_t was = atomic_load(&h->floor_ms);

    while (floor_ms > was && !atomic_compare_exchange_weak(&h->floor_ms, &was, floor_ms))
        ;
}

/* Blocks of late samples may go from memory when the readers that don't know the blocks are gone. */
static void note_late(struct storage *s)
{
    nx_lock(&s->lock);
    s->late_written_at = s->n_entered;
    s->late_written = true;
    nx_unlock(&s->lock);
}

static nx_status late_block(struct storage *s, int64_t start_ms, struct nx_err *err)
{
    char ulid[BLOCK_ULID_LEN + 1];
    bool empty = false;
    nx_status st;

    block_ulid(ulid, clock_now_ms());
    st = make_block(s, start_ms, start_ms + s->block_ms, true, ulid, &empty, err);
    if (!st && !empty)
        st = blocks_add(s, ulid, INT64_MIN, err);
    return st;
}

/* F5: what is older than before_ms, the start of a span. */
static nx_status flush_late(struct storage *s, int64_t before_ms, bool *wrote, struct nx_err *err)
{
    int64_t *starts = NULL;
    size_t n = 0;
    bool any = false;
    nx_status st = loose_take(s->head->loose, s->wal, INT64_MIN, before_ms, &any, err);

    if (st || !any)
        return st;
    st = loose_taken_spans(s->head->loose, &starts, &n, err);
    for (size_t i = 0; i < n && !st; i++)
        st = late_block(s, starts[i], err);
    free(starts);
    loose_taken(s->head->loose, s->wal, !st);
    if (!st) {
        note_late(s);
        *wrote = true;
    }
    return st;
}

static nx_status flush_span(struct storage *s, int64_t start_ms, int64_t end_ms, struct nx_err *err)
{
    char ulid[BLOCK_ULID_LEN + 1];
    bool empty = false, late = false, wrote;
    int64_t floor_ms = s->head_from_ms;
    nx_status st = flush_late(s, start_ms, &wrote, err);

    if (st)
        return st;
    raise_floor(s->head, end_ms);
    st = head_seal(s->head, end_ms, err); /* F2 */
    if (!st) /* what came since for spans before it stays for the next flush */
        st = loose_take(s->head->loose, s->wal, start_ms, end_ms, &late, err);
    if (st)
        return st;
    block_ulid(ulid, clock_now_ms());
    st = note(s, floor_ms, ulid, end_ms, err); /* F1 */
    if (!st)
        st = make_block(s, start_ms, end_ms, false, ulid, &empty, err);
    if (!st)
        st = blocks_add(s, empty ? NULL : ulid, end_ms, err); /* F3 */
    if (late)
        loose_taken(s->head->loose, s->wal, !st);
    if (late && !st)
        note_late(s);
    if (!st)
        st = note(s, end_ms, NULL, end_ms, err);
    if (st)
        return st;
    s->drop_before_ms = end_ms;
    return NX_OK;
}

nx_status flush_due(struct storage *s, bool *wrote, struct nx_err *err)
{
    int64_t min_ms = atomic_load(&s->head->min_ms), max_ms = atomic_load(&s->head->max_ms);
    int64_t start_ms, end_ms;
    nx_status st;

    *wrote = false;
    if (min_ms > max_ms || min_ms == INT64_MAX)
        return NX_OK;
    if (min_ms < s->head_from_ms) /* already in a block, waiting for readers */
        min_ms = head_lowest(s->head, s->head_from_ms);
    if (min_ms > max_ms)
        return NX_OK;
    start_ms = floor_div(min_ms, s->block_ms) * s->block_ms;
    end_ms = start_ms + s->block_ms;
    if (max_ms < end_ms + s->block_ms / 2)
        return NX_OK;
    st = flush_span(s, start_ms, end_ms, err);
    nx_lock(&s->lock);
    s->compactions += st == NX_OK;
    s->compactions_failed += st != NX_OK;
    nx_unlock(&s->lock);
    *wrote = !st;
    if (!st)
        flush_drop(s);
    return st;
}

nx_status flush_late_due(struct storage *s, int64_t now_ms, bool *wrote, struct nx_err *err)
{
    const struct loose *l = s->head->loose;
    int64_t floor_ms = s->head_from_ms;

    *wrote = false;
    if (floor_ms == INT64_MIN || s->late_written || atomic_load(&l->bytes) < LATE_BYTES ||
        (now_ms >= s->late_flushed_ms && now_ms - s->late_flushed_ms < LATE_PAUSE_MS))
        return NX_OK;
    s->late_flushed_ms = now_ms;
    return flush_late(s, floor_div(floor_ms, s->block_ms) * s->block_ms, wrote, err);
}

static void drop_late(struct storage *s)
{
    if (!s->late_written || storage_is_open_since(s, s->late_written_at))
        return;
    if (!loose_tell_gone(s->head->loose))
        return;
    s->late_written = false;
    loose_drop(s->head->loose, true);
}

void flush_drop(struct storage *s)
{
    int64_t before_ms = s->drop_before_ms;

    drop_late(s);

    if (before_ms == INT64_MIN || storage_is_read_before(s, before_ms)) /* Q2 of querier.c */
        return;
    s->drop_before_ms = INT64_MIN;
    head_drop(s->head, before_ms);
    char *path = delete_note_path(s);
    if (path)
        head_tombs_prune(s->head, s->fs, path);
    free(path);
}
