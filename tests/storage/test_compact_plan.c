/* test_compact_plan.c - which blocks are merged: a table of lists, and random lists merged to the end. */
#include "tests/support/test.h"

#include "storage/compact.h"

#define HOUR_MS    3600000LL
#define MAX_BLOCKS 64

struct list {
    struct compact_block v[MAX_BLOCKS];
    size_t n;
};

/* "0..2 !2..4": hours; a ! is a block to avoid. */
static struct list list_of(const char *text)
{
    struct list l = {.n = 0};

    while (*text) {
        bool avoid = *text == '!';
        int from, to, used = 0;
        if (sscanf(text + avoid, "%d..%d %n", &from, &to, &used) < 2)
            fail_msg("%s", text);
        l.v[l.n++] = (struct compact_block){from * HOUR_MS, to * HOUR_MS, avoid};
        text += avoid + used;
    }
    return l;
}

static const struct {
    const char *what, *blocks;
    int max_hours;
    bool keep_overlapping;
    const char *pick;
} cases[] = {
    {"nothing", "", 744, false, ""},
    {"one", "0..2", 744, false, ""},
    {"two that would fit", "0..2 2..4", 744, false, ""},
    {"the newest is left alone", "0..2 2..4 4..6", 744, false, ""},
    {"a full range", "0..2 2..4 4..6 6..8", 744, false, "0 1 2"},
    {"a full range with a hole", "0..2 4..6 6..8", 744, false, "0 1"},
    {"a range that nothing can come for", "0..2 2..4 6..8 8..10", 744, false, "0 1"},
    {"a range that something may come for", "0..2 2..4 8..10", 744, false, ""},
    {"ranges are aligned", "2..4 4..6 6..8 8..10", 744, false, "0 1"},
    {"one alone in its range stays", "4..6 6..8 8..10 10..12 12..14", 744, false, "1 2 3"},
    {"the next size", "0..6 6..12 12..18 18..20 20..22", 744, false, "0 1 2"},
    {"a size that is not full yet", "0..6 6..12 12..14 14..16", 744, false, ""},
    {"small sizes first", "0..6 6..12 12..18 18..20 20..22 22..24 24..26", 744, false, "3 4 5"},
    {"old sets first", "0..2 2..4 4..6 6..8 8..10 10..12 12..14", 744, false, "0 1 2"},
    {"54 hours", "0..18 18..36 36..54 54..56 56..58", 744, false, "0 1 2"},
    {"no larger than allowed", "0..6 6..12 12..18 18..20 20..22", 17, false, ""},
    {"exactly as large as allowed", "0..6 6..12 12..18 18..20 20..22", 18, false, "0 1 2"},
    {"nothing is allowed", "0..2 2..4 4..6 6..8", 2, false, ""},
    {"before 1970", "-6..-4 -4..-2 -2..0 0..2", 744, false, "0 1 2"},
    {"a block across two ranges stays", "0..2 2..4 5..7 8..10 12..14 14..16", 744, false, "0 1"},
    {"two that overlap", "0..2 1..3 3..5", 744, false, "0 1"},
    {"the newest, where it overlaps", "0..2 2..4 3..5", 744, false, "1 2"},
    {"the same twice", "0..2 2..4 2..4 4..6", 744, false, "1 2"},
    {"a chain of overlaps", "0..4 1..2 3..6 8..9", 744, false, "0 1 2"},
    {"small ones within a large one", "0..10 2..4 4..6 12..14", 744, false, "0 1 2"},
    {"overlaps go first", "0..2 2..4 4..6 6..8 10..12 11..13", 744, false, "4 5"},
    {"overlaps of any size", "0..500 400..900", 744, false, "0 1"},
    {"overlaps that are to stay", "0..2 1..3 3..5", 744, true, ""},
    {"overlaps that are to stay, in a full range", "0..2 0..2 2..6 6..8", 744, true, "0 1 2"},
    {"one to avoid", "0..2 !2..4 4..6 6..8", 744, false, ""},
    {"what is behind one to avoid", "!0..2 2..4 4..6 6..8 8..10", 744, false, "1 2"},
    {"what is beyond one to avoid", "0..2 !2..4 4..6 6..8 8..10 10..12 12..14", 744, false,
     "3 4 5"},
    {"an overlap to avoid", "0..2 !1..3 3..5", 744, false, ""},
    {"overlaps around one to avoid", "0..4 !1..3 2..6", 744, false, "0 2"},
};

static void each_list_gives_what_the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        struct list l = list_of(cases[i].blocks);
        struct compact_plan_opts o = {2 * HOUR_MS, cases[i].max_hours * HOUR_MS,
                                      !cases[i].keep_overlapping};
        size_t pick[COMPACT_MAX_SOURCES], n = compact_plan(&o, l.v, l.n, pick);
        char got[256] = "";
        for (size_t k = 0, at = 0; k < n; k++)
            at += (size_t)snprintf(got + at, sizeof got - at, "%s%zu", k ? " " : "", pick[k]);
        if (strcmp(got, cases[i].pick) != 0)
            fail_msg("%s (%s): picked \"%s\", wanted \"%s\"", cases[i].what, cases[i].blocks, got,
                     cases[i].pick);
    }
}

static void merge_picked(struct list *l, const size_t *pick, size_t n)
{
    struct compact_block b = l->v[pick[0]];
    size_t kept = 0, at = 0, k = 0;

    for (size_t i = 0; i < n; i++) {
        const struct compact_block *p = &l->v[pick[i]];
        assert_false(p->avoid);
        assert_true(i == 0 || pick[i] > pick[i - 1]);
        b.max_ms = p->max_ms > b.max_ms ? p->max_ms : b.max_ms;
    }
    for (size_t i = 0; i < l->n; i++) {
        if (k < n && pick[k] == i)
            k++;
        else
            l->v[kept++] = l->v[i];
    }
    while (at < kept && l->v[at].min_ms <= b.min_ms)
        at++;
    memmove(&l->v[at + 1], &l->v[at], (kept - at) * sizeof b);
    l->v[at] = b;
    l->n = kept + 1;
}

/* However the list came about, merging ends, and then nothing that may be merged overlaps. */
static void any_list_comes_to_an_end(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct test_random r = {seed};
        struct list l = {.n = test_random_below(&r, MAX_BLOCKS - 1)};
        struct compact_plan_opts o = {2, 1 + (int64_t)test_random_below(&r, 400), true};
        size_t pick[COMPACT_MAX_SOURCES], n, rounds = 0;
        int64_t t = -100;
        for (size_t i = 0; i < l.n; i++) {
            t += (int64_t)test_random_below(&r, seed % 3 ? 4 : 2);
            l.v[i] = (struct compact_block){t, t + 2 + (int64_t)test_random_below(&r, 3),
                                            test_random_below(&r, 12) == 0};
            if (seed % 2 && !l.v[i].avoid) /* as the head's own: aligned, one behind the other */
                t = (l.v[i].max_ms = (l.v[i].min_ms = 2 * (t / 2)) + 2);
        }
        for (size_t i = 1; i < l.n; i++) /* sorted, as rounding may have put them back */
            for (size_t k = i; k && l.v[k].min_ms < l.v[k - 1].min_ms; k--) {
                struct compact_block swap = l.v[k];
                l.v[k] = l.v[k - 1];
                l.v[k - 1] = swap;
            }
        while ((n = compact_plan(&o, l.v, l.n, pick)) > 0) {
            assert_in_range(n, 2, l.n);
            merge_picked(&l, pick, n);
            assert_true(rounds++ < MAX_BLOCKS);
        }
        for (size_t i = 0; i < l.n; i++)
            for (size_t k = i + 1; k < l.n; k++)
                assert_true(l.v[i].avoid || l.v[k].avoid || l.v[k].min_ms >= l.v[i].max_ms);
    }
}

/* 30 days of two-hour blocks, as they come: what is left is what Prometheus leaves. */
static void a_month_ends_in_a_few_blocks(void **state)
{
    struct compact_plan_opts o = {2 * HOUR_MS, 31 * 24 * HOUR_MS, true};
    static struct list l;
    size_t pick[COMPACT_MAX_SOURCES], n, most = 0;

    (void)state;
    for (int i = 0; i < 360; i++) {
        l.v[l.n++] = (struct compact_block){i * 2 * HOUR_MS, (i + 1) * 2 * HOUR_MS, false};
        while ((n = compact_plan(&o, l.v, l.n, pick)) > 0)
            merge_picked(&l, pick, n);
        most = l.n > most ? l.n : most;
    }
    /* 720 h = 486 + 162 + 54 + 6 + 6 and 3 of 2, of which the newest waits */
    assert_int_equal(l.n, 8);
    assert_int_equal(l.v[0].max_ms - l.v[0].min_ms, 486 * HOUR_MS);
    assert_int_equal(l.v[1].max_ms - l.v[1].min_ms, 162 * HOUR_MS);
    assert_int_equal(l.v[2].max_ms - l.v[2].min_ms, 54 * HOUR_MS);
    assert_true(most < 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_list_gives_what_the_table_says),
        cmocka_unit_test(any_list_comes_to_an_end),
        cmocka_unit_test(a_month_ends_in_a_few_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
