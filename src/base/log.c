/* log.c - log lines as Go's slog writes them, to a standard error that nobody may be reading.
 *
 * RULES   G1  A line is made without allocating and is cut at LINE_BYTES; the cut is marked.
 *         G2  Logging never fails and never blocks for long: where standard error takes no bytes, one
 *             line waits at most PATIENCE_MS, the following ones do not wait at all until bytes are
 *             taken again. What was dropped is counted, and the next line that gets through is
 *             preceded by one that tells.
 *         G3  A reader that went away (EPIPE) does not kill the process, whatever it does on SIGPIPE.
 * THREADS out.lock (rank LOG, the last) is held across the write, which G2 bounds: lines come out
 *         whole and in order. */
#include "src/base/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/text.h"
#include "src/base/thread.h"

#define LINE_BYTES  8192u
#define CHUNK_BYTES 4096u /* PIPE_BUF: what poll() promises to be taken whole */
#define PATIENCE_MS 100

static atomic_int least_level = LOG_INFO_LEVEL;
static atomic_int line_format = LOG_FORMAT_LOGFMT;

static struct {
    pthread_once_t once;
    struct nx_mutex lock;
    void (*capture)(void *ctx, const char *line, size_t len); /* under lock, these too */
    void *capture_ctx;
    bool stuck;
    unsigned long dropped;
} out = {.once = PTHREAD_ONCE_INIT};

static void init_out(void)
{
    nx_mutex_init(&out.lock, NX_RANK_LOG);
}

void log_setup(enum log_level level, enum log_format format)
{
    atomic_store(&least_level, (int)level);
    atomic_store(&line_format, (int)format);
}

/* A fixed piece of memory that text is added to (G1). */
struct line {
    char s[LINE_BYTES];
    size_t len;
    bool cut;
};

/* Kept back at the end of a line: mark, closing quote, brace, newline, snprintf's NUL. */
#define RESERVED_BYTES 8u

static size_t room(const struct line *l)
{
    return l->len < LINE_BYTES - RESERVED_BYTES ? LINE_BYTES - RESERVED_BYTES - l->len : 0;
}

/* All of it or nothing, so that no escape and no character is cut in half. */
static void add(struct line *l, const char *p, size_t len)
{
    if (l->cut || len > room(l)) {
        l->cut = true;
        return;
    }
    memcpy(l->s + l->len, p, len);
    l->len += len;
}

static void add_str(struct line *l, const char *s)
{
    add(l, s, strlen(s));
}

/* The text of one escape; 0 bytes where the character goes out as it is. */
static size_t escape(char to[12], enum log_format format, size_t n, unsigned char byte, uint32_t c)
{
    static const char letters[] = "\a\b\f\n\r\t\v\"\\", names[] = "abfnrtv\"\\";
    bool json = format == LOG_FORMAT_JSON;
    const char *at = c && c < 0x80 ? strchr(letters, (int)c) : NULL;

    if (n == 0)
        return (size_t)snprintf(to, 12, json ? "\\ufffd" : "\\x%02x", byte);
    if (at && (!json || !strchr("\a\v", (int)c)))
        return (size_t)snprintf(to, 12, "\\%c", names[at - letters]);
    if (json && c >= ' ' && c != 0x2028 && c != 0x2029)
        return 0;
    if (text_printable(c))
        return 0;
    if (!json && (c < ' ' || c == 0x7f))
        return (size_t)snprintf(to, 12, "\\x%02x", c);
    return (size_t)snprintf(to, 12, c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
}

static void add_quoted(struct line *l, enum log_format format, const char *s)
{
    size_t left = strlen(s);

    add(l, "\"", 1);
    while (left && !l->cut) {
        uint32_t c = 0;
        char text[12];
        size_t n = text_utf8_take(nx_slice_of(s, left), &c);
        size_t escaped = escape(text, format, n, (unsigned char)*s, c);

        if (escaped)
            add(l, text, escaped);
        else
            add(l, s, n);
        s += n ? n : 1;
        left -= n ? n : 1;
    }
    l->len += (size_t)snprintf(l->s + l->len, RESERVED_BYTES, l->cut ? "...\"" : "\"");
}

/* logfmt: nothing, blanks, '=', quotes and what cannot be seen need quotes. */
static bool needs_quotes(const char *s)
{
    size_t left = strlen(s);

    if (left == 0)
        return true;
    while (left) {
        uint32_t c = 0;
        size_t n = text_utf8_take(nx_slice_of(s, left), &c);

        if (n == 0 || c == '"' || c == '=' || text_space(c) || !text_printable(c))
            return true;
        s += n;
        left -= n;
    }
    return false;
}

static void add_text(struct line *l, enum log_format format, const char *s)
{
    if (format == LOG_FORMAT_JSON || needs_quotes(s) || strlen(s) > room(l))
        add_quoted(l, format, s);
    else
        add_str(l, s);
}

static void add_pair(struct line *l, enum log_format format, const char *key, const char *value)
{
    /* A pair that cannot even begin its value is left out whole. */
    if (l->cut || room(l) < strlen(key) * 4 + 32) {
        l->cut = true;
        return;
    }
    if (l->len > 1)
        add_str(l, format == LOG_FORMAT_JSON ? "," : " ");
    add_text(l, format, key);
    add_str(l, format == LOG_FORMAT_JSON ? ":" : "=");
    if (value)
        add_text(l, format, value);
    else
        add_str(l, format == LOG_FORMAT_JSON ? "null" : "<nil>");
}

/* logfmt has exactly milliseconds, JSON as many digits as there are: as slog's two handlers. */
static void add_time(struct line *l, enum log_format format)
{
    int64_t ns = clock_now_ns();
    char text[48];

    if (format == LOG_FORMAT_JSON) {
        clock_format_rfc3339(text, ns);
    } else {
        int64_t ms = ns / 1000000;

        clock_format_rfc3339(text, ms / 1000 * 1000000000); /* ends in "Z" */
        snprintf(strchr(text, 'Z'), 8, ".%03dZ", (int)(ms % 1000));
    }
    add_pair(l, format, "time", text);
}

static void begin_line(struct line *l, enum log_format format, enum log_level level,
                       const char *file, int line, const char *msg)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    const char *slash = strrchr(file, '/');
    char source[128];

    l->len = 0;
    l->cut = false;
    if (format == LOG_FORMAT_JSON)
        add_str(l, "{");
    add_time(l, format);
    add_pair(l, format, "level", names[level]);
    snprintf(source, sizeof source, "%s:%d", slash ? slash + 1 : file, line);
    add_pair(l, format, "source", source);
    add_pair(l, format, "msg", msg);
}

static void end_line(struct line *l, enum log_format format)
{
    l->len += (size_t)snprintf(l->s + l->len, LINE_BYTES - l->len, "%s\n",
                               format == LOG_FORMAT_JSON ? "}" : "");
}

/* One piece to standard error; false if it was not taken, now or at all. */
static bool put_piece(const char *p, size_t len, int patience_ms)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
    ssize_t n;

    if (poll(&fd, 1, patience_ms) != 1 || !(fd.revents & POLLOUT))
        return false;
    /* A socket may have room for less than this, so it is told not to wait; others say ENOTSOCK. */
    n = send(STDERR_FILENO, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK)
        n = write(STDERR_FILENO, p, len);
    return n == (ssize_t)len;
}

static bool put_bytes(const char *p, size_t len)
{
    while (len) {
        size_t n = len < CHUNK_BYTES ? len : CHUNK_BYTES;

        if (!put_piece(p, n, out.stuck ? 0 : PATIENCE_MS)) {
            out.stuck = true;
            return false;
        }
        out.stuck = false;
        p += n;
        len -= n;
    }
    return true;
}

/* Without SIGPIPE: blocked, and if it came, taken away (G3). */
static bool put_quietly(const char *p, size_t len)
{
    const struct timespec none = {0};
    sigset_t pipe_set, old, pending;
    bool was_pending, ok;

    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    sigemptyset(&pending);
    sigpending(&pending);
    was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
    ok = put_bytes(p, len);
    if (!ok && !was_pending) {
        while (sigtimedwait(&pipe_set, NULL, &none) < 0 && errno == EINTR)
            continue;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ok;
}

static bool tell_dropped_locked(enum log_format format)
{
    struct line l;
    char count[24];

    NX_ASSERT(nx_mutex_held(&out.lock));
    if (!out.dropped)
        return true;
    snprintf(count, sizeof count, "%lu", out.dropped);
    begin_line(&l, format, LOG_WARN_LEVEL, __FILE__, __LINE__,
               "Log lines were dropped: standard error took none");
    add_pair(&l, format, "lines", count);
    end_line(&l, format);
    if (!put_quietly(l.s, l.len))
        return false;
    out.dropped = 0;
    return true;
}

static void deliver(const struct line *l, enum log_format format)
{
    pthread_once(&out.once, init_out);
    nx_lock(&out.lock);
    if (out.capture)
        out.capture(out.capture_ctx, l->s, l->len);
    else if (!tell_dropped_locked(format) || !put_quietly(l->s, l->len))
        out.dropped++;
    nx_unlock(&out.lock);
}

void log_write(enum log_level level, const char *file, int line, const char *msg, ...)
{
    enum log_format format = (enum log_format)atomic_load(&line_format);
    int saved_errno = errno;
    struct line l;
    const char *key;
    va_list args;

    if ((int)level < atomic_load(&least_level))
        return;
    begin_line(&l, format, level, file, line, msg);
    va_start(args, msg);
    while ((key = va_arg(args, const char *)))
        add_pair(&l, format, key, va_arg(args, const char *));
    va_end(args);
    end_line(&l, format);
    deliver(&l, format);
    errno = saved_errno;
}

struct log_text log_fmt_(const char *fmt, ...)
{
    struct log_text t;
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(t.s, sizeof t.s, fmt, args) < 0)
        t.s[0] = '\0';
    va_end(args);
    return t;
}

void log_capture(void (*fn)(void *ctx, const char *line, size_t len), void *ctx)
{
    pthread_once(&out.once, init_out);
    nx_lock(&out.lock);
    out.capture = fn;
    out.capture_ctx = ctx;
    nx_unlock(&out.lock);
}
