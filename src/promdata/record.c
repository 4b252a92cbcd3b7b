/* record.c - the records of Prometheus's log.
 *
 * TYPES    1 series; 2 and 11 samples; 3 tombstones; 4 exemplars; 5 markers of chunks written; 6 metadata; 7 to
 *          10, 12 and 13 histograms. 11 to 13 have a start timestamp by each sample, which is read over.
 *          Unknown ones are read over, as Prometheus does. */
#include "src/promdata/wal.h"

#include "src/base/num.h"

enum {
    SERIES = 1,
    SAMPLES = 2,
    TOMBSTONES = 3,
    EXEMPLARS = 4,
    MARKERS = 5,
    METADATA = 6,
    HISTOGRAMS = 7,
    FLOAT_HISTOGRAMS = 8,
    CUSTOM_HISTOGRAMS = 9,
    CUSTOM_FLOAT_HISTOGRAMS = 10,
    SAMPLES_ST = 11,
    HISTOGRAMS_ST = 12,
    FLOAT_HISTOGRAMS_ST = 13
};
#define NO_START       0
#define SAME_START     1
#define CUSTOM_BUCKETS (-53) /* the schema that carries its own bounds */

static nx_status broken(const char *what, struct nx_err *err)
{
    return nx_fail(err, NX_CORRUPT, "a record of %s breaks off", what);
}

static nx_status read_series(struct pd_wal *w, struct reader *r, struct pd_visitor *v,
                             struct nx_err *err)
{
    nx_status st = NX_OK;

    while (reader_left(r) && !st) {
        const uint64_t ref = pd_take_u64(r), n = reader_uvarint(r);
        struct labels ls;

        if (r->bad || n > reader_left(r) / 2)
            return broken("series", err);
        labels_builder_reset(&w->labels, NULL);
        for (uint64_t i = 0; i < n; i++) {
            const struct nx_slice name = reader_bytes(r, (size_t)reader_uvarint(r));
            const struct nx_slice value = reader_bytes(r, (size_t)reader_uvarint(r));
            if (r->bad)
                return broken("series", err);
            labels_builder_set(&w->labels, name, value);
        }
        st = labels_builder_build(&w->labels, &ls, err);
        if (!st && ls.n)
            st = v->series(v->ctx, ref, &ls, err);
    }
    return st;
}

static nx_status read_samples(struct reader *r, struct pd_visitor *v, struct nx_err *err)
{
    const uint64_t ref = reader_left(r) ? pd_take_u64(r) : 0;
    const uint64_t t = reader_left(r) ? pd_take_u64(r) : 0;
    nx_status st = NX_OK;

    while (reader_left(r) && !st) {
        const uint64_t more_ref = (uint64_t)reader_varint(r), more_t = (uint64_t)reader_varint(r);
        const uint64_t bits = pd_take_u64(r);
        if (r->bad)
            return broken("samples", err);
        st = v->sample(v->ctx, ref + more_ref, (int64_t)(t + more_t), num_from_bits(bits), err);
    }
    return st || !r->bad ? st : broken("samples", err);
}

static void skip_start(struct reader *r)
{
    const uint8_t mark = reader_u8(r);

    if (mark != NO_START && mark != SAME_START)
        (void)reader_varint(r);
}

/* Series and time of a sample in a record with start times. */
struct place {
    uint64_t ref, t, first_t;
    bool begun;
};

/* The next one: the reference against the sample before, the time against the first. */
static void take_place(struct reader *r, struct place *at)
{
    at->ref += (uint64_t)reader_varint(r);
    at->t = (uint64_t)reader_varint(r);
    if (at->begun) {
        at->t += at->first_t;
        skip_start(r);
    } else {
        at->first_t = at->t;
        at->begun = true;
        (void)reader_varint(r);
    }
}

static nx_status read_samples_st(struct reader *r, struct pd_visitor *v, struct nx_err *err)
{
    struct place at = {0};
    nx_status st = NX_OK;

    while (reader_left(r) && !st) {
        uint64_t bits;
        take_place(r, &at);
        bits = pd_take_u64(r);
        if (r->bad)
            return broken("samples", err);
        st = v->sample(v->ctx, at.ref, (int64_t)at.t, num_from_bits(bits), err);
    }
    return st;
}

static nx_status read_stones(struct reader *r, struct pd_visitor *v, struct nx_err *err)
{
    nx_status st = NX_OK;

    while (reader_left(r) && !st) {
        const uint64_t ref = pd_take_u64(r);
        const int64_t min = reader_varint(r), max = reader_varint(r);
        if (r->bad)
            return broken("tombstones", err);
        st = v->stone(v->ctx, ref, min, max, err);
    }
    return st;
}

/* ---- histograms: only whose and when -------------------------------------------------------- */

static void skip_spans(struct reader *r)
{
    const uint64_t n = reader_uvarint(r);

    for (uint64_t i = 0; i < n && !r->bad; i++) {
        (void)reader_varint(r);
        (void)reader_uvarint(r);
    }
}

static void skip_numbers(struct reader *r, bool wide)
{
    const uint64_t n = reader_uvarint(r);

    for (uint64_t i = 0; i < n && !r->bad; i++) {
        if (wide)
            (void)pd_take_u64(r);
        else
            (void)reader_varint(r);
    }
}

static void skip_histogram(struct reader *r, bool floats)
{
    int64_t schema;

    (void)reader_u8(r); /* counter reset hint */
    schema = reader_varint(r);
    (void)pd_take_u64(r); /* zero threshold */
    for (unsigned i = 0; i < 2; i++) {
        if (floats)
            (void)pd_take_u64(r); /* zero count, count */
        else
            (void)reader_uvarint(r);
    }
    (void)pd_take_u64(r); /* sum */
    skip_spans(r);
    skip_spans(r);
    skip_numbers(r, floats);
    skip_numbers(r, floats);
    if (schema == CUSTOM_BUCKETS)
        skip_numbers(r, true);
}

static nx_status read_histograms(struct reader *r, bool floats, struct pd_visitor *v,
                                 struct nx_err *err)
{
    const uint64_t ref = reader_left(r) ? pd_take_u64(r) : 0;
    const uint64_t t = reader_left(r) ? pd_take_u64(r) : 0;
    nx_status st = NX_OK;

    while (reader_left(r) && !st) {
        const uint64_t more_ref = (uint64_t)reader_varint(r), more_t = (uint64_t)reader_varint(r);
        skip_histogram(r, floats);
        if (r->bad)
            return broken("histograms", err);
        st = v->histogram(v->ctx, ref + more_ref, (int64_t)(t + more_t), err);
    }
    return st || !r->bad ? st : broken("histograms", err);
}

static nx_status read_histograms_st(struct reader *r, bool floats, struct pd_visitor *v,
                                    struct nx_err *err)
{
    struct place at = {0};
    nx_status st = NX_OK;

    while (reader_left(r) && !st) {
        take_place(r, &at);
        skip_histogram(r, floats);
        if (r->bad)
            return broken("histograms", err);
        st = v->histogram(v->ctx, at.ref, (int64_t)at.t, err);
    }
    return st;
}

nx_status pd_record_read(struct pd_wal *w, const uint8_t *p, size_t len, struct pd_visitor *v,
                         struct nx_err *err)
{
    struct reader r = reader_of(p, len);
    const uint8_t type = len ? reader_u8(&r) : 0;

    w->in_samples = v->sample && (type == SAMPLES || type == SAMPLES_ST);
    switch (type) {
    case SERIES:
        return v->series ? read_series(w, &r, v, err) : NX_OK;
    case SAMPLES:
        return v->sample ? read_samples(&r, v, err) : NX_OK;
    case SAMPLES_ST:
        return v->sample ? read_samples_st(&r, v, err) : NX_OK;
    case TOMBSTONES:
        return v->stone ? read_stones(&r, v, err) : NX_OK;
    case HISTOGRAMS:
    case CUSTOM_HISTOGRAMS:
        return v->histogram ? read_histograms(&r, false, v, err) : NX_OK;
    case FLOAT_HISTOGRAMS:
    case CUSTOM_FLOAT_HISTOGRAMS:
        return v->histogram ? read_histograms(&r, true, v, err) : NX_OK;
    case HISTOGRAMS_ST:
        return v->histogram ? read_histograms_st(&r, false, v, err) : NX_OK;
    case FLOAT_HISTOGRAMS_ST:
        return v->histogram ? read_histograms_st(&r, true, v, err) : NX_OK;
    case EXEMPLARS:
        v->exemplar_records++;
        return NX_OK;
    case MARKERS:
    case METADATA:
        return NX_OK;
    default:
        v->unknown_records++;
        return NX_OK;
    }
}
