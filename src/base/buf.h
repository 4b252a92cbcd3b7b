/* buf.h - a byte buffer that grows up to a limit set when it is made.
 *
 * Appending never fails loudly: the first append that does not fit marks the buffer, later ones do
 * nothing, and buf_status() tells at the end. Threads: one at a time. */
#pragma once

#include "src/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct buf {
    char *ptr; /* not terminated; see buf_cstr */
    size_t len;
    size_t cap;
    size_t limit_bytes; /* 0: none */
    nx_status failed;   /* NX_OK, NX_LIMIT or NX_NOMEM */
};

void buf_init(struct buf *b, size_t limit_bytes);
void buf_done(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory, forgets a failure */
/* Cuts blanks, tabs, line ends and NULs at the end: what editors leave behind a secret in a file. */
void buf_trim_end(struct buf *b);

void buf_append(struct buf *b, const void *ptr, size_t len);
void buf_slice(struct buf *b, struct nx_slice s);
void buf_str(struct buf *b, const char *terminated);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) NX_PRINTF(2, 3);
/* Makes room for `extra` bytes and returns where they go (caller adds to len), or NULL. */
char *buf_reserve(struct buf *b, size_t extra);

/* Little-endian integers, LEB128 varints and zigzag varints: the bytes of storage/FORMAT.md. */
void buf_u8(struct buf *b, uint8_t v);
void buf_u16le(struct buf *b, uint16_t v);
void buf_u32le(struct buf *b, uint32_t v);
void buf_u64le(struct buf *b, uint64_t v);
void buf_uvarint(struct buf *b, uint64_t v);
void buf_varint(struct buf *b, int64_t v);

nx_status buf_status(const struct buf *b, struct nx_err *err); /* NX_OK, or why it is incomplete */
const char *buf_cstr(struct buf *b); /* terminates; valid until the next append; "" on failure */
struct nx_slice buf_view(const struct buf *b);

uint16_t get_u16le(const void *p);
uint32_t get_u32le(const void *p);
uint64_t get_u64le(const void *p);
void put_u16le(void *p, uint16_t v);
void put_u32le(void *p, uint32_t v);
void put_u64le(void *p, uint64_t v);

/* A reader over bytes from outside: every take checks, the first that fails marks the reader and
 * all later ones give zero. Check reader.bad once at the end of each structure. */
struct reader {
    const uint8_t *ptr, *end;
    bool bad;
};
struct reader reader_of(const void *ptr, size_t len);
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16le(struct reader *r);
uint32_t reader_u32le(struct reader *r);
uint64_t reader_u64le(struct reader *r);
uint64_t reader_uvarint(struct reader *r);
int64_t reader_varint(struct reader *r);
struct nx_slice reader_bytes(struct reader *r, size_t len); /* borrowed from the input */
size_t reader_left(const struct reader *r);

#ifdef __cplusplus
}
#endif
