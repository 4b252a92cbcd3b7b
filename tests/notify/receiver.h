/* receiver.h - an HTTP server inside a test that keeps what it is sent, a thread a connection. It may refuse, and
 * hold an answer back until it is told to go on. */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/test.h"

#define RECEIVED_MOST 64

#define CONNECTIONS_MOST 64

struct receiver {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under lock */
    char *heads[RECEIVED_MOST], *bodies[RECEIVED_MOST];
    size_t n;
    unsigned connections; /* so far */
    char status[64];      /* "200 OK" */
    char words[64];       /* the answer's body */
    bool hold, stop;
    int listener;
    unsigned port;
    pthread_t thread;
    struct received_from {
        struct receiver *r;
        pthread_t thread;
        int fd;
    } from[CONNECTIONS_MOST];
};

/* One request, into a text of its own; NULL at the end of the connection. *body_at: where its body begins. */
static char *receive(int fd, size_t *body_at)
{
    size_t cap = 4096, have = 0, want = 0;
    char *text = malloc(cap);

    for (;;) {
        ssize_t got = recv(fd, text + have, cap - 1 - have, 0);
        const char *end, *length;

        if (got <= 0) {
            free(text);
            return NULL;
        }
        have += (size_t)got;
        text[have] = '\0';
        if (!want && (end = strstr(text, "\r\n\r\n"))) {
            length = strstr(text, "Content-Length: ");
            *body_at = (size_t)(end + 4 - text);
            want = *body_at + (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
        }
        if (want && have >= want)
            return text;
        if (have + 1 == cap)
            text = realloc(text, cap *= 2);
    }
}

static void *receiver_serve(void *arg)
{
    struct received_from *c = arg;
    struct receiver *r = c->r;
    char answer[256], *text;
    size_t at = 0;

    while ((text = receive(c->fd, &at))) {
        pthread_mutex_lock(&r->lock);
        if (r->n < RECEIVED_MOST) {
            r->bodies[r->n] = strdup(text + at);
            r->heads[r->n++] = strndup(text, at);
        }
        pthread_cond_broadcast(&r->changed);
        while (r->hold && !r->stop)
            pthread_cond_wait(&r->changed, &r->lock);
        snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", r->status,
                 strlen(r->words), r->words);
        pthread_mutex_unlock(&r->lock);
        free(text);
        if (send(c->fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
            break;
    }
    shutdown(c->fd, SHUT_RDWR);
    return NULL;
}

static void *receiver_run(void *arg)
{
    struct receiver *r = arg;
    int fd;

    while ((fd = accept(r->listener, NULL, NULL)) >= 0) {
        pthread_mutex_lock(&r->lock);
        if (!r->stop && r->connections < CONNECTIONS_MOST) {
            struct received_from *c = &r->from[r->connections++];
            *c = (struct received_from){.r = r, .fd = fd};
            assert_int_equal(pthread_create(&c->thread, NULL, receiver_serve, c), 0);
        } else {
            close(fd);
        }
        pthread_mutex_unlock(&r->lock);
    }
    return NULL;
}

static void receiver_open(struct receiver *r)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;

    *r = (struct receiver){.status = "200 OK"};
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(r->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(r->listener, 16), 0);
    assert_int_equal(getsockname(r->listener, (struct sockaddr *)&a, &len), 0);
    r->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&r->thread, NULL, receiver_run, r), 0);
}

static void receiver_close(struct receiver *r)
{
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    shutdown(r->listener, SHUT_RDWR);
    pthread_join(r->thread, NULL);
    close(r->listener);
    for (unsigned i = 0; i < r->connections; i++) {
        shutdown(r->from[i].fd, SHUT_RDWR);
        pthread_join(r->from[i].thread, NULL);
        close(r->from[i].fd);
    }
    for (size_t i = 0; i < r->n; i++) {
        free(r->heads[i]);
        free(r->bodies[i]);
    }
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
}

/* Waits for request number n, from 0, and gives its body; it stays the receiver's. */
static const char *receiver_body(struct receiver *r, size_t n)
{
    struct timespec until;
    const char *body;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&r->lock);
    while (r->n <= n)
        if (pthread_cond_timedwait(&r->changed, &r->lock, &until)) {
            pthread_mutex_unlock(&r->lock);
            fail_msg("request %zu did not come", n);
        }
    body = r->bodies[n];
    pthread_mutex_unlock(&r->lock);
    return body;
}

static inline void receiver_hold(struct receiver *r, bool hold)
{
    pthread_mutex_lock(&r->lock);
    r->hold = hold;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static inline void receiver_answer(struct receiver *r, const char *status)
{
    pthread_mutex_lock(&r->lock);
    snprintf(r->status, sizeof r->status, "%s", status);
    pthread_mutex_unlock(&r->lock);
}

static inline void receiver_say(struct receiver *r, const char *words)
{
    pthread_mutex_lock(&r->lock);
    snprintf(r->words, sizeof r->words, "%s", words);
    pthread_mutex_unlock(&r->lock);
}
