/* teststore.c - series in memory behind the interface of a querier.
 *
 * SHAPE A sorted array of series, each with its samples in time order; selecting goes over all of them. */
#include "promql/teststore.h"

#include <stdlib.h>
#include <string.h>

struct samples_held {
    int64_t *t;
    double *v;
    size_t n, cap;
};

struct held {
    struct arena *a; /* of the labels */
    struct labels labels;
    struct samples_held samples, unheld;
};

struct teststore {
    struct held **v; /* sorted by labels */
    size_t n, cap;
    int met_unheld; /* atomic */
};

struct store_querier {
    struct querier q;
    struct teststore *s;
};

struct teststore *teststore_new(void)
{
    return calloc(1, sizeof(struct teststore));
}

static void held_free(struct held *h)
{
    arena_free(h->a);
    free(h->samples.t);
    free(h->samples.v);
    free(h->unheld.t);
    free(h->unheld.v);
    free(h);
}

void teststore_clear(struct teststore *s)
{
    for (size_t i = 0; i < s->n; i++)
        held_free(s->v[i]);
    s->n = 0;
}

void teststore_free(struct teststore *s)
{
    if (!s)
        return;
    teststore_clear(s);
    free(s->v);
    free(s);
}

bool teststore_met_unheld(struct teststore *s)
{
    return __atomic_exchange_n(&s->met_unheld, 0, __ATOMIC_RELAXED);
}

static nx_status held_new(struct teststore *s, const struct labels *ls, size_t at,
                          struct nx_err *err)
{
    struct held *h = calloc(1, sizeof *h);
    nx_status st;

    if (!h)
        return nx_fail(err, NX_NOMEM, "adding a series");
    h->a = arena_new(0);
    st = h->a ? labels_copy(h->a, ls, &h->labels, err) : nx_fail(err, NX_NOMEM, "adding a series");
    if (!st && s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        struct held **v = realloc(s->v, cap * sizeof(*v));

        if (v) {
            s->v = v;
            s->cap = cap;
        } else {
            st = nx_fail(err, NX_NOMEM, "adding a series");
        }
    }
    if (st) {
        held_free(h);
        return st;
    }
    memmove(&s->v[at + 1], &s->v[at], (s->n - at) * sizeof(struct held *));
    s->v[at] = h;
    s->n++;
    return NX_OK;
}

/* The place of a series, or the one that it would have; *there tells which. */
static size_t held_place(const struct teststore *s, const struct labels *ls, bool *there)
{
    size_t lo = 0, hi = s->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (labels_cmp(&s->v[mid]->labels, ls) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *there = lo < s->n && labels_cmp(&s->v[lo]->labels, ls) == 0;
    return lo;
}

static nx_status held_find(struct teststore *s, const struct labels *ls, struct held **out,
                           struct nx_err *err)
{
    bool there;
    size_t at = held_place(s, ls, &there);
    nx_status st = there ? NX_OK : held_new(s, ls, at, err);

    if (!st)
        *out = s->v[at];
    return st;
}

bool teststore_newest(const struct teststore *s, const struct labels *ls,
                      struct teststore_sample *out)
{
    bool there;
    size_t at = held_place(s, ls, &there);
    const struct samples_held *h = there ? &s->v[at]->samples : NULL;

    if (!h || !h->n)
        return false;
    *out = (struct teststore_sample){h->t[h->n - 1], h->v[h->n - 1]};
    return true;
}

/* Puts a sample where its time belongs. */
static nx_status samples_put(struct samples_held *h, int64_t t_ms, double v, struct nx_err *err)
{
    size_t at;

    if (h->n == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 16;
        int64_t *t = realloc(h->t, cap * sizeof *t);

        if (t)
            h->t = t;
        double *values = realloc(h->v, cap * sizeof *values);
        if (values)
            h->v = values;
        if (!t || !values)
            return nx_fail(err, NX_NOMEM, "adding a sample");
        h->cap = cap;
    }
    for (at = h->n; at > 0 && h->t[at - 1] > t_ms; at--)
        ;
    if (at > 0 && h->t[at - 1] == t_ms)
        return NX_OK;
    memmove(h->t + at + 1, h->t + at, (h->n - at) * sizeof *h->t);
    memmove(h->v + at + 1, h->v + at, (h->n - at) * sizeof *h->v);
    h->t[at] = t_ms;
    h->v[at] = v;
    h->n++;
    return NX_OK;
}

nx_status teststore_add_unheld(struct teststore *s, const struct labels *ls, int64_t t_ms,
                               struct nx_err *err)
{
    struct held *h = NULL;
    nx_status st = held_find(s, ls, &h, err);

    return st ? st : samples_put(&h->unheld, t_ms, 0, err);
}

nx_status teststore_add(struct teststore *s, const struct labels *ls, int64_t t_ms, double v,
                        struct nx_err *err)
{
    struct held *h = NULL;
    nx_status st = held_find(s, ls, &h, err);

    return st ? st : samples_put(&h->samples, t_ms, v, err);
}

/* ---- the querier -------------------------------------------------------------------------------- */

/* Samples in [mint, maxt]: from the first, n of them. */
static size_t within(const struct samples_held *h, int64_t mint, int64_t maxt, size_t *first)
{
    size_t lo = 0, hi;

    while (lo < h->n && h->t[lo] < mint)
        lo++;
    for (hi = lo; hi < h->n && h->t[hi] <= maxt; hi++)
        ;
    *first = lo;
    return hi - lo;
}

static nx_status store_select(struct querier *q, const struct matcher *m, size_t n, int64_t mint,
                              int64_t maxt, struct arena *a, struct series_list *out,
                              struct nx_err *err)
{
    struct teststore *s = ((struct store_querier *)q)->s;
    struct series *v = arena_array(a, s->n ? s->n : 1, sizeof *v);
    size_t found = 0, first;

    if (!v)
        return arena_failed(a, err);
    for (size_t i = 0; i < s->n; i++) {
        nx_status st;

        if (!matchers_match(m, n, &s->v[i]->labels))
            continue;
        if (within(&s->v[i]->unheld, mint, maxt, &first))
            __atomic_store_n(&s->met_unheld, 1, __ATOMIC_RELAXED);
        if (!within(&s->v[i]->samples, mint, maxt, &first))
            continue;
        st = labels_copy(a, &s->v[i]->labels, &v[found].labels, err);
        if (st)
            return st;
        v[found++].ref = i;
    }
    *out = (struct series_list){v, found};
    return NX_OK;
}

static nx_status store_read(struct querier *q, const struct series *series, int64_t mint,
                            int64_t maxt, struct column *c, struct nx_err *err)
{
    const struct samples_held *h = &((struct store_querier *)q)->s->v[series->ref]->samples;
    size_t first;

    c->n = within(h, mint, maxt, &first);
    c->t = h->t + first;
    c->v = h->v + first;
    c->over = c->most && c->n > c->most;
    return c->over ? nx_fail(err, NX_LIMIT, "more than %zu samples of a series", c->most) : NX_OK;
}

static int compare_slices(const void *a, const void *b)
{
    return nx_slice_cmp(*(const struct nx_slice *)a, *(const struct nx_slice *)b);
}

/* Names (or values of `name`) of the series that match, sorted, each once. */
static nx_status gather(struct teststore *s, const struct nx_slice *name, const struct matcher *m,
                        size_t n, size_t limit, struct arena *a, struct nx_slice **out,
                        size_t *n_out, struct nx_err *err)
{
    size_t cap = 0, found = 0, kept = 0;
    struct nx_slice *v;

    for (size_t i = 0; i < s->n; i++)
        cap += s->v[i]->labels.n;
    v = arena_array(a, cap ? cap : 1, sizeof *v);
    if (!v)
        return arena_failed(a, err);
    for (size_t i = 0; i < s->n; i++) {
        const struct labels *ls = &s->v[i]->labels;

        for (uint32_t j = 0; j < ls->n && matchers_match(m, n, &s->v[i]->labels); j++)
            if (!name || nx_slice_eq(*name, ls->v[j].name))
                v[found++] = name ? ls->v[j].value : ls->v[j].name;
    }
    qsort(v, found, sizeof *v, compare_slices);
    for (size_t i = 0; i < found; i++)
        if ((i == 0 || !nx_slice_eq(v[i], v[i - 1])) && (!limit || kept <= limit))
            v[kept++] = arena_slice(a, v[i]);
    *out = v;
    *n_out = kept;
    return NX_OK;
}

static nx_status store_names(struct querier *q, const struct matcher *m, size_t n, int64_t mint,
                             int64_t maxt, size_t limit, struct arena *a, struct nx_slice **out,
                             size_t *n_out, struct nx_err *err)
{
    (void)mint;
    (void)maxt;
    return gather(((struct store_querier *)q)->s, NULL, m, n, limit, a, out, n_out, err);
}

static nx_status store_values(struct querier *q, struct nx_slice name, const struct matcher *m,
                              size_t n, int64_t mint, int64_t maxt, size_t limit, struct arena *a,
                              struct nx_slice **out, size_t *n_out, struct nx_err *err)
{
    (void)mint;
    (void)maxt;
    return gather(((struct store_querier *)q)->s, &name, m, n, limit, a, out, n_out, err);
}

static void store_close(struct querier *q)
{
    free(q);
}

static const struct querier_ops store_ops = {.select = store_select,
                                             .read = store_read,
                                             .label_names = store_names,
                                             .label_values = store_values,
                                             .close = store_close,
                                             .reads_side_by_side = true};

static nx_status store_open(void *ctx, int64_t mint, int64_t maxt, struct querier **out,
                            struct nx_err *err)
{
    struct store_querier *q = calloc(1, sizeof *q);

    (void)mint;
    (void)maxt;
    if (!q)
        return nx_fail(err, NX_NOMEM, "opening a querier");
    q->q.ops = &store_ops;
    q->s = ctx;
    *out = &q->q;
    return NX_OK;
}

struct pql_source teststore_source(struct teststore *s)
{
    return (struct pql_source){store_open, s};
}
