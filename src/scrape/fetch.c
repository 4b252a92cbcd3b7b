/* fetch.c - one HTTP GET.
 *
 * WHY     libcurl does the protocol; this file says what to ask for, what to keep of the answer, and how
 *         to word a failure: users know Go's texts from /api/v1/targets and search for them.
 * RULES   F1  The body is kept as it came; a worker decompresses it, so that the loop thread never
 *             works on bodies.
 *         F2  Credentials in files, and certificates, are read anew for every request (SCR-014).
 *         F3  PEM texts given inline go through anonymous files: libcurl's GnuTLS takes paths only.
 *         F4  A body of another status than 200 is not kept.
 *         F5  A connection for wire.c is never libcurl's to use again: it is made for one transfer, and
 *             what libcurl wants closed after that is kept instead.
 *         F6  A large body that would take the process over its memory limit ends the transfer. From a host
 *             nearby megabytes come between two looks at the memory: each so many bytes have their own.
 *         F7  A name server that is silent holds nobody up: who gives up on a name leaves the thread that asks for it
 *             behind. Else libcurl waits for it, inside whatever call ends the transfer, and all others with it. */
#include "src/scrape/fetch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "src/base/fs.h"
#include "src/base/limits.h"
#include "src/base/memory.h"
#include "src/base/text.h"
#include "src/scrape/token.h"

#define SMALL_BYTES      (256u << 10) /* no need to look whether there is memory */
#define LOOK_BYTES       (256u << 10) /* F6 */
#define KEEP_LARGE_BYTES (2u << 20)   /* by the one that is next */
#define RECEIVE_BYTES    (64u << 10)  /* at a time; of libcurl's own are 16 KiB */
#define CREDENTIAL_BYTES (1u << 20)

struct fetch_client {
    const struct config_http *cfg;
    int ca_fd, cert_fd, key_fd; /* of inline PEM (F3); -1: none */
    struct token *token;        /* OAuth2; NULL: none */
};

/* ---- clients ----------------------------------------------------------------------------------- */

static nx_status pem_file(struct nx_slice pem, int *fd, struct nx_err *err)
{
    *fd = -1;
    if (pem.len == 0)
        return NX_OK;
    *fd = memfd_create("pem", MFD_CLOEXEC);
    if (*fd < 0 || write(*fd, pem.ptr, pem.len) != (ssize_t)pem.len)
        return nx_fail_errno(err, errno, "keeping a certificate");
    return NX_OK;
}

nx_status fetch_client_new(struct fetch_client **out, const struct config_http *cfg,
                           struct nx_err *err)
{
    struct fetch_client *c = calloc(1, sizeof *c);
    nx_status st;

    if (!c)
        return nx_fail(err, NX_NOMEM, "out of memory");
    c->cfg = cfg;
    c->ca_fd = c->cert_fd = c->key_fd = -1;
    st = pem_file(cfg->tls.ca, &c->ca_fd, err);
    if (!st)
        st = pem_file(cfg->tls.cert, &c->cert_fd, err);
    if (!st)
        st = pem_file(cfg->tls.key.value, &c->key_fd, err);
    if (!st && cfg->oauth2)
        st = token_new(&c->token, cfg->oauth2, err);
    if (st) {
        fetch_client_free(c);
        return st;
    }
    *out = c;
    return NX_OK;
}

void fetch_client_free(struct fetch_client *c)
{
    if (!c)
        return;
    if (c->ca_fd >= 0)
        close(c->ca_fd);
    if (c->cert_fd >= 0)
        close(c->cert_fd);
    if (c->key_fd >= 0)
        close(c->key_fd);
    token_free(c->token);
    free(c);
}

bool fetch_client_needs_token(const struct fetch_client *c)
{
    return c->token && token_needed(c->token);
}

bool fetch_client_is_plain(const struct fetch_client *c)
{
    const struct config_http *h = c->cfg;

    return !h->basic_auth && !h->authorization && !c->token && h->headers.n == 0 &&
           !h->proxy.from_environment && h->proxy.url.text.len == 0;
}

struct token *fetch_client_token(const struct fetch_client *c)
{
    return c->token;
}

void fetch_client_get_token(struct fetch_client *c, int64_t timeout_ms, const int *cancel)
{
    token_get(c->token, timeout_ms, cancel);
}

/* ---- fetches ----------------------------------------------------------------------------------- */

struct fetch *fetch_new(void)
{
    struct fetch *f = calloc(1, sizeof *f);

    if (!f)
        return NULL;
    buf_init(&f->body, NX_LIMIT_SCRAPE_BODY_BYTES);
    f->kept_fd = -1;
    f->easy = curl_easy_init();
    if (!f->easy) {
        free(f);
        return NULL;
    }
    return f;
}

static void drop_connection(struct fetch *f)
{
    if (f->kept_fd >= 0)
        close(f->kept_fd);
    f->kept_fd = -1;
}

void fetch_clear(struct fetch *f)
{
    curl_slist_free_all(f->headers);
    curl_slist_free_all(f->proxy_headers);
    curl_slist_free_all(f->connect_to);
    f->headers = f->proxy_headers = f->connect_to = NULL;
    if (f->used)
        curl_easy_reset(f->easy);
    f->used = false;
    drop_connection(f);
    if (f->body.cap > KEEP_LARGE_BYTES)
        buf_done(&f->body);
    buf_clear(&f->body);
    f->body.limit_bytes = NX_LIMIT_SCRAPE_BODY_BYTES;
    f->body_at = 0;
    f->wire = (struct fetch_wire){0};
    f->gzip = f->over_limit = f->over_memory = f->plain = f->keep = false;
    f->code = 0;
    f->status[0] = f->content_type[0] = f->peer[0] = f->why[0] = '\0';
    f->result = CURLE_OK;
    f->owner = NULL;
}

void fetch_trim(struct fetch *f, size_t most_bytes)
{
    if (f->body.cap > most_bytes)
        buf_done(&f->body);
}

void fetch_free(struct fetch *f)
{
    if (!f)
        return;
    fetch_clear(f);
    curl_easy_cleanup(f->easy);
    buf_done(&f->body);
    free(f);
}

/* Is `line` the header `name`? Then its value, without blanks. */
bool fetch_header_is(struct nx_slice line, const char *name, struct nx_slice *value)
{
    size_t n = strlen(name);

    if (line.len <= n || strncasecmp(line.ptr, name, n) != 0 || line.ptr[n] != ':')
        return false;
    *value = nx_slice_of(line.ptr + n + 1, line.len - n - 1);
    while (value->len && (*value->ptr == ' ' || *value->ptr == '\t'))
        *value = nx_slice_of(value->ptr + 1, value->len - 1);
    while (value->len && strchr(" \t\r\n", value->ptr[value->len - 1]))
        value->len--;
    return true;
}

static void keep_text(char *to, size_t cap, struct nx_slice s)
{
    size_t n = s.len < cap - 1 ? s.len : cap - 1;

    memcpy(to, s.ptr, n);
    to[n] = '\0';
}

void fetch_header(struct fetch *f, struct nx_slice line)
{
    struct nx_slice value;

    if (line.len > 5 &&
        memcmp(line.ptr, "HTTP/", 5) == 0) { /* a new response: forget the one before */
        const char *blank = memchr(line.ptr, ' ', line.len);
        value = blank ? nx_slice_of(blank + 1, (size_t)(line.ptr + line.len - blank - 1))
                      : nx_slice_of("", 0);
        while (value.len && strchr(" \r\n", value.ptr[value.len - 1]))
            value.len--;
        keep_text(f->status, sizeof f->status, value);
        f->code = atoi(f->status);
        f->gzip = false;
        f->keep = memcmp(line.ptr, "HTTP/1.1", line.len < 8 ? line.len : 8) == 0;
        f->content_type[0] = '\0';
    } else if (fetch_header_is(line, "Content-Type", &value)) {
        keep_text(f->content_type, sizeof f->content_type, value);
    } else if (fetch_header_is(line, "Content-Encoding", &value)) {
        f->gzip = nx_slice_is(value, "gzip");
    } else if (fetch_header_is(line, "Connection", &value)) {
        f->keep = f->keep && value.len == 10 && strncasecmp(value.ptr, "keep-alive", 10) == 0;
    }
}

static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
    fetch_header(arg, nx_slice_of(bytes, size * n));
    return size * n;
}

/* F6 */
static bool no_room(const struct fetch *f, size_t more)
{
    const size_t then = f->body.len + more;

    if (then <= SMALL_BYTES)
        return false;
    if (f->body.len / LOOK_BYTES == then / LOOK_BYTES)
        return memory_room(f->memory) < more;
    return memory_room_now(f->memory) < LOOK_BYTES;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct fetch *f = arg;
    size_t len = size * n;

    if (f->code != 200) /* F4 */
        return len;
    if (f->limit_bytes && !f->gzip && f->body.len + len >= f->limit_bytes) {
        f->over_limit = true;
        return len + 1; /* ends the transfer */
    }
    if (no_room(f, len)) {
        f->over_memory = true;
        return len + 1;
    }
    buf_append(&f->body, bytes, len);
    return f->body.failed ? len + 1 : len;
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct fetch *f = arg;
    char ip[INET6_ADDRSTRLEN] = "";

    (void)purpose;
    if (!f->peer[0] && a->family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&a->addr;
        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        snprintf(f->peer, sizeof f->peer, "tcp %s:%u", ip, ntohs(in->sin_port));
    } else if (!f->peer[0] && a->family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)&a->addr;
        inet_ntop(AF_INET6, &in->sin6_addr, ip, sizeof ip);
        snprintf(f->peer, sizeof f->peer, "tcp [%s]:%u", ip, ntohs(in->sin6_port));
    }
    if (!f->peer[0] && a->family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)&a->addr;
        snprintf(f->peer, sizeof f->peer, "unix %.107s", un->sun_path);
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* F5. Of several (a name with two addresses) the one that carried the answer is closed last. */
static int on_close(void *arg, curl_socket_t fd)
{
    struct fetch *f = arg;

    drop_connection(f);
    f->kept_fd = fd;
    return 0;
}

int fetch_take_connection(struct fetch *f)
{
    int fd = f->kept_fd;
    long redirects = 0;

    curl_easy_getinfo(f->easy, CURLINFO_REDIRECT_COUNT, &redirects);
    if (!f->plain || !f->keep || f->result != CURLE_OK || f->code != 200 || redirects)
        return -1;
    f->kept_fd = -1;
    return fd;
}

/* ---- what to ask ------------------------------------------------------------------------------- */

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory");
}

static nx_status add_header(struct curl_slist **list, const char *name, struct nx_slice value,
                            struct nx_err *err)
{
    struct curl_slist *more;
    char *line;

    /* An empty value is sent as `Name;` in libcurl's notation. */
    if (asprintf(&line, value.len ? "%s: %.*s" : "%s;", name, (int)value.len, value.ptr) < 0)
        return no_memory(err);
    more = curl_slist_append(*list, line);
    free(line);
    if (!more)
        return no_memory(err);
    *list = more;
    return NX_OK;
}

/* A file's text without blanks around it, into `to` (F2). */
static nx_status read_secret(struct nx_slice path, const char *what, struct buf *to,
                             struct nx_err *err)
{
    size_t from = 0;

    buf_clear(to);
    if (fs_read_file(fs_real(), path.ptr, to, err))
        return nx_context(err, "unable to read %s %.*s", what, (int)path.len, path.ptr);
    buf_trim_end(to);
    while (from < to->len && strchr(" \t\r\n", to->ptr[from]))
        from++;
    if (from)
        memmove(to->ptr, to->ptr + from, to->len -= from);
    return NX_OK;
}

static nx_status basic_auth(struct fetch *f, const struct config_basic_auth *a, struct nx_err *err)
{
    struct buf user, pass;
    nx_status st = NX_OK;

    buf_init(&user, CREDENTIAL_BYTES);
    buf_init(&pass, CREDENTIAL_BYTES);
    buf_slice(&user, a->username);
    buf_slice(&pass, a->password.value);
    if (a->username_file.len)
        st = read_secret(a->username_file, "basic auth username file", &user, err);
    if (!st && a->password_file.len)
        st = read_secret(a->password_file, "basic auth password file", &pass, err);
    if (!st) {
        curl_easy_setopt(f->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(f->easy, CURLOPT_USERNAME, buf_cstr(&user)); /* copied by libcurl */
        curl_easy_setopt(f->easy, CURLOPT_PASSWORD, buf_cstr(&pass));
    }
    buf_done(&user);
    buf_done(&pass);
    return st;
}

static nx_status authorization(struct fetch *f, const struct config_authorization *a,
                               struct nx_err *err)
{
    struct buf b, secret;
    nx_status st = NX_OK;

    buf_init(&b, 2 * CREDENTIAL_BYTES);
    buf_init(&secret, CREDENTIAL_BYTES);
    buf_slice(&secret, a->credentials.value);
    if (a->credentials_file.len)
        st = read_secret(a->credentials_file, "authorization credentials file", &secret, err);
    buf_slice(&b, a->type);
    buf_char(&b, ' ');
    buf_slice(&b, buf_view(&secret));
    if (!st)
        st = add_header(&f->headers, "Authorization", buf_view(&b), err);
    buf_done(&b);
    buf_done(&secret);
    return st;
}

static nx_status token_auth(struct fetch *f, struct token *t, struct nx_err *err)
{
    struct buf b;
    nx_status st;

    buf_init(&b, CREDENTIAL_BYTES);
    st = token_header(t, &b, err);
    if (!st)
        st = add_header(&f->headers, "Authorization", buf_view(&b), err);
    buf_done(&b);
    return st;
}

static nx_status own_headers(struct fetch *f, const struct config_http_headers *h,
                             struct nx_err *err)
{
    struct buf b;
    nx_status st = NX_OK;

    buf_init(&b, CREDENTIAL_BYTES);
    for (size_t i = 0; i < h->n && !st; i++) {
        const struct config_http_header *e = &h->v[i];
        for (size_t k = 0; k < e->values.n && !st; k++)
            st = add_header(&f->headers, e->name.ptr, e->values.v[k], err);
        for (size_t k = 0; k < e->secrets.n && !st; k++)
            st = add_header(&f->headers, e->name.ptr, e->secrets.v[k].value, err);
        for (size_t k = 0; k < e->files.n && !st; k++) {
            st = read_secret(e->files.v[k], "headers file", &b, err);
            if (!st)
                st = add_header(&f->headers, e->name.ptr, buf_view(&b), err);
        }
    }
    buf_done(&b);
    return st;
}

static void pem_option(CURL *easy, CURLoption opt, int fd, struct nx_slice file)
{
    char path[64];

    if (fd >= 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        curl_easy_setopt(easy, opt, path);
    } else if (file.len) {
        curl_easy_setopt(easy, opt, file.ptr);
    }
}

static void tls_versions(CURL *easy, const struct config_tls *t)
{
    static const long min[] = {[CONFIG_TLS10] = CURL_SSLVERSION_TLSv1_0,
                               [CONFIG_TLS11] = CURL_SSLVERSION_TLSv1_1,
                               [CONFIG_TLS12] = CURL_SSLVERSION_TLSv1_2,
                               [CONFIG_TLS13] = CURL_SSLVERSION_TLSv1_3};
    static const long max[] = {[CONFIG_TLS10] = CURL_SSLVERSION_MAX_TLSv1_0,
                               [CONFIG_TLS11] = CURL_SSLVERSION_MAX_TLSv1_1,
                               [CONFIG_TLS12] = CURL_SSLVERSION_MAX_TLSv1_2,
                               [CONFIG_TLS13] = CURL_SSLVERSION_MAX_TLSv1_3};
    long v = t->min_version ? min[t->min_version] : CURL_SSLVERSION_TLSv1_2;

    curl_easy_setopt(easy, CURLOPT_SSLVERSION,
                     v | (t->max_version ? max[t->max_version] : CURL_SSLVERSION_MAX_DEFAULT));
}

/* Another name for the certificate than the URL's: the URL gets that name, the connection goes to the
 * URL's host, and so does the Host header. */
static nx_status server_name(struct fetch *f, struct nx_slice name, const char *url,
                             struct nx_err *err)
{
    CURLU *u = curl_url();
    char *host = NULL, *port = NULL, *line = NULL;
    nx_status st = no_memory(err);

    if (!u || curl_url_set(u, CURLUPART_URL, url, 0) || curl_url_get(u, CURLUPART_HOST, &host, 0) ||
        curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT))
        goto done;
    if (asprintf(&line, "%.*s:%s:%s:%s", (int)name.len, name.ptr, port, host, port) < 0)
        goto done;
    f->connect_to = curl_slist_append(NULL, line);
    if (!f->connect_to || curl_url_set(u, CURLUPART_HOST, name.ptr, 0))
        goto done;
    free(line);
    line = NULL; /* the port only where it is not https's own, as without another name */
    if (asprintf(&line, "%s%s%s", host, strcmp(port, "443") ? ":" : "",
                 strcmp(port, "443") ? port : "") < 0)
        goto done;
    st = add_header(&f->headers, "Host", nx_slice_str(line), err);
    if (!st) {
        char *changed = NULL;
        if (curl_url_get(u, CURLUPART_URL, &changed, 0))
            st = no_memory(err);
        else
            curl_easy_setopt(f->easy, CURLOPT_URL, changed);
        curl_free(changed);
        curl_easy_setopt(f->easy, CURLOPT_CONNECT_TO, f->connect_to);
    }

done:
    free(line);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return st;
}

void fetch_client_secure(const struct fetch_client *c, CURL *easy)
{
    const struct config_tls *t = &c->cfg->tls;

    pem_option(easy, CURLOPT_CAINFO, c->ca_fd, t->ca_file);
    pem_option(easy, CURLOPT_SSLCERT, c->cert_fd, t->cert_file);
    pem_option(easy, CURLOPT_SSLKEY, c->key_fd, t->key_file);
    if (t->insecure_skip_verify) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    tls_versions(easy, t);
}

static nx_status tls(struct fetch *f, const struct fetch_client *c, const char *url,
                     struct nx_err *err)
{
    const struct config_tls *t = &c->cfg->tls;

    if (strncmp(url, "https:", 6) != 0)
        return NX_OK;
    fetch_client_secure(c, f->easy);
    if (c->cfg->enable_http2)
        curl_easy_setopt(f->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    return t->server_name.len ? server_name(f, t->server_name, url, err) : NX_OK;
}

static nx_status proxy(struct fetch *f, const struct config_proxy *p, struct nx_err *err)
{
    nx_status st = NX_OK;

    if (!p->from_environment)
        curl_easy_setopt(f->easy, CURLOPT_PROXY, p->url.text.len ? p->url.text.ptr : "");
    if (p->no_proxy.len)
        curl_easy_setopt(f->easy, CURLOPT_NOPROXY, p->no_proxy.ptr);
    for (size_t i = 0; i < p->connect_header.n && !st; i++)
        for (size_t k = 0; k < p->connect_header.v[i].values.n && !st; k++)
            st = add_header(&f->proxy_headers, p->connect_header.v[i].name.ptr,
                            p->connect_header.v[i].values.v[k].value, err);
    if (f->proxy_headers) {
        curl_easy_setopt(f->easy, CURLOPT_PROXYHEADER, f->proxy_headers);
        curl_easy_setopt(f->easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
    }
    return st;
}

size_t fetch_seconds(char to[64], int64_t ms)
{
    size_t n = (size_t)snprintf(to, 64, "%lld", (long long)(ms / 1000));
    int64_t rest = ms % 1000;

    if (rest)
        to[n++] = '.';
    for (; rest; rest = rest % 100 * 10)
        to[n++] = (char)('0' + rest / 100);
    return n;
}

static nx_status headers(struct fetch *f, struct fetch_client *c, const struct fetch_request *r,
                         struct nx_err *err)
{
    char seconds[64];
    nx_status st;
    size_t n = fetch_seconds(seconds, r->timeout_ms);

    st = r->accept ? add_header(&f->headers, "Accept", nx_slice_str(r->accept), err) : NX_OK;
    if (!st)
        st = add_header(&f->headers, "Accept-Encoding",
                        nx_slice_str(r->compression ? "gzip" : "identity"), err);
    if (!st && r->accept)
        st = add_header(&f->headers, "X-Prometheus-Scrape-Timeout-Seconds", nx_slice_of(seconds, n),
                        err); /* SCR-002 */
    if (!st && c->cfg->basic_auth)
        st = basic_auth(f, c->cfg->basic_auth, err);
    if (!st && c->cfg->authorization)
        st = authorization(f, c->cfg->authorization, err);
    if (!st && c->token)
        st = token_auth(f, c->token, err);
    return st ? st : own_headers(f, &c->cfg->headers, err);
}

static int called_off(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const int *cancel = arg;

    (void)a, (void)b, (void)c, (void)d;
    return __atomic_load_n(cancel, __ATOMIC_ACQUIRE) != 0;
}

void fetch_leave_names_behind(CURL *easy) /* F7 */
{
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#else
    (void)easy;
#endif
}

nx_status fetch_begin(struct fetch *f, struct fetch_client *c, const struct fetch_request *r,
                      struct nx_err *err)
{
    nx_status st;

    f->limit_bytes = r->limit_bytes;
    f->used = true;
    f->memory = r->memory;
    curl_easy_setopt(f->easy, CURLOPT_PRIVATE, f);
    curl_easy_setopt(f->easy, CURLOPT_ERRORBUFFER, f->why);
    curl_easy_setopt(f->easy, CURLOPT_NOSIGNAL, 1L);
    fetch_leave_names_behind(f->easy);
    curl_easy_setopt(f->easy, CURLOPT_URL, r->url);
    curl_easy_setopt(f->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(f->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(f->easy, CURLOPT_USERAGENT, r->user_agent);
    curl_easy_setopt(f->easy, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    curl_easy_setopt(f->easy, CURLOPT_FOLLOWLOCATION, c->cfg->follow_redirects ? 1L : 0L);
    curl_easy_setopt(f->easy, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(f->easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(f->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(f->easy, CURLOPT_HEADERDATA, f);
    curl_easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(f->easy, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(f->easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(f->easy, CURLOPT_OPENSOCKETDATA, f);
    curl_easy_setopt(f->easy, CURLOPT_BUFFERSIZE, (long)RECEIVE_BYTES);
    f->plain = r->keep;
    if (f->plain) { /* F5 */
        curl_easy_setopt(f->easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(f->easy, CURLOPT_FORBID_REUSE, 1L);
        curl_easy_setopt(f->easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
        curl_easy_setopt(f->easy, CURLOPT_CLOSESOCKETDATA, f);
    }
    if (r->cancel) {
        curl_easy_setopt(f->easy, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(f->easy, CURLOPT_XFERINFOFUNCTION, called_off);
        curl_easy_setopt(f->easy, CURLOPT_XFERINFODATA, (void *)(uintptr_t)r->cancel);
    }
    if (r->unix_socket)
        curl_easy_setopt(f->easy, CURLOPT_UNIX_SOCKET_PATH, r->unix_socket);
    st = headers(f, c, r, err);
    if (!st)
        st = tls(f, c, r->url, err);
    if (!st)
        st = proxy(f, &c->cfg->proxy, err);
    curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, f->headers);
    return st;
}

/* ---- what came of it ----------------------------------------------------------------------------- */

/* Go writes errno texts in lower case. */
static void errno_text(long code, char to[128])
{
    char raw[128];
    const char *s = strerror_r((int)code, raw, sizeof raw);

    snprintf(to, 128, "%s", code ? s : "connection failed");
    if (to[0] >= 'A' && to[0] <= 'Z')
        to[0] = (char)(to[0] - 'A' + 'a');
}

/* The part behind `Get "URL": `. */
static void transport_text(const struct fetch *f, const char *url, char *to, size_t cap)
{
    char os[128], host[256] = "";
    long code = 0;

    curl_easy_getinfo(f->easy, CURLINFO_OS_ERRNO, &code);
    switch (f->result) {
    case CURLE_OPERATION_TIMEDOUT:
        snprintf(to, cap, "context deadline exceeded");
        return;
    case CURLE_COULDNT_CONNECT:
        errno_text(code, os);
        snprintf(to, cap, "dial %s: connect: %s", f->peer, os);
        return;
    case CURLE_COULDNT_RESOLVE_HOST:
        sscanf(url, "%*[^:]://%255[^:/?]", host);
        snprintf(to, cap, "dial tcp: lookup %s: no such host", host);
        return;
    case CURLE_GOT_NOTHING:
        snprintf(to, cap, "EOF");
        return;
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        errno_text(code, os);
        snprintf(to, cap, "%s %s: %s", f->result == CURLE_RECV_ERROR ? "read" : "write", f->peer,
                 code ? os : f->why);
        return;
    case CURLE_TOO_MANY_REDIRECTS:
        snprintf(to, cap, "stopped after 10 redirects");
        return;
    case CURLE_SSL_CONNECT_ERROR:
        snprintf(to, cap, "%s",
                 strstr(f->why, "unexpected TLS packet")
                     ? "http: server gave HTTP response to HTTPS client"
                     : f->why);
        return;
    case CURLE_PEER_FAILED_VERIFICATION:
        snprintf(to, cap, "tls: failed to verify certificate: %s", f->why);
        return;
    default:
        snprintf(to, cap, "%s", f->why[0] ? f->why : curl_easy_strerror(f->result));
    }
}

/* HTTP/2 has no reason phrases; Go puts the usual ones. */
static const char *reason(int code)
{
    static const struct {
        int code;
        const char *text;
    } v[] = {
        {204, "No Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {410, "Gone"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };

    for (size_t i = 0; i < NX_COUNT(v); i++)
        if (v[i].code == code)
            return v[i].text;
    return "";
}

void fetch_status(const struct fetch *f, char to[80])
{
    if (strlen(f->status) == 3)
        snprintf(to, 80, "%.3s %s", f->status, reason(f->code));
    else
        memcpy(to, f->status, sizeof f->status);
}

nx_status fetch_check(const struct fetch *f, const char *url, struct nx_err *err)
{
    char text[CURL_ERROR_SIZE + 512], status[sizeof f->status];

    if (f->over_limit)
        return nx_fail(err, NX_LIMIT, "body size limit exceeded");
    if (f->over_memory)
        return nx_fail(
            err, NX_UNAVAILABLE,
            "no memory for the body: the limit of %llu bytes is reached (--memory.limit)",
            (unsigned long long)memory_limit(f->memory));
    if (f->body.failed == NX_LIMIT)
        return nx_fail(err, NX_BADINPUT, "body is larger than %u bytes",
                       NX_LIMIT_SCRAPE_BODY_BYTES);
    if (f->body.failed)
        return no_memory(err);
    if (f->result == CURLE_OK) {
        if (f->code == 200)
            return NX_OK;
        fetch_status(f, status);
        return nx_fail(err, NX_UNAVAILABLE, "server returned HTTP status %s", status); /* SCR-011 */
    }
    if (f->code == 200) { /* the headers were there: Go fails while reading the body */
        if (f->result == CURLE_OPERATION_TIMEDOUT)
            return nx_fail(err, NX_TIMEOUT, "context deadline exceeded");
        if (f->result == CURLE_PARTIAL_FILE || f->result == CURLE_GOT_NOTHING)
            return nx_fail(err, NX_UNAVAILABLE, "unexpected EOF");
    }
    transport_text(f, url, text, sizeof text);
    nx_fail(err, f->result == CURLE_OPERATION_TIMEDOUT ? NX_TIMEOUT : NX_UNAVAILABLE, "%s", text);
    return fetch_context(url, err);
}

nx_status fetch_context(const char *url, struct nx_err *err)
{
    char quoted[TEXT_QUOTED_BYTES];

    nx_context(err, "Get %s", text_quoted(quoted, nx_slice_str(url)));
    return err ? err->code : NX_UNAVAILABLE;
}
