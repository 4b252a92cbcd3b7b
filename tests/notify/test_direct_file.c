/* test_direct_file.c - the file of direct notification: its matchers, and what is told of what is wrong in it. */
#include "tests/support/test.h"

#include "src/base/fs.h"
#include "src/notify/direct_plan.h"
#include "tests/support/oom.h"

static struct nx_err err;

/* ---- matchers ------------------------------------------------------------------------------------------- */

static const struct {
    const char *text, *printed; /* '!': what is wrong */
} matchers[] = {
    {"a=b", "{a=\"b\"}"},
    {"a=\"b\"", "{a=\"b\"}"},
    {" a = \"b\" ", "{a=\"b\"}"},
    {"severity=~\"page|warn\"", "{severity=~\"page|warn\"}"},
    {"{a=b,c!=\"d\", e!~f.*}", "{a=\"b\",c!=\"d\",e!~\"f.*\"}"},
    {"a=b,c=d,", "{a=\"b\",c=\"d\"}"},
    {"{a=b,}", "{a=\"b\"}"},
    {"a=\"\"", "{a=\"\"}"},
    {"\"weird name\"=\"x\"", "{\"weird name\"=\"x\"}"},
    {"a=\"q\\\"\\\\\\n\\u00fc\\x41\"", "{a=\"q\\\"\\\\\\n\xc3\xbc"
                                       "A\"}"},
    {"\xc3\xbc=\xc3\xb6", "{\"\xc3\xbc\"=\"\xc3\xb6\"}"},
    {"a=1.5:/x", "{a=\"1.5:/x\"}"},
    {"", "!a label's name is expected at position 1"},
    {"{}", "!a label's name is expected at position 2"},
    {"a", "!=, !=, =~ or !~ is expected at position 2"},
    {"a=", "!a value is expected at position 3"},
    {"a==b", "!a value is expected at position 3"},
    {"a!b", "!=, !=, =~ or !~ is expected at position 2"},
    {"=b", "!a label's name is expected at position 1"},
    {"\"\"=b", "!an empty name at position 3"},
    {"{a=b", "!} is expected at position 5"},
    {"a=b}", "!the end is expected at position 4"},
    {"a=b c=d", "!the end is expected at position 5"},
    {"a=\"b", "!string without its end at position 5"},
    {"a=\"\\q\"", "!unknown escape at position 5"},
    {"a=\"\\u12\"", "!unfinished escape at position 8"},
    {"a=\"\\ud800\"", "!escape of no character at position 10"},
    {"a=\"\\xff\"", "!text that is not UTF-8 at position 9"},
    {"a=~\"(\"", "!missing"},
    {"{a=b,,c=d}", "!a label's name is expected at position 6"},
};

static void matchers_are_alertmanagers(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(matchers); i++) {
        struct arena *a = arena_new(0);
        struct match_list list = {0};
        const char *want = matchers[i].printed;
        nx_status st = match_parse(&list, a, STR(matchers[i].text), &err);
        struct buf b;

        buf_init(&b, 0);
        match_print(&b, &list);
        if (want[0] == '!') {
            assert_status(st, NX_BADINPUT);
            assert_int_equal(list.n, 0);
            if (!strstr(err.text, want + 1))
                fail_msg("%s: %s", matchers[i].text, err.text);
        } else {
            assert_ok(st, &err);
            assert_buf(&b, want, matchers[i].text);
            struct match_list again = {0}; /* what is printed reads as the same */
            struct buf second;
            buf_init(&second, 0);
            assert_ok(match_parse(&again, a, buf_view(&b), &err), &err);
            match_print(&second, &again);
            assert_buf(&second, want, matchers[i].text);
            match_list_done(&again);
            buf_done(&second);
        }
        match_list_done(&list);
        buf_done(&b);
        arena_free(a);
    }
}

static void a_label_that_is_missing_is_empty(void **state)
{
    static const struct label v[] = {{{"a", 1}, {"b", 1}}, {{"c", 1}, {"line\nend", 8}}};
    static const struct labels ls = {v, 2};
    static const struct {
        const char *text;
        bool matches;
    } cases[] = {
        {"a=b", true},       {"a!=b", false},      {"x=\"\"", true},          {"x!=\"\"", false},
        {"x!=y", true},      {"a=~\"b|c\"", true}, {"a=~\"bb\"", false},      {"a!~\"x.*\"", true},
        {"x=~\".*\"", true}, {"x=~\".+\"", false}, {"c=~\"line.end\"", true}, {"a=b,x=y", false},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        struct arena *a = arena_new(0);
        struct match_list list = {0};
        assert_ok(match_parse(&list, a, STR(cases[i].text), &err), &err);
        if (match_all(&list, &ls) != cases[i].matches)
            fail_msg("%s", cases[i].text);
        match_list_done(&list);
        arena_free(a);
    }
}

/* ---- what is wrong in a file -------------------------------------------------------------------------------- */

#define R "notify:\n  receivers:\n  - name: r\n"
static const struct {
    const char *text, *wrong;
} bad[] = {
    // clang-format off
    {"notify: [1]", "cannot unmarshal !!seq into notify.section"},
    {"foo: 1", "line 1: field foo not found in type notify.file"},
    {"notify:\n  receivers:\n  - foo: 1\n", "line 3: field foo not found in type notify.receiver"},
    {"notify:\n  receivers:\n  -\n", "empty or null receiver (n.yml:3: notify.receivers[0])"},
    {"notify:\n  receivers:\n  - webhook: {url: 'http://x/'}\n", "a receiver needs a name (n.yml:3: notify.receivers[0].name)"},
    {R, "it has 0 (n.yml:3: notify.receivers[0].name)"},
    {R "    webhook: {url: 'http://x/'}\n    slack: {api_url: 'http://x/'}\n", "it has 2"},
    {R "    webhook: {}\n", "one of url and url_file must be given (n.yml:4: notify.receivers[0].webhook.url)"},
    {R "    webhook: {url: 'http://x/', url_file: y}\n", "at most one of url and url_file"},
    {R "    webhook: {url: 'ftp://x/'}\n", "url is not an http or https URL (n.yml:4"},
    {R "    webhook: {url: 'SECRET'}\n", "url is not an http or https URL (n.yml:4"},
    {R "    webhook: {url: 'http://x/', timeout: 0s}\n", "the timeout must be above 0"},
    {R "    webhook: {url: 'http://x/', title: x}\n", "field title not found in type notify.webhook"},
    {R "    webhook: {url: 'http://x/', http_config: {oauth2: {client_id: a, token_url: 'http://x', grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer'}}}\n", "oauth2 with another grant_type"},
    {R "    webhook: {url: 'http://x/', http_config: {basic_auth: {password: a, password_file: b}}}\n",
     "at most one of basic_auth password"},
    {R "    webhook: {url: 'HTTP://x/'}\n", "url is not an http or https URL (n.yml:4"},
    {R "    slack: {}\n", "one of api_url and api_url_file"},
    {R "    teams: {}\n", "one of webhook_url and webhook_url_file"},
    {R "    discord: {}\n", "one of webhook_url and webhook_url_file"},
    {R "    pagerduty: {}\n", "one of routing_key and routing_key_file must be given"},
    {R "    pagerduty: {routing_key: a, links: [{text: x}]}\n", "a link needs an href (n.yml:4: notify.receivers[0].pagerduty.links[0])"},
    {R "    pagerduty: {routing_key: a, details: {'': x}}\n", "the name of a detail is empty (n.yml:4: notify.receivers[0].pagerduty.details)"},
    {R "    ntfy: {url: 'http://x'}\n", "url does not end in /TOPIC"},
    {R "    ntfy: {url: 'http://x/'}\n", "url does not end in /TOPIC"},
    {R "    ntfy: {url: 'http://x/t?a=b'}\n", "url does not end in /TOPIC"},
    {R "    ntfy: {url: 'http://x/t', token: a, http_config: {basic_auth: {username: u}}}\n", "a token and credentials"},
    {R "    email: {from: a@b, smarthost: 'h:25'}\n", "needs to: who gets it"},
    {R "    email: {to: a@b, smarthost: 'h:25'}\n", "needs from: who sends it"},
    {R "    email: {to: a@b, from: a@b}\n", "needs smarthost"},
    {R "    email: {to: a@b, from: a@b, smarthost: 'h'}\n", "needs smarthost"},
    {R "    email: {to: a@b, from: a@b, smarthost: 'h:99999'}\n", "needs smarthost"},
    {R "    email: {to: a@b, from: a@b, smarthost: 'u@h:25'}\n", "needs smarthost"},
    {R "    email: {to: a@b, from: a@b, smarthost: 'h:25', hello: 'a b'}\n", "hello must be a host's name"},
    {R "    email: {to: a@b, from: a@b, smarthost: 'h:25', auth_username: u}\n", "must be given together"},
    {R "    email: {to: a@b, from: a@b, smarthost: 'h:25', headers: {To: x}}\n", "the header to can't be set"},
    {R "    email: {to: a@b, from: a@b, smarthost: 'h:25', headers: {'X Y': x}}\n", "may not hold \" \""},
    {R "    email: {to: a@b, from: a@b, smarthost: 'h:25', headers: {\"X\\r\\nBcc\": x}}\n", "may not hold \"\\r\""},
    {R "    email: {to: 'nobody', from: a@b, smarthost: 'h:25'}\n", "NAME@HOST is expected (n.yml:3: notify.receivers[0].email.to)"},
    {R "    email: {to: \"a@b\\r\\nRCPT\", from: a@b, smarthost: 'h:25'}\n", "ASCII only"},
    {R "    email: {to: a@b, from: 'a@b, c@d', smarthost: 'h:25'}\n", "from one address"},
    {R "    email: {to: a@b, from: a@b, smarthost: 'h:25', tls_config: {server_name: x}}\n", "server_name is not supported"},
    {R "    group_interval: 0s\n    webhook: {url: 'http://x/'}\n", "group_interval must be above 0 (n.yml:4: notify.receivers[0].group_interval)"},
    {R "    repeat_interval: 0s\n    webhook: {url: 'http://x/'}\n", "repeat_interval must be above 0"},
    {R "    group_wait: 1x\n    webhook: {url: 'http://x/'}\n", "unknown unit"},
    {R "    group_by: ['...', a]\n    webhook: {url: 'http://x/'}\n", "stands alone"},
    {R "    group_by: [a, a]\n    webhook: {url: 'http://x/'}\n", "duplicate label \"a\""},
    {R "    matchers: ['a=b', 'c']\n    webhook: {url: 'http://x/'}\n", "is expected at position 2 (n.yml:3: notify.receivers[0].matchers[1])"},
    {R "    slack: {api_url: 'http://x/', title: '{{ .Foo'}\n", "(n.yml:3: notify.receivers[0].slack.title)"},
    {R "    pagerduty: {routing_key: a, details: {x: '{{ nope }}'}}\n", "function \"nope\" not defined (n.yml:3: notify.receivers[0].pagerduty.details.x)"},
    {R "    webhook: {url: 'http://x/'}\n  - name: r\n    webhook: {url: 'http://x/'}\n", "receiver name \"r\" is not unique (n.yml:5: notify.receivers[1])"},
    {"notify:\n  silences:\n  - comment: x\n", "a silence needs matchers"},
    {"notify:\n  silences:\n  - matchers: ['a=b']\n    from: now\n", "from must be a time as 2026-01-31T12:00:00Z (n.yml:4: notify.silences[0].from)"},
    {"notify:\n  silences:\n  - {matchers: ['a=b'], from: 2026-01-02T00:00:00Z, until: 2026-01-01T00:00:00Z}\n", "must end after it begins"},
    {"notify:\n  silences:\n  - matchers: ['a=~\"(\"']\n", "notify.silences[0].matchers[0])"},
    // clang-format on
};

static void what_is_wrong_is_told_by_file_line_and_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(bad); i++) {
        struct direct_plan *p = NULL;
        nx_status st = direct_plan_parse(&p, STR(bad[i].text), "n.yml", &err);
        if (st == NX_OK)
            fail_msg("accepted: %s", bad[i].text);
        if (!strstr(err.text, bad[i].wrong) || !strstr(err.text, "parsing YAML file n.yml: "))
            fail_msg("%s\ngot: %s\nwanted: %s", bad[i].text, err.text, bad[i].wrong);
        assert_null(strstr(err.text, "SECRET"));
        assert_null(p);
    }
}

static const char all[] =
    "notify:\n"
    "  external_url: https://mon.example.com/\n"
    "  receivers:\n"
    "  - name: hook\n"
    "    webhook: {url_file: secrets/url, max_alerts: 5, http_config: {authorization: "
    "{credentials: c}}}\n"
    "  - {name: s, matchers: [severity=page], group_by: [job, alertname], slack: {api_url: "
    "'https://h/x', channel: '#ops'}}\n"
    "  - {name: t, group_by: ['...'], teams: {webhook_url: 'https://h/x'}}\n"
    "  - {name: d, send_resolved: false, discord: {webhook_url: 'https://h/x'}}\n"
    "  - {name: p, pagerduty: {routing_key_file: k, details: {num_firing: x, mine: y}}}\n"
    "  - {name: n, repeat_interval: 1d, ntfy: {url: 'https://ntfy.sh/t', token: tk}}\n"
    "  - {name: m, group_wait: 10s, email: {to: 'Ops <a@b>', from: c@d, smarthost: 'h:587', "
    "auth_username: u, auth_password: p}}\n"
    "  silences:\n"
    "  - {matchers: ['job=\"a\"'], from: 2026-01-01T00:00:00Z, until: 2026-02-01T00:00:00+01:00, "
    "comment: moving}\n";

static void defaults_are_alertmanagers(void **state)
{
    struct direct_plan *p = NULL;
    struct buf b;

    (void)state;
    assert_ok(direct_plan_parse(&p, LIT(all), "/etc/n.yml", &err), &err);
    assert_int_equal(p->cfg.receivers.n, 7);
    const struct config_notify_receiver *r = p->cfg.receivers.v;
    assert_int_equal(r[0].group_wait_ms, 30000);
    assert_int_equal(r[0].group_interval_ms, 300000);
    assert_int_equal(r[0].repeat_interval_ms, 4 * 3600000);
    assert_int_equal(r[0].send_resolved, CONFIG_YES);
    assert_int_equal(r[1].send_resolved, CONFIG_NO);
    assert_int_equal(r[2].send_resolved, CONFIG_YES);
    assert_int_equal(r[3].send_resolved, CONFIG_NO);
    assert_int_equal(r[6].send_resolved, CONFIG_NO);
    assert_text(p->receivers[0].via->url_file, "/etc/secrets/url", "joined to the file's folder");
    assert_text(p->receivers[1].group_by[0], "alertname", "sorted");
    assert_true(p->receivers[2].by_all);
    assert_text(p->receivers[4].via->url.value, "https://events.pagerduty.com/v2/enqueue", "url");
    assert_int_equal(p->receivers[4].via->details.n,
                     5); /* two given, one of them in place of ours */
    assert_true(p->receivers[6].via->require_tls);
    assert_int_equal(p->receivers[6].via->implicit_tls, CONFIG_UNSET);
    assert_int_equal(p->silences[0].cfg->until_ms, 1769900400000);
    buf_init(&b, 0);
    direct_plan_describe(p, 1767225600000, &b);
    assert_non_null(strstr(buf_cstr(&b), "7 receivers found"));
    assert_non_null(strstr(buf_cstr(&b),
                           "s: slack, alerts with {severity=\"page\"}, grouped by alertname, job"));
    assert_non_null(strstr(buf_cstr(&b), "1 silences found, 1 active now"));
    buf_clear(&b);
    direct_plan_describe(p, 1800000000000, &b);
    assert_non_null(strstr(buf_cstr(&b), "1 silences found, 0 active now"));
    buf_done(&b);
    direct_plan_unref(p);
}

static void an_empty_file_is_nobody(void **state)
{
    static const char *const texts[] = {"", "notify:\n", "notify: {}\n",
                                        "notify: {receivers: []}\n"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        struct direct_plan *p = NULL;
        assert_ok(direct_plan_parse(&p, STR(texts[i]), "n.yml", &err), &err);
        assert_int_equal(p->cfg.receivers.n, 0);
        direct_plan_unref(p);
    }
    struct direct_plan *p = NULL;
    assert_status(direct_plan_load(&p, "/nowhere/n.yml", &err), NX_NOTFOUND);
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[300];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_ok(fs_publish(fs_real(), path, text, strlen(text), &err), &err);
}

static nx_status load(const char *dir, struct direct_plan **out)
{
    char path[300];

    snprintf(path, sizeof path, "%s/n.yml", dir);
    return direct_plan_load(out, path, &err);
}

static void templates_are_read_from_files(void **state)
{
    struct test_tmpdir tmp;
    const char *dir = tmp.path;
    struct direct_plan *p = NULL;
    struct buf b;

    (void)state;
    test_tmpdir_new(&tmp);
    put(dir, "n.yml", "notify: {templates: ['*.tmpl', 'none-*', 'plain']}\n");
    put(dir, "a.tmpl", "{{ define \"a\" }}x{{ end }}");
    put(dir, "b.tmpl", "{{ define \"b\" }}x{{ end }}");
    assert_status(load(dir, &p), NX_NOTFOUND);
    assert_non_null(strstr(err.text, "/plain: "));
    assert_non_null(strstr(err.text, "/n.yml: notify.templates[2])"));
    put(dir, "plain", "x");
    assert_ok(load(dir, &p), &err);
    assert_int_equal(p->n_template_files, 3);
    buf_init(&b, 0);
    direct_plan_describe(p, 0, &b);
    assert_non_null(strstr(buf_cstr(&b), "3 files of templates found"));
    buf_done(&b);
    direct_plan_unref(p);
    put(dir, "b.tmpl", "\n{{ nope }}");
    p = NULL;
    assert_status(load(dir, &p), NX_BADINPUT);
    assert_null(p);
    assert_non_null(strstr(err.text, "template: b.tmpl:2: function \"nope\" not defined ("));
    assert_non_null(strstr(err.text, "/n.yml: notify.templates[0])"));
    test_tmpdir_done(&tmp);
}

static void memory_may_fail_anywhere(void **state)
{
    (void)state;
    for (unsigned n = 1;; n += TEST_STRIDE) {
        struct direct_plan *p = NULL;
        oom_fail_at(n);
        nx_status st = direct_plan_parse(&p, LIT(all), "n.yml", &err);
        if (!oom_off()) {
            assert_ok(st, &err);
            direct_plan_unref(p);
            return;
        }
        if (st) /* a text of an error may be what had no memory */
            assert_null(p);
        else
            direct_plan_unref(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matchers_are_alertmanagers),
        cmocka_unit_test(a_label_that_is_missing_is_empty),
        cmocka_unit_test(what_is_wrong_is_told_by_file_line_and_field),
        cmocka_unit_test(defaults_are_alertmanagers),
        cmocka_unit_test(an_empty_file_is_nobody),
        cmocka_unit_test(templates_are_read_from_files),
        cmocka_unit_test(memory_may_fail_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
