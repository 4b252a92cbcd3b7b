/* tool.h - promtool's commands. Private to src/cli. */
#pragma once

#include "src/cli/flags.h"

/* Whether a first argument names a command, so that `narthex WORD ...` is the tool. */
bool tool_is_command(const char *word);
/* argv without the program's name. Returns promtool's exit codes: 0, 1, and 3 for lint. */
int tool_main(int argc, char **argv);

/* One command: the rest of the line after its words. */
struct tool_command {
    const char *words; /* "tsdb create-blocks-from openmetrics" */
    const char *args;  /* for the usage: "<input file> [<output directory>]" */
    const char *help;
    const struct flag *flags;
    size_t n_flags;
    size_t min_args, max_args; /* max 0: any number */
    int (*run)(const struct flags *f);
};

int tool_check_config(const struct flags *f);       /* tool_check.c */
int tool_check_retention(const struct flags *f);    /* keep.c */
int tool_create_openmetrics(const struct flags *f); /* tool_backfill.c */
int tool_tsdb_import(const struct flags *f);        /* tsdb_import.c */
int tool_test_promql(const struct flags *f);        /* tool_test.c */
int tool_tsdb_analyze(const struct flags *f);       /* tsdb_analyze.c */
int tool_tsdb_bench_write(const struct flags *f);   /* tsdb_bench.c */
int tool_tsdb_dump(const struct flags *f);          /* tsdb_dump.c */
int tool_tsdb_dump_openmetrics(const struct flags *f);
int tool_tsdb_export(const struct flags *f); /* tsdb_export.c */
int tool_tsdb_verify(const struct flags *f); /* tsdb_verify.c */
int tool_tsdb_list(const struct flags *f);   /* tsdb_list.c */
