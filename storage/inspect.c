/* inspect.c - blocks as tools look at them: listed, and one of them series by series.
 *
 * Nothing here opens a store: a block never changes, so it can be read beside whoever owns the folder.
 * A block that is deleted between the listing and its opening was not there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/block.h"

#define CACHE_BYTES (8u << 20)
#define RUN         512u /* series whose labels are in memory at a time */

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "looking at blocks: out of memory");
}

static void info_of(struct block *b, struct storage_block_info *out)
{
    const struct block_meta *m = block_meta(b);

    *out = (struct storage_block_info){.min_ms = m->min_ms,
                                       .resolution_ms = m->resolution_ms,
                                       .max_ms = m->max_ms,
                                       .samples = m->n_samples,
                                       .chunks = m->n_chunks,
                                       .series = m->n_series,
                                       .bytes = block_bytes(b),
                                       .level = m->level};
    memcpy(out->ulid, m->ulid, sizeof out->ulid);
}

static nx_status open_in(struct block **out, struct fs *fs, struct cache *cache, const char *dir,
                         const char *ulid, struct nx_err *err)
{
    char *path = NULL;
    nx_status st;

    if (asprintf(&path, "%s/%s", dir, ulid) < 0)
        return no_memory(err);
    st = block_open(out, fs, cache, path, err);
    free(path);
    return st;
}

/* ---- the list -------------------------------------------------------------------------------- */

struct infos {
    struct storage_block_info *v;
    size_t n;
};

static nx_status add_info(struct infos *to, struct fs *fs, struct cache *cache, const char *dir,
                          const char *ulid, struct nx_err *err)
{
    struct block *b = NULL;
    nx_status st = open_in(&b, fs, cache, dir, ulid, err);

    if (st)
        return st == NX_NOTFOUND ? NX_OK : st;
    struct storage_block_info *v = reallocarray(to->v, to->n + 1, sizeof *v);
    if (v) {
        to->v = v;
        info_of(b, &v[to->n++]);
    }
    block_unref(b);
    return v ? NX_OK : no_memory(err);
}

static int by_time(const void *x, const void *y)
{
    const struct storage_block_info *a = x, *b = y;

    if (a->min_ms != b->min_ms)
        return a->min_ms < b->min_ms ? -1 : 1;
    return strcmp(a->ulid, b->ulid);
}

nx_status storage_list_blocks(struct fs *fs, const char *dir,
                              void (*seen)(void *ctx, const struct storage_block_info *b),
                              void *ctx, struct nx_err *err)
{
    struct fs_names names = {0};
    struct infos list = {0};
    struct cache *cache = cache_new(CACHE_BYTES);
    nx_status st = cache ? fs->list(fs, dir, &names, err) : no_memory(err);

    for (size_t i = 0; i < names.n && !st; i++) {
        if (block_ulid_valid(names.v[i]))
            st = add_info(&list, fs, cache, dir, names.v[i], err);
    }
    if (!st && list.n)
        qsort(list.v, list.n, sizeof *list.v, by_time);
    for (size_t i = 0; i < list.n && !st; i++)
        seen(ctx, &list.v[i]);
    free(list.v);
    fs_names_done(&names);
    cache_free(cache);
    return st;
}

/* ---- one block ------------------------------------------------------------------------------- */

struct storage_block {
    struct cache *cache;
    struct block *block;
    struct chunk_scratch *scratch;
};

static nx_status newest(struct fs *fs, const char *dir, char ulid[BLOCK_ULID_LEN + 1],
                        struct nx_err *err)
{
    struct fs_names names = {0};
    nx_status st = fs->list(fs, dir, &names, err);

    ulid[0] = 0;
    for (size_t i = 0; i < names.n && !st; i++) { /* sorted */
        if (block_ulid_valid(names.v[i]))
            memcpy(ulid, names.v[i], BLOCK_ULID_LEN + 1);
    }
    fs_names_done(&names);
    if (!st && !ulid[0])
        st = nx_fail(err, NX_NOTFOUND, "no blocks found");
    return st;
}

nx_status storage_block_open(struct storage_block **out, struct fs *fs, const char *dir,
                             const char *ulid, struct nx_err *err)
{
    char name[BLOCK_ULID_LEN + 1];
    struct storage_block *b = calloc(1, sizeof *b);
    nx_status st = NX_OK;

    if (!b)
        return no_memory(err);
    if (!ulid)
        st = newest(fs, dir, name, err);
    else if (!block_ulid_valid(ulid))
        st = nx_fail(err, NX_NOTFOUND, "invalid block ID %s", ulid);
    else
        memcpy(name, ulid, sizeof name);
    if (st)
        goto done;
    b->cache = cache_new(CACHE_BYTES);
    b->scratch = chunk_scratch_new();
    st = b->cache && b->scratch ? open_in(&b->block, fs, b->cache, dir, name, err) : no_memory(err);
    if (st == NX_NOTFOUND)
        st = nx_fail(err, st, "invalid block ID %s", name);
    if (st)
        goto done;
    *out = b;
    b = NULL;

done:
    storage_block_close(b);
    return st;
}

void storage_block_close(struct storage_block *b)
{
    if (!b)
        return;
    block_unref(b->block);
    chunk_scratch_free(b->scratch);
    cache_free(b->cache);
    free(b);
}

void storage_block_get_info(const struct storage_block *b, struct storage_block_info *out)
{
    info_of(b->block, out);
}

static nx_status show_list(struct storage_block *b, const struct series_list *list, bool numbered,
                           uint64_t first, storage_block_series_fn *each, void *ctx,
                           struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < list->n && !st; i++) {
        uint64_t number = numbered ? list->v[i].ref : first + i;
        struct storage_block_series s = {.labels = list->v[i].labels};
        st = block_series_span(b->block, number, &s.min_ms, &s.max_ms, err);
        if (!st)
            st = each(ctx, number, &s, err);
    }
    return st;
}

nx_status storage_block_each_series(struct storage_block *b, const struct matcher *m, size_t n,
                                    storage_block_series_fn *each, void *ctx, struct nx_err *err)
{
    const uint64_t total = block_meta(b->block)->n_series;
    struct arena *a = arena_new(0);
    struct series_list list = {0};
    nx_status st = a ? NX_OK : no_memory(err);

    if (!st && n) {
        st = block_select(b->block, m, n, INT64_MIN, INT64_MAX, a, &list, err);
        if (!st)
            st = show_list(b, &list, true, 0, each, ctx, err);
    }
    for (uint64_t at = 0; at < total && !n && !st; at += RUN) {
        size_t run = total - at < RUN ? (size_t)(total - at) : RUN;
        arena_reset(a);
        st = block_series_run(b->block, at, run, a, &list, err);
        if (!st)
            st = show_list(b, &list, false, at, each, ctx, err);
    }
    arena_free(a);
    return st;
}

struct chunk_visit {
    void (*each)(void *ctx, const struct storage_block_chunk *c);
    void *ctx;
};

static nx_status visit_chunk(void *ctx, const struct block_chunk *c, struct nx_err *err)
{
    const struct chunk_visit *v = ctx;
    struct storage_block_chunk shown = {.bytes = c->bytes};

    (void)err;
    for (size_t i = 0; i < c->n; i++)
        shown.samples += !chunk_is_absent(c->v[i]);
    v->each(v->ctx, &shown);
    return NX_OK;
}

nx_status storage_block_each_chunk(struct storage_block *b, uint64_t number,
                                   void (*each)(void *ctx, const struct storage_block_chunk *c),
                                   void *ctx, struct nx_err *err)
{
    struct chunk_visit v = {each, ctx};

    return block_chunks(b->block, number, visit_chunk, &v, b->scratch, err);
}
