/* fs_overlay.c - changes in memory over a file system that is only read.
 *
 * SHAPE   A list of notes, newest first, each on one path: gone, a folder, a file in memory, or a file
 *         below of which only the first bytes count (it was cut) or that has another name now. A path
 *         without a note is as it is below.
 * RULES   O1  Nothing but open for reading, pread, size, list and stat is ever asked of the file system
 *             below.
 *         O2  A file below is copied into memory when it is first written to, not when it is cut or
 *             renamed: both happen to large ones.
 *         O3  A note stays until the end, since open files point at it; a later one hides it.
 * NOT     Renaming a folder that is below: nobody who only opens a folder does. */
#include "src/base/fs_overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/thread.h"

struct note {
    struct note *next;
    char *path;
    char *real; /* the file below that holds its bytes, up to `cut`; NULL: they are in data */
    uint64_t cut;
    char *data;
    size_t len, cap;
    bool gone, is_dir;
};

struct overlay {
    struct fs base;
    struct fs *below;         /* set once */
    size_t limit_bytes, used; /* used: under lock */
    struct nx_mutex lock; /* the list and what is in it; held over calls below, but for reading */
    struct note *notes;
};

struct fs_file {
    struct note *note;     /* NULL: as it is below */
    struct fs_file *below; /* NULL: in memory since it was opened */
    uint64_t at;           /* where write() goes on */
    bool append;
};

static struct overlay *of(struct fs *fs)
{
    return (struct overlay *)(void *)fs;
}

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "keeping a change in memory");
}

static struct note *find_locked(const struct overlay *o, const char *path)
{
    for (struct note *n = o->notes; n; n = n->next) {
        if (strcmp(n->path, path) == 0)
            return n;
    }
    return NULL;
}

static void note_free(struct note *n)
{
    if (!n)
        return;
    free(n->path);
    free(n->real);
    free(n->data);
    free(n);
}

/* A note of its own on `path`, which hides what was there. `real` may be NULL; both are copied. */
static struct note *add_locked(struct overlay *o, const char *path, const char *real)
{
    struct note *n = calloc(1, sizeof *n);

    if (n)
        n->path = strdup(path);
    if (n && real)
        n->real = strdup(real);
    if (!n || !n->path || (real && !n->real)) {
        note_free(n);
        return NULL;
    }
    n->cut = UINT64_MAX;
    n->next = o->notes;
    o->notes = n;
    return n;
}

static nx_status stat_locked(struct overlay *o, const char *path, struct fs_stat *out,
                             struct nx_err *err)
{
    const struct note *n = find_locked(o, path);
    nx_status st = NX_OK;

    if (n && n->gone)
        return nx_fail_errno(err, ENOENT, "looking at %s", path);
    if (!n || n->real)
        st = o->below->stat(o->below, n ? n->real : path, out, err);
    else
        *out = (struct fs_stat){.bytes = n->len, .is_dir = n->is_dir};
    if (!st && n && n->real && out->bytes > n->cut)
        out->bytes = n->cut;
    return st;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Finds or makes the note that a file opened with these flags needs; NULL in *out: none. */
static nx_status note_for_locked(struct overlay *o, const char *path, int flags, struct note **out,
                                 struct nx_err *err)
{
    struct fs_stat stat;
    struct note *n = find_locked(o, path);
    nx_status st = stat_locked(o, path, &stat, err);

    *out = n && !n->gone ? n : NULL;
    if (st && (st != NX_NOTFOUND || !(flags & FS_CREATE)))
        return st;
    if (!st && stat.is_dir)
        return nx_fail_errno(err, EISDIR, "opening %s", path);
    if (!st && (flags & FS_CREATE) && (flags & FS_EXCL))
        return nx_fail_errno(err, EEXIST, "opening %s", path);
    if (st || (flags & FS_TRUNCATE))
        *out = add_locked(o, path, NULL);
    else if (!*out && (flags & (FS_WRITE | FS_APPEND)))
        *out = add_locked(o, path, path);
    else
        return NX_OK;
    return *out ? NX_OK : no_memory(err);
}

static nx_status ov_open(struct fs *fs, const char *path, int flags, struct fs_file **out,
                         struct nx_err *err)
{
    struct overlay *o = of(fs);
    struct fs_file *f = calloc(1, sizeof *f);
    nx_status st;

    if (!f)
        return no_memory(err);
    f->append = (flags & FS_APPEND) != 0;
    nx_lock(&o->lock);
    st = note_for_locked(o, path, flags, &f->note, err);
    if (!st && (!f->note || f->note->real)) /* O1 */
        st = o->below->open(o->below, f->note ? f->note->real : path, FS_READ, &f->below, err);
    nx_unlock(&o->lock);
    if (st) {
        free(f);
        return st;
    }
    *out = f;
    return NX_OK;
}

static void ov_close(struct fs *fs, struct fs_file *f)
{
    if (!f)
        return;
    of(fs)->below->close(of(fs)->below, f->below);
    free(f);
}

static nx_status ov_pread(struct fs *fs, struct fs_file *f, void *to, size_t len, uint64_t off,
                          size_t *got, struct nx_err *err)
{
    struct overlay *o = of(fs);
    bool in_memory = false;

    if (f->note) {
        const struct note *n = f->note;
        uint64_t end;
        nx_lock(&o->lock);
        in_memory = n->real == NULL;
        end = in_memory ? n->len : n->cut;
        if (off >= end)
            len = 0;
        else if (len > end - off)
            len = (size_t)(end - off);
        if (in_memory && len)
            memcpy(to, n->data + off, len);
        nx_unlock(&o->lock);
    }
    if (!in_memory)
        return o->below->pread(o->below, f->below, to, len, off, got, err);
    *got = len;
    return NX_OK;
}

/* The file gets `len` bytes; new ones are zeros. */
static nx_status resize_locked(struct overlay *o, struct note *n, uint64_t len, struct nx_err *err)
{
    if (len > n->cap) {
        size_t cap = n->cap * 2 > len ? n->cap * 2 : (size_t)len;
        char *data;
        if (len > o->limit_bytes || cap - n->cap > o->limit_bytes - o->used)
            return nx_fail(err, NX_NOSPACE, "writing %s: more than is kept in memory", n->path);
        data = realloc(n->data, cap);
        if (!data)
            return no_memory(err);
        o->used += cap - n->cap;
        n->data = data;
        n->cap = cap;
    }
    if (len > n->len)
        memset(n->data + n->len, 0, (size_t)len - n->len);
    n->len = (size_t)len;
    return NX_OK;
}

/* O2 */
static nx_status into_memory_locked(struct overlay *o, struct fs_file *f, struct nx_err *err)
{
    struct note *n = f->note;
    uint64_t bytes = 0;
    size_t got = 0;
    nx_status st;

    if (!n->real)
        return NX_OK;
    st = o->below->size(o->below, f->below, &bytes, err);
    bytes = bytes < n->cut ? bytes : n->cut;
    if (!st)
        st = resize_locked(o, n, bytes, err);
    if (!st && bytes)
        st = o->below->pread(o->below, f->below, n->data, (size_t)bytes, 0, &got, err);
    n->len = st ? 0 : got;
    if (st)
        return st;
    free(n->real);
    n->real = NULL;
    return NX_OK;
}

static nx_status ov_pwrite(struct fs *fs, struct fs_file *f, const void *from, size_t len,
                           uint64_t off, size_t *wrote, struct nx_err *err)
{
    struct overlay *o = of(fs);
    nx_status st;

    *wrote = 0;
    if (!f->note)
        return nx_fail_errno(err, EBADF, "writing a file that was opened for reading");
    nx_lock(&o->lock);
    st = into_memory_locked(o, f, err);
    if (!st && f->append)
        off = f->note->len;
    if (!st && off + len > f->note->len)
        st = resize_locked(o, f->note, off + len, err);
    if (!st) {
        if (len)
            memcpy(f->note->data + off, from, len);
        *wrote = len;
    }
    nx_unlock(&o->lock);
    return st;
}

static nx_status ov_write(struct fs *fs, struct fs_file *f, const void *from, size_t len,
                          size_t *wrote, struct nx_err *err)
{
    nx_status st = ov_pwrite(fs, f, from, len, f->at, wrote, err);

    f->at += *wrote;
    return st;
}

static nx_status ov_truncate(struct fs *fs, struct fs_file *f, uint64_t bytes, struct nx_err *err)
{
    struct overlay *o = of(fs);
    uint64_t have = 0;
    nx_status st = NX_OK;

    if (!f->note)
        return nx_fail_errno(err, EBADF, "cutting a file that was opened for reading");
    nx_lock(&o->lock);
    if (f->note->real) {
        st = o->below->size(o->below, f->below, &have, err);
        if (!st && bytes > (have < f->note->cut ? have : f->note->cut))
            st = into_memory_locked(o, f, err);
    }
    if (!st && f->note->real)
        f->note->cut = bytes;
    else if (!st)
        st = resize_locked(o, f->note, bytes, err);
    nx_unlock(&o->lock);
    return st;
}

static nx_status ov_size(struct fs *fs, struct fs_file *f, uint64_t *bytes, struct nx_err *err)
{
    struct overlay *o = of(fs);
    uint64_t cut = UINT64_MAX;
    nx_status st;

    if (f->note) {
        bool in_memory;
        nx_lock(&o->lock);
        in_memory = f->note->real == NULL;
        cut = in_memory ? f->note->len : f->note->cut;
        nx_unlock(&o->lock);
        if (in_memory) {
            *bytes = cut;
            return NX_OK;
        }
    }
    st = o->below->size(o->below, f->below, bytes, err);
    if (!st && *bytes > cut)
        *bytes = cut;
    return st;
}

static nx_status ov_sync(struct fs *fs, struct fs_file *f, struct nx_err *err)
{
    (void)fs;
    (void)f;
    (void)err;
    return NX_OK;
}

/* ---- names ----------------------------------------------------------------------------------- */

static nx_status remove_locked(struct overlay *o, const char *path, struct nx_err *err)
{
    struct fs_stat stat;
    nx_status st = stat_locked(o, path, &stat, err);
    struct note *n = st ? NULL : add_locked(o, path, NULL); /* O3 */

    if (st)
        return st;
    if (!n)
        return no_memory(err);
    n->gone = true;
    return NX_OK;
}

/* Nobody who only reads a folder wants one. */
static nx_status ov_link(struct fs *fs, const char *from, const char *to, struct nx_err *err)
{
    (void)fs;
    return nx_fail(err, NX_IO, "linking %s to %s: the folder is only read", from, to);
}

static nx_status ov_unlink(struct fs *fs, const char *path, struct nx_err *err)
{
    struct overlay *o = of(fs);
    struct fs_stat stat;
    nx_status st;

    nx_lock(&o->lock);
    st = stat_locked(o, path, &stat, err);
    if (!st && stat.is_dir)
        st = nx_fail_errno(err, EISDIR, "removing %s", path);
    if (!st)
        st = remove_locked(o, path, err);
    nx_unlock(&o->lock);
    return st;
}

static nx_status ov_rename(struct fs *fs, const char *from, const char *to, struct nx_err *err)
{
    struct overlay *o = of(fs);
    struct fs_stat stat;
    struct note *old, *n;
    nx_status st;

    nx_lock(&o->lock);
    st = stat_locked(o, from, &stat, err);
    old = find_locked(o, from);
    if (!st && stat.is_dir)
        st = nx_fail_errno(err, EROFS, "renaming the folder %s", from);
    if (st)
        goto done;
    n = add_locked(o, to, old ? old->real : from);
    st = n ? remove_locked(o, from, err) : no_memory(err);
    if (!st && old) { /* open files go on with the old one: nobody renames what is still written */
        n->cut = old->cut;
        if (old->data && !old->real) {
            n->data = old->data;
            n->len = old->len;
            n->cap = old->cap;
            old->data = NULL;
            old->len = old->cap = 0;
        }
    }

done:
    nx_unlock(&o->lock);
    return st;
}

static nx_status ov_mkdir(struct fs *fs, const char *path, struct nx_err *err)
{
    struct overlay *o = of(fs);
    struct fs_stat stat;
    struct note *n;
    nx_status st;

    nx_lock(&o->lock);
    st = stat_locked(o, path, &stat, err);
    if (st == NX_NOTFOUND) {
        n = add_locked(o, path, NULL);
        st = n ? NX_OK : no_memory(err);
        if (n)
            n->is_dir = true;
    } else if (!st && !stat.is_dir) {
        st = nx_fail_errno(err, EEXIST, "making the folder %s", path);
    }
    nx_unlock(&o->lock);
    return st;
}

/* The part of `path` behind `dir` and a slash, if it is right in that folder. */
static const char *name_in(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    if (strncmp(path, dir, n) != 0 || path[n] != '/' || strchr(path + n + 1, '/'))
        return NULL;
    return path + n + 1;
}

static size_t place_of(const struct fs_names *names, const char *name)
{
    size_t i = 0;

    while (i < names->n && strcmp(names->v[i], name) != 0)
        i++;
    return i;
}

static bool put_name(struct fs_names *names, const char *name)
{
    char *copy = strdup(name);
    char **v = copy ? reallocarray(names->v, names->n + 1, sizeof *v) : NULL;

    if (!v) {
        free(copy);
        return false;
    }
    v[names->n++] = copy;
    names->v = v;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What the notes say of the folder, over what is below. */
static nx_status amend_locked(const struct overlay *o, const char *path, struct fs_names *names,
                              struct nx_err *err)
{
    for (const struct note *n = o->notes; n; n = n->next) {
        const char *name = name_in(n->path, path);
        size_t i;
        if (!name || find_locked(o, n->path) != n)
            continue;
        i = place_of(names, name);
        if (n->gone && i < names->n) {
            free(names->v[i]);
            names->v[i] = names->v[--names->n];
        } else if (!n->gone && i == names->n && !put_name(names, name)) {
            return no_memory(err);
        }
    }
    if (names->n)
        qsort(names->v, names->n, sizeof *names->v, by_name);
    return NX_OK;
}

static nx_status ov_list(struct fs *fs, const char *path, struct fs_names *out, struct nx_err *err)
{
    struct overlay *o = of(fs);
    struct fs_names names = {0};
    const struct note *n;
    nx_status st;

    nx_lock(&o->lock);
    n = find_locked(o, path);
    if (n && !n->is_dir)
        st = nx_fail_errno(err, n->gone ? ENOENT : ENOTDIR, "opening the folder %s", path);
    else if (n)
        st = NX_OK;
    else
        st = o->below->list(o->below, path, &names, err);
    if (!st)
        st = amend_locked(o, path, &names, err);
    nx_unlock(&o->lock);
    if (st)
        fs_names_done(&names);
    else
        *out = names;
    return st;
}

static nx_status ov_rmdir(struct fs *fs, const char *path, struct nx_err *err)
{
    struct overlay *o = of(fs);
    struct fs_names names = {0};
    nx_status st = ov_list(fs, path, &names, err);

    if (!st && names.n)
        st = nx_fail_errno(err, ENOTEMPTY, "removing the folder %s", path);
    fs_names_done(&names);
    if (st)
        return st;
    nx_lock(&o->lock);
    st = remove_locked(o, path, err);
    nx_unlock(&o->lock);
    return st;
}

static nx_status ov_sync_dir(struct fs *fs, const char *path, struct nx_err *err)
{
    (void)fs;
    (void)path;
    (void)err;
    return NX_OK;
}

static nx_status ov_stat(struct fs *fs, const char *path, struct fs_stat *out, struct nx_err *err)
{
    struct overlay *o = of(fs);
    nx_status st;

    nx_lock(&o->lock);
    st = stat_locked(o, path, out, err);
    nx_unlock(&o->lock);
    return st;
}

/* Nobody else sees this file system, so nobody else can hold a lock in it. */
static nx_status ov_lock(struct fs *fs, const char *path, struct fs_file **out, struct nx_err *err)
{
    return ov_open(fs, path, FS_READ | FS_WRITE | FS_CREATE, out, err);
}

nx_status fs_overlay_new(struct fs **out, struct fs *below, size_t limit_bytes, struct nx_err *err)
{
    struct overlay *o = calloc(1, sizeof *o);

    if (!o)
        return no_memory(err);
    o->base = (struct fs){
        .open = ov_open,
        .close = ov_close,
        .pread = ov_pread,
        .write = ov_write,
        .pwrite = ov_pwrite,
        .sync = ov_sync,
        .truncate = ov_truncate,
        .size = ov_size,
        .rename = ov_rename,
        .link = ov_link,
        .unlink = ov_unlink,
        .mkdir = ov_mkdir,
        .rmdir = ov_rmdir,
        .sync_dir = ov_sync_dir,
        .list = ov_list,
        .stat = ov_stat,
        .lock = ov_lock,
        .unlock = ov_close,
    };
    o->below = below;
    o->limit_bytes = limit_bytes;
    nx_mutex_init(&o->lock, NX_RANK_STATS); /* the log's lock may be held around a call */
    *out = &o->base;
    return NX_OK;
}

void fs_overlay_free(struct fs *fs)
{
    struct overlay *o = fs ? of(fs) : NULL;

    if (!o)
        return;
    while (o->notes) {
        struct note *next = o->notes->next;
        note_free(o->notes);
        o->notes = next;
    }
    nx_mutex_done(&o->lock);
    free(o);
}
