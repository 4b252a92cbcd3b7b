/* Any bytes as files of Prometheus's: whatever is read gives samples or is damage, within bounded memory, and an
 * import over it ends with a store that opens.
 *
 * The first byte chooses the file that the rest is: 0 an index, 1 a segment of a log, 2 the payload of one record, 3
 * chunks of the head, 4 tombstones, 5 a chunk (XOR), 6 a chunk (XOR2), 7 meta.json, 8 a file of chunks. For 0 to 3 the
 * checksums are made right where the bytes have the shape for it, so that what lies behind them is reached. */
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/promdata/chunk.h"
#include "src/promdata/file.h"
#include "src/promdata/promdata.h"
#include "tests/support/promfiles.h"
#include "tests/support/quiet.h"
#include "tests/support/simfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ULID "01JGFJJZ00ABCDEFGHJKMNPQRS"

static struct label labels[] = {{{"__name__", 8}, {"m", 1}}, {{"job", 3}, {"x", 1}}};

static void put_crc(char *at, const char *from, size_t len)
{
    const uint32_t crc = crc32c(0, from, len);

    for (int i = 0; i < 4; i++)
        at[i] = (char)(crc >> (24 - 8 * i));
}

/* Right checksums for the contents, the symbols, and series that lie where they would. */
static void mend_index(struct buf *b)
{
    uint64_t symbols, series;
    size_t len;

    if (b->len < 64)
        return;
    memcpy(b->ptr, "\xba\xaa\xd7\0", 4);
    put_crc(b->ptr + b->len - 4, b->ptr + b->len - 52, 48);
    symbols = pd_u64((uint8_t *)b->ptr + b->len - 52);
    series = pd_u64((uint8_t *)b->ptr + b->len - 44);
    if (symbols < b->len - 60) {
        len = pd_u32((uint8_t *)b->ptr + symbols);
        if (len < b->len - 60 - symbols)
            put_crc(b->ptr + symbols + 4 + len, b->ptr + symbols + 4, len);
    }
    for (size_t i = (series + 15) / 16 * 16; i < b->len - 60 && series < b->len; i += 16) {
        len = (uint8_t)b->ptr[i];
        if (len && len < 128 && i + 5 + len < b->len - 52)
            put_crc(b->ptr + i + 1 + len, b->ptr + i + 1, len);
    }
}

static void mend_segment(struct buf *b)
{
    for (size_t i = 0; i + 7 < b->len && b->ptr[i];) {
        const size_t n = pd_u16((uint8_t *)b->ptr + i + 1);
        if (i + 7 + n > b->len)
            return;
        put_crc(b->ptr + i + 3, b->ptr + i + 7, n);
        i += 7 + n;
    }
}

static void mend_head_chunks(struct buf *b)
{
    if (b->len < 8)
        return;
    memcpy(b->ptr, "\x01\x30\xbc\x91\1", 5);
    for (size_t i = 8; i + 30 < b->len;) {
        const size_t n = (uint8_t)b->ptr[i + 25];
        if (n > 127 || i + 30 + n > b->len)
            return;
        put_crc(b->ptr + i + 26 + n, b->ptr + i, 26 + n);
        i += 30 + n;
    }
}

static void decode(uint8_t encoding, const struct buf *b)
{
    struct pd_samples s = {0};
    struct nx_err err;
    const nx_status st =
        pd_chunk_decode(encoding, (const uint8_t *)(b->ptr ? b->ptr : ""), b->len, &s, &err);

    NX_ASSERT_ALWAYS(st == NX_OK || st == NX_CORRUPT);
    NX_ASSERT_ALWAYS(s.cap <= 16 * b->len + 128);
    pd_samples_done(&s);
}

/* A right folder, into which the bytes are put. */
static void build(struct fs *fs, unsigned kind, struct buf *bytes)
{
    const int64_t t[] = {1000, 2000, 3000};
    const double v[] = {1, 2, 3};
    const uint64_t refs[] = {1, 1, 1};
    const struct labels ls = {labels, 2};
    struct prom_chunk_meta meta = {1000, 3000, 8};
    struct prom_series series = {.labels = ls, .chunks = &meta, .n = 1};
    struct buf b, file;

    buf_init(&b, 0);
    buf_init(&file, 0);
    prom_xor(&b, t, v, 3);
    prom_chunk(&file, PD_XOR, &b);
    prom_put(fs, "d/" ULID "/chunks/000001", kind == 8 ? bytes : &file);
    buf_clear(&file);
    prom_index(&file, 2, &series, 1);
    prom_put(fs, "d/" ULID "/index", kind == 0 ? bytes : &file);
    buf_clear(&file);
    prom_meta(&file, ULID, 1000, 3001, NULL);
    prom_put(fs, "d/" ULID "/meta.json", kind == 7 ? bytes : &file);
    if (kind == 4)
        prom_put(fs, "d/" ULID "/tombstones", bytes);
    buf_clear(&file);
    buf_clear(&b);
    prom_series_record(&b, 1, &ls);
    prom_record(&file, &b, 0);
    buf_clear(&b);
    prom_samples_record(&b, refs, (const int64_t[]){4000, 5000, 6000}, v, 3);
    prom_record(&file, &b, 's');
    if (kind == 2)
        prom_record(&file, bytes, 'z');
    prom_put(fs, "d/wal/00000000", &file);
    if (kind == 1) {
        prom_put(fs, "d/wal/00000001", bytes);
        prom_put(fs, "d/wbl/00000000", bytes);
    }
    buf_clear(&file);
    prom_put(fs, "d/chunks_head/000001", kind == 3 ? bytes : &file);
    buf_done(&b);
    buf_done(&file);
}

static void import(struct simfs *sim)
{
    const struct promdata_opts o = {.fs = simfs_fs(sim), .dir = "d", .out = "o"};
    const struct storage_opts so = {.fs = simfs_fs(sim), .dir = "o", .no_worker = true};
    struct promdata_result r;
    struct storage *s = NULL;
    struct nx_err err;
    nx_status st = promdata_import(&o, &r, &err);

    NX_ASSERT_ALWAYS(st == NX_OK);
    st = storage_open(&s, &so, &err);
    NX_ASSERT_ALWAYS(st == NX_OK);
    storage_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const unsigned kind = size ? data[0] % 9 : 0;
    struct buf b;

    if (size < 2 || size > 1u << 17)
        return 0;
    quiet_log();
    buf_init(&b, 0);
    buf_append(&b, data + 1, size - 1);
    if (kind == 0)
        mend_index(&b);
    else if (kind == 1)
        mend_segment(&b);
    else if (kind == 3)
        mend_head_chunks(&b);
    if (kind == 5 || kind == 6) {
        decode(kind == 5 ? PD_XOR : PD_XOR2, &b);
    } else {
        struct simfs *sim = simfs_new(1);
        build(simfs_fs(sim), kind, &b);
        import(sim);
        simfs_free(sim);
    }
    buf_done(&b);
    return 0;
}
