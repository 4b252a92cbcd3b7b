#include "src/cli/tool.h"

/* tool_check.c - `check config`. The checks and their words are src/config's. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/cli/check_rules.h"
#include "src/config/config.h"
#include "src/discovery/discovery.h"
#include "src/notify/notify.h"
#include "src/relabel/relabel.h"
#include "src/scrape/scrape.h"

/* --lint, as far as it is about jobs; what is not known rules_lint_read() tells. */
static void lint_flags(const char *list, struct config_check_flags *out)
{
    bool none = false;

    for (const char *at = list; *at;) {
        struct nx_slice word = {at, strcspn(at, ",")};
        none = none || nx_slice_is(word, "none");
        if (nx_slice_is(word, "all") || nx_slice_is(word, "too-long-scrape-interval"))
            out->lint_too_long_scrape_interval = true;
        at += word.len + (at[word.len] == ',');
    }
    if (none)
        out->lint_too_long_scrape_interval = false;
}

static int check_rules(void *ctx, const char *path, struct buf *out, struct buf *errs)
{
    return rules_check(path, nx_slice_of("", 0), ctx, out, errs);
}

/* ---- targets --------------------------------------------------------------------------------------- */

/* Groups of a file have no name. */
static bool is_static(const struct config_sds *sds, const struct config_static_sd *groups)
{
    for (size_t i = 0; i < sds->n; i++)
        if (sds->v[i].kind == CONFIG_SD_STATIC && sds->v[i].u.statics == groups)
            return true;
    return false;
}

static nx_status check_groups(void *ctx, const struct config_scrape *job,
                              const struct config_static_sd *groups, struct nx_err *err)
{
    struct arena *a = arena_new(0);
    nx_status st = a ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");
    char name[24] = "";

    (void)ctx;
    for (size_t g = 0; g < groups->n && !st; g++) {
        if (is_static(&job->sds, groups))
            snprintf(name, sizeof name, "%zu", g);
        for (size_t i = 0; i < groups->v[g].targets.n && !st; i++) {
            struct labels before, after;
            st = scrape_target_labels(job, groups->v[g].targets.v[i], &groups->v[g].labels, a,
                                      &before, &after, err);
            if (st)
                st = nx_context(err, "instance %zu in group %s", i, name);
        }
    }
    arena_free(a);
    return st;
}

static nx_status check_alertmanagers(void *ctx, const struct config_alertmanager *am,
                                     const struct config_static_sd *groups, struct nx_err *err)
{
    struct relabel_work work = {0};
    struct arena *a = arena_new(0);
    nx_status st = a ? relabel_work_init(&work, err) : nx_fail(err, NX_NOMEM, "out of memory");

    (void)ctx;
    for (size_t g = 0; g < groups->n; g++)
        for (size_t i = 0; i < groups->v[g].targets.n && !st; i++) {
            struct nx_slice url;
            bool dropped;
            st = notify_url(am, groups->v[g].targets.v[i], &groups->v[g].labels, &work, a, &dropped,
                            &url, err);
        }
    relabel_work_done(&work);
    arena_free(a);
    return st;
}

/* ---- the command ----------------------------------------------------------------------------------- */

int tool_check_config(const struct flags *f)
{
    struct rules_lint rules = {.fatal = flags_bool(f, "lint-fatal"),
                               .ignore_unknown_fields = flags_bool(f, "ignore-unknown-fields"),
                               .features = tool_features(f)};
    struct config_check_flags flags = {
        .syntax_only = flags_bool(f, "syntax-only"),
        .agent = flags_bool(f, "agent"),
        .lint_fatal = flags_bool(f, "lint-fatal"),
        .lookback_delta_ms = flags_ms(f, "query.lookback-delta"),
        .read_groups = discovery_read_file,
        .check_rules = check_rules,
        .check_groups = check_groups,
        .check_alertmanagers = check_alertmanagers,
        .ctx = &rules,
    };
    int code = 0;

    lint_flags(flags_str(f, "lint"), &flags);
    rules_lint_read(&rules, flags_str(f, "lint"), "too-long-scrape-interval");
    for (size_t i = 0; i < f->n_args; i++) {
        struct buf out, errs;
        buf_init(&out, 0);
        buf_init(&errs, 0);
        int one = config_check(f->args[i], &flags, &out, &errs);
        fputs(buf_cstr(&out), stdout);
        fflush(stdout);
        fputs(buf_cstr(&errs), stderr);
        buf_done(&out);
        buf_done(&errs);
        code = one && code != 1 ? one : code;
    }
    return code;
}
