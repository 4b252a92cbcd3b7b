/* test_memory.c - the order in which things give way, and where the limit comes from. */
#include "tests/support/test.h"

#include <sys/stat.h>

#include "src/base/arena.h"
#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/base/thread.h"

#define LIMIT 1000000u

static struct nx_err err;

/* The process under test has what the test says. */
static uint64_t fake_use;
/* What goes on while the next look is on its way. */
static void (*meanwhile)(void);

static uint64_t read_fake(void *ctx)
{
    const uint64_t was = fake_use;
    void (*const other)(void) = meanwhile;

    (void)ctx;
    meanwhile = NULL;
    if (other)
        other();
    return was;
}

static void use(struct memory *m, uint64_t bytes)
{
    fake_use = bytes;
    clock_fake_advance(20); /* the last look is too old */
    (void)m;
}

static int setup(void **state)
{
    clock_fake_set(1700000000000);
    fake_use = 1;
    *state = memory_new(LIMIT, read_fake, NULL);
    return *state ? 0 : 1;
}

static int teardown(void **state)
{
    memory_free(*state);
    clock_fake_off();
    return 0;
}

static void things_give_way_in_order(void **state)
{
    struct memory *m = *state;
    static const struct {
        uint64_t use;
        enum memory_level level;
    } v[] = {{0, MEMORY_PLENTY},         {749999, MEMORY_PLENTY},     {750000, MEMORY_SHRINK},
             {899999, MEMORY_SHRINK},    {900000, MEMORY_NO_QUERIES}, {949999, MEMORY_NO_QUERIES},
             {950000, MEMORY_NO_SERIES}, {5000000, MEMORY_NO_SERIES}, {800000, MEMORY_SHRINK},
             {900000, MEMORY_NO_QUERIES}};

    for (size_t i = 0; i < NX_COUNT(v); i++) {
        use(m, v[i].use);
        assert_int_equal(memory_level(m), v[i].level);
        assert_int_equal(memory_admit_query(m, &err),
                         v[i].level >= MEMORY_NO_QUERIES ? NX_OVERLOADED : NX_OK);
        assert_int_equal(memory_admit_series(m, &err),
                         v[i].level >= MEMORY_NO_SERIES ? NX_LIMIT : NX_OK);
    }
    struct memory_stats st;
    memory_get_stats(m, &st);
    assert_int_equal(st.limit, LIMIT);
    assert_int_equal(st.used, 900000);
    assert_int_equal(st.refused_queries, 5);
    assert_int_equal(st.refused_series, 2);
}

static void without_a_limit_nothing_is_refused(void **state)
{
    struct memory *m = *state, *none[] = {NULL, m};

    memory_set_limit(m, 0);
    use(m, UINT64_MAX / 4);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(memory_level(none[i]), MEMORY_PLENTY);
        assert_ok(memory_admit_query(none[i], &err), &err);
        assert_ok(memory_admit_series(none[i], &err), &err);
        assert_ok(memory_take(none[i], 1u << 30, &err), &err);
        memory_give(none[i], 1u << 30);
        assert_true(memory_room(none[i]) == UINT64_MAX);
        assert_true(memory_room_now(none[i]) == UINT64_MAX);
    }
    /* A process whose use can't be told is not refused anything, either. */
    memory_set_limit(m, LIMIT);
    use(m, 0);
    assert_ok(memory_admit_series(m, &err), &err);
}

static void what_queries_take_counts_at_once(void **state)
{
    struct memory *m = *state;

    use(m, 500000);
    assert_int_equal(memory_used(m), 500000);
    assert_ok(memory_take(m, 300000, &err), &err);
    assert_int_equal(memory_used(m), 800000); /* without a look */
    assert_status(memory_take(m, 100000, &err), NX_OVERLOADED);
    assert_non_null(strstr(err.text, "--memory.limit"));
    assert_int_equal(memory_used(m), 800000); /* nothing was counted */
    assert_ok(memory_take(m, 99999, &err), &err);
    /* Now it is touched: the look sees it, and it is not counted twice. */
    use(m, 899999);
    assert_int_equal(memory_used(m), 899999);
    memory_give(m, 399999);
    assert_int_equal(memory_used(m), 500000);
    assert_ok(memory_admit_query(m, &err), &err);
}

static void a_look_of_its_own_sees_what_just_came(void **state)
{
    struct memory *m = *state;

    use(m, 500000);
    assert_true(memory_room(m) == LIMIT - 500000);
    fake_use = 700000; /* at the same time */
    assert_true(memory_room(m) == LIMIT - 500000);
    assert_true(memory_room_now(m) == LIMIT - 700000);
    assert_true(memory_room(m) == LIMIT - 700000); /* for all */
}

static struct memory *shared;

static void a_query_takes(void)
{
    memory_took(shared, 300000);
    fake_use += 300000;
}

static void time_goes_by(void)
{
    clock_fake_advance(50);
    fake_use = 900000;
}

static void another_asks(void)
{
    time_goes_by();
    assert_int_equal(memory_used(shared), 900000);
}

static void a_look_that_took_long_hides_nothing(void **state)
{
    struct memory *m = shared = *state;

    use(m, 500000);
    meanwhile = a_query_takes;
    assert_int_equal(memory_used(m), 800000);
    memory_give(m, 300000);
    use(m, 500000);
    meanwhile = time_goes_by;
    assert_true(memory_room_now(m) == LIMIT - 900000); /* it was old when it was there */
    use(m, 400000);
    meanwhile = time_goes_by;
    assert_int_equal(memory_used(m), 400000);
    assert_int_equal(memory_used(m), 900000);
    use(m, 400000);
    meanwhile = another_asks;
    assert_int_equal(memory_used(m), 400000);
    assert_int_equal(memory_used(m), 900000);
}

struct cache {
    uint64_t held, asked;
    unsigned calls;
};

static void shrink(void *ctx, uint64_t bytes)
{
    struct cache *c = ctx;
    uint64_t got = bytes < c->held ? bytes : c->held;

    c->asked = bytes;
    c->calls++;
    c->held -= got;
    fake_use -= got;
}

static void caches_go_before_anything_is_refused(void **state)
{
    struct memory *m = *state;
    struct cache c = {.held = 300000};

    memory_on_shortage(m, shrink, &c);
    use(m, 960000);
    assert_ok(memory_admit_series(m, &err), &err);
    assert_int_equal(c.asked, 210000); /* down to where caches begin to shrink */
    assert_int_equal(memory_used(m), 750000);
    assert_ok(memory_admit_query(m, &err), &err);
    /* What is left in the cache does not do, and it is not asked in vain again and again. */
    use(m, 1000000);
    clock_fake_advance(1000);
    for (int i = 0; i < 100; i++)
        assert_status(memory_admit_query(m, &err), NX_OVERLOADED);
    assert_int_equal(c.calls, 2);
    assert_int_equal(c.held, 0);
    memory_on_shortage(m, NULL, NULL);
    clock_fake_advance(1000);
    assert_status(memory_admit_query(m, &err), NX_OVERLOADED);
    assert_int_equal(c.calls, 2);
}

static void arenas_count_in_a_share_and_in_the_process(void **state)
{
    struct memory *m = *state;
    struct arena_share share = {.limit_bytes = 100000, .memory = m};
    struct arena *a = arena_new(0), *b = arena_new(0);

    use(m, 100000);
    assert_int_equal(memory_used(m), 100000);
    assert_non_null(arena_alloc(a, 10000)); /* before it joins */
    arena_join(a, &share);
    arena_join(b, &share);
    assert_int_equal(share.bytes, arena_bytes(a));
    assert_int_equal(memory_used(m), 100000 + arena_bytes(a));
    assert_non_null(arena_alloc(b, 50000));
    assert_int_equal(share.bytes, arena_bytes(a) + arena_bytes(b));
    assert_null(arena_alloc(b, 50000)); /* the two together */
    assert_status(arena_failed(b, &err), NX_LIMIT);
    assert_string_equal(err.text, "memory limit of 100000 bytes exceeded");
    assert_true(share.exceeded);
    use(m, 899000);
    assert_null(arena_alloc(a, 20000));
    assert_status(arena_failed(a, &err), NX_OVERLOADED);
    use(m, 200000);
    assert_non_null(arena_alloc(a, 20000));
    arena_leave(a);
    assert_int_equal(share.bytes, arena_bytes(b));
    arena_free(b);
    assert_int_equal(share.bytes, 0);
    memory_used(m);
    struct memory_stats st;
    memory_get_stats(m, &st);
    assert_int_equal(st.query_bytes, arena_bytes(a)); /* a result that is being sent still counts */
    arena_free(a);
    memory_get_stats(m, &st);
    assert_int_equal(st.query_bytes, 0);
}

static void the_process_can_be_read(void **state)
{
    uint64_t before = memory_read_process(NULL), with;
    size_t len = 64u << 20;
    char *p = malloc(len);

    (void)state;
    assert_non_null(p);
    for (size_t i = 0; i < len; i += 1024)
        ((volatile char *)p)[i] = 1;
    with = memory_read_process(NULL);
    assert_in_range(before, 1, 1ull << 40);
#ifndef __SANITIZE_THREAD__ /* has four bytes of its own beside each of ours */
    assert_in_range(with, before, before + (200u << 20));
#endif
    assert_true(with >= before + (60u << 20));
    free(p);
}

/* ---- threads --------------------------------------------------------------------------------- */

static void take_and_give(void *arg)
{
    struct memory *m = arg;

    for (int i = 0; i < 20000; i++) {
        if (memory_take(m, 1000, NULL) == NX_OK)
            memory_give(m, 1000);
        if (memory_admit_series(m, NULL))
            continue;
    }
}

static void give_nothing(void *ctx, uint64_t bytes)
{
    (void)bytes;
    __atomic_add_fetch((unsigned *)ctx, 1, __ATOMIC_RELAXED);
}

static void many_threads_ask_at_once(void **state)
{
    struct memory *m = memory_new(64u << 20, NULL, NULL);
    struct nx_thread t[3] = {0};
    struct memory_stats st;
    unsigned calls = 0;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(t); i++)
        assert_ok(nx_thread_start(&t[i], "taker", take_and_give, m, &err), &err);
    for (int i = 0; i < 200; i++) {
        memory_on_shortage(m, i % 2 ? give_nothing : NULL, &calls);
        memory_set_limit(m, i % 3 ? 64u << 20 : 1u << 20);
    }
    for (size_t i = 0; i < NX_COUNT(t); i++)
        nx_thread_join(&t[i]);
    memory_get_stats(m, &st);
    assert_int_equal(st.query_bytes, 0);
    memory_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(things_give_way_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_limit_nothing_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_queries_take_counts_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_look_of_its_own_sees_what_just_came, setup, teardown),
        cmocka_unit_test_setup_teardown(a_look_that_took_long_hides_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(caches_go_before_anything_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(arenas_count_in_a_share_and_in_the_process, setup,
                                        teardown),
        cmocka_unit_test(the_process_can_be_read),
        cmocka_unit_test(many_threads_ask_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
