#include "src/promdata/import.h"

/* import.c - an import from start to end.
 *
 * SHAPE    Locks; what is there; blocks (import_blocks.c), cluster by cluster of those that overlap; the head
 *          (import_head.c); a look whether the folder stayed as it was.
 * RULES    P1  Nothing is written to `dir`. If its lock file is there, it is held to the end: Prometheus
 *              can't run, or start, on it.
 *          P2  A block that is written is named by a hash of its sources (names, sizes, tombstones) and its
 *              span. A name that is in `out`, or among the sources of a block there, is done.
 *          P3  `out` is held as a server would hold it. If a server holds it, blocks are put in all the
 *              same: they appear by one rename, and a server looks for new ones each minute. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/hash.h"

#define INDEX_MAGIC   0xbaaad700u
#define JUST_NOW_MS   120000
#define MAX_DEPTH     3u /* of folders that make the print */
#define TMP_SUFFIX    ".tmp-for-creation"
#define ULID_ALPHABET "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

static nx_status nomem(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for an import");
}

/* ---- small parts ----------------------------------------------------------------------------- */

void pd_name(char to[PD_ULID_SIZE], const char *from, int64_t time_ms, uint64_t print)
{
    const uint64_t random[2] = {hash_mix(print, 1), hash_mix(print, 2)};
    uint64_t t = time_ms > 0 ? (uint64_t)time_ms & ((1ull << 48) - 1) : 0;

    for (int i = 9; i >= 0; i--, t >>= 5)
        to[i] = ULID_ALPHABET[t & 31];
    if (from)
        memcpy(to, from, 10);
    for (unsigned i = 0; i < 16; i++)
        to[10 + i] = ULID_ALPHABET[random[i / 8] >> (5 * (i % 8)) & 31];
    to[26] = 0;
}

bool pd_is_ulid(const char *s)
{
    return strlen(s) == 26 && strspn(s, ULID_ALPHABET) == 26 && s[0] <= '7';
}

NX_PRINTF(2, 3) static void pd_note(struct pd_import *im, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (im->o->note)
        im->o->note(im->o->ctx, text);
}

void pd_wrote(struct pd_import *im, const struct storage_import_block *b)
{
    im->res->written++;
    im->res->samples += b->samples;
    if (im->o->block)
        im->o->block(im->o->ctx, b);
}

void pd_step(struct pd_import *im, const char *what)
{
    if (im->o->progress)
        im->o->progress(im->o->ctx, what, im->done, im->steps);
    im->done++;
}

nx_status pd_histogram_series(struct pd_import *im, const struct labels *ls, struct nx_err *err)
{
    const uint64_t hash = labels_hash(ls) | 1;
    size_t at;

    if (im->n_histograms * 2 >= im->cap_histograms) {
        const size_t cap = im->cap_histograms ? im->cap_histograms * 2 : 1024;
        uint64_t *v = calloc(cap, sizeof *v);
        if (!v)
            return nomem(err);
        for (size_t i = 0; i < im->cap_histograms; i++) {
            if (!im->histograms[i])
                continue;
            for (at = (im->histograms[i] >> 1) & (cap - 1); v[at]; at = (at + 1) & (cap - 1)) {
            }
            v[at] = im->histograms[i];
        }
        free(im->histograms);
        im->histograms = v;
        im->cap_histograms = cap;
    }
    for (at = (hash >> 1) & (im->cap_histograms - 1); im->histograms[at];
         at = (at + 1) & (im->cap_histograms - 1))
        if (im->histograms[at] == hash)
            return NX_OK;
    im->histograms[at] = hash;
    im->n_histograms++;
    im->res->histogram_series++;
    return NX_OK;
}

static void on_damage(void *ctx, const char *path, uint64_t offset, const char *what)
{
    const struct pd_import *im = ctx;

    if (im->o->damage)
        im->o->damage(im->o->ctx, path, offset, what);
}

/* ---- what is in `out` ------------------------------------------------------------------------ */

static nx_status add_present(void *ctx, const char *ulid, struct nx_err *err)
{
    struct pd_import *im = ctx;

    if (im->n_present == im->cap_present) {
        const size_t cap = im->cap_present ? im->cap_present * 2 : 64;
        void *p = realloc(im->present, cap * sizeof *im->present);
        if (!p)
            return nomem(err);
        im->present = p;
        im->cap_present = cap;
    }
    snprintf(im->present[im->n_present++], PD_ULID_SIZE, "%s", ulid);
    return NX_OK;
}

static int by_text(const void *x, const void *y)
{
    return strcmp(x, y);
}

bool pd_is_present(const struct pd_import *im, const char *name)
{
    return im->n_present &&
           bsearch(name, im->present, im->n_present, PD_ULID_SIZE, by_text) != NULL;
}

/* What an import that was killed left; nobody else writes there, as the lock is ours. */
static void remove_leftovers(struct pd_import *im)
{
    struct fs *fs = im->o->fs;
    struct fs_names names = {0};

    if (fs->list(fs, im->o->out, &names, NULL))
        return;
    for (size_t i = 0; i < names.n; i++) {
        const size_t n = strlen(names.v[i]);
        char *path;
        if (n != 26 + strlen(TMP_SUFFIX) || strcmp(names.v[i] + 26, TMP_SUFFIX) != 0 ||
            asprintf(&path, "%s/%s", im->o->out, names.v[i]) < 0)
            continue;
        if (fs_remove_tree(fs, path, NULL))
            pd_note(im, "%s could not be removed", path);
        free(path);
    }
    fs_names_done(&names);
}

/* What was just made is safe when the folders above it are synced; those that can't be are not ours. */
static void sync_parents(struct fs *fs, const char *path)
{
    char *dir = strdup(path);

    for (size_t i = dir ? strlen(dir) : 0; i-- > 0;) {
        if (dir[i] != '/')
            continue;
        dir[i] = 0;
        (void)!fs->sync_dir(fs, i ? dir : "/", NULL);
    }
    if (path[0] != '/')
        (void)!fs->sync_dir(fs, ".", NULL);
    free(dir);
}

/* P2, P3 */
static nx_status take_out(struct pd_import *im, struct fs_file **lock, struct nx_err *err)
{
    struct fs *fs = im->o->fs;
    char *path;
    nx_status st = NX_OK;

    if (!im->o->dry_run) {
        st = fs_mkdirs(fs, im->o->out, err);
        if (st)
            return st;
        sync_parents(fs, im->o->out);
        if (asprintf(&path, "%s/lock", im->o->out) < 0)
            return nomem(err);
        st = fs->lock(fs, path, lock, err);
        free(path);
        if (st == NX_UNAVAILABLE) {
            im->res->served = true;
            st = NX_OK;
        } else if (!st) {
            remove_leftovers(im);
        }
    }
    if (!st)
        st = storage_origins(fs, im->o->out, add_present, im, err);
    if (!st && im->n_present)
        qsort(im->present, im->n_present, sizeof *im->present, by_text);
    return st;
}

/* ---- what is in `dir` ------------------------------------------------------------------------ */

nx_status pd_is_their_block(struct fs *fs, const char *dir, const char *name, bool *is,
                            struct nx_err *err)
{
    struct fs_file *f = NULL;
    uint8_t magic[4];
    char path[4096];
    size_t got = 0;
    nx_status st;

    *is = false;
    if (!pd_is_ulid(name) ||
        snprintf(path, sizeof path, "%s/%s/index", dir, name) >= (int)sizeof path)
        return NX_OK;
    st = fs->open(fs, path, FS_READ, &f, err);
    if (!st)
        st = fs->pread(fs, f, magic, sizeof magic, 0, &got, err);
    fs->close(fs, f);
    *is = !st && got == sizeof magic && pd_u32(magic) == INDEX_MAGIC;
    return st == NX_NOMEM ? st : NX_OK;
}

static bool has(struct fs *fs, const char *dir, const char *name, struct fs_stat *stat)
{
    char path[4096];

    return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path &&
           fs->stat(fs, path, stat, NULL) == NX_OK;
}

static nx_status is_their_folder(struct fs *fs, const char *dir, bool *is, struct nx_err *err)
{
    struct fs_names names = {0};
    struct fs_stat stat;
    nx_status st = NX_OK;

    *is = has(fs, dir, "chunks_head", &stat) || has(fs, dir, "wal/00000000", &stat);
    if (*is || fs->stat(fs, dir, &stat, NULL))
        return NX_OK;
    st = fs->list(fs, dir, &names, err);
    for (size_t i = 0; i < names.n && !*is && !st; i++)
        st = pd_is_their_block(fs, dir, names.v[i], is, err);
    fs_names_done(&names);
    return st;
}

/* Without a meta.json that says it: the span of the chunks that the index names. */
static nx_status span_of(struct pd_import *im, struct pd_block *b, struct pd_unit *u,
                         struct nx_err *err)
{
    bool end = false;
    nx_status st = NX_OK;

    u->min_ms = INT64_MAX;
    u->max_ms = INT64_MIN;
    im->damage.mute = true; /* it is told when the block is imported */
    while (!st && !end) {
        struct pd_series s;
        st = pd_block_next(b, &s, &end, err);
        for (size_t i = 0; !st && !end && i < s.n; i++) {
            u->min_ms = s.chunks[i].min_ms < u->min_ms ? s.chunks[i].min_ms : u->min_ms;
            u->max_ms = s.chunks[i].max_ms >= u->max_ms && s.chunks[i].max_ms < INT64_MAX
                            ? s.chunks[i].max_ms + 1
                            : u->max_ms;
        }
    }
    im->damage.mute = false;
    return st;
}

static nx_status add_unit(struct pd_import *im, const char *name, struct nx_err *err)
{
    struct pd_unit *u = realloc(im->units, (im->n_units + 1) * sizeof *u);
    struct pd_block *b = NULL;
    struct nx_err why = {0};
    char *dir;
    nx_status st;

    if (!u || asprintf(&dir, "%s/%s", im->o->dir, name) < 0) {
        im->units = u ? u : im->units;
        return nomem(err);
    }
    im->units = u;
    u += im->n_units;
    *u = (struct pd_unit){0};
    memcpy(u->name, name, PD_ULID_SIZE - 1);
    im->res->blocks++;
    st = pd_block_open(&b, im->o->fs, dir, &im->damage, &why);
    if (st && st != NX_NOMEM) {
        pd_tell(&im->damage, dir, 0, "the block can't be read: %s", why.text);
        im->res->blocks_refused++;
        st = NX_OK;
    } else if (!st) {
        const struct pd_meta *m = pd_block_meta(b);
        u->print = pd_block_print(b);
        if (m) {
            u->min_ms = m->min_ms;
            u->max_ms = m->max_ms;
            u->aside = m->aside;
        } else {
            st = span_of(im, b, u, &why);
        }
        im->n_units += !st;
    }
    pd_block_close(b);
    free(dir);
    return st ? nx_fail(err, st, "%s", why.text) : NX_OK;
}

static int by_time(const void *x, const void *y)
{
    const struct pd_unit *a = x, *b = y;

    if (a->min_ms != b->min_ms)
        return a->min_ms < b->min_ms ? -1 : 1;
    return strcmp(a->name, b->name);
}

static nx_status find_units(struct pd_import *im, struct nx_err *err)
{
    struct fs *fs = im->o->fs;
    struct fs_names names = {0};
    nx_status st = fs->list(fs, im->o->dir, &names, err);

    for (size_t i = 0; i < names.n && !st; i++) {
        struct fs_stat stat;
        bool is;
        if (!pd_is_ulid(names.v[i]))
            continue;
        st = pd_is_their_block(fs, im->o->dir, names.v[i], &is, err);
        if (st)
            break;
        if (is) {
            st = add_unit(im, names.v[i], err);
        } else if (has(fs, im->o->dir, names.v[i], &stat) && stat.is_dir) {
            pd_tell(&im->damage, names.v[i], 0, "this folder is not a block of Prometheus");
            im->res->blocks++;
            im->res->blocks_refused++;
        }
    }
    if (im->n_units)
        qsort(im->units, im->n_units, sizeof *im->units, by_time);
    im->min_valid_ms = INT64_MIN;
    for (size_t i = 0; i < im->n_units; i++)
        if (!im->units[i].aside && im->units[i].max_ms > im->min_valid_ms)
            im->min_valid_ms = im->units[i].max_ms;
    fs_names_done(&names);
    return st;
}

/* Names and sizes of all that an import reads, and the newest time at which one of the files changed. */
static uint64_t print_of(struct fs *fs, const char *dir, unsigned depth, int64_t *newest_ms)
{
    struct fs_names names = {0};
    uint64_t print = depth;

    if (fs->list(fs, dir, &names, NULL))
        return print;
    for (size_t i = 0; i < names.n; i++) {
        const char *name = names.v[i];
        struct fs_stat stat;
        char *path;
        if (depth == 0 && !pd_is_ulid(name) && strcmp(name, "wal") != 0 &&
            strcmp(name, "wbl") != 0 && strcmp(name, "chunks_head") != 0)
            continue;
        if (asprintf(&path, "%s/%s", dir, name) < 0)
            break;
        if (!fs->stat(fs, path, &stat, NULL)) {
            print = hash_mix(print, hash_bytes(name, strlen(name)));
            if (stat.is_dir && depth < MAX_DEPTH)
                print = hash_mix(print, print_of(fs, path, depth + 1, newest_ms));
            else if (!stat.is_dir)
                print = hash_mix(print, stat.bytes);
            if (!stat.is_dir && stat.mtime_ms > *newest_ms)
                *newest_ms = stat.mtime_ms;
        }
        free(path);
    }
    fs_names_done(&names);
    return print;
}

/* P1 */
static nx_status take_dir(struct pd_import *im, struct fs_file **lock, struct nx_err *err)
{
    struct fs *fs = im->o->fs;
    struct nx_err why = {0};
    struct fs_stat stat;
    bool theirs;
    char *path;
    nx_status st = fs->stat(fs, im->o->dir, &stat, err);

    if (st)
        return st;
    if (promdata_is_moving(fs, im->o->dir))
        return nx_fail(err, NX_BADINPUT,
                       "an import in place of %s was interrupted; finish it with --in-place",
                       im->o->dir);
    st = is_their_folder(fs, im->o->dir, &theirs, err);
    if (st)
        return st;
    if (!theirs)
        return nx_fail(err, NX_BADINPUT,
                       "%s is not a data folder of Prometheus: it has no blocks of its and no head",
                       im->o->dir);
    st = is_their_folder(fs, im->o->out, &theirs, err);
    if (st)
        return st;
    if (theirs && !im->o->dry_run)
        return nx_fail(err, NX_BADINPUT,
                       "%s is a data folder of Prometheus; choose another one to write to",
                       im->o->out);
    if (!has(fs, im->o->dir, "lock", &stat))
        return NX_OK;
    if (asprintf(&path, "%s/lock", im->o->dir) < 0)
        return nomem(err);
    st = fs->lock(fs, path, lock, &why);
    if (st == NX_UNAVAILABLE)
        st = nx_fail(err, st,
                     "a Prometheus is running on %s (it holds the file `lock`): stop it first, or "
                     "import a snapshot",
                     im->o->dir);
    else if (st) {
        pd_note(im, "%s; make sure that no Prometheus runs on the folder", why.text);
        st = NX_OK;
    }
    free(path);
    return st;
}

static nx_status import_all(struct pd_import *im, struct nx_err *err)
{
    struct fs *fs = im->o->fs;
    int64_t newest_ms = 0, later_ms = 0;
    const uint64_t print = print_of(fs, im->o->dir, 0, &newest_ms);
    const int64_t age_ms = clock_now_ms() - newest_ms;
    struct fs_stat stat;
    nx_status st = find_units(im, err);

    if (!st && age_ms >= 0 && age_ms < JUST_NOW_MS && !has(fs, im->o->dir, "lock", &stat))
        pd_note(im,
                "%s was written %" PRId64 " s ago; make sure that no Prometheus runs on it without "
                "a lock file",
                im->o->dir, age_ms / 1000);
    if (!st)
        st = pd_import_blocks(im, err);
    if (!st)
        st = pd_import_head(im, print, err);
    im->res->changed = !st && print_of(fs, im->o->dir, 0, &later_ms) != print;
    return st;
}

nx_status promdata_import(const struct promdata_opts *o, struct promdata_result *res,
                          struct nx_err *err)
{
    struct pd_import im = {.o = o, .res = res};
    struct fs_file *dir_lock = NULL, *out_lock = NULL;
    nx_status st;

    *res = (struct promdata_result){0};
    im.damage = (struct pd_damage){.tell = on_damage, .ctx = &im};
    st = take_dir(&im, &dir_lock, err);
    if (!st)
        st = take_out(&im, &out_lock, err);
    if (!st)
        st = import_all(&im, err);
    res->damaged = im.damage.n;
    if (dir_lock)
        o->fs->unlock(o->fs, dir_lock);
    if (out_lock)
        o->fs->unlock(o->fs, out_lock);
    free(im.units);
    free(im.present);
    free(im.histograms);
    return st;
}
