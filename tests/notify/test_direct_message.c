/* test_direct_message.c - what services are sent: bodies parsed back, mail's headers, and what hostile labels do to them. */
#include "tests/support/test.h"

#include <jansson.h>

#include "src/base/text.h"
#include "src/notify/alert.h"
#include "src/notify/direct_message.h"
#include "tests/support/oom.h"

static struct nx_err err;

#define T0   1767225600000ll /* 2026-01-01T00:00:00Z */
#define S    1000ll
#define EVIL "a\r\nBcc: x@y\r\n\r\n<b>\"'\\ \xc3\xbc\xe2\x80\xa8 \xff\xfe"

struct pair {
    const char *name, *value;
};
struct given {
    struct pair labels[8], annotations[8];
    bool resolved;
};

static struct labels labels_from(struct labels_builder *b, const struct pair *v)
{
    struct labels ls;

    labels_builder_reset(b, NULL);
    for (; v->name; v++)
        labels_builder_set(b, STR(v->name), STR(v->value));
    assert_ok(labels_builder_build(b, &ls, &err), &err);
    return ls;
}

/* One group with these alerts, those that are resolved told as firing before. */
struct told {
    struct groups *g;
    struct notice *n;
    struct message m;
};

static void take(struct groups *g, const struct given *v, size_t n, int64_t now, bool resolved)
{
    struct labels_builder b, c;

    labels_builder_init(&b);
    labels_builder_init(&c);
    for (size_t i = 0; i < n; i++) {
        struct labels ls = labels_from(&b, v[i].labels);
        bool over = v[i].resolved && resolved;
        struct rule_notice from = {.annotations = labels_from(&c, v[i].annotations),
                                   .starts_ns = T0 * 1000000 + 5,
                                   .ends_ns = (over ? now : now + 9999 * S) * 1000000,
                                   .resolved = over,
                                   .generator_url = "http://g/graph?g0.expr=a&g0.tab=1"};
        struct notify_alert *a = alert_new(&ls, &from);
        assert_true(groups_take(g, a, now));
        notify_alert_unref(a);
    }
    labels_builder_done(&b);
    labels_builder_done(&c);
}

static struct told tell(const char *receiver, const struct given *v, size_t n)
{
    const struct groups_limits limits = {20000, 64 << 20};
    struct told t = {0};
    struct direct_plan *p = NULL;
    struct buf b;

    buf_init(&b, 0);
    buf_printf(&b,
               "notify:\n  receivers:\n  - {name: rec, group_wait: 0s, send_resolved: true, %s}\n",
               receiver);
    assert_ok(direct_plan_parse(&p, buf_view(&b), "n.yml", &err), &err);
    assert_ok(groups_new(&t.g, p, &limits, &err), &err);
    direct_plan_unref(p);
    buf_done(&b);
    take(t.g, v, n, T0, false);
    assert_ok(groups_next(t.g, T0, &t.n, &err), &err);
    for (size_t i = 0; i < n; i++)
        if (v[i].resolved) {
            groups_told(t.g, t.n, true, T0);
            take(t.g, v, n, T0 + 300 * S, true);
            assert_ok(groups_next(t.g, T0 + 300 * S, &t.n, &err), &err);
            break;
        }
    assert_non_null(t.n);
    assert_ok(message_make(&t.m, t.n, STR("http://own:9090"), &err), &err);
    return t;
}

static void done(struct told *t)
{
    groups_told(t->g, t->n, true, T0);
    groups_free(t->g);
}

static json_t *body(struct told *t, const char *secret)
{
    json_error_t why;
    struct buf b;
    json_t *o;

    assert_ok(message_json(&t->m, secret, &b, &err), &err);
    o = json_loadb(b.ptr, b.len, JSON_REJECT_DUPLICATES, &why);
    if (!o)
        fail_msg("%s: %.*s", why.text, (int)b.len, b.ptr);
    buf_done(&b);
    return o;
}

/* "attachments.0.title" */
static json_t *at(json_t *o, const char *path)
{
    char copy[100];

    snprintf(copy, sizeof copy, "%s", path);
    for (char *save = NULL, *k = strtok_r(copy, ".", &save); k; k = strtok_r(NULL, ".", &save))
        o = json_is_array(o) ? json_array_get(o, strtoul(k, NULL, 10)) : json_object_get(o, k);
    return o;
}

static void text_is(json_t *o, const char *path, const char *want)
{
    const char *got = json_string_value(at(o, path));

    if (!got || strcmp(got, want) != 0)
        fail_msg("%s: got \"%s\", wanted \"%s\"", path, got ? got : "(nothing)", want);
}

static const struct given two[] = {
    {{{"alertname", "Down"}, {"job", "api"}, {"instance", "b"}},
     {{"summary", "it is down"}, {"x", "1"}},
     false},
    {{{"alertname", "Down"}, {"job", "api"}, {"instance", "a"}},
     {{"summary", "it is down"}, {"x", "2"}},
     false},
};
static const struct given mixed[] = {
    {{{"alertname", "Down"}, {"job", "api"}, {"instance", "b"}},
     {{"summary", "it is down"}, {"x", "1"}},
     true},
    {{{"alertname", "Down"}, {"job", "api"}, {"instance", "a"}},
     {{"summary", "it is down"}, {"x", "2"}},
     false},
};
static const struct given over[] = {
    {{{"alertname", "Down"}, {"job", "api"}, {"instance", "b"}},
     {{"summary", "it is down"}, {"x", "1"}},
     true},
};
static const struct given evil[] = {
    {{{"alertname", EVIL}, {"job", EVIL}, {"we\nird", EVIL}},
     {{"summary", EVIL}, {"description", EVIL}},
     false},
};

/* ---- services --------------------------------------------------------------------------------------------- */

static void a_webhook_gets_alertmanagers_body(void **state)
{
    static const char *const keys[] = {
        "receiver",          "status",      "alerts",  "groupLabels", "commonLabels",
        "commonAnnotations", "externalURL", "version", "groupKey",    "truncatedAlerts"};
    struct told t =
        tell("group_by: [job, missing], matchers: ['job=~\"a.*\"'], webhook: {url: 'http://h/'}",
             mixed, 2);
    json_t *o = body(&t, "");

    (void)state;
    assert_int_equal(json_object_size(o), NX_COUNT(keys));
    for (size_t i = 0; i < NX_COUNT(keys); i++)
        assert_non_null(json_object_get(o, keys[i]));
    text_is(o, "version", "4");
    text_is(o, "receiver", "rec");
    text_is(o, "status", "firing");
    text_is(o, "groupKey", "{}/{job=~\"a.*\"}:{job=\"api\"}");
    text_is(o, "externalURL", "http://own:9090");
    text_is(o, "commonLabels.alertname", "Down");
    assert_null(at(o, "commonLabels.instance"));
    text_is(o, "commonAnnotations.summary", "it is down");
    assert_null(at(o, "commonAnnotations.x"));
    assert_int_equal(json_object_size(at(o, "groupLabels")), 1);
    assert_int_equal(json_array_size(at(o, "alerts")), 2);
    text_is(o, "alerts.0.labels.instance", "a");
    text_is(o, "alerts.0.status", "firing");
    text_is(o, "alerts.0.startsAt", "2026-01-01T00:00:00.000000005Z");
    text_is(o, "alerts.0.endsAt", "0001-01-01T00:00:00Z");
    text_is(o, "alerts.0.generatorURL", "http://g/graph?g0.expr=a&g0.tab=1");
    text_is(o, "alerts.1.status", "resolved");
    text_is(o, "alerts.1.endsAt", "2026-01-01T00:05:00Z");
    assert_int_equal(strlen(json_string_value(at(o, "alerts.1.fingerprint"))), 16);
    assert_true(json_is_integer(at(o, "truncatedAlerts")));
    json_decref(o);
    done(&t);

    t = tell("webhook: {url: 'http://h/', max_alerts: 1}", two, 2);
    o = body(&t, "");
    assert_int_equal(json_array_size(at(o, "alerts")), 1);
    assert_int_equal(json_integer_value(at(o, "truncatedAlerts")), 1);
    json_decref(o);
    done(&t);

    t = tell("webhook: {url: 'http://h/'}", over, 1);
    o = body(&t, "");
    text_is(o, "status", "resolved");
    json_decref(o);
    done(&t);
}

/* More than a body may hold: some alerts are told all the same. */
static void a_flood_is_cut_to_what_a_webhook_may_hold(void **state)
{
    enum { ALERTS = 24, EACH = 1 << 20 };
    struct given v[ALERTS] = {0};
    char names[ALERTS][8], *big = malloc(EACH + 1);
    struct told t;
    json_t *o;

    (void)state;
    memset(big, 'x', EACH);
    big[EACH] = '\0';
    for (size_t i = 0; i < ALERTS; i++) {
        snprintf(names[i], sizeof names[i], "%02zu", i);
        v[i].labels[0] = (struct pair){"alertname", names[i]};
        v[i].annotations[0] = (struct pair){"summary", big};
    }
    t = tell("webhook: {url: 'http://h/'}", v, ALERTS);
    o = body(&t, "");
    assert_int_equal(json_array_size(at(o, "alerts")), ALERTS / 2);
    assert_int_equal(json_integer_value(at(o, "truncatedAlerts")), ALERTS / 2);
    json_decref(o);
    done(&t);
    free(big);
}

/* Those that the real thing computes: FNV-1a over names and values, each with a byte 255 behind it. */
static void fingerprints_are_prometheuss(void **state)
{
    static const struct label v[] = {{{"alertname", 9}, {"Down", 4}},
                                     {{"cluster", 7}, {"c1", 2}},
                                     {{"severity", 8}, {"page", 4}}};
    static const struct labels none = {0}, ls = {v, 3};

    (void)state;
    assert_true(alert_fingerprint(&none) == 14695981039346656037ull);
    assert_true(alert_fingerprint(&ls) == 0x54e1c124e887a2c8ull);
}

static void slack_gets_an_attachment(void **state)
{
    struct told t = tell("group_by: [alertname], slack: {api_url: 'http://h/', channel: '#ops', "
                         "link_names: true, footer: 'by {{ .Receiver }}'}",
                         two, 2);
    json_t *o = body(&t, "");

    (void)state;
    text_is(o, "channel", "#ops");
    text_is(o, "username", "Narthex");
    assert_true(json_is_true(at(o, "link_names")));
    assert_int_equal(json_array_size(at(o, "attachments")), 1);
    text_is(o, "attachments.0.title", "[FIRING:2] Down: it is down");
    text_is(o, "attachments.0.title_link", "http://own:9090");
    text_is(o, "attachments.0.fallback", "[FIRING:2] Down: it is down");
    text_is(o, "attachments.0.color", "danger");
    text_is(o, "attachments.0.footer", "by rec");
    text_is(o, "attachments.0.text",
            "*FIRING:* it is down\nalertname=Down instance=a job=api "
            "\n<http://g/graph?g0.expr=a&g0.tab=1|Source>\n\n"
            "*FIRING:* it is down\nalertname=Down instance=b job=api "
            "\n<http://g/graph?g0.expr=a&g0.tab=1|Source>\n\n");
    assert_null(at(o, "attachments.0.pretext"));
    json_decref(o);
    done(&t);
    t = tell("slack: {api_url: 'http://h/', title: '{{ range .Alerts.Resolved }}{{ "
             ".Labels.instance }}{{ end }} {{ .CommonLabels.SortedPairs.Values | join \"/\" }}'}",
             over, 1);
    o = body(&t, "");
    text_is(o, "attachments.0.color", "good");
    text_is(o, "attachments.0.title", "b Down/b/api");
    json_decref(o);
    done(&t);
}

static void teams_gets_a_card(void **state)
{
    struct told t = tell("teams: {webhook_url: 'http://h/'}", two, 2);
    json_t *o = body(&t, "");

    (void)state;
    text_is(o, "type", "message");
    text_is(o, "attachments.0.contentType", "application/vnd.microsoft.card.adaptive");
    assert_true(json_is_null(at(o, "attachments.0.contentUrl")));
    text_is(o, "attachments.0.content.type", "AdaptiveCard");
    text_is(o, "attachments.0.content.body.0.type", "TextBlock");
    text_is(o, "attachments.0.content.body.0.text", "[FIRING:2] Down: it is down");
    text_is(o, "attachments.0.content.body.0.color", "Attention");
    assert_true(json_is_true(at(o, "attachments.0.content.body.1.wrap")));
    assert_non_null(
        strstr(json_string_value(at(o, "attachments.0.content.body.1.text")), "instance=b"));
    json_decref(o);
    done(&t);
}

static void discord_gets_an_embed(void **state)
{
    struct told t =
        tell("discord: {webhook_url: 'http://h/', content: '@here', username: w}", over, 1);
    json_t *o = body(&t, "");

    (void)state;
    text_is(o, "content", "@here");
    text_is(o, "username", "w");
    text_is(o, "embeds.0.title", "[RESOLVED] Down: it is down");
    assert_int_equal(json_integer_value(at(o, "embeds.0.color")), 0x2e7d32);
    assert_non_null(
        strstr(json_string_value(at(o, "embeds.0.description")), "**RESOLVED:** it is down"));
    json_decref(o);
    done(&t);
}

static void pagerduty_gets_events_with_one_key(void **state)
{
    static const char how[] = "pagerduty: {routing_key: k, severity: '{{ .CommonLabels.job }}', "
                              "class: c, details: {mine: '{{ .Status }}', num_firing: n},"
                              " links: [{href: 'http://l/{{ .CommonLabels.job }}', text: run}]}";
    struct told t = tell(how, mixed, 2);
    json_t *o = body(&t, "ROUTE"), *p;
    char key[80];

    (void)state;
    text_is(o, "routing_key", "ROUTE");
    text_is(o, "event_action", "trigger");
    snprintf(key, sizeof key, "%s", json_string_value(at(o, "dedup_key")));
    assert_int_equal(strlen(key), 64);
    text_is(o, "client", "Narthex");
    text_is(o, "links.0.href", "http://l/api");
    text_is(o, "links.0.text", "run");
    p = at(o, "payload");
    text_is(p, "summary", "[FIRING:1] Down: it is down");
    text_is(p, "source", "api");
    text_is(p, "severity", "error"); /* "api" is none of the four */
    text_is(p, "class", "c");
    text_is(p, "custom_details.mine", "firing");
    text_is(p, "custom_details.num_firing", "n");
    text_is(p, "custom_details.num_resolved", "1");
    json_decref(o);
    done(&t);
    t = tell(how, over, 1);
    o = body(&t, "ROUTE");
    text_is(o, "event_action", "resolve");
    text_is(o, "dedup_key", key);
    json_decref(o);
    done(&t);
}

static void ntfy_gets_its_json(void **state)
{
    struct told t =
        tell("ntfy: {url: 'http://h/t', priority: urgent, tags: 'a, b,,c', click: ''}", two, 2);
    json_t *o = body(&t, "topic");

    (void)state;
    text_is(o, "topic", "topic");
    text_is(o, "title", "[FIRING:2] Down: it is down");
    assert_int_equal(json_integer_value(at(o, "priority")), 5);
    assert_int_equal(json_array_size(at(o, "tags")), 3);
    text_is(o, "tags.1", "b");
    text_is(o, "click", "http://own:9090");
    json_decref(o);
    done(&t);
}

/* ---- bounds and hostile texts ------------------------------------------------------------------------------- */

static size_t chars(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void long_texts_are_cut_between_characters(void **state)
{
    static const struct {
        const char *receiver, *path;
        size_t chars, bytes;
    } rows[] = {
        {"slack: {api_url: 'http://h/'}", "attachments.0.title", 1024, 0},
        {"slack: {api_url: 'http://h/'}", "attachments.0.text", 8000, 0},
        {"discord: {webhook_url: 'http://h/', content: '{{ .CommonAnnotations.summary }}'}",
         "content", 2000, 0},
        {"discord: {webhook_url: 'http://h/'}", "embeds.0.title", 256, 0},
        {"discord: {webhook_url: 'http://h/'}", "embeds.0.description", 4096, 0},
        {"teams: {webhook_url: 'http://h/'}", "attachments.0.content.body.1.text", 0, 20100},
        {"pagerduty: {routing_key: k}", "payload.summary", 1024, 0},
        {"ntfy: {url: 'http://h/t'}", "message", 0, 4096},
    };
    char *big = malloc(60001);
    struct given v = {{{"alertname", "A"}}, {{"summary", big}, {"description", big}}, false};

    (void)state;
    for (size_t i = 0; i < 60000; i += 3)
        memcpy(big + i, "\xe2\x82\xac", 3);
    big[60000] = 0;
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        struct told t = tell(rows[i].receiver, &v, 1);
        json_t *o = body(&t, "s");
        const char *got = json_string_value(at(o, rows[i].path));
        assert_non_null(got);
        if (rows[i].chars)
            assert_int_equal(chars(got), rows[i].chars);
        else
            assert_true(strlen(got) <= rows[i].bytes && strlen(got) > 1000);
        assert_string_equal(got + strlen(got) - 3, "\xe2\x80\xa6");
        json_decref(o);
        done(&t);
    }
    free(big);
}

static void of_very_many_alerts_the_first_are_told(void **state)
{
    const size_t n = 3000;
    struct given *v = calloc(n, sizeof *v);
    char *words = malloc(1001), (*names)[12] = calloc(n, sizeof *names);

    (void)state;
    memset(words, 'x', 1000);
    words[1000] = 0;
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "n%05zu", i);
        v[i].labels[0] = (struct pair){"alertname", names[i]};
        v[i].annotations[0] = (struct pair){"description", words};
    }
    struct told t = tell("slack: {api_url: 'http://h/'}", v, n);
    json_t *o = body(&t, "");
    const char *got = json_string_value(at(o, "attachments.0.text"));
    assert_int_equal(strncmp(got, "*FIRING:* n00000\nxxx", 20), 0);
    assert_int_equal(chars(got), 8000);
    json_decref(o);
    assert_true(message_field(&t.m, TEXT_TEXT, 0).len > 900000);
    done(&t);
    free(v);
    free(words);
    free(names);
}

static void hostile_labels_stay_texts(void **state)
{
    static const char *const receivers[] = {
        "webhook: {url: 'http://h/'}",       "slack: {api_url: 'http://h/'}",
        "teams: {webhook_url: 'http://h/'}", "discord: {webhook_url: 'http://h/'}",
        "pagerduty: {routing_key: k}",       "ntfy: {url: 'http://h/t'}"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(receivers); i++) {
        struct told t = tell(receivers[i], evil, 1);
        json_t *o = body(&t, "s"); /* parses, and so is UTF-8 */
        if (!i)
            text_is(o, "alerts.0.labels.job",
                    "a\r\nBcc: x@y\r\n\r\n<b>\"'\\ \xc3\xbc\xe2\x80\xa8 \xef\xbf\xbd\xef\xbf\xbd");
        json_decref(o);
        done(&t);
    }
}

static void a_template_that_fails_stands_where_its_text_would(void **state)
{
    struct told t =
        tell("slack: {api_url: 'http://h/', title: '{{ .Nope }}', text: 'fine'}", two, 2);
    json_t *o = body(&t, "");

    (void)state;
    assert_non_null(strstr(json_string_value(at(o, "attachments.0.title")),
                           "can't evaluate field Nope in type *template.Data"));
    text_is(o, "attachments.0.text", "fine");
    json_decref(o);
    done(&t);
}

/* ---- what templates see ---------------------------------------------------------------------------------------- */

static void templates_see_alertmanagers_data(void **state)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"{{ .Receiver }} {{ .Status }} {{ len .Alerts }} {{ .Alerts.Firing | len }} {{ len "
         ".Alerts.Resolved }}",
         "rec firing 2 1 1"},
        {"{{ .GroupLabels.job }}|{{ .GroupLabels.nope }}|{{ .ExternalURL }}|{{ .TruncatedAlerts }}",
         "api||http://own:9090|0"},
        {"{{ if gt .TruncatedAlerts 0 }}more{{ end }}{{ printf \"%03d\" .TruncatedAlerts }}",
         "000"},
        {"{{ range .Alerts }}{{ .Labels.instance }}={{ .Status }} {{ end }}",
         "a=firing b=resolved "},
        {"{{ range .CommonLabels.SortedPairs }}{{ .Name }}={{ .Value }};{{ end }}",
         "alertname=Down;job=api;"},
        {"{{ range $k, $v := .CommonLabels }}{{ $k }}:{{ $v }} {{ end }}",
         "alertname:Down job:api "},
        {"{{ .CommonLabels.Names | join \",\" }} {{ join \"-\" .CommonLabels.Values }}",
         "alertname,job Down-api"},
        {"{{ (.CommonLabels.Remove .GroupLabels.Names).Names }}", "[alertname]"},
        {"{{ with .CommonLabels.Remove (stringSlice \"alertname\" \"x\") }}{{ .job }}{{ end }}",
         "api"},
        {"{{ (index .Alerts 1).Labels.instance }}", "b"},
        {"{{ (index .Alerts 0).StartsAt.Format \"2006-01-02T15:04:05.000Z07:00 Mon Jan _2 MST\" }}",
         "2026-01-01T00:00:00.000Z Thu Jan  1 UTC"},
        {"{{ (index .Alerts 1).EndsAt.Format \"15:04:05 PM 06-1-2\" }}", "00:05:00 AM 26-1-1"},
        {"{{ (index .Alerts 0).StartsAt.Year }} {{ (index .Alerts 0).Fingerprint | len }}",
         "2026 16"},
        {"{{ .Status | toUpper | printf \"%s!\" }} {{ trimSpace \" x \" }} {{ reReplaceAll "
         "\"a(.)\" \"$1\" \"abc\" }}",
         "FIRING! x bc"},
        {"{{ if .CommonAnnotations.nope }}x{{ else }}y{{ end }}{{ if .GroupLabels }}z{{ end }}",
         "yz"},
        {"{{ .Alerts.Nope }}",
         "<error executing template title: template: title:1:10: executing \"title\" at "
         "<.Alerts.Nope>: can't evaluate field Nope in type template.Alerts>"},
        {"{{ join \",\" 5 }}",
         "<error executing template title: template: title:1:3: executing \"title\" at <join \",\" "
         "5>: error calling join: wrong type for value; expected []string; got int>"},
        {"{{ .CommonLabels.Remove 5 }}",
         "<error executing template title: template: title:1:24: executing \"title\" at "
         "<5>: wrong type for value; expected []string; got int>"},
        {"{{ index .Alerts 2 }}",
         "<error executing template title: template: title:1:3: executing \"title\" at <index "
         ".Alerts 2>: error calling index: index out of range: 2>"},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        char how[400];
        snprintf(how, sizeof how, "group_by: [job], slack: {api_url: 'http://h/', title: '%s'}",
                 rows[i].text);
        struct told t = tell(how, mixed, 2);
        assert_text(message_field(&t.m, TEXT_TITLE, 0), rows[i].want, rows[i].text);
        done(&t);
    }
}

/* ---- mail -------------------------------------------------------------------------------------------------------- */

static void header_values_are_one_line_of_ascii(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"plain text", "plain text"},
        {"two\r\nBcc: lines", "two  Bcc: lines"},
        {"tab\there", "tab here"},
        {"\xc3\xbc", "=?utf-8?B?w7w=?="},
        {"fake =?utf-8?B?w7w=?=", "=?utf-8?B?ZmFrZSA9P3V0Zi04P0I/dzd3PT89?="},
        {"", ""},
    };
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        buf_clear(&b);
        mail_header_value(&b, STR(rows[i].in));
        assert_buf(&b, rows[i].out, rows[i].in);
    }
    for (size_t n = 0; n < 3000; n += 37) { /* long ones fold, into words of 75 characters */
        struct buf in;
        buf_init(&in, 0);
        while (in.len < n)
            buf_str(&in, in.len % 5 ? "\xe2\x82\xac" : "ab");
        buf_clear(&b);
        mail_header_value(&b, buf_view(&in));
        const char *s = buf_cstr(&b);
        while (*s) {
            size_t len = strcspn(s, "\r");
            assert_true(len <= 76);
            for (size_t i = 0; i < len; i++)
                assert_in_range(s[i], ' ', 126);
            s += len;
            if (*s) {
                assert_memory_equal(s, "\r\n ", 3);
                s += 2;
            }
        }
        buf_done(&in);
    }
    buf_done(&b);
}

static void addresses_are_taken_out_of_lists(void **state)
{
    static const struct {
        const char *in, *out; /* '!': refused */
    } rows[] = {
        {"a@b", "a@b"},
        {" a@b , c@d ,", "a@b c@d"},
        {"Ops <a@b>, \"Doe, \\\"J\\\"\" <c@d>", "a@b c@d"},
        {"<a@b>", "a@b"},
        {"", "!there is none"},
        {"a", "!NAME@HOST"},
        {"@b", "!NAME@HOST"},
        {"a@", "!NAME@HOST"},
        {"a@b>", "!> without <"},
        {"a@b\r\nDATA", "!ASCII only"},
        {"x <a b@c>", "!ASCII only"},
        {"\xc3\xbc@b", "!ASCII only"},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        struct arena *a = arena_new(0);
        const char **v = NULL;
        size_t n = 0;
        nx_status st = mail_addresses(a, STR(rows[i].in), &v, &n, &err);
        if (rows[i].out[0] == '!') {
            assert_status(st, NX_BADINPUT);
            if (!strstr(err.text, rows[i].out + 1))
                fail_msg("%s: %s", rows[i].in, err.text);
        } else {
            struct buf b;
            assert_ok(st, &err);
            buf_init(&b, 0);
            for (size_t k = 0; k < n; k++)
                buf_printf(&b, "%s%s", k ? " " : "", v[k]);
            assert_buf(&b, rows[i].out, rows[i].in);
            buf_done(&b);
        }
        arena_free(a);
    }
}

static const char *header(const struct mail *m, const char *name)
{
    for (size_t i = 0; i < m->n_headers; i++)
        if (!strncmp(m->headers[i], name, strlen(name)) && m->headers[i][strlen(name)] == ':')
            return m->headers[i] + strlen(name) + 2;
    return "(none)";
}

#define MAIL "email: {to: '\xc3\x96ps <a@b>, c@d', from: 'me@host.example', smarthost: 'h:25'"

static void mail_has_a_whole_head(void **state)
{
    struct told t = tell(MAIL ", headers: {X-Team: '{{ .CommonLabels.job }}'}}", two, 2);
    struct mail m = {0};

    (void)state;
    assert_ok(message_mail(&t.m, T0, 7, &m, &err), &err);
    assert_string_equal(header(&m, "From"), "<me@host.example>");
    assert_string_equal(header(&m, "To"), "=?utf-8?B?w5Zwcw==?= <a@b>,\r\n <c@d>");
    assert_string_equal(header(&m, "Subject"), "[FIRING:2] Down: it is down");
    assert_string_equal(header(&m, "Date"), "Thu, 01 Jan 2026 00:00:00 +0000");
    assert_string_equal(header(&m, "X-Team"), "api");
    assert_string_equal(header(&m, "Auto-Submitted"), "auto-generated");
    assert_non_null(strstr(header(&m, "Message-ID"), ".narthex@host.example>"));
    assert_int_equal(m.n_to, 2);
    assert_string_equal(m.to[0], "a@b");
    assert_string_equal(m.from, "me@host.example");
    assert_non_null(strstr(m.text.ptr, "FIRING: it is down\r\nSince: 2026-01-01 00:00:00 UTC\r\n"));
    done(&t);
    t = tell(MAIL ", headers: {Subject: 'S {{ .Status }}'}}", two, 2);
    assert_ok(message_mail(&t.m, T0, 7, &m, &err), &err);
    assert_string_equal(header(&m, "Subject"), "S firing");
    done(&t);
}

static void hostile_labels_make_no_headers_and_no_markup(void **state)
{
    struct told t = tell(MAIL ", headers: {X-A: '{{ .CommonLabels.job }}'}}", evil, 1);
    struct mail m = {0};
    size_t n_lines = 0;

    (void)state;
    assert_ok(message_mail(&t.m, T0, 7, &m, &err), &err);
    assert_int_equal(m.n_headers, 7);
    for (size_t i = 0; i < m.n_headers; i++)
        for (const char *s = m.headers[i]; *s; s++) {
            assert_in_range(*s, '\n', 126);
            if (*s == '\r' || *s == '\n') { /* folded, and nothing else */
                assert_memory_equal(s, "\r\n ", 3);
                s += 2;
                n_lines++;
            }
        }
    assert_true(n_lines > 0);
    assert_null(memmem(m.html.ptr, m.html.len, "<b>\"", 4));
    assert_non_null(memmem(m.html.ptr, m.html.len, "&lt;b&gt;&#34;", 14));
    done(&t);
    t = tell("email: {to: '{{ .CommonLabels.job }}@x', from: a@b, smarthost: 'h:25'}", evil, 1);
    assert_status(message_mail(&t.m, T0, 7, &m, &err),
                  NX_BADINPUT); /* who gets it is not a label's to say like that */
    done(&t);
}

static void memory_may_fail_anywhere(void **state)
{
    (void)state;
    for (unsigned n = 1;; n += TEST_STRIDE) {
        struct told t = tell("pagerduty: {routing_key: k}", two, 2);
        struct buf b;
        bool failed;
        oom_fail_at(n);
        nx_status st = message_json(&t.m, "s", &b, &err);
        failed = oom_off();
        buf_done(&b);
        done(&t);
        if (!failed) {
            assert_ok(st, &err);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_webhook_gets_alertmanagers_body),
        cmocka_unit_test(a_flood_is_cut_to_what_a_webhook_may_hold),
        cmocka_unit_test(fingerprints_are_prometheuss),
        cmocka_unit_test(slack_gets_an_attachment),
        cmocka_unit_test(teams_gets_a_card),
        cmocka_unit_test(discord_gets_an_embed),
        cmocka_unit_test(pagerduty_gets_events_with_one_key),
        cmocka_unit_test(ntfy_gets_its_json),
        cmocka_unit_test(long_texts_are_cut_between_characters),
        cmocka_unit_test(of_very_many_alerts_the_first_are_told),
        cmocka_unit_test(hostile_labels_stay_texts),
        cmocka_unit_test(a_template_that_fails_stands_where_its_text_would),
        cmocka_unit_test(templates_see_alertmanagers_data),
        cmocka_unit_test(header_values_are_one_line_of_ascii),
        cmocka_unit_test(addresses_are_taken_out_of_lists),
        cmocka_unit_test(mail_has_a_whole_head),
        cmocka_unit_test(hostile_labels_make_no_headers_and_no_markup),
        cmocka_unit_test(memory_may_fail_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
