#include "src/cli/test_rules.h"

/* test_diff.c - two lists of alerts as one JSON text, with colours where they differ.
 *
 * SHAPE   The text changes its tag when what follows is the same, added, removed or changed; at each line's end
 *         the tag is closed and opened again, so that a pager shows every line right. */

#include <string.h>

#include "src/base/text.h"

enum tag { NONE, NORMAL, ADDED, REMOVED, CHANGED };

struct diff {
    struct buf *b;
    int level;
    enum tag tag;
};

static const char *begin(enum tag t)
{
    return t == ADDED     ? "\033[0;32m"
           : t == REMOVED ? "\033[0;31m"
           : t == CHANGED ? "\033[0;33m"
                          : "";
}

static const char *end(enum tag t)
{
    return t == NONE || t == NORMAL ? "" : "\033[0m";
}

static void tag(struct diff *d, enum tag t)
{
    if (d->tag == t)
        return;
    buf_str(d->b, end(d->tag));
    buf_str(d->b, begin(t));
    d->tag = t;
}

static void newline(struct diff *d, const char *s)
{
    buf_printf(d->b, "%s%s\n%*s%s", s, end(d->tag), 4 * d->level, "", begin(d->tag));
}

static void open(struct diff *d, const char *bracket, bool empty)
{
    if (empty) {
        buf_str(d->b, bracket);
    } else {
        d->level++;
        newline(d, bracket);
    }
}

static void next(struct diff *d, bool last)
{
    d->level -= last;
    newline(d, last ? "" : ",");
}

static void key(struct diff *d, const struct label *l)
{
    text_quote(d->b, l->name);
    buf_str(d->b, ": ");
}

static void whole_labels(struct diff *d, const struct labels *ls)
{
    open(d, "{", ls->n == 0);
    for (uint32_t i = 0; i < ls->n; i++) {
        key(d, &ls->v[i]);
        text_quote(d->b, ls->v[i].value);
        next(d, i + 1 == ls->n);
    }
    buf_char(d->b, '}');
}

static void whole_alert(struct diff *d, const struct unit_alert *a)
{
    open(d, "{", false);
    buf_str(d->b, "\"Annotations\": ");
    whole_labels(d, &a->annotations);
    next(d, false);
    buf_str(d->b, "\"Labels\": ");
    whole_labels(d, &a->labels);
    next(d, true);
    buf_char(d->b, '}');
}

/* One label of either side or of both. */
static void one_label(struct diff *d, const struct label *want, const struct label *got)
{
    if (!want || !got) {
        tag(d, want ? REMOVED : ADDED);
        key(d, want ? want : got);
        text_quote(d->b, (want ? want : got)->value);
        return;
    }
    key(d, want);
    tag(d, nx_slice_eq(want->value, got->value) ? NORMAL : CHANGED);
    text_quote(d->b, want->value);
    if (d->tag == CHANGED) {
        buf_str(d->b, " => ");
        text_quote(d->b, got->value);
    }
}

static void diff_labels(struct diff *d, const struct labels *want, const struct labels *got)
{
    uint32_t i = 0, k = 0;

    tag(d, NORMAL);
    open(d, "{", !want->n && !got->n);
    while (i < want->n || k < got->n) {
        int c = i == want->n ? 1 : k == got->n ? -1 : nx_slice_cmp(want->v[i].name, got->v[k].name);
        one_label(d, c <= 0 ? &want->v[i] : NULL, c >= 0 ? &got->v[k] : NULL);
        i += c <= 0;
        k += c >= 0;
        tag(d, NORMAL);
        next(d, i == want->n && k == got->n);
    }
    buf_char(d->b, '}');
}

static void diff_alert(struct diff *d, const struct unit_alert *want, const struct unit_alert *got)
{
    tag(d, NORMAL);
    open(d, "{", false);
    buf_str(d->b, "\"Annotations\": ");
    diff_labels(d, &want->annotations, &got->annotations);
    tag(d, NORMAL);
    next(d, false);
    buf_str(d->b, "\"Labels\": ");
    diff_labels(d, &want->labels, &got->labels);
    tag(d, NORMAL);
    next(d, true);
    buf_char(d->b, '}');
}

void unit_diff(struct buf *b, const struct unit_alert *want, size_t n_want,
               const struct unit_alert *got, size_t n_got)
{
    static const struct unit_alert nothing;
    struct diff d = {.b = b};
    size_t n;

    if (!n_want)
        want = &nothing, n_want = 1;
    if (!n_got)
        got = &nothing, n_got = 1;
    n = n_want > n_got ? n_want : n_got;
    tag(&d, NORMAL);
    open(&d, "[", false);
    for (size_t i = 0; i < n; i++) {
        if (i < n_want && i < n_got) {
            diff_alert(&d, &want[i], &got[i]);
        } else {
            tag(&d, i < n_want ? REMOVED : ADDED);
            whole_alert(&d, i < n_want ? &want[i] : &got[i]);
        }
        tag(&d, NORMAL);
        next(&d, i + 1 == n);
    }
    buf_str(b, "]");
    buf_str(b, end(d.tag));
}
