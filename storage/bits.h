/* bits.h - bits of packed numbers, from the low end of each byte on; and numbers of either sign as such without one.
 *
 * Inline: they are the innermost loops of the log and of chunks. Threads: any. Hostile bytes set `bad`. */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* 0, -1, 1, -2, ... as 0, 1, 2, 3, ... */
static inline uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline uint64_t unzigzag(uint64_t z)
{
    return z >> 1 ^ -(z & 1);
}

/* How many bits hold v: 0 to 64. */
static inline unsigned bit_width(uint64_t v)
{
    return v ? 64u - (unsigned)__builtin_clzll(v) : 0;
}

/* Holds up to 63 bits; what it holds above n is what it will hold there. */
struct bit_reader {
    const uint8_t *p, *end;
    uint64_t held;
    unsigned n;
    bool bad; /* more was asked for than is there; zeros were given */
};

static inline void bits_fill(struct bit_reader *b)
{
    uint64_t next;

    if (b->end - b->p >= 8) {
        memcpy(&next, b->p, sizeof next);
        b->held |= le64toh(next) << b->n;
        b->p += (63 - b->n) / 8;
        b->n |= 56;
        return;
    }
    for (; b->n <= 56 && b->p < b->end; b->n += 8)
        b->held |= (uint64_t)*b->p++ << b->n;
}

/* n is at most 56. */
static inline uint64_t bits_get(struct bit_reader *b, unsigned n)
{
    uint64_t v;

    if (b->n < n) {
        bits_fill(b);
        if (b->n < n) {
            b->bad = true;
            return 0;
        }
    }
    v = b->held & ((UINT64_C(1) << n) - 1);
    b->held >>= n;
    b->n -= n;
    return v;
}

/* n is at most 64. */
static inline uint64_t bits_get_long(struct bit_reader *b, unsigned n)
{
    uint64_t low;

    if (n <= 32)
        return bits_get(b, n);
    low = bits_get(b, 32);
    return low | bits_get(b, n - 32) << 32;
}
