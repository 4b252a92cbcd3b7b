#include "src/promdata/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* file.c - reads ahead where reading goes on, and little where it jumps. */

#define AHEAD_BYTES (256u << 10)
#define JUMP_BYTES  (16u << 10)

uint64_t pd_take_u64(struct reader *r)
{
    const struct nx_slice s = reader_bytes(r, 8);

    return r->bad ? 0 : pd_u64((const uint8_t *)s.ptr);
}

void pd_tell(struct pd_damage *d, const char *path, uint64_t offset, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    if (d->mute)
        return;
    d->n++;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (d->tell)
        d->tell(d->ctx, path, offset, text);
}

nx_status pd_file_open(struct pd_file *pf, struct fs *fs, const char *dir, const char *name,
                       struct nx_err *err)
{
    nx_status st;

    *pf = (struct pd_file){.fs = fs};
    if (asprintf(&pf->path, "%s/%s", dir, name) < 0) {
        pf->path = NULL;
        return nx_fail(err, NX_NOMEM, "out of memory for reading %s", dir);
    }
    st = fs->open(fs, pf->path, FS_READ, &pf->f, err);
    if (!st)
        st = fs->size(fs, pf->f, &pf->bytes, err);
    if (st)
        pd_file_close(pf);
    return st;
}

void pd_file_close(struct pd_file *pf)
{
    if (pf->fs)
        pf->fs->close(pf->fs, pf->f);
    free(pf->path);
    free(pf->at);
    *pf = (struct pd_file){0};
}

nx_status pd_file_get(struct pd_file *pf, uint64_t off, size_t len, const uint8_t **out,
                      struct nx_err *err)
{
    const bool on = off >= pf->off && off <= pf->off + pf->len;
    size_t want = len > (on ? AHEAD_BYTES : JUMP_BYTES) ? len : on ? AHEAD_BYTES : JUMP_BYTES;
    size_t got = 0;
    nx_status st;

    if (off > pf->bytes || len > pf->bytes - off)
        return nx_fail(err, NX_CORRUPT, "the file ends at %" PRIu64 ", before %" PRIu64 " + %zu",
                       pf->bytes, off, len);
    if (on && len <= pf->off + pf->len - off) {
        *out = pf->at + (off - pf->off);
        return NX_OK;
    }
    if (want > pf->bytes - off)
        want = (size_t)(pf->bytes - off);
    if (pf->cap < want || !pf->at) {
        uint8_t *p = realloc(pf->at, want + 1);
        if (!p)
            return nx_fail(err, NX_NOMEM, "out of memory for reading %s", pf->path);
        pf->at = p;
        pf->cap = want;
    }
    pf->len = 0;
    st = pf->fs->pread(pf->fs, pf->f, pf->at, want, off, &got, err);
    if (st)
        return st;
    pf->off = off;
    pf->len = got;
    if (got < len)
        return nx_fail(err, NX_CORRUPT, "the file was cut at %" PRIu64, off + got);
    *out = pf->at;
    return NX_OK;
}
