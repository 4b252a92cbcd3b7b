#include "src/cli/metrics_lint.h"

/* metrics_lint.c - the conventions for metrics, each a function of one family. */

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/buf.h"

struct lint {
    struct arena *a;
    const struct metrics_family *f; /* at work */
    const char *lower;              /* its name in small letters */
    struct metrics_problem *v;
    size_t n, cap;
    bool nomem;
};

static void problem(struct lint *l, const char *text)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 32;
        struct metrics_problem *v = arena_grow(l->a, l->v, l->cap * sizeof *v, cap * sizeof *v);
        if (!v) {
            l->nomem = true;
            return;
        }
        l->v = v;
        l->cap = cap;
    }
    if (!text)
        l->nomem = true;
    else
        l->v[l->n++] = (struct metrics_problem){l->f->name, nx_slice_str(text)};
}

static bool ends_with(struct nx_slice s, const char *end)
{
    size_t n = strlen(end);

    return s.len >= n && memcmp(s.ptr + s.len - n, end, n) == 0;
}

/* _word_ or _word at the end. */
static bool has_word(const char *name, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = strchr(name, '_'); at; at = strchr(at + 1, '_'))
        if (strncmp(at + 1, word, n) == 0 && (at[n + 1] == '_' || !at[n + 1]))
            return true;
    return false;
}

static bool camel_case(struct nx_slice s)
{
    for (size_t i = 1; i < s.len; i++)
        if (s.ptr[i - 1] >= 'a' && s.ptr[i - 1] <= 'z' && s.ptr[i] >= 'A' && s.ptr[i] <= 'Z')
            return true;
    return false;
}

/* ---- the conventions ------------------------------------------------------------------------------- */

static void help(struct lint *l)
{
    if (!l->f->has_help)
        problem(l, "no help text");
}

// clang-format off
static const struct { const char *unit, *base; } units[] = {
    {"amperes", "amperes"}, {"bytes", "bytes"}, {"celsius", "celsius"}, {"grams", "grams"}, {"joules", "joules"},
    {"kelvin", "kelvin"}, {"meters", "meters"}, {"metres", "metres"}, {"seconds", "seconds"}, {"volts", "volts"},
    {"minutes", "seconds"}, {"hours", "seconds"}, {"days", "seconds"}, {"weeks", "seconds"},
    {"kelvins", "kelvin"}, {"fahrenheit", "celsius"}, {"rankine", "celsius"},
    {"inches", "meters"}, {"yards", "meters"}, {"miles", "meters"},
    {"bits", "bytes"}, {"calories", "joules"}, {"pounds", "grams"}, {"ounces", "grams"},
};
static const char *const prefixes[] = {"pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo",
                                       "kibi", "mega", "mibi", "giga", "gibi", "tera", "tebi", "peta", "pebi"};
static const char *const abbreviations[] = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"};
// clang-format on

static const char *base_of(struct nx_slice unit)
{
    for (size_t i = 0; i < NX_COUNT(units); i++)
        if (nx_slice_is(unit, units[i].unit))
            return units[i].base;
    return NULL;
}

/* The base unit of a word of a name, with a prefix or without; NULL: it is no unit. */
static const char *unit_base(struct nx_slice word)
{
    const char *base = base_of(word);

    for (size_t i = 0; i < NX_COUNT(prefixes) && !base; i++) {
        size_t n = strlen(prefixes[i]);
        if (word.len > n && memcmp(word.ptr, prefixes[i], n) == 0)
            base = base_of(nx_slice_of(word.ptr + n, word.len - n));
    }
    return base;
}

static void metric_units(struct lint *l)
{
    struct nx_slice rest = l->f->name;

    while (rest.len) {
        const char *end = memchr(rest.ptr, '_', rest.len);
        struct nx_slice word = {rest.ptr, end ? (size_t)(end - rest.ptr) : rest.len};
        const char *base = unit_base(word);

        if (base && !nx_slice_is(word, base))
            problem(l, arena_printf(l->a, "use base unit \"%s\" instead of \"%.*s\"", base,
                                    (int)word.len, word.ptr));
        if (base)
            return; /* the first unit decides */
        rest.ptr += word.len + (end != NULL);
        rest.len -= word.len + (end != NULL);
    }
}

static void counter(struct lint *l)
{
    bool total = ends_with(l->f->name, "_total");

    if (l->f->type == METRICS_COUNTER && !total)
        problem(l, "counter metrics should have \"_total\" suffix");
    if (l->f->type != METRICS_COUNTER && l->f->type != METRICS_UNTYPED && total)
        problem(l, "non-counter metrics should not have \"_total\" suffix");
}

static void reserved(struct lint *l)
{
    bool histogram = l->f->type == METRICS_HISTOGRAM, summary = l->f->type == METRICS_SUMMARY;

    if (l->f->type == METRICS_UNTYPED)
        return;
    if (!histogram && ends_with(l->f->name, "_bucket"))
        problem(l, "non-histogram metrics should not have \"_bucket\" suffix");
    if (!histogram && !summary && ends_with(l->f->name, "_count"))
        problem(l, "non-histogram and non-summary metrics should not have \"_count\" suffix");
    if (!histogram && !summary && ends_with(l->f->name, "_sum"))
        problem(l, "non-histogram and non-summary metrics should not have \"_sum\" suffix");
    for (size_t i = 0; i < l->f->n; i++) {
        for (size_t k = 0; k < l->f->v[i].n_labels; k++) {
            if (!histogram && nx_slice_is(l->f->v[i].labels[k].name, "le"))
                problem(l, "non-histogram metrics should not have \"le\" label");
            if (!summary && nx_slice_is(l->f->v[i].labels[k].name, "quantile"))
                problem(l, "non-summary metrics should not have \"quantile\" label");
        }
    }
}

static void type_in_name(struct lint *l)
{
    const char *type = metrics_type_name(l->f->type);

    if (l->f->type != METRICS_UNTYPED && has_word(l->lower, type))
        problem(l, arena_printf(l->a, "metric name should not include type '%s'", type));
}

static void reserved_chars(struct lint *l)
{
    if (memchr(l->f->name.ptr, ':', l->f->name.len))
        problem(l, "metric names should not contain ':'");
}

static void snake_case(struct lint *l)
{
    if (camel_case(l->f->name))
        problem(l, "metric names should be written in 'snake_case' not 'camelCase'");
    for (size_t i = 0; i < l->f->n; i++)
        for (size_t k = 0; k < l->f->v[i].n_labels; k++)
            if (camel_case(l->f->v[i].labels[k].name))
                problem(l, "label names should be written in 'snake_case' not 'camelCase'");
}

static void abbreviated(struct lint *l)
{
    for (size_t i = 0; i < NX_COUNT(abbreviations); i++)
        if (has_word(l->lower, abbreviations[i]))
            problem(l, "metric names should not contain abbreviated units");
}

/* ---- duplicates ------------------------------------------------------------------------------------ */

static int by_labels(const void *x, const void *y)
{
    const struct metrics_metric *a = *(struct metrics_metric *const *)x,
                                *b = *(struct metrics_metric *const *)y;

    for (size_t i = 0; i < a->n_labels && i < b->n_labels; i++) {
        int c = nx_slice_cmp(a->labels[i].name, b->labels[i].name);
        c = c ? c : nx_slice_cmp(a->labels[i].value, b->labels[i].value);
        if (c)
            return c;
    }
    return a->n_labels < b->n_labels ? -1 : a->n_labels > b->n_labels;
}

/* All but one of those with the same labels, in the same order as written. */
static void duplicates(struct lint *l)
{
    const struct metrics_metric **v = arena_array(l->a, l->f->n, sizeof(*v));

    if (!v) {
        l->nomem = true;
        return;
    }
    for (size_t i = 0; i < l->f->n; i++)
        v[i] = &l->f->v[i];
    qsort(v, l->f->n, sizeof(*v), by_labels);
    for (size_t i = 1; i < l->f->n; i++)
        if (by_labels(&v[i - 1], &v[i]) == 0)
            problem(l, "metric not unique");
}

/* ---- all of them ----------------------------------------------------------------------------------- */

static int by_metric_and_text(const void *x, const void *y)
{
    const struct metrics_problem *a = x, *b = y;
    int c = nx_slice_cmp(a->metric, b->metric);

    return c ? c : nx_slice_cmp(a->text, b->text);
}

nx_status metrics_lint(const struct metrics_families *f, struct arena *a,
                       struct metrics_problem **out, size_t *n, struct nx_err *err)
{
    static void (*const conventions[])(struct lint * l) = {
        help,           metric_units, counter,     reserved,   type_in_name,
        reserved_chars, snake_case,   abbreviated, duplicates,
    };
    struct lint l = {.a = a};

    for (size_t i = 0; i < f->n && !l.nomem; i++) {
        char *lower = arena_strndup(a, f->v[i].name.ptr, f->v[i].name.len);
        if (!lower)
            return arena_failed(a, err);
        for (char *c = lower; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        l.f = &f->v[i];
        l.lower = lower;
        for (size_t k = 0; k < NX_COUNT(conventions); k++)
            conventions[k](&l);
    }
    if (l.nomem)
        return arena_failed(a, err);
    if (l.n)
        qsort(l.v, l.n, sizeof *l.v, by_metric_and_text);
    *out = l.v;
    *n = l.n;
    return NX_OK;
}
