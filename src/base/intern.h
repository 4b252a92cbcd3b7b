/* intern.h - strings kept once, named by a 32-bit id.
 *
 * Owner    whoever made the pool. Ids are counted: intern_get takes a reference, intern_unref gives
 *          it back, and a string without references goes and its id is reused.
 * Threads  any. intern_str of an id one holds needs no lock. */
#pragma once

#include "src/base/status.h"

struct intern;
struct intern *intern_new(void); /* NULL out of memory */
void intern_free(struct intern *pool);

/* Finds or adds. 0 is never an id and means out of memory. */
uint32_t intern_get(struct intern *pool, struct nx_slice s);
/* Finds only, without a reference; 0 if nobody has it. */
uint32_t intern_find(struct intern *pool, struct nx_slice s);
void intern_ref(struct intern *pool, uint32_t id);
void intern_unref(struct intern *pool, uint32_t id);
struct nx_slice intern_str(const struct intern *pool,
                           uint32_t id); /* valid while a reference is held */
size_t intern_count(const struct intern *pool);
size_t intern_bytes(const struct intern *pool); /* all memory of the pool */
