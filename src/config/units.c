/* units.c - sizes with units: 512MB, 1GiB512KiB.
 *
 * RULES   U1  KB and KiB are the same: 1024 bytes. Either all units of one size have the i or none
 *             has.
 *         U2  Fractions and signs are taken (1.5GB, -1KB); whether a size may be negative is for
 *             whoever asked. The texts of errors are those of Prometheus's library. */
#include <string.h>

#include "src/base/num.h"
#include "src/config/decode.h"

static const char prefixes[] = " KMGTPE"; /* of 1024 to the power of the place */

static int power_of(struct nx_slice unit, bool with_i)
{
    if (nx_slice_is(unit, "B"))
        return 0;
    if (unit.len == (with_i ? 3u : 2u) && unit.ptr[unit.len - 1] == 'B' &&
        (!with_i || unit.ptr[1] == 'i')) {
        for (int p = 1; prefixes[p]; p++) {
            if (*unit.ptr == prefixes[p])
                return p;
        }
    }
    return -1;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits with at most one point among them; the bytes are consumed. */
static bool take_number(struct nx_slice *s, double *out)
{
    size_t n = 0;
    bool digits = false, point = false;

    while (n < s->len && (is_digit(s->ptr[n]) || (s->ptr[n] == '.' && !point))) {
        if (s->ptr[n] == '.')
            point = true;
        else
            digits = true;
        n++;
    }
    if (!digits || n > 60 || !num_parse(nx_slice_of(s->ptr, n), out, NULL))
        return false;
    s->ptr += n;
    s->len -= n;
    return true;
}

static nx_status parse(struct nx_slice text, bool with_i, double *bytes, struct nx_err *err)
{
    struct nx_slice s = text;
    double sum = 0, sign = 1;

    if (s.len && (*s.ptr == '-' || *s.ptr == '+')) {
        sign = *s.ptr == '-' ? -1 : 1;
        s.ptr++, s.len--;
    }
    if (nx_slice_is(s, "0")) {
        *bytes = 0;
        return NX_OK;
    }
    if (!s.len)
        return nx_fail(err, NX_BADINPUT, "units: invalid %.*s", (int)text.len, text.ptr);
    while (s.len) {
        struct nx_slice unit = s;
        double v, scale = 1;
        int power;

        if (!take_number(&s, &v))
            return nx_fail(err, NX_BADINPUT, "units: invalid %.*s", (int)text.len, text.ptr);
        unit.ptr = s.ptr;
        for (unit.len = 0;
             unit.len < s.len && !is_digit(s.ptr[unit.len]) && s.ptr[unit.len] != '.';)
            unit.len++;
        if ((power = power_of(unit, with_i)) < 0)
            return nx_fail(err, NX_BADINPUT, "units: unknown unit %.*s in %.*s", (int)unit.len,
                           unit.ptr, (int)text.len, text.ptr);
        while (power-- > 0)
            scale *= 1024;
        sum += v * scale;
        s.ptr += unit.len;
        s.len -= unit.len;
    }
    *bytes = sum * sign;
    return NX_OK;
}

nx_status units_parse(struct nx_slice text, int64_t *bytes, struct nx_err *err)
{
    double v;

    if (text.len > 200)
        return nx_fail(err, NX_BADINPUT, "units: invalid %.200s", text.ptr);
    if (parse(text, true, &v, NULL) && parse(text, false, &v, err)) /* U1 */
        return NX_BADINPUT;
    if (!(v > -0x1p63 && v < 0x1p63))
        return nx_fail(err, NX_BADINPUT, "units: overflow parsing unit");
    *bytes = (int64_t)v;
    return NX_OK;
}

/* Largest units first, each with what is left for it: 1GiB512MiB. */
void units_print(struct buf *b, int64_t bytes)
{
    uint64_t left = bytes < 0 ? 0 - (uint64_t)bytes : (uint64_t)bytes;

    if (!left)
        buf_str(b, "0B");
    for (int p = 6; p >= 0; p--) {
        uint64_t part = left >> (10 * p);

        left -= part << (10 * p);
        if (part && p)
            buf_printf(b, "%s%llu%ciB", bytes < 0 ? "-" : "", (unsigned long long)part,
                       prefixes[p]);
        else if (part)
            buf_printf(b, "%s%lluB", bytes < 0 ? "-" : "", (unsigned long long)part);
    }
}
