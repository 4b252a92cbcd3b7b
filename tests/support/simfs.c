/* simfs.c - struct fs over a simulated disk, and the faults.
 *
 * SHAPE   begin() counts an operation and says what is to happen to it; the operation acts on it;
 *         end() unlocks. simdisk.c knows what is durable.
 * RULES   V1  A fault that comes is decided before the operation looks at anything, so the count
 *             does not depend on results.
 *         V2  An open file knows the life of the disk it was opened in; in a later one it is stale.
 *         V3  The tool's own allocations never fail in out-of-memory tests. */
#include "tests/support/simfs.h"

#include <pthread.h>

#include "tests/support/oom.h"
#include "tests/support/simdisk.h"

struct fs_file {
    struct sim_node *node;
    char *path;
    int flags;
    uint64_t at; /* of write() */
    unsigned life;
};

struct fault {
    uint64_t left; /* operations until it comes; 0: not set */
    unsigned kinds;
    bool for_good, hit;
};

struct simfs {
    struct fs fs; /* first: a struct fs * of ours is a struct simfs * */
    pthread_mutex_t lock;
    struct sim_disk disk;
    struct fault cut, failure;
    bool off, killing; /* no power; the cut is or was a kill */
    unsigned life;
    uint64_t ops, space;
};

/* What is to happen to an operation. */
enum fate { DO, FAIL, CUT, OFF };

static bool fault_comes(struct fault *f, unsigned kind)
{
    if (f->left == 0 || !(f->kinds & kind) || --f->left > 0)
        return false;
    f->hit = true;
    f->left = f->for_good;
    return true;
}

static struct simfs *sim_of(struct fs *fs)
{
    return (struct simfs *)fs;
}

static enum fate begin(struct simfs *sim, unsigned kind)
{
    oom_pause(); /* V3 */
    pthread_mutex_lock(&sim->lock);
    if (sim->off)
        return OFF;
    sim->ops++;
    if (fault_comes(&sim->cut, SIMFS_ANY)) {
        sim->off = true;
        return CUT;
    }
    return fault_comes(&sim->failure, kind) ? FAIL : DO; /* V1 */
}

static nx_status end(struct simfs *sim, nx_status st)
{
    pthread_mutex_unlock(&sim->lock);
    oom_resume();
    return st;
}

static nx_status injected(struct nx_err *err, enum fate fate, const char *what, const char *path)
{
    return nx_fail(err, NX_IO, "%s %s: %s", what, path,
                   fate == FAIL ? "Input/output error (simulated)" : "power is off (simulated)");
}

/* At a cut, an operation that changes things may have been done, as the seed says; at a kill not. */
static bool done_anyway(struct simfs *sim, enum fate fate)
{
    return fate == CUT && !sim->killing && test_random_below(&sim->disk.random, 2);
}

/* The folder that `path` is in and its last name; NULL if a folder on the way is missing. */
static struct sim_node *walk(struct simfs *sim, const char *path, struct nx_slice *last)
{
    struct sim_node *dir = sim->disk.root;
    struct nx_slice name = nx_slice_of("", 0);

    for (;;) {
        size_t len;

        while (*path == '/')
            path++;
        len = strcspn(path, "/");
        if (len == 0)
            break;
        if (len == 1 && *path == '.') {
            path++;
            continue;
        }
        if (name.len)
            dir = sim_find(dir, name);
        if (!dir || !dir->is_dir)
            return NULL;
        name = nx_slice_of(path, len);
        path += len;
    }
    *last = name;
    return dir;
}

static struct sim_node *lookup(struct simfs *sim, const char *path)
{
    struct nx_slice name;
    struct sim_node *dir = walk(sim, path, &name);

    return dir && name.len ? sim_find(dir, name) : dir;
}

static nx_status not_found(struct nx_err *err, const char *what, const char *path)
{
    return nx_fail(err, NX_NOTFOUND, "%s %s: No such file or directory", what, path);
}

static nx_status refused(struct nx_err *err, const char *what, const char *path, const char *why)
{
    return nx_fail(err, NX_IO, "%s %s: %s", what, path, why);
}

static struct fs_file *file_new(struct simfs *sim, struct sim_node *node, const char *path,
                                int flags)
{
    struct fs_file *f = calloc(1, sizeof *f);

    if (f)
        f->path = strdup(path);
    if (!f || !f->path)
        abort();
    f->node = node;
    f->flags = flags;
    f->life = sim->life;
    node->opens++;
    return f;
}

/* Finds or makes what open() and lock() want. */
static nx_status open_node(struct simfs *sim, const char *path, int flags, struct sim_node **out,
                           struct nx_err *err)
{
    struct nx_slice name;
    struct sim_node *dir = walk(sim, path, &name), *node;

    if (!dir)
        return not_found(err, "opening", path);
    node = name.len ? sim_find(dir, name) : dir;
    if (node && (flags & FS_CREATE) && (flags & FS_EXCL))
        return refused(err, "opening", path, "File exists");
    if (node && node->is_dir)
        return refused(err, "opening", path, "Is a directory");
    if (!node && !(flags & FS_CREATE))
        return not_found(err, "opening", path);
    if (!node) {
        node = sim_node_new(&sim->disk, false);
        sim_move(&sim->disk, NULL, name, dir, name, node);
    } else if ((flags & FS_TRUNCATE) && node->seen.len) {
        sim_truncate(node, 0);
    }
    *out = node;
    return NX_OK;
}

static nx_status sim_open(struct fs *fs, const char *path, int flags, struct fs_file **out,
                          struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_OPEN);
    struct sim_node *node;
    nx_status st;

    if (fate != DO) {
        if (done_anyway(sim, fate))
            open_node(sim, path, flags, &node, NULL);
        return end(sim, injected(err, fate, "opening", path));
    }
    st = open_node(sim, path, flags, &node, err);
    if (!st)
        *out = file_new(sim, node, path, flags);
    return end(sim, st);
}

static void close_locked(struct simfs *sim, struct fs_file *f, bool unlock)
{
    if (f->life == sim->life) { /* V2 */
        f->node->opens--;
        if (unlock)
            f->node->locked = false;
    }
    free(f->path);
    free(f);
}

static void sim_close(struct fs *fs, struct fs_file *f)
{
    struct simfs *sim = sim_of(fs);

    if (!f)
        return;
    pthread_mutex_lock(&sim->lock);
    close_locked(sim, f, false);
    pthread_mutex_unlock(&sim->lock);
}

static void sim_unlock(struct fs *fs, struct fs_file *f)
{
    struct simfs *sim = sim_of(fs);

    if (!f)
        return;
    pthread_mutex_lock(&sim->lock);
    close_locked(sim, f, true);
    pthread_mutex_unlock(&sim->lock);
}

static nx_status stale(struct simfs *sim, const struct fs_file *f, int flags, const char *what,
                       struct nx_err *err)
{
    if (f->life != sim->life)
        return refused(err, what, f->path, "opened before the power went (simulated)");
    if (flags && !(f->flags & flags))
        return refused(err, what, f->path, "Bad file descriptor");
    return NX_OK;
}

static nx_status sim_pread(struct fs *fs, struct fs_file *f, void *to, size_t len, uint64_t off,
                           size_t *got, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_READ);
    const struct sim_bytes *b;
    nx_status st;

    *got = 0;
    if (fate != DO)
        return end(sim, injected(err, fate, "reading", f->path));
    st = stale(sim, f, FS_READ, "reading", err);
    if (st)
        return end(sim, st);
    b = &f->node->seen;
    if (off < b->len) {
        *got = len < b->len - off ? len : (size_t)(b->len - off);
        memcpy(to, b->v + off, *got);
    }
    return end(sim, NX_OK);
}

/* How many of the bytes the disk has room for. */
static size_t that_fits(struct simfs *sim, const struct sim_node *node, uint64_t off, size_t len)
{
    uint64_t used, room;
    uint64_t inside = off < node->seen.len ? node->seen.len - off : 0;
    uint64_t hole = off > node->seen.len ? off - node->seen.len : 0;

    if (len <= inside || sim->space == UINT64_MAX)
        return len;
    used = sim_disk_used(&sim->disk);
    room = sim->space > used ? sim->space - used : 0;
    if (room < hole)
        return 0;
    room = inside + room - hole;
    return room < len ? (size_t)room : len;
}

/* `off` NULL: at the file's own position, which moves. */
static nx_status write_at(struct simfs *sim, struct fs_file *f, const void *from, size_t len,
                          const uint64_t *off, size_t *wrote, struct nx_err *err)
{
    enum fate fate = begin(sim, SIMFS_WRITE);
    uint64_t at;
    size_t n;
    nx_status st;

    *wrote = 0;
    if (fate == OFF)
        return end(sim, injected(err, fate, "writing", f->path));
    st = stale(sim, f, FS_WRITE, "writing", err);
    if (st)
        return end(sim, st);
    at = f->flags & FS_APPEND ? f->node->seen.len : off ? *off : f->at;
    n = that_fits(sim, f->node, at, len);
    if (fate != DO)
        n = (size_t)test_random_below(&sim->disk.random, n + 1);
    sim_write(f->node, at, from, n);
    if (!off)
        f->at = at + n;
    *wrote = n;
    if (fate != DO)
        return end(sim, injected(err, fate, "writing", f->path));
    if (n < len)
        st = nx_fail(err, NX_NOSPACE, "writing %s: No space left on device", f->path);
    return end(sim, st);
}

static nx_status sim_write_here(struct fs *fs, struct fs_file *f, const void *from, size_t len,
                                size_t *wrote, struct nx_err *err)
{
    return write_at(sim_of(fs), f, from, len, NULL, wrote, err);
}

static nx_status sim_pwrite(struct fs *fs, struct fs_file *f, const void *from, size_t len,
                            uint64_t off, size_t *wrote, struct nx_err *err)
{
    return write_at(sim_of(fs), f, from, len, &off, wrote, err);
}

static nx_status sim_sync_file(struct fs *fs, struct fs_file *f, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_SYNC);
    nx_status st;

    if (fate == OFF)
        return end(sim, injected(err, fate, "syncing", f->path));
    st = stale(sim, f, 0, "syncing", err);
    if (st)
        return end(sim, st);
    if (fate == DO || done_anyway(sim, fate))
        sim_sync(f->node);
    else if (fate == FAIL)
        sim_sync_failed(&sim->disk, f->node);
    return end(sim, fate == DO ? NX_OK : injected(err, fate, "syncing", f->path));
}

static nx_status sim_truncate_file(struct fs *fs, struct fs_file *f, uint64_t bytes,
                                   struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_OTHER);
    nx_status st;

    if (fate == OFF)
        return end(sim, injected(err, fate, "truncating", f->path));
    st = stale(sim, f, FS_WRITE, "truncating", err);
    if (st)
        return end(sim, st);
    if (fate == DO || done_anyway(sim, fate))
        sim_truncate(f->node, bytes);
    return end(sim, fate == DO ? NX_OK : injected(err, fate, "truncating", f->path));
}

static nx_status sim_size(struct fs *fs, struct fs_file *f, uint64_t *bytes, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_OTHER);
    nx_status st;

    if (fate != DO)
        return end(sim, injected(err, fate, "reading the size of", f->path));
    st = stale(sim, f, 0, "reading the size of", err);
    if (!st)
        *bytes = f->node->seen.len;
    return end(sim, st);
}

/* Is `inner` the folder `outer`, or somewhere in it? */
static bool is_inside(const struct sim_node *inner, const struct sim_node *outer)
{
    if (inner == outer)
        return true;
    for (size_t i = 0; i < outer->seen_names.n; i++) {
        const struct sim_node *n = outer->seen_names.v[i].node;

        if (n->is_dir && is_inside(inner, n))
            return true;
    }
    return false;
}

static nx_status do_rename(struct simfs *sim, const char *from, const char *to, struct nx_err *err)
{
    struct nx_slice from_name, to_name;
    struct sim_node *from_dir = walk(sim, from, &from_name), *to_dir = walk(sim, to, &to_name);
    struct sim_node *node, *old;

    if (!from_dir || !to_dir || !from_name.len || !to_name.len)
        return not_found(err, "renaming", from);
    node = sim_find(from_dir, from_name);
    if (!node)
        return not_found(err, "renaming", from);
    old = sim_find(to_dir, to_name);
    if (old == node)
        return NX_OK;
    if (old && old->is_dir != node->is_dir)
        return refused(err, "renaming to", to, old->is_dir ? "Is a directory" : "Not a directory");
    if (old && old->seen_names.n)
        return refused(err, "renaming to", to, "Directory not empty");
    if (node->is_dir && is_inside(to_dir, node))
        return refused(err, "renaming to", to, "Invalid argument");
    sim_move(&sim->disk, from_dir, from_name, to_dir, to_name, node);
    return NX_OK;
}

static nx_status sim_rename(struct fs *fs, const char *from, const char *to, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_NAME);

    if (fate == DO)
        return end(sim, do_rename(sim, from, to, err));
    if (done_anyway(sim, fate))
        do_rename(sim, from, to, NULL);
    return end(sim, injected(err, fate, "renaming", from));
}

static nx_status do_link(struct simfs *sim, const char *from, const char *to, struct nx_err *err)
{
    struct nx_slice name;
    struct sim_node *node = lookup(sim, from), *dir = walk(sim, to, &name);

    if (!node || !dir || !name.len)
        return not_found(err, "linking", from);
    if (node->is_dir)
        return refused(err, "linking", from, "Operation not permitted");
    if (sim_find(dir, name))
        return refused(err, "linking to", to, "File exists");
    sim_move(&sim->disk, NULL, name, dir, name, node);
    return NX_OK;
}

static nx_status sim_link(struct fs *fs, const char *from, const char *to, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_NAME);

    if (fate == DO)
        return end(sim, do_link(sim, from, to, err));
    if (done_anyway(sim, fate))
        do_link(sim, from, to, NULL);
    return end(sim, injected(err, fate, "linking", from));
}

static nx_status do_remove(struct simfs *sim, const char *path, bool is_dir, struct nx_err *err)
{
    struct nx_slice name;
    struct sim_node *dir = walk(sim, path, &name);
    struct sim_node *node = dir && name.len ? sim_find(dir, name) : NULL;

    if (!node)
        return not_found(err, "removing", path);
    if (node->is_dir != is_dir)
        return refused(err, "removing", path, is_dir ? "Not a directory" : "Is a directory");
    if (node->seen_names.n)
        return refused(err, "removing", path, "Directory not empty");
    sim_move(&sim->disk, dir, name, NULL, name, node);
    return NX_OK;
}

static nx_status remove_op(struct fs *fs, const char *path, bool is_dir, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_NAME);

    if (fate == DO)
        return end(sim, do_remove(sim, path, is_dir, err));
    if (done_anyway(sim, fate))
        do_remove(sim, path, is_dir, NULL);
    return end(sim, injected(err, fate, "removing", path));
}

static nx_status sim_unlink(struct fs *fs, const char *path, struct nx_err *err)
{
    return remove_op(fs, path, false, err);
}

static nx_status sim_rmdir(struct fs *fs, const char *path, struct nx_err *err)
{
    return remove_op(fs, path, true, err);
}

static nx_status do_mkdir(struct simfs *sim, const char *path, struct nx_err *err)
{
    struct nx_slice name;
    struct sim_node *dir = walk(sim, path, &name), *node;

    if (!dir)
        return not_found(err, "making the folder", path);
    node = name.len ? sim_find(dir, name) : dir;
    if (node)
        return node->is_dir ? NX_OK : refused(err, "making the folder", path, "File exists");
    sim_move(&sim->disk, NULL, name, dir, name, sim_node_new(&sim->disk, true));
    return NX_OK;
}

static nx_status sim_mkdir(struct fs *fs, const char *path, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_NAME);

    if (fate == DO)
        return end(sim, do_mkdir(sim, path, err));
    if (done_anyway(sim, fate))
        do_mkdir(sim, path, NULL);
    return end(sim, injected(err, fate, "making the folder", path));
}

/* The folder at `path`, for those that want one. */
static nx_status find_dir(struct simfs *sim, const char *path, const char *what,
                          struct sim_node **out, struct nx_err *err)
{
    struct sim_node *node = lookup(sim, path);

    if (!node)
        return not_found(err, what, path);
    if (!node->is_dir)
        return refused(err, what, path, "Not a directory");
    *out = node;
    return NX_OK;
}

static nx_status sim_sync_folder(struct fs *fs, const char *path, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_SYNC_DIR);
    struct sim_node *dir;
    nx_status st;

    if (fate == OFF)
        return end(sim, injected(err, fate, "syncing the folder", path));
    st = find_dir(sim, path, "syncing the folder", &dir, err);
    if (!st && (fate == DO || done_anyway(sim, fate)))
        sim_sync_dir(&sim->disk, dir);
    return end(sim, fate == DO ? st : injected(err, fate, "syncing the folder", path));
}

static nx_status sim_list(struct fs *fs, const char *path, struct fs_names *out, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_OTHER);
    struct fs_names names = {0};
    struct sim_node *dir;
    nx_status st;

    if (fate != DO)
        return end(sim, injected(err, fate, "listing", path));
    st = find_dir(sim, path, "listing", &dir, err);
    if (st)
        return end(sim, st);
    names.v = calloc(dir->seen_names.n + 1, sizeof *names.v);
    for (size_t i = 0; names.v && i < dir->seen_names.n; i++) {
        names.v[i] = strdup(dir->seen_names.v[i].name);
        if (!names.v[i])
            abort();
        names.n++;
    }
    *out = names;
    return end(sim, NX_OK);
}

static nx_status sim_stat(struct fs *fs, const char *path, struct fs_stat *out, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_OTHER);
    const struct sim_node *node;

    if (fate != DO)
        return end(sim, injected(err, fate, "looking at", path));
    node = lookup(sim, path);
    if (!node)
        return end(sim, not_found(err, "looking at", path));
    out->bytes = node->seen.len;
    out->mtime_ms = node->mtime_ms;
    out->is_dir = node->is_dir;
    return end(sim, NX_OK);
}

static nx_status sim_capacity(struct fs *fs, const char *path, uint64_t *bytes, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_OTHER);

    if (fate != DO)
        return end(sim, injected(err, fate, "asking for the size of the disk of", path));
    if (!lookup(sim, path))
        return end(sim, not_found(err, "asking for the size of the disk of", path));
    *bytes = sim->space;
    return end(sim, NX_OK);
}

static nx_status sim_lock(struct fs *fs, const char *path, struct fs_file **out, struct nx_err *err)
{
    struct simfs *sim = sim_of(fs);
    enum fate fate = begin(sim, SIMFS_OTHER);
    struct sim_node *node;
    nx_status st;

    if (fate != DO)
        return end(sim, injected(err, fate, "locking", path));
    st = open_node(sim, path, FS_READ | FS_WRITE | FS_CREATE, &node, err);
    if (!st && node->locked)
        st = nx_fail(err, NX_UNAVAILABLE, "%s is locked by another process", path);
    if (!st) {
        node->locked = true;
        *out = file_new(sim, node, path, FS_READ | FS_WRITE);
    }
    return end(sim, st);
}

static const struct fs operations = {
    .open = sim_open,
    .close = sim_close,
    .pread = sim_pread,
    .write = sim_write_here,
    .pwrite = sim_pwrite,
    .sync = sim_sync_file,
    .truncate = sim_truncate_file,
    .size = sim_size,
    .rename = sim_rename,
    .link = sim_link,
    .unlink = sim_unlink,
    .mkdir = sim_mkdir,
    .rmdir = sim_rmdir,
    .sync_dir = sim_sync_folder,
    .list = sim_list,
    .stat = sim_stat,
    .capacity = sim_capacity,
    .lock = sim_lock,
    .unlock = sim_unlock,
};

struct simfs *simfs_new(uint64_t seed)
{
    struct simfs *sim;

    oom_pause();
    sim = calloc(1, sizeof *sim);
    if (!sim)
        abort();
    sim->fs = operations;
    sim->space = UINT64_MAX;
    sim->life = 1;
    pthread_mutex_init(&sim->lock, NULL);
    sim_disk_init(&sim->disk, seed);
    oom_resume();
    return sim;
}

void simfs_free(struct simfs *sim)
{
    if (!sim)
        return;
    sim_disk_done(&sim->disk);
    pthread_mutex_destroy(&sim->lock);
    free(sim);
}

struct fs *simfs_fs(struct simfs *sim)
{
    return &sim->fs;
}

/* Test tools may lock what their caller may only read. */
static struct simfs *lock_const(const struct simfs *sim)
{
    struct simfs *s = (struct simfs *)(uintptr_t)sim;

    pthread_mutex_lock(&s->lock);
    return s;
}

uint64_t simfs_ops(const struct simfs *sim)
{
    struct simfs *s = lock_const(sim);
    uint64_t n = s->ops;

    pthread_mutex_unlock(&s->lock);
    return n;
}

uint64_t simfs_used(const struct simfs *sim)
{
    struct simfs *s = lock_const(sim);
    uint64_t n = sim_disk_used(&s->disk);

    pthread_mutex_unlock(&s->lock);
    return n;
}

bool simfs_power_was_cut(const struct simfs *sim)
{
    struct simfs *s = lock_const(sim);
    bool off = s->off;

    pthread_mutex_unlock(&s->lock);
    return off;
}

bool simfs_failed(const struct simfs *sim)
{
    struct simfs *s = lock_const(sim);
    bool hit = s->failure.hit;

    pthread_mutex_unlock(&s->lock);
    return hit;
}

static void set_cut(struct simfs *sim, uint64_t n, bool killing)
{
    pthread_mutex_lock(&sim->lock);
    sim->cut = (struct fault){.left = n, .kinds = SIMFS_ANY};
    sim->killing = killing;
    pthread_mutex_unlock(&sim->lock);
}

void simfs_cut_power_at(struct simfs *sim, uint64_t n)
{
    set_cut(sim, n, false);
}

void simfs_kill_at(struct simfs *sim, uint64_t n)
{
    set_cut(sim, n, true);
}

void simfs_cut_power_now(struct simfs *sim)
{
    set_cut(sim, 0, false);
    pthread_mutex_lock(&sim->lock);
    sim->off = true;
    pthread_mutex_unlock(&sim->lock);
}

static void next_life_locked(struct simfs *sim)
{
    sim->life++;
    sim->off = sim->killing = false;
    sim->cut = sim->failure = (struct fault){0};
    for (struct sim_node *n = sim->disk.all; n; n = n->next) {
        n->opens = 0;
        n->locked = false;
    }
}

void simfs_restore_power(struct simfs *sim)
{
    oom_pause();
    pthread_mutex_lock(&sim->lock);
    if (!(sim->off && sim->killing))
        sim_disk_lose(&sim->disk);
    next_life_locked(sim);
    pthread_mutex_unlock(&sim->lock);
    oom_resume();
}

void simfs_restart(struct simfs *sim)
{
    pthread_mutex_lock(&sim->lock);
    next_life_locked(sim);
    pthread_mutex_unlock(&sim->lock);
}

static void set_failure(struct simfs *sim, unsigned kinds, uint64_t n, bool for_good)
{
    pthread_mutex_lock(&sim->lock);
    sim->failure = (struct fault){.left = n, .kinds = kinds, .for_good = for_good};
    pthread_mutex_unlock(&sim->lock);
}

void simfs_fail_at(struct simfs *sim, uint64_t n)
{
    set_failure(sim, SIMFS_ANY, n, false);
}

void simfs_fail_kind_at(struct simfs *sim, unsigned kinds, uint64_t n)
{
    set_failure(sim, kinds, n, false);
}

void simfs_fail_kind_from(struct simfs *sim, unsigned kinds, uint64_t n)
{
    set_failure(sim, kinds, n, true);
}

void simfs_heal(struct simfs *sim)
{
    set_failure(sim, 0, 0, false);
}

void simfs_set_space(struct simfs *sim, uint64_t bytes)
{
    pthread_mutex_lock(&sim->lock);
    sim->space = bytes;
    pthread_mutex_unlock(&sim->lock);
}

bool simfs_flip(struct simfs *sim, const char *path, uint64_t off, uint8_t mask)
{
    struct sim_node *node;
    bool there;

    pthread_mutex_lock(&sim->lock);
    node = lookup(sim, path);
    there = node && !node->is_dir && off < node->seen.len;
    if (there) {
        node->seen.v[off] = (char)(node->seen.v[off] ^ mask);
        if (off < node->durable.len)
            node->durable.v[off] = (char)(node->durable.v[off] ^ mask);
        for (struct sim_change *c = node->changes; c; c = c->next) {
            if (c->bytes && off >= c->off && off - c->off < c->len)
                c->bytes[off - c->off] = (char)(c->bytes[off - c->off] ^ mask);
        }
    }
    pthread_mutex_unlock(&sim->lock);
    return there;
}
