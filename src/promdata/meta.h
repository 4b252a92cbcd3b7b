/* meta.h - what the meta.json of a block of Prometheus says, and its tombstones. Private to src/promdata. */
#pragma once

#include "src/promdata/file.h"

struct pd_meta {
    int64_t min_ms, max_ms; /* max exclusive */
    bool
        aside; /* of samples out of order, or of some series alone: the head may go back before its end */
};
/* NX_CORRUPT: not such a file. */
NX_NODISCARD nx_status pd_meta_parse(struct nx_slice text, struct pd_meta *m, struct nx_err *err);

/* Deleted spans by series. */
struct pd_stone {
    uint64_t ref;
    int64_t min_ms, max_ms; /* both inclusive */
};
struct pd_stones {
    struct pd_stone *v; /* by ref, then min_ms; spans of one ref don't touch */
    size_t n, cap;
};
NX_NODISCARD nx_status pd_stones_add(struct pd_stones *s, uint64_t ref, int64_t min_ms,
                                     int64_t max_ms, struct nx_err *err);
void pd_stones_order(struct pd_stones *s); /* after the last one was added */
void pd_stones_done(struct pd_stones *s);
/* The stones of `ref`: *n from the returned one on. */
const struct pd_stone *pd_stones_of(const struct pd_stones *s, uint64_t ref, size_t *n);
/* Whether one of n spans in order holds t. */
bool pd_stones_hold(const struct pd_stone *v, size_t n, int64_t t);

/* The file `tombstones`. NX_CORRUPT: a rule is broken; spans that could be read were added all the same. */
NX_NODISCARD nx_status pd_stones_parse(const uint8_t *p, size_t len, struct pd_stones *to,
                                       struct nx_err *err);
