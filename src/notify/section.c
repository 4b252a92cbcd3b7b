/* section.c - which Alertmanagers a section has: from target groups to senders.
 *
 * RULES   S1  An Alertmanager is known by its URL: found twice in a section, it is one.
 *         S2  One address that is none takes its whole group with it, as in Prometheus: said in the log.
 *         S3  A sender whose URL is found again stays as it is, queue and counters included. */
#include "src/notify/section.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/log.h"

struct urls { /* in the arena */
    struct nx_slice *v;
    size_t n, cap;
};

static nx_status urls_add(struct arena *a, struct urls *u, struct nx_slice url, struct nx_err *err)
{
    if (u->n == u->cap) {
        size_t cap = u->cap ? u->cap * 2 : 8;
        struct nx_slice *v = arena_grow(a, u->v, u->cap * sizeof *v, cap * sizeof *v);

        if (!v)
            return arena_failed(a, err);
        u->v = v;
        u->cap = cap;
    }
    u->v[u->n++] = url;
    return NX_OK;
}

static nx_status add_group(const struct section *s, const struct discovery_group *g,
                           struct relabel_work *work, struct arena *a, struct urls *active,
                           struct urls *dropped, struct nx_err *err)
{
    size_t n_active = active->n, n_dropped = dropped->n;
    nx_status st = NX_OK;

    for (size_t i = 0; i < g->targets.n && !st; i++) {
        struct nx_slice url;
        bool out = false;

        st = notify_url(sender_settings_section(s->settings), g->targets.v[i], &g->labels, work, a,
                        &out, &url, err);
        if (!st)
            st = urls_add(a, out ? dropped : active, url, err);
    }
    if (st != NX_BADINPUT)
        return st;
    active->n = n_active; /* S2 */
    dropped->n = n_dropped;
    log_error("Creating discovered Alertmanagers failed", "component", "notifier", "err",
              err ? err->text : "");
    return NX_OK;
}

static nx_status find_urls(const struct section *s, const struct discovery *d, struct arena *a,
                           struct urls *active, struct urls *dropped, struct nx_err *err)
{
    struct relabel_work work = {0};
    struct discovery_groups groups = {0};
    nx_status st = relabel_work_init(&work, err);

    if (!st)
        st = discovery_groups(d, nx_slice_str(s->name), a, &groups, err);
    for (size_t i = 0; i < groups.n && !st; i++)
        st = add_group(s, &groups.v[i], &work, a, active, dropped, err);
    relabel_work_done(&work);
    return st;
}

static struct sender *find_sender(struct sender *const *v, size_t n, struct nx_slice url)
{
    for (size_t i = 0; i < n; i++)
        if (v[i] && nx_slice_is(url, sender_url(v[i])))
            return v[i];
    return NULL;
}

static bool is_one_of(struct sender *const *v, size_t n, const struct sender *s)
{
    bool is = false;

    for (size_t i = 0; i < n; i++)
        is |= v[i] == s;
    return is;
}

static nx_status copy_urls(const struct urls *from, struct section_found *f, struct nx_err *err)
{
    f->dropped = calloc(from->n + 1, sizeof(char *));
    for (size_t i = 0; f->dropped && i < from->n; i++) {
        if (!(f->dropped[i] = strndup(from->v[i].ptr, from->v[i].len)))
            break;
        f->n_dropped++;
    }
    return f->dropped && f->n_dropped == from->n ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");
}

static nx_status find_senders(const struct section *s, const struct urls *urls,
                              const struct sender_opts *opts, struct sender *const *known,
                              size_t n_known, struct section_found *f, struct nx_err *err)
{
    f->senders = calloc(urls->n + 1, sizeof(struct sender *));
    if (!f->senders)
        return nx_fail(err, NX_NOMEM, "out of memory");
    for (size_t i = 0; i < urls->n; i++) {
        struct sender *one = find_sender(known, n_known, urls->v[i]); /* S3 */

        if (find_sender(f->senders, f->n_senders, urls->v[i])) /* S1 */
            continue;
        if (!one && !(one = sender_new(urls->v[i].ptr, s->settings, opts)))
            return nx_fail(err, NX_NOMEM, "out of memory");
        f->senders[f->n_senders++] = one;
    }
    return NX_OK;
}

static void free_urls(char **v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(v[i]);
    free(v);
}

/* After a failure: only what is new is ours to free. */
static void found_undo(struct section_found *f, struct sender *const *known, size_t n_known)
{
    for (size_t i = 0; i < f->n_senders; i++)
        if (!is_one_of(known, n_known, f->senders[i]))
            sender_free(f->senders[i]);
    free(f->senders);
    free_urls(f->dropped, f->n_dropped);
}

nx_status section_find(const struct section *s, const struct discovery *d,
                       const struct sender_opts *opts, struct sender *const *known, size_t n_known,
                       struct section_found *out, struct nx_err *err)
{
    struct section_found f = {.discovered = discovery_target_count(d, nx_slice_str(s->name))};
    struct urls active = {0}, dropped = {0};
    struct arena *a = arena_new(0);
    nx_status st = a ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");

    if (!st)
        st = find_urls(s, d, a, &active, &dropped, err);
    if (!st)
        st = copy_urls(&dropped, &f, err);
    if (!st)
        st = find_senders(s, &active, opts, known, n_known, &f, err);
    if (st)
        found_undo(&f, known, n_known);
    else
        *out = f;
    arena_free(a);
    return st;
}

/* ---- what a section has ----------------------------------------------------------------------------- */

void section_take(struct section *s, const struct section_found *f)
{
    free(s->senders);
    free_urls(s->dropped, s->n_dropped);
    s->senders = f->senders;
    s->n_senders = f->n_senders;
    s->dropped = f->dropped;
    s->n_dropped = f->n_dropped;
    s->discovered = f->discovered;
}

bool section_has(const struct section *s, const struct sender *sender)
{
    return is_one_of(s->senders, s->n_senders, sender);
}

void section_free(struct section *s)
{
    if (!s)
        return;
    sender_settings_unref(s->settings);
    free(s->senders);
    free_urls(s->dropped, s->n_dropped);
    free(s);
}
