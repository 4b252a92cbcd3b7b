/* regex.h - RE2 behind a C header (regex.cc is the C++).
 *
 * Patterns are Prometheus's: RE2 syntax, anchored at both ends by us, dot matches newline (3.x).
 * Threads: a compiled regex is immutable and may be shared. */
#pragma once

#include "src/base/buf.h"

#ifdef __cplusplus
extern "C" {
#endif

struct regex;

/* The error text is Go's form: "error parsing regexp: missing closing ]: `[`" where RE2 tells as much. */
NX_NODISCARD nx_status regex_new(struct regex **out, struct nx_slice pattern, struct nx_err *err);
/* The same, but errors quote what Prometheus's relabelling compiles: "missing closing ]: `[)$`",
 * and a \Q without its \E is one. */
NX_NODISCARD nx_status regex_new_for_relabel(struct regex **out, struct nx_slice pattern,
                                             struct nx_err *err);
/* For the two functions at the end alone: the pattern as it is, not anchored, as Go's regexp.Compile has it. */
NX_NODISCARD nx_status regex_new_search(struct regex **out, struct nx_slice pattern,
                                        struct nx_err *err);
void regex_free(struct regex *re); /* accepts NULL */

bool regex_match(const struct regex *re, struct nx_slice text); /* the whole text */

/* Matches the whole text; if it does, appends `template` to `out` with $1, ${1}, $name, ${name} and $$
 * expanded as Go's Regexp.Expand does ($1x is the group named "1x"; unknown groups are empty). */
bool regex_expand(const struct regex *re, struct nx_slice text, struct nx_slice tmpl,
                  struct buf *out);

/* Of regex_new_search(): whether the text holds a match, and Go's ReplaceAllString. */
bool regex_search(const struct regex *re, struct nx_slice text);
void regex_replace_all(const struct regex *re, struct nx_slice text, struct nx_slice tmpl,
                       struct buf *out);

/* When the pattern is a plain alternation of literals ("a|b|c", no flags), gives them (valid as long
 * as `re`), so that a lookup can replace a scan. Returns 0 otherwise. */
size_t regex_literals(const struct regex *re, const struct nx_slice **out);
/* A literal prefix every match starts with; empty if none is known. Valid as long as `re`. */
struct nx_slice regex_prefix(const struct regex *re);

#ifdef __cplusplus
}
#endif
