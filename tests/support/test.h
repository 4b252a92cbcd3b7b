/* test.h - what every unit test includes first: cmocka with its prerequisites, and small helpers.
 *
 * Test names are sentences: static void a_torn_tail_is_cut(void **state). */
#pragma once

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "src/base/buf.h"
#include "src/base/status.h"

/* A slice of a string constant (which may hold NULs) or of a terminated string. */
#define LIT(s) nx_slice_of((s), sizeof(s) - 1)
#define STR(s) nx_slice_str(s)

/* How many steps a loop over all places of a fault goes at a time. Plain builds try every one; sanitizers
 * make each ten times as slow, and look for something else: ThreadSanitizer for nothing that such a loop, of one
 * thread, has. */
#if defined(__SANITIZE_THREAD__)
#define TEST_STRIDE 41
#elif defined(__SANITIZE_ADDRESS__)
#define TEST_STRIDE 7
#else
#define TEST_STRIDE 1
#endif

/* NX_OK, or the test fails showing the text of `err`. */
#define assert_ok(call, err)                                                                       \
    do {                                                                                           \
        nx_status assert_ok_st_ = (call);                                                          \
        if (assert_ok_st_)                                                                         \
            fail_msg("%s: %s: %s", #call, nx_status_text(assert_ok_st_), (err)->text);             \
    } while (0)

#define assert_status(call, want)                                                                  \
    do {                                                                                           \
        nx_status assert_status_st_ = (call);                                                      \
        if (assert_status_st_ != (want))                                                           \
            fail_msg("%s: %s, wanted %s", #call, nx_status_text(assert_status_st_),                \
                     nx_status_text(want));                                                        \
    } while (0)

/* The bytes are those of a terminated string; `about` names the case in the failure. */
static inline void assert_text(struct nx_slice got, const char *want, const char *about)
{
    if (!nx_slice_is(got, want))
        fail_msg("%s: got \"%.*s\", wanted \"%s\"", about, (int)got.len, got.ptr, want);
}

static inline void assert_buf(const struct buf *got, const char *want, const char *about)
{
    assert_text(buf_view(got), want, about);
}

/* The folder of shared test data: NX_SHARED, or ../shared seen from the root of the tree, which tests
 * are run in. NULL, with a line that says so, if there is none: the test then skips. */
const char *test_shared_dir(void);

/* A new folder under TMPDIR or /tmp, removed by test_tmpdir_done(). */
struct test_tmpdir {
    char path[256];
};
void test_tmpdir_new(struct test_tmpdir *t);
void test_tmpdir_done(struct test_tmpdir *t);

/* Deterministic numbers for tests (splitmix64): the seed says all. */
struct test_random {
    uint64_t state;
};
uint64_t test_random(struct test_random *r);
uint64_t test_random_below(struct test_random *r, uint64_t below); /* 0 if below is 0 */
