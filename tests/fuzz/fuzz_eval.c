/* fuzz_eval.c - any expression over a small store: the evaluator answers or refuses it, within its
 * samples and its time, and what it answers is well formed: labels sorted and each set once, points in
 * time order and on the steps, no stale marker among the values. A part of the range queries is asked once more
 * where helpers make the rows, and must get the same. */
#include <stdlib.h>
#include <string.h>

#include "promql/teststore.h"
#include "src/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pql_engine *engine, *helped;
static struct teststore *store;

static void require(bool what)
{
    if (!what)
        abort();
}

/* Three metrics by two labels, with gaps, a stale marker, NaN and a reset. */
static void make_store(void)
{
    static const char *const names[] = {"a_total", "b", "h_bucket"};
    static const char *const les[] = {"1", "5", "+Inf"};
    struct nx_err err;

    store = teststore_new();
    require(store != NULL);
    for (unsigned i = 0; i < 9; i++) {
        struct label l[3] = {{nx_slice_str("__name__"), nx_slice_str(names[i % 3])},
                             {nx_slice_str("k"), nx_slice_str(i < 5 ? "1" : "2")},
                             {nx_slice_str("le"), nx_slice_str(les[i / 3])}};
        struct labels ls = {l, 3};

        for (int64_t t = 0; t <= 600000; t += 15000) {
            double v = i % 3 == 1 ? (double)(t % 70000) - 2e4 : (double)((t + i * 1000) % 400000);

            if (t == 150000)
                v = i == 4 ? num_from_bits(NUM_STALE_BITS) : num_from_bits(NUM_NAN_BITS);
            if (t % 105000)
                require(teststore_add(store, &ls, t, v, &err) == NX_OK);
        }
    }
}

static struct pql_engine *make_engine(uint32_t helpers, uint32_t ahead_rows)
{
    const struct pql_engine_opts opts = {
        .helpers = helpers,
        .ahead_rows = ahead_rows,
        .max_samples = 5000,
        .timeout_ms = 5000,
        .features = {.experimental_functions = true, .binop_fill = true, .extended_range = true}};
    struct pql_engine *e = NULL;
    struct nx_err err;

    require(pql_engine_new(&e, &opts, &err) == NX_OK);
    return e;
}

static void check_series(const struct pql_result *r, const struct pql_query *q)
{
    for (size_t i = 0; i < r->n_series; i++) {
        const struct pql_series *s = &r->series[i];

        require(s->n > 0);
        if (!q->instant && i)
            require(labels_cmp(&r->series[i - 1].labels, &s->labels) < 0);
        for (uint32_t k = 0; k < s->labels.n; k++) {
            require(s->labels.v[k].value.len > 0);
            require(!k || nx_slice_cmp(s->labels.v[k - 1].name, s->labels.v[k].name) < 0);
        }
        for (size_t k = 0; k < s->n; k++) {
            require(!k || s->t[k - 1] < s->t[k]);
            require(!num_is_stale(s->v[k]));
            if (!q->instant)
                require((s->t[k] - q->start_ms) % q->step_ms == 0 && s->t[k] <= q->end_ms);
        }
    }
}

static void require_same(const struct pql_result *a, const struct pql_result *b)
{
    require(a->n_series == b->n_series && a->stats.samples_total == b->stats.samples_total &&
            a->stats.samples_peak == b->stats.samples_peak && a->n_warnings == b->n_warnings &&
            a->n_infos == b->n_infos);
    for (size_t i = 0; i < a->n_series; i++) {
        const struct pql_series *x = &a->series[i], *y = &b->series[i];

        require(labels_eq(&x->labels, &y->labels) && x->n == y->n);
        require(memcmp(x->t, y->t, x->n * sizeof *x->t) == 0);
        require(memcmp(x->v, y->v, x->n * sizeof *x->v) == 0);
    }
}

static void run_helped(const struct pql_query *q, nx_status wanted, const struct pql_result *want)
{
    struct pql_result *r = NULL;
    nx_status st = pql_exec(helped, q, &r, NULL);

    if (st == NX_TIMEOUT || wanted == NX_TIMEOUT) {
        pql_result_free(r);
        return;
    }
    require(st == wanted);
    if (!st)
        require_same(want, r);
    pql_result_free(r);
}

static void run(struct nx_slice text, bool instant)
{
    struct pql_source source = teststore_source(store);
    struct pql_query q = {.text = text,
                          .instant = instant,
                          .start_ms = 37000,
                          .end_ms = 600000,
                          .step_ms = 61000,
                          .source = &source};
    struct pql_result *r = NULL;
    struct nx_err err;
    nx_status st = pql_exec(engine, &q, &r, &err);

    require(st == NX_OK || st == NX_BADINPUT || st == NX_EXEC || st == NX_TIMEOUT);
    if (!instant && text.len % 2)
        run_helped(&q, st, r);
    if (st) {
        require(err.text[0] != 0);
        return;
    }
    require(r->stats.samples_peak <= 5000);
    check_series(r, &q);
    pql_result_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (!engine) {
        make_store();
        engine = make_engine(UINT32_MAX, 0);
        helped = make_engine(1, 1);
    }
    text = malloc(size ? size : 1); /* exactly as long: a read beyond it is seen */
    require(text != NULL);
    if (size)
        memcpy(text, data, size);
    run(nx_slice_of(text, size), true);
    run(nx_slice_of(text, size), false);
    free(text);
    return 0;
}
