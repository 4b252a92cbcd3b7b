/* test_num.c - numbers and durations. The texts are those of Go's strconv and of
 * prometheus/common's model.Duration. */
#include "tests/support/test.h"

#include <math.h>

#include "src/base/num.h"

static struct nx_slice formatted(char to[NUM_TEXT_BYTES], size_t (*format)(char *, double),
                                 double v)
{
    return nx_slice_of(to, format(to, v));
}

// clang-format off
static const struct {
    double v;
    const char *api, *g, *om;
} formats[] = {
    { 0,                      "0",                       "0",                       "0.0" },
    { -0.0,                   "-0",                      "-0",                      "-0.0" },
    { 1,                      "1",                       "1",                       "1.0" },
    { -1,                     "-1",                      "-1",                      "-1.0" },
    { 0.25,                   "0.25",                    "0.25",                    "0.25" },
    { 0.1,                    "0.1",                     "0.1",                     "0.1" },
    { 1.0 / 3,                "0.3333333333333333",      "0.3333333333333333",      "0.3333333333333333" },
    { 100000,                 "100000",                  "100000",                  "100000.0" },
    { 999999,                 "999999",                  "999999",                  "999999.0" },
    { 999999.5,               "999999.5",                "999999.5",                "999999.5" },
    { 1e6,                    "1000000",                 "1e+06",                   "1e+06" },
    { 1234567,                "1234567",                 "1.234567e+06",            "1.234567e+06" },
    { 12345678.5,             "12345678.5",              "1.23456785e+07",          "1.23456785e+07" },
    { 1700000000.123,         "1700000000.123",          "1.700000000123e+09",      "1.700000000123e+09" },
    { 1e15,                   "1000000000000000",        "1e+15",                   "1e+15" },
    { 9007199254740993.0,     "9007199254740992",        "9.007199254740992e+15",   "9.007199254740992e+15" },
    { 1e20,                   "100000000000000000000",   "1e+20",                   "1e+20" },
    { 123456789012345680000., "123456789012345680000",   "1.2345678901234568e+20",  "1.2345678901234568e+20" },
    { 1e21,                   "1e+21",                   "1e+21",                   "1e+21" },
    { -1e21,                  "-1e+21",                  "-1e+21",                  "-1e+21" },
    { 1.5e100,                "1.5e+100",                "1.5e+100",                "1.5e+100" },
    { 1e-4,                   "0.0001",                  "0.0001",                  "0.0001" },
    { 0.00012,                "0.00012",                 "0.00012",                 "0.00012" },
    { 1e-5,                   "0.00001",                 "1e-05",                   "1e-05" },
    { 1e-6,                   "0.000001",                "1e-06",                   "1e-06" },
    { 9.99e-7,                "9.99e-07",                "9.99e-07",                "9.99e-07" },
    { 1e-7,                   "1e-07",                   "1e-07",                   "1e-07" },
    { -2.5e-10,               "-2.5e-10",                "-2.5e-10",                "-2.5e-10" },
    { 5e-324,                 "5e-324",                  "5e-324",                  "5e-324" },
    { 1.7976931348623157e308, "1.7976931348623157e+308", "1.7976931348623157e+308", "1.7976931348623157e+308" },
    { INFINITY,               "+Inf",                    "+Inf",                    "+Inf" },
    { -INFINITY,              "-Inf",                    "-Inf",                    "-Inf" },
    { NAN,                    "NaN",                     "NaN",                     "NaN" },
};

static const struct {
    const char *text;
    bool ok, out_of_range;
    double v;
} parses[] = {
    { "1",            true,  false, 1 },        { "+1",         true,  false, 1 },
    { "-1.5",         true,  false, -1.5 },     { "5.",         true,  false, 5 },
    { ".5",           true,  false, 0.5 },      { "-.5e1",      true,  false, -5 },
    { "1e3",          true,  false, 1000 },     { "1E+3",       true,  false, 1000 },
    { "1e-3",         true,  false, 0.001 },    { "007",        true,  false, 7 },
    { "inf",          true,  false, INFINITY }, { "+Inf",       true,  false, INFINITY },
    { "-INFINITY",    true,  false, -INFINITY }, { "-0",        true,  false, -0.0 },
    { "1e-400",       true,  false, 0 },        { "-1e-400",    true,  false, -0.0 },
    { "2e-324",       true,  false, 0 },        { "0e999999999999999999999", true, false, 0 },
    { "1e400",        false, true,  0 },        { "-1e400",     false, true,  0 },
    { "1e999999999999999999999", false, true, 0 },
    { "1e-999999999999999999999", true, false, 0 },
    { "0.0000000001e400", false, true, 0 },     { "10000000000e-400", true, false, 0 },
    { "1.7976931348623157e308", true, false, 1.7976931348623157e308 },
    { "1.797693134862315808e308", false, true, 0 },
    { "9007199254740993", true, false, 9007199254740992.0 },
    { "0.1000000000000000055511151231257827021181583404541015625", true, false, 0.1 },
    { "",             false, false, 0 },        { ".",          false, false, 0 },
    { "+",            false, false, 0 },        { "-",          false, false, 0 },
    { "e5",           false, false, 0 },        { "1e",         false, false, 0 },
    { "1e+",          false, false, 0 },        { "+-1",        false, false, 0 },
    { "--1",          false, false, 0 },        { " 1",         false, false, 0 },
    { "1 ",           false, false, 0 },        { "1_0",        false, false, 0 },
    { "0x1p3",        false, false, 0 },        { "0x10",       false, false, 0 },
    { "+NaN",         false, false, 0 },        { "-nan",       false, false, 0 },
    { "nan(1)",       false, false, 0 },        { "infi",       false, false, 0 },
    { "Infinity1",    false, false, 0 },        { "1.2.3",      false, false, 0 },
    { "1,5",          false, false, 0 },        { "1f",         false, false, 0 },
    { "one",          false, false, 0 },        { "--inf",      false, false, 0 },
};

static const struct {
    const char *text;
    int64_t ms;
    const char *printed; /* NULL: an error */
    const char *error;
} durations[] = {
    { "0",                  0,              "0s",                     NULL },
    { "0s",                 0,              "0s",                     NULL },
    { "1ms",                1,              "1ms",                    NULL },
    { "01s",                1000,           "1s",                     NULL },
    { "90s",                90000,          "1m30s",                  NULL },
    { "1h30m",              5400000,        "1h30m",                  NULL },
    { "1y2w3d4h5m6s7ms",    33019506007,    "382d4h5m6s7ms",          NULL },
    { "2w",                 1209600000,     "2w",                     NULL },
    { "90d",                7776000000,     "90d",                    NULL },
    { "365d",               31536000000,    "1y",                     NULL },
    { "372d",               32140800000,    "372d",                   NULL },
    { "292y",               9208512000000,  "292y",                   NULL },
    { "106751d",            9223286400000,  "106751d",                NULL },
    { "9223372036854ms",    9223372036854,  "106751d23h47m16s854ms",  NULL },
    { "292y24w3d23h47m16s", 9223372036000,  "106751d23h47m16s",       NULL },
    { "",                   0, NULL, "empty duration string" },
    { "90",                 0, NULL, "not a valid duration string: \"90\"" },
    { "00",                 0, NULL, "not a valid duration string: \"00\"" },
    { "-1h",                0, NULL, "not a valid duration string: \"-1h\"" },
    { "+1s",                0, NULL, "not a valid duration string: \"+1s\"" },
    { "h",                  0, NULL, "not a valid duration string: \"h\"" },
    { "1h30",               0, NULL, "not a valid duration string: \"1h30\"" },
    { "1h2h",               0, NULL, "not a valid duration string: \"1h2h\"" },
    { "1m1h",               0, NULL, "not a valid duration string: \"1m1h\"" },
    { "99999999999999999999s", 0, NULL, "not a valid duration string: \"99999999999999999999s\"" },
    { "5x",                 0, NULL, "unknown unit \"x\" in duration \"5x\"" },
    { "1.5h",               0, NULL, "unknown unit \".\" in duration \"1.5h\"" },
    { "1h ",                0, NULL, "unknown unit \"h \" in duration \"1h \"" },
    { "1s\"",               0, NULL, "unknown unit \"s\\\"\" in duration \"1s\\\"\"" },
    { "1S",                 0, NULL, "unknown unit \"S\" in duration \"1S\"" },
    { "293y",               0, NULL, "duration out of range" },
    { "106752d",            0, NULL, "duration out of range" },
    { "9223372036855ms",    0, NULL, "duration out of range" },
    { "292y24w3d23h47m17s", 0, NULL, "duration out of range" },
};
// clang-format on

static void numbers_print_as_go_prints_them(void **state)
{
    char to[NUM_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < NX_COUNT(formats); i++) {
        assert_text(formatted(to, num_format, formats[i].v), formats[i].api, "num_format");
        assert_text(formatted(to, num_format_g, formats[i].v), formats[i].g, "num_format_g");
        assert_text(formatted(to, num_format_om, formats[i].v), formats[i].om, "num_format_om");
    }
}

static void numbers_parse_as_go_parses_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(parses); i++) {
        double v = 42;
        bool out_of_range = !parses[i].out_of_range;
        bool ok = num_parse(STR(parses[i].text), &v, &out_of_range);

        if (ok != parses[i].ok || out_of_range != parses[i].out_of_range)
            fail_msg("\"%s\": ok %d, out of range %d", parses[i].text, ok, out_of_range);
        if (num_bits(v) != num_bits(ok ? parses[i].v : 42))
            fail_msg("\"%s\": got %.17g", parses[i].text, v);
        assert_true(num_parse(STR(parses[i].text), &v, NULL) == ok);
    }
}

static void nan_has_the_bits_that_prometheus_stores(void **state)
{
    double v = 0;

    (void)state;
    assert_true(num_parse(LIT("NaN"), &v, NULL));
    assert_true(num_bits(v) == 0x7ff8000000000001ull);
    assert_false(num_is_stale(v));
    assert_true(num_is_stale(num_from_bits(NUM_STALE_BITS)));
}

static void what_is_printed_reads_back_to_the_same_bits(void **state)
{
    struct test_random r = {1};
    char to[NUM_TEXT_BYTES];

    (void)state;
    for (int i = 0; i < 200000; i++) {
        double v = num_from_bits(test_random(&r)), back = 0;

        if (i % 2)
            v = (double)(int64_t)test_random_below(&r, 1u << 30) / 1000;
        if (isnan(v))
            continue;
        assert_true(num_parse(formatted(to, num_format, v), &back, NULL));
        assert_true(num_bits(back) == num_bits(v));
        assert_true(num_parse(formatted(to, num_format_g, v), &back, NULL));
        assert_true(num_bits(back) == num_bits(v));
        assert_true(num_parse(formatted(to, num_format_om, v), &back, NULL));
        assert_true(num_bits(back) == num_bits(v));
    }
}

/* The short way and the long way to digits meet: no text with fewer digits reads as the value. */
static void decimals_have_no_more_digits_than_they_need(void **state)
{
    struct test_random r = {11};
    char text[NUM_TEXT_BYTES + 1], shorter[64];

    (void)state;
    for (int i = 0; i < 200000; i++) {
        static const double scales[] = {1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7};
        double v = (double)(int64_t)test_random_below(&r, (uint64_t)1 << (1 + i % 53)) /
                   scales[test_random_below(&r, NX_COUNT(scales))];
        double back;
        int digits = 0;

        v = i % 3 ? v : nextafter(v, i % 2 ? 1e300 : -1e300);
        text[num_format(text, v)] = '\0';
        assert_true(num_parse(nx_slice_str(text), &back, NULL));
        assert_true(num_bits(back) == num_bits(v));
        for (const char *p = text + strspn(text, "-0."); *p && *p != 'e'; p++)
            digits += *p != '.';
        if (!strchr(text, '.') || digits < 2)
            continue;
        snprintf(shorter, sizeof shorter, "%.*e", digits - 2, v);
        assert_true(num_parse(nx_slice_str(shorter), &back, NULL));
        if (num_bits(back) == num_bits(v))
            fail_msg("%s is longer than %s", text, shorter);
    }
}

/* Go's 'e': of all numbers of digits the least that reads back, as a search for it finds. */
static void an_exponent_form_has_the_fewest_digits_that_read_back(void **state)
{
    static const double some[] = {0,      -0.0, 1,       -1,   10,       15,      0.1,      1e21,
                                  5e-324, 1e99, -1e-100, 1e15, 0x1p1023, 0x1p-53, 1.0 / 3.0};
    struct test_random r = {12};
    char to[NUM_TEXT_BYTES], want[64];

    (void)state;
    for (size_t i = 0; i < 20000; i++) {
        double v = i < NX_COUNT(some) ? some[i]
                   : i % 2            ? num_from_bits(test_random(&r))
                                      : (double)(int64_t)test_random_below(&r, 1u << 30) / 1000;

        if (!isfinite(v))
            continue;
        for (int digits = 0; digits < 18; digits++) {
            snprintf(want, sizeof want, "%.*e", digits, v);
            if (strtod(want, NULL) == v)
                break;
        }
        assert_text(formatted(to, num_format_e, v), want, "num_format_e");
    }
    assert_text(formatted(to, num_format_e, NAN), "NaN", "num_format_e");
    assert_text(formatted(to, num_format_e, INFINITY), "+Inf", "num_format_e");
    assert_text(formatted(to, num_format_e, -INFINITY), "-Inf", "num_format_e");
}

static void no_text_is_longer_than_promised(void **state)
{
    static const double long_ones[] = {-1.7976931348623157e-308, -0.0000012345678901234567,
                                       -123456789012345670000.0, -2.2250738585072011e-308};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(long_ones); i++) {
        char *exact = malloc(NUM_TEXT_BYTES); /* so that a sanitizer sees one byte more */

        assert_in_range(num_format(exact, long_ones[i]), 1, NUM_TEXT_BYTES);
        assert_in_range(num_format_om(exact, long_ones[i]), 1, NUM_TEXT_BYTES);
        assert_in_range(num_format_e(exact, long_ones[i]), 1, NUM_TEXT_BYTES);
        assert_in_range(num_format_duration(exact, INT64_MIN + (int64_t)i), 1, NUM_TEXT_BYTES);
        assert_in_range(num_format_duration(exact, INT64_MAX - (int64_t)i), 1, NUM_TEXT_BYTES);
        free(exact);
    }
}

static void integers_parse_within_their_range_only(void **state)
{
    int64_t i = 5;
    uint64_t u = 5;

    (void)state;
    assert_true(num_parse_i64(LIT("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(num_parse_i64(LIT("+9223372036854775807"), &i) && i == INT64_MAX);
    assert_false(num_parse_i64(LIT("9223372036854775808"), &i));
    assert_false(num_parse_i64(LIT("+-5"), &i));
    assert_false(num_parse_i64(LIT("+"), &i));
    assert_false(num_parse_i64(LIT(""), &i));
    assert_false(num_parse_i64(LIT("5 "), &i));
    assert_false(num_parse_i64(LIT("1.0"), &i));
    assert_true(i == INT64_MAX);
    assert_true(num_parse_u64(LIT("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(num_parse_u64(LIT("18446744073709551616"), &u));
    assert_false(num_parse_u64(LIT("-1"), &u));
    assert_false(num_parse_u64(LIT("+1"), &u));
    assert_true(u == UINT64_MAX);
}

static void durations_parse_and_print_as_in_prometheus(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(durations); i++) {
        struct nx_err err = {0};
        struct buf b;
        int64_t ms = -7;
        nx_status st = num_parse_duration(STR(durations[i].text), &ms, &err);

        if (durations[i].error) {
            assert_int_equal(st, NX_BADINPUT);
            assert_string_equal(err.text, durations[i].error);
            assert_true(ms == -7);
            continue;
        }
        assert_ok(st, &err);
        assert_true(ms == durations[i].ms);
        buf_init(&b, 0);
        buf_duration(&b, ms);
        assert_buf(&b, durations[i].printed, durations[i].text);
        buf_done(&b);
    }
}

static void negative_durations_print_with_a_sign(void **state)
{
    char to[NUM_TEXT_BYTES];

    (void)state;
    assert_text(nx_slice_of(to, num_format_duration(to, -90000)), "-1m30s", "-90000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_print_as_go_prints_them),
        cmocka_unit_test(numbers_parse_as_go_parses_them),
        cmocka_unit_test(nan_has_the_bits_that_prometheus_stores),
        cmocka_unit_test(what_is_printed_reads_back_to_the_same_bits),
        cmocka_unit_test(decimals_have_no_more_digits_than_they_need),
        cmocka_unit_test(an_exponent_form_has_the_fewest_digits_that_read_back),
        cmocka_unit_test(no_text_is_longer_than_promised),
        cmocka_unit_test(integers_parse_within_their_range_only),
        cmocka_unit_test(durations_parse_and_print_as_in_prometheus),
        cmocka_unit_test(negative_durations_print_with_a_sign),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
