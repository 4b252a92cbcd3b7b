#include "src/cli/tool.h"

/* tsdb_export.c - `tsdb export`: a folder as OpenMetrics text that loads elsewhere to the same samples.
 *
 * SHAPE   Metric by metric, series by series, sample by sample; with --split a file for each span of time.
 *         Memory holds the metric names, the labels of one metric, and a run of one series.
 * RULES   X1  A value is its shortest text that reads back to the same bits; NaNs are one NaN.
 *         X2  A time is written so that it comes back to the millisecond from readers that multiply the
 *             seconds by 1000 and cut (Prometheus) as well as from those that round: where three digits
 *             would fall short, a fourth helps.
 *         X3  Stale markers have no form in OpenMetrics and are left out, as are series without a name.
 *         X4  No metadata is stored, so every metric is of unknown type. That is also what keeps readers
 *             from rewriting `le` and `quantile`.
 *         X5  A file that ends in "# EOF" is whole. */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/num.h"
#include "src/cli/tsdb.h"

#define MAX_FILES  100000
#define TELL_EVERY (1u << 20) /* samples between two lines of progress */

struct om_export {
    struct tsdb_walk walk;
    struct tsdb_out *out; /* NULL: the file of this span is not begun */
    const char *path;     /* NULL: standard output */
    char *file;           /* of this span */
    bool gzip, progress;
    int64_t from, to; /* the span at hand */
    struct arena *labels;
    struct column column;
    struct buf line;       /* what all lines of a series begin with */
    struct nx_slice named; /* the metric whose TYPE was written to this file last */
    uint64_t series, samples, stale, points, files, nameless;
    bool counted; /* the series at hand is in `series` */
};

/* ---- text ------------------------------------------------------------------------------------ */

static void put_quoted(struct buf *b, struct nx_slice s)
{
    buf_char(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\n')
            buf_str(b, "\\n");
        else if (s.ptr[i] == '"' || s.ptr[i] == '\\')
            buf_printf(b, "\\%c", s.ptr[i]);
        else
            buf_char(b, s.ptr[i]);
    }
    buf_char(b, '"');
}

/* name{a="b",c="d"}, or {"na.me","a.b"="c"} where a name is not plain. */
static void put_series(struct buf *b, const struct labels *ls)
{
    struct nx_slice name = labels_get_str(ls, LABEL_NAME);
    bool plain = metric_name_legacy_valid(name);
    const char *before = "";

    if (plain)
        buf_slice(b, name);
    if (plain && ls->n == 1)
        return;
    buf_char(b, '{');
    if (!plain) {
        put_quoted(b, name);
        before = ",";
    }
    for (uint32_t i = 0; i < ls->n; i++) {
        const struct label *l = &ls->v[i];
        if (nx_slice_is(l->name, LABEL_NAME))
            continue;
        buf_str(b, before);
        if (label_name_legacy_valid(l->name))
            buf_slice(b, l->name);
        else
            put_quoted(b, l->name);
        buf_char(b, '=');
        put_quoted(b, l->value);
        before = ",";
    }
    buf_char(b, '}');
}

static bool reads_back(const char *text, int64_t t_ms)
{
    double ms = strtod(text, NULL) * 1000;

    return ms > -9.2e18 && ms < 9.2e18 && (int64_t)ms == t_ms;
}

/* X2 */
size_t tsdb_om_time(char to[40], int64_t t_ms)
{
    uint64_t abs = t_ms < 0 ? -(uint64_t)t_ms : (uint64_t)t_ms;
    int n = snprintf(to, 40, "%s%llu", t_ms < 0 ? "-" : "", (unsigned long long)(abs / 1000));

    if (abs % 1000)
        n += snprintf(to + n, 40 - (size_t)n, ".%03u", (unsigned)(abs % 1000));
    for (char digit = '1'; digit <= '4' && abs % 1000 && !reads_back(to, t_ms); digit++) {
        char *last = strchr(to, '.') + 4;
        last[0] = digit;
        last[1] = 0;
        n = (int)(last - to) + 1;
    }
    return (size_t)n;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* out.om.gz with a span that begins on a day at ten: out-20240229T100000Z.om.gz */
static char *file_of_span(const char *path, int64_t from)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strchr(slash ? slash + 1 : path, '.');
    size_t stem = dot ? (size_t)(dot - path) : strlen(path);
    char at[40], *file = NULL;

    clock_format_rfc3339(at, from / 1000 * 1000000000);
    if (asprintf(&file, "%.*s-%.4s%.2s%.2sT%.2s%.2s%.2sZ%s", (int)stem, path, at, at + 5, at + 8,
                 at + 11, at + 14, at + 17, path + stem) < 0)
        return NULL;
    return file;
}

static nx_status begin_file(struct om_export *x, struct nx_err *err)
{
    nx_status st;

    if (x->out)
        return NX_OK;
    st = tsdb_out_open(&x->out, x->file ? x->file : x->path, x->gzip, err);
    x->files += !st;
    x->named = (struct nx_slice){0};
    return st;
}

static nx_status end_file(struct om_export *x, struct nx_err *err)
{
    nx_status st;

    if (!x->out)
        return NX_OK;
    buf_str(tsdb_out_text(x->out), "# EOF\n"); /* X5 */
    st = tsdb_out_finish(x->out, err);
    tsdb_out_close(x->out);
    x->out = NULL;
    return st;
}

/* ---- samples --------------------------------------------------------------------------------- */

static void tell(const struct om_export *x, char end)
{
    fprintf(stderr, "\rexported %llu samples of %llu series%c", (unsigned long long)x->samples,
            (unsigned long long)x->series, end);
}

static void put_type(struct om_export *x, const struct series *s)
{
    struct nx_slice name = labels_get_str(&s->labels, LABEL_NAME);
    struct buf *b = tsdb_out_text(x->out);

    if (nx_slice_eq(name, x->named))
        return;
    x->named = name;
    buf_str(b, "# TYPE ");
    if (metric_name_legacy_valid(name))
        buf_slice(b, name);
    else
        put_quoted(b, name);
    buf_str(b, " unknown\n");
}

static void put_sample(struct buf *b, int64_t t_ms, double v)
{
    char *room = buf_reserve(b, NUM_TEXT_BYTES + 44);

    if (!room)
        return;
    room[0] = ' ';
    b->len += 1 + num_format_g(room + 1, v); /* X1 */
    buf_char(b, ' ');
    room = buf_reserve(b, 44);
    if (!room)
        return;
    b->len += tsdb_om_time(room, t_ms);
    buf_char(b, '\n');
}

static nx_status show_run(void *ctx, const struct series *s, const struct column *run,
                          struct nx_err *err)
{
    struct om_export *x = ctx;
    nx_status st = NX_OK;

    for (size_t i = 0; i < run->n && !st; i++) {
        if (num_is_stale(run->v[i])) { /* X3 */
            x->stale++;
            continue;
        }
        st = begin_file(x, err);
        if (st)
            break;
        put_type(x, s);
        buf_slice(tsdb_out_text(x->out), buf_view(&x->line));
        put_sample(tsdb_out_text(x->out), run->t[i], run->v[i]);
        x->points += run->resolution_ms > 0 && run->t[i] <= run->coarse_to_ms;
        x->series += !x->counted;
        x->counted = true;
        if (++x->samples % TELL_EVERY == 0 && x->progress)
            tell(x, ' ');
        st = tsdb_out_spill(x->out, err);
    }
    return st;
}

static nx_status export_metric(struct om_export *x, struct nx_slice name, struct nx_err *err)
{
    struct matcher m = {.type = MATCH_EQ, .name = nx_slice_str(LABEL_NAME), .value = name};
    struct series_list list;
    nx_status st;

    arena_reset(x->labels);
    x->named = (struct nx_slice){0}; /* its bytes were in the arena */
    st = tsdb_walk_select(&x->walk, &m, x->from, x->to, x->labels, &list, err);
    for (size_t i = 0; i < list.n && !st; i++) {
        buf_clear(&x->line);
        put_series(&x->line, &list.v[i].labels);
        st = buf_status(&x->line, err);
        x->counted = false;
        if (!st)
            st = tsdb_walk_read(&x->walk, &list.v[i], x->from, x->to, &x->column, show_run, x, err);
    }
    return st;
}

static nx_status export_span(struct om_export *x, struct nx_err *err)
{
    struct querier *q = x->walk.querier;
    struct arena *a = arena_new(0);
    struct nx_slice *names = NULL;
    size_t n = 0;
    nx_status st = a ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");

    if (!st)
        st = q->ops->label_values(q, nx_slice_str(LABEL_NAME), NULL, 0, x->from, x->to, 0, a,
                                  &names, &n, err);
    for (size_t i = 0; i < n && !st; i++)
        st = export_metric(x, names[i], err);
    arena_free(a);
    return st;
}

/* X3: they are told of. */
static nx_status count_nameless(struct om_export *x, struct nx_err *err)
{
    struct matcher m = {.type = MATCH_EQ, .name = nx_slice_str(LABEL_NAME)};
    struct series_list list;
    nx_status st;

    arena_reset(x->labels);
    st = tsdb_walk_select(&x->walk, &m, x->walk.mint, x->walk.maxt, x->labels, &list, err);
    x->nameless = st ? 0 : list.n;
    return st;
}

/* Spans are aligned to multiples of their length. */
static nx_status export_spans(struct om_export *x, int64_t split_ms, struct nx_err *err)
{
    nx_status st = NX_OK;
    int64_t from = x->walk.mint;

    if (x->walk.mint > x->walk.maxt)
        return NX_OK;
    if (((uint64_t)x->walk.maxt - (uint64_t)x->walk.mint) / (uint64_t)split_ms > MAX_FILES)
        return nx_fail(err, NX_BADINPUT, "--split would make more than %d files", MAX_FILES);
    while (from <= x->walk.maxt && !st) {
        int64_t past = from % split_ms, start = from - past - (past < 0 ? split_ms : 0);
        x->from = from;
        x->to = start + (split_ms - 1) < x->walk.maxt ? start + (split_ms - 1) : x->walk.maxt;
        free(x->file);
        x->file = file_of_span(x->path, start);
        st = x->file ? export_span(x, err) : nx_fail(err, NX_NOMEM, "out of memory");
        if (!st)
            st = end_file(x, err);
        if (x->to == x->walk.maxt)
            break;
        from = x->to + 1;
    }
    return st;
}

static nx_status export_all(struct om_export *x, int64_t split_ms, struct nx_err *err)
{
    nx_status st;

    if (split_ms > 0)
        return export_spans(x, split_ms, err);
    x->from = x->walk.mint;
    x->to = x->walk.maxt;
    st = begin_file(x, err); /* an empty folder gives a file that says so */
    if (!st && x->from <= x->to)
        st = export_span(x, err);
    return st ? st : end_file(x, err);
}

static bool ends_in_gz(const char *path)
{
    size_t n = path ? strlen(path) : 0;

    return n > 3 && strcmp(path + n - 3, ".gz") == 0;
}

int tool_tsdb_export(const struct flags *f)
{
    const char *path = flags_str(f, "output");
    struct om_export x = {.path = *path && strcmp(path, "-") != 0 ? path : NULL};
    int64_t split_ms = flags_ms(f, "split");
    bool quiet = flags_bool(f, "quiet"), damaged = false;
    struct nx_err err = {0};
    nx_status st;

    x.gzip = flags_bool(f, "gzip") || ends_in_gz(x.path);
    x.progress = !quiet && isatty(STDERR_FILENO);
    buf_init(&x.line, 0);
    if (split_ms > 0 && !x.path) {
        fputs("promtool: error: --split needs --output, try --help\n", stderr);
        return 1;
    }
    st = tsdb_walk_open(&x.walk, f, &err);
    x.labels = arena_new(0);
    if (!st && !x.labels)
        st = nx_fail(&err, NX_NOMEM, "out of memory");
    if (!st)
        st = export_all(&x, split_ms, &err);
    if (!st)
        st = count_nameless(&x, &err);
    if (st) {
        fprintf(stderr, "%s%s\n", x.progress ? "\n" : "", err.text);
    } else {
        if (!quiet)
            fprintf(stderr, "%sexported %llu samples of %llu series, left out %llu stale markers\n",
                    x.progress ? "\r" : "", (unsigned long long)x.samples,
                    (unsigned long long)x.series, (unsigned long long)x.stale);
        if (x.points)
            fprintf(stderr,
                    "%llu of the samples are what downsampling left: the last values of windows\n",
                    (unsigned long long)x.points);
        if (x.nameless)
            fprintf(stderr, "left out %llu series that have no metric name\n",
                    (unsigned long long)x.nameless);
        damaged = tsdb_walk_is_damaged(&x.walk);
    }
    tsdb_out_close(x.out);
    column_done(&x.column);
    buf_done(&x.line);
    free(x.file);
    arena_free(x.labels);
    tsdb_walk_close(&x.walk);
    return st || damaged ? 1 : 0;
}
