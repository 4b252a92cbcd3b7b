/* test_labels.c - label sets: order, hashes, the text form, the builder. */
#include "tests/support/test.h"

#include "src/base/labels.h"
#include "tests/support/oom.h"

static struct nx_err err;

/* A set from "name=value" pieces, in any order. */
#define SET(b, ...)                                                                                \
    set_of((b), (const char *const[]){__VA_ARGS__}, NX_COUNT(((const char *const[]){__VA_ARGS__})))

static struct labels set_of(struct labels_builder *b, const char *const *v, size_t n)
{
    struct labels ls = {0};

    labels_builder_init(b);
    for (size_t i = 0; i < n; i++) {
        const char *eq = strchr(v[i], '=');

        labels_builder_set(b, nx_slice_of(v[i], (size_t)(eq - v[i])), STR(eq + 1));
    }
    assert_ok(labels_builder_build(b, &ls, &err), &err);
    return ls;
}

static void assert_prints(const struct labels *ls, const char *want)
{
    struct buf b;

    buf_init(&b, 0);
    labels_print(&b, ls);
    assert_buf(&b, want, "labels_print");
    buf_done(&b);
}

static void assert_prints_as_a_set(const struct labels *ls, const char *want)
{
    struct buf b;

    buf_init(&b, 0);
    labels_print_set(&b, ls);
    assert_buf(&b, want, "labels_print_set");
    buf_done(&b);
}

static void the_builder_sorts_replaces_and_drops_empty_values(void **state)
{
    struct labels_builder b;
    struct labels ls = SET(&b, "job=x", "__name__=up", "b=2", "a=1", "job=y", "b=", "none=");

    (void)state;
    assert_int_equal(ls.n, 3);
    assert_prints(&ls, "up{a=\"1\", job=\"y\"}");
    assert_prints_as_a_set(&ls, "{__name__=\"up\", a=\"1\", job=\"y\"}");
    assert_text(labels_get_str(&ls, "job"), "y", "job");
    assert_int_equal(labels_get_str(&ls, "b").len, 0);
    labels_builder_del(&b, LIT("a"));
    labels_builder_del(&b, LIT("absent"));
    assert_text(labels_builder_get(&b, LIT("job")), "y", "job");
    assert_int_equal(labels_builder_get(&b, LIT("a")).len, 0);
    labels_builder_done(&b);
    labels_builder_done(NULL);
}

static void the_builder_starts_from_a_base(void **state)
{
    struct labels_builder base, b;
    struct labels from = SET(&base, "a=1", "c=3"), ls;

    (void)state;
    labels_builder_init(&b);
    labels_builder_reset(&b, &from);
    labels_builder_set(&b, LIT("b"), LIT("2"));
    assert_ok(labels_builder_build(&b, &ls, &err), &err);
    assert_prints(&ls, "{a=\"1\", b=\"2\", c=\"3\"}");
    assert_prints(&from, "{a=\"1\", c=\"3\"}");
    labels_builder_reset(&b, NULL);
    assert_ok(labels_builder_build(&b, &ls, &err), &err);
    assert_prints(&ls, "{}");
    labels_builder_done(&b);
    labels_builder_done(&base);
}

static void many_labels_stay_sorted(void **state)
{
    struct labels_builder b;
    struct labels ls;
    static char names[500][16];

    (void)state;
    labels_builder_init(&b);
    for (int i = 0; i < 500; i++) {
        snprintf(names[i], sizeof names[i], "l%d", i * 7919 % 500);
        labels_builder_set(&b, STR(names[i]), LIT("v"));
    }
    assert_ok(labels_builder_build(&b, &ls, &err), &err);
    assert_int_equal(ls.n, 500);
    for (uint32_t i = 1; i < ls.n; i++)
        assert_true(nx_slice_cmp(ls.v[i - 1].name, ls.v[i].name) < 0);
    labels_builder_done(&b);
}

static void sets_print_as_prometheus_prints_metrics(void **state)
{
    struct labels_builder b;
    struct labels ls;

    (void)state;
    ls = SET(&b, "__name__=up");
    assert_prints(&ls, "up");
    labels_builder_done(&b);
    ls = SET(&b, "__name__=a:b", "q=say \"hi\"\\\n\t\x01");
    assert_prints(&ls, "a:b{q=\"say \\\"hi\\\"\\\\\\n\\t\\x01\"}");
    labels_builder_done(&b);
    ls = SET(&b, "__name__=my.metric", "a=1");
    assert_prints(&ls, "{\"my.metric\", a=\"1\"}");
    labels_builder_done(&b);
    ls = SET(&b, "__name__=my.metric");
    assert_prints(&ls, "{\"my.metric\"}");
    labels_builder_done(&b);
    ls = SET(&b, "a.b=1", "Z=\xc3\xa9\xff");
    assert_prints(&ls, "{Z=\"\xc3\xa9\\xff\", \"a.b\"=\"1\"}");
    labels_builder_done(&b);
}

static void json_keeps_html_raw_and_repairs_utf8(void **state)
{
    struct labels_builder b;
    struct labels ls = SET(&b, "__name__=up", "a=<&>\"\\\n\x01\x7f", "z=\xc3\xa9\xff");
    struct buf to;

    (void)state;
    buf_init(&to, 0);
    labels_print_json(&to, &ls);
    assert_buf(&to,
               "{\"__name__\":\"up\",\"a\":\"<&>\\\"\\\\\\n\\u0001\x7f\","
               "\"z\":\"\xc3\xa9\xef\xbf\xbd\"}",
               "labels_print_json");
    buf_done(&to);
    labels_builder_done(&b);
}

static void the_order_is_by_name_then_value_and_a_prefix_is_smaller(void **state)
{
    static const char *const in_order[][2] = {
        {"a=1", "a=1"}, {"a=1", "b=1"},   {"a=1", "b=2"}, {"a=2", "a=2"},
        {"a=2", "c=0"}, {"aa=0", "aa=0"}, {"b=0", "b=0"},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(in_order); i++) {
        for (size_t k = 0; k < NX_COUNT(in_order); k++) {
            struct labels_builder x, y;
            struct labels a = set_of(&x, in_order[i], 2), b = set_of(&y, in_order[k], 2);
            int c = labels_cmp(&a, &b);

            assert_int_equal((c > 0) - (c < 0), (i > k) - (i < k));
            assert_true(labels_eq(&a, &b) == (i == k));
            assert_true((labels_hash(&a) == labels_hash(&b)) == (i == k));
            labels_builder_done(&x);
            labels_builder_done(&y);
        }
    }
}

static void hashes_see_where_a_name_ends(void **state)
{
    struct labels_builder x, y;
    struct labels a = SET(&x, "a=bc"), b = SET(&y, "ab=c");

    (void)state;
    assert_true(labels_hash(&a) != labels_hash(&b));
    labels_builder_done(&x);
    labels_builder_done(&y);
}

static void grouping_looks_at_the_named_labels_or_at_all_but_them(void **state)
{
    const struct nx_slice names[] = {LIT("__name__"), LIT("a"), LIT("c"), LIT("zz")};
    struct labels_builder x, y, z;
    struct labels a = SET(&x, "__name__=m", "a=1", "b=2", "c=3"),
                  b = SET(&y, "__name__=n", "a=1", "b=9", "c=3"),
                  c = SET(&z, "__name__=o", "a=7", "b=2");

    (void)state;
    /* on (a, c, zz): a and b agree */
    assert_true(labels_eq_some(&a, &b, names + 1, 3, true));
    assert_true(labels_hash_some(&a, names + 1, 3, true) ==
                labels_hash_some(&b, names + 1, 3, true));
    assert_false(labels_eq_some(&a, &c, names + 1, 3, true));
    assert_true(labels_hash_some(&a, names + 1, 3, true) !=
                labels_hash_some(&c, names + 1, 3, true));
    /* all but (a, c, zz) and __name__: a and c agree */
    assert_true(labels_eq_some(&a, &c, names + 1, 3, false));
    assert_true(labels_hash_some(&a, names + 1, 3, false) ==
                labels_hash_some(&c, names + 1, 3, false));
    assert_false(labels_eq_some(&a, &b, names + 1, 3, false));
    /* on (__name__): it counts when it is named */
    assert_false(labels_eq_some(&a, &b, names, 1, true));
    assert_true(labels_eq_some(&a, &c, NULL, 0, true));
    assert_false(labels_eq_some(&a, &c, NULL, 0, false));
    labels_builder_done(&x);
    labels_builder_done(&y);
    labels_builder_done(&z);
}

static void names_are_valid_as_prometheus_says(void **state)
{
    (void)state;
    assert_true(label_name_legacy_valid(LIT("_a9")));
    assert_false(label_name_legacy_valid(LIT("9a")));
    assert_false(label_name_legacy_valid(LIT("")));
    assert_false(label_name_legacy_valid(LIT("a:b")));
    assert_false(label_name_legacy_valid(LIT("a-b")));
    assert_true(metric_name_legacy_valid(LIT(":a:b9")));
    assert_false(metric_name_legacy_valid(LIT("a.b")));
    assert_true(label_name_valid(LIT("a.b \xe2\x82\xac")));
    assert_false(label_name_valid(LIT("")));
    assert_false(label_name_valid(LIT("a\xff")));
}

static void only_well_formed_utf8_is_valid(void **state)
{
    static const char *const good[] = {"",
                                       "abc",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "12345678\xc3\xa9 2345678"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc3",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xe2\x82",
                                      "1234567\xc3",
                                      "12345678\xff"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(good); i++)
        assert_true(utf8_valid(STR(good[i])));
    for (size_t i = 0; i < NX_COUNT(bad); i++)
        assert_false(utf8_valid(STR(bad[i])));
}

static void a_copy_owns_its_bytes(void **state)
{
    struct arena *a = arena_new(0), *small = arena_new(60);
    char text[] = "a=1";
    struct labels_builder b;
    struct labels ls = SET(&b, text, "b=2"), to, none = {0};

    (void)state;
    assert_ok(labels_copy(a, &ls, &to, &err), &err);
    text[0] = text[2] = 'x';
    assert_prints(&to, "{a=\"1\", b=\"2\"}");
    assert_ok(labels_copy(a, &none, &to, &err), &err);
    assert_int_equal(to.n, 0);
    assert_status(labels_copy(small, &ls, &to, &err), NX_LIMIT);
    assert_null(to.v);
    labels_builder_done(&b);
    arena_free(a);
    arena_free(small);
}

static void out_of_memory_is_told_by_build(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct labels_builder b;
        struct labels ls;
        static char names[100][16];
        bool hit;

        labels_builder_init(&b);
        oom_fail_at(n);
        for (int i = 0; i < 100; i++) {
            snprintf(names[i], sizeof names[i], "l%d", i);
            labels_builder_set(&b, STR(names[i]), LIT("v"));
        }
        hit = oom_off();
        assert_status(labels_builder_build(&b, &ls, &err), hit ? NX_NOMEM : NX_OK);
        labels_builder_reset(&b, NULL);
        labels_builder_set(&b, LIT("a"), LIT("b"));
        assert_status(labels_builder_build(&b, &ls, &err), NX_OK);
        labels_builder_done(&b);
        if (!hit) {
            assert_in_range(n, 2, 20);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_builder_sorts_replaces_and_drops_empty_values),
        cmocka_unit_test(the_builder_starts_from_a_base),
        cmocka_unit_test(many_labels_stay_sorted),
        cmocka_unit_test(sets_print_as_prometheus_prints_metrics),
        cmocka_unit_test(json_keeps_html_raw_and_repairs_utf8),
        cmocka_unit_test(the_order_is_by_name_then_value_and_a_prefix_is_smaller),
        cmocka_unit_test(hashes_see_where_a_name_ends),
        cmocka_unit_test(grouping_looks_at_the_named_labels_or_at_all_but_them),
        cmocka_unit_test(names_are_valid_as_prometheus_says),
        cmocka_unit_test(only_well_formed_utf8_is_valid),
        cmocka_unit_test(a_copy_owns_its_bytes),
        cmocka_unit_test(out_of_memory_is_told_by_build),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
