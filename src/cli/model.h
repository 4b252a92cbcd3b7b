/* model.h - values that the query API answers with, from its JSON to promtool's two printed forms. Private
 * to src/cli. */
#pragma once

#include <jansson.h>

#include "src/base/arena.h"
#include "src/base/buf.h"
#include "src/base/labels.h"

struct model_bucket {
    int boundaries; /* 0: (], 1: [), 2: (), 3: [] */
    double lower, upper, count;
};
struct model_sample {
    int64_t t_ms;
    double v;
    bool is_histogram;
    double count, sum; /* of a histogram, as its buckets */
    struct model_bucket *buckets;
    size_t n_buckets;
};
struct model_series {
    struct labels labels;
    struct model_sample *v; /* of a matrix: floats first, then histograms */
    size_t n, n_floats;
};
enum model_type { MODEL_NONE, MODEL_SCALAR, MODEL_STRING, MODEL_VECTOR, MODEL_MATRIX };
struct model_value {
    enum model_type type;
    struct model_sample scalar; /* its time is a string's, too */
    struct nx_slice string;
    struct model_series *series;
    size_t n;
};

/* Reads "data" of an answer to query or query_range; all in the arena. */
NX_NODISCARD nx_status model_read(const json_t *data, struct arena *a, struct model_value *out,
                                  struct nx_err *err);
/* A JSON object of strings as labels, sorted. */
NX_NODISCARD nx_status model_labels(const json_t *object, struct arena *a, struct labels *out,
                                    struct nx_err *err);
/* As Go prints them with %v; ends without a newline. A matrix is sorted by it. */
void model_print(struct buf *b, struct model_value *v);
/* As Go's encoding/json writes them. */
void model_json(struct buf *b, const struct model_value *v);
/* {__name__="a", b="c"}: the name among the others. */
void model_labels_print(struct buf *b, const struct labels *ls);
void model_labels_json(struct buf *b, const struct labels *ls);
/* A JSON string as Go's encoder writes it: <, > and & escaped. */
void model_string_json(struct buf *b, struct nx_slice s);
