#include "src/cli/tsdb.h"

/* tsdb_out.c - text to standard output or a file, through gzip if that is wanted.
 *
 * Text is gathered and handed on in pieces; the first failure (a full disk, a reader that went away)
 * is kept and ends the command. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define PIECE_BYTES (64u << 10)

struct tsdb_out {
    FILE *to;
    const char *name; /* borrowed */
    struct buf text;
    bool gzip;
    z_stream z;
    unsigned char packed[PIECE_BYTES];
};

static nx_status failed(const struct tsdb_out *o, struct nx_err *err)
{
    return nx_fail_errno(err, errno, "write %s", o->name);
}

nx_status tsdb_out_open(struct tsdb_out **out, const char *path, bool gzip, struct nx_err *err)
{
    struct tsdb_out *o = calloc(1, sizeof *o);
    nx_status st = NX_OK;

    if (!o)
        return nx_fail(err, NX_NOMEM, "out of memory");
    o->name = path ? path : "/dev/stdout";
    buf_init(&o->text, 0);
    o->to = path ? fopen(path, "wbe") : stdout;
    if (!o->to)
        st = nx_fail_errno(err, errno, "open %s", path);
    /* 16: a header and trailer of gzip's */
    if (!st && gzip &&
        deflateInit2(&o->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) !=
            Z_OK)
        st = nx_fail(err, NX_NOMEM, "out of memory");
    else
        o->gzip = !st && gzip;
    if (st) {
        tsdb_out_close(o);
        return st;
    }
    *out = o;
    return NX_OK;
}

struct buf *tsdb_out_text(struct tsdb_out *o)
{
    return &o->text;
}

static nx_status pack(struct tsdb_out *o, int flush, struct nx_err *err)
{
    o->z.next_in = (unsigned char *)o->text.ptr;
    o->z.avail_in = (unsigned)o->text.len;
    do {
        size_t n;
        o->z.next_out = o->packed;
        o->z.avail_out = sizeof o->packed;
        (void)deflate(&o->z, flush); /* with room and a good state it can't fail */
        n = sizeof o->packed - o->z.avail_out;
        if (n && fwrite(o->packed, 1, n, o->to) != n)
            return failed(o, err);
    } while (o->z.avail_out == 0);
    return NX_OK;
}

static nx_status spill(struct tsdb_out *o, int flush, struct nx_err *err)
{
    nx_status st = buf_status(&o->text, err);

    if (!st && o->gzip)
        st = pack(o, flush, err);
    else if (!st && o->text.len && fwrite(o->text.ptr, 1, o->text.len, o->to) != o->text.len)
        st = failed(o, err);
    buf_clear(&o->text);
    return st;
}

nx_status tsdb_out_spill(struct tsdb_out *o, struct nx_err *err)
{
    return o->text.len < PIECE_BYTES && !o->text.failed ? NX_OK : spill(o, Z_NO_FLUSH, err);
}

nx_status tsdb_out_finish(struct tsdb_out *o, struct nx_err *err)
{
    nx_status st = spill(o, Z_FINISH, err);

    if (!st && fflush(o->to))
        st = failed(o, err);
    if (!st && o->to != stdout) {
        if (fsync(fileno(o->to)) && errno != EINVAL && errno != EROFS) /* pipes, devices */
            st = failed(o, err);
        if (fclose(o->to) && !st)
            st = failed(o, err);
        o->to = NULL;
    }
    return st;
}

void tsdb_out_close(struct tsdb_out *o)
{
    if (!o)
        return;
    if (o->to && o->to != stdout)
        fclose(o->to);
    if (o->gzip)
        deflateEnd(&o->z);
    buf_done(&o->text);
    free(o);
}
