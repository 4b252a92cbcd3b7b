/* Any bytes as a file of tombstones: they decode to a set that keeps its rules, or to NX_CORRUPT; what
 * decodes is written again and gives the same set.
 *
 * Input: u8 number of series; then the runs as they are, to which head, number of runs and checksum are made
 * when the number is even; odd: the file as it is. */
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "storage/block.h"
#include "storage/tombs.h"

#define ULID "01JGFJJZ00ABCDEFGHJKMNPQRS"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

struct seen {
    const struct tombs *other;
    uint64_t next, series;
};

static nx_status look(void *ctx, uint32_t first, uint32_t last, struct tspans s, struct nx_err *err)
{
    struct seen *seen = ctx;
    struct tspans same = tombs_of(seen->other, last);

    (void)err;
    check(first <= last && first >= seen->next && last < seen->series && s.n > 0);
    seen->next = (uint64_t)last + 1;
    for (size_t i = 0; i < s.n; i++) {
        check(s.v[i].from_ms <= s.v[i].to_ms);
        check(i == 0 || s.v[i].from_ms - 1 > s.v[i - 1].to_ms);
    }
    check(same.n == s.n && memcmp(same.v, s.v, s.n * sizeof *s.v) == 0);
    return NX_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tombs *t = NULL, *again = NULL;
    struct seen seen = {0};
    struct buf b, c;
    nx_status st;

    if (size == 0)
        return 0;
    buf_init(&b, 0);
    buf_init(&c, 0);
    seen.series = data[0] / 2;
    if (data[0] % 2 == 0) {
        buf_append(&b, "NXtombs\n", 8);
        buf_u32le(&b, 1);
        buf_append(&b, ULID, BLOCK_ULID_LEN);
    }
    buf_append(&b, data + 1, size - 1);
    if (data[0] % 2 == 0)
        buf_u32le(&b, crc32c(0, b.ptr, b.len));
    st = tombs_decode(&t, buf_view(&b), ULID, seen.series, NULL);
    check(st == NX_OK || st == NX_CORRUPT);
    if (!st) {
        tombs_encode(t, ULID, &c);
        check(tombs_decode(&again, buf_view(&c), ULID, seen.series, NULL) == NX_OK);
        check(tombs_n_spans(t) == tombs_n_spans(again));
        seen.other = again;
        check(tombs_each(t, look, &seen, NULL) == NX_OK);
    }
    tombs_unref(t);
    tombs_unref(again);
    buf_done(&b);
    buf_done(&c);
    return 0;
}
