/* rules_file.c - a file of recording and alerting rules, by the same tables as the configuration.
 *
 * RULES   R1  Prometheus reads rule files with another decoder than its configuration (yaml.v3): a key
 *             that comes twice is told in that one's words, and a null in a list is passed over.
 *         R2  Where values stand is kept, as messages of later checks begin with it. */
#include <string.h>

#include "src/base/limits.h"
#include "src/config/decode.h"

#define RULES_ARENA_BYTES (256u << 20)

static struct config_at place_of(const struct yaml_node *map, const char *key)
{
    const struct yaml_node *n = yaml_get(map, key, NULL);

    return n ? (struct config_at){n->line, n->column} : (struct config_at){0};
}

/* R2 */
static nx_status note_rule(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_rule *r = obj;

    (void)d;
    r->record_at = place_of(map, "record");
    r->alert_at = place_of(map, "alert");
    r->expr_at = place_of(map, "expr");
    return NX_OK;
}

static nx_status note_group(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_rule_group *g = obj;
    const struct yaml_node *offset = yaml_follow(yaml_get(map, "query_offset", NULL));
    size_t kept = 0;

    (void)d;
    g->at = (struct config_at){map->line, map->column};
    g->has_query_offset = offset && !yaml_is_bare_null(offset);
    for (size_t i = 0; i < g->rules.n; i++) /* R1 */
        if (g->rules.v[i].line)
            g->rules.v[kept++] = g->rules.v[i];
    g->rules.n = kept;
    return NX_OK;
}

// clang-format off
static const struct field rule_fields[] = {
    FIELD(F_STR,      config_rule, record,             "record",          0),
    FIELD(F_STR,      config_rule, alert,              "alert",           0),
    FIELD(F_STR,      config_rule, expr,               "expr",            0),
    FIELD(F_DURATION, config_rule, for_ms,             "for",             0),
    FIELD(F_DURATION, config_rule, keep_firing_for_ms, "keep_firing_for", 0),
    FIELD(F_PAIRS,    config_rule, labels,             "labels",          0),
    FIELD(F_PAIRS,    config_rule, annotations,        "annotations",     0),
};
static const struct record rule_record = {
    .go = "rulefmt.Rule", .size = sizeof(struct config_rule), .resets = true, .fields = rule_fields,
    .n_fields = NX_COUNT(rule_fields), .line_offset = offsetof(struct config_rule, line), .check = note_rule,
};
static const struct field group_fields[] = {
    FIELD(F_STR,      config_rule_group, name,            "name",         0),
    FIELD(F_DURATION, config_rule_group, interval_ms,     "interval",     0),
    FIELD(F_DURATION, config_rule_group, query_offset_ms, "query_offset", 0),
    FIELD(F_INT,      config_rule_group, limit,           "limit",        0),
    FIELD(F_LIST,     config_rule_group, rules,           "rules",        0, .record = &rule_record, .go = "[]rulefmt.Rule"),
    FIELD(F_PAIRS,    config_rule_group, labels,          "labels",       0),
};
static const struct record group_record = {
    .go = "rulefmt.RuleGroup", .size = sizeof(struct config_rule_group), .resets = true, .fields = group_fields,
    .n_fields = NX_COUNT(group_fields), .line_offset = offsetof(struct config_rule_group, line), .check = note_group,
};
static const struct field file_fields[] = {
    FIELD(F_LIST, config_rule_file, groups, "groups", 0, .record = &group_record, .go = "[]rulefmt.RuleGroup"),
};
static const struct record file_record = {
    .go = "rulefmt.RuleGroups", .size = sizeof(struct config_rule_file), .fields = file_fields,
    .n_fields = NX_COUNT(file_fields), .line_offset = NO_LINE,
};
// clang-format on

/* R1: all doubled keys of the document, a line each. Aliases are not followed: what they name is met where it
 * stands. */
static void find_doubled_keys(const struct yaml_node *n, struct buf *out)
{
    if (!n || n->kind == YAML_IS_SCALAR || n->kind == YAML_IS_ALIAS)
        return;
    for (size_t i = 0; n->kind == YAML_IS_MAP && i + 1 < n->n_kids; i += 2) {
        const struct yaml_node *key = n->kids[i];
        if (i / 2 >= NX_LIMIT_LABELS_PER_SERIES)
            break; /* decoding refuses it */
        for (size_t k = 0; k < i && key->kind == YAML_IS_SCALAR; k += 2)
            if (n->kids[k]->kind == YAML_IS_SCALAR && nx_slice_eq(n->kids[k]->value, key->value)) {
                buf_printf(out, "\n  line %u: mapping key \"%.*s\" already defined at line %u",
                           key->line, (int)key->value.len, key->value.ptr, n->kids[k]->line);
                break;
            }
    }
    for (size_t i = 0; i < n->n_kids && out->len < NX_ERR_TEXT_BYTES; i++)
        find_doubled_keys(n->kids[i], out);
}

static nx_status check_keys(const struct yaml_node *root, struct nx_err *err)
{
    struct buf b;
    nx_status st = NX_OK;

    buf_init(&b, NX_ERR_TEXT_BYTES * 2);
    find_doubled_keys(root, &b);
    if (b.len)
        st = nx_fail(err, NX_BADINPUT, "yaml: unmarshal errors:%s", buf_cstr(&b));
    else if (b.failed)
        st = buf_status(&b, err);
    buf_done(&b);
    return st;
}

/* A line "---" behind the first content begins another one. */
static bool has_more_documents(struct nx_slice text)
{
    bool content = false;

    for (size_t i = 0; i < text.len;) {
        const char *line = text.ptr + i, *end = memchr(line, '\n', text.len - i);
        size_t len = end ? (size_t)(end - line) : text.len - i;
        if (len >= 3 && !memcmp(line, "---", 3) && (len == 3 || strchr(" \t\r", line[3]))) {
            if (content)
                return true;
            content = true;
        } else if (len && *line != '#' && *line != '%' && *line != '\r') {
            content = true;
        }
        i += len + 1;
    }
    return false;
}

nx_status config_parse_rules(struct config_rule_file *out, struct nx_slice text,
                             bool ignore_unknown_fields, struct arena *a, struct nx_err *err)
{
    struct arena *scratch = arena_new(RULES_ARENA_BYTES);
    struct config_rule_file file = {0};
    struct decoder d = {
        .arena = a, .scratch = scratch, .err = err, .ignore_unknown = ignore_unknown_fields};
    struct yaml_node *root = NULL;
    size_t kept = 0;
    nx_status st;

    buf_init(&d.complaints, NX_ERR_TEXT_BYTES);
    st = scratch ? yaml_parse(scratch, text, &root, err) : nx_fail(err, NX_NOMEM, "out of memory");
    if (!st)
        st = check_keys(root, err);
    if (!st)
        st = decode_document(&d, &file_record, root, &file);
    if (!st) {
        for (size_t i = 0; i < file.groups.n; i++) /* R1 */
            if (file.groups.v[i].line)
                file.groups.v[kept++] = file.groups.v[i];
        file.groups.n = kept;
        file.more_documents = has_more_documents(text);
        *out = file;
    }
    buf_done(&d.complaints);
    arena_free(scratch);
    return st;
}

nx_status config_read_text(const char *path, struct buf *to, struct nx_err *err)
{
    buf_init(to, NX_LIMIT_CONFIG_BYTES + (64 << 10)); /* a last read may find nothing */
    return config_read_file(path, to, err);
}
