/* Any bytes, as either format: nothing is read out of bounds, every accepted line gives labels, and
 * expo_try_sample() over an accepted line's own prefix agrees with expo_next(). */
#include <stdlib.h>
#include <string.h>

#include "src/base/num.h"
#include "src/expo/expo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void agree(const struct expo *before, const struct expo_entry *e)
{
    struct expo x = *before;
    struct expo_sample s;

    if (e->line.ptr != x.at || !expo_try_sample(&x, e->prefix.ptr, e->prefix.len, &s))
        return;
    NX_ASSERT_ALWAYS(x.at == e->line.ptr + e->line.len);
    NX_ASSERT_ALWAYS(num_bits(s.value) == num_bits(e->value));
    NX_ASSERT_ALWAYS(s.has_ts == e->has_ts && (!s.has_ts || s.ts_ms == e->ts_ms));
}

static void run(enum expo_format f, const char *body, size_t len)
{
    struct arena *a = arena_new(0);
    struct expo x, before;
    struct expo_entry e;
    struct nx_err err;

    expo_init(&x, f, body, len);
    for (before = x; !expo_next(&x, &e, &err) && e.kind != EXPO_END; before = x) {
        struct expo_labels ls;
        struct expo_exemplar ex;
        NX_ASSERT_ALWAYS(x.at > before.at);
        if (e.kind != EXPO_SERIES)
            continue;
        NX_ASSERT_ALWAYS(expo_labels(e.series, x.type, a, &ls, &err) == NX_OK);
        NX_ASSERT_ALWAYS(ls.n >= 1);
        if (e.exemplar.len)
            NX_ASSERT_ALWAYS(expo_exemplar(e.exemplar, a, &ex, &err) == NX_OK);
        agree(&before, &e);
    }
    arena_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *body = malloc(size + 1);

    memcpy(body, data, size);
    body[size] = '\n';
    run(EXPO_TEXT, body, size);
    run(EXPO_OPENMETRICS, body, size);
    free(body);
    return 0;
}
