/* test_buf.c - bounded buffers, and the reader over bytes that may end anywhere. */
#include "tests/support/test.h"

#include "tests/support/oom.h"

static struct nx_err err;

static void appends_stop_at_the_limit_and_say_so_at_the_end(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 10);
    buf_str(&b, "12345678");
    buf_str(&b, "abc"); /* does not fit: not even its first two bytes go in */
    buf_char(&b, 'x');
    buf_printf(&b, "y");
    assert_buf(&b, "12345678", "a prefix of what was wanted");
    assert_status(buf_status(&b, &err), NX_LIMIT);
    assert_string_equal(buf_cstr(&b), "");
    assert_null(buf_reserve(&b, 1));
    buf_clear(&b);
    assert_status(buf_status(&b, &err), NX_OK);
    buf_str(&b, "0123456789"); /* exactly the limit */
    assert_string_equal(buf_cstr(&b), "0123456789");
    assert_status(buf_status(&b, &err), NX_OK);
    buf_char(&b, 'x');
    assert_status(buf_status(&b, &err), NX_LIMIT);
    buf_done(&b);
}

static void blanks_at_the_end_are_cut(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    buf_trim_end(&b);
    buf_str(&b, " a b\t \r\n\n");
    buf_trim_end(&b);
    assert_buf(&b, " a b", "buf_trim_end");
    buf_clear(&b);
    buf_str(&b, " \n");
    buf_trim_end(&b);
    assert_buf(&b, "", "nothing but blanks");
    buf_done(&b);
}

static void printing_fills_up_to_the_limit_exactly(void **state)
{
    (void)state;
    for (size_t limit = 1; limit < 200; limit++) {
        struct buf b;

        buf_init(&b, limit);
        for (size_t i = 0; i < limit; i++)
            buf_printf(&b, "%d", (int)(i % 10));
        assert_status(buf_status(&b, &err), NX_OK);
        assert_int_equal(b.len, limit);
        assert_int_equal(strlen(buf_cstr(&b)), limit);
        buf_printf(&b, "%s", "");
        assert_status(buf_status(&b, &err), NX_OK);
        buf_printf(&b, "%d", 1);
        assert_status(buf_status(&b, &err), NX_LIMIT);
        assert_int_equal(b.len, limit);
        buf_done(&b);
    }
}

static void a_failed_allocation_marks_the_buffer(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct buf b;
        bool hit;

        buf_init(&b, 0);
        oom_fail_at(n);
        for (int i = 0; i < 100; i++)
            buf_printf(&b, "%d,", i);
        hit = oom_off();
        assert_status(buf_status(&b, &err), hit ? NX_NOMEM : NX_OK);
        assert_memory_equal(buf_view(&b).ptr, "0,1,2,3,4,5", b.len < 11 ? b.len : 11);
        buf_done(&b);
        if (!hit) {
            assert_in_range(n, 3, 20);
            return;
        }
    }
}

static void an_empty_buffer_is_an_empty_text(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    assert_non_null(buf_view(&b).ptr);
    assert_string_equal(buf_cstr(&b), "");
    buf_append(&b, NULL, 0);
    buf_done(&b);
    buf_done(NULL);
}

static void put_all(struct buf *b)
{
    buf_u8(b, 0xab);
    buf_u16le(b, 0x1234);
    buf_u32le(b, 0xdeadbeef);
    buf_u64le(b, 0x0123456789abcdefull);
    buf_uvarint(b, 0);
    buf_uvarint(b, 300);
    buf_uvarint(b, UINT64_MAX);
    buf_varint(b, -1);
    buf_varint(b, INT64_MIN);
    buf_varint(b, INT64_MAX);
    buf_str(b, "tail");
}

static bool take_all(struct reader *r)
{
    return reader_u8(r) == 0xab && reader_u16le(r) == 0x1234 && reader_u32le(r) == 0xdeadbeef &&
           reader_u64le(r) == 0x0123456789abcdefull && reader_uvarint(r) == 0 &&
           reader_uvarint(r) == 300 && reader_uvarint(r) == UINT64_MAX && reader_varint(r) == -1 &&
           reader_varint(r) == INT64_MIN && reader_varint(r) == INT64_MAX &&
           nx_slice_is(reader_bytes(r, 4), "tail");
}

static void what_was_written_reads_back(void **state)
{
    struct buf b;
    struct reader r;

    (void)state;
    buf_init(&b, 0);
    put_all(&b);
    assert_memory_equal(b.ptr + 1, "\x34\x12\xef\xbe\xad\xde", 6);
    r = reader_of(b.ptr, b.len);
    assert_true(take_all(&r));
    assert_false(r.bad);
    assert_int_equal(reader_left(&r), 0);
    assert_int_equal(reader_u8(&r), 0);
    assert_true(r.bad);
    buf_done(&b);
}

static void every_truncation_marks_the_reader(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    put_all(&b);
    for (size_t len = 0; len < b.len; len++) {
        char *exact = malloc(len ? len : 1); /* so that a sanitizer sees one byte more */
        struct reader r;

        memcpy(exact, b.ptr, len);
        r = reader_of(exact, len);
        assert_false(take_all(&r));
        /* whatever was not taken yet: a bad reader gives zeros for good */
        reader_bytes(&r, b.len);
        assert_true(r.bad);
        assert_int_equal(reader_left(&r), 0);
        assert_int_equal(reader_u64le(&r), 0);
        assert_int_equal(reader_bytes(&r, 0).len, 0);
        free(exact);
    }
    buf_done(&b);
}

static void varints_of_more_than_64_bits_are_bad(void **state)
{
    static const char too_long[] = "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01";
    static const char too_large[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02";
    struct reader r = reader_of(too_long, sizeof too_long - 1);

    (void)state;
    assert_int_equal(reader_uvarint(&r), 0);
    assert_true(r.bad);
    r = reader_of(too_large, sizeof too_large - 1);
    assert_int_equal(reader_uvarint(&r), 0);
    assert_true(r.bad);
}

static void an_absurd_length_is_bad(void **state)
{
    struct reader r = reader_of("abc", 3);

    (void)state;
    assert_int_equal(reader_bytes(&r, SIZE_MAX).len, 0);
    assert_true(r.bad);
    r = reader_of(NULL, 0);
    assert_int_equal(reader_left(&r), 0);
    assert_int_equal(reader_u8(&r), 0);
    assert_true(r.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_stop_at_the_limit_and_say_so_at_the_end),
        cmocka_unit_test(blanks_at_the_end_are_cut),
        cmocka_unit_test(printing_fills_up_to_the_limit_exactly),
        cmocka_unit_test(a_failed_allocation_marks_the_buffer),
        cmocka_unit_test(an_empty_buffer_is_an_empty_text),
        cmocka_unit_test(what_was_written_reads_back),
        cmocka_unit_test(every_truncation_marks_the_reader),
        cmocka_unit_test(varints_of_more_than_64_bits_are_bad),
        cmocka_unit_test(an_absurd_length_is_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
