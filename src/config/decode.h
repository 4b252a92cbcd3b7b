/* decode.h - from a YAML tree into structs, by tables that describe them; and back.
 *
 * Only for src/config. A table lists a struct's fields in the order in which they are printed.
 * Decoding, printing and joining of relative paths all walk the same rows. */
#pragma once

#include "src/base/arena.h"
#include "src/base/regex.h"
#include "src/config/config.h"
#include "src/config/yaml.h"

/* What a field is in memory, and how it is read. */
enum field_kind {
    F_STR,         /* struct nx_slice */
    F_PATH,        /* struct nx_slice; relative ones are joined to the file's folder */
    F_SECRET,      /* struct config_secret */
    F_BOOL,        /* bool */
    F_TRI,         /* enum config_tri */
    F_INT,         /* int64_t */
    F_UINT,        /* uint64_t */
    F_FLOAT,       /* double */
    F_DURATION,    /* int64_t, ms */
    F_BYTES,       /* int64_t */
    F_STRS,        /* struct config_strings */
    F_PATHS,       /* struct config_strings */
    F_SECRETS,     /* struct config_secrets */
    F_PAIRS,       /* struct config_pairs; map[string]string */
    F_PARAMS,      /* struct config_params; map[string][]string */
    F_PROXY_HEAD,  /* struct config_proxy_headers; map[string][]secret */
    F_HEADERS,     /* struct config_http_headers */
    F_LABELS,      /* struct labels; names unchecked */
    F_LABEL_SET,   /* struct labels; names checked */
    F_LABEL_NAMES, /* struct config_strings; names checked */
    F_URL,         /* struct config_url */
    F_CHOICE,      /* struct nx_slice, one of a list */
    F_VALIDATION,  /* enum config_validation */
    F_TLS,         /* enum config_tls_version */
    F_ACTION,      /* enum relabel_action */
    F_REGEX,  /* struct nx_slice; also sets regex and default_regex of the relabel_rule around it */
    F_TREE,   /* const struct yaml_node *: anything */
    F_STRUCT, /* the struct itself, under a key of its own */
    F_POINTER, /* pointer to a struct; NULL unless the key is there */
    F_LIST,    /* { T *v; size_t n; }: a list of maps */
    F_INLINE,  /* the struct itself, its keys among ours */
    F_SDS      /* struct config_sds: all *_sd_configs keys */
};
enum {
    F_OMIT = 1, /* not printed at its zero value */
    F_FLOW = 2, /* printed as [a, b] */
    F_HIDE = 4  /* never printed */
};

struct record;
struct decoder;

struct choice {
    const char *list;      /* blank-separated; those allowed */
    const char *complaint; /* what stands before the wrong one */
    bool quoted;
};
struct field {
    const char *name;
    enum field_kind kind;
    unsigned flags;
    size_t offset;
    size_t size;                 /* of the member; a test compares it with the kind's */
    const struct record *record; /* F_STRUCT, F_POINTER, F_LIST, F_INLINE */
    const struct choice *choice; /* F_CHOICE */
    const char *go; /* Prometheus's name for the type, in messages; NULL: the kind's usual */
};
struct record {
    const char *go; /* "config.plain" */
    size_t size;
    const void *defaults; /* `size` bytes; NULL: zero */
    bool resets; /* starts from its defaults whenever its key is met (not what the parent had) */
    const struct field *fields;
    size_t n_fields;
    size_t line_offset; /* of an int that gets the section's line; NO_LINE: none */
    /* Runs when the section decoded without complaint. `map` is the section. */
    nx_status (*check)(struct decoder *d, const struct yaml_node *map, void *obj);
};
#define NO_LINE ((size_t)-1)

/* Rows: FIELD(kind, struct tag, member, "key", flags, more designated members) */
#define FIELD(kind_, tag_, member_, name_, flags_, ...)                                            \
    {                                                                                              \
        .name = (name_), .kind = (kind_), .flags = (flags_),                                       \
        .offset = offsetof(struct tag_, member_), .size = sizeof(((struct tag_ *)0)->member_),     \
        __VA_ARGS__                                                                                \
    }
#define EMPTY_SLICE                                                                                \
    {                                                                                              \
        "", 0                                                                                      \
    }

/* One load. */
struct decoder {
    struct arena *arena;   /* the configuration's own */
    struct arena *scratch; /* the tree's */
    const char *path;      /* of the file being read, for messages; NULL: none */
    struct buf complaints; /* the wrong types and unknown fields found so far, a line each */
    size_t n_complaints;
    nx_status failed; /* once set, everything stops */
    struct nx_err *err;
    struct place *place; /* where in the document we are */
    size_t n_decoded, n_aliased, alias_depth;
    struct regex_list *regexes; /* taken over by the configuration */
    bool ignore_unknown;
};
struct regex_list {
    struct regex **v;
    size_t n, cap;
    struct regex *default_regex; /* one of v, shared by all rules without a regex of their own */
};
/* Compiles a pattern; the list frees it. */
NX_NODISCARD nx_status regex_list_add(struct regex_list *l, struct nx_slice pattern,
                                      struct regex **out, struct nx_err *err);
/* A step of the way from the document's root to here. */
struct place {
    struct place *up;
    const char *name; /* NULL: an item */
    size_t index;
};

/* Decodes `root` (NULL: an empty document) into obj, which holds its defaults. Complaints come back
 * as one "yaml: unmarshal errors:" text. */
NX_NODISCARD nx_status decode_document(struct decoder *d, const struct record *r,
                                       const struct yaml_node *root, void *obj);
/* The same for a document that is a list: out is a { T *v; size_t n; }. */
NX_NODISCARD nx_status decode_list_document(struct decoder *d, const struct field *list,
                                            const struct yaml_node *root, void *out);

/* Fails the load: the text, and after it in brackets file, line and field. `at` is the node whose
 * line is meant, `field` (may be NULL) a key below the current place. */
nx_status decode_fail(struct decoder *d, const struct yaml_node *at, const char *field,
                      const char *fmt, ...) NX_PRINTF(4, 5);
/* The same, pointing at the key `field` of `map`, or at the map where it lacks the key. */
nx_status decode_fail_key(struct decoder *d, const struct yaml_node *map, const char *field,
                          const char *fmt, ...) NX_PRINTF(4, 5);
/* The same, pointing at an item of the list under a key. */
nx_status decode_fail_item(struct decoder *d, const struct yaml_node *map, const char *field,
                           size_t index, const char *fmt, ...) NX_PRINTF(5, 6);
/* Steps into a list's item and back, for checks that run after decoding. */
void decode_enter(struct decoder *d, struct place *p, const char *name, size_t index);
void decode_leave(struct decoder *d);
const struct yaml_node *decode_item(const struct yaml_node *map, const char *key, size_t index);

/* %q: text_quote into the arena. "" where memory is short. */
const char *decode_quote(struct decoder *d, struct nx_slice s);

/* Gives every string of obj that has none the pointer to "". decode_document() does it itself. */
void record_seal(const struct record *r, void *obj);

/* Calls fn for every path in obj. */
typedef nx_status record_path_fn(void *ctx, struct nx_slice *path);
nx_status record_each_path(const struct record *r, void *obj, record_path_fn *fn, void *ctx);

/* Writes obj as YAML. With `reveal`, secrets as they are (to compare configurations, never to
 * show). */
nx_status record_print(const struct record *r, const void *obj, bool reveal, struct buf *out);

const char *relabel_action_name(enum relabel_action a); /* "replace" */

/* Shapes shared by all lists. */
struct any_list {
    void *v;
    size_t n;
};

/* tables.c, sd.c */
extern const struct record config_record, scrape_file_record, http_record, relabel_record,
    tls_record;
extern const struct record static_group_record, header_record;
struct sd_row {
    const char *name, *key; /* "file", "file_sd_configs" */
    const char *go;         /* "[]*file.SDConfig" */
    const struct record *record;
};
extern const struct sd_row sd_rows[CONFIG_SD_COUNT];
nx_status check_http(struct decoder *d, const struct yaml_node *map, struct config_http *http);

/* load.c */
NX_NODISCARD nx_status config_read_file(const char *path, struct buf *to, struct nx_err *err);
nx_status fail_like_go(struct nx_err *err, int errno_value, const char *what, const char *path);

/* Go's filepath.Join: no doubled slashes, no ".", ".." taken back. NULL out of memory. */
char *config_join(struct arena *a, const char *dir, const char *path);
char *config_dir(struct arena *a, const char *path); /* filepath.Dir */
/* Paths of files in obj are from `dir` on, unless they begin with '/'. */
nx_status config_join_paths(const struct record *r, void *obj, struct arena *a, const char *dir,
                            struct nx_err *err);

/* url.c: Go's url.Parse, as far as a configuration meets it. */
NX_NODISCARD nx_status url_parse(struct arena *a, struct nx_slice text, struct config_url *out,
                                 struct nx_err *err);
/* units.c: 15MB, 1GiB512KiB. */
NX_NODISCARD nx_status units_parse(struct nx_slice text, int64_t *bytes, struct nx_err *err);
void units_print(struct buf *b, int64_t bytes);
