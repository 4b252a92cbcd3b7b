/* test_keep_rules.c - rules by which some series are kept for a shorter or a longer time than others.
 *
 * Blocks follow one another; then a store is opened over them with rules and ticks, which writes blocks
 * again. Whatever happens on the way, what is to be kept is there once, and in the end nothing else is. */
#include "tests/support/test.h"

#include "src/base/clock.h"
#include "storage/compact.h"
#include "tests/storage/series.h"
#include "tests/support/oom.h"
#include "tests/support/faults.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define BLOCK_MS 10000
#define ROWS     4
#define STEP_MS  (BLOCK_MS / ROWS)
#define T0       (1700000000000LL / (27 * BLOCK_MS) * (27 * BLOCK_MS))
#define BLOCKS   9
#define NEWEST   (T0 + BLOCKS * BLOCK_MS)
#define FOR_ALL  4 /* blocks that series without a rule are kept for */

static struct nx_err err;

/* Each is in the blocks from `since` on and kept for so many. */
static const struct kind {
    const char *name, *job;
    int since, keep;
} kinds[] = {
    {"business_orders", "shop", 2, 100}, {"business_visits", "debug", 3, 100},
    {"debug_calls", "debug", 0, 1},      {"long_term", "shop", 0, 6},
    {"plain", "", 0, FOR_ALL},           {"plain", "shop", 1, FOR_ALL},
};

static struct labels labels_of(struct label l[2], const struct kind *k)
{
    l[0] = (struct label){STR(LABEL_NAME), STR(k->name)};
    l[1] = (struct label){STR("job"), STR(k->job)};
    return (struct labels){l, k->job[0] ? 2 : 1};
}

static double value_of(size_t kind, int64_t t_ms)
{
    return (double)kind * 1000 + (double)((t_ms - T0) / STEP_MS) / 4;
}

static void write_block(struct fs *fs, int number)
{
    const int64_t min_ms = T0 + number * BLOCK_MS;
    struct block_writer_opts o = {
        .fs = fs, .dir = "data", .min_ms = min_ms, .max_ms = min_ms + BLOCK_MS};
    struct block_writer *w = NULL;

    assert_ok(block_writer_open(&w, &o, &err), &err);
    for (size_t i = 0; i < NX_COUNT(kinds); i++) {
        struct label l[2];
        struct labels ls = labels_of(l, &kinds[i]);
        int64_t t[ROWS];
        double v[ROWS];
        uint32_t times;
        if (number < kinds[i].since)
            continue;
        for (int64_t r = 0; r < ROWS; r++) {
            t[r] = min_ms + r * STEP_MS;
            v[r] = value_of(i, t[r]);
        }
        assert_ok(block_writer_series(w, &ls, &err), &err);
        assert_ok(block_writer_times(w, t, ROWS, &times, &err), &err);
        assert_ok(block_writer_chunk(w, times, v, ROWS, &err), &err);
    }
    assert_ok(block_writer_commit(w, NULL, &err), &err);
    block_writer_close(w);
}

#define CONST(s)                                                                                   \
    {                                                                                              \
        s, sizeof(s) - 1                                                                           \
    }

static struct regex *any_business;
static struct matcher business = {.type = MATCH_RE, .name = CONST(LABEL_NAME)},
                      debug = {.type = MATCH_EQ, .name = CONST("job"), .value = CONST("debug")},
                      long_term[2] = {
                          {.type = MATCH_EQ, .name = CONST("job"), .value = CONST("shop")},
                          {.type = MATCH_NEQ, .name = CONST(LABEL_NAME), .value = CONST("plain")}};
static const struct storage_keep_rule keep[] = {
    {{&business, 1}, 100LL * BLOCK_MS}, {{&debug, 1}, BLOCK_MS}, {{long_term, 2}, 6LL * BLOCK_MS}};
static const struct storage_rules rules = {.keep = keep, .n_keep = NX_COUNT(keep)};

static struct storage *open_store(struct fs *fs, int64_t max_block_ms)
{
    struct storage_opts o = {.fs = fs,
                             .dir = "data",
                             .retention_ms = FOR_ALL * BLOCK_MS,
                             .min_block_ms = BLOCK_MS,
                             .max_block_ms = max_block_ms,
                             .rules = &rules,
                             .no_worker = true};
    struct storage *s = NULL;

    return storage_open(&s, &o, &err) == NX_OK ? s : NULL;
}

static struct simfs *new_disk(uint64_t seed)
{
    struct simfs *sim = simfs_new(seed);
    struct fs *fs = simfs_fs(sim);

    assert_ok(fs->mkdir(fs, "data", &err), &err);
    assert_ok(fs->sync_dir(fs, ".", &err), &err);
    for (int i = 0; i < BLOCKS; i++)
        write_block(fs, i);
    return sim;
}

/* A kind's samples from `from` on are there, each once and ascending; when all is done, no others. */
static void check_kind(struct querier *q, size_t kind, int64_t from, bool done, uint64_t step)
{
    struct label l[2];
    struct labels ls = labels_of(l, &kinds[kind]);
    struct matcher m[2] = {{.name = ls.v[0].name, .value = ls.v[0].value},
                           {.name = STR("job"), .value = STR(kinds[kind].job)}};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    const int64_t born = T0 + kinds[kind].since * BLOCK_MS;
    size_t i = 0;

    from = from > born ? from : born;
    assert_ok(q->ops->select(q, m, 2, INT64_MIN, INT64_MAX, a, &list, &err), &err);
    assert_int_equal(list.n, 1);
    assert_ok(q->ops->read(q, &list.v[0], INT64_MIN, INT64_MAX, &c, &err), &err);
    for (; i < c.n && c.t[i] < from; i++)
        if (done || c.v[i] != value_of(kind, c.t[i]))
            fail_msg("step %" PRIu64 ": %s has a sample %lld steps after the start", step,
                     kinds[kind].name, (long long)(c.t[i] - T0) / STEP_MS);
    for (int64_t t = from; t < NEWEST; t += STEP_MS, i++)
        if (i >= c.n || c.t[i] != t || c.v[i] != value_of(kind, t))
            fail_msg("step %" PRIu64 ": %s lacks the sample %lld steps after the start", step,
                     kinds[kind].name, (long long)(t - T0) / STEP_MS);
    assert_int_equal(i, c.n);
    column_done(&c);
    arena_free(a);
}

static void check(struct storage *s, bool done, uint64_t step)
{
    struct querier *q;

    assert_ok(storage_querier(s, INT64_MIN, INT64_MAX, &q, &err), &err);
    for (size_t i = 0; i < NX_COUNT(kinds); i++)
        check_kind(q, i, NEWEST - (int64_t)kinds[i].keep * BLOCK_MS, done, step);
    querier_close(q);
}

static void each_series_is_kept_as_its_rule_says(void **state)
{
    struct simfs *sim = new_disk(1);
    struct storage *s = open_store(simfs_fs(sim), BLOCK_MS);
    struct storage_stats st;

    (void)state;
    storage_tick(s, T0);
    check(s, true, 0);
    st = stats_of(s);
    /* In the first two is nothing to be kept, and the last is whole. */
    assert_int_equal(st.blocks, BLOCKS - 2);
    assert_int_equal(st.rewrites, BLOCKS - 1);
    assert_int_equal(st.compactions_failed, 0);
    /* debug_calls: 8 blocks, long_term: 3, plain: 5 and 4. */
    assert_int_equal(st.samples_expired, ROWS * (8 + 3 + 5 + 4));
    storage_tick(s, T0); /* nothing more to do */
    assert_int_equal(stats_of(s).rewrites, st.rewrites);
    storage_close(s);

    s = open_store(simfs_fs(sim), BLOCK_MS);
    storage_tick(s, T0);
    check(s, true, 1);
    assert_int_equal(stats_of(s).rewrites, 0);
    storage_close(s);
    simfs_free(sim);
}

static void merging_leaves_out_what_need_not_be_kept(void **state)
{
    struct simfs *sim = new_disk(1);
    struct storage *s = open_store(simfs_fs(sim), 3 * BLOCK_MS);
    struct storage_stats st;
    struct querier *q;

    (void)state;
    storage_tick(s, T0);
    check(s, false, 0);
    st = stats_of(s);
    assert_int_equal(st.blocks, 5); /* 0-2, 3-5, 6, 7 and 8: the newest is left alone */
    assert_int_equal(st.rewrites, 2);
    assert_ok(storage_querier(s, INT64_MIN, INT64_MAX, &q, &err), &err);
    for (size_t i = 0; i < NX_COUNT(kinds); i++) {
        int64_t from = NEWEST - (int64_t)kinds[i].keep * BLOCK_MS;
        if (kinds[i].keep == FOR_ALL)
            from = T0 + 3 * BLOCK_MS; /* whole blocks, as everywhere */
        check_kind(q, i, from, true, 0);
    }
    querier_close(q);
    storage_close(s);
    simfs_free(sim);
}

static void other_rules_take_effect_and_none_do(void **state)
{
    static const struct storage_keep_rule shorter[] = {{{&business, 1}, 5LL * BLOCK_MS},
                                                       {{long_term, 2}, 8LL * BLOCK_MS}};
    static const struct storage_rules other = {.keep = shorter, .n_keep = NX_COUNT(shorter)},
                                      bad = {.keep = keep};
    struct storage_keep_rule never = {{&debug, 1}, 0};
    const struct storage_rules nonsense = {.keep = &never, .n_keep = 1};
    struct simfs *sim = new_disk(1);
    struct storage *s = open_store(simfs_fs(sim), BLOCK_MS);
    struct querier *q;

    (void)state;
    storage_tick(s, T0);
    assert_int_equal(storage_set_rules(s, &nonsense, &err), NX_BADINPUT);
    assert_ok(storage_set_rules(s, &other, &err), &err);
    storage_tick(s, T0);
    assert_ok(storage_querier(s, INT64_MIN, INT64_MAX, &q, &err), &err);
    check_kind(q, 0, NEWEST - 5 * BLOCK_MS, true, 0);
    check_kind(q, 1, NEWEST - 5 * BLOCK_MS, true, 0);
    check_kind(q, 2, NEWEST - BLOCK_MS, true, 0); /* what is gone is gone */
    check_kind(q, 3, NEWEST - 6 * BLOCK_MS, true, 0);
    querier_close(q);
    assert_ok(storage_set_rules(s, &bad, &err), &err);
    assert_ok(storage_set_rules(s, NULL, &err), &err);
    storage_tick(s, T0);
    assert_int_equal(stats_of(s).blocks, FOR_ALL);
    storage_close(s);
    simfs_free(sim);
}

static void what_is_read_stays_readable(void **state)
{
    struct simfs *sim = new_disk(1);
    struct storage *s = open_store(simfs_fs(sim), BLOCK_MS);
    struct matcher m = {.name = STR(LABEL_NAME), .value = STR("debug_calls")};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;

    (void)state;
    assert_ok(storage_querier(s, INT64_MIN, INT64_MAX, &q, &err), &err);
    assert_ok(q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, &err), &err);
    storage_tick(s, T0);
    assert_true(stats_of(s).rewrites > 0);
    assert_ok(q->ops->read(q, &list.v[0], INT64_MIN, INT64_MAX, &c, &err), &err);
    assert_int_equal(c.n, BLOCKS * ROWS);
    column_done(&c);
    querier_close(q);
    arena_free(a);
    storage_close(s);
    simfs_free(sim);
}

/* ---- faults ----------------------------------------------------------------------------------- */

static bool one_fault(void *ctx, enum fault fault, uint64_t seed, uint64_t step)
{
    const int64_t max_block_ms = *(const int64_t *)ctx;
    struct simfs *sim = new_disk(step * 31 + (uint64_t)fault + seed - 1);
    struct storage *s = open_store(simfs_fs(sim), max_block_ms);
    bool came;

    fault_arm(sim, fault, step);
    storage_tick(s, T0);
    came = fault_came(sim, fault);
    simfs_heal(sim);
    if (fault == FAULT_ERROR) {
        check(s, false, step);
        clock_fake_advance(7200 * 1000); /* past any pause */
        storage_tick(s, T0);
        check(s, max_block_ms == BLOCK_MS, step);
    }
    storage_close(s);
    fault_end(sim, fault);
    s = open_store(simfs_fs(sim), max_block_ms);
    if (!s)
        fail_msg("step %" PRIu64 ": %s", step, err.text);
    check(s, false, step);
    storage_tick(s, T0);
    check(s, max_block_ms == BLOCK_MS, step);
    if (stats_of(s).blocks != (max_block_ms == BLOCK_MS ? BLOCKS - 2 : 5))
        fail_msg("step %" PRIu64 ": %" PRIu64 " blocks are left", step, stats_of(s).blocks);
    storage_close(s);
    simfs_free(sim);
    return came;
}

static void every_step(enum fault fault)
{
    int64_t largest[] = {BLOCK_MS, 3 * BLOCK_MS};

    clock_fake_set(T0);
    for (size_t i = 0; i < NX_COUNT(largest); i++)
        assert_true(fault_sweep(one_fault, &largest[i], fault, 100, 4) > 150);
    clock_fake_off();
}

static void a_power_cut_at_any_step_loses_and_doubles_nothing(void **state)
{
    (void)state;
    every_step(FAULT_POWER);
}

static void a_kill_at_any_step_loses_and_doubles_nothing(void **state)
{
    (void)state;
    every_step(FAULT_KILL);
}

static void an_error_at_any_step_is_made_good_later(void **state)
{
    (void)state;
    every_step(FAULT_ERROR);
}

/* What does not fit stays as it is, without a rest of what was tried, until there is space. */
static void a_full_disk_is_borne_until_there_is_space(void **state)
{
    bool full = true;

    (void)state;
    clock_fake_set(T0);
    for (uint64_t space = 0; full; space += 300 * TEST_STRIDE) { /* blocks that go give some back */
        struct simfs *sim = new_disk(space);
        struct storage *s = open_store(simfs_fs(sim), BLOCK_MS);
        simfs_set_space(sim, space);
        storage_tick(s, T0);
        full = stats_of(s).compactions_failed > 0;
        assert_true(full || space > 500);
        check(s, !full, space);
        simfs_set_space(sim, UINT64_MAX);
        clock_fake_advance(7200 * 1000); /* past any pause */
        storage_tick(s, T0);
        check(s, true, space);
        storage_close(s);
        s = open_store(simfs_fs(sim), BLOCK_MS);
        check(s, true, space);
        assert_int_equal(stats_of(s).blocks, BLOCKS - 2);
        storage_close(s);
        simfs_free(sim);
    }
    clock_fake_off();
}

static void memory_that_fails_is_borne(void **state)
{
    bool came = true;

    (void)state;
    clock_fake_set(T0);
    for (unsigned n = 1; came; n += (n < 100 ? 1 : 17) * TEST_STRIDE) {
        struct simfs *sim = new_disk(1);
        struct storage *s = open_store(simfs_fs(sim), BLOCK_MS);
        oom_fail_at(n);
        storage_tick(s, T0);
        came = oom_off();
        check(s, false, n);
        clock_fake_advance(7200 * 1000);
        storage_tick(s, T0);
        check(s, true, n);
        storage_close(s);
        simfs_free(sim);
    }
    for (unsigned n = 1;; n += TEST_STRIDE) {
        struct simfs *sim = new_disk(1);
        struct storage *s;
        oom_fail_at(n);
        s = open_store(simfs_fs(sim), BLOCK_MS);
        came = oom_off();
        storage_close(s);
        simfs_free(sim);
        if (!came)
            break;
        assert_true(!s || n > 20); /* some of it is not needed to open */
    }
    clock_fake_off();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_series_is_kept_as_its_rule_says, quiet_setup),
        cmocka_unit_test_setup(merging_leaves_out_what_need_not_be_kept, quiet_setup),
        cmocka_unit_test_setup(other_rules_take_effect_and_none_do, quiet_setup),
        cmocka_unit_test_setup(what_is_read_stays_readable, quiet_setup),
        cmocka_unit_test_setup(a_power_cut_at_any_step_loses_and_doubles_nothing, quiet_setup),
        cmocka_unit_test_setup(a_kill_at_any_step_loses_and_doubles_nothing, quiet_setup),
        cmocka_unit_test_setup(an_error_at_any_step_is_made_good_later, quiet_setup),
        cmocka_unit_test_setup(a_full_disk_is_borne_until_there_is_space, quiet_setup),
        cmocka_unit_test_setup(memory_that_fails_is_borne, quiet_setup),
    };
    int failed;

    business.value = nx_slice_str("business_.*");
    if (regex_new(&any_business, business.value, &err))
        return 1;
    business.re = any_business;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    regex_free(any_business);
    return failed;
}
