#include "src/template/value.h"

/* compare.c - Go's comparison functions, and those that look into values: len, index, slice, fields. */

#include <string.h>
#include <time.h>

enum basic { BASIC_NONE, BASIC_BOOL, BASIC_INT, BASIC_UINT, BASIC_FLOAT, BASIC_STRING };

static enum basic basic_of(const struct value *v)
{
    switch (v->kind) {
    case V_BOOL:
        return BASIC_BOOL;
    case V_INT:
    case V_MONTH:
    case V_WEEKDAY:
        return BASIC_INT;
    case V_UINT8:
        return BASIC_UINT;
    case V_FLOAT:
        return BASIC_FLOAT;
    case V_STRING:
    case V_HTML:
        return BASIC_STRING;
    default:
        return BASIC_NONE;
    }
}

static bool bad(struct nx_err *why, const char *text)
{
    nx_fail(why, NX_EXEC, "%s", text);
    return false;
}

static bool is_integer(enum basic k)
{
    return k == BASIC_INT || k == BASIC_UINT;
}

static bool equal(const struct value *a, const struct value *b, bool *out, struct nx_err *why)
{
    enum basic k1 = basic_of(a), k2 = basic_of(b);

    if (k1 != k2 && !(is_integer(k1) && is_integer(k2))) {
        *out = false;
        return a->kind == V_NONE || b->kind == V_NONE ||
               bad(why, "incompatible types for comparison");
    }
    switch (k1) {
    case BASIC_BOOL:
        *out = a->b == b->b;
        return true;
    case BASIC_INT:
    case BASIC_UINT:
        *out = a->i == b->i;
        return true;
    case BASIC_FLOAT:
        *out = a->f == b->f;
        return true;
    case BASIC_STRING:
        *out = nx_slice_eq(a->s, b->s);
        return true;
    default:
        break;
    }
    if (a->kind == V_NONE || b->kind == V_NONE) {
        *out = a->kind == b->kind;
    } else if (a->kind == V_SAMPLE && b->kind == V_SAMPLE) {
        *out = a->sample == b->sample;
    } else if ((a->kind == V_TIME || a->kind == V_DURATION) && a->kind == b->kind) {
        *out = false; /* other pointers */
    } else {
        struct buf t;
        buf_init(&t, 1000);
        buf_str(&t, "non-comparable types ");
        print_values(&t, a, 1);
        buf_printf(&t, ": %s, %s: ", value_type(a), value_type(b));
        print_values(&t, b, 1);
        nx_fail(why, NX_EXEC, "%s", buf_cstr(&t));
        buf_done(&t);
        return false;
    }
    return true;
}

static bool less(const struct value *a, const struct value *b, bool *out, struct nx_err *why)
{
    enum basic k1 = basic_of(a), k2 = basic_of(b);

    if (k1 == BASIC_NONE || k2 == BASIC_NONE)
        return bad(why, "invalid type for comparison");
    if (k1 != k2 && !(is_integer(k1) && is_integer(k2)))
        return bad(why, "incompatible types for comparison");
    switch (k1) {
    case BASIC_BOOL:
        return bad(why, "invalid type for comparison");
    case BASIC_FLOAT:
        *out = a->f < b->f;
        break;
    case BASIC_STRING:
        *out = nx_slice_cmp(a->s, b->s) < 0;
        break;
    default:
        *out = a->i < b->i;
    }
    return true;
}

bool fn_eq(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    bool same = false;

    (void)r;
    if (n < 2)
        return bad(why, "missing argument for comparison");
    for (size_t i = 1; i < n && !same; i++)
        if (!equal(&v[0], &v[i], &same, why))
            return false;
    *out = value_bool(same);
    return true;
}

bool fn_ne(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    bool same = false;

    (void)r;
    (void)n;
    if (!equal(&v[0], &v[1], &same, why))
        return false;
    *out = value_bool(!same);
    return true;
}

bool fn_lt(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    bool yes = false;

    (void)r;
    (void)n;
    if (!less(&v[0], &v[1], &yes, why))
        return false;
    *out = value_bool(yes);
    return true;
}

bool fn_le(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    bool yes = false;

    (void)r;
    (void)n;
    if (!less(&v[0], &v[1], &yes, why) || (!yes && !equal(&v[0], &v[1], &yes, why)))
        return false;
    *out = value_bool(yes);
    return true;
}

bool fn_gt(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    if (!fn_le(r, v, n, out, why))
        return false;
    out->b = !out->b;
    return true;
}

bool fn_ge(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    if (!fn_lt(r, v, n, out, why))
        return false;
    out->b = !out->b;
    return true;
}

bool fn_not(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    (void)r;
    (void)n;
    (void)why;
    *out = value_bool(!value_truth(v));
    return true;
}

/* ---- looking into values ----------------------------------------------------------------------------- */

static bool is_text(const struct value *v)
{
    return v->kind == V_STRING || v->kind == V_HTML;
}

bool fn_len(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    (void)r;
    (void)n;
    if (v->kind == V_NONE)
        return bad(why, "reflect: call of reflect.Value.Type on zero Value");
    if (is_text(v))
        *out = value_int((int64_t)v->s.len);
    else if (v->kind == V_LABELS || v->kind == V_PAIRS)
        *out = value_int(v->labels.n);
    else if (v->kind == V_LIST || (v->kind == V_NODE && v->node->kind == TEMPLATE_ITEMS))
        *out = value_int((int64_t)notice_count(v));
    else if (v->kind == V_VECTOR)
        *out = value_int((int64_t)v->vector->n);
    else if (v->kind == V_ARGS)
        *out = value_int((int64_t)v->args.n);
    else {
        nx_fail(why, NX_EXEC, "len of type %s", value_type(v));
        return false;
    }
    return true;
}

/* A place in something of n items; `most` is n - 1 or, for slices, n. */
static bool index_of(const struct value *v, size_t most, size_t *out, struct nx_err *why)
{
    if (v->kind == V_NONE)
        return bad(why, "cannot index slice/array with nil");
    if (!is_integer(basic_of(v))) {
        nx_fail(why, NX_EXEC, "cannot index slice/array with type %s", value_type(v));
        return false;
    }
    if (v->i < 0 || (uint64_t)v->i > most) {
        nx_fail(why, NX_EXEC, "index out of range: %lld", (long long)v->i);
        return false;
    }
    *out = (size_t)v->i;
    return true;
}

static bool key_of(const struct value *v, struct nx_slice *out, struct nx_err *why)
{
    if (v->kind == V_NONE)
        return bad(why, "value is nil; should be of type string");
    if (!is_text(v)) {
        nx_fail(why, NX_EXEC, "value has type %s; should be string", value_type(v));
        return false;
    }
    *out = v->s;
    return true;
}

static void get_arg(const struct value *v, struct nx_slice name, struct value *out)
{
    *out = (struct value){0};
    for (size_t i = 0; i < v->args.n; i++)
        if (nx_slice_eq(v->args.v[i].name, name))
            *out = *v->args.v[i].value;
}

static bool index_once(const struct value *v, const struct value *at, struct value *out,
                       struct nx_err *why)
{
    struct nx_slice key;
    size_t i;

    switch (v->kind) {
    case V_NONE:
        return bad(why, "index of nil pointer");
    case V_STRING:
    case V_HTML:
        if (!index_of(at, v->s.len, &i, why))
            return false;
        if (i == v->s.len) {
            nx_fail(why, NX_EXEC, "index out of range: %zu", i);
            return false;
        }
        *out = (struct value){.kind = V_UINT8, .i = (unsigned char)v->s.ptr[i]};
        return true;
    case V_VECTOR:
        if (!index_of(at, v->vector->n, &i, why))
            return false;
        if (i == v->vector->n) {
            nx_fail(why, NX_EXEC, "index out of range: %zu", i);
            return false;
        }
        *out = (struct value){.kind = V_SAMPLE, .sample = v->vector->v[i]};
        return true;
    case V_LIST:
    case V_NODE:
        if (!index_of(at, notice_count(v), &i, why))
            return false;
        if (i == notice_count(v)) {
            nx_fail(why, NX_EXEC, "index out of range: %zu", i);
            return false;
        }
        notice_item(v, i, out);
        return true;
    case V_LABELS:
    case V_PAIRS:
        if (!key_of(at, &key, why))
            return false;
        *out = value_string(labels_get(&v->labels, key));
        return true;
    case V_ARGS:
        if (!key_of(at, &key, why))
            return false;
        get_arg(v, key, out);
        return true;
    default:
        nx_fail(why, NX_EXEC, "can't index item of type %s", value_type(v));
        return false;
    }
}

bool fn_index(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    struct value item = v[0];

    (void)r;
    if (item.kind == V_NONE)
        return bad(why, "index of untyped nil");
    for (size_t i = 1; i < n; i++) {
        struct value inner = {0};
        if (!index_once(&item, &v[i], &inner, why))
            return false;
        item = inner;
    }
    *out = item;
    return true;
}

bool fn_slice(struct run *r, const struct value *v, size_t n, struct value *out, struct nx_err *why)
{
    size_t len, at[3];

    if (v->kind == V_NONE)
        return bad(why, "slice of untyped nil");
    if (n > 4) {
        nx_fail(why, NX_EXEC, "too many slice indexes: %zu", n - 1);
        return false;
    }
    if (v->kind == V_STRING && n == 4)
        return bad(why, "cannot 3-index slice a string");
    if (!is_text(v) && v->kind != V_VECTOR) {
        nx_fail(why, NX_EXEC, "can't slice item of type %s", value_type(v));
        return false;
    }
    len = is_text(v) ? v->s.len : v->vector->n;
    at[0] = 0;
    at[1] = at[2] = len;
    for (size_t i = 1; i < n; i++)
        if (!index_of(&v[i], len, &at[i - 1], why))
            return false;
    for (size_t i = 0; i < 2; i++)
        if (at[i] > at[i + 1]) {
            nx_fail(why, NX_EXEC, "invalid slice index: %zu > %zu", at[i], at[i + 1]);
            return false;
        }
    *out = *v;
    if (is_text(v)) {
        out->s = nx_slice_of(v->s.ptr + at[0], at[1] - at[0]);
        return true;
    }
    struct vector *part = arena_alloc(r->arena, sizeof *part);
    if (!part)
        return run_memory(r);
    *part = (struct vector){v->vector->v + at[0], at[1] - at[0]};
    out->vector = part;
    return true;
}

/* ---- fields and methods -------------------------------------------------------------------------------- */

static enum member data_member(const struct template_data *d, struct nx_slice name,
                               struct value *out)
{
    if (nx_slice_is(name, "Labels"))
        *out = (struct value){.kind = V_LABELS, .labels = *d->labels};
    else if (nx_slice_is(name, "ExternalLabels"))
        *out = (struct value){.kind = V_LABELS, .labels = *d->external_labels};
    else if (nx_slice_is(name, "ExternalURL"))
        *out = value_string(d->external_url);
    else if (nx_slice_is(name, "Value"))
        *out = value_float(d->value);
    else
        return MEMBER_NO_SUCH;
    return MEMBER_FOUND;
}

static bool is_method(enum value_kind kind, struct nx_slice name)
{
    static const char *const of_time[] = {"Year",   "Month",   "Day",        "Hour",   "Minute",
                                          "Second", "Weekday", "YearDay",    "Unix",   "UnixMilli",
                                          "UTC",    "String",  "Nanosecond", "Format", NULL},
                             *const of_duration[] = {"Hours",        "Minutes",
                                                     "Seconds",      "Milliseconds",
                                                     "Microseconds", "Nanoseconds",
                                                     "String",       NULL},
                             *const of_name[] = {"String", NULL};
    const char *const *list = kind == V_TIME ? of_time : kind == V_DURATION ? of_duration : of_name;

    for (; *list; list++)
        if (nx_slice_is(name, *list))
            return true;
    return false;
}

enum member value_member(struct run *r, const struct value *v, struct nx_slice name,
                         struct value *out)
{
    switch (v->kind) {
    case V_NONE:
        return MEMBER_MISSING;
    case V_PAIRS:
    case V_LIST:
    case V_NODE:
        return notice_member(r, v, name, out);
    case V_DATA:
        return data_member(v->data, name, out);
    case V_LABELS: /* a label that is missing is empty */
        *out = value_string(labels_get(&v->labels, name));
        if (!out->s.ptr)
            out->s = nx_slice_of("", 0);
        return MEMBER_FOUND;
    case V_ARGS:
        get_arg(v, name, out);
        return MEMBER_FOUND;
    case V_SAMPLE:
        if (nx_slice_is(name, "Labels"))
            *out = (struct value){.kind = V_LABELS, .labels = v->sample->labels};
        else if (nx_slice_is(name, "Value"))
            *out = value_float(v->sample->value);
        else
            return MEMBER_NO_SUCH;
        return MEMBER_FOUND;
    case V_TIME:
    case V_DURATION:
    case V_MONTH:
    case V_WEEKDAY:
        return is_method(v->kind, name) ? MEMBER_METHOD : MEMBER_NO_SUCH;
    default:
        return MEMBER_NO_SUCH;
    }
}

static bool text_of(struct run *r, const struct value *v, struct value *out)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    print_values(&b, v, 1);
    return run_text(r, &b, out);
}

static bool time_method(const struct value *v, struct nx_slice name, struct value *out)
{
    int64_t s = v->i / 1000000000 - (v->i % 1000000000 < 0);
    time_t t = (time_t)s;
    struct tm tm;

    gmtime_r(&t, &tm);
    if (nx_slice_is(name, "UTC"))
        *out = *v;
    else if (nx_slice_is(name, "Month"))
        *out = (struct value){.kind = V_MONTH, .i = tm.tm_mon + 1};
    else if (nx_slice_is(name, "Weekday"))
        *out = (struct value){.kind = V_WEEKDAY, .i = tm.tm_wday};
    else
        *out = value_int(nx_slice_is(name, "Year")      ? tm.tm_year + 1900
                         : nx_slice_is(name, "Day")     ? tm.tm_mday
                         : nx_slice_is(name, "Hour")    ? tm.tm_hour
                         : nx_slice_is(name, "Minute")  ? tm.tm_min
                         : nx_slice_is(name, "Second")  ? tm.tm_sec
                         : nx_slice_is(name, "YearDay") ? tm.tm_yday + 1
                         : nx_slice_is(name, "Unix")    ? s
                         : nx_slice_is(name, "UnixMilli")
                             ? s * 1000 + (v->i - s * 1000000000) / 1000000
                             : v->i - s * 1000000000);
    return true;
}

bool value_call_method(struct run *r, const struct value *v, struct nx_slice name,
                       struct value *out, struct nx_err *why)
{
    double ns = (double)v->i;

    (void)why;
    if (nx_slice_is(name, "String"))
        return text_of(r, v, out);
    if (v->kind == V_TIME)
        return time_method(v, name, out);
    if (nx_slice_is(name, "Hours"))
        *out = value_float(ns / 3.6e12);
    else if (nx_slice_is(name, "Minutes"))
        *out = value_float(ns / 6e10);
    else if (nx_slice_is(name, "Seconds"))
        *out = value_float(ns / 1e9);
    else
        *out = value_int(nx_slice_is(name, "Milliseconds")   ? v->i / 1000000
                         : nx_slice_is(name, "Microseconds") ? v->i / 1000
                                                             : v->i);
    return true;
}
