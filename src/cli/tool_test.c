#include "src/cli/tool.h"

/* tool_test.c - `test promql`: scripts in Prometheus's PromQL test language. */

#include <stdio.h>

#include "promql/promql.h"
#include "src/base/fs.h"
#include "src/base/limits.h"

static void report(void *ctx, int line, const char *what)
{
    printf("%s:%d: %s\n", (const char *)ctx, line, what);
}

int tool_test_promql(const struct flags *f)
{
    unsigned passed = 0, failed = 0, skipped = 0;

    for (size_t i = 0; i < f->n_args; i++) {
        unsigned good = 0, bad = 0, left_out = 0; /* of this file */
        struct nx_err err = {0};
        struct buf text;
        buf_init(&text, NX_LIMIT_CONFIG_BYTES);
        nx_status st = fs_read_file(fs_real(), f->args[i], &text, &err);
        if (!st)
            st = pql_run_script(buf_view(&text), f->args[i], report, (void *)(uintptr_t)f->args[i],
                                &good, &bad, &left_out, &err);
        if (st) {
            printf("%s: %s\n", f->args[i], err.text);
            bad++;
        }
        passed += good;
        failed += bad;
        skipped += left_out;
        buf_done(&text);
    }
    if (skipped)
        printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    else
        printf("%u passed, %u failed\n", passed, failed);
    return failed ? 1 : 0;
}
