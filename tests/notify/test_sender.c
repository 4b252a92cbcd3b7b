/* test_sender.c - one Alertmanager's queue and thread, against a receiver that says yes, no, or nothing. */
#include "tests/support/test.h"

#include <dirent.h>

#include "src/base/limits.h"
#include "src/base/log.h"
#include "src/notify/sender.h"
#include "src/notify/alert.h"
#include "tests/notify/receiver.h"
#include "tests/support/oom.h"
#include "tests/support/quiet.h"

static struct nx_err err;

struct fixture {
    struct receiver r;
    struct config *cfg;
    struct sender_settings *settings;
    struct sender_opts opts;
    struct sender *s;
};

static struct sender_settings *settings_of(struct fixture *f, const char *section)
{
    struct sender_settings *s;
    char text[500];

    config_unref(f->cfg);
    snprintf(text, sizeof text, "alerting:\n  alertmanagers:\n  - %s\n", section);
    assert_ok(config_parse(&f->cfg, STR(text), "c.yml", "/", NULL, &err), &err);
    assert_ok(sender_settings_new(&s, f->cfg, &f->cfg->alerting.alertmanagers.v[0], &err), &err);
    assert_non_null(s);
    return s;
}

static void setup_for(struct fixture *f, const char *section, size_t capacity, size_t batch,
                      bool drain)
{
    char url[64];

    *f = (struct fixture){
        .opts = {capacity, batch, drain, "test/1", 20000} /* longer than any of these tests */};
    quiet_log();
    receiver_open(&f->r);
    f->settings = settings_of(f, section);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/api", f->r.port);
    f->s = sender_new(url, f->settings, &f->opts);
    assert_non_null(f->s);
}

static void teardown(struct fixture *f)
{
    sender_free(f->s);
    sender_settings_unref(f->settings);
    config_unref(f->cfg);
    receiver_close(&f->r);
    log_capture(NULL, NULL);
}

/* Alerts that are told apart by their name. */
static void add(struct fixture *f, const char *first, size_t n, size_t padding)
{
    const struct notify_alert *v[100] = {NULL};
    char name[2], *pad = calloc(1, padding + 1);

    memset(pad, 'x', padding);
    for (size_t i = 0; i < n; i++) {
        struct label l[] = {{LIT("a"), {name, 1}}, {LIT("p"), {pad, padding}}};
        struct rule_notice from = {.labels = {l, padding ? 2 : 1}, .generator_url = ""};
        name[0] = (char)(first[0] + (char)i);
        v[i] = alert_new(&from.labels, &from);
    }
    sender_add(f->s, v, n);
    for (size_t i = 0; i < n; i++)
        notify_alert_unref(v[i]);
    free(pad);
}

/* The names in a body: "abc". */
static const char *names(const char *body)
{
    static char out[200];
    size_t n = 0;

    for (const char *at = body; (at = strstr(at, "\"a\":\"")); at += 5)
        out[n++] = at[5];
    out[n] = '\0';
    return out;
}

static struct notify_url_stats counts(struct fixture *f)
{
    struct notify_url_stats v = {0};

    sender_count(f->s, &v);
    return v;
}

/* Waits until so many alerts were sent or dropped. */
static void wait_counted(struct fixture *f, uint64_t n)
{
    for (unsigned i = 0; i < 2000; i++) {
        struct notify_url_stats v = counts(f);

        if (v.sent + v.dropped >= n)
            return;
        usleep(10000);
    }
    fail_msg("alerts were not counted");
}

static void what_waits_goes_in_batches_over_one_connection(void **state)
{
    struct fixture f;
    struct notify_url_stats v;

    (void)state;
    setup_for(&f, "{}", 100, 4, true);
    receiver_hold(&f.r, true);
    add(&f, "A", 1, 0);
    assert_string_equal(names(receiver_body(&f.r, 0)), "A");
    add(&f, "a", 3, 0);
    add(&f, "d", 7, 0);
    assert_int_equal(counts(&f).queued, 10);
    receiver_hold(&f.r, false);
    assert_string_equal(names(receiver_body(&f.r, 1)), "abcd");
    assert_string_equal(names(receiver_body(&f.r, 2)), "efgh");
    assert_string_equal(names(receiver_body(&f.r, 3)), "ij");
    assert_non_null(strstr(f.r.heads[3], "POST /api HTTP/1.1\r\n"));
    assert_non_null(strstr(f.r.heads[3], "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(f.r.heads[3], "\r\nUser-Agent: test/1\r\n"));
    wait_counted(&f, 11);
    v = counts(&f);
    assert_int_equal(v.sent, 11);
    assert_int_equal(v.dropped + v.errors + v.queued, 0);
    assert_int_equal(v.count, 4);
    assert_true(v.quantile[0] >= 0);
    assert_int_equal(f.r.connections, 1);
    teardown(&f);
}

static void the_oldest_make_room(void **state)
{
    struct fixture f;
    struct notify_url_stats v;

    (void)state;
    setup_for(&f, "{}", 5, 100, true);
    receiver_hold(&f.r, true);
    add(&f, "A", 1, 0);
    receiver_body(&f.r, 0);
    add(&f, "a", 4, 0);
    add(&f, "e", 3, 0);
    v = counts(&f);
    assert_int_equal(v.queued, 5);
    assert_int_equal(v.dropped, 2);
    add(&f, "h", 9, 0); /* more than fit at once */
    assert_int_equal(counts(&f).dropped, 2 + 9);
    receiver_hold(&f.r, false);
    assert_string_equal(names(receiver_body(&f.r, 1)), "lmnop");
    wait_counted(&f, 17);
    assert_int_equal(counts(&f).sent, 6);
    assert_int_equal(counts(&f).errors, 0);
    teardown(&f);
}

static void a_queue_of_none_takes_none(void **state)
{
    struct fixture f;

    (void)state;
    setup_for(&f, "{}", 0, 100, true);
    add(&f, "a", 3, 0);
    assert_int_equal(counts(&f).dropped, 3);
    assert_int_equal(f.r.n, 0);
    teardown(&f);
}

/* However large alerts are. */
static void a_queue_is_bounded_in_bytes(void **state)
{
    struct fixture f;

    (void)state;
    setup_for(&f, "{}", 100, 100, true);
    receiver_hold(&f.r, true);
    add(&f, "A", 1, 0);
    receiver_body(&f.r, 0);
    add(&f, "a", 5, 9u << 20);
    assert_int_equal(counts(&f).queued, 3);
    assert_int_equal(counts(&f).dropped, 2);
    add(&f, "z", 1, NX_LIMIT_NOTIFY_QUEUE_BYTES); /* never fits: the others stay */
    assert_int_equal(counts(&f).queued, 3);
    assert_int_equal(counts(&f).dropped, 3);
    receiver_hold(&f.r, false);
    assert_string_equal(names(receiver_body(&f.r, 1)), "c"); /* a batch has a bound as well */
    assert_string_equal(names(receiver_body(&f.r, 2)), "d");
    teardown(&f);
}

static void a_batch_that_is_refused_is_dropped_and_counted(void **state)
{
    struct fixture f;
    struct notify_url_stats v;

    (void)state;
    setup_for(&f, "{}", 100, 2, true);
    receiver_answer(&f.r, "500 Internal Server Error");
    add(&f, "a", 3, 0);
    receiver_body(&f.r, 1);
    wait_counted(&f, 3);
    receiver_answer(&f.r, "202 Accepted");
    add(&f, "x", 1, 0);
    assert_string_equal(names(receiver_body(&f.r, 2)), "x");
    wait_counted(&f, 4);
    v = counts(&f);
    assert_int_equal(v.sent, 1);
    assert_int_equal(v.errors, 3);
    assert_int_equal(v.dropped, 3);
    assert_int_equal(v.count, 1);
    teardown(&f);
}

static void silence_ends_with_the_timeout(void **state)
{
    struct fixture f;

    (void)state;
    setup_for(&f, "{timeout: 1s}", 100, 2, true);
    receiver_hold(&f.r, true);
    add(&f, "a", 2, 0);
    receiver_body(&f.r, 0);
    wait_counted(&f, 2);
    assert_int_equal(counts(&f).errors, 2);
    receiver_hold(&f.r, false);
    teardown(&f);
}

static void a_timeout_of_nothing_is_over_at_once(void **state)
{
    struct fixture f;

    (void)state;
    setup_for(&f, "{timeout: 0s}", 100, 2, true);
    receiver_hold(&f.r, true);
    add(&f, "a", 3, 0);
    wait_counted(&f, 3);
    assert_int_equal(counts(&f).errors, 3);
    receiver_hold(&f.r, false);
    teardown(&f);
}

/* An Alertmanager that was restarted meanwhile. */
static void a_connection_that_died_while_idle_costs_nothing(void **state)
{
    struct fixture f;

    (void)state;
    setup_for(&f, "{}", 100, 2, true);
    add(&f, "a", 1, 0);
    wait_counted(&f, 1);
    pthread_mutex_lock(&f.r.lock);
    shutdown(f.r.from[0].fd, SHUT_RDWR);
    pthread_mutex_unlock(&f.r.lock);
    add(&f, "b", 1, 0);
    assert_string_equal(names(receiver_body(&f.r, 1)), "b");
    wait_counted(&f, 2);
    assert_int_equal(counts(&f).sent, 2);
    assert_int_equal(counts(&f).errors, 0);
    teardown(&f);
}

static void leaving_drains_the_queue(void **state)
{
    struct fixture f;

    (void)state;
    setup_for(&f, "{}", 100, 2, true);
    receiver_hold(&f.r, true);
    add(&f, "a", 5, 0);
    receiver_body(&f.r, 0);
    receiver_answer(&f.r,
                    "500 No"); /* an answer, if not a kind one: the others are tried all the same */
    sender_leave(f.s);
    add(&f, "z", 1, 0); /* too late */
    receiver_hold(&f.r, false);
    sender_free(f.s);
    f.s = NULL;
    assert_int_equal(f.r.n, 3);
    assert_string_equal(names(f.r.bodies[2]), "e");
    teardown(&f);
}

static void leaving_without_drain_ends_what_is_under_way(void **state)
{
    struct fixture f;

    (void)state;
    setup_for(&f, "{timeout: 1h}", 100, 2, false);
    receiver_hold(&f.r, true);
    add(&f, "a", 5, 0);
    receiver_body(&f.r, 0);
    sender_free(f.s); /* does not take an hour */
    f.s = NULL;
    assert_int_equal(f.r.n, 1);
    teardown(&f);
}

/* Nor does a token that nobody gives. */
static void leaving_without_drain_ends_the_wait_for_a_token(void **state)
{
    struct fixture f;
    struct sender_settings *other;
    char section[200];

    (void)state;
    setup_for(&f, "{}", 100, 2, false);
    snprintf(section, sizeof section,
             "{timeout: 1h, oauth2: {client_id: a, client_secret: b, token_url: "
             "'http://127.0.0.1:%u/token'}}",
             f.r.port);
    other = settings_of(&f, section);
    sender_set_settings(f.s, other);
    sender_settings_unref(other);
    receiver_hold(&f.r, true);
    add(&f, "a", 1, 0);
    receiver_body(&f.r, 0);
    sender_free(f.s);
    f.s = NULL;
    assert_int_equal(f.r.n, 1);
    assert_non_null(strstr(f.r.heads[0], "POST /token "));
    teardown(&f);
}

/* A stop costs one time-out, not one a batch. */
static void draining_ends_where_nobody_answers(void **state)
{
    struct fixture f;

    (void)state;
    setup_for(&f, "{timeout: 500ms}", 100, 1, true);
    receiver_hold(&f.r, true);
    add(&f, "a", 50, 0);
    receiver_body(&f.r, 0);
    sender_free(f.s);
    f.s = NULL;
    assert_in_range(f.r.n, 1, 2);
    teardown(&f);
}

/* That send. */
static unsigned threads(void)
{
    DIR *d = opendir("/proc/self/task");
    unsigned n = 0;

    for (struct dirent *e; (e = readdir(d));) {
        char path[300], name[32] = "";
        FILE *f;

        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        f = fopen(path, "r");
        n += f && fgets(name, sizeof name, f) && strcmp(name, "notify\n") == 0;
        if (f)
            fclose(f);
    }
    closedir(d);
    return n;
}

static void the_thread_is_there_only_while_alerts_come(void **state)
{
    struct fixture f;

    (void)state;
    setup_for(&f, "{}", 100, 100, true);
    assert_int_equal(threads(), 0);
    f.opts.linger_ms = 500;
    for (unsigned round = 0; round < 3; round++) {
        add(&f, "a", 1, 0);
        receiver_body(&f.r, 2 * round);
        wait_counted(&f, 2 * round + 1);
        add(&f, "b", 1, 0); /* the same thread and connection */
        receiver_body(&f.r, 2 * round + 1);
        wait_counted(&f, 2 * round + 2);
        assert_int_equal(threads(), 1);
        for (unsigned i = 0; threads() && i < 1000; i++)
            usleep(10000);
        assert_int_equal(threads(), 0);
    }
    assert_int_equal(counts(&f).sent, 6);
    assert_in_range(f.r.connections, 3, 6); /* 3, unless half a second passed in between */
    teardown(&f);
}

static void new_settings_hold_from_the_next_batch_on(void **state)
{
    struct fixture f;
    struct sender_settings *other;

    (void)state;
    setup_for(&f, "{}", 100, 100, true);
    add(&f, "a", 1, 0);
    receiver_body(&f.r, 0);
    other = settings_of(&f, "{authorization: {credentials: abc}}");
    sender_set_settings(f.s, other);
    sender_settings_unref(other);
    add(&f, "b", 1, 0);
    receiver_body(&f.r, 1);
    assert_null(strstr(f.r.heads[0], "Authorization"));
    assert_non_null(strstr(f.r.heads[1], "\r\nAuthorization: Bearer abc\r\n"));
    teardown(&f);
}

static void queueing_without_memory_drops(void **state)
{
    static const struct label label[] = {{{"a", 1}, {"m", 1}}};
    const struct rule_notice from = {.labels = {label, 1}, .generator_url = ""};
    const struct notify_alert *a;
    struct fixture f;

    (void)state;
    setup_for(&f, "{}", 100, 100, true);
    a = alert_new(&from.labels, &from);
    oom_fail_at(1);
    sender_add(f.s, &a, 1);
    assert_true(oom_off());
    assert_int_equal(counts(&f).dropped, 1);
    sender_add(f.s, &a, 1);
    assert_string_equal(names(receiver_body(&f.r, 0)), "m");
    notify_alert_unref(a);
    teardown(&f);
}

/* Adders, settings and counts at once: for ThreadSanitizer. */
static void *keep_adding(void *arg)
{
    for (unsigned i = 0; i < 50; i++) {
        add(arg, "a", 2, 0);
        (void)counts(arg);
    }
    return NULL;
}

static void many_may_add_at_once(void **state)
{
    struct fixture f;
    struct notify_url_stats v;
    pthread_t t[4];

    (void)state;
    setup_for(&f, "{}", 1000, 7, true);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, keep_adding, &f), 0);
    for (unsigned i = 0; i < 20; i++) {
        struct sender_settings *other = settings_of(&f, "{timeout: 9s}");
        sender_set_settings(f.s, other);
        sender_settings_unref(other);
    }
    for (size_t i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    wait_counted(&f, 400);
    v = counts(&f);
    assert_int_equal(v.sent, 400);
    assert_int_equal(v.queued + v.dropped, 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waits_goes_in_batches_over_one_connection),
        cmocka_unit_test(the_oldest_make_room),
        cmocka_unit_test(a_queue_of_none_takes_none),
        cmocka_unit_test(a_queue_is_bounded_in_bytes),
        cmocka_unit_test(a_batch_that_is_refused_is_dropped_and_counted),
        cmocka_unit_test(silence_ends_with_the_timeout),
        cmocka_unit_test(a_timeout_of_nothing_is_over_at_once),
        cmocka_unit_test(a_connection_that_died_while_idle_costs_nothing),
        cmocka_unit_test(leaving_drains_the_queue),
        cmocka_unit_test(leaving_without_drain_ends_what_is_under_way),
        cmocka_unit_test(leaving_without_drain_ends_the_wait_for_a_token),
        cmocka_unit_test(draining_ends_where_nobody_answers),
        cmocka_unit_test(the_thread_is_there_only_while_alerts_come),
        cmocka_unit_test(new_settings_hold_from_the_next_batch_on),
        cmocka_unit_test(queueing_without_memory_drops),
        cmocka_unit_test(many_may_add_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
