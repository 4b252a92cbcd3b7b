/* test_arena.c - limits, growth, marks, and memory that runs out. */
#include "tests/support/test.h"

#include "src/base/arena.h"
#include "tests/support/oom.h"

static struct nx_err err;

static void memory_is_aligned_and_does_not_overlap(void **state)
{
    struct arena *a = arena_new(0);
    char *last = NULL;

    (void)state;
    for (size_t n = 0; n < 3000; n++) {
        char *p = arena_alloc(a, n);

        assert_non_null(p);
        assert_true((uintptr_t)p % 16 == 0);
        memset(p, (int)(n & 0xff), n);
        if (last) {
            for (size_t i = 0; i + 1 < n; i++)
                assert_true(last[i] == (char)((n - 1) & 0xff));
        }
        last = p;
    }
    arena_free(a);
}

static void the_limit_counts_every_byte_held(void **state)
{
    struct arena *a = arena_new(10000);
    size_t got = 0;

    (void)state;
    while (arena_alloc(a, 100))
        got += 100;
    assert_in_range(arena_bytes(a), 1, 10000);
    assert_in_range(got, 8500, 10000); /* and nearly all of it is of use */
    assert_status(arena_failed(a, &err), NX_LIMIT);
    assert_string_equal(err.text, "memory limit of 10000 bytes exceeded");
    assert_null(arena_alloc(a, SIZE_MAX));
    assert_null(arena_array(a, SIZE_MAX / 2, 3));
    assert_status(arena_failed(a, &err), NX_LIMIT);
    arena_free(a);
}

/* Two requests are often checked together. */
static void a_failure_is_told_after_a_smaller_request_succeeded(void **state)
{
    struct arena *a = arena_new(100000);

    (void)state;
    assert_null(arena_alloc(a, 100001));
    assert_non_null(arena_alloc(a, 50000));
    assert_status(arena_failed(a, &err), NX_LIMIT);
    arena_free(a);
}

static void an_impossible_size_without_a_limit_is_out_of_memory(void **state)
{
    struct arena *a = arena_new(0);

    (void)state;
    assert_null(arena_array(a, SIZE_MAX / 2, 3));
    assert_null(arena_alloc(a, SIZE_MAX - 5));
    assert_null(arena_strndup(a, "", SIZE_MAX));
    assert_status(arena_failed(a, &err), NX_NOMEM);
    arena_free(a);
}

static void a_failed_malloc_is_told_and_passes(void **state)
{
    struct arena *a;

    (void)state;
    oom_fail_at(1);
    assert_null(arena_new(0));
    assert_true(oom_off());
    a = arena_new(1 << 20);
    oom_fail_at(1);
    assert_null(arena_alloc(a, 10));
    assert_true(oom_off());
    assert_status(arena_failed(a, &err), NX_NOMEM);
    assert_non_null(arena_alloc(a, 10));
    arena_free(a);
}

static void growing_the_newest_stays_in_place_and_any_other_moves(void **state)
{
    struct arena *a = arena_new(0);
    char *p = arena_grow(a, NULL, 0, 10), *q;

    (void)state;
    memcpy(p, "012345678", 10);
    assert_ptr_equal(arena_grow(a, p, 10, 500), p);
    assert_string_equal(p, "012345678");
    assert_ptr_equal(arena_grow(a, p, 500, 20), p); /* smaller: nothing to do */
    arena_alloc(a, 1);
    q = arena_grow(a, p, 500, 1000);
    assert_ptr_not_equal(q, p);
    assert_string_equal(q, "012345678");
    q = arena_grow(a, q, 1000, 1 << 20);
    assert_string_equal(q, "012345678");
    arena_free(a);
}

static void releasing_a_mark_gives_back_what_came_after(void **state)
{
    struct arena *a = arena_new(1 << 20);
    char *kept = arena_strdup(a, "kept");
    struct arena_mark mark = arena_mark(a);
    size_t bytes = arena_bytes(a);

    (void)state;
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 100; i++)
            assert_non_null(arena_zalloc(a, 5000));
        arena_release(a, mark);
        assert_int_equal(arena_bytes(a), bytes);
    }
    assert_string_equal(kept, "kept");
    arena_free(a);
}

static void a_mark_of_an_empty_arena_empties_it(void **state)
{
    struct arena *a = arena_new(0);
    struct arena_mark mark = arena_mark(a);

    (void)state;
    arena_alloc(a, 100);
    arena_release(a, mark);
    assert_int_equal(arena_bytes(a), 0);
    arena_free(a);
}

static void reset_keeps_one_block_and_forgets_the_failure(void **state)
{
    struct arena *a = arena_new(100000);
    size_t bytes;

    (void)state;
    while (arena_alloc(a, 1000))
        ;
    arena_reset(a);
    bytes = arena_bytes(a);
    assert_in_range(bytes, 1, 10000);
    for (int i = 0; i < 1000; i++) {
        assert_non_null(arena_alloc(a, 1000));
        arena_reset(a);
    }
    assert_int_equal(arena_bytes(a), bytes);
    arena_free(a);
}

static void copies_are_terminated_and_printing_fits(void **state)
{
    struct arena *a = arena_new(0);
    struct nx_slice s = arena_slice(a, LIT("a\0b"));

    (void)state;
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.ptr, "a\0b", 3);
    assert_non_null(arena_slice(a, nx_slice_of(NULL, 0)).ptr);
    assert_string_equal(arena_strndup(a, "abcdef", 3), "abc");
    assert_string_equal(arena_strndup(a, NULL, 0), "");
    assert_string_equal(arena_printf(a, "%s-%d", "x", 7), "x-7");
    arena_free(a);
}

static void fill(struct arena *a)
{
    for (int i = 0; i < 200; i++) {
        char *p = arena_zalloc(a, 4000);

        assert_non_null(p);
        for (int j = 0; j < 4000; j++)
            assert_int_equal(p[j], 0);
        memset(p, 0x77, 4000);
    }
    assert_in_range(arena_bytes(a), 800000, 1u << 20);
}

/* Blocks of a large query stay for the next one until they are given back; a small one has none, and nobody
 * would give back those of an arena that is no query's. */
static void freed_blocks_serve_again_until_released(void **state)
{
    struct arena_share share = {0};
    struct arena *a = arena_new(0);

    (void)state;
    arena_spare_release();
    arena_join(a, &share);
    assert_non_null(arena_alloc(a, 1000));
    arena_free(a);
    assert_false(arena_spare_held());
    a = arena_new(0);
    fill(a);
    arena_free(a);
    assert_false(arena_spare_held());
    for (int turn = 0; turn < 3; turn++) {
        a = arena_new(1u << 20);
        arena_join(a, &share);
        fill(a);
        arena_free(a);
    }
#if !defined(__SANITIZE_ADDRESS__)
    assert_true(arena_spare_held());
#endif
    arena_spare_release();
    assert_false(arena_spare_held());
}

static void an_arena_gives_nothing_after_its_query_is_called_off(void **state)
{
    int cancel = 0;
    struct arena_share share = {.cancel = &cancel};
    struct arena *a = arena_new(0);

    (void)state;
    arena_join(a, &share);
    assert_non_null(arena_alloc(a, 100));
    cancel = 1;
    assert_non_null(arena_alloc(a, 16)); /* of the block that it has */
    assert_null(arena_alloc(a, 500000));
    assert_status(arena_failed(a, &err), NX_CANCELED);
    assert_non_null(strstr(err.text, nx_status_text(NX_CANCELED)));
    cancel = 0;
    assert_non_null(arena_alloc(a, 500000));
    share.deadline_ns = 1; /* long ago */
    assert_null(arena_alloc(a, 500000));
    assert_status(arena_failed(a, &err), NX_TIMEOUT);
    share.deadline_ns = INT64_MAX;
    assert_non_null(arena_alloc(a, 500000));
    share.deadline_ns = 1;
    arena_leave(a);
    assert_non_null(arena_alloc(a, 500000)); /* what is left of it is the result's */
    arena_free(a);
}

static void what_lies_beside_the_arenas_counts_with_them(void **state)
{
    struct arena_share share = {.limit_bytes = 100000};
    struct arena *a = arena_new(0);

    (void)state;
    arena_join(a, &share);
    assert_ok(arena_share_take(&share, 60000, &err), &err);
    assert_null(arena_alloc(a, 50000));
    assert_status(arena_failed(a, &err), NX_LIMIT);
    assert_true(arena_share_exceeded(&share));
    assert_int_equal(share.bytes, 60000);
    assert_status(arena_share_take(&share, 40001, &err), NX_LIMIT);
    assert_non_null(strstr(err.text, "100000 bytes"));
    assert_status(arena_share_take(&share, SIZE_MAX, &err), NX_LIMIT);
    assert_int_equal(share.bytes, 60000);
    arena_share_give(&share, 60000);
    assert_non_null(arena_alloc(a, 50000));
    assert_status(arena_share_take(&share, 60000, &err), NX_LIMIT);
    arena_free(a);
    assert_int_equal(share.bytes, 0);
    assert_ok(arena_share_take(NULL, SIZE_MAX, &err), &err);
    arena_share_give(NULL, SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_and_does_not_overlap),
        cmocka_unit_test(the_limit_counts_every_byte_held),
        cmocka_unit_test(a_failure_is_told_after_a_smaller_request_succeeded),
        cmocka_unit_test(an_impossible_size_without_a_limit_is_out_of_memory),
        cmocka_unit_test(a_failed_malloc_is_told_and_passes),
        cmocka_unit_test(growing_the_newest_stays_in_place_and_any_other_moves),
        cmocka_unit_test(releasing_a_mark_gives_back_what_came_after),
        cmocka_unit_test(a_mark_of_an_empty_arena_empties_it),
        cmocka_unit_test(reset_keeps_one_block_and_forgets_the_failure),
        cmocka_unit_test(copies_are_terminated_and_printing_fits),
        cmocka_unit_test(freed_blocks_serve_again_until_released),
        cmocka_unit_test(an_arena_gives_nothing_after_its_query_is_called_off),
        cmocka_unit_test(what_lies_beside_the_arenas_counts_with_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
