/* import_blocks.c - blocks of Prometheus to blocks of Narthex.
 *
 * SHAPE    Blocks that overlap make a cluster. Its series are walked in the order of their labels over all of its
 *          blocks at once, one series at a time, twice: for the timestamps (storage_load_survey), then for
 *          good. Where a cluster has so many timestamps that they would take more than UNION_BYTES, its span is
 *          cut, and each piece becomes a block.
 * RULES    C1  Pieces are aligned as Prometheus aligns blocks: a multiple of 2 h, 6 h, 18 h, ... of the epoch.
 *          C2  Of equal times the sample of the block that begins first stays.
 *          C3  Damage is told once: of the index when the cluster is sized up, of a chunk in the first walk over
 *              the piece in which it begins. */
#include "src/promdata/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"

#define UNION_BYTES    (48u << 20)
#define CHUNK_ROWS     120u /* what Prometheus aims at */
#define FIRST_PIECE_MS (2 * PD_HOUR_MS)
#define MAX_PIECE_MS   (486 * PD_HOUR_MS)

struct source {
    struct pd_block *block;
    struct pd_series series; /* the next one */
    bool end;
    bool has; /* it is the one at hand */
};

struct cluster {
    struct pd_import *im;
    const struct pd_unit *units;
    struct source *sources;
    size_t n;
    uint64_t print;
    int64_t min_ms, max_ms; /* both inclusive: of the chunks */
    uint64_t series, chunks, groups;
    uint64_t walked; /* samples of the last walk */
    struct pd_samples samples, more, spare;
};

/* ---- the walk -------------------------------------------------------------------------------- */

typedef nx_status series_fn(void *ctx, const struct labels *ls, const struct pd_samples *s,
                            struct nx_err *err);

static nx_status advance(struct cluster *c, struct source *s, struct nx_err *err)
{
    const bool mute = c->im->damage.mute;
    nx_status st;

    c->im->damage.mute = true; /* C3 */
    st = pd_block_next(s->block, &s->series, &s->end, err);
    c->im->damage.mute = mute;
    return st;
}

/* Marks the sources that have the least label set, and returns it; NULL at the end. */
static const struct labels *least(struct cluster *c)
{
    const struct labels *found = NULL;

    for (size_t i = 0; i < c->n; i++) {
        struct source *s = &c->sources[i];
        const int order = s->end || !found ? -1 : labels_cmp(&s->series.labels, found);
        s->has = !s->end && order <= 0;
        if (s->end || order >= 0)
            continue;
        found = &s->series.labels;
        for (size_t k = 0; k < i; k++)
            c->sources[k].has = false;
    }
    return found;
}

/* C2 */
static nx_status gather(struct cluster *c, int64_t min_ms, int64_t max_ms, struct pd_same *same,
                        struct pd_histograms *h, struct nx_err *err)
{
    nx_status st = NX_OK;
    bool first = true;

    c->samples.n = 0;
    for (size_t i = 0; i < c->n && !st; i++) {
        struct source *s = &c->sources[i];
        if (!s->has)
            continue;
        c->more.n = 0;
        st = pd_block_read(s->block, &s->series, min_ms, max_ms, first ? &c->samples : &c->more,
                           same, h, err);
        if (!st && !first)
            st = pd_samples_merge(&c->samples, &c->more, &c->spare, same, err);
        first = false;
    }
    return st;
}

/* Walks all series in [min_ms, max_ms]. `count`: this walk is the one that counts and tells. */
static nx_status walk(struct cluster *c, int64_t min_ms, int64_t max_ms, bool count, series_fn *fn,
                      void *ctx, struct nx_err *err)
{
    const struct labels *ls;
    nx_status st = NX_OK;

    c->walked = 0;
    for (size_t i = 0; i < c->n && !st; i++) {
        pd_block_rewind(c->sources[i].block);
        st = advance(c, &c->sources[i], err);
    }
    while (!st && (ls = least(c)) != NULL) {
        struct pd_same same = {0};
        struct pd_histograms h = {0};
        c->im->damage.mute = !count;
        st = gather(c, min_ms, max_ms, &same, &h, err);
        c->im->damage.mute = false;
        if (!st && count) {
            c->im->res->equal += same.equal;
            c->im->res->conflicting += same.conflicting;
            c->im->res->histogram_samples += h.samples;
            if (h.any)
                st = pd_histogram_series(c->im, ls, err);
        }
        c->walked += c->samples.n;
        if (!st && c->samples.n)
            st = fn(ctx, ls, &c->samples, err);
        for (size_t i = 0; i < c->n && !st; i++)
            if (c->sources[i].has)
                st = advance(c, &c->sources[i], err);
    }
    return st;
}

/* ---- sizing up ------------------------------------------------------------------------------- */

/* Counts distinct numbers, roughly: by the bits set of a table. */
struct counter {
    uint64_t *bits;
    uint64_t n;
};
#define COUNTER_BITS (1u << 23)

static void count_one(struct counter *k, uint64_t hash)
{
    const uint64_t at = hash % COUNTER_BITS, bit = 1ull << (at % 64);

    k->n += !(k->bits[at / 64] & bit);
    k->bits[at / 64] |= bit;
}

static void size_up_series(struct cluster *c, const struct pd_series *s, struct counter *k)
{
    const struct nx_slice job = labels_get_str(&s->labels, "job"),
                          instance = labels_get_str(&s->labels, "instance");

    c->series++;
    c->chunks += s->n;
    count_one(k, hash_mix(hash_bytes(job.ptr, job.len), hash_bytes(instance.ptr, instance.len)));
    for (size_t i = 0; i < s->n; i++) {
        c->min_ms = s->chunks[i].min_ms < c->min_ms ? s->chunks[i].min_ms : c->min_ms;
        c->max_ms = s->chunks[i].max_ms > c->max_ms ? s->chunks[i].max_ms : c->max_ms;
    }
}

static nx_status size_up(struct cluster *c, struct nx_err *err)
{
    struct counter k = {.bits = calloc(COUNTER_BITS / 64, 8)};
    nx_status st = k.bits ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory for an import");

    c->min_ms = INT64_MAX;
    c->max_ms = INT64_MIN;
    for (size_t i = 0; i < c->n && !st; i++) {
        struct source *s = &c->sources[i];
        pd_block_rewind(s->block);
        for (;;) {
            st = pd_block_next(s->block, &s->series, &s->end, err);
            if (st || s->end)
                break;
            size_up_series(c, &s->series, &k);
        }
    }
    c->groups = k.n;
    free(k.bits);
    return st;
}

/* How long the pieces are, so that the timestamps of all groups in one fit; 0: all is one piece. */
static int64_t piece_ms(const struct cluster *c)
{
    const double rows = c->series ? (double)c->chunks * CHUNK_ROWS / (double)c->series : 0;
    const double bytes = rows * (double)c->groups * sizeof(int64_t);
    const double span = (double)c->max_ms - (double)c->min_ms + 1;
    int64_t piece = MAX_PIECE_MS;

    if (bytes <= UNION_BYTES && span <= (double)MAX_PIECE_MS)
        return 0;
    while (piece > FIRST_PIECE_MS && bytes * ((double)piece / span) > UNION_BYTES)
        piece /= 3;
    return piece;
}

/* ---- a piece --------------------------------------------------------------------------------- */

static nx_status on_survey(void *ctx, const struct labels *ls, const struct pd_samples *s,
                           struct nx_err *err)
{
    return storage_load_survey(ctx, ls, s->t, s->n, err);
}

static nx_status on_series(void *ctx, const struct labels *ls, const struct pd_samples *s,
                           struct nx_err *err)
{
    return storage_load_series(ctx, ls, s->t, s->v, s->n, err);
}

static nx_status on_dry(void *ctx, const struct labels *ls, const struct pd_samples *s,
                        struct nx_err *err)
{
    struct cluster *c = ctx;

    (void)ls;
    (void)err;
    c->im->res->samples += s->n;
    return NX_OK;
}

static nx_status write_piece(struct cluster *c, const char *name, int64_t min_ms, int64_t max_ms,
                             struct nx_err *err)
{
    const struct storage_load_opts o = {.fs = c->im->o->fs, .dir = c->im->o->out, .ulid = name};
    struct storage_import_block b;
    struct storage_load *l = NULL;
    uint64_t surveyed = 0;
    nx_status st = storage_load_open(&l, &o, err);

    if (!st)
        st = walk(c, min_ms, max_ms, true, on_survey, l, err);
    surveyed = c->walked;
    if (!st)
        st = walk(c, min_ms, max_ms, false, on_series, l, err);
    if (!st && c->walked != surveyed) /* C3 */
        st = nx_fail(err, NX_IO, "block %s of Prometheus reads differently than a moment ago",
                     c->units[0].name);
    if (!st)
        st = storage_load_finish(l, &b, err);
    storage_load_close(l);
    if (!st)
        pd_wrote(c->im, &b);
    return st == NX_NOTFOUND ? NX_OK : st;
}

static nx_status import_piece(struct cluster *c, int64_t min_ms, int64_t max_ms, struct nx_err *err)
{
    char name[PD_ULID_SIZE];

    pd_name(name, c->units[0].name, 0,
            hash_mix(hash_mix(c->print, (uint64_t)min_ms), (uint64_t)max_ms));
    if (pd_is_present(c->im, name)) {
        c->im->res->present++;
        return NX_OK;
    }
    if (c->im->o->dry_run)
        return walk(c, min_ms, max_ms, true, on_dry, c, err);
    return write_piece(c, name, min_ms, max_ms, err);
}

static int64_t floor_to(int64_t t, int64_t step)
{
    const int64_t rest = t % step;

    return t < INT64_MIN + step ? INT64_MIN : t - rest - (rest < 0 ? step : 0);
}

/* C1. Between pieces may be long times without a sample: the next chunk says where to go on. */
static nx_status next_start(struct cluster *c, int64_t from, int64_t *start, bool *any,
                            struct nx_err *err)
{
    nx_status st = NX_OK;

    *any = false;
    for (size_t i = 0; i < c->n && !st; i++) {
        struct source *s = &c->sources[i];
        pd_block_rewind(s->block);
        while (!(st = advance(c, s, err)) && !s->end) {
            for (size_t k = 0; k < s->series.n; k++) {
                const struct pd_chunk *x = &s->series.chunks[k];
                const int64_t at = x->min_ms > from ? x->min_ms : from;
                if (x->max_ms < from || (*any && at >= *start))
                    continue;
                *start = at;
                *any = true;
            }
        }
    }
    return st;
}

static nx_status import_cluster(struct cluster *c, struct nx_err *err)
{
    int64_t step, from;
    bool any = false;
    nx_status st = size_up(c, err);

    if (st || c->min_ms > c->max_ms)
        return st;
    step = piece_ms(c);
    if (!step)
        return import_piece(c, c->min_ms, c->max_ms, err);
    for (from = c->min_ms; !st; from += step) {
        const int64_t before = from;
        st = next_start(c, before, &from, &any, err);
        if (st || !any)
            break;
        from = floor_to(from, step);
        st = import_piece(c, from, from > INT64_MAX - step ? INT64_MAX : from + step - 1, err);
        if (from > INT64_MAX - step)
            break;
    }
    return st;
}

/* ---- clusters -------------------------------------------------------------------------------- */

static nx_status open_sources(struct cluster *c, struct nx_err *err)
{
    nx_status st = NX_OK;

    c->sources = calloc(c->n, sizeof *c->sources);
    if (!c->sources)
        return nx_fail(err, NX_NOMEM, "out of memory for an import");
    c->im->damage.mute = true; /* told when it was found */
    for (size_t i = 0; i < c->n && !st; i++) {
        const char *name = c->units[i].name;
        char *dir;
        if (asprintf(&dir, "%s/%s", c->im->o->dir, name) < 0) {
            st = nx_fail(err, NX_NOMEM, "out of memory for an import");
            break;
        }
        st = pd_block_open(&c->sources[i].block, c->im->o->fs, dir, &c->im->damage, err);
        free(dir);
        if (!st && pd_block_print(c->sources[i].block) != c->units[i].print)
            st = nx_fail(err, NX_IO, "block %s of Prometheus reads differently than a moment ago",
                         name);
        if (!st)
            c->print = hash_mix(hash_mix(c->print, hash_bytes(name, strlen(name))),
                                pd_block_print(c->sources[i].block));
    }
    c->im->damage.mute = false;
    return st;
}

static nx_status do_cluster(struct pd_import *im, const struct pd_unit *units, size_t n,
                            struct nx_err *err)
{
    struct cluster c = {.im = im, .units = units, .n = n};
    nx_status st = open_sources(&c, err);

    if (!st)
        st = import_cluster(&c, err);
    for (size_t i = 0; c.sources && i < n; i++)
        pd_block_close(c.sources[i].block);
    free(c.sources);
    pd_samples_done(&c.samples);
    pd_samples_done(&c.more);
    pd_samples_done(&c.spare);
    return st;
}

nx_status pd_import_blocks(struct pd_import *im, struct nx_err *err)
{
    nx_status st = NX_OK;

    im->steps = im->n_units + 1; /* the head */
    for (size_t from = 0, to; from < im->n_units && !st; from = to) {
        int64_t max_ms = im->units[from].max_ms;
        for (to = from + 1; to < im->n_units && im->units[to].min_ms < max_ms; to++)
            max_ms = im->units[to].max_ms > max_ms ? im->units[to].max_ms : max_ms;
        for (size_t i = from; i < to; i++)
            pd_step(im, im->units[i].name);
        st = do_cluster(im, im->units + from, to - from, err);
    }
    return st;
}
