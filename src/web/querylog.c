#include "src/web/http.h"

/* querylog.c - the query log, and the file that names the queries under way.
 *
 * SHAPE   queries.active is Prometheus's: "[", then a slot of 1000 bytes per place, which holds
 *         {"query":...,"timestamp_sec":...} and ends in a comma, or zeros. Slots are written over in
 *         place and not synced: they tell what ran when the process ended, not when power did.
 *         A line of the query log is Prometheus 3's, with "ts" of Prometheus 2 besides.
 * RULES   Q1  Neither stops a query: what can't be written is counted.
 *         Q2  A line is one write to the end of the file.
 * THREADS lock guards places and the log file; it is held for the one write of a line. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/limits.h"
#include "src/base/log.h"
#include "src/base/num.h"
#include "src/base/thread.h"

#define SLOT_BYTES 1000u
#define STEP_BYTES 48u /* one step in one list of the statistics */
#define LINE_BYTES                                                                                 \
    (4 * (size_t)NX_LIMIT_QUERY_BYTES + 2 * STEP_BYTES * (NX_LIMIT_QUERY_STEPS + 1) + 65536)

struct query_log {
    struct fs *fs; /* set once */
    struct pql_watch watch;
    struct fs_file *active; /* NULL: could not be made */
    uint32_t n_slots;
    struct nx_mutex lock;
    /* under lock */
    bool *taken;
    struct fs_file *file; /* NULL: no log */
    uint64_t failures;
};

/* ---- queries under way ---------------------------------------------------------------------------- */

/* At most `room` bytes of `s`, cut where a character begins. */
static struct nx_slice cut_text(struct nx_slice s, size_t room)
{
    if (s.len <= room)
        return s;
    while (room && ((unsigned char)s.ptr[room] & 0xC0) == 0x80)
        room--;
    return nx_slice_of(s.ptr, room);
}

static void make_slot(char slot[SLOT_BYTES], struct nx_slice text)
{
    struct buf b;

    memset(slot, 0, SLOT_BYTES);
    buf_init(&b, 16 * SLOT_BYTES);
    for (size_t room = SLOT_BYTES - 50;; room = room * 3 / 4) { /* escapes may need more */
        buf_clear(&b);
        buf_str(&b, "{\"query\":");
        json_text(&b, cut_text(text, room));
        buf_printf(&b, ",\"timestamp_sec\":%lld}", (long long)(clock_now_ms() / 1000));
        if (b.failed != NX_OK || b.len < SLOT_BYTES || room == 0)
            break;
    }
    if (b.failed == NX_OK && b.len < SLOT_BYTES) {
        memcpy(slot, b.ptr, b.len);
        slot[SLOT_BYTES - 1] = ',';
    }
    buf_done(&b);
}

static void write_slot(struct query_log *l, uint32_t i, const char *slot)
{
    size_t wrote;

    (void)!l->fs->pwrite(l->fs, l->active, slot, SLOT_BYTES, 1 + (uint64_t)i * SLOT_BYTES, &wrote,
                         NULL); /* Q1 */
}

static uint32_t watch_begin(void *ctx, const struct pql_query *q)
{
    struct query_log *l = ctx;
    char slot[SLOT_BYTES];
    uint32_t i = 0;

    if (!l->active)
        return PQL_NOT_BEGUN;
    nx_lock(&l->lock);
    while (i < l->n_slots && l->taken[i])
        i++;
    if (i < l->n_slots)
        l->taken[i] = true;
    nx_unlock(&l->lock);
    if (i == l->n_slots)
        return PQL_NOT_BEGUN;
    make_slot(slot, q->text);
    write_slot(l, i, slot);
    return i;
}

/* What the last process left: zeros out, the last comma a bracket. */
static void tell_unfinished(struct fs *fs, const char *path)
{
    struct buf b, text;

    buf_init(&b, (size_t)SLOT_BYTES * 10000);
    buf_init(&text, 0);
    if (!fs_read_file(fs, path, &b, NULL) && b.len) {
        for (size_t i = 0; i < b.len; i++)
            if (b.ptr[i])
                buf_char(&text, b.ptr[i]);
        if (text.failed == NX_OK && text.len > 1) {
            text.ptr[text.len - 1] = ']';
            log_info("These queries didn't finish in the last run:", "queries", buf_cstr(&text));
        }
    }
    buf_done(&b);
    buf_done(&text);
}

static nx_status open_active(struct query_log *l, const char *path, struct nx_err *err)
{
    size_t wrote;
    nx_status st =
        l->fs->open(l->fs, path, FS_READ | FS_WRITE | FS_CREATE | FS_TRUNCATE, &l->active, err);

    if (!st)
        st = l->fs->pwrite(l->fs, l->active, "[", 1, 0, &wrote, err);
    if (!st)
        st = l->fs->truncate(l->fs, l->active, 1 + (uint64_t)l->n_slots * SLOT_BYTES, err);
    if (st && l->active) {
        l->fs->close(l->fs, l->active);
        l->active = NULL;
    }
    return st;
}

/* ---- the log -------------------------------------------------------------------------------------- */

/* With three decimals, always. */
static void put_time(struct buf *b, int64_t ms)
{
    char text[40];
    int64_t frac = (ms % 1000 + 1000) % 1000;
    size_t n = clock_format_rfc3339(text, (ms - frac) * 1000000);

    buf_printf(b, "\"%.*s.%03dZ\"", (int)n - 1, text, (int)frac);
}

static void put_origin(struct buf *b, const struct pql_origin *o)
{
    if (o && o->path) {
        buf_str(b, ",\"httpRequest\":{\"clientIP\":");
        json_readable(b, nx_slice_str(o->client_ip ? o->client_ip : ""));
        buf_str(b, ",\"method\":");
        json_readable(b, nx_slice_str(o->method ? o->method : ""));
        buf_str(b, ",\"path\":");
        json_readable(b, nx_slice_str(o->path));
        buf_char(b, '}');
    }
    if (o && o->rule_file) {
        buf_str(b, ",\"ruleGroup\":{\"file\":");
        json_readable(b, nx_slice_str(o->rule_file));
        buf_str(b, ",\"name\":");
        json_readable(b, nx_slice_str(o->rule_group ? o->rule_group : ""));
        buf_char(b, '}');
    }
}

static void put_line(struct buf *b, const struct pql_query *q, const struct pql_result *r,
                     const struct nx_err *err)
{
    int64_t now = clock_now_ms();

    buf_str(b, "{\"time\":");
    put_time(b, now);
    buf_str(b, ",\"level\":\"INFO\",\"source\":\"querylog.c\",\"msg\":\"promql query logged\","
               "\"params\":{\"end\":");
    put_time(b, q->instant ? q->start_ms : q->end_ms);
    buf_str(b, ",\"query\":");
    json_readable(b, q->text);
    buf_str(b, ",\"start\":");
    put_time(b, q->start_ms);
    buf_printf(b, ",\"step\":%lld}", (long long)(q->instant ? 0 : q->step_ms / 1000));
    if (err) {
        buf_str(b, ",\"error\":");
        json_readable(b, nx_slice_str(err->text));
    }
    buf_str(b, ",\"stats\":");
    json_query_stats(b, r);
    buf_str(b, ",\"spanID\":\"0000000000000000\"" /* as without tracing */
               ",\"traceID\":\"00000000000000000000000000000000\"");
    put_origin(b, q->origin);
    buf_str(b, ",\"ts\":");
    put_time(b, now);
    buf_str(b, "}\n");
}

static void watch_end(void *ctx, uint32_t begun, const struct pql_query *q,
                      const struct pql_result *r, const struct nx_err *err)
{
    struct query_log *l = ctx;
    char empty[SLOT_BYTES] = {0};
    struct buf line;
    size_t wrote;

    if (begun != PQL_NOT_BEGUN)
        write_slot(l, begun, empty);
    buf_init(&line, LINE_BYTES);
    nx_lock(&l->lock);
    if (begun != PQL_NOT_BEGUN)
        l->taken[begun] = false;
    if (l->file) {
        put_line(&line, q, r, err);
        if (buf_status(&line, NULL) ||
            l->fs->write(l->fs, l->file, line.ptr, line.len, &wrote, NULL))
            l->failures++; /* Q1 */
    }
    nx_unlock(&l->lock);
    buf_done(&line);
}

nx_status query_log_set_file(struct query_log *l, struct nx_slice path, struct nx_err *err)
{
    struct fs_file *file = NULL, *old;
    nx_status st = NX_OK;

    if (path.len) {
        char *name = strndup(path.ptr, path.len);
        st = name ? l->fs->open(l->fs, name, FS_WRITE | FS_CREATE | FS_APPEND, &file, err)
                  : nx_fail(err, NX_NOMEM, "opening the query log");
        free(name);
    }
    if (st)
        return nx_context(err, "can't create json log file");
    nx_lock(&l->lock);
    old = l->file;
    l->file = file;
    nx_unlock(&l->lock);
    l->fs->close(l->fs, old);
    return NX_OK;
}

/* ---- life ----------------------------------------------------------------------------------------- */

nx_status query_log_new(struct query_log **out, struct fs *fs, const char *dir,
                        uint32_t max_queries, struct nx_err *err)
{
    struct query_log *l = calloc(1, sizeof *l);
    char *path = NULL;
    struct nx_err why;

    if (l)
        l->taken = calloc((size_t)max_queries + 1, sizeof *l->taken);
    if (!l || !l->taken || asprintf(&path, "%s/queries.active", dir) < 0) {
        if (l)
            free(l->taken);
        free(l);
        return nx_fail(err, NX_NOMEM, "making the query log");
    }
    nx_mutex_init(&l->lock, NX_RANK_STATS);
    l->fs = fs;
    l->n_slots = max_queries;
    l->watch = (struct pql_watch){l, watch_begin, watch_end};
    tell_unfinished(fs, path);
    if (open_active(l, path, &why))
        log_warn("Queries under way are not noted", "err", why.text);
    free(path);
    *out = l;
    return NX_OK;
}

void query_log_free(struct query_log *l)
{
    if (!l)
        return;
    l->fs->close(l->fs, l->file);
    l->fs->close(l->fs, l->active);
    nx_mutex_done(&l->lock);
    free(l->taken);
    free(l);
}

const struct pql_watch *query_log_watch(struct query_log *l)
{
    return &l->watch;
}

void query_log_get_stats(struct query_log *l, struct query_log_stats *out)
{
    *out = (struct query_log_stats){0};
    if (!l)
        return;
    nx_lock(&l->lock);
    out->enabled = l->file != NULL;
    out->failures = l->failures;
    nx_unlock(&l->lock);
}
