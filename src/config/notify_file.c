/* notify_file.c - the file of direct notification, by the same tables as the configuration.
 *
 *     notify:
 *       receivers:
 *       - name: team
 *         matchers: [ severity=~"page|warn" ]
 *         slack: { api_url_file: slack.url }
 *       silences:
 *       - matchers: [ job="staging" ]
 *
 * WHY     Names and defaults are Alertmanager's wherever it has them, so that what is known of one holds for the
 *         other. All kinds of receivers share a struct; a kind's table says which of its fields it has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "src/base/clock.h"
#include "src/base/limits.h"
#include "src/config/decode.h"

#define NOTIFY_ARENA_BYTES (64u << 20)
#define MOST_TIMEOUT_MS    300000
#define MOST_RECEIVERS     256

#define FAIL(field, ...) return decode_fail_key(d, map, field, __VA_ARGS__)

const char *config_notify_name(enum config_notify_kind kind)
{
    static const char *const names[] = {"webhook",   "slack", "teams", "discord",
                                        "pagerduty", "ntfy",  "email"};

    return names[kind];
}

/* ---- checks of a receiver's way --------------------------------------------------------------------- */

/* Of a URL that is a secret only this is told: that it is none. */
static bool is_http_url(struct decoder *d, struct nx_slice text)
{
    struct nx_err unused = {0};
    struct config_url u = {0};

    return !url_parse(d->scratch, text, &u, &unused) && u.host.len &&
           (!strncmp(text.ptr, "http://", 7) || !strncmp(text.ptr, "https://", 8));
}

static nx_status check_http_block(struct decoder *d, const struct yaml_node *map,
                                  struct config_notify_via *v)
{
    const struct yaml_node *block = yaml_get(map, "http_config", NULL);

    if (v->timeout_ms <= 0 || v->timeout_ms > MOST_TIMEOUT_MS)
        FAIL("timeout", "the timeout must be above 0 and at most 5m");
    if (v->http.oauth2 && v->http.oauth2->grant_type.len &&
        !nx_slice_is(v->http.oauth2->grant_type, "client_credentials"))
        FAIL("http_config", "oauth2 with another grant_type than client_credentials is not "
                            "supported by direct notification");
    return block ? check_http(d, yaml_follow(block), &v->http) : NX_OK;
}

/* `url` is the key of the URL; what is not given is taken from `fallback`, if there is one. */
static nx_status check_url(struct decoder *d, const struct yaml_node *map,
                           struct config_notify_via *v, const char *url, const char *fallback)
{
    char file[32];

    snprintf(file, sizeof file, "%s_file", url);
    if (v->url.value.len && v->url_file.len)
        FAIL(file, "at most one of %s and %s may be given", url, file);
    if (!v->url.value.len && !v->url_file.len && fallback)
        v->url.value = nx_slice_str(fallback);
    if (!v->url.value.len && !v->url_file.len)
        FAIL(url, "one of %s and %s must be given", url, file);
    if (v->url.value.len && !is_http_url(d, v->url.value))
        FAIL(url, "%s is not an http or https URL", url);
    return check_http_block(d, map, v);
}

static nx_status check_webhook(struct decoder *d, const struct yaml_node *map, void *obj)
{
    return check_url(d, map, obj, "url", NULL);
}

static nx_status check_slack(struct decoder *d, const struct yaml_node *map, void *obj)
{
    return check_url(d, map, obj, "api_url", NULL);
}

static nx_status check_hook_url(struct decoder *d, const struct yaml_node *map, void *obj)
{
    return check_url(d, map, obj, "webhook_url", NULL);
}

static nx_status check_pagerduty(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_notify_via *v = obj;

    if (v->key.value.len && v->key_file.len)
        FAIL("routing_key_file", "at most one of routing_key and routing_key_file may be given");
    if (!v->key.value.len && !v->key_file.len)
        FAIL("routing_key", "one of routing_key and routing_key_file must be given");
    for (size_t i = 0; i < v->details.n; i++)
        if (!v->details.v[i].name.len)
            FAIL("details", "the name of a detail is empty");
    for (size_t i = 0; i < v->links.n; i++)
        if (!v->links.v[i].line || !v->links.v[i].href.len)
            return decode_fail_item(d, map, "links", i, "a link needs an href");
    return check_url(d, map, v, "url", "https://events.pagerduty.com/v2/enqueue");
}

/* The last part of ntfy's URL is the topic. */
static nx_status check_ntfy(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_notify_via *v = obj;
    nx_status st = check_url(d, map, v, "url", NULL);
    const char *from, *slash;

    if (st)
        return st;
    if (v->url.value.len) {
        from = strstr(v->url.value.ptr, "://") + 3;
        slash = strrchr(from, '/');
        if (!slash || !slash[1] || strpbrk(slash, "?#"))
            FAIL("url", "url does not end in /TOPIC");
    }
    if (v->key.value.len && v->key_file.len)
        FAIL("token_file", "at most one of token and token_file may be given");
    if ((v->key.value.len || v->key_file.len) &&
        (v->http.basic_auth || v->http.authorization || v->http.oauth2))
        FAIL("token", "a token and credentials in http_config can't be given at once");
    return NX_OK;
}

/* host:port, [::1]:port */
static bool is_smarthost(struct nx_slice s)
{
    const char *colon = strrchr(s.ptr, ':');
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : 0;

    return colon && colon > s.ptr && colon[1] >= '0' && colon[1] <= '9' && !*end && port > 0 &&
           port < 65536 && strlen(s.ptr) == s.len && !strpbrk(s.ptr, "/@?# \t\r\n%") &&
           (*s.ptr == '[' || strchr(s.ptr, ':') == colon);
}

static nx_status check_email(struct decoder *d, const struct yaml_node *map, void *obj)
{
    static const char *const ours[] = {
        "to",         "from",         "subject",      "date",
        "message-id", "mime-version", "content-type", "content-transfer-encoding",
        NULL};
    const struct config_notify_via *v = obj;

    if (!v->to.len)
        FAIL("to", "an email receiver needs to: who gets it");
    if (!v->from.len)
        FAIL("from", "an email receiver needs from: who sends it");
    if (!is_smarthost(v->smarthost))
        FAIL("smarthost", "an email receiver needs smarthost: HOST:PORT of the mail server");
    if (strpbrk(v->hello.ptr, "/?# \t\r\n%") || strlen(v->hello.ptr) != v->hello.len)
        FAIL("hello", "hello must be a host's name");
    if (v->key.value.len && v->key_file.len)
        FAIL("auth_password_file",
             "at most one of auth_password and auth_password_file may be given");
    if ((v->key.value.len || v->key_file.len) != (v->auth_username.len > 0))
        FAIL("auth_username", "auth_username and a password must be given together");
    if (v->timeout_ms <= 0 || v->timeout_ms > MOST_TIMEOUT_MS)
        FAIL("timeout", "the timeout must be above 0 and at most 5m");
    if (v->tls.server_name.len)
        FAIL("tls_config", "server_name is not supported for email: name the host in smarthost");
    for (size_t i = 0; i < v->headers.n; i++) {
        struct nx_slice name = v->headers.v[i].name;
        if (!name.len)
            FAIL("headers", "the name of a header is empty");
        for (size_t k = 0; k < name.len; k++)
            if (name.ptr[k] <= ' ' || name.ptr[k] == ':' || name.ptr[k] == 127 ||
                name.ptr[k] & 0x80)
                FAIL("headers", "the name of a header may not hold %s",
                     decode_quote(d, nx_slice_of(name.ptr + k, 1)));
        for (const char *const *o = ours; *o; o++)
            if (!strcasecmp(name.ptr, *o) && strcmp(*o, "subject") != 0)
                FAIL("headers", "the header %s can't be set", *o);
    }
    return NX_OK;
}

static nx_status check_receiver(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_notify_receiver *r = obj;
    unsigned n = 0;

    if (!r->name.len)
        FAIL("name", "a receiver needs a name");
    for (unsigned k = 0; k < CONFIG_NOTIFY_KINDS; k++)
        if (r->via[k]) {
            n++;
            r->kind = (enum config_notify_kind)k;
        }
    if (n != 1)
        FAIL("name",
             "a receiver needs one of webhook, slack, teams, discord, pagerduty, ntfy, email; "
             "it has %u",
             n);
    if (r->group_interval_ms <= 0)
        FAIL("group_interval", "group_interval must be above 0");
    if (r->repeat_interval_ms <= 0)
        FAIL("repeat_interval", "repeat_interval must be above 0");
    for (size_t i = 0; i < r->group_by.n; i++) {
        struct nx_slice g = r->group_by.v[i];
        if (nx_slice_is(g, "...") && r->group_by.n > 1)
            FAIL("group_by", "\"...\" (all labels) stands alone");
        for (size_t k = 0; k < i; k++)
            if (nx_slice_eq(g, r->group_by.v[k]))
                FAIL("group_by", "duplicate label %s", decode_quote(d, g));
    }
    return NX_OK;
}

static nx_status check_silence(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config_notify_silence *s = obj;

    s->from_ms = INT64_MIN;
    s->until_ms = INT64_MAX;
    if (!s->matchers.n)
        FAIL("matchers", "a silence needs matchers: what it is about");
    if (s->from.len && !clock_parse_rfc3339(s->from, &s->from_ms))
        FAIL("from", "from must be a time as 2026-01-31T12:00:00Z");
    if (s->until.len && !clock_parse_rfc3339(s->until, &s->until_ms))
        FAIL("until", "until must be a time as 2026-01-31T12:00:00Z");
    if (s->until_ms <= s->from_ms)
        FAIL("until", "a silence must end after it begins");
    return NX_OK;
}

/* ---- tables ----------------------------------------------------------------------------------------- */

// clang-format off
#define V(kind, member, name) FIELD(kind, config_notify_via, member, name, 0)
#define V_HTTP \
    FIELD(F_STRUCT, config_notify_via, http, "http_config", 0, .record = &http_record), \
    FIELD(F_DURATION, config_notify_via, timeout_ms, "timeout", 0)

static const struct config_notify_via via_defaults = {
    .http = { .follow_redirects = true, .enable_http2 = true, .proxy.from_environment = false },
    .timeout_ms = 10000, .require_tls = true, .implicit_tls = CONFIG_UNSET, .hello = { "localhost", 9 },
};
#define VIA(kind_, check_) \
    static const struct record kind_##_record = { \
        .go = "notify." #kind_, .size = sizeof(struct config_notify_via), .defaults = &via_defaults, .resets = true, \
        .fields = kind_##_fields, .n_fields = NX_COUNT(kind_##_fields), .line_offset = NO_LINE, .check = check_ }

static const struct field webhook_fields[] = {
    V(F_SECRET, url, "url"), V(F_PATH, url_file, "url_file"), V(F_UINT, max_alerts, "max_alerts"), V_HTTP,
};
VIA(webhook, check_webhook);
static const struct field slack_fields[] = {
    V(F_SECRET, url, "api_url"), V(F_PATH, url_file, "api_url_file"), V(F_STR, channel, "channel"),
    V(F_STR, username, "username"), V(F_STR, icon_emoji, "icon_emoji"), V(F_STR, icon_url, "icon_url"),
    V(F_BOOL, link_names, "link_names"), V(F_STR, color, "color"), V(F_STR, title, "title"),
    V(F_STR, title_link, "title_link"), V(F_STR, pretext, "pretext"), V(F_STR, text, "text"),
    V(F_STR, fallback, "fallback"), V(F_STR, footer, "footer"), V_HTTP,
};
VIA(slack, check_slack);
static const struct field teams_fields[] = {
    V(F_SECRET, url, "webhook_url"), V(F_PATH, url_file, "webhook_url_file"), V(F_STR, title, "title"),
    V(F_STR, text, "text"), V_HTTP,
};
VIA(teams, check_hook_url);
static const struct field discord_fields[] = {
    V(F_SECRET, url, "webhook_url"), V(F_PATH, url_file, "webhook_url_file"), V(F_STR, title, "title"),
    V(F_STR, text, "message"), V(F_STR, content, "content"), V(F_STR, username, "username"),
    V(F_STR, avatar_url, "avatar_url"), V_HTTP,
};
VIA(discord, check_hook_url);
static const struct field link_fields[] = {
    FIELD(F_STR, config_notify_link, href, "href", 0),
    FIELD(F_STR, config_notify_link, text, "text", 0),
};
static const struct record link_record = {
    .go = "notify.link", .size = sizeof(struct config_notify_link), .resets = true, .fields = link_fields,
    .n_fields = NX_COUNT(link_fields), .line_offset = offsetof(struct config_notify_link, line),
};
static const struct field pagerduty_fields[] = {
    V(F_SECRET, key, "routing_key"), V(F_PATH, key_file, "routing_key_file"), V(F_SECRET, url, "url"),
    V(F_PATH, url_file, "url_file"), V(F_STR, client, "client"), V(F_STR, client_url, "client_url"),
    V(F_STR, title, "description"), V(F_STR, severity, "severity"), V(F_STR, source, "source"),
    V(F_STR, class_text, "class"), V(F_STR, component, "component"), V(F_STR, group, "group"),
    V(F_PAIRS, details, "details"),
    FIELD(F_LIST, config_notify_via, links, "links", 0, .record = &link_record, .go = "[]notify.link"), V_HTTP,
};
VIA(pagerduty, check_pagerduty);
static const struct field ntfy_fields[] = {
    V(F_SECRET, url, "url"), V(F_PATH, url_file, "url_file"), V(F_SECRET, key, "token"),
    V(F_PATH, key_file, "token_file"), V(F_STR, title, "title"), V(F_STR, text, "message"),
    V(F_STR, priority, "priority"), V(F_STR, tags, "tags"), V(F_STR, click, "click"), V_HTTP,
};
VIA(ntfy, check_ntfy);
static const struct field email_fields[] = {
    V(F_STR, to, "to"), V(F_STR, from, "from"), V(F_STR, smarthost, "smarthost"), V(F_STR, hello, "hello"),
    V(F_STR, auth_username, "auth_username"), V(F_SECRET, key, "auth_password"),
    V(F_PATH, key_file, "auth_password_file"), V(F_STR, auth_identity, "auth_identity"),
    V(F_BOOL, require_tls, "require_tls"), V(F_TRI, implicit_tls, "force_implicit_tls"),
    FIELD(F_STRUCT, config_notify_via, tls, "tls_config", 0, .record = &tls_record),
    V(F_PAIRS, headers, "headers"), V(F_STR, html, "html"), V(F_STR, text, "text"),
    V(F_DURATION, timeout_ms, "timeout"),
};
VIA(email, check_email);

static const struct config_notify_receiver receiver_defaults = {
    .group_wait_ms = 30000, .group_interval_ms = 300000, .repeat_interval_ms = 4 * 3600000, .send_resolved = CONFIG_UNSET,
};
#define WAY(upper, lower) \
    FIELD(F_POINTER, config_notify_receiver, via[CONFIG_NOTIFY_##upper], #lower, 0, .record = &lower##_record)
static const struct field receiver_fields[] = {
    FIELD(F_STR,      config_notify_receiver, name,               "name",            0),
    FIELD(F_STRS,     config_notify_receiver, matchers,           "matchers",        0),
    FIELD(F_STRS,     config_notify_receiver, group_by,           "group_by",        0),
    FIELD(F_DURATION, config_notify_receiver, group_wait_ms,      "group_wait",      0),
    FIELD(F_DURATION, config_notify_receiver, group_interval_ms,  "group_interval",  0),
    FIELD(F_DURATION, config_notify_receiver, repeat_interval_ms, "repeat_interval", 0),
    FIELD(F_TRI,      config_notify_receiver, send_resolved,      "send_resolved",   0),
    WAY(WEBHOOK, webhook), WAY(SLACK, slack), WAY(TEAMS, teams), WAY(DISCORD, discord),
    WAY(PAGERDUTY, pagerduty), WAY(NTFY, ntfy), WAY(EMAIL, email),
};
static const struct record receiver_record = {
    .go = "notify.receiver", .size = sizeof(struct config_notify_receiver), .defaults = &receiver_defaults, .resets = true,
    .fields = receiver_fields, .n_fields = NX_COUNT(receiver_fields),
    .line_offset = offsetof(struct config_notify_receiver, line), .check = check_receiver,
};
static const struct field silence_fields[] = {
    FIELD(F_STRS, config_notify_silence, matchers, "matchers", 0),
    FIELD(F_STR,  config_notify_silence, from,     "from",     0),
    FIELD(F_STR,  config_notify_silence, until,    "until",    0),
    FIELD(F_STR,  config_notify_silence, comment,  "comment",  0),
};
static const struct record silence_record = {
    .go = "notify.silence", .size = sizeof(struct config_notify_silence), .resets = true, .fields = silence_fields,
    .n_fields = NX_COUNT(silence_fields), .line_offset = offsetof(struct config_notify_silence, line),
    .check = check_silence,
};
static const struct field notify_fields[] = {
    FIELD(F_URL,   config_notify, external_url, "external_url", 0),
    FIELD(F_PATHS, config_notify, templates,    "templates",    0),
    FIELD(F_LIST,  config_notify, receivers,    "receivers",    0, .record = &receiver_record, .go = "[]notify.receiver"),
    FIELD(F_LIST,  config_notify, silences,     "silences",     0, .record = &silence_record, .go = "[]notify.silence"),
};
static const struct record notify_record = {
    .go = "notify.section", .size = sizeof(struct config_notify), .fields = notify_fields,
    .n_fields = NX_COUNT(notify_fields), .line_offset = NO_LINE,
};
struct notify_document {
    struct config_notify notify;
};
static const struct field document_fields[] = {
    FIELD(F_STRUCT, notify_document, notify, "notify", 0, .record = &notify_record),
};
static const struct record document_record = {
    .go = "notify.file", .size = sizeof(struct notify_document), .fields = document_fields,
    .n_fields = NX_COUNT(document_fields), .line_offset = NO_LINE,
};
// clang-format on

/* ---- the file ----------------------------------------------------------------------------------------- */

/* A list's item that is null leaves no section to point at; and names are told apart in metrics and in the state. */
static nx_status check_items(struct decoder *d, const struct yaml_node *map,
                             const struct config_notify *n)
{
    if (n->receivers.n > MOST_RECEIVERS)
        return decode_fail_key(d, map, "receivers", "more than %d receivers", MOST_RECEIVERS);
    for (size_t i = 0; i < n->receivers.n; i++) {
        const struct config_notify_receiver *r = &n->receivers.v[i];
        if (!r->line)
            return decode_fail_item(d, map, "receivers", i, "empty or null receiver");
        for (size_t k = 0; k < i; k++)
            if (nx_slice_eq(r->name, n->receivers.v[k].name))
                return decode_fail_item(d, map, "receivers", i, "receiver name %s is not unique",
                                        decode_quote(d, r->name));
    }
    for (size_t i = 0; i < n->silences.n; i++)
        if (!n->silences.v[i].line)
            return decode_fail_item(d, map, "silences", i, "empty or null silence");
    return NX_OK;
}

/* As Alertmanager has it: chats and mail are quiet when it is over, what closes something by it is told. */
static void default_resolved(struct config_notify *n)
{
    for (size_t i = 0; i < n->receivers.n; i++) {
        struct config_notify_receiver *r = &n->receivers.v[i];
        if (r->send_resolved == CONFIG_UNSET)
            r->send_resolved = r->kind == CONFIG_NOTIFY_SLACK || r->kind == CONFIG_NOTIFY_EMAIL
                                   ? CONFIG_NO
                                   : CONFIG_YES;
    }
}

nx_status config_parse_notify(struct config_notify *out, struct nx_slice text, const char *path,
                              struct arena *a, struct nx_err *err)
{
    struct arena *scratch = arena_new(NOTIFY_ARENA_BYTES);
    const char *dir = config_dir(a, path);
    struct notify_document doc = {0};
    struct decoder d = {.arena = a, .scratch = scratch, .path = path, .err = err};
    const struct yaml_node *section = NULL;
    struct yaml_node *root = NULL;
    struct place place;
    nx_status st;

    buf_init(&d.complaints, NX_ERR_TEXT_BYTES);
    if (!scratch || !dir) {
        st = nx_fail(err, NX_NOMEM, "out of memory");
        goto done;
    }
    st = yaml_parse(scratch, text, &root, err);
    if (!st)
        st = decode_document(&d, &document_record, root, &doc);
    if (!st && root)
        section = yaml_get(yaml_follow(root), "notify", NULL);
    if (!st && section && (section = yaml_follow(section))->kind == YAML_IS_MAP) {
        place = (struct place){NULL, "notify", 0};
        d.place = &place;
        st = check_items(&d, section, &doc.notify);
    }
    if (!st)
        st = config_join_paths(&document_record, &doc, a, dir, err);
    if (st) {
        st = nx_context(err, "parsing YAML file %s", path);
    } else {
        default_resolved(&doc.notify);
        *out = doc.notify;
    }

done:
    buf_done(&d.complaints);
    arena_free(scratch);
    return st;
}

nx_status config_load_notify(struct config_notify *out, const char *path, struct arena *a,
                             struct nx_err *err)
{
    struct buf text;
    nx_status st;

    buf_init(&text, NX_LIMIT_CONFIG_BYTES + (64 << 10)); /* a last read may find nothing */
    st = config_read_file(path, &text, err);
    if (!st)
        st = config_parse_notify(out, buf_view(&text), path, a, err);
    buf_done(&text);
    return st;
}
