/* direct_message.c - what templates of a notification see, and their texts.
 *
 * SHAPE   The data is Alertmanager's: .Receiver .Status .Alerts (.Firing .Resolved) .GroupLabels .CommonLabels
 *         .CommonAnnotations .ExternalURL .GroupKey .TruncatedAlerts; of an alert .Status .Labels .Annotations .StartsAt
 *         .EndsAt .GeneratorURL .Fingerprint. */
#include "src/notify/direct_message.h"

#include <stdio.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/text.h"

#define TEXT_BYTES (1u << 20) /* of one text */

uint64_t alert_fingerprint(const struct labels *ls)
{
    static const char separator = (char)0xff;
    uint64_t h = HASH_FNV1A_INIT;

    for (uint32_t i = 0; i < ls->n; i++) {
        h = hash_fnv1a(h, ls->v[i].name.ptr, ls->v[i].name.len);
        h = hash_fnv1a(h, &separator, 1);
        h = hash_fnv1a(h, ls->v[i].value.ptr, ls->v[i].value.len);
        h = hash_fnv1a(h, &separator, 1);
    }
    return h;
}

/* ---- what alerts have in common --------------------------------------------------------------------------- */

static const struct labels *set_of(const struct notice_alert *a, bool annotations)
{
    return annotations ? &a->alert->annotations : &a->alert->labels;
}

static nx_status common(const struct message *m, bool annotations, struct labels *out,
                        struct nx_err *err)
{
    const struct notice *n = m->notice;
    const struct labels *first = set_of(&n->alerts[0], annotations);
    struct label *v = arena_array(m->arena, first->n + 1u, sizeof *v);
    uint32_t n_v = 0;

    if (!v)
        return arena_failed(m->arena, err);
    for (uint32_t i = 0; i < first->n; i++) {
        bool all = true;
        for (size_t k = 1; k < n->n_alerts && all; k++)
            all = nx_slice_eq(labels_get(set_of(&n->alerts[k], annotations), first->v[i].name),
                              first->v[i].value);
        if (all)
            v[n_v++] = first->v[i];
    }
    *out = (struct labels){v, n_v};
    return NX_OK;
}

static nx_status make_key(struct message *m, struct nx_err *err)
{
    struct nx_slice matchers = m->notice->receiver->matchers_text;
    uint8_t digest[HASH_SHA256_BYTES];
    char *hex = arena_alloc(m->arena, HASH_HEX_BYTES);
    struct buf b;

    buf_init(&b, 0);
    buf_str(&b, "{}/");
    buf_slice(&b, matchers);
    buf_char(&b, ':');
    labels_print(&b, &m->notice->group_labels);
    m->key = arena_slice(m->arena, buf_view(&b));
    buf_done(&b);
    if (!m->key.ptr || !hex)
        return arena_failed(m->arena, err);
    hash_sha256(m->key.ptr, m->key.len, digest);
    hash_hex(hex, digest);
    m->dedup = hex;
    return NX_OK;
}

/* ---- data for templates ------------------------------------------------------------------------------------- */

static struct template_value text_value(struct nx_slice s)
{
    return (struct template_value){.kind = TEMPLATE_TEXT, .text = s};
}

static struct template_value pairs_value(const struct labels *ls)
{
    return (struct template_value){.kind = TEMPLATE_PAIRS, .pairs = *ls};
}

static struct template_value alert_value(const struct message *m, const struct notice_alert *a)
{
    struct template_field *f = arena_array(m->arena, 7, sizeof *f);
    char *print =
        arena_printf(m->arena, "%016llx", (unsigned long long)alert_fingerprint(&a->alert->labels));

    if (!f || !print)
        return (struct template_value){.kind = TEMPLATE_RECORD};
    f[0] = (struct template_field){"Status",
                                   text_value(nx_slice_str(a->resolved ? "resolved" : "firing"))};
    f[1] = (struct template_field){"Labels", pairs_value(&a->alert->labels)};
    f[2] = (struct template_field){"Annotations", pairs_value(&a->alert->annotations)};
    f[3] = (struct template_field){"StartsAt", {.kind = TEMPLATE_TIME, .ns = a->alert->starts_ns}};
    f[4] = (struct template_field){"EndsAt",
                                   {.kind = TEMPLATE_TIME, .ns = a->resolved ? a->ends_ns : 0}};
    f[5] = (struct template_field){"GeneratorURL", text_value(a->alert->generator_url)};
    f[6] = (struct template_field){"Fingerprint", text_value(nx_slice_str(print))};
    return (struct template_value){
        .kind = TEMPLATE_RECORD, .fields = f, .n_fields = 7, .go = "template.Alert"};
}

/* All alerts, those that fire, those that are over. */
static nx_status alerts_value(const struct message *m, struct template_value *out,
                              struct nx_err *err)
{
    const struct notice *n = m->notice;
    struct template_value *v = arena_array(m->arena, 2 * m->n_shown + 1, sizeof *v);
    struct template_field *f = arena_array(m->arena, 2, sizeof *f);
    size_t n_firing = 0, n_over = 0;

    if (!v || !f)
        return arena_failed(m->arena, err);
    for (size_t i = 0; i < m->n_shown; i++) {
        v[i] = alert_value(m, &n->alerts[i]);
        if (!v[i].n_fields)
            return arena_failed(m->arena, err);
        n_firing += !n->alerts[i].resolved;
    }
    struct template_value *firing = v + m->n_shown, *over = firing + n_firing;
    n_firing = 0;
    for (size_t i = 0; i < m->n_shown; i++)
        if (n->alerts[i].resolved)
            over[n_over++] = v[i];
        else
            firing[n_firing++] = v[i];
    f[0] = (struct template_field){
        "Firing",
        {.kind = TEMPLATE_ITEMS, .items = firing, .n_items = n_firing, .go = "[]template.Alert"}};
    f[1] = (struct template_field){
        "Resolved",
        {.kind = TEMPLATE_ITEMS, .items = over, .n_items = n_over, .go = "[]template.Alert"}};
    *out = (struct template_value){.kind = TEMPLATE_ITEMS,
                                   .items = v,
                                   .n_items = m->n_shown,
                                   .fields = f,
                                   .n_fields = 2,
                                   .go = "template.Alerts"};
    return NX_OK;
}

static nx_status make_data(struct message *m, struct nx_err *err)
{
    struct template_field *f = arena_array(m->arena, 9, sizeof *f);

    if (!f)
        return arena_failed(m->arena, err);
    f[0] = (struct template_field){"Receiver", text_value(m->notice->receiver->cfg->name)};
    f[1] = (struct template_field){"Status", text_value(nx_slice_str(m->status))};
    f[2] = (struct template_field){.name = "Alerts"};
    f[3] = (struct template_field){"GroupLabels", pairs_value(&m->notice->group_labels)};
    f[4] = (struct template_field){"CommonLabels", pairs_value(&m->common_labels)};
    f[5] = (struct template_field){"CommonAnnotations", pairs_value(&m->common_annotations)};
    f[6] = (struct template_field){"ExternalURL", text_value(m->external_url)};
    f[7] = (struct template_field){"GroupKey", text_value(m->key)};
    f[8] = (struct template_field){
        "TruncatedAlerts",
        {.kind = TEMPLATE_NUMBER, .number = (int64_t)(m->notice->n_alerts - m->n_shown)}};
    m->root = (struct template_value){
        .kind = TEMPLATE_RECORD, .fields = f, .n_fields = 9, .go = "*template.Data"};
    return alerts_value(m, &f[2].value, err);
}

nx_status message_make(struct message *out, const struct notice *n, struct nx_slice external_url,
                       struct nx_err *err)
{
    const struct config_url *own = &n->plan->cfg.external_url;
    uint64_t most = n->receiver->via->max_alerts;
    struct message m = {.notice = n,
                        .arena = n->arena,
                        .status = n->n_firing ? "firing" : "resolved",
                        .n_shown = most && most < n->n_alerts ? (size_t)most : n->n_alerts,
                        .external_url = own->text.len ? own->text : external_url};
    nx_status st = common(&m, false, &m.common_labels, err);

    if (!st)
        st = common(&m, true, &m.common_annotations, err);
    if (!st)
        st = make_key(&m, err);
    if (!st)
        st = make_data(&m, err);
    if (!st)
        *out = m;
    return st;
}

/* ---- texts -------------------------------------------------------------------------------------------------- */

/* The first `max` characters; what is not UTF-8 becomes U+FFFD, and so does a NUL, which no service takes. */
static struct nx_slice cut(const struct message *m, struct nx_slice s, size_t max)
{
    static const char ellipsis[] = "\xe2\x80\xa6", wrong[] = "\xef\xbf\xbd";
    size_t n = 0, last = 0;
    struct nx_slice out;
    struct buf b;

    buf_init(&b, 0);
    for (size_t at = 0; at < s.len; n++) {
        uint32_t c;
        size_t len = text_utf8_take(nx_slice_of(s.ptr + at, s.len - at), &c);
        if (max && n == max) {
            b.len = last;
            buf_str(&b, ellipsis);
            break;
        }
        last = b.len;
        if (len && c)
            buf_append(&b, s.ptr + at, len);
        else
            buf_str(&b, wrong);
        at += len ? len : 1;
    }
    out = arena_slice(m->arena, nx_slice_of(buf_cstr(&b), b.len + 1));
    buf_done(&b);
    return out.ptr ? nx_slice_of(out.ptr, out.len - 1) : nx_slice_of("", 0);
}

struct nx_slice message_text(const struct message *m, const struct template *t, size_t max_chars)
{
    static const struct labels none;
    const struct template_data data = {.labels = &none,
                                       .external_labels = &none,
                                       .external_url = m->external_url,
                                       .now_ms = m->notice->made_ms,
                                       .root = &m->root};
    struct nx_err err = {0};
    struct nx_slice out;
    struct buf b;
    nx_status st;

    if (!t)
        return nx_slice_of("", 0);
    buf_init(&b, TEXT_BYTES);
    st = template_execute(t, &data, m->arena, &b, &err);
    if (st == NX_LIMIT && b.len) { /* very many alerts: what there is of them */
        b.failed = NX_OK;
    } else if (st) {
        buf_clear(&b);
        buf_printf(&b, "<%s>", err.text);
    }
    out = cut(m, buf_view(&b), max_chars);
    buf_done(&b);
    return out;
}

struct nx_slice message_field(const struct message *m, enum direct_text field, size_t max_chars)
{
    return message_text(m, m->notice->receiver->texts[field], max_chars);
}
