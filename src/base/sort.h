/* sort.h - sorting many strings.
 *
 * Threads: any; nothing is shared. */
#pragma once

#include "src/base/status.h"

/* Sorts as nx_slice_cmp() orders. Takes memory for large n and does without if there is none. */
void nx_sort_slices(struct nx_slice *v, size_t n);
