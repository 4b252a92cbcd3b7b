/* fn_label.c - label_replace and label_join: they change labels and never look at a value. */
#include "promql/fn.h"

#include <string.h>

#include "src/base/regex.h"

struct relabel {
    struct pql_call *c;
    struct nx_slice dst;
    struct labels *labels;
    uint8_t *drop;
    struct labels_builder builder;
    struct buf text;
};

static nx_status relabel_open(struct relabel *r, struct pql_call *c, struct nx_err *err)
{
    size_t n;
    nx_status st = eval_rows(c->ev, c->e->call.args[0], c->tm, &c->rows, err);

    *r = (struct relabel){.c = c, .dst = eval_string(c->e->call.args[1])};
    labels_builder_init(&r->builder);
    buf_init(&r->text, 0);
    if (st)
        return st;
    n = c->rows->n + 1;
    r->labels = arena_array(c->ev->work, n, sizeof *r->labels);
    r->drop = arena_array(c->ev->work, n, 1);
    if (!r->labels || !r->drop)
        return eval_nomem(c->ev, c->ev->work, err);
    for (size_t i = 0; i < c->rows->n; i++) {
        r->labels[i] = c->rows->labels[i];
        r->drop[i] = row_drops(c->rows, i);
    }
    return NX_OK;
}

/* Gives row i the text in the buffer as its new label. */
static nx_status relabel_set(struct relabel *r, size_t i, struct nx_err *err)
{
    struct eval *ev = r->c->ev;
    nx_status st = buf_status(&r->text, err);
    struct nx_slice value;

    if (st)
        return st;
    value = arena_slice(ev->out, buf_view(&r->text));
    if (!value.ptr)
        return eval_nomem(ev, ev->out, err);
    labels_builder_reset(&r->builder, &r->labels[i]);
    labels_builder_set(&r->builder, r->dst, value);
    if (nx_slice_is(r->dst, LABEL_NAME))
        r->drop[i] = 0;
    return labels_keep(ev, &r->builder, &r->labels[i], err);
}

static nx_status relabel_close(struct relabel *r, nx_status st, struct nx_err *err)
{
    labels_builder_done(&r->builder);
    buf_done(&r->text);
    if (st)
        return st;
    r->c->rows->labels = r->labels;
    if (r->c->rows->drop)
        r->c->rows->drop = r->drop;
    return rows_merge(r->c->ev, r->c->rows, false, err);
}

static nx_status replace_all(struct relabel *r, const struct regex *re, struct nx_err *err)
{
    const struct pql_expr *const *args = (const struct pql_expr *const *)r->c->e->call.args;
    struct nx_slice replacement = eval_string(args[2]), src = eval_string(args[3]);
    nx_status st = NX_OK;

    for (size_t i = 0; i < r->c->rows->n && !st; i++) {
        buf_clear(&r->text);
        if (regex_expand(re, labels_get(&r->labels[i], src), replacement, &r->text))
            st = relabel_set(r, i, err);
    }
    return st;
}

nx_status fn_label_replace(struct pql_call *c, struct nx_err *err)
{
    struct nx_slice pattern = eval_string(c->e->call.args[4]),
                    dst = eval_string(c->e->call.args[1]);
    struct regex *re = NULL;
    struct relabel r;
    nx_status st;

    if (regex_new_for_relabel(&re, pattern, NULL))
        return nx_fail(err, NX_EXEC, "invalid regular expression in label_replace(): %.*s",
                       (int)pattern.len, pattern.ptr);
    if (!label_name_valid(dst)) {
        regex_free(re);
        return nx_fail(err, NX_EXEC, "invalid destination label name in label_replace(): %.*s",
                       (int)dst.len, dst.ptr);
    }
    st = relabel_open(&r, c, err);
    if (!st)
        st = replace_all(&r, re, err);
    regex_free(re);
    return relabel_close(&r, st, err);
}

static nx_status join_all(struct relabel *r, struct nx_err *err)
{
    const struct pql_expr *e = r->c->e;
    struct nx_slice sep = eval_string(e->call.args[2]);
    nx_status st = NX_OK;

    for (size_t i = 0; i < r->c->rows->n && !st; i++) {
        buf_clear(&r->text);
        for (size_t k = 3; k < e->call.n; k++) {
            if (k > 3)
                buf_slice(&r->text, sep);
            buf_slice(&r->text, labels_get(&r->labels[i], eval_string(e->call.args[k])));
        }
        st = relabel_set(r, i, err);
    }
    return st;
}

nx_status fn_label_join(struct pql_call *c, struct nx_err *err)
{
    struct nx_slice dst = eval_string(c->e->call.args[1]);
    struct relabel r;
    nx_status st;

    for (size_t k = 3; k < c->e->call.n; k++) {
        struct nx_slice src = eval_string(c->e->call.args[k]);

        if (!label_name_valid(src))
            return nx_fail(err, NX_EXEC, "invalid source label name in label_join(): %.*s",
                           (int)src.len, src.ptr);
    }
    if (!label_name_valid(dst))
        return nx_fail(err, NX_EXEC, "invalid destination label name in label_join(): %.*s",
                       (int)dst.len, dst.ptr);
    st = relabel_open(&r, c, err);
    if (!st)
        st = join_all(&r, err);
    return relabel_close(&r, st, err);
}
