/* compact_keep.c - which block is to be written again, for series in it have passed their time.
 *
 * RULES   R1  A block is gone over when another rule has passed for it, or the rules have changed: its
 *             labels are read, in a cache of their own, until a series is found whose rule has
 *             passed. What was found clean is remembered and not looked at again before that.
 *         R2  A block for which every time has passed is none of ours: the retention deletes it whole.
 *         R3  So a block is written again once a rule at most, and never for nothing.
 * THREADS The compactor's. */
#include <stdlib.h>
#include <string.h>

#include "storage/compact.h"

#define BATCH       128u
#define CACHE_BYTES (1u << 20)

struct clean {
    char ulid[BLOCK_ULID_LEN + 1];
    uint64_t version; /* of the rules */
    size_t passed;
};

struct keep_checks {
    struct clean *v; /* sorted by ulid */
    size_t n;
};

struct keep_checks *keep_checks_new(void)
{
    return calloc(1, sizeof(struct keep_checks));
}

void keep_checks_free(struct keep_checks *c)
{
    if (c)
        free(c->v);
    free(c);
}

static int by_ulid(const void *a, const void *b)
{
    return strcmp(((const struct clean *)a)->ulid, ((const struct clean *)b)->ulid);
}

static struct clean *find_clean(const struct keep_checks *c, const char *ulid)
{
    struct clean key;

    memcpy(key.ulid, ulid, sizeof key.ulid);
    return c->n ? bsearch(&key, c->v, c->n, sizeof key, by_ulid) : NULL;
}

/* The list as it is now, with what is known of those that were on it before. */
static nx_status renew(struct keep_checks *c, struct block *const *v, size_t n, struct nx_err *err)
{
    struct clean *now = calloc(n + 1, sizeof *now); /* passed 0: not known */

    if (!now)
        return nx_fail(err, NX_NOMEM, "looking for what need not be kept");
    for (size_t i = 0; i < n; i++) {
        const char *ulid = block_meta(v[i])->ulid;
        const struct clean *old = find_clean(c, ulid);
        if (old)
            now[i] = *old;
        else
            memcpy(now[i].ulid, ulid, sizeof now[i].ulid);
    }
    free(c->v);
    c->v = now;
    c->n = n;
    qsort(c->v, c->n, sizeof *c->v, by_ulid);
    return NX_OK;
}

/* R1. *any: a series has passed its time. */
static nx_status scan(struct block *b, const struct keep *k, const atomic_bool *stop, bool *any,
                      struct nx_err *err)
{
    const struct block_meta *meta = block_meta(b);
    struct arena *a = arena_new(0);
    nx_status st = a ? NX_OK : nx_fail(err, NX_NOMEM, "looking for what need not be kept");

    *any = false;
    for (uint64_t at = 0; at < meta->n_series && !st && !*any; at += BATCH) {
        const uint64_t left = meta->n_series - at;
        struct series_list list = {0};
        arena_reset(a);
        if (atomic_load(stop))
            st = nx_fail(err, NX_CANCELED, "looking at blocks was called off");
        else
            st = block_series_run(b, at, left < BATCH ? (size_t)left : BATCH, a, &list, err);
        for (size_t i = 0; i < list.n && !st && !*any; i++)
            *any = keep_passed(k, keep_rule_of(k->rules, &list.v[i].labels), meta->max_ms);
    }
    arena_free(a);
    return st;
}

static nx_status look_into(struct fs *fs, const char *dir, const struct keep *k,
                           const atomic_bool *stop, bool *any, struct nx_err *err)
{
    struct cache *cache = cache_new(CACHE_BYTES);
    struct block *b = NULL;
    nx_status st = cache ? block_open(&b, fs, cache, dir, err)
                         : nx_fail(err, NX_NOMEM, "looking for what need not be kept");

    if (!st)
        st = scan(b, k, stop, any, err);
    block_unref(b);
    cache_free(cache);
    return st;
}

nx_status keep_find(struct keep_checks *c, struct fs *fs, struct block *const *v,
                    const struct compact_block *plan, size_t n, const struct keep *k,
                    uint64_t version, const atomic_bool *stop, size_t *which, struct nx_err *err)
{
    nx_status st = NX_OK;
    size_t i = 0;
    bool any = false;

    *which = COMPACT_NONE;
    if (!keep_n_rules(k->rules)) /* then there are times for whole blocks alone */
        return NX_OK;
    st = renew(c, v, n, err);
    for (; i < n && !st && !any; i++) {
        const struct block_meta *meta = block_meta(v[i]);
        const struct keep own = keep_of_resolution(k, meta->resolution_ms);
        const size_t passed = keep_n_passed(&own, meta->max_ms);
        struct clean *known = find_clean(c, meta->ulid);
        if (plan[i].avoid || !passed || passed > keep_n_rules(k->rules)) /* R2 */
            continue;
        if (known->version == version && known->passed == passed)
            continue;
        *which = i;
        st = look_into(fs, block_dir(v[i]), &own, stop, &any, err);
        if (!st && !any) {
            known->version = version;
            known->passed = passed;
        }
    }
    if (!st && !any)
        *which = COMPACT_NONE;
    return st;
}
