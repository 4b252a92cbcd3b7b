/* codec.c - integer streams: delta, divisor, patched frame of reference, bit packing.
 *
 * WHY     Most of what is measured are integers in disguise: counters, bytes in whole pages, decimals.
 *         Their differences are small and alike, so a few bits each hold them, and unpacking those
 *         bits is a handful of instructions without a branch.
 * SHAPE   A stream is q[0], an optional common divisor g of all q[i] - q[0], and x[i] = (q[i] - q[0]) / g
 *         as it is, as differences, or as differences of differences, whichever is smallest, in
 *         blocks. A block has a base and a width w; values outside [base, base + 2^w) are exceptions
 *         with positions of their own, so that one reset of a counter does not widen its neighbours.
 *         After Zukowski et al., "Super-Scalar RAM-CPU Cache Compression" (ICDE 2006).
 * RULES   C1  All arithmetic wraps in 64 bits: any int64 values survive, overflow included.
 *         C2  Equal differences give equal bytes, whatever q[0] is: LZ4 finds them across series.
 *         C3  The decoder takes its sizes from n alone, never from the bytes.
 * NOT     Entropy coding: LZ4 over the page takes what is alike across series, and decoding stays at
 *         memory speed. Interleaved (FastLanes) layouts: short blocks would pay for whole ones. */
#include "storage/codec.h"

#include <endian.h>
#include <string.h>

#include "storage/bits.h"

enum { RAW, DELTA, DELTA2, N_TRANSFORMS };
#define TRANSFORM_MASK 0x03u
#define HAS_DIVISOR    0x04u
#define SINGLE_ZERO    0x08u /* no blocks: every coded value is 0 */
#define KNOWN_FLAGS    (TRANSFORM_MASK | HAS_DIVISOR | SINGLE_ZERO)

#define WIDTH_MASK     0x7fu
#define HAS_EXCEPTIONS 0x80u

static unsigned varint_bytes(uint64_t v)
{
    return v ? (bit_width(v) + 6) / 7 : 1;
}

static uint64_t width_mask(unsigned w)
{
    return w >= 64 ? UINT64_MAX : (UINT64_C(1) << w) - 1;
}

static size_t block_len(size_t left)
{
    return left > CODEC_LAST_BLOCK ? CODEC_BLOCK : left;
}

static uint64_t load64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

/* ---- bit packing --------------------------------------------------------------------------- */

/* Room behind packed bits that unpack may read. */
#define SLACK 16u

/* Eight values of w bits are w bytes; so all shifts below are constants once w is one. */
static inline __attribute__((always_inline)) void unpack_w(const uint8_t *in, uint64_t *out,
                                                           size_t groups, const unsigned w)
{
    const uint64_t mask = width_mask(w);

    for (size_t g = 0; g < groups; g++, in += w, out += 8) {
#pragma GCC unroll 8
        for (unsigned j = 0; j < 8; j++) {
            const unsigned at = j * w, shift = at & 7;
            uint64_t v = load64(in + (at >> 3)) >> shift;

            if (shift + w > 64)
                v |= (uint64_t)in[(at >> 3) + 8] << (64 - shift);
            out[j] = v & mask;
        }
    }
}

#define W8(X, n)  X(n) X(n + 1) X(n + 2) X(n + 3) X(n + 4) X(n + 5) X(n + 6) X(n + 7)
#define WIDTHS(X) W8(X, 1) W8(X, 9) W8(X, 17) W8(X, 25) W8(X, 33) W8(X, 41) W8(X, 49) W8(X, 57)

/* Unpacks whole groups of eight; reads up to SLACK bytes past them, writes up to 7 values past n. */
static void unpack(const uint8_t *in, uint64_t *out, size_t n, unsigned w)
{
    const size_t groups = (n + 7) / 8;

    switch (w) {
    case 0:
        memset(out, 0, groups * 8 * sizeof *out);
        break;
#define UNPACK_CASE(width)                                                                         \
    case width:                                                                                    \
        unpack_w(in, out, groups, width);                                                          \
        break;
        WIDTHS(UNPACK_CASE)
#undef UNPACK_CASE
    default:
        break;
    }
}

static size_t packed_bytes(size_t n, unsigned w)
{
    return (n * w + 7) / 8;
}

/* `out` is cleared and has SLACK bytes behind. */
static void pack(const uint64_t *v, size_t n, unsigned w, uint8_t *out)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++, at += w) {
        uint8_t *p = out + (at >> 3);
        const unsigned shift = at & 7;

        put_u64le(p, load64(p) | v[i] << shift);
        if (shift + w > 64)
            p[8] = (uint8_t)(v[i] >> (64 - shift));
    }
}

/* ---- one block ----------------------------------------------------------------------------- */

struct plan {
    int64_t base;
    unsigned width;
    uint64_t bits; /* of the whole block as coded */
};

/* One merge of from[lo..mid) and from[mid..hi), without a branch on the values. */
static void merge(const int64_t *from, size_t lo, size_t mid, size_t hi, int64_t *to)
{
    size_t a = lo, b = mid, k = lo;

    while (a < mid && b < hi) {
        const int64_t x = from[a], y = from[b];
        const bool left = x <= y;

        to[k++] = left ? x : y;
        a += left;
        b += !left;
    }
    memcpy(to + k, from + a, (mid - a) * sizeof *to);
    memcpy(to + k + (mid - a), from + b, (hi - b) * sizeof *to);
}

/* Bottom-up merge sort: 192 values at most, often in order already. */
static void sort_values(int64_t *v, size_t n)
{
    int64_t other[CODEC_LAST_BLOCK], *from = v, *to = other;
    bool sorted = true;

    for (size_t i = 1; i < n && sorted; i++)
        sorted = v[i - 1] <= v[i];
    if (sorted)
        return;
    for (size_t i = 0; i + 1 < n; i += 2) {
        const int64_t x = v[i], y = v[i + 1];
        v[i] = x < y ? x : y;
        v[i + 1] = x < y ? y : x;
    }
    for (size_t step = 2; step < n; step *= 2) {
        int64_t *const swap = from;

        for (size_t lo = 0; lo < n; lo += 2 * step)
            merge(from, lo, lo + step < n ? lo + step : n, lo + 2 * step < n ? lo + 2 * step : n,
                  to);
        from = to;
        to = swap;
    }
    if (from != v)
        memcpy(v, from, n * sizeof *v);
}

/* The best width for a base, by how many values are how wide above it; those below it are exceptions. */
static struct plan plan_for_base(const int64_t *v, size_t n, int64_t base)
{
    uint8_t count[65] = {0};
    uint64_t outside = 0;
    struct plan best = {.bits = UINT64_MAX};

    for (size_t i = 0; i < n; i++) {
        const uint64_t above = (uint64_t)v[i] - (uint64_t)base;

        if (v[i] >= base)
            count[bit_width(above)]++;
        else
            outside += 8 + 8 * varint_bytes(zigzag((int64_t)above));
    }
    for (unsigned w = 65; w-- > 0;) { /* wider values are outside by now */
        const uint64_t bits =
            16 + 8 * varint_bytes(zigzag(base)) + 8 * packed_bytes(n, w) + outside;

        if (bits < best.bits)
            best = (struct plan){base, w, bits};
        if (outside >= best.bits)
            break;
        outside += count[w] * (uint64_t)(8 + 8 * ((w + 7) / 7));
    }
    return best;
}

/* Without sorting: the least value as the base, or the least that is not negative when few are (a
 * counter's resets). */
static struct plan plan_quick(const int64_t *v, size_t n)
{
    int64_t min = v[0], min_up = INT64_MAX;
    size_t n_down = 0;
    struct plan p;

    for (size_t i = 0; i < n; i++) {
        min = v[i] < min ? v[i] : min;
        min_up = v[i] >= 0 && v[i] < min_up ? v[i] : min_up;
        n_down += v[i] < 0;
    }
    p = plan_for_base(v, n, min);
    if (n_down && n_down <= n / 8) {
        struct plan up = plan_for_base(v, n, min_up);
        if (up.bits < p.bits)
            return up;
    }
    return p;
}

static uint64_t exception_bits(const int64_t *s, size_t from, size_t to, int64_t base)
{
    uint64_t bits = 0;

    for (size_t i = from; i < to; i++)
        bits += 8 + 8 * varint_bytes(zigzag((int64_t)((uint64_t)s[i] - (uint64_t)base)));
    return bits;
}

/* The window of sorted values with a span below 2^w that holds most of them; *at is its start. */
static size_t widest_window(const int64_t *s, size_t n, unsigned w, size_t *at)
{
    const uint64_t mask = width_mask(w);
    size_t best = 0;

    for (size_t i = 0, j = 0; j < n; j++) {
        while ((uint64_t)s[j] - (uint64_t)s[i] > mask)
            i++;
        if (j - i + 1 > best) {
            best = j - i + 1;
            *at = i;
        }
    }
    return best;
}

/* Base and width that make the block smallest, exceptions counted at their true price. */
static struct plan plan_block(const int64_t *v, size_t n)
{
    int64_t s[CODEC_LAST_BLOCK];
    struct plan best, quick;
    unsigned w;

    memcpy(s, v, n * sizeof *s);
    sort_values(s, n);
    w = bit_width((uint64_t)s[n - 1] - (uint64_t)s[0]);
    best = (struct plan){s[0], w, 8 + 8 * varint_bytes(zigzag(s[0])) + 8 * packed_bytes(n, w)};
    if (w == 0)
        return best;
    quick = plan_quick(v, n); /* what is to be undercut */
    if (quick.bits < best.bits)
        best = quick;
    while (w-- > 0) {
        size_t at = 0, in = widest_window(s, n, w, &at);
        uint64_t bits = 16 + 8 * varint_bytes(zigzag(s[at])) + 8 * packed_bytes(n, w);

        if ((n - in) * 16 + 16 >= best.bits) /* narrower ones leave out more yet */
            break;
        bits += exception_bits(s, 0, at, s[at]) + exception_bits(s, at + in, n, s[at]);
        if (bits < best.bits)
            best = (struct plan){s[at], w, bits};
    }
    return best;
}

static void put_block(struct buf *to, const int64_t *v, size_t n, const struct plan *p)
{
    uint64_t low[CODEC_LAST_BLOCK];
    uint8_t packed[CODEC_LAST_BLOCK * 8 + SLACK], where[CODEC_LAST_BLOCK];
    const uint64_t mask = width_mask(p->width);
    const size_t bytes = packed_bytes(n, p->width);
    size_t n_exc = 0;

    for (size_t i = 0; i < n; i++) {
        low[i] = (uint64_t)v[i] - (uint64_t)p->base;
        if (low[i] > mask) {
            where[n_exc++] = (uint8_t)i;
            low[i] = 0;
        }
    }
    buf_u8(to, (uint8_t)(p->width | (n_exc ? HAS_EXCEPTIONS : 0)));
    buf_varint(to, p->base);
    if (n_exc) {
        buf_u8(to, (uint8_t)n_exc);
        buf_append(to, where, n_exc);
        for (size_t i = 0; i < n_exc; i++)
            buf_varint(to, (int64_t)((uint64_t)v[where[i]] - (uint64_t)p->base));
    }
    memset(packed, 0, bytes + SLACK);
    if (p->width)
        pack(low, n, p->width, packed);
    buf_append(to, packed, bytes);
}

static bool get_block(struct reader *r, int64_t *v, size_t n)
{
    uint64_t low[CODEC_LAST_BLOCK + 8], patch[CODEC_LAST_BLOCK];
    uint8_t padded[CODEC_LAST_BLOCK * 8 + SLACK];
    const unsigned head = reader_u8(r), w = head & WIDTH_MASK;
    const int64_t base = reader_varint(r);
    const size_t n_exc = head & HAS_EXCEPTIONS ? reader_u8(r) : 0;
    struct nx_slice where, bytes;
    const uint8_t *in;

    if (w > 64 || n_exc > n || (head & HAS_EXCEPTIONS && n_exc == 0))
        return false;
    where = reader_bytes(r, n_exc);
    for (size_t i = 0; i < n_exc; i++)
        patch[i] = (uint64_t)reader_varint(r);
    bytes = reader_bytes(r, packed_bytes(n, w));
    if (r->bad)
        return false;
    in = (const uint8_t *)bytes.ptr;
    if (reader_left(r) < SLACK + w) { /* whole groups would be read past the end */
        memcpy(padded, bytes.ptr, bytes.len);
        memset(padded + bytes.len, 0, (n + 7) / 8 * w + SLACK - bytes.len);
        in = padded;
    }
    unpack(in, low, n, w);
    for (size_t i = 0; i < n_exc; i++) {
        if ((uint8_t)where.ptr[i] >= n)
            return false;
        low[(uint8_t)where.ptr[i]] = patch[i];
    }
    for (size_t i = 0; i < n; i++)
        v[i] = (int64_t)(low[i] + (uint64_t)base);
    return true;
}

/* ---- streams ------------------------------------------------------------------------------- */

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The largest g that divides all q[i] - q[0] taken as signed numbers; 1 if nothing does, 0 if they are
 * all equal. Differences that overflow are left alone (C1). */
static uint64_t common_divisor(const int64_t *q, size_t n)
{
    uint64_t g = 0;

    for (size_t i = 1; i < n && g != 1; i++) {
        int64_t d;

        if (__builtin_sub_overflow(q[i], q[0], &d) || d == INT64_MIN)
            return 1;
        if (d)
            g = gcd((uint64_t)(d < 0 ? -d : d), g);
    }
    return g;
}

/* x[i] = (q[i] - q[0]) / g */
static void reduce(const int64_t *q, size_t n, uint64_t g, int64_t *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (int64_t)((uint64_t)q[i] - (uint64_t)q[0]);
    if (g > 1 && (g & (g - 1)) == 0) {
        const int shift = __builtin_ctzll(g);
        for (size_t i = 0; i < n; i++)
            x[i] >>= shift;
    } else if (g > 1) {
        for (size_t i = 0; i < n; i++)
            x[i] /= (int64_t)g;
    }
}

static void differences(const int64_t *x, size_t n, int64_t *d)
{
    for (size_t i = 1; i < n; i++)
        d[i - 1] = (int64_t)((uint64_t)x[i] - (uint64_t)x[i - 1]);
}

static uint64_t plan_bits(const int64_t *v, size_t n)
{
    uint64_t bits = 0;

    for (size_t at = 0; at < n; at += block_len(n - at))
        bits += plan_quick(v + at, block_len(n - at)).bits;
    return bits;
}

/* A cheap stand-in for plan_bits: the widths of the values around their mean step. */
static uint64_t guess_bits(const int64_t *v, size_t n)
{
    uint64_t bits = 0;

    for (size_t i = 0; i < n; i++)
        bits += bit_width(zigzag((int64_t)((uint64_t)v[i] - (uint64_t)v[n / 2])));
    return bits;
}

static bool all_zero(const int64_t *v, size_t n)
{
    int64_t any = 0;

    for (size_t i = 0; i < n; i++)
        any |= v[i];
    return any == 0;
}

static void put_values(struct buf *to, const int64_t *v, size_t n, enum codec_effort effort)
{
    for (size_t at = 0; at < n; at += block_len(n - at)) {
        struct plan p = (effort == CODEC_FAST ? plan_quick : plan_block)(v + at, block_len(n - at));
        put_block(to, v + at, block_len(n - at), &p);
    }
}

/* The coded values of each transform and what comes before them. */
struct candidate {
    const int64_t *v;
    size_t n;
    uint64_t guess, head_bits;
};

/* One that is all zero, as it needs no blocks. Else the cheapest by the guess, or of those that come
 * near it the cheapest by a closer one. */
static unsigned choose_transform(const struct candidate *c, unsigned n, enum codec_effort effort)
{
    uint64_t least = UINT64_MAX, best = UINT64_MAX;
    unsigned choice = RAW;

    for (unsigned i = 0; i < n; i++) {
        if (c[i].guess == 0 && all_zero(c[i].v, c[i].n))
            return i;
        if (c[i].guess < least) {
            least = c[i].guess;
            choice = i;
        }
    }
    for (unsigned i = 0; i < n && effort == CODEC_SMALL; i++) {
        uint64_t bits;

        if (c[i].guess > least + least / 2 + c[i].n)
            continue;
        bits = plan_bits(c[i].v, c[i].n) + c[i].head_bits;
        if (bits < best) {
            best = bits;
            choice = i;
        }
    }
    return choice;
}

void codec_put_ints(struct buf *to, const int64_t *q, size_t n, enum codec_effort effort,
                    int64_t *tmp)
{
    int64_t *const x = tmp, *const d = tmp + n, *const dd = tmp + 2 * n;
    const uint64_t g = common_divisor(q, n);
    struct candidate c[N_TRANSFORMS] = {{.v = x + 1, .n = n - 1}};
    unsigned transform = RAW;
    bool zero;

    reduce(q, n, g, x);
    if (n > 1 && g != 0) {
        differences(x, n, d);
        c[RAW].guess = guess_bits(c[RAW].v, n - 1);
        c[DELTA] = (struct candidate){d, n - 1, guess_bits(d, n - 1), 0};
        if (n > 2) {
            differences(d, n - 1, dd);
            c[DELTA2] = (struct candidate){dd, n - 2, guess_bits(dd, n - 2),
                                           8 * varint_bytes(zigzag(d[0]))};
        }
        transform = choose_transform(c, n > 2 ? 3 : 2, effort);
    }
    zero = all_zero(c[transform].v, c[transform].n);
    buf_u8(to, (uint8_t)(transform | (g > 1 ? HAS_DIVISOR : 0) | (zero ? SINGLE_ZERO : 0)));
    if (g > 1)
        buf_uvarint(to, g);
    buf_varint(to, q[0]);
    if (transform == DELTA2)
        buf_varint(to, d[0]);
    if (!zero)
        put_values(to, c[transform].v, c[transform].n, effort);
}

/* Values of the transform, `n` of them, into v; at least the first `need`. */
static bool get_values(struct reader *r, int64_t *v, size_t n, size_t need, bool zero)
{
    if (zero) {
        memset(v, 0, need * sizeof *v);
        return true;
    }
    for (size_t at = 0; at < need; at += block_len(n - at))
        if (!get_block(r, v + at, block_len(n - at)))
            return false;
    return true;
}

/* v[i] = first + g * (v[0] + ... + v[i]) */
static void sum_up(int64_t *v, size_t n, uint64_t first, uint64_t g)
{
    for (size_t i = 0; i < n; i++) {
        first += g * (uint64_t)v[i];
        v[i] = (int64_t)first;
    }
}

bool codec_get_ints_first(struct reader *r, int64_t *q, size_t n, size_t need)
{
    const unsigned head = reader_u8(r), transform = head & TRANSFORM_MASK;
    const uint64_t g = head & HAS_DIVISOR ? reader_uvarint(r) : 1;
    const uint64_t first = (uint64_t)reader_varint(r);
    const bool zero = head & SINGLE_ZERO;
    const size_t start = transform == DELTA2 ? 2 : 1;
    int64_t step;

    if (r->bad || head & ~KNOWN_FLAGS || transform >= N_TRANSFORMS || n < start)
        return false;
    step = transform == DELTA2 ? reader_varint(r) : 0;
    if (need < start)
        need = start;
    if (r->bad || !get_values(r, q + start, n - start, need - start, zero))
        return false;
    q[0] = (int64_t)first;
    switch (transform) {
    case RAW:
        for (size_t i = 1; i < need; i++)
            q[i] = (int64_t)(first + g * (uint64_t)q[i]);
        break;
    case DELTA:
        sum_up(q + 1, need - 1, first, g);
        break;
    default:
        q[1] = step;
        sum_up(q + 2, need - 2, (uint64_t)step, 1);
        sum_up(q + 1, need - 1, first, g);
        break;
    }
    return true;
}

bool codec_get_ints(struct reader *r, int64_t *q, size_t n)
{
    return codec_get_ints_first(r, q, n, n);
}
