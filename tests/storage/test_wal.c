/* test_wal.c - the log: frames in, frames out, whatever happened to the disk; and the coding of rows. */
#include "tests/support/test.h"

#include <math.h>

#include "src/base/hash.h"
#include "src/base/num.h"
#include "storage/chunk.h"
#include "storage/wal.h"
#include "storage/wal_pack.h"
#include "storage/wal_row.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

/* ---- frames: their payload is a number and filler, so that gaps and changes show ------------------ */

struct seen {
    uint64_t next;   /* number expected */
    uint64_t errors; /* frames that are not what was written */
    bool gaps;       /* allowed: something was damaged */
    uint32_t last_segment;
};

static size_t filler_of(uint64_t number)
{
    return (size_t)(number * 37 % 300);
}

static nx_status see(void *ctx, uint32_t segment, uint8_t type, struct nx_slice payload,
                     struct nx_err *err)
{
    struct seen *s = ctx;
    uint64_t number;

    (void)err;
    if (payload.len < 8)
        return NX_CORRUPT;
    number = get_u64le(payload.ptr);
    s->errors += number < s->next || (number > s->next && !s->gaps) ||
                 payload.len != 8 + filler_of(number) || type != 1 + number % 3 ||
                 segment < s->last_segment;
    for (size_t i = 8; i < payload.len; i++)
        s->errors += payload.ptr[i] != (char)(number % 2 ? 'x' : (char)(number * i * 31));
    s->next = number + 1;
    s->last_segment = segment;
    return NX_OK;
}

static nx_status append(struct wal *w, uint64_t number, struct nx_err *err)
{
    char payload[512];
    struct buf frames;
    nx_status st;

    put_u64le(payload, number);
    for (size_t i = 8; i < 8 + filler_of(number); i++)
        payload[i] = (char)(number % 2 ? 'x' : (char)(number * i * 31));
    buf_init(&frames, 0);
    wal_frame(&frames, (uint8_t)(1 + number % 3), nx_slice_of(payload, 8 + filler_of(number)));
    st = buf_status(&frames, err);
    if (!st)
        st = wal_write(w, wal_segment(w), buf_view(&frames), err);
    buf_done(&frames);
    return st;
}

static nx_status open_log(struct wal **w, struct simfs *sim, struct seen *seen, struct nx_err *err)
{
    struct wal_opts o = {simfs_fs(sim), "wal", 2000};
    nx_status st = fs_mkdirs(simfs_fs(sim), "wal", err);

    if (!st)
        st = simfs_fs(sim)->sync_dir(simfs_fs(sim), ".", err);
    return st ? st : wal_open(w, &o, see, seen, err);
}

/* Numbers found; fails the test on one that is changed or out of turn. */
static uint64_t replayed(struct simfs *sim, bool gaps, struct wal_stats *stats)
{
    struct nx_err err;
    struct seen seen = {.gaps = gaps};
    struct wal *w;

    assert_ok(open_log(&w, sim, &seen, &err), &err);
    assert_int_equal(seen.errors, 0);
    if (stats)
        wal_get_stats(w, stats);
    wal_close(w);
    return seen.next;
}

static void frames_come_back_in_order_over_segments(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct seen seen = {0};
    struct nx_err err;
    struct wal *w;
    bool moved;

    (void)state;
    assert_ok(open_log(&w, sim, &seen, &err), &err);
    for (uint64_t i = 0; i < 200; i++) {
        assert_ok(append(w, i, &err), &err);
        if (wal_full(w))
            assert_ok(wal_rotate(w, &moved, &err), &err);
    }
    assert_true(wal_segment(w) > 5);
    wal_close(w);
    assert_int_equal(replayed(sim, false, NULL), 200);
    simfs_free(sim);
}

static void frames_for_a_closed_segment_are_refused(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct seen seen = {0};
    struct nx_err err;
    struct wal *w;
    bool moved;
    uint32_t segment;

    (void)state;
    assert_ok(open_log(&w, sim, &seen, &err), &err);
    segment = wal_segment(w);
    assert_ok(wal_rotate(w, &moved, &err), &err);
    assert_true(moved);
    assert_status(wal_write(w, segment, LIT("x"), &err), NX_CANCELED);
    wal_close(w);
    simfs_free(sim);
}

static void truncation_unlinks_segments_before_the_one_named(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct seen seen = {0};
    struct wal_stats before, after;
    struct nx_err err;
    struct wal *w;
    bool moved;

    (void)state;
    assert_ok(open_log(&w, sim, &seen, &err), &err);
    for (uint64_t i = 0; i < 40; i++) {
        if (i % 10 == 0)
            assert_ok(wal_rotate(w, &moved, &err), &err);
        assert_ok(append(w, i, &err), &err);
    }
    wal_get_stats(w, &before);
    assert_ok(wal_truncate(w, 3, &err), &err); /* the first is empty, the second ends with 9 */
    wal_get_stats(w, &after);
    assert_true(after.bytes < before.bytes);
    assert_int_equal(after.truncations, 1);
    wal_close(w);
    struct seen later = {.next = 10};
    assert_ok(open_log(&w, sim, &later, &err), &err);
    assert_int_equal(later.errors, 0);
    assert_int_equal(later.next, 40);
    assert_ok(wal_truncate(w, UINT32_MAX, &err), &err);
    wal_close(w);
    assert_int_equal(replayed(sim, false, NULL), 0);
    simfs_free(sim);
}

struct run {
    uint64_t acked, synced;
    bool came; /* the fault */
};

/* Appends, syncing and rotating now and then, until something fails. */
static struct run append_numbers(struct simfs *sim, uint64_t from, uint64_t n)
{
    struct run r = {from, from, false};
    struct seen seen = {0};
    struct nx_err err;
    struct wal *w = NULL;
    nx_status st = open_log(&w, sim, &seen, &err);
    bool moved;

    for (uint64_t i = from; i < from + n && !st; i++) {
        st = append(w, i, &err);
        if (!st)
            r.acked = i + 1;
        if (!st && wal_full(w))
            st = wal_rotate(w, &moved, &err);
        else if (!st && i % 7 == 0)
            st = wal_sync(w, &err);
        else
            continue;
        if (!st)
            r.synced = i + 1;
    }
    wal_close(w);
    return r;
}

static void survives_power_loss_at_every_step(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        for (uint64_t cut = 1;; cut++) {
            struct simfs *sim = simfs_new(seed * 1000 + cut);
            simfs_cut_power_at(sim, cut);
            struct run r = append_numbers(sim, 0, 60);
            bool finished = !simfs_power_was_cut(sim);
            simfs_restore_power(sim);
            /* A segment may have lost its end while the next one kept its beginning (W2). */
            struct seen seen = {.gaps = true};
            struct nx_err err;
            struct wal *w;
            assert_ok(open_log(&w, sim, &seen, &err), &err);
            assert_int_equal(seen.errors, 0);
            assert_in_range(seen.next, r.synced, r.acked + 1);
            wal_close(w);
            assert_int_equal(replayed(sim, true, NULL), seen.next); /* the same once more */
            simfs_free(sim);
            if (finished)
                break;
        }
    }
}

static void survives_a_kill_at_every_step(void **state)
{
    (void)state;
    for (uint64_t step = 1;; step++) {
        struct simfs *sim = simfs_new(step);
        simfs_kill_at(sim, step);
        struct run r = append_numbers(sim, 0, 60);
        bool finished = !simfs_power_was_cut(sim);
        simfs_restart(sim);
        uint64_t n = replayed(sim, false, NULL);
        assert_in_range(n, r.acked, r.acked + 1);
        simfs_free(sim);
        if (finished)
            return;
    }
}

static void a_failed_append_leaves_no_trace(void **state)
{
    (void)state;
    for (uint64_t step = 1; step < 60; step++) {
        struct simfs *sim = simfs_new(step);
        struct seen seen = {0};
        struct nx_err err;
        struct wal *w;
        uint64_t number = 0, failed = 0;
        assert_ok(open_log(&w, sim, &seen, &err), &err);
        simfs_fail_kind_at(sim, SIMFS_WRITE, step);
        for (int i = 0; i < 60; i++) {
            if (append(w, number, &err) == NX_OK)
                number++;
            else
                failed++;
        }
        assert_int_equal(failed, 1);
        wal_close(w);
        assert_int_equal(replayed(sim, false, NULL), number);
        simfs_free(sim);
    }
}

static void a_flipped_bit_anywhere_is_found_and_contained(void **state)
{
    struct nx_err err;

    (void)state;
    for (uint64_t off = 0;; off += 7) {
        struct simfs *sim = simfs_new(5);
        struct wal_stats stats;
        struct fs_stat st;
        (void)append_numbers(sim, 0, 200);
        bool is_there = simfs_flip(sim, "wal/00000002", off, (uint8_t)(1u << off % 8));
        /* The frames of all other segments are there, and none is false. */
        uint64_t n = replayed(sim, true, &stats);
        assert_int_equal(n, 200);
        if (!is_there) {
            assert_int_equal(stats.corruptions, 0);
            simfs_free(sim);
            return;
        }
        /* A length that grew past the end of the file looks like a torn tail. */
        bool aside = simfs_fs(sim)->stat(simfs_fs(sim), "wal/00000002.damaged", &st, &err) == NX_OK;
        assert_int_equal(stats.corruptions, aside ? 1 : 0);
        assert_true(stats.lost_bytes > 0);
        assert_int_equal(replayed(sim, true, &stats), 200);
        assert_int_equal(stats.lost_bytes, 0);
        simfs_free(sim);
    }
}

/* Each segment names the one before it. */
static void a_segment_that_is_missing_in_between_is_noticed(void **state)
{
    struct simfs *sim = simfs_new(5);
    struct wal_stats stats;
    struct nx_err err;

    (void)state;
    (void)append_numbers(sim, 0, 200);
    assert_int_equal(replayed(sim, false, &stats), 200);
    assert_int_equal(stats.corruptions, 0);
    assert_ok(simfs_fs(sim)->unlink(simfs_fs(sim), "wal/00000003", &err), &err);
    assert_int_equal(replayed(sim, true, &stats), 200);
    assert_int_equal(stats.corruptions, 1);
    assert_ok(simfs_fs(sim)->unlink(simfs_fs(sim), "wal/00000001", &err), &err);
    assert_ok(simfs_fs(sim)->unlink(simfs_fs(sim), "wal/00000002", &err), &err);
    assert_int_equal(replayed(sim, true, &stats), 200); /* as truncation leaves it */
    assert_int_equal(stats.corruptions, 0);
    simfs_free(sim);
}

static void a_newer_format_is_refused_and_left_alone(void **state)
{
    struct simfs *sim = simfs_new(5);
    struct seen seen = {0};
    struct nx_err err;
    struct wal *w;
    uint8_t h[20] = {0};

    (void)state;
    put_u32le(h, 0x4c57584eu);
    put_u16le(h + 4, 3);
    put_u32le(h + 8, 1);
    put_u32le(h + 16, crc32c(0, h, 16));
    assert_ok(fs_mkdirs(simfs_fs(sim), "wal", &err), &err);
    assert_ok(fs_publish(simfs_fs(sim), "wal/00000001", h, sizeof h, &err), &err);
    assert_status(open_log(&w, sim, &seen, &err), NX_UNAVAILABLE);
    assert_non_null(strstr(err.text, "version 3"));
    simfs_free(sim);
}

/* ---- rows ------------------------------------------------------------------------------------------ */

static double any_value(struct test_random *r, double before)
{
    static const uint64_t bits[] = {
        NUM_STALE_BITS,      NUM_NAN_BITS,        CHUNK_ABSENT_BITS,  0x8000000000000000u, 0, 1,
        0x7ff0000000000000u, 0x433fffffffffffffu, 0x4340000000000000u};

    switch (test_random_below(r, 10)) {
    case 9: /* where whole numbers become too large to be halved, rounded, scaled */
        return (before < 0 ? -1 : 1) * (ldexp(1, (int)(50 + test_random_below(r, 4))) +
                                        (double)test_random_below(r, 7) - 3);
    case 0:
        return num_from_bits(bits[test_random_below(r, NX_COUNT(bits))]);
    case 1:
        return num_from_bits(test_random(r));
    case 2:
        return (double)test_random_below(r, 1000000) / 1000;
    case 3:
        return -(double)test_random_below(r, 1u << 20) / 1e9;
    case 4:
        return (double)(int64_t)(test_random(r) >> test_random_below(r, 63));
    case 5:
        return before + (double)test_random_below(r, 100);
    case 6:
        return (double)test_random_below(r, 100000) / (double)(1 + test_random_below(r, 30));
    default:
        return before;
    }
}

static void rows_decode_to_the_bit(void **state)
{
    struct test_random rnd = {42};
    double rows[2][70], got[70];
    uint8_t hints[70] = {0};
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    for (int i = 0; i < 70; i++)
        rows[0][i] = got[i] = 0;
    size_t n_before = 0;
    for (int step = 0; step < 20000; step++) {
        double *before = rows[step % 2], *v = rows[(step + 1) % 2];
        size_t n = 1 + test_random_below(&rnd, 70);
        for (size_t i = 0; i < n; i++)
            v[i] = any_value(&rnd, i < n_before ? before[i] : 0);
        buf_clear(&b);
        wal_row_encode(&b, v, n, before, n_before, hints);
        struct reader r = reader_of(b.ptr, b.len);
        assert_true(wal_row_decode(&r, got, n, got, n_before));
        assert_int_equal(reader_left(&r), 0);
        assert_memory_equal(got, v, n * sizeof *v);
        n_before = n;
    }
    buf_done(&b);
}

static void columns_decode_to_the_bit(void **state)
{
    struct test_random rnd = {43};
    double v[WAL_ROW_COLUMN_MAX], got[WAL_ROW_COLUMN_MAX];
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    for (int step = 0; step < 20000; step++) {
        size_t n = 1 + test_random_below(&rnd, WAL_ROW_COLUMN_MAX);
        for (size_t i = 0; i < n; i++)
            v[i] = any_value(&rnd, i ? v[i - 1] : 0);
        buf_clear(&b);
        wal_row_encode_column(&b, v, n, (unsigned)step % 16);
        assert_true(wal_row_decode_column(buf_view(&b), got, n));
        assert_memory_equal(got, v, n * sizeof *v);
        for (size_t cut = 0; cut < b.len; cut++)
            (void)wal_row_decode_column(nx_slice_of(b.ptr, cut), got,
                                        n); /* reads nothing outside */
    }
    buf_done(&b);
}

static void what_does_not_change_costs_two_bits(void **state)
{
    double v[1000], before[1000];
    uint8_t hints[1000] = {0};
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    for (int i = 0; i < 1000; i++)
        v[i] = before[i] = i * 1.7;
    wal_row_encode(&b, v, 1000, before, 1000, hints);
    assert_int_equal(b.len, 250);
    buf_clear(&b);
    for (int i = 0; i < 1000;
         i++) { /* counters and decimals that move a little: two or three bytes */
        before[i] = i % 2 ? i * 1000 : i * 0.25;
        v[i] = before[i] + (i % 2 ? 40 : 0.5);
    }
    wal_row_encode(&b, v, 1000, before, 1000, hints);
    assert_in_range(b.len, 1250, 2800);
    buf_done(&b);
}

/* What a column of this kind has next: constants, counters, decimals, raw ones, and anything at all. */
static double next_value(struct test_random *r, size_t kind, double before)
{
    switch (kind % 8) {
    case 0:
        return test_random_below(r, 200) ? before : any_value(r, before);
    case 1:
    case 2:
        return before + (double)test_random_below(r, 1u << kind % 30);
    case 3:
        return (double)test_random_below(r, 20000) / 100;
    case 4:
        return test_random_below(r, 3) ? before : before + 1;
    case 5:
        return (double)test_random(r) / 3e18;
    case 6:
        return test_random_below(r, 60) ? before + 1000000 : any_value(r, before);
    default:
        return any_value(r, before);
    }
}

#define PACKED 130

static void packed_rows_decode_to_the_bit(void **state)
{
    struct test_random rnd = {44};
    double rows[2][PACKED] = {{0}}, got[PACKED] = {0}, other[PACKED];
    wal_pack_state out[PACKED] = {0}, in[PACKED] = {0}, scratch[PACKED];
    size_t n_before = 0;
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    for (int step = 0; step < 6000; step++) {
        double *before = rows[step % 2], *v = rows[(step + 1) % 2];
        size_t n = test_random_below(&rnd, 50) ? PACKED : test_random_below(&rnd, PACKED);
        if (step % 1000 == 999) { /* a new segment */
            memset(out, 0, sizeof out);
            memset(in, 0, sizeof in);
            n_before = 0;
        }
        for (size_t i = 0; i < n; i++)
            v[i] = next_value(&rnd, i, i < n_before ? before[i] : 0);
        buf_clear(&b);
        wal_pack_encode(&b, v, n, before, n_before, out);
        for (int damage = 0; damage < 2; damage++) { /* reads nothing outside, and ends */
            struct buf d;
            buf_init(&d, 0);
            buf_append(&d, b.ptr, damage ? b.len : test_random_below(&rnd, b.len + 1));
            if (damage)
                d.ptr[test_random_below(&rnd, d.len)] ^= (char)(1 << test_random_below(&rnd, 8));
            memcpy(scratch, in, sizeof in);
            struct reader r = reader_of(d.ptr, d.len);
            (void)wal_pack_decode(&r, other, n, got, n_before, scratch);
            buf_done(&d);
        }
        struct reader r = reader_of(b.ptr, b.len);
        assert_true(wal_pack_decode(&r, got, n, got, n_before, in));
        assert_int_equal(reader_left(&r), 0);
        assert_memory_equal(got, v, n * sizeof *v);
        assert_memory_equal(in, out, sizeof in);
        n_before = n;
    }
    buf_done(&b);
}

static void what_goes_on_as_always_costs_next_to_nothing(void **state)
{
    double v[1000], before[1000];
    wal_pack_state states[1000] = {0};
    size_t last = 0;
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    for (int i = 0; i < 1000; i++)
        before[i] = i * 1.7;
    for (int step = 0; step < 30; step++) {
        for (int i = 0; i < 1000; i++) /* every fourth one is a counter */
            v[i] = i % 4 ? before[i] : (step ? before[i] : 0) + 1000 + i % 24;
        buf_clear(&b);
        wal_pack_encode(&b, v, 1000, before, step ? 1000 : 0, states);
        last = b.len;
        memcpy(before, v, sizeof v);
    }
    assert_in_range(last, 300, 460); /* 250 values of 11 bits, zigzag, and one each that says so */
    buf_clear(&b);
    v[1]++; /* a quiet one: its number, and a value of another width */
    for (int i = 0; i < 1000; i += 4)
        v[i] += 1000 + i % 24;
    wal_pack_encode(&b, v, 1000, before, 1000, states);
    assert_in_range(b.len, last, last + 12);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back_in_order_over_segments),
        cmocka_unit_test(frames_for_a_closed_segment_are_refused),
        cmocka_unit_test(truncation_unlinks_segments_before_the_one_named),
        cmocka_unit_test(survives_power_loss_at_every_step),
        cmocka_unit_test(survives_a_kill_at_every_step),
        cmocka_unit_test(a_failed_append_leaves_no_trace),
        cmocka_unit_test(a_flipped_bit_anywhere_is_found_and_contained),
        cmocka_unit_test(a_segment_that_is_missing_in_between_is_noticed),
        cmocka_unit_test(a_newer_format_is_refused_and_left_alone),
        cmocka_unit_test(rows_decode_to_the_bit),
        cmocka_unit_test(columns_decode_to_the_bit),
        cmocka_unit_test(packed_rows_decode_to_the_bit),
        cmocka_unit_test(what_goes_on_as_always_costs_next_to_nothing),
        cmocka_unit_test(what_does_not_change_costs_two_bits),
    };
    quiet_log();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
