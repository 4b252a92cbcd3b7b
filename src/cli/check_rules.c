#include "src/cli/check_rules.h"

/* check_rules.c - `check rules`, also for the rule files of `check config`.
 *
 * RULES   R1  Whatever is wrong in a file is told, a line each; the blank line behind a file is left out then,
 *             as promtool leaves it out.
 *         R2  Rules are duplicates if name and labels are the same, those of the group included.
 *         R3  What is no error but will surprise, that only the first document of a file counts, is logged,
 *             as the server does. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/limits.h"
#include "src/base/log.h"
#include "src/cli/tool.h"

void rules_lint_read(struct rules_lint *l, const char *list, const char *known)
{
    bool none = false;

    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ",");
        struct nx_slice word = {at, n};

        if (nx_slice_is(word, "all") || nx_slice_is(word, "duplicate-rules"))
            l->duplicates = true;
        else if (nx_slice_is(word, "none"))
            none = true;
        else if (!nx_slice_is(word, known))
            printf("WARNING: unknown lint option: \"%.*s\"\n", (int)n, at);
        at += n + (at[n] == ',');
    }
    /* With a config `none` rules out all else; promtool's `check rules` takes it for nothing. */
    if (none && *known)
        l->duplicates = false;
}

/* ---- duplicates ------------------------------------------------------------------------------------ */

static int by_name_and_labels(const void *x, const void *y)
{
    const struct rule *a = *(const struct rule *const *)x, *b = *(const struct rule *const *)y;
    int c = nx_slice_cmp(a->name, b->name);

    return c ? c : labels_cmp(&a->labels, &b->labels);
}

static void put_duplicate(struct buf *b, const struct rule *r)
{
    buf_printf(b, "Metric: %s\nLabel(s):\n", r->name.ptr);
    for (uint32_t i = 0; i < r->labels.n; i++)
        buf_printf(b, "\t%s: %s\n", r->labels.v[i].name.ptr, r->labels.v[i].value.ptr);
}

/* Appends each rule that stands more than once (R2). */
static nx_status find_duplicates(const struct rule_files *f, struct buf *to, size_t *found)
{
    const struct rule **v = calloc(f->n_rules + 1, sizeof(*v));
    size_t n = 0;

    *found = 0;
    if (!v)
        return NX_NOMEM;
    for (size_t g = 0; g < f->n_groups; g++)
        for (size_t r = 0; r < f->groups[g].n_rules; r++)
            v[n++] = &f->groups[g].rules[r];
    qsort(v, n, sizeof(*v), by_name_and_labels);
    for (size_t i = 1; i < n; i++) {
        if (by_name_and_labels(&v[i - 1], &v[i]) != 0 ||
            (i > 1 && by_name_and_labels(&v[i - 2], &v[i]) == 0))
            continue;
        put_duplicate(to, v[i]);
        ++*found;
    }
    free(v);
    return NX_OK;
}

/* ---- one file -------------------------------------------------------------------------------------- */

struct telling {
    struct buf *errs;
    size_t skip; /* bytes of the name that stands before each text */
    bool any;
};

static void tell(void *ctx, const char *text)
{
    struct telling *t = ctx;

    buf_str(t->errs, t->any ? "" : "  FAILED:\n");
    buf_printf(t->errs, "%s\n", text + t->skip);
    t->any = true;
}

/* R3 */
static void warn(void *ctx, const char *text)
{
    (void)ctx;
    log_warn(text);
}

int rules_check(const char *path, struct nx_slice text, const struct rules_lint *l, struct buf *out,
                struct buf *errs)
{
    static const char stdin_name[] = "-";
    struct telling telling = {.errs = errs, .skip = path ? 0 : sizeof stdin_name + 1};
    const struct rule_load_opts opts = {.features = l->features,
                                        .ignore_unknown_fields = l->ignore_unknown_fields,
                                        .error = tell,
                                        .warn = warn,
                                        .ctx = &telling};
    const struct nx_slice file = nx_slice_str(path ? path : stdin_name);
    struct rule_files *f = NULL;
    struct nx_err err = {0};
    struct buf same;
    size_t n = 0;
    nx_status st;

    buf_printf(out, "Checking %s\n", path ? path : "standard input");
    st = path ? rule_files_load(&f, &file, 1, &opts, &err)
              : rule_files_parse(&f, text, stdin_name, &opts, &err);
    if (st) {
        if (!telling.any)
            buf_printf(errs, "  FAILED:\n%s\n", err.text);
        return 1; /* R1 */
    }
    buf_init(&same, 0);
    if (l->duplicates)
        st = find_duplicates(f, &same, &n);
    if (st)
        buf_str(errs, "  FAILED:\nout of memory\n");
    else if (n)
        buf_printf(
            errs,
            "  FAILED:\nlint error %zu duplicate rule(s) found.\n%sMight cause inconsistency "
            "while recording expressions\n",
            n, buf_cstr(&same));
    else
        buf_printf(out, "  SUCCESS: %zu rules found\n", f->n_rules);
    buf_char(out, '\n');
    buf_done(&same);
    rule_files_unref(f);
    return st ? 1 : n ? 3 : 0;
}

static void print(struct buf *out, struct buf *errs)
{
    fputs(buf_cstr(out), stdout);
    fflush(stdout);
    fputs(buf_cstr(errs), stderr);
    buf_clear(out);
    buf_clear(errs);
}

int tool_check_rules(const struct flags *f)
{
    struct rules_lint l = {.fatal = flags_bool(f, "lint-fatal"),
                           .ignore_unknown_fields = flags_bool(f, "ignore-unknown-fields"),
                           .features = tool_features(f)};
    struct buf out, errs, text;
    struct nx_err err = {0};
    bool bad = false, lint = false;

    rules_lint_read(&l, flags_str(f, "lint"), "");
    buf_init(&out, 0);
    buf_init(&errs, 0);
    buf_init(&text, NX_LIMIT_CONFIG_BYTES);
    for (size_t i = 0; i < f->n_args || (i == 0 && f->n_args == 0); i++) {
        const char *path = f->n_args ? f->args[i] : NULL;
        int one;

        if (!path && tool_read_all(STDIN_FILENO, &text, &err)) {
            printf("Checking standard input\n");
            fprintf(stderr, "  FAILED: %s\n", err.text);
            bad = true;
            break;
        }
        one = rules_check(path, buf_view(&text), &l, &out, &errs);
        print(&out, &errs);
        bad = bad || one == 1;
        lint = lint || one == 3;
    }
    buf_done(&out);
    buf_done(&errs);
    buf_done(&text);
    return bad ? 1 : lint && l.fatal ? 3 : 0;
}
