#include "src/rules/group.h"

/* group.c - a group of rules: made from its definition, evaluated at moments that somebody gives, looked at.
 *
 * SHAPE   An evaluation goes stage by stage (deps.c). The rules of a stage are evaluated (evaluate.c), one after
 *         the other or by several threads; then what they give is written (write.c) and how they fared is noted.
 * RULES   G1  A rule's health tells its last evaluation, the writing included.
 *         G2  Alerts are sent only if their rule's evaluation was good.
 *         G3  Series that a failed rule never wrote are not kept: it may fail for ever, with others each time. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/hash.h"
#include "src/base/log.h"

#define MS 1000000ll

const char *rule_health_name(enum rule_health h)
{
    return h == RULE_OK ? "ok" : h == RULE_BAD ? "err" : "unknown";
}

const char *alert_state_name(enum alert_state s)
{
    static const char *const names[] = {"unknown", "inactive", "pending", "firing"};

    return names[s];
}

/* ---- made and freed ------------------------------------------------------------------------------- */

static bool free_alert(void *ctx, struct keyed *k)
{
    (void)ctx;
    alert_free((struct alert *)k);
    return true;
}

static bool free_out(void *ctx, struct keyed *k)
{
    (void)ctx;
    out_free((struct out *)k);
    return true;
}

static void rule_done(struct rule_group *g, struct rule_state *r)
{
    table_sweep(&r->alerts, free_alert, NULL);
    table_sweep(&r->outs, free_out, NULL);
    table_done(&r->alerts);
    table_done(&r->outs);
    pql_expr_done(r->expr);
    if (r->arena != g->scratch)
        arena_free(r->arena);
    free(r->pending);
    free(r->last_error);
}

void rule_group_free(struct rule_group *g)
{
    if (!g)
        return;
    if (g->writers)
        rule_close_writers(g);
    for (size_t i = 0; g->rules && i < g->def->n_rules; i++)
        rule_done(g, &g->rules[i]);
    for (size_t i = 0; i < g->n_stale; i++)
        out_free(g->stale[i]);
    free(g->stale);
    free(g->writers);
    free(g->rules);
    free(g->marks);
    arena_free(g->scratch);
    arena_free(g->arena);
    rule_files_unref(g->files);
    nx_mutex_done(&g->lock);
    free(g);
}

static nx_status parse_templates(struct rule_group *g, struct nx_slice name,
                                 const struct labels *from, struct template ***out,
                                 struct nx_err *err)
{
    struct template **v = arena_array(g->arena, from->n + 1u, sizeof(struct template *));
    nx_status st = v ? NX_OK : arena_failed(g->arena, err);

    for (uint32_t i = 0; i < from->n && !st; i++)
        if (!template_is_text(from->v[i].value))
            st = template_parse_alert(&v[i], g->arena, name, from->v[i].value, err);
    *out = v;
    return st;
}

static nx_status rule_init(struct rule_group *g, struct rule_state *r, const struct rule *rule,
                           struct nx_err *err)
{
    char *name = arena_printf(g->arena, "__alert_%s", rule->name.ptr);
    nx_status st;

    r->rule = rule;
    r->restored = g->env.restored;
    r->arena = g->scratch ? g->scratch : arena_new(0);
    if (!name || !r->arena)
        return nx_fail(err, NX_NOMEM, "out of memory");
    st = pql_engine_parse(g->env.engine, g->arena, rule->query, &r->expr, err);
    if (st || !rule->alerting)
        return st;
    st = parse_templates(g, nx_slice_str(name), &rule->labels, &r->labels, err);
    return st ? st
              : parse_templates(g, nx_slice_str(name), &rule->annotations, &r->annotations, err);
}

static uint64_t print_of_env(const struct rule_group *g)
{
    uint64_t h = hash_mix((uint64_t)g->interval_ms, (uint64_t)g->query_offset_ms);

    h = hash_mix(h, labels_hash(&g->env.external_labels));
    return hash_mix(h, hash_bytes(g->env.external_url, strlen(g->env.external_url)));
}

static nx_status group_init(struct rule_group *g, struct nx_err *err)
{
    const struct rule_group_def *def = g->def;
    const struct labels external = g->env.external_labels;
    nx_status st;

    g->interval_ms = def->interval_ms ? def->interval_ms : g->env.interval_ms;
    g->query_offset_ms = def->query_offset_ms >= 0 ? def->query_offset_ms : g->env.query_offset_ms;
    if (!(g->arena = arena_new(0)) || (!g->env.parallel && !(g->scratch = arena_new(0))))
        return nx_fail(err, NX_NOMEM, "out of memory");
    st = labels_copy(g->arena, &external, &g->env.external_labels, err);
    if (st)
        return st;
    g->env.external_url = arena_strdup(g->arena, g->env.external_url ? g->env.external_url : "");
    g->rules = calloc(def->n_rules + 1, sizeof *g->rules);
    if (!g->env.external_url || !g->rules)
        return nx_fail(err, NX_NOMEM, "out of memory");
    g->env_print = print_of_env(g);
    for (size_t i = 0; i < def->n_rules && !st; i++)
        st = rule_init(g, &g->rules[i], &def->rules[i], err);
    if (!st)
        st = rule_stages(g, g->env.parallel, err);
    if (!st && !(g->writers = calloc(g->n_stages, sizeof *g->writers)))
        st = nx_fail(err, NX_NOMEM, "out of memory");
    return st;
}

nx_status rule_group_new(struct rule_group **out, const struct rule_files *files,
                         const struct rule_group_def *def, const struct rule_env *env,
                         struct nx_err *err)
{
    struct rule_group *g = calloc(1, sizeof *g);
    nx_status st;

    if (!g)
        return nx_fail(err, NX_NOMEM, "out of memory");
    nx_mutex_init(&g->lock, NX_RANK_RULE_GROUP);
    g->files = rule_files_ref(files);
    g->def = def;
    g->env = *env;
    st = group_init(g, err);
    if (st)
        rule_group_free(g);
    else
        *out = g;
    return st;
}

/* ---- an evaluation ---------------------------------------------------------------------------------- */

static void count(uint64_t *c, uint64_t by)
{
    __atomic_add_fetch(c, by, __ATOMIC_RELAXED);
}

static void log_failure(const struct rule_group *g, const struct rule_state *r)
{
    if (g->env.quiet || r->err.code == NX_CANCELED)
        return;
    log_warn("Evaluating rule failed", "component", "rule manager", "file", g->def->file.ptr,
             "group", g->def->name.ptr, "name", r->rule->name.ptr, "index",
             log_fmt("%td", r - g->rules), "err", r->err.text);
}

/* G1 */
static void settle(struct rule_group *g, struct rule_state *r)
{
    bool bad = r->failed || r->refused;
    char *text = bad ? strdup(r->err.text) : NULL, *old;

    count(&g->counters.evaluations, 1);
    if (r->failed) {
        count(&g->counters.failures, 1);
        log_failure(g, r);
        r->n_pending = 0; /* G3 */
    }
    if (g->rule_durations)
        durations_add(g->rule_durations, r->took_s);
    nx_lock(&g->lock);
    old = r->last_error;
    r->last_error = text;
    r->health = bad ? RULE_BAD : RULE_OK;
    r->eval_s = r->took_s;
    r->last_eval_ns = r->began_ns;
    nx_unlock(&g->lock);
    free(old);
}

static bool is_stopped(const struct rule_group *g)
{
    return __atomic_load_n(&g->stopped, __ATOMIC_RELAXED);
}

/* False when the group was stopped meanwhile. */
static bool run_stage(struct rule_group *g, size_t stage, int64_t t_ns, uint64_t *samples)
{
    size_t n = g->def->n_rules;

    if (is_stopped(g))
        return false;
    if (g->in_parallel && g->pool) {
        rule_pool_run(g->pool, g, stage, t_ns);
    } else {
        for (size_t i = 0; i < n; i++)
            if (g->rules[i].stage == stage) {
                if (is_stopped(g))
                    return false;
                rule_run(g, &g->rules[i], t_ns);
            }
    }
    for (size_t i = 0; i < n; i++)
        if (g->rules[i].stage == stage && g->rules[i].rule->alerting && !g->rules[i].failed)
            rule_send(g, &g->rules[i], t_ns); /* G2 */
    rule_write_stage(g, stage);
    for (size_t i = 0; i < n; i++)
        if (g->rules[i].stage == stage) {
            if (!g->rules[i].failed)
                *samples += g->rules[i].n_pending;
            settle(g, &g->rules[i]);
        }
    return true;
}

void rule_group_eval(struct rule_group *g, int64_t t_ns)
{
    int64_t from = clock_mono_ns(), began = clock_now_ns();
    int64_t at_ns = t_ns - g->query_offset_ms * MS;
    uint64_t samples = 0;
    double rules_s = 0;
    bool whole = true;

    g->row_ms = rule_time_ms(at_ns);
    count(&g->counters.iterations, 1);
    for (size_t stage = 0; stage < g->n_stages && whole; stage++)
        whole = run_stage(g, stage, t_ns, &samples);
    if (whole) {
        __atomic_store_n(&g->counters.samples, samples, __ATOMIC_RELAXED);
        rule_write_stale(g, at_ns);
    }
    for (size_t i = 0; i < g->def->n_rules; i++)
        rules_s += g->rules[i].took_s;
    nx_lock(&g->lock);
    g->eval_s = (double)(clock_mono_ns() - from) / 1e9;
    g->rules_s = rules_s;
    g->last_eval_ns = began;
    nx_unlock(&g->lock);
}

/* ---- views -------------------------------------------------------------------------------------------- */

static int by_labels(const void *a, const void *b)
{
    return labels_cmp(&((const struct alert_view *)a)->labels,
                      &((const struct alert_view *)b)->labels);
}

static nx_status view_alerts(const struct rule_state *r, struct arena *a, struct rule_view *out,
                             struct nx_err *err)
{
    nx_status st = NX_OK;

    out->state = r->last_eval_ns ? ALERT_INACTIVE : ALERT_UNKNOWN;
    out->alerts = arena_array(a, r->alerts.n + 1u, sizeof *out->alerts);
    if (!out->alerts)
        return arena_failed(a, err);
    for (uint32_t i = 0; i < r->alerts.n && !st; i++) {
        const struct alert *from = (const struct alert *)r->alerts.v[i];
        struct alert_view *to = &out->alerts[out->n_alerts];
        if (r->last_eval_ns && from->state > out->state)
            out->state = from->state;
        if (from->resolved_ns)
            continue;
        *to = (struct alert_view){.state = from->state,
                                  .value = from->value,
                                  .active_ns = from->active_ns,
                                  .fired_ns = from->fired_ns,
                                  .keep_firing_since_ns = from->keep_firing_ns};
        st = labels_copy(a, &from->key.labels, &to->labels, err);
        if (!st)
            st = labels_copy(a, &from->annotations, &to->annotations, err);
        out->n_alerts++;
    }
    if (!st)
        qsort(out->alerts, out->n_alerts, sizeof *out->alerts, by_labels);
    return st;
}

static nx_status view_rule(const struct rule_state *r, struct arena *a, struct rule_view *out,
                           struct nx_err *err)
{
    *out = (struct rule_view){.rule = r->rule,
                              .health = r->health,
                              .last_error = {"", 0},
                              .eval_s = r->eval_s,
                              .last_eval_ns = r->last_eval_ns};
    if (r->last_error) {
        out->last_error = nx_slice_str(arena_strdup(a, r->last_error));
        if (!out->last_error.ptr)
            return arena_failed(a, err);
    }
    return r->rule->alerting ? view_alerts(r, a, out, err) : NX_OK;
}

nx_status rule_group_view(struct rule_group *g, struct arena *a, struct rule_group_view *out,
                          struct nx_err *err)
{
    struct rule_group_view v = {
        .def = g->def, .interval_ms = g->interval_ms, .n_rules = g->def->n_rules};
    nx_status st = NX_OK;

    v.rules = arena_array(a, v.n_rules + 1, sizeof *v.rules);
    if (!v.rules)
        return arena_failed(a, err);
    nx_lock(&g->lock);
    v.eval_s = g->eval_s;
    v.last_eval_ns = g->last_eval_ns;
    for (size_t i = 0; i < v.n_rules && !st; i++)
        st = view_rule(&g->rules[i], a, &v.rules[i], err);
    nx_unlock(&g->lock);
    if (!st)
        *out = v;
    return st;
}

/* ---- one group after another ---------------------------------------------------------------------------- */

static bool same_rule(const struct rule *a, const struct rule *b)
{
    return nx_slice_eq(a->name, b->name) && labels_eq(&a->labels, &b->labels);
}

static bool keep_stale(void *ctx, struct keyed *k)
{
    struct rule_group *g = ctx;
    struct out **v = ((struct out *)k)->written
                         ? realloc(g->stale, (g->n_stale + 1) * sizeof(struct out *))
                         : NULL;

    if (!v) {
        out_free((struct out *)k);
        return true;
    }
    g->stale = v;
    v[g->n_stale++] = (struct out *)k;
    return true;
}

/* Rules of one name and labels give their state to each other, the first to the first. */
void rule_group_take_over(struct rule_group *g, struct rule_group *from)
{
    size_t n_from = from->def->n_rules;

    rule_close_writers(from);
    g->eval_s = from->eval_s;
    g->last_eval_ns = from->last_eval_ns;
    for (size_t i = 0; i < g->def->n_rules; i++) {
        struct rule_state *to = &g->rules[i];
        for (size_t k = 0; k < n_from; k++) {
            struct rule_state *old = &from->rules[k];
            if (old->taken || !same_rule(to->rule, old->rule))
                continue;
            old->taken = true;
            to->outs = old->outs;
            old->outs = (struct table){0};
            if (to->rule->alerting && old->rule->alerting) {
                to->alerts = old->alerts;
                old->alerts = (struct table){0};
            }
            to->round = old->round;
            to->restored = old->restored; /* else it is to be restored here, before it writes */
            break;
        }
    }
    for (size_t k = 0; k < n_from; k++)
        table_sweep(&from->rules[k].outs, keep_stale, g);
    for (size_t k = 0; k < from->n_stale; k++)
        keep_stale(g, &from->stale[k]->key);
    from->n_stale = 0;
}
