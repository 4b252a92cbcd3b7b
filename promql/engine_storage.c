/* engine_storage.c - queries over the store. Apart, so that who brings a source of their own need not
 * link the store. */
#include "promql/promql.h"

static nx_status open_storage(void *ctx, int64_t mint, int64_t maxt, struct querier **out,
                              struct nx_err *err)
{
    return storage_querier(ctx, mint, maxt, out, err);
}

struct pql_source pql_source_storage(struct storage *s)
{
    return (struct pql_source){open_storage, s};
}
