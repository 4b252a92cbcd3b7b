/* test_intern.c - strings kept once: counts, reuse of ids, churn, threads, memory. */
#include "tests/support/test.h"

#include <stdatomic.h>

#include "src/base/intern.h"
#include "src/base/thread.h"
#include "tests/support/oom.h"

static void equal_strings_have_one_id(void **state)
{
    struct intern *p = intern_new();
    uint32_t a = intern_get(p, LIT("job")), b = intern_get(p, LIT("instance"));
    uint32_t empty = intern_get(p, LIT("")), nul = intern_get(p, LIT("a\0b"));

    (void)state;
    assert_true(a && b && empty && nul);
    assert_int_equal(intern_get(p, LIT("job")), a);
    assert_int_not_equal(a, b);
    assert_text(intern_str(p, a), "job", "a");
    assert_int_equal(intern_str(p, empty).len, 0);
    assert_true(nx_slice_eq(intern_str(p, nul), LIT("a\0b")));
    assert_int_equal(intern_find(p, LIT("job")), a);
    assert_int_equal(intern_find(p, LIT("jo")), 0);
    assert_int_equal(intern_count(p), 4);
    intern_free(p);
    intern_free(NULL);
}

static void a_string_goes_with_its_last_reference(void **state)
{
    struct intern *p = intern_new();
    size_t before = intern_bytes(p), with;
    uint32_t id = intern_get(p, LIT("x"));

    (void)state;
    with = intern_bytes(p);
    assert_true(with > before);
    intern_ref(p, id);
    assert_int_equal(intern_get(p, LIT("x")), id);
    intern_unref(p, id);
    intern_unref(p, id);
    assert_int_equal(intern_find(p, LIT("x")), id);
    intern_unref(p, id);
    assert_int_equal(intern_find(p, LIT("x")), 0);
    assert_int_equal(intern_count(p), 0);
    assert_int_equal(intern_get(p, LIT("y")), id); /* the id is used again */
    assert_text(intern_str(p, id), "y", "reused");
    assert_int_equal(intern_bytes(p), with);
    intern_free(p);
}

#define WORDS 4000

/* Against a plain table of counts: random gets and unrefs over a few thousand words. */
static void random_use_agrees_with_plain_counting(void **state)
{
    static unsigned refs[WORDS];
    static uint32_t ids[WORDS];
    struct intern *p = intern_new();
    struct test_random r = {11};
    size_t alive = 0;

    (void)state;
    memset(refs, 0, sizeof refs);
    for (int i = 0; i < 400000; i++) {
        size_t w = (size_t)test_random_below(&r, WORDS);
        char text[32];
        struct nx_slice s = nx_slice_of(text, (size_t)snprintf(text, sizeof text, "word-%zu", w));

        if (test_random_below(&r, 2) && refs[w]) {
            intern_unref(p, ids[w]);
            alive -= --refs[w] == 0;
        } else if (refs[w] < 3) {
            uint32_t id = intern_get(p, s);

            assert_true(id != 0 && (!refs[w] || ids[w] == id));
            ids[w] = id;
            alive += refs[w]++ == 0;
        }
        assert_int_equal(intern_find(p, s), refs[w] ? ids[w] : 0);
    }
    assert_int_equal(intern_count(p), alive);
    for (size_t w = 0; w < WORDS; w++) {
        char text[32];

        snprintf(text, sizeof text, "word-%zu", w);
        if (refs[w])
            assert_text(intern_str(p, ids[w]), text, "word");
        while (refs[w]) {
            intern_unref(p, ids[w]);
            refs[w]--;
        }
    }
    assert_int_equal(intern_count(p), 0);
    intern_free(p);
}

static void a_million_strings_are_small(void **state)
{
    struct intern *p = intern_new();
    char text[48];
    size_t n = 1000000, text_bytes = 0;

    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct nx_slice s =
            nx_slice_of(text, (size_t)snprintf(text, sizeof text, "/api/v1/item/%zu", i));

        text_bytes += s.len;
        assert_true(intern_get(p, s) != 0);
    }
    assert_int_equal(intern_count(p), n);
    /* text, entry, table, malloc's rounding: at most 48 bytes beside the text itself */
    assert_in_range(intern_bytes(p), text_bytes, text_bytes + 48 * n);
    print_message("%zu bytes a string of %zu\n", intern_bytes(p) / n, text_bytes / n);
    intern_free(p);
}

static void out_of_memory_gives_no_id_and_no_damage(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct intern *p;
        size_t got = 0, missed = 0;
        bool hit;

        oom_fail_at(n);
        p = intern_new();
        for (int i = 0; p && i < 3000; i++) {
            char text[16];

            snprintf(text, sizeof text, "s%d", i);
            if (intern_get(p, STR(text)))
                got++;
            else
                missed++;
        }
        hit = oom_off();
        if (p) {
            assert_int_equal(missed, hit);
            assert_int_equal(intern_count(p), got);
            assert_true(intern_get(p, LIT("after")) != 0);
        }
        intern_free(p);
        if (!hit)
            return;
        if (n > 20)
            n += 97; /* they are all alike */
    }
}

static struct intern *shared;
static atomic_uint wrong;

static void churn(void *arg)
{
    struct test_random r = {(uint64_t)(uintptr_t)arg};

    for (int i = 0; i < 20000; i++) {
        char text[32];
        size_t len =
            (size_t)snprintf(text, sizeof text, "value-%d", (int)test_random_below(&r, 50));
        struct nx_slice s = nx_slice_of(text, len);
        uint32_t id = intern_get(shared, s);

        intern_ref(shared, id);
        if (!nx_slice_eq(intern_str(shared, id), s))
            atomic_fetch_add(&wrong, 1);
        intern_unref(shared, id);
        if (!nx_slice_eq(intern_str(shared, id), s))
            atomic_fetch_add(&wrong, 1);
        intern_unref(shared, id);
    }
}

static void threads_may_get_and_give_back_the_same_strings(void **state)
{
    struct nx_thread t[4];
    struct nx_err err;

    (void)state;
    shared = intern_new();
    for (size_t i = 0; i < NX_COUNT(t); i++)
        assert_ok(nx_thread_start(&t[i], "churn", churn, (void *)(i + 1), &err), &err);
    for (size_t i = 0; i < NX_COUNT(t); i++)
        nx_thread_join(&t[i]);
    assert_int_equal(atomic_load(&wrong), 0);
    assert_int_equal(intern_count(shared), 0);
    intern_free(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_strings_have_one_id),
        cmocka_unit_test(a_string_goes_with_its_last_reference),
        cmocka_unit_test(random_use_agrees_with_plain_counting),
        cmocka_unit_test(a_million_strings_are_small),
        cmocka_unit_test(out_of_memory_gives_no_id_and_no_damage),
        cmocka_unit_test(threads_may_get_and_give_back_the_same_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
