/* log.h - the log on standard error, in Prometheus's logfmt or JSON.
 *
 *   time=2026-01-02T03:04:05.678Z level=INFO source=wal.c:42 msg="WAL replayed" segments=3
 *
 * Who can act logs; who cannot returns its error. Threads: any. */
#pragma once

#include "src/base/status.h"

enum log_level { LOG_DEBUG_LEVEL, LOG_INFO_LEVEL, LOG_WARN_LEVEL, LOG_ERROR_LEVEL };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

void log_setup(enum log_level level, enum log_format format);

/* Pairs of const char * (key, value), ended by NULL. A NULL value prints as <nil> (null in JSON). Use log_fmt for numbers. */
void log_write(enum log_level level, const char *file, int line, const char *msg, ...)
    __attribute__((sentinel));
#define log_debug(...) log_write(LOG_DEBUG_LEVEL, __FILE__, __LINE__, __VA_ARGS__, (char *)0)
#define log_info(...)  log_write(LOG_INFO_LEVEL, __FILE__, __LINE__, __VA_ARGS__, (char *)0)
#define log_warn(...)  log_write(LOG_WARN_LEVEL, __FILE__, __LINE__, __VA_ARGS__, (char *)0)
#define log_error(...) log_write(LOG_ERROR_LEVEL, __FILE__, __LINE__, __VA_ARGS__, (char *)0)

/* printf into a small per-call buffer that lives until the end of the full expression's block. */
struct log_text {
    char s[256];
};
struct log_text log_fmt_(const char *fmt, ...) NX_PRINTF(1, 2);
#define log_fmt(...) (log_fmt_(__VA_ARGS__).s)

/* Tests: lines go to `fn` instead. NULL restores. */
void log_capture(void (*fn)(void *ctx, const char *line, size_t len), void *ctx);
