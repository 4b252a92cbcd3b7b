#include "src/rules/group.h"

/* evaluate.c - one evaluation of one rule: the query, what is made of its result, the state of its alerts.
 *
 * RULES   E1  A rule that fails writes nothing, and what it wrote before is not ended.
 *         E2  A sample at the place it had in the last result, with the labels it had, is the series it was:
 *             no labels are built for it.
 *         E3  Alerts are changed only when the whole result was found good.
 * STATES  PENDING -> FIRING (as long as `for` says) -> INACTIVE (resolved; told for 15 more minutes)
 *         PENDING -> gone; FIRING -> PENDING when a reload made `for` longer. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/base/num.h"

#define MS                 1000000ll
#define RESOLVED_KEPT_NS   (15 * 60 * 1000 * MS)
#define EXPANDED_MAX_BYTES (4u << 20)

static const char no_vector[] = "rule result is not a vector or scalar";

void out_free(struct out *o)
{
    if (!o)
        return;
    free(o->block);
    free(o);
}

void alert_free(struct alert *a)
{
    if (!a)
        return;
    free(a->block);
    free(a->annotations_block);
    free(a);
}

static nx_status add_pending(struct rule_state *r, struct out *o, double value)
{
    if (r->n_pending == r->cap_pending) {
        size_t cap = r->cap_pending ? r->cap_pending * 2 : 16;
        struct pending *v = realloc(r->pending, cap * sizeof *v);
        if (!v)
            return nx_fail(&r->err, NX_NOMEM, "out of memory");
        r->pending = v;
        r->cap_pending = cap;
    }
    r->pending[r->n_pending++] = (struct pending){o, value};
    return NX_OK;
}

/* The series of these labels, made if it is new; `source` may be NULL. */
static nx_status find_out(struct rule_state *r, const struct labels *source,
                          const struct labels *ls, struct out **out)
{
    uint64_t hash = labels_hash(ls);
    struct out *o = (struct out *)table_find(&r->outs, ls, hash);
    struct labels nothing = {0};
    nx_status st;

    if (o) {
        *out = o;
        return NX_OK;
    }
    o = calloc(1, sizeof *o);
    if (!o ||
        !(o->block = labels_own(ls, &o->key.labels, source ? source : &nothing, &o->source))) {
        out_free(o);
        return nx_fail(&r->err, NX_NOMEM, "out of memory");
    }
    o->key.hash = hash;
    st = table_add(&r->outs, &o->key, &r->err);
    if (st)
        out_free(o);
    else
        *out = o;
    return st;
}

/* ---- the query ------------------------------------------------------------------------------------- */

struct samples {
    struct pql_result *result;
    const struct pql_series *v;
    size_t n;
    struct pql_series scalar; /* a scalar is a sample without labels */
    double value;
};

/* `expr` NULL: the text is to be parsed. */
static nx_status ask(const struct rule_group *g, struct nx_slice text, const struct pql_expr *expr,
                     int64_t t_ms, struct samples *out, struct nx_err *err)
{
    const struct pql_origin origin = {.rule_file = g->def->file.ptr,
                                      .rule_group = g->def->name.ptr};
    const struct pql_query q = {.text = text,
                                .expr = expr,
                                .instant = true,
                                .start_ms = t_ms,
                                .end_ms = t_ms,
                                .source = g->env.source,
                                .cancel = g->env.cancel,
                                .origin = &origin,
                                .alone = true};
    nx_status st = pql_exec(g->env.engine, &q, &out->result, err);

    if (st)
        return st;
    if (out->result->type == PQL_VECTOR) {
        out->v = out->result->series;
        out->n = out->result->n_series;
    } else if (out->result->type == PQL_SCALAR) {
        out->value = out->result->scalar;
        out->scalar = (struct pql_series){.v = &out->value, .n = 1};
        out->v = &out->scalar;
        out->n = 1;
    } else {
        pql_result_free(out->result);
        out->result = NULL;
        return nx_fail(err, NX_EXEC, "%s", no_vector);
    }
    return NX_OK;
}

/* ---- recording rules ---------------------------------------------------------------------------------- */

static nx_status over_limit(const struct rule_group *g, size_t n, const char *what,
                            struct nx_err *err)
{
    if (g->def->limit > 0 && n > (size_t)g->def->limit)
        return nx_fail(err, NX_EXEC, "exceeded limit of %lld with %zu %s", (long long)g->def->limit,
                       n, what);
    return NX_OK;
}

static nx_status record_labels(const struct rule *rule, const struct labels *sample,
                               struct labels_builder *lb, struct labels *out, struct nx_err *err)
{
    labels_builder_reset(lb, sample);
    labels_builder_set(lb, nx_slice_str(LABEL_NAME), rule->name);
    for (uint32_t i = 0; i < rule->labels.n; i++)
        labels_builder_set(lb, rule->labels.v[i].name, rule->labels.v[i].value);
    return labels_builder_build(lb, out, err);
}

static nx_status record_one(struct rule_state *r, const struct pql_series *s, size_t position,
                            struct labels_builder *lb)
{
    struct out *o = NULL;
    struct labels ls;
    nx_status st = NX_OK;

    if (position < r->outs.n) /* E2 */
        o = (struct out *)r->outs.v[position];
    if (!o || !o->source.v || !labels_eq(&o->source, &s->labels)) {
        o = NULL;
        st = record_labels(r->rule, &s->labels, lb, &ls, &r->err);
        if (!st)
            st = find_out(r, &s->labels, &ls, &o);
    }
    if (!st && o->seen == r->round)
        st = nx_fail(&r->err, NX_EXEC,
                     "vector contains metrics with the same labelset after applying rule labels");
    if (st)
        return st;
    o->seen = r->round;
    return add_pending(r, o, s->v[0]);
}

static nx_status record(struct rule_group *g, struct rule_state *r, const struct samples *s)
{
    struct labels_builder lb;
    nx_status st = over_limit(g, s->n, "series", &r->err); /* before anything is made of them */

    labels_builder_init(&lb);
    for (size_t i = 0; i < s->n && !st; i++)
        st = record_one(r, &s->v[i], i, &lb);
    labels_builder_done(&lb);
    return st;
}

/* ---- templates ------------------------------------------------------------------------------------------ */

struct expansion {
    struct rule_group *g;
    struct rule_state *r;
    int64_t t_ns;
};

static nx_status template_query(void *ctx, struct nx_slice expr, struct arena *a,
                                struct template_sample **out, size_t *n, struct nx_err *err)
{
    const struct expansion *x = ctx;
    struct samples s = {0};
    struct template_sample *v;
    nx_status st = ask(x->g, expr, NULL, rule_time_ms(x->t_ns), &s, err);

    if (st)
        return st;
    v = arena_array(a, s.n + 1, sizeof *v);
    if (!v)
        st = arena_failed(a, err);
    for (size_t i = 0; i < s.n && !st; i++) {
        v[i].value = s.v[i].v[0];
        st = labels_copy(a, &s.v[i].labels, &v[i].labels, err);
    }
    if (!st) {
        *out = v;
        *n = s.n;
    }
    pql_result_free(s.result);
    return st;
}

/* The text that a label or annotation gets, in the rule's arena. NX_NOMEM only. */
static nx_status expand(struct expansion *x, const struct template *t, struct nx_slice text,
                        const struct pql_series *s, struct nx_slice *out)
{
    struct rule_group *g = x->g;
    const struct template_data data = {.labels = &s->labels,
                                       .external_labels = &g->env.external_labels,
                                       .external_url = nx_slice_str(g->env.external_url),
                                       .value = s->v[0],
                                       .now_ms = rule_time_ms(x->t_ns),
                                       .query = template_query,
                                       .query_ctx = x};
    struct arena_mark mark = arena_mark(x->r->arena);
    struct nx_err err = {0};
    struct buf b;
    nx_status st;

    *out = text;
    if (!t)
        return NX_OK;
    buf_init(&b, EXPANDED_MAX_BYTES);
    st = template_execute(t, &data, x->r->arena, &b, &err);
    arena_release(x->r->arena, mark); /* only its text is kept: there may be many */
    __atomic_add_fetch(&g->counters.expansions, 1, __ATOMIC_RELAXED);
    if (st) {
        __atomic_add_fetch(&g->counters.expansion_failures, 1, __ATOMIC_RELAXED);
        buf_clear(&b);
        buf_printf(&b, "<error expanding template: %s>", err.text);
        if (!g->env.quiet)
            log_warn("Expanding alert template failed", "component", "rule manager", "alert",
                     x->r->rule->name.ptr, "err", err.text);
    }
    *out = arena_slice(x->r->arena, buf_view(&b));
    st = buf_status(&b, &x->r->err);
    buf_done(&b);
    if (!st && !out->ptr)
        st = arena_failed(x->r->arena, &x->r->err);
    return st;
}

/* ---- alerts --------------------------------------------------------------------------------------------- */

/* One of the result, before the state is touched (E3). */
struct found {
    struct keyed key;
    struct labels annotations;
    double value;
};

static nx_status expand_annotations(struct expansion *x, const struct pql_series *s,
                                    struct labels *out)
{
    const struct labels *from = &x->r->rule->annotations;
    struct label *v = arena_array(x->r->arena, from->n + 1u, sizeof *v);
    nx_status st = v ? NX_OK : arena_failed(x->r->arena, &x->r->err);

    for (uint32_t i = 0; i < from->n && !st; i++) {
        v[i].name = from->v[i].name;
        st = expand(x, x->r->annotations[i], from->v[i].value, s, &v[i].value);
    }
    *out = (struct labels){v, from->n};
    return st;
}

static nx_status alert_labels(struct expansion *x, const struct pql_series *s,
                              struct labels_builder *lb, struct labels *out)
{
    const struct rule *rule = x->r->rule;
    struct labels ls;
    nx_status st = NX_OK;

    labels_builder_reset(lb, &s->labels);
    labels_builder_del(lb, nx_slice_str(LABEL_NAME));
    for (uint32_t i = 0; i < rule->labels.n && !st; i++) {
        struct nx_slice value;
        st = expand(x, x->r->labels[i], rule->labels.v[i].value, s, &value);
        if (!st)
            labels_builder_set(lb, rule->labels.v[i].name, value);
    }
    if (st)
        return st;
    labels_builder_set(lb, nx_slice_str("alertname"), rule->name);
    st = labels_builder_build(lb, &ls, &x->r->err);
    return st ? st : labels_copy(x->r->arena, &ls, out, &x->r->err);
}

/* The whole result as alerts, by label set. */
static nx_status find_alerts(struct expansion *x, const struct samples *s, struct table *found)
{
    struct rule_state *r = x->r;
    struct labels_builder lb;
    nx_status st = NX_OK;

    labels_builder_init(&lb);
    for (size_t i = 0; i < s->n && !st; i++) {
        struct found *f = arena_zalloc(r->arena, sizeof *f);
        if (!f) {
            st = arena_failed(r->arena, &r->err);
            break;
        }
        st = alert_labels(x, &s->v[i], &lb, &f->key.labels);
        if (!st)
            st = expand_annotations(x, &s->v[i], &f->annotations);
        if (st)
            break;
        f->value = s->v[i].v[0];
        f->key.hash = labels_hash(&f->key.labels);
        if (table_find(found, &f->key.labels, f->key.hash))
            st = nx_fail(
                &r->err, NX_EXEC,
                "vector contains metrics with the same labelset after applying alert labels");
        else
            st = table_add(found, &f->key, &r->err);
    }
    labels_builder_done(&lb);
    return st;
}

/* A new one, or an old one that starts again. */
static nx_status begin_alert(struct rule_state *r, struct alert *a, const struct found *f,
                             int64_t t_ns)
{
    struct labels annotations = {0};
    void *block = labels_own(&f->annotations, &annotations, NULL, NULL);
    bool fresh = !a;
    nx_status st = NX_OK;

    if (!block)
        return nx_fail(&r->err, NX_NOMEM, "out of memory");
    if (fresh) {
        a = calloc(1, sizeof *a);
        if (!a || !(a->block = labels_own(&f->key.labels, &a->key.labels, NULL, NULL))) {
            free(block);
            alert_free(a);
            return nx_fail(&r->err, NX_NOMEM, "out of memory");
        }
        a->key.hash = f->key.hash;
    }
    if (fresh || a->state == ALERT_INACTIVE) {
        a->state = ALERT_PENDING;
        a->active_ns = t_ns;
        a->fired_ns = a->resolved_ns = a->sent_ns = a->valid_ns = a->keep_firing_ns = 0;
    }
    free(a->annotations_block);
    a->annotations_block = block;
    a->annotations = annotations;
    a->value = f->value;
    a->seen = r->round;
    if (fresh && (st = table_add(&r->alerts, &a->key, &r->err)))
        alert_free(a);
    return st;
}

struct sweep {
    struct rule_state *r;
    int64_t t_ns;
};

/* Of those whose condition does not hold any more: true where nothing is to be remembered. */
static bool alert_gone(void *ctx, struct keyed *k)
{
    const struct sweep *s = ctx;
    struct alert *a = (struct alert *)k;
    int64_t keep_ns = s->r->rule->keep_firing_for_ms * MS;

    if (a->seen == s->r->round)
        return false;
    if (a->state == ALERT_PENDING ||
        (a->resolved_ns && s->t_ns - a->resolved_ns > RESOLVED_KEPT_NS)) {
        alert_free(a);
        return true;
    }
    if (a->state == ALERT_FIRING && keep_ns > 0) {
        if (!a->keep_firing_ns)
            a->keep_firing_ns = s->t_ns;
        if (s->t_ns - a->keep_firing_ns < keep_ns)
            return false;
    }
    if (a->state != ALERT_INACTIVE) {
        a->state = ALERT_INACTIVE;
        a->resolved_ns = s->t_ns;
    }
    return false;
}

static void advance(const struct rule_state *r, struct alert *a, int64_t t_ns)
{
    int64_t hold_ns = r->rule->for_ms * MS;

    if (a->seen == r->round)
        a->keep_firing_ns = 0;
    if (a->state == ALERT_PENDING && t_ns - a->active_ns >= hold_ns) {
        a->state = ALERT_FIRING;
        a->fired_ns = t_ns;
    }
    if (a->state == ALERT_FIRING && t_ns - a->active_ns < hold_ns) {
        a->state = ALERT_PENDING;
        a->fired_ns = a->sent_ns = a->keep_firing_ns = 0;
    }
}

/* ALERTS or, without a state, ALERTS_FOR_STATE. */
static nx_status write_alert(struct rule_state *r, const struct alert *a, const char *metric,
                             const char *state, double value, struct labels_builder *lb)
{
    struct labels ls;
    struct out *o;
    nx_status st;

    labels_builder_reset(lb, NULL);
    for (uint32_t i = 0; i < r->rule->labels.n; i++)
        labels_builder_set(lb, r->rule->labels.v[i].name, r->rule->labels.v[i].value);
    for (uint32_t i = 0; i < a->key.labels.n; i++)
        labels_builder_set(lb, a->key.labels.v[i].name, a->key.labels.v[i].value);
    labels_builder_set(lb, nx_slice_str(LABEL_NAME), nx_slice_str(metric));
    labels_builder_set(lb, nx_slice_str("alertname"), r->rule->name);
    if (state)
        labels_builder_set(lb, nx_slice_str("alertstate"), nx_slice_str(state));
    st = labels_builder_build(lb, &ls, &r->err);
    if (!st)
        st = find_out(r, NULL, &ls, &o);
    if (st)
        return st;
    if (o->seen ==
        r->round) /* two alerts whose series are one: the later value is refused anyway */
        return NX_OK;
    o->seen = r->round;
    return add_pending(r, o, value);
}

static nx_status write_alerts(struct rule_state *r)
{
    struct labels_builder lb;
    nx_status st = NX_OK;

    labels_builder_init(&lb);
    for (uint32_t i = 0; i < r->alerts.n && !st; i++) {
        const struct alert *a = (const struct alert *)r->alerts.v[i];
        if (a->state < ALERT_PENDING)
            continue;
        st = write_alert(r, a, "ALERTS", alert_state_name(a->state), 1, &lb);
        if (!st)
            st = write_alert(r, a, "ALERTS_FOR_STATE", NULL,
                             (double)(a->active_ns / 1000000000 - (a->active_ns % 1000000000 < 0)),
                             &lb);
    }
    labels_builder_done(&lb);
    return st;
}

static bool any_alert_gone(void *ctx, struct keyed *k)
{
    (void)ctx;
    alert_free((struct alert *)k);
    return true;
}

static nx_status change_alerts(struct rule_group *g, struct rule_state *r,
                               const struct table *found, int64_t t_ns)
{
    struct sweep sweep = {r, t_ns};
    size_t active = 0;
    nx_status st = NX_OK;

    nx_lock(&g->lock);
    for (uint32_t i = 0; i < found->n && !st; i++) {
        const struct found *f = (const struct found *)found->v[i];
        st = begin_alert(r, (struct alert *)table_find(&r->alerts, &f->key.labels, f->key.hash), f,
                         t_ns);
    }
    if (!st) {
        table_sweep(&r->alerts, alert_gone, &sweep);
        for (uint32_t i = 0; i < r->alerts.n; i++) {
            struct alert *a = (struct alert *)r->alerts.v[i];
            if (a->state == ALERT_INACTIVE)
                continue;
            active++;
            advance(r, a, t_ns);
        }
        st = over_limit(g, active, "alerts", &r->err);
        if (st)
            table_sweep(&r->alerts, any_alert_gone, NULL);
    }
    nx_unlock(&g->lock);
    return st;
}

static nx_status alert(struct rule_group *g, struct rule_state *r, const struct samples *s,
                       int64_t t_ns)
{
    struct expansion x = {g, r, t_ns};
    struct table found = {0};
    nx_status st = find_alerts(&x, s, &found);

    if (!st)
        st = change_alerts(g, r, &found, t_ns);
    table_done(&found);
    if (!st && r->restored)
        st = write_alerts(r);
    return st;
}

/* ---- one rule ------------------------------------------------------------------------------------------ */

void rule_run(struct rule_group *g, struct rule_state *r, int64_t t_ns)
{
    struct samples s = {0};
    int64_t from = clock_mono_ns();
    nx_status st;

    r->began_ns = clock_now_ns();
    r->round++;
    r->n_pending = 0;
    r->err = (struct nx_err){0};
    r->refused = false;
    arena_reset(r->arena);
    st = ask(g, r->rule->query, r->expr, rule_time_ms(t_ns - g->query_offset_ms * MS), &s, &r->err);
    if (!st)
        st = r->rule->alerting ? alert(g, r, &s, t_ns) : record(g, r, &s);
    pql_result_free(s.result);
    r->failed = st != NX_OK;
    if (st)
        r->err.code = st;
    r->took_s = (double)(clock_mono_ns() - from) / 1e9;
}

/* ---- telling others ------------------------------------------------------------------------------------- */

static bool needs_sending(const struct alert *a, int64_t t_ns, int64_t delay_ns)
{
    if (a->state == ALERT_PENDING)
        return false;
    return !a->sent_ns || a->resolved_ns > a->sent_ns || a->sent_ns + delay_ns < t_ns;
}

static nx_status add_notice(struct rule_state *r, const struct alert *a, struct rule_notice *n)
{
    nx_status st = labels_copy(r->arena, &a->key.labels, &n->labels, NULL);

    if (!st)
        st = labels_copy(r->arena, &a->annotations, &n->annotations, NULL);
    n->starts_ns = a->fired_ns;
    n->resolved = a->resolved_ns != 0;
    n->ends_ns = a->resolved_ns ? a->resolved_ns : a->valid_ns;
    return st;
}

static const char *generator_url(const struct rule_group *g, struct rule_state *r)
{
    struct buf b;
    const char *url;

    buf_init(&b, 0);
    buf_str(&b, g->env.external_url);
    template_table_link(&b, r->rule->query);
    url = arena_strdup(r->arena, buf_cstr(&b));
    buf_done(&b);
    return url;
}

void rule_send(struct rule_group *g, struct rule_state *r, int64_t t_ns)
{
    int64_t delay_ns = g->env.resend_delay_ms * MS, interval_ns = g->interval_ms * MS;
    int64_t valid_ns = t_ns + 4 * (delay_ns > interval_ns ? delay_ns : interval_ns);
    struct rule_notice *v = NULL;
    const char *url;
    size_t n = 0;

    if (!g->env.notify || !r->alerts.n)
        return;
    v = arena_array(r->arena, r->alerts.n, sizeof *v);
    url = generator_url(g, r);
    nx_lock(&g->lock);
    for (uint32_t i = 0; i < r->alerts.n && v && url; i++) {
        struct alert *a = (struct alert *)r->alerts.v[i];
        int64_t sent = a->sent_ns;
        if (!needs_sending(a, t_ns, delay_ns))
            continue;
        a->sent_ns = t_ns;
        a->valid_ns = valid_ns;
        v[n].generator_url = url;
        if (add_notice(r, a, &v[n]))
            a->sent_ns = sent; /* the next time, then */
        else
            n++;
    }
    nx_unlock(&g->lock);
    if (n)
        g->env.notify(g->env.notify_ctx, v, n);
}
