#include "src/cli/query.h"

/* backfill_rules.c - `tsdb create-blocks-from rules`: what recording rules would have given, as blocks.
 *
 * RULES   B1  A server evaluates the expressions, two hours at a time, at the moments at which a server evaluates
 *             the group, whose interval is --eval-interval where it has none. As in promtool, a moment within the last
 *             second of two hours is left out.
 *         B2  A rule that can't be had is told and left out; the others are written, and the exit code is 1.
 *         B3  Alerting rules give nothing here. */

#include <stdio.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/fs.h"
#include "src/base/num.h"
#include "src/cli/moment.h"
#include "src/cli/tool.h"
#include "src/cli/tsdb.h"
#include "src/rules/rules.h"

#define MS        1000000ll
#define SPAN_MS   (2 * 3600000ll)
#define RECENT_NS (3 * 3600000000000ll)

struct importing {
    const struct server_url *server;
    struct storage_import *import;
    struct labels_builder b;
    int64_t start_ms, end_ms;
};

/* The labels of the result, then the rule's own, then its name. */
static nx_status add_series(struct importing *im, const struct rule *rule,
                            const struct model_series *s, struct nx_err *err)
{
    struct labels ls;
    uint32_t ref;
    nx_status st;

    labels_builder_reset(&im->b, &s->labels);
    for (uint32_t i = 0; i < rule->labels.n; i++)
        labels_builder_set(&im->b, rule->labels.v[i].name, rule->labels.v[i].value);
    labels_builder_set(&im->b, nx_slice_str(LABEL_NAME), rule->name);
    st = labels_builder_build(&im->b, &ls, err);
    if (!st)
        st = storage_import_series(im->import, &ls, &ref, err);
    for (size_t i = 0; i < s->n_floats && !st; i++)
        st = storage_import_add(im->import, ref, s->v[i].t_ms, s->v[i].v, err);
    return st;
}

static void put_seconds(struct buf *form, const char *name, int64_t ms)
{
    struct buf b;

    buf_init(&b, 64);
    buf_num_plain(&b, (double)ms / 1000);
    url_param(form, name, buf_view(&b));
    buf_done(&b);
}

static nx_status import_span(struct importing *im, const struct rule *rule, int64_t from_ms,
                             int64_t to_ms, int64_t step_ms, struct nx_err *err)
{
    struct query_answer answer = {0};
    struct model_value v = {0};
    struct arena *a = arena_new(0);
    struct buf form;
    nx_status st = a ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");

    buf_init(&form, 0);
    url_param(&form, "query", rule->query);
    put_seconds(&form, "start", from_ms);
    put_seconds(&form, "end", to_ms);
    put_seconds(&form, "step", step_ms);
    if (!st && query_ask(im->server, "/api/v1/query_range", buf_cstr(&form), &answer, err))
        st = nx_context(err, "query range");
    if (!st)
        st = model_read(answer.data, a, &v, err);
    if (!st && v.type != MODEL_MATRIX)
        st = nx_fail(err, NX_EXEC, "rule result is wrong type");
    for (size_t i = 0; i < v.n && !st; i++)
        st = add_series(im, rule, &v.series[i], err);
    query_answer_done(&answer);
    buf_done(&form);
    arena_free(a);
    return st;
}

/* B1 */
static int64_t first_moment_ms(const struct rule_group_def *def, int64_t step_ms, int64_t from_ms)
{
    int64_t at_ns = rule_group_moment(def, step_ms, from_ms * MS);

    while (at_ns < from_ms * MS)
        at_ns += step_ms * MS;
    return (at_ns + MS / 2) / MS;
}

static nx_status import_rule(struct importing *im, const struct rule_group_def *def,
                             const struct rule *rule, int64_t step_ms, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (int64_t span = im->start_ms / SPAN_MS * SPAN_MS; span <= im->end_ms && !st;
         span += SPAN_MS) {
        int64_t from = span > im->start_ms ? span : im->start_ms;
        int64_t to = span + SPAN_MS - 1000 < im->end_ms ? span + SPAN_MS - 1000 : im->end_ms;

        from = first_moment_ms(def, step_ms, from);
        if (from <= to)
            st = import_span(im, rule, from, to, step_ms, err);
    }
    return st;
}

/* Returns how many rules failed (B2). */
static size_t import_all(struct importing *im, const struct rule_files *f, int64_t step_ms)
{
    size_t failed = 0;

    for (size_t g = 0; g < f->n_groups; g++) {
        const struct rule_group_def *def = &f->groups[g];
        for (size_t i = 0; i < def->n_rules; i++) {
            struct nx_err err = {0};
            if (def->rules[i].alerting || /* B3 */
                !import_rule(im, def, &def->rules[i], def->interval_ms ? def->interval_ms : step_ms,
                             &err))
                continue;
            fprintf(stderr, "rule importer error: %s\n", err.text);
            failed++;
        }
    }
    return failed;
}

static nx_status read_times(const struct flags *f, struct importing *im, struct nx_err *err)
{
    int64_t start, end = clock_now_ns() - RECENT_NS;

    if (*flags_str(f, "end") && moment_parse(flags_str(f, "end"), &end, err))
        return nx_context(err, "error parsing end time");
    if (moment_parse(flags_str(f, "start"), &start, err))
        return nx_context(err, "error parsing start time");
    if (start >= end)
        return nx_fail(err, NX_BADINPUT, "start time is not before end time");
    if (start < 0)
        return nx_fail(err, NX_BADINPUT, "times before 1970 are not supported");
    im->start_ms = start / 1000000000 * 1000;
    im->end_ms = end / 1000000000 * 1000;
    return NX_OK;
}

static nx_status load_rules(const struct flags *f, struct rule_files **out, struct nx_err *err)
{
    const struct rule_load_opts opts = {.features = tool_features(f)};
    struct nx_slice *paths = arena_array(f->arena, f->n_args, sizeof *paths);

    if (!paths)
        return arena_failed(f->arena, err);
    for (size_t i = 0; i < f->n_args; i++)
        paths[i] = nx_slice_str(f->args[i]);
    if (rule_files_load(out, paths, f->n_args, &opts, err))
        return nx_context(err, "rule importer parse error");
    return NX_OK;
}

int tool_create_rules(const struct flags *f)
{
    int64_t step_ms = flags_go_ns(f, "eval-interval") / 1000000;
    struct rule_files *rules = NULL;
    struct server_url server = {0};
    struct importing im = {.server = &server};
    struct nx_err err = {0};
    size_t failed = 0;
    nx_status st = read_times(f, &im, &err);

    labels_builder_init(&im.b);
    if (!st && step_ms <= 0)
        st = nx_fail(&err, NX_BADINPUT, "eval-interval must be at least 1ms");
    if (!st)
        st = load_rules(f, &rules, &err);
    if (!st && !server_url_init(&server, f, flags_str(f, "url")))
        st = NX_CANCELED; /* told already */
    if (!st)
        st = storage_import_open(&im.import, fs_real(), flags_str(f, "output-dir"),
                                 tsdb_block_span(flags_ms(f, "max-block-duration")), &err);
    if (!st) {
        failed = import_all(&im, rules, step_ms);
        st = storage_import_finish(im.import, NULL, NULL, &err);
    }
    if (st && st != NX_CANCELED)
        fprintf(stderr, "%s\n", err.text);
    else if (failed)
        fprintf(stderr, "error importing rules\n");
    storage_import_close(im.import);
    labels_builder_done(&im.b);
    rule_files_unref(rules);
    server_url_done(&server);
    return st || failed ? 1 : 0;
}
