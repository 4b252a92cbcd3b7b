/* test_model.c - a random workload against a model so simple that it must be right.
 *
 * The model is an array of samples per series. Groups open and close, columns come and go, rows are old,
 * double, partial and strange; the store is ticked, read while blocks are written, closed and opened
 * again. After each stretch every series is read over a random range and compared.
 *
 *   NX_SEED=n storage_test_model     runs that seed alone; each run prints its seed */
#include "tests/support/test.h"

#include "src/base/log.h"
#include "src/base/num.h"
#include "storage/storage.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define SERIES      30
#define GROUPS      4
#define MAX_SAMPLES 6000
#define T0          1700000000000LL

struct model_series {
    int64_t t[MAX_SAMPLES];
    double v[MAX_SAMPLES];
    size_t n;
};

struct writer {
    struct storage_group *g;
    uint32_t cols[SERIES];
    bool has[SERIES];
};

struct world {
    struct test_random rnd;
    struct simfs *sim;
    struct storage *s;
    struct writer w[GROUPS];
    struct model_series *series;
    int64_t now_ms, max_ms, floor_ms, block_ms;
    uint64_t together; /* reads that a batch answered */
    struct nx_err err;
};

static uint64_t below(struct world *w, uint64_t n)
{
    return test_random_below(&w->rnd, n);
}

static void open_store(struct world *w)
{
    struct storage_opts o = {.fs = simfs_fs(w->sim),
                             .dir = "data",
                             .min_block_ms = w->block_ms,
                             .wal_segment_bytes = 4000,
                             .no_worker = true};

    assert_ok(storage_open(&w->s, &o, &w->err), &w->err);
    for (int i = 0; i < GROUPS; i++) {
        memset(&w->w[i], 0, sizeof w->w[i]);
        assert_ok(storage_group_open(w->s, &w->w[i].g, &w->err), &w->err);
    }
}

static void close_store(struct world *w)
{
    for (int i = 0; i < GROUPS; i++)
        storage_group_close(w->w[i].g);
    storage_close(w->s);
}

static void series_labels(struct label v[2], char text[16], int i)
{
    snprintf(text, 16, "s%02d", i);
    v[0] = (struct label){STR(LABEL_NAME), STR("m")};
    v[1] = (struct label){STR("id"), STR(text)};
}

static int number_of(const struct labels *ls)
{
    const char *id = labels_get_str(ls, "id").ptr;

    return (id[1] - '0') * 10 + id[2] - '0';
}

static double strange_value(struct world *w, int i)
{
    static const uint64_t bits[] = {NUM_STALE_BITS,      NUM_NAN_BITS,        0x8000000000000000u,
                                    0x7ff0000000000000u, 0xfff0000000000000u, 1,
                                    0x7fefffffffffffffu, 0x433fffffffffffffu, 0x4340000000000001u,
                                    0xc33fffffffffffffu};

    switch (below(w, 12)) {
    case 0:
        return num_from_bits(bits[below(w, NX_COUNT(bits))]);
    case 1:
        return num_from_bits(test_random(&w->rnd) & ~(1ull << 62));
    case 2:
        return (double)(int64_t)below(w, 1u << 30) / 1000;
    case 3:
    case 4:
        return (double)below(w, 1000) / 4;
    case 5:
        return (double)w->now_ms / 1e3;
    default:
        return i;
    }
}

static bool expect(struct world *w, int i, int64_t t, double v, struct storage_appended *want)
{
    struct model_series *m = &w->series[i];
    int64_t last = m->n ? m->t[m->n - 1] : INT64_MIN;

    if (t < last) {
        want->out_of_order++;
    } else if (t == last && num_bits(v) != num_bits(m->v[m->n - 1])) {
        want->duplicate++;
    } else {
        want->appended++;
        return t > last;
    }
    return false;
}

static void add_some_columns(struct world *w, struct writer *g)
{
    for (uint64_t k = below(w, 6); k > 0; k--) {
        int i = (int)below(w, SERIES);
        char text[16];
        struct label v[2];
        struct labels ls = {v, 2};
        if (g->has[i])
            continue;
        series_labels(v, text, i);
        assert_ok(storage_group_column(g->g, &ls, &g->cols[i], NULL, &w->err), &w->err);
        g->has[i] = true;
    }
}

static void drop_some_columns(struct world *w, struct writer *g)
{
    for (uint64_t k = below(w, 3); k > 0; k--) {
        int i = (int)below(w, SERIES);
        if (g->has[i])
            storage_group_release(g->g, g->cols[i]);
        g->has[i] = false;
    }
}

static void append_row(struct world *w, struct writer *g)
{
    int64_t t = w->now_ms, half = w->block_ms / 2, low;
    uint32_t cols[SERIES];
    double v[SERIES];
    bool take[SERIES] = {false};
    int which[SERIES];
    struct storage_appended got, want = {0};
    size_t n = 0;
    uint64_t skip = below(w, 4);

    if (below(w, 10) == 0)
        t -= (int64_t)below(w, (uint64_t)w->block_ms);
    low = w->max_ms - half > w->floor_ms ? w->max_ms - half : w->floor_ms;
    for (int i = 0; i < SERIES; i++) {
        if (!g->has[i] || (skip && below(w, 8) < skip))
            continue;
        cols[n] = g->cols[i];
        v[n] = strange_value(w, i);
        which[n++] = i;
    }
    for (size_t k = 0; k < n; k++) {
        if (t < low)
            want.out_of_bounds++;
        else
            take[k] = expect(w, which[k], t, v[k], &want);
    }
    assert_ok(storage_group_append(g->g, t, cols, v, n, &got, &w->err), &w->err);
    assert_int_equal(got.appended, want.appended);
    assert_int_equal(got.duplicate, want.duplicate);
    assert_int_equal(got.out_of_order, want.out_of_order);
    assert_int_equal(got.out_of_bounds, want.out_of_bounds);
    for (size_t k = 0; k < n; k++) {
        struct model_series *m = &w->series[which[k]];
        if (!take[k] || m->n == MAX_SAMPLES)
            continue;
        m->t[m->n] = t;
        m->v[m->n++] = v[k];
        w->max_ms = t > w->max_ms ? t : w->max_ms;
    }
}

static void check_series(struct world *w, struct querier *q, const struct series *s, int64_t mint,
                         int64_t maxt, struct column *c)
{
    int i = number_of(&s->labels);
    const struct model_series *m = &w->series[i];
    size_t at = 0;

    assert_ok(q->ops->read(q, s, mint, maxt, c, &w->err), &w->err);
    for (size_t k = 0; k < m->n; k++) {
        if (m->t[k] < mint || m->t[k] > maxt)
            continue;
        if (at >= c->n || c->t[at] != m->t[k] || num_bits(c->v[at]) != num_bits(m->v[k]))
            fail_msg("series %d: sample %zu at %" PRId64 " is wrong or missing", i, k,
                     m->t[k] - T0);
        at++;
    }
    if (at != c->n)
        fail_msg("series %d: %zu samples too many, the first at %" PRId64, i, c->n - at,
                 c->t[at] - T0);
}

/* Who asks for the newest value alone may get more, but the newest is the last. */
static void check_newest(struct world *w, struct querier *q, const struct series *s, int64_t mint,
                         int64_t maxt, struct arena_share *share)
{
    const struct read_hint newest = {.use = READ_VALUE, .first_ms = maxt};
    const struct model_series *m = &w->series[number_of(&s->labels)];
    struct column c = {.share = share};
    size_t k = m->n;

    assert_ok(q->ops->read_for(q, s, &newest, mint, maxt, &c, &w->err), &w->err);
    w->together += !c.own;
    while (k > 0 && m->t[k - 1] > maxt)
        k--;
    if (k == 0 || m->t[k - 1] < mint)
        assert_int_equal(c.n, 0);
    else if (!c.n || c.t[c.n - 1] != m->t[k - 1] || num_bits(c.v[c.n - 1]) != num_bits(m->v[k - 1]))
        fail_msg("series %d: the newest sample is another", number_of(&s->labels));
    column_done(&c);
}

static bool model_has(const struct model_series *m, int64_t mint, int64_t maxt)
{
    for (size_t k = 0; k < m->n; k++) {
        if (m->t[k] >= mint && m->t[k] <= maxt)
            return true;
    }
    return false;
}

static void check_all(struct world *w)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct arena_share share = {0};
    struct column c = {.share = &share};
    struct querier *q;
    int64_t mint = INT64_MIN, maxt = INT64_MAX;
    bool seen[SERIES] = {false};

    if (below(w, 3)) {
        mint = T0 + (int64_t)below(w, (uint64_t)(w->now_ms - T0 + 1));
        maxt = mint + (int64_t)below(w, (uint64_t)(w->now_ms - mint + 1));
    }
    if (below(w, 3) == 0) { /* as rules ask */
        mint = w->now_ms - (int64_t)below(w, 5000);
        maxt = w->now_ms;
    }
    assert_ok(storage_querier(w->s, mint, maxt, &q, &w->err), &w->err);
    assert_ok(q->ops->select(q, &m, 1, mint, maxt, a, &list, &w->err), &w->err);
    for (size_t k = 0; k < list.n; k++) {
        check_series(w, q, &list.v[k], mint, maxt, &c);
        check_newest(w, q, &list.v[k], mint, maxt, &share);
        seen[number_of(&list.v[k].labels)] = true;
        assert_true(k == 0 || labels_cmp(&list.v[k - 1].labels, &list.v[k].labels) < 0);
    }
    for (int i = 0; i < SERIES; i++) {
        if (!seen[i] && model_has(&w->series[i], mint, maxt))
            fail_msg("series %d is missing", i);
    }
    column_done(&c);
    querier_close(q);
    assert_int_equal(share.bytes, 0);
    arena_free(a);
}

/* A flush raises the floor to the end of its span: the model learns it from the newest time. */
static void tick(struct world *w)
{
    struct storage_stats st;

    storage_tick(w->s, w->now_ms);
    storage_get_stats(w->s, &st);
    if (st.blocks && w->max_ms > INT64_MIN) {
        int64_t done = (w->max_ms - w->block_ms / 2) / w->block_ms * w->block_ms;
        w->floor_ms = done > w->floor_ms && st.head_min_ms >= done ? done : w->floor_ms;
    }
}

static uint64_t one_seed(uint64_t seed)
{
    struct world w = {
        .rnd = {seed}, .now_ms = T0, .max_ms = INT64_MIN + 1000000000, .floor_ms = INT64_MIN};

    w.sim = simfs_new(seed);
    w.series = calloc(SERIES, sizeof *w.series);
    w.block_ms = 5000 + (int64_t)below(&w, 60000);
    open_store(&w);
    for (int step = 0; step < 2000; step++) {
        struct writer *g = &w.w[below(&w, GROUPS)];
        w.now_ms += (int64_t)below(&w, 300);
        switch (below(&w, 40)) {
        case 0:
            add_some_columns(&w, g);
            break;
        case 1:
            drop_some_columns(&w, g);
            break;
        case 2:
            tick(&w);
            break;
        case 3:
            check_all(&w);
            break;
        case 4:
            if (below(&w, 4))
                break;
            storage_group_close(g->g);
            memset(g, 0, sizeof *g);
            assert_ok(storage_group_open(w.s, &g->g, &w.err), &w.err);
            break;
        case 5:
            if (below(&w, 6))
                break;
            close_store(&w);
            simfs_restart(w.sim);
            open_store(&w);
            break;
        case 6:
            w.now_ms += (int64_t)below(&w, (uint64_t)w.block_ms);
            break;
        default:
            append_row(&w, g);
        }
    }
    check_all(&w);
    close_store(&w);
    simfs_restart(w.sim);
    open_store(&w);
    check_all(&w);
    close_store(&w);
    simfs_free(w.sim);
    free(w.series);
    return w.together;
}

static void the_store_agrees_with_the_model(void **state)
{
    const char *own = getenv("NX_SEED");
    uint64_t from = own ? strtoull(own, NULL, 10) : 1, n = own ? 1 : 60, together = 0;

    (void)state;
    quiet_log();
    for (uint64_t seed = from; seed < from + n; seed++) {
        print_message("seed %" PRIu64 "\n", seed);
        together += one_seed(seed);
    }
    assert_true(own || together > 1000);
    log_capture(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_store_agrees_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
