#include "src/cli/tool.h"

/* tool_check.c - `check config`. The checks and their words are src/config's. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/config/config.h"
#include "src/discovery/discovery.h"

/* --lint: a comma-separated list; promtool only warns of words it does not know. Duplicate rules are
 * looked for by whoever checks rule files. */
static void lint_flags(const char *list, struct config_check_flags *out)
{
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ",");
        struct nx_slice word = {at, n};
        bool all = nx_slice_is(word, "all"),
             interval = nx_slice_is(word, "too-long-scrape-interval");
        out->lint_too_long_scrape_interval = out->lint_too_long_scrape_interval || all || interval;
        if (!all && !interval && !nx_slice_is(word, "none") &&
            !nx_slice_is(word, "duplicate-rules"))
            printf("WARNING: unknown lint option: \"%.*s\"\n", (int)n, at);
        at += n + (at[n] == ',');
    }
}

int tool_check_config(const struct flags *f)
{
    struct config_check_flags flags = {
        .syntax_only = flags_bool(f, "syntax-only"),
        .agent = flags_bool(f, "agent"),
        .lint_fatal = flags_bool(f, "lint-fatal"),
        .ignore_unknown_fields = flags_bool(f, "ignore-unknown-fields"),
        .lookback_delta_ms = flags_ms(f, "query.lookback-delta"),
        .read_groups = discovery_read_file,
    };
    int code = 0;

    for (size_t i = 0; i < f->n_args; i++)
        if (access(f->args[i], F_OK)) {
            fprintf(stderr, "promtool: error: path '%s' does not exist, try --help\n", f->args[i]);
            return 1;
        }
    lint_flags(flags_str(f, "lint"), &flags);
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
