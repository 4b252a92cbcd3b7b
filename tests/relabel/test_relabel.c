/* test_relabel.c - relabelling, rule by rule: CFG-062 to CFG-071. Label sets are written as they print. */
#include "tests/support/test.h"

#include "src/relabel/relabel.h"
#include "tests/support/oom.h"

static struct nx_err err;

/* Rules from the YAML of a relabel_configs list. */
static struct config *rules_of(const char *yaml, const struct relabel_rules **rules)
{
    struct config *cfg = NULL;
    char text[2000];

    snprintf(text, sizeof text, "scrape_configs:\n- job_name: a\n  relabel_configs: %s\n", yaml);
    if (config_parse(&cfg, STR(text), "rules.yml", ".", NULL, &err))
        fail_msg("%s: %s", yaml, err.text);
    *rules = &cfg->scrape_configs.v[0].relabel;
    return cfg;
}

/* "a=1 b=2": names and values without blanks; \n in a value is a line end. */
static void set_labels(struct relabel_work *w, char *text)
{
    relabel_work_begin(w, NULL);
    for (char *pair = strtok(text, " "); pair; pair = strtok(NULL, " ")) {
        char *eq = strchr(pair, '=');

        assert_non_null(eq);
        *eq = '\0';
        labels_builder_set(&w->labels, STR(pair), STR(eq + 1));
    }
}

static void print_labels(struct relabel_work *w, struct buf *b)
{
    struct labels ls;

    assert_ok(labels_builder_build(&w->labels, &ls, &err), &err);
    for (uint32_t i = 0; i < ls.n; i++) {
        buf_printf(b, "%s", i ? " " : "");
        buf_slice(b, ls.v[i].name);
        buf_char(b, '=');
        buf_slice(b, ls.v[i].value);
    }
}

static const struct {
    const char *rules, *in, *out; /* out NULL: dropped */
} cases[] = {
    /* replace */
    {"[{source_labels: [a], target_label: b}]", "a=1", "a=1 b=1"},
    {"[{source_labels: [a], target_label: b}]", "a=1 b=2", "a=1 b=1"},
    {"[{source_labels: [none], target_label: b}]", "a=1 b=2", "a=1"},
    {"[{source_labels: [a, b], target_label: c}]", "a=1 b=2", "a=1 b=2 c=1;2"},
    {"[{source_labels: [a, b], separator: '', target_label: c}]", "a=1 b=2", "a=1 b=2 c=12"},
    {"[{source_labels: [a, none], target_label: c}]", "a=1", "a=1 c=1;"},
    {"[{source_labels: [a], regex: 'f(.*)', target_label: b, replacement: 'x$1y'}]", "a=foo",
     "a=foo b=x"}, /* group "1y" */
    {"[{source_labels: [a], regex: 'f(.*)', target_label: b, replacement: 'x${1}y'}]", "a=foo",
     "a=foo b=xooy"},
    {"[{source_labels: [a], regex: 'f(.*)', target_label: b, replacement: '$0-$1'}]", "a=foo",
     "a=foo b=foo-oo"},
    {"[{source_labels: [a], regex: '(?P<x>.)(.*)', target_label: b, replacement: '$x'}]", "a=foo",
     "a=foo b=f"},
    {"[{source_labels: [a], regex: 'oo', target_label: b}]", "a=foo", "a=foo"}, /* anchored */
    {"[{source_labels: [a], regex: 'f', target_label: b}]", "a=foo", "a=foo"},
    {"[{source_labels: [a], regex: '.*', target_label: b, replacement: '$$x$9'}]", "a=foo",
     "a=foo b=$x"},
    {"[{source_labels: [a], regex: '(.*)', target_label: a, replacement: ''}]", "a=foo z=1", "z=1"},
    {"[{source_labels: [a], regex: 'no', target_label: a, replacement: ''}]", "a=foo", "a=foo"},
    {"[{target_label: b, replacement: fixed}]", "a=1", "a=1 b=fixed"},
    {"[{target_label: a, replacement: ''}]", "a=1 b=2", "b=2"},
    {"[{source_labels: [a], regex: 'x-(.*)', target_label: '${1}', replacement: v}]", "a=x-name",
     "a=x-name name=v"},
    {"[{source_labels: [a], regex: 'x-(.*)', target_label: '${1}', replacement: v}]", "a=x-",
     "a=x-"},
    {"[{source_labels: [a], regex: 'x-(.*)', target_label: 'p_$1', replacement: '$1'}]", "a=x-1",
     "a=x-1 p_1=1"},
    {"[{source_labels: [a], regex: '', target_label: b, replacement: was_empty}]", "z=1",
     "b=was_empty z=1"},
    {"[{source_labels: [a], regex: '', target_label: b, replacement: was_empty}]", "a=1", "a=1"},
    {"[{source_labels: [a], regex: null, target_label: b, replacement: x}]", "a=1", "a=1"},
    {"[{source_labels: [a], regex: '(.*)', target_label: b}]", "a=l1\nl2",
     "a=l1\nl2 b=l1\nl2"}, /* dot is newline, too */
    {"[{source_labels: [a], regex: 'l1.l2', target_label: b, replacement: y}]", "a=l1\nl2",
     "a=l1\nl2 b=y"},
    {"[{source_labels: [a], regex: 'a|b', target_label: b, replacement: y}]", "a=ab", "a=ab"},
    {"[{source_labels: [a], regex: '(?i)FOO', target_label: b, replacement: y}]", "a=foo",
     "a=foo b=y"},
    /* keep, drop */
    {"[{action: keep, source_labels: [a], regex: '1|2'}]", "a=1", "a=1"},
    {"[{action: keep, source_labels: [a], regex: '1|2'}]", "a=3", NULL},
    {"[{action: keep, source_labels: [none], regex: '1'}]", "a=3", NULL},
    {"[{action: drop, source_labels: [a], regex: '1.*'}]", "a=12", NULL},
    {"[{action: drop, source_labels: [a], regex: '1'}]", "a=12", "a=12"},
    {"[{action: drop, source_labels: [none]}]", "a=1", NULL}, /* (.*) matches nothing at all, too */
    {"[{action: drop, source_labels: [a], regex: 1}, {target_label: b, replacement: c}]", "a=1",
     NULL},
    {"[{target_label: a, replacement: '1'}, {action: drop, source_labels: [a], regex: 1}]", "a=2",
     NULL},
    {"[{action: keepequal, source_labels: [a], target_label: b}]", "a=1 b=1", "a=1 b=1"},
    {"[{action: keepequal, source_labels: [a], target_label: b}]", "a=1 b=2", NULL},
    {"[{action: keepequal, source_labels: [a, b], target_label: c}]", "a=1 b=2 c=1;2",
     "a=1 b=2 c=1;2"},
    {"[{action: keepequal, source_labels: [x], target_label: y}]", "a=1", "a=1"}, /* both empty */
    {"[{action: dropequal, source_labels: [a], target_label: b}]", "a=1 b=1", NULL},
    {"[{action: dropequal, source_labels: [a], target_label: b}]", "a=1 b=2", "a=1 b=2"},
    /* hashmod: the last eight bytes of the MD5 */
    {"[{action: hashmod, source_labels: [c], target_label: d, modulus: 1000}]", "c=baz",
     "c=baz d=976"},
    {"[{action: hashmod, source_labels: [c], target_label: d, modulus: 1000}]", "c=foo\nbar",
     "c=foo\nbar d=734"},
    {"[{action: hashmod, source_labels: [c], target_label: d, modulus: 18446744073709551615}]",
     "c=", "d=16825458760271544958"},
    /* names */
    {"[{action: labelmap, regex: '__meta_(.*)'}]", "__meta_a=1 b=2", "__meta_a=1 a=1 b=2"},
    {"[{action: labelmap, regex: 'a(.*)', replacement: 'b${1}'}]", "a1=1 a2=2",
     "a1=1 a2=2 b1=1 b2=2"},
    {"[{action: labelmap, regex: 'a(.*)', replacement: 'aa$1'}]", "a=1 aa=2", "a=1 aa=1 aaa=2"},
    {"[{action: labelmap, regex: '(.*)', replacement: fixed}]", "a=1 b=2", "a=1 b=2 fixed=2"},
    {"[{action: labelmap, regex: 'a(.*)'}]", "a=1 b=2", "=1 a=1 b=2"}, /* found by fuzz_relabel */
    {"[{action: labeldrop, regex: 'a.*'}]", "a1=1 a2=2 b=3", "b=3"},
    {"[{action: labeldrop, regex: '.*'}]", "a1=1 b=3", ""},
    {"[{action: labelkeep, regex: 'a.*|c'}]", "a1=1 a2=2 b=3 c=4", "a1=1 a2=2 c=4"},
    {"[{action: labeldrop, regex: 'x'}]", "a=1", "a=1"},
    /* letters */
    {"[{action: lowercase, source_labels: [a], target_label: b}]", "a=FoO", "a=FoO b=foo"},
    {"[{action: uppercase, source_labels: [a], target_label: a}]", "a=straße", "a=STRAßE"},
    {"[{action: uppercase, source_labels: [a], target_label: a}]", "a=éñж", "a=ÉÑЖ"},
    {"[{action: lowercase, source_labels: [a], target_label: a}]", "a=ÀΣЩ", "a=àσщ"},
    {"[{action: lowercase, source_labels: [a], target_label: b}]",
     "a=\xff"
     "A",
     "a=\xff"
     "A b=\xef\xbf\xbd"
     "a"},
    {"[{action: lowercase, source_labels: [none], target_label: a}]", "a=X b=1", "b=1"},
    /* case of the action's own name */
    {"[{action: LabelDrop, regex: a}]", "a=1 b=2", "b=2"},
    {"[]", "a=1", "a=1"},
};

static void rules_do_what_prometheus_does(void **state)
{
    struct relabel_work w;

    (void)state;
    assert_ok(relabel_work_init(&w, &err), &err);
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        const struct relabel_rules *rules;
        struct config *cfg = rules_of(cases[i].rules, &rules);
        char in[200], about[300];
        struct buf out;
        bool kept;

        snprintf(in, sizeof in, "%s", cases[i].in);
        snprintf(about, sizeof about, "%s on %s", cases[i].rules, cases[i].in);
        set_labels(&w, in);
        assert_ok(relabel_apply(rules, &w, &kept, &err), &err);
        if (kept != !!cases[i].out)
            fail_msg("%s: %s", about, kept ? "kept" : "dropped");
        buf_init(&out, 0);
        print_labels(&w, &out);
        if (cases[i].out)
            assert_buf(&out, cases[i].out, about);
        buf_done(&out);
        config_unref(cfg);
    }
    relabel_work_done(&w);
}

static void names_made_by_templates_obey_the_validation_scheme(void **state)
{
    static const struct {
        const char *scheme, *in, *out;
    } schemes[] = {{"legacy", "a=x-b.c", "a=x-b.c"}, {"utf8", "a=x-b.c", "a=x-b.c b.c=v"}};
    struct relabel_work w;

    (void)state;
    assert_ok(relabel_work_init(&w, &err), &err);
    for (size_t i = 0; i < NX_COUNT(schemes); i++) {
        struct config *cfg = NULL;
        char text[400], in[100];
        struct buf out;
        bool kept;

        snprintf(
            text, sizeof text,
            "scrape_configs: [{job_name: a, metric_name_validation_scheme: %s, relabel_configs: "
            "[{source_labels: [a], regex: 'x-(.*)', target_label: '${1}', replacement: v}]}]",
            schemes[i].scheme);
        assert_ok(config_parse(&cfg, STR(text), "r.yml", ".", NULL, &err), &err);
        snprintf(in, sizeof in, "%s", schemes[i].in);
        set_labels(&w, in);
        assert_ok(relabel_apply(&cfg->scrape_configs.v[0].relabel, &w, &kept, &err), &err);
        assert_true(kept);
        buf_init(&out, 0);
        print_labels(&w, &out);
        assert_buf(&out, schemes[i].out, schemes[i].scheme);
        buf_done(&out);
        config_unref(cfg);
    }
    relabel_work_done(&w);
}

/* The budget of a series that nothing applies to: none. */
static void rules_that_change_nothing_allocate_nothing(void **state)
{
    const struct relabel_rules *rules;
    struct config *cfg =
        rules_of("[{action: drop, source_labels: [a, b], regex: 'x;y'},"
                 " {action: keep, source_labels: [a], regex: '1|2'},"
                 " {source_labels: [a], target_label: same},"
                 " {source_labels: [a], regex: 'zz(.*)', target_label: c, replacement: 'q$1'},"
                 " {action: labeldrop, regex: 'tmp_.*'},"
                 " {action: labelmap, regex: '__meta_(.*)'},"
                 " {target_label: same2, replacement: v}]",
                 &rules);
    struct relabel_work w;
    char in[] = "a=1 b=2 same=1 same2=v";
    struct label before[4];
    bool kept;

    (void)state;
    assert_ok(relabel_work_init(&w, &err), &err);
    set_labels(&w, in);
    assert_int_equal(w.labels.n, NX_COUNT(before));
    memcpy(before, w.labels.v, sizeof before);
    assert_ok(relabel_apply(rules, &w, &kept, &err), &err); /* buffers take their size */
    oom_fail_from(1);
    for (int i = 0; i < 100; i++) {
        relabel_work_begin(&w, &(struct labels){before, NX_COUNT(before)});
        assert_ok(relabel_apply(rules, &w, &kept, &err), &err);
        assert_true(kept);
    }
    assert_false(oom_off());
    relabel_work_done(&w);
    config_unref(cfg);
}

static void no_memory_is_no_verdict(void **state)
{
    const struct relabel_rules *rules;
    struct config *cfg =
        rules_of("[{source_labels: [a, b], target_label: c, replacement: 'x-$1'},"
                 " {action: hashmod, source_labels: [a], target_label: d, modulus: 7},"
                 " {action: labelmap, regex: '(.)', replacement: 'm_$1'},"
                 " {action: uppercase, source_labels: [c], target_label: e}]",
                 &rules);
    bool finished = false;

    (void)state;
    for (unsigned n = 1; !finished; n++) {
        struct relabel_work w = {0};
        char in[] = "a=1 b=2";
        bool kept = false;
        nx_status st;

        oom_fail_at(n);
        st = relabel_work_init(&w, &err);
        if (!st) {
            set_labels(&w, in);
            st = relabel_apply(rules, &w, &kept, &err);
        }
        finished = !oom_off();
        assert_int_equal(st, finished ? NX_OK : NX_NOMEM);
        assert_int_equal(kept, finished);
        relabel_work_done(&w);
    }
    config_unref(cfg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_do_what_prometheus_does),
        cmocka_unit_test(names_made_by_templates_obey_the_validation_scheme),
        cmocka_unit_test(rules_that_change_nothing_allocate_nothing),
        cmocka_unit_test(no_memory_is_no_verdict),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
