/* snapshot.c - the store as it is at one moment, as a data folder of its own.
 *
 * WHY     A backup wants files that do not change and belong together, without a stop and without the
 *         space of a second copy.
 * SHAPE   snapshots/NAME/ULID/: hard links of the files of each block, and blocks written of the head. A
 *         store can be opened on snapshots/NAME, or on a copy of it elsewhere.
 * RULES   N1  Blocks and head are taken while no flush and no merge is under way (turns.c), the head by a
 *             reader that sees no later rows: each sample is in it once. Merges may go on when the links
 *             are made; flushes when the head is written.
 *         N2  It is made under NAME.tmp-for-creation, synced, and renamed: there is all of it or none. What a
 *             crash leaves goes at the next start.
 *         N3  Where there are no links, files are copied.
 *         N4  A block that retention takes away meanwhile is left out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "storage/storage_impl.h"

#define COPY_BYTES (256u << 10)

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for a snapshot");
}

static char *path_of(const char *dir, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

static void make_name(char to[STORAGE_SNAPSHOT_NAME_BYTES], int64_t now_ms)
{
    const time_t now = (time_t)(now_ms / 1000);
    struct tm tm;
    uint64_t random = 0;

    gmtime_r(&now, &tm);
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        random = (uint64_t)clock_mono_ns() * 0x9e3779b97f4a7c15ull;
    to[strftime(to, 18, "%Y%m%dT%H%M%SZ-", &tm)] = 0;
    snprintf(to + strlen(to), 17, "%016llx", (unsigned long long)random);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* N3 */
static nx_status copy_file(struct fs *fs, const char *from, const char *to, struct nx_err *err)
{
    struct fs_file *in = NULL, *out = NULL;
    char *bytes = malloc(COPY_BYTES);
    uint64_t at = 0;
    size_t got = COPY_BYTES, wrote;
    nx_status st = bytes ? fs->open(fs, from, FS_READ, &in, err) : no_memory(err);

    if (!st)
        st = fs->open(fs, to, FS_WRITE | FS_CREATE | FS_TRUNCATE, &out, err);
    while (!st && got == COPY_BYTES) {
        st = fs->pread(fs, in, bytes, COPY_BYTES, at, &got, err);
        if (!st && got)
            st = fs->write(fs, out, bytes, got, &wrote, err);
        at += got;
    }
    if (!st)
        st = fs->sync(fs, out, err);
    fs->close(fs, in);
    fs->close(fs, out);
    free(bytes);
    return st;
}

static nx_status link_file(struct fs *fs, const char *from_dir, const char *to_dir,
                           const char *name, struct nx_err *err)
{
    char *from = path_of(from_dir, name), *to = path_of(to_dir, name);
    nx_status st = from && to ? fs->link(fs, from, to, err) : no_memory(err);

    if (st == NX_IO)
        st = copy_file(fs, from, to, err);
    free(from);
    free(to);
    return st;
}

static nx_status link_block(struct storage *s, struct block *b, const char *dir, struct nx_err *err)
{
    struct fs *fs = s->fs;
    struct fs_names names = {0};
    char *to = path_of(dir, block_meta(b)->ulid);
    nx_status st = to ? fs->list(fs, block_dir(b), &names, err) : no_memory(err);

    if (!st)
        st = fs->mkdir(fs, to, err);
    for (size_t i = 0; i < names.n && !st; i++) {
        if (!ends_with(names.v[i], ".tmp")) /* being published, or left by a crash */
            st = link_file(fs, block_dir(b), to, names.v[i], err);
    }
    if (!st)
        st = fs->sync_dir(fs, to, err);
    if (st && to && !blocks_has(s, b)) { /* N4 */
        log_info("A block went past its retention and is not in the snapshot", "block",
                 block_meta(b)->ulid);
        st = fs_remove_tree(fs, to, err);
    }
    fs_names_done(&names);
    free(to);
    return st;
}

static nx_status link_blocks(struct storage *s, const char *dir, struct nx_err *err)
{
    struct block **v = NULL;
    size_t n = 0;
    nx_status st = blocks_list(s, &v, &n, err);

    for (size_t i = 0; i < n && !st; i++) {
        st = link_block(s, v[i], dir, err);
        if (!st && atomic_load(&s->no_admin))
            st = nx_fail(err, NX_CANCELED, "the snapshot was called off");
    }
    blocks_list_done(v, n);
    return st;
}

/* ---- the head -------------------------------------------------------------------------------- */

/* The lowest time not before from_ms, late samples of spans that are blocks included. */
static int64_t lowest(struct storage *s, int64_t from_ms)
{
    int64_t rows_ms = head_lowest(s->head, from_ms);
    int64_t loose_ms = loose_lowest(s->head->loose, from_ms);

    return loose_ms < rows_ms ? loose_ms : rows_ms;
}

static nx_status write_head(struct storage *s, struct head_reader *r, int64_t max_ms,
                            const char *dir, struct nx_err *err)
{
    int64_t at_ms = lowest(s, INT64_MIN);
    nx_status st = NX_OK;

    while (at_ms <= max_ms && !st) {
        const int64_t start_ms = floor_div(at_ms, s->block_ms) * s->block_ms;
        int64_t end_ms = start_ms + s->block_ms;
        char ulid[BLOCK_ULID_LEN + 1];
        bool empty = false;
        if (end_ms > max_ms)
            end_ms = max_ms + 1;
        block_ulid(ulid, clock_now_ms());
        st = flush_write(s, r, dir, start_ms, end_ms, false, ulid, &empty, err);
        at_ms = end_ms > max_ms ? INT64_MAX : lowest(s, end_ms);
    }
    return st;
}

/* Has both turns; gives that for merging back as soon as it can. N1 */
static nx_status take(struct storage *s, bool skip_head, const char *dir, struct nx_err *err)
{
    struct head_reader *r = NULL;
    const int64_t max_ms = atomic_load(&s->head->max_ms);
    nx_status st = skip_head ? NX_OK : head_reader_new(&r, s->head, err);

    if (r)
        head_reader_skip(r, s->head_from_ms, true);
    if (!st)
        st = link_blocks(s, dir, err);
    work_give(s, WORK_MERGE);
    if (!st && !skip_head && max_ms != INT64_MIN)
        st = write_head(s, r, max_ms, dir, err);
    head_reader_free(r);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static nx_status make_folders(struct storage *s, const char *all, const char *tmp,
                              struct nx_err *err)
{
    nx_status st = fs_mkdirs(s->fs, all, err);

    if (!st)
        st = s->fs->sync_dir(s->fs, s->dir, err);
    if (!st)
        st = s->fs->mkdir(s->fs, tmp, err);
    return st;
}

static nx_status publish(struct storage *s, const char *all, const char *tmp, const char *to,
                         struct nx_err *err)
{
    nx_status st = s->fs->sync_dir(s->fs, tmp, err);

    if (!st)
        st = s->fs->rename(s->fs, tmp, to, err);
    if (!st)
        st = s->fs->sync_dir(s->fs, all, err);
    return st;
}

nx_status storage_snapshot(struct storage *s, bool skip_head,
                           char name[STORAGE_SNAPSHOT_NAME_BYTES], struct nx_err *err)
{
    char given[STORAGE_SNAPSHOT_NAME_BYTES];
    char *all = path_of(s->dir, STORAGE_SNAPSHOTS), *to = NULL, *tmp = NULL;
    nx_status st = NX_OK;

    make_name(given, clock_now_ms());
    if (!all || !(to = path_of(all, given)) || asprintf(&tmp, "%s" BLOCK_TMP_SUFFIX, to) < 0) {
        tmp = NULL;
        st = no_memory(err);
    }
    if (!st)
        st = make_folders(s, all, tmp, err);
    if (!st) {
        work_take(s, WORK_FLUSH | WORK_MERGE);
        st = take(s, skip_head, tmp, err);
        work_give(s, WORK_FLUSH);
    }
    if (!st)
        st = publish(s, all, tmp, to, err);
    if (!st)
        memcpy(name, given, sizeof given);
    else if (tmp)
        (void)!fs_remove_tree(s->fs, tmp, NULL); /* N2 */
    free(all);
    free(to);
    free(tmp);
    return st;
}

void snapshots_clean(struct storage *s)
{
    struct fs_names names = {0};
    char *all = path_of(s->dir, STORAGE_SNAPSHOTS);

    if (all && s->fs->list(s->fs, all, &names, NULL))
        names = (struct fs_names){0};
    for (size_t i = 0; i < names.n; i++) {
        char *path = ends_with(names.v[i], BLOCK_TMP_SUFFIX) ? path_of(all, names.v[i]) : NULL;
        if (path && !fs_remove_tree(s->fs, path, NULL))
            log_info("Removed an unfinished snapshot", "path", path);
        free(path);
    }
    fs_names_done(&names);
    free(all);
}
