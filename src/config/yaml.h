/* yaml.h - a YAML document as a tree that remembers its lines, and what its scalars mean.
 *
 * Only for src/config. Nodes and their bytes live in the arena that yaml_parse() was given. */
#pragma once

#include "src/base/arena.h"

enum yaml_kind { YAML_IS_SCALAR, YAML_IS_LIST, YAML_IS_MAP, YAML_IS_ALIAS };

struct yaml_node {
    enum yaml_kind kind;
    uint32_t line, column;          /* from 1 */
    bool plain;                     /* a scalar without quotes and without a tag */
    bool in_use;                    /* an alias that is being followed: finds loops */
    const char *tag;                /* as written, in long form; "" if there was none */
    struct nx_slice value;          /* scalar: its text; alias: the anchor's name. NUL-terminated */
    const struct yaml_node *target; /* alias */
    struct yaml_node **kids;        /* list: items; map: key, value, key, value, ... */
    size_t n_kids;
};

/* The first document of `text`; *root is NULL if there is none. Errors read as Prometheus's ("yaml:
 * line 2: did not find expected key"), followed by the place where the parser stood. */
NX_NODISCARD nx_status yaml_parse(struct arena *a, struct nx_slice text, struct yaml_node **root,
                                  struct nx_err *err);

enum yaml_type {
    YAML_NULL,
    YAML_BOOL,
    YAML_INT,  /* fits int64_t */
    YAML_UINT, /* above INT64_MAX */
    YAML_FLOAT,
    YAML_STR,
    YAML_TIME, /* looks like a timestamp; its text is what counts */
    YAML_MERGE
};
struct yaml_value {
    enum yaml_type type;
    const char *tag; /* "!!int", for messages */
    bool b;
    int64_t i;
    uint64_t u;
    double f;
    struct nx_slice s; /* the text; of !!binary the decoded bytes (in the arena) */
};
/* What a scalar means under YAML 1.1 as gopkg.in/yaml.v2 reads it. Fails where an explicit tag does
 * not fit ("cannot decode !!str `x` as a !!int") or base64 is broken. */
NX_NODISCARD nx_status yaml_resolve(const struct yaml_node *n, struct arena *a,
                                    struct yaml_value *out, struct nx_err *err);
/* Would these bytes, written without quotes, read back as a string? */
bool yaml_plain_is_string(struct nx_slice s);

bool yaml_is_merge_key(const struct yaml_node *key);
/* null, ~ or nothing: what leaves a section at its zero value without decoding it. */
bool yaml_is_bare_null(const struct yaml_node *n);
const struct yaml_node *yaml_follow(const struct yaml_node *n); /* through aliases */
/* The value of `key` in a map (not looking into merged maps), and its key node; NULL if absent. */
const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key,
                                 const struct yaml_node **key_node);
