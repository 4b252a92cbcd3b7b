/* fuzz_parse.c - any text: the parser takes or refuses it; what it takes, it prints so that it reads
 * the same again, on one line and laid out.
 *
 * The exceptions are Prometheus's: a range or step below a millisecond prints as 0s, the empty selector
 * that info() may have as nothing, and Inf ^ 2 as +Inf ^ 2, which reads as a plus before Inf ^ 2. */
#include <stdlib.h>
#include <string.h>

#include "promql/ast.h"
#include "src/base/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct pql_features everything = {
    .experimental_functions = true, .binop_fill = true, .extended_range = true};

static void require(bool what)
{
    if (!what)
        abort();
}

/* Parses `text` and prints it to `out`. False if it is refused; `err` then says why. */
static bool print_of(struct nx_slice text, void (*printer)(struct buf *, const struct pql_expr *),
                     struct buf *out, struct nx_err *err)
{
    struct arena *a = arena_new(0);
    const struct pql_expr *e = NULL;
    struct buf tree;
    nx_status st;

    require(a != NULL);
    st = pql_parse(a, text, &everything, &e, err);
    require(st == NX_OK || st == NX_BADINPUT);
    if (st == NX_OK) {
        require(e->height <= NX_LIMIT_QUERY_DEPTH);
        printer(out, e);
        buf_init(&tree, 0);
        pql_print_tree(&tree, e);
        require(tree.failed == NX_OK);
        buf_done(&tree);
        require(out->failed == NX_OK);
    } else {
        require(strstr(err->text, "parse error: ") != NULL);
    }
    pql_expr_done(e);
    arena_free(a);
    return st == NX_OK;
}

/* "+Inf ^", laid out or not. */
static bool raises_infinity(struct nx_slice text)
{
    const char *p = text.ptr, *end = text.ptr + text.len;

    while ((p = memmem(p, (size_t)(end - p), "+Inf", 4))) {
        p += 4;
        while (p < end && (*p == ' ' || *p == '\n'))
            p++;
        if (p < end && *p == '^')
            return true;
    }
    return false;
}

static void reads_the_same(struct nx_slice text, const struct buf *want)
{
    struct nx_err err;
    struct buf again;

    buf_init(&again, 0);
    if (print_of(text, pql_print, &again, &err))
        require(nx_slice_eq(buf_view(&again), buf_view(want)) || raises_infinity(text));
    else
        require(strstr(err.text, "duration must be greater than 0") ||
                (strstr(err.text, "trailing commas not allowed") &&
                 memmem(text.ptr, text.len, "info(", 5)));
    buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nx_slice text = nx_slice_of((const char *)data, size);
    struct buf once, pretty;
    struct arena *a = arena_new(0);
    struct matcher *m;
    struct nx_err err;
    size_t n;

    require(a != NULL);
    buf_init(&once, 0);
    buf_init(&pretty, 0);
    if (print_of(text, pql_print, &once, &err) && print_of(text, pql_format, &pretty, &err)) {
        reads_the_same(buf_view(&once), &once);
        reads_the_same(buf_view(&pretty), &once);
    }
    if (pql_parse_selector(a, text, &m, &n, NULL) == NX_OK)
        pql_matchers_done(m, n);
    buf_done(&once);
    buf_done(&pretty);
    arena_free(a);
    return 0;
}
