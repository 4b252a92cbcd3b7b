/* files.c - a bounded number of open files.
 *
 * RULES   O1  A file that is pinned or kept is not in the list of idle ones, and stays open.
 *         O2  Idle files are closed, the longest idle first, while more than `max` files are open. Pinned and
 *             kept ones may be more than that.
 *         O3  Two threads that open the same file at a time: the second one's is closed again. */
#include "storage/files.h"

#include <stdlib.h>

#include "src/base/thread.h"

struct files {
    struct nx_mutex lock;
    size_t max, n_open; /* under lock, as what follows */
    struct lazy_file *oldest, *newest;
};

struct files *files_new(size_t max)
{
    struct files *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    nx_mutex_init(&p->lock, NX_RANK_STATS);
    p->max = max;
    return p;
}

void files_free(struct files *p)
{
    if (!p)
        return;
    NX_ASSERT(p->n_open == 0);
    nx_mutex_done(&p->lock);
    free(p);
}

size_t files_open(struct files *p)
{
    size_t n;

    nx_lock(&p->lock);
    n = p->n_open;
    nx_unlock(&p->lock);
    return n;
}

/* ---- the list, under the lock ---------------------------------------------------------------- */

static void leave_locked(struct files *p, struct lazy_file *f)
{
    if (!f->idle)
        return;
    f->idle = false;
    if (f->prev)
        f->prev->next = f->next;
    else
        p->oldest = f->next;
    if (f->next)
        f->next->prev = f->prev;
    else
        p->newest = f->prev;
    f->prev = f->next = NULL;
}

/* O1 */
static void rest_locked(struct files *p, struct lazy_file *f)
{
    if (f->idle || f->pins || f->keep || !f->file)
        return;
    f->idle = true;
    f->prev = p->newest;
    f->next = NULL;
    if (p->newest)
        p->newest->next = f;
    else
        p->oldest = f;
    p->newest = f;
}

/* O2: a file to close once the lock is free, or NULL. */
static struct fs_file *excess_locked(struct files *p, struct fs **fs)
{
    struct lazy_file *f = p->n_open > p->max ? p->oldest : NULL;
    struct fs_file *file;

    if (!f)
        return NULL;
    leave_locked(p, f);
    file = f->file;
    f->file = NULL;
    p->n_open--;
    *fs = f->fs;
    return file;
}

static void shrink(struct files *p)
{
    struct fs_file *file;
    struct fs *fs = NULL;

    do {
        nx_lock(&p->lock);
        file = excess_locked(p, &fs);
        nx_unlock(&p->lock);
        if (file)
            fs->close(fs, file);
    } while (file);
}

/* ---- files ----------------------------------------------------------------------------------- */

void lazy_file_init(struct lazy_file *f, struct files *pool, struct fs *fs, const char *path)
{
    *f = (struct lazy_file){.pool = pool, .fs = fs, .path = path};
}

void lazy_file_done(struct lazy_file *f)
{
    struct fs_file *file;

    if (!f->pool)
        return;
    nx_lock(&f->pool->lock);
    NX_ASSERT(f->pins == 0);
    leave_locked(f->pool, f);
    file = f->file;
    f->file = NULL;
    f->pool->n_open -= file != NULL;
    nx_unlock(&f->pool->lock);
    if (file)
        f->fs->close(f->fs, file);
    f->pool = NULL;
}

static struct fs_file *pin_locked(struct lazy_file *f)
{
    leave_locked(f->pool, f);
    f->pins++;
    return f->file;
}

nx_status lazy_file_get(struct lazy_file *f, struct fs_file **out, struct nx_err *err)
{
    struct fs_file *file, *mine = NULL;
    nx_status st;

    nx_lock(&f->pool->lock);
    file = f->file ? pin_locked(f) : NULL;
    nx_unlock(&f->pool->lock);
    if (!file) {
        st = f->fs->open(f->fs, f->path, FS_READ, &mine, err);
        if (st)
            return st;
        nx_lock(&f->pool->lock);
        if (!f->file) {
            f->file = mine;
            f->pool->n_open++;
            mine = NULL;
        }
        file = pin_locked(f);
        nx_unlock(&f->pool->lock);
        f->fs->close(f->fs, mine); /* O3 */
        shrink(f->pool);
    }
    *out = file;
    return NX_OK;
}

void lazy_file_put(struct lazy_file *f)
{
    struct fs_file *file;
    struct fs *fs = NULL;

    nx_lock(&f->pool->lock);
    NX_ASSERT(f->pins > 0);
    f->pins--;
    rest_locked(f->pool, f);
    file = excess_locked(f->pool, &fs);
    nx_unlock(&f->pool->lock);
    if (file)
        fs->close(fs, file);
}

nx_status lazy_file_keep(struct lazy_file *f, struct nx_err *err)
{
    struct fs_file *file;
    nx_status st = lazy_file_get(f, &file, err);

    if (st)
        return st;
    nx_lock(&f->pool->lock);
    f->keep = true;
    nx_unlock(&f->pool->lock);
    lazy_file_put(f);
    return NX_OK;
}
