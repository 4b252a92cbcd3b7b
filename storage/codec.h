/* codec.h - streams of 64-bit integers as bytes: differences, a divisor, bit packing with exceptions.
 *
 * What chunks and timestamps are made of once they are integers. The stream does not store n.
 *
 * Threads  any. Hostile bytes make codec_get_ints() fail; it reads within the reader and writes n. */
#pragma once

#include "src/base/buf.h"

#define CODEC_BLOCK      128u /* values that share a width and a base */
#define CODEC_LAST_BLOCK 192u /* a last block takes up to so many, to save a header */

enum codec_effort { CODEC_FAST, CODEC_SMALL };

/* Appends q[0..n), n >= 1. `tmp` has room for 3 * n. Failures stay in `to` (buf_status). */
void codec_put_ints(struct buf *to, const int64_t *q, size_t n, enum codec_effort effort,
                    int64_t *tmp);
/* False: the bytes are no such stream. q is then undefined. */
bool codec_get_ints(struct reader *r, int64_t *q, size_t n);
/* Only q[0..need), 1 <= need <= n; q has room for n. What follows is not looked at. */
bool codec_get_ints_first(struct reader *r, int64_t *q, size_t n, size_t need);

/* Doubles as integers in the same order: next to each other where the doubles are (-0 is just below 0). */
static inline int64_t codec_order(uint64_t bits)
{
    int64_t i = (int64_t)bits;
    return i ^ (int64_t)((uint64_t)(i >> 63) >> 1);
}
static inline uint64_t codec_unorder(int64_t i)
{
    return (uint64_t)(i ^ (int64_t)((uint64_t)(i >> 63) >> 1));
}
