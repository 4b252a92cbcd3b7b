/* test_hash.c - checksums by their published values. */
#include "tests/support/test.h"

#include "src/base/hash.h"

static void crc32c_gives_the_published_values(void **state)
{
    char zeros[32] = {0}, ones[32];

    (void)state;
    memset(ones, 0xff, sizeof ones);
    assert_int_equal(crc32c(0, "", 0), 0);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283); /* the check value */
    assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa);      /* RFC 3720, B.4 */
    assert_int_equal(crc32c(0, ones, 32), 0x62a8ab43);
}

static void hardware_and_table_agree_at_every_length_and_offset(void **state)
{
    struct test_random r = {3};
    uint8_t bytes[300];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)test_random(&r);
    for (size_t from = 0; from < 9; from++) {
        for (size_t len = 0; from + len <= sizeof bytes; len++) {
            uint32_t whole = crc32c(7, bytes + from, len);

            assert_int_equal(whole, crc32c_portable(7, bytes + from, len));
            assert_int_equal(whole, crc32c(crc32c(7, bytes + from, len / 3), bytes + from + len / 3,
                                           len - len / 3));
        }
    }
}

static void fnv1a_and_md5_give_the_published_values(void **state)
{
    uint8_t digest[16];

    (void)state;
    assert_true(hash_fnv1a(HASH_FNV1A_INIT, "", 0) == 0xcbf29ce484222325ull);
    assert_true(hash_fnv1a(HASH_FNV1A_INIT, "foobar", 6) == 0x85944171f73967e8ull);
    assert_true(hash_fnv1a(hash_fnv1a(HASH_FNV1A_INIT, "foo", 3), "bar", 3) ==
                0x85944171f73967e8ull);
    hash_md5("abc", 3, digest); /* RFC 1321, A.5 */
    assert_memory_equal(digest, "\x90\x01\x50\x98\x3c\xd2\x4f\xb0\xd6\x96\x3f\x7d\x28\xe1\x7f\x72",
                        16);
    hash_md5(NULL, 0, digest);
    assert_memory_equal(digest, "\xd4\x1d\x8c\xd9\x8f\x00\xb2\x04\xe9\x80\x09\x98\xec\xf8\x42\x7e",
                        16);
}

static void xxh3_gives_its_published_value_and_mixing_has_an_order(void **state)
{
    (void)state;
    assert_true(hash_bytes("", 0) == 0x2d06800538d394c2ull);
    assert_true(hash_bytes(NULL, 0) == hash_bytes("", 0));
    assert_true(hash_mix(1, 2) != hash_mix(2, 1));
    assert_true(hash_mix(0, 0) != hash_mix(0, 1));
}

static void sha256_in_hex_is_as_published(void **state)
{
    uint8_t digest[HASH_SHA256_BYTES];
    char hex[HASH_HEX_BYTES];

    (void)state;
    hash_sha256("abc", 3, digest);
    hash_hex(hex, digest);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_gives_the_published_values),
        cmocka_unit_test(hardware_and_table_agree_at_every_length_and_offset),
        cmocka_unit_test(fnv1a_and_md5_give_the_published_values),
        cmocka_unit_test(xxh3_gives_its_published_value_and_mixing_has_an_order),
        cmocka_unit_test(sha256_in_hex_is_as_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
