/* shortest.c - the digits of a double by one multiplication.
 *
 * WHY     Most of what a large answer costs is the search for the shortest digits of its values, and <charconv>
 *         searches in a way that suits all doubles there are.
 * SHAPE   A double is c * 2^q; all that lies within half a unit of it reads as the same: [(2c-1), (2c+1)] * 2^(q-1),
 *         ends included where c is even. With 10^-n <= 2^q < 10^(1-n) there is at least one multiple of 10^-n in
 *         there, and at most one of 10^(1-n); if there is one, it has the fewest digits, else the multiple of
 *         10^-n that is nearest to the double is in there and has. (R. Giulietti, "The Schubfach way to render
 *         doubles", 2020.)
 * EXACT   For -72 <= q <= -4 the power 5^n has at most 52 bits: 2c * 5^n / 2^(-q-n+1) is the double in units of 10^-n,
 *         the product fits 128 bits and nothing is rounded.
 * NOT     Powers of two (what lies below them is nearer), and other q: those are for <charconv>. */
#include "src/base/shortest.h"

#include "src/base/num.h"

#ifdef __SIZEOF_INT128__

#define LEAST_Q     (-72)
#define MOST_Q      (-4)
#define MOST_PLACES 22

// clang-format off
static const uint64_t power_of_5[MOST_PLACES + 1] = {
    1, 5, 25, 125, 625, 3125, 15625, 78125, 390625, 1953125, 9765625, 48828125, 244140625,
    1220703125, 6103515625, 30517578125, 152587890625, 762939453125, 3814697265625,
    19073486328125, 95367431640625, 476837158203125, 2384185791015625,
};
// clang-format on

static struct decimal without_zeros(uint64_t digits, int exponent)
{
    while (digits % 100000000 == 0) {
        digits /= 100000000;
        exponent += 8;
    }
    while (digits % 10 == 0) {
        digits /= 10;
        exponent++;
    }
    return (struct decimal){digits, exponent};
}

struct decimal shortest_decimal(double magnitude)
{
    const uint64_t bits = num_bits(magnitude), implied = (uint64_t)1 << 52;
    const int q = (int)(bits >> 52) - 1075;
    const uint64_t fraction = bits & (implied - 1);

    if (q < LEAST_Q || q > MOST_Q || !fraction)
        return (struct decimal){0, 0};
    /* n - 1 is -q * log10(2), rounded down: it is whole for no such q, nor near enough to be rounded. */
    const unsigned n = ((unsigned)-q * 315653u >> 20) + 1, shift = (unsigned)-q - n + 1;
    const uint64_t half_gap = power_of_5[n]; /* in units of 10^-n / 2^shift, as all below */
    const unsigned __int128 all = (unsigned __int128)(2 * (implied | fraction)) * half_gap;
    const uint64_t units = (uint64_t)(all >> shift), tens = units / 10;
    const uint64_t over_tens = (uint64_t)all - (tens * 10 << shift);
    const uint64_t under_tens = ((uint64_t)10 << shift) - over_tens;
    const uint64_t reach = half_gap + !(fraction & 1); /* what is nearer than that is in there */
    const uint64_t over = over_tens - ((units - tens * 10) << shift),
                   half = (uint64_t)1 << (shift - 1);
    const bool down = over_tens < reach, up = under_tens < reach;
    /* One in two: a choice that is computed, not guessed. */
    const uint64_t digits = (down | up) ? tens + up : units + (over + (units & 1) > half);
    return without_zeros(digits, (down | up) - (int)n);
}

#else

struct decimal shortest_decimal(double magnitude)
{
    (void)magnitude;
    return (struct decimal){0, 0};
}

#endif
