/* block_build.c - the index of a block, built while its chunks are written.
 *
 * WHY     The order of values, and with it their numbers, is only known after the last series; memory
 *         must not grow with series times labels times pointer sizes.
 * SHAPE   Names and values get provisional numbers in the order they come, in one hash table. A series
 *         is a few varints: how many pairs it shares with the one before, and the numbers of the rest.
 *         At the end names and values are sorted, which gives their real numbers; series are read back
 *         once to be written, and again for the lists of each value.
 * RULES   X1  Values of all names have one common numbering: by name, then by bytes.
 *         X2  Lists are made for a range of values at a time, POSTINGS_AT_ONCE numbers of series at
 *             most (one value may exceed it), so memory is bounded whatever the block's size. */
#include "storage/block_build.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"

#define POSTINGS_AT_ONCE (4u << 20)
#define NONE             UINT32_MAX

struct name {
    struct nx_slice s;
    uint32_t rank;  /* in order of names */
    uint32_t first; /* number of its first value */
    uint32_t n_values;
};
struct value {
    struct nx_slice s;
    uint32_t name; /* provisional */
    uint32_t rank; /* its number: X1 */
    uint32_t n_series;
};
struct span {
    int64_t min, max;
};

/* Open addressing over provisional numbers. */
struct table {
    uint32_t *slots;
    size_t n_slots;
};

struct block_build {
    struct arena *strings;
    struct name *names;
    struct value *values;
    struct span *spans;
    uint32_t n_names, cap_names, n_values, cap_values, n_spans, cap_spans;
    struct table name_table, value_table, span_table;
    uint32_t *last; /* value numbers of the series before */
    uint32_t n_last, cap_last;
    struct buf series;
    uint64_t n_series;
};

struct block_build *block_build_new(void)
{
    struct block_build *b = calloc(1, sizeof *b);

    if (b && !(b->strings = arena_new(0))) {
        free(b);
        return NULL;
    }
    return b;
}

void block_build_free(struct block_build *b)
{
    if (!b)
        return;
    arena_free(b->strings);
    free(b->names);
    free(b->values);
    free(b->spans);
    free(b->name_table.slots);
    free(b->value_table.slots);
    free(b->span_table.slots);
    free(b->last);
    buf_done(&b->series);
    free(b);
}

static nx_status nomem(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for a block's index");
}

/* Makes *v hold one more of `size` bytes. */
static bool grow(void *v, uint32_t n, uint32_t *cap, size_t size)
{
    void **array = v;
    uint32_t want = *cap ? *cap * 2 : 64;
    void *p;

    if (n < *cap)
        return true;
    if (want <= *cap || want > NONE / 2)
        return false;
    p = realloc(*array, want * size);
    if (!p)
        return false;
    *array = p;
    *cap = want;
    return true;
}

/* ---- tables --------------------------------------------------------------------------------- */

typedef uint64_t hash_fn(const struct block_build *b, uint32_t id);

static uint64_t hash_name(const struct block_build *b, uint32_t id)
{
    return hash_bytes(b->names[id].s.ptr, b->names[id].s.len);
}

static uint64_t hash_value(const struct block_build *b, uint32_t id)
{
    return hash_mix(b->values[id].name, hash_bytes(b->values[id].s.ptr, b->values[id].s.len));
}

static uint64_t hash_span(const struct block_build *b, uint32_t id)
{
    return hash_bytes(&b->spans[id], sizeof(struct span));
}

static void table_put(struct table *t, uint64_t hash, uint32_t id)
{
    size_t at = hash & (t->n_slots - 1);

    while (t->slots[at] != NONE)
        at = (at + 1) & (t->n_slots - 1);
    t->slots[at] = id;
}

/* Keeps the table at most half full for n entries and one more. */
static bool table_fit(const struct block_build *b, struct table *t, uint32_t n, hash_fn *hash)
{
    size_t want = t->n_slots ? t->n_slots * 2 : 128;

    if ((size_t)n * 2 < t->n_slots)
        return true;
    free(t->slots);
    t->slots = malloc(want * sizeof *t->slots);
    t->n_slots = t->slots ? want : 0;
    if (!t->slots)
        return false;
    memset(t->slots, 0xff, want * sizeof *t->slots);
    for (uint32_t i = 0; i < n; i++)
        table_put(t, hash(b, i), i);
    return true;
}

/* The number of a name; added if need be. NONE out of memory. */
static uint32_t name_id(struct block_build *b, struct nx_slice s)
{
    struct table *t = &b->name_table;
    size_t at;

    if (!table_fit(b, t, b->n_names, hash_name) ||
        !grow(&b->names, b->n_names, &b->cap_names, sizeof *b->names))
        return NONE;
    for (at = hash_bytes(s.ptr, s.len) & (t->n_slots - 1); t->slots[at] != NONE;
         at = (at + 1) & (t->n_slots - 1))
        if (nx_slice_eq(b->names[t->slots[at]].s, s))
            return t->slots[at];
    s = arena_slice(b->strings, s);
    if (!s.ptr)
        return NONE;
    b->names[b->n_names] = (struct name){.s = s};
    t->slots[at] = b->n_names;
    return b->n_names++;
}

static uint32_t value_id(struct block_build *b, uint32_t name, struct nx_slice s)
{
    struct table *t = &b->value_table;
    uint64_t h = hash_mix(name, hash_bytes(s.ptr, s.len));
    size_t at;

    if (!table_fit(b, t, b->n_values, hash_value) ||
        !grow(&b->values, b->n_values, &b->cap_values, sizeof *b->values))
        return NONE;
    for (at = h & (t->n_slots - 1); t->slots[at] != NONE; at = (at + 1) & (t->n_slots - 1)) {
        const struct value *v = &b->values[t->slots[at]];
        if (v->name == name && nx_slice_eq(v->s, s))
            return t->slots[at];
    }
    s = arena_slice(b->strings, s);
    if (!s.ptr)
        return NONE;
    b->values[b->n_values] = (struct value){.s = s, .name = name};
    b->names[name].n_values++;
    t->slots[at] = b->n_values;
    return b->n_values++;
}

static uint32_t span_id(struct block_build *b, struct span x)
{
    struct table *t = &b->span_table;
    size_t at;

    if (!table_fit(b, t, b->n_spans, hash_span) ||
        !grow(&b->spans, b->n_spans, &b->cap_spans, sizeof *b->spans))
        return NONE;
    for (at = hash_bytes(&x, sizeof x) & (t->n_slots - 1); t->slots[at] != NONE;
         at = (at + 1) & (t->n_slots - 1)) {
        const struct span *s = &b->spans[t->slots[at]];
        if (s->min == x.min && s->max == x.max)
            return t->slots[at];
    }
    b->spans[b->n_spans] = x;
    t->slots[at] = b->n_spans;
    return b->n_spans++;
}

/* ---- adding --------------------------------------------------------------------------------- */

static bool is_pair(const struct block_build *b, uint32_t value, const struct label *l)
{
    return nx_slice_eq(b->names[b->values[value].name].s, l->name) &&
           nx_slice_eq(b->values[value].s, l->value);
}

nx_status block_build_add(struct block_build *b, const struct labels *ls, uint32_t n_chunks,
                          int64_t mint, int64_t maxt, struct nx_err *err)
{
    uint32_t shared = 0, span;

    while (shared < ls->n && shared < b->n_last && is_pair(b, b->last[shared], &ls->v[shared]))
        shared++;
    buf_uvarint(&b->series, shared);
    buf_uvarint(&b->series, ls->n - shared);
    b->n_last = shared;
    for (uint32_t i = shared; i < ls->n; i++) {
        uint32_t name = name_id(b, ls->v[i].name);
        uint32_t value = name == NONE ? NONE : value_id(b, name, ls->v[i].value);

        if (value == NONE || !grow(&b->last, i, &b->cap_last, sizeof *b->last))
            return nomem(err);
        b->last[i] = value;
        b->n_last = i + 1;
        buf_uvarint(&b->series, value);
    }
    span = span_id(b, (struct span){mint, maxt});
    if (span == NONE)
        return nomem(err);
    buf_uvarint(&b->series, n_chunks);
    buf_uvarint(&b->series, span);
    b->n_series++;
    if (b->n_series >= NONE)
        return nx_fail(err, NX_LIMIT, "a block holds at most %u series", NONE - 1);
    return buf_status(&b->series, err);
}

/* Reads the series back, one after the other. */
struct walk {
    struct reader r;
    uint32_t *values; /* provisional numbers */
    uint32_t n, shared, n_chunks, span;
};

static nx_status walk_start(const struct block_build *b, struct walk *w, struct nx_err *err)
{
    *w = (struct walk){.r = reader_of(b->series.ptr, b->series.len)};
    w->values = calloc(b->cap_last + 1, sizeof *w->values);
    return w->values ? NX_OK : nomem(err);
}

static void walk_next(struct walk *w)
{
    uint32_t rest;

    w->shared = (uint32_t)reader_uvarint(&w->r);
    rest = (uint32_t)reader_uvarint(&w->r);
    w->n = w->shared + rest;
    for (uint32_t i = w->shared; i < w->n; i++)
        w->values[i] = (uint32_t)reader_uvarint(&w->r);
    w->n_chunks = (uint32_t)reader_uvarint(&w->r);
    w->span = (uint32_t)reader_uvarint(&w->r);
}

/* ---- sorting -------------------------------------------------------------------------------- */

static int by_name(const void *x, const void *y, void *ctx)
{
    const struct block_build *b = ctx;

    return nx_slice_cmp(b->names[*(const uint32_t *)x].s, b->names[*(const uint32_t *)y].s);
}

static int by_value(const void *x, const void *y, void *ctx)
{
    const struct block_build *b = ctx;
    const struct value *v = &b->values[*(const uint32_t *)x], *w = &b->values[*(const uint32_t *)y];
    const uint32_t nv = b->names[v->name].rank, nw = b->names[w->name].rank;

    return nv != nw ? (nv < nw ? -1 : 1) : nx_slice_cmp(v->s, w->s);
}

static uint32_t *sorted(uint32_t n, int (*cmp)(const void *, const void *, void *),
                        struct block_build *b)
{
    uint32_t *order = malloc((n + 1) * sizeof *order);

    for (uint32_t i = 0; order && i < n; i++)
        order[i] = i;
    if (order)
        qsort_r(order, n, sizeof *order, cmp, b);
    return order;
}

/* Gives names and values their numbers; *names and *values list the provisional ones in order. */
static nx_status number(struct block_build *b, uint32_t **names, uint32_t **values,
                        struct nx_err *err)
{
    uint32_t first = 0;

    *names = sorted(b->n_names, by_name, b);
    if (!*names)
        return nomem(err);
    for (uint32_t i = 0; i < b->n_names; i++) {
        struct name *n = &b->names[(*names)[i]];
        n->rank = i;
        n->first = first;
        first += n->n_values;
    }
    *values = sorted(b->n_values, by_value, b);
    if (!*values)
        return nomem(err);
    for (uint32_t i = 0; i < b->n_values; i++)
        b->values[(*values)[i]].rank = i;
    return NX_OK;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* A page being filled: items are added until what a reader makes of them reaches the bound. */
struct filling {
    struct page_writer *w;
    unsigned tree;
    struct buf page;
    uint64_t first, next; /* item numbers */
    size_t unpacked;
};

static nx_status close_page(struct filling *f, struct nx_err *err)
{
    nx_status st = buf_status(&f->page, err);

    if (!st && f->next > f->first)
        st = page_writer_add(f->w, f->tree, f->first, f->page.ptr, f->page.len, err);
    buf_clear(&f->page);
    f->first = f->next;
    f->unpacked = 0;
    return st;
}

/* Called before an item of that many unpacked bytes goes into the page. */
static nx_status next_item(struct filling *f, size_t unpacked, struct nx_err *err)
{
    nx_status st = NX_OK;

    if (f->unpacked && f->unpacked + unpacked > BLOCK_INDEX_PAGE_BYTES)
        st = close_page(f, err);
    f->unpacked += unpacked;
    f->next++;
    return st;
}

static nx_status write_names(struct block_build *b, struct page_writer *w, const uint32_t *names,
                             struct nx_err *err)
{
    struct filling f = {.w = w, .tree = IX_NAMES};
    nx_status st = NX_OK;

    for (uint32_t i = 0; i < b->n_names && !st; i++) {
        const struct name *n = &b->names[names[i]];
        st = next_item(&f, n->s.len + 16, err);
        if (f.first + 1 == f.next)
            buf_uvarint(&f.page, n->first);
        buf_uvarint(&f.page, n->s.len);
        buf_slice(&f.page, n->s);
        buf_uvarint(&f.page, n->n_values);
    }
    if (!st)
        st = close_page(&f, err);
    buf_done(&f.page);
    return st;
}

static size_t shared_bytes(struct nx_slice x, struct nx_slice y)
{
    size_t n = 0;

    while (n < x.len && n < y.len && x.ptr[n] == y.ptr[n])
        n++;
    return n;
}

static nx_status write_values(struct block_build *b, struct page_writer *w, const uint32_t *values,
                              struct nx_err *err)
{
    struct filling f = {.w = w, .tree = IX_VALUES};
    nx_status st = NX_OK;

    for (uint32_t i = 0; i < b->n_values && !st; i++) {
        const struct nx_slice s = b->values[values[i]].s;
        size_t shared;

        st = next_item(&f, s.len + 4, err);
        shared = f.first + 1 == f.next ? 0 : shared_bytes(b->values[values[i - 1]].s, s);
        buf_uvarint(&f.page, shared);
        buf_uvarint(&f.page, s.len - shared);
        buf_append(&f.page, s.ptr + shared, s.len - shared);
    }
    if (!st)
        st = close_page(&f, err);
    buf_done(&f.page);
    return st;
}

/* One series: twice the number of shared pairs, plus 1 if its other names are not those of the one
 * before; [number of others]; per other pair [name] and value within its name; chunks and span. */
static void put_series(struct block_build *b, struct buf *to, const struct walk *x,
                       const uint32_t *names, uint32_t n_names, uint32_t shared,
                       uint32_t span_before)
{
    bool same = n_names == x->n;

    for (uint32_t i = shared; same && i < x->n; i++)
        same = names[i] == b->values[x->values[i]].name;
    buf_uvarint(to, (uint64_t)shared << 1 | !same);
    if (!same)
        buf_uvarint(to, x->n - shared);
    for (uint32_t i = shared; i < x->n; i++) {
        const struct value *v = &b->values[x->values[i]];
        if (!same)
            buf_uvarint(to, b->names[v->name].rank);
        buf_uvarint(to, v->rank - b->names[v->name].first);
    }
    buf_uvarint(to, (uint64_t)(x->n_chunks - 1) << 1 | (x->span != span_before));
    if (x->span != span_before)
        buf_uvarint(to, x->span);
}

static nx_status write_series(struct block_build *b, struct page_writer *w, uint64_t *n_chunks,
                              struct nx_err *err)
{
    struct filling f = {.w = w, .tree = IX_SERIES};
    uint32_t *names = NULL, n_names = 0, span = 0;
    struct walk x;
    nx_status st = walk_start(b, &x, err);

    *n_chunks = 0;
    names = calloc(b->cap_last + 1, sizeof *names);
    if (!st && !names)
        st = nomem(err);
    for (uint64_t s = 0; s < b->n_series && !st; s++) {
        bool fresh;

        walk_next(&x);
        st = next_item(&f, 16 + 8 * (size_t)x.n, err);
        fresh = f.first + 1 == f.next;
        if (fresh) {
            buf_uvarint(&f.page, *n_chunks);
            n_names = 0;
            span = 0;
        }
        put_series(b, &f.page, &x, names, n_names, fresh ? 0 : x.shared, span);
        for (uint32_t i = 0; i < x.n; i++) {
            names[i] = b->values[x.values[i]].name;
            b->values[x.values[i]].n_series++;
        }
        n_names = x.n;
        span = x.span;
        *n_chunks += x.n_chunks;
    }
    if (!st)
        st = close_page(&f, err);
    buf_done(&f.page);
    free(names);
    free(x.values);
    return st;
}

/* A list: its length twice, plus 1 if as runs; then gaps, or gaps and lengths of runs. */
static void put_list(struct buf *to, struct buf *runs, const uint32_t *ids, size_t n)
{
    size_t start = to->len, deltas;

    buf_clear(runs);
    for (size_t i = 0, next = 0; i < n;) {
        size_t from = i;
        while (i < n && ids[i] - ids[from] == i - from)
            i++;
        buf_uvarint(runs, ids[from] - next);
        buf_uvarint(runs, i - from - 1);
        next = (size_t)ids[i - 1] + 1;
    }
    buf_uvarint(to, (uint64_t)n << 1);
    deltas = to->len;
    for (size_t i = 0; i < n; i++)
        buf_uvarint(to, i ? ids[i] - ids[i - 1] - 1 : ids[0]);
    if (to->failed || runs->failed || runs->len >= to->len - deltas)
        return;
    to->len = start;
    buf_uvarint(to, (uint64_t)n << 1 | 1);
    buf_append(to, runs->ptr, runs->len);
}

/* Writes the lists of values from..to, whose series add up to `total`. */
static nx_status write_lists(struct block_build *b, struct filling *f, const uint32_t *values,
                             uint32_t from, uint32_t to, size_t total, struct nx_err *err)
{
    uint32_t *ids = malloc((total + 1) * sizeof *ids);
    size_t *at = malloc((to - from + 1) * sizeof *at), sum = 0;
    struct buf list, runs;
    struct walk x = {0};
    nx_status st = ids && at ? walk_start(b, &x, err) : nomem(err);

    buf_init(&list, 0);
    buf_init(&runs, 0);
    for (uint32_t i = from; i < to && !st; i++) {
        at[i - from] = sum;
        sum += b->values[values[i]].n_series;
    }
    for (uint64_t s = 0; s < b->n_series && !st; s++) {
        walk_next(&x);
        for (uint32_t i = 0; i < x.n; i++) {
            uint32_t rank = b->values[x.values[i]].rank;
            if (rank >= from && rank < to)
                ids[at[rank - from]++] = (uint32_t)s;
        }
    }
    for (uint32_t i = from; i < to && !st; i++) {
        size_t n = b->values[values[i]].n_series;
        buf_clear(&list);
        put_list(&list, &runs, ids + at[i - from] - n, n);
        st = buf_status(&list, err);
        if (!st)
            st = next_item(f, list.len + 4, err);
        if (!st) {
            buf_uvarint(&f->page, list.len);
            buf_append(&f->page, list.ptr, list.len);
        }
    }
    buf_done(&list);
    buf_done(&runs);
    free(x.values);
    free(ids);
    free(at);
    return st;
}

static nx_status write_postings(struct block_build *b, struct page_writer *w,
                                const uint32_t *values, struct nx_err *err)
{
    struct filling f = {.w = w, .tree = IX_POSTINGS};
    nx_status st = NX_OK;

    for (uint32_t from = 0; from < b->n_values && !st;) {
        uint32_t to = from;
        size_t total = 0;

        do /* X2 */
            total += b->values[values[to++]].n_series;
        while (to < b->n_values && total + b->values[values[to]].n_series <= POSTINGS_AT_ONCE);
        st = write_lists(b, &f, values, from, to, total, err);
        from = to;
    }
    if (!st)
        st = close_page(&f, err);
    buf_done(&f.page);
    return st;
}

static nx_status write_spans(struct block_build *b, struct page_writer *w, struct nx_err *err)
{
    struct filling f = {.w = w, .tree = IX_SPANS};
    nx_status st = NX_OK;

    for (uint32_t i = 0; i < b->n_spans && !st; i++) {
        st = next_item(&f, sizeof(struct span), err);
        buf_varint(&f.page, b->spans[i].min);
        buf_uvarint(&f.page, (uint64_t)b->spans[i].max - (uint64_t)b->spans[i].min);
    }
    if (!st)
        st = close_page(&f, err);
    buf_done(&f.page);
    return st;
}

nx_status block_build_write(struct block_build *b, struct fs *fs, const char *path,
                            const char *ulid, int level, uint64_t *bytes, struct nx_err *err)
{
    struct page_writer *w = NULL;
    uint32_t *names = NULL, *values = NULL;
    uint64_t n_chunks = 0;
    nx_status st = number(b, &names, &values, err);

    if (!st)
        st = page_writer_open(&w, fs, path, BLOCK_INDEX_MAGIC, level, err);
    if (!st)
        st = write_names(b, w, names, err);
    if (!st)
        st = write_values(b, w, values, err);
    if (!st)
        st = write_series(b, w, &n_chunks, err); /* counts what write_postings needs */
    if (!st)
        st = write_postings(b, w, values, err);
    if (!st)
        st = write_spans(b, w, err);
    if (!st) {
        const uint64_t n_items[PAGE_MAX_TREES] = {[IX_NAMES] = b->n_names,
                                                  [IX_VALUES] = b->n_values,
                                                  [IX_POSTINGS] = b->n_values,
                                                  [IX_SERIES] = b->n_series,
                                                  [IX_SPANS] = b->n_spans};
        st = page_writer_finish(w, n_items, nx_slice_of(ulid, BLOCK_EXTRA_BYTES), bytes, err);
    }
    page_writer_close(w);
    free(names);
    free(values);
    return st;
}
