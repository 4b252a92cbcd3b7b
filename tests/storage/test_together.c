/* test_together.c - series of a selection that is asked again are read together (storage/head_batch.c), by any
 * number of threads at a time, and give what they give one by one. The random workload of test_model.c is about what
 * they give. */
#include "tests/support/test.h"

#include <stdatomic.h>

#include "src/base/limits.h"
#include "src/base/num.h"
#include "src/base/thread.h"
#include "storage/selections.h"
#include "storage/storage.h"
#include "tests/support/simfs.h"

#define GROUPS  5
#define COLUMNS 40
#define ROWS    30
#define THREADS 4
#define T0      1700000000000LL
#define STEP    15000

static double value_of(int group, int col, int row)
{
    return group * 1e6 + col * 1e3 + row + (col % 3 == 0 ? 0.25 : 0);
}

struct world {
    struct simfs *sim;
    struct storage *s;
    struct storage_group *g[GROUPS];
    uint32_t cols[GROUPS][COLUMNS];
    struct nx_err err;
};

static void add_column(struct world *w, int group, int col)
{
    char g[16], c[16];
    struct label v[] = {{STR(LABEL_NAME), STR("m")}, {STR("c"), {0}}, {STR("g"), {0}}};
    struct labels ls = {v, NX_COUNT(v)};

    snprintf(g, sizeof g, "%d", group);
    snprintf(c, sizeof c, "%02d", col);
    v[1].value = STR(c);
    v[2].value = STR(g);
    assert_ok(storage_group_column(w->g[group], &ls, &w->cols[group][col], NULL, &w->err), &w->err);
}

static void append_rows(struct world *w, int from, int to)
{
    double v[COLUMNS];

    for (int row = from; row < to; row++)
        for (int g = 0; g < GROUPS; g++) {
            for (int c = 0; c < COLUMNS; c++)
                v[c] = value_of(g, c, row);
            assert_ok(storage_group_append(w->g[g], T0 + (int64_t)row * STEP + g, w->cols[g], v,
                                           COLUMNS, NULL, &w->err),
                      &w->err);
        }
}

static void open_world(struct world *w)
{
    *w = (struct world){.sim = simfs_new(1)};
    struct storage_opts o = {.fs = simfs_fs(w->sim), .dir = "data", .no_worker = true};

    assert_ok(storage_open(&w->s, &o, &w->err), &w->err);
    for (int g = 0; g < GROUPS; g++) {
        assert_ok(storage_group_open(w->s, &w->g[g], &w->err), &w->err);
        for (int c = 0; c < COLUMNS; c++)
            add_column(w, g, c);
    }
    append_rows(w, 0, ROWS);
}

static void close_world(struct world *w)
{
    for (int g = 0; g < GROUPS; g++)
        storage_group_close(w->g[g]);
    storage_close(w->s);
    simfs_free(w->sim);
}

static const struct matcher all_of_m = {
    .type = MATCH_EQ, .name = {LABEL_NAME, sizeof LABEL_NAME - 1}, .value = {"m", 1}};

/* From the second time on the selection is kept. */
static struct series_list select_again(struct world *w, struct querier *q, struct arena *a,
                                       int64_t mint, int64_t maxt)
{
    struct series_list list = {0};

    for (int i = 0; i < 3; i++)
        assert_ok(q->ops->select(q, &all_of_m, 1, mint, maxt, a, &list, &w->err), &w->err);
    return list;
}

struct reading {
    struct querier *q;
    struct series_list list;
    int64_t mint, maxt;
    struct arena_share share;
    atomic_int wrong, together;
};

static void look_at(struct reading *r, const struct series *s, const struct column *c, bool newest)
{
    int g = labels_get_str(&s->labels, "g").ptr[0] - '0';
    const char *col = labels_get_str(&s->labels, "c").ptr;
    int first = (int)((r->mint - T0 - g + STEP - 1) / STEP),
        last = (int)((r->maxt - T0 - g) / STEP);
    size_t n = (size_t)(last - first + 1);

    last = last < ROWS ? last : ROWS - 1;
    n = (size_t)(last - first + 1);
    if (c->n == 0 || (!newest && c->n != n)) {
        atomic_fetch_add(&r->wrong, 1);
        return;
    }
    for (size_t k = 0; k < (newest ? 1 : n); k++) {
        int row = last - (int)k;
        double want = value_of(g, (col[0] - '0') * 10 + col[1] - '0', row);
        if (c->t[c->n - 1 - k] != T0 + (int64_t)row * STEP + g || c->v[c->n - 1 - k] != want)
            atomic_fetch_add(&r->wrong, 1);
    }
}

static void read_all(void *arg)
{
    struct reading *r = arg;
    struct read_hint newest = {.use = READ_VALUE, .first_ms = r->maxt};
    struct column c = {.share = &r->share};

    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < r->list.n; i++) {
            nx_status st = r->q->ops->read_for(r->q, &r->list.v[i], pass ? &newest : NULL, r->mint,
                                               r->maxt, &c, NULL);
            if (st)
                atomic_fetch_add(&r->wrong, 1);
            else
                look_at(r, &r->list.v[i], &c, pass);
            atomic_fetch_add(&r->together, !c.own);
        }
    column_done(&c);
}

static void threads_read_one_selection_side_by_side(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    for (int round = 0; round < 10; round++) {
        struct arena *a = arena_new(0);
        struct nx_thread threads[THREADS] = {0};
        struct reading r = {.mint = T0 + (round + 1) * STEP,
                            .maxt = T0 + (ROWS + 2 - round) * STEP};
        assert_ok(storage_querier(w.s, r.mint, r.maxt, &r.q, &w.err), &w.err);
        r.list = select_again(&w, r.q, a, r.mint, r.maxt);
        assert_int_equal(r.list.n, GROUPS * COLUMNS);
        for (int i = 0; i < THREADS; i++)
            assert_ok(nx_thread_start(&threads[i], "reader", read_all, &r, &w.err), &w.err);
        for (int i = 0; i < THREADS; i++)
            nx_thread_join(&threads[i]);
        assert_int_equal(r.wrong, 0);
        assert_true(r.together > 0);
        querier_close(r.q);
        assert_int_equal(r.share.bytes, 0);
        arena_free(a);
    }
    close_world(&w);
}

/* What came after the querier was made is not seen, be it in the rows that a batch copies. */
static void a_batch_sees_what_its_querier_sees(void **state)
{
    struct world w;
    struct arena *a = arena_new(0);
    struct reading r = {.mint = T0 + 5 * STEP, .maxt = T0 + (ROWS + 50) * STEP};

    (void)state;
    open_world(&w);
    assert_ok(storage_querier(w.s, r.mint, r.maxt, &r.q, &w.err), &w.err);
    r.list = select_again(&w, r.q, a, r.mint, r.maxt);
    append_rows(&w, ROWS, ROWS + 3); /* some of them are sealed with older rows */
    read_all(&r);
    assert_int_equal(r.wrong, 0);
    assert_true(r.together >= (int)r.list.n); /* the newest may be in a seal by now */
    querier_close(r.q);
    arena_free(a);
    close_world(&w);
}

/* The list that is kept has new series, and none that are gone. */
static void a_selection_that_is_kept_stays_true(void **state)
{
    struct world w;
    struct arena *a = arena_new(0);
    struct querier *q;
    struct series_list list;
    struct label v[] = {{STR(LABEL_NAME), STR("m")}, {STR("c"), STR("new")}, {STR("g"), STR("9")}};
    struct labels ls = {v, NX_COUNT(v)};
    uint32_t col;
    double one = 1;

    (void)state;
    open_world(&w);
    assert_ok(storage_querier(w.s, T0, T0 + ROWS * STEP, &q, &w.err), &w.err);
    list = select_again(&w, q, a, T0, T0 + ROWS * STEP);
    assert_int_equal(list.n, GROUPS * COLUMNS);
    querier_close(q);
    assert_ok(storage_group_column(w.g[0], &ls, &col, NULL, &w.err), &w.err);
    assert_ok(storage_group_append(w.g[0], T0 + ROWS * STEP, &col, &one, 1, NULL, &w.err), &w.err);
    assert_ok(storage_querier(w.s, T0, T0 + ROWS * STEP, &q, &w.err), &w.err);
    for (int i = 0; i < 3; i++) {
        assert_ok(q->ops->select(q, &all_of_m, 1, T0, T0 + ROWS * STEP, a, &list, &w.err), &w.err);
        assert_int_equal(list.n, GROUPS * COLUMNS + 1);
    }
    querier_close(q);
    assert_ok(storage_querier(w.s, T0, T0 + 2 * STEP, &q, &w.err), &w.err);
    assert_ok(q->ops->select(q, &all_of_m, 1, T0, T0 + 2 * STEP, a, &list, &w.err), &w.err);
    assert_int_equal(list.n, GROUPS * COLUMNS); /* it has no samples there */
    querier_close(q);
    arena_free(a);
    close_world(&w);
}

/* Who does not count what reads keep may drop a list and have another one in its place: what is read is of the one
 * that is there. */
static void lists_may_go_before_their_querier(void **state)
{
    struct matcher m[2] = {{.type = MATCH_EQ, .name = STR("g"), .value = STR("3")},
                           {.type = MATCH_EQ, .name = STR("c"), .value = STR("07")}};
    struct world w;
    struct arena *a = arena_new(0);
    struct reading r = {.mint = T0 + STEP, .maxt = T0 + (ROWS + 2) * STEP};
    struct column c = {0};

    (void)state;
    open_world(&w);
    assert_ok(storage_querier(w.s, r.mint, r.maxt, &r.q, &w.err), &w.err);
    for (int round = 0; round < 4; round++)
        for (size_t n = 1; n <= 2; n++) { /* all of a group; one of them */
            arena_reset(a);
            assert_ok(r.q->ops->select(r.q, m, n, r.mint, r.maxt, a, &r.list, &w.err), &w.err);
            assert_int_equal(r.list.n, n == 1 ? COLUMNS : 1);
            for (size_t i = 0; i < r.list.n; i++) {
                assert_ok(r.q->ops->read(r.q, &r.list.v[i], r.mint, r.maxt, &c, &w.err), &w.err);
                look_at(&r, &r.list.v[i], &c, false);
            }
        }
    assert_int_equal(r.wrong, 0);
    column_done(&c);
    querier_close(r.q);
    arena_free(a);
    close_world(&w);
}

/* A column that is another series's now: the row before is not of that one, sealed or not. */
static void a_series_has_nothing_of_who_had_its_column(void **state)
{
    struct label v[] = {{STR(LABEL_NAME), STR("m")}, {STR("c"), STR("new")}, {STR("g"), STR("0")}};
    struct labels ls = {v, NX_COUNT(v)};
    bool again = false;

    (void)state;
    for (int rows = ROWS; rows < ROWS + 8; rows++) {
        const int64_t now = T0 + (rows - 1) * STEP;
        struct arena *a = arena_new(0);
        struct series_list list;
        struct querier *q;
        struct world w;
        uint32_t col;

        open_world(&w);
        append_rows(&w, ROWS, rows);
        storage_group_release(w.g[0], w.cols[0][0]);
        assert_ok(storage_group_column(w.g[0], &ls, &col, NULL, &w.err), &w.err);
        again = again || col == w.cols[0][0]; /* the rows before are sealed */
        assert_ok(storage_querier(w.s, T0, now + GROUPS, &q, &w.err), &w.err);
        list = select_again(&w, q, a, now, now + GROUPS);
        assert_int_equal(list.n, GROUPS * COLUMNS);
        for (size_t i = 0; i < list.n; i++)
            assert_false(nx_slice_is(labels_get_str(&list.v[i].labels, "c"), "new"));
        querier_close(q);
        arena_free(a);
        close_world(&w);
    }
    assert_true(again);
}

/* Selectors that match nothing take memory, too. */
static void selectors_of_nothing_are_bounded(void **state)
{
    struct index *ix = index_new();
    struct selections *x = selections_new();
    struct matcher m = {.type = MATCH_EQ, .name = STR("pod")};
    unsigned kept = 0;
    bool ask;

    (void)state;
    assert_true(ix && x);
    for (unsigned i = 0; i < NX_SELECTIONS_SERIES / 16; i++) {
        char value[16];
        snprintf(value, sizeof value, "%u", i);
        m.value = STR(value);
        selection_unref(selections_tell_locked(x, ix, &m, 1, (struct ids){NULL, 0}));
    }
    for (unsigned i = 0; i < NX_SELECTIONS_SERIES / 16; i++) {
        char value[16];
        snprintf(value, sizeof value, "%u", i);
        m.value = STR(value);
        const struct selection *s = selections_find_locked(x, ix, &m, 1, &ask);
        assert_true(kept == 0 || s); /* the newest are left */
        kept += s != NULL;
        selection_unref(s);
    }
    assert_in_range(kept, 1000, NX_SELECTIONS_SERIES / 16 - 1); /* each takes more than 128 bytes */
    selections_free(x);
    index_free(ix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_read_one_selection_side_by_side),
        cmocka_unit_test(a_batch_sees_what_its_querier_sees),
        cmocka_unit_test(a_selection_that_is_kept_stays_true),
        cmocka_unit_test(lists_may_go_before_their_querier),
        cmocka_unit_test(a_series_has_nothing_of_who_had_its_column),
        cmocka_unit_test(selectors_of_nothing_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
