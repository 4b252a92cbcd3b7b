/* Integer streams: every width, exceptions, divisors, overflow, and bytes that are no stream. */
#include "tests/support/test.h"

#include "storage/codec.h"

#define MAX_N 1000u

struct coded {
    struct buf bytes;
    int64_t tmp[3 * MAX_N];
};

static void comes_back(struct coded *c, const int64_t *q, size_t n, enum codec_effort effort)
{
    int64_t got[MAX_N];
    struct reader r;

    buf_clear(&c->bytes);
    codec_put_ints(&c->bytes, q, n, effort, c->tmp);
    r = reader_of(c->bytes.ptr, c->bytes.len);
    assert_true(codec_get_ints(&r, got, n));
    assert_int_equal(reader_left(&r), 0);
    assert_memory_equal(got, q, n * sizeof *q);
}

static void both(struct coded *c, const int64_t *q, size_t n)
{
    comes_back(c, q, n, CODEC_FAST);
    comes_back(c, q, n, CODEC_SMALL);
}

static void every_width_and_length_comes_back(void **state)
{
    static struct coded c;
    struct test_random r = {1};
    int64_t q[MAX_N];

    (void)state;
    for (unsigned w = 0; w <= 64; w++) {
        for (size_t n = 1; n <= 400; n += n < 20 ? 1 : 37) {
            for (size_t i = 0; i < n; i++)
                q[i] = (int64_t)(w == 64 ? test_random(&r)
                                         : test_random(&r) & ((UINT64_C(1) << w) - 1));
            both(&c, q, n);
        }
    }
    buf_done(&c.bytes);
}

static void extremes_and_overflowing_differences_come_back(void **state)
{
    static const int64_t extreme[] = {INT64_MIN, INT64_MAX, 0, -1, 1, INT64_MIN + 1, INT64_MAX - 1};
    static struct coded c;
    struct test_random r = {2};
    int64_t q[MAX_N];

    (void)state;
    for (int round = 0; round < 300; round++) {
        size_t n = 1 + test_random_below(&r, 260);
        for (size_t i = 0; i < n; i++)
            q[i] = extreme[test_random_below(&r, NX_COUNT(extreme))];
        both(&c, q, n);
    }
    buf_done(&c.bytes);
}

static void one_reset_does_not_widen_its_neighbours(void **state)
{
    static struct coded c;
    int64_t q[480], sum = 123456789012;
    size_t plain;

    (void)state;
    for (size_t i = 0; i < 480; i++)
        q[i] = sum += 1000 + (int64_t)(i * 7 % 5);
    both(&c, q, 480);
    plain = c.bytes.len;
    for (size_t i = 300; i < 480; i++)
        q[i] -= 123456789012;
    both(&c, q, 480);
    assert_in_range(c.bytes.len, plain,
                    plain + 24); /* as the difference's odd one, with its position */
    buf_done(&c.bytes);
}

static void a_regular_pace_costs_a_few_bytes(void **state)
{
    static struct coded c;
    int64_t q[960];

    (void)state;
    for (size_t i = 0; i < 960; i++)
        q[i] = 1735689600000 + 15000 * (int64_t)i;
    both(&c, q, 960);
    assert_in_range(c.bytes.len, 1, 12);
    buf_done(&c.bytes);
}

static void a_common_divisor_is_taken_out(void **state)
{
    static struct coded c;
    struct test_random r = {3};
    int64_t q[480];
    size_t pages, bytes;

    (void)state;
    for (size_t i = 0; i < 480; i++)
        q[i] = 1000 + (int64_t)test_random_below(&r, 256);
    both(&c, q, 480);
    pages = c.bytes.len;
    for (size_t i = 0; i < 480; i++)
        q[i] *= 4096;
    both(&c, q, 480);
    bytes = c.bytes.len;
    assert_in_range(bytes, pages, pages + 8);
    for (size_t i = 0; i < 480; i++)
        q[i] = q[i] / 4096 * -1000 - 7; /* no power of two, negative, with a rest */
    both(&c, q, 480);
    assert_in_range(c.bytes.len, pages, pages + 8);
    buf_done(&c.bytes);
}

static void order_of_doubles_is_kept_both_ways(void **state)
{
    static const double ascending[] = {-1e308,   -1, -4.9e-324,          -0.0, 0.0,
                                       4.9e-324, 1,  1.0000000000000002, 1e308};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(ascending); i++) {
        uint64_t bits;
        memcpy(&bits, &ascending[i], 8);
        assert_true(codec_unorder(codec_order(bits)) == bits);
        if (i) {
            uint64_t before;
            memcpy(&before, &ascending[i - 1], 8);
            assert_true(codec_order(before) < codec_order(bits));
        }
    }
}

static void damaged_bytes_are_refused_or_give_numbers(void **state)
{
    static struct coded c;
    struct test_random r = {4};
    int64_t q[400], got[400];

    (void)state;
    for (size_t i = 0; i < 400; i++)
        q[i] = (int64_t)test_random_below(&r, 1000) + (i % 50 == 0 ? 1000000 : 0);
    codec_put_ints(&c.bytes, q, 400, CODEC_SMALL, c.tmp);
    for (size_t len = 0; len < c.bytes.len; len++) { /* cut anywhere: never enough */
        char *exact = malloc(len + 1);
        struct reader cut;

        memcpy(exact, c.bytes.ptr, len);
        cut = reader_of(exact, len);
        assert_false(codec_get_ints(&cut, got, 400));
        free(exact);
    }
    for (int round = 0; round < 20000; round++) {
        size_t len = test_random_below(&r, 300);
        uint8_t *noise = malloc(len + 1);
        struct reader any;

        for (size_t i = 0; i < len; i++)
            noise[i] = (uint8_t)test_random(&r);
        any = reader_of(noise, len);
        (void)codec_get_ints(&any, got, 1 + test_random_below(&r, 400));
        free(noise);
    }
    buf_done(&c.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_and_length_comes_back),
        cmocka_unit_test(extremes_and_overflowing_differences_come_back),
        cmocka_unit_test(one_reset_does_not_widen_its_neighbours),
        cmocka_unit_test(a_regular_pace_costs_a_few_bytes),
        cmocka_unit_test(a_common_divisor_is_taken_out),
        cmocka_unit_test(order_of_doubles_is_kept_both_ways),
        cmocka_unit_test(damaged_bytes_are_refused_or_give_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
