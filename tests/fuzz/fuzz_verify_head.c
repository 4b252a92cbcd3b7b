/* Any bytes as a chunk file: verify ends, and what it tells lies within the file.
 *
 * The first byte chooses: even, the rest are records, each a type, lengths of head and body and their
 * bytes, to which right checksums are made; odd, the rest follows a right header as it is. */
#include "tests/fuzz/store.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_records(struct buf *b, const uint8_t *p, size_t n)
{
    while (n >= 3) {
        uint8_t place[8];
        size_t head = p[1], body = p[2], at = b->len;
        uint32_t crc;
        head = head < n - 3 ? head : n - 3;
        body = body < n - 3 - head ? body : n - 3 - head;
        buf_append(b, "NXHR", 4);
        buf_u32le(b, 1u + p[0] % 5);
        buf_u32le(b, (uint32_t)head);
        buf_u32le(b, (uint32_t)body);
        put_u64le(place, at);
        crc = crc32c(crc32c(0, place, sizeof place), b->ptr + at, 16);
        buf_u32le(b, crc32c(crc, p + 3, head));
        buf_append(b, p + 3, head + body);
        p += 3 + head + body;
        n -= 3 + head + body;
    }
}

static void file_of(struct buf *b, const uint8_t *data, size_t size)
{
    put_header(b, "NXHC", 2);
    if (data[0] & 1)
        buf_append(b, data + 1, size - 1);
    else
        put_records(b, data + 1, size - 1);
}

static void within(void *ctx, const struct storage_problem *p)
{
    const size_t *bytes = ctx;

    NX_ASSERT_ALWAYS(p->offset >= 0 && p->what[0] && strcmp(p->file, "d/head/00000001") == 0);
    /* a page may be said to lie behind the end: its place is from the file */
    NX_ASSERT_ALWAYS((uint64_t)p->offset <= *bytes + UINT32_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct storage_verified out;
    struct simfs *sim;
    struct nx_err err;
    struct buf b;

    if (size < 1)
        return 0;
    sim = simfs_new(1);
    buf_init(&b, 0);
    file_of(&b, data, size);
    NX_ASSERT_ALWAYS(fs_mkdirs(simfs_fs(sim), "d/head", &err) == NX_OK);
    NX_ASSERT_ALWAYS(fs_publish(simfs_fs(sim), "d/head/00000001", b.ptr, b.len, &err) == NX_OK);
    NX_ASSERT_ALWAYS(storage_verify_head_files(simfs_fs(sim), "d", within, &b.len, &out, &err) ==
                     NX_OK);
    buf_done(&b);
    simfs_free(sim);
    return 0;
}
