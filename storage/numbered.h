/* numbered.h - files named by a number of eight digits: segments of the log, chunk files. */
#pragma once

#include <stdint.h>

#define NUMBERED_DIGITS 8

/* DIR/NNNNNNNNSUFFIX, malloc'ed; NULL out of memory. */
char *numbered_path(const char *dir, uint32_t number, const char *suffix);
/* The number in a name that begins with eight digits, or 0. */
uint32_t numbered_of(const char *name);
