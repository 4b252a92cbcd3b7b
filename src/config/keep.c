/* keep.c - the file of rules of retention, by the same tables as the configuration.
 *
 *     retention:
 *     - match: '{job="debug"}'
 *       keep: 2d */
#include "src/base/limits.h"
#include "src/config/decode.h"

#define KEEP_ARENA_BYTES (64u << 20)

#define FAIL(field, ...) return decode_fail_key(d, map, field, __VA_ARGS__)

static nx_status check_keep_rule(struct decoder *d, const struct yaml_node *map, void *obj)
{
    const struct config_keep_rule *r = obj;

    if (!r->match.len)
        FAIL("match", "a rule of retention needs a selector of series");
    if (r->keep_ms <= 0)
        FAIL("keep", "a rule of retention needs a time above 0 for which its series are kept");
    return NX_OK;
}

// clang-format off
static const struct field rule_fields[] = {
    FIELD(F_STR,      config_keep_rule, match,   "match", 0),
    FIELD(F_DURATION, config_keep_rule, keep_ms, "keep",  0),
};
static const struct record rule_record = {
    .go = "retention.rule", .size = sizeof(struct config_keep_rule), .resets = true, .fields = rule_fields,
    .n_fields = NX_COUNT(rule_fields), .line_offset = offsetof(struct config_keep_rule, line), .check = check_keep_rule,
};
static const struct field keep_fields[] = {
    FIELD(F_LIST, config_keep, retention, "retention", 0, .record = &rule_record, .go = "[]retention.rule"),
};
static const struct record keep_record = {
    .go = "retention.file", .size = sizeof(struct config_keep), .fields = keep_fields,
    .n_fields = NX_COUNT(keep_fields), .line_offset = NO_LINE,
};
// clang-format on

/* A list's item that is null leaves no section to point at. */
static nx_status check_items(struct decoder *d, const struct yaml_node *root,
                             const struct config_keep *k)
{
    for (size_t i = 0; i < k->retention.n; i++)
        if (!k->retention.v[i].line)
            return decode_fail_item(d, root, "retention", i, "empty or null rule");
    return NX_OK;
}

nx_status config_load_keep(struct config_keep *out, const char *path, struct arena *a,
                           struct nx_err *err)
{
    struct arena *scratch = arena_new(KEEP_ARENA_BYTES);
    struct config_keep k = {0};
    struct decoder d = {.arena = a, .scratch = scratch, .path = path, .err = err};
    struct yaml_node *root = NULL;
    struct buf text;
    nx_status st;

    buf_init(&text, NX_LIMIT_CONFIG_BYTES + (64 << 10)); /* a last read may find nothing */
    buf_init(&d.complaints, NX_ERR_TEXT_BYTES);
    if (!scratch)
        st = nx_fail(err, NX_NOMEM, "out of memory");
    else
        st = config_read_file(path, &text, err);
    if (st)
        goto done;
    st = yaml_parse(scratch, buf_view(&text), &root, err);
    if (!st)
        st = decode_document(&d, &keep_record, root, &k);
    if (!st)
        st = check_items(&d, root, &k);
    if (st)
        st = nx_context(err, "parsing YAML file %s", path);
    else
        *out = k;

done:
    buf_done(&d.complaints);
    buf_done(&text);
    arena_free(scratch);
    return st;
}
