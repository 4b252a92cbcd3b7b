/* test_regex.c - patterns as Go compiles and Prometheus anchors them. */
#include "tests/support/test.h"

#include "src/base/regex.h"

static struct nx_err err;

static struct regex *compiled(struct nx_slice pattern)
{
    struct regex *re = NULL;

    assert_ok(regex_new(&re, pattern, &err), &err);
    return re;
}

// clang-format off
static const struct { /* texts by Go 1.26, after "error parsing regexp: " */
    const char *pattern, *bare, *wrapped; /* by syntax.Parse(p), by Compile("^(?s:" + p + ")$") */
} errors[] = {
    { "[abc",      "missing closing ]: `[abc`",                 "missing closing ]: `[abc)$`" },
    { "(abc",      "missing closing ): `(abc`",                 "missing closing ): `^(?s:(abc)$`" },
    { "abc)",      "unexpected ): `abc)`",                      "unexpected ): `^(?s:abc))$`" },
    { "\\",        "trailing backslash at end of expression: ``", "missing closing ): `^(?s:\\)$`" },
    { "(?P<n",     "invalid named capture: `(?P<n`",            "invalid named capture: `(?P<n)$`" },
    { "(?<n",      "invalid named capture: `(?<n`",             "invalid named capture: `(?<n)$`" },
    { "(?<=a)b",   "invalid named capture: `(?<=a)b`",          "invalid named capture: `(?<=a)b)$`" },
    { "a**",       "invalid nested repetition operator: `**`",  NULL }, /* NULL: the same */
    { "*a",        "missing argument to repetition operator: `*`", NULL },
    { "a{1001}",   "invalid repeat count: `{1001}`",            NULL },
    { "\\y",       "invalid escape sequence: `\\y`",            NULL },
    { "\\C",       "invalid escape sequence: `\\C`",            NULL },
    { "[z-a]",     "invalid character class range: `z-a`",      NULL },
    { "[[:foo:]]", "invalid character class range: `[:foo:]`",  NULL },
    { "(?z)a",     "invalid or unsupported Perl syntax: `(?z`", NULL },
    { "(?=a)",     "invalid or unsupported Perl syntax: `(?=`", NULL },
    { "x{2,1}",    "invalid repeat count: `{2,1}`",             NULL },
    { "a\xff",     "invalid UTF-8: `a\xff`",                     NULL },
    { "\xed\xa0\x80", "invalid UTF-8: `\xed\xa0\x80`",          NULL },
    { "a)(b",      "unexpected ): `a)(b`",                      NULL }, /* relabelling takes it there */
};

static const struct {
    const char *pattern, *text;
    bool match;
} matches[] = {
    { "",            "",          true },  { "",            "a",        false },
    { "a",           "a",         true },  { "a",           "ab",       false },
    { "a",           "ba",        false }, { "a|b",         "b",        true },
    { "a|b",         "ab",        false }, { "a.c",         "a\nc",     true },
    { ".*",          "x\ny\n",    true },  { "a$",          "a\n",      false },
    { "(?i)abc",     "aBC",       true },  { "(?-s)a.c",    "a\nc",     false },
    { "\\d+",        "123",       true },  { "(?<x>a)b",    "ab",       true },
    { "(?P<x>a)b",   "ab",        true },  { "[(?<x>]+",    "(?<x>",    true },
    { "\\Q(?<x>\\E", "(?<x>",     true },  { "\\(?<x>",     "(<x>",     true },
    { "a\\Q.b",     "a.b",       true },  { "a\\Q.b",     "axb",       false },
    { "\xc3\xa9.",   "\xc3\xa9\xc3\xa9", true },
    { "[]a]",        "]",         true },  { "[^]a]",       "b",        true },
};

/* Answered without RE2 where it can be. */
static const struct {
    const char *pattern, *text;
    bool match;
} by_parts[] = {
    { ".+",       "",        false }, { ".+",       "a",       true },  { ".*",       "",          true },
    { ".+",       "\n",      true },  { "a.*",      "a",       true },  { "a.+",      "a",         false },
    { "a.+",      "ab",      true },  { "a.*",      "ba",      false }, { ".*a",      "a",         true },
    { ".+a",      "a",       false }, { ".+a",      "aa",      true },  { ".*a.*",    "bab",       true },
    { ".+a.+",    "aab",     true },  { ".+a.+",    "aba",     false }, { ".+a.+",    "abab",      true },
    { "a.*a",     "a",       false }, { "a.*a",     "aa",      true },  { "a.+a",     "aa",        false },
    { "a.*b.*c",  "abc",     true },  { "a.*b.*c",  "acb",     false }, { "a.*bc.*c", "abc",       false },
    { "a.*bc.*c", "abcxc",   true },  { ".+.+",     "a",       false }, { ".+.*.+",   "ab",        true },
    { ".*?b",     "ab",      true },  { "a\\.b.*", "a.bc",    true },  { "a\\.b.*", "axbc",      false },
    { ".+\\.",    "x.",      true },  { ".+",       "\xc3\xa9", true },  { "..+",      "a",         false },
    { ".+b",      "\xc3\xa9" "b", true }, { "\xc3\xa9.+", "\xc3\xa9", false }, { ".+.+",  "\xc3\xa9", false },
    { "a|bc|",    "",        true },  { "a|bc",     "bc",      true },  { "(a|bc)",   "b",         false },
    { "a.*|b.*",  "bx",      true },  { ".*x{2}",   "axx",     true },  { "(?i)a.*",  "Ab",        true },
};

static const struct {
    const char *pattern, *text, *template, *want; /* want NULL: no match */
} expands[] = {
    { "(.*)",            "host:9100", "$1",               "host:9100" },
    { "(.+):(\\d+)",     "host:9100", "${1}",             "host" },
    { "(.+):(\\d+)",     "host:9100", "$2-$1",            "9100-host" },
    { "(.+):(\\d+)",     "host:9100", "$1x",              "" },
    { "(.+):(\\d+)",     "host:9100", "${1}x",            "hostx" },
    { "(.+):(\\d+)",     "host:9100", "$0",               "host:9100" },
    { "(.+):(\\d+)",     "host:9100", "$3$00$01",         "" },
    { "(.+):(\\d+)",     "host:9100", "$$1$$",            "$1$" },
    { "(.+):(\\d+)",     "host:9100", "a$",               "a$" },
    { "(.+):(\\d+)",     "host:9100", "$ $. ${ ${} ${1",  "$ $. ${ ${} ${1" },
    { "(.+):(\\d+)",     "host:9100", "${1 }",            "${1 }" },
    { "(?P<h>.+):(\\d+)", "host:9100", "$h-${h}-$2-$hh",  "host-host-9100-" },
    { "(?<h>.+):(\\d+)", "host:9100", "${h}",             "host" },
    { "(a)|(b)",         "b",         "[$1][$2]",         "[][b]" },
    { "(a)",             "b",         "$1",               NULL },
    { "x",               "x",         "",                 "" },
    { "x",               "x",         "$99999999999",     "" },
};

static const struct {
    const char *pattern, *joined, *prefix; /* literals joined with '/'; NULL: none */
} literals[] = {
    { "a",               "a",         "a" },
    { "",                "",          "" },
    { "a|b|cd",          "a/b/cd",    "" },
    { "(a|b)",           "a/b",       "" },
    { "(?:a|b)",         "a/b",       "" },
    { "a|",              "a/",        "" },
    { "10\\.0\\.0\\.1:80|x", "10.0.0.1:80/x", "" },
    { "a.c",             NULL,        "a" },
    { "foo-(a|b)",       NULL,        "foo-" },
    { "foo-a|foo-b.*",   NULL,        "" },
    { "(a)|(b)",         NULL,        "" },
    { "(?i)abc",         NULL,        "" },
    { "(?i:a|b)",        NULL,        "" },
    { "abc*",            NULL,        "ab" },
    { "abc?",            NULL,        "ab" },
    { "abc{0,2}",        NULL,        "ab" },
    { "abc+",            NULL,        "ab" },
    { "ab\xc3\xa9*",     NULL,        "ab" },
    { "ab[|]c",          NULL,        "ab" },
    { "ab\\|c",          "ab|c",      "ab|c" },
    { "ab(c|d)|e",       NULL,        "" },
    { "x[[:alpha:](]|b", NULL,        "" },
    { "a\\d",            NULL,        "a" },
    { "a\\Qb|c\\E",      NULL,        "" },
    { "^a",              NULL,        "" },
    { "a\\b",            NULL,        "a" },
};
// clang-format on

static void assert_error(nx_status st, struct regex *re, const char *want)
{
    static const char head[] = "error parsing regexp: ";

    assert_int_equal(st, NX_BADINPUT);
    assert_null(re);
    assert_memory_equal(err.text, head, sizeof head - 1);
    assert_string_equal(err.text + sizeof head - 1, want);
}

static void errors_read_as_go_words_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(errors); i++) {
        const char *wrapped = errors[i].wrapped ? errors[i].wrapped : errors[i].bare;
        struct nx_slice pattern = STR(errors[i].pattern);
        struct regex *re = NULL;

        assert_error(regex_new(&re, pattern, &err), re, errors[i].bare);
        assert_error(regex_new_for_relabel(&re, pattern, &err), re, wrapped);
    }
}

static void patterns_match_the_whole_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(matches); i++) {
        struct regex *re = compiled(STR(matches[i].pattern));

        if (regex_match(re, STR(matches[i].text)) != matches[i].match)
            fail_msg("%s over \"%s\"", matches[i].pattern, matches[i].text);
        regex_free(re);
    }
}

static void what_is_answered_by_parts_is_what_is_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(by_parts); i++) {
        struct regex *re = compiled(STR(by_parts[i].pattern));

        if (regex_match(re, STR(by_parts[i].text)) != by_parts[i].match)
            fail_msg("%s over \"%s\"", by_parts[i].pattern, by_parts[i].text);
        regex_free(re);
    }
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void random_text(uint32_t *seed, const char *const *words, uint32_t n_words, struct buf *to)
{
    buf_clear(to);
    for (uint32_t n = next_random(seed) % 7; n > 0; n--)
        buf_str(to, words[next_random(seed) % n_words]);
}

/* A group that captures nothing hides what a pattern is from the shortcuts: RE2 answers that one. */
static void shortcuts_say_what_the_engine_says(void **state)
{
    static const char *const words[] = {".*", ".+", ".*?", "a", "b", "ab", "\\.", "\xc3\xa9", "|"},
                             *const letters[] = {"a", "b", "ab", ".", "\n", "\xc3\xa9"};
    struct buf p, wrapped, text;
    uint32_t seed = 7, matched = 0;

    (void)state;
    buf_init(&p, 0);
    buf_init(&wrapped, 0);
    buf_init(&text, 0);
    for (int i = 0; i < 400; i++) {
        random_text(&seed, words, NX_COUNT(words), &p);
        buf_clear(&wrapped);
        buf_printf(&wrapped, "(?:(?:%s))", buf_cstr(&p));
        struct regex *re = compiled(buf_view(&p)), *by_engine = compiled(buf_view(&wrapped));
        for (int k = 0; k < 50; k++) {
            random_text(&seed, letters, NX_COUNT(letters), &text);
            bool want = regex_match(by_engine, buf_view(&text));
            if (regex_match(re, buf_view(&text)) != want)
                fail_msg("%s over \"%s\"", buf_cstr(&p), buf_cstr(&text));
            matched += want;
        }
        regex_free(re);
        regex_free(by_engine);
    }
    assert_in_range(matched, 2000, 18000);
    buf_done(&p);
    buf_done(&wrapped);
    buf_done(&text);
}

static void templates_expand_as_go_expands_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(expands); i++) {
        struct regex *re = compiled(STR(expands[i].pattern));
        struct buf b;
        bool matched;

        buf_init(&b, 0);
        matched = regex_expand(re, STR(expands[i].text), STR(expands[i].template), &b);
        assert_true(matched == (expands[i].want != NULL));
        assert_buf(&b, matched ? expands[i].want : "", expands[i].template);
        buf_done(&b);
        regex_free(re);
    }
}

static void literals_and_prefixes_are_found_where_they_are_sure(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(literals); i++) {
        struct regex *re = compiled(STR(literals[i].pattern));
        const struct nx_slice *v;
        size_t n = regex_literals(re, &v);
        struct buf b;

        buf_init(&b, 0);
        for (size_t k = 0; k < n; k++) {
            if (k)
                buf_char(&b, '/');
            buf_slice(&b, v[k]);
            assert_true(regex_match(re, v[k]));
        }
        if ((n > 0) != (literals[i].joined != NULL))
            fail_msg("%s: %zu literals", literals[i].pattern, n);
        assert_buf(&b, literals[i].joined ? literals[i].joined : "", literals[i].pattern);
        assert_text(regex_prefix(re), literals[i].prefix, literals[i].pattern);
        buf_done(&b);
        regex_free(re);
    }
}

static void a_hostile_pattern_takes_linear_time_and_a_huge_one_is_refused(void **state)
{
    struct regex *re = compiled(LIT("(a*)*(a*)*(a*)*b"));
    struct buf text, huge;

    (void)state;
    buf_init(&text, 0);
    for (int i = 0; i < 100000; i++)
        buf_char(&text, 'a');
    assert_false(regex_match(re, buf_view(&text)));
    regex_free(re);
    re = NULL;
    buf_init(&huge, 0);
    for (int i = 0; i < 2000; i++)
        buf_str(&huge, "(\\pL{1000})");
    assert_status(regex_new(&re, buf_view(&huge), &err), NX_BADINPUT);
    assert_non_null(strstr(err.text, "expression too large"));
    buf_done(&huge);
    buf_done(&text);
}

static void ten_thousand_alternatives_compile(void **state)
{
    const struct nx_slice *v;
    struct regex *re;
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    for (int i = 0; i < 10000; i++)
        buf_printf(&b, "%sinstance-%d\\.example\\.org:9100", i ? "|" : "", i);
    re = compiled(buf_view(&b));
    assert_int_equal(regex_literals(re, &v), 10000);
    assert_true(regex_match(re, LIT("instance-9999.example.org:9100")));
    assert_false(regex_match(re, LIT("instance-10000.example.org:9100")));
    regex_free(re);
    buf_done(&b);
}

static void bytes_with_nul_are_text_like_any_other(void **state)
{
    struct regex *re = compiled(LIT("a\0b"));

    (void)state;
    assert_true(regex_match(re, LIT("a\0b")));
    assert_false(regex_match(re, LIT("a")));
    regex_free(re);
}

static void a_search_is_not_anchored_and_replaces_as_go_does(void **state)
{
    static const struct {
        const char *pattern, *text, *with, *result;
    } rows[] = {
        {"(a)(b)", "abcab", "$2$1", "bacba"},
        {"x*", "abc", "-", "-a-b-c-"},
        {"a*", "baac", "-", "-b-c-"},
        {"^a", "aa", "b", "ba"},
        {"", "\xc3\xa9", ".", ".\xc3\xa9."},
        {"b", "", "x", ""},
        {"$", "ab", "!", "ab!"},
        {"(?P<n>.)", "ab", "<${n}>", "<a><b>"},
        {"a|b", "cab", "$$", "c$$"},
        {".", "a\nb", "x", "x\nx"},
    };
    struct regex *re = NULL;
    struct buf b;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++) {
        assert_ok(regex_new_search(&re, STR(rows[i].pattern), &err), &err);
        buf_init(&b, 0);
        regex_replace_all(re, STR(rows[i].text), STR(rows[i].with), &b);
        assert_buf(&b, rows[i].result, rows[i].pattern);
        buf_done(&b);
        regex_free(re);
    }
    assert_ok(regex_new_search(&re, LIT("a+"), &err), &err);
    assert_true(regex_search(re, LIT("baac")));
    assert_false(regex_search(re, LIT("bc")));
    regex_free(re);
    assert_int_equal(regex_new_search(&re, LIT("["), &err), NX_BADINPUT);
    assert_string_equal(err.text, "error parsing regexp: missing closing ]: `[`");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_search_is_not_anchored_and_replaces_as_go_does),
        cmocka_unit_test(errors_read_as_go_words_them),
        cmocka_unit_test(patterns_match_the_whole_text),
        cmocka_unit_test(what_is_answered_by_parts_is_what_is_known),
        cmocka_unit_test(shortcuts_say_what_the_engine_says),
        cmocka_unit_test(templates_expand_as_go_expands_them),
        cmocka_unit_test(literals_and_prefixes_are_found_where_they_are_sure),
        cmocka_unit_test(a_hostile_pattern_takes_linear_time_and_a_huge_one_is_refused),
        cmocka_unit_test(ten_thousand_alternatives_compile),
        cmocka_unit_test(bytes_with_nul_are_text_like_any_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
