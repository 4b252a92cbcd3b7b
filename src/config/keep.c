/* keep.c - the file of rules of retention, by the same tables as the configuration.
 *
 *     retention:
 *     - match: '{job="debug"}'
 *       keep: 2d
 *     downsample:
 *     - after: 30d
 *       resolution: 5m
 *       keep: 1y */
#include "src/base/limits.h"
#include "src/config/decode.h"

#define KEEP_ARENA_BYTES    (64u << 20)
#define LEAST_RESOLUTION_MS 60000
#define MOST_RESOLUTION_MS  86400000

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

static nx_status check_keep_level(struct decoder *d, const struct yaml_node *map, void *obj)
{
    const struct config_keep_level *l = obj;

    if (l->after_ms <= 0)
        FAIL("after", "a level of downsampling needs a time above 0 after which it begins");
    if (l->resolution_ms < LEAST_RESOLUTION_MS || l->resolution_ms > MOST_RESOLUTION_MS)
        FAIL("resolution", "the resolution of downsampling must be between 1m and 1d");
    if (l->keep_ms <= l->after_ms)
        FAIL("keep", "a level of downsampling must be kept for longer than until it begins");
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
static const struct field level_fields[] = {
    FIELD(F_DURATION, config_keep_level, after_ms,      "after",      0),
    FIELD(F_DURATION, config_keep_level, resolution_ms, "resolution", 0),
    FIELD(F_DURATION, config_keep_level, keep_ms,       "keep",       0),
};
static const struct record level_record = {
    .go = "downsample.level", .size = sizeof(struct config_keep_level), .resets = true, .fields = level_fields,
    .n_fields = NX_COUNT(level_fields), .line_offset = offsetof(struct config_keep_level, line), .check = check_keep_level,
};
static const struct field keep_fields[] = {
    FIELD(F_LIST, config_keep, retention, "retention", 0, .record = &rule_record, .go = "[]retention.rule"),
    FIELD(F_LIST, config_keep, downsample, "downsample", 0, .record = &level_record, .go = "[]downsample.level"),
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
    for (size_t i = 0; i < k->downsample.n; i++) {
        const struct config_keep_level *l = &k->downsample.v[i];
        if (!l->line)
            return decode_fail_item(d, root, "downsample", i, "empty or null level");
        if (i && (l->after_ms <= l[-1].after_ms || l->keep_ms <= l[-1].keep_ms))
            return decode_fail_item(
                d, root, "downsample", i,
                "levels of downsampling must begin later, and be kept for longer, one "
                "after the other");
        if (i &&
            (l->resolution_ms <= l[-1].resolution_ms || l->resolution_ms % l[-1].resolution_ms))
            return decode_fail_item(
                d, root, "downsample", i,
                "the resolution of a level must be a multiple of the one before");
    }
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
