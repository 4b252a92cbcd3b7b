/* test_storage.c - rows go in and come out, in memory, over a restart and through blocks. */
#include "tests/support/test.h"

#include "src/base/clock.h"
#include "src/base/log.h"
#include "storage/storage.h"
#include "tests/support/simfs.h"

#define MINUTE 60000LL
#define HOUR   3600000LL
#define T0     1700000000000LL

struct fixture {
    struct simfs *sim;
    struct storage *s;
    int64_t block_ms;
    struct nx_err err;
};

static void open_store(struct fixture *f)
{
    struct storage_opts o = {.fs = simfs_fs(f->sim),
                             .dir = "data",
                             .min_block_ms = f->block_ms,
                             .max_block_ms = f->block_ms, /* merging has tests of its own */
                             .no_worker = true};

    assert_ok(storage_open(&f->s, &o, &f->err), &f->err);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->sim = simfs_new(7);
    open_store(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    storage_close(f->s);
    simfs_free(f->sim);
    free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    storage_close(f->s);
    open_store(f);
}

static struct storage_group *group(struct fixture *f)
{
    struct storage_group *g;

    assert_ok(storage_group_open(f->s, &g, &f->err), &f->err);
    return g;
}

/* Labels {__name__=name, i=number}. */
static uint32_t column(struct fixture *f, struct storage_group *g, const char *name,
                       unsigned number)
{
    char text[16];
    struct label v[2] = {{STR(LABEL_NAME), STR(name)}, {STR("i"), {0}}};
    struct labels ls = {v, 2};
    uint32_t col;

    snprintf(text, sizeof text, "%u", number);
    v[1].value = STR(text);
    assert_ok(storage_group_column(g, &ls, &col, NULL, &f->err), &f->err);
    return col;
}

static struct storage_appended append(struct fixture *f, struct storage_group *g, int64_t t,
                                      uint32_t col, double v)
{
    struct storage_appended res;

    assert_ok(storage_group_append(g, t, &col, &v, 1, &res, &f->err), &f->err);
    return res;
}

/* "t=v t=v ..." of every series of `name`, times less T0, one line a series; static. */
static const char *dump(struct fixture *f, const char *name, int64_t mint, int64_t maxt)
{
    static char text[1 << 16];
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR(name)};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;
    size_t n = 0;

    text[0] = 0;
    assert_ok(storage_querier(f->s, mint, maxt, &q, &f->err), &f->err);
    assert_ok(q->ops->select(q, &m, 1, mint, maxt, a, &list, &f->err), &f->err);
    for (size_t i = 0; i < list.n; i++) {
        struct nx_slice id = labels_get_str(&list.v[i].labels, "i");
        assert_ok(q->ops->read(q, &list.v[i], mint, maxt, &c, &f->err), &f->err);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%.*s:", i ? "\n" : "", (int)id.len,
                              id.ptr);
        for (size_t j = 0; j < c.n && n < sizeof text - 64; j++)
            n += (size_t)snprintf(text + n, sizeof text - n, " %lld=%g", (long long)(c.t[j] - T0),
                                  c.v[j]);
    }
    column_done(&c);
    querier_close(q);
    arena_free(a);
    return text;
}

static const char *dump_all(struct fixture *f, const char *name)
{
    return dump(f, name, INT64_MIN, INT64_MAX);
}

/* Values of a label over all time, with a comma between them; static. */
static const char *list_values(struct fixture *f, const char *label)
{
    static char text[4096];
    struct arena *a = arena_new(0);
    struct nx_slice *v;
    struct querier *q;
    size_t n, at = 0;

    text[0] = 0;
    assert_ok(storage_querier(f->s, INT64_MIN, INT64_MAX, &q, &f->err), &f->err);
    assert_ok(
        q->ops->label_values(q, STR(label), NULL, 0, INT64_MIN, INT64_MAX, 0, a, &v, &n, &f->err),
        &f->err);
    for (size_t i = 0; i < n && at < sizeof text; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s", i ? "," : "", (int)v[i].len,
                               v[i].ptr);
    querier_close(q);
    arena_free(a);
    return text;
}

static void ignore_line(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    (void)line;
    (void)len;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static void what_was_appended_is_read(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g = group(f);
    uint32_t cols[2] = {column(f, g, "a", 1), column(f, g, "a", 2)};

    for (int i = 0; i < 3; i++) {
        double v[2] = {i, 10 + i};
        assert_ok(storage_group_append(g, T0 + i * 10, cols, v, 2, NULL, &f->err), &f->err);
    }
    assert_string_equal(dump_all(f, "a"), "1: 0=0 10=1 20=2\n2: 0=10 10=11 20=12");
    assert_string_equal(dump(f, "a", T0 + 10, T0 + 10), "1: 10=1\n2: 10=11");
    assert_string_equal(dump_all(f, "b"), "");
    storage_group_close(g);
    assert_string_equal(dump_all(f, "a"), "1: 0=0 10=1 20=2\n2: 0=10 10=11 20=12");
}

static void columns_left_out_have_no_sample(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g = group(f);
    uint32_t a = column(f, g, "a", 1), b;

    append(f, g, T0, a, 1);
    b = column(f, g, "a", 2);
    append(f, g, T0 + 1, b, 2);
    append(f, g, T0 + 2, a, 3);
    assert_string_equal(dump_all(f, "a"), "1: 0=1 2=3\n2: 1=2");
    storage_group_close(g);
    assert_string_equal(dump_all(f, "a"), "1: 0=1 2=3\n2: 1=2");
}

static void the_order_rules_are_those_of_prometheus(void **state) /* STO-001 to STO-004 */
{
    struct fixture *f = *state;
    struct storage_group *g = group(f);
    uint32_t a = column(f, g, "a", 1), b = column(f, g, "a", 2);
    struct storage_appended r;

    append(f, g, T0 + 10, a, 1);
    r = append(f, g, T0 + 10, a, 1);
    assert_true(r.appended == 1 && r.duplicate == 0);
    r = append(f, g, T0 + 10, a, 2);
    assert_true(r.appended == 0 && r.duplicate == 1);
    r = append(f, g, T0 + 9, a, 1);
    assert_true(r.appended == 0 && r.out_of_order == 1);
    r = append(f, g, T0 + 5, b, 7); /* the row is old, its series is not */
    assert_true(r.appended == 1);
    r = append(f, g, T0 + 4, b, 7);
    assert_true(r.out_of_order == 1);
    r = append(f, g, T0 + 10 - HOUR, b, 7);
    assert_true(r.out_of_order == 1);
    r = append(f, g, T0 + 9 - HOUR, b, 7);
    assert_true(r.out_of_bounds == 1);
    append(f, g, T0 + 2 * HOUR, a, 3);
    r = append(f, g, T0 + HOUR - 1, b, 7);
    assert_true(r.out_of_bounds == 1);
    r = append(f, g, T0 + HOUR, b, 7);
    assert_true(r.appended == 1);
    assert_string_equal(dump_all(f, "a"), "1: 10=1 7200000=3\n2: 5=7 3600000=7");
    storage_group_close(g);
}

static void the_order_rules_hold_over_seals_groups_and_restarts(void **state)
{
    struct fixture *f = *state;
    struct storage_appended r;

    for (int round = 0; round < 4; round++) {
        struct storage_group *g = group(f);
        uint32_t a = column(f, g, "a", 1);
        if (round) {
            r = append(f, g, T0 + round * 100 - 51, a, 49);
            assert_true(r.appended == 1 && r.duplicate == 0 && r.out_of_order == 0);
            r = append(f, g, T0 + round * 100 - 51, a, 50);
            assert_true(r.duplicate == 1);
            r = append(f, g, T0 + round * 100 - 52, a, 48);
            assert_true(r.out_of_order == 1);
        }
        for (int i = 0; i < 50; i++)
            append(f, g, T0 + round * 100 + i, a, i);
        storage_group_close(g);
        if (round == 1)
            reopen(f);
    }
    char want[4096];
    size_t n = (size_t)snprintf(want, sizeof want, "1:");
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 50; i++)
            n += (size_t)snprintf(want + n, sizeof want - n, " %d=%d", round * 100 + i, i);
    }
    assert_string_equal(dump_all(f, "a"), want);
}

static void a_column_twice_in_a_row_counts_as_duplicate(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g = group(f);
    uint32_t a = column(f, g, "a", 1), cols[3] = {a, a, a};
    double v[3] = {1, 2, 1};
    struct storage_appended r;

    assert_ok(storage_group_append(g, T0, cols, v, 3, &r, &f->err), &f->err);
    assert_true(r.appended == 1 && r.duplicate == 2);
    assert_string_equal(dump_all(f, "a"), "1: 0=1");
    storage_group_close(g);
}

static void two_groups_share_a_series_under_its_order_rules(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g = group(f), *h = group(f);
    uint32_t ga = column(f, g, "a", 1), gb = column(f, g, "a", 2), ha;
    uint32_t both[2] = {ga, gb};
    double v[2] = {5, 6};
    struct storage_appended r;

    append(f, g, T0, ga, 1);
    ha = column(f, h, "a", 1);
    r = append(f, h, T0, ha, 1);
    assert_true(r.appended == 1 && r.duplicate == 0);
    r = append(f, h, T0, ha, 2);
    assert_true(r.duplicate == 1);
    append(f, h, T0 + 1, ha, 3);
    r = append(f, g, T0 + 1, ga, 4);
    assert_true(r.duplicate == 1);
    assert_ok(storage_group_append(g, T0 + 2, both, v, 2, &r, &f->err), &f->err);
    assert_int_equal(r.appended, 2);
    r = append(f, h, T0 + 1, ha, 3);
    assert_true(r.out_of_order == 1);
    storage_group_release(g, ga);
    append(f, h, T0 + 3, ha, 7);
    assert_int_equal(column(f, h, "a", 1), ha);
    storage_group_close(h);
    ga = column(f, g, "a", 1);
    append(f, g, T0 + 4, ga, 8);
    assert_string_equal(dump_all(f, "a"), "1: 0=1 1=3 2=5 3=7 4=8\n2: 2=6");
    storage_group_close(g);
    reopen(f);
    assert_string_equal(dump_all(f, "a"), "1: 0=1 1=3 2=5 3=7 4=8\n2: 2=6");
}

static void a_released_column_serves_another_series_without_mixing_them(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g = group(f);
    uint32_t a = column(f, g, "a", 1), b;

    append(f, g, T0, a, 1);
    storage_group_release(g, a);
    b = column(f, g, "a", 2);
    assert_int_not_equal(a, b); /* rows of the open tail may hold the old one */
    for (int i = 1; i < 40; i++)
        append(f, g, T0 + i, b, 2);
    b = column(f, g, "a", 3);
    assert_int_equal(a, b);
    append(f, g, T0 + 40, b, 3);
    assert_non_null(strstr(dump_all(f, "a"), "\n3: 40=3"));
    assert_memory_equal(dump_all(f, "a"), "1: 0=1\n2: ", 10);
    assert_int_equal(column(f, g, "a", 1), 2); /* back, in a column of its own */
    append(f, g, T0 + 41, 2, 9);
    assert_memory_equal(dump_all(f, "a"), "1: 0=1 41=9\n", 12);
    storage_group_close(g);
    reopen(f);
    assert_memory_equal(dump_all(f, "a"), "1: 0=1 41=9\n", 12);
}

static void a_reader_sees_a_row_of_a_group_whole_or_not(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g = group(f);
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("a")};
    uint32_t cols[2] = {column(f, g, "a", 1), column(f, g, "a", 2)};
    double v[2] = {1, 2};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;

    assert_ok(storage_group_append(g, T0, cols, v, 2, NULL, &f->err), &f->err);
    assert_ok(storage_querier(f->s, T0, T0 + HOUR, &q, &f->err), &f->err);
    assert_ok(q->ops->select(q, &m, 1, T0, T0 + HOUR, a, &list, &f->err), &f->err);
    assert_int_equal(list.n, 2);
    assert_ok(q->ops->read(q, &list.v[0], T0, T0 + HOUR, &c, &f->err), &f->err);
    assert_int_equal(c.n, 1);
    for (int i = 1; i < 40; i++)
        assert_ok(storage_group_append(g, T0 + i, cols, v, 2, NULL, &f->err), &f->err);
    assert_ok(q->ops->read(q, &list.v[1], T0, T0 + HOUR, &c, &f->err), &f->err);
    assert_int_equal(c.n, 1);
    column_done(&c);
    querier_close(q);
    arena_free(a);
    storage_group_close(g);
}

/* ---- restarts, blocks -------------------------------------------------------------------------- */

static void a_restart_brings_back_every_sample(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g = group(f);
    uint32_t cols[3] = {column(f, g, "a", 1), column(f, g, "a", 2), column(f, g, "a", 3)};
    char before[1 << 16];

    for (int i = 0; i < 100; i++) {
        double v[3] = {i, i / 7.0, i % 10 ? 0.25 * i : (double)__builtin_nanf("")};
        assert_ok(storage_group_append(g, T0 + i * 15000, cols, v, 3, NULL, &f->err), &f->err);
    }
    snprintf(before, sizeof before, "%s", dump_all(f, "a"));
    storage_group_close(g);
    reopen(f);
    assert_string_equal(dump_all(f, "a"), before);
    reopen(f);
    assert_string_equal(dump_all(f, "a"), before);
}

static void blocks_take_over_from_the_head_and_the_log(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g;
    struct storage_stats st;
    uint32_t cols[2];
    char before[1 << 16];

    storage_close(f->s);
    f->block_ms = MINUTE;
    open_store(f);
    g = group(f);
    cols[0] = column(f, g, "a", 1);
    cols[1] = column(f, g, "a", 2);
    for (int i = 0; i < 600; i++) {
        double v[2] = {i, i * 2};
        assert_ok(storage_group_append(g, T0 + i * 1000, cols, v, i % 3 ? 2 : 1, NULL, &f->err),
                  &f->err);
        storage_tick(f->s, T0 + i * 1000);
    }
    storage_get_stats(f->s, &st);
    assert_true(st.blocks >= 8);
    assert_true(st.head_min_ms >= T0 + 500000);
    assert_true(st.wal_bytes < 8192);
    snprintf(before, sizeof before, "%s", dump_all(f, "a"));
    for (int i = 0; i < 600; i++) {
        char want[32];
        snprintf(want, sizeof want, " %d=%d ", i * 1000, i);
        assert_non_null(strstr(before, i < 599 ? want : " 599000=599"));
    }
    storage_group_close(g);
    reopen(f);
    assert_string_equal(dump_all(f, "a"), before);
}

/* The index of the oldest of several blocks with one byte changed: what the others hold is served whole,
 * queries do not fail, and the loss is told. */
static void a_damaged_index_costs_no_more_than_its_block(void **state)
{
    struct fixture *f = *state;
    struct fs *fs = simfs_fs(f->sim);
    struct storage_group *g;
    struct storage_stats st;
    struct fs_names names = {0};
    struct fs_stat size;
    char path[64] = "", before[1 << 16];
    unsigned lost = 0;
    uint32_t a;

    storage_close(f->s);
    f->block_ms = MINUTE;
    open_store(f);
    g = group(f);
    a = column(f, g, "a", 1);
    for (int i = 0; i < 300; i++) {
        append(f, g, T0 + i * 1000, a, i);
        storage_tick(f->s, T0 + i * 1000);
    }
    storage_group_close(g);
    snprintf(before, sizeof before, "%s", dump_all(f, "a"));
    assert_ok(fs->list(fs, "data", &names, &f->err), &f->err);
    for (size_t i = names.n; i-- > 0;) {
        if (strlen(names.v[i]) == 26) /* ULIDs ascend: the first is the oldest */
            snprintf(path, sizeof path, "data/%s/index", names.v[i]);
    }
    fs_names_done(&names);
    assert_ok(fs->stat(fs, path, &size, &f->err), &f->err);
    log_capture(ignore_line, NULL);
    for (uint64_t off = 0; off < size.bytes; off++) {
        assert_true(simfs_flip(f->sim, path, off, 0x10));
        reopen(f);
        const char *after = dump_all(f, "a");
        assert_non_null(strstr(after, strstr(before, " 120000=120 ")));
        assert_string_equal(list_values(f, "__name__"), "a");
        storage_get_stats(f->s, &st);
        if (strcmp(after, before) != 0) {
            lost++;
            assert_true(st.blocks_set_aside + st.pages_damaged > 0);
        }
        assert_true(simfs_flip(f->sim, path, off, 0x10));
    }
    log_capture(NULL, NULL);
    assert_true(lost > 100);
    reopen(f);
    assert_string_equal(dump_all(f, "a"), before);
}

static void a_series_that_went_away_leaves_the_head(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g, *gone;
    struct storage_stats st;
    uint32_t a, b;

    storage_close(f->s);
    f->block_ms = MINUTE;
    open_store(f);
    gone = group(f);
    a = column(f, gone, "a", 1);
    append(f, gone, T0, a, 1);
    storage_group_close(gone);
    g = group(f);
    a = column(f, g, "a", 2);
    b = column(f, g, "a", 3);
    append(f, g, T0, b, 2);
    storage_group_release(g, b);
    for (int i = 0; i < 300; i++) {
        append(f, g, T0 + i * 1000, a, i);
        storage_tick(f->s, T0 + i * 1000);
    }
    storage_get_stats(f->s, &st);
    assert_int_equal(st.head_series, 1);
    assert_int_equal(st.series_removed, 2);
    assert_int_equal(st.head_groups, 1);
    assert_int_equal(st.label_pairs, 2);
    assert_memory_equal(dump_all(f, "a"), "1: 0=1\n2: 0=0 ", 14);
    storage_group_close(g);
}

static void an_open_reader_keeps_its_view_while_a_block_is_written(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g;
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("a")};
    struct arena *arena = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;
    struct storage_stats st;
    uint32_t a;

    storage_close(f->s);
    f->block_ms = MINUTE;
    open_store(f);
    g = group(f);
    a = column(f, g, "a", 1);
    for (int i = 0; i < 50; i++)
        append(f, g, T0 + i * 1000, a, i);
    assert_ok(storage_querier(f->s, T0, T0 + HOUR, &q, &f->err), &f->err);
    assert_ok(q->ops->select(q, &m, 1, T0, T0 + HOUR, arena, &list, &f->err), &f->err);
    for (int i = 50; i < 300; i++) {
        append(f, g, T0 + i * 1000, a, i);
        storage_tick(f->s, T0 + i * 1000);
    }
    storage_get_stats(f->s, &st);
    assert_true(st.blocks >= 3);
    assert_ok(q->ops->read(q, &list.v[0], T0, T0 + 49000, &c, &f->err), &f->err);
    assert_int_equal(c.n, 50);
    column_done(&c);
    querier_close(q);
    arena_free(arena);
    storage_tick(f->s, T0 + 301000);
    storage_get_stats(f->s, &st);
    assert_true(st.head_min_ms > T0 + 100000);
    assert_memory_equal(dump_all(f, "a"), "1: 0=0 1000=1 2000=2 ", 21);
    storage_group_close(g);
}

static void old_blocks_go_by_time_and_by_size(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g;
    struct storage_stats st;
    uint32_t a;

    storage_close(f->s);
    f->block_ms = MINUTE;
    open_store(f);
    storage_set_retention(f->s, &(struct storage_retention){.time_ms = 5 * MINUTE});
    g = group(f);
    a = column(f, g, "a", 1);
    for (int i = 0; i < 1200; i++) {
        append(f, g, T0 + i * 1000, a, i);
        storage_tick(f->s, T0 + i * 1000);
    }
    storage_get_stats(f->s, &st);
    assert_in_range(st.blocks, 5, 6);
    assert_true(st.retention_deletions > 8);
    assert_true(st.oldest_ms > T0 + 10 * MINUTE);
    storage_set_retention(f->s, &(struct storage_retention){.bytes = 1});
    storage_tick(f->s, T0 + 1201000);
    storage_get_stats(f->s, &st);
    assert_int_equal(st.blocks, 0);
    assert_true(st.size_retention_deletions >= 5);
    storage_group_close(g);
    reopen(f);
    storage_get_stats(f->s, &st);
    assert_int_equal(st.blocks, 0);
}

/* ---- folders ------------------------------------------------------------------------------------ */

static void a_folder_is_open_once(void **state)
{
    struct fixture *f = *state;
    struct storage_opts o = {.fs = simfs_fs(f->sim), .dir = "data", .no_worker = true};
    struct storage *other;

    assert_status(storage_open(&other, &o, &f->err), NX_UNAVAILABLE);
}

static void a_folder_of_prometheus_is_left_alone(void **state)
{
    struct fixture *f = *state;
    struct fs *fs = simfs_fs(f->sim);
    struct storage_opts o = {.fs = fs, .dir = "theirs", .no_worker = true};
    struct fs_stat st;
    struct storage *other;

    assert_ok(fs_mkdirs(fs, "theirs/chunks_head", &f->err), &f->err);
    assert_status(storage_open(&other, &o, &f->err), NX_UNAVAILABLE);
    assert_non_null(strstr(f->err.text, "Prometheus"));
    assert_status(fs->stat(fs, "theirs/lock", &st, &f->err), NX_NOTFOUND);
    o.dir = "blocks";
    assert_ok(fs_mkdirs(fs, "blocks/01HF0000000000000000000000", &f->err), &f->err);
    assert_ok(fs_publish(fs, "blocks/01HF0000000000000000000000/index", "\xba\xaa\xd7\x00\x02", 5,
                         &f->err),
              &f->err);
    assert_status(storage_open(&other, &o, &f->err), NX_UNAVAILABLE);
}

static void unfinished_folders_are_removed(void **state)
{
    struct fixture *f = *state;
    struct fs *fs = simfs_fs(f->sim);
    struct fs_stat st;
    const char *names[] = {"data/01HF0000000000000000000000.tmp-for-creation",
                           "data/01HF0000000000000000000000.tmp-for-deletion"};

    for (int i = 0; i < 2; i++)
        assert_ok(fs_mkdirs(fs, names[i], &f->err), &f->err);
    reopen(f);
    for (int i = 0; i < 2; i++)
        assert_status(fs->stat(fs, names[i], &st, &f->err), NX_NOTFOUND);
}

/* ---- labels -------------------------------------------------------------------------------------- */

static void labels_are_listed_with_matchers_and_limits(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g = group(f);
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("b")};
    struct arena *a = arena_new(0);
    struct querier *q;
    struct nx_slice *v;
    size_t n;

    for (unsigned i = 0; i < 20; i++)
        append(f, g, T0, column(f, g, i % 2 ? "a" : "b", i), 1);
    assert_ok(storage_querier(f->s, T0, T0, &q, &f->err), &f->err);
    assert_ok(q->ops->label_names(q, NULL, 0, T0, T0, 0, a, &v, &n, &f->err), &f->err);
    assert_int_equal(n, 2);
    assert_text(v[0], "__name__", "names");
    assert_text(v[1], "i", "names");
    assert_ok(q->ops->label_values(q, STR("i"), &m, 1, T0, T0, 0, a, &v, &n, &f->err), &f->err);
    assert_int_equal(n, 10);
    assert_text(v[0], "0", "values");
    assert_text(v[1], "10", "values");
    assert_ok(q->ops->label_values(q, STR("i"), NULL, 0, T0, T0, 3, a, &v, &n, &f->err), &f->err);
    assert_int_equal(n, 4);
    querier_close(q);
    arena_free(a);
    storage_group_close(g);
}

static void counts_are_told(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g = group(f);
    struct arena *a = arena_new(0);
    struct storage_cardinality c;
    struct storage_stats st;

    for (unsigned i = 0; i < 30; i++)
        append(f, g, T0 + i, column(f, g, i % 3 ? "a" : "b", i), 1);
    assert_ok(storage_get_cardinality(f->s, 5, a, &c, &f->err), &f->err);
    assert_int_equal(c.n_by_metric, 2);
    assert_text(c.by_metric[0].name, "a", "metric");
    assert_int_equal(c.by_metric[0].value, 20);
    assert_int_equal(c.n_values_by_label, 2);
    assert_text(c.values_by_label[0].name, "i", "label");
    assert_int_equal(c.values_by_label[0].value, 30);
    assert_int_equal(c.bytes_by_label[0].value, 50);
    assert_int_equal(c.n_by_pair, 5);
    assert_text(c.by_pair[0].name, "__name__=a", "pair");
    storage_get_stats(f->s, &st);
    assert_int_equal(st.head_series, 30);
    assert_int_equal(st.head_samples_appended, 30);
    assert_int_equal(st.head_min_ms, T0);
    assert_int_equal(st.head_max_ms, T0 + 29);
    arena_free(a);
    storage_group_close(g);
}

/* The bytes of the example `name` in FORMAT.md. */
static size_t format_example(const char *name, uint8_t *to, size_t cap)
{
    char line[512], mark[64];
    bool inside = false;
    size_t n = 0;
    FILE *f = fopen("storage/FORMAT.md", "r");

    assert_non_null(f);
    snprintf(mark, sizeof mark, "<!-- example: %s -->", name);
    while (fgets(line, sizeof line, f)) {
        unsigned byte;
        int used;
        if (strncmp(line, mark, strlen(mark)) == 0)
            inside = fgets(line, sizeof line, f) != NULL;
        else if (inside && strncmp(line, "```", 3) == 0)
            break;
        else if (inside) {
            for (const char *p = line + 5; n < cap && sscanf(p, " %2x%n", &byte, &used) == 1;
                 p += used)
                to[n++] = (uint8_t)byte;
        }
    }
    fclose(f);
    return n;
}

static void the_log_is_what_FORMAT_md_says(void **state)
{
    struct fixture *f = *state;
    struct storage_group *g = group(f);
    struct fs *fs = simfs_fs(f->sim);
    struct label l = {STR(LABEL_NAME), STR("up")};
    struct labels ls = {&l, 1};
    uint32_t cols[2];
    double v[2] = {1, 21.5};
    uint8_t want[512];
    size_t n = format_example("log", want, sizeof want);
    struct buf got;

    assert_ok(storage_group_column(g, &ls, &cols[0], NULL, &f->err), &f->err);
    l.value = STR("temperature");
    assert_ok(storage_group_column(g, &ls, &cols[1], NULL, &f->err), &f->err);
    assert_ok(storage_group_append(g, T0, cols, v, 2, NULL, &f->err), &f->err);
    v[1] = 21.75;
    assert_ok(storage_group_append(g, T0 + 15000, cols, v, 2, NULL, &f->err), &f->err);
    storage_group_close(g);
    buf_init(&got, 0);
    assert_ok(fs_read_file(fs, "data/wal/00000001", &got, &f->err), &f->err);
    assert_int_equal(got.len, n);
    assert_memory_equal(got.ptr, want, n);
    buf_done(&got);
    /* And a folder that holds just these bytes gives the samples back. */
    storage_close(f->s);
    assert_ok(fs_remove_tree(fs, "data", &f->err), &f->err);
    assert_ok(fs_mkdirs(fs, "data/wal", &f->err), &f->err);
    assert_ok(fs_publish(fs, "data/wal/00000001", want, n, &f->err), &f->err);
    open_store(f);
    assert_string_equal(dump_all(f, "temperature"), ": 0=21.5 15000=21.75");
    assert_string_equal(dump_all(f, "up"), ": 0=1 15000=1");
}

/* The rows of that log, when it has been replayed and the worker has stored what it held. */
static void a_chunk_file_is_what_FORMAT_md_says(void **state)
{
    struct fixture *f = *state;
    struct fs *fs = simfs_fs(f->sim);
    uint8_t log[512], want[512];
    size_t n_log = format_example("log", log, sizeof log);
    size_t n = format_example("head", want, sizeof want);
    struct buf got;

    storage_close(f->s);
    assert_ok(fs_remove_tree(fs, "data", &f->err), &f->err);
    assert_ok(fs_mkdirs(fs, "data/wal", &f->err), &f->err);
    assert_ok(fs_publish(fs, "data/wal/00000001", log, n_log, &f->err), &f->err);
    open_store(f);
    storage_tick(f->s, T0 + 20000);
    buf_init(&got, 0);
    assert_ok(fs_read_file(fs, "data/head/00000001", &got, &f->err), &f->err);
    assert_int_equal(got.len, n);
    assert_memory_equal(got.ptr, want, n);
    buf_done(&got);
    /* And a folder that holds just these bytes gives the samples back. */
    storage_close(f->s);
    assert_ok(fs_remove_tree(fs, "data", &f->err), &f->err);
    assert_ok(fs_mkdirs(fs, "data/head", &f->err), &f->err);
    assert_ok(fs_publish(fs, "data/head/00000001", want, n, &f->err), &f->err);
    open_store(f);
    assert_string_equal(dump_all(f, "temperature"), ": 0=21.5 15000=21.75");
    assert_string_equal(dump_all(f, "up"), ": 0=1 15000=1");
}

/* Two samples of a series of a loose group, stored because the folder was opened again. */
static void stored_loose_samples_are_what_FORMAT_md_says(void **state)
{
    struct fixture *f = *state;
    struct fs *fs = simfs_fs(f->sim);
    struct storage_group *g;
    struct label l = {STR(LABEL_NAME), STR("pushed")};
    struct labels ls = {&l, 1};
    struct storage_sample v[2] = {{0, T0, 1}, {0, T0 + 1234, 2.5}};
    uint8_t want[512];
    size_t n = format_example("loose", want, sizeof want);
    struct buf got;

    assert_ok(storage_group_open_loose(f->s, &g, &f->err), &f->err);
    assert_ok(storage_group_column(g, &ls, &v[0].col, NULL, &f->err), &f->err);
    v[1].col = v[0].col;
    assert_ok(storage_group_append_samples(g, v, 2, NULL, &f->err), &f->err);
    storage_group_close(g);
    storage_close(f->s);
    open_store(f);
    storage_tick(f->s, T0 + 20000);
    buf_init(&got, 0);
    assert_ok(fs_read_file(fs, "data/head/00000001", &got, &f->err), &f->err);
    assert_int_equal(got.len, n);
    assert_memory_equal(got.ptr, want, n);
    buf_done(&got);
    /* And a folder that holds just these bytes gives the samples back. */
    storage_close(f->s);
    assert_ok(fs_remove_tree(fs, "data", &f->err), &f->err);
    assert_ok(fs_mkdirs(fs, "data/head", &f->err), &f->err);
    assert_ok(fs_publish(fs, "data/head/00000001", want, n, &f->err), &f->err);
    open_store(f);
    assert_string_equal(dump_all(f, "pushed"), ": 0=1 1234=2.5");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(what_was_appended_is_read),
        T(columns_left_out_have_no_sample),
        T(the_order_rules_are_those_of_prometheus),
        T(the_order_rules_hold_over_seals_groups_and_restarts),
        T(a_column_twice_in_a_row_counts_as_duplicate),
        T(two_groups_share_a_series_under_its_order_rules),
        T(a_released_column_serves_another_series_without_mixing_them),
        T(a_reader_sees_a_row_of_a_group_whole_or_not),
        T(a_restart_brings_back_every_sample),
        T(blocks_take_over_from_the_head_and_the_log),
        T(a_damaged_index_costs_no_more_than_its_block),
        T(a_series_that_went_away_leaves_the_head),
        T(an_open_reader_keeps_its_view_while_a_block_is_written),
        T(old_blocks_go_by_time_and_by_size),
        T(a_folder_is_open_once),
        T(a_folder_of_prometheus_is_left_alone),
        T(unfinished_folders_are_removed),
        T(labels_are_listed_with_matchers_and_limits),
        T(counts_are_told),
        T(the_log_is_what_FORMAT_md_says),
        T(a_chunk_file_is_what_FORMAT_md_says),
        T(stored_loose_samples_are_what_FORMAT_md_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
