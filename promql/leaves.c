/* leaves.c - see leaves.h.
 *
 * WHY    `max_over_time(x[5m]) - min_over_time(x[5m])` and `sum(rate(e[5m])) / count(rate(e[5m]))` would decode each
 *        series twice, and the second would compute each rate twice.
 * SHAPE  A leaf is an instant selector, or the call of a function over the range of one. Leaves that read the same
 *        samples at the same times are a group, and those of a group with the same function and arguments a
 *        variant. Who reads a series first makes the rows of all variants, of the samples while they are
 *        decoded, and keeps those that another use will ask for.
 * RULES  V1  Only the values are common. Labels, statistics, annotations, limits: each use has its own, in the
 *            order in which they would come without this.
 *        V2  Values are those of the same kernel over the same samples: no bit changes.
 *        V3  The plan is made of the tree alone, before anything is evaluated. What evaluation may do otherwise (other
 *            times, other series) is checked when a leaf is opened, and then it reads for itself.
 *        V4  Kept rows of all groups together take a part of the query's bytes; a group that would need more shares
 *            nothing: to decode twice needs no memory.
 *        V5  Only functions whose kernel tells nothing (no annotation, no error) may run ahead of their turn, with
 *            numbers as arguments.
 * NOT    Whole subtrees: what lies above the leaves costs little beside decoding, and sums and matches have labels,
 *        annotations and positions of their own (V1). */
#include "promql/leaves.h"

#include <string.h>

#include "promql/fn.h"
#include "src/base/num.h"

#define MOST_LEAVES 128u /* of a query that are looked at: each is compared with all */
#define MOST_SCOPES 32u
#define MOST_BYTES  (32u << 20) /* of kept rows of a group */
#define SHARE       8u          /* all groups take so much of the query's bound: an eighth */

/* Between a subquery and the leaves in it: these have its times. */
struct scope {
    const struct scope *parent; /* NULL: the query's own times */
    int64_t range_ms, step_ms, offset_ms, pin_ms;
    bool pinned;
};

struct leaf {
    const struct pql_expr *e;
    const struct pql_selector *sel;
    const struct scope *scope;
    int64_t range_ms; /* 0: an instant, or less than a millisecond of a range */
    int64_t offset_ms, pin_ms;
    bool pinned;
    struct leaf_use use;
};

enum kept_state { KEPT_NONE, KEPT_MADE, KEPT_GONE /* it was pulled, and nobody else wants it */ };

struct kept {
    struct row row;
    enum kept_state state;
};

struct variant {
    const struct pql_expr *e; /* one of its leaves */
    uint32_t n_leaves;
    struct kept *kept; /* by series */
};

struct leaf_group {
    struct variant *v;
    uint32_t n, cap, n_leaves;
    enum { GROUP_NEW, GROUP_ON, GROUP_OFF } state;
    struct eval_times tm; /* set when the first leaf is opened, as are these */
    const struct series *series;
    size_t n_series;
    struct leaf_seen *seen;
};

struct leaves {
    struct eval *ev;
    struct leaf *v;
    size_t n, cap;
    const struct scope *scopes[MOST_SCOPES];
    size_t n_scopes;
    double bytes; /* that groups may take which keep rows */
};

/* ---- finding leaves --------------------------------------------------------------------------- */

static bool same_scope(const struct scope *a, const struct scope *b)
{
    return a->parent == b->parent && a->range_ms == b->range_ms && a->step_ms == b->step_ms &&
           a->offset_ms == b->offset_ms && a->pinned == b->pinned && a->pin_ms == b->pin_ms;
}

/* Durations that can't be had make errors when they are evaluated, and no leaf here. */
static bool dur(const struct leaves *l, const struct pql_dur *d, int64_t *ms)
{
    struct nx_err ignored;

    return eval_dur(l->ev, d, true, ms, &ignored) == NX_OK;
}

/* The scope of a subquery; equal ones are the same. NULL: it can't be had. */
static const struct scope *scope_of(struct leaves *l, const struct pql_expr *e,
                                    const struct scope *parent)
{
    struct scope s = {.parent = parent}, *kept;

    s.pinned = eval_at(l->ev, &e->sub.shift, &s.pin_ms);
    if (!dur(l, &e->sub.range, &s.range_ms) || !dur(l, &e->sub.step, &s.step_ms) ||
        !dur(l, &e->sub.shift.offset, &s.offset_ms))
        return NULL;
    for (size_t i = 0; i < l->n_scopes; i++)
        if (same_scope(l->scopes[i], &s))
            return l->scopes[i];
    kept = l->n_scopes < MOST_SCOPES ? arena_alloc(l->ev->work, sizeof *kept) : NULL;
    if (!kept)
        return NULL;
    *kept = s;
    return l->scopes[l->n_scopes++] = kept;
}

static void add_leaf(struct leaves *l, const struct pql_expr *e, const struct pql_selector *sel,
                     int64_t range_ms, const struct scope *scope)
{
    struct leaf leaf = {.e = e, .sel = sel, .scope = scope, .range_ms = range_ms};

    if (l->n == l->cap || sel->anchored || sel->smoothed)
        return;
    leaf.pinned = eval_at(l->ev, &sel->shift, &leaf.pin_ms);
    if (dur(l, &sel->shift.offset, &leaf.offset_ms))
        l->v[l->n++] = leaf;
}

/* V5 */
static bool is_quiet(const struct pql_expr *call)
{
    for (size_t i = 0; i < call->call.n; i++) {
        const struct pql_expr *arg = eval_unparen(call->call.args[i]);

        if (arg->type == PQL_MATRIX)
            continue;
        if (arg->kind != PQL_NODE_NUMBER)
            return false;
        if (call->call.func->slide == slide_quantile_over_time &&
            !(arg->number.value >= 0 && arg->number.value <= 1))
            return false;
    }
    return call->call.func->slide != NULL;
}

static size_t count_selectors(const struct pql_expr *e)
{
    const struct pql_expr *child;
    size_t n = e->kind == PQL_NODE_SELECTOR || e->kind == PQL_NODE_RANGE;

    for (size_t i = 0; (child = pql_child(e, i)); i++)
        n += count_selectors(child);
    return n;
}

static void find_leaves(struct leaves *l, const struct pql_expr *e, const struct scope *scope)
{
    const struct pql_expr *child;
    int64_t range_ms;

    if (e->kind == PQL_NODE_SELECTOR)
        add_leaf(l, e, &e->selector, 0, scope);
    for (size_t i = 0; e->kind == PQL_NODE_CALL && i < e->call.n; i++) {
        const struct pql_expr *arg = eval_unparen(e->call.args[i]);

        if (arg->kind == PQL_NODE_RANGE && is_quiet(e) && dur(l, &arg->range.range, &range_ms))
            add_leaf(l, e, &arg->range.selector->selector, range_ms, scope);
    }
    if (e->kind == PQL_NODE_SUBQUERY) {
        scope = scope_of(l, e, scope);
        if (!scope)
            return;
    }
    for (size_t i = 0; (child = pql_child(e, i)); i++)
        find_leaves(l, child, scope);
}

/* ---- what is alike ---------------------------------------------------------------------------- */

static bool same_samples(const struct leaf *a, const struct leaf *b)
{
    if (a->e->kind != b->e->kind || a->scope != b->scope || a->range_ms != b->range_ms ||
        a->offset_ms != b->offset_ms || a->pinned != b->pinned || a->pin_ms != b->pin_ms ||
        a->sel->n != b->sel->n)
        return false;
    for (size_t i = 0; i < a->sel->n; i++) {
        const struct matcher *x = &a->sel->m[i], *y = &b->sel->m[i];

        if (x->type != y->type || !nx_slice_eq(x->name, y->name) ||
            !nx_slice_eq(x->value, y->value))
            return false;
    }
    return true;
}

static bool same_call(const struct pql_expr *a, const struct pql_expr *b)
{
    if (a->kind != PQL_NODE_CALL)
        return true;
    if (a->call.func != b->call.func || a->call.n != b->call.n)
        return false;
    for (size_t i = 0; i < a->call.n; i++) {
        const struct pql_expr *x = eval_unparen(a->call.args[i]),
                              *y = eval_unparen(b->call.args[i]);

        if (x->type == PQL_SCALAR && num_bits(x->number.value) != num_bits(y->number.value))
            return false;
    }
    return true;
}

static bool join(struct eval *ev, struct leaf_group *g, struct leaf *leaf)
{
    uint32_t at = 0;

    while (at < g->n && !same_call(g->v[at].e, leaf->e))
        at++;
    if (at == g->cap) {
        uint32_t cap = g->cap ? g->cap * 2 : 4;
        struct variant *v = arena_grow(ev->work, g->v, g->cap * sizeof *v, (size_t)cap * sizeof *v);
        if (!v)
            return false;
        g->v = v;
        g->cap = cap;
    }
    if (at == g->n)
        g->v[g->n++] = (struct variant){.e = leaf->e};
    g->v[at].n_leaves++;
    g->n_leaves++;
    leaf->use = (struct leaf_use){g, at};
    return true;
}

nx_status leaves_plan(struct eval *ev, const struct pql_expr *e, struct nx_err *err)
{
    const size_t n = count_selectors(e);
    struct leaves *l;
    bool any = false;

    ev->leaves = NULL;
    if (n < 2)
        return NX_OK;
    l = arena_zalloc(ev->work, sizeof *l);
    if (!l)
        return eval_nomem(ev, ev->work, err);
    l->ev = ev;
    l->cap = n < MOST_LEAVES ? n : MOST_LEAVES;
    l->v = arena_array(ev->work, l->cap, sizeof *l->v);
    if (!l->v)
        return eval_nomem(ev, ev->work, err);
    find_leaves(l, e, NULL);
    for (size_t i = 0; i < l->n; i++) {
        for (size_t k = i + 1; k < l->n; k++) {
            struct leaf *a = &l->v[i], *b = &l->v[k];

            if (b->use.group || !same_samples(a, b))
                continue;
            if (!a->use.group) {
                struct leaf_group *g = arena_zalloc(ev->work, sizeof *g);
                if (!g || !join(ev, g, a))
                    return eval_nomem(ev, ev->work, err);
            }
            if (!join(ev, a->use.group, b))
                return eval_nomem(ev, ev->work, err);
            any = true;
        }
    }
    ev->leaves = any ? l : NULL;
    return NX_OK;
}

/* ---- rows ------------------------------------------------------------------------------------- */

/* V4: takes its part, if there is enough. */
static bool group_fits(const struct eval *ev, const struct leaf_group *g, uint32_t first)
{
    const size_t limit = ev->share->limit_bytes;
    double rows = 0, bytes;

    for (uint32_t v = 0; v < g->n; v++)
        rows += v != first || g->v[v].n_leaves > 1;
    bytes = (double)g->n_series * (rows * (9.0 * g->tm.n + 32) +
                                   (double)(g->n * sizeof(struct kept)) + (double)sizeof *g->seen);
    if (bytes > MOST_BYTES || (limit && ev->leaves->bytes + bytes > (double)limit / SHARE))
        return false;
    ev->leaves->bytes += bytes;
    return true;
}

static nx_status group_open(struct eval *ev, struct leaf_group *g, uint32_t first,
                            const struct eval_times *tm, const struct series_list *list,
                            struct nx_err *err)
{
    g->tm = *tm;
    g->series = list->v;
    g->n_series = list->n;
    g->state = GROUP_OFF;
    if (tm->counts->read_at || !group_fits(ev, g, first)) /* windows by step are not kept */
        return NX_OK;
    g->seen = arena_array(ev->work, g->n_series + 1, sizeof *g->seen);
    if (!g->seen)
        return eval_nomem(ev, ev->work, err);
    for (uint32_t v = 0; v < g->n; v++) {
        g->v[v].kept = arena_array(ev->work, g->n_series + 1, sizeof *g->v[v].kept);
        if (!g->v[v].kept)
            return eval_nomem(ev, ev->work, err);
    }
    g->state = GROUP_ON;
    return NX_OK;
}

static struct leaf_use use_of(const struct eval *ev, const struct pql_expr *e)
{
    const struct leaves *l = ev->leaves;

    for (size_t i = 0; l && i < l->n; i++)
        if (l->v[i].e == e && l->v[i].use.group)
            return l->v[i].use;
    return (struct leaf_use){NULL, 0};
}

bool leaf_is_shared(const struct eval *ev, const struct pql_expr *e)
{
    return use_of(ev, e).group != NULL;
}

nx_status leaf_open(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                    const struct series_list *list, struct leaf_use *out, struct nx_err *err)
{
    const struct leaf_use use = use_of(ev, e);
    struct leaf_group *g = use.group;

    *out = (struct leaf_use){NULL, 0};
    if (!g)
        return NX_OK;
    if (g->state == GROUP_NEW) {
        nx_status st = group_open(ev, g, use.variant, tm, list, err);
        if (st)
            return st;
    }
    if (g->state == GROUP_ON && !tm->counts->read_at && g->tm.start == tm->start &&
        g->tm.step == tm->step && g->tm.n == tm->n && g->series == list->v &&
        g->n_series == list->n)
        *out = use;
    return NX_OK;
}

bool leaf_take(const struct leaf_use *u, size_t i, struct row *into, struct leaf_seen *seen)
{
    const struct kept *k;

    if (!u->group)
        return false;
    k = &u->group->v[u->variant].kept[i];
    if (k->state != KEPT_MADE)
        return false;
    memcpy(into->v, k->row.v, (size_t)u->group->tm.n * sizeof *into->v);
    memcpy(into->has, k->row.has, u->group->tm.n);
    into->points = k->row.points;
    *seen = u->group->seen[i];
    return true;
}

nx_status leaf_room(struct eval *ev, const struct leaf_use *u, uint32_t variant, size_t i,
                    struct row **out, struct nx_err *err)
{
    struct kept *k = &u->group->v[variant].kept[i];

    *out = k->state == KEPT_NONE ? &k->row : NULL;
    return *out && !k->row.v ? row_new(ev, &u->group->tm, &k->row, err) : NX_OK;
}

void leaf_made(const struct leaf_use *u, uint32_t variant, size_t i, const struct leaf_seen *seen)
{
    struct kept *k = &u->group->v[variant].kept[i];

    k->row.points = 0;
    for (uint32_t at = 0; at < u->group->tm.n; at++)
        k->row.points += k->row.has[at];
    k->state = KEPT_MADE;
    u->group->seen[i] = *seen;
}

nx_status leaf_keep(struct eval *ev, const struct leaf_use *u, size_t i, const struct row *row,
                    const struct leaf_seen *seen, struct nx_err *err)
{
    struct row *room;
    nx_status st;

    if (!u->group)
        return NX_OK;
    if (u->group->v[u->variant].n_leaves == 1) {
        u->group->v[u->variant].kept[i].state = KEPT_GONE;
        return NX_OK;
    }
    st = leaf_room(ev, u, u->variant, i, &room, err);
    if (st || !room)
        return st;
    memcpy(room->v, row->v, (size_t)u->group->tm.n * sizeof *room->v);
    memcpy(room->has, row->has, u->group->tm.n);
    leaf_made(u, u->variant, i, seen);
    return NX_OK;
}

uint32_t leaf_variants(const struct leaf_use *u)
{
    return u->group ? u->group->n : 0;
}

const struct pql_expr *leaf_variant(const struct leaf_use *u, uint32_t variant)
{
    return variant == u->variant ? NULL : u->group->v[variant].e;
}
