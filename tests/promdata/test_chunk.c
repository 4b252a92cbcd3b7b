/* test_chunk.c - XOR and XOR2 against bits written by hand and by a plain encoder. */
#include "tests/support/test.h"

#include <math.h>

#include "src/base/num.h"
#include "src/promdata/chunk.h"
#include "tests/support/promfiles.h"

#define STALE num_from_bits(0x7ff0000000000002ull)

static void expect(uint8_t encoding, const struct buf *b, const int64_t *t, const double *v,
                   size_t n)
{
    struct pd_samples s = {0};
    struct nx_err err;

    assert_int_equal(pd_chunk_count((const uint8_t *)b->ptr, b->len), n);
    assert_ok(pd_chunk_decode(encoding, (const uint8_t *)b->ptr, b->len, &s, &err), &err);
    assert_int_equal(s.n, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(s.t[i], t[i]);
        assert_int_equal(num_bits(s.v[i]), num_bits(v[i]));
    }
    pd_samples_done(&s);
}

static void xor_by_hand(void **state)
{
    /* Time 1000 (zigzag 2000 = d0 0f), value 1.0; 10 later the same; 11 later 2.0; 11 later 1.0 again. */
    static const int64_t t[] = {1000, 1010, 1021, 1032};
    static const double v[] = {1, 1, 2, 1};
    struct buf b;
    struct prom_bits p = {&b, 0};

    (void)state;
    buf_init(&b, 0);
    prom_u16(&b, 4);
    prom_bit_text(&p, "1101 0000 0000 1111");
    prom_bits(&p, 0x3ff0000000000000, 64);
    prom_bit_text(&p, "0000 1010 0"); /* 10 later; no change */
    /* One more than before; 3ff0... ^ 4000... = 7ff0...: 1 zero before, 11 bits, from bit 52 on. */
    prom_bit_text(&p, "10 00000000000001  11 00001 001011 11111111111");
    prom_bit_text(&p, "0  10 11111111111"); /* the same window */
    expect(PD_XOR, &b, t, v, 4);
    buf_done(&b);
}

static void all_64_bits_count_as_a_window_before_the_first_one(void **state)
{
    static const int64_t t[] = {-5, 0};
    static const double v[] = {1, -3.75};
    struct buf b;
    struct prom_bits p = {&b, 0};

    (void)state;
    buf_init(&b, 0);
    prom_u16(&b, 2);
    prom_bit_text(&p, "0000 1001");
    prom_bits(&p, num_bits(1), 64);
    prom_bit_text(&p, "0000 0101 10");
    prom_bits(&p, num_bits(1) ^ num_bits(-3.75), 64);
    expect(PD_XOR, &b, t, v, 2);
    buf_done(&b);
}

/* Times whose differences change by the last number of each width, and the one behind it. */
static void differences_of_every_width(void **state)
{
    static const int64_t ends[] = {1,      -1,     8191,   -8191,   8192,    -8192,      8193,
                                   65535,  -65535, 65536,  -65536,  65537,   524287,     -524287,
                                   524288, 524289, 524290, -524288, -524289, 5000000000, -4095,
                                   4095,   4096,   -4096,  -4097,   0};
    int64_t t[2 + NX_COUNT(ends)], delta = 10000000000;
    double v[2 + NX_COUNT(ends)];

    (void)state;
    t[0] = -77;
    t[1] = t[0] + delta;
    v[0] = 0.1;
    v[1] = 0.1;
    for (size_t i = 0; i < NX_COUNT(ends); i++) {
        delta += ends[i];
        t[i + 2] = t[i + 1] + delta;
        v[i + 2] = i % 3 == 0 ? v[i + 1] : sin((double)i) * pow(10, (double)i - 12);
    }
    for (size_t n = 0; n <= NX_COUNT(t); n++) {
        struct buf b;
        buf_init(&b, 0);
        prom_xor(&b, t, v, n);
        expect(PD_XOR, &b, t, v, n);
        for (int starts = 0; starts < 3; starts++) {
            buf_clear(&b);
            prom_xor2(&b, t, v, n, starts);
            expect(PD_XOR2, &b, t, v, n);
        }
        buf_done(&b);
    }
}

static void every_value_to_the_bit(void **state)
{
    const double v[] = {0,
                        -0.0,
                        1,
                        STALE,
                        1,
                        2,
                        STALE,
                        STALE,
                        INFINITY,
                        -INFINITY,
                        num_from_bits(1),
                        num_from_bits(0x7ff8000000000001ull),
                        num_from_bits(0xfff8dead0000beefull),
                        42,
                        42,
                        42,
                        num_from_bits(~0ull),
                        num_from_bits(0x5555555555555555ull),
                        STALE};
    int64_t t[NX_COUNT(v)];
    struct buf b;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(v); i++)
        t[i] = 1700000000000 + 15000 * (int64_t)i + (i % 7 == 3);
    buf_init(&b, 0);
    prom_xor(&b, t, v, NX_COUNT(v));
    expect(PD_XOR, &b, t, v, NX_COUNT(v));
    for (int starts = 0; starts < 3; starts++) {
        buf_clear(&b);
        prom_xor2(&b, t, v, NX_COUNT(v), starts);
        expect(PD_XOR2, &b, t, v, NX_COUNT(v));
        /* And with a marker at the start. */
        buf_clear(&b);
        prom_xor2(&b, t, v + 3, 5, starts);
        expect(PD_XOR2, &b, t, v + 3, 5);
    }
    buf_done(&b);
}

static void xor2_by_hand(void **state)
{
    static const int64_t t[] = {1, 3, 5, 7, 8, 9};
    const double v[] = {1, 1, 2, STALE, STALE, 2};
    struct buf b;
    struct prom_bits p = {&b, 0};

    (void)state;
    buf_init(&b, 0);
    prom_u16(&b, 6);
    buf_u8(&b, 0);
    prom_bit_text(&p, "0000 0010");
    prom_bits(&p, num_bits(1), 64);
    prom_bit_text(&p, "0000 0010 0");
    prom_bit_text(&p, "10 1 00001 001011 11111111111"); /* same pace, new window */
    prom_bit_text(&p, "11111");                         /* same pace, stale */
    prom_bit_text(&p, "110 1111111111111 111");         /* one less, stale */
    prom_bit_text(&p, "0");                             /* same pace, as before the markers */
    expect(PD_XOR2, &b, t, v, 6);
    buf_done(&b);
}

static void what_breaks_off_is_refused_and_adds_nothing(void **state)
{
    int64_t t[40];
    double v[40];
    struct pd_samples s = {0};
    struct nx_err err;

    (void)state;
    for (size_t i = 0; i < 40; i++) {
        t[i] = (int64_t)(i * i * 1000);
        v[i] = sqrt((double)i);
    }
    for (int two = 0; two < 2; two++) {
        struct buf b;
        buf_init(&b, 0);
        if (two)
            prom_xor2(&b, t, v, 40, 2);
        else
            prom_xor(&b, t, v, 40);
        for (size_t len = 0; len < b.len; len++) {
            char *exact = malloc(len + 1); /* for the sanitizer */
            memcpy(exact, b.ptr, len);
            assert_status(pd_chunk_decode(two ? PD_XOR2 : PD_XOR, (uint8_t *)exact, len, &s, &err),
                          NX_CORRUPT);
            free(exact);
        }
        buf_done(&b);
    }
    assert_int_equal(s.n, 0);
    assert_status(pd_chunk_decode(9, (const uint8_t *)"\0\1xxxxxxxxxxxx", 14, &s, &err),
                  NX_CORRUPT);
    assert_status(pd_chunk_decode(PD_XOR, (const uint8_t *)"\xff\xffxxxx", 6, &s, &err),
                  NX_CORRUPT);
    pd_samples_done(&s);
}

static void samples_merge_and_sort_and_the_first_stays(void **state)
{
    struct pd_samples a = {0}, b = {0}, spare = {0};
    struct pd_same same = {0};
    struct nx_err err;

    (void)state;
    assert_ok(pd_samples_reserve(&a, 8, &err), &err);
    assert_ok(pd_samples_reserve(&b, 8, &err), &err);
    for (int i = 0; i < 4; i++) {
        a.t[i] = (int64_t[]){5, 1, 5, 3}[i];
        a.v[i] = (double[]){50, 10, 51, 30}[i];
    }
    a.n = 4;
    assert_ok(pd_samples_sort(&a, &same, &err), &err);
    assert_int_equal(a.n, 3);
    assert_true(a.t[0] == 1 && a.t[1] == 3 && a.t[2] == 5 && a.v[2] == 50);
    assert_true(same.conflicting == 1 && same.equal == 0);
    for (int i = 0; i < 3; i++) {
        b.t[i] = (int64_t[]){2, 3, 9}[i];
        b.v[i] = (double[]){20, 30, 90}[i];
    }
    b.n = 3;
    assert_ok(pd_samples_merge(&a, &b, &spare, &same, &err), &err);
    assert_true(a.n == 5 && a.t[1] == 2 && a.t[4] == 9);
    assert_true(same.conflicting == 1 && same.equal == 1);
    pd_samples_done(&a);
    pd_samples_done(&b);
    pd_samples_done(&spare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xor_by_hand),
        cmocka_unit_test(all_64_bits_count_as_a_window_before_the_first_one),
        cmocka_unit_test(differences_of_every_width),
        cmocka_unit_test(every_value_to_the_bit),
        cmocka_unit_test(xor2_by_hand),
        cmocka_unit_test(what_breaks_off_is_refused_and_adds_nothing),
        cmocka_unit_test(samples_merge_and_sort_and_the_first_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
