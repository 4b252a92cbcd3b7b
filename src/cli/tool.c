#include "src/cli/tool.h"

/* tool.c - finds the command by its words and runs it. Messages are kingpin's, exit codes promtool's. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/cli/server.h"

// clang-format off
static const struct flag check_config_flags[] = {
    {"agent",                 FLAG_BOOL,   0, "false", NULL, 0, "Check config file for Prometheus in Agent mode."},
    {"ignore-unknown-fields", FLAG_BOOL,   0, "false", NULL, 0, "Ignore unknown fields in the rule groups read by the config files."},
    {"lint",                  FLAG_STRING, 0, "duplicate-rules", NULL, 0, "Linting checks to apply to the rules/scrape configs specified in the config. Available options are: all, duplicate-rules, none, too-long-scrape-interval."},
    {"lint-fatal",            FLAG_BOOL,   0, "false", NULL, 0, "Make lint errors exit with exit code 3."},
    {"query.lookback-delta",  FLAG_DURATION, 0, "5m",  NULL, 0, "The server's maximum query lookback duration."},
    {"syntax-only",           FLAG_BOOL,   0, "false", NULL, 0, "Only check the config file syntax, ignoring file and content validation referenced in the config."},
};
static const struct flag backfill_flags[] = {
    {"human-readable",        FLAG_BOOL,   0, "false", NULL, 'r', "Print human readable values."},
    {"label",                 FLAG_STRING, FLAG_REPEATED, "", NULL, 0, "Label to attach to metrics. Can be specified multiple times. Example --label=label_name=label_value"},
    {"max-block-duration",    FLAG_DURATION, FLAG_HIDDEN, "0s", NULL, 0, "Maximum duration created blocks may span. Anything less than 2h is ignored."},
    {"quiet",                 FLAG_BOOL,   0, "false", NULL, 'q', "Do not print created blocks."},
};
#define MIN_TIME {"min-time", FLAG_INT64, 0, "-9223372036854775808", NULL, 0, "Minimum timestamp to dump, in milliseconds since the Unix epoch."}
#define MAX_TIME {"max-time", FLAG_INT64, 0, "9223372036854775807", NULL, 0, "Maximum timestamp to dump, in milliseconds since the Unix epoch."}
#define MATCH    {"match", FLAG_STRING, FLAG_REPEATED, "{__name__=~'(?s:.*)'}", NULL, 0, "Series selector. Can be specified multiple times."}
#define SANDBOX  {"sandbox-dir-root", FLAG_STRING, 0, "", NULL, 0, "Accepted as promtool has it, and not needed: replaying the log changes no file, here or elsewhere."}
static const struct flag analyze_flags[] = {
    {"extended",              FLAG_BOOL,   0, "false", NULL, 0, "Run extended analysis."},
    {"limit",                 FLAG_INT,    0, "20", NULL, 0, "How many items to show in each list."},
    {"match",                 FLAG_STRING, 0, "", NULL, 0, "Series selector to analyze. Only 1 set of matchers is supported now."},
};
static const struct flag bench_flags[] = {
    {"metrics",               FLAG_INT,    0, "10000", NULL, 0, "Number of metrics to read."},
    {"out",                   FLAG_STRING, 0, "benchout", NULL, 0, "Set the output path."},
    {"scrapes",               FLAG_INT,    0, "3000", NULL, 0, "Number of scrapes to simulate."},
};
static const struct flag dump_flags[] = {
    {"format",                FLAG_ENUM,   0, "prom", "prom seriesjson", 0, "Output format of the dump (prom (default) or seriesjson)."},
    MATCH, MAX_TIME, MIN_TIME, SANDBOX,
};
static const struct flag dump_openmetrics_flags[] = { MATCH, MAX_TIME, MIN_TIME, SANDBOX };
static const struct flag export_flags[] = {
    {"gzip",                  FLAG_BOOL,   0, "false", NULL, 0, "Compress the output; implied by an output file that ends in .gz."},
    MATCH, MAX_TIME, MIN_TIME,
    {"output",                FLAG_STRING, 0, "", NULL, 'o', "Write to this file instead of standard output."},
    {"quiet",                 FLAG_BOOL,   0, "false", NULL, 'q', "Tell nothing of how far it is."},
    {"split",                 FLAG_DURATION, 0, "0s", NULL, 0, "Write a file for each span of this length, with the time it begins at in its name."},
};
static const struct flag list_flags[] = {
    {"human-readable",        FLAG_BOOL,   0, "false", NULL, 'r', "Print human readable values."},
};
static const struct flag verify_flags[] = {
    {"json",                  FLAG_BOOL,   0, "false", NULL, 0, "Print one JSON object instead of lines."},
};
static const struct flag import_flags[] = {
    {"dry-run",               FLAG_BOOL,   0, "false", NULL, 0, "Read everything and say what would be imported; write nothing."},
    {"human-readable",        FLAG_BOOL,   0, "false", NULL, 'r', "Print human readable values."},
    {"in-place",              FLAG_BOOL,   0, "false", NULL, 0, "Then make the folder Narthex's own, so that no path has to change. Prometheus's files move to the folder prometheus in it."},
    {"output",                FLAG_STRING, 0, "",      NULL, 'o', "Data folder to write to. Default: the folder narthex in Prometheus's."},
    {"quiet",                 FLAG_BOOL,   0, "false", NULL, 'q', "Print neither created blocks nor progress."},
};
static const struct tool_command commands[] = {
    {"check config", "<config-files>...", "Check if the config files are valid or not.",
     check_config_flags, NX_COUNT(check_config_flags), 1, 0, tool_check_config},
    {"check retention", "<rules-files>...", "Check if the files of retention rules are valid or not.",
     NULL, 0, 1, 0, tool_check_retention},
    {"test promql", "<script>...", "Run scripts in the PromQL test language.", NULL, 0, 1, 0, tool_test_promql},
    {"tsdb create-blocks-from openmetrics", "<input file> [<output directory>]",
     "Import samples from OpenMetrics input and produce TSDB blocks.",
     backfill_flags, NX_COUNT(backfill_flags), 1, 2, tool_create_openmetrics},
    {"tsdb bench write", "[<file>]", "Run a write performance benchmark.",
     bench_flags, NX_COUNT(bench_flags), 0, 1, tool_tsdb_bench_write},
    {"tsdb verify", "[<db path>]",
     "Check every checksum and every order rule of a data folder; tells each problem with its file, place and what "
     "it costs, exits with 1 if there are any, and changes nothing.",
     verify_flags, NX_COUNT(verify_flags), 0, 1, tool_tsdb_verify},
    {"tsdb import", "<prometheus data dir>",
     "Import a data folder of Prometheus: blocks and head. Prometheus must be stopped, or the folder a snapshot. "
     "The folder is only read, unless --in-place is given.",
     import_flags, NX_COUNT(import_flags), 1, 1, tool_tsdb_import},
    {"tsdb list", "[<db path>]", "List tsdb blocks.",
     list_flags, NX_COUNT(list_flags), 0, 1, tool_tsdb_list},
    {"tsdb analyze", "[<db path>] [<block id>]",
     "Analyze churn, label pair cardinality and compaction efficiency.",
     analyze_flags, NX_COUNT(analyze_flags), 0, 2, tool_tsdb_analyze},
    {"tsdb export", "[<db path>]",
     "Write samples as OpenMetrics, so that create-blocks-from openmetrics, here or with Prometheus, gives the same "
     "samples again. Stale markers, which OpenMetrics does not have, are left out.",
     export_flags, NX_COUNT(export_flags), 0, 1, tool_tsdb_export},
    {"tsdb dump", "[<db path>]", "Dump data (series+samples or optionally just series) from a TSDB.",
     dump_flags, NX_COUNT(dump_flags), 0, 1, tool_tsdb_dump},
    {"tsdb dump-openmetrics", "[<db path>]",
     "[Experimental] Dump samples from a TSDB into OpenMetrics text format, excluding native histograms and "
     "staleness markers, which are not representable in OpenMetrics.",
     dump_openmetrics_flags, NX_COUNT(dump_openmetrics_flags), 0, 1, tool_tsdb_dump_openmetrics},
};
// clang-format on

static size_t word_len(const char *s)
{
    return strcspn(s, " ");
}

bool tool_is_command(const char *word)
{
    if (strcmp(word, "help") == 0)
        return true;
    for (size_t i = 0; i < NX_COUNT(commands); i++)
        if (word_len(commands[i].words) == strlen(word) &&
            memcmp(commands[i].words, word, strlen(word)) == 0)
            return true;
    return false;
}

static int usage(void)
{
    fputs("usage: promtool [<flags>] <command> [<args> ...]\n\nTooling for the Prometheus "
          "monitoring system.\n\nCommands:\n",
          stdout);
    for (size_t i = 0; i < NX_COUNT(commands); i++)
        printf("%s %s%s\n    %s\n\n", commands[i].words, commands[i].n_flags ? "[<flags>] " : "",
               commands[i].args, commands[i].help);
    return 0;
}

/* Whether `arg` is a flag of the command whose value is the next argument. */
static bool wants_value(const struct tool_command *c, const char *arg)
{
    for (size_t i = 0; i < c->n_flags; i++) {
        const struct flag *row = &c->flags[i];
        if (row->type != FLAG_BOOL &&
            ((strncmp(arg, "--", 2) == 0 && strcmp(arg + 2, row->name) == 0) ||
             (row->letter && arg[0] == '-' && arg[1] == row->letter && !arg[2])))
            return true;
    }
    return false;
}

/* How many words of the line are this command's; *whole tells that all of them are there. Flags may stand
 * between them, as kingpin allows; what is left for the command goes to rest[*n_rest]. */
static int match_words(const struct tool_command *c, int argc, char **argv, bool *whole,
                       char **rest, int *n_rest)
{
    const char *words = c->words;
    int matched = 0, at = 0;

    *n_rest = 0;
    while (*words && at < argc) {
        size_t len = word_len(words);
        if (matched && argv[at][0] == '-' && argv[at][1]) {
            bool two = wants_value(c, argv[at]) && at + 1 < argc;
            rest[(*n_rest)++] = argv[at++];
            if (two)
                rest[(*n_rest)++] = argv[at++];
            continue;
        }
        if (strlen(argv[at]) != len || memcmp(argv[at], words, len) != 0)
            break;
        at++;
        matched++;
        words += len + (words[len] == ' ');
    }
    *whole = *words == 0;
    for (; *whole && at < argc; at++)
        rest[(*n_rest)++] = argv[at];
    return matched;
}

static int fail(const char *text)
{
    fprintf(stderr, "promtool: error: %s, try --help\n", text);
    return 1;
}

static int run_command(const struct tool_command *c, int argc, char **argv)
{
    struct flags f;
    struct nx_err err = {0};
    bool bad_value;
    char text[256];
    int code;

    if (flags_parse(&f, c->flags, c->n_flags, argc, argv, &bad_value, &err)) {
        code = fail(err.text);
    } else if (f.help) {
        struct buf b, head;
        buf_init(&b, 0);
        buf_init(&head, 0);
        buf_printf(&head, "usage: promtool %s [<flags>] %s\n\n%s", c->words, c->args, c->help);
        flags_usage(&b, buf_cstr(&head), c->flags, c->n_flags, false);
        fputs(buf_cstr(&b), stdout);
        buf_done(&b);
        buf_done(&head);
        code = 0;
    } else if (f.n_args < c->min_args) {
        size_t n = strcspn(c->args + 1, ">");
        snprintf(text, sizeof text, "required argument '%.*s' not provided", (int)n, c->args + 1);
        code = fail(text);
    } else if (c->max_args && f.n_args > c->max_args) {
        snprintf(text, sizeof text, "unexpected %s", f.args[c->max_args]);
        code = fail(text);
    } else {
        code = c->run(&f);
    }
    flags_done(&f);
    return code;
}

/* No command fits: say what was expected where, as kingpin does. */
static int unknown(int argc, char **argv, int matched)
{
    char text[256];

    if (matched >= argc) {
        size_t n = 0;
        for (int i = 0; i < matched && n < sizeof text - 64; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s",
                                  i ? " " : "must select a subcommand of '", argv[i]);
        snprintf(text + n, sizeof text - n, "'");
    } else {
        snprintf(text, sizeof text, "expected command but got \"%.100s\"", argv[matched]);
    }
    return fail(text);
}

int tool_main(int argc, char **argv)
{
    int best = 0, code = -1;
    char **rest;

    if (!argc || strcmp(argv[0], "help") == 0 || strcmp(argv[0], "--help") == 0 ||
        strcmp(argv[0], "-h") == 0)
        return usage();
    if (strcmp(argv[0], "--version") == 0) {
        cli_print_version("promtool");
        return 0;
    }
    rest = calloc((size_t)argc, sizeof *rest);
    if (!rest)
        return fail("out of memory");
    for (size_t i = 0; i < NX_COUNT(commands) && code < 0; i++) {
        bool whole;
        int n_rest, n = match_words(&commands[i], argc, argv, &whole, rest, &n_rest);
        if (whole)
            code = run_command(&commands[i], n_rest, rest);
        best = n > best ? n : best;
    }
    free(rest);
    return code < 0 ? unknown(argc, argv, best) : code;
}
