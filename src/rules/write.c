#include "src/rules/group.h"

/* write.c - what rules give, as rows of the store.
 *
 * SHAPE   Each stage of a group has a writer of its own, so that an evaluation is one row of it: the samples
 *         of all its rules, and a stale marker for each series that was there the last time and is not now.
 * RULES   W1  A series that two rules of a stage give ends the row before the second of them.
 *         W2  A row that the store refused a part of is asked again rule by rule, without markers, so that
 *             it is told which rule's samples those were. What is in already is the same and counts for nothing.
 *         W3  Where the store could not take a row, no series that is there is forgotten: the next one ends it. What
 *             was never in a row is: it has nothing to end, and labels may be others each time.
 *         W4  Rules of a stage that give the same series, at once or in turn, have one column together: it is released
 *             when the last of them is done with it. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/log.h"
#include "src/base/num.h"

#define MS                       1000000ll
#define MAX_DUPLICATES_LOOKED_AT 100

struct row {
    uint32_t *cols;
    double *values;
    size_t n;
    size_t first_rule; /* of the group: rules [first_rule, ...) of the stage have samples in it */
};

struct writing {
    struct rule_group *g;
    size_t stage;
    void *writer;
    int64_t t_ms;
    struct row row;
    struct nx_err err;
};

static bool takes_part(const struct writing *w, const struct rule_state *r)
{
    return r->stage == w->stage && !r->failed;
}

/* ---- what was refused ------------------------------------------------------------------------------ */

static const struct pending *given_by(const struct rule_state *r, const struct out *o)
{
    const struct keyed *same = r->failed ? NULL : table_find(&r->outs, &o->key.labels, o->key.hash);

    for (size_t i = 0; same && i < r->n_pending; i++)
        if (&r->pending[i].out->key == same)
            return &r->pending[i];
    return NULL;
}

/* Two rules of a group that give a series two values are what makes a duplicate: tells both values, of the last
 * such sample as in Prometheus. False if it was something else. */
static bool tell_both(const struct writing *w, struct rule_state *r)
{
    char was[NUM_TEXT_BYTES], is[NUM_TEXT_BYTES];

    for (size_t i = r->n_pending; i-- > 0 && r->n_pending - i <= MAX_DUPLICATES_LOOKED_AT;) {
        const struct pending *p = NULL;
        for (const struct rule_state *e = w->g->rules; e < r && !p; e++)
            p = given_by(e, r->pending[i].out);
        if (!p || num_bits(p->value) == num_bits(r->pending[i].value))
            continue;
        nx_fail(&r->err, NX_EXEC,
                "duplicate sample for timestamp %" PRId64
                "; overrides not allowed: existing %.*s, new value %.*s",
                w->t_ms, (int)num_format_g(was, p->value), was,
                (int)num_format_g(is, r->pending[i].value), is);
        return true;
    }
    return false;
}

static void note_refusal(struct writing *w, struct rule_state *r, const struct storage_appended *a)
{
    const char *file = w->g->def->file.ptr, *group = w->g->def->name.ptr;

    r->refused = true;
    if (!a->duplicate || !tell_both(w, r))
        nx_fail(&r->err, NX_EXEC, "%s",
                a->duplicate       ? "duplicate sample for timestamp"
                : a->too_old       ? "too old sample"
                : a->out_of_bounds ? "out of bounds"
                                   : "out of order sample");
    if (w->g->env.quiet)
        return;
#define TELL(count, text)                                                                          \
    if (a->count)                                                                                  \
    log_warn(text, "component", "rule manager", "file", file, "group", group, "name",              \
             r->rule->name.ptr, "num_dropped", log_fmt("%u", a->count))
    TELL(out_of_order, "Error on ingesting out-of-order result from rule evaluation");
    TELL(too_old, "Error on ingesting too old result from rule evaluation");
    TELL(out_of_bounds, "Error on ingesting too old result from rule evaluation");
    TELL(duplicate, "Error on ingesting results from rule evaluation with different value but "
                    "same timestamp");
#undef TELL
}

/* W2 */
static void ask_again(struct writing *w, struct rule_state *r)
{
    struct storage_appended a = {0};
    size_t n = 0;

    for (size_t i = 0; i < r->n_pending; i++)
        if (r->pending[i].out->has_col) {
            w->row.cols[n] = r->pending[i].out->col;
            w->row.values[n++] = r->pending[i].value;
        }
    if (!n || w->g->env.sink.append(w->writer, w->t_ms, w->row.cols, w->row.values, n, &a, NULL))
        return;
    if (a.duplicate || a.out_of_order || a.out_of_bounds || a.too_old)
        note_refusal(w, r, &a);
}

/* ---- rows ------------------------------------------------------------------------------------------ */

/* Appends what is in the row: samples of the stage's rules from first_rule up to, not with, `end`. */
static nx_status flush(struct writing *w, size_t end)
{
    struct storage_appended a = {0};
    size_t n = w->row.n;
    nx_status st = NX_OK;

    if (n)
        st = w->g->env.sink.append(w->writer, w->t_ms, w->row.cols, w->row.values, n, &a, &w->err);
    w->row.n = 0;
    for (size_t i = w->row.first_rule; i < end; i++) {
        struct rule_state *r = &w->g->rules[i];
        if (!takes_part(w, r))
            continue;
        if (st) {
            r->failed = true;
            r->err = w->err;
            continue;
        }
        for (size_t k = 0; k < r->n_pending; k++) /* W3 */
            r->pending[k].out->written = r->pending[k].out->written || r->pending[k].out->has_col;
        if (a.duplicate || a.out_of_order || a.out_of_bounds || a.too_old)
            ask_again(w, r);
    }
    w->row.first_rule = end;
    w->g->mark++;
    return st;
}

/* Whether the column was free in this row; it is taken then. */
static bool take_column(struct rule_group *g, uint32_t col)
{
    if (col >= g->n_marks) {
        uint32_t n = col + 64;
        uint32_t *v = realloc(g->marks, n * sizeof *v);
        if (!v)
            return true; /* then the store tells the second from the first */
        memset(v + g->n_marks, 0, (n - g->n_marks) * sizeof *v);
        g->marks = v;
        g->n_marks = n;
    }
    if (g->marks[col] == g->mark)
        return false;
    g->marks[col] = g->mark;
    return true;
}

static void put(struct row *row, uint32_t col, double value)
{
    row->cols[row->n] = col;
    row->values[row->n++] = value;
}

static bool find_column(struct writing *w, struct out *o)
{
    if (!o->has_col && !w->g->env.sink.column(w->writer, &o->key.labels, &o->col, &w->err))
        o->has_col = true;
    return o->has_col;
}

static void put_rule(struct writing *w, size_t index)
{
    struct rule_state *r = &w->g->rules[index];
    bool clash = false;

    for (size_t i = 0; i < r->n_pending; i++) {
        struct out *o = r->pending[i].out;
        if (!find_column(w, o)) {
            r->refused = true;
            r->err = w->err;
            continue;
        }
        clash = clash || !take_column(w->g, o->col);
    }
    if (clash) { /* W1 */
        (void)flush(w, index);
        for (size_t i = 0; i < r->n_pending; i++)
            if (r->pending[i].out->has_col)
                take_column(w->g, r->pending[i].out->col);
    }
    for (size_t i = 0; i < r->n_pending; i++)
        if (r->pending[i].out->has_col)
            put(&w->row, r->pending[i].out->col, r->pending[i].value);
}

/* After all samples, so that a series that another rule has now is not ended. */
static void put_ends(struct writing *w)
{
    for (size_t i = 0; i < w->g->def->n_rules; i++) {
        struct rule_state *r = &w->g->rules[i];
        if (!takes_part(w, r))
            continue;
        for (uint32_t k = 0; k < r->outs.n; k++) {
            struct out *o = (struct out *)r->outs.v[k];
            if (o->seen != r->round && o->written && find_column(w, o) && take_column(w->g, o->col))
                put(&w->row, o->col, num_from_bits(NUM_STALE_BITS));
        }
    }
}

/* ---- what need not be remembered ------------------------------------------------------------------- */

struct forget {
    struct rule_group *g;
    size_t stage;
    bool ended; /* the ends of the stage's series are in the store */
    const struct rule_state *r;
};

/* W3 */
static bool is_over(const struct forget *f, const struct rule_state *r, const struct out *o)
{
    if (r->failed)
        return !o->written;
    return o->seen != r->round && (f->ended || !o->written);
}

static bool let_go(void *ctx, struct keyed *k)
{
    const struct forget *f = ctx;
    struct out *o = (struct out *)k;

    if (!is_over(f, f->r, o))
        return false;
    if (o->has_col && take_column(f->g, o->col)) /* W4 */
        f->g->env.sink.release(f->g->writers[f->stage], o->col);
    out_free(o);
    return true;
}

/* Takes the columns of what stays (W4). False where nothing goes. */
static bool mark_kept(const struct forget *f)
{
    struct rule_group *g = f->g;
    bool any = false;

    g->mark++;
    for (size_t i = 0; i < g->def->n_rules; i++)
        for (uint32_t k = 0; g->rules[i].stage == f->stage && k < g->rules[i].outs.n; k++) {
            const struct out *o = (const struct out *)g->rules[i].outs.v[k];
            if (is_over(f, &g->rules[i], o))
                any = true;
            else if (o->has_col)
                take_column(g, o->col);
        }
    return any;
}

static void forget(struct rule_group *g, size_t stage, bool ended)
{
    struct forget f = {g, stage, ended, NULL};

    if (!mark_kept(&f))
        return;
    for (size_t i = 0; i < g->def->n_rules; i++)
        if (g->rules[i].stage == stage) {
            f.r = &g->rules[i];
            table_sweep(&g->rules[i].outs, let_go, &f);
        }
}

/* ---- a stage --------------------------------------------------------------------------------------- */

static size_t count_values(const struct writing *w)
{
    size_t n = 1;

    for (size_t i = 0; i < w->g->def->n_rules; i++)
        if (takes_part(w, &w->g->rules[i]))
            n += w->g->rules[i].n_pending + w->g->rules[i].outs.n;
    return n;
}

static nx_status open_writer(struct writing *w)
{
    void **writer = &w->g->writers[w->stage];
    size_t n = count_values(w);
    nx_status st = NX_OK;

    if (!*writer)
        st = w->g->env.sink.open(w->g->env.sink.ctx, writer, &w->err);
    w->writer = *writer;
    w->row.cols = malloc(n * sizeof *w->row.cols);
    w->row.values = malloc(n * sizeof *w->row.values);
    if (!st && (!w->row.cols || !w->row.values))
        st = nx_fail(&w->err, NX_NOMEM, "out of memory");
    return st;
}

/* False where ends may be missing. */
static bool write_rows(struct writing *w)
{
    struct rule_group *g = w->g;
    size_t n = g->def->n_rules;
    nx_status st = open_writer(w);

    for (size_t i = 0; i < n && st; i++)
        if (takes_part(w, &g->rules[i])) {
            g->rules[i].failed = true;
            g->rules[i].err = w->err;
        }
    if (!st) {
        g->mark++;
        for (size_t i = 0; i < n; i++)
            if (takes_part(w, &g->rules[i]))
                put_rule(w, i);
        put_ends(w);
        st = flush(w, n);
    }
    free(w->row.cols);
    free(w->row.values);
    return !st;
}

void rule_write_stage(struct rule_group *g, size_t stage)
{
    struct writing w = {.g = g, .stage = stage};
    bool ended = true;

    w.t_ms = g->row_ms;
    if (count_values(&w) > 1)
        ended = write_rows(&w);
    forget(g, stage, ended);
}

/* ---- series of rules that are gone ------------------------------------------------------------------ */

static bool end_series(struct rule_group *g, struct out *const *v, size_t n, int64_t t_ms)
{
    struct nx_err err = {0};
    uint32_t *cols = malloc((n + 1) * sizeof *cols);
    double *values = malloc((n + 1) * sizeof *values);
    void *writer = NULL;
    size_t found = 0;
    nx_status st = NX_NOMEM;

    if (cols && values)
        st = g->env.sink.open(g->env.sink.ctx, &writer, &err);
    g->mark++;
    for (size_t i = 0; i < n && !st; i++)
        if (v[i]->written && !g->env.sink.column(writer, &v[i]->key.labels, &cols[found], NULL) &&
            take_column(g, cols[found])) /* W4 */
            values[found++] = num_from_bits(NUM_STALE_BITS);
    if (found)
        st = g->env.sink.append(writer, t_ms, cols, values, found, NULL, &err);
    for (size_t i = 0; i < found; i++)
        g->env.sink.release(writer, cols[i]);
    if (writer)
        g->env.sink.close(writer);
    if (st && !g->env.quiet)
        log_warn("Stale sample appending for previous configuration failed", "component",
                 "rule manager", "group", g->def->name.ptr, "err", err.text);
    free(cols);
    free(values);
    return !st;
}

void rule_write_stale(struct rule_group *g, int64_t t_ns)
{
    if (!g->n_stale || !end_series(g, g->stale, g->n_stale, rule_time_ms(t_ns)))
        return;
    for (size_t i = 0; i < g->n_stale; i++)
        out_free(g->stale[i]);
    g->n_stale = 0;
}

void rule_group_end_series(struct rule_group *g, int64_t t_ns)
{
    int64_t t_ms = rule_time_ms(t_ns - g->query_offset_ms * MS);

    rule_close_writers(g);
    rule_write_stale(g, t_ns - g->query_offset_ms * MS);
    for (size_t i = 0; i < g->def->n_rules; i++)
        if (g->rules[i].outs.n)
            end_series(g, (struct out *const *)(void *)g->rules[i].outs.v, g->rules[i].outs.n,
                       t_ms);
}

void rule_close_writers(struct rule_group *g)
{
    for (size_t i = 0; i < g->n_stages; i++)
        if (g->writers[i]) {
            g->env.sink.close(g->writers[i]);
            g->writers[i] = NULL;
        }
    for (size_t i = 0; i < g->def->n_rules; i++)
        for (uint32_t k = 0; k < g->rules[i].outs.n; k++)
            ((struct out *)g->rules[i].outs.v[k])->has_col = false;
}
