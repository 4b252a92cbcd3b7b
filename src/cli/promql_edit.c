#include "src/cli/tool.h"

/* promql_edit.c - `promql format` and `promql label-matchers set|delete`. */

#include <stdio.h>
#include <string.h>

#include "promql/promql.h"

/* Parses the first argument. Tells on standard error what is wrong. */
static const struct pql_expr *parse(const struct flags *f, struct arena *a)
{
    const struct pql_features features = tool_features(f);
    const struct pql_expr *e = NULL;
    struct nx_err err = {0};

    if (!flags_bool(f, "experimental"))
        fprintf(stderr,
                "This command is experimental and requires the --experimental flag to be set.\n");
    else if (!a || pql_parse(a, nx_slice_str(f->args[0]), &features, &e, &err))
        fprintf(stderr, "%s\n", a ? err.text : "out of memory");
    return e;
}

static int finish(const struct pql_expr *e, struct arena *a, bool ok)
{
    struct buf b;

    buf_init(&b, 0);
    if (ok) {
        pql_format(&b, e);
        printf("%s\n", buf_cstr(&b));
    }
    buf_done(&b);
    pql_expr_done(e);
    arena_free(a);
    return ok ? 0 : 1;
}

int tool_promql_format(const struct flags *f)
{
    struct arena *a = arena_new(0);
    const struct pql_expr *e = parse(f, a);

    return finish(e, a, e != NULL);
}

int tool_promql_set(const struct flags *f)
{
    static const char *const types[] = {
        [MATCH_EQ] = "=", [MATCH_NEQ] = "!=", [MATCH_RE] = "=~", [MATCH_NRE] = "!~"};
    struct arena *a = arena_new(0);
    const struct pql_expr *e = parse(f, a);
    const char *type = flags_str(f, "type");
    struct nx_err err = {0};
    bool ok = false;
    size_t i = 0;

    while (e && i < NX_COUNT(types) && strcmp(types[i], type) != 0)
        i++;
    if (e && i == NX_COUNT(types))
        fprintf(stderr, "invalid label match type: %s\n", type);
    else if (e && pql_set_matcher(a, e, (enum matcher_type)i, nx_slice_str(f->args[1]),
                                  nx_slice_str(f->args[2]), &err))
        fprintf(stderr, "%s\n", err.text);
    else
        ok = e != NULL;
    return finish(e, a, ok);
}

int tool_promql_delete(const struct flags *f)
{
    struct arena *a = arena_new(0);
    const struct pql_expr *e = parse(f, a);

    if (e)
        pql_delete_matchers(e, nx_slice_str(f->args[1]));
    return finish(e, a, e != NULL);
}
