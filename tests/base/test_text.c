/* test_text.c - quoting as Go's strconv.Quote and as JSON; URLs and paths; errors in their fixed buffer. */
#include "tests/support/test.h"

#include <errno.h>

#include "src/base/text.h"

// clang-format off
static const struct { const char *text; size_t len; const char *go, *json; } quotes[] = {
    { "",                 0, "\"\"",                         "\"\"" },
    { "abc",              3, "\"abc\"",                      "\"abc\"" },
    { "a\"b\\c",          5, "\"a\\\"b\\\\c\"",              "\"a\\\"b\\\\c\"" },
    { "\a\b\f\n\r\t\v",   7, "\"\\a\\b\\f\\n\\r\\t\\v\"",    "\"\\u0007\\u0008\\u000c\\n\\r\\t\\u000b\"" },
    { "\0\x1f\x7f",       3, "\"\\x00\\x1f\\x7f\"",          "\"\\u0000\\u001f\x7f\"" },
    { "\xc3\xa9",         2, "\"\xc3\xa9\"",                 "\"\xc3\xa9\"" },
    { "a\xff" "b",        3, "\"a\\xffb\"",                  "\"a\xef\xbf\xbd" "b\"" },
    { "\xe2\x82",         2, "\"\\xe2\\x82\"",               "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
    { "\xef\xbf\xbd",     3, "\"\xef\xbf\xbd\"",             "\"\xef\xbf\xbd\"" },
    { "\xc2\xa0",         2, "\"\\u00a0\"",                  "\"\xc2\xa0\"" },
    { "\xe2\x80\x8b",     3, "\"\\u200b\"",                  "\"\xe2\x80\x8b\"" },
    { "\xef\xbb\xbf",     3, "\"\\ufeff\"",                  "\"\xef\xbb\xbf\"" },
    { "\xf0\x9f\x98\x80", 4, "\"\xf0\x9f\x98\x80\"",         "\"\xf0\x9f\x98\x80\"" },
    { "\xf3\xa0\x80\x81", 4, "\"\\U000e0001\"",              "\"\xf3\xa0\x80\x81\"" },
    { "<&>'",             4, "\"<&>'\"",                     "\"<&>'\"" },
};
// clang-format on

static void strings_are_quoted_as_go_and_json_do(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(quotes); i++) {
        struct nx_slice s = nx_slice_of(quotes[i].text, quotes[i].len);
        struct buf b;

        buf_init(&b, 0);
        text_quote(&b, s);
        assert_buf(&b, quotes[i].go, "text_quote");
        buf_clear(&b);
        text_json(&b, s);
        assert_buf(&b, quotes[i].json, "text_json");
        buf_done(&b);
    }
}

static void a_quoted_text_that_is_too_long_is_cut_between_characters(void **state)
{
    char long_text[2 * TEXT_QUOTED_BYTES], quoted[TEXT_QUOTED_BYTES];

    (void)state;
    assert_string_equal(text_quoted(quoted, STR("a\tb")), "\"a\\tb\"");
    for (size_t offset = 0; offset < 4; offset++) {
        struct nx_slice rest;
        uint32_t c;
        size_t n;

        memset(long_text, 'x', sizeof long_text);
        for (size_t i = offset; i + 3 <= sizeof long_text; i += 3)
            memcpy(long_text + i, "\xe2\x82\xac", 3);
        text_quoted(quoted, nx_slice_of(long_text, sizeof long_text));
        assert_in_range(strlen(quoted), TEXT_QUOTED_BYTES - 4, TEXT_QUOTED_BYTES - 1);
        assert_true(quoted[0] == '"');
        for (rest = STR(quoted); rest.len; rest = nx_slice_of(rest.ptr + n, rest.len - n)) {
            n = text_utf8_take(rest, &c);
            assert_true(n > 0);
        }
    }
}

static void every_code_point_round_trips(void **state)
{
    (void)state;
    for (uint32_t c = 0x80; c <= 0x10ffff; c++) {
        char text[4], put[4];
        size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        uint32_t got = 0;

        text[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c >> 6 * (n - 1));
        for (size_t i = 1; i < n; i++)
            text[i] = (char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
        assert_int_equal(text_utf8_put(put, c), n);
        assert_memory_equal(put, text, n);
        if (c >= 0xd800 && c < 0xe000) {
            assert_int_equal(text_utf8_take(nx_slice_of(text, n), &got), 0);
            continue;
        }
        assert_int_equal(text_utf8_take(nx_slice_of(text, n), &got), n);
        assert_int_equal(got, c);
        assert_int_equal(text_utf8_take(nx_slice_of(text, n - 1), &got), 0);
    }
}

static void cases_are_those_of_single_characters(void **state)
{
    // clang-format off
    static const struct { uint32_t lower, upper; } pairs[] = {
        { 'a', 'A' }, { 'z', 'Z' }, { 0xe9, 0xc9 }, { 0x3c9, 0x3a9 }, { 0x436, 0x416 }, { 0x10428, 0x10400 },
        { '1', '1' }, { 0xdf, 0xdf }, { 0x1f600, 0x1f600 },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < NX_COUNT(pairs); i++) {
        assert_int_equal(text_upper(pairs[i].lower), pairs[i].upper);
        assert_int_equal(text_lower(pairs[i].upper), pairs[i].lower);
    }
}

static void parts_of_urls_are_escaped_as_go_does(void **state)
{
    static const struct {
        struct nx_slice text;
        const char *query, *path;
    } v[] = {
        {{"", 0}, "", ""},
        {{"aZ09-_.~", 8}, "aZ09-_.~", "aZ09-_.~"},
        {{"a b+c", 5}, "a+b%2Bc", "a%20b+c"},
        {{"/$&,:;=@", 8}, "%2F%24%26%2C%3A%3B%3D%40", "/$&,:;=@"},
        {{"?#[]%\"", 6}, "%3F%23%5B%5D%25%22", "%3F%23%5B%5D%25%22"},
        {{"\0\n\xc3\xa9\xff", 5}, "%00%0A%C3%A9%FF", "%00%0A%C3%A9%FF"},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(v); i++) {
        struct buf b;

        buf_init(&b, 0);
        text_url_query(&b, v[i].text);
        assert_buf(&b, v[i].query, "text_url_query");
        buf_clear(&b);
        text_url_path(&b, v[i].text);
        assert_buf(&b, v[i].path, "text_url_path");
        buf_done(&b);
    }
}

static void paths_are_joined_as_go_does(void **state)
{
    static const struct {
        const char *first, *then, *joined;
    } v[] = {
        {"", "", ""},
        {"/", "/", ""},
        {"a", "b", "/a/b"},
        {"/a/", "//b//", "/a/b"},
        {"/a/./b", "./c/.", "/a/b/c"},
        {"/a/b", "../c", "/a/c"},
        {"/a", "../../../c", "/c"},
        {"..", "x/..", ""},
        {"/a/..b", "...", "/a/..b/..."},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(v); i++) {
        struct buf b;

        buf_init(&b, 0);
        text_join_path(&b, STR(v[i].first));
        text_join_path(&b, STR(v[i].then));
        assert_buf(&b, v[i].joined, v[i].then);
        buf_done(&b);
    }
}

static void errors_say_what_where_and_why(void **state)
{
    struct nx_err err;

    (void)state;
    assert_int_equal(nx_fail(&err, NX_CORRUPT, "%s: bad", "x"), NX_CORRUPT);
    assert_int_equal(err.code, NX_CORRUPT);
    assert_int_equal(nx_context(&err, "block %d", 7), NX_CORRUPT);
    assert_string_equal(err.text, "block 7: x: bad");
    nx_fail(&err, NX_IO, "again: %s", err.text); /* the text may be its own argument */
    assert_string_equal(err.text, "again: block 7: x: bad");
    assert_int_equal(nx_fail_errno(&err, ENOSPC, "writing %s", "f"), NX_NOSPACE);
    assert_string_equal(err.text, "writing f: No space left on device");
    assert_int_equal(nx_fail_errno(&err, EDQUOT, "x"), NX_NOSPACE);
    assert_int_equal(nx_fail_errno(&err, ENOENT, "x"), NX_NOTFOUND);
    assert_int_equal(nx_fail_errno(&err, ENOMEM, "x"), NX_NOMEM);
    assert_int_equal(nx_fail_errno(&err, EIO, "x"), NX_IO);
    assert_int_equal(nx_fail(NULL, NX_LIMIT, "nobody looks"), NX_LIMIT);
    assert_int_equal(nx_fail_errno(NULL, EIO, "nobody looks"), NX_IO);
    assert_int_not_equal(nx_context(NULL, "nobody looks"), NX_OK);
}

static void an_error_that_is_too_long_is_cut_between_characters(void **state)
{
    char text[NX_ERR_TEXT_BYTES * 2];
    struct nx_err err;

    (void)state;
    for (size_t offset = 0; offset < 4; offset++) {
        struct nx_slice rest;
        uint32_t c;
        size_t n;

        memset(text, 'x', sizeof text);
        for (size_t i = offset; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xe2\x82\xac", 3);
        text[sizeof text - 3] = '\0';
        nx_fail(&err, NX_BADINPUT, "%s", text);
        assert_in_range(strlen(err.text), NX_ERR_TEXT_BYTES - 4, NX_ERR_TEXT_BYTES - 1);
        for (rest = STR(err.text); rest.len; rest = nx_slice_of(rest.ptr + n, rest.len - n)) {
            n = text_utf8_take(rest, &c);
            assert_true(n > 0);
        }
        nx_context(&err, "context");
        assert_in_range(strlen(err.text), NX_ERR_TEXT_BYTES - 4, NX_ERR_TEXT_BYTES - 1);
    }
}

static void every_code_has_its_english(void **state)
{
    (void)state;
    for (int st = 0; st < NX_STATUS_COUNT; st++)
        assert_true(strlen(nx_status_text((nx_status)st)) > 1);
    assert_string_equal(nx_status_text(NX_NOSPACE), "no space left");
    assert_string_equal(nx_status_text((nx_status)999), "unknown status");
}

static void slices_compare_by_bytes(void **state)
{
    (void)state;
    assert_true(nx_slice_cmp(LIT("a"), LIT("ab")) < 0);
    assert_true(nx_slice_cmp(LIT("a\xff"), LIT("az")) > 0);
    assert_int_equal(nx_slice_cmp(nx_slice_of(NULL, 0), LIT("")), 0);
    assert_true(nx_slice_eq(nx_slice_str(NULL), LIT("")));
    assert_false(nx_slice_is(LIT("a\0b"), "a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_quoted_as_go_and_json_do),
        cmocka_unit_test(a_quoted_text_that_is_too_long_is_cut_between_characters),
        cmocka_unit_test(every_code_point_round_trips),
        cmocka_unit_test(cases_are_those_of_single_characters),
        cmocka_unit_test(parts_of_urls_are_escaped_as_go_does),
        cmocka_unit_test(paths_are_joined_as_go_does),
        cmocka_unit_test(errors_say_what_where_and_why),
        cmocka_unit_test(an_error_that_is_too_long_is_cut_between_characters),
        cmocka_unit_test(every_code_has_its_english),
        cmocka_unit_test(slices_compare_by_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
