/* Blocks: what was written is read, by any matcher and range; crashes and damage cost what they may. */
#include "tests/support/test.h"

#include "src/base/thread.h"
#include "storage/block.h"
#include "tests/support/oom.h"
#include "tests/support/simfs.h"

#define MIN_MS   INT64_C(1735689600000)
#define MAX_MS   (MIN_MS + 7200000)
#define ULID     "01JGFJJZ00ABCDEFGHJKMNPQRS"
#define DIR      "data"
#define PATH     DIR "/" ULID
#define N_ROWS   480u
#define N_GROUPS 3u

static struct nx_err err;

/* ---- a model: series with labels and samples, all in memory ---------------------------------- */

struct model_series {
    struct label v[6];
    struct labels ls;
    char text[3][48]; /* the values that vary */
    int64_t t[N_ROWS];
    double x[N_ROWS];
    size_t n;
};
struct model {
    struct model_series *s; /* in label order */
    size_t n;
    uint64_t samples;
    int64_t times[N_GROUPS][N_ROWS];
};

/* After it was moved. */
static void point_at_own_text(struct model_series *s)
{
    s->ls.v = s->v;
    s->v[0].value = STR(s->text[0]);
    s->v[1].value = STR(s->text[1]);
    if (s->ls.n == 4)
        s->v[3].value = STR(s->text[2]);
}

/* Metric and host decide. */
static int by_labels(const void *x, const void *y)
{
    const struct model_series *s = x, *r = y;
    const int c = strcmp(s->text[0], r->text[0]);

    return c ? c : strcmp(s->text[1], r->text[1]);
}

static void add_label(struct model_series *s, const char *name, const char *value)
{
    s->v[s->ls.n].name = STR(name);
    s->v[s->ls.n++].value = STR(value);
}

/* Metric m, host h of three groups; some series lack "zone", some live for a part of the span. */
static struct model model_new(size_t metrics, size_t hosts, uint64_t seed)
{
    struct model m = {.n = metrics * hosts};
    struct test_random r = {seed};

    m.s = calloc(m.n, sizeof *m.s);
    for (size_t g = 0; g < N_GROUPS; g++)
        for (size_t i = 0; i < N_ROWS; i++)
            m.times[g][i] =
                MIN_MS + (int64_t)(i * 15000 + g * 1234 + (g == 2 ? test_random_below(&r, 9) : 0));
    for (size_t i = 0; i < m.n; i++) {
        struct model_series *s = &m.s[i];
        const size_t metric = i / hosts, host = i % hosts, group = host % N_GROUPS;
        size_t from = i % 7 == 0 ? 100 : 0, to = i % 5 == 0 ? 300 : N_ROWS;
        double x = (double)(i * 1000);

        snprintf(s->text[0], sizeof s->text[0], "metric_%zu_total", metric);
        snprintf(s->text[1], sizeof s->text[1], "host-%03zu", host);
        snprintf(s->text[2], sizeof s->text[2], "zone-%zu", host % 4);
        add_label(s, LABEL_NAME, s->text[0]);
        add_label(s, "host", s->text[1]);
        add_label(s, "job",
                  host % 2 ? "node"
                           : "n\xc3\xb6"
                             "de"); /* not ASCII */
        if (host % 4)
            add_label(s, "zone", s->text[2]);
        for (size_t k = from; k < to; k++) {
            x += metric % 3 == 0   ? (double)test_random_below(&r, 100)
                 : metric % 3 == 1 ? 0.1
                                   : 1.0 / (double)(k + 1);
            if (i % 11 == 3 && k % 4 == 1)
                continue; /* a hole */
            s->t[s->n] = m.times[group][k];
            s->x[s->n++] = i % 13 == 5 && k == to - 1 ? num_from_bits(NUM_STALE_BITS) : x;
        }
        m.samples += s->n;
    }
    qsort(m.s, m.n, sizeof *m.s, by_labels);
    for (size_t i = 0; i < m.n; i++)
        point_at_own_text(&m.s[i]);
    return m;
}

static void model_free(struct model *m)
{
    free(m->s);
}

/* Writes the model; chunks of at most `rows` rows. */
static nx_status write_model(struct fs *fs, const struct model *m, size_t rows,
                             struct block_meta *meta)
{
    const struct block_writer_opts opts = {
        .fs = fs, .dir = DIR, .ulid = ULID, .min_ms = MIN_MS, .max_ms = MAX_MS};
    struct block_writer *w = NULL;
    nx_status st = fs->mkdir(fs, DIR, &err);

    if (!st)
        st = fs->sync_dir(fs, ".", &err); /* whoever makes the data folder sees to that */
    if (!st)
        st = block_writer_open(&w, &opts, &err);
    for (size_t i = 0; i < m->n && !st; i++) {
        const struct model_series *s = &m->s[i];
        const int64_t *t = NULL;

        for (size_t g = 0; g < N_GROUPS; g++) /* its group is known by its times */
            for (size_t k = 0; k < N_ROWS; k++)
                if (m->times[g][k] == s->t[0] && m->times[g][N_ROWS - 1] >= s->t[s->n - 1] && !t)
                    t = m->times[g];
        st = block_writer_series(w, &s->ls, &err);
        for (size_t at = 0, k = 0; at < N_ROWS && !st; at += rows) {
            const size_t n = N_ROWS - at < rows ? N_ROWS - at : rows;
            double v[N_ROWS];
            uint32_t times;

            for (size_t row = 0; row < n; row++) {
                bool has = k < s->n && s->t[k] == t[at + row];
                v[row] = has ? s->x[k] : chunk_absent();
                k += has;
            }
            st = block_writer_times(w, t + at, n, &times, &err);
            if (!st)
                st = block_writer_chunk(w, times, v, n, &err);
        }
    }
    if (!st)
        st = block_writer_commit(w, meta, &err);
    block_writer_close(w);
    return st;
}

struct fixture {
    struct simfs *sim;
    struct fs *fs;
    struct cache *cache;
    struct chunk_scratch *scratch;
    struct block_reader *reader;
    struct arena *arena;
    struct model m;
    struct block *b;
};

static struct fixture fixture_new(size_t metrics, size_t hosts, size_t rows)
{
    struct fixture f = {.sim = simfs_new(1),
                        .cache = cache_new(1 << 20),
                        .scratch = chunk_scratch_new(),
                        .reader = block_reader_new(),
                        .arena = arena_new(0)};

    assert_non_null(f.reader);
    f.fs = simfs_fs(f.sim);
    f.m = model_new(metrics, hosts, 42);
    assert_ok(write_model(f.fs, &f.m, rows, NULL), &err);
    assert_ok(block_open(&f.b, f.fs, f.cache, PATH, &err), &err);
    return f;
}

static void fixture_done(struct fixture *f)
{
    struct cache_stats stats;

    block_reader_free(f->reader);
    block_unref(f->b);
    cache_get_stats(f->cache, &stats);
    assert_int_equal(stats.pages, 0); /* its pages went with it; nothing stayed pinned */
    assert_int_equal(stats.bytes, 0);
    cache_free(f->cache);
    chunk_scratch_free(f->scratch);
    arena_free(f->arena);
    model_free(&f->m);
    simfs_free(f->sim);
}

/* Who keeps pages from series to series reads the same. */
static void reads_alike(struct fixture *f, uint64_t ref, int64_t mint, int64_t maxt,
                        const struct samples *expected)
{
    struct samples got = {0};

    for (int marks = 0; marks < 2; marks++) {
        got.n = 0;
        assert_ok(
            block_reader_read(f->reader, f->b, ref, mint, maxt, marks, &got, f->scratch, &err),
            &err);
        assert_int_equal(got.n, expected->n);
        assert_true(!got.n || memcmp(got.t, expected->t, got.n * sizeof *got.t) == 0);
        for (size_t i = 0; i < got.n && !marks; i++)
            assert_true(num_bits(got.v[i]) == num_bits(expected->v[i]));
    }
    samples_done(&got);
}

static void reads_as_model(struct fixture *f, uint64_t ref, const struct model_series *s,
                           int64_t mint, int64_t maxt)
{
    struct samples got = {0};
    size_t at = 0;

    assert_ok(block_read(f->b, ref, mint, maxt, &got, f->scratch, &err), &err);
    reads_alike(f, ref, mint, maxt, &got);
    for (size_t i = 0; i < s->n; i++) {
        if (s->t[i] < mint || s->t[i] > maxt)
            continue;
        assert_true(at < got.n && got.t[at] == s->t[i]);
        assert_true(num_bits(got.v[at]) == num_bits(s->x[i]));
        at++;
    }
    assert_int_equal(got.n, at);
    samples_done(&got);
}

/* ---- reading -------------------------------------------------------------------------------- */

static void all_is_read_as_it_was_written(void **state)
{
    static const size_t rows[] = {N_ROWS, 100, 7};

    (void)state;
    for (size_t k = 0; k < NX_COUNT(rows); k++) {
        struct fixture f = fixture_new(8, 40, rows[k]);
        struct series_list list;
        struct test_random r = {k};

        assert_ok(block_verify(f.b, &err), &err);
        assert_int_equal(block_meta(f.b)->n_samples, f.m.samples);
        assert_ok(block_select(f.b, NULL, 0, INT64_MIN, INT64_MAX, f.arena, &list, &err), &err);
        assert_int_equal(list.n, f.m.n);
        for (size_t i = 0; i < list.n; i++) {
            int64_t mint = MIN_MS + (int64_t)test_random_below(&r, 7200000);
            struct labels ls;

            assert_true(labels_eq(&list.v[i].labels, &f.m.s[i].ls));
            assert_ok(block_series(f.b, list.v[i].ref, f.arena, &ls, &err), &err);
            assert_true(labels_eq(&ls, &f.m.s[i].ls));
            reads_as_model(&f, list.v[i].ref, &f.m.s[i], INT64_MIN, INT64_MAX);
            reads_as_model(&f, list.v[i].ref, &f.m.s[i], mint,
                           mint + (int64_t)test_random_below(&r, 2000000));
            reads_as_model(&f, list.v[i].ref, &f.m.s[i], f.m.s[i].t[5], f.m.s[i].t[5]);
        }
        fixture_done(&f);
    }
}

/* Matchers in a small notation: name op value, op one of = ! ~ ^ */
static size_t make_matchers(const char *const *spec, struct matcher *m, struct regex **res)
{
    size_t n = 0;

    for (; spec[n]; n++) {
        size_t len = strcspn(spec[n], "=!~^");
        const char op = spec[n][len];

        res[n] = NULL;
        m[n] = (struct matcher){.name = nx_slice_of(spec[n], len), .value = STR(spec[n] + len + 1)};
        m[n].type = op == '=' ? MATCH_EQ : op == '!' ? MATCH_NEQ : op == '~' ? MATCH_RE : MATCH_NRE;
        if (op == '~' || op == '^')
            assert_ok(regex_new(&res[n], m[n].value, &err), &err);
        m[n].re = res[n];
    }
    return n;
}

static void matchers_select_what_a_scan_would(void **state)
{
    static const char *const specs[][5] = {
        {"__name__=metric_1_total"},
        {"__name__=metric_1_total", "host=host-003"},
        {"__name__=nothing"},
        {"nolabel=x"},
        {"nolabel="},
        {"nolabel!"},
        {"zone="},
        {"zone!"},
        {"zone!zone-1"},
        {"zone~"},
        {"zone~.*"},
        {"zone~.+"},
        {"zone^.+"},
        {"zone^.*"},
        {"zone~zone-1|zone-2"},
        {"zone~zone-1|"},
        {"zone^zone-1|"},
        {"zone^zone-1|zone-3"},
        {"host~host-00.*", "__name__~metric_[12]_total"},
        {"host~host-0[0-9][05]", "zone^zone-[12]"},
        {"host~.*7", "job=node"},
        {"job=n\xc3\xb6"
         "de",
         "zone!zone-2", "__name__!metric_0_total", "host^.*0"},
        {"job=node", "job!node"},
        {"host=host-003", "host~host-003|host-004", "zone~|zone-3"},
        {"zone!zone-1", "job^x"},
        {"__name__^metric_.*"},
    };
    struct fixture f = fixture_new(5, 41, N_ROWS);

    (void)state;
    for (size_t i = 0; i < NX_COUNT(specs); i++) {
        struct matcher m[5];
        struct regex *res[5];
        struct series_list list;
        const size_t n = make_matchers(specs[i], m, res);
        size_t at = 0;

        assert_ok(block_select(f.b, m, n, INT64_MIN, INT64_MAX, f.arena, &list, &err), &err);
        for (size_t k = 0; k < f.m.n; k++) {
            if (!matchers_match(m, n, &f.m.s[k].ls))
                continue;
            if (at >= list.n || list.v[at].ref != k || !labels_eq(&list.v[at].labels, &f.m.s[k].ls))
                fail_msg("%s: series %zu is missing", specs[i][0], k);
            at++;
        }
        if (at != list.n)
            fail_msg("%s: %zu series, wanted %zu", specs[i][0], list.n, at);
        for (size_t k = 0; k < n; k++)
            regex_free(res[k]);
    }
    fixture_done(&f);
}

static void series_without_samples_in_the_range_are_left_out(void **state)
{
    struct fixture f = fixture_new(5, 41, N_ROWS);
    const int64_t mint = MIN_MS + 400 * 15000, maxt = mint + 60000;
    struct series_list list;
    size_t at = 0;

    (void)state;
    assert_ok(block_select(f.b, NULL, 0, mint, maxt, f.arena, &list, &err), &err);
    for (size_t k = 0; k < f.m.n; k++)
        if (f.m.s[k].t[f.m.s[k].n - 1] >= mint)
            assert_int_equal(list.v[at++].ref, k);
    assert_int_equal(at, list.n);
    assert_true(at < f.m.n);
    assert_ok(block_select(f.b, NULL, 0, MAX_MS, INT64_MAX, f.arena, &list, &err), &err);
    assert_int_equal(list.n, 0);
    assert_ok(block_select(f.b, NULL, 0, INT64_MIN, MIN_MS - 1, f.arena, &list, &err), &err);
    assert_int_equal(list.n, 0);
    fixture_done(&f);
}

static void names_and_values_are_listed(void **state)
{
    static const char *const one[] = {"host=host-004", NULL};
    struct fixture f = fixture_new(5, 41, N_ROWS);
    struct nx_slice *v;
    struct matcher m[5];
    struct regex *res[5];
    const size_t n = make_matchers(one, m, res);
    size_t got;

    (void)state;
    assert_ok(block_label_names(f.b, NULL, 0, INT64_MIN, INT64_MAX, 0, f.arena, &v, &got, &err),
              &err);
    assert_int_equal(got, 4);
    assert_text(v[0], "__name__", "first name");
    assert_text(v[3], "zone", "last name");
    assert_ok(block_label_names(f.b, m, n, INT64_MIN, INT64_MAX, 0, f.arena, &v, &got, &err), &err);
    assert_int_equal(got, 3); /* host-004 has no zone */
    assert_ok(block_label_names(f.b, NULL, 0, INT64_MIN, INT64_MAX, 2, f.arena, &v, &got, &err),
              &err);
    assert_int_equal(got, 3); /* the limit and one more */
    assert_ok(block_label_values(f.b, LIT("host"), NULL, 0, INT64_MIN, INT64_MAX, 0, f.arena, &v,
                                 &got, &err),
              &err);
    assert_int_equal(got, 41);
    assert_text(v[40], "host-040", "last host");
    assert_ok(block_label_values(f.b, LIT("__name__"), m, n, INT64_MIN, INT64_MAX, 0, f.arena, &v,
                                 &got, &err),
              &err);
    assert_int_equal(got, 5);
    assert_ok(block_label_values(f.b, LIT("zone"), m, n, INT64_MIN, INT64_MAX, 0, f.arena, &v, &got,
                                 &err),
              &err);
    assert_int_equal(got, 0);
    assert_ok(block_label_values(f.b, LIT("none"), NULL, 0, INT64_MIN, INT64_MAX, 0, f.arena, &v,
                                 &got, &err),
              &err);
    assert_int_equal(got, 0);
    assert_ok(block_label_values(f.b, LIT("host"), NULL, 0, MAX_MS, INT64_MAX, 0, f.arena, &v, &got,
                                 &err),
              &err);
    assert_int_equal(got, 0);
    fixture_done(&f);
}

/* Enough values, lists and series for directories of two levels, through a cache of a few pages. */
static void many_pages_are_found_through_a_small_cache(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    const struct block_writer_opts opts = {
        .fs = fs, .dir = DIR, .ulid = ULID, .min_ms = 0, .max_ms = 1000, .fast = true};
    struct cache *cache = cache_new(300 << 10);
    struct chunk_scratch *s = chunk_scratch_new();
    struct block_reader *reader = block_reader_new();
    struct arena *a = arena_new(0);
    struct block_writer *w;
    struct block *b;
    struct samples got = {0};
    struct test_random r = {5};
    struct cache_stats stats;
    const uint32_t n = 120000;
    const int64_t t[2] = {1, 2};
    uint32_t times;

    (void)state;
    assert_ok(fs->mkdir(fs, DIR, &err), &err);
    assert_ok(block_writer_open(&w, &opts, &err), &err);
    assert_ok(block_writer_times(w, t, 2, &times, &err), &err);
    for (uint32_t i = 0; i < n; i++) {
        char value[64];
        struct label l[1] = {{LIT("id"), {value, 0}}};
        struct labels ls = {l, 1};
        double v[2] = {i, num_from_bits(test_random(&r) >> 2)};

        l[0].value.len = (size_t)snprintf(value, sizeof value, "%08u-%016llx%016llx", i,
                                          (unsigned long long)test_random(&r),
                                          (unsigned long long)test_random(&r));
        assert_ok(block_writer_series(w, &ls, &err), &err);
        assert_ok(block_writer_chunk(w, times, v, 2, &err), &err);
    }
    assert_ok(block_writer_commit(w, NULL, &err), &err);
    block_writer_close(w);
    assert_ok(block_open(&b, fs, cache, PATH, &err), &err);
    assert_non_null(reader);
    for (int i = 0; i < 2000; i++) {
        const uint32_t k = (uint32_t)test_random_below(&r, n);
        struct series_list list;
        struct labels ls;
        struct matcher m = {.type = MATCH_EQ, .name = LIT("id")};

        arena_reset(a);
        assert_ok(block_series(b, k, a, &ls, &err), &err);
        assert_int_equal(strtoul(ls.v[0].value.ptr, NULL, 10), k);
        m.value = ls.v[0].value;
        assert_ok(block_select(b, &m, 1, INT64_MIN, INT64_MAX, a, &list, &err), &err);
        assert_int_equal(list.n, 1);
        assert_int_equal(list.v[0].ref, k);
        got.n = 0;
        if (i % 2)
            assert_ok(block_reader_read(reader, b, k, 0, 1000, false, &got, s, &err), &err);
        else
            assert_ok(block_read(b, k, 0, 1000, &got, s, &err), &err);
        assert_int_equal(got.n, 2);
        assert_true(got.v[0] == k);
    }
    cache_get_stats(cache, &stats);
    assert_true(stats.bytes <= stats.limit_bytes);
    assert_true(stats.evictions > 0 && stats.hits > 0);
    assert_ok(block_verify(b, &err), &err);
    samples_done(&got);
    block_reader_free(reader);
    block_unref(b);
    cache_free(cache);
    chunk_scratch_free(s);
    arena_free(a);
    simfs_free(sim);
}

struct reading {
    struct fixture *f;
    unsigned seed;
};

static void one_reader(void *arg)
{
    const struct reading *r = arg;
    struct chunk_scratch *s = chunk_scratch_new();
    struct arena *a = arena_new(0);
    struct block *b = block_ref(r->f->b);
    struct block_reader *reader = block_reader_new();
    struct test_random random = {r->seed};
    struct samples got = {0};

    assert_non_null(reader);

    for (int i = 0; i < 2000; i++) {
        const size_t k = test_random_below(&random, r->f->m.n);
        const struct matcher m = {
            .type = MATCH_EQ, .name = LIT("host"), .value = STR(r->f->m.s[k].text[1])};
        struct series_list list;

        arena_reset(a);
        got.n = 0;
        if (block_select(b, &m, 1, INT64_MIN, INT64_MAX, a, &list, NULL) || list.n == 0 ||
            block_reader_read(reader, b, k, INT64_MIN, INT64_MAX, false, &got, s, NULL) ||
            got.n != r->f->m.s[k].n || memcmp(got.v, r->f->m.s[k].x, got.n * sizeof *got.v) != 0)
            abort();
    }
    samples_done(&got);
    block_reader_free(reader);
    block_unref(b);
    arena_free(a);
    chunk_scratch_free(s);
}

static void threads_read_one_block(void **state)
{
    struct fixture f = fixture_new(8, 40, 100);
    struct nx_thread t[4] = {{0}};
    struct reading r[4];

    (void)state;
    cache_set_limit(f.cache, 100 << 10); /* pages come and go */
    for (unsigned i = 0; i < 4; i++) {
        r[i] = (struct reading){&f, i};
        assert_ok(nx_thread_start(&t[i], "reader", one_reader, &r[i], &err), &err);
    }
    for (unsigned i = 0; i < 4; i++)
        nx_thread_join(&t[i]);
    fixture_done(&f);
}

/* ---- writing -------------------------------------------------------------------------------- */

static void a_writer_refuses_what_breaks_the_order(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct block_writer_opts opts = {.fs = fs, .dir = DIR, .min_ms = 0, .max_ms = 100};
    struct label la = {LIT("a"), LIT("1")}, lb = {LIT("a"), LIT("2")};
    const struct labels first = {&la, 1}, second = {&lb, 1}, none = {NULL, 0};
    const int64_t t[] = {10, 20, 30}, backwards[] = {10, 10}, late[] = {50, 100},
                  overlap[] = {30, 40};
    const double v[] = {1, 2, 3}, nothing[] = {chunk_absent(), chunk_absent(), chunk_absent()};
    struct block_writer *w;
    struct fs_names names;
    uint32_t x, y, z, again;

    (void)state;
    assert_ok(fs->mkdir(fs, DIR, &err), &err);
    assert_ok(block_writer_open(&w, &opts, &err), &err);
    assert_ok(block_writer_times(w, t, 3, &x, &err), &err);
    assert_status(block_writer_times(w, backwards, 2, &y, &err), NX_BADINPUT);
    assert_status(block_writer_times(w, t, 0, &y, &err), NX_BADINPUT);
    assert_ok(block_writer_times(w, late, 2, &y, &err), &err);
    assert_ok(block_writer_times(w, overlap, 2, &z, &err), &err);
    assert_ok(block_writer_times(w, t, 3, &again, &err), &err);
    assert_int_equal(again, x);
    assert_status(block_writer_chunk(w, x, v, 3, &err), NX_BADINPUT); /* of no series */
    assert_status(block_writer_series(w, &none, &err), NX_BADINPUT);
    assert_ok(block_writer_series(w, &second, &err), &err);
    assert_status(block_writer_series(w, &second, &err), NX_BADINPUT);
    assert_status(block_writer_series(w, &first, &err), NX_BADINPUT);
    assert_status(block_writer_chunk(w, x, v, 2, &err), NX_BADINPUT);
    assert_status(block_writer_chunk(w, 3, v, 3, &err), NX_BADINPUT);
    assert_ok(block_writer_chunk(w, x, nothing, 3, &err), &err); /* nothing to add */
    assert_status(block_writer_commit(w, NULL, &err), NX_NOTFOUND);
    block_writer_close(w);
    assert_ok(fs->list(fs, DIR, &names, &err), &err);
    assert_int_equal(names.n, 0); /* nothing is left behind */
    fs_names_done(&names);

    assert_ok(block_writer_open(&w, &opts, &err), &err);
    assert_ok(block_writer_times(w, t, 3, &x, &err), &err);
    assert_ok(block_writer_times(w, late, 2, &y, &err), &err);
    assert_ok(block_writer_times(w, overlap, 2, &z, &err), &err);
    assert_ok(block_writer_series(w, &first, &err), &err);
    assert_ok(block_writer_chunk(w, x, v, 3, &err), &err);
    assert_status(block_writer_chunk(w, y, v, 2, &err), NX_BADINPUT); /* max is exclusive */
    assert_status(block_writer_chunk(w, z, v, 2, &err), NX_BADINPUT); /* 30 is there already */
    block_writer_close(w);
    opts.ulid = "lower-case-is-no-ulid-12345";
    assert_status(block_writer_open(&w, &opts, &err), NX_BADINPUT);
    simfs_free(sim);
}

static void ulids_ascend_and_are_valid(void **state)
{
    char last[BLOCK_ULID_LEN + 1] = "", now[BLOCK_ULID_LEN + 1];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        block_ulid(now, MIN_MS + i / 100 - (i == 500 ? 5000 : 0)); /* the clock steps back once */
        assert_true(block_ulid_valid(now));
        assert_true(strcmp(last, now) < 0);
        memcpy(last, now, sizeof last);
    }
    assert_false(block_ulid_valid(""));
    assert_false(block_ulid_valid("01JGFJJZ00ABCDEFGHJKMNPQR"));
    assert_false(block_ulid_valid("01JGFJJZ00ABCDEFGHJKMNPQRU"));
    assert_false(block_ulid_valid("81JGFJJZ00ABCDEFGHJKMNPQRS"));
    assert_false(block_ulid_valid(ULID BLOCK_TMP_SUFFIX));
}

static void meta_json_is_what_prometheus_tools_read(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    const char sources[2][BLOCK_ULID_LEN + 1] = {"01JGFJJZ00ABCDEFGHJKMNPQRT",
                                                 "01JGFJJZ00ABCDEFGHJKMNPQRV"};
    const struct block_parent parent = {"01JGFJJZ00ABCDEFGHJKMNPQRT", 0, 50};
    const struct block_writer_opts opts = {.fs = fs,
                                           .dir = DIR,
                                           .ulid = ULID,
                                           .min_ms = 0,
                                           .max_ms = 100,
                                           .level = 2,
                                           .sources = sources,
                                           .n_sources = 2,
                                           .parents = &parent,
                                           .n_parents = 1};
    struct cache *cache = cache_new(1 << 20);
    struct label la = {LIT("a"), LIT("1")};
    const struct labels ls = {&la, 1};
    const int64_t t[] = {10, 20, 30};
    const double v[] = {1, 2, 3};
    struct block_writer *w;
    struct block_meta meta;
    struct block *b;
    struct buf text;
    uint32_t x;

    (void)state;
    assert_ok(fs->mkdir(fs, DIR, &err), &err);
    assert_ok(block_writer_open(&w, &opts, &err), &err);
    assert_ok(block_writer_series(w, &ls, &err), &err);
    assert_ok(block_writer_times(w, t, 3, &x, &err), &err);
    assert_ok(block_writer_chunk(w, x, v, 3, &err), &err);
    assert_ok(block_writer_commit(w, &meta, &err), &err);
    block_writer_close(w);
    buf_init(&text, 0);
    assert_ok(fs_read_file(fs, PATH "/meta.json", &text, &err), &err);
    assert_non_null(strstr(buf_cstr(&text), "\"ulid\": \"" ULID "\""));
    assert_non_null(strstr(buf_cstr(&text), "\"minTime\": 0"));
    assert_non_null(strstr(buf_cstr(&text), "\"maxTime\": 100"));
    assert_non_null(strstr(buf_cstr(&text), "\"numSamples\": 3"));
    assert_non_null(strstr(buf_cstr(&text), "\"version\": 1"));
    assert_non_null(strstr(buf_cstr(&text), "\"parents\""));
    assert_ok(block_open(&b, fs, cache, PATH, &err), &err);
    assert_int_equal(block_meta(b)->level, 2);
    assert_int_equal(block_meta(b)->n_sources, 2);
    assert_string_equal(block_meta(b)->sources[1], sources[1]);
    assert_int_equal(block_meta(b)->n_parents, 1);
    assert_int_equal(block_meta(b)->parents[0].max_ms, 50);
    assert_int_equal(block_meta(b)->bytes, meta.bytes);
    block_meta_done(&meta);
    block_unref(b);
    buf_done(&text);
    cache_free(cache);
    simfs_free(sim);
}

/* ---- faults --------------------------------------------------------------------------------- */

/* Nothing, or all of it: a folder with a block's name holds a whole block. */
static bool block_is_whole_or_absent(struct fs *fs, const struct model *m, const char *when,
                                     unsigned at)
{
    struct cache *cache = cache_new(1 << 20);
    struct block *b = NULL;
    struct fs_stat s;
    bool there = fs->stat(fs, PATH, &s, &err) == NX_OK;

    if (there) {
        if (block_open(&b, fs, cache, PATH, &err) != NX_OK || block_verify(b, &err) != NX_OK)
            fail_msg("%s %u: %s", when, at, err.text);
        assert_int_equal(block_meta(b)->n_samples, m->samples);
    }
    block_unref(b);
    cache_free(cache);
    return there;
}

static void a_power_cut_at_any_step_leaves_no_block_or_a_whole_one(void **state)
{
    struct model m = model_new(3, 20, 1);

    (void)state;
    for (unsigned seed = 1; seed <= 5; seed++) {
        for (unsigned cut = 1;; cut++) {
            struct simfs *sim = simfs_new(seed * 1000 + cut);
            bool finished, there;
            nx_status st;

            simfs_cut_power_at(sim, cut);
            st = write_model(simfs_fs(sim), &m, N_ROWS, NULL);
            finished = !simfs_power_was_cut(sim);
            simfs_restore_power(sim); /* cuts it now if it was not */
            there = block_is_whole_or_absent(simfs_fs(sim), &m, "power cut", cut);
            if (st == NX_OK)
                assert_true(there); /* what was promised is there */
            simfs_free(sim);
            if (finished)
                break;
            assert_in_range(cut, 1, 1000);
        }
    }
    model_free(&m);
}

static void an_error_at_any_step_is_reported_and_leaves_nothing_false(void **state)
{
    struct model m = model_new(3, 20, 1);

    (void)state;
    for (unsigned at = 1;; at++) {
        struct simfs *sim = simfs_new(at);
        bool failed;
        nx_status st;

        simfs_fail_at(sim, at);
        st = write_model(simfs_fs(sim), &m, N_ROWS, NULL);
        failed = simfs_failed(sim);
        simfs_heal(sim);
        if (failed && st == NX_OK)
            fail_msg("step %u failed and nobody said so", at);
        if (!block_is_whole_or_absent(simfs_fs(sim), &m, "error",
                                      at)) /* then it can be written again */
            assert_ok(write_model(simfs_fs(sim), &m, N_ROWS, NULL), &err);
        simfs_free(sim);
        if (!failed)
            break;
        assert_in_range(at, 1, 1000);
    }
    model_free(&m);
}

static void a_full_disk_is_reported_and_a_second_try_succeeds(void **state)
{
    struct model m = model_new(3, 20, 1);

    (void)state;
    for (uint64_t space = 0;; space += 997) {
        struct simfs *sim = simfs_new(1);
        nx_status st;

        simfs_set_space(sim, space);
        st = write_model(simfs_fs(sim), &m, N_ROWS, NULL);
        if (st) {
            assert_int_equal(st, NX_NOSPACE);
            assert_int_equal(simfs_used(sim), 0); /* the space came back */
            simfs_set_space(sim, UINT64_MAX);
            assert_ok(write_model(simfs_fs(sim), &m, N_ROWS, NULL), &err);
        }
        assert_true(block_is_whole_or_absent(simfs_fs(sim), &m, "space", (unsigned)space));
        simfs_free(sim);
        if (!st)
            break;
        assert_in_range(space, 0, 10 << 20);
    }
    model_free(&m);
}

static void out_of_memory_at_any_allocation_is_reported(void **state)
{
    struct model m = model_new(2, 6, 1);

    (void)state;
    for (unsigned n = 1;; n++) {
        struct simfs *sim = simfs_new(1);
        struct cache *cache = cache_new(1 << 20);
        struct chunk_scratch *s = chunk_scratch_new();
        struct arena *a = arena_new(0);
        struct samples got = {0};
        struct series_list list;
        struct block *b = NULL;
        bool failed;
        nx_status st;

        oom_fail_at(n);
        st = write_model(simfs_fs(sim), &m, N_ROWS, NULL);
        if (!st)
            st = block_open(&b, simfs_fs(sim), cache, PATH, &err);
        if (!st)
            st = block_select(b, NULL, 0, MIN_MS + 1, MAX_MS, a, &list, &err);
        if (!st)
            st = block_read(b, 3, MIN_MS, MAX_MS, &got, s, &err);
        failed = oom_off();
        if (st && (!failed || st != NX_NOMEM))
            fail_msg("allocation %u: %s: %s", n, nx_status_text(st), err.text);
        samples_done(&got);
        block_unref(b);
        arena_free(a);
        chunk_scratch_free(s);
        cache_free(cache);
        simfs_free(sim);
        if (!failed)
            break;
        assert_in_range(n, 1, 3000);
    }
    model_free(&m);
}

/* What is left of a block with a flipped byte: it does not open, or says so on verifying, and whatever
 * samples it still gives are right. Returns how many it gives without complaint. */
static uint64_t survey_damaged(struct fs *fs, const struct model *m, const char *file, uint64_t off)
{
    struct cache *cache = cache_new(1 << 20);
    struct chunk_scratch *s = chunk_scratch_new();
    struct arena *a = arena_new(0);
    struct samples got = {0};
    struct series_list list = {NULL, 0};
    struct block *b = NULL;
    struct block_reader *reader = block_reader_new();
    uint64_t right = 0;
    nx_status st = block_open(&b, fs, cache, PATH, &err);

    if (!st && block_verify(b, &err) != NX_CORRUPT)
        fail_msg("%s: a flip at %llu went unseen", file, (unsigned long long)off);
    if (!st)
        st = block_select(b, NULL, 0, INT64_MIN, INT64_MAX, a, &list, &err);
    if (st && st != NX_CORRUPT)
        fail_msg("%s at %llu: %s", file, (unsigned long long)off, err.text);
    for (size_t i = 0; i < list.n && !st; i++) {
        const struct model_series *want = &m->s[list.v[i].ref];
        size_t k = 0;
        nx_status read;

        got.n = 0;
        read = off % 2 ? block_read(b, list.v[i].ref, INT64_MIN, INT64_MAX, &got, s, &err)
                       : block_reader_read(reader, b, list.v[i].ref, INT64_MIN, INT64_MAX, false,
                                           &got, s, &err);
        if (read) {
            assert_int_equal(read, NX_CORRUPT);
            assert_non_null(strstr(err.text, ULID));
            assert_true(block_pages_damaged(b) > 0);
        } else {
            assert_int_equal(got.n, want->n);
        }
        for (size_t p = 0; p < got.n; p++) { /* never a sample that was not written */
            while (k < want->n && want->t[k] < got.t[p])
                k++;
            assert_true(k < want->n && want->t[k] == got.t[p] &&
                        num_bits(want->x[k]) == num_bits(got.v[p]));
        }
        right += read ? 0 : got.n;
    }
    samples_done(&got);
    block_reader_free(reader);
    block_unref(b);
    cache_free(cache);
    chunk_scratch_free(s);
    arena_free(a);
    return right;
}

static void every_flipped_bit_is_detected_and_contained(void **state)
{
    static const char *const files[] = {"meta.json", "index", "chunks"};
    struct model m = model_new(9, 60, 1); /* several pages of chunks */
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    uint64_t partly = 0;

    (void)state;
    assert_ok(write_model(fs, &m, N_ROWS, NULL), &err);
    for (size_t i = 0; i < NX_COUNT(files); i++) {
        char path[256];
        struct fs_stat size;
        uint64_t step;

        snprintf(path, sizeof path, PATH "/%s", files[i]);
        assert_ok(fs->stat(fs, path, &size, &err), &err);
        step = size.bytes / 150 + 1;
        for (uint64_t off = 0; off < size.bytes;
             off += off < 64 || off + 64 > size.bytes ? 1 : step) {
            uint64_t right;
            const uint8_t mask = (uint8_t)(1 << off % 8);

            assert_true(simfs_flip(sim, path, off, mask));
            right = survey_damaged(fs, &m, files[i], off);
            assert_true(right < m.samples || i < 2);
            if (i == 2 && right > 0)
                partly++;
            assert_true(simfs_flip(sim, path, off, mask));
        }
    }
    assert_true(partly > 50); /* a damaged page of chunks costs that page, not the block */
    simfs_free(sim);
    model_free(&m);
}

static void a_damaged_page_names_block_series_and_times(void **state)
{
    struct model m = model_new(9, 60, 1);
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct cache *cache = cache_new(1 << 20);
    struct chunk_scratch *s = chunk_scratch_new();
    struct samples got = {0};
    struct block *b;

    (void)state;
    assert_ok(write_model(fs, &m, N_ROWS, NULL), &err);
    assert_true(simfs_flip(sim, PATH "/chunks", 100, 0x10)); /* in the first page */
    assert_ok(block_open(&b, fs, cache, PATH, &err), &err);
    for (int i = 0; i < 3; i++) { /* found again, counted once */
        assert_status(block_read(b, 0, INT64_MIN, INT64_MAX, &got, s, &err), NX_CORRUPT);
        assert_int_equal(got.n, 0);
        assert_int_equal(block_pages_damaged(b), 1);
    }
    assert_non_null(strstr(err.text, ULID));
    assert_non_null(strstr(err.text, "metric_0_total{host=\"host-000\""));
    if (!strstr(err.text, "from 1735691100000 to 173569"))
        fail_msg("%s", err.text);
    assert_ok(block_read(b, m.n - 1, INT64_MIN, INT64_MAX, &got, s, &err), &err);
    assert_int_equal(got.n, m.s[m.n - 1].n);
    assert_status(block_read(b, 0, INT64_MIN, INT64_MAX, &got, s, NULL),
                  NX_CORRUPT); /* no text wanted */
    samples_done(&got);
    block_unref(b);
    cache_free(cache);
    chunk_scratch_free(s);
    simfs_free(sim);
    model_free(&m);
}

static void a_cut_file_and_a_foreign_file_are_refused(void **state)
{
    static const char *const files[] = {"meta.json", "index", "chunks"};
    struct model m = model_new(2, 6, 1);
    struct cache *cache = cache_new(1 << 20);
    struct block *b;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(files); i++) {
        struct simfs *sim = simfs_new(1);
        struct fs *fs = simfs_fs(sim);
        struct fs_file *f;
        char path[256];
        uint64_t bytes;

        assert_ok(write_model(fs, &m, N_ROWS, NULL), &err);
        snprintf(path, sizeof path, PATH "/%s", files[i]);
        assert_ok(fs->open(fs, path, FS_READ | FS_WRITE, &f, &err), &err);
        assert_ok(fs->size(fs, f, &bytes, &err), &err);
        for (uint64_t cut = bytes; cut-- > 0;) {
            assert_ok(fs->truncate(fs, f, cut, &err), &err);
            assert_status(block_open(&b, fs, cache, PATH, &err), NX_CORRUPT);
            cut -= cut > 200 ? cut / 20 : 0;
        }
        fs->close(fs, f);
        assert_ok(fs->unlink(fs, path, &err), &err);
        assert_status(block_open(&b, fs, cache, PATH, &err), NX_NOTFOUND);
        simfs_free(sim);
    }
    cache_free(cache);
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_read_as_it_was_written),
        cmocka_unit_test(matchers_select_what_a_scan_would),
        cmocka_unit_test(series_without_samples_in_the_range_are_left_out),
        cmocka_unit_test(names_and_values_are_listed),
        cmocka_unit_test(many_pages_are_found_through_a_small_cache),
        cmocka_unit_test(threads_read_one_block),
        cmocka_unit_test(a_writer_refuses_what_breaks_the_order),
        cmocka_unit_test(ulids_ascend_and_are_valid),
        cmocka_unit_test(meta_json_is_what_prometheus_tools_read),
        cmocka_unit_test(a_power_cut_at_any_step_leaves_no_block_or_a_whole_one),
        cmocka_unit_test(an_error_at_any_step_is_reported_and_leaves_nothing_false),
        cmocka_unit_test(a_full_disk_is_reported_and_a_second_try_succeeds),
        cmocka_unit_test(out_of_memory_at_any_allocation_is_reported),
        cmocka_unit_test(every_flipped_bit_is_detected_and_contained),
        cmocka_unit_test(a_damaged_page_names_block_series_and_times),
        cmocka_unit_test(a_cut_file_and_a_foreign_file_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
