#include "src/cli/tool.h"

/* debug.c - `debug metrics|pprof|all`: what a server tells of itself, as a tar.gz in the current folder.
 *
 * RULES   D1  What is fetched is kept as it came, whatever the status, as promtool does: what a proxy
 *             answered instead is worth knowing too.
 *         D2  Profiles are those of Go's runtime. This server has none and answers 404, which no profile
 *             is: then the command fails, and says so. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

#include "src/cli/server_url.h"

#define ARCHIVE    "debug.tar.gz"
#define TIMEOUT_MS 300000
#define BODY_BYTES (1u << 30)
#define TAR_BLOCK  512

struct endpoint {
    const char *path, *file;
    bool profile; /* a pprof protobuf: gzip or not, and never text */
};
static const struct endpoint pprof[] = {
    {"/debug/pprof/profile?seconds=30", "cpu.pb", true},
    {"/debug/pprof/block", "block.pb", true},
    {"/debug/pprof/goroutine", "goroutine.pb", true},
    {"/debug/pprof/heap", "heap.pb", true},
    {"/debug/pprof/mutex", "mutex.pb", true},
    {"/debug/pprof/threadcreate", "threadcreate.pb", true},
    {"/debug/pprof/trace?seconds=30", "trace.pb", true},
};
static const struct endpoint metrics[] = {{"/metrics", "metrics.txt", false}};

/* ---- tar (POSIX.1-1988) -------------------------------------------------------------------------- */

static bool tar_file(gzFile gz, const char *name, const struct buf *body)
{
    static const char zeros[TAR_BLOCK];
    char h[TAR_BLOCK] = {0};
    unsigned sum = 0;
    size_t rest = body->len % TAR_BLOCK;

    snprintf(h, 100, "%s", name);
    snprintf(h + 100, 8, "%07o", 0666u);
    snprintf(h + 108, 8, "%07o", 0u);
    snprintf(h + 116, 8, "%07o", 0u);
    snprintf(h + 124, 12, "%011llo", (unsigned long long)body->len);
    snprintf(h + 136, 12, "%011o", 0u);
    h[156] = '0';
    memcpy(h + 257, "ustar", 6);
    memcpy(h + 263, "00", 2);
    memset(h + 148, ' ', 8); /* the sum's own bytes count as blanks */
    for (size_t i = 0; i < sizeof h; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 7, "%06o", sum);
    if (gzwrite(gz, h, sizeof h) != (int)sizeof h)
        return false;
    if (body->len && gzfwrite(body->ptr, 1, body->len, gz) != body->len)
        return false;
    return !rest || gzwrite(gz, zeros, (unsigned)(TAR_BLOCK - rest)) > 0;
}

static bool tar_end(gzFile gz)
{
    static const char zeros[2 * TAR_BLOCK];

    return gzwrite(gz, zeros, sizeof zeros) == (int)sizeof zeros;
}

/* ---- the commands -------------------------------------------------------------------------------- */

static nx_status fetch(gzFile gz, const struct server_url *s, const char *url,
                       const struct endpoint *e, struct buf *body, struct nx_err *err)
{
    int code = 0;
    nx_status st;

    printf("collecting: %s%s\n", url, e->path);
    fflush(stdout);
    buf_clear(body);
    st = server_url_ask(s, e->path, NULL, TIMEOUT_MS, &code, body, err);
    if (st)
        return nx_context(err, "error executing HTTP request");
    if (e->profile && code != 200)
        return nx_fail(
            err, NX_NOTFOUND,
            "the server answers %d: profiles are those of Go's runtime, and a server that "
            "is no Go program has none",
            code); /* D2 */
    if (!tar_file(gz, e->file, body))
        return nx_fail(err, NX_IO, "error writing into the archive: %s", strerror(errno));
    return NX_OK;
}

static int debug(const struct flags *f, const struct endpoint *const *lists, const size_t *n)
{
    struct server_url s = {0};
    struct nx_err err = {0};
    struct buf body;
    nx_status st = NX_OK;
    gzFile gz = NULL;

    buf_init(&body, BODY_BYTES);
    if (!server_url_init(&s, f, f->args[0])) {
        server_url_done(&s);
        return 1;
    }
    gz = gzopen(ARCHIVE, "wbe");
    if (!gz)
        st =
            nx_fail(&err, NX_IO, "error creating a new archiver: error creating archive \"%s\": %s",
                    ARCHIVE, strerror(errno));
    for (size_t k = 0; lists[k] && !st; k++) {
        for (size_t i = 0; i < n[k] && !st; i++)
            st = fetch(gz, &s, f->args[0], &lists[k][i], &body, &err);
        if (st == NX_NOTFOUND && lists[k + 1]) { /* D2 */
            fprintf(stderr, "no profiles: %s\n", err.text);
            st = NX_OK;
        }
    }
    if (!st && !tar_end(gz))
        st = nx_fail(&err, NX_IO, "error closing archive writer: %s", strerror(errno));
    if (gz && gzclose(gz) != Z_OK && !st)
        st = nx_fail(&err, NX_IO, "error closing archive writer: %s", strerror(errno));
    if (st)
        fprintf(stderr, "error completing debug command: %s\n", err.text);
    else
        printf("Compiling debug information complete, all files written in \"%s\".\n", ARCHIVE);
    server_url_done(&s);
    buf_done(&body);
    return st ? 1 : 0;
}

int tool_debug_pprof(const struct flags *f)
{
    const struct endpoint *const lists[] = {pprof, NULL};
    const size_t n[] = {NX_COUNT(pprof)};

    return debug(f, lists, n);
}

int tool_debug_metrics(const struct flags *f)
{
    const struct endpoint *const lists[] = {metrics, NULL};
    const size_t n[] = {NX_COUNT(metrics)};

    return debug(f, lists, n);
}

int tool_debug_all(const struct flags *f)
{
    const struct endpoint *const lists[] = {pprof, metrics, NULL};
    const size_t n[] = {NX_COUNT(pprof), NX_COUNT(metrics)};

    return debug(f, lists, n);
}
