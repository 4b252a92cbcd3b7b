/* fake_storage.h - the writing half of storage/storage.h, kept in plain lists that a test can look at.
 *
 * Included by one .c of a program: its definitions take the place of the library's. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/storage.h"

#ifndef FAKE_PAUSE /* tests that make allocations fail spare this store */
#define FAKE_PAUSE()  ((void)0)
#define FAKE_RESUME() ((void)0)
#endif

struct fake_sample {
    int64_t t_ms;
    char *series; /* owned by fake_series */
    double value;
};
struct fake_exemplar {
    char *series; /* owned by fake_series */
    char *text;   /* {labels} value timestamp has_ts */
};
struct storage_group {
    uint32_t *series; /* by column; UINT32_MAX: released */
    uint32_t n;
};
static struct {
    char **series;
    uint32_t n_series;
    struct fake_sample *log;
    size_t n_log, cap_log;
    uint32_t columns, groups; /* held now */
    uint32_t refuse_after;    /* series; 0: takes all */
    uint32_t duplicates;
    uint32_t loose_groups, batches, moved; /* ever */
    bool keeps_exemplars;
    enum storage_exemplar_result exemplar_result; /* instead of EXEMPLAR_STORED, if set */
    struct fake_exemplar *exemplars;
    size_t n_exemplars;
} fake;

static uint32_t fake_find(const struct labels *ls, bool may_add)
{
    struct buf b;
    uint32_t i;

    buf_init(&b, 0);
    labels_print(&b, ls);
    for (i = 0; i < fake.n_series; i++)
        if (strcmp(fake.series[i], buf_cstr(&b)) == 0)
            break;
    if (i == fake.n_series && may_add) {
        fake.series = realloc(fake.series, (i + 1) * sizeof *fake.series);
        fake.series[fake.n_series++] = strdup(buf_cstr(&b));
    }
    buf_done(&b);
    return i < fake.n_series ? i : UINT32_MAX;
}

static uint32_t fake_series(const struct labels *ls, bool may_add)
{
    uint32_t id;

    FAKE_PAUSE();
    id = fake_find(ls, may_add);
    FAKE_RESUME();
    return id;
}

nx_status storage_group_open(struct storage *s, struct storage_group **out, struct nx_err *err)
{
    (void)s, (void)err;
    FAKE_PAUSE();
    *out = calloc(1, sizeof **out);
    fake.groups++;
    FAKE_RESUME();
    return NX_OK;
}

void storage_group_close(struct storage_group *g)
{
    if (!g)
        return;
    for (uint32_t i = 0; i < g->n; i++)
        fake.columns -= g->series[i] != UINT32_MAX;
    fake.groups--;
    free(g->series);
    free(g);
}

bool storage_knows(struct storage *s, const struct labels *ls)
{
    (void)s;
    return fake_find(ls, false) != UINT32_MAX;
}

nx_status storage_group_column(struct storage_group *g, const struct labels *ls, uint32_t *col,
                               bool *created, struct nx_err *err)
{
    uint32_t before = fake.n_series;
    uint32_t id = fake_series(ls, !fake.refuse_after || fake.n_series < fake.refuse_after),
             free_col = g->n;

    NX_ASSERT_ALWAYS(ls->n > 0);
    if (id == UINT32_MAX)
        return nx_fail(err, NX_LIMIT, "no new series");
    if (created)
        *created = fake.n_series > before;
    for (uint32_t i = 0; i < g->n; i++) {
        if (g->series[i] == id) {
            *col = i;
            return NX_OK;
        }
        if (g->series[i] == UINT32_MAX)
            free_col = i;
    }
    FAKE_PAUSE();
    if (free_col == g->n)
        g->series = realloc(g->series, ++g->n * sizeof *g->series);
    FAKE_RESUME();
    g->series[free_col] = id;
    fake.columns++;
    *col = free_col;
    return NX_OK;
}

void storage_group_release(struct storage_group *g, uint32_t col)
{
    NX_ASSERT_ALWAYS(col < g->n && g->series[col] != UINT32_MAX);
    g->series[col] = UINT32_MAX;
    fake.columns--;
}

nx_status storage_group_move(struct storage_group *from, uint32_t col, struct storage_group *to,
                             uint32_t *out, struct nx_err *err)
{
    (void)err;
    NX_ASSERT_ALWAYS(col < from->n && from->series[col] != UINT32_MAX);
    FAKE_PAUSE();
    to->series = realloc(to->series, ++to->n * sizeof *to->series);
    FAKE_RESUME();
    to->series[to->n - 1] = from->series[col];
    from->series[col] = UINT32_MAX;
    *out = to->n - 1;
    fake.moved++;
    return NX_OK;
}

nx_status storage_group_append(struct storage_group *g, int64_t t_ms, const uint32_t *cols,
                               const double *values, size_t n, struct storage_appended *res,
                               struct nx_err *err)
{
    (void)err;
    FAKE_PAUSE();
    if (fake.n_log + n > fake.cap_log) {
        fake.cap_log = (fake.n_log + n) * 2;
        fake.log = realloc(fake.log, fake.cap_log * sizeof *fake.log);
    }
    FAKE_RESUME();
    if (res)
        *res = (struct storage_appended){.appended = (uint32_t)n};
    for (size_t i = 0; i < n; i++) {
        NX_ASSERT_ALWAYS(cols[i] < g->n && g->series[cols[i]] != UINT32_MAX);
        fake.log[fake.n_log++] =
            (struct fake_sample){t_ms, fake.series[g->series[cols[i]]], values[i]};
    }
    return NX_OK;
}

nx_status storage_group_open_loose(struct storage *s, struct storage_group **out,
                                   struct nx_err *err)
{
    fake.loose_groups++;
    return storage_group_open(s, out, err);
}

nx_status storage_group_append_samples(struct storage_group *g, const struct storage_sample *v,
                                       size_t n, struct storage_appended *res, struct nx_err *err)
{
    for (size_t i = 0; i < n; i++)
        NX_ASSERT_ALWAYS(!storage_group_append(g, v[i].t_ms, &v[i].col, &v[i].value, 1, res, err));
    fake.batches++;
    if (res)
        *res = (struct storage_appended){.appended = (uint32_t)n};
    return NX_OK;
}

bool storage_exemplars_on(struct storage *s)
{
    (void)s;
    return fake.keeps_exemplars;
}

/* As a line, to compare; the caller's. */
static char *fake_exemplar_text(const struct storage_exemplar *e)
{
    struct buf b;
    char *text;

    buf_init(&b, 0);
    labels_print(&b, &e->labels);
    buf_printf(&b, " %.17g %lld %d", e->value, (long long)e->t_ms, e->has_ts);
    text = strdup(buf_cstr(&b));
    buf_done(&b);
    return text;
}

nx_status storage_exemplar_add_column(struct storage *s, struct storage_group *g, uint32_t col,
                                      const struct storage_exemplar *e, struct arena *a,
                                      enum storage_exemplar_result *got, struct nx_err *err)
{
    (void)s, (void)a, (void)err;
    NX_ASSERT_ALWAYS(fake.keeps_exemplars && col < g->n && g->series[col] != UINT32_MAX);
    FAKE_PAUSE();
    fake.exemplars = realloc(fake.exemplars, (fake.n_exemplars + 1) * sizeof *fake.exemplars);
    fake.exemplars[fake.n_exemplars++] =
        (struct fake_exemplar){fake.series[g->series[col]], fake_exemplar_text(e)};
    FAKE_RESUME();
    *got = fake.exemplar_result ? fake.exemplar_result : EXEMPLAR_STORED;
    return NX_OK;
}

static void fake_forget_exemplars(void)
{
    for (size_t i = 0; i < fake.n_exemplars; i++)
        free(fake.exemplars[i].text);
    free(fake.exemplars);
    fake.exemplars = NULL;
    fake.n_exemplars = 0;
}

static void fake_forget(void)
{
    fake_forget_exemplars();
    for (uint32_t i = 0; i < fake.n_series; i++)
        free(fake.series[i]);
    free(fake.series);
    free(fake.log);
    memset(&fake, 0, sizeof fake);
}
