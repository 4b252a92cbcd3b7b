#include "src/cli/test_rules.h"

/* test_rules_run.c - one unit test: input series, rules evaluated step by step, alerts and expressions compared.
 *
 * RULES   U1  Rules are evaluated from the start every evaluation_interval up to the latest eval_time. Samples
 *             come into the store as time reaches them.
 *         U2  Alerts expected at a time are compared with the last evaluation at or before it.
 *         U3  A rule that fails ends the test; all that went wrong before is told too.
 *         U4  Expressions are evaluated when all rules have been.
 *         U5  What an expression gives is compared to the bit, unless fuzzy_compare allows the next number up
 *             or down; a NaN equals nothing.
 * NOT     Native histograms: a test that has them fails and says why. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/num.h"
#include "src/base/text.h"
#include "src/cli/moment.h"
#include "src/cli/tsdb.h"

#define MAX_SAMPLES   10000
#define TIMEOUT_MS    100000
#define NS            1000000ll
#define NO_HISTOGRAMS "native histograms are not supported in this version"

struct unit_sample {
    struct labels labels;
    double value;
};

struct run {
    const struct config_tests *file;
    const struct config_test *t;
    const struct unit_opts *opts;
    struct unit_errors *e;
    struct arena *a;       /* of the test */
    struct arena *scratch; /* of a step */
    struct pql_lab *lab;
    struct rule_files *files;
    struct rule_group **groups;
    size_t n_groups;
    int64_t start_ms, interval_ms;
    const struct config_alert_test **alerts; /* by time */
    size_t alert_at;                         /* the first not compared yet */
};

/* ---- errors ---------------------------------------------------------------------------------------- */

void unit_error_text(struct unit_errors *e, const char *text)
{
    const char **v = arena_grow(e->a, e->v, e->n * sizeof(*v), (e->n + 1) * sizeof(*v));
    char *copy = v ? arena_strdup(e->a, text) : NULL;

    if (v)
        e->v = v;
    if (copy)
        v[e->n++] = copy;
    else
        e->nomem = true;
}

NX_PRINTF(2, 3) static void unit_error(struct unit_errors *e, const char *fmt, ...)
{
    char text[NX_ERR_TEXT_BYTES];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    unit_error_text(e, text);
}

/* ---- what rules write ------------------------------------------------------------------------------ */

struct writer {
    struct pql_lab *lab;
    struct arena *a;
    struct labels *v;
    uint32_t n, cap;
};

static nx_status sink_open(void *ctx, void **out, struct nx_err *err)
{
    struct writer *w = calloc(1, sizeof *w);

    if (!w || !(w->a = arena_new(0))) {
        free(w);
        return nx_fail(err, NX_NOMEM, "out of memory");
    }
    w->lab = ctx;
    *out = w;
    return NX_OK;
}

static nx_status sink_column(void *writer, const struct labels *ls, uint32_t *col,
                             struct nx_err *err)
{
    struct writer *w = writer;

    if (w->n == w->cap) {
        uint32_t cap = w->cap ? 2 * w->cap : 16;
        struct labels *v = arena_grow(w->a, w->v, w->cap * sizeof *v, cap * sizeof *v);
        if (!v)
            return arena_failed(w->a, err);
        w->v = v;
        w->cap = cap;
    }
    if (labels_copy(w->a, ls, &w->v[w->n], err))
        return NX_NOMEM;
    *col = w->n++;
    return NX_OK;
}

static nx_status sink_append(void *writer, int64_t t_ms, const uint32_t *cols, const double *values,
                             size_t n, struct storage_appended *refused, struct nx_err *err)
{
    struct writer *w = writer;
    struct storage_appended res = {0};
    nx_status st = NX_OK;

    for (size_t i = 0; i < n && !st; i++) {
        enum pql_lab_taken taken;
        st = pql_lab_add(w->lab, &w->v[cols[i]], t_ms, values[i], &taken, err);
        res.appended += taken == PQL_LAB_ADDED;
        res.duplicate += taken == PQL_LAB_DUPLICATE;
        res.out_of_order += taken == PQL_LAB_LATE;
    }
    if (refused)
        *refused = res;
    return st;
}

static void sink_release(void *writer, uint32_t col)
{
    (void)writer; /* the labels go with the writer */
    (void)col;
}

static void sink_close(void *writer)
{
    struct writer *w = writer;

    if (w)
        arena_free(w->a);
    free(w);
}

/* ---- setting up ------------------------------------------------------------------------------------ */

static nx_status load_series(struct run *r, struct nx_err *err)
{
    int64_t interval = r->t->interval_ms ? r->t->interval_ms : r->interval_ms;
    nx_status st = NX_OK;

    for (size_t i = 0; i < r->t->input.n && !st; i++)
        st = pql_lab_series(r->lab, r->t->input.v[i].series, r->t->input.v[i].values, r->start_ms,
                            interval, err);
    return st;
}

static void tell(void *ctx, const char *text)
{
    unit_error_text(ctx, text);
}

/* Where a group stands in group_eval_order; those that do not are first, as with promtool. */
static size_t place_of(const struct run *r, const struct rule_group_def *def)
{
    for (size_t i = 0; i < r->file->group_order.n; i++)
        if (nx_slice_eq(r->file->group_order.v[i], def->name))
            return i;
    return 0;
}

static nx_status make_groups(struct run *r, struct nx_err *err)
{
    struct rule_env env = {.engine = pql_lab_engine(r->lab),
                           .source = pql_lab_source(r->lab),
                           .sink = {.ctx = r->lab,
                                    .open = sink_open,
                                    .column = sink_column,
                                    .append = sink_append,
                                    .release = sink_release,
                                    .close = sink_close},
                           .interval_ms = r->t->interval_ms ? r->t->interval_ms : r->interval_ms,
                           .external_labels = r->t->external_labels,
                           .external_url = r->t->external_url.ptr,
                           .restored = true,
                           .quiet = true};
    nx_status st = NX_OK;

    r->groups = arena_array(r->a, r->files->n_groups + 1, sizeof(*r->groups));
    if (!r->groups)
        return arena_failed(r->a, err);
    for (size_t place = 0; place <= r->file->group_order.n && !st; place++)
        for (size_t i = 0; i < r->files->n_groups && !st; i++)
            if (place_of(r, &r->files->groups[i]) == place) {
                st = rule_group_new(&r->groups[r->n_groups], r->files, &r->files->groups[i], &env,
                                    err);
                r->n_groups += st == NX_OK;
            }
    return st;
}

static int by_time(const void *x, const void *y)
{
    const struct config_alert_test *a = *(const struct config_alert_test *const *)x,
                                   *b = *(const struct config_alert_test *const *)y;

    if (a->eval_ms != b->eval_ms)
        return a->eval_ms < b->eval_ms ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* Fails with what ends the test before it begins. */
static nx_status sort_alerts(struct run *r, struct nx_err *err)
{
    size_t n = r->t->alerts.n;
    struct buf b;

    r->alerts = arena_array(r->a, n, sizeof(*r->alerts));
    if (!r->alerts)
        return arena_failed(r->a, err);
    for (size_t i = 0; i < n; i++) {
        r->alerts[i] = &r->t->alerts.v[i];
        if (r->alerts[i]->alertname.len)
            continue;
        buf_init(&b, 0);
        buf_duration(&b, r->alerts[i]->eval_ms);
        nx_fail(err, NX_BADINPUT,
                "an item under alert_rule_test misses required attribute alertname at eval_time "
                "%s%s%s%s",
                buf_cstr(&b), r->t->name.len ? " (in TestGroup " : "", r->t->name.ptr,
                r->t->name.len ? ")" : "");
        buf_done(&b);
        return NX_BADINPUT;
    }
    if (n)
        qsort(r->alerts, n, sizeof(*r->alerts), by_time);
    return NX_OK;
}

static nx_status set_up(struct run *r, const struct config_strings *rule_files, struct nx_err *err)
{
    const struct pql_engine_opts engine = {
        .timeout_ms = TIMEOUT_MS, .max_samples = MAX_SAMPLES, .features = r->opts->features};
    const struct rule_load_opts load = {.features = r->opts->features,
                                        .ignore_unknown_fields = r->opts->ignore_unknown_fields,
                                        .error = tell,
                                        .ctx = r->e};
    size_t told = r->e->n;
    int64_t start_ns = 0;
    nx_status st = r->a && r->scratch ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");

    if (!st && r->t->start_timestamp.len)
        st = moment_parse(r->t->start_timestamp.ptr, &start_ns, err);
    r->start_ms = start_ns / NS;
    if (!st)
        st = pql_lab_new(&r->lab, &engine, err);
    if (!st) {
        pql_engine_set_default_step(pql_lab_engine(r->lab), r->interval_ms);
        st = load_series(r, err);
    }
    if (!st && rule_files_load(&r->files, rule_files->v, rule_files->n, &load, err))
        return r->e->n > told ? NX_CANCELED : NX_BADINPUT; /* told already, or not */
    if (!st)
        st = make_groups(r, err);
    return st ? st : sort_alerts(r, err);
}

/* ---- alerts ---------------------------------------------------------------------------------------- */

static void put_alert(struct buf *b, size_t i, const struct unit_alert *a)
{
    buf_printf(b, "%s\n            %zu:\n              Labels:", i ? "," : "", i);
    labels_print_set(b, &a->labels);
    buf_str(b, "\n              Annotations:");
    labels_print_set(b, &a->annotations);
}

static void put_alerts(struct buf *b, const struct unit_alert *v, size_t n)
{
    buf_char(b, '[');
    for (size_t i = 0; i < n; i++)
        put_alert(b, i, &v[i]);
    buf_str(b, n ? "\n            ]" : "]");
}

static int by_labels(const void *x, const void *y)
{
    const struct unit_alert *a = x, *b = y;
    int c = labels_cmp(&a->labels, &b->labels);

    return c ? c : labels_cmp(&a->annotations, &b->annotations);
}

/* Pairs are sorted; with the alert's name among them. */
static struct labels labels_of(struct run *r, const struct config_pairs *pairs,
                               const struct nx_slice *alertname)
{
    struct label *v = arena_array(r->a, pairs->n + 1, sizeof *v);
    struct labels out = {v, 0};
    bool there = !alertname;

    for (size_t i = 0; v && i < pairs->n; i++) {
        int c = there ? 1 : nx_slice_cmp(nx_slice_str("alertname"), pairs->v[i].name);
        if (c <= 0) {
            v[out.n++] = (struct label){nx_slice_str("alertname"), *alertname};
            there = true;
        }
        if (c != 0)
            v[out.n++] = (struct label){pairs->v[i].name, pairs->v[i].value};
    }
    if (v && !there)
        v[out.n++] = (struct label){nx_slice_str("alertname"), *alertname};
    return out;
}

static struct unit_alert *expected_alerts(struct run *r, const struct config_alert_test *t)
{
    struct unit_alert *v = arena_array(r->a, t->alerts.n + 1, sizeof *v);

    for (size_t i = 0; v && i < t->alerts.n; i++) {
        v[i].labels = labels_of(r, &t->alerts.v[i].labels, &t->alertname);
        v[i].annotations = labels_of(r, &t->alerts.v[i].annotations, NULL);
    }
    if (v && t->alerts.n)
        qsort(v, t->alerts.n, sizeof *v, by_labels);
    return v;
}

/* The firing ones of all rules of that name. */
static struct unit_alert *found_alerts(struct run *r, const struct rule_group_view *groups,
                                       struct nx_slice name, size_t *n)
{
    struct unit_alert *v = NULL;

    *n = 0;
    for (size_t g = 0; g < r->n_groups; g++) {
        for (size_t i = 0; i < groups[g].n_rules; i++) {
            const struct rule_view *rule = &groups[g].rules[i];
            if (!rule->rule->alerting || !nx_slice_eq(rule->rule->name, name))
                continue;
            for (size_t k = 0; k < rule->n_alerts; k++) {
                if (rule->alerts[k].state != ALERT_FIRING)
                    continue;
                v = arena_grow(r->scratch, v, *n * sizeof *v, (*n + 1) * sizeof *v);
                if (!v)
                    return NULL;
                v[(*n)++] =
                    (struct unit_alert){rule->alerts[k].labels, rule->alerts[k].annotations};
            }
        }
    }
    if (v)
        qsort(v, *n, sizeof *v, by_labels);
    return v ? v : arena_alloc(r->scratch, 1);
}

/* Behind a newline come twelve blanks. */
static void put_indented(struct buf *b, struct nx_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        buf_char(b, s.ptr[i]);
        if (s.ptr[i] == '\n')
            buf_str(b, "            ");
    }
}

static void tell_alerts(struct run *r, const struct config_alert_test *t,
                        const struct unit_alert *want, const struct unit_alert *got, size_t n_got)
{
    struct buf b, d;

    buf_init(&b, 0);
    buf_init(&d, 0);
    if (r->t->name.len)
        buf_printf(&b, "    name: %s,\n", r->t->name.ptr);
    buf_printf(&b, "    alertname: %s, time: ", t->alertname.ptr);
    buf_duration(&b, t->eval_ms);
    if (r->opts->diff) {
        buf_str(&b, ", \n        diff: ");
        unit_diff(&d, want, t->alerts.n, got, n_got);
        put_indented(&b, buf_view(&d));
    } else {
        buf_str(&b, ", \n        exp:");
        put_alerts(&b, want, t->alerts.n);
        buf_str(&b, ", \n        got:");
        put_alerts(&b, got, n_got);
    }
    unit_error_text(r->e, buf_cstr(&b));
    buf_done(&b);
    buf_done(&d);
}

static nx_status compare_alerts(struct run *r, const struct rule_group_view *groups,
                                const struct config_alert_test *t)
{
    struct unit_alert *want = expected_alerts(r, t), *got;
    size_t n = 0;
    bool same;

    got = found_alerts(r, groups, t->alertname, &n);
    if (!want || !got)
        return NX_NOMEM;
    same = n == t->alerts.n;
    for (size_t i = 0; i < n && same; i++)
        same = by_labels(&want[i], &got[i]) == 0;
    if (!same)
        tell_alerts(r, t, want, got, n);
    return NX_OK;
}

/* ---- steps ----------------------------------------------------------------------------------------- */

/* Tells which rules of the last evaluation failed (U3). */
static bool any_failed(struct run *r, const struct rule_group_view *groups, int64_t t_ms)
{
    bool any = false;
    char at[40];

    tsdb_go_duration(at, sizeof at, t_ms * NS);
    for (size_t g = 0; g < r->n_groups; g++)
        for (size_t i = 0; i < groups[g].n_rules; i++)
            if (groups[g].rules[i].last_error.len) {
                unit_error(r->e, "    rule: %s, time: %s, err: %s",
                           groups[g].rules[i].rule->name.ptr, at,
                           groups[g].rules[i].last_error.ptr);
                any = true;
            }
    return any;
}

/* All groups at one moment; NX_CANCELED: the test is over (U3). */
static nx_status step(struct run *r, int64_t t_ms, struct nx_err *err)
{
    struct rule_group_view *views;
    nx_status st = pql_lab_advance(r->lab, t_ms, err);

    arena_reset(r->scratch);
    views = arena_array(r->scratch, r->n_groups + 1, sizeof *views);
    if (!st && !views)
        st = arena_failed(r->scratch, err);
    for (size_t g = 0; g < r->n_groups && !st; g++) {
        rule_group_eval(r->groups[g], t_ms * NS);
        st = rule_group_view(r->groups[g], r->scratch, &views[g], err);
    }
    if (!st && pql_lab_met_histograms(r->lab))
        st = nx_fail(err, NX_BADINPUT, "%s", NO_HISTOGRAMS);
    if (!st && any_failed(r, views, t_ms))
        return NX_CANCELED;
    while (!st && r->alert_at < r->t->alerts.n &&
           r->alerts[r->alert_at]->eval_ms < t_ms - r->start_ms + r->interval_ms) /* U2 */
        st = compare_alerts(r, views, r->alerts[r->alert_at++]);
    return st;
}

static int64_t last_time(const struct config_test *t)
{
    int64_t last = 0;

    for (size_t i = 0; i < t->alerts.n; i++)
        last = t->alerts.v[i].eval_ms > last ? t->alerts.v[i].eval_ms : last;
    for (size_t i = 0; i < t->exprs.n; i++)
        last = t->exprs.v[i].eval_ms > last ? t->exprs.v[i].eval_ms : last;
    return last;
}

/* ---- expressions ----------------------------------------------------------------------------------- */

/* 1.5E+01, as promtool shows it. */
static void put_exponent(struct buf *b, double v)
{
    char text[NUM_TEXT_BYTES];
    size_t n = num_format_e(text, v);
    char *e = memchr(text, 'e', n);

    if (e)
        *e = 'E';
    buf_append(b, text, n);
}

static void put_samples(struct buf *b, const struct unit_sample *v, size_t n)
{
    buf_str(b, n ? "" : "nil");
    for (size_t i = 0; i < n; i++) {
        buf_str(b, i ? ", " : "");
        labels_print_set(b, &v[i].labels);
        buf_char(b, ' ');
        put_exponent(b, v[i].value);
    }
}

static int by_sample_labels(const void *x, const void *y)
{
    return labels_cmp(&((const struct unit_sample *)x)->labels,
                      &((const struct unit_sample *)y)->labels);
}

static bool same_value(const struct run *r, double a, double b) /* U5 */
{
    return a == b || (r->file->fuzzy_compare &&
                      (nextafter(a, -INFINITY) == b || nextafter(a, INFINITY) == b));
}

static nx_status ask(struct run *r, const struct config_expr_test *t, struct unit_sample **out,
                     size_t *n, struct nx_err *err)
{
    const struct pql_query q = {.text = t->expr,
                                .instant = true,
                                .start_ms = r->start_ms + t->eval_ms,
                                .source = pql_lab_source(r->lab)};
    struct pql_result *res = NULL;
    nx_status st = pql_exec(pql_lab_engine(r->lab), &q, &res, err);

    if (!st && pql_lab_met_histograms(r->lab))
        st = nx_fail(err, NX_BADINPUT, "%s", NO_HISTOGRAMS);
    if (!st && res->type != PQL_VECTOR && res->type != PQL_SCALAR)
        st = nx_fail(err, NX_BADINPUT, "rule result is not a vector or scalar");
    if (!st) {
        *n = res->type == PQL_SCALAR ? 1 : res->n_series;
        *out = arena_array(r->scratch, *n + 1, sizeof **out);
        st = *out ? NX_OK : arena_failed(r->scratch, err);
    }
    if (!st && res->type == PQL_SCALAR)
        (*out)->value = res->scalar;
    for (size_t i = 0; !st && res->type == PQL_VECTOR && i < *n; i++) {
        (*out)[i].value = res->series[i].v[0];
        st = labels_copy(r->scratch, &res->series[i].labels, &(*out)[i].labels, err);
    }
    if (!st)
        qsort(*out, *n, sizeof **out, by_sample_labels);
    pql_result_free(res);
    return st;
}

static nx_status expected(struct run *r, const struct config_expr_test *t, struct unit_sample *v,
                          struct nx_err *err)
{
    nx_status st = NX_OK;
    struct buf b;

    for (size_t i = 0; i < t->samples.n && !st; i++) {
        const struct config_test_sample *s = &t->samples.v[i];
        v[i].value = s->value;
        st = pql_parse_metric(r->scratch, s->labels, &v[i].labels, err);
        if (!st && s->histogram.len)
            st = nx_fail(err, NX_BADINPUT, "%s", NO_HISTOGRAMS);
        if (st) {
            buf_init(&b, 0);
            text_quote(&b, s->labels);
            st = nx_context(err, "labels %s", buf_cstr(&b));
            buf_done(&b);
        }
    }
    if (!st && t->samples.n)
        qsort(v, t->samples.n, sizeof *v, by_sample_labels);
    return st;
}

static void test_expr(struct run *r, const struct config_expr_test *t)
{
    struct unit_sample *got = NULL, *want;
    struct nx_err err = {0};
    struct buf b;
    size_t n = 0;
    bool same;
    nx_status st;

    arena_reset(r->scratch);
    want = arena_array(r->scratch, t->samples.n + 1, sizeof *want);
    st = want ? ask(r, t, &got, &n, &err) : arena_failed(r->scratch, &err);
    if (!st)
        st = expected(r, t, want, &err);
    same = !st && n == t->samples.n;
    for (size_t i = 0; i < n && same; i++)
        same = labels_eq(&got[i].labels, &want[i].labels) &&
               same_value(r, want[i].value, got[i].value);
    if (same)
        return;
    buf_init(&b, 0);
    buf_str(&b, "    expr: ");
    text_quote(&b, t->expr);
    buf_str(&b, ", time: ");
    buf_duration(&b, t->eval_ms);
    if (st) {
        buf_printf(&b, ", err: %s", err.text);
    } else {
        buf_str(&b, ",\n        exp: ");
        put_samples(&b, want, t->samples.n);
        buf_str(&b, "\n        got: ");
        put_samples(&b, got, n);
    }
    unit_error_text(r->e, buf_cstr(&b));
    buf_done(&b);
}

/* ---- --debug --------------------------------------------------------------------------------------- */

static void dump(struct run *r)
{
    int64_t last = last_time(r->t) / 1000 * 1000 + 1000;
    char *text = arena_printf(r->a, "{__name__=~\".+\"}[%llds]", (long long)(last / 1000));
    const struct pql_query q = {.text = nx_slice_str(text),
                                .instant = true,
                                .start_ms = r->start_ms + last,
                                .source = pql_lab_source(r->lab)};
    struct pql_result *res = NULL;
    struct nx_err err = {0};
    char at[40];
    struct buf b;

    buf_init(&b, 0);
    tsdb_go_duration(at, sizeof at, last * NS);
    if (pql_exec(pql_lab_engine(r->lab), &q, &res, &err)) {
        fprintf(stderr, "DEBUG: Failed query exec, expr: %s, err: %s\n", text, err.text);
    } else {
        fprintf(stderr, "DEBUG: Dump of all data (input_series and rules) at %s:\n", at);
        for (size_t i = 0; i < res->n_series; i++) {
            labels_print_set(&b, &res->series[i].labels);
            buf_str(&b, " =>\n");
            for (size_t k = 0; k < res->series[i].n; k++) {
                buf_num_plain(&b, res->series[i].v[k]);
                buf_printf(&b, " @[%lld]\n", (long long)res->series[i].t[k]);
            }
        }
        fprintf(stderr, "%s", res->n_series ? buf_cstr(&b) : "\n");
    }
    pql_result_free(res);
    buf_done(&b);
}

/* ---- one test -------------------------------------------------------------------------------------- */

static nx_status run(struct run *r, const struct config_strings *rule_files, struct nx_err *err)
{
    nx_status st = set_up(r, rule_files, err);
    int64_t last = st ? 0 : last_time(r->t);

    for (int64_t t = 0; !st && t <= last; t += r->interval_ms) /* U1 */
        st = step(r, r->start_ms + t, err);
    if (st)
        return st;
    for (size_t i = 0; i < r->t->exprs.n; i++) /* U4 */
        test_expr(r, &r->t->exprs.v[i]);
    if (r->opts->debug)
        dump(r);
    return NX_OK;
}

void unit_test_run(const struct config_tests *file, const struct config_test *t, const char *name,
                   const struct config_strings *rule_files, const struct unit_opts *opts,
                   struct unit_errors *e)
{
    struct run r = {.file = file,
                    .t = t,
                    .opts = opts,
                    .e = e,
                    .a = arena_new(0),
                    .scratch = arena_new(0),
                    .interval_ms = file->interval_ms ? file->interval_ms : 60000};
    int64_t begun = clock_mono_ns();
    struct nx_err err = {0};
    nx_status st;

    if (opts->debug)
        fprintf(stderr, "DEBUG: Starting test %s\n", name);
    st = run(&r, rule_files, &err);
    if (st && st != NX_CANCELED) /* what was told already */
        unit_error_text(e, err.text[0] ? err.text : nx_status_text(st));
    for (size_t i = 0; i < r.n_groups; i++)
        rule_group_free(r.groups[i]);
    rule_files_unref(r.files);
    pql_lab_free(r.lab);
    arena_free(r.a);
    arena_free(r.scratch);
    if (opts->debug)
        fprintf(stderr, "DEBUG: Test %s finished, took %.6fms\n", name,
                (double)(clock_mono_ns() - begun) / 1e6);
}
