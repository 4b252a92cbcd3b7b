/* Opinion: whatever the pages of a block say, with every checksum right, opening, selecting, reading and
 * verifying end in NX_OK or NX_CORRUPT, within memory that the bytes' length bounds.
 *
 * Input: pieces, each u8 which (0 a page of index tree 0..4, 5 and 6 of chunks), u16 length, bytes. The
 * files are made around them, so that the fuzzer need not guess checksums. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/block_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A file system of three files in memory, read only. */
struct fs_file {
    struct buf *bytes;
};
static struct buf files[3]; /* meta.json, index, chunks */

static struct buf *file_of(const char *path)
{
    return &files[strstr(path, "meta.json") ? 0 : strstr(path, "index") ? 1 : 2];
}

static nx_status mem_open(struct fs *fs, const char *path, int flags, struct fs_file **out,
                          struct nx_err *err)
{
    (void)fs;
    (void)err;
    *out = malloc(sizeof **out);
    if (!*out)
        abort();
    (*out)->bytes = file_of(path);
    if (flags & FS_CREATE)
        buf_clear((*out)->bytes);
    return NX_OK;
}

static void mem_close(struct fs *fs, struct fs_file *f)
{
    (void)fs;
    free(f);
}

static nx_status mem_pread(struct fs *fs, struct fs_file *f, void *to, size_t len, uint64_t off,
                           size_t *got, struct nx_err *err)
{
    const size_t left = off < f->bytes->len ? f->bytes->len - (size_t)off : 0;

    (void)fs;
    (void)err;
    *got = len < left ? len : left;
    if (*got)
        memcpy(to, f->bytes->ptr + off, *got);
    return NX_OK;
}

static nx_status mem_write(struct fs *fs, struct fs_file *f, const void *from, size_t len,
                           size_t *wrote, struct nx_err *err)
{
    (void)fs;
    (void)err;
    buf_append(f->bytes, from, len);
    *wrote = len;
    return NX_OK;
}

static nx_status mem_sync(struct fs *fs, struct fs_file *f, struct nx_err *err)
{
    (void)fs;
    (void)f;
    (void)err;
    return NX_OK;
}

static nx_status mem_size(struct fs *fs, struct fs_file *f, uint64_t *bytes, struct nx_err *err)
{
    (void)fs;
    (void)err;
    *bytes = f->bytes->len;
    return NX_OK;
}

static nx_status mem_stat(struct fs *fs, const char *path, struct fs_stat *out, struct nx_err *err)
{
    (void)fs;
    (void)err;
    *out = (struct fs_stat){.bytes = file_of(path)->len};
    return NX_OK;
}

static struct fs mem = {.open = mem_open,
                        .close = mem_close,
                        .pread = mem_pread,
                        .write = mem_write,
                        .sync = mem_sync,
                        .size = mem_size,
                        .stat = mem_stat};

static struct nx_err err;

static void must(nx_status st)
{
    if (st)
        abort();
}

static void corrupt_at_worst(nx_status st)
{
    if (st == NX_OK || st == NX_CORRUPT)
        return;
    fprintf(stderr, "%s: %s\n", nx_status_text(st), err.text);
    abort();
}

/* Items: as many as the page's first byte says, so that right counts are easy to come by. */
static void make_files(const uint8_t *data, size_t size, struct block_meta *meta)
{
    struct page_writer *w[2];
    uint64_t items[2][PAGE_MAX_TREES] = {{0}}, bytes;
    const char ulid[] = "01JGFJJZ00ABCDEFGHJKMNPQRS";

    must(page_writer_open(&w[0], &mem, "index", BLOCK_INDEX_MAGIC, 0, NULL));
    must(page_writer_open(&w[1], &mem, "chunks", BLOCK_CHUNKS_MAGIC, 0, NULL));
    while (size > 4) {
        const unsigned which = data[0] % 7, file = which > 4, tree = file ? which - 5 : which;
        const size_t want = (size_t)(data[2] | data[3] << 8),
                     len = want < size - 4 ? want : size - 4;

        must(page_writer_add(w[file], tree, items[file][tree], data + 4, len, NULL));
        items[file][tree] += 1u + data[1];
        data += 4 + len;
        size -= 4 + len;
    }
    must(page_writer_finish(w[0], items[0], nx_slice_of(ulid, 26), &bytes, NULL));
    must(page_writer_finish(w[1], items[1], nx_slice_of(ulid, 26), &bytes, NULL));
    page_writer_close(w[0]);
    page_writer_close(w[1]);
    *meta = (struct block_meta){.max_ms = INT64_C(1) << 40,
                                .n_series = items[0][IX_SERIES],
                                .n_chunks = items[1][CH_CHUNKS],
                                .level = 1};
    memcpy(meta->ulid, ulid, sizeof meta->ulid);
    buf_clear(&files[0]);
    must(block_meta_print(meta, &files[0], NULL));
}

static void use(struct block *b)
{
    static const struct matcher m[] = {{MATCH_EQ, {"a", 1}, {"b", 1}, NULL},
                                       {MATCH_NEQ, {"a", 1}, {"", 0}, NULL},
                                       {MATCH_EQ, {"job", 3}, {"", 0}, NULL}};
    struct chunk_scratch *s = chunk_scratch_new();
    struct arena *a = arena_new(256u << 20);
    struct samples got = {0};
    struct series_list list;
    struct nx_slice *names;
    size_t n;

    for (size_t i = 0; i <= NX_COUNT(m); i++) {
        corrupt_at_worst(block_select(b, m, i, 0, 1 << 20, a, &list, &err));
        corrupt_at_worst(block_label_names(b, m, i, 0, 1 << 20, 0, a, &names, &n, &err));
        corrupt_at_worst(
            block_label_values(b, nx_slice_of("a", 1), m, i, 0, 1 << 20, 0, a, &names, &n, &err));
    }
    for (uint64_t i = 0; i < block_meta(b)->n_series && i < 8; i++) {
        got.n = 0;
        corrupt_at_worst(block_read(b, i, INT64_MIN, INT64_MAX, &got, s, &err));
    }
    corrupt_at_worst(block_verify(b, &err));
    samples_done(&got);
    arena_free(a);
    chunk_scratch_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cache *cache = cache_new(1 << 20);
    struct block_meta meta;
    struct block *b = NULL;
    nx_status st;

    make_files(data, size, &meta);
    st = block_open(&b, &mem, cache, "block", &err);
    corrupt_at_worst(st);
    if (!st)
        use(b);
    block_unref(b);
    cache_free(cache);
    for (size_t i = 0; i < 3; i++)
        buf_clear(&files[i]);
    return 0;
}
