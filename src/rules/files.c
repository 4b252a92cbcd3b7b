#include "src/rules/rules.h"

/* files.c - rule files: what they say is checked, and becomes groups that never change.
 *
 * RULES   F1  A file is taken whole or not at all, and all that is wrong in it is told, in Prometheus's words.
 *         F2  What was checked is kept in canonical form: the text of an expression, labels merged and
 *             sorted. Trees are made anew where they are needed, as they hold regular expressions. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/text.h"
#include "src/template/template.h"

struct loaded {
    struct rule_files files; /* first: files are their loaded */
    unsigned refs;           /* atomic */
    struct arena *arena;
    struct rule_group_def *groups;
    size_t cap;
};

struct loading {
    struct loaded *l;
    struct arena *scratch;
    const struct rule_load_opts *opts;
    const char *file;
    const struct config_rule_group *group; /* being checked */
    const struct config_rule *rule;
    size_t number; /* of the rule, from 1 */
    bool wrong;    /* something was told */
    struct nx_err *err;
    nx_status st; /* what ends it at once */
};

struct rule_files *rule_files_ref(const struct rule_files *f)
{
    struct loaded *l = (struct loaded *)(uintptr_t)f;

    __atomic_fetch_add(&l->refs, 1, __ATOMIC_RELAXED);
    return &l->files;
}

void rule_files_unref(const struct rule_files *f)
{
    struct loaded *l = (struct loaded *)(uintptr_t)f;

    if (!l || __atomic_fetch_sub(&l->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    arena_free(l->arena);
    free(l->groups);
    free(l);
}

/* ---- saying what is wrong ------------------------------------------------------------------------ */

/* One error of the file; the first is the one that the load fails with. */
static void tell(struct loading *ld, const char *fmt, ...) NX_PRINTF(2, 3);
static void tell(struct loading *ld, const char *fmt, ...)
{
    struct nx_err e;
    char text[NX_ERR_TEXT_BYTES];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    nx_fail(&e, NX_BADINPUT, "%s: %s", ld->file, text);
    if (!ld->wrong && ld->err)
        *ld->err = e;
    ld->wrong = true;
    if (ld->opts->error)
        ld->opts->error(ld->opts->ctx, e.text);
}

static struct nx_slice rule_name(const struct config_rule *r)
{
    return r->alert.len ? r->alert : r->record;
}

enum where { NOWHERE, AT_RECORD, AT_EXPR, AT_BOTH };

/* Of a rule: 7:11: group "g", rule 1, "Down": TEXT */
static void tell_rule(struct loading *ld, enum where where, const char *fmt, ...) NX_PRINTF(3, 4);
static void tell_rule(struct loading *ld, enum where where, const char *fmt, ...)
{
    const struct config_rule *r = ld->rule;
    struct nx_slice name = rule_name(r);
    char text[NX_ERR_TEXT_BYTES];
    struct buf b;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_init(&b, NX_ERR_TEXT_BYTES);
    if (where == AT_EXPR)
        buf_printf(&b, "%u:%u: ", r->expr_at.line, r->expr_at.column);
    else if (where != NOWHERE)
        buf_printf(&b, "%u:%u: ", r->record_at.line, r->record_at.column);
    if (where == AT_BOTH)
        buf_printf(&b, "%u:%u: ", r->alert_at.line, r->alert_at.column);
    buf_str(&b, "group ");
    text_quote(&b, ld->group->name);
    buf_printf(&b, ", rule %zu, ", ld->number);
    text_quote(&b, name);
    tell(ld, "%s: %s", buf_cstr(&b), text);
    buf_done(&b);
}

static void out_of_memory(struct loading *ld, struct arena *a)
{
    if (!ld->st)
        ld->st = arena_failed(a, ld->err);
}

/* ---- checks -------------------------------------------------------------------------------------- */

static bool label_ok(const struct loading *ld, struct nx_slice name)
{
    return ld->opts->legacy_names ? label_name_legacy_valid(name) : label_name_valid(name);
}

static bool metric_ok(const struct loading *ld, struct nx_slice name)
{
    return ld->opts->legacy_names ? metric_name_legacy_valid(name)
                                  : name.len > 0 && utf8_valid(name);
}

static void check_group(struct loading *ld, const struct config_rule_file *file, size_t i)
{
    const struct config_rule_group *g = &file->groups.v[i];

    if (!g->name.len)
        tell(ld, "%u:%u: Groupname must not be empty", g->at.line, g->at.column);
    for (size_t k = 0; k < i; k++)
        if (nx_slice_eq(file->groups.v[k].name, g->name)) {
            tell(ld, "%u:%u: groupname: \"%s\" is repeated in the same file", g->at.line,
                 g->at.column, g->name.ptr);
            break;
        }
    for (size_t k = 0; k < g->labels.n; k++) {
        const struct config_pair *p = &g->labels.v[k];
        if (!label_ok(ld, p->name) || nx_slice_is(p->name, LABEL_NAME))
            tell(ld, "invalid label name: %s", p->name.ptr);
        if (!utf8_valid(p->value))
            tell(ld, "invalid label value: %s", p->value.ptr);
    }
}

static void check_expr(struct loading *ld, const struct config_rule *r)
{
    const struct pql_expr *e = NULL;
    struct nx_err why = {0};
    nx_status st;

    if (!r->expr.len) {
        tell_rule(ld, AT_EXPR, "field 'expr' must be set in rule");
        return;
    }
    st = pql_parse(ld->scratch, r->expr, &ld->opts->features, &e, &why);
    if (st == NX_NOMEM)
        ld->st = nx_fail(ld->err, st, "%s", why.text);
    else if (st)
        tell_rule(ld, AT_EXPR, "could not parse expression: %s", why.text);
    pql_expr_done(e);
}

static void check_recording(struct loading *ld, const struct config_rule *r)
{
    if (r->annotations.n)
        tell_rule(ld, AT_RECORD, "invalid field 'annotations' in recording rule");
    if (r->for_ms)
        tell_rule(ld, AT_RECORD, "invalid field 'for' in recording rule");
    if (r->keep_firing_for_ms)
        tell_rule(ld, AT_RECORD, "invalid field 'keep_firing_for' in recording rule");
    if (!metric_ok(ld, r->record))
        tell_rule(ld, AT_RECORD, "invalid recording rule name: %s", r->record.ptr);
    if (memchr(r->record.ptr, '{', r->record.len) || memchr(r->record.ptr, '}', r->record.len))
        tell_rule(ld, AT_RECORD,
                  "braces present in the recording rule name; should it be in expr?: %s",
                  r->record.ptr);
}

/* Whether the text is a template that an alert of this name may have; *why says what it is not. */
static bool parses(struct loading *ld, struct nx_slice alert, struct nx_slice text,
                   struct nx_err *why)
{
    struct template *t = NULL;
    char *name = arena_printf(ld->scratch, "__alert_%s", alert.ptr);
    nx_status st;

    if (!name) {
        out_of_memory(ld, ld->scratch);
        return true;
    }
    st = template_parse_alert(&t, ld->scratch, nx_slice_str(name), text, why);
    if (st && st != NX_BADINPUT)
        ld->st = nx_fail(ld->err, st, "%s", why->text);
    return st != NX_BADINPUT;
}

static void check_template(struct loading *ld, const char *what, const struct config_pair *p)
{
    struct nx_err why = {0};
    char quoted[TEXT_QUOTED_BYTES];

    if (parses(ld, ld->rule->alert, p->value, &why))
        return;
    tell_rule(ld, NOWHERE, "%s %s: %s", what, text_quoted(quoted, p->name), why.text);
}

static bool has_label(const struct config_pairs *labels, struct nx_slice name)
{
    for (size_t i = 0; i < labels->n; i++)
        if (nx_slice_eq(labels->v[i].name, name))
            return true;
    return false;
}

/* A label of the group is a template where an alert takes it; it is told once. */
static void check_group_label(struct loading *ld, const struct config_pair *p)
{
    const struct config_rule_group *g = ld->group;
    struct nx_err why = {0};
    size_t i = 0;
    char group[TEXT_QUOTED_BYTES], label[TEXT_QUOTED_BYTES];

    while (i < g->rules.n &&
           (!g->rules.v[i].alert.len || has_label(&g->rules.v[i].labels, p->name)))
        i++;
    if (i == g->rules.n || parses(ld, g->rules.v[i].alert, p->value, &why))
        return;
    tell(ld, "%u:%u: group %s, label %s: %s", g->at.line, g->at.column, text_quoted(group, g->name),
         text_quoted(label, p->name), why.text);
}

static void check_rule(struct loading *ld, const struct config_rule *r)
{
    if (r->record.len && r->alert.len)
        tell_rule(ld, AT_BOTH, "only one of 'record' and 'alert' must be set");
    if (!r->record.len && !r->alert.len)
        tell_rule(ld, AT_BOTH, "one of 'record' or 'alert' must be set");
    check_expr(ld, r);
    if (r->record.len)
        check_recording(ld, r);
    for (size_t i = 0; i < r->labels.n; i++) {
        if (!label_ok(ld, r->labels.v[i].name) || nx_slice_is(r->labels.v[i].name, LABEL_NAME))
            tell_rule(ld, NOWHERE, "invalid label name: %s", r->labels.v[i].name.ptr);
        if (!utf8_valid(r->labels.v[i].value))
            tell_rule(ld, NOWHERE, "invalid label value: %s", r->labels.v[i].value.ptr);
    }
    for (size_t i = 0; i < r->annotations.n; i++)
        if (!label_ok(ld, r->annotations.v[i].name))
            tell_rule(ld, NOWHERE, "invalid annotation name: %s", r->annotations.v[i].name.ptr);
    for (size_t i = 0; r->alert.len && i < r->labels.n && !ld->st; i++)
        check_template(ld, "label", &r->labels.v[i]);
    for (size_t i = 0; r->alert.len && i < r->annotations.n && !ld->st; i++)
        check_template(ld, "annotation", &r->annotations.v[i]);
}

/* ---- what was checked, as it is kept ---------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return nx_slice_cmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

/* `over` wins over `under`. */
static void merge(struct loading *ld, const struct config_pairs *under,
                  const struct config_pairs *over, struct labels *out)
{
    struct label *v = arena_array(ld->l->arena, under->n + over->n + 1, sizeof *v);
    uint32_t n = 0;

    if (!v) {
        out_of_memory(ld, ld->l->arena);
        return;
    }
    for (size_t i = 0; i < over->n; i++)
        v[n++] = (struct label){over->v[i].name, over->v[i].value};
    for (size_t i = 0; i < under->n; i++)
        if (!has_label(over, under->v[i].name))
            v[n++] = (struct label){under->v[i].name, under->v[i].value};
    qsort(v, n, sizeof *v, by_name);
    *out = (struct labels){v, n};
}

static void keep_rule(struct loading *ld, const struct config_rule_group *g,
                      const struct config_rule *from, struct rule *to)
{
    static const struct config_pairs none;
    const struct pql_expr *e = NULL;
    struct buf b;
    char *text;

    *to = (struct rule){.alerting = from->alert.len > 0,
                        .name = rule_name(from),
                        .for_ms = from->for_ms,
                        .keep_firing_for_ms = from->keep_firing_for_ms};
    merge(ld, &g->labels, &from->labels, &to->labels);
    merge(ld, &none, &from->annotations, &to->annotations);
    if (!ld->st)
        ld->st = pql_parse(ld->scratch, from->expr, &ld->opts->features, &e, ld->err);
    if (ld->st)
        return;
    buf_init(&b, 0);
    pql_print(&b, e);
    pql_expr_done(e);
    text = arena_strndup(ld->l->arena, b.ptr ? b.ptr : "", b.len);
    to->query = nx_slice_of(text, b.len);
    ld->st = buf_status(&b, ld->err);
    buf_done(&b);
    if (!text)
        out_of_memory(ld, ld->l->arena);
}

static uint64_t hash_slice(uint64_t h, struct nx_slice s)
{
    return hash_mix(h, hash_bytes(s.ptr, s.len));
}

static uint64_t fingerprint(const struct rule_group_def *g)
{
    uint64_t h = hash_slice(hash_slice(1, g->file), g->name);

    h = hash_mix(h, (uint64_t)g->interval_ms);
    h = hash_mix(h, (uint64_t)g->query_offset_ms);
    h = hash_mix(h, (uint64_t)g->limit);
    for (size_t i = 0; i < g->n_rules; i++) {
        const struct rule *r = &g->rules[i];
        h = hash_slice(hash_slice(hash_mix(h, r->alerting), r->name), r->query);
        h = hash_mix(hash_mix(h, (uint64_t)r->for_ms), (uint64_t)r->keep_firing_for_ms);
        h = hash_mix(h, labels_hash(&r->labels));
        h = hash_mix(h, labels_hash(&r->annotations));
    }
    return h;
}

static void keep_group(struct loading *ld, const struct config_rule_group *g, struct nx_slice file)
{
    struct loaded *l = ld->l;
    struct rule *rules = arena_array(l->arena, g->rules.n + 1, sizeof *rules);
    struct rule_group_def *def;

    if (!rules) {
        out_of_memory(ld, l->arena);
        return;
    }
    for (size_t i = 0; i < g->rules.n && !ld->st; i++)
        keep_rule(ld, g, &g->rules.v[i], &rules[i]);
    if (l->files.n_groups == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        def = realloc(l->groups, cap * sizeof *def);
        if (!def) {
            ld->st = nx_fail(ld->err, NX_NOMEM, "out of memory");
            return;
        }
        l->groups = def;
        l->files.groups = def;
        l->cap = cap;
    }
    def = &l->groups[l->files.n_groups++];
    *def = (struct rule_group_def){.file = file,
                                   .name = g->name,
                                   .interval_ms = g->interval_ms,
                                   .query_offset_ms = g->has_query_offset ? g->query_offset_ms : -1,
                                   .limit = g->limit,
                                   .rules = rules,
                                   .n_rules = g->rules.n};
    def->fingerprint = fingerprint(def);
    l->files.n_rules += g->rules.n;
}

/* ---- a file ---------------------------------------------------------------------------------------- */

static nx_status load_text(struct loading *ld, struct nx_slice text)
{
    struct config_rule_file file = {0};
    struct nx_err why = {0};
    struct nx_slice name = nx_slice_str(arena_strdup(ld->l->arena, ld->file));
    nx_status st =
        config_parse_rules(&file, text, ld->opts->ignore_unknown_fields, ld->l->arena, &why);

    if (st == NX_BADINPUT) {
        tell(ld, "%s", why.text);
        return NX_BADINPUT;
    }
    if (st)
        return nx_fail(ld->err, st, "%s: %s", ld->file, why.text);
    if (file.more_documents && ld->opts->warn)
        ld->opts->warn(ld->opts->ctx, "Multiple document yaml rules files are not supported, only "
                                      "the first document is processed");
    for (size_t i = 0; i < file.groups.n && !ld->st; i++) {
        ld->group = &file.groups.v[i];
        check_group(ld, &file, i);
        for (size_t k = 0; k < ld->group->rules.n && !ld->st; k++) {
            ld->rule = &ld->group->rules.v[k];
            ld->number = k + 1;
            check_rule(ld, ld->rule);
        }
        for (size_t k = 0; k < ld->group->labels.n && !ld->st; k++)
            check_group_label(ld, &ld->group->labels.v[k]);
    }
    if (ld->wrong || ld->st)
        return ld->st ? ld->st : NX_BADINPUT;
    for (size_t i = 0; i < file.groups.n && !ld->st; i++)
        keep_group(ld, &file.groups.v[i], name);
    return ld->st;
}

static nx_status begin(struct loading *ld, const struct rule_load_opts *opts, struct nx_err *err)
{
    static const struct rule_load_opts none;

    *ld = (struct loading){.opts = opts ? opts : &none, .err = err};
    ld->l = calloc(1, sizeof *ld->l);
    ld->scratch = arena_new(0);
    if (!ld->l || !ld->scratch || !(ld->l->arena = arena_new(0)))
        return nx_fail(err, NX_NOMEM, "out of memory");
    ld->l->refs = 1;
    ld->l->files.features = ld->opts->features;
    return NX_OK;
}

static nx_status finish(struct loading *ld, nx_status st, struct rule_files **out)
{
    arena_free(ld->scratch);
    if (!st)
        *out = &ld->l->files;
    else if (ld->l && !ld->l->refs)
        free(ld->l);
    else if (ld->l)
        rule_files_unref(&ld->l->files);
    return st;
}

nx_status rule_files_parse(struct rule_files **out, struct nx_slice text, const char *name,
                           const struct rule_load_opts *opts, struct nx_err *err)
{
    struct loading ld;
    nx_status st = begin(&ld, opts, err);

    ld.file = name;
    if (!st)
        st = load_text(&ld, text);
    return finish(&ld, st, out);
}

nx_status rule_files_load(struct rule_files **out, const struct nx_slice *paths, size_t n_paths,
                          const struct rule_load_opts *opts, struct nx_err *err)
{
    struct loading ld;
    nx_status st = begin(&ld, opts, err);

    for (size_t i = 0; i < n_paths && !st; i++) {
        struct nx_err why = {0};
        struct buf text;

        ld.file = paths[i].ptr;
        st = config_read_text(ld.file, &text, &why);
        if (st) {
            tell(&ld, "%s", why.text);
            if (err)
                err->code = st;
        } else {
            st = load_text(&ld, buf_view(&text));
        }
        buf_done(&text);
        arena_reset(ld.scratch);
    }
    return finish(&ld, st, out);
}
