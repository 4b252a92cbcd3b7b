/* Any bytes as a chunk file: a start must take or refuse them, the store must open, samples must ascend,
 * and what it has must come out the same after it was opened again and when its chunks are stored anew.
 *
 * The first byte chooses: even, the rest are records, each with a type, two bytes for the length of its head
 * and one for that of its body, to which right checksums are made; odd, the rest is a file as it is, after
 * a right header. */
#include "tests/fuzz/store.h"
#include "tests/support/quiet.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES 20

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    put_header(b, "NXHC", 2);
    if (data[0] & 1)
        buf_append(b, data + 1, size - 1);
    else
        put_records(b, data + 1, size - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct simfs *sim;
    struct buf b;

    if (size < 1)
        return 0;
    quiet_log();
    sim = simfs_new(1);
    buf_init(&b, 0);
    file_of(&b, data, size);
    publish(sim, "d/head", "d/head/00000001", &b);
    opens_twice_alike(sim);
    simfs_free(sim);
    return 0;
}
