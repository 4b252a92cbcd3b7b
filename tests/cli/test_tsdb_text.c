/* test_tsdb_text.c - times and durations as the tsdb commands write them. */
#include "tests/support/test.h"

#include "src/cli/tsdb.h"

/* As Prometheus reads it (multiplied, cut) and as others do (rounded). */
static void check_time(int64_t t_ms)
{
    char text[40];
    size_t n = tsdb_om_time(text, t_ms);
    double ms = strtod(text, NULL) * 1000;

    if (n != strlen(text) || (int64_t)ms != t_ms || (int64_t)(ms + (ms < 0 ? -0.5 : 0.5)) != t_ms)
        fail_msg("%lld is written as %s", (long long)t_ms, text);
}

static void a_time_comes_back_to_the_millisecond(void **state)
{
    struct test_random rnd = {11};
    char text[40];

    (void)state;
    for (int64_t t = -3000; t < 3000; t++)
        check_time(t);
    for (int i = 0; i < 200000; i++) {
        int64_t t = (int64_t)test_random_below(&rnd, 8000000000000); /* to the year 2223 */
        check_time(t);
        check_time(-t);
    }
    tsdb_om_time(text, 1600000000000);
    assert_string_equal(text, "1600000000");
    tsdb_om_time(text, 1600000060500);
    assert_string_equal(text, "1600000060.500");
    tsdb_om_time(text, -1500);
    assert_string_equal(text, "-1.500");
    tsdb_om_time(text, 1001); /* 1.001 * 1000 is 1000.9999999999999 */
    assert_string_equal(text, "1.0011");
    tsdb_om_time(text, INT64_MIN); /* no double is near enough: only nothing may break */
    assert_true(text[0] == '-');
    tsdb_om_time(text, INT64_MAX);
    assert_true(text[0] == '9');
}

static void durations_are_gos(void **state)
{
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {0, "0s"},
        {1, "1ns"},
        {1500, "1.5\xc2\xb5s"},
        {2000000, "2ms"},
        {47459085, "47.459085ms"},
        {1000000000, "1s"},
        {2500000000, "2.5s"},
        {60501000000, "1m0.501s"},
        {600000000000, "10m0s"},
        {3600000000000, "1h0m0s"},
        {7200000000000, "2h0m0s"},
        {7300001000000, "2h1m40.001s"},
        {1000000000000000, "277h46m40s"},
        {100000000000, "1m40s"},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        char text[64];
        tsdb_go_duration(text, sizeof text, cases[i].ns);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_time_comes_back_to_the_millisecond),
        cmocka_unit_test(durations_are_gos),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
