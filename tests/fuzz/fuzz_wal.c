/* Any bytes as a log: replay must take or refuse them, the store must open, and all that it then has must
 * come out the same after it was written and replayed again.
 *
 * The first byte chooses: even, the rest are frames' payloads, each with a type and two bytes of length,
 * to which right checksums are made, so that what lies behind them is reached; odd, the rest is a segment
 * as it is, after a right header. */
#include "src/base/hash.h"
#include "src/base/log.h"
#include "storage/storage.h"
#include "storage/wal.h"
#include "storage/wal_pack.h"
#include "storage/wal_row.h"
#include "tests/support/simfs.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void no_log(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    (void)line;
    (void)len;
}

static void put_frames(struct buf *b, const uint8_t *p, size_t n)
{
    while (n >= 3) {
        size_t len = p[1] | (size_t)(p[2] & 3) << 8;
        if (len > n - 3)
            len = n - 3;
        wal_frame(b, (uint8_t)(p[0] % 10 ? p[0] % 10 : 127), nx_slice_of((const char *)p + 3, len));
        p += 3 + len;
        n -= 3 + len;
    }
}

static void segment_of(struct buf *b, const uint8_t *data, size_t size)
{
    uint8_t h[16] = {0};

    put_u32le(h, 0x4c57584eu);
    put_u16le(h + 4, 1);
    put_u32le(h + 8, 1);
    put_u32le(h + 12, crc32c(0, h, 12));
    buf_append(b, h, sizeof h);
    if (data[0] & 1)
        buf_append(b, data + 1, size - 1);
    else
        put_frames(b, data + 1, size - 1);
}

static struct storage *open_store(struct simfs *sim)
{
    struct storage_opts o = {.fs = simfs_fs(sim), .dir = "d", .no_worker = true};
    struct storage *s = NULL;
    struct nx_err err;
    nx_status st = storage_open(&s, &o, &err);

    NX_ASSERT_ALWAYS(st == NX_OK);
    return s;
}

/* A number for all that is in the store; samples ascend. */
static uint64_t digest(struct storage *s)
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

/* The codings of rows and columns alone, over any bytes. */
static void decode(const uint8_t *data, size_t size)
{
    wal_pack_state states[64];
    double v[64];
    struct reader r = reader_of(data, size);

    for (int i = 0; i < 64; i++)
        v[i] = i * 0.5;
    (void)wal_row_decode(&r, v, data[0] % 64, v, data[0] % 50);
    for (int i = 0; i < 64; i++)
        states[i] = (wal_pack_state)((const unsigned[]){0, 1, 8, 15}[i % 4] |
                                     (unsigned)i << 4); /* all histories */
    r = reader_of(data, size);
    (void)wal_pack_decode(&r, v, data[0] % 64, v, data[0] % 50, states);
    (void)wal_row_decode_column(nx_slice_of((const char *)data, size), v, 1 + data[0] % 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct simfs *sim;
    struct storage *s;
    struct nx_err err;
    struct buf b;
    uint64_t first;

    if (size < 1)
        return 0;
    log_capture(no_log, NULL);
    decode(data, size);
    sim = simfs_new(1);
    buf_init(&b, 0);
    segment_of(&b, data, size);
    NX_ASSERT_ALWAYS(fs_mkdirs(simfs_fs(sim), "d/wal", &err) == NX_OK);
    NX_ASSERT_ALWAYS(fs_publish(simfs_fs(sim), "d/wal/00000001", b.ptr, b.len, &err) == NX_OK);
    buf_done(&b);
    s = open_store(sim);
    first = digest(s);
    storage_close(s);
    s = open_store(sim); /* what was bad has been cut: the same is there again */
    NX_ASSERT_ALWAYS(digest(s) == first);
    storage_close(s);
    simfs_free(sim);
    return 0;
}
