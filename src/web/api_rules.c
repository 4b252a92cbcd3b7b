#include "src/web/http.h"

/* api_rules.c - /api/v1/rules, alerts, alertmanagers: how rules and alerts stand, in Prometheus's shapes. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/hash.h"
#include "src/base/num.h"
#include "src/base/text.h"

/* ---- pieces of answers ---------------------------------------------------------------------------- */

/* 0 is Go's zero time. */
static void put_time(struct buf *b, int64_t ns)
{
    char text[40];
    size_t n = ns ? clock_format_rfc3339(text, ns) : 0;

    buf_char(b, '"');
    if (n)
        buf_append(b, text, n);
    else
        buf_str(b, "0001-01-01T00:00:00Z");
    buf_char(b, '"');
}

static void put_value(struct buf *b, double v)
{
    char text[NUM_TEXT_BYTES];

    buf_char(b, '"');
    buf_append(b, text, num_format_e(text, v));
    buf_char(b, '"');
}

static void put_alert(struct buf *b, const struct alert_view *a)
{
    buf_str(b, "{\"labels\":");
    json_labels(b, &a->labels);
    buf_str(b, ",\"annotations\":");
    json_labels(b, &a->annotations);
    buf_printf(b, ",\"state\":\"%s\",\"activeAt\":", alert_state_name(a->state));
    put_time(b, a->active_ns);
    if (a->keep_firing_since_ns) {
        buf_str(b, ",\"keepFiringSince\":");
        put_time(b, a->keep_firing_since_ns);
    }
    buf_str(b, ",\"value\":");
    put_value(b, a->value);
    buf_char(b, '}');
}

static void put_alerts(struct buf *b, const struct rule_view *v)
{
    for (size_t i = 0; i < v->n_alerts; i++) {
        if (i)
            buf_char(b, ',');
        put_alert(b, &v->alerts[i]);
    }
}

static void put_seconds(struct buf *b, const char *key, double s)
{
    buf_printf(b, ",\"%s\":", key);
    buf_num(b, s);
}

static void put_rule(struct buf *b, const struct rule_view *v, bool exclude_alerts)
{
    const struct rule *r = v->rule;

    buf_char(b, '{');
    if (r->alerting)
        buf_printf(b, "\"state\":\"%s\",", alert_state_name(v->state));
    buf_str(b, "\"name\":");
    json_text(b, r->name);
    buf_str(b, ",\"query\":");
    json_text(b, r->query);
    if (r->alerting) {
        put_seconds(b, "duration", (double)r->for_ms / 1000);
        put_seconds(b, "keepFiringFor", (double)r->keep_firing_for_ms / 1000);
    }
    buf_str(b, ",\"labels\":");
    json_labels(b, &r->labels);
    if (r->alerting) {
        buf_str(b, ",\"annotations\":");
        json_labels(b, &r->annotations);
        buf_str(b, exclude_alerts ? ",\"alerts\":null" : ",\"alerts\":[");
        if (!exclude_alerts) {
            put_alerts(b, v);
            buf_char(b, ']');
        }
    }
    buf_printf(b, ",\"health\":\"%s\"", rule_health_name(v->health));
    if (v->last_error.len) {
        buf_str(b, ",\"lastError\":");
        json_text(b, v->last_error);
    }
    put_seconds(b, "evaluationTime", v->eval_s);
    buf_str(b, ",\"lastEvaluation\":");
    put_time(b, v->last_eval_ns);
    buf_printf(b, ",\"type\":\"%s\"}", r->alerting ? "alerting" : "recording");
}

/* ---- parameters ------------------------------------------------------------------------------------ */

struct wanted {
    bool alerts, recordings, exclude_alerts;
    int64_t group_limit; /* 0: none */
    struct nx_slice token;
    struct web_match_sets match;
};

static bool is_one_of(struct nx_slice s, const char *const *words)
{
    for (; *words; words++)
        if (s.len == strlen(*words) && !strncasecmp(s.ptr, *words, s.len))
            return true;
    return false;
}

static bool read_type(struct web_req *r, struct wanted *w)
{
    static const char *const alert[] = {"alert", NULL}, *const record[] = {"record", NULL};
    struct nx_slice type = web_url_param_get(r, "type");
    char quoted[TEXT_QUOTED_BYTES];

    w->alerts = !type.len || is_one_of(type, alert);
    w->recordings = !type.len || is_one_of(type, record);
    if (w->alerts || w->recordings)
        return true;
    web_error(r, WEB_ERR_BAD_DATA, "invalid parameter \"type\": not supported value %s",
              text_quoted(quoted, type));
    return false;
}

static bool read_exclude(struct web_req *r, struct wanted *w)
{
    static const char *const yes[] = {"1", "t", "true", NULL}, *const no[] = {"0", "f", "false",
                                                                              NULL};
    struct nx_slice s = web_url_param_get(r, "exclude_alerts");

    w->exclude_alerts = is_one_of(s, yes);
    if (!s.len || w->exclude_alerts || is_one_of(s, no))
        return true;
    web_error(r, WEB_ERR_BAD_DATA,
              "invalid parameter \"exclude_alerts\": error converting exclude_alerts: "
              "strconv.ParseBool: parsing \"%.*s\": invalid syntax",
              (int)s.len, s.ptr);
    return false;
}

static bool read_paging(struct web_req *r, struct wanted *w)
{
    struct nx_slice limit = web_url_param_get(r, "group_limit");
    bool number = num_parse_i64(limit, &w->group_limit);

    w->token = web_url_param_get(r, "group_next_token");
    if (w->token.len && !limit.len)
        web_error(r, WEB_ERR_BAD_DATA,
                  "invalid parameter \"group_next_token\": group_limit needs to be present in "
                  "order to paginate over the groups");
    else if (limit.len && (!number || w->group_limit != (int32_t)w->group_limit))
        web_error(r, WEB_ERR_BAD_DATA,
                  "invalid parameter \"group_limit\": group_limit needs to be a valid number: "
                  "strconv.ParseInt: parsing \"%.*s\": %s",
                  (int)limit.len, limit.ptr, number ? "value out of range" : "invalid syntax");
    else if (limit.len && w->group_limit <= 0)
        web_error(r, WEB_ERR_BAD_DATA,
                  "invalid parameter \"group_limit\": group_limit needs to be greater than 0");
    else
        return true;
    return false;
}

/* False: an error was answered. */
static bool read_wanted(struct web_req *r, struct wanted *w)
{
    struct nx_err err = {0};

    if (web_param_matches(r, &w->match, &err)) {
        web_fail(r, &err, NULL);
        return false;
    }
    return read_type(r, w) && read_exclude(r, w) && read_paging(r, w);
}

/* Whether a list parameter names the text; one that is not given names all. */
static bool is_named(const struct web_req *r, const char *key, struct nx_slice text)
{
    bool given = false;

    for (size_t i = 0; i < r->n_params; i++) {
        if (!nx_slice_is(r->params[i].key, key))
            continue;
        given = true;
        if (nx_slice_eq(r->params[i].value, text))
            return true;
    }
    return !given;
}

static bool is_wanted(const struct web_req *r, const struct wanted *w, const struct rule *rule)
{
    bool match = w->match.n == 0;

    if (rule->alerting ? !w->alerts : !w->recordings)
        return false;
    for (size_t i = 0; i < w->match.n && !match; i++)
        match = matchers_match(w->match.v[i].m, w->match.v[i].n, &rule->labels);
    return match && is_named(r, "rule_name[]", rule->name);
}

/* ---- /api/v1/rules ------------------------------------------------------------------------------------ */

static void token_of(const struct rule_group_def *def, char token[HASH_HEX_BYTES])
{
    uint8_t digest[HASH_SHA256_BYTES];
    struct buf b;

    buf_init(&b, 0);
    buf_slice(&b, def->file);
    buf_char(&b, ';');
    buf_slice(&b, def->name);
    hash_sha256(b.ptr, b.len, digest);
    buf_done(&b);
    hash_hex(token, digest);
}

/* False where no rule of it is wanted; then nothing was written. */
static bool put_group(const struct web_req *r, const struct wanted *w, struct buf *b,
                      const struct rule_group_view *g, bool first)
{
    size_t from = b->len, n = 0;

    if (!first)
        buf_char(b, ',');
    buf_str(b, "{\"name\":");
    json_text(b, g->def->name);
    buf_str(b, ",\"file\":");
    json_text(b, g->def->file);
    buf_str(b, ",\"rules\":[");
    for (size_t i = 0; i < g->n_rules; i++) {
        if (!is_wanted(r, w, g->rules[i].rule))
            continue;
        if (n++)
            buf_char(b, ',');
        put_rule(b, &g->rules[i], w->exclude_alerts);
    }
    if (!n) {
        b->len = from;
        return false;
    }
    buf_char(b, ']');
    put_seconds(b, "interval", (double)g->interval_ms / 1000);
    buf_printf(b, ",\"limit\":%lld", (long long)g->def->limit);
    put_seconds(b, "evaluationTime", g->eval_s);
    buf_str(b, ",\"lastEvaluation\":");
    put_time(b, g->last_eval_ns);
    buf_char(b, '}');
    return true;
}

/* The page that begins at *from; `next` gets the token of the page after it, if there is one. */
static void put_groups(const struct web_req *r, const struct wanted *w, struct buf *b,
                       const struct rules_view *v, size_t from, char next[65])
{
    int64_t n = 0;

    next[0] = 0;
    for (size_t i = from; i < v->n_groups; i++) {
        const struct rule_group_view *g = &v->groups[i];
        size_t before = b->len;
        if (!is_named(r, "rule_group[]", g->def->name) || !is_named(r, "file[]", g->def->file) ||
            !put_group(r, w, b, g, n == 0))
            continue;
        if (w->group_limit && n == w->group_limit) {
            b->len = before;
            token_of(g->def, next);
            return;
        }
        n++;
    }
}

static bool find_page(struct web_req *r, const struct wanted *w, const struct rules_view *v,
                      size_t *from)
{
    char token[HASH_HEX_BYTES];

    *from = 0;
    if (!w->token.len)
        return true;
    for (; *from < v->n_groups; ++*from) {
        token_of(v->groups[*from].def, token);
        if (nx_slice_is(w->token, token))
            return true;
    }
    web_error(r, WEB_ERR_BAD_DATA,
              "invalid parameter \"group_next_token\": invalid group_next_token '%.*s'. were rule "
              "groups changed?",
              (int)w->token.len, w->token.ptr);
    return false;
}

static bool get_view(struct web_req *r, struct rules_view *v)
{
    struct nx_err err = {0};

    *v = (struct rules_view){0};
    if (!web_data(r->w)->rules || !rules_view(web_data(r->w)->rules, r->arena, v, &err))
        return true;
    web_fail(r, &err, NULL);
    return false;
}

void api_rules(struct web_req *r)
{
    struct wanted w = {0};
    struct rules_view v;
    char next[65];
    size_t from;

    if (read_wanted(r, &w) && get_view(r, &v)) {
        if (find_page(r, &w, &v, &from)) {
            web_ok_begin(r);
            buf_str(&r->reply.body, "{\"groups\":[");
            put_groups(r, &w, &r->reply.body, &v, from, next);
            buf_char(&r->reply.body, ']');
            if (next[0])
                buf_printf(&r->reply.body, ",\"groupNextToken\":\"%s\"", next);
            buf_char(&r->reply.body, '}');
            web_ok_end(r, NULL, 0, NULL, 0);
        }
        rules_view_done(&v);
    }
    web_match_sets_done(&w.match);
}

/* ---- the others ----------------------------------------------------------------------------------------- */

void api_alerts(struct web_req *r)
{
    struct rules_view v;
    struct buf *b = &r->reply.body;
    bool any = false;

    if (!get_view(r, &v))
        return;
    web_ok_begin(r);
    buf_str(b, "{\"alerts\":[");
    for (size_t i = 0; i < v.n_groups; i++)
        for (size_t k = 0; k < v.groups[i].n_rules; k++) {
            const struct rule_view *rule = &v.groups[i].rules[k];
            if (any && rule->n_alerts)
                buf_char(b, ',');
            put_alerts(b, rule);
            any = any || rule->n_alerts;
        }
    buf_str(b, "]}");
    web_ok_end(r, NULL, 0, NULL, 0);
    rules_view_done(&v);
}

static void put_urls(struct buf *b, const char *before, const struct nx_slice *v, size_t n)
{
    buf_str(b, before);
    for (size_t i = 0; i < n; i++) {
        buf_str(b, i ? ",{\"url\":" : "{\"url\":");
        json_text(b, v[i]);
        buf_char(b, '}');
    }
}

void api_alertmanagers(struct web_req *r)
{
    struct notify *n = web_data(r->w)->notify;
    struct notify_urls v = {0};
    struct nx_err err = {0};

    if (n && notify_urls(n, r->arena, &v, &err)) {
        web_fail(r, &err, NULL);
        return;
    }
    web_ok_begin(r);
    put_urls(&r->reply.body, "{\"activeAlertmanagers\":[", v.active, v.n_active);
    put_urls(&r->reply.body, "],\"droppedAlertmanagers\":[", v.dropped, v.n_dropped);
    buf_str(&r->reply.body, "]}");
    web_ok_end(r, NULL, 0, NULL, 0);
}
