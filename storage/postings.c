/* postings.c - set operations on sorted numbers, and matchers turned into them.
 *
 * RULES   S1  A matcher that matches "" also takes the series without the label, as in Prometheus. It
 *             is therefore never looked up itself: the values it refuses are subtracted.
 *         S2  If some matcher does not match "", the sets of those are intersected first, and the
 *             others are subtracted from that; only else does one start from every series.
 *         S3  Results may share memory with inputs (both live in the arena); nothing is written to. */
#include "storage/postings.h"

#include <string.h>

static nx_status room(struct arena *a, size_t n, uint32_t **to, struct nx_err *err)
{
    *to = n <= SIZE_MAX / sizeof **to ? arena_alloc(a, n * sizeof **to) : NULL;
    return *to ? NX_OK : arena_failed(a, err);
}

/* The first index from `at` on with v >= want: gallops, so a short set against a long one is cheap. */
static size_t seek(struct ids x, size_t at, uint32_t want)
{
    size_t step = 1, lo = at, hi = at;

    while (hi < x.n && x.v[hi] < want) {
        lo = hi + 1;
        hi += step;
        step *= 2;
    }
    if (hi > x.n)
        hi = x.n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (x.v[mid] < want)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

nx_status ids_and(struct arena *a, struct ids x, struct ids y, struct ids *out, struct nx_err *err)
{
    uint32_t *to;
    size_t n = 0;
    nx_status st;

    if (x.n > y.n) {
        struct ids swap = x;
        x = y;
        y = swap;
    }
    st = room(a, x.n, &to, err);
    if (st)
        return st;
    for (size_t i = 0, j = 0; i < x.n && j < y.n; i++) {
        j = seek(y, j, x.v[i]);
        if (j < y.n && y.v[j] == x.v[i])
            to[n++] = x.v[i];
    }
    *out = (struct ids){to, n};
    return NX_OK;
}

nx_status ids_minus(struct arena *a, struct ids x, struct ids y, struct ids *out,
                    struct nx_err *err)
{
    uint32_t *to;
    size_t n = 0;
    nx_status st;

    if (x.n == 0 || y.n == 0) {
        *out = x;
        return NX_OK;
    }
    st = room(a, x.n, &to, err);
    if (st)
        return st;
    for (size_t i = 0, j = 0; i < x.n; i++) {
        j = seek(y, j, x.v[i]);
        if (j == y.n || y.v[j] != x.v[i])
            to[n++] = x.v[i];
    }
    *out = (struct ids){to, n};
    return NX_OK;
}

static size_t merge(struct ids x, struct ids y, uint32_t *to)
{
    size_t i = 0, j = 0, n = 0;

    while (i < x.n && j < y.n) {
        uint32_t p = x.v[i], q = y.v[j];
        to[n++] = p < q ? p : q;
        i += p <= q;
        j += q <= p;
    }
    if (i < x.n)
        memcpy(to + n, x.v + i, (x.n - i) * sizeof *to);
    n += x.n - i;
    if (j < y.n)
        memcpy(to + n, y.v + j, (y.n - j) * sizeof *to);
    return n + y.n - j;
}

/* Merges neighbours round by round between two areas: n log(sets), whatever their sizes. */
static struct ids merge_rounds(struct ids *sets, size_t n, uint32_t *from, uint32_t *to)
{
    while (n > 1) {
        size_t at = 0, kept = 0;
        uint32_t *swap = from;

        for (size_t i = 0; i < n; i += 2) {
            struct ids pair = i + 1 < n ? sets[i + 1] : (struct ids){NULL, 0};
            size_t got = merge(sets[i], pair, to + at);
            sets[kept++] = (struct ids){to + at, got};
            at += got;
        }
        n = kept;
        from = to;
        to = swap;
    }
    return sets[0];
}

/* The numbers that any of the sets has: a bit each, then told in order. */
static size_t or_by_bits(const struct ids *sets, size_t n, uint32_t first, uint64_t *bits,
                         size_t words, uint32_t *to)
{
    size_t kept = 0;

    memset(bits, 0, words * sizeof *bits);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < sets[i].n; k++) {
            const uint32_t at = sets[i].v[k] - first;
            bits[at / 64] |= UINT64_C(1) << at % 64;
        }
    for (size_t w = 0; w < words; w++)
        for (uint64_t left = bits[w]; left; left &= left - 1)
            to[kept++] = first + (uint32_t)(w * 64) + (uint32_t)__builtin_ctzll(left);
    return kept;
}

nx_status ids_or(struct arena *a, const struct ids *sets, size_t n, struct ids *out,
                 struct nx_err *err)
{
    struct ids *mine;
    uint32_t *to, first = UINT32_MAX, last = 0;
    size_t total = 0, words;
    nx_status st;

    if (n <= 1) {
        *out = n ? sets[0] : (struct ids){NULL, 0};
        return NX_OK;
    }
    for (size_t i = 0; i < n; i++) {
        total += sets[i].n;
        if (sets[i].n && sets[i].v[0] < first)
            first = sets[i].v[0];
        if (sets[i].n && sets[i].v[sets[i].n - 1] > last)
            last = sets[i].v[sets[i].n - 1];
    }
    words = last >= first ? (size_t)(last - first) / 64 + 1 : 0;
    if (n > 3 &&
        words <= total / 2) { /* dense: rounds of merging cost more than a look at each bit */
        uint64_t *bits = arena_array(a, words, sizeof *bits);
        st = bits ? room(a, total, &to, err) : arena_failed(a, err);
        if (!st)
            *out = (struct ids){to, or_by_bits(sets, n, first, bits, words, to)};
        return st;
    }
    mine = arena_array(a, n, sizeof *mine);
    if (!mine)
        return arena_failed(a, err);
    memcpy(mine, sets, n * sizeof *mine);
    st = room(a, 2 * total, &to, err);
    if (st)
        return st;
    *out = merge_rounds(mine, n, to, to + total);
    return NX_OK;
}

nx_status ids_range(struct arena *a, uint32_t from, size_t n, struct ids *out, struct nx_err *err)
{
    uint32_t *to;
    nx_status st = room(a, n, &to, err);

    if (st)
        return st;
    for (size_t i = 0; i < n; i++)
        to[i] = from + (uint32_t)i;
    *out = (struct ids){to, n};
    return NX_OK;
}

bool ids_has(struct ids x, uint32_t id)
{
    size_t at = seek(x, 0, id);

    return at < x.n && x.v[at] == id;
}

nx_status id_sets_add(struct id_sets *sets, struct arena *a, struct ids x, struct nx_err *err)
{
    if (x.n == 0)
        return NX_OK;
    if (sets->n == sets->cap) {
        size_t cap = sets->cap ? sets->cap * 2 : 16;
        struct ids *v = arena_grow(a, sets->v, sets->cap * sizeof *v, cap * sizeof *v);
        if (!v)
            return arena_failed(a, err);
        sets->v = v;
        sets->cap = cap;
    }
    sets->v[sets->n++] = x;
    return NX_OK;
}

/* ---- matchers ------------------------------------------------------------------------------- */

bool matcher_matches(const struct matcher *m, struct nx_slice value)
{
    switch (m->type) {
    case MATCH_EQ:
        return nx_slice_eq(m->value, value);
    case MATCH_NEQ:
        return !nx_slice_eq(m->value, value);
    case MATCH_RE:
        return regex_match(m->re, value);
    default:
        return !regex_match(m->re, value);
    }
}

bool matchers_match(const struct matcher *m, size_t n, const struct labels *ls)
{
    for (size_t i = 0; i < n; i++)
        if (!matcher_matches(&m[i], labels_get(ls, m[i].name)))
            return false;
    return true;
}

struct want {
    const struct matcher *m;
    bool negate;
};

static bool want_value(void *ctx, struct nx_slice value)
{
    const struct want *w = ctx;

    return matcher_matches(w->m, value) != w->negate;
}

static nx_status scan_union(const struct postings_source *src, struct nx_slice name,
                            struct nx_slice prefix, postings_want_fn *want, void *ctx,
                            struct arena *a, struct ids *out, struct nx_err *err)
{
    struct id_sets sets = {0};
    nx_status st = src->scan(src->ctx, name, prefix, want, ctx, a, &sets, err);

    return st ? st : ids_or(a, sets.v, sets.n, out, err);
}

/* The union over a list of values; empty ones name no series. */
static nx_status of_values(const struct postings_source *src, struct nx_slice name,
                           const struct nx_slice *values, size_t n, struct arena *a,
                           struct ids *out, struct nx_err *err)
{
    struct id_sets sets = {0};

    for (size_t i = 0; i < n; i++) {
        struct ids x = {NULL, 0};
        nx_status st = values[i].len ? src->of(src->ctx, name, values[i], a, &x, err) : NX_OK;
        if (!st)
            st = id_sets_add(&sets, a, x, err);
        if (st)
            return st;
    }
    return ids_or(a, sets.v, sets.n, out, err);
}

/* Series whose label `m->name` is there and which m accepts (negate: refuses). */
static nx_status with_value(const struct postings_source *src, const struct matcher *m, bool negate,
                            struct arena *a, struct ids *out, struct nx_err *err)
{
    const bool wants_equal = (m->type == MATCH_EQ || m->type == MATCH_RE) != negate;
    const struct nx_slice none = {"", 0};
    struct want w = {m, negate};

    if (wants_equal && (m->type == MATCH_EQ || m->type == MATCH_NEQ))
        return of_values(src, m->name, &m->value, 1, a, out, err);
    if (wants_equal) {
        const struct nx_slice *literals;
        size_t n = regex_literals(m->re, &literals);
        if (n)
            return of_values(src, m->name, literals, n, a, out, err);
        return scan_union(src, m->name, regex_prefix(m->re), want_value, &w, a, out, err);
    }
    if ((m->type == MATCH_EQ || m->type == MATCH_NEQ) &&
        m->value.len == 0) /* l != "" : all who have it */
        return scan_union(src, m->name, none, NULL, NULL, a, out, err);
    return scan_union(src, m->name, none, want_value, &w, a, out, err);
}

static nx_status intersect_positive(const struct postings_source *src, const struct matcher *m,
                                    size_t n, struct arena *a, struct ids *got, bool *any,
                                    struct nx_err *err)
{
    const struct nx_slice none = {"", 0};

    *any = false;
    for (size_t i = 0; i < n && (!*any || got->n); i++) {
        struct ids x = {NULL, 0};
        nx_status st;

        if (matcher_matches(&m[i], none))
            continue;
        st = with_value(src, &m[i], false, a, &x, err);
        if (!st && *any)
            st = ids_and(a, *got, x, got, err);
        else if (!st)
            *got = x;
        if (st)
            return st;
        *any = true;
    }
    return NX_OK;
}

nx_status postings_select(const struct postings_source *src, const struct matcher *m, size_t n,
                          struct arena *a, struct ids *out, struct nx_err *err)
{
    const struct nx_slice none = {"", 0};
    struct ids got = {NULL, 0};
    bool any;
    nx_status st = intersect_positive(src, m, n, a, &got, &any, err);

    if (!st && !any)
        st = src->all(src->ctx, a, &got, err);
    for (size_t i = 0; i < n && !st && got.n; i++) {
        struct ids x = {NULL, 0};

        if (!matcher_matches(&m[i], none))
            continue;
        st = with_value(src, &m[i], true, a, &x, err); /* S1 */
        if (!st)
            st = ids_minus(a, got, x, &got, err);
    }
    if (!st)
        *out = got;
    return st;
}
