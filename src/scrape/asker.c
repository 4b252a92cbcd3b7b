/* asker.c - requests over kept connections, from the loop's side.
 *
 * SHAPE   The loop sends a request and lets the workers wait for the answer: all of them wait at one
 *         epoll descriptor, which tells one of them once when bytes have come. It reads them, and asks
 *         to be told again if that was not all.
 * RULES   A1  The loop alone closes a connection, so that its number is never another's. A worker that
 *             has enough of one says so (work.again, fetch.wire.last).
 *         A2  When the time is up the loop shuts the connection down, which tells a worker.
 *         A3  A work is in the list until it came back.
 *         A4  Who lends a work to epoll stores `received` before, who is told of it loads it after: that
 *             is what makes one thread's writes seen by the next.
 * THREADS The loop thread. */
#include "src/scrape/manager.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/scrape/wire.h"

void asker_drop(struct target *t)
{
    if (t->kept_fd >= 0)
        close(t->kept_fd);
    t->kept_fd = -1;
}

void asker_keep(struct target *t, struct fetch *f)
{
    int fd = fetch_take_connection(f);

    if (fd < 0)
        return;
    asker_drop(t);
    t->kept_fd = fd;
}

static void list_put(struct scrape *s, struct work *w)
{
    w->wire_prev = NULL;
    w->wire_next = s->wired;
    if (s->wired)
        s->wired->wire_prev = w;
    s->wired = w;
}

static void list_remove(struct scrape *s, struct work *w)
{
    if (w->wire_next)
        w->wire_next->wire_prev = w->wire_prev;
    if (w->wire_prev)
        w->wire_prev->wire_next = w->wire_next;
    else
        s->wired = w->wire_next;
}

/* Workers may be told of w from here on. */
static bool watch(struct scrape *s, struct work *w)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = w};

    atomic_store(&w->received, false); /* A4 */
    return epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) == 0 ||
           epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, w->fd, &ev) == 0;
}

bool asker_ask(struct scrape *s, struct work *w, const struct fetch_request *r)
{
    struct target *t = w->target;

    if (t->kept_fd < 0 || !r->keep || !wire_ask(t->kept_fd, w->fetch, r))
        goto odd;
    w->wired = true;
    w->again = false;
    w->fd = t->kept_fd;
    w->deadline_mono_ns = w->begun_mono_ns + r->timeout_ms * 1000000;
    if (!s->wired || w->deadline_mono_ns < s->wired_check_mono_ns)
        s->wired_check_mono_ns = w->deadline_mono_ns;
    list_put(s, w);
    target_lend(t);
    if (watch(s, w))
        return true;
    list_remove(s, w);
    w->wired = false;

odd:
    asker_drop(t);
    return false;
}

void asker_finish(struct scrape *s, struct work *w)
{
    list_remove(s, w);
    w->wired = false;
    if (w->again || w->fetch->wire.last || w->fetch->result != CURLE_OK)
        asker_drop(w->target);
}

void asker_check_deadlines(struct scrape *s)
{
    int64_t now, next = INT64_MAX;

    if (!s->wired)
        return;
    now = clock_mono_ns();
    if (now < s->wired_check_mono_ns)
        return;
    for (struct work *w = s->wired; w; w = w->wire_next) {
        if (atomic_load(&w->received))
            continue;
        if (w->deadline_mono_ns <= now)
            shutdown(w->fd, SHUT_RDWR); /* A2 */
        else if (w->deadline_mono_ns < next)
            next = w->deadline_mono_ns;
    }
    s->wired_check_mono_ns = next;
}

int64_t asker_wait_ms(const struct scrape *s, int64_t now_mono_ns)
{
    return s->wired && s->wired_check_mono_ns != INT64_MAX
               ? (s->wired_check_mono_ns - now_mono_ns + 999999) / 1000000
               : INT64_MAX;
}
