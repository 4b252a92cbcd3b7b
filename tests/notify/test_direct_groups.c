/* test_direct_groups.c - who is told what and when, by a clock that the test moves; and that a restart knows. */
#include "tests/support/test.h"

#include "src/notify/alert.h"
#include "src/notify/direct_groups.h"
#include "src/notify/direct_state.h"
#include "tests/support/oom.h"

static struct nx_err err;

#define S  1000ll
#define T0 1767225600000ll /* 2026-01-01T00:00:00Z */

struct world {
    struct groups *g;
    int64_t now;
};

static struct direct_plan *plan_of(const char *text)
{
    struct direct_plan *p = NULL;

    assert_ok(direct_plan_parse(&p, STR(text), "n.yml", &err), &err);
    return p;
}

static struct world world_with(const char *text, size_t most_alerts)
{
    const struct groups_limits limits = {most_alerts, 1 << 20};
    struct direct_plan *p = plan_of(text);
    struct world w = {NULL, T0};

    assert_ok(groups_new(&w.g, p, &limits, &err), &err);
    direct_plan_unref(p);
    return w;
}

/* "a=b,c=d": alertname first is no need. */
static struct notify_alert *alert_of(const char *text, int64_t ends_ms, bool resolved)
{
    struct labels_builder b;
    struct labels ls;
    char copy[200];
    struct rule_notice n = {.starts_ns = T0 * 1000000,
                            .ends_ns = ends_ms * 1000000,
                            .resolved = resolved,
                            .generator_url = "http://g/"};

    labels_builder_init(&b);
    snprintf(copy, sizeof copy, "%s", text);
    for (char *save = NULL, *pair = strtok_r(copy, ",", &save); pair;
         pair = strtok_r(NULL, ",", &save)) {
        char *eq = strchr(pair, '=');
        labels_builder_set(&b, nx_slice_of(pair, (size_t)(eq - pair)), STR(eq + 1));
    }
    assert_ok(labels_builder_build(&b, &ls, &err), &err);
    struct notify_alert *a = alert_new(&ls, &n);
    assert_non_null(a);
    labels_builder_done(&b);
    return a;
}

static bool take(struct world *w, const char *text, bool resolved)
{
    struct notify_alert *a = alert_of(text, resolved ? w->now : w->now + 240 * S, resolved);
    bool ok = groups_take(w->g, a, w->now);

    notify_alert_unref(a);
    return ok;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Tells what is due now, as text: "RECEIVER{labels}: +firing -resolved; ...", sorted. */
static void tell(struct world *w, bool delivered, struct buf *out)
{
    char *parts[16];
    size_t n_parts = 0;
    struct notice *n = NULL;
    struct buf b;

    buf_init(&b, 0);
    for (;;) {
        assert_ok(groups_next(w->g, w->now, &n, &err), &err);
        if (!n)
            break;
        buf_clear(&b);
        buf_str(&b, n->receiver->cfg->name.ptr);
        labels_print(&b, &n->group_labels);
        buf_char(&b, ':');
        for (size_t i = 0; i < n->n_alerts; i++) {
            buf_str(&b, n->alerts[i].resolved ? " -" : " +");
            buf_slice(&b, labels_get_str(&n->alerts[i].alert->labels, "n"));
        }
        assert_true(n_parts < NX_COUNT(parts));
        parts[n_parts++] = strdup(buf_cstr(&b));
        groups_told(w->g, n, delivered, w->now);
    }
    qsort(parts, n_parts, sizeof *parts, by_text);
    for (size_t i = 0; i < n_parts; i++) {
        if (out) {
            buf_str(out, i ? "; " : "");
            buf_str(out, parts[i]);
        }
        free(parts[i]);
    }
    buf_done(&b);
}

#define expect(w, delivered, want)                                                                 \
    do {                                                                                           \
        struct buf expect_b_;                                                                      \
        buf_init(&expect_b_, 0);                                                                   \
        tell(w, delivered, &expect_b_);                                                            \
        if (strcmp(buf_cstr(&expect_b_), want) != 0)                                               \
            fail_msg("line %d: got \"%s\", wanted \"%s\"", __LINE__, buf_cstr(&expect_b_), want);  \
        buf_done(&expect_b_);                                                                      \
    } while (0)

#define HOOK(name, more) "  - {name: " name ", " more ", webhook: {url: 'http://x/'}}\n"
#define ONE(more)        "notify:\n  receivers:\n" HOOK("r", more)

/* ---- timing ----------------------------------------------------------------------------------------------- */

static void a_group_waits_then_tells_changes_then_repeats(void **state)
{
    struct world w = world_with(ONE("group_by: [job]"), 100);

    (void)state;
    assert_int_equal(groups_due_ms(w.g), INT64_MAX); /* nobody wakes for nothing */
    take(&w, "n=a,job=j", false);
    assert_int_equal(groups_due_ms(w.g), T0 + 30 * S);
    w.now += 10 * S;
    take(&w, "n=b,job=j", false);
    expect(&w, true, "");
    w.now = T0 + 30 * S; /* group_wait */
    expect(&w, true, "r{job=\"j\"}: +a +b");
    expect(&w, true, "");
    assert_int_equal(groups_due_ms(w.g), T0 + 330 * S);
    take(&w, "n=c,job=j", false);
    w.now = T0 + 329 * S;
    take(&w, "n=a,job=j", false);
    take(&w, "n=b,job=j", false);
    take(&w, "n=c,job=j", false);
    expect(&w, true, "");
    w.now = T0 + 330 * S; /* group_interval */
    expect(&w, true, "r{job=\"j\"}: +a +b +c");
    for (int i = 1; i < 48; i++) { /* the rest of 4 h */
        w.now += 300 * S;
        take(&w, "n=a,job=j", false);
        take(&w, "n=b,job=j", false);
        take(&w, "n=c,job=j", false);
        expect(&w, true, "");
    }
    w.now = T0 + (330 + 4 * 3600) * S - 1;
    expect(&w, true, "");
    take(&w, "n=a,job=j", false);
    take(&w, "n=b,job=j", false);
    take(&w, "n=c,job=j", false);
    w.now++; /* repeat_interval */
    expect(&w, true, "r{job=\"j\"}: +a +b +c");
    groups_free(w.g);
}

static void groups_are_apart_by_their_labels(void **state)
{
    struct world w =
        world_with("notify:\n  receivers:\n" HOOK("one", "group_wait: 0s")
                       HOOK("by", "group_by: [b, a], group_wait: 0s, matchers: ['a=~\".+\"']")
                           HOOK("each", "group_by: ['...'], group_wait: 0s, matchers: [a=2]"),
                   100);

    (void)state;
    take(&w, "n=x,a=1,b=1", false);
    take(&w, "n=y,a=1,b=1", false);
    struct groups_stats st;
    groups_count(w.g, &st);
    assert_int_equal(st.groups, 2);
    expect(&w, true, "by{a=\"1\", b=\"1\"}: +x +y; one{}: +x +y");
    w.now += 100 * S;
    take(&w, "n=x,a=1,b=1", false);
    take(&w, "n=y,a=1,b=1", false);
    take(&w, "n=z", false);
    w.now += 200 * S;
    expect(&w, true, "one{}: +x +y +z");
    take(&w, "n=u,a=2", false);
    expect(&w, true, "by{a=\"2\"}: +u; each{a=\"2\", n=\"u\"}: +u");
    groups_free(w.g);
}

static void what_is_over_is_told_to_who_knows_of_it(void **state)
{
    struct world w = world_with("notify:\n  receivers:\n" HOOK("r", "group_wait: 10s")
                                    HOOK("quiet", "group_wait: 10s, send_resolved: false"),
                                100);

    (void)state;
    take(&w, "n=gone", false);
    w.now += 5 * S;
    take(&w, "n=gone", true); /* within group_wait: nobody hears of it */
    take(&w, "n=a", false);
    take(&w, "n=b", false);
    w.now += 5 * S;
    expect(&w, true, "quiet{}: +a +b; r{}: +a +b");
    take(&w, "n=a", true);
    w.now += 300 * S - 1;
    take(&w, "n=b", false);
    expect(&w, true, "");
    w.now++;
    expect(&w, true, "r{}: -a +b");
    take(&w, "n=b", true);
    take(&w, "n=never", true);
    w.now += 300 * S;
    expect(&w, true, "r{}: -b");
    struct groups_stats st;
    groups_count(w.g, &st);
    assert_int_equal(st.alerts, 0);
    assert_int_equal(st.groups, 0);
    assert_int_equal(st.bytes, 0);
    assert_int_equal(groups_due_ms(w.g), INT64_MAX);
    take(&w, "n=b", false); /* again: a new group, which waits */
    w.now += 9 * S;
    expect(&w, true, "");
    w.now += S;
    expect(&w, true, "quiet{}: +b; r{}: +b");
    groups_free(w.g);
}

static void an_alert_that_nobody_confirms_is_over(void **state)
{
    struct world w = world_with(ONE("group_wait: 0s, group_interval: 1m"), 100);
    struct notice *n = NULL;

    (void)state;
    take(&w, "n=a", false); /* good for 240 s */
    expect(&w, true, "r{}: +a");
    w.now += 180 * S;
    expect(&w, true, "");
    w.now += 60 * S;
    assert_ok(groups_next(w.g, w.now, &n, &err), &err);
    assert_true(n->alerts[0].resolved);
    assert_int_equal(n->alerts[0].ends_ns, (T0 + 240 * S) * 1000000);
    groups_told(w.g, n, true, w.now);
    groups_free(w.g);
}

static void an_alert_that_comes_back_between_looks_is_no_news(void **state)
{
    struct world w = world_with(ONE("group_wait: 0s"), 100);

    (void)state;
    take(&w, "n=a", false);
    expect(&w, true, "r{}: +a");
    take(&w, "n=a", true);
    w.now += 100 * S;
    take(&w, "n=a", false);
    w.now += 200 * S;
    expect(&w, true, "");
    groups_free(w.g);
}

static void what_is_not_delivered_is_told_later(void **state)
{
    struct world w = world_with(ONE("group_wait: 0s, group_interval: 1m"), 100);

    (void)state;
    take(&w, "n=a", false);
    expect(&w, false, "r{}: +a");
    expect(&w, true, "");
    w.now += 60 * S;
    expect(&w, true, "r{}: +a");
    take(&w, "n=a", true);
    w.now += 60 * S;
    expect(&w, false, "r{}: -a");
    w.now += 60 * S;
    expect(&w, true, "r{}: -a");
    w.now += 60 * S;
    expect(&w, true, "");
    groups_free(w.g);
}

/* What changes while a notice is under way is not taken for told. */
static void changes_during_a_delivery_are_told_after_it(void **state)
{
    struct world w = world_with(ONE("group_wait: 0s, group_interval: 1m"), 100);
    struct notice *n = NULL, *other = NULL;

    (void)state;
    take(&w, "n=a", false);
    take(&w, "n=b", false);
    assert_ok(groups_next(w.g, w.now, &n, &err), &err);
    take(&w, "n=a", true);
    take(&w, "n=c", false);
    w.now += 90 * S;
    assert_ok(groups_next(w.g, w.now, &other, &err), &err);
    assert_null(other); /* one at a time */
    take(&w, "n=b", false);
    groups_told(w.g, n, true, w.now);
    expect(&w, true, "r{}: -a +b +c");
    take(&w, "n=b", true);
    w.now += 60 * S;
    assert_ok(groups_next(w.g, w.now, &n, &err), &err);
    take(&w, "n=b", false); /* fires again while its end is told */
    groups_told(w.g, n, true, w.now);
    w.now += 60 * S;
    expect(&w, true, "r{}: +b +c");
    groups_free(w.g);
}

/* ---- silences ----------------------------------------------------------------------------------------------- */

static void silenced_alerts_are_left_out(void **state)
{
    struct world w = world_with(
        ONE("group_wait: 0s, group_interval: 1m, repeat_interval: 10m") "  silences:\n"
                                                                        "  - {matchers: "
                                                                        "['n=~\"a|b\"'], from: "
                                                                        "2026-01-01T00:02:00Z, "
                                                                        "until: "
                                                                        "2026-01-01T00:20:00Z}\n"
                                                                        "  - {matchers: [x=y]}\n",
        100);
    struct groups_stats st;

    (void)state;
    take(&w, "n=a", false);
    take(&w, "n=s,x=y", false); /* silenced without an end */
    expect(&w, true, "r{}: +a");
    groups_get_stats(w.g, w.now, &st);
    assert_int_equal(st.silenced, 1);
    w.now = T0 + 120 * S;
    take(&w, "n=b", false);
    take(&w, "n=c", false);
    expect(&w, true, "r{}: +c");
    take(&w, "n=a", true); /* while it is silenced */
    take(&w, "n=b", true); /* was never told */
    w.now += 60 * S;
    take(&w, "n=c", false);
    take(&w, "n=s,x=y", false);
    expect(&w, true, "");
    while (w.now < T0 + 1200 * S - 60 * S) {
        w.now += 60 * S;
        take(&w, "n=c", false);
        tell(&w, true, NULL);
    }
    w.now = T0 + 1200 * S; /* the silence ends: so does a, for who was told of it */
    take(&w, "n=c", false);
    expect(&w, true, "r{}: -a +c");
    groups_free(w.g);
}

/* A message without it says that it is over to whoever counts what fires: a pager closes its incident. */
static void a_silenced_alert_that_a_message_lacked_is_told_again(void **state)
{
    struct world w = world_with(
        "notify:\n  silences:\n"
        "  - {matchers: [n=a], from: 2026-01-01T00:02:00Z, until: 2026-01-01T00:05:00Z}\n"
        "  receivers:\n" HOOK("r", "group_wait: 0s, group_interval: 1m, repeat_interval: 10h"),
        100);

    (void)state;
    take(&w, "n=a", false);
    take(&w, "n=b", false);
    expect(&w, true, "r{}: +a +b");
    w.now = T0 + 120 * S;
    take(&w, "n=a", false);
    take(&w, "n=b", true);
    expect(&w, true, "r{}: -b");
    w.now = T0 + 240 * S;
    take(&w, "n=a", false);
    expect(&w, true, "");
    w.now = T0 + 300 * S;
    take(&w, "n=a", false);
    expect(&w, true, "r{}: +a");
    w.now = T0 + 420 * S; /* once */
    take(&w, "n=a", false);
    expect(&w, true, "");
    groups_free(w.g);
}

static void a_clock_that_is_set_back_delays_nothing(void **state)
{
    struct world w =
        world_with(ONE("group_wait: 30s, group_interval: 1m, repeat_interval: 10m"), 100);

    (void)state;
    take(&w, "n=a", false);
    w.now -= 3600 * S; /* while it waits for its first message */
    take(&w, "n=a", false);
    expect(&w, true, "r{}: +a");
    w.now += 3600 * S;
    take(&w, "n=a", false);
    take(&w, "n=b", false);
    expect(&w, true, "r{}: +a +b");
    w.now -= 3600 * S; /* after one */
    take(&w, "n=a", false);
    take(&w, "n=b", false);
    take(&w, "n=c", false);
    expect(&w, true, "r{}: +a +b +c");
    for (int i = 0; i < 10; i++) {
        w.now += 60 * S;
        take(&w, "n=a", false);
        take(&w, "n=b", false);
        take(&w, "n=c", false);
        expect(&w, true, i < 9 ? "" : "r{}: +a +b +c");
    }
    groups_free(w.g);
}

/* ---- bounds, reloads ------------------------------------------------------------------------------------------ */

static void memory_is_bounded(void **state)
{
    struct world w = world_with(ONE("group_wait: 0s, matchers: ['n!=skip']"), 3);
    struct groups_stats st;

    (void)state;
    assert_true(take(&w, "n=skip", false)); /* nobody's: costs nothing */
    assert_true(take(&w, "n=a", false));
    assert_true(take(&w, "n=b", false));
    assert_true(take(&w, "n=c", false));
    assert_false(take(&w, "n=d", false));
    assert_true(take(&w, "n=a", false));
    groups_count(w.g, &st);
    assert_int_equal(st.alerts, 3);
    assert_int_equal(st.dropped, 1);
    expect(&w, true, "r{}: +a +b +c");
    take(&w, "n=a", true);
    w.now += 300 * S;
    take(&w, "n=b", false);
    take(&w, "n=c", false);
    expect(&w, true, "r{}: -a +b +c"); /* c and b are good for 240 s: confirmed just now */
    assert_true(take(&w, "n=d", false));
    groups_free(w.g);
}

/* Rules may say more of an alert each time. */
static void words_that_grow_are_bounded(void **state)
{
    const size_t most = 1 << 20, each = 300 << 10;
    struct world w =
        world_with(ONE("group_wait: 0s, group_interval: 1m, send_resolved: true"), 100);
    char *big = malloc(each + 1), name[] = "n0";
    struct groups_stats st;

    (void)state;
    memset(big, 'x', each);
    big[each] = '\0';
    for (int i = 0; i < 8; i++) {
        const struct label label = {LIT("n"), {name, 2}}, words = {LIT("w"), {big, each}};
        const struct labels ls = {&label, 1};
        struct rule_notice n = {.labels = ls,
                                .starts_ns = T0 * 1000000,
                                .ends_ns = (T0 + 240 * S) * 1000000,
                                .generator_url = ""};
        name[1] = (char)('0' + i);
        for (unsigned more = 0; more < 2; more++) {
            n.annotations = (struct labels){&words, more};
            struct notify_alert *a = alert_new(&ls, &n);
            assert_true(groups_take(w.g, a, w.now));
            notify_alert_unref(a);
        }
    }
    groups_count(w.g, &st);
    assert_int_equal(st.alerts, 8);
    assert_in_range(st.bytes, 3 * each, most);
    expect(&w, true, "r{}: +n0 +n1 +n2 +n3 +n4 +n5 +n6 +n7");
    free(big);
    groups_free(w.g);
}

static void another_file_keeps_what_was_told(void **state)
{
    struct world w =
        world_with("notify:\n  receivers:\n" HOOK("r", "group_by: [job], group_wait: 0s")
                       HOOK("old", "group_wait: 0s"),
                   100);
    struct direct_plan *p;
    struct notice *n = NULL;

    (void)state;
    take(&w, "n=a,job=j", false);
    take(&w, "n=b,job=k", false);
    expect(&w, true, "old{}: +a +b; r{job=\"j\"}: +a; r{job=\"k\"}: +b");
    take(&w, "n=c,job=j", false);
    w.now += 300 * S;
    take(&w, "n=a,job=j", false);
    take(&w, "n=b,job=k", false);
    take(&w, "n=c,job=j", false);
    do { /* on its way while the file changes */
        if (n)
            groups_told(w.g, n, false, w.now);
        assert_ok(groups_next(w.g, w.now, &n, &err), &err);
        assert_non_null(n);
    } while (!nx_slice_is(n->receiver->cfg->name, "r"));
    p = plan_of("notify:\n  receivers:\n" HOOK("new", "group_wait: 10s, matchers: [n=b]")
                    HOOK("r", "group_by: [job], group_wait: 0s, matchers: ['job!=k']"));
    assert_ok(groups_set_plan(w.g, p, w.now, &err), &err);
    direct_plan_unref(p);
    groups_told(w.g, n, true, w.now); /* of the file before */
    expect(&w, true, "");
    w.now += 10 * S;
    expect(&w, true, "new{}: +b");
    take(&w, "n=a,job=j", true);
    take(&w, "n=c,job=j", false);
    w.now += 290 * S;
    take(&w, "n=b,job=k", false);
    take(&w, "n=c,job=j", false);
    expect(&w, true, "r{job=\"j\"}: -a +c");
    p = plan_of("notify: {}\n"); /* nobody */
    assert_ok(groups_set_plan(w.g, p, w.now, &err), &err);
    direct_plan_unref(p);
    struct groups_stats st;
    groups_count(w.g, &st);
    assert_int_equal(st.alerts, 0);
    assert_int_equal(st.groups, 0);
    groups_free(w.g);
}

static void a_reload_without_memory_changes_nothing(void **state)
{
    (void)state;
    for (unsigned k = 1;; k++) {
        struct world w = world_with(ONE("group_by: [job], group_wait: 0s"), 100);
        struct direct_plan *p = plan_of("notify:\n  receivers:\n" HOOK("x", "group_wait: 0s")
                                            HOOK("r", "group_by: [job], group_wait: 0s"));
        bool failed;
        nx_status st;

        take(&w, "n=a,job=j", false);
        take(&w, "n=b,job=k", false);
        tell(&w, true, NULL);
        oom_fail_at(k);
        st = groups_set_plan(w.g, p, w.now, &err);
        failed = oom_off();
        w.now += S;
        if (st)
            expect(&w, true, "");
        else
            expect(&w, true, "x{}: +a +b");
        groups_free(w.g);
        direct_plan_unref(p);
        if (!failed) {
            assert_ok(st, &err);
            return;
        }
        assert_status(st, NX_NOMEM);
    }
}

static void taking_without_memory_is_told(void **state)
{
    (void)state;
    for (unsigned k = 1;; k++) {
        struct world w = world_with(ONE("group_by: [job], group_wait: 0s"), 100);
        struct notify_alert *a = alert_of("n=a,job=j", T0 + 240 * S, false);
        bool ok, failed;

        oom_fail_at(k);
        ok = groups_take(w.g, a, w.now);
        failed = oom_off();
        assert_int_equal(ok, !failed);
        if (!ok)
            assert_true(groups_take(w.g, a, w.now)); /* the next time rules tell of it */
        expect(&w, true, "r{job=\"j\"}: +a");
        notify_alert_unref(a);
        groups_free(w.g);
        if (!failed)
            return;
    }
}

/* ---- restarts -------------------------------------------------------------------------------------------------- */

#define RESTART ONE("group_by: [job], group_wait: 0s, group_interval: 1m, repeat_interval: 1h")
#define GRACE   (600 * S)

static void save(struct world *w, struct buf *to)
{
    buf_init(to, 0);
    assert_ok(state_write(w->g, to, w->now, &err), &err);
    assert_false(groups_changed(w->g));
}

static void a_restart_neither_repeats_nor_loses(void **state)
{
    struct world w = world_with(RESTART, 100), again = world_with(RESTART, 100);
    struct buf b;

    (void)state;
    take(&w, "n=\"q\xc3\xbc,job=j", false);
    take(&w, "n=b,job=j", false);
    take(&w, "n=c,job=k", false);
    assert_false(groups_changed(w.g));
    tell(&w, true, NULL);
    assert_true(groups_changed(w.g));
    take(&w, "n=new,job=j", false); /* not told */
    save(&w, &b);
    groups_free(w.g);

    again.now = w.now + 24 * 3600 * S; /* a day later: a grace for rules to speak in */
    assert_ok(state_read(again.g, buf_view(&b), again.now, GRACE, &err), &err);
    take(&again, "n=b,job=j", false);
    take(&again, "n=\"q\xc3\xbc,job=j", false);
    expect(&again, true,
           "r{job=\"j\"}: +\"q\xc3\xbc +b; r{job=\"k\"}: +c"); /* an hour is long over */
    again.now += GRACE + 239 * S;
    take(&again, "n=b,job=j", false);
    take(&again, "n=\"q\xc3\xbc,job=j", true);
    expect(&again, true, "r{job=\"j\"}: -\"q\xc3\xbc +b");
    again.now += 61 * S;
    take(&again, "n=b,job=j", false);
    expect(&again, true, "r{job=\"k\"}: -c"); /* nobody told of it again */
    groups_free(again.g);
    buf_done(&b);
}

static void a_quick_restart_tells_nothing(void **state)
{
    struct world w = world_with(RESTART, 100), again = world_with(RESTART, 100);
    struct buf b;

    (void)state;
    take(&w, "n=a,job=j", false);
    tell(&w, true, NULL);
    save(&w, &b);
    again.now = w.now + 10 * S;
    assert_ok(state_read(again.g, buf_view(&b), again.now, GRACE, &err), &err);
    take(&again, "n=a,job=j", false);
    expect(&again, true, "");
    again.now = w.now + 3600 * S;
    take(&again, "n=a,job=j", false);
    expect(&again, true, "r{job=\"j\"}: +a"); /* its repeat is when it would have been */
    groups_free(w.g);
    groups_free(again.g);
    buf_done(&b);
}

static void other_texts_are_no_state(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"version\":2,\"alerts\":[]}",
        "{\"version\":1}",
        "{\"version\":1,\"alerts\":[{}]}",
        "{\"version\":1,\"alerts\":[1]}",
        "{\"version\":1,\"alerts\":[{\"receiver\":\"r\",\"toldAt\":1,\"labels\":{\"n\":1},"
        "\"annotations\":{},\"startsNs\":1,\"goodMs\":1,\"generatorURL\":\"\"}]}",
        "{\"version\":1,\"alerts\":[{\"receiver\":\"r\",\"toldAt\":1,\"labels\":{\"n\":\"a\"},"
        "\"annotations\":{},\"startsNs\":1,\"goodMs\":-1,\"generatorURL\":\"\"}]}",
    };
    struct world w = world_with(RESTART, 100);
    struct groups_stats st;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++)
        assert_status(state_read(w.g, STR(texts[i]), w.now, GRACE, &err), NX_CORRUPT);
    assert_ok(
        state_read(w.g,
                   LIT("{\"version\":1,\"alerts\":[{\"receiver\":\"gone\",\"toldAt\":1,\"labels\":{"
                       "\"n\":\"a\"},"
                       "\"annotations\":{},\"startsNs\":1,\"goodMs\":1,\"generatorURL\":\"\"}]}"),
                   w.now, GRACE, &err),
        &err);
    groups_count(w.g, &st);
    assert_int_equal(st.alerts, 0);
    groups_free(w.g);
}

/* Any sequence of events: nobody is told that something is over of which they did not know, nor the same twice, and
 * when all is quiet nothing is left. */
static void any_history_ends_with_everybody_knowing(void **state)
{
    struct test_random r = {7};

    (void)state;
    for (int round = 0; round < 300 / TEST_STRIDE + 1; round++) {
        struct world w =
            world_with(ONE("group_by: [job], group_wait: 5s, group_interval: 20s"), 100);
        bool firing[8] = {0}, known[8] = {0};
        for (int step = 0; step < 200 + 60; step++) {
            struct notice *n = NULL;
            for (int i = 0; i < 8; i++) {
                char text[40];
                if (step < 200 && test_random_below(&r, 20) == 0)
                    firing[i] = !firing[i];
                else if (step == 200)
                    firing[i] = false;
                snprintf(text, sizeof text, "n=%d,job=%d", i, i % 3);
                take(&w, text, !firing[i]);
            }
            w.now += 1000 + (int64_t)test_random_below(&r, 3000);
            for (;;) {
                bool delivered = step >= 200 || test_random_below(&r, 4) > 0;
                assert_ok(groups_next(w.g, w.now, &n, &err), &err);
                if (!n)
                    break;
                for (size_t i = 0; i < n->n_alerts; i++) {
                    int which = *labels_get_str(&n->alerts[i].alert->labels, "n").ptr - '0';
                    assert_true(!n->alerts[i].resolved || known[which]);
                    assert_int_equal(firing[which], !n->alerts[i].resolved);
                    if (delivered)
                        known[which] = !n->alerts[i].resolved;
                }
                groups_told(w.g, n, delivered, w.now);
            }
        }
        struct groups_stats st;
        groups_count(w.g, &st);
        assert_int_equal(st.alerts, 0);
        for (int i = 0; i < 8; i++)
            assert_false(known[i]);
        groups_free(w.g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_waits_then_tells_changes_then_repeats),
        cmocka_unit_test(groups_are_apart_by_their_labels),
        cmocka_unit_test(what_is_over_is_told_to_who_knows_of_it),
        cmocka_unit_test(an_alert_that_nobody_confirms_is_over),
        cmocka_unit_test(an_alert_that_comes_back_between_looks_is_no_news),
        cmocka_unit_test(what_is_not_delivered_is_told_later),
        cmocka_unit_test(changes_during_a_delivery_are_told_after_it),
        cmocka_unit_test(silenced_alerts_are_left_out),
        cmocka_unit_test(a_silenced_alert_that_a_message_lacked_is_told_again),
        cmocka_unit_test(a_clock_that_is_set_back_delays_nothing),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(words_that_grow_are_bounded),
        cmocka_unit_test(another_file_keeps_what_was_told),
        cmocka_unit_test(a_reload_without_memory_changes_nothing),
        cmocka_unit_test(taking_without_memory_is_told),
        cmocka_unit_test(a_restart_neither_repeats_nor_loses),
        cmocka_unit_test(a_quick_restart_tells_nothing),
        cmocka_unit_test(other_texts_are_no_state),
        cmocka_unit_test(any_history_ends_with_everybody_knowing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
