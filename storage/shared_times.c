/* shared_times.c - see shared_times.h. */
#include "storage/shared_times.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"

#define ROWS_AT_ONCE  4096u /* of a chunk */
#define WORTH_SHARING 4u    /* a union may be so many times longer than a series that uses it */
#define NONE          UINT32_MAX

struct shared_group {
    uint64_t key;
    int64_t *t;
    size_t n, cap;
    size_t longest; /* of its series */
    bool apart;     /* the series have little in common */
    uint32_t
        *vectors; /* numbers of its slices of ROWS_AT_ONCE; NULL: not given to the writer yet */
};

static nx_status nomem(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for timestamps");
}

void shared_times_clear(struct shared_times *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        free(s->v[i].t);
        free(s->v[i].vectors);
    }
    s->n = 0;
    if (s->n_slots)
        memset(s->slots, 0xff, s->n_slots * sizeof *s->slots);
}

void shared_times_done(struct shared_times *s)
{
    shared_times_clear(s);
    free(s->v);
    free(s->slots);
    free(s->merged);
    free(s->rows);
    *s = (struct shared_times){0};
}

static uint64_t key_of(const struct labels *ls)
{
    const struct nx_slice job = labels_get_str(ls, "job"),
                          instance = labels_get_str(ls, "instance");

    return hash_mix(hash_bytes(job.ptr, job.len), hash_bytes(instance.ptr, instance.len));
}

static bool fit(struct shared_times *s)
{
    if (s->n == s->cap) {
        const uint32_t cap = s->cap ? s->cap * 2 : 32;
        struct shared_group *v = cap < NONE / 2 ? realloc(s->v, cap * sizeof *v) : NULL;
        if (!v)
            return false;
        s->v = v;
        s->cap = cap;
    }
    if ((size_t)s->n * 2 >= s->n_slots) {
        const size_t n = s->n_slots ? s->n_slots * 2 : 64;
        uint32_t *slots = malloc(n * sizeof *slots);
        if (!slots)
            return false;
        memset(slots, 0xff, n * sizeof *slots);
        for (uint32_t i = 0; i < s->n; i++) {
            size_t at = s->v[i].key & (n - 1);
            while (slots[at] != NONE)
                at = (at + 1) & (n - 1);
            slots[at] = i;
        }
        free(s->slots);
        s->slots = slots;
        s->n_slots = n;
    }
    return true;
}

/* NULL: it is not there and could not be added, or was not to be. */
static struct shared_group *find(struct shared_times *s, uint64_t key, bool add)
{
    size_t at;

    if (!s->n_slots || (add && (size_t)s->n * 2 >= s->n_slots) || (add && s->n == s->cap)) {
        if (!add || !fit(s))
            return NULL;
    }
    for (at = key & (s->n_slots - 1); s->slots[at] != NONE; at = (at + 1) & (s->n_slots - 1))
        if (s->v[s->slots[at]].key == key)
            return &s->v[s->slots[at]];
    if (!add)
        return NULL;
    s->slots[at] = s->n;
    s->v[s->n] = (struct shared_group){.key = key};
    return &s->v[s->n++];
}

static size_t unite(const int64_t *x, size_t n, const int64_t *y, size_t m, int64_t *to)
{
    size_t i = 0, k = 0, got = 0;

    while (i < n && k < m) {
        const int64_t p = x[i], q = y[k];
        to[got++] = p < q ? p : q;
        i += p <= q;
        k += q <= p;
    }
    while (i < n)
        to[got++] = x[i++];
    while (k < m)
        to[got++] = y[k++];
    return got;
}

nx_status shared_times_add(struct shared_times *s, const struct labels *ls, const int64_t *t,
                           size_t n, struct nx_err *err)
{
    struct shared_group *u;
    int64_t *swap;
    size_t both, cap;

    if (n == 0)
        return NX_OK;
    u = find(s, key_of(ls), true);
    if (!u)
        return nomem(err);
    u->longest = n > u->longest ? n : u->longest;
    if (u->apart || (u->n == n && memcmp(u->t, t, n * sizeof *t) == 0))
        return NX_OK;
    if (s->cap_merged < u->n + n) {
        int64_t *p = realloc(s->merged, (u->n + n) * sizeof *p);
        if (!p)
            return nomem(err);
        s->merged = p;
        s->cap_merged = u->n + n;
    }
    both = unite(u->t, u->n, t, n, s->merged);
    if (both > WORTH_SHARING * u->longest) {
        u->apart = true;
        free(u->t);
        u->t = NULL;
        u->n = u->cap = 0;
        return NX_OK;
    }
    if (both == u->n)
        return NX_OK;
    u->n = both;
    swap = u->t;
    u->t = s->merged;
    s->merged = swap;
    cap = u->cap;
    u->cap = s->cap_merged;
    s->cap_merged = cap;
    return NX_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

static nx_status give_vectors(struct shared_group *u, struct block_writer *w, struct nx_err *err)
{
    nx_status st = NX_OK;

    u->vectors = calloc(u->n / ROWS_AT_ONCE + 1, sizeof *u->vectors);
    if (!u->vectors)
        return nomem(err);
    for (size_t at = 0, i = 0; at < u->n && !st; at += ROWS_AT_ONCE, i++) {
        const size_t rows = u->n - at < ROWS_AT_ONCE ? u->n - at : ROWS_AT_ONCE;
        st = block_writer_times(w, u->t + at, rows, &u->vectors[i], err);
    }
    return st;
}

/* The samples over the rows of the union, of which they are a part. */
static nx_status put_shared(struct shared_times *s, struct shared_group *u, struct block_writer *w,
                            const int64_t *t, const double *v, size_t n, struct nx_err *err)
{
    size_t k = 0;
    nx_status st = u->vectors ? NX_OK : give_vectors(u, w, err);

    for (size_t at = 0; at < u->n && k < n && !st; at += ROWS_AT_ONCE) {
        const size_t rows = u->n - at < ROWS_AT_ONCE ? u->n - at : ROWS_AT_ONCE;
        const size_t before = k;
        for (size_t i = 0; i < rows; i++) {
            const bool has = k < n && t[k] == u->t[at + i];
            s->rows[i] = has ? v[k] : chunk_absent();
            k += has;
        }
        if (k > before)
            st = block_writer_chunk(w, u->vectors[at / ROWS_AT_ONCE], s->rows, rows, err);
    }
    return !st && k < n ? nx_fail(err, NX_BADINPUT, "samples that were not surveyed") : st;
}

static nx_status put_alone(struct block_writer *w, const int64_t *t, const double *v, size_t n,
                           struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t at = 0; at < n && !st; at += ROWS_AT_ONCE) {
        const size_t rows = n - at < ROWS_AT_ONCE ? n - at : ROWS_AT_ONCE;
        uint32_t vector = 0;
        st = block_writer_times(w, t + at, rows, &vector, err);
        if (!st)
            st = block_writer_chunk(w, vector, v + at, rows, err);
    }
    return st;
}

nx_status shared_times_put(struct shared_times *s, struct block_writer *w, const struct labels *ls,
                           const int64_t *t, const double *v, size_t n, struct nx_err *err)
{
    struct shared_group *u = find(s, key_of(ls), false);

    if (!s->rows)
        s->rows = malloc(ROWS_AT_ONCE * sizeof *s->rows);
    if (!s->rows)
        return nomem(err);
    if (!u || u->apart || n * WORTH_SHARING < u->n)
        return put_alone(w, t, v, n, err);
    return put_shared(s, u, w, t, v, n, err);
}
