/* downsample.c - one block of a resolution out of one block of samples, or of finer points.
 *
 * SHAPE   Series by series: samples (or points) become points (coarse.c), which the writer gets. In memory
 *         are one series' samples and points, and what the writer keeps of each series for the index.
 * RULES   D1  What is deleted in the source, and what from_ms() leaves out, does not come.
 *         D2  Of samples all that the source's meta.json counts were read. Damage ends it.
 *         D3  A block of its own resolution gives the same block again, less what is left out (D1). */
#include <stdlib.h>
#include <string.h>

#include "storage/coarse.h"
#include "storage/compact.h"

#define BATCH 128u /* series whose labels are at hand */

struct down {
    const struct compact_merge *c;
    struct compact_result *res;
    struct block *source;
    int64_t resolution_ms;
    struct arena *arena;
    struct chunk_scratch *scratch;
    struct samples rows;
    struct coarse_points in, out;
    struct coarse_buffers buffers;
    struct block_meta meta; /* times and resolution of the new block; no lists */
    struct block_writer *w;
    uint64_t given;
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for making points of samples");
}

static nx_status blame(struct down *d, nx_status st)
{
    if (st == NX_CORRUPT || st == NX_IO)
        d->res->bad = 0;
    return st;
}

static nx_status from_samples(struct down *d, uint64_t ref, int64_t from_ms, struct coarse_maker *m,
                              struct nx_err *err)
{
    const struct block_meta *meta = block_meta(d->source);
    nx_status st;

    d->rows.n = 0;
    st = block_read_sealed(d->source, ref, meta->min_ms, meta->max_ms - 1, &d->rows, d->scratch,
                           err);
    if (st)
        return blame(d, st);
    d->given += d->rows.n;
    d->res->deleted += block_drop_deleted(d->source, ref, &d->rows, 0);
    for (size_t i = 0; i < d->rows.n && !st; i++) {
        const struct coarse_point p = coarse_of_sample(d->rows.t[i], d->rows.v[i]);
        if (p.t < from_ms)
            d->res->expired++;
        else
            st = coarse_add(m, &p, err);
    }
    return st;
}

static nx_status from_points(struct down *d, uint64_t ref, int64_t from_ms, struct coarse_maker *m,
                             struct nx_err *err)
{
    const struct block_meta *meta = block_meta(d->source);
    nx_status st;

    d->in.n = 0;
    st = coarse_read(d->source, ref, meta->min_ms, meta->max_ms - 1, &d->in, &d->rows, d->scratch,
                     err);
    if (st)
        return blame(d, st);
    for (size_t i = 0; i < d->in.n && !st; i++) {
        if (d->in.v[i].t < from_ms)
            d->res->expired++;
        else
            st = coarse_add(m, &d->in.v[i], err);
    }
    return st;
}

static nx_status put_series(struct down *d, const struct series *s, struct nx_err *err)
{
    struct coarse_maker m = {.resolution_ms = d->resolution_ms, .to = &d->out};
    const int64_t from_ms = d->c->from_ms ? d->c->from_ms(d->c->ctx, &s->labels) : INT64_MIN;
    bool counter;
    nx_status st;

    d->out.n = 0;
    if (block_meta(d->source)->resolution_ms)
        st = from_points(d, s->ref, from_ms, &m, err);
    else
        st = from_samples(d, s->ref, from_ms, &m, err);
    if (!st)
        st = coarse_end(&m, err);
    if (st || !m.any) /* stale markers alone tell nothing */
        return st;
    counter = coarse_is_counter(&m, labels_get_str(&s->labels, LABEL_NAME));
    return coarse_write(d->w, &d->meta, &s->labels, &d->out, counter, &d->buffers, err);
}

static nx_status put_all(struct down *d, struct nx_err *err)
{
    const uint64_t n = block_meta(d->source)->n_series;
    nx_status st = NX_OK;

    for (uint64_t at = 0; at < n && !st; at += BATCH) {
        struct series_list list = {0};
        arena_reset(d->arena);
        st = blame(d, block_series_run(d->source, at, n - at < BATCH ? (size_t)(n - at) : BATCH,
                                       d->arena, &list, err));
        for (size_t i = 0; i < list.n && !st; i++) {
            if (d->c->stop && atomic_load(d->c->stop))
                st = nx_fail(err, NX_CANCELED, "making points of samples was called off");
            else
                st = put_series(d, &list.v[i], err);
        }
    }
    if (!st && !block_meta(d->source)->resolution_ms &&
        d->given != block_meta(d->source)->n_samples) /* D2 */
        st = blame(d, nx_fail(err, NX_CORRUPT,
                              "block %s holds %llu samples, and not %llu as its meta.json says",
                              block_meta(d->source)->ulid, (unsigned long long)d->given,
                              (unsigned long long)block_meta(d->source)->n_samples));
    return st;
}

static nx_status open_writer(struct down *d, struct nx_err *err)
{
    const struct block_meta *from = block_meta(d->source);
    struct block_parent parent = {.min_ms = from->min_ms, .max_ms = from->max_ms};
    struct block_writer_opts o = {.fs = d->c->fs,
                                  .dir = d->c->dir,
                                  .ulid = d->c->ulid,
                                  .min_ms = from->min_ms,
                                  .max_ms = from->max_ms,
                                  .level = from->level + 1,
                                  .sources = (const char(*)[BLOCK_ULID_LEN + 1]) from->sources,
                                  .n_sources = from->n_sources,
                                  .parents = &parent,
                                  .n_parents = 1,
                                  .late = from->late,
                                  .resolution_ms = d->resolution_ms};

    memcpy(parent.ulid, from->ulid, sizeof parent.ulid);
    d->meta = (struct block_meta){
        .min_ms = from->min_ms, .max_ms = from->max_ms, .resolution_ms = d->resolution_ms};
    return block_writer_open(&d->w, &o, err);
}

nx_status compact_downsample(const struct compact_merge *c, int64_t resolution_ms,
                             struct compact_result *res, struct nx_err *err)
{
    struct down d = {.c = c, .res = res, .source = c->source[0], .resolution_ms = resolution_ms};
    struct block_meta meta = {0};
    nx_status st;

    NX_ASSERT(c->n == 1 && resolution_ms > 0);
    *res = (struct compact_result){.bad = COMPACT_NONE};
    d.arena = arena_new(0);
    d.scratch = chunk_scratch_new();
    st = d.arena && d.scratch ? open_writer(&d, err) : no_memory(err);
    if (!st)
        st = put_all(&d, err);
    if (!st)
        st = block_writer_commit(d.w, &meta, err);
    res->samples = meta.n_samples;
    block_meta_done(&meta);
    block_writer_close(d.w);
    samples_done(&d.rows);
    samples_done(&d.buffers.column);
    coarse_points_done(&d.in);
    coarse_points_done(&d.out);
    chunk_scratch_free(d.scratch);
    arena_free(d.arena);
    return st;
}
