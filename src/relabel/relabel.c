/* relabel.c - the actions of relabelling rules.
 *
 * WHY     metric_relabel_configs run for every new series and relabel_configs for every target,
 *         mostly to find that nothing applies. That path must cost comparisons and matches only.
 * RULES   R1  Rules run in order on what the ones before left; a dropping rule ends it.
 *         R2  Nothing is allocated for a rule that does not apply, nor for a value that is already
 *             there or that exists somewhere already (the rule's own text, a label's value).
 *         R3  labelmap reads the labels as they were before it began.
 *         R4  A name that an expanded target_label does not make valid leaves the rule without
 *             effect; an empty result removes the label. */
#include "src/relabel/relabel.h"

#include <stdio.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/text.h"

#define WORK_BYTES (64u << 20) /* what one label set may grow to while it is rewritten */

nx_status relabel_work_init(struct relabel_work *w, struct nx_err *err)
{
    *w = (struct relabel_work){.arena = arena_new(WORK_BYTES)};
    labels_builder_init(&w->labels);
    buf_init(&w->joined, WORK_BYTES);
    buf_init(&w->expanded, WORK_BYTES);
    return w->arena ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");
}

void relabel_work_begin(struct relabel_work *w, const struct labels *base)
{
    labels_builder_reset(&w->labels, base);
    arena_reset(w->arena);
    buf_clear(&w->joined);
    buf_clear(&w->expanded);
}

void relabel_work_done(struct relabel_work *w)
{
    labels_builder_done(&w->labels);
    arena_free(w->arena);
    buf_done(&w->joined);
    buf_done(&w->expanded);
    *w = (struct relabel_work){0};
}

/* One rule on one set of labels. */
struct turn {
    const struct relabel_rule *rule;
    struct labels_builder *lb;
    struct relabel_work *work;
    struct nx_slice value; /* the source values, joined */
    bool nomem;
};

static bool has_variable(struct nx_slice s)
{
    return memchr(s.ptr, '$', s.len) != NULL;
}

/* The only source's value is used where it lies; several are put together. */
static void join_sources(struct turn *t)
{
    const struct config_strings *names = &t->rule->source_labels;
    struct buf *b = &t->work->joined;

    t->value = nx_slice_of("", 0);
    if (names->n == 1)
        t->value = labels_builder_get(t->lb, names->v[0]);
    if (names->n <= 1)
        return;
    buf_clear(b);
    for (size_t i = 0; i < names->n; i++) {
        if (i)
            buf_slice(b, t->rule->separator);
        buf_slice(b, labels_builder_get(t->lb, names->v[i]));
    }
    t->nomem |= b->failed != NX_OK;
    t->value = buf_view(b);
}

/* Bytes that stay: a copy, unless they lie somewhere that lives as long (R2). */
static struct nx_slice keep(struct turn *t, struct nx_slice s)
{
    struct nx_slice copy = arena_slice(t->work->arena, s);

    t->nomem |= !copy.ptr;
    return copy.ptr ? copy : nx_slice_of("", 0);
}

/* `name` and `value` may lie in buffers that the next rule reuses: unless borrowed, what is new is
 * copied. */
static void set(struct turn *t, struct nx_slice name, bool name_borrowed, struct nx_slice value,
                bool value_borrowed)
{
    struct nx_slice had = labels_builder_get(t->lb, name);

    if (nx_slice_eq(had, value))
        return; /* there already, or neither here nor there */
    if (!value.len) {
        labels_builder_del(t->lb, name);
        return;
    }
    if (!name_borrowed)
        name = keep(t, name);
    if (!value_borrowed)
        value = keep(t, value);
    if (!t->nomem)
        labels_builder_set(t->lb, name, value);
}

/* Are t->value's bytes those of a label? Then they live as long as the builder's. */
static bool value_is_a_label(const struct turn *t)
{
    return t->rule->source_labels.n <= 1;
}

/* Expands a template against the value; false if the regex does not match. Valid until the next
 * call. */
static bool expand(struct turn *t, struct nx_slice subject, struct nx_slice template,
                   struct nx_slice *out)
{
    struct buf *b = &t->work->expanded;

    buf_clear(b);
    if (!regex_expand(t->rule->regex, subject, template, b))
        return false;
    t->nomem |= b->failed != NX_OK;
    *out = buf_view(b);
    return true;
}

static bool name_ok(const struct turn *t, struct nx_slice name)
{
    return t->rule->legacy_names ? label_name_legacy_valid(name) : label_name_valid(name);
}

/* Where a replace rule writes: the rule's own text, or what it expands to. False: it does not
 * apply. */
static bool find_target(struct turn *t, struct nx_slice *target, bool *borrowed)
{
    *target = t->rule->target_label;
    *borrowed = true;
    if (!has_variable(*target))
        return true;
    if (!expand(t, t->value, *target, target))
        return false;
    *target = keep(t, *target); /* the buffer is about to be used again */
    return !t->nomem && name_ok(t, *target);
}

static void replace(struct turn *t)
{
    const struct relabel_rule *r = t->rule;
    struct nx_slice target, result = r->replacement;
    bool borrowed, result_borrowed = true;

    if (!find_target(t, &target, &borrowed))
        return;
    if (r->default_regex && nx_slice_is(r->replacement, "$1")) {
        result = t->value; /* (.*) -> $1 */
        result_borrowed = value_is_a_label(t);
    } else if (has_variable(r->replacement)) {
        if (!expand(t, t->value, r->replacement, &result))
            return;
        result_borrowed = false;
    } else if (!r->default_regex && !regex_match(r->regex, t->value)) {
        return;
    }
    if (!t->nomem)
        set(t, target, borrowed, result, result_borrowed);
}

static void hashmod(struct turn *t)
{
    uint8_t digest[16];
    uint64_t v = 0;
    char text[24];
    int len;

    hash_md5(t->value.ptr, t->value.len, digest);
    for (int i = 8; i < 16; i++)
        v = v << 8 | digest[i];
    len = snprintf(text, sizeof text, "%llu", (unsigned long long)(v % t->rule->modulus));
    set(t, t->rule->target_label, true, nx_slice_of(text, (size_t)len), false);
}

static void labelmap(struct turn *t)
{
    struct label *hits = NULL;
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->lb->n; i++) {
        if (!regex_match(t->rule->regex, t->lb->v[i].name))
            continue;
        if (!hits && !(hits = arena_array(t->work->arena, t->lb->n - i, sizeof *hits))) {
            t->nomem = true;
            return;
        }
        hits[n++] = t->lb->v[i]; /* R3 */
    }
    for (uint32_t i = 0; i < n && !t->nomem; i++) {
        struct nx_slice name;

        if (expand(t, hits[i].name, t->rule->replacement, &name))
            set(t, name, false, hits[i].value, true);
    }
}

/* labeldrop removes the names that match, labelkeep those that do not. */
static void filter_names(struct turn *t, bool drop_matching)
{
    for (uint32_t i = 0; i < t->lb->n;) {
        struct nx_slice name = t->lb->v[i].name;

        if (regex_match(t->rule->regex, name) == drop_matching)
            labels_builder_del(t->lb, name);
        else
            i++;
    }
}

/* ---- letters ---- */

/* Character by character, as Go's ToLower and ToUpper; bytes that are no UTF-8 become U+FFFD. */
static void change_case(struct turn *t, bool upper)
{
    struct buf *b = &t->work->expanded;
    struct nx_slice rest = t->value;

    buf_clear(b);
    while (rest.len) {
        uint32_t c = 0xfffd;
        size_t len = text_utf8_take(rest, &c);

        if (!len)
            c = 0xfffd, len = 1;
        text_utf8(b, upper ? text_upper(c) : text_lower(c));
        rest.ptr += len;
        rest.len -= len;
    }
    t->nomem |= b->failed != NX_OK;
    if (!t->nomem)
        set(t, t->rule->target_label, true, buf_view(b), false);
}

/* False: the label set is dropped. */
static bool apply(struct turn *t)
{
    const struct relabel_rule *r = t->rule;

    if (r->action != RELABEL_LABELMAP && r->action != RELABEL_LABELDROP &&
        r->action != RELABEL_LABELKEEP)
        join_sources(t);
    if (t->nomem)
        return true;
    switch (r->action) {
    case RELABEL_DROP:
        return !regex_match(r->regex, t->value);
    case RELABEL_KEEP:
        return regex_match(r->regex, t->value);
    case RELABEL_DROPEQUAL:
        return !nx_slice_eq(labels_builder_get(t->lb, r->target_label), t->value);
    case RELABEL_KEEPEQUAL:
        return nx_slice_eq(labels_builder_get(t->lb, r->target_label), t->value);
    case RELABEL_REPLACE:
        replace(t);
        return true;
    case RELABEL_HASHMOD:
        hashmod(t);
        return true;
    case RELABEL_LABELMAP:
        labelmap(t);
        return true;
    case RELABEL_LABELDROP:
        filter_names(t, true);
        return true;
    case RELABEL_LABELKEEP:
        filter_names(t, false);
        return true;
    case RELABEL_LOWERCASE:
        change_case(t, false);
        return true;
    case RELABEL_UPPERCASE:
        change_case(t, true);
        return true;
    case RELABEL_ACTION_COUNT:
        break;
    }
    NX_ASSERT(false);
    return true;
}

nx_status relabel_apply(const struct relabel_rules *rules, struct relabel_work *w, bool *kept,
                        struct nx_err *err)
{
    for (size_t i = 0; i < rules->n; i++) {
        struct turn t = {.rule = &rules->v[i], .lb = &w->labels, .work = w};

        if (!apply(&t)) {
            *kept = false; /* R1 */
            return NX_OK;
        }
        if (t.nomem || w->labels.nomem)
            return nx_fail(err, NX_NOMEM, "out of memory");
    }
    *kept = true;
    return NX_OK;
}
