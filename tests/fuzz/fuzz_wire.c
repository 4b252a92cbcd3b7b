/* Answers over a kept connection, in pieces: the pieces must not matter, and a body that is taken lies
 * within the bytes. The first byte is the size of the pieces. */
#include "src/base/limits.h"
#include "src/scrape/wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum wire_got feed(struct fetch *f, const uint8_t *bytes, size_t len, size_t step,
                          size_t *at)
{
    enum wire_got got = WIRE_MORE;

    buf_done(&f->body); /* so that what is read past the bytes is noticed */
    fetch_clear(f);
    for (*at = 0; *at < len && got == WIRE_MORE;) {
        size_t n = len - *at < step ? len - *at : step;
        buf_append(&f->body, bytes + *at, n);
        *at += n;
        got = wire_look(f);
    }
    return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fetch *a, *b;
    enum wire_got got, whole;
    size_t at;

    if (size < 2)
        return 0;
    a = fetch_new();
    b = fetch_new();
    NX_ASSERT_ALWAYS(a && b);
    got = feed(a, data + 1, size - 1, data[0] + 1u, &at);
    whole = feed(b, data + 1, at, at, &at); /* those bytes that were looked at */
    /* In pieces an answer may be over before bytes that do not belong to it came. */
    NX_ASSERT_ALWAYS(got == whole || (got == WIRE_MORE && whole == WIRE_ODD));
    if (got == WIRE_DONE && whole == WIRE_DONE) {
        NX_ASSERT_ALWAYS(a->body_at && a->body_at <= a->body.len);
        NX_ASSERT_ALWAYS(a->body_at == b->body_at && a->body.len == b->body.len);
        NX_ASSERT_ALWAYS(memcmp(a->body.ptr, b->body.ptr, a->body.len) == 0);
        NX_ASSERT_ALWAYS(a->body.len - a->body_at < NX_LIMIT_SCRAPE_BODY_BYTES);
    }
    fetch_free(a);
    fetch_free(b);
    return 0;
}
