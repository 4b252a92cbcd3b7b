/* file.h - one file of Prometheus's, read by pieces, and what was found wrong in it. Private to src/promdata.
 *
 * Owner    pd_file_open() and pd_file_close(). Threads: one.
 * Bytes    Prometheus writes fixed-size numbers with the high byte first, and varints as Go does (which is
 *          what src/base/buf.h's readers read, too). */
#pragma once

#include "src/base/fs.h"

static inline uint16_t pd_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t pd_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint64_t pd_u64(const uint8_t *p)
{
    return (uint64_t)pd_u32(p) << 32 | pd_u32(p + 4);
}
/* Of a reader; 0 and bad when too few bytes are left. */
uint64_t pd_take_u64(struct reader *r);

/* Who hears of damage. What is damaged is left out, and reading goes on behind it. */
struct pd_damage {
    void (*tell)(void *ctx, const char *path, uint64_t offset, const char *what);
    void *ctx;
    uint64_t n;
    bool mute; /* a second pass over what was reported in the first */
};
void pd_tell(struct pd_damage *d, const char *path, uint64_t offset, const char *fmt, ...)
    NX_PRINTF(4, 5);

struct pd_file {
    struct fs *fs;
    struct fs_file *f;
    char *path;
    uint64_t bytes; /* its size when it was opened */
    /* a piece of it */
    uint8_t *at;
    uint64_t off;
    size_t len, cap;
};

/* `pf` is overwritten; all zero is closed. */
NX_NODISCARD nx_status pd_file_open(struct pd_file *pf, struct fs *fs, const char *dir,
                                    const char *name, struct nx_err *err);
void pd_file_close(struct pd_file *pf);
/* `len` bytes from `off` on, valid until the next call. NX_CORRUPT when the file ends before. */
NX_NODISCARD nx_status pd_file_get(struct pd_file *pf, uint64_t off, size_t len,
                                   const uint8_t **out, struct nx_err *err);
