/* pressure.c - what the store does about the process's memory limit (src/base/memory.h).
 *
 * RULES   P1  The page cache is what the rest leaves: its bound falls by what is missing, at once, when
 *             somebody meets a shortage, and with each tick; it grows back with the ticks, by half of
 *             what is free, up to what was asked for when the store was opened.
 *         P2  Freed pages lie in the allocator's heap: while memory is short it is trimmed, at
 *             most once in TRIM_MS.
 *             When it is not, a heap with many holes (bodies of scrapes and chunks in the making leave them) is
 *             trimmed now and then: filling them anew costs less than a page fault a millisecond.
 *         P3  A series that the head does not know is refused when memory is very short; one that it knows
 *             never is, and neither is a sample of it. So a known series may be bound to a writer again.
 *         P4  From half of where the cache begins to shrink, and while it is smaller than it may be, the worker
 *             ticks each second; below that memory is looked at now and then.
 * THREADS storage_shortage() runs on whatever thread met the shortage, with its locks held: it takes the
 *         cache's and nothing else. */
#include <malloc.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "storage/storage_impl.h"

#define LEAST_CACHE (256u << 10)
#define MOST_LEAST  (4u << 20)
#define TRIM_MS     2000
#define TIDY_MS     30000
#define TIDY_BYTES  (128u << 10) /* and an eighth of the heap */

/* What queries that run at the same time need to go from series to series without unpacking a page for each:
 * with less, those that were let in take a hundred times as long, and hold their memory as long. */
static size_t least_cache(const struct storage *s)
{
    const uint64_t share = memory_limit(s->memory) / 128;

    return share < LEAST_CACHE ? LEAST_CACHE : share > MOST_LEAST ? MOST_LEAST : (size_t)share;
}

static size_t cut(size_t from, uint64_t by, size_t least)
{
    return from > by && from - by > least ? from - (size_t)by : least;
}

/* P1 */
static void storage_shortage(void *ctx, uint64_t bytes)
{
    struct storage *s = ctx;
    struct cache_stats c;

    storage_ring(s);
    arena_spare_release();
    cache_get_stats(s->cache, &c);
    if (c.bytes > least_cache(s)) {
        cache_set_limit(s->cache, cut((size_t)c.bytes, bytes, least_cache(s)));
        malloc_trim(0);
    }
}

void pressure_open(struct storage *s)
{
    memory_on_shortage(s->memory, storage_shortage, s);
}

void pressure_close(struct storage *s)
{
    memory_on_shortage(s->memory, NULL, NULL);
}

static void tell(struct storage *s, enum memory_level level, uint64_t used)
{
    static const char *const texts[] = {
        [MEMORY_PLENTY] = "Memory is plenty again",
        [MEMORY_SHRINK] = "Memory is short: caches shrink",
        [MEMORY_NO_QUERIES] = "Memory is near its limit: queries are refused",
        [MEMORY_NO_SERIES] = "Memory is at its limit: new series are refused"};
    unsigned long long limit = memory_limit(s->memory), now = used;

    if (level > MEMORY_SHRINK)
        log_warn(texts[level], "used", log_fmt("%llu", now), "limit", log_fmt("%llu", limit));
    else
        log_info(texts[level], "used", log_fmt("%llu", now), "limit", log_fmt("%llu", limit));
}

/* P2 */
static void tidy(struct storage *s)
{
    int64_t now_ns = clock_mono_ns();
    struct mallinfo2 m;

    if (now_ns - s->tidied_ns < TIDY_MS * 1000000ll)
        return;
    s->tidied_ns = now_ns;
    head_work_tidy(s->head);
    m = mallinfo2();
    if (m.fordblks > TIDY_BYTES && m.fordblks > m.arena / 8)
        malloc_trim(0);
}

void pressure_tick(struct storage *s)
{
    enum memory_level level;
    struct cache_stats c;
    uint64_t used, want;

    tidy(s);
    s->memory_near = false;
    if (!memory_limit(s->memory))
        return;
    used = memory_used(s->memory);
    level = memory_level(s->memory);
    if (level >= MEMORY_SHRINK)
        selections_forget(s->head->selections);
    want = memory_threshold(s->memory, MEMORY_SHRINK);
    cache_get_stats(s->cache, &c);
    if (used >= want) {
        if (c.bytes > least_cache(s))
            cache_set_limit(s->cache, cut((size_t)c.bytes, used - want, least_cache(s)));
        if (clock_mono_ns() - s->trimmed_ns >= TRIM_MS * 1000000ll) { /* P2 */
            malloc_trim(0);
            s->trimmed_ns = clock_mono_ns();
        }
    } else if (c.limit_bytes < s->cache_bytes) {
        uint64_t more = c.limit_bytes + (want - used) / 2;
        cache_set_limit(s->cache, more < s->cache_bytes ? (size_t)more : s->cache_bytes);
    }
    cache_get_stats(s->cache, &c);
    s->memory_near = used >= want / 2 || c.limit_bytes < s->cache_bytes;
    if (level != s->level_told)
        tell(s, level, used);
    s->level_told = level;
}
