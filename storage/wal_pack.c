/* wal_pack.c - the rows of a group one after the other, as bits.
 *
 * WHY     The log is most of what is written while samples come in. Half of all columns hardly ever
 *         change, nearly all others change with every row, by differences that take as many bits as the
 *         last ones did.
 * SHAPE   A state is 4 bits of history, 6 bits of width, 4 bits of digits. History 1 is a *quiet* column,
 *         15 a *busy* one. First come the quiet columns that changed: their number, and the gaps between
 *         them. Then bits, the lowest of each byte first: for each column that is neither quiet nor busy
 *         one that says whether it changed; and behind it, as for all busy and all listed ones, a value:
 *           0    a difference of `width` bits; in a raw column an XOR
 *           10   a difference of `width` + WIDER bits
 *           11   and three bits: another width, other digits, an XOR, absent, or the same as before
 *         Differences are of integers, the values times 10^digits, in zigzag.
 * RULES   P1  Both sides move a state on by the same function of what was written.
 *         P2  What a value is told against is computed by the same function on both sides, so it need
 *             not be exact; the value itself is checked to come out to the bit before it is coded so.
 *         P3  A column of digits RAW is tried for digits again only after as many values as its width
 *             says, since the trial costs more than all else.
 * NOT     LZ4 over it: these bits have nothing left to find. */
#include "storage/wal_pack.h"

#include <endian.h>
#include <math.h>
#include <string.h>

#include "storage/bits.h"
#include "storage/chunk.h"

#define EXACT         9007199254740992.0 /* 2^53 */
#define RAW           15u                /* digits of a column that is coded by XOR */
#define MOST_TRY      9u                 /* more digits are found only by chance */
#define RAW_REST      32u
#define WIDER         3u
#define AT_MOST_ABOVE 4u
#define MOST_BITS     80u /* of one value, and its flag */

enum history { NEW, QUIET, BUSY = 15, AFTER_NEW = 8, AFTER_QUIET = 5, AFTER_BUSY = 12 };
#define FIRST_WIDTH 8u

enum kind { KIND_WIDTH, KIND_DIGITS, KIND_XOR, KIND_ABSENT, KIND_SAME };

static const double pow10s[RAW] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6, 1e7,
                                   1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14};

/* ---- states ------------------------------------------------------------------------------------ */

struct column {
    unsigned history, width, digits;
};

static inline struct column load(wal_pack_state s)
{
    if (s == 0)
        return (struct column){AFTER_NEW, FIRST_WIDTH, 0};
    return (struct column){s & 15u, s >> 4 & 63u, wal_pack_digits(s)};
}

static inline wal_pack_state keep(struct column c)
{
    return (wal_pack_state)(c.history | c.width << 4 | c.digits << 10);
}

static inline unsigned after_change(unsigned history)
{
    return history == QUIET ? AFTER_QUIET : history < BUSY ? history + 1 : BUSY;
}

static inline unsigned after_same(unsigned history)
{
    return history == BUSY ? AFTER_BUSY : history > QUIET ? history - 1 : QUIET;
}

/* Down in small steps, as a small difference is mostly chance; but not from what a first value took. */
static inline unsigned next_width(unsigned width, unsigned bits)
{
    return bits + 1 >= width              ? bits
           : bits + AT_MOST_ABOVE < width ? bits + AT_MOST_ABOVE
                                          : width - 1;
}

static inline unsigned rest_of_raw(struct column c)
{
    return c.digits == RAW && c.width ? c.width - 1 : RAW_REST;
}

/* ---- numbers ----------------------------------------------------------------------------------- */

/* P2 */
static inline int64_t scaled(double v, unsigned digits)
{
    double x = v * pow10s[digits];

    if (!(fabs(x) < EXACT))
        return 0; /* also NaN, absent ones with it */
    return (int64_t)(x < 0 ? x - 0.5 : x + 0.5);
}

static inline double unscaled(uint64_t q, unsigned digits)
{
    return (double)(int64_t)q / pow10s[digits];
}

/* Is v the decimal *q / 10^digits to the bit? */
static inline bool exact(double v, unsigned digits, int64_t *q)
{
    if (digits == 0 && fabs(v) < EXACT) { /* most: spare the division */
        *q = (int64_t)v;
        return num_bits((double)*q) == num_bits(v);
    }
    *q = scaled(v, digits);
    return fabs(v * pow10s[digits]) < EXACT &&
           num_bits(unscaled((uint64_t)*q, digits)) == num_bits(v);
}

/* ---- writing ----------------------------------------------------------------------------------- */

struct bit_writer {
    uint8_t *p;
    uint64_t held;
    unsigned n; /* bits held, below 64 */
};

/* n is 1 to 63, and v is not wider. */
static inline void put(struct bit_writer *w, uint64_t v, unsigned n)
{
    w->held |= v << w->n;
    w->n += n;
    if (w->n >= 64) {
        uint64_t le = htole64(w->held);
        memcpy(w->p, &le, sizeof le);
        w->p += sizeof le;
        w->n -= 64;
        w->held = w->n ? v >> (n - w->n) : 0;
    }
}

static uint8_t *put_rest(struct bit_writer *w)
{
    for (; w->n; w->n -= w->n < 8 ? w->n : 8, w->held >>= 8)
        *w->p++ = (uint8_t)w->held;
    return w->p;
}

static void put_kind(struct bit_writer *w, enum kind k)
{
    put(w, 3u | (unsigned)k << 2, 5);
}

/* 6 bits for one less than the width, and so many bits. */
static void put_wide(struct bit_writer *w, uint64_t z)
{
    unsigned bits = z ? bit_width(z) : 1;

    put(w, bits - 1, 6);
    put(w, z, bits);
}

static void put_xor(struct bit_writer *w, uint64_t x)
{
    unsigned lead = (unsigned)__builtin_clzll(x) / 8, trail = (unsigned)__builtin_ctzll(x) / 8;
    unsigned bits = 64 - 8 * (lead + trail);

    put(w, lead | trail << 3, 6);
    x >>= 8 * trail;
    if (bits > 32) {
        put(w, x & 0xffffffffu, 32);
        x >>= 32;
        bits -= 32;
    }
    put(w, x, bits);
}

static unsigned find_digits(double v, int64_t *q)
{
    for (unsigned d = 0; d <= MOST_TRY; d++)
        if (exact(v, d, q))
            return d;
    return RAW;
}

/* A value that its column's digits do not hold. */
static void put_other(struct bit_writer *w, double v, double before, struct column *c)
{
    int64_t q = 0;
    unsigned digits = c->digits == RAW && c->width ? RAW : find_digits(v, &q); /* P3 */

    if (digits != RAW) {
        uint64_t z = zigzag(q - scaled(before, digits));
        put_kind(w, KIND_DIGITS);
        put(w, digits, 4);
        put_wide(w, z);
        c->digits = digits;
        c->width = bit_width(z);
        return;
    }
    if (c->digits == RAW)
        put(w, 0, 1);
    else
        put_kind(w, KIND_XOR);
    put_xor(w, num_bits(v) ^ num_bits(before));
    c->width = rest_of_raw(*c);
    c->digits = RAW;
}

static inline void put_value(struct bit_writer *w, double v, double before, struct column *c)
{
    uint64_t z;
    int64_t q;
    unsigned bits;

    if (chunk_is_absent(v)) {
        put_kind(w, KIND_ABSENT);
        return;
    }
    if (c->digits == RAW || !exact(v, c->digits, &q)) {
        put_other(w, v, before, c);
        return;
    }
    z = zigzag(q - scaled(before, c->digits));
    bits = bit_width(z);
    if (bits <= c->width) {
        put(w, z << 1, c->width + 1);
    } else if (bits <= c->width + WIDER) {
        put(w, 1 | z << 2, c->width + WIDER + 2);
    } else {
        put_kind(w, KIND_WIDTH);
        put_wide(w, z);
    }
    c->width = next_width(c->width, bits);
}

static inline bool same(double a, double b)
{
    return num_bits(a) == num_bits(b);
}

static inline double at(const double *v, size_t n, size_t i)
{
    return i < n ? v[i] : chunk_absent();
}

/* Columns are looked at by so many, a bit for each. */
#define BLOCK 64u

struct row_pair {
    const double *v, *prev;
    size_t n, n_prev;
    const wal_pack_state *state;
};

/* Which of the columns from `from` on changed, and which are quiet. */
static inline void look(const struct row_pair *r, size_t from, uint64_t *changed, uint64_t *quiet)
{
    size_t n = r->n - from < BLOCK ? r->n - from : BLOCK;
    uint64_t c = 0, q = 0;

    if (from + n <= r->n_prev) {
        for (size_t i = 0; i < n; i++)
            c |= (uint64_t)!same(r->v[from + i], r->prev[from + i]) << i;
    } else {
        for (size_t i = 0; i < n; i++)
            c |= (uint64_t)!same(r->v[from + i], at(r->prev, r->n_prev, from + i)) << i;
    }
    for (size_t i = 0; i < n; i++)
        q |= (uint64_t)((r->state[from + i] & 15) == QUIET) << i;
    *changed = c;
    *quiet = q;
}

/* The number of quiet columns that changed, and the gaps between them. */
static void list_changed(struct buf *to, const struct row_pair *r)
{
    size_t start = to->len, len, count = 0, last = 0;
    char number[10];
    struct buf head = {number, 0, sizeof number, 0, NX_OK};

    buf_u8(to, 0); /* where the number goes, as long as it is small */
    for (size_t from = 0; from < r->n; from += BLOCK) {
        uint64_t changed, quiet;
        look(r, from, &changed, &quiet);
        for (uint64_t left = changed & quiet; left; left &= left - 1) {
            size_t i = from + (unsigned)__builtin_ctzll(left);
            buf_uvarint(to, i - last);
            last = i;
            count++;
        }
    }
    buf_uvarint(&head, count);
    len = to->len - start - 1;
    if (!buf_reserve(to, sizeof number))
        return;
    memmove(to->ptr + start + head.len, to->ptr + start + 1, len);
    memcpy(to->ptr + start, number, head.len);
    to->len += head.len - 1;
}

static inline wal_pack_state put_column(struct bit_writer *w, double v, double before,
                                        wal_pack_state state)
{
    bool still = same(v, before);
    struct column c = load(state);

    if (c.history != QUIET && c.history != BUSY)
        put(w, !still, 1);
    if (still && c.history == BUSY)
        put_kind(w, KIND_SAME);
    if (!still)
        put_value(w, v, before, &c);
    c.history = still ? after_same(c.history) : after_change(c.history);
    return keep(c);
}

void wal_pack_encode(struct buf *to, const double *v, size_t n, const double *prev, size_t n_prev,
                     wal_pack_state *state)
{
    const struct row_pair r = {v, prev, n, n_prev, state};
    struct bit_writer w = {0};
    char *room;

    list_changed(to, &r);
    room = buf_reserve(to, n * (MOST_BITS / 8) + 16);
    if (!room)
        return;
    w.p = (uint8_t *)room;
    for (size_t from = 0; from < n; from += BLOCK) {
        size_t most = n - from < BLOCK ? n - from : BLOCK;
        uint64_t changed, quiet, left;
        look(&r, from, &changed, &quiet);
        left = ~quiet | changed; /* of a column that is quiet and stays so there is nothing */
        if (most < BLOCK)
            left &= (UINT64_C(1) << most) - 1;
        for (; left; left &= left - 1) {
            size_t i = from + (unsigned)__builtin_ctzll(left);
            state[i] = put_column(&w, v[i], at(prev, n_prev, i), state[i]);
        }
    }
    to->len += (size_t)((char *)put_rest(&w) - room);
}

/* ---- reading ----------------------------------------------------------------------------------- */

static double get_xor(struct bit_reader *r, double before, struct column *c)
{
    unsigned head = (unsigned)bits_get(r, 6), lead = head & 7, trail = head >> 3;

    if (lead + trail > 7) {
        r->bad = true;
        return before;
    }
    c->width = rest_of_raw(*c);
    c->digits = RAW;
    return num_from_bits(num_bits(before) ^ bits_get_long(r, 64 - 8 * (lead + trail)) << 8 * trail);
}

static inline double add(double before, uint64_t z, unsigned digits)
{
    return unscaled((uint64_t)scaled(before, digits) + unzigzag(z), digits);
}

static double get_kind(struct bit_reader *r, double before, struct column *c)
{
    unsigned kind = (unsigned)bits_get(r, 3), bits;
    uint64_t z;

    switch (kind) {
    case KIND_DIGITS:
        c->digits = (unsigned)bits_get(r, 4);
        c->width = 0;
        break;
    case KIND_WIDTH:
        break;
    case KIND_XOR:
        return get_xor(r, before, c);
    case KIND_ABSENT:
        return chunk_absent();
    default:
        r->bad = r->bad || kind != KIND_SAME;
        return before;
    }
    bits = (unsigned)bits_get(r, 6) + 1;
    z = bits_get_long(r, bits);
    if (c->digits == RAW || bits > 56) {
        r->bad = true;
        return before;
    }
    c->width = next_width(c->width, bit_width(z));
    return add(before, z, c->digits);
}

static inline double get_value(struct bit_reader *r, double before, struct column *c)
{
    unsigned bits = c->width;
    uint64_t z;

    if (bits_get(r, 1)) {
        if (bits_get(r, 1))
            return get_kind(r, before, c);
        bits += WIDER;
        r->bad = r->bad || c->digits == RAW;
    } else if (c->digits == RAW) {
        return get_xor(r, before, c);
    }
    if (r->bad || bits > 60)
        return before;
    z = bits ? bits_get_long(r, bits) : 0;
    c->width = next_width(c->width, bit_width(z));
    return add(before, z, c->digits);
}

/* The quiet columns that changed, one by one. */
struct listed {
    struct reader *r;
    uint64_t left, next; /* UINT64_MAX: no more */
};

static void next_listed(struct listed *l, uint64_t from)
{
    uint64_t gap;

    if (l->left == 0) {
        l->next = UINT64_MAX;
        return;
    }
    l->left--;
    gap = reader_uvarint(l->r);
    l->next = gap < UINT32_MAX ? from + gap : UINT64_MAX - 1;
}

/* The bits begin where the list ends. */
static bool find_bits(const struct reader *r, size_t n, struct bit_reader *bits)
{
    struct reader ahead = *r;
    uint64_t count = reader_uvarint(&ahead);

    if (ahead.bad || count > n || count > reader_left(&ahead))
        return false;
    for (; count; count--)
        reader_uvarint(&ahead);
    *bits = (struct bit_reader){.p = ahead.ptr, .end = ahead.end};
    return !ahead.bad;
}

bool wal_pack_decode(struct reader *r, double *v, size_t n, const double *prev, size_t n_prev,
                     wal_pack_state *state)
{
    struct bit_reader b;
    struct listed l = {.r = r};

    if (r->bad || !find_bits(r, n, &b))
        return false;
    l.left = reader_uvarint(r);
    next_listed(&l, 0);
    for (size_t i = 0; i < n; i++) {
        double before = at(prev, n_prev, i);
        bool changed = i == l.next;
        struct column c;

        v[i] = before;
        if ((state[i] & 15) == QUIET && !changed)
            continue;
        c = load(state[i]);
        if (changed) {
            if (c.history != QUIET)
                return false;
            next_listed(&l, i);
            if (l.next == i)
                return false;
        } else {
            changed = c.history == BUSY || bits_get(&b, 1);
        }
        if (changed) {
            v[i] = get_value(&b, before, &c);
            changed = !same(v[i], before);
        }
        c.history = changed ? after_change(c.history) : after_same(c.history);
        state[i] = keep(c);
        if (b.bad)
            return false;
    }
    r->ptr = r->end;
    return l.next == UINT64_MAX && b.p == b.end && b.n < 8 && b.held == 0;
}
