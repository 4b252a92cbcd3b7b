/* Chunks: what goes in comes out to the bit, by the encoding one expects, at the price one expects. */
#include "tests/support/test.h"

#include <math.h>

#include "storage/chunk.h"
#include "storage/samples.h"
#include "tests/support/oom.h"

#define MAX_N 2000u

static struct chunk_scratch *scratch;
static struct nx_err err;
static struct buf bytes;

static int setup(void **state)
{
    (void)state;
    scratch = chunk_scratch_new();
    buf_init(&bytes, 0);
    return scratch ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    chunk_scratch_free(scratch);
    buf_done(&bytes);
    return 0;
}

static bool is_mark(double v)
{
    return chunk_is_absent(v) || num_is_stale(v);
}

/* Without the numbers: the marks are where they were, and nowhere else. */
static void marks_come_back(const char *ptr, size_t len, const double *v, size_t n)
{
    static double got[CHUNK_MAX_ROWS];

    memset(got, 0x77, n * sizeof *got);
    assert_ok(chunk_decode_first(ptr, len, got, n, n, true, scratch, &err), &err);
    for (size_t i = 0; i < n; i++)
        if (is_mark(v[i]) ? num_bits(got[i]) != num_bits(v[i]) : is_mark(got[i]))
            fail_msg("mark %zu of %zu: %016llx came back as %016llx", i, n,
                     (unsigned long long)num_bits(v[i]), (unsigned long long)num_bits(got[i]));
}

/* As many rows as are asked for, whatever comes behind. */
static void first_rows_come_back(const char *ptr, size_t len, const double *v, size_t n)
{
    static double got[CHUNK_MAX_ROWS];
    const size_t needs[] = {1, 2, 3, n / 3, n / 2 + 1, n - 1, 128, 129, 130, n};

    for (size_t k = 0; k < NX_COUNT(needs); k++) {
        const size_t need = needs[k];
        if (need == 0 || need > n)
            continue;
        memset(got, 0x77, n * sizeof *got);
        assert_ok(chunk_decode_first(ptr, len, got, n, need, false, scratch, &err), &err);
        for (size_t i = 0; i < need; i++)
            if (num_bits(got[i]) != num_bits(v[i]))
                fail_msg("value %zu of the first %zu of %zu: %016llx came back as %016llx (%s)", i,
                         need, n, (unsigned long long)num_bits(v[i]),
                         (unsigned long long)num_bits(got[i]), chunk_encoding_name(ptr, len));
        assert_ok(chunk_decode_first(ptr, len, got, n, need, true, scratch, &err), &err);
        for (size_t i = 0; i < need; i++)
            assert_true(is_mark(v[i]) ? num_bits(got[i]) == num_bits(v[i]) : !is_mark(got[i]));
    }
}

static void comes_back(const double *v, size_t n)
{
    static double got[CHUNK_MAX_ROWS];

    for (int fast = 1; fast >= 0; fast--) {
        char *exact; /* of exact size, so that reading past the end is found */

        buf_clear(&bytes);
        assert_ok((fast ? chunk_encode_fast : chunk_encode)(&bytes, v, n, scratch, &err), &err);
        exact = malloc(bytes.len);
        memcpy(exact, bytes.ptr, bytes.len);
        memset(got, 0x77, n * sizeof *got);
        assert_ok(chunk_decode(exact, bytes.len, got, n, scratch, &err), &err);
        marks_come_back(exact, bytes.len, v, n);
        first_rows_come_back(exact, bytes.len, v, n);
        free(exact);
        for (size_t i = 0; i < n; i++)
            if (num_bits(got[i]) != num_bits(v[i]))
                fail_msg("value %zu of %zu: %016llx came back as %016llx (%s)", i, n,
                         (unsigned long long)num_bits(v[i]), (unsigned long long)num_bits(got[i]),
                         chunk_encoding_name(bytes.ptr, bytes.len));
    }
}

static void is_coded(const double *v, size_t n, const char *as, size_t most_bytes)
{
    comes_back(v, n); /* leaves the smallest coding in `bytes` */
    assert_string_equal(chunk_encoding_name(bytes.ptr, bytes.len), as);
    if (bytes.len > most_bytes)
        fail_msg("%zu values as %s in %zu bytes, wanted at most %zu", n, as, bytes.len, most_bytes);
}

static void each_content_gets_its_encoding(void **state)
{
    struct test_random r = {1};
    double v[480], sum = 0;

    (void)state;
    for (size_t i = 0; i < 480; i++)
        v[i] = 42;
    is_coded(v, 480, "const-dec", 3);
    for (size_t i = 0; i < 480; i++)
        v[i] = M_PI;
    is_coded(v, 480, "const", 9);
    for (size_t i = 0; i < 480; i++)
        v[i] = sum += (double)test_random_below(&r, 16);
    is_coded(v, 480, "decimal", 480 / 2 + 24);
    for (size_t i = 0; i < 480; i++) /* steps of 1 kHz ticks, two decimals: 4 bits each */
        v[i] = (double)(100000 + 100 * (int64_t)i + (int64_t)test_random_below(&r, 16)) / 100;
    is_coded(v, 480, "decimal", 480 * 5 / 8 + 32);
    sum = 0;
    for (size_t i = 0; i < 480; i++) /* nanoseconds summed up as seconds: rounding at each step */
        v[i] = sum += (double)(1000000 + test_random_below(&r, 4096)) / 1e9;
    is_coded(v, 480, "decimal-ulp", 480 * 3);
    for (size_t i = 0; i < 480;
         i++) /* noise over all exponents: no better than raw, but no worse */
        v[i] = num_from_bits(test_random(&r) & 0xbfffffffffffffffu);
    comes_back(v, 480);
    assert_in_range(bytes.len, 1, 480 * 8 + 16);
}

static void special_rows_do_not_spoil_the_numbers(void **state)
{
    double v[480];
    size_t plain;

    (void)state;
    for (size_t i = 0; i < 480; i++)
        v[i] = (double)(1000 * i + i * i % 7);
    comes_back(v, 480);
    plain = bytes.len;
    v[479] = num_from_bits(NUM_STALE_BITS);
    is_coded(v, 480, "decimal", plain + 8);
    for (size_t i = 100; i < 150; i++)
        v[i] = chunk_absent();
    is_coded(v, 480, "decimal", plain + 20);
    v[0] = -0.0;
    v[200] = INFINITY;
    v[201] = -INFINITY;
    v[300] = num_from_bits(NUM_NAN_BITS);
    v[301] = num_from_bits(0xfff8000000001234u);
    is_coded(v, 480, "decimal", plain + 60);
    for (size_t i = 0; i < 480; i += 2)
        v[i] = chunk_absent();
    is_coded(v, 480, "decimal", plain + 60); /* a bit a row, and half the numbers */
    v[7] = M_PI;                             /* an odd number among integers */
    is_coded(v, 480, "decimal", plain + 80);
    for (unsigned i = 0; i < 9;
         i++) /* more kinds than are kept apart: the last go with the odd ones */
        v[11 + 2 * i] = num_from_bits(0xfff8000000005670u + i);
    v[401] = num_from_bits(NUM_STALE_BITS);
    comes_back(v, 480);
}

static void rows_of_specials_alone_come_back(void **state)
{
    double v[300];

    (void)state;
    for (size_t i = 0; i < 300; i++)
        v[i] = chunk_absent();
    comes_back(v, 300);
    assert_in_range(bytes.len, 1, 9);
    for (size_t i = 0; i < 300; i++)
        v[i] = i % 3 ? num_from_bits(NUM_STALE_BITS) : num_from_bits(NUM_NAN_BITS);
    comes_back(v, 300);
    for (size_t i = 0; i < 300; i++) /* more patterns than are kept apart */
        v[i] = num_from_bits(0x7ff8000000000000u + i % 40);
    comes_back(v, 300);
    for (size_t i = 0; i < 300; i++)
        v[i] = num_from_bits(0xfff0000000000001u + i);
    comes_back(v, 300);
}

/* Values that have broken float codecs before. */
static double adversarial(struct test_random *r)
{
    static const double known[] = {0.0,
                                   -0.0,
                                   1,
                                   -1,
                                   0.1,
                                   0.2,
                                   0.30000000000000004,
                                   1e308,
                                   -1e308,
                                   1.7976931348623157e308,
                                   4.9e-324,
                                   -4.9e-324,
                                   2.2250738585072014e-308,
                                   9007199254740992.0,
                                   9007199254740993.0,
                                   -9007199254740992.0,
                                   9223372036854775807.0,
                                   -9223372036854775808.0,
                                   18446744073709551616.0,
                                   4503599627370496.5,
                                   2251799813685248.25,
                                   1e15,
                                   1e16,
                                   1e17,
                                   1e18,
                                   1e19,
                                   1e22,
                                   1e23,
                                   123456.789,
                                   5e-5,
                                   1e-18,
                                   1e-19,
                                   INFINITY,
                                   -INFINITY};
    switch (test_random_below(r, 8)) {
    case 0:
        return num_from_bits(test_random(r));
    case 1:
        return num_from_bits(0x7ff0000000000000u | test_random_below(r, 8));
    case 2:
        return chunk_absent();
    case 3:
        return (double)(int64_t)test_random(r);
    case 4:
        return (double)test_random_below(r, 100000) / 1000;
    default:
        return known[test_random_below(r, NX_COUNT(known))];
    }
}

static void adversarial_columns_come_back(void **state)
{
    struct test_random r = {7};
    double v[MAX_N], few[5];

    (void)state;
    for (int round = 0; round < 3000; round++) {
        const size_t n = 1 + test_random_below(&r, round % 50 == 0 ? MAX_N : 300);
        const unsigned mode = (unsigned)test_random_below(&r, 4);

        for (size_t k = 0; k < NX_COUNT(few); k++)
            few[k] = adversarial(&r);
        for (size_t i = 0; i < n; i++) {
            if (mode == 0)
                v[i] = adversarial(&r);
            else if (mode == 1) /* alternating */
                v[i] = few[i % 2];
            else if (mode == 2) /* mostly one, others here and there */
                v[i] = few[test_random_below(&r, 40) < 36 ? 0 : test_random_below(&r, 5)];
            else
                v[i] = (double)(int64_t)(i * 3) + (test_random_below(&r, 30) ? 0 : adversarial(&r));
        }
        comes_back(v, n);
    }
}

static void walks_of_all_scales_come_back(void **state)
{
    struct test_random r = {8};
    double v[300];

    (void)state;
    for (int e = -320; e < 308; e++) {
        double x = pow(10, e), step = x / (double)(1 + test_random_below(&r, 1000));
        for (size_t i = 0; i < 300; i++)
            v[i] = x += step * ((double)test_random_below(&r, 2000) - 1000) / 1000;
        comes_back(v, 300);
        for (size_t i = 0; i < 300; i++) /* decimals at that scale */
            v[i] = (double)test_random_below(&r, 100000) * (e < 0 ? 1 : pow(10, e)) /
                   (e < 0 ? pow(10, -e) : 1);
        comes_back(v, 300);
    }
}

static void the_longest_chunk_comes_back_and_no_longer_one_is_taken(void **state)
{
    double *v = calloc(CHUNK_MAX_ROWS + 1, sizeof *v);

    (void)state;
    for (size_t i = 0; i <= CHUNK_MAX_ROWS; i++)
        v[i] = (double)(i * i) / 8;
    comes_back(v, CHUNK_MAX_ROWS);
    assert_status(chunk_encode(&bytes, v, CHUNK_MAX_ROWS + 1, scratch, &err), NX_BADINPUT);
    assert_status(chunk_encode(&bytes, v, 0, scratch, &err), NX_BADINPUT);
    assert_status(chunk_decode("", 0, v, 0, scratch, &err), NX_BADINPUT);
    free(v);
}

/* A cut chunk never decodes; a changed one gives an error or some numbers, and nothing worse. */
static void damaged_chunks_do_no_harm(void **state)
{
    struct test_random r = {9};
    double v[300], got[300];

    (void)state;
    for (int round = 0; round < 400; round++) {
        size_t n = 1 + test_random_below(&r, 300);
        char *copy;

        for (size_t i = 0; i < n; i++)
            v[i] = round % 2 ? adversarial(&r) : (double)(i + test_random_below(&r, 9)) / 10;
        buf_clear(&bytes);
        assert_ok(chunk_encode(&bytes, v, n, scratch, &err), &err);
        for (size_t cut = 0; cut < bytes.len; cut++) {
            copy = malloc(cut + 1);
            memcpy(copy, bytes.ptr, cut);
            assert_status(chunk_decode(copy, cut, got, n, scratch, &err), NX_CORRUPT);
            free(copy);
        }
        copy = malloc(bytes.len);
        for (int k = 0; k < 100; k++) {
            memcpy(copy, bytes.ptr, bytes.len);
            copy[test_random_below(&r, bytes.len)] ^= (char)(1 << test_random_below(&r, 8));
            nx_status st = chunk_decode(copy, bytes.len, got, n, scratch, &err);
            assert_true(st == NX_OK || st == NX_CORRUPT);
        }
        free(copy);
    }
}

static void out_of_memory_is_an_error_each_time(void **state)
{
    double v[200], got[200];

    (void)state;
    for (size_t i = 0; i < 200; i++)
        v[i] = i == 3 ? NAN : 1.0 / (double)(i + 1);
    for (unsigned n = 1;; n++) {
        struct chunk_scratch *s = chunk_scratch_new();
        struct buf to;
        nx_status st;

        buf_init(&to, 0);
        oom_fail_at(n);
        st = chunk_encode(&to, v, 200, s, &err);
        if (!st)
            st = chunk_decode(to.ptr, to.len, got, 200, s, &err);
        const bool failed = oom_off();
        if (!st)
            assert_memory_equal(got, v,
                                sizeof v); /* a candidate that found no room is just not taken */
        else
            assert_int_equal(st, NX_NOMEM);
        chunk_scratch_free(s);
        buf_done(&to);
        if (!failed)
            break;
        assert_in_range(n, 1, 200);
    }
}

static void timestamps_come_back(void **state)
{
    struct test_random r = {10};
    int64_t t[600], got[600];

    (void)state;
    for (int round = 0; round < 300; round++) {
        size_t n = 1 + test_random_below(&r, 600);
        int64_t at = (int64_t)test_random(&r) >> test_random_below(&r, 64);
        for (size_t i = 0; i < n; i++)
            t[i] = at =
                (int64_t)((uint64_t)at + 15000 + (round % 3 ? test_random_below(&r, 5) - 2 : 0));
        buf_clear(&bytes);
        assert_ok(times_encode(&bytes, t, n, scratch, &err), &err);
        if (round % 3 == 0)
            assert_in_range(bytes.len, 1, 16);
        assert_ok(times_decode(bytes.ptr, bytes.len, got, n, scratch, &err), &err);
        assert_memory_equal(got, t, n * sizeof *t);
        assert_status(times_decode(bytes.ptr, bytes.len - 1, got, n, scratch, &err), NX_CORRUPT);
    }
}

static void rows_are_cut_to_a_range_and_absent_ones_left_out(void **state)
{
    const int64_t t[] = {10, 20, 30, 40, 50};
    const double v[] = {1, chunk_absent(), 3, num_from_bits(NUM_STALE_BITS), 5};
    struct samples s = {0};

    (void)state;
    assert_ok(samples_add_rows(&s, t, v, 5, 10, 40, &err), &err);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.t[1], 30);
    assert_true(num_is_stale(s.v[2]));
    assert_ok(samples_add_rows(&s, t, v, 5, 41, INT64_MAX, &err), &err);
    assert_int_equal(s.n, 4);
    assert_ok(samples_add_rows(&s, t, v, 5, 51, 60, &err), &err);
    assert_ok(samples_add_rows(&s, t, v, 5, 31, 29, &err), &err);
    assert_int_equal(s.n, 4);
    samples_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_content_gets_its_encoding),
        cmocka_unit_test(special_rows_do_not_spoil_the_numbers),
        cmocka_unit_test(rows_of_specials_alone_come_back),
        cmocka_unit_test(adversarial_columns_come_back),
        cmocka_unit_test(walks_of_all_scales_come_back),
        cmocka_unit_test(the_longest_chunk_comes_back_and_no_longer_one_is_taken),
        cmocka_unit_test(damaged_chunks_do_no_harm),
        cmocka_unit_test(out_of_memory_is_an_error_each_time),
        cmocka_unit_test(timestamps_come_back),
        cmocka_unit_test(rows_are_cut_to_a_range_and_absent_ones_left_out),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
