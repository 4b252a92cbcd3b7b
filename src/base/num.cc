/* num.cc - <charconv> behind num.h.
 *
 * WHY     std::from_chars and std::to_chars are exact, fast and know no locale; C has nothing of
 *         the kind.
 * SHAPE   Most values are small integers, decimals of few digits, or known to shortest.h. For all others
 *         to_chars gives the shortest digits in scientific form; from these the text is laid out
 *         here. (Its fixed form prints large integers exactly, where Go pads the shortest digits
 *         with zeros.)
 * RULES   N1  What does not parse leaves *out alone.
 *         N2  A magnitude below the smallest double reads as zero, one above the largest fails and
 *             says so: as strconv.ParseFloat. */
#include "src/base/num.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <system_error>

#include "src/base/digits.h"
#include "src/base/shortest.h"

namespace
{

bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* `s` is `word`, in any case; word is lower case. */
bool same_word(const char *s, size_t len, const char *word)
{
    if (strlen(word) != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((s[i] | 0x20) != word[i])
            return false;
    }
    return true;
}

/* Tells overflow from underflow where from_chars says only "out of range": is |decimal| above 1? */
bool is_large(const char *p, const char *end)
{
    long long point = 0, exponent = 0; /* of the first digit that is not zero */
    bool seen_point = false, seen_digit = false;

    for (; p < end && (is_digit(*p) || *p == '.'); p++) {
        if (*p == '.') {
            seen_point = true;
        } else if (seen_digit || *p != '0') {
            seen_digit = true;
            point += !seen_point;
        } else if (seen_point) {
            point--;
        }
    }
    if (p < end) { /* e or E */
        const char *from = p + 1 + (p + 1 < end && p[1] == '+');
        if (std::from_chars(from, end, exponent).ec == std::errc::result_out_of_range)
            return *from != '-';
    }
    return exponent > -point;
}

struct shortest {
    char text[48]; /* d.ddde+XX */
    const char *digits;
    int n;        /* of digits */
    int exponent; /* of the first digit: d.ddd * 10^exponent */
};

void decompose(struct shortest *to, double magnitude)
{
    char *text = to->text;
    const char *e =
        std::to_chars(text, text + sizeof to->text, magnitude, std::chars_format::scientific).ptr;

    to->exponent = 0;
    for (int unit = 1; is_digit(*--e); unit *= 10)
        to->exponent += (*e - '0') * unit;
    if (*e-- == '-')
        to->exponent = -to->exponent;
    if (text[1] == '.')
        *++text = to->text[0]; /* over the point: the digits are one run */
    to->digits = text;
    to->n = static_cast<int>(e - text);
}

char *put_exponent_form(char *to, const struct shortest *d)
{
    int e = d->exponent < 0 ? -d->exponent : d->exponent;

    *to++ = d->digits[0];
    if (d->n > 1) {
        *to++ = '.';
        memcpy(to, d->digits + 1, static_cast<size_t>(d->n - 1));
        to += d->n - 1;
    }
    *to++ = 'e';
    *to++ = d->exponent < 0 ? '-' : '+';
    if (e < 10)
        *to++ = '0';
    return std::to_chars(to, to + 4, e).ptr;
}

char *put_plain_form(char *to, const struct shortest *d)
{
    int whole = d->exponent + 1; /* digits before the point */

    if (whole <= 0) {
        *to++ = '0';
        *to++ = '.';
        for (int i = whole; i < 0; i++)
            *to++ = '0';
        memcpy(to, d->digits, static_cast<size_t>(d->n));
        return to + d->n;
    }
    for (int i = 0; i < whole || i < d->n; i++) {
        if (i == whole)
            *to++ = '.';
        *to++ = i < d->n ? d->digits[i] : '0';
    }
    return to;
}

/* NaN and the infinities, or 0 bytes. */
size_t put_special(char *to, double v)
{
    const char *text = std::isnan(v) ? "NaN" : !std::isinf(v) ? "" : v > 0 ? "+Inf" : "-Inf";

    memcpy(to, text, strlen(text));
    return strlen(text);
}

/* Small integers, which most values are, need no search for the shortest digits. */
size_t put_small_integer(char *to, double v, double below)
{
    if (!(v > -below && v < below) || (v == 0 && std::signbit(v)))
        return 0;
    long long i = static_cast<long long>(v);
    if (static_cast<double>(i) != v)
        return 0;
    return static_cast<size_t>(std::to_chars(to, to + NUM_TEXT_BYTES, i).ptr - to);
}

/* all / unit as a decimal; it is not whole. Divisors are known here: what divides by them only multiplies. */
template <unsigned unit> char *put_fraction(char *p, unsigned long long all)
{
    unsigned rest = static_cast<unsigned>(all % unit);

    p = std::to_chars(p, p + 16, all / unit).ptr;
    *p++ = '.';
    if (unit == 1000) { /* few enough for one by one */
        for (unsigned at = unit / 10; at > 0; at /= 10, p++)
            *p = static_cast<char>('0' + rest / at % 10);
        while (p[-1] == '0')
            p--;
        return p;
    }
    uint64_t digits = digits_8(rest * (100000000 / unit));
    digits_put_8(p, digits);
    return p + digits_8_significant(digits);
}

/* Decimals of few digits, which most other values are: if v is the double nearest to m / 10^k and m has
 * at most 15 digits, then that decimal is the shortest text, for no other one of 15 digits is as near. */
size_t put_short_decimal(char *to, double v, double least, double below)
{
    double magnitude = std::fabs(v), scale = 1e3, m;
    char *p = to;

    if (!(magnitude >= least && magnitude < below))
        return 0;
    /* What is not near a whole number of millionths has not six decimals: rounding twice moves it by less
     * than 2^-51 of it. */
    m = magnitude * 1e6;
    if (std::fabs(m - static_cast<double>(static_cast<long long>(m + 0.5))) > m * 0x1p-51)
        return 0;
    m = std::trunc(magnitude * scale);
    if (m / scale != magnitude) {
        scale = 1e6;
        m = std::trunc(magnitude * scale);
        if (m / scale != magnitude)
            return 0;
    }
    unsigned long long all = static_cast<unsigned long long>(m);
    if (v < 0)
        *p++ = '-';
    if (scale == 1e3)
        return static_cast<size_t>(put_fraction<1000>(p, all) - to);
    p = put_fraction<1000000>(p, all);
    return static_cast<size_t>(p - to);
}

constexpr uint64_t power_of_10(unsigned n)
{
    return n ? 10 * power_of_10(n - 1) : 1;
}

#define POWERS_4(n) power_of_10(n), power_of_10(n + 1), power_of_10(n + 2), power_of_10(n + 3)
constexpr uint64_t powers_of_10[] = {POWERS_4(0), POWERS_4(4), POWERS_4(8), POWERS_4(12),
                                     power_of_10(16)};
#undef POWERS_4

/* Values whose digits shortest.h knows. Between whole numbers lies a value with its decimals: the whole part is
 * that of v itself. */
size_t put_known(char *to, double v, double least, double below)
{
    double magnitude = std::fabs(v);
    char *p = to;

    if (!(magnitude >= least && magnitude < below))
        return 0;
    struct decimal d = shortest_decimal(magnitude);
    if (!d.digits || d.exponent >= 0)
        return 0;
    unsigned places = static_cast<unsigned>(-d.exponent);
    uint64_t whole = static_cast<uint64_t>(magnitude), part = d.digits;
    if (v < 0)
        *p++ = '-';
    if (whole) /* then there are 16 places at most */
        part -= whole * powers_of_10[places];
    p = std::to_chars(p, p + 16, whole).ptr;
    *p++ = '.';
    if (places > 16) { /* all but the last 16 are zeros and one digit */
        memset(p, '0', 8);
        p += places - 16;
        p[-1] = static_cast<char>('0' + part / powers_of_10[16]);
        part %= powers_of_10[16];
        places = 16;
    }
    part *= powers_of_10[16 - places];
    digits_put_8(p, digits_8(part / 100000000));
    digits_put_8(p + 8, digits_8(part % 100000000));
    return static_cast<size_t>(p + places - to);
}

size_t put_finite(char *to, double v, int least_plain, int first_large)
{
    struct shortest d;
    char *p = to;

    /* Here, but not for larger ones, the fixed form has the shortest digits, too. */
    if (std::fabs(v) >= 1e-4 && std::fabs(v) < 1e6)
        return static_cast<size_t>(
            std::to_chars(to, to + NUM_TEXT_BYTES, v, std::chars_format::fixed).ptr - to);
    if (std::signbit(v))
        *p++ = '-';
    decompose(&d, std::fabs(v));
    p = d.exponent < least_plain || d.exponent >= first_large ? put_exponent_form(p, &d)
                                                              : put_plain_form(p, &d);
    return static_cast<size_t>(p - to);
}

template <typename T> bool parse_integer(struct nx_slice s, bool plus, T *out)
{
    const char *p = s.ptr, *end = s.ptr + s.len;
    T v;

    if (plus && s.len > 1 && *p == '+' && p[1] != '-')
        p++;
    auto r = std::from_chars(p, end, v);
    if (s.len == 0 || r.ec != std::errc() || r.ptr != end)
        return false;
    *out = v;
    return true;
}

} // namespace

bool num_parse(struct nx_slice s, double *out, bool *out_of_range)
{
    const char *p = s.ptr, *end = s.ptr + s.len;
    bool negative = false;
    double v = 0;

    if (out_of_range)
        *out_of_range = false;
    if (s.len == 0)
        return false;
    if (same_word(p, s.len, "nan")) { /* takes no sign */
        *out = num_from_bits(NUM_NAN_BITS);
        return true;
    }
    if (*p == '+' || *p == '-')
        negative = *p++ == '-';
    size_t len = static_cast<size_t>(end - p);
    if (same_word(p, len, "inf") || same_word(p, len, "infinity")) {
        *out = negative ? -HUGE_VAL : HUGE_VAL;
        return true;
    }
    if (p == end || !(is_digit(*p) || *p == '.')) /* no second sign, no nan(...) */
        return false;
    auto r = std::from_chars(p, end, v, std::chars_format::general);
    if (r.ec == std::errc::invalid_argument || r.ptr != end)
        return false;
    if (r.ec == std::errc::result_out_of_range || std::isinf(v)) {
        if (is_large(p, end)) {
            if (out_of_range)
                *out_of_range = true;
            return false;
        }
        v = 0;
    }
    *out = negative ? -v : v;
    return true;
}

bool num_parse_i64(struct nx_slice s, int64_t *out)
{
    return parse_integer(s, true, out);
}

bool num_parse_u64(struct nx_slice s, uint64_t *out)
{
    return parse_integer(s, false, out);
}

size_t num_format(char *to, double v)
{
    size_t n = put_small_integer(to, v, 1e15);

    if (!n)
        n = put_short_decimal(to, v, 1e-6, 1e9);
    if (!n)
        n = put_known(to, v, 1e-6, 1e15);
    if (!n)
        n = put_special(to, v);
    return n ? n : put_finite(to, v, -6, 21);
}

size_t num_format_g(char *to, double v)
{
    size_t n = put_small_integer(to, v, 1e6);

    if (!n)
        n = put_short_decimal(to, v, 1e-4, 1e6);
    if (!n)
        n = put_known(to, v, 1e-4, 1e6);
    if (!n)
        n = put_special(to, v);
    return n ? n : put_finite(to, v, -4, 6);
}

size_t num_format_e(char *to, double v)
{
    struct shortest d;
    size_t n = put_special(to, v);
    char *p = to;

    if (n)
        return n;
    if (std::signbit(v))
        *p++ = '-';
    decompose(&d, std::fabs(v));
    return static_cast<size_t>(put_exponent_form(p, &d) - to);
}

size_t num_format_om(char *to, double v)
{
    size_t n = num_format_g(to, v);

    if (std::isfinite(v) && !memchr(to, '.', n) && !memchr(to, 'e', n)) {
        to[n++] = '.';
        to[n++] = '0';
    }
    return n;
}

void buf_num(struct buf *b, double v)
{
    char text[NUM_TEXT_BYTES];

    buf_append(b, text, num_format(text, v));
}
