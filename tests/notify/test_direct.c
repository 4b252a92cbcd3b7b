/* test_direct.c - the thread of direct notification, against a receiver that says yes, no, or nothing, and over a disk
 * that fails. */
#include "tests/support/test.h"

#include <netdb.h>
#include <stdatomic.h>
#include <time.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/notify/alert.h"
#include "src/notify/direct_plan.h"
#include "tests/notify/receiver.h"
#include "tests/support/simfs.h"

static struct nx_err err;
static char logged[20000]; /* under the log's own lock */

static void keep_log(void *ctx, const char *line, size_t len)
{
    size_t have = strlen(logged);

    (void)ctx;
    if (have + len + 1 < sizeof logged)
        memcpy(logged + have, line, len), logged[have + len] = 0;
}

/* In place of the C library's: a name server that is silent, until the test is done with it. */
static atomic_uint asking;
static atomic_bool silent;

__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **out)
{
    (void)name, (void)service, (void)hints, (void)out;
    atomic_fetch_add(&asking, 1);
    for (int i = 0; i < 15000 && atomic_load(&silent); i++)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    atomic_fetch_sub(&asking, 1);
    return EAI_AGAIN;
}

struct fixture {
    struct receiver r;
    struct direct *d;
    struct simfs *sim;
    size_t state_bytes;
};

static struct direct_plan *plan_of(struct fixture *f, const char *more)
{
    struct direct_plan *p = NULL;
    char text[900];

    snprintf(text, sizeof text,
             "notify:\n  receivers:\n  - {name: r, group_wait: 0s, webhook: {url: "
             "'http://user:SECRET@127.0.0.1:%u/SECRET'%s}\n",
             f->r.port, more);
    assert_ok(direct_plan_parse(&p, STR(text), "n.yml", &err), &err);
    return p;
}

/* `more`: the rest of the receiver's line; a } ends the webhook. */
static void open_direct(struct fixture *f, const char *more)
{
    struct direct_opts o = {.fs = simfs_fs(f->sim),
                            .state_dir = "data",
                            .state_bytes = f->state_bytes,
                            .external_url = "http://own",
                            .grace_ms = 60000};
    struct direct_plan *p = plan_of(f, more);

    assert_ok(direct_open(&f->d, &o, p, &err), &err);
    direct_plan_unref(p);
}

static void setup_with(struct fixture *f, const char *more)
{
    *f = (struct fixture){.sim = simfs_new(1)};
    logged[0] = 0;
    log_capture(keep_log, NULL);
    assert_ok(fs_mkdirs(simfs_fs(f->sim), "data", &err), &err);
    assert_ok(simfs_fs(f->sim)->sync_dir(simfs_fs(f->sim), ".", &err), &err);
    receiver_open(&f->r);
    open_direct(f, more);
}

static void teardown(struct fixture *f)
{
    direct_close(f->d);
    receiver_close(&f->r);
    simfs_free(f->sim);
    log_capture(NULL, NULL);
}

static void take(struct fixture *f, const char *name, bool resolved)
{
    struct label l = {LIT("alertname"), STR(name)};
    int64_t now = clock_now_ns();
    struct rule_notice from = {.labels = {&l, 1},
                               .starts_ns = now,
                               .ends_ns = now + (resolved ? 0 : 240000000000ll),
                               .resolved = resolved,
                               .generator_url = ""};
    struct notify_alert *a = alert_new(&from.labels, &from);
    const struct notify_alert *const v[] = {a};

    direct_take(f->d, v, 1);
    notify_alert_unref(a);
}

static struct direct_stats stats_of(struct fixture *f)
{
    struct direct_stats st;

    direct_get_stats(f->d, &st);
    return st;
}

/* Waits at most 20 s for a figure to be at least `want`. */
#define wait_for(f, figure, want)                                                                  \
    do {                                                                                           \
        for (int wait_i_ = 0; stats_of(f).figure < (want); wait_i_++) {                            \
            struct timespec wait_ts_ = {0, 2000000};                                               \
            if (wait_i_ == 10000)                                                                  \
                fail_msg("%s did not get to %d", #figure, (int)(want));                            \
            nanosleep(&wait_ts_, NULL);                                                            \
        }                                                                                          \
    } while (0)
#define HOOKS kinds[CONFIG_NOTIFY_WEBHOOK]

static void what_is_due_is_posted(void **state)
{
    struct fixture f;

    (void)state;
    setup_with(&f, "}, group_interval: 50ms");
    take(&f, "A", false);
    assert_non_null(strstr(receiver_body(&f.r, 0), "\"status\":\"firing\""));
    assert_non_null(strstr(f.r.heads[0], "POST /SECRET HTTP/1.1\r\n"));
    assert_non_null(strstr(f.r.heads[0], "Content-Type: application/json\r\n"));
    assert_non_null(strstr(f.r.heads[0], "Authorization: Basic dXNlcjpTRUNSRVQ="));
    take(&f, "A", true);
    assert_non_null(strstr(receiver_body(&f.r, 1), "\"status\":\"resolved\""));
    wait_for(&f, HOOKS.sent, 2);
    struct direct_stats st = stats_of(&f);
    assert_int_equal(st.alerts, 0);
    assert_int_equal(st.HOOKS.requests, 2);
    assert_int_equal(st.HOOKS.requests_failed, 0);
    teardown(&f);
}

static void what_may_pass_is_tried_again(void **state)
{
    static const char *const answers[] = {"500 Internal Server Error", "429 Too Many Requests"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(answers); i++) {
        struct fixture f;
        setup_with(&f, "}");
        receiver_answer(&f.r, answers[i]);
        take(&f, "A", false);
        receiver_body(&f.r, 0);
        wait_for(&f, HOOKS.requests_failed, 1);
        receiver_answer(&f.r, "204 No Content");
        receiver_body(&f.r, 1); /* a second later */
        wait_for(&f, HOOKS.sent, 1);
        assert_string_equal(f.r.bodies[0], f.r.bodies[1]);
        teardown(&f);
        assert_non_null(strstr(logged, "it will be tried again"));
        assert_null(strstr(logged, "SECRET"));
    }
}

static void what_is_refused_is_not(void **state)
{
    struct fixture f;

    (void)state;
    setup_with(&f, "}, group_interval: 100ms");
    receiver_answer(&f.r, "400 Bad Request");
    take(&f, "A", false);
    receiver_body(&f.r, 0);
    wait_for(&f, HOOKS.failed[0], 1);
    receiver_answer(&f.r, "200 OK");
    receiver_body(&f.r, 1); /* not tried again, but still to be told */
    wait_for(&f, HOOKS.sent, 2);
    teardown(&f);
    assert_non_null(strstr(logged, "Notification failed"));
    assert_non_null(strstr(logged, "answered 400 Bad Request"));
    assert_null(strstr(logged, "SECRET"));
}

static void a_receiver_that_hangs_holds_nobody_up(void **state)
{
    struct fixture f;
    int64_t began = clock_mono_ns();

    (void)state;
    setup_with(&f, ", timeout: 50ms}, group_by: [alertname]");
    receiver_hold(&f.r, true);
    take(&f, "A", false);
    receiver_body(&f.r, 0);
    wait_for(&f, HOOKS.requests_failed, 1);
    teardown(&f);
    assert_true(clock_mono_ns() - began < 10000000000ll);
    assert_non_null(strstr(logged, "context deadline exceeded"));
    assert_null(strstr(logged, "SECRET"));
}

/* libcurl waits for the thread that asks for a name, unless it is told not to. */
static void a_name_server_that_hangs_holds_nobody_up(void **state)
{
    static const char *const more[] = {
        "}}\n  - {name: slow, group_wait: 0s, webhook: {url: 'http://slow.example/', timeout: "
        "50ms}",
        "}}\n  - {name: slow, group_wait: 0s, webhook: {url: 'http://slow.example/'}",
        "}}\n  - {name: slow, group_wait: 0s, email: {to: a@b, from: a@b, smarthost: "
        "'slow.example:25', timeout: 50ms}",
        "}}\n  - {name: slow, group_wait: 0s, email: {to: a@b, from: a@b, smarthost: "
        "'slow.example:25'}",
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(more); i++) {
        const int mail = i >= 2;
        struct fixture f;
        int64_t began = clock_mono_ns();
        atomic_store(&silent, true);
        setup_with(&f, more[i]);
        take(&f, "A", false);
        receiver_body(&f.r, 0);
        if (i % 2 == 0)
            wait_for(&f, kinds[mail ? CONFIG_NOTIFY_EMAIL : CONFIG_NOTIFY_WEBHOOK].requests_failed,
                     1);
        teardown(&f);
        if (clock_mono_ns() - began > 10000000000ll)
            fail_msg("%s: %lld ms", more[i], (long long)(clock_mono_ns() - began) / 1000000);
        atomic_store(&silent, false);
        while (atomic_load(&asking))
            nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}

/* Takes one mail, and never says goodbye. */
static void *slow_to_leave(void *arg)
{
    int fd = accept(*(int *)arg, NULL, NULL);
    char text[16384];
    size_t have = 0;
    bool in_mail = false;
    ssize_t n;

    send(fd, "220 here\r\n", 10, MSG_NOSIGNAL);
    while ((n = recv(fd, text + have, sizeof text - have, 0)) > 0) {
        have += (size_t)n;
        if (in_mail ? have < 5 || memcmp(text + have - 5, "\r\n.\r\n", 5) != 0
                    : text[have - 1] != '\n')
            continue;
        if (in_mail || strncmp(text, "DATA", 4) != 0)
            send(fd, "250 ok\r\n", strncmp(text, "QUIT", 4) == 0 ? 0 : 8, MSG_NOSIGNAL);
        else
            send(fd, "354 go\r\n", 8, MSG_NOSIGNAL);
        in_mail = !in_mail && strncmp(text, "DATA", 4) == 0;
        have = 0;
    }
    close(fd);
    return NULL;
}

static void a_mail_server_that_is_slow_to_leave_holds_nobody_up(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof a;
    struct fixture f;
    char more[200];
    pthread_t thread;
    int64_t began;

    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(pthread_create(&thread, NULL, slow_to_leave, &listener), 0);
    snprintf(more, sizeof more,
             "}}\n  - {name: m, group_wait: 0s, email: {to: a@b, from: a@b, smarthost: "
             "'127.0.0.1:%u', require_tls: false, text: x, html: y}",
             ntohs(a.sin_port));
    setup_with(&f, more);
    began = clock_mono_ns();
    take(&f, "A", false);
    wait_for(&f, kinds[CONFIG_NOTIFY_EMAIL].sent, 1);
    assert_true(clock_mono_ns() - began < 10000000000ll);
    assert_int_equal(stats_of(&f).kinds[CONFIG_NOTIFY_EMAIL].requests_failed, 0);
    teardown(&f);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(listener);
}

static void an_answer_that_repeats_the_url_is_not_told(void **state)
{
    static const struct {
        const char *words, *told;
    } answers[] = {
        {"Cannot POST /SECRET", "answered 404 Not Found"},
        {"{\"path\":\"\\/SECRET\"}", "answered 404 Not Found"},
        {"no such hook", "answered 404 Not Found: no such hook"},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(answers); i++) {
        struct fixture f;
        setup_with(&f, "}");
        receiver_answer(&f.r, "404 Not Found");
        receiver_say(&f.r, answers[i].words);
        take(&f, "A", false);
        wait_for(&f, HOOKS.failed[0], 1);
        teardown(&f);
        if (!strstr(logged, answers[i].told) || strstr(logged, "SECRET"))
            fail_msg("%s: %s", answers[i].words, logged);
    }
}

static void an_answer_that_repeats_the_token_is_not_told(void **state)
{
    struct direct_plan *p = NULL;
    struct fixture f;
    char text[300];

    (void)state;
    setup_with(&f, "}, matchers: [alertname=none]");
    receiver_answer(&f.r, "403 Forbidden");
    receiver_say(&f.r, "not with SECRET-token");
    snprintf(text, sizeof text,
             "notify:\n  receivers:\n  - {name: r, group_wait: 0s, ntfy: {url: "
             "'http://127.0.0.1:%u/t', token: SECRET-token}}\n",
             f.r.port);
    assert_ok(direct_plan_parse(&p, STR(text), "n.yml", &err), &err);
    assert_ok(direct_apply(f.d, p, &err), &err);
    direct_plan_unref(p);
    take(&f, "A", false);
    wait_for(&f, kinds[CONFIG_NOTIFY_NTFY].failed[0], 1);
    assert_non_null(strstr(f.r.heads[0], "Authorization: Bearer SECRET-token\r\n"));
    teardown(&f);
    assert_non_null(strstr(logged, "answered 403 Forbidden"));
    assert_null(strstr(logged, "SECRET"));
}

static void a_stop_waits_for_a_second(void **state)
{
    struct fixture f;
    int64_t began;

    (void)state;
    setup_with(&f, "}");
    receiver_hold(&f.r, true);
    take(&f, "A", false);
    receiver_body(&f.r, 0);
    began = clock_mono_ns();
    direct_close(f.d);
    assert_true(clock_mono_ns() - began < 5000000000ll);
    f.d = NULL;
    teardown(&f);
}

static void another_file_is_used_at_once(void **state)
{
    struct fixture f;
    struct direct_plan *p;

    (void)state;
    setup_with(&f, "}");
    receiver_hold(&f.r, true);
    take(&f, "A", false);
    receiver_body(&f.r, 0); /* under way */
    p = plan_of(&f, "}, matchers: ['alertname!=C'], group_interval: 50ms");
    assert_ok(direct_apply(f.d, p, &err), &err);
    direct_plan_unref(p);
    receiver_hold(&f.r, false);
    wait_for(&f, HOOKS.sent, 1);
    take(&f, "C", false);
    take(&f, "A", true);
    assert_non_null(strstr(receiver_body(&f.r, 1), "\"resolved\""));
    teardown(&f);
}

/* Refused or to be tried again, what the old file did not get through is told by the new one at once. */
static void what_failed_by_the_old_file_goes_by_the_new_one(void **state)
{
    static const char *const answers[] = {"404 Not Found", "503 Service Unavailable"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(answers); i++) {
        struct fixture f;
        struct direct_plan *p;
        setup_with(&f, "}");
        receiver_answer(&f.r, answers[i]);
        receiver_hold(&f.r, i == 0);
        take(&f, "A", false);
        receiver_body(&f.r, 0);
        if (i == 1) /* waits for its second try */
            wait_for(&f, HOOKS.requests_failed, 1);
        p = plan_of(&f, ", max_alerts: 1}, group_by: [alertname]");
        assert_ok(direct_apply(f.d, p, &err), &err);
        direct_plan_unref(p);
        receiver_hold(&f.r, false);
        if (i == 0)
            wait_for(&f, HOOKS.requests_failed, 1);
        assert_non_null(strstr(receiver_body(&f.r, 1), "\"groupLabels\":{\"alertname\""));
        receiver_answer(&f.r, "200 OK");
        teardown(&f);
    }
}

/* A receiver that is not in the new file any more is not asked again. */
static void a_receiver_that_is_gone_is_not_tried_again(void **state)
{
    struct fixture f;
    struct direct_plan *p = NULL;

    (void)state;
    setup_with(&f, "}");
    receiver_answer(&f.r, "503 Service Unavailable");
    take(&f, "A", false);
    wait_for(&f, HOOKS.requests_failed, 1);
    assert_ok(direct_plan_parse(&p, STR("notify: {}"), "n.yml", &err), &err);
    assert_ok(direct_apply(f.d, p, &err), &err);
    direct_plan_unref(p);
    nanosleep(&(struct timespec){1, 200000000}, NULL); /* the second try would be after one */
    assert_int_equal(stats_of(&f).HOOKS.requests, 1);
    assert_int_equal(stats_of(&f).groups, 0);
    teardown(&f);
}

/* ---- the disk ------------------------------------------------------------------------------------------------ */

static void a_full_disk_delays_no_message(void **state)
{
    struct fixture f;

    (void)state;
    setup_with(&f, "}, group_interval: 50ms");
    simfs_set_space(f.sim, 10);
    take(&f, "A", false);
    receiver_body(&f.r, 0);
    wait_for(&f, state_failures, 1);
    take(&f, "B", false);
    receiver_body(&f.r, 1);
    wait_for(&f, HOOKS.sent, 2);
    simfs_set_space(f.sim, UINT64_MAX);
    teardown(&f); /* a last try */
    assert_non_null(strstr(logged, "could not be saved"));
    assert_non_null(strstr(logged, "is saved again"));
}

static void a_state_that_is_too_large_is_told(void **state)
{
    struct fixture f;

    (void)state;
    setup_with(&f, "}, group_interval: 50ms");
    direct_close(f.d);
    f.state_bytes = 100;
    open_direct(&f, "}, group_interval: 50ms");
    take(&f, "A", false);
    wait_for(&f, HOOKS.sent, 1);
    wait_for(&f, state_failures, 1);
    teardown(&f);
    assert_non_null(strstr(logged, "could not be saved"));
    assert_non_null(strstr(logged, "limit of 100 bytes exceeded"));
}

static void damage_is_told_and_passed_over(void **state)
{
    struct fixture f;

    (void)state;
    setup_with(&f, "}");
    take(&f, "A", false);
    receiver_body(&f.r, 0);
    wait_for(&f, HOOKS.sent, 1);
    direct_close(f.d);
    assert_true(simfs_flip(f.sim, "data/notify.json", 0, 0xff));
    open_direct(&f, "}");
    take(&f, "A", false);
    receiver_body(&f.r, 1); /* anew */
    teardown(&f);
    assert_non_null(strstr(logged, "is not known"));
}

/* The power goes at any step of writing: afterwards the file is whole, of this message or of the one before; what was
 * written is not told again. */
static void a_power_cut_at_any_step_leaves_a_whole_state(void **state)
{
    (void)state;
    for (unsigned cut = 1;; cut++) {
        struct fixture f;
        bool finished;
        setup_with(&f, "}, group_interval: 20ms");
        simfs_cut_power_at(f.sim, cut);
        take(&f, "A", false);
        receiver_body(&f.r, 0);
        wait_for(&f, HOOKS.sent, 1);
        direct_close(f.d);
        finished = !simfs_power_was_cut(f.sim);
        simfs_restore_power(f.sim);
        logged[0] = 0;
        open_direct(&f, "}, group_interval: 20ms");
        assert_null(strstr(logged, "is not known")); /* never half of it */
        if (stats_of(&f).alerts == 0) {
            assert_false(finished);
            take(&f, "A", false);
            receiver_body(&f.r, 1);
        } else { /* known: not told again, but its end is */
            take(&f, "A", false);
            take(&f, "B", false);
            assert_non_null(strstr(receiver_body(&f.r, 1), "\"B\""));
            wait_for(&f, HOOKS.sent, 1);
            take(&f, "A", true);
            assert_non_null(strstr(receiver_body(&f.r, 2), "\"resolved\""));
        }
        teardown(&f);
        if (finished)
            return;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_due_is_posted),
        cmocka_unit_test(what_may_pass_is_tried_again),
        cmocka_unit_test(what_is_refused_is_not),
        cmocka_unit_test(a_receiver_that_hangs_holds_nobody_up),
        cmocka_unit_test(a_name_server_that_hangs_holds_nobody_up),
        cmocka_unit_test(a_mail_server_that_is_slow_to_leave_holds_nobody_up),
        cmocka_unit_test(an_answer_that_repeats_the_url_is_not_told),
        cmocka_unit_test(an_answer_that_repeats_the_token_is_not_told),
        cmocka_unit_test(a_stop_waits_for_a_second),
        cmocka_unit_test(another_file_is_used_at_once),
        cmocka_unit_test(what_failed_by_the_old_file_goes_by_the_new_one),
        cmocka_unit_test(a_receiver_that_is_gone_is_not_tried_again),
        cmocka_unit_test(a_full_disk_delays_no_message),
        cmocka_unit_test(a_state_that_is_too_large_is_told),
        cmocka_unit_test(damage_is_told_and_passed_over),
        cmocka_unit_test(a_power_cut_at_any_step_leaves_a_whole_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
