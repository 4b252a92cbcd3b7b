/* rewrite.c - changes of matchers in a tree that is to be printed. */
#include "promql/ast.h"

#include <string.h>

struct change {
    struct arena *a; /* NULL: delete */
    enum matcher_type type;
    struct nx_slice name, value;
    nx_status failed;
};

static void delete_matchers(struct pql_selector *s, struct nx_slice name)
{
    struct matcher *m =
        (struct matcher *)(uintptr_t)s->m; /* the tree is ours to change: see promql.h */
    size_t n = 0;

    for (size_t i = 0; i < s->n; i++) {
        if (nx_slice_eq(m[i].name, name))
            regex_free((struct regex *)(uintptr_t)m[i].re);
        else
            m[n++] = m[i];
    }
    s->n = n;
}

static void set_matchers(struct change *c, struct pql_selector *s)
{
    struct matcher *m = (struct matcher *)(uintptr_t)s->m, *more;
    bool found = false;

    for (size_t i = 0; i < s->n; i++) {
        if (!nx_slice_eq(m[i].name, c->name))
            continue;
        m[i].type = c->type;
        m[i].value = c->value;
        found = true;
    }
    if (found)
        return;
    more = arena_array(c->a, s->n + 1, sizeof *more);
    if (!more) {
        c->failed = NX_NOMEM;
        return;
    }
    if (s->n)
        memcpy(more, m, s->n * sizeof *more);
    more[s->n] = (struct matcher){.type = c->type, .name = c->name, .value = c->value};
    s->m = more;
    s->n++;
}

static void change(const struct pql_expr *e, struct change *c)
{
    struct pql_selector *s;

    switch (e->kind) {
    case PQL_NODE_NUMBER:
    case PQL_NODE_STRING:
        return;
    case PQL_NODE_SELECTOR:
        s = (struct pql_selector *)(uintptr_t)&e->selector;
        if (c->a)
            set_matchers(c, s);
        else
            delete_matchers(s, c->name);
        return;
    case PQL_NODE_RANGE:
        change(e->range.selector, c);
        return;
    case PQL_NODE_SUBQUERY:
        change(e->sub.inner, c);
        return;
    case PQL_NODE_CALL:
        for (size_t i = 0; i < e->call.n; i++)
            change(e->call.args[i], c);
        return;
    case PQL_NODE_AGGREGATE:
        if (e->agg.param)
            change(e->agg.param, c);
        change(e->agg.inner, c);
        return;
    case PQL_NODE_UNARY:
        change(e->unary.inner, c);
        return;
    case PQL_NODE_BINARY:
        change(e->binary.lhs, c);
        change(e->binary.rhs, c);
        return;
    case PQL_NODE_PAREN:
        change(e->paren, c);
        return;
    }
}

nx_status pql_set_matcher(struct arena *a, const struct pql_expr *e, enum matcher_type type,
                          struct nx_slice name, struct nx_slice value, struct nx_err *err)
{
    struct change c = {.a = a, .type = type, .name = name, .value = value};

    change(e, &c);
    return c.failed ? arena_failed(a, err) : NX_OK;
}

void pql_delete_matchers(const struct pql_expr *e, struct nx_slice name)
{
    struct change c = {.name = name};

    change(e, &c);
}
