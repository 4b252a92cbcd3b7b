#include "src/cli/tool.h"

/* check_metrics.c - `check metrics`: an exposition on standard input, linted and counted. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/limits.h"
#include "src/cli/metrics_lint.h"

struct stat_row {
    struct nx_slice name;
    size_t cardinality, place;
};

/* The largest first; those alike in the order of the input. */
static int by_cardinality(const void *x, const void *y)
{
    const struct stat_row *a = x, *b = y;

    if (a->cardinality != b->cardinality)
        return a->cardinality > b->cardinality ? -1 : 1;
    return a->place < b->place ? -1 : 1;
}

/* Series that a server would keep of a family. */
static size_t cardinality(const struct metrics_family *f)
{
    bool parts = f->type == METRICS_HISTOGRAM || f->type == METRICS_SUMMARY;

    return parts ? f->n * (2 + f->v[0].n_parts) : f->n;
}

static nx_status print_stats(const struct metrics_families *f, struct arena *a, struct nx_err *err)
{
    struct stat_row *rows = arena_array(a, f->n + 1, sizeof *rows);
    int wide[3] = {6, 11, 10}; /* "Metric", "Cardinality", "Percentage" */
    size_t total = 0;

    if (!rows)
        return arena_failed(a, err);
    for (size_t i = 0; i < f->n; i++) {
        rows[i] = (struct stat_row){f->v[i].name, cardinality(&f->v[i]), i};
        total += rows[i].cardinality;
        wide[0] = (int)f->v[i].name.len > wide[0] ? (int)f->v[i].name.len : wide[0];
    }
    qsort(rows, f->n, sizeof *rows, by_cardinality);
    printf("%-*s%-*s%-*s\n", wide[0] + 4, "Metric", wide[1] + 4, "Cardinality", wide[2] + 4,
           "Percentage");
    for (size_t i = 0; i < f->n; i++) {
        char share[32];
        snprintf(share, sizeof share, "%.2f%%", (double)rows[i].cardinality / (double)total * 100);
        printf("%-*.*s%-*zu%-*s\n", wide[0] + 4, (int)rows[i].name.len, rows[i].name.ptr,
               wide[1] + 4, rows[i].cardinality, wide[2] + 4, share);
    }
    printf("%-*s%-*zu%-*s\n", wide[0] + 4, "Total", wide[1] + 4, total, wide[2] + 4, "100%");
    return NX_OK;
}

static nx_status lint(const struct metrics_families *f, struct arena *a, bool *problems,
                      struct nx_err *err)
{
    struct metrics_problem *v;
    size_t n;
    nx_status st = metrics_lint(f, a, &v, &n, err);

    for (size_t i = 0; !st && i < n; i++)
        fprintf(stderr, "%.*s %.*s\n", (int)v[i].metric.len, v[i].metric.ptr, (int)v[i].text.len,
                v[i].text.ptr);
    *problems = !st && n;
    return st;
}

int tool_check_metrics(const struct flags *f)
{
    bool extended = flags_bool(f, "extended"), none = strcmp(flags_str(f, "lint"), "none") == 0;
    struct metrics_families families = {0};
    struct arena *a = arena_new(0);
    struct nx_err err = {0};
    bool problems = false;
    struct buf text;
    nx_status st;

    buf_init(&text, NX_LIMIT_SCRAPE_BODY_BYTES);
    if (!extended && none) {
        fputs("error: at least one of --extended or linting must be enabled\n"
              "Use --extended for cardinality analysis, or remove --lint=none to enable linting\n",
              stderr);
        st = NX_BADINPUT;
        goto done;
    }
    st = a ? tool_read_all(STDIN_FILENO, &text, &err) : nx_fail(&err, NX_NOMEM, "out of memory");
    if (!st)
        st = metrics_read(nx_slice_of(buf_cstr(&text), text.len), a, &families, &err);
    if (!st && !none)
        st = lint(&families, a, &problems, &err);
    if (st)
        fprintf(stderr, "%s: %s\n",
                none ? "error while parsing text to metric families" : "error while linting",
                err.text);
    if (!st && extended)
        st = print_stats(&families, a, &err);

done:
    buf_done(&text);
    arena_free(a);
    return st ? 1 : problems ? 3 : 0;
}
