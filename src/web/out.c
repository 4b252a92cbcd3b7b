#include "src/web/server.h"

/* out.c - replies on their way out: plain or gzip, whole or as a stream of pieces.
 *
 * SHAPE    The thread that ran the handler also makes the first piece. If that is all, the reply goes
 *          out with its length. If not, it goes out chunked: each time libmicrohttpd has sent what
 *          there is, the connection is suspended and queued: a thread makes the next piece.
 * RULES    O1  At most about WEB_PIECE_BYTES of text and its compressed form are held at a time.
 *          O2  A stream that fails (out of memory) ends the connection, so that a cut answer is
 *              never taken for a whole one. */

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct web_out {
    bool gzip;
    z_stream z;
    struct buf packed; /* compressed piece */
    size_t sent;       /* bytes of the current piece already taken */
    bool last;         /* no piece after this one */
    bool stream, failed;
    uint64_t bytes; /* of text, before compression */
};

bool web_accepts_gzip(const char *s)
{
    while (*s) {
        s += strspn(s, " ,");
        size_t n = strcspn(s, ",");
        size_t word = n;
        while (word && s[word - 1] == ' ')
            word--;
        if (word == 4 && memcmp(s, "gzip", 4) == 0)
            return true;
        s += n;
    }
    return false;
}

static void pack(struct web_out *o, const struct buf *text)
{
    buf_clear(&o->packed);
    o->z.next_in = (unsigned char *)text->ptr;
    o->z.avail_in = (unsigned)text->len;
    do {
        char *to = buf_reserve(&o->packed, 32768);
        if (!to) {
            o->failed = true;
            return;
        }
        o->z.next_out = (unsigned char *)to;
        o->z.avail_out = 32768;
        if (deflate(&o->z, o->last ? Z_FINISH : Z_NO_FLUSH) == Z_STREAM_ERROR)
            o->failed = true;
        o->packed.len += 32768 - o->z.avail_out;
    } while (!o->z.avail_out && !o->failed);
}

/* Frees what a stream was made from, on whichever thread is done with it. */
static void fill_end(struct web_reply *p)
{
    if (p->fill_done)
        p->fill_done(p->fill_ctx);
    p->fill_done = NULL;
}

/* Fills up the body with further pieces and packs it. */
static void make_piece(struct web_req *r)
{
    struct web_out *o = r->out;
    struct web_reply *p = &r->reply;

    do {
        while (p->fill && !o->last && p->body.len < WEB_PIECE_BYTES && !p->body.failed)
            o->last = !p->fill(p->fill_ctx, &p->body);
        if (!p->fill)
            o->last = true;
        if (o->last)
            fill_end(p);
        if (p->body.failed)
            o->failed = true;
        o->bytes += p->body.len;
        o->sent = 0;
        if (!o->gzip || o->failed)
            break;
        pack(o, &p->body);
        if (!o->packed.len && !o->last)
            buf_clear(&p->body); /* the compressor kept it all: go on */
    } while (o->gzip && !o->packed.len && !o->last && !o->failed);
}

void web_out_prepare(struct web_req *r, bool gzip)
{
    struct web_out *o = calloc(1, sizeof *o);

    if (!o)
        return; /* web_out_send() closes the connection */
    r->out = o;
    buf_init(&o->packed, 0);
    if (gzip && deflateInit2(&o->z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK)
        o->gzip = true;
    make_piece(r);
    o->stream = !o->last;
}

void web_out_fill(struct web_req *r)
{
    buf_clear(&r->reply.body);
    make_piece(r);
}

static const struct buf *piece(const struct web_req *r)
{
    return r->out->gzip ? &r->out->packed : &r->reply.body;
}

/* libmicrohttpd wants more of a stream. */
static ssize_t on_more(void *cls, uint64_t pos, char *to, size_t max)
{
    struct web_req *r = cls;
    struct web_out *o = r->out;
    const struct buf *b = piece(r);
    size_t n = b->len - o->sent;

    (void)pos;
    if (o->failed)
        return MHD_CONTENT_READER_END_WITH_ERROR; /* O2 */
    if (!n && o->last)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (!n) {
        r->filling = true;
        return web_submit(r->w, r) ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
    }
    n = n < max ? n : max;
    memcpy(to, b->ptr + o->sent, n);
    o->sent += n;
    return (ssize_t)n;
}

static void add_cors(struct web_req *r, struct MHD_Response *m)
{
    const struct web_ctx *ctx = web_ctx(r->w);
    const char *origin = MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, "Origin");

    MHD_add_response_header(m, "Vary", "Origin");
    if (!origin)
        return;
    MHD_add_response_header(m, "Access-Control-Allow-Headers",
                            "Accept, Authorization, Content-Type, Origin");
    MHD_add_response_header(m, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    MHD_add_response_header(m, "Access-Control-Expose-Headers", "Date");
    if (!ctx->cors)
        MHD_add_response_header(m, "Access-Control-Allow-Origin", "*");
    else if (regex_match(ctx->cors, nx_slice_str(origin)))
        MHD_add_response_header(m, "Access-Control-Allow-Origin", origin);
}

static void add_headers(struct web_req *r, struct MHD_Response *m)
{
    const struct web_reply *p = &r->reply;

    if (p->content_type)
        MHD_add_response_header(m, MHD_HTTP_HEADER_CONTENT_TYPE, p->content_type);
    if (r->wrap & WEB_CORS)
        add_cors(r, m);
    if (r->wrap & WEB_COMPRESS)
        MHD_add_response_header(m, "Vary", "Accept-Encoding");
    if (r->out->gzip)
        MHD_add_response_header(m, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip");
    if (p->location)
        MHD_add_response_header(m, MHD_HTTP_HEADER_LOCATION, p->location);
    if (p->allow)
        MHD_add_response_header(m, MHD_HTTP_HEADER_ALLOW, p->allow);
    if (p->stopping)
        MHD_add_response_header(m, "X-Prometheus-Stopping", p->stopping);
    if (p->nosniff)
        MHD_add_response_header(m, "X-Content-Type-Options", "nosniff");
    if (p->close)
        MHD_add_response_header(m, MHD_HTTP_HEADER_CONNECTION, "close");
}

enum MHD_Result web_out_send(struct web_req *r)
{
    struct MHD_Response *m;
    const struct buf *b;

    if (!r->out || r->out->failed)
        return MHD_NO;
    b = piece(r);
    if (r->out->stream)
        m = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 32768, on_more, r, NULL);
    else /* the request outlives the response: it is freed when that is completed */
        m = MHD_create_response_from_buffer(b->len, b->ptr, MHD_RESPMEM_PERSISTENT);
    if (!m)
        return MHD_NO;
    add_headers(r, m);
    enum MHD_Result res = MHD_queue_response(r->conn, r->reply.status, m);
    MHD_destroy_response(m);
    return res;
}

uint64_t web_out_bytes(const struct web_req *r)
{
    return r->out ? r->out->bytes : 0;
}

void web_out_free(struct web_req *r)
{
    struct web_out *o = r->out;

    fill_end(&r->reply);
    if (!o)
        return;
    if (o->gzip)
        deflateEnd(&o->z);
    buf_done(&o->packed);
    free(o);
    r->out = NULL;
}
