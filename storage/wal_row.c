/* wal_row.c - one row of values as bytes, told by what changed since the row before.
 *
 * SHAPE   Two bits per column, four columns to a byte, lowest first; then the data of the columns in
 *         turn:
 *           0  the same bits as before: no data
 *           1  an integer: zigzag varint of the difference to the one before
 *           2  anything else; a byte says what:
 *                1..15         a decimal with that many digits after the point: zigzag varint of the
 *                              difference, both scaled to integers
 *                128 | l<<3|t  XOR with the bits before, without its l leading and t trailing zero
 *                              bytes (each at most 7): 8 - l - t bytes, least significant first
 *           3  absent
 * RULES   R1  What a value is told against is computed by the same function on both sides, so it need
 *             not be exact; the value itself is checked to come out to the bit before it is coded so.
 *         R2  A value before that is absent, not finite or too large to scale counts as 0.
 * NOT     A choice per column kept in the log: a hint in memory finds the same digits again, and the
 *         bytes say what they are. */
#include "storage/wal_row.h"

#include <math.h>
#include <string.h>

#include "storage/bits.h"
#include "storage/chunk.h"

#define EXACT        9007199254740992.0 /* 2^53 */
#define MAX_DIGITS   15
#define SEARCH_UP_TO 9   /* more digits are found only by chance and cost as much as XOR */
#define HINT_RAW     128 /* above: the number of values to go before digits are tried again */
#define HINT_REST    32
#define VALUE_MAX    11 /* bytes of data of one value */

enum tag { TAG_SAME, TAG_INTEGER, TAG_OTHER, TAG_ABSENT };

static const double pow10s[MAX_DIGITS + 1] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                              1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

/* R1, R2 */
static int64_t scaled(double v, unsigned digits)
{
    double x = v * pow10s[digits];

    if (!(fabs(x) < EXACT))
        return 0; /* also NaN, absent ones with it */
    return (int64_t)(x < 0 ? x - 0.5 : x + 0.5);
}

static uint8_t *put_uvarint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static bool get_uvarint(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (*p == end)
            return false;
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* ---- writing --------------------------------------------------------------------------------- */

static bool is_decimal(double v, unsigned digits)
{
    double x = v * pow10s[digits];

    if (!(fabs(x) < EXACT))
        return false;
    return num_bits((double)scaled(v, digits) / pow10s[digits]) == num_bits(v);
}

/* The digits that v has after its point, 0 if it is no decimal worth coding as one. */
static unsigned find_digits(double v, uint8_t *hint)
{
    if (*hint >= HINT_RAW) {
        *hint = *hint == HINT_RAW ? 0 : (uint8_t)(*hint - 1);
        return 0;
    }
    if (*hint && is_decimal(v, *hint))
        return *hint;
    for (unsigned d = 1; d <= SEARCH_UP_TO; d++) {
        if (is_decimal(v, d)) {
            if (d > *hint) /* fewer digits may just end in 0 */
                *hint = (uint8_t)d;
            return d;
        }
    }
    *hint = HINT_RAW + HINT_REST;
    return 0;
}

static uint8_t *put_xor(uint8_t *p, uint64_t x)
{
    unsigned lead = (unsigned)__builtin_clzll(x) / 8, trail = (unsigned)__builtin_ctzll(x) / 8;

    *p++ = (uint8_t)(0x80 | lead << 3 | trail);
    x >>= 8 * trail;
    for (unsigned n = 8 - lead - trail; n; n--, x >>= 8)
        *p++ = (uint8_t)x;
    return p;
}

static enum tag put_value(uint8_t **to, double v, double prev, uint8_t *hint)
{
    uint8_t *p = *to;
    unsigned digits;
    uint64_t zz, x = num_bits(v) ^ num_bits(prev);

    if (chunk_is_absent(v))
        return TAG_ABSENT;
    if (fabs(v) < EXACT && num_bits((double)(int64_t)v) == num_bits(v)) {
        *to = put_uvarint(p, zigzag((int64_t)v - scaled(prev, 0)));
        return TAG_INTEGER;
    }
    digits = find_digits(v, hint);
    if (digits) {
        zz = zigzag(scaled(v, digits) - scaled(prev, digits));
        if (zz < (1ull << 42)) { /* at most six bytes: less than XOR would need */
            *p++ = (uint8_t)digits;
            *to = put_uvarint(p, zz);
            return TAG_OTHER;
        }
    }
    *to = put_xor(p, x);
    return TAG_OTHER;
}

void wal_row_encode(struct buf *to, const double *v, size_t n, const double *prev, size_t n_prev,
                    uint8_t *hints)
{
    size_t n_tags = (n + 3) / 4;
    char *room = buf_reserve(to, n_tags + n * VALUE_MAX);
    uint8_t *tags = (uint8_t *)room, *p = tags + n_tags;

    if (!room)
        return;
    for (size_t i = 0; i < n; i += 4) {
        unsigned byte = 0;
        for (size_t j = i; j < i + 4 && j < n; j++) {
            double before = j < n_prev ? prev[j] : chunk_absent();
            if (num_bits(v[j]) != num_bits(before))
                byte |= (unsigned)put_value(&p, v[j], before, &hints[j]) << 2 * (j - i);
        }
        tags[i / 4] = (uint8_t)byte;
    }
    to->len += (size_t)((char *)p - room);
}

/* The number of bytes of tags up to the last that is not 0, those bytes, the data. */
void wal_row_encode_column(struct buf *to, const double *v, size_t n, unsigned digits)
{
    size_t n_tags = (n + 3) / 4, used = 0;
    char *room = buf_reserve(to, 1 + n_tags + n * VALUE_MAX);
    uint8_t *tags = (uint8_t *)room + 1, *data = tags + n_tags, *p = data;
    uint8_t hint = (uint8_t)(digits <= SEARCH_UP_TO ? digits : HINT_RAW + HINT_REST);
    double before = chunk_absent();

    NX_ASSERT(n <= WAL_ROW_COLUMN_MAX);
    if (!room)
        return;
    memset(tags, 0, n_tags);
    for (size_t i = 0; i < n; i++) {
        if (num_bits(v[i]) != num_bits(before)) {
            tags[i / 4] |= (uint8_t)(put_value(&p, v[i], before, &hint) << 2 * (i % 4));
            used = i / 4 + 1;
        }
        before = v[i];
    }
    room[0] = (char)used;
    if (used < n_tags)
        memmove(tags + used, data, (size_t)(p - data));
    to->len += 1 + used + (size_t)(p - data);
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool get_other(const uint8_t **p, const uint8_t *end, double prev, double *out)
{
    uint64_t z, x = 0;
    uint8_t what;
    unsigned lead, trail, n;

    if (*p == end)
        return false;
    what = *(*p)++;
    if (what >= 1 && what <= MAX_DIGITS) {
        if (!get_uvarint(p, end, &z))
            return false;
        z = unzigzag(z) + (uint64_t)scaled(prev, what);
        *out = (double)(int64_t)z / pow10s[what];
        return true;
    }
    lead = what >> 3 & 7;
    trail = what & 7;
    if ((what & 0xc0) != 0x80 || lead + trail > 7)
        return false;
    n = 8 - lead - trail;
    if ((size_t)(end - *p) < n)
        return false;
    for (unsigned i = 0; i < n; i++)
        x |= (uint64_t) * (*p)++ << 8 * (i + trail);
    *out = num_from_bits(num_bits(prev) ^ x);
    return true;
}

static inline bool get_value(enum tag tag, const uint8_t **p, const uint8_t *end, double before,
                             double *out)
{
    uint64_t z;

    switch (tag) {
    case TAG_SAME:
        *out = before;
        return true;
    case TAG_INTEGER:
        if (!get_uvarint(p, end, &z))
            return false;
        z = unzigzag(z) + (uint64_t)scaled(before, 0);
        *out = (double)(int64_t)z;
        return true;
    case TAG_OTHER:
        return get_other(p, end, before, out);
    default:
        *out = chunk_absent();
        return true;
    }
}

static enum tag tag_at(const uint8_t *tags, size_t i)
{
    return (enum tag)(tags[i / 4] >> 2 * (i % 4) & 3);
}

bool wal_row_decode(struct reader *r, double *v, size_t n, const double *prev, size_t n_prev)
{
    struct nx_slice tag_bytes = reader_bytes(r, (n + 3) / 4);
    const uint8_t *tags = (const uint8_t *)tag_bytes.ptr, *p = r->ptr, *end = r->end;

    if (r->bad)
        return false;
    for (size_t i = 0; i < n; i++) {
        double before = i < n_prev ? prev[i] : chunk_absent();
        if (!get_value(tag_at(tags, i), &p, end, before, &v[i]))
            return false;
    }
    r->ptr = p;
    return true;
}

/* What the value before is in a column. */
struct before {
    double v;
    int64_t whole; /* scaled(v, 0), if it is known */
    bool known;
};

/* An integer is mostly told against one, of which scaled() need not be asked. */
static inline bool get_integer(const uint8_t **p, const uint8_t *end, struct before *b)
{
    uint64_t z;

    const uint8_t *at = *p;

    if (at < end && *at < 0x80)
        z = *at++;
    else if (!get_uvarint(&at, end, &z))
        return false;
    *p = at;
    if (!b->known)
        b->whole = scaled(b->v, 0);
    b->whole = (int64_t)((uint64_t)unzigzag(z) + (uint64_t)b->whole);
    b->v = (double)b->whole;
    b->known = fabs(b->v) < EXACT / 4; /* beyond, scaled() rounds */
    return true;
}

bool wal_row_decode_column(struct nx_slice bytes, double *v, size_t n)
{
    const uint8_t *tags = (const uint8_t *)bytes.ptr + 1, *end = tags - 1 + bytes.len, *p;
    struct before b = {.v = chunk_absent(), .known = true};
    size_t used, told;

    if (bytes.len == 0)
        return false;
    used = tags[-1];
    if (used > (n + 3) / 4 || used > bytes.len - 1)
        return false;
    p = tags + used;
    told = used * 4 < n ? used * 4 : n;
    for (size_t i = 0; i < told; i++) {
        const enum tag tag = tag_at(tags, i);

        if (tag == TAG_INTEGER) {
            if (!get_integer(&p, end, &b))
                return false;
        } else if (tag != TAG_SAME) {
            const uint8_t *at = p; /* p and b stay in registers */
            double other;

            if (!get_value(tag, &at, end, b.v, &other))
                return false;
            p = at;
            b = (struct before){.v = other};
        }
        v[i] = b.v;
    }
    for (size_t i = told; i < n; i++)
        v[i] = b.v;
    return p == end;
}
