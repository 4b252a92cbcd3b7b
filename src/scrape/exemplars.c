/* exemplars.c - the exemplars of a body, on their way to the store.
 *
 * WHY     Which series a sample belongs to is known only when the body has been read and its new series
 *         have their columns. Until then an exemplar is its bytes and the number of its sample.
 * RULES   E1  Nothing here fails a scrape: an exemplar that has no room, or that the store refuses, is
 *             missing, and that is all (SCR-085).
 *         E2  Without a timestamp of its own it has that of its sample (SCR-094).
 *         E3  The bytes are those that the parser accepted; they are decoded only here, so a store that
 *             keeps no exemplars costs nothing. */
#include "src/scrape/exemplars.h"

#include <stdlib.h>

#include "src/scrape/resolve.h"

void exemplars_note(struct ingest_scratch *s, struct nx_slice text)
{
    if (s->n_exemplars == s->cap_exemplars) {
        uint32_t cap = s->cap_exemplars ? s->cap_exemplars * 2 : 64;
        struct noted_exemplar *v = reallocarray(s->exemplars, cap, sizeof *v);
        if (!v)
            return; /* E1 */
        s->exemplars = v;
        s->cap_exemplars = cap;
    }
    s->exemplars[s->n_exemplars++] = (struct noted_exemplar){s->n_samples - 1, text};
}

/* Where the sample's series is; false if it has none. */
static bool find_column(const struct ingest *in, uint32_t what, struct storage_group **group,
                        uint32_t *col)
{
    const struct stamped *t;

    switch (line_kind(what)) {
    case LINE_SERIES:
    case LINE_DUPLICATE:
        *group = in->group;
        *col = line_index(what);
        return true;
    case LINE_STAMPED:
        t = &in->stamped[line_index(what)];
        *group = resolve_stamped_group(in, t->group);
        *col = t->col;
        return true;
    default:
        return false;
    }
}

static void store_one(const struct ingest *in, const struct ingest_env *env, int64_t t_ms,
                      struct nx_slice text, const struct sample *m, struct arena *a,
                      struct ingest_result *res)
{
    enum storage_exemplar_result got;
    struct storage_group *group;
    struct expo_exemplar x;
    uint32_t col;

    if (!find_column(in, m->what, &group, &col) || expo_exemplar(text, a, &x, NULL))
        return;
    const struct storage_exemplar e = {
        .labels = {x.labels.v, x.labels.n},
        .value = x.value,
        .t_ms = x.has_ts                             ? x.ts_ms
                : line_kind(m->what) == LINE_STAMPED ? m->ts_ms
                                                     : t_ms, /* E2 */
        .has_ts = x.has_ts,
    };
    if (storage_exemplar_add_column(env->storage, group, col, &e, a, &got, NULL) == NX_OK)
        res->exemplar_out_of_order += got == EXEMPLAR_OLD;
}

void exemplars_store(const struct ingest *in, const struct ingest_env *env, int64_t t_ms,
                     struct ingest_scratch *s, struct ingest_result *res)
{
    for (uint32_t i = 0; i < s->n_exemplars; i++) {
        const struct noted_exemplar *n = &s->exemplars[i];
        struct arena_mark mark = arena_mark(s->arena);
        store_one(in, env, t_ms, n->text, &s->samples[n->sample], s->arena, res);
        arena_release(s->arena, mark);
    }
    s->n_exemplars = 0; /* their bytes go with the body */
}
