/* test_digits.c - digits side by side are those of printf(). */
#include "tests/support/test.h"

#include "src/base/digits.h"

static size_t without_zeros(const char *text)
{
    size_t n = strlen(text);

    while (text[n - 1] == '0')
        n--;
    return n;
}

static void four_digits_are_right_for_all_numbers(void **state)
{
    char text[5] = "", expected[16];

    (void)state;
    for (unsigned v = 0; v < 10000; v++) {
        snprintf(expected, sizeof expected, "%04u", v);
        digits_put_4(text, digits_4(v));
        assert_string_equal(text, expected);
    }
}

static void check_eight(unsigned v)
{
    char text[9] = "", expected[16];

    snprintf(expected, sizeof expected, "%08u", v);
    digits_put_8(text, digits_8(v));
    assert_string_equal(text, expected);
    if (v)
        assert_int_equal(digits_8_significant(digits_8(v)), without_zeros(expected));
}

static void eight_digits_are_right_and_zeros_at_their_end_are_known(void **state)
{
    struct test_random r = {2};

    (void)state;
    for (unsigned v = 0; v < 100000; v += TEST_STRIDE) {
        check_eight(v);
        check_eight(v * 1000);
        check_eight(99999999 - v);
        check_eight((unsigned)test_random_below(&r, 100000000));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_digits_are_right_for_all_numbers),
        cmocka_unit_test(eight_digits_are_right_and_zeros_at_their_end_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
