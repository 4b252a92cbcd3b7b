/* test_loose_threads.c - batches, late rows, readers and the worker at the same time. Meant for
 * ThreadSanitizer; the checks hold in any build: a reader sees an append whole, in order, and never loses
 * what was acknowledged. */
#include "tests/support/test.h"

#include <stdatomic.h>

#include "src/base/clock.h"
#include "src/base/thread.h"
#include "storage/storage.h"

#define WRITERS  2 /* the first one's group takes rows, the other's is loose */
#define READERS  2
#define COLUMNS  10
#define ROWS     1200
#define LATE     150 /* rows: more than a block later */
#define BLOCK_MS 60000
#define T0       1700000000000LL
#define STEP_MS  500

struct shared {
    struct storage *s;
    atomic_int appended[WRITERS]; /* samples a series */
    atomic_int at[WRITERS];
    atomic_bool done;
    atomic_int failed; /* 0, or the line of the first failed check */
};

struct writer {
    struct shared *sh;
    int number;
    struct storage_group *g;
    uint32_t cols[COLUMNS];
};

#define CHECK(sh, what)                                                                            \
    do {                                                                                           \
        int none_ = 0;                                                                             \
        if (!(what))                                                                               \
            atomic_compare_exchange_strong(&(sh)->failed, &none_, __LINE__);                       \
    } while (0)

static void open_group(struct writer *w)
{
    nx_status st = w->number ? storage_group_open_loose(w->sh->s, &w->g, NULL)
                             : storage_group_open(w->sh->s, &w->g, NULL);

    CHECK(w->sh, st == NX_OK);
    for (int i = 0; i < COLUMNS; i++) {
        char by[16], c[16];
        struct label v[] = {{STR(LABEL_NAME), STR("m")}, {STR("c"), {0}}, {STR("w"), {0}}};
        snprintf(by, sizeof by, "%d", w->number);
        snprintf(c, sizeof c, "%d", i);
        v[1].value = STR(c);
        v[2].value = STR(by);
        CHECK(w->sh, storage_group_column(w->g, &(struct labels){v, NX_COUNT(v)}, &w->cols[i], NULL,
                                          NULL) == NX_OK);
    }
}

/* One sample of each series: visible together. */
static void append(struct writer *w, int row)
{
    struct storage_sample x[COLUMNS];
    double v[COLUMNS];
    struct storage_appended res = {0};
    nx_status st;

    for (int i = 0; i < COLUMNS; i++) {
        v[i] = row;
        x[i] = (struct storage_sample){w->cols[i], T0 + row * STEP_MS, row};
    }
    if (w->number)
        st = storage_group_append_samples(w->g, x, COLUMNS, &res, NULL);
    else
        st = storage_group_append(w->g, T0 + row * STEP_MS, w->cols, v, COLUMNS, &res, NULL);
    CHECK(w->sh, st == NX_OK && res.appended == COLUMNS);
    atomic_fetch_add(&w->sh->appended[w->number], 1);
}

/* Each third row comes late; now and then the group is another. */
static void write_rows(void *arg)
{
    struct writer *w = arg;
    struct shared *sh = w->sh;

    open_group(w);
    for (int row = 0; row < ROWS + LATE; row++) {
        if (row < ROWS && row % 3)
            append(w, row);
        if (row >= LATE && (row - LATE) % 3 == 0)
            append(w, row - LATE);
        if (row % 300 == 299) {
            storage_group_close(w->g);
            open_group(w);
        }
        atomic_store(&sh->at[w->number], row);
        for (int k = 0; k < WRITERS; k++) { /* within half a block of each other */
            while (!atomic_load(&sh->failed) && atomic_load(&sh->at[k]) + 40 < row)
                clock_sleep_until_mono_ns(clock_mono_ns() + 100000);
        }
    }
    storage_group_close(w->g);
}

static int read_all(struct shared *sh)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
    struct arena *a = arena_new(0);
    struct series_list list = {0};
    struct column c = {0};
    struct querier *q = NULL;
    int before[WRITERS], n[WRITERS] = {-1, -1}, all = 0;

    for (int i = 0; i < WRITERS; i++)
        before[i] = atomic_load(&sh->appended[i]);
    CHECK(sh, storage_querier(sh->s, INT64_MIN, INT64_MAX, &q, NULL) == NX_OK);
    CHECK(sh, q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, NULL) == NX_OK);
    for (size_t i = 0; i < list.n; i++) {
        int w = labels_get_str(&list.v[i].labels, "w").ptr[0] - '0';
        CHECK(sh, q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &c, NULL) == NX_OK);
        for (size_t j = 0; j < c.n; j++) {
            CHECK(sh, j == 0 || c.t[j] > c.t[j - 1]);
            CHECK(sh, c.t[j] == T0 + (int64_t)c.v[j] * STEP_MS);
        }
        CHECK(sh, (int)c.n >= before[w]);
        CHECK(sh, n[w] == -1 || n[w] == (int)c.n);
        n[w] = (int)c.n;
        all += (int)c.n;
    }
    column_done(&c);
    querier_close(q);
    arena_free(a);
    return all;
}

static void read_rows(void *arg)
{
    struct shared *sh = arg;

    while (!atomic_load(&sh->done) && !atomic_load(&sh->failed)) {
        struct storage_stats st;
        (void)read_all(sh);
        storage_get_stats(sh->s, &st);
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

static void batches_late_rows_readers_and_the_worker_do_not_disturb_each_other(void **state)
{
    struct shared sh = {0};
    struct writer w[WRITERS];
    struct nx_thread writers[WRITERS], readers[READERS], worker;
    struct test_tmpdir dir;
    struct storage_stats st;
    struct nx_err err;

    (void)state;
    test_tmpdir_new(&dir);
    struct storage_opts o = {.fs = fs_real(),
                             .dir = dir.path,
                             .min_block_ms = BLOCK_MS,
                             .out_of_order_window_ms = 10 * BLOCK_MS,
                             .wal_segment_bytes = 20000,
                             .no_worker = true};
    assert_ok(storage_open(&sh.s, &o, &err), &err);
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.sh = &sh, .number = i};
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
    assert_int_equal(st.out_of_order_appended, WRITERS * COLUMNS * (ROWS / 3));
    assert_true(st.compactions > 5);
    assert_int_equal(read_all(&sh), WRITERS * COLUMNS * ROWS);
    storage_close(sh.s);
    assert_ok(storage_open(&sh.s, &o, &err), &err);
    assert_int_equal(read_all(&sh), WRITERS * COLUMNS * ROWS);
    assert_int_equal(atomic_load(&sh.failed), 0);
    storage_close(sh.s);
    test_tmpdir_done(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_late_rows_readers_and_the_worker_do_not_disturb_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
