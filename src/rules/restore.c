#include "src/rules/group.h"

/* restore.c - an alert that was pending before a restart goes on from where it was.
 *
 * WHY     `for: 1h` must not begin anew with each restart. ALERTS_FOR_STATE holds since when an alert is active;
 *         the time in which nobody looked is not counted as pending.
 * RULES   R1  Only rules whose `for` is at least the grace period, and alerts seen within the tolerance.
 *         R2  An alert that was to fire soon waits for the grace period, so that what it depends on is there.
 *         R3  One that had fired fires with the next evaluation.
 *         R4  What is stored may be anybody's: a value that is no time of this age restores nothing. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/log.h"

#define MS          1000000ll
#define MAX_SECONDS 9e9 /* as nanoseconds they are still an int64 */

static bool is_template(struct nx_slice s)
{
    return memmem(s.ptr, s.len, "{{", 2) != NULL;
}

/* What all series of the rule have in common. */
static size_t make_matchers(const struct rule *rule, struct matcher *m)
{
    size_t n = 0;

    m[n++] = (struct matcher){MATCH_EQ, nx_slice_str(LABEL_NAME), nx_slice_str("ALERTS_FOR_STATE"),
                              NULL};
    m[n++] = (struct matcher){MATCH_EQ, nx_slice_str("alertname"), rule->name, NULL};
    for (uint32_t i = 0; i < rule->labels.n; i++) {
        const struct label *l = &rule->labels.v[i];
        if (!is_template(l->value) && !nx_slice_is(l->name, "alertname"))
            m[n++] = (struct matcher){MATCH_EQ, l->name, l->value, NULL};
    }
    return n;
}

static bool is_of(const struct labels *series, const struct labels *alert)
{
    if (series->n != alert->n + 1)
        return false;
    for (uint32_t i = 0; i < alert->n; i++)
        if (!nx_slice_eq(labels_get(series, alert->v[i].name), alert->v[i].value))
            return false;
    return true;
}

static void restore_alert(struct alert *a, const struct rule *rule, int64_t now_ns,
                          const struct rule_restore *how, const struct column *c)
{
    int64_t hold_ns = rule->for_ms * MS, grace_ns = how->grace_period_ms * MS;
    int64_t down_ns, active_ns, pending_ns, left_ns;
    double since = c->n ? c->v[c->n - 1] : NAN;

    if (!(since >= 0 && since < MAX_SECONDS)) /* R4: nor if it is stale */
        return;
    down_ns = c->t[c->n - 1] / 1000 * 1000000000;
    active_ns = (int64_t)since * 1000000000;
    if (__builtin_sub_overflow(down_ns, active_ns, &pending_ns) ||
        __builtin_sub_overflow(hold_ns, pending_ns, &left_ns))
        return;
    if (left_ns <= 0)
        ; /* R3 */
    else if (left_ns < grace_ns)
        active_ns = now_ns + grace_ns - hold_ns; /* R2 */
    else
        active_ns += now_ns - down_ns;
    a->active_ns = active_ns;
}

static nx_status restore_rule(struct rule_group *g, struct rule_state *r, int64_t now_ns,
                              const struct rule_restore *how, struct querier *q, struct arena *a,
                              struct nx_err *err)
{
    int64_t maxt = now_ns / MS, mint = maxt - how->outage_tolerance_ms;
    struct matcher *m = arena_array(a, r->rule->labels.n + 2u, sizeof *m);
    struct series_list list = {0};
    struct column c = {0};
    nx_status st;

    if (!m)
        return arena_failed(a, err);
    st = q->ops->select(q, m, make_matchers(r->rule, m), mint, maxt, a, &list, err);
    for (size_t i = 0; i < list.n && !st; i++)
        for (uint32_t k = 0; k < r->alerts.n && !st; k++) {
            struct alert *alert = (struct alert *)r->alerts.v[k];
            if (!is_of(&list.v[i].labels, &alert->key.labels))
                continue;
            st = q->ops->read(q, &list.v[i], mint, maxt, &c, err);
            if (st)
                break;
            nx_lock(&g->lock);
            restore_alert(alert, r->rule, now_ns, how, &c);
            nx_unlock(&g->lock);
        }
    column_done(&c);
    return st;
}

void rule_group_restore(struct rule_group *g, int64_t now_ns, const struct rule_restore *how)
{
    int64_t from = clock_mono_ns(), maxt = now_ns / MS;
    struct arena *a = arena_new(0);
    struct querier *q = NULL;
    struct nx_err err = {0};
    nx_status st = a ? NX_OK : nx_fail(&err, NX_NOMEM, "out of memory");

    for (size_t i = 0; i < g->def->n_rules; i++) {
        struct rule_state *r = &g->rules[i];
        if (r->rule->alerting && !r->restored && r->rule->for_ms >= how->grace_period_ms && !st) {
            if (!q)
                st = g->env.source->open(g->env.source->ctx, maxt - how->outage_tolerance_ms, maxt,
                                         &q, &err);
            if (!st)
                st = restore_rule(g, r, now_ns, how, q, a, &err);
            if (st) {
                log_error("Failed to restore 'for' state", "component", "rule manager", "group",
                          g->def->name.ptr, "alertname", r->rule->name.ptr, "err", err.text);
                st = NX_OK;
            }
        }
        r->restored = true;
    }
    querier_close(q);
    arena_free(a);
    nx_lock(&g->lock);
    g->restore_s = (double)(clock_mono_ns() - from) / 1e9;
    nx_unlock(&g->lock);
}
