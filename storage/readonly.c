/* readonly.c - a folder opened by who only looks: a tool, beside the server or without it.
 *
 * WHY     Opening replays the log, cuts its torn tail, sets damage aside, removes what is unfinished and
 *         begins a segment. None of that is a reader's to do, least of all while the owner is at work.
 * SHAPE   The store is opened as ever, without its threads and its lock, over a file system that keeps
 *         all changes in memory (src/base/fs_overlay.h). So there is one way to read a folder.
 * RULES   RO1  Nothing in the folder is made, changed, cut, removed or locked.
 *         RO2  A running owner moves rows from the log to blocks and blocks into others. What was opened
 *              is good if the names in the folder and the note on what blocks hold were the same
 *              before and after; else it is opened anew, a bounded number of times.
 *         RO3  The view is of that moment: what the owner appends later is not seen. Files of blocks are held
 *              open, so that they can be read after the owner deleted them. */
#include <stdlib.h>
#include <string.h>

#include "src/base/fs_overlay.h"
#include "storage/storage_impl.h"

#define TRIES        16
#define CHANGE_BYTES (512u << 20) /* damage copied aside, at most */
#define NOTE_BYTES   4096u

static nx_status look_into(struct fs *fs, const char *dir, const char *name, struct buf *out,
                           struct nx_err *err)
{
    struct fs_names names = {0};
    struct buf path;
    nx_status st;

    buf_init(&path, 0);
    buf_printf(&path, "%s/%s", dir, name);
    st = buf_status(&path, err);
    if (!st)
        st = fs->list(fs, buf_cstr(&path), &names, err);
    for (size_t i = 0; i < names.n; i++)
        buf_printf(out, "%s/%s\n", name, names.v[i]);
    if (st == NX_NOTFOUND)
        st = NX_OK;
    fs_names_done(&names);
    buf_done(&path);
    return st;
}

static nx_status look_at_note(struct fs *fs, const char *dir, struct buf *out, struct nx_err *err)
{
    struct buf path, text;
    nx_status st;

    buf_init(&path, 0);
    buf_init(&text, NOTE_BYTES);
    buf_printf(&path, "%s/wal/flushed", dir);
    st = buf_status(&path, err);
    if (!st)
        st = fs_read_file(fs, buf_cstr(&path), &text, err);
    if (!st)
        buf_slice(out, buf_view(&text));
    buf_done(&path);
    buf_done(&text);
    return st == NX_NOTFOUND || st == NX_LIMIT ? NX_OK : st;
}

/* RO2: all names in the folder and in the folders in it that are no blocks, and the note. */
static nx_status look(struct fs *fs, const char *dir, struct buf *out, struct nx_err *err)
{
    struct fs_names names = {0};
    nx_status st = fs->list(fs, dir, &names, err);

    buf_clear(out);
    for (size_t i = 0; i < names.n && !st; i++) {
        struct fs_stat stat = {0};
        struct buf path;
        buf_printf(out, "%s\n", names.v[i]);
        if (block_ulid_valid(names.v[i]))
            continue;
        buf_init(&path, 0);
        buf_printf(&path, "%s/%s", dir, names.v[i]);
        if (fs->stat(fs, buf_cstr(&path), &stat, NULL) == NX_OK && stat.is_dir)
            st = look_into(fs, dir, names.v[i], out, err);
        buf_done(&path);
    }
    fs_names_done(&names);
    if (!st)
        st = look_at_note(fs, dir, out, err);
    return st ? st : buf_status(out, err);
}

static nx_status open_over(struct storage **out, const struct storage_opts *opts,
                           struct nx_err *err)
{
    struct storage_opts o = *opts;
    struct fs *over = NULL;
    nx_status st = fs_overlay_new(&over, opts->fs, CHANGE_BYTES, err);

    if (st)
        return st;
    o.fs = over;
    o.no_lockfile = o.no_worker = true;
    st = storage_open(out, &o, err);
    if (st)
        fs_overlay_free(over);
    else
        (*out)->overlay = over;
    return st;
}

/* RO3. What can't be held, for want of descriptors, is opened when it is read. */
static void hold_blocks(struct storage *s)
{
    for (size_t i = 0; i < s->n_blocks; i++) {
        nx_status st = block_keep_open(s->blocks[i], NULL);
        if (st && st != NX_NOTFOUND)
            return;
    }
}

nx_status storage_open_readonly(struct storage **out, const struct storage_opts *opts,
                                struct nx_err *err)
{
    struct storage *s = NULL;
    struct fs_stat stat;
    struct buf before, after;
    bool same = false;
    nx_status st = opts->fs->stat(opts->fs, opts->dir, &stat, err);

    if (st)
        return st;
    buf_init(&before, 0);
    buf_init(&after, 0);
    for (unsigned i = 0; i < TRIES && !same; i++) {
        storage_close(s);
        s = NULL;
        st = look(opts->fs, opts->dir, &before, err);
        if (st)
            break;
        st = open_over(&s, opts, err);
        if (!st)
            hold_blocks(s);
        if (look(opts->fs, opts->dir, &after, NULL) == NX_OK)
            same = nx_slice_eq(buf_view(&before), buf_view(&after));
    }
    if (!st && !same)
        st = nx_fail(err, NX_UNAVAILABLE, "%s changes faster than it can be read", opts->dir);
    if (st) {
        storage_close(s);
        s = NULL;
    }
    buf_done(&before);
    buf_done(&after);
    if (!st)
        *out = s;
    return st;
}
