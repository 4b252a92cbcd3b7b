/* test_notify.c - from notices to queues: which Alertmanagers there are, who is sent what, and what a reload keeps. */
#include "tests/support/test.h"

#include "src/base/clock.h"
#include "src/base/fs.h"
#include "src/base/log.h"
#include "src/notify/notify.h"
#include "tests/notify/receiver.h"
#include "tests/support/oom.h"
#include "tests/support/quiet.h"

static struct nx_err err;

struct fixture {
    struct test_tmpdir tmp;
    struct receiver r[2];
    struct notify *n;
    unsigned also; /* alerts that the other consumer got */
    char also_first[100];
};

static void take_also(void *ctx, const struct notify_alert *const *v, size_t n)
{
    struct fixture *f = ctx;
    struct buf b;

    buf_init(&b, 0);
    labels_print(&b, &v[0]->labels);
    snprintf(f->also_first, sizeof f->also_first, "%s%s", buf_cstr(&b),
             v[0]->resolved ? " resolved" : "");
    buf_done(&b);
    f->also += (unsigned)n;
}

static void setup(struct fixture *f)
{
    const struct notify_opts o = {
        .queue_capacity = 10, .drain = true, .also = take_also, .also_ctx = f};

    *f = (struct fixture){0};
    quiet_log();
    test_tmpdir_new(&f->tmp);
    receiver_open(&f->r[0]);
    receiver_open(&f->r[1]);
    assert_ok(notify_new(&f->n, &o, &err), &err);
}

static void teardown(struct fixture *f)
{
    notify_free(f->n);
    receiver_close(&f->r[0]);
    receiver_close(&f->r[1]);
    test_tmpdir_done(&f->tmp);
    log_capture(NULL, NULL);
}

/* A configuration in which @0 and @1 are the receivers' addresses. */
static struct config *parse(struct fixture *f, const char *text)
{
    struct config *cfg = NULL;
    struct buf b;

    buf_init(&b, 0);
    for (; *text; text++) {
        if (*text == '@')
            buf_printf(&b, "127.0.0.1:%u", f->r[*++text - '0'].port);
        else
            buf_char(&b, *text);
    }
    if (config_parse(&cfg, buf_view(&b), "c.yml", f->tmp.path, NULL, &err))
        fail_msg("%s", err.text);
    buf_done(&b);
    return cfg;
}

static void apply(struct fixture *f, const char *text)
{
    struct config *cfg = parse(f, text);

    assert_ok(notify_apply(f->n, cfg, &err), &err);
    config_unref(cfg);
}

static void tell(struct fixture *f, const char *name, bool resolved)
{
    const struct label l[] = {{LIT("alertname"), STR(name)}, {LIT("sev"), LIT("bad")}};
    const struct rule_notice v = {
        .labels = {l, 2}, .generator_url = "http://x/", .ends_ns = 1, .resolved = resolved};

    notify_take(f->n, &v, 1);
}

static const char *urls(struct fixture *f)
{
    static char text[1000];
    struct arena *a = arena_new(0);
    struct notify_urls v;
    struct buf b;

    buf_init(&b, 0);
    assert_ok(notify_urls(f->n, a, &v, &err), &err);
    for (size_t i = 0; i < v.n_active; i++)
        buf_printf(&b, "%.*s ", (int)v.active[i].len, v.active[i].ptr);
    for (size_t i = 0; i < v.n_dropped; i++)
        buf_printf(&b, "-%.*s ", (int)v.dropped[i].len, v.dropped[i].ptr);
    for (unsigned i = 0; i < 2; i++) { /* back to @0 and @1 */
        char address[32], *at;
        snprintf(address, sizeof address, "127.0.0.1:%u", f->r[i].port);
        snprintf(text, sizeof text, "%s", buf_cstr(&b));
        buf_clear(&b);
        for (at = text; *at;) {
            bool here = strncmp(at, address, strlen(address)) == 0;
            if (here)
                buf_printf(&b, "@%u", i);
            else
                buf_char(&b, *at);
            at += here ? strlen(address) : 1;
        }
    }
    snprintf(text, sizeof text, "%s", buf_cstr(&b));
    buf_done(&b);
    arena_free(a);
    return text;
}

static bool body_is(struct fixture *f, unsigned receiver, size_t n, const char *labels)
{
    const char *at = strstr(receiver_body(&f->r[receiver], n), "\"labels\":");

    assert_non_null(at);
    if (strncmp(at + 9, labels, strlen(labels)))
        fail_msg("got %s, wanted %s", at + 9, labels);
    return true;
}

#define TWO                                                                                        \
    "alerting:\n  alertmanagers:\n  - static_configs: [{targets: ['@0', '@0']}]\n"                 \
    "  - static_configs: [{targets: ['@1']}]\n"

static void alertmanagers_found_twice_are_one(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    assert_string_equal(urls(&f), "");
    tell(&f, "Early", false); /* nobody is there: it is not an error */
    apply(&f, TWO);
    assert_string_equal(urls(&f), "http://@0/api/v2/alerts http://@1/api/v2/alerts ");
    tell(&f, "A", false);
    tell(&f, "B", false);
    body_is(&f, 0, 0, "{\"alertname\":\"A\",\"sev\":\"bad\"}");
    body_is(&f, 1, 0, "{\"alertname\":\"A\",\"sev\":\"bad\"}");
    teardown(&f); /* drains: A and B once each */
    assert_int_equal(f.also, 2);
}

static void sections_relabel_for_themselves(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    apply(&f,
          "global: {external_labels: {site: here}}\n"
          "alerting:\n"
          "  alert_relabel_configs:\n"
          "  - {source_labels: [alertname], regex: Nobody, action: drop}\n"
          "  - {target_label: all, replacement: 'yes'}\n"
          "  alertmanagers:\n"
          "  - static_configs: [{targets: ['@0']}]\n"
          "    alert_relabel_configs: [{action: labeldrop, regex: site}, {source_labels: "
          "[alertname], regex: Other, action: drop}]\n"
          "  - static_configs: [{targets: ['@1']}]\n"
          "    relabel_configs: [{target_label: __alerts_path__, replacement: /p}]\n"
          "  - static_configs: [{targets: ['gone:1']}]\n"
          "    relabel_configs: [{action: drop, source_labels: [__address__], regex: 'g.*'}]\n");
    assert_string_equal(urls(&f),
                        "http://@0/api/v2/alerts http://@1/p -http://gone:1/api/v2/alerts ");
    tell(&f, "Nobody", false);
    assert_int_equal(f.also, 0);
    tell(&f, "Other", false);
    body_is(&f, 1, 0,
            "{\"alertname\":\"Other\",\"all\":\"yes\",\"sev\":\"bad\",\"site\":\"here\"}");
    tell(&f, "A", true);
    body_is(&f, 0, 0, "{\"alertname\":\"A\",\"all\":\"yes\",\"sev\":\"bad\"}");
    body_is(&f, 1, 1, "{\"alertname\":\"A\",\"all\":\"yes\",\"sev\":\"bad\",\"site\":\"here\"}");
    assert_string_equal(f.also_first,
                        "{alertname=\"A\", all=\"yes\", sev=\"bad\", site=\"here\"} resolved");
    teardown(&f);
}

static struct notify_url_stats stats_of(struct fixture *f, unsigned receiver)
{
    struct arena *a = arena_new(0);
    struct notify_url_stats found = {0};
    struct notify_stats v;
    char url[64];

    snprintf(url, sizeof url, "http://127.0.0.1:%u/api/v2/alerts", f->r[receiver].port);
    assert_ok(notify_get_stats(f->n, a, &v, &err), &err);
    assert_int_equal(v.queue_capacity, 10);
    for (size_t i = 0; i < v.n_urls; i++)
        if (strcmp(v.urls[i].url, url) == 0)
            found = v.urls[i];
    found.url = NULL;
    arena_free(a);
    return found;
}

static void wait_sent(struct fixture *f, unsigned receiver, uint64_t n)
{
    for (unsigned i = 0; i < 2000 && stats_of(f, receiver).sent < n; i++)
        usleep(10000);
    assert_int_equal(stats_of(f, receiver).sent, n);
}

static void a_reload_keeps_the_queues_of_those_that_are_still_there(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    apply(&f, TWO);
    receiver_hold(&f.r[0], true);
    receiver_hold(&f.r[1], true);
    tell(&f, "A", false);
    receiver_body(&f.r[0], 0);
    receiver_body(&f.r[1], 0);
    tell(&f, "B", false);
    /* The other way round, and one with another time-out. */
    apply(&f, "alerting:\n  alertmanagers:\n  - static_configs: [{targets: ['@1']}]\n"
              "    timeout: 9s\n  - static_configs: [{targets: ['@0', '@0']}]\n");
    assert_string_equal(urls(&f), "http://@1/api/v2/alerts http://@0/api/v2/alerts ");
    assert_int_equal(stats_of(&f, 0).queued, 1);
    assert_int_equal(stats_of(&f, 1).queued, 1);
    tell(&f, "C", false);
    assert_int_equal(stats_of(&f, 0).queued, 2);
    receiver_hold(&f.r[0], false);
    receiver_hold(&f.r[1], false);
    wait_sent(&f, 0, 3);
    wait_sent(&f, 1, 3);
    assert_int_equal(f.r[0].n, 2);
    assert_int_equal(f.r[1].n, 2);
    assert_non_null(strstr(f.r[1].bodies[1], "\"C\""));
    teardown(&f);
}

static void one_that_goes_gets_what_is_queued(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    apply(&f, TWO);
    receiver_hold(&f.r[0], true);
    tell(&f, "A", false);
    receiver_body(&f.r[0], 0);
    tell(&f, "B", false);
    apply(&f, "alerting:\n  alertmanagers:\n  - static_configs: [{targets: ['@1']}]\n");
    tell(&f, "C", false);
    assert_string_equal(urls(&f), "http://@1/api/v2/alerts ");
    apply(&f, "global: {}\n");
    assert_string_equal(urls(&f), "");
    tell(&f, "D", false);
    assert_int_equal(f.also, 4);
    receiver_hold(&f.r[0], false);
    body_is(&f, 0, 1, "{\"alertname\":\"B\"");
    notify_free(f.n);
    f.n = NULL;
    assert_int_equal(f.r[0].n, 2); /* C was not for it */
    teardown(&f);
}

/* Two sections with one URL: each has it for itself, and a reload does not give one of them both. */
static void the_same_url_in_two_sections_is_two(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (unsigned round = 0; round < 3; round++) {
        char text[300];

        snprintf(
            text, sizeof text,
            "alerting:\n  alertmanagers:\n  - static_configs: [{targets: ['@0']}]\n    timeout: "
            "%us\n  - static_configs: [{targets: ['@0']}]\n    timeout: %us\n",
            7 + round, 8 + round);
        apply(&f, text);
        assert_string_equal(urls(&f), "http://@0/api/v2/alerts http://@0/api/v2/alerts ");
        tell(&f, "A", false);
        wait_sent(&f, 0, 2 * (round + 1));
    }
    teardown(&f);
}

static void a_dead_one_harms_nobody_else(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    apply(&f, TWO);
    receiver_hold(&f.r[0], true);
    for (unsigned i = 0; i < 20; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%u", i);
        tell(&f, name, false);
        receiver_body(&f.r[1], i < 1 ? 0 : 1);
        wait_sent(&f, 1, i + 1);
    }
    assert_int_equal(stats_of(&f, 0).queued, 10);
    assert_int_equal(stats_of(&f, 0).dropped, 9);
    assert_int_equal(stats_of(&f, 1).dropped, 0);
    receiver_hold(&f.r[0], false);
    teardown(&f);
}

static void write_file(struct fixture *f, const char *name, const char *text)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s", f->tmp.path, name);
    assert_ok(fs_publish(fs_real(), path, text, strlen(text), &err), &err);
}

static void alertmanagers_in_files_come_and_go(void **state)
{
    struct fixture f;
    char text[200];

    (void)state;
    setup(&f);
    apply(&f, "alerting:\n  alertmanagers:\n  - file_sd_configs: [{files: ['am.json']}]\n");
    assert_string_equal(urls(&f), "");
    snprintf(text, sizeof text, "[{\"targets\":[\"127.0.0.1:%u\"]}]", f.r[0].port);
    write_file(&f, "am.json", text);
    for (unsigned i = 0; i < 1000 && !urls(&f)[0]; i++)
        usleep(10000);
    assert_string_equal(urls(&f), "http://@0/api/v2/alerts ");
    tell(&f, "A", false);
    body_is(&f, 0, 0, "{\"alertname\":\"A\"");
    apply(&f, "alerting:\n  alertmanagers:\n  - file_sd_configs: [{files: ['am.json']}]\n"
              "  - static_configs: [{targets: ['@0']}]\n    path_prefix: /x\n");
    assert_string_equal(urls(&f), "http://@0/api/v2/alerts http://@0/x/api/v2/alerts ");
    wait_sent(&f, 0, 1); /* its counts were kept */
    teardown(&f);
}

static void a_group_with_a_bad_address_is_left_out(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    apply(&f, "alerting:\n  alertmanagers:\n  - static_configs: [{targets: ['@0', 'b']}, {targets: "
              "['@1']}]\n    relabel_configs: [{source_labels: [__address__], regex: b, "
              "target_label: __address__, replacement: 'b/c'}]\n");
    assert_string_equal(urls(&f), "http://@1/api/v2/alerts ");
    teardown(&f);
}

/* So is one whose labels make a URL of more than a megabyte: the others of the section stay. */
static void a_group_with_a_url_without_end_is_left_out(void **state)
{
    struct fixture f;
    struct buf b;

    (void)state;
    setup(&f);
    buf_init(&b, 0);
    buf_printf(&b, "[{\"targets\":[\"127.0.0.1:%u\"]},{\"targets\":[\"b\"],\"labels\":{\"path\":\"",
               f.r[0].port);
    for (unsigned i = 0; i < 400000; i++)
        buf_char(&b, ' '); /* three bytes of a URL each */
    buf_str(&b, "\"}}]");
    write_file(&f, "am.json", buf_cstr(&b));
    buf_done(&b);
    apply(&f, "alerting:\n  alertmanagers:\n  - file_sd_configs: [{files: ['am.json']}]\n"
              "    relabel_configs: [{source_labels: [path], regex: '(.+)', target_label: "
              "__alerts_path__}]\n");
    assert_string_equal(urls(&f), "http://@0/api/v2/alerts ");
    teardown(&f);
}

/* Whatever fails, the old configuration or the new one holds, and alerts that can be sent are. */
static void without_memory_nothing_is_half_done(void **state)
{
    struct fixture f;
    struct config *cfg;

    (void)state;
    setup(&f);
    apply(&f, TWO);
    cfg = parse(&f, TWO "  - static_configs: [{targets: ['@0']}]\n    path_prefix: /x\n");
    for (unsigned i = 1;; i++) {
        nx_status st;
        oom_fail_at(i);
        st = notify_apply(f.n, cfg, &err);
        if (!oom_off()) {
            assert_ok(st, &err);
            break;
        }
        if (st)
            assert_string_equal(urls(&f), "http://@0/api/v2/alerts http://@1/api/v2/alerts ");
        apply(&f, TWO);
    }
    assert_string_equal(
        urls(&f), "http://@0/api/v2/alerts http://@1/api/v2/alerts http://@0/x/api/v2/alerts ");
    config_unref(cfg);
    receiver_hold(&f.r[0], true); /* senders have their threads: those allocate for themselves */
    receiver_hold(&f.r[1], true);
    tell(&f, "A", false);
    for (unsigned i = 1;; i++) {
        oom_fail_at(i);
        tell(&f, "A", false);
        if (!oom_off())
            break;
    }
    receiver_hold(&f.r[0], false);
    receiver_hold(&f.r[1], false);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alertmanagers_found_twice_are_one),
        cmocka_unit_test(sections_relabel_for_themselves),
        cmocka_unit_test(a_reload_keeps_the_queues_of_those_that_are_still_there),
        cmocka_unit_test(one_that_goes_gets_what_is_queued),
        cmocka_unit_test(the_same_url_in_two_sections_is_two),
        cmocka_unit_test(a_dead_one_harms_nobody_else),
        cmocka_unit_test(alertmanagers_in_files_come_and_go),
        cmocka_unit_test(a_group_with_a_bad_address_is_left_out),
        cmocka_unit_test(a_group_with_a_url_without_end_is_left_out),
        cmocka_unit_test(without_memory_nothing_is_half_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
