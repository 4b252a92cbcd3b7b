/* aggr.c - aggregations.
 *
 * WHY   `sum by (x) (rate(m[5m]))` is what dashboards ask most, over many series and steps.
 * SHAPE Each input row is numbered with its group once. Aggregations that can be kept as a running
 *       state take the rows one at a time (so memory is bounded by the result); quantile and those that
 *       pick series need all rows of a step together and make them first.
 * RULES A1  Groups are in the order in which their first row with a point came.
 *       A2  A group has a point at a step only if one of its rows has.
 *       A3  sum and avg compensate as Neumaier does; avg goes on as an incremental mean once the sum
 *           would overflow.
 *       A4  topk and bottomk keep Go's binary heap, whose order decides which of equal values stay. */
#include "promql/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "promql/sums.h"
#include "src/base/buf.h"
#include "src/base/num.h"
#include "src/base/text.h"

struct group {
    uint32_t first; /* a row of it: gives the labels */
    bool seen, drop;
    bool full;             /* has a point at each step */
    double *a, *b, *count; /* running state by step */
    uint8_t *has;          /* 2: avg has gone over to the incremental mean */
};

struct aggregation {
    struct eval *ev;
    const struct pql_expr *e;
    const struct eval_times *tm;
    enum pql_agg op;
    struct rows *in;
    double *param; /* by step; NULL without one */
    struct nx_slice *names;
    struct group *groups;
    size_t n_groups;
    uint32_t *of_row; /* group of each input row */
    uint32_t *order;  /* groups as A1 has them */
    size_t n_order;
};

/* ---- groups ----------------------------------------------------------------------------------- */

static nx_status number_groups(struct aggregation *g, struct nx_err *err)
{
    struct label_index x;
    size_t cap = 0, n = g->in->n;
    nx_status st;

    g->of_row = arena_array(g->ev->work, n ? n : 1, sizeof *g->of_row);
    if (!g->of_row)
        return eval_nomem(g->ev, g->ev->work, err);
    label_index_some(&x, g->ev->work, g->names, g->e->agg.n, !g->e->agg.without);
    for (size_t i = 0; i < n; i++) {
        bool created = g->n_groups == 0;
        uint32_t id = 0;

        if (i && labels_are(&g->in->labels[i], &g->in->labels[i - 1])) {
            g->of_row[i] = g->of_row[i - 1];
            continue;
        }
        if (g->e->agg.n || g->e->agg.without) {
            st = label_index_add(g->ev, &x, &g->in->labels[i], &id, &created, err);
            if (st)
                return st;
        }
        g->of_row[i] = id;
        if (!created)
            continue;
        if (g->n_groups == cap) {
            size_t wide = cap ? cap * 2 : 16;
            struct group *v = arena_grow(g->ev->work, g->groups, cap * sizeof *v, wide * sizeof *v);
            if (!v)
                return eval_nomem(g->ev, g->ev->work, err);
            g->groups = v;
            cap = wide;
        }
        g->groups[g->n_groups++] = (struct group){.first = (uint32_t)i};
    }
    g->order = arena_array(g->ev->work, g->n_groups ? g->n_groups : 1, sizeof *g->order);
    return g->order ? NX_OK : eval_nomem(g->ev, g->ev->work, err);
}

static nx_status group_labels(struct aggregation *g, const struct group *grp, struct labels *out,
                              struct nx_err *err)
{
    if (!g->e->agg.n && !g->e->agg.without) {
        *out = (struct labels){0};
        return NX_OK;
    }
    return labels_some(g->ev, &g->in->labels[grp->first], g->names, g->e->agg.n, !g->e->agg.without,
                       out, err);
}

/* ---- running states --------------------------------------------------------------------------- */

static bool needs_second(enum pql_agg op)
{
    return op == PQL_AGG_SUM || op == PQL_AGG_AVG || op == PQL_AGG_STDDEV || op == PQL_AGG_STDVAR;
}

static bool needs_count(enum pql_agg op)
{
    return op == PQL_AGG_AVG || op == PQL_AGG_STDDEV || op == PQL_AGG_STDVAR;
}

static nx_status group_open(struct aggregation *g, uint32_t id, struct nx_err *err)
{
    struct group *grp = &g->groups[id];
    struct arena *a = g->ev->work;
    uint32_t n = g->tm->n;

    grp->seen = true;
    g->order[g->n_order++] = id;
    grp->a = arena_array(a, n, sizeof(double));
    grp->has = arena_zalloc(a, n);
    grp->b = needs_second(g->op) ? arena_array(a, n, sizeof(double)) : grp->a;
    grp->count = needs_count(g->op) ? arena_array(a, n, sizeof(double)) : grp->a;
    return grp->a && grp->has && grp->b && grp->count ? NX_OK : eval_nomem(g->ev, a, err);
}

/* Rows are added a block of steps at a time. Where both the row and the group have all of a block's points,
 * nothing is to be asked of each: the compiler works several steps at once. Both ways give the same bits. */
#define BLOCK 64

static void sum_some(struct group *g, const struct row *r, uint32_t from, uint32_t to)
{
    for (uint32_t k = from; k < to; k++) {
        if (!r->has[k])
            continue;
        if (g->has[k]) {
            kahan_add(r->v[k], &g->a[k], &g->b[k]);
        } else {
            g->has[k] = 1;
            g->a[k] = r->v[k];
        }
    }
}

static void avg_one(struct group *g, uint32_t k, double v)
{
    double n = ++g->count[k];

    if (g->has[k] == 1) {
        double sum = g->a[k], c = g->b[k];

        kahan_add(v, &sum, &c);
        if (!isinf(sum)) {
            g->a[k] = sum;
            g->b[k] = c;
            return;
        }
        g->has[k] = 2;
        g->a[k] /= n - 1;
        g->b[k] /= n - 1;
    }
    double q = (n - 1) / n;
    g->a[k] *= q;
    g->b[k] *= q;
    kahan_add(v / n, &g->a[k], &g->b[k]);
}

static void avg_some(struct group *g, const struct row *r, uint32_t from, uint32_t to)
{
    for (uint32_t k = from; k < to; k++) {
        if (!r->has[k])
            continue;
        if (g->has[k]) {
            avg_one(g, k, r->v[k]);
        } else {
            g->has[k] = 1;
            g->a[k] = r->v[k];
            g->count[k] = 1;
        }
    }
}

/* No sum comes near where it would overflow, and none did. */
static bool avg_is_sum(const struct group *g, const struct row *r, uint32_t from, uint32_t to)
{
    int large = 0;

    for (uint32_t k = from; k < to; k++)
        large |= !(fabs(g->a[k]) + fabs(r->v[k]) < 0x1p1022) | (g->has[k] == 2);
    return !large;
}

static void avg_whole(struct group *g, const struct row *r, uint32_t from, uint32_t to)
{
    if (!avg_is_sum(g, r, from, to)) {
        avg_some(g, r, from, to);
        return;
    }
    sums_add_row(g->a + from, g->b + from, r->v + from, to - from);
    for (uint32_t k = from; k < to; k++)
        g->count[k]++;
}

/* a: mean, b: sum of squares around it */
static void variance_some(struct group *g, const struct row *r, uint32_t from, uint32_t to)
{
    for (uint32_t k = from; k < to; k++) {
        double v = r->v[k], delta;

        if (!r->has[k])
            continue;
        if (!g->has[k]) {
            g->has[k] = 1;
            g->a[k] = v;
            g->b[k] = isnan(v) || isinf(v) ? (double)NAN : 0;
            g->count[k] = 1;
            continue;
        }
        g->count[k]++;
        delta = v - g->a[k];
        g->a[k] += delta / g->count[k];
        g->b[k] += delta * (v - g->a[k]);
    }
}

static void variance_whole(double *restrict mean, double *restrict squares, double *restrict count,
                           const double *restrict v, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        double delta = v[k] - mean[k];

        count[k]++;
        mean[k] += delta / count[k];
        squares[k] += delta * (v[k] - mean[k]);
    }
}

static void extreme_some(struct group *g, const struct row *r, uint32_t from, uint32_t to, bool max)
{
    for (uint32_t k = from; k < to; k++) {
        double v = r->v[k], old = g->a[k];

        if (!r->has[k])
            continue;
        if (!g->has[k] || isnan(old) || (max ? old < v : old > v))
            g->a[k] = v;
        g->has[k] = 1;
    }
}

static void max_whole(double *restrict a, const double *restrict v, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++)
        a[k] = ((a[k] != a[k]) | (a[k] < v[k])) ? v[k] : a[k];
}

static void min_whole(double *restrict a, const double *restrict v, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++)
        a[k] = ((a[k] != a[k]) | (a[k] > v[k])) ? v[k] : a[k];
}

static void count_row(struct group *g, const struct row *r, uint32_t n, bool group)
{
    for (uint32_t k = 0; k < n; k++) {
        g->a[k] = group ? 1 : g->a[k] + r->has[k];
        g->has[k] |= r->has[k];
    }
}

static void add_some(enum pql_agg op, struct group *g, const struct row *r, uint32_t from,
                     uint32_t to)
{
    switch (op) {
    case PQL_AGG_SUM:
        sum_some(g, r, from, to);
        break;
    case PQL_AGG_AVG:
        avg_some(g, r, from, to);
        break;
    case PQL_AGG_STDDEV:
    case PQL_AGG_STDVAR:
        variance_some(g, r, from, to);
        break;
    case PQL_AGG_MIN:
    case PQL_AGG_MAX:
        extreme_some(g, r, from, to, op == PQL_AGG_MAX);
        break;
    default:
        break;
    }
}

static void add_whole(enum pql_agg op, struct group *g, const struct row *r, uint32_t from,
                      uint32_t to)
{
    const uint32_t n = to - from;

    switch (op) {
    case PQL_AGG_SUM:
        sums_add_row(g->a + from, g->b + from, r->v + from, n);
        break;
    case PQL_AGG_AVG:
        avg_whole(g, r, from, to);
        break;
    case PQL_AGG_STDDEV:
    case PQL_AGG_STDVAR:
        variance_whole(g->a + from, g->b + from, g->count + from, r->v + from, n);
        break;
    case PQL_AGG_MIN:
        min_whole(g->a + from, r->v + from, n);
        break;
    case PQL_AGG_MAX:
        max_whole(g->a + from, r->v + from, n);
        break;
    default:
        break;
    }
}

static void add_row(enum pql_agg op, struct group *g, const struct row *r, uint32_t n)
{
    if (op == PQL_AGG_COUNT || op == PQL_AGG_GROUP) {
        count_row(g, r, n, op == PQL_AGG_GROUP);
        return;
    }
    for (uint32_t k = 0, end; k < n; k = end) {
        end = n - k > BLOCK ? k + BLOCK : n;
        if ((g->full || !memchr(g->has + k, 0, end - k)) &&
            (r->points == n || !memchr(r->has + k, 0, end - k)))
            add_whole(op, g, r, k, end);
        else
            add_some(op, g, r, k, end);
    }
    g->full |= r->points == n;
}

/* What steps without a point get is nobody's. */
static uint32_t finish_group(enum pql_agg op, struct group *g, uint32_t n)
{
    uint32_t points = 0;

    switch (op) {
    case PQL_AGG_SUM:
        for (uint32_t k = 0; k < n; k++)
            g->a[k] += g->b[k];
        break;
    case PQL_AGG_AVG:
        for (uint32_t k = 0; k < n; k++)
            g->a[k] =
                g->has[k] == 2 ? g->a[k] + g->b[k] : g->a[k] / g->count[k] + g->b[k] / g->count[k];
        break;
    case PQL_AGG_STDVAR:
    case PQL_AGG_STDDEV:
        for (uint32_t k = 0; k < n; k++)
            g->a[k] = g->b[k] / g->count[k];
        for (uint32_t k = 0; k < n && op == PQL_AGG_STDDEV; k++)
            g->a[k] = sqrt(g->a[k]);
        break;
    default:
        break;
    }
    for (uint32_t k = 0; k < n; k++) {
        const uint8_t has = g->has[k] != 0;

        g->has[k] = has;
        points += has;
    }
    return points;
}

/* The groups' values as rows. */
static nx_status groups_out(struct aggregation *g, struct rows **out, struct nx_err *err)
{
    struct rows *r = NULL;
    nx_status st = rows_new(g->ev, g->tm, g->n_order, &r, err);

    if (st)
        return st;
    r->data = arena_array(g->ev->work, g->n_order ? g->n_order : 1, sizeof *r->data);
    if (g->in->drop)
        r->drop = arena_array(g->ev->work, g->n_order + 1, 1);
    if (!r->data || (g->in->drop && !r->drop))
        return eval_nomem(g->ev, g->ev->work, err);
    for (size_t i = 0; i < g->n_order; i++) {
        struct group *grp = &g->groups[g->order[i]];

        if (r->drop)
            r->drop[i] = grp->drop;

        r->data[i] = (struct row){grp->a, grp->has, finish_group(g->op, grp, g->tm->n)};
        st = group_labels(g, grp, &r->labels[i], err);
        if (!st)
            st = eval_hold(g->ev, r, r->data[i].points, err);
        if (st)
            return st;
    }
    rows_release(g->ev, g->in);
    *out = r;
    return NX_OK;
}

static nx_status run_simple(struct aggregation *g, struct rows **out, struct nx_err *err)
{
    struct row scratch, row;
    nx_status st = row_new(g->ev, g->tm, &scratch, err);

    rows_ahead(g->ev, g->in);
    for (size_t i = 0; i < g->in->n && !st; i++) {
        st = rows_view(g->ev, g->in, i, &scratch, &row, err);
        if (st)
            return st;
        if (!row.points)
            continue;
        if (!g->groups[g->of_row[i]].seen)
            st = group_open(g, g->of_row[i], err);
        g->groups[g->of_row[i]].drop |= row_drops(g->in, i);
        if (!st)
            add_row(g->op, &g->groups[g->of_row[i]], &row, g->tm->n);
    }
    return st ? st : groups_out(g, out, err);
}

/* ---- quantile --------------------------------------------------------------------------------- */

static nx_status quantile_notes(struct aggregation *g)
{
    const struct pql_pos pos = eval_unparen(g->e->agg.param)->pos;
    double max = -INFINITY, min = INFINITY;
    bool nan = false;

    for (uint32_t k = 0; k < g->tm->n; k++) {
        nan |= isnan(g->param[k]);
        max = g->param[k] > max ? g->param[k] : max;
        min = g->param[k] < min ? g->param[k] : min;
    }
    if (nan)
        annots_quantile(&g->ev->annots, pos, (double)NAN);
    /* With a NaN among them the largest and the smallest are NaN, too, if they are not infinite. */
    if (nan ? isinf(max) && max > 0 : max > 1)
        annots_quantile(&g->ev->annots, pos, max);
    if (nan ? isinf(min) && min < 0 : min < 0)
        annots_quantile(&g->ev->annots, pos, min);
    return NX_OK;
}

static nx_status run_quantile(struct aggregation *g, struct rows **out, struct nx_err *err)
{
    uint32_t *at, *rows; /* rows of group i: rows[at[i]] up to rows[at[i + 1]] */
    double *values;
    nx_status st = rows_make(g->ev, g->in, err);

    if (!st)
        st = quantile_notes(g); /* after what the rows have to say */
    if (!st) {                  /* rows without points are gone: number again */
        g->n_groups = 0;
        st = number_groups(g, err);
    }
    if (st)
        return st;
    at = arena_array(g->ev->work, g->n_groups + 2, sizeof *at);
    rows = arena_array(g->ev->work, g->in->n + 1, sizeof *rows);
    values = arena_array(g->ev->work, g->in->n + 1, sizeof *values);
    if (!at || !rows || !values)
        return eval_nomem(g->ev, g->ev->work, err);
    for (size_t i = 0; i < g->in->n; i++)
        at[g->of_row[i] + 2]++;
    for (size_t i = 2; i < g->n_groups + 2; i++)
        at[i] += at[i - 1];
    for (size_t i = 0; i < g->in->n; i++)
        rows[at[g->of_row[i] + 1]++] = (uint32_t)i;
    for (uint32_t id = 0; id < g->n_groups; id++) {
        st = group_open(g, id, err);
        if (!st)
            st = eval_check(g->ev, err);
        if (st)
            return st;
        for (uint32_t i = at[id]; i < at[id + 1]; i++)
            g->groups[id].drop |= row_drops(g->in, rows[i]);
        for (uint32_t k = 0; k < g->tm->n; k++) {
            size_t n = 0;

            st = eval_spend(g->ev, at[id + 1] - at[id], err);
            if (st)
                return st;
            for (uint32_t i = at[id]; i < at[id + 1]; i++)
                if (g->in->data[rows[i]].has[k])
                    values[n++] = g->in->data[rows[i]].v[k];
            if (!n)
                continue;
            g->groups[id].has[k] = 1;
            g->groups[id].a[k] = quantile_of(g->param[k], values, n);
        }
    }
    return groups_out(g, out, err);
}

/* ---- topk, bottomk, limitk, limit_ratio -------------------------------------------------------- */

struct pick {
    double v;
    uint32_t row;
};
struct heap {
    struct pick *v;
    size_t n, cap;
    bool reverse; /* the largest on top */
};

static bool pick_less(const struct heap *h, double a, double b)
{
    if (isnan(a))
        return true;
    return h->reverse ? a > b : a < b;
}

static void heap_swap(struct heap *h, size_t i, size_t j)
{
    struct pick p = h->v[i];

    h->v[i] = h->v[j];
    h->v[j] = p;
}

static nx_status heap_push(struct eval *ev, struct heap *h, struct pick p, struct nx_err *err)
{
    size_t i = h->n;

    if (h->n == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 8;
        struct pick *v = arena_grow(ev->work, h->v, h->cap * sizeof *v, cap * sizeof *v);

        if (!v)
            return eval_nomem(ev, ev->work, err);
        h->v = v;
        h->cap = cap;
    }
    h->v[h->n++] = p;
    while (i > 0 && pick_less(h, h->v[i].v, h->v[(i - 1) / 2].v)) {
        heap_swap(h, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
    return NX_OK;
}

/* The top was replaced. */
static void heap_sink(struct heap *h)
{
    for (size_t i = 0;;) {
        size_t child = 2 * i + 1;

        if (child >= h->n)
            return;
        if (child + 1 < h->n && pick_less(h, h->v[child + 1].v, h->v[child].v))
            child++;
        if (!pick_less(h, h->v[child].v, h->v[i].v))
            return;
        heap_swap(h, i, child);
        i = child;
    }
}

/* Best first; equal ones stay in the heap's order. */
static void heap_sort(struct heap *h)
{
    for (size_t i = 1; i < h->n; i++)
        for (size_t j = i; j > 0 && pick_less(h, h->v[j - 1].v, h->v[j].v); j--)
            heap_swap(h, j - 1, j);
}

static int compare_picks_desc(const void *a, const void *b)
{
    const struct pick *x = a, *y = b;

    if (isnan(x->v) || isnan(y->v))
        return isnan(x->v) - isnan(y->v);
    return (x->v < y->v) - (x->v > y->v);
}

static int compare_picks_asc(const void *a, const void *b)
{
    const struct pick *x = a, *y = b;

    if (isnan(x->v) || isnan(y->v))
        return isnan(x->v) - isnan(y->v);
    return (x->v > y->v) - (x->v < y->v);
}

static nx_status pick_one(struct aggregation *g, struct heap *h, struct pick p, size_t k,
                          struct nx_err *err)
{
    double top;

    if (h->n < k)
        return heap_push(g->ev, h, p, err);
    if (g->op == PQL_AGG_LIMITK)
        return NX_OK;
    top = h->v[0].v;
    if ((g->op == PQL_AGG_TOPK ? top < p.v : top > p.v) || (isnan(top) && !isnan(p.v))) {
        h->v[0] = p;
        heap_sink(h);
    }
    return NX_OK;
}

static uint64_t go_labels_hash(const struct labels *ls, struct buf *b)
{
    buf_clear(b);
    for (uint32_t i = 0; i < ls->n; i++) {
        const struct nx_slice parts[] = {ls->v[i].name, ls->v[i].value};

        for (size_t j = 0; j < 2; j++) {
            if (parts[j].len < 255) {
                buf_u8(b, (uint8_t)parts[j].len);
            } else {
                buf_u8(b, 255);
                buf_u8(b, (uint8_t)parts[j].len);
                buf_u8(b, (uint8_t)(parts[j].len >> 8));
                buf_u8(b, (uint8_t)(parts[j].len >> 16));
            }
            buf_slice(b, parts[j]);
        }
    }
    return XXH64(b->ptr, b->len, 0);
}

static bool in_ratio(double ratio, double at)
{
    return (ratio >= 0 && at < ratio) || (ratio < 0 && at >= 1.0 + ratio);
}

/* Where each row lies in [0, 1), for limit_ratio. */
static nx_status ratio_offsets(struct aggregation *g, double **out, struct nx_err *err)
{
    double *v = arena_array(g->ev->work, g->in->n + 1, sizeof *v);
    struct buf b;
    nx_status st;

    if (!v)
        return eval_nomem(g->ev, g->ev->work, err);
    buf_init(&b, 0);
    for (size_t i = 0; i < g->in->n; i++)
        v[i] = (double)go_labels_hash(&g->in->labels[i], &b) / 18446744073709551615.0;
    st = buf_status(&b, err);
    buf_done(&b);
    *out = v;
    return st;
}

/* Checks the parameter of all steps. *none: nothing can be picked. */
static nx_status check_k(struct aggregation *g, bool *none, struct nx_err *err)
{
    char num[NUM_TEXT_BYTES];
    double max = -INFINITY, min = INFINITY;
    bool nan = false;

    for (uint32_t k = 0; k < g->tm->n; k++) {
        nan |= isnan(g->param[k]);
        max = g->param[k] > max ? g->param[k] : max;
        min = g->param[k] < min ? g->param[k] : min;
    }
    if (g->op == PQL_AGG_LIMIT_RATIO) {
        *none = max == 0 && min == 0;
        if (nan)
            return nx_fail(err, NX_EXEC, "Ratio value is NaN");
        for (int i = 0; i < 2; i++) {
            double r = i ? min : max, to = i ? -1 : 1;

            if (i ? r >= to : r <= to)
                continue;
            annots_add(&g->ev->annots, ANNOT_WARNING, eval_unparen(g->e->agg.param)->pos,
                       "ratio value should be between -1 and 1, got %.*s, capping to %d",
                       (int)num_format_g(num, r), num, (int)to);
        }
        return NX_OK;
    }
    *none = !nan && max < 1;
    if (nan)
        return nx_fail(err, NX_EXEC, "Parameter value is NaN");
    if (*none)
        return NX_OK;
    if (min <= -9223372036854775808.0)
        return nx_fail(err, NX_EXEC, "Scalar value %.*s underflows int64",
                       (int)num_format_g(num, min), num);
    if (max >= 9223372036854775808.0)
        return nx_fail(err, NX_EXEC, "Scalar value %.*s overflows int64",
                       (int)num_format_g(num, max), num);
    return NX_OK;
}

struct picked { /* rows of the result, in order */
    struct rows *rows;
    uint32_t *of_row; /* where an input row went; UINT32_MAX: nowhere yet */
};

static nx_status keep_pick(struct aggregation *g, struct picked *out, uint32_t row, uint32_t k,
                           struct nx_err *err)
{
    struct rows *r = out->rows;
    uint32_t at = out->of_row[row];

    if (at == UINT32_MAX) {
        uint8_t *has = arena_zalloc(g->ev->work, g->tm->n);

        if (!has)
            return eval_nomem(g->ev, g->ev->work, err);
        at = out->of_row[row] = (uint32_t)r->n++;
        r->labels[at] = g->in->labels[row];
        if (r->drop)
            r->drop[at] = g->in->drop[row];
        r->data[at] = (struct row){g->in->data[row].v, has, 0};
    }
    r->data[at].has[k] = 1;
    r->data[at].points++;
    return eval_hold(g->ev, r, 1, err);
}

static nx_status pick_step(struct aggregation *g, struct heap *heaps, const double *offsets,
                           uint32_t k, struct picked *out, struct nx_err *err)
{
    double param = g->param[k];
    size_t limit = 0;
    nx_status st = NX_OK;

    if (g->op != PQL_AGG_LIMIT_RATIO) {
        if (!(param >= 1))
            return NX_OK;
        limit = param < (double)g->in->n ? (size_t)param : g->in->n;
    } else {
        param = param > 1 ? 1 : param < -1 ? -1 : param;
        if (param == 0)
            return NX_OK;
    }
    for (uint32_t i = 0; i < g->in->n && !st; i++) {
        struct heap *h = &heaps[g->of_row[i]];
        struct pick p = {g->in->data[i].v[k], i};

        if (!g->in->data[i].has[k])
            continue;
        if (g->op == PQL_AGG_LIMIT_RATIO)
            st = in_ratio(param, offsets[i]) ? heap_push(g->ev, h, p, err) : NX_OK;
        else
            st = pick_one(g, h, p, limit, err);
    }
    for (size_t i = 0; i < g->n_groups && !st; i++) {
        struct heap *h = &heaps[i];

        if (g->op == PQL_AGG_TOPK || g->op == PQL_AGG_BOTTOMK) {
            if (h->n > 64)
                qsort(h->v, h->n, sizeof *h->v,
                      g->op == PQL_AGG_TOPK ? compare_picks_desc : compare_picks_asc);
            else
                heap_sort(h);
        }
        for (size_t j = 0; j < h->n && !st; j++)
            st = keep_pick(g, out, h->v[j].row, k, err);
        h->n = 0;
    }
    return st;
}

static nx_status run_pick(struct aggregation *g, struct rows **out, struct nx_err *err)
{
    struct picked p = {0};
    struct heap *heaps;
    double *offsets = NULL;
    bool none = false;
    /* Made even if none will be picked: what is wrong with them is told all the same, and first. */
    nx_status st = rows_make(g->ev, g->in, err);

    if (!st)
        st = check_k(g, &none, err);
    if (!st && none)
        st = rows_new(g->ev, g->tm, 0, out, err);
    if (st)
        return st;
    if (none) {
        (*out)->data = arena_zalloc(g->ev->work, sizeof *(*out)->data);
        rows_release(g->ev, g->in);
        return (*out)->data ? NX_OK : eval_nomem(g->ev, g->ev->work, err);
    }
    st = number_groups(g, err); /* rows without points are gone */
    if (!st && g->op == PQL_AGG_LIMIT_RATIO)
        st = ratio_offsets(g, &offsets, err);
    if (!st)
        st = rows_new(g->ev, g->tm, g->in->n, &p.rows, err);
    if (st)
        return st;
    heaps = arena_array(g->ev->work, g->n_groups + 1, sizeof *heaps);
    p.rows->data = arena_array(g->ev->work, g->in->n + 1, sizeof *p.rows->data);
    p.of_row = arena_array(g->ev->work, g->in->n + 1, sizeof *p.of_row);
    if (g->in->drop)
        p.rows->drop = arena_array(g->ev->work, g->in->n + 1, 1);
    if (!heaps || !p.rows->data || !p.of_row || (g->in->drop && !p.rows->drop))
        return eval_nomem(g->ev, g->ev->work, err);
    memset(p.of_row, 0xff, g->in->n * sizeof *p.of_row);
    for (size_t i = 0; i < g->n_groups; i++)
        heaps[i].reverse = g->op == PQL_AGG_BOTTOMK;
    p.rows->n = 0;
    for (uint32_t k = 0; k < g->tm->n && !st; k++) {
        st = eval_check(g->ev, err);
        if (!st)
            st = pick_step(g, heaps, offsets, k, &p, err);
    }
    rows_release(g->ev, g->in);
    *out = p.rows;
    return st;
}

/* ---- count_values ------------------------------------------------------------------------------ */

struct value_counts {
    struct aggregation *g;
    struct nx_slice label;
    struct label_index index;
    struct rows *rows;
    size_t cap;
    struct labels_builder builder;
    /* The rows that values of groups went to, so that labels are made once for each. */
    struct value_slot {
        uint64_t bits;
        uint32_t group, row;
        bool used;
    } * slots;
    size_t n_slots, cap_slots;
};

/* Where a group's value is, or is to be put. */
static struct value_slot *value_slot(const struct value_counts *c, uint64_t bits, uint32_t group)
{
    uint64_t hash = (bits ^ group) * 0x9e3779b97f4a7c15u;

    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15u; /* small numbers differ in upper bits only */
    for (size_t i = hash >> 32 & (c->cap_slots - 1);; i = (i + 1) & (c->cap_slots - 1)) {
        struct value_slot *s = &c->slots[i];

        if (!s->used || (s->bits == bits && s->group == group))
            return s;
    }
}

/* Makes room for one more. */
static nx_status value_slots_grow(struct value_counts *c, struct nx_err *err)
{
    struct value_slot *old = c->slots;
    const size_t n = c->cap_slots;

    if (c->n_slots * 2 < n)
        return NX_OK;
    c->cap_slots = n ? n * 2 : 256;
    c->slots = arena_zalloc(c->g->ev->work, c->cap_slots * sizeof *c->slots);
    if (!c->slots)
        return eval_nomem(c->g->ev, c->g->ev->work, err);
    for (size_t i = 0; i < n; i++)
        if (old[i].used)
            *value_slot(c, old[i].bits, old[i].group) = old[i];
    return NX_OK;
}

/* The labels of input row i with its value as a label, grouped. */
static nx_status value_labels(struct value_counts *c, size_t i, double v, struct labels *out,
                              struct nx_err *err)
{
    const struct pql_expr *e = c->g->e;
    const struct labels *ls = &c->g->in->labels[i];
    struct nx_slice value = {0};
    struct buf text;

    buf_init(&text, 0);
    buf_num_plain(&text, v);
    if (!buf_status(&text, NULL))
        value = arena_slice(c->g->ev->out, buf_view(&text));
    buf_done(&text);
    if (!value.ptr)
        return eval_nomem(c->g->ev, c->g->ev->out, err);
    labels_builder_reset(&c->builder, NULL);
    for (uint32_t j = 0; j < ls->n; j++) {
        bool listed = names_have(e->agg.labels, e->agg.n, ls->v[j].name);

        if (e->agg.without ? !listed && !nx_slice_is(ls->v[j].name, LABEL_NAME) : listed)
            labels_builder_set(&c->builder, ls->v[j].name, ls->v[j].value);
    }
    if (!e->agg.without ||
        (!names_have(e->agg.labels, e->agg.n, c->label) && !nx_slice_is(c->label, LABEL_NAME)))
        labels_builder_set(&c->builder, c->label, value);
    return labels_keep(c->g->ev, &c->builder, out, err);
}

static nx_status value_row(struct value_counts *c, const struct labels *ls, uint32_t *id,
                           struct nx_err *err)
{
    struct eval *ev = c->g->ev;
    bool created;
    struct labels *mine = arena_alloc(ev->work, sizeof *mine);
    nx_status st;

    if (!mine)
        return eval_nomem(ev, ev->work, err);
    *mine = *ls;
    st = label_index_add(ev, &c->index, mine, id, &created, err);
    if (st || !created)
        return st;
    if (c->rows->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;

        c->rows->data = arena_grow(ev->work, c->rows->data, c->cap * sizeof(struct row),
                                   cap * sizeof(struct row));
        c->rows->labels = arena_grow(ev->work, c->rows->labels, c->cap * sizeof(struct labels),
                                     cap * sizeof(struct labels));
        if (!c->rows->data || !c->rows->labels)
            return eval_nomem(ev, ev->work, err);
        c->cap = cap;
    }
    c->rows->labels[c->rows->n] = *mine;
    st = row_new(ev, c->g->tm, &c->rows->data[c->rows->n], err);
    if (st)
        return st;
    memset(c->rows->data[c->rows->n].has, 0, c->g->tm->n);
    c->rows->n++;
    return NX_OK;
}

/* The row that counts input row i where its value is v. */
static nx_status row_of_value(struct value_counts *c, size_t i, double v, uint32_t *id,
                              struct nx_err *err)
{
    const uint32_t group = c->g->of_row[i];
    struct value_slot *s;
    struct labels ls;
    nx_status st = value_slots_grow(c, err);

    if (st)
        return st;
    s = value_slot(c, num_bits(v), group);
    if (!s->used) {
        st = value_labels(c, i, v, &ls, err);
        if (!st)
            st = value_row(c, &ls, id, err);
        if (st)
            return st;
        *s = (struct value_slot){num_bits(v), group, *id, true};
        c->n_slots++;
    }
    *id = s->row;
    return NX_OK;
}

static nx_status count_row_values(struct value_counts *c, size_t i, const struct row *row,
                                  struct nx_err *err)
{
    double last = 0;
    uint32_t id = UINT32_MAX;
    nx_status st = NX_OK;

    for (uint32_t k = 0; k < c->g->tm->n && !st; k++) {
        if (!row->has[k])
            continue;
        if (id == UINT32_MAX || num_bits(last) != num_bits(row->v[k])) {
            last = row->v[k];
            st = row_of_value(c, i, last, &id, err);
            if (st)
                return st;
        }
        struct row *to = &c->rows->data[id];
        if (!to->has[k]) {
            to->has[k] = 1;
            to->v[k] = 0;
            to->points++;
            st = eval_hold(c->g->ev, c->rows, 1, err);
        }
        to->v[k]++;
    }
    return st;
}

static nx_status bad_label_name(struct nx_slice name, struct nx_err *err)
{
    char quoted[TEXT_QUOTED_BYTES];

    return nx_fail(err, NX_EXEC, "invalid label name %s", text_quoted(quoted, name));
}

static nx_status run_count_values(struct aggregation *g, struct rows **out, struct nx_err *err)
{
    struct value_counts c = {.g = g, .label = eval_string(g->e->agg.param)};
    struct row scratch, row;
    nx_status st;

    if (!label_name_valid(c.label))
        return bad_label_name(c.label, err);
    label_index_init(&c.index, g->ev->work);
    labels_builder_init(&c.builder);
    st = number_groups(g, err);
    if (!st)
        st = rows_new(g->ev, g->tm, 0, &c.rows, err);
    if (!st) {
        c.rows->labels = NULL;
        st = row_new(g->ev, g->tm, &scratch, err);
    }
    rows_ahead(g->ev, g->in);
    for (size_t i = 0; i < g->in->n && !st; i++) {
        st = rows_view(g->ev, g->in, i, &scratch, &row, err);
        if (!st)
            st = count_row_values(&c, i, &row, err);
    }
    labels_builder_done(&c.builder);
    if (!st && !c.rows->data) { /* rows that are made, if none */
        c.rows->data = arena_zalloc(g->ev->work, sizeof *c.rows->data);
        if (!c.rows->data)
            st = eval_nomem(g->ev, g->ev->work, err);
    }
    rows_release(g->ev, g->in);
    *out = c.rows;
    return st;
}

/* ---- the input --------------------------------------------------------------------------------- */

#define MOST_ONLY 8u

/* Of labels nothing but those of the groups may be looked at. */
static bool is_by_groups(const struct aggregation *g)
{
    return !g->e->agg.without && g->op != PQL_AGG_TOPK && g->op != PQL_AGG_BOTTOMK &&
           g->op != PQL_AGG_LIMITK && g->op != PQL_AGG_LIMIT_RATIO;
}

static nx_status eval_input(struct aggregation *g, struct nx_err *err)
{
    struct nx_slice names[MOST_ONLY] = {nx_slice_str(LABEL_NAME), nx_slice_str("__type__"),
                                        nx_slice_str("__unit__")};
    struct label_names only = {names, 3};
    nx_status st;

    if (is_by_groups(g) && g->e->agg.n <= MOST_ONLY - only.n &&
        eval_needs_only(g->ev, g->e->agg.inner)) {
        for (size_t i = 0; i < g->e->agg.n; i++)
            if (!label_goes_with_name(g->names[i]))
                names[only.n++] = g->names[i];
        g->ev->only = &only;
    }
    st = eval_rows(g->ev, g->e->agg.inner, g->tm, &g->in, err);
    g->ev->only = NULL;
    return st;
}

/* ---- the node ---------------------------------------------------------------------------------- */

nx_status eval_aggregate(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                         struct rows **out, struct nx_err *err)
{
    struct aggregation g = {.ev = ev, .e = e, .tm = tm, .op = e->agg.op};
    nx_status st = names_sorted(ev, e->agg.labels, e->agg.n, &g.names, err);

    if (!st && e->agg.param && g.op != PQL_AGG_COUNT_VALUES)
        st = eval_scalar(ev, e->agg.param, tm, &g.param, err);
    if (!st)
        st = eval_input(&g, err);
    if (st)
        return st;
    switch (g.op) {
    case PQL_AGG_COUNT_VALUES:
        return run_count_values(&g, out, err);
    case PQL_AGG_TOPK:
    case PQL_AGG_BOTTOMK:
    case PQL_AGG_LIMITK:
    case PQL_AGG_LIMIT_RATIO:
        return run_pick(&g, out, err);
    case PQL_AGG_QUANTILE:
        return run_quantile(&g, out, err);
    case PQL_AGG_COUNT:
    case PQL_AGG_GROUP:
        rows_only_marks(g.in);
        /* fall through */
    default:
        st = number_groups(&g, err);
        return st ? st : run_simple(&g, out, err);
    }
}
