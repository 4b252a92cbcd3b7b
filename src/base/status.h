/* status.h - how functions say that they failed.
 *
 * Whatever can fail returns nx_status and takes a struct nx_err last. The buffer is the caller's and
 * has a fixed size, so that "out of memory" can be reported without memory. `err` may be NULL where
 * the text is of no interest. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// clang-format off
#define NX_STATUS_LIST(X)                          \
    X(OK,          "ok")                           \
    X(NOMEM,       "out of memory")                \
    X(IO,          "input/output error")           \
    X(NOSPACE,     "no space left")                \
    X(CORRUPT,     "corrupt data")                 \
    X(BADINPUT,    "bad input")                    \
    X(NOTFOUND,    "not found")                    \
    X(LIMIT,       "limit exceeded")               \
    X(TIMEOUT,     "timed out")                    \
    X(CANCELED,    "canceled")                     \
    X(UNAVAILABLE, "unavailable")                  \
    X(EXEC,        "execution failed")             \
    X(OVERLOADED,  "overloaded: may work later")
// clang-format on

#define NX_STATUS_ENUM(name, text) NX_##name,
typedef enum nx_status { NX_STATUS_LIST(NX_STATUS_ENUM) NX_STATUS_COUNT } nx_status;
#undef NX_STATUS_ENUM

#define NX_ERR_TEXT_BYTES 2048

struct nx_err {
    nx_status code;
    char text[NX_ERR_TEXT_BYTES]; /* always terminated; too long a text is cut */
};

/* Bytes that are somebody else's: not terminated, may hold NULs. */
struct nx_slice {
    const char *ptr;
    size_t len;
};

#define NX_NODISCARD        __attribute__((warn_unused_result))
#define NX_PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))
#define NX_COUNT(array)     (sizeof(array) / sizeof((array)[0]))

/* The English of a code ("no space left"). */
const char *nx_status_text(nx_status st);

/* Writes the text into `err` (if not NULL) and returns `st`. */
nx_status nx_fail(struct nx_err *err, nx_status st, const char *fmt, ...) NX_PRINTF(3, 4);

/* As nx_fail, ending in ": " and the text of `errno_value`; ENOSPC and EDQUOT become NX_NOSPACE,
 * ENOENT NX_NOTFOUND, ENOMEM NX_NOMEM, all else NX_IO. */
nx_status nx_fail_errno(struct nx_err *err, int errno_value, const char *fmt, ...) NX_PRINTF(3, 4);

/* Puts context before the text that `err` already holds and returns its code. Without an `err` the
 * code is not known: NX_EXEC. */
nx_status nx_context(struct nx_err *err, const char *fmt, ...) NX_PRINTF(2, 3);

static inline struct nx_slice nx_slice_of(const char *ptr, size_t len)
{
    return (struct nx_slice){ptr, len};
}

struct nx_slice nx_slice_str(const char *terminated); /* NULL gives an empty slice */
bool nx_slice_eq(struct nx_slice a, struct nx_slice b);
bool nx_slice_is(struct nx_slice a, const char *terminated);
int nx_slice_cmp(struct nx_slice a, struct nx_slice b); /* by bytes, as Prometheus sorts */

/* NX_ASSERT is for our own mistakes and stays in debug, test and fuzz builds; NX_ASSERT_ALWAYS for
 * the few broken promises after which going on would write bad data. Neither sees outside bytes. */
void nx_assert_failed(const char *what, const char *file, int line) __attribute__((noreturn));
#define NX_ASSERT_ALWAYS(what) ((what) ? (void)0 : nx_assert_failed(#what, __FILE__, __LINE__))
#ifdef NX_ASSERTS
#define NX_ASSERT(what) NX_ASSERT_ALWAYS(what)
#else
#define NX_ASSERT(what) ((void)0)
#endif

#ifdef __cplusplus
}
#endif
