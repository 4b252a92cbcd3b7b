/* read.c - files of target groups, in JSON and in YAML.
 *
 * RULES   J1  The extension says which, in any case of letters.
 *         J2  JSON is as strict as Prometheus's decoder: unknown fields and wrong types are errors,
 *             names of fields in any case of letters are not; null is as good as nothing. A null
 *             group is an error in both. */
#include "src/discovery/discovery.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "src/base/fs.h"
#include "src/base/limits.h"
#include "src/base/text.h"

struct reading {
    struct arena *a;
    size_t index; /* of the group */
    struct nx_err *err;
};

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "bool";
    default:
        return "null";
    }
}

static nx_status wrong_type(struct reading *r, const json_t *v, const char *where,
                            const char *wanted)
{
    return nx_fail(r->err, NX_BADINPUT,
                   "json: cannot unmarshal %s into Go struct field %s of type %s (group %zu)",
                   type_name(v), where, wanted, r->index);
}

/* A string, or null for an empty one. */
static nx_status take_string(struct reading *r, const json_t *v, const char *where,
                             const char *wanted, struct nx_slice *out)
{
    *out = nx_slice_of("", 0);
    if (json_is_null(v))
        return NX_OK;
    if (!json_is_string(v))
        return wrong_type(r, v, where, wanted);
    out->len = json_string_length(v);
    out->ptr = arena_strndup(r->a, json_string_value(v), out->len);
    return out->ptr ? NX_OK : arena_failed(r->a, r->err);
}

static nx_status take_targets(struct reading *r, const json_t *v, struct config_strings *out)
{
    size_t n = json_array_size(v);
    struct nx_slice *targets;
    nx_status st = NX_OK;

    if (json_is_null(v))
        return NX_OK;
    if (!json_is_array(v))
        return wrong_type(r, v, ".targets", "[]string");
    if (!(targets = arena_array(r->a, n ? n : 1, sizeof *targets)))
        return arena_failed(r->a, r->err);
    for (size_t i = 0; i < n && !st; i++)
        st = take_string(r, json_array_get(v, i), ".targets", "string", &targets[i]);
    *out = (struct config_strings){targets, n};
    return st;
}

static int by_name(const void *a, const void *b)
{
    return nx_slice_cmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

static nx_status bad_name(struct reading *r, struct nx_slice name)
{
    char quoted[TEXT_QUOTED_BYTES];

    return nx_fail(r->err, NX_BADINPUT, "%s is not a valid label name (group %zu)",
                   text_quoted(quoted, name), r->index);
}

static nx_status take_labels(struct reading *r, json_t *v, struct labels *out)
{
    size_t n = json_object_size(v), at = 0, key_len;
    struct label *labels;
    const char *key;
    json_t *value;
    nx_status st;

    if (json_is_null(v))
        return NX_OK;
    if (!json_is_object(v))
        return wrong_type(r, v, ".labels", "map[model.LabelName]model.LabelValue");
    if (n > NX_LIMIT_LABELS_PER_SERIES)
        return nx_fail(r->err, NX_LIMIT, "more than %u labels in group %zu",
                       NX_LIMIT_LABELS_PER_SERIES, r->index);
    if (!(labels = arena_array(r->a, n ? n : 1, sizeof *labels)))
        return arena_failed(r->a, r->err);
    json_object_keylen_foreach(v, key, key_len, value)
    {
        struct label *l = &labels[at++];

        l->name = nx_slice_of(arena_strndup(r->a, key, key_len), key_len);
        if (!l->name.ptr)
            return arena_failed(r->a, r->err);
        if (!label_name_valid(l->name))
            return bad_name(r, l->name);
        if ((st = take_string(r, value, ".labels", "model.LabelValue", &l->value)))
            return st;
    }
    qsort(labels, at, sizeof *labels, by_name);
    *out = (struct labels){labels, (uint32_t)at};
    return NX_OK;
}

static nx_status take_group(struct reading *r, json_t *v, struct config_target_group *out)
{
    const char *key;
    json_t *value;
    nx_status st = NX_OK;

    if (json_is_null(v))
        return nx_fail(r->err, NX_BADINPUT, "nil target group item found (index %zu)", r->index);
    if (!json_is_object(v))
        return nx_fail(r->err, NX_BADINPUT,
                       "json: cannot unmarshal %s into Go value of type targetgroup.Group",
                       type_name(v));
    json_object_foreach(v, key, value)
    {
        if (!strcasecmp(key, "targets"))
            st = take_targets(r, value, &out->targets);
        else if (!strcasecmp(key, "labels"))
            st = take_labels(r, value, &out->labels);
        else
            st = nx_fail(r->err, NX_BADINPUT, "json: unknown field \"%s\" (group %zu)", key,
                         r->index);
        if (st)
            return st;
    }
    return NX_OK;
}

static nx_status parse_json(struct arena *a, struct nx_slice text, struct config_static_sd *out,
                            struct nx_err *err)
{
    struct reading r = {.a = a, .err = err};
    struct config_target_group *groups;
    json_error_t why;
    json_t *root = json_loadb(text.ptr, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    size_t n = json_array_size(root);
    nx_status st = NX_OK;

    if (!root)
        return nx_fail(err, NX_BADINPUT, "json: line %d, column %d: %s", why.line, why.column,
                       why.text);
    if (!json_is_array(root) && !json_is_null(root)) {
        st = nx_fail(err, NX_BADINPUT,
                     "json: cannot unmarshal %s into Go value of type []*targetgroup.Group",
                     type_name(root));
        goto done;
    }
    if (!(groups = arena_array(a, n ? n : 1, sizeof *groups))) {
        st = arena_failed(a, err);
        goto done;
    }
    for (r.index = 0; r.index < n && !st; r.index++)
        st = take_group(&r, json_array_get(root, r.index), &groups[r.index]);
    if (!st)
        *out = (struct config_static_sd){groups, n};

done:
    json_decref(root);
    return st;
}

nx_status discovery_parse(const char *path, struct nx_slice text, struct arena *a,
                          struct config_static_sd *out, struct nx_err *err)
{
    const char *dot = strrchr(path, '.');

    if (dot && !strcasecmp(dot, ".json")) /* J1 */
        return parse_json(a, text, out, err);
    if (dot && (!strcasecmp(dot, ".yml") || !strcasecmp(dot, ".yaml")))
        return config_parse_target_groups(a, text, out, err);
    return nx_fail(err, NX_BADINPUT, "invalid file extension: \"%s\"", dot ? dot : "");
}

nx_status discovery_read_file(const char *path, struct arena *a, struct config_static_sd *out,
                              struct nx_err *err)
{
    struct buf text;
    nx_status st;

    buf_init(&text, NX_LIMIT_SD_FILE_BYTES);
    st = fs_read_file(fs_real(), path, &text, err);
    if (!st)
        st = discovery_parse(path, buf_view(&text), a, out, err);
    buf_done(&text);
    return st;
}
