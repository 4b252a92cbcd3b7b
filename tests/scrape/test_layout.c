/* test_layout.c - lines come back from their coded form, by either way of reading it. */
#include "tests/support/test.h"

#include "src/scrape/layout.h"

#define LINES 400u

struct lines {
    struct buf text; /* each ended by a line feed */
    size_t at[LINES], len[LINES];
    unsigned n;
};

static void add(struct lines *l, const char *s, size_t len)
{
    l->at[l->n] = l->text.len;
    l->len[l->n++] = len;
    buf_append(&l->text, s, len);
    buf_char(&l->text, '\n');
}

static struct nx_slice line(const struct lines *l, unsigned i)
{
    return nx_slice_of(l->text.ptr + l->at[i], l->len[i]);
}

/* Every line by each reader; both in turn, as a scrape does when a line is not plainly known. */
static size_t round_trip(const struct lines *l, struct test_random *rnd)
{
    struct layout_builder b;
    struct layout layout = {0};
    struct buf scratch;
    struct nx_err err;
    size_t bytes;

    layout_builder_init(&b);
    buf_init(&scratch, 0);
    for (unsigned i = 0; i < l->n; i++)
        layout_builder_add(&b, line_make(LINE_SERIES, 0, i), line(l, i));
    assert_ok(layout_builder_take(&b, &layout, &err), &err);
    assert_int_equal(layout.n, l->n);
    for (int how = 0; how < 3; how++) {
        struct layout_cursor c;
        layout_cursor_init(&c, &layout, &scratch);
        for (unsigned i = 0; i < l->n; i++) {
            const char *p = line(l, i).ptr;
            if (how == 0 || (how == 2 && test_random_below(rnd, 2))) {
                struct nx_slice got = layout_cursor_next(&c);
                assert_int_equal(got.len, l->len[i]);
                assert_memory_equal(got.ptr, p, got.len);
            } else {
                assert_ptr_equal(layout_cursor_match(&c, p, l->text.ptr + l->text.len),
                                 p + l->len[i]);
            }
        }
        assert_ptr_equal(c.at, layout.coded + layout.coded_bytes);
    }
    /* A line with one byte changed is not taken for the one that was there. */
    for (unsigned i = 0; i < l->n; i++) {
        struct layout_cursor c;
        size_t at = l->len[i] ? test_random_below(rnd, l->len[i]) : 0;
        if (!l->len[i])
            continue;
        layout_cursor_init(&c, &layout, &scratch);
        for (unsigned k = 0; k < i; k++)
            (void)layout_cursor_next(&c);
        l->text.ptr[l->at[i] + at] ^= 1;
        assert_null(layout_cursor_match(&c, l->text.ptr + l->at[i], l->text.ptr + l->text.len));
        l->text.ptr[l->at[i] + at] ^= 1;
    }
    bytes = layout.coded_bytes;
    layout_done(&layout);
    layout_builder_done(&b);
    buf_done(&scratch);
    return bytes;
}

/* Pieces of the line before, in any order and at any place, and bytes of its own. */
static void next_line(struct test_random *rnd, char *s, size_t *len)
{
    char was[512], now[512];
    size_t n_was = *len, n = 0;

    memcpy(was, s, n_was);
    for (unsigned parts = (unsigned)test_random_below(rnd, 6); parts-- > 0;) {
        size_t from = test_random_below(rnd, n_was + 1),
               take = test_random_below(rnd, n_was - from + 1);
        if (test_random_below(rnd, 3) == 0)
            from = n; /* where it was */
        if (from + take > n_was)
            take = from < n_was ? n_was - from : 0;
        for (size_t i = 0; i < take && n < sizeof now - 40; i++)
            now[n++] = was[from + i];
        for (size_t i = test_random_below(rnd, 12); i-- > 0 && n < sizeof now - 20;)
            now[n++] = (char)('a' + test_random_below(rnd, 3));
    }
    memcpy(s, now, n);
    *len = n;
}

static void lines_of_any_kind_come_back(void **state)
{
    struct test_random rnd = {2024};

    (void)state;
    for (int run = 0; run < 60; run++) {
        static struct lines l;
        char s[512] = "metric{label=\"value\",other=\"value\"} ";
        size_t len = strlen(s);
        l.n = 0;
        buf_init(&l.text, 0);
        for (unsigned i = 0; i < LINES; i++) {
            add(&l, s, len);
            next_line(&rnd, s, &len);
        }
        round_trip(&l, &rnd);
        buf_done(&l.text);
    }
}

static void labels_that_differ_are_all_that_is_kept(void **state)
{
    struct test_random rnd = {7};
    static struct lines l;
    size_t plain = 0, coded;

    (void)state;
    l.n = 0;
    buf_init(&l.text, 0);
    for (unsigned i = 0; i < LINES; i++) {
        char s[256];
        int n = snprintf(s, sizeof s,
                         "kube_pod_info{namespace=\"%c\",node=\"node-1.example.org\",pod=\"p%u\","
                         "created_by_kind=\"ReplicaSet\",host_ip=\"10.0.0.1\"} ",
                         (int)('a' + i % 7), i);
        add(&l, s, (size_t)n);
        plain += (size_t)n;
    }
    coded = round_trip(&l, &rnd);
    assert_in_range(coded, LINES * 6, LINES * 12); /* of more than a hundred */
    assert_true(plain > LINES * 100);
    buf_done(&l.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_any_kind_come_back),
        cmocka_unit_test(labels_that_differ_are_all_that_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
