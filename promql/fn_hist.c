/* fn_hist.c - quantiles and fractions of classic histograms, whose buckets are series with a label le.
 *
 * SHAPE Input rows are gathered into histograms by all labels but le, once, and each histogram's rows are
 *       sorted by bound, once. What is left for a step is to go over its buckets in order.
 *       Where a histogram has all its buckets, many steps are worked at once, row by row: first
 *       told whether their counts rise as they should, then the bucket of the quantile found.
 * RULES H1  A row without a number in le is left out, with a warning.
 *       H2  Without a bucket for +Inf, with less than two buckets or no observations: NaN.
 *       H3  Buckets of equal bounds are added; a count that differs from the one before by no more than
 *           rounding (1e-12) is set to it; a real fall is lifted, with an info.
 *       H4  Steps worked at once are those that H2 and H3 change nothing of. They get the same bits. */
#include "promql/fn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/num.h"
#include "src/base/text.h"

struct bucket {
    double bound, count;
};

struct bucket_row { /* an input row */
    double bound;
    uint32_t row, hist;
};

struct histograms {
    struct pql_call *c;
    const struct pql_expr *arg;
    struct rows *in;
    struct bucket_row *rows; /* sorted by histogram, then bound */
    size_t n_rows;
    struct labels *labels; /* of each histogram */
    size_t n;
    struct bucket *buckets; /* of one step */
    bool *lifted; /* by step; may be NULL: another quantile has lifted its buckets, and told it */
};

static bool parse_bound(struct nx_slice s, double *bound)
{
    bool out_of_range = false;

    return s.len && num_parse(s, bound, &out_of_range) && !out_of_range;
}

static int compare_bucket_rows(const void *a, const void *b)
{
    const struct bucket_row *x = a, *y = b;

    if (x->hist != y->hist)
        return x->hist < y->hist ? -1 : 1;
    if (x->bound != y->bound)
        return x->bound < y->bound ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static void note_bad_bound(const struct histograms *h, size_t i)
{
    struct nx_slice le = labels_get_str(&h->in->labels[i], "le");
    struct nx_slice name = labels_get_str(&h->in->labels[i], LABEL_NAME);
    struct buf b;

    buf_init(&b, 0);
    buf_str(&b, "bucket label \"le\" is missing or has a malformed value of ");
    text_quote(&b, le);
    if (h->c->ev->delayed_names && name.len) {
        buf_str(&b, " for metric name ");
        text_quote(&b, name);
    }
    annots_add(&h->c->ev->annots, ANNOT_WARNING, h->arg->pos, "%s", buf_cstr(&b));
    buf_done(&b);
}

static nx_status without_le(struct eval *ev, const struct labels *from, struct labels *to,
                            struct nx_err *err)
{
    struct label *v = arena_array(ev->out, from->n ? from->n : 1, sizeof *v);
    uint32_t n = 0;

    if (!v)
        return eval_nomem(ev, ev->out, err);
    for (uint32_t i = 0; i < from->n; i++)
        if (!nx_slice_is(from->v[i].name, "le"))
            v[n++] = from->v[i];
    *to = (struct labels){v, n};
    return NX_OK;
}

static nx_status histograms_gather(struct histograms *h, struct pql_call *c,
                                   const struct pql_expr *arg, struct nx_err *err)
{
    struct eval *ev = c->ev;
    struct label_index x;
    nx_status st = eval_rows(ev, arg, c->tm, &h->in, err);

    h->c = c;
    h->arg = eval_unparen(arg);
    if (!st)
        st = rows_make(ev, h->in, err);
    if (st)
        return st;
    h->rows = arena_array(ev->work, h->in->n + 1, sizeof *h->rows);
    h->labels = arena_array(ev->work, h->in->n + 1, sizeof *h->labels);
    h->buckets = arena_array(ev->work, h->in->n + 1, sizeof *h->buckets);
    if (!h->rows || !h->labels || !h->buckets)
        return eval_nomem(ev, ev->work, err);
    label_index_init(&x, ev->work);
    for (size_t i = 0; i < h->in->n; i++) {
        struct bucket_row *b = &h->rows[h->n_rows];
        bool created;

        if (!parse_bound(labels_get_str(&h->in->labels[i], "le"), &b->bound)) {
            note_bad_bound(h, i);
            continue;
        }
        st = without_le(ev, &h->in->labels[i], &h->labels[h->n], err);
        if (!st)
            st = label_index_add(ev, &x, &h->labels[h->n], &b->hist, &created, err);
        if (st)
            return st;
        h->n += created;
        b->row = (uint32_t)i;
        h->n_rows++;
    }
    qsort(h->rows, h->n_rows, sizeof *h->rows, compare_bucket_rows);
    return NX_OK;
}

/* Buckets of rows [from, to) that have a count at step k, in order; equal bounds are added (H3). */
static size_t step_buckets(const struct histograms *h, size_t from, size_t to, uint32_t k)
{
    size_t n = 0;

    for (size_t i = from; i < to; i++) {
        const struct row *row = &h->in->data[h->rows[i].row];

        if (!row->has[k])
            continue;
        if (n && h->buckets[n - 1].bound == h->rows[i].bound)
            h->buckets[n - 1].count += row->v[k];
        else
            h->buckets[n++] = (struct bucket){h->rows[i].bound, row->v[k]};
    }
    return n;
}

static bool almost_equal(double a, double b, double epsilon)
{
    const double min_normal = 2.2250738585072014e-308;
    double sum, diff;

    if (isnan(a) && isnan(b))
        return true;
    if (a == b)
        return true;
    sum = fabs(a) + fabs(b);
    diff = fabs(a - b);
    if (a == 0 || b == 0 || sum < min_normal)
        return diff < epsilon * min_normal;
    return diff / fmin(sum, 1.7976931348623157e308) < epsilon;
}

struct lifted {
    bool any;
    double min_bound, max_bound, max_diff;
};

static void make_monotonic(struct bucket *b, size_t n, struct lifted *l)
{
    double prev = b[0].count;

    *l = (struct lifted){.min_bound = INFINITY, .max_bound = -INFINITY};
    for (size_t i = 1; i < n; i++) {
        double count = b[i].count;

        if (count == prev)
            continue;
        if (almost_equal(prev, count, 1e-12)) {
            b[i].count = prev;
        } else if (count < prev) {
            b[i].count = prev;
            l->any = true;
            l->min_bound = fmin(l->min_bound, b[i].bound);
            l->max_bound = fmax(l->max_bound, b[i].bound);
            l->max_diff = fmax(l->max_diff, prev - count);
        } else {
            prev = count;
        }
    }
}

/* The quantile of n buckets that are sorted and of different bounds; n is not 0. */
static double bucket_quantile(double q, struct bucket *b, size_t n, struct lifted *l)
{
    double rank, start = 0, count;
    size_t lo = 0, hi;

    *l = (struct lifted){0};
    if (isnan(q))
        return (double)NAN;
    if (q < 0)
        return -INFINITY;
    if (q > 1)
        return INFINITY;
    if (b[n - 1].bound != INFINITY)
        return (double)NAN;
    make_monotonic(b, n, l);
    if (n < 2 || b[n - 1].count == 0)
        return (double)NAN;
    rank = q * b[n - 1].count;
    for (hi = n - 1; lo < hi;) { /* the first whose count is not below the rank */
        size_t mid = lo + (hi - lo) / 2;

        if (b[mid].count >= rank)
            hi = mid;
        else
            lo = mid + 1;
    }
    if (lo == n - 1)
        return b[n - 2].bound;
    if (lo == 0 && b[0].bound <= 0)
        return b[0].bound;
    count = b[lo].count;
    if (lo > 0) {
        start = b[lo - 1].bound;
        count -= b[lo - 1].count;
        rank -= b[lo - 1].count;
    }
    return start + (b[lo].bound - start) * (rank / count);
}

/* ---- many steps at once -------------------------------------------------------------------------- */

#define STEPS 64

static const double *counts_of(const struct histograms *h, size_t i, uint32_t k)
{
    return h->in->data[h->rows[i].row].v + k;
}

/* Has each row a bound of its own, and the last +Inf? */
static bool bounds_apart(const struct histograms *h, size_t from, size_t to)
{
    for (size_t i = from + 1; i < to; i++)
        if (h->rows[i].bound == h->rows[i - 1].bound)
            return false;
    return to - from >= 2 && h->rows[to - 1].bound == INFINITY;
}

/* Has each row a count at all of these steps? */
static bool all_there(const struct histograms *h, size_t from, size_t to, uint32_t k, uint32_t n)
{
    for (size_t i = from; i < to; i++) {
        const struct row *row = &h->in->data[h->rows[i].row];

        if (row->points != h->c->tm->n && memchr(row->has + k, 0, n))
            return false;
    }
    return true;
}

/* Which of n steps have counts that rise from zero or above, by more than rounding or not at all (H4). */
static void find_rising(const struct histograms *h, size_t from, size_t to, uint32_t k, uint32_t n,
                        int64_t *rising)
{
    const double *last = counts_of(h, to - 1, k), *least = counts_of(h, from, k);

    for (uint32_t s = 0; s < n; s++)
        rising[s] = (least[s] >= 0) & (last[s] > 0);
    for (size_t i = from + 1; i < to; i++) {
        const double *prev = counts_of(h, i - 1, k), *count = counts_of(h, i, k);

        for (uint32_t s = 0; s < n; s++) {
            double by = count[s] - prev[s];

            rising[s] &= (by == 0) | ((by > 4e-12 * count[s]) & (count[s] > 1e-300));
        }
    }
}

/* Of n steps whose counts rise: the bucket that the quantile lies in, the first whose count is not below its
 * rank, is told by how many are below. */
static void find_buckets(const struct histograms *h, size_t from, size_t to, uint32_t k, uint32_t n,
                         const double *q, double *rank, int64_t *bucket)
{
    const double *last = counts_of(h, to - 1, k);

    for (uint32_t s = 0; s < n; s++) {
        rank[s] = q[s] * last[s];
        bucket[s] = 0;
    }
    for (size_t i = from; i < to - 1; i++) {
        const double *count = counts_of(h, i, k);

        for (uint32_t s = 0; s < n; s++)
            bucket[s] += count[s] < rank[s];
    }
}

static double quantile_in(const struct histograms *h, size_t from, size_t to, uint32_t k,
                          size_t bucket, double rank)
{
    const struct bucket_row *b = h->rows + from;
    double count, start = 0;

    if (bucket == to - from - 1)
        return b[bucket - 1].bound;
    if (bucket == 0 && b[0].bound <= 0)
        return b[0].bound;
    count = *counts_of(h, from + bucket, k);
    if (bucket > 0) {
        double before = *counts_of(h, from + bucket - 1, k);

        start = b[bucket - 1].bound;
        count -= before;
        rank -= before;
    }
    return start + (b[bucket].bound - start) * (rank / count);
}

/* The quantiles of the steps from k on; done[s] tells those that are. */
static void column_quantiles(const struct histograms *h, size_t from, size_t to, uint32_t k,
                             uint32_t n, const double *q, double *out, int64_t *done)
{
    double rank[STEPS];
    int64_t bucket[STEPS];

    find_rising(h, from, to, k, n, done);
    find_buckets(h, from, to, k, n, q, rank, bucket);
    for (uint32_t s = 0; s < n; s++) {
        done[s] &= q[s] >= 0 && q[s] <= 1;
        if (done[s])
            out[s] = quantile_in(h, from, to, k + s, (size_t)bucket[s], rank[s]);
    }
}

/* ---- fractions ------------------------------------------------------------------------------------- */

static double rank_at(double v, double from, double to, double before, double count)
{
    if (from == -INFINITY)
        return count;
    return before + (count - before) * (v - from) / (to - from);
}

static double bucket_fraction(double lower, double upper, const struct bucket *b, size_t n)
{
    double rank = 0, lower_rank = 0, upper_rank = 0, from = b[0].bound <= 0 ? -INFINITY : 0.0,
           all = b[n - 1].count;
    bool lower_set = false, upper_set = false;

    if (b[n - 1].bound != INFINITY || all == 0 || isnan(lower) || isnan(upper))
        return (double)NAN;
    if (lower >= upper)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            from = b[i - 1].bound;
        if (!lower_set && from >= lower) {
            lower_rank = rank;
            lower_set = true;
        }
        if (!upper_set && from >= upper) {
            upper_rank = rank;
            upper_set = true;
        }
        if (!lower_set && from < lower && b[i].bound > lower) {
            lower_rank = rank_at(lower, from, b[i].bound, rank, b[i].count);
            lower_set = true;
        }
        if (!upper_set && from < upper && b[i].bound > upper) {
            upper_rank = rank_at(upper, from, b[i].bound, rank, b[i].count);
            upper_set = true;
        }
        if (lower_set && upper_set)
            break;
        rank = b[i].count;
    }
    if (!lower_set || lower_rank > all)
        lower_rank = all;
    if (!upper_set || upper_rank > all)
        upper_rank = all;
    return (upper_rank - lower_rank) / all;
}

static void note_lifted(const struct histograms *h, size_t hist, uint32_t k, const struct lifted *l)
{
    struct nx_slice name = {0};

    if (!l->any || (h->lifted && h->lifted[k]))
        return;
    if (h->c->ev->delayed_names)
        name = labels_get_str(&h->labels[hist], LABEL_NAME);
    annots_monotonic(&h->c->ev->annots, h->arg->pos, name, eval_time(h->c->tm, k), l->min_bound,
                     l->max_bound, l->max_diff);
}

struct
    wanted { /* of each step: a quantile (with `only`, just where it is that value) or a fraction */
    const double *q, *only, *lower, *upper;
};

/* What is wanted of one step. */
static void histogram_step(const struct histograms *h, const struct wanted *w, size_t from,
                           size_t to, uint32_t k, struct row *out)
{
    size_t n = step_buckets(h, from, to, k);
    struct lifted l;

    if (!n)
        return;
    out->has[k] = 1;
    if (!w->q) {
        out->v[k] = bucket_fraction(w->lower[k], w->upper[k], h->buckets, n);
        return;
    }
    out->v[k] = bucket_quantile(w->q[k], h->buckets, n, &l);
    note_lifted(h, h->rows[from].hist, k, &l);
}

static void histogram_row(const struct histograms *h, const struct wanted *w, size_t from,
                          size_t to, struct row *out)
{
    const bool columns = w->q && bounds_apart(h, from, to);
    const uint32_t all = h->c->tm->n;
    int64_t done[STEPS];

    for (uint32_t k = 0, n; k < all; k += n) {
        n = all - k < STEPS ? all - k : STEPS;
        if (columns && all_there(h, from, to, k, n))
            column_quantiles(h, from, to, k, n, w->q + k, out->v + k, done);
        else
            memset(done, 0, sizeof done);
        for (uint32_t s = 0; s < n; s++) {
            if (w->only && num_bits(w->q[k + s]) != num_bits(*w->only))
                continue;
            if (done[s])
                out->has[k + s] = 1;
            else
                histogram_step(h, w, from, to, k + s, out);
            out->points += out->has[k + s];
        }
    }
}

/* One result row for each histogram. */
static nx_status histograms_rows(struct histograms *h, const struct wanted *w,
                                 const struct labels *labels, struct nx_err *err)
{
    struct rows *r = h->c->rows;
    nx_status st = NX_OK;

    for (size_t from = 0, to; from < h->n_rows && !st; from = to) {
        uint32_t hist = h->rows[from].hist;
        struct row *out;

        for (to = from; to < h->n_rows && h->rows[to].hist == hist; to++)
            ;
        st = eval_check(h->c->ev, err);
        if (!st)
            st = rows_append(h->c->ev, r, &labels[hist], &out, err);
        if (st)
            break;
        histogram_row(h, w, from, to, out);
        st = eval_hold(h->c->ev, r, out->points, err);
    }
    return st;
}

static nx_status histograms_done(struct histograms *h, struct nx_err *err)
{
    rows_release(h->c->ev, h->in);
    return rows_drop_names(h->c->ev, h->c->rows, false, err);
}

static void note_quantiles(struct pql_call *c, const struct pql_expr *arg, const double *q)
{
    for (uint32_t k = 0; k < c->tm->n; k++)
        annots_quantile(&c->ev->annots, eval_unparen(arg)->pos, q[k]);
}

nx_status fn_histogram_quantile(struct pql_call *c, struct nx_err *err)
{
    struct histograms h = {0};
    double *q;
    nx_status st = eval_scalar(c->ev, c->e->call.args[0], c->tm, &q, err);

    if (!st)
        st = histograms_gather(&h, c, c->e->call.args[1], err);
    if (st)
        return st;
    note_quantiles(c, c->e->call.args[0], q); /* after what the argument has to say */
    st = rows_made(c->ev, c->tm, h.n, &c->rows, err);
    if (!st)
        st = histograms_rows(&h, &(struct wanted){.q = q}, h.labels, err);
    return st ? st : histograms_done(&h, err);
}

nx_status fn_histogram_fraction(struct pql_call *c, struct nx_err *err)
{
    struct histograms h = {0};
    double *lower, *upper;
    nx_status st = eval_scalar(c->ev, c->e->call.args[0], c->tm, &lower, err);

    if (!st)
        st = eval_scalar(c->ev, c->e->call.args[1], c->tm, &upper, err);
    if (!st)
        st = histograms_gather(&h, c, c->e->call.args[2], err);
    if (!st)
        st = rows_made(c->ev, c->tm, h.n, &c->rows, err);
    if (!st)
        st = histograms_rows(&h, &(struct wanted){.lower = lower, .upper = upper}, h.labels, err);
    return st ? st : histograms_done(&h, err);
}

/* Labels of each histogram with the quantile as a label. */
static nx_status quantile_labels(struct histograms *h, struct nx_slice name, double q,
                                 struct labels **out, struct nx_err *err)
{
    struct eval *ev = h->c->ev;
    struct labels *labels = arena_array(ev->work, h->n + 1, sizeof *labels);
    char num[NUM_TEXT_BYTES];
    struct nx_slice value = arena_slice(ev->out, nx_slice_of(num, num_format_om(num, q)));
    struct labels_builder b;
    nx_status st = NX_OK;

    if (!labels || !value.ptr)
        return eval_nomem(ev, labels ? ev->out : ev->work, err);
    labels_builder_init(&b);
    for (size_t i = 0; i < h->n && !st; i++) {
        labels_builder_reset(&b, &h->labels[i]);
        labels_builder_set(&b, name, value);
        st = labels_keep(ev, &b, &labels[i], err);
    }
    labels_builder_done(&b);
    *out = labels;
    return st;
}

/* The values that a quantile takes, each once. */
static nx_status distinct_values(struct eval *ev, const double *q, uint32_t n, double **out,
                                 size_t *n_out, struct nx_err *err)
{
    double *v = arena_array(ev->work, n, sizeof *v);
    size_t found = 0;

    if (!v)
        return eval_nomem(ev, ev->work, err);
    for (uint32_t k = 0; k < n; k++) {
        size_t i = 0;

        while (i < found && num_bits(v[i]) != num_bits(q[k]))
            i++;
        if (i == found)
            v[found++] = q[k];
    }
    *out = v;
    *n_out = found;
    return NX_OK;
}

struct asked { /* one quantile argument */
    double *q, *values;
    size_t n_values;
};

static nx_status answer(struct histograms *h, struct nx_slice name, const struct asked *a,
                        struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < a->n_values && !st; i++) {
        struct labels *labels = NULL;

        st = quantile_labels(h, name, a->values[i], &labels, err);
        if (!st)
            st =
                histograms_rows(h, &(struct wanted){.q = a->q, .only = &a->values[i]}, labels, err);
    }
    for (uint32_t k = 0; k < h->c->tm->n && !st; k++)
        h->lifted[k] |= a->q[k] >= 0 && a->q[k] <= 1;
    return st;
}

nx_status fn_histogram_quantiles(struct pql_call *c, struct nx_err *err)
{
    struct histograms h = {0};
    struct nx_slice name = eval_string(c->e->call.args[1]);
    size_t n_q = c->e->call.n - 2, n_values = 0;
    struct asked *asked = arena_array(c->ev->work, n_q, sizeof *asked);
    nx_status st;

    if (!asked)
        return eval_nomem(c->ev, c->ev->work, err);
    h.lifted = arena_array(c->ev->work, c->tm->n, sizeof *h.lifted);
    if (!h.lifted)
        return eval_nomem(c->ev, c->ev->work, err);
    st = histograms_gather(&h, c, c->e->call.args[0], err);
    for (size_t i = 0; i < n_q && !st; i++) {
        const struct pql_expr *arg = c->e->call.args[i + 2];

        st = eval_scalar(c->ev, arg, c->tm, &asked[i].q, err);
        if (!st)
            st = distinct_values(c->ev, asked[i].q, c->tm->n, &asked[i].values, &asked[i].n_values,
                                 err);
        if (!st)
            note_quantiles(c, arg, asked[i].q);
        n_values += asked[i].n_values;
    }
    if (!st)
        st = rows_made(c->ev, c->tm, h.n * n_values, &c->rows, err);
    for (size_t i = 0; i < n_q && !st; i++)
        st = answer(&h, name, &asked[i], err);
    if (!st)
        st = rows_merge(c->ev, c->rows, false, err);
    return st ? st : histograms_done(&h, err);
}
