/* Opinion: decode(encode(x)) is x to the bit, however chosen; any bytes decode to n values or to
 * NX_CORRUPT; what decodes can be coded again and gives the same values.
 *
 * Input: u8 what to do, u16 rows, then bytes (as a chunk, as doubles, or as small integers). */
#include <stdlib.h>
#include <string.h>

#include "storage/chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct chunk_scratch *scratch;
static double values[CHUNK_MAX_ROWS], got[CHUNK_MAX_ROWS];

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void comes_back(size_t n, bool fast)
{
    struct buf to;

    buf_init(&to, 0);
    check((fast ? chunk_encode_fast : chunk_encode)(&to, values, n, scratch, NULL) == NX_OK);
    check(chunk_decode(to.ptr, to.len, got, n, scratch, NULL) == NX_OK);
    check(memcmp(values, got, n * sizeof *got) == 0);
    check(chunk_decode_first(to.ptr, to.len, got, n, (n + 1) / 2, false, scratch, NULL) == NX_OK);
    check(memcmp(values, got, (n + 1) / 2 * sizeof *got) == 0);
    buf_done(&to);
}

static void any_bytes(const uint8_t *data, size_t size, size_t n)
{
    nx_status st = chunk_decode(data, size, values, n, scratch, NULL);
    int64_t t[256], back[256];

    check(st == NX_OK || st == NX_CORRUPT);
    if (st == NX_OK)
        comes_back(n, false);
    st = chunk_decode_first(data, size, values, n, n, true, scratch, NULL);
    check(st == NX_OK || st == NX_CORRUPT);
    st = chunk_decode_first(data, size, values, n, (n + 1) / 2, false, scratch, NULL);
    check(st == NX_OK || st == NX_CORRUPT);
    n = n > 256 ? 256 : n;
    if (times_decode(data, size, t, n, scratch, NULL) == NX_OK) {
        struct buf to;

        buf_init(&to, 0);
        check(times_encode(&to, t, n, scratch, NULL) == NX_OK);
        check(times_decode(to.ptr, to.len, back, n, scratch, NULL) == NX_OK);
        check(memcmp(t, back, n * sizeof *t) == 0);
        buf_done(&to);
    }
}

/* Eight bytes a value as they are, or a byte a step of a sum, in units of 10^-e. */
static size_t fill(const uint8_t *data, size_t size, unsigned how)
{
    static const double unit[] = {1, 10, 100, 1000, 1e6, 1e9, 3, 7};
    size_t n = 0;
    double sum = 0;

    if (how == 0) {
        n = size / 8 < CHUNK_MAX_ROWS ? size / 8 : CHUNK_MAX_ROWS;
        memcpy(values, data, n * 8);
        return n;
    }
    for (; n < size && n < CHUNK_MAX_ROWS; n++) {
        if (data[n] == 255)
            values[n] = chunk_absent();
        else if (data[n] == 254)
            values[n] = num_from_bits(NUM_STALE_BITS);
        else
            values[n] = sum += (double)((int)data[n] - (how & 8 ? 100 : 0)) / unit[how & 7];
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n;

    if (!scratch && !(scratch = chunk_scratch_new()))
        abort();
    if (size < 3)
        return 0;
    n = 1 + (size_t)(data[1] | data[2] << 8) % CHUNK_MAX_ROWS;
    if (data[0] & 1) {
        any_bytes(data + 3, size - 3, n);
        return 0;
    }
    n = fill(data + 3, size - 3, data[0] >> 1 & 15);
    if (n) {
        comes_back(n, false);
        comes_back(n, true);
    }
    return 0;
}
