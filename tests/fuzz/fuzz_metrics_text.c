/* Any bytes as an exposition by families. Opinions: a line more of a name that is new adds one family;
 * lint says nothing of a metric that is not there. */
#include "src/base/buf.h"
#include "src/cli/metrics_lint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_there(const struct metrics_families *f, struct nx_slice name)
{
    for (size_t i = 0; i < f->n; i++)
        if (nx_slice_eq(f->v[i].name, name))
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char more[] = "fuzz_is_here_only_once 1\n";
    struct arena *a = arena_new(0);
    struct metrics_families f, again;
    struct metrics_problem *v;
    struct buf b;
    size_t n;

    buf_init(&b, 0);
    buf_append(&b, data, size);
    if (metrics_read(buf_view(&b), a, &f, NULL) == NX_OK && !is_there(&f, nx_slice_of(more, 22))) {
        NX_ASSERT_ALWAYS(metrics_lint(&f, a, &v, &n, NULL) == NX_OK);
        for (size_t i = 0; i < n; i++)
            NX_ASSERT_ALWAYS(is_there(&f, v[i].metric));
        for (size_t i = 0; i < f.n; i++)
            NX_ASSERT_ALWAYS(f.v[i].n > 0);
        if (!size || data[size - 1] == '\n') {
            buf_str(&b, more);
            NX_ASSERT_ALWAYS(metrics_read(buf_view(&b), a, &again, NULL) == NX_OK);
            NX_ASSERT_ALWAYS(again.n == f.n + 1);
        }
    }
    buf_done(&b);
    arena_free(a);
    return 0;
}
