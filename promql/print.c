/* print.c - a tree as text: on one line, and laid out over several.
 *
 * WHY     The rules API shows expressions as Prometheus prints them, and /api/v1/format_query as its
 *         prettifier lays them out. Both texts parse to the tree they came from.
 * SHAPE   Printing goes through a sink with a bound, so that "does it fit on a line" costs at most a
 *         line's length; laying out prints a node on one line if it fits and else splits it there.
 * RULES   P1  Matchers are sorted by their text; a matcher that only repeats the name is left out.
 *         P2  Modifiers of a selector come as: @, anchored or smoothed, offset; of a range: [range],
 *             anchored or smoothed, @, offset.
 *         P3  A node is split when its text on one line is longer than 100 bytes, indent not counted.
 *         P4  Depth is bounded by the height of the tree.
 *         P5  The sum in `a offset - -5m + 3` is the offset. Prometheus prints it as `a offset 5m + 3`,
 *             which reads as a sum of vectors; here it gets parentheses. And `a offset +(5m) - 3` keeps its
 *             plus, without which the offset would be 5m - 3. */
#include "promql/ast.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "promql/funcs.h"
#include "src/base/num.h"
#include "src/base/text.h"

enum { LINE_BYTES = 100, INDENT = 2 };

/* Where text goes. Past `stop` bytes the rest does not matter (0: no bound). */
struct sink {
    struct buf *b;
    size_t stop;
};

static bool full(const struct sink *s)
{
    return s->b->failed || (s->stop && s->b->len > s->stop);
}

/* ---- small parts ------------------------------------------------------------------------------ */

/* A duration in milliseconds that may be negative. */
static void print_duration(struct buf *b, int64_t ms)
{
    if (ms < 0)
        buf_char(b, '-');
    buf_duration(b, ms < 0 ? -ms : ms);
}

/* A literal that was written as a duration. Its milliseconds are rounded: a long one in seconds is a
 * double a little below them, and a text that is cut there would not read as the same number.
 * (Prometheus cuts, and prints 7888878888889ms one millisecond short.) */
static void print_duration_seconds(struct buf *b, double seconds)
{
    double ms = round(fabs(seconds) * 1000);

    if (seconds < 0)
        buf_char(b, '-');
    buf_duration(b, ms < 9223372036854.0 ? (int64_t)ms : INT64_MAX / 1000000);
}

static void print_labels(struct buf *b, const struct nx_slice *labels, size_t n)
{
    buf_char(b, '(');
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_str(b, ", ");
        if (label_name_legacy_valid(labels[i]))
            buf_slice(b, labels[i]);
        else
            text_quote(b, labels[i]);
    }
    buf_char(b, ')');
}

/* ---- durations -------------------------------------------------------------------------------- */

static void print_durexpr(struct buf *b, const struct pql_durexpr *d);

static void print_dur_sides(struct buf *b, const struct pql_durexpr *d, const char *between)
{
    print_durexpr(b, d->lhs);
    buf_str(b, between);
    print_durexpr(b, d->rhs);
}

static void print_durexpr(struct buf *b, const struct pql_durexpr *d)
{
    switch (d->op) {
    case PQL_DUR_NUM:
        if (d->is_duration)
            print_duration_seconds(b, d->value);
        else
            buf_num_plain(b, d->value);
        return;
    case PQL_DUR_STEP:
        buf_str(b, "step()");
        return;
    case PQL_DUR_RANGE:
        buf_str(b, "range()");
        return;
    case PQL_DUR_NEG:
        buf_char(b, '-');
        print_durexpr(b, d->lhs);
        return;
    case PQL_DUR_POS: /* P5 */
        if (d->lhs->op == PQL_DUR_PAREN)
            buf_char(b, '+');
        print_durexpr(b, d->lhs);
        return;
    case PQL_DUR_ADD:
        print_dur_sides(b, d, " + ");
        return;
    case PQL_DUR_SUB:
        print_dur_sides(b, d, " - ");
        return;
    case PQL_DUR_MUL:
        print_dur_sides(b, d, " * ");
        return;
    case PQL_DUR_DIV:
        print_dur_sides(b, d, " / ");
        return;
    case PQL_DUR_MOD:
        print_dur_sides(b, d, " % ");
        return;
    case PQL_DUR_POW:
        print_dur_sides(b, d, " ^ ");
        return;
    case PQL_DUR_MIN:
    case PQL_DUR_MAX:
        buf_str(b, d->op == PQL_DUR_MIN ? "min_of(" : "max_of(");
        print_dur_sides(b, d, ", ");
        buf_char(b, ')');
        return;
    case PQL_DUR_PAREN:
        buf_char(b, '(');
        print_durexpr(b, d->lhs);
        buf_char(b, ')');
        return;
    }
}

static void print_dur(struct buf *b, const struct pql_dur *d)
{
    if (d->expr)
        print_durexpr(b, d->expr);
    else
        print_duration(b, d->ms);
}

static void print_at(struct buf *b, const struct pql_shift *s)
{
    if (s->at == PQL_AT_TIME)
        buf_printf(b, " @ %.3f", (double)s->at_ms / 1000.0);
    else if (s->at != PQL_AT_NONE)
        buf_str(b, s->at == PQL_AT_START ? " @ start()" : " @ end()");
}

static bool is_dur_binary(const struct pql_durexpr *d)
{
    return d->op >= PQL_DUR_ADD && d->op <= PQL_DUR_POW;
}

/* Whether an offset reads as it was meant without parentheses around it (P5). */
static bool offset_stands(const struct pql_durexpr *d)
{
    bool binary = is_dur_binary(d);

    while (is_dur_binary(d))
        d = d->lhs;
    if (d->op == PQL_DUR_NEG)
        return d->lhs->op == PQL_DUR_NEG || (!binary && !is_dur_binary(d->lhs));
    return !binary || d->op == PQL_DUR_PAREN;
}

static void print_offset(struct buf *b, const struct pql_shift *s)
{
    bool bare = !s->offset.expr || offset_stands(s->offset.expr);

    if (!s->has_offset)
        return;
    buf_str(b, bare ? " offset " : " offset (");
    print_dur(b, &s->offset);
    if (!bare)
        buf_char(b, ')');
}

/* ---- selectors -------------------------------------------------------------------------------- */

static void print_matcher(struct buf *b, const struct matcher *m)
{
    static const char *const ops[] = {
        [MATCH_EQ] = "=", [MATCH_NEQ] = "!=", [MATCH_RE] = "=~", [MATCH_NRE] = "!~"};

    if (label_name_legacy_valid(m->name))
        buf_slice(b, m->name);
    else
        text_quote(b, m->name);
    buf_str(b, ops[m->type]);
    text_quote(b, m->value);
}

static int cmp_slices(const void *a, const void *b)
{
    return nx_slice_cmp(*(const struct nx_slice *)a, *(const struct nx_slice *)b);
}

/* Whether the matcher is the name before the braces again (P1). */
static bool is_name(const struct pql_selector *s, const struct matcher *m)
{
    return m->type == MATCH_EQ && m->value.len && nx_slice_is(m->name, LABEL_NAME) &&
           nx_slice_eq(m->value, s->name);
}

/* { matchers }, or nothing if there are none. */
static void print_matchers(struct buf *b, const struct pql_selector *s)
{
    struct nx_slice *texts = calloc(s->n + 1, sizeof *texts);
    struct buf all;
    size_t n = 0, start = 0;

    buf_init(&all, b->limit_bytes);
    if (!texts) {
        b->failed = NX_NOMEM;
        goto done;
    }
    for (size_t i = 0; i < s->n; i++) { /* lengths first: `all` may move while it grows */
        if (is_name(s, &s->m[i]))
            continue;
        start = all.len;
        print_matcher(&all, &s->m[i]);
        texts[n++].len = all.len - start;
    }
    start = 0;
    for (size_t i = 0; i < n; i++) {
        texts[i].ptr = all.ptr + start;
        start += texts[i].len;
    }
    if (all.failed) {
        b->failed = all.failed;
        goto done;
    }
    if (n == 0)
        goto done;
    qsort(texts, n, sizeof *texts, cmp_slices);
    for (size_t i = 0; i < n; i++) {
        buf_char(b, i ? ',' : '{');
        buf_slice(b, texts[i]);
    }
    buf_char(b, '}');

done:
    buf_done(&all);
    free(texts);
}

static void print_extended(struct buf *b, const struct pql_selector *s)
{
    if (s->anchored || s->smoothed)
        buf_str(b, s->anchored ? " anchored" : " smoothed");
}

static void print_selector(struct buf *b, const struct pql_selector *s)
{
    buf_slice(b, s->name);
    print_matchers(b, s);
    print_at(b, &s->shift);
    print_extended(b, s);
    print_offset(b, &s->shift);
}

static void print_range(struct buf *b, const struct pql_expr *e)
{
    const struct pql_selector *s = &e->range.selector->selector;

    buf_slice(b, s->name);
    print_matchers(b, s);
    buf_char(b, '[');
    print_dur(b, &e->range.range);
    buf_char(b, ']');
    print_extended(b, s);
    print_at(b, &s->shift);
    print_offset(b, &s->shift);
}

/* ---- the other nodes, on one line --------------------------------------------------------------- */

static void print(const struct sink *s, const struct pql_expr *e);

/* [range:step] and what follows it. */
static void print_sub_suffix(struct buf *b, const struct pql_expr *e)
{
    buf_char(b, '[');
    print_dur(b, &e->sub.range);
    buf_char(b, ':');
    if (e->sub.step.expr || e->sub.step.ms)
        print_dur(b, &e->sub.step);
    buf_char(b, ']');
    print_at(b, &e->sub.shift);
    print_offset(b, &e->sub.shift);
}

/* The operator and its clause, up to the `(`. */
static void print_agg_head(struct buf *b, const struct pql_expr *e)
{
    buf_str(b, pql_agg_text(e->agg.op));
    if (!e->agg.without && e->agg.n == 0)
        return;
    buf_str(b, e->agg.without ? " without " : " by ");
    print_labels(b, e->agg.labels, e->agg.n);
    buf_char(b, ' ');
}

static void print_fill(struct buf *b, const char *word, double v)
{
    char text[NUM_TEXT_BYTES];

    buf_printf(b, " %s (", word);
    buf_append(b, text, num_format_g(text, v));
    buf_char(b, ')');
}

/* The operator of a binary expression and its modifiers. */
static void print_op(struct buf *b, const struct pql_expr *e)
{
    const struct pql_matching *m = &e->binary.match;
    bool grouped = m->card == PQL_MANY_TO_ONE || m->card == PQL_ONE_TO_MANY;

    buf_str(b, pql_op_text(e->binary.op));
    if (e->binary.return_bool)
        buf_str(b, " bool");
    if (m->n || m->on || grouped) {
        buf_str(b, m->on ? " on " : " ignoring ");
        print_labels(b, m->labels, m->n);
    }
    if (grouped) {
        buf_str(b, m->card == PQL_MANY_TO_ONE ? " group_left " : " group_right ");
        print_labels(b, m->include, m->n_include);
    }
    if (m->has_fill_left && m->has_fill_right && m->fill_left == m->fill_right) {
        print_fill(b, "fill", m->fill_left);
        return;
    }
    if (m->has_fill_left)
        print_fill(b, "fill_left", m->fill_left);
    if (m->has_fill_right)
        print_fill(b, "fill_right", m->fill_right);
}

static void print_call(const struct sink *s, const struct pql_expr *e)
{
    buf_str(s->b, e->call.func->name);
    buf_char(s->b, '(');
    for (size_t i = 0; i < e->call.n && !full(s); i++) {
        if (i)
            buf_str(s->b, ", ");
        print(s, e->call.args[i]);
    }
    buf_char(s->b, ')');
}

static void print_aggregate(const struct sink *s, const struct pql_expr *e)
{
    print_agg_head(s->b, e);
    buf_char(s->b, '(');
    if (e->agg.param) {
        print(s, e->agg.param);
        buf_str(s->b, ", ");
    }
    print(s, e->agg.inner);
    buf_char(s->b, ')');
}

static void print_literal(struct buf *b, const struct pql_expr *e)
{
    if (e->kind == PQL_NODE_STRING)
        text_quote(b, e->string);
    else if (e->number.duration)
        print_duration_seconds(b, e->number.value);
    else
        buf_num_plain(b, e->number.value);
}

static void print(const struct sink *s, const struct pql_expr *e)
{
    if (full(s))
        return;
    switch (e->kind) {
    case PQL_NODE_NUMBER:
    case PQL_NODE_STRING:
        print_literal(s->b, e);
        return;
    case PQL_NODE_SELECTOR:
        print_selector(s->b, &e->selector);
        return;
    case PQL_NODE_RANGE:
        print_range(s->b, e);
        return;
    case PQL_NODE_SUBQUERY:
        print(s, e->sub.inner);
        print_sub_suffix(s->b, e);
        return;
    case PQL_NODE_CALL:
        print_call(s, e);
        return;
    case PQL_NODE_AGGREGATE:
        print_aggregate(s, e);
        return;
    case PQL_NODE_UNARY:
        buf_char(s->b, e->unary.minus ? '-' : '+');
        print(s, e->unary.inner);
        return;
    case PQL_NODE_BINARY:
        print(s, e->binary.lhs);
        buf_char(s->b, ' ');
        print_op(s->b, e);
        buf_char(s->b, ' ');
        print(s, e->binary.rhs);
        return;
    case PQL_NODE_PAREN:
        buf_char(s->b, '(');
        print(s, e->paren);
        buf_char(s->b, ')');
        return;
    }
}

void pql_print(struct buf *b, const struct pql_expr *e)
{
    print(&(struct sink){b, 0}, e);
}

/* ---- laid out --------------------------------------------------------------------------------- */

static void format(struct buf *b, const struct pql_expr *e, unsigned level);

static void indent(struct buf *b, unsigned level)
{
    for (unsigned i = 0; i < level * INDENT; i++)
        buf_char(b, ' ');
}

/* P3 */
static bool needs_split(const struct pql_expr *e)
{
    struct buf b;
    bool split;

    buf_init(&b, 0);
    print(&(struct sink){&b, LINE_BYTES}, e);
    split = b.len > LINE_BYTES;
    buf_done(&b);
    return split;
}

static void format_aggregate(struct buf *b, const struct pql_expr *e, unsigned level)
{
    indent(b, level);
    print_agg_head(b, e);
    buf_str(b, "(\n");
    if (e->agg.param) {
        format(b, e->agg.param, level + 1);
        buf_str(b, ",\n");
    }
    format(b, e->agg.inner, level + 1);
    buf_char(b, '\n');
    indent(b, level);
    buf_char(b, ')');
}

static void format_call(struct buf *b, const struct pql_expr *e, unsigned level)
{
    indent(b, level);
    buf_printf(b, "%s(\n", e->call.func->name);
    for (size_t i = 0; i < e->call.n; i++) {
        if (i)
            buf_str(b, ",\n");
        format(b, e->call.args[i], level + 1);
    }
    buf_char(b, '\n');
    indent(b, level);
    buf_char(b, ')');
}

static void format_binary(struct buf *b, const struct pql_expr *e, unsigned level)
{
    format(b, e->binary.lhs, level + 1);
    buf_char(b, '\n');
    indent(b, level);
    print_op(b, e);
    buf_char(b, '\n');
    format(b, e->binary.rhs, level + 1);
}

/* The sign, then the operand without the blanks it would begin with. */
static void format_unary(struct buf *b, const struct pql_expr *e, unsigned level)
{
    size_t start, skip = 0;

    indent(b, level);
    buf_char(b, e->unary.minus ? '-' : '+');
    start = b->len;
    format(b, e->unary.inner, level);
    while (start + skip < b->len && b->ptr[start + skip] == ' ')
        skip++;
    if (skip) {
        memmove(b->ptr + start, b->ptr + start + skip, b->len - start - skip);
        b->len -= skip;
    }
}

static void format(struct buf *b, const struct pql_expr *e, unsigned level)
{
    bool split = e->kind != PQL_NODE_UNARY && needs_split(e);

    if (b->failed)
        return;
    if (e->kind == PQL_NODE_UNARY) {
        format_unary(b, e, level);
    } else if (e->kind == PQL_NODE_SUBQUERY) {
        if (split) {
            format(b, e->sub.inner, level);
            print_sub_suffix(b, e);
        } else {
            pql_print(b, e); /* without its indent, as Prometheus has it */
        }
    } else if (split && e->kind == PQL_NODE_AGGREGATE) {
        format_aggregate(b, e, level);
    } else if (split && e->kind == PQL_NODE_CALL) {
        format_call(b, e, level);
    } else if (split && e->kind == PQL_NODE_BINARY) {
        format_binary(b, e, level);
    } else if (split && e->kind == PQL_NODE_PAREN) {
        indent(b, level);
        buf_str(b, "(\n");
        format(b, e->paren, level + 1);
        buf_char(b, '\n');
        indent(b, level);
        buf_char(b, ')');
    } else {
        indent(b, level);
        pql_print(b, e);
    }
}

void pql_format(struct buf *b, const struct pql_expr *e)
{
    format(b, e, 0);
}
