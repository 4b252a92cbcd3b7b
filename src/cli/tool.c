#include "src/cli/tool.h"

/* tool.c - finds the command by its words and runs it. Messages are kingpin's, exit codes promtool's. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/cli/server.h"
#include "src/config/config.h"

static size_t word_len(const char *s)
{
    return strcspn(s, " ");
}

bool tool_in_group(const char *words, const char *group)
{
    size_t n = strlen(group);

    return n == 0 || (strncmp(words, group, n) == 0 && (words[n] == ' ' || !words[n]));
}

struct flag *tool_all_flags(const struct tool_command *c, size_t *n)
{
    size_t room = c->n_flags + 1;
    struct flag *all;

    for (size_t i = 0; i < tool_n_groups; i++)
        room += tool_groups[i].n_flags;
    all = calloc(room, sizeof *all);
    *n = 0;
    for (size_t i = 0; all && i < tool_n_groups; i++) {
        if (!tool_in_group(c->words, tool_groups[i].words))
            continue;
        for (size_t k = 0; k < tool_groups[i].n_flags; k++)
            all[(*n)++] = tool_groups[i].flags[k];
    }
    for (size_t k = 0; all && k < c->n_flags; k++)
        all[(*n)++] = c->flags[k];
    return all;
}

/* ---- input ------------------------------------------------------------------------------------------ */

nx_status tool_read_all(int fd, struct buf *to, struct nx_err *err)
{
    for (;;) {
        char *p = buf_reserve(to, 1 << 16);
        ssize_t n = p ? read(fd, p, 1 << 16) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return nx_fail_errno(err, errno, "read /dev/stdin");
        if (n == 0)
            return buf_status(to, err);
        to->len += (size_t)n;
    }
}

/* ---- features -------------------------------------------------------------------------------------- */

static bool *feature(struct pql_features *to, struct nx_slice name)
{
    if (nx_slice_is(name, "promql-experimental-functions"))
        return &to->experimental_functions;
    if (nx_slice_is(name, "promql-delayed-name-removal"))
        return &to->delayed_name_removal;
    if (nx_slice_is(name, "promql-extended-range-selectors"))
        return &to->extended_range;
    if (nx_slice_is(name, "promql-binop-fill-modifiers"))
        return &to->binop_fill;
    return NULL;
}

static struct pql_features features_of(const struct flags *f, bool tell)
{
    struct pql_features out = {0};
    const char *const *v;
    size_t n = flags_list(f, "enable-feature", &v);

    for (size_t i = 0; i < n; i++) {
        for (const char *at = v[i]; *at;) {
            struct nx_slice name = {at, strcspn(at, ",")};
            bool *on = feature(&out, name);
            if (on)
                *on = true;
            else if (tell && name.len && !nx_slice_is(name, "promql-duration-expr"))
                printf("  WARNING: Unknown feature passed to --enable-feature: %.*s\n",
                       (int)name.len, at);
            at += name.len + (at[name.len] == ',');
        }
    }
    return out;
}

struct pql_features tool_features(const struct flags *f)
{
    return features_of(f, false);
}

/* ---- one command ----------------------------------------------------------------------------------- */

static int fail(const char *text)
{
    fprintf(stderr, "promtool: error: %s, try --help\n", text);
    return 1;
}

static int usage(const char *words)
{
    struct buf b;

    buf_init(&b, 0);
    tool_usage(&b, words);
    fputs(buf_cstr(&b), stdout);
    buf_done(&b);
    return 0;
}

static nx_status check_args(const struct tool_command *c, const struct flags *f, struct nx_err *err)
{
    size_t max = c->args[0] ? c->max_args : 0;

    if ((max || !c->args[0]) && f->n_args > max)
        return nx_fail(err, NX_BADINPUT, "unexpected %s", f->args[max]);
    for (size_t i = 0; i < f->n_args && i < c->n_files; i++)
        if (flags_check_file(f->args[i], err))
            return NX_BADINPUT;
    if (c->url_arg && f->n_args >= c->url_arg && strstr(f->args[c->url_arg - 1], "://") &&
        config_check_url(nx_slice_str(f->args[c->url_arg - 1]), err))
        return nx_context(err, "invalid URL");
    for (size_t i = 0; i < f->n; i++)
        if ((f->table[i].marks & FLAG_REQUIRED) && !f->values[i].n)
            return nx_fail(err, NX_BADINPUT, "required flag --%s not provided", f->table[i].name);
    if (f->n_args < c->min_args) {
        const char *at = c->args;
        for (size_t i = 0; i < f->n_args; i++)
            at = strchr(at, '>') + 2;
        return nx_fail(err, NX_BADINPUT, "required argument '%.*s' not provided",
                       (int)strcspn(at + 1, ">"), at + 1);
    }
    return NX_OK;
}

static int run_command(const struct tool_command *c, const struct flag *flags, size_t n_flags,
                       int argc, char **argv)
{
    struct flags f;
    struct nx_err err = {0};
    bool bad_value;
    int code;

    if (flags_parse(&f, flags, n_flags, argc, argv, &bad_value, &err)) {
        code = fail(err.text);
    } else if (f.help) {
        code = usage(c->words);
    } else if (f.version) {
        cli_print_version("promtool");
        code = 0;
    } else if (check_args(c, &f, &err)) {
        code = fail(err.text);
    } else {
        features_of(&f, true);
        code = c->run(&f);
    }
    flags_done(&f);
    return code;
}

/* ---- which command --------------------------------------------------------------------------------- */

/* Whether `arg` is a flag of the command whose value is the next argument. */
static bool wants_value(const struct flag *flags, size_t n, const char *arg)
{
    for (size_t i = 0; i < n; i++) {
        const struct flag *row = &flags[i];
        if (row->type != FLAG_BOOL &&
            ((strncmp(arg, "--", 2) == 0 && strcmp(arg + 2, row->name) == 0) ||
             (row->letter && arg[0] == '-' && arg[1] == row->letter && !arg[2])))
            return true;
    }
    return false;
}

/* How many words of the line are this command's; *whole tells that all of them are there. Flags may stand
 * before and between them, as kingpin allows; what is left for the command goes to rest[*n_rest]. */
static int match_words(const char *words, const struct flag *flags, size_t n_flags, int argc,
                       char **argv, bool *whole, char **rest, int *n_rest)
{
    int matched = 0, at = 0;

    *n_rest = 0;
    while (*words && at < argc) {
        size_t len = word_len(words);
        if (argv[at][0] == '-' && argv[at][1]) {
            bool two = wants_value(flags, n_flags, argv[at]) && at + 1 < argc;
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

static bool is_help(const char *arg)
{
    return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0 || strcmp(arg, "--help-long") == 0;
}

/* No command fits: the usage if that is asked for, else what was expected where, as kingpin says it. */
static int unknown(int argc, char **argv, int matched)
{
    char text[400], group[256] = "";
    const char *extra = NULL;
    bool help = false;
    int words = 0;

    for (int i = 0; i < argc; i++) {
        size_t n = strlen(group);
        if (is_help(argv[i]))
            help = true;
        else if (argv[i][0] == '-' && argv[i][1])
            extra = extra ? extra : argv[i];
        else if (words++ < matched)
            snprintf(group + n, sizeof group - n, "%s%s", n ? " " : "", argv[i]);
        else if (!extra)
            extra = argv[i];
    }
    if (help)
        return usage(group);
    if (!extra)
        snprintf(text, sizeof text, "must select a subcommand of '%s'", group);
    else if (extra[0] == '-' && extra[1] != '-')
        snprintf(text, sizeof text, "unknown short flag '%.2s'", extra);
    else if (extra[0] == '-')
        snprintf(text, sizeof text, "unknown long flag '%.*s'", (int)strcspn(extra, "="), extra);
    else
        snprintf(text, sizeof text, "expected command but got \"%.100s\"", extra);
    return fail(text);
}

/* `help`, `help check`, `help check rules`. */
static int help_on(int argc, char **argv)
{
    char words[256] = "";

    for (int i = 0; i < argc; i++) {
        size_t n = strlen(words);
        snprintf(words + n, sizeof words - n, "%s%s", n ? " " : "", argv[i]);
    }
    for (size_t i = 0; i < tool_n_commands; i++)
        if (tool_in_group(tool_commands[i].words, words))
            return usage(words);
    return fail("unknown command");
}

int tool_main(int argc, char **argv)
{
    int best = 0, code = -1;
    char **rest;

    if (!argc || (argc == 1 && is_help(argv[0])))
        return usage("");
    if (strcmp(argv[0], "help") == 0)
        return help_on(argc - 1, argv + 1);
    if (strcmp(argv[0], "--version") == 0) {
        cli_print_version("promtool");
        return 0;
    }
    rest = calloc((size_t)argc, sizeof *rest);
    if (!rest)
        return fail("out of memory");
    for (size_t i = 0; i < tool_n_commands && code < 0; i++) {
        size_t n_flags;
        struct flag *flags = tool_all_flags(&tool_commands[i], &n_flags);
        bool whole = false;
        int n_rest = 0, n = 0;

        if (flags)
            n = match_words(tool_commands[i].words, flags, n_flags, argc, argv, &whole, rest,
                            &n_rest);
        if (whole)
            code = run_command(&tool_commands[i], flags, n_flags, n_rest, rest);
        best = n > best ? n : best;
        free(flags);
    }
    free(rest);
    return code < 0 ? unknown(argc, argv, best) : code;
}
