/* meta.h - what a target says about its metric families: type, help, unit. Private to src/scrape.
 *
 * Owner    one a target. Texts are interned in the manager's pool, so that a hundred targets of one
 *          kind hold one copy of their help.
 * Threads  changed by the worker that has the target, under the manager's status lock; read by that
 *          worker without it and by others with it. last_iter is the worker's alone. */
#pragma once

#include "src/base/intern.h"
#include "src/base/thread.h"
#include "src/expo/expo.h"

struct meta_entry {
    uint32_t name, help,
        unit;           /* interned, as written (escaped); name 0: free; help, unit 0: not said */
    uint32_t last_iter; /* of the scrape that had it last */
    uint8_t type;       /* enum expo_type */
    bool openmetrics;   /* how help is escaped */
};
struct meta {
    struct meta_entry *v;
    uint32_t n, cap;
    uint32_t next; /* where to look first: families come in the same order */
    bool aging;    /* some entry is older than the last scrape */
};

#define META_LIVES_SCRAPES 10 /* SCR-092 */

/* Which of an entry's lines. */
enum meta_which { META_HELP, META_TYPE, META_UNIT };

/* Takes over one parsed entry. *index is its family's place. NX_NOMEM. */
NX_NODISCARD nx_status meta_set(struct meta *m, struct intern *pool, struct nx_mutex *lock,
                                enum expo_format f, const struct expo_entry *e, uint32_t iter,
                                uint32_t *index, struct nx_err *err);
/* Whether meta_set() would need no new entry. */
bool meta_knows(struct meta *m, const struct intern *pool, struct nx_slice name);
/* If the parser stands at the very line that `which` of entry `index` makes, takes it. */
bool meta_try_line(const struct meta *m, const struct intern *pool, uint32_t index,
                   enum meta_which which, struct expo *x);
/* Is `line` written as meta_try_line() expects it? */
bool meta_is_plain(const struct meta *m, const struct intern *pool, uint32_t index,
                   enum meta_which which, enum expo_format f, struct nx_slice line);
/* Frees what no scrape had for META_LIVES_SCRAPES. */
void meta_age(struct meta *m, struct intern *pool, struct nx_mutex *lock, uint32_t iter);
void meta_done(struct meta *m, struct intern *pool); /* accepts a zeroed one */
size_t meta_text_bytes(const struct meta *m, const struct intern *pool, size_t *n_entries);
/* meta_age() where it can have anything to do. */
static inline void meta_age_if_needed(struct meta *m, struct intern *pool, struct nx_mutex *lock,
                                      uint32_t iter, bool changed)
{
    if (changed || m->aging)
        meta_age(m, pool, lock, iter);
}
