#include "src/cli/memory_limit.h"

/* memory_limit.c - --memory.limit: bytes, a share, 0, or what Prometheus's own flags say.
 *
 * RULES   L1  A share is one of what the cgroup allows, or else of what the machine has.
 *         L2  Without the flag Prometheus's auto-gomemlimit flags hold: nine tenths, unless they are set. Where
 *             neither cgroup nor machine can be read there is then no limit; a share that was asked for
 *             is an error.
 *         L3  A limit below LEAST leaves no room for anything and is an error. */

#include <stdio.h>
#include <string.h>

#include "src/base/cgroup.h"
#include "src/base/num.h"

#define LEAST (8u << 20)

static nx_status bad(const char *text, struct nx_err *err)
{
    return nx_fail(err, NX_BADINPUT,
                   "--memory.limit=%s: not a size (512MB), a share (80%%), or 0 for no limit",
                   text);
}

/* L1 */
static uint64_t share(const char *root, double part, char why[64])
{
    const char *from;
    uint64_t all = memory_available(root, &from);

    snprintf(why, 64, "%g%% of the %s's %llu MiB", part * 100, from,
             (unsigned long long)(all >> 20));
    return (uint64_t)((double)all * part);
}

static nx_status given(const char *text, const char *root, uint64_t *limit, char why[64],
                       struct nx_err *err)
{
    size_t len = strlen(text);
    double part;

    snprintf(why, 64, "as given");
    *limit = 0;
    if (strcmp(text, "0") == 0)
        return NX_OK;
    if (text[len - 1] != '%')
        return flags_parse_bytes(text, limit) ? NX_OK : bad(text, err);
    if (!num_parse(nx_slice_of(text, len - 1), &part, NULL) || !(part > 0 && part <= 100))
        return bad(text, err);
    *limit = share(root, part / 100, why);
    return *limit ? NX_OK
                  : nx_fail(err, NX_UNAVAILABLE,
                            "--memory.limit=%s: the memory of this machine can't be told", text);
}

nx_status memory_limit_of(const struct flags *f, const char *root, uint64_t *limit, char why[64],
                          struct nx_err *err)
{
    const char *text = flags_str(f, "memory.limit");
    uint64_t got = 0;
    nx_status st = NX_OK;
    double part;

    if (text[0]) {
        st = given(text, root, &got, why, err);
    } else if (flags_bool(f, "auto-gomemlimit")) { /* L2 */
        if (!num_parse(nx_slice_str(flags_str(f, "auto-gomemlimit.ratio")), &part, NULL))
            part = 0.9;
        got = share(root, part, why);
    }
    if (!st && got && got < LEAST)
        st = text[0] ? nx_fail(err, NX_BADINPUT, "--memory.limit=%s: less than %u MiB", text,
                               LEAST >> 20)
                     : NX_OK;
    if (st)
        return st;
    *limit = got && got < LEAST ? LEAST : got; /* L3 */
    return NX_OK;
}
