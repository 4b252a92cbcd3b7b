/* sort.c - strings by their first bytes that differ.
 *
 * WHY     The values of a label are many and much alike ("host-0001.example.org:9100"): comparing them is
 *         reading what they share again and again.
 * SHAPE   What all have in common is left aside; the eight bytes after it become a number, and numbers are
 *         sorted digit by digit (LSD radix). Runs of equal numbers are sorted the same way, among themselves.
 * NOT     Multikey quicksort: it reads the strings in memory once for each byte, these numbers lie in a row. */
#include "src/base/sort.h"

#include <stdlib.h>
#include <string.h>

#define FEW        64u /* fewer are sorted by comparing */
#define DIGIT_BITS 11u
#define DIGITS     (1u << DIGIT_BITS)

struct keyed {
    uint64_t key;
    struct nx_slice s;
};

static int compare(const void *x, const void *y)
{
    return nx_slice_cmp(*(const struct nx_slice *)x, *(const struct nx_slice *)y);
}

static bool is_sorted(const struct nx_slice *v, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (nx_slice_cmp(v[i - 1], v[i]) > 0)
            return false;
    return true;
}

static size_t common_prefix(const struct nx_slice *v, size_t n)
{
    size_t len = v[0].len;

    for (size_t i = 1; i < n && len; i++) {
        size_t k = 0;
        len = v[i].len < len ? v[i].len : len;
        if (memcmp(v[0].ptr, v[i].ptr, len) == 0)
            continue;
        while (v[0].ptr[k] == v[i].ptr[k])
            k++;
        len = k;
    }
    return len;
}

/* The first byte highest; zeros where the string has ended. */
static uint64_t key_at(struct nx_slice s, size_t from)
{
    const size_t n = s.len - from < 8 ? s.len - from : 8;
    uint64_t key = 0;

    for (size_t i = 0; i < n; i++)
        key |= (uint64_t)(unsigned char)s.ptr[from + i] << (56 - 8 * i);
    return key;
}

/* One pass; false: all have the same digit, nothing was moved. */
static bool pass(const struct keyed *from, struct keyed *to, size_t n, unsigned shift)
{
    size_t at[DIGITS] = {0}, sum = 0;

    for (size_t i = 0; i < n; i++)
        at[from[i].key >> shift & (DIGITS - 1)]++;
    if (at[from[0].key >> shift & (DIGITS - 1)] == n)
        return false;
    for (size_t d = 0; d < DIGITS; d++) {
        const size_t here = at[d];
        at[d] = sum;
        sum += here;
    }
    for (size_t i = 0; i < n; i++)
        to[at[from[i].key >> shift & (DIGITS - 1)]++] = from[i];
    return true;
}

void nx_sort_slices(struct nx_slice *v, size_t n)
{
    struct keyed *k, *to;
    size_t shared;

    if (n < 2 || is_sorted(v, n))
        return;
    k = n < FEW ? NULL : calloc(n, 2 * sizeof *k);
    if (!k) {
        qsort(v, n, sizeof *v, compare);
        return;
    }
    shared = common_prefix(v, n);
    for (size_t i = 0; i < n; i++)
        k[i] = (struct keyed){key_at(v[i], shared), v[i]};
    to = k + n;
    struct keyed *at = k;
    for (unsigned shift = 0; shift < 64; shift += DIGIT_BITS) {
        if (pass(at, to, n, shift)) {
            struct keyed *swap = at;
            at = to;
            to = swap;
        }
    }
    for (size_t i = 0; i < n; i++)
        v[i] = at[i].s;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && at[end].key == at[i].key;)
            end++;
        if (end - i == n) /* they differ in zeros or not at all */
            qsort(v, n, sizeof *v, compare);
        else
            nx_sort_slices(v + i, end - i);
    }
    free(k);
}
