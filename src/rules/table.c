#include "src/rules/table.h"

/* table.c - open addressing over the items' hashes, at most half full. Taking items out builds it anew: that is
 * rare beside looking them up. */

#include <stdlib.h>
#include <string.h>

struct keyed *table_find(const struct table *t, const struct labels *ls, uint64_t hash)
{
    if (!t->n_slots)
        return NULL;
    for (uint32_t i = (uint32_t)hash & (t->n_slots - 1); t->slots[i];
         i = (i + 1) & (t->n_slots - 1)) {
        struct keyed *k = t->v[t->slots[i] - 1];
        if (k->hash == hash && labels_eq(&k->labels, ls))
            return k;
    }
    return NULL;
}

static void put_slot(struct table *t, uint32_t index)
{
    uint32_t i = (uint32_t)t->v[index]->hash & (t->n_slots - 1);

    while (t->slots[i])
        i = (i + 1) & (t->n_slots - 1);
    t->slots[i] = index + 1;
}

static void build(struct table *t)
{
    memset(t->slots, 0, t->n_slots * sizeof *t->slots);
    for (uint32_t i = 0; i < t->n; i++)
        put_slot(t, i);
}

static nx_status grow(struct table *t, struct nx_err *err)
{
    uint32_t cap = t->cap ? t->cap * 2 : 8;
    struct keyed **v = realloc(t->v, cap * sizeof(struct keyed *));
    uint32_t *slots;

    if (v)
        t->v = v;
    slots = v ? calloc(cap * 2u, sizeof *slots) : NULL;
    if (!slots)
        return nx_fail(err, NX_NOMEM, "out of memory");
    free(t->slots);
    t->slots = slots;
    t->n_slots = cap * 2;
    t->cap = cap;
    build(t);
    return NX_OK;
}

nx_status table_add(struct table *t, struct keyed *item, struct nx_err *err)
{
    nx_status st = t->n == t->cap ? grow(t, err) : NX_OK;

    if (st)
        return st;
    t->v[t->n++] = item;
    put_slot(t, t->n - 1);
    return NX_OK;
}

void table_sweep(struct table *t, bool (*gone)(void *ctx, struct keyed *item), void *ctx)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < t->n; i++) {
        struct keyed *k = t->v[i];
        if (!gone(ctx, k))
            t->v[kept++] = k;
    }
    if (kept == t->n)
        return;
    t->n = kept;
    build(t);
}

void table_done(struct table *t)
{
    free(t->v);
    free(t->slots);
    *t = (struct table){0};
}

static size_t bytes_of(const struct labels *ls)
{
    size_t bytes = ls->n * sizeof(struct label);

    for (uint32_t i = 0; i < ls->n; i++)
        bytes += ls->v[i].name.len + ls->v[i].value.len + 2;
    return bytes;
}

static struct nx_slice copy_text(struct nx_slice s, char **at)
{
    struct nx_slice to = {*at, s.len};

    memcpy(*at, s.ptr ? s.ptr : "", s.len);
    (*at)[s.len] = 0;
    *at += s.len + 1;
    return to;
}

static void copy_labels(const struct labels *from, struct labels *to, struct label *v, char **text)
{
    for (uint32_t i = 0; i < from->n; i++) {
        v[i].name = copy_text(from->v[i].name, text);
        v[i].value = copy_text(from->v[i].value, text);
    }
    *to = (struct labels){v, from->n};
}

void *labels_own(const struct labels *a, struct labels *to_a, const struct labels *b,
                 struct labels *to_b)
{
    size_t bytes = bytes_of(a) + (b ? bytes_of(b) : 0) + 1;
    struct label *v = malloc(bytes);
    char *text;

    if (!v)
        return NULL;
    text = (char *)(v + a->n + (b ? b->n : 0));
    copy_labels(a, to_a, v, &text);
    if (b)
        copy_labels(b, to_b, v + a->n, &text);
    return v;
}
