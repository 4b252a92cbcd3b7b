#include "src/cli/tool.h"

/* tsdb_dump.c - `tsdb dump` and `tsdb dump-openmetrics`: every sample on a line, as promtool writes it.
 *
 * Numbers are Go's %g. In the form of OpenMetrics, labels are quoted as Go quotes, and a time is
 * cut to three digits: that is promtool's; `tsdb export` is what reads back to the same bits. */

#include <string.h>

#include "src/base/num.h"
#include "src/base/text.h"
#include "src/cli/tsdb.h"

struct dump {
    struct tsdb_walk walk;
    struct tsdb_out *out;
    struct buf line; /* what all lines of a series begin with */
    bool openmetrics;
};

/* {__name__="a", b="c"}; without the name and the blanks in OpenMetrics. */
static void put_labels(struct buf *b, const struct labels *ls, bool openmetrics)
{
    const char *before = "";

    if (openmetrics)
        buf_slice(b, labels_get_str(ls, LABEL_NAME));
    buf_char(b, '{');
    for (uint32_t i = 0; i < ls->n; i++) {
        const struct label *l = &ls->v[i];
        if (openmetrics && nx_slice_is(l->name, LABEL_NAME))
            continue;
        buf_str(b, before);
        if (openmetrics || label_name_legacy_valid(l->name))
            buf_slice(b, l->name);
        else
            text_quote(b, l->name);
        buf_char(b, '=');
        text_quote(b, l->value);
        before = openmetrics ? "," : ", ";
    }
    buf_char(b, '}');
}

static void put_value(struct buf *b, double v)
{
    char *room = buf_reserve(b, NUM_TEXT_BYTES);

    if (room)
        b->len += num_format_g(room, v);
}

static nx_status show_run(void *ctx, const struct series *s, const struct column *run,
                          struct nx_err *err)
{
    struct dump *d = ctx;
    struct buf *b = tsdb_out_text(d->out);
    nx_status st = NX_OK;

    (void)s;
    for (size_t i = 0; i < run->n && !st; i++) {
        if (d->openmetrics && num_is_stale(run->v[i]))
            continue;
        buf_slice(b, buf_view(&d->line));
        buf_char(b, ' ');
        put_value(b, run->v[i]);
        if (d->openmetrics)
            buf_printf(b, " %.3f\n", (double)run->t[i] / 1000);
        else
            buf_printf(b, " %lld\n", (long long)run->t[i]);
        st = tsdb_out_spill(d->out, err);
    }
    return st;
}

static nx_status dump_samples(struct dump *d, const struct series_list *list, struct nx_err *err)
{
    struct column column = {0};
    nx_status st = NX_OK;

    for (size_t i = 0; i < list->n && !st; i++) {
        buf_clear(&d->line);
        put_labels(&d->line, &list->v[i].labels, d->openmetrics);
        st = buf_status(&d->line, err);
        if (!st)
            st = tsdb_walk_read(&d->walk, &list->v[i], d->walk.mint, d->walk.maxt, &column,
                                show_run, d, err);
    }
    column_done(&column);
    if (!st && d->openmetrics)
        buf_str(tsdb_out_text(d->out), "# EOF\n");
    return st;
}

/* Go's encoding/json escapes what HTML would take for its own, and two line ends of Unicode. */
static void put_go_json(struct buf *b, const struct buf *json)
{
    for (size_t i = 0; i < json->len; i++) {
        const char *p = json->ptr + i;
        if (*p == '<' || *p == '>' || *p == '&') {
            buf_printf(b, "\\u%04x", (unsigned char)*p);
        } else if (json->len - i >= 3 && memcmp(p, "\xe2\x80", 2) == 0 &&
                   (p[2] == '\xa8' || p[2] == '\xa9')) {
            buf_printf(b, "\\u20%02x", (unsigned char)p[2] & 0x7fu);
            i += 2;
        } else {
            buf_char(b, *p);
        }
    }
}

static nx_status dump_labels(struct dump *d, const struct series_list *list, struct nx_err *err)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < list->n && !st; i++) {
        buf_clear(&d->line);
        labels_print_json(&d->line, &list->v[i].labels);
        put_go_json(tsdb_out_text(d->out), &d->line);
        buf_char(tsdb_out_text(d->out), '\n');
        st = tsdb_out_spill(d->out, err);
    }
    return st;
}

static int run(const struct flags *f, bool openmetrics, bool labels_only)
{
    struct dump d = {.openmetrics = openmetrics};
    struct series_list list = {0};
    struct nx_err err = {0};
    bool damaged = false;
    struct arena *a = NULL;
    nx_status st = tsdb_walk_open(&d.walk, f, &err);

    buf_init(&d.line, 0);
    if (!st)
        st = tsdb_out_open(&d.out, NULL, false, &err);
    if (!st && !(a = arena_new(0)))
        st = nx_fail(&err, NX_NOMEM, "out of memory");
    if (!st)
        st = tsdb_walk_select(&d.walk, NULL, d.walk.mint, d.walk.maxt, a, &list, &err);
    if (!st)
        st = labels_only ? dump_labels(&d, &list, &err) : dump_samples(&d, &list, &err);
    if (!st)
        st = tsdb_out_finish(d.out, &err);
    if (st)
        fprintf(stderr, "%s\n", err.text);
    else
        damaged = tsdb_walk_is_damaged(&d.walk);
    tsdb_out_close(d.out);
    buf_done(&d.line);
    arena_free(a);
    tsdb_walk_close(&d.walk);
    return st || damaged ? 1 : 0;
}

int tool_tsdb_dump(const struct flags *f)
{
    return run(f, false, strcmp(flags_str(f, "format"), "seriesjson") == 0);
}

int tool_tsdb_dump_openmetrics(const struct flags *f)
{
    return run(f, true, false);
}
