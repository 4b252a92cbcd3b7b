#include "src/rules/group.h"

/* deps.c - which rules of a group read what others of it write.
 *
 * WHY     Rules run in the order of the file, and each sees what those before it wrote. Those that do not
 *         look at each other need not wait for each other: their results become one row of the store.
 * RULES   D1  A rule reads another if a selector of its expression may match the other's name; an alert
 *             writes ALERTS and ALERTS_FOR_STATE, of its alertname.
 *         D2  A selector without a name, and a template that queries, may read anything.
 *         D3  One after the other: a stage ends before the first rule that reads one of its rules.
 *         D4  In parallel, as Prometheus has it: first all rules that read none, then each that reads and is
 *             read, alone, then all the others. Where D2 applies, D3 does. */

#include <stdlib.h>
#include <string.h>

struct graph {
    struct rule_group *g;
    bool *reads; /* [reader * n + other], other before reader */
    size_t n, reader;
    bool anything; /* D2 */
};

static bool matches(const struct matcher *m, size_t n, const char *label, const char *value,
                    bool *there)
{
    *there = false;
    for (size_t i = 0; i < n; i++)
        if (nx_slice_is(m[i].name, label)) {
            *there = true;
            return matcher_matches(&m[i], nx_slice_str(value));
        }
    return false;
}

static void see_selector(void *ctx, const struct matcher *m, size_t n)
{
    struct graph *gr = ctx;
    bool named, by_alert, is_alerts;

    is_alerts = matches(m, n, LABEL_NAME, "ALERTS", &named) ||
                matches(m, n, LABEL_NAME, "ALERTS_FOR_STATE", &named);
    if (!named) {
        gr->anything = true;
        return;
    }
    for (size_t i = 0; i < gr->reader; i++) {
        const struct rule *other = gr->g->rules[i].rule;
        bool reads = matches(m, n, LABEL_NAME, other->name.ptr, &named);
        if (is_alerts && other->alerting)
            reads = reads || matches(m, n, "alertname", other->name.ptr, &by_alert) || !by_alert;
        if (reads)
            gr->reads[gr->reader * gr->n + i] = true;
    }
}

static bool queries(const struct labels *templates)
{
    for (uint32_t i = 0; i < templates->n; i++)
        if (!template_is_text(templates->v[i].value) && strstr(templates->v[i].value.ptr, "query"))
            return true;
    return false;
}

/* D1, D2 */
static void find_reads(struct graph *gr)
{
    for (size_t i = 0; i < gr->n; i++) {
        const struct rule *r = gr->g->rules[i].rule;
        bool before = gr->anything;

        gr->reader = i;
        gr->anything = r->alerting && (queries(&r->labels) || queries(&r->annotations));
        pql_each_selector(gr->g->rules[i].expr, see_selector, gr);
        if (gr->anything)
            memset(gr->reads + i * gr->n, true, i);
        gr->anything = gr->anything || before;
    }
}

/* D3 */
static void in_order(struct graph *gr)
{
    size_t stage = 0, first = 0;

    for (size_t i = 0; i < gr->n; i++) {
        bool reads = false;
        for (size_t k = first; k < i && !reads; k++)
            reads = gr->reads[i * gr->n + k];
        if (reads) {
            stage++;
            first = i;
        }
        gr->g->rules[i].stage = stage;
    }
    gr->g->n_stages = stage + 1;
}

/* D4 */
static void in_batches(struct graph *gr)
{
    size_t stage = 0, n = gr->n;
    bool any = false;

    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < n; i++) {
            bool reads = false, read = false;
            for (size_t k = 0; k < n; k++) {
                reads = reads || gr->reads[i * n + k];
                read = read || gr->reads[k * n + i];
            }
            if (kind != (!reads ? 0 : read ? 1 : 2))
                continue;
            if (kind == 1 && any)
                stage++;
            gr->g->rules[i].stage = stage;
            any = true;
        }
        if (any)
            stage++;
        any = false;
    }
    gr->g->n_stages = stage ? stage : 1;
}

nx_status rule_stages(struct rule_group *g, bool parallel, struct nx_err *err)
{
    struct graph gr = {.g = g, .n = g->def->n_rules};

    gr.reads = calloc(gr.n * gr.n + 1, sizeof *gr.reads);
    if (!gr.reads)
        return nx_fail(err, NX_NOMEM, "out of memory");
    find_reads(&gr);
    if (parallel && !gr.anything)
        in_batches(&gr);
    else
        in_order(&gr);
    g->in_parallel = parallel && !gr.anything;
    free(gr.reads);
    return NX_OK;
}
