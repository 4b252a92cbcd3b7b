#include "src/promdata/meta.h"

/* meta.c - what a block of Prometheus says of itself beside its data, and tombstones, of blocks and of the head.
 *
 * SHAPE   Stones are added in any order; pd_stones_order() sorts them and joins those that meet, once. */

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"

#define TOMBSTONES_MAGIC 0x0130ba30u

nx_status pd_meta_parse(struct nx_slice text, struct pd_meta *m, struct nx_err *err)
{
    static const char *const partial[] = {"from-out-of-order", "from-stale-series",
                                          "from-selected-series"};
    json_error_t e;
    json_t *root = json_loadb(text.ptr ? text.ptr : "", text.len, 0, &e), *hints, *hint;
    json_int_t min = 0, max = 0, version = 0;
    size_t i;
    nx_status st = NX_OK;

    if (!root)
        return nx_fail(err, NX_CORRUPT, "line %d: %s", e.line, e.text);
    if (json_unpack_ex(root, &e, 0, "{s:I, s:I, s:I}", "minTime", &min, "maxTime", &max, "version",
                       &version))
        st = nx_fail(err, NX_CORRUPT, "%s", e.text);
    else if (version != 1)
        st = nx_fail(err, NX_CORRUPT, "it has version %lld, and not 1", (long long)version);
    else if (min > max)
        st = nx_fail(err, NX_CORRUPT, "minTime %lld is after maxTime %lld", (long long)min,
                     (long long)max);
    if (st)
        goto done;
    *m = (struct pd_meta){.min_ms = min, .max_ms = max};
    hints = json_object_get(json_object_get(root, "compaction"), "hints");
    json_array_foreach(hints, i, hint)
    {
        for (size_t k = 0; json_is_string(hint) && k < NX_COUNT(partial); k++)
            m->aside |= strcmp(json_string_value(hint), partial[k]) == 0;
    }

done:
    json_decref(root);
    return st;
}

/* ---- tombstones ----------------------------------------------------------------------------- */

nx_status pd_stones_add(struct pd_stones *s, uint64_t ref, int64_t min_ms, int64_t max_ms,
                        struct nx_err *err)
{
    if (s->n == s->cap) {
        const size_t cap = s->cap ? s->cap * 2 : 64;
        struct pd_stone *v = realloc(s->v, cap * sizeof *v);
        if (!v)
            return nx_fail(err, NX_NOMEM, "out of memory for tombstones");
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = (struct pd_stone){ref, min_ms, max_ms};
    return NX_OK;
}

static int by_ref(const void *x, const void *y)
{
    const struct pd_stone *a = x, *b = y;

    if (a->ref != b->ref)
        return a->ref < b->ref ? -1 : 1;
    return a->min_ms < b->min_ms ? -1 : a->min_ms > b->min_ms;
}

void pd_stones_order(struct pd_stones *s)
{
    size_t kept = 0;

    if (s->n)
        qsort(s->v, s->n, sizeof *s->v, by_ref);
    for (size_t i = 0; i < s->n; i++) {
        struct pd_stone *last = kept ? &s->v[kept - 1] : NULL;
        if (last && last->ref == s->v[i].ref && s->v[i].min_ms <= last->max_ms) {
            if (s->v[i].max_ms > last->max_ms)
                last->max_ms = s->v[i].max_ms;
        } else {
            s->v[kept++] = s->v[i];
        }
    }
    s->n = kept;
}

void pd_stones_done(struct pd_stones *s)
{
    free(s->v);
    *s = (struct pd_stones){0};
}

const struct pd_stone *pd_stones_of(const struct pd_stones *s, uint64_t ref, size_t *n)
{
    size_t from = 0, to = s->n;

    while (from < to) {
        const size_t mid = from + (to - from) / 2;
        if (s->v[mid].ref < ref)
            from = mid + 1;
        else
            to = mid;
    }
    for (to = from; to < s->n && s->v[to].ref == ref;)
        to++;
    *n = to - from;
    return *n ? s->v + from : NULL;
}

bool pd_stones_hold(const struct pd_stone *v, size_t n, int64_t t)
{
    size_t from = 0, to = n; /* the last one that begins at t or before */

    while (from < to) {
        const size_t mid = from + (to - from) / 2;
        if (v[mid].min_ms <= t)
            from = mid + 1;
        else
            to = mid;
    }
    return from && t <= v[from - 1].max_ms;
}

/* Magic, version 1, entries (uvarint ref, varint from, varint to), CRC of the entries. */
nx_status pd_stones_parse(const uint8_t *p, size_t len, struct pd_stones *to, struct nx_err *err)
{
    struct reader r;
    bool right;
    nx_status st = NX_OK;

    if (len < 9 || pd_u32(p) != TOMBSTONES_MAGIC || p[4] != 1)
        return nx_fail(err, NX_CORRUPT, "this is not a file of tombstones, version 1");
    right = crc32c(0, p + 5, len - 9) == pd_u32(p + len - 4);
    r = reader_of(p + 5, len - 9);
    while (reader_left(&r) && !st) {
        const uint64_t ref = reader_uvarint(&r);
        const int64_t min_ms = reader_varint(&r), max_ms = reader_varint(&r);
        if (r.bad || min_ms > max_ms) {
            right = false;
            break;
        }
        st = pd_stones_add(to, ref, min_ms, max_ms, err);
    }
    if (!st && !right)
        st = nx_fail(err, NX_CORRUPT, "the tombstones are damaged");
    return st;
}
