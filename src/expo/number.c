/* number.c - sample values.
 *
 * WHY     Nearly all values of an exposition are short decimals. When mantissa and power of ten are
 *         both doubles without rounding, one multiplication or division rounds once and is therefore
 *         exact (Clinger, "How to Read Floating Point Numbers Accurately", 1990).
 * RULES   N1  number_scan() answers only when the result is the same as num_parse()'s.
 *         N2  A minus zero keeps its sign. */
#include "src/expo/number.h"

#include <endian.h>
#include <float.h>
#include <string.h>

#include "src/base/num.h"
#include "src/base/text.h"

#define LARGEST_MANTISSA (1ull << 53)
#define MOST_DIGITS      18 /* fit 64 bits */

static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* Reads e+08, E-3; NULL if it is something else. */
static const char *scan_exponent(const char *p, int *exp10)
{
    bool minus = false;
    int e = 0;
    const char *first;

    p++;
    if (*p == '+' || *p == '-')
        minus = *p++ == '-';
    for (first = p; *p >= '0' && *p <= '9' && p - first < 4; p++)
        e = e * 10 + (*p - '0');
    if (p == first || (*p >= '0' && *p <= '9'))
        return NULL;
    *exp10 = minus ? -e : e;
    return p;
}

/* What the digits m, `fraction` of them behind the point, and the exponent at p come to. */
static inline const char *finish(const char *p, bool minus, uint64_t m, int digits, int fraction,
                                 double *v)
{
    int exp10 = 0;
    double d;

    /* Up to here m may have wrapped; it is used only if the digits say that it has not. */
    if (digits == 0 || digits > MOST_DIGITS || m > LARGEST_MANTISSA)
        return NULL;
    if (*p == 'e' || *p == 'E') {
        p = scan_exponent(p, &exp10);
        if (!p)
            return NULL;
    }
    exp10 -= fraction;
    if (exp10 < -22 || exp10 > 22 || FLT_EVAL_METHOD != 0)
        return NULL;
    d = exp10 < 0 ? (double)m / powers[-exp10] : (double)m * powers[exp10];
    *v = minus ? -d : d; /* N2 */
    return p;
}

static inline const char *scan_digits(const char *p, uint64_t *m)
{
    for (; *p >= '0' && *p <= '9'; p++)
        *m = *m * 10 + (uint64_t)(*p - '0');
    return p;
}

/* The digits among the next eight bytes: how many come first, and what they say. After Lemire, "Number
 * Parsing at a Gigabyte per Second" (2021). */
static inline unsigned digits_of_eight(const char *p, uint64_t *says)
{
    uint64_t v, odd;
    unsigned n;

    memcpy(&v, p, sizeof v);
    v = le64toh(v) ^ 0x3030303030303030u; /* a digit becomes 0 to 9 */
    odd = ((v + 0x7676767676767676u) | v) & 0x8080808080808080u;
    n = odd ? (unsigned)__builtin_ctzll(odd) / 8 : 8; /* carries go up, so the first is right */
    if (n == 0) {
        *says = 0;
        return 0;
    }
    v <<= 64 - 8 * n;
    v = v * 10 + (v >> 8); /* pairs, then all four of them */
    *says = ((v & 0x000000ff000000ffu) * 0x000f424000000064u +
             (v >> 16 & 0x000000ff000000ffu) * 0x0000271000000001u) >>
            32;
    return n;
}

static inline const char *scan_digits_ahead(const char *p, uint64_t *m)
{
    static const uint64_t shift[9] = {1,      10,      100,      1000,     10000,
                                      100000, 1000000, 10000000, 100000000};

    for (int i = 0; i < 3; i++) { /* of more than 24 digits the first 24 are too many already */
        uint64_t says;
        unsigned n = digits_of_eight(p, &says);
        *m = *m * shift[n] + says;
        p += n;
        if (n < 8)
            break;
    }
    return p;
}

const char *number_scan(const char *p, double *v)
{
    bool minus = *p == '-';
    uint64_t m = 0;
    const char *first = p += minus, *point;

    p = scan_digits(p, &m);
    if (*p != '.')
        return finish(p, minus, m, (int)(p - first), 0, v);
    point = p;
    p = scan_digits(p + 1, &m);
    return finish(p, minus, m, (int)(p - first) - 1, (int)(p - point) - 1, v);
}

const char *number_scan_ahead(const char *p, double *v)
{
    bool minus = *p == '-';
    uint64_t m = 0;
    const char *first = p += minus, *point;

    p = scan_digits_ahead(p, &m);
    if (*p != '.')
        return finish(p, minus, m, (int)(p - first), 0, v);
    point = p;
    p = scan_digits_ahead(p + 1, &m);
    return finish(p, minus, m, (int)(p - first) - 1, (int)(p - point) - 1, v);
}

nx_status number_parse(struct nx_slice s, double *v, struct nx_err *err)
{
    bool range = false;
    struct buf text;

    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] == 'p' || s.ptr[i] == 'P' || s.ptr[i] == '_')
            return nx_fail(err, NX_BADINPUT, "unsupported character in float");
    if (num_parse(s, v, &range))
        return NX_OK;
    buf_init(&text, NX_ERR_TEXT_BYTES);
    text_quote(&text, s);
    nx_fail(err, NX_BADINPUT, "strconv.ParseFloat: parsing %s: %s", buf_cstr(&text),
            range ? "value out of range" : "invalid syntax");
    buf_done(&text);
    return NX_BADINPUT;
}
