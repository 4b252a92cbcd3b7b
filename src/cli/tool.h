/* tool.h - promtool's commands. Private to src/cli. */
#pragma once

#include "promql/promql.h"
#include "src/cli/flags.h"

/* argv without the program's name. Returns promtool's exit codes: 0, 1, and 3 for lint. */
int tool_main(int argc, char **argv);

#define TOOL_ALL_FILES SIZE_MAX

/* One command: the rest of the line after its words. */
struct tool_command {
    const char *words; /* "tsdb create-blocks-from openmetrics" */
    const char *args;  /* for the usage: "<input file> [<output directory>]" */
    const char *help;
    const char *args_help; /* a line for each of args */
    const struct flag *flags;
    size_t n_flags;
    size_t min_args, max_args; /* max 0: any number, unless args is "" */
    size_t n_files;            /* so many of the first arguments are files that are there */
    size_t url_arg;            /* that argument, counted from 1, is a URL; 0: none */
    int (*run)(const struct flags *f);
};

/* What commands share that begin with the same words; "" is what all share. */
struct tool_group {
    const char *words, *help;
    const struct flag *flags;
    size_t n_flags;
};

extern const struct tool_command tool_commands[];
extern const size_t tool_n_commands;
extern const struct tool_group tool_groups[];
extern const size_t tool_n_groups;

/* Whether a command belongs to a group; to `check config` belong only itself and what is below it. */
bool tool_in_group(const char *words, const char *group);
/* All flags of a command, those of its groups first. Free it; NULL out of memory. */
struct flag *tool_all_flags(const struct tool_command *c, size_t *n);
/* --enable-feature */
struct pql_features tool_features(const struct flags *f);

/* All that a descriptor gives. */
NX_NODISCARD nx_status tool_read_all(int fd, struct buf *to, struct nx_err *err);

/* Usage, as kingpin lays it out: of everything (""), of a group, of a command. */
void tool_usage(struct buf *b, const char *words);

int tool_check_config(const struct flags *f);  /* tool_check.c */
int tool_check_healthy(const struct flags *f); /* check_server.c */
int tool_check_ready(const struct flags *f);
int tool_check_metrics(const struct flags *f);   /* check_metrics.c */
int tool_check_retention(const struct flags *f); /* keep.c */
int tool_check_notify(const struct flags *f);    /* check_notify.c */
int tool_check_rules(const struct flags *f);     /* check_rules.c */
int tool_check_discovery(const struct flags *f); /* check_discovery.c */
int tool_check_web(const struct flags *f);       /* check_web.c */
int tool_debug_all(const struct flags *f);       /* debug.c */
int tool_debug_metrics(const struct flags *f);
int tool_debug_pprof(const struct flags *f);
int tool_promql_delete(const struct flags *f); /* promql_edit.c */
int tool_promql_format(const struct flags *f);
int tool_promql_set(const struct flags *f);
int tool_query_analyze(const struct flags *f); /* query_analyze.c */
int tool_query_instant(const struct flags *f); /* query.c */
int tool_query_labels(const struct flags *f);
int tool_query_range(const struct flags *f);
int tool_query_series(const struct flags *f);
int tool_create_rules(const struct flags *f);       /* backfill_rules.c */
int tool_create_openmetrics(const struct flags *f); /* tool_backfill.c */
int tool_tsdb_import(const struct flags *f);        /* tsdb_import.c */
int tool_test_rules(const struct flags *f);         /* test_rules.c */
int tool_test_promql(const struct flags *f);        /* tool_test.c */
int tool_tsdb_analyze(const struct flags *f);       /* tsdb_analyze.c */
int tool_tsdb_bench_write(const struct flags *f);   /* tsdb_bench.c */
int tool_tsdb_dump(const struct flags *f);          /* tsdb_dump.c */
int tool_tsdb_dump_openmetrics(const struct flags *f);
int tool_tsdb_export(const struct flags *f); /* tsdb_export.c */
int tool_tsdb_verify(const struct flags *f); /* tsdb_verify.c */
int tool_tsdb_list(const struct flags *f);   /* tsdb_list.c */
