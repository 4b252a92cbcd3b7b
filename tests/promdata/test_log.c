/* test_log.c - segments, records and the head's chunks of Prometheus, whole and damaged. */
#include "tests/support/test.h"

#include "src/base/num.h"
#include "src/promdata/chunk.h"
#include "src/promdata/wal.h"
#include "tests/support/promfiles.h"
#include "tests/support/simfs.h"

static struct seen {
    uint64_t sum; /* of all references */
    size_t series, samples, stones, histograms;
    uint64_t last_ref;
    int64_t last_t;
    double last_v;
    char labels[256];
} seen;

static char told[512];

static void on_damage(void *ctx, const char *path, uint64_t offset, const char *what)
{
    (void)ctx;
    snprintf(told, sizeof told, "%s at %" PRIu64 ": %s", path, offset, what);
}

static nx_status on_series(void *ctx, uint64_t ref, const struct labels *ls, struct nx_err *err)
{
    struct buf b;

    (void)ctx;
    (void)err;
    seen.series++;
    seen.last_ref = ref;
    buf_init(&b, 0);
    labels_print(&b, ls);
    snprintf(seen.labels, sizeof seen.labels, "%s", buf_cstr(&b));
    buf_done(&b);
    return NX_OK;
}

static nx_status on_sample(void *ctx, uint64_t ref, int64_t t_ms, double v, struct nx_err *err)
{
    (void)ctx;
    (void)err;
    seen.samples++;
    seen.sum += ref;
    seen.last_ref = ref;
    seen.last_t = t_ms;
    seen.last_v = v;
    return NX_OK;
}

static nx_status on_stone(void *ctx, uint64_t ref, int64_t min, int64_t max, struct nx_err *err)
{
    (void)ctx;
    (void)err;
    seen.stones++;
    assert_true(ref == 9 && min == -5 && max == INT64_MAX);
    return NX_OK;
}

static nx_status on_histogram(void *ctx, uint64_t ref, int64_t t_ms, struct nx_err *err)
{
    (void)ctx;
    (void)err;
    seen.histograms++;
    seen.last_ref = ref;
    seen.last_t = t_ms;
    return NX_OK;
}

struct log {
    struct simfs *sim;
    struct fs *fs;
    struct pd_damage damage;
    struct pd_wal wal;
    struct pd_visitor v;
    struct nx_err err;
};

static void set_up(struct log *l)
{
    memset(&seen, 0, sizeof seen);
    *l = (struct log){.sim = simfs_new(1), .damage.tell = on_damage};
    l->fs = simfs_fs(l->sim);
    l->v = (struct pd_visitor){
        .series = on_series, .sample = on_sample, .stone = on_stone, .histogram = on_histogram};
    assert_ok(pd_wal_init(&l->wal, l->fs, &l->damage, &l->err), &l->err);
}

static void tear_down(struct log *l)
{
    pd_wal_done(&l->wal);
    simfs_free(l->sim);
}

static void record(struct log *l, const struct buf *b)
{
    assert_ok(pd_record_read(&l->wal, (const uint8_t *)b->ptr, b->len, &l->v, &l->err), &l->err);
}

/* ---- records --------------------------------------------------------------------------------- */

static void records_by_hand(void **state)
{
    struct log l;
    struct buf b;

    (void)state;
    set_up(&l);
    buf_init(&b, 0);
    buf_append(&b, "\1\0\0\0\0\0\0\1\2\2\3job\1x\10__name__\2up", 28);
    record(&l, &b);
    assert_true(seen.series == 1 && seen.last_ref == 258);
    assert_string_equal(seen.labels, "up{job=\"x\"}");
    /* Two samples: 100 at 1000 is 1; 98 (two less) at 985 (15 less) is 2. Differences are signed. */
    buf_clear(&b);
    buf_append(&b, "\2\0\0\0\0\0\0\0\144\0\0\0\0\0\0\3\350", 17);
    buf_append(&b, "\0\0\77\360\0\0\0\0\0\0", 10);
    buf_append(&b, "\3\35\100\0\0\0\0\0\0\0", 10);
    record(&l, &b);
    assert_true(seen.samples == 2 && seen.last_ref == 98 && seen.last_t == 985 && seen.last_v == 2);
    /* With start timestamps: 100 at 1000 started at 500; 98 at 985 none; 99 at 985 the same; 104 at 986 at 499. */
    buf_clear(&b);
    buf_append(&b, "\13\310\1\320\17\350\7\77\360\0\0\0\0\0\0", 15);
    buf_append(&b, "\3\35\0\100\0\0\0\0\0\0\0", 11);
    buf_append(&b, "\2\35\1\100\0\0\0\0\0\0\0", 11);
    buf_append(&b, "\12\33\2\1\100\10\0\0\0\0\0\0", 12);
    seen.sum = 0;
    record(&l, &b);
    assert_int_equal(seen.samples, 6);
    assert_int_equal(seen.sum, 100 + 98 + 99 + 104);
    assert_true(seen.last_t == 986 && seen.last_v == 3);
    buf_clear(&b);
    prom_stone_record(&b, 9, -5, INT64_MAX);
    record(&l, &b);
    assert_int_equal(seen.stones, 1);
    buf_done(&b);
    tear_down(&l);
}

static void spans_and_buckets(struct buf *b, bool floats, bool custom)
{
    buf_u8(b, 2);
    buf_varint(b, custom ? -53 : 3);
    prom_u64(b, num_bits(0.001));
    for (int i = 0; i < 2; i++) {
        if (floats)
            prom_u64(b, num_bits(7));
        else
            buf_uvarint(b, 700);
    }
    prom_u64(b, num_bits(12.5));
    buf_uvarint(b, 2);
    for (int i = 0; i < 2; i++) {
        buf_varint(b, -1 + i);
        buf_uvarint(b, 1);
    }
    buf_uvarint(b, 0);
    buf_uvarint(b, 2);
    for (int i = 0; i < 2; i++) {
        if (floats)
            prom_u64(b, num_bits(3));
        else
            buf_varint(b, -300);
    }
    buf_uvarint(b, 0);
    if (custom) {
        buf_uvarint(b, 1);
        prom_u64(b, num_bits(0.5));
    }
}

static void histograms_are_told_by_series_and_time(void **state)
{
    static const struct {
        uint8_t type;
        bool floats, custom;
    } kinds[] = {{7, false, false}, {8, true, false},  {9, false, true},
                 {10, true, true},  {12, false, true}, {13, true, false}};
    struct log l;

    (void)state;
    set_up(&l);
    for (size_t i = 0; i < NX_COUNT(kinds); i++) {
        const bool starts = kinds[i].type > 10;
        struct buf b;
        seen.histograms = 0;
        buf_init(&b, 0);
        buf_u8(&b, kinds[i].type);
        if (!starts) {
            prom_u64(&b, 1000);
            prom_u64(&b, 5000);
        }
        for (int k = 0; k < 3; k++) {
            buf_varint(&b, starts && k == 0 ? 1000 : k && starts ? 1 : k);
            buf_varint(&b, starts && k == 0 ? 5000 : -10 * k);
            if (starts && k == 0)
                buf_varint(&b, 4000);
            else if (starts)
                buf_u8(&b, (uint8_t)(k - 1));
            spans_and_buckets(&b, kinds[i].floats, kinds[i].custom);
        }
        record(&l, &b);
        assert_int_equal(seen.histograms, 3);
        assert_true(seen.last_ref == 1002 && seen.last_t == 4980);
        for (size_t len = b.len - 1; len > 20; len--) {
            const nx_status st = pd_record_read(&l.wal, (const uint8_t *)b.ptr, len, &l.v, &l.err);
            assert_true(st == NX_OK || st == NX_CORRUPT);
        }
        buf_done(&b);
    }
    tear_down(&l);
}

static void other_records_are_read_over(void **state)
{
    struct log l;
    struct buf b;

    (void)state;
    set_up(&l);
    buf_init(&b, 0);
    for (unsigned type = 0; type < 256; type++) {
        buf_clear(&b);
        buf_u8(&b, (uint8_t)type);
        record(&l, &b);
    }
    assert_int_equal(l.v.exemplar_records, 1);
    assert_int_equal(l.v.unknown_records, 256 - 13);
    buf_done(&b);
    tear_down(&l);
}

/* ---- segments -------------------------------------------------------------------------------- */

#define RECORDS 60

/* Records of all sizes, some of them over several pages; record i has i * i samples of series i. */
static void put_segment(struct buf *segment, int from, int to)
{
    static const char packings[] = {0, 's', 'z'};

    for (int i = from; i < to; i++) {
        const size_t n = i % 20 == 19 ? 12000 : (size_t)(i + 1);
        uint64_t *refs = calloc(n, sizeof *refs);
        int64_t *t = calloc(n, sizeof *t);
        double *v = calloc(n, sizeof *v);
        struct buf b;
        for (size_t k = 0; k < n; k++) {
            refs[k] = (uint64_t)i + 1;
            t[k] = (int64_t)(i * 15000);
            v[k] = (double)(k * k) / 3;
        }
        buf_init(&b, 0);
        prom_samples_record(&b, refs, t, v, n);
        prom_record(segment, &b, packings[i % 3]);
        buf_done(&b);
        free(refs);
        free(t);
        free(v);
    }
}

static uint64_t sum_of(int from, int to)
{
    uint64_t sum = 0;

    for (int i = from; i < to; i++)
        sum += ((uint64_t)i + 1) * (i % 20 == 19 ? 12000 : (uint64_t)(i + 1));
    return sum;
}

static void records_over_pages_and_segments_in_every_packing(void **state)
{
    struct log l;
    struct buf b;

    (void)state;
    set_up(&l);
    buf_init(&b, 0);
    put_segment(&b, 0, 25);
    prom_pad_page(&b);
    prom_put(l.fs, "wal/00000003", &b);
    buf_clear(&b);
    put_segment(&b, 25, RECORDS);
    prom_put(l.fs, "wal/00000004", &b);
    buf_clear(&b);
    prom_put(l.fs, "wal/00000005", &b);
    prom_put(l.fs, "wal/checkpoint.00000002/00000000", &b);
    assert_ok(pd_wal_read(&l.wal, "wal", -1, true, &l.v, &l.err), &l.err);
    assert_int_equal(seen.sum, sum_of(0, RECORDS));
    assert_int_equal(l.wal.records, RECORDS);
    seen.sum = 0;
    assert_ok(pd_wal_read(&l.wal, "wal", 3, true, &l.v, &l.err), &l.err);
    assert_int_equal(seen.sum, sum_of(25, RECORDS));
    assert_ok(pd_wal_read(&l.wal, "not/there", -1, true, &l.v, &l.err), &l.err);
    assert_true(l.damage.n == 0 && l.wal.torn == 0);
    buf_done(&b);
    tear_down(&l);
}

/* Cut anywhere, the newest segment gives whole records up to there and one torn end; an older one, damage. */
static void a_segment_cut_anywhere_gives_its_whole_records(void **state)
{
    struct log l;
    struct buf b;
    uint64_t before = 0;

    (void)state;
    set_up(&l);
    buf_init(&b, 0);
    put_segment(&b, 0, 45);
    for (size_t len = 0; len <= b.len; len += 1 + len / 97 * TEST_STRIDE) {
        struct buf cut = b;
        cut.len = len;
        prom_put(l.fs, "wal/00000000", &cut);
        seen.sum = l.wal.torn = l.damage.n = 0;
        assert_ok(pd_wal_read(&l.wal, "wal", -1, true, &l.v, &l.err), &l.err);
        assert_true(seen.sum >= before);
        assert_true(l.wal.torn <= 2);
        before = seen.sum;
        if (l.wal.torn) {
            assert_ok(pd_wal_read(&l.wal, "wal", -1, false, &l.v, &l.err), &l.err);
            assert_true(l.damage.n >= 1);
        }
    }
    assert_true(before > 0);
    buf_done(&b);
    tear_down(&l);
}

/* Whether a fragment's type is at `at`: its checksum does not cover it, and without the bit that says that it is
 * packed it is a record of an unknown kind. */
static bool is_type(const struct buf *segment, size_t at)
{
    size_t i = 0;

    while (i < at)
        i += segment->ptr[i]
                 ? 7 + ((size_t)(uint8_t)segment->ptr[i + 1] << 8 | (uint8_t)segment->ptr[i + 2])
                 : 32768 - i % 32768;
    return i == at;
}

/* A flipped bit costs its record and at most the rest of its page. */
static void a_flipped_bit_costs_a_page_at_most(void **state)
{
    struct log l;
    struct buf b, clean;
    uint64_t whole;

    (void)state;
    set_up(&l);
    buf_init(&b, 0);
    buf_init(&clean, 0);
    put_segment(&b, 0, 45);
    prom_put(l.fs, "wal/00000001", &clean); /* so that 0 is not the newest */
    prom_put(l.fs, "wal/00000000", &b);
    assert_ok(pd_wal_read(&l.wal, "wal", -1, true, &l.v, &l.err), &l.err);
    whole = seen.samples;
    assert_int_equal(seen.sum, sum_of(0, 45));
    for (size_t at = 0; at < b.len; at += 131 * TEST_STRIDE) {
        b.ptr[at] ^= (char)(1 << at % 8);
        prom_put(l.fs, "wal/00000000", &b);
        b.ptr[at] ^= (char)(1 << at % 8);
        seen.samples = l.damage.n = 0;
        assert_ok(pd_wal_read(&l.wal, "wal", -1, true, &l.v, &l.err), &l.err);
        assert_true(seen.samples <= whole);
        if (seen.samples < whole && !is_type(&b, at))
            assert_true(l.damage.n >= 1 && strstr(told, "wal/00000000 at "));
        assert_true(seen.samples + 2 * 12000 + 3000 > whole);
    }
    buf_done(&b);
    tear_down(&l);
}

static void a_missing_segment_is_told(void **state)
{
    struct log l;
    struct buf b;

    (void)state;
    set_up(&l);
    buf_init(&b, 0);
    put_segment(&b, 0, 3);
    prom_put(l.fs, "wal/00000007", &b);
    prom_put(l.fs, "wal/00000009", &b);
    assert_ok(pd_wal_read(&l.wal, "wal", -1, true, &l.v, &l.err), &l.err);
    assert_int_equal(l.damage.n, 1);
    assert_non_null(strstr(told, "before 00000009"));
    assert_int_equal(seen.sum, 2 * sum_of(0, 3));
    buf_done(&b);
    tear_down(&l);
}

/* Snappy and zstd say how large they unpack; nobody has to believe it. */
static void a_record_that_claims_to_be_huge_is_refused(void **state)
{
    struct log l;
    struct buf b, rec;
    size_t from;

    (void)state;
    set_up(&l);
    buf_init(&b, 0);
    buf_init(&rec, 0);
    buf_append(&rec, "\xff\xff\xff\xff\x0f\0\0\0", 8); /* snappy: 4 GiB */
    buf_u8(&b, 1 | 8);
    prom_u16(&b, (uint16_t)rec.len);
    from = b.len + 4;
    buf_append(&b, "\0\0\0\0", 4);
    buf_append(&b, rec.ptr, rec.len);
    b.len = from - 4;
    prom_u32(&b, 0); /* replaced below */
    b.len = from;
    buf_append(&b, rec.ptr, rec.len);
    {
        struct buf crc;
        buf_init(&crc, 0);
        buf_append(&crc, rec.ptr, rec.len);
        prom_crc(&crc, 0);
        memcpy(b.ptr + 3, crc.ptr + rec.len, 4);
        buf_done(&crc);
    }
    prom_put(l.fs, "wal/00000000", &b);
    buf_clear(&b);
    prom_put(l.fs, "wal/00000001", &b);
    assert_ok(pd_wal_read(&l.wal, "wal", -1, true, &l.v, &l.err), &l.err);
    assert_int_equal(l.damage.n, 1);
    assert_non_null(strstr(told, "snappy"));
    buf_done(&b);
    buf_done(&rec);
    tear_down(&l);
}

/* ---- chunks of the head ---------------------------------------------------------------------- */

static nx_status on_chunk(void *ctx, const struct pd_head_chunk *c, struct nx_err *err)
{
    (void)ctx;
    (void)err;
    assert_int_equal(c->min_ms, (int64_t)c->ref * 100);
    assert_int_equal(c->max_ms, (int64_t)c->ref * 100 + 99);
    assert_int_equal(c->out_of_order, c->ref % 4 == 0);
    assert_int_equal(c->encoding, PD_XOR);
    assert_int_equal(c->len, c->ref % 200);
    seen.sum += c->ref;
    return NX_OK;
}

static void put_head_file(struct buf *b, uint64_t from, uint64_t to)
{
    for (uint64_t ref = from; ref < to; ref++) {
        struct buf bytes;
        buf_init(&bytes, 0);
        for (uint64_t i = 0; i < ref % 200; i++)
            buf_u8(&bytes, (uint8_t)(i * ref));
        prom_head_chunk(b, ref, (int64_t)ref * 100, (int64_t)ref * 100 + 99,
                        (uint8_t)(PD_XOR | (ref % 4 == 0 ? 128 : 0)), &bytes);
        buf_done(&bytes);
    }
}

static uint64_t sum_to(uint64_t from, uint64_t to)
{
    return (to * (to - 1) - from * (from - 1)) / 2;
}

static void chunks_of_the_head_whole_and_damaged(void **state)
{
    struct log l;
    struct buf b, more;
    size_t content;

    (void)state;
    set_up(&l);
    buf_init(&b, 0);
    buf_init(&more, 0);
    put_head_file(&b, 1, 130);
    content = b.len;
    for (int i = 0; i < 1000; i++)
        buf_u8(&b, 0); /* as files are made longer before they are filled */
    put_head_file(&more, 130, 140);
    prom_put(l.fs, "chunks_head/000001", &b);
    prom_put(l.fs, "chunks_head/000002", &more);
    assert_ok(pd_head_chunks_read(l.fs, "chunks_head", &l.damage, on_chunk, NULL, &l.err), &l.err);
    assert_true(l.damage.n == 0 && seen.sum == sum_to(1, 140));
    /* The newest file may end anywhere. */
    for (size_t len = 0; len < more.len; len += TEST_STRIDE) {
        struct buf cut = more;
        cut.len = len;
        prom_put(l.fs, "chunks_head/000002", &cut);
        seen.sum = l.damage.n = 0;
        assert_ok(pd_head_chunks_read(l.fs, "chunks_head", &l.damage, on_chunk, NULL, &l.err),
                  &l.err);
        assert_true(l.damage.n == 0 && seen.sum >= sum_to(1, 130));
    }
    prom_put(l.fs, "chunks_head/000002", &more);
    for (size_t at = 0; at < content; at += 3 * TEST_STRIDE) {
        b.ptr[at] ^= (char)(1 << at % 8);
        prom_put(l.fs, "chunks_head/000001", &b);
        b.ptr[at] ^= (char)(1 << at % 8);
        seen.sum = l.damage.n = 0;
        assert_ok(pd_head_chunks_read(l.fs, "chunks_head", &l.damage, on_chunk, NULL, &l.err),
                  &l.err);
        assert_true(seen.sum >= sum_to(130, 140));
        if (seen.sum < sum_to(1, 140))
            assert_true(l.damage.n >= 1 && strstr(told, "chunks_head/000001 at "));
    }
    buf_done(&b);
    buf_done(&more);
    tear_down(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_by_hand),
        cmocka_unit_test(histograms_are_told_by_series_and_time),
        cmocka_unit_test(other_records_are_read_over),
        cmocka_unit_test(records_over_pages_and_segments_in_every_packing),
        cmocka_unit_test(a_segment_cut_anywhere_gives_its_whole_records),
        cmocka_unit_test(a_flipped_bit_costs_a_page_at_most),
        cmocka_unit_test(a_missing_segment_is_told),
        cmocka_unit_test(a_record_that_claims_to_be_huge_is_refused),
        cmocka_unit_test(chunks_of_the_head_whole_and_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
