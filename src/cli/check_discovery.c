#include "src/cli/tool.h"

/* check_discovery.c - `check service-discovery`: what a job's mechanisms find, before and after relabelling.
 *
 * RULES   D1  Mechanisms get the whole time-out, as with promtool: how long one takes to find everything
 *             nobody can know. Static targets and files are all there is without it, so where a job has
 *             nothing else it ends at once.
 *         D2  Results that are alike in all are shown once in each group of a mechanism. */

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/text.h"
#include "src/cli/model.h"
#include "src/config/config.h"
#include "src/discovery/discovery.h"
#include "src/scrape/scrape.h"

struct result {
    struct labels before, after;
    bool failed;
};

static void changed(void *ctx, struct nx_slice set_name)
{
    (void)ctx;
    (void)set_name;
}

static void wait_for(struct discovery *d, int64_t timeout_ms)
{
    int64_t now = clock_mono_ns() / 1000000, end = now + timeout_ms;

    while (now < end) {
        int64_t next = discovery_next_ms(d);
        struct pollfd p = {.fd = discovery_fd(d), .events = POLLIN};

        next = next < end ? next : end;
        if (next > now)
            (void)poll(&p, p.fd >= 0, (int)(next - now));
        now = clock_mono_ns() / 1000000;
        discovery_poll(d, now, changed, NULL);
    }
}

static bool is_static(const struct config_sds *sds)
{
    for (size_t i = 0; i < sds->n; i++)
        if (sds->v[i].kind != CONFIG_SD_STATIC && sds->v[i].kind != CONFIG_SD_FILE)
            return false;
    return true;
}

static void print_labels(const char *key, const struct labels *ls, const char *end)
{
    struct buf b;

    buf_init(&b, 0);
    buf_printf(&b, "    \"%s\": {", key);
    for (uint32_t i = 0; i < ls->n; i++) {
        buf_str(&b, i ? ",\n      " : "\n      ");
        model_string_json(&b, ls->v[i].name);
        buf_str(&b, ": ");
        model_string_json(&b, ls->v[i].value);
    }
    buf_printf(&b, "%s}%s\n", ls->n ? "\n    " : "", end);
    fwrite(b.ptr, 1, b.len, stdout);
    buf_done(&b);
}

static void print_result(const struct result *r, bool first)
{
    printf("%s  {\n", first ? "[\n" : ",\n");
    print_labels("discoveredLabels", &r->before, ",");
    print_labels("labels", &r->after, r->failed ? "," : "");
    printf("%s  }", r->failed ? "    \"error\": {}\n" : "");
}

static bool alike(const struct result *a, const struct result *b)
{
    return a->failed == b->failed && labels_eq(&a->before, &b->before) &&
           labels_eq(&a->after, &b->after);
}

static nx_status print_group(const struct config_scrape *job, const struct discovery_group *g,
                             struct arena *a, bool *any, struct nx_err *err)
{
    struct result *v = arena_array(a, g->targets.n, sizeof *v);
    size_t n = 0, k;

    if (!v)
        return arena_failed(a, err);
    for (size_t i = 0; i < g->targets.n; i++) {
        struct result *r = &v[n];
        nx_status st =
            scrape_target_labels(job, g->targets.v[i], &g->labels, a, &r->before, &r->after, err);
        if (st && st != NX_BADINPUT)
            return st;
        r->failed = st != NX_OK;
        for (k = 0; k < n && !alike(&v[k], r);) /* D2 */
            k++;
        if (k < n)
            continue;
        print_result(r, !*any);
        *any = true;
        n++;
    }
    return NX_OK;
}

static int no_job(const struct config *cfg, const char *name)
{
    fprintf(stderr, "Job %s not found. Select one of:\n", name);
    for (size_t i = 0; i < cfg->scrape_configs.n; i++)
        fprintf(stderr, "\t%s\n", cfg->scrape_configs.v[i].job_name.ptr);
    return 1;
}

static nx_status discover(const struct config_scrape *job, int64_t timeout_ms, struct nx_err *err)
{
    struct discovery_set set = {job->job_name, &job->sds};
    struct arena *a = arena_new(0);
    struct discovery *d = NULL;
    struct discovery_groups groups = {0};
    bool any = false;
    nx_status st = a ? discovery_new(&d, err) : nx_fail(err, NX_NOMEM, "out of memory");

    if (!st)
        st = discovery_apply(d, &set, 1, err);
    if (!st && !is_static(&job->sds)) /* D1 */
        wait_for(d, timeout_ms);
    if (!st)
        st = discovery_groups(d, job->job_name, a, &groups, err);
    for (size_t i = 0; i < groups.n && !st; i++)
        st = print_group(job, &groups.v[i], a, &any, err);
    if (!st)
        printf(any ? "\n]" : "[]");
    discovery_free(d);
    arena_free(a);
    return st;
}

static void tell_later(void *ctx, const char *text)
{
    (void)ctx;
    fprintf(stderr, "WARNING: %s\n", text);
}

int tool_check_discovery(const struct flags *f)
{
    struct config *cfg = NULL;
    const struct config_scrape *job = NULL;
    struct nx_err err = {0};
    int code = 1;

    if (config_load(&cfg, f->args[0], NULL, &err)) {
        fprintf(stderr, "Cannot load config %s\n", err.text);
        return 1;
    }
    config_warnings(cfg, tell_later, NULL);
    for (size_t i = 0; i < cfg->scrape_configs.n && !job; i++)
        if (nx_slice_is(cfg->scrape_configs.v[i].job_name, f->args[1]))
            job = &cfg->scrape_configs.v[i];
    if (!job)
        code = no_job(cfg, f->args[1]);
    else if (discover(job, flags_go_ns(f, "timeout") / 1000000, &err))
        fprintf(stderr, "Could not create new discoverer %s\n", err.text);
    else
        code = 0;
    config_unref(cfg);
    return code;
}
