/* Any bytes as a file of tombstones: they decode to a set that keeps its rules, or to NX_CORRUPT; what
 * decodes is written again and gives the same set.
 *
 * Input: u8 number of series; then the runs as they are, to which head, number of runs and checksum are made
 * when the number is even; odd: the file as it is. 255 series: the rest is the note on what is deleted in the head,
 * to which head and checksum are made. A store opens with any; what it then shows is the same after
 * another start, and what is deleted once more is gone. */
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/log.h"
#include "storage/block.h"
#include "storage/storage.h"
#include "storage/tombs.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

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

/* ---- the note -------------------------------------------------------------------------------- */

static struct storage *open_store(struct simfs *sim)
{
    struct storage_opts o = {.fs = simfs_fs(sim), .dir = "d", .no_worker = true};
    struct storage *s = NULL;

    check(storage_open(&s, &o, NULL) == NX_OK);
    return s;
}

static void append(struct storage *s)
{
    static const char *const names[] = {"a", "b", "bb", "c"};
    struct storage_group *g;
    uint32_t cols[4];
    const double v[4] = {1, 2, 3, 4};

    check(storage_group_open(s, &g, NULL) == NX_OK);
    for (int i = 0; i < 4; i++) {
        struct label l[2] = {{nx_slice_str("n"), nx_slice_str(names[i])},
                             {nx_slice_str("x"), nx_slice_str("y")}};
        check(storage_group_column(g, &(struct labels){l, 2}, &cols[i], NULL, NULL) == NX_OK);
    }
    for (int64_t t = 0; t < 20; t++)
        check(storage_group_append(g, t, cols, v, 4, NULL, NULL) == NX_OK);
    storage_group_close(g);
}

static uint64_t shown(struct storage *s, size_t *n)
{
    struct matcher m = {.type = MATCH_EQ, .name = nx_slice_str("x"), .value = nx_slice_str("y")};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;
    uint64_t hash = 1;

    *n = 0;
    check(storage_querier(s, INT64_MIN, INT64_MAX, &q, NULL) == NX_OK);
    check(q->ops->select(q, &m, 1, INT64_MIN, INT64_MAX, a, &list, NULL) == NX_OK);
    for (size_t i = 0; i < list.n; i++) {
        check(q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &c, NULL) == NX_OK);
        check(c.n > 0 && c.n <= 20);
        for (size_t k = 0; k < c.n; k++)
            hash = hash * 31 + labels_hash(&list.v[i].labels) + (uint64_t)c.t[k];
        *n += c.n;
    }
    column_done(&c);
    querier_close(q);
    arena_free(a);
    return hash;
}

static void note(const uint8_t *data, size_t size)
{
    struct matcher m = {.type = MATCH_EQ, .name = nx_slice_str("n"), .value = nx_slice_str("bb")};
    struct simfs *sim = simfs_new(1);
    struct storage *s = open_store(sim);
    struct buf b;
    uint64_t first;
    size_t n, again;

    quiet_log();
    append(s);
    storage_close(s);
    buf_init(&b, 0);
    buf_u32le(&b, 0x4c44584eu);
    buf_u16le(&b, 1);
    buf_u16le(&b, 0);
    buf_append(&b, data, size);
    buf_u32le(&b, crc32c(0, b.ptr, b.len));
    check(fs_publish(simfs_fs(sim), "d/wal/deleted", b.ptr, b.len, NULL) == NX_OK);
    s = open_store(sim);
    first = shown(s, &n);
    storage_close(s);
    s = open_store(sim);
    check(shown(s, &again) == first && again == n);
    check(storage_delete(s, &(struct matcher_set){&m, 1}, 1, INT64_MIN, INT64_MAX, NULL) == NX_OK);
    first = shown(s, &again);
    check(again <= n && n - again <= 20);
    storage_close(s);
    s = open_store(sim);
    check(shown(s, &again) == first);
    storage_close(s);
    buf_done(&b);
    simfs_free(sim);
    log_capture(NULL, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tombs *t = NULL, *again = NULL;
    struct seen seen = {0};
    struct buf b, c;
    nx_status st;

    if (size == 0)
        return 0;
    if (data[0] == 255) {
        note(data + 1, size - 1);
        return 0;
    }
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
