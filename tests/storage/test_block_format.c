/* The block that FORMAT.md shows byte by byte: it is read as the text says, and written just so. */
#include "tests/support/test.h"

#include <lz4.h>

#include "storage/block.h"
#include "tests/support/simfs.h"

#define ULID "01JGFJJZ00ABCDEFGHJKMNPQRS"
#define DIR  "data"
#define PATH DIR "/" ULID
#define T0   INT64_C(1735689600000)

static struct nx_err err;
static const char *const files[] = {"meta.json", "index", "chunks"};

static nx_status write_example(struct fs *fs)
{
    const struct block_writer_opts opts = {
        .fs = fs, .dir = DIR, .ulid = ULID, .min_ms = T0, .max_ms = T0 + 7200000};
    const int64_t t[] = {T0, T0 + 15000, T0 + 30000, T0 + 45000};
    const double a[] = {1, 1, 0, 1};
    const double b[] = {chunk_absent(), 0.25, 0.5, num_from_bits(NUM_STALE_BITS)};
    struct label la[2] = {{LIT(LABEL_NAME), LIT("up")}, {LIT("job"), LIT("a")}};
    struct label lb[2] = {{LIT(LABEL_NAME), LIT("up")}, {LIT("job"), LIT("b")}};
    const struct labels first = {la, 2}, second = {lb, 2};
    struct block_writer *w;
    uint32_t times;

    assert_ok(fs->mkdir(fs, DIR, &err), &err);
    assert_ok(block_writer_open(&w, &opts, &err), &err);
    assert_ok(block_writer_times(w, t, 4, &times, &err), &err);
    assert_ok(block_writer_series(w, &first, &err), &err);
    assert_ok(block_writer_chunk(w, times, a, 4, &err), &err);
    assert_ok(block_writer_series(w, &second, &err), &err);
    assert_ok(block_writer_chunk(w, times, b, 4, &err), &err);
    nx_status st = block_writer_commit(w, NULL, &err);
    block_writer_close(w);
    return st;
}

/* The text between "<!-- NAME -->" and the fence that closes the code block after it. */
static struct nx_slice example_of(struct buf *doc, const char *name)
{
    char mark[64];
    char *from, *to;

    snprintf(mark, sizeof mark, "<!-- example: %s -->", name);
    from = strstr(doc->ptr, mark);
    if (!from)
        fail_msg("storage/FORMAT.md has no %s", mark);
    from = strchr(strstr(from, "```"), '\n') + 1;
    to = strstr(from, "```");
    assert_non_null(to);
    return nx_slice_of(from, (size_t)(to - from));
}

/* Lines of "offset: hex hex ...  | what it is". */
static void bytes_of(struct nx_slice text, struct buf *to)
{
    const char *p = text.ptr, *end = text.ptr + text.len;

    while (p < end) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        const char *bar = memchr(p, '|', (size_t)(line_end - p));
        unsigned offset, byte;
        int used;

        if (sscanf(p, "%x:%n", &offset, &used) == 1) {
            if (offset != to->len)
                fail_msg("FORMAT.md: line says %x, it is at %zx", offset, to->len);
            for (p += used; p < (bar ? bar : line_end) && sscanf(p, " %2x%n", &byte, &used) == 1;
                 p += used)
                buf_u8(to, (uint8_t)byte);
        }
        p = line_end + 1;
    }
}

static void print_hex(const struct buf *b)
{
    for (size_t i = 0; i < b->len; i += 16) {
        printf("%04zx:", i);
        for (size_t k = i; k < i + 16 && k < b->len; k++)
            printf(" %02x", (uint8_t)b->ptr[k]);
        printf("\n");
    }
}

static void the_example_is_what_is_written(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct buf doc;

    (void)state;
    if (LZ4_versionNumber() != 10904) { /* another one may find other matches in the roots */
        simfs_free(sim);
        skip();
    }
    buf_init(&doc, 0);
    assert_ok(write_example(fs), &err);
    assert_ok(fs_read_file(fs_real(), "storage/FORMAT.md", &doc, &err), &err);
    buf_cstr(&doc);
    for (size_t i = 0; i < NX_COUNT(files); i++) {
        struct buf want, is;
        char path[128];

        buf_init(&want, 0);
        buf_init(&is, 0);
        snprintf(path, sizeof path, PATH "/%s", files[i]);
        assert_ok(fs_read_file(fs, path, &is, &err), &err);
        if (i == 0)
            buf_slice(&want, example_of(&doc, files[i]));
        else
            bytes_of(example_of(&doc, files[i]), &want);
        if (!nx_slice_eq(buf_view(&want), buf_view(&is))) {
            if (i == 0)
                printf("%s", buf_cstr(&is));
            else
                print_hex(&is);
            fail_msg("%s: FORMAT.md shows %zu bytes, written are the %zu above", files[i], want.len,
                     is.len);
        }
        buf_done(&want);
        buf_done(&is);
    }
    buf_done(&doc);
    simfs_free(sim);
}

static void put_file(struct fs *fs, const char *name, const struct buf *bytes)
{
    struct fs_file *f;
    char path[128];
    size_t wrote;

    snprintf(path, sizeof path, PATH "/%s", name);
    assert_ok(fs->open(fs, path, FS_WRITE | FS_CREATE, &f, &err), &err);
    assert_ok(fs->write(fs, f, bytes->ptr, bytes->len, &wrote, &err), &err);
    fs->close(fs, f);
}

static void the_example_is_read_as_the_text_says(void **state)
{
    struct simfs *sim = simfs_new(1);
    struct fs *fs = simfs_fs(sim);
    struct cache *cache = cache_new(1 << 20);
    struct chunk_scratch *s = chunk_scratch_new();
    struct arena *a = arena_new(0);
    struct samples got = {0};
    struct series_list list;
    struct block *b;
    struct buf doc;

    (void)state;
    buf_init(&doc, 0);
    assert_ok(fs_read_file(fs_real(), "storage/FORMAT.md", &doc, &err), &err);
    buf_cstr(&doc);
    assert_ok(fs_mkdirs(fs, PATH, &err), &err);
    for (size_t i = 0; i < NX_COUNT(files); i++) {
        struct buf bytes;

        buf_init(&bytes, 0);
        if (i == 0)
            buf_slice(&bytes, example_of(&doc, files[i]));
        else
            bytes_of(example_of(&doc, files[i]), &bytes);
        put_file(fs, files[i], &bytes);
        buf_done(&bytes);
    }
    assert_ok(block_open(&b, fs, cache, PATH, &err), &err);
    assert_ok(block_verify(b, &err), &err);
    assert_ok(block_select(b, NULL, 0, INT64_MIN, INT64_MAX, a, &list, &err), &err);
    assert_int_equal(list.n, 2);
    assert_text(labels_get_str(&list.v[1].labels, "job"), "b", "second series");
    assert_ok(block_read(b, 0, INT64_MIN, INT64_MAX, &got, s, &err), &err);
    assert_int_equal(got.n, 4);
    assert_true(got.v[0] == 1 && got.v[2] == 0);
    got.n = 0;
    assert_ok(block_read(b, 1, INT64_MIN, INT64_MAX, &got, s, &err), &err);
    assert_int_equal(got.n, 3);
    assert_int_equal(got.t[0], T0 + 15000);
    assert_true(got.v[0] == 0.25 && got.v[1] == 0.5 && num_is_stale(got.v[2]));
    samples_done(&got);
    arena_free(a);
    chunk_scratch_free(s);
    block_unref(b);
    cache_free(cache);
    buf_done(&doc);
    simfs_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_is_what_is_written),
        cmocka_unit_test(the_example_is_read_as_the_text_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
