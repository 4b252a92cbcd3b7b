/* picks.h - the choices of a generator of expressions: of any struct that has a `struct test_random r`. */
#pragma once

#include "tests/support/test.h"

#define below(g, n) ((unsigned)test_random_below(&(g)->r, n))

#define ONE_OF(g, ...)                                                                             \
    ((const char *const[]){                                                                        \
        __VA_ARGS__})[below(g, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))]

/* What the environment says of a test, or otherwise. */
static inline unsigned long setting(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : otherwise;
}
