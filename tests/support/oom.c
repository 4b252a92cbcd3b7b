/* oom.c - the wrapped allocators. */
#include "tests/support/oom.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

static _Thread_local struct {
    bool armed, for_good, hit;
    unsigned left, paused;
} oom;

void oom_fail_at(unsigned n)
{
    oom.armed = true;
    oom.for_good = false;
    oom.hit = false;
    oom.left = n;
}

void oom_fail_from(unsigned n)
{
    oom_fail_at(n);
    oom.for_good = true;
}

bool oom_off(void)
{
    oom.armed = false;
    return oom.hit;
}

void oom_pause(void)
{
    oom.paused++;
}

void oom_resume(void)
{
    oom.paused--;
}

static bool fails(void)
{
    if (!oom.armed || oom.paused)
        return false;
    if (oom.left > 0 && --oom.left > 0)
        return false;
    if (oom.hit && !oom.for_good)
        return false;
    oom.hit = true;
    errno = ENOMEM;
    return true;
}

/* The linker's names: a call of f() in the program reaches __wrap_f, __real_f is the one meant. */
#define WRAP(type, name, params, args)                                                             \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params                                                                      \
    {                                                                                              \
        return fails() ? NULL : __real_##name args;                                                \
    }

WRAP(void *, malloc, (size_t n), (n))
WRAP(void *, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, (void *p, size_t n), (p, n))
WRAP(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size))
WRAP(void *, aligned_alloc, (size_t align, size_t n), (align, n))
WRAP(char *, strdup, (const char *s), (s))
WRAP(char *, strndup, (const char *s, size_t n), (s, n))

int __real_vasprintf(char **to, const char *fmt, va_list args);
int __wrap_vasprintf(char **to, const char *fmt, va_list args);
int __wrap_asprintf(char **to, const char *fmt, ...);

int __wrap_vasprintf(char **to, const char *fmt, va_list args)
{
    return fails() ? -1 : __real_vasprintf(to, fmt, args);
}

int __wrap_asprintf(char **to, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = __wrap_vasprintf(to, fmt, args);
    va_end(args);
    return n;
}
