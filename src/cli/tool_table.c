#include "src/cli/tool.h"

/* tool_table.c - the commands, their flags and their help, as promtool has them and in its order.
 *
 * RULES   T1  Flags stand in the order in which the usage shows them.
 *         T2  What promtool does not have says so in its help. */

// clang-format off
#define HTTP_CONFIG {"http.config.file", FLAG_STRING, FLAG_FILE, NULL, "<filename>", 0, "HTTP client configuration file, see details at https://prometheus.io/docs/prometheus/latest/configuration/promtool"}
#define UNKNOWN_FIELDS "This is useful when you want to extend rule files with custom metadata. Ensure that those fields are removed before loading them into the Prometheus server as it performs strict checks by default."

static const struct flag global_flags[] = {
    {"experimental",          FLAG_BOOL,   0, "false", NULL, 0, "Enable experimental commands."},
    {"enable-feature",        FLAG_STRING, FLAG_REPEATED, "", "", 0, "Comma separated feature names to enable. Valid options: promql-experimental-functions, promql-delayed-name-removal, promql-extended-range-selectors, promql-binop-fill-modifiers. See https://prometheus.io/docs/prometheus/latest/feature_flags/ for more details"},
};
static const struct flag check_flags[] = {
    {"query.lookback-delta",  FLAG_DURATION, 0, "5m",  NULL, 0, "The server's maximum query lookback duration."},
};
static const struct flag check_discovery_flags[] = {
    {"timeout",               FLAG_GO_DURATION, 0, "30s", NULL, 0, "The time to wait for discovery results."},
};
static const struct flag check_config_flags[] = {
    {"syntax-only",           FLAG_BOOL,   0, "false", NULL, 0, "Only check the config file syntax, ignoring file and content validation referenced in the config"},
    {"lint",                  FLAG_STRING, 0, "duplicate-rules", NULL, 0, "Linting checks to apply to the rules/scrape configs specified in the config. Available options are: all, duplicate-rules, none, too-long-scrape-interval. Use --lint=none to disable linting"},
    {"lint-fatal",            FLAG_BOOL,   0, "false", NULL, 0, "Make lint errors exit with exit code 3."},
    {"ignore-unknown-fields", FLAG_BOOL,   0, "false", NULL, 0, "Ignore unknown fields in the rule groups read by the config files. " UNKNOWN_FIELDS},
    {"agent",                 FLAG_BOOL,   0, "false", NULL, 0, "Check config file for Prometheus in Agent mode."},
};
static const struct flag check_server_flags[] = {
    HTTP_CONFIG,
    {"url",                   FLAG_STRING, FLAG_URL, "http://localhost:9090", "http://localhost:9090", 0, "The URL for the Prometheus server."},
};
static const struct flag check_rules_flags[] = {
    {"lint",                  FLAG_STRING, 0, "duplicate-rules", NULL, 0, "Linting checks to apply. Available options are: all, duplicate-rules, none. Use --lint=none to disable linting"},
    {"lint-fatal",            FLAG_BOOL,   0, "false", NULL, 0, "Make lint errors exit with exit code 3."},
    {"ignore-unknown-fields", FLAG_BOOL,   0, "false", NULL, 0, "Ignore unknown fields in the rule files. " UNKNOWN_FIELDS},
};
static const struct flag test_flags[] = {
    {"junit",                 FLAG_STRING, 0, NULL, NULL, 0, "File path to store JUnit XML test results."},
};
static const struct flag test_rules_flags[] = {
    {"run",                   FLAG_STRING, FLAG_REPEATED, NULL, NULL, 0, "If set, will only run test groups whose names match the regular expression. Can be specified multiple times."},
    {"debug",                 FLAG_BOOL,   0, "false", NULL, 0, "Enable unit test debugging."},
    {"diff",                  FLAG_BOOL,   0, "false", NULL, 0, "[Experimental] Print colored differential output between expected & received output."},
    {"ignore-unknown-fields", FLAG_BOOL,   0, "false", NULL, 0, "Ignore unknown fields in the test files. " UNKNOWN_FIELDS},
};
static const struct flag check_metrics_flags[] = {
    {"extended",              FLAG_BOOL,   0, "false", NULL, 0, "Print extended information related to the cardinality of the metrics."},
    {"lint",                  FLAG_STRING, 0, "all", NULL, 0, "Linting checks to apply for metrics. Available options are: all, none. Use --lint=none to disable metrics linting."},
};
static const struct flag query_flags[] = {
    {"format",                FLAG_ENUM,   0, "promql", "promql json", 'o', "Output format of the query."},
    HTTP_CONFIG,
};
#define HEADER {"header", FLAG_STRING, FLAG_REPEATED | FLAG_PAIRS, NULL, NULL, 0, "Extra headers to send to server."}
static const struct flag query_instant_flags[] = {
    {"time",                  FLAG_STRING, 0, NULL, NULL, 0, "Query evaluation time (RFC3339 or Unix timestamp)."},
    HEADER,
};
static const struct flag query_range_flags[] = {
    HEADER,
    {"start",                 FLAG_STRING, 0, NULL, NULL, 0, "Query range start time (RFC3339 or Unix timestamp)."},
    {"end",                   FLAG_STRING, 0, NULL, NULL, 0, "Query range end time (RFC3339 or Unix timestamp)."},
    {"step",                  FLAG_GO_DURATION, 0, NULL, NULL, 0, "Query step size (duration)."},
};
#define SELECTOR "Series selector. Can be specified multiple times."
static const struct flag query_series_flags[] = {
    {"match",                 FLAG_STRING, FLAG_REPEATED | FLAG_REQUIRED, NULL, NULL, 0, SELECTOR},
    {"start",                 FLAG_STRING, 0, NULL, NULL, 0, "Start time (RFC3339 or Unix timestamp)."},
    {"end",                   FLAG_STRING, 0, NULL, NULL, 0, "End time (RFC3339 or Unix timestamp)."},
};
static const struct flag query_labels_flags[] = {
    {"start",                 FLAG_STRING, 0, NULL, NULL, 0, "Start time (RFC3339 or Unix timestamp)."},
    {"end",                   FLAG_STRING, 0, NULL, NULL, 0, "End time (RFC3339 or Unix timestamp)."},
    {"match",                 FLAG_STRING, FLAG_REPEATED, NULL, NULL, 0, SELECTOR},
};
static const struct flag query_analyze_flags[] = {
    {"server",                FLAG_STRING, FLAG_REQUIRED | FLAG_URL, NULL, NULL, 0, "Prometheus server to query."},
    {"type",                  FLAG_STRING, FLAG_REQUIRED, NULL, NULL, 0, "Type of metric: histogram."},
    {"duration",              FLAG_GO_DURATION, 0, "1h", NULL, 0, "Time frame to analyze."},
    {"time",                  FLAG_STRING, 0, NULL, NULL, 0, "Query time (RFC3339 or Unix timestamp), defaults to now."},
    {"match",                 FLAG_STRING, FLAG_REPEATED | FLAG_REQUIRED, NULL, NULL, 0, SELECTOR},
};
static const struct flag promql_set_flags[] = {
    {"type",                  FLAG_ENUM,   0, "=", "= != =~ !~", 't', "Type of the label matcher to set."},
};
static const struct flag backfill_flags[] = {
    {"human-readable",        FLAG_BOOL,   0, "false", NULL, 'r', "Print human readable values."},
    {"quiet",                 FLAG_BOOL,   0, "false", NULL, 'q', "Do not print created blocks."},
    {"max-block-duration",    FLAG_DURATION, FLAG_HIDDEN, "0s", NULL, 0, "Maximum duration created blocks may span. Anything less than 2h is ignored."},
};
static const struct flag openmetrics_flags[] = {
    {"label",                 FLAG_STRING, FLAG_REPEATED, NULL, NULL, 0, "Label to attach to metrics. Can be specified multiple times. Example --label=label_name=label_value"},
};
static const struct flag backfill_rules_flags[] = {
    HTTP_CONFIG,
    {"url",                   FLAG_STRING, FLAG_URL, "http://localhost:9090", "http://localhost:9090", 0, "The URL for the Prometheus API with the data where the rule will be backfilled from."},
    {"start",                 FLAG_STRING, FLAG_REQUIRED, NULL, NULL, 0, "The time to start backfilling the new rule from. Must be a RFC3339 formatted date or Unix timestamp. Required."},
    {"end",                   FLAG_STRING, 0, NULL, NULL, 0, "If an end time is provided, all recording rules in the rule files provided will be backfilled to the end time. Default will backfill up to 3 hours ago. Must be a RFC3339 formatted date or Unix timestamp."},
    {"output-dir",            FLAG_STRING, 0, "data/", NULL, 0, "Output directory for generated blocks."},
    {"eval-interval",         FLAG_GO_DURATION, 0, "60s", NULL, 0, "How frequently to evaluate rules when backfilling if a value is not set in the recording rule files."},
};
#define MIN_TIME {"min-time", FLAG_INT64, 0, "-9223372036854775808", NULL, 0, "Minimum timestamp to dump, in milliseconds since the Unix epoch."}
#define MAX_TIME {"max-time", FLAG_INT64, 0, "9223372036854775807", NULL, 0, "Maximum timestamp to dump, in milliseconds since the Unix epoch."}
#define MATCH    {"match", FLAG_STRING, FLAG_REPEATED, "{__name__=~'(?s:.*)'}", "{__name__=~'(?s:.*)'}", 0, SELECTOR}
#define SANDBOX  {"sandbox-dir-root", FLAG_STRING, 0, NULL, NULL, 0, "Accepted as promtool has it, and not needed: replaying the log changes no file, here or elsewhere."}
static const struct flag analyze_flags[] = {
    {"limit",                 FLAG_INT,    0, "20", NULL, 0, "How many items to show in each list."},
    {"extended",              FLAG_BOOL,   0, "false", NULL, 0, "Run extended analysis."},
    {"match",                 FLAG_STRING, 0, NULL, NULL, 0, "Series selector to analyze. Only 1 set of matchers is supported now."},
};
static const struct flag bench_flags[] = {
    {"out",                   FLAG_STRING, 0, "benchout", NULL, 0, "Set the output path."},
    {"metrics",               FLAG_INT,    0, "10000", NULL, 0, "Number of metrics to read."},
    {"scrapes",               FLAG_INT,    0, "3000", NULL, 0, "Number of scrapes to simulate."},
};
static const struct flag dump_flags[] = {
    SANDBOX, MIN_TIME, MAX_TIME, MATCH,
    {"format",                FLAG_ENUM,   0, "prom", "prom seriesjson", 0, "Output format of the dump (prom (default) or seriesjson)."},
};
static const struct flag dump_openmetrics_flags[] = { SANDBOX, MIN_TIME, MAX_TIME, MATCH };
static const struct flag export_flags[] = {
    {"gzip",                  FLAG_BOOL,   0, "false", NULL, 0, "Compress the output; implied by an output file that ends in .gz."},
    MIN_TIME, MAX_TIME, MATCH,
    {"output",                FLAG_STRING, 0, NULL, NULL, 'o', "Write to this file instead of standard output."},
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
    {"output",                FLAG_STRING, 0, NULL,    NULL, 'o', "Data folder to write to. Default: the folder narthex in Prometheus's."},
    {"quiet",                 FLAG_BOOL,   0, "false", NULL, 'q', "Print neither created blocks nor progress."},
};

#define FLAGS(table) .flags = (table), .n_flags = NX_COUNT(table)
const struct tool_group tool_groups[] = {
    {"", "Tooling for the Prometheus monitoring system.", FLAGS(global_flags)},
    {"check", "Check the resources for validity.", FLAGS(check_flags)},
    {"query", "Run query against a Prometheus server.", FLAGS(query_flags)},
    {"debug", "Fetch debug information.", NULL, 0},
    {"test", "Unit testing.", FLAGS(test_flags)},
    {"tsdb", "Run tsdb commands.", NULL, 0},
    {"tsdb bench", "Run benchmarks.", NULL, 0},
    {"tsdb create-blocks-from", "[Experimental] Import samples from input and produce TSDB blocks. Please refer to the storage docs for more details.", FLAGS(backfill_flags)},
    {"promql", "PromQL formatting and editing. Requires the --experimental flag.", NULL, 0},
    {"promql label-matchers", "Edit label matchers contained within an existing PromQL query.", NULL, 0},
};
const size_t tool_n_groups = NX_COUNT(tool_groups);

#define DB_PATH "Database path (default is data/)."
#define SERVER  "Prometheus server to query."
const struct tool_command tool_commands[] = {
    {"check service-discovery", "<config-file> <job>",
     "Perform service discovery for the given job name and report the results, including relabeling.",
     "The prometheus config file.\nThe job to run service discovery for.", FLAGS(check_discovery_flags),
     2, 2, 1, 0, tool_check_discovery},
    {"check config", "<config-files>...", "Check if the config files are valid or not.", "The config files to check.",
     FLAGS(check_config_flags), 1, 0, TOOL_ALL_FILES, 0, tool_check_config},
    {"check web-config", "<web-config-files>...", "Check if the web config files are valid or not.", "The config files to check.",
     NULL, 0, 1, 0, TOOL_ALL_FILES, 0, tool_check_web},
    {"check healthy", "", "Check if the Prometheus server is healthy.", "", FLAGS(check_server_flags), 0, 0, 0, 0, tool_check_healthy},
    {"check ready", "", "Check if the Prometheus server is ready.", "", FLAGS(check_server_flags), 0, 0, 0, 0, tool_check_ready},
    {"check rules", "[<rule-files>...]", "Check if the rule files are valid or not.",
     "The rule files to check, default is read from standard input.", FLAGS(check_rules_flags), 0, 0, TOOL_ALL_FILES, 0, tool_check_rules},
    {"check metrics", "",
     "Pass Prometheus metrics over stdin to lint them for consistency and correctness, and optionally perform cardinality analysis.\n\n"
     "examples:\n\n"
     "$ cat metrics.prom | promtool check metrics\n\n"
     "$ curl -s http://localhost:9090/metrics | promtool check metrics --extended\n\n"
     "$ curl -s http://localhost:9100/metrics | promtool check metrics --extended --lint=none",
     "", FLAGS(check_metrics_flags), 0, 0, 0, 0, tool_check_metrics},
    {"check retention", "<rules-files>...", "Check if the files of retention rules are valid or not. Not in promtool.", "The files to check.",
     NULL, 0, 1, 0, 0, 0, tool_check_retention},
    {"check notify", "<notify-files>...", "Check if the files of direct notification are valid or not. Not in promtool.", "The files to check.",
     NULL, 0, 1, 0, 0, 0, tool_check_notify},
    {"query instant", "<server> <expr>", "Run instant query.", SERVER "\nPromQL query expression.",
     FLAGS(query_instant_flags), 2, 2, 0, 1, tool_query_instant},
    {"query range", "<server> <expr>", "Run range query.", SERVER "\nPromQL query expression.",
     FLAGS(query_range_flags), 2, 2, 0, 1, tool_query_range},
    {"query series", "<server>", "Run series query.", SERVER, FLAGS(query_series_flags), 1, 1, 0, 1, tool_query_series},
    {"query labels", "<server> <name>", "Run labels query.", SERVER "\nLabel name to provide label values for.",
     FLAGS(query_labels_flags), 2, 2, 0, 1, tool_query_labels},
    {"query analyze", "", "Run queries against your Prometheus to analyze the usage pattern of certain metrics.", "",
     FLAGS(query_analyze_flags), 0, 0, 0, 0, tool_query_analyze},
    {"debug pprof", "<server>", "Fetch profiling debug information.", "Prometheus server to get pprof files from.",
     NULL, 0, 1, 1, 0, 0, tool_debug_pprof},
    {"debug metrics", "<server>", "Fetch metrics debug information.", "Prometheus server to get metrics from.",
     NULL, 0, 1, 1, 0, 0, tool_debug_metrics},
    {"debug all", "<server>", "Fetch all debug information.", "Prometheus server to get all debug information from.",
     NULL, 0, 1, 1, 0, 0, tool_debug_all},
    {"test rules", "<test-rule-file>...", "Unit tests for rules.", "The unit test file.", FLAGS(test_rules_flags),
     1, 0, TOOL_ALL_FILES, 0, tool_test_rules},
    {"test promql", "<script>...", "Run scripts in the PromQL test language. Not in promtool.", "The scripts to run.",
     NULL, 0, 1, 0, 0, 0, tool_test_promql},
    {"tsdb bench write", "[<file>]", "Run a write performance benchmark.", "Input file with samples data.",
     FLAGS(bench_flags), 0, 1, 0, 0, tool_tsdb_bench_write},
    {"tsdb analyze", "[<db path>] [<block id>]", "Analyze churn, label pair cardinality and compaction efficiency.",
     DB_PATH "\nBlock to analyze (default is the last block).", FLAGS(analyze_flags), 0, 2, 0, 0, tool_tsdb_analyze},
    {"tsdb list", "[<db path>]", "List tsdb blocks.", DB_PATH, FLAGS(list_flags), 0, 1, 0, 0, tool_tsdb_list},
    {"tsdb dump", "[<db path>]", "Dump data (series+samples or optionally just series) from a TSDB.", DB_PATH,
     FLAGS(dump_flags), 0, 1, 0, 0, tool_tsdb_dump},
    {"tsdb dump-openmetrics", "[<db path>]",
     "[Experimental] Dump samples from a TSDB into OpenMetrics text format, excluding native histograms and "
     "staleness markers, which are not representable in OpenMetrics.",
     DB_PATH, FLAGS(dump_openmetrics_flags), 0, 1, 0, 0, tool_tsdb_dump_openmetrics},
    {"tsdb create-blocks-from openmetrics", "<input file> [<output directory>]",
     "Import samples from OpenMetrics input and produce TSDB blocks. Please refer to the storage docs for more details.",
     "OpenMetrics file to read samples from.\nOutput directory for generated blocks.", FLAGS(openmetrics_flags), 1, 2, 0, 0, tool_create_openmetrics},
    {"tsdb create-blocks-from rules", "<rule-files>...", "Create blocks of data for new recording rules.",
     "A list of one or more files containing recording rules to be backfilled. All recording rules listed in the files will be backfilled. Alerting rules are not evaluated.",
     FLAGS(backfill_rules_flags), 1, 0, TOOL_ALL_FILES, 0, tool_create_rules},
    {"tsdb export", "[<db path>]",
     "Write samples as OpenMetrics, so that create-blocks-from openmetrics, here or with Prometheus, gives the same "
     "samples again. Stale markers, which OpenMetrics does not have, are left out. Not in promtool.",
     DB_PATH, FLAGS(export_flags), 0, 1, 0, 0, tool_tsdb_export},
    {"tsdb import", "<prometheus data dir>",
     "Import a data folder of Prometheus: blocks and head. Prometheus must be stopped, or the folder a snapshot. "
     "The folder is only read, unless --in-place is given. Not in promtool.",
     "The folder to read.", FLAGS(import_flags), 1, 1, 0, 0, tool_tsdb_import},
    {"tsdb verify", "[<db path>]",
     "Check every checksum and every order rule of a data folder; tells each problem with its file, place and what "
     "it costs, exits with 1 if there are any, and changes nothing. Not in promtool.",
     DB_PATH, FLAGS(verify_flags), 0, 1, 0, 0, tool_tsdb_verify},
    {"promql format", "<query>", "Format PromQL query to pretty printed form.", "PromQL query.",
     NULL, 0, 1, 1, 0, 0, tool_promql_format},
    {"promql label-matchers set", "<query> <name> <value>", "Set a label matcher in the query.",
     "PromQL query.\nName of the label matcher to set.\nValue of the label matcher to set.", FLAGS(promql_set_flags), 3, 3, 0, 0, tool_promql_set},
    {"promql label-matchers delete", "<query> <name>", "Delete a label from the query.",
     "PromQL query.\nName of the label to delete.", NULL, 0, 2, 2, 0, 0, tool_promql_delete},
};
const size_t tool_n_commands = NX_COUNT(tool_commands);
// clang-format on
