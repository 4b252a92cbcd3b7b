/* block_index.c - reading a block's index through the page cache.
 *
 * SHAPE   Pages are unpacked once, when they enter the cache, into arrays that are found by position:
 *         front-coded strings become whole ones, series that share labels with the one before get all
 *         of theirs. The names of a block are few; they are one table, derived and cached as a whole.
 * RULES   R1  What a page says about itself is checked when it is unpacked; numbers that point into
 *             another page (names, values, spans, series) are checked where they are followed.
 *         R2  A cursor keeps its page pinned while items are on it: a loop over neighbours takes the
 *             cache's lock once a page. */
#include "storage/block_index.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/limits.h"
#include "storage/postings.h"

struct block_index {
    struct page_file *f;
    uint32_t n_series, n_names, n_values, n_spans;
};

/* ---- unpacking pages ------------------------------------------------------------------------ */

/* Unpacked pages begin with the number of items and n + 1 offsets; `data` follows. */
struct items {
    uint32_t n;
    const uint32_t *off;
    const uint8_t *data;
};

static struct items items_of(const struct page *p)
{
    const uint32_t *u = (const uint32_t *)(const void *)p->ptr; /* malloc'ed, so aligned */

    return (struct items){u[0], u + 1, p->ptr + 4 * ((size_t)u[0] + 2)};
}

/* Two buffers that become one unpacked page. */
struct unpacking {
    struct buf off, data;
    uint32_t n;
};

static void unpacking_item(struct unpacking *u) /* an item begins here */
{
    uint32_t at = (uint32_t)u->data.len;
    char *to = buf_reserve(&u->off, sizeof at);

    if (!to)
        return;
    memcpy(to, &at, sizeof at);
    u->off.len += sizeof at;
    u->n++;
}

static nx_status unpacking_done(struct unpacking *u, nx_status st, uint8_t **ptr, size_t *len,
                                struct nx_err *err)
{
    uint32_t end = (uint32_t)u->data.len;
    uint8_t *page = NULL;

    buf_append(&u->off, &end, sizeof end);
    if (!st)
        st = u->off.failed ? buf_status(&u->off, err) : buf_status(&u->data, err);
    if (!st) {
        page = malloc(4 + u->off.len + u->data.len);
        if (!page)
            st = nx_fail(err, NX_NOMEM, "out of memory for an index page");
    }
    if (page) {
        memcpy(page, &u->n, 4);
        memcpy(page + 4, u->off.ptr, u->off.len);
        if (u->data.len)
            memcpy(page + 4 + u->off.len, u->data.ptr, u->data.len);
        free(*ptr);
        *ptr = page;
        *len = 4 + u->off.len + u->data.len;
    }
    buf_done(&u->off);
    buf_done(&u->data);
    return st;
}

static void unpack_values(struct reader *r, struct unpacking *u)
{
    size_t last = 0, last_len = 0;

    while (reader_left(r) && !u->data.failed && !r->bad) {
        const uint64_t shared = reader_uvarint(r), rest = reader_uvarint(r);
        struct nx_slice s = reader_bytes(r, rest <= SIZE_MAX ? (size_t)rest : SIZE_MAX);
        char *to;

        if (r->bad || shared > last_len || shared + rest == 0 ||
            shared + rest > NX_LIMIT_LABEL_VALUE_BYTES) {
            r->bad = true;
            return;
        }
        unpacking_item(u);
        to = buf_reserve(&u->data, (size_t)(shared + rest));
        if (!to)
            return;
        memcpy(to, u->data.ptr + last, (size_t)shared);
        memcpy(to + shared, s.ptr, s.len);
        last = u->data.len;
        last_len = (size_t)(shared + rest);
        u->data.len += last_len;
    }
}

static void unpack_lists(struct reader *r, struct unpacking *u)
{
    while (reader_left(r) && !u->data.failed && !r->bad) {
        const uint64_t len = reader_uvarint(r);
        struct nx_slice s = reader_bytes(r, len <= SIZE_MAX ? (size_t)len : SIZE_MAX);

        unpacking_item(u);
        buf_slice(&u->data, s);
    }
}

/* Series become: first chunk, number of chunks, span, then name and value of each pair. */
#define SERIES_HEAD 3u

static bool take_u32(struct reader *r, uint32_t *v)
{
    uint64_t x;

    if (r->ptr < r->end && *r->ptr < 0x80) { /* most numbers of a page */
        *v = *r->ptr++;
        return true;
    }
    x = reader_uvarint(r);
    *v = (uint32_t)x;
    return !r->bad && x <= UINT32_MAX;
}

/* How many pairs a series shares with the one before, and how many come after those. */
static bool unpack_counts(struct reader *r, uint32_t n_before, uint32_t *shared, uint32_t *n,
                          bool *fresh_names)
{
    uint32_t head;

    if (!take_u32(r, &head) || head >> 1 > n_before)
        return false;
    *shared = head >> 1;
    *fresh_names = head & 1;
    *n = n_before - *shared;
    if (*fresh_names && !take_u32(r, n))
        return false;
    return *n <= reader_left(r) && *shared + *n > 0 && /* a byte each at least */
           *shared + *n <= NX_LIMIT_LABELS_PER_SERIES;
}

/* One series after another into the same memory: one reservation each. */
static bool unpack_one_series(struct reader *r, struct buf *to, size_t before, uint32_t n_before,
                              uint32_t *n_pairs)
{
    uint32_t shared, n, *u;
    bool fresh_names;

    if (!unpack_counts(r, n_before, &shared, &n, &fresh_names))
        return false;
    u = (uint32_t *)(void *)buf_reserve(to, 4 * (SERIES_HEAD + 2 * ((size_t)shared + n)));
    if (!u)
        return false;
    const uint32_t *last =
        (const uint32_t *)(const void *)(to->ptr + before); /* it may have moved */
    u += SERIES_HEAD;
    if (shared)
        memcpy(u, last, 8 * (size_t)shared);
    for (uint32_t i = shared; i < shared + n; i++) {
        if (!fresh_names)
            u[2 * i] = last[2 * i];
        else if (!take_u32(r, &u[2 * i]))
            return false;
        if (!take_u32(r, &u[2 * i + 1]))
            return false;
    }
    to->len += 4 * (SERIES_HEAD + 2 * ((size_t)shared + n));
    *n_pairs = shared + n;
    return true;
}

static void unpack_series(struct reader *r, struct unpacking *u)
{
    uint32_t first, n_pairs = 0, span = 0;
    size_t pairs = 0;

    r->bad |= !take_u32(r, &first);
    while (reader_left(r) && !u->data.failed) {
        const size_t start = u->data.len;
        uint32_t chunks, *head;

        unpacking_item(u);
        if (!unpack_one_series(r, &u->data, pairs, n_pairs, &n_pairs) || !take_u32(r, &chunks) ||
            (chunks & 1 && !take_u32(r, &span))) {
            r->bad = true;
            return;
        }
        head = (uint32_t *)(void *)(u->data.ptr + start); /* sizes are multiples of four */
        chunks = (chunks >> 1) + 1;
        head[0] = first;
        head[1] = chunks;
        head[2] = span;
        if (__builtin_add_overflow(first, chunks, &first)) {
            r->bad = true;
            return;
        }
        pairs = start + 4 * SERIES_HEAD;
    }
}

static void unpack_spans(struct reader *r, struct unpacking *u)
{
    while (reader_left(r) && !u->data.failed && !r->bad) {
        int64_t min = reader_varint(r), max = (int64_t)((uint64_t)min + reader_uvarint(r));

        unpacking_item(u);
        buf_append(&u->data, &min, sizeof min);
        buf_append(&u->data, &max, sizeof max);
    }
}

static nx_status unpack(unsigned tree, uint8_t **ptr, size_t *len, struct nx_err *err)
{
    struct unpacking u = {.data = {.limit_bytes = PAGE_MAX_RAW}};
    struct reader r = reader_of(*ptr, *len);
    nx_status st = NX_OK;

    switch (tree) {
    case IX_VALUES:
        unpack_values(&r, &u);
        break;
    case IX_POSTINGS:
        unpack_lists(&r, &u);
        break;
    case IX_SERIES:
        unpack_series(&r, &u);
        break;
    case IX_SPANS:
        unpack_spans(&r, &u);
        break;
    default: /* names: see load_names() */
        return NX_OK;
    }
    if (u.off.failed == NX_NOMEM || u.data.failed == NX_NOMEM)
        st = nx_fail(err, NX_NOMEM, "out of memory for an index page");
    else if (r.bad || u.n == 0 || u.data.failed)
        st = nx_fail(err, NX_CORRUPT, "an index page does not decode");
    return unpacking_done(&u, st, ptr, len, err);
}

/* ---- cursors -------------------------------------------------------------------------------- */

struct cursor {
    struct block_index *ix;
    unsigned tree;
    struct page page;
    struct items items;
};

static struct cursor cursor_of(struct block_index *ix, unsigned tree)
{
    return (struct cursor){.ix = ix, .tree = tree};
}

/* Goes on where another one was, whose page it takes over. */
static struct cursor cursor_on(struct block_index *ix, unsigned tree, const struct page *page)
{
    return (struct cursor){ix, tree, *page, page->ptr ? items_of(page) : (struct items){0}};
}

static void cursor_done(struct cursor *c)
{
    page_put(c->ix->f, &c->page);
}

static nx_status corrupt(struct nx_err *err, const char *what)
{
    return nx_fail(err, NX_CORRUPT, "index: %s", what);
}

/* Moves to the page of `item`. */
static nx_status cursor_seek(struct cursor *c, uint32_t item, struct nx_err *err)
{
    nx_status st;

    if (c->page.ptr && item >= c->page.first && item < c->page.end)
        return NX_OK;
    cursor_done(c);
    st = page_get(c->ix->f, c->tree, item, &c->page, err);
    if (st)
        return st;
    c->items = items_of(&c->page);
    if (c->items.n != c->page.end - c->page.first)
        return corrupt(err, "a page has not as many items as its place says");
    return NX_OK;
}

static nx_status cursor_get(struct cursor *c, uint32_t item, struct nx_slice *out,
                            struct nx_err *err)
{
    nx_status st = cursor_seek(c, item, err);
    size_t i;

    if (st)
        return st;
    i = (size_t)(item - c->page.first);
    *out = nx_slice_of((const char *)c->items.data + c->items.off[i],
                       c->items.off[i + 1] - c->items.off[i]);
    return NX_OK;
}

/* ---- names ---------------------------------------------------------------------------------- */

struct name {
    uint32_t off, len; /* in the strings */
    uint32_t first, n_values;
};
/* The derived table: names, then their strings. */
struct names {
    const struct name *v;
    const char *strings;
    uint32_t n;
    struct cache_page pin;
};

static struct nx_slice name_str(const struct names *ns, uint32_t i)
{
    return nx_slice_of(ns->strings + ns->v[i].off, ns->v[i].len);
}

static nx_status read_names_page(struct block_index *ix, const struct page *p, struct buf *table,
                                 struct buf *strings, struct nx_err *err)
{
    struct reader r = reader_of(p->ptr, p->len);
    uint32_t first;
    bool ok = take_u32(&r, &first);

    for (uint64_t i = p->first; ok && i < p->end; i++) {
        struct name n = {.off = (uint32_t)strings->len, .first = first};
        ok = take_u32(&r, &n.len);
        buf_slice(strings, reader_bytes(&r, n.len));
        ok =
            ok && take_u32(&r, &n.n_values) && n.n_values > 0 && n.n_values <= ix->n_values - first;
        first += n.n_values;
        buf_append(table, &n, sizeof n);
    }
    return ok && reader_left(&r) == 0 && first <= ix->n_values
               ? NX_OK
               : corrupt(err, "the names do not decode");
}

static nx_status load_names(void *ctx, uint64_t key, uint8_t **ptr, size_t *len, struct nx_err *err)
{
    struct block_index *ix = ctx;
    struct buf table, strings;
    nx_status st = NX_OK;

    (void)key;
    buf_init(&table, 0);
    buf_init(&strings, PAGE_MAX_RAW);
    for (uint64_t at = 0; at < ix->n_names && !st;) {
        struct page p = {0};
        st = page_get(ix->f, IX_NAMES, at, &p, err);
        if (!st)
            st = read_names_page(ix, &p, &table, &strings, err);
        at = p.end;
        page_put(ix->f, &p);
    }
    buf_append(&table, strings.ptr, strings.len);
    if (!st)
        st = strings.failed ? buf_status(&strings, err) : buf_status(&table, err);
    if (!st) {
        *ptr = (uint8_t *)table.ptr;
        *len = table.len;
        table.ptr = NULL;
    }
    buf_done(&table);
    buf_done(&strings);
    return st;
}

static nx_status names_get(struct block_index *ix, struct names *out, struct nx_err *err)
{
    nx_status st;

    *out = (struct names){0};
    st = page_derived(ix->f, 0, load_names, ix, &out->pin, err);
    if (st)
        return st;
    out->v = (const struct name *)(const void *)out->pin.ptr;
    out->n = ix->n_names;
    out->strings = (const char *)(out->v + out->n);
    return NX_OK;
}

static void names_put(struct block_index *ix, struct names *ns)
{
    page_derived_put(ix->f, &ns->pin);
}

static const struct name *names_find(const struct names *ns, struct nx_slice s)
{
    uint32_t lo = 0, hi = ns->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = nx_slice_cmp(name_str(ns, mid), s);
        if (c == 0)
            return &ns->v[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* ---- values and lists ----------------------------------------------------------------------- */

/* The first value of `n` that is not below s (n->first + n->n_values if there is none). */
static nx_status lower_bound(struct cursor *values, const struct name *n, struct nx_slice s,
                             uint32_t *out, struct nx_err *err)
{
    uint32_t lo = n->first, hi = n->first + n->n_values;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        struct nx_slice v;
        nx_status st = cursor_get(values, mid, &v, err);
        if (st)
            return st;
        if (nx_slice_cmp(v, s) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *out = lo;
    return NX_OK;
}

/* Runs or gaps; ids ascend and lie below n_series, or it is damage. */
static bool get_list(struct reader *r, uint32_t *to, uint64_t n, bool runs, uint32_t n_series)
{
    uint64_t next = 0;

    for (uint64_t i = 0; i < n;) {
        uint64_t gap = reader_uvarint(r), more = runs ? reader_uvarint(r) : 0;
        if (r->bad || gap > n_series || next + gap >= n_series || more > n - i - 1 ||
            next + gap + more >= n_series)
            return false;
        next += gap;
        for (uint64_t k = 0; k <= more; k++)
            to[i++] = (uint32_t)next++;
    }
    return reader_left(r) == 0;
}

static nx_status list_get(struct cursor *lists, uint32_t value, struct arena *a, struct ids *out,
                          struct nx_err *err)
{
    struct nx_slice s;
    struct reader r;
    uint64_t head;
    uint32_t *ids;
    nx_status st = cursor_get(lists, value, &s, err);

    if (st)
        return st;
    r = reader_of(s.ptr, s.len);
    head = reader_uvarint(&r);
    if (r.bad || head >> 1 > lists->ix->n_series || head >> 1 == 0)
        return corrupt(err, "a list of series does not decode");
    ids = arena_alloc(a, (size_t)(head >> 1) * sizeof *ids);
    if (!ids)
        return arena_failed(a, err);
    if (!get_list(&r, ids, head >> 1, head & 1, lists->ix->n_series))
        return corrupt(err, "a list of series does not decode");
    *out = (struct ids){ids, (size_t)(head >> 1)};
    return NX_OK;
}

/* ---- matchers ------------------------------------------------------------------------------- */

struct source {
    struct block_index *ix;
    struct names names;
    struct cursor values, lists;
};

static nx_status source_all(void *ctx, struct arena *a, struct ids *out, struct nx_err *err)
{
    struct source *s = ctx;

    return ids_range(a, 0, s->ix->n_series, out, err);
}

static nx_status source_of(void *ctx, struct nx_slice name, struct nx_slice value, struct arena *a,
                           struct ids *out, struct nx_err *err)
{
    struct source *s = ctx;
    const struct name *n = names_find(&s->names, name);
    struct nx_slice found;
    uint32_t at;
    nx_status st;

    *out = (struct ids){NULL, 0};
    if (!n)
        return NX_OK;
    st = lower_bound(&s->values, n, value, &at, err);
    if (st || at == n->first + n->n_values)
        return st;
    st = cursor_get(&s->values, at, &found, err);
    if (st || !nx_slice_eq(found, value))
        return st;
    return list_get(&s->lists, at, a, out, err);
}

static nx_status source_scan(void *ctx, struct nx_slice name, struct nx_slice prefix,
                             postings_want_fn *want, void *want_ctx, struct arena *a,
                             struct id_sets *sets, struct nx_err *err)
{
    struct source *s = ctx;
    const struct name *n = names_find(&s->names, name);
    uint32_t at = 0;
    nx_status st;

    if (!n)
        return NX_OK;
    st = lower_bound(&s->values, n, prefix, &at, err);
    for (; !st && at < n->first + n->n_values; at++) {
        struct nx_slice v;
        struct ids list;

        st = cursor_get(&s->values, at, &v, err);
        if (st || v.len < prefix.len || (prefix.len && memcmp(v.ptr, prefix.ptr, prefix.len) != 0))
            break;
        if (want && !want(want_ctx, v))
            continue;
        st = list_get(&s->lists, at, a, &list, err);
        if (!st)
            st = id_sets_add(sets, a, list, err);
    }
    return st;
}

nx_status block_index_match(struct block_index *ix, const struct matcher *m, size_t n,
                            struct arena *a, struct ids *out, struct nx_err *err)
{
    struct source s = {
        .ix = ix, .values = cursor_of(ix, IX_VALUES), .lists = cursor_of(ix, IX_POSTINGS)};
    struct postings_source src = {&s, source_all, source_of, source_scan};
    nx_status st = names_get(ix, &s.names, err);

    if (!st)
        st = postings_select(&src, m, n, a, out, err);
    cursor_done(&s.values);
    cursor_done(&s.lists);
    names_put(ix, &s.names);
    return st;
}

/* ---- series --------------------------------------------------------------------------------- */

struct entry {
    uint32_t first_chunk, n_chunks, span, n_pairs;
    const uint32_t *pairs; /* name, value within the name, ... */
};

static nx_status entry_get(struct cursor *series, uint32_t id, struct entry *out,
                           struct nx_err *err)
{
    struct nx_slice s;
    const uint32_t *u;
    nx_status st = cursor_get(series, id, &s, err);

    if (st)
        return st;
    u = (const uint32_t *)(const void *)s.ptr; /* offsets are multiples of four */
    *out =
        (struct entry){u[0], u[1], u[2], (uint32_t)(s.len / 4 - SERIES_HEAD) / 2, u + SERIES_HEAD};
    return NX_OK;
}

static nx_status span_get(struct cursor *spans, uint32_t span, int64_t *mint, int64_t *maxt,
                          struct nx_err *err)
{
    struct nx_slice s;
    nx_status st = span < spans->ix->n_spans ? cursor_get(spans, span, &s, err)
                                             : corrupt(err, "a span is missing");

    if (st)
        return st;
    memcpy(mint, s.ptr, 8);
    memcpy(maxt, s.ptr + 8, 8);
    return NX_OK;
}

nx_status block_index_get_next(struct block_index *ix, uint32_t id, struct block_index_place *at,
                               struct block_index_series *out, struct nx_err *err)
{
    struct cursor series = cursor_on(ix, IX_SERIES, &at->series),
                  spans = cursor_on(ix, IX_SPANS, &at->spans);
    struct block_index_series got = {0};
    struct entry e;
    nx_status st = entry_get(&series, id, &e, err);

    if (!st)
        st = span_get(&spans, e.span, &got.mint, &got.maxt, err);
    at->series = series.page;
    at->spans = spans.page;
    if (st) {
        block_index_leave(ix, at); /* a page that is not whole is not looked at twice */
        return st;
    }
    got.first_chunk = e.first_chunk;
    got.n_chunks = e.n_chunks;
    *out = got;
    return NX_OK;
}

void block_index_leave(struct block_index *ix, struct block_index_place *at)
{
    page_put(ix->f, &at->series);
    page_put(ix->f, &at->spans);
}

nx_status block_index_get(struct block_index *ix, uint32_t id, struct block_index_series *out,
                          struct nx_err *err)
{
    struct block_index_place at = {0};
    nx_status st = block_index_get_next(ix, id, &at, out, err);

    block_index_leave(ix, &at);
    return st;
}

/* Strings copied into the arena so far: a value is copied once for all series that have it. */
struct copies {
    struct block_index *ix;
    struct arena *a;
    struct names names;
    struct cursor values;
    struct nx_slice *name_of; /* by number; ptr NULL: not yet */
    struct copy {
        uint32_t value; /* + 1; 0: empty */
        struct nx_slice s;
    } * slots;
    size_t n_slots, n;
};

static nx_status copies_init(struct copies *c, struct block_index *ix, struct arena *a,
                             struct nx_err *err)
{
    nx_status st;

    *c = (struct copies){.ix = ix, .a = a, .values = cursor_of(ix, IX_VALUES)};
    st = names_get(ix, &c->names, err);
    if (st)
        return st;
    c->name_of = calloc((size_t)ix->n_names + 1, sizeof *c->name_of);
    c->n_slots = 64;
    c->slots = calloc(c->n_slots, sizeof *c->slots);
    return c->name_of && c->slots ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory for labels");
}

static void copies_done(struct copies *c)
{
    cursor_done(&c->values);
    names_put(c->ix, &c->names);
    free(c->name_of);
    free(c->slots);
}

static struct copy *copy_slot(struct copy *slots, size_t n_slots, uint32_t value)
{
    size_t at = (value * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (n_slots - 1);

    while (slots[at].value && slots[at].value != value + 1)
        at = (at + 1) & (n_slots - 1);
    return &slots[at];
}

static bool copies_grow(struct copies *c)
{
    struct copy *slots;

    if (c->n * 2 < c->n_slots)
        return true;
    slots = calloc(c->n_slots * 2, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < c->n_slots; i++)
        if (c->slots[i].value)
            *copy_slot(slots, c->n_slots * 2, c->slots[i].value - 1) = c->slots[i];
    free(c->slots);
    c->slots = slots;
    c->n_slots *= 2;
    return true;
}

static nx_status copy_value(struct copies *c, uint32_t value, struct nx_slice *out,
                            struct nx_err *err)
{
    struct copy *slot;
    nx_status st;

    if (!copies_grow(c))
        return nx_fail(err, NX_NOMEM, "out of memory for labels");
    slot = copy_slot(c->slots, c->n_slots, value);
    if (!slot->value) {
        struct nx_slice s;
        st = cursor_get(&c->values, value, &s, err);
        if (st)
            return st;
        slot->s = arena_slice(c->a, s);
        if (!slot->s.ptr)
            return arena_failed(c->a, err);
        slot->value = value + 1;
        c->n++;
    }
    *out = slot->s;
    return NX_OK;
}

static nx_status copy_name(struct copies *c, uint32_t name, struct nx_slice *out,
                           struct nx_err *err)
{
    if (!c->name_of[name].ptr) {
        c->name_of[name] = arena_slice(c->a, name_str(&c->names, name));
        if (!c->name_of[name].ptr)
            return arena_failed(c->a, err);
    }
    *out = c->name_of[name];
    return NX_OK;
}

static nx_status copy_labels(struct copies *c, const struct entry *e, struct labels *out,
                             struct nx_err *err)
{
    struct label *v = arena_alloc(c->a, e->n_pairs * sizeof *v);
    nx_status st = v ? NX_OK : arena_failed(c->a, err);

    for (uint32_t i = 0; i < e->n_pairs && !st; i++) {
        const uint32_t name = e->pairs[2 * i], value = e->pairs[2 * i + 1];

        if (name >= c->ix->n_names || value >= c->names.v[name].n_values) /* R1 */
            return corrupt(err, "a series has labels that are not there");
        st = copy_name(c, name, &v[i].name, err);
        if (!st)
            st = copy_value(c, c->names.v[name].first + value, &v[i].value, err);
    }
    *out = (struct labels){v, e->n_pairs};
    return st;
}

nx_status block_index_labels(struct block_index *ix, struct ids ids, int64_t mint, int64_t maxt,
                             size_t most, struct arena *a, struct series_list *out,
                             struct nx_err *err)
{
    const bool all_times = mint == INT64_MIN && maxt == INT64_MAX;
    struct cursor series = cursor_of(ix, IX_SERIES), spans = cursor_of(ix, IX_SPANS);
    struct copies c;
    struct series_list list = {0};
    nx_status st = copies_init(&c, ix, a, err);

    list.v = st ? NULL : arena_array(a, ids.n < most ? ids.n : most, sizeof *list.v);
    if (!st && !list.v)
        st = arena_failed(a, err);
    for (size_t i = 0; i < ids.n && list.n < most && !st; i++) {
        int64_t from = INT64_MIN, to = INT64_MAX;
        struct entry e;

        st = entry_get(&series, ids.v[i], &e, err);
        if (!st && !all_times)
            st = span_get(&spans, e.span, &from, &to, err);
        if (st || from > maxt || to < mint)
            continue;
        st = copy_labels(&c, &e, &list.v[list.n].labels, err);
        list.v[list.n++].ref = ids.v[i];
    }
    copies_done(&c);
    cursor_done(&series);
    cursor_done(&spans);
    if (!st)
        *out = list;
    return st;
}

/* ---- names and values in use ----------------------------------------------------------------
 *
 * Which names or values occur among some series is told by those series or by the lists of the values,
 * whichever is cheaper: a list is left at its first hit, so that many series cost little, but all lists
 * of a name together are as long as there are series with it. */

/* Nanoseconds, roughly: a series whose page must be unpacked, a value's list that is looked up, and
 * a member of it. */
enum { COST_SERIES = 150, COST_LIST = 80, COST_MEMBER = 4 };
#define FIRST_LOOK 256u /* series that are asked before the lists are */

struct in_use {
    struct block_index *ix;
    const struct names *names;
    const struct ids *ids;
    uint64_t *bits; /* of ids; NULL: not made yet */
};

static nx_status bits_make(struct in_use *u, struct nx_err *err)
{
    if (u->bits)
        return NX_OK;
    u->bits = calloc((size_t)u->ix->n_series / 64 + 1, sizeof *u->bits);
    if (!u->bits)
        return nx_fail(err, NX_NOMEM, "out of memory for a list of series");
    for (size_t i = 0; i < u->ids->n; i++)
        u->bits[u->ids->v[i] / 64] |= UINT64_C(1) << u->ids->v[i] % 64;
    return NX_OK;
}

static bool bits_have(const uint64_t *bits, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        if (i % 64 == 0 && to - i >= 64 && bits[i / 64] == 0) {
            i += 63;
            continue;
        }
        if (bits[i / 64] >> i % 64 & 1)
            return true;
    }
    return false;
}

/* Whether a series of the value's list is one of them. */
static nx_status list_hits(const struct in_use *u, struct cursor *lists, uint32_t value, bool *hits,
                           struct nx_err *err)
{
    struct nx_slice s;
    struct reader r;
    uint64_t head, next = 0;
    nx_status st = cursor_get(lists, value, &s, err);

    *hits = false;
    if (st)
        return st;
    r = reader_of(s.ptr, s.len);
    head = reader_uvarint(&r);
    for (uint64_t left = head >> 1; left && !r.bad;) {
        const uint64_t gap = reader_uvarint(&r), more = head & 1 ? reader_uvarint(&r) : 0;
        if (gap > u->ix->n_series || more >= left || next + gap + more >= u->ix->n_series)
            return corrupt(err, "a list of series does not decode");
        next += gap;
        if (bits_have(u->bits, next, next + more + 1)) {
            *hits = true;
            return NX_OK;
        }
        next += more + 1;
        left -= more + 1;
    }
    return r.bad ? corrupt(err, "a list of series does not decode") : NX_OK;
}

/* Marks the names of series [from, to), or (`of` set) the values of that name. */
static nx_status mark_by_series(const struct in_use *u, size_t from, size_t to,
                                const struct name *of, uint8_t *used, struct nx_err *err)
{
    struct cursor series = cursor_of(u->ix, IX_SERIES);
    const uint32_t name = of ? (uint32_t)(of - u->names->v) : 0;
    nx_status st = NX_OK;

    for (size_t i = from; i < to && !st; i++) {
        struct entry e;

        st = entry_get(&series, u->ids->v[i], &e, err);
        for (uint32_t p = 0; !st && p < e.n_pairs; p++) {
            const uint32_t n = e.pairs[2 * p], v = e.pairs[2 * p + 1];
            if (n >= u->ix->n_names || v >= u->names->v[n].n_values)
                st = corrupt(err, "a series has labels that are not there");
            else if (!of)
                used[n] = 1;
            else if (n == name)
                used[v] = 1;
        }
    }
    cursor_done(&series);
    return st;
}

/* Marks the values of a name that hit, up to `most` of them; used NULL: tells only how many. */
static nx_status mark_by_lists(struct in_use *u, const struct name *of, size_t most, uint8_t *used,
                               size_t *n, struct nx_err *err)
{
    struct cursor lists = cursor_of(u->ix, IX_POSTINGS);
    nx_status st = bits_make(u, err);

    *n = 0;
    for (uint32_t i = 0; i < of->n_values && *n < most && !st; i++) {
        bool hits = false;
        st = list_hits(u, &lists, of->first + i, &hits, err);
        *n += hits;
        if (used && hits)
            used[i] = 1;
    }
    cursor_done(&lists);
    return st;
}

static uint64_t lists_cost(const struct block_index *ix, const struct name *n)
{
    return (uint64_t)n->n_values * COST_LIST + (uint64_t)ix->n_series * COST_MEMBER;
}

/* The first series have most names, as they are of one kind; for the rest, see above. */
static nx_status mark_names(struct in_use *u, uint8_t *used, struct nx_err *err)
{
    const size_t first = u->ids->n < FIRST_LOOK ? u->ids->n : FIRST_LOOK;
    uint64_t cost = 0;
    nx_status st = mark_by_series(u, 0, first, NULL, used, err);

    for (uint32_t i = 0; i < u->ix->n_names; i++)
        cost += used[i] ? 0 : lists_cost(u->ix, &u->names->v[i]);
    if (st || (u->ids->n - first) * COST_SERIES <= cost)
        return st ? st : mark_by_series(u, first, u->ids->n, NULL, used, err);
    for (uint32_t i = 0; i < u->ix->n_names && !st; i++) {
        size_t n = 0;
        if (!used[i])
            st = mark_by_lists(u, &u->names->v[i], 1, NULL, &n, err);
        used[i] |= n > 0;
    }
    return st;
}

static nx_status mark_values(struct in_use *u, const struct name *of, size_t limit, uint8_t *used,
                             struct nx_err *err)
{
    size_t n;

    if (u->ids->n * COST_SERIES <= lists_cost(u->ix, of))
        return mark_by_series(u, 0, u->ids->n, of, used, err);
    return mark_by_lists(u, of, limit ? limit + 1 : SIZE_MAX, used, &n, err);
}

static size_t count_used(const uint8_t *used, size_t n, size_t limit)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += used ? used[i] : 1;
    return limit && count > limit ? limit + 1 : count;
}

nx_status block_index_names(struct block_index *ix, const struct ids *ids, size_t limit,
                            struct arena *a, struct nx_slice **out, size_t *n_out,
                            struct nx_err *err)
{
    struct names names;
    struct nx_slice *list = NULL;
    uint8_t *used = NULL;
    size_t n = 0, want = 0;
    nx_status st = names_get(ix, &names, err);

    if (!st && ids) {
        struct in_use u = {ix, &names, ids, NULL};
        used = calloc((size_t)ix->n_names + 1, 1);
        st = used ? mark_names(&u, used, err) : nx_fail(err, NX_NOMEM, "out of memory for names");
        free(u.bits);
    }
    if (!st) {
        want = count_used(used, ix->n_names, limit);
        list = arena_array(a, want, sizeof *list);
        st = list ? NX_OK : arena_failed(a, err);
    }
    for (uint32_t i = 0; i < ix->n_names && n < want && !st; i++) {
        if (used && !used[i])
            continue;
        list[n] = arena_slice(a, name_str(&names, i));
        st = list[n++].ptr ? NX_OK : arena_failed(a, err);
    }
    free(used);
    names_put(ix, &names);
    if (st)
        return st;
    *out = list;
    *n_out = n;
    return NX_OK;
}

static nx_status copy_used(struct block_index *ix, const struct name *name, const uint8_t *used,
                           size_t want, struct arena *a, struct nx_slice *list, struct nx_err *err)
{
    struct cursor values = cursor_of(ix, IX_VALUES);
    nx_status st = NX_OK;
    size_t n = 0;

    for (uint32_t i = 0; i < name->n_values && n < want && !st; i++) {
        struct nx_slice s;

        if (used && !used[i])
            continue;
        st = cursor_get(&values, name->first + i, &s, err);
        if (!st)
            list[n] = arena_slice(a, s);
        if (!st && !list[n++].ptr)
            st = arena_failed(a, err);
    }
    cursor_done(&values);
    return st;
}

nx_status block_index_values(struct block_index *ix, struct nx_slice name, const struct ids *ids,
                             size_t limit, struct arena *a, struct nx_slice **out, size_t *n_out,
                             struct nx_err *err)
{
    struct names names;
    const struct name *found;
    struct nx_slice *list = NULL;
    uint8_t *used = NULL;
    size_t want = 0;
    nx_status st = names_get(ix, &names, err);

    found = st ? NULL : names_find(&names, name);
    if (found && ids) {
        struct in_use u = {ix, &names, ids, NULL};
        used = calloc((size_t)found->n_values + 1, 1);
        st = used ? mark_values(&u, found, limit, used, err)
                  : nx_fail(err, NX_NOMEM, "out of memory for label values");
        free(u.bits);
    }
    if (found && !st) {
        want = count_used(used, found->n_values, limit);
        list = arena_array(a, want, sizeof *list);
        st = list ? copy_used(ix, found, used, want, a, list, err) : arena_failed(a, err);
    }
    free(used);
    names_put(ix, &names);
    if (st)
        return st;
    *out = list;
    *n_out = want;
    return NX_OK;
}

/* ---- verifying ------------------------------------------------------------------------------ */

static nx_status verify_order(struct block_index *ix, const struct names *names, struct nx_err *err)
{
    struct cursor values = cursor_of(ix, IX_VALUES);
    struct buf last;
    uint32_t next = 0;
    nx_status st = NX_OK;

    buf_init(&last, 0);
    for (uint32_t i = 0; i < ix->n_names && !st; i++) {
        const struct name *n = &names->v[i];
        if (n->first != next ||
            (i && nx_slice_cmp(name_str(names, i - 1), name_str(names, i)) >= 0))
            st = corrupt(err, "names are out of order");
        next += n->n_values;
        for (uint32_t k = 0; k < n->n_values && !st; k++) {
            struct nx_slice s;
            st = cursor_get(&values, n->first + k, &s, err);
            if (!st && k && nx_slice_cmp(buf_view(&last), s) >= 0)
                st = corrupt(err, "values are out of order");
            buf_clear(&last);
            if (!st)
                buf_slice(&last, s);
        }
    }
    if (!st && next != ix->n_values)
        st = corrupt(err, "values without a name");
    if (!st)
        st = buf_status(&last, err);
    buf_done(&last);
    cursor_done(&values);
    return st;
}

static bool has_pair(const struct entry *e, uint32_t name, uint32_t value)
{
    for (uint32_t i = 0; i < e->n_pairs; i++)
        if (e->pairs[2 * i] == name && e->pairs[2 * i + 1] == value)
            return true;
    return false;
}

/* Every member of a list has its pair, and lists together have as many members as series have pairs. */
static nx_status verify_lists(struct block_index *ix, const struct names *names, uint64_t n_pairs,
                              struct nx_err *err)
{
    struct cursor lists = cursor_of(ix, IX_POSTINGS), series = cursor_of(ix, IX_SERIES);
    struct arena *a = arena_new(0);
    nx_status st = a ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");

    for (uint32_t i = 0; i < ix->n_names && !st; i++) {
        for (uint32_t k = 0; k < names->v[i].n_values && !st; k++) {
            struct ids ids = {NULL, 0};
            arena_reset(a);
            st = list_get(&lists, names->v[i].first + k, a, &ids, err);
            for (size_t s = 0; s < ids.n && !st; s++) {
                struct entry e;
                st = entry_get(&series, ids.v[s], &e, err);
                if (!st && !has_pair(&e, i, k))
                    st = corrupt(err, "a list names a series that lacks its label");
            }
            n_pairs -= ids.n;
        }
    }
    if (!st && n_pairs != 0)
        st = corrupt(err, "lists and series do not agree");
    arena_free(a);
    cursor_done(&lists);
    cursor_done(&series);
    return st;
}

/* Labels ascend within and across series, chunks follow each other, spans are there. */
static nx_status verify_series(struct block_index *ix, uint64_t *n_pairs, struct nx_err *err)
{
    struct cursor series = cursor_of(ix, IX_SERIES), spans = cursor_of(ix, IX_SPANS);
    uint32_t *last = NULL, n_last = 0, next_chunk = 0;
    nx_status st = NX_OK;

    *n_pairs = 0;
    for (uint32_t i = 0; i < ix->n_series && !st; i++) {
        int64_t mint, maxt;
        struct entry e;
        uint32_t k = 0, *copy;

        st = entry_get(&series, i, &e, err);
        if (!st)
            st = span_get(&spans, e.span, &mint, &maxt, err);
        if (st)
            break;
        for (uint32_t p = 1; p < e.n_pairs; p++)
            if (e.pairs[2 * p] <= e.pairs[2 * p - 2])
                st = corrupt(err, "labels of a series are out of order");
        while (k < 2 * e.n_pairs && k < n_last && e.pairs[k] == last[k])
            k++;
        if (i && (k == 2 * e.n_pairs || (k < n_last && e.pairs[k] < last[k])))
            st = corrupt(err, "series are out of order");
        if (e.first_chunk != next_chunk || mint > maxt)
            st = corrupt(err, "chunks of series do not follow each other");
        next_chunk = e.first_chunk + e.n_chunks;
        *n_pairs += e.n_pairs;
        copy = realloc(last, 2 * e.n_pairs * sizeof *copy);
        if (!copy) {
            st = nx_fail(err, NX_NOMEM, "out of memory");
            break;
        }
        last = copy;
        n_last = 2 * e.n_pairs;
        memcpy(last, e.pairs, n_last * sizeof *last);
    }
    free(last);
    cursor_done(&series);
    cursor_done(&spans);
    return st;
}

nx_status block_index_verify(struct block_index *ix, struct nx_err *err)
{
    struct names names;
    uint64_t n_pairs = 0;
    nx_status st = names_get(ix, &names, err);

    if (!st)
        st = verify_order(ix, &names, err);
    if (!st)
        st = verify_series(ix, &n_pairs, err);
    if (!st)
        st = verify_lists(ix, &names, n_pairs, err);
    names_put(ix, &names);
    return st;
}

/* ---- opening -------------------------------------------------------------------------------- */

nx_status block_index_open(struct block_index **out, struct fs *fs, struct cache *cache,
                           const char *path, struct nx_err *err)
{
    const struct page_opts opts = {fs, cache, BLOCK_INDEX_MAGIC, unpack};
    struct block_index *ix = calloc(1, sizeof *ix);
    uint64_t n[IX_SPANS + 1];
    nx_status st = ix ? page_file_open(&ix->f, path, &opts, err)
                      : nx_fail(err, NX_NOMEM, "%s: out of memory", path);

    if (st)
        goto done;
    for (unsigned i = 0; i <= IX_SPANS; i++) {
        n[i] = page_file_items(ix->f, i);
        if (n[i] == 0 || n[i] >= UINT32_MAX)
            st = nx_fail(err, NX_CORRUPT, "%s: the root's counts make no sense", path);
    }
    if (!st && n[IX_VALUES] != n[IX_POSTINGS])
        st = nx_fail(err, NX_CORRUPT, "%s: not as many lists as values", path);
    if (st)
        goto done;
    ix->n_names = (uint32_t)n[IX_NAMES];
    ix->n_values = (uint32_t)n[IX_VALUES];
    ix->n_series = (uint32_t)n[IX_SERIES];
    ix->n_spans = (uint32_t)n[IX_SPANS];
    *out = ix;
    ix = NULL;

done:
    block_index_close(ix);
    return st;
}

void block_index_close(struct block_index *ix)
{
    if (!ix)
        return;
    page_file_close(ix->f);
    free(ix);
}

struct page_file *block_index_file(struct block_index *ix)
{
    return ix->f;
}

uint64_t block_index_n_series(const struct block_index *ix)
{
    return ix->n_series;
}
