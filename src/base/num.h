/* num.h - numbers as text, as Go's strconv reads and writes them.
 *
 * A C header over C++17 <charconv> (num.cc), which is exact and locale-free. */
#pragma once

#include "src/base/buf.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NUM_TEXT_BYTES 40

/* Special bit patterns. Scraped NaNs become NUM_NAN_BITS; NUM_STALE_BITS marks the end of a series. */
#define NUM_NAN_BITS   0x7ff8000000000001ull
#define NUM_STALE_BITS 0x7ff0000000000002ull

static inline uint64_t num_bits(double v)
{
    uint64_t u;
    __builtin_memcpy(&u, &v, sizeof u);
    return u;
}
static inline double num_from_bits(uint64_t u)
{
    double v;
    __builtin_memcpy(&v, &u, sizeof v);
    return v;
}
static inline bool num_is_stale(double v)
{
    return num_bits(v) == NUM_STALE_BITS;
}

/* Parses all of `s` as a decimal float: digits, fraction, exponent, a sign, Inf/Infinity/NaN in any
 * case. No hex, no underscores, no blanks. False if it is anything else; *out_of_range tells a
 * magnitude that no double has (out_of_range may be NULL). NaN comes as NUM_NAN_BITS. */
bool num_parse(struct nx_slice s, double *out, bool *out_of_range);
bool num_parse_i64(struct nx_slice s, int64_t *out);
bool num_parse_u64(struct nx_slice s, uint64_t *out);

/* Shortest text that reads back to the same bits. Each writes at most NUM_TEXT_BYTES, without a NUL,
 * and returns the length. */
/* API values (Go's FormatFloat 'f', but exponent form below 1e-6 and from 1e21): 1, 0.25, 1e+21, 1e-07, NaN, +Inf. */
size_t num_format(char *to, double v);
/* Go's 'g' with shortest precision, as %v prints: exponent form below 1e-4 and from 1e6:
 * 0.0001, 999999.5, 1e+06, 1.234567e+06. */
size_t num_format_g(char *to, double v);
/* Go's 'e' with shortest precision: always an exponent, of two digits at least: 0e+00, 1.5e+01. */
size_t num_format_e(char *to, double v);
/* OpenMetrics: as num_format_g, but a value that reads as an integer gets ".0" ("1.0"); +Inf, NaN. */
size_t num_format_om(char *to, double v);
void buf_num(struct buf *b, double v); /* appends num_format */
/* Go's 'f' with shortest precision: never an exponent, however long that gets. */
void buf_num_plain(struct buf *b, double v);

/* Prometheus durations. Parses "1h30m", "0"; rejects signs, fractions, wrong order. The text goes to
 * err as model.ParseDuration words it. Result in milliseconds. */
NX_NODISCARD nx_status num_parse_duration(struct nx_slice s, int64_t *ms, struct nx_err *err);
/* Prints as model.Duration does: 90000 ms is 1m30s, 0 is 0s; weeks and years only when exact. */
size_t num_format_duration(char *to, int64_t ms);
void buf_duration(struct buf *b, int64_t ms);

#ifdef __cplusplus
}
#endif
