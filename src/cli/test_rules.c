#include "src/cli/test_rules.h"

/* test_rules.c - `test rules`: files of unit tests, what is printed of them, and the JUnit file.
 *
 * RULES   F1  What went wrong goes to standard error, the rest to standard output: a line for each file, and an
 *             empty line behind each error and each file.
 *         F2  The JUnit file holds a suite for each file and a case for each test that ran. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "src/base/clock.h"
#include "src/base/regex.h"
#include "src/base/text.h"
#include "src/cli/moment.h"
#include "src/cli/tool.h"

struct suite {
    struct buf cases; /* XML */
    size_t n_tests, n_failures, n_errors;
    char timestamp[40];
};

struct testing {
    const struct unit_opts *opts;
    const struct regex *run; /* NULL: all tests */
    struct arena *a;         /* of the file */
    struct unit_errors errors;
    struct suite suite;
};

/* ---- JUnit ----------------------------------------------------------------------------------------- */

/* As Go's encoding/xml escapes text. */
static void put_xml(struct buf *b, const char *s)
{
    static const char *const escapes[128] = {
        ['"'] = "&#34;", ['\''] = "&#39;", ['&'] = "&amp;",  ['<'] = "&lt;",
        ['>'] = "&gt;",  ['\t'] = "&#x9;", ['\n'] = "&#xA;", ['\r'] = "&#xD;"};

    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 128 && escapes[c])
            buf_str(b, escapes[c]);
        else if (c < 32)
            buf_str(b, "\xef\xbf\xbd"); /* no XML has it */
        else
            buf_char(b, *s);
    }
}

static void begin_case(struct suite *s, const char *name)
{
    s->n_tests++;
    buf_str(&s->cases, "<testcase name=\"");
    put_xml(&s->cases, name);
    buf_str(&s->cases, "\">");
}

static void put_element(struct suite *s, const char *name, const char *text)
{
    buf_printf(&s->cases, "<%s>", name);
    put_xml(&s->cases, text);
    buf_printf(&s->cases, "</%s>", name);
}

static void end_suite(struct suite *s, const char *path, struct buf *xml)
{
    buf_str(xml, "<testsuite name=\"");
    put_xml(xml, path);
    buf_printf(xml,
               "\" tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" skipped=\"0\" timestamp=\"%s\">",
               s->n_tests, s->n_failures, s->n_errors, s->timestamp);
    buf_slice(xml, buf_view(&s->cases));
    buf_str(xml, "</testsuite>");
}

static void write_junit(FILE *f, const struct buf *xml)
{
    bool ok = fwrite("<testsuites>", 1, 12, f) == 12 &&
              fwrite(xml->ptr ? xml->ptr : "", 1, xml->len, f) == xml->len &&
              fwrite("</testsuites>", 1, 13, f) == 13;

    if (fclose(f) != 0 || !ok)
        fprintf(stderr, "failed to write JUnit XML: %s\n", strerror(errno));
}

/* ---- one file -------------------------------------------------------------------------------------- */

/* The whole file is of no use. */
static void abort_file(struct testing *t, const char *why)
{
    unit_error_text(&t->errors, why);
    begin_case(&t->suite, "unknown");
    put_element(&t->suite, "error", why);
    buf_str(&t->suite.cases, "</testcase>");
    t->suite.n_errors++;
}

static bool is_among(const struct config_strings *list, struct nx_slice s)
{
    for (size_t i = 0; i < list->n; i++)
        if (nx_slice_eq(list->v[i], s))
            return true;
    return false;
}

/* Patterns from the file's folder to files, each once. */
static nx_status find_files(struct testing *t, const char *path, const struct config_tests *file,
                            struct config_strings *out, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < file->rule_files.n && !st; i++) {
        struct config_strings found = {0};
        const char *given = file->rule_files.v[i].ptr;
        const char *pattern = *given ? config_path_beside(t->a, path, given) : given;

        st = pattern ? config_glob(pattern, t->a, &found, err) : arena_failed(t->a, err);
        if (!st && !found.n) {
            fflush(stdout);
            fprintf(stderr, "  WARNING: no file match pattern %s\n", pattern);
        }
        out->v =
            arena_grow(t->a, out->v, out->n * sizeof *out->v, (out->n + found.n) * sizeof *out->v);
        if (!st && !out->v)
            st = arena_failed(t->a, err);
        for (size_t k = 0; k < found.n && !st; k++)
            if (!is_among(out, found.v[k]))
                out->v[out->n++] = found.v[k];
    }
    return st;
}

static nx_status check_file(const struct config_tests *file, struct nx_err *err)
{
    int64_t ns;

    for (size_t i = 0; i < file->tests.n; i++)
        if (file->tests.v[i].start_timestamp.len &&
            moment_parse(file->tests.v[i].start_timestamp.ptr, &ns, err))
            return NX_BADINPUT;
    for (size_t i = 0; i < file->group_order.n; i++)
        for (size_t k = 0; k < i; k++)
            if (nx_slice_eq(file->group_order.v[i], file->group_order.v[k]))
                return nx_fail(err, NX_BADINPUT, "group name repeated in evaluation order: %s",
                               file->group_order.v[i].ptr);
    return NX_OK;
}

static void run_test(struct testing *t, const struct config_tests *file, size_t i,
                     const struct config_strings *rule_files)
{
    const struct config_test *test = &file->tests.v[i];
    size_t before = t->errors.n;
    char unnamed[40];
    const char *name = test->name.ptr;

    if (t->run && !regex_search(t->run, test->name))
        return;
    if (!test->name.len) {
        snprintf(unnamed, sizeof unnamed, "unnamed#%zu", i);
        name = unnamed;
    }
    begin_case(&t->suite, name);
    unit_test_run(file, test, name, rule_files, t->opts, &t->errors);
    for (size_t k = before; k < t->errors.n; k++)
        put_element(&t->suite, "failure", t->errors.v[k]);
    t->suite.n_failures += t->errors.n - before;
    buf_str(&t->suite.cases, "</testcase>");
}

static void run_file(struct testing *t, const char *path)
{
    struct config_tests file = {0};
    struct config_strings rule_files = {0};
    struct nx_err err = {0};
    time_t now = (time_t)(clock_now_ms() / 1000);
    struct tm tm;
    nx_status st = config_load_tests(&file, path, t->a, &err);

    if (!st)
        st = find_files(t, path, &file, &rule_files, &err);
    if (!st)
        st = check_file(&file, &err);
    if (st) {
        abort_file(t, err.text);
        return;
    }
    strftime(t->suite.timestamp, sizeof t->suite.timestamp, "%Y-%m-%dT%H:%M:%S",
             localtime_r(&now, &tm));
    for (size_t i = 0; i < file.tests.n; i++)
        run_test(t, &file, i, &rule_files);
}

static bool test_file(const char *path, const struct unit_opts *opts, const struct regex *run,
                      struct buf *xml)
{
    struct testing t = {.opts = opts, .run = run, .a = arena_new(0)};
    bool failed;

    buf_init(&t.suite.cases, 0);
    t.errors.a = t.a;
    printf("Unit Testing:  %s\n", path);
    fflush(stdout);
    if (t.a)
        run_file(&t, path);
    failed = !t.a || t.errors.n || t.errors.nomem;
    if (failed)
        fprintf(stderr, "  FAILED:\n");
    if (!t.a || t.errors.nomem)
        fprintf(stderr, "out of memory\n");
    for (size_t i = 0; i < t.errors.n; i++) {
        fprintf(stderr, "%s\n", t.errors.v[i]);
        printf("\n"); /* F1 */
        fflush(stdout);
    }
    printf(failed ? "\n" : "  SUCCESS\n\n");
    fflush(stdout);
    end_suite(&t.suite, path, xml);
    buf_done(&t.suite.cases);
    arena_free(t.a);
    return !failed;
}

/* ---- the command ----------------------------------------------------------------------------------- */

/* The patterns of --run, of which one may fit anywhere in a name. */
static nx_status compile_run(const struct flags *f, struct regex **out, struct nx_err *err)
{
    const char *const *v;
    size_t n = flags_list(f, "run", &v);
    struct buf b;
    nx_status st;

    if (!n)
        return NX_OK;
    buf_init(&b, 0);
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%s%s", i ? "|" : "", v[i]);
    st = buf_status(&b, err);
    if (!st)
        st = regex_new_search(out, buf_view(&b), err);
    buf_done(&b);
    return st;
}

int tool_test_rules(const struct flags *f)
{
    const struct unit_opts opts = {.features = tool_features(f),
                                   .debug = flags_bool(f, "debug"),
                                   .diff = flags_bool(f, "diff"),
                                   .ignore_unknown_fields = flags_bool(f, "ignore-unknown-fields")};
    const char *junit = flags_str(f, "junit");
    struct regex *run = NULL;
    struct nx_err err = {0};
    struct buf xml;
    FILE *out = NULL;
    int code = 0;

    if (*junit && !(out = fopen(junit, "we"))) {
        fprintf(stderr, "promtool: error: open %s: %s, try --help\n", junit, strerror(errno));
        return 1;
    }
    if (compile_run(f, &run, &err)) {
        fprintf(stderr, "promtool: error: %s, try --help\n", err.text);
        if (out)
            fclose(out);
        return 1;
    }
    buf_init(&xml, 0);
    for (size_t i = 0; i < f->n_args; i++)
        if (!test_file(f->args[i], &opts, run, &xml))
            code = 1;
    if (out)
        write_junit(out, &xml);
    buf_done(&xml);
    regex_free(run);
    return code;
}
