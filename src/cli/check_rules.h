/* check_rules.h - one file of rules, checked and linted. Private to src/cli. */
#pragma once

#include "src/cli/flags.h"
#include "src/rules/rules.h"

struct rules_lint {
    bool duplicates, fatal, ignore_unknown_fields;
    struct pql_features features;
};
/* Reads --lint; warns of words it does not know, on standard output. `known` are blank-separated words beside
 * those of rules. */
void rules_lint_read(struct rules_lint *l, const char *list, const char *known);

/* Appends promtool's lines for one file: what belongs to standard output and to standard error. Returns 0, 1 for
 * what is wrong, 3 for lint. `path` NULL: `text` is what standard input gave. */
int rules_check(const char *path, struct nx_slice text, const struct rules_lint *l, struct buf *out,
                struct buf *errs);
