/* define.c - columns and their series as bytes.
 *
 * SHAPE   For each column: its number, perhaps the row from which it is bound, the number of its labels;
 *         for each label how it is told: 0 as the label in that place of the column before, 1 its name as
 *         there and another value, 2 both anew.
 * RULES   The bytes are from outside although their checksum was right: names ascend, nothing is empty. */
#include "storage/define.h"

#include <stdlib.h>

#include "src/base/limits.h"

enum { LABEL_SAME, LABEL_VALUE, LABEL_BOTH };

static void put_slice(struct buf *b, struct nx_slice s)
{
    buf_uvarint(b, s.len);
    buf_slice(b, s);
}

static bool same(struct nx_slice a, struct nx_slice b)
{
    return a.len == b.len && (a.ptr == b.ptr || nx_slice_eq(a, b));
}

void define_put(struct buf *to, const struct index *ix, uint32_t col, const uint32_t *from,
                const struct memseries *s, const struct memseries *before)
{
    buf_uvarint(to, col);
    if (from)
        buf_uvarint(to, *from);
    buf_uvarint(to, s->n_pairs);
    for (uint32_t i = 0; i < s->n_pairs; i++) {
        struct label l = index_label(ix, s, i), was = {0};
        if (before && i < before->n_pairs)
            was = index_label(ix, before, i);
        bool name = same(l.name, was.name), value = name && same(l.value, was.value);
        buf_u8(to, value ? LABEL_SAME : name ? LABEL_VALUE : LABEL_BOTH);
        if (!name)
            put_slice(to, l.name);
        if (!value)
            put_slice(to, l.value);
    }
}

static nx_status nonsense(struct nx_err *err)
{
    return nx_fail(err, NX_CORRUPT, "columns that make no sense");
}

static bool get_label(struct define_reader *d, uint32_t i)
{
    struct label *l = &d->labels[i];
    uint8_t how = d->plain ? LABEL_BOTH : reader_u8(&d->in);

    if (how > LABEL_BOTH || (how != LABEL_BOTH && i >= d->n))
        return false;
    if (how == LABEL_BOTH)
        l->name = reader_bytes(&d->in, reader_uvarint(&d->in));
    if (how != LABEL_SAME)
        l->value = reader_bytes(&d->in, reader_uvarint(&d->in));
    return !d->in.bad && l->name.len && l->value.len &&
           (i == 0 || nx_slice_cmp(d->labels[i - 1].name, l->name) < 0);
}

nx_status define_get(struct define_reader *d, uint32_t *col, uint32_t *from, struct labels *ls,
                     struct nx_err *err)
{
    uint64_t c = reader_uvarint(&d->in), f = d->with_from ? reader_uvarint(&d->in) : 0;
    uint64_t n = reader_uvarint(&d->in);

    if (d->in.bad || c >= UINT32_MAX || f >= UINT32_MAX || n == 0 ||
        n > NX_LIMIT_LABELS_PER_SERIES || n > reader_left(&d->in))
        return nonsense(err);
    if (n > d->cap) {
        struct label *labels = realloc(d->labels, n * sizeof *labels);
        if (!labels)
            return nx_fail(err, NX_NOMEM, "reading columns");
        d->labels = labels;
        d->cap = (uint32_t)n;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!get_label(d, i)) {
            d->n = 0;
            return nonsense(err);
        }
    }
    d->n = (uint32_t)n;
    *col = (uint32_t)c;
    *from = (uint32_t)f;
    *ls = (struct labels){d->labels, d->n};
    return NX_OK;
}

void define_done(struct define_reader *d)
{
    free(d->labels);
    d->labels = NULL;
    d->n = d->cap = 0;
}
