#include "src/cli/moment.h"

/* moment.c - a number that nanoseconds can hold is seconds; all else is RFC 3339. */

#include <math.h>

#include "src/base/clock.h"
#include "src/base/num.h"
#include "src/base/text.h"

nx_status moment_parse(const char *text, int64_t *ns, struct nx_err *err)
{
    char quoted[TEXT_QUOTED_BYTES];
    double v, whole;
    int64_t ms;

    if (num_parse(nx_slice_str(text), &v, NULL) && fabs(v) < 9e9) {
        double part = modf(v, &whole);
        *ns = (int64_t)whole * 1000000000 + (int64_t)(part * 1e9);
        return NX_OK;
    }
    if (clock_parse_rfc3339(nx_slice_str(text), &ms) &&
        !__builtin_mul_overflow(ms, (int64_t)1000000, ns))
        return NX_OK;
    return nx_fail(err, NX_BADINPUT, "cannot parse %s to a valid timestamp",
                   text_quoted(quoted, nx_slice_str(text)));
}
