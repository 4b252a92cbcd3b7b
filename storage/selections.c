/* selections.c - see selections.h.
 *
 * SHAPE   A table by hash of the matchers, a chain per slot. An entry says up to which number series were looked
 *         at, and how often series had been removed from the index.
 * RULES   N1  Numbers of series only rise, so what an entry may lack is after the number it was looked at last:
 *             those are matched one by one. If one of them matches, or too many came, the entry goes.
 *         N2  A removal ends all entries; series are removed a few times an hour, many at once.
 *         N3  Homes may have moved: `homes` is an order that is mostly good, and means nothing else.
 *         N4  A selector is kept from the second time on that it is asked, so that questions asked once cost
 *             nothing.
 *         N5  What all hold is bounded, in series: matchers that give few or none cost as many as would take their
 *             bytes. What was not asked for the longest goes first.
 * THREADS `lock` guards the table and the entries' fields but for the selection's. It is taken below the index
 *         lock, which stands for all that N1 and N2 look at. */
#include "storage/selections.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/limits.h"
#include "src/base/thread.h"

#define SLOTS   2048u
#define SEEN    4096u
#define NEW_FEW 512u /* series that are matched one by one */

struct entry {
    struct entry *next;          /* in its slot */
    struct entry *newer, *older; /* by last use */
    uint64_t hash;
    struct matcher *m; /* without the regexes; the strings lie behind */
    size_t n;
    uint32_t looked; /* series before this number are told */
    uint64_t removals;
    size_t cost;         /* N5: of what it takes */
    struct selection *s; /* a reference */
};

struct selections {
    struct nx_mutex lock;
    struct entry *slots[SLOTS];
    struct entry *newest, *oldest;
    size_t held;         /* what all entries cost */
    uint64_t seen[SEEN]; /* N4: hashes asked for lately */
};

void selection_unref(const struct selection *s)
{
    struct selection *own = (struct selection *)(uintptr_t)s;

    if (own && __atomic_sub_fetch(&own->refs, 1, __ATOMIC_ACQ_REL) == 0)
        free(own);
}

static const struct selection *selection_ref(struct selection *s)
{
    __atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
    return s;
}

struct selections *selections_new(void)
{
    struct selections *x = calloc(1, sizeof *x);

    if (x)
        nx_mutex_init(&x->lock, NX_RANK_SELECTIONS);
    return x;
}

static uint64_t hash_of(const struct matcher *m, size_t n)
{
    uint64_t h = n + 1;

    for (size_t i = 0; i < n; i++) {
        h = hash_mix(h, (uint64_t)m[i].type + 1);
        h = hash_mix(h, hash_bytes(m[i].name.ptr, m[i].name.len));
        h = hash_mix(h, hash_bytes(m[i].value.ptr, m[i].value.len));
    }
    return h;
}

static bool same_matchers(const struct entry *e, const struct matcher *m, size_t n)
{
    bool same = e->n == n;

    for (size_t i = 0; i < n && same; i++)
        same = e->m[i].type == m[i].type && nx_slice_eq(e->m[i].name, m[i].name) &&
               nx_slice_eq(e->m[i].value, m[i].value);
    return same;
}

/* ---- the list by last use ------------------------------------------------------------------------ */

static void unlink_use_locked(struct selections *x, struct entry *e)
{
    *(e->newer ? &e->newer->older : &x->newest) = e->older;
    *(e->older ? &e->older->newer : &x->oldest) = e->newer;
    e->newer = e->older = NULL;
}

static void use_locked(struct selections *x, struct entry *e)
{
    e->older = x->newest;
    *(x->newest ? &x->newest->newer : &x->oldest) = e;
    x->newest = e;
}

static void drop_locked(struct selections *x, struct entry *e)
{
    struct entry **at = &x->slots[e->hash % SLOTS];

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    unlink_use_locked(x, e);
    x->held -= e->cost;
    selection_unref(e->s);
    free(e->m);
    free(e);
}

void selections_forget(struct selections *x)
{
    nx_lock(&x->lock);
    while (x->oldest)
        drop_locked(x, x->oldest);
    nx_unlock(&x->lock);
}

void selections_free(struct selections *x)
{
    if (!x)
        return;
    selections_forget(x);
    nx_mutex_done(&x->lock);
    free(x);
}

/* ---- looking up ------------------------------------------------------------------------------------ */

static bool series_matches(const struct index *ix, const struct memseries *s,
                           const struct matcher *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct nx_slice value = {0};
        for (uint32_t k = 0; k < s->n_pairs; k++) {
            struct label l = index_label(ix, s, k);
            if (nx_slice_eq(l.name, m[i].name)) {
                value = l.value;
                break;
            }
        }
        if (!matcher_matches(&m[i], value))
            return false;
    }
    return true;
}

/* N1, N2 */
static bool is_true(struct entry *e, const struct index *ix, const struct matcher *m, size_t n)
{
    const uint32_t end = index_end(ix);

    if (e->removals != index_removals(ix) || end - e->looked > NEW_FEW)
        return false;
    for (; e->looked < end; e->looked++) {
        const struct memseries *s = index_series(ix, e->looked);
        if (s && series_matches(ix, s, m, n))
            return false;
    }
    return true;
}

const struct selection *selections_find_locked(struct selections *x, const struct index *ix,
                                               const struct matcher *m, size_t n, bool *ask)
{
    const uint64_t hash = hash_of(m, n);
    const struct selection *found = NULL;
    struct entry *e;

    nx_lock(&x->lock);
    for (e = x->slots[hash % SLOTS]; e; e = e->next)
        if (e->hash == hash && same_matchers(e, m, n))
            break;
    *ask = e || x->seen[hash % SEEN] == hash;
    x->seen[hash % SEEN] = hash; /* N4 */
    if (e && !is_true(e, ix, m, n)) {
        drop_locked(x, e);
    } else if (e) {
        unlink_use_locked(x, e);
        use_locked(x, e);
        found = selection_ref(e->s);
    }
    nx_unlock(&x->lock);
    return found;
}

/* ---- keeping --------------------------------------------------------------------------------------- */

struct place {
    struct home home;
    uint32_t at;
};

static int place_cmp(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->home.group != y->home.group)
        return x->home.group < y->home.group ? -1 : 1;
    return x->home.col < y->home.col ? -1 : x->home.col > y->home.col;
}

static struct selection *selection_new(const struct index *ix, struct ids all)
{
    struct selection *s = malloc(sizeof *s + (all.n * 2 + 1) * sizeof(uint32_t));
    struct place *v = malloc((all.n + 1) * sizeof *v);
    uint32_t *ids = (uint32_t *)(s + 1), *homes = ids + all.n;

    for (uint32_t i = 0; s && v && i < all.n; i++) {
        ids[i] = all.v[i];
        v[i] = (struct place){index_series(ix, ids[i])->home, i};
    }
    if (!s || !v) {
        free(s);
        free(v);
        return NULL;
    }
    qsort(v, all.n, sizeof *v, place_cmp);
    for (size_t i = 0; i < all.n; i++)
        homes[i] = v[i].at;
    free(v);
    *s = (struct selection){.refs = 1, .n = all.n, .ids = ids, .homes = homes};
    return s;
}

static size_t matchers_bytes(const struct matcher *m, size_t n)
{
    size_t bytes = (n + 1) * sizeof *m;

    for (size_t i = 0; i < n; i++)
        bytes += m[i].name.len + m[i].value.len;
    return bytes;
}

static struct matcher *copy_matchers(const struct matcher *m, size_t n)
{
    struct matcher *v = malloc(matchers_bytes(m, n));
    char *text = (char *)(v + n + 1);

    for (size_t i = 0; v && i < n; i++) {
        v[i] = (struct matcher){.type = m[i].type,
                                .name = {text, m[i].name.len},
                                .value = {text + m[i].name.len, m[i].value.len}};
        memcpy(text, m[i].name.ptr ? m[i].name.ptr : "", m[i].name.len);
        memcpy(text + m[i].name.len, m[i].value.ptr ? m[i].value.ptr : "", m[i].value.len);
        text += m[i].name.len + m[i].value.len;
    }
    return v;
}

/* Another thread may have told the same meanwhile: then there are two, which is no harm. */
static bool put_locked(struct selections *x, const struct index *ix, const struct matcher *m,
                       size_t n, struct selection *s)
{
    struct entry *e = calloc(1, sizeof *e);

    if (!e || !(e->m = copy_matchers(m, n))) {
        free(e);
        return false;
    }
    e->n = n;
    e->hash = hash_of(m, n);
    e->looked = index_end(ix);
    e->removals = index_removals(ix);
    e->cost = s->n + (sizeof *e + sizeof *s + matchers_bytes(m, n)) / (2 * sizeof(uint32_t));
    e->s = s;
    e->next = x->slots[e->hash % SLOTS];
    x->slots[e->hash % SLOTS] = e;
    use_locked(x, e);
    x->held += e->cost;
    while (x->held > NX_SELECTIONS_SERIES && x->oldest != e) /* N5 */
        drop_locked(x, x->oldest);
    return true;
}

const struct selection *selections_tell_locked(struct selections *x, const struct index *ix,
                                               const struct matcher *m, size_t n, struct ids all)
{
    struct selection *s;
    const struct selection *out = NULL;

    if (all.n > NX_SELECTIONS_SERIES / 4 || !(s = selection_new(ix, all)))
        return NULL;
    nx_lock(&x->lock);
    if (put_locked(x, ix, m, n, s))
        out = selection_ref(s);
    nx_unlock(&x->lock);
    if (!out)
        selection_unref(s);
    return out;
}
