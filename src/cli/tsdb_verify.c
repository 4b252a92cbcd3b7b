#include "src/cli/tool.h"

/* tsdb_verify.c - `tsdb verify`: is everything in a data folder as it was written.
 *
 * SHAPE   Blocks and chunk files are checked by storage itself, page by page. All else, the log and what
 *         belongs to it, is checked by doing what a start does, changing nothing: a start reads every
 *         frame and every note and logs what it can't use. Those lines become problems here. Then every
 *         series of the head is read and its order checked.
 * RULES   V1  A server may be at work in the folder. Its log may end, for a moment, within a frame that is
 *             being written; so a complaint counts if it is made again a little later.
 *         V2  What a start says of blocks and chunk files has been told before. */

#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/base/text.h"
#include "src/base/thread.h"
#include "src/cli/tsdb.h"

#define MAX_COMPLAINTS 1000u
#define AGAIN_MS       50

struct lines {
    char **v;
    size_t n;
};

struct check {
    const char *dir;
    bool json;
    struct buf problems, notes; /* of JSON, in the making */
    struct storage_verified counts;
    uint64_t head_series, head_samples;
    bool chunk_files; /* of those, problems were told */
};

/* ---- telling --------------------------------------------------------------------------------- */

static void put_line(struct check *c, const struct storage_problem *p, const char *before,
                     struct buf *json)
{
    if (!c->json) {
        printf("%s%s: ", before, p->file);
        if (p->offset >= 0)
            printf("at %lld: ", (long long)p->offset);
        printf("%s\n", p->what);
        return;
    }
    buf_str(json, json->len ? "," : "");
    buf_str(json, "{\"file\":");
    text_json(json, nx_slice_str(p->file));
    if (p->offset >= 0)
        buf_printf(json, ",\"offset\":%lld", (long long)p->offset);
    buf_str(json, ",\"what\":");
    text_json(json, nx_slice_str(p->what));
    buf_char(json, '}');
}

static void on_problem(void *ctx, const struct storage_problem *p)
{
    struct check *c = ctx;

    put_line(c, p, "", &c->problems);
}

static void on_note(void *ctx, const struct storage_problem *p)
{
    struct check *c = ctx;

    put_line(c, p, "note: ", &c->notes);
}

static void problem(struct check *c, const char *file, int64_t offset, const char *what)
{
    struct storage_problem p = {file, offset, what};

    c->counts.problems++;
    on_problem(c, &p);
}

/* ---- what a start complains of ----------------------------------------------------------------- */

static void lines_done(struct lines *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct lines){0};
}

static bool lines_have(const struct lines *l, const char *line)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->v[i], line) == 0)
            return true;
    }
    return false;
}

/* Takes `line` (malloc'ed), unless it is there. */
static void lines_add(struct lines *l, char *line)
{
    char **v = NULL;

    if (line && l->n < MAX_COMPLAINTS && !lines_have(l, line))
        v = reallocarray(l->v, l->n + 1, sizeof *v);
    if (!v) {
        free(line);
        return;
    }
    l->v = v;
    v[l->n++] = line;
}

/* The log's lines from `msg=` on. */
static void on_log(void *ctx, const char *line, size_t len)
{
    const char *msg = memmem(line, len, " msg=", 5);

    if (!msg)
        return;
    len -= (size_t)(msg + 1 - line);
    while (len && msg[len] == '\n')
        len--;
    if (strncmp(msg, " msg=\"A block ", 14) != 0 && /* V2 */
        strncmp(msg, " msg=\"A damaged page ", 21) != 0)
        lines_add(ctx, strndup(msg + 1, len));
}

/* Takes `key=value` off a line of logfmt; the value, without quotes, or NULL. malloc'ed. */
static char *take_key(char *line, const char *key)
{
    size_t n = strlen(key);

    for (char *at = line; (at = strstr(at, key)) != NULL; at++) {
        char *from, *end, *value;
        if ((at != line && at[-1] != ' ') || at[n] != '=')
            continue;
        from = at + n + 1;
        if (*from == '"') {
            end = ++from;
            while (*end && (*end != '"' || end[-1] == '\\'))
                end++;
            value = strndup(from, (size_t)(end - from));
            end += *end == '"';
        } else {
            end = from + strcspn(from, " ");
            value = strndup(from, (size_t)(end - from));
        }
        end += *end == ' ';
        memmove(at, end, strlen(end) + 1);
        return value;
    }
    return NULL;
}

static const char *in_other_words(const char *msg)
{
    static const char *const words[][2] = {
        {"Cut the torn tail of a log segment",
         "it ends within a frame; the next start cuts that off"},
        {"Set damage in a log segment aside",
         "a frame is damaged; the next start sets the rest of the segment aside"},
        {"Set a damaged log segment aside",
         "its header is damaged; the next start sets the file aside"},
    };

    for (size_t i = 0; i < NX_COUNT(words); i++) {
        if (strcmp(msg, words[i][0]) == 0)
            return words[i][1];
    }
    return msg;
}

static void tell_complaint(struct check *c, char *line)
{
    char *msg = take_key(line, "msg"), *file = take_key(line, "file");
    char *segment = take_key(line, "segment"), *offset = take_key(line, "offset");
    char *dir = take_key(line, "dir"), *why = take_key(line, "err"), *what = NULL, *place = NULL;
    bool has_why = why && strcmp(why, "<nil>") != 0;
    size_t n = strlen(line);

    while (n && line[n - 1] == ' ')
        line[--n] = 0;
    if (file && strlen(file) > 8 && strcmp(file + strlen(file) - 8, ".damaged") == 0)
        file[strlen(file) - 8] = 0;
    if (file && dir && !strchr(file, '/') && asprintf(&place, "%s/%s", dir, file) >= 0) {
        free(file);
        file = place;
        place = NULL;
    }
    if (!file && segment &&
        asprintf(&place, "%s/%08lu", dir ? dir : c->dir, strtoul(segment, NULL, 10)) < 0)
        place = NULL;
    if (asprintf(&what, "%s%s%s%s%s%s", msg ? in_other_words(msg) : "", has_why ? ": " : "",
                 has_why ? why : "", n ? " (" : "", line, n ? ")" : "") < 0)
        what = NULL;
    problem(c,
            file    ? file
            : place ? place
                    : c->dir,
            offset ? strtoll(offset, NULL, 10) : -1, what ? what : "damaged");
    free(msg);
    free(file);
    free(segment);
    free(offset);
    free(dir);
    free(why);
    free(what);
    free(place);
}

static void pause_ms(int64_t ms)
{
    struct nx_mutex m;
    struct nx_cond wake;

    nx_mutex_init(&m, NX_RANK_QUEUE);
    nx_cond_init(&wake);
    nx_lock(&m);
    (void)nx_cond_wait_ms(&wake, &m, ms);
    nx_unlock(&m);
    nx_cond_done(&wake);
    nx_mutex_done(&m);
}

/* ---- chunk files ------------------------------------------------------------------------------- */

static void on_chunk_file(void *ctx, const struct storage_problem *p)
{
    char *line = NULL;

    if (asprintf(&line, "%lld %zu %s%s", (long long)p->offset, strlen(p->file), p->file, p->what) >=
        0)
        lines_add(ctx, line);
}

static void tell_chunk_file(struct check *c, const char *line)
{
    char *end, *file;
    int64_t offset = strtoll(line, &end, 10);
    size_t n = strtoul(end, &end, 10);

    file = strndup(end + 1, n);
    problem(c, file ? file : c->dir, offset, end + 1 + n);
    free(file);
    c->chunk_files = true;
}

static nx_status verify_chunk_files(struct check *c, struct nx_err *err)
{
    struct lines first = {0}, again = {0};
    struct storage_verified counts;
    nx_status st =
        storage_verify_head_files(fs_real(), c->dir, on_chunk_file, &first, &counts, err);

    if (!st)
        c->counts.pages += counts.pages;
    if (!st && first.n) { /* V1 */
        pause_ms(AGAIN_MS);
        st = storage_verify_head_files(fs_real(), c->dir, on_chunk_file, &again, &counts, err);
    }
    for (size_t i = 0; i < again.n && !st; i++) {
        if (lines_have(&first, again.v[i]))
            tell_chunk_file(c, again.v[i]);
    }
    lines_done(&first);
    lines_done(&again);
    return st;
}

/* ---- the head -------------------------------------------------------------------------------- */

static void disorder(struct lines *found, const char *line)
{
    on_log(found, line, strlen(line));
}

/* Labels and times that are not in order; counts what it reads. */
static nx_status read_head(struct check *c, struct storage *s, struct lines *found,
                           struct nx_err *err)
{
    struct storage_stats stats;
    struct series_list list = {0};
    struct column column = {0};
    struct querier *q = NULL;
    struct arena *a = arena_new(0);
    nx_status st = a ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");

    storage_get_stats(s, &stats);
    c->head_series = c->head_samples = 0;
    if (!st)
        st = storage_querier(s, stats.head_min_ms, stats.head_max_ms, &q, err);
    if (!st && stats.head_min_ms <= stats.head_max_ms)
        st = q->ops->select(q, NULL, 0, stats.head_min_ms, stats.head_max_ms, a, &list, err);
    for (size_t i = 0; i < list.n && !st; i++) {
        if (i && labels_cmp(&list.v[i - 1].labels, &list.v[i].labels) >= 0)
            disorder(found, " msg=\"Series of the head are not in order\"");
        st = q->ops->read(q, &list.v[i], stats.head_min_ms, stats.head_max_ms, &column, err);
        for (size_t k = 1; k < column.n && !st; k++)
            if (column.t[k] <= column.t[k - 1])
                disorder(found, " msg=\"Times of the head do not ascend\"");
        c->head_samples += column.n;
    }
    c->head_series = list.n;
    column_done(&column);
    querier_close(q);
    arena_free(a);
    return st;
}

static nx_status start(struct check *c, struct lines *found, struct nx_err *err)
{
    struct storage_opts o = {.fs = fs_real(), .dir = c->dir};
    struct storage *s = NULL;
    nx_status st;

    log_setup(LOG_WARN_LEVEL, LOG_FORMAT_LOGFMT);
    log_capture(on_log, found);
    st = storage_open_readonly(&s, &o, err);
    if (!st)
        st = read_head(c, s, found, err);
    storage_close(s);
    log_capture(NULL, NULL);
    return st;
}

static nx_status verify_head(struct check *c, struct nx_err *err)
{
    struct lines first = {0}, again = {0};
    nx_status st = start(c, &first, err);

    if (!st && first.n) { /* V1 */
        pause_ms(AGAIN_MS);
        st = start(c, &again, err);
        for (size_t i = 0; i < again.n && !st; i++) {
            if (lines_have(&first, again.v[i]) &&
                !(c->chunk_files && strstr(again.v[i], "chunk file"))) /* V2 */
                tell_complaint(c, again.v[i]);
        }
    }
    lines_done(&first);
    lines_done(&again);
    return st;
}

/* ---- the command ----------------------------------------------------------------------------- */

static void print_end(struct check *c)
{
    const struct storage_verified *n = &c->counts;

    if (c->json) {
        printf("{\"problems\":[%s],\"notes\":[", buf_cstr(&c->problems));
        printf("%s],\"blocks\":%llu,\"pages\":%llu,\"series\":%llu,\"samples\":%llu,"
               "\"headSeries\":%llu,\"headSamples\":%llu}\n",
               buf_cstr(&c->notes), (unsigned long long)n->blocks, (unsigned long long)n->pages,
               (unsigned long long)n->series, (unsigned long long)n->samples,
               (unsigned long long)c->head_series, (unsigned long long)c->head_samples);
        return;
    }
    printf("%llu blocks: %llu pages, %llu series, %llu samples; head: %llu series, %llu samples\n",
           (unsigned long long)n->blocks, (unsigned long long)n->pages,
           (unsigned long long)n->series, (unsigned long long)n->samples,
           (unsigned long long)c->head_series, (unsigned long long)c->head_samples);
    if (n->problems)
        printf("%llu problems\n", (unsigned long long)n->problems);
    else
        printf("no problems\n");
}

int tool_tsdb_verify(const struct flags *f)
{
    struct check c = {.dir = f->n_args ? f->args[0] : "data/", .json = flags_bool(f, "json")};
    struct nx_err err = {0};
    struct fs_stat stat;
    nx_status st = fs_real()->stat(fs_real(), c.dir, &stat, &err);

    buf_init(&c.problems, 0);
    buf_init(&c.notes, 0);
    if (st)
        st = nx_fail(&err, st, "opening the db dir: stat %s: no such file or directory", c.dir);
    if (!st)
        st = storage_verify_blocks(fs_real(), c.dir, on_problem, on_note, &c, &c.counts, &err);
    if (!st)
        st = verify_chunk_files(&c, &err);
    if (!st)
        st = verify_head(&c, &err);
    if (st)
        fprintf(stderr, "%s\n", err.text);
    else
        print_end(&c);
    buf_done(&c.problems);
    buf_done(&c.notes);
    return st || c.counts.problems ? 1 : 0;
}
