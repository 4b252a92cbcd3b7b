/* test_threads.c - writers, readers and the worker at the same time. Meant for ThreadSanitizer; the checks
 * hold in any build: a reader sees rows whole, in order, and never loses what it saw before. */
#include "tests/support/test.h"

#include <stdatomic.h>

#include "src/base/clock.h"
#include "src/base/thread.h"
#include "storage/storage.h"

#define WRITERS  3
#define READERS  2
#define COLUMNS  20
#define ROWS     1500
#define BLOCK_MS 60000
#define T0       1700000000000LL
#define STEP_MS  500

struct shared {
    struct storage *s;
    atomic_int row[WRITERS]; /* appended so far */
    atomic_bool done;
    atomic_int failed; /* 0, or the line of the first failed check */
};

struct writer {
    struct shared *sh;
    int number;
};

#define CHECK(sh, what)                                                                            \
    do {                                                                                           \
        int none_ = 0;                                                                             \
        if (!(what))                                                                               \
            atomic_compare_exchange_strong(&(sh)->failed, &none_, __LINE__);                       \
    } while (0)

static uint32_t add_column(struct shared *sh, struct storage_group *g, int writer, int col,
                           int life)
{
    char w[16], c[16], l[16];
    struct label v[] = {
        {STR(LABEL_NAME), STR("m")}, {STR("c"), {0}}, {STR("life"), {0}}, {STR("w"), {0}}};
    struct labels ls = {v, NX_COUNT(v)};
    uint32_t number = 0;

    snprintf(w, sizeof w, "%d", writer);
    snprintf(c, sizeof c, "%d", col);
    snprintf(l, sizeof l, "%d", life);
    v[1].value = STR(c);
    v[2].value = STR(l);
    v[3].value = STR(w);
    CHECK(sh, storage_group_column(g, &ls, &number, NULL, NULL) == NX_OK);
    return number;
}

/* Every column of a row has the row's number; column 0 comes and goes, column 1 is every writer's. */
static void write_rows(void *arg)
{
    struct writer *w = arg;
    struct shared *sh = w->sh;
    struct storage_group *g = NULL;
    uint32_t cols[COLUMNS];
    double v[COLUMNS];

    CHECK(sh, storage_group_open(sh->s, &g, NULL) == NX_OK);
    for (int i = 0; i < COLUMNS; i++)
        cols[i] = add_column(sh, g, i == 1 ? 99 : w->number, i, 0);
    for (int row = 0; row < ROWS; row++) {
        if (row % 50 == 49) {
            storage_group_release(g, cols[0]);
            cols[0] = add_column(sh, g, w->number, 0, row / 50 % 7);
        }
        if (row % 400 == 399) {
            storage_group_close(g);
            CHECK(sh, storage_group_open(sh->s, &g, NULL) == NX_OK);
            for (int i = 0; i < COLUMNS; i++)
                cols[i] = add_column(sh, g, i == 1 ? 99 : w->number, i, i ? 0 : row / 50 % 7);
        }
        for (int i = 0; i < COLUMNS; i++)
            v[i] = row;
        CHECK(sh,
              storage_group_append(g, T0 + row * STEP_MS, cols, v, COLUMNS, NULL, NULL) == NX_OK);
        atomic_store(&sh->row[w->number], row + 1);
        for (int k = 0; k < WRITERS;
             k++) { /* within half a block of each other, or rows are refused */
            while (!atomic_load(&sh->failed) && atomic_load(&sh->row[k]) + 40 < row)
                clock_sleep_until_mono_ns(clock_mono_ns() + 100000);
        }
    }
    storage_group_close(g);
}

/* One querier, several columns: all see what the first one saw. */
struct beside {
    struct shared *sh;
    struct querier *q;
    const struct series_list *list;
    const size_t *seen;
};

static void read_beside(void *arg)
{
    const struct beside *b = arg;
    struct column c = {0};

    for (size_t i = 0; i < b->list->n; i++) {
        CHECK(b->sh,
              b->q->ops->read(b->q, &b->list->v[i], INT64_MIN, INT64_MAX, &c, NULL) == NX_OK);
        CHECK(b->sh, c.n == b->seen[i]);
        for (size_t j = 0; j < c.n; j++)
            CHECK(b->sh, c.t[j] == T0 + (int64_t)j * STEP_MS && c.v[j] == (double)j);
    }
    column_done(&c);
}

static void read_side_by_side(struct shared *sh, struct querier *q, const struct series_list *list,
                              const size_t *seen)
{
    struct beside b = {sh, q, list, seen};
    struct nx_thread others[2] = {0};

    CHECK(sh, q->ops->reads_side_by_side);
    for (size_t i = 0; i < NX_COUNT(others); i++)
        CHECK(sh, nx_thread_start(&others[i], "beside", read_beside, &b, NULL) == NX_OK);
    read_beside(&b);
    for (size_t i = 0; i < NX_COUNT(others); i++)
        nx_thread_join(&others[i]);
}

static int read_all(struct shared *sh)
{
    struct matcher m[2] = {{.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")},
                           {.type = MATCH_NEQ, .name = STR("c"), .value = STR("0")}};
    struct arena *a = arena_new(0);
    struct series_list list = {0};
    struct column c = {0};
    struct querier *q = NULL;
    int before[WRITERS], rows = 0;
    size_t n[WRITERS] = {0}, *seen;

    for (int i = 0; i < WRITERS; i++)
        before[i] = atomic_load(&sh->row[i]);
    CHECK(sh, storage_querier(sh->s, T0, T0 + ROWS * STEP_MS, &q, NULL) == NX_OK);
    CHECK(sh, q->ops->select(q, m, 2, INT64_MIN, INT64_MAX, a, &list, NULL) == NX_OK);
    seen = arena_array(a, list.n + 1, sizeof *seen);
    for (size_t i = 0; i < list.n; i++) {
        struct nx_slice by = labels_get_str(&list.v[i].labels, "w");
        int w = by.len == 1 ? by.ptr[0] - '0' : WRITERS; /* the shared one has two digits */
        CHECK(sh, q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &c, NULL) == NX_OK);
        for (size_t j = 0; j < c.n; j++) {
            CHECK(sh, c.t[j] == T0 + (int64_t)j * STEP_MS); /* none missing, none twice */
            CHECK(sh, c.v[j] == (double)j);
        }
        rows += (int)c.n;
        seen[i] = c.n;
        if (w >= WRITERS)
            continue;
        CHECK(sh, c.n >= (size_t)before[w]);
        if (n[w] == 0)
            n[w] = c.n;
    }
    read_side_by_side(sh, q, &list, seen);
    column_done(&c);
    querier_close(q);
    arena_free(a);
    return rows;
}

static void read_rows(void *arg)
{
    struct shared *sh = arg;

    while (!atomic_load(&sh->done) && !atomic_load(&sh->failed)) {
        struct arena *a = arena_new(0);
        struct storage_cardinality card;
        struct storage_stats st;
        (void)read_all(sh);
        storage_get_stats(sh->s, &st);
        CHECK(sh, storage_get_cardinality(sh->s, 10, a, &card, NULL) == NX_OK);
        arena_free(a);
    }
}

static void tick(void *arg)
{
    struct shared *sh = arg;
    int64_t now_ms = T0;

    while (!atomic_load(&sh->done)) {
        storage_tick(sh->s, now_ms += 20000);
        clock_sleep_until_mono_ns(clock_mono_ns() + 3000000);
    }
}

static void writers_readers_and_the_worker_do_not_disturb_each_other(void **state)
{
    struct shared sh = {0};
    struct writer w[WRITERS];
    struct nx_thread writers[WRITERS], readers[READERS], worker;
    struct test_tmpdir dir;
    struct nx_err err;
    struct storage_stats st;

    (void)state;
    test_tmpdir_new(&dir);
    struct storage_opts o = {.fs = fs_real(),
                             .dir = dir.path,
                             .min_block_ms = BLOCK_MS,
                             .wal_segment_bytes = 20000,
                             .no_worker = true};
    assert_ok(storage_open(&sh.s, &o, &err), &err);
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){&sh, i};
        assert_ok(nx_thread_start(&writers[i], "writer", write_rows, &w[i], &err), &err);
    }
    for (int i = 0; i < READERS; i++)
        assert_ok(nx_thread_start(&readers[i], "reader", read_rows, &sh, &err), &err);
    assert_ok(nx_thread_start(&worker, "worker", tick, &sh, &err), &err);
    for (int i = 0; i < WRITERS; i++)
        nx_thread_join(&writers[i]);
    atomic_store(&sh.done, true);
    for (int i = 0; i < READERS; i++)
        nx_thread_join(&readers[i]);
    nx_thread_join(&worker);
    if (atomic_load(&sh.failed))
        fail_msg("the check in line %d failed", atomic_load(&sh.failed));
    storage_tick(sh.s, T0);
    storage_get_stats(sh.s, &st);
    assert_true(st.compactions > 5 && st.blocks > 1);
    /* 3 writers x 18 columns of their own, and the one they share. */
    assert_int_equal(read_all(&sh), (WRITERS * (COLUMNS - 2) + 1) * ROWS);
    storage_close(sh.s);
    assert_ok(storage_open(&sh.s, &o, &err), &err);
    assert_int_equal(read_all(&sh), (WRITERS * (COLUMNS - 2) + 1) * ROWS);
    assert_int_equal(atomic_load(&sh.failed), 0);
    storage_close(sh.s);
    test_tmpdir_done(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writers_readers_and_the_worker_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
