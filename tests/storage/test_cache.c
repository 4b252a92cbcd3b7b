/* The page cache: its bound, its pins, and many threads at once. */
#include "tests/support/test.h"

#include <stdatomic.h>

#include "src/base/thread.h"
#include "storage/cache.h"

#define PAGE_BYTES 1000u
#define THREADS    4
#define N_PAGES    64u

static struct nx_err err;
static atomic_uint loads;

/* A page holds its own number; page 999 can't be loaded. */
static nx_status load(void *ctx, uint64_t page, uint8_t **ptr, size_t *len, struct nx_err *e)
{
    (void)ctx;
    if (page == 999)
        return nx_fail(e, NX_IO, "page 999");
    *ptr = calloc(1, PAGE_BYTES);
    *len = PAGE_BYTES;
    memcpy(*ptr, &page, sizeof page);
    atomic_fetch_add(&loads, 1);
    return NX_OK;
}

static uint64_t number_in(const struct cache_page *p)
{
    uint64_t n;

    memcpy(&n, p->ptr, sizeof n);
    return n;
}

static struct cache_stats stats_of(struct cache *c)
{
    struct cache_stats s;

    cache_get_stats(c, &s);
    return s;
}

static void touch(struct cache *c, uint64_t file, uint64_t page)
{
    struct cache_page p = {0};

    assert_ok(cache_get(c, file, page, load, NULL, &p, &err), &err);
    assert_int_equal(number_in(&p), page);
    assert_int_equal(p.len, PAGE_BYTES);
    cache_put(c, &p);
    assert_null(p.ptr);
}

static void the_bound_holds_and_the_longest_unused_goes(void **state)
{
    struct cache *c = cache_new(10 * 1200);
    uint64_t file = cache_file_id(c);
    struct cache_stats s;

    (void)state;
    for (uint64_t i = 0; i < 9; i++)
        touch(c, file, i);
    touch(c, file, 0); /* used again: stays */
    for (uint64_t i = 100; i < 107; i++)
        touch(c, file, i);
    s = stats_of(c);
    assert_true(s.bytes <= s.limit_bytes);
    assert_true(s.evictions > 0);
    assert_int_equal(s.hits, 1);
    touch(c, file, 0);
    assert_int_equal(stats_of(c).hits, 2);
    touch(c, file, 1); /* went */
    assert_int_equal(stats_of(c).hits, 2);
    cache_set_limit(c, 0);
    assert_int_equal(stats_of(c).pages, 0);
    assert_int_equal(stats_of(c).bytes, 0);
    cache_free(c);
}

static void a_pinned_page_stays_whatever_the_bound_says(void **state)
{
    struct cache *c = cache_new(2500);
    uint64_t file = cache_file_id(c);
    struct cache_page p[5] = {{0}}, again = {0};

    (void)state;
    for (uint64_t i = 0; i < 5; i++)
        assert_ok(cache_get(c, file, i, load, NULL, &p[i], &err), &err);
    assert_true(stats_of(c).pinned_bytes > 5 * PAGE_BYTES);
    assert_ok(cache_get(c, file, 3, load, NULL, &again, &err), &err);
    assert_ptr_equal(again.ptr, p[3].ptr); /* one copy */
    cache_put(c, &p[3]);
    assert_int_equal(number_in(&again), 3); /* still pinned once */
    for (uint64_t i = 0; i < 5; i++)
        cache_put(c, &p[i]); /* the one that is clear already is accepted */
    cache_put(c, &again);
    assert_int_equal(stats_of(c).pinned_bytes, 0);
    assert_true(stats_of(c).bytes <= 2500);
    cache_free(c);
}

static void it_is_crowded_with_an_eighth_pinned(void **state)
{
    struct cache *c = cache_new(8 * 1200);
    uint64_t file = cache_file_id(c);
    struct cache_page p[2] = {{0}};

    (void)state;
    assert_false(cache_crowded(c));
    assert_ok(cache_get(c, file, 0, load, NULL, &p[0], &err), &err);
    assert_false(cache_crowded(c));
    assert_ok(cache_get(c, file, 1, load, NULL, &p[1], &err), &err);
    assert_true(cache_crowded(c));
    cache_put(c, &p[0]);
    assert_false(cache_crowded(c));
    cache_set_limit(c, 0);
    assert_true(cache_crowded(c));
    cache_put(c, &p[1]);
    assert_false(cache_crowded(c));
    cache_free(c);
}

static void files_do_not_meet_and_a_forgotten_one_is_gone(void **state)
{
    struct cache *c = cache_new(1 << 20);
    uint64_t a = cache_file_id(c), b = cache_file_id(c);
    struct cache_page held = {0}, fresh = {0};

    (void)state;
    assert_true(a != b);
    touch(c, a, 7);
    touch(c, b, 7);
    assert_int_equal(stats_of(c).misses, 2);
    assert_ok(cache_get(c, a, 7, load, NULL, &held, &err), &err);
    cache_forget_file(c, a);
    assert_int_equal(number_in(&held), 7); /* pinned: usable to the end */
    assert_ok(cache_get(c, a, 7, load, NULL, &fresh, &err), &err);
    assert_ptr_not_equal(held.ptr, fresh.ptr);
    cache_put(c, &held);
    cache_put(c, &fresh);
    touch(c, b, 7);
    assert_int_equal(stats_of(c).pages, 2);
    cache_free(c);
}

static void a_failed_load_is_reported_and_not_kept(void **state)
{
    struct cache *c = cache_new(1 << 20);
    struct cache_page p = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_status(cache_get(c, 1, 999, load, NULL, &p, &err), NX_IO);
        assert_null(p.ptr);
        assert_int_equal(stats_of(c).pages, 0);
    }
    cache_free(c);
}

static void one_hammer(void *arg)
{
    struct cache *c = arg;
    struct test_random r = {(uint64_t)(uintptr_t)&r};
    struct cache_page held[4] = {{0}};

    for (int i = 0; i < 20000; i++) {
        struct cache_page *p = &held[i % 4];
        const uint64_t page = test_random_below(&r, N_PAGES);

        cache_put(c, p);
        if (cache_get(c, 1, page, load, NULL, p, NULL) != NX_OK || number_in(p) != page)
            abort();
        if (i % 1000 == 0)
            cache_set_limit(c, 4000 + (size_t)i % 3000);
        if (i % 5000 == 77)
            cache_forget_file(c, 1);
    }
    for (int i = 0; i < 4; i++)
        cache_put(c, &held[i]);
}

static void threads_share_pages(void **state)
{
    struct cache *c = cache_new(8000);
    struct nx_thread t[THREADS] = {{0}};
    struct cache_stats s;

    (void)state;
    atomic_store(&loads, 0);
    for (int i = 0; i < THREADS; i++)
        assert_ok(nx_thread_start(&t[i], "hammer", one_hammer, c, &err), &err);
    for (int i = 0; i < THREADS; i++)
        nx_thread_join(&t[i]);
    s = stats_of(c);
    assert_int_equal(s.pinned_bytes, 0);
    assert_true(s.bytes <= s.limit_bytes);
    assert_int_equal(s.hits + s.misses, THREADS * 20000);
    assert_int_equal(s.misses, atomic_load(&loads));
    cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bound_holds_and_the_longest_unused_goes),
        cmocka_unit_test(a_pinned_page_stays_whatever_the_bound_says),
        cmocka_unit_test(it_is_crowded_with_an_eighth_pinned),
        cmocka_unit_test(files_do_not_meet_and_a_forgotten_one_is_gone),
        cmocka_unit_test(a_failed_load_is_reported_and_not_kept),
        cmocka_unit_test(threads_share_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
