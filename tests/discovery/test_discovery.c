/* test_discovery.c - static and file discovery: groups, files that change, break, move and go. Time is
 * passed in; only the kernel's own news (inotify) is real. */
#include "tests/support/test.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/fs.h"
#include "src/base/log.h"
#include "src/discovery/discovery.h"
#include "tests/support/oom.h"

static struct nx_err err;

struct fixture {
    struct test_tmpdir tmp;
    struct discovery *d;
    struct config *cfg;
    unsigned changes, lines;
    char last_line[1000], changed_set[100];
};

static void keep_line(void *ctx, const char *line, size_t len)
{
    struct fixture *f = ctx;

    f->lines++;
    snprintf(f->last_line, sizeof f->last_line, "%.*s", (int)len, line);
}

static void setup(struct fixture *f)
{
    *f = (struct fixture){0};
    test_tmpdir_new(&f->tmp);
    log_capture(keep_line, f);
    assert_ok(discovery_new(&f->d, &err), &err);
}

static void teardown(struct fixture *f)
{
    discovery_free(f->d);
    config_unref(f->cfg);
    log_capture(NULL, NULL);
    test_tmpdir_done(&f->tmp);
}

static void write_file(struct fixture *f, const char *name, const char *text)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s", f->tmp.path, name);
    assert_ok(fs_publish(fs_real(), path, text, strlen(text), &err), &err);
}

static void remove_file(struct fixture *f, const char *name)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s", f->tmp.path, name);
    assert_int_equal(unlink(path), 0);
}

/* Applies the jobs of a configuration whose paths are relative to the fixture's folder. */
static void apply(struct fixture *f, const char *text)
{
    struct config *cfg = NULL, *old = f->cfg;
    struct discovery_set sets[10];

    if (config_parse(&cfg, STR(text), "c.yml", f->tmp.path, NULL, &err))
        fail_msg("%s", err.text);
    for (size_t i = 0; i < cfg->scrape_configs.n; i++)
        sets[i] = (struct discovery_set){cfg->scrape_configs.v[i].job_name,
                                         &cfg->scrape_configs.v[i].sds};
    assert_ok(discovery_apply(f->d, sets, cfg->scrape_configs.n, &err), &err);
    f->cfg = cfg;
    config_unref(old); /* nothing may point into it any more */
}

static void note_change(void *ctx, struct nx_slice name)
{
    struct fixture *f = ctx;

    f->changes++;
    snprintf(f->changed_set, sizeof f->changed_set, "%.*s", (int)name.len, name.ptr);
}

/* Polls at a time long before any refresh is due: only news of the watcher count. */
static unsigned poll_news(struct fixture *f)
{
    struct pollfd p = {.fd = discovery_fd(f->d), .events = POLLIN};

    assert_true(p.fd >= 0);
    poll(&p, 1, 2000);
    f->changes = 0;
    discovery_poll(f->d, 0, note_change, f);
    return f->changes;
}

/* "t1,t2{a=b,...} | ..." with the fixture's folder as DIR; sources are left out. */
static void print_groups(struct fixture *f, const char *set, struct buf *b)
{
    struct arena *a = arena_new(0);
    struct discovery_groups groups;

    assert_ok(discovery_groups(f->d, STR(set), a, &groups, &err), &err);
    for (size_t i = 0; i < groups.n; i++) {
        const struct discovery_group *g = &groups.v[i];

        assert_true(g->source.len > 0);
        for (size_t k = 0; k < i; k++)
            assert_false(nx_slice_eq(groups.v[k].source, g->source));
        buf_str(b, i ? " | " : "");
        for (size_t k = 0; k < g->targets.n; k++)
            buf_printf(b, "%s%.*s", k ? "," : "", (int)g->targets.v[k].len, g->targets.v[k].ptr);
        buf_char(b, '{');
        for (uint32_t k = 0; k < g->labels.n; k++) {
            struct nx_slice value = g->labels.v[k].value;
            size_t dir = strlen(f->tmp.path);

            buf_printf(b, "%s%.*s=", k ? "," : "", (int)g->labels.v[k].name.len,
                       g->labels.v[k].name.ptr);
            if (value.len > dir && !memcmp(value.ptr, f->tmp.path, dir))
                buf_printf(b, "DIR%.*s", (int)(value.len - dir), value.ptr + dir);
            else
                buf_slice(b, value);
        }
        buf_char(b, '}');
    }
    arena_free(a);
}

static void expect_groups(struct fixture *f, const char *set, const char *want)
{
    struct buf b;

    buf_init(&b, 0);
    print_groups(f, set, &b);
    assert_buf(&b, want, set);
    buf_done(&b);
}

static void expect_stats(struct fixture *f, uint64_t read_errors, size_t n_files)
{
    struct arena *a = arena_new(0);
    struct discovery_stats stats;

    assert_ok(discovery_get_stats(f->d, a, &stats, &err), &err);
    assert_int_equal(stats.file_read_errors, read_errors);
    assert_int_equal(stats.n_files, n_files);
    arena_free(a);
}

static void static_groups_are_what_the_configuration_says(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    apply(&f, "scrape_configs:\n"
              "- job_name: a\n"
              "  static_configs: [{targets: [x:1, y:2], labels: {env: prod, gone: ''}}, {targets: "
              "[]}, {targets: [z]}]\n"
              "- job_name: b\n");
    expect_groups(&f, "a", "x:1,y:2{env=prod,gone=} | {} | z{}"); /* CFG-084 */
    expect_groups(&f, "b", "");
    expect_groups(&f, "unknown", "");
    assert_int_equal(discovery_target_count(f.d, STR("a")), 3);
    assert_true(discovery_next_ms(f.d) == INT64_MAX);
    teardown(&f);
}

static void files_are_read_in_both_formats(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    write_file(&f, "a.json",
               "[{\"targets\": [\"j:1\"], \"labels\": {\"k\": \"v\", \"__meta_filepath\": "
               "\"own\"}}, {\"Targets\": []}]");
    write_file(&f, "b.yml", "- targets: [y:1, 'y:2']\n  labels: {n: 010}\n- {}\n");
    write_file(&f, "c.txt", "nothing of ours");
    apply(&f, "scrape_configs: [{job_name: a, file_sd_configs: [{files: ['*.json', b.yml, "
              "missing.yml]}]}]");
    expect_groups(&f, "a",
                  "j:1{__meta_filepath=DIR/a.json,k=v} | {__meta_filepath=DIR/a.json} | "
                  "y:1,y:2{__meta_filepath=DIR/b.yml,n=010} | {__meta_filepath=DIR/b.yml}");
    expect_stats(&f, 0, 2);
    assert_int_equal(discovery_target_count(f.d, STR("a")), 3);
    teardown(&f);
}

static void a_changed_file_is_read_again_at_once(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    write_file(&f, "a.json", "[{\"targets\": [\"one\"]}]");
    apply(&f, "scrape_configs: [{job_name: a, file_sd_configs: [{files: ['*.json']}]},\n"
              "                 {job_name: b, static_configs: [{targets: [s]}]}]");
    expect_groups(&f, "a", "one{__meta_filepath=DIR/a.json}");
    write_file(&f, "a.json", "[{\"targets\": [\"two\"]}]");
    assert_int_equal(poll_news(&f), 1); /* CFG-086 */
    assert_string_equal(f.changed_set, "a");
    expect_groups(&f, "a", "two{__meta_filepath=DIR/a.json}");

    write_file(&f, "a.json", "[{\"targets\": [\"two\"]}]"); /* the same again */
    assert_int_equal(poll_news(&f), 0);

    write_file(&f, "new.json", "[{\"targets\": [\"three\"]}]");
    assert_int_equal(poll_news(&f), 1);
    expect_groups(&f, "a", "two{__meta_filepath=DIR/a.json} | three{__meta_filepath=DIR/new.json}");

    remove_file(&f, "a.json");
    assert_int_equal(poll_news(&f), 1);
    expect_groups(&f, "a", "three{__meta_filepath=DIR/new.json}");

    write_file(&f, "new.json", "[]");
    assert_int_equal(poll_news(&f), 1);
    expect_groups(&f, "a", "");
    teardown(&f);
}

static void a_broken_file_keeps_the_groups_it_had(void **state)
{
    static const char *const broken[] = {"[{\"targets\": [",
                                         "[{\"targets\": 3}]",
                                         "[null]",
                                         "{}",
                                         "[{\"target\": []}]",
                                         "[{\"labels\": {\"\": \"x\"}}]",
                                         "[{\"labels\": {\"a\": 1}}]",
                                         ""};
    struct fixture f;

    (void)state;
    setup(&f);
    write_file(&f, "a.json", "[{\"targets\": [\"good\"]}]");
    write_file(&f, "b.yml", "[{targets: [good]}]");
    apply(&f, "scrape_configs: [{job_name: a, file_sd_configs: [{files: ['a.json', 'b.yml']}]}]");
    for (size_t i = 0; i < NX_COUNT(broken); i++) {
        f.lines = 0;
        write_file(&f, "a.json", broken[i]);
        if (poll_news(&f))
            fail_msg("%s counted as a change", broken[i]);
        expect_groups(
            &f, "a",
            "good{__meta_filepath=DIR/a.json} | good{__meta_filepath=DIR/b.yml}"); /* CFG-087 */
        assert_in_range(f.lines, 1, 2);
    }
    expect_stats(&f, NX_COUNT(broken), 2);
    write_file(&f, "a.json", "[{\"targets\": [\"good\"]}]");
    poll_news(&f);
    write_file(&f, "b.yml", "- null\n"); /* CFG-088 */
    assert_int_equal(poll_news(&f), 0);
    assert_non_null(strstr(f.last_line, "nil target group item found (index 0)"));
    write_file(&f, "b.yml", "- {foo: bar}\n");
    assert_int_equal(poll_news(&f), 0);
    assert_non_null(strstr(f.last_line, "field foo not found in type"));
    teardown(&f);
}

/* As a ConfigMap is mounted: files are links through ..data, which is swapped by a rename. */
static void a_swapped_link_is_noticed(void **state)
{
    struct fixture f;
    char from[400], to[400];

    (void)state;
    setup(&f);
    for (int v = 1; v <= 2; v++) {
        char name[40], text[60];

        snprintf(from, sizeof from, "%s/..v%d", f.tmp.path, v);
        assert_int_equal(mkdir(from, 0755), 0);
        snprintf(name, sizeof name, "..v%d/a.json", v);
        snprintf(text, sizeof text, "[{\"targets\": [\"v%d\"]}]", v);
        write_file(&f, name, text);
    }
    snprintf(to, sizeof to, "%s/..data", f.tmp.path);
    assert_int_equal(symlink("..v1", to), 0);
    snprintf(from, sizeof from, "%s/a.json", f.tmp.path);
    assert_int_equal(symlink("..data/a.json", from), 0);
    apply(&f, "scrape_configs: [{job_name: a, file_sd_configs: [{files: ['*.json']}]}]");
    expect_groups(&f, "a", "v1{__meta_filepath=DIR/a.json}");
    snprintf(from, sizeof from, "%s/..data_tmp", f.tmp.path);
    assert_int_equal(symlink("..v2", from), 0);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(poll_news(&f), 1);
    expect_groups(&f, "a", "v2{__meta_filepath=DIR/a.json}");
    teardown(&f);
}

static void a_file_half_written_is_not_read(void **state)
{
    struct fixture f;
    char path[400];
    FILE *out;

    (void)state;
    setup(&f);
    apply(&f, "scrape_configs: [{job_name: a, file_sd_configs: [{files: ['*.json']}]}]");
    snprintf(path, sizeof path, "%s/a.json", f.tmp.path);
    out = fopen(path, "w");
    assert_non_null(out);
    fputs("[{\"targets\":", out);
    fflush(out);
    poll_news(&f);
    expect_stats(&f, 0, 0);
    fputs(" [\"x\"]}]", out);
    fclose(out);
    assert_int_equal(poll_news(&f), 1);
    expect_groups(&f, "a", "x{__meta_filepath=DIR/a.json}");
    expect_stats(&f, 0, 1);
    teardown(&f);
}

static void a_folder_that_comes_later_is_found_by_the_clock(void **state)
{
    struct fixture f;
    char path[400];
    int64_t now;

    (void)state;
    setup(&f);
    apply(&f, "scrape_configs: [{job_name: a, file_sd_configs: [{files: ['sd/*.json'], "
              "refresh_interval: 1m}]}]");
    now = clock_mono_ns() / 1000000;
    assert_in_range((uintmax_t)(discovery_next_ms(f.d) - now), 0,
                    5000); /* cannot be watched: looked at */
    snprintf(path, sizeof path, "%s/sd", f.tmp.path);
    assert_int_equal(mkdir(path, 0755), 0);
    write_file(&f, "sd/a.json", "[{\"targets\": [\"x\"]}]");
    discovery_poll(f.d, discovery_next_ms(f.d) - 1, note_change, &f);
    assert_int_equal(f.changes, 0);
    discovery_poll(f.d, discovery_next_ms(f.d), note_change, &f);
    assert_int_equal(f.changes, 1);
    expect_groups(&f, "a", "x{__meta_filepath=DIR/sd/a.json}");
    assert_true(discovery_next_ms(f.d) > now + 50000); /* now it is watched */

    remove_file(&f, "sd/a.json");
    assert_int_equal(rmdir(path), 0); /* and gone again */
    assert_int_equal(poll_news(&f), 1);
    expect_groups(&f, "a", "");
    assert_int_equal(mkdir(path, 0755), 0);
    write_file(&f, "sd/a.json", "[{\"targets\": [\"y\"]}]");
    discovery_poll(f.d, discovery_next_ms(f.d), note_change, &f);
    expect_groups(&f, "a", "y{__meta_filepath=DIR/sd/a.json}");
    write_file(&f, "sd/a.json", "[{\"targets\": [\"z\"]}]");
    assert_int_equal(poll_news(&f), 1);
    teardown(&f);
}

static void a_reload_keeps_what_is_the_same(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    write_file(&f, "a.json", "[{\"targets\": [\"x\"]}]");
    apply(&f, "scrape_configs: [{job_name: a, file_sd_configs: [{files: [a.json]}]}]");
    remove_file(&f, "a.json");
    write_file(&f, "a.json", "broken");
    apply(
        &f,
        "scrape_configs:\n"
        "- {job_name: renamed, file_sd_configs: [{files: [a.json]}]}\n"
        "- {job_name: shares, file_sd_configs: [{files: [a.json]}, {files: [a.json]}]}\n" /* CFG-079 */
        "- {job_name: s, static_configs: [{targets: [y]}]}\n"
        "- {job_name: none, dns_sd_configs: [{names: [x]}]}\n");
    expect_groups(&f, "a", "");
    expect_groups(&f, "renamed", "x{__meta_filepath=DIR/a.json}");
    expect_groups(&f, "shares", "x{__meta_filepath=DIR/a.json}");
    expect_groups(&f, "s", "y{}");
    expect_groups(&f, "none", "");
    expect_stats(&f, 0, 1);
    write_file(&f, "a.json", "[{\"targets\": [\"z\"]}]");
    assert_int_equal(poll_news(&f), 2);
    expect_groups(&f, "shares", "z{__meta_filepath=DIR/a.json}");
    teardown(&f);
}

static void no_memory_leaves_the_old_sets(void **state)
{
    struct fixture f;
    struct config *cfg = NULL;
    struct discovery_set set;

    (void)state;
    setup(&f);
    write_file(&f, "a.json", "[{\"targets\": [\"x\"], \"labels\": {\"a\": \"b\"}}]");
    apply(&f, "scrape_configs: [{job_name: a, static_configs: [{targets: [old]}]}]");
    assert_ok(config_parse(&cfg,
                           LIT("scrape_configs: [{job_name: a, static_configs: [{targets: [new]}], "
                               "file_sd_configs: [{files: ['*.json']}]}]"),
                           "c.yml", f.tmp.path, NULL, &err),
              &err);
    set = (struct discovery_set){cfg->scrape_configs.v[0].job_name, &cfg->scrape_configs.v[0].sds};
    for (unsigned n = 1;; n++) {
        nx_status st;

        oom_fail_at(n);
        st = discovery_apply(f.d, &set, 1, &err);
        if (!oom_off())
            break;
        if (!st) { /* only the file's contents were lost: that is a broken file */
            apply(&f, "scrape_configs: [{job_name: a, static_configs: [{targets: [old]}]}]");
            continue;
        }
        assert_int_equal(st, NX_NOMEM);
        expect_groups(&f, "a", "old{}");
    }
    expect_groups(&f, "a", "x{__meta_filepath=DIR/a.json,a=b} | new{}");
    discovery_free(f.d);
    f.d = NULL;
    config_unref(cfg);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(static_groups_are_what_the_configuration_says),
        cmocka_unit_test(files_are_read_in_both_formats),
        cmocka_unit_test(a_changed_file_is_read_again_at_once),
        cmocka_unit_test(a_broken_file_keeps_the_groups_it_had),
        cmocka_unit_test(a_swapped_link_is_noticed),
        cmocka_unit_test(a_file_half_written_is_not_read),
        cmocka_unit_test(a_folder_that_comes_later_is_found_by_the_clock),
        cmocka_unit_test(a_reload_keeps_what_is_the_same),
        cmocka_unit_test(no_memory_leaves_the_old_sets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
