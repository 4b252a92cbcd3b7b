/* test_load.c - loading: shared references, expanded labels, joined paths, files of jobs, warnings,
 * `check config`, and memory that runs out at every step. */
#include "tests/support/test.h"

#include <unistd.h>

#include "src/base/fs.h"
#include "src/config/config.h"
#include "src/config/decode.h"
#include "tests/support/oom.h"

static struct nx_err err;

static struct config *parse(const char *text)
{
    struct config *cfg = NULL;

    assert_ok(config_parse(&cfg, STR(text), "c.yml", "/etc/narthex", NULL, &err), &err);
    return cfg;
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_ok(fs_publish(fs_real(), path, text, strlen(text), &err), &err);
}

static void a_configuration_lives_until_its_last_reference(void **state)
{
    struct config *cfg =
        parse("scrape_configs: [{job_name: a, relabel_configs: [{regex: x.*, target_label: y}]}]");
    struct config *second = config_ref(cfg);

    (void)state;
    config_unref(cfg);
    assert_text(second->scrape_configs.v[0].job_name, "a", "job_name");
    assert_true(regex_match(second->scrape_configs.v[0].relabel.v[0].regex, LIT("xyz")));
    config_unref(second);
    config_unref(NULL);
}

static void what_is_not_said_has_prometheus_defaults(void **state)
{
    struct config *cfg = parse("scrape_configs: [{job_name: a}]\nremote_write: [{url: http://x}]");
    const struct config_scrape *s = &cfg->scrape_configs.v[0];

    (void)state;
    assert_int_equal(cfg->global.scrape_interval_ms, 60000);
    assert_int_equal(cfg->global.scrape_timeout_ms, 10000);
    assert_int_equal(cfg->global.evaluation_interval_ms, 60000);
    assert_int_equal(s->scrape_interval_ms, 60000);
    assert_int_equal(s->scrape_timeout_ms, 10000);
    assert_text(s->metrics_path, "/metrics", "metrics_path");
    assert_text(s->scheme, "http", "scheme");
    assert_true(s->honor_timestamps && s->enable_compression && s->http.follow_redirects &&
                s->http.enable_http2);
    assert_false(s->honor_labels || s->scrape_native_histograms || s->extra_scrape_metrics);
    assert_int_equal(s->scrape_protocols.n, 4); /* CFG-033 */
    assert_int_equal(s->scrape_protocols.v[0], CONFIG_PROTO_OM_1_0_0);
    assert_int_equal(s->scrape_protocols.v[3], CONFIG_PROTO_TEXT_0_0_4);
    assert_int_equal(s->escaping, CONFIG_ESCAPE_ALLOW_UTF8);
    assert_false(cfg->remote_write.v[0].http.enable_http2); /* CFG-058 */
    assert_int_equal(cfg->remote_write.v[0].queue.capacity, 10000);
    config_unref(cfg);
}

static void jobs_take_over_what_global_says(void **state)
{
    struct config *cfg = NULL;
    const struct config_scrape *a, *b, *c;

    (void)state;
    assert_ok(config_load(&cfg, "tests/config/all_of_global.good.yml", NULL, &err), &err);
    a = &cfg->scrape_configs.v[0];
    b = &cfg->scrape_configs.v[1];
    c = &cfg->scrape_configs.v[2];
    assert_int_equal(a->scrape_interval_ms, 15000);
    assert_int_equal(a->scrape_timeout_ms, 7000);
    assert_int_equal(a->limits.body_size_bytes, 10 << 20);
    assert_int_equal(a->limits.samples, 1);
    assert_int_equal(a->limits.keep_dropped_targets, 6);
    assert_int_equal(a->scrape_protocols.n, 2);
    assert_int_equal(a->scrape_protocols.v[0], CONFIG_PROTO_PROTOBUF);
    assert_true(a->scrape_native_histograms && a->convert_classic_histograms_to_nhcb &&
                a->extra_scrape_metrics);
    assert_int_equal(a->escaping, CONFIG_ESCAPE_DOTS);
    assert_int_equal(a->validation, CONFIG_VALIDATION_LEGACY);
    assert_text(a->scrape_failure_log_file, "tests/config/f.log", "failure log");
    assert_int_equal(b->limits.body_size_bytes, 1536);
    assert_int_equal(b->limits.samples, 11);
    assert_int_equal(b->limits.targets, 2);
    assert_int_equal(b->fallback_scrape_protocol, CONFIG_PROTO_TEXT_0_0_4);
    assert_false(b->scrape_native_histograms);
    assert_int_equal(c->scrape_timeout_ms, 2000); /* CFG-042: lowered to the interval */
    config_unref(cfg);
}

static void native_histograms_ask_for_protobuf_first(void **state)
{
    struct config *cfg = parse("scrape_configs: [{job_name: a, scrape_native_histograms: true}]");

    (void)state;
    assert_int_equal(cfg->scrape_configs.v[0].scrape_protocols.n, 5); /* CFG-034 */
    assert_int_equal(cfg->scrape_configs.v[0].scrape_protocols.v[0], CONFIG_PROTO_PROTOBUF);
    config_unref(cfg);
}

struct warnings {
    char text[4000];
    unsigned n;
};

static void note_warning(void *ctx, const char *text)
{
    struct warnings *w = ctx;

    w->n++;
    strncat(w->text, text, sizeof w->text - strlen(w->text) - 2);
    strcat(w->text, "\n");
}

static void external_labels_take_values_from_the_environment(void **state)
{
    static const struct {
        const char *written, *expanded;
    } cases[] = {
        {"plain", "plain"},
        {"$NXT_A", "one"},
        {"${NXT_A}", "one"},
        {"x${NXT_A}y$NXT_A", "xoneyone"},
        {"$$NXT_A", "$NXT_A"},
        {"$$", "$"},
        {"a$", "a$"},
        {"$ a", "$ a"},
        {"${}x", "x"},
        {"${NXT_A", "NXT_A"},
        {"$NXT_UNSET-", "-"},
        {"${$}", "$"},
        {"$NXT_A-b", "one-b"},
        {"$-x", "x"},
        {"%{NXT_A}", "%{NXT_A}"},
    };
    struct warnings w = {0};
    struct config_opts opts = {.warn = note_warning, .ctx = &w};

    (void)state;
    setenv("NXT_A", "one", 1);
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        struct config *cfg = NULL;
        char text[200];

        snprintf(text, sizeof text, "global: {external_labels: {l: \"%s\"}}", cases[i].written);
        assert_ok(config_parse(&cfg, STR(text), "c.yml", ".", &opts, &err), &err);
        assert_text(labels_get_str(&cfg->global.external_labels, "l"), cases[i].expanded,
                    cases[i].written);
        config_unref(cfg);
    }
    assert_non_null(strstr(w.text, "Empty environment variable NXT_UNSET")); /* CFG-028 */
    assert_int_equal(w.n, 2);                                                /* and $- */
}

static void relative_paths_start_at_the_folder_of_the_file(void **state)
{
    struct config *cfg = parse("rule_files: [a.yml, /b.yml, ../c/*.yml, ./d//e.yml, '']\n"
                               "scrape_configs:\n"
                               "  - job_name: a\n"
                               "    basic_auth: {password_file: ../../../../p}\n"
                               "    tls_config: {ca_file: ca}\n"
                               "    http_headers: {X: {files: [f]}}\n"
                               "    file_sd_configs: [{files: [sd/*.json]}]\n");
    static const char *const want[] = {"/etc/narthex/a.yml", "/b.yml", "/etc/c/*.yml",
                                       "/etc/narthex/d/e.yml", ""};
    const struct config_scrape *s = &cfg->scrape_configs.v[0];

    (void)state;
    for (size_t i = 0; i < NX_COUNT(want); i++)
        assert_text(cfg->rule_files.v[i], want[i], "rule_files");
    assert_text(s->http.basic_auth->password_file, "/p", "password_file");
    assert_text(s->http.tls.ca_file, "/etc/narthex/ca", "ca_file");
    assert_text(s->http.headers.v[0].files.v[0], "/etc/narthex/f", "http_headers");
    assert_text(s->sds.v[0].u.file->files.v[0], "/etc/narthex/sd/*.json", "file_sd");
    config_unref(cfg);
}

static void jobs_in_files_of_their_own_come_after_the_others(void **state)
{
    struct test_tmpdir t;
    struct config *cfg = NULL;
    struct buf shown;
    char path[400];

    (void)state;
    test_tmpdir_new(&t);
    snprintf(path, sizeof path, "%s/c.yml", t.path);
    write_file(t.path, "c.yml",
               "global: {scrape_interval: 7s}\nscrape_config_files: ['jobs-*.yml']\n"
               "scrape_configs: [{job_name: main}]");
    write_file(t.path, "jobs-2.yml", "scrape_configs: [{job_name: late}]");
    write_file(t.path, "jobs-1.yml",
               "scrape_configs: [{job_name: early, file_sd_configs: [{files: [x.json]}]}, "
               "{job_name: next}]");
    assert_ok(config_load(&cfg, path, NULL, &err), &err);
    assert_int_equal(cfg->scrape_configs.n, 4);
    assert_text(cfg->scrape_configs.v[1].job_name, "early", "order");
    assert_text(cfg->scrape_configs.v[3].job_name, "late", "order");
    assert_int_equal(cfg->scrape_configs.v[3].scrape_interval_ms, 7000);
    snprintf(path, sizeof path, "%s/x.json", t.path);
    assert_text(cfg->scrape_configs.v[1].sds.v[0].u.file->files.v[0], path, "joined");
    buf_init(&shown, 0);
    config_yaml(cfg, &shown);
    assert_non_null(strstr(buf_cstr(&shown), "job_name: main"));
    assert_null(strstr(buf_cstr(&shown), "job_name: early")); /* the page shows the main file */
    buf_done(&shown);
    config_unref(cfg);

    write_file(t.path, "jobs-3.yml", "scrape_configs:\n- job_name: early\n");
    snprintf(path, sizeof path, "%s/c.yml", t.path);
    assert_status(config_load(&cfg, path, NULL, &err), NX_BADINPUT); /* CFG-021, CFG-022 */
    assert_non_null(strstr(
        err.text,
        "jobs-3.yml\": found multiple scrape configs with job name \"early\", first found in \""));
    assert_non_null(strstr(err.text, "jobs-3.yml:2: scrape_configs[0].job_name)"));
    write_file(t.path, "jobs-3.yml", "global: {}\n");
    assert_status(config_load(&cfg, path, NULL, &err), NX_BADINPUT);
    assert_non_null(strstr(err.text, "field global not found in type config.ScrapeConfigs"));
    test_tmpdir_done(&t);
}

static void agent_mode_refuses_what_it_cannot_do(void **state)
{
    static const char *const cases[][2] = {
        {"alerting: {alertmanagers: [{}]}", "field alerting is not allowed in agent mode"},
        {"rule_files: [a]", "field rule_files is not allowed in agent mode"},
        {"remote_read: [{url: http://a}]", "field remote_read is not allowed in agent mode"},
    };
    struct config_opts opts = {.agent = true};
    struct config *cfg = NULL;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        assert_status(config_parse(&cfg, STR(cases[i][0]), "c.yml", ".", &opts, &err), NX_BADINPUT);
        assert_string_equal(err.text, cases[i][1]);
    }
}

static void a_missing_file_is_told_as_go_tells_it(void **state)
{
    struct config *cfg = NULL;

    (void)state;
    assert_status(config_load(&cfg, "/nonexistent/c.yml", NULL, &err), NX_NOTFOUND);
    assert_string_equal(err.text, "open /nonexistent/c.yml: no such file or directory");
}

static void equal_sections_have_equal_fingerprints(void **state)
{
    struct config *a = parse(
        "scrape_configs: [{job_name: a, basic_auth: {username: u, password: p}}, {job_name: b}]");
    struct config *b = parse("scrape_configs:\n  - {scheme: http, basic_auth: {password: p, "
                             "username: u}, job_name: a}\n");
    struct config *c =
        parse("scrape_configs: [{job_name: a, basic_auth: {username: u, password: other}}]");

    (void)state;
    assert_true(a->scrape_configs.v[0].fingerprint == b->scrape_configs.v[0].fingerprint);
    assert_true(a->scrape_configs.v[0].fingerprint != c->scrape_configs.v[0].fingerprint);
    assert_true(a->scrape_configs.v[0].fingerprint != a->scrape_configs.v[1].fingerprint);
    config_unref(a);
    config_unref(b);
    config_unref(c);
}

static void parts_without_effect_are_warned_about_once(void **state)
{
    struct warnings w = {0};
    struct config *cfg = NULL;
    const char *what;
    size_t n = 0;

    (void)state;
    assert_ok(config_load(&cfg, "tests/config/every_sd.good.yml", NULL, &err), &err);
    config_warnings(cfg, note_warning, &w);
    assert_non_null(
        strstr(w.text, "kubernetes_sd_configs is accepted but has no effect in this version"));
    assert_null(strstr(w.text, "file_sd_configs"));
    assert_null(strstr(w.text, "static_configs"));
    config_unref(cfg);

    w = (struct warnings){0};
    cfg = parse("scrape_configs: [{job_name: a, static_configs: [{targets: [x]}]}]");
    config_warnings(cfg, note_warning, &w);
    assert_int_equal(w.n, 0);
    config_unref(cfg);
    while (config_later(n, &what))
        n++;
    assert_in_range(n, 1, 100);
}

/* The size of a field's member is that of what its kind reads and prints. */
static size_t kind_size(const struct field *f)
{
    switch (f->kind) {
    case F_STR:
    case F_PATH:
    case F_CHOICE:
    case F_REGEX:
        return sizeof(struct nx_slice);
    case F_SECRET:
        return sizeof(struct config_secret);
    case F_BOOL:
        return sizeof(bool);
    case F_TRI:
    case F_VALIDATION:
    case F_TLS:
    case F_ACTION:
        return sizeof(enum config_tri);
    case F_INT:
    case F_UINT:
    case F_DURATION:
    case F_BYTES:
        return sizeof(int64_t);
    case F_FLOAT:
        return sizeof(double);
    case F_LABELS:
    case F_LABEL_SET:
        return sizeof(struct labels);
    case F_URL:
        return sizeof(struct config_url);
    case F_TREE:
    case F_POINTER:
        return sizeof(void *);
    case F_STRUCT:
    case F_INLINE:
        return f->record->size;
    default:
        return sizeof(struct any_list);
    }
}

static void check_table(const struct record *r, unsigned depth)
{
    assert_true(depth < 8);
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (f->size != kind_size(f) || f->offset + f->size > r->size)
            fail_msg("%s: field %s has %zu bytes, its kind %zu", r->go, f->name, f->size,
                     kind_size(f));
        for (size_t k = 0; k < i; k++)
            assert_true(!*f->name || strcmp(f->name, r->fields[k].name));
        if (f->record)
            check_table(f->record, depth + 1);
    }
}

static void tables_fit_the_structs_they_describe(void **state)
{
    (void)state;
    check_table(&config_record, 0);
    for (int i = 0; i < CONFIG_SD_COUNT; i++) {
        assert_non_null(sd_rows[i].record);
        assert_string_equal(sd_rows[i].name, config_sd_name((enum config_sd_kind)i));
        check_table(sd_rows[i].record, 0);
    }
}

/* Every allocation fails once; nothing leaks and nothing half-made comes out. */
static void no_memory_at_any_step_is_an_error(void **state)
{
    static const char text[] = "global: {external_labels: {a: x$HOME}}\n"
                               "scrape_configs:\n"
                               "  - job_name: a\n"
                               "    bearer_token: x\n"
                               "    params: {a: [b]}\n"
                               "    relabel_configs: [{regex: a, target_label: b}]\n"
                               "    static_configs: [{targets: [a], labels: {b: c}}]\n"
                               "    dns_sd_configs: [{names: [a]}]\n"
                               "remote_write: [{url: 'http://u:p@x'}]\n";
    unsigned tried = 0;

    (void)state;
    for (unsigned n = 1;; n++) {
        struct config *cfg = NULL;
        nx_status st;

        oom_fail_at(n);
        st = config_parse(&cfg, STR(text), "c.yml", ".", NULL, &err);
        if (!oom_off()) {
            assert_int_equal(st, NX_OK);
            config_unref(cfg);
            break;
        }
        tried++;
        if (st)
            assert_null(cfg);
        else
            config_unref(cfg); /* libyaml's parser may do without */
    }
    assert_true(tried > 3);
}

/* ---- check config ---- */

static int run_check(const char *path, const struct config_check_flags *flags, struct buf *out,
                     struct buf *errs)
{
    buf_init(out, 0);
    buf_init(errs, 0);
    return config_check(path, flags, out, errs);
}

static int count_rules(void *ctx, const char *path, struct buf *out, struct buf *errs)
{
    (void)errs;
    buf_printf(out, "Checking %s\n", path);
    return ++*(int *)ctx, 0;
}

static void check_config_speaks_as_promtool(void **state)
{
    struct test_tmpdir t;
    struct buf out, errs;
    char path[400], want[2000];
    int rules = 0;
    struct config_check_flags flags = {.check_rules = count_rules, .ctx = &rules};

    (void)state;
    test_tmpdir_new(&t);
    snprintf(path, sizeof path, "%s/c.yml", t.path);
    write_file(t.path, "r1.yml", "groups: []\n");
    write_file(t.path, "r2.yml", "groups: []\n");
    write_file(t.path, "t.json", "[{\"targets\": [\"a:1\"]}]");
    write_file(t.path, "c.yml",
               "rule_files: ['r*.yml', none-*.yml]\nscrape_configs:\n- job_name: a\n"
               "  file_sd_configs: [{files: [t.json, missing.json]}]\n");
    assert_int_equal(run_check(path, &flags, &out, &errs), 0);
    snprintf(
        want, sizeof want,
        "Checking %s\n  WARNING: file \"%s/missing.json\" for file_sd in scrape job \"a\" does not "
        "exist\n"
        "  SUCCESS: 2 rule files found\n SUCCESS: %s is valid prometheus config file syntax\n\n"
        "Checking %s/r1.yml\nChecking %s/r2.yml\n",
        path, t.path, path, t.path, t.path);
    assert_buf(&out, want, "out");
    assert_buf(&errs, "", "errs");
    assert_int_equal(rules, 2);
    buf_done(&out);
    buf_done(&errs);

    write_file(t.path, "c.yml", "rule_files: [absent.yml]\n");
    assert_int_equal(run_check(path, &flags, &out, &errs), 1);
    snprintf(want, sizeof want, "  FAILED: \"%s/absent.yml\" does not point to an existing file\n",
             t.path);
    assert_buf(&errs, want, "absent rules");
    buf_done(&out);
    buf_done(&errs);

    write_file(t.path, "c.yml", "scrape_configs:\n- {job_name: a, bearer_token_file: tok}\n");
    assert_int_equal(run_check(path, NULL, &out, &errs), 1); /* CFG-158 */
    snprintf(want, sizeof want,
             "  FAILED: error checking authorization credentials or bearer token file \"%s/tok\": "
             "stat %s/tok: no such "
             "file or directory\n",
             t.path, t.path);
    assert_buf(&errs, want, "absent token");
    buf_done(&out);
    buf_done(&errs);
    flags = (struct config_check_flags){.syntax_only = true};
    assert_int_equal(run_check(path, &flags, &out, &errs), 0);
    buf_done(&out);
    buf_done(&errs);

    write_file(t.path, "t.json", "[{\"targets\": 3}]");
    write_file(t.path, "c.yml",
               "scrape_configs:\n- {job_name: a, file_sd_configs: [{files: [t.json]}]}\n");
    assert_int_equal(run_check(path, NULL, &out, &errs), 1);
    snprintf(want, sizeof want, "  FAILED: checking SD file \"%s/t.json\": ", t.path);
    assert_memory_equal(errs.ptr, want, strlen(want));
    buf_done(&out);
    buf_done(&errs);

    write_file(t.path, "c.yml", "scrape_configs:\n- {job_name: slow, scrape_interval: 5m}\n");
    flags = (struct config_check_flags){.lint_too_long_scrape_interval = true, .lint_fatal = true};
    assert_int_equal(run_check(path, &flags, &out, &errs), 3);
    assert_buf(&errs,
               "  FAILED: too long scrape interval found, data point will be marked as stale - "
               "job: slow, interval: 5m\n",
               "lint");
    buf_done(&out);
    buf_done(&errs);

    write_file(t.path, "c.yml", "foo: 1\n");
    assert_int_equal(run_check(path, NULL, &out, &errs), 1); /* only rule groups may have more */
    buf_char(&errs, '\0');
    assert_non_null(strstr(errs.ptr, "line 1: field foo not found in type config.plain"));
    buf_done(&out);
    buf_done(&errs);
    test_tmpdir_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_configuration_lives_until_its_last_reference),
        cmocka_unit_test(what_is_not_said_has_prometheus_defaults),
        cmocka_unit_test(jobs_take_over_what_global_says),
        cmocka_unit_test(native_histograms_ask_for_protobuf_first),
        cmocka_unit_test(external_labels_take_values_from_the_environment),
        cmocka_unit_test(relative_paths_start_at_the_folder_of_the_file),
        cmocka_unit_test(jobs_in_files_of_their_own_come_after_the_others),
        cmocka_unit_test(agent_mode_refuses_what_it_cannot_do),
        cmocka_unit_test(a_missing_file_is_told_as_go_tells_it),
        cmocka_unit_test(equal_sections_have_equal_fingerprints),
        cmocka_unit_test(parts_without_effect_are_warned_about_once),
        cmocka_unit_test(tables_fit_the_structs_they_describe),
        cmocka_unit_test(no_memory_at_any_step_is_an_error),
        cmocka_unit_test(check_config_speaks_as_promtool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
