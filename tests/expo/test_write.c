/* Expositions out, and compressed ones in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "src/expo/expo.h"

static void families_and_samples_are_written(void **state)
{
    const struct expo_pair pairs[] = {{"code", "200"}, {"path", "a\"b\\c\n"}};
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    expo_write_family(&b, EXPO_TEXT, "x_total", EXPO_COUNTER, "say \"hi\"\n\\");
    expo_write_sample(&b, EXPO_TEXT, "x_total", "", pairs, 2, 1);
    expo_write_sample(&b, EXPO_TEXT, "x", "_sum", NULL, 0, 0.25);
    expo_write_end(&b, EXPO_TEXT);
    assert_string_equal(buf_cstr(&b),
                        "# HELP x_total say \"hi\"\\n\\\\\n# TYPE x_total counter\n"
                        "x_total{code=\"200\",path=\"a\\\"b\\\\c\\n\"} 1\nx_sum 0.25\n");
    buf_clear(&b);
    expo_write_family(&b, EXPO_OPENMETRICS, "x_total", EXPO_COUNTER, "say \"hi\"");
    expo_write_sample(&b, EXPO_OPENMETRICS, "x_total", "", NULL, 0, 1);
    expo_write_end(&b, EXPO_OPENMETRICS);
    assert_string_equal(buf_cstr(&b),
                        "# HELP x say \\\"hi\\\"\n# TYPE x counter\nx_total 1.0\n# EOF\n");
    buf_done(&b);
}

/* What is written parses to what it was. */
static void series_survive_writing_and_parsing(void **state)
{
    const struct label plain[] = {{nx_slice_str(LABEL_NAME), nx_slice_str("x")},
                                  {nx_slice_str("a"), nx_slice_str("q\\\"\n")}};
    const struct label odd[] = {{nx_slice_str(LABEL_NAME), nx_slice_str("my.metric \"1\"")},
                                {nx_slice_str("a.b"), nx_slice_str("c")}};
    const struct labels sets[] = {{plain, 2}, {odd, 2}, {plain, 1}, {odd, 1}};

    (void)state;
    for (int f = EXPO_TEXT; f <= EXPO_OPENMETRICS; f++) {
        for (size_t i = 0; i < NX_COUNT(sets); i++) {
            struct arena *a = arena_new(0);
            struct expo x;
            struct expo_entry e;
            struct expo_labels ls;
            struct labels got;
            struct buf b;
            buf_init(&b, 0);
            expo_write_series(&b, (enum expo_format)f, &sets[i], -1.5e300, true, -1234);
            if (f == EXPO_TEXT) /* text knows no times before 1970 */
                buf_clear(&b), expo_write_series(&b, EXPO_TEXT, &sets[i], -1.5e300, true, 1234);
            buf_char(&b, '\n');
            expo_init(&x, (enum expo_format)f, b.ptr, b.len - 1);
            assert_int_equal(expo_next(&x, &e, NULL), NX_OK);
            assert_int_equal(e.kind, EXPO_SERIES);
            assert_true(e.value == -1.5e300 && e.has_ts &&
                        e.ts_ms == (f == EXPO_TEXT ? 1234 : -1234));
            assert_int_equal(expo_labels(e.series, EXPO_UNKNOWN, a, &ls, NULL), NX_OK);
            got = (struct labels){ls.v, ls.n};
            assert_true(labels_eq(&got, &sets[i]));
            buf_done(&b);
            arena_free(a);
        }
    }
}

static struct nx_slice gzip(const char *bytes, size_t len, char *to, size_t cap)
{
    z_stream z = {0};

    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)len;
    z.next_out = (Bytef *)to;
    z.avail_out = (uInt)cap;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return nx_slice_of(to, z.total_out);
}

static void gunzip_gives_the_bytes_or_says_why_not(void **state)
{
    static char plain[100000], packed[100000];
    struct expo_gunzip *g = expo_gunzip_new();
    struct nx_err err = {0};
    struct nx_slice z;
    struct buf out;

    (void)state;
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (char)('a' + i * i % 23);
    z = gzip(plain, sizeof plain, packed, sizeof packed);
    for (int round = 0; round < 3; round++) { /* the state is used again */
        buf_init(&out, sizeof plain - (round == 0 ? 1 : 0));
        assert_int_equal(expo_gunzip_run(g, z, &out, &err), round == 0 ? NX_LIMIT : NX_OK);
        if (round > 0) {
            assert_int_equal(out.len, sizeof plain);
            assert_memory_equal(out.ptr, plain, sizeof plain);
        }
        buf_done(&out);
    }
    buf_init(&out, 1000);
    assert_int_equal(expo_gunzip_run(g, z, &out, &err), NX_LIMIT);
    buf_done(&out);
    buf_init(&out, 0);
    assert_int_equal(expo_gunzip_run(g, nx_slice_of(z.ptr, z.len - 9), &out, &err), NX_BADINPUT);
    assert_string_equal(err.text, "unexpected EOF");
    assert_int_equal(expo_gunzip_run(g, nx_slice_str("hello, no gzip"), &out, &err), NX_BADINPUT);
    assert_string_equal(err.text, "gzip: invalid header");
    packed[z.len - 8] ^= 1;
    assert_int_equal(expo_gunzip_run(g, z, &out, &err), NX_BADINPUT);
    assert_string_equal(err.text, "gzip: invalid checksum");
    buf_done(&out);
    expo_gunzip_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_and_samples_are_written),
        cmocka_unit_test(series_survive_writing_and_parsing),
        cmocka_unit_test(gunzip_gives_the_bytes_or_says_why_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
