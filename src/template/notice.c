#include "src/template/value.h"

/* notice.c - what templates of notifications see: lists, records, and Alertmanager's KV (pairs of names and
 * values that have methods), with the functions that only Alertmanager has. */

#include <string.h>
#include <time.h>

#include "src/base/text.h"

struct value value_of_node(const struct template_value *n)
{
    switch (n->kind) {
    case TEMPLATE_TEXT:
        return value_string(n->text.ptr ? n->text : nx_slice_of("", 0));
    case TEMPLATE_PAIRS:
        return (struct value){.kind = V_PAIRS, .labels = n->pairs};
    case TEMPLATE_TIME:
        return (struct value){.kind = V_TIME, .i = n->ns};
    case TEMPLATE_NUMBER:
        return value_int(n->number);
    default:
        return (struct value){.kind = V_NODE, .node = n};
    }
}

size_t notice_count(const struct value *v)
{
    return v->kind == V_LIST ? v->list.n : v->node->n_items;
}

void notice_item(const struct value *v, size_t i, struct value *out)
{
    *out = v->kind == V_LIST ? v->list.v[i] : value_of_node(&v->node->items[i]);
}

/* ---- pairs ------------------------------------------------------------------------------------------- */

/* Go's template.KV gives them with alertname first. */
static uint32_t first_of(const struct labels *ls)
{
    for (uint32_t i = 0; i < ls->n; i++)
        if (nx_slice_is(ls->v[i].name, "alertname"))
            return i;
    return 0;
}

static const struct label *nth(const struct labels *ls, uint32_t i)
{
    uint32_t first = first_of(ls);

    return i == 0 ? &ls->v[first] : i <= first ? &ls->v[i - 1] : &ls->v[i];
}

static bool make_pair(struct run *r, const struct label *l, struct value *out)
{
    struct arg *args = arena_array(r->arena, 2, sizeof *args);
    struct value *v = arena_array(r->arena, 2, sizeof *v);

    if (!args || !v)
        return run_memory(r);
    v[0] = value_string(l->name);
    v[1] = value_string(l->value);
    args[0] = (struct arg){nx_slice_str("Name"), &v[0]};
    args[1] = (struct arg){nx_slice_str("Value"), &v[1]};
    *out = (struct value){.kind = V_ARGS, .args = {args, 2}};
    return true;
}

enum of_pair { OF_BOTH, OF_NAME, OF_VALUE };

static bool list_pairs(struct run *r, const struct labels *ls, enum of_pair what, struct value *out)
{
    *out = (struct value){.kind = V_LIST,
                          .list = {arena_array(r->arena, ls->n + 1u, sizeof(struct value)), ls->n}};
    if (!out->list.v)
        return run_memory(r);
    for (uint32_t i = 0; i < ls->n; i++) {
        const struct label *l = nth(ls, i);
        if (what != OF_BOTH)
            out->list.v[i] = value_string(what == OF_NAME ? l->name : l->value);
        else if (!make_pair(r, l, &out->list.v[i]))
            return false;
    }
    return true;
}

bool notice_remove(struct run *r, const struct value *v, const struct value *names,
                   struct value *out)
{
    struct label *left = arena_array(r->arena, v->labels.n + 1u, sizeof *left);
    uint32_t n = 0;

    if (!left)
        return run_memory(r);
    for (uint32_t i = 0; i < v->labels.n; i++) {
        bool gone = false;
        for (size_t k = 0; k < names->list.n && !gone; k++)
            gone = (names->list.v[k].kind == V_STRING) &&
                   nx_slice_eq(names->list.v[k].s, v->labels.v[i].name);
        if (!gone)
            left[n++] = v->labels.v[i];
    }
    *out = (struct value){.kind = V_PAIRS, .labels = {left, n}};
    return true;
}

/* Lists that a member makes count as found: nothing is called later. */
static enum member pairs_member(struct run *r, const struct value *v, struct nx_slice name,
                                struct value *out)
{
    if (nx_slice_is(name, "Remove"))
        return MEMBER_METHOD;
    if (nx_slice_is(name, "SortedPairs"))
        list_pairs(r, &v->labels, OF_BOTH, out);
    else if (nx_slice_is(name, "Names"))
        list_pairs(r, &v->labels, OF_NAME, out);
    else if (nx_slice_is(name, "Values"))
        list_pairs(r, &v->labels, OF_VALUE, out);
    else {
        *out = value_string(labels_get(&v->labels, name));
        if (!out->s.ptr)
            out->s = nx_slice_of("", 0);
    }
    return MEMBER_FOUND;
}

/* `.Values` of what SortedPairs gave: `join " "` of it is in everybody's templates. */
enum member notice_member(struct run *r, const struct value *v, struct nx_slice name,
                          struct value *out)
{
    if (v->kind == V_PAIRS)
        return pairs_member(r, v, name, out);
    if (v->kind == V_LIST) {
        bool names = nx_slice_is(name, "Names");
        if (!v->list.n || v->list.v[0].kind != V_ARGS || (!names && !nx_slice_is(name, "Values"))) {
            *out = (struct value){.kind = V_LIST};
            return v->list.n ? MEMBER_NO_SUCH : MEMBER_FOUND;
        }
        *out = (struct value){
            .kind = V_LIST,
            .list = {arena_array(r->arena, v->list.n, sizeof(struct value)), v->list.n}};
        if (!out->list.v) {
            run_memory(r);
            return MEMBER_MISSING;
        }
        for (size_t i = 0; i < v->list.n; i++)
            out->list.v[i] = *v->list.v[i].args.v[names ? 0 : 1].value;
        return MEMBER_FOUND;
    }
    for (size_t i = 0; i < v->node->n_fields; i++)
        if (nx_slice_is(name, v->node->fields[i].name)) {
            *out = value_of_node(&v->node->fields[i].value);
            return MEMBER_FOUND;
        }
    return MEMBER_NO_SUCH;
}

/* ---- times ------------------------------------------------------------------------------------------- */

struct layout_part {
    const char *in, *strf; /* strf NULL: a fraction of a second, as many digits as there are */
};

/* What Go's layouts are made of; longer ones before those that they begin with. Times are UTC. */
static const struct layout_part parts[] = {
    {"January", "%B"}, {"Jan", "%b"},        {"Monday", "%A"},   {"Mon", "%a"},   {"MST", "UTC"},
    {"2006", "%Y"},    {"-07:00", "+00:00"}, {"-0700", "+0000"}, {"Z07:00", "Z"}, {"01", "%m"},
    {"02", "%d"},      {"03", "%I"},         {"04", "%M"},       {"05", "%S"},    {"06", "%y"},
    {"15", "%H"},      {"PM", "%p"},         {"pm", "%P"},       {"_2", "%e"},    {".000000", NULL},
    {".000", NULL},    {"1", "%-m"},         {"2", "%-d"},       {"3", "%-I"},
};

/* strftime's texts are those of the C locale, which is the only one here. */
static void put_part(struct buf *b, const struct layout_part *p, const struct tm *tm)
{
    char text[64];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* all of them are in the table above */
    buf_append(b, text, strftime(text, sizeof text, p->strf, tm));
#pragma GCC diagnostic pop
}

bool value_format_time(struct run *r, const struct value *v, struct nx_slice layout,
                       struct value *out)
{
    int64_t s = v->i / 1000000000 - (v->i % 1000000000 < 0);
    uint64_t frac = (uint64_t)(v->i - s * 1000000000);
    time_t t = (time_t)s;
    struct tm tm;
    struct buf b;

    gmtime_r(&t, &tm);
    buf_init(&b, TEXT_MAX_BYTES);
    for (size_t at = 0; at < layout.len;) {
        const struct layout_part *p = NULL;
        for (size_t i = 0; i < NX_COUNT(parts) && !p; i++) {
            size_t len = strlen(parts[i].in);
            if (layout.len - at >= len && memcmp(layout.ptr + at, parts[i].in, len) == 0)
                p = &parts[i];
        }
        if (!p) {
            buf_char(&b, layout.ptr[at++]);
            continue;
        }
        if (!p->strf)
            buf_printf(&b, strlen(p->in) == 4 ? ".%03u" : ".%06u",
                       (unsigned)(frac / (strlen(p->in) == 4 ? 1000000u : 1000u)));
        else
            put_part(&b, p, &tm);
        at += strlen(p->in);
    }
    return run_text(r, &b, out);
}

/* ---- functions --------------------------------------------------------------------------------------- */

bool fn_join(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    struct buf b;

    (void)n;
    if (v[1].kind != V_LIST) {
        nx_fail(why, NX_EXEC, "wrong type for value; expected []string; got %s", value_type(&v[1]));
        return false;
    }
    buf_init(&b, TEXT_MAX_BYTES);
    for (size_t i = 0; i < v[1].list.n; i++) {
        if (i)
            buf_slice(&b, v[0].s);
        print_values(&b, &v[1].list.v[i], 1);
    }
    return run_text(r, &b, out);
}

bool fn_string_slice(struct run *r, const struct value *v, size_t n, struct value *out,
                     struct nx_err *why)
{
    (void)why;
    *out = (struct value){.kind = V_LIST, .list = {arena_array(r->arena, n + 1, sizeof *v), n}};
    if (!out->list.v)
        return run_memory(r);
    if (n)
        memcpy(out->list.v, v, n * sizeof *v);
    return true;
}

bool fn_trim_space(struct run *r, const struct value *v, size_t n, struct value *out,
                   struct nx_err *why)
{
    struct nx_slice s = v->s;

    (void)r;
    (void)n;
    (void)why;
    while (s.len && strchr(" \t\r\n\v\f", *s.ptr))
        s = nx_slice_of(s.ptr + 1, s.len - 1);
    while (s.len && strchr(" \t\r\n\v\f", s.ptr[s.len - 1]))
        s.len--;
    *out = value_string(s);
    return true;
}
