/* model.h - what a scrape must append, computed the plain way: every line parsed, every set looked up.
 *
 * The layout, its fast path and the row made from it are compared with this after each body. */
#pragma once

#include "src/base/num.h"
#include "src/scrape/ingest.h"
#include "fake_storage.h"

struct model_sample {
    char *series;
    double value;
    int64_t t_ms;
    bool stamped;
};
struct model {                 /* one target */
    struct model_sample *prev; /* unstamped series of the last success */
    size_t n_prev;
};

static int model_cmp(const void *a, const void *b)
{
    const struct model_sample *x = a, *y = b;
    int c = strcmp(x->series, y->series);
    if (c)
        return c;
    if (x->t_ms != y->t_ms)
        return x->t_ms < y->t_ms ? -1 : 1;
    return num_bits(x->value) < num_bits(y->value) ? -1 : num_bits(x->value) > num_bits(y->value);
}

static void model_free(struct model_sample *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(v[i].series);
    free(v);
}

struct model_row {
    struct model_sample *v;
    size_t n;
    struct fake_exemplar *exemplars; /* both texts are owned */
    size_t n_exemplars;
    uint32_t scraped, post, duplicate;
};

static void model_add(struct model_row *r, const char *series, double value, int64_t t_ms,
                      bool stamped)
{
    r->v = realloc(r->v, (r->n + 1) * sizeof *r->v);
    r->v[r->n++] = (struct model_sample){strdup(series), value, t_ms, stamped};
}

static bool model_has(const struct model_sample *v, size_t n, const char *series)
{
    for (size_t i = 0; i < n; i++)
        if (!v[i].stamped && strcmp(v[i].series, series) == 0)
            return true;
    return false;
}

static void model_add_exemplar(struct model_row *r, const char *series, struct nx_slice text,
                               int64_t t_ms, struct arena *a)
{
    struct expo_exemplar x;

    NX_ASSERT_ALWAYS(expo_exemplar(text, a, &x, NULL) == NX_OK);
    const struct storage_exemplar e = {
        {x.labels.v, x.labels.n}, x.value, x.has_ts ? x.ts_ms : t_ms, x.has_ts};
    r->exemplars = realloc(r->exemplars, (r->n_exemplars + 1) * sizeof *r->exemplars);
    r->exemplars[r->n_exemplars++] = (struct fake_exemplar){strdup(series), fake_exemplar_text(&e)};
}

/* What the store got is what the row wants, in its order; both are forgotten. */
static void model_compare_exemplars(struct model_row *r, bool failed)
{
    NX_ASSERT_ALWAYS(fake.n_exemplars == (failed ? 0 : r->n_exemplars));
    for (size_t i = 0; i < r->n_exemplars; i++) {
        if (!failed && (strcmp(r->exemplars[i].series, fake.exemplars[i].series) != 0 ||
                        strcmp(r->exemplars[i].text, fake.exemplars[i].text) != 0)) {
            fprintf(stderr, "%s # %s, wanted %s # %s\n", fake.exemplars[i].series,
                    fake.exemplars[i].text, r->exemplars[i].series, r->exemplars[i].text);
            abort();
        }
        free(r->exemplars[i].series);
        free(r->exemplars[i].text);
    }
    free(r->exemplars);
    fake_forget_exemplars();
}

/* Parses `body` afresh. */
static nx_status model_read(struct model_row *r, const struct ingest_target *t, enum expo_format f,
                            const char *body, size_t len, int64_t t_ms)
{
    struct relabel_work w;
    struct arena *a = arena_new(0);
    struct expo x;
    struct expo_entry e;
    nx_status st = relabel_work_init(&w, NULL);

    memset(r, 0, sizeof *r);
    expo_init(&x, f, body, len);
    while (!st && !(st = expo_next(&x, &e, NULL)) && e.kind != EXPO_END) {
        struct labels ls;
        struct buf b;
        bool limit, stamped = e.has_ts && t->rules->honor_timestamps;
        if (e.kind != EXPO_SERIES)
            continue;
        r->scraped++;
        st = series_labels(e.series, x.type, t->labels, t->rules, &w, a, &ls, &limit, NULL);
        if (st || !ls.n)
            continue;
        r->post++;
        buf_init(&b, 0);
        labels_print(&b, &ls);
        if (!stamped && model_has(r->v, r->n, buf_cstr(&b)))
            r->duplicate++;
        else
            model_add(r, buf_cstr(&b), e.value, stamped ? e.ts_ms : t_ms, stamped);
        if (e.exemplar.len)
            model_add_exemplar(r, buf_cstr(&b), e.exemplar, stamped ? e.ts_ms : t_ms, a);
        buf_done(&b);
    }
    relabel_work_done(&w);
    arena_free(a);
    return st;
}

/* Values that no body can hold, to know the reports by. */
#define MODEL_REPORT_BITS 0x7ff8dead00000000ull

static bool model_is_report(const char *series, const struct ingest_target *t)
{
    static const char *const names[] = {"up", "scrape_duration_seconds", "scrape_samples_scraped",
                                        "scrape_samples_post_metric_relabeling",
                                        "scrape_series_added"};
    struct labels_builder lb;
    bool is = false;

    labels_builder_init(&lb);
    for (size_t i = 0; i < NX_COUNT(names) && !is; i++) {
        struct labels ls;
        struct buf b;
        buf_init(&b, 0);
        labels_builder_reset(&lb, t->labels);
        labels_builder_set(&lb, nx_slice_str(LABEL_NAME), nx_slice_str(names[i]));
        NX_ASSERT_ALWAYS(labels_builder_build(&lb, &ls, NULL) == NX_OK);
        labels_print(&b, &ls);
        is = strcmp(buf_cstr(&b), series) == 0;
        buf_done(&b);
    }
    labels_builder_done(&lb);
    return is;
}

static void model_compare(struct model_row *got, struct model_row *want)
{
    if (got->n)
        qsort(got->v, got->n, sizeof *got->v, model_cmp);
    if (want->n)
        qsort(want->v, want->n, sizeof *want->v, model_cmp);
    if (got->n != want->n)
        fprintf(stderr, "row of %zu, wanted %zu\n", got->n, want->n);
    for (size_t i = 0; i < got->n && i < want->n; i++) {
        if (model_cmp(&got->v[i], &want->v[i]) == 0)
            continue;
        fprintf(stderr, "%s %a, wanted %s %a\n", got->v[i].series, got->v[i].value,
                want->v[i].series, want->v[i].value);
        abort();
    }
    NX_ASSERT_ALWAYS(got->n == want->n);
    model_free(got->v, got->n);
    model_free(want->v, want->n);
}

/* Replaces what the model remembers by the unstamped series among the first n of `v`. */
static void model_remember(struct model *m, const struct model_sample *v, size_t n)
{
    model_free(m->prev, m->n_prev);
    m->prev = NULL;
    m->n_prev = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].stamped)
            continue;
        m->prev = realloc(m->prev, (m->n_prev + 1) * sizeof *m->prev);
        m->prev[m->n_prev++] = (struct model_sample){strdup(v[i].series), 0, 0, false};
    }
}

/* The scrape of `body` at t_ms in `in` appends what the model says. Returns the scrape's status. */
static nx_status model_check(struct model *m, struct ingest *in, struct ingest_env *env,
                             const struct ingest_target *t, struct ingest_scratch *s,
                             enum expo_format f, const char *body, size_t len, int64_t t_ms)
{
    double reports[REPORT_PLAIN_COUNT];
    struct model_row want, got = {0};
    struct ingest_result res = {0};
    struct nx_err err = {0};
    nx_status want_st = model_read(&want, t, f, body, len, t_ms), st;
    size_t n = 0, now;

    for (size_t i = 0; i < REPORT_PLAIN_COUNT; i++)
        reports[i] = num_from_bits(MODEL_REPORT_BITS + i);
    fake.n_log = 0;
    fake.keeps_exemplars = true;
    st = ingest_body(in, env, t, f, body, len, t_ms, s, &res, &err);
    NX_ASSERT_ALWAYS(st == want_st);
    model_compare_exemplars(&want, st != NX_OK);
    fake.keeps_exemplars = false;
    NX_ASSERT_ALWAYS(ingest_commit(in, env, t, t_ms, reports, REPORT_PLAIN_COUNT, s, &res, &err) ==
                     NX_OK);
    for (size_t i = 0; i < fake.n_log; i++)
        if (num_bits(fake.log[i].value) - MODEL_REPORT_BITS >= REPORT_PLAIN_COUNT)
            model_add(&got, fake.log[i].series, fake.log[i].value, fake.log[i].t_ms, false);
    if (st) { /* a failed body: markers only */
        model_free(want.v, want.n);
        want.v = NULL;
        want.n = 0;
    } else {
        NX_ASSERT_ALWAYS(res.scraped == want.scraped && res.post_relabel == want.post &&
                         res.duplicate == want.duplicate);
    }
    for (size_t i = 0; i < want.n; i++) { /* too far in the future: not stored */
        if (want.v[i].stamped && want.v[i].t_ms > t_ms + 600000)
            free(want.v[i].series);
        else
            want.v[n++] = want.v[i];
    }
    want.n = now = n;
    for (size_t i = 0; i < m->n_prev; i++)
        if (!model_has(want.v, now, m->prev[i].series) && !model_is_report(m->prev[i].series, t))
            model_add(&want, m->prev[i].series, num_from_bits(NUM_STALE_BITS), t_ms, false);
    model_remember(m, want.v, now);
    model_compare(&got, &want);
    return st;
}

/* Every column held is one of the layout's or a report's: nothing leaks, nothing is held twice. */
static void model_check_columns(const struct ingest *in)
{
    uint32_t held = 0, groups = 1 + (in->loose != NULL);

    for (uint32_t i = 0; i < in->layout.n; i++) {
        enum line_kind k = line_kind(in->layout.what[i]);
        bool report = false;
        for (int r = 0; r < REPORT_COUNT; r++)
            report |= k == LINE_SERIES && (in->report_known >> r & 1) &&
                      in->report_cols[r] == line_index(in->layout.what[i]);
        held += k == LINE_SERIES && !report;
    }
    held += (uint32_t)__builtin_popcount(in->report_known);
    for (uint32_t i = 0; i < in->n_stamped; i++)
        held += in->stamped[i].used;
    for (uint32_t i = 0; i < in->n_stamped_groups; i++)
        groups += in->stamped_groups[i].group != NULL;
    NX_ASSERT_ALWAYS(fake.columns == held && fake.groups == groups);
}
