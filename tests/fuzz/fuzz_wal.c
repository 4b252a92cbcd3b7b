/* Any bytes as a log: replay must take or refuse them, the store must open, and all that it then has must
 * come out the same after it was written and replayed again.
 *
 * The first byte chooses: even, the rest are frames' payloads, each with a type and two bytes of length,
 * to which right checksums are made, so that what lies behind them is reached; odd, the rest is a segment
 * as it is, after a right header. */
#include "storage/wal.h"
#include "storage/wal_pack.h"
#include "storage/wal_row.h"
#include "tests/fuzz/store.h"
#include "tests/support/quiet.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    put_header(b, "NXWL", 1);
    if (data[0] & 1)
        buf_append(b, data + 1, size - 1);
    else
        put_frames(b, data + 1, size - 1);
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
    struct buf b;

    if (size < 1)
        return 0;
    quiet_log();
    decode(data, size);
    sim = simfs_new(1);
    buf_init(&b, 0);
    segment_of(&b, data, size);
    publish(sim, "d/wal", "d/wal/00000001", &b);
    opens_twice_alike(sim);
    simfs_free(sim);
    return 0;
}
