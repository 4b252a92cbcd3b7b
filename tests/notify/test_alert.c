/* test_alert.c - alerts as they are made, relabelled and written, and the URLs they go to: RUL-052 to RUL-058. */
#include "tests/support/test.h"

#include "src/notify/section.h"
#include "tests/support/oom.h"

static struct nx_err err;

#define PAIR(n, v)                                                                                 \
    {                                                                                              \
        {n, sizeof(n) - 1},                                                                        \
        {                                                                                          \
            v, sizeof(v) - 1                                                                       \
        }                                                                                          \
    }

static struct config *parse(const char *text)
{
    struct config *cfg = NULL;

    assert_ok(config_parse(&cfg, STR(text), "c.yml", "/", NULL, &err), &err);
    return cfg;
}

/* ---- JSON ------------------------------------------------------------------------------------------- */

static void an_alert_is_written_as_the_api_wants_it(void **state)
{
    static const struct label labels[] = {PAIR("alertname", "A \"b\"\n"), PAIR("l", "\xc3\xa9<&>")};
    static const struct label annotations[] = {PAIR("summary", "x\\y"), PAIR("t", "\xff")};
    const struct rule_notice full = {.labels = {labels, 2},
                                     .annotations = {annotations, 2},
                                     .starts_ns = 1767323045678999999,
                                     .ends_ns = 1767323106000000000,
                                     .generator_url = "http://h/graph?g0.expr=a&g0.tab=1"};
    const struct rule_notice bare = {.labels = {labels, 1}, .starts_ns = -1, .generator_url = ""};
    const struct notify_alert *v[] = {alert_new(&full.labels, &full),
                                      alert_new(&bare.labels, &bare)};
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    alerts_json(&b, v, 2);
    assert_buf(&b,
               "[{\"annotations\":{\"summary\":\"x\\\\y\",\"t\":\"\xef\xbf\xbd\"},"
               "\"endsAt\":\"2026-01-02T03:05:06.000Z\",\"startsAt\":\"2026-01-02T03:04:05.678Z\","
               "\"generatorURL\":\"http://h/graph?g0.expr=a&g0.tab=1\","
               "\"labels\":{\"alertname\":\"A \\\"b\\\"\\n\",\"l\":\"\xc3\xa9<&>\"}},"
               "{\"endsAt\":\"1970-01-01T00:00:00.000Z\",\"startsAt\":\"1969-12-31T23:59:59.999Z\","
               "\"labels\":{\"alertname\":\"A \\\"b\\\"\\n\"}}]",
               "two alerts");
    buf_clear(&b);
    alerts_json(&b, v, 0);
    assert_buf(&b, "[]", "none");
    buf_done(&b);
    notify_alert_unref(v[0]);
    notify_alert_unref(v[1]);
}

static void an_alert_lives_as_long_as_somebody_refers_to_it(void **state)
{
    static const struct label labels[] = {PAIR("a", "1"), PAIR("b", "2")};
    const struct rule_notice from = {
        .labels = {labels, 1}, .generator_url = "u", .ends_ns = 7, .resolved = true};
    const struct labels two = {labels, 2};
    struct notify_alert *one = alert_new(&from.labels, &from), *other;

    (void)state;
    other = alert_with_labels(one, &two);
    assert_ptr_equal(notify_alert_ref(one), one);
    notify_alert_unref(one);
    assert_text(one->labels.v[0].value, "1", "after one of two references");
    assert_int_equal(one->labels.n, 1);
    notify_alert_unref(one);
    assert_int_equal(other->labels.n, 2);
    assert_true(other->resolved);
    assert_int_equal(other->ends_ns, 7);
    assert_string_equal(other->generator_url.ptr, "u");
    notify_alert_unref(other);
    notify_alert_unref(NULL);
}

/* ---- relabelling ------------------------------------------------------------------------------------ */

static void check_relabel(const char *text, const char *want)
{
    static const struct label labels[] = {PAIR("alertname", "A"), PAIR("l", "own")};
    struct config *cfg = parse(text);
    const struct labels from = {labels, 2};
    struct relabel_work w = {0};
    struct labels out;
    struct buf b;
    bool kept;

    buf_init(&b, 0);
    assert_ok(relabel_work_init(&w, &err), &err);
    assert_ok(alert_relabel(&w, &from, &cfg->global.external_labels, &cfg->alerting.alert_relabel,
                            &kept, &out, &err),
              &err);
    if (kept)
        labels_print(&b, &out);
    assert_buf(&b, want, text);
    buf_done(&b);
    relabel_work_done(&w);
    config_unref(cfg);
}

static void external_labels_are_there_before_relabelling(void **state)
{
    (void)state;
    check_relabel("global: {external_labels: {l: ext, site: here}}\n",
                  "{alertname=\"A\", l=\"own\", site=\"here\"}");
    check_relabel("global: {external_labels: {site: here}}\nalerting:\n  alert_relabel_configs:\n"
                  "  - {source_labels: [site], target_label: place, regex: 'h(.*)', replacement: "
                  "'$1'}\n  - {action: labeldrop, regex: site|l}\n",
                  "{alertname=\"A\", place=\"ere\"}");
    check_relabel("alerting:\n  alert_relabel_configs:\n  - {source_labels: [l], regex: own, "
                  "action: drop}\n",
                  "");
}

static void a_copy_that_finds_no_memory_is_none(void **state)
{
    static const struct label labels[] = {PAIR("a", "1")};
    const struct rule_notice from = {.labels = {labels, 1}, .generator_url = "u"};

    (void)state;
    oom_fail_at(1);
    assert_null(alert_new(&from.labels, &from));
    assert_true(oom_off());
}

/* ---- URLs ------------------------------------------------------------------------------------------- */

static void check_url(const char *section, const char *address, const char *want)
{
    struct config *cfg;
    struct relabel_work work = {0};
    struct arena *a = arena_new(0);
    static const struct label group_labels[] = {PAIR("__meta_x", "y"), PAIR("env", "dev")};
    const struct labels group = {group_labels, 2};
    struct nx_slice url = {0};
    bool dropped = false;
    char text[1000];
    nx_status st;

    snprintf(text, sizeof text, "alerting:\n  alertmanagers:\n  - %s\n", section);
    cfg = parse(text);
    assert_ok(relabel_work_init(&work, &err), &err);
    st = notify_url(&cfg->alerting.alertmanagers.v[0], STR(address), &group, &work, a, &dropped,
                    &url, &err);
    if (st)
        assert_string_equal(err.text, want);
    else
        snprintf(text, sizeof text, "%s%.*s", dropped ? "dropped " : "", (int)url.len, url.ptr),
            assert_string_equal(text, want);
    relabel_work_done(&work);
    arena_free(a);
    config_unref(cfg);
}

static void urls_come_of_address_prefix_and_labels(void **state)
{
    (void)state;
    check_url("{}", "h:1", "http://h:1/api/v2/alerts");
    check_url("{scheme: https, path_prefix: am}", "h", "https://h/am/api/v2/alerts");
    check_url("{path_prefix: //a/./b/../c//}", "h", "http://h/a/c/api/v2/alerts");
    check_url("{path_prefix: /../..}", "h", "http://h/api/v2/alerts");
    check_url("{path_prefix: '/a b/%/é'}", "h", "http://h/a%20b/%25/%C3%A9/api/v2/alerts");
    check_url("{relabel_configs: [{target_label: __alerts_path__, replacement: x}, {target_label: "
              "__scheme__, replacement: https}]}",
              "h", "https://h/x");
    check_url("{relabel_configs: [{source_labels: [__meta_x], target_label: __address__, "
              "replacement: '$1:9'}]}",
              "h", "http://y:9/api/v2/alerts");
    check_url("{path_prefix: /p, relabel_configs: [{target_label: __scheme__, replacement: https}, "
              "{source_labels: [env], regex: dev, action: drop}]}",
              "h", "dropped http://h/p/api/v2/alerts");
    check_url("{relabel_configs: [{target_label: __address__, replacement: 'a/b'}]}", "h",
              "\"a/b\" is not a valid hostname");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_alert_is_written_as_the_api_wants_it),
        cmocka_unit_test(an_alert_lives_as_long_as_somebody_refers_to_it),
        cmocka_unit_test(external_labels_are_there_before_relabelling),
        cmocka_unit_test(a_copy_that_finds_no_memory_is_none),
        cmocka_unit_test(urls_come_of_address_prefix_and_labels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
