/* eval_rows.c - rows of values, the samples they count for, and tables of label sets.
 *
 * WHY   All nodes hand on the same thing, so that they combine freely: rows that are either made or
 *       can make themselves one at a time.
 * RULES R1  Labels are known before any value is.
 *       R2  Rows are pulled in rising order at most once by each consumer; pulling twice reads twice.
 *       R3  A made row is not written to by who views it.
 *       R4  Samples count from the pull that made them until rows_release(), as if all rows had been
 *           made: the limit then refuses what Prometheus refuses, though less memory is in use. */
#include "promql/eval.h"

#include <stdlib.h>
#include <string.h>

nx_status eval_too_many(struct nx_err *err)
{
    return nx_fail(err, NX_EXEC,
                   "query processing would load too many samples into memory in query execution");
}

nx_status eval_no_memory(const struct eval *ev, nx_status st, struct nx_err *err)
{
    if (st == NX_OVERLOADED || st == NX_CANCELED || st == NX_TIMEOUT)
        return st;
    if (st == NX_LIMIT && arena_share_exceeded(ev->share))
        return nx_fail(err, NX_EXEC,
                       "query needs more than its %zu bytes of memory in query execution "
                       "(--query.max-memory)",
                       ev->share->limit_bytes);
    if (st == NX_LIMIT)
        return eval_too_many(err);
    return nx_fail(err, NX_NOMEM, "out of memory in query execution");
}

nx_status eval_nomem(const struct eval *ev, const struct arena *a, struct nx_err *err)
{
    return eval_no_memory(ev, arena_failed(a, err), err);
}

nx_status eval_room(struct eval *ev, uint64_t extra, struct nx_err *err)
{
    if (ev->held + extra > ev->asked)
        ev->asked = ev->held + extra;
    return ev->held + extra > ev->max_samples ? eval_too_many(err) : NX_OK;
}

nx_status eval_hold(struct eval *ev, struct rows *r, uint64_t n, struct nx_err *err)
{
    nx_status st = eval_room(ev, n, err);

    if (st)
        return st;
    ev->held += n;
    r->held += n;
    if (ev->held > ev->peak)
        ev->peak = ev->held;
    return NX_OK;
}

void rows_release(struct eval *ev, struct rows *r)
{
    if (r && r->ahead.on)
        ahead_end(ev);
    for (; r; r = r->child) {
        ev->held -= r->held;
        r->held = 0;
    }
}

nx_status eval_same_labelset(struct nx_err *err)
{
    return nx_fail(err, NX_EXEC, "vector cannot contain metrics with the same labelset");
}

nx_status row_new(struct eval *ev, const struct eval_times *tm, struct row *row, struct nx_err *err)
{
    double *v = arena_alloc(ev->work, (size_t)tm->n * sizeof *v);
    uint8_t *has = arena_alloc(ev->work, tm->n);

    if (!v || !has)
        return eval_nomem(ev, ev->work, err);
    *row = (struct row){v, has, 0};
    return NX_OK;
}

nx_status rows_new(struct eval *ev, const struct eval_times *tm, size_t n, struct rows **out,
                   struct nx_err *err)
{
    struct rows *r = arena_zalloc(ev->work, sizeof *r);
    struct labels *labels = arena_array(ev->work, n ? n : 1, sizeof *labels);

    if (!r || !labels)
        return eval_nomem(ev, ev->work, err);
    r->tm = tm;
    r->n = n;
    r->labels = labels;
    *out = r;
    return NX_OK;
}

nx_status rows_over(struct eval *ev, struct rows *child, rows_pull_fn *pull, void *ctx,
                    struct rows **out, struct nx_err *err)
{
    struct rows *r = arena_zalloc(ev->work, sizeof *r);

    if (!r)
        return eval_nomem(ev, ev->work, err);
    *r = (struct rows){.tm = child->tm,
                       .n = child->n,
                       .labels = child->labels,
                       .pull = pull,
                       .ctx = ctx,
                       .fork = rows_fork_shared,
                       .child = child,
                       .drop = child->drop};
    *out = r;
    return NX_OK;
}

static void row_copy(const struct rows *r, const struct row *from, struct row *into)
{
    memcpy(into->v, from->v, (size_t)r->tm->n * sizeof *into->v);
    memcpy(into->has, from->has, r->tm->n);
    into->points = from->points;
}

nx_status rows_pull(struct eval *ev, struct rows *r, size_t i, struct row *into, struct nx_err *err)
{
    struct row row;
    nx_status st;

    if (r->data) {
        row_copy(r, &r->data[i], into);
        return NX_OK;
    }
    st = eval_check(ev, err);
    if (st || !r->ahead.on)
        return st ? st : r->pull(ev, r, i, into, err);
    st = ahead_view(ev, r, i, into, &row, err);
    if (!st && row.v != into->v)
        row_copy(r, &row, into);
    into->points = row.points;
    return st;
}

nx_status rows_view(struct eval *ev, struct rows *r, size_t i, const struct row *scratch,
                    struct row *row, struct nx_err *err)
{
    if (r->data) {
        *row = r->data[i];
        return NX_OK;
    }
    if (r->ahead.on) {
        nx_status st = eval_check(ev, err);

        return st ? st : ahead_view(ev, r, i, scratch, row, err);
    }
    *row = *scratch;
    return rows_pull(ev, r, i, row, err);
}

nx_status rows_make(struct eval *ev, struct rows *r, struct nx_err *err)
{
    struct row *data, spare = {0};
    size_t kept = 0;
    nx_status st;

    if (r->data)
        return NX_OK;
    data = arena_array(ev->work, r->n ? r->n : 1, sizeof *data);
    if (!data)
        return eval_nomem(ev, ev->work, err);
    /* Labels move down over rows left out; they may be the child's, so they are copied. */
    struct labels *labels = arena_array(ev->work, r->n ? r->n : 1, sizeof *labels);
    uint8_t *drop = r->drop ? arena_array(ev->work, r->n ? r->n : 1, 1) : NULL;
    if (!labels || (r->drop && !drop))
        return eval_nomem(ev, ev->work, err);
    rows_ahead(ev, r);
    for (size_t i = 0; i < r->n; i++) {
        if (!spare.v) {
            st = row_new(ev, r->tm, &spare, err);
            if (st)
                return st;
        }
        st = rows_pull(ev, r, i, &spare, err);
        if (st)
            return st;
        if (spare.points == 0)
            continue;
        data[kept] = spare;
        if (drop)
            drop[kept] = r->drop[i];
        labels[kept++] = r->labels[i];
        spare = (struct row){0};
    }
    if (r->ahead.on)
        ahead_end(ev);
    r->data = data;
    r->labels = labels;
    r->drop = drop;
    r->n = kept;
    return NX_OK;
}

/* ---- tables of label sets -------------------------------------------------------------------- */

void label_index_init(struct label_index *x, struct arena *a)
{
    *x = (struct label_index){.a = a};
}

void label_index_some(struct label_index *x, struct arena *a, const struct nx_slice *names,
                      size_t n, bool on)
{
    *x = (struct label_index){.a = a, .names = names, .n_names = n, .some = true, .on = on};
}

static uint64_t index_hash(const struct label_index *x, const struct labels *ls)
{
    return x->some ? labels_hash_some(ls, x->names, x->n_names, x->on) : labels_hash(ls);
}

static struct label_slot *index_slot(const struct label_index *x, const struct labels *ls,
                                     uint64_t hash)
{
    for (size_t i = hash & (x->cap - 1);; i = (i + 1) & (x->cap - 1)) {
        struct label_slot *s = &x->slots[i];

        if (!s->ls)
            return s;
        if (s->hash == hash && (x->some ? labels_eq_some(s->ls, ls, x->names, x->n_names, x->on)
                                        : labels_eq(s->ls, ls)))
            return s;
    }
}

static nx_status index_grow(struct eval *ev, struct label_index *x, struct nx_err *err)
{
    struct label_index wide = *x;

    wide.cap = x->cap ? x->cap * 2 : 64;
    wide.slots = arena_array(x->a, wide.cap, sizeof *wide.slots);
    if (!wide.slots)
        return eval_nomem(ev, x->a, err);
    for (size_t i = 0; i < x->cap; i++) {
        if (!x->slots[i].ls)
            continue;
        size_t at = x->slots[i].hash & (wide.cap - 1);
        while (wide.slots[at].ls)
            at = (at + 1) & (wide.cap - 1);
        wide.slots[at] = x->slots[i];
    }
    *x = wide;
    return NX_OK;
}

/* ---- the same strings again ---- */

#define MEMO_SLOTS 256u /* a power of two */
#define MEMO_FROM  32u  /* sets before there is one */
struct label_memo {
    struct nx_slice value[LABEL_MEMO_NAMES];
    uint32_t id_and_1; /* 0: free */
};

/* Where the labels of x->names are; the next set has them at the same places, mostly. */
static void memo_learn(struct label_index *x, const struct labels *ls)
{
    for (size_t k = 0; k < x->n_names; k++) {
        x->at_name[k] = (struct nx_slice){0};
        for (uint32_t i = 0; i < ls->n; i++)
            if (nx_slice_eq(ls->v[i].name, x->names[k])) {
                x->at[k] = i;
                x->at_name[k] = ls->v[i].name;
            }
    }
}

/* The place of the values' pointers in the memo; NULL: there is none for this set. */
static struct label_memo *memo_slot(const struct label_index *x, const struct labels *ls,
                                    struct nx_slice *value)
{
    uint64_t h = 0;

    if (!x->memo)
        return NULL;
    for (size_t k = 0; k < x->n_names; k++) {
        const struct label *l = x->at[k] < ls->n ? &ls->v[x->at[k]] : NULL;
        if (!l || !x->at_name[k].ptr || l->name.ptr != x->at_name[k].ptr ||
            l->name.len != x->at_name[k].len)
            return NULL;
        value[k] = ls->v[x->at[k]].value;
        h = (h ^ (uint64_t)(uintptr_t)value[k].ptr) * 0x9e3779b97f4a7c15ull;
    }
    return &x->memo[h >> 56 & (MEMO_SLOTS - 1)];
}

static bool memo_is(const struct label_memo *m, const struct nx_slice *value, size_t n)
{
    bool same = m->id_and_1 != 0;

    for (size_t k = 0; k < n && same; k++)
        same = m->value[k].ptr == value[k].ptr && m->value[k].len == value[k].len;
    return same;
}

static void memo_put(struct label_index *x, const struct labels *ls, uint32_t id)
{
    struct nx_slice value[LABEL_MEMO_NAMES];
    struct label_memo *m;

    if (!x->some || !x->on || !x->n_names || x->n_names > LABEL_MEMO_NAMES ||
        x->n_seen++ < MEMO_FROM)
        return;
    if (!x->memo)
        x->memo = arena_array(x->a, MEMO_SLOTS, sizeof *x->memo);
    memo_learn(x, ls);
    m = memo_slot(x, ls, value);
    if (!m) {
        x->n_seen = 0; /* a label is missing: later, perhaps */
        return;
    }
    memcpy(m->value, value, x->n_names * sizeof *value);
    m->id_and_1 = id + 1;
}

nx_status label_index_add(struct eval *ev, struct label_index *x, const struct labels *ls,
                          uint32_t *id, bool *created, struct nx_err *err)
{
    struct nx_slice value[LABEL_MEMO_NAMES];
    const struct label_memo *m = memo_slot(x, ls, value);
    uint64_t hash;
    struct label_slot *s;
    nx_status st;

    if (m && memo_is(m, value, x->n_names)) {
        *created = false;
        *id = m->id_and_1 - 1;
        return NX_OK;
    }
    hash = index_hash(x, ls);
    if (x->n * 2 >= x->cap) {
        st = index_grow(ev, x, err);
        if (st)
            return st;
    }
    s = index_slot(x, ls, hash);
    *created = !s->ls;
    if (!s->ls)
        *s = (struct label_slot){hash, ls, (uint32_t)x->n++};
    *id = s->id;
    memo_put(x, ls, s->id);
    return NX_OK;
}

uint32_t label_index_find(const struct label_index *x, const struct labels *ls)
{
    struct label_slot *s;

    if (!x->cap)
        return UINT32_MAX;
    s = index_slot(x, ls, index_hash(x, ls));
    return s->ls ? s->id : UINT32_MAX;
}

/* ---- rows with equal labels ------------------------------------------------------------------- */

/* Moves the points of `from` into `to`. */
static nx_status row_join(struct row *to, const struct row *from, uint32_t n, struct nx_err *err)
{
    for (uint32_t k = 0; k < n; k++) {
        if (!from->has[k])
            continue;
        if (to->has[k])
            return eval_same_labelset(err);
        to->v[k] = from->v[k];
        to->has[k] = 1;
    }
    to->points += from->points;
    return NX_OK;
}

/* Whether the first of all their points is a's. */
static bool is_before(const struct row *a, const struct row *b, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++)
        if (a->has[k] || b->has[k])
            return a->has[k];
    return false;
}

nx_status rows_merge(struct eval *ev, struct rows *r, bool strict, struct nx_err *err)
{
    struct label_index x;
    bool created = true, twins = false;
    uint32_t id;
    size_t kept = 0;
    nx_status st;

    label_index_init(&x, ev->work);
    for (size_t i = 0; i < r->n; i++) {
        st = label_index_add(ev, &x, &r->labels[i], &id, &created, err);
        if (st)
            return st;
        twins |= !created;
    }
    if (!twins)
        return NX_OK;
    st = rows_make(ev, r, err);
    if (st)
        return st;
    struct row *data = arena_array(ev->work, r->n ? r->n : 1, sizeof *data);
    struct labels *labels = arena_array(ev->work, r->n ? r->n : 1, sizeof *labels);
    uint8_t *drop = r->drop ? arena_array(ev->work, r->n ? r->n : 1, 1) : NULL;
    if (!data || !labels || (r->drop && !drop))
        return eval_nomem(ev, ev->work, err);
    label_index_init(&x, ev->work);
    for (size_t i = 0; i < r->n; i++) {
        st = label_index_add(ev, &x, &r->labels[i], &id, &created, err);
        if (!st && !created && drop && is_before(&r->data[i], &data[id], r->tm->n))
            drop[id] = r->drop[i]; /* the name goes or stays as the first point says */
        if (!st && !created)
            st = strict ? eval_same_labelset(err) : row_join(&data[id], &r->data[i], r->tm->n, err);
        if (st)
            return st;
        if (!created)
            continue;
        data[kept] = r->data[i];
        if (drop)
            drop[kept] = r->drop[i];
        labels[kept++] = r->labels[i];
    }
    r->data = data;
    r->labels = labels;
    r->drop = drop;
    r->n = kept;
    return NX_OK;
}

bool label_goes_with_name(struct nx_slice name)
{
    static const char *const go[] = {LABEL_NAME, "__type__", "__unit__"};

    if (name.len != sizeof LABEL_NAME - 1 || name.ptr[0] != '_')
        return false;
    for (size_t i = 0; i < NX_COUNT(go); i++)
        if (memcmp(name.ptr, go[i], name.len) == 0)
            return true;
    return false;
}

static nx_status labels_without_name(struct eval *ev, const struct labels *from, struct labels *to,
                                     struct nx_err *err)
{
    uint32_t going = 0, n = 0;

    for (uint32_t i = 0; i < from->n; i++)
        going += label_goes_with_name(from->v[i].name);
    if (going == 0) {
        *to = *from;
        return NX_OK;
    }
    if (going == 1 &&
        label_goes_with_name(from->v[0].name)) { /* nearly always: capitals alone sort before it */
        *to = (struct labels){from->v + 1, from->n - 1};
        return NX_OK;
    }
    struct label *v = arena_array(ev->out, from->n, sizeof *v);
    if (!v)
        return eval_nomem(ev, ev->out, err);
    for (uint32_t i = 0; i < from->n; i++)
        if (!label_goes_with_name(from->v[i].name))
            v[n++] = from->v[i];
    *to = (struct labels){v, n};
    return NX_OK;
}

nx_status rows_drop_names(struct eval *ev, struct rows *r, bool strict, struct nx_err *err)
{
    struct labels *labels = arena_array(ev->work, r->n ? r->n : 1, sizeof *labels);
    struct nx_slice first = {0};
    bool one_name = true;

    if (!labels)
        return eval_nomem(ev, ev->work, err);
    if (ev->delayed_names) {
        r->drop = arena_array(ev->work, r->n ? r->n : 1, 1);
        if (!r->drop)
            return eval_nomem(ev, ev->work, err);
        memset(r->drop, 1, r->n);
        return NX_OK;
    }
    for (size_t i = 0; i < r->n; i++) {
        struct nx_slice name;
        nx_status st;

        if (i && labels_are(&r->labels[i], &r->labels[i - 1])) {
            labels[i] = labels[i - 1];
            continue;
        }
        name = labels_get_str(&r->labels[i], LABEL_NAME);
        st = labels_without_name(ev, &r->labels[i], &labels[i], err);
        if (st)
            return st;
        if (i == 0)
            first = name;
        /* One name, and nothing else that went. */
        one_name =
            one_name && nx_slice_eq(first, name) && r->labels[i].n - labels[i].n == (name.len > 0);
    }
    r->labels = labels;
    /* Sets that differed with one and the same name differ without it. */
    return one_name ? NX_OK : rows_merge(ev, r, strict, err);
}

nx_status rows_settle_names(struct eval *ev, struct rows *r, struct nx_err *err)
{
    struct labels *labels;

    if (!r->drop)
        return NX_OK;
    labels = arena_array(ev->work, r->n ? r->n : 1, sizeof *labels);
    if (!labels)
        return eval_nomem(ev, ev->work, err);
    for (size_t i = 0; i < r->n; i++) {
        nx_status st = NX_OK;

        labels[i] = r->labels[i];
        if (r->drop[i])
            st = labels_without_name(ev, &r->labels[i], &labels[i], err);
        if (st)
            return st;
    }
    r->labels = labels;
    return rows_merge(ev, r, false, err);
}

/* ---- label lists ------------------------------------------------------------------------------ */

static int compare_names(const void *a, const void *b)
{
    return nx_slice_cmp(*(const struct nx_slice *)a, *(const struct nx_slice *)b);
}

nx_status names_sorted(struct eval *ev, const struct nx_slice *names, size_t n,
                       struct nx_slice **out, struct nx_err *err)
{
    struct nx_slice *v = arena_array(ev->work, n ? n : 1, sizeof *v);

    if (!v)
        return eval_nomem(ev, ev->work, err);
    if (n) {
        memcpy(v, names, n * sizeof *v);
        qsort(v, n, sizeof *v, compare_names);
    }
    *out = v;
    return NX_OK;
}

bool names_have(const struct nx_slice *names, size_t n, struct nx_slice name)
{
    for (size_t i = 0; i < n; i++)
        if (nx_slice_eq(names[i], name))
            return true;
    return false;
}

nx_status labels_keep(struct eval *ev, struct labels_builder *b, struct labels *out,
                      struct nx_err *err)
{
    struct labels built;
    nx_status st = labels_builder_build(b, &built, err);
    struct label *v;

    if (st)
        return st;
    v = arena_array(ev->out, built.n ? built.n : 1, sizeof *v);
    if (!v)
        return eval_nomem(ev, ev->out, err);
    if (built.n)
        memcpy(v, built.v, built.n * sizeof *v);
    *out = (struct labels){v, built.n};
    return NX_OK;
}

nx_status labels_some(struct eval *ev, const struct labels *ls, const struct nx_slice *names,
                      size_t n, bool on, struct labels *out, struct nx_err *err)
{
    struct label *v = arena_array(ev->out, ls->n ? ls->n : 1, sizeof *v);
    uint32_t kept = 0;

    if (!v)
        return eval_nomem(ev, ev->out, err);
    for (uint32_t i = 0; i < ls->n; i++) {
        bool listed = names_have(names, n, ls->v[i].name);

        if (on ? listed : !listed && !nx_slice_is(ls->v[i].name, LABEL_NAME))
            v[kept++] = ls->v[i];
    }
    *out = (struct labels){v, kept};
    return NX_OK;
}
