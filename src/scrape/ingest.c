/* ingest.c - the lines of a body against the lines of the last one.
 *
 * WHY     Idea: a target's exposition hardly changes. While its lines are those of the layout, a line
 *         costs a comparison and a number. Nothing is hashed, parsed, looked up or allocated.
 * SHAPE   A pass is steady until a line differs. Then it is changed: the whole old layout is loaded into
 *         a table, and every line is first compared with the old line at hand; if it is another, it is
 *         parsed, looked up, and comparison goes on behind where it was found. So an inserted or
 *         removed line costs one look-up, not one for each line after it.
 *         Both kinds of pass only collect samples. When the body is known to be right, new series get
 *         their columns (resolve.c) and the row is made.
 * RULES   I1  Nothing is created in the store for a body that fails.
 *         I2  A line is known only under the type class that its labels were made under: le and
 *             quantile are normalised by the TYPE before them.
 *         I3  A line with a timestamp is another thing than the same line without: LINE_STAMPED.
 *         I4  At the memory limit a line that would make a series, or new metadata, is passed over: counted, but
 *             in no layout, so that it is seen anew with the next scrape. What is known goes on.
 *         I5  A steady pass gives what a changed one would; tests and a fuzzer hold it to that.
 * THREADS One worker; the target is its own while it is here. */
#include "src/scrape/ingest.h"

#include <stdlib.h>
#include <string.h>

#include "src/scrape/exemplars.h"
#include "src/scrape/resolve.h"

enum taken { TAKEN, OTHER, FAILED };

struct pass {
    struct ingest *in;
    const struct ingest_env *env;
    const struct ingest_target *target;
    struct ingest_scratch *s;
    struct ingest_result *res;
    struct nx_err *err;
    struct expo x;
    struct expo_entry e; /* after OTHER: the entry that was read instead */
    uint64_t kept;       /* samples that count against sample_limit */
    bool exemplars;      /* are stored */
    nx_status st;        /* after FAILED */
};

/* 0: the labels of this series are the same under any TYPE (I2). */
static unsigned type_class(struct nx_slice series, enum expo_type type)
{
    if (!memmem(series.ptr, series.len, "le", 2)) /* also in "quantile" */
        return 0;
    return type == EXPO_HISTOGRAM ? 1 : type == EXPO_SUMMARY ? 2 : 3;
}

static unsigned class_of_type(enum expo_type type)
{
    return type == EXPO_HISTOGRAM ? 1 : type == EXPO_SUMMARY ? 2 : 3;
}

/* ---- samples --------------------------------------------------------------------------------- */

static bool samples_room(struct ingest_scratch *s, uint32_t more)
{
    uint64_t need = (uint64_t)s->n_samples + more;
    uint32_t cap = s->cap_samples ? s->cap_samples : 512;
    struct sample *v;

    if (need <= s->cap_samples)
        return true;
    if (need > LINE_MAX_INDEX)
        return false;
    while (cap < need)
        cap *= 2;
    v = reallocarray(s->samples, cap, sizeof *v);
    if (!v)
        return false;
    s->samples = v;
    s->cap_samples = cap;
    return true;
}

static nx_status no_memory(struct pass *p)
{
    return nx_fail(p->err, NX_NOMEM, "out of memory");
}

static void record(struct pass *p, uint32_t what, double value, int64_t ts_ms)
{
    p->s->samples[p->s->n_samples++] = (struct sample){what, value, ts_ms};
    p->res->scraped++;
    if (line_kind(what) == LINE_DROPPED)
        return;
    p->res->post_relabel++;
    if (line_kind(what) != LINE_DUPLICATE)
        p->kept++;
}

/* The entry that was just recorded came through the full parser, as all lines with an exemplar do. */
static void note_exemplar(struct pass *p)
{
    if (p->exemplars && p->e.exemplar.len)
        exemplars_note(p->s, p->e.exemplar);
}

/* ---- a line that should be known -------------------------------------------------------------- */

static enum taken read_other(struct pass *p)
{
    p->st = expo_next(&p->x, &p->e, p->err);
    return p->st ? FAILED : OTHER;
}

static enum meta_which which_of(enum expo_kind k)
{
    return k == EXPO_HELP ? META_HELP : k == EXPO_TYPE ? META_TYPE : META_UNIT;
}

static bool is_meta(enum expo_kind k)
{
    return k == EXPO_HELP || k == EXPO_TYPE || k == EXPO_UNIT;
}

static enum taken take_meta(struct pass *p, uint32_t what)
{
    struct meta *m = &p->in->meta;
    uint32_t index = line_index(what) >> 2, got;
    enum taken t;

    if (line_kind(what) == LINE_META &&
        meta_try_line(m, p->env->pool, index, (enum meta_which)(line_index(what) & 3), &p->x)) {
        m->v[index].last_iter = p->in->iter;
        return TAKEN;
    }
    t = read_other(p);
    if (t == FAILED || line_kind(what) == LINE_META || !is_meta(p->e.kind))
        return t;
    p->st = meta_set(m, p->env->pool, p->env->status_lock, p->x.format, &p->e, p->in->iter, &got,
                     p->err);
    if (p->st)
        return FAILED;
    return (got << 2 | (uint32_t)which_of(p->e.kind)) == line_index(what) ? TAKEN : OTHER;
}

/* Does a line of this kind stand for a sample with or without a timestamp (I3)? */
static bool stamp_fits(uint32_t what, bool stamped)
{
    return line_kind(what) == LINE_DROPPED || (line_kind(what) == LINE_STAMPED) == stamped;
}

static enum taken take_sample(struct pass *p, uint32_t what, struct nx_slice prefix)
{
    unsigned wanted = line_class(what);
    struct expo before = p->x;
    struct expo_sample got;
    bool known = line_kind(what) != LINE_NEW && (wanted == 0 || wanted == class_of_type(p->x.type));
    bool honor = p->target->rules->honor_timestamps;
    enum taken t;

    if (known && expo_try_sample(&p->x, prefix.ptr, prefix.len, &got)) {
        if (stamp_fits(what, got.has_ts && honor)) {
            record(p, what, got.value, got.ts_ms);
            return TAKEN;
        }
        p->x = before;
    }
    t = read_other(p);
    if (t == FAILED || !known || p->e.kind != EXPO_SERIES || !nx_slice_eq(p->e.prefix, prefix) ||
        !stamp_fits(what, p->e.has_ts && honor))
        return t;
    record(p, what, p->e.value,
           p->e.ts_ms); /* an exemplar, or a value that needs the full parser */
    note_exemplar(p);
    return TAKEN;
}

static inline void skip_blank_lines(struct expo *x)
{
    if (x->at >= x->end || *x->at != '\n')
        return;
    if (x->format == EXPO_TEXT && expo_at_line(x))
        while (x->at < x->end && *x->at == '\n')
            x->at++;
}

static enum taken take_line(struct pass *p, uint32_t what, struct nx_slice prefix)
{
    enum taken t;

    skip_blank_lines(&p->x);
    switch (line_kind(what)) {
    case LINE_META:
    case LINE_META_ODD:
        return take_meta(p, what);
    case LINE_COMMENT:
        t = read_other(p);
        return t == OTHER && p->e.kind == EXPO_COMMENT ? TAKEN : t;
    default:
        return take_sample(p, what, prefix);
    }
}

/* ---- a pass that changed ----------------------------------------------------------------------- */

struct changed {
    uint32_t cursor; /* the old line to compare with next */
    uint32_t n_old;
};

static nx_status add_fresh(struct pass *p, bool stamped, const struct labels *ls, uint32_t *index)
{
    struct ingest_scratch *s = p->s;

    if (s->n_fresh == s->cap_fresh) {
        uint32_t cap = s->cap_fresh ? s->cap_fresh * 2 : 256;
        struct fresh_series *v = reallocarray(s->fresh, cap, sizeof *v);
        if (!v)
            return no_memory(p);
        s->fresh = v;
        s->cap_fresh = cap;
    }
    *index = s->n_fresh;
    s->fresh[s->n_fresh++] =
        (struct fresh_series){.labels = *ls, .stamped = stamped, .ts_ms = p->e.ts_ms};
    return NX_OK;
}

/* A line of the table stands for a sample of this body. Once more: it is stored once, and counts once. */
static void use_line(struct pass *p, int64_t line)
{
    struct layout_table_line *l = &p->s->table.lines[line];

    if (l->used && (line_kind(l->what) == LINE_SERIES ||
                    (line_kind(l->what) == LINE_NEW && !p->s->fresh[line_index(l->what)].stamped)))
        p->kept--;
    l->used = true;
}

/* Makes the labels of a series that is not known, and remembers them for resolve.c. */
static bool is_full(const struct pass *p)
{
    return memory_level(p->env->memory) >= MEMORY_NO_SERIES;
}

/* I4 */
static bool refuse(struct pass *p, const struct labels *ls)
{
    if (!is_full(p) || storage_knows(p->env->storage, ls))
        return false;
    return memory_admit_series(p->env->memory, NULL) != NX_OK;
}

/* A sample that is passed over still counts as one that was exposed. */
static void note_refused(struct pass *p)
{
    p->res->scraped++;
    p->res->post_relabel++;
    p->res->refused++;
    p->kept++;
}

static nx_status make_line(struct pass *p, unsigned class, bool stamped, bool *refused,
                           uint32_t *what)
{
    struct arena_mark mark = arena_mark(p->s->arena);
    struct labels ls;
    uint32_t index = 0;
    nx_status st = series_labels(p->e.series, p->x.type, p->target->labels, p->target->rules,
                                 &p->s->series, p->s->arena, &ls, &p->res->label_limit, p->err);

    if (st)
        return st;
    if (ls.n && refuse(p, &ls)) {
        arena_release(p->s->arena, mark);
        *refused = true;
        return NX_OK;
    }
    if (ls.n) {
        st = add_fresh(p, stamped, &ls, &index);
        if (st)
            return st;
    }
    *what = line_make(ls.n ? LINE_NEW : LINE_DROPPED, class, index);
    return layout_table_add(&p->s->table, *what, p->e.prefix, p->e.series, p->err);
}

static nx_status changed_series(struct pass *p, struct changed *c)
{
    bool stamped = p->e.has_ts && p->target->rules->honor_timestamps;
    unsigned class = type_class(p->e.series, p->x.type);
    int64_t line = layout_table_find(&p->s->table, p->e.series, class);
    uint32_t what = line >= 0 ? p->s->table.lines[line].what : 0;
    bool fits =
        line >= 0 && (line_kind(what) == LINE_NEW ? p->s->fresh[line_index(what)].stamped == stamped
                                                  : stamp_fits(what, stamped));
    bool refused = false;
    nx_status st;

    if (line >= 0 && (uint32_t)line < c->n_old)
        c->cursor = (uint32_t)line + 1;
    if (!fits) {
        st = make_line(p, class, stamped, &refused, &what);
        if (st) {
            p->res->scraped++; /* what ends a scrape by its labels was scraped */
            return st;
        }
        if (refused) {
            note_refused(p);
            return NX_OK;
        }
        line = (int64_t)p->s->table.n - 1;
    }
    if (!samples_room(p->s, 1))
        return no_memory(p);
    layout_builder_add(&p->s->builder, what, p->e.prefix);
    if (line_kind(what) == LINE_NEW)
        p->s->fresh[line_index(what)].used = true;
    record(p, what, p->e.value, p->e.ts_ms);
    note_exemplar(p);
    use_line(p, line);
    return NX_OK;
}

/* If the same metadata line is near in the old layout, comparison goes on behind it. */
static void resync_meta(struct pass *p, struct changed *c, uint32_t index)
{
    for (uint32_t i = c->cursor; i < c->n_old && i < c->cursor + 64; i++) {
        uint32_t what = p->s->table.lines[i].what;
        if ((line_kind(what) == LINE_META || line_kind(what) == LINE_META_ODD) &&
            line_index(what) == index) {
            c->cursor = i + 1;
            return;
        }
    }
}

static nx_status changed_meta(struct pass *p, struct changed *c)
{
    struct meta *m = &p->in->meta;
    enum meta_which which = which_of(p->e.kind);
    uint32_t index;
    bool plain;
    nx_status st;

    if (is_full(p) && !meta_knows(m, p->env->pool, p->e.name)) /* I4 */
        return NX_OK;
    st = meta_set(m, p->env->pool, p->env->status_lock, p->x.format, &p->e, p->in->iter, &index,
                  p->err);
    if (st)
        return st;
    plain = meta_is_plain(m, p->env->pool, index, which, p->x.format, p->e.line);
    index = index << 2 | (uint32_t)which;
    layout_builder_add(&p->s->builder, line_make(plain ? LINE_META : LINE_META_ODD, 0, index),
                       nx_slice_of("", 0));
    resync_meta(p, c, index);
    return NX_OK;
}

static nx_status changed_entry(struct pass *p, struct changed *c)
{
    if (p->e.kind == EXPO_SERIES)
        return changed_series(p, c);
    if (is_meta(p->e.kind))
        return changed_meta(p, c);
    if (p->e.kind == EXPO_COMMENT) {
        layout_builder_add(&p->s->builder, line_make(LINE_COMMENT, 0, 0), nx_slice_of("", 0));
        if (c->cursor < c->n_old && line_kind(p->s->table.lines[c->cursor].what) == LINE_COMMENT)
            c->cursor++;
    }
    return NX_OK;
}

/* The rest of a body whose first `n` lines are the layout's; p->e is the first that is not. */
static nx_status changed_pass(struct pass *p, uint32_t n)
{
    struct layout_table *t = &p->s->table;
    const struct layout none = {0};
    const struct layout *old = p->in->relearn ? &none : &p->in->layout;
    struct changed c = {.cursor = n, .n_old = old->n};
    nx_status st = layout_table_load(t, old, p->err);

    p->s->changed = true;
    layout_builder_reset(&p->s->builder);
    arena_reset(p->s->arena);
    for (uint32_t i = 0; i < n && !st; i++) {
        layout_builder_add(&p->s->builder, t->lines[i].what, layout_table_prefix(t, i));
        t->lines[i].used = true;
    }
    if (!st)
        st = changed_entry(p, &c);
    while (!st && p->e.kind != EXPO_END) {
        enum taken taken = OTHER;
        uint32_t at = c.cursor;
        if (at < c.n_old) {
            if (!samples_room(p->s, 1))
                return no_memory(p);
            taken = take_line(p, t->lines[at].what, layout_table_prefix(t, at));
        } else {
            p->st = expo_next(&p->x, &p->e, p->err);
            taken = p->st ? FAILED : OTHER;
        }
        if (taken == FAILED)
            return p->st;
        if (taken == OTHER) {
            st = changed_entry(p, &c);
            continue;
        }
        layout_builder_add(&p->s->builder, t->lines[at].what, layout_table_prefix(t, at));
        if (line_has_bytes(t->lines[at].what))
            use_line(p, at);
        c.cursor++;
    }
    return st;
}

/* Nearly every line: known bytes, then a value. False: nothing is taken, take_line() decides. */
static inline bool take_known(struct pass *p, uint32_t what, struct layout_cursor *c)
{
    unsigned wanted = line_class(what);
    const struct layout_cursor before = *c;
    struct expo_sample got;
    const char *value;

    if (line_kind(what) == LINE_NEW || (wanted && wanted != class_of_type(p->x.type)))
        return false;
    skip_blank_lines(&p->x);
    value = layout_cursor_match(c, p->x.at, p->x.end);
    if (value && expo_try_value(&p->x, value, &got)) {
        if (stamp_fits(what, got.has_ts && p->target->rules->honor_timestamps)) {
            record(p, what, got.value, got.ts_ms);
            return true;
        }
        p->x.at = c->last;
    }
    *c = before;
    return false;
}

static nx_status steady_pass(struct pass *p)
{
    const struct layout *l = &p->in->layout;
    struct layout_cursor c;

    if (!samples_room(p->s, l->n))
        return no_memory(p);
    if (p->in->relearn)
        return expo_next(&p->x, &p->e, p->err) ? NX_BADINPUT : changed_pass(p, 0);
    layout_cursor_init(&c, l, &p->s->line);
    for (uint32_t i = 0; i < l->n; i++) {
        struct nx_slice prefix = {"", 0};
        enum taken taken;
        if (line_has_bytes(l->what[i])) {
            if (take_known(p, l->what[i], &c))
                continue;
            prefix = layout_cursor_next(&c);
        }
        if (c.nomem)
            return no_memory(p);
        taken = take_line(p, l->what[i], prefix);
        if (taken == FAILED)
            return p->st;
        if (taken == OTHER)
            return changed_pass(p, i);
    }
    if (expo_next(&p->x, &p->e, p->err))
        return NX_BADINPUT;
    return p->e.kind == EXPO_END ? NX_OK : changed_pass(p, l->n);
}

/* ---- a body ------------------------------------------------------------------------------------ */

static void start(struct ingest_scratch *s)
{
    s->n_exemplars = 0;
    s->n_samples = s->n_fresh = s->n_row = s->n_row_samples = s->n_stale_slots = s->n_stamps = 0;
    s->n_loose = s->n_turns = 0;
    s->changed = s->ends = false;
    s->stamped_failed = NX_OK;
    layout_done(&s->next);
}

nx_status ingest_nothing(struct ingest *in, const struct ingest_env *env,
                         const struct ingest_target *t, struct ingest_scratch *s,
                         struct nx_err *err)
{
    nx_status st;

    start(s);
    st = resolve_ready(in, env, t, s, err);
    return st ? st : resolve_all_stale(in, t, s, err);
}

nx_status ingest_body(struct ingest *in, const struct ingest_env *env,
                      const struct ingest_target *t, enum expo_format format, const char *body,
                      size_t len, int64_t now_ms, struct ingest_scratch *s,
                      struct ingest_result *res, struct nx_err *err)
{
    struct pass p = {.in = in, .env = env, .target = t, .s = s, .res = res, .err = err};
    nx_status st;

    *res = (struct ingest_result){0};
    start(s);
    st = resolve_ready(in, env, t, s, err);
    if (st)
        return st;
    in->iter++;
    p.exemplars = storage_exemplars_on(env->storage);
    expo_init(&p.x, format, body, len);
    st = steady_pass(&p);
    if (!st && t->rules->sample_limit && p.kept > t->rules->sample_limit) {
        st = nx_fail(err, NX_LIMIT, "sample limit exceeded");
        res->sample_limit = true;
    }
    if (!st && s->changed)
        st = resolve_new(in, env, t, s, res, err); /* I1 */
    if (!st)
        st = resolve_row(in, env, t, now_ms, s, res, err);
    if (!st) {
        exemplars_store(in, env, now_ms, s, res);
        meta_age_if_needed(&in->meta, env->pool, env->status_lock, in->iter, s->changed);
        return NX_OK;
    }
    start(s);
    return resolve_all_stale(in, t, s, NULL) ? NX_NOMEM : st;
}
