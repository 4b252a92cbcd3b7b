/* arena.h - memory that goes all at once.
 *
 * One arena a query, a config load, a parsed body. What is taken from it is never given back on its
 * own. The limit counts every byte the arena holds; past it (or out of memory) allocation returns
 * NULL and arena_failed() tells which. Threads: one at a time. */
#pragma once

#include "src/base/status.h"

struct arena;

/* limit_bytes 0: no limit. Returns NULL out of memory. */
struct arena *arena_new(size_t limit_bytes);
void arena_free(struct arena *a); /* accepts NULL */

/* Aligned to 16 bytes, not cleared. A request of 0 bytes gives a valid pointer. */
void *arena_alloc(struct arena *a, size_t bytes) __attribute__((malloc));
void *arena_zalloc(struct arena *a, size_t bytes) __attribute__((malloc));
/* n * size with overflow checked; cleared. */
void *arena_array(struct arena *a, size_t n, size_t size) __attribute__((malloc));
/* Grows `old` (may be NULL) from old_bytes to new_bytes; in place where it was the newest. */
void *arena_grow(struct arena *a, void *old, size_t old_bytes, size_t new_bytes);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t len); /* copies len bytes, terminates */
struct nx_slice arena_slice(struct arena *a, struct nx_slice s); /* ptr NULL on failure */
char *arena_printf(struct arena *a, const char *fmt, ...) NX_PRINTF(2, 3);

/* Several arenas under one bound, and all of them counted as a query's memory (memory.h). */
struct memory;
struct arena_share {
    size_t bytes;          /* atomic */
    size_t limit_bytes;    /* 0: no limit */
    struct memory *memory; /* NULL: not counted */
    bool exceeded;         /* atomic: limit_bytes, by some failure */
    const int *cancel;     /* atomic; not 0: no block is given any more. NULL: not asked */
    int64_t deadline_ns;   /* on the steady clock; after it neither. 0: none */
};
/* From now on the arena's blocks, those that it has included, count in `share` (borrowed; its limit_bytes
 * and memory are set before the first arena joins and stay, cancel and deadline_ns are set by who uses the
 * arenas). What takes long takes memory: so a query ends soon after it is called off, whoever is at work. */
void arena_join(struct arena *a, struct arena_share *share);
/* A new arena without a limit of its own that counts where `a` does. NULL out of memory. */
struct arena *arena_beside(const struct arena *a);
/* What is allocated beside the arenas counts, too: `bytes` are about to be taken. Fails as an arena would, with
 * its texts, and then nothing was counted. Any thread, while others' arenas count there. NULL counts nothing. */
NX_NODISCARD nx_status arena_share_take(struct arena_share *s, size_t bytes, struct nx_err *err);
void arena_share_give(struct arena_share *s, size_t bytes);
bool arena_share_exceeded(const struct arena_share *s);
/* The arena lives on, counted as before, but without the common bound. */
void arena_leave(struct arena *a);

/* The failure of the last NULL, with a text: NX_LIMIT, NX_NOMEM, NX_OVERLOADED when the process is near its
 * memory limit, NX_CANCELED or NX_TIMEOUT. */
nx_status arena_failed(const struct arena *a, struct nx_err *err);
size_t arena_bytes(const struct arena *a); /* held now */

/* A point to return to: everything allocated after arena_mark() goes with arena_release(). */
struct arena_mark {
    void *block;
    size_t used;
};
struct arena_mark arena_mark(const struct arena *a);
void arena_release(struct arena *a, struct arena_mark mark);
void arena_reset(struct arena *a); /* empties it, keeps one block for reuse */

/* Freed blocks of large arenas that had joined, up to 3 MiB in all, stay for the next one until somebody
 * gives them back: when nobody has asked for anything for a while, or when memory is short. Any thread. */
bool arena_spare_held(void);
void arena_spare_release(void);
