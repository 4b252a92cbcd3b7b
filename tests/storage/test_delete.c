/* test_delete.c - samples are deleted: from head and blocks, at once and for good.
 *
 * A model of plain arrays says what must be there. Deletions come between rows, flushes, merges, cleanings,
 * kills and restarts; then the disk fails at each step of one.
 *
 *   NX_SEED=n storage_test_delete     runs that seed alone */
#include "tests/support/test.h"

#include <stdatomic.h>
#include <unistd.h>

#include "src/base/log.h"
#include "src/base/thread.h"
#include "storage/block.h"
#include "storage/storage.h"
#include "tests/storage/series.h"
#include "tests/support/oom.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define SERIES   12
#define GROUPS   3 /* series i is written by group i % GROUPS */
#define ROWS     1500
#define BLOCK_MS 10000
#define T0       (1700000000000LL / (27 * BLOCK_MS) * (27 * BLOCK_MS))

static struct nx_err err;

static nx_status no_links(struct fs *fs, const char *from, const char *to, struct nx_err *e)
{
    (void)fs;
    return nx_fail(e, NX_IO, "linking %s to %s: not here", from, to);
}

struct sample {
    int64_t t;
    bool gone;
};

struct world {
    struct test_random rnd;
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g[GROUPS];
    uint32_t cols[SERIES];
    struct sample v[SERIES][ROWS];
    size_t n[SERIES];
    int64_t now_ms;
};

static uint64_t below(struct world *w, uint64_t n)
{
    return test_random_below(&w->rnd, n);
}

static double value_of(int series, int64_t t_ms)
{
    return series * 1000 + (double)(t_ms % 777) / 4;
}

static void labels_of(struct label v[3], char id[8], int i)
{
    snprintf(id, 8, "s%02d", i);
    v[0] = (struct label){STR(LABEL_NAME), STR("m")};
    v[1] = (struct label){STR("id"), nx_slice_str(id)};
    v[2] = (struct label){STR("job"), nx_slice_str(i % 2 ? "odd" : "even")};
}

static nx_status try_open(struct world *w)
{
    struct storage_opts o = {.fs = simfs_fs(w->sim),
                             .dir = "data",
                             .min_block_ms = BLOCK_MS,
                             .wal_segment_bytes = 4000,
                             .no_worker = true};

    return storage_open(&w->s, &o, &err);
}

static void open_groups(struct world *w)
{
    for (int i = 0; i < GROUPS; i++)
        assert_ok(storage_group_open(w->s, &w->g[i], &err), &err);
    for (int i = 0; i < SERIES; i++) {
        struct label v[3];
        struct labels ls = {v, 3};
        char id[8];
        labels_of(v, id, i);
        assert_ok(storage_group_column(w->g[i % GROUPS], &ls, &w->cols[i], NULL, &err), &err);
    }
}

static void close_store(struct world *w)
{
    for (int i = 0; i < GROUPS; i++) {
        storage_group_close(w->g[i]);
        w->g[i] = NULL;
    }
    storage_close(w->s);
    w->s = NULL;
}

static void append(struct world *w, int group, unsigned skip)
{
    uint32_t cols[SERIES];
    double v[SERIES];
    size_t n = 0;
    struct storage_appended got;

    for (int i = group; i < SERIES; i += GROUPS) {
        if (w->n[i] == ROWS || (skip && below(w, skip) == 0))
            continue;
        cols[n] = w->cols[i];
        v[n++] = value_of(i, w->now_ms);
        w->v[i][w->n[i]++] = (struct sample){w->now_ms, false};
    }
    assert_ok(storage_group_append(w->g[group], w->now_ms, cols, v, n, &got, &err), &err);
    assert_int_equal(got.appended, n);
}

static size_t alive(const struct world *w, int i, int64_t mint, int64_t maxt)
{
    size_t n = 0;

    for (size_t k = 0; k < w->n[i]; k++)
        n += !w->v[i][k].gone && w->v[i][k].t >= mint && w->v[i][k].t <= maxt;
    return n;
}

/* ---- checking -------------------------------------------------------------------------------- */

static int number_of(const struct labels *ls)
{
    const char *id = labels_get_str(ls, "id").ptr;

    return (id[1] - '0') * 10 + id[2] - '0';
}

static void check_samples(struct world *w, struct querier *q, const struct series *s, int64_t mint,
                          int64_t maxt, struct column *c)
{
    int i = number_of(&s->labels);
    size_t at = 0;

    assert_ok(q->ops->read(q, s, mint, maxt, c, &err), &err);
    for (size_t k = 0; k < w->n[i]; k++) {
        const struct sample *x = &w->v[i][k];
        if (x->gone || x->t < mint || x->t > maxt)
            continue;
        if (at >= c->n || c->t[at] != x->t || c->v[at] != value_of(i, x->t))
            fail_msg("series %d: the sample at %" PRId64 " is wrong or missing", i, x->t - T0);
        at++;
    }
    if (at != c->n)
        fail_msg("series %d: a sample too many at %" PRId64, i, c->t[at] - T0);
}

static void check_values(struct world *w, struct querier *q, int64_t mint, int64_t maxt,
                         struct arena *a, bool matched)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
    struct nx_slice *v = NULL;
    size_t n = 0, at = 0, names = 0;

    assert_ok(q->ops->label_values(q, STR("id"), &m, matched, mint, maxt, 0, a, &v, &n, &err),
              &err);
    for (int i = 0; i < SERIES; i++) {
        char id[8];
        struct label ls[3];
        labels_of(ls, id, i);
        bool listed = at < n && nx_slice_is(v[at], id);
        at += listed;
        if (!listed && alive(w, i, mint, maxt))
            fail_msg("%s is not among the values", id);
        /* without matchers the head lists series that have a column and no sample yet */
        if (listed && matched && !alive(w, i, INT64_MIN, INT64_MAX))
            fail_msg("%s is among the values, and deleted", id);
    }
    assert_int_equal(at, n);
    assert_ok(q->ops->label_names(q, &m, matched, mint, maxt, 0, a, &v, &names, &err), &err);
    assert_int_equal(names, n ? 3 : 0);
}

static void check(struct world *w, int64_t mint, int64_t maxt)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;
    bool seen[SERIES] = {false};

    assert_ok(storage_querier(w->s, mint, maxt, &q, &err), &err);
    assert_ok(q->ops->select(q, &m, 1, mint, maxt, a, &list, &err), &err);
    for (size_t k = 0; k < list.n; k++) {
        int i = number_of(&list.v[k].labels);
        check_samples(w, q, &list.v[k], mint, maxt, &c);
        seen[i] = true;
    }
    for (int i = 0; i < SERIES; i++) {
        if (!seen[i] && alive(w, i, mint, maxt))
            fail_msg("series %d is missing", i);
        if (seen[i] && !alive(w, i, INT64_MIN, INT64_MAX))
            fail_msg("series %d is listed, and deleted", i);
    }
    check_values(w, q, mint, maxt, a, true);
    check_values(w, q, mint, maxt, a, false);
    column_done(&c);
    querier_close(q);
    arena_free(a);
}

static void check_all(struct world *w)
{
    check(w, INT64_MIN, INT64_MAX);
}

static void check_some(struct world *w)
{
    int64_t mint = T0 + (int64_t)below(w, (uint64_t)(w->now_ms - T0 + 1));

    check(w, mint, mint + (int64_t)below(w, (uint64_t)(w->now_ms - mint + 1)));
}

/* ---- deleting -------------------------------------------------------------------------------- */

static nx_status delete_where(struct world *w, const char *label, const char *value, int64_t mint,
                              int64_t maxt)
{
    struct matcher m = {
        .type = MATCH_EQ, .name = nx_slice_str(label), .value = nx_slice_str(value)};

    return storage_delete(w->s, &(struct matcher_set){&m, 1}, 1, mint, maxt, &err);
}

static bool is_in(int i, const char *label, const char *value)
{
    char id[8];
    struct label v[3];

    labels_of(v, id, i);
    return nx_slice_is(labels_get_str(&(struct labels){v, 3}, label), value);
}

static void model_delete(struct world *w, const char *label, const char *value, int64_t mint,
                         int64_t maxt)
{
    for (int i = 0; i < SERIES; i++) {
        for (size_t k = 0; k < w->n[i] && is_in(i, label, value); k++)
            w->v[i][k].gone |= w->v[i][k].t >= mint && w->v[i][k].t <= maxt;
    }
}

static void delete_some(struct world *w)
{
    int64_t mint = INT64_MIN, maxt = INT64_MAX;
    char id[8];
    struct label v[3];
    int i = (int)below(w, SERIES);
    const char *label = below(w, 3) ? "id" : "job", *value;

    labels_of(v, id, i);
    value = label[0] == 'i' ? id : i % 2 ? "odd" : "even";
    if (below(w, 3)) {
        mint = T0 + (int64_t)below(w, (uint64_t)(w->now_ms - T0 + 1));
        maxt = mint + (int64_t)below(w, 2 * BLOCK_MS);
    }
    assert_ok(delete_where(w, label, value, mint, maxt), &err);
    model_delete(w, label, value, mint, maxt);
}

static void restart(struct world *w)
{
    close_store(w);
    if (below(w, 2))
        simfs_restart(w->sim);
    assert_ok(try_open(w), &err);
    open_groups(w);
}

static void world_new(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->rnd.state = seed;
    w->now_ms = T0;
    w->sim = simfs_new(seed);
    assert_ok(try_open(w), &err);
    open_groups(w);
}

static void world_done(struct world *w)
{
    close_store(w);
    simfs_free(w->sim);
}

static void one_seed(struct world *w, uint64_t seed)
{
    world_new(w, seed);
    for (int step = 0; step < 1500; step++) {
        w->now_ms += 1 + (int64_t)below(w, 300);
        switch (below(w, 40)) {
        case 0:
            delete_some(w);
            check_all(w);
            break;
        case 1:
        case 2:
            storage_tick(w->s, w->now_ms);
            break;
        case 3:
            check_some(w);
            break;
        case 4:
            if (below(w, 4) == 0)
                restart(w);
            check_all(w);
            break;
        case 5:
            if (below(w, 8) == 0)
                assert_ok(storage_clean_tombstones(w->s, &err), &err);
            check_all(w);
            break;
        case 6:
            w->now_ms += (int64_t)below(w, BLOCK_MS);
            break;
        default:
            append(w, (int)below(w, GROUPS), 4);
        }
    }
    check_all(w);
    world_done(w);
}

static void what_is_deleted_agrees_with_the_model(void **state)
{
    const char *own = getenv("NX_SEED");
    uint64_t from = own ? strtoull(own, NULL, 10) : 1, n = own ? 1 : 15;
    struct world *w = malloc(sizeof *w);

    (void)state;
    quiet_log();
    for (uint64_t seed = from; seed < from + n; seed += own ? 1 : TEST_STRIDE) {
        print_message("seed %" PRIu64 "\n", seed);
        one_seed(w, seed);
    }
    log_capture(NULL, NULL);
    free(w);
}

/* ---- one by one ------------------------------------------------------------------------------ */

/* Rows each second up to `until`, with the ticks that flush them. */
static void fill(struct world *w, int64_t until)
{
    for (; w->now_ms < until; w->now_ms += 1000) {
        for (int g = 0; g < GROUPS; g++)
            append(w, g, 0);
        storage_tick(w->s, w->now_ms);
    }
}

static uint64_t blocks_of(struct storage *s)
{
    struct storage_stats st;

    storage_get_stats(s, &st);
    return st.blocks;
}

static void a_series_deleted_in_the_range_asked_for_is_not_listed(void **state)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR("id"), .value = STR("s03")};
    struct world *w = malloc(sizeof *w);
    struct arena *a = arena_new(0);
    struct series_list list;
    struct nx_slice *v;
    struct querier *q;
    size_t n;

    (void)state;
    world_new(w, 1);
    fill(w, T0 + 4 * BLOCK_MS);
    assert_true(blocks_of(w->s) > 0);
    /* a part of a block, and a part of the head */
    assert_ok(delete_where(w, "id", "s03", T0 + 2500, T0 + 5500), &err);
    assert_ok(delete_where(w, "id", "s03", w->now_ms - 5500, w->now_ms - 2500), &err);
    for (int i = 0; i < 2; i++) {
        int64_t from = i ? w->now_ms - 5000 : T0 + 3000, to = from + 2000;
        assert_ok(storage_querier(w->s, INT64_MIN, INT64_MAX, &q, &err), &err);
        assert_ok(q->ops->select(q, &m, 1, from, to, a, &list, &err), &err);
        assert_int_equal(list.n, 0);
        assert_ok(q->ops->label_values(q, STR("id"), &m, 1, from, to, 0, a, &v, &n, &err), &err);
        assert_int_equal(n, 0);
        assert_ok(q->ops->select(q, &m, 1, from, to + 3000, a, &list, &err), &err);
        assert_int_equal(list.n, 1);
        assert_ok(q->ops->label_values(q, STR("id"), NULL, 0, from, to, 0, a, &v, &n, &err), &err);
        assert_int_equal(n, SERIES - 1);
        querier_close(q);
    }
    arena_free(a);
    world_done(w);
    free(w);
}

static void samples_after_a_deletion_are_visible(void **state)
{
    struct world *w = malloc(sizeof *w);
    struct storage_appended got;
    double v = 1;

    (void)state;
    world_new(w, 2);
    fill(w, T0 + BLOCK_MS);
    assert_ok(delete_where(w, LABEL_NAME, "m", INT64_MIN, INT64_MAX), &err);
    model_delete(w, LABEL_NAME, "m", INT64_MIN, INT64_MAX);
    check_all(w);
    /* the deleted sample is the newest still: its time can't be written again */
    assert_ok(storage_group_append(w->g[0], w->now_ms - 1000, w->cols, &v, 1, &got, &err), &err);
    assert_int_equal(got.duplicate, 1);
    fill(w, T0 + BLOCK_MS + 3000);
    check_all(w);
    restart(w);
    check_all(w);
    fill(w, T0 + 5 * BLOCK_MS);
    check_all(w);
    world_done(w);
    free(w);
}

static bool note_is_there(struct world *w)
{
    struct fs_stat st;
    struct fs *fs = simfs_fs(w->sim);

    return fs->stat(fs, "data/wal/deleted", &st, NULL) == NX_OK;
}

static void the_note_ends_when_the_data_has_gone(void **state)
{
    struct world *w = malloc(sizeof *w);

    (void)state;
    world_new(w, 3);
    fill(w, T0 + BLOCK_MS);
    assert_false(note_is_there(w));
    assert_ok(delete_where(w, "job", "odd", INT64_MIN, INT64_MAX), &err);
    model_delete(w, "job", "odd", INT64_MIN, INT64_MAX);
    assert_true(note_is_there(w));
    fill(w, T0 + 4 * BLOCK_MS);
    assert_true(blocks_of(w->s) > 0);
    assert_false(note_is_there(w));
    check_all(w);
    restart(w);
    check_all(w);
    world_done(w);
    free(w);
}

static void cleaning_rewrites_blocks_and_removes_empty_ones(void **state)
{
    struct world *w = malloc(sizeof *w);
    struct storage_stats before, after;

    (void)state;
    world_new(w, 4);
    fill(w, T0 + 9 * BLOCK_MS);
    restart(w);
    storage_get_stats(w->s, &before);
    assert_true(before.blocks >= 2);
    assert_ok(delete_where(w, "job", "odd", INT64_MIN, INT64_MAX), &err);
    model_delete(w, "job", "odd", INT64_MIN, INT64_MAX);
    check_all(w);
    assert_ok(storage_clean_tombstones(w->s, &err), &err);
    check_all(w);
    storage_get_stats(w->s, &after);
    assert_int_equal(after.blocks, before.blocks);
    assert_true(after.block_bytes < before.block_bytes);
    assert_ok(delete_where(w, LABEL_NAME, "m", INT64_MIN, INT64_MAX), &err);
    model_delete(w, LABEL_NAME, "m", INT64_MIN, INT64_MAX);
    assert_ok(storage_clean_tombstones(w->s, &err), &err);
    assert_int_equal(blocks_of(w->s), 0);
    check_all(w);
    restart(w);
    check_all(w);
    world_done(w);
    free(w);
}

/* Of the two copies in it one is enough; without any the block stays closed. */
static void a_damaged_tombstone_file_shows_nothing_deleted(void **state)
{
    struct world *w = malloc(sizeof *w);
    struct storage_stats st;
    struct fs_stat stat = {0};
    struct fs_names names = {0};
    struct fs *fs;
    char path[100] = "";
    uint64_t before;

    (void)state;
    quiet_log();
    world_new(w, 5);
    fs = simfs_fs(w->sim);
    fill(w, T0 + 3 * BLOCK_MS);
    before = blocks_of(w->s);
    assert_ok(delete_where(w, "id", "s01", INT64_MIN, T0 + 3000), &err);
    model_delete(w, "id", "s01", INT64_MIN, T0 + 3000);
    assert_ok(fs->list(fs, "data", &names, &err), &err);
    for (size_t i = 0; i < names.n && !path[0]; i++) {
        if (block_ulid_valid(names.v[i]))
            snprintf(path, sizeof path, "data/%s/tombstones", names.v[i]);
    }
    fs_names_done(&names);
    assert_ok(fs->stat(fs, path, &stat, &err), &err);
    for (uint64_t at = 0; simfs_flip(w->sim, path, at, 4); at++) {
        close_store(w);
        assert_ok(try_open(w), &err);
        storage_get_stats(w->s, &st);
        assert_int_equal(st.pages_damaged, 1);
        assert_int_equal(blocks_of(w->s), before);
        check_all(w);
        assert_true(simfs_flip(w->sim, path, (at + stat.bytes / 2) % stat.bytes, 4));
        close_store(w);
        assert_ok(try_open(w), &err);
        assert_int_equal(blocks_of(w->s), before - 1);
        assert_true(simfs_flip(w->sim, path, at, 4));
        assert_true(simfs_flip(w->sim, path, (at + stat.bytes / 2) % stat.bytes, 4));
        open_groups(w);
    }
    /* One copy alone, as it was written before. */
    struct buf file;
    buf_init(&file, 0);
    close_store(w);
    assert_ok(fs_read_file(fs, path, &file, &err), &err);
    assert_ok(fs_publish(fs, path, file.ptr, file.len / 2, &err), &err);
    assert_ok(try_open(w), &err);
    assert_int_equal(blocks_of(w->s), before);
    open_groups(w);
    check_all(w);
    close_store(w);
    assert_true(simfs_flip(w->sim, path, 20, 4));
    assert_ok(try_open(w), &err);
    assert_int_equal(blocks_of(w->s), before - 1);
    close_store(w);
    assert_true(simfs_flip(w->sim, path, 20, 4));
    assert_ok(try_open(w), &err);
    assert_int_equal(blocks_of(w->s), before);
    buf_done(&file);
    log_capture(NULL, NULL);
    open_groups(w);
    world_done(w);
    free(w);
}

/* ---- snapshots ------------------------------------------------------------------------------- */

/* All that the model has, in a store opened on the snapshot; what was appended later is not there. */
static void check_snapshot(struct world *w, const char *name, bool with_head)
{
    struct storage *live = w->s;
    char dir[100];
    struct storage_opts o = {
        .fs = simfs_fs(w->sim), .dir = dir, .min_block_ms = BLOCK_MS, .no_worker = true};
    struct storage_stats st;

    snprintf(dir, sizeof dir, "data/snapshots/%s", name);
    assert_ok(storage_open(&w->s, &o, &err), &err);
    storage_get_stats(w->s, &st);
    assert_int_equal(st.head_series, 0);
    if (with_head)
        check_all(w);
    storage_close(w->s);
    w->s = live;
}

static void a_snapshot_is_the_store_at_one_moment(void **state)
{
    struct world *w = malloc(sizeof *w);
    char name[STORAGE_SNAPSHOT_NAME_BYTES], bare[STORAGE_SNAPSHOT_NAME_BYTES];
    size_t n[SERIES];

    (void)state;
    world_new(w, 7);
    assert_ok(storage_snapshot(w->s, false, name, &err), &err); /* of nothing */
    check_snapshot(w, name, true);
    fill(w, T0 + 5 * BLOCK_MS);
    assert_ok(delete_where(w, "job", "odd", T0 + 3000, T0 + 41000), &err);
    model_delete(w, "job", "odd", T0 + 3000, T0 + 41000);
    assert_ok(storage_snapshot(w->s, false, name, &err), &err);
    assert_ok(storage_snapshot(w->s, true, bare, &err), &err);
    assert_int_equal(strlen(name), STORAGE_SNAPSHOT_NAME_BYTES - 1);
    assert_true(name[8] == 'T' && name[15] == 'Z' && name[16] == '-');
    memcpy(n, w->n, sizeof n);
    fill(w, T0 + 12 * BLOCK_MS); /* flushes and merges go on */
    assert_ok(storage_clean_tombstones(w->s, &err), &err);
    check_all(w);
    memcpy(w->n, n, sizeof n);
    check_snapshot(w, name, true);
    check_snapshot(w, bare, false);
    world_done(w);
    free(w);
}

static void without_links_files_are_copied(void **state)
{
    struct world *w = malloc(sizeof *w);
    char name[STORAGE_SNAPSHOT_NAME_BYTES];

    (void)state;
    world_new(w, 8);
    fill(w, T0 + 5 * BLOCK_MS);
    simfs_fs(w->sim)->link = no_links;
    assert_ok(storage_snapshot(w->s, false, name, &err), &err);
    check_snapshot(w, name, true);
    world_done(w);
    free(w);
}

static size_t count_names(struct fs *fs, const char *dir, const char *end)
{
    struct fs_names names = {0};
    size_t n = 0;

    if (fs->list(fs, dir, &names, NULL))
        return 0;
    for (size_t i = 0; i < names.n; i++)
        n += strlen(names.v[i]) >= strlen(end) &&
             strcmp(names.v[i] + strlen(names.v[i]) - strlen(end), end) == 0;
    fs_names_done(&names);
    return n;
}

static void a_snapshot_is_whole_or_not_there(void **state)
{
    struct world *w = malloc(sizeof *w);
    bool hit = true;

    (void)state;
    quiet_log();
    for (uint64_t step = 1; hit; step += TEST_STRIDE) {
        char name[STORAGE_SNAPSHOT_NAME_BYTES];
        struct fs_names names = {0};
        struct fs *fs;
        nx_status st;

        world_new(w, step);
        fs = simfs_fs(w->sim);
        fill(w, T0 + 3 * BLOCK_MS);
        close_store(w);
        assert_ok(try_open(w), &err);
        open_groups(w);
        simfs_cut_power_at(w->sim, step);
        st = storage_snapshot(w->s, false, name, &err);
        hit = simfs_power_was_cut(w->sim);
        assert_true(hit == (st != NX_OK));
        close_store(w);
        simfs_restore_power(w->sim);
        assert_ok(try_open(w), &err);
        open_groups(w);
        check_all(w);
        assert_int_equal(count_names(fs, "data/snapshots", ".tmp-for-creation"), 0);
        if (fs->list(fs, "data/snapshots", &names, NULL) == NX_OK) {
            for (size_t i = 0; i < names.n; i++)
                check_snapshot(w, names.v[i], true);
            fs_names_done(&names);
        }
        world_done(w);
    }
    log_capture(NULL, NULL);
    free(w);
}

/* ---- all at once ----------------------------------------------------------------------------- */

struct crowd {
    struct world *w;
    atomic_bool stop;
    atomic_llong now_ms;
    atomic_uint failed;
};

static void ask_on(void *ctx)
{
    struct crowd *c = ctx;
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
    struct column col = {0};

    while (!atomic_load(&c->stop)) {
        struct arena *a = arena_new(0);
        struct series_list list = {0};
        struct querier *q = NULL;
        bool ok = storage_querier(c->w->s, INT64_MIN, INT64_MAX, &q, NULL) == NX_OK &&
                  q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, NULL) == NX_OK;
        for (size_t i = 0; i < list.n && ok; i++) {
            /* series 0 is never deleted: each second of it is there, up to some time */
            ok = q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &col, NULL) == NX_OK;
            for (size_t k = 0; k < col.n && ok && number_of(&list.v[i].labels) == 0; k++)
                ok = col.t[k] == T0 + (int64_t)k * 1000;
        }
        querier_close(q);
        arena_free(a);
        if (!ok)
            atomic_fetch_add(&c->failed, 1);
    }
    column_done(&col);
}

static void administer(void *ctx)
{
    struct crowd *c = ctx;
    char name[STORAGE_SNAPSHOT_NAME_BYTES];
    struct matcher odd = {.type = MATCH_EQ, .name = STR("job"), .value = STR("odd")};

    while (!atomic_load(&c->stop)) {
        int64_t now_ms = atomic_load(&c->now_ms);
        if (storage_delete(c->w->s, &(struct matcher_set){&odd, 1}, 1, now_ms - 30000,
                           now_ms - 20000, NULL) ||
            storage_snapshot(c->w->s, false, name, NULL) || storage_clean_tombstones(c->w->s, NULL))
            atomic_fetch_add(&c->failed, 1);
    }
}

/* Nothing is lost and nothing comes back while rows, flushes, merges, deletions, cleanings, snapshots and queries
 * are in each other's way. */
static void everything_goes_on_at_once(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct storage_opts o = {.dir = "data", .min_block_ms = BLOCK_MS, .fsync_ms = 5};
    struct crowd c = {.w = w};
    struct nx_thread threads[3] = {0};

    (void)state;
    quiet_log();
    w->sim = simfs_new(9);
    o.fs = simfs_fs(w->sim);
    w->now_ms = T0;
    assert_ok(storage_open(&w->s, &o, &err), &err);
    open_groups(w);
    atomic_store(&c.now_ms, w->now_ms);
    assert_ok(nx_thread_start(&threads[0], "ask", ask_on, &c, &err), &err);
    assert_ok(nx_thread_start(&threads[1], "admin", administer, &c, &err), &err);
    assert_ok(nx_thread_start(&threads[2], "admin", administer, &c, &err), &err);
    for (int i = 0; i < 400; i++, w->now_ms += 1000) {
        for (int g = 0; g < GROUPS; g++)
            append(w, g, 0);
        atomic_store(&c.now_ms, w->now_ms);
        usleep(2000);
    }
    atomic_store(&c.stop, true);
    for (int i = 0; i < 3; i++)
        nx_thread_join(&threads[i]);
    assert_int_equal(atomic_load(&c.failed), 0);
    assert_ok(delete_where(w, "job", "odd", INT64_MIN, INT64_MAX), &err);
    model_delete(w, "job", "odd", INT64_MIN, INT64_MAX);
    check_all(w);
    close_store(w);
    assert_ok(try_open(w), &err);
    open_groups(w);
    check_all(w);
    world_done(w);
    log_capture(NULL, NULL);
    free(w);
}

static bool no_file_named(struct fs *fs, const char *name)
{
    struct fs_names names = {0};
    bool none = true;

    assert_ok(fs->list(fs, "data", &names, &err), &err);
    for (size_t i = 0; i < names.n; i++) {
        char path[100];
        struct fs_stat st;
        snprintf(path, sizeof path, "data/%s/%s", names.v[i], name);
        none = none && fs->stat(fs, path, &st, NULL);
    }
    fs_names_done(&names);
    return none;
}

/* STO-022 */
static void a_block_with_many_tombstones_is_written_anew_by_itself(void **state)
{
    struct world *w = malloc(sizeof *w);
    uint64_t before;

    (void)state;
    world_new(w, 10);
    fill(w, T0 + 5 * BLOCK_MS);
    before = blocks_of(w->s);
    assert_true(before >= 2);
    assert_ok(delete_where(w, "id", "s03", T0 + 1000, T0 + 2000), &err); /* of the oldest block */
    model_delete(w, "id", "s03", T0 + 1000, T0 + 2000);
    assert_false(no_file_named(simfs_fs(w->sim), "tombstones"));
    storage_tick(w->s, w->now_ms);
    assert_true(no_file_named(simfs_fs(w->sim), "tombstones"));
    assert_int_equal(blocks_of(w->s), before);
    check_all(w);
    world_done(w);
    free(w);
}

static void a_damaged_note_is_set_aside(void **state)
{
    struct world *w = malloc(sizeof *w);
    struct fs_stat st;
    struct fs *fs;

    (void)state;
    quiet_log();
    for (uint64_t at = 0;; at += 3) {
        bool flipped;
        world_new(w, 11);
        fs = simfs_fs(w->sim);
        fill(w, T0 + 3000);
        assert_ok(delete_where(w, "job", "odd", INT64_MIN, INT64_MAX), &err);
        close_store(w);
        flipped = simfs_flip(w->sim, "data/wal/deleted", at, 16);
        if (!flipped)
            model_delete(w, "job", "odd", INT64_MIN, INT64_MAX);
        assert_ok(try_open(w), &err);
        open_groups(w);
        check_all(w); /* visible again, or not */
        assert_int_equal(fs->stat(fs, "data/wal/deleted.damaged", &st, NULL) == NX_OK, flipped);
        assert_int_equal(note_is_there(w), !flipped);
        world_done(w);
        if (!flipped)
            break;
    }
    log_capture(NULL, NULL);
    free(w);
}

static void cleaning_can_be_called_off(void **state)
{
    struct world *w = malloc(sizeof *w);

    (void)state;
    world_new(w, 12);
    fill(w, T0 + 5 * BLOCK_MS);
    assert_ok(delete_where(w, "job", "odd", INT64_MIN, T0 + 20000), &err);
    model_delete(w, "job", "odd", INT64_MIN, T0 + 20000);
    storage_stop_admin(w->s);
    assert_status(storage_clean_tombstones(w->s, &err), NX_CANCELED);
    check_all(w);
    restart(w);
    assert_ok(storage_clean_tombstones(w->s, &err), &err);
    check_all(w);
    world_done(w);
    free(w);
}

/* ---- a disk that fails ----------------------------------------------------------------------- */

enum act { DELETE, CLEAN, FLUSH, N_ACTS };

/* What was asked for before is gone; of what is being deleted now, each sample may be there or not; all else is
 * there, once. */
static void check_after_fault(struct world *w, bool done, const char *what, uint64_t step)
{
    size_t found = 0, want = 0;
    struct scan got;

    for (scan_begin(&got, w->s, "m"); scan_next(&got);) {
        int i = number_of(got.labels);
        size_t at = 0;
        for (size_t x = 0; x < w->n[i]; x++) {
            bool there = at < got.c.n && got.c.t[at] == w->v[i][x].t;
            bool open = !done && is_in(i, "id", "s04");
            at += there;
            found += there && !w->v[i][x].gone;
            if (there && w->v[i][x].gone && !open)
                fail_msg("%s at step %" PRIu64 ": series %d has a deleted sample again", what, step,
                         i);
            if (!there && !w->v[i][x].gone)
                fail_msg("%s at step %" PRIu64 ": series %d lost the sample at %" PRId64, what,
                         step, i, w->v[i][x].t - T0);
        }
        if (at != got.c.n)
            fail_msg("%s at step %" PRIu64 ": series %d has samples twice", what, step, i);
    }
    for (int i = 0; i < SERIES; i++)
        want += alive(w, i, INT64_MIN, INT64_MAX);
    assert_int_equal(found, want);
}

static nx_status act(struct world *w, enum act what)
{
    switch (what) {
    case DELETE:
        model_delete(w, "id", "s04", T0 + 2000, INT64_MAX); /* tried */
        return delete_where(w, "id", "s04", T0 + 2000, INT64_MAX);
    case CLEAN:
        return storage_clean_tombstones(w->s, &err);
    default:
        storage_tick(w->s, w->now_ms + 100000);
        return NX_OK;
    }
}

/* True if the fault came. */
static bool one_fault(struct world *w, enum act what, bool cut, uint64_t step)
{
    bool hit;
    nx_status st;

    world_new(w, step + 1);
    fill(w, T0 + 5 * BLOCK_MS);
    assert_ok(delete_where(w, "job", "odd", INT64_MIN, INT64_MAX), &err);
    model_delete(w, "job", "odd", INT64_MIN, INT64_MAX);
    if (what == FLUSH) { /* rows that are due, some of them deleted */
        for (int k = 0; k < 20; k++, w->now_ms += 1000) {
            for (int g = 0; g < GROUPS; g++)
                append(w, g, 0);
        }
        assert_ok(delete_where(w, "id", "s02", INT64_MIN, INT64_MAX), &err);
        model_delete(w, "id", "s02", INT64_MIN, INT64_MAX);
    }
    close_store(w); /* which syncs */
    assert_ok(try_open(w), &err);
    open_groups(w);
    if (cut)
        simfs_cut_power_at(w->sim, step);
    else
        simfs_fail_at(w->sim, step);
    st = act(w, what);
    hit = cut ? simfs_power_was_cut(w->sim) : simfs_failed(w->sim);
    close_store(w);
    if (cut)
        simfs_restore_power(w->sim);
    simfs_heal(w->sim);
    assert_ok(try_open(w), &err);
    open_groups(w);
    check_after_fault(w, st == NX_OK && what == DELETE, cut ? "cut" : "error", step);
    if (!hit)
        check_all(w);
    assert_ok(delete_where(w, "id", "s04", T0 + 2000, INT64_MAX), &err); /* asking again is right */
    model_delete(w, "id", "s04", T0 + 2000, INT64_MAX);
    check_all(w);
    assert_ok(storage_clean_tombstones(w->s, &err), &err);
    check_all(w);
    world_done(w);
    return hit;
}

static void sweep(enum act what, bool cut)
{
    struct world *w = malloc(sizeof *w);
    uint64_t step = 1;

    quiet_log();
    while (one_fault(w, what, cut, step))
        step += TEST_STRIDE;
    log_capture(NULL, NULL);
    assert_true(step > 5);
    free(w);
}

static void a_deletion_survives_a_power_cut_at_every_step(void **state)
{
    (void)state;
    sweep(DELETE, true);
    sweep(DELETE, false);
}

static void cleaning_survives_a_power_cut_at_every_step(void **state)
{
    (void)state;
    sweep(CLEAN, true);
    sweep(CLEAN, false);
}

static void a_flush_of_deleted_rows_survives_a_power_cut_at_every_step(void **state)
{
    (void)state;
    sweep(FLUSH, true);
}

static void deleting_without_memory_changes_nothing(void **state)
{
    struct world *w = malloc(sizeof *w);
    bool failed = true;

    (void)state;
    world_new(w, 6);
    fill(w, T0 + 3 * BLOCK_MS);
    for (size_t at = 1; failed; at += TEST_STRIDE) {
        nx_status st;
        oom_fail_at((unsigned)at);
        st = delete_where(w, "id", "s05", T0 + 2000, T0 + 4 * BLOCK_MS);
        failed = oom_off();
        if (st)
            assert_int_equal(st, NX_NOMEM);
        else
            model_delete(w, "id", "s05", T0 + 2000, T0 + 4 * BLOCK_MS);
        assert_ok(storage_clean_tombstones(w->s, &err), &err);
        if (!st)
            check_all(w);
    }
    check_all(w);
    world_done(w);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_series_deleted_in_the_range_asked_for_is_not_listed),
        cmocka_unit_test(samples_after_a_deletion_are_visible),
        cmocka_unit_test(the_note_ends_when_the_data_has_gone),
        cmocka_unit_test(cleaning_rewrites_blocks_and_removes_empty_ones),
        cmocka_unit_test(a_damaged_tombstone_file_shows_nothing_deleted),
        cmocka_unit_test(what_is_deleted_agrees_with_the_model),
        cmocka_unit_test(a_block_with_many_tombstones_is_written_anew_by_itself),
        cmocka_unit_test(a_damaged_note_is_set_aside),
        cmocka_unit_test(cleaning_can_be_called_off),
        cmocka_unit_test(everything_goes_on_at_once),
        cmocka_unit_test(a_snapshot_is_the_store_at_one_moment),
        cmocka_unit_test(without_links_files_are_copied),
        cmocka_unit_test(a_snapshot_is_whole_or_not_there),
        cmocka_unit_test(a_deletion_survives_a_power_cut_at_every_step),
        cmocka_unit_test(cleaning_survives_a_power_cut_at_every_step),
        cmocka_unit_test(a_flush_of_deleted_rows_survives_a_power_cut_at_every_step),
        cmocka_unit_test(deleting_without_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
