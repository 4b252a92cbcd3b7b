/* direct_groups.c - alerts, groups of them, and when whom to tell what.
 *
 * WHY     What Alertmanager's dispatcher does, for one route per receiver: an alert goes to every receiver whose matchers
 *         fit; there it is in the group of those with the same values of group_by.
 * SHAPE   `known` alerts in a hash table by labels; a known alert has a place for each receiver: its group there.
 *         A group has members: alerts, and what was told of each.
 * RULES   G1  A new group is looked at after group_wait, and then every group_interval; sooner when repeat_interval is over.
 *         G2  It is told when an alert fires that was not told as firing, when one that was is over (send_resolved),
 *             and, while some fire, after repeat_interval. All of the group is told then.
 *         G3  That an alert is over is told only of those that were told as firing.
 *         G4  Silenced alerts are left out. One that ends while it is silenced is told when the silence ends; one that
 *             fires on is told again then, if there was a message without it: to a pager, that was its end.
 *         G5  What could not be delivered is not told: the group is looked at again after group_interval.
 *         G6  An alert that nobody confirms is over when the time is up for which rules said it is good.
 *         G7  Memory is bounded: in alerts and in their bytes. Those that there is no room for are counted; of one that is
 *             known the words that have room stay.
 *         G8  A clock that is set back delays nothing by more than group_wait or group_interval.
 * THREADS One at a time. */
#include "src/notify/direct_groups.h"

#include <stdlib.h>
#include <string.h>

enum told { TOLD_NOTHING, TOLD_FIRING, TOLD_OVER };

struct known {
    struct known *next; /* of its bucket */
    uint64_t hash;
    const struct notify_alert *alert;
    int64_t good_until_ms; /* G6; of one that is resolved: 0 */
    int64_t ends_ns;       /* as rules said last */
    unsigned refs;         /* groups that it is a member of */
    struct group **in;     /* by receiver; NULL: in none */
};
struct member {
    struct known *k;
    enum told told, sending;
    bool missed; /* told as firing, and not in a message since (G4) */
};
struct group {
    struct group *next;
    uint64_t hash;
    size_t receiver;
    struct label *label_v; /* their strings are behind them */
    struct labels labels;
    struct member *members;
    size_t n, cap;
    int64_t due_ms, told_ms; /* told_ms 0: never */
    struct notice *sending;
};
struct table {
    struct group **v;
    size_t n_buckets, n;
};
struct groups {
    struct direct_plan *plan;
    struct groups_limits limits;
    struct known **known;
    size_t n_known_buckets, n_known, bytes;
    struct table groups;
    bool changed;
    uint64_t dropped;
};

#define BUCKETS 1024u /* of either table: at the bounds there are some ten in each */

static bool is_live(const struct known *k, int64_t now_ms)
{
    return now_ms < k->good_until_ms;
}

static const struct direct_receiver *receiver_of(const struct groups *g, const struct group *gr)
{
    return &g->plan->receivers[gr->receiver];
}

/* ---- making and freeing --------------------------------------------------------------------------------- */

nx_status groups_new(struct groups **out, struct direct_plan *plan,
                     const struct groups_limits *limits, struct nx_err *err)
{
    struct groups *g = calloc(1, sizeof *g);

    if (g) {
        g->known = calloc(BUCKETS, sizeof *g->known);
        g->groups.v = calloc(BUCKETS, sizeof(struct group *));
    }
    if (!g || !g->known || !g->groups.v) {
        groups_free(g);
        return nx_fail(err, NX_NOMEM, "out of memory");
    }
    g->n_known_buckets = g->groups.n_buckets = BUCKETS;
    g->plan = direct_plan_ref(plan);
    g->limits = *limits;
    *out = g;
    return NX_OK;
}

static void free_group(struct group *gr)
{
    if (gr->sending)
        gr->sending->group = NULL;
    free(gr->label_v);
    free(gr->members);
    free(gr);
}

static void free_table(struct table *t)
{
    for (size_t i = 0; t->v && i < t->n_buckets; i++)
        for (struct group *gr = t->v[i], *next; gr; gr = next) {
            next = gr->next;
            free_group(gr);
        }
    free(t->v);
    *t = (struct table){0};
}

static void free_known(struct known *k)
{
    notify_alert_unref(k->alert);
    free(k->in);
    free(k);
}

void groups_free(struct groups *g)
{
    if (!g)
        return;
    free_table(&g->groups);
    for (size_t i = 0; g->known && i < g->n_known_buckets; i++)
        for (struct known *k = g->known[i], *next; k; k = next) {
            next = k->next;
            free_known(k);
        }
    free(g->known);
    direct_plan_unref(g->plan);
    free(g);
}

static struct known *find_known(const struct groups *g, const struct labels *ls, uint64_t hash)
{
    for (struct known *k = g->known[hash % g->n_known_buckets]; k; k = k->next)
        if (k->hash == hash && labels_eq(&k->alert->labels, ls))
            return k;
    return NULL;
}

static void forget_known(struct groups *g, struct known *k)
{
    struct known **at = &g->known[k->hash % g->n_known_buckets];

    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    g->n_known--;
    g->bytes -= k->alert->bytes;
    free_known(k);
}

/* Takes the alert out of the group, and away altogether when it is in no other. */
static void drop_member(struct groups *g, struct group *gr, size_t i)
{
    struct known *k = gr->members[i].k;

    gr->members[i] = gr->members[--gr->n];
    k->in[gr->receiver] = NULL;
    if (--k->refs == 0)
        forget_known(g, k);
}

static void drop_group(struct groups *g, struct group *gr)
{
    struct group **at = &g->groups.v[gr->hash % g->groups.n_buckets];

    while (*at != gr)
        at = &(*at)->next;
    *at = gr->next;
    g->groups.n--;
    free_group(gr);
}

/* ---- grouping -------------------------------------------------------------------------------------------- */

/* The labels of the group that an alert belongs to, into `to`, which has room for all of the alert's. */
static struct labels group_labels(const struct direct_receiver *r, const struct labels *ls,
                                  struct label *to)
{
    uint32_t n = 0;

    if (r->by_all)
        return *ls;
    for (size_t i = 0; i < r->n_group_by; i++) {
        struct nx_slice v = labels_get(ls, r->group_by[i]);
        if (v.len)
            to[n++] = (struct label){r->group_by[i], v};
    }
    return (struct labels){to, n};
}

static bool copy_labels(struct group *gr, const struct labels *from)
{
    size_t bytes = (from->n + 1) * sizeof(struct label);
    char *at;

    for (uint32_t i = 0; i < from->n; i++)
        bytes += from->v[i].name.len + from->v[i].value.len;
    gr->label_v = malloc(bytes);
    if (!gr->label_v)
        return false;
    at = (char *)(gr->label_v + from->n);
    for (uint32_t i = 0; i < from->n; i++) {
        struct nx_slice n = from->v[i].name, v = from->v[i].value;
        memcpy(at, n.ptr, n.len);
        memcpy(at + n.len, v.ptr, v.len);
        gr->label_v[i] = (struct label){{at, n.len}, {at + n.len, v.len}};
        at += n.len + v.len;
    }
    gr->labels = (struct labels){gr->label_v, from->n};
    return true;
}

static struct group *find_group(const struct table *t, size_t receiver, const struct labels *ls)
{
    uint64_t hash = labels_hash(ls) + receiver;

    for (struct group *gr = t->v[hash % t->n_buckets]; gr; gr = gr->next)
        if (gr->hash == hash && gr->receiver == receiver && labels_eq(&gr->labels, ls))
            return gr;
    return NULL;
}

static struct group *make_group(struct table *t, const struct direct_receiver *r, size_t receiver,
                                const struct labels *ls, int64_t now_ms)
{
    struct group *gr = calloc(1, sizeof *gr);

    if (!gr || !copy_labels(gr, ls)) {
        free(gr);
        return NULL;
    }
    gr->hash = labels_hash(ls) + receiver;
    gr->receiver = receiver;
    gr->due_ms = now_ms + r->cfg->group_wait_ms; /* G1 */
    gr->next = t->v[gr->hash % t->n_buckets];
    t->v[gr->hash % t->n_buckets] = gr;
    t->n++;
    return gr;
}

static struct member *add_member(struct group *gr, struct known *k)
{
    if (gr->n == gr->cap) {
        size_t cap = gr->cap ? gr->cap * 2 : 4;
        struct member *v = reallocarray(gr->members, cap, sizeof *v);
        if (!v)
            return NULL;
        gr->members = v;
        gr->cap = cap;
    }
    gr->members[gr->n] = (struct member){.k = k};
    return &gr->members[gr->n++];
}

/* Puts an alert where it belongs with one receiver; NULL: no memory. */
static struct member *join(struct table *t, const struct direct_plan *plan, size_t receiver,
                           struct known *k, struct group **in, int64_t now_ms)
{
    const struct direct_receiver *r = &plan->receivers[receiver];
    struct label *room = malloc((r->n_group_by + 1) * sizeof *room);
    struct member *m = NULL;
    struct group *gr;

    if (!room)
        return NULL;
    struct labels ls = group_labels(r, &k->alert->labels, room);
    gr = find_group(t, receiver, &ls);
    if (!gr)
        gr = make_group(t, r, receiver, &ls, now_ms);
    if (gr)
        m = add_member(gr, k);
    if (m)
        in[receiver] = gr;
    free(room);
    return m; /* an empty group, for lack of memory, goes when it is due */
}

/* ---- taking ---------------------------------------------------------------------------------------------- */

static void note(struct known *k, const struct notify_alert *a)
{
    k->good_until_ms = a->resolved ? 0 : a->ends_ns / 1000000;
    k->ends_ns = a->ends_ns;
}

static struct known *make_known(struct groups *g, const struct notify_alert *a, uint64_t hash)
{
    struct known *k;

    if (g->n_known >= g->limits.alerts || g->bytes + a->bytes > g->limits.bytes) /* G7 */
        return NULL;
    k = calloc(1, sizeof *k);
    if (!k || !(k->in = calloc(g->plan->cfg.receivers.n + 1, sizeof(struct group *)))) {
        free(k);
        return NULL;
    }
    k->hash = hash;
    k->alert = notify_alert_ref(a);
    note(k, a);
    k->next = g->known[hash % g->n_known_buckets];
    g->known[hash % g->n_known_buckets] = k;
    g->n_known++;
    g->bytes += a->bytes;
    return k;
}

static void update_known(struct groups *g, struct known *k, const struct notify_alert *a)
{
    size_t bytes = g->bytes - k->alert->bytes + a->bytes;

    note(k, a);
    if (bytes > g->bytes && bytes > g->limits.bytes) /* G7 */
        return;
    g->bytes = bytes;
    notify_alert_ref(a);
    notify_alert_unref(k->alert);
    k->alert = a;
}

bool groups_take(struct groups *g, const struct notify_alert *a, int64_t now_ms)
{
    uint64_t hash = labels_hash(&a->labels);
    struct known *k = find_known(g, &a->labels, hash);
    bool ok = true;

    if (k)
        update_known(g, k, a);
    if (a->resolved || now_ms >= a->ends_ns / 1000000)
        return true; /* G3: of those that are not known nobody was told */
    for (size_t i = 0; i < g->plan->cfg.receivers.n && ok; i++) {
        if ((k && k->in[i]) || !match_all(&g->plan->receivers[i].match, &a->labels))
            continue;
        if (!k)
            k = make_known(g, a, hash);
        ok = k && join(&g->groups, g->plan, i, k, k->in, now_ms);
        if (ok)
            k->refs++;
    }
    if (k && !k->refs)
        forget_known(g, k);
    g->dropped += !ok;
    return ok;
}

/* ---- telling --------------------------------------------------------------------------------------------- */

static int by_labels(const void *a, const void *b)
{
    const struct notice_alert *x = a, *y = b;

    return labels_cmp(&x->alert->labels, &y->alert->labels);
}

static void notice_free(struct notice *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->n_alerts; i++)
        notify_alert_unref(n->alerts[i].alert);
    direct_plan_unref(n->plan);
    arena_free(n->arena);
    free(n);
}

static nx_status make_notice(struct groups *g, struct group *gr, int64_t now_ms,
                             struct notice **out, struct nx_err *err)
{
    struct notice *n = calloc(1, sizeof *n);
    nx_status st = NX_OK;

    if (!n || !(n->arena = arena_new(0)))
        st = nx_fail(err, NX_NOMEM, "out of memory");
    if (!st)
        st = labels_copy(n->arena, &gr->labels, &n->group_labels, err);
    if (!st && !(n->alerts = arena_array(n->arena, gr->n + 1, sizeof *n->alerts)))
        st = arena_failed(n->arena, err);
    if (st) {
        notice_free(n);
        return st;
    }
    n->plan = direct_plan_ref(g->plan);
    n->receiver = receiver_of(g, gr);
    n->made_ms = now_ms;
    n->group = gr;
    for (size_t i = 0; i < gr->n; i++) {
        struct member *m = &gr->members[i];
        if (!m->sending)
            continue;
        const struct notify_alert *a = m->k->alert;
        bool over = m->sending == TOLD_OVER;
        n->alerts[n->n_alerts++] = (struct notice_alert){notify_alert_ref(a), over, m->k->ends_ns};
        n->n_firing += !over;
    }
    qsort(n->alerts, n->n_alerts, sizeof *n->alerts, by_labels);
    *out = n;
    return NX_OK;
}

/* Marks what is to be told, drops what there is no need to know any more; whether it is to be told now (G2). */
static bool look(struct groups *g, struct group *gr, int64_t now_ms)
{
    const struct direct_receiver *r = receiver_of(g, gr);
    bool fresh = false, over = false, firing = false;

    if (gr->told_ms > now_ms) /* G8 */
        gr->told_ms = now_ms;
    for (size_t i = 0; i < gr->n;) {
        struct member *m = &gr->members[i];
        bool live = is_live(m->k, now_ms),
             silenced = direct_plan_silenced(g->plan, &m->k->alert->labels, now_ms);
        m->sending = TOLD_NOTHING;
        if (!live && (m->told != TOLD_FIRING || !r->cfg->send_resolved)) { /* G3 */
            g->changed = g->changed || m->told == TOLD_FIRING;
            drop_member(g, gr, i);
            continue;
        }
        i++;
        if (silenced) /* G4 */
            continue;
        m->sending = live ? TOLD_FIRING : TOLD_OVER;
        fresh = fresh || (live && (m->told != TOLD_FIRING || m->missed));
        firing = firing || live;
        over = over || !live;
    }
    return fresh || over ||
           (firing && gr->told_ms && now_ms - gr->told_ms >= r->cfg->repeat_interval_ms);
}

static void set_due(const struct groups *g, struct group *gr, int64_t now_ms)
{
    const struct config_notify_receiver *r = receiver_of(g, gr)->cfg;
    int64_t repeat = gr->told_ms + r->repeat_interval_ms;

    gr->due_ms = now_ms + r->group_interval_ms;
    if (gr->told_ms && repeat > now_ms && repeat < gr->due_ms)
        gr->due_ms = repeat; /* G1 */
}

/* G8 */
static bool is_due(const struct groups *g, const struct group *gr, int64_t now_ms)
{
    const struct config_notify_receiver *r = receiver_of(g, gr)->cfg;
    int64_t longest =
        r->group_wait_ms > r->group_interval_ms ? r->group_wait_ms : r->group_interval_ms;

    return gr->due_ms <= now_ms || gr->due_ms - now_ms > longest;
}

nx_status groups_next(struct groups *g, int64_t now_ms, struct notice **out, struct nx_err *err)
{
    *out = NULL;
    for (size_t i = 0; i < g->groups.n_buckets; i++)
        for (struct group *gr = g->groups.v[i], *next; gr; gr = next) {
            bool tell;
            next = gr->next;
            if (gr->sending || !is_due(g, gr, now_ms))
                continue;
            tell = look(g, gr, now_ms);
            if (!gr->n) {
                drop_group(g, gr);
                continue;
            }
            set_due(g, gr, now_ms);
            if (!tell)
                continue;
            nx_status st = make_notice(g, gr, now_ms, out, err);
            if (!st)
                gr->sending = *out;
            return st;
        }
    return NX_OK;
}

void groups_told(struct groups *g, struct notice *n, bool delivered, int64_t now_ms)
{
    struct group *gr = n->group;

    if (gr) {
        gr->sending = NULL;
        if (delivered) {
            gr->told_ms = n->made_ms;
            g->changed = true;
        }
        for (size_t i = 0; i < gr->n;) {
            struct member *m = &gr->members[i];
            enum told sent = m->sending;
            m->sending = TOLD_NOTHING;
            if (delivered)
                m->missed = m->told == TOLD_FIRING && !sent;
            if (delivered && sent == TOLD_FIRING)
                m->told = TOLD_FIRING;
            if (delivered && sent == TOLD_OVER) {
                m->told = TOLD_NOTHING;
                if (!is_live(m->k, now_ms)) {
                    drop_member(g, gr, i);
                    continue;
                }
            }
            i++;
        }
        if (!gr->n)
            drop_group(g, gr);
        else
            set_due(g, gr, n->made_ms);
    }
    notice_free(n);
}

void groups_again(struct notice *n, int64_t now_ms)
{
    struct group *gr = n->group;

    if (gr) {
        gr->sending = NULL;
        gr->due_ms = now_ms;
        for (size_t i = 0; i < gr->n; i++)
            gr->members[i].sending = TOLD_NOTHING;
    }
    notice_free(n);
}

bool groups_outdated(const struct groups *g, const struct notice *n)
{
    return n->plan != g->plan;
}

int64_t groups_due_ms(const struct groups *g)
{
    int64_t due = INT64_MAX;

    for (size_t i = 0; i < g->groups.n_buckets; i++)
        for (const struct group *gr = g->groups.v[i]; gr; gr = gr->next)
            if (!gr->sending && gr->due_ms < due)
                due = gr->due_ms;
    return due;
}

/* ---- another file ------------------------------------------------------------------------------------------ */

struct regroup {
    struct direct_plan *plan;
    struct table groups;
    struct group **in; /* of all known alerts, one after the other, in the order of the buckets */
};

static size_t receiver_named(const struct direct_plan *p, struct nx_slice name)
{
    for (size_t i = 0; i < p->cfg.receivers.n; i++)
        if (nx_slice_eq(p->receivers[i].cfg->name, name))
            return i;
    return SIZE_MAX;
}

static struct member *member_of(struct group *gr, const struct known *k)
{
    for (size_t i = 0; gr && i < gr->n; i++)
        if (gr->members[i].k == k)
            return &gr->members[i];
    return NULL;
}

/* What was told, and is being told, goes over to a group that has the alert now. */
static void carry(struct groups *g, struct table *to, struct group *old, size_t receiver)
{
    struct group *same = find_group(to, receiver, &old->labels);

    for (size_t i = 0; i < old->n; i++) {
        struct member *from = &old->members[i];
        struct group *gr = from->k->in[receiver];
        struct member *m = member_of(gr, from->k);
        if (!m)
            continue;
        m->told = from->told;
        m->missed = from->missed;
        if (gr == same)
            m->sending = from->sending;
        if (old->told_ms > gr->told_ms)
            gr->told_ms = old->told_ms;
        if (old->due_ms < gr->due_ms)
            gr->due_ms = old->due_ms;
    }
    if (same && old->sending) {
        same->sending = old->sending;
        old->sending->group = same;
        old->sending = NULL;
    }
    g->changed = true;
}

/* Whom alerts are for now, without touching what there is. */
static bool regroup(struct groups *g, struct regroup *re, int64_t now_ms)
{
    size_t stride = re->plan->cfg.receivers.n + 1, at = 0;

    re->groups.v = calloc(BUCKETS, sizeof(struct group *));
    re->groups.n_buckets = BUCKETS;
    re->in = calloc(g->n_known * stride + 1, sizeof(struct group *));
    if (!re->groups.v || !re->in)
        return false;
    for (size_t b = 0; b < g->n_known_buckets; b++)
        for (struct known *k = g->known[b]; k; k = k->next, at += stride)
            for (size_t i = 0; i + 1 < stride; i++)
                if (match_all(&re->plan->receivers[i].match, &k->alert->labels) &&
                    !join(&re->groups, re->plan, i, k, re->in + at, now_ms))
                    return false;
    return true;
}

/* Gives every alert its new places; false: no memory, before anything has changed. */
static bool place_all(struct groups *g, const struct regroup *re)
{
    size_t stride = re->plan->cfg.receivers.n + 1, at = 0, n = 0;
    struct group ***made = calloc(g->n_known + 1, sizeof(struct group **));

    if (!made)
        return false;
    for (; n < g->n_known; n++) {
        made[n] = malloc(stride * sizeof(struct group *));
        if (!made[n])
            break;
    }
    if (n < g->n_known) {
        while (n)
            free(made[--n]);
        free(made);
        return false;
    }
    n = 0;
    for (size_t b = 0; b < g->n_known_buckets; b++)
        for (struct known *k = g->known[b]; k; k = k->next, at += stride) {
            memcpy(made[n], re->in + at, stride * sizeof(struct group *));
            free(k->in);
            k->in = made[n++];
            k->refs = 0;
            for (size_t i = 0; i < stride; i++)
                k->refs += k->in[i] != NULL;
        }
    free(made);
    return true;
}

static void forget_unused(struct groups *g)
{
    for (size_t b = 0; b < g->n_known_buckets; b++)
        for (struct known *k = g->known[b], *next; k; k = next) {
            next = k->next;
            if (!k->refs)
                forget_known(g, k);
        }
}

nx_status groups_set_plan(struct groups *g, struct direct_plan *plan, int64_t now_ms,
                          struct nx_err *err)
{
    struct regroup re = {.plan = plan};
    struct table old;

    if (!regroup(g, &re, now_ms) || !place_all(g, &re)) {
        free_table(&re.groups);
        free(re.in);
        return nx_fail(err, NX_NOMEM, "out of memory");
    }
    free(re.in);
    old = g->groups;
    g->groups = re.groups;
    for (size_t i = 0; i < old.n_buckets; i++)
        for (struct group *gr = old.v[i]; gr; gr = gr->next) {
            size_t r = receiver_named(plan, receiver_of(g, gr)->cfg->name);
            if (r != SIZE_MAX)
                carry(g, &g->groups, gr, r);
        }
    free_table(&old);
    forget_unused(g);
    direct_plan_unref(g->plan);
    g->plan = direct_plan_ref(plan);
    return NX_OK;
}

/* ---- for direct_state.c, and figures ------------------------------------------------------------------------ */

bool groups_changed(const struct groups *g)
{
    return g->changed;
}

void groups_each_told(struct groups *g, groups_told_fn *fn, void *ctx)
{
    for (size_t i = 0; i < g->groups.n_buckets; i++)
        for (struct group *gr = g->groups.v[i]; gr; gr = gr->next)
            for (size_t k = 0; k < gr->n; k++)
                if (gr->members[k].told == TOLD_FIRING)
                    fn(ctx, receiver_of(g, gr)->cfg->name, gr->told_ms, gr->members[k].k->alert,
                       gr->members[k].k->good_until_ms);
    g->changed = false;
}

bool groups_take_told(struct groups *g, struct nx_slice receiver, const struct notify_alert *a,
                      int64_t told_ms, int64_t now_ms)
{
    size_t r = receiver_named(g->plan, receiver);
    struct known *k;
    struct member *m;

    if (r == SIZE_MAX || !match_all(&g->plan->receivers[r].match, &a->labels))
        return true;
    if (!groups_take(g, a, now_ms))
        return false;
    k = find_known(g, &a->labels, labels_hash(&a->labels));
    m = k ? member_of(k->in[r], k) : NULL;
    if (m) {
        m->told = TOLD_FIRING;
        if (told_ms > k->in[r]->told_ms)
            k->in[r]->told_ms = told_ms;
    }
    return true;
}

void groups_count(const struct groups *g, struct groups_stats *out)
{
    *out = (struct groups_stats){
        .alerts = g->n_known, .groups = g->groups.n, .bytes = g->bytes, .dropped = g->dropped};
}

void groups_get_stats(const struct groups *g, int64_t now_ms, struct groups_stats *out)
{
    groups_count(g, out);
    for (size_t b = 0; b < g->n_known_buckets; b++)
        for (const struct known *k = g->known[b]; k; k = k->next)
            out->silenced += direct_plan_silenced(g->plan, &k->alert->labels, now_ms);
}
