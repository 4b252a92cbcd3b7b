#include "src/template/value.h"

/* humanize.c - numbers as people read them, and times. */

#include <math.h>
#include <stdio.h>

#include "src/base/num.h"
#include "src/base/text.h"

static bool number_of(const struct value *v, double *out, struct nx_err *why)
{
    char quoted[TEXT_QUOTED_BYTES];
    bool range = false;

    switch (v->kind) {
    case V_FLOAT:
        *out = v->f;
        return true;
    case V_INT:
        *out = (double)v->i;
        return true;
    case V_STRING:
        if (num_parse(v->s, out, &range))
            return true;
        nx_fail(why, NX_EXEC, "strconv.ParseFloat: parsing %s: %s", text_quoted(quoted, v->s),
                range ? "value out of range" : "invalid syntax");
        return false;
    default:
        nx_fail(why, NX_EXEC, "can't convert %s to float", value_type(v));
        return false;
    }
}

/* %.4g as Go prints it. */
static void put_4g(struct buf *b, double v)
{
    const struct value x = value_float(v);

    print_format(b, nx_slice_str("%.4g"), &x, 1);
}

static const char *scale_down(double *v, double by, const char *const *prefixes)
{
    const char *prefix = "";

    for (; *prefixes && fabs(*v) >= by; prefixes++) {
        prefix = *prefixes;
        *v /= by;
    }
    return prefix;
}

static const char *scale_up(double *v)
{
    static const char *const small[] = {"m", "u", "n", "p", "f", "a", "z", "y", NULL};
    const char *prefix = "";

    for (size_t i = 0; small[i] && fabs(*v) < 1; i++) {
        prefix = small[i];
        *v *= 1000;
    }
    return prefix;
}

static bool with_prefix(struct run *r, double x, const char *prefix, struct value *out)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    put_4g(&b, x);
    buf_str(&b, prefix);
    return run_text(r, &b, out);
}

bool fn_humanize(struct run *r, const struct value *v, size_t n, struct value *out,
                 struct nx_err *why)
{
    static const char *const large[] = {"k", "M", "G", "T", "P", "E", "Z", "Y", NULL};
    const char *prefix = "";
    double x;

    (void)n;
    if (!number_of(v, &x, why))
        return false;
    if (x != 0 && isfinite(x))
        prefix = fabs(x) >= 1 ? scale_down(&x, 1000, large) : scale_up(&x);
    return with_prefix(r, x, prefix, out);
}

bool fn_humanize1024(struct run *r, const struct value *v, size_t n, struct value *out,
                     struct nx_err *why)
{
    static const char *const large[] = {"ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi", NULL};
    const char *prefix = "";
    double x;

    (void)n;
    if (!number_of(v, &x, why))
        return false;
    if (fabs(x) > 1 && isfinite(x))
        prefix = scale_down(&x, 1024, large);
    return with_prefix(r, x, prefix, out);
}

static void put_long_duration(struct buf *b, double v)
{
    int64_t s = fabs(v) < 0x1p63 ? (int64_t)fabs(v) : INT64_MIN; /* as Go converts on amd64 */
    long long days = s / 86400, hours = s / 3600 % 24, minutes = s / 60 % 60, seconds = s % 60;

    if (v < 0)
        buf_char(b, '-');
    if (days)
        buf_printf(b, "%lldd %lldh %lldm %llds", days, hours, minutes, seconds);
    else if (hours)
        buf_printf(b, "%lldh %lldm %llds", hours, minutes, seconds);
    else if (minutes)
        buf_printf(b, "%lldm %llds", minutes, seconds);
    else {
        put_4g(b, fabs(v));
        buf_char(b, 's');
    }
}

bool fn_humanize_duration(struct run *r, const struct value *v, size_t n, struct value *out,
                          struct nx_err *why)
{
    const char *prefix;
    struct buf b;
    double x;

    (void)n;
    if (!number_of(v, &x, why))
        return false;
    buf_init(&b, TEXT_MAX_BYTES);
    if (!isfinite(x)) {
        put_4g(&b, x);
    } else if (fabs(x) >= 1) {
        put_long_duration(&b, x);
    } else {
        prefix = x != 0 ? scale_up(&x) : "";
        put_4g(&b, x);
        buf_printf(&b, "%ss", prefix);
    }
    return run_text(r, &b, out);
}

bool fn_humanize_percentage(struct run *r, const struct value *v, size_t n, struct value *out,
                            struct nx_err *why)
{
    struct buf b;
    double x;

    (void)n;
    if (!number_of(v, &x, why))
        return false;
    buf_init(&b, TEXT_MAX_BYTES);
    put_4g(&b, x * 100);
    buf_char(&b, '%');
    return run_text(r, &b, out);
}

/* To milliseconds, as all times of Prometheus. */
static bool time_of(double x, int64_t *ns, struct nx_err *why)
{
    char text[NUM_TEXT_BYTES];

    if (!isfinite(x)) {
        nx_fail(why, NX_EXEC, "value is NaN or Inf");
        return false;
    }
    if (x * 1e9 >= 0x1p63 || x * 1e9 < -0x1p63) {
        nx_fail(why, NX_EXEC,
                "%.*s cannot be represented as a nanoseconds timestamp since it overflows int64",
                (int)num_format_g(text, x), text);
        return false;
    }
    *ns = (int64_t)(x * 1e9) / 1000000 * 1000000;
    return true;
}

bool fn_humanize_timestamp(struct run *r, const struct value *v, size_t n, struct value *out,
                           struct nx_err *why)
{
    struct buf b;
    int64_t ns = 0;
    double x;

    (void)n;
    if (!number_of(v, &x, why) || (isfinite(x) && !time_of(x, &ns, why)))
        return false;
    buf_init(&b, TEXT_MAX_BYTES);
    if (isfinite(x))
        print_time(&b, ns);
    else
        put_4g(&b, x);
    return run_text(r, &b, out);
}

bool fn_to_time(struct run *r, const struct value *v, size_t n, struct value *out,
                struct nx_err *why)
{
    int64_t ns;
    double x;

    (void)r;
    (void)n;
    if (!number_of(v, &x, why) || !time_of(x, &ns, why))
        return false;
    *out = (struct value){.kind = V_TIME, .i = ns};
    return true;
}

bool fn_to_duration(struct run *r, const struct value *v, size_t n, struct value *out,
                    struct nx_err *why)
{
    double x;

    (void)r;
    (void)n;
    if (!number_of(v, &x, why))
        return false;
    x *= 1e9;
    *out = (struct value){.kind = V_DURATION,
                          .i = x < 0x1p63 && x >= -0x1p63 ? (int64_t)x : INT64_MIN};
    return true;
}

bool fn_parse_duration(struct run *r, const struct value *v, size_t n, struct value *out,
                       struct nx_err *why)
{
    struct nx_slice s = v->s;
    bool minus = s.len && *s.ptr == '-';
    int64_t ms;

    (void)r;
    (void)n;
    if (minus)
        s = nx_slice_of(s.ptr + 1, s.len - 1);
    if (num_parse_duration(s, &ms, why))
        return false;
    *out = value_float((double)(minus ? -ms : ms) / 1000);
    return true;
}
