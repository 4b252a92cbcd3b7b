/* Any bytes as a chunk file: a start must take or refuse them, the store must open, samples must ascend,
 * and what it has must come out the same after it was opened again and when its chunks are stored anew.
 *
 * The first byte chooses: even, the rest are records, each with a type, two bytes for the length of its head
 * and one for that of its body, to which right checksums are made; odd, the rest is a file as it is, after
 * a right header. */
#include "src/base/hash.h"
#include "src/base/log.h"
#include "storage/storage.h"
#include "tests/support/simfs.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES 20

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void no_log(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    (void)line;
    (void)len;
}

static void put_record(struct buf *b, uint8_t type, const uint8_t *head, size_t n_head,
                       const uint8_t *body, size_t n_body)
{
    uint8_t r[RECORD_BYTES] = {0}, at[8];

    put_u32le(r, 0x5248584eu);
    r[4] = type;
    put_u32le(r + 8, (uint32_t)n_head);
    put_u32le(r + 12, (uint32_t)n_body);
    put_u64le(at, b->len);
    put_u32le(r + 16, crc32c(crc32c(crc32c(0, at, 8), r, 16), head, n_head));
    buf_append(b, r, sizeof r);
    buf_append(b, head, n_head);
    buf_append(b, body, n_body);
}

static void put_records(struct buf *b, const uint8_t *p, size_t n)
{
    while (n >= 4) {
        size_t head = p[1] | (size_t)(p[2] & 3) << 8, body = p[3];
        uint8_t type = p[0] % 6;
        p += 4;
        n -= 4;
        head = head > n ? n : head;
        body = body > n - head ? n - head : body;
        put_record(b, type, p, head, p + head, body);
        p += head + body;
        n -= head + body;
    }
    put_record(b, 3, p, 0, p, 0); /* what is before it is taken as it is */
}

static void file_of(struct buf *b, const uint8_t *data, size_t size)
{
    uint8_t h[16] = {0};

    put_u32le(h, 0x4348584eu);
    put_u16le(h + 4, 2);
    put_u32le(h + 8, 1);
    put_u32le(h + 12, crc32c(0, h, 12));
    buf_append(b, h, sizeof h);
    if (data[0] & 1)
        buf_append(b, data + 1, size - 1);
    else
        put_records(b, data + 1, size - 1);
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
    sim = simfs_new(1);
    buf_init(&b, 0);
    file_of(&b, data, size);
    NX_ASSERT_ALWAYS(fs_mkdirs(simfs_fs(sim), "d/head", &err) == NX_OK);
    NX_ASSERT_ALWAYS(fs_publish(simfs_fs(sim), "d/head/00000001", b.ptr, b.len, &err) == NX_OK);
    buf_done(&b);
    s = open_store(sim);
    first = digest(s);
    storage_close(s);
    s = open_store(sim); /* what was torn has been cut: the same is there again */
    NX_ASSERT_ALWAYS(digest(s) == first);
    storage_close(s);
    simfs_free(sim);
    return 0;
}
