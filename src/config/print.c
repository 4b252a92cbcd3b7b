/* print.c - structs back to YAML, by the tables they were read with.
 *
 * WHY     /api/v1/status/config and the page show the configuration as it is in force. People diff
 *         it and tools read it, so it looks as it does in Prometheus: fields in its order, names in
 *         maps in gopkg.in/yaml.v2's order, the same quoting (libyaml's, which that package is a
 *         copy of).
 * RULES   P1  A secret is printed as <secret>; an empty one as nothing. `reveal` is for comparing
 *             only.
 *         P2  What is printed loads again and prints the same, but for what Prometheus's format
 *             cannot say: a field that is left out when zero, and has another default, comes back
 *             as that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "src/base/num.h"
#include "src/base/text.h"
#include "src/config/decode.h"

struct printer {
    yaml_emitter_t emitter;
    bool failed, reveal;
    struct buf *out;
};

static int write_out(void *ctx, unsigned char *bytes, size_t len)
{
    buf_append(ctx, bytes, len);
    return 1;
}

static void emit(struct printer *p, yaml_event_t *e, int made)
{
    if (!made || p->failed) {
        if (made)
            yaml_event_delete(e);
        p->failed = true;
        return;
    }
    if (!yaml_emitter_emit(&p->emitter, e))
        p->failed = true;
}

static void emit_scalar(struct printer *p, const char *tag, struct nx_slice s,
                        yaml_scalar_style_t style)
{
    yaml_event_t e;

    emit(p, &e,
         yaml_scalar_event_initialize(&e, NULL, (const yaml_char_t *)tag,
                                      (const yaml_char_t *)s.ptr, (int)s.len, !tag, !tag, style));
}

static void emit_word(struct printer *p, const char *word)
{
    emit_scalar(p, NULL, nx_slice_str(word), YAML_PLAIN_SCALAR_STYLE);
}

/* Bytes that are not UTF-8 travel as !!binary. */
static void emit_binary(struct printer *p, struct nx_slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct buf b;

    buf_init(&b, 0);
    for (size_t i = 0; i < s.len; i += 3) {
        size_t n = s.len - i < 3 ? s.len - i : 3;
        uint32_t v = 0;

        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (k < n ? (uint8_t)s.ptr[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            buf_char(&b, k <= n ? digits[v >> (18 - 6 * k) & 63] : '=');
    }
    emit_scalar(p, "tag:yaml.org,2002:binary", buf_view(&b), YAML_PLAIN_SCALAR_STYLE);
    p->failed |= b.failed != NX_OK;
    buf_done(&b);
}

static void emit_str(struct printer *p, struct nx_slice s)
{
    if (!utf8_valid(s))
        emit_binary(p, s);
    else if (memchr(s.ptr, '\n', s.len))
        emit_scalar(p, NULL, s, YAML_LITERAL_SCALAR_STYLE);
    else
        emit_scalar(p, NULL, s,
                    yaml_plain_is_string(s) ? YAML_PLAIN_SCALAR_STYLE
                                            : YAML_DOUBLE_QUOTED_SCALAR_STYLE);
}

static void emit_secret(struct printer *p, struct config_secret s)
{
    if (p->reveal && s.value.len)
        emit_str(p, s.value);
    else
        emit_word(p, s.value.len ? "<secret>" : "null"); /* P1 */
}

static void begin_map(struct printer *p)
{
    yaml_event_t e;

    emit(p, &e, yaml_mapping_start_event_initialize(&e, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));
}

static void end_map(struct printer *p)
{
    yaml_event_t e;

    emit(p, &e, yaml_mapping_end_event_initialize(&e));
}

static void begin_list(struct printer *p, bool flow)
{
    yaml_event_t e;

    emit(p, &e,
         yaml_sequence_start_event_initialize(
             &e, NULL, NULL, 1, flow ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE));
}

static void end_list(struct printer *p)
{
    yaml_event_t e;

    emit(p, &e, yaml_sequence_end_event_initialize(&e));
}

/* ---- the order of names in maps ---- */

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

/* Two names from the first byte on in which they differ: numbers by value, letters after the
 * rest. */
static int compare_tails(struct nx_slice a, struct nx_slice b, size_t i)
{
    bool al = is_letter((unsigned char)a.ptr[i]), bl = is_letter((unsigned char)b.ptr[i]);
    int bytes = (unsigned char)a.ptr[i] - (unsigned char)b.ptr[i];
    uint64_t an = 0, bn = 0;
    size_t ai = i, bi = i;

    if (al != bl)
        return bl ? -1 : 1;
    if (al)
        return bytes;
    if (a.ptr[i] == '0' || b.ptr[i] == '0') {
        for (size_t j = i; j-- > 0 && is_digit((unsigned char)a.ptr[j]);) {
            if (a.ptr[j] != '0') {
                an = bn = 1;
                break;
            }
        }
    }
    for (; ai < a.len && is_digit((unsigned char)a.ptr[ai]); ai++)
        an = an * 10 + (uint64_t)(a.ptr[ai] - '0');
    for (; bi < b.len && is_digit((unsigned char)b.ptr[bi]); bi++)
        bn = bn * 10 + (uint64_t)(b.ptr[bi] - '0');
    if (an != bn)
        return an < bn ? -1 : 1;
    if (ai != bi)
        return ai < bi ? -1 : 1;
    return bytes;
}

static int by_natural_order(const void *x, const void *y)
{
    struct nx_slice a = **(const struct nx_slice *const *)x,
                    b = **(const struct nx_slice *const *)y;
    size_t n = a.len < b.len ? a.len : b.len;

    for (size_t i = 0; i < n; i++) {
        if (a.ptr[i] != b.ptr[i])
            return compare_tails(a, b, i);
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

/* Prints a map whose items are `size` bytes and start with their name. */
static void emit_map(struct printer *p, const void *items, size_t n, size_t size,
                     void (*value)(struct printer *p, const void *item))
{
    const struct nx_slice **order = calloc(n ? n : 1, sizeof *order);

    if (!order) {
        p->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++)
        order[i] = (const struct nx_slice *)((const char *)items + i * size);
    if (n > 1)
        qsort(order, n, sizeof *order, by_natural_order);
    begin_map(p);
    for (size_t i = 0; i < n; i++) {
        emit_str(p, *order[i]);
        value(p, order[i]);
    }
    end_map(p);
    free(order);
}

static void emit_strs(struct printer *p, const struct config_strings *l, bool flow)
{
    begin_list(p, flow);
    for (size_t i = 0; i < l->n; i++)
        emit_str(p, l->v[i]);
    end_list(p);
}

static void emit_secrets(struct printer *p, const struct config_secrets *l)
{
    begin_list(p, false);
    for (size_t i = 0; i < l->n; i++)
        emit_secret(p, l->v[i]);
    end_list(p);
}

static void pair_value(struct printer *p, const void *item)
{
    emit_str(p, ((const struct config_pair *)item)->value);
}

static void params_value(struct printer *p, const void *item)
{
    emit_strs(p, &((const struct config_values *)item)->values, false);
}

static void proxy_value(struct printer *p, const void *item)
{
    emit_secrets(p, &((const struct config_proxy_header *)item)->values);
}

static void emit_record(struct printer *p, const struct record *r, const void *obj);

static void header_value(struct printer *p, const void *item)
{
    emit_record(p, &header_record, item);
}

/* ---- numbers ---- */

/* Go's FormatFloat(v, 'g', -1, 64): exponents from 1e6 on where the base's printer has them from
 * 1e21. */
static void emit_float(struct printer *p, double v)
{
    char text[NUM_TEXT_BYTES + 8], digits[32];
    size_t len = num_format_g(text, v), n = 0, i = 0;
    bool whole = true;

    text[len] = '\0';
    if (v != v || v - v != 0) {
        emit_word(p, v != v ? ".nan" : v > 0 ? ".inf" : "-.inf");
        return;
    }
    if (strchr(text, 'e') || (v < 1e6 && v > -1e6)) {
        emit_word(p, text);
        return;
    }
    int exponent = -1;

    for (i = text[0] == '-'; i < len && n < sizeof digits - 1; i++) {
        if (text[i] == '.')
            whole = false;
        else
            digits[n++] = text[i], exponent += whole;
    }
    while (n > 1 && digits[n - 1] == '0')
        n--;
    digits[n] = '\0';
    snprintf(text, sizeof text, "%s%c%s%se+%02d", v < 0 ? "-" : "", digits[0], n > 1 ? "." : "",
             digits + 1, exponent);
    emit_word(p, text);
}

static void emit_number(struct printer *p, const struct field *f, const void *at)
{
    char text[80];
    struct buf b;

    switch (f->kind) {
    case F_INT:
        snprintf(text, sizeof text, "%lld", (long long)*(const int64_t *)at);
        break;
    case F_UINT:
        snprintf(text, sizeof text, "%llu", (unsigned long long)*(const uint64_t *)at);
        break;
    case F_DURATION:
        text[num_format_duration(text, *(const int64_t *)at)] = '\0';
        break;
    default:
        buf_init(&b, sizeof text - 1);
        units_print(&b, *(const int64_t *)at);
        snprintf(text, sizeof text, "%s", buf_cstr(&b));
        buf_done(&b);
        break;
    }
    emit_word(p, text);
}

/* ---- anything ---- */

static void emit_tree(struct printer *p, const struct yaml_node *n)
{
    struct arena *a = NULL;
    struct yaml_value v;

    switch (n->kind) {
    case YAML_IS_LIST:
        begin_list(p, false);
        for (size_t i = 0; i < n->n_kids; i++)
            emit_tree(p, n->kids[i]);
        end_list(p);
        return;
    case YAML_IS_MAP:
        begin_map(p);
        for (size_t i = 0; i < n->n_kids; i++)
            emit_tree(p, n->kids[i]);
        end_map(p);
        return;
    default:
        break;
    }
    if (!(a = arena_new(0)) || yaml_resolve(n, a, &v, NULL))
        p->failed = true;
    else if (v.type == YAML_STR)
        emit_str(p, v.s);
    else if (v.type == YAML_BOOL)
        emit_word(p, v.b ? "true" : "false");
    else
        emit_scalar(p, NULL, v.type == YAML_NULL ? nx_slice_str("null") : n->value,
                    YAML_PLAIN_SCALAR_STYLE);
    arena_free(a);
}

/* ---- records ---- */

static bool record_is_zero(const struct record *r, const void *obj);

static bool field_is_zero(const struct field *f, const void *at)
{
    switch (f->kind) {
    case F_STR:
    case F_PATH:
    case F_CHOICE:
        return !((const struct nx_slice *)at)->len;
    case F_SECRET:
        return !((const struct config_secret *)at)->value.len;
    case F_BOOL:
        return !*(const bool *)at;
    case F_TRI:
        return *(const enum config_tri *)at == CONFIG_UNSET;
    case F_INT:
    case F_UINT:
    case F_DURATION:
    case F_BYTES:
        return !*(const int64_t *)at;
    case F_FLOAT:
        return *(const double *)at == 0;
    case F_STRS:
    case F_PATHS:
    case F_SECRETS:
    case F_PAIRS:
    case F_PARAMS:
    case F_PROXY_HEAD:
    case F_LABEL_NAMES:
    case F_LIST:
        return !((const struct any_list *)at)->n;
    case F_HEADERS:
        return !((const struct any_list *)at)->v;
    case F_LABELS:
    case F_LABEL_SET:
        return !((const struct labels *)at)->n;
    case F_URL:
        return !((const struct config_url *)at)->set;
    case F_VALIDATION:
    case F_TLS:
        return !*(const unsigned *)at;
    case F_ACTION:
        return *(const enum relabel_action *)at == RELABEL_ACTION_COUNT;
    case F_REGEX:
        return ((const struct relabel_rule *)((const char *)at -
                                              offsetof(struct relabel_rule, regex_text)))
            ->default_regex;
    case F_TREE:
    case F_POINTER:
        return !*(const void *const *)at;
    case F_STRUCT:
    case F_INLINE:
        return record_is_zero(f->record, at);
    case F_SDS:
        return !((const struct config_sds *)at)->n;
    }
    return false;
}

static bool record_is_zero(const struct record *r, const void *obj)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        if (!field_is_zero(&r->fields[i], (const char *)obj + r->fields[i].offset))
            return false;
    }
    return true;
}

static void emit_sds(struct printer *p, const struct config_sds *sds)
{
    for (size_t i = 0; i < sds->n; i++) {
        const struct config_sd *sd = &sds->v[i];
        const struct sd_row *row = &sd_rows[sd->kind];

        if (!i || sds->v[i - 1].kind != sd->kind) {
            emit_word(p, row->key);
            begin_list(p, false);
        }
        if (sd->kind == CONFIG_SD_STATIC) {
            for (size_t g = 0; g < sd->u.statics->n; g++)
                emit_record(p, row->record, &sd->u.statics->v[g]);
        } else {
            emit_record(p, row->record, sd->u.any);
        }
        if (i + 1 == sds->n || sds->v[i + 1].kind != sd->kind)
            end_list(p);
    }
}

static void emit_value(struct printer *p, const struct field *f, const void *at)
{
    static const char *const validations[] = {"", "legacy", "utf8"};
    static const char *const versions[] = {"", "TLS10", "TLS11", "TLS12", "TLS13"};
    const struct any_list *l = at;

    switch (f->kind) {
    case F_STR:
    case F_PATH:
    case F_CHOICE:
    case F_REGEX:
        emit_str(p, *(const struct nx_slice *)at);
        break;
    case F_SECRET:
        emit_secret(p, *(const struct config_secret *)at);
        break;
    case F_BOOL:
        emit_word(p, *(const bool *)at ? "true" : "false");
        break;
    case F_TRI:
        emit_word(p, *(const enum config_tri *)at == CONFIG_YES ? "true" : "false");
        break;
    case F_FLOAT:
        emit_float(p, *(const double *)at);
        break;
    case F_INT:
    case F_UINT:
    case F_DURATION:
    case F_BYTES:
        emit_number(p, f, at);
        break;
    case F_STRS:
    case F_PATHS:
    case F_LABEL_NAMES:
        emit_strs(p, at, f->flags & F_FLOW);
        break;
    case F_SECRETS:
        emit_secrets(p, at);
        break;
    case F_PAIRS:
        emit_map(p, l->v, l->n, sizeof(struct config_pair), pair_value);
        break;
    case F_PARAMS:
        emit_map(p, l->v, l->n, sizeof(struct config_values), params_value);
        break;
    case F_PROXY_HEAD:
        emit_map(p, l->v, l->n, sizeof(struct config_proxy_header), proxy_value);
        break;
    case F_HEADERS:
        emit_map(p, l->v, l->n, sizeof(struct config_http_header), header_value);
        break;
    case F_LABELS:
    case F_LABEL_SET: /* a label is a pair */
        emit_map(p, ((const struct labels *)at)->v, ((const struct labels *)at)->n,
                 sizeof(struct label), pair_value);
        break;
    case F_URL:
        if (((const struct config_url *)at)->set)
            emit_str(p, p->reveal ? ((const struct config_url *)at)->text
                                  : ((const struct config_url *)at)->shown);
        else
            emit_word(p, "null");
        break;
    case F_VALIDATION:
        emit_word(p, validations[*(const enum config_validation *)at]);
        break;
    case F_TLS:
        emit_word(p, versions[*(const enum config_tls_version *)at]);
        break;
    case F_ACTION:
        emit_word(p, relabel_action_name(*(const enum relabel_action *)at));
        break;
    case F_TREE:
        emit_tree(p, *(const struct yaml_node *const *)at);
        break;
    case F_STRUCT:
        emit_record(p, f->record, at);
        break;
    case F_POINTER:
        emit_record(p, f->record, *(const void *const *)at);
        break;
    case F_LIST:
        begin_list(p, false);
        for (size_t i = 0; i < l->n; i++)
            emit_record(p, f->record, (const char *)l->v + i * f->record->size);
        end_list(p);
        break;
    case F_INLINE:
    case F_SDS:
        NX_ASSERT(false); /* have no key of their own */
        break;
    }
}

static void emit_fields(struct printer *p, const struct record *r, const void *obj)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];
        const void *at = (const char *)obj + f->offset;

        if (f->kind == F_INLINE) {
            emit_fields(p, f->record, at);
        } else if (f->kind == F_SDS) {
            emit_sds(p, at);
        } else if (!(f->flags & F_HIDE) && !((f->flags & F_OMIT) && field_is_zero(f, at))) {
            emit_word(p, f->name);
            emit_value(p, f, at);
        }
    }
}

static void emit_record(struct printer *p, const struct record *r, const void *obj)
{
    if (!obj) {
        emit_word(p, "null");
        return;
    }
    begin_map(p);
    emit_fields(p, r, obj);
    end_map(p);
}

nx_status record_print(const struct record *r, const void *obj, bool reveal, struct buf *out)
{
    struct printer p = {.reveal = reveal, .out = out};
    yaml_event_t e;

    if (!yaml_emitter_initialize(&p.emitter))
        return NX_NOMEM;
    yaml_emitter_set_output(&p.emitter, write_out, out);
    yaml_emitter_set_unicode(&p.emitter, 1);
    yaml_emitter_set_width(&p.emitter, 80);
    emit(&p, &e, yaml_stream_start_event_initialize(&e, YAML_UTF8_ENCODING));
    emit(&p, &e, yaml_document_start_event_initialize(&e, NULL, NULL, NULL, 1));
    emit_record(&p, r, obj);
    emit(&p, &e, yaml_document_end_event_initialize(&e, 1));
    emit(&p, &e, yaml_stream_end_event_initialize(&e));
    yaml_emitter_delete(&p.emitter);
    if (p.failed && !out->failed)
        out->failed = NX_NOMEM;
    return out->failed;
}

/* ---- paths ---- */

static nx_status each_path(const struct record *r, char *obj, record_path_fn *fn, void *ctx);

static nx_status each_in_strings(const struct config_strings *l, record_path_fn *fn, void *ctx)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < l->n && !st; i++)
        st = fn(ctx, &l->v[i]);
    return st;
}

static nx_status each_in_sds(const struct config_sds *sds, record_path_fn *fn, void *ctx)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < sds->n && !st; i++) {
        if (sds->v[i].kind != CONFIG_SD_STATIC)
            st = each_path(sd_rows[sds->v[i].kind].record, (char *)(uintptr_t)sds->v[i].u.any, fn,
                           ctx);
    }
    return st;
}

static nx_status each_in_field(const struct field *f, void *at, record_path_fn *fn, void *ctx)
{
    const struct any_list *l = at;
    nx_status st = NX_OK;

    switch (f->kind) {
    case F_PATH:
        return fn(ctx, at);
    case F_PATHS:
        return each_in_strings(at, fn, ctx);
    case F_STRUCT:
    case F_INLINE:
        return each_path(f->record, at, fn, ctx);
    case F_POINTER:
        return *(void **)at ? each_path(f->record, *(void **)at, fn, ctx) : NX_OK;
    case F_LIST:
        for (size_t i = 0; i < l->n && !st; i++)
            st = each_path(f->record, (char *)l->v + i * f->record->size, fn, ctx);
        return st;
    case F_HEADERS:
        for (size_t i = 0; i < l->n && !st; i++)
            st = each_in_strings(&((struct config_http_header *)l->v)[i].files, fn, ctx);
        return st;
    case F_SDS:
        return each_in_sds(at, fn, ctx);
    default:
        return NX_OK;
    }
}

static nx_status each_path(const struct record *r, char *obj, record_path_fn *fn, void *ctx)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < r->n_fields && !st; i++)
        st = each_in_field(&r->fields[i], obj + r->fields[i].offset, fn, ctx);
    return st;
}

nx_status record_each_path(const struct record *r, void *obj, record_path_fn *fn, void *ctx)
{
    return each_path(r, obj, fn, ctx);
}
