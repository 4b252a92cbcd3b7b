#include "src/template/value.h"

/* funcs.c - the table of functions: Go's own and Prometheus's. */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/regex.h"
#include "src/base/text.h"

#define UNUSED __attribute__((unused))
#define MAKE(name)                                                                                 \
    static bool name(struct run *r UNUSED, const struct value *v UNUSED, size_t n UNUSED,          \
                     struct value *out UNUSED, struct nx_err *why UNUSED)

/* What print would write; a single string is itself. */
static void all_text(struct buf *b, const struct value *v, size_t n)
{
    print_values(b, v, n);
}

/* ---- Go's own ------------------------------------------------------------------------------------ */

MAKE(fn_print)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    print_values(&b, v, n);
    return run_text(r, &b, out);
}

MAKE(fn_println)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    print_line(&b, v, n);
    return run_text(r, &b, out);
}

MAKE(fn_printf)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    print_format(&b, v[0].s, v + 1, n - 1);
    return run_text(r, &b, out);
}

static bool escape(struct run *r, const struct value *v, size_t n, struct value *out,
                   void (*fn)(struct buf *, struct nx_slice))
{
    struct buf from, to;

    buf_init(&from, TEXT_MAX_BYTES);
    buf_init(&to, TEXT_MAX_BYTES);
    all_text(&from, v, n);
    fn(&to, buf_view(&from));
    if (from.failed)
        to.failed = from.failed;
    buf_done(&from);
    return run_text(r, &to, out);
}

MAKE(fn_html)
{
    return escape(r, v, n, out, escape_html);
}

MAKE(fn_js)
{
    return escape(r, v, n, out, escape_js);
}

MAKE(fn_urlquery)
{
    return escape(r, v, n, out, text_url_query);
}

/* No value here is a function. */
MAKE(fn_call)
{
    if (v->kind == V_NONE)
        nx_fail(why, NX_EXEC, "call of nil");
    else
        nx_fail(why, NX_EXEC, "non-function of type %s", value_type(v));
    return false;
}

/* ---- queries and samples --------------------------------------------------------------------------- */

MAKE(fn_query)
{
    struct template_sample *samples = NULL;
    struct vector *vec = arena_alloc(r->arena, sizeof *vec);
    size_t n_samples = 0;

    if (!vec)
        return run_memory(r);
    if (!r->data->query) {
        nx_fail(why, NX_EXEC, "there is nothing to query");
        return false;
    }
    if (r->data->query(r->data->query_ctx, v[0].s, r->arena, &samples, &n_samples, why))
        return false;
    vec->v = arena_array(r->arena, n_samples + 1, sizeof(void *));
    if (!vec->v)
        return run_memory(r);
    for (size_t i = 0; i < n_samples; i++)
        vec->v[i] = &samples[i];
    vec->n = n_samples;
    *out = (struct value){.kind = V_VECTOR, .vector = vec};
    return true;
}

MAKE(fn_first)
{
    if (!v->vector->n) {
        nx_fail(why, NX_EXEC, "first() called on vector with no elements");
        return false;
    }
    *out = (struct value){.kind = V_SAMPLE, .sample = v->vector->v[0]};
    return true;
}

MAKE(fn_label)
{
    *out = value_string(labels_get(&v[1].sample->labels, v[0].s));
    return true;
}

MAKE(fn_value)
{
    *out = value_float(v->sample->value);
    return true;
}

MAKE(fn_strvalue)
{
    *out = value_string(labels_get_str(&v->sample->labels, "__value__"));
    return true;
}

struct sorted {
    struct nx_slice key;
    size_t place; /* what it had: equal keys stay in their order */
    const struct template_sample *sample;
};

static int by_key(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    int c = nx_slice_cmp(x->key, y->key);

    return c ? c : x->place < y->place ? -1 : x->place > y->place;
}

/* Stable, and in place, as in Prometheus: whoever else holds the vector sees it sorted. */
MAKE(fn_sort_by_label)
{
    struct vector *vec = v[1].vector;
    struct sorted *s = arena_array(r->arena, vec->n + 1, sizeof *s);

    if (!s)
        return run_memory(r);
    for (size_t i = 0; i < vec->n; i++)
        s[i] = (struct sorted){labels_get(&vec->v[i]->labels, v[0].s), i, vec->v[i]};
    qsort(s, vec->n, sizeof *s, by_key);
    for (size_t i = 0; i < vec->n; i++)
        vec->v[i] = s[i].sample;
    r->steps -= vec->n < r->steps ? vec->n : r->steps;
    *out = v[1];
    return true;
}

static int by_name(const void *a, const void *b)
{
    return nx_slice_cmp(((const struct arg *)a)->name, ((const struct arg *)b)->name);
}

MAKE(fn_args)
{
    out->kind = V_ARGS;
    out->args.n = n;
    out->args.v = arena_array(r->arena, n + 1, sizeof *out->args.v);
    for (size_t i = 0; out->args.v && i < n; i++) {
        struct arg *a = &out->args.v[i];
        a->name = nx_slice_str(arena_printf(r->arena, "arg%zu", i));
        a->value = arena_alloc(r->arena, sizeof *a->value);
        if (!a->name.len || !a->value)
            return run_memory(r);
        *a->value = v[i];
    }
    if (!out->args.v)
        return run_memory(r);
    qsort(out->args.v, n, sizeof *out->args.v, by_name);
    return true;
}

MAKE(fn_tmpl)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    if (!run_part(r, v[0].s, v[1], &b)) {
        buf_done(&b);
        return false;
    }
    if (!run_text(r, &b, out))
        return false;
    out->kind = V_HTML;
    return true;
}

/* ---- text ------------------------------------------------------------------------------------------ */

MAKE(fn_match)
{
    struct regex *re = NULL;

    if (regex_new_search(&re, v[0].s, why))
        return false;
    *out = value_bool(regex_search(re, v[1].s));
    regex_free(re);
    return true;
}

MAKE(fn_re_replace_all)
{
    struct regex *re = NULL;
    struct nx_err err = {0};
    struct buf b;

    if (regex_new_search(&re, v[0].s, &err)) {
        nx_fail(why, NX_EXEC, "regexp: Compile(`%.*s`): %s", (int)v[0].s.len, v[0].s.ptr, err.text);
        return false;
    }
    buf_init(&b, TEXT_MAX_BYTES);
    regex_replace_all(re, v[2].s, v[1].s, &b);
    regex_free(re);
    return run_text(r, &b, out);
}

MAKE(fn_safe_html)
{
    *out = *v;
    out->kind = V_HTML;
    return true;
}

enum casing { UPPER, LOWER, TITLE };

static bool is_letter(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

/* TITLE: the first letter of each word; an apostrophe or a point between letters does not end a word. */
static bool recase(struct run *r, struct nx_slice s, enum casing casing, struct value *out)
{
    struct buf b;
    bool in_word = false;

    buf_init(&b, TEXT_MAX_BYTES);
    for (size_t i = 0, len; i < s.len; i += len) {
        uint32_t c = 0, next = 0;
        len = text_utf8_take(nx_slice_of(s.ptr + i, s.len - i), &c);
        if (!len) {
            len = 1;
            buf_str(&b, "\xef\xbf\xbd");
            in_word = false;
            continue;
        }
        text_utf8_take(nx_slice_of(s.ptr + i + len, s.len - i - len), &next);
        if (casing == LOWER)
            text_utf8(&b, text_lower(c));
        else if (casing == UPPER || (is_letter(c) && !in_word))
            text_utf8(&b, text_upper(c));
        else
            buf_append(&b, s.ptr + i, len);
        in_word = is_letter(c) || (c >= '0' && c <= '9') || c == '_' ||
                  (in_word && (c == '\'' || c == '.' || c == ':') && is_letter(next));
    }
    return run_text(r, &b, out);
}

MAKE(fn_title)
{
    return recase(r, v->s, TITLE, out);
}

MAKE(fn_to_upper)
{
    return recase(r, v->s, UPPER, out);
}

MAKE(fn_to_lower)
{
    return recase(r, v->s, LOWER, out);
}

/* ---- links and addresses --------------------------------------------------------------------------- */

MAKE(fn_graph_link)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    template_graph_link(&b, v->s);
    return run_text(r, &b, out);
}

MAKE(fn_table_link)
{
    struct buf b;

    buf_init(&b, TEXT_MAX_BYTES);
    template_table_link(&b, v->s);
    return run_text(r, &b, out);
}

MAKE(fn_external_url)
{
    *out = value_string(r->data->external_url);
    return true;
}

MAKE(fn_path_prefix)
{
    struct nx_slice url = r->data->external_url;
    const char *end = url.ptr + url.len, *at = memmem(url.ptr, url.len, "://", 3);

    at = at ? memchr(at + 3, '/', (size_t)(end - at - 3)) : NULL;
    *out = value_string(at ? nx_slice_of(at, (size_t)(end - at)) : nx_slice_of("", 0));
    return true;
}

/* Go's net.SplitHostPort. */
static bool split_host_port(struct nx_slice s, struct nx_slice *host, struct nx_slice *port)
{
    const char *colon = memrchr(s.ptr, ':', s.len), *end = s.ptr + s.len;

    if (!colon)
        return false;
    *port = nx_slice_of(colon + 1, (size_t)(end - colon - 1));
    if (*s.ptr == '[') {
        const char *close = memchr(s.ptr, ']', s.len);
        if (!close || close + 1 != colon)
            return false;
        *host = nx_slice_of(s.ptr + 1, (size_t)(close - s.ptr - 1));
        if (memchr(host->ptr, '[', host->len))
            return false;
    } else {
        *host = nx_slice_of(s.ptr, (size_t)(colon - s.ptr));
        if (memchr(host->ptr, ':', host->len) || memchr(host->ptr, '[', host->len) ||
            memchr(host->ptr, ']', host->len))
            return false;
    }
    return !memchr(port->ptr, '[', port->len) && !memchr(port->ptr, ']', port->len);
}

MAKE(fn_strip_port)
{
    struct nx_slice host, port;

    *out = value_string(split_host_port(v->s, &host, &port) ? host : v->s);
    return true;
}

static bool is_ip(struct nx_slice s)
{
    char text[INET6_ADDRSTRLEN + 1];
    unsigned char addr[16];

    if (s.len >= sizeof text)
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = 0;
    return inet_pton(AF_INET, text, addr) == 1 || inet_pton(AF_INET6, text, addr) == 1;
}

MAKE(fn_strip_domain)
{
    struct nx_slice host = v->s, port = {"", 0};
    const char *point;
    struct buf b;

    if (!split_host_port(v->s, &host, &port)) {
        host = v->s;
        port.len = 0;
    }
    if (is_ip(host)) {
        *out = *v;
        return true;
    }
    point = memchr(host.ptr, '.', host.len);
    buf_init(&b, TEXT_MAX_BYTES);
    buf_append(&b, host.ptr, point ? (size_t)(point - host.ptr) : host.len);
    if (port.len) {
        buf_char(&b, ':');
        buf_slice(&b, port);
    }
    return run_text(r, &b, out);
}

MAKE(fn_now)
{
    *out = value_float((double)r->data->now_ms / 1000);
    return true;
}

/* ---- the table --------------------------------------------------------------------------------------- */

// clang-format off
#define S WANT_STRING
static const struct function_row rows[] = { /* sorted by name: looked up by halves */
    { "and",                1, { 0 },                     true,  NULL },
    { "args",               0, { 0 },                     true,  fn_args },
    { "call",               1, { 0 },                     true,  fn_call },
    { "eq",                 1, { 0 },                     true,  fn_eq },
    { "externalURL",        0, { 0 },                     false, fn_external_url },
    { "first",              1, { WANT_VECTOR },           false, fn_first },
    { "ge",                 2, { 0 },                     false, fn_ge },
    { "graphLink",          1, { S },                     false, fn_graph_link },
    { "gt",                 2, { 0 },                     false, fn_gt },
    { "html",               0, { 0 },                     true,  fn_html },
    { "humanize",           1, { 0 },                     false, fn_humanize },
    { "humanize1024",       1, { 0 },                     false, fn_humanize1024 },
    { "humanizeDuration",   1, { 0 },                     false, fn_humanize_duration },
    { "humanizePercentage", 1, { 0 },                     false, fn_humanize_percentage },
    { "humanizeTimestamp",  1, { 0 },                     false, fn_humanize_timestamp },
    { "index",              1, { 0 },                     true,  fn_index },
    { "join",               2, { S, WANT_ANY },           false, fn_join },
    { "js",                 0, { 0 },                     true,  fn_js },
    { "label",              2, { S, WANT_SAMPLE },        false, fn_label },
    { "le",                 2, { 0 },                     false, fn_le },
    { "len",                1, { 0 },                     false, fn_len },
    { "lt",                 2, { 0 },                     false, fn_lt },
    { "match",              2, { S, S },                  false, fn_match },
    { "ne",                 2, { 0 },                     false, fn_ne },
    { "not",                1, { 0 },                     false, fn_not },
    { "now",                0, { 0 },                     false, fn_now },
    { "or",                 1, { 0 },                     true,  NULL },
    { "parseDuration",      1, { S },                     false, fn_parse_duration },
    { "pathPrefix",         0, { 0 },                     false, fn_path_prefix },
    { "print",              0, { 0 },                     true,  fn_print },
    { "printf",             1, { S },                     true,  fn_printf },
    { "println",            0, { 0 },                     true,  fn_println },
    { "query",              1, { S },                     false, fn_query },
    { "reReplaceAll",       3, { S, S, S },               false, fn_re_replace_all },
    { "safeHtml",           1, { S },                     false, fn_safe_html },
    { "slice",              1, { 0 },                     true,  fn_slice },
    { "sortByLabel",        2, { S, WANT_VECTOR },        false, fn_sort_by_label },
    { "stringSlice",        0, { 0 },                     true,  fn_string_slice },
    { "stripDomain",        1, { S },                     false, fn_strip_domain },
    { "stripPort",          1, { S },                     false, fn_strip_port },
    { "strvalue",           1, { WANT_SAMPLE },           false, fn_strvalue },
    { "tableLink",          1, { S },                     false, fn_table_link },
    { "title",              1, { S },                     false, fn_title },
    { "tmpl",               2, { S, WANT_ANY },           false, fn_tmpl },
    { "toDuration",         1, { 0 },                     false, fn_to_duration },
    { "toLower",            1, { S },                     false, fn_to_lower },
    { "toTime",             1, { 0 },                     false, fn_to_time },
    { "toUpper",            1, { S },                     false, fn_to_upper },
    { "trimSpace",          1, { S },                     false, fn_trim_space },
    { "urlQueryEscape",     1, { S },                     false, fn_urlquery },
    { "urlquery",           0, { 0 },                     true,  fn_urlquery },
    { "value",              1, { WANT_SAMPLE },           false, fn_value },
};
#undef S
// clang-format on

const struct function_row *function_find(struct nx_slice name)
{
    size_t lo = 0, hi = NX_COUNT(rows);

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int c = nx_slice_cmp(name, nx_slice_str(rows[mid].name));
        if (!c)
            return &rows[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

bool template_has_function(struct nx_slice name, bool of_alert)
{
    static const char *const not_of_alerts[] = {"tmpl", "join", "stringSlice", "trimSpace"};

    for (size_t i = 0; of_alert && i < NX_COUNT(not_of_alerts); i++)
        if (nx_slice_is(name, not_of_alerts[i]))
            return false;
    return function_find(name) != NULL;
}
