/* test_tombs.c - sets of tombstones against a table of bits; their bytes against FORMAT.md. */
#include "tests/support/test.h"

#include "src/base/hash.h"
#include "storage/block.h"
#include "storage/tombs.h"
#include "tests/support/oom.h"

#define SERIES 40
#define TIMES  64
#define ULID   "01JGFJJZ00ABCDEFGHJKMNPQRS"

static struct nx_err err;

struct table {
    bool gone[SERIES][TIMES];
};

static void agrees(const struct tombs *t, const struct table *m)
{
    uint64_t spans = 0, series = 0;

    for (uint32_t i = 0; i < SERIES; i++) {
        struct tspans s = tombs_of(t, i);
        struct tspan gap = {0, -1};
        size_t alive = 0, seen = 0;
        int64_t ts[TIMES + 2];
        double vs[TIMES + 2];
        struct samples x = {.t = ts, .v = vs, .n = TIMES + 2, .cap = TIMES + 2};
        for (int k = 0; k < TIMES + 2; k++) { /* with one on either side, which is never gone */
            ts[k] = k - 1;
            vs[k] = k;
            alive += k == 0 || k == TIMES + 1 || !m->gone[i][k - 1];
        }
        assert_int_equal(tspans_filter(s, &x, 1), TIMES + 2 - alive);
        assert_int_equal(x.n, alive);
        for (size_t k = 0; k < x.n; k++)
            assert_true(ts[k] < 0 || ts[k] == TIMES || !m->gone[i][ts[k]]);
        for (int64_t from = 0; from < TIMES && tspans_gap(s, from, TIMES - 1, &gap);
             from = gap.to_ms + 1) {
            for (int64_t at = gap.from_ms; at <= gap.to_ms; at++, seen++)
                assert_false(m->gone[i][at]);
            assert_true(gap.to_ms == TIMES - 1 || m->gone[i][gap.to_ms + 1]);
        }
        assert_int_equal(seen, alive - 2);
        spans += s.n;
        series += s.n > 0;
    }
    assert_int_equal(tombs_n_spans(t), spans);
    assert_int_equal(tombs_n_series(t), series);
}

static struct tombs *and_back(struct tombs *t)
{
    struct tombs *back = NULL;
    struct buf b;

    buf_init(&b, 0);
    tombs_encode(t, ULID, &b);
    assert_ok(tombs_decode(&back, buf_view(&b), ULID, SERIES, &err), &err);
    buf_done(&b);
    tombs_unref(t);
    return back;
}

static void merged_sets_hold_what_was_added(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct test_random rnd = {seed};
        struct table m = {0};
        struct tombs *t = NULL;
        for (int round = 0; round < 12; round++) {
            struct tomb add[SERIES * 2];
            struct tombs *more = NULL;
            size_t n = 0;
            uint32_t id = (uint32_t)test_random_below(&rnd, SERIES / 2);
            bool alike = test_random_below(&rnd, 2);
            int64_t from = 0, to = 0;
            for (; id < SERIES && n < NX_COUNT(add); id += (uint32_t)test_random_below(&rnd, 3)) {
                if (!alike || n == 0) {
                    from = (int64_t)test_random_below(&rnd, TIMES);
                    to = from + (int64_t)test_random_below(&rnd, (uint64_t)(TIMES - from));
                }
                add[n++] = (struct tomb){id, {from, to}};
                memset(&m.gone[id][from], true, (size_t)(to - from + 1));
            }
            assert_ok(tombs_merge(&more, t, add, n, &err), &err);
            tombs_unref(t);
            t = and_back(more);
            agrees(t, &m);
        }
        tombs_unref(t);
    }
}

static bool even(void *ctx, uint32_t id)
{
    (void)ctx;
    return id % 2 == 0;
}

static void pruning_drops_old_spans_and_series(void **state)
{
    const struct tomb add[] = {{2, {0, 3}}, {2, {6, 9}}, {3, {0, 9}}, {4, {0, 3}}};
    struct tombs *t = NULL, *less = NULL;

    (void)state;
    assert_ok(tombs_merge(&t, NULL, add, NX_COUNT(add), &err), &err);
    assert_ok(tombs_prune(&less, t, 4, even, NULL, &err), &err);
    assert_int_equal(tombs_n_series(less), 1);
    assert_int_equal(tombs_of(less, 2).n, 1);
    assert_int_equal(tombs_of(less, 2).v[0].from_ms, 6);
    tombs_unref(less);
    assert_ok(tombs_prune(&less, t, 10, even, NULL, &err), &err);
    assert_null(less);
    tombs_unref(t);
}

static void the_ends_of_time_are_times(void **state)
{
    const struct tomb add[] = {{0, {INT64_MIN, -5}},        {0, {5, INT64_MAX}},
                               {0, {10, INT64_MAX}},        {1, {INT64_MIN, INT64_MAX}},
                               {7, {INT64_MAX, INT64_MAX}}, {7, {INT64_MIN, INT64_MIN}}};
    struct tombs *t = NULL;
    struct tspan gap;

    (void)state;
    assert_ok(tombs_merge(&t, NULL, add, NX_COUNT(add), &err), &err);
    t = and_back(t);
    assert_int_equal(tombs_of(t, 0).n, 2);
    assert_true(tspans_gap(tombs_of(t, 0), INT64_MIN, INT64_MAX, &gap));
    assert_true(gap.from_ms == -4 && gap.to_ms == 4);
    assert_false(tspans_gap(tombs_of(t, 0), 5, INT64_MAX, &gap));
    assert_false(tspans_gap(tombs_of(t, 1), INT64_MIN, INT64_MAX, &gap));
    assert_true(tspans_gap(tombs_of(t, 7), INT64_MIN, INT64_MAX, &gap));
    assert_true(gap.from_ms == INT64_MIN + 1 && gap.to_ms == INT64_MAX - 1);
    tombs_unref(t);
}

/* The bytes of an example of FORMAT.md. */
static size_t example(const char *name, uint8_t *to, size_t cap)
{
    struct buf doc;
    char mark[64], *at;
    size_t n = 0;

    buf_init(&doc, 0);
    assert_ok(fs_read_file(fs_real(), "storage/FORMAT.md", &doc, &err), &err);
    snprintf(mark, sizeof mark, "<!-- example: %s -->", name);
    at = strstr(buf_cstr(&doc), mark);
    assert_non_null(at);
    at = strchr(strstr(at, "```"), '\n') + 1;
    while (*at != '`') {
        char *p = strchr(at, ':') + 1, *bar = strchr(at, '|');
        for (; p < bar; p++) {
            if (*p == ' ')
                continue;
            assert_true(n < cap);
            to[n++] = (uint8_t)strtoul((char[]){p[0], p[1], 0}, NULL, 16);
            p++;
        }
        at = strchr(bar, '\n') + 1;
    }
    buf_done(&doc);
    return n;
}

static void the_format_says_what_is_written(void **state)
{
    const int64_t T = INT64_C(1735689600000);
    const struct tomb add[] = {{0, {T, T + 30000}}, {0, {T + 60000, T + 60000}},
                               {1, {T, T + 30000}}, {1, {T + 60000, T + 60000}},
                               {5, {T, T + 30000}}, {5, {T + 60000, T + 60000}}};
    uint8_t want[200];
    struct tombs *t = NULL, *back = NULL;
    struct buf b;
    size_t n = example("tombstones", want, sizeof want);

    (void)state;
    buf_init(&b, 0);
    assert_ok(tombs_merge(&t, NULL, add, NX_COUNT(add), &err), &err);
    tombs_encode(t, ULID, &b);
    for (size_t i = 0; getenv("NX_PRINT") && i < b.len; i++)
        print_message("%s%02x", i % 16 ? " " : "\n", (uint8_t)b.ptr[i]);
    assert_int_equal(b.len, n);
    assert_memory_equal(b.ptr, want, n);
    assert_ok(tombs_decode(&back, nx_slice_of((char *)want, n), ULID, 6, &err), &err);
    assert_int_equal(tombs_n_series(back), 3);
    tombs_unref(back);
    assert_status(tombs_decode(&back, nx_slice_of((char *)want, n), ULID, 5, &err), NX_CORRUPT);
    assert_status(tombs_decode(&back, nx_slice_of((char *)want, n - 1), ULID, 6, &err), NX_CORRUPT);
    want[9] = 1;
    assert_status(tombs_decode(&back, nx_slice_of((char *)want, n), ULID, 6, &err), NX_CORRUPT);
    buf_done(&b);
    tombs_unref(t);
}

static void each_flipped_bit_is_found(void **state)
{
    const struct tomb add[] = {{3, {100, 200}}, {4, {100, 200}}, {9, {-5, 5}}};
    struct tombs *t = NULL, *back = NULL;
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    assert_ok(tombs_merge(&t, NULL, add, NX_COUNT(add), &err), &err);
    tombs_encode(t, ULID, &b);
    for (size_t i = 0; i < b.len * 8; i++) {
        b.ptr[i / 8] ^= (char)(1 << i % 8);
        assert_status(tombs_decode(&back, buf_view(&b), ULID, 10, &err), NX_CORRUPT);
        b.ptr[i / 8] ^= (char)(1 << i % 8);
    }
    assert_status(tombs_decode(&back, buf_view(&b), "01JGFJJZ00ABCDEFGHJKMNPQRT", 10, &err),
                  NX_CORRUPT);
    buf_done(&b);
    tombs_unref(t);
}

static void out_of_memory_is_an_error(void **state)
{
    const struct tomb add[] = {{3, {100, 200}}, {4, {100, 200}}, {9, {-5, 5}}, {11, {0, 0}},
                               {13, {1, 1}},    {15, {2, 2}},    {17, {3, 3}}};
    struct tombs *t, *back, *less;
    struct buf b;

    (void)state;
    for (unsigned n = 1;; n++) {
        t = back = less = NULL;
        buf_init(&b, 0);
        oom_fail_at(n);
        nx_status st = tombs_merge(&t, NULL, add, NX_COUNT(add), &err);
        if (!st) {
            tombs_encode(t, ULID, &b);
            st = buf_status(&b, &err);
        }
        if (!st)
            st = tombs_decode(&back, buf_view(&b), ULID, 20, &err);
        if (!st)
            st = tombs_prune(&less, t, 0, even, NULL, &err);
        bool failed = oom_off();
        tombs_unref(t);
        tombs_unref(back);
        tombs_unref(less);
        buf_done(&b);
        assert_int_equal(st, failed ? NX_NOMEM : NX_OK);
        if (!failed)
            return;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_sets_hold_what_was_added),
        cmocka_unit_test(pruning_drops_old_spans_and_series),
        cmocka_unit_test(the_ends_of_time_are_times),
        cmocka_unit_test(the_format_says_what_is_written),
        cmocka_unit_test(each_flipped_bit_is_found),
        cmocka_unit_test(out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
