/* compact_merge.c - one block out of several.
 *
 * SHAPE   A cursor a source walks its series in label order, some at a time; the least label set is next,
 *         and all sources that have it give their samples. Time is cut into windows, each of whole
 *         sources that follow one another, so that a series's samples of one window make one chunk.
 * RULES   M1  In memory are: labels of a few series a source, samples of one series in one window, and
 *             what the writer keeps of each series for the index. Nothing grows with the samples.
 *         M2  Windows are cut by time and the same for all series, so series that were sampled together
 *             still share their timestamps: the writer finds equal vectors.
 *         M3  Of equal times the first source's sample is kept, as readers do (Q3 of querier.c).
 *         M4  Nothing is left out in silence: what each source gave is counted and must be what its
 *             meta.json says, and what was written must be what came, less what the caller's
 *             times leave out, which is counted, too. Damage ends the merge.
 *         M5  What is deleted in a source does not come; that is counted as well. */
#include "storage/compact.h"

#include <stdlib.h>
#include <string.h>

#define BATCH       128u  /* series whose labels a cursor holds */
#define WINDOW_ROWS 8192u /* rows of a series that a window aims at, at most */

struct cursor {
    struct arena *arena;
    struct series_list batch;
    size_t at;
    uint64_t next; /* number of the first series behind the batch */
};

struct window {
    size_t from, to; /* sources, `to` exclusive */
};

struct merge {
    const struct compact_merge *c;
    struct compact_result *res;
    struct cursor *cursors;
    bool *has; /* by source: it has the series at hand */
    uint64_t *given, written;
    struct window *windows;
    size_t n_windows;
    struct samples rows, both;
    int64_t from_ms; /* of the series at hand */
    struct chunk_scratch *scratch;
    struct block_writer *w;
};

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for merging blocks");
}

static const struct block_meta *meta_of(const struct merge *m, size_t source)
{
    return block_meta(m->c->source[source]);
}

/* A source that can't be read is named in the result, for the caller to leave it alone. */
static nx_status blame(struct merge *m, size_t source, nx_status st)
{
    if (st == NX_CORRUPT || st == NX_IO)
        m->res->bad = source;
    return st;
}

/* ---- windows --------------------------------------------------------------------------------- */

/* Rows that an average series has in the source. */
static uint64_t rows_of(const struct block_meta *meta)
{
    return meta->n_series ? meta->n_samples / meta->n_series : 0;
}

/* M2. What overlaps stays together. */
static void cut_windows(struct merge *m)
{
    int64_t max_ms = INT64_MIN;
    uint64_t rows = 0, cluster_rows = 0;
    size_t cluster = 0;

    for (size_t i = 0; i < m->c->n; i++) {
        const struct block_meta *meta = meta_of(m, i);
        if (i && meta->min_ms >= max_ms) {
            cluster = i;
            cluster_rows = 0;
        }
        rows += rows_of(meta);
        cluster_rows += rows_of(meta);
        max_ms = meta->max_ms > max_ms ? meta->max_ms : max_ms;
        if (i == 0 || (rows > WINDOW_ROWS && cluster > m->windows[m->n_windows - 1].from)) {
            m->windows[m->n_windows++].from = cluster;
            rows = cluster_rows;
            if (i)
                m->windows[m->n_windows - 2].to = cluster;
        }
        m->windows[m->n_windows - 1].to = i + 1;
    }
}

/* ---- series in order ------------------------------------------------------------------------- */

/* Makes sure that the cursor stands on a series, unless there is none left. */
static nx_status refill(struct merge *m, size_t source, struct nx_err *err)
{
    struct cursor *cur = &m->cursors[source];
    const uint64_t left = meta_of(m, source)->n_series - cur->next;
    const size_t n = left < BATCH ? (size_t)left : BATCH;
    nx_status st;

    if (cur->at < cur->batch.n)
        return NX_OK;
    cur->batch = (struct series_list){0};
    cur->at = 0;
    if (n == 0)
        return NX_OK;
    arena_reset(cur->arena);
    st = block_series_run(m->c->source[source], cur->next, n, cur->arena, &cur->batch, err);
    cur->next += n;
    return blame(m, source, st);
}

static const struct labels *at_cursor(const struct merge *m, size_t source)
{
    const struct cursor *cur = &m->cursors[source];

    return cur->at < cur->batch.n ? &cur->batch.v[cur->at].labels : NULL;
}

/* The least label set, and in `has` who has it; NULL at the end. */
static const struct labels *next_series(struct merge *m)
{
    const struct labels *least = NULL;

    for (size_t i = 0; i < m->c->n; i++) {
        const struct labels *ls = at_cursor(m, i);
        int c = ls && least ? labels_cmp(ls, least) : -1;
        m->has[i] = ls && c <= 0;
        if (!ls || c >= 0)
            continue;
        least = ls;
        memset(m->has, 0, i * sizeof *m->has);
    }
    return least;
}

static nx_status advance(struct merge *m, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < m->c->n && !st; i++) {
        m->cursors[i].at += m->has[i];
        st = refill(m, i, err);
    }
    return st;
}

/* ---- samples --------------------------------------------------------------------------------- */

/* Merges rows[0..mid) with rows[mid..n), each ascending (M3). */
static nx_status merge_rows(struct merge *m, size_t mid, struct nx_err *err)
{
    const struct samples *in = &m->rows;
    struct samples *out = &m->both;
    size_t i = 0, k = mid;
    nx_status st;

    out->n = 0;
    st = samples_reserve(out, in->n, err);
    while (!st && (i < mid || k < in->n)) {
        bool second = i == mid || (k < in->n && in->t[k] < in->t[i]);
        if (!second && k < in->n && in->t[k] == in->t[i]) {
            k++;
            m->res->dropped++;
        }
        out->t[out->n] = in->t[second ? k : i];
        out->v[out->n++] = in->v[second ? k : i];
        if (second)
            k++;
        else
            i++;
    }
    if (!st) {
        struct samples swap = m->rows;
        m->rows = m->both;
        m->both = swap;
    }
    return st;
}

static nx_status read_source(struct merge *m, size_t source, struct nx_err *err)
{
    const struct cursor *cur = &m->cursors[source];
    const struct block_meta *meta = meta_of(m, source);
    struct samples *rows = &m->rows;
    const size_t had = rows->n;
    const uint64_t ref = cur->batch.v[cur->at].ref;
    nx_status st = block_read_sealed(m->c->source[source], ref, meta->min_ms, meta->max_ms - 1,
                                     rows, m->scratch, err);

    for (size_t i = had + 1; i < rows->n && !st; i++)
        if (rows->t[i] <= rows->t[i - 1])
            st = nx_fail(err, NX_CORRUPT, "block %s: the times of a series do not ascend at %lld",
                         meta->ulid, (long long)rows->t[i]);
    if (st)
        return blame(m, source, st);
    m->given[source] += rows->n - had;
    m->res->deleted += block_drop_deleted(m->c->source[source], ref, rows, had);
    if (had && rows->n > had && rows->t[had] <= rows->t[had - 1])
        return merge_rows(m, had, err);
    return NX_OK;
}

/* Rows of a window that are too many for a chunk are cut by time, as M2 wants: at the middle of the
 * window, and again. */
static nx_status put_rows(struct merge *m, size_t from, size_t to, int64_t min_ms, int64_t max_ms,
                          struct nx_err *err)
{
    const struct samples *rows = &m->rows;
    uint32_t times = 0;
    nx_status st;

    while (to - from > CHUNK_MAX_ROWS) {
        const int64_t mid_ms = min_ms + (int64_t)(((uint64_t)max_ms - (uint64_t)min_ms) / 2);
        size_t mid = from;
        while (mid < to && rows->t[mid] < mid_ms)
            mid++;
        st = put_rows(m, from, mid, min_ms, mid_ms, err);
        if (st)
            return st;
        from = mid;
        min_ms = mid_ms;
    }
    if (from == to)
        return NX_OK;
    m->written += to - from;
    st = block_writer_times(m->w, rows->t + from, to - from, &times, err);
    return st ? st : block_writer_chunk(m->w, times, rows->v + from, to - from, err);
}

static nx_status put_window(struct merge *m, const struct window *win, struct nx_err *err)
{
    int64_t min_ms = meta_of(m, win->from)->min_ms, max_ms = INT64_MIN;
    size_t from = 0;
    nx_status st = NX_OK;

    m->rows.n = 0;
    for (size_t i = win->from; i < win->to && !st; i++) {
        max_ms = meta_of(m, i)->max_ms > max_ms ? meta_of(m, i)->max_ms : max_ms;
        if (m->has[i])
            st = read_source(m, i, err);
    }
    while (from < m->rows.n && m->rows.t[from] < m->from_ms)
        from++;
    m->res->expired += from;
    return st ? st : put_rows(m, from, m->rows.n, min_ms, max_ms, err);
}

static nx_status put_all(struct merge *m, struct nx_err *err)
{
    const struct labels *ls;
    nx_status st = NX_OK;

    for (size_t i = 0; i < m->c->n && !st; i++)
        st = refill(m, i, err);
    while (!st && (ls = next_series(m)) != NULL) {
        if (m->c->stop && atomic_load(m->c->stop))
            return nx_fail(err, NX_CANCELED, "merging blocks was called off");
        if (m->c->from_ms)
            m->from_ms = m->c->from_ms(m->c->ctx, ls);
        st = block_writer_series(m->w, ls, err);
        for (size_t i = 0; i < m->n_windows && !st; i++)
            st = put_window(m, &m->windows[i], err);
        if (!st)
            st = advance(m, err);
    }
    return st;
}

/* M4 */
static nx_status check_counts(struct merge *m, struct nx_err *err)
{
    uint64_t all = 0;

    for (size_t i = 0; i < m->c->n; i++) {
        const struct block_meta *meta = meta_of(m, i);
        all += m->given[i];
        if (m->given[i] != meta->n_samples)
            return blame(m, i,
                         nx_fail(err, NX_CORRUPT,
                                 "block %s holds %llu samples, and not %llu as its meta.json says",
                                 meta->ulid, (unsigned long long)m->given[i],
                                 (unsigned long long)meta->n_samples));
    }
    NX_ASSERT_ALWAYS(m->written == all - m->res->dropped - m->res->expired - m->res->deleted);
    return NX_OK;
}

/* ---- the new block --------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Origins of all sources, each once. */
static size_t gather_origins(const struct merge *m, char (*to)[BLOCK_ULID_LEN + 1])
{
    size_t n = 0, kept = 0;

    for (size_t i = 0; i < m->c->n; i++) {
        const struct block_meta *meta = meta_of(m, i);
        if (meta->n_sources)
            memcpy(to + n, meta->sources, meta->n_sources * sizeof *to);
        n += meta->n_sources;
    }
    qsort(to, n, sizeof *to, by_name);
    for (size_t i = 0; i < n; i++)
        if (!kept || strcmp(to[kept - 1], to[i]) != 0)
            memmove(to[kept++], to[i], sizeof *to);
    return kept;
}

static nx_status open_writer(struct merge *m, struct nx_err *err)
{
    struct block_writer_opts o = {
        .fs = m->c->fs, .dir = m->c->dir, .ulid = m->c->ulid, .n_parents = m->c->n};
    struct block_parent parents[COMPACT_MAX_SOURCES];
    char(*origins)[BLOCK_ULID_LEN + 1];
    size_t n = 0;
    nx_status st;

    o.min_ms = meta_of(m, 0)->min_ms;
    o.max_ms = INT64_MIN;
    o.late = true; /* if all are */
    for (size_t i = 0; i < m->c->n; i++) {
        const struct block_meta *meta = meta_of(m, i);
        parents[i] = (struct block_parent){.min_ms = meta->min_ms, .max_ms = meta->max_ms};
        memcpy(parents[i].ulid, meta->ulid, sizeof parents[i].ulid);
        o.min_ms = meta->min_ms < o.min_ms ? meta->min_ms : o.min_ms;
        o.max_ms = meta->max_ms > o.max_ms ? meta->max_ms : o.max_ms;
        o.level = meta->level >= o.level ? meta->level + 1 : o.level;
        o.late = o.late && meta->late;
        n += meta->n_sources;
    }
    origins = calloc(n + 1, sizeof *origins);
    if (!origins)
        return no_memory(err);
    o.parents = parents;
    o.n_sources = gather_origins(m, origins);
    o.sources = (const char(*)[BLOCK_ULID_LEN + 1]) origins;
    st = block_writer_open(&m->w, &o, err);
    free(origins);
    return st;
}

static nx_status prepare(struct merge *m, struct nx_err *err)
{
    const size_t n = m->c->n;

    m->cursors = calloc(n, sizeof *m->cursors);
    m->has = calloc(n, sizeof *m->has);
    m->given = calloc(n, sizeof *m->given);
    m->windows = calloc(n + 1, sizeof *m->windows);
    m->scratch = chunk_scratch_new();
    if (!m->cursors || !m->has || !m->given || !m->windows || !m->scratch)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        m->cursors[i].arena = arena_new(0);
        if (!m->cursors[i].arena)
            return no_memory(err);
    }
    cut_windows(m);
    return open_writer(m, err);
}

static void merge_done(struct merge *m)
{
    block_writer_close(m->w);
    for (size_t i = 0; m->cursors && i < m->c->n; i++)
        arena_free(m->cursors[i].arena);
    free(m->cursors);
    free(m->has);
    free(m->given);
    free(m->windows);
    samples_done(&m->rows);
    samples_done(&m->both);
    chunk_scratch_free(m->scratch);
}

nx_status compact_merge(const struct compact_merge *c, struct compact_result *res,
                        struct nx_err *err)
{
    struct merge m = {.c = c, .res = res, .from_ms = INT64_MIN};
    struct block_meta meta = {0};
    nx_status st;

    NX_ASSERT(c->n >= 1 && c->n <= COMPACT_MAX_SOURCES);
    *res = (struct compact_result){.bad = COMPACT_NONE};
    st = prepare(&m, err);
    if (!st)
        st = put_all(&m, err);
    if (!st)
        st = check_counts(&m, err);
    if (!st)
        st = block_writer_commit(m.w, &meta, err);
    res->samples = meta.n_samples;
    block_meta_done(&meta);
    merge_done(&m);
    return st;
}
