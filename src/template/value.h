/* value.h - what templates compute with, its text as Go's fmt writes it, and the functions. Private to
 * src/template. Values are small and copied; what they point at lives in the execution's arena or in the
 * data that it was given. */
#pragma once

#include "src/template/tree.h"

enum value_kind {
    V_NONE, /* nil, or nothing at all */
    V_BOOL,
    V_INT,
    V_UINT8,
    V_FLOAT,
    V_STRING,
    V_HTML,   /* a string that safeHtml marked */
    V_LABELS, /* map[string]string */
    V_SAMPLE,
    V_VECTOR, /* of samples: what query gives */
    V_ARGS,   /* map[string]any: what args gives; in the order of their keys */
    V_TIME,
    V_DURATION,
    V_MONTH,
    V_WEEKDAY,
    V_PAIRS, /* in `labels`: Alertmanager's KV */
    V_LIST,  /* of values */
    V_NODE,  /* a list or record that the data holds */
    V_DATA   /* the dot that execution begins with */
};
struct vector {
    const struct template_sample **v;
    size_t n;
};
struct arg {
    struct nx_slice name;
    struct value *value;
};
struct value {
    enum value_kind kind;
    union {
        bool b;
        int64_t i; /* V_INT, V_UINT8, V_TIME and V_DURATION (ns), V_MONTH, V_WEEKDAY */
        double f;
        struct nx_slice s; /* V_STRING, V_HTML */
        struct labels labels;
        const struct template_sample *sample;
        struct vector *vector;
        struct {
            struct arg *v;
            size_t n;
        } args;
        struct {
            struct value *v;
            size_t n;
        } list;
        const struct template_value *node;
        const struct template_data *data;
    };
};
static inline struct value value_string(struct nx_slice s)
{
    return (struct value){.kind = V_STRING, .s = s};
}
static inline struct value value_float(double f)
{
    return (struct value){.kind = V_FLOAT, .f = f};
}
static inline struct value value_bool(bool b)
{
    return (struct value){.kind = V_BOOL, .b = b};
}
static inline struct value value_int(int64_t i)
{
    return (struct value){.kind = V_INT, .i = i};
}

const char *value_type(const struct value *v); /* Go's name: "float64" */
bool value_truth(const struct value *v);

/* print.c: fmt.Sprint and its kin. */
#define VALUES_MAX 32                                              /* arguments of one call */
void print_values(struct buf *b, const struct value *v, size_t n); /* Sprint */
void print_line(struct buf *b, const struct value *v, size_t n);   /* Sprintln */
void print_format(struct buf *b, struct nx_slice format, const struct value *v, size_t n);
/* What an action prints: "<no value>" for nothing. */
void print_result(struct buf *b, const struct value *v);
void print_time(struct buf *b, int64_t ns);     /* 2006-01-02 15:04:05.999 +0000 UTC */
void print_duration(struct buf *b, int64_t ns); /* 1h2m3.5s */

/* escape.c */
void escape_html(struct buf *b, struct nx_slice s);
void escape_js(struct buf *b, struct nx_slice s);

#define TEXT_MAX_BYTES (16u << 20) /* of what one function makes */

/* What a running template has. */
struct run {
    const struct template *t, *in; /* `in`: whose text is executed */
    const struct template_data *data;
    struct arena *arena;
    size_t arena_bytes; /* that it held before */
    struct buf *out;
    const struct node *at; /* where we are, for errors */
    struct nx_slice part;  /* the named part that is executed */
    struct run_var {
        struct nx_slice name;
        struct value value;
    } * vars;
    size_t n_vars, cap_vars;
    size_t steps; /* left */
    int depth;
    struct nx_err *err;
    nx_status st;
};
bool run_memory(struct run *r); /* always false: notes that memory was short */
/* Makes a string value of a buffer, which is done then. False: memory was short, or it is too much. */
bool run_text(struct run *r, struct buf *b, struct value *out);
/* Runs a named part with a dot of its own; its text goes to `out`. False: failed. */
bool run_part(struct run *r, struct nx_slice name, struct value dot, struct buf *out);

/* What a function wants of an argument. */
enum want { WANT_ANY, WANT_STRING, WANT_SAMPLE, WANT_VECTOR };
/* Fills *out. False: failed, with the bare reason in why->text ("" if the run itself has failed). */
typedef bool function(struct run *r, const struct value *v, size_t n, struct value *out,
                      struct nx_err *why);
struct function_row {
    const char *name;
    uint8_t n; /* fixed arguments, of which these kinds */
    enum want wants[3];
    bool variadic; /* any number more, of any kind */
    function *fn;  /* NULL: and, or: the executor's own */
};
const struct function_row *function_find(struct nx_slice name);

/* notice.c: values that templates of notifications see. */
struct value value_of_node(const struct template_value *n);
size_t notice_count(const struct value *v); /* of V_LIST, V_NODE */
void notice_item(const struct value *v, size_t i, struct value *out);
enum member notice_member(struct run *r, const struct value *v, struct nx_slice name,
                          struct value *out);
/* KV's Remove: what is left of the pairs without those names. */
bool notice_remove(struct run *r, const struct value *v, const struct value *names,
                   struct value *out);
bool value_format_time(struct run *r, const struct value *v, struct nx_slice layout,
                       struct value *out);
function fn_join, fn_string_slice, fn_trim_space;

/* humanize.c */
function fn_humanize, fn_humanize1024, fn_humanize_duration, fn_humanize_percentage,
    fn_humanize_timestamp, fn_to_time, fn_to_duration, fn_parse_duration;
/* compare.c */
function fn_eq, fn_ne, fn_lt, fn_le, fn_gt, fn_ge, fn_not, fn_len, fn_index, fn_slice;
/* A field or method of a value. */
enum member { MEMBER_FOUND, MEMBER_MISSING, MEMBER_NO_SUCH, MEMBER_METHOD };
enum member value_member(struct run *r, const struct value *v, struct nx_slice name,
                         struct value *out);
/* Calls a method that value_member() named; none takes arguments. */
bool value_call_method(struct run *r, const struct value *v, struct nx_slice name,
                       struct value *out, struct nx_err *why);
