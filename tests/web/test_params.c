/* What clients ask for: URL and form parameters, times, durations, limits. */
#include "tests/support/test.h"

#include <string.h>

#include "src/web/http.h"

static struct web_req req_of(const char *form, const char *query)
{
    struct web_req r = {.arena = arena_new(0), .raw_query = nx_slice_str(query)};

    buf_init(&r.form, 0);
    buf_str(&r.form, form);
    r.form_taken = *form != 0;
    assert_int_equal(web_params_parse(&r), NX_OK);
    return r;
}

static void req_done(struct web_req *r)
{
    buf_done(&r->form);
    arena_free(r->arena);
}

#define assert_slice(got, want)                                                                    \
    do {                                                                                           \
        struct nx_slice s_ = (got);                                                                \
        assert_int_equal(s_.len, strlen(want));                                                    \
        assert_memory_equal(s_.ptr, want, s_.len);                                                 \
    } while (0)

static void the_body_wins_over_the_url_for_single_values(void **state)
{
    (void)state;
    struct web_req r = req_of("query=a%2Bb&match%5B%5D=x", "query=url&time=4&match[]=y");
    assert_slice(web_param_get(&r, "query"), "a+b");
    assert_slice(web_param_get(&r, "time"), "4");
    assert_slice(web_url_param_get(&r, "query"), "url");
    assert_int_equal(web_param_count(&r, "match[]"), 2);
    req_done(&r);
}

static void plus_is_a_blank_and_bad_escapes_drop_their_pair_only(void **state)
{
    (void)state;
    struct web_req r = req_of("", "a=x+y&b=%zz&c=%4&d=1&&=&e");
    assert_slice(web_param_get(&r, "a"), "x y");
    assert_false(web_param_has(&r, "b"));
    assert_false(web_param_has(&r, "c"));
    assert_slice(web_param_get(&r, "d"), "1");
    assert_int_equal(web_param_count(&r, "e"), 1);
    req_done(&r);
}

static void a_semicolon_drops_its_pair_and_is_remembered(void **state)
{
    (void)state;
    struct web_req r = req_of("", "a=1;b=2&c=3");
    assert_true(r.url_semicolon);
    assert_false(web_param_has(&r, "a"));
    assert_slice(web_param_get(&r, "c"), "3");
    req_done(&r);
}

static void times_are_seconds_rfc3339_or_the_ends_of_time(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"0", 0},
        {"1435781451.781", 1435781451781},
        {"1755870000.1234567", 1755870000123},
        {"1000.0005", 1000000}, /* a little less, as a double */
        {"1000.0015", 1000001},
        {"0.0005", 1},
        {"-1.5", -1500},
        {"1e3", 1000000},
        {"1795161078264", 1795161078264000},
        {"2015-06-03T13:21:58.555Z", 1433337718555},
        {"2015-06-03T14:21:58.555+01:00", 1433337718555},
        {"-292273086-05-16T16:47:06Z", INT64_MIN},
        {"292277025-08-18T07:12:54.999999999Z", INT64_MAX},
        {"1e300", INT64_MAX},
        {"-Inf", INT64_MIN},
    };
    static const char *const bad[] = {"", "foo", "30s", "2015-06-03", "nan", "0x10", "1_000"};
    struct nx_err err;
    int64_t ms;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(good); i++) {
        assert_int_equal(web_parse_time(nx_slice_str(good[i].text), &ms, &err), NX_OK);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < NX_COUNT(bad); i++)
        assert_int_equal(web_parse_time(nx_slice_str(bad[i]), &ms, &err), NX_BADINPUT);
    assert_int_equal(web_parse_time(nx_slice_str("foo"), &ms, &err), NX_BADINPUT);
    assert_string_equal(err.text, "cannot parse \"foo\" to a valid timestamp");
}

static void durations_are_seconds_or_prometheus_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"15", 15000},  {"0.5", 500},  {"86400", 86400000}, {"1h30m", 5400000},
                {"100ms", 100}, {"-1", -1000}, {"0.0019", 1},       {"0.29", 290}};
    struct nx_err err;
    int64_t ms;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(good); i++) {
        assert_int_equal(web_parse_duration(nx_slice_str(good[i].text), &ms, &err), NX_OK);
        assert_int_equal(ms, good[i].ms);
    }
    assert_int_equal(web_parse_duration(nx_slice_str("1.5h"), &ms, &err), NX_BADINPUT);
    assert_string_equal(err.text, "cannot parse \"1.5h\" to a valid duration");
    assert_int_equal(web_parse_duration(nx_slice_str("148966367200.372"), &ms, &err), NX_BADINPUT);
    assert_string_equal(
        err.text, "cannot parse \"148966367200.372\" to a valid duration. It overflows int64");
}

static void a_bad_time_names_its_parameter(void **state)
{
    struct nx_err err;
    int64_t ms;

    (void)state;
    struct web_req r = req_of("", "start=abc");
    assert_int_equal(web_param_time(&r, "start", 0, &ms, &err), NX_BADINPUT);
    assert_string_equal(err.text, "invalid parameter \"start\": invalid time value for 'start': "
                                  "cannot parse \"abc\" to a valid timestamp");
    assert_int_equal(web_param_time(&r, "end", 42, &ms, &err), NX_OK);
    assert_int_equal(ms, 42);
    req_done(&r);
}

static void limits_are_whole_and_not_negative(void **state)
{
    static const struct {
        const char *query, *error;
    } bad[] = {
        {"limit=-1", "invalid parameter \"limit\": limit must be non-negative"},
        {"limit=x", "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"},
        {"limit=-x", "invalid parameter \"limit\": strconv.Atoi: parsing \"-x\": invalid syntax"},
        {"limit=-99999999999999999999", "invalid parameter \"limit\": strconv.Atoi: parsing "
                                        "\"-99999999999999999999\": value out of range"},
    };
    struct nx_err err;
    size_t limit;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(bad); i++) {
        struct web_req r = req_of("", bad[i].query);
        assert_int_equal(web_param_limit(&r, &limit, &err), NX_BADINPUT);
        assert_string_equal(err.text, bad[i].error);
        req_done(&r);
    }
    struct web_req r = req_of("", "limit=40000");
    assert_int_equal(web_param_limit(&r, &limit, &err), NX_OK);
    assert_int_equal(limit, 40000);
    req_done(&r);
}

static void match_sets_refuse_what_could_match_everything(void **state)
{
    struct web_match_sets sets = {0};
    struct nx_err err;

    (void)state;
    struct web_req r = req_of("", "match[]=up&match[]=%7B__name__%3D~%22a%7Cb%22%2C%7D");
    assert_int_equal(web_param_matches(&r, &sets, &err), NX_OK);
    assert_int_equal(sets.n, 2);
    web_match_sets_done(&sets);
    req_done(&r);
    r = req_of("", "match[]=up&match[]={}");
    assert_int_equal(web_param_matches(&r, &sets, &err), NX_BADINPUT);
    assert_non_null(strstr(err.text, "must contain at least one non-empty matcher"));
    req_done(&r);
    r = req_of("", "match[]={}&match[]=up{"); /* what cannot be read is told first */
    assert_int_equal(web_param_matches(&r, &sets, &err), NX_BADINPUT);
    assert_string_equal(err.text, "1:4: parse error: unexpected end of input inside braces");
    req_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_body_wins_over_the_url_for_single_values),
        cmocka_unit_test(plus_is_a_blank_and_bad_escapes_drop_their_pair_only),
        cmocka_unit_test(a_semicolon_drops_its_pair_and_is_remembered),
        cmocka_unit_test(times_are_seconds_rfc3339_or_the_ends_of_time),
        cmocka_unit_test(durations_are_seconds_or_prometheus_durations),
        cmocka_unit_test(a_bad_time_names_its_parameter),
        cmocka_unit_test(limits_are_whole_and_not_negative),
        cmocka_unit_test(match_sets_refuse_what_could_match_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
