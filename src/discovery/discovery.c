/* discovery.c - sets of targets from providers.
 *
 * WHY     Many jobs may name the same files, and a reload mostly changes nothing. So what is
 *         configured becomes providers, one for each thing that is said, shared by all sets that
 *         say it and kept over reloads.
 * RULES   S1  Two entries are one provider if kind and fingerprint are the same.
 *         S2  A new configuration is built beside the old one; the old one goes when that worked.
 *         S3  Kinds without a mechanism have no provider and give no targets; the configuration has
 *             warned about them. */
#include "src/discovery/discovery.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/discovery/mechanism.h"

/* The registry: a new mechanism is a row here and a file beside this one. */
static const struct sd_mechanism *const mechanisms[] = {&sd_static, &sd_file};

struct provider {
    const struct sd_mechanism *mechanism;
    uint64_t fingerprint;
    void *state;
    bool changed; /* by the poll under way */
};
struct set {
    char *name;
    struct provider **v; /* borrowed from the discovery's list */
    size_t n;
};
struct sets {
    struct provider **providers;
    size_t n_providers;
    struct set *v;
    size_t n;
};
struct discovery {
    struct sd_env env;
    struct sets now;
};

static const struct sd_mechanism *find_mechanism(enum config_sd_kind kind)
{
    for (size_t i = 0; i < NX_COUNT(mechanisms); i++) {
        if (mechanisms[i]->kind == kind)
            return mechanisms[i];
    }
    return NULL;
}

static struct provider *find_provider(const struct sets *s, const struct config_sd *sd)
{
    for (size_t i = 0; i < s->n_providers; i++) {
        if (s->providers[i]->mechanism->kind == sd->kind &&
            s->providers[i]->fingerprint == sd->fingerprint)
            return s->providers[i];
    }
    return NULL;
}

static void provider_free(struct provider *p, struct sd_env *env)
{
    if (!p)
        return;
    p->mechanism->close(p->state, env);
    free(p);
}

/* Frees the lists, and those providers that `other` does not have. */
static void sets_done(struct sets *s, const struct sets *other, struct sd_env *env)
{
    for (size_t i = 0; i < s->n_providers; i++) {
        bool shared = false;

        for (size_t k = 0; other && k < other->n_providers; k++)
            shared |= other->providers[k] == s->providers[i];
        if (!shared)
            provider_free(s->providers[i], env);
    }
    for (size_t i = 0; i < s->n; i++) {
        free(s->v[i].name);
        free(s->v[i].v);
    }
    free(s->providers);
    free(s->v);
    *s = (struct sets){0};
}

nx_status discovery_new(struct discovery **out, struct nx_err *err)
{
    struct discovery *d = calloc(1, sizeof *d);

    if (!d)
        return nx_fail(err, NX_NOMEM, "out of memory");
    watcher_init(&d->env.watcher);
    *out = d;
    return NX_OK;
}

void discovery_free(struct discovery *d)
{
    if (!d)
        return;
    sets_done(&d->now, NULL, &d->env);
    watcher_done(&d->env.watcher);
    free(d);
}

static nx_status open_provider(struct discovery *d, struct sets *to, const struct config_sd *sd,
                               struct nx_err *err)
{
    struct provider **grown =
        realloc(to->providers, (to->n_providers + 1) * sizeof(struct provider *));
    struct provider *p = calloc(1, sizeof *p);
    nx_status st;

    if (grown)
        to->providers = grown;
    if (!grown || !p) {
        free(p);
        return nx_fail(err, NX_NOMEM, "out of memory");
    }
    p->mechanism = find_mechanism(sd->kind);
    p->fingerprint = sd->fingerprint;
    if ((st = p->mechanism->open(&p->state, sd, &d->env, clock_mono_ns() / 1000000, err))) {
        free(p);
        return st;
    }
    to->providers[to->n_providers++] = p;
    return NX_OK;
}

/* Brings over a provider of the old sets. */
static nx_status adopt_provider(struct sets *to, struct provider *p, struct nx_err *err)
{
    struct provider **grown =
        realloc(to->providers, (to->n_providers + 1) * sizeof(struct provider *));

    if (!grown)
        return nx_fail(err, NX_NOMEM, "out of memory");
    to->providers = grown;
    to->providers[to->n_providers++] = p;
    return NX_OK;
}

static bool has_provider(const struct set *set, const struct provider *p)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->v[i] == p)
            return true;
    }
    return false;
}

static nx_status fill_set(struct discovery *d, struct sets *to, struct set *set,
                          const struct discovery_set *from, struct nx_err *err)
{
    nx_status st;

    set->name = strndup(from->name.ptr, from->name.len);
    set->v = calloc(from->sds->n ? from->sds->n : 1, sizeof(struct provider *));
    if (!set->name || !set->v)
        return nx_fail(err, NX_NOMEM, "out of memory");
    for (size_t i = 0; i < from->sds->n; i++) {
        const struct config_sd *sd = &from->sds->v[i];
        struct provider *p = find_provider(to, sd), *old = find_provider(&d->now, sd);

        if (!find_mechanism(sd->kind))
            continue; /* S3 */
        if (!p) {
            st = old ? adopt_provider(to, old, err) : open_provider(d, to, sd, err);
            if (st)
                return st;
            p = to->providers[to->n_providers - 1];
        }
        if (!has_provider(set, p))
            set->v[set->n++] = p;
    }
    return NX_OK;
}

nx_status discovery_apply(struct discovery *d, const struct discovery_set *sets, size_t n,
                          struct nx_err *err)
{
    struct sets fresh = {.v = calloc(n ? n : 1, sizeof *fresh.v)}, old = d->now;
    nx_status st = fresh.v ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");

    for (size_t i = 0; i < n && !st; i++) {
        fresh.n++;
        st = fill_set(d, &fresh, &fresh.v[i], &sets[i], err);
    }
    if (st) { /* S2 */
        sets_done(&fresh, &d->now, &d->env);
        return st;
    }
    d->now = fresh;
    sets_done(&old, &d->now, &d->env);
    return NX_OK;
}

void discovery_poll(struct discovery *d, int64_t mono_ms,
                    void (*changed)(void *ctx, struct nx_slice set_name), void *ctx)
{
    watcher_read(&d->env.watcher);
    for (size_t i = 0; i < d->now.n_providers; i++) {
        struct provider *p = d->now.providers[i];

        p->changed = p->mechanism->poll && p->mechanism->poll(p->state, &d->env, mono_ms);
        d->env.stats.updates += p->changed;
    }
    for (size_t i = 0; i < d->now.n; i++) {
        const struct set *set = &d->now.v[i];
        bool any = false;

        for (size_t k = 0; k < set->n; k++)
            any |= set->v[k]->changed;
        if (any)
            changed(ctx, nx_slice_str(set->name));
    }
}

int64_t discovery_next_ms(const struct discovery *d)
{
    int64_t next = INT64_MAX;

    for (size_t i = 0; i < d->now.n_providers; i++) {
        const struct provider *p = d->now.providers[i];
        int64_t own = p->mechanism->next_ms ? p->mechanism->next_ms(p->state) : INT64_MAX;

        next = own < next ? own : next;
    }
    return next;
}

int discovery_fd(const struct discovery *d)
{
    return d->env.watcher.fd;
}

static const struct set *find_set(const struct discovery *d, struct nx_slice name)
{
    for (size_t i = 0; i < d->now.n; i++) {
        if (nx_slice_is(name, d->now.v[i].name))
            return &d->now.v[i];
    }
    return NULL;
}

/* ---- groups ---- */

struct discovery_group *groups_add(struct arena *a, struct discovery_groups *to)
{
    /* The capacity is the next power of two: grown whenever the number is one. */
    if (!(to->n & (to->n - 1))) {
        size_t cap = to->n ? to->n * 2 : 1;
        struct discovery_group *v = arena_grow(a, to->v, to->n * sizeof *v, cap * sizeof *v);

        if (!v)
            return NULL;
        to->v = v;
    }
    to->v[to->n] = (struct discovery_group){0};
    return &to->v[to->n++];
}

nx_status group_copy(struct arena *a, const struct config_target_group *from, struct label extra,
                     struct discovery_group *to, struct nx_err *err)
{
    struct nx_slice *targets =
        arena_array(a, from->targets.n ? from->targets.n : 1, sizeof *targets);
    struct label *labels = arena_array(a, from->labels.n + 1, sizeof *labels);
    uint32_t n = 0;

    if (!targets || !labels)
        return arena_failed(a, err);
    for (size_t i = 0; i < from->targets.n; i++) {
        if (!(targets[i].ptr = arena_strndup(a, from->targets.v[i].ptr, from->targets.v[i].len)))
            return arena_failed(a, err);
        targets[i].len = from->targets.v[i].len;
    }
    for (uint32_t i = 0; i < from->labels.n || extra.name.ptr;) {
        int c = !extra.name.ptr       ? -1
                : i == from->labels.n ? 1
                                      : nx_slice_cmp(from->labels.v[i].name, extra.name);
        struct label l = c < 0 ? from->labels.v[i] : extra;

        i += c <= 0;
        if (c >= 0)
            extra.name.ptr = NULL;
        labels[n].name = arena_slice(a, l.name);
        labels[n].value = arena_slice(a, l.value);
        if (!labels[n].name.ptr || !labels[n].value.ptr)
            return arena_failed(a, err);
        n++;
    }
    to->targets = (struct config_strings){targets, from->targets.n};
    to->labels = (struct labels){labels, n};
    return NX_OK;
}

nx_status discovery_groups(const struct discovery *d, struct nx_slice set_name, struct arena *a,
                           struct discovery_groups *out, struct nx_err *err)
{
    const struct set *set = find_set(d, set_name);
    struct discovery_groups groups = {0};
    nx_status st = NX_OK;

    for (size_t i = 0; set && i < set->n && !st; i++) {
        const struct provider *p = set->v[i];
        size_t from = groups.n;

        st = p->mechanism->groups(p->state, a, &groups, err);
        for (size_t k = from; k < groups.n && !st; k++) { /* unique over the providers of the set */
            struct nx_slice own = groups.v[k].source;
            char *source = arena_printf(a, "%s/%zu/%.*s", config_sd_name(p->mechanism->kind), i,
                                        (int)own.len, own.ptr);

            if (!source)
                st = arena_failed(a, err);
            else
                groups.v[k].source = nx_slice_str(source);
        }
    }
    if (!st)
        *out = groups;
    return st;
}

size_t discovery_target_count(const struct discovery *d, struct nx_slice set_name)
{
    const struct set *set = find_set(d, set_name);
    size_t n = 0;

    for (size_t i = 0; set && i < set->n; i++)
        n += set->v[i]->mechanism->count(set->v[i]->state);
    return n;
}

nx_status discovery_get_stats(const struct discovery *d, struct arena *a,
                              struct discovery_stats *out, struct nx_err *err)
{
    struct discovery_stats stats = d->env.stats;
    nx_status st = NX_OK;

    stats.watcher_errors = d->env.watcher.errors;
    for (size_t i = 0; i < d->now.n_providers && !st; i++) {
        const struct provider *p = d->now.providers[i];

        if (p->mechanism->files)
            st = p->mechanism->files(p->state, a, &stats, err);
    }
    if (!st)
        *out = stats;
    return st;
}
