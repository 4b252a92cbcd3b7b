/* verify.c - all blocks of a folder are read and checked, and whatever is wrong is told with its place.
 *
 * SHAPE   A block in three steps, each as far as damage lets it:
 *         1. meta.json by itself; every page of both files by the checksum that covers it.
 *         2. The index against itself: order of names, values, series; lists against series.
 *         3. Every chunk of every series: decoded, times ascending and within the block and the span that
 *            the index gives; and the counts of meta.json.
 * RULES   V1  One line a place. A damaged page of chunks or timestamps is told once, with how many series
 *             and what times it costs, and not again by each of those series.
 *         V2  What follows from damage already told is not told.
 *         V3  Nothing is written. A block that is not there any more is no problem. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/block_format.h"
#include "storage/block_index.h"

#define CACHE_BYTES (16u << 20)
#define MAX_LINES   1000u /* of one block: then it says how many more */
#define TEXT_BYTES  1024u

/* A damaged page and what it costs. */
struct bad_page {
    struct page_seen page; /* `why` is our own copy */
    bool in_index;
    uint64_t series, first, last; /* how many lose samples; the first and last of them */
    int64_t min_ms, max_ms;
};

struct verify {
    struct fs *fs;
    struct cache *cache;
    const char *dir; /* of the block */
    storage_problem_fn *problem, *note;
    void *ctx;
    struct storage_verified *out;
    /* of the block at hand */
    uint64_t lines;
    bool in_index; /* of the scan */
    struct bad_page *bad;
    size_t n_bad, cap_bad;
    bool bad_index, nomem;
    uint64_t samples, chunks;
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "verifying: out of memory");
}

static void tell(struct verify *v, const char *name, int64_t offset, const char *what)
{
    char *file = NULL;
    struct storage_problem p = {.offset = offset, .what = what};

    v->out->problems++;
    if (v->lines++ >= MAX_LINES)
        return;
    if (asprintf(&file, "%s%s%s", v->dir, *name ? "/" : "", name) < 0)
        file = NULL;
    p.file = file ? file : name;
    v->problem(v->ctx, &p);
    free(file);
}

/* ---- 1: checksums ----------------------------------------------------------------------------- */

static void verify_meta(struct verify *v, bool *gone)
{
    struct block_meta meta = {0};
    struct nx_err why = {0};
    struct buf text;
    char *path = NULL;
    nx_status st = NX_NOMEM;

    buf_init(&text, 16u << 20);
    if (asprintf(&path, "%s/" BLOCK_META_FILE, v->dir) < 0)
        path = NULL;
    if (path)
        st = fs_read_file(v->fs, path, &text, &why);
    *gone = st == NX_NOTFOUND;
    if (!st)
        st = block_meta_parse(buf_view(&text), &meta, &why);
    if (st && !*gone)
        tell(v, BLOCK_META_FILE, -1, why.text);
    block_meta_done(&meta);
    buf_done(&text);
    free(path);
}

static void saw_page(void *ctx, const struct page_seen *p)
{
    struct verify *v = ctx;

    v->out->pages++;
    if (!p->why)
        return;
    v->bad_index = v->bad_index || v->in_index;
    if (v->n_bad == v->cap_bad) {
        size_t cap = v->cap_bad ? v->cap_bad * 2 : 16;
        struct bad_page *bad = reallocarray(v->bad, cap, sizeof *bad);
        v->nomem = v->nomem || !bad;
        if (!bad)
            return;
        v->bad = bad;
        v->cap_bad = cap;
    }
    struct bad_page *b = &v->bad[v->n_bad];
    *b = (struct bad_page){*p, v->in_index, 0, 0, 0, INT64_MAX, INT64_MIN};
    b->page.why = strdup(p->why);
    v->nomem = v->nomem || !b->page.why;
    v->n_bad += b->page.why != NULL;
}

/* A file whose frame or root is damaged: "PATH: why" or "PATH: page at OFFSET: why". */
static void tell_open(struct verify *v, const char *name, const char *path, const char *why)
{
    size_t n = strlen(path);
    unsigned long long at;
    char text[TEXT_BYTES];
    int past = 0;

    if (strncmp(why, path, n) == 0 && strncmp(why + n, ": ", 2) == 0)
        why += n + 2;
    if (sscanf(why, "page at %llu: %n", &at, &past) == 1 && past) {
        snprintf(text, sizeof text, "the root: %s", why + past);
        tell(v, name, (int64_t)at, text);
    } else {
        tell(v, name, -1, why);
    }
}

/* Pages as they lie in the file: what is in them comes later. */
static nx_status scan_file(struct verify *v, const char *name, const char *magic,
                           struct nx_err *err)
{
    const struct page_opts opts = {v->fs, v->cache, magic, NULL};
    struct page_file *f = NULL;
    struct nx_err why = {0};
    char *path = NULL;
    nx_status st;

    if (asprintf(&path, "%s/%s", v->dir, name) < 0)
        return no_memory(err);
    v->in_index = strcmp(name, BLOCK_INDEX_FILE) == 0;
    st = page_file_open(&f, path, &opts, &why);
    if (st == NX_NOMEM) {
        st = no_memory(err);
    } else if (st) {
        tell_open(v, name, path, why.text);
        v->bad_index = v->bad_index || v->in_index;
        st = NX_OK;
    } else {
        st = page_file_scan(f, saw_page, v, err);
    }
    page_file_close(f);
    free(path);
    return st || !v->nomem ? st : no_memory(err);
}

/* ---- 3: chunks -------------------------------------------------------------------------------- */

struct series_check {
    struct verify *v;
    const struct block_meta *meta;
    struct block_index_series e;
    uint64_t chunks;
    int64_t first, last;
};

static nx_status check_chunk(void *ctx, const struct block_chunk *c, struct nx_err *err)
{
    struct series_check *s = ctx;

    for (size_t i = 1; i < c->n; i++)
        if (c->t[i] <= c->t[i - 1])
            return nx_fail(err, NX_CORRUPT, "times do not ascend at %lld", (long long)c->t[i]);
    if (s->chunks && c->t[0] <= s->last)
        return nx_fail(err, NX_CORRUPT, "chunks overlap at %lld", (long long)c->t[0]);
    if (c->t[0] < s->meta->min_ms || c->t[c->n - 1] >= block_times_end(s->meta))
        return nx_fail(err, NX_CORRUPT, "samples lie outside the block");
    if (chunk_is_absent(c->v[0]) || chunk_is_absent(c->v[c->n - 1]))
        return nx_fail(err, NX_CORRUPT, "a chunk begins or ends without a sample");
    for (size_t i = 0; i < c->n; i++)
        s->v->samples += !chunk_is_absent(c->v[i]);
    s->first = s->chunks++ ? s->first : c->t[0];
    s->last = c->t[c->n - 1];
    return NX_OK;
}

static void blame(struct bad_page *b, uint64_t id, const struct block_index_series *e)
{
    b->first = b->series++ ? b->first : id;
    b->last = id;
    b->min_ms = e->mint < b->min_ms ? e->mint : b->min_ms;
    b->max_ms = e->maxt > b->max_ms ? e->maxt : b->max_ms;
}

/* V1: finds the damaged pages that a failed series needs; false: there is none. Which timestamps it needs is
 * not known, so they are the reason when no page of chunks is. */
static bool explained(struct verify *v, uint64_t id, const struct block_index_series *e)
{
    bool found = false;

    for (int times = 0; times < 2 && !found; times++) {
        for (size_t i = 0; i < v->n_bad; i++) {
            struct bad_page *b = &v->bad[i];
            if (b->in_index || b->page.tree != (times ? CH_TIMES : CH_CHUNKS))
                continue;
            if (!times && (b->page.first >= (uint64_t)e->first_chunk + e->n_chunks ||
                           b->page.end <= e->first_chunk))
                continue;
            blame(b, id, e);
            found = true;
        }
    }
    return found;
}

static void check_series(struct verify *v, struct block *b, uint64_t id, struct chunk_scratch *s)
{
    struct series_check c = {.v = v, .meta = block_meta(b)};
    struct nx_err why = {0};
    nx_status st = block_index_get(block_index_of(b), (uint32_t)id, &c.e, &why);

    if (st) {
        if (!v->bad_index) /* V2 */
            tell(v, BLOCK_INDEX_FILE, -1, why.text);
        return;
    }
    st = block_chunks(b, id, check_chunk, &c, s, &why);
    if (!st && (c.chunks != c.e.n_chunks || c.first != c.e.mint || c.last != c.e.maxt))
        st = nx_fail(&why, NX_CORRUPT, "series %llu spans other times than the index says",
                     (unsigned long long)id);
    v->chunks += c.chunks;
    if (st && !explained(v, id, &c.e))
        tell(v, BLOCK_CHUNKS_FILE, -1, why.text);
}

/* ---- the lines -------------------------------------------------------------------------------- */

static void put_series(struct block *b, uint64_t id, struct buf *to)
{
    struct arena *a = arena_new(0);
    struct labels ls;

    if (a && block_series(b, id, a, &ls, NULL) == NX_OK)
        labels_print(to, &ls);
    else
        buf_printf(to, "number %llu", (unsigned long long)id);
    arena_free(a);
}

static const char *tree_name(const struct bad_page *b)
{
    static const char *const index[] = {"label names", "label values", "lists of series", "series",
                                        "spans of series"};
    static const char *const chunks[] = {"chunks", "vectors of timestamps"};

    if (b->in_index)
        return b->page.tree < NX_COUNT(index) ? index[b->page.tree] : "items of an unknown kind";
    return b->page.tree < NX_COUNT(chunks) ? chunks[b->page.tree] : "items of an unknown kind";
}

static void tell_page(struct verify *v, struct block *b, const struct bad_page *bad)
{
    const char *why = strstr(bad->page.why, ": page at "), *end = why ? strchr(why + 2, ':') : NULL;
    struct buf what;

    buf_init(&what, 64u << 10);
    buf_printf(&what, "%s of %s %llu to %llu: %s", bad->page.directory ? "directory" : "page",
               tree_name(bad), (unsigned long long)bad->page.first,
               (unsigned long long)bad->page.end - 1, end ? end + 2 : bad->page.why);
    if (bad->series && b) {
        buf_printf(&what, "; %llu series from ", (unsigned long long)bad->series);
        put_series(b, bad->first, &what);
        buf_str(&what, " to ");
        put_series(b, bad->last, &what);
        buf_printf(&what, " lose samples of %lld to %lld", (long long)bad->min_ms,
                   (long long)bad->max_ms);
    }
    tell(v, bad->in_index ? BLOCK_INDEX_FILE : BLOCK_CHUNKS_FILE, (int64_t)bad->page.at,
         buf_cstr(&what));
    buf_done(&what);
}

/* Steps 2 and 3. */
static nx_status verify_contents(struct verify *v, struct block *b, struct nx_err *err)
{
    const struct block_meta *m = block_meta(b);
    struct chunk_scratch *s = chunk_scratch_new();
    struct nx_err why = {0};
    uint64_t told = v->out->problems;

    if (!s)
        return no_memory(err);
    if (!v->bad_index && block_index_verify(block_index_of(b), &why))
        tell(v, BLOCK_INDEX_FILE, -1, why.text);
    for (uint64_t i = 0; i < m->n_series; i++)
        check_series(v, b, i, s);
    chunk_scratch_free(s);
    v->out->series += m->n_series;
    v->out->samples += v->samples;
    if (v->out->problems == told && !v->n_bad &&
        (v->chunks != m->n_chunks || v->samples != m->n_samples)) {
        char text[TEXT_BYTES];
        snprintf(text, sizeof text, "it counts %llu samples in %llu chunks, there are %llu in %llu",
                 (unsigned long long)m->n_samples, (unsigned long long)m->n_chunks,
                 (unsigned long long)v->samples, (unsigned long long)v->chunks);
        tell(v, BLOCK_META_FILE, -1, text);
    }
    return NX_OK;
}

static nx_status verify_block(struct verify *v, struct nx_err *err)
{
    struct block *b = NULL;
    struct nx_err why = {0};
    uint64_t told = v->out->problems;
    bool gone = false;
    struct fs_stat stat;
    nx_status st = NX_OK;

    verify_meta(v, &gone);
    if (gone && v->fs->stat(v->fs, v->dir, &stat, NULL) == NX_NOTFOUND)
        return NX_OK; /* V3 */
    if (gone)
        tell(v, BLOCK_META_FILE, -1, "it is missing");
    v->out->blocks++;
    st = scan_file(v, BLOCK_INDEX_FILE, BLOCK_INDEX_MAGIC, err);
    if (!st)
        st = scan_file(v, BLOCK_CHUNKS_FILE, BLOCK_CHUNKS_MAGIC, err);
    if (st)
        return st;
    st = block_open(&b, v->fs, v->cache, v->dir, &why);
    if (st == NX_NOMEM)
        return no_memory(err);
    if (st && v->out->problems == told && !v->n_bad) /* V2 */
        tell(v, "", -1, why.text);
    if (b && block_tombs_damaged(b))
        tell(v, BLOCK_TOMBS_FILE, -1, "one of its two copies is damaged; the other one is used");
    st = b ? verify_contents(v, b, err) : NX_OK;
    for (size_t i = 0; i < v->n_bad; i++)
        tell_page(v, b, &v->bad[i]);
    block_unref(b);
    if (v->lines > MAX_LINES) {
        char text[TEXT_BYTES];
        struct storage_problem p = {v->dir, -1, text};
        snprintf(text, sizeof text, "%llu further problems in this block",
                 (unsigned long long)(v->lines - MAX_LINES));
        v->problem(v->ctx, &p);
    }
    return st;
}

/* ---- the folder ------------------------------------------------------------------------------- */

static void put_note(struct verify *v, const char *dir, const char *name, const char *what)
{
    char *file = NULL;
    struct storage_problem p = {.offset = -1, .what = what};

    if (asprintf(&file, "%s/%s", dir, name) < 0)
        return;
    p.file = file;
    v->out->notes++;
    v->note(v->ctx, &p);
    free(file);
}

struct pairs {
    struct verify *v;
    const char *dir;
    struct storage_block_info last; /* of all so far, the one that ends last */
    bool any;
};

static void see_overlap(void *ctx, const struct storage_block_info *b)
{
    struct pairs *p = ctx;
    char text[TEXT_BYTES];

    if (b->resolution_ms) /* points lie beside what they were made of */
        return;
    if (p->any && b->min_ms < p->last.max_ms) {
        snprintf(text, sizeof text,
                 "overlaps block %s from %lld to %lld; readers merge them, and so will compaction",
                 p->last.ulid, (long long)b->min_ms,
                 (long long)(b->max_ms < p->last.max_ms ? b->max_ms : p->last.max_ms));
        put_note(p->v, p->dir, b->ulid, text);
    }
    if (!p->any || b->max_ms > p->last.max_ms)
        p->last = *b;
    p->any = true;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

static nx_status verify_named(struct verify *v, const char *dir, const char *name,
                              struct nx_err *err)
{
    char *path = NULL;
    nx_status st;

    if (ends_with(name, BLOCK_TMP_SUFFIX) || ends_with(name, BLOCK_DELETING_SUFFIX))
        put_note(v, dir, name, "unfinished; the next start removes it");
    if (!block_ulid_valid(name))
        return NX_OK;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        return no_memory(err);
    v->dir = path;
    v->lines = v->samples = v->chunks = 0;
    v->bad_index = false;
    st = verify_block(v, err);
    for (size_t i = 0; i < v->n_bad; i++)
        free((char *)(uintptr_t)v->bad[i].page.why);
    v->n_bad = 0;
    free(path);
    return st;
}

nx_status storage_verify_blocks(struct fs *fs, const char *dir, storage_problem_fn *problem,
                                storage_problem_fn *note, void *ctx, struct storage_verified *out,
                                struct nx_err *err)
{
    struct fs_names names = {0};
    struct storage_verified counts = {0};
    struct verify v = {.fs = fs, .problem = problem, .note = note, .ctx = ctx, .out = &counts};
    struct pairs pairs = {.v = &v, .dir = dir};
    nx_status st = fs->list(fs, dir, &names, err);

    if (!st && !(v.cache = cache_new(CACHE_BYTES)))
        st = no_memory(err);
    for (size_t i = 0; i < names.n && !st; i++)
        st = verify_named(&v, dir, names.v[i], err);
    if (!st && !counts.problems) /* else the list stops at the first block that does not open */
        st = storage_list_blocks(fs, dir, see_overlap, &pairs, err);
    fs_names_done(&names);
    cache_free(v.cache);
    free(v.bad);
    *out = counts;
    return st;
}
