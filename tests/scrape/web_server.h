/* web_server.h - a small HTTP server inside a test: one thread a connection, answers from a table that
 * the test changes while it runs. */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../support/test.h"

struct page {
    char path[64];
    char status[64];   /* "200 OK" */
    char type[128];    /* Content-Type; empty: none */
    char headers[256]; /* more header lines, each with \r\n */
    char body[65536];
    size_t len;   /* of the body */
    bool chunked; /* and it is in chunks already */
    int delay_ms; /* before the answer */
    unsigned hits;
    char request[4096]; /* the last one: its head */
};
struct web {
    pthread_mutex_t lock;
    struct page pages[16]; /* under lock */
    size_t n_pages;
    int fds[64];
    unsigned n_fds, connections;
    bool stop;
    int listener;
    unsigned port;
    pthread_t acceptor, threads[64];
};
struct web_conn {
    struct web *w;
    int fd;
};

static struct page *web_page(struct web *w, const char *path) /* with the lock held */
{
    for (size_t i = 0; i < w->n_pages; i++)
        if (strcmp(w->pages[i].path, path) == 0)
            return &w->pages[i];
    return NULL;
}

/* Sets what `path` answers. */
static void web_set(struct web *w, const char *path, const char *status, const char *type,
                    const char *body, size_t len)
{
    struct page *p;

    pthread_mutex_lock(&w->lock);
    p = web_page(w, path);
    if (!p) {
        p = &w->pages[w->n_pages++];
        snprintf(p->path, sizeof p->path, "%s", path);
    }
    snprintf(p->status, sizeof p->status, "%s", status);
    snprintf(p->type, sizeof p->type, "%s", type);
    memcpy(p->body, body, len);
    p->len = len;
    p->headers[0] = '\0';
    p->delay_ms = 0;
    p->chunked = false;
    pthread_mutex_unlock(&w->lock);
}

static void web_text(struct web *w, const char *path, const char *body)
{
    web_set(w, path, "200 OK", "text/plain; version=0.0.4", body, strlen(body));
}

static bool web_answer(struct web *w, int fd, const char *request)
{
    static __thread char answer[70000];
    char path[64] = "";
    struct page *p;
    int n, delay;
    size_t len;

    sscanf(request, "%*s %63[^ ?]", path);
    pthread_mutex_lock(&w->lock);
    p = web_page(w, path);
    if (!p) {
        n = snprintf(answer, sizeof answer, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        delay = 0;
        len = 0;
    } else {
        p->hits++;
        snprintf(p->request, sizeof p->request, "%s", request);
        n = snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\n%s%s%s%s", p->status,
                     p->type[0] ? "Content-Type: " : "", p->type, p->type[0] ? "\r\n" : "",
                     p->headers);
        if (p->chunked)
            n += snprintf(answer + n, sizeof answer - (size_t)n,
                          "Transfer-Encoding: chunked\r\n\r\n");
        else
            n += snprintf(answer + n, sizeof answer - (size_t)n, "Content-Length: %zu\r\n\r\n",
                          p->len);
        memcpy(answer + n, p->body, p->len);
        len = p->len;
        delay = p->delay_ms;
    }
    pthread_mutex_unlock(&w->lock);
    for (; delay > 0; delay -= 10) {
        usleep(10000);
        pthread_mutex_lock(&w->lock);
        if (w->stop)
            delay = 0;
        pthread_mutex_unlock(&w->lock);
    }
    return send(fd, answer, (size_t)n + len, MSG_NOSIGNAL) == (ssize_t)(n + (int)len);
}

static bool request_complete(const char *request, size_t have)
{
    const char *end = strstr(request, "\r\n\r\n"), *length = strstr(request, "Content-Length: ");
    size_t body = length && end && length < end ? strtoul(length + 16, NULL, 10) : 0;

    return end && have >= (size_t)(end + 4 - request) + body;
}

static void *web_connection(void *arg)
{
    struct web_conn *c = arg;
    char request[4096];
    size_t have = 0;
    ssize_t got;

    while ((got = recv(c->fd, request + have, sizeof request - 1 - have, 0)) > 0) {
        have += (size_t)got;
        request[have] = '\0';
        if (!request_complete(request, have))
            continue;
        if (!web_answer(c->w, c->fd, request))
            break;
        have = 0;
    }
    free(c);
    return NULL;
}

static void *web_accept(void *arg)
{
    struct web *w = arg;
    int fd;

    while ((fd = accept(w->listener, NULL, NULL)) >= 0) {
        struct web_conn *c = malloc(sizeof *c);
        *c = (struct web_conn){w, fd};
        pthread_mutex_lock(&w->lock);
        assert_true(w->n_fds < NX_COUNT(w->fds));
        w->fds[w->n_fds] = fd;
        w->connections++;
        pthread_create(&w->threads[w->n_fds++], NULL, web_connection, c);
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

static struct web *web_start(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct web *w = calloc(1, sizeof *w);
    socklen_t len = sizeof a;

    pthread_mutex_init(&w->lock, NULL);
    w->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(w->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(w->listener, 64), 0);
    assert_int_equal(getsockname(w->listener, (struct sockaddr *)&a, &len), 0);
    w->port = ntohs(a.sin_port);
    pthread_create(&w->acceptor, NULL, web_accept, w);
    return w;
}

static void web_stop(struct web *w)
{
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_mutex_unlock(&w->lock);
    shutdown(w->listener, SHUT_RDWR);
    pthread_join(w->acceptor, NULL);
    for (unsigned i = 0; i < w->n_fds; i++) {
        shutdown(w->fds[i], SHUT_RDWR);
        pthread_join(w->threads[i], NULL);
        close(w->fds[i]);
    }
    close(w->listener);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
