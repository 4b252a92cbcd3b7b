/* cache.c - a hash table of pages and a list in the order of use.
 *
 * SHAPE   Chained hash table that doubles; a doubly linked list from newest to oldest use. An entry
 *         with pins stands in the table but not in the list, so eviction never meets it.
 * RULES   P1  bytes is what all entries hold, pinned or not; after every put it is within the limit
 *             or nothing is left to evict.
 *         P2  A forgotten file's pinned pages leave the table at once and memory at their last put.
 *         P3  An entry larger than the whole limit is loaded, used and freed by its last put.
 * THREADS One mutex of rank CACHE for a lookup, an insert or an eviction; never across a load. */
#include "storage/cache.h"

#include <stdlib.h>

#include "src/base/hash.h"
#include "src/base/thread.h"

#define FIRST_BUCKETS 64u

struct entry {
    struct entry *chain;
    struct entry *newer, *older; /* in the list when pins is 0 */
    uint64_t file, page;
    uint8_t *ptr;
    size_t len;
    uint32_t pins;
    bool forgotten; /* not in the table any more (P2) */
};

struct cache {
    struct nx_mutex lock;
    /* under lock */
    struct entry **buckets;
    size_t n_buckets, n_entries;
    struct entry *newest, *oldest;
    size_t limit_bytes, bytes, pinned_bytes;
    uint64_t next_file, hits, misses, evictions;
    struct files *files; /* set once */
};

static size_t cost(const struct entry *e)
{
    return e->len + sizeof *e;
}

static struct entry **bucket(struct cache *c, uint64_t file, uint64_t page)
{
    return &c->buckets[hash_mix(file, page) & (c->n_buckets - 1)];
}

struct cache *cache_new(size_t limit_bytes)
{
    struct cache *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->buckets = calloc(FIRST_BUCKETS, sizeof(struct entry *));
    c->files = files_new(CACHE_MAX_FILES);
    if (!c->buckets || !c->files) {
        files_free(c->files);
        free(c->buckets);
        free(c);
        return NULL;
    }
    c->n_buckets = FIRST_BUCKETS;
    c->limit_bytes = limit_bytes;
    nx_mutex_init(&c->lock, NX_RANK_CACHE);
    return c;
}

static void list_remove(struct cache *c, struct entry *e)
{
    *(e->newer ? &e->newer->older : &c->newest) = e->older;
    *(e->older ? &e->older->newer : &c->oldest) = e->newer;
    e->newer = e->older = NULL;
}

static void list_push(struct cache *c, struct entry *e)
{
    e->newer = NULL;
    e->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

static void table_remove(struct cache *c, struct entry *e)
{
    struct entry **at = bucket(c, e->file, e->page);

    while (*at != e)
        at = &(*at)->chain;
    *at = e->chain;
    c->n_entries--;
}

static void drop(struct cache *c, struct entry *e)
{
    c->bytes -= cost(e);
    free(e->ptr);
    free(e);
}

static void evict_locked(struct cache *c)
{
    while (c->bytes > c->limit_bytes && c->oldest) {
        struct entry *e = c->oldest;

        list_remove(c, e);
        table_remove(c, e);
        drop(c, e);
        c->evictions++;
    }
}

static struct entry *find_locked(struct cache *c, uint64_t file, uint64_t page)
{
    struct entry *e = *bucket(c, file, page);

    while (e && (e->file != file || e->page != page))
        e = e->chain;
    return e;
}

/* Doubling may fail: then chains grow longer and nothing else happens. */
static void grow_table_locked(struct cache *c)
{
    struct entry **old = c->buckets, **fresh;
    size_t n_old = c->n_buckets;

    if (c->n_entries < n_old)
        return;
    fresh = calloc(n_old * 2, sizeof(struct entry *));
    if (!fresh)
        return;
    c->buckets = fresh;
    c->n_buckets = n_old * 2;
    for (size_t i = 0; i < n_old; i++) {
        for (struct entry *e = old[i], *next; e; e = next) {
            struct entry **at = bucket(c, e->file, e->page);
            next = e->chain;
            e->chain = *at;
            *at = e;
        }
    }
    free(old);
}

static void pin_locked(struct cache *c, struct entry *e)
{
    if (e->pins++ == 0) {
        if (e->newer || e->older || c->newest == e)
            list_remove(c, e);
        c->pinned_bytes += cost(e);
    }
}

void cache_free(struct cache *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n_buckets; i++) {
        for (struct entry *e = c->buckets[i], *next; e; e = next) {
            next = e->chain;
            NX_ASSERT(e->pins == 0);
            free(e->ptr);
            free(e);
        }
    }
    free(c->buckets);
    files_free(c->files);
    nx_mutex_done(&c->lock);
    free(c);
}

struct files *cache_files(struct cache *c)
{
    return c->files;
}

void cache_set_limit(struct cache *c, size_t limit_bytes)
{
    nx_lock(&c->lock);
    c->limit_bytes = limit_bytes;
    evict_locked(c);
    nx_unlock(&c->lock);
}

uint64_t cache_file_id(struct cache *c)
{
    uint64_t id;

    nx_lock(&c->lock);
    id = ++c->next_file;
    nx_unlock(&c->lock);
    return id;
}

void cache_forget_file(struct cache *c, uint64_t file)
{
    nx_lock(&c->lock);
    for (size_t i = 0; i < c->n_buckets; i++) {
        for (struct entry *e = c->buckets[i], *next; e; e = next) {
            next = e->chain;
            if (e->file != file)
                continue;
            table_remove(c, e);
            if (e->pins) {
                e->forgotten = true; /* P2 */
            } else {
                list_remove(c, e);
                drop(c, e);
            }
        }
    }
    nx_unlock(&c->lock);
}

static bool pin_existing(struct cache *c, uint64_t file, uint64_t page, struct cache_page *out)
{
    struct entry *e;

    nx_lock(&c->lock);
    e = find_locked(c, file, page);
    if (e) {
        pin_locked(c, e);
        c->hits++;
        *out = (struct cache_page){e->ptr, e->len, e};
    } else {
        c->misses++;
    }
    nx_unlock(&c->lock);
    return e != NULL;
}

/* Puts a loaded page in, unless another reader was faster: then that one's is used. */
static void insert(struct cache *c, struct entry *fresh, struct cache_page *out)
{
    struct entry *e;

    nx_lock(&c->lock);
    e = find_locked(c, fresh->file, fresh->page);
    if (!e) {
        struct entry **at;

        e = fresh;
        grow_table_locked(c);
        at = bucket(c, e->file, e->page);
        e->chain = *at;
        *at = e;
        c->n_entries++;
        c->bytes += cost(e);
        fresh = NULL;
    }
    pin_locked(c, e);
    evict_locked(c);
    *out = (struct cache_page){e->ptr, e->len, e};
    nx_unlock(&c->lock);
    if (fresh) {
        free(fresh->ptr);
        free(fresh);
    }
}

nx_status cache_get(struct cache *c, uint64_t file, uint64_t page, cache_load_fn *load, void *ctx,
                    struct cache_page *out, struct nx_err *err)
{
    struct entry *e;
    nx_status st;

    if (pin_existing(c, file, page, out))
        return NX_OK;
    e = calloc(1, sizeof *e);
    if (!e)
        return nx_fail(err, NX_NOMEM, "out of memory for a cached page");
    e->file = file;
    e->page = page;
    st = load(ctx, page, &e->ptr, &e->len, err);
    if (st) {
        free(e);
        return st;
    }
    insert(c, e, out);
    return NX_OK;
}

void cache_put(struct cache *c, struct cache_page *p)
{
    struct entry *e = p->entry;

    if (!e)
        return;
    *p = (struct cache_page){0};
    nx_lock(&c->lock);
    NX_ASSERT(e->pins > 0);
    if (--e->pins == 0) {
        c->pinned_bytes -= cost(e);
        if (e->forgotten) {
            drop(c, e);
        } else {
            list_push(c, e);
            evict_locked(c); /* P1, P3 */
        }
    }
    nx_unlock(&c->lock);
}

bool cache_crowded(struct cache *c)
{
    bool crowded;

    nx_lock(&c->lock);
    crowded = c->pinned_bytes > c->limit_bytes / 8;
    nx_unlock(&c->lock);
    return crowded;
}

void cache_get_stats(struct cache *c, struct cache_stats *out)
{
    nx_lock(&c->lock);
    *out = (struct cache_stats){
        .hits = c->hits,
        .misses = c->misses,
        .evictions = c->evictions,
        .pages = c->n_entries,
        .bytes = c->bytes,
        .pinned_bytes = c->pinned_bytes,
        .limit_bytes = c->limit_bytes,
    };
    nx_unlock(&c->lock);
}
