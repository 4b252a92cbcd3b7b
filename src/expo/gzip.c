/* gzip.c - compressed bodies.
 *
 * RULES   G1  The state (some 40 KiB) is made at the first body and reset for the next.
 *         G2  What comes out is bounded by the limit of `out`, however small the input: one byte more
 *             than fits ends it. */
#include "src/expo/expo.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct expo_gunzip {
    z_stream z;
    bool ready;
};

struct expo_gunzip *expo_gunzip_new(void)
{
    return calloc(1, sizeof(struct expo_gunzip));
}

void expo_gunzip_free(struct expo_gunzip *g)
{
    if (!g)
        return;
    if (g->ready)
        inflateEnd(&g->z);
    free(g);
}

static nx_status make_ready(struct expo_gunzip *g, struct nx_err *err)
{
    int rc = g->ready ? inflateReset(&g->z) : inflateInit2(&g->z, 15 + 16); /* 16: gzip header */

    if (rc != Z_OK)
        return nx_fail(err, NX_NOMEM, "out of memory");
    g->ready = true;
    return NX_OK;
}

static nx_status bad(const z_stream *z, struct nx_err *err)
{
    if (z->msg && strcmp(z->msg, "incorrect header check") == 0)
        return nx_fail(err, NX_BADINPUT, "gzip: invalid header");
    if (z->msg && strncmp(z->msg, "incorrect ", 10) == 0)
        return nx_fail(err, NX_BADINPUT, "gzip: invalid checksum");
    return nx_fail(err, NX_BADINPUT, "flate: corrupt input before offset %lu", z->total_in);
}

/* Room for more output; at least one byte beyond what is allowed is tried for, so that a body of
 * exactly the limit can end. */
static nx_status make_room(struct expo_gunzip *g, struct buf *out, struct nx_err *err)
{
    size_t want = out->cap > out->len ? out->cap - out->len : out->len + 16384;
    char *to;

    if (out->limit_bytes && out->len + want > out->limit_bytes)
        want = out->limit_bytes - out->len;
    if (want == 0)
        return nx_fail(err, NX_LIMIT, "limit of %zu bytes exceeded", out->limit_bytes);
    to = buf_reserve(out, want);
    if (!to)
        return buf_status(out, err);
    g->z.next_out = (Bytef *)to;
    g->z.avail_out = want > UINT32_MAX ? UINT32_MAX : (uInt)want;
    return NX_OK;
}

nx_status expo_gunzip_run(struct expo_gunzip *g, struct nx_slice in, struct buf *out,
                          struct nx_err *err)
{
    nx_status st = make_ready(g, err);
    int rc = Z_OK;

    if (st)
        return st;
    g->z.next_in = (Bytef *)(uintptr_t)in.ptr; /* zlib's input is not const, but is not written */
    g->z.avail_in = (uInt)in.len;
    if (in.len == 0)
        return nx_fail(err, NX_BADINPUT, "EOF");
    do {
        uInt room;
        st = make_room(g, out, err);
        if (st)
            return st;
        room = g->z.avail_out;
        rc = inflate(&g->z, Z_NO_FLUSH);
        out->len += room - g->z.avail_out;
        if (rc == Z_STREAM_END && g->z.avail_in > 0) /* members may follow one another */
            rc = inflateReset(&g->z) == Z_OK ? Z_OK : Z_MEM_ERROR;
        else if (rc == Z_BUF_ERROR || (rc == Z_OK && g->z.avail_in == 0 && g->z.avail_out > 0))
            return nx_fail(err, NX_BADINPUT, "unexpected EOF");
    } while (rc == Z_OK);
    if (rc == Z_STREAM_END)
        return NX_OK;
    return rc == Z_MEM_ERROR ? nx_fail(err, NX_NOMEM, "out of memory") : bad(&g->z, err);
}
