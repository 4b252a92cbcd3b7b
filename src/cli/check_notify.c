#include "src/cli/tool.h"

/* check_notify.c - `check notify`: files of direct notification, and what would be done by them. */

#include <stdio.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/notify/notify.h"

static int check(const char *path)
{
    struct direct_plan *plan = NULL;
    struct nx_err err = {0};
    struct buf b;

    printf("Checking %s\n", path);
    if (direct_plan_load(&plan, path, &err)) {
        fflush(stdout);
        fprintf(stderr, "  FAILED: %s\n\n", err.text);
        return 1;
    }
    buf_init(&b, 0);
    direct_plan_describe(plan, clock_now_ms(), &b);
    printf("%s\n", buf_cstr(&b));
    buf_done(&b);
    direct_plan_unref(plan);
    return 0;
}

int tool_check_notify(const struct flags *f)
{
    int code = 0;

    for (size_t i = 0; i < f->n_args; i++)
        if (access(f->args[i], F_OK)) {
            fprintf(stderr, "promtool: error: path '%s' does not exist, try --help\n", f->args[i]);
            return 1;
        }
    for (size_t i = 0; i < f->n_args; i++)
        code |= check(f->args[i]);
    return code;
}
