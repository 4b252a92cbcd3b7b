/* tsdb.h - what the commands of `tsdb` share. Private to src/cli. Threads: the main one alone. */
#pragma once

#include <stdio.h>

#include "src/base/buf.h"
#include "src/cli/flags.h"
#include "storage/storage.h"

/* ---- tsdb_table.c: the table of blocks --------------------------------------------------------- */

/* Rows are printed together, each column as wide as its widest cell; `header` comes before them. */
struct tsdb_table {
    bool human;
    char (*rows)[8][40];
    size_t n;
    bool nomem;
    bool headed; /* tsdb_table_written() printed the header */
};
void tsdb_table_add(struct tsdb_table *t, const struct storage_block_info *b);
void tsdb_table_print(struct tsdb_table *t, bool header); /* and empties it */
/* Prints a block that was written by itself, the first one together with the header, as promtool does. */
void tsdb_table_written(struct tsdb_table *t, const struct storage_import_block *b);
void tsdb_table_done(struct tsdb_table *t);
/* Go's Duration.String(): 1h0m0s, 41m0s, 2.5s, 1ms, 2.5µs. `size` is 40 at least. */
void tsdb_go_duration(char *to, size_t size, int64_t ns);
static inline int64_t tsdb_ms_to_ns(int64_t ms)
{
    return (int64_t)((uint64_t)ms * 1000000u); /* wraps after centuries, as Go's does */
}

/* ---- tsdb_walk.c: a folder read from end to end ------------------------------------------------ */

/* A folder opened for reading, with what --match, --min-time and --max-time ask for. */
struct tsdb_walk {
    struct storage *storage;
    struct querier *querier;
    int64_t mint, maxt; /* narrowed to what is there; mint > maxt: nothing is */
    struct matcher_set *sets;
    size_t n_sets;
    struct arena *arena; /* the sets */
};
/* The folder is the flags' first argument, or data/; `err` is worded as promtool's message. */
NX_NODISCARD nx_status tsdb_walk_open(struct tsdb_walk *w, const struct flags *f,
                                      struct nx_err *err);
void tsdb_walk_close(struct tsdb_walk *w); /* accepts all zero */
/* The series that any set selects in [mint, maxt], each once, in label order. `also` (may be NULL) must
 * match, too. */
NX_NODISCARD nx_status tsdb_walk_select(struct tsdb_walk *w, const struct matcher *also,
                                        int64_t mint, int64_t maxt, struct arena *a,
                                        struct series_list *out, struct nx_err *err);
/* Shows the samples of one series in [mint, maxt] in time order, a run at a time, so that memory does not
 * grow with their number. */
typedef nx_status tsdb_run_fn(void *ctx, const struct series *s, const struct column *run,
                              struct nx_err *err);
NX_NODISCARD nx_status tsdb_walk_read(struct tsdb_walk *w, const struct series *s, int64_t mint,
                                      int64_t maxt, struct column *column, tsdb_run_fn *show,
                                      void *ctx, struct nx_err *err);
/* Data was left out because it is damaged: says so on standard error. */
bool tsdb_walk_is_damaged(const struct tsdb_walk *w);

/* ---- tsdb_export.c ------------------------------------------------------------------------------- */

/* A time as OpenMetrics has it, in seconds; returns the length. */
size_t tsdb_om_time(char to[40], int64_t t_ms);

/* ---- tsdb_out.c: text to a stream, with every failure seen -------------------------------------- */

struct tsdb_out;
/* path NULL: standard output. `gzip`: compressed. */
NX_NODISCARD nx_status tsdb_out_open(struct tsdb_out **out, const char *path, bool gzip,
                                     struct nx_err *err);
/* The buffer to append to; call tsdb_out_spill() now and then. */
struct buf *tsdb_out_text(struct tsdb_out *o);
NX_NODISCARD nx_status tsdb_out_spill(struct tsdb_out *o, struct nx_err *err);
/* Writes the rest, syncs a file, closes. Without it, tsdb_out_close() leaves what was written. */
NX_NODISCARD nx_status tsdb_out_finish(struct tsdb_out *o, struct nx_err *err);
void tsdb_out_close(struct tsdb_out *o); /* accepts NULL */

/* The longest of Prometheus's spans of blocks that is not above `max_ms`: 2 h, 6 h, 18 h, ... */
int64_t tsdb_block_span(int64_t max_ms);
