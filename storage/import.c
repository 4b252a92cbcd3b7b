/* import.c - finished blocks from samples in any order.
 *
 * WHY     Backfill hands over whatever a file holds: one series after the other for years, or all
 *         series scrape by scrape. Neither may need memory for more than what is being looked at.
 * SHAPE   Each series has a small open tail. A full tail is coded (chunk.h) into a part, and parts go to
 *         a spill: a buffer that is appended to a temporary file when it is full. At the end parts are
 *         read back window by window and each window becomes a block.
 * RULES   I1  A part lies within one window of block_ms, aligned to the epoch as Prometheus aligns.
 *         I2  Of samples with the same time in a series the first added stays.
 *         I3  Open tails together hold at most TAIL_BYTES; then all of them are coded.
 *         I4  Nothing but finished blocks is left: the spill lives in a folder named as an unfinished
 *             block and is removed at the end, or by the next storage_open().
 * TIMES   What series of a window share is surveyed first (shared_times.h). */
#include "storage/storage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/hash.h"
#include "src/base/intern.h"
#include "src/base/num.h"
#include "storage/shared_times.h"

#define DEFAULT_BLOCK_MS (2 * 3600 * 1000)
#define TAIL_ROWS        256u
#define FIRST_TAIL_ROWS  8u
#define TAIL_BYTES       (64u << 20)
#define SPILL_BYTES      (4u << 20)
#define NONE             UINT32_MAX

struct part {
    int64_t window;
    uint64_t at; /* in the spill */
    uint32_t n, times_len, values_len;
    bool sorted; /* times ascend strictly */
};

struct import_series {
    uint64_t hash;
    const uint32_t *symbols; /* name, value, ...; in the arena */
    uint32_t n_labels;
    uint32_t n_tail, cap_tail;
    int64_t *t; /* the tail: times, then values behind cap_tail of them */
    struct part *parts;
    uint32_t n_parts, cap_parts;
    uint32_t next_part; /* when writing: parts are sorted by window */
};

struct storage_import {
    struct fs *fs;
    char *dir, *spill_dir, *spill_path;
    int64_t block_ms;
    struct intern *symbols;
    struct arena *keys;
    struct import_series *series;
    uint32_t n_series, cap_series;
    uint32_t *slots;
    size_t n_slots;
    size_t tail_bytes;
    struct chunk_scratch *scratch;
    /* the spill: bytes in the file, then those in memory */
    struct fs_file *file;
    uint64_t in_file;
    struct buf pending, from_file;
    struct buf times, values; /* a part being made */
    storage_import_name_fn *name;
    void *name_ctx;
    uint64_t equal, conflicting; /* samples that I2 dropped */
};

static nx_status nomem(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for an import");
}

/* ---- opening -------------------------------------------------------------------------------- */

nx_status storage_import_open(struct storage_import **out, struct fs *fs, const char *dir,
                              int64_t block_ms, struct nx_err *err)
{
    struct storage_import *im = calloc(1, sizeof *im);
    char ulid[BLOCK_ULID_LEN + 1];

    if (!im)
        return nomem(err);
    block_ulid(ulid, clock_now_ms());
    im->fs = fs;
    im->block_ms = block_ms > 0 ? block_ms : DEFAULT_BLOCK_MS;
    im->dir = strdup(dir);
    if (asprintf(&im->spill_dir, "%s/%s%s", dir, ulid, BLOCK_TMP_SUFFIX) < 0)
        im->spill_dir = NULL;
    if (im->spill_dir && asprintf(&im->spill_path, "%s/spill", im->spill_dir) < 0)
        im->spill_path = NULL;
    im->symbols = intern_new();
    im->keys = arena_new(0);
    im->scratch = chunk_scratch_new();
    if (!im->dir || !im->spill_dir || !im->spill_path || !im->symbols || !im->keys ||
        !im->scratch) {
        storage_import_close(im);
        return nomem(err);
    }
    *out = im;
    return NX_OK;
}

void storage_import_close(struct storage_import *im)
{
    if (!im)
        return;
    im->fs->close(im->fs, im->file);
    if (im->file) {
        nx_status left = fs_remove_tree(im->fs, im->spill_dir, NULL);
        (void)left; /* I4: the next storage_open() removes it */
    }
    for (uint32_t i = 0; i < im->n_series; i++) {
        free(im->series[i].t);
        free(im->series[i].parts);
    }
    free(im->series);
    free(im->slots);
    intern_free(im->symbols);
    arena_free(im->keys);
    chunk_scratch_free(im->scratch);
    buf_done(&im->pending);
    buf_done(&im->from_file);
    buf_done(&im->times);
    buf_done(&im->values);
    free(im->dir);
    free(im->spill_dir);
    free(im->spill_path);
    free(im);
}

/* ---- the spill ------------------------------------------------------------------------------ */

static nx_status spill_flush(struct storage_import *im, struct nx_err *err)
{
    size_t wrote = 0;
    nx_status st = NX_OK;

    if (!im->file) {
        st = fs_mkdirs(im->fs, im->dir, err);
        if (!st)
            st = im->fs->mkdir(im->fs, im->spill_dir, err);
        if (!st)
            st = im->fs->open(im->fs, im->spill_path, FS_READ | FS_WRITE | FS_CREATE | FS_EXCL,
                              &im->file, err);
    }
    if (!st)
        st = im->fs->pwrite(im->fs, im->file, im->pending.ptr, im->pending.len, im->in_file, &wrote,
                            err);
    if (!st) {
        im->in_file += im->pending.len;
        buf_clear(&im->pending);
    }
    return st;
}

/* The bytes at `at`; valid until the next call. A part lies in the file or in memory as a whole. */
static nx_status spill_get(struct storage_import *im, uint64_t at, size_t len, const char **out,
                           struct nx_err *err)
{
    size_t got = 0;
    char *to;
    nx_status st;

    if (at >= im->in_file) {
        *out = im->pending.ptr + (at - im->in_file);
        return NX_OK;
    }
    buf_clear(&im->from_file);
    to = buf_reserve(&im->from_file, len);
    if (!to)
        return nomem(err);
    st = im->fs->pread(im->fs, im->file, to, len, at, &got, err);
    if (!st && got != len)
        st = nx_fail(err, NX_IO, "%s: ends before %" PRIu64, im->spill_path, at + len);
    *out = to;
    return st;
}

/* ---- adding --------------------------------------------------------------------------------- */

static bool same_labels(const struct import_series *s, const uint32_t *symbols, uint32_t n)
{
    return s->n_labels == n && memcmp(s->symbols, symbols, 2 * n * sizeof *symbols) == 0;
}

static bool fit_series(struct storage_import *im)
{
    if (im->n_series == im->cap_series) {
        uint32_t cap = im->cap_series ? im->cap_series * 2 : 64;
        struct import_series *s = cap < NONE / 2 ? realloc(im->series, cap * sizeof *s) : NULL;
        if (!s)
            return false;
        im->series = s;
        im->cap_series = cap;
    }
    if ((size_t)im->n_series * 2 >= im->n_slots) {
        size_t n = im->n_slots ? im->n_slots * 2 : 128;
        uint32_t *slots = malloc(n * sizeof *slots);
        if (!slots)
            return false;
        memset(slots, 0xff, n * sizeof *slots);
        for (uint32_t i = 0; i < im->n_series; i++) {
            size_t at = im->series[i].hash & (n - 1);
            while (slots[at] != NONE)
                at = (at + 1) & (n - 1);
            slots[at] = i;
        }
        free(im->slots);
        im->slots = slots;
        im->n_slots = n;
    }
    return true;
}

/* The labels as numbers of symbols; in the arena, to be given back if the series is known. */
static nx_status symbols_of(struct storage_import *im, const struct labels *ls, uint32_t **out,
                            struct nx_err *err)
{
    uint32_t *symbols = arena_array(im->keys, 2 * (size_t)ls->n, sizeof *symbols);

    for (uint32_t i = 0; symbols && i < ls->n; i++) {
        symbols[2 * i] = intern_get(im->symbols, ls->v[i].name);
        symbols[2 * i + 1] = intern_get(im->symbols, ls->v[i].value);
        if (!symbols[2 * i] || !symbols[2 * i + 1])
            return nomem(err);
    }
    *out = symbols;
    return symbols ? NX_OK : nomem(err);
}

nx_status storage_import_series(struct storage_import *im, const struct labels *ls, uint32_t *ref,
                                struct nx_err *err)
{
    const struct arena_mark mark = arena_mark(im->keys);
    uint32_t *symbols;
    uint64_t hash;
    size_t at;
    nx_status st;

    if (ls->n == 0)
        return nx_fail(err, NX_BADINPUT, "a series needs a label");
    st = symbols_of(im, ls, &symbols, err);
    if (st)
        return st;
    hash = hash_bytes(symbols, 2 * (size_t)ls->n * sizeof *symbols);
    if (!fit_series(im))
        return nomem(err);
    for (at = hash & (im->n_slots - 1); im->slots[at] != NONE; at = (at + 1) & (im->n_slots - 1)) {
        if (im->series[im->slots[at]].hash == hash &&
            same_labels(&im->series[im->slots[at]], symbols, ls->n)) {
            *ref = im->slots[at];
            arena_release(im->keys, mark);
            return NX_OK;
        }
    }
    im->series[im->n_series] =
        (struct import_series){.hash = hash, .symbols = symbols, .n_labels = ls->n};
    im->slots[at] = im->n_series;
    *ref = im->n_series++;
    return NX_OK;
}

static int64_t window_of(const struct storage_import *im, int64_t t)
{
    int64_t w = t / im->block_ms;

    return t < 0 && t % im->block_ms ? w - 1 : w;
}

static double *tail_values(const struct import_series *s)
{
    return (double *)(void *)(s->t + s->cap_tail);
}

static nx_status seal(struct storage_import *im, struct import_series *s, struct nx_err *err)
{
    struct part p = {.n = s->n_tail, .sorted = true};
    nx_status st;

    if (s->n_tail == 0)
        return NX_OK;
    if (s->n_parts == s->cap_parts) {
        uint32_t cap = s->cap_parts ? s->cap_parts * 2 : 4;
        struct part *parts = realloc(s->parts, cap * sizeof *parts);
        if (!parts)
            return nomem(err);
        s->parts = parts;
        s->cap_parts = cap;
    }
    for (uint32_t i = 1; i < s->n_tail; i++)
        p.sorted &= s->t[i - 1] < s->t[i];
    buf_clear(&im->times);
    buf_clear(&im->values);
    st = times_encode(&im->times, s->t, s->n_tail, im->scratch, err);
    if (!st)
        st = chunk_encode_fast(&im->values, tail_values(s), s->n_tail, im->scratch, err);
    if (!st && im->pending.len + im->times.len + im->values.len > SPILL_BYTES)
        st = spill_flush(im, err);
    if (st)
        return st;
    p.window = window_of(im, s->t[0]);
    p.at = im->in_file + im->pending.len;
    p.times_len = (uint32_t)im->times.len;
    p.values_len = (uint32_t)im->values.len;
    buf_append(&im->pending, im->times.ptr, im->times.len);
    buf_append(&im->pending, im->values.ptr, im->values.len);
    s->parts[s->n_parts++] = p;
    s->n_tail = 0;
    return buf_status(&im->pending, err);
}

static void drop_tail(struct storage_import *im, struct import_series *s)
{
    im->tail_bytes -= 16 * (size_t)s->cap_tail;
    free(s->t);
    s->t = NULL;
    s->cap_tail = 0;
}

static nx_status seal_all(struct storage_import *im, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (uint32_t i = 0; i < im->n_series && !st; i++) {
        st = seal(im, &im->series[i], err);
        if (!st)
            drop_tail(im, &im->series[i]);
    }
    return st;
}

/* Doubles the tail, moving the values behind the longer times. */
static nx_status grow_tail(struct storage_import *im, struct import_series *s, struct nx_err *err)
{
    const uint32_t old = s->cap_tail, cap = old ? old * 2 : FIRST_TAIL_ROWS;
    int64_t *t = realloc(s->t, 16 * (size_t)cap);

    if (!t)
        return nomem(err);
    memmove(t + cap, t + old, 8 * (size_t)s->n_tail);
    s->t = t;
    s->cap_tail = cap;
    im->tail_bytes += 16 * (size_t)(cap - old);
    return NX_OK;
}

nx_status storage_import_add(struct storage_import *im, uint32_t ref, int64_t t_ms, double v,
                             struct nx_err *err)
{
    struct import_series *s;
    nx_status st = NX_OK;

    if (ref >= im->n_series || t_ms == INT64_MAX || t_ms == INT64_MIN)
        return nx_fail(err, NX_BADINPUT, "series %u of %u at %" PRId64, ref, im->n_series, t_ms);
    s = &im->series[ref];
    if (s->n_tail &&
        (s->n_tail == TAIL_ROWS || window_of(im, s->t[0]) != window_of(im, t_ms))) /* I1 */
        st = seal(im, s, err);
    if (!st && s->n_tail == s->cap_tail) {
        if (im->tail_bytes > TAIL_BYTES) /* I3 */
            st = seal_all(im, err);
        if (!st)
            st = grow_tail(im, s, err);
    }
    if (st)
        return st;
    s->t[s->n_tail] = t_ms;
    tail_values(s)[s->n_tail++] = chunk_is_absent(v) ? num_from_bits(NUM_NAN_BITS) : v;
    return NX_OK;
}

/* ---- writing -------------------------------------------------------------------------------- */

struct writing {
    struct storage_import *im;
    struct labels *labels; /* by series number */
    uint32_t *order;       /* series numbers in label order */
    struct arena *arena;
    struct shared_times times; /* of the window */
    struct samples samples;
    uint32_t *sorted; /* for sorting samples */
    size_t cap_sorted;
};

static int by_labels(const void *x, const void *y, void *ctx)
{
    const struct writing *w = ctx;

    return labels_cmp(&w->labels[*(const uint32_t *)x], &w->labels[*(const uint32_t *)y]);
}

static nx_status sort_series(struct writing *w, struct nx_err *err)
{
    struct storage_import *im = w->im;

    w->labels = arena_array(w->arena, im->n_series, sizeof *w->labels);
    w->order = arena_array(w->arena, im->n_series, sizeof *w->order);
    if (!w->labels || !w->order)
        return nomem(err);
    for (uint32_t i = 0; i < im->n_series; i++) {
        const struct import_series *s = &im->series[i];
        struct label *v = arena_array(w->arena, s->n_labels, sizeof *v);
        if (!v)
            return nomem(err);
        for (uint32_t k = 0; k < s->n_labels; k++)
            v[k] = (struct label){intern_str(im->symbols, s->symbols[2 * k]),
                                  intern_str(im->symbols, s->symbols[2 * k + 1])};
        w->labels[i] = (struct labels){v, s->n_labels};
        w->order[i] = i;
    }
    qsort_r(w->order, im->n_series, sizeof *w->order, by_labels, w);
    return NX_OK;
}

static int by_window(const void *x, const void *y)
{
    const struct part *p = x, *q = y;

    if (p->window != q->window)
        return p->window < q->window ? -1 : 1;
    return p->at < q->at ? -1 : p->at > q->at; /* as they were added */
}

/* Decodes one part behind what is there; times alone if `values` is false. */
static nx_status read_part(struct writing *w, const struct part *p, bool values, struct nx_err *err)
{
    struct samples *s = &w->samples;
    const char *bytes = NULL;
    nx_status st = samples_reserve(s, p->n, err);

    if (!st)
        st = spill_get(w->im, p->at, (size_t)p->times_len + p->values_len, &bytes, err);
    if (!st)
        st = times_decode(bytes, p->times_len, s->t + s->n, p->n, w->im->scratch, err);
    if (!st && values)
        st = chunk_decode(bytes + p->times_len, p->values_len, s->v + s->n, p->n, w->im->scratch,
                          err);
    if (!st)
        s->n += p->n;
    return st;
}

static int by_time(const void *x, const void *y, void *ctx)
{
    const int64_t *t = ctx;
    const uint32_t i = *(const uint32_t *)x, k = *(const uint32_t *)y;

    if (t[i] != t[k])
        return t[i] < t[k] ? -1 : 1;
    return i < k ? -1 : i > k;
}

/* Brings samples into order; of those with the same time the first stays (I2). */
static nx_status put_in_order(struct writing *w, bool count, struct nx_err *err)
{
    struct samples *s = &w->samples, other = {0};
    nx_status st;

    if (w->cap_sorted < s->n) {
        uint32_t *p = realloc(w->sorted, s->n * sizeof *p);
        if (!p)
            return nomem(err);
        w->sorted = p;
        w->cap_sorted = s->n;
    }
    for (size_t i = 0; i < s->n; i++)
        w->sorted[i] = (uint32_t)i;
    qsort_r(w->sorted, s->n, sizeof *w->sorted, by_time, s->t);
    st = samples_reserve(&other, s->n, err);
    for (size_t i = 0; i < s->n && !st; i++) {
        const uint32_t k = w->sorted[i];
        if (other.n && other.t[other.n - 1] == s->t[k]) {
            if (count) {
                const bool same = num_bits(other.v[other.n - 1]) == num_bits(s->v[k]);
                w->im->equal += same;
                w->im->conflicting += !same;
            }
            continue;
        }
        other.t[other.n] = s->t[k];
        other.v[other.n++] = s->v[k];
    }
    if (st) {
        samples_done(&other);
        return st;
    }
    samples_done(s);
    *s = other;
    return NX_OK;
}

/* All samples of a series in the window, in order; `advance` leaves its parts behind. */
static nx_status read_series(struct writing *w, struct import_series *s, int64_t window,
                             bool advance, struct nx_err *err)
{
    uint32_t i = s->next_part;
    bool sorted = true;
    nx_status st = NX_OK;

    w->samples.n = 0;
    for (; i < s->n_parts && s->parts[i].window == window && !st; i++) {
        const size_t before = w->samples.n;
        st = read_part(w, &s->parts[i], advance, err);
        sorted &= s->parts[i].sorted;
        if (!st && before && w->samples.t[before] <= w->samples.t[before - 1])
            sorted = false;
    }
    if (!st && !sorted) {
        if (!advance) /* values were not read, but go along */
            memset(w->samples.v, 0, w->samples.n * sizeof *w->samples.v);
        st = put_in_order(w, advance, err);
    }
    if (advance)
        s->next_part = i;
    return st;
}

static bool in_window(const struct import_series *s, int64_t window)
{
    return s->next_part < s->n_parts && s->parts[s->next_part].window == window;
}

/* First pass over a window: groups, their unions, and the range of times. */
static nx_status survey(struct writing *w, int64_t window, int64_t *min, int64_t *max,
                        struct nx_err *err)
{
    nx_status st = NX_OK;

    *min = INT64_MAX;
    *max = INT64_MIN;
    for (uint32_t i = 0; i < w->im->n_series && !st; i++) {
        struct import_series *s = &w->im->series[i];

        if (!in_window(s, window))
            continue;
        st = read_series(w, s, window, false, err);
        if (!st && w->samples.n)
            st = shared_times_add(&w->times, &w->labels[i], w->samples.t, w->samples.n, err);
        if (!st && w->samples.n) {
            *min = w->samples.t[0] < *min ? w->samples.t[0] : *min;
            *max = w->samples.t[w->samples.n - 1] > *max ? w->samples.t[w->samples.n - 1] : *max;
        }
    }
    return st;
}

static nx_status write_window(struct writing *w, int64_t window, int64_t min, int64_t max,
                              const char *ulid, struct block_meta *meta, struct nx_err *err)
{
    const struct block_writer_opts opts = {
        .fs = w->im->fs, .dir = w->im->dir, .ulid = ulid, .min_ms = min, .max_ms = max + 1};
    struct block_writer *b = NULL;
    nx_status st = block_writer_open(&b, &opts, err);

    for (uint32_t i = 0; i < w->im->n_series && !st; i++) {
        const uint32_t k = w->order[i];
        if (!in_window(&w->im->series[k], window))
            continue;
        st = read_series(w, &w->im->series[k], window, true, err);
        if (!st)
            st = block_writer_series(b, &w->labels[k], err);
        if (!st)
            st = shared_times_put(&w->times, b, &w->labels[k], w->samples.t, w->samples.v,
                                  w->samples.n, err);
    }
    if (!st)
        st = block_writer_commit(b, meta, err);
    block_writer_close(b);
    return st;
}

/* The earliest window that is not written yet. */
static bool next_window(const struct storage_import *im, int64_t *window)
{
    bool any = false;

    for (uint32_t i = 0; i < im->n_series; i++) {
        const struct import_series *s = &im->series[i];
        if (s->next_part < s->n_parts && (!any || s->parts[s->next_part].window < *window)) {
            *window = s->parts[s->next_part].window;
            any = true;
        }
    }
    return any;
}

static void pass_window(struct storage_import *im, int64_t window)
{
    for (uint32_t i = 0; i < im->n_series; i++)
        while (in_window(&im->series[i], window))
            im->series[i].next_part++;
}

static nx_status write_blocks(struct writing *w,
                              void (*seen)(void *ctx, const struct storage_import_block *b),
                              void *ctx, struct nx_err *err)
{
    int64_t window = 0, min, max;
    nx_status st = NX_OK;

    while (!st && next_window(w->im, &window)) {
        struct block_meta meta = {0};
        struct storage_import_block b = {0};
        const bool named = w->im->name != NULL;

        if (named && !w->im->name(w->im->name_ctx, window * w->im->block_ms, b.ulid)) {
            pass_window(w->im, window);
            continue;
        }
        st = survey(w, window, &min, &max, err);
        if (!st)
            st = write_window(w, window, min, max, named ? b.ulid : NULL, &meta, err);
        shared_times_clear(&w->times);
        if (st)
            break;
        memcpy(b.ulid, meta.ulid, sizeof b.ulid);
        b.min_ms = meta.min_ms;
        b.max_ms = meta.max_ms;
        b.samples = meta.n_samples;
        b.chunks = meta.n_chunks;
        b.series = meta.n_series;
        b.bytes = meta.bytes;
        block_meta_done(&meta);
        if (seen)
            seen(ctx, &b);
    }
    return st;
}

static void writing_done(struct writing *w)
{
    shared_times_done(&w->times);
    arena_free(w->arena);
    samples_done(&w->samples);
    free(w->sorted);
}

nx_status storage_import_finish(struct storage_import *im,
                                void (*seen)(void *ctx, const struct storage_import_block *b),
                                void *ctx, struct nx_err *err)
{
    struct writing w = {.im = im, .arena = arena_new(0)};
    nx_status st = w.arena ? fs_mkdirs(im->fs, im->dir, err) : nomem(err);

    if (!st)
        st = seal_all(im, err);
    for (uint32_t i = 0; i < im->n_series && !st; i++) {
        if (im->series[i].n_parts)
            qsort(im->series[i].parts, im->series[i].n_parts, sizeof(struct part), by_window);
        im->series[i].next_part = 0;
    }
    if (!st)
        st = sort_series(&w, err);
    if (!st)
        st = write_blocks(&w, seen, ctx, err);
    writing_done(&w);
    return st;
}

void storage_import_set_names(struct storage_import *im, storage_import_name_fn *name, void *ctx)
{
    im->name = name;
    im->name_ctx = ctx;
}

void storage_import_dropped(const struct storage_import *im, uint64_t *equal, uint64_t *conflicting)
{
    *equal = im->equal;
    *conflicting = im->conflicting;
}
