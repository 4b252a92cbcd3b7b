#include "src/cli/query.h"

/* query_analyze.c - `query analyze`: how many of their buckets the histograms of a server use.
 *
 * RULES   A1  A series of floats is a bucket of a classic histogram if it is named so and has `le`; one of
 *             histograms is a native one. What is neither, or has a single sample, is passed over.
 *         A2  Buckets of one classic histogram are told from others by all labels but `le`; they are
 *             shown in the order of their names. */

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/num.h"
#include "src/cli/moment.h"
#include "src/cli/tool.h"

struct usage {
    int64_t min, max, total;
    double avg;
};
struct spread {
    int64_t min, max, n;
    double avg;
};
struct sums {
    struct spread min, avg, max, total;
};

static void spread_add(struct spread *d, int64_t v)
{
    if (!d->n || v < d->min)
        d->min = v;
    if (v > d->max)
        d->max = v;
    d->n++;
    d->avg += (double)v / (double)d->n - d->avg / (double)d->n;
}

static void sums_add(struct sums *s, const struct usage *u)
{
    spread_add(&s->min, u->min);
    spread_add(&s->avg, (int64_t)u->avg);
    spread_add(&s->max, u->max);
    spread_add(&s->total, u->total);
}

static void print_usage(const struct usage *u)
{
    printf("%lld/%.3f/%lld", (long long)u->min, u->avg, (long long)u->max);
    if (u->max != u->total)
        printf("/%lld", (long long)u->total);
    putchar('\n');
}

static void print_spread(const char *what, const struct spread *d)
{
    printf("\n- %s: %lld/%.3f/%lld", what, (long long)d->min, d->avg, (long long)d->max);
}

static void print_sums(const char *kind, const struct sums *s)
{
    if (!s->min.n)
        return;
    printf("\n%s histogram series (%lld in total):", kind, (long long)s->min.n);
    print_spread("min populated", &s->min);
    print_spread("avg populated", &s->avg);
    print_spread("max populated", &s->max);
    if (memcmp(&s->max, &s->total, sizeof s->max) != 0)
        print_spread("total", &s->total);
    putchar('\n');
}

static void usage_add(struct usage *u, int64_t populated, bool first)
{
    if (first || populated < u->min)
        u->min = populated;
    if (populated > u->max)
        u->max = populated;
}

/* ---- native ---------------------------------------------------------------------------------------- */

static int by_bounds(const void *x, const void *y)
{
    const struct model_bucket *a = x, *b = y;

    if (a->boundaries != b->boundaries)
        return a->boundaries < b->boundaries ? -1 : 1;
    if (a->lower != b->lower)
        return a->lower < b->lower ? -1 : 1;
    return a->upper < b->upper ? -1 : a->upper > b->upper;
}

static nx_status native(const struct model_series *s, struct arena *a, struct sums *sums,
                        struct nx_err *err)
{
    struct usage u = {0};
    struct model_bucket *all;
    size_t n = 0, sum = 0;
    struct buf b;

    if (s->n < 2) /* A1 */
        return NX_OK;
    for (size_t i = 0; i < s->n; i++) {
        usage_add(&u, (int64_t)s->v[i].n_buckets, i == 0);
        sum += s->v[i].n_buckets;
    }
    all = arena_array(a, sum, sizeof *all);
    if (!all)
        return arena_failed(a, err);
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; k < s->v[i].n_buckets; k++)
            all[n++] = s->v[i].buckets[k];
    if (n)
        qsort(all, n, sizeof *all, by_bounds);
    for (size_t i = 0; i < n; i++)
        u.total += i == 0 || by_bounds(&all[i - 1], &all[i]) != 0;
    u.avg = (double)sum / (double)s->n;
    buf_init(&b, 0);
    labels_print(&b, &s->labels);
    printf("- %s (native): ", buf_cstr(&b));
    buf_done(&b);
    print_usage(&u);
    sums_add(sums, &u);
    return NX_OK;
}

/* ---- classic --------------------------------------------------------------------------------------- */

struct bucket_series {
    struct nx_slice name; /* name{labels}, without le */
    double le;
    const struct model_series *s;
};

static int by_name_and_le(const void *x, const void *y)
{
    const struct bucket_series *a = x, *b = y;
    int c = nx_slice_cmp(a->name, b->name);

    return c ? c : a->le < b->le ? -1 : a->le > b->le;
}

static bool is_bucket(const struct model_series *s)
{
    struct nx_slice name = labels_get_str(&s->labels, LABEL_NAME);

    return labels_get_str(&s->labels, "le").len && name.len >= 7 &&
           memcmp(name.ptr + name.len - 7, "_bucket", 7) == 0;
}

static nx_status name_bucket(const struct model_series *s, struct arena *a,
                             struct bucket_series *out, struct nx_err *err)
{
    struct label *v = arena_array(a, s->labels.n, sizeof *v);
    struct labels rest = {v, 0};
    struct buf b;

    if (!v)
        return arena_failed(a, err);
    for (uint32_t i = 0; i < s->labels.n; i++)
        if (!nx_slice_is(s->labels.v[i].name, "le") &&
            !nx_slice_is(s->labels.v[i].name, LABEL_NAME))
            v[rest.n++] = s->labels.v[i];
    buf_init(&b, 0);
    buf_slice(&b, labels_get_str(&s->labels, LABEL_NAME));
    model_labels_print(&b, &rest);
    *out = (struct bucket_series){.name = arena_slice(a, buf_view(&b)), .s = s};
    num_parse(labels_get_str(&s->labels, "le"), &out->le, NULL);
    buf_done(&b);
    return out->name.ptr ? NX_OK : arena_failed(a, err);
}

/* The buckets that have something at one of the times; those behind one that lacks the time count as empty. */
static nx_status populated(const struct bucket_series *v, size_t n, size_t at, int64_t *out,
                           struct nx_err *err)
{
    *out = (int64_t)v[0].s->v[at].v != 0;
    for (size_t i = 1; i < n && at < v[i].s->n; i++) {
        const struct model_sample *now = &v[i].s->v[at], *below = &v[i - 1].s->v[at];
        if (now->t_ms != below->t_ms)
            return nx_fail(err, NX_EXEC, "matrix result is not time aligned");
        *out += (int64_t)(now->v - below->v) != 0;
    }
    return NX_OK;
}

static nx_status classic(const struct bucket_series *v, size_t n, struct sums *sums,
                         struct nx_err *err)
{
    struct usage u = {.total = (int64_t)n};
    int64_t sum = 0;

    if (v[0].s->n < 2) /* A1 */
        return NX_OK;
    for (size_t at = 0; at < v[0].s->n; at++) {
        int64_t now;
        nx_status st = populated(v, n, at, &now, err);
        if (st)
            return st;
        usage_add(&u, now, at == 0);
        sum += now;
    }
    u.avg = (double)sum / (double)v[0].s->n;
    printf("- %.*s (classic): ", (int)v[0].name.len, v[0].name.ptr);
    print_usage(&u);
    sums_add(sums, &u);
    return NX_OK;
}

/* ---- the command ----------------------------------------------------------------------------------- */

static nx_status analyze(const struct model_value *v, struct arena *a, struct sums *natives,
                         struct sums *classics, struct nx_err *err)
{
    struct bucket_series *buckets = arena_array(a, v->n, sizeof *buckets);
    size_t n = 0;
    nx_status st = buckets ? NX_OK : arena_failed(a, err);

    for (size_t i = 0; i < v->n && !st; i++) {
        const struct model_series *s = &v->series[i];
        if (s->n_floats == 0)
            st = native(s, a, natives, err);
        else if (is_bucket(s))
            st = name_bucket(s, a, &buckets[n++], err);
    }
    if (n && !st)
        qsort(buckets, n, sizeof *buckets, by_name_and_le);
    for (size_t from = 0, to; from < n && !st; from = to) {
        for (to = from + 1; to < n && nx_slice_eq(buckets[to].name, buckets[from].name);)
            to++;
        st = classic(buckets + from, to - from, classics, err);
    }
    return st;
}

static nx_status ask(const struct server_url *s, const char *match, int64_t duration_ms, int64_t at,
                     struct model_value *out, struct nx_err *err)
{
    struct query_answer a = {0};
    struct buf form, query;
    nx_status st;

    buf_init(&form, 0);
    buf_init(&query, 0);
    buf_printf(&query, "%s[", match);
    buf_duration(&query, duration_ms);
    buf_char(&query, ']');
    url_param(&form, "query", buf_view(&query));
    query_param_time(&form, "time", at);
    st = query_ask(s, "/api/v1/query", buf_cstr(&form), &a, err);
    if (!st)
        st = model_read(a.data, s->arena, out, err);
    if (!st && out->type != MODEL_MATRIX)
        st = nx_fail(err, NX_EXEC, "query of buckets resulted in non-Matrix");
    query_answer_done(&a);
    buf_done(&form);
    buf_done(&query);
    return st;
}

int tool_query_analyze(const struct flags *f)
{
    const char *const *match, *type = flags_str(f, "type"), *time = flags_str(f, "time");
    size_t n = flags_list(f, "match", &match);
    struct sums natives = {0}, classics = {0};
    struct server_url s = {0};
    struct nx_err err = {0};
    int64_t at = clock_now_ns();
    nx_status st = NX_OK;

    if (strcmp(type, "histogram") != 0)
        st = nx_fail(&err, NX_BADINPUT, "analyze type is %s, must be 'histogram'", type);
    else if (*time && moment_parse(time, &at, &err))
        st = nx_context(&err, "error parsing time '%s'", time);
    if (!st && !server_url_init(&s, f, flags_str(f, "server"))) {
        server_url_done(&s);
        return 1;
    }
    if (!st)
        printf("Bucket stats for each histogram series over time\n"
               "------------------------------------------------\n"
               "First the min, avg, and max number of populated buckets, followed by the total\n"
               "number of buckets (only if different from the max number of populated buckets\n"
               "which is typical for classic but not native histograms).\n\n");
    for (size_t i = 0; i < n && !st; i++) {
        struct model_value v = {0};
        st = ask(&s, match[i], flags_go_ns(f, "duration") / 1000000, at, &v, &err);
        if (!st)
            st = analyze(&v, s.arena, &natives, &classics, &err);
    }
    if (!st) {
        printf("\nAggregated bucket stats\n"
               "-----------------------\n"
               "Each line shows min/avg/max over the series above.\n");
        print_sums("Native", &natives);
        print_sums("Classic", &classics);
    } else {
        fflush(stdout);
        fprintf(stderr, "%s\n", err.text);
    }
    server_url_done(&s);
    return st ? 1 : 0;
}
