/* test_files.c - rule files: RUL-001 to RUL-013. Errors are Prometheus's, to the letter. */
#include "tests/support/test.h"

#include "src/rules/rules.h"
#include "tests/support/oom.h"

static struct nx_err err;
static struct buf told;

static void tell(void *ctx, const char *text)
{
    (void)ctx;
    buf_printf(&told, "%s\n", text);
}

static struct rule_files *load(const char *text, bool legacy)
{
    const struct rule_load_opts opts = {.legacy_names = legacy, .error = tell};
    struct rule_files *f = NULL;

    buf_init(&told, 0);
    if (!rule_files_parse(&f, STR(text), "r.yml", &opts, &err))
        assert_non_null(f);
    else
        assert_null(f);
    return f;
}

// clang-format off
static const struct {
    const char *text, *errors;
} bad[] = {
    { "groups: 5\n",
      "r.yml: yaml: unmarshal errors:\n  line 1: cannot unmarshal !!int `5` into []rulefmt.RuleGroup\n" },
    { "foo: 1\n",
      "r.yml: yaml: unmarshal errors:\n  line 1: field foo not found in type rulefmt.RuleGroups\n" },
    { "groups:\n- name: a\n  foo: 1\n",
      "r.yml: yaml: unmarshal errors:\n  line 3: field foo not found in type rulefmt.RuleGroup\n" },
    { "groups:\n- name: a\n  rules:\n  - alert: x\n    expr: 1\n    expr: 2\n",
      "r.yml: yaml: unmarshal errors:\n  line 6: mapping key \"expr\" already defined at line 5\n" },
    { "groups:\n- name: a\n  rules:\n  - alert: x\n    expr: [1]\n",
      "r.yml: yaml: unmarshal errors:\n  line 5: cannot unmarshal !!seq into string\n" },
    { "groups:\n- name: a\n- name: a\n- name: ''\n",
      "r.yml: 3:3: groupname: \"a\" is repeated in the same file\nr.yml: 4:3: Groupname must not be empty\n" },
    { "groups:\n- name: a\n  labels: {a-b: c, __name__: d}\n",
      "r.yml: invalid label name: __name__\nr.yml: invalid label name: a-b\n" },
    { "groups:\n- name: a\n  rules:\n  - record: x\n    alert: y\n    expr: 1\n  -\n  - expr: a+\n  - alert: q\n",
      "r.yml: 4:13: 5:12: group \"a\", rule 1, \"y\": only one of 'record' and 'alert' must be set\n"
      "r.yml: 0:0: 0:0: group \"a\", rule 2, \"\": one of 'record' or 'alert' must be set\n"
      "r.yml: 8:11: group \"a\", rule 2, \"\": could not parse expression: 1:3: parse error: unexpected end of input\n"
      "r.yml: 0:0: group \"a\", rule 3, \"q\": field 'expr' must be set in rule\n" },
    { "groups:\n- name: a\n  rules:\n  - record: a-b\n    expr: 1\n    for: 5m\n    keep_firing_for: 1m\n    annotations: {a: b}\n",
      "r.yml: 4:13: group \"a\", rule 1, \"a-b\": invalid field 'annotations' in recording rule\n"
      "r.yml: 4:13: group \"a\", rule 1, \"a-b\": invalid field 'for' in recording rule\n"
      "r.yml: 4:13: group \"a\", rule 1, \"a-b\": invalid field 'keep_firing_for' in recording rule\n"
      "r.yml: 4:13: group \"a\", rule 1, \"a-b\": invalid recording rule name: a-b\n" },
    { "groups:\n- name: a\n  rules:\n  - record: 'a{b=\"c\"}'\n    expr: 1\n",
      "r.yml: 4:13: group \"a\", rule 1, \"a{b=\\\"c\\\"}\": invalid recording rule name: a{b=\"c\"}\n"
      "r.yml: 4:13: group \"a\", rule 1, \"a{b=\\\"c\\\"}\": braces present in the recording rule name; should it be in expr?: a{b=\"c\"}\n" },
    { "groups:\n- name: a\n  rules:\n  - alert: x\n    expr: 1\n    labels: {a-b: c, __name__: d, e: '{{ .x', f: '{{ foo }}'}\n    annotations: {a-b: c, d: '{{ if }}', e: '{{ $y }}'}\n",
      "r.yml: group \"a\", rule 1, \"x\": invalid label name: __name__\n"
      "r.yml: group \"a\", rule 1, \"x\": invalid label name: a-b\n"
      "r.yml: group \"a\", rule 1, \"x\": invalid annotation name: a-b\n"
      "r.yml: group \"a\", rule 1, \"x\": label \"e\": template: __alert_x:1: unclosed action\n"
      "r.yml: group \"a\", rule 1, \"x\": label \"f\": template: __alert_x:1: function \"foo\" not defined\n"
      "r.yml: group \"a\", rule 1, \"x\": annotation \"d\": template: __alert_x:1: missing value for if\n"
      "r.yml: group \"a\", rule 1, \"x\": annotation \"e\": template: __alert_x:1: undefined variable \"$y\"\n" },
    { "groups:\n- name: g\n  labels: {a: '{{ x', b: '{{ own', c: '{{ y }}'}\n  rules:\n  - record: r\n    expr: 1\n"
      "  - alert: A\n    expr: up\n    labels: {b: fine}\n  - alert: B\n    expr: up\n    labels: {b: fine}\n",
      "r.yml: 2:3: group \"g\", label \"a\": template: __alert_A:1: function \"x\" not defined\n"
      "r.yml: 2:3: group \"g\", label \"c\": template: __alert_A:1: function \"y\" not defined\n" },
    { "groups:\n- name: g\n  interval: foo\n",
      "r.yml: not a valid duration string: \"foo\" (line 3: groups[0].interval)\n" },
};
// clang-format on

static void what_is_wrong_is_told_in_full(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(bad); i++) {
        struct rule_files *f = load(bad[i].text, true);
        if (f)
            fail_msg("%s: taken", bad[i].text);
        assert_string_equal(buf_cstr(&told), bad[i].errors);
        assert_memory_equal(err.text, bad[i].errors, strlen(err.text)); /* the first of them */
        buf_done(&told);
    }
}

static void a_file_becomes_groups(void **state)
{
    struct rule_files *f = load("groups:\n"
                                "-\n"
                                "- name: one\n"
                                "  interval: 15s\n"
                                "  query_offset: 0s\n"
                                "  limit: 7\n"
                                "  labels: {team: a, z: 1.10}\n"
                                "  rules:\n"
                                "  - record: a:b\n"
                                "    expr: sum( x ) by(c)\n"
                                "    labels: {team: b, gone: ''}\n"
                                "  - alert: Not a word\n"
                                "    expr: 1\n"
                                "    for: 1m\n"
                                "    keep_firing_for: 2m\n"
                                "    annotations: {s: '{{ $value }}'}\n"
                                "- name: two\n",
                                false);
    const struct rule_group_def *g;

    (void)state;
    if (!f)
        fail_msg("%s", err.text);
    assert_int_equal(f->n_groups, 2);
    assert_int_equal(f->n_rules, 2);
    g = &f->groups[0];
    assert_int_equal(g->interval_ms, 15000);
    assert_int_equal(g->query_offset_ms, 0);
    assert_int_equal(f->groups[1].query_offset_ms, -1);
    assert_int_equal(g->limit, 7);
    assert_string_equal(g->rules[0].query.ptr, "sum by (c) (x)");
    assert_int_equal(g->rules[0].labels.n, 3); /* gone, team, z */
    assert_string_equal(labels_get_str(&g->rules[0].labels, "team").ptr, "b");
    assert_string_equal(labels_get_str(&g->rules[0].labels, "z").ptr, "1.10");
    assert_true(g->rules[1].alerting);
    assert_string_equal(g->rules[1].name.ptr, "Not a word");
    assert_int_equal(g->rules[1].for_ms, 60000);
    assert_int_equal(g->rules[1].keep_firing_for_ms, 120000);
    assert_string_equal(labels_get_str(&g->rules[1].labels, "team").ptr, "a");
    assert_string_equal(labels_get_str(&g->rules[1].annotations, "s").ptr, "{{ $value }}");
    rule_files_unref(rule_files_ref(f));
    rule_files_unref(f);
    buf_done(&told);
}

static void an_empty_file_has_no_rules_and_utf8_names_are_names(void **state)
{
    struct rule_files *f = load("", true);

    (void)state;
    assert_int_equal(f->n_groups, 0);
    rule_files_unref(f);
    f = load("groups:\n- name: a\n  rules:\n  - record: a-b\n    expr: 1\n    labels: {c-d: e}\n",
             false);
    assert_int_equal(f->n_rules, 1);
    rule_files_unref(f);
    buf_done(&told);
}

static void groups_that_say_the_same_have_one_fingerprint(void **state)
{
    static const char *const texts[] = {
        "groups:\n- name: a\n  rules:\n  - alert: x\n    expr: a + b\n    labels: {a: b, c: d}\n",
        "groups:\n- rules:\n  - expr: a+b # same\n    labels: {c: d, a: b}\n    alert: x\n  name: "
        "a\n",
        "groups:\n- name: a\n  rules:\n  - alert: x\n    expr: a + b\n    labels: {a: b}\n",
        "groups:\n- name: a\n  rules:\n  - alert: x\n    expr: a - b\n    labels: {a: b, c: d}\n",
        "groups:\n- name: a\n  rules:\n  - alert: x\n    for: 1s\n    expr: a + b\n    labels: {a: "
        "b, c: d}\n",
    };
    uint64_t prints[NX_COUNT(texts)];

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        struct rule_files *f = load(texts[i], false);
        assert_non_null(f);
        prints[i] = f->groups[0].fingerprint;
        rule_files_unref(f);
        buf_done(&told);
    }
    assert_int_equal(prints[0], prints[1]);
    for (size_t i = 2; i < NX_COUNT(texts); i++)
        assert_int_not_equal(prints[0], prints[i]);
}

static void a_missing_file_is_told_by_name(void **state)
{
    const struct nx_slice path = LIT("/nonexistent/r.yml");
    struct rule_files *f = NULL;

    (void)state;
    assert_int_equal(rule_files_load(&f, &path, 1, NULL, &err), NX_NOTFOUND);
    assert_string_equal(err.text,
                        "/nonexistent/r.yml: open /nonexistent/r.yml: no such file or directory");
}

static void memory_may_fail_anywhere(void **state)
{
    static const char text[] = "groups:\n- name: a\n  labels: {l: m}\n  rules:\n  - alert: x\n    "
                               "expr: a{b=~\"c.*\"} > 1\n"
                               "    annotations: {s: '{{ $value | humanize }}'}\n";

    (void)state;
    for (unsigned at = 1;; at += TEST_STRIDE) {
        struct rule_files *f = NULL;
        nx_status st;

        oom_fail_at(at);
        st = rule_files_parse(&f, LIT(text), "r.yml", NULL, &err);
        bool met = oom_off();
        rule_files_unref(f);
        if (!met)
            return;
        if (st != NX_NOMEM && st != NX_OK)
            fail_msg("%u: %s", at, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_told_in_full),
        cmocka_unit_test(a_file_becomes_groups),
        cmocka_unit_test(an_empty_file_has_no_rules_and_utf8_names_are_names),
        cmocka_unit_test(groups_that_say_the_same_have_one_fingerprint),
        cmocka_unit_test(a_missing_file_is_told_by_name),
        cmocka_unit_test(memory_may_fail_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
