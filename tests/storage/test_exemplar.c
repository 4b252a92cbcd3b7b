/* The ring of exemplars: its order rules, its bounds, other sizes at run time, and no memory. */
#include "../support/test.h"
#include "../support/oom.h"

#include <math.h>

#include "src/base/thread.h"
#include "storage/exemplar.h"

#define T0 1700000000000

/* Label sets as text, `a=1,b=2`, borrowed. */
struct made {
    struct label v[8];
    struct labels ls;
};

static struct labels make(struct made *m, const char *text)
{
    m->ls = (struct labels){m->v, 0};
    while (*text) {
        size_t name = strcspn(text, "="), value = strcspn(text + name + 1, ",");
        m->v[m->ls.n++] =
            (struct label){nx_slice_of(text, name), nx_slice_of(text + name + 1, value)};
        text += name + 1 + value;
        text += *text == ',';
    }
    return m->ls;
}

static nx_status try_add(struct exemplars *x, const char *series, const char *labels, double value,
                         int64_t t_ms, bool has_ts, enum storage_exemplar_result *got)
{
    struct made s, l;
    struct nx_err err;
    struct labels of = make(&s, series);
    struct storage_exemplar e = {make(&l, labels), value, t_ms, has_ts};

    return exemplars_add(x, &of, &e, got, &err);
}

static enum storage_exemplar_result add(struct exemplars *x, const char *series, const char *labels,
                                        double value, int64_t t_ms)
{
    enum storage_exemplar_result got = EXEMPLAR_OFF;

    assert_int_equal(try_add(x, series, labels, value, t_ms, true, &got), NX_OK);
    return got;
}

/* All that matches name=value (no name: all series) as lines `series: labels value@offset ...`. */
static void show(struct exemplars *x, const char *name, const char *value, int64_t mint,
                 int64_t maxt, struct buf *b)
{
    const struct matcher m = {MATCH_EQ, STR(name), STR(value), NULL};
    const struct matcher_set set = {&m, name[0] != 0};
    struct arena *a = arena_new(0);
    struct storage_exemplar_list list;
    struct nx_err err;

    buf_clear(b);
    assert_ok(exemplars_select(x, &set, 1, mint, maxt, a, &list, &err), &err);
    for (size_t i = 0; i < list.n; i++) {
        assert_true(list.v[i].n > 0);
        labels_print(b, &list.v[i].series);
        buf_char(b, ':');
        for (size_t k = 0; k < list.v[i].n; k++) {
            buf_char(b, ' ');
            labels_print(b, &list.v[i].v[k].labels);
            buf_printf(b, "%g@%" PRId64, list.v[i].v[k].value, list.v[i].v[k].t_ms - T0);
        }
        buf_char(b, '\n');
    }
    arena_free(a);
}

static void assert_held(struct exemplars *x, const char *want, const char *about)
{
    struct buf b;

    buf_init(&b, 0);
    show(x, "", "", INT64_MIN, INT64_MAX, &b);
    assert_buf(&b, want, about);
    buf_done(&b);
}

static struct exemplar_stats stats(struct exemplars *x)
{
    struct exemplar_stats s;

    exemplars_get_stats(x, &s);
    return s;
}

static struct exemplars *ring(int64_t max)
{
    struct exemplars *x = exemplars_new();

    assert_non_null(x);
    exemplars_set_max(x, max);
    return x;
}

static void without_room_nothing_is_kept(void **state)
{
    struct exemplars *x = exemplars_new();

    (void)state;
    assert_false(exemplars_on(x));
    assert_int_equal(add(x, "s=1", "id=a", 1, T0), EXEMPLAR_OFF);
    exemplars_set_max(x, -1); /* CFG-138: as 0 */
    assert_int_equal(add(x, "s=1", "id=a", 1, T0), EXEMPLAR_OFF);
    assert_held(x, "", "off");
    assert_int_equal(stats(x).bytes, 0);
    exemplars_set_max(x, 2);
    assert_true(exemplars_on(x));
    assert_int_equal(add(x, "s=1", "id=a", 1, T0), EXEMPLAR_STORED);
    exemplars_set_max(x, 0);
    assert_false(exemplars_on(x));
    assert_held(x, "", "off again");
    assert_int_equal(stats(x).bytes, 0);
    exemplars_free(x);
}

static void a_large_ring_costs_nothing_while_empty(void **state)
{
    struct exemplars *x = ring(INT64_MAX);

    (void)state;
    assert_int_equal(stats(x).bytes, 0);
    assert_int_equal(stats(x).max, UINT32_MAX - 1);
    exemplars_set_max(x, 100000);
    assert_int_equal(stats(x).bytes, 0);
    add(x, "s=1", "id=a", 1, T0);
    assert_in_range(stats(x).bytes, 1, 8192);
    exemplars_free(x);
}

/* STO-063 */
static void the_oldest_is_overwritten(void **state)
{
    struct exemplars *x = ring(3);

    (void)state;
    add(x, "s=1", "id=a", 1, T0 + 1);
    add(x, "s=2", "id=b", 2, T0 + 2);
    add(x, "s=1", "id=c", 3, T0 + 3);
    assert_held(x, "{s=\"1\"}: {id=\"a\"}1@1 {id=\"c\"}3@3\n{s=\"2\"}: {id=\"b\"}2@2\n", "full");
    assert_int_equal(stats(x).oldest_ms, T0 + 1);
    add(x, "s=1", "id=d", 4, T0 + 4);
    assert_held(x, "{s=\"1\"}: {id=\"c\"}3@3 {id=\"d\"}4@4\n{s=\"2\"}: {id=\"b\"}2@2\n", "once");
    add(x, "s=1", "id=e", 5, T0 + 5); /* the last one of s=2 goes, and the series with it */
    assert_held(x, "{s=\"1\"}: {id=\"c\"}3@3 {id=\"d\"}4@4 {id=\"e\"}5@5\n", "twice");
    assert_int_equal(stats(x).series, 1);
    assert_int_equal(stats(x).exemplars, 3);
    assert_int_equal(stats(x).appended, 5);
    assert_int_equal(stats(x).oldest_ms, T0 + 3);
    exemplars_free(x);
}

static void a_ring_of_one_holds_the_newest(void **state)
{
    struct exemplars *x = ring(1);

    (void)state;
    for (int i = 0; i < 5; i++) {
        add(x, "s=1", "id=a", i, T0 + i);
        assert_int_equal(stats(x).series, 1);
    }
    assert_held(x, "{s=\"1\"}: {id=\"a\"}4@4\n", "same series");
    add(x, "s=2", "", 7, T0);
    assert_held(x, "{s=\"2\"}: {}7@0\n", "another");
    exemplars_free(x);
}

/* STO-064, SCR-094 */
static void what_equals_the_newest_is_not_stored_again(void **state)
{
    enum storage_exemplar_result got;
    struct exemplars *x = ring(10);

    (void)state;
    assert_int_equal(add(x, "s=1", "id=a", 1, T0), EXEMPLAR_STORED);
    assert_int_equal(add(x, "s=1", "id=a", 1, T0), EXEMPLAR_SAME);
    assert_int_equal(add(x, "s=1", "id=a", 1, T0 + 1), EXEMPLAR_STORED); /* its own new time */
    assert_int_equal(add(x, "s=2", "id=a", 1, T0), EXEMPLAR_STORED);     /* another series */
    try_add(x, "s=3", "id=a", 1, T0, false, &got);
    assert_int_equal(got, EXEMPLAR_STORED);
    try_add(x, "s=3", "id=a", 1, T0 + 15000, false, &got); /* the scrape's time is not its own */
    assert_int_equal(got, EXEMPLAR_SAME);
    try_add(x, "s=3", "id=a", 2, T0 + 30000, false, &got);
    assert_int_equal(got, EXEMPLAR_STORED);
    try_add(x, "s=3", "id=b", 2, T0 + 45000, false, &got);
    assert_int_equal(got, EXEMPLAR_STORED);
    try_add(x, "s=3", "id=b", 2, T0 + 60000, true, &got);
    assert_int_equal(got, EXEMPLAR_STORED);
    try_add(x, "s=4", "id=b", NAN, T0, false, &got);
    assert_int_equal(got, EXEMPLAR_STORED);
    try_add(x, "s=4", "id=b", NAN, T0 + 1, false, &got);
    assert_int_equal(got, EXEMPLAR_SAME);
    assert_int_equal(stats(x).appended, 8);
    assert_int_equal(stats(x).out_of_order, 0);
    exemplars_free(x);
}

static void what_is_older_than_the_newest_is_refused(void **state)
{
    struct exemplars *x = ring(10);

    (void)state;
    add(x, "s=1", "id=b", 5, T0 + 10);
    assert_int_equal(add(x, "s=1", "id=c", 5, T0 + 9), EXEMPLAR_OLD);
    assert_int_equal(add(x, "s=1", "id=b", 4, T0 + 10), EXEMPLAR_OLD);    /* by value */
    assert_int_equal(add(x, "s=1", "id=a", 5, T0 + 10), EXEMPLAR_OLD);    /* by labels */
    assert_int_equal(add(x, "s=1", "id=c", 5, T0 + 10), EXEMPLAR_STORED); /* after all of these */
    assert_int_equal(add(x, "s=1", "id=a", 6, T0 + 10), EXEMPLAR_STORED);
    assert_int_equal(add(x, "s=2", "id=a", 1, T0), EXEMPLAR_STORED); /* another series */
    assert_int_equal(stats(x).out_of_order, 3);
    assert_held(
        x, "{s=\"1\"}: {id=\"b\"}5@10 {id=\"c\"}5@10 {id=\"a\"}6@10\n{s=\"2\"}: {id=\"a\"}1@0\n",
        "kept");
    exemplars_free(x);
}

/* SCR-038: characters, not bytes; names count as well. */
static void labels_have_at_most_128_characters(void **state)
{
    struct exemplars *x = ring(10);
    char text[600] = "id=";

    (void)state;
    for (int i = 0; i < 126; i++)
        strcat(text, "ä");
    assert_int_equal(add(x, "s=1", text, 1, T0), EXEMPLAR_STORED);
    strcat(text, "x");
    assert_int_equal(try_add(x, "s=1", text, 1, T0 + 1, true, NULL), NX_BADINPUT);
    strcpy(text, "id=");
    for (int i = 0; i < 63; i++)
        strcat(text, "\xff\xf4"); /* no UTF-8: each byte is one */
    assert_int_equal(add(x, "s=1", text, 1, T0 + 2), EXEMPLAR_STORED);
    strcat(text, ",b=");
    assert_int_equal(try_add(x, "s=1", text, 1, T0 + 3, true, NULL), NX_BADINPUT);
    assert_int_equal(stats(x).exemplars, 2);
    exemplars_free(x);
}

static void a_selection_is_by_any_set_and_by_time(void **state)
{
    struct exemplars *x = ring(100);
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    for (int i = 0; i < 5; i++) {
        add(x, "__name__=m,job=b", "id=x", i, T0 + i);
        add(x, "__name__=m,job=a", "id=y,k=", i, T0 + 10 * i);
    }
    show(x, "__name__", "m", T0 + 2, T0 + 10, &b);
    assert_buf(&b,
               "m{job=\"a\"}: {id=\"y\", k=\"\"}1@10\n"
               "m{job=\"b\"}: {id=\"x\"}2@2 {id=\"x\"}3@3 {id=\"x\"}4@4\n",
               "both ends included");
    show(x, "job", "b", T0 + 4, T0 + 4, &b);
    assert_buf(&b, "m{job=\"b\"}: {id=\"x\"}4@4\n", "one point of time");
    show(x, "job", "b", T0 + 5, INT64_MAX, &b);
    assert_buf(&b, "", "after");
    show(x, "job", "b", INT64_MIN, T0 - 1, &b);
    assert_buf(&b, "", "before");
    show(x, "job", "", INT64_MIN, INT64_MAX, &b);
    assert_buf(&b, "", "no such series");
    exemplars_free(x);

    x = ring(100);
    add(x, "a=1", "", 1, T0);
    add(x, "a=2", "", 2, T0);
    add(x, "a=3", "", 3, T0);
    const struct matcher m[] = {{MATCH_EQ, LIT("a"), LIT("3"), NULL},
                                {MATCH_NEQ, LIT("a"), LIT("2"), NULL},
                                {MATCH_NEQ, LIT("a"), LIT("3"), NULL}};
    const struct matcher_set sets[] = {{m, 1}, {m + 1, 2}, {m, 1}};
    struct arena *a = arena_new(0);
    struct storage_exemplar_list list;
    struct nx_err err;
    assert_ok(exemplars_select(x, sets, 3, 0, INT64_MAX, a, &list, &err), &err);
    assert_int_equal(list.n, 2); /* each series once */
    assert_true(list.v[0].v[0].value == 1 && list.v[1].v[0].value == 3);
    assert_ok(exemplars_select(x, sets, 0, 0, INT64_MAX, a, &list, &err), &err);
    assert_int_equal(list.n, 0);
    arena_free(a);
    exemplars_free(x);
    buf_done(&b);
}

/* ---- against a plain list --------------------------------------------------------------------- */

struct plain {
    struct {
        int series, value;
    } v[64];
    size_t n, max;
};

static void plain_trim(struct plain *p)
{
    size_t gone = p->n > p->max ? p->n - p->max : 0;

    memmove(p->v, p->v + gone, (p->n - gone) * sizeof p->v[0]);
    p->n -= gone;
}

static void plain_show(const struct plain *p, struct buf *b)
{
    buf_clear(b);
    for (int s = 0; s < 10; s++) {
        bool any = false;
        for (size_t i = 0; i < p->n; i++) {
            if (p->v[i].series != s)
                continue;
            if (!any)
                buf_printf(b, "{s=\"%d\"}:", s);
            any = true;
            buf_printf(b, " {id=\"%d\"}%d@%d", p->v[i].value, p->v[i].value, p->v[i].value);
        }
        if (any)
            buf_char(b, '\n');
    }
}

/* STO-063: any sequence of adds and sizes holds the newest, in order. */
static void any_sequence_of_sizes_keeps_the_newest(void **state)
{
    struct test_random r = {20240611};
    struct plain p = {.max = 5};
    struct exemplars *x = ring(5);
    struct buf want;

    (void)state;
    buf_init(&want, 0);
    for (int step = 0; step < 20000; step++) {
        char series[16], labels[16];
        int s = (int)test_random_below(&r, 10);
        if (test_random_below(&r, 8) == 0) {
            p.max = (size_t)test_random_below(&r, 50);
            exemplars_set_max(x, (int64_t)p.max);
            plain_trim(&p);
        }
        snprintf(series, sizeof series, "s=%d", s);
        snprintf(labels, sizeof labels, "id=%d", step);
        assert_int_equal(add(x, series, labels, step, T0 + step),
                         p.max ? EXEMPLAR_STORED : EXEMPLAR_OFF);
        p.v[p.n].series = s;
        p.v[p.n++].value = step;
        plain_trim(&p);
        if (step % 7 == 0) {
            plain_show(&p, &want);
            assert_held(x, buf_cstr(&want), "against a list");
        }
        assert_int_equal(stats(x).exemplars, p.n);
    }
    exemplars_free(x);
    buf_done(&want);
}

static void many_series_are_found_again(void **state)
{
    struct exemplars *x = ring(100000);
    char series[64], labels[64];

    (void)state;
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 5000; i++) {
            snprintf(series, sizeof series, "__name__=m,i=%d", i);
            snprintf(labels, sizeof labels, "trace_id=%032d", round);
            assert_int_equal(add(x, series, labels, round, T0 + round), EXEMPLAR_STORED);
        }
    assert_int_equal(stats(x).series, 5000);
    assert_int_equal(stats(x).exemplars, 15000);
    /* A ring entry of 40 bytes and some 45 of labels; a fifth of a KiB for a series. */
    assert_in_range(stats(x).bytes, 15000 * 80, 15000 * 150 + 5000 * 200);
    exemplars_set_max(x, 5000);
    assert_int_equal(stats(x).series, 5000);
    exemplars_set_max(x, 10);
    assert_int_equal(stats(x).series, 10);
    exemplars_free(x);
}

/* ---- no memory -------------------------------------------------------------------------------- */

static void fill(struct exemplars *x, int n)
{
    char series[16];

    for (int i = 0; i < n; i++) {
        snprintf(series, sizeof series, "s=%d", i);
        (void)add(x, series, "id=a", 1, T0 + i);
    }
}

/* X5: at each place where the ring or the table of series grows, too. */
static void a_failed_add_changes_nothing(void **state)
{
    static const int counts[] = {0, 1, 63, 64, 127, 128, 200};
    unsigned tried = 0;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(counts); i++) {
        for (unsigned n = 1;; n++) {
            struct exemplars *x = ring(200);
            enum storage_exemplar_result got = EXEMPLAR_OFF;
            struct exemplar_stats before, after;
            struct buf b;
            nx_status st;
            buf_init(&b, 0);
            fill(x, counts[i]);
            show(x, "", "", INT64_MIN, INT64_MAX, &b);
            before = stats(x);
            oom_fail_at(n);
            st = try_add(x, "s=new", "id=b", 2, T0 + 1000, true, &got);
            bool failed = oom_off();
            if (st) {
                assert_int_equal(st, NX_NOMEM);
                assert_true(failed);
                assert_held(x, buf_cstr(&b), "after a failure");
                after = stats(x);
                assert_int_equal(after.appended, before.appended);
                tried++;
                assert_int_equal(add(x, "s=new", "id=b", 2, T0 + 1000), EXEMPLAR_STORED);
            } else {
                assert_int_equal(got, EXEMPLAR_STORED);
            }
            assert_int_equal(stats(x).appended, before.appended + 1);
            exemplars_free(x);
            buf_done(&b);
            if (!failed)
                break;
        }
    }
    assert_true(tried > 2 * NX_COUNT(counts));
}

static void another_size_needs_no_memory(void **state)
{
    struct exemplars *x = ring(10);

    (void)state;
    fill(x, 15);
    oom_fail_from(1);
    exemplars_set_max(x, 3);
    oom_off();
    assert_held(x,
                "{s=\"12\"}: {id=\"a\"}1@12\n{s=\"13\"}: {id=\"a\"}1@13\n"
                "{s=\"14\"}: {id=\"a\"}1@14\n",
                "smaller");
    add(x, "s=15", "id=a", 1, T0 + 15);
    assert_int_equal(stats(x).exemplars, 3);
    oom_fail_from(1);
    exemplars_set_max(x, 4);
    oom_off();
    add(x, "s=16", "id=a", 1, T0 + 16);
    assert_int_equal(stats(x).exemplars, 4);
    assert_int_equal(stats(x).oldest_ms, T0 + 13);
    exemplars_free(x);
}

static void a_selection_without_memory_fails(void **state)
{
    const struct matcher_set all = {NULL, 0};
    struct exemplars *x = ring(1000);

    (void)state;
    fill(x, 200);
    for (unsigned n = 1;; n++) {
        struct storage_exemplar_list list = {NULL, 77};
        struct arena *a = arena_new(0);
        struct nx_err err;
        oom_fail_at(n);
        nx_status st = exemplars_select(x, &all, 1, 0, INT64_MAX, a, &list, &err);
        bool failed = oom_off();
        assert_int_equal(st, failed ? NX_NOMEM : NX_OK);
        assert_int_equal(list.n, failed ? 77 : 200);
        arena_free(a);
        if (!failed) {
            assert_true(n > 2);
            break;
        }
    }
    struct arena *small = arena_new(8192);
    struct storage_exemplar_list list;
    assert_int_equal(exemplars_select(x, &all, 1, 0, INT64_MAX, small, &list, NULL), NX_LIMIT);
    arena_free(small);
    exemplars_free(x);
}

/* ---- threads ---------------------------------------------------------------------------------- */

struct crowd {
    struct exemplars *x;
    int me;
};

static void write_many(void *arg)
{
    struct crowd *c = arg;
    char series[32], labels[32];

    for (int i = 0; i < 3000; i++) {
        snprintf(series, sizeof series, "s=%d,w=%d", i % 20, c->me);
        snprintf(labels, sizeof labels, "id=%d", i);
        (void)try_add(c->x, series, labels, i, T0 + i, true, NULL);
    }
}

static void resize_often(void *arg)
{
    struct crowd *c = arg;

    for (int i = 0; i < 300; i++)
        exemplars_set_max(c->x, i % 3 ? 1 + i * 7 % 500 : 0);
    exemplars_set_max(c->x, 100);
}

static void read_often(void *arg)
{
    struct crowd *c = arg;
    const struct matcher_set all = {NULL, 0};

    for (int i = 0; i < 100; i++) {
        struct storage_exemplar_list list = {NULL, 0};
        struct arena *a = arena_new(0);
        if (exemplars_select(c->x, &all, 1, 0, INT64_MAX, a, &list, NULL))
            abort();
        for (size_t k = 0; k < list.n; k++)
            for (size_t j = 1; j < list.v[k].n; j++)
                if (list.v[k].v[j - 1].t_ms > list.v[k].v[j].t_ms)
                    abort();
        (void)stats(c->x);
        arena_free(a);
    }
}

static void writers_readers_and_sizes_at_once(void **state)
{
    void (*const jobs[])(void *) = {write_many, write_many, read_often, read_often, resize_often};
    struct nx_thread t[NX_COUNT(jobs)] = {0};
    struct crowd c[NX_COUNT(jobs)];
    struct exemplars *x = ring(200);
    struct nx_err err;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(jobs); i++) {
        c[i] = (struct crowd){x, (int)i};
        assert_ok(nx_thread_start(&t[i], "crowd", jobs[i], &c[i], &err), &err);
    }
    for (size_t i = 0; i < NX_COUNT(jobs); i++)
        nx_thread_join(&t[i]);
    assert_in_range(stats(x).exemplars, 0, 100);
    exemplars_free(x);
}

/* ---- in the store ------------------------------------------------------------------------------- */

static void a_column_names_its_series(void **state)
{
    struct test_tmpdir dir;
    struct storage_opts opts = {.fs = fs_real(), .no_worker = true};
    struct storage *s;
    struct storage_group *g, *other;
    struct nx_err err;
    struct made made, of;
    struct labels series = make(&of, "__name__=m,job=j");
    struct storage_exemplar e = {make(&made, "id=a"), 1.5, T0, false};
    const struct matcher m = {MATCH_EQ, LIT("job"), LIT("j"), NULL};
    const struct matcher_set set = {&m, 1};
    struct storage_exemplar_list list;
    struct storage_stats st;
    enum storage_exemplar_result got;
    struct arena *a = arena_new(0);
    uint32_t col, col2;

    (void)state;
    test_tmpdir_new(&dir);
    opts.dir = dir.path;
    assert_ok(storage_open(&s, &opts, &err), &err);
    assert_false(storage_exemplars_on(s));
    storage_set_max_exemplars(s, 10);
    assert_true(storage_exemplars_on(s));
    assert_ok(storage_group_open(s, &g, &err), &err);
    assert_ok(storage_group_open(s, &other, &err), &err);
    assert_ok(storage_group_column(g, &series, &col, NULL, &err), &err);
    assert_ok(storage_exemplar_add_column(s, g, col, &e, a, &got, &err), &err);
    assert_int_equal(got, EXEMPLAR_STORED);
    assert_ok(storage_exemplar_add(s, &series, &e, &got, &err), &err);
    assert_int_equal(got, EXEMPLAR_SAME);
    /* a series that two groups write is still one */
    assert_ok(storage_group_column(other, &series, &col2, NULL, &err), &err);
    e.t_ms++;
    e.value = 2;
    assert_ok(storage_exemplar_add_column(s, other, col2, &e, a, &got, &err), &err);
    assert_int_equal(got, EXEMPLAR_STORED);
    assert_ok(storage_exemplar_add_column(s, g, col, &e, a, &got, &err), &err);
    assert_int_equal(got, EXEMPLAR_SAME);
    e.t_ms = T0 - 1;
    e.value = 3; /* with the same value it would be the same one, seen by an earlier scrape */
    assert_ok(storage_exemplar_add_column(s, g, col, &e, a, &got, &err), &err);
    assert_int_equal(got, EXEMPLAR_OLD);
    /* the series may go: its exemplars stay */
    storage_group_close(g);
    storage_group_close(other);
    storage_tick(s, T0 + 86400000);
    assert_ok(storage_select_exemplars(s, &set, 1, 0, INT64_MAX, a, &list, &err), &err);
    assert_int_equal(list.n, 1);
    assert_int_equal(list.v[0].n, 2);
    assert_true(labels_eq(&list.v[0].series, &series));
    storage_get_stats(s, &st);
    assert_int_equal(st.exemplars, 2);
    assert_int_equal(st.exemplar_series, 1);
    assert_int_equal(st.exemplars_max, 10);
    assert_int_equal(st.exemplars_appended, 2);
    assert_int_equal(st.exemplars_out_of_order, 1);
    assert_int_equal(st.exemplar_oldest_ms, T0);
    arena_free(a);
    storage_close(s);
    test_tmpdir_done(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_room_nothing_is_kept),
        cmocka_unit_test(a_large_ring_costs_nothing_while_empty),
        cmocka_unit_test(the_oldest_is_overwritten),
        cmocka_unit_test(a_ring_of_one_holds_the_newest),
        cmocka_unit_test(what_equals_the_newest_is_not_stored_again),
        cmocka_unit_test(what_is_older_than_the_newest_is_refused),
        cmocka_unit_test(labels_have_at_most_128_characters),
        cmocka_unit_test(a_selection_is_by_any_set_and_by_time),
        cmocka_unit_test(any_sequence_of_sizes_keeps_the_newest),
        cmocka_unit_test(many_series_are_found_again),
        cmocka_unit_test(a_failed_add_changes_nothing),
        cmocka_unit_test(another_size_needs_no_memory),
        cmocka_unit_test(a_selection_without_memory_fails),
        cmocka_unit_test(writers_readers_and_sizes_at_once),
        cmocka_unit_test(a_column_names_its_series),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
