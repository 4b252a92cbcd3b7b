/* test_loose_model.c - late samples and samples with times of their own against a model so simple that it
 * must be right.
 *
 * The model is a sorted array of samples per series, in which the first one of a time stays, and the newest
 * time in order of each series. Groups that take rows and loose groups open and close and take series
 * from each other; samples are new, late, too late, double; the window changes; the store is ticked, so
 * that blocks are written and merged, closed and opened again. A querier is held open over some of that
 * and must see what was there when it was made.
 *
 *   NX_SEED=n storage_test_loose_model     runs that seed alone; a failure names its seed */
#include "tests/support/test.h"

#include "src/base/log.h"
#include "src/base/num.h"
#include "storage/storage.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

#define SERIES      12
#define GROUPS      4 /* the first half take rows */
#define MAX_SAMPLES 6000
#define MAX_BATCH   64
#define T0          1700000000000LL

struct model_series {
    int64_t t[MAX_SAMPLES];
    double v[MAX_SAMPLES];
    size_t n;
    int64_t newest_ms;
    double newest;
};

struct writer {
    struct storage_group *g;
    uint32_t cols[SERIES];
    bool has[SERIES];
};

struct world {
    uint64_t seed;
    struct test_random rnd;
    struct simfs *sim;
    struct storage *s;
    struct writer w[GROUPS];
    struct model_series *series;
    struct querier *held;
    struct model_series *then; /* as `held` must see them */
    bool sharing;              /* groups may have the same series at the same time */
    int64_t now_ms, max_ms, floor_ms, block_ms, window_ms;
    uint64_t refused, late, checked;
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
                             .out_of_order_window_ms = w->window_ms,
                             .wal_segment_bytes = 4000,
                             .no_worker = true};

    assert_ok(storage_open(&w->s, &o, &w->err), &w->err);
    for (int i = 0; i < GROUPS; i++) {
        memset(&w->w[i], 0, sizeof w->w[i]);
        if (i < GROUPS / 2)
            assert_ok(storage_group_open(w->s, &w->w[i].g, &w->err), &w->err);
        else
            assert_ok(storage_group_open_loose(w->s, &w->w[i].g, &w->err), &w->err);
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

/* ---- the model ------------------------------------------------------------------------------- */

static void insert(struct model_series *m, int64_t t, double v)
{
    size_t at = m->n;

    while (at > 0 && m->t[at - 1] > t)
        at--;
    if (at > 0 && m->t[at - 1] == t)
        return; /* the first one stays */
    assert_true(m->n < MAX_SAMPLES);
    memmove(m->t + at + 1, m->t + at, (m->n - at) * sizeof m->t[0]);
    memmove(m->v + at + 1, m->v + at, (m->n - at) * sizeof m->v[0]);
    m->t[at] = t;
    m->v[at] = v;
    m->n++;
}

/* max_ms: the head's newest as the append began. STO-001 to STO-007. */
static void expect(struct world *w, int i, int64_t t, double v, int64_t max_ms,
                   struct storage_appended *want)
{
    struct model_series *m = &w->series[i];
    int64_t half = w->block_ms / 2, low = max_ms - half > w->floor_ms ? max_ms - half : w->floor_ms;

    if (t >= low && t > m->newest_ms) {
        insert(m, t, v);
        m->newest_ms = t;
        m->newest = v;
        w->max_ms = t > w->max_ms ? t : w->max_ms;
        want->appended++;
    } else if (t >= low && t == m->newest_ms) {
        if (num_bits(v) == num_bits(m->newest))
            want->appended++;
        else
            want->duplicate++;
    } else if (w->window_ms && t >= max_ms - w->window_ms) {
        insert(m, t, v);
        want->appended++;
        w->late++;
    } else if (w->window_ms) {
        want->too_old++;
    } else if (t < low) {
        want->out_of_bounds++;
    } else {
        want->out_of_order++;
    }
}

static void compare(struct world *w, const struct storage_appended *got,
                    const struct storage_appended *want)
{
    if (memcmp(got, want, sizeof *got) != 0)
        fail_msg("seed %" PRIu64 ": got %u %u %u %u %u, want %u %u %u %u %u", w->seed,
                 got->appended, got->duplicate, got->out_of_order, got->out_of_bounds, got->too_old,
                 want->appended, want->duplicate, want->out_of_order, want->out_of_bounds,
                 want->too_old);
    w->refused += want->too_old + want->out_of_bounds + want->out_of_order;
}

/* ---- writing --------------------------------------------------------------------------------- */

static bool taken(const struct world *w, const struct writer *by, int i)
{
    for (int k = 0; k < GROUPS; k++) {
        if (&w->w[k] != by && w->w[k].has[i])
            return true;
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
        if (g->has[i] || (!w->sharing && taken(w, g, i)))
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

/* New, mostly; late by any measure, else. */
static int64_t some_time(struct world *w)
{
    switch (below(w, 8)) {
    case 0:
        return w->now_ms - (int64_t)below(w, (uint64_t)w->block_ms * 4);
    case 1:
        return w->now_ms - (int64_t)below(w, (uint64_t)w->block_ms / 2);
    case 2: /* often the same */
        return (w->now_ms - (int64_t)below(w, (uint64_t)w->block_ms * 2)) / 1000 * 1000;
    default:
        return w->now_ms;
    }
}

static double some_value(struct world *w)
{
    return below(w, 5) ? (double)below(w, 1000) / 4 : num_from_bits(NUM_STALE_BITS);
}

static void append_row(struct world *w, struct writer *g)
{
    struct storage_appended got, want = {0};
    uint32_t cols[SERIES];
    double v[SERIES];
    int which[SERIES];
    size_t n = 0;
    int64_t t = some_time(w), max_ms = w->max_ms;

    for (int i = 0; i < SERIES; i++) {
        if (!g->has[i] || below(w, 3) == 0)
            continue;
        cols[n] = g->cols[i];
        v[n] = some_value(w);
        which[n++] = i;
    }
    for (size_t k = 0; k < n; k++)
        expect(w, which[k], t, v[k], max_ms, &want);
    assert_ok(storage_group_append(g->g, t, cols, v, n, &got, &w->err), &w->err);
    compare(w, &got, &want);
}

static void append_samples(struct world *w, struct writer *g)
{
    struct storage_appended got, want = {0};
    struct storage_sample v[MAX_BATCH];
    size_t n = 0, max = w->sharing ? 1 : 1 + below(w, MAX_BATCH);
    int64_t max_ms = w->max_ms;

    for (size_t k = 0; k < max; k++) {
        int i = (int)below(w, SERIES);
        if (!g->has[i])
            continue;
        v[n] = (struct storage_sample){g->cols[i], some_time(w), some_value(w)};
        if (n && below(w, 3) == 0)
            v[n].t_ms = v[n - 1].t_ms;
        expect(w, i, v[n].t_ms, v[n].value, max_ms, &want);
        n++;
    }
    assert_ok(storage_group_append_samples(g->g, v, n, &got, &w->err), &w->err);
    compare(w, &got, &want);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void check_series(struct world *w, struct querier *q, const struct model_series *all,
                         const struct series *s, int64_t mint, int64_t maxt, struct column *c)
{
    int i = number_of(&s->labels);
    const struct model_series *m = &all[i];
    size_t at = 0;

    assert_ok(q->ops->read(q, s, mint, maxt, c, &w->err), &w->err);
    for (size_t k = 0; k < m->n; k++) {
        if (m->t[k] < mint || m->t[k] > maxt)
            continue;
        if (at >= c->n || c->t[at] != m->t[k] || num_bits(c->v[at]) != num_bits(m->v[k]))
            fail_msg("seed %" PRIu64 ": series %d: sample %zu at %" PRId64
                     " is wrong or missing: %s%s",
                     w->seed, i, k, m->t[k] - T0,
                     at >= c->n           ? "the end"
                     : c->t[at] > m->t[k] ? "missing"
                     : c->t[at] < m->t[k] ? "one more"
                                          : "another value",
                     all == w->then ? " (held)" : "");
        at++;
    }
    if (at != c->n)
        fail_msg("seed %" PRIu64 ": series %d: %zu samples too many, the first at %" PRId64,
                 w->seed, i, c->n - at, c->t[at] - T0);
    w->checked += at;
}

static bool model_has(const struct model_series *m, int64_t mint, int64_t maxt)
{
    for (size_t k = 0; k < m->n; k++) {
        if (m->t[k] >= mint && m->t[k] <= maxt)
            return true;
    }
    return false;
}

static void check_querier(struct world *w, struct querier *q, const struct model_series *all,
                          int64_t mint, int64_t maxt)
{
    struct matcher m = {.type = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    bool seen[SERIES] = {false};

    assert_ok(q->ops->select(q, &m, 1, mint, maxt, a, &list, &w->err), &w->err);
    for (size_t k = 0; k < list.n; k++) {
        check_series(w, q, all, &list.v[k], mint, maxt, &c);
        seen[number_of(&list.v[k].labels)] = true;
    }
    for (int i = 0; i < SERIES; i++) {
        if (!seen[i] && model_has(&all[i], mint, maxt))
            fail_msg("seed %" PRIu64 ": series %d is missing", w->seed, i);
    }
    column_done(&c);
    arena_free(a);
}

static void check_all(struct world *w)
{
    int64_t mint = INT64_MIN, maxt = INT64_MAX;
    struct querier *q;

    if (below(w, 3)) {
        mint = T0 + (int64_t)below(w, (uint64_t)(w->now_ms - T0 + 1));
        maxt = mint + (int64_t)below(w, (uint64_t)(w->now_ms - mint + 1));
    }
    assert_ok(storage_querier(w->s, mint, maxt, &q, &w->err), &w->err);
    check_querier(w, q, w->series, mint, maxt);
    querier_close(q);
}

static void hold_or_let_go(struct world *w)
{
    if (!w->held) {
        assert_ok(storage_querier(w->s, INT64_MIN, INT64_MAX, &w->held, &w->err), &w->err);
        memcpy(w->then, w->series, SERIES * sizeof *w->then);
        return;
    }
    check_querier(w, w->held, w->then, INT64_MIN, INT64_MAX);
    querier_close(w->held);
    w->held = NULL;
}

/* ---- the run --------------------------------------------------------------------------------- */

/* A flush raises the floor to the end of its span: the model learns it from the newest time. */
static void tick(struct world *w)
{
    struct storage_stats st;

    storage_tick(w->s, w->now_ms);
    storage_get_stats(w->s, &st);
    if (st.blocks && w->max_ms > INT64_MIN) {
        int64_t done = (w->max_ms - w->block_ms / 2) / w->block_ms * w->block_ms;
        w->floor_ms = done > w->floor_ms ? done : w->floor_ms;
    }
}

static void reopen(struct world *w)
{
    if (w->held)
        hold_or_let_go(w);
    close_store(w);
    simfs_restart(w->sim);
    open_store(w);
    check_all(w);
}

static void step(struct world *w)
{
    static const int64_t windows[] = {0, 3, 20, 1000};
    struct writer *g = &w->w[below(w, GROUPS)];

    w->now_ms += (int64_t)below(w, 300);
    switch (below(w, 60)) {
    case 0:
    case 1:
        add_some_columns(w, g);
        break;
    case 2:
        drop_some_columns(w, g);
        break;
    case 3:
        tick(w);
        break;
    case 4:
        check_all(w);
        break;
    case 5:
        hold_or_let_go(w);
        break;
    case 6:
        if (below(w, 4) == 0)
            reopen(w);
        break;
    case 7:
        w->now_ms += (int64_t)below(w, (uint64_t)w->block_ms);
        break;
    case 8:
        w->window_ms = windows[below(w, NX_COUNT(windows))] * w->block_ms / 10;
        storage_set_out_of_order_window(w->s, w->window_ms);
        break;
    default:
        if (g >= &w->w[GROUPS / 2] && below(w, 4))
            append_samples(w, g);
        else
            append_row(w, g);
    }
}

static void one_seed(uint64_t seed, struct world *sum)
{
    struct world w = {.seed = seed,
                      .rnd = {seed},
                      .now_ms = T0,
                      .max_ms = INT64_MIN + 1000000000,
                      .floor_ms = INT64_MIN,
                      .sharing = seed % 3 == 0};

    w.sim = simfs_new(seed);
    w.series = calloc(SERIES, sizeof *w.series);
    w.then = calloc(SERIES, sizeof *w.then);
    for (int i = 0; i < SERIES; i++)
        w.series[i].newest_ms = INT64_MIN;
    w.block_ms = 5000 + (int64_t)below(&w, 60000);
    w.window_ms = 2 * w.block_ms;
    open_store(&w);
    for (int i = 0; i < 1500; i++)
        step(&w);
    reopen(&w);
    check_all(&w);
    close_store(&w);
    simfs_free(w.sim);
    free(w.series);
    free(w.then);
    sum->late += w.late;
    sum->refused += w.refused;
    sum->checked += w.checked;
}

static void late_samples_are_as_in_the_model(void **state)
{
    const char *own = getenv("NX_SEED");
    uint64_t from = own ? strtoull(own, NULL, 10) : 1, n = own ? 1 : 30;
    struct world sum = {0};

    (void)state;
    quiet_log();
    for (uint64_t seed = from; seed < from + n; seed += own ? 1 : TEST_STRIDE)
        one_seed(seed, &sum);
    log_capture(NULL, NULL);
    /* Every seed does its part. */
    n = (n + TEST_STRIDE - 1) / TEST_STRIDE;
    assert_true(own || (sum.late > 40 * n && sum.refused > 40 * n && sum.checked > 400 * n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_samples_are_as_in_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
