/* server.h - the parts of a running server, shared by server.c (sockets), dispatch.c (requests) and
 * out.c (replies). Private to the folder. */
#pragma once

#include "src/base/thread.h"
#include "src/web/http.h"

#define WEB_MAX_LISTEN  16
#define WEB_MAX_WORKERS 64

struct web_conn { /* one client connection; the socket thread's own */
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
    int epoll_fd, wake_fd;
    struct nx_thread io;
    bool stopping, io_stop;    /* atomic: the phases of web_close() */
    uint64_t accepted, closed; /* atomic */
    unsigned in_flight;        /* atomic: requests seen and not completed */

    struct web_conn *conns; /* socket thread, all three */
    unsigned n_dirty;
    bool quiesced;

    struct nx_mutex lock; /* rank WEB: all below */
    struct nx_cond work;
    struct web_req *queue_head, *queue_tail;
    struct web_req *running; /* handed out and not answered; linked by `next` */
    struct nx_thread worker[WEB_MAX_WORKERS];
    unsigned n_workers, n_idle, n_queued;
    bool stop; /* workers end; nothing is queued any more */
};

/* server.c; any thread */
void web_wake(struct web *w);

/* dispatch.c */
nx_status web_workers_init(struct web *w, struct nx_err *err);
void web_workers_stop(struct web *w); /* what is queued is still answered */
/* Suspends the connection and queues its request (or the next piece of its stream) for a worker.
 * False when the workers have been stopped: nothing has changed then. */
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
/* On a worker: compresses what the handler made, or prepares the stream. */
void web_out_prepare(struct web_req *r, bool gzip);
/* On a worker: the next piece of a stream. */
void web_out_fill(struct web_req *r);
/* On the socket thread: hands the reply to libmicrohttpd. */
enum MHD_Result web_out_send(struct web_req *r);
void web_out_free(struct web_req *r);
uint64_t web_out_bytes(const struct web_req *r);

/* trim.c; all on the socket thread but for web_trim_init() */
void web_trim_init(struct web *w);
/* At the end of a request, before its answer: whether the connection may be kept. */
bool web_trim_first(struct web *w, struct web_conn *c, const struct web_req *r);
void web_trim_dirty(struct web *w, struct web_conn *c);
void web_trim_clean(struct web *w, struct web_conn *c);
/* Between two runs of libmicrohttpd. */
void web_trim_run(struct web *w, int64_t now_ns, bool idle_ones);
