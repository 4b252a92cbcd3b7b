/* block_write.c - writing a block: chunks as they come, the index at the end, one rename.
 *
 * SHAPE   The chunks file grows page by page while series come in label order, so that neighbours share
 *         pages. Vectors of timestamps are kept encoded, in memory, and written behind the chunks;
 *         those in use are kept decoded in a few slots.
 * RULES   W1  Nothing appears under the block's name before everything in it is synced: files, then
 *             the temporary folder, then the rename, then the parent.
 *         W2  A row is stored only from the first to the last sample of the series in it: a series that
 *             lived for part of a span costs that part.
 *         W3  Samples of a series ascend strictly in time across its chunks, and lie in [min, max).
 * NOT     Undoing a rename whose sync failed: the block is whole, it may be there or not after a power
 *         cut, and either is right for a caller who still has the data. */
#include "storage/block_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lz4hc.h>

#include "src/base/clock.h"
#include "src/base/hash.h"
#include "storage/block_build.h"

#define TIME_SLOTS 64u /* decoded vectors at hand */
#define NONE       UINT32_MAX

struct vector {
    uint64_t hash;
    size_t at; /* in block_writer.vectors */
    uint32_t len, rows;
};

struct time_slot {
    uint32_t vector; /* + 1; 0: empty */
    uint32_t cap;
    int64_t *t;
};

/* The columns of a page of chunks, filled chunk by chunk. */
struct chunk_page {
    struct buf lens, vectors, first_rows, tails, bytes;
    uint64_t first, n;
    uint32_t last_vector;
};

struct block_writer {
    struct fs *fs;
    char *dir, *tmp;
    struct block_meta meta;
    bool fast, renamed;
    int level; /* of LZ4 */
    struct page_writer *chunks;
    struct chunk_page page;
    struct block_build *build;
    struct chunk_scratch *scratch;
    /* vectors of timestamps */
    struct vector *v;
    uint32_t n_vectors, cap_vectors;
    uint32_t *slots; /* hash table of vector numbers */
    size_t n_slots;
    struct buf vectors;
    struct time_slot times[TIME_SLOTS];
    /* the current series, and the one before for the order */
    struct arena *labels_arena[2];
    struct labels labels[2];
    unsigned current;
    bool any_series;
    uint32_t n_chunks; /* of the current series */
    int64_t mint, maxt;
};

/* ---- opening -------------------------------------------------------------------------------- */

static char *path_of(const char *dir, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static nx_status nomem(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for writing a block");
}

static nx_status set_meta(struct block_writer *w, const struct block_writer_opts *opts,
                          struct nx_err *err)
{
    char own[1][BLOCK_ULID_LEN + 1];
    struct block_meta m = {.min_ms = opts->min_ms,
                           .max_ms = opts->max_ms,
                           .level = opts->level ? opts->level : 1,
                           .late = opts->late,
                           .resolution_ms = opts->resolution_ms};

    if (opts->min_ms >= opts->max_ms || (opts->ulid && !block_ulid_valid(opts->ulid)))
        return nx_fail(err, NX_BADINPUT, "a block from %lld to %lld named %s",
                       (long long)opts->min_ms, (long long)opts->max_ms,
                       opts->ulid ? opts->ulid : "by the clock");
    if (opts->ulid)
        memcpy(m.ulid, opts->ulid, sizeof m.ulid);
    else
        block_ulid(m.ulid, clock_now_ms());
    memcpy(own[0], m.ulid, sizeof m.ulid);
    /* Only read, by the copy. */
    m.sources = opts->n_sources ? (char(*)[BLOCK_ULID_LEN + 1])(uintptr_t)opts->sources : own;
    m.n_sources = opts->n_sources ? opts->n_sources : 1;
    m.parents = (struct block_parent *)(uintptr_t)opts->parents;
    m.n_parents = opts->n_parents;
    return block_meta_copy(&m, &w->meta, err);
}

static nx_status open_chunks(struct block_writer *w, struct nx_err *err)
{
    char *path = path_of(w->tmp, BLOCK_CHUNKS_FILE);
    nx_status st = path ? fs_remove_tree(w->fs, w->tmp, err) : nomem(err);

    if (!st)
        st = w->fs->mkdir(w->fs, w->tmp, err);
    if (!st)
        st = page_writer_open(&w->chunks, w->fs, path, BLOCK_CHUNKS_MAGIC, w->level, err);
    free(path);
    return st;
}

nx_status block_writer_open(struct block_writer **out, const struct block_writer_opts *opts,
                            struct nx_err *err)
{
    struct block_writer *w = calloc(1, sizeof *w);
    nx_status st;

    if (!w)
        return nomem(err);
    w->fs = opts->fs;
    w->fast = opts->fast;
    w->level = opts->fast ? 0 : LZ4HC_CLEVEL_MAX;
    st = set_meta(w, opts, err);
    if (st)
        goto done;
    w->dir = strdup(opts->dir);
    if (asprintf(&w->tmp, "%s/%s%s", opts->dir, w->meta.ulid, BLOCK_TMP_SUFFIX) < 0)
        w->tmp = NULL;
    w->build = block_build_new();
    w->scratch = chunk_scratch_new();
    w->labels_arena[0] = arena_new(0);
    w->labels_arena[1] = arena_new(0);
    if (!w->dir || !w->tmp || !w->build || !w->scratch || !w->labels_arena[0] ||
        !w->labels_arena[1]) {
        st = nomem(err);
        goto done;
    }
    st = open_chunks(w, err);
    if (st)
        goto done;
    *out = w;
    w = NULL;

done:
    block_writer_close(w);
    return st;
}

void block_writer_close(struct block_writer *w)
{
    if (!w)
        return;
    page_writer_close(w->chunks);
    if (w->tmp && !w->renamed) {
        /* What is left behind by a failure is removed when the storage is opened next, by its suffix. */
        nx_status left = fs_remove_tree(w->fs, w->tmp, NULL);
        (void)left;
    }
    buf_done(&w->page.lens);
    buf_done(&w->page.vectors);
    buf_done(&w->page.first_rows);
    buf_done(&w->page.tails);
    buf_done(&w->page.bytes);
    block_build_free(w->build);
    chunk_scratch_free(w->scratch);
    for (unsigned i = 0; i < TIME_SLOTS; i++)
        free(w->times[i].t);
    free(w->v);
    free(w->slots);
    buf_done(&w->vectors);
    arena_free(w->labels_arena[0]);
    arena_free(w->labels_arena[1]);
    block_meta_done(&w->meta);
    free(w->dir);
    free(w->tmp);
    free(w);
}

/* ---- vectors of timestamps ------------------------------------------------------------------ */

static bool vectors_fit(struct block_writer *w)
{
    if (w->n_vectors == w->cap_vectors) {
        uint32_t cap = w->cap_vectors ? w->cap_vectors * 2 : 64;
        struct vector *v = cap < NONE / 2 ? realloc(w->v, cap * sizeof *v) : NULL;
        if (!v)
            return false;
        w->v = v;
        w->cap_vectors = cap;
    }
    if ((size_t)w->n_vectors * 2 >= w->n_slots) {
        size_t n = w->n_slots ? w->n_slots * 2 : 128;
        uint32_t *slots = malloc(n * sizeof *slots);
        if (!slots)
            return false;
        memset(slots, 0xff, n * sizeof *slots);
        for (uint32_t i = 0; i < w->n_vectors; i++) {
            size_t at = w->v[i].hash & (n - 1);
            while (slots[at] != NONE)
                at = (at + 1) & (n - 1);
            slots[at] = i;
        }
        free(w->slots);
        w->slots = slots;
        w->n_slots = n;
    }
    return true;
}

/* Equal vectors have equal bytes, as the encoder has no choice to make. */
nx_status block_writer_times(struct block_writer *w, const int64_t *t, size_t n, uint32_t *times,
                             struct nx_err *err)
{
    const size_t start = w->vectors.len;
    struct vector fresh;
    size_t at;
    nx_status st;

    for (size_t i = 1; i < n; i++)
        if (t[i] <= t[i - 1])
            return nx_fail(err, NX_BADINPUT, "timestamps of a block must ascend: %lld after %lld",
                           (long long)t[i], (long long)t[i - 1]);
    st = times_encode(&w->vectors, t, n, w->scratch, err);
    if (st)
        return st;
    fresh = (struct vector){
        .at = start, .len = (uint32_t)(w->vectors.len - start), .rows = (uint32_t)n};
    fresh.hash = hash_mix(n, hash_bytes(w->vectors.ptr + start, fresh.len));
    if (!vectors_fit(w))
        return nomem(err);
    for (at = fresh.hash & (w->n_slots - 1); w->slots[at] != NONE;
         at = (at + 1) & (w->n_slots - 1)) {
        const struct vector *v = &w->v[w->slots[at]];
        if (v->rows == n && v->len == fresh.len &&
            memcmp(w->vectors.ptr + v->at, w->vectors.ptr + start, fresh.len) == 0) {
            w->vectors.len = start;
            *times = w->slots[at];
            return NX_OK;
        }
    }
    w->v[w->n_vectors] = fresh;
    w->slots[at] = w->n_vectors;
    *times = w->n_vectors++;
    return NX_OK;
}

/* The timestamps of a vector; valid until another one is asked for. */
static nx_status times_of(struct block_writer *w, uint32_t vector, const int64_t **t,
                          struct nx_err *err)
{
    const struct vector *v = &w->v[vector];
    struct time_slot *slot = &w->times[vector % TIME_SLOTS];
    nx_status st = NX_OK;

    if (slot->vector != vector + 1) {
        slot->vector = 0;
        if (slot->cap < v->rows) {
            int64_t *p = realloc(slot->t, v->rows * sizeof *p);
            if (!p)
                return nomem(err);
            slot->t = p;
            slot->cap = v->rows;
        }
        st = times_decode(w->vectors.ptr + v->at, v->len, slot->t, v->rows, w->scratch, err);
        if (!st)
            slot->vector = vector + 1;
    }
    *t = slot->t;
    return st;
}

static nx_status write_times(struct block_writer *w, struct nx_err *err)
{
    struct buf page;
    nx_status st = NX_OK;

    buf_init(&page, 0);
    for (uint32_t i = 0, first = 0; i < w->n_vectors && !st; i++) {
        buf_uvarint(&page, w->v[i].rows);
        buf_uvarint(&page, w->v[i].len);
        buf_append(&page, w->vectors.ptr + w->v[i].at, w->v[i].len);
        st = buf_status(&page, err);
        if (!st && (page.len >= BLOCK_TIMES_PAGE_BYTES || i + 1 == w->n_vectors)) {
            st = page_writer_add(w->chunks, CH_TIMES, first, page.ptr, page.len, err);
            buf_clear(&page);
            first = i + 1;
        }
    }
    buf_done(&page);
    return st;
}

/* ---- series and chunks ---------------------------------------------------------------------- */

static nx_status end_series(struct block_writer *w, struct nx_err *err)
{
    nx_status st = NX_OK;

    if (w->n_chunks)
        st = block_build_add(w->build, &w->labels[w->current], w->n_chunks, w->mint, w->maxt, err);
    if (!st && w->n_chunks)
        w->meta.n_series++;
    w->n_chunks = 0;
    return st;
}

nx_status block_writer_series(struct block_writer *w, const struct labels *ls, struct nx_err *err)
{
    const unsigned next = 1 - w->current;
    nx_status st;

    if (ls->n == 0 || (w->any_series && labels_cmp(&w->labels[w->current], ls) >= 0))
        return nx_fail(err, NX_BADINPUT,
                       "series of a block must come in the order of their labels");
    st = end_series(w, err);
    if (st)
        return st;
    arena_reset(w->labels_arena[next]);
    st = labels_copy(w->labels_arena[next], ls, &w->labels[next], err);
    if (st)
        return st;
    w->current = next;
    w->any_series = true;
    return NX_OK;
}

static nx_status close_page(struct block_writer *w, struct nx_err *err)
{
    struct chunk_page *p = &w->page;
    struct buf page;
    nx_status st;

    if (p->n == 0)
        return NX_OK;
    buf_init(&page, 0);
    buf_uvarint(&page, p->n);
    buf_append(&page, p->lens.ptr, p->lens.len);
    buf_append(&page, p->vectors.ptr, p->vectors.len);
    buf_append(&page, p->first_rows.ptr, p->first_rows.len);
    buf_append(&page, p->tails.ptr, p->tails.len);
    buf_append(&page, p->bytes.ptr, p->bytes.len);
    st = buf_status(&page, err);
    if (!st)
        st = page_writer_add(w->chunks, CH_CHUNKS, p->first, page.ptr, page.len, err);
    buf_done(&page);
    p->first += p->n;
    p->n = 0;
    p->last_vector = 0;
    buf_clear(&p->lens);
    buf_clear(&p->vectors);
    buf_clear(&p->first_rows);
    buf_clear(&p->tails);
    buf_clear(&p->bytes);
    return st;
}

static nx_status put_chunk(struct block_writer *w, uint32_t vector, const double *v, size_t from,
                           size_t to, struct nx_err *err)
{
    struct chunk_page *p = &w->page;
    const size_t start = p->bytes.len;
    nx_status st = (w->fast ? chunk_encode_fast : chunk_encode)(&p->bytes, v + from, to - from,
                                                                w->scratch, err);

    if (st)
        return st;
    buf_uvarint(&p->lens, p->bytes.len - start);
    buf_varint(&p->vectors, (int64_t)vector - (int64_t)p->last_vector);
    buf_uvarint(&p->first_rows, from);
    buf_uvarint(&p->tails, w->v[vector].rows - to);
    p->last_vector = vector;
    p->n++;
    if (p->lens.failed || p->vectors.failed || p->first_rows.failed || p->tails.failed)
        return nomem(err);
    return p->bytes.len >= BLOCK_CHUNK_PAGE_BYTES ? close_page(w, err) : NX_OK;
}

nx_status block_writer_chunk(struct block_writer *w, uint32_t times, const double *v, size_t n,
                             struct nx_err *err)
{
    const int64_t *t = NULL;
    size_t from = 0, to = n, samples = 0;
    nx_status st;

    if (!w->any_series || times >= w->n_vectors || n != w->v[times].rows)
        return nx_fail(err, NX_BADINPUT, "%zu values for vector %u of %u", n, times, w->n_vectors);
    while (from < to && chunk_is_absent(v[from])) /* W2 */
        from++;
    while (to > from && chunk_is_absent(v[to - 1]))
        to--;
    if (from == to)
        return NX_OK;
    st = times_of(w, times, &t, err);
    if (st)
        return st;
    if (t[from] < w->meta.min_ms || t[to - 1] >= block_times_end(&w->meta) ||
        (w->n_chunks && t[from] <= w->maxt)) /* W3 */
        return nx_fail(err, NX_BADINPUT, "samples from %lld to %lld do not fit block %s",
                       (long long)t[from], (long long)t[to - 1], w->meta.ulid);
    if (w->meta.n_chunks >= NONE)
        return nx_fail(err, NX_LIMIT, "a block holds at most %u chunks", NONE);
    st = put_chunk(w, times, v, from, to, err);
    if (st)
        return st;
    for (size_t i = from; i < to; i++)
        samples += !chunk_is_absent(v[i]);
    w->meta.n_samples += samples;
    w->meta.n_chunks++;
    w->mint = w->n_chunks ? w->mint : t[from];
    w->maxt = t[to - 1];
    w->n_chunks++;
    return NX_OK;
}

/* ---- commit --------------------------------------------------------------------------------- */

static nx_status write_meta(struct block_writer *w, struct nx_err *err)
{
    char *path = path_of(w->tmp, BLOCK_META_FILE);
    struct fs_file *file = NULL;
    struct buf text;
    size_t wrote;
    nx_status st;

    buf_init(&text, 0);
    st = path ? block_meta_print(&w->meta, &text, err) : nomem(err);
    if (!st)
        st = w->fs->open(w->fs, path, FS_WRITE | FS_CREATE | FS_EXCL, &file, err);
    if (!st)
        st = w->fs->write(w->fs, file, text.ptr, text.len, &wrote, err);
    if (!st)
        st = w->fs->sync(w->fs, file, err);
    w->fs->close(w->fs, file);
    w->meta.bytes += text.len;
    buf_done(&text);
    free(path);
    return st;
}

static nx_status finish_chunks(struct block_writer *w, struct nx_err *err)
{
    const uint64_t n_items[PAGE_MAX_TREES] = {
        [CH_CHUNKS] = w->meta.n_chunks, [CH_TIMES] = w->n_vectors};
    uint64_t bytes;
    nx_status st = close_page(w, err);

    if (!st)
        st = write_times(w, err);
    if (!st)
        st = page_writer_finish(w->chunks, n_items, nx_slice_of(w->meta.ulid, BLOCK_EXTRA_BYTES),
                                &bytes, err);
    if (!st)
        w->meta.bytes += bytes;
    page_writer_close(w->chunks);
    w->chunks = NULL;
    return st;
}

static nx_status write_index(struct block_writer *w, struct nx_err *err)
{
    char *path = path_of(w->tmp, BLOCK_INDEX_FILE);
    uint64_t bytes = 0;
    nx_status st =
        path ? block_build_write(w->build, w->fs, path, w->meta.ulid, w->level, &bytes, err)
             : nomem(err);

    w->meta.bytes += bytes;
    free(path);
    return st;
}

static nx_status publish(struct block_writer *w, struct nx_err *err) /* W1 */
{
    char *path = path_of(w->dir, w->meta.ulid);
    nx_status st = path ? w->fs->sync_dir(w->fs, w->tmp, err) : nomem(err);

    if (!st)
        st = w->fs->rename(w->fs, w->tmp, path, err);
    if (!st) {
        w->renamed = true;
        st = w->fs->sync_dir(w->fs, w->dir, err);
    }
    free(path);
    return st;
}

nx_status block_writer_commit(struct block_writer *w, struct block_meta *meta, struct nx_err *err)
{
    struct block_meta copy = {0};
    nx_status st = end_series(w, err);

    if (!st && w->meta.n_samples == 0)
        return nx_fail(err, NX_NOTFOUND, "block %s has no samples", w->meta.ulid);
    if (!st)
        st = finish_chunks(w, err);
    if (!st)
        st = write_index(w, err);
    if (!st)
        st = write_meta(w, err);
    if (!st && meta)
        st = block_meta_copy(&w->meta, &copy, err);
    if (!st)
        st = publish(w, err);
    if (st) {
        block_meta_done(&copy);
        return st;
    }
    if (meta)
        *meta = copy;
    return NX_OK;
}
