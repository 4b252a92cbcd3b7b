/* grow.h - arrays of the head that grow by a quarter: there are many of them, and most stay short.
 * Private to storage/. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more in an array of *cap elements of which n are used. `array` points to the pointer;
 * `spare` elements are added beyond the quarter. False, and nothing has changed: out of memory. */
static inline bool grow(void *array, uint32_t n, uint32_t *cap, size_t size, uint32_t spare)
{
    void *p;
    uint64_t more;

    if (n < *cap)
        return true;
    more = (uint64_t)*cap + *cap / 4 + spare;
    if (more > UINT32_MAX)
        return false;
    memcpy(&p, array, sizeof p);
    p = realloc(p, (size_t)more * size);
    if (!p)
        return false;
    memcpy(array, &p, sizeof p);
    *cap = (uint32_t)more;
    return true;
}
