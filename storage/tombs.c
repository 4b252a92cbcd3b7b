/* tombs.c - sets of tombstones: made, asked, written, read.
 *
 * SHAPE   runs of series by number, each with a place in one array of spans.
 * RULES   T1  Runs ascend and do not overlap; two that touch differ in their spans.
 *             Two in a row with the same spans share them.
 *         T2  Spans of a run ascend, and between two of them is at least a millisecond that is alive.
 *         T3  A set holds at least one run; the empty set is NULL.
 *         T4  Bytes are believed only after their checksum, and even then rules T1 to T3 are checked. */
#include "storage/tombs.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "storage/block.h"

#define MAGIC        "NXtombs\n"
#define MAGIC_BYTES  8u
#define VERSION      1u
#define HEADER_BYTES (MAGIC_BYTES + 4 + BLOCK_ULID_LEN)
#define MAX_SPANS    65536u /* of one series */

struct run {
    uint32_t first, last; /* both included */
    size_t at, n;         /* spans */
};

struct tombs {
    atomic_uint refs;
    struct run *runs;
    size_t n_runs, cap_runs;
    struct tspan *spans;
    size_t n_spans, cap_spans;
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for tombstones");
}

struct tombs *tombs_ref(struct tombs *t)
{
    if (t)
        atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void tombs_unref(struct tombs *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(t->runs);
    free(t->spans);
    free(t);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static struct tspans spans_of_run(const struct tombs *t, const struct run *r)
{
    return (struct tspans){t->spans + r->at, r->n};
}

struct tspans tombs_of(const struct tombs *t, uint32_t id)
{
    size_t lo = 0, hi = t ? t->n_runs : 0;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->runs[mid].last < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!t || lo == t->n_runs || t->runs[lo].first > id)
        return (struct tspans){NULL, 0};
    return spans_of_run(t, &t->runs[lo]);
}

uint64_t tombs_n_series(const struct tombs *t)
{
    uint64_t n = 0;

    for (size_t i = 0; t && i < t->n_runs; i++)
        n += (uint64_t)t->runs[i].last - t->runs[i].first + 1;
    return n;
}

uint64_t tombs_n_spans(const struct tombs *t)
{
    uint64_t n = 0;

    for (size_t i = 0; t && i < t->n_runs; i++)
        n += ((uint64_t)t->runs[i].last - t->runs[i].first + 1) * t->runs[i].n;
    return n;
}

size_t tspans_filter(struct tspans s, struct samples *x, size_t from)
{
    size_t kept = from, at = 0;

    if (s.n == 0)
        return 0;
    for (size_t i = from; i < x->n; i++) {
        const int64_t t = x->t[i];
        while (at < s.n && s.v[at].to_ms < t)
            at++;
        if (at < s.n && s.v[at].from_ms <= t)
            continue;
        x->t[kept] = t;
        x->v[kept++] = x->v[i];
    }
    at = x->n - kept;
    x->n = kept;
    return at;
}

bool tspans_gap(struct tspans s, int64_t from_ms, int64_t to_ms, struct tspan *gap)
{
    size_t at = 0;

    while (at < s.n && s.v[at].to_ms < from_ms)
        at++;
    if (at < s.n && s.v[at].from_ms <= from_ms) {
        if (s.v[at].to_ms >= to_ms)
            return false;
        from_ms = s.v[at++].to_ms + 1; /* T2: it is alive */
    }
    if (from_ms > to_ms)
        return false;
    if (at < s.n && s.v[at].from_ms <= to_ms)
        to_ms = s.v[at].from_ms - 1;
    *gap = (struct tspan){from_ms, to_ms};
    return true;
}

nx_status tombs_each(const struct tombs *t, tombs_visit_fn *fn, void *ctx, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; t && i < t->n_runs && !st; i++)
        st = fn(ctx, t->runs[i].first, t->runs[i].last, spans_of_run(t, &t->runs[i]), err);
    return st;
}

/* ---- making ---------------------------------------------------------------------------------- */

static struct tombs *tombs_new(void)
{
    struct tombs *t = calloc(1, sizeof *t);

    if (t)
        atomic_init(&t->refs, 1);
    return t;
}

static bool same_spans(struct tspans a, struct tspans b)
{
    return a.n == b.n && memcmp(a.v, b.v, a.n * sizeof *a.v) == 0;
}

static nx_status room(struct tombs *t, size_t spans, struct nx_err *err)
{
    if (t->n_runs == t->cap_runs) {
        size_t cap = t->cap_runs * 2 + 4;
        struct run *runs = realloc(t->runs, cap * sizeof *runs);
        if (!runs)
            return no_memory(err);
        t->runs = runs;
        t->cap_runs = cap;
    }
    if (t->cap_spans - t->n_spans < spans) {
        size_t cap = t->cap_spans * 2 + spans + 4;
        struct tspan *v = realloc(t->spans, cap * sizeof *v);
        if (!v)
            return no_memory(err);
        t->spans = v;
        t->cap_spans = cap;
    }
    return NX_OK;
}

/* Adds a run behind all that are there (T1). `s` is not of `t`. */
static nx_status put_run(struct tombs *t, uint32_t first, uint32_t last, struct tspans s,
                         struct nx_err *err)
{
    struct run *end = t->n_runs ? &t->runs[t->n_runs - 1] : NULL;
    bool again;
    nx_status st;

    if (s.n == 0)
        return NX_OK;
    if (end && end->last + 1 == first && same_spans(spans_of_run(t, end), s)) {
        end->last = last;
        return NX_OK;
    }
    again = end && same_spans(spans_of_run(t, end), s);
    st = room(t, again ? 0 : s.n, err);
    if (st)
        return st;
    if (again) {
        t->runs[t->n_runs] = (struct run){first, last, t->runs[t->n_runs - 1].at, s.n};
    } else {
        memcpy(t->spans + t->n_spans, s.v, s.n * sizeof *s.v);
        t->runs[t->n_runs] = (struct run){first, last, t->n_spans, s.n};
        t->n_spans += s.n;
    }
    t->n_runs++;
    return NX_OK;
}

static int by_start(const void *x, const void *y)
{
    const struct tspan *a = x, *b = y;

    return a->from_ms < b->from_ms ? -1 : a->from_ms > b->from_ms;
}

/* T2 */
static size_t tidy(struct tspan *v, size_t n)
{
    size_t kept = 0;

    qsort(v, n, sizeof *v, by_start);
    for (size_t i = 0; i < n; i++) {
        struct tspan *end = kept ? &v[kept - 1] : NULL;
        if (end && (end->to_ms == INT64_MAX || v[i].from_ms <= end->to_ms + 1))
            end->to_ms = v[i].to_ms > end->to_ms ? v[i].to_ms : end->to_ms;
        else
            v[kept++] = v[i];
    }
    return kept;
}

struct merge {
    struct tombs *to;
    const struct tombs *old;
    size_t run;    /* of old: the first that is not written to its end */
    uint32_t from; /* of which series before this one are done */
    struct tspan *both;
    size_t cap;
};

/* Old runs up to, and without, series `id`. */
static nx_status copy_before(struct merge *m, uint64_t id, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (; m->old && m->run < m->old->n_runs && !st; m->run++) {
        const struct run *r = &m->old->runs[m->run];
        uint32_t first = r->first > m->from ? r->first : m->from;
        if (first >= id)
            break;
        st = put_run(m->to, first, r->last < id ? r->last : (uint32_t)(id - 1),
                     spans_of_run(m->old, r), err);
        if (r->last >= id)
            break;
    }
    return st;
}

static nx_status put_both(struct merge *m, const struct tomb *add, size_t n, struct nx_err *err)
{
    const uint32_t id = add[0].id;
    struct tspans was = tombs_of(m->old, id);
    size_t all = was.n + n;

    if (all > m->cap) {
        struct tspan *both = realloc(m->both, all * 2 * sizeof *both);
        if (!both)
            return no_memory(err);
        m->both = both;
        m->cap = all * 2;
    }
    if (was.n)
        memcpy(m->both, was.v, was.n * sizeof *was.v);
    for (size_t i = 0; i < n; i++)
        m->both[was.n + i] = add[i].span;
    all = tidy(m->both, all);
    if (all > MAX_SPANS)
        return nx_fail(err, NX_LIMIT,
                       "more than %u spans of one series are deleted: clean the "
                       "tombstones first",
                       MAX_SPANS);
    m->from = id + 1;
    if (m->run < (m->old ? m->old->n_runs : 0) && m->old->runs[m->run].last <= id)
        m->run++;
    return put_run(m->to, id, id, (struct tspans){m->both, all}, err);
}

nx_status tombs_merge(struct tombs **out, const struct tombs *old, const struct tomb *add, size_t n,
                      struct nx_err *err)
{
    struct merge m = {.to = tombs_new(), .old = old};
    nx_status st = m.to ? NX_OK : no_memory(err);

    for (size_t i = 0, k; i < n && !st; i = k) {
        for (k = i + 1; k < n && add[k].id == add[i].id; k++)
            ;
        NX_ASSERT(k == n || add[k].id > add[i].id);
        st = copy_before(&m, add[i].id, err);
        if (!st)
            st = put_both(&m, add + i, k - i, err);
    }
    if (!st)
        st = copy_before(&m, UINT64_MAX, err);
    free(m.both);
    if (!st && m.to->n_runs) {
        *out = m.to;
        return NX_OK;
    }
    tombs_unref(m.to);
    if (!st)
        *out = NULL; /* T3 */
    return st;
}

static nx_status prune_run(struct tombs *to, const struct run *r, struct tspans s,
                           bool (*keep)(void *ctx, uint32_t id), void *ctx, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (uint64_t id = r->first; id <= r->last && !st; id++) {
        if (keep(ctx, (uint32_t)id))
            st = put_run(to, (uint32_t)id, (uint32_t)id, s, err);
    }
    return st;
}

nx_status tombs_prune(struct tombs **out, const struct tombs *old, int64_t from_ms,
                      bool (*keep)(void *ctx, uint32_t id), void *ctx, struct nx_err *err)
{
    struct tombs *to = tombs_new();
    nx_status st = to ? NX_OK : no_memory(err);

    for (size_t i = 0; old && i < old->n_runs && !st; i++) {
        struct tspans s = spans_of_run(old, &old->runs[i]);
        while (s.n && s.v[0].to_ms < from_ms) {
            s.v++;
            s.n--;
        }
        if (s.n)
            st = prune_run(to, &old->runs[i], s, keep, ctx, err);
    }
    if (!st && to->n_runs) {
        *out = to;
        return NX_OK;
    }
    tombs_unref(to);
    if (!st)
        *out = NULL;
    return st;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static uint64_t distance(int64_t from, int64_t to)
{
    return (uint64_t)to - (uint64_t)from;
}

void tspans_put(struct buf *to, struct tspans s)
{
    buf_uvarint(to, s.n);
    for (size_t i = 0; i < s.n; i++) {
        if (i == 0)
            buf_varint(to, s.v[0].from_ms);
        else
            buf_uvarint(to, distance(s.v[i - 1].to_ms, s.v[i].from_ms) - 2); /* T2 */
        buf_uvarint(to, distance(s.v[i].from_ms, s.v[i].to_ms));
    }
}

/* at + by, if that is a time. */
static bool advance(int64_t at, uint64_t by, int64_t *to)
{
    if (by > distance(at, INT64_MAX))
        return false;
    *to = (int64_t)((uint64_t)at + by);
    return true;
}

size_t tspans_get(struct reader *r, struct tspan *v, size_t cap)
{
    const uint64_t n = reader_uvarint(r);

    if (n > cap || n > reader_left(r) / 2)
        r->bad = true;
    for (uint64_t i = 0; i < n && !r->bad; i++) {
        if (i == 0)
            v[0].from_ms = reader_varint(r);
        else if (!advance(v[i - 1].to_ms, reader_uvarint(r), &v[i].from_ms) ||
                 !advance(v[i].from_ms, 2, &v[i].from_ms))
            r->bad = true;
        if (!r->bad && !advance(v[i].from_ms, reader_uvarint(r), &v[i].to_ms))
            r->bad = true;
    }
    return r->bad ? 0 : (size_t)n;
}

void tombs_encode(const struct tombs *t, const char *ulid, struct buf *to)
{
    const size_t start = to->len;
    uint32_t next = 0;

    buf_append(to, MAGIC, MAGIC_BYTES);
    buf_u32le(to, VERSION);
    buf_append(to, ulid, BLOCK_ULID_LEN);
    buf_uvarint(to, t ? t->n_runs : 0);
    for (size_t i = 0; t && i < t->n_runs; i++) {
        const struct run *r = &t->runs[i];
        buf_uvarint(to, r->first - next);
        buf_uvarint(to, r->last - r->first);
        if (i && same_spans(spans_of_run(t, r), spans_of_run(t, r - 1)))
            buf_uvarint(to, 0);
        else
            tspans_put(to, spans_of_run(t, r));
        next = r->last + 1;
    }
    if (!to->failed)
        buf_u32le(to, crc32c(0, to->ptr + start, to->len - start));
}

struct decode {
    struct tombs *to;
    struct reader r;
    struct tspan *v;
    size_t n;
    uint64_t next, n_series;
};

static nx_status get_run(struct decode *d, struct nx_err *err)
{
    const uint64_t gap = reader_uvarint(&d->r), more = reader_uvarint(&d->r);
    uint64_t first;
    size_t n;

    if (d->r.bad || d->next > d->n_series || gap >= d->n_series - d->next ||
        more >= d->n_series - d->next - gap)
        return nx_fail(err, NX_CORRUPT, "tombstones of series that are not there");
    first = d->next + gap;
    n = tspans_get(&d->r, d->v, MAX_SPANS);
    if (d->r.bad || (n == 0 && d->n == 0))
        return nx_fail(err, NX_CORRUPT, "tombstones that do not decode");
    d->n = n ? n : d->n;
    d->next = first + more + 1;
    return put_run(d->to, (uint32_t)first, (uint32_t)(first + more), (struct tspans){d->v, d->n},
                   err);
}

static nx_status check_frame(struct nx_slice b, const char *ulid, struct nx_err *err)
{
    if (b.len < HEADER_BYTES + 4 || memcmp(b.ptr, MAGIC, MAGIC_BYTES) != 0)
        return nx_fail(err, NX_CORRUPT, "not a file of tombstones");
    if (get_u32le(b.ptr + MAGIC_BYTES) != VERSION)
        return nx_fail(err, NX_CORRUPT, "tombstones: format version %u is not known",
                       get_u32le(b.ptr + MAGIC_BYTES));
    if (get_u32le(b.ptr + b.len - 4) != crc32c(0, b.ptr, b.len - 4))
        return nx_fail(err, NX_CORRUPT, "tombstones: the checksum does not match");
    if (memcmp(b.ptr + MAGIC_BYTES + 4, ulid, BLOCK_ULID_LEN) != 0)
        return nx_fail(err, NX_CORRUPT, "tombstones of another block");
    return NX_OK;
}

nx_status tombs_decode(struct tombs **out, struct nx_slice bytes, const char *ulid,
                       uint64_t n_series, struct nx_err *err)
{
    struct decode d = {.n_series = n_series};
    uint64_t runs;
    nx_status st = check_frame(bytes, ulid, err);

    if (st)
        return st;
    d.r = reader_of(bytes.ptr + HEADER_BYTES, bytes.len - HEADER_BYTES - 4);
    d.to = tombs_new();
    d.v = malloc(MAX_SPANS * sizeof *d.v);
    if (!d.to || !d.v)
        st = no_memory(err);
    runs = reader_uvarint(&d.r);
    for (uint64_t i = 0; i < runs && !st; i++)
        st = get_run(&d, err);
    if (!st && (d.r.bad || reader_left(&d.r)))
        st = nx_fail(err, NX_CORRUPT, "tombstones that do not decode");
    free(d.v);
    if (!st && d.to->n_runs) {
        *out = d.to;
        return NX_OK;
    }
    tombs_unref(d.to);
    if (!st)
        *out = NULL;
    return st;
}
