/* decode.c - strict decoding of a YAML tree into structs described by tables.
 *
 * WHY     Prometheus's configurations are decoded by gopkg.in/yaml.v2's strict mode, and people
 *         know its messages. The same rules are applied here, to tables instead of reflection.
 * RULES   D1  Wrong types, unknown fields and doubled keys are complaints: they are collected, a
 *             line each, and decoding goes on. Everything else that is wrong ends the load at once.
 *         D2  A record's check runs when nothing in it was complained about, before what follows it
 *             is looked at: the first failure in the document's order is the one that is told.
 *         D3  null, ~ or nothing makes a field zero, whatever its default. Zero, not the default.
 *         D4  Merge keys (<<) are decoded where they stand; what comes later wins. Within a map of
 *             labels or headers a key may not come twice, merged or not.
 *         D5  A failure names its place: file, line and the way from the root. Complaints name
 *             their line.
 *         D6  Work is bounded against aliases of aliases, by the same ratio as in Prometheus. */
#include "src/config/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/limits.h"
#include "src/base/num.h"
#include "src/base/text.h"

#define MAX_COMPLAINTS 50
#define COMPLAINTS_CAP (NX_ERR_TEXT_BYTES - 200)

static bool decode_value(struct decoder *d, const struct yaml_node *n, const struct field *f,
                         void *out);
static bool decode_record(struct decoder *d, const struct yaml_node *n, const struct record *r,
                          void *obj);

/* ---- saying what is wrong ---- */

static void complain(struct decoder *d, uint32_t line, const char *fmt, ...) NX_PRINTF(3, 4);
static void complain(struct decoder *d, uint32_t line, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    d->n_complaints++;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (d->n_complaints <= MAX_COMPLAINTS && d->complaints.len + strlen(text) + 20 < COMPLAINTS_CAP)
        buf_printf(&d->complaints, "\n  line %u: %s", line, text);
}

/* "cannot unmarshal !!str `abc` into int" */
static bool wrong_type(struct decoder *d, const struct yaml_node *n, const char *tag,
                       const char *into)
{
    char value[64] = "";
    const char *shown = *n->tag ? n->tag : tag;
    const char *prefix = "";

    if (!strncmp(shown, "tag:yaml.org,2002:", 18)) {
        shown += 18;
        prefix = "!!";
    }
    if (n->kind == YAML_IS_SCALAR)
        snprintf(value, sizeof value, n->value.len > 10 ? " `%.*s...`" : " `%.*s`",
                 (int)(n->value.len > 10 ? 7 : n->value.len), n->value.ptr);
    complain(d, n->line, "cannot unmarshal %s%s%s into %s", prefix, shown, value, into);
    return false;
}

static bool wrong_shape(struct decoder *d, const struct yaml_node *n, const char *into)
{
    struct yaml_value v;

    if (n->kind == YAML_IS_LIST)
        return wrong_type(d, n, "!!seq", into);
    if (n->kind == YAML_IS_MAP)
        return wrong_type(d, n, "!!map", into);
    d->failed = yaml_resolve(n, d->scratch, &v, d->err);
    return d->failed ? false : wrong_type(d, n, v.tag, into);
}

static void print_place(const struct place *p, struct buf *b)
{
    if (!p)
        return;
    print_place(p->up, b);
    if (p->name)
        buf_printf(b, "%s%s", b->len ? "." : "", p->name);
    else
        buf_printf(b, "[%zu]", p->index);
}

NX_PRINTF(4, 0)
static nx_status fail_at(struct decoder *d, uint32_t line, const char *field, const char *fmt,
                         va_list ap)
{
    char text[1200];
    struct buf where;

    if (d->failed)
        return d->failed;
    vsnprintf(text, sizeof text, fmt, ap);
    buf_init(&where, 400);
    print_place(d->place, &where);
    if (field)
        buf_printf(&where, "%s%s", where.len ? "." : "", field);
    d->failed = nx_fail(d->err, NX_BADINPUT, "%s (%s%s%u%s%s)", text, d->path ? d->path : "line ",
                        d->path ? ":" : "", line, where.len ? ": " : "", buf_cstr(&where));
    buf_done(&where);
    return d->failed;
}

nx_status decode_fail(struct decoder *d, const struct yaml_node *at, const char *field,
                      const char *fmt, ...)
{
    va_list ap;
    nx_status st;

    va_start(ap, fmt);
    st = fail_at(d, at ? at->line : 1, field, fmt, ap);
    va_end(ap);
    return st;
}

nx_status decode_fail_key(struct decoder *d, const struct yaml_node *map, const char *field,
                          const char *fmt, ...)
{
    const struct yaml_node *key = NULL;
    va_list ap;
    nx_status st;

    yaml_get(map, field, &key);
    va_start(ap, fmt);
    st = fail_at(d, key ? key->line : map ? map->line : 1, field, fmt, ap);
    va_end(ap);
    return st;
}

const struct yaml_node *decode_item(const struct yaml_node *map, const char *key, size_t index)
{
    const struct yaml_node *list = yaml_follow(yaml_get(map, key, NULL));

    return list && list->kind == YAML_IS_LIST && index < list->n_kids ? list->kids[index] : map;
}

nx_status decode_fail_item(struct decoder *d, const struct yaml_node *map, const char *field,
                           size_t index, const char *fmt, ...)
{
    const struct yaml_node *at = decode_item(map, field, index);
    char name[128];
    va_list ap;
    nx_status st;

    snprintf(name, sizeof name, "%s[%zu]", field, index);
    va_start(ap, fmt);
    st = fail_at(d, at ? at->line : 1, name, fmt, ap);
    va_end(ap);
    return st;
}

void decode_enter(struct decoder *d, struct place *p, const char *name, size_t index)
{
    *p = (struct place){d->place, name, index};
    d->place = p;
}

void decode_leave(struct decoder *d)
{
    d->place = d->place->up;
}

const char *decode_quote(struct decoder *d, struct nx_slice s)
{
    char text[TEXT_QUOTED_BYTES];
    char *quoted = arena_strdup(d->scratch, text_quoted(text, s));

    return quoted ? quoted : "";
}

/* An error of a lower layer, told with its place. */
static bool fail_with(struct decoder *d, const struct yaml_node *n, const struct nx_err *why)
{
    decode_fail(d, n, NULL, "%s", why->text);
    return false;
}

static void *take(struct decoder *d, size_t n, size_t size)
{
    void *p = arena_array(d->arena, n ? n : 1, size);

    if (!p)
        d->failed = arena_failed(d->arena, d->err);
    return p;
}

static bool keep_slice(struct decoder *d, struct nx_slice s, struct nx_slice *out)
{
    char *copy = arena_strndup(d->arena, s.ptr, s.len);

    if (!copy) {
        d->failed = arena_failed(d->arena, d->err);
        return false;
    }
    *out = nx_slice_of(copy, s.len);
    return true;
}

/* ---- scalars ---- */

/* What a string field gets; the bytes are the tree's. `into` is for the complaint. */
static bool read_text(struct decoder *d, const struct yaml_node *n, const char *into,
                      struct nx_slice *out)
{
    struct yaml_value v;

    if (n->kind != YAML_IS_SCALAR)
        return wrong_shape(d, n, into);
    if ((d->failed = yaml_resolve(n, d->scratch, &v, d->err)))
        return false;
    *out = v.type == YAML_NULL             ? nx_slice_of("", 0)
           : v.s.ptr && v.type == YAML_STR ? v.s
                                           : n->value;
    return true;
}

static bool decode_str(struct decoder *d, const struct yaml_node *n, const char *into,
                       struct nx_slice *out)
{
    struct nx_slice s = EMPTY_SLICE;

    return read_text(d, n, into, &s) && keep_slice(d, s, out);
}

static bool store_int(const struct yaml_value *v, int64_t *out)
{
    if (v->type == YAML_INT)
        *out = v->i;
    else if (v->type == YAML_FLOAT && v->f > -0x1p63 && v->f < 0x1p63)
        *out = (int64_t)v->f;
    else
        return false;
    return true;
}

static bool store_uint(const struct yaml_value *v, uint64_t *out)
{
    if (v->type == YAML_INT && v->i >= 0)
        *out = (uint64_t)v->i;
    else if (v->type == YAML_UINT)
        *out = v->u;
    else if (v->type == YAML_FLOAT && v->f > -1 && v->f < 0x1p64)
        *out = (uint64_t)v->f;
    else
        return false;
    return true;
}

static bool store_float(const struct yaml_value *v, double *out)
{
    switch (v->type) {
    case YAML_INT:
        *out = (double)v->i;
        return true;
    case YAML_UINT:
        *out = (double)v->u;
        return true;
    case YAML_FLOAT:
        *out = v->f;
        return true;
    default:
        return false;
    }
}

static const char *usual_type(const struct field *f)
{
    switch (f->kind) {
    case F_BOOL:
    case F_TRI:
        return "bool";
    case F_INT:
        return "int";
    case F_UINT:
        return "uint";
    case F_FLOAT:
        return "float64";
    case F_BYTES:
        return "units.Base2Bytes";
    case F_SECRET:
        return "config.plain";
    case F_STRS:
    case F_PATHS:
        return "[]string";
    case F_SECRETS:
        return "[]config.Secret";
    case F_PAIRS:
    case F_LABELS:
        return "map[string]string";
    case F_PARAMS:
        return "url.Values";
    case F_PROXY_HEAD:
        return "config.ProxyHeader";
    case F_HEADERS:
        return "config.Headers";
    case F_LABEL_SET:
        return "model.LabelSet";
    case F_LABEL_NAMES:
        return "model.LabelNames";
    default:
        return "string";
    }
}

static const char *go_type(const struct field *f)
{
    return f->go ? f->go : usual_type(f);
}

/* Numbers and truth values. */
static bool decode_number(struct decoder *d, const struct yaml_node *n, const struct field *f,
                          void *out)
{
    struct yaml_value v;
    bool ok = false;

    if (n->kind != YAML_IS_SCALAR)
        return wrong_shape(d, n, go_type(f));
    if ((d->failed = yaml_resolve(n, d->scratch, &v, d->err)))
        return false;
    if (v.type == YAML_NULL) { /* D3 */
        if (f->kind == F_TRI)
            *(enum config_tri *)out = CONFIG_UNSET;
        else
            memset(out, 0, f->size);
        return true;
    }
    if (f->kind == F_INT)
        ok = store_int(&v, out);
    else if (f->kind == F_UINT)
        ok = store_uint(&v, out);
    else if (f->kind == F_FLOAT)
        ok = store_float(&v, out);
    else if (v.type == YAML_BOOL && f->kind == F_TRI)
        ok = true, *(enum config_tri *)out = v.b ? CONFIG_YES : CONFIG_NO;
    else if (v.type == YAML_BOOL)
        ok = true, *(bool *)out = v.b;
    return ok || wrong_type(d, n, v.tag, go_type(f));
}

static bool decode_duration(struct decoder *d, const struct yaml_node *n, int64_t *out)
{
    struct nx_err why = {0};
    struct nx_slice s = EMPTY_SLICE;

    if (!read_text(d, n, "string", &s))
        return false;
    return !num_parse_duration(s, out, &why) || fail_with(d, n, &why);
}

static bool decode_bytes(struct decoder *d, const struct yaml_node *n, const struct field *f,
                         int64_t *out)
{
    struct nx_err why = {0};
    struct yaml_value v;

    if (n->kind != YAML_IS_SCALAR)
        return wrong_shape(d, n, go_type(f));
    if ((d->failed = yaml_resolve(n, d->scratch, &v, d->err)))
        return false;
    if (v.type == YAML_NULL) {
        *out = 0;
        return true;
    }
    return !units_parse(v.s, out, &why) || fail_with(d, n, &why);
}

static bool decode_url(struct decoder *d, const struct yaml_node *n, struct config_url *out)
{
    struct nx_err why = {0};
    struct nx_slice s = EMPTY_SLICE;

    if (!read_text(d, n, "string", &s))
        return false;
    return !url_parse(d->arena, s, out, &why) || fail_with(d, n, &why);
}

static bool in_list(const char *list, struct nx_slice word)
{
    while (*list) {
        size_t len = strcspn(list, " ");

        if (len == word.len && !memcmp(list, word.ptr, len))
            return true;
        list += len + (list[len] == ' ');
    }
    return false;
}

static bool decode_choice(struct decoder *d, const struct yaml_node *n, const struct field *f,
                          struct nx_slice *out)
{
    if (!decode_str(d, n, go_type(f), out))
        return false;
    if (in_list(f->choice->list, *out))
        return true;
    decode_fail(d, n, NULL, "%s%s", f->choice->complaint,
                f->choice->quoted ? decode_quote(d, *out) : out->ptr);
    return false;
}

static bool decode_validation(struct decoder *d, const struct yaml_node *n,
                              enum config_validation *out)
{
    struct nx_slice s = EMPTY_SLICE;

    if (!read_text(d, n, "string", &s))
        return false;
    if (nx_slice_is(s, "utf8"))
        *out = CONFIG_VALIDATION_UTF8;
    else if (nx_slice_is(s, "legacy"))
        *out = CONFIG_VALIDATION_LEGACY;
    else if (s.len)
        return decode_fail(d, n, NULL, "unrecognized ValidationScheme: %s", decode_quote(d, s)),
               false;
    return true;
}

static bool decode_tls_version(struct decoder *d, const struct yaml_node *n,
                               enum config_tls_version *out)
{
    static const char *const names[] = {"", "TLS10", "TLS11", "TLS12", "TLS13"};
    struct nx_slice s = EMPTY_SLICE;

    if (!read_text(d, n, "string", &s))
        return false;
    for (size_t i = 1; i < NX_COUNT(names); i++) {
        if (nx_slice_is(s, names[i])) {
            *out = (enum config_tls_version)i;
            return true;
        }
    }
    return decode_fail(d, n, NULL, "unknown TLS version: %s", s.ptr), false;
}

static bool decode_action(struct decoder *d, const struct yaml_node *n, enum relabel_action *out)
{
    struct nx_slice s = EMPTY_SLICE;

    if (!read_text(d, n, "string", &s))
        return false;
    for (int i = 0; i < RELABEL_ACTION_COUNT; i++) {
        const char *name = relabel_action_name((enum relabel_action)i);

        if (s.len == strlen(name) && !strncasecmp(s.ptr, name, s.len)) {
            *out = (enum relabel_action)i;
            return true;
        }
    }
    return decode_fail(d, n, NULL, "unknown relabel action %s", decode_quote(d, s)), false;
}

nx_status regex_list_add(struct regex_list *l, struct nx_slice pattern, struct regex **out,
                         struct nx_err *err)
{
    nx_status st;

    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        struct regex **v = realloc(l->v, cap * sizeof(struct regex *));

        if (!v)
            return nx_fail(err, NX_NOMEM, "out of memory");
        l->v = v;
        l->cap = cap;
    }
    if ((st = regex_new_for_relabel(&l->v[l->n], pattern, err)))
        return st;
    *out = l->v[l->n++];
    return NX_OK;
}

static bool compile(struct decoder *d, const struct yaml_node *n, struct nx_slice pattern,
                    const struct regex **out)
{
    struct nx_err why = {0};
    struct regex *re = NULL;

    if (regex_list_add(d->regexes, pattern, &re, &why))
        return fail_with(d, n, &why);
    *out = re;
    return true;
}

static bool decode_regex(struct decoder *d, const struct yaml_node *n, struct relabel_rule *rule)
{
    if (!decode_str(d, n, "string", &rule->regex_text))
        return false;
    rule->default_regex = false;
    return compile(d, n, rule->regex_text, &rule->regex);
}

/* ---- lists ---- */

static bool decode_list(struct decoder *d, const struct yaml_node *n, const struct field *f,
                        const struct field *item, size_t item_size, struct any_list *out)
{
    char *v;
    size_t kept = 0;

    if (n->kind != YAML_IS_LIST) {
        if (n->kind == YAML_IS_SCALAR) {
            struct yaml_value value;

            if ((d->failed = yaml_resolve(n, d->scratch, &value, d->err)))
                return false;
            if (value.type == YAML_NULL) { /* D3 */
                *out = (struct any_list){0};
                return true;
            }
        }
        return wrong_shape(d, n, go_type(f));
    }
    v = take(d, n->n_kids, item_size);
    for (size_t i = 0; v && i < n->n_kids && !d->failed; i++) {
        struct place here;

        decode_enter(d, &here, NULL, i);
        if (decode_value(d, n->kids[i], item, v + kept * item_size))
            kept++;
        else
            memset(v + kept * item_size, 0, item_size);
        decode_leave(d);
    }
    if (!v || d->failed)
        return false;
    *out = (struct any_list){v, kept};
    return true;
}

static const struct field str_item = {.kind = F_STR, .size = sizeof(struct nx_slice)};
static const struct field secret_item = {.kind = F_SECRET, .size = sizeof(struct config_secret)};

static bool decode_strs(struct decoder *d, const struct yaml_node *n, const struct field *f,
                        struct config_strings *out)
{
    struct any_list l;

    /* Only a whole list replaces what was there. */
    if (!decode_list(d, n, f, &str_item, sizeof(struct nx_slice), &l))
        return false;
    *out = (struct config_strings){l.v, l.n};
    return true;
}

static bool decode_label_names(struct decoder *d, const struct yaml_node *n, const struct field *f,
                               struct config_strings *out)
{
    if (!decode_strs(d, n, f, out))
        return false;
    for (size_t i = 0; i < out->n; i++) {
        if (!label_name_valid(out->v[i])) {
            const struct yaml_node *at = n->kind == YAML_IS_LIST && i < n->n_kids ? n->kids[i] : n;

            decode_fail(d, at, NULL, "%s is not a valid label name", decode_quote(d, out->v[i]));
            return false;
        }
    }
    return true;
}

/* ---- maps ---- */

/* A map from names to values of any one kind, in memory { struct nx_slice name; VALUE }. */
struct map_kind {
    size_t item_size;
    size_t value_offset;
    struct field value;
};

static bool known_key(const struct any_list *m, size_t item_size, struct nx_slice name)
{
    for (size_t i = 0; i < m->n; i++) {
        if (nx_slice_eq(*(const struct nx_slice *)((const char *)m->v + i * item_size), name))
            return true;
    }
    return false;
}

static bool decode_map(struct decoder *d, const struct yaml_node *n, const struct field *f,
                       const struct map_kind *k, struct any_list *m, size_t *cap);

/* D4 */
static bool merge_maps(struct decoder *d, const struct yaml_node *n, const struct field *f,
                       const struct map_kind *k, struct any_list *m, size_t *cap)
{
    const struct yaml_node *target = yaml_follow(n);

    if (target && target->kind == YAML_IS_MAP)
        return decode_map(d, n, f, k, m, cap);
    if (target == n && n->kind == YAML_IS_LIST) {
        for (size_t i = n->n_kids; i-- > 0;) {
            const struct yaml_node *item = yaml_follow(n->kids[i]);

            if (!item || item->kind != YAML_IS_MAP)
                goto bad;
            if (!decode_map(d, n->kids[i], f, k, m, cap))
                return false;
        }
        return true;
    }
bad:
    decode_fail(d, n, NULL, "yaml: map merge requires map or sequence of maps as the value");
    return false;
}

static bool decode_pair(struct decoder *d, const struct yaml_node *key,
                        const struct yaml_node *value, const struct map_kind *k, struct any_list *m,
                        size_t *cap)
{
    struct nx_slice name;
    struct place here;
    char *slot;
    bool ok;

    if (m->n == *cap) {
        size_t more = *cap ? *cap * 2 : 8;
        void *v = arena_grow(d->arena, m->v, *cap * k->item_size, more * k->item_size);

        if (!v)
            return d->failed = arena_failed(d->arena, d->err), false;
        m->v = v;
        *cap = more;
    }
    if (m->n >= NX_LIMIT_LABELS_PER_SERIES)
        return decode_fail(d, key, NULL, "more than %u keys in a map", NX_LIMIT_LABELS_PER_SERIES),
               false;
    if (!decode_value(d, key, &str_item, &name))
        return !d->failed;
    slot = (char *)m->v + m->n * k->item_size;
    memset(slot, 0, k->item_size);
    *(struct nx_slice *)slot = name;
    decode_enter(d, &here, name.ptr, 0);
    ok = decode_value(d, value, &k->value, slot + k->value_offset);
    decode_leave(d);
    *(struct nx_slice *)slot = name; /* a null value has cleared the whole slot */
    if (!ok)
        return !d->failed;
    if (known_key(m, k->item_size, name))
        complain(d, yaml_follow(value)->line, "key %s already set in map", decode_quote(d, name));
    else
        m->n++;
    return true;
}

static bool decode_map(struct decoder *d, const struct yaml_node *n, const struct field *f,
                       const struct map_kind *k, struct any_list *m, size_t *cap)
{
    bool ok = true;

    if (n->kind == YAML_IS_ALIAS) {
        struct yaml_node *alias = (struct yaml_node *)(uintptr_t)n;

        if (alias->in_use)
            return decode_fail(d, n, NULL, "yaml: anchor '%s' value contains itself", n->value.ptr),
                   false;
        alias->in_use = true;
        ok = decode_map(d, n->target, f, k, m, cap);
        alias->in_use = false;
        return ok;
    }
    d->n_decoded++;
    for (size_t i = 0; ok && i + 1 < n->n_kids; i += 2) {
        if (yaml_is_merge_key(n->kids[i]))
            ok = merge_maps(d, n->kids[i + 1], f, k, m, cap);
        else
            ok = decode_pair(d, n->kids[i], n->kids[i + 1], k, m, cap);
    }
    return ok && !d->failed;
}

static int by_name(const void *a, const void *b)
{
    return nx_slice_cmp(*(const struct nx_slice *)a, *(const struct nx_slice *)b);
}

static bool decode_whole_map(struct decoder *d, const struct yaml_node *n, const struct field *f,
                             const struct map_kind *k, struct any_list *out)
{
    struct any_list m = {0};
    size_t cap = 1;

    if (n->kind != YAML_IS_MAP) {
        struct yaml_value v = {0};

        if (n->kind == YAML_IS_SCALAR) {
            if ((d->failed = yaml_resolve(n, d->scratch, &v, d->err)))
                return false;
            if (v.type == YAML_NULL) { /* D3 */
                *out = m;
                return true;
            }
        }
        return wrong_shape(d, n, go_type(f));
    }
    if (!(m.v = take(d, 1, k->item_size)) || !decode_map(d, n, f, k, &m, &cap))
        return false;
    if (m.n > 1)
        qsort(m.v, m.n, k->item_size, by_name);
    *out = m;
    return true;
}

static const struct map_kind pair_map = {sizeof(struct config_pair),
                                         offsetof(struct config_pair, value),
                                         {.kind = F_STR, .size = sizeof(struct nx_slice)}};
static const struct map_kind params_map = {sizeof(struct config_values),
                                           offsetof(struct config_values, values),
                                           {.kind = F_STRS, .size = sizeof(struct config_strings)}};
static const struct map_kind proxy_map = {
    sizeof(struct config_proxy_header),
    offsetof(struct config_proxy_header, values),
    {.kind = F_SECRETS, .size = sizeof(struct config_secrets)}};

static const struct field header_fields[] = {
    FIELD(F_STRS, config_http_header, values, "values", F_OMIT),
    FIELD(F_SECRETS, config_http_header, secrets, "secrets", F_OMIT),
    FIELD(F_PATHS, config_http_header, files, "files", F_OMIT),
};
const struct record header_record = {
    .go = "config.Header",
    .size = sizeof(struct config_http_header),
    .fields = header_fields,
    .n_fields = NX_COUNT(header_fields),
    .line_offset = NO_LINE,
};
/* The name lies first in the struct and the value around it: offset 0. */
static const struct map_kind header_map = {
    sizeof(struct config_http_header), 0, {.kind = F_STRUCT, .record = &header_record}};

static bool decode_labels(struct decoder *d, const struct yaml_node *n, const struct field *f,
                          struct labels *out)
{
    struct any_list m;
    struct label *v;

    if (!decode_whole_map(d, n, f, &pair_map, &m))
        return false;
    if (!(v = take(d, m.n, sizeof *v)))
        return false;
    for (size_t i = 0; i < m.n; i++) {
        const struct config_pair *p = (const struct config_pair *)m.v + i;

        v[i] = (struct label){p->name, p->value};
        if (f->kind == F_LABEL_SET && !label_name_valid(p->name)) {
            decode_fail(d, n, NULL, "%s is not a valid label name", decode_quote(d, p->name));
            return false;
        }
    }
    *out = (struct labels){v, (uint32_t)m.n};
    return true;
}

/* ---- anything ---- */

/* A copy of the tree that outlives it, with aliases followed. */
static struct yaml_node *copy_tree(struct decoder *d, const struct yaml_node *n, unsigned depth)
{
    struct yaml_node *copy;

    n = yaml_follow(n);
    if (!n || depth > 100 || d->n_decoded++ > 100000) {
        d->failed = nx_fail(d->err, NX_BADINPUT, "yaml: document contains excessive aliasing");
        return NULL;
    }
    if (!(copy = take(d, 1, sizeof *copy)))
        return NULL;
    *copy = *n;
    copy->in_use = false;
    copy->kids = NULL;
    copy->tag = arena_strdup(d->arena, n->tag);
    if (!copy->tag || !keep_slice(d, n->value, &copy->value) ||
        !(copy->kids = take(d, n->n_kids, sizeof *copy->kids)))
        return d->failed = arena_failed(d->arena, d->err), NULL;
    for (size_t i = 0; i < n->n_kids; i++) {
        if (!(copy->kids[i] = copy_tree(d, n->kids[i], depth + 1)))
            return NULL;
    }
    return copy;
}

/* ---- records ---- */

/* Where a key leads: a field of r, or of a record whose fields are among ours. */
struct found {
    const struct field *field;
    char *at;
    unsigned id; /* counts fields, to notice doubled keys */
};

static bool find_field(const struct record *r, void *obj, struct nx_slice key, struct found *out,
                       unsigned *id)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];
        char *at = (char *)obj + f->offset;

        if (f->kind == F_INLINE) {
            if (find_field(f->record, at, key, out, id))
                return true;
        } else if (f->kind == F_SDS) {
            continue;
        } else if (nx_slice_is(key, f->name)) {
            *out = (struct found){f, at, *id};
            return true;
        } else {
            ++*id;
        }
    }
    return false;
}

static struct config_sds *sds_of(const struct record *r, void *obj)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        if (r->fields[i].kind == F_SDS)
            return (struct config_sds *)((char *)obj + r->fields[i].offset);
    }
    return NULL;
}

/* Puts the entries of one kind in their place among the others, instead of those that were
 * there. */
static bool place_sds(struct decoder *d, struct config_sds *sds, enum config_sd_kind kind,
                      const struct config_sd *more, size_t n)
{
    struct config_sd *v = take(d, sds->n + n, sizeof *v);
    size_t at = 0;

    if (!v)
        return false;
    for (size_t i = 0; i < sds->n; i++) {
        if (sds->v[i].kind < kind)
            v[at++] = sds->v[i];
    }
    for (size_t i = 0; i < n; i++)
        v[at++] = more[i];
    for (size_t i = 0; i < sds->n; i++) {
        if (sds->v[i].kind > kind)
            v[at++] = sds->v[i];
    }
    *sds = (struct config_sds){v, at};
    return true;
}

static bool decode_sds(struct decoder *d, const struct yaml_node *n, enum config_sd_kind kind,
                       struct config_sds *sds)
{
    const struct sd_row *row = &sd_rows[kind];
    struct field pointer = {
        .kind = F_POINTER, .size = sizeof(void *), .record = row->record, .go = row->go};
    struct field item = {.kind = F_STRUCT, .size = row->record->size, .record = row->record};
    struct field list = {.kind = F_LIST, .go = row->go};
    struct config_sd *entries;
    struct any_list l;

    if (kind == CONFIG_SD_STATIC) {
        struct config_static_sd *statics = take(d, 1, sizeof *statics);
        struct config_sd entry = {.kind = kind, .line = (int)n->line, .u.statics = statics};

        if (!statics || !decode_list(d, n, &list, &item, row->record->size, &l))
            return false;
        *statics = (struct config_static_sd){l.v, l.n};
        return place_sds(d, sds, kind, &entry, l.n ? 1 : 0);
    }
    if (!decode_list(d, n, &list, &pointer, sizeof(void *), &l) ||
        !(entries = take(d, l.n, sizeof *entries)))
        return false;
    for (size_t i = 0; i < l.n; i++) {
        const struct yaml_node *at = n->kind == YAML_IS_LIST && l.n == n->n_kids ? n->kids[i] : n;

        entries[i] =
            (struct config_sd){.kind = kind, .line = (int)at->line, .u.any = ((void **)l.v)[i]};
    }
    return place_sds(d, sds, kind, entries, l.n);
}

static bool decode_fields(struct decoder *d, const struct yaml_node *n, const struct record *r,
                          void *obj);

/* D4: the merged map is decoded here and now, with its own idea of doubled keys. */
static bool merge_fields(struct decoder *d, const struct yaml_node *n, const struct record *r,
                         void *obj)
{
    const struct yaml_node *target = yaml_follow(n);

    if (target && target->kind == YAML_IS_MAP)
        return decode_fields(d, n, r, obj);
    if (target == n && n->kind == YAML_IS_LIST) {
        for (size_t i = n->n_kids; i-- > 0;) {
            const struct yaml_node *item = yaml_follow(n->kids[i]);

            if (!item || item->kind != YAML_IS_MAP)
                goto bad;
            if (!decode_fields(d, n->kids[i], r, obj))
                return false;
        }
        return true;
    }
bad:
    decode_fail(d, n, NULL, "yaml: map merge requires map or sequence of maps as the value");
    return false;
}

static bool decode_field(struct decoder *d, const struct yaml_node *key,
                         const struct yaml_node *value, const struct record *r, void *obj,
                         bool *done)
{
    struct config_sds *sds = sds_of(r, obj);
    struct found found = {0};
    struct nx_slice name;
    struct place here;
    unsigned id = CONFIG_SD_COUNT;
    int kind = -1;

    if (!read_text(d, key, "string", &name))
        return !d->failed;
    if (find_field(r, obj, name, &found, &id)) {
        id = found.id;
    } else {
        for (int i = 0; sds && i < CONFIG_SD_COUNT && kind < 0; i++) {
            if (nx_slice_is(name, sd_rows[i].key))
                id = (unsigned)(kind = i);
        }
        if (kind < 0) {
            if (!d->ignore_unknown)
                complain(d, key->line, "field %s not found in type %s", name.ptr, r->go);
            return true;
        }
    }
    if (done[id]) {
        complain(d, key->line, "field %s already set in type %s", name.ptr, r->go);
        return true;
    }
    done[id] = true;
    decode_enter(d, &here, found.field ? found.field->name : sd_rows[kind].key, 0);
    if (!found.field) {
        decode_sds(d, yaml_follow(value), (enum config_sd_kind)kind, sds);
    } else if (found.field->kind == F_REGEX) {
        if (!yaml_is_bare_null(yaml_follow(value))) {
            decode_regex(d, yaml_follow(value), obj);
        } else { /* a null regex is the empty one */
            struct relabel_rule *rule = obj;

            rule->regex_text = nx_slice_of("", 0);
            rule->default_regex = false;
            rule->regex = NULL;
        }
    } else {
        decode_value(d, value, found.field, found.at);
    }
    decode_leave(d);
    return !d->failed;
}

static bool decode_fields(struct decoder *d, const struct yaml_node *n, const struct record *r,
                          void *obj)
{
    bool done[CONFIG_SD_COUNT + 128] = {0};
    bool ok = true;

    if (n->kind == YAML_IS_ALIAS) {
        struct yaml_node *alias = (struct yaml_node *)(uintptr_t)n;

        if (alias->in_use)
            return decode_fail(d, n, NULL, "yaml: anchor '%s' value contains itself", n->value.ptr),
                   false;
        alias->in_use = true;
        ok = decode_fields(d, n->target, r, obj);
        alias->in_use = false;
        return ok;
    }
    d->n_decoded++;
    for (size_t i = 0; ok && i + 1 < n->n_kids; i += 2) {
        if (yaml_is_merge_key(n->kids[i]))
            ok = merge_fields(d, n->kids[i + 1], r, obj);
        else
            ok = decode_field(d, n->kids[i], n->kids[i + 1], r, obj, done);
    }
    return ok && !d->failed;
}

static void seal_slice(struct nx_slice *s)
{
    if (!s->ptr)
        *s = nx_slice_of("", 0);
}

/* Strings never have a NULL pointer, whatever was left out or null. */
void record_seal(const struct record *r, void *obj)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];
        void *at = (char *)obj + f->offset;

        switch (f->kind) {
        case F_STR:
        case F_PATH:
        case F_SECRET: /* is nothing but a slice */
        case F_CHOICE:
        case F_REGEX:
            seal_slice(at);
            break;
        case F_URL: {
            struct config_url *url = at;

            seal_slice(&url->text);
            seal_slice(&url->shown);
            seal_slice(&url->scheme);
            seal_slice(&url->host);
            break;
        }
        case F_STRUCT:
        case F_INLINE:
            record_seal(f->record, at);
            break;
        default:
            break;
        }
    }
}

static void reset(const struct record *r, void *obj)
{
    if (r->defaults)
        memcpy(obj, r->defaults, r->size);
    else
        memset(obj, 0, r->size);
}

static bool decode_record(struct decoder *d, const struct yaml_node *n, const struct record *r,
                          void *obj)
{
    size_t before = d->n_complaints;

    if (n->kind == YAML_IS_SCALAR) {
        struct yaml_value v;

        if ((d->failed = yaml_resolve(n, d->scratch, &v, d->err)))
            return false;
        if (v.type == YAML_NULL) { /* D3 */
            memset(obj, 0, r->size);
            record_seal(r, obj);
            return true;
        }
    }
    if (r->resets)
        reset(r, obj);
    if (n->kind != YAML_IS_MAP)
        return wrong_shape(d, n, r->go);
    if (r->line_offset != NO_LINE)
        *(int *)((char *)obj + r->line_offset) = (int)n->line;
    if (!decode_fields(d, n, r, obj))
        return false;
    if (r->resets && d->n_complaints > before)
        return false;
    record_seal(r, obj);
    if (r->check && d->n_complaints == before)
        d->failed = r->check(d, n, obj); /* D2 */
    return !d->failed;
}

static bool decode_pointer(struct decoder *d, const struct yaml_node *n, const struct field *f,
                           void **out)
{
    void *obj = *out;

    if (yaml_is_bare_null(n)) {
        *out = NULL;
        return true;
    }
    if (!obj) {
        if (!(obj = take(d, 1, f->record->size)))
            return false;
        reset(f->record, obj);
    }
    *out = obj;
    return decode_record(d, n, f->record, obj);
}

/* ---- one value ---- */

static bool excessive_aliasing(const struct decoder *d)
{
    double allowed = d->n_decoded <= 400000 ? 0.99
                     : d->n_decoded >= 4000000
                         ? 0.10
                         : 0.99 - 0.89 * ((double)(d->n_decoded - 400000) / 3600000);

    return d->n_aliased > 100 && d->n_decoded > 1000 &&
           (double)d->n_aliased / (double)d->n_decoded > allowed;
}

static bool decode_node(struct decoder *d, const struct yaml_node *n, const struct field *f,
                        void *out)
{
    /* What decodes itself in Prometheus never sees a bare null: it stays zero (D3). */
    bool zero = yaml_is_bare_null(n);
    struct any_list l;

    switch (f->kind) {
    case F_STR:
    case F_PATH:
        return decode_str(d, n, go_type(f), out);
    case F_SECRET:
        return decode_str(d, n, go_type(f), &((struct config_secret *)out)->value);
    case F_BOOL:
    case F_TRI:
    case F_INT:
    case F_UINT:
    case F_FLOAT:
        return decode_number(d, n, f, out);
    case F_BYTES:
        return decode_bytes(d, n, f, out);
    case F_STRS:
    case F_PATHS:
        return decode_strs(d, n, f, out);
    case F_SECRETS:
        if (!decode_list(d, n, f, &secret_item, sizeof(struct config_secret), &l))
            return false;
        *(struct config_secrets *)out = (struct config_secrets){l.v, l.n};
        return true;
    case F_LABEL_NAMES:
        return decode_label_names(d, n, f, out);
    case F_PAIRS:
        return decode_whole_map(d, n, f, &pair_map, out);
    case F_PARAMS:
        return decode_whole_map(d, n, f, &params_map, out);
    case F_PROXY_HEAD:
        return decode_whole_map(d, n, f, &proxy_map, out);
    case F_HEADERS:
        return decode_whole_map(d, n, f, &header_map, out);
    case F_LABELS:
    case F_LABEL_SET:
        return decode_labels(d, n, f, out);
    case F_TREE:
        *(const struct yaml_node **)out = zero ? NULL : copy_tree(d, n, 0);
        return !d->failed;
    case F_STRUCT:
        return decode_record(d, n, f->record, out);
    case F_POINTER:
        return decode_pointer(d, n, f, out);
    case F_LIST: {
        struct field item = {.kind = F_STRUCT, .size = f->record->size, .record = f->record};

        return decode_list(d, n, f, &item, f->record->size, out);
    }
    default:
        break;
    }
    if (zero) {
        memset(out, 0, f->size);
        if (f->kind == F_CHOICE)
            *(struct nx_slice *)out = nx_slice_of("", 0);
        if (f->kind == F_ACTION)
            *(enum relabel_action *)out = RELABEL_ACTION_COUNT;
        return true;
    }
    switch (f->kind) {
    case F_DURATION:
        return decode_duration(d, n, out);
    case F_URL:
        return decode_url(d, n, out);
    case F_CHOICE:
        return decode_choice(d, n, f, out);
    case F_VALIDATION:
        return decode_validation(d, n, out);
    case F_TLS:
        return decode_tls_version(d, n, out);
    case F_ACTION:
        return decode_action(d, n, out);
    default:
        NX_ASSERT(false);
        return false;
    }
}

static bool decode_value(struct decoder *d, const struct yaml_node *n, const struct field *f,
                         void *out)
{
    struct yaml_node *alias;
    bool ok;

    d->n_decoded++;
    if (d->alias_depth)
        d->n_aliased++;
    if (excessive_aliasing(d)) { /* D6 */
        d->failed = nx_fail(d->err, NX_BADINPUT, "yaml: document contains excessive aliasing");
        return false;
    }
    if (n->kind != YAML_IS_ALIAS)
        return decode_node(d, n, f, out);
    alias = (struct yaml_node *)(uintptr_t)n;
    if (alias->in_use) {
        decode_fail(d, n, NULL, "yaml: anchor '%s' value contains itself", n->value.ptr);
        return false;
    }
    alias->in_use = true;
    d->alias_depth++;
    ok = decode_value(d, n->target, f, out);
    d->alias_depth--;
    alias->in_use = false;
    return ok;
}

static nx_status finish(struct decoder *d)
{
    nx_status st = d->failed;

    if (!st && d->n_complaints)
        st = nx_fail(d->err, NX_BADINPUT, "yaml: unmarshal errors:%s%s", buf_cstr(&d->complaints),
                     d->n_complaints > MAX_COMPLAINTS ? "\n  (and more)" : "");
    d->failed = st;
    return st;
}

nx_status decode_document(struct decoder *d, const struct record *r, const struct yaml_node *root,
                          void *obj)
{
    struct field whole = {.kind = F_STRUCT, .size = r->size, .record = r};

    if (root && !yaml_is_bare_null(yaml_follow(root)))
        decode_value(d, root, &whole, obj);
    return finish(d);
}

nx_status decode_list_document(struct decoder *d, const struct field *list,
                               const struct yaml_node *root, void *out)
{
    if (root)
        decode_value(d, root, list, out);
    return finish(d);
}
