/* fs.c - the real file system, and what is made of its operations.
 *
 * RULES   F1  Every descriptor is close-on-exec; EINTR is never seen by callers.
 *         F2  Reads and writes go on until all is done, the end of the file, or an error; a short
 *             write is tried again and thus becomes the error behind it.
 *         F3  Removing a tree never follows a symbolic link: a name is unlinked first, and entered
 *             only if it could not be because it is a folder.
 *         F4  fs_publish leaves either the old file or the new one under the name, whole. */
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64 /* large files on 32-bit machines; off_t does not leave this file */
#endif
#include "src/base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MAX_DEPTH 64 /* of a tree to remove: ours have three levels */

struct fs_file {
    int fd;
    char path[]; /* for errors */
};

static nx_status wrap_fd(int fd, const char *path, struct fs_file **out, struct nx_err *err)
{
    size_t len = strlen(path) + 1;
    struct fs_file *f = malloc(sizeof *f + len);

    if (!f) {
        close(fd);
        return nx_fail(err, NX_NOMEM, "opening %s: out of memory", path);
    }
    f->fd = fd;
    memcpy(f->path, path, len);
    *out = f;
    return NX_OK;
}

static int posix_flags(int flags)
{
    int o = O_CLOEXEC;

    if ((flags & FS_READ) && (flags & FS_WRITE))
        o |= O_RDWR;
    else
        o |= flags & FS_WRITE ? O_WRONLY : O_RDONLY;
    o |= flags & FS_CREATE ? O_CREAT : 0;
    o |= flags & FS_EXCL ? O_EXCL : 0;
    o |= flags & FS_TRUNCATE ? O_TRUNC : 0;
    o |= flags & FS_APPEND ? O_APPEND : 0;
    return o;
}

static int open_retrying(const char *path, int o)
{
    int fd;

    do {
        fd = open(path, o, 0666);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static nx_status real_open(struct fs *fs, const char *path, int flags, struct fs_file **out,
                           struct nx_err *err)
{
    int fd = open_retrying(path, posix_flags(flags));

    (void)fs;
    if (fd < 0)
        return nx_fail_errno(err, errno, "opening %s", path);
    return wrap_fd(fd, path, out, err);
}

static void real_close(struct fs *fs, struct fs_file *f)
{
    (void)fs;
    if (!f)
        return;
    close(f->fd);
    free(f);
}

static nx_status real_pread(struct fs *fs, struct fs_file *f, void *to, size_t len, uint64_t off,
                            size_t *got, struct nx_err *err)
{
    size_t done = 0;

    (void)fs;
    *got = 0;
    while (done < len) {
        ssize_t n = pread(f->fd, (char *)to + done, len - done, (off_t)(off + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return nx_fail_errno(err, errno, "reading %s at %llu", f->path,
                                 (unsigned long long)(off + done));
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *got = done;
    return NX_OK;
}

/* off NULL: at the file's own position (F2). */
static nx_status write_all(struct fs_file *f, const void *from, size_t len, const uint64_t *off,
                           size_t *wrote, struct nx_err *err)
{
    *wrote = 0;
    while (*wrote < len) {
        const char *p = (const char *)from + *wrote;
        size_t left = len - *wrote;
        ssize_t n = off ? pwrite(f->fd, p, left, (off_t)(*off + *wrote)) : write(f->fd, p, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return nx_fail_errno(err, n < 0 ? errno : ENOSPC, "writing %s", f->path);
        *wrote += (size_t)n;
    }
    return NX_OK;
}

static nx_status real_write(struct fs *fs, struct fs_file *f, const void *from, size_t len,
                            size_t *wrote, struct nx_err *err)
{
    (void)fs;
    return write_all(f, from, len, NULL, wrote, err);
}

static nx_status real_pwrite(struct fs *fs, struct fs_file *f, const void *from, size_t len,
                             uint64_t off, size_t *wrote, struct nx_err *err)
{
    (void)fs;
    return write_all(f, from, len, &off, wrote, err);
}

static nx_status real_sync(struct fs *fs, struct fs_file *f, struct nx_err *err)
{
    (void)fs;
    if (fdatasync(f->fd)) /* it covers the size, which is all we need of the metadata */
        return nx_fail_errno(err, errno, "syncing %s", f->path);
    return NX_OK;
}

static nx_status real_truncate(struct fs *fs, struct fs_file *f, uint64_t bytes, struct nx_err *err)
{
    int rc;

    (void)fs;
    do {
        rc = ftruncate(f->fd, (off_t)bytes);
    } while (rc && errno == EINTR);
    if (rc)
        return nx_fail_errno(err, errno, "truncating %s", f->path);
    return NX_OK;
}

static nx_status real_size(struct fs *fs, struct fs_file *f, uint64_t *bytes, struct nx_err *err)
{
    struct stat sb;

    (void)fs;
    if (fstat(f->fd, &sb))
        return nx_fail_errno(err, errno, "reading the size of %s", f->path);
    *bytes = (uint64_t)sb.st_size;
    return NX_OK;
}

static nx_status real_rename(struct fs *fs, const char *from, const char *to, struct nx_err *err)
{
    (void)fs;
    if (rename(from, to))
        return nx_fail_errno(err, errno, "renaming %s to %s", from, to);
    return NX_OK;
}

static nx_status real_link(struct fs *fs, const char *from, const char *to, struct nx_err *err)
{
    (void)fs;
    if (link(from, to))
        return nx_fail_errno(err, errno, "linking %s to %s", from, to);
    return NX_OK;
}

static nx_status real_unlink(struct fs *fs, const char *path, struct nx_err *err)
{
    (void)fs;
    if (unlink(path))
        return nx_fail_errno(err, errno, "removing %s", path);
    return NX_OK;
}

static nx_status real_mkdir(struct fs *fs, const char *path, struct nx_err *err)
{
    struct stat sb;

    (void)fs;
    if (mkdir(path, 0777) == 0)
        return NX_OK;
    if (errno == EEXIST && stat(path, &sb) == 0 && S_ISDIR(sb.st_mode))
        return NX_OK;
    return nx_fail_errno(err, errno, "making the folder %s", path);
}

static nx_status real_rmdir(struct fs *fs, const char *path, struct nx_err *err)
{
    (void)fs;
    if (rmdir(path))
        return nx_fail_errno(err, errno, "removing the folder %s", path);
    return NX_OK;
}

static nx_status real_sync_dir(struct fs *fs, const char *path, struct nx_err *err)
{
    int fd = open_retrying(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc, saved;

    (void)fs;
    if (fd < 0)
        return nx_fail_errno(err, errno, "opening the folder %s", path);
    rc = fsync(fd);
    saved = errno;
    close(fd);
    /* Some network and FUSE file systems cannot sync a folder and say so by EINVAL. */
    if (rc && saved != EINVAL)
        return nx_fail_errno(err, saved, "syncing the folder %s", path);
    return NX_OK;
}

void fs_names_done(struct fs_names *names)
{
    if (!names)
        return;
    for (size_t i = 0; i < names->n; i++)
        free(names->v[i]);
    free(names->v);
    *names = (struct fs_names){0};
}

/* *cap is that of names->v. */
static bool add_name(struct fs_names *names, size_t *cap, const char *name)
{
    if (names->n == *cap) {
        size_t more = *cap ? *cap * 2 : 16;
        char **v = reallocarray(names->v, more, sizeof *v);

        if (!v)
            return false;
        names->v = v;
        *cap = more;
    }
    names->v[names->n] = strdup(name);
    if (!names->v[names->n])
        return false;
    names->n++;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static nx_status real_list(struct fs *fs, const char *path, struct fs_names *out,
                           struct nx_err *err)
{
    struct fs_names names = {0};
    DIR *dir = opendir(path);
    struct dirent *e;
    nx_status st = NX_OK;
    size_t cap = 0;

    (void)fs;
    if (!dir)
        return nx_fail_errno(err, errno, "opening the folder %s", path);
    while (errno = 0, (e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (!add_name(&names, &cap, e->d_name)) {
            st = nx_fail(err, NX_NOMEM, "listing %s: out of memory", path);
            goto done;
        }
    }
    if (errno) {
        st = nx_fail_errno(err, errno, "listing %s", path);
        goto done;
    }
    if (names.n)
        qsort(names.v, names.n, sizeof *names.v, by_name);
    *out = names;
    names = (struct fs_names){0};

done:
    closedir(dir);
    fs_names_done(&names);
    return st;
}

static nx_status real_stat(struct fs *fs, const char *path, struct fs_stat *out, struct nx_err *err)
{
    struct stat sb;

    (void)fs;
    if (stat(path, &sb))
        return nx_fail_errno(err, errno, "looking at %s", path);
    out->bytes = (uint64_t)sb.st_size;
    out->mtime_ms = (int64_t)sb.st_mtim.tv_sec * 1000 + sb.st_mtim.tv_nsec / 1000000;
    out->is_dir = S_ISDIR(sb.st_mode);
    return NX_OK;
}

static nx_status real_capacity(struct fs *fs, const char *path, uint64_t *bytes, struct nx_err *err)
{
    struct statvfs sv;

    (void)fs;
    if (statvfs(path, &sv))
        return nx_fail_errno(err, errno, "asking for the size of the disk of %s", path);
    *bytes = (uint64_t)sv.f_blocks * (sv.f_frsize ? sv.f_frsize : sv.f_bsize);
    return NX_OK;
}

static nx_status real_lock(struct fs *fs, const char *path, struct fs_file **out,
                           struct nx_err *err)
{
    int fd = open_retrying(path, O_RDWR | O_CREAT | O_CLOEXEC), why = errno;

    (void)fs;
    if (fd < 0 &&
        (why == EACCES || why == EROFS)) /* one that is there can be locked all the same */
        fd = open_retrying(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return nx_fail_errno(err, why, "opening the lock file %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        int saved = errno;

        close(fd);
        if (saved == EWOULDBLOCK)
            return nx_fail(err, NX_UNAVAILABLE, "%s is locked by another process", path);
        return nx_fail_errno(err, saved, "locking %s", path);
    }
    return wrap_fd(fd, path, out, err);
}

static void real_unlock(struct fs *fs, struct fs_file *f)
{
    real_close(fs, f); /* the lock goes with the descriptor; the file stays, as removing it races */
}

struct fs *fs_real(void)
{
    static struct fs real = {
        .open = real_open,
        .close = real_close,
        .pread = real_pread,
        .write = real_write,
        .pwrite = real_pwrite,
        .sync = real_sync,
        .truncate = real_truncate,
        .size = real_size,
        .rename = real_rename,
        .link = real_link,
        .unlink = real_unlink,
        .mkdir = real_mkdir,
        .rmdir = real_rmdir,
        .sync_dir = real_sync_dir,
        .list = real_list,
        .stat = real_stat,
        .capacity = real_capacity,
        .lock = real_lock,
        .unlock = real_unlock,
    };
    return &real;
}

nx_status fs_read_file(struct fs *fs, const char *path, struct buf *to, struct nx_err *err)
{
    struct fs_file *f = NULL;
    size_t before = to->len, got = 0, want = 0;
    uint64_t bytes;
    nx_status st = fs->open(fs, path, FS_READ, &f, err);

    if (st)
        return st;
    st = fs->size(fs, f, &bytes, err);
    if (st)
        goto done;
    /* The size is a guess: files in /proc say 0, and files grow. Read until nothing comes. */
    want = bytes < (1u << 30) ? (size_t)bytes + 1 : 1u << 30;
    do {
        char *at;

        if (to->limit_bytes && want > to->limit_bytes - to->len && to->len < to->limit_bytes)
            want = to->limit_bytes - to->len; /* a file of just the limit fits */
        at = buf_reserve(to, want);
        if (!at) {
            st = buf_status(to, err);
            nx_context(err, "reading %s", path);
            goto done;
        }
        st = fs->pread(fs, f, at, want, to->len - before, &got, err);
        if (st)
            goto done;
        to->len += got;
        if (to->limit_bytes && to->len == to->limit_bytes) {
            char more;

            st = fs->pread(fs, f, &more, 1, to->len - before, &got, err);
            if (!st && got)
                st = nx_fail(err, NX_LIMIT, "reading %s: limit of %zu bytes exceeded", path,
                             to->limit_bytes);
            break;
        }
        want = got < want ? 0 : 64u << 10;
    } while (want);

done:
    if (st)
        to->len = before;
    fs->close(fs, f);
    return st;
}

/* The folder that `path` is in; "." for a plain name. NULL out of memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

static nx_status write_synced(struct fs *fs, const char *path, const void *ptr, size_t len,
                              struct nx_err *err)
{
    struct fs_file *f = NULL;
    size_t wrote;
    nx_status st = fs->open(fs, path, FS_WRITE | FS_CREATE | FS_TRUNCATE, &f, err);

    if (!st)
        st = fs->write(fs, f, ptr, len, &wrote, err);
    if (!st)
        st = fs->sync(fs, f, err);
    fs->close(fs, f);
    return st;
}

nx_status fs_publish(struct fs *fs, const char *path, const void *ptr, size_t len,
                     struct nx_err *err)
{
    char *tmp = NULL, *folder = folder_of(path);
    nx_status st;

    if (!folder || asprintf(&tmp, "%s.tmp", path) < 0) {
        tmp = NULL;
        st = nx_fail(err, NX_NOMEM, "writing %s: out of memory", path);
        goto done;
    }
    st = write_synced(fs, tmp, ptr, len, err);
    if (!st)
        st = fs->rename(fs, tmp, path, err);
    if (st) {
        fs->unlink(fs, tmp, NULL); /* best effort: the next try truncates it */
        goto done;
    }
    st = fs->sync_dir(fs, folder, err);

done:
    free(tmp);
    free(folder);
    return st;
}

nx_status fs_mkdirs(struct fs *fs, const char *path, struct nx_err *err)
{
    char *p = strdup(path);
    nx_status st = NX_OK;

    if (!p)
        return nx_fail(err, NX_NOMEM, "making the folder %s: out of memory", path);
    for (char *at = p; !st && *at; at++) {
        struct fs_stat sb;

        if (*at != '/' || at == p)
            continue;
        *at = '\0';
        /* Asked first: a parent may be there and yet refuse mkdir (read-only, no permission). */
        if (fs->stat(fs, p, &sb, NULL) || !sb.is_dir)
            st = fs->mkdir(fs, p, err);
        *at = '/';
    }
    if (!st)
        st = fs->mkdir(fs, path, err);
    free(p);
    return st;
}

static nx_status remove_tree(struct fs *fs, const char *path, int depth, struct nx_err *err);

static nx_status remove_children(struct fs *fs, const char *path, int depth, struct nx_err *err)
{
    struct fs_names names = {0};
    nx_status st = fs->list(fs, path, &names, err);

    for (size_t i = 0; !st && i < names.n; i++) {
        char *child;

        if (asprintf(&child, "%s/%s", path, names.v[i]) < 0) {
            st = nx_fail(err, NX_NOMEM, "removing %s: out of memory", path);
            break;
        }
        st = remove_tree(fs, child, depth + 1, err);
        free(child);
    }
    fs_names_done(&names);
    return st;
}

static nx_status remove_tree(struct fs *fs, const char *path, int depth, struct nx_err *err)
{
    struct fs_stat sb;
    nx_status st;

    if (depth > MAX_DEPTH)
        return nx_fail(err, NX_LIMIT, "removing %s: folders nested too deeply", path);
    st = fs->unlink(fs, path, err); /* F3 */
    if (!st || st == NX_NOTFOUND)
        return NX_OK;
    if (fs->stat(fs, path, &sb, NULL) || !sb.is_dir)
        return st;
    st = remove_children(fs, path, depth, err);
    if (!st)
        st = fs->rmdir(fs, path, err);
    return st == NX_NOTFOUND ? NX_OK : st;
}

nx_status fs_remove_tree(struct fs *fs, const char *path, struct nx_err *err)
{
    return remove_tree(fs, path, 0, err);
}
