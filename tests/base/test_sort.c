/* test_sort.c - strings in order, whatever they begin with. */
#include "tests/support/test.h"

#include "src/base/sort.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *x, const void *y)
{
    return nx_slice_cmp(*(const struct nx_slice *)x, *(const struct nx_slice *)y);
}

static void is_sorted_as_by_comparing(struct nx_slice *v, size_t n)
{
    struct nx_slice *want = calloc(n + 1, sizeof *want);

    assert_non_null(want);
    if (n)
        memcpy(want, v, n * sizeof *want);
    qsort(want, n, sizeof *want, compare);
    nx_sort_slices(v, n);
    for (size_t i = 0; i < n; i++)
        assert_true(nx_slice_eq(want[i], v[i]));
    free(want);
}

/* Few letters and a long prefix: many share what goes into a number, some are prefixes of others, some have
 * bytes of zero, and some are there twice. */
static void random_strings_are_sorted(void **state)
{
    struct test_random r = {11};
    static char text[3000][48];
    static struct nx_slice v[3000];

    (void)state;
    for (int round = 0; round < 60; round++) {
        const size_t n = test_random_below(&r, 3000), prefix = test_random_below(&r, 20);
        const uint32_t letters = 1 + (uint32_t)test_random_below(&r, 4);
        for (size_t i = 0; i < n; i++) {
            size_t len = prefix + test_random_below(&r, 26);
            memset(text[i], 'p', prefix);
            for (size_t k = prefix; k < len; k++)
                text[i][k] = "\0az\xff"[test_random_below(&r, letters)];
            v[i] = nx_slice_of(text[i], len);
        }
        is_sorted_as_by_comparing(v, n);
    }
}

static void names_of_hosts_are_sorted(void **state)
{
    static char text[5000][40];
    static struct nx_slice v[5000];

    (void)state;
    for (size_t i = 0; i < 5000; i++)
        v[i] = nx_slice_of(text[i], (size_t)snprintf(text[i], sizeof text[i],
                                                     "host-%zu.example.org:9100", i * 7919 % 5000));
    is_sorted_as_by_comparing(v, 5000);
    is_sorted_as_by_comparing(v, 5000);
}

static void equal_ones_and_none_are_sorted(void **state)
{
    struct nx_slice v[200];

    (void)state;
    nx_sort_slices(v, 0);
    for (size_t i = 0; i < 200; i++)
        v[i] = i % 2 ? nx_slice_of("a\0", 2) : nx_slice_of("a", 1);
    is_sorted_as_by_comparing(v, 200);
    for (size_t i = 0; i < 200; i++)
        v[i] = nx_slice_of("", 0);
    is_sorted_as_by_comparing(v, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_strings_are_sorted),
        cmocka_unit_test(names_of_hosts_are_sorted),
        cmocka_unit_test(equal_ones_and_none_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
