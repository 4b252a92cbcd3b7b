#include "src/promdata/wal.h"

/* wal.c - segments of Prometheus's log, to whole records.
 *
 * SHAPE    Pages of 32 KiB hold fragments: type (low three bits: 1 whole, 2 first, 3 middle, 4 last, 0 the rest of
 *          the page is zeros; 8: snappy, 16: zstd), u16 length, CRC of the bytes. A record never crosses segments.
 * RULES    L1  A fragment that breaks a rule costs its record and the rest of its page: the next page begins
 *              with a fragment again. (Prometheus cuts everything behind such a place.)
 *          L2  On the last page of the newest segment, with nothing whole behind it, it is a torn end, which says
 *              nothing of what was there before, and no damage.
 *          L3  After a loss, middle and last fragments without a first one are passed over in silence: they are a
 *              part of what was told already. */

#include <inttypes.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "src/base/hash.h"

#define PAGE_BYTES     32768u
#define FRAGMENT_BYTES 7u /* header of one */

enum { REST, WHOLE, FIRST, MIDDLE, LAST };
#define TYPE_MASK 7u
#define SNAPPY    8u
#define ZSTD      16u

nx_status pd_wal_init(struct pd_wal *w, struct fs *fs, struct pd_damage *damage, struct nx_err *err)
{
    *w = (struct pd_wal){.fs = fs, .damage = damage, .arena = arena_new(0)};
    buf_init(&w->fragments, PD_MAX_RECORD_BYTES);
    buf_init(&w->unpacked, PD_MAX_RECORD_BYTES);
    labels_builder_init(&w->labels);
    return w->arena ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory for reading a log");
}

void pd_wal_done(struct pd_wal *w)
{
    buf_done(&w->fragments);
    buf_done(&w->unpacked);
    labels_builder_done(&w->labels);
    arena_free(w->arena);
}

/* ---- packing -------------------------------------------------------------------------------- */

static nx_status unpack_snappy(struct buf *to, const char *p, size_t len, struct nx_err *err)
{
    size_t n = 0;
    char *at;

    if (snappy_uncompressed_length(p, len, &n) != SNAPPY_OK || n > PD_MAX_RECORD_BYTES)
        return nx_fail(err, NX_CORRUPT, "a record does not unpack (snappy)");
    at = buf_reserve(to, n ? n : 1);
    if (!at)
        return buf_status(to, err);
    if (snappy_uncompress(p, len, at, &n) != SNAPPY_OK)
        return nx_fail(err, NX_CORRUPT, "a record does not unpack (snappy)");
    to->len += n;
    return NX_OK;
}

static nx_status unpack_zstd(struct buf *to, const char *p, size_t len, struct nx_err *err)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer in = {p, len, 0};
    size_t got = 1;
    nx_status st = NX_OK;

    if (!z)
        return nx_fail(err, NX_NOMEM, "out of memory for unpacking");
    while (got) {
        const size_t step = ZSTD_DStreamOutSize();
        char *at = buf_reserve(to, step);
        ZSTD_outBuffer out = {at, step, 0};
        const size_t before = in.pos;
        if (!at) {
            st = to->failed == NX_LIMIT ? nx_fail(err, NX_CORRUPT, "a record is too large (zstd)")
                                        : buf_status(to, err);
            break;
        }
        got = ZSTD_decompressStream(z, &out, &in);
        if (ZSTD_isError(got) || (got && in.pos == before && out.pos == 0)) {
            st = nx_fail(err, NX_CORRUPT, "a record does not unpack (zstd)");
            break;
        }
        to->len += out.pos;
    }
    ZSTD_freeDStream(z);
    return st;
}

static nx_status whole_record(struct pd_wal *w, uint8_t type, struct pd_visitor *v,
                              struct nx_err *err)
{
    const struct buf *rec = &w->fragments;
    nx_status st = NX_OK;

    w->records++;
    w->in_samples = false;
    if (rec->len && type & (SNAPPY | ZSTD)) {
        buf_clear(&w->unpacked);
        st = type & SNAPPY ? unpack_snappy(&w->unpacked, rec->ptr, rec->len, err)
                           : unpack_zstd(&w->unpacked, rec->ptr, rec->len, err);
        rec = &w->unpacked;
    }
    return st ? st : pd_record_read(w, (const uint8_t *)rec->ptr, rec->len, v, err);
}

/* ---- pages ---------------------------------------------------------------------------------- */

struct segment {
    struct pd_file file;
    bool newest; /* L2 */
    bool open;   /* fragments of a record were seen, but not its last */
    bool lost;   /* L3 */
    uint64_t open_at;
};

static void lose(struct pd_wal *w, struct segment *s, uint64_t at, bool last_page, const char *what)
{
    if (last_page && s->newest)
        w->torn += !w->again;
    else if (!w->again)
        pd_tell(w->damage, s->file.path, at, "%s", what);
    s->open = false;
    s->lost = true;
}

/* Takes one fragment with a right checksum. */
static nx_status take_fragment(struct pd_wal *w, struct segment *s, uint8_t type, const uint8_t *p,
                               size_t len, uint64_t at, struct pd_visitor *v, struct nx_err *err)
{
    const unsigned kind = type & TYPE_MASK;
    struct nx_err why = {0};
    nx_status st;

    if (kind > LAST) {
        lose(w, s, at, false, "a fragment of an unknown type");
        return NX_OK;
    }
    if (s->open == (kind == WHOLE || kind == FIRST)) {
        if (s->open || !s->lost)
            lose(w, s, s->open ? s->open_at : at, false, "a record is not whole");
        if (kind == MIDDLE || kind == LAST)
            return NX_OK;
    }
    if (kind == WHOLE || kind == FIRST) {
        buf_clear(&w->fragments);
        s->open_at = at;
        s->lost = false;
    }
    s->open = true;
    buf_append(&w->fragments, p, len);
    if (w->fragments.failed == NX_NOMEM)
        return buf_status(&w->fragments, err);
    if (w->fragments.failed) {
        lose(w, s, s->open_at, false, "a record is too large");
        return NX_OK;
    }
    if (kind == FIRST || kind == MIDDLE)
        return NX_OK;
    s->open = false;
    st = whole_record(w, type, v, &why);
    if (st == NX_CORRUPT) {
        if (!w->again || w->in_samples)
            pd_tell(w->damage, s->file.path, s->open_at, "%s", why.text);
        return NX_OK;
    }
    return st ? nx_fail(err, st, "%s", why.text) : NX_OK;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* What is wrong with the fragment at p, of which n bytes are left of the page; NULL: nothing. */
static const char *fragment_fault(const uint8_t *p, size_t n)
{
    size_t len;

    if ((p[0] & TYPE_MASK) == REST)
        return all_zero(p, n) ? NULL : "the rest of a page is not zeros";
    if (n < FRAGMENT_BYTES)
        return "the header of a fragment is cut";
    len = pd_u16(p + 1);
    if (len > n - FRAGMENT_BYTES)
        return "a fragment does not fit its page";
    if (crc32c(0, p + FRAGMENT_BYTES, len) != pd_u32(p + 3))
        return "the checksum of a fragment is wrong";
    return NULL;
}

/* Whether a whole fragment lies behind a faulty one: then that is no torn end. */
static bool goes_on(const uint8_t *p, size_t n)
{
    for (size_t i = 1; i + FRAGMENT_BYTES < n; i++) {
        const unsigned kind = p[i] & TYPE_MASK;
        if (kind >= WHOLE && kind <= LAST && p[i] < 32 && pd_u16(p + i + 1) &&
            !fragment_fault(p + i, n - i))
            return true;
    }
    return false;
}

static nx_status read_page(struct pd_wal *w, struct segment *s, uint64_t at, struct pd_visitor *v,
                           struct nx_err *err)
{
    const uint64_t left = s->file.bytes - at;
    const size_t n = left < PAGE_BYTES ? (size_t)left : PAGE_BYTES;
    struct nx_err why = {0};
    const uint8_t *p;
    nx_status st = pd_file_get(&s->file, at, n, &p, &why);

    if (st == NX_NOMEM)
        return nx_fail(err, st, "%s", why.text);
    if (st) {
        lose(w, s, at, false, why.text);
        return NX_OK;
    }
    for (size_t i = 0; i < n && !st;) {
        const char *fault = fragment_fault(p + i, n - i);
        if (fault) { /* L1 */
            lose(w, s, at + i, at + n == s->file.bytes && !goes_on(p + i, n - i), fault);
            break;
        }
        if ((p[i] & TYPE_MASK) == REST)
            break;
        st = take_fragment(w, s, p[i], p + i + FRAGMENT_BYTES, pd_u16(p + i + 1), at + i, v, err);
        i += FRAGMENT_BYTES + pd_u16(p + i + 1);
    }
    return st;
}

static nx_status read_segment(struct pd_wal *w, const char *dir, const char *name, bool newest,
                              struct pd_visitor *v, struct nx_err *err)
{
    struct segment s = {.newest = newest};
    struct nx_err why = {0};
    nx_status st = pd_file_open(&s.file, w->fs, dir, name, &why);

    if (st && st != NX_NOMEM && !w->again)
        pd_tell(w->damage, dir, 0, "%s", why.text);
    if (st && st != NX_NOMEM)
        return NX_OK;
    for (uint64_t at = 0; !st && at < s.file.bytes; at += PAGE_BYTES)
        st = read_page(w, &s, at, v, &why);
    if (!st && s.open)
        lose(w, &s, s.open_at, true, "the last record is not whole");
    pd_file_close(&s.file);
    return st ? nx_fail(err, st, "%s", why.text) : NX_OK;
}

bool pd_segment_number(const char *name, int64_t *number)
{
    const size_t n = strlen(name);

    if (n == 0 || n > 18 || strspn(name, "0123456789") != n)
        return false;
    *number = strtoll(name, NULL, 10);
    return true;
}

nx_status pd_wal_read(struct pd_wal *w, const char *dir, int64_t after, bool newest,
                      struct pd_visitor *v, struct nx_err *err)
{
    struct fs_names names = {0};
    struct fs_stat stat;
    nx_status st;
    size_t last = 0;
    int64_t number = 0, expected = -1;

    st = w->fs->stat(w->fs, dir, &stat, err);
    if (st)
        return st == NX_NOTFOUND ? NX_OK : st;
    st = w->fs->list(w->fs, dir, &names, err);
    for (size_t i = 0; i < names.n; i++)
        if (pd_segment_number(names.v[i], &number))
            last = i;
    for (size_t i = 0; i < names.n && !st; i++) {
        if (!pd_segment_number(names.v[i], &number) || number <= after)
            continue;
        if (expected >= 0 && number != expected && !w->again)
            pd_tell(w->damage, dir, (uint64_t)expected, "segments before %s are missing",
                    names.v[i]);
        expected = number + 1;
        st = read_segment(w, dir, names.v[i], newest && i == last, v, err);
    }
    fs_names_done(&names);
    return st;
}
