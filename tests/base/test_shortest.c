/* test_shortest.c - the shortest digits are compared with what printf() rounds to as many. */
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>

#include "src/base/num.h"
#include "src/base/shortest.h"

static double power_of_two(int n)
{
    return ldexp(1, n);
}

/* One that is known, with few bits now and then: then decimals lie half way. */
static double random_known(struct test_random *r)
{
    const uint64_t bits = test_random(r) & (((uint64_t)1 << 52) - 1);
    const uint64_t kept = test_random_below(r, 3) ? bits : bits >> 20 & ~(uint64_t)0xff;
    const uint64_t few = (bits | (uint64_t)1 << 51) & ~(uint64_t)0 << test_random_below(r, 51);
    const uint64_t fraction = test_random_below(r, 2) ? kept | 1 : few;

    return num_from_bits((1075 - 72 + test_random_below(r, 69)) << 52 | fraction);
}

static unsigned digits_of(uint64_t v)
{
    unsigned n = 0;

    for (; v; v /= 10)
        n++;
    return n;
}

/* As printf() has it, without the point: "1234e+05" is 1.234e+05. */
static void without_point(char *text)
{
    if (text[1] == '.')
        memmove(text + 1, text + 2, strlen(text + 2) + 1);
}

static void check(double v)
{
    const struct decimal d = shortest_decimal(v);
    const unsigned n = digits_of(d.digits);
    char text[64], expected[64];

    if (!d.digits)
        fail_msg("%.17g is not known", v);
    assert_true(d.digits % 10 != 0);
    snprintf(text, sizeof text, "%llue%+03d", (unsigned long long)d.digits,
             d.exponent + (int)n - 1);
    snprintf(expected, sizeof expected, "%.*e", (int)n - 1, v);
    without_point(expected);
    if (strcmp(text, expected) != 0)
        fail_msg("%.17g: %s, not %s", v, text, expected);
    snprintf(text, sizeof text, "%llue%d", (unsigned long long)d.digits, d.exponent);
    if (num_bits(strtod(text, NULL)) != num_bits(v))
        fail_msg("%.17g: %s reads as another", v, text);
    snprintf(text, sizeof text, "%.*e", n > 1 ? (int)n - 2 : 0, v);
    if (n > 1 && num_bits(strtod(text, NULL)) == num_bits(v))
        fail_msg("%.17g: %s is shorter", v, text);
}

static void digits_are_the_fewest_and_the_nearest(void **state)
{
    struct test_random r = {4};

    (void)state;
    for (int i = 0; i < 200000; i += TEST_STRIDE)
        check(random_known(&r));
}

static void neighbours_of_powers_of_two_are_known_and_these_are_not(void **state)
{
    (void)state;
    for (int n = -19; n <= 48; n++) {
        check(nextafter(power_of_two(n), HUGE_VAL));
        check(nextafter(power_of_two(n), 0));
        assert_int_equal(shortest_decimal(power_of_two(n)).digits, 0);
    }
}

static void decimals_half_way_become_even(void **state)
{
    (void)state;
    for (uint64_t i = 1; i < 1000; i += 2) /* eighths, where two decimals are enough */
        check((double)((uint64_t)1 << 47) + (double)i / 8);
    assert_int_equal(shortest_decimal(140737488355328.125).digits, 14073748835532812);
    assert_int_equal(shortest_decimal(140737488355328.375).digits, 14073748835532838);
}

static void what_is_too_small_or_too_large_is_not_known(void **state)
{
    static const double unknown[] = {0, -1.5, 5e-324, 1e-7, 1e15, 1e300, INFINITY, NAN};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(unknown); i++)
        assert_int_equal(shortest_decimal(unknown[i]).digits, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digits_are_the_fewest_and_the_nearest),
        cmocka_unit_test(neighbours_of_powers_of_two_are_known_and_these_are_not),
        cmocka_unit_test(decimals_half_way_become_even),
        cmocka_unit_test(what_is_too_small_or_too_large_is_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
