/* num.c - Prometheus's durations.
 *
 * SHAPE   One table of units, from the largest down; parsing walks down it and never up again.
 * RULES   D1  The bound is that of Go's time.Duration: 2^63-1 nanoseconds, some 292 years. */
#include "src/base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/text.h"

#define MAX_MS (INT64_MAX / 1000000) /* D1 */

static const struct unit {
    const char *name;
    int64_t ms;
    bool only_exact; /* printed only if nothing remains: 90d, not 12w6d */
} units[] = {
    // clang-format off
    { "y",  365 * 86400000LL, true  },
    { "w",    7 * 86400000LL, true  },
    { "d",        86400000LL, false },
    { "h",         3600000LL, false },
    { "m",           60000LL, false },
    { "s",            1000LL, false },
    { "ms",              1LL, false },
    // clang-format on
};

/* The error's text quotes what came from outside as Go's %q does. */
static nx_status fail_quoting(struct nx_err *err, const char *before, struct nx_slice a,
                              const char *between, struct nx_slice s)
{
    struct buf text;
    nx_status st;

    buf_init(&text, NX_ERR_TEXT_BYTES);
    buf_str(&text, before);
    if (between) {
        text_quote(&text, a);
        buf_str(&text, between);
    }
    text_quote(&text, s);
    st = nx_fail(err, NX_BADINPUT, "%.*s", (int)text.len, text.len ? text.ptr : "");
    buf_done(&text);
    return st;
}

static nx_status not_valid(struct nx_err *err, struct nx_slice s)
{
    return fail_quoting(err, "not a valid duration string: ", nx_slice_of("", 0), NULL, s);
}

/* The run at `*at` of digits or of anything else. */
static struct nx_slice take_run(struct nx_slice s, size_t *at, bool digits)
{
    size_t from = *at;

    while (*at < s.len && (s.ptr[*at] >= '0' && s.ptr[*at] <= '9') == digits)
        ++*at;
    return nx_slice_of(s.ptr + from, *at - from);
}

static size_t find_unit(struct nx_slice name)
{
    size_t i = 0;

    while (i < NX_COUNT(units) && !nx_slice_is(name, units[i].name))
        i++;
    return i;
}

nx_status num_parse_duration(struct nx_slice s, int64_t *ms, struct nx_err *err)
{
    size_t at = 0, next_unit = 0;
    int64_t total = 0;

    if (s.len == 0)
        return nx_fail(err, NX_BADINPUT, "empty duration string");
    if (nx_slice_is(s, "0"))
        at = s.len;
    while (at < s.len) {
        struct nx_slice digits = take_run(s, &at, true);
        struct nx_slice name = take_run(s, &at, false);
        uint64_t n;
        size_t u;

        if (!num_parse_u64(digits, &n) || name.len == 0)
            return not_valid(err, s);
        u = find_unit(name);
        if (u == NX_COUNT(units))
            return fail_quoting(err, "unknown unit ", name, " in duration ", s);
        if (u < next_unit)
            return not_valid(err, s);
        next_unit = u + 1;
        if (n > (uint64_t)(MAX_MS / units[u].ms) || (int64_t)n * units[u].ms > MAX_MS - total)
            return nx_fail(err, NX_BADINPUT, "duration out of range");
        total += (int64_t)n * units[u].ms;
    }
    *ms = total;
    return NX_OK;
}

size_t num_format_duration(char *to, int64_t ms)
{
    uint64_t left = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;
    size_t n = 0;

    if (ms == 0) {
        memcpy(to, "0s", 2);
        return 2;
    }
    if (ms < 0)
        to[n++] = '-';
    for (size_t i = 0; i < NX_COUNT(units); i++) {
        uint64_t unit_ms = (uint64_t)units[i].ms, v = left / unit_ms;
        char text[32];
        int len;

        if (v == 0 || (units[i].only_exact && left % unit_ms))
            continue;
        left %= unit_ms;
        len = snprintf(text, sizeof text, "%llu%s", (unsigned long long)v, units[i].name);
        memcpy(to + n, text, (size_t)len);
        n += (size_t)len;
    }
    return n;
}

void buf_duration(struct buf *b, int64_t ms)
{
    char text[NUM_TEXT_BYTES];

    buf_append(b, text, num_format_duration(text, ms));
}

void buf_num_plain(struct buf *b, double v)
{
    char text[NUM_TEXT_BYTES + 1], mantissa[NUM_TEXT_BYTES];
    size_t len = num_format(text, v), n = 0;
    const char *e;
    int point;

    text[len] = '\0';
    e = strchr(text, 'e');
    if (!e) {
        buf_append(b, text, len);
        return;
    }
    for (const char *c = text; c < e; c++) {
        if (*c == '-')
            buf_char(b, '-');
        else if (*c != '.')
            mantissa[n++] = *c;
    }
    point = (int)strtol(e + 1, NULL, 10) + 1; /* digits before the point */
    if (point <= 0)
        buf_str(b, "0.");
    for (; point < 0; point++)
        buf_char(b, '0');
    buf_append(b, mantissa, n);
    for (size_t i = n; point > 0 && i < (size_t)point; i++)
        buf_char(b, '0');
}
