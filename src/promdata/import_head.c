/* import_head.c - the head of Prometheus to blocks of Narthex.
 *
 * SHAPE    The log is read twice. First for what defines: series, and what was deleted. Then chunks of the head that
 *          were written out, the samples of the log, and those of the log of what came out of order all go into one
 *          storage_import, which sorts and cuts them and drops what it has twice.
 * RULES    E1  Before min_valid (the end of the newest block) the head's samples in order are not served by
 *              Prometheus: they are in that block. So they are left out here, and those that no block spans are
 *              counted apart.
 *          E2  A sample of the log that is not newer than the last one of its series in the log was
 *              refused as Prometheus logged it, or is in the log of what came out of order as well.
 *          E3  A sample of the log within the head's chunks of its series is in them; unless a chunk was
 *              damaged, which the log then makes good.
 *          E4  Tombstones hold for a series whenever its samples came. One over all times says that the
 *              series, as far as it was logged, went to a block of its own.
 *          E5  A series may have several numbers; a number belongs to the series that it was given last. */
#include "src/promdata/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/num.h"

#define BLOCK_MS (2 * PD_HOUR_MS)
#define NONE     UINT32_MAX

struct ref {
    uint64_t ref;    /* 0: free */
    uint64_t record; /* that defined it */
    uint32_t series;
};
struct head_series {
    int64_t last_ms;   /* newest of the log so far */
    int64_t chunks_ms; /* newest of the head's chunks */
    uint64_t last_bits;
    uint64_t gone; /* number of the record that deleted it as a whole (E4) */
    bool stones, histogram;
};

struct head {
    struct pd_import *im;
    struct storage_import *to;
    struct pd_wal wal;
    struct head_series *series;
    size_t n_series, cap_series;
    struct ref *refs;
    size_t n_refs, cap_refs;
    struct pd_stones stones; /* ref: the series */
    struct pd_samples samples;
    uint64_t print, added;
    uint64_t
        first_record; /* of the second reading, so that records have the same numbers in both */
    bool chunks_whole, defining;
    char *wal_dir, *wbl_dir, *chunks_dir;
    char *checkpoint; /* NULL: there is none */
    int64_t checkpoint_number;
};

static nx_status nomem(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for the head of a Prometheus");
}

/* ---- series by number ------------------------------------------------------------------------ */

static struct ref *slot_of(const struct head *h, uint64_t ref)
{
    size_t at = (size_t)(hash_mix(ref, 0) & (h->cap_refs - 1));

    while (h->refs[at].ref && h->refs[at].ref != ref)
        at = (at + 1) & (h->cap_refs - 1);
    return &h->refs[at];
}

static struct ref *find(const struct head *h, uint64_t ref)
{
    struct ref *r = h->cap_refs && ref ? slot_of(h, ref) : NULL;

    return r && r->ref ? r : NULL;
}

static nx_status more_refs(struct head *h, struct nx_err *err)
{
    struct ref *old = h->refs;
    const size_t n = h->cap_refs, cap = n ? n * 2 : 1024;

    h->refs = calloc(cap, sizeof *h->refs);
    if (!h->refs) {
        h->refs = old;
        return nomem(err);
    }
    h->cap_refs = cap;
    for (size_t i = 0; i < n; i++)
        if (old[i].ref)
            *slot_of(h, old[i].ref) = old[i];
    free(old);
    return NX_OK;
}

static uint64_t record_now(const struct head *h)
{
    return h->wal.records - h->first_record;
}

/* E5 */
static nx_status on_series(void *ctx, uint64_t ref, const struct labels *ls, struct nx_err *err)
{
    struct head *h = ctx;
    uint32_t series = 0;
    struct ref *r;
    nx_status st;

    if (ref == 0)
        return NX_OK;
    st = storage_import_series(h->to, ls, &series, err);
    if (!st && h->n_refs * 2 >= h->cap_refs)
        st = more_refs(h, err);
    if (st)
        return st;
    if (series >= h->cap_series) {
        const size_t cap = h->cap_series ? h->cap_series * 2 : 1024;
        struct head_series *v = realloc(h->series, cap * sizeof *v);
        if (!v)
            return nomem(err);
        h->series = v;
        h->cap_series = cap;
    }
    for (; h->n_series <= series; h->n_series++)
        h->series[h->n_series] = (struct head_series){.last_ms = INT64_MIN, .chunks_ms = INT64_MIN};
    r = slot_of(h, ref);
    h->n_refs += r->ref == 0;
    *r = (struct ref){.ref = ref, .record = record_now(h), .series = series};
    if (!h->defining && h->series[series].histogram)
        return pd_histogram_series(h->im, ls, err);
    return NX_OK;
}

/* E4 */
static nx_status on_stone(void *ctx, uint64_t ref, int64_t min_ms, int64_t max_ms,
                          struct nx_err *err)
{
    struct head *h = ctx;
    const struct ref *r = find(h, ref);

    if (!r || min_ms > max_ms)
        return NX_OK;
    if (min_ms == INT64_MIN && max_ms == INT64_MAX) {
        h->series[r->series].gone = record_now(h);
        return NX_OK;
    }
    h->series[r->series].stones = true;
    return pd_stones_add(&h->stones, r->series, min_ms, max_ms, err);
}

/* Only to know which series have them, when their labels come by once more. */
static nx_status on_histogram_seen(void *ctx, uint64_t ref, int64_t t_ms, struct nx_err *err)
{
    struct head *h = ctx;
    const struct ref *r = find(h, ref);

    (void)err;
    if (r && t_ms >= h->im->min_valid_ms) {
        h->series[r->series].histogram = true;
        h->im->res->histogram_samples++;
    }
    return NX_OK;
}

static nx_status on_late_histogram_seen(void *ctx, uint64_t ref, int64_t t_ms, struct nx_err *err)
{
    struct head *h = ctx;
    const struct ref *r = find(h, ref);

    (void)t_ms;
    (void)err;
    if (r)
        h->series[r->series].histogram = true;
    h->im->res->histogram_samples++;
    return NX_OK;
}

/* ---- samples --------------------------------------------------------------------------------- */

static bool is_deleted(const struct head *h, uint32_t series, int64_t t)
{
    size_t n;
    const struct pd_stone *v;

    if (!h->series[series].stones)
        return false;
    v = pd_stones_of(&h->stones, series, &n);
    return pd_stones_hold(v, n, t);
}

static nx_status add(struct head *h, uint32_t series, int64_t t, double v, struct nx_err *err)
{
    if (t == INT64_MIN || t == INT64_MAX)
        return NX_OK; /* no clock says so */
    if (is_deleted(h, series, t)) {
        h->im->res->deleted++;
        return NX_OK;
    }
    h->added++;
    return storage_import_add(h->to, series, t, v, err);
}

/* E1 */
static void too_old(struct head *h, int64_t t)
{
    const struct pd_import *im = h->im;

    for (size_t i = 0; i < im->n_units; i++) {
        if (im->units[i].min_ms <= t && t < im->units[i].max_ms) {
            im->res->covered++;
            return;
        }
    }
    im->res->uncovered++;
}

static nx_status on_sample(void *ctx, uint64_t ref, int64_t t, double v, struct nx_err *err)
{
    struct head *h = ctx;
    const struct ref *r = find(h, ref);
    struct head_series *s;

    if (t < h->im->min_valid_ms) {
        too_old(h, t);
        return NX_OK;
    }
    if (!r) {
        h->im->res->unknown_samples++;
        return NX_OK;
    }
    s = &h->series[r->series];
    if (record_now(h) < s->gone) {
        h->im->res->covered++;
        return NX_OK;
    }
    if (t <= s->last_ms) { /* E2 */
        if (t == s->last_ms && num_bits(v) == s->last_bits)
            h->im->res->equal++;
        else
            h->im->res->late++;
        return NX_OK;
    }
    s->last_ms = t;
    s->last_bits = num_bits(v);
    if (h->chunks_whole && t <= s->chunks_ms) /* E3 */
        return NX_OK;
    return add(h, r->series, t, v, err);
}

/* Of what came out of order. */
static nx_status on_late_sample(void *ctx, uint64_t ref, int64_t t, double v, struct nx_err *err)
{
    struct head *h = ctx;
    const struct ref *r = find(h, ref);

    if (!r) {
        h->im->res->unknown_samples++;
        return NX_OK;
    }
    return add(h, r->series, t, v, err);
}

static nx_status on_chunk(void *ctx, const struct pd_head_chunk *c, struct nx_err *err)
{
    struct head *h = ctx;
    const struct ref *r = find(h, c->ref);
    struct nx_err why = {0};
    nx_status st;

    if (pd_is_histogram(c->encoding))
        return NX_OK; /* the log has them, too, and there they are counted */
    h->samples.n = 0;
    st = pd_chunk_decode(c->encoding, c->bytes, c->len, &h->samples, &why);
    if (st == NX_NOMEM)
        return nomem(err);
    if (st) {
        pd_tell(&h->im->damage, c->path, c->at, "%s", why.text);
        return NX_OK;
    }
    if (!r) {
        h->im->res->unknown_samples += h->samples.n;
        return NX_OK;
    }
    if (r->record < h->series[r->series].gone)
        return NX_OK;
    for (size_t i = 0; i < h->samples.n && !st; i++) {
        const int64_t t = h->samples.t[i];
        if (!c->out_of_order && t < h->im->min_valid_ms)
            continue;
        st = add(h, r->series, t, h->samples.v[i], err);
        if (!c->out_of_order && t > h->series[r->series].chunks_ms)
            h->series[r->series].chunks_ms = t;
    }
    return st;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The newest checkpoint, which stands for all segments up to its number. */
static nx_status find_checkpoint(struct head *h, struct nx_err *err)
{
    static const char prefix[] = "checkpoint.";
    struct fs *fs = h->im->o->fs;
    struct fs_names names = {0};
    struct fs_stat stat;
    int64_t number;
    nx_status st;

    h->checkpoint_number = -1;
    st = fs->stat(fs, h->wal_dir, &stat, err);
    if (st)
        return st == NX_NOTFOUND ? NX_OK : st;
    st = fs->list(fs, h->wal_dir, &names, err);
    for (size_t i = 0; i < names.n && !st; i++) {
        const char *name = names.v[i];
        if (strncmp(name, prefix, sizeof prefix - 1) != 0 ||
            !pd_segment_number(name + sizeof prefix - 1, &number) || number < h->checkpoint_number)
            continue;
        free(h->checkpoint);
        h->checkpoint_number = number;
        if (asprintf(&h->checkpoint, "%s/%s", h->wal_dir, name) < 0) {
            h->checkpoint = NULL;
            st = nomem(err);
        }
    }
    fs_names_done(&names);
    return st;
}

static nx_status read_log(struct head *h, struct pd_visitor *v, struct nx_err *err)
{
    nx_status st = NX_OK;

    h->first_record = h->wal.records;
    if (h->checkpoint)
        st = pd_wal_read(&h->wal, h->checkpoint, -1, false, v, err);
    if (!st)
        st = pd_wal_read(&h->wal, h->wal_dir, h->checkpoint_number, true, v, err);
    return st;
}

static nx_status read_all(struct head *h, struct nx_err *err)
{
    struct pd_visitor define = {
        .ctx = h, .series = on_series, .stone = on_stone, .histogram = on_histogram_seen};
    struct pd_visitor take = {.ctx = h, .series = on_series, .sample = on_sample};
    struct pd_visitor seen_late = {.ctx = h, .histogram = on_late_histogram_seen};
    struct pd_visitor late = {.ctx = h, .sample = on_late_sample};
    uint64_t before, records;
    nx_status st;

    h->defining = true;
    st = read_log(h, &define, err);
    if (!st)
        st = pd_wal_read(&h->wal, h->wbl_dir, -1, true, &seen_late, err);
    h->defining = false;
    records = h->wal.records;
    pd_stones_order(&h->stones);
    h->im->res->exemplar_records = define.exemplar_records;
    h->im->res->unknown_records = define.unknown_records + seen_late.unknown_records;
    h->im->res->torn = h->wal.torn;
    before = h->im->damage.n;
    if (!st)
        st = pd_head_chunks_read(h->im->o->fs, h->chunks_dir, &h->im->damage, on_chunk, h, err);
    h->chunks_whole = h->im->damage.n == before;
    h->wal.again = true;
    if (!st)
        st = read_log(h, &take, err);
    if (!st)
        st = pd_wal_read(&h->wal, h->wbl_dir, -1, true, &late, err);
    if (!st && h->wal.records != 2 * records) /* what is told is told of the first reading alone */
        st = nx_fail(err, NX_IO, "the log of Prometheus reads differently than a moment ago");
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

static bool on_name(void *ctx, int64_t from_ms, char ulid[PD_ULID_SIZE])
{
    struct head *h = ctx;

    pd_name(ulid, NULL, from_ms, hash_mix(h->print, (uint64_t)from_ms));
    if (!pd_is_present(h->im, ulid))
        return true;
    h->im->res->present++;
    return false;
}

static void on_block(void *ctx, const struct storage_import_block *b)
{
    struct head *h = ctx;

    pd_wrote(h->im, b);
}

static nx_status write_all(struct head *h, struct nx_err *err)
{
    uint64_t equal, conflicting;
    nx_status st;

    if (h->im->o->dry_run) {
        h->im->res->samples += h->added;
        return NX_OK;
    }
    storage_import_set_names(h->to, on_name, h);
    st = storage_import_finish(h->to, on_block, h, err);
    storage_import_dropped(h->to, &equal, &conflicting);
    h->im->res->equal += equal;
    h->im->res->conflicting += conflicting;
    return st;
}

static nx_status dirs(struct head *h, struct nx_err *err)
{
    const char *dir = h->im->o->dir;

    if (asprintf(&h->wal_dir, "%s/wal", dir) < 0)
        h->wal_dir = NULL;
    if (asprintf(&h->wbl_dir, "%s/wbl", dir) < 0)
        h->wbl_dir = NULL;
    if (asprintf(&h->chunks_dir, "%s/chunks_head", dir) < 0)
        h->chunks_dir = NULL;
    return h->wal_dir && h->wbl_dir && h->chunks_dir ? NX_OK : nomem(err);
}

nx_status pd_import_head(struct pd_import *im, uint64_t print, struct nx_err *err)
{
    struct head h = {.im = im, .print = hash_mix(print, 0x68656164)};
    /* A dry run needs the series, and what it would write is dropped at the end. */
    nx_status st = storage_import_open(&h.to, im->o->fs, im->o->out, BLOCK_MS, err);

    pd_step(im, "the head");
    if (!st)
        st = pd_wal_init(&h.wal, im->o->fs, &im->damage, err);
    if (!st)
        st = dirs(&h, err);
    if (!st)
        st = find_checkpoint(&h, err);
    if (!st)
        st = read_all(&h, err);
    if (!st)
        st = write_all(&h, err);
    storage_import_close(h.to);
    if (h.wal.fs)
        pd_wal_done(&h.wal);
    pd_stones_done(&h.stones);
    pd_samples_done(&h.samples);
    free(h.series);
    free(h.refs);
    free(h.wal_dir);
    free(h.wbl_dir);
    free(h.chunks_dir);
    free(h.checkpoint);
    return st;
}
