/* direct_plan.c - the file of direct notification, ready for use.
 *
 * RULES   P1  What a template or a matcher has wrong is found here, before anything is replaced, and told by file, line
 *             of its section and field.
 *         P2  A text that the file does not give has a default of its kind; there is none for what may be absent. */
#include "src/notify/direct_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/fs.h"
#include "src/base/num.h"
#include "src/notify/direct_message.h"

#define TEMPLATE_FILE_BYTES (1u << 20)
#define MOST_TEMPLATE_FILES 256u

// clang-format off
#define NAME_TEXT "{{ or .CommonLabels.alertname \"Alerts\" }}"
#define TITLE_TEXT \
    "[{{ toUpper .Status }}{{ if .Alerts.Firing }}:{{ len .Alerts.Firing }}{{ end }}] " NAME_TEXT \
    "{{ range (.GroupLabels.Remove (stringSlice \"alertname\")).SortedPairs }} {{ .Name }}={{ .Value }}{{ end }}" \
    "{{ with .CommonAnnotations.summary }}: {{ . }}{{ end }}"
#define ALERT_TEXT(open, close, link) \
    "{{ range .Alerts }}" open "{{ toUpper .Status }}" close " {{ or .Annotations.summary .Labels.alertname }}\n" \
    "{{ with .Annotations.description }}{{ . }}\n{{ end }}" \
    "{{ range .Labels.SortedPairs }}{{ .Name }}={{ .Value }} {{ end }}\n" \
    "{{ with .Annotations.runbook_url }}Runbook: {{ . }}\n{{ end }}" \
    "{{ with .GeneratorURL }}" link "\n{{ end }}\n{{ end }}"
#define PLAIN_TEXT   ALERT_TEXT("", ":", "Source: {{ . }}")
#define MAIL_TEXT \
    "{{ range .Alerts }}{{ toUpper .Status }}: {{ or .Annotations.summary .Labels.alertname }}\n" \
    "Since: {{ .StartsAt.Format \"2006-01-02 15:04:05 MST\" }}\n" \
    "{{ if eq .Status \"resolved\" }}Until: {{ .EndsAt.Format \"2006-01-02 15:04:05 MST\" }}\n{{ end }}" \
    "{{ with .Annotations.description }}\n{{ . }}\n{{ end }}\n" \
    "Labels:\n{{ range .Labels.SortedPairs }}  {{ .Name }} = {{ .Value }}\n{{ end }}" \
    "{{ with .Annotations }}Annotations:\n{{ range .SortedPairs }}  {{ .Name }} = {{ .Value }}\n{{ end }}{{ end }}" \
    "{{ with .GeneratorURL }}Source: {{ . }}\n{{ end }}\n{{ end }}" \
    "Sent by Narthex{{ with .ExternalURL }}, {{ . }}{{ end }}\n"
#define MAIL_HTML \
    "<!DOCTYPE html>\n<html><body style=\"font-family: sans-serif\">\n" \
    "{{ range .Alerts }}<div style=\"border-left: 4px solid {{ if eq .Status \"firing\" }}#b3261e{{ else }}#2e7d32{{ end }}; " \
    "padding-left: 12px; margin-bottom: 20px\">\n" \
    "<b>{{ toUpper .Status }}: {{ or .Annotations.summary .Labels.alertname | html }}</b><br>\n" \
    "Since {{ .StartsAt.Format \"2006-01-02 15:04:05 MST\" }}" \
    "{{ if eq .Status \"resolved\" }} until {{ .EndsAt.Format \"2006-01-02 15:04:05 MST\" }}{{ end }}\n" \
    "{{ with .Annotations.description }}<p>{{ . | html }}</p>\n{{ end }}" \
    "<table>\n{{ range .Labels.SortedPairs }}<tr><td>{{ .Name | html }}</td><td>{{ .Value | html }}</td></tr>\n{{ end }}" \
    "{{ range .Annotations.SortedPairs }}<tr><td><i>{{ .Name | html }}</i></td><td>{{ .Value | html }}</td></tr>\n{{ end }}" \
    "</table>\n{{ with .GeneratorURL }}<a href=\"{{ . | html }}\">Source</a>\n{{ end }}</div>\n{{ end }}" \
    "<small>Sent by Narthex{{ with .ExternalURL }}, <a href=\"{{ . | html }}\">{{ . | html }}</a>{{ end }}</small>\n" \
    "</body></html>\n"
#define FIRST_LINK "{{ .ExternalURL }}"

#define AT(member) offsetof(struct config_notify_via, member)
#define ALL_KINDS(text) { text, text, text, text, text, text, text }
static const struct text_row {
    const char *key[CONFIG_NOTIFY_KINDS]; /* NULL: as `name` */
    const char *name;
    size_t offset;
    const char *defaults[CONFIG_NOTIFY_KINDS];
} rows[TEXT_COUNT] = {
    [TEXT_TITLE] = { .name = "title", .key = { [CONFIG_NOTIFY_PAGERDUTY] = "description" }, .offset = AT(title),
                     .defaults = ALL_KINDS(TITLE_TEXT) },
    [TEXT_TEXT] = { .name = "text", .key = { [CONFIG_NOTIFY_DISCORD] = "message", [CONFIG_NOTIFY_NTFY] = "message" },
        .offset = AT(text), .defaults = {
        [CONFIG_NOTIFY_SLACK] = ALERT_TEXT("*", ":*", "<{{ . }}|Source>"),
        [CONFIG_NOTIFY_TEAMS] = ALERT_TEXT("**", ":**", "[Source]({{ . }})"),
        [CONFIG_NOTIFY_DISCORD] = ALERT_TEXT("**", ":**", "[Source](<{{ . }}>)"),
        [CONFIG_NOTIFY_NTFY] = PLAIN_TEXT, [CONFIG_NOTIFY_EMAIL] = MAIL_TEXT } },
    [TEXT_HTML] = { .name = "html", .offset = AT(html), .defaults = { [CONFIG_NOTIFY_EMAIL] = MAIL_HTML } },
    [TEXT_FALLBACK] = { .name = "fallback", .offset = AT(fallback), .defaults = { [CONFIG_NOTIFY_SLACK] = TITLE_TEXT } },
    [TEXT_PRETEXT] = { .name = "pretext", .offset = AT(pretext) },
    [TEXT_FOOTER] = { .name = "footer", .offset = AT(footer) },
    [TEXT_TITLE_LINK] = { .name = "title_link", .offset = AT(title_link), .defaults = { [CONFIG_NOTIFY_SLACK] = FIRST_LINK } },
    [TEXT_COLOR] = { .name = "color", .offset = AT(color), .defaults = {
        [CONFIG_NOTIFY_SLACK] = "{{ if eq .Status \"firing\" }}danger{{ else }}good{{ end }}" } },
    [TEXT_CHANNEL] = { .name = "channel", .offset = AT(channel) },
    [TEXT_USERNAME] = { .name = "username", .offset = AT(username), .defaults = { [CONFIG_NOTIFY_SLACK] = "Narthex" } },
    [TEXT_ICON_EMOJI] = { .name = "icon_emoji", .offset = AT(icon_emoji) },
    [TEXT_ICON_URL] = { .name = "icon_url", .offset = AT(icon_url) },
    [TEXT_CONTENT] = { .name = "content", .offset = AT(content) },
    [TEXT_AVATAR_URL] = { .name = "avatar_url", .offset = AT(avatar_url) },
    [TEXT_CLIENT] = { .name = "client", .offset = AT(client), .defaults = { [CONFIG_NOTIFY_PAGERDUTY] = "Narthex" } },
    [TEXT_CLIENT_URL] = { .name = "client_url", .offset = AT(client_url), .defaults = { [CONFIG_NOTIFY_PAGERDUTY] = FIRST_LINK } },
    [TEXT_SEVERITY] = { .name = "severity", .offset = AT(severity), .defaults = { [CONFIG_NOTIFY_PAGERDUTY] = "error" } },
    [TEXT_SOURCE] = { .name = "source", .offset = AT(source), .defaults = {
        [CONFIG_NOTIFY_PAGERDUTY] = "{{ or .CommonLabels.instance .CommonLabels.job .ExternalURL \"Narthex\" }}" } },
    [TEXT_CLASS] = { .name = "class", .offset = AT(class_text) },
    [TEXT_COMPONENT] = { .name = "component", .offset = AT(component) },
    [TEXT_GROUP] = { .name = "group", .offset = AT(group) },
    [TEXT_PRIORITY] = { .name = "priority", .offset = AT(priority), .defaults = {
        [CONFIG_NOTIFY_NTFY] = "{{ if eq .Status \"firing\" }}high{{ else }}default{{ end }}" } },
    [TEXT_TAGS] = { .name = "tags", .offset = AT(tags), .defaults = {
        [CONFIG_NOTIFY_NTFY] = "{{ if eq .Status \"firing\" }}rotating_light{{ else }}white_check_mark{{ end }}" } },
    [TEXT_CLICK] = { .name = "click", .offset = AT(click), .defaults = { [CONFIG_NOTIFY_NTFY] = FIRST_LINK } },
    [TEXT_TO] = { .name = "to", .offset = AT(to) },
    [TEXT_FROM] = { .name = "from", .offset = AT(from) },
};
static const struct {
    const char *name, *text;
} default_details[] = {
    { "firing", "{{ range .Alerts.Firing }}{{ or .Annotations.summary .Labels.alertname }}: "
                "{{ range .Labels.SortedPairs }}{{ .Name }}={{ .Value }} {{ end }}{{ .GeneratorURL }}\n{{ end }}" },
    { "num_firing", "{{ len .Alerts.Firing }}" },
    { "num_resolved", "{{ len .Alerts.Resolved }}" },
    { "resolved", "{{ range .Alerts.Resolved }}{{ or .Annotations.summary .Labels.alertname }}: "
                  "{{ range .Labels.SortedPairs }}{{ .Name }}={{ .Value }} {{ end }}{{ .GeneratorURL }}\n{{ end }}" },
};
// clang-format on

/* ---- loading ------------------------------------------------------------------------------------------- */

struct loading {
    struct direct_plan *plan;
    const char *path;
    const char *section; /* "receivers" */
    size_t index;
    int line;
    struct nx_err *err;
};

/* P1. Puts the place behind the text that is there. */
static nx_status where(const struct loading *l, const char *kind, const char *field, nx_status st)
{
    const struct nx_err why = *l->err;

    return nx_fail(l->err, st, "parsing YAML file %s: %s (%s:%d: notify.%s[%zu].%s%s%s)", l->path,
                   why.text, l->path, l->line, l->section, l->index, kind, kind[0] ? "." : "",
                   field);
}

static nx_status matchers(struct loading *l, struct match_list *to,
                          const struct config_strings *from)
{
    char field[32];

    for (size_t i = 0; i < from->n; i++) {
        nx_status st = match_parse(to, l->plan->arena, from->v[i], l->err);
        if (st) {
            snprintf(field, sizeof field, "matchers[%zu]", i);
            return where(l, "", field, st);
        }
    }
    return NX_OK;
}

static nx_status parse_text(struct loading *l, const struct direct_receiver *r, const char *field,
                            struct nx_slice text, const struct template **out)
{
    const char *kind = config_notify_name(r->cfg->kind);
    struct template *t = NULL;
    nx_status st = template_parse_with(&t, l->plan->arena, nx_slice_str(field), text,
                                       l->plan->library, l->err);

    if (st)
        return where(l, kind, field, st);
    *out = t;
    return NX_OK;
}

static nx_status parse_pairs(struct loading *l, const struct direct_receiver *r, const char *field,
                             const struct config_pairs *from, const struct template ***out)
{
    nx_status st = NX_OK;
    char name[160];

    *out = arena_array(l->plan->arena, from->n + 1, sizeof **out);
    if (!*out)
        return arena_failed(l->plan->arena, l->err);
    for (size_t i = 0; i < from->n && !st; i++) {
        snprintf(name, sizeof name, "%s.%s", field, from->v[i].name.ptr);
        st = parse_text(l, r, name, from->v[i].value, &(*out)[i]);
    }
    return st;
}

static nx_status parse_links(struct loading *l, struct direct_receiver *r)
{
    const struct config_notify_links *from = &r->via->links;
    nx_status st = NX_OK;

    r->links = arena_array(l->plan->arena, 2 * from->n + 1, sizeof *r->links);
    if (!r->links)
        return arena_failed(l->plan->arena, l->err);
    for (size_t i = 0; i < from->n && !st; i++) {
        st = parse_text(l, r, "links.href", from->v[i].href, &r->links[2 * i]);
        if (!st)
            st = parse_text(l, r, "links.text", from->v[i].text, &r->links[2 * i + 1]);
    }
    return st;
}

/* P2. What the user gives takes the place of those of the same name. */
static nx_status add_details(struct loading *l, struct config_notify_via *via)
{
    size_t n = via->details.n;
    struct config_pair *v = arena_array(l->plan->arena, n + NX_COUNT(default_details), sizeof *v);

    if (!v)
        return arena_failed(l->plan->arena, l->err);
    if (n)
        memcpy(v, via->details.v, n * sizeof *v);
    for (size_t i = 0; i < NX_COUNT(default_details); i++) {
        bool given = false;
        for (size_t k = 0; k < via->details.n; k++)
            given = given || nx_slice_is(via->details.v[k].name, default_details[i].name);
        if (!given)
            v[n++] = (struct config_pair){nx_slice_str(default_details[i].name),
                                          nx_slice_str(default_details[i].text)};
    }
    via->details = (struct config_pairs){v, n};
    return NX_OK;
}

/* Those that no template makes. */
static nx_status check_addresses(struct loading *l, const struct direct_receiver *r,
                                 const char *field, struct nx_slice text)
{
    const char **v = NULL;
    size_t n = 0;
    nx_status st;

    if (!template_is_text(text))
        return NX_OK;
    st = mail_addresses(l->plan->arena, text, &v, &n, l->err);
    if (!st && n > 1 && field[0] == 'f')
        st = nx_fail(l->err, NX_BADINPUT, "a message is from one address");
    return st ? where(l, config_notify_name(r->cfg->kind), field, st) : NX_OK;
}

static nx_status texts(struct loading *l, struct direct_receiver *r)
{
    struct config_notify_via *via = r->cfg->via[r->cfg->kind];
    nx_status st = NX_OK;

    r->via = via;
    for (size_t i = 0; i < TEXT_COUNT && !st; i++) {
        const struct text_row *row = &rows[i];
        const char *key = row->key[r->cfg->kind] ? row->key[r->cfg->kind] : row->name;
        const char *text = row->defaults[r->cfg->kind];
        struct nx_slice given;
        memcpy(&given, (const char *)via + row->offset, sizeof given);
        if (given.len || text)
            st = parse_text(l, r, key, given.len ? given : nx_slice_str(text), &r->texts[i]);
    }
    if (!st && r->cfg->kind == CONFIG_NOTIFY_EMAIL)
        st = check_addresses(l, r, "to", via->to);
    if (!st && r->cfg->kind == CONFIG_NOTIFY_EMAIL)
        st = check_addresses(l, r, "from", via->from);
    if (!st && r->cfg->kind == CONFIG_NOTIFY_PAGERDUTY)
        st = add_details(l, via);
    if (!st)
        st = parse_pairs(l, r, "details", &via->details, &r->details);
    if (!st)
        st = parse_pairs(l, r, "headers", &via->headers, &r->headers);
    return st ? st : parse_links(l, r);
}

static int by_bytes(const void *a, const void *b)
{
    return nx_slice_cmp(*(const struct nx_slice *)a, *(const struct nx_slice *)b);
}

static nx_status receiver(struct loading *l, struct direct_receiver *r)
{
    const struct config_strings *by = &r->cfg->group_by;
    nx_status st = matchers(l, &r->match, &r->cfg->matchers);
    struct buf b;

    if (st)
        return st;
    buf_init(&b, 0);
    match_print(&b, &r->match);
    r->matchers_text = arena_slice(l->plan->arena, buf_view(&b));
    buf_done(&b);
    r->by_all = by->n == 1 && nx_slice_is(by->v[0], "...");
    r->group_by = arena_array(l->plan->arena, by->n + 1, sizeof *r->group_by);
    if (!r->group_by || !r->matchers_text.ptr)
        return arena_failed(l->plan->arena, l->err);
    for (size_t i = 0; i < by->n && !r->by_all; i++)
        r->group_by[r->n_group_by++] = by->v[i];
    qsort(r->group_by, r->n_group_by, sizeof *r->group_by, by_bytes);
    return texts(l, r);
}

/* ---- files of templates ---------------------------------------------------------------------------------- */

static nx_status template_file(struct direct_plan *p, const char *file, struct nx_err *err)
{
    const char *slash = strrchr(file, '/');
    struct buf text;
    nx_status st;

    if (p->n_template_files == MOST_TEMPLATE_FILES)
        return nx_fail(err, NX_LIMIT, "more than %u files of templates", MOST_TEMPLATE_FILES);
    buf_init(&text, TEMPLATE_FILE_BYTES);
    st = fs_read_file(fs_real(), file, &text, err);
    if (!st)
        st = template_library_add(p->library, nx_slice_str(slash ? slash + 1 : file),
                                  buf_view(&text), err);
    buf_done(&text);
    p->n_template_files++;
    return st;
}

/* A pattern may find nothing yet; a name must be there. */
static nx_status template_files(struct direct_plan *p, const char *path, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < p->cfg.templates.n && !st; i++) {
        const char *pattern = p->cfg.templates.v[i].ptr;
        struct config_strings found = {0};
        st = config_glob(pattern, p->arena, &found, err);
        if (!st && !found.n && !strpbrk(pattern, "*?["))
            st = template_file(p, pattern, err); /* which says that there is none */
        for (size_t k = 0; k < found.n && !st; k++)
            st = template_file(p, found.v[k].ptr, err);
        if (st) {
            const struct nx_err why = *err;
            st = nx_fail(err, st, "parsing YAML file %s: %s (%s: notify.templates[%zu])", path,
                         why.text, path, i);
        }
    }
    return st;
}

/* ---- all of it ------------------------------------------------------------------------------------------- */

static nx_status build(struct direct_plan *p, const char *path, struct nx_err *err)
{
    struct loading l = {.plan = p, .path = path, .err = err};
    nx_status st = NX_OK;

    p->receivers = arena_array(p->arena, p->cfg.receivers.n + 1, sizeof *p->receivers);
    p->silences = arena_array(p->arena, p->cfg.silences.n + 1, sizeof *p->silences);
    if (!p->receivers || !p->silences)
        return arena_failed(p->arena, err);
    l.section = "receivers";
    for (l.index = 0; l.index < p->cfg.receivers.n && !st; l.index++) {
        struct direct_receiver *r = &p->receivers[l.index];
        r->cfg = &p->cfg.receivers.v[l.index];
        l.line = r->cfg->line;
        st = receiver(&l, r);
    }
    l.section = "silences";
    for (l.index = 0; l.index < p->cfg.silences.n && !st; l.index++) {
        struct direct_silence *s = &p->silences[l.index];
        s->cfg = &p->cfg.silences.v[l.index];
        l.line = s->cfg->line;
        st = matchers(&l, &s->match, &s->cfg->matchers);
    }
    return st;
}

static nx_status load(struct direct_plan **out, struct nx_slice text, bool parse, const char *path,
                      struct nx_err *err)
{
    struct direct_plan *p = calloc(1, sizeof *p);
    nx_status st = NX_OK;

    if (!p || !(p->arena = arena_new(0)))
        st = nx_fail(err, NX_NOMEM, "out of memory");
    else if (parse)
        st = config_parse_notify(&p->cfg, text, path, p->arena, err);
    else
        st = config_load_notify(&p->cfg, path, p->arena, err);
    if (p)
        p->refs = 1;
    if (!st && !(p->library = template_library_new(p->arena)))
        st = arena_failed(p->arena, err);
    if (!st && !parse)
        st = template_files(p, path, err);
    if (!st)
        st = build(p, path, err);
    if (st) {
        direct_plan_unref(p);
        return st;
    }
    *out = p;
    return NX_OK;
}

nx_status direct_plan_load(struct direct_plan **out, const char *path, struct nx_err *err)
{
    return load(out, (struct nx_slice){0}, false, path, err);
}

nx_status direct_plan_parse(struct direct_plan **out, struct nx_slice text, const char *path,
                            struct nx_err *err)
{
    return load(out, text, true, path, err);
}

struct direct_plan *direct_plan_ref(struct direct_plan *p)
{
    __atomic_add_fetch(&p->refs, 1, __ATOMIC_RELAXED);
    return p;
}

void direct_plan_unref(struct direct_plan *p)
{
    if (!p || __atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL))
        return;
    for (size_t i = 0; p->receivers && i < p->cfg.receivers.n; i++)
        match_list_done(&p->receivers[i].match);
    for (size_t i = 0; p->silences && i < p->cfg.silences.n; i++)
        match_list_done(&p->silences[i].match);
    arena_free(p->arena);
    free(p);
}

bool direct_plan_silenced(const struct direct_plan *p, const struct labels *ls, int64_t now_ms)
{
    for (size_t i = 0; i < p->cfg.silences.n; i++) {
        const struct direct_silence *s = &p->silences[i];
        if (now_ms >= s->cfg->from_ms && now_ms < s->cfg->until_ms && match_all(&s->match, ls))
            return true;
    }
    return false;
}

/* ---- for `check notify` ------------------------------------------------------------------------------------ */

static void describe_receiver(const struct direct_receiver *r, struct buf *b)
{
    const struct config_notify_receiver *c = r->cfg;

    buf_printf(b, "    %s: %s", c->name.ptr, config_notify_name(c->kind));
    if (r->match.n) {
        buf_str(b, ", alerts with ");
        match_print(b, &r->match);
    } else {
        buf_str(b, ", all alerts");
    }
    buf_str(b, r->by_all ? ", each for itself" : r->n_group_by ? ", grouped by" : ", in one group");
    for (size_t i = 0; i < r->n_group_by; i++)
        buf_printf(b, "%s %s", i ? "," : "", r->group_by[i].ptr);
    buf_str(b, ", told after ");
    buf_duration(b, c->group_wait_ms);
    buf_str(b, ", of changes every ");
    buf_duration(b, c->group_interval_ms);
    buf_str(b, ", again after ");
    buf_duration(b, c->repeat_interval_ms);
    buf_str(b, c->send_resolved ? ", told when it is over\n" : ", not told when it is over\n");
}

void direct_plan_describe(const struct direct_plan *p, int64_t now_ms, struct buf *out)
{
    size_t active = 0;

    if (p->cfg.templates.n)
        buf_printf(out, "  SUCCESS: %zu files of templates found\n", p->n_template_files);
    buf_printf(out, "  SUCCESS: %zu receivers found\n", p->cfg.receivers.n);
    for (size_t i = 0; i < p->cfg.receivers.n; i++)
        describe_receiver(&p->receivers[i], out);
    for (size_t i = 0; i < p->cfg.silences.n; i++)
        active += now_ms >= p->silences[i].cfg->from_ms && now_ms < p->silences[i].cfg->until_ms;
    if (p->cfg.silences.n)
        buf_printf(out, "  SUCCESS: %zu silences found, %zu active now\n", p->cfg.silences.n,
                   active);
    for (size_t i = 0; i < p->cfg.silences.n; i++) {
        const struct config_notify_silence *c = p->silences[i].cfg;
        bool over = now_ms >= c->until_ms;
        buf_str(out, "    ");
        match_print(out, &p->silences[i].match);
        buf_printf(out, "%s%s%s%s%s%s%s\n", c->from.len ? " from " : "", c->from.ptr,
                   c->until.len ? " until " : "", c->until.ptr, c->comment.len ? ": " : "",
                   c->comment.ptr, over ? " (over)" : "");
    }
}
