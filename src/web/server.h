/* server.h - the parts of a running server, shared by server.c (sockets), dispatch.c (requests) and
 * out.c (replies). Private to the folder.
 *
 * Threads  all alike. One at a time runs libmicrohttpd: it has the turn (web.turn). */
#pragma once

#include "src/base/thread.h"
#include "src/web/http.h"

#define WEB_MAX_LISTEN  16
#define WEB_MAX_THREADS 65

struct web_conn { /* one client connection; belongs to the turn */
    struct web_conn *prev, *next;
    unsigned char *pool; /* start of libmicrohttpd's memory for it, once known; trim.c */
    int64_t idle_since_ns;
    unsigned busy; /* requests under way */
    bool served;   /* one request is done */
    bool dirty;    /* its memory is to be trimmed */
};

struct web {
    struct web_ctx ctx;   /* set once */
    struct web_opts opts; /* set once */
    struct web_data data; /* set once, before `attached` (atomic) */
    bool attached;
    struct MHD_Daemon *daemon[WEB_MAX_LISTEN];
    int listen_fd[WEB_MAX_LISTEN];
    unsigned port[WEB_MAX_LISTEN];
    size_t n_listen;
    size_t pool_bytes; /* memory libmicrohttpd keeps per connection */
    bool trim;         /* set once: idle connections can be trimmed */
    int epoll_fd, wake_fd, timer_fd;
    int mhd_fd[WEB_MAX_LISTEN]; /* the daemons' own epoll */
    bool stopping, ending;      /* atomic: the phases of web_close() */
    uint64_t accepted, closed;  /* atomic */
    unsigned in_flight;         /* atomic: requests seen and not completed */

    struct web_conn *conns; /* the turn's, all six */
    unsigned n_dirty;
    bool quiesced;
    int64_t housekeeping_ns, timer_ns; /* when it was last; when the timer goes off, 0: not set */
    int64_t busy_ns;                   /* when there was a request last */

    struct nx_mutex lock; /* rank WEB: all below */
    struct nx_cond done;  /* n_busy fell to 0 */
    struct web_req *queue_head, *queue_tail;
    struct web_req *running; /* handed out and not answered; linked by `next` */
    struct nx_thread thread[WEB_MAX_THREADS];
    unsigned n_threads, n_busy, n_queued;
    bool turn;  /* a thread runs libmicrohttpd */
    bool again; /* it is to run once more */
    bool stop;  /* nothing is queued any more */
};

/* server.c; any thread */
void web_wake(struct web *w); /* one of those that wait */
/* Runs libmicrohttpd until it has nothing to do or requests have waited for long, or has the thread that is
 * at it run once more. `mine`: the caller has taken the turn already. The caller looks at the queue next. */
void web_turn(struct web *w, bool mine);
/* Whether new events wake other threads while the caller has the turn. */
void web_listen_events(struct web *w, bool on);

/* dispatch.c */
nx_status web_threads_init(struct web *w, struct nx_err *err);
void web_threads_idle(struct web *w); /* what is queued is still answered */
void web_threads_join(struct web *w);
/* Suspends the connection and queues its request (or the next piece of its stream).
 * False when no more is taken: nothing has changed then. */
bool web_submit(struct web *w, struct web_req *r);
/* Sets the cancel flag of requests whose client is gone, or of all. */
void web_cancel(struct web *w, bool all);
void *web_on_target(void *cls, const char *target, struct MHD_Connection *conn);
enum MHD_Result web_on_request(void *cls, struct MHD_Connection *conn, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *data_len, void **req);
void web_on_completed(void *cls, struct MHD_Connection *conn, void **req,
                      enum MHD_RequestTerminationCode why);

/* out.c */
/* Prometheus's choice: the first of gzip and deflate that the header names, bare; we only do gzip. */
bool web_accepts_gzip(const char *accept_encoding);
/* Off the turn: compresses what the handler made, or prepares the stream. */
void web_out_prepare(struct web_req *r, bool gzip);
/* Off the turn: the next piece of a stream. */
void web_out_fill(struct web_req *r);
/* In the turn: hands the reply to libmicrohttpd. */
enum MHD_Result web_out_send(struct web_req *r);
void web_out_free(struct web_req *r);
uint64_t web_out_bytes(const struct web_req *r);

/* trim.c; all in the turn but for web_trim_init() */
void web_trim_init(struct web *w);
/* At the end of a request, before its answer: whether the connection may be kept. */
bool web_trim_first(struct web *w, struct web_conn *c, const struct web_req *r);
void web_trim_dirty(struct web *w, struct web_conn *c);
void web_trim_clean(struct web *w, struct web_conn *c);
/* Between two runs of libmicrohttpd. */
void web_trim_run(struct web *w, int64_t now_ns, bool idle_ones);
