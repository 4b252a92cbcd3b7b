/* From bodies to rows: whatever is cheap must give what the plain way gives. */
#include "../support/test.h"
#include "../support/oom.h"
#define FAKE_PAUSE()  oom_pause()
#define FAKE_RESUME() oom_resume()
#include "model.h"

struct bench { /* one target, with all it needs */
    struct nx_mutex lock;
    struct ingest_env env;
    struct ingest in;
    struct ingest_scratch s;
    struct sample_rules rules;
    struct label own[2];
    struct labels labels;
    struct ingest_target t;
    struct model m;
    int64_t now;
    struct ingest_result res;
    struct nx_err err;
};

static void bench_init(struct bench *b)
{
    memset(b, 0, sizeof *b);
    nx_mutex_init(&b->lock, NX_RANK_TARGET);
    b->env = (struct ingest_env){.pool = intern_new(), .status_lock = &b->lock};
    b->own[0] = (struct label){STR("instance"), STR("i")};
    b->own[1] = (struct label){STR("job"), STR("j")};
    b->labels = (struct labels){b->own, 2};
    b->rules.honor_timestamps = true;
    b->t = (struct ingest_target){&b->rules, &b->labels};
    b->now = 1700000000000;
    assert_int_equal(ingest_scratch_init(&b->s, NULL), NX_OK);
}

static void bench_done(struct bench *b)
{
    model_free(b->m.prev, b->m.n_prev);
    ingest_done(&b->in, b->env.pool);
    ingest_scratch_done(&b->s);
    assert_int_equal(fake.columns, 0);
    assert_int_equal(fake.groups, 0);
    assert_int_equal(intern_count(b->env.pool), 0);
    intern_free(b->env.pool);
    nx_mutex_done(&b->lock);
    fake_forget();
}

/* One scrape as the model checks it. */
static nx_status feed(struct bench *b, enum expo_format f, const char *bytes, size_t len)
{
    char *body = malloc(len + 1);
    nx_status st;

    memcpy(body, bytes, len);
    body[len] = '\n';
    b->now += 15000;
    st = model_check(&b->m, &b->in, &b->env, &b->t, &b->s, f, body, len, b->now);
    model_check_columns(&b->in);
    free(body);
    return st;
}

static nx_status feed_text(struct bench *b, const char *text)
{
    return feed(b, EXPO_TEXT, text, strlen(text));
}

/* One scrape without the model; the row is in fake.log, the counts in b->res. */
static nx_status scrape(struct bench *b, const char *text)
{
    const double reports[] = {1, 0.5, 3, 4, 5};
    size_t len = strlen(text);
    char *body = malloc(len + 1);
    nx_status st;

    memcpy(body, text, len);
    body[len] = '\n';
    b->now += 15000;
    fake.n_log = 0;
    b->err.text[0] = '\0';
    st = ingest_body(&b->in, &b->env, &b->t, EXPO_TEXT, body, len, b->now, &b->s, &b->res, &b->err);
    assert_ok(ingest_commit(&b->in, &b->env, &b->t, b->now, reports, 5, &b->s, &b->res, NULL),
              &b->err);
    free(body);
    return st;
}

/* The sample of `series` in the row; fails if it is not there. */
static double logged(const char *series)
{
    for (size_t i = 0; i < fake.n_log; i++)
        if (strcmp(fake.log[i].series, series) == 0)
            return fake.log[i].value;
    fail_msg("no sample of %s", series);
    return 0;
}

static size_t count_logged(const char *series)
{
    size_t n = 0;

    for (size_t i = 0; i < fake.n_log; i++)
        n += strcmp(fake.log[i].series, series) == 0;
    return n;
}

#define OWN "instance=\"i\", job=\"j\"}"

/* ---- bodies that change ---------------------------------------------------------------------------- */

static void lines_that_move_come_and_go_keep_their_series(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(feed_text(&b, "a 1\nb{x=\"1\"} 2\nc 3\n"), NX_OK);
    assert_int_equal(feed_text(&b, "a 1\nb{x=\"1\"} 5\nc 3\n"), NX_OK); /* values */
    assert_int_equal(feed_text(&b, "a 1\nnew 9\nb{x=\"1\"} 2\nc 3\n"), NX_OK);
    assert_int_equal(feed_text(&b, "c 1\nb{x=\"1\"} 2\na 3\n"), NX_OK); /* order; new is gone */
    assert_int_equal(feed_text(&b, "c 1\n"), NX_OK);
    assert_int_equal(feed_text(&b, "c 1\nc 2\nb{x=\"1\"} 2\n"), NX_OK); /* twice */
    assert_int_equal(feed_text(&b, "c 1\nc 2\nb{x=\"1\"} 2\n"), NX_OK);
    assert_int_equal(feed_text(&b, "b{x=\"1\"} 2\nc 2\n"), NX_OK);
    assert_int_equal(feed_text(&b, "b{ x=\"1\", } 7\nb{x=\"1\"} 2\n"),
                     NX_OK); /* two texts, one series */
    assert_int_equal(feed_text(&b, "b{x=\"1\"} 2\nb{ x=\"1\", } 7\n"), NX_OK);
    assert_int_equal(feed_text(&b, "b{x=\"1\"} 2 1700000000000\nc 1\n"),
                     NX_OK); /* a timestamp comes */
    assert_int_equal(feed_text(&b, "b{x=\"1\"} 2 1700000001000\nc 1\n"), NX_OK);
    assert_int_equal(feed_text(&b, "b{x=\"1\"} 2 1900000001000\nc 1\n"),
                     NX_OK);                                       /* far in the future */
    assert_int_equal(feed_text(&b, "b{x=\"1\"} 2\nc 1\n"), NX_OK); /* and goes */
    assert_int_equal(feed_text(&b, "b{x=\"1\"} 2\nc\n"), NX_BADINPUT);
    assert_int_equal(feed_text(&b, "b{x=\"1\"} 2\nc 1\n"), NX_OK);
    assert_int_equal(feed_text(&b, ""), NX_OK);
    bench_done(&b);
}

static void types_decide_what_a_bucket_is_called(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(feed_text(&b, "# TYPE x histogram\nx_bucket{le=\"1\"} 1\nx_sum 2\n"), NX_OK);
    assert_int_equal(feed_text(&b, "# TYPE x histogram\nx_bucket{le=\"1\"} 1\nx_sum 3\n"), NX_OK);
    assert_int_equal(feed_text(&b, "# TYPE x gauge\nx_bucket{le=\"1\"} 1\nx_sum 2\n"), NX_OK);
    assert_int_equal(
        feed_text(&b, "x_bucket{le=\"1\"} 1\n# TYPE x histogram\nx_bucket{le=\"1\"} 1\n"), NX_OK);
    assert_int_equal(
        feed_text(&b, "x_bucket{le=\"1\"} 1\n# TYPE x histogram\nx_bucket{le=\"1\"} 1\n"), NX_OK);
    bench_done(&b);
}

static void odd_lines_are_known_again(void **state)
{
    static const char text[] =
        "#comment\n\n#  HELP  x  spaced \n# TYPE x untyped\nx 1e999999999999999999999999999e\n";
    static const char good[] = "#comment\n\n#  HELP  x  spaced \n# HELP x\n# TYPE x untyped\nx "
                               "+5\n\n\ny\t7\n# TYPE \"q.x\" gauge\n{\"q.x\"} 1\n";
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(feed_text(&b, good), NX_OK);
    assert_int_equal(feed_text(&b, good), NX_OK);
    assert_false(b.s.changed);
    assert_int_equal(feed_text(&b, text), NX_BADINPUT);
    assert_int_equal(feed_text(&b, good), NX_OK);
    bench_done(&b);
    bench_init(&b);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            feed(&b, EXPO_OPENMETRICS,
                 LIT("# TYPE x counter\nx_total 1 # {a=\"b\"} 2 3\ny 1 2.5\n# EOF\n").ptr,
                 LIT("# TYPE x counter\nx_total 1 # {a=\"b\"} 2 3\ny 1 2.5\n# EOF\n").len),
            NX_OK);
    assert_false(b.s.changed);
    bench_done(&b);
}

/* ---- recorded expositions, mutated ------------------------------------------------------------------ */

struct lines {
    struct nx_slice v[6000];
    size_t n;
};

static void split(const char *p, size_t len, struct lines *out)
{
    out->n = 0;
    for (const char *end = p + len; p < end && out->n < NX_COUNT(out->v);) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        nl = nl ? nl : end;
        out->v[out->n++] = nx_slice_of(p, (size_t)(nl - p));
        p = nl + 1;
    }
}

/* Some lines go, come twice, change places; some values change, some get timestamps. */
static void mutate(const struct lines *from, struct test_random *r, struct buf *out, bool text)
{
    uint64_t rate = 1 + test_random_below(r, 400);

    for (size_t i = 0; i < from->n; i++) {
        struct nx_slice l = from->v[i];
        uint64_t dice = test_random_below(r, rate * 8);
        if (nx_slice_is(l, "# EOF"))
            break;
        if (dice == 0)
            continue;
        if (dice == 1)
            l = from->v[test_random_below(r, from->n - 1)];
        if (nx_slice_is(l, "# EOF"))
            continue;
        buf_slice(out, l);
        if (dice == 2 && l.len && l.ptr[0] != '#')
            buf_str(out, "5");
        if (dice == 3 && l.len && l.ptr[0] != '#' && text)
            buf_str(out, " 1699999999000");
        buf_char(out, '\n');
        if (dice == 4)
            buf_printf(out, "fresh_%llu{a=\"b\"} 1\n", (unsigned long long)test_random_below(r, 5));
        if (dice == 5)
            i--;
    }
    if (!text)
        buf_str(out, "# EOF\n");
}

static void recorded_bodies_survive_mutation(void **state)
{
    static const char *const files[] = {"python-client.txt", "python-client.om.txt",
                                        "prom-client.txt", "alertmanager.txt"};
    const char *dir = test_shared_dir();
    struct lines *lines = malloc(sizeof *lines);

    (void)state;
    if (!dir) {
        free(lines);
        skip();
    }
    for (size_t i = 0; i < NX_COUNT(files); i++) {
        struct test_random r = {i + 1};
        struct buf file, body;
        struct bench b;
        char path[512];
        bool text = !strstr(files[i], ".om.");
        snprintf(path, sizeof path, "%s/exposition/%s", dir, files[i]);
        buf_init(&file, 0);
        buf_init(&body, 0);
        assert_int_equal(fs_read_file(fs_real(), path, &file, NULL), NX_OK);
        split(file.ptr, file.len, lines);
        bench_init(&b);
        for (int round = 0; round < 25; round++) {
            buf_clear(&body);
            if (round % 3 == 2)
                buf_slice(&body, buf_view(&file));
            else
                mutate(lines, &r, &body, text);
            feed(&b, text ? EXPO_TEXT : EXPO_OPENMETRICS, body.ptr,
                 body.len); /* right or wrong: the model knows */
        }
        bench_done(&b);
        buf_done(&file);
        buf_done(&body);
    }
    free(lines);
}

/* ---- budgets ---------------------------------------------------------------------------------------- */

static void an_unchanged_scrape_allocates_nothing(void **state)
{
    static const char text[] =
        "# HELP a help\n# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 2.5\n# TYPE h histogram\n"
        "h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1e+06\nh_sum 1.5e-07\nh_count 3\na{x=\"1\"} "
        "2\n"
        "s 5 1700000000000\nz NaN\n";
    struct bench b;
    bool allocated;

    (void)state;
    bench_init(&b);
    for (int i = 0; i < 3; i++)
        assert_int_equal(scrape(&b, text), NX_OK);
    {
        const double reports[] = {1, 0.5, 3, 4, 5};
        static char body[sizeof text];
        memcpy(body, text, sizeof text);
        body[sizeof text - 1] = '\n';
        fake.n_log = 0;
        oom_fail_from(1);
        nx_status st = ingest_body(&b.in, &b.env, &b.t, EXPO_TEXT, body, sizeof text - 1, b.now + 1,
                                   &b.s, &b.res, &b.err);
        nx_status append =
            ingest_commit(&b.in, &b.env, &b.t, b.now + 1, reports, 5, &b.s, &b.res, &b.err);
        ingest_scratch_trim(&b.s);
        allocated = oom_off();
        assert_int_equal(st, NX_OK);
        assert_int_equal(append, NX_OK);
    }
    assert_false(b.s.changed);
    assert_false(allocated);
    bench_done(&b);
}

static void a_layout_is_small(void **state)
{
    struct buf text;
    struct bench b;

    (void)state;
    bench_init(&b);
    buf_init(&text, 0);
    for (int i = 0; i < 1000; i++)
        buf_printf(&text,
                   "http_request_duration_seconds_bucket{handler=\"/api/v1/items/"
                   "%d\",method=\"GET\",le=\"%d\"} %d\n",
                   i / 10, i % 10, i);
    assert_int_equal(scrape(&b, buf_cstr(&text)), NX_OK);
    assert_in_range(layout_bytes(&b.in.layout), 4000, 20000); /* of a body of 80000 */
    buf_done(&text);
    bench_done(&b);
}

static void running_out_of_memory_loses_nothing(void **state)
{
    static const char before[] = "# HELP a help\na 1\nb 2\ns 1 1700000000000\n";
    static const char after[] = "# HELP a other\n# TYPE b gauge\na 1\nc{x=\"q\\\\\"} 2\nd 4\ns 1 "
                                "1700000000001\nt 1 1700000000001\n";
    size_t len = strlen(after);
    char *body = malloc(len + 1);

    (void)state;
    memcpy(body, after, len);
    body[len] = '\n';
    for (unsigned n = 1; n < 500; n++) {
        const double reports[] = {1, 0.5, 3, 4, 5};
        struct bench b;
        nx_status st;
        bench_init(&b);
        assert_int_equal(scrape(&b, before), NX_OK);
        ingest_scratch_done(&b.s); /* all of it has to be made again */
        assert_int_equal(ingest_scratch_init(&b.s, NULL), NX_OK);
        oom_fail_at(n);
        st = ingest_body(&b.in, &b.env, &b.t, EXPO_TEXT, body, len, b.now + 1000, &b.s, &b.res,
                         &b.err);
        if (!oom_off()) {
            assert_int_equal(st, NX_OK);
            bench_done(&b);
            free(body);
            assert_in_range(n, 10, 499);
            return;
        }
        assert_true(st == NX_OK || st == NX_NOMEM);
        st = ingest_commit(&b.in, &b.env, &b.t, b.now + 1000, reports, 5, &b.s, &b.res, &b.err);
        assert_true(st == NX_OK || st == NX_NOMEM);
        assert_int_equal(scrape(&b, after), NX_OK); /* and the next one is right again */
        assert_true(logged("d{" OWN) == 4);
        assert_true(logged("a{" OWN) == 1);
        bench_done(&b);
    }
    fail();
}

/* ---- exemplars -------------------------------------------------------------------------------------- */

static nx_status feed_open_metrics(struct bench *b, const char *text)
{
    return feed(b, EXPO_OPENMETRICS, text, strlen(text));
}

/* SCR-038, SCR-094: whatever pass a line takes, its exemplar goes to its series; the model compares. */
static void exemplars_follow_their_samples(void **state)
{
    static const char *const bodies[] = {
        "# TYPE a counter\na_total 1 # {id=\"1\"} 0.5\nb 2\n# EOF\n",
        "# TYPE a counter\na_total 2 # {id=\"2\"} 0.5 1700000001.5\nb 2\n# EOF\n", /* steady */
        "# TYPE a counter\na_total 3\nb 2\n# EOF\n",                               /* none */
        "# TYPE a counter\nnew 1 # {} 7\na_total 3 # {id=\"3\",x=\"\"} NaN\nb 2 # {q=\"\\\"\\n\"} "
        "1\n# EOF\n",                                                              /* a line more */
        "# TYPE a counter\nb 2 # {id=\"4\"} 1\na_total 4 # {id=\"5\"} 1\n# EOF\n", /* moved */
        "b 2 # {id=\"4\"} 1\nb 3 # {id=\"5\"} 1\n# EOF\n",                         /* twice */
        "s 1 1700000000.25 # {id=\"6\"} 1\nt 1 1700000000.25 # {id=\"7\"} 1 1\n# EOF\n",
        "s 1 1700000001.25 # {id=\"6\"} 1\nt 1 1700000000.5 # {id=\"7\"} 1 1\n# EOF\n",
        "s 1 # {id=\"8\"} 1\nt 1 bad\n# EOF\n", /* fails: nothing is stored */
        "s 1 # {id=\"8\"} 1\nt 1\n# EOF\n",
    };
    struct bench b;

    (void)state;
    for (int honor = 0; honor < 2; honor++) {
        bench_init(&b);
        b.rules.honor_timestamps = honor;
        for (size_t i = 0; i < NX_COUNT(bodies); i++)
            assert_int_equal(feed_open_metrics(&b, bodies[i]) == NX_OK, i != 8);
        bench_done(&b);
    }
}

static nx_status scrape_exemplars(struct bench *b, const char *body)
{
    const double reports[] = {1, 0.5, 3, 4, 5};
    struct buf fenced;
    nx_status st;

    buf_init(&fenced, 0);
    buf_str(&fenced, body);
    buf_char(&fenced, '\n');
    b->now += 15000;
    st = ingest_body(&b->in, &b->env, &b->t, EXPO_OPENMETRICS, fenced.ptr, fenced.len - 1, b->now,
                     &b->s, &b->res, &b->err);
    assert_ok(ingest_commit(&b->in, &b->env, &b->t, b->now, reports, 5, &b->s, &b->res, NULL),
              &b->err);
    buf_done(&fenced);
    return st;
}

/* SCR-085 */
static void refused_exemplars_are_counted_and_fail_nothing(void **state)
{
    static const char body[] = "a 1 # {id=\"1\"} 1\nb 2\nc 1 # {id=\"2\"} 1\n# EOF\n";
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(scrape_exemplars(&b, body), NX_OK); /* off: the fake fails if it is asked */
    assert_int_equal(fake.n_exemplars, 0);
    fake.keeps_exemplars = true;
    assert_int_equal(scrape_exemplars(&b, body), NX_OK);
    assert_int_equal(b.res.exemplar_out_of_order, 0);
    assert_int_equal(fake.n_exemplars, 2);
    assert_string_equal(fake.exemplars[1].text, "{id=\"2\"} 1 1700000030000 0");
    fake.exemplar_result = EXEMPLAR_OLD;
    assert_int_equal(scrape_exemplars(&b, body), NX_OK);
    assert_int_equal(b.res.exemplar_out_of_order, 2);
    fake.exemplar_result = EXEMPLAR_SAME;
    assert_int_equal(scrape_exemplars(&b, body), NX_OK);
    assert_int_equal(b.res.exemplar_out_of_order, 0);
    /* a series that the store did not take has none; nor has a scrape that fails */
    fake_forget_exemplars();
    fake.refuse_after = fake.n_series;
    assert_int_equal(scrape_exemplars(&b, "a 1 # {id=\"1\"} 1\nd 2 # {} 1\n# EOF\n"), NX_OK);
    assert_int_equal(b.res.refused, 1);
    assert_int_equal(fake.n_exemplars, 1);
    b.rules.sample_limit = 1;
    assert_int_equal(scrape_exemplars(&b, "a 1 # {id=\"1\"} 1\nb 2 # {} 1\n# EOF\n"), NX_LIMIT);
    assert_int_equal(fake.n_exemplars, 1);
    bench_done(&b);
}

static void without_memory_only_exemplars_are_missing(void **state)
{
    static const char body[] = "a 1 # {id=\"1\"} 1\nb 2\nc 1 # {id=\"2\"} 1\n# EOF\n";

    (void)state;
    for (unsigned n = 1; n < 100; n++) {
        struct bench b;
        bool failed;
        bench_init(&b);
        for (int i = 0; i < 2; i++)
            assert_int_equal(scrape_exemplars(&b, body), NX_OK);
        fake.keeps_exemplars = true;
        size_t len = strlen(body);
        char *fenced = malloc(len + 1);
        memcpy(fenced, body, len);
        fenced[len] = '\n';
        oom_fail_at(n);
        nx_status st = ingest_body(&b.in, &b.env, &b.t, EXPO_OPENMETRICS, fenced, len,
                                   b.now + 15000, &b.s, &b.res, &b.err);
        failed = oom_off();
        free(fenced);
        assert_int_equal(st, NX_OK); /* a known layout: all allocations are for exemplars */
        assert_true(failed ? fake.n_exemplars < 2 : fake.n_exemplars == 2);
        fake_forget_exemplars();
        assert_int_equal(scrape_exemplars(&b, body), NX_OK);
        assert_int_equal(fake.n_exemplars, 2);
        bench_done(&b);
        if (!failed) {
            assert_in_range(n, 2, 99);
            return;
        }
    }
    fail();
}

/* ---- rules ------------------------------------------------------------------------------------------ */

static void labels_in_conflict_are_exported_or_honored(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(scrape(&b, "x{job=\"a\",exported_job=\"b\"} 1\ny{instance=\"\"} 2\n"),
                     NX_OK); /* SCR-066 */
    assert_true(logged("x{exported_exported_job=\"a\", exported_job=\"b\", " OWN) == 1);
    assert_true(logged("y{" OWN) == 2);
    b.rules.honor_labels = true; /* SCR-067 */
    ingest_relearn(&b.in);
    assert_int_equal(scrape(&b, "x{job=\"a\",exported_job=\"b\"} 1\ny{instance=\"\"} 2\n"), NX_OK);
    assert_true(logged("x{exported_job=\"b\", instance=\"i\", job=\"a\"}") == 1);
    assert_true(logged("y{job=\"j\"}") == 2);
    assert_true(
        num_is_stale(logged("y{" OWN))); /* labels are made otherwise: the old series ended */
    bench_done(&b);
}

static void limits_fail_the_whole_scrape(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(scrape(&b, "a 1\nb 2\n"), NX_OK);
    assert_int_equal(b.res.added, 2);
    b.rules.sample_limit = 2;
    assert_int_equal(scrape(&b, "a 1\nb 2\nc 3\nd 4\n"), NX_LIMIT); /* SCR-071 */
    assert_string_equal(b.err.text, "sample limit exceeded");
    assert_true(b.res.sample_limit);
    assert_int_equal(b.res.scraped, 4);
    assert_int_equal(b.res.post_relabel, 4);
    assert_true(num_is_stale(logged("a{" OWN)));
    assert_int_equal(count_logged("c{" OWN), 0);
    assert_int_equal(fake.columns, 2 + 5);
    assert_int_equal(scrape(&b, "a 1\nb 2\nb 3\n"),
                     NX_OK); /* a duplicate is not stored: two samples */
    assert_int_equal(b.res.duplicate, 1);
    assert_int_equal(b.res.added, 0);
    b.rules.label_limit = 3;
    assert_int_equal(scrape(&b, "a 1\nb{x=\"1\"} 2\n"), NX_BADINPUT);
    assert_string_equal(b.err.text,
                        "label_limit exceeded (metric: b, number of labels: 4, limit: 3)");
    assert_true(b.res.label_limit);
    assert_int_equal(b.res.scraped, 2); /* the sample that ends the scrape counts */
    assert_int_equal(scrape(&b, "a 1\nb{x=\"1\"} 2\n"), NX_BADINPUT);
    assert_int_equal(b.res.scraped, 2); /* by the layout's way, too */
    b.rules.label_limit = 0;
    b.rules.label_name_limit = 8;
    assert_int_equal(scrape(&b, "b{long_name=\"1\"} 2\n"), NX_BADINPUT);
    assert_string_equal(
        b.err.text,
        "label_name_length_limit exceeded (metric: b, label name: long_name, length: 9, limit: 8)");
    b.rules.label_name_limit = 0;
    b.rules.label_value_limit = 3;
    assert_int_equal(scrape(&b, "b{x=\"four\"} 2\n"), NX_BADINPUT);
    assert_string_equal(b.err.text, "label_value_length_limit exceeded (metric: b, label name: x, "
                                    "value: \"four\", length: 4, limit: 3)");
    assert_int_equal(scrape(&b, "b{x=\"1\",x=\"2\"} 2\n"), NX_BADINPUT); /* SCR-029 */
    assert_string_equal(b.err.text, "label name \"x\" is not unique: invalid sample");
    bench_done(&b);
}

static void an_exposed_up_wins_over_the_report(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(scrape(&b, "a 1\nup 7\n"), NX_OK); /* SCR-090 */
        assert_int_equal(count_logged("up{" OWN), 1);
        assert_true(logged("up{" OWN) == 7);
    }
    assert_int_equal(scrape(&b, "a 1\n"), NX_OK);
    assert_int_equal(count_logged("up{" OWN), 1);
    assert_true(logged("up{" OWN) == 1);
    bench_done(&b);
}

static void failed_scrapes_end_series_once(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(scrape(&b, "a 1\nb 2\n"), NX_OK);
    assert_int_equal(scrape(&b, "a 1\nb\n"), NX_BADINPUT); /* SCR-076 */
    assert_int_equal(b.res.scraped, 1);
    assert_true(num_is_stale(logged("a{" OWN)) && num_is_stale(logged("b{" OWN)));
    assert_int_equal(count_logged("up{" OWN), 1);
    assert_int_equal(scrape(&b, "a 1\nb\n"), NX_BADINPUT);
    assert_int_equal(fake.n_log, 5); /* the reports alone */
    assert_int_equal(scrape(&b, "a 1\n"), NX_OK);
    assert_int_equal(b.res.added, 0); /* known since before */
    assert_int_equal(count_logged("b{" OWN), 0);
    bench_done(&b);
}

static void samples_with_timestamps_end_only_if_tracked(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(scrape(&b, "a 1 1700000000000\nb 2\n"), NX_OK);
    assert_true(fake.log[0].t_ms == 1700000000000);
    assert_int_equal(scrape(&b, "b 2\n"), NX_OK); /* SCR-077 */
    assert_int_equal(count_logged("a{" OWN), 0);
    b.rules.track_timestamps = true;
    assert_int_equal(scrape(&b, "a 1 1700000000000\nb 2\n"), NX_OK);
    assert_int_equal(scrape(&b, "b 2\n"), NX_OK);
    assert_true(num_is_stale(logged("a{" OWN)));
    b.rules.honor_timestamps = false; /* SCR-070 */
    assert_int_equal(scrape(&b, "a 1 1700000000000\nb 2\n"), NX_OK);
    assert_true(fake.log[0].t_ms == b.now);
    bench_done(&b);
}

/* A few lines of one time, and one of a time of its own. */
static void many_of(char *text, size_t size, int n, long long t, long long own)
{
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += (size_t)snprintf(text + len, size - len, "a%d %d %lld\n", i, i, t);
    snprintf(text + len, size - len, "own 3 %lld\nplain 4\n", own);
}

static void samples_of_one_time_share_a_group(void **state)
{
    struct bench b;
    char text[2048];

    (void)state;
    bench_init(&b);
    many_of(text, sizeof text, 8, 1700000000000, 1700000000500);
    assert_int_equal(scrape(&b, text), NX_OK);
    assert_int_equal(fake.groups, 3); /* the row's, the eight's, and the loose one */
    assert_int_equal(fake.loose_groups, 1);
    for (int i = 1; i < 4; i++) {
        many_of(text, sizeof text, 8 + i, 1700000000000 + i * 1000, 1700000000500 + i * 1000);
        assert_int_equal(feed_text(&b, text), NX_OK);
        assert_int_equal(fake.groups, 3); /* who comes later joins the eight */
    }
    assert_int_equal(feed_text(&b, "a0 1 1700000010000\na1 2 1700000009000\n"),
                     NX_OK); /* they part: two rows */
    assert_int_equal(fake.groups, 3);
    assert_int_equal(feed_text(&b, "x 1\n"), NX_OK);
    assert_int_equal(fake.groups, 2); /* the loose one stays with its target */
    assert_int_equal(fake.loose_groups, 1);
    bench_done(&b);
}

static void samples_of_few_go_in_one_batch(void **state)
{
    struct bench b;
    char text[2048];

    (void)state;
    bench_init(&b);
    many_of(text, sizeof text, 7, 1700000000000, 1700000000500);
    assert_int_equal(scrape(&b, text), NX_OK);
    assert_int_equal(fake.groups, 2);
    assert_int_equal(fake.batches, 1);
    assert_int_equal(feed_text(&b, text), NX_OK);
    assert_int_equal(fake.batches, 2);
    assert_int_equal(feed_text(&b, "x 1\n"), NX_OK);
    assert_int_equal(fake.batches, 2);
    bench_done(&b);
}

static void a_group_whose_series_part_is_dissolved(void **state)
{
    struct bench b;
    char text[4096], apart[4096];
    size_t len = 0;

    (void)state;
    bench_init(&b);
    many_of(text, sizeof text, 70, 1700000000000, 1700000000500);
    assert_int_equal(feed_text(&b, text), NX_OK);
    assert_int_equal(fake.groups, 3);
    for (int i = 0; i < 70; i++)
        len += (size_t)snprintf(apart + len, sizeof apart - len, "a%d %d %lld\n", i, i,
                                1700000001000LL + i);
    snprintf(apart + len, sizeof apart - len, "own 3 1700000001500\nplain 4\n");
    assert_int_equal(feed_text(&b, apart), NX_OK);
    assert_int_equal(fake.moved, 70);
    assert_int_equal(fake.groups, 2);
    assert_int_equal(feed_text(&b, text), NX_OK); /* once apart they stay where they are */
    assert_int_equal(fake.groups, 2);
    assert_int_equal(feed_text(&b, "x 1\n"), NX_OK);
    bench_done(&b);
}

/* SCR-084; of a series that comes twice, the store judges the first line first. */
static void samples_of_one_series_keep_their_order(void **state)
{
    static const double want[] = {1, 2, 3, 4};
    struct bench b;
    char text[2048];

    (void)state;
    bench_init(&b);
    assert_int_equal(scrape(&b, "a 1 1700000010000\na 2 1700000009000\na{} 3 1700000010000\n"
                                "a 4 1700000011000\n"),
                     NX_OK);
    for (size_t i = 0; i < 4; i++)
        assert_true(fake.log[i].value == want[i]);
    many_of(text, sizeof text, 9, 1700000000000, 1700000000500);
    assert_int_equal(scrape(&b, text), NX_OK);
    strcat(text, "a0 20 1600000000000\na0 21 1500000000000\n");
    assert_int_equal(scrape(&b, text), NX_OK);
    assert_true(fake.log[9].value == 20 && fake.log[10].value == 21);
    bench_done(&b);
}

static void a_full_store_refuses_only_new_series(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(scrape(&b, "a 1\nb 2\n"), NX_OK);
    fake.refuse_after = fake.n_series;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(scrape(&b, "a 3\nc 3\nb 4\n"), NX_OK);
        assert_int_equal(b.res.refused, 1);
        assert_true(logged("a{" OWN) == 3 && logged("b{" OWN) == 4);
    }
    fake.refuse_after = 0;
    assert_int_equal(scrape(&b, "a 3\nc 3\nb 4\n"), NX_OK);
    assert_int_equal(b.res.refused, 0);
    assert_int_equal(b.res.added, 1);
    assert_true(logged("c{" OWN) == 3);
    bench_done(&b);
}

static uint64_t memory_use;

static uint64_t read_use(void *ctx)
{
    (void)ctx;
    return memory_use;
}

static void near_the_memory_limit_only_new_lines_are_passed_over(void **state)
{
    static const char before[] = "# TYPE a counter\na 1\nb{x=\"1\"} 2\n";
    static const char after[] =
        "# TYPE a counter\na 3\n# TYPE n gauge\n# HELP n text\nn{x=\"1\"} 1\n"
        "n{x=\"2\"} 1\nb{x=\"1\"} 4\nn{x=\"3\"} 1 5\nold 7\n";
    struct bench b;
    size_t lines, families = 0;

    (void)state;
    bench_init(&b);
    assert_int_equal(scrape(&b, "old 1\n"), NX_OK); /* known to the store, not to the layout */
    assert_int_equal(scrape(&b, before), NX_OK);
    lines = b.in.layout.n;
    meta_text_bytes(&b.in.meta, b.env.pool, &families);
    memory_use = 1000;
    b.env.memory = memory_new(1000, read_use, NULL);
    for (int i = 0; i < 3; i++) {
        size_t now_families = 0;
        assert_int_equal(scrape(&b, after), NX_OK);
        assert_int_equal(b.res.refused, 3);
        assert_int_equal(b.res.scraped, 6);
        assert_int_equal(b.res.added, i == 0);
        assert_true(logged("a{" OWN) == 3 && logged("b{instance=\"i\", job=\"j\", x=\"1\"}") == 4 &&
                    logged("old{" OWN) == 7);
        assert_int_equal(b.in.layout.n, lines + 1); /* nothing is kept of what is refused */
        meta_text_bytes(&b.in.meta, b.env.pool, &now_families);
        assert_int_equal(now_families, families);
    }
    b.rules.sample_limit = 5; /* they count against limits as ever */
    assert_int_equal(scrape(&b, after), NX_LIMIT);
    b.rules.sample_limit = 0;
    memory_use = 100;
    memory_set_limit(b.env.memory, 100000);
    assert_int_equal(scrape(&b, after), NX_OK);
    assert_int_equal(b.res.refused, 0);
    assert_int_equal(b.res.added, 3);
    assert_true(logged("n{instance=\"i\", job=\"j\", x=\"2\"}") == 1);
    memory_free(b.env.memory);
    bench_done(&b);
}

static void a_target_that_goes_ends_all_its_series(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(scrape(&b, "a 1\nb 2\n"), NX_OK);
    fake.n_log = 0;
    assert_ok(ingest_end(&b.in, &b.env, &b.t, b.now + 15000, &b.s, &b.err), &b.err);
    assert_int_equal(fake.n_log, 2 + 5);
    for (size_t i = 0; i < fake.n_log; i++)
        assert_true(num_is_stale(fake.log[i].value));
    bench_done(&b);
}

static void metadata_lives_ten_scrapes(void **state)
{
    struct bench b;

    (void)state;
    bench_init(&b);
    assert_int_equal(
        scrape(&b, "# HELP a first\n# TYPE a counter\n# UNIT a x\na 1\n# TYPE b gauge\nb 1\n"),
        NX_OK);
    assert_int_equal(b.in.meta.n, 2);
    assert_true(nx_slice_is(intern_str(b.env.pool, b.in.meta.v[0].help), "first"));
    assert_int_equal(b.in.meta.v[0].type, EXPO_COUNTER);
    for (int i = 0; i < META_LIVES_SCRAPES; i++)
        assert_int_equal(scrape(&b, "# TYPE b gauge\nb 1\n"), NX_OK);
    assert_true(b.in.meta.v[0].name != 0);
    assert_int_equal(scrape(&b, "# TYPE b gauge\nb 1\n"), NX_OK);
    assert_true(b.in.meta.v[0].name == 0);
    assert_int_equal(scrape(&b, "# TYPE c gauge\nc 1\n# TYPE b gauge\nb 1\n"),
                     NX_OK); /* its place is taken */
    assert_int_equal(b.in.meta.n, 2);
    bench_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_that_move_come_and_go_keep_their_series),
        cmocka_unit_test(types_decide_what_a_bucket_is_called),
        cmocka_unit_test(odd_lines_are_known_again),
        cmocka_unit_test(recorded_bodies_survive_mutation),
        cmocka_unit_test(an_unchanged_scrape_allocates_nothing),
        cmocka_unit_test(a_layout_is_small),
        cmocka_unit_test(running_out_of_memory_loses_nothing),
        cmocka_unit_test(exemplars_follow_their_samples),
        cmocka_unit_test(refused_exemplars_are_counted_and_fail_nothing),
        cmocka_unit_test(without_memory_only_exemplars_are_missing),
        cmocka_unit_test(labels_in_conflict_are_exported_or_honored),
        cmocka_unit_test(limits_fail_the_whole_scrape),
        cmocka_unit_test(an_exposed_up_wins_over_the_report),
        cmocka_unit_test(failed_scrapes_end_series_once),
        cmocka_unit_test(samples_with_timestamps_end_only_if_tracked),
        cmocka_unit_test(samples_of_one_time_share_a_group),
        cmocka_unit_test(samples_of_few_go_in_one_batch),
        cmocka_unit_test(a_group_whose_series_part_is_dissolved),
        cmocka_unit_test(samples_of_one_series_keep_their_order),
        cmocka_unit_test(a_full_store_refuses_only_new_series),
        cmocka_unit_test(near_the_memory_limit_only_new_lines_are_passed_over),
        cmocka_unit_test(a_target_that_goes_ends_all_its_series),
        cmocka_unit_test(metadata_lives_ten_scrapes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
