/* numbered.c - files named by a number. */
#include "storage/numbered.h"

#include <stdio.h>
#include <string.h>

char *numbered_path(const char *dir, uint32_t number, const char *suffix)
{
    char *path;

    if (asprintf(&path, "%s/%0*u%s", dir, NUMBERED_DIGITS, number, suffix) < 0)
        return NULL;
    return path;
}

uint32_t numbered_of(const char *name)
{
    uint32_t n = 0;

    if (strlen(name) < NUMBERED_DIGITS)
        return 0;
    for (int i = 0; i < NUMBERED_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9')
            return 0;
        n = n * 10 + (uint32_t)(name[i] - '0');
    }
    return n;
}
