/* The quick scanners of sample values: what they take is what the general parser says, to the bit and to
 * the byte, and looking ahead changes nothing. */
#include "../support/test.h"

#include "src/base/num.h"
#include "src/expo/number.h"

static void check(const char *text)
{
    char room[NUMBER_AHEAD + 64];
    double plain = 1, ahead = 2, general = 3;
    const char *a, *b;

    assert_true(strlen(text) < 60);
    memset(room, '7', sizeof room); /* what follows must not matter */
    memcpy(room, text, strlen(text));
    room[strlen(text)] = '\n';
    a = number_scan(room, &plain);
    b = number_scan_ahead(room, &ahead);
    if (a != b)
        fail_msg("%s: %td bytes, looking ahead %td", text, a ? a - room : -1, b ? b - room : -1);
    if (!a)
        return;
    assert_int_equal(num_bits(plain), num_bits(ahead));
    assert_true(num_parse(nx_slice_of(room, (size_t)(a - room)), &general, NULL));
    if (num_bits(plain) != num_bits(general))
        fail_msg("%s: %.17g, not %.17g", text, plain, general);
}

static void chosen_texts(void **state)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "1",
        "12345678",
        "123456789",
        "1234567890123456",
        "12345678901234567",
        "9007199254740992",
        "9007199254740993",
        "123456789012345678901234567890",
        "0.1",
        "-0.25",
        "1.",
        ".5",
        ".",
        "-",
        "",
        "-.",
        "1.5e3",
        "1e22",
        "1e23",
        "1e-22",
        "1e+08",
        "6.2357262011e+10",
        "0.000000000000000000000001",
        "12345678.12345678",
        "1234567.1234567",
        "12345678.",
        "1e",
        "1e+",
        "1e99999",
        "Inf",
        "NaN",
        "0x10",
        "1_0",
        "1:2",
        "1/2",
        "1e5.5",
        "3.141592653589793",
        "100000000",
        "99999999.99999999",
        "\xff"
        "1",
        "1\xff",
        "12345678\xb0",
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++)
        check(texts[i]);
}

static void random_texts(void **state)
{
    static const char alphabet[] = "0123456789012345678901234567890123456789..ee+-\xb5";
    uint64_t seed = 88172645463325252u;
    char text[40];

    (void)state;
    for (int round = 0; round < 300000; round++) {
        size_t n;
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        n = seed % 30;
        for (size_t i = 0; i < n; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            text[i] = alphabet[seed % (sizeof alphabet - 1)];
        }
        text[n] = '\0';
        check(text);
        snprintf(text, sizeof text, "%.*g", (int)(seed >> 40) % 17 + 1, (double)(seed >> 11) / 1e9);
        check(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chosen_texts),
        cmocka_unit_test(random_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
