/* The command line, as Prometheus's parser takes it. */
#include "tests/support/test.h"

#include <string.h>

#include "src/cli/server.h"
#include "src/cli/tool.h"

static const struct flag table[] = {
    {"alpha", FLAG_STRING, 0, "a", NULL, 0, "A string."},
    {"bytes", FLAG_BYTES, 0, "1KB", NULL, 0, "A size."},
    {"color", FLAG_ENUM, 0, "red", "red green", 0, "A choice."},
    {"dur", FLAG_DURATION, 0, "5m", NULL, 0, "A duration."},
    {"list", FLAG_STRING, FLAG_REPEATED, "", NULL, 0, "A list."},
    {"num", FLAG_INT, 0, "3", NULL, 'n', "A number."},
    {"on", FLAG_BOOL, 0, "false", NULL, 'o', "A switch."},
};

static nx_status parse(struct flags *f, const char *const *args, struct nx_err *err, bool *bad)
{
    int n = 0;

    while (args[n])
        n++;
    return flags_parse(f, table, NX_COUNT(table), n, (char **)(uintptr_t)args, bad, err);
}

static void values_come_after_an_equals_sign_or_a_blank(void **state)
{
    struct flags f;
    struct nx_err err;
    bool bad;

    (void)state;
    assert_int_equal(
        parse(&f,
              (const char *const[]){"--alpha=x", "--dur", "1h30m", "--on", "--bytes=512MB", "arg",
                                    "--num", "5e7", "--", "--alpha", NULL},
              &err, &bad),
        NX_OK);
    assert_string_equal(flags_str(&f, "alpha"), "x");
    assert_int_equal(flags_ms(&f, "dur"), 5400000);
    assert_true(flags_bool(&f, "on"));
    assert_int_equal(flags_bytes(&f, "bytes"), 512u << 20);
    assert_int_equal(flags_int(&f, "num"), 50000000);
    assert_int_equal(f.n_args, 2);
    assert_string_equal(f.args[1], "--alpha");
    flags_done(&f);
}

static void defaults_hold_and_switches_can_be_negated(void **state)
{
    struct flags f;
    struct nx_err err;
    const char *const *list;
    bool bad;

    (void)state;
    assert_int_equal(
        parse(&f, (const char *const[]){"--no-on", "--list=a", "--list", "b", NULL}, &err, &bad),
        NX_OK);
    assert_false(flags_bool(&f, "on"));
    assert_true(flags_given(&f, "on"));
    assert_string_equal(flags_str(&f, "color"), "red");
    assert_int_equal(flags_bytes(&f, "bytes"), 1024);
    assert_int_equal(flags_list(&f, "list", &list), 2);
    assert_string_equal(list[1], "b");
    flags_done(&f);
}

static void what_is_wrong_is_said_in_kingpins_words(void **state)
{
    static const struct {
        const char *args[4], *error;
        bool bad_value;
    } rows[] = {
        {{"--foo"}, "unknown long flag '--foo'", false},
        {{"--no-alpha"}, "unknown long flag '--no-alpha'", false},
        {{"--on=true"}, "unexpected true", false},
        {{"--dur"}, "expected argument for flag '--dur'", false},
        {{"--dur=1m", "--dur=1m"}, "flag 'dur' cannot be repeated", true},
        {{"--bytes=10"}, "units: unknown unit  in 10", true},
        {{"--bytes=10XB"}, "units: unknown unit XB in 10XB", true},
        {{"--num=x"}, "strconv.ParseFloat: parsing \"x\": invalid syntax", true},
        {{"@/nonexistent"},
         "failed to open arguments file \"/nonexistent\": open /nonexistent: no such file or "
         "directory",
         false},
        {{"--dur=xx"}, "not a valid duration string: \"xx\"", true},
        {{"--color=blue"}, "enum value must be one of red,green, got 'blue'", true},
        {{"-config.file=x"}, "unknown short flag '-c'", false},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        struct flags f;
        struct nx_err err;
        bool bad;
        assert_int_equal(parse(&f, rows[i].args, &err, &bad), NX_BADINPUT);
        assert_string_equal(err.text, rows[i].error);
        assert_int_equal(bad, rows[i].bad_value);
        flags_done(&f);
    }
}

static void sizes_need_a_unit_and_are_powers_of_two(void **state)
{
    uint64_t v;

    (void)state;
    assert_true(flags_parse_bytes("100MB", &v));
    assert_int_equal(v, 100u << 20);
    assert_true(flags_parse_bytes("1GiB", &v));
    assert_int_equal(v, 1u << 30);
    assert_true(flags_parse_bytes("0B", &v));
    assert_int_equal(v, 0);
    assert_false(flags_parse_bytes("100", &v));
    assert_false(flags_parse_bytes("5kb", &v));
    assert_false(flags_parse_bytes("-1MB", &v));
    assert_false(flags_parse_bytes("1000000EB", &v));
}

static void the_server_table_is_sorted_and_its_defaults_are_valid(void **state)
{
    struct flags f;
    struct nx_err err;
    bool bad;

    (void)state;
    for (size_t i = 1; i < server_n_flags; i++)
        assert_true(strcmp(server_flags[i - 1].name, server_flags[i].name) < 0);
    for (size_t i = 0; i < server_n_flags; i++) {
        char text[256];
        if (server_flags[i].type == FLAG_BOOL || !server_flags[i].value[0])
            continue;
        snprintf(text, sizeof text, "--%s=%s", server_flags[i].name, server_flags[i].value);
        char *argv[] = {text, NULL};
        assert_int_equal(flags_parse(&f, server_flags, server_n_flags, 1, argv, &bad, &err), NX_OK);
        flags_done(&f);
    }
}

static void durations_as_go_writes_them(void **state)
{
    static const struct flag go[] = {{"d", FLAG_GO_DURATION, 0, "1h", NULL, 0, ""},
                                     {"none", FLAG_STRING, 0, NULL, NULL, 0, ""}};
    static const struct {
        const char *text;
        int64_t ns;
        const char *why;
    } cases[] = {
        {"1h30m", 5400000000000, NULL},
        {"1.5s", 1500000000, NULL},
        {"-20ms", -20000000, NULL},
        {"7\xc2\xb5s3ns", 7003, NULL},
        {"0", 0, NULL},
        {"", 0, "time: invalid duration \"\""},
        {"5", 0, "time: missing unit in duration \"5\""},
        {"1d", 0, "time: unknown unit \"d\" in duration \"1d\""},
        {"s", 0, "time: invalid duration \"s\""},
        {"9999999h", 0, "time: invalid duration \"9999999h\""},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        struct flags f;
        struct nx_err err;
        char text[64];
        char *argv[] = {text, NULL};
        bool bad;
        snprintf(text, sizeof text, "--d=%s", cases[i].text);
        nx_status st = flags_parse(&f, go, NX_COUNT(go), 1, argv, &bad, &err);
        assert_int_equal(st, cases[i].why ? NX_BADINPUT : NX_OK);
        if (st)
            assert_string_equal(err.text, cases[i].why);
        else
            assert_int_equal(flags_go_ns(&f, "d"), cases[i].ns);
        assert_string_equal(flags_str(&f, "none"), "");
        flags_done(&f);
    }
}

static void every_command_has_its_flags_once_and_a_text_for_each_argument(void **state)
{
    (void)state;
    for (size_t i = 0; i < tool_n_commands; i++) {
        const struct tool_command *c = &tool_commands[i];
        size_t n, args = 0, texts = c->args_help[0] != 0;
        struct flag *all = tool_all_flags(c, &n);
        assert_non_null(all);
        for (size_t k = 0; k < n; k++)
            for (size_t m = 0; m < k; m++)
                assert_string_not_equal(all[k].name, all[m].name);
        for (const char *p = c->args; *p; p++)
            args += *p == '<';
        for (const char *p = c->args_help; *p; p++)
            texts += *p == '\n';
        assert_int_equal(args, texts);
        assert_true(c->min_args <= args);
        free(all);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_after_an_equals_sign_or_a_blank),
        cmocka_unit_test(defaults_hold_and_switches_can_be_negated),
        cmocka_unit_test(what_is_wrong_is_said_in_kingpins_words),
        cmocka_unit_test(sizes_need_a_unit_and_are_powers_of_two),
        cmocka_unit_test(the_server_table_is_sorted_and_its_defaults_are_valid),
        cmocka_unit_test(durations_as_go_writes_them),
        cmocka_unit_test(every_command_has_its_flags_once_and_a_text_for_each_argument),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
