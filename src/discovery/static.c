/* static.c - static_configs: the groups that the configuration itself holds. */
#include "src/discovery/mechanism.h"

#include <stdlib.h>

struct statics {
    struct arena *arena;
    struct discovery_groups groups;
};

static void statics_close(void *state, struct sd_env *env)
{
    struct statics *s = state;

    (void)env;
    if (!s)
        return;
    arena_free(s->arena);
    free(s);
}

/* The source of a group is its place in the list. */
static nx_status statics_open(void **out, const struct config_sd *sd, struct sd_env *env,
                              int64_t mono_ms, struct nx_err *err)
{
    struct statics *s = calloc(1, sizeof *s);
    nx_status st = NX_OK;

    (void)mono_ms;
    if (!s || !(s->arena = arena_new(0))) {
        st = nx_fail(err, NX_NOMEM, "out of memory");
        goto done;
    }
    for (size_t i = 0; i < sd->u.statics->n; i++) {
        struct discovery_group *g = groups_add(s->arena, &s->groups);
        char *source = g ? arena_printf(s->arena, "%zu", i) : NULL;

        if (!source) {
            st = arena_failed(s->arena, err);
            goto done;
        }
        g->source = nx_slice_str(source);
        if ((st = group_copy(s->arena, &sd->u.statics->v[i], (struct label){{NULL, 0}, {NULL, 0}},
                             g, err)))
            goto done;
    }
    *out = s;
    s = NULL;

done:
    statics_close(s, env);
    return st;
}

static nx_status statics_groups(const void *state, struct arena *a, struct discovery_groups *to,
                                struct nx_err *err)
{
    const struct statics *s = state;
    nx_status st = NX_OK;

    for (size_t i = 0; i < s->groups.n && !st; i++) {
        const struct discovery_group *from = &s->groups.v[i];
        struct config_target_group plain = {from->targets, from->labels};
        struct discovery_group *g = groups_add(a, to);

        if (!g)
            return arena_failed(a, err);
        g->source = arena_slice(a, from->source);
        st = g->source.ptr ? group_copy(a, &plain, (struct label){{NULL, 0}, {NULL, 0}}, g, err)
                           : arena_failed(a, err);
    }
    return st;
}

static size_t statics_count(const void *state)
{
    const struct statics *s = state;
    size_t n = 0;

    for (size_t i = 0; i < s->groups.n; i++)
        n += s->groups.v[i].targets.n;
    return n;
}

const struct sd_mechanism sd_static = {
    .kind = CONFIG_SD_STATIC,
    .open = statics_open,
    .close = statics_close,
    .groups = statics_groups,
    .count = statics_count,
};
