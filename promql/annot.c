/* annot.c - warnings and infos of a query.
 *
 * WHY   A query over odd data still has an answer; what is odd about it is told beside the answer.
 * RULES N1  A text is told once per query, however many series and steps it was seen at: with the position
 *           it was last seen at, except for the monotonicity info, which keeps its first.
 *       N2  At most ten of each level are told; a last line counts the others. */
#include "promql/annot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "src/base/num.h"
#include "src/base/text.h"

#define ANNOT_TOLD 10

static struct annot *annots_put(struct annots *as, enum annot_level level, struct pql_pos pos,
                                const char *text)
{
    for (size_t i = 0; i < as->n; i++)
        if (as->v[i].level == level && strcmp(as->v[i].text, text) == 0) {
            if (!as->v[i].monotonic)
                as->v[i].pos = pos; /* N1 */
            return &as->v[i];
        }
    if (as->n == as->cap) {
        size_t cap = as->cap ? as->cap * 2 : 16;
        struct annot *v = arena_grow(as->a, as->v, as->cap * sizeof *v, cap * sizeof *v);

        if (!v) {
            as->failed = true;
            return NULL;
        }
        as->v = v;
        as->cap = cap;
    }
    char *copy = arena_strdup(as->a, text);
    if (!copy) {
        as->failed = true;
        return NULL;
    }
    as->v[as->n] = (struct annot){.level = level, .text = copy, .pos = pos};
    return &as->v[as->n++];
}

void annots_add(struct annots *as, enum annot_level level, struct pql_pos pos, const char *fmt, ...)
{
    char text[NX_ERR_TEXT_BYTES];
    size_t at = (size_t)snprintf(text, sizeof text,
                                 "PromQL %s: ", level == ANNOT_WARNING ? "warning" : "info");
    va_list args;

    va_start(args, fmt);
    vsnprintf(text + at, sizeof text - at, fmt, args);
    va_end(args);
    annots_put(as, level, pos, text);
}

void annots_quantile(struct annots *as, struct pql_pos pos, double q)
{
    char num[NUM_TEXT_BYTES];
    size_t len;

    if (!isnan(q) && q >= 0 && q <= 1)
        return;
    len = num_format_g(num, q);
    annots_add(as, ANNOT_WARNING, pos, "quantile value should be between 0 and 1, got %.*s",
               (int)len, num);
}

void annots_monotonic(struct annots *as, struct pql_pos pos, struct nx_slice name, int64_t t_ms,
                      double min_bucket, double max_bucket, double max_diff)
{
    char text[NX_ERR_TEXT_BYTES], quoted[TEXT_QUOTED_BYTES];
    struct annot *a;
    size_t at = (size_t)snprintf(
        text, sizeof text,
        "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see "
        "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)");

    if (name.len)
        snprintf(text + at, sizeof text - at, " for metric name %s", text_quoted(quoted, name));
    a = annots_put(as, ANNOT_INFO, pos, text);
    if (!a)
        return;
    if (!a->monotonic) {
        a->monotonic = true;
        a->min_ms = a->max_ms = t_ms;
        a->min_bucket = min_bucket;
        a->max_bucket = max_bucket;
        a->max_diff = max_diff;
    }
    a->seen++;
    if (t_ms < a->min_ms)
        a->min_ms = t_ms;
    if (t_ms > a->max_ms)
        a->max_ms = t_ms;
    if (min_bucket < a->min_bucket)
        a->min_bucket = min_bucket;
    if (max_bucket > a->max_bucket)
        a->max_bucket = max_bucket;
    if (max_diff > a->max_diff)
        a->max_diff = max_diff;
}

static void merge_monotonic(struct annots *as, const struct annot *b)
{
    struct annot *a = annots_put(as, b->level, b->pos, b->text);
    char *text;

    if (!a)
        return;
    text = a->text;
    if (!a->monotonic) {
        *a = *b;
        a->text = text;
        return;
    }
    a->seen += b->seen;
    a->min_ms = b->min_ms < a->min_ms ? b->min_ms : a->min_ms;
    a->max_ms = b->max_ms > a->max_ms ? b->max_ms : a->max_ms;
    a->min_bucket = b->min_bucket < a->min_bucket ? b->min_bucket : a->min_bucket;
    a->max_bucket = b->max_bucket > a->max_bucket ? b->max_bucket : a->max_bucket;
    a->max_diff = b->max_diff > a->max_diff ? b->max_diff : a->max_diff;
}

void annots_merge(struct annots *as, const struct annots *from)
{
    as->failed |= from->failed;
    for (size_t i = 0; i < from->n; i++)
        if (from->v[i].monotonic)
            merge_monotonic(as, &from->v[i]);
        else
            annots_put(as, from->v[i].level, from->v[i].pos, from->v[i].text);
}

void annots_repeat(struct annots *as, const struct annots *from)
{
    for (size_t i = 0; i < from->n; i++)
        if (!from->v[i].monotonic)
            annots_put(as, from->v[i].level, from->v[i].pos, from->v[i].text);
}

static void print_time(struct buf *b, int64_t t_ms)
{
    time_t t = (time_t)(t_ms / 1000);
    struct tm tm;
    char text[64];

    if (!gmtime_r(&t, &tm))
        return;
    buf_append(b, text, strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm));
}

static void print_monotonic(struct buf *b, const struct annot *a)
{
    char min[NUM_TEXT_BYTES], max[NUM_TEXT_BYTES];
    size_t n_min = num_format_g(min, a->min_bucket), n_max = num_format_g(max, a->max_bucket);

    buf_printf(b, ", from buckets %.*s to %.*s, with a max diff of %.2g, over %u samples from ",
               (int)n_min, min, (int)n_max, max, a->max_diff, a->seen);
    print_time(b, a->min_ms);
    buf_str(b, " to ");
    print_time(b, a->max_ms);
}

/* " (line:column)", counted in bytes from 1. */
static void print_pos(struct buf *b, uint32_t pos, struct nx_slice query)
{
    unsigned line = 1;
    size_t begin = 0;

    if (pos > query.len)
        return;
    for (size_t i = 0; i < pos; i++) {
        if (query.ptr[i] == '\n') {
            line++;
            begin = i + 1;
        }
    }
    buf_printf(b, " (%u:%zu)", line, pos - begin + 1);
}

static nx_status annot_text(const struct annot *a, struct nx_slice query, struct arena *arena,
                            char **out, struct nx_err *err)
{
    struct buf b;
    nx_status st;

    buf_init(&b, 0);
    buf_str(&b, a->text);
    if (a->monotonic)
        print_monotonic(&b, a);
    print_pos(&b, a->pos.start, query);
    st = buf_status(&b, err);
    if (!st) {
        *out = arena_strndup(arena, b.ptr, b.len);
        if (!*out)
            st = arena_failed(arena, err);
    }
    buf_done(&b);
    return st;
}

nx_status annots_texts(const struct annots *as, enum annot_level level, struct nx_slice query,
                       struct arena *a, char ***out, size_t *n, struct nx_err *err)
{
    char **texts;
    size_t told = 0, more = 0;
    nx_status st;

    if (as->failed)
        return nx_fail(err, NX_NOMEM, "gathering annotations");
    texts = arena_array(a, ANNOT_TOLD + 1, sizeof *texts);
    if (!texts)
        return arena_failed(a, err);
    for (size_t i = 0; i < as->n; i++) {
        if (as->v[i].level != level)
            continue;
        if (told == ANNOT_TOLD) {
            more++;
            continue;
        }
        st = annot_text(&as->v[i], query, a, &texts[told], err);
        if (st)
            return st;
        told++;
    }
    if (more) {
        texts[told] = arena_printf(a, "%zu more %s annotations omitted", more,
                                   level == ANNOT_WARNING ? "warning" : "info");
        if (!texts[told])
            return arena_failed(a, err);
        told++;
    }
    *out = texts;
    *n = told;
    return NX_OK;
}
