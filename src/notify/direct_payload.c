/* direct_payload.c - bodies in JSON, each as its service documents it.
 *
 * RULES   J1  Texts are cut to what a service takes; it would refuse the whole message.
 *         J2  Nothing is said that is empty, where the service may do without. */
#include "src/notify/direct_message.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/text.h"

#define BODY_BYTES (16u << 20)

#define SLACK_TITLE_CHARS      1024
#define SLACK_TEXT_CHARS       8000  /* of 40000 in a message */
#define TEAMS_TEXT_BYTES       20000 /* of 28 KB in a message */
#define DISCORD_TITLE_CHARS    256
#define DISCORD_TEXT_CHARS     4096
#define DISCORD_CONTENT_CHARS  2000
#define DISCORD_USER_CHARS     80
#define PAGERDUTY_TITLE_CHARS  1024
#define PAGERDUTY_DETAIL_CHARS 100000 /* of 512 KB in an event */
#define NTFY_TITLE_CHARS       250
#define NTFY_TEXT_BYTES        4000 /* of 4096: a longer one becomes an attachment */

/* ---- small things ---------------------------------------------------------------------------------------- */

/* Bytes of others: what is not UTF-8 becomes U+FFFD, which jansson would refuse. */
static json_t *text(struct nx_slice s)
{
    json_t *j = s.len && memchr(s.ptr, 0, s.len) ? NULL : json_stringn(s.len ? s.ptr : "", s.len);
    struct buf b;

    if (j)
        return j;
    buf_init(&b, 0);
    for (size_t at = 0; at < s.len;) {
        uint32_t c;
        size_t len = text_utf8_take(nx_slice_of(s.ptr + at, s.len - at), &c);
        if (len && c)
            buf_append(&b, s.ptr + at, len);
        else
            buf_str(&b, "\xef\xbf\xbd");
        at += len ? len : 1;
    }
    j = b.failed ? NULL : json_stringn(b.len ? b.ptr : "", b.len);
    buf_done(&b);
    return j;
}

/* Takes `value`; NULL, for lack of memory, marks the object, which whole() finds. */
static void put(json_t *o, const char *key, json_t *value)
{
    if (!value || json_object_set_new(o, key, value))
        json_object_set_new(o, "", json_null());
}

static bool whole(json_t *j)
{
    const char *key;
    json_t *v;
    size_t i;

    json_array_foreach(j, i, v) if (!whole(v)) return false;
    json_object_foreach(j, key, v) if (!*key || !whole(v)) return false;
    return true;
}

static void put_text(json_t *o, const char *key, struct nx_slice s)
{
    put(o, key, text(s));
}

static void put_some(json_t *o, const char *key, struct nx_slice s) /* J2 */
{
    if (s.len)
        put_text(o, key, s);
}

static json_t *pairs(const struct labels *ls)
{
    json_t *o = json_object();

    for (uint32_t i = 0; o && i < ls->n; i++) {
        json_t *name = text(ls->v[i].name);
        if (name)
            put(o, json_string_value(name), text(ls->v[i].value));
        json_decref(name);
    }
    return o;
}

static void put_time(json_t *o, const char *key, int64_t ns)
{
    char to[40];
    size_t n = clock_format_rfc3339(to, ns);

    put(o, key, json_stringn(to, n));
}

/* Cuts at a character, to so many bytes. */
static struct nx_slice bytes_of(const struct message *m, enum direct_text field, size_t most)
{
    struct nx_slice s = message_field(m, field, 0);

    return s.len <= most ? s : message_field(m, field, most / 4);
}

/* ---- webhook ---------------------------------------------------------------------------------------------- */

static json_t *webhook_alert(const struct notice_alert *a)
{
    json_t *o = json_object();
    char print[20];

    if (!o)
        return NULL;
    snprintf(print, sizeof print, "%016llx",
             (unsigned long long)alert_fingerprint(&a->alert->labels));
    put(o, "status", json_string(a->resolved ? "resolved" : "firing"));
    put(o, "labels", pairs(&a->alert->labels));
    put(o, "annotations", pairs(&a->alert->annotations));
    put_time(o, "startsAt", a->alert->starts_ns);
    if (a->resolved)
        put_time(o, "endsAt", a->ends_ns);
    else
        put(o, "endsAt", json_string("0001-01-01T00:00:00Z"));
    put_text(o, "generatorURL", a->alert->generator_url);
    put(o, "fingerprint", json_string(print));
    return o;
}

static void webhook(const struct message *m, const char *secret, json_t *o)
{
    json_t *alerts = json_array();

    (void)secret;
    put_text(o, "receiver", m->notice->receiver->cfg->name);
    put(o, "status", json_string(m->status));
    for (size_t i = 0; alerts && i < m->n_shown; i++)
        if (json_array_append_new(alerts, webhook_alert(&m->notice->alerts[i]))) {
            json_decref(alerts);
            alerts = NULL;
        }
    put(o, "alerts", alerts);
    put(o, "groupLabels", pairs(&m->notice->group_labels));
    put(o, "commonLabels", pairs(&m->common_labels));
    put(o, "commonAnnotations", pairs(&m->common_annotations));
    put_text(o, "externalURL", m->external_url);
    put(o, "version", json_string("4"));
    put_text(o, "groupKey", m->key);
    put(o, "truncatedAlerts", json_integer((json_int_t)(m->notice->n_alerts - m->n_shown)));
}

/* ---- chats ------------------------------------------------------------------------------------------------- */

static void slack(const struct message *m, const char *secret, json_t *o)
{
    json_t *a = json_object();

    (void)secret;
    put_some(o, "channel", message_field(m, TEXT_CHANNEL, 0));
    put_some(o, "username", message_field(m, TEXT_USERNAME, 0));
    put_some(o, "icon_emoji", message_field(m, TEXT_ICON_EMOJI, 0));
    put_some(o, "icon_url", message_field(m, TEXT_ICON_URL, 0));
    if (m->notice->receiver->via->link_names)
        put(o, "link_names", json_true());
    if (a) {
        put_some(a, "title", message_field(m, TEXT_TITLE, SLACK_TITLE_CHARS));
        put_some(a, "title_link", message_field(m, TEXT_TITLE_LINK, 0));
        put_some(a, "pretext", message_field(m, TEXT_PRETEXT, SLACK_TITLE_CHARS));
        put_some(a, "text", message_field(m, TEXT_TEXT, SLACK_TEXT_CHARS));
        put_some(a, "fallback", message_field(m, TEXT_FALLBACK, SLACK_TITLE_CHARS));
        put_some(a, "footer", message_field(m, TEXT_FOOTER, SLACK_TITLE_CHARS));
        put_some(a, "color", message_field(m, TEXT_COLOR, 0));
        put(a, "mrkdwn_in", json_pack("[sss]", "fallback", "pretext", "text"));
    }
    put(o, "attachments", a ? json_pack("[o]", a) : NULL);
}

static json_t *teams_block(struct nx_slice s)
{
    json_t *o = json_object();

    if (!o)
        return NULL;
    put(o, "type", json_string("TextBlock"));
    put_text(o, "text", s);
    put(o, "wrap", json_true());
    return o;
}

/* A card for the "post to a channel when a webhook request is received" workflow. */
static void teams(const struct message *m, const char *secret, json_t *o)
{
    json_t *title = teams_block(message_field(m, TEXT_TITLE, SLACK_TITLE_CHARS));
    json_t *body = teams_block(bytes_of(m, TEXT_TEXT, TEAMS_TEXT_BYTES));
    json_t *card = json_object();

    (void)secret;
    if (title) {
        put(title, "weight", json_string("Bolder"));
        put(title, "size", json_string("Medium"));
        put(title, "style", json_string("heading"));
        put(title, "color", json_string(m->notice->n_firing ? "Attention" : "Good"));
    }
    if (card) {
        put(card, "$schema", json_string("http://adaptivecards.io/schemas/adaptive-card.json"));
        put(card, "type", json_string("AdaptiveCard"));
        put(card, "version", json_string("1.4"));
        put(card, "body", json_pack("[o,o]", title, body));
        put(card, "msteams", json_pack("{s:s}", "width", "full"));
    } else {
        json_decref(title);
        json_decref(body);
    }
    put(o, "type", json_string("message"));
    put(o, "attachments",
        json_pack("[{s:s,s:n,s:o}]", "contentType", "application/vnd.microsoft.card.adaptive",
                  "contentUrl", "content", card));
}

static void discord(const struct message *m, const char *secret, json_t *o)
{
    json_t *e = json_object();

    (void)secret;
    put_some(o, "content", message_field(m, TEXT_CONTENT, DISCORD_CONTENT_CHARS));
    put_some(o, "username", message_field(m, TEXT_USERNAME, DISCORD_USER_CHARS));
    put_some(o, "avatar_url", message_field(m, TEXT_AVATAR_URL, 0));
    if (e) {
        put_some(e, "title", message_field(m, TEXT_TITLE, DISCORD_TITLE_CHARS));
        put_some(e, "description", message_field(m, TEXT_TEXT, DISCORD_TEXT_CHARS));
        put(e, "color", json_integer(m->notice->n_firing ? 0xb3261e : 0x2e7d32));
    }
    put(o, "embeds", e ? json_pack("[o]", e) : NULL);
}

/* ---- PagerDuty --------------------------------------------------------------------------------------------- */

static json_t *details(const struct message *m)
{
    const struct direct_receiver *r = m->notice->receiver;
    json_t *o = json_object();

    for (size_t i = 0; o && i < r->via->details.n; i++)
        put(o, r->via->details.v[i].name.ptr,
            text(message_text(m, r->details[i], PAGERDUTY_DETAIL_CHARS)));
    return o;
}

static json_t *links(const struct message *m)
{
    const struct direct_receiver *r = m->notice->receiver;
    json_t *list = json_array();

    for (size_t i = 0; list && i < r->via->links.n; i++) {
        json_t *l = json_object();
        if (l) {
            put_text(l, "href", message_text(m, r->links[2 * i], 0));
            put_some(l, "text", message_text(m, r->links[2 * i + 1], 0));
        }
        if (json_array_append_new(list, l)) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* The four words that the service knows; whatever else a template gives is an error to it. */
static struct nx_slice severity(const struct message *m)
{
    static const char *const known[] = {"critical", "error", "warning", "info"};
    struct nx_slice s = message_field(m, TEXT_SEVERITY, 0);

    for (size_t i = 0; i < NX_COUNT(known); i++)
        if (nx_slice_is(s, known[i]))
            return s;
    return nx_slice_str("error");
}

static void pagerduty(const struct message *m, const char *secret, json_t *o)
{
    json_t *p = json_object();
    struct nx_slice title = message_field(m, TEXT_TITLE, PAGERDUTY_TITLE_CHARS),
                    source = message_field(m, TEXT_SOURCE, PAGERDUTY_TITLE_CHARS);

    put_text(o, "routing_key", nx_slice_str(secret));
    put(o, "event_action", json_string(m->notice->n_firing ? "trigger" : "resolve"));
    put(o, "dedup_key", json_string(m->dedup));
    put_some(o, "client", message_field(m, TEXT_CLIENT, 0));
    put_some(o, "client_url", message_field(m, TEXT_CLIENT_URL, 0));
    if (m->notice->receiver->via->links.n)
        put(o, "links", links(m));
    if (p) {
        put_text(p, "summary", title.len ? title : nx_slice_str("alert"));
        put_text(p, "source", source.len ? source : nx_slice_str("Narthex"));
        put_text(p, "severity", severity(m));
        put_some(p, "class", message_field(m, TEXT_CLASS, 0));
        put_some(p, "component", message_field(m, TEXT_COMPONENT, 0));
        put_some(p, "group", message_field(m, TEXT_GROUP, 0));
        put(p, "custom_details", details(m));
    }
    put(o, "payload", p);
}

/* ---- ntfy --------------------------------------------------------------------------------------------------- */

/* By name or number; 0: neither, and nothing is said. */
static int priority(struct nx_slice s)
{
    static const char *const names[] = {"min", "low", "default", "high", "max"};

    for (size_t i = 0; i < NX_COUNT(names); i++)
        if (nx_slice_is(s, names[i]))
            return (int)i + 1;
    if (nx_slice_is(s, "urgent"))
        return 5;
    return s.len == 1 && *s.ptr >= '1' && *s.ptr <= '5' ? *s.ptr - '0' : 0;
}

static json_t *tags(struct nx_slice s)
{
    json_t *list = json_array();
    size_t from = 0;

    for (size_t i = 0; list && i <= s.len; i++)
        if (i == s.len || s.ptr[i] == ',') {
            size_t to = i;
            while (from < to && s.ptr[from] == ' ')
                from++;
            while (to > from && s.ptr[to - 1] == ' ')
                to--;
            if (to > from &&
                json_array_append_new(list, text(nx_slice_of(s.ptr + from, to - from)))) {
                json_decref(list);
                return NULL;
            }
            from = i + 1;
        }
    return list;
}

static void ntfy(const struct message *m, const char *secret, json_t *o)
{
    struct nx_slice t = message_field(m, TEXT_TAGS, 0);
    int p = priority(message_field(m, TEXT_PRIORITY, 0));

    put_text(o, "topic", nx_slice_str(secret));
    put_some(o, "title", message_field(m, TEXT_TITLE, NTFY_TITLE_CHARS));
    put_some(o, "message", bytes_of(m, TEXT_TEXT, NTFY_TEXT_BYTES));
    if (p)
        put(o, "priority", json_integer(p));
    if (t.len)
        put(o, "tags", tags(t));
    put_some(o, "click", message_field(m, TEXT_CLICK, 0));
}

/* ---- all of them -------------------------------------------------------------------------------------------- */

static int take(const char *bytes, size_t n, void *arg)
{
    struct buf *b = arg;

    buf_append(b, bytes, n);
    return b->failed ? -1 : 0;
}

static nx_status one_body(const struct message *m, const char *secret, struct buf *out,
                          struct nx_err *err)
{
    static void (*const makers[])(const struct message *, const char *, json_t *) = {
        [CONFIG_NOTIFY_WEBHOOK] = webhook,     [CONFIG_NOTIFY_SLACK] = slack,
        [CONFIG_NOTIFY_TEAMS] = teams,         [CONFIG_NOTIFY_DISCORD] = discord,
        [CONFIG_NOTIFY_PAGERDUTY] = pagerduty, [CONFIG_NOTIFY_NTFY] = ntfy};
    json_t *o = json_object();
    nx_status st = NX_OK;

    if (o)
        makers[m->notice->receiver->cfg->kind](m, secret, o);
    if (!o || !whole(o))
        st = nx_fail(err, NX_NOMEM, "out of memory");
    else if (json_dump_callback(o, take, out, JSON_COMPACT))
        st = out->failed ? buf_status(out, err) : nx_fail(err, NX_NOMEM, "out of memory");
    json_decref(o);
    return st;
}

/* A flood of alerts must not be what nobody hears of: a webhook, whose texts nothing cuts, is told of fewer (J1). */
nx_status message_json(const struct message *m, const char *secret, struct buf *out,
                       struct nx_err *err)
{
    struct message less = *m;
    nx_status st;

    buf_init(out, BODY_BYTES);
    for (;;) {
        st = one_body(&less, secret, out, err);
        if (st != NX_LIMIT || m->notice->receiver->cfg->kind != CONFIG_NOTIFY_WEBHOOK ||
            less.n_shown < 2)
            return st;
        less.n_shown /= 2;
        buf_clear(out);
    }
}
