/* fs.h - the file system as storage sees it, so that tests can put a failing one below.
 *
 * Owner    fs_real() is a constant; tests make their own (tests/support/simfs.h).
 * Threads  any, on different files; pread on one file from many threads.
 * Paths    plain strings; relative ones against the working folder. Errors name the path. */
#pragma once

#include "src/base/arena.h"
#include "src/base/buf.h"

struct fs_file; /* opaque, made by the fs */

enum fs_open_flags {
    FS_READ = 1,
    FS_WRITE = 2,  /* with FS_READ: both */
    FS_CREATE = 4, /* make it if missing */
    FS_EXCL = 8,   /* with FS_CREATE: must not exist */
    FS_TRUNCATE = 16,
    FS_APPEND = 32 /* every write goes to the end */
};

struct fs_stat {
    uint64_t bytes;
    int64_t mtime_ms;
    bool is_dir;
};

struct fs_names { /* malloc'ed, sorted; free with fs_names_done */
    char **v;
    size_t n;
};

struct fs {
    nx_status (*open)(struct fs *fs, const char *path, int flags, struct fs_file **out,
                      struct nx_err *err);
    void (*close)(struct fs *fs, struct fs_file *f); /* accepts NULL */
    /* Reads up to len bytes; *got < len only at the end of the file. */
    nx_status (*pread)(struct fs *fs, struct fs_file *f, void *to, size_t len, uint64_t off,
                       size_t *got, struct nx_err *err);
    /* Writes all of it or fails; after a failure *wrote bytes may be in the file. */
    nx_status (*write)(struct fs *fs, struct fs_file *f, const void *from, size_t len,
                       size_t *wrote, struct nx_err *err);
    nx_status (*pwrite)(struct fs *fs, struct fs_file *f, const void *from, size_t len,
                        uint64_t off, size_t *wrote, struct nx_err *err);
    nx_status (*sync)(struct fs *fs, struct fs_file *f, struct nx_err *err);
    nx_status (*truncate)(struct fs *fs, struct fs_file *f, uint64_t bytes, struct nx_err *err);
    nx_status (*size)(struct fs *fs, struct fs_file *f, uint64_t *bytes, struct nx_err *err);
    nx_status (*rename)(struct fs *fs, const char *from, const char *to, struct nx_err *err);
    /* A second name for a file. `to` must be free. Another file system, or one without links: NX_IO. */
    nx_status (*link)(struct fs *fs, const char *from, const char *to, struct nx_err *err);
    nx_status (*unlink)(struct fs *fs, const char *path,
                        struct nx_err *err); /* missing: NX_NOTFOUND */
    nx_status (*mkdir)(struct fs *fs, const char *path, struct nx_err *err); /* existing: NX_OK */
    nx_status (*rmdir)(struct fs *fs, const char *path, struct nx_err *err);
    nx_status (*sync_dir)(struct fs *fs, const char *path, struct nx_err *err);
    nx_status (*list)(struct fs *fs, const char *path, struct fs_names *out, struct nx_err *err);
    nx_status (*stat)(struct fs *fs, const char *path, struct fs_stat *out, struct nx_err *err);
    /* Bytes that the file system of `path`, which must exist, holds in all, used or not. */
    nx_status (*capacity)(struct fs *fs, const char *path, uint64_t *bytes, struct nx_err *err);
    /* Takes the lock file `path` for this process; held until fs_unlock. Taken by another: NX_UNAVAILABLE. */
    nx_status (*lock)(struct fs *fs, const char *path, struct fs_file **out, struct nx_err *err);
    void (*unlock)(struct fs *fs, struct fs_file *f);
};

struct fs *fs_real(void);

void fs_names_done(struct fs_names *names);

/* Whole small files. Reading appends to `to` (whose limit holds). */
NX_NODISCARD nx_status fs_read_file(struct fs *fs, const char *path, struct buf *to,
                                    struct nx_err *err);
/* Publishes: write to PATH.tmp, sync, rename, sync the folder. */
NX_NODISCARD nx_status fs_publish(struct fs *fs, const char *path, const void *ptr, size_t len,
                                  struct nx_err *err);
/* mkdir -p. */
NX_NODISCARD nx_status fs_mkdirs(struct fs *fs, const char *path, struct nx_err *err);
/* Removes a folder and everything in it; missing is fine. */
NX_NODISCARD nx_status fs_remove_tree(struct fs *fs, const char *path, struct nx_err *err);
