/* JSON as Prometheus's API writes it, and the choice of a compression. */
#include "tests/support/test.h"

#include <string.h>

#include "src/web/server.h"
#include "src/web/stats.h"

static void check(void (*put)(struct buf *b, const void *arg), const void *arg, const char *want)
{
    struct buf b;

    buf_init(&b, 0);
    put(&b, arg);
    assert_string_equal(buf_cstr(&b), want);
    buf_done(&b);
}

static void put_string(struct buf *b, const void *arg)
{
    json_cstr(b, arg);
}

static void put_time(struct buf *b, const void *arg)
{
    json_time_ms(b, *(const int64_t *)arg);
}

static void put_rfc3339(struct buf *b, const void *arg)
{
    json_rfc3339_ms(b, *(const int64_t *)arg);
}

static void strings_escape_what_go_escapes(void **state)
{
    (void)state;
    check(put_string, "plain", "\"plain\"");
    check(put_string, "a\"b\\c\n\t\r\b\f\x01", "\"a\\\"b\\\\c\\n\\t\\r\\b\\f\\u0001\"");
    check(put_string, "<a> & b", "\"\\u003ca\\u003e \\u0026 b\"");
    check(put_string, "h\xc3\xa9llo \xe2\x80\xa8 \xf0\x9f\x98\x80",
          "\"h\xc3\xa9llo \\u2028 \xf0\x9f\x98\x80\"");
    check(put_string, "bad \xff\xc3", "\"bad \\ufffd\\ufffd\"");
}

static void sample_times_have_no_decimals_or_three(void **state)
{
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {{1000000, "1000"},
                {1000500, "1000.500"},
                {400, "0.400"},
                {1000123, "1000.123"},
                {0, "0"},
                {-1500, "-1.500"},
                {-3000, "-3"},
                {1, "0.001"},
                {INT64_MIN, "-9223372036854775.808"},
                {INT64_MAX, "9223372036854775.807"}};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++)
        check(put_time, &rows[i].ms, rows[i].text);
}

/* Forwards and back, over the ends of a block of times, and where the short way is none. */
static void times_in_a_row_are_those_alone(void **state)
{
    static const int64_t starts[] = {
        0, 9999000, 1789999990000, -5000, 1790000000500, 99999998000, 9223372036854760000};
    struct json_times times = {0};
    char alone[JSON_TIME_BYTES], row[JSON_TIMES_BYTES];

    (void)state;
    for (size_t i = 0; i < NX_COUNT(starts); i++)
        for (int64_t step = -15000; step <= 15000; step += 1000) {
            int64_t ms = starts[i] + step;
            size_t len = json_time_text(alone, ms);

            assert_int_equal(json_times_put(&times, row, ms) - row, len + 4);
            assert_memory_equal(row, ",[", 2);
            assert_memory_equal(row + 2, alone, len);
            assert_memory_equal(row + 2 + len, ",\"", 2);
        }
}

static void times_are_rfc3339_and_never_is_year_one(void **state)
{
    (void)state;
    check(put_rfc3339, &(int64_t){0}, "\"0001-01-01T00:00:00Z\"");
    check(put_rfc3339, &(int64_t){1433337718555}, "\"2015-06-03T13:21:58.555Z\"");
    check(put_rfc3339, &(int64_t){1433337718000}, "\"2015-06-03T13:21:58Z\"");
}

static void only_a_bare_gzip_token_compresses(void **state)
{
    static const struct {
        const char *header;
        bool gzip;
    } rows[] = {{"gzip", true},    {"gzip, deflate, br, zstd", true},
                {"br,gzip", true}, {"gzip;q=1.0", false},
                {"", false},       {"identity", false},
                {"xgzip", false},  {"GZIP", false},
                {" gzip ", true}};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(rows); i++)
        assert_int_equal(web_accepts_gzip(rows[i].header), rows[i].gzip);
}

static void rows_of_one_path_are_one_handler(void **state)
{
    struct web_stats *s = web_stats_new();

    (void)state;
    assert_non_null(s);
    for (size_t i = 0; i < web_n_routes; i++) {
        size_t at = web_stats_index(&web_routes[i]);
        assert_true(at <= i);
        assert_string_equal(web_routes[at].pattern, web_routes[i].pattern);
    }
    web_stats_request(s, &web_routes[0], 200, 0.3, 1500);
    assert_int_equal(s->route[0].code[0], 1);
    assert_int_equal(s->route[0].duration.bucket[2], 1); /* (0.2, 0.4] */
    assert_int_equal(s->route[0].size.bucket[2], 1);     /* (1000, 10000] */
    web_stats_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_escape_what_go_escapes),
        cmocka_unit_test(sample_times_have_no_decimals_or_three),
        cmocka_unit_test(times_in_a_row_are_those_alone),
        cmocka_unit_test(times_are_rfc3339_and_never_is_year_one),
        cmocka_unit_test(only_a_bare_gzip_token_compresses),
        cmocka_unit_test(rows_of_one_path_are_one_handler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
