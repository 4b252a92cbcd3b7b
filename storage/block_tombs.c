/* block_tombs.c - samples of a block are deleted: its file of tombstones, and who is dead by it.
 *
 * WHY     Sealed files never change, so a deletion is a small file beside them. The space comes back when
 *         the block is written anew (compact.c).
 * RULES   D1  The file is published whole (written beside, synced, renamed), and holds all deletions so far.
 *         D2  It holds the same twice: damage to one of both is told and costs nothing, until the next deletion
 *             writes both anew. If none is whole the block is not opened: what somebody had deleted must not
 *             come back because of a flipped bit. Who wants it back removes the file.
 *         D3  Spans are cut to the first and last sample of their series, so that what is wholly deleted is
 *             known without reading samples. Else they are read, in the parts that are alive. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/log.h"
#include "storage/block_format.h"
#include "storage/block_index.h"

#define MAX_FILE_BYTES (256u << 20)

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for deleting samples");
}

/* D2. One copy, as files were, or two. *damaged: one of two. */
static nx_status decode(struct nx_slice file, const char *ulid, uint64_t n_series,
                        struct tombs **out, bool *damaged, struct nx_err *err)
{
    const size_t half = file.len / 2;
    struct tombs *second = NULL;
    nx_status st = tombs_decode(out, file, ulid, n_series, err), other;

    if (st != NX_CORRUPT || file.len % 2)
        return st;
    st = tombs_decode(out, nx_slice_of(file.ptr, half), ulid, n_series, err);
    other = tombs_decode(&second, nx_slice_of(file.ptr + half, half), ulid, n_series, NULL);
    *damaged = (st == NX_CORRUPT) != (other == NX_CORRUPT);
    if (st == NX_CORRUPT && !other) {
        *out = second;
        return NX_OK;
    }
    tombs_unref(second);
    return st == NX_CORRUPT && other != NX_CORRUPT ? nx_fail(err, other, "reading tombstones") : st;
}

nx_status block_tombs_read(struct fs *fs, const char *dir, const char *ulid, uint64_t n_series,
                           struct tombs **out, uint64_t *bytes, bool *damaged, struct nx_err *err)
{
    struct buf b;
    char *path;
    nx_status st;

    *out = NULL;
    *bytes = 0;
    *damaged = false;
    if (asprintf(&path, "%s/" BLOCK_TOMBS_FILE, dir) < 0)
        return no_memory(err);
    buf_init(&b, MAX_FILE_BYTES);
    st = fs_read_file(fs, path, &b, err);
    if (st == NX_NOTFOUND) {
        st = NX_OK;
    } else if (!st) {
        st = decode(buf_view(&b), ulid, n_series, out, damaged, err);
        *bytes = b.len;
        if (*damaged)
            log_error("One of two copies of a block's tombstones is damaged, the other one holds",
                      "file", path);
        if (st == NX_CORRUPT && err) /* D2 */
            st = nx_context(err, "%s", path);
    }
    buf_done(&b);
    free(path);
    return st;
}

/* ---- who is dead ----------------------------------------------------------------------------- */

struct look {
    struct block *b;
    int64_t mint, maxt;
    struct samples rows;
    struct chunk_scratch *scratch;
};

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static nx_status has_samples(struct look *l, uint32_t id, struct tspan in, bool *has,
                             struct nx_err *err)
{
    nx_status st;

    if (!l->scratch)
        l->scratch = chunk_scratch_new();
    if (!l->scratch)
        return no_memory(err);
    l->rows.n = 0;
    st = block_read_sealed(l->b, id, in.from_ms, in.to_ms, &l->rows, l->scratch, err);
    *has =
        l->rows.n > 0 || st == NX_CORRUPT; /* it can't be told: the damage shows when it is read */
    return st == NX_CORRUPT ? NX_OK : st;
}

/* *dead: samples of series `id` are deleted, and it has no other in the range. D3 */
static nx_status is_dead(struct look *l, const struct tombs *t, uint32_t id, bool *dead,
                         struct nx_err *err)
{
    struct tspans s = tombs_of(t, id);
    struct block_index_series e = {0};
    struct tspan gap;
    int64_t from, to;
    nx_status st;

    *dead = false;
    if (s.n == 0)
        return NX_OK;
    st = block_index_get(block_index_of(l->b), id, &e, err);
    from = later(l->mint, e.mint);
    to = earlier(l->maxt, e.maxt);
    if (st)
        return st;
    while (from <= to && tspans_gap(s, from, to, &gap)) {
        bool alive = false;
        st = has_samples(l, id, gap, &alive, err);
        if (st || alive)
            return st;
        if (gap.to_ms >= to)
            break;
        from = gap.to_ms + 1;
    }
    *dead = true;
    return NX_OK;
}

static void look_done(struct look *l)
{
    samples_done(&l->rows);
    chunk_scratch_free(l->scratch);
}

nx_status block_drop_dead(struct block *b, const struct tombs *t, int64_t mint, int64_t maxt,
                          struct series_list *list, struct nx_err *err)
{
    struct look l = {.b = b, .mint = mint, .maxt = maxt};
    size_t kept = 0;
    nx_status st = NX_OK;

    if (!t)
        return NX_OK;
    for (size_t i = 0; i < list->n && !st; i++) {
        bool dead = false;
        st = is_dead(&l, t, (uint32_t)list->v[i].ref, &dead, err);
        if (!dead)
            list->v[kept++] = list->v[i];
    }
    list->n = kept;
    look_done(&l);
    return st;
}

nx_status block_alive_ids(struct block *b, const struct tombs *t, int64_t mint, int64_t maxt,
                          const struct ids *ids, struct arena *a, struct ids *out,
                          struct nx_err *err)
{
    struct look l = {.b = b, .mint = mint, .maxt = maxt};
    const size_t n = ids ? ids->n : (size_t)block_meta(b)->n_series;
    uint32_t *v = arena_array(a, n, sizeof *v);
    size_t kept = 0;
    nx_status st = v ? NX_OK : arena_failed(a, err);

    for (size_t i = 0; i < n && !st; i++) {
        const uint32_t id = ids ? ids->v[i] : (uint32_t)i;
        bool dead = false;
        st = is_dead(&l, t, id, &dead, err);
        if (!dead)
            v[kept++] = id;
    }
    *out = (struct ids){v, st ? 0 : kept};
    look_done(&l);
    return st;
}

/* ---- deleting -------------------------------------------------------------------------------- */

struct toll {
    struct tomb *v;
    size_t n;
};

/* D3 */
static nx_status find_tombs(struct block *b, struct ids ids, int64_t mint, int64_t maxt,
                            const struct tombs *old, struct toll *toll, struct nx_err *err)
{
    nx_status st = NX_OK;

    toll->v = malloc((ids.n + 1) * sizeof *toll->v);
    if (!toll->v)
        return no_memory(err);
    for (size_t i = 0; i < ids.n && !st; i++) {
        struct block_index_series e = {0};
        struct tspan span, alive;
        st = block_index_get(block_index_of(b), ids.v[i], &e, err);
        span = (struct tspan){later(mint, e.mint), earlier(maxt, e.maxt)};
        if (st || span.from_ms > span.to_ms ||
            !tspans_gap(tombs_of(old, ids.v[i]), span.from_ms, span.to_ms, &alive))
            continue;
        toll->v[toll->n++] = (struct tomb){ids.v[i], span};
    }
    return st;
}

/* D1 */
static nx_status publish(struct block *b, struct fs *fs, struct tombs *t, struct nx_err *err)
{
    struct buf bytes;
    char *path;
    nx_status st;

    if (asprintf(&path, "%s/" BLOCK_TOMBS_FILE, block_dir(b)) < 0)
        return no_memory(err);
    buf_init(&bytes, MAX_FILE_BYTES);
    for (int copy = 0; copy < 2; copy++) /* D2 */
        tombs_encode(t, block_meta(b)->ulid, &bytes);
    st = buf_status(&bytes, err);
    if (!st)
        st = fs_publish(fs, path, bytes.ptr, bytes.len, err);
    if (!st)
        block_set_tombs(b, tombs_ref(t), bytes.len);
    buf_done(&bytes);
    free(path);
    return st;
}

nx_status block_delete(struct block *b, const struct matcher *m, size_t n, int64_t mint,
                       int64_t maxt, uint64_t *series, struct nx_err *err)
{
    struct tombs *old = block_tombs(b), *t = NULL;
    struct arena *a = arena_new(0);
    struct toll toll = {0};
    struct ids ids = {NULL, 0};
    nx_status st = a ? NX_OK : no_memory(err);

    if (!st && mint <= maxt && mint < block_meta(b)->max_ms && maxt >= block_meta(b)->min_ms)
        st = block_index_match(block_index_of(b), m, n, a, &ids, err);
    if (!st)
        st = find_tombs(b, ids, mint, maxt, old, &toll, err);
    if (!st && toll.n)
        st = tombs_merge(&t, old, toll.v, toll.n, err);
    if (!st && toll.n)
        st = publish(b, block_fs(b), t, err);
    if (!st && series)
        *series = toll.n;
    free(toll.v);
    tombs_unref(t);
    tombs_unref(old);
    arena_free(a);
    return st;
}

void block_count_tombs(struct block *b, uint64_t *series, uint64_t *spans)
{
    struct tombs *t = block_tombs(b);

    *series = tombs_n_series(t);
    *spans = tombs_n_spans(t);
    tombs_unref(t);
}
