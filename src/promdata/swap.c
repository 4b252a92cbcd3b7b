/* swap.c - puts an import in the place of what it came from.
 *
 * WHY      Who swaps the image wants to change nothing else: the folder that the flag or the volume names must be
 *          Narthex's then. Prometheus's files stay, in the folder `prometheus` within.
 * RULES    S1  Only renames, within one file system, each of which a later call finds done or to be done. A file in the
 *              import's folder says that the import is complete and the moving has begun.
 *          S2  `chunks_head` goes last, and is made if it is missing: while it is there, a server does not
 *              take the folder for its own, so it never starts over a half of the blocks. */
#include "src/promdata/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK  "moving"
#define OLD   "prometheus"
#define GUARD "chunks_head"

struct swap {
    struct fs *fs;
    const char *dir;
    char *new_dir, *old_dir, *mark;
};

static nx_status nomem(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for moving an import");
}

static nx_status swap_init(struct swap *s, struct fs *fs, const char *dir, struct nx_err *err)
{
    *s = (struct swap){.fs = fs, .dir = dir};
    if (asprintf(&s->new_dir, "%s/" PROMDATA_FOLDER, dir) < 0)
        s->new_dir = NULL;
    if (asprintf(&s->old_dir, "%s/" OLD, dir) < 0)
        s->old_dir = NULL;
    if (asprintf(&s->mark, "%s/" PROMDATA_FOLDER "/" MARK, dir) < 0)
        s->mark = NULL;
    return s->new_dir && s->old_dir && s->mark ? NX_OK : nomem(err);
}

static void swap_done(struct swap *s)
{
    free(s->new_dir);
    free(s->old_dir);
    free(s->mark);
}

static nx_status move(struct swap *s, const char *from_dir, const char *to_dir, const char *name,
                      struct nx_err *err)
{
    char *from = NULL, *to = NULL;
    nx_status st;

    if (asprintf(&from, "%s/%s", from_dir, name) < 0)
        from = NULL;
    if (asprintf(&to, "%s/%s", to_dir, name) < 0)
        to = NULL;
    st = from && to ? s->fs->rename(s->fs, from, to, err) : nomem(err);
    free(from);
    free(to);
    return st;
}

static bool starts(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

/* A block that was being made or deleted when Prometheus was killed. */
static bool is_half(const char *name)
{
    char ulid[PD_ULID_SIZE] = {0};

    memcpy(ulid, name, strnlen(name, PD_ULID_SIZE - 1));
    return pd_is_ulid(ulid) && starts(name + PD_ULID_SIZE - 1, ".tmp");
}

/* What Prometheus puts beside its blocks. */
static nx_status is_theirs(struct swap *s, const char *name, bool *is, struct nx_err *err)
{
    static const char *const names[] = {
        "wal", "wbl", "queries.active", "lock", "snapshots", "chunk_snapshot", "wal.tmp"};

    *is = starts(name, "chunk_snapshot.") || is_half(name);
    for (size_t i = 0; i < NX_COUNT(names) && !*is; i++)
        *is = strcmp(name, names[i]) == 0;
    return *is ? NX_OK : pd_is_their_block(s->fs, s->dir, name, is, err);
}

static nx_status move_old(struct swap *s, struct nx_err *err)
{
    struct fs_names names = {0};
    nx_status st = s->fs->list(s->fs, s->dir, &names, err);

    for (size_t i = 0; i < names.n && !st; i++) {
        bool is;
        st = is_theirs(s, names.v[i], &is, err);
        if (!st && is)
            st = move(s, s->dir, s->old_dir, names.v[i], err);
    }
    fs_names_done(&names);
    return st;
}

static nx_status move_new(struct swap *s, struct nx_err *err)
{
    struct fs_names names = {0};
    nx_status st = s->fs->list(s->fs, s->new_dir, &names, err);

    for (size_t i = 0; i < names.n && !st; i++)
        if (pd_is_ulid(names.v[i]))
            st = move(s, s->new_dir, s->dir, names.v[i], err);
    fs_names_done(&names);
    return st;
}

/* Everything durable before the mark goes, and the mark before the guard. */
static nx_status finish(struct swap *s, struct nx_err *err)
{
    nx_status st = s->fs->sync_dir(s->fs, s->old_dir, err);

    if (!st)
        st = s->fs->sync_dir(s->fs, s->new_dir, err);
    if (!st)
        st = s->fs->sync_dir(s->fs, s->dir, err);
    if (!st)
        st = move(s, s->dir, s->old_dir, GUARD, err);
    if (!st)
        st = s->fs->sync_dir(s->fs, s->dir, err);
    if (!st)
        st = fs_remove_tree(s->fs, s->new_dir, err);
    return st ? st : s->fs->sync_dir(s->fs, s->dir, err);
}

static nx_status guard(struct swap *s, struct nx_err *err)
{
    struct fs_stat stat;
    char *path;
    nx_status st = NX_OK;

    if (asprintf(&path, "%s/" GUARD, s->dir) < 0)
        return nomem(err);
    if (s->fs->stat(s->fs, path, &stat, NULL))
        st = s->fs->mkdir(s->fs, path, err);
    if (!st)
        st = s->fs->sync_dir(s->fs, s->dir, err);
    free(path);
    return st;
}

bool promdata_is_moving(struct fs *fs, const char *dir)
{
    struct fs_stat stat;
    struct swap s;
    const bool is = !swap_init(&s, fs, dir, NULL) && fs->stat(fs, s.mark, &stat, NULL) == NX_OK;

    swap_done(&s);
    return is;
}

/* After the guard has gone, what may be left is the emptied folder of the import with its mark. */
static bool only_to_clean(struct swap *s)
{
    struct fs_stat stat;
    char *path;
    bool is;

    if (asprintf(&path, "%s/" GUARD, s->old_dir) < 0)
        return false;
    is = s->fs->stat(s->fs, path, &stat, NULL) == NX_OK;
    free(path);
    return is;
}

nx_status promdata_swap(struct fs *fs, const char *dir, struct nx_err *err)
{
    struct fs_stat stat;
    struct swap s;
    nx_status st = swap_init(&s, fs, dir, err);

    if (!st && fs->stat(fs, s.mark, &stat, NULL)) {
        if (fs->stat(fs, s.old_dir, &stat, NULL) == NX_OK)
            st = nx_fail(err, NX_BADINPUT, "%s is there already; move it away first", s.old_dir);
        if (!st)
            st = fs_publish(fs, s.mark, "", 0, err); /* S1 */
    } else if (!st && only_to_clean(&s)) {
        st = fs_remove_tree(fs, s.new_dir, err);
        swap_done(&s);
        return st;
    }
    if (!st)
        st = guard(&s, err);
    if (!st)
        st = fs->mkdir(fs, s.old_dir, err);
    if (!st)
        st = move_old(&s, err);
    if (!st)
        st = move_new(&s, err);
    if (!st)
        st = finish(&s, err);
    swap_done(&s);
    return st;
}
