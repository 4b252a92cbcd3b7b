#include "src/rules/group.h"

/* manager.c - runs groups when their time has come.
 *
 * SHAPE   A slot for each group, with the moment it is due. Threads are equal: one of those that are free waits
 *         for the earliest slot, takes it and evaluates it; before, it sees to it that another one waits.
 * RULES   M1  A group's moments are its interval's multiples plus an offset, a hash of its file and name: the same
 *             after a restart. What is evaluated is the nominal moment, however late it is. Waiting goes by the
 *             steady clock, so that nothing stops when the wall clock is set back.
 *         M2  Moments that passed while a group was evaluated are counted and left out.
 *         M3  After a start, a rule's ALERTS are written only when its state was restored: after the second
 *             evaluation, as what alerts depend on is there then.
 *         M4  A slot that is running is changed by nobody but its thread; who wants it gone says so and waits.
 *         M5  Series of a group that is gone are ended two intervals later, so that one of another name may take
 *             them on.
 *         M6  A group's first moment lies ahead when it is put among the others, after what it follows ended:
 *             nobody evaluates a moment that the one before it did.
 * STATES  of a slot: WAITING -> RUNNING -> WAITING; GONE -> (two intervals) -> freed
 * THREADS rules.lock guards slots and counts; it is not held while a group is evaluated. rules_apply() holds it
 *         while one group takes over from another. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "src/base/clock.h"
#include "src/base/log.h"

#define MS          1000000ll
#define MAX_THREADS 20u /* as many queries as run at once by default */
#define NEVER       INT64_MAX

struct slot {
    struct rule_group *g;
    int64_t due_ns;   /* when it is to be looked at next, by the steady clock; NEVER */
    int64_t first_ns; /* nominal moment of its first evaluation, */
    int64_t last_ns;  /* and of the last one; 0: none yet */
    unsigned rounds;
    bool running, gone, restore;
    int64_t gone_ns; /* since when */
};

struct rules {
    /* set once */
    struct rules_opts opts;
    struct pql_source source;
    struct workers *pool;
    struct durations *rule_durations, *group_durations; /* made with the first group */
    int cancel;                                         /* atomic */
    bool restored; /* only rules_apply(): groups that are new from now on do not restore */

    struct nx_mutex lock;
    struct nx_cond wake, idle;
    /* under lock */
    struct slot **slots;
    size_t n_slots;
    struct nx_thread threads[MAX_THREADS];
    unsigned n_threads, n_free;
    int64_t watch_ns; /* a free thread wakes then by itself; NEVER: none does */
    bool stop;
    uint64_t expansions, expansion_failures; /* of groups that are no more */
};

/* ---- moments ------------------------------------------------------------------------------------------- */

/* Prometheus's hash of {file="...", name="..."}: XXH64 of lengths and texts. */
static uint64_t hash_of(const struct rule_group_def *def)
{
    const struct nx_slice parts[] = {nx_slice_str("file"), def->file, nx_slice_str("name"),
                                     def->name};
    struct buf b;
    uint64_t h;

    buf_init(&b, 0);
    for (size_t i = 0; i < NX_COUNT(parts); i++) {
        if (parts[i].len < 255) {
            buf_u8(&b, (uint8_t)parts[i].len);
        } else {
            buf_u8(&b, 255);
            buf_u8(&b, (uint8_t)parts[i].len);
            buf_u8(&b, (uint8_t)(parts[i].len >> 8));
            buf_u8(&b, (uint8_t)(parts[i].len >> 16));
        }
        buf_slice(&b, parts[i]);
    }
    h = XXH64(b.ptr, b.len, 0);
    buf_done(&b);
    return h;
}

/* M1 */
int64_t rule_group_moment(const struct rule_group_def *def, int64_t interval_ms, int64_t at_ns)
{
    int64_t interval = interval_ms * MS;
    int64_t offset = (int64_t)(hash_of(def) % (uint64_t)interval);

    return (at_ns - offset) / interval * interval + offset;
}

/* ---- evaluation ---------------------------------------------------------------------------------------- */

/* Which moment is evaluated now, and what was missed before it (M2). */
static int64_t next_moment(struct slot *s, int64_t now_ns)
{
    int64_t interval = s->g->interval_ms * MS, missed;

    if (!s->last_ns)
        return s->first_ns;
    missed = (now_ns - s->last_ns) / interval - 1;
    if (missed <= 0)
        return s->last_ns + interval;
    __atomic_add_fetch(&s->g->counters.missed, (uint64_t)missed, __ATOMIC_RELAXED);
    __atomic_add_fetch(&s->g->counters.iterations, (uint64_t)missed, __ATOMIC_RELAXED);
    return s->last_ns + (missed + 1) * interval;
}

static void run_slot(struct rules *r, struct slot *s)
{
    const struct rule_restore how = {r->opts.outage_tolerance_ms, r->opts.grace_period_ms};
    int64_t from = clock_mono_ns();
    int64_t t_ns = next_moment(s, clock_now_ns());

    rule_group_eval(s->g, t_ns);
    s->last_ns = t_ns;
    s->rounds++;
    durations_add(r->group_durations, (double)(clock_mono_ns() - from) / 1e9);
    if (s->restore && s->rounds == 2) { /* M3 */
        rule_group_restore(s->g, clock_now_ns(), &how);
        s->restore = false;
    }
}

static void add_counts_locked(struct rules *r, const struct rule_group *g)
{
    r->expansions += __atomic_load_n(&g->counters.expansions, __ATOMIC_RELAXED);
    r->expansion_failures += __atomic_load_n(&g->counters.expansion_failures, __ATOMIC_RELAXED);
}

static void drop_slot_locked(struct rules *r, const struct slot *s)
{
    for (size_t i = 0; i < r->n_slots; i++)
        if (r->slots[i] == s) {
            memmove(r->slots + i, r->slots + i + 1, (r->n_slots - i - 1) * sizeof(struct slot *));
            r->n_slots--;
            return;
        }
}

/* M5. The slot is out of the list, so it is ours. */
static void end_slot(struct slot *s)
{
    rule_group_end_series(s->g, s->gone_ns);
    rule_group_free(s->g);
    free(s);
}

static struct slot *earliest_locked(const struct rules *r)
{
    struct slot *best = NULL;

    for (size_t i = 0; i < r->n_slots; i++)
        if (!r->slots[i]->running && r->slots[i]->due_ns != NEVER &&
            (!best || r->slots[i]->due_ns < best->due_ns))
            best = r->slots[i];
    return best;
}

static void work(void *arg);

/* Somebody is to watch while this thread evaluates. */
static void see_to_watch_locked(struct rules *r)
{
    char name[16];

    if (r->n_free) {
        nx_cond_signal(&r->wake);
        return;
    }
    if (r->n_slots < 2 || r->n_threads == MAX_THREADS)
        return;
    snprintf(name, sizeof name, "rules-%u", r->n_threads + 1);
    if (!nx_thread_start(&r->threads[r->n_threads], name, work, r, NULL))
        r->n_threads++;
}

/* Waits until a slot is due and takes it; NULL at the end. */
static struct slot *take_locked(struct rules *r)
{
    while (!r->stop) {
        struct slot *s = earliest_locked(r);
        int64_t now = clock_mono_ns(), due = s ? s->due_ns : NEVER;

        if (s && due <= now)
            return s;
        r->n_free++;
        if (due < r->watch_ns) {
            r->watch_ns = due;
            nx_cond_wait_ms(&r->wake, &r->lock, (due - now) / MS + 1);
            if (r->watch_ns == due)
                r->watch_ns = NEVER;
        } else {
            nx_cond_wait(&r->wake, &r->lock);
        }
        r->n_free--;
    }
    return NULL;
}

/* Ticks that pass while it is evaluated are left out, but for one. */
static int64_t next_due(const struct slot *s)
{
    int64_t interval = s->g->interval_ms * MS;

    return s->due_ns + ((clock_mono_ns() - s->due_ns) / interval + 1) * interval;
}

static void work(void *arg)
{
    struct rules *r = arg;
    struct slot *s;

    nx_lock(&r->lock);
    while ((s = take_locked(r))) {
        s->running = true;
        if (s->gone) {
            add_counts_locked(r, s->g);
            drop_slot_locked(r, s);
        }
        s->due_ns = next_due(s);
        see_to_watch_locked(r);
        nx_unlock(&r->lock);
        if (s->gone) {
            end_slot(s);
            nx_lock(&r->lock);
            continue;
        }
        run_slot(r, s);
        nx_lock(&r->lock);
        s->running = false;
        nx_cond_broadcast(&r->idle);
    }
    nx_cond_broadcast(&r->wake);
    nx_unlock(&r->lock);
}

/* ---- made and freed ------------------------------------------------------------------------------------ */

nx_status rules_new(struct rules **out, const struct rules_opts *opts, struct nx_err *err)
{
    struct rules *r = calloc(1, sizeof *r);

    if (!r)
        return nx_fail(err, NX_NOMEM, "out of memory");
    nx_mutex_init(&r->lock, NX_RANK_RULES);
    nx_cond_init(&r->wake);
    nx_cond_init(&r->idle);
    r->opts = *opts;
    r->opts.external_url = strdup(opts->external_url ? opts->external_url : "");
    r->source = pql_source_storage(opts->storage);
    r->watch_ns = NEVER;
    if (!r->opts.external_url ||
        (opts->parallel && !(r->pool = rule_pool_new(opts->max_concurrent)))) {
        rules_free(r);
        return nx_fail(err, NX_NOMEM, "out of memory");
    }
    *out = r;
    return NX_OK;
}

void rules_free(struct rules *r)
{
    if (!r)
        return;
    nx_lock(&r->lock);
    r->stop = true;
    __atomic_store_n(&r->cancel, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < r->n_slots; i++)
        __atomic_store_n(&r->slots[i]->g->stopped, true, __ATOMIC_RELAXED);
    nx_cond_broadcast(&r->wake);
    unsigned n = r->n_threads;
    nx_unlock(&r->lock);
    for (unsigned i = 0; i < n; i++)
        nx_thread_join(&r->threads[i]);
    workers_free(r->pool);
    for (size_t i = 0; i < r->n_slots; i++) {
        rule_group_free(r->slots[i]->g);
        free(r->slots[i]);
    }
    free(r->slots);
    durations_free(r->rule_durations);
    durations_free(r->group_durations);
    free((char *)(uintptr_t)r->opts.external_url);
    nx_cond_done(&r->wake);
    nx_cond_done(&r->idle);
    nx_mutex_done(&r->lock);
    free(r);
}

/* ---- configurations ---------------------------------------------------------------------------------------- */

static void log_error_of(void *ctx, const char *text)
{
    (void)ctx;
    log_error("loading groups failed", "component", "rule manager", "err", text);
}

static void log_warning_of(void *ctx, const char *text)
{
    (void)ctx;
    log_warn(text, "component", "rule manager");
}

/* The files that the patterns name, each once. */
static nx_status find_files(const struct config *cfg, struct arena *a, struct config_strings *out,
                            struct nx_err *err)
{
    struct config_strings all = {0}, some;
    nx_status st = NX_OK;

    for (size_t i = 0; i < cfg->rule_files.n && !st; i++) {
        st = config_glob(cfg->rule_files.v[i].ptr, a, &some, err);
        if (st == NX_BADINPUT)
            st = nx_context(err, "error retrieving rule files for %s", cfg->rule_files.v[i].ptr);
        if (st)
            break;
        struct nx_slice *v =
            arena_grow(a, all.v, all.n * sizeof *v, (all.n + some.n + 1) * sizeof *v);
        if (!v)
            return arena_failed(a, err);
        all.v = v;
        for (size_t k = 0; k < some.n; k++) {
            bool there = false;
            for (size_t m = 0; m < all.n && !there; m++)
                there = nx_slice_eq(all.v[m], some.v[k]);
            if (!there)
                all.v[all.n++] = some.v[k];
        }
    }
    *out = all;
    return st;
}

nx_status rules_load(struct rules *r, const struct config *cfg, struct rule_files **out,
                     struct nx_err *err)
{
    const struct rule_load_opts opts = {.features = r->opts.features,
                                        .legacy_names =
                                            cfg->global.validation == CONFIG_VALIDATION_LEGACY,
                                        .error = log_error_of,
                                        .warn = log_warning_of};
    struct arena *a = arena_new(0);
    struct config_strings files = {0};
    nx_status st = a ? find_files(cfg, a, &files, err) : nx_fail(err, NX_NOMEM, "out of memory");

    if (!st && rule_files_load(out, files.v, files.n, &opts, err))
        st = nx_fail(err, NX_BADINPUT, "error loading rules, previous rule set restored");
    arena_free(a);
    return st;
}

static bool same_key(const struct rule_group_def *a, const struct rule_group_def *b)
{
    return nx_slice_eq(a->name, b->name) && nx_slice_eq(a->file, b->file);
}

static struct slot *find_slot_locked(const struct rules *r, const struct rule_group_def *def)
{
    for (size_t i = 0; i < r->n_slots; i++)
        if (!r->slots[i]->gone && same_key(r->slots[i]->g->def, def))
            return r->slots[i];
    return NULL;
}

static nx_status make_slot(struct rules *r, const struct config *cfg,
                           const struct rule_files *files, const struct rule_group_def *def,
                           struct slot **out, struct nx_err *err)
{
    const struct rule_env env = {.engine = r->opts.engine,
                                 .source = &r->source,
                                 .sink = rule_sink_storage(r->opts.storage),
                                 .interval_ms = cfg->global.evaluation_interval_ms,
                                 .query_offset_ms = cfg->global.rule_query_offset_ms,
                                 .external_labels = cfg->global.external_labels,
                                 .external_url = r->opts.external_url,
                                 .restored = r->restored,
                                 .notify = r->opts.notify,
                                 .notify_ctx = r->opts.notify_ctx,
                                 .resend_delay_ms = r->opts.resend_delay_ms,
                                 .cancel = &r->cancel,
                                 .parallel = r->opts.parallel};
    struct slot *s = calloc(1, sizeof *s);
    nx_status st;

    if (!s)
        return nx_fail(err, NX_NOMEM, "out of memory");
    st = rule_group_new(&s->g, files, def, &env, err);
    if (st) {
        free(s);
        return st;
    }
    s->g->pool = r->pool;
    s->g->rule_durations = r->rule_durations;
    s->g->restore_s = -1;
    s->restore = !r->restored;
    *out = s;
    return NX_OK;
}

static void free_slots(struct slot **v, size_t n)
{
    for (size_t i = 0; v && i < n; i++)
        if (v[i]) {
            rule_group_free(v[i]->g);
            free(v[i]);
        }
    free(v);
}

/* A slot for each group of the files; NULL stays where the one that is there goes on. */
static nx_status make_slots(struct rules *r, const struct config *cfg,
                            const struct rule_files *files, struct slot **v, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < files->n_groups && !st; i++) {
        struct slot *old;
        bool same;

        st = make_slot(r, cfg, files, &files->groups[i], &v[i], err);
        if (st)
            break;
        nx_lock(&r->lock);
        old = find_slot_locked(r, &files->groups[i]);
        same = old && old->g->def->fingerprint == files->groups[i].fingerprint &&
               old->g->env_print == v[i]->g->env_print;
        nx_unlock(&r->lock);
        if (same) {
            rule_group_free(v[i]->g);
            free(v[i]);
            v[i] = NULL;
        }
    }
    return st;
}

/* Takes a slot out of the list, once it does not run (M4). */
static void retire_locked(struct rules *r, struct slot *s)
{
    s->due_ns = NEVER;
    __atomic_store_n(&s->g->stopped, true, __ATOMIC_RELAXED);
    while (s->running)
        nx_cond_wait(&r->idle, &r->lock);
    s->due_ns = NEVER;
    drop_slot_locked(r, s);
}

/* Slots whose groups no file has any more. */
static void end_others_locked(struct rules *r, const struct rule_files *files)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        struct slot *s = r->slots[i];
        bool there = s->gone, waited = false;
        for (size_t k = 0; k < files->n_groups && !there; k++)
            there = same_key(&files->groups[k], s->g->def);
        if (there)
            continue;
        s->due_ns = NEVER;
        __atomic_store_n(&s->g->stopped, true, __ATOMIC_RELAXED);
        while (s->running) {
            nx_cond_wait(&r->idle, &r->lock);
            waited = true;
        }
        s->gone = true;
        s->gone_ns = clock_now_ns();
        s->due_ns = clock_mono_ns() + 2 * s->g->interval_ms * MS;
        if (waited)
            i = (size_t)-1; /* the list may have changed meanwhile */
    }
}

static void put_slot_locked(struct rules *r, struct slot *s)
{
    struct slot *old = find_slot_locked(r, s->g->def);
    int64_t now;

    if (old) {
        retire_locked(r, old);
        rule_group_take_over(s->g, old->g);
        s->restore = s->restore || old->restore;
        s->rounds = old->rounds;
        add_counts_locked(r, old->g);
        rule_group_free(old->g);
        free(old);
    }
    now = clock_now_ns(); /* M6 */
    s->first_ns = rule_group_moment(s->g->def, s->g->interval_ms, now) + s->g->interval_ms * MS;
    s->due_ns = clock_mono_ns() + (s->first_ns - now);
    r->slots[r->n_slots++] = s;
}

/* Who has no rules does not pay for them. */
static nx_status make_durations(struct rules *r, struct nx_err *err)
{
    struct durations *rule, *group;

    if (r->rule_durations)
        return NX_OK;
    rule = durations_new();
    group = durations_new();
    if (!rule || !group) {
        durations_free(rule);
        durations_free(group);
        return nx_fail(err, NX_NOMEM, "out of memory");
    }
    nx_lock(&r->lock);
    r->rule_durations = rule;
    r->group_durations = group;
    nx_unlock(&r->lock);
    return NX_OK;
}

nx_status rules_apply(struct rules *r, const struct config *cfg, const struct rule_files *files,
                      struct nx_err *err)
{
    struct slot **fresh = calloc(files->n_groups + 1, sizeof(struct slot *)), **all;
    nx_status st = fresh ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");

    if (!st && files->n_groups)
        st = make_durations(r, err);
    if (!st)
        st = make_slots(r, cfg, files, fresh, err);
    if (st) {
        free_slots(fresh, files->n_groups);
        return st;
    }
    nx_lock(&r->lock);
    all = realloc(r->slots, (r->n_slots + files->n_groups + 1) * sizeof(struct slot *));
    if (!all) {
        nx_unlock(&r->lock);
        free_slots(fresh, files->n_groups);
        return nx_fail(err, NX_NOMEM, "out of memory");
    }
    r->slots = all;
    if (files->n_groups && !r->n_threads) { /* the last that can fail */
        st = nx_thread_start(&r->threads[0], "rules-1", work, r, err);
        r->n_threads = !st;
    }
    if (!st) {
        end_others_locked(r, files);
        for (size_t i = 0; i < files->n_groups; i++)
            if (fresh[i])
                put_slot_locked(r, fresh[i]);
        nx_cond_broadcast(&r->wake);
    }
    nx_unlock(&r->lock);
    if (st) {
        free_slots(fresh, files->n_groups);
        return st;
    }
    free(fresh);
    r->restored = true;
    return NX_OK;
}

/* ---- how things stand ---------------------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const struct rule_group_def *x = ((const struct rule_group_view *)a)->def,
                                *y = ((const struct rule_group_view *)b)->def;
    int c = nx_slice_cmp(x->file, y->file);

    return c ? c : nx_slice_cmp(x->name, y->name);
}

nx_status rules_view(struct rules *r, struct arena *a, struct rules_view *out, struct nx_err *err)
{
    struct rules_view v = {0};
    nx_status st = NX_OK;

    nx_lock(&r->lock);
    v.groups = arena_array(a, r->n_slots + 1, sizeof *v.groups);
    v.files = arena_array(a, r->n_slots + 1, sizeof(struct rule_files *));
    if (!v.groups || !v.files)
        st = arena_failed(a, err);
    for (size_t i = 0; i < r->n_slots && !st; i++) {
        struct rule_group *g = r->slots[i]->g;
        if (r->slots[i]->gone)
            continue;
        st = rule_group_view(g, a, &v.groups[v.n_groups], err);
        if (st)
            break;
        v.n_groups++;
        v.files[v.n_files++] = rule_files_ref(g->files);
    }
    nx_unlock(&r->lock);
    if (st) {
        rules_view_done(&v);
        return st;
    }
    qsort(v.groups, v.n_groups, sizeof *v.groups, by_key);
    *out = v;
    return NX_OK;
}

void rules_view_done(struct rules_view *v)
{
    for (size_t i = 0; i < v->n_files; i++)
        rule_files_unref(v->files[i]);
    v->n_files = 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct rule_group_stats *)a)->key,
                  ((const struct rule_group_stats *)b)->key);
}

static nx_status group_stats(struct rule_group *g, struct arena *a, struct rule_group_stats *out,
                             struct nx_err *err)
{
    const struct rule_counters *c = &g->counters;

#define LOAD(field) __atomic_load_n(&c->field, __ATOMIC_RELAXED)
    *out = (struct rule_group_stats){.evaluations = LOAD(evaluations),
                                     .failures = LOAD(failures),
                                     .iterations = LOAD(iterations),
                                     .missed = LOAD(missed),
                                     .samples = LOAD(samples),
                                     .rules = g->def->n_rules,
                                     .interval_s = (double)g->interval_ms / 1000};
#undef LOAD
    out->key = arena_printf(a, "%s;%s", g->def->file.ptr, g->def->name.ptr);
    if (!out->key)
        return arena_failed(a, err);
    nx_lock(&g->lock);
    out->last_duration_s = g->eval_s;
    out->last_rules_s = g->rules_s;
    out->last_eval_s = (double)g->last_eval_ns / 1e9;
    out->restore_s = g->restore_s;
    nx_unlock(&g->lock);
    return NX_OK;
}

nx_status rules_get_stats(struct rules *r, struct arena *a, struct rules_stats *out,
                          struct nx_err *err)
{
    struct rules_stats v = {0};
    struct durations *rule, *group;
    nx_status st = NX_OK;

    nx_lock(&r->lock);
    rule = r->rule_durations;
    group = r->group_durations;
    v.expansions = r->expansions;
    v.expansion_failures = r->expansion_failures;
    v.groups = arena_array(a, r->n_slots + 1, sizeof *v.groups);
    if (!v.groups)
        st = arena_failed(a, err);
    for (size_t i = 0; i < r->n_slots && !st; i++) {
        const struct rule_counters *c = &r->slots[i]->g->counters;
        v.expansions += __atomic_load_n(&c->expansions, __ATOMIC_RELAXED);
        v.expansion_failures += __atomic_load_n(&c->expansion_failures, __ATOMIC_RELAXED);
        if (!r->slots[i]->gone)
            st = group_stats(r->slots[i]->g, a, &v.groups[v.n_groups++], err);
    }
    nx_unlock(&r->lock);
    if (st)
        return st;
    qsort(v.groups, v.n_groups, sizeof *v.groups, by_text);
    durations_read(rule, &v.rule);
    durations_read(group, &v.group);
    *out = v;
    return NX_OK;
}
