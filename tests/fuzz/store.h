/* store.h - what fuzz targets of data folders share: bytes as one file of a folder, the store over it, and a
 * number for all that is in it. */
#pragma once

#include "src/base/hash.h"
#include "storage/storage.h"
#include "tests/support/simfs.h"

/* The header of version `version` of a file that begins with the bytes of `magic`. */
static inline void put_header(struct buf *b, const char magic[4], uint16_t version)
{
    size_t at = b->len;

    buf_append(b, magic, 4);
    buf_u16le(b, version);
    buf_u16le(b, 0);
    buf_u32le(b, 1);
    buf_u32le(b, crc32c(0, b->ptr + at, 12));
}

/* Makes `path` in `folder` of what is in b, which is then done. */
static inline void publish(struct simfs *sim, const char *folder, const char *path, struct buf *b)
{
    struct nx_err err;

    NX_ASSERT_ALWAYS(fs_mkdirs(simfs_fs(sim), folder, &err) == NX_OK);
    NX_ASSERT_ALWAYS(fs_publish(simfs_fs(sim), path, b->ptr, b->len, &err) == NX_OK);
    buf_done(b);
}

static inline struct storage *open_store(struct simfs *sim)
{
    struct storage_opts o = {.fs = simfs_fs(sim), .dir = "d", .no_worker = true};
    struct storage *s = NULL;
    struct nx_err err;

    NX_ASSERT_ALWAYS(storage_open(&s, &o, &err) == NX_OK);
    return s;
}

/* A number for all that is in the store; samples ascend. */
static inline uint64_t digest(struct storage *s)
{
    struct matcher m = {
        .type = MATCH_NEQ, .name = nx_slice_of("no such name", 12), .value = nx_slice_of("x", 1)};
    struct arena *a = arena_new(0);
    struct series_list list = {0};
    struct column c = {0};
    struct querier *q;
    struct nx_err err;
    uint64_t h = 1;

    NX_ASSERT_ALWAYS(storage_querier(s, INT64_MIN, INT64_MAX, &q, &err) == NX_OK);
    NX_ASSERT_ALWAYS(q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, &err) == NX_OK);
    for (size_t i = 0; i < list.n; i++) {
        NX_ASSERT_ALWAYS(q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &c, &err) == NX_OK);
        h = hash_mix(h, labels_hash(&list.v[i].labels));
        for (size_t j = 0; j < c.n; j++)
            NX_ASSERT_ALWAYS(j == 0 || c.t[j] > c.t[j - 1]);
        h = hash_mix(h, hash_bytes(c.t, c.n * sizeof *c.t));
        h = hash_mix(h, hash_bytes(c.v, c.n * sizeof *c.v));
    }
    column_done(&c);
    querier_close(q);
    arena_free(a);
    return h;
}

/* What must hold of any folder: it opens, and what it has is the same after what was torn has been cut. */
static inline void opens_twice_alike(struct simfs *sim)
{
    struct storage *s = open_store(sim);
    uint64_t first = digest(s);

    storage_close(s);
    s = open_store(sim);
    NX_ASSERT_ALWAYS(digest(s) == first);
    storage_close(s);
}
