/* seal.c - columns of rows as bytes.
 *
 * SHAPE   In memory a seal is one allocation: offsets of the columns, then their bytes, then the
 *         timestamps. A stored one keeps its place in a chunk file. */
#include "storage/seal.h"

#include <stdlib.h>
#include <string.h>

#include "storage/head.h"
#include "storage/headfile.h"
#include "storage/wal_row.h"

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "the head");
}

static uint32_t map_words(const struct seal *s)
{
    return s->has_map ? (s->n_cols + 31) / 32 : 0;
}

size_t seal_bytes(const struct seal *s)
{
    if (s->file)
        return sizeof *s + map_words(s) * sizeof s->off[0];
    return (size_t)(seal_data(s) - (const uint8_t *)s) + s->off[s->n_cols + 1];
}

uint32_t seal_rows_up_to(const struct seal *s, uint64_t seq)
{
    const uint32_t *after = s->off + s->n_cols + 2;
    uint32_t n = 0;

    if (s->seq_last <= seq || !s->keeps_seq) /* G5 */
        return s->n_rows;
    while (n < s->n_rows && s->seq_first + after[n] <= seq)
        n++;
    return n;
}

struct seal *seal_ref(struct seal *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void seal_unref(struct seal *s)
{
    if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
        headfile_unref(s->file);
        free(s);
    }
}

nx_status seal_times(const struct seal *s, int64_t *t, struct chunk_scratch *scratch,
                     struct nx_err *err)
{
    uint32_t at;

    if (s->file)
        return headfile_times(s, t, scratch, err);
    at = s->off[s->n_cols];
    return times_decode(seal_data(s) + at, s->off[s->n_cols + 1] - at, t, s->n_rows, scratch, err);
}

nx_status seal_column(const struct seal *s, uint32_t col, double *v, struct chunk_scratch *scratch,
                      struct nx_err *err)
{
    if (!seal_has(s, col)) {
        for (uint32_t i = 0; i < s->n_rows; i++)
            v[i] = chunk_absent();
        return NX_OK;
    }
    if (s->file)
        return headfile_column(s, col, v, scratch, err);
    if (s->light) {
        struct nx_slice bytes = {(const char *)seal_data(s) + s->off[col],
                                 s->off[col + 1] - s->off[col]};
        return wal_row_decode_column(bytes, v, s->n_rows)
                   ? NX_OK
                   : nx_fail(err, NX_CORRUPT, "a seal in memory");
    }
    return chunk_decode(seal_data(s) + s->off[col], s->off[col + 1] - s->off[col], v, s->n_rows,
                        scratch, err);
}

nx_status sealing_begin(struct sealing *b, uint32_t n_rows, uint32_t n_cols, struct nx_err *err)
{
    buf_clear(&b->w->data);
    b->n_rows = n_rows;
    b->n_cols = n_cols;
    return work_room(b->w, n_rows, n_cols + 2, err);
}

nx_status sealing_column(struct sealing *b, uint32_t col, const double *v, unsigned digits,
                         struct nx_err *err)
{
    bool any = false;

    b->w->off[col] = (uint32_t)b->w->data.len;
    for (uint32_t i = 0; i < b->n_rows && !any; i++)
        any = !chunk_is_absent(v[i]);
    if (!any)
        return NX_OK;
    if (!b->light)
        return chunk_encode_fast(&b->w->data, v, b->n_rows, b->w->scratch, err);
    wal_row_encode_column(&b->w->data, v, b->n_rows, digits);
    return NX_OK; /* buf_status() tells at the end */
}

nx_status sealing_end(struct sealing *b, const int64_t *t, struct seal **out, struct nx_err *err)
{
    struct buf *d = &b->w->data;
    struct seal *s;
    size_t n_off = (size_t)b->n_cols + 2, n_seq = b->keeps_seq ? b->n_rows : 0;
    nx_status st;

    b->w->off[b->n_cols] = (uint32_t)d->len;
    st = times_encode(d, t, b->n_rows, b->w->scratch, err);
    if (!st)
        st = buf_status(d, err);
    if (st)
        return st;
    b->w->off[b->n_cols + 1] = (uint32_t)d->len;
    s = malloc(sizeof *s + (n_off + n_seq) * sizeof s->off[0] + d->len);
    if (!s)
        return no_memory(err);
    *s = (struct seal){.n_rows = b->n_rows, .n_cols = b->n_cols, .min_ms = t[0], .max_ms = t[0]};
    atomic_init(&s->refs, 1);
    s->ascending = true;
    s->light = b->light;
    s->keeps_seq = b->keeps_seq;
    for (uint32_t i = 1; i < b->n_rows; i++) {
        s->ascending = s->ascending && t[i] > t[i - 1];
        s->min_ms = t[i] < s->min_ms ? t[i] : s->min_ms;
        s->max_ms = t[i] > s->max_ms ? t[i] : s->max_ms;
    }
    memcpy(s->off, b->w->off, n_off * sizeof s->off[0]);
    memcpy(s->off + n_off + n_seq, d->ptr, d->len);
    *out = s;
    return NX_OK;
}

nx_status seal_join(struct seal *const *v, uint32_t n, struct work *w, struct seal **out,
                    struct nx_err *err)
{
    struct sealing b = {.w = w};
    struct seal *s = NULL;
    uint32_t n_rows = 0, n_cols = 0, at = 0;
    nx_status st;

    for (uint32_t i = 0; i < n; i++) {
        n_rows += v[i]->n_rows;
        n_cols = v[i]->n_cols > n_cols ? v[i]->n_cols : n_cols;
    }
    st = sealing_begin(&b, n_rows, n_cols, err);
    for (uint32_t c = 0; c < n_cols && !st; c++) {
        at = 0;
        for (uint32_t i = 0; i < n && !st; at += v[i++]->n_rows)
            st = seal_column(v[i], c, w->v + at, w->scratch, err);
        if (!st)
            st = sealing_column(&b, c, w->v, 0, err);
    }
    at = 0;
    for (uint32_t i = 0; i < n && !st; at += v[i++]->n_rows)
        st = seal_times(v[i], w->t + at, w->scratch, err);
    if (!st)
        st = sealing_end(&b, w->t, &s, err);
    if (st)
        return st;
    s->first = v[0]->first;
    s->end = v[n - 1]->end;
    s->seq_first = v[0]->seq_first;
    s->seq_last = v[n - 1]->seq_last;
    s->rebound = v[0]->rebound;
    s->segment = v[0]->segment;
    s->epoch = v[n - 1]->epoch;
    *out = s;
    return NX_OK;
}

struct seal *seal_stored_at(const struct seal *s, struct headfile *f, uint64_t at,
                            uint32_t head_bytes)
{
    uint32_t words = (s->n_cols + 31) / 32;
    bool all = true;
    struct seal *stored;

    for (uint32_t c = 0; c < s->n_cols && all; c++)
        all = seal_has(s, c);
    stored = calloc(1, sizeof *stored + (all ? 0 : words) * sizeof stored->off[0]);
    if (!stored)
        return NULL;
    memcpy(stored, s, sizeof *stored);
    atomic_init(&stored->refs, 1);
    stored->light = stored->keeps_seq = false;
    stored->has_map = !all;
    for (uint32_t c = 0; c < s->n_cols && !all; c++)
        stored->off[c / 32] |= (uint32_t)seal_has(s, c) << c % 32;
    stored->file = headfile_ref(f);
    stored->at = at;
    stored->head_bytes = head_bytes;
    return stored;
}
