/* page.c - pages with a checksum, directories over them, a root at the end.
 *
 * SHAPE   file   = header, pages in the order of writing (directory pages last), root page, footer
 *         page   = 16 bytes of header, then the bytes, under LZ4 where that helps
 *         root   = per tree the number of items and either all its pages (up to DIRECT) or all its
 *                  directory pages, each of which lists up to FANOUT pages
 * RULES   F1  A page's checksum covers its place, its header and its bytes, so that a page that was
 *             written or read elsewhere does not pass; nothing is used before it matched.
 *         F2  Lengths are compared with the file's size before anything is allocated.
 *         F3  The footer names the root's place and must end exactly at the end of the file: a file
 *             that was cut or grew is refused at opening.
 *         F4  Root and directory entries ascend in item numbers and stay within the file.
 *         F5  The file is open while it is read, and as long after as there are not too many (files.h).
 * THREADS Only the list of damaged pages changes after opening; it has a lock of its own. */
#include "storage/page.h"

#include <lz4.h>
#include <lz4hc.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/thread.h"

#define HEADER_BYTES      16u
#define PAGE_HEADER_BYTES 16u
#define FOOTER_BYTES      32u
#define ENTRY_BYTES       16u
#define DIRECT            256u /* pages of a tree that the root lists itself */
#define FANOUT            512u /* entries of a directory page */
#define WRITE_BYTES       (256u << 10)
#define TREE_DIRECTORY    0xf0u /* + tree: the tree number in a directory page's header */
#define TREE_ROOT         0xffu
#define DERIVED           (UINT64_C(1) << 62)
#define MAX_DAMAGED       64u
#define MAX_EXTRA_BYTES   4096u

enum { STORED, LZ4 };

struct entry {
    uint64_t first, at; /* first item; offset of the page */
};

struct tree {
    struct entry *v; /* of pages or of directory pages */
    size_t n, cap;
    uint64_t n_items;
    bool direct;
};

/* F1 */
static uint32_t page_crc(uint64_t at, const uint8_t header[PAGE_HEADER_BYTES], const void *ptr,
                         size_t len)
{
    uint8_t place[8];

    put_u64le(place, at);
    return crc32c(crc32c(crc32c(0, place, sizeof place), header, 12), ptr, len);
}

/* ---- writing -------------------------------------------------------------------------------- */

struct page_writer {
    struct fs *fs;
    struct fs_file *file;
    char *path;
    char magic[PAGE_MAGIC_BYTES];
    int level;
    uint64_t at; /* bytes written or pending */
    struct buf pending, packed;
    struct tree trees[PAGE_MAX_TREES];
};

static nx_status flush(struct page_writer *w, struct nx_err *err)
{
    size_t wrote;
    nx_status st = buf_status(&w->pending, err);

    if (!st && w->pending.len)
        st = w->fs->write(w->fs, w->file, w->pending.ptr, w->pending.len, &wrote, err);
    buf_clear(&w->pending);
    return st;
}

nx_status page_writer_open(struct page_writer **out, struct fs *fs, const char *path,
                           const char *magic, int level, struct nx_err *err)
{
    struct page_writer *w = calloc(1, sizeof *w);
    uint8_t header[HEADER_BYTES] = {0};
    nx_status st;

    if (!w || !(w->path = strdup(path))) {
        st = nx_fail(err, NX_NOMEM, "%s: out of memory", path);
        goto done;
    }
    w->fs = fs;
    w->level = level;
    memcpy(w->magic, magic, PAGE_MAGIC_BYTES);
    st = fs->open(fs, path, FS_WRITE | FS_CREATE | FS_EXCL, &w->file, err);
    if (st)
        goto done;
    memcpy(header, magic, PAGE_MAGIC_BYTES);
    put_u32le(header + 8, PAGE_VERSION);
    put_u32le(header + 12, crc32c(0, header, 12));
    buf_append(&w->pending, header, sizeof header);
    w->at = sizeof header;
    *out = w;
    w = NULL;

done:
    page_writer_close(w);
    return st;
}

/* The bytes as they will be stored: compressed if that saves anything. */
static struct nx_slice squeeze(struct page_writer *w, const void *ptr, size_t len, uint8_t *form)
{
    int cap = len <= LZ4_MAX_INPUT_SIZE ? LZ4_compressBound((int)len) : 0, got = 0;
    char *to;

    *form = STORED;
    buf_clear(&w->packed);
    to = cap ? buf_reserve(&w->packed, (size_t)cap) : NULL;
    if (to)
        got = w->level ? LZ4_compress_HC(ptr, to, (int)len, cap, w->level)
                       : LZ4_compress_default(ptr, to, (int)len, cap);
    if (got <= 0 || (size_t)got >= len)
        return nx_slice_of(ptr, len);
    *form = LZ4;
    return nx_slice_of(to, (size_t)got);
}

static nx_status put_page(struct page_writer *w, uint8_t tree, const void *ptr, size_t len,
                          uint64_t *at, struct nx_err *err)
{
    uint8_t header[PAGE_HEADER_BYTES] = {0};
    struct nx_slice bytes;

    if (len > PAGE_MAX_RAW)
        return nx_fail(err, NX_LIMIT, "%s: a page of %zu bytes", w->path, len);
    bytes = squeeze(w, ptr, len, &header[0]);
    header[1] = tree;
    put_u32le(header + 4, (uint32_t)len);
    put_u32le(header + 8, (uint32_t)bytes.len);
    put_u32le(header + 12, page_crc(w->at, header, bytes.ptr, bytes.len));
    buf_append(&w->pending, header, sizeof header);
    buf_slice(&w->pending, bytes);
    *at = w->at;
    w->at += sizeof header + bytes.len;
    return w->pending.len < WRITE_BYTES && !w->pending.failed ? NX_OK : flush(w, err);
}

static nx_status tree_add(struct tree *t, uint64_t first, uint64_t at, struct nx_err *err)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        struct entry *v = realloc(t->v, cap * sizeof *v);
        if (!v)
            return nx_fail(err, NX_NOMEM, "out of memory for a directory of pages");
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = (struct entry){first, at};
    return NX_OK;
}

nx_status page_writer_add(struct page_writer *w, unsigned tree, uint64_t first, const void *ptr,
                          size_t len, struct nx_err *err)
{
    uint64_t at;
    nx_status st = put_page(w, (uint8_t)tree, ptr, len, &at, err);

    NX_ASSERT(tree < PAGE_MAX_TREES);
    return st ? st : tree_add(&w->trees[tree], first, at, err);
}

static void put_entries(struct buf *to, const struct entry *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_u64le(to, v[i].first);
        buf_u64le(to, v[i].at);
    }
}

/* Replaces the list of a large tree's pages by that of its directory pages. */
static nx_status put_directories(struct page_writer *w, unsigned tree, struct nx_err *err)
{
    struct tree *t = &w->trees[tree];
    size_t kept = 0;
    struct buf page;
    nx_status st = NX_OK;

    t->direct = t->n <= DIRECT;
    if (t->direct)
        return NX_OK;
    buf_init(&page, 0);
    for (size_t i = 0; i < t->n && !st; i += FANOUT) {
        uint64_t at;
        buf_clear(&page);
        put_entries(&page, t->v + i, t->n - i < FANOUT ? t->n - i : FANOUT);
        st = buf_status(&page, err);
        if (!st)
            st = put_page(w, (uint8_t)(TREE_DIRECTORY + tree), page.ptr, page.len, &at, err);
        if (!st)
            t->v[kept++] = (struct entry){t->v[i].first, at};
    }
    t->n = kept;
    buf_done(&page);
    return st;
}

static void put_root(const struct page_writer *w, const uint64_t n_items[PAGE_MAX_TREES],
                     struct nx_slice extra, struct buf *to)
{
    buf_u32le(to, (uint32_t)extra.len);
    buf_slice(to, extra);
    for (unsigned i = 0; i < PAGE_MAX_TREES; i++) {
        buf_u64le(to, n_items[i]);
        buf_u32le(to, (uint32_t)w->trees[i].n);
        buf_u32le(to, w->trees[i].direct);
        put_entries(to, w->trees[i].v, w->trees[i].n);
    }
}

static void put_footer(struct page_writer *w, uint64_t root)
{
    uint8_t footer[FOOTER_BYTES] = {0};

    put_u64le(footer, root);
    put_u32le(footer + 8, (uint32_t)(w->at - root));
    put_u32le(footer + 16, PAGE_VERSION);
    put_u32le(footer + 20, crc32c(0, footer, 20));
    memcpy(footer + 24, w->magic, PAGE_MAGIC_BYTES);
    buf_append(&w->pending, footer, sizeof footer);
    w->at += sizeof footer;
}

nx_status page_writer_finish(struct page_writer *w, const uint64_t n_items[PAGE_MAX_TREES],
                             struct nx_slice extra, uint64_t *bytes, struct nx_err *err)
{
    struct buf root;
    uint64_t at;
    nx_status st = NX_OK;

    buf_init(&root, 0);
    for (unsigned i = 0; i < PAGE_MAX_TREES && !st; i++)
        st = put_directories(w, i, err);
    if (!st) {
        put_root(w, n_items, extra, &root);
        st = buf_status(&root, err);
    }
    if (!st)
        st = put_page(w, TREE_ROOT, root.ptr, root.len, &at, err);
    if (!st) {
        put_footer(w, at);
        st = flush(w, err);
    }
    if (!st)
        st = w->fs->sync(w->fs, w->file, err);
    if (!st)
        *bytes = w->at;
    buf_done(&root);
    return st;
}

void page_writer_close(struct page_writer *w)
{
    if (!w)
        return;
    if (w->file)
        w->fs->close(w->fs, w->file);
    for (unsigned i = 0; i < PAGE_MAX_TREES; i++)
        free(w->trees[i].v);
    buf_done(&w->pending);
    buf_done(&w->packed);
    free(w->path);
    free(w);
}

/* ---- reading -------------------------------------------------------------------------------- */

struct page_file {
    struct page_opts opts; /* set once */
    struct lazy_file file;
    char *path;
    uint64_t bytes, id;
    struct tree trees[PAGE_MAX_TREES];
    struct buf extra;
    struct nx_mutex lock; /* STATS: protects what follows; leaf, never held across I/O */
    uint64_t *damaged;    /* places, MAX_DAMAGED at most; malloc'ed with the first */
    uint64_t n_damaged;
};

static nx_status damaged(struct page_file *f, uint64_t at, struct nx_err *err, const char *what)
{
    size_t known;

    nx_lock(&f->lock);
    if (!f->damaged)
        f->damaged = calloc(MAX_DAMAGED, sizeof *f->damaged); /* else each find counts */
    known = f->n_damaged < MAX_DAMAGED ? (size_t)f->n_damaged : MAX_DAMAGED;
    known = f->damaged ? known : 0;
    while (known > 0 && f->damaged[known - 1] != at)
        known--;
    if (!known) {
        if (f->damaged && f->n_damaged < MAX_DAMAGED)
            f->damaged[f->n_damaged] = at;
        f->n_damaged++;
    }
    nx_unlock(&f->lock);
    return nx_fail(err, NX_CORRUPT, "%s: page at %llu: %s", f->path, (unsigned long long)at, what);
}

static nx_status read_all(struct page_file *f, void *to, size_t len, uint64_t at,
                          struct nx_err *err)
{
    struct fs_file *file;
    size_t got = 0;
    nx_status st = lazy_file_get(&f->file, &file, err);

    if (st)
        return st;
    st = f->opts.fs->pread(f->opts.fs, file, to, len, at, &got, err);
    lazy_file_put(&f->file);
    if (st)
        return st;
    return got == len ? NX_OK : damaged(f, at, err, "the file ends within it");
}

static bool decompress(uint8_t form, const uint8_t *from, size_t len, uint8_t *to, size_t raw)
{
    if (form == STORED) {
        if (len != raw)
            return false;
        memcpy(to, from, raw);
        return true;
    }
    return form == LZ4 &&
           LZ4_decompress_safe((const char *)from, (char *)to, (int)len, (int)raw) == (int)raw;
}

/* Reads, checks and unpacks the page at `at`; *ptr is malloc'ed. */
static nx_status read_page(struct page_file *f, uint64_t at, unsigned tree, uint8_t **ptr,
                           size_t *len, struct nx_err *err)
{
    uint8_t header[PAGE_HEADER_BYTES], *stored = NULL, *raw = NULL;
    uint32_t raw_len, stored_len;
    nx_status st;

    if (at < HEADER_BYTES || at > f->bytes || f->bytes - at < PAGE_HEADER_BYTES)
        return damaged(f, at, err, "it lies outside the file");
    st = read_all(f, header, sizeof header, at, err);
    if (st)
        return st;
    raw_len = get_u32le(header + 4);
    stored_len = get_u32le(header + 8);
    if (stored_len > f->bytes - at - PAGE_HEADER_BYTES || raw_len > PAGE_MAX_RAW ||
        stored_len > raw_len || raw_len / 255 > stored_len) /* F2; LZ4 shrinks by 255 at most */
        return damaged(f, at, err, "its header makes no sense");
    stored = malloc((size_t)stored_len + 1);
    raw = malloc((size_t)raw_len + 1);
    if (!stored || !raw) {
        st = nx_fail(err, NX_NOMEM, "%s: out of memory for a page of %u bytes", f->path, raw_len);
        goto done;
    }
    st = read_all(f, stored, stored_len, at + PAGE_HEADER_BYTES, err);
    if (st)
        goto done;
    if (page_crc(at, header, stored, stored_len) != get_u32le(header + 12))
        st = damaged(f, at, err, "its checksum does not match");
    else if (header[1] != tree || !decompress(header[0], stored, stored_len, raw, raw_len))
        st = damaged(f, at, err, "it is not what its place says");
    if (st)
        goto done;
    *ptr = raw;
    *len = raw_len;
    raw = NULL;

done:
    free(stored);
    free(raw);
    return st;
}

static bool get_entries(struct reader *r, struct entry *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        v[i].first = reader_u64le(r);
        v[i].at = reader_u64le(r);
        if (r->bad || (i > 0 && v[i].first <= v[i - 1].first)) /* F4 */
            return false;
    }
    return true;
}

static bool get_tree(struct reader *r, struct tree *t, bool *nomem)
{
    uint32_t n, direct;

    t->n_items = reader_u64le(r);
    n = reader_u32le(r);
    direct = reader_u32le(r);
    if (r->bad || direct > 1 || n > reader_left(r) / ENTRY_BYTES || (n == 0) != (t->n_items == 0))
        return false;
    t->direct = direct;
    t->n = t->cap = n;
    t->v = malloc((n + 1) * sizeof *t->v);
    *nomem = !t->v;
    if (*nomem || !get_entries(r, t->v, n))
        return false;
    return n == 0 || (t->v[0].first == 0 && t->v[n - 1].first < t->n_items);
}

static nx_status read_root(struct page_file *f, uint64_t at, struct nx_err *err)
{
    uint8_t *ptr = NULL;
    size_t len = 0;
    struct reader r;
    uint32_t n_extra;
    bool nomem = false;
    nx_status st = read_page(f, at, TREE_ROOT, &ptr, &len, err);

    if (st)
        return st;
    r = reader_of(ptr, len);
    n_extra = reader_u32le(&r);
    if (!r.bad && n_extra <= MAX_EXTRA_BYTES)
        buf_slice(&f->extra, reader_bytes(&r, n_extra));
    else
        r.bad = true;
    for (unsigned i = 0; i < PAGE_MAX_TREES && !r.bad; i++)
        r.bad = !get_tree(&r, &f->trees[i], &nomem);
    if (nomem)
        st = nx_fail(err, NX_NOMEM, "%s: out of memory for the root", f->path);
    else if (r.bad || reader_left(&r))
        st = damaged(f, at, err, "the root does not decode");
    else
        st = buf_status(&f->extra, err);
    free(ptr);
    return st;
}

static nx_status check_frame(struct page_file *f, uint64_t *root, struct nx_err *err)
{
    uint8_t header[HEADER_BYTES], footer[FOOTER_BYTES];
    nx_status st;

    if (f->bytes < HEADER_BYTES + FOOTER_BYTES + PAGE_HEADER_BYTES)
        return nx_fail(err, NX_CORRUPT, "%s: %llu bytes are too few", f->path,
                       (unsigned long long)f->bytes);
    st = read_all(f, header, sizeof header, 0, err);
    if (!st)
        st = read_all(f, footer, sizeof footer, f->bytes - FOOTER_BYTES, err);
    if (st)
        return st;
    if (memcmp(header, f->opts.magic, PAGE_MAGIC_BYTES) != 0)
        return nx_fail(err, NX_CORRUPT, "%s: does not begin as such a file does", f->path);
    if (get_u32le(header + 8) != PAGE_VERSION)
        return nx_fail(err, NX_CORRUPT, "%s: format version %u is not known", f->path,
                       get_u32le(header + 8));
    if (crc32c(0, header, 12) != get_u32le(header + 12))
        return nx_fail(err, NX_CORRUPT, "%s: the header's checksum does not match", f->path);
    if (memcmp(footer + 24, f->opts.magic, PAGE_MAGIC_BYTES) != 0 ||
        crc32c(0, footer, 20) != get_u32le(footer + 20) || get_u32le(footer + 16) != PAGE_VERSION)
        return nx_fail(err, NX_CORRUPT, "%s: the footer is damaged or cut off", f->path);
    *root = get_u64le(footer);
    if (*root > f->bytes ||
        f->bytes - *root != (uint64_t)get_u32le(footer + 8) + FOOTER_BYTES) /* F3 */
        return nx_fail(err, NX_CORRUPT, "%s: the footer does not fit the file's size", f->path);
    return NX_OK;
}

static nx_status read_size(struct page_file *f, struct nx_err *err)
{
    struct fs_file *file;
    nx_status st = lazy_file_get(&f->file, &file, err);

    if (st)
        return st;
    st = f->opts.fs->size(f->opts.fs, file, &f->bytes, err);
    lazy_file_put(&f->file);
    return st;
}

nx_status page_file_open(struct page_file **out, const char *path, const struct page_opts *opts,
                         struct nx_err *err)
{
    struct page_file *f = calloc(1, sizeof *f);
    uint64_t root = 0;
    nx_status st;

    if (!f)
        return nx_fail(err, NX_NOMEM, "%s: out of memory", path);
    f->opts = *opts;
    nx_mutex_init(&f->lock, NX_RANK_STATS);
    f->path = strdup(path);
    if (!f->path) {
        st = nx_fail(err, NX_NOMEM, "%s: out of memory", path);
        goto done;
    }
    lazy_file_init(&f->file, cache_files(opts->cache), opts->fs, f->path);
    st = read_size(f, err);
    if (!st)
        st = check_frame(f, &root, err);
    if (!st)
        st = read_root(f, root, err);
    if (st)
        goto done;
    f->id = cache_file_id(opts->cache);
    *out = f;
    f = NULL;

done:
    page_file_close(f);
    return st;
}

void page_file_close(struct page_file *f)
{
    if (!f)
        return;
    if (f->id)
        cache_forget_file(f->opts.cache, f->id);
    lazy_file_done(&f->file);
    for (unsigned i = 0; i < PAGE_MAX_TREES; i++)
        free(f->trees[i].v);
    buf_done(&f->extra);
    nx_mutex_done(&f->lock);
    free(f->damaged);
    free(f->path);
    free(f);
}

nx_status page_file_keep(struct page_file *f, struct nx_err *err)
{
    return lazy_file_keep(&f->file, err);
}

struct nx_slice page_file_extra(const struct page_file *f)
{
    return buf_view(&f->extra);
}

uint64_t page_file_items(const struct page_file *f, unsigned tree)
{
    return f->trees[tree].n_items;
}

uint64_t page_file_bytes(const struct page_file *f)
{
    return f->bytes;
}

uint64_t page_file_damaged(const struct page_file *f)
{
    struct page_file *mine =
        (struct page_file *)(uintptr_t)f; /* the lock is no part of its value */
    uint64_t n;

    nx_lock(&mine->lock);
    n = f->n_damaged;
    nx_unlock(&mine->lock);
    return n;
}

/* ---- finding a page -------------------------------------------------------------------------- */

struct load {
    struct page_file *f;
    unsigned tree; /* as in the page's header */
};

static nx_status load_page(void *ctx, uint64_t at, uint8_t **ptr, size_t *len, struct nx_err *err)
{
    const struct load *l = ctx;
    struct page_file *f = l->f;
    nx_status st = read_page(f, at, l->tree, ptr, len, err);

    if (!st && f->opts.unpack && l->tree < PAGE_MAX_TREES) {
        struct nx_err why;
        st = f->opts.unpack(l->tree, ptr, len, &why);
        if (st) {
            free(*ptr);
            st = st == NX_CORRUPT ? damaged(f, at, err, why.text)
                                  : nx_fail(err, st, "%s: %s", f->path, why.text);
        }
    }
    return st;
}

/* The last of n entries (there is one: the first is at most `item`) with first <= item. */
static size_t entry_of(const struct entry *v, size_t n, uint64_t item)
{
    size_t lo = 0, hi = n;

    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (v[mid].first <= item)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* Looks `item` up in the directory page e; *end is where that directory ends on the way in. */
static nx_status look_in_directory(struct page_file *f, unsigned tree, struct entry e,
                                   uint64_t item, struct entry *out, uint64_t *end,
                                   struct nx_err *err)
{
    struct load load = {f, TREE_DIRECTORY + tree};
    struct entry v[FANOUT];
    struct cache_page page = {0};
    struct reader r;
    size_t n, i;
    nx_status st = cache_get(f->opts.cache, f->id, e.at, load_page, &load, &page, err);

    if (st)
        return st;
    n = page.len / ENTRY_BYTES;
    r = reader_of(page.ptr, page.len);
    if (n == 0 || n > FANOUT || page.len % ENTRY_BYTES || !get_entries(&r, v, n) ||
        v[0].first != e.first || v[n - 1].first >= *end) {
        st = damaged(f, e.at, err, "a directory that does not decode");
    } else {
        i = entry_of(v, n, item);
        *out = v[i];
        *end = i + 1 < n ? v[i + 1].first : *end;
    }
    cache_put(f->opts.cache, &page);
    return st;
}

nx_status page_get(struct page_file *f, unsigned tree, uint64_t item, struct page *out,
                   struct nx_err *err)
{
    const struct tree *t = &f->trees[tree];
    struct load load = {f, tree};
    struct cache_page pin = {0};
    struct entry e;
    uint64_t end;
    size_t i;
    nx_status st = NX_OK;

    if (item >= t->n_items)
        return nx_fail(err, NX_CORRUPT, "%s: item %llu of %llu", f->path, (unsigned long long)item,
                       (unsigned long long)t->n_items);
    i = entry_of(t->v, t->n, item);
    e = t->v[i];
    end = i + 1 < t->n ? t->v[i + 1].first : t->n_items;
    if (!t->direct)
        st = look_in_directory(f, tree, e, item, &e, &end, err);
    if (!st)
        st = cache_get(f->opts.cache, f->id, e.at, load_page, &load, &pin, err);
    if (!st)
        *out = (struct page){pin.ptr, pin.len, e.first, end, pin};
    return st;
}

void page_put(struct page_file *f, struct page *p)
{
    cache_put(f->opts.cache, &p->pin);
    *p = (struct page){0};
}

nx_status page_derived(struct page_file *f, uint64_t key, cache_load_fn *load, void *ctx,
                       struct cache_page *out, struct nx_err *err)
{
    return cache_get(f->opts.cache, f->id, key | DERIVED, load, ctx, out, err);
}

void page_derived_put(struct page_file *f, struct cache_page *p)
{
    cache_put(f->opts.cache, p);
}

bool page_cache_crowded(struct page_file *f)
{
    return cache_crowded(f->opts.cache);
}

/* ---- scanning -------------------------------------------------------------------------------- */

struct scan {
    struct page_file *f;
    unsigned tree;
    page_seen_fn *seen;
    void *ctx;
};

/* *ptr is malloc'ed; NULL, and told, if the page is damaged. */
static nx_status scan_page(struct scan *s, struct entry e, uint64_t end, bool directory,
                           uint8_t **ptr, size_t *len, struct nx_err *err)
{
    struct load load = {s->f, directory ? TREE_DIRECTORY + s->tree : s->tree};
    struct page_seen p = {s->tree, directory, e.first, end, e.at, NULL};
    struct nx_err why = {0};
    nx_status st = load_page(&load, e.at, ptr, len, &why);

    if (st == NX_NOMEM)
        return nx_fail(err, st, "%s", why.text);
    if (st)
        *ptr = NULL;
    p.why = st ? why.text : NULL;
    s->seen(s->ctx, &p);
    return NX_OK;
}

static nx_status scan_pages(struct scan *s, const struct entry *v, size_t n, uint64_t end,
                            struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < n && !st; i++) {
        uint8_t *ptr = NULL;
        size_t len;
        st = scan_page(s, v[i], i + 1 < n ? v[i + 1].first : end, false, &ptr, &len, err);
        free(ptr);
    }
    return st;
}

static nx_status scan_directory(struct scan *s, struct entry e, uint64_t end, struct nx_err *err)
{
    struct page_seen p = {s->tree, true, e.first, end, e.at, "a directory that does not decode"};
    struct entry v[FANOUT];
    uint8_t *ptr = NULL;
    size_t len = 0, n;
    struct reader r;
    nx_status st = scan_page(s, e, end, true, &ptr, &len, err);

    if (st || !ptr)
        return st;
    n = len / ENTRY_BYTES;
    r = reader_of(ptr, len);
    if (n == 0 || n > FANOUT || len % ENTRY_BYTES || !get_entries(&r, v, n) ||
        v[0].first != e.first || v[n - 1].first >= end)
        s->seen(s->ctx, &p);
    else
        st = scan_pages(s, v, n, end, err);
    free(ptr);
    return st;
}

nx_status page_file_scan(struct page_file *f, page_seen_fn *seen, void *ctx, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (unsigned i = 0; i < PAGE_MAX_TREES && !st; i++) {
        const struct tree *t = &f->trees[i];
        struct scan s = {f, i, seen, ctx};
        if (t->direct)
            st = scan_pages(&s, t->v, t->n, t->n_items, err);
        for (size_t k = 0; k < t->n && !t->direct && !st; k++)
            st = scan_directory(&s, t->v[k], k + 1 < t->n ? t->v[k + 1].first : t->n_items, err);
    }
    return st;
}
