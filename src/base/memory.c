/* memory.c - the meter behind --memory.limit.
 *
 * WHY     A machine that is too small must not end in the kernel killing us: who scrapes everything must be
 *         the last to fall. So memory is a number that is set, and what can wait gives way before it.
 * SHAPE   Reading RssAnon costs some microseconds, so a look is good for LOOK_NS. Queries can allocate
 *         gigabytes within that time; what they take is therefore counted (arena.c), and the use is
 *         the last look plus what was taken since.
 * RULES   M1  used = other + taken, where a look sets other = read() - taken. Memory that was taken
 *             and not touched yet is thus counted early, never late. What is taken during a look may
 *             count twice until the next one.
 *         M2  A refusal comes after a shortage was told and a new look: caches go first, always.
 *         M3  Telling is tried once in RELIEF_NS: a cache that is empty has nothing to give, and
 *             walking the heap to trim it is not free.
 * THREADS Counts are atomic. relief.lock (rank STATS) guards who is told; it is not held while he
 *         works: `running` says that he does. */
#include "src/base/memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/thread.h"

#define LOOK_NS   10000000ll  /* a look is good for so long */
#define LATE_NS   30000000ll  /* for one this old nobody waits: he looks himself */
#define RELIEF_NS 250000000ll /* and a shortage is not told more often than this */

struct memory {
    memory_read_fn *read; /* set once */
    void *ctx;

    atomic_uint_least64_t limit;
    atomic_int_least64_t other; /* of the last look: all that was not taken (M1); may be below 0 */
    atomic_int_least64_t taken;
    atomic_int_least64_t looked_ns;
    atomic_bool looking, blind; /* blind: the last look told nothing */
    atomic_uint_least64_t refused_queries, refused_series;

    struct nx_mutex lock;
    struct nx_cond idle;
    /* under lock */
    memory_shortage_fn *shortage;
    void *shortage_ctx;
    int64_t told_ns;
    bool running;
};

/* ---- looking --------------------------------------------------------------------------------- */

uint64_t memory_read_process(void *unused)
{
    char line[128];
    unsigned long long size, resident, shared;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);

    (void)unused;
    if (fd >= 0)
        close(fd);
    if (n > 0) {
        line[n] = 0;
        if (sscanf(line, "%llu %llu %llu", &size, &resident, &shared) == 3 && resident >= shared)
            return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    struct mallinfo2 m = mallinfo2(); /* no /proc: what the allocator knows */
    return m.uordblks + m.hblkhd;
}

struct memory *memory_new(uint64_t limit, memory_read_fn *read_fn, void *ctx)
{
    struct memory *m = calloc(1, sizeof *m);

    if (!m)
        return NULL;
    m->read = read_fn ? read_fn : memory_read_process;
    m->ctx = ctx;
    atomic_store(&m->limit, limit);
    atomic_store(&m->looked_ns, INT64_MIN);
    nx_mutex_init(&m->lock, NX_RANK_STATS);
    nx_cond_init(&m->idle);
    return m;
}

void memory_free(struct memory *m)
{
    if (!m)
        return;
    NX_ASSERT(atomic_load(&m->taken) == 0);
    nx_cond_done(&m->idle);
    nx_mutex_done(&m->lock);
    free(m);
}

void memory_set_limit(struct memory *m, uint64_t limit)
{
    if (m)
        atomic_store(&m->limit, limit);
}

uint64_t memory_limit(const struct memory *m)
{
    return m ? atomic_load(&m->limit) : 0;
}

/* Who looks may lose the processor on the way: what others take meanwhile is not in what was read, and what was read
 * is as old as it was then. */
static void look(struct memory *m)
{
    const int64_t at = clock_mono_ns(), before = atomic_load(&m->taken);
    const uint64_t now = m->read(m->ctx);
    const int64_t after = atomic_load(&m->taken);

    atomic_store(&m->blind, now == 0);
    atomic_store(&m->other, (int64_t)now - (before < after ? before : after));
    atomic_store(&m->looked_ns, at);
}

static void look_if_old(struct memory *m)
{
    int64_t at = atomic_load_explicit(&m->looked_ns, memory_order_relaxed);
    int64_t age = at == INT64_MIN ? LOOK_NS : clock_mono_ns() - at;
    bool no = false;

    if (age < LOOK_NS)
        return;
    if (atomic_compare_exchange_strong(&m->looking, &no, true)) { /* one does it for all */
        look(m);
        atomic_store(&m->looking, false);
    } else if (age >= LATE_NS) { /* or sleeps over it */
        look(m);
    }
}

static uint64_t used_now(struct memory *m)
{
    int64_t used = atomic_load(&m->other) + atomic_load(&m->taken);

    return used > 0 && !atomic_load(&m->blind) ? (uint64_t)used : 0;
}

uint64_t memory_used(struct memory *m)
{
    if (!m)
        return 0;
    look_if_old(m);
    return used_now(m);
}

/* ---- levels ---------------------------------------------------------------------------------- */

uint64_t memory_threshold(const struct memory *m, enum memory_level level)
{
    static const unsigned parts[] = {
        [MEMORY_SHRINK] = 4, [MEMORY_NO_QUERIES] = 10, [MEMORY_NO_SERIES] = 20};
    uint64_t limit = memory_limit(m);

    return level == MEMORY_PLENTY ? 0 : limit - limit / parts[level];
}

static enum memory_level level_of(const struct memory *m, uint64_t used)
{
    enum memory_level level = MEMORY_NO_SERIES;

    if (!memory_limit(m))
        return MEMORY_PLENTY;
    while (level > MEMORY_PLENTY && used < memory_threshold(m, level))
        level--;
    return level;
}

enum memory_level memory_level(struct memory *m)
{
    return m && memory_limit(m) ? level_of(m, memory_used(m)) : MEMORY_PLENTY;
}

uint64_t memory_room(struct memory *m)
{
    uint64_t limit = memory_limit(m), used;

    if (!limit)
        return UINT64_MAX;
    used = memory_used(m);
    return used < limit ? limit - used : 0;
}

uint64_t memory_room_now(struct memory *m)
{
    if (memory_limit(m))
        look(m);
    return memory_room(m);
}

/* ---- relief ---------------------------------------------------------------------------------- */

void memory_on_shortage(struct memory *m, memory_shortage_fn *fn, void *ctx)
{
    if (!m)
        return;
    nx_lock(&m->lock);
    while (m->running)
        nx_cond_wait(&m->idle, &m->lock);
    m->shortage = fn;
    m->shortage_ctx = ctx;
    nx_unlock(&m->lock);
}

/* Tells the shortage and looks anew (M2, M3). */
static void relieve(struct memory *m)
{
    int64_t now = clock_mono_ns();
    memory_shortage_fn *fn = NULL;
    void *ctx = NULL;
    uint64_t used;

    nx_lock(&m->lock);
    if (!m->running && (!m->told_ns || now - m->told_ns >= RELIEF_NS)) {
        fn = m->shortage;
        ctx = m->shortage_ctx;
        m->running = fn != NULL;
        m->told_ns = now;
    }
    nx_unlock(&m->lock);
    used = used_now(m);
    if (fn) {
        uint64_t want = memory_threshold(m, MEMORY_SHRINK);
        fn(ctx, used > want ? used - want : 0);
        nx_lock(&m->lock);
        m->running = false;
        nx_cond_broadcast(&m->idle);
        nx_unlock(&m->lock);
        look(m);
    }
}

/* Whether use is at `level`, caches having shrunk as far as they can. */
static bool short_at(struct memory *m, enum memory_level level)
{
    if (memory_level(m) < level)
        return false;
    relieve(m);
    return level_of(m, used_now(m)) >= level;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static double mib(uint64_t bytes)
{
    return (double)bytes / (1024 * 1024);
}

nx_status memory_no_room(struct memory *m, struct nx_err *err)
{
    return nx_fail(err, NX_OVERLOADED,
                   "query refused: memory in use (%.1f MiB) is near the limit of %.1f MiB "
                   "(--memory.limit)",
                   mib(memory_used(m)), mib(memory_limit(m)));
}

static nx_status refuse_query(struct memory *m, struct nx_err *err)
{
    atomic_fetch_add(&m->refused_queries, 1);
    return memory_no_room(m, err);
}

nx_status memory_take(struct memory *m, size_t bytes, struct nx_err *err)
{
    if (!m)
        return NX_OK;
    look_if_old(
        m); /* before they count: what is not touched yet must not look as if it were (M1) */
    for (bool again = false;; again = true) {
        atomic_fetch_add(&m->taken, (int64_t)bytes);
        if (level_of(m, used_now(m)) < MEMORY_NO_QUERIES)
            return NX_OK;
        atomic_fetch_sub(&m->taken, (int64_t)bytes);
        if (again)
            return refuse_query(m, err);
        relieve(m);
    }
}

void memory_took(struct memory *m, size_t bytes)
{
    if (m)
        atomic_fetch_add(&m->taken, (int64_t)bytes);
}

void memory_give(struct memory *m, size_t bytes)
{
    if (m)
        atomic_fetch_sub(&m->taken, (int64_t)bytes);
}

nx_status memory_admit_query(struct memory *m, struct nx_err *err)
{
    return m && short_at(m, MEMORY_NO_QUERIES) ? refuse_query(m, err) : NX_OK;
}

nx_status memory_admit_series(struct memory *m, struct nx_err *err)
{
    if (!m || !short_at(m, MEMORY_NO_SERIES))
        return NX_OK;
    atomic_fetch_add(&m->refused_series, 1);
    return nx_fail(err, NX_LIMIT,
                   "memory in use (%.1f MiB) is near the limit of %.1f MiB (--memory.limit)",
                   mib(used_now(m)), mib(memory_limit(m)));
}

void memory_get_stats(struct memory *m, struct memory_stats *out)
{
    int64_t taken;

    *out = (struct memory_stats){0};
    if (!m)
        return;
    out->used = memory_used(m);
    out->limit = memory_limit(m);
    out->level = level_of(m, out->used);
    taken = atomic_load(&m->taken);
    out->query_bytes = taken > 0 ? (uint64_t)taken : 0;
    out->refused_queries = atomic_load(&m->refused_queries);
    out->refused_series = atomic_load(&m->refused_series);
}
