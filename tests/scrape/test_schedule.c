/* When targets are next. */
#include "../support/test.h"

#include <stdlib.h>

#include "src/base/clock.h"
#include "src/scrape/manager.h"

static void a_new_seed_moves_new_targets_only(void **state)
{
    const int64_t interval = 15000000000;
    struct scrape s = {.seed = 1};
    struct target t = {.hash = 12345, .interval_ms = 15000, .heap_at = SIZE_MAX};
    int64_t first;

    (void)state;
    clock_fake_set(1700000000123);
    schedule_begin(&s, &t);
    first = t.ideal_ns;
    s.seed = 7999999937; /* other external labels */
    for (int i = 1; i <= 3; i++) {
        clock_fake_advance(15000);
        schedule_next(&s, &t);
        assert_int_equal(t.ideal_ns, first + i * interval);
    }
    schedule_begin(&s, &t);
    assert_true(t.ideal_ns % interval != first % interval);
    clock_fake_off();
}

#define MANY 1000u

static size_t n_places(const struct target *t, size_t n)
{
    size_t places = 0;

    for (size_t i = 0; i < n; i++) {
        bool first = true;
        for (size_t j = 0; j < i && first; j++)
            first = t[j].ideal_ns != t[i].ideal_ns;
        places += first;
    }
    return places;
}

static void is_a_heap(const struct scrape *s)
{
    for (size_t i = 0; i < s->n_heap; i++) {
        assert_int_equal(s->heap[i]->heap_at, i);
        if (i)
            assert_true(s->heap[(i - 1) / 2]->due_mono_ns <= s->heap[i]->due_mono_ns);
    }
}

/* C4: as they are added, as they are scraped, and as they go. */
static void targets_come_some_at_a_time(void **state)
{
    const int64_t interval = 16000000000, now_ms = 1700000000000;
    static struct target t[MANY];
    struct test_random r = {7};
    struct scrape s = {.seed = 1};
    size_t places;

    (void)state;
    clock_fake_set(now_ms);
    for (size_t i = 0; i < MANY; i++) {
        t[i] = (struct target){.hash = test_random(&r), .interval_ms = 16000, .heap_at = SIZE_MAX};
        schedule_begin(&s, &t[i]);
        assert_true(schedule_put(&s, &t[i]));
        if (i == 3 || i == 50 || i == 555)
            is_a_heap(&s);
    }
    is_a_heap(&s);
    places = n_places(t, MANY);
    assert_in_range(places, MANY / 16 - 10, MANY / 4);
    for (size_t i = 0; i < MANY; i++)
        assert_true(t[i].ideal_ns >= now_ms * 1000000 &&
                    t[i].ideal_ns < now_ms * 1000000 + interval);
    /* none of them is moved by the next scrape */
    clock_fake_advance(16000);
    for (size_t i = 0; i < MANY; i++) {
        int64_t first = t[i].ideal_ns;
        t[i].last_begun_mono_ns = 1;
        schedule_next(&s, &t[i]);
        if (t[i].ideal_ns != first + interval)
            assert_true(t[i].ideal_ns == first + 2 * interval); /* it lay before now + half */
        assert_true(schedule_put(&s, &t[i]));
    }
    is_a_heap(&s);
    /* most go: who stays is moved by less than what the slots are now */
    for (size_t i = 40; i < MANY; i++)
        schedule_remove(&s, &t[i]);
    for (size_t i = 0; i < 40; i++)
        assert_true(schedule_put(&s, &t[i]));
    assert_int_equal(s.slot_bits, 3);
    clock_fake_advance(16000);
    for (size_t i = 0; i < 40; i++) {
        int64_t before = t[i].ideal_ns;
        schedule_next(&s, &t[i]);
        assert_true(t[i].ideal_ns % interval <= before % interval);
        assert_true(before % interval - t[i].ideal_ns % interval < interval / 8);
    }
    assert_in_range(n_places(t, 40), 4, 8);
    free(s.heap);
    clock_fake_off();
}

/* Its time has come, but it waits: for its turn, or for a token. Others come meanwhile. */
static void who_is_due_is_not_moved(void **state)
{
    static struct target t[100];
    struct test_random r = {11};
    struct scrape s = {.seed = 1};
    int64_t due = 0;

    (void)state;
    clock_fake_set(1700000000000);
    for (size_t i = 0; i < NX_COUNT(t); i++) {
        t[i] = (struct target){.hash = test_random(&r), .interval_ms = 16000, .heap_at = SIZE_MAX};
        schedule_begin(&s, &t[i]);
        assert_true(schedule_put(&s, &t[i]));
        if (i == 0) {
            due = t[0].ideal_ns;
            clock_fake_advance(16000);
        }
    }
    assert_true(s.slot_bits > 0);
    assert_int_equal(t[0].ideal_ns, due);
    is_a_heap(&s);
    free(s.heap);
    clock_fake_off();
}

/* A handful has one wake-up, in each server at a moment of its own; and longer intervals share it. */
static void a_few_targets_come_together(void **state)
{
    struct test_random r = {3};
    int64_t place[2];

    (void)state;
    clock_fake_set(1700000000000);
    for (int server = 0; server < 2; server++) {
        struct scrape s = {.seed = test_random(&r)};
        struct target t[16];
        for (size_t i = 0; i < NX_COUNT(t); i++) {
            t[i] = (struct target){
                .hash = test_random(&r), .interval_ms = i % 2 ? 60000 : 15000, .heap_at = SIZE_MAX};
            schedule_begin(&s, &t[i]);
            assert_true(schedule_put(&s, &t[i]));
            assert_int_equal(t[i].ideal_ns % 15000000000, t[0].ideal_ns % 15000000000);
        }
        assert_int_equal(s.slot_bits, 0);
        place[server] = t[0].ideal_ns % 15000000000;
        free(s.heap);
    }
    assert_true(place[0] != place[1]);
    clock_fake_off();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_seed_moves_new_targets_only),
        cmocka_unit_test(targets_come_some_at_a_time),
        cmocka_unit_test(who_is_due_is_not_moved),
        cmocka_unit_test(a_few_targets_come_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
