/* When targets are next. */
#include "../support/test.h"

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
    s.seed = 999999937; /* other external labels */
    for (int i = 1; i <= 3; i++) {
        clock_fake_advance(15000);
        schedule_next(&t);
        assert_int_equal(t.ideal_ns, first + i * interval);
    }
    schedule_begin(&s, &t);
    assert_true(t.ideal_ns % interval != first % interval);
    clock_fake_off();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_seed_moves_new_targets_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
