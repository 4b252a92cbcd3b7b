/* labels.c - comparing, hashing, printing and building label sets.
 *
 * RULES   L1  A set is sorted by name, without doubles and without empty values; everything here
 *             may count on it, and the builder keeps it so at every step.
 *         L2  Equal sets hash equally wherever their bytes lie. A hash mixes the hashes of names and
 *             values, so that {a="bc"} and {ab="c"} differ.
 *         L3  Over some labels only, the hash is that of the set that would remain. */
#include "src/base/labels.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/text.h"

static uint64_t mix_label(uint64_t h, const struct label *l)
{
    h = hash_mix(h, hash_bytes(l->name.ptr, l->name.len));
    return hash_mix(h, hash_bytes(l->value.ptr, l->value.len));
}

uint64_t labels_hash(const struct labels *ls)
{
    uint64_t h = 0;

    for (uint32_t i = 0; i < ls->n; i++)
        h = mix_label(h, &ls->v[i]);
    return h;
}

static bool label_eq(const struct label *a, const struct label *b)
{
    return nx_slice_eq(a->name, b->name) && nx_slice_eq(a->value, b->value);
}

bool labels_eq(const struct labels *a, const struct labels *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        if (!label_eq(&a->v[i], &b->v[i]))
            return false;
    }
    return true;
}

int labels_cmp(const struct labels *a, const struct labels *b)
{
    uint32_t common = a->n < b->n ? a->n : b->n;

    for (uint32_t i = 0; i < common; i++) {
        int c = nx_slice_cmp(a->v[i].name, b->v[i].name);

        if (!c)
            c = nx_slice_cmp(a->v[i].value, b->v[i].value);
        if (c)
            return c;
    }
    return a->n < b->n ? -1 : a->n > b->n;
}

/* Where `name` is, or would go. */
static uint32_t lower_bound(const struct label *v, uint32_t n, struct nx_slice name)
{
    uint32_t low = 0, high = n;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (nx_slice_cmp(v[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct nx_slice find(const struct label *v, uint32_t n, struct nx_slice name)
{
    uint32_t i = lower_bound(v, n, name);

    return i < n && nx_slice_eq(v[i].name, name) ? v[i].value : nx_slice_of("", 0);
}

struct nx_slice labels_get(const struct labels *ls, struct nx_slice name)
{
    return find(ls->v, ls->n, name);
}

struct nx_slice labels_get_str(const struct labels *ls, const char *name)
{
    return find(ls->v, ls->n, nx_slice_str(name));
}

nx_status labels_copy(struct arena *a, const struct labels *from, struct labels *to,
                      struct nx_err *err)
{
    struct label *v = arena_array(a, from->n, sizeof *v);
    size_t bytes = 0;
    char *p;

    to->v = NULL;
    to->n = from->n;
    if (!v)
        return arena_failed(a, err);
    for (uint32_t i = 0; i < from->n; i++)
        bytes += from->v[i].name.len + from->v[i].value.len;
    p = arena_alloc(a, bytes); /* the bytes of all in one piece */
    if (!p)
        return arena_failed(a, err);
    for (uint32_t i = 0; i < from->n; i++) {
        const struct label *l = &from->v[i];

        memcpy(p, l->name.ptr, l->name.len);
        v[i].name = nx_slice_of(p, l->name.len);
        p += l->name.len;
        memcpy(p, l->value.ptr, l->value.len);
        v[i].value = nx_slice_of(p, l->value.len);
        p += l->value.len;
    }
    to->v = v;
    return NX_OK;
}

static void print_label(struct buf *b, const struct label *l)
{
    if (label_name_legacy_valid(l->name))
        buf_slice(b, l->name);
    else
        text_quote(b, l->name);
    buf_char(b, '=');
    text_quote(b, l->value);
}

void labels_print(struct buf *b, const struct labels *ls)
{
    struct nx_slice name = labels_get_str(ls, LABEL_NAME);
    bool quoted = name.len && !metric_name_legacy_valid(name);
    const char *before = "";

    if (!quoted)
        buf_slice(b, name);
    if (name.len && !quoted && ls->n == 1)
        return;
    buf_char(b, '{');
    if (quoted) {
        text_quote(b, name);
        before = ", ";
    }
    for (uint32_t i = 0; i < ls->n; i++) {
        if (nx_slice_is(ls->v[i].name, LABEL_NAME))
            continue;
        buf_str(b, before);
        print_label(b, &ls->v[i]);
        before = ", ";
    }
    buf_char(b, '}');
}

void labels_print_set(struct buf *b, const struct labels *ls)
{
    buf_char(b, '{');
    for (uint32_t i = 0; i < ls->n; i++) {
        buf_str(b, i ? ", " : "");
        print_label(b, &ls->v[i]);
    }
    buf_char(b, '}');
}

void labels_print_json(struct buf *b, const struct labels *ls)
{
    buf_char(b, '{');
    for (uint32_t i = 0; i < ls->n; i++) {
        if (i)
            buf_char(b, ',');
        text_json(b, ls->v[i].name);
        buf_char(b, ':');
        text_json(b, ls->v[i].value);
    }
    buf_char(b, '}');
}

/* Walks over the labels that count, in order. Both lists are sorted: one pass. */
struct some {
    const struct labels *ls;
    const struct nx_slice *names;
    size_t n_names, name_at;
    uint32_t at;
    bool on;
};

static const struct label *some_next(struct some *s)
{
    while (s->at < s->ls->n) {
        const struct label *l = &s->ls->v[s->at++];
        int c = 1;

        while (s->name_at < s->n_names && (c = nx_slice_cmp(s->names[s->name_at], l->name)) < 0) {
            s->name_at++;
            c = 1;
        }
        if (s->on ? c == 0 : c != 0 && !nx_slice_is(l->name, LABEL_NAME))
            return l;
    }
    return NULL;
}

uint64_t labels_hash_some(const struct labels *ls, const struct nx_slice *names, size_t n, bool on)
{
    struct some s = {.ls = ls, .names = names, .n_names = n, .on = on};
    const struct label *l;
    uint64_t h = 0;

    while ((l = some_next(&s)))
        h = mix_label(h, l);
    return h;
}

bool labels_eq_some(const struct labels *a, const struct labels *b, const struct nx_slice *names,
                    size_t n, bool on)
{
    struct some of_a = {.ls = a, .names = names, .n_names = n, .on = on};
    struct some of_b = {.ls = b, .names = names, .n_names = n, .on = on};

    for (;;) {
        const struct label *x = some_next(&of_a), *y = some_next(&of_b);

        if (!x || !y)
            return x == y;
        if (!label_eq(x, y))
            return false;
    }
}

static bool is_word(struct nx_slice s, bool colon)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool letter =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':');

        if (!letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return s.len > 0;
}

bool label_name_legacy_valid(struct nx_slice name)
{
    return is_word(name, false);
}

bool metric_name_legacy_valid(struct nx_slice name)
{
    return is_word(name, true);
}

bool label_name_valid(struct nx_slice name)
{
    return name.len > 0 && utf8_valid(name);
}

bool utf8_valid(struct nx_slice s)
{
    while (s.len) {
        uint64_t eight;
        uint32_t c;
        size_t n = 8;

        if (s.len >= 8) {
            memcpy(&eight, s.ptr, sizeof eight);
            if (eight & 0x8080808080808080ull)
                n = text_utf8_take(s, &c);
        } else {
            n = text_utf8_take(s, &c);
        }
        if (!n)
            return false;
        s = nx_slice_of(s.ptr + n, s.len - n);
    }
    return true;
}

void labels_builder_init(struct labels_builder *b)
{
    *b = (struct labels_builder){0};
}

void labels_builder_done(struct labels_builder *b)
{
    if (!b)
        return;
    free(b->v);
    *b = (struct labels_builder){0};
}

static bool make_room(struct labels_builder *b, uint32_t need)
{
    uint32_t cap = b->cap ? b->cap : 16;
    struct label *v;

    if (need <= b->cap)
        return true;
    while (cap < need && cap <= UINT32_MAX / 2)
        cap *= 2;
    v = cap < need ? NULL : reallocarray(b->v, cap, sizeof *v);
    if (!v) {
        b->nomem = true;
        return false;
    }
    b->v = v;
    b->cap = cap;
    return true;
}

void labels_builder_reset(struct labels_builder *b, const struct labels *base)
{
    b->n = 0;
    b->nomem = false;
    if (!base || base->n == 0 || !make_room(b, base->n))
        return;
    memcpy(b->v, base->v, base->n * sizeof *b->v);
    b->n = base->n;
}

static void remove_at(struct labels_builder *b, uint32_t i)
{
    b->n--;
    memmove(b->v + i, b->v + i + 1, (b->n - i) * sizeof *b->v);
}

void labels_builder_set(struct labels_builder *b, struct nx_slice name, struct nx_slice value)
{
    uint32_t i = lower_bound(b->v, b->n, name);
    bool there = i < b->n && nx_slice_eq(b->v[i].name, name);

    if (value.len == 0) {
        if (there)
            remove_at(b, i);
        return;
    }
    if (there) {
        b->v[i].value = value;
        return;
    }
    if (b->n == UINT32_MAX || !make_room(b, b->n + 1)) {
        b->nomem = true;
        return;
    }
    memmove(b->v + i + 1, b->v + i, (b->n - i) * sizeof *b->v);
    b->v[i] = (struct label){name, value};
    b->n++;
}

void labels_builder_del(struct labels_builder *b, struct nx_slice name)
{
    labels_builder_set(b, name, nx_slice_of("", 0));
}

struct nx_slice labels_builder_get(const struct labels_builder *b, struct nx_slice name)
{
    return find(b->v, b->n, name);
}

nx_status labels_builder_build(struct labels_builder *b, struct labels *out, struct nx_err *err)
{
    if (b->nomem)
        return nx_fail(err, NX_NOMEM, "out of memory while building a label set");
    *out = (struct labels){b->v, b->n};
    return NX_OK;
}
