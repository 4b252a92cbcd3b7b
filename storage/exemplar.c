/* exemplar.c - the newest exemplars of all series: a bounded ring in memory.
 *
 * WHY     An exemplar leads from a point of a graph to a trace. There are few, they are worth as much as
 *         the traces behind them, which go after days; so the newest are kept, and nothing on disk.
 * SHAPE   ring[] holds exemplars in the order they came; when it has `max`, the next one takes the place
 *         of the oldest, at ring[at]. Exemplars of a series are a list through the ring, oldest first.
 *         Series are found by their labels, in a hash table of chains. An exemplar's labels are one
 *         allocation: two lengths of two bytes, then name and value, label by label.
 * RULES   X1  The list of a series ascends in time: what is older than the newest is out of order. At the
 *             same time values ascend, and of one value the coded labels do: so what a target repeats is
 *             stored once, and a whole list need never be searched.
 *         X2  What equals the newest of its series is not stored again. Timestamps count for that only if
 *             one of the two was written by the target: else each scrape would give its own.
 *         X3  The exemplar that is overwritten is the oldest of its series (from X1 and the ring's order).
 *             A series without exemplars is not kept.
 *         X4  Memory is taken as exemplars come, never for `max` at once: whoever has none pays nothing.
 *         X5  A failed add has changed nothing. Changing `max` can't fail.
 *         X6  Before the ring has come round, `at` is 0 and ring[0..n) is in order; exemplars_set_max()
 *             makes it so again.
 * THREADS One lock for readers and writers; nothing else is locked or called under it, but for the
 *         matchers of a query and its arena. `max` may be read without it: to leave early when off.
 * NOT     The head's series numbers as keys: they are given anew when a series goes, and exemplars may
 *         outlive it. A log of exemplars: a restart begins with none. */
#include "storage/exemplar.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/text.h"
#include "src/base/thread.h"

#define NONE        UINT32_MAX
#define FIRST_CAP   64u
#define FIRST_CHAIN 64u

struct exemplar_series {
    struct exemplar_series *next; /* in its chain */
    uint64_t hash;
    uint32_t oldest, newest; /* in the ring; NONE only while it is worked on */
    struct labels labels;    /* in the same allocation */
    size_t bytes;
};

struct entry {
    int64_t t_ms;
    double value;
    struct exemplar_series *of;
    uint8_t *coded; /* labels */
    uint32_t next;  /* of the same series; NONE: it is the newest */
    uint16_t coded_bytes;
    uint8_t n_labels;
    bool has_ts;
};

struct exemplars {
    atomic_uint max;       /* changed under the lock */
    struct nx_rwlock lock; /* NX_RANK_CACHE, as the page cache's: the two are never held together */
    struct entry *ring;
    uint32_t n, cap, at;
    struct exemplar_series **chains;
    uint32_t n_chains; /* a power of two, or 0 */
    uint32_t n_series;
    uint64_t appended, out_of_order;
    size_t bytes; /* of labels */
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "storing an exemplar");
}

/* ---- labels ---------------------------------------------------------------------------------- */

/* As Go counts them: a byte that is no UTF-8 is a character, too. */
static size_t count_chars(struct nx_slice s)
{
    size_t n = 0;
    uint32_t code;

    while (s.len) {
        size_t took = text_utf8_take(s, &code);
        s = nx_slice_of(s.ptr + (took ? took : 1), s.len - (took ? took : 1));
        n++;
    }
    return n;
}

static nx_status check_labels(const struct labels *ls, struct nx_err *err)
{
    size_t chars = 0;

    for (uint32_t i = 0; i < ls->n && chars <= EXEMPLAR_MAX_CHARS; i++)
        chars += count_chars(ls->v[i].name) + count_chars(ls->v[i].value);
    if (chars > EXEMPLAR_MAX_CHARS || ls->n > EXEMPLAR_MAX_CHARS)
        return nx_fail(err, NX_BADINPUT, "the labels of an exemplar have more than %u characters",
                       EXEMPLAR_MAX_CHARS);
    return NX_OK;
}

static uint8_t *put_length(uint8_t *to, size_t len)
{
    to[0] = (uint8_t)(len & 0xff);
    to[1] = (uint8_t)(len >> 8);
    return to + 2;
}

static uint8_t *put_bytes(uint8_t *to, struct nx_slice s)
{
    if (s.len)
        memcpy(to, s.ptr, s.len);
    return to + s.len;
}

/* Of labels that check_labels() passed: at most 4 bytes a character and 4 a label. NULL out of memory. */
static uint8_t *encode(const struct labels *ls, uint16_t *n_bytes)
{
    size_t bytes = 0;
    uint8_t *coded, *to;

    for (uint32_t i = 0; i < ls->n; i++)
        bytes += 4 + ls->v[i].name.len + ls->v[i].value.len;
    coded = to = malloc(bytes + 1);
    if (!coded)
        return NULL;
    for (uint32_t i = 0; i < ls->n; i++) {
        to = put_length(to, ls->v[i].name.len);
        to = put_length(to, ls->v[i].value.len);
        to = put_bytes(to, ls->v[i].name);
        to = put_bytes(to, ls->v[i].value);
    }
    *n_bytes = (uint16_t)bytes;
    return coded;
}

static struct nx_slice take_text(const char **from, size_t len)
{
    struct nx_slice s = nx_slice_of(*from, len);

    *from += len;
    return s;
}

static nx_status decode(const struct entry *e, struct arena *a, struct labels *out,
                        struct nx_err *err)
{
    struct label *v = arena_array(a, e->n_labels, sizeof *v);
    const char *p = arena_strndup(a, (const char *)e->coded, e->coded_bytes);

    if (!v || !p)
        return arena_failed(a, err);
    for (uint32_t i = 0; i < e->n_labels; i++) {
        const uint8_t *len = (const uint8_t *)p;
        p += 4;
        v[i].name = take_text(&p, (size_t)(len[0] | len[1] << 8));
        v[i].value = take_text(&p, (size_t)(len[2] | len[3] << 8));
    }
    *out = (struct labels){v, e->n_labels};
    return NX_OK;
}

static int coded_cmp(const struct entry *a, const struct entry *b)
{
    uint16_t both = a->coded_bytes < b->coded_bytes ? a->coded_bytes : b->coded_bytes;
    int c = memcmp(a->coded, b->coded, both);

    return c ? c : (a->coded_bytes > b->coded_bytes) - (a->coded_bytes < b->coded_bytes);
}

/* ---- series ---------------------------------------------------------------------------------- */

static struct exemplar_series *find_series(const struct exemplars *x, const struct labels *ls,
                                           uint64_t hash)
{
    struct exemplar_series *s = x->n_chains ? x->chains[hash & (x->n_chains - 1)] : NULL;

    while (s && !(s->hash == hash && labels_eq(&s->labels, ls)))
        s = s->next;
    return s;
}

/* In no chain yet. NULL out of memory. */
static struct exemplar_series *new_series(const struct labels *ls, uint64_t hash)
{
    size_t bytes = sizeof(struct exemplar_series) + ls->n * sizeof(struct label);
    struct exemplar_series *s;
    struct label *v;
    char *to;

    for (uint32_t i = 0; i < ls->n; i++)
        bytes += ls->v[i].name.len + ls->v[i].value.len;
    s = malloc(bytes);
    if (!s)
        return NULL;
    v = (struct label *)(void *)(s + 1);
    to = (char *)(v + ls->n);
    *s = (struct exemplar_series){NULL, hash, NONE, NONE, {v, ls->n}, bytes};
    for (uint32_t i = 0; i < ls->n; i++) {
        v[i].name = nx_slice_of(to, ls->v[i].name.len);
        to = (char *)put_bytes((uint8_t *)to, ls->v[i].name);
        v[i].value = nx_slice_of(to, ls->v[i].value.len);
        to = (char *)put_bytes((uint8_t *)to, ls->v[i].value);
    }
    return s;
}

/* Room for one more series: chains hold one or two. Without memory for more, chains just get longer. */
static bool chains_room_locked(struct exemplars *x)
{
    uint32_t n = x->n_chains ? x->n_chains * 2 : FIRST_CHAIN;
    struct exemplar_series **chains;

    if (x->n_series < x->n_chains || x->n_chains >= 1u << 30)
        return true;
    chains = calloc(n, sizeof *chains);
    if (!chains)
        return x->n_chains > 0;
    for (uint32_t i = 0; i < x->n_chains; i++) {
        for (struct exemplar_series *s = x->chains[i], *next; s; s = next) {
            next = s->next;
            s->next = chains[s->hash & (n - 1)];
            chains[s->hash & (n - 1)] = s;
        }
    }
    free(x->chains);
    x->chains = chains;
    x->n_chains = n;
    return true;
}

static void enter_series_locked(struct exemplars *x, struct exemplar_series *s)
{
    struct exemplar_series **chain = &x->chains[s->hash & (x->n_chains - 1)];

    s->next = *chain;
    *chain = s;
    x->n_series++;
    x->bytes += s->bytes;
}

static void drop_series_locked(struct exemplars *x, struct exemplar_series *s)
{
    struct exemplar_series **at = &x->chains[s->hash & (x->n_chains - 1)];

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    x->n_series--;
    x->bytes -= s->bytes;
    free(s);
}

/* ---- the ring -------------------------------------------------------------------------------- */

static void link_entry_locked(struct exemplars *x, uint32_t i)
{
    struct exemplar_series *s = x->ring[i].of;

    x->ring[i].next = NONE;
    if (s->newest == NONE)
        s->oldest = i;
    else
        x->ring[s->newest].next = i;
    s->newest = i;
}

static void free_entry_locked(struct exemplars *x, struct entry *e)
{
    x->bytes -= e->coded_bytes;
    free(e->coded);
    e->coded = NULL;
}

/* Takes the oldest out of its list (X3). `keep` is not dropped: something comes for it. */
static void evict_locked(struct exemplars *x, uint32_t i, const struct exemplar_series *keep)
{
    struct entry *e = &x->ring[i];
    struct exemplar_series *s = e->of;

    NX_ASSERT(s->oldest == i);
    s->oldest = e->next;
    if (e->next == NONE)
        s->newest = NONE;
    free_entry_locked(x, e);
    if (s->oldest == NONE && s != keep)
        drop_series_locked(x, s);
}

static bool ring_room_locked(struct exemplars *x, uint32_t max)
{
    uint32_t cap = x->cap ? x->cap : FIRST_CAP / 2;
    struct entry *ring;

    if (x->n < x->cap || x->n == max)
        return true;
    cap = cap <= max / 2 ? cap * 2 : max;
    ring = reallocarray(x->ring, cap, sizeof *ring);
    if (!ring)
        return false;
    x->ring = ring;
    x->cap = cap;
    return true;
}

static void put_entry_locked(struct exemplars *x, const struct entry *e, uint32_t max)
{
    uint32_t i = x->n;

    if (x->n < max) {
        x->n++;
    } else {
        i = x->at;
        evict_locked(x, i, e->of);
        x->at = x->at + 1 == max ? 0 : x->at + 1;
    }
    x->ring[i] = *e;
    link_entry_locked(x, i);
    x->bytes += e->coded_bytes;
    x->appended++;
}

/* ---- adding ---------------------------------------------------------------------------------- */

static bool same_value(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* Against the newest of its series (X1, X2). */
static enum storage_exemplar_result judge(const struct entry *newest, const struct entry *e)
{
    bool same = same_value(e->value, newest->value);
    int labels = coded_cmp(e, newest);

    if (labels == 0 && same && (e->t_ms == newest->t_ms || !(e->has_ts || newest->has_ts)))
        return EXEMPLAR_SAME;
    if (e->t_ms != newest->t_ms)
        return e->t_ms < newest->t_ms ? EXEMPLAR_OLD : EXEMPLAR_STORED;
    return e->value < newest->value || (same && labels < 0) ? EXEMPLAR_OLD : EXEMPLAR_STORED;
}

/* Takes e->coded when the result is EXEMPLAR_STORED. */
static nx_status add_locked(struct exemplars *x, const struct labels *series, uint64_t hash,
                            struct entry *e, enum storage_exemplar_result *got, struct nx_err *err)
{
    uint32_t max = atomic_load(&x->max);
    struct exemplar_series *s = find_series(x, series, hash), *fresh = NULL;

    *got = EXEMPLAR_OFF;
    if (max == 0)
        return NX_OK;
    *got = s ? judge(&x->ring[s->newest], e) : EXEMPLAR_STORED;
    x->out_of_order += *got == EXEMPLAR_OLD;
    if (*got != EXEMPLAR_STORED)
        return NX_OK;
    if (!s)
        s = fresh = new_series(series, hash);
    if (!s || !ring_room_locked(x, max) || (fresh && !chains_room_locked(x))) {
        free(fresh);
        *got = EXEMPLAR_OFF;
        return no_memory(err);
    }
    if (fresh)
        enter_series_locked(x, fresh);
    e->of = s;
    put_entry_locked(x, e, max);
    return NX_OK;
}

nx_status exemplars_add(struct exemplars *x, const struct labels *series,
                        const struct storage_exemplar *ex, enum storage_exemplar_result *got,
                        struct nx_err *err)
{
    struct entry e = {.t_ms = ex->t_ms, .value = ex->value, .has_ts = ex->has_ts};
    enum storage_exemplar_result result = EXEMPLAR_OFF;
    uint64_t hash;
    nx_status st = NX_OK;

    if (exemplars_on(x))
        st = check_labels(&ex->labels, err);
    if (st || !exemplars_on(x))
        goto done;
    e.n_labels = (uint8_t)ex->labels.n;
    e.coded = encode(&ex->labels, &e.coded_bytes);
    if (!e.coded) {
        st = no_memory(err);
        goto done;
    }
    hash = labels_hash(series);
    nx_wrlock(&x->lock);
    st = add_locked(x, series, hash, &e, &result, err);
    nx_rwunlock(&x->lock);
    if (result != EXEMPLAR_STORED)
        free(e.coded);

done:
    if (!st && got)
        *got = result;
    return st;
}

/* ---- another size ---------------------------------------------------------------------------- */

static void reverse(struct entry *v, uint32_t n)
{
    for (uint32_t i = 0; i < n / 2; i++) {
        struct entry e = v[i];
        v[i] = v[n - 1 - i];
        v[n - 1 - i] = e;
    }
}

/* The oldest to ring[0], in place: there may be no memory for another ring (X5, X6). */
static void straighten_locked(struct exemplars *x)
{
    if (x->at == 0)
        return;
    reverse(x->ring, x->at);
    reverse(x->ring + x->at, x->n - x->at);
    reverse(x->ring, x->n);
    x->at = 0;
}

/* The places of entries changed: makes all lists anew, and drops the series that have none. */
static void relink_locked(struct exemplars *x)
{
    for (uint32_t i = 0; i < x->n_chains; i++)
        for (struct exemplar_series *s = x->chains[i]; s; s = s->next)
            s->oldest = s->newest = NONE;
    for (uint32_t i = 0; i < x->n; i++)
        link_entry_locked(x, i);
    for (uint32_t i = 0; i < x->n_chains; i++) {
        for (struct exemplar_series *s = x->chains[i], *next; s; s = next) {
            next = s->next;
            if (s->oldest == NONE)
                drop_series_locked(x, s);
        }
    }
}

static void shrink_locked(struct exemplars *x, uint32_t max)
{
    uint32_t gone = x->n > max ? x->n - max : 0;
    struct entry *ring;

    for (uint32_t i = 0; i < gone; i++)
        free_entry_locked(x, &x->ring[i]);
    if (gone && gone < x->n)
        memmove(x->ring, x->ring + gone, (x->n - gone) * sizeof *x->ring);
    x->n -= gone;
    relink_locked(x);
    if (x->n == 0) {
        free(x->ring);
        free(x->chains);
        x->ring = NULL;
        x->chains = NULL;
        x->cap = x->n_chains = 0;
    } else if (x->cap > max) {
        ring = reallocarray(x->ring, max, sizeof *ring);
        if (ring) { /* else it is larger than needed, which is no harm */
            x->ring = ring;
            x->cap = max;
        }
    }
}

void exemplars_set_max(struct exemplars *x, int64_t wanted)
{
    uint32_t max = wanted <= 0 ? 0 : wanted >= NONE ? NONE - 1 : (uint32_t)wanted;

    nx_wrlock(&x->lock);
    if (max != atomic_load(&x->max)) {
        straighten_locked(x);
        shrink_locked(x, max);
        atomic_store(&x->max, max);
    }
    nx_rwunlock(&x->lock);
}

struct exemplars *exemplars_new(void)
{
    struct exemplars *x = calloc(1, sizeof *x);

    if (x)
        nx_rwlock_init(&x->lock, NX_RANK_CACHE);
    return x;
}

void exemplars_free(struct exemplars *x)
{
    if (!x)
        return;
    exemplars_set_max(x, 0);
    NX_ASSERT(x->n == 0 && x->n_series == 0 && x->bytes == 0);
    nx_rwlock_done(&x->lock);
    free(x);
}

bool exemplars_on(struct exemplars *x)
{
    return atomic_load_explicit(&x->max, memory_order_relaxed) > 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool matches_any(const struct labels *ls, const struct matcher_set *sets, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (matchers_match(sets[i].m, sets[i].n, ls))
            return true;
    return false;
}

/* The exemplars of a series in the range; the list may stay empty. */
static nx_status copy_entries(const struct exemplars *x, const struct exemplar_series *s,
                              int64_t mint, int64_t maxt, struct arena *a,
                              struct storage_exemplar_series *out, struct nx_err *err)
{
    uint32_t first = s->oldest;
    nx_status st = NX_OK;
    size_t n = 0;

    while (first != NONE && x->ring[first].t_ms < mint)
        first = x->ring[first].next;
    for (uint32_t i = first; i != NONE && x->ring[i].t_ms <= maxt; i = x->ring[i].next)
        n++;
    out->n = 0;
    if (n == 0)
        return NX_OK;
    out->v = arena_array(a, n, sizeof *out->v);
    if (!out->v)
        return arena_failed(a, err);
    for (uint32_t i = first; out->n < n && !st; i = x->ring[i].next) {
        const struct entry *e = &x->ring[i];
        struct storage_exemplar *to = &out->v[out->n++];
        *to = (struct storage_exemplar){.value = e->value, .t_ms = e->t_ms, .has_ts = e->has_ts};
        st = decode(e, a, &to->labels, err);
    }
    return st ? st : labels_copy(a, &s->labels, &out->series, err);
}

static int by_labels(const void *a, const void *b)
{
    const struct storage_exemplar_series *x = a, *y = b;

    return labels_cmp(&x->series, &y->series);
}

static nx_status select_locked(struct exemplars *x, const struct matcher_set *sets, size_t n_sets,
                               int64_t mint, int64_t maxt, struct arena *a,
                               struct storage_exemplar_list *out, struct nx_err *err)
{
    size_t cap = 0;

    for (uint32_t i = 0; i < x->n_chains; i++) {
        for (const struct exemplar_series *s = x->chains[i]; s; s = s->next) {
            struct storage_exemplar_series one = {0}, *v = out->v;
            nx_status st;
            if (!matches_any(&s->labels, sets, n_sets))
                continue;
            st = copy_entries(x, s, mint, maxt, a, &one, err);
            if (!st && one.n && out->n == cap) {
                size_t more = cap ? cap * 2 : 16;
                v = arena_grow(a, out->v, cap * sizeof *v, more * sizeof *v);
                st = v ? NX_OK : arena_failed(a, err);
                cap = more;
            }
            if (st)
                return st;
            out->v = v;
            if (one.n)
                out->v[out->n++] = one;
        }
    }
    return NX_OK;
}

nx_status exemplars_select(struct exemplars *x, const struct matcher_set *sets, size_t n_sets,
                           int64_t mint, int64_t maxt, struct arena *a,
                           struct storage_exemplar_list *out, struct nx_err *err)
{
    struct storage_exemplar_list found = {NULL, 0};
    nx_status st;

    nx_rdlock(&x->lock);
    st = select_locked(x, sets, n_sets, mint, maxt, a, &found, err);
    nx_rwunlock(&x->lock);
    if (st)
        return st;
    if (found.n > 1)
        qsort(found.v, found.n, sizeof *found.v, by_labels);
    *out = found;
    return NX_OK;
}

void exemplars_get_stats(struct exemplars *x, struct exemplar_stats *out)
{
    nx_rdlock(&x->lock);
    *out = (struct exemplar_stats){
        .appended = x->appended,
        .out_of_order = x->out_of_order,
        .exemplars = x->n,
        .series = x->n_series,
        .max = atomic_load(&x->max),
        .oldest_ms = x->n ? x->ring[x->at].t_ms : 0,
        .bytes = x->bytes + x->cap * sizeof *x->ring + x->n_chains * sizeof(void *),
    };
    nx_rwunlock(&x->lock);
}
