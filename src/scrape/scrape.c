/* scrape.c - the manager's beginning and end, and how a configuration gets to the loop. */
#include "src/scrape/scrape.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "src/scrape/manager.h"

#define DEFAULT_WORKERS      2u
#define DEFAULT_RELOAD_MS    5000
#define DEFAULT_TOLERANCE_MS 2

static nx_status start_threads(struct scrape *s, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (unsigned i = 0; i < s->opts.workers && !st; i++) {
        st = nx_thread_start(&s->workers[i], "append", worker_main, s, err);
        s->n_workers += !st;
    }
    return st ? st : nx_thread_start(&s->loop, "scrape", loop_main, s, err);
}

static void init_locks(struct scrape *s)
{
    nx_mutex_init(&s->lock, NX_RANK_SCRAPE);
    nx_mutex_init(&s->status, NX_RANK_TARGET);
    nx_mutex_init(&s->queue, NX_RANK_QUEUE);
    nx_cond_init(&s->applied);
    nx_cond_init(&s->lead);
}

/* Bells are heard by their edge, so nobody has to read what they count. */
static nx_status init_waiting(struct scrape *s, struct nx_err *err)
{
    struct epoll_event bell = {.events = EPOLLIN | EPOLLET}, wake = bell,
                       news = {.events = EPOLLIN};
    int discovery = discovery_fd(s->discovery);

    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->loop_epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    wake.data.fd = s->wake_fd;
    news.data.fd = discovery;
    if (s->epoll_fd < 0 || s->bell_fd < 0 || s->loop_epoll_fd < 0 || s->wake_fd < 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->bell_fd, &bell) ||
        epoll_ctl(s->loop_epoll_fd, EPOLL_CTL_ADD, s->wake_fd, &wake) ||
        (discovery >= 0 && epoll_ctl(s->loop_epoll_fd, EPOLL_CTL_ADD, discovery, &news)))
        return nx_fail_errno(err, errno, "epoll");
    return NX_OK;
}

nx_status scrape_new(struct scrape **out, const struct scrape_opts *opts, struct nx_err *err)
{
    struct scrape *s = calloc(1, sizeof *s);
    nx_status st;

    if (!s)
        return nx_fail(err, NX_NOMEM, "out of memory");
    s->opts = *opts;
    s->epoll_fd = s->bell_fd = s->loop_epoll_fd = s->wake_fd = -1;
    if (!s->opts.workers)
        s->opts.workers = DEFAULT_WORKERS;
    if (!s->opts.discovery_reload_ms)
        s->opts.discovery_reload_ms = DEFAULT_RELOAD_MS;
    if (!s->opts.timestamp_tolerance_ms)
        s->opts.timestamp_tolerance_ms = DEFAULT_TOLERANCE_MS;
    init_locks(s);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    s->user_agent = strdup(opts->user_agent ? opts->user_agent : "Narthex/" NX_VERSION);
    s->env = (struct ingest_env){.storage = opts->storage,
                                 .memory = opts->memory,
                                 .pool = intern_new(),
                                 .status_lock = &s->status};
    s->multi = curl_multi_init();
    s->workers = calloc(s->opts.workers, sizeof *s->workers);
    st = s->user_agent && s->env.pool && s->multi && s->workers
             ? NX_OK
             : nx_fail(err, NX_NOMEM, "out of memory");
    if (!st)
        st = discovery_new(&s->discovery, err);
    if (!st)
        st = init_waiting(s, err);
    if (!st)
        st = relabel_work_init(&s->work, err);
    if (!st)
        st = start_threads(s, err);
    if (st) {
        scrape_free(s);
        return st;
    }
    *out = s;
    return NX_OK;
}

nx_status scrape_apply(struct scrape *s, const struct config *cfg, struct nx_err *err)
{
    uint64_t number;
    nx_status st;

    nx_lock(&s->lock);
    while (s->asked != s->answered) /* one at a time */
        nx_cond_wait(&s->applied, &s->lock);
    s->pending = config_ref(cfg);
    number = ++s->asked;
    loop_wake(s);
    while (s->answered < number)
        nx_cond_wait(&s->applied, &s->lock);
    st = s->apply_status;
    if (st && err)
        *err = s->apply_err;
    nx_unlock(&s->lock);
    return st;
}

static void free_queue(struct scrape *s, struct work_queue *q)
{
    struct work *w;

    while ((w = work_pop(q))) {
        if (w->wired)
            asker_finish(s, w);
        work_free(w);
    }
}

/* Requests whose answer did not come. */
static void free_wired(struct scrape *s)
{
    while (s->wired) {
        struct work *w = s->wired;
        s->wired = w->wire_next;
        work_free(w);
    }
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

void scrape_free(struct scrape *s)
{
    if (!s)
        return;
    nx_lock(&s->queue);
    s->stop = true;
    nx_unlock(&s->queue);
    worker_ring(s);
    loop_wake(s);
    nx_thread_join(&s->loop);
    for (unsigned i = 0; i < s->n_workers; i++)
        nx_thread_join(&s->workers[i]); /* they finish what was received */
    free_queue(s, &s->todo);
    free_queue(s, &s->done);
    free_wired(s);
    pools_free(s);
    discovery_free(s->discovery);
    if (s->multi)
        curl_multi_cleanup(s->multi);
    config_unref(s->pending);
    relabel_work_done(&s->work);
    intern_free(s->env.pool);
    free(s->intervals);
    free(s->heap);
    free(s->workers);
    free(s->user_agent);
    nx_cond_done(&s->applied);
    nx_cond_done(&s->lead);
    close_if_open(s->epoll_fd);
    close_if_open(s->bell_fd);
    close_if_open(s->loop_epoll_fd);
    close_if_open(s->wake_fd);
    nx_mutex_done(&s->lock);
    nx_mutex_done(&s->status);
    nx_mutex_done(&s->queue);
    free(s);
}
