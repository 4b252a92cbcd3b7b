#include "src/promdata/block.h"

/* block.c - walks the index of a block from front to back and reads chunks where it points.
 *
 * INDEX    magic, version; symbols; series; then lists that nobody needs who reads all; a table of
 *          contents at the end. A series is uvarint length, bytes, CRC, at a multiple of 16, and tombstones
 *          call it by that place / 16 (version 1: at any place, by that). Symbols are named by their number (version 1:
 *          by their place in the file).
 * RULES    D1  A series with a wrong CRC is told once and left out; the next place at which a series
 *              has the right CRC is where reading goes on.
 *          D2  Without a table of contents the series begin behind the symbols, and end where nothing more
 *              can be read.
 *          D3  A chunk whose CRC is wrong is left out alone.
 *          D4  Tombstones that can't be read are told as such: what was deleted may be back.
 * CHUNKS   In files of up to 512 MiB: uvarint length, encoding, bytes, CRC of encoding and bytes. A reference is
 *          the number of the file (from 0) in the upper half, the place in the lower. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"

#define INDEX_MAGIC      0xbaaad700u
#define CHUNKS_MAGIC     0x85bd40ddu
#define TOC_BYTES        52u
#define HEADER_BYTES     5u
#define MAX_SERIES_BYTES (64u << 20)
#define MAX_LOST_BYTES   (16u << 10) /* length of a series that is looked for behind damage */
#define MAX_TRIED_BYTES                                                                            \
    (1ull << 30) /* that may be summed up while looking, behind one place of damage */
#define MAX_STONES_BYTES (1u << 30)
#define MAX_META_BYTES   (64u << 20) /* one with very many parents */
#define NO_FILE          UINT64_MAX

struct pd_block {
    struct fs *fs;
    char *dir, *chunks_dir;
    struct pd_damage *damage;
    struct pd_meta meta;
    bool has_meta;
    struct pd_stones stones;
    uint64_t print;
    /* the index */
    struct pd_file index;
    uint8_t version;
    bool lost_toc; /* D2 */
    uint8_t *symbols;
    size_t symbols_len;
    uint64_t symbols_at; /* of its first byte in the file */
    uint32_t *symbol_at; /* by number, in `symbols` */
    uint32_t n_symbols;
    uint64_t series_at, series_end, next;
    bool ordered; /* last_labels are those of the series before */
    struct arena *last_arena;
    struct labels last_labels;
    struct label *labels;
    struct pd_chunk *chunks;
    size_t cap_labels, cap_chunks;
    /* chunks: one file at a time */
    struct pd_file file;
    uint64_t file_number;
    bool file_missing;
};

static nx_status nomem(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for a block of Prometheus");
}

/* ---- opening -------------------------------------------------------------------------------- */

static nx_status read_meta(struct pd_block *b, struct nx_err *err)
{
    struct nx_err why = {0};
    struct buf text;
    char *path;
    nx_status st;

    if (asprintf(&path, "%s/meta.json", b->dir) < 0)
        return nomem(err);
    buf_init(&text, MAX_META_BYTES);
    st = fs_read_file(b->fs, path, &text, &why);
    if (!st)
        st = pd_meta_parse(buf_view(&text), &b->meta, &why);
    b->has_meta = !st;
    if (st && st != NX_NOMEM)
        pd_tell(b->damage, path, 0, "%s", why.text);
    buf_done(&text);
    free(path);
    return st == NX_NOMEM ? nomem(err) : NX_OK;
}

static nx_status read_stones(struct pd_block *b, struct nx_err *err)
{
    struct nx_err why = {0};
    struct buf bytes;
    char *path;
    nx_status st;

    if (asprintf(&path, "%s/tombstones", b->dir) < 0)
        return nomem(err);
    buf_init(&bytes, MAX_STONES_BYTES);
    st = fs_read_file(b->fs, path, &bytes, &why);
    if (!st)
        st = pd_stones_parse((const uint8_t *)bytes.ptr, bytes.len, &b->stones, &why);
    if (st && st != NX_NOTFOUND && st != NX_NOMEM) /* D4 */
        pd_tell(b->damage, path, 0, "%s; samples that were deleted may be back", why.text);
    pd_stones_order(&b->stones);
    b->print = hash_bytes(bytes.ptr ? bytes.ptr : "", bytes.len);
    buf_done(&bytes);
    free(path);
    return st == NX_NOMEM ? nomem(err) : NX_OK;
}

/* The start of the symbols, and the span of the series. */
static nx_status read_toc(struct pd_block *b, uint64_t *symbols_at, struct nx_err *err)
{
    struct nx_err why = {0};
    const uint8_t *p = NULL;
    uint64_t toc[6], at;
    nx_status st = b->index.bytes < TOC_BYTES + HEADER_BYTES
                       ? nx_fail(&why, NX_CORRUPT, "it is too short")
                       : pd_file_get(&b->index, b->index.bytes - TOC_BYTES, TOC_BYTES, &p, &why);

    if (st == NX_NOMEM)
        return nomem(err);
    if (!st && crc32c(0, p, TOC_BYTES - 4) != pd_u32(p + TOC_BYTES - 4))
        st = nx_fail(&why, NX_CORRUPT, "the checksum of its table of contents is wrong");
    at = b->index.bytes < TOC_BYTES ? 0 : b->index.bytes - TOC_BYTES;
    b->series_end = at;
    *symbols_at = HEADER_BYTES;
    if (st) {
        pd_tell(b->damage, b->index.path, at, "%s", why.text);
        b->lost_toc = true;
        b->series_end = b->index.bytes;
        return NX_OK;
    }
    for (unsigned i = 0; i < 6; i++)
        toc[i] = pd_u64(p + 8 * i);
    *symbols_at = toc[0];
    b->series_at = toc[1];
    for (unsigned i = 0; i < 6; i++)
        if (toc[i] > toc[1] && toc[i] < b->series_end)
            b->series_end = toc[i];
    if (toc[1] == 0 || toc[1] > b->series_end)
        b->series_at = b->series_end;
    return NX_OK;
}

/* Length, number, uvarint strings, CRC of all but the length. */
static nx_status read_symbols(struct pd_block *b, uint64_t at, struct nx_err *err)
{
    const uint8_t *p;
    struct reader r;
    size_t len;
    nx_status st = pd_file_get(&b->index, at, 4, &p, err);

    if (st)
        return st;
    len = pd_u32(p);
    if (len < 4 || at > b->index.bytes || len + 8ull > b->index.bytes - at)
        return nx_fail(err, NX_CORRUPT, "symbols of %zu bytes", len);
    b->symbols = malloc(len + 4);
    if (!b->symbols)
        return nomem(err);
    for (size_t done = 0; done < len + 4 && !st;) {
        const size_t n = len + 4 - done < (1u << 20) ? len + 4 - done : 1u << 20;
        st = pd_file_get(&b->index, at + 4 + done, n, &p, err);
        if (!st)
            memcpy(b->symbols + done, p, n);
        done += n;
    }
    if (st)
        return st;
    if (crc32c(0, b->symbols, len) != pd_u32(b->symbols + len))
        return nx_fail(err, NX_CORRUPT, "the checksum of the symbols is wrong");
    b->symbols_at = at + 4;
    b->symbols_len = len;
    b->n_symbols = pd_u32(b->symbols);
    if (b->n_symbols > len)
        return nx_fail(err, NX_CORRUPT, "%u symbols in %zu bytes", b->n_symbols, len);
    b->symbol_at = malloc((b->n_symbols + 1) * sizeof *b->symbol_at);
    if (!b->symbol_at)
        return nomem(err);
    r = reader_of(b->symbols + 4, len - 4);
    for (uint32_t i = 0; i < b->n_symbols && !r.bad; i++) {
        b->symbol_at[i] = (uint32_t)(r.ptr - b->symbols);
        (void)reader_bytes(&r, (size_t)reader_uvarint(&r));
    }
    if (b->lost_toc)
        b->series_at = at + len + 8;
    return r.bad ? nx_fail(err, NX_CORRUPT, "a symbol does not fit the symbols") : NX_OK;
}

static nx_status open_index(struct pd_block *b, struct nx_err *err)
{
    const uint8_t *p;
    uint64_t symbols_at;
    nx_status st = pd_file_open(&b->index, b->fs, b->dir, "index", err);

    if (!st)
        st = pd_file_get(&b->index, 0, HEADER_BYTES, &p, err);
    if (st)
        return st;
    if (pd_u32(p) != INDEX_MAGIC || p[4] < 1 || p[4] > 3)
        return nx_fail(err, NX_CORRUPT, "this is not an index of version 1, 2 or 3");
    b->version = p[4];
    st = read_toc(b, &symbols_at, err);
    return st ? st : read_symbols(b, symbols_at, err);
}

nx_status pd_block_open(struct pd_block **out, struct fs *fs, const char *dir,
                        struct pd_damage *damage, struct nx_err *err)
{
    struct pd_block *b = calloc(1, sizeof *b);
    nx_status st;

    if (!b)
        return nomem(err);
    b->fs = fs;
    b->damage = damage;
    b->file_number = NO_FILE;
    b->dir = strdup(dir);
    if (asprintf(&b->chunks_dir, "%s/chunks", dir) < 0)
        b->chunks_dir = NULL;
    b->last_arena = arena_new(0);
    st = b->dir && b->chunks_dir && b->last_arena ? read_meta(b, err) : nomem(err);
    if (!st)
        st = read_stones(b, err);
    if (!st)
        st = open_index(b, err);
    if (!st) {
        b->print = hash_mix(b->print, b->index.bytes);
        pd_block_rewind(b);
        *out = b;
        b = NULL;
    }
    pd_block_close(b);
    return st;
}

void pd_block_close(struct pd_block *b)
{
    if (!b)
        return;
    pd_file_close(&b->index);
    pd_file_close(&b->file);
    pd_stones_done(&b->stones);
    arena_free(b->last_arena);
    free(b->symbols);
    free(b->symbol_at);
    free(b->labels);
    free(b->chunks);
    free(b->dir);
    free(b->chunks_dir);
    free(b);
}

const struct pd_meta *pd_block_meta(const struct pd_block *b)
{
    return b->has_meta ? &b->meta : NULL;
}

uint64_t pd_block_print(const struct pd_block *b)
{
    return b->print;
}

/* ---- series --------------------------------------------------------------------------------- */

/* The first place from `at` on where a series may be. */
static uint64_t aligned(const struct pd_block *b, uint64_t at)
{
    return b->version == 1 ? at : (at + 15) / 16 * 16;
}

void pd_block_rewind(struct pd_block *b)
{
    b->next = aligned(b, b->series_at); /* the contents point before the padding */
    b->ordered = false;
}

static struct nx_slice symbol(const struct pd_block *b, uint64_t ref, bool *bad)
{
    struct reader r;
    uint64_t at = ref;
    struct nx_slice s;

    if (b->version == 1) {
        at -= b->symbols_at;
        *bad |= ref < b->symbols_at + 4 || at >= b->symbols_len;
    } else {
        *bad |= ref >= b->n_symbols;
        if (!*bad)
            at = b->symbol_at[ref];
    }
    if (*bad)
        return (struct nx_slice){0};
    r = reader_of(b->symbols + at, b->symbols_len - at);
    s = reader_bytes(&r, (size_t)reader_uvarint(&r));
    *bad |= r.bad;
    return s;
}

static nx_status grow(void **p, size_t *cap, size_t n, size_t size, struct nx_err *err)
{
    void *grown;

    if (n <= *cap)
        return NX_OK;
    grown = reallocarray(*p, n + n / 2 + 16, size);
    if (!grown)
        return nomem(err);
    *p = grown;
    *cap = n + n / 2 + 16;
    return NX_OK;
}

static nx_status parse_labels(struct pd_block *b, struct reader *r, struct pd_series *out,
                              struct nx_err *err)
{
    const uint64_t n = reader_uvarint(r);
    uint32_t kept = 0;
    void *p = b->labels;
    bool bad = r->bad || n > reader_left(r) / 2;
    nx_status st = bad ? NX_OK : grow(&p, &b->cap_labels, (size_t)n, sizeof *b->labels, err);

    b->labels = p;
    for (uint64_t i = 0; i < n && !bad && !st; i++) {
        const struct nx_slice name = symbol(b, reader_uvarint(r), &bad);
        const struct nx_slice value = symbol(b, reader_uvarint(r), &bad);
        if (r->bad || bad || name.len == 0 ||
            (kept && nx_slice_cmp(b->labels[kept - 1].name, name) >= 0))
            bad = true;
        else if (value.len) /* an empty one is as good as none */
            b->labels[kept++] = (struct label){name, value};
    }
    out->labels = (struct labels){b->labels, kept};
    if (!st && (bad || kept == 0))
        st = nx_fail(err, NX_CORRUPT, "the labels of a series are damaged");
    return st;
}

static nx_status parse_chunks(struct pd_block *b, struct reader *r, struct pd_series *out,
                              struct nx_err *err)
{
    const uint64_t n = reader_uvarint(r);
    uint64_t ref = 0, max = 0;
    void *p = b->chunks;
    nx_status st = r->bad || n > reader_left(r) / 3
                       ? nx_fail(err, NX_CORRUPT, "the chunks of a series are damaged")
                       : grow(&p, &b->cap_chunks, (size_t)n, sizeof *b->chunks, err);

    b->chunks = p;
    for (uint64_t i = 0; i < n && !st; i++) {
        const uint64_t min = i ? max + reader_uvarint(r) : (uint64_t)reader_varint(r);
        max = min + reader_uvarint(r);
        ref = i ? ref + (uint64_t)reader_varint(r) : reader_uvarint(r);
        b->chunks[i] = (struct pd_chunk){(int64_t)min, (int64_t)max, ref};
        if (r->bad || (int64_t)min > (int64_t)max)
            st = nx_fail(err, NX_CORRUPT, "the chunks of a series are damaged");
    }
    out->chunks = b->chunks;
    out->n = (size_t)n;
    return st;
}

/* The bytes of a series at `at`; *behind is where its CRC ends. *empty: there are zeros instead. */
static nx_status series_bytes(struct pd_block *b, uint64_t at, size_t limit, struct reader *out,
                              uint64_t *behind, bool *empty, struct nx_err *err)
{
    const uint64_t left = b->series_end - at;
    const uint8_t *p;
    struct reader r;
    uint64_t len;
    size_t head;
    nx_status st = pd_file_get(&b->index, at, left < 10 ? (size_t)left : 10, &p, err);

    if (st)
        return st;
    r = reader_of(p, left < 10 ? (size_t)left : 10);
    len = reader_uvarint(&r);
    head = (size_t)(r.ptr - p);
    *empty = !r.bad && len == 0;
    if (*empty)
        return NX_OK;
    if (r.bad || len > limit || head + len + 4 > left)
        return nx_fail(err, NX_CORRUPT, "the length of a series is damaged");
    st = pd_file_get(&b->index, at, head + (size_t)len + 4, &p, err);
    if (st)
        return st;
    if (crc32c(0, p + head, (size_t)len) != pd_u32(p + head + len))
        return nx_fail(err, NX_CORRUPT, "the checksum of a series is wrong");
    *out = reader_of(p + head, (size_t)len);
    *behind = at + head + len + 4;
    return NX_OK;
}

/* D1, D2 */
static nx_status next_bytes(struct pd_block *b, struct reader *r, uint64_t *at, bool *end,
                            struct nx_err *err)
{
    const uint64_t step = b->version == 1 ? 1 : 16;
    uint64_t tried = 0;
    bool lost = false, empty;

    for (; b->next < b->series_end && tried < MAX_TRIED_BYTES; b->next += step) {
        struct nx_err why = {0};
        uint64_t behind = 0;
        nx_status st = series_bytes(b, b->next, lost ? MAX_LOST_BYTES : MAX_SERIES_BYTES, r,
                                    &behind, &empty, &why);
        if (!st && empty)
            continue;
        if (!st) {
            *at = b->next;
            b->next = aligned(b, behind);
            return NX_OK;
        }
        if (st == NX_NOMEM)
            return nomem(err);
        if (b->lost_toc)
            break;
        if (!lost)
            pd_tell(b->damage, b->index.path, b->next, "%s", why.text);
        lost = true;
        tried += MAX_LOST_BYTES;
    }
    if (b->next < b->series_end && !b->lost_toc)
        pd_tell(b->damage, b->index.path, b->next, "no series is found any more");
    *end = true;
    return NX_OK;
}

static nx_status keep_order(struct pd_block *b, struct pd_series *s, struct nx_err *err)
{
    if (b->ordered && labels_cmp(&b->last_labels, &s->labels) >= 0)
        return nx_fail(err, NX_CORRUPT, "a series is not in the order of its labels");
    arena_reset(b->last_arena);
    b->ordered = true;
    return labels_copy(b->last_arena, &s->labels, &b->last_labels, err);
}

nx_status pd_block_next(struct pd_block *b, struct pd_series *out, bool *end, struct nx_err *err)
{
    for (*end = false;;) {
        struct nx_err why = {0};
        struct reader r;
        nx_status st = next_bytes(b, &r, &out->at, end, err);

        if (st || *end)
            return st;
        out->id = b->version == 1 ? out->at : out->at / 16;
        st = parse_labels(b, &r, out, &why);
        if (!st)
            st = parse_chunks(b, &r, out, &why);
        if (!st)
            st = keep_order(b, out, &why);
        if (!st)
            return NX_OK;
        if (st == NX_NOMEM)
            return nomem(err);
        pd_tell(b->damage, b->index.path, out->at, "%s", why.text);
    }
}

/* ---- chunks --------------------------------------------------------------------------------- */

static nx_status open_segment(struct pd_block *b, uint64_t number, struct nx_err *err)
{
    struct nx_err why = {0};
    const uint8_t *p;
    char name[32];
    nx_status st;

    if (b->file_number == number)
        return b->file_missing ? nx_fail(err, NX_NOTFOUND, "its file is missing") : NX_OK;
    pd_file_close(&b->file);
    b->file_number = number;
    b->file_missing = true;
    snprintf(name, sizeof name, "%06" PRIu64, number + 1);
    st = pd_file_open(&b->file, b->fs, b->chunks_dir, name, err);
    if (st)
        return st;
    b->file_missing = false;
    st = pd_file_get(&b->file, 0, 8, &p, &why);
    if (!st && (pd_u32(p) != CHUNKS_MAGIC || p[4] != 1))
        st = nx_fail(&why, NX_CORRUPT, "its header is not that of a file of chunks");
    if (st && st != NX_NOMEM)
        pd_tell(b->damage, b->file.path, 0, "%s",
                why.text); /* chunks have checksums of their own */
    return NX_OK;
}

static nx_status chunk_bytes(struct pd_block *b, uint64_t ref, uint8_t *encoding,
                             const uint8_t **bytes, size_t *len, struct nx_err *err)
{
    const uint64_t at = (uint32_t)ref;
    const uint8_t *p;
    struct reader r;
    size_t n, head;
    uint64_t left, length;
    nx_status st = open_segment(b, ref >> 32, err);

    if (st)
        return st;
    left = at < b->file.bytes ? b->file.bytes - at : 0;
    n = left < 10 ? (size_t)left : 10;
    st = pd_file_get(&b->file, at, n, &p, err);
    if (st)
        return st;
    r = reader_of(p, n);
    length = reader_uvarint(&r);
    head = (size_t)(r.ptr - p);
    if (r.bad || length > left || head + length + 5 > left)
        return nx_fail(err, NX_CORRUPT, "the length of a chunk is damaged");
    st = pd_file_get(&b->file, at, head + (size_t)length + 5, &p, err);
    if (st)
        return st;
    if (crc32c(0, p + head, (size_t)length + 1) != pd_u32(p + head + length + 1))
        return nx_fail(err, NX_CORRUPT, "the checksum of a chunk is wrong");
    *encoding = p[head];
    *bytes = p + head + 1;
    *len = (size_t)length;
    return NX_OK;
}

static nx_status read_chunk(struct pd_block *b, const struct pd_chunk *c, bool begins,
                            struct pd_samples *to, struct pd_histograms *h, struct nx_err *err)
{
    const uint8_t *bytes = NULL;
    uint8_t encoding = 0;
    size_t len = 0;
    nx_status st = chunk_bytes(b, c->ref, &encoding, &bytes, &len, err);

    if (!st && pd_is_histogram(encoding)) {
        h->any = true;
        h->samples += begins ? pd_chunk_count(bytes, len) : 0;
        return NX_OK;
    }
    return st ? st : pd_chunk_decode(encoding, bytes, len, to, err);
}

/* Keeps of the samples from `from` on those in the span that were not deleted. */
static void filter(struct pd_samples *s, size_t from, int64_t min_ms, int64_t max_ms,
                   const struct pd_stone *stones, size_t n_stones)
{
    size_t kept = from;

    if (n_stones == 0 && s->n > from && s->t[from] >= min_ms && s->t[s->n - 1] <= max_ms) {
        size_t i = from + 1;
        while (i < s->n && s->t[i - 1] < s->t[i])
            i++;
        if (i == s->n)
            return;
    }
    for (size_t i = from; i < s->n; i++) {
        if (s->t[i] < min_ms || s->t[i] > max_ms || pd_stones_hold(stones, n_stones, s->t[i]))
            continue;
        s->t[kept] = s->t[i];
        s->v[kept++] = s->v[i];
    }
    s->n = kept;
}

nx_status pd_block_read(struct pd_block *b, const struct pd_series *s, int64_t min_ms,
                        int64_t max_ms, struct pd_samples *to, struct pd_same *same,
                        struct pd_histograms *h, struct nx_err *err)
{
    size_t n_stones;
    const struct pd_stone *stones = pd_stones_of(&b->stones, s->id, &n_stones);

    for (size_t i = 0; i < s->n; i++) {
        const struct pd_chunk *c = &s->chunks[i];
        const bool begins = c->min_ms >= min_ms && c->min_ms <= max_ms;
        const size_t from = to->n;
        struct nx_err why = {0};
        nx_status st;

        if (c->max_ms < min_ms || c->min_ms > max_ms)
            continue;
        st = read_chunk(b, c, begins, to, h, &why);
        if (st == NX_NOMEM)
            return nomem(err);
        if (st) { /* D3; told in the span in which it begins */
            const uint64_t at = (uint32_t)c->ref;
            if (begins && b->file_missing)
                pd_tell(b->damage, b->chunks_dir, c->ref >> 32, "%s", why.text);
            else if (begins)
                pd_tell(b->damage, b->file.path, at, "%s", why.text);
            continue;
        }
        filter(to, from, min_ms, max_ms, stones, n_stones);
    }
    return pd_samples_sort(to, same, err);
}
