/* arena.c - blocks in a chain, newest first; allocation moves a mark in the newest.
 *
 * SHAPE   Blocks double from 4 KiB to 256 KiB, so a small query costs one small block and a large
 *         one few calls of malloc. A request that is larger than that gets a block of its size.
 * RULES   A1  bytes counts whole blocks with their headers, and never passes the limit: near it a
 *             block is made as small as the request needs.
 *         A2  The chain's order is the order of time, so a mark names everything newer than it.
 *         A3  A block is counted where arena_join() said before it is allocated. Arenas of several threads
 *             may count in one place.
 *         A4  A few freed blocks of the larger sizes stay for the next query: the kernel clears each page
 *             that it hands out, which costs a large query more than its arithmetic. Small queries have
 *             none, and arenas that are no query's (no arena_join()) neither take nor leave any: nobody
 *             would give them back after a merge in the night. arena_spare_release() does that.
 * NOT     Giving single pieces back, and filling gaps in older blocks (A2 would be lost).
 * ASAN    Bytes nobody asked for are poisoned, so that an overrun inside a block is found. */
#include "src/base/arena.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/memory.h"

#ifdef __has_feature /* clang's way of telling */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define POISON(ptr, len)   ASAN_POISON_MEMORY_REGION(ptr, len)
#define UNPOISON(ptr, len) ASAN_UNPOISON_MEMORY_REGION(ptr, len)
#else
#define POISON(ptr, len)   ((void)0)
#define UNPOISON(ptr, len) ((void)0)
#endif

#define ALIGN           16u
#define FIRST_BLOCK     (4u << 10)
#define LARGEST_BLOCK   (256u << 10)
#define ROUND_UP(bytes) (((bytes) + (ALIGN - 1)) & ~(size_t)(ALIGN - 1))

struct block {
    struct block *older;
    size_t cap, used; /* of the data; used is a multiple of ALIGN */
};
/* malloc may align to 8 only (32-bit ARM): room to move the data up. */
#define OVERHEAD (sizeof(struct block) + ALIGN)

struct arena {
    struct block *newest;
    size_t bytes, limit_bytes, next_block;
    nx_status failed;
    struct arena_share *share; /* NULL: none */
    struct memory *memory;     /* that counts the blocks; NULL: none */
    bool spares;               /* A4 */
};

static char *block_data(struct block *b)
{
    return (char *)ROUND_UP((uintptr_t)(b + 1));
}

/* ---- spare blocks (A4) ------------------------------------------------------------------------ */

#ifdef __SANITIZE_ADDRESS__
#define LEAST_SPARE SIZE_MAX /* what is freed is to be out of bounds */
#else
#define LEAST_SPARE (32u << 10)
#endif
#define SPARE_BLOCKS 12u
static _Atomic(struct block *) spare[SPARE_BLOCKS];
static atomic_uint n_spare;

static bool may_be_spare(size_t cap)
{
    return cap >= LEAST_SPARE && cap <= LARGEST_BLOCK && (cap & (cap - 1)) == 0;
}

/* One of exactly this size, or NULL. */
static struct block *spare_take(size_t cap)
{
    if (!may_be_spare(cap) || !atomic_load_explicit(&n_spare, memory_order_relaxed))
        return NULL;
    for (unsigned i = 0; i < SPARE_BLOCKS; i++) {
        struct block *b = atomic_exchange(&spare[i], NULL);

        if (!b)
            continue;
        if (b->cap == cap) {
            atomic_fetch_sub(&n_spare, 1);
            return b;
        }
        struct block *none = NULL; /* its place may have been taken meanwhile */
        if (!atomic_compare_exchange_strong(&spare[i], &none, b)) {
            atomic_fetch_sub(&n_spare, 1);
            free(b);
        }
    }
    return NULL;
}

static void spare_put(struct block *b)
{
    for (unsigned i = 0; i < SPARE_BLOCKS && may_be_spare(b->cap); i++) {
        struct block *none = NULL;

        if (!atomic_load_explicit(&spare[i], memory_order_relaxed) &&
            atomic_compare_exchange_strong(&spare[i], &none, b)) {
            atomic_fetch_add(&n_spare, 1);
            return;
        }
    }
    free(b);
}

bool arena_spare_held(void)
{
    return atomic_load(&n_spare) > 0;
}

void arena_spare_release(void)
{
    for (unsigned i = 0; i < SPARE_BLOCKS; i++) {
        struct block *b = atomic_exchange(&spare[i], NULL);

        if (b) {
            atomic_fetch_sub(&n_spare, 1);
            free(b);
        }
    }
}

/* ---- arenas ------------------------------------------------------------------------------------- */

struct arena *arena_new(size_t limit_bytes)
{
    struct arena *a = calloc(1, sizeof *a);

    if (a) {
        a->limit_bytes = limit_bytes;
        a->next_block = FIRST_BLOCK;
    }
    return a;
}

static void share_add(struct arena_share *s, size_t bytes)
{
    __atomic_add_fetch(&s->bytes, bytes, __ATOMIC_RELAXED);
}

static void share_sub(struct arena_share *s, size_t bytes)
{
    __atomic_sub_fetch(&s->bytes, bytes, __ATOMIC_RELAXED);
}

static void uncount(struct arena *a, size_t bytes)
{
    a->bytes -= bytes;
    if (a->share)
        share_sub(a->share, bytes);
    memory_give(a->memory, bytes);
}

static nx_status share_stopped(const struct arena_share *s)
{
    if (s->cancel && __atomic_load_n(s->cancel, __ATOMIC_RELAXED))
        return NX_CANCELED;
    return s->deadline_ns && clock_mono_ns() > s->deadline_ns ? NX_TIMEOUT : NX_OK;
}

/* Counts first and looks then: of two threads that ask at a time both may be refused, and neither passes
 * the limit. */
static nx_status share_count(struct arena_share *s, size_t bytes)
{
    size_t after;
    nx_status st = share_stopped(s);

    if (st)
        return st;
    if (__builtin_add_overflow(__atomic_fetch_add(&s->bytes, bytes, __ATOMIC_RELAXED), bytes,
                               &after))
        after = SIZE_MAX;
    if (s->limit_bytes && after > s->limit_bytes) {
        share_sub(s, bytes);
        __atomic_store_n(&s->exceeded, true, __ATOMIC_RELAXED);
        return NX_LIMIT;
    }
    return NX_OK;
}

/* A3 */
static nx_status count(struct arena *a, size_t bytes)
{
    nx_status st = a->share ? share_count(a->share, bytes) : NX_OK;

    if (st)
        return st;
    if (memory_take(a->memory, bytes, NULL)) {
        if (a->share)
            share_sub(a->share, bytes);
        return NX_OVERLOADED;
    }
    a->bytes += bytes;
    return NX_OK;
}

bool arena_share_exceeded(const struct arena_share *s)
{
    return __atomic_load_n(&s->exceeded, __ATOMIC_RELAXED);
}

/* Says why there is no memory. */
static nx_status stopped(nx_status st, size_t limit_bytes, struct memory *m, struct nx_err *err)
{
    if (st == NX_LIMIT)
        return nx_fail(err, st, "memory limit of %zu bytes exceeded", limit_bytes);
    if (st == NX_OVERLOADED)
        return memory_no_room(m, err);
    if (st == NX_CANCELED || st == NX_TIMEOUT)
        return nx_fail(err, st, "%s", nx_status_text(st)); /* its user knows what was */
    return nx_fail(err, NX_NOMEM, "out of memory");
}

nx_status arena_share_take(struct arena_share *s, size_t bytes, struct nx_err *err)
{
    nx_status st;

    if (!s)
        return NX_OK;
    st = share_count(s, bytes);
    if (!st && memory_take(s->memory, bytes, NULL)) {
        share_sub(s, bytes);
        st = NX_OVERLOADED;
    }
    return st ? stopped(st, s->limit_bytes, s->memory, err) : NX_OK;
}

void arena_share_give(struct arena_share *s, size_t bytes)
{
    if (!s)
        return;
    share_sub(s, bytes);
    memory_give(s->memory, bytes);
}

void arena_join(struct arena *a, struct arena_share *share)
{
    NX_ASSERT(!a->share && !a->memory);
    a->share = share;
    a->memory = share->memory;
    a->spares = true;
    share_add(share, a->bytes);
    memory_took(a->memory, a->bytes);
}

struct arena *arena_beside(const struct arena *a)
{
    struct arena *b = arena_new(0);

    if (b && a->share)
        arena_join(b, a->share);
    return b;
}

void arena_leave(struct arena *a)
{
    if (a->share)
        share_sub(a->share, a->bytes);
    a->share = NULL;
}

static void drop_newest(struct arena *a)
{
    struct block *b = a->newest;

    a->newest = b->older;
    uncount(a, b->cap + OVERHEAD);
    UNPOISON(block_data(b), b->cap);
    if (a->spares)
        spare_put(b);
    else
        free(b);
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    while (a->newest)
        drop_newest(a);
    free(a);
}

/* How much a new block for `need` bytes should hold; 0 if the limit forbids even those (A1). */
static size_t block_size(const struct arena *a, size_t need)
{
    size_t want = a->next_block > need ? a->next_block : need;
    size_t left = a->limit_bytes > a->bytes ? a->limit_bytes - a->bytes : 0;

    if (a->limit_bytes == 0)
        return want;
    if (left < OVERHEAD || left - OVERHEAD < need)
        return 0;
    left = (left - OVERHEAD) & ~(size_t)(ALIGN - 1);
    return want < left ? want : left;
}

static bool add_block(struct arena *a, size_t need)
{
    size_t cap = block_size(a, need);
    struct block *b;
    nx_status st = cap ? count(a, cap + OVERHEAD) : NX_LIMIT;

    if (st) {
        a->failed = st;
        return false;
    }
    b = a->spares ? spare_take(cap) : NULL;
    if (!b)
        b = malloc(cap + OVERHEAD);
    if (!b) {
        uncount(a, cap + OVERHEAD);
        a->failed = NX_NOMEM;
        return false;
    }
    b->older = a->newest;
    b->cap = cap;
    b->used = 0;
    POISON(block_data(b), cap);
    a->newest = b;
    if (a->next_block < LARGEST_BLOCK)
        a->next_block *= 2;
    return true;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    struct block *b = a->newest;
    size_t need = bytes ? ROUND_UP(bytes) : ALIGN;
    char *p;

    if (bytes > SIZE_MAX / 2) { /* rounding or the overhead could wrap */
        a->failed = a->limit_bytes ? NX_LIMIT : NX_NOMEM;
        return NULL;
    }
    if (!b || b->cap - b->used < need) {
        if (!add_block(a, need))
            return NULL;
        b = a->newest;
    }
    p = block_data(b) + b->used;
    b->used += need;
    UNPOISON(p, bytes);
    return p;
}

void *arena_zalloc(struct arena *a, size_t bytes)
{
    void *p = arena_alloc(a, bytes);

    return p ? memset(p, 0, bytes) : NULL;
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes))
        bytes = SIZE_MAX;
    return arena_zalloc(a, bytes);
}

void *arena_grow(struct arena *a, void *old, size_t old_bytes, size_t new_bytes)
{
    struct block *b = a->newest;
    size_t had = old_bytes ? ROUND_UP(old_bytes) : ALIGN;
    void *p;

    if (!old)
        return arena_alloc(a, new_bytes);
    if (new_bytes <= old_bytes)
        return old;
    if (b && b->used >= had && (char *)old == block_data(b) + b->used - had &&
        new_bytes <= b->cap - (b->used - had)) {
        b->used = b->used - had + ROUND_UP(new_bytes);
        UNPOISON(old, new_bytes);
        return old;
    }
    p = arena_alloc(a, new_bytes);
    if (p)
        memcpy(p, old, old_bytes);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
    char *p = arena_alloc(a, len < SIZE_MAX ? len + 1 : len);

    if (!p)
        return NULL;
    if (len)
        memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

struct nx_slice arena_slice(struct arena *a, struct nx_slice s)
{
    char *p = arena_alloc(a, s.len);

    if (!p)
        return nx_slice_of(NULL, 0);
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return nx_slice_of(p, s.len);
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args, again;
    char *p = NULL;
    int n;

    va_start(args, fmt);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, fmt, args);
    if (n >= 0)
        p = arena_alloc(a, (size_t)n + 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(args);
    return p;
}

nx_status arena_failed(const struct arena *a, struct nx_err *err)
{
    const bool common = a->share && arena_share_exceeded(a->share);

    return stopped(a->failed, common ? a->share->limit_bytes : a->limit_bytes, a->memory, err);
}

size_t arena_bytes(const struct arena *a)
{
    return a->bytes;
}

struct arena_mark arena_mark(const struct arena *a)
{
    return (struct arena_mark){a->newest, a->newest ? a->newest->used : 0};
}

void arena_release(struct arena *a, struct arena_mark mark)
{
    while (a->newest && a->newest != mark.block)
        drop_newest(a);
    NX_ASSERT(a->newest == mark.block); /* else the mark is another arena's, or was released */
    if (a->newest) {
        a->newest->used = mark.used;
        POISON(block_data(a->newest) + mark.used, a->newest->cap - mark.used);
    }
    a->failed = NX_OK;
}

void arena_reset(struct arena *a)
{
    while (a->newest && a->newest->older)
        drop_newest(a);
    if (a->newest)
        arena_release(a, (struct arena_mark){a->newest, 0});
    a->failed = NX_OK;
}
