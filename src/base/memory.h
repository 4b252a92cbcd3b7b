/* memory.h - how much memory the process may have, how much it has, and what gives way near the limit.
 *
 * The number that counts is the anonymous memory of the process (RssAnon): what it allocated and touched.
 * Near the limit things give way in this order, each at a share of it:
 *
 *   MEMORY_SHRINK      3/4    caches shrink
 *   MEMORY_NO_QUERIES  9/10   queries are refused, and running ones get no more
 *   MEMORY_NO_SERIES   19/20  new series are refused; so are exemplars and new metadata
 *
 * Series that are there are never refused, nor are their samples: for them is what is left.
 *
 * Owner    one meter per process, made by who starts it; all who ask borrow it. A NULL meter is one
 *          without a limit, everywhere.
 * Threads  any, at any lock below NX_RANK_CACHE or none: a shortage makes caches shrink on the spot.
 * Units    bytes. */
#pragma once

#include "src/base/status.h"

struct memory;

enum memory_level { MEMORY_PLENTY, MEMORY_SHRINK, MEMORY_NO_QUERIES, MEMORY_NO_SERIES };

/* What the process has; 0: can't be told, then nothing is refused. */
typedef uint64_t memory_read_fn(void *ctx);
uint64_t memory_read_process(void *unused); /* RssAnon */

/* limit 0: none. `read` NULL: memory_read_process(). NULL out of memory. */
struct memory *memory_new(uint64_t limit, memory_read_fn *read, void *ctx);
void memory_free(struct memory *m); /* accepts NULL; all that was taken is given back */
void memory_set_limit(struct memory *m, uint64_t limit);
uint64_t memory_limit(const struct memory *m);

/* Called, by whoever meets the shortage, to free about `bytes` at once: caches. One at most;
 * memory_on_shortage(m, NULL, NULL) waits until it is not running and ends it. */
typedef void memory_shortage_fn(void *ctx, uint64_t bytes);
void memory_on_shortage(struct memory *m, memory_shortage_fn *fn, void *ctx);

/* Memory in use. Looked up anew when the last look is older than some milliseconds; what queries took
 * or gave back since then is added. */
uint64_t memory_used(struct memory *m);
enum memory_level memory_level(struct memory *m);
/* What is left up to the limit; UINT64_MAX without one. */
uint64_t memory_room(struct memory *m);
/* The same by a look of its own, however new the last one is: for who allocates much without taking it here. */
uint64_t memory_room_now(struct memory *m);
/* At which use a level begins; 0 without a limit. */
uint64_t memory_threshold(const struct memory *m, enum memory_level level);

/* Counts memory that a query is about to allocate. NX_OVERLOADED: there is none to be had, and nothing
 * was counted. */
NX_NODISCARD nx_status memory_take(struct memory *m, size_t bytes, struct nx_err *err);
void memory_took(struct memory *m, size_t bytes); /* it has it already: never refused */
void memory_give(struct memory *m, size_t bytes);
/* NX_OVERLOADED, with the text of a query that got no memory. */
nx_status memory_no_room(struct memory *m, struct nx_err *err);

/* NX_OK, or NX_OVERLOADED: no query may begin now. Counted. */
NX_NODISCARD nx_status memory_admit_query(struct memory *m, struct nx_err *err);
/* NX_OK, or NX_LIMIT: no new series now. Counted. */
NX_NODISCARD nx_status memory_admit_series(struct memory *m, struct nx_err *err);

struct memory_stats {
    uint64_t limit, used, query_bytes;
    uint64_t refused_queries; /* not begun, or stopped */
    uint64_t refused_series;  /* each time one was */
    enum memory_level level;
};
void memory_get_stats(struct memory *m, struct memory_stats *out);
