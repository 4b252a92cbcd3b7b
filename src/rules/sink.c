#include "src/rules/rules.h"

/* sink.c - results go to a storage: a writer is a group of series there. */

static nx_status sink_open(void *ctx, void **writer, struct nx_err *err)
{
    struct storage_group *g = NULL;
    nx_status st = storage_group_open(ctx, &g, err);

    if (!st)
        *writer = g;
    return st;
}

static nx_status sink_column(void *writer, const struct labels *ls, uint32_t *col,
                             struct nx_err *err)
{
    return storage_group_column(writer, ls, col, NULL, err);
}

static nx_status sink_append(void *writer, int64_t t_ms, const uint32_t *cols, const double *values,
                             size_t n, struct storage_appended *refused, struct nx_err *err)
{
    return storage_group_append(writer, t_ms, cols, values, n, refused, err);
}

static void sink_release(void *writer, uint32_t col)
{
    storage_group_release(writer, col);
}

static void sink_close(void *writer)
{
    storage_group_close(writer);
}

struct rule_sink rule_sink_storage(struct storage *s)
{
    return (struct rule_sink){s, sink_open, sink_column, sink_append, sink_release, sink_close};
}
