#include "src/promdata/chunk.h"

/* chunk.c - the two float encodings of Prometheus.
 *
 * XOR      u16 samples; varint time and 64 bits of the first; uvarint difference of times and a value for
 *          the second; then for each a difference of differences in 1, 2 + 14, 3 + 17, 4 + 20 or
 *          4 + 64 bits and a value. A value is 0: the same; 10: the bits that differ, within the window of the
 *          one before; 11: 5 bits leading zeros, 6 bits length (0: 64), the bits.
 * XOR2     As above with a byte behind the count that says from which sample on a start timestamp
 *          follows each value (read over: there is no place for it), other widths, one common prefix for time
 *          and value, and stale markers that leave the value before in place.
 * NOT      Histograms: they are counted by pd_chunk_count() and left out. */

#include <stdlib.h>
#include <string.h>

#include "src/base/buf.h"
#include "src/base/num.h"
#include "src/promdata/file.h"

#define STALE_BITS 0x7ff0000000000002ull

/* ---- samples -------------------------------------------------------------------------------- */

nx_status pd_samples_reserve(struct pd_samples *s, size_t extra, struct nx_err *err)
{
    size_t cap = s->cap ? s->cap : 128;
    void *p;

    if (extra > SIZE_MAX / 32 - s->n)
        return nx_fail(err, NX_NOMEM, "too many samples");
    while (cap < s->n + extra)
        cap *= 2;
    if (cap == s->cap)
        return NX_OK;
    p = realloc(s->t, cap * sizeof *s->t);
    if (p)
        s->t = p;
    p = p ? realloc(s->v, cap * sizeof *s->v) : NULL;
    if (!p)
        return nx_fail(err, NX_NOMEM, "out of memory for samples");
    s->v = p;
    s->cap = cap;
    return NX_OK;
}

void pd_samples_done(struct pd_samples *s)
{
    free(s->t);
    free(s->v);
    *s = (struct pd_samples){0};
}

/* Adds one behind the others, unless there is one of its time. */
static void put(struct pd_samples *to, int64_t t, double v, struct pd_same *same)
{
    if (to->n && to->t[to->n - 1] == t) {
        const bool equal = num_bits(to->v[to->n - 1]) == num_bits(v);
        same->equal += equal;
        same->conflicting += !equal;
        return;
    }
    to->t[to->n] = t;
    to->v[to->n++] = v;
}

static int by_time(const void *x, const void *y, void *ctx)
{
    const int64_t *t = ctx;
    const size_t i = *(const size_t *)x, k = *(const size_t *)y;

    if (t[i] != t[k])
        return t[i] < t[k] ? -1 : 1;
    return i < k ? -1 : i > k;
}

nx_status pd_samples_sort(struct pd_samples *s, struct pd_same *same, struct nx_err *err)
{
    struct pd_samples to = {0};
    size_t *order, i = 1;
    nx_status st;

    while (i < s->n && s->t[i] > s->t[i - 1])
        i++;
    if (i >= s->n)
        return NX_OK;
    order = malloc(s->n * sizeof *order);
    st = order ? pd_samples_reserve(&to, s->n, err) : nx_fail(err, NX_NOMEM, "sorting samples");
    if (st)
        goto done;
    for (i = 0; i < s->n; i++)
        order[i] = i;
    qsort_r(order, s->n, sizeof *order, by_time, s->t);
    for (i = 0; i < s->n; i++)
        put(&to, s->t[order[i]], s->v[order[i]], same);
    pd_samples_done(s);
    *s = to;
    to = (struct pd_samples){0};

done:
    pd_samples_done(&to);
    free(order);
    return st;
}

nx_status pd_samples_merge(struct pd_samples *to, const struct pd_samples *more,
                           struct pd_samples *spare, struct pd_same *same, struct nx_err *err)
{
    struct pd_samples swap;
    size_t i = 0, k = 0;
    nx_status st;

    if (more->n == 0)
        return NX_OK;
    if (to->n == 0 || to->t[to->n - 1] < more->t[0]) {
        st = pd_samples_reserve(to, more->n, err);
        if (st)
            return st;
        memcpy(to->t + to->n, more->t, more->n * sizeof *to->t);
        memcpy(to->v + to->n, more->v, more->n * sizeof *to->v);
        to->n += more->n;
        return NX_OK;
    }
    spare->n = 0;
    st = pd_samples_reserve(spare, to->n + more->n, err);
    if (st)
        return st;
    while (i < to->n || k < more->n) {
        if (k == more->n || (i < to->n && to->t[i] <= more->t[k])) {
            put(spare, to->t[i], to->v[i], same);
            i++;
        } else {
            put(spare, more->t[k], more->v[k], same);
            k++;
        }
    }
    swap = *to;
    *to = *spare;
    *spare = swap;
    return NX_OK;
}

/* ---- bits ----------------------------------------------------------------------------------- */

struct bits {
    const uint8_t *p, *end;
    uint64_t acc; /* the next bits, from the top */
    unsigned n;   /* how many of them */
    bool bad;
};

static void refill(struct bits *b)
{
    while (b->n <= 56 && b->p < b->end) {
        b->acc |= (uint64_t)*b->p++ << (56 - b->n);
        b->n += 8;
    }
}

/* k bits, 1 <= k <= 56 */
static inline uint64_t take(struct bits *b, unsigned k)
{
    uint64_t v;

    if (b->n < k) {
        refill(b);
        if (b->n < k) {
            b->bad = true;
            return 0;
        }
    }
    v = b->acc >> (64 - k);
    b->acc <<= k;
    b->n -= k;
    return v;
}

static uint64_t take_wide(struct bits *b, unsigned k)
{
    uint64_t high;

    if (k <= 56)
        return take(b, k);
    high = take(b, k - 32);
    return high << 32 | take(b, 32);
}

/* How many ones precede a zero, at most `max`; the zero is used up. */
static inline unsigned ones(struct bits *b, unsigned max)
{
    unsigned n = 0;

    while (n < max && take(b, 1))
        n++;
    return n;
}

static uint64_t bits_uvarint(struct bits *b)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        const uint64_t byte = take(b, 8);
        v |= (byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return v;
    }
    b->bad = true;
    return 0;
}

static int64_t bits_varint(struct bits *b)
{
    const uint64_t u = bits_uvarint(b);

    return (int64_t)(u >> 1 ^ -(u & 1));
}

/* ---- values --------------------------------------------------------------------------------- */

struct value {
    uint64_t bits;
    unsigned leading, width; /* of the last window */
};
/* Before the first window all 64 bits count as one: a chunk that was reopened for writing uses it. */
#define NO_VALUE ((struct value){.width = 64})

static void same_window(struct bits *b, struct value *v)
{
    v->bits ^= take_wide(b, v->width) << (64 - v->leading - v->width);
}

static void new_window(struct bits *b, struct value *v)
{
    const unsigned leading = (unsigned)take(b, 5), width = (unsigned)take(b, 6);

    v->leading = leading;
    v->width = width ? width : 64;
    if (v->leading + v->width > 64) {
        *v = NO_VALUE;
        b->bad = true;
        return;
    }
    same_window(b, v);
}

static inline void xor_value(struct bits *b, struct value *v)
{
    if (!take(b, 1))
        return;
    if (take(b, 1))
        new_window(b, v);
    else
        same_window(b, v);
}

/* A number of `width` bits; `top` is the largest that is not negative. */
static int64_t sign(uint64_t v, unsigned width, uint64_t top)
{
    return (int64_t)(width < 64 && v > top ? v - (1ull << width) : v);
}

static int64_t xor_dod(struct bits *b)
{
    static const uint8_t widths[] = {0, 14, 17, 20, 64};
    const unsigned width = widths[ones(b, 4)];

    return width ? sign(take_wide(b, width), width, 1ull << (width - 1)) : 0;
}

/* ---- XOR ------------------------------------------------------------------------------------ */

static void decode_xor(struct bits *b, uint32_t n, int64_t *t, double *v)
{
    struct value x = NO_VALUE;
    uint64_t at = 0, delta = 0;

    for (uint32_t i = 0; i < n && !b->bad; i++) {
        if (i == 0) {
            at = (uint64_t)bits_varint(b);
            x.bits = take_wide(b, 64);
        } else {
            delta = i == 1 ? bits_uvarint(b) : delta + (uint64_t)xor_dod(b);
            at += delta;
            xor_value(b, &x);
        }
        t[i] = (int64_t)at;
        v[i] = num_from_bits(x.bits);
    }
}

/* ---- XOR2 ----------------------------------------------------------------------------------- */

/* A value where the time has a difference of its own; true: a stale marker, which leaves x as it is. */
static bool xor2_value(struct bits *b, struct value *x)
{
    switch (ones(b, 3)) {
    case 0:
        return false;
    case 1:
        same_window(b, x);
        return false;
    case 2:
        new_window(b, x);
        return false;
    default:
        return true;
    }
}

/* One sample from the third on: what the difference of times changes by, and the value. */
static bool xor2_joint(struct bits *b, uint64_t *delta, struct value *x)
{
    static const uint8_t widths[] = {0, 0, 13, 20, 64};
    const unsigned prefix = ones(b, 5);

    if (prefix == 0)
        return false;
    if (prefix == 5)
        return true;
    if (prefix == 1) {
        if (take(b, 1))
            new_window(b, x);
        else
            same_window(b, x);
        return false;
    }
    *delta += (uint64_t)sign(take_wide(b, widths[prefix]), widths[prefix],
                             (1ull << (widths[prefix] - 1)) - 1);
    return xor2_value(b, x);
}

static void skip_varbit(struct bits *b)
{
    static const uint8_t widths[] = {0, 3, 6, 9, 12, 18, 25, 56, 64};
    const unsigned width = widths[ones(b, 8)];

    if (width)
        (void)take_wide(b, width);
}

static void decode_xor2(struct bits *b, uint8_t starts, uint32_t n, int64_t *t, double *v)
{
    const uint32_t from = starts & 0x7f;
    struct value x = NO_VALUE;
    uint64_t at = 0, delta = 0;

    for (uint32_t i = 0; i < n && !b->bad; i++) {
        bool stale;

        if (i == 0) {
            uint64_t first;
            at = (uint64_t)bits_varint(b);
            first = take_wide(b, 64);
            stale = first == STALE_BITS;
            x.bits = stale ? 0 : first;
            if (starts & 0x80)
                (void)bits_varint(b);
        } else if (i == 1) {
            delta = bits_uvarint(b);
            stale = xor2_value(b, &x);
        } else {
            stale = xor2_joint(b, &delta, &x);
        }
        if (i && from && i >= from)
            skip_varbit(b);
        at += i ? delta : 0;
        t[i] = (int64_t)at;
        v[i] = num_from_bits(stale ? STALE_BITS : x.bits);
    }
}

/* ---- both ----------------------------------------------------------------------------------- */

uint32_t pd_chunk_count(const uint8_t *p, size_t len)
{
    return len >= 2 ? pd_u16(p) : 0;
}

nx_status pd_chunk_decode(uint8_t encoding, const uint8_t *p, size_t len, struct pd_samples *to,
                          struct nx_err *err)
{
    const size_t head = encoding == PD_XOR2 ? 3 : 2;
    const uint32_t n = pd_chunk_count(p, len);
    struct bits b = {0};
    nx_status st;

    if (encoding != PD_XOR && encoding != PD_XOR2)
        return nx_fail(err, NX_CORRUPT, "a chunk of the unknown encoding %u", encoding);
    if (len < head || n > 8 * len) /* a sample takes a bit at least */
        return nx_fail(err, NX_CORRUPT, "a chunk of %u samples in %zu bytes", n, len);
    st = pd_samples_reserve(to, n, err);
    if (st)
        return st;
    b.p = p + head;
    b.end = p + len;
    if (encoding == PD_XOR2)
        decode_xor2(&b, p[2], n, to->t + to->n, to->v + to->n);
    else
        decode_xor(&b, n, to->t + to->n, to->v + to->n);
    if (b.bad)
        return nx_fail(err, NX_CORRUPT, "a chunk of %u samples does not decode", n);
    to->n += n;
    return NX_OK;
}
