/* test_rules.h - unit tests of rules: one test of a file. Private to src/cli. */
#pragma once

#include "src/config/config.h"
#include "src/rules/rules.h"

struct unit_opts {
    struct pql_features features;
    bool debug, diff, ignore_unknown_fields;
};

/* What went wrong, in promtool's words; several lines each. In the arena. */
struct unit_errors {
    struct arena *a;
    const char **v;
    size_t n;
    bool nomem;
};
void unit_error_text(struct unit_errors *e, const char *text); /* copied */

/* Runs a test over the rule files, which are whole paths; `name` is for --debug. */
void unit_test_run(const struct config_tests *file, const struct config_test *t, const char *name,
                   const struct config_strings *rule_files, const struct unit_opts *opts,
                   struct unit_errors *e);

/* An alert as it is expected or as it was found. */
struct unit_alert {
    struct labels labels, annotations;
};
/* Coloured differences, as the library prints them that promtool uses: what is missing, what is too much, what
 * changed. */
void unit_diff(struct buf *b, const struct unit_alert *want, size_t n_want,
               const struct unit_alert *got, size_t n_got);
