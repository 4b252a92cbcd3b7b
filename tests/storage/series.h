/* series.h - series by number for tests of a store, and what they see of it: all samples, one series after the other,
 * and its counters. */
#pragma once

#include "storage/storage.h"
#include "tests/support/test.h"

/* The column of m{i="07"} in a group. */
static inline uint32_t numbered_column(struct storage_group *g, int number)
{
    char text[16];
    struct label v[] = {{STR(LABEL_NAME), STR("m")}, {STR("i"), {0}}};
    struct nx_err err;
    uint32_t col = 0;

    snprintf(text, sizeof text, "%02d", number);
    v[1].value = STR(text);
    assert_ok(storage_group_column(g, &(struct labels){v, 2}, &col, NULL, &err), &err);
    return col;
}

/* Of one that has two digits. */
static inline int series_number(const struct labels *ls)
{
    const char *text = labels_get_str(ls, "i").ptr;

    return (text[0] - '0') * 10 + text[1] - '0';
}

/* Of each kind of numbers some: one that stays, whole ones, quarters. */
static inline double numbered_value(int number, int row)
{
    return number % 3 == 0 ? number : number % 3 == 1 ? row * 7.0 + number : row * 0.25 + number;
}

static inline struct storage_stats stats_of(struct storage *s)
{
    struct storage_stats st;

    storage_get_stats(s, &st);
    return st;
}

/*     scan_begin(&x, s, "m");
 *     while (scan_next(&x))
 *         ... x.labels, x.c ...
 *
 * What can't be read fails the test. */
struct scan {
    struct querier *q;
    struct arena *arena;
    struct series_list list;
    size_t next;
    const struct labels *labels; /* of the series at which it is */
    struct column c;             /* all its samples */
};

/* All series of that name, in the order of their labels; NULL: of any name. */
static inline void scan_begin(struct scan *x, struct storage *s, const char *name)
{
    const struct matcher m = {.type = name ? MATCH_EQ : MATCH_NEQ,
                              .name = STR(LABEL_NAME),
                              .value = STR(name ? name : "")};
    struct nx_err err;

    *x = (struct scan){.arena = arena_new(0)};
    assert_non_null(x->arena);
    assert_ok(storage_querier(s, INT64_MIN, INT64_MAX, &x->q, &err), &err);
    assert_ok(x->q->ops->select(x->q, &m, 1, INT64_MIN, INT64_MAX, x->arena, &x->list, &err), &err);
}

/* False after the last one: the scan is over, and holds nothing any more. */
static inline bool scan_next(struct scan *x)
{
    struct nx_err err;

    if (x->next == x->list.n) {
        column_done(&x->c);
        querier_close(x->q);
        arena_free(x->arena);
        return false;
    }
    x->labels = &x->list.v[x->next].labels;
    assert_ok(x->q->ops->read(x->q, &x->list.v[x->next++], INT64_MIN, INT64_MAX, &x->c, &err),
              &err);
    return true;
}

/* How many samples there are. */
static inline size_t scan_count(struct storage *s, const char *name)
{
    struct scan x;
    size_t n = 0;

    for (scan_begin(&x, s, name); scan_next(&x);)
        n += x.c.n;
    return n;
}
