#include "src/web/http.h"

/* api_series.c - /api/v1/labels, label/<name>/values, series: what is in the index, without samples. */

#include <stdlib.h>
#include <string.h>

#include "src/base/sort.h"
#include "src/base/text.h"

#define TRUNCATED "results truncated due to limit"

struct names {
    struct nx_slice *v;
    size_t n;
};

static void sort_unique(struct names *names)
{
    size_t n = 0;

    nx_sort_slices(names->v, names->n);
    for (size_t i = 0; i < names->n; i++)
        if (!n || !nx_slice_eq(names->v[n - 1], names->v[i]))
            names->v[n++] = names->v[i];
    names->n = n;
}

static void put_name(void *ctx, size_t i, struct buf *out)
{
    struct names *names = ctx;

    json_text(out, names->v[i]);
}

/* start, end, limit and match[] of all three calls. */
struct ask {
    int64_t mint, maxt;
    size_t limit;
    struct web_match_sets sets;
    struct querier *q;
};

static nx_status ask_open(struct web_req *r, struct ask *a, struct nx_err *err)
{
    struct memory *memory = web_ctx(r->w)->opts->memory;
    nx_status st = web_param_limit(r, &a->limit, err);

    if (!st)
        st = memory_admit_query(memory, err);
    r->share = (struct arena_share){
        .limit_bytes = (size_t)(memory_limit(memory) / 3), .memory = memory, .cancel = &r->cancel};
    if (!st)
        arena_join(r->arena, &r->share);
    if (!st)
        st = web_param_time(r, "start", INT64_MIN, &a->mint, err);
    if (!st)
        st = web_param_time(r, "end", INT64_MAX, &a->maxt, err);
    if (!st)
        st = web_param_matches(r, &a->sets, err);
    if (!st)
        st = storage_querier(web_data(r->w)->storage, a->mint, a->maxt, &a->q, err);
    return st;
}

static void ask_done(struct ask *a)
{
    querier_close(a->q);
    web_match_sets_done(&a->sets);
}

/* Label names, or the values of `name`, over all match sets together. */
static nx_status collect(struct web_req *r, struct ask *a, const struct nx_slice *name,
                         struct names *out, struct nx_err *err)
{
    size_t rounds = a->sets.n ? a->sets.n : 1, cap = 0;

    for (size_t i = 0; i < rounds; i++) {
        const struct matcher *m = a->sets.n ? a->sets.v[i].m : NULL;
        size_t n_m = a->sets.n ? a->sets.v[i].n : 0, n = 0;
        struct nx_slice *v = NULL;
        nx_status st = web_check(r, err);
        if (st)
            return st;
        st = name ? a->q->ops->label_values(a->q, *name, m, n_m, a->mint, a->maxt, a->limit,
                                            r->arena, &v, &n, err)
                  : a->q->ops->label_names(a->q, m, n_m, a->mint, a->maxt, a->limit, r->arena, &v,
                                           &n, err);
        if (st)
            return st;
        if (out->n + n > cap || !out->v) {
            size_t more = i ? 2 * (out->n + n) : n;
            struct nx_slice *all = arena_grow(r->arena, out->v, cap * sizeof *v, more * sizeof *v);
            if (!all)
                return arena_failed(r->arena, err);
            out->v = all;
            cap = more;
        }
        if (n)
            memcpy(out->v + out->n, v, n * sizeof *v);
        out->n += n;
    }
    if (rounds > 1)
        sort_unique(out);
    return NX_OK;
}

static void send_names(struct web_req *r, struct ask *a, const struct nx_slice *name)
{
    struct names *names = arena_zalloc(r->arena, sizeof *names);
    struct nx_err err = {0};
    bool cut;

    if (!names || collect(r, a, name, names, &err)) {
        web_fail(r, &err, NULL);
        return;
    }
    cut = a->limit && names->n > a->limit;
    web_ok_list(r, cut ? a->limit : names->n, put_name, names, cut ? TRUNCATED : NULL);
}

void api_labels(struct web_req *r)
{
    struct ask a = {0};
    struct nx_err err = {0};

    if (ask_open(r, &a, &err))
        web_fail(r, &err, NULL);
    else
        send_names(r, &a, NULL);
    ask_done(&a);
}

void api_label_values(struct web_req *r)
{
    struct ask a = {0};
    struct nx_err err = {0};
    struct nx_slice name = web_unescape_name(r->arena, r->path_param);
    struct buf quoted;

    if (!label_name_valid(name)) {
        buf_init(&quoted, 0);
        text_quote(&quoted, name);
        web_error(r, WEB_ERR_BAD_DATA, "invalid label name: %s", buf_cstr(&quoted));
        buf_done(&quoted);
        return;
    }
    if (ask_open(r, &a, &err))
        web_fail(r, &err, NULL);
    else
        send_names(r, &a, &name);
    ask_done(&a);
}

static int series_order(const void *a, const void *b)
{
    return labels_cmp(&((const struct series *)a)->labels, &((const struct series *)b)->labels);
}

static nx_status select_all(struct web_req *r, struct ask *a, struct series_list *out,
                            struct nx_err *err)
{
    size_t n = 0, cap = 0;

    for (size_t i = 0; i < a->sets.n; i++) {
        struct series_list one = {0};
        nx_status st = web_check(r, err);
        if (!st)
            st = a->q->ops->select_some(a->q, a->sets.v[i].m, a->sets.v[i].n, a->mint, a->maxt,
                                        a->limit ? a->limit + 1 : SIZE_MAX, r->arena, &one, err);
        if (st)
            return st;
        if (!i) {
            *out = one;
            cap = one.n;
            continue;
        }
        if (out->n + one.n > cap) {
            size_t more = 2 * (out->n + one.n);
            struct series *all =
                arena_grow(r->arena, out->v, cap * sizeof *all, more * sizeof *all);
            if (!all)
                return arena_failed(r->arena, err);
            out->v = all;
            cap = more;
        }
        if (one.n)
            memcpy(out->v + out->n, one.v, one.n * sizeof *one.v);
        out->n += one.n;
    }
    if (a->sets.n < 2 || !out->n)
        return NX_OK;
    qsort(out->v, out->n, sizeof *out->v, series_order);
    for (size_t i = 0; i < out->n; i++)
        if (!n || !labels_eq(&out->v[n - 1].labels, &out->v[i].labels))
            out->v[n++] = out->v[i];
    out->n = n;
    return NX_OK;
}

static void put_series(void *ctx, size_t i, struct buf *out)
{
    struct series_list *list = ctx;

    json_labels(out, &list->v[i].labels);
}

void api_series(struct web_req *r)
{
    struct ask a = {0};
    struct nx_err err = {0};
    struct series_list *list = arena_zalloc(r->arena, sizeof *list);

    if (r->form_too_large) {
        web_error(r, WEB_ERR_BAD_DATA, "error parsing form values: http: POST too large");
        return;
    }
    if (r->url_semicolon) {
        web_error(r, WEB_ERR_BAD_DATA,
                  "error parsing form values: invalid semicolon separator in query");
        return;
    }
    if (!web_param_count(r, "match[]")) {
        web_error(r, WEB_ERR_BAD_DATA, "no match[] parameter provided");
        return;
    }
    if (!list || ask_open(r, &a, &err)) {
        web_fail(r, &err,
                 err.code == NX_BADINPUT && strncmp(err.text, "invalid parameter", 17) != 0
                     ? "invalid parameter \"match[]\": "
                     : NULL);
    } else if (select_all(r, &a, list, &err)) {
        web_fail(r, &err, NULL);
    } else {
        bool cut = a.limit && list->n > a.limit;
        web_ok_list(r, cut ? a.limit : list->n, put_series, list, cut ? TRUNCATED : NULL);
    }
    ask_done(&a);
}
