/* fn_misc.c - functions over whole vectors that are no mathematics: absent, vector, scalar, timestamp,
 * sorting, and what is answered for native histograms while there are none. */
#include "promql/fn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

nx_status rows_made(struct eval *ev, const struct eval_times *tm, size_t n, struct rows **out,
                    struct nx_err *err)
{
    struct rows *r = NULL;
    nx_status st = rows_new(ev, tm, n, &r, err);

    if (st)
        return st;
    r->n = 0;
    r->data = arena_array(ev->work, n ? n : 1, sizeof *r->data);
    if (!r->data)
        return eval_nomem(ev, ev->work, err);
    *out = r;
    return NX_OK;
}

nx_status rows_append(struct eval *ev, struct rows *r, const struct labels *labels,
                      struct row **out, struct nx_err *err)
{
    nx_status st = row_new(ev, r->tm, &r->data[r->n], err);

    if (st)
        return st;
    memset(r->data[r->n].has, 0, r->tm->n);
    r->labels[r->n] = *labels;
    *out = &r->data[r->n++];
    return NX_OK;
}

/* ---- absent ------------------------------------------------------------------------------------ */

/* Whether series are taken away by it, where others have to have its label or none has to. */
static bool is_subtracting(const struct pql_selector *sel, const struct matcher *m)
{
    const struct nx_slice none = {"", 0};
    bool must_be_set = false;

    for (size_t i = 0; i < sel->n; i++)
        must_be_set |= nx_slice_eq(sel->m[i].name, m->name) && !matcher_matches(&sel->m[i], none);
    return !must_be_set ||
           ((m->type == MATCH_NEQ || m->type == MATCH_NRE) && matcher_matches(m, none));
}

/* Matcher i says what its label is. One that others were seen for before says nothing. */
static void absent_label(struct labels_builder *b, const struct pql_selector *sel, size_t i,
                         bool subtracting)
{
    const struct matcher *m = &sel->m[i];
    bool had = false;

    if (nx_slice_is(m->name, LABEL_NAME) || is_subtracting(sel, m) != subtracting)
        return;
    for (size_t j = 0; j < sel->n; j++) {
        const struct matcher *o = &sel->m[j];

        if (o->type == MATCH_EQ && nx_slice_eq(o->name, m->name))
            had |= is_subtracting(sel, o) == subtracting ? j < i : subtracting;
    }
    if (m->type == MATCH_EQ && !had)
        labels_builder_set(b, m->name, m->value);
    else
        labels_builder_del(b, m->name);
}

/* The labels that absent() gives for an argument: those that its selector demands. Of several matchers for a label the
 * last decides, in Prometheus's order: those that take series away come last there. */
static nx_status absent_labels(struct eval *ev, const struct pql_expr *arg, struct labels *out,
                               struct nx_err *err)
{
    const struct pql_selector *sel = NULL;
    struct labels_builder b;
    nx_status st;

    arg = eval_unparen(arg);
    if (arg->kind == PQL_NODE_SELECTOR)
        sel = &arg->selector;
    else if (arg->kind == PQL_NODE_RANGE)
        sel = &arg->range.selector->selector;
    labels_builder_init(&b);
    for (size_t i = 0; sel && i < sel->n; i++)
        absent_label(&b, sel, i, false);
    for (size_t i = 0; sel && i < sel->n; i++)
        absent_label(&b, sel, i, true);
    st = labels_keep(ev, &b, out, err);
    labels_builder_done(&b);
    return st;
}

static nx_status absent_of(struct pql_call *c, struct rows *in, struct nx_err *err)
{
    struct row scratch, row, *out;
    struct labels labels;
    nx_status st = absent_labels(c->ev, c->e->call.args[0], &labels, err);

    if (!st)
        st = row_new(c->ev, c->tm, &scratch, err);
    if (!st)
        st = rows_made(c->ev, c->tm, 1, &c->rows, err);
    if (!st)
        st = rows_append(c->ev, c->rows, &labels, &out, err);
    if (st)
        return st;
    rows_ahead(c->ev, in);
    for (size_t i = 0; i < in->n; i++) {
        st = rows_view(c->ev, in, i, &scratch, &row, err);
        if (st)
            return st;
        for (uint32_t k = 0; k < c->tm->n; k++)
            out->has[k] |= row.has[k];
    }
    for (uint32_t k = 0; k < c->tm->n; k++) {
        out->has[k] = !out->has[k];
        out->v[k] = 1;
        out->points += out->has[k];
    }
    rows_release(c->ev, in);
    if (!out->points)
        c->rows->n = 0;
    return eval_hold(c->ev, c->rows, out->points, err);
}

nx_status fn_absent(struct pql_call *c, struct nx_err *err)
{
    struct rows *in;
    nx_status st = eval_rows(c->ev, c->e->call.args[0], c->tm, &in, err);

    return st ? st : absent_of(c, in, err);
}

nx_status fn_absent_over_time(struct pql_call *c, struct nx_err *err)
{
    /* The same call of another function; with names, or series could become alike. */
    struct pql_expr *present = arena_alloc(c->ev->work, sizeof *present);
    struct pql_func *func = arena_alloc(c->ev->work, sizeof *func);
    struct rows *in;
    nx_status st;

    if (!present || !func)
        return eval_nomem(c->ev, c->ev->work, err);
    *func = *pql_func_find(nx_slice_str("present_over_time"));
    func->flags |= PQL_F_KEEP_NAME;
    func->name = c->e->call.func->name; /* for errors */
    *present = *c->e;
    present->call.func = func;
    st = eval_range_call(c->ev, present, c->tm, &in, err);
    return st ? st : absent_of(c, in, err);
}

/* ---- between scalars and vectors ------------------------------------------------------------------ */

nx_status fn_vector(struct pql_call *c, struct nx_err *err)
{
    const struct labels none = {0};
    struct row *out;
    double *v;
    nx_status st = eval_scalar(c->ev, c->e->call.args[0], c->tm, &v, err);

    if (!st)
        st = rows_made(c->ev, c->tm, 1, &c->rows, err);
    if (!st)
        st = rows_append(c->ev, c->rows, &none, &out, err);
    if (st)
        return st;
    memcpy(out->v, v, c->tm->n * sizeof *v);
    memset(out->has, 1, c->tm->n);
    out->points = c->tm->n;
    return eval_hold(c->ev, c->rows, c->tm->n, err);
}

nx_status fn_scalar(struct pql_call *c, struct nx_err *err)
{
    struct row scratch, row;
    struct rows *in;
    uint8_t *seen = arena_zalloc(c->ev->work, c->tm->n);
    nx_status st;

    if (!seen)
        return eval_nomem(c->ev, c->ev->work, err);
    st = eval_rows(c->ev, c->e->call.args[0], c->tm, &in, err);
    if (!st)
        st = row_new(c->ev, c->tm, &scratch, err);
    for (uint32_t k = 0; k < c->tm->n && !st; k++)
        c->scalar[k] = (double)NAN;
    if (!st)
        rows_ahead(c->ev, in);
    for (size_t i = 0; !st && i < in->n; i++) {
        st = rows_view(c->ev, in, i, &scratch, &row, err);
        for (uint32_t k = 0; k < c->tm->n && !st; k++) {
            if (!row.has[k])
                continue;
            c->scalar[k] = seen[k] ? (double)NAN : row.v[k];
            seen[k] = 1;
        }
    }
    if (!st)
        rows_release(c->ev, in);
    return st;
}

/* ---- timestamps ------------------------------------------------------------------------------------ */

static nx_status step_times_pull(struct eval *ev, struct rows *r, size_t i, struct row *into,
                                 struct nx_err *err)
{
    nx_status st = rows_pull(ev, r->child, i, into, err);

    for (uint32_t k = 0; k < r->tm->n && !st; k++)
        into->v[k] = (double)eval_time(r->tm, k) / 1000;
    return st;
}

nx_status fn_timestamp(struct pql_call *c, struct nx_err *err)
{
    const struct pql_expr *arg = eval_unparen(c->e->call.args[0]);
    struct rows *in;
    nx_status st;

    if (arg->kind == PQL_NODE_SELECTOR) {
        st = eval_selector(c->ev, arg, c->tm, true, &c->rows, err);
    } else {
        st = eval_rows(c->ev, arg, c->tm, &in, err);
        if (!st)
            st = rows_over(c->ev, in, step_times_pull, NULL, &c->rows, err);
    }
    return st ? st : rows_drop_names(c->ev, c->rows, false, err);
}

/* The argument is evaluated, for its errors; no sample of ours is of the kind that counts. */
nx_status fn_native_only(struct pql_call *c, struct nx_err *err)
{
    struct rows *in;
    nx_status st = eval_rows(c->ev, c->e->call.args[0], c->tm, &in, err);

    if (!st)
        st = rows_make(c->ev, in, err);
    if (st)
        return st;
    rows_release(c->ev, in);
    return rows_made(c->ev, c->tm, 0, &c->rows, err);
}

/* Samples have no start timestamps here. */
nx_status fn_start_timestamp(struct pql_call *c, struct nx_err *err)
{
    return fn_native_only(c, err);
}

/* ---- sorting --------------------------------------------------------------------------------------- */

struct sort_key {
    const struct rows *r;
    const struct pql_expr *e;
    bool by_label, desc;
};

static int compare_row_values(double a, double b, bool desc)
{
    if (isnan(a) || isnan(b))
        return isnan(a) - isnan(b);
    return desc ? (a < b) - (a > b) : (a > b) - (a < b);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The next run of digits, or of what are none. */
static struct nx_slice next_run(struct nx_slice *s, bool *digits)
{
    size_t n = 1;

    *digits = is_digit(s->ptr[0]);
    while (n < s->len && is_digit(s->ptr[n]) == *digits)
        n++;
    struct nx_slice run = {s->ptr, n};
    s->ptr += n;
    s->len -= n;
    return run;
}

static bool run_number(struct nx_slice s, uint64_t *n)
{
    *n = 0;
    if (s.len > 18)
        return false;
    for (size_t i = 0; i < s.len; i++)
        *n = *n * 10 + (uint64_t)(s.ptr[i] - '0');
    return true;
}

/* Natural order: runs of digits by their number. */
static int compare_natural(struct nx_slice a, struct nx_slice b)
{
    while (a.len && b.len) {
        bool a_digits, b_digits;
        struct nx_slice x = next_run(&a, &a_digits), y = next_run(&b, &b_digits);
        uint64_t i, j;
        int by_text = nx_slice_cmp(x, y);

        if (a_digits && b_digits && run_number(x, &i) && run_number(y, &j)) {
            if (i != j)
                return i < j ? -1 : 1;
        } else if (by_text) {
            return by_text;
        }
    }
    return a.len ? 1 : b.len ? -1 : 0;
}

static int compare_rows(const struct sort_key *key, size_t a, size_t b)
{
    const struct labels *x = &key->r->labels[a], *y = &key->r->labels[b];
    int d;

    if (!key->by_label)
        return compare_row_values(key->r->data[a].v[0], key->r->data[b].v[0], key->desc);
    for (size_t i = 1; i < key->e->call.n; i++) {
        struct nx_slice name = eval_string(key->e->call.args[i]);

        d = compare_natural(labels_get(x, name), labels_get(y, name));
        if (d)
            return key->desc ? -d : d;
    }
    d = labels_cmp(x, y);
    return key->desc ? -d : d;
}

/* Stable: equal rows stay in the order they came in. */
static nx_status merge_sort(struct eval *ev, const struct sort_key *key, uint32_t *v, uint32_t *tmp,
                            size_t n, struct nx_err *err)
{
    size_t half = n / 2, i = 0, j = half, k = 0;
    nx_status st;

    if (n < 2)
        return NX_OK;
    st = merge_sort(ev, key, v, tmp, half, err);
    if (!st)
        st = merge_sort(ev, key, v + half, tmp, n - half, err);
    if (!st)
        st = eval_spend(ev, n, err);
    if (st)
        return st;
    memcpy(tmp, v, n * sizeof *v);
    while (i < half || j < n)
        v[k++] =
            j >= n || (i < half && compare_rows(key, tmp[i], tmp[j]) <= 0) ? tmp[i++] : tmp[j++];
    return NX_OK;
}

static nx_status sort_rows(struct eval *ev, struct rows *r, const struct sort_key *key,
                           struct nx_err *err)
{
    uint32_t *order = arena_array(ev->work, r->n + 1, sizeof *order);
    uint32_t *tmp = arena_array(ev->work, r->n + 1, sizeof *tmp);
    struct labels *labels = arena_array(ev->work, r->n + 1, sizeof *labels);
    struct row *data = arena_array(ev->work, r->n + 1, sizeof *data);
    uint8_t *drop = arena_array(ev->work, r->n + 1, 1);
    nx_status st;

    if (!order || !tmp || !labels || !data || !drop)
        return eval_nomem(ev, ev->work, err);
    for (size_t i = 0; i < r->n; i++)
        order[i] = (uint32_t)i;
    st = merge_sort(ev, key, order, tmp, r->n, err);
    if (st)
        return st;
    for (size_t i = 0; i < r->n; i++) {
        labels[i] = r->labels[order[i]];
        data[i] = r->data[order[i]];
        drop[i] = row_drops(r, order[i]);
    }
    r->labels = labels;
    r->data = data;
    r->drop = r->drop ? drop : NULL;
    return NX_OK;
}

static nx_status sort_call(struct pql_call *c, bool by_label, bool desc, struct nx_err *err)
{
    struct sort_key key = {.e = c->e, .by_label = by_label, .desc = desc};
    nx_status st;

    if (c->tm->start != c->tm->end) {
        st = eval_rows(c->ev, c->e->call.args[0], c->tm, &c->rows, err);
        annots_add(
            &c->ev->annots, ANNOT_WARNING, c->e->pos,
            "sort is ineffective for range queries since results are always ordered by labels");
        return st;
    }
    st = eval_rows(c->ev, c->e->call.args[0], c->tm, &c->rows, err);
    if (!st)
        st = rows_make(c->ev, c->rows, err);
    if (st)
        return st;
    key.r = c->rows;
    return sort_rows(c->ev, c->rows, &key, err);
}

nx_status fn_sort(struct pql_call *c, struct nx_err *err)
{
    return sort_call(c, false, false, err);
}

nx_status fn_sort_desc(struct pql_call *c, struct nx_err *err)
{
    return sort_call(c, false, true, err);
}

nx_status fn_sort_by_label(struct pql_call *c, struct nx_err *err)
{
    return sort_call(c, true, false, err);
}

nx_status fn_sort_by_label_desc(struct pql_call *c, struct nx_err *err)
{
    return sort_call(c, true, true, err);
}
