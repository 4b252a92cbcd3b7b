/* digits.h - a few decimal digits at once: halves, then pairs, then digits are divided side by side in one
 * word, and none waits for the one before it.
 *
 * Threads: any; nothing is shared. */
#pragma once

#include <string.h>

#include "src/base/status.h"

/* Eight digits of v < 10^8 as numbers, the first in the lowest byte. */
static inline uint64_t digits_8(uint64_t v)
{
    uint64_t halves = v / 10000 | (v % 10000) << 32;
    uint64_t high = (halves * 10486 >> 20) & 0x7f0000007fu;
    uint64_t pairs = high | (halves - high * 100) << 16;

    high = (pairs * 103 >> 10) & 0xf000f000f000fu;
    return high | (pairs - high * 10) << 8;
}

/* Four digits of v < 10^4, likewise. */
static inline uint32_t digits_4(uint32_t v)
{
    uint32_t high = v * 5243 >> 19, pairs = high | (v - high * 100) << 16;

    high = (pairs * 103 >> 10) & 0xf000fu;
    return high | (pairs - high * 10) << 8;
}

/* Writes them as text: eight bytes, four. */
static inline void digits_put_8(char *to, uint64_t digits)
{
    digits += 0x3030303030303030u;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    digits = __builtin_bswap64(digits);
#endif
    memcpy(to, &digits, sizeof digits);
}

static inline void digits_put_4(char *to, uint32_t digits)
{
    digits += 0x30303030u;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    digits = __builtin_bswap32(digits);
#endif
    memcpy(to, &digits, sizeof digits);
}

/* How many of eight are left without the zeros at their end; one is not zero. */
static inline unsigned digits_8_significant(uint64_t digits)
{
    return 8 - (unsigned)__builtin_clzll(digits) / 8;
}
