/* query.c - what do queries cost the evaluator alone?
 *
 * A querier hands out series that are made once and kept decoded, so that neither storage nor HTTP is
 * in the figures. 24 hours at 15 s; range queries have 60 s steps. CPU and wall time are each the best of the
 * repeats. Usage: query [--alone] [--stored] [series] [repeats] [expression]
 *
 *   --alone   without helpers: one thread for a query
 *   --stored  the same series come out of a store, from blocks of two hours and the head */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "promql/promql.h"
#include "bench/synth.h"
#include "src/base/clock.h"

#define SAMPLES 5760
#define STEP_MS 15000
#define T0      1700000000000ll

struct made {
    struct querier q;
    size_t n;
    struct labels *labels;
    struct label *pool;
    char (*text)[24];
    int64_t *t;
    double *counter, *gauge; /* all samples of all series */
};

static struct made data;

static nx_status made_select(struct querier *q, const struct matcher *m, size_t n, int64_t mint,
                             int64_t maxt, struct arena *a, struct series_list *out,
                             struct nx_err *err)
{
    struct series *v = arena_array(a, data.n * 2, sizeof *v);
    size_t found = 0;

    (void)q, (void)mint, (void)maxt;
    if (!v)
        return arena_failed(a, err);
    for (size_t i = 0; i < data.n * 2; i++) {
        bool fits = true;

        for (size_t k = 0; k < n && fits; k++)
            fits = matcher_matches(&m[k], labels_get(&data.labels[i], m[k].name));
        if (fits)
            v[found++] = (struct series){data.labels[i], i};
    }
    *out = (struct series_list){v, found};
    return NX_OK;
}

static nx_status made_read(struct querier *q, const struct series *s, int64_t mint, int64_t maxt,
                           struct column *c, struct nx_err *err)
{
    size_t lo = mint <= T0 ? 0 : (size_t)((mint - T0 + STEP_MS - 1) / STEP_MS);
    size_t hi = maxt < T0 ? 0 : (size_t)((maxt - T0) / STEP_MS) + 1;
    const double *v = s->ref < data.n ? data.counter : data.gauge;

    (void)q, (void)err;
    hi = hi > SAMPLES ? SAMPLES : hi;
    lo = lo > hi ? hi : lo;
    c->t = data.t + lo;
    c->v = v + (s->ref % data.n) * SAMPLES + lo;
    c->n = hi - lo;
    return NX_OK;
}

static void made_close(struct querier *q)
{
    (void)q;
}

static const struct querier_ops made_ops = {
    .select = made_select, .read = made_read, .close = made_close, .reads_side_by_side = true};

static nx_status made_open(void *ctx, int64_t mint, int64_t maxt, struct querier **out,
                           struct nx_err *err)
{
    (void)ctx, (void)mint, (void)maxt, (void)err;
    data.q.ops = &made_ops;
    *out = &data.q;
    return NX_OK;
}

/* Two metrics of n series: a counter with a reset now and then, and a gauge with two decimals. */
static void make(size_t n)
{
    uint64_t seed = 42;

    data.n = n;
    data.labels = calloc(2 * n, sizeof *data.labels);
    data.pool = calloc(8 * n, sizeof *data.pool);
    data.text = calloc(n, sizeof *data.text);
    data.t = calloc(SAMPLES, sizeof *data.t);
    data.counter = calloc(n * SAMPLES, sizeof(double));
    data.gauge = calloc(n * SAMPLES, sizeof(double));
    for (size_t i = 0; i < SAMPLES; i++)
        data.t[i] = T0 + (int64_t)i * STEP_MS;
    for (size_t s = 0; s < 2 * n; s++) {
        static const char *const les[] = {"+Inf", "0.1", "0.5", "1", "5"};
        struct label *l = data.pool + 4 * s;
        size_t i = s % n;

        snprintf(data.text[i], sizeof data.text[i], "i%05zu", i / 5);
        l[0] = (struct label){nx_slice_str("__name__"), nx_slice_str(s < n ? "c_total" : "g")};
        l[1] = (struct label){nx_slice_str("instance"), nx_slice_str(data.text[i])};
        l[2] = (struct label){nx_slice_str("job"), nx_slice_str(i % 10 < 5 ? "a" : "b")};
        l[3] = (struct label){nx_slice_str("le"), nx_slice_str(les[i % 5])};
        data.labels[s] = (struct labels){l, 4};
    }
    for (size_t s = 0; s < n; s++) {
        double c = 0;

        for (size_t i = 0; i < SAMPLES; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            c = (seed >> 40) % 3000 == 0 ? 0 : c + (double)((seed >> 33) % 100);
            data.counter[s * SAMPLES + i] = c;
            data.gauge[s * SAMPLES + i] = (double)((seed >> 20) % 100000) / 100;
        }
    }
}

/* ---- the store ----------------------------------------------------------------------------------- */

static struct storage *store;
static char store_dir[64];

static struct nx_err err;

/* Five series are a group's: those of an instance. */
static void store_all(void)
{
    const size_t n_groups = (2 * data.n + 4) / 5;
    struct storage_group **g = calloc(n_groups, sizeof(struct storage_group *));
    uint32_t *cols = calloc(2 * data.n, sizeof *cols);

    snprintf(store_dir, sizeof store_dir, "/tmp/bench-query-XXXXXX");
    if (!g || !cols || !mkdtemp(store_dir))
        exit(1);
    const struct storage_opts o = {.fs = fs_real(), .dir = store_dir, .no_worker = true};
    must(storage_open(&store, &o, &err), &err);
    for (size_t k = 0; k < n_groups; k++)
        must(storage_group_open(store, &g[k], &err), &err);
    for (size_t s = 0; s < 2 * data.n; s++)
        must(storage_group_column(g[s / 5], &data.labels[s], &cols[s], NULL, &err), &err);
    for (size_t i = 0; i < SAMPLES; i++) {
        for (size_t s = 0; s < 2 * data.n; s += 5) {
            double v[5];
            size_t n = 2 * data.n - s < 5 ? 2 * data.n - s : 5;

            for (size_t k = 0; k < n; k++)
                v[k] = (s + k < data.n ? data.counter : data.gauge)[(s + k) % data.n * SAMPLES + i];
            must(storage_group_append(g[s / 5], data.t[i], cols + s, v, n, NULL, &err), &err);
        }
        if (i % 120 == 119)
            storage_tick(store, data.t[i]);
    }
    for (size_t k = 0; k < n_groups; k++)
        storage_group_close(g[k]);
    free(g);
    free(cols);
}

static void store_drop(void)
{
    if (!store)
        return;
    storage_close(store);
    must(fs_remove_tree(fs_real(), store_dir, &err), &err);
}

static void run(struct pql_engine *e, const char *text, bool instant, int repeats)
{
    struct pql_source source =
        store ? pql_source_storage(store) : (struct pql_source){made_open, NULL};
    struct pql_query q = {.text = nx_slice_str(text),
                          .instant = instant,
                          .start_ms = instant ? T0 + SAMPLES * STEP_MS : T0,
                          .end_ms = T0 + SAMPLES * STEP_MS,
                          .step_ms = 60000,
                          .source = &source};
    double best = INFINITY, wall = INFINITY;
    size_t series = 0, points = 0;

    for (int i = 0; i < repeats; i++) {
        struct pql_result *r = NULL;
        int64_t begun = clock_mono_ns(), at = clock_process_cpu_ns();

        if (pql_exec(e, &q, &r, &err)) {
            printf("%-70s %s\n", text, err.text);
            return;
        }
        double ms = (double)(clock_process_cpu_ns() - at) / 1e6;
        best = ms < best ? ms : best;
        ms = (double)(clock_mono_ns() - begun) / 1e6;
        wall = ms < wall ? ms : wall;
        series = r->n_series;
        points = 0;
        for (size_t k = 0; k < r->n_series; k++)
            points += r->series[k].n;
        pql_result_free(r);
    }
    printf("%-70s %9.3f ms CPU %9.3f ms %6zu series %8zu points\n", text, best, wall, series,
           points);
}

int main(int argc, char **argv)
{
    static const char *const range[] = {
        "c_total",
        "sum(c_total)",
        "rate(c_total[5m])",
        "sum by (job) (rate(c_total[5m]))",
        "histogram_quantile(0.99, sum by (le, instance) (rate(c_total[5m])))",
        "g * 2 + 1",
        "g / on (instance, le) c_total",
        "avg_over_time(g[30m])",
        "sum_over_time(c_total[30m])",
        "max_over_time(g[1h])",
        "quantile_over_time(0.9, g[30m])",
        "stddev_over_time(g[30m])",
        "topk(5, g)",
        "quantile(0.9, g)",
        "max_over_time(rate(c_total[5m])[1h:1m])",
        "label_replace(g, \"x\", \"$1\", \"instance\", \"i(.*)\")",
        "count_values(\"v\", floor(g / 100))",
    };
    static const char *const instant[] = {"c_total", "sum by (job) (rate(c_total[5m]))",
                                          "topk(10, count by (instance) (g))"};
    struct pql_engine *e = NULL;
    struct pql_engine_opts opts = {0};
    bool stored = false;

    for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
        if (strcmp(argv[1], "--alone") == 0)
            opts.helpers = UINT32_MAX;
        stored |= strcmp(argv[1], "--stored") == 0;
    }
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 100;
    int repeats = argc > 2 ? atoi(argv[2]) : 5;

    make(n ? n : 1);
    if (stored)
        store_all();
    if (pql_engine_new(&e, &opts, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("%zu series a metric, %d samples each; range: 24 h, 60 s steps\n", data.n, SAMPLES);
    for (size_t i = 0; argc < 4 && i < NX_COUNT(range); i++)
        run(e, range[i], false, repeats);
    printf("instant:\n");
    for (size_t i = 0; argc < 4 && i < NX_COUNT(instant); i++)
        run(e, instant[i], true, repeats);
    for (int i = 3; i < argc; i++)
        run(e, argv[i], false, repeats);
    pql_engine_free(e);
    store_drop();
    return 0;
}
