/* head_chunks.c - the chunks that Prometheus's head has written out.
 *
 * SHAPE    A header of 8 bytes; then per chunk u64 series, i64 first and last time, encoding (128 added: out of
 *          order), uvarint length, bytes, CRC of all that. Zeros to the end of the file.
 * RULES    H1  Two chunks in a row that break a rule end a file: there is no place to begin again.
 *          H2  In the newest file, a chunk that the file ends in was being written: the log has its samples. */
#include "src/promdata/wal.h"

#include <stdlib.h>

#include "src/base/hash.h"

#define MAGIC        0x0130bc91u
#define HEADER_BYTES 8u
#define FIXED_BYTES  25u
#define OUT_OF_ORDER 128u

/* The chunk at `at`. *next: where the one behind it begins, 0 if that can't be told. *end: none is here. */
static nx_status one_chunk(struct pd_file *f, uint64_t at, struct pd_head_chunk *c, uint64_t *next,
                           bool *end, bool *cut, struct nx_err *err)
{
    const uint64_t left = f->bytes - at;
    const size_t n = left < FIXED_BYTES + 10 ? (size_t)left : FIXED_BYTES + 10;
    const uint8_t *p;
    struct reader r;
    uint64_t len;
    size_t head;
    nx_status st = pd_file_get(f, at, n, &p, err);

    *next = 0;
    if (st)
        return st;
    for (head = 0; head < n && head < 24 && p[head] == 0;)
        head++;
    *end = head == n || head == 24; /* a series has a number, and 0 is none */
    if (*end)
        return NX_OK;
    *cut = true;
    if (n <= FIXED_BYTES)
        return nx_fail(err, NX_CORRUPT, "the file ends within a chunk");
    r = reader_of(p + FIXED_BYTES, n - FIXED_BYTES);
    len = reader_uvarint(&r);
    head = (size_t)(r.ptr - p);
    if (r.bad || len > left || head + len + 4 > left)
        return nx_fail(err, NX_CORRUPT, "the file ends within a chunk");
    *cut = false;
    *next = at + head + len + 4;
    st = pd_file_get(f, at, head + (size_t)len + 4, &p, err);
    if (st)
        return st;
    if (crc32c(0, p, head + (size_t)len) != pd_u32(p + head + len))
        return nx_fail(err, NX_CORRUPT, "the checksum of a chunk is wrong");
    *c = (struct pd_head_chunk){.ref = pd_u64(p),
                                .min_ms = (int64_t)pd_u64(p + 8),
                                .max_ms = (int64_t)pd_u64(p + 16),
                                .encoding = p[24] & (OUT_OF_ORDER - 1),
                                .out_of_order = p[24] & OUT_OF_ORDER,
                                .bytes = p + head,
                                .len = (size_t)len,
                                .path = f->path,
                                .at = at};
    return NX_OK;
}

static nx_status read_file(struct pd_file *f, bool newest, struct pd_damage *damage,
                           pd_head_chunk_fn *visit, void *ctx, struct nx_err *err)
{
    struct nx_err why = {0};
    const uint8_t *p;
    bool bad = false;
    nx_status st;

    if (f->bytes < HEADER_BYTES) { /* made, and nothing written yet */
        if (f->bytes && !newest)
            pd_tell(damage, f->path, 0, "the file is too short");
        return NX_OK;
    }
    st = pd_file_get(f, 0, HEADER_BYTES, &p, &why);
    if (st == NX_NOMEM)
        return nx_fail(err, st, "%s", why.text);
    if (st) {
        pd_tell(damage, f->path, 0, "%s", why.text);
        return NX_OK;
    }
    if (pd_u32(p) == 0 && newest)
        return NX_OK;
    if (pd_u32(p) != MAGIC || p[4] != 1) {
        pd_tell(damage, f->path, 0, "this is not a file of the head's chunks, version 1");
        return NX_OK;
    }
    for (uint64_t at = HEADER_BYTES, next = 0; at < f->bytes; at = next) {
        struct pd_head_chunk c;
        bool end = false, cut = false;

        st = one_chunk(f, at, &c, &next, &end, &cut, &why);
        if (st == NX_NOMEM)
            return nx_fail(err, st, "%s", why.text);
        if (end)
            break;
        if (st) {
            if (!(cut && newest)) /* H2 */
                pd_tell(damage, f->path, at, "%s", why.text);
            if (bad || !next) /* H1 */
                break;
            bad = true;
            continue;
        }
        bad = false;
        st = visit(ctx, &c, err);
        if (st)
            return st;
    }
    return NX_OK;
}

nx_status pd_head_chunks_read(struct fs *fs, const char *dir, struct pd_damage *damage,
                              pd_head_chunk_fn *visit, void *ctx, struct nx_err *err)
{
    struct fs_names names = {0};
    struct fs_stat stat;
    int64_t number;
    size_t last = 0;
    nx_status st;

    st = fs->stat(fs, dir, &stat, err);
    if (st)
        return st == NX_NOTFOUND ? NX_OK : st;
    st = fs->list(fs, dir, &names, err);
    for (size_t i = 0; i < names.n; i++)
        if (pd_segment_number(names.v[i], &number))
            last = i;
    for (size_t i = 0; i < names.n && !st; i++) {
        struct pd_file f = {0};
        struct nx_err why = {0};

        if (!pd_segment_number(names.v[i], &number))
            continue;
        st = pd_file_open(&f, fs, dir, names.v[i], &why);
        if (st && st != NX_NOMEM) {
            pd_tell(damage, dir, (uint64_t)number, "%s", why.text);
            st = NX_OK;
            continue;
        }
        st = st ? nx_fail(err, st, "%s", why.text)
                : read_file(&f, i == last, damage, visit, ctx, err);
        pd_file_close(&f);
    }
    fs_names_done(&names);
    return st;
}
