#include "src/cli/tool.h"

/* tsdb_list.c - `tsdb list`. */

#include "src/cli/tsdb.h"

static void add(void *ctx, const struct storage_block_info *b)
{
    tsdb_table_add(ctx, b);
}

int tool_tsdb_list(const struct flags *f)
{
    const char *dir = f->n_args ? f->args[0] : "data/";
    struct tsdb_table t = {.human = flags_bool(f, "human-readable")};
    struct nx_err err = {0};
    nx_status st = storage_list_blocks(fs_real(), dir, add, &t, &err);

    if (st == NX_NOTFOUND)
        st = nx_fail(&err, st, "opening the db dir: stat %s: no such file or directory", dir);
    if (!st && t.nomem)
        st = nx_fail(&err, NX_NOMEM, "out of memory");
    if (st)
        fprintf(stderr, "%s\n", err.text);
    else
        tsdb_table_print(&t, true);
    tsdb_table_done(&t);
    return st ? 1 : 0;
}
