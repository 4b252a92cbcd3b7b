#include "src/cli/query.h"

/* query.c - `query instant|range|series|labels`.
 *
 * RULES   Q1  What is printed is the answer's value, in Go's notation or as JSON; warnings of the server
 *             are shown by `labels` alone, as promtool has it. */

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/num.h"
#include "src/base/text.h"
#include "src/cli/moment.h"
#include "src/cli/tool.h"

#define TIMEOUT_MS   120000
#define ANSWER_BYTES (1u << 30)
#define SECOND_NS    1000000000ll
#define WIDE_NS      (9999 * 3600 * SECOND_NS)

/* ---- asking ---------------------------------------------------------------------------------------- */

/* What the client library makes of a status that the API does not use. */
static nx_status bad_status(int code, const struct buf *body, struct nx_err *err)
{
    size_t from = 0, to = body->len;
    const char *what = code / 100 == 4   ? "client_error: client error:"
                       : code / 100 == 5 ? "server_error: server error:"
                                         : "bad_response: bad response code";

    while (to > from && strchr(" \t\r\n", body->ptr[to - 1]))
        to--;
    while (from < to && strchr(" \t\r\n", body->ptr[from]))
        from++;
    if (body->len)
        return nx_fail(err, NX_UNAVAILABLE, "%s %d (detail: %.*s)", what, code, (int)(to - from),
                       body->ptr + from);
    return nx_fail(err, NX_UNAVAILABLE, "%s %d", what, code);
}

static nx_status understand(int code, struct buf *body, struct query_answer *out,
                            struct nx_err *err)
{
    bool api_error = code == 400 || code == 422;
    json_error_t why;
    const char *status;

    if (code / 100 != 2 && !api_error)
        return bad_status(code, body, err);
    out->root = json_loadb(body->ptr ? body->ptr : "", body->len, JSON_ALLOW_NUL, &why);
    if (!out->root)
        return nx_fail(err, NX_UNAVAILABLE, "bad_response: readObjectStart: %s", why.text);
    status = json_string_value(json_object_get(out->root, "status"));
    if (status && strcmp(status, "error") == 0) {
        const char *type = json_string_value(json_object_get(out->root, "errorType"));
        const char *text = json_string_value(json_object_get(out->root, "error"));
        return nx_fail(err, NX_UNAVAILABLE, "%s: %s", type ? type : "", text ? text : "");
    }
    if (api_error)
        return nx_fail(err, NX_UNAVAILABLE, "bad_response: inconsistent body for response code");
    out->data = json_object_get(out->root, "data");
    out->warnings = json_object_get(out->root, "warnings");
    return NX_OK;
}

nx_status query_ask(const struct server_url *s, const char *path, const char *form,
                    struct query_answer *out, struct nx_err *err)
{
    struct buf body;
    int code = 0;
    nx_status st;

    *out = (struct query_answer){0};
    buf_init(&body, ANSWER_BYTES);
    st = server_url_ask(s, path, form, TIMEOUT_MS, &code, &body, err);
    /* Who refuses to be posted to, a proxy that lets through what only reads, is asked by a GET. */
    if (!st && form && (code == 403 || code == 405 || code == 501)) {
        char *url = arena_printf(s->arena, "%s?%s", path, form);
        buf_clear(&body);
        st = url ? server_url_ask(s, url, NULL, TIMEOUT_MS, &code, &body, err)
                 : arena_failed(s->arena, err);
    }
    if (!st)
        st = understand(code, &body, out, err);
    buf_done(&body);
    return st;
}

void query_answer_done(struct query_answer *a)
{
    json_decref(a->root);
    *a = (struct query_answer){0};
}

void query_param_time(struct buf *form, const char *name, int64_t ns)
{
    int64_t seconds = ns / SECOND_NS - (ns % SECOND_NS < 0);
    struct buf b;

    buf_init(&b, 64);
    buf_num_plain(&b, (double)seconds + (double)(ns - seconds * SECOND_NS) / 1e9);
    url_param(form, name, buf_view(&b));
    buf_done(&b);
}

/* ---- shared by the commands ------------------------------------------------------------------------ */

/* A time flag, or `otherwise` where it is not given. */
static bool time_flag(const struct flags *f, const char *name, const char *what, int64_t otherwise,
                      int64_t *ns)
{
    struct nx_err err = {0};
    const char *text = flags_str(f, name);

    *ns = otherwise;
    if (!*text || !moment_parse(text, ns, &err))
        return true;
    fprintf(stderr, "error parsing %s time: %s\n", what, err.text);
    return false;
}

static bool wants_json(const struct flags *f)
{
    return strcmp(flags_str(f, "format"), "json") == 0;
}

static void print(struct buf *b)
{
    buf_char(b, '\n');
    fwrite(b->ptr, 1, b->len, stdout);
}

static int query_error(const struct nx_err *err)
{
    fprintf(stderr, "query error: %s\n", err->text);
    return 1;
}

/* ---- instant and range ------------------------------------------------------------------------------ */

static int query_value(const struct flags *f, const char *path, struct buf *form)
{
    struct server_url s;
    struct query_answer a = {0};
    struct model_value v = {0};
    struct nx_err err = {0};
    struct buf out;
    int code = 1;

    buf_init(&out, 0);
    if (!server_url_init(&s, f, f->args[0]))
        goto done;
    if (query_ask(&s, path, buf_cstr(form), &a, &err) || model_read(a.data, s.arena, &v, &err)) {
        code = query_error(&err);
        goto done;
    }
    if (wants_json(f))
        model_json(&out, &v);
    else
        model_print(&out, &v);
    print(&out);
    code = 0;

done:
    query_answer_done(&a);
    server_url_done(&s);
    buf_done(&out);
    return code;
}

int tool_query_instant(const struct flags *f)
{
    struct buf form;
    int64_t at;
    int code = 1;

    buf_init(&form, 0);
    if (time_flag(f, "time", "evaluation", clock_now_ns(), &at)) {
        url_param(&form, "query", nx_slice_str(f->args[1]));
        query_param_time(&form, "time", at);
        code = query_value(f, "/api/v1/query", &form);
    }
    buf_done(&form);
    return code;
}

int tool_query_range(const struct flags *f)
{
    int64_t start, end, step = flags_go_ns(f, "step");
    struct buf form, b;
    int code = 1;

    buf_init(&form, 0);
    buf_init(&b, 64);
    if (!time_flag(f, "end", "end", clock_now_ns(), &end) ||
        !time_flag(f, "start", "start", end - 300 * SECOND_NS, &start))
        goto done;
    if (start >= end) {
        fprintf(stderr, "start time is not before end time\n");
        goto done;
    }
    if (!step)
        step = (int64_t)fmax(floor((double)(end - start) / 1e9 / 250), 1) * SECOND_NS;
    url_param(&form, "query", nx_slice_str(f->args[1]));
    query_param_time(&form, "start", start);
    query_param_time(&form, "end", end);
    buf_num_plain(&b, (double)step / 1e9);
    url_param(&form, "step", buf_view(&b));
    code = query_value(f, "/api/v1/query_range", &form);

done:
    buf_done(&b);
    buf_done(&form);
    return code;
}

/* ---- series and labels ------------------------------------------------------------------------------ */

static bool put_window(const struct flags *f, struct buf *form)
{
    const char *const *match;
    size_t n = flags_list(f, "match", &match);
    int64_t start, end, now = clock_now_ns();

    if (!time_flag(f, "start", "start", now - WIDE_NS, &start) ||
        !time_flag(f, "end", "end", now + WIDE_NS, &end))
        return false;
    query_param_time(form, "end", end);
    for (size_t i = 0; i < n; i++)
        url_param(form, "match[]", nx_slice_str(match[i]));
    query_param_time(form, "start", start);
    return true;
}

static nx_status print_series(const json_t *list, bool json, struct arena *a, struct nx_err *err)
{
    struct buf b;
    nx_status st = NX_OK;

    buf_init(&b, 0);
    buf_str(&b, json ? "[" : "");
    for (size_t i = 0; i < json_array_size(list) && !st; i++) {
        struct labels ls = {0};
        st = model_labels(json_array_get(list, i), a, &ls, err);
        buf_str(&b, !i ? "" : json ? "," : "\n");
        if (json)
            model_labels_json(&b, &ls);
        else
            model_labels_print(&b, &ls);
    }
    buf_str(&b, json ? "]" : "");
    if (!st && (json || json_array_size(list)))
        print(&b);
    buf_done(&b);
    return st;
}

int tool_query_series(const struct flags *f)
{
    struct server_url s = {0};
    struct query_answer a = {0};
    struct nx_err err = {0};
    struct buf form;
    int code = 1;

    buf_init(&form, 0);
    if (put_window(f, &form) && server_url_init(&s, f, f->args[0])) {
        code = 0;
        if (query_ask(&s, "/api/v1/series", buf_cstr(&form), &a, &err) ||
            print_series(a.data, wants_json(f), s.arena, &err))
            code = query_error(&err);
    }
    query_answer_done(&a);
    server_url_done(&s);
    buf_done(&form);
    return code;
}

static void print_values(const json_t *list, bool json)
{
    struct buf b;

    buf_init(&b, 0);
    buf_str(&b, json ? "[" : "");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        struct nx_slice text = nx_slice_of(json_string_value(v), json_string_length(v));
        buf_str(&b, !i ? "" : json ? "," : "\n");
        if (json)
            model_string_json(&b, text);
        else
            buf_slice(&b, text);
    }
    buf_str(&b, json ? "]" : "");
    if (json || json_array_size(list))
        print(&b);
    buf_done(&b);
}

int tool_query_labels(const struct flags *f)
{
    struct server_url s = {0};
    struct query_answer a = {0};
    struct nx_err err = {0};
    struct buf form, path;
    int code = 1;

    buf_init(&form, 0);
    buf_init(&path, 0);
    if (!put_window(f, &form) || !server_url_init(&s, f, f->args[0]))
        goto done;
    buf_str(&path, "/api/v1/label/");
    text_url_path(&path, nx_slice_str(f->args[1]));
    buf_printf(&path, "/values?%s", buf_cstr(&form));
    if (buf_status(&path, &err) || query_ask(&s, buf_cstr(&path), NULL, &a, &err)) {
        code = query_error(&err);
        goto done;
    }
    for (size_t i = 0; i < json_array_size(a.warnings); i++)
        fprintf(stderr, "query warning: %s\n", json_string_value(json_array_get(a.warnings, i)));
    print_values(a.data, wants_json(f));
    code = 0;

done:
    query_answer_done(&a);
    server_url_done(&s);
    buf_done(&path);
    buf_done(&form);
    return code;
}
