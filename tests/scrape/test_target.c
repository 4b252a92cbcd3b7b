/* Targets out of discovered addresses: labels, URLs, refusals, places in the interval. */
#include "../support/test.h"

#include "src/scrape/target.h"

struct rig {
    struct config *cfg;
    struct relabel_work w;
    struct arena *a;
    struct target_made made;
    struct nx_err err;
};

/* Makes the first target of the first job of a configuration. */
static nx_status make(struct rig *r, const char *yaml)
{
    const struct config_static_sd *sd;

    memset(r, 0, sizeof *r);
    r->a = arena_new(0);
    assert_int_equal(relabel_work_init(&r->w, NULL), NX_OK);
    assert_ok(config_parse(&r->cfg, STR(yaml), "t.yml", ".", NULL, &r->err), &r->err);
    sd = r->cfg->scrape_configs.v[0].sds.v[0].u.statics;
    return target_make(&r->cfg->scrape_configs.v[0], sd->v[0].targets.v[0], &sd->v[0].labels, &r->w,
                       r->a, &r->made, &r->err);
}

static void rig_done(struct rig *r)
{
    relabel_work_done(&r->w);
    arena_free(r->a);
    config_unref(r->cfg);
}

static void expect_labels(const struct labels *ls, const char *want)
{
    struct buf b;

    buf_init(&b, 0);
    labels_print(&b, ls);
    assert_buf(&b, want, "labels");
    buf_done(&b);
}

static void a_target_has_the_jobs_defaults(void **state)
{
    struct labels public;
    struct rig r;

    (void)state;
    assert_ok(make(&r, "scrape_configs:\n- job_name: j\n  params: {b: [x, y], a: ['1 2']}\n"
                       "  static_configs: [{targets: ['h:1'], labels: {env: prod, __meta_x: m, "
                       "empty: ''}}]\n"),
              &r.err);
    expect_labels(&r.made.discovered,
                  "{__address__=\"h:1\", __meta_x=\"m\", __metrics_path__=\"/metrics\", "
                  "__param_a=\"1 2\", __param_b=\"x\", "
                  "__scheme__=\"http\", __scrape_interval__=\"1m\", __scrape_timeout__=\"10s\", "
                  "env=\"prod\", job=\"j\"}");
    assert_text(r.made.url, "http://h:1/metrics?a=1+2&b=x&b=y", "url");
    assert_int_equal(r.made.interval_ms, 60000);
    assert_int_equal(r.made.timeout_ms, 10000);
    public = labels_packed(&r.made.all, true);
    expect_labels(&public, "{env=\"prod\", instance=\"h:1\", job=\"j\"}");
    free((void *)(uintptr_t) public.v);
    rig_done(&r);
}

static void relabelling_can_change_all_of_it(void **state)
{
    struct rig r;

    (void)state;
    assert_ok(make(&r, "scrape_configs:\n- job_name: j\n  params: {a: [x]}\n  static_configs: "
                       "[{targets: ['h:1']}]\n"
                       "  relabel_configs:\n"
                       "  - {target_label: __scheme__, replacement: https}\n"
                       "  - {target_label: __metrics_path__, replacement: 'probe it?'}\n"
                       "  - {target_label: __param_a, replacement: '&='}\n"
                       "  - {target_label: __param_z, replacement: new}\n"
                       "  - {target_label: __address__, replacement: '[::1]:9'}\n"
                       "  - {target_label: __scrape_interval__, replacement: 90s}\n"
                       "  - {target_label: instance, replacement: me}\n"),
              &r.err);
    assert_text(r.made.url, "https://[::1]:9/probe%20it%3F?a=%26%3D&z=new", "url");
    assert_int_equal(r.made.interval_ms, 90000);
    assert_text(labels_get_str(&r.made.all, "instance"), "me", "instance");
    rig_done(&r);
    assert_ok(
        make(&r, "scrape_configs:\n- job_name: j\n  static_configs: [{targets: ['h:1']}]\n"
                 "  relabel_configs: [{action: drop, source_labels: [__address__], regex: h.*}]\n"),
        &r.err);
    assert_int_equal(r.made.all.n, 0);
    assert_true(r.made.discovered.n > 0);
    rig_done(&r);
}

static void what_is_no_target_says_why(void **state)
{
    static const struct {
        const char *label, *value, *error;
    } cases[] = {
        {"__address__", "", "no address"},
        {"__address__", "http://h:1/", "\"http://h:1/\" is not a valid hostname"},
        {"__scrape_interval__", "0s", "scrape interval cannot be 0"},
        {"__scrape_timeout__", "0s", "scrape timeout cannot be 0"},
        {"__scrape_timeout__", "2m",
         "scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")"},
        {"__scrape_native_histograms__", "perhaps",
         "error parsing scrape native histograms: strconv.ParseBool: parsing \"perhaps\": invalid "
         "syntax"},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        char yaml[512];
        struct rig r;
        snprintf(yaml, sizeof yaml,
                 "scrape_configs:\n- job_name: j\n  static_configs: [{targets: ['h:1']}]\n"
                 "  relabel_configs: [{target_label: %s, replacement: '%s'}]\n",
                 cases[i].label, cases[i].value);
        assert_status(make(&r, yaml), NX_BADINPUT);
        assert_string_equal(r.err.text, cases[i].error);
        rig_done(&r);
    }
}

static void equal_targets_have_one_hash(void **state)
{
    struct rig a, b, c;

    (void)state;
    assert_ok(make(&a, "scrape_configs: [{job_name: j, static_configs: [{targets: ['h:1'], labels: "
                       "{__meta_a: x}}]}]"),
              &a.err);
    assert_ok(make(&b, "scrape_configs: [{job_name: j, static_configs: [{targets: ['h:1'], labels: "
                       "{__meta_a: y}}]}]"),
              &b.err);
    assert_ok(make(&c, "scrape_configs: [{job_name: j, static_configs: [{targets: ['h:1'], labels: "
                       "{a: y}}]}]"),
              &c.err);
    assert_true(a.made.hash == b.made.hash);
    assert_true(a.made.hash != c.made.hash);
    rig_done(&a);
    rig_done(&b);
    rig_done(&c);
}

static void places_in_the_interval_are_stable_and_spread(void **state)
{
    const int64_t interval = 15000000000, now = 1700000000123456789;
    const uint32_t slots[] = {4, 64, 256};
    struct test_random r = {1};

    (void)state;
    for (size_t k = 0; k < NX_COUNT(slots); k++) {
        unsigned quarters[4] = {0};
        for (int i = 0; i < 400; i++) {
            uint64_t hash = test_random(&r);
            int64_t first = target_first_ns(hash, 7, interval, slots[k], now);
            int64_t finer = target_first_ns(hash, 7, interval, slots[k] * 2, now) - first;
            assert_true(first >= now && first < now + interval);
            assert_true(target_first_ns(hash, 7, interval, slots[k], first) == first);
            assert_true(target_first_ns(hash, 7, interval, slots[k], first + 1) ==
                        first + interval);
            assert_true(target_first_ns(hash, 7, interval, slots[k], now + 3600000000000 * 24) %
                            interval ==
                        first % interval);
            assert_int_equal((first - 7) % interval % (interval / slots[k]), 0); /* T4 */
            /* twice as many slots move it by half a slot, or not at all */
            finer = (finer + interval) % interval;
            assert_true(finer == 0 || finer == interval / slots[k] / 2);
            quarters[first % interval * 4 / interval]++;
        }
        for (int i = 0; i < 4; i++)
            assert_in_range(quarters[i], 60, 140);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_has_the_jobs_defaults),
        cmocka_unit_test(relabelling_can_change_all_of_it),
        cmocka_unit_test(what_is_no_target_says_why),
        cmocka_unit_test(equal_targets_have_one_hash),
        cmocka_unit_test(places_in_the_interval_are_stable_and_spread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
