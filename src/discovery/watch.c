/* watch.c - folders under inotify, shared by all that watch them.
 *
 * RULES   W1  A file that is being written is not announced before it is closed; what is renamed or
 *             linked into place is announced at once.
 *         W2  When the kernel's queue overflowed, everything counts as touched. */
#include "src/discovery/mechanism.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS                                                                                     \
    (IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF |       \
     IN_MOVE_SELF | IN_ONLYDIR)

void watcher_init(struct watcher *w)
{
    *w = (struct watcher){.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
    w->errors = w->fd < 0;
}

void watcher_done(struct watcher *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->v[i].dir);
    free(w->v);
    if (w->fd >= 0)
        close(w->fd);
    *w = (struct watcher){.fd = -1};
}

static struct watch *find(const struct watcher *w, const char *dir)
{
    for (size_t i = 0; i < w->n; i++) {
        if (!strcmp(w->v[i].dir, dir))
            return &w->v[i];
    }
    return NULL;
}

bool watcher_add(struct watcher *w, const char *dir)
{
    struct watch *known = find(w, dir);
    int wd;

    if (w->fd < 0)
        return false;
    if (known && known->wd >= 0) {
        known->refs++;
        return true;
    }
    if ((wd = inotify_add_watch(w->fd, dir, EVENTS)) < 0) {
        w->errors += errno != ENOENT && errno != ENOTDIR;
        return false;
    }
    if (known) { /* the folder went and came back */
        known->wd = wd;
        known->refs++;
        return true;
    }
    if (w->n == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 8;
        struct watch *v = realloc(w->v, cap * sizeof *v);

        if (!v)
            return false;
        w->v = v;
        w->cap = cap;
    }
    w->v[w->n] = (struct watch){.wd = wd, .dir = strdup(dir), .refs = 1};
    if (!w->v[w->n].dir)
        return false;
    w->n++;
    return true;
}

void watcher_drop(struct watcher *w, const char *dir)
{
    struct watch *known = find(w, dir);

    if (!known || --known->refs)
        return;
    if (known->wd >= 0)
        inotify_rm_watch(w->fd, known->wd);
    free(known->dir);
    *known = w->v[--w->n];
}

bool watcher_alive(const struct watcher *w, const char *dir)
{
    const struct watch *known = find(w, dir);

    return known && known->wd >= 0;
}

/* W1: a file just created is empty, unless it is a link. */
static bool worth_a_look(const struct watch *watch, const struct inotify_event *e)
{
    char path[4096];
    struct stat s;

    if (!(e->mask & IN_CREATE) || !e->len)
        return true;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", watch->dir, e->name) >= sizeof path ||
        lstat(path, &s))
        return true;
    return !S_ISREG(s.st_mode) || s.st_nlink > 1;
}

static void take_event(struct watcher *w, const struct inotify_event *e)
{
    for (size_t i = 0; i < w->n; i++) {
        struct watch *watch = &w->v[i];

        if (e->mask & IN_Q_OVERFLOW)
            watch->touched = true; /* W2 */
        else if (watch->wd == e->wd && worth_a_look(watch, e))
            watch->touched = true;
        if (watch->wd == e->wd && (e->mask & IN_IGNORED))
            watch->wd = -1;
    }
}

void watcher_read(struct watcher *w)
{
    union {
        char bytes[8192];
        struct inotify_event align;
    } events;
    ssize_t got;

    for (size_t i = 0; i < w->n; i++)
        w->v[i].touched = false;
    for (int rounds = 0; w->fd >= 0 && rounds < 1000; rounds++) {
        got = read(w->fd, events.bytes, sizeof events.bytes);
        if (got <= 0)
            break;
        for (ssize_t at = 0; at < got;) {
            const struct inotify_event *e =
                (const struct inotify_event *)(const void *)(events.bytes + at);

            take_event(w, e);
            at += (ssize_t)sizeof *e + e->len;
        }
    }
}

bool watcher_touched(const struct watcher *w, const char *dir)
{
    const struct watch *known = find(w, dir);

    return known && known->touched;
}
