/* binop.c - operators between values, and matching between vectors.
 *
 * WHY   Which series meet depends on labels alone, so it is worked out once; only what depends on who
 *       has a point at a step is looked at step by step, and only where it can matter.
 * SHAPE The side that must be unique in a match group is called `one`, the other `many` (for
 *       one-to-one the left one is `many`). Rows of both are numbered by match group. Each meeting of
 *       a many row with a one row of its group is a pair, and gives a row of the result.
 * RULES B1  Two one rows of a group with a point at the same step: the duplicate error, at steps where
 *           both sides have any point at all (or a fill stands in).
 *       B2  One-to-one: two many rows of a group that meet at a step need group_left or group_right,
 *           even if a comparison drops them.
 *       B3  Grouped: two pairs of a group that give the same labels at a step are an error, likewise.
 *           Of B1 and B3 the one that is broken first, in time, is told.
 *       B4  A comparison gives the value of its left operand, whichever side that is. */
#include "promql/eval.h"

#include <math.h>
#include <string.h>

static bool is_trim(enum pql_op op)
{
    return op == PQL_OP_TRIM_UPPER || op == PQL_OP_TRIM_LOWER;
}

double binop_scalar(enum pql_op op, double a, double b)
{
    switch (op) {
    case PQL_OP_ADD:
        return a + b;
    case PQL_OP_SUB:
        return a - b;
    case PQL_OP_MUL:
        return a * b;
    case PQL_OP_DIV:
        return a / b;
    case PQL_OP_MOD:
        return fmod(a, b);
    case PQL_OP_POW:
        return pow(a, b);
    case PQL_OP_ATAN2:
        return atan2(a, b);
    case PQL_OP_EQ:
        return a == b;
    case PQL_OP_NE:
        return a != b;
    case PQL_OP_LT:
        return a < b;
    case PQL_OP_LE:
        return a <= b;
    case PQL_OP_GT:
        return a > b;
    case PQL_OP_GE:
        return a >= b;
    default: /* sets and trims work on vectors alone */
        return (double)NAN;
    }
}

void binop_apply(enum pql_op op, const double *a, const double *b, size_t n, double *out,
                 uint8_t *keep)
{
    switch (op) { /* loops the compiler turns into vector code */
    case PQL_OP_ADD:
        for (size_t k = 0; k < n; k++)
            out[k] = a[k] + b[k];
        return;
    case PQL_OP_SUB:
        for (size_t k = 0; k < n; k++)
            out[k] = a[k] - b[k];
        return;
    case PQL_OP_MUL:
        for (size_t k = 0; k < n; k++)
            out[k] = a[k] * b[k];
        return;
    case PQL_OP_DIV:
        for (size_t k = 0; k < n; k++)
            out[k] = a[k] / b[k];
        return;
    default:
        break;
    }
    for (size_t k = 0; k < n; k++) {
        double r = binop_scalar(op, a[k], b[k]);

        if (keep)
            keep[k] &= r != 0;
        out[k] = keep ? a[k] : r;
    }
}

struct match {
    struct eval *ev;
    const struct pql_expr *e;
    const struct pql_matching *m;
    const struct eval_times *tm;
    struct rows *many, *one;
    bool swapped; /* many is the right operand */
    const double *fill_many,
        *fill_one; /* what stands in for a missing row of that side; NULL: nothing */
    struct nx_slice *names;
    uint32_t *many_sig, *one_sig; /* match group of each row */
    size_t n_sigs;
    uint32_t *one_at, *one_rows; /* rows of group s: one_rows[one_at[s]] up to [one_at[s + 1]] */
    uint32_t *many_count;
    uint8_t *live;   /* steps where the operator has anything to do */
    uint32_t broken; /* the step that breaks B1, once one does */
    struct rows *result;
    size_t cap, made; /* rows there is room for; that have buffers */
    struct labels_builder builder;
};

/* ---- match groups ------------------------------------------------------------------------------ */

static nx_status number_side(struct match *m, struct label_index *x, struct rows *r, uint32_t **out,
                             struct nx_err *err)
{
    uint32_t *sig = arena_array(m->ev->work, r->n + 1, sizeof *sig);
    bool created;

    if (!sig)
        return eval_nomem(m->ev, m->ev->work, err);
    for (size_t i = 0; i < r->n; i++) {
        nx_status st = label_index_add(m->ev, x, &r->labels[i], &sig[i], &created, err);

        if (st)
            return st;
    }
    *out = sig;
    return NX_OK;
}

static nx_status number_sides(struct match *m, struct nx_err *err)
{
    struct label_index x;
    nx_status st = names_sorted(m->ev, m->m->labels, m->m->n, &m->names, err);

    if (st)
        return st;
    label_index_some(&x, m->ev->work, m->names, m->m->n, m->m->on);
    st = number_side(m, &x, m->many, &m->many_sig, err);
    if (!st)
        st = number_side(m, &x, m->one, &m->one_sig, err);
    if (st)
        return st;
    m->n_sigs = x.n;
    m->one_at = arena_array(m->ev->work, m->n_sigs + 2, sizeof *m->one_at);
    m->one_rows = arena_array(m->ev->work, m->one->n + 1, sizeof *m->one_rows);
    m->many_count = arena_array(m->ev->work, m->n_sigs + 1, sizeof *m->many_count);
    if (!m->one_at || !m->one_rows || !m->many_count)
        return eval_nomem(m->ev, m->ev->work, err);
    for (size_t i = 0; i < m->one->n; i++)
        m->one_at[m->one_sig[i] + 2]++;
    for (size_t s = 2; s < m->n_sigs + 2; s++)
        m->one_at[s] += m->one_at[s - 1];
    for (size_t i = 0; i < m->one->n; i++)
        m->one_rows[m->one_at[m->one_sig[i] + 1]++] = (uint32_t)i;
    for (size_t i = 0; i < m->many->n; i++)
        m->many_count[m->many_sig[i]]++;
    return NX_OK;
}

static uint32_t ones_of(const struct match *m, uint32_t sig)
{
    return m->one_at[sig + 1] - m->one_at[sig];
}

/* ---- set operators ----------------------------------------------------------------------------- */

/* Steps at which any row of each group has a point. */
static nx_status group_presence(struct match *m, const struct rows *r, const uint32_t *sig,
                                uint8_t ***out, struct nx_err *err)
{
    uint8_t **at = arena_array(m->ev->work, m->n_sigs + 1, sizeof *at);

    if (!at)
        return eval_nomem(m->ev, m->ev->work, err);
    for (size_t i = 0; i < r->n; i++) {
        uint8_t **p = &at[sig[i]];

        if (!*p)
            *p = arena_zalloc(m->ev->work, m->tm->n);
        if (!*p)
            return eval_nomem(m->ev, m->ev->work, err);
        for (uint32_t k = 0; k < m->tm->n; k++)
            (*p)[k] |= r->data[i].has[k];
    }
    *out = at;
    return NX_OK;
}

/* Copies row `i` of `from` less (or just) the steps in `mask`. */
static nx_status masked_row(struct match *m, const struct rows *from, size_t i, const uint8_t *mask,
                            bool keep, struct nx_err *err)
{
    struct rows *r = m->result;
    struct row *to = &r->data[r->n];
    uint8_t *has = arena_array(m->ev->work, m->tm->n, 1);

    if (!has)
        return eval_nomem(m->ev, m->ev->work, err);
    *to = (struct row){from->data[i].v, has, 0};
    for (uint32_t k = 0; k < m->tm->n; k++) {
        has[k] = from->data[i].has[k] & (mask ? (keep ? mask[k] : !mask[k]) : !keep);
        to->points += has[k];
    }
    if (!to->points)
        return NX_OK;
    if (r->drop)
        r->drop[r->n] = row_drops(from, i);
    r->labels[r->n++] = from->labels[i];
    return eval_hold(m->ev, r, to->points, err);
}

static nx_status set_rows(struct match *m, const struct rows *from, const uint32_t *sig,
                          uint8_t **masks, bool keep, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < from->n && !st; i++)
        st = masked_row(m, from, i, masks ? masks[sig[i]] : NULL, keep, err);
    return st;
}

static nx_status new_result(struct match *m, size_t cap, struct nx_err *err)
{
    nx_status st = rows_new(m->ev, m->tm, cap, &m->result, err);

    if (st)
        return st;
    m->result->n = 0;
    m->result->data = arena_array(m->ev->work, cap + 1, sizeof *m->result->data);
    m->cap = cap;
    if (m->many->drop || m->one->drop) {
        m->result->drop = arena_array(m->ev->work, cap + 1, 1);
        if (!m->result->drop)
            return eval_nomem(m->ev, m->ev->work, err);
    }
    return m->result->data ? NX_OK : eval_nomem(m->ev, m->ev->work, err);
}

/* Here `many` is the left operand and `one` the right. */
static nx_status run_set(struct match *m, struct nx_err *err)
{
    uint8_t **masks = NULL;
    nx_status st = new_result(m, m->many->n + m->one->n, err);

    if (st)
        return st;
    if (m->e->binary.op == PQL_OP_OR) {
        st = group_presence(m, m->many, m->many_sig, &masks, err);
        if (!st)
            st = set_rows(m, m->many, m->many_sig, NULL, false, err);
        if (!st)
            st = set_rows(m, m->one, m->one_sig, masks, false, err);
        return st ? st : rows_merge(m->ev, m->result, false, err);
    }
    st = group_presence(m, m->one, m->one_sig, &masks, err);
    return st ? st : set_rows(m, m->many, m->many_sig, masks, m->e->binary.op == PQL_OP_AND, err);
}

/* ---- errors that depend on the step -------------------------------------------------------------- */

static nx_status find_live(struct match *m, struct nx_err *err)
{
    uint8_t *l = arena_zalloc(m->ev->work, m->tm->n), *r = arena_zalloc(m->ev->work, m->tm->n);

    if (!l || !r)
        return eval_nomem(m->ev, m->ev->work, err);
    for (size_t i = 0; i < m->many->n; i++)
        for (uint32_t k = 0; k < m->tm->n; k++)
            l[k] |= m->many->data[i].has[k];
    for (size_t i = 0; i < m->one->n; i++)
        for (uint32_t k = 0; k < m->tm->n; k++)
            r[k] |= m->one->data[i].has[k];
    for (uint32_t k = 0; k < m->tm->n; k++)
        l[k] = m->fill_many || m->fill_one ? l[k] | r[k] : l[k] & r[k];
    m->live = l;
    return NX_OK;
}

static nx_status duplicate_error(struct match *m, size_t a, size_t b, struct nx_err *err)
{
    struct labels group;
    struct buf texts[3];
    nx_status st = labels_some(m->ev, &m->one->labels[a], m->names, m->m->n, m->m->on, &group, err);

    if (st)
        return st;
    for (int i = 0; i < 3; i++)
        buf_init(&texts[i], 0);
    labels_print_set(&texts[0], &group);
    labels_print_set(&texts[1], &m->one->labels[a]);
    labels_print_set(&texts[2], &m->one->labels[b]);
    const char *first = buf_cstr(&texts[1]), *second = buf_cstr(&texts[2]);
    if (strcmp(first, second) > 0) {
        const char *t = first;

        first = second;
        second = t;
    }
    st = nx_fail(err, NX_EXEC,
                 "found duplicate series for the match group %s on the %s hand-side of the "
                 "operation: [%s, %s];"
                 "many-to-many matching not allowed: matching labels must be unique on one side",
                 buf_cstr(&texts[0]), m->swapped ? "left" : "right", first, second);
    for (int i = 0; i < 3; i++)
        buf_done(&texts[i]);
    return st;
}

/* B1 and B2 (which trims leave out), at the first step that breaks one of them. */
static nx_status check_steps(struct match *m, struct nx_err *err)
{
    bool one_to_one = m->m->card == PQL_ONE_TO_ONE && !is_trim(m->e->binary.op), any = false;
    uint32_t *seen =
        arena_array(m->ev->work, m->n_sigs + 1, sizeof *seen); /* row + 1 of the group's one */
    uint32_t *met = arena_array(m->ev->work, m->n_sigs + 1, sizeof *met);

    if (!seen || !met)
        return eval_nomem(m->ev, m->ev->work, err);
    for (uint32_t s = 0; s < m->n_sigs && !any; s++)
        any = ones_of(m, s) > 1 || (one_to_one && m->many_count[s] > 1);
    for (uint32_t k = 0; k < m->tm->n && any; k++) {
        nx_status st = eval_check(m->ev, err);

        if (st)
            return st;
        if (!m->live[k])
            continue;
        memset(seen, 0, m->n_sigs * sizeof *seen);
        for (uint32_t i = 0; i < m->one->n; i++) {
            uint32_t s = m->one_sig[i];

            if (!m->one->data[i].has[k])
                continue;
            if (seen[s]) {
                m->broken = k;
                return duplicate_error(m, i, seen[s] - 1, err);
            }
            seen[s] = i + 1;
        }
        if (!one_to_one)
            continue;
        memset(met, 0, m->n_sigs * sizeof *met);
        for (uint32_t i = 0; i < m->many->n; i++) {
            uint32_t s = m->many_sig[i];

            if (!m->many->data[i].has[k] || !(seen[s] || m->fill_one))
                continue;
            if (met[s])
                return nx_fail(err, NX_EXEC,
                               "multiple matches for labels: many-to-one matching must be explicit "
                               "(group_left/group_right)");
            met[s] = 1;
        }
    }
    return NX_OK;
}

/* ---- pairs ------------------------------------------------------------------------------------- */

static nx_status pair_labels(struct match *m, const struct labels *many, const struct labels *one,
                             struct labels *out, struct nx_err *err)
{
    const struct pql_matching *mm = m->m;
    bool drop_name = !pql_op_is_comparison(m->e->binary.op) ||
                     (m->e->binary.return_bool && !m->ev->delayed_names);

    labels_builder_reset(&m->builder, NULL);
    for (uint32_t i = 0; i < many->n; i++) {
        if (drop_name && label_goes_with_name(many->v[i].name))
            continue;
        if (mm->card == PQL_ONE_TO_ONE && names_have(mm->labels, mm->n, many->v[i].name) != mm->on)
            continue;
        labels_builder_set(&m->builder, many->v[i].name, many->v[i].value);
    }
    for (size_t i = 0; i < mm->n_include; i++)
        labels_builder_set(&m->builder, mm->include[i], labels_get(one, mm->include[i]));
    return labels_keep(m->ev, &m->builder, out, err);
}

/* The next row of the result, with no points. */
static nx_status result_row(struct match *m, struct row **out, struct labels **labels,
                            struct nx_err *err)
{
    struct rows *r = m->result;

    if (r->n == m->cap) {
        size_t cap = m->cap * 2 + 16;

        r->data = arena_grow(m->ev->work, r->data, m->cap * sizeof *r->data, cap * sizeof *r->data);
        r->labels =
            arena_grow(m->ev->work, r->labels, m->cap * sizeof *r->labels, cap * sizeof *r->labels);
        if (!r->data || !r->labels)
            return eval_nomem(m->ev, m->ev->work, err);
        m->cap = cap;
    }
    *out = &r->data[r->n];
    *labels = &r->labels[r->n];
    if (r->n < m->made) /* of a pair that came to nothing */
        return NX_OK;
    m->made = r->n + 1;
    return row_new(m->ev, m->tm, *out, err);
}

/* Values of a pair where `has` says the two meet; comparisons may clear it. */
static void pair_values(const struct match *m, const double *many, const double *one,
                        struct row *to)
{
    const double *l = m->swapped ? one : many, *r = m->swapped ? many : one;
    bool comparison = pql_op_is_comparison(m->e->binary.op);

    binop_apply(m->e->binary.op, l, r, m->tm->n, to->v,
                comparison && !m->e->binary.return_bool ? to->has : NULL);
    to->points = 0;
    for (uint32_t k = 0; k < m->tm->n; k++)
        to->points += to->has[k];
}

struct met { /* B3: labels a group has given, and where */
    struct labels labels;
    uint32_t sig;
    const uint8_t *has; /* of the pair's row, or a copy where a comparison clears that */
    struct met *next;
};

/* Adds the steps of another pair to what the first has; B3. */
static nx_status met_again(struct match *m, struct met *p, const uint8_t *has, struct nx_err *err)
{
    uint8_t *both = arena_array(m->ev->work, m->tm->n, 1);

    if (!both)
        return eval_nomem(m->ev, m->ev->work, err);
    for (uint32_t k = 0; k < m->tm->n; k++) {
        if (p->has[k] & has[k])
            return nx_fail(
                err, NX_EXEC,
                "multiple matches for labels: grouping labels must ensure unique matches");
        both[k] = p->has[k] | has[k];
    }
    p->has = both;
    return NX_OK;
}

static nx_status check_unique(struct match *m, struct met **table, size_t cap, uint32_t sig,
                              const struct labels *labels, const uint8_t *has, struct nx_err *err)
{
    size_t slot = (labels_hash(labels) ^ sig) & (cap - 1);
    struct met *p;

    for (p = table[slot]; p; p = p->next)
        if (p->sig == sig && labels_eq(&p->labels, labels))
            break;
    if (p)
        return met_again(m, p, has, err);
    p = arena_zalloc(m->ev->work, sizeof *p);
    if (!p)
        return eval_nomem(m->ev, m->ev->work, err);
    *p = (struct met){.labels = *labels, .sig = sig, .has = has, .next = table[slot]};
    if (pql_op_is_comparison(m->e->binary.op) && !m->e->binary.return_bool) {
        uint8_t *copy = arena_array(m->ev->work, m->tm->n, 1);

        if (!copy)
            return eval_nomem(m->ev, m->ev->work, err);
        memcpy(copy, has, m->tm->n);
        p->has = copy;
    }
    table[slot] = p;
    return NX_OK;
}

struct pairing {
    struct met **met; /* NULL for one-to-one */
    size_t met_cap;
    double *filler; /* a fill value at each step */
};

/* One row of the result: `to` has its presence; values of the sides follow. */
static nx_status pair_finish(struct match *m, struct pairing *p, uint32_t sig,
                             const struct labels *many_labels, const struct labels *one_labels,
                             const double *many, const double *one, struct row *to,
                             struct labels *labels, struct nx_err *err)
{
    bool any = false;
    nx_status st;

    for (uint32_t k = 0; k < m->tm->n && !any; k++)
        any = to->has[k];
    if (!any)
        return NX_OK;
    st = pair_labels(m, many_labels, one_labels, labels, err);
    if (!st && p->met)
        st = check_unique(m, p->met, p->met_cap, sig, labels, to->has, err);
    if (st)
        return st;
    pair_values(m, many, one, to);
    if (!to->points)
        return NX_OK;
    m->result->n++;
    return eval_hold(m->ev, m->result, to->points, err);
}

static nx_status pair_rows(struct match *m, struct pairing *p, size_t i, size_t j,
                           struct nx_err *err)
{
    struct row *to;
    struct labels *labels;
    nx_status st = result_row(m, &to, &labels, err);

    if (st)
        return st;
    for (uint32_t k = 0; k < m->tm->n; k++)
        to->has[k] = m->many->data[i].has[k] & m->one->data[j].has[k];
    return pair_finish(m, p, m->many_sig[i], &m->many->labels[i], &m->one->labels[j],
                       m->many->data[i].v, m->one->data[j].v, to, labels, err);
}

/* A many row at the steps where its group has no one row. */
static nx_status pair_fill_one(struct match *m, struct pairing *p, size_t i, struct nx_err *err)
{
    struct row *to;
    struct labels *labels, group;
    uint32_t sig = m->many_sig[i];
    nx_status st = result_row(m, &to, &labels, err);

    if (!st)
        st = labels_some(m->ev, &m->many->labels[i], m->names, m->m->n, m->m->on, &group, err);
    if (st)
        return st;
    memcpy(to->has, m->many->data[i].has, m->tm->n);
    for (uint32_t at = m->one_at[sig]; at < m->one_at[sig + 1]; at++)
        for (uint32_t k = 0; k < m->tm->n; k++)
            to->has[k] &= !m->one->data[m->one_rows[at]].has[k];
    for (uint32_t k = 0; k < m->tm->n; k++)
        p->filler[k] = *m->fill_one;
    return pair_finish(m, p, sig, &m->many->labels[i], &group, m->many->data[i].v, p->filler, to,
                       labels, err);
}

/* A one row at the steps where its group has no many row. */
static nx_status pair_fill_many(struct match *m, struct pairing *p, size_t j, uint8_t *const *met,
                                struct nx_err *err)
{
    struct row *to;
    struct labels *labels, group;
    uint32_t sig = m->one_sig[j];
    nx_status st = result_row(m, &to, &labels, err);

    if (!st)
        st = labels_some(m->ev, &m->one->labels[j], m->names, m->m->n, m->m->on, &group, err);
    if (st)
        return st;
    for (uint32_t k = 0; k < m->tm->n; k++)
        to->has[k] = m->one->data[j].has[k] & !(met[sig] && met[sig][k]);
    for (uint32_t k = 0; k < m->tm->n; k++)
        p->filler[k] = *m->fill_many;
    return pair_finish(m, p, sig, &group, &m->one->labels[j], p->filler, m->one->data[j].v, to,
                       labels, err);
}

static nx_status run_pairs(struct match *m, struct nx_err *err)
{
    struct pairing p = {.met_cap = 256};
    uint8_t **met = NULL;
    nx_status st = NX_OK;

    if (m->m->card != PQL_ONE_TO_ONE) {
        while (p.met_cap < m->many->n)
            p.met_cap *= 2;
        p.met = arena_array(m->ev->work, p.met_cap, sizeof *p.met);
        if (!p.met)
            return eval_nomem(m->ev, m->ev->work, err);
    }
    p.filler = arena_array(m->ev->work, m->tm->n, sizeof *p.filler);
    if (!p.filler)
        return eval_nomem(m->ev, m->ev->work, err);
    for (size_t i = 0; i < m->many->n && !st; i++) {
        uint32_t sig = m->many_sig[i];

        st = eval_check(m->ev, err);
        for (uint32_t at = m->one_at[sig]; at < m->one_at[sig + 1] && !st; at++)
            st = pair_rows(m, &p, i, m->one_rows[at], err);
        if (!st && m->fill_one)
            st = pair_fill_one(m, &p, i, err);
    }
    if (!m->fill_many || st)
        return st;
    st = group_presence(m, m->many, m->many_sig, &met, err);
    for (size_t j = 0; j < m->one->n && !st; j++)
        st = pair_fill_many(m, &p, j, met, err);
    return st;
}

/* B1 is broken; B3 may be at a step before that. */
static nx_status told_first(struct match *m, nx_status st, struct nx_err *err)
{
    const struct eval_times *all = m->tm;
    struct eval_times before = *all;
    struct nx_err other;

    if (st != NX_EXEC || !m->broken || m->m->card == PQL_ONE_TO_ONE)
        return st;
    before.n = m->broken;
    m->tm = &before;
    if (run_pairs(m, &other) == NX_EXEC)
        *err = other;
    m->tm = all;
    return st;
}

static nx_status run_match(struct match *m, struct nx_err *err)
{
    nx_status st = new_result(m, m->many->n, err);

    if (!st)
        st = find_live(m, err);
    if (!st) {
        st = check_steps(m, err);
        if (st)
            return told_first(m, st, err);
    }
    if (!st)
        st = run_pairs(m, err);
    if (st)
        return st;
    m->result->drop = NULL; /* of the operands' rows; these are new ones */
    if (m->ev->delayed_names && m->e->binary.return_bool)
        st = rows_drop_names(m->ev, m->result, false, err);
    return st ? st : rows_merge(m->ev, m->result, false, err);
}

/* Whether a row of one side meets a row of the other, or what fills in for it, at some step. */
static nx_status some_meet(struct match *m, struct rows *side, const uint32_t *sigs,
                           struct rows *others, const uint32_t *other_sigs, bool filled, bool *out,
                           struct nx_err *err)
{
    uint8_t **masks = NULL;
    nx_status st = group_presence(m, others, other_sigs, &masks, err);

    for (size_t i = 0; i < side->n && !st && !*out; i++) {
        const uint8_t *mask = masks[sigs[i]];

        for (uint32_t k = 0; k < m->tm->n && !*out; k++)
            *out = side->data[i].has[k] && (filled || (mask && mask[k]));
    }
    return st;
}

/* Between floats `</` and `>/` mean nothing, but to whom they would mean it must be clear (B1). */
static nx_status run_trim(struct match *m, struct nx_err *err)
{
    const char *op = pql_op_text(m->e->binary.op);
    bool met = false;
    nx_status st = new_result(m, 0, err);

    if (!st)
        st = find_live(m, err);
    if (!st)
        st = check_steps(m, err);
    if (!st)
        st = some_meet(m, m->many, m->many_sig, m->one, m->one_sig, m->fill_one, &met, err);
    if (!st && m->fill_many)
        st = some_meet(m, m->one, m->one_sig, m->many, m->many_sig, true, &met, err);
    if (met)
        annots_add(
            &m->ev->annots, ANNOT_INFO, m->e->pos,
            "incompatible sample types encountered for binary operator \"%s\": float %s float", op,
            op);
    return st;
}

/* Not inlined: sides are evaluated within each other, and what this one needs must not lie on the stack then. */
__attribute__((noinline)) static nx_status join(struct eval *ev, const struct pql_expr *e,
                                                const struct eval_times *tm, struct rows *l,
                                                struct rows *r, struct rows **out,
                                                struct nx_err *err)
{
    struct match m = {.ev = ev, .e = e, .m = &e->binary.match, .tm = tm};
    enum pql_op op = e->binary.op;
    nx_status st;

    m.swapped = m.m->card == PQL_ONE_TO_MANY;
    m.many = m.swapped ? r : l;
    m.one = m.swapped ? l : r;
    /* With group_right the two change places, as they do in Prometheus. */
    m.fill_many = m.m->has_fill_left ? &m.m->fill_left : NULL;
    m.fill_one = m.m->has_fill_right ? &m.m->fill_right : NULL;
    labels_builder_init(&m.builder);
    st = number_sides(&m, err);
    if (!st && is_trim(op))
        st = run_trim(&m, err);
    else if (!st)
        st = pql_op_is_set(op) ? run_set(&m, err) : run_match(&m, err);
    labels_builder_done(&m.builder);
    *out = m.result;
    return st;
}

nx_status eval_vector_binop(struct eval *ev, const struct pql_expr *e, const struct eval_times *tm,
                            struct rows **out, struct nx_err *err)
{
    struct rows *l = NULL, *r = NULL, *joined = NULL;
    nx_status st = eval_rows(ev, e->binary.lhs, tm, &l, err);

    if (!st)
        st = rows_make(ev, l, err);
    if (!st)
        st = eval_rows(ev, e->binary.rhs, tm, &r, err);
    if (!st)
        st = rows_make(ev, r, err);
    if (!st)
        st = join(ev, e, tm, l, r, &joined, err);
    if (st)
        return st;
    rows_release(ev, l);
    rows_release(ev, r);
    *out = joined;
    return NX_OK;
}
