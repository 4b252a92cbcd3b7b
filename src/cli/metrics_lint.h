/* metrics_lint.h - what is unusual about the names, types and labels of an exposition, in the words of
 * client_golang's promlint. Private to src/cli. */
#pragma once

#include "src/cli/metrics_text.h"

struct metrics_problem {
    struct nx_slice metric, text;
};
/* By metric, then text; in the arena. */
NX_NODISCARD nx_status metrics_lint(const struct metrics_families *f, struct arena *a,
                                    struct metrics_problem **out, size_t *n, struct nx_err *err);
