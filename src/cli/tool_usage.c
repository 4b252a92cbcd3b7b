#include "src/cli/tool.h"

/* tool_usage.c - the usage of promtool's commands, in kingpin's layout.
 *
 * SHAPE   Text is 80 columns wide. Flags and arguments are two columns: the first as wide as its widest
 *         entry below 30; what is wider stands on a line of its own. */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH      80
#define WIDE_ENTRY 30

/* Rows of a two-column list, a line each: entry, tab, text. */
static void two_columns(struct buf *b, struct buf *rows)
{
    const char *text = buf_cstr(rows);
    size_t first = 0;

    for (const char *at = text; *at; at += strcspn(at, "\n") + 1) {
        size_t n = strcspn(at, "\t");
        if (n > first && n < WIDE_ENTRY)
            first = n;
    }
    for (const char *at = text; *at; at += strcspn(at, "\n") + 1) {
        size_t n = strcspn(at, "\t");
        char line[2048];
        buf_printf(b, "  %-*.*s  ", (int)first, (int)n, at);
        if (n >= WIDE_ENTRY)
            buf_printf(b, "\n%*s", (int)first + 4, "");
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at + n + 1, "\n"), at + n + 1);
        flags_wrap(b, line, first + 4, WIDTH - first - 4);
    }
}

static void put_capitals(struct buf *b, const char *s)
{
    for (; *s; s++)
        buf_char(b, (char)toupper((unsigned char)*s));
}

/* What stands for a flag's value. */
static void put_value(struct buf *b, const struct flag *f)
{
    if (f->type == FLAG_STRING && f->choices)
        buf_str(b, f->choices);
    else if (!f->value)
        put_capitals(b, f->name);
    else if (f->type == FLAG_STRING)
        buf_printf(b, "\"%s\"", f->value);
    else
        buf_str(b, f->value);
}

static void put_flag(struct buf *rows, const struct flag *f, bool letters)
{
    if (f->marks & FLAG_HIDDEN)
        return;
    if (f->letter)
        buf_printf(rows, "-%c, ", f->letter);
    else
        buf_str(rows, letters ? "    " : "");
    buf_printf(rows, "--%s%s", f->type == FLAG_BOOL ? "[no-]" : "", f->name);
    if (f->type != FLAG_BOOL) {
        buf_char(rows, '=');
        put_value(rows, f);
    }
    buf_printf(rows, "%s\t%s\n", f->marks & FLAG_REPEATED ? " ..." : "", f->help);
}

static void put_flags(struct buf *b, const struct flag *flags, size_t n)
{
    struct buf rows;

    buf_init(&rows, 0);
    buf_str(b, "Flags:\n");
    buf_str(&rows, "-h, --[no-]help\tShow context-sensitive help (also try --help-long and "
                   "--help-man).\n    --[no-]version\tShow application version.\n");
    for (size_t i = 0; i < n; i++)
        put_flag(&rows, &flags[i], true);
    two_columns(b, &rows);
    buf_done(&rows);
}

static void put_args(struct buf *b, const struct tool_command *c)
{
    struct buf rows;
    const char *help = c->args_help;

    if (!c->args[0])
        return;
    buf_init(&rows, 0);
    buf_str(b, "\nArgs:\n");
    for (const char *at = c->args; *at;) {
        size_t n = (size_t)(strchr(at, '>') - at) + 1, line = strcspn(help, "\n");
        bool optional = at[n] == ']';
        n += optional;
        buf_append(&rows, at, n);
        buf_printf(&rows, "\t%.*s\n", (int)line, help);
        help += line + (help[line] == '\n');
        at += n + strspn(at + n, ".]");
        at += *at == ' ';
    }
    two_columns(b, &rows);
    buf_done(&rows);
}

/* "query series --match=MATCH [<flags>] <server>" */
static void put_summary(struct buf *b, const struct tool_command *c)
{
    bool optional = false;

    buf_str(b, c->words);
    for (size_t i = 0; i < c->n_flags; i++) {
        if (c->flags[i].marks & FLAG_REQUIRED) {
            buf_printf(b, " --%s=", c->flags[i].name);
            put_value(b, &c->flags[i]);
        } else {
            optional = optional || !(c->flags[i].marks & FLAG_HIDDEN);
        }
    }
    buf_printf(b, "%s%s%s", optional ? " [<flags>]" : "", c->args[0] ? " " : "", c->args);
}

static void command_usage(struct buf *b, const struct tool_command *c)
{
    size_t n;
    struct flag *flags = tool_all_flags(c, &n);

    buf_str(b, "usage: promtool ");
    put_summary(b, c);
    buf_str(b, "\n\n");
    flags_wrap(b, c->help, 0, WIDTH);
    buf_char(b, '\n');
    if (flags)
        put_flags(b, flags, n);
    put_args(b, c);
    buf_char(b, '\n');
    free(flags);
}

static void group_usage(struct buf *b, const struct tool_group *g)
{
    const struct tool_command all = {.words = g->words};
    size_t n;
    struct flag *flags = tool_all_flags(&all, &n);

    buf_printf(b, "usage: promtool%s%s%s <command> [<args> ...]\n\n", *g->words ? " " : "",
               g->words, g->n_flags ? " [<flags>]" : "");
    flags_wrap(b, g->help, 0, WIDTH);
    buf_char(b, '\n');
    if (flags)
        put_flags(b, flags, n);
    buf_str(b, *g->words ? "\nSubcommands:\n"
                         : "\nCommands:\nhelp [<command>...]\n    Show help.\n\n");
    for (size_t i = 0; i < tool_n_commands; i++) {
        if (!tool_in_group(tool_commands[i].words, g->words))
            continue;
        put_summary(b, &tool_commands[i]);
        buf_str(b, "\n    ");
        flags_wrap(b, tool_commands[i].help, 4, WIDTH - 4);
        buf_char(b, '\n');
    }
    buf_char(b, '\n');
    free(flags);
}

void tool_usage(struct buf *b, const char *words)
{
    for (size_t i = 0; i < tool_n_groups; i++)
        if (strcmp(tool_groups[i].words, words) == 0)
            group_usage(b, &tool_groups[i]);
    for (size_t i = 0; i < tool_n_commands; i++)
        if (strcmp(tool_commands[i].words, words) == 0)
            command_usage(b, &tool_commands[i]);
}
