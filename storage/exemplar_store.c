/* exemplar_store.c - exemplars as the store shows them: whose they are, by labels or by column. */
#include "storage/exemplar.h"

#include "storage/storage_impl.h"

bool storage_exemplars_on(struct storage *s)
{
    return exemplars_on(s->exemplars);
}

void storage_set_max_exemplars(struct storage *s, int64_t max)
{
    exemplars_set_max(s->exemplars, max);
}

/* At the memory limit nothing is added that series could do without. */
static bool no_memory(struct storage *s, enum storage_exemplar_result *got)
{
    bool full = memory_level(s->memory) >= MEMORY_NO_SERIES;

    if (full && got)
        *got = EXEMPLAR_NO_MEMORY;
    return full;
}

nx_status storage_exemplar_add(struct storage *s, const struct labels *series,
                               const struct storage_exemplar *e, enum storage_exemplar_result *got,
                               struct nx_err *err)
{
    if (no_memory(s, got))
        return NX_OK;
    return exemplars_add(s->exemplars, series, e, got, err);
}

/* Whose column it is; copied. */
static nx_status column_labels(struct storage *s, struct storage_group *g, uint32_t col,
                               struct arena *a, struct labels *out, struct nx_err *err)
{
    struct series_list list;
    uint32_t id;
    nx_status st;

    nx_rdlock(&s->head->lock);
    nx_lock(g->lock);
    NX_ASSERT(col < g->n_cols && g->cols[col].state != COL_FREE);
    id = g->cols[col].series;
    nx_unlock(g->lock);
    st = index_series(s->head->ix, id)
             ? index_labels(s->head->ix, (struct ids){&id, 1}, a, &list, err)
             : nx_fail(err, NX_NOTFOUND, "series %u", id);
    nx_rwunlock(&s->head->lock);
    if (!st)
        *out = list.v[0].labels;
    return st;
}

nx_status storage_exemplar_add_column(struct storage *s, struct storage_group *g, uint32_t col,
                                      const struct storage_exemplar *e, struct arena *a,
                                      enum storage_exemplar_result *got, struct nx_err *err)
{
    struct arena_mark mark = arena_mark(a);
    struct labels series;
    nx_status st = column_labels(s, g, col, a, &series, err);

    if (!st)
        st = exemplars_add(s->exemplars, &series, e, got, err);
    arena_release(a, mark);
    return st;
}

nx_status storage_select_exemplars(struct storage *s, const struct matcher_set *sets, size_t n_sets,
                                   int64_t mint, int64_t maxt, struct arena *a,
                                   struct storage_exemplar_list *out, struct nx_err *err)
{
    return exemplars_select(s->exemplars, sets, n_sets, mint, maxt, a, out, err);
}
