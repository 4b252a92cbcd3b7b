/* load.c - one block from series that come in the order of their labels.
 *
 * WHY     Who reads another database's blocks has them sorted, and may have more than fits into memory.
 * SHAPE   A survey of all timestamps finds what series share (shared_times.h); then each series goes to the block's
 *         writer as it comes. Nothing is kept of it but its place in the index. */
#include "storage/storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/block_format.h"
#include "storage/shared_times.h"

struct storage_load {
    struct storage_load_opts o;
    char ulid[BLOCK_ULID_LEN + 1];
    int64_t min_ms, max_ms;      /* of the survey; both inclusive */
    struct block_writer *writer; /* NULL before the first series */
    struct shared_times times;
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

    if (!l)
        return nomem(err);
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
    shared_times_done(&l->times);
    free(l->clean);
    free(l);
}

nx_status storage_load_survey(struct storage_load *l, const struct labels *ls, const int64_t *t,
                              size_t n, struct nx_err *err)
{
    if (n == 0)
        return NX_OK;
    l->min_ms = t[0] < l->min_ms ? t[0] : l->min_ms;
    l->max_ms = t[n - 1] > l->max_ms ? t[n - 1] : l->max_ms;
    return shared_times_add(&l->times, ls, t, n, err);
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
    return shared_times_put(&l->times, l->writer, ls, t, v, n, err);
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
