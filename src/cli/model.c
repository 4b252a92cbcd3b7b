#include "src/cli/model.h"

/* model.c - instant vectors, matrices, scalars and strings, as prometheus/common's model prints them.
 *
 * RULES   M1  Numbers are decimal without an exponent, whatever their size; times are seconds.
 *         M2  In JSON, what HTML could take for its own (<, >, &) is escaped, as Go does it. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/num.h"
#include "src/base/text.h"

/* ---- reading --------------------------------------------------------------------------------------- */

static nx_status odd(struct nx_err *err, const char *what)
{
    return nx_fail(err, NX_BADINPUT, "bad_response: unexpected %s in the answer", what);
}

static bool number_of(const json_t *j, double *out)
{
    const char *s = json_string_value(j);

    return s && num_parse(nx_slice_str(s), out, NULL);
}

static nx_status read_buckets(const json_t *list, struct arena *a, struct model_sample *s,
                              struct nx_err *err)
{
    s->n_buckets = json_array_size(list);
    s->buckets = arena_array(a, s->n_buckets, sizeof *s->buckets);
    if (!s->buckets)
        return arena_failed(a, err);
    for (size_t i = 0; i < s->n_buckets; i++) {
        const json_t *b = json_array_get(list, i);
        struct model_bucket *to = &s->buckets[i];

        to->boundaries = (int)json_integer_value(json_array_get(b, 0));
        if (!number_of(json_array_get(b, 1), &to->lower) ||
            !number_of(json_array_get(b, 2), &to->upper) ||
            !number_of(json_array_get(b, 3), &to->count))
            return odd(err, "bucket");
    }
    return NX_OK;
}

/* [seconds, "value"] or [seconds, {histogram}]. */
static nx_status read_sample(const json_t *pair, struct arena *a, struct model_sample *out,
                             struct nx_err *err)
{
    const json_t *t = json_array_get(pair, 0), *v = json_array_get(pair, 1);

    if (json_array_size(pair) != 2 || !json_is_number(t))
        return odd(err, "sample");
    out->t_ms = llround(json_number_value(t) * 1000);
    if (json_is_object(v)) {
        out->is_histogram = true;
        if (!number_of(json_object_get(v, "count"), &out->count) ||
            !number_of(json_object_get(v, "sum"), &out->sum))
            return odd(err, "histogram");
        return read_buckets(json_object_get(v, "buckets"), a, out, err);
    }
    return number_of(v, &out->v) ? NX_OK : odd(err, "value");
}

nx_status model_labels(const json_t *object, struct arena *a, struct labels *out,
                       struct nx_err *err)
{
    struct labels_builder b;
    struct labels view;
    const char *name;
    json_t *value;
    nx_status st;

    if (!json_is_object(object))
        return odd(err, "labels");
    labels_builder_init(&b);
    labels_builder_reset(&b, NULL);
    json_object_foreach((json_t *)(uintptr_t)object, name, value) labels_builder_set(
        &b, nx_slice_str(name), nx_slice_of(json_string_value(value), json_string_length(value)));
    st = labels_builder_build(&b, &view, err);
    if (!st)
        st = labels_copy(a, &view, out, err);
    labels_builder_done(&b);
    return st;
}

static nx_status read_list(const json_t *list, struct arena *a, struct model_series *s,
                           struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < json_array_size(list) && !st; i++)
        st = read_sample(json_array_get(list, i), a, &s->v[s->n++], err);
    return st;
}

static nx_status read_series(const json_t *j, bool matrix, struct arena *a, struct model_series *s,
                             struct nx_err *err)
{
    const json_t *floats = json_object_get(j, matrix ? "values" : "value"),
                 *histograms = json_object_get(j, matrix ? "histograms" : "histogram");
    size_t n = matrix ? json_array_size(floats) + json_array_size(histograms) : 1;
    nx_status st = model_labels(json_object_get(j, "metric"), a, &s->labels, err);

    s->v = arena_array(a, n, sizeof *s->v);
    if (!s->v)
        return arena_failed(a, err);
    if (st)
        return st;
    if (!matrix) {
        s->n = 1;
        s->n_floats = floats != NULL;
        return read_sample(floats ? floats : histograms, a, s->v, err);
    }
    s->n_floats = json_array_size(floats);
    st = read_list(floats, a, s, err);
    return st ? st : read_list(histograms, a, s, err);
}

nx_status model_read(const json_t *data, struct arena *a, struct model_value *out,
                     struct nx_err *err)
{
    static const char *const types[] = {"none", "scalar", "string", "vector", "matrix"};
    const char *type = json_string_value(json_object_get(data, "resultType"));
    const json_t *result = json_object_get(data, "result");
    struct model_value v = {0};
    nx_status st = NX_OK;

    for (size_t i = 0; type && i < NX_COUNT(types); i++)
        if (strcmp(types[i], type) == 0)
            v.type = (enum model_type)i;
    switch (v.type) {
    case MODEL_NONE:
        return nx_fail(err, NX_BADINPUT, "unexpected value type \"%s\"", type ? type : "");
    case MODEL_SCALAR:
        st = read_sample(result, a, &v.scalar, err);
        break;
    case MODEL_STRING:
        v.scalar.t_ms = llround(json_number_value(json_array_get(result, 0)) * 1000);
        v.string = arena_slice(a, nx_slice_of(json_string_value(json_array_get(result, 1)),
                                              json_string_length(json_array_get(result, 1))));
        break;
    case MODEL_VECTOR:
    case MODEL_MATRIX:
        v.n = json_array_size(result);
        v.series = arena_array(a, v.n, sizeof *v.series);
        if (!v.series)
            return arena_failed(a, err);
        for (size_t i = 0; i < v.n && !st; i++)
            st = read_series(json_array_get(result, i), v.type == MODEL_MATRIX, a, &v.series[i],
                             err);
    }
    if (!st)
        *out = v;
    return st;
}

/* ---- as text --------------------------------------------------------------------------------------- */

static void put_time(struct buf *b, int64_t t_ms)
{
    buf_num_plain(b, (double)t_ms / 1000);
}

/* Go's %f. */
static void put_fixed(struct buf *b, double v)
{
    if (isfinite(v))
        buf_printf(b, "%f", v);
    else
        buf_num_plain(b, v);
}

static void put_sample(struct buf *b, const struct model_sample *s)
{
    if (!s->is_histogram) {
        buf_num_plain(b, s->v);
    } else {
        buf_str(b, "Count: ");
        put_fixed(b, s->count);
        buf_str(b, ", Sum: ");
        put_fixed(b, s->sum);
        buf_str(b, ", Buckets: [");
        for (size_t i = 0; i < s->n_buckets; i++) {
            const struct model_bucket *k = &s->buckets[i];
            char text[NUM_TEXT_BYTES];

            buf_printf(b, "%s%c", i ? " " : "",
                       k->boundaries == 1 || k->boundaries == 3 ? '[' : '(');
            buf_append(b, text, num_format_g(text, k->lower));
            buf_char(b, ',');
            buf_append(b, text, num_format_g(text, k->upper));
            buf_printf(b, "%c:", k->boundaries == 0 || k->boundaries == 3 ? ']' : ')');
            buf_num_plain(b, k->count);
        }
        buf_char(b, ']');
    }
    buf_str(b, " @[");
    put_time(b, s->t_ms);
    buf_char(b, ']');
}

void model_labels_print(struct buf *b, const struct labels *ls)
{
    buf_char(b, '{');
    for (uint32_t i = 0; i < ls->n; i++) {
        buf_str(b, i ? ", " : "");
        buf_slice(b, ls->v[i].name);
        buf_char(b, '=');
        text_quote(b, ls->v[i].value);
    }
    buf_char(b, '}');
}

/* By the names with the = behind them: job2 and job.x come before job. */
static int as_printed(const void *x, const void *y)
{
    const struct nx_slice a = ((const struct label *)x)->name, b = ((const struct label *)y)->name;
    const size_t n = a.len < b.len ? a.len : b.len;
    const int c = memcmp(a.ptr, b.ptr, n);

    if (c || a.len == b.len)
        return c;
    return a.len < b.len ? '=' - (unsigned char)b.ptr[n] : (unsigned char)a.ptr[n] - '=';
}

/* model.Metric: the name before the others, whatever it looks like. */
static void put_metric(struct buf *b, const struct labels *ls)
{
    struct nx_slice name = labels_get_str(ls, LABEL_NAME);
    struct label *v = malloc((ls->n + 1) * sizeof *v);
    const char *before = "{";

    if (!v) {
        b->failed = NX_NOMEM;
        return;
    }
    for (uint32_t i = 0; i < ls->n; i++)
        v[i] = ls->v[i];
    qsort(v, ls->n, sizeof *v, as_printed);
    buf_slice(b, name);
    for (uint32_t i = 0; i < ls->n; i++) {
        if (nx_slice_is(v[i].name, LABEL_NAME))
            continue;
        buf_str(b, before);
        buf_slice(b, v[i].name);
        buf_char(b, '=');
        text_quote(b, v[i].value);
        before = ", ";
    }
    buf_str(b, before[0] == ',' ? "}" : name.len ? "" : "{}");
    free(v);
}

/* model.LabelSet.Before: the smaller set first, then name by name; a missing name comes first. */
static int before(const void *x, const void *y)
{
    const struct labels *a = &((const struct model_series *)x)->labels,
                        *b = &((const struct model_series *)y)->labels;
    uint32_t i = 0;

    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    while (i < a->n && nx_slice_eq(a->v[i].name, b->v[i].name) &&
           nx_slice_eq(a->v[i].value, b->v[i].value))
        i++;
    if (i == a->n)
        return 0;
    if (nx_slice_eq(a->v[i].name, b->v[i].name))
        return nx_slice_cmp(a->v[i].value, b->v[i].value);
    /* The first name in order that one of them lacks decides. */
    return nx_slice_cmp(a->v[i].name, b->v[i].name) < 0 ? 1 : -1;
}

void model_print(struct buf *b, struct model_value *v)
{
    if (v->type == MODEL_SCALAR) {
        buf_str(b, "scalar: ");
        put_sample(b, &v->scalar);
    } else if (v->type == MODEL_STRING) {
        buf_slice(b, v->string);
    }
    if (v->type == MODEL_MATRIX && v->n)
        qsort(v->series, v->n, sizeof *v->series, before);
    for (size_t i = 0; i < v->n; i++) {
        const struct model_series *s = &v->series[i];

        buf_str(b, i ? "\n" : "");
        put_metric(b, &s->labels);
        buf_str(b, v->type == MODEL_MATRIX ? " =>\n" : " => ");
        for (size_t k = 0; k < s->n; k++) {
            buf_str(b, k ? "\n" : "");
            put_sample(b, &s->v[k]);
        }
    }
}

/* ---- as JSON --------------------------------------------------------------------------------------- */

void model_string_json(struct buf *b, struct nx_slice s)
{
    struct buf raw;
    static const char hex[] = "0123456789abcdef";

    buf_init(&raw, 0);
    text_json(&raw, s);
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.ptr[i];
        if (c == '<' || c == '>' || c == '&') /* M2 */
            buf_printf(b, "\\u00%c%c", hex[c >> 4], hex[c & 15]);
        else
            buf_char(b, c);
    }
    buf_done(&raw);
}

void model_labels_json(struct buf *b, const struct labels *ls)
{
    buf_char(b, '{');
    for (uint32_t i = 0; i < ls->n; i++) {
        buf_str(b, i ? "," : "");
        model_string_json(b, ls->v[i].name);
        buf_char(b, ':');
        model_string_json(b, ls->v[i].value);
    }
    buf_char(b, '}');
}

static void put_quoted(struct buf *b, double v)
{
    buf_char(b, '"');
    buf_num_plain(b, v);
    buf_char(b, '"');
}

static void sample_json(struct buf *b, const struct model_sample *s)
{
    buf_char(b, '[');
    put_time(b, s->t_ms);
    buf_char(b, ',');
    if (!s->is_histogram) {
        put_quoted(b, s->v);
    } else {
        buf_str(b, "{\"count\":");
        put_quoted(b, s->count);
        buf_str(b, ",\"sum\":");
        put_quoted(b, s->sum);
        buf_str(b, ",\"buckets\":[");
        for (size_t i = 0; i < s->n_buckets; i++) {
            const struct model_bucket *k = &s->buckets[i];
            buf_printf(b, "%s[%d,", i ? "," : "", k->boundaries);
            put_quoted(b, k->lower);
            buf_char(b, ',');
            put_quoted(b, k->upper);
            buf_char(b, ',');
            put_quoted(b, k->count);
            buf_char(b, ']');
        }
        buf_str(b, "]}");
    }
    buf_char(b, ']');
}

static void samples_json(struct buf *b, const struct model_sample *v, size_t n)
{
    buf_char(b, '[');
    for (size_t k = 0; k < n; k++) {
        buf_str(b, k ? "," : "");
        sample_json(b, &v[k]);
    }
    buf_char(b, ']');
}

static void series_json(struct buf *b, const struct model_series *s, bool matrix)
{
    buf_str(b, "{\"metric\":");
    model_labels_json(b, &s->labels);
    if (!matrix) {
        buf_str(b, s->n_floats ? ",\"value\":" : ",\"histogram\":");
        sample_json(b, s->v);
    } else {
        if (s->n_floats || s->n == 0) {
            buf_str(b, ",\"values\":");
            samples_json(b, s->v, s->n_floats);
        }
        if (s->n > s->n_floats) {
            buf_str(b, ",\"histograms\":");
            samples_json(b, s->v + s->n_floats, s->n - s->n_floats);
        }
    }
    buf_char(b, '}');
}

void model_json(struct buf *b, const struct model_value *v)
{
    if (v->type == MODEL_SCALAR) {
        sample_json(b, &v->scalar);
    } else if (v->type == MODEL_STRING) {
        buf_char(b, '[');
        put_time(b, v->scalar.t_ms);
        buf_char(b, ',');
        model_string_json(b, v->string);
        buf_char(b, ']');
    } else {
        buf_char(b, '[');
        for (size_t i = 0; i < v->n; i++) {
            buf_str(b, i ? "," : "");
            series_json(b, &v->series[i], v->type == MODEL_MATRIX);
        }
        buf_char(b, ']');
    }
}
