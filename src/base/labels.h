/* labels.h - sets of name/value pairs, sorted by name.
 *
 * A label set never holds an empty value (an absent label and an empty one are the same in
 * Prometheus), never a name twice, and is sorted by the bytes of the names. `struct labels` is a
 * view: whoever made it says how long its bytes live. Threads: values are immutable. */
#pragma once

#include "src/base/arena.h"
#include "src/base/buf.h"

struct label {
    struct nx_slice name, value;
};

struct labels {
    const struct label *v;
    uint32_t n;
};

#define LABEL_NAME "__name__"

uint64_t labels_hash(const struct labels *ls);
bool labels_eq(const struct labels *a, const struct labels *b);
/* Orders as Prometheus's labels.Compare does: name, then value, pair by pair; a prefix is smaller. */
int labels_cmp(const struct labels *a, const struct labels *b);
/* The value of `name`, or an empty slice. */
struct nx_slice labels_get(const struct labels *ls, struct nx_slice name);
struct nx_slice labels_get_str(const struct labels *ls, const char *name);
/* Deep copy into the arena. v is NULL on failure with n > 0. */
nx_status labels_copy(struct arena *a, const struct labels *from, struct labels *to,
                      struct nx_err *err);

/* Prometheus's text form: name{a="b", c="d"}; {a="b"} without a name; `{}` when empty. Names that are
 * not legacy-valid are quoted. */
void labels_print(struct buf *b, const struct labels *ls);
/* As Go's Labels.String(): the name is a label like others. */
void labels_print_set(struct buf *b, const struct labels *ls);
/* JSON object with keys in order; HTML characters are written raw, as 3.x does. */
void labels_print_json(struct buf *b, const struct labels *ls);

/* Hash over some labels only: `on` true takes just `names`, false all but `names` and __name__.
 * `names` is sorted. For grouping and vector matching; equal sets give equal hashes, and
 * labels_eq_some() tells for sure. */
uint64_t labels_hash_some(const struct labels *ls, const struct nx_slice *names, size_t n, bool on);
bool labels_eq_some(const struct labels *a, const struct labels *b, const struct nx_slice *names,
                    size_t n, bool on);

bool label_name_legacy_valid(struct nx_slice name);  /* [a-zA-Z_][a-zA-Z0-9_]* */
bool metric_name_legacy_valid(struct nx_slice name); /* [a-zA-Z_:][a-zA-Z0-9_:]* */
bool label_name_valid(struct nx_slice name);         /* 3.x: any non-empty UTF-8 */
bool utf8_valid(struct nx_slice s);

/* Builds a set step by step. Slices are borrowed and must outlive the builder's use; the set that
 * labels_builder_build() gives points at the same bytes. Setting an empty value removes the label. */
struct labels_builder {
    struct label *v;
    uint32_t n, cap;
    bool nomem;
};
void labels_builder_init(struct labels_builder *b);
void labels_builder_done(struct labels_builder *b);
void labels_builder_reset(struct labels_builder *b,
                          const struct labels *base); /* base may be NULL */
void labels_builder_set(struct labels_builder *b, struct nx_slice name, struct nx_slice value);
void labels_builder_del(struct labels_builder *b, struct nx_slice name);
struct nx_slice labels_builder_get(const struct labels_builder *b, struct nx_slice name);
/* Sorted view of the builder's own array; valid until the builder changes. NX_NOMEM if a set failed. */
nx_status labels_builder_build(struct labels_builder *b, struct labels *out, struct nx_err *err);
