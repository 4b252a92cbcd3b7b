/* status.c - error texts in the caller's fixed buffer.
 *
 * RULES   S1  Nothing here allocates: running out of memory can be reported.
 *         S2  Arguments may point into err->text itself; the text is therefore made aside and
 *             copied in.
 *         S3  A text that is too long is cut between two UTF-8 characters. */
#include "src/base/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NX_STATUS_TEXT(name, text) [NX_##name] = text,
static const char *const status_texts[NX_STATUS_COUNT] = {NX_STATUS_LIST(NX_STATUS_TEXT)};
#undef NX_STATUS_TEXT

const char *nx_status_text(nx_status st)
{
    return (unsigned)st < NX_STATUS_COUNT ? status_texts[st] : "unknown status";
}

/* Takes away a UTF-8 character that the cut left incomplete (S3). */
static void drop_torn_character(char *text, size_t len)
{
    size_t start = len;

    while (start > 0 && len - start < 3 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start > 0 && (unsigned char)text[start - 1] >= 0xc0) {
        unsigned char lead = (unsigned char)text[start - 1];
        size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        if (len - start + 1 < want)
            text[start - 1] = '\0';
    }
}

/* vsnprintf at to[at], cut and terminated; returns the new length. */
static size_t NX_PRINTF(3, 0)
    put_text(char to[NX_ERR_TEXT_BYTES], size_t at, const char *fmt, va_list args)
{
    int n = vsnprintf(to + at, NX_ERR_TEXT_BYTES - at, fmt, args);

    if (n < 0) {
        to[at] = '\0';
        return at;
    }
    if ((size_t)n >= NX_ERR_TEXT_BYTES - at) {
        drop_torn_character(to, NX_ERR_TEXT_BYTES - 1);
        return strlen(to);
    }
    return at + (size_t)n;
}

static size_t NX_PRINTF(3, 4) put_textf(char to[NX_ERR_TEXT_BYTES], size_t at, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    at = put_text(to, at, fmt, args);
    va_end(args);
    return at;
}

static void keep_text(struct nx_err *err, nx_status st, const char *text, size_t len)
{
    err->code = st;
    memcpy(err->text, text, len + 1);
}

nx_status nx_fail(struct nx_err *err, nx_status st, const char *fmt, ...)
{
    char text[NX_ERR_TEXT_BYTES];
    va_list args;
    size_t len;

    if (!err)
        return st;
    va_start(args, fmt);
    len = put_text(text, 0, fmt, args);
    va_end(args);
    keep_text(err, st, text, len);
    return st;
}

static nx_status status_of_errno(int errno_value)
{
    switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
        return NX_NOSPACE;
    case ENOENT:
        return NX_NOTFOUND;
    case ENOMEM:
        return NX_NOMEM;
    default:
        return NX_IO;
    }
}

nx_status nx_fail_errno(struct nx_err *err, int errno_value, const char *fmt, ...)
{
    nx_status st = status_of_errno(errno_value);
    char text[NX_ERR_TEXT_BYTES], reason[128];
    va_list args;
    size_t len;

    if (!err)
        return st;
    va_start(args, fmt);
    len = put_text(text, 0, fmt, args);
    va_end(args);
    /* GNU strerror_r: may answer with a constant of its own instead of filling the buffer. */
    len = put_textf(text, len, ": %s", strerror_r(errno_value, reason, sizeof reason));
    keep_text(err, st, text, len);
    return st;
}

nx_status nx_context(struct nx_err *err, const char *fmt, ...)
{
    char text[NX_ERR_TEXT_BYTES];
    va_list args;
    size_t len;

    if (!err)
        return NX_EXEC;
    va_start(args, fmt);
    len = put_text(text, 0, fmt, args);
    va_end(args);
    len = put_textf(text, len, ": %s", err->text);
    keep_text(err, err->code, text, len);
    return err->code;
}

struct nx_slice nx_slice_str(const char *terminated)
{
    return terminated ? nx_slice_of(terminated, strlen(terminated)) : nx_slice_of("", 0);
}

bool nx_slice_eq(struct nx_slice a, struct nx_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool nx_slice_is(struct nx_slice a, const char *terminated)
{
    return nx_slice_eq(a, nx_slice_str(terminated));
}

int nx_slice_cmp(struct nx_slice a, struct nx_slice b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int c = common ? memcmp(a.ptr, b.ptr, common) : 0;

    if (c)
        return c;
    return a.len < b.len ? -1 : a.len > b.len;
}

void nx_assert_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: broken promise: %s\n", file, line, what);
    fflush(stderr);
    abort();
}
