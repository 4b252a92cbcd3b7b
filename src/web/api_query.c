#include "src/web/http.h"

/* api_query.c - /api/v1/query, query_range, query_exemplars, format_query.
 *
 * A result is written while it is sent: the engine's columns are turned to text in pieces, a piece
 * may end within a series. */

#include <arpa/inet.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/limits.h"
#include "src/base/num.h"
#include "src/base/text.h"

struct result_stream {
    struct pql_result *result;
    struct pql_source source;
    size_t n_series; /* to write; may be fewer than there are */
    size_t series, point;
    struct json_times times;
    bool stats;
    char **own; /* warnings of this call, and room for the result's */
    size_t n_own;
};

/* Large answers are points and little else. */
#define POINT_BYTES (JSON_TIMES_BYTES + NUM_TEXT_BYTES + 2)
#define SHORT_BYTES 24 /* of a value and what is behind it, mostly */

static char *write_value(char *p, double v)
{
    p += num_format(p, v);
    *p++ = '"';
    *p++ = ']';
    return p;
}

static void put_point(struct buf *b, int64_t t_ms, double v)
{
    char *to = buf_reserve(b, POINT_BYTES), *p = to;

    if (!to)
        return;
    *p++ = '[';
    p += json_time_text(p, t_ms);
    *p++ = ',';
    *p++ = '"';
    b->len += (size_t)(write_value(p, v) - to);
}

/* Points [from, to), each behind another, the piece permitting; returns where it ended. Many values are
 * what the one before was: its text is copied. */
static size_t put_points(struct result_stream *rs, const struct pql_series *s, size_t from,
                         struct buf *b)
{
    size_t room = b->len < WEB_PIECE_BYTES ? WEB_PIECE_BYTES - b->len : 0,
           most = s->n - from < room / POINT_BYTES ? (s->n - from) * POINT_BYTES : room;
    char *to = buf_reserve(b, most + POINT_BYTES), *p = to;
    const char *last = NULL;
    size_t n_last = 0;

    for (; to && from < s->n && (size_t)(p - to) < room; from++) {
        p = json_times_put(&rs->times, p, s->t[from]);
        if (last && n_last <= SHORT_BYTES && num_bits(s->v[from]) == num_bits(s->v[from - 1])) {
            char text[SHORT_BYTES]; /* of a fixed size: no call */

            memcpy(text, last, sizeof text);
            memcpy(p, text, sizeof text);
        } else {
            n_last = (size_t)(write_value(p, s->v[from]) - p);
        }
        last = p;
        p += n_last;
    }
    b->len += (size_t)(p - to);
    return to ? from : s->n;
}

static void put_vector_element(struct buf *b, const struct pql_series *s)
{
    buf_str(b, "{\"metric\":");
    json_labels(b, &s->labels);
    buf_str(b, ",\"value\":");
    put_point(b, s->t[0], s->v[0]);
    buf_char(b, '}');
}

/* Goes on with the points of a matrix series; false when the piece is full before its end. */
static bool put_matrix_series(struct result_stream *rs, const struct pql_series *s, struct buf *b)
{
    if (!rs->point) {
        buf_str(b, "{\"metric\":");
        json_labels(b, &s->labels);
        if (s->n)
            buf_str(b, ",\"values\":[");
    }
    if (!rs->point && s->n) { /* the head and a first point stay together */
        put_point(b, s->t[0], s->v[0]);
        rs->point = 1;
    }
    rs->point = put_points(rs, s, rs->point, b);
    if (rs->point < s->n)
        return false;
    buf_str(b, s->n ? "]}" : "}");
    rs->point = 0;
    return true;
}

/* Nothing if it was not asked for. */
static void put_by_step(struct buf *b, const char *name, const struct pql_result *r,
                        const uint64_t *counts)
{
    if (!r->stats.by_step.n)
        return;
    buf_printf(b, "\"%s\":[", name);
    for (size_t k = 0; k < r->stats.by_step.n; k++) {
        buf_str(b, k ? ",[" : "[");
        buf_num_plain(
            b, (double)(r->stats.by_step.start_ms + (int64_t)k * r->stats.by_step.step_ms) / 1000);
        buf_printf(b, ",%llu]", (unsigned long long)counts[k]);
    }
    buf_str(b, "],");
}

/* As Go's JSON has it: 4e-8 and not 4e-08. */
static void put_seconds(struct buf *b, double s)
{
    char text[NUM_TEXT_BYTES];
    size_t n = num_format(text, s);

    if (n > 4 && memcmp(text + n - 4, "e-0", 3) == 0) {
        text[n - 2] = text[n - 1];
        n--;
    }
    buf_append(b, text, n);
}

void json_query_stats(struct buf *b, const struct pql_result *r)
{
    static const char *const names[] = {"evalTotalTime", "resultSortTime", "queryPreparationTime",
                                        "innerEvalTime", "execQueueTime",  "execTotalTime"};
    const double eval_s = r->stats.prepare_s + r->stats.eval_s + r->stats.sort_s;
    const double values[] = {nearbyint(eval_s * 1e9) / 1e9, /* as they are whole nanoseconds */
                             r->stats.sort_s,
                             r->stats.prepare_s,
                             r->stats.eval_s,
                             r->stats.queue_s,
                             r->stats.total_s};

    buf_str(b, "{\"timings\":{");
    for (size_t i = 0; i < NX_COUNT(names); i++) {
        buf_printf(b, "%s\"%s\":", i ? "," : "", names[i]);
        put_seconds(b, values[i]);
    }
    buf_str(b, "},\"samples\":{");
    put_by_step(b, "totalQueryableSamplesPerStep", r, r->stats.by_step.total);
    buf_printf(b, "\"totalQueryableSamples\":%llu,", (unsigned long long)r->stats.samples_total);
    put_by_step(b, "samplesReadPerStep", r, r->stats.by_step.read);
    buf_printf(b, "\"samplesRead\":%llu,\"peakSamples\":%llu}}",
               (unsigned long long)r->stats.samples_read,
               (unsigned long long)r->stats.samples_peak);
}

/* The evaluation's, after those of this call. */
static void put_warnings(struct result_stream *rs, struct buf *b)
{
    const struct pql_result *r = rs->result;
    char **all = rs->own;

    for (size_t i = 0; i < r->n_warnings; i++)
        all[rs->n_own + i] = r->warnings[i];
    json_messages(b, "warnings", all, rs->n_own + r->n_warnings);
}

static void put_end(struct result_stream *rs, struct buf *b)
{
    struct pql_result *r = rs->result;

    if (rs->stats) {
        buf_str(b, ",\"stats\":");
        json_query_stats(b, r);
    }
    buf_char(b, '}');
    put_warnings(rs, b);
    json_messages(b, "infos", r->infos, r->n_infos);
    buf_char(b, '}');
}

static bool result_fill(void *ctx, struct buf *b)
{
    struct result_stream *rs = ctx;
    const struct pql_result *r = rs->result;

    for (; rs->series < rs->n_series; rs->series++) {
        const struct pql_series *s = &r->series[rs->series];
        if (b->len >= WEB_PIECE_BYTES)
            return true;
        if (rs->series && !rs->point)
            buf_char(b, ',');
        if (r->type == PQL_VECTOR)
            put_vector_element(b, s);
        else if (!put_matrix_series(rs, s, b))
            return true;
    }
    buf_char(b, ']');
    put_end(rs, b);
    return false;
}

static void result_done(void *ctx)
{
    struct result_stream *rs = ctx;

    pql_result_free(rs->result);
}

/* Go's FormatFloat(v, 'f', -1): the shortest digits, never an exponent, zeros where digits end. */
static void put_plain(struct buf *b, double v)
{
    char text[NUM_TEXT_BYTES + 1], digits[NUM_TEXT_BYTES];
    size_t len = num_format(text, v), n = 0, i = 0;
    int point = -1, exponent = 0;

    if (!memchr(text, 'e', len)) {
        buf_append(b, text, len);
        return;
    }
    if (text[0] == '-')
        buf_char(b, text[i++]);
    for (; i < len && text[i] != 'e'; i++) {
        if (text[i] == '.')
            point = (int)n;
        else
            digits[n++] = text[i];
    }
    text[len] = 0;
    exponent =
        atoi(text + i + 1) + (point < 0 ? (int)n : point); /* value is 0.DIGITS * 10^exponent */
    if (exponent <= 0) {
        buf_str(b, "0.");
        for (int k = exponent; k < 0; k++)
            buf_char(b, '0');
    }
    buf_append(b, digits, n);
    for (int k = (int)n; k < exponent; k++)
        buf_char(b, '0');
}

/* A scalar's number is written in plain decimal whatever its size, and its time as any JSON number. */
static void put_scalar(struct buf *b, const struct pql_result *r)
{
    buf_char(b, '[');
    buf_num(b, (double)r->t_ms / 1000);
    buf_str(b, ",\"");
    put_plain(b, r->scalar);
    buf_str(b, "\"]");
}

/* Says what this call has to say; room for the evaluation's warnings is made. */
static bool own_warnings(struct web_req *r, struct result_stream *rs)
{
    struct nx_slice stats = web_param_get(r, "stats");
    char quoted[TEXT_QUOTED_BYTES];

    rs->own = arena_array(r->arena, rs->result->n_warnings + 2, sizeof *rs->own);
    if (!rs->own)
        return false;
    if (rs->n_series < rs->result->n_series)
        rs->own[rs->n_own++] = arena_strdup(r->arena, "results truncated due to limit");
    if (stats.len && !nx_slice_is(stats, "true") && !nx_slice_is(stats, "all"))
        rs->own[rs->n_own++] = arena_printf(
            r->arena,
            "value %s for parameter \"stats\" is deprecated and will be rejected in the "
            "next major release, use \"true\" or \"all\"",
            text_quoted(quoted, stats));
    for (size_t i = 0; i < rs->n_own; i++)
        if (!rs->own[i])
            return false;
    return true;
}

static void send_result(struct web_req *r, struct pql_result *result, size_t limit)
{
    struct result_stream *rs = arena_zalloc(r->arena, sizeof *rs);
    struct buf *b = &r->reply.body;
    static const char *const names[] = {[PQL_SCALAR] = "scalar",
                                        [PQL_VECTOR] = "vector",
                                        [PQL_MATRIX] = "matrix",
                                        [PQL_STRING] = "string"};

    if (rs) {
        rs->result = result;
        rs->n_series = limit && result->n_series > limit ? limit : result->n_series;
    }
    if (!rs || !own_warnings(r, rs)) {
        pql_result_free(result);
        web_error(r, WEB_ERR_INTERNAL, "out of memory");
        return;
    }
    rs->stats = web_param_has(r, "stats");
    web_ok_begin(r);
    buf_printf(b, "{\"resultType\":\"%s\",\"result\":", names[result->type]);
    if (result->type == PQL_VECTOR || result->type == PQL_MATRIX) {
        buf_char(b, '[');
        r->reply.fill = result_fill;
        r->reply.fill_ctx = rs;
        r->reply.fill_done = result_done;
        return;
    }
    if (result->type == PQL_SCALAR) {
        put_scalar(b, result);
    } else {
        buf_char(b, '[');
        buf_num(b, (double)result->t_ms / 1000);
        buf_char(b, ',');
        json_text(b, result->string);
        buf_char(b, ']');
    }
    put_end(rs, b);
    pql_result_free(result);
}

/* query, timeout and lookback_delta. A timeout that is over before it began becomes negative. */
static nx_status common_params(struct web_req *r, struct pql_query *q, struct nx_err *err)
{
    struct nx_slice timeout = web_param_get(r, "timeout"),
                    lookback = web_param_get(r, "lookback_delta");

    if (timeout.len) {
        if (web_parse_duration(timeout, &q->timeout_ms, err))
            return nx_context(err, "invalid parameter \"timeout\"");
        q->timeout_ms = q->timeout_ms > 0 ? q->timeout_ms : -1;
    }
    if (lookback.len) {
        if (web_parse_duration(lookback, &q->lookback_ms, err))
            return nx_context(err, "error parsing lookback delta duration");
        q->lookback_ms = q->lookback_ms > 0 ? q->lookback_ms : 0; /* 0: the server's */
    }
    q->text = web_param_get(r, "query");
    q->cancel = &r->cancel;
    q->per_step_stats = nx_slice_is(web_param_get(r, "stats"), "all");
    if (q->text.len > NX_LIMIT_QUERY_BYTES)
        return nx_fail(err, NX_BADINPUT, "invalid parameter \"query\": longer than %u bytes",
                       NX_LIMIT_QUERY_BYTES);
    return NX_OK;
}

/* No time is given: what is wrong with the query is told all the same. */
static void run_out_of_time(struct web_req *r, const struct pql_query *q)
{
    const struct pql_expr *e = NULL;
    struct nx_err err = {0};

    if (pql_parse(r->arena, q->text, &web_ctx(r->w)->opts->features, &e, &err)) {
        web_fail(r, &err, "invalid parameter \"query\": ");
        return;
    }
    pql_expr_done(e);
    web_error(r, WEB_ERR_TIMEOUT, "query timed out in query execution");
}

/* For the query log: the peer's address, which behind a proxy is the proxy's. */
static void client_ip(const struct web_req *r, char to[INET6_ADDRSTRLEN])
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = i ? i->client_addr : NULL;

    to[0] = 0;
    if (a && a->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, to,
                  INET6_ADDRSTRLEN);
    else if (a && a->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, to,
                  INET6_ADDRSTRLEN);
}

static void run(struct web_req *r, struct pql_query *q, size_t limit)
{
    const struct web_data *d = web_data(r->w);
    struct pql_source source = pql_source_storage(d->storage);
    char ip[INET6_ADDRSTRLEN];
    struct pql_origin origin = {.client_ip = ip,
                                .method = r->method == WEB_POST ? "POST" : "GET",
                                .path = r->route->pattern};
    struct pql_result *result = NULL;
    struct nx_err err = {0};

    if (q->timeout_ms < 0) {
        run_out_of_time(r, q);
        return;
    }
    client_ip(r, ip);
    q->source = &source;
    q->origin = &origin;
    if (pql_exec(d->engine, q, &result, &err))
        web_fail(r, &err, err.code == NX_BADINPUT ? "invalid parameter \"query\": " : "");
    else
        send_result(r, result, limit);
}

void api_query(struct web_req *r)
{
    struct pql_query q = {.instant = true};
    struct nx_err err = {0};
    size_t limit;

    if (web_param_limit(r, &limit, &err) ||
        web_param_time(r, "time", clock_now_ms(), &q.start_ms, &err) || common_params(r, &q, &err))
        web_fail(r, &err, NULL);
    else
        run(r, &q, limit);
}

static nx_status range_params(struct web_req *r, struct pql_query *q, struct nx_err *err)
{
    if (web_parse_time(web_param_get(r, "start"), &q->start_ms, err))
        return nx_context(err, "invalid parameter \"start\"");
    if (web_parse_time(web_param_get(r, "end"), &q->end_ms, err))
        return nx_context(err, "invalid parameter \"end\"");
    if (q->end_ms < q->start_ms)
        return nx_fail(err, NX_BADINPUT,
                       "invalid parameter \"end\": end timestamp must not be before start time");
    if (web_parse_duration(web_param_get(r, "step"), &q->step_ms, err))
        return nx_context(err, "invalid parameter \"step\"");
    if (q->step_ms <= 0)
        return nx_fail(err, NX_BADINPUT,
                       "invalid parameter \"step\": zero or negative query resolution step widths "
                       "are not accepted. "
                       "Try a positive integer");
    if (((__int128)q->end_ms - q->start_ms) / q->step_ms > NX_LIMIT_QUERY_STEPS)
        return nx_fail(
            err, NX_BADINPUT,
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query "
            "resolution (?step=XX)");
    return NX_OK;
}

void api_query_range(struct web_req *r)
{
    struct pql_query q = {0};
    struct nx_err err = {0};
    size_t limit;

    if (web_param_limit(r, &limit, &err) || range_params(r, &q, &err) || common_params(r, &q, &err))
        web_fail(r, &err, NULL);
    else
        run(r, &q, limit);
}

/* ---- exemplars -------------------------------------------------------------------------------- */

struct selectors {
    struct arena *arena;
    struct matcher_set *v; /* borrowed from the expression */
    size_t n, cap;
    bool failed;
};

static void add_selector(void *ctx, const struct matcher *m, size_t n)
{
    struct selectors *s = ctx;

    if (s->n == s->cap && !s->failed) {
        size_t cap = s->cap ? s->cap * 2 : 8;
        void *v = arena_grow(s->arena, s->v, s->cap * sizeof *s->v, cap * sizeof *s->v);
        s->failed = !v;
        s->v = v ? v : s->v;
        s->cap = v ? cap : s->cap;
    }
    if (!s->failed)
        s->v[s->n++] = (struct matcher_set){m, n};
}

/* Exemplars of all series that the expression reads. *none: it reads no series. */
static nx_status select_exemplars(struct web_req *r, int64_t start, int64_t end, bool *none,
                                  struct storage_exemplar_list *out, struct nx_err *err)
{
    struct selectors s = {.arena = r->arena};
    const struct pql_expr *e = NULL;
    nx_status st =
        pql_parse(r->arena, web_param_get(r, "query"), &web_ctx(r->w)->opts->features, &e, err);

    if (st)
        return st;
    pql_each_selector(e, add_selector, &s);
    *none = s.n == 0;
    if (s.failed)
        st = arena_failed(r->arena, err);
    else if (s.n)
        st = storage_select_exemplars(web_data(r->w)->storage, s.v, s.n, start, end, r->arena, out,
                                      err);
    pql_expr_done(e);
    return st;
}

static void put_exemplars(void *ctx, size_t i, struct buf *b)
{
    const struct storage_exemplar_list *list = ctx;
    const struct storage_exemplar_series *s = &list->v[i];

    buf_str(b, "{\"seriesLabels\":");
    json_labels(b, &s->series);
    buf_str(b, ",\"exemplars\":[");
    for (size_t k = 0; k < s->n; k++) {
        buf_str(b, k ? ",{\"labels\":" : "{\"labels\":");
        json_labels(b, &s->v[k].labels);
        buf_str(b, ",\"value\":\"");
        buf_num(b, s->v[k].value);
        buf_str(b, "\",\"timestamp\":");
        json_time_ms(b, s->v[k].t_ms);
        buf_char(b, '}');
    }
    buf_str(b, "]}");
}

void api_query_exemplars(struct web_req *r)
{
    struct storage_exemplar_list *list = arena_zalloc(r->arena, sizeof *list);
    struct nx_err err = {0};
    int64_t start, end;
    bool none = false;

    if (!list) {
        web_error(r, WEB_ERR_INTERNAL, "out of memory");
        return;
    }
    if (web_param_time(r, "start", INT64_MIN, &start, &err) ||
        web_param_time(r, "end", INT64_MAX, &end, &err)) {
        web_fail(r, &err, NULL);
        return;
    }
    if (end < start) {
        web_error(r, WEB_ERR_BAD_DATA, "end timestamp must not be before start timestamp");
        return;
    }
    if (select_exemplars(r, start, end, &none, list, &err))
        web_fail(r, &err, NULL);
    else if (none)
        r->reply.status = 204;
    else
        web_ok_list(r, list->n, put_exemplars, list, NULL);
}

/* ---- formatting ------------------------------------------------------------------------------- */

/* The expression that is asked about, or NULL and an answer that says why. pql_expr_done() frees it. */
static const struct pql_expr *parsed_query(struct web_req *r)
{
    const struct pql_expr *e = NULL;
    struct nx_err err = {0};

    if (pql_parse(r->arena, web_param_get(r, "query"), &web_ctx(r->w)->opts->features, &e, &err)) {
        web_fail(r, &err, "invalid parameter \"query\": ");
        return NULL;
    }
    return e;
}

void api_format_query(struct web_req *r)
{
    const struct pql_expr *e = parsed_query(r);
    struct buf text;

    if (!e)
        return;
    buf_init(&text, 0);
    pql_format(&text, e);
    pql_expr_done(e);
    web_ok_begin(r);
    json_text(&r->reply.body, buf_view(&text));
    web_ok_end(r, NULL, 0, NULL, 0);
    buf_done(&text);
}

void api_parse_query(struct web_req *r)
{
    const struct pql_expr *e = parsed_query(r);

    if (!e)
        return;
    web_ok_begin(r);
    pql_print_tree(&r->reply.body, e);
    pql_expr_done(e);
    web_ok_end(r, NULL, 0, NULL, 0);
}
