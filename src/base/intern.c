/* intern.c - the pool that keeps every label string of the head once.
 *
 * WHY     A million series share a few hundred thousand strings. Ids of four bytes take the place
 *         of pointers, and equal ids are equal strings.
 * SHAPE   Entries of 16 bytes in chunks that double in size (1024, 1024, 2048, 4096, ...): an id
 *         tells its chunk by its highest bit, a chunk never moves, and the list of chunks has a
 *         fixed length, so intern_str() needs no lock. Looking up by text goes through a table of
 *         ids with linear probing, at most 3/4 full: 5 to 11 bytes a string. The bytes of a string
 *         are one allocation with its length before them.
 * RULES   N1  refs of an entry falls to 0 only under the lock, where intern_get() raises it too: an
 *             entry found in the table is alive.
 *         N2  Removing from the table moves later entries of the run back (no tombstones), so
 *             churn does not wear it out.
 *         N3  An id is reused only after its last reference went. Id 0 is never given.
 * THREADS pool->lock (rank SYMBOLS) covers the table, the free list and every change to or from 0
 *         references. Counts above 1 move without it, and intern_str() reads without it what was
 *         written before the id was handed out. */
#include "src/base/intern.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/thread.h"

#define FIRST_BITS   10u
#define FIRST_CHUNK  (1u << FIRST_BITS)
#define MAX_CHUNKS   (32u - FIRST_BITS + 1)
#define FIRST_SLOTS  1024u
#define LENGTH_BYTES sizeof(uint32_t)

struct entry {
    char *text;    /* length, bytes; NULL while the id is free */
    uint32_t hash; /* while the id is free: the next free id */
    atomic_uint refs;
};

struct intern {
    struct nx_mutex lock;
    _Atomic(struct entry *) chunks[MAX_CHUNKS]; /* set once each; atomic: pairs with entry_of() */
    uint32_t *slots;                            /* ids, 0 is empty; under lock, as all below */
    uint32_t n_slots, n_used;                   /* a power of two; strings in the table */
    uint32_t next_id, free_id;
    size_t bytes;
};

static uint32_t chunk_of(uint32_t id)
{
    return id < FIRST_CHUNK ? 0 : 32u - FIRST_BITS - (uint32_t)__builtin_clz(id);
}

static uint32_t chunk_first(uint32_t chunk)
{
    return chunk == 0 ? 0 : FIRST_CHUNK << (chunk - 1);
}

static uint32_t chunk_len(uint32_t chunk)
{
    return chunk == 0 ? FIRST_CHUNK : FIRST_CHUNK << (chunk - 1);
}

static struct entry *entry_of(const struct intern *pool, uint32_t id)
{
    uint32_t c = chunk_of(id);
    struct entry *chunk = atomic_load_explicit(&pool->chunks[c], memory_order_acquire);

    return &chunk[id - chunk_first(c)];
}

static struct nx_slice entry_text(const struct entry *e)
{
    uint32_t len;

    memcpy(&len, e->text, sizeof len);
    return nx_slice_of(e->text + LENGTH_BYTES, len);
}

/* What malloc takes for `n` bytes, as glibc does it. */
static size_t allocation_bytes(size_t n)
{
    size_t word = sizeof(size_t), bytes = (n + word + 2 * word - 1) & ~(2 * word - 1);

    return bytes < 4 * word ? 4 * word : bytes;
}

struct intern *intern_new(void)
{
    struct intern *pool = calloc(1, sizeof *pool);

    if (!pool)
        return NULL;
    pool->slots = calloc(FIRST_SLOTS, sizeof *pool->slots);
    if (!pool->slots) {
        free(pool);
        return NULL;
    }
    nx_mutex_init(&pool->lock, NX_RANK_SYMBOLS);
    pool->n_slots = FIRST_SLOTS;
    pool->next_id = 1; /* N3 */
    pool->bytes = sizeof *pool + FIRST_SLOTS * sizeof *pool->slots;
    return pool;
}

void intern_free(struct intern *pool)
{
    if (!pool)
        return;
    for (uint32_t id = 1; id < pool->next_id; id++)
        free(entry_of(pool, id)->text);
    for (uint32_t c = 0; c < MAX_CHUNKS; c++)
        free(atomic_load(&pool->chunks[c]));
    nx_mutex_done(&pool->lock);
    free(pool->slots);
    free(pool);
}

/* The slot that holds `s`, or the empty one where it would go. */
static uint32_t find_slot_locked(const struct intern *pool, struct nx_slice s, uint32_t hash)
{
    uint32_t mask = pool->n_slots - 1, i = hash & mask;

    for (; pool->slots[i]; i = (i + 1) & mask) {
        const struct entry *e = entry_of(pool, pool->slots[i]);

        if (e->hash == hash && nx_slice_eq(entry_text(e), s))
            break;
    }
    return i;
}

static bool grow_table_locked(struct intern *pool)
{
    uint32_t n = pool->n_slots, mask;
    uint32_t *slots;

    if (pool->n_used < n / 4 * 3)
        return true;
    if (n > UINT32_MAX / 2)
        return false;
    n *= 2;
    mask = n - 1;
    slots = calloc(n, sizeof *slots);
    if (!slots)
        return false;
    /* By id, not by slot: entries are then read in the order of memory. */
    for (uint32_t id = 1; id < pool->next_id; id++) {
        const struct entry *e = entry_of(pool, id);
        uint32_t i = e->hash & mask;

        if (!e->text)
            continue;
        while (slots[i])
            i = (i + 1) & mask;
        slots[i] = id;
    }
    free(pool->slots);
    pool->slots = slots;
    pool->bytes += (size_t)(n - pool->n_slots) * sizeof *slots;
    pool->n_slots = n;
    return true;
}

/* A free id whose entry exists, not yet taken; 0 out of memory or ids. */
static uint32_t free_id_locked(struct intern *pool)
{
    uint32_t id = pool->free_id ? pool->free_id : pool->next_id, c = chunk_of(id);
    struct entry *chunk;

    if (id == UINT32_MAX)
        return 0;
    if (atomic_load_explicit(&pool->chunks[c], memory_order_relaxed))
        return id;
    chunk = calloc(chunk_len(c), sizeof *chunk);
    if (!chunk)
        return 0;
    atomic_store_explicit(&pool->chunks[c], chunk, memory_order_release);
    pool->bytes += chunk_len(c) * sizeof *chunk;
    return id;
}

static uint32_t add_locked(struct intern *pool, struct nx_slice s, uint32_t hash)
{
    uint32_t id, len = (uint32_t)s.len;
    struct entry *e;
    char *text;

    if (s.len > UINT32_MAX - LENGTH_BYTES || !grow_table_locked(pool))
        return 0;
    id = free_id_locked(pool);
    text = id ? malloc(LENGTH_BYTES + s.len) : NULL;
    if (!text)
        return 0;
    memcpy(text, &len, LENGTH_BYTES);
    if (len)
        memcpy(text + LENGTH_BYTES, s.ptr, len);
    e = entry_of(pool, id);
    if (id == pool->free_id)
        pool->free_id = e->hash;
    else
        pool->next_id++;
    e->text = text;
    e->hash = hash;
    atomic_store_explicit(&e->refs, 1, memory_order_relaxed);
    pool->slots[find_slot_locked(pool, s, hash)] = id;
    pool->n_used++;
    pool->bytes += allocation_bytes(LENGTH_BYTES + s.len);
    return id;
}

static uint32_t hash_of(struct nx_slice s)
{
    return (uint32_t)hash_bytes(s.ptr, s.len);
}

uint32_t intern_get(struct intern *pool, struct nx_slice s)
{
    uint32_t hash = hash_of(s), id;

    nx_lock(&pool->lock);
    id = pool->slots[find_slot_locked(pool, s, hash)];
    if (id)
        intern_ref(pool, id);
    else
        id = add_locked(pool, s, hash);
    nx_unlock(&pool->lock);
    return id;
}

uint32_t intern_find(struct intern *pool, struct nx_slice s)
{
    uint32_t hash = hash_of(s), id;

    nx_lock(&pool->lock);
    id = pool->slots[find_slot_locked(pool, s, hash)];
    nx_unlock(&pool->lock);
    return id;
}

void intern_ref(struct intern *pool, uint32_t id)
{
    unsigned before = atomic_fetch_add_explicit(&entry_of(pool, id)->refs, 1, memory_order_relaxed);

    NX_ASSERT(before > 0);
    NX_ASSERT_ALWAYS(before != UINT32_MAX); /* else a string in use would be given back */
}

/* Empties slot i and closes the gap (N2). */
static void remove_slot_locked(struct intern *pool, uint32_t i)
{
    uint32_t mask = pool->n_slots - 1, gap = i;

    for (;;) {
        uint32_t home;

        i = (i + 1) & mask;
        if (!pool->slots[i])
            break;
        home = entry_of(pool, pool->slots[i])->hash & mask;
        if (((i - home) & mask) >= ((i - gap) & mask)) { /* its run began at or before the gap */
            pool->slots[gap] = pool->slots[i];
            gap = i;
        }
    }
    pool->slots[gap] = 0;
}

static void remove_locked(struct intern *pool, uint32_t id, struct entry *e)
{
    uint32_t mask = pool->n_slots - 1, i = e->hash & mask;

    while (pool->slots[i] != id)
        i = (i + 1) & mask;
    remove_slot_locked(pool, i);
    pool->n_used--;
    pool->bytes -= allocation_bytes(LENGTH_BYTES + entry_text(e).len);
    free(e->text);
    e->text = NULL;
    e->hash = pool->free_id;
    pool->free_id = id;
}

void intern_unref(struct intern *pool, uint32_t id)
{
    struct entry *e = entry_of(pool, id);
    unsigned refs = atomic_load_explicit(&e->refs, memory_order_relaxed);

    NX_ASSERT(refs > 0);
    while (refs > 1) {
        /* release: what this thread read of the text comes before whoever frees it */
        if (atomic_compare_exchange_weak_explicit(&e->refs, &refs, refs - 1, memory_order_release,
                                                  memory_order_relaxed))
            return;
    }
    nx_lock(&pool->lock); /* N1: somebody may have got it meanwhile */
    if (atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1)
        remove_locked(pool, id, e);
    nx_unlock(&pool->lock);
}

struct nx_slice intern_str(const struct intern *pool, uint32_t id)
{
    NX_ASSERT(id != 0);
    return entry_text(entry_of(pool, id));
}

static size_t read_locked(const struct intern *pool, bool count)
{
    /* The lock is no part of what the pool promises to keep. */
    struct nx_mutex *lock = (struct nx_mutex *)(uintptr_t)&pool->lock;
    size_t n;

    nx_lock(lock);
    n = count ? pool->n_used : pool->bytes;
    nx_unlock(lock);
    return n;
}

size_t intern_count(const struct intern *pool)
{
    return read_locked(pool, true);
}

size_t intern_bytes(const struct intern *pool)
{
    return read_locked(pool, false);
}
