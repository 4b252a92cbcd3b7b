/* chunk.c - the encoding of one series' values, picked by what they are.
 *
 * WHY     Eight bytes a sample, of which most say what the sample before said.
 * SHAPE   Three layers, peeled one by one (FORMAT.md, "Chunks"):
 *         1. Special rows: no sample, stale markers, NaNs, infinities, -0. Each kind is one bit pattern
 *            and the rows that hold it, as runs or as a bitmap. What is left are the numbers.
 *         2. The numbers, by one of the kinds below.
 *         3. Odd numbers: those few that the kind can't hold, with their positions.
 *         CONST        all rows are the same bits
 *         CONST_DEC    all numbers are the same decimal
 *         DECIMAL      q / 10^e with integers q; e = 0 are the integers themselves
 *         DECIMAL_ULP  q / 10^e and a small distance, in steps between neighbouring doubles: what a sum
 *                      of decimals becomes when each addition rounds
 *         BITS         the bits as integers in the doubles' order
 *         XOR          Gorilla (Pelkonen et al., VLDB 2015)
 *         RD           front bits by a dictionary, the rest as they are: ALP-RD (Afroozeh, Kuffo, Boncz,
 *                      SIGMOD 2024), from which DECIMAL's "scale, verify bit by bit" comes as well
 * RULES   K1  Whatever is tried is verified bit by bit before it is chosen.
 *         K2  A row left out of the numbers leaves no hole: neighbours are differenced as if it were not.
 *         K3  Division by 10^e is exact rounding in IEEE 754, so encoder and decoder agree on every
 *             machine that has doubles; x87's extended precision would not do.
 * NOT     ALP's multiplication by 10^-e: a division costs little more here and fails on none of the
 *         decimals of up to 15 digits. A time per value: see chunk.h. */
#include "storage/chunk.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "storage/bits.h"
#include "storage/codec.h"

_Static_assert(FLT_EVAL_METHOD == 0,
               "doubles must be doubles (K3); on i386 build with -msse2 -mfpmath=sse");

enum kind { CONST, CONST_DEC, DECIMAL, DECIMAL_ULP, BITS, XOR, RD, N_KINDS };
static const char *const kind_names[N_KINDS] = {"const", "const-dec", "decimal", "decimal-ulp",
                                                "bits",  "xor",       "alp-rd"};

#define KIND_MASK    0x0fu
#define HAS_SPECIALS 0x10u
#define HAS_ODD      0x20u
#define KNOWN_FLAGS  (KIND_MASK | HAS_SPECIALS | HAS_ODD)

/* How a special's bits are written; SPECIAL_OTHER is followed by eight bytes. */
enum special { ABSENT, STALE, NOT_A_NUMBER, PLUS_INF, MINUS_INF, MINUS_ZERO, OTHER, N_SPECIALS };
static const uint64_t special_bits[OTHER] = {CHUNK_ABSENT_BITS,   NUM_STALE_BITS,
                                             NUM_NAN_BITS,        0x7ff0000000000000u,
                                             0xfff0000000000000u, 0x8000000000000000u};
enum { ROWS_RUNS, ROWS_BITMAP };
#define MAX_SPECIALS 8u

#define MAX_EXPONENT 18u
static const double pow10_of[MAX_EXPONENT + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,
                                                  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
                                                  1e14, 1e15, 1e16, 1e17, 1e18};
#define MOST_PLAIN 6u                 /* digits that are surely meant as digits */
#define SHORT_INT  (INT64_C(1) << 48) /* from there on a varint is no shorter than the bits */
#define EXACT_INT  9007199254740992.0 /* 2^53 */

struct chunk_scratch {
    size_t cap;
    int64_t *q, *r, *tmp; /* cap, cap, 3 * cap */
    double *v;            /* numbers without specials */
    double *w;            /* and without odd ones */
    uint8_t *class_of;    /* 0: a number; else 1 + index of a special */
    uint32_t *odd;        /* positions */
    struct buf best, other;
};

struct chunk_scratch *chunk_scratch_new(void)
{
    return calloc(1, sizeof(struct chunk_scratch));
}

static void scratch_drop(struct chunk_scratch *s)
{
    free(s->q);
    free(s->r);
    free(s->tmp);
    free(s->v);
    free(s->w);
    free(s->class_of);
    free(s->odd);
    s->q = s->r = s->tmp = NULL;
    s->v = s->w = NULL;
    s->class_of = NULL;
    s->odd = NULL;
    s->cap = 0;
}

void chunk_scratch_free(struct chunk_scratch *s)
{
    if (!s)
        return;
    scratch_drop(s);
    buf_done(&s->best);
    buf_done(&s->other);
    free(s);
}

static nx_status scratch_fit(struct chunk_scratch *s, size_t n, struct nx_err *err)
{
    if (n <= s->cap)
        return NX_OK;
    scratch_drop(s);
    s->q = malloc(n * sizeof *s->q);
    s->r = malloc(n * sizeof *s->r);
    s->tmp = malloc(3 * n * sizeof *s->tmp);
    s->v = malloc(n * sizeof *s->v);
    s->w = malloc(n * sizeof *s->w);
    s->class_of = malloc(n);
    s->odd = malloc(n * sizeof *s->odd);
    if (!s->q || !s->r || !s->tmp || !s->v || !s->w || !s->class_of || !s->odd) {
        scratch_drop(s);
        return nx_fail(err, NX_NOMEM, "out of memory for a chunk of %zu rows", n);
    }
    s->cap = n;
    return NX_OK;
}

static nx_status bad_rows(size_t n, struct nx_err *err)
{
    return nx_fail(err, NX_BADINPUT, "a chunk has 1 to %u rows, not %zu", CHUNK_MAX_ROWS, n);
}

/* ---- special rows --------------------------------------------------------------------------- */

static enum special special_of(uint64_t bits)
{
    for (unsigned i = 0; i < OTHER; i++)
        if (bits == special_bits[i])
            return (enum special)i;
    return OTHER;
}

static bool is_special(double v)
{
    const uint64_t bits = num_bits(v);

    return (bits & 0x7ff0000000000000u) == 0x7ff0000000000000u || bits == special_bits[MINUS_ZERO];
}

/* Splits v into classes and numbers. A pattern too many stays with the numbers (as an odd one). */
static size_t split_specials(struct chunk_scratch *s, const double *v, size_t n, uint64_t *patterns,
                             size_t *n_patterns)
{
    size_t m = 0, k = 0;

    for (size_t i = 0; i < n; i++) {
        s->class_of[i] = 0;
        if (is_special(v[i])) {
            size_t j = 0;
            while (j < k && patterns[j] != num_bits(v[i]))
                j++;
            if (j == k && k < MAX_SPECIALS)
                patterns[k++] = num_bits(v[i]);
            if (j < k)
                s->class_of[i] = (uint8_t)(j + 1);
        }
        if (!s->class_of[i])
            s->v[m++] = v[i];
    }
    *n_patterns = k;
    return m;
}

/* Rows of class c: runs of (rows before it since the last run, length - 1), or a bit per row. */
static void put_rows(struct buf *to, struct buf *runs, const uint8_t *class_of, size_t n, uint8_t c)
{
    size_t n_runs = 0, last = 0;

    buf_clear(runs);
    for (size_t i = 0; i < n; i++) {
        size_t from = i;
        while (i < n && class_of[i] == c)
            i++;
        if (i > from) {
            buf_uvarint(runs, from - last);
            buf_uvarint(runs, i - from - 1);
            last = i;
            n_runs++;
        }
    }
    if (!runs->failed &&
        runs->len + 2 <= (n + 7) / 8) { /* without memory for them, a bitmap does */
        buf_u8(to, ROWS_RUNS);
        buf_uvarint(to, n_runs);
        buf_append(to, runs->ptr, runs->len);
        return;
    }
    buf_u8(to, ROWS_BITMAP);
    for (size_t i = 0; i < n; i += 8) {
        unsigned bits = 0;
        for (size_t j = i; j < n && j < i + 8; j++)
            bits |= (unsigned)(class_of[j] == c) << (j - i);
        buf_u8(to, (uint8_t)bits);
    }
}

static void put_specials(struct buf *to, struct chunk_scratch *s, size_t n,
                         const uint64_t *patterns, size_t k)
{
    buf_u8(to, (uint8_t)k);
    for (size_t j = 0; j < k; j++) {
        enum special code = special_of(patterns[j]);
        buf_u8(to, (uint8_t)code);
        if (code == OTHER)
            buf_u64le(to, patterns[j]);
        put_rows(to, &s->other, s->class_of, n, (uint8_t)(j + 1));
    }
}

static bool get_runs(struct reader *r, uint8_t *class_of, size_t n, uint8_t c)
{
    uint64_t n_runs = reader_uvarint(r);
    size_t at = 0;

    for (; n_runs > 0 && !r->bad; n_runs--) {
        uint64_t gap = reader_uvarint(r), more = reader_uvarint(r);
        if (r->bad || gap > n - at || more >= n - at - (size_t)gap)
            return false;
        at += (size_t)gap;
        memset(class_of + at, c, (size_t)more + 1);
        at += (size_t)more + 1;
    }
    return !r->bad;
}

static bool get_bitmap(struct reader *r, uint8_t *class_of, size_t n, uint8_t c)
{
    struct nx_slice bits = reader_bytes(r, (n + 7) / 8);

    for (size_t i = 0; !r->bad && i < n; i++)
        if ((uint8_t)bits.ptr[i / 8] >> (i & 7) & 1)
            class_of[i] = c;
    return !r->bad;
}

/* Fills class_of; *m gets how many numbers are left. */
static bool get_specials(struct reader *r, uint8_t *class_of, size_t n, uint64_t *patterns,
                         size_t *n_patterns, size_t *m)
{
    size_t k = reader_u8(r);

    *n_patterns = k;
    if (k == 0 || k > MAX_SPECIALS)
        return false;
    memset(class_of, 0, n);
    for (size_t j = 0; j < k; j++) {
        unsigned code = reader_u8(r), form;
        if (code >= N_SPECIALS)
            return false;
        patterns[j] = code == OTHER ? reader_u64le(r) : special_bits[code];
        form = reader_u8(r);
        if (form > ROWS_BITMAP ||
            !(form == ROWS_RUNS ? get_runs : get_bitmap)(r, class_of, n, (uint8_t)(j + 1)))
            return false;
    }
    *m = 0;
    for (size_t i = 0; i < n; i++)
        *m += class_of[i] == 0;
    return true;
}

/* v[0..m) are the numbers; spreads them over n rows, from the end, in place. */
static void spread_specials(double *v, size_t n, size_t m, const uint8_t *class_of,
                            const uint64_t *patterns)
{
    for (size_t i = n; i-- > 0;)
        v[i] = class_of[i] ? num_from_bits(patterns[class_of[i] - 1]) : v[--m];
}

/* ---- decimals ------------------------------------------------------------------------------- */

/* The nearest integer, without a call; |x| <= 2^53. From 2^52 on all doubles are integers. */
static inline int64_t nearest(double x)
{
    double half = x < 0 ? -0.5 : 0.5;

    return (int64_t)(fabs(x) < EXACT_INT / 2 ? x + half : x);
}

/* q with q / 10^e == v to the bit and |q| <= 2^53. */
static inline bool decimal_of(double v, unsigned e, int64_t *q)
{
    double x = v * pow10_of[e];

    if (!(x >= -EXACT_INT && x <= EXACT_INT))
        return false;
    *q = nearest(x);
    return num_bits((double)*q / pow10_of[e]) == num_bits(v);
}

static inline bool integer_of(double v, int64_t *q)
{
    if (!(v >= -9223372036854775808.0 && v < 9223372036854775808.0))
        return false;
    *q = (int64_t)v;
    return num_bits((double)*q) == num_bits(v);
}

static bool exact_at(double v, unsigned e, int64_t *q)
{
    return e == 0 ? integer_of(v, q) : decimal_of(v, e, q);
}

/* The exponent under which numbers and odd ones together cost least, by a guess of 10/3 bits a digit
 * and ten bytes an odd number. */
static unsigned choose_exponent(const double *v, size_t m, enum codec_effort effort)
{
    size_t count[MAX_EXPONENT + 2] = {0}, step = effort == CODEC_FAST && m > 64 ? m / 64 : 1;
    size_t looked = 0, covered = 0;
    double best = INFINITY;
    unsigned choice = 0, guess = 0;
    int64_t q;

    for (size_t i = 0; i < m; i += step, looked++) {
        unsigned e = 0;
        /* Neighbours mostly have the same number of digits. */
        if (guess && exact_at(v[i], guess, &q) && !exact_at(v[i], guess - 1, &q))
            e = guess;
        else
            while (e <= MAX_EXPONENT && !exact_at(v[i], e, &q))
                e++;
        count[e]++;
        if (e <= MAX_EXPONENT)
            guess = e;
    }
    for (unsigned e = 0; e <= MAX_EXPONENT; e++) {
        double cost;
        covered += count[e];
        cost = (double)covered * 10 / 3 * e + (double)(looked - covered) * 80;
        if (cost < best) {
            best = cost;
            choice = e;
        }
    }
    return choice;
}

/* Numbers that e holds go to q, the others' positions to odd. */
static size_t split_odd(struct chunk_scratch *s, size_t m, unsigned e, size_t *n_odd)
{
    size_t kept = 0, odd = 0;

    for (size_t i = 0; i < m; i++) {
        if (exact_at(s->v[i], e, &s->q[kept]))
            kept++;
        else
            s->odd[odd++] = (uint32_t)i;
    }
    *n_odd = odd;
    return kept;
}

static void put_odd(struct buf *to, const struct chunk_scratch *s, size_t n_odd)
{
    uint32_t last = 0;

    buf_uvarint(to, n_odd);
    for (size_t i = 0; i < n_odd; i++) {
        buf_uvarint(to, s->odd[i] - last);
        last = s->odd[i];
    }
    for (size_t i = 0; i < n_odd; i++)
        buf_u64le(to, num_bits(s->v[s->odd[i]]));
}

/* Positions ascend strictly and lie below m; the bits stay in the input. */
static bool get_odd(struct reader *r, uint32_t *odd, size_t m, size_t *n_odd, struct nx_slice *bits)
{
    uint64_t n = reader_uvarint(r), at = 0;

    if (r->bad || n == 0 || n > m)
        return false;
    for (size_t i = 0; i < n; i++) {
        uint64_t gap = reader_uvarint(r);
        if (r->bad || gap >= m || (i > 0 && gap == 0) || (at += gap) >= m)
            return false;
        odd[i] = (uint32_t)at;
    }
    *n_odd = (size_t)n;
    *bits = reader_bytes(r, (size_t)n * 8);
    return !r->bad;
}

/* v[0..m - n_odd) are the regular ones; makes room for the odd, from the end, in place. */
static void spread_odd(double *v, size_t m, const uint32_t *odd, size_t n_odd, struct nx_slice bits)
{
    size_t from = m - n_odd, to = m;

    while (n_odd-- > 0) {
        size_t tail = to - odd[n_odd] - 1;
        memmove(v + to - tail, v + from - tail, tail * sizeof *v);
        from -= tail;
        to -= tail + 1;
        v[to] = num_from_bits(get_u64le(bits.ptr + 8 * n_odd));
    }
}

/* All are odd; an exponent that goes unused follows them. */
static bool spread_all_odd(struct reader *r, double *v, size_t m, struct nx_slice bits)
{
    for (size_t i = 0; i < m; i++)
        v[i] = num_from_bits(get_u64le(bits.ptr + 8 * i));
    return reader_u8(r) <= MAX_EXPONENT && !r->bad;
}

/* Integers to doubles; |q| <= 2^51 goes without a conversion instruction, which SSE2 lacks. */
static inline __attribute__((always_inline)) void divide_all(const int64_t *q, double *v, size_t n,
                                                             double p)
{
    const int64_t magic_bits = 0x4338000000000000; /* 1.5 * 2^52 */
    const double magic = 6755399441055744.0;
    uint64_t any = 0;

    for (size_t i = 0; i < n; i++)
        any |= (uint64_t)q[i] + (UINT64_C(1) << 51);
    if (any >> 52) {
        for (size_t i = 0; i < n; i++)
            v[i] = (double)q[i] / p;
    } else if (p == 1) {
        for (size_t i = 0; i < n; i++)
            v[i] = num_from_bits((uint64_t)(q[i] + magic_bits)) - magic;
    } else {
        for (size_t i = 0; i < n; i++)
            v[i] = (num_from_bits((uint64_t)(q[i] + magic_bits)) - magic) / p;
    }
}

#if defined(__x86_64__)
/* What it costs is divisions, which wider vectors have more of at a time. */
__attribute__((target("avx2"))) static void divide_all_avx2(const int64_t *q, double *v, size_t n,
                                                            double p)
{
    divide_all(q, v, n, p);
}
#endif

static void doubles_of(const int64_t *q, double *v, size_t n, unsigned e)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        divide_all_avx2(q, v, n, pow10_of[e]);
        return;
    }
#endif
    divide_all(q, v, n, pow10_of[e]);
}

static void put_decimal(struct buf *to, struct chunk_scratch *s, size_t m, unsigned e,
                        enum codec_effort effort)
{
    size_t n_odd, kept = split_odd(s, m, e, &n_odd);
    bool same = n_odd == 0;

    for (size_t i = 1; i < kept && same; i++)
        same = s->q[i] == s->q[0];
    buf_u8(to, (uint8_t)((same ? CONST_DEC : DECIMAL) | (n_odd ? HAS_ODD : 0)));
    if (n_odd)
        put_odd(to, s, n_odd);
    buf_u8(to, (uint8_t)e);
    if (same)
        buf_varint(to, s->q[0]);
    else if (kept)
        codec_put_ints(to, s->q, kept, effort, s->tmp);
}

/* ---- decimals that were rounded ------------------------------------------------------------- */

/* The decimal nearest to v and the steps from it to v; false where q would not be exact. */
static inline bool ulps_of(double v, unsigned e, int64_t *q, int64_t *steps)
{
    double x = v * pow10_of[e];

    if (!(x >= -EXACT_INT && x <= EXACT_INT))
        return false;
    *q = nearest(x);
    *steps = codec_order(num_bits(v)) - codec_order(num_bits((double)*q / pow10_of[e]));
    return true;
}

/* The exponent that makes differences and steps narrowest over a stretch; false: none is exact. */
static bool choose_ulp_exponent(const double *v, size_t m, unsigned *choice)
{
    const size_t n = m < 64 ? m : 64;
    uint64_t best = UINT64_MAX;

    v += (m - n) / 2;
    for (unsigned e = 0; e <= MAX_EXPONENT; e++) {
        uint64_t bits = 0;
        int64_t q, steps, last_q = 0, last_steps = 0;
        size_t i;

        for (i = 0; i < n && ulps_of(v[i], e, &q, &steps); i++) {
            unsigned raw = bit_width(zigzag(steps));
            unsigned delta = bit_width(zigzag((int64_t)((uint64_t)steps - (uint64_t)last_steps)));
            bits += i ? bit_width(zigzag(q - last_q)) + (raw < delta ? raw : delta) : 0;
            last_q = q;
            last_steps = steps;
        }
        if (i == n && bits < best) {
            best = bits;
            *choice = e;
        }
    }
    return best != UINT64_MAX;
}

static bool put_decimal_ulp(struct buf *to, struct chunk_scratch *s, size_t m, unsigned e,
                            enum codec_effort effort)
{
    for (size_t i = 0; i < m; i++)
        if (!ulps_of(s->v[i], e, &s->q[i], &s->r[i]))
            return false;
    buf_u8(to, DECIMAL_ULP);
    buf_u8(to, (uint8_t)e);
    codec_put_ints(to, s->q, m, effort, s->tmp);
    codec_put_ints(to, s->r, m, effort, s->tmp);
    return true;
}

static void put_bits(struct buf *to, struct chunk_scratch *s, size_t m, enum codec_effort effort)
{
    for (size_t i = 0; i < m; i++)
        s->q[i] = codec_order(num_bits(s->v[i]));
    buf_u8(to, BITS);
    codec_put_ints(to, s->q, m, effort, s->tmp);
}

/* ---- XOR ------------------------------------------------------------------------------------ */

/* Bits are written from the low end of each byte on, up to 57 at a time. */
struct bit_writer {
    struct buf *to;
    uint64_t bits;
    unsigned n;
};

static void bits_put(struct bit_writer *w, uint64_t v, unsigned n)
{
    if (n > 32) {
        bits_put(w, v & 0xffffffffu, 32);
        v >>= 32;
        n -= 32;
    }
    w->bits |= v << w->n;
    w->n += n;
    while (w->n >= 8) {
        buf_u8(w->to, (uint8_t)w->bits);
        w->bits >>= 8;
        w->n -= 8;
    }
}

static struct bit_reader bits_of(const struct reader *r)
{
    return (struct bit_reader){.p = r->ptr, .end = r->end};
}

/* The reader goes on behind the last byte that bits were taken of. */
static bool bits_end(const struct bit_reader *b, struct reader *r)
{
    r->bad = r->bad || b->bad;
    r->ptr = b->p - b->n / 8;
    return !r->bad;
}

/* Per value: 0 the same; 1 0 within the last window; 1 1, leading zeros (6), length - 1 (6), window. */
static void put_xor(struct buf *to, const double *v, size_t m)
{
    struct bit_writer w = {.to = to};
    uint64_t last = num_bits(v[0]);
    unsigned lead = 65, trail = 0;

    buf_u8(to, XOR);
    buf_u64le(to, last);
    for (size_t i = 1; i < m; i++) {
        const uint64_t x = num_bits(v[i]) ^ last;
        unsigned l, t;

        last ^= x;
        bits_put(&w, x != 0, 1);
        if (!x)
            continue;
        l = (unsigned)__builtin_clzll(x);
        t = (unsigned)__builtin_ctzll(x);
        if (l >= lead && t >= trail && (l - lead) + (t - trail) < 14) {
            bits_put(&w, 0, 1);
        } else {
            lead = l;
            trail = t;
            bits_put(&w, 1, 1);
            bits_put(&w, lead, 6);
            bits_put(&w, 63 - lead - trail, 6);
        }
        bits_put(&w, x >> trail, 64 - lead - trail);
    }
    if (w.n)
        buf_u8(to, (uint8_t)w.bits);
}

static bool get_xor(struct reader *r, double *v, size_t m)
{
    uint64_t last = reader_u64le(r);
    struct bit_reader b = bits_of(r);
    unsigned len = 0, trail = 0;

    v[0] = num_from_bits(last);
    for (size_t i = 1; i < m && !b.bad; i++) {
        if (bits_get(&b, 1)) {
            if (bits_get(&b, 1)) {
                unsigned lead = (unsigned)bits_get(&b, 6);
                len = (unsigned)bits_get(&b, 6) + 1;
                if (lead + len > 64)
                    return false;
                trail = 64 - lead - len;
            }
            if (len == 0)
                return false;
            last ^= bits_get_long(&b, len) << trail;
        }
        v[i] = num_from_bits(last);
    }
    return bits_end(&b, r);
}

/* ---- ALP-RD --------------------------------------------------------------------------------- */

#define RD_MAX_FRONTS 8u /* entries of the dictionary of front bits */

/* The most frequent fronts of v for a cut at `right` bits; returns how many there are, *hits how many
 * values they cover. */
static size_t common_fronts(const double *v, size_t m, unsigned right,
                            uint64_t fronts[RD_MAX_FRONTS], size_t *hits)
{
    uint64_t seen[64];
    size_t count[64] = {0}, n_seen = 0, n = 0;

    for (size_t i = 0; i < m; i++) {
        uint64_t f = num_bits(v[i]) >> right;
        size_t j = 0;
        while (j < n_seen && seen[j] != f)
            j++;
        if (j == n_seen && n_seen < NX_COUNT(seen))
            seen[n_seen++] = f;
        if (j < n_seen)
            count[j]++;
    }
    for (*hits = 0; n < RD_MAX_FRONTS && n < n_seen; n++) {
        size_t top = 0;
        for (size_t j = 1; j < n_seen; j++)
            if (count[j] > count[top])
                top = j;
        if (count[top] == 0)
            break;
        fronts[n] = seen[top];
        *hits += count[top];
        count[top] = 0;
    }
    return n;
}

/* Right widths from 48 to 62; returns the one with the smallest result. */
static unsigned choose_cut(const double *v, size_t m)
{
    size_t best = SIZE_MAX;
    unsigned cut = 52;

    for (unsigned right = 48; right <= 62; right++) {
        uint64_t fronts[RD_MAX_FRONTS];
        size_t hits, n = common_fronts(v, m, right, fronts, &hits);
        size_t bits = m * (right + (n > 4   ? 3
                                    : n > 2 ? 2
                                    : n > 1 ? 1
                                            : 0)) +
                      n * 16 + (m - hits) * 24;
        if (bits < best) {
            best = bits;
            cut = right;
        }
    }
    return cut;
}

/* Cut, number of fronts, fronts (u16 each); per value: index, or the number of fronts and the front
 * itself; then the rest of its bits. */
static void put_rd(struct buf *to, const double *v, size_t m)
{
    const unsigned right = choose_cut(v, m);
    struct bit_writer w = {.to = to};
    uint64_t fronts[RD_MAX_FRONTS];
    size_t hits, n = common_fronts(v, m, right, fronts, &hits);
    const bool escape = hits < m;
    unsigned index_bits = 0;

    while ((1u << index_bits) < n + escape)
        index_bits++;
    buf_u8(to, RD);
    buf_u8(to, (uint8_t)right);
    buf_u8(to, (uint8_t)(n | (escape ? 0x80u : 0)));
    for (size_t j = 0; j < n; j++)
        buf_u16le(to, (uint16_t)fronts[j]);
    for (size_t i = 0; i < m; i++) {
        const uint64_t bits = num_bits(v[i]), f = bits >> right;
        size_t j = 0;
        while (j < n && fronts[j] != f)
            j++;
        bits_put(&w, j, index_bits);
        if (j == n)
            bits_put(&w, f, 64 - right);
        bits_put(&w, bits & ((UINT64_C(1) << right) - 1), right);
    }
    if (w.n)
        buf_u8(to, (uint8_t)w.bits);
}

static bool get_rd(struct reader *r, double *v, size_t m)
{
    const unsigned right = reader_u8(r), counts = reader_u8(r), n = counts & 0x7fu;
    uint64_t fronts[RD_MAX_FRONTS];
    unsigned index_bits = 0;
    struct bit_reader b;

    if (right < 48 || right > 62 || n == 0 || n > RD_MAX_FRONTS)
        return false;
    while ((1u << index_bits) < n + (counts >> 7))
        index_bits++;
    for (unsigned j = 0; j < n; j++)
        fronts[j] = reader_u16le(r);
    b = bits_of(r);
    for (size_t i = 0; i < m && !b.bad; i++) {
        uint64_t j = bits_get_long(&b, index_bits), f;
        if (j > n || (j == n && !(counts >> 7)))
            return false;
        f = j < n ? fronts[j] : bits_get_long(&b, 64 - right);
        v[i] = num_from_bits(f << right | bits_get_long(&b, right));
    }
    return bits_end(&b, r);
}

/* ---- the whole chunk ------------------------------------------------------------------------ */

/* Keeps the smaller of best and other, in best. */
static void keep_smaller(struct chunk_scratch *s)
{
    if (s->other.failed || s->other.len >= s->best.len)
        return;
    struct buf swap = s->best;
    s->best = s->other;
    s->other = swap;
}

/* Encodes s->v[0..m) into s->best, kind byte first. */
static void put_numbers(struct chunk_scratch *s, size_t m, enum codec_effort effort)
{
    const unsigned e = choose_exponent(s->v, m, effort);
    unsigned ulp_e;
    bool plain;

    buf_clear(&s->best);
    put_decimal(&s->best, s, m, e, effort);
    if (s->best.failed)
        return;
    plain = !((uint8_t)s->best.ptr[0] & HAS_ODD) && e <= MOST_PLAIN;
    if ((!((uint8_t)s->best.ptr[0] & HAS_ODD) && s->best.len <= m) ||
        (plain && effort == CODEC_FAST))
        return; /* decimals in a byte each or less, or of few digits: nothing else comes near */
    if (!plain && choose_ulp_exponent(s->v, m, &ulp_e)) { /* of plain ones all steps are 0 */
        buf_clear(&s->other);
        if (put_decimal_ulp(&s->other, s, m, ulp_e, effort))
            keep_smaller(s);
    }
    buf_clear(&s->other);
    put_bits(&s->other, s, m, effort);
    keep_smaller(s);
    if (effort == CODEC_FAST)
        return;
    buf_clear(&s->other);
    put_xor(&s->other, s->v, m);
    keep_smaller(s);
    buf_clear(&s->other);
    put_rd(&s->other, s->v, m);
    keep_smaller(s);
}

static bool all_same(const double *v, size_t n)
{
    const uint64_t bits = num_bits(v[0]);
    uint64_t differ = 0;

    for (size_t i = 1; i < n; i++)
        differ |= num_bits(v[i]) ^ bits;
    return differ == 0;
}

static nx_status encode(struct buf *to, const double *v, size_t n, struct chunk_scratch *s,
                        enum codec_effort effort, struct nx_err *err)
{
    uint64_t patterns[MAX_SPECIALS];
    size_t n_patterns, m;
    int64_t q;
    nx_status st;

    if (n == 0 || n > CHUNK_MAX_ROWS)
        return bad_rows(n, err);
    if (all_same(v, n) && (is_special(v[0]) || !exact_at(v[0], 0, &q))) {
        unsigned e = choose_exponent(v, 1, effort);
        if (is_special(v[0]) || !exact_at(v[0], e, &q) || q >= SHORT_INT || q <= -SHORT_INT) {
            buf_u8(to, CONST);
            buf_u64le(to, num_bits(v[0]));
            return buf_status(to, err);
        }
    }
    st = scratch_fit(s, n, err);
    if (st)
        return st;
    m = split_specials(s, v, n, patterns, &n_patterns);
    buf_clear(&s->best);
    if (m)
        put_numbers(s, m, effort);
    else
        buf_u8(&s->best, CONST_DEC);
    if (s->best.failed)
        return buf_status(&s->best, err);
    buf_u8(to, (uint8_t)((unsigned)(uint8_t)s->best.ptr[0] | (n_patterns ? HAS_SPECIALS : 0)));
    if (n_patterns)
        put_specials(to, s, n, patterns, n_patterns);
    buf_append(to, s->best.ptr + 1, s->best.len - 1);
    return buf_status(to, err);
}

nx_status chunk_encode(struct buf *to, const double *v, size_t n, struct chunk_scratch *s,
                       struct nx_err *err)
{
    return encode(to, v, n, s, CODEC_SMALL, err);
}

nx_status chunk_encode_fast(struct buf *to, const double *v, size_t n, struct chunk_scratch *s,
                            struct nx_err *err)
{
    return encode(to, v, n, s, CODEC_FAST, err);
}

static void fill(double *v, size_t n, double x)
{
    for (size_t i = 0; i < n; i++)
        v[i] = x;
}

static bool get_decimal(struct reader *r, double *v, size_t m, struct chunk_scratch *s)
{
    const unsigned e = reader_u8(r);

    if (e > MAX_EXPONENT || !codec_get_ints(r, s->q, m))
        return false;
    doubles_of(s->q, v, m, e);
    return true;
}

static bool get_decimal_ulp(struct reader *r, double *v, size_t m, struct chunk_scratch *s)
{
    const unsigned e = reader_u8(r);

    if (e > MAX_EXPONENT || !codec_get_ints(r, s->q, m) || !codec_get_ints(r, s->r, m))
        return false;
    doubles_of(s->q, v, m, e);
    for (size_t i = 0; i < m; i++)
        v[i] = num_from_bits(
            codec_unorder((int64_t)((uint64_t)codec_order(num_bits(v[i])) + (uint64_t)s->r[i])));
    return true;
}

static bool get_bits(struct reader *r, double *v, size_t m, struct chunk_scratch *s)
{
    if (!codec_get_ints(r, s->q, m))
        return false;
    for (size_t i = 0; i < m; i++)
        v[i] = num_from_bits(codec_unorder(s->q[i]));
    return true;
}

static bool get_const_dec(struct reader *r, double *v, size_t m)
{
    const unsigned e = reader_u8(r);
    const int64_t q = reader_varint(r);

    if (r->bad || e > MAX_EXPONENT)
        return false;
    fill(v, m, e ? (double)q / pow10_of[e] : (double)q);
    return true;
}

/* m numbers without odd ones; m is not 0. */
static bool get_kind(struct reader *r, unsigned kind, double *v, size_t m, struct chunk_scratch *s)
{
    switch (kind) {
    case CONST_DEC:
        return get_const_dec(r, v, m);
    case DECIMAL:
        return get_decimal(r, v, m, s);
    case DECIMAL_ULP:
        return get_decimal_ulp(r, v, m, s);
    case BITS:
        return get_bits(r, v, m, s);
    case XOR:
        return get_xor(r, v, m);
    case RD:
        return get_rd(r, v, m);
    default:
        return false;
    }
}

static bool get_numbers(struct reader *r, unsigned head, double *v, size_t m,
                        struct chunk_scratch *s)
{
    struct nx_slice bits = {0};
    size_t n_odd = 0;

    if (m == 0)
        return head == CONST_DEC;
    if (head & HAS_ODD && !get_odd(r, s->odd, m, &n_odd, &bits))
        return false;
    if (m > n_odd && !get_kind(r, head & KIND_MASK, v, m - n_odd, s))
        return false;
    if (m == n_odd) /* the exponent of no number */
        return spread_all_odd(r, v, m, bits);
    spread_odd(v, m, s->odd, n_odd, bits);
    return !r->bad;
}

/* At least the first `need` of m numbers. */
static bool get_first(struct reader *r, unsigned head, double *v, size_t m, size_t need,
                      struct chunk_scratch *s)
{
    const unsigned kind = head & KIND_MASK;
    unsigned e = 0;

    if (need == 0 || need >= m || head & HAS_ODD || (kind != DECIMAL && kind != BITS))
        return get_numbers(r, head, v, m, s);
    if (kind == DECIMAL)
        e = reader_u8(r);
    if (e > MAX_EXPONENT || !codec_get_ints_first(r, s->q, m, need))
        return false;
    if (kind == DECIMAL)
        doubles_of(s->q, v, need, e);
    for (size_t i = 0; i < need && kind == BITS; i++)
        v[i] = num_from_bits(codec_unorder(s->q[i]));
    return true;
}

/* The first `need` of n rows. With `marks` the numbers are all 0, and what holds them is not looked at. */
static bool decode(struct reader *r, double *v, size_t n, size_t need, bool marks,
                   struct chunk_scratch *s)
{
    const unsigned head = reader_u8(r);
    uint64_t patterns[MAX_SPECIALS];
    size_t m = n, first = need, k = 0; /* numbers among n rows, and among the first ones */

    if (r->bad || head & ~KNOWN_FLAGS)
        return false;
    if (head == CONST) {
        fill(v, need, num_from_bits(reader_u64le(r)));
        return !r->bad;
    }
    if (head & HAS_SPECIALS) {
        if (!get_specials(r, s->class_of, n, patterns, &k, &m))
            return false;
        first = need == n ? m : 0;
        for (size_t i = 0; i < need && need < n; i++)
            first += s->class_of[i] == 0;
    }
    if (marks && k < MAX_SPECIALS) /* else a mark may be among the numbers */
        memset(v, 0, first * sizeof *v);
    else if (!get_first(r, head & ~HAS_SPECIALS, v, m, first, s))
        return false;
    if (head & HAS_SPECIALS)
        spread_specials(v, need, first, s->class_of, patterns);
    return true;
}

static nx_status decode_all(const void *ptr, size_t len, double *v, size_t n, size_t need,
                            bool marks, struct chunk_scratch *s, struct nx_err *err)
{
    struct reader r = reader_of(ptr, len);
    nx_status st;

    if (n == 0 || n > CHUNK_MAX_ROWS || need == 0 || need > n)
        return bad_rows(n, err);
    st = scratch_fit(s, n, err);
    if (st)
        return st;
    if (!decode(&r, v, n, need, marks, s) || (!marks && need == n && reader_left(&r) != 0))
        return nx_fail(err, NX_CORRUPT, "a chunk of %zu rows in %zu bytes (%s) does not decode", n,
                       len, chunk_encoding_name(ptr, len));
    return NX_OK;
}

nx_status chunk_decode(const void *ptr, size_t len, double *v, size_t n, struct chunk_scratch *s,
                       struct nx_err *err)
{
    return decode_all(ptr, len, v, n, n, false, s, err);
}

nx_status chunk_decode_first(const void *ptr, size_t len, double *v, size_t n, size_t need,
                             bool marks, struct chunk_scratch *s, struct nx_err *err)
{
    return decode_all(ptr, len, v, n, need, marks, s, err);
}

const char *chunk_encoding_name(const void *ptr, size_t len)
{
    unsigned kind = len ? *(const uint8_t *)ptr & KIND_MASK : N_KINDS;

    return kind < N_KINDS ? kind_names[kind] : "unknown";
}

/* ---- timestamps ----------------------------------------------------------------------------- */

nx_status times_encode(struct buf *to, const int64_t *t, size_t n, struct chunk_scratch *s,
                       struct nx_err *err)
{
    nx_status st;

    if (n == 0 || n > CHUNK_MAX_ROWS)
        return bad_rows(n, err);
    st = scratch_fit(s, n, err);
    if (st)
        return st;
    codec_put_ints(to, t, n, CODEC_SMALL, s->tmp);
    return buf_status(to, err);
}

nx_status times_decode(const void *ptr, size_t len, int64_t *t, size_t n, struct chunk_scratch *s,
                       struct nx_err *err)
{
    struct reader r = reader_of(ptr, len);

    (void)s;
    if (n == 0 || n > CHUNK_MAX_ROWS)
        return bad_rows(n, err);
    if (!codec_get_ints(&r, t, n) || reader_left(&r) != 0)
        return nx_fail(err, NX_CORRUPT, "%zu timestamps in %zu bytes do not decode", n, len);
    return NX_OK;
}
