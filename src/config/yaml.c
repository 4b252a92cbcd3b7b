/* yaml.c - libyaml's events as a tree, and YAML 1.1's idea of scalars.
 *
 * WHY     Strict decoding wants the line of every key, anchors and merge keys resolved the way
 *         Prometheus resolves them, and the text of scalars beside their meaning ("1.10" in a
 *         string field stays 1.10). A tree gives all that; libyaml's own tree has neither.
 * RULES   Y1  Only the first document is read.
 *         Y2  Nesting is bounded (MAX_DEPTH), since what follows walks the tree by recursion.
 *         Y3  An alias refers to the newest anchor of its name before it, which may still be open:
 *             such a loop is found by whoever follows the alias (in_use).
 *         Y4  The numbers of lines in syntax errors are Prometheus's own, off by one in places; the
 *             true place follows in brackets. */
#include "src/config/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <yaml.h>

#include "src/base/limits.h"
#include "src/base/num.h"

#define MAX_DEPTH  128 /* Y2 */
#define LONG_TAG   "tag:yaml.org,2002:"
#define TAG_NULL   LONG_TAG "null"
#define TAG_BINARY LONG_TAG "binary"
#define TAG_STR    LONG_TAG "str"

/* ---- tree ---- */

struct anchor {
    struct nx_slice name;
    struct yaml_node *node;
    struct anchor *next;
};

struct loader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool have_event;
    struct arena *arena;
    struct anchor *anchors;
    unsigned depth;
    struct nx_err *err;
};

static nx_status syntax_error(struct loader *l)
{
    const yaml_parser_t *p = &l->parser;
    const yaml_mark_t *at = &p->problem_mark;
    size_t line = 0;
    char where[40] = "";

    if (p->error == YAML_MEMORY_ERROR)
        return nx_fail(l->err, NX_NOMEM, "yaml: out of memory");
    if (p->problem_mark.line) {
        line = p->problem_mark.line + (p->error == YAML_SCANNER_ERROR);
    } else if (p->context_mark.line) {
        line = p->context_mark.line;
        at = &p->context_mark;
    }
    if (line)
        snprintf(where, sizeof where, "line %zu: ", line);
    return nx_fail(l->err, NX_BADINPUT, "yaml: %s%s (at line %zu, column %zu)", where,
                   p->problem ? p->problem : "unknown problem parsing YAML content", at->line + 1,
                   at->column + 1);
}

static nx_status next_event(struct loader *l)
{
    if (l->have_event)
        yaml_event_delete(&l->event);
    l->have_event = yaml_parser_parse(&l->parser, &l->event);
    return l->have_event ? NX_OK : syntax_error(l);
}

static struct yaml_node *new_node(struct loader *l, enum yaml_kind kind, const yaml_char_t *anchor,
                                  const yaml_char_t *tag)
{
    struct yaml_node *n = arena_zalloc(l->arena, sizeof *n);

    if (!n)
        return NULL;
    n->kind = kind;
    n->line = (uint32_t)l->event.start_mark.line + 1;
    n->column = (uint32_t)l->event.start_mark.column + 1;
    n->tag = tag ? arena_strdup(l->arena, (const char *)tag) : "";
    n->value = nx_slice_of("", 0);
    if (!n->tag)
        return NULL;
    if (anchor) {
        struct anchor *a = arena_zalloc(l->arena, sizeof *a);

        if (!a || !(a->name.ptr = arena_strdup(l->arena, (const char *)anchor)))
            return NULL;
        a->name.len = strlen(a->name.ptr);
        a->node = n;
        a->next = l->anchors;
        l->anchors = a;
    }
    return n;
}

static nx_status add_kid(struct loader *l, struct yaml_node *parent, struct yaml_node *kid,
                         size_t *cap)
{
    if (parent->n_kids == *cap) {
        size_t more = *cap ? *cap * 2 : 4;
        struct yaml_node **grown =
            arena_grow(l->arena, parent->kids, *cap * sizeof *grown, more * sizeof *grown);

        if (!grown)
            return arena_failed(l->arena, l->err);
        parent->kids = grown;
        *cap = more;
    }
    parent->kids[parent->n_kids++] = kid;
    return NX_OK;
}

static nx_status load_node(struct loader *l, struct yaml_node **out);

/* Items (or keys and values in turn) up to `end`. */
static nx_status load_kids(struct loader *l, struct yaml_node *parent, yaml_event_type_t end)
{
    size_t cap = 0;
    nx_status st;

    if (++l->depth > MAX_DEPTH)
        return nx_fail(l->err, NX_BADINPUT, "yaml: line %u: exceeded max depth of %d", parent->line,
                       MAX_DEPTH);
    while (!(st = next_event(l)) && l->event.type != end) {
        struct yaml_node *kid = NULL;

        if ((st = load_node(l, &kid)) || (st = add_kid(l, parent, kid, &cap)))
            return st;
    }
    l->depth--;
    return st;
}

static nx_status load_alias(struct loader *l, struct yaml_node **out)
{
    const char *name = (const char *)l->event.data.alias.anchor;
    struct yaml_node *n = new_node(l, YAML_IS_ALIAS, NULL, NULL);

    if (!n || !(n->value.ptr = arena_strdup(l->arena, name)))
        return arena_failed(l->arena, l->err);
    n->value.len = strlen(n->value.ptr);
    for (struct anchor *a = l->anchors; a && !n->target; a = a->next) {
        if (nx_slice_eq(a->name, n->value))
            n->target = a->node; /* Y3 */
    }
    if (!n->target)
        return nx_fail(l->err, NX_BADINPUT,
                       "yaml: unknown anchor '%s' referenced (at line %u, column %u)", name,
                       n->line, n->column);
    *out = n;
    return NX_OK;
}

/* The node that starts at the current event. */
static nx_status load_node(struct loader *l, struct yaml_node **out)
{
    const yaml_event_t *e = &l->event;
    struct yaml_node *n;

    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return load_alias(l, out);
    case YAML_SCALAR_EVENT:
        n = new_node(l, YAML_IS_SCALAR, e->data.scalar.anchor, e->data.scalar.tag);
        if (!n || !(n->value.ptr = arena_strndup(l->arena, (const char *)e->data.scalar.value,
                                                 e->data.scalar.length)))
            return arena_failed(l->arena, l->err);
        n->value.len = e->data.scalar.length;
        n->plain = e->data.scalar.plain_implicit;
        *out = n;
        return NX_OK;
    case YAML_SEQUENCE_START_EVENT:
        n = *out =
            new_node(l, YAML_IS_LIST, e->data.sequence_start.anchor, e->data.sequence_start.tag);
        return n ? load_kids(l, n, YAML_SEQUENCE_END_EVENT) : arena_failed(l->arena, l->err);
    case YAML_MAPPING_START_EVENT:
        n = *out =
            new_node(l, YAML_IS_MAP, e->data.mapping_start.anchor, e->data.mapping_start.tag);
        return n ? load_kids(l, n, YAML_MAPPING_END_EVENT) : arena_failed(l->arena, l->err);
    default:
        return nx_fail(l->err, NX_BADINPUT, "yaml: unexpected event in a document");
    }
}

nx_status yaml_parse(struct arena *a, struct nx_slice text, struct yaml_node **root,
                     struct nx_err *err)
{
    struct loader l = {.arena = a, .err = err};
    struct yaml_node *tree = NULL;
    nx_status st;

    if (!yaml_parser_initialize(&l.parser))
        return nx_fail(err, NX_NOMEM, "yaml: out of memory");
    yaml_parser_set_input_string(&l.parser, (const unsigned char *)text.ptr, text.len);
    if ((st = next_event(&l)) || (st = next_event(&l))) /* the stream's start, the document's */
        goto done;
    if (l.event.type == YAML_DOCUMENT_START_EVENT) {
        if ((st = next_event(&l)) || (st = load_node(&l, &tree)) || (st = next_event(&l)))
            goto done; /* Y1: the last one read the document's end */
    }
    *root = tree;

done:
    if (l.have_event)
        yaml_event_delete(&l.event);
    yaml_parser_delete(&l.parser);
    return st;
}

bool yaml_is_merge_key(const struct yaml_node *key)
{
    return key->kind == YAML_IS_SCALAR && nx_slice_is(key->value, "<<") &&
           (key->plain || !strcmp(key->tag, LONG_TAG "merge"));
}

bool yaml_is_bare_null(const struct yaml_node *n)
{
    if (!strcmp(n->tag, TAG_NULL))
        return true;
    return n->kind == YAML_IS_SCALAR && !*n->tag &&
           (nx_slice_is(n->value, "null") || nx_slice_is(n->value, "~") ||
            (!n->value.len && n->plain));
}

const struct yaml_node *yaml_follow(const struct yaml_node *n)
{
    for (unsigned steps = 0; n && n->kind == YAML_IS_ALIAS && steps < MAX_DEPTH; steps++)
        n = n->target;
    return n;
}

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key,
                                 const struct yaml_node **key_node)
{
    map = yaml_follow(map);
    if (!map || map->kind != YAML_IS_MAP)
        return NULL;
    for (size_t i = 0; i + 1 < map->n_kids; i += 2) {
        if (map->kids[i]->kind == YAML_IS_SCALAR && nx_slice_is(map->kids[i]->value, key)) {
            if (key_node)
                *key_node = map->kids[i];
            return map->kids[i + 1];
        }
    }
    return NULL;
}

/* ---- scalars ---- */

struct word {
    const char *text;
    enum yaml_type type;
    double number; /* of a bool: 1 or 0 */
};
// clang-format off
static const struct word words[] = {
    { "y", YAML_BOOL, 1 },    { "Y", YAML_BOOL, 1 },    { "yes", YAML_BOOL, 1 },  { "Yes", YAML_BOOL, 1 },
    { "YES", YAML_BOOL, 1 },  { "true", YAML_BOOL, 1 }, { "True", YAML_BOOL, 1 }, { "TRUE", YAML_BOOL, 1 },
    { "on", YAML_BOOL, 1 },   { "On", YAML_BOOL, 1 },   { "ON", YAML_BOOL, 1 },
    { "n", YAML_BOOL, 0 },    { "N", YAML_BOOL, 0 },    { "no", YAML_BOOL, 0 },   { "No", YAML_BOOL, 0 },
    { "NO", YAML_BOOL, 0 },   { "false", YAML_BOOL, 0 },{ "False", YAML_BOOL, 0 },{ "FALSE", YAML_BOOL, 0 },
    { "off", YAML_BOOL, 0 },  { "Off", YAML_BOOL, 0 },  { "OFF", YAML_BOOL, 0 },
    { "", YAML_NULL, 0 },     { "~", YAML_NULL, 0 },    { "null", YAML_NULL, 0 }, { "Null", YAML_NULL, 0 },
    { "NULL", YAML_NULL, 0 },
    { ".nan", YAML_FLOAT, __builtin_nan("") },  { ".NaN", YAML_FLOAT, __builtin_nan("") },
    { ".NAN", YAML_FLOAT, __builtin_nan("") },
    { ".inf", YAML_FLOAT, __builtin_inf() },    { ".Inf", YAML_FLOAT, __builtin_inf() },
    { ".INF", YAML_FLOAT, __builtin_inf() },    { "+.inf", YAML_FLOAT, __builtin_inf() },
    { "+.Inf", YAML_FLOAT, __builtin_inf() },   { "+.INF", YAML_FLOAT, __builtin_inf() },
    { "-.inf", YAML_FLOAT, -__builtin_inf() },  { "-.Inf", YAML_FLOAT, -__builtin_inf() },
    { "-.INF", YAML_FLOAT, -__builtin_inf() },
    { "<<", YAML_MERGE, 0 },
};
static const char *const short_tags[] = {
    [YAML_NULL] = "!!null", [YAML_BOOL] = "!!bool", [YAML_INT] = "!!int", [YAML_UINT] = "!!int",
    [YAML_FLOAT] = "!!float", [YAML_STR] = "!!str", [YAML_TIME] = "!!timestamp", [YAML_MERGE] = "!!merge",
};
// clang-format on

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int digit_of(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

/* One or two digits within [lo, hi]; moves *at. */
static bool take_2(struct nx_slice s, size_t *at, int lo, int hi, bool exactly)
{
    int v = 0;
    size_t n = 0;

    while (*at < s.len && is_digit(s.ptr[*at]) && n < 2) {
        v = v * 10 + (s.ptr[(*at)++] - '0');
        n++;
    }
    return n >= (exactly ? 2u : 1u) && v >= lo && v <= hi;
}

static bool take_char(struct nx_slice s, size_t *at, const char *any)
{
    if (*at < s.len && s.ptr[*at] && strchr(any, s.ptr[*at])) {
        ++*at;
        return true;
    }
    return false;
}

static bool take_zone(struct nx_slice s, size_t *at)
{
    if (take_char(s, at, "Z"))
        return true;
    return take_char(s, at, "+-") && take_2(s, at, 0, 24, true) && take_char(s, at, ":") &&
           take_2(s, at, 0, 60, true);
}

/* YYYY-M-D, alone or with a time after T, t (and a zone) or a blank (without). */
static bool is_timestamp(struct nx_slice s)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    size_t at = 0, month_at, day_at;
    int year = 0, month, day;
    bool with_zone;

    for (; at < s.len && is_digit(s.ptr[at]); at++)
        year = at < 4 ? year * 10 + (s.ptr[at] - '0') : year;
    if (at != 4 || !take_char(s, &at, "-"))
        return false;
    month_at = at;
    if (!take_2(s, &at, 1, 12, false))
        return false;
    month = atoi(s.ptr + month_at);
    if (!take_char(s, &at, "-"))
        return false;
    day_at = at;
    if (!take_2(s, &at, 1, 31, false))
        return false;
    day = atoi(s.ptr + day_at);
    if (day > days[month - 1] + (month == 2 && (year % 4 == 0 && (year % 100 || year % 400 == 0))))
        return false;
    if (at == s.len)
        return true;
    with_zone = s.ptr[at] != ' ';
    if (!take_char(s, &at, "Tt ") || !take_2(s, &at, 0, 23, false) || !take_char(s, &at, ":") ||
        !take_2(s, &at, 0, 59, false) || !take_char(s, &at, ":") || !take_2(s, &at, 0, 59, false))
        return false;
    if (take_char(s, &at, ".,")) {
        size_t from = at;

        while (at < s.len && is_digit(s.ptr[at]))
            at++;
        if (at == from)
            return false;
    }
    return (!with_zone || take_zone(s, &at)) && at == s.len;
}

/* Digits of a base, after sign and prefix. False if it is no integer of 64 bits. */
static bool parse_integer(const char *s, size_t len, struct yaml_value *out)
{
    bool neg = len && *s == '-';
    uint64_t v = 0;
    unsigned base = 10;

    if (len && (*s == '-' || *s == '+'))
        s++, len--;
    if (len > 2 && *s == '0' && strchr("xXoObB", s[1])) {
        base = (s[1] | 0x20) == 'x' ? 16 : (s[1] | 0x20) == 'o' ? 8 : 2;
        s += 2, len -= 2;
    } else if (len > 1 && *s == '0') {
        base = 8;
        s++, len--;
    }
    if (!len)
        return false;
    for (size_t i = 0; i < len; i++) {
        int d = digit_of(s[i]);

        if (d >= (int)base || __builtin_mul_overflow(v, (uint64_t)base, &v) ||
            __builtin_add_overflow(v, (uint64_t)d, &v))
            return false;
    }
    if (neg && v > (uint64_t)INT64_MAX + 1)
        return false;
    out->type = neg || v <= INT64_MAX ? YAML_INT : YAML_UINT;
    out->u = v;
    out->i = neg ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool looks_like_float(const char *s, size_t len)
{
    size_t i = 0, whole = 0, part = 0;

    if (i < len && (s[i] == '-' || s[i] == '+'))
        i++;
    for (; i < len && is_digit(s[i]); i++)
        whole++;
    if (i < len && s[i] == '.') {
        for (i++; i < len && is_digit(s[i]); i++)
            part++;
    }
    if (!whole && !part)
        return false;
    if (i < len && (s[i] == 'e' || s[i] == 'E')) {
        size_t digits = 0;

        i++;
        if (i < len && (s[i] == '-' || s[i] == '+'))
            i++;
        for (; i < len && is_digit(s[i]); i++)
            digits++;
        if (!digits)
            return false;
    }
    return i == len;
}

/* Integer, float or timestamp; otherwise leaves it a string. */
static void resolve_number(struct nx_slice s, struct yaml_value *out)
{
    char plain[128];
    size_t n = 0;
    double v;

    if (is_timestamp(s)) {
        out->type = YAML_TIME;
        return;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '_')
            continue;
        if (n == sizeof plain)
            return; /* no number is that long */
        plain[n++] = s.ptr[i];
    }
    if (parse_integer(plain, n, out))
        return;
    if (looks_like_float(plain, n)) {
        size_t skip = *plain == '+';
        bool range = false;

        if (num_parse(nx_slice_of(plain + skip, n - skip), &v, &range) && !range) {
            out->type = YAML_FLOAT;
            out->f = v;
        }
    }
}

static void resolve_plain(struct nx_slice s, struct yaml_value *out)
{
    char c = s.len ? *s.ptr : '\0';
    double v;

    out->type = YAML_STR;
    out->s = s;
    for (size_t i = 0; i < NX_COUNT(words); i++) {
        if (nx_slice_is(s, words[i].text)) {
            out->type = words[i].type;
            out->b = words[i].number > 0;
            out->f = words[i].number;
            return;
        }
    }
    if (is_digit(c) || c == '-' || c == '+') {
        resolve_number(s, out);
    } else if (c == '.' && num_parse(s, &v, NULL)) {
        out->type = YAML_FLOAT;
        out->f = v;
    }
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 with padding; line ends between the digits are skipped. */
static nx_status decode_base64(struct arena *a, struct nx_slice in, struct nx_slice *out,
                               struct nx_err *err)
{
    char *to = arena_alloc(a, in.len + 1);
    size_t n = 0, digits = 0, pad = 0;
    uint32_t bits = 0;

    if (!to)
        return arena_failed(a, err);
    for (size_t i = 0; i < in.len; i++) {
        int d = base64_digit(in.ptr[i]);

        if (in.ptr[i] == '\n' || in.ptr[i] == '\r')
            continue;
        if (in.ptr[i] == '=') {
            pad++;
            continue;
        }
        if (d < 0 || pad)
            goto bad;
        bits = bits << 6 | (uint32_t)d;
        if (++digits % 4 == 0) {
            to[n++] = (char)(bits >> 16);
            to[n++] = (char)(bits >> 8);
            to[n++] = (char)bits;
        }
    }
    if (pad != (4 - digits % 4) % 4 || pad > 2)
        goto bad;
    if (pad == 1) {
        to[n++] = (char)(bits >> 10);
        to[n++] = (char)(bits >> 2);
    } else if (pad == 2) {
        to[n++] = (char)(bits >> 4);
    }
    to[n] = '\0';
    *out = nx_slice_of(to, n);
    return NX_OK;
bad:
    return nx_fail(err, NX_BADINPUT, "yaml: !!binary value contains invalid base64 data");
}

/* An explicit tag must fit what the text reads as; an integer may be asked for as a float. */
static nx_status fit_tag(const struct yaml_node *n, struct yaml_value *v, struct nx_err *err)
{
    const char *wanted = n->tag + strlen(LONG_TAG);
    const char *got = short_tags[v->type];

    if (!strcmp(wanted, got + 2))
        return NX_OK;
    if (!strcmp(wanted, "float") && v->type == YAML_INT) {
        v->type = YAML_FLOAT;
        v->f = (double)v->i;
        return NX_OK;
    }
    return nx_fail(
        err, NX_BADINPUT, "yaml: cannot decode %s `%.*s` as a !!%s (at line %u, column %u)", got,
        (int)(n->value.len > 200 ? 200 : n->value.len), n->value.ptr, wanted, n->line, n->column);
}

nx_status yaml_resolve(const struct yaml_node *n, struct arena *a, struct yaml_value *out,
                       struct nx_err *err)
{
    static const char *const resolvable[] = {"bool", "int", "float", "null", "timestamp"};
    nx_status st = NX_OK;

    *out = (struct yaml_value){.type = YAML_STR, .s = n->value};
    if (!strcmp(n->tag, TAG_BINARY)) {
        st = decode_base64(a, n->value, &out->s, err);
    } else if (!*n->tag) {
        if (n->plain)
            resolve_plain(n->value, out);
    } else if (!strncmp(n->tag, LONG_TAG, strlen(LONG_TAG))) {
        for (size_t i = 0; i < NX_COUNT(resolvable); i++) {
            if (!strcmp(n->tag + strlen(LONG_TAG), resolvable[i])) {
                resolve_plain(n->value, out);
                st = fit_tag(n, out, err);
            }
        }
    } /* else: a tag of the user's own, or !!str: the text as it is */
    out->tag = short_tags[out->type];
    return st;
}

/* Sexagesimal numbers (1:30), which other readers still take for numbers. */
static bool is_base60(struct nx_slice s)
{
    size_t i = 0;
    bool colon = false;

    if (i < s.len && (s.ptr[i] == '-' || s.ptr[i] == '+'))
        i++;
    if (i == s.len || !is_digit(s.ptr[i]))
        return false;
    while (i < s.len && (is_digit(s.ptr[i]) || s.ptr[i] == '_'))
        i++;
    while (i < s.len && s.ptr[i] == ':') {
        size_t digits = 0;

        for (i++; i < s.len && is_digit(s.ptr[i]); i++)
            digits++;
        if (!digits || digits > 2 || (digits == 2 && s.ptr[i - 2] > '5'))
            return false;
        colon = true;
    }
    if (i < s.len && s.ptr[i] == '.') {
        for (i++; i < s.len && (is_digit(s.ptr[i]) || s.ptr[i] == '_'); i++)
            ;
    }
    return colon && i == s.len;
}

bool yaml_plain_is_string(struct nx_slice s)
{
    struct yaml_value v = {0};

    resolve_plain(s, &v);
    return v.type == YAML_STR && !is_base60(s);
}
