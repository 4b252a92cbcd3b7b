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

#define SCRATCH_BYTES (64u << 20) /* what one label set may grow to while it is rewritten */

nx_status relabel_scratch_init(struct relabel_scratch *s, struct nx_err *err)
{
    *s = (struct relabel_scratch){.arena = arena_new(SCRATCH_BYTES)};
    buf_init(&s->joined, SCRATCH_BYTES);
    buf_init(&s->expanded, SCRATCH_BYTES);
    return s->arena ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");
}

void relabel_scratch_reset(struct relabel_scratch *s)
{
    arena_reset(s->arena);
    buf_clear(&s->joined);
    buf_clear(&s->expanded);
}

void relabel_scratch_done(struct relabel_scratch *s)
{
    arena_free(s->arena);
    buf_done(&s->joined);
    buf_done(&s->expanded);
    *s = (struct relabel_scratch){0};
}

/* One rule at work. */
struct work {
    const struct relabel_rule *rule;
    struct labels_builder *lb;
    struct relabel_scratch *s;
    struct nx_slice value; /* the source values, joined */
    bool nomem;
};

static bool has_variable(struct nx_slice s)
{
    return memchr(s.ptr, '$', s.len) != NULL;
}

/* The only source's value is used where it lies; several are put together. */
static void join_sources(struct work *w)
{
    const struct config_strings *names = &w->rule->source_labels;
    struct buf *b = &w->s->joined;

    w->value = nx_slice_of("", 0);
    if (names->n == 1)
        w->value = labels_builder_get(w->lb, names->v[0]);
    if (names->n <= 1)
        return;
    buf_clear(b);
    for (size_t i = 0; i < names->n; i++) {
        if (i)
            buf_slice(b, w->rule->separator);
        buf_slice(b, labels_builder_get(w->lb, names->v[i]));
    }
    w->nomem |= b->failed != NX_OK;
    w->value = buf_view(b);
}

/* Bytes that stay: a copy, unless they lie somewhere that lives as long (R2). */
static struct nx_slice keep(struct work *w, struct nx_slice s)
{
    struct nx_slice copy = arena_slice(w->s->arena, s);

    w->nomem |= !copy.ptr;
    return copy.ptr ? copy : nx_slice_of("", 0);
}

/* `name` and `value` may lie in buffers that the next rule reuses: unless borrowed, what is new is
 * copied. */
static void set(struct work *w, struct nx_slice name, bool name_borrowed, struct nx_slice value,
                bool value_borrowed)
{
    struct nx_slice had = labels_builder_get(w->lb, name);

    if (nx_slice_eq(had, value))
        return; /* there already, or neither here nor there */
    if (!value.len) {
        labels_builder_del(w->lb, name);
        return;
    }
    if (!name_borrowed)
        name = keep(w, name);
    if (!value_borrowed)
        value = keep(w, value);
    if (!w->nomem)
        labels_builder_set(w->lb, name, value);
}

/* Are w->value's bytes those of a label? Then they live as long as the builder's. */
static bool value_is_a_label(const struct work *w)
{
    return w->rule->source_labels.n <= 1;
}

/* Expands a template against the value; false if the regex does not match. Valid until the next
 * call. */
static bool expand(struct work *w, struct nx_slice subject, struct nx_slice template,
                   struct nx_slice *out)
{
    struct buf *b = &w->s->expanded;

    buf_clear(b);
    if (!regex_expand(w->rule->regex, subject, template, b))
        return false;
    w->nomem |= b->failed != NX_OK;
    *out = buf_view(b);
    return true;
}

static bool name_ok(const struct work *w, struct nx_slice name)
{
    return w->rule->legacy_names ? label_name_legacy_valid(name) : label_name_valid(name);
}

/* Where a replace rule writes: the rule's own text, or what it expands to. False: it does not
 * apply. */
static bool find_target(struct work *w, struct nx_slice *target, bool *borrowed)
{
    *target = w->rule->target_label;
    *borrowed = true;
    if (!has_variable(*target))
        return true;
    if (!expand(w, w->value, *target, target))
        return false;
    *target = keep(w, *target); /* the buffer is about to be used again */
    return !w->nomem && name_ok(w, *target);
}

static void replace(struct work *w)
{
    const struct relabel_rule *r = w->rule;
    struct nx_slice target, result = r->replacement;
    bool borrowed, result_borrowed = true;

    if (!find_target(w, &target, &borrowed))
        return;
    if (r->default_regex && nx_slice_is(r->replacement, "$1")) {
        result = w->value; /* (.*) -> $1 */
        result_borrowed = value_is_a_label(w);
    } else if (has_variable(r->replacement)) {
        if (!expand(w, w->value, r->replacement, &result))
            return;
        result_borrowed = false;
    } else if (!r->default_regex && !regex_match(r->regex, w->value)) {
        return;
    }
    if (!w->nomem)
        set(w, target, borrowed, result, result_borrowed);
}

static void hashmod(struct work *w)
{
    uint8_t digest[16];
    uint64_t v = 0;
    char text[24];
    int len;

    hash_md5(w->value.ptr, w->value.len, digest);
    for (int i = 8; i < 16; i++)
        v = v << 8 | digest[i];
    len = snprintf(text, sizeof text, "%llu", (unsigned long long)(v % w->rule->modulus));
    set(w, w->rule->target_label, true, nx_slice_of(text, (size_t)len), false);
}

static void labelmap(struct work *w)
{
    struct label *hits = NULL;
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->lb->n; i++) {
        if (!regex_match(w->rule->regex, w->lb->v[i].name))
            continue;
        if (!hits && !(hits = arena_array(w->s->arena, w->lb->n - i, sizeof *hits))) {
            w->nomem = true;
            return;
        }
        hits[n++] = w->lb->v[i]; /* R3 */
    }
    for (uint32_t i = 0; i < n && !w->nomem; i++) {
        struct nx_slice name;

        if (expand(w, hits[i].name, w->rule->replacement, &name))
            set(w, name, false, hits[i].value, true);
    }
}

/* labeldrop removes the names that match, labelkeep those that do not. */
static void filter_names(struct work *w, bool drop_matching)
{
    for (uint32_t i = 0; i < w->lb->n;) {
        struct nx_slice name = w->lb->v[i].name;

        if (regex_match(w->rule->regex, name) == drop_matching)
            labels_builder_del(w->lb, name);
        else
            i++;
    }
}

/* ---- letters ---- */

/* Character by character, as Go's ToLower and ToUpper; bytes that are no UTF-8 become U+FFFD. */
static void change_case(struct work *w, bool upper)
{
    struct buf *b = &w->s->expanded;
    struct nx_slice rest = w->value;

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
    w->nomem |= b->failed != NX_OK;
    if (!w->nomem)
        set(w, w->rule->target_label, true, buf_view(b), false);
}

/* False: the label set is dropped. */
static bool apply(struct work *w)
{
    const struct relabel_rule *r = w->rule;

    if (r->action != RELABEL_LABELMAP && r->action != RELABEL_LABELDROP &&
        r->action != RELABEL_LABELKEEP)
        join_sources(w);
    if (w->nomem)
        return true;
    switch (r->action) {
    case RELABEL_DROP:
        return !regex_match(r->regex, w->value);
    case RELABEL_KEEP:
        return regex_match(r->regex, w->value);
    case RELABEL_DROPEQUAL:
        return !nx_slice_eq(labels_builder_get(w->lb, r->target_label), w->value);
    case RELABEL_KEEPEQUAL:
        return nx_slice_eq(labels_builder_get(w->lb, r->target_label), w->value);
    case RELABEL_REPLACE:
        replace(w);
        return true;
    case RELABEL_HASHMOD:
        hashmod(w);
        return true;
    case RELABEL_LABELMAP:
        labelmap(w);
        return true;
    case RELABEL_LABELDROP:
        filter_names(w, true);
        return true;
    case RELABEL_LABELKEEP:
        filter_names(w, false);
        return true;
    case RELABEL_LOWERCASE:
        change_case(w, false);
        return true;
    case RELABEL_UPPERCASE:
        change_case(w, true);
        return true;
    case RELABEL_ACTION_COUNT:
        break;
    }
    NX_ASSERT(false);
    return true;
}

enum relabel_verdict relabel_apply(const struct relabel_rules *rules, struct labels_builder *lb,
                                   struct relabel_scratch *s)
{
    for (size_t i = 0; i < rules->n; i++) {
        struct work w = {.rule = &rules->v[i], .lb = lb, .s = s};

        if (!apply(&w))
            return RELABEL_DROPPED; /* R1 */
        if (w.nomem || lb->nomem)
            return RELABEL_NOMEM;
    }
    return RELABEL_KEPT;
}
