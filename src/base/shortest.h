/* shortest.h - the digits of a double, for num.cc.
 *
 * Threads: any; nothing is shared. */
#pragma once

#include "src/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* digits * 10^exponent; no zeros at the end. */
struct decimal {
    uint64_t digits; /* below 10^17; 0: not known */
    int exponent;
};

/* Of the decimals that read back as `magnitude` one of the fewest digits, and of these the nearest; of two that
 * are as near the even one: what std::to_chars prints. Knows nearly all doubles of [1e-6, 5e14). */
struct decimal shortest_decimal(double magnitude);

#ifdef __cplusplus
}
#endif
