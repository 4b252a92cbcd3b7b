/* annot.h - warnings and infos that a query gathers. Private to promql/.
 *
 * An annotation is kept once per text. Threads: one at a time. */
#pragma once

#include "promql/ast.h"

enum annot_level { ANNOT_WARNING, ANNOT_INFO };

struct annot {
    enum annot_level level;
    char *text; /* without position; identity of the annotation */
    struct pql_pos pos;
    /* histogram_quantile's monotonicity info merges what it saw */
    bool monotonic;
    int64_t min_ms, max_ms;
    double min_bucket, max_bucket, max_diff;
    unsigned seen;
};

struct annots {
    struct arena *a; /* borrowed; holds the texts */
    struct annot *v;
    size_t n, cap;
    bool failed; /* out of memory: the list is incomplete */
};

/* "PromQL warning: " or "PromQL info: " is put before the text. */
void annots_add(struct annots *as, enum annot_level level, struct pql_pos pos, const char *fmt, ...)
    NX_PRINTF(4, 5);
void annots_quantile(struct annots *as, struct pql_pos pos, double q);
/* `name` may be empty. */
void annots_monotonic(struct annots *as, struct pql_pos pos, struct nx_slice name, int64_t t_ms,
                      double min_bucket, double max_bucket, double max_diff);

/* As if all that `from` was told had been told to `as`. */
void annots_merge(struct annots *as, const struct annots *from);
/* After annots_merge(): makes what `from` was told the last that was told, without telling it twice. */
void annots_repeat(struct annots *as, const struct annots *from);

/* Writes the texts of one level, with "(line:column)", into `a`: at most ten, and a line that counts
 * the rest. */
NX_NODISCARD nx_status annots_texts(const struct annots *as, enum annot_level level,
                                    struct nx_slice query, struct arena *a, char ***out, size_t *n,
                                    struct nx_err *err);
