/* chunk.h - Prometheus's chunks, decoded. Private to src/promdata.
 *
 * Threads  any.
 * Hostile  any bytes give samples or NX_CORRUPT; memory is bounded by the bytes' length. */
#pragma once

#include "src/base/status.h"

struct pd_samples { /* all zero is empty */
    int64_t *t;
    double *v;
    size_t n, cap;
};
NX_NODISCARD nx_status pd_samples_reserve(struct pd_samples *s, size_t extra, struct nx_err *err);
void pd_samples_done(struct pd_samples *s);
/* Brings samples into order; of equal times the first stays. */
struct pd_same {
    uint64_t equal, conflicting; /* dropped, with the same bits and with others */
};
NX_NODISCARD nx_status pd_samples_sort(struct pd_samples *s, struct pd_same *same,
                                       struct nx_err *err);
/* Adds those of `more`; both ascend. Of equal times those of `to` stay. `spare` is working memory. */
NX_NODISCARD nx_status pd_samples_merge(struct pd_samples *to, const struct pd_samples *more,
                                        struct pd_samples *spare, struct pd_same *same,
                                        struct nx_err *err);

enum pd_encoding {
    PD_NONE,
    PD_XOR,
    PD_HISTOGRAM,
    PD_FLOAT_HISTOGRAM,
    PD_XOR2, /* from 3.12 on, with a start timestamp */
    PD_HISTOGRAM_ST,
    PD_FLOAT_HISTOGRAM_ST
};
static inline bool pd_is_histogram(uint8_t encoding)
{
    return encoding == PD_HISTOGRAM || encoding == PD_FLOAT_HISTOGRAM ||
           encoding == PD_HISTOGRAM_ST || encoding == PD_FLOAT_HISTOGRAM_ST;
}

/* How many samples a chunk says it has, of any encoding. */
uint32_t pd_chunk_count(const uint8_t *p, size_t len);
/* Appends the samples of a chunk of floats. NX_CORRUPT: nothing was appended. */
NX_NODISCARD nx_status pd_chunk_decode(uint8_t encoding, const uint8_t *p, size_t len,
                                       struct pd_samples *to, struct nx_err *err);
