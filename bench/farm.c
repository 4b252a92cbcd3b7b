/* farm.c - many exporters in one cheap process, to load a scraper with.
 *
 *     farm --port 9900 --targets 100 --series 1000 [--churn 0] [--sd targets.json]
 *
 * Prints READY when it listens. Target N answers at /N/metrics, and at any path of the address
 * 127.0.1.N (127.0.2.N, ... after 250); --sd writes the targets as a file_sd file.
 *
 * WHAT    Each target has series of the kinds that real exporters have, in the shares seen on node,
 *         postgres and application exporters: about half never change (info, limits, idle counters),
 *         the rest are counters of integers, gauges of few decimals, histograms of twelve buckets, and
 *         a few doubles with all their digits. Values depend on target, series and time alone, so two
 *         scrapers see the same and counters only rise.
 * HOW     One thread, epoll. The text without values is made once and shared by all targets; an answer is
 *         that text with numbers filled in. --churn P gives P percent of the series a label that changes
 *         every minute. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum shape { CONSTANT, IDLE, COUNTER, GAUGE, BUCKET, DOUBLE };

struct line {
    size_t text_end; /* of the text before the value, from the end of the line before */
    enum shape shape;
    uint32_t family; /* buckets of one histogram share it */
    uint32_t bucket;
    bool churns; /* the text has a hole for the generation */
};

static struct {
    unsigned targets, series, churn, port;
    char *text;
    size_t n_text, cap_text;
    struct line *lines;
    size_t n_lines;
    double start;
} farm = {.targets = 10, .series = 1000, .port = 9900};

/* ---- the text ---------------------------------------------------------------------------------------- */

static void put(const char *s)
{
    size_t n = strlen(s);

    if (farm.n_text + n > farm.cap_text) {
        farm.cap_text = (farm.n_text + n) * 2;
        farm.text = realloc(farm.text, farm.cap_text);
        if (!farm.text)
            abort();
    }
    memcpy(farm.text + farm.n_text, s, n);
    farm.n_text += n;
}

static void add_line(const char *series, enum shape shape, uint32_t family, uint32_t bucket)
{
    put(series);
    put(" ");
    farm.lines[farm.n_lines] =
        (struct line){farm.n_text, shape, family, bucket, strchr(series, '\001') != NULL};
    farm.n_lines++;
}

static void head(const char *name, const char *type, const char *help)
{
    char s[512];

    snprintf(s, sizeof s, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    put(s);
}

/* \001 stands where the generation goes. */
static const char *generation(unsigned i)
{
    return farm.churn && i % 100 < farm.churn ? ",pod=\"web-\001\"" : "";
}

static void plain_family(unsigned f, unsigned *left)
{
    static const char *const methods[] = {"GET", "POST", "PUT", "DELETE"};
    static const char *const codes[] = {"200", "201", "304", "400", "404", "500"};
    enum shape shape = f % 4 == 0 ? CONSTANT : f % 4 == 1 ? COUNTER : f % 4 == 2 ? GAUGE : DOUBLE;
    unsigned n = f % 4 == 1 ? 24 : f % 4 == 3 ? 2 : 8;
    char name[64], s[512];

    snprintf(name, sizeof name,
             f % 4 == 1   ? "shop_requests_%u_total"
             : f % 4 == 0 ? "node_setting_%u"
                          : "process_level_%u",
             f);
    head(name, f % 4 == 1 ? "counter" : "gauge",
         "What this exporter knows about one of its many subjects.");
    for (unsigned i = 0; i < n && *left; i++, --*left) {
        if (f % 4 == 1)
            snprintf(s, sizeof s, "%s{method=\"%s\",code=\"%s\",path=\"/api/v1/items/%u\"%s}", name,
                     methods[i % 4], codes[i / 4], f, generation(i + f));
        else
            snprintf(s, sizeof s, "%s{device=\"dev%u\",mode=\"m%u\"%s}", name, i / 2, i % 2,
                     generation(i + f));
        add_line(s, shape == COUNTER && i % 3 ? IDLE : shape, f * 64 + i, 0);
    }
}

static void histogram_family(unsigned f, unsigned *left)
{
    static const char *const bounds[] = {"0.005", "0.01", "0.025", "0.05", "0.1", "0.25",
                                         "0.5",   "1",    "2.5",   "5",    "10",  "+Inf"};
    char name[64], s[512];

    snprintf(name, sizeof name, "http_request_duration_%u_seconds", f);
    head(name, "histogram", "How long requests took, by handler.");
    for (unsigned h = 0; h < 3 && *left; h++) {
        const char *gen = generation(h + f);
        for (unsigned b = 0; b < 12 && *left; b++, --*left) {
            snprintf(s, sizeof s, "%s_bucket{handler=\"/h%u\"%s,le=\"%s\"}", name, h, gen,
                     bounds[b]);
            add_line(s, BUCKET, f * 64 + h, b);
        }
        for (unsigned b = 0; b < 2 && *left; b++, --*left) {
            snprintf(s, sizeof s, "%s_%s{handler=\"/h%u\"%s}", name, b ? "count" : "sum", h, gen);
            add_line(s, b ? BUCKET : DOUBLE, f * 64 + h, 11);
        }
    }
}

static void make_text(void)
{
    unsigned left = farm.series;

    farm.lines = calloc(farm.series + 1, sizeof *farm.lines);
    if (!farm.lines)
        abort();
    for (unsigned f = 0; left; f++) {
        if (f % 5 == 4)
            histogram_family(f, &left);
        else
            plain_family(f, &left);
    }
}

/* ---- the values -------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static char *put_uint(char *p, uint64_t v)
{
    char digits[20];
    int n = 0;

    do
        digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n)
        *p++ = digits[--n];
    return p;
}

/* Requests that a histogram has seen up to `seconds`, and those of them that bucket b holds. */
static uint64_t seen(uint64_t seed, uint32_t b, double seconds)
{
    double share = 1 - exp(-(b + 1.0) / (1.5 + (double)(seed % 7)));

    return (uint64_t)(seconds * (double)(seed % 50) / 5 * (b == 11 ? 1 : share));
}

static char *put_value(char *p, const struct line *l, unsigned target, double seconds)
{
    uint64_t seed = mix((uint64_t)target << 32 | l->family);
    uint64_t v;

    switch (l->shape) {
    case CONSTANT:
        return put_uint(p, seed % 3 ? seed % 100 : seed % 17179869184ull);
    case IDLE:
        return put_uint(p, seed % 1000);
    case COUNTER:
        return put_uint(p, (uint64_t)(seconds * (double)(seed % 200) / 10) + seed % 100000);
    case BUCKET:
        return put_uint(p, seen(seed, l->bucket, seconds));
    case GAUGE: /* two decimals around a level, moving every ten seconds */
        v = seed % 10000 + mix(seed + (uint64_t)(seconds / 10)) % 200;
        p = put_uint(p, v / 100);
        *p++ = '.';
        *p++ = (char)('0' + v / 10 % 10);
        *p++ = (char)('0' + v % 10);
        return p;
    default: /* all the digits there are */
        return p + sprintf(p, "%.17g",
                           (double)seen(seed, 11, seconds) * 0.0123 + (double)(seed % 1000) / 7);
    }
}

static size_t make_body(char *to, unsigned target, double seconds)
{
    unsigned age = (unsigned)(seconds / 60);
    size_t from = 0;
    char *p = to;

    for (size_t i = 0; i < farm.n_lines; i++) {
        const struct line *l = &farm.lines[i];
        const char *hole = l->churns ? memchr(farm.text + from, '\001', l->text_end - from) : NULL;
        if (hole) {
            size_t n = (size_t)(hole - farm.text) - from;
            memcpy(p, farm.text + from, n);
            p = put_uint(p + n, age);
            from += n + 1;
        }
        memcpy(p, farm.text + from, l->text_end - from);
        p += l->text_end - from;
        from = l->text_end;
        p = put_value(p, l, target, seconds);
        *p++ = '\n';
    }
    return (size_t)(p - to);
}

/* ---- serving ----------------------------------------------------------------------------------------- */

struct conn {
    int fd;
    unsigned by_address; /* the target that the connection's own address names; 0: none */
    char request[8192];
    size_t have;
    char *out;
    size_t n_out, sent;
};

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void conn_close(struct conn *c)
{
    close(c->fd);
    free(c->out);
    free(c);
}

static bool conn_send(struct conn *c)
{
    while (c->sent < c->n_out) {
        ssize_t n = send(c->fd, c->out + c->sent, c->n_out - c->sent, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN;
        c->sent += (size_t)n;
    }
    free(c->out);
    c->out = NULL;
    c->n_out = c->sent = 0;
    return true;
}

static bool answer(struct conn *c)
{
    static char *body;
    unsigned target = 0;
    size_t len;
    int n;

    if (!body)
        body = malloc(farm.n_text + farm.n_lines * 48 + 1);
    c->out = malloc(farm.n_text + farm.n_lines * 48 + 256);
    if (!body || !c->out)
        return false;
    if (sscanf(c->request, "GET /%u/metrics", &target) != 1)
        target = c->by_address;
    if (target >= farm.targets + 1) {
        c->n_out = (size_t)sprintf(c->out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        return conn_send(c);
    }
    len = make_body(body, target, now() - farm.start);
    n = sprintf(c->out,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; "
                "charset=utf-8\r\nContent-Length: %zu\r\n\r\n",
                len);
    memcpy(c->out + n, body, len);
    c->n_out = (size_t)n + len;
    return conn_send(c);
}

static bool conn_read(struct conn *c)
{
    ssize_t n;

    while ((n = recv(c->fd, c->request + c->have, sizeof c->request - 1 - c->have, 0)) > 0) {
        c->have += (size_t)n;
        c->request[c->have] = '\0';
        if (strstr(c->request, "\r\n\r\n")) {
            c->have = 0;
            if (!answer(c))
                return false;
        } else if (c->have == sizeof c->request - 1) {
            return false;
        }
    }
    return n < 0 && errno == EAGAIN;
}

/* 127.0.H.L: the ranges that --sd writes. */
static unsigned target_of(uint32_t ip)
{
    unsigned high = ip >> 8 & 0xff, low = ip & 0xff;

    return high ? (high - 1) * 250 + low : 0;
}

static void accept_all(int ep, int listener)
{
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        if (!c) {
            close(fd);
            continue;
        }
        c->fd = fd;
        if (getsockname(fd, (struct sockaddr *)&own, &len) ||
            ntohl(own.sin_addr.s_addr) >> 24 != 127) {
            conn_close(c);
            continue;
        }
        c->by_address = target_of(ntohl(own.sin_addr.s_addr));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    }
}

static int open_listener(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)farm.port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    a.sin_addr.s_addr =
        htonl(INADDR_ANY); /* so that all of 127/8 reaches it; others are turned away */
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 1024)) {
        perror("farm: listening");
        exit(1);
    }
    return fd;
}

static void serve(int listener)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, got[256];
    int ep = epoll_create1(EPOLL_CLOEXEC);

    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(ep, got, 256, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = got[i].data.ptr;
            if (!c)
                accept_all(ep, listener);
            else if ((c->n_out && !conn_send(c)) || (!c->n_out && !conn_read(c)) ||
                     got[i].events & (EPOLLERR | EPOLLHUP))
                conn_close(c);
        }
    }
}

static void write_sd(const char *path)
{
    FILE *f = fopen(path, "w");

    if (!f) {
        perror(path);
        exit(1);
    }
    fputs("[\n", f);
    for (unsigned i = 1; i <= farm.targets; i++)
        fprintf(f, "  {\"targets\": [\"127.0.%u.%u:%u\"]}%s\n", 1 + (i - 1) / 250,
                1 + (i - 1) % 250, farm.port, i < farm.targets ? "," : "");
    fputs("]\n", f);
    fclose(f);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, NULL, 'p'},   {"targets", 1, NULL, 't'},
                                            {"series", 1, NULL, 's'}, {"churn", 1, NULL, 'c'},
                                            {"sd", 1, NULL, 'd'},     {NULL, 0, NULL, 0}};
    const char *sd = NULL;
    int o, listener;

    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (o) {
        case 'p':
            farm.port = (unsigned)atoi(optarg);
            break;
        case 't':
            farm.targets = (unsigned)atoi(optarg);
            break;
        case 's':
            farm.series = (unsigned)atoi(optarg);
            break;
        case 'c':
            farm.churn = (unsigned)atoi(optarg);
            break;
        case 'd':
            sd = optarg;
            break;
        default:
            fprintf(stderr,
                    "usage: farm --port P --targets N --series M [--churn PERCENT] [--sd FILE]\n");
            return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    make_text();
    farm.start = now();
    listener = open_listener();
    if (sd)
        write_sd(sd);
    puts("READY");
    fflush(stdout);
    serve(listener);
    return 0;
}
