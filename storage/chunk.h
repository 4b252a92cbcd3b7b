/* chunk.h - one series' values over a span of rows, and the timestamps of such rows, as bytes.
 *
 * A chunk holds n values and no timestamps: those are a vector of their own, shared by all series of
 * a group. Neither stores n; who keeps the bytes keeps n with them. Both are lossless to the bit and
 * carry no checksum: the page or record around them does. The encoding is picked by content
 * (FORMAT.md, "Chunks"). A row in which the series has no sample holds CHUNK_ABSENT; it costs a bit
 * or less and does not disturb the coding of the rest.
 *
 * Threads  any; a scratch is used by one thread at a time.
 * Hostile  decoding arbitrary bytes fails with NX_CORRUPT or gives some n values; it reads nothing
 *          outside `len`, writes nothing past n and allocates nothing that depends on the bytes. */
#pragma once

#include "src/base/buf.h"
#include "src/base/num.h"

/* Nothing that was measured has these bits: NaNs from outside are NUM_NAN_BITS or stale markers. */
#define CHUNK_ABSENT_BITS 0x7ff4000000000a5eull
static inline double chunk_absent(void)
{
    return num_from_bits(CHUNK_ABSENT_BITS);
}
static inline bool chunk_is_absent(double v)
{
    return num_bits(v) == CHUNK_ABSENT_BITS;
}

#define CHUNK_MAX_ROWS 16384u

/* Working memory of encoder and decoder, sized by the largest n seen. Kept by who codes often. */
struct chunk_scratch;
struct chunk_scratch *chunk_scratch_new(void); /* NULL out of memory */
void chunk_scratch_free(struct chunk_scratch *s);

/* Appends the bytes of v[0..n) to `to`. 1 <= n <= CHUNK_MAX_ROWS, else NX_BADINPUT; NX_NOMEM, NX_LIMIT
 * of `to`. chunk_encode tries everything; chunk_encode_fast settles for what is good enough, in about
 * a quarter of the time and a tenth more bytes, for data that will be coded again (head, import).
 * Decoding is the same. */
NX_NODISCARD nx_status chunk_encode(struct buf *to, const double *v, size_t n,
                                    struct chunk_scratch *s, struct nx_err *err);
NX_NODISCARD nx_status chunk_encode_fast(struct buf *to, const double *v, size_t n,
                                         struct chunk_scratch *s, struct nx_err *err);
/* Writes n values to v. The bytes must be used up exactly. NX_CORRUPT, NX_NOMEM, NX_BADINPUT (n). */
NX_NODISCARD nx_status chunk_decode(const void *ptr, size_t len, double *v, size_t n,
                                    struct chunk_scratch *s, struct nx_err *err);
/* Only the first `need` values, 1 <= need <= n, of a chunk that is known to be whole: v has room for n, and what
 * lies behind them is neither decoded, where the encoding allows, nor checked. With `marks` numbers are all 0, for
 * those who ask which rows have a sample, and which a stale marker: bytes that only numbers need are not looked at. */
NX_NODISCARD nx_status chunk_decode_first(const void *ptr, size_t len, double *v, size_t n,
                                          size_t need, bool marks, struct chunk_scratch *s,
                                          struct nx_err *err);
/* The name of the encoding in the first byte, for statistics: "const", "int-delta", ... */
const char *chunk_encoding_name(const void *ptr, size_t len);

/* Timestamps: any int64 values, best when they ascend at a regular pace. n as above. times_decode needs
 * no scratch: it may be NULL. */
NX_NODISCARD nx_status times_encode(struct buf *to, const int64_t *t, size_t n,
                                    struct chunk_scratch *s, struct nx_err *err);
NX_NODISCARD nx_status times_decode(const void *ptr, size_t len, int64_t *t, size_t n,
                                    struct chunk_scratch *s, struct nx_err *err);
