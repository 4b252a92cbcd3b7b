/* coarse_plan.c - which block is to be kept at a coarser resolution, and whether that was done.
 *
 * RULES   L1  A block of samples goes to the first level; a block of points to the first whose resolution is a
 *             multiple of its own, and larger. A level whose time has passed is passed over.
 *         L2  It is done when each of the blocks that it was made of in the end is an origin of blocks
 *             of that resolution. So what was loaded into old times later, and merged, is seen.
 *         L3  A block that time would take is made coarser before it goes, however young the level
 *             says it is: nothing falls between two levels. */
#include <string.h>

#include "storage/compact.h"
#include "storage/storage_impl.h"

static int64_t age_of(const struct keep *k, const struct block_meta *m)
{
    return k->newest_ms > m->max_ms ? k->newest_ms - m->max_ms : 0;
}

size_t coarse_level_of(const struct keep *k, const struct block_meta *m) /* L1 */
{
    const size_t n = keep_n_levels(k->rules);

    for (size_t i = 0; i < n; i++) {
        const struct storage_level *l = keep_level(k->rules, i);
        if (age_of(k, m) < l->keep_ms &&
            (!m->resolution_ms ||
             (l->resolution_ms > m->resolution_ms && l->resolution_ms % m->resolution_ms == 0)))
            return i;
    }
    return n;
}

static bool has_origin(const struct block_meta *m, const char *ulid)
{
    for (size_t i = 0; i < m->n_sources; i++)
        if (strcmp(m->sources[i], ulid) == 0)
            return true;
    return false;
}

bool coarse_is_part(const struct block_meta *part, const struct block_meta *of)
{
    if (part->min_ms < of->min_ms || part->max_ms > of->max_ms)
        return false;
    for (size_t i = 0; i < part->n_sources; i++)
        if (!has_origin(of, part->sources[i]))
            return false;
    return true;
}

static bool coarse_is_done(struct block *const *v, size_t n, const struct block_meta *m,
                           int64_t resolution_ms) /* L2 */
{
    for (size_t i = 0; i < m->n_sources; i++) {
        bool found = false;
        for (size_t k = 0; k < n && !found; k++) {
            const struct block_meta *other = block_meta(v[k]);
            found = other->resolution_ms == resolution_ms && other->min_ms < m->max_ms &&
                    other->max_ms > m->min_ms && has_origin(other, m->sources[i]);
        }
        if (!found)
            return false;
    }
    return true;
}

bool coarse_is_wanted(struct block *const *v, size_t n, const struct keep *k,
                      const struct block_meta *m, bool soon)
{
    const size_t level = coarse_level_of(k, m);
    const struct keep own = keep_of_resolution(k, m->resolution_ms);
    const struct storage_level *l;

    if (level == keep_n_levels(k->rules))
        return false;
    l = keep_level(k->rules, level);
    if (soon && age_of(k, m) < l->after_ms && !keep_passed(&own, keep_n_rules(k->rules), m->max_ms))
        return false; /* L3 */
    return !coarse_is_done(v, n, m, l->resolution_ms);
}
