/* view.c - which Alertmanagers there are and how they fare, for the API and our own metrics. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/notify/manager.h"

static nx_status put_url(struct arena *a, struct nx_slice *to, size_t *n, const char *url,
                         struct nx_err *err)
{
    to[*n] = arena_slice(a, nx_slice_str(url));
    return to[(*n)++].ptr ? NX_OK : arena_failed(a, err);
}

static nx_status urls_locked(struct notify *n, struct arena *a, struct notify_urls *out,
                             struct nx_err *err)
{
    size_t active = 0, dropped = 0;
    nx_status st = NX_OK;

    for (size_t i = 0; i < n->n_sections; i++) {
        active += n->sections[i]->n_senders;
        dropped += n->sections[i]->n_dropped;
    }
    out->active = arena_array(a, active + 1, sizeof *out->active);
    out->dropped = arena_array(a, dropped + 1, sizeof *out->dropped);
    if (!out->active || !out->dropped)
        return arena_failed(a, err);
    for (size_t i = 0; i < n->n_sections; i++) {
        const struct section *s = n->sections[i];

        for (size_t k = 0; k < s->n_senders && !st; k++)
            st = put_url(a, out->active, &out->n_active, sender_url(s->senders[k]), err);
        for (size_t k = 0; k < s->n_dropped && !st; k++)
            st = put_url(a, out->dropped, &out->n_dropped, s->dropped[k], err);
    }
    return st;
}

nx_status notify_urls(struct notify *n, struct arena *a, struct notify_urls *out,
                      struct nx_err *err)
{
    struct notify_urls v = {0};
    nx_status st;

    nx_rdlock(&n->lock);
    st = urls_locked(n, a, &v, err);
    nx_rwunlock(&n->lock);
    if (!st)
        *out = v;
    return st;
}

/* ---- numbers -------------------------------------------------------------------------------------------- */

static struct notify_url_stats *of_url(struct notify_stats *v, struct arena *a, const char *url)
{
    struct notify_url_stats *u;

    for (size_t i = 0; i < v->n_urls; i++)
        if (strcmp(v->urls[i].url, url) == 0)
            return &v->urls[i];
    u = &v->urls[v->n_urls];
    u->url = arena_strdup(a, url);
    if (!u->url)
        return NULL;
    v->n_urls++;
    return u;
}

static nx_status stats_locked(struct notify *n, struct arena *a, struct notify_stats *v,
                              struct nx_err *err)
{
    for (size_t i = 0; i < n->n_sections; i++)
        v->discovered += n->sections[i]->n_senders;
    v->file_read_errors = n->file_read_errors;
    v->urls = arena_array(a, v->discovered + 1, sizeof *v->urls);
    v->sets = arena_array(a, n->n_sections + 1, sizeof *v->sets);
    if (!v->urls || !v->sets)
        return arena_failed(a, err);
    for (size_t i = 0; i < n->n_sections; i++) {
        const struct section *s = n->sections[i];

        v->sets[i] = (struct notify_set_stats){arena_strdup(a, s->name), s->discovered};
        if (!v->sets[i].name)
            return arena_failed(a, err);
        v->n_sets++;
        for (size_t k = 0; k < s->n_senders; k++) {
            struct notify_url_stats *u = of_url(v, a, sender_url(s->senders[k]));

            if (!u)
                return arena_failed(a, err);
            sender_count(s->senders[k], u);
        }
    }
    return NX_OK;
}

static int by_url(const void *a, const void *b)
{
    const struct notify_url_stats *x = a, *y = b;

    return strcmp(x->url, y->url);
}

nx_status notify_get_stats(struct notify *n, struct arena *a, struct notify_stats *out,
                           struct nx_err *err)
{
    struct notify_stats v = {.queue_capacity = n->opts.queue_capacity};
    nx_status st;

    nx_rdlock(&n->lock);
    st = stats_locked(n, a, &v, err);
    nx_rwunlock(&n->lock);
    if (st)
        return st;
    qsort(v.urls, v.n_urls, sizeof *v.urls, by_url);
    *out = v;
    return NX_OK;
}
