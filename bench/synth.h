/* synth.h - what programs of bench/ share: values that look like a server's, and an end at the first error.
 *
 * Values  of 20 series 9 are constant, 6 count, 2 are decimals, one is a size in pages, two count seldom. The
 *         same numbers come in each run. Threads: one. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "src/base/status.h"

static inline void must(nx_status st, const struct nx_err *err)
{
    if (!st)
        return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

/* SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). */
static inline uint64_t synth_random(void)
{
    static uint64_t state = 1;
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* The next row of n series; v holds the last one. */
static inline void synth_row(double *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned kind = i % 20;
        uint64_t r = synth_random();

        if (kind < 9)
            continue;
        if (kind < 15)
            v[i] += (double)(r % 200);
        else if (kind < 17)
            v[i] = (double)(r % 10000) / 100;
        else if (kind < 18)
            v[i] = (double)((r % 100000) * 4096);
        else
            v[i] += (double)(r % 8 == 0 ? r >> 8 & 3 : 0);
    }
}
