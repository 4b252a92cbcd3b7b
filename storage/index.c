/* index.c - the head's series: found by labels, by number, and by matchers.
 *
 * WHY     Memory per series decides how small a machine will do, so nothing is said twice: a string
 *         once in the pool, a pair of strings once here, a series as 4 bytes per label.
 * SHAPE   pairs[]   {name, value, series numbers ascending}; number 0 is no pair. A list of one lies
 *                   in the pair itself: most values of an id-like label belong to one series.
 *         names[]   {name, its pairs}; few, so it is searched by hash of the interned number.
 *         pages[]   series by number, 1024 to a page. A page is one piece of memory for all its
 *                   series, one behind the other: fifty bytes each need no allocation of their own. When half of
 *                   it belongs to series that are gone it is packed, when all are it is freed.
 *         olds[]    homes before the newest, of the few series that have any: after a restart, or when they
 *                   changed their writer. One lies in the entry itself.
 *         by_labels, by_pair: open addressing, linear probing, holes closed by shifting back.
 * RULES   I1  Series numbers rise and are not reused; every list is therefore ascending.
 *         I2  A pair holds one reference on its two strings, a name entry one on its own.
 *         I3  index_add() takes all memory before it links anything. */
#include "storage/index.h"

#include <stdlib.h>
#include <string.h>

#include "storage/grow.h"

#include "src/base/hash.h"
#include "src/base/sort.h"

#define PAGE_SERIES 1024u

struct pair {
    uint32_t name, value; /* interned; name 0: the entry is free and `value` the next free one */
    uint32_t n, cap;      /* cap 0: the list is `one` */
    union {
        uint32_t one;
        uint32_t *many;
    } list;
};

struct name {
    uint32_t str;
    uint32_t n, cap;
    uint32_t *pairs;   /* not sorted */
    uint64_t n_series; /* series that have the label */
    uint64_t bytes;    /* of their values, counted per series */
};

struct page {
    uint32_t live;
    uint32_t used, cap, gone; /* words; `gone` of those used */
    uint32_t *words;
    uint32_t at[PAGE_SERIES]; /* place of a series in words + 1; 0: there is none */
};

struct old {
    uint32_t n, cap; /* cap 0: one, or (n 0) a free entry */
    union {
        struct home one;
        struct home *many;
        uint32_t next; /* free entry */
    } homes;
};

struct table { /* of numbers; 0 is a hole */
    uint32_t *v;
    uint32_t mask; /* capacity - 1 */
    uint32_t n;
};

struct index {
    struct intern *pool;
    struct pair *pairs;
    uint32_t n_pairs, cap_pairs, free_pair, live_pairs;
    struct name *names;
    uint32_t n_names, cap_names;
    struct page **pages;
    uint32_t cap_pages;
    uint32_t next_id;
    uint64_t removals;
    struct old *olds; /* number 0 is none */
    uint32_t n_olds, cap_olds, free_old;
    struct table by_labels, by_pair;
};

/* ---- tables ---------------------------------------------------------------------------------- */

static uint32_t mix32(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

static uint32_t pair_hash(uint32_t name, uint32_t value)
{
    return mix32(name * 0x9e3779b9u + mix32(value));
}

static uint32_t series_slot_hash(const struct index *ix, uint32_t id)
{
    return index_series(ix, id)->hash;
}

static uint32_t pair_slot_hash(const struct index *ix, uint32_t p)
{
    return pair_hash(ix->pairs[p].name, ix->pairs[p].value);
}

typedef uint32_t slot_hash_fn(const struct index *ix, uint32_t number);

static void table_put(struct table *t, uint32_t hash, uint32_t number)
{
    uint32_t i = hash & t->mask;

    while (t->v[i])
        i = (i + 1) & t->mask;
    t->v[i] = number;
    t->n++;
}

/* Room for one more at a load of 3/4. */
static bool table_room(struct table *t, const struct index *ix, slot_hash_fn *hash)
{
    if (t->v && (uint64_t)(t->n + 1) * 4 <= ((uint64_t)t->mask + 1) * 3)
        return true;
    uint64_t cap = t->v ? ((uint64_t)t->mask + 1) * 2 : 64;
    if (cap > (1ull << 31))
        return false;
    struct table bigger = {calloc(cap, sizeof *bigger.v), (uint32_t)cap - 1, 0};
    if (!bigger.v)
        return false;
    for (uint64_t i = 0; t->v && i <= t->mask; i++) {
        if (t->v[i])
            table_put(&bigger, hash(ix, t->v[i]), t->v[i]);
    }
    free(t->v);
    *t = bigger;
    return true;
}

static void table_drop(struct table *t, const struct index *ix, slot_hash_fn *hash, uint32_t number)
{
    uint32_t i = hash(ix, number) & t->mask;

    while (t->v[i] != number) {
        NX_ASSERT(t->v[i] != 0);
        i = (i + 1) & t->mask;
    }
    for (uint32_t j = (i + 1) & t->mask; t->v[j]; j = (j + 1) & t->mask) {
        uint32_t home = hash(ix, t->v[j]) & t->mask;
        if (((j - home) & t->mask) >= ((j - i) & t->mask)) {
            t->v[i] = t->v[j];
            i = j;
        }
    }
    t->v[i] = 0;
    t->n--;
}

static const uint32_t *pair_list(const struct pair *p)
{
    return p->cap ? p->list.many : &p->list.one;
}

static bool pair_room(struct pair *p)
{
    uint32_t cap = p->cap, *many;

    if (p->n == 0 || p->n < cap)
        return true;
    if (cap == 0) { /* the one in the pair moves out */
        many = malloc(4 * sizeof *many);
        if (!many)
            return false;
        many[0] = p->list.one;
        p->list.many = many;
        p->cap = 4;
        return true;
    }
    if (cap > UINT32_MAX - cap / 8 - 4)
        return false;
    cap += cap / 8 + 4; /* every series is in some of these: they grow by little */
    many = reallocarray(p->list.many, cap, sizeof *many);
    if (!many)
        return false;
    p->list.many = many;
    p->cap = cap;
    return true;
}

static void pair_append(struct pair *p, uint32_t id)
{
    if (p->cap)
        p->list.many[p->n++] = id;
    else {
        p->list.one = id;
        p->n = 1;
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

struct index *index_new(void)
{
    struct index *ix = calloc(1, sizeof *ix);

    if (!ix)
        return NULL;
    ix->next_id = 1;
    ix->n_pairs = 1;
    ix->n_olds = 1;
    ix->pool = intern_new();
    ix->pairs = calloc(16, sizeof *ix->pairs);
    ix->cap_pairs = 16;
    if (!ix->pool || !ix->pairs) {
        index_free(ix);
        return NULL;
    }
    return ix;
}

void index_free(struct index *ix)
{
    if (!ix)
        return;
    for (uint32_t i = 0; i < ix->cap_pages; i++) {
        if (ix->pages[i])
            free(ix->pages[i]->words);
        free(ix->pages[i]);
    }
    for (uint32_t i = 1; i < ix->n_olds; i++) {
        if (ix->olds[i].cap)
            free(ix->olds[i].homes.many);
    }
    free(ix->olds);
    for (uint32_t i = 1; ix->pairs && i < ix->n_pairs; i++) {
        if (ix->pairs[i].name && ix->pairs[i].cap)
            free(ix->pairs[i].list.many);
    }
    for (uint32_t i = 0; i < ix->n_names; i++)
        free(ix->names[i].pairs);
    free(ix->pages);
    free(ix->pairs);
    free(ix->names);
    free(ix->by_labels.v);
    free(ix->by_pair.v);
    intern_free(ix->pool);
    free(ix);
}

/* ---- finding --------------------------------------------------------------------------------- */

struct memseries *index_series(const struct index *ix, uint32_t id)
{
    uint32_t p = id / PAGE_SERIES, at;

    if (p >= ix->cap_pages || !ix->pages[p])
        return NULL;
    at = ix->pages[p]->at[id % PAGE_SERIES];
    return at ? (struct memseries *)(ix->pages[p]->words + at - 1) : NULL;
}

void index_prefetch(const struct index *ix, uint32_t id)
{
    __builtin_prefetch(index_series(ix, id));
}

uint32_t index_end(const struct index *ix)
{
    return ix->next_id;
}

size_t index_count(const struct index *ix)
{
    return ix->by_labels.n;
}

uint64_t index_removals(const struct index *ix)
{
    return ix->removals;
}

struct label index_label(const struct index *ix, const struct memseries *s, uint32_t i)
{
    const struct pair *p = &ix->pairs[s->pairs[i]];

    return (struct label){intern_str(ix->pool, p->name), intern_str(ix->pool, p->value)};
}

static bool has_labels(const struct index *ix, const struct memseries *s, const struct labels *ls)
{
    if (s->n_pairs != ls->n)
        return false;
    for (uint32_t i = 0; i < ls->n; i++) {
        struct label l = index_label(ix, s, i);
        if (!nx_slice_eq(l.value, ls->v[i].value) || !nx_slice_eq(l.name, ls->v[i].name))
            return false;
    }
    return true;
}

struct memseries *index_find(const struct index *ix, const struct labels *ls, uint64_t hash)
{
    const struct table *t = &ix->by_labels;

    if (!t->v)
        return NULL;
    for (uint32_t i = (uint32_t)hash & t->mask; t->v[i]; i = (i + 1) & t->mask) {
        struct memseries *s = index_series(ix, t->v[i]);
        if (s->hash == (uint32_t)hash && has_labels(ix, s, ls))
            return s;
    }
    return NULL;
}

static uint32_t find_pair(const struct index *ix, uint32_t name, uint32_t value)
{
    const struct table *t = &ix->by_pair;

    if (!t->v || !name || !value)
        return 0;
    for (uint32_t i = pair_hash(name, value) & t->mask; t->v[i]; i = (i + 1) & t->mask) {
        const struct pair *p = &ix->pairs[t->v[i]];
        if (p->name == name && p->value == value)
            return t->v[i];
    }
    return 0;
}

static struct name *find_name(const struct index *ix, uint32_t str)
{
    for (uint32_t i = 0; str && i < ix->n_names; i++) {
        if (ix->names[i].str == str)
            return &ix->names[i];
    }
    return NULL;
}

static struct name *find_name_str(const struct index *ix, struct nx_slice s)
{
    return find_name(ix, intern_find(ix->pool, s));
}

/* ---- adding ---------------------------------------------------------------------------------- */

static struct name *want_name(struct index *ix, uint32_t str)
{
    struct name *n = find_name(ix, str);

    if (n)
        return n;
    if (!grow(&ix->names, ix->n_names, &ix->cap_names, sizeof *ix->names, 4))
        return NULL;
    n = &ix->names[ix->n_names++];
    *n = (struct name){.str = str};
    intern_ref(ix->pool, str);
    return n;
}

/* Takes over the references on both strings if it succeeds. */
static uint32_t new_pair(struct index *ix, uint32_t name, uint32_t value)
{
    struct name *n = want_name(ix, name);
    uint32_t p = ix->free_pair;

    if (!n || !grow(&n->pairs, n->n, &n->cap, sizeof *n->pairs, 4) ||
        !table_room(&ix->by_pair, ix, pair_slot_hash))
        return 0;
    if (p)
        ix->free_pair = ix->pairs[p].value;
    else if (grow(&ix->pairs, ix->n_pairs, &ix->cap_pairs, sizeof *ix->pairs, 4))
        p = ix->n_pairs++;
    else
        return 0;
    ix->pairs[p] = (struct pair){.name = name, .value = value};
    n->pairs[n->n++] = p;
    table_put(&ix->by_pair, pair_hash(name, value), p);
    ix->live_pairs++;
    return p;
}

static uint32_t want_pair(struct index *ix, const struct label *l)
{
    uint32_t name = intern_get(ix->pool, l->name);
    uint32_t value = name ? intern_get(ix->pool, l->value) : 0;
    uint32_t p = find_pair(ix, name, value);
    bool fresh = false;

    if (!p && value) {
        p = new_pair(ix, name, value);
        fresh = p != 0;
    }
    if (!fresh && name)
        intern_unref(ix->pool, name);
    if (!fresh && value)
        intern_unref(ix->pool, value);
    return p;
}

static uint32_t series_words(uint32_t n_pairs)
{
    return (uint32_t)(sizeof(struct memseries) / sizeof(uint32_t)) + n_pairs;
}

/* Changes how many words the page can hold; not fewer than it uses. */
static bool page_resize(struct page *p, uint32_t cap)
{
    uint32_t *words = reallocarray(p->words, cap, sizeof *words);

    if (!words)
        return false;
    p->words = words;
    p->cap = cap;
    return true;
}

/* The series after this one begin a new page: what is left of its memory can go. */
static void page_end(struct page *p)
{
    if (p && p->used && p->used < p->cap)
        (void)page_resize(p, p->used);
}

/* Room for series `id` with n_pairs in its page; the place is not taken yet. NULL out of memory. */
static struct memseries *page_room(struct index *ix, uint32_t id, uint32_t n_pairs)
{
    uint32_t need = series_words(n_pairs);
    struct page *page;
    uint32_t p = id / PAGE_SERIES, old = ix->cap_pages;

    if (p >= old) {
        if (!grow(&ix->pages, p, &ix->cap_pages, sizeof *ix->pages, 4))
            return NULL;
        memset(ix->pages + old, 0, (ix->cap_pages - old) * sizeof *ix->pages);
    }
    if (!ix->pages[p]) {
        ix->pages[p] = calloc(1, sizeof *ix->pages[p]);
        if (!ix->pages[p])
            return NULL;
        if (p > 0)
            page_end(ix->pages[p - 1]);
    }
    page = ix->pages[p];
    if (page->cap - page->used < need &&
        !page_resize(page, page->used + need + page->used / 4 + 64))
        return NULL;
    return (struct memseries *)(page->words + page->used);
}

static void link_series(struct index *ix, struct memseries *s)
{
    struct page *page = ix->pages[s->id / PAGE_SERIES];

    page->at[s->id % PAGE_SERIES] = page->used + 1;
    page->used += series_words(s->n_pairs);
    page->live++;
    table_put(&ix->by_labels, s->hash, s->id);
    for (uint32_t i = 0; i < s->n_pairs; i++) {
        struct pair *p = &ix->pairs[s->pairs[i]];
        struct name *n = find_name(ix, p->name);
        pair_append(p, s->id);
        n->n_series++;
        n->bytes += intern_str(ix->pool, p->value).len;
    }
}

static void drop_pair_if_empty(struct index *ix, uint32_t p);

nx_status index_add(struct index *ix, const struct labels *ls, uint64_t hash,
                    struct memseries **out, struct nx_err *err)
{
    struct memseries *s = NULL;
    uint32_t p;

    if (ix->next_id != UINT32_MAX)
        s = page_room(ix, ix->next_id, ls->n);
    if (!s || !table_room(&ix->by_labels, ix, series_slot_hash))
        return nx_fail(err, NX_NOMEM, "adding a series");
    *s = (struct memseries){.id = ix->next_id, .hash = (uint32_t)hash, .home.group = HOME_NONE};
    for (; s->n_pairs < ls->n; s->n_pairs++) {
        p = want_pair(ix, &ls->v[s->n_pairs]);
        s->pairs[s->n_pairs] = p;
        if (!p || !pair_room(&ix->pairs[p]))
            goto nomem;
    }
    link_series(ix, s); /* I3 */
    ix->next_id++;
    *out = s;
    return NX_OK;

nomem:
    for (uint32_t i = 0; i <= s->n_pairs && i < ls->n; i++) {
        if (s->pairs[i])
            drop_pair_if_empty(ix, s->pairs[i]);
    }
    return nx_fail(err, NX_NOMEM, "adding a series");
}

/* ---- homes ----------------------------------------------------------------------------------- */

static struct home *old_homes(struct old *o)
{
    return o->cap ? o->homes.many : &o->homes.one;
}

struct home *memseries_old(const struct index *ix, const struct memseries *s, uint32_t *n)
{
    struct old *o = s->old ? &ix->olds[s->old] : NULL;

    *n = o ? o->n : 0;
    return o ? old_homes(o) : NULL;
}

static bool old_room(struct old *o)
{
    struct home *many;

    if (o->cap)
        return grow(&o->homes.many, o->n, &o->cap, sizeof *many, 2);
    if (o->n == 0)
        return true;
    many = malloc(4 * sizeof *many); /* the one in the entry moves out */
    if (!many)
        return false;
    many[0] = o->homes.one;
    o->homes.many = many;
    o->cap = 4;
    return true;
}

static uint32_t new_old(struct index *ix)
{
    uint32_t i = ix->free_old;

    if (i)
        ix->free_old = ix->olds[i].homes.next;
    else if (grow(&ix->olds, ix->n_olds, &ix->cap_olds, sizeof *ix->olds, 4))
        i = ix->n_olds++;
    if (i)
        ix->olds[i] = (struct old){0};
    return i;
}

static void free_old(struct index *ix, struct memseries *s)
{
    struct old *o;

    if (!s->old) /* there may be no array at all */
        return;
    o = &ix->olds[s->old];
    if (o->cap)
        free(o->homes.many);
    *o = (struct old){.homes.next = ix->free_old};
    ix->free_old = s->old;
    s->old = 0;
}

nx_status memseries_move(struct index *ix, struct memseries *s, struct home h, struct nx_err *err)
{
    if (s->home.group != HOME_NONE) {
        uint32_t i = s->old ? s->old : new_old(ix);
        if (!i || !old_room(&ix->olds[i])) /* an entry that is there has at least one home */
            return nx_fail(err, NX_NOMEM, "moving a series");
        s->old = i;
        old_homes(&ix->olds[i])[ix->olds[i].n] = s->home;
        ix->olds[i].n++;
    }
    s->home = h;
    return NX_OK;
}

void memseries_keep_old(struct index *ix, struct memseries *s, uint32_t n)
{
    if (s->old)
        ix->olds[s->old].n = n;
    if (n == 0)
        free_old(ix, s);
}

void memseries_back(struct index *ix, struct memseries *s)
{
    struct old *o = &ix->olds[s->old];

    s->home = old_homes(o)[o->n - 1];
    memseries_keep_old(ix, s, o->n - 1);
}

bool memseries_prune(struct index *ix, struct memseries *s,
                     bool (*gone)(const void *ctx, const struct home *home), const void *ctx)
{
    struct old *o = s->old ? &ix->olds[s->old] : NULL;
    struct home *homes = o ? old_homes(o) : NULL;
    bool none = s->home.group == HOME_NONE || gone(ctx, &s->home);
    uint32_t kept = 0;

    for (uint32_t i = 0; o && i < o->n; i++) {
        if (!gone(ctx, &homes[i]))
            homes[kept++] = homes[i];
    }
    if (none && kept) {
        s->home = homes[--kept];
        none = false;
    }
    memseries_keep_old(ix, s, kept);
    return none;
}

/* ---- removing -------------------------------------------------------------------------------- */

static void release_pair(struct index *ix, uint32_t number)
{
    struct pair *p = &ix->pairs[number];

    table_drop(&ix->by_pair, ix, pair_slot_hash, number);
    if (p->cap)
        free(p->list.many);
    intern_unref(ix->pool, p->name);
    intern_unref(ix->pool, p->value);
    *p = (struct pair){.value = ix->free_pair};
    ix->free_pair = number;
    ix->live_pairs--;
}

/* A pair that a failed index_add() made. */
static void drop_pair_if_empty(struct index *ix, uint32_t number)
{
    struct name *n;

    if (!ix->pairs[number].name || ix->pairs[number].n)
        return;
    n = find_name(ix, ix->pairs[number].name);
    for (uint32_t i = 0; i < n->n; i++) {
        if (n->pairs[i] == number) {
            n->pairs[i] = n->pairs[--n->n];
            break;
        }
    }
    release_pair(ix, number);
}

static void drop_empty_names(struct index *ix)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < ix->n_names; i++) {
        struct name *n = &ix->names[i];
        if (n->n == 0) {
            intern_unref(ix->pool, n->str);
            free(n->pairs);
        } else {
            ix->names[kept++] = *n;
        }
    }
    ix->n_names = kept;
}

/* Pairs of names that lose many values: one pass over the name instead of one search per pair. */
static void forget_pairs(struct index *ix)
{
    for (uint32_t i = 0; i < ix->n_names; i++) {
        struct name *n = &ix->names[i];
        uint32_t kept = 0;
        for (uint32_t j = 0; j < n->n; j++) {
            if (ix->pairs[n->pairs[j]].n)
                n->pairs[kept++] = n->pairs[j];
        }
        n->n = kept;
    }
}

static void filter_pair(struct index *ix, struct pair *p)
{
    uint32_t *list = p->cap ? p->list.many : &p->list.one;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        if (index_series(ix, list[i]))
            list[kept++] = list[i];
    }
    p->n = kept;
}

static void unlink_series(struct index *ix, struct memseries *s)
{
    uint32_t number = s->id / PAGE_SERIES;
    struct page *page = ix->pages[number];

    table_drop(&ix->by_labels, ix, series_slot_hash, s->id);
    for (uint32_t i = 0; i < s->n_pairs; i++) {
        struct name *n = find_name(ix, ix->pairs[s->pairs[i]].name);
        n->n_series--;
        n->bytes -= intern_str(ix->pool, ix->pairs[s->pairs[i]].value).len;
    }
    free_old(ix, s);
    page->at[s->id % PAGE_SERIES] = 0;
    page->gone += series_words(s->n_pairs);
    if (--page->live == 0 && number != ix->next_id / PAGE_SERIES) {
        free(page->words);
        free(page);
        ix->pages[number] = NULL;
    }
}

/* Puts the series of a page close together again. */
static void page_pack(struct page *p)
{
    uint32_t used = 0;

    for (uint32_t i = 0; i < PAGE_SERIES; i++) { /* numbers and places both ascend */
        struct memseries *s;
        uint32_t n;
        if (!p->at[i])
            continue;
        s = (struct memseries *)(p->words + p->at[i] - 1);
        n = series_words(s->n_pairs);
        memmove(p->words + used, s, n * sizeof *p->words);
        p->at[i] = used + 1;
        used += n;
    }
    p->used = used;
    p->gone = 0;
    if (used)
        (void)page_resize(p, used);
}

static void pack_pages(struct index *ix)
{
    for (uint32_t i = 0; i < ix->cap_pages; i++) {
        struct page *p = ix->pages[i];
        if (p && p->gone > p->used / 2)
            page_pack(p);
    }
}

/* What grew with series that are gone gives its memory back; where that fails, it stays. */
static void table_trim(struct table *t, const struct index *ix, slot_hash_fn *hash)
{
    uint64_t cap = (uint64_t)t->mask + 1, want = 64;

    while (want * 3 / 8 < t->n) /* with room to grow by half */
        want *= 2;
    if (!t->v || want * 2 >= cap)
        return;
    struct table smaller = {calloc(want, sizeof *smaller.v), (uint32_t)want - 1, 0};
    if (!smaller.v)
        return;
    for (uint64_t i = 0; i < cap; i++) {
        if (t->v[i])
            table_put(&smaller, hash(ix, t->v[i]), t->v[i]);
    }
    free(t->v);
    *t = smaller;
}

static void array_trim(uint32_t **v, uint32_t n, uint32_t *cap)
{
    uint32_t want = n + n / 8 + 4, *fewer;

    if (want >= *cap / 2)
        return;
    fewer = realloc(*v, want * sizeof *fewer);
    if (!fewer)
        return;
    *v = fewer;
    *cap = want;
}

static void trim(struct index *ix, const uint8_t *touched)
{
    for (uint32_t p = 1; p < ix->n_pairs; p++) {
        if (touched[p] && ix->pairs[p].cap)
            array_trim(&ix->pairs[p].list.many, ix->pairs[p].n, &ix->pairs[p].cap);
    }
    for (uint32_t i = 0; i < ix->n_names; i++)
        array_trim(&ix->names[i].pairs, ix->names[i].n, &ix->names[i].cap);
    table_trim(&ix->by_labels, ix, series_slot_hash);
    table_trim(&ix->by_pair, ix, pair_slot_hash);
}

size_t index_remove(struct index *ix, const uint32_t *ids, size_t n)
{
    uint8_t *touched = calloc((size_t)ix->n_pairs, 1);

    if (!touched)
        return 0; /* they can go another time */
    ix->removals++;
    for (size_t i = 0; i < n; i++) {
        struct memseries *s = index_series(ix, ids[i]);
        for (uint32_t j = 0; j < s->n_pairs; j++)
            touched[s->pairs[j]] = 1;
        unlink_series(ix, s);
    }
    pack_pages(ix);
    for (uint32_t p = 1; p < ix->n_pairs; p++) {
        if (touched[p])
            filter_pair(ix, &ix->pairs[p]);
    }
    forget_pairs(ix);
    for (uint32_t p = 1; p < ix->n_pairs; p++) {
        if (touched[p] && ix->pairs[p].n == 0)
            release_pair(ix, p);
    }
    drop_empty_names(ix);
    trim(ix, touched);
    free(touched);
    return n;
}

/* ---- matchers -------------------------------------------------------------------------------- */

static nx_status source_all(void *ctx, struct arena *a, struct ids *out, struct nx_err *err)
{
    const struct index *ix = ctx;
    uint32_t *v = arena_alloc(a, index_count(ix) * sizeof *v);
    size_t n = 0;

    if (!v)
        return arena_failed(a, err);
    for (uint32_t p = 0; p < ix->cap_pages; p++) {
        for (uint32_t i = 0; ix->pages[p] && i < PAGE_SERIES; i++) {
            if (ix->pages[p]->at[i])
                v[n++] = p * PAGE_SERIES + i;
        }
    }
    *out = (struct ids){v, n};
    return NX_OK;
}

/* Lists are borrowed: the source is used under the lock, and results of set operations are copies
 * unless there was one set alone; index_labels() is done before the lock is given back. */
static nx_status source_of(void *ctx, struct nx_slice name, struct nx_slice value, struct arena *a,
                           struct ids *out, struct nx_err *err)
{
    const struct index *ix = ctx;
    uint32_t p = find_pair(ix, intern_find(ix->pool, name), intern_find(ix->pool, value));

    (void)a;
    (void)err;
    *out = p ? (struct ids){pair_list(&ix->pairs[p]), ix->pairs[p].n} : (struct ids){0};
    return NX_OK;
}

static bool has_prefix(struct nx_slice s, struct nx_slice prefix)
{
    return s.len >= prefix.len && (!prefix.len || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static nx_status source_scan(void *ctx, struct nx_slice name, struct nx_slice prefix,
                             postings_want_fn *want, void *want_ctx, struct arena *a,
                             struct id_sets *sets, struct nx_err *err)
{
    const struct index *ix = ctx;
    const struct name *n = find_name_str(ix, name);

    for (uint32_t i = 0; n && i < n->n; i++) {
        const struct pair *p = &ix->pairs[n->pairs[i]];
        struct nx_slice value = intern_str(ix->pool, p->value);
        if (!has_prefix(value, prefix) || (want && !want(want_ctx, value)))
            continue;
        nx_status st = id_sets_add(sets, a, (struct ids){pair_list(p), p->n}, err);
        if (st)
            return st;
    }
    return NX_OK;
}

struct postings_source index_source(struct index *ix)
{
    return (struct postings_source){ix, source_all, source_of, source_scan};
}

/* ---- labels of many series ------------------------------------------------------------------- */

/* The distinct pairs of a selection, sorted by name and value. Two series compare as their pairs'
 * ranks do, so strings are compared once per pair and not once per comparison. */
struct ranked {
    uint32_t pair;
    struct label label; /* copied into the arena */
};
struct ranks {
    struct ranked *v;
    uint32_t n, cap;
    uint32_t *slot; /* open addressing: place in v + 1 */
    uint32_t mask;
};

static bool ranks_rehash(struct ranks *r)
{
    uint32_t cap = r->slot ? (r->mask + 1) * 2 : 64;
    uint32_t *slot = calloc(cap, sizeof *slot);

    if (!slot)
        return false;
    for (uint32_t k = 0; k < r->n; k++) {
        uint32_t i = mix32(r->v[k].pair) & (cap - 1);
        while (slot[i])
            i = (i + 1) & (cap - 1);
        slot[i] = k + 1;
    }
    free(r->slot);
    r->slot = slot;
    r->mask = cap - 1;
    return true;
}

static uint32_t ranks_find(const struct ranks *r, uint32_t pair)
{
    for (uint32_t i = mix32(pair) & r->mask; r->slot[i]; i = (i + 1) & r->mask) {
        if (r->v[r->slot[i] - 1].pair == pair)
            return r->slot[i] - 1;
    }
    return UINT32_MAX;
}

static nx_status ranks_add(struct ranks *r, uint32_t pair, struct nx_err *err)
{
    if (r->slot && ranks_find(r, pair) != UINT32_MAX)
        return NX_OK;
    if (!grow(&r->v, r->n, &r->cap, sizeof *r->v, 4))
        return nx_fail(err, NX_NOMEM, "selecting series");
    r->v[r->n++] = (struct ranked){.pair = pair};
    if (!r->slot || (uint64_t)r->n * 2 > r->mask) {
        if (!ranks_rehash(r))
            return nx_fail(err, NX_NOMEM, "selecting series");
        return NX_OK;
    }
    uint32_t i = mix32(pair) & r->mask;
    while (r->slot[i])
        i = (i + 1) & r->mask;
    r->slot[i] = r->n;
    return NX_OK;
}

static int ranked_cmp(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    int c = nx_slice_cmp(a->label.name, b->label.name);

    return c ? c : nx_slice_cmp(a->label.value, b->label.value);
}

/* Sorts, and copies the strings of all pairs, each once (a name once per run of equal names), into the
 * arena if there is one. */
static nx_status ranks_sort(struct ranks *r, const struct index *ix, struct arena *a,
                            struct nx_err *err)
{
    struct nx_slice last_from = {0}, last_to = {0};

    for (uint32_t i = 0; i < r->n; i++) {
        const struct pair *p = &ix->pairs[r->v[i].pair];
        r->v[i].label =
            (struct label){intern_str(ix->pool, p->name), intern_str(ix->pool, p->value)};
    }
    if (r->n)
        qsort(r->v, r->n, sizeof *r->v, ranked_cmp);
    for (uint32_t i = 0; i < r->n && a; i++) {
        struct label *l = &r->v[i].label;
        if (l->name.ptr != last_from.ptr || !last_to.ptr) {
            last_from = l->name;
            last_to = arena_slice(a, l->name);
        }
        *l = (struct label){last_to, arena_slice(a, l->value)};
        if (!l->name.ptr || !l->value.ptr)
            return arena_failed(a, err);
    }
    return ranks_rehash(r) ? NX_OK : nx_fail(err, NX_NOMEM, "selecting series");
}

struct sortable {
    uint32_t id, n;
    const uint32_t *ranks;
};

static int sortable_cmp(const void *x, const void *y)
{
    const struct sortable *a = x, *b = y;
    uint32_t n = a->n < b->n ? a->n : b->n;

    for (uint32_t i = 0; i < n; i++) {
        if (a->ranks[i] != b->ranks[i])
            return a->ranks[i] < b->ranks[i] ? -1 : 1;
    }
    return a->n < b->n ? -1 : a->n > b->n;
}

static nx_status list_series(const struct ranks *r, const struct sortable *v, size_t n,
                             struct arena *a, struct series_list *out, struct nx_err *err)
{
    struct series *list = arena_array(a, n, sizeof *list);

    if (!list)
        return arena_failed(a, err);
    for (size_t i = 0; i < n; i++) {
        struct label *ls = arena_alloc(a, v[i].n * sizeof *ls);
        if (!ls)
            return arena_failed(a, err);
        for (uint32_t j = 0; j < v[i].n; j++)
            ls[j] = r->v[v[i].ranks[j]].label;
        list[i] = (struct series){{ls, v[i].n}, v[i].id};
    }
    *out = (struct series_list){list, n};
    return NX_OK;
}

/* The series of `ids` in order, as places in `r`; *v and *all are malloc'ed. */
static nx_status sort_series(const struct index *ix, const uint32_t *ids, size_t n, struct arena *a,
                             struct ranks *r, struct sortable **v, uint32_t **all,
                             struct nx_err *err)
{
    nx_status st = NX_OK;
    size_t total = 0;
    uint32_t *next;

    for (size_t i = 0; i < n; i++) {
        const struct memseries *s = index_series(ix, ids[i]);
        total += s->n_pairs;
        for (uint32_t j = 0; j < s->n_pairs && !st; j++)
            st = ranks_add(r, s->pairs[j], err);
    }
    if (!st)
        st = ranks_sort(r, ix, a, err);
    if (st)
        return st;
    *v = calloc(n + 1, sizeof **v);
    next = *all = malloc((total + 1) * sizeof **all);
    if (!*v || !*all)
        return nx_fail(err, NX_NOMEM, "selecting series");
    for (size_t i = 0; i < n; i++) {
        const struct memseries *s = index_series(ix, ids[i]);
        (*v)[i] = (struct sortable){s->id, s->n_pairs, next};
        for (uint32_t j = 0; j < s->n_pairs; j++)
            *next++ = ranks_find(r, s->pairs[j]);
    }
    qsort(*v, n, sizeof **v, sortable_cmp);
    return NX_OK;
}

nx_status index_labels(const struct index *ix, struct ids ids, struct arena *a,
                       struct series_list *out, struct nx_err *err)
{
    struct ranks r = {0};
    struct sortable *v = NULL;
    uint32_t *all = NULL;
    nx_status st = sort_series(ix, ids.v, ids.n, a, &r, &v, &all, err);

    if (!st)
        st = list_series(&r, v, ids.n, a, out, err);
    free(r.v);
    free(r.slot);
    free(v);
    free(all);
    return st;
}

#define LIST_PLACES 16u
#define LIST_NAMES  8u

/* Copies the strings of a pair, once each; a name is mostly that of the pair before. */
static nx_status label_of(struct ranks *r, const struct index *ix, uint32_t pair, struct arena *a,
                          struct nx_slice *last, struct label *out, struct nx_err *err)
{
    uint32_t at = r->slot ? ranks_find(r, pair) : UINT32_MAX;
    const struct pair *p = &ix->pairs[pair];
    struct nx_slice name = intern_str(ix->pool, p->name);
    nx_status st;

    if (at != UINT32_MAX) {
        *out = r->v[at].label;
        return NX_OK;
    }
    st = ranks_add(r, pair, err);
    if (st)
        return st;
    if (!last->ptr || !nx_slice_eq(*last, name))
        *last = arena_slice(a, name);
    *out = (struct label){*last, arena_slice(a, intern_str(ix->pool, p->value))};
    r->v[r->n - 1].label = *out;
    return out->name.ptr && out->value.ptr ? NX_OK : arena_failed(a, err);
}

/* Series that are sorted, one after the other. */
struct listing {
    const struct index *ix;
    struct arena *a;
    struct ranks r;
    struct nx_slice last[LIST_PLACES]; /* names, by place in a series */
    /* Of some names alone: their numbers, and what was at each place of the series before. */
    uint32_t names[LIST_NAMES], n_names;
    struct listed {
        uint32_t pair;      /* 0: none */
        struct label label; /* name.ptr NULL: it is left out */
    } at[LIST_PLACES];
};

static nx_status list_all(struct listing *x, const struct memseries *s,
                          const struct memseries *before, const struct series *prev,
                          struct series *out, struct nx_err *err)
{
    struct label *ls = arena_alloc(x->a, s->n_pairs * sizeof *ls);
    nx_status st = ls ? NX_OK : arena_failed(x->a, err);

    for (uint32_t j = 0; j < s->n_pairs && !st; j++) {
        if (before && j < before->n_pairs && before->pairs[j] == s->pairs[j])
            ls[j] = prev->labels.v[j];
        else
            st = label_of(&x->r, x->ix, s->pairs[j], x->a, &x->last[j % LIST_PLACES], &ls[j], err);
    }
    *out = (struct series){{ls, s->n_pairs}, s->id};
    return st;
}

static nx_status list_place(struct listing *x, uint32_t pair, uint32_t j, struct listed *out,
                            struct nx_err *err)
{
    const uint32_t name = x->ix->pairs[pair].name;

    *out = (struct listed){.pair = pair};
    for (uint32_t i = 0; i < x->n_names; i++)
        if (x->names[i] == name)
            return label_of(&x->r, x->ix, pair, x->a, &x->last[j % LIST_PLACES], &out->label, err);
    return NX_OK;
}

/* Neighbours that differ in what is left out have their labels in common. */
static nx_status list_some(struct listing *x, const struct memseries *s, const struct series *prev,
                           struct series *out, struct nx_err *err)
{
    struct label v[LIST_NAMES], *ls;
    bool same = prev != NULL;
    uint32_t n = 0;

    for (uint32_t j = 0; j < s->n_pairs; j++) {
        struct listed own = {0}, *at = j < LIST_PLACES ? &x->at[j] : &own;
        if (at->pair != s->pairs[j]) {
            const bool was = at->label.name.ptr;
            nx_status st = list_place(x, s->pairs[j], j, at, err);
            if (st)
                return st;
            same = same && !was && !at->label.name.ptr;
        }
        if (at->label.name.ptr)
            v[n++] = at->label;
    }
    if (same && n == prev->labels.n) {
        *out = (struct series){prev->labels, s->id};
        return NX_OK;
    }
    ls = arena_alloc(x->a, (n + 1) * sizeof *ls);
    if (!ls)
        return arena_failed(x->a, err);
    memcpy(ls, v, n * sizeof *ls);
    *out = (struct series){{ls, n}, s->id};
    return NX_OK;
}

static bool take_names(struct listing *x, const struct label_names *only)
{
    for (size_t i = 0; only && only->n <= LIST_NAMES && i < only->n; i++) {
        const uint32_t name = intern_find(x->ix->pool, only->v[i]);
        if (name)
            x->names[x->n_names++] = name;
    }
    return only && only->n <= LIST_NAMES;
}

nx_status index_labels_sorted(const struct index *ix, struct ids ids,
                              const struct label_names *only, struct arena *a,
                              struct series_list *out, struct nx_err *err)
{
    struct series *list = arena_array(a, ids.n, sizeof *list);
    struct listing x = {.ix = ix, .a = a};
    const bool some = take_names(&x, only);
    const struct memseries *before = NULL;
    nx_status st = list ? NX_OK : arena_failed(a, err);

    for (size_t i = 0; i < ids.n && !st; i++) {
        const struct memseries *s = index_series(ix, ids.v[i]);
        const struct series *prev = i ? &list[i - 1] : NULL;
        st = some ? list_some(&x, s, prev, &list[i], err)
                  : list_all(&x, s, before, prev, &list[i], err);
        before = s;
    }
    free(x.r.v);
    free(x.r.slot);
    if (!st)
        *out = (struct series_list){list, ids.n};
    return st;
}

nx_status index_sort(const struct index *ix, uint32_t *ids, size_t n, struct nx_err *err)
{
    struct ranks r = {0};
    struct sortable *v = NULL;
    uint32_t *all = NULL;
    nx_status st = sort_series(ix, ids, n, NULL, &r, &v, &all, err);

    for (size_t i = 0; i < n && !st; i++)
        ids[i] = v[i].id;
    free(r.v);
    free(r.slot);
    free(v);
    free(all);
    return st;
}

/* ---- names and values ------------------------------------------------------------------------ */

/* Interned numbers to sorted copies of their strings. */
static nx_status strings_of(const struct index *ix, const uint32_t *strs, size_t n, size_t limit,
                            struct arena *a, struct nx_slice **out, size_t *n_out,
                            struct nx_err *err)
{
    struct nx_slice *v = arena_array(a, n, sizeof *v);

    if (!v)
        return arena_failed(a, err);
    for (size_t i = 0; i < n; i++)
        v[i] = intern_str(ix->pool, strs[i]);
    nx_sort_slices(v, n);
    if (limit && n > limit)
        n = limit + 1;
    for (size_t i = 0; i < n; i++) {
        v[i] = arena_slice(a, v[i]);
        if (!v[i].ptr)
            return arena_failed(a, err);
    }
    *out = v;
    *n_out = n;
    return NX_OK;
}

/* Which pairs occur among some series is told by those series or by the lists of the pairs, whichever is
 * cheaper: a list is left at its first hit, so that a large selection costs little. Nanoseconds, roughly: */
enum { COST_SERIES = 80, COST_LIST = 20, COST_MEMBER = 2 };
#define FIRST_LOOK 256u /* series that are asked for their names before the lists are */

struct in_use {
    const struct index *ix;
    const struct index_pick *of;
    uint8_t *seen;  /* by pair */
    uint64_t *bits; /* of the selection, from `first` on; NULL: not made yet */
    uint32_t first, last;
};

static nx_status use_init(struct in_use *u, const struct index *ix, const struct index_pick *of,
                          struct nx_err *err)
{
    *u = (struct in_use){.ix = ix, .of = of, .seen = calloc((size_t)ix->n_pairs, 1)};
    return u->seen ? NX_OK : nx_fail(err, NX_NOMEM, "listing labels");
}

static void use_done(struct in_use *u)
{
    free(u->seen);
    free(u->bits);
}

static nx_status use_bits(struct in_use *u, struct nx_err *err)
{
    const struct ids ids = u->of->ids;

    if (u->bits || !ids.n)
        return NX_OK;
    u->first = ids.v[0];
    u->last = ids.v[ids.n - 1];
    u->bits = calloc((size_t)(u->last - u->first) / 64 + 1, sizeof *u->bits);
    if (!u->bits)
        return nx_fail(err, NX_NOMEM, "listing labels");
    for (size_t i = 0; i < ids.n; i++)
        u->bits[(ids.v[i] - u->first) / 64] |= UINT64_C(1) << (ids.v[i] - u->first) % 64;
    return NX_OK;
}

static bool is_wanted(const struct in_use *u, const struct memseries *s)
{
    return !u->of->want || u->of->want(u->of->ctx, s);
}

static bool list_hits(const struct in_use *u, const struct pair *p)
{
    const uint32_t *v = pair_list(p);

    for (uint32_t i = 0; u->bits && i < p->n && v[i] <= u->last; i++) {
        if (v[i] >= u->first && u->bits[(v[i] - u->first) / 64] >> (v[i] - u->first) % 64 & 1 &&
            is_wanted(u, index_series(u->ix, v[i])))
            return true;
    }
    return false;
}

static void see_series(struct in_use *u, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        const struct memseries *s = index_series(u->ix, u->of->ids.v[i]);
        uint32_t j = 0;
        while (j < s->n_pairs && u->seen[s->pairs[j]])
            j++;
        if (j == s->n_pairs || !is_wanted(u, s))
            continue;
        for (; j < s->n_pairs; j++)
            u->seen[s->pairs[j]] = 1;
    }
}

static uint64_t lists_cost(const struct name *n)
{
    return (uint64_t)n->n * COST_LIST + n->n_series * COST_MEMBER;
}

static bool name_seen(const struct in_use *u, const struct name *n)
{
    for (uint32_t i = 0; i < n->n; i++)
        if (u->seen[n->pairs[i]])
            return true;
    return false;
}

/* Sees a pair of each name that is in use. The first series have most of them: they are of one kind. */
static nx_status see_names(struct in_use *u, struct nx_err *err)
{
    const struct index *ix = u->ix;
    const size_t n = u->of->ids.n, first = n < FIRST_LOOK ? n : FIRST_LOOK;
    uint64_t cost = 0;
    nx_status st;

    see_series(u, 0, first);
    for (uint32_t k = 0; k < ix->n_names; k++)
        cost += name_seen(u, &ix->names[k]) ? 0 : lists_cost(&ix->names[k]);
    if ((n - first) * COST_SERIES <= cost) {
        see_series(u, first, n);
        return NX_OK;
    }
    st = use_bits(u, err);
    for (uint32_t k = 0; k < ix->n_names && !st; k++) {
        const struct name *nm = &ix->names[k];
        for (uint32_t j = 0; j < nm->n && !name_seen(u, nm); j++)
            u->seen[nm->pairs[j]] = list_hits(u, &ix->pairs[nm->pairs[j]]);
    }
    return st;
}

static nx_status see_values(struct in_use *u, const struct name *nm, struct nx_err *err)
{
    nx_status st;

    if (u->of->ids.n * COST_SERIES <= lists_cost(nm)) {
        see_series(u, 0, u->of->ids.n);
        return NX_OK;
    }
    st = use_bits(u, err);
    for (uint32_t j = 0; j < nm->n && !st; j++)
        u->seen[nm->pairs[j]] = list_hits(u, &u->ix->pairs[nm->pairs[j]]);
    return st;
}

nx_status index_label_names(const struct index *ix, const struct index_pick *of, size_t limit,
                            struct arena *a, struct nx_slice **out, size_t *n_out,
                            struct nx_err *err)
{
    struct in_use u = {0};
    uint32_t *strs = malloc((ix->n_names + 1) * sizeof *strs);
    size_t n = 0;
    nx_status st = strs ? NX_OK : nx_fail(err, NX_NOMEM, "listing labels");

    if (!st && of)
        st = use_init(&u, ix, of, err);
    if (!st && of)
        st = see_names(&u, err);
    for (uint32_t k = 0; k < ix->n_names && !st; k++) {
        if (!of || name_seen(&u, &ix->names[k]))
            strs[n++] = ix->names[k].str;
    }
    if (!st)
        st = strings_of(ix, strs, n, limit, a, out, n_out, err);
    use_done(&u);
    free(strs);
    return st;
}

nx_status index_label_values(const struct index *ix, struct nx_slice name,
                             const struct index_pick *of, size_t limit, struct arena *a,
                             struct nx_slice **out, size_t *n_out, struct nx_err *err)
{
    struct in_use u = {0};
    const struct name *nm = find_name_str(ix, name);
    uint32_t *strs;
    size_t n = 0;
    nx_status st;

    *out = NULL;
    *n_out = 0;
    if (!nm)
        return NX_OK;
    strs = malloc((nm->n + 1) * sizeof *strs);
    st = strs ? NX_OK : nx_fail(err, NX_NOMEM, "listing values");
    if (!st && of)
        st = use_init(&u, ix, of, err);
    if (!st && of)
        st = see_values(&u, nm, err);
    for (uint32_t j = 0; j < nm->n && !st; j++) {
        if (!of || u.seen[nm->pairs[j]])
            strs[n++] = ix->pairs[nm->pairs[j]].value;
    }
    if (!st)
        st = strings_of(ix, strs, n, limit, a, out, n_out, err);
    use_done(&u);
    free(strs);
    return st;
}

/* ---- counting -------------------------------------------------------------------------------- */

void index_get_stats(const struct index *ix, struct index_stats *out)
{
    *out = (struct index_stats){
        .series = index_count(ix),
        .pairs = ix->live_pairs,
        .names = ix->n_names,
        .symbols = intern_count(ix->pool),
        .symbol_bytes = intern_bytes(ix->pool),
    };
}

/* The `limit` largest so far, largest first; equal ones by name, so that the answer is stable. */
struct top {
    struct storage_count *v;
    size_t n, limit;
};

static bool counts_more(const struct storage_count *x, const struct storage_count *y)
{
    return x->value != y->value ? x->value > y->value : nx_slice_cmp(x->name, y->name) < 0;
}

static void top_add(struct top *t, struct nx_slice name, uint64_t value)
{
    struct storage_count c = {name, value};
    size_t i;

    if (t->n == t->limit) {
        if (!t->limit || !counts_more(&c, &t->v[t->n - 1]))
            return;
        t->n--;
    }
    for (i = t->n++; i > 0 && counts_more(&c, &t->v[i - 1]); i--)
        t->v[i] = t->v[i - 1];
    t->v[i] = c;
}

static nx_status top_copy(struct top *t, struct arena *a, struct nx_err *err)
{
    for (size_t i = 0; i < t->n; i++) {
        t->v[i].name = arena_slice(a, t->v[i].name);
        if (!t->v[i].name.ptr)
            return arena_failed(a, err);
    }
    return NX_OK;
}

/* Pairs are ranked by number first: their text "name=value" is made for the winners alone. */
static nx_status top_pairs(const struct index *ix, struct top *t, struct arena *a,
                           struct nx_err *err)
{
    uint32_t *best = arena_array(a, t->limit + 1, sizeof *best);
    size_t n = 0, i;

    if (!best)
        return arena_failed(a, err);
    for (uint32_t p = 1; p < ix->n_pairs; p++) {
        if (!ix->pairs[p].name || !t->limit)
            continue;
        if (n == t->limit) {
            if (ix->pairs[p].n <= ix->pairs[best[n - 1]].n)
                continue;
            n--;
        }
        for (i = n++; i > 0 && ix->pairs[p].n > ix->pairs[best[i - 1]].n; i--)
            best[i] = best[i - 1];
        best[i] = p;
    }
    for (i = 0; i < n; i++) {
        const struct pair *p = &ix->pairs[best[i]];
        struct nx_slice name = intern_str(ix->pool, p->name),
                        value = intern_str(ix->pool, p->value);
        char *text =
            arena_printf(a, "%.*s=%.*s", (int)name.len, name.ptr, (int)value.len, value.ptr);
        if (!text)
            return arena_failed(a, err);
        t->v[t->n++] = (struct storage_count){nx_slice_str(text), p->n};
    }
    return NX_OK;
}

nx_status index_cardinality(const struct index *ix, size_t limit, struct arena *a,
                            struct storage_cardinality *out, struct nx_err *err)
{
    nx_status st;
    struct top t[4];
    const struct name *metric = find_name_str(ix, nx_slice_str(LABEL_NAME));

    for (size_t i = 0; i < NX_COUNT(t); i++) {
        t[i] = (struct top){arena_array(a, limit + 1, sizeof *t[i].v), 0, limit};
        if (!t[i].v)
            return arena_failed(a, err);
    }
    for (uint32_t i = 0; metric && i < metric->n; i++) {
        const struct pair *p = &ix->pairs[metric->pairs[i]];
        top_add(&t[0], intern_str(ix->pool, p->value), p->n);
    }
    for (uint32_t i = 0; i < ix->n_names; i++) {
        const struct name *n = &ix->names[i];
        top_add(&t[1], intern_str(ix->pool, n->str), n->n);
        top_add(&t[2], intern_str(ix->pool, n->str), n->bytes);
    }
    st = top_pairs(ix, &t[3], a, err);
    for (size_t i = 0; i < 3 && !st; i++)
        st = top_copy(&t[i], a, err);
    if (st)
        return st;
    *out = (struct storage_cardinality){t[0].v, t[1].v, t[2].v, t[3].v,
                                        t[0].n, t[1].n, t[2].n, t[3].n};
    return NX_OK;
}
