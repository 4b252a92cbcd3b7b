/* moment.h - times on the command line: Unix seconds with a fraction, or RFC 3339. Private to src/cli. */
#pragma once

#include "src/base/status.h"

/* Nanoseconds of Unix time; RFC 3339 to the millisecond. NX_BADINPUT with promtool's words. */
NX_NODISCARD nx_status moment_parse(const char *text, int64_t *ns, struct nx_err *err);
