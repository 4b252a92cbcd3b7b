/* load.c - one block from series that come in the order of their labels.
 *
 * WHY     Who reads another database's blocks has them sorted, and may have more than fits into memory.
 * RULES   T1  As in import.c, the timestamps of the series of one (instance, job) are united, and a series uses
 *             the union where that is not much longer than itself. Here the union is made from a survey of
 *             all samples, and its vectors are given to the writer once.
 *         T2  Nothing is kept of a series but its place in the index. */
#include "storage/storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "storage/block_format.h"

#define ROWS_AT_ONCE  4096u /* of a chunk */
#define WORTH_SHARING 4u    /* a union may be so many times longer than a series that uses it */
#define NONE          UINT32_MAX

struct union_of {
    uint64_t key;
    int64_t *t;
    size_t n, cap;
    size_t longest; /* of its series */
    bool apart;     /* the series have little in common */
    uint32_t
        *vectors; /* numbers of its slices of ROWS_AT_ONCE; NULL: not given to the writer yet */
};

struct storage_load {
    struct storage_load_opts o;
    char ulid[BLOCK_ULID_LEN + 1];
    int64_t min_ms, max_ms;      /* of the survey; both inclusive */
    struct block_writer *writer; /* NULL before the first series */
    struct union_of *v;
    uint32_t n, cap;
    uint32_t *slots;
    size_t n_slots;
    int64_t *merged;
    size_t cap_merged;
    double *rows; /* ROWS_AT_ONCE of them */
    double *clean;
    size_t cap_clean;
};

static nx_status nomem(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for loading a block");
}

nx_status storage_load_open(struct storage_load **out, const struct storage_load_opts *opts,
                            struct nx_err *err)
{
    struct storage_load *l = calloc(1, sizeof *l);

    if (l)
        l->rows = malloc(ROWS_AT_ONCE * sizeof *l->rows);
    if (!l || !l->rows) {
        storage_load_close(l);
        return nomem(err);
    }
    l->o = *opts;
    snprintf(l->ulid, sizeof l->ulid, "%s", opts->ulid);
    l->o.ulid = l->ulid;
    l->min_ms = INT64_MAX;
    l->max_ms = INT64_MIN;
    *out = l;
    return NX_OK;
}

static nx_status open_writer(struct storage_load *l, struct nx_err *err)
{
    const struct block_writer_opts o = {.fs = l->o.fs,
                                        .dir = l->o.dir,
                                        .ulid = l->ulid,
                                        .min_ms = l->min_ms,
                                        .max_ms = l->max_ms + 1};

    if (l->min_ms > l->max_ms || l->max_ms == INT64_MAX)
        return nx_fail(err, NX_BADINPUT, "samples that were not surveyed");
    return block_writer_open(&l->writer, &o, err);
}

void storage_load_close(struct storage_load *l)
{
    if (!l)
        return;
    block_writer_close(l->writer);
    for (uint32_t i = 0; i < l->n; i++) {
        free(l->v[i].t);
        free(l->v[i].vectors);
    }
    free(l->v);
    free(l->slots);
    free(l->merged);
    free(l->rows);
    free(l->clean);
    free(l);
}

/* ---- unions ---------------------------------------------------------------------------------- */

static uint64_t key_of(const struct labels *ls)
{
    const struct nx_slice job = labels_get_str(ls, "job"),
                          instance = labels_get_str(ls, "instance");

    return hash_mix(hash_bytes(job.ptr, job.len), hash_bytes(instance.ptr, instance.len));
}

static bool fit(struct storage_load *l)
{
    if (l->n == l->cap) {
        const uint32_t cap = l->cap ? l->cap * 2 : 32;
        struct union_of *v = cap < NONE / 2 ? realloc(l->v, cap * sizeof *v) : NULL;
        if (!v)
            return false;
        l->v = v;
        l->cap = cap;
    }
    if ((size_t)l->n * 2 >= l->n_slots) {
        const size_t n = l->n_slots ? l->n_slots * 2 : 64;
        uint32_t *slots = malloc(n * sizeof *slots);
        if (!slots)
            return false;
        memset(slots, 0xff, n * sizeof *slots);
        for (uint32_t i = 0; i < l->n; i++) {
            size_t at = l->v[i].key & (n - 1);
            while (slots[at] != NONE)
                at = (at + 1) & (n - 1);
            slots[at] = i;
        }
        free(l->slots);
        l->slots = slots;
        l->n_slots = n;
    }
    return true;
}

/* NULL: it is not there and could not be added, or was not to be. */
static struct union_of *find(struct storage_load *l, uint64_t key, bool add)
{
    size_t at;

    if (!l->n_slots || (add && (size_t)l->n * 2 >= l->n_slots) || (add && l->n == l->cap)) {
        if (!add || !fit(l))
            return NULL;
    }
    for (at = key & (l->n_slots - 1); l->slots[at] != NONE; at = (at + 1) & (l->n_slots - 1))
        if (l->v[l->slots[at]].key == key)
            return &l->v[l->slots[at]];
    if (!add)
        return NULL;
    l->slots[at] = l->n;
    l->v[l->n] = (struct union_of){.key = key};
    return &l->v[l->n++];
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

nx_status storage_load_survey(struct storage_load *l, const struct labels *ls, const int64_t *t,
                              size_t n, struct nx_err *err)
{
    struct union_of *u;
    int64_t *swap;
    size_t both, cap;

    if (n == 0)
        return NX_OK;
    u = find(l, key_of(ls), true);
    if (!u)
        return nomem(err);
    l->min_ms = t[0] < l->min_ms ? t[0] : l->min_ms;
    l->max_ms = t[n - 1] > l->max_ms ? t[n - 1] : l->max_ms;
    u->longest = n > u->longest ? n : u->longest;
    if (u->apart || (u->n == n && memcmp(u->t, t, n * sizeof *t) == 0))
        return NX_OK;
    if (l->cap_merged < u->n + n) {
        int64_t *p = realloc(l->merged, (u->n + n) * sizeof *p);
        if (!p)
            return nomem(err);
        l->merged = p;
        l->cap_merged = u->n + n;
    }
    both = unite(u->t, u->n, t, n, l->merged);
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
    u->t = l->merged;
    l->merged = swap;
    cap = u->cap;
    u->cap = l->cap_merged;
    l->cap_merged = cap;
    return NX_OK;
}

/* ---- series ---------------------------------------------------------------------------------- */

static nx_status give_vectors(struct storage_load *l, struct union_of *u, struct nx_err *err)
{
    nx_status st = NX_OK;

    u->vectors = calloc(u->n / ROWS_AT_ONCE + 1, sizeof *u->vectors);
    if (!u->vectors)
        return nomem(err);
    for (size_t at = 0, i = 0; at < u->n && !st; at += ROWS_AT_ONCE, i++) {
        const size_t rows = u->n - at < ROWS_AT_ONCE ? u->n - at : ROWS_AT_ONCE;
        st = block_writer_times(l->writer, u->t + at, rows, &u->vectors[i], err);
    }
    return st;
}

/* T1: the samples over the rows of the union, of which they are a part. */
static nx_status put_shared(struct storage_load *l, struct union_of *u, const int64_t *t,
                            const double *v, size_t n, struct nx_err *err)
{
    size_t k = 0;
    nx_status st = u->vectors ? NX_OK : give_vectors(l, u, err);

    for (size_t at = 0; at < u->n && k < n && !st; at += ROWS_AT_ONCE) {
        const size_t rows = u->n - at < ROWS_AT_ONCE ? u->n - at : ROWS_AT_ONCE;
        const size_t before = k;
        for (size_t i = 0; i < rows; i++) {
            const bool has = k < n && t[k] == u->t[at + i];
            l->rows[i] = has ? v[k] : chunk_absent();
            k += has;
        }
        if (k > before)
            st = block_writer_chunk(l->writer, u->vectors[at / ROWS_AT_ONCE], l->rows, rows, err);
    }
    return !st && k < n ? nx_fail(err, NX_BADINPUT, "samples that were not surveyed") : st;
}

static nx_status put_alone(struct storage_load *l, const int64_t *t, const double *v, size_t n,
                           struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t at = 0; at < n && !st; at += ROWS_AT_ONCE) {
        const size_t rows = n - at < ROWS_AT_ONCE ? n - at : ROWS_AT_ONCE;
        uint32_t vector = 0;
        st = block_writer_times(l->writer, t + at, rows, &vector, err);
        if (!st)
            st = block_writer_chunk(l->writer, vector, v + at, rows, err);
    }
    return st;
}

/* A NaN from outside may have the bits that stand for "no sample": then it becomes the plain NaN. */
static nx_status clean(struct storage_load *l, const double **v, size_t n, struct nx_err *err)
{
    size_t i = 0;

    while (i < n && !chunk_is_absent((*v)[i]))
        i++;
    if (i == n)
        return NX_OK;
    if (l->cap_clean < n) {
        double *p = realloc(l->clean, n * sizeof *p);
        if (!p)
            return nomem(err);
        l->clean = p;
        l->cap_clean = n;
    }
    for (i = 0; i < n; i++)
        l->clean[i] = chunk_is_absent((*v)[i]) ? num_from_bits(NUM_NAN_BITS) : (*v)[i];
    *v = l->clean;
    return NX_OK;
}

nx_status storage_load_series(struct storage_load *l, const struct labels *ls, const int64_t *t,
                              const double *v, size_t n, struct nx_err *err)
{
    struct union_of *u;
    nx_status st;

    if (n == 0)
        return NX_OK;
    st = clean(l, &v, n, err);
    if (!st && !l->writer)
        st = open_writer(l, err);
    if (!st)
        st = block_writer_series(l->writer, ls, err);
    if (st)
        return st;
    u = find(l, key_of(ls), false);
    if (!u || u->apart || n * WORTH_SHARING < u->n)
        return put_alone(l, t, v, n, err);
    return put_shared(l, u, t, v, n, err);
}

nx_status storage_load_finish(struct storage_load *l, struct storage_import_block *b,
                              struct nx_err *err)
{
    struct block_meta meta = {0};
    nx_status st = l->writer ? block_writer_commit(l->writer, &meta, err)
                             : nx_fail(err, NX_NOTFOUND, "block %s has no samples", l->ulid);

    if (st)
        return st;
    *b = (struct storage_import_block){.min_ms = meta.min_ms,
                                       .max_ms = meta.max_ms,
                                       .samples = meta.n_samples,
                                       .chunks = meta.n_chunks,
                                       .series = meta.n_series,
                                       .bytes = meta.bytes};
    memcpy(b->ulid, meta.ulid, sizeof b->ulid);
    block_meta_done(&meta);
    return NX_OK;
}

/* ---- what is there --------------------------------------------------------------------------- */

static nx_status visit_block(struct fs *fs, const char *dir, const char *name,
                             nx_status (*visit)(void *ctx, const char *ulid, struct nx_err *err),
                             void *ctx, struct nx_err *err)
{
    struct block_meta m = {0};
    struct buf text;
    char *path;
    nx_status st;

    if (asprintf(&path, "%s/%s/" BLOCK_META_FILE, dir, name) < 0)
        return nomem(err);
    buf_init(&text, 64u << 20);
    st = fs_read_file(fs, path, &text, NULL);
    if (!st)
        st = block_meta_parse(buf_view(&text), &m, NULL);
    if (!st)
        st = visit(ctx, m.ulid, err);
    else
        st = st == NX_NOMEM ? nomem(err) : NX_OK;
    for (size_t i = 0; i < m.n_sources && !st; i++)
        st = visit(ctx, m.sources[i], err);
    block_meta_done(&m);
    buf_done(&text);
    free(path);
    return st;
}

nx_status storage_origins(struct fs *fs, const char *dir,
                          nx_status (*visit)(void *ctx, const char *ulid, struct nx_err *err),
                          void *ctx, struct nx_err *err)
{
    struct fs_names names = {0};
    struct fs_stat stat;
    nx_status st = fs->stat(fs, dir, &stat, err);

    if (st)
        return st == NX_NOTFOUND ? NX_OK : st;
    st = fs->list(fs, dir, &names, err);
    for (size_t i = 0; i < names.n && !st; i++)
        if (block_ulid_valid(names.v[i]))
            st = visit_block(fs, dir, names.v[i], visit, ctx, err);
    fs_names_done(&names);
    return st;
}
