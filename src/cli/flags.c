#include "src/cli/flags.h"

/* flags.c - a command line, word by word, in the rules and the words of kingpin.
 *
 * RULES   L1  Files of arguments are put in place first, a line a word; what they say of @FILE is not.
 *         L2  A value is checked as it is read; defaults are looked up when somebody asks. */

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "src/base/fs.h"
#include "src/base/limits.h"
#include "src/base/num.h"
#include "src/config/config.h"

static size_t find(const struct flags *f, const char *name, size_t len)
{
    for (size_t i = 0; i < f->n; i++)
        if (strlen(f->table[i].name) == len && memcmp(f->table[i].name, name, len) == 0)
            return i;
    return SIZE_MAX;
}

/* A name that our own code asks for is in the table. */
static size_t known(const struct flags *f, const char *name)
{
    size_t i = find(f, name, strlen(name));

    NX_ASSERT_ALWAYS(i != SIZE_MAX);
    return i;
}

bool flags_parse_bytes(const char *s, uint64_t *out)
{
    static const char units[] = "KMGTPE";
    char *end;
    double v = strtod(s, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    unsigned shift = 0;

    if (end == s || v < 0)
        return false;
    if (unit) {
        shift = 10u * (unsigned)(unit - units + 1);
        end++;
        if (*end == 'i')
            end++;
    }
    if (strcmp(end, "B") != 0 && !(unit && *end == 0 && end[-1] != 'i'))
        return false;
    v *= (double)(1ull << shift);
    if (v >= 18446744073709551616.0)
        return false;
    *out = (uint64_t)v;
    return true;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t len = strlen(value);

    for (const char *c = choices; *c;) {
        size_t n = strcspn(c, " ");
        if (n == len && memcmp(c, value, n) == 0)
            return true;
        c += n + (c[n] == ' ');
    }
    return false;
}

/* kingpin's text; the log's two flags have words of their own in Prometheus. */
static nx_status bad_choice(const struct flag *row, const char *value, struct nx_err *err)
{
    struct buf list;
    nx_status st;

    if (strncmp(row->name, "log.", 4) == 0)
        return nx_fail(err, NX_BADINPUT, "unrecognized log %s %s", row->name + 4, value);
    buf_init(&list, 0);
    for (const char *c = row->choices; *c; c++)
        buf_char(&list, *c == ' ' ? ',' : *c);
    st =
        nx_fail(err, NX_BADINPUT, "enum value must be one of %s, got '%s'", buf_cstr(&list), value);
    buf_done(&list);
    return st;
}

/* time.ParseDuration, with its words. */
static nx_status parse_go_duration(const char *text, int64_t *ns, struct nx_err *err)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1},   {"us", 1e3}, {"\xc2\xb5s", 1e3}, {"\xce\xbcs", 1e3},
                 {"ms", 1e6}, {"s", 1e9},  {"m", 60e9},        {"h", 3600e9}};
    const char *s = text + (*text == '-' || *text == '+');
    double all = 0;

    if (!*s)
        return nx_fail(err, NX_BADINPUT, "time: invalid duration \"%s\"", text);
    while (*s && strcmp(s, "0") != 0) {
        size_t digits = strspn(s, "0123456789."), unit, i = 0;
        double v;
        if (!digits || !num_parse(nx_slice_of(s, digits), &v, NULL))
            return nx_fail(err, NX_BADINPUT, "time: invalid duration \"%s\"", text);
        s += digits;
        unit = strcspn(s, "0123456789.");
        if (!unit)
            return nx_fail(err, NX_BADINPUT, "time: missing unit in duration \"%s\"", text);
        while (i < NX_COUNT(units) &&
               (strlen(units[i].name) != unit || memcmp(units[i].name, s, unit) != 0))
            i++;
        if (i == NX_COUNT(units))
            return nx_fail(err, NX_BADINPUT, "time: unknown unit \"%.*s\" in duration \"%s\"",
                           (int)unit, s, text);
        all += v * units[i].ns;
        s += unit;
    }
    if (all >= 9223372036854775807.0)
        return nx_fail(err, NX_BADINPUT, "time: invalid duration \"%s\"", text);
    *ns = (int64_t)(*text == '-' ? -all : all);
    return NX_OK;
}

nx_status flags_check_file(const char *path, struct nx_err *err)
{
    const char *slash = strrchr(path, '/');
    struct stat s;

    if (stat(path, &s))
        return nx_fail(err, NX_BADINPUT, "path '%s' does not exist", path);
    if (S_ISDIR(s.st_mode))
        return nx_fail(err, NX_BADINPUT, "'%s' is a directory", slash ? slash + 1 : path);
    return NX_OK;
}

static nx_status check_marks(const struct flag *row, const char *value, struct nx_err *err)
{
    nx_status st = NX_OK;

    if ((row->marks & FLAG_PAIRS) && !value[strcspn(value, "=:")])
        st = nx_fail(err, NX_BADINPUT, "expected KEY=VALUE got '%s'", value);
    if (!st && (row->marks & FLAG_FILE))
        st = flags_check_file(value, err);
    if (!st && (row->marks & FLAG_URL) && config_check_url(nx_slice_str(value), err))
        st = nx_context(err, "invalid URL");
    return st;
}

/* As strconv.ParseInt reads it: decimal, 0x, 0. */
static nx_status check_int64(const char *value, struct nx_err *err)
{
    char *end;

    errno = 0;
    (void)strtoll(value, &end, 0);
    if (end == value || *end || isspace((unsigned char)*value))
        return nx_fail(err, NX_BADINPUT, "strconv.ParseInt: parsing \"%s\": invalid syntax", value);
    if (errno == ERANGE)
        return nx_fail(err, NX_BADINPUT, "strconv.ParseInt: parsing \"%s\": value out of range",
                       value);
    return NX_OK;
}

static nx_status check_value(const struct flag *row, const char *value, struct nx_err *err)
{
    int64_t i;
    uint64_t u;
    double d;

    switch (row->type) {
    case FLAG_DURATION:
        return num_parse_duration(nx_slice_str(value), &i, err);
    case FLAG_GO_DURATION:
        return parse_go_duration(value, &i, err);
    case FLAG_BYTES:
        return flags_parse_bytes(value, &u)
                   ? NX_OK
                   : nx_fail(err, NX_BADINPUT, "units: unknown unit %s in %s",
                             value + strspn(value, "+-.0123456789"), value);
    case FLAG_INT: /* kingpin takes 5e7, and cuts 1.5 to 1 */
    case FLAG_FLOAT:
        return num_parse(nx_slice_str(value), &d, NULL)
                   ? NX_OK
                   : nx_fail(err, NX_BADINPUT, "strconv.ParseFloat: parsing \"%s\": invalid syntax",
                             value);
    case FLAG_INT64:
        return check_int64(value, err);
    case FLAG_ENUM:
        return is_choice(row->choices, value) ? NX_OK : bad_choice(row, value, err);
    default:
        return check_marks(row, value, err);
    }
}

static nx_status add_value(struct flags *f, size_t i, const char *value, bool *bad_value,
                           struct nx_err *err)
{
    struct flag_values *v = &f->values[i];

    if (v->n && !(f->table[i].marks & FLAG_REPEATED)) {
        *bad_value = true;
        return nx_fail(err, NX_BADINPUT, "flag '%s' cannot be repeated", f->table[i].name);
    }
    if (check_value(&f->table[i], value, err)) {
        *bad_value = true;
        return NX_BADINPUT;
    }
    v->v = arena_grow(f->arena, v->v, v->n * sizeof *v->v, (v->n + 1) * sizeof *v->v);
    if (!v->v)
        return arena_failed(f->arena, err);
    v->v[v->n++] = value;
    return NX_OK;
}

/* One flag at argv[*at]; takes the next argument where the value stands there. */
static nx_status parse_long(struct flags *f, int argc, char **argv, int *at, bool *bad_value,
                            struct nx_err *err)
{
    const char *name = argv[*at] + 2, *eq = strchr(name, '=');
    size_t len = eq ? (size_t)(eq - name) : strlen(name);
    bool no = false;
    size_t i = find(f, name, len);

    if (i == SIZE_MAX && len > 3 && memcmp(name, "no-", 3) == 0) {
        i = find(f, name + 3, len - 3);
        no = i != SIZE_MAX && f->table[i].type == FLAG_BOOL;
        i = no ? i : SIZE_MAX;
    }
    if (i == SIZE_MAX && !eq &&
        (strcmp(name, "help") == 0 || strcmp(name, "help-long") == 0 ||
         strcmp(name, "help-man") == 0)) {
        f->help = true;
        return NX_OK;
    }
    if (i == SIZE_MAX && !eq && strcmp(name, "version") == 0) {
        f->version = true;
        return NX_OK;
    }
    if (i == SIZE_MAX)
        return nx_fail(err, NX_BADINPUT, "unknown long flag '--%.*s'", (int)len, name);
    if (f->table[i].type == FLAG_BOOL) {
        if (eq)
            return nx_fail(err, NX_BADINPUT, "unexpected %s", eq + 1);
        return add_value(f, i, no ? "false" : "true", bad_value, err);
    }
    if (eq)
        return add_value(f, i, eq + 1, bad_value, err);
    if (*at + 1 >= argc)
        return nx_fail(err, NX_BADINPUT, "expected argument for flag '--%s'", f->table[i].name);
    return add_value(f, i, argv[++*at], bad_value, err);
}

static nx_status parse_short(struct flags *f, int argc, char **argv, int *at, bool *bad_value,
                             struct nx_err *err)
{
    const char *s = argv[*at] + 1;

    for (; *s; s++) {
        size_t i = 0;
        if (*s == 'h') {
            f->help = true;
            continue;
        }
        while (i < f->n && f->table[i].letter != *s)
            i++;
        if (i == f->n)
            return nx_fail(err, NX_BADINPUT, "unknown short flag '-%c'", *s);
        if (f->table[i].type == FLAG_BOOL) {
            nx_status st = add_value(f, i, "true", bad_value, err);
            if (st)
                return st;
            continue;
        }
        if (s[1])
            return add_value(f, i, s + 1, bad_value, err);
        if (*at + 1 >= argc)
            return nx_fail(err, NX_BADINPUT, "expected argument for flag '-%c'", *s);
        return add_value(f, i, argv[++*at], bad_value, err);
    }
    return NX_OK;
}

/* @FILE: one argument a line, put in place of it. */
static nx_status expand_file(struct flags *f, const char *path, const char ***args, size_t *n,
                             struct nx_err *err)
{
    struct buf text;
    nx_status st;

    buf_init(&text, NX_LIMIT_CONFIG_BYTES);
    st = fs_read_file(fs_real(), path, &text, err);
    if (st == NX_NOTFOUND)
        st = nx_fail(err, NX_BADINPUT,
                     "failed to open arguments file \"%s\": open %s: no such file or directory",
                     path, path);
    char *copy = st ? NULL : arena_strndup(f->arena, text.len ? text.ptr : "", text.len);
    for (char *save = NULL, *line = copy ? strtok_r(copy, "\r\n", &save) : NULL; line;
         line = strtok_r(NULL, "\r\n", &save)) {
        *args = arena_grow(f->arena, *args, *n * sizeof **args, (*n + 1) * sizeof **args);
        if (!*args) {
            st = arena_failed(f->arena, err);
            break;
        }
        (*args)[(*n)++] = line;
    }
    buf_done(&text);
    return st;
}

static nx_status expand(struct flags *f, int *argc, char ***argv, struct nx_err *err)
{
    const char **all = NULL;
    size_t n = 0;

    for (int i = 0; i < *argc; i++) {
        const char *a = (*argv)[i];
        if (a[0] == '@' && a[1]) {
            nx_status st = expand_file(f, a + 1, &all, &n, err);
            if (st)
                return st;
            continue;
        }
        all = arena_grow(f->arena, all, n * sizeof *all, (n + 1) * sizeof *all);
        if (!all)
            return arena_failed(f->arena, err);
        all[n++] = a;
    }
    *argc = (int)n;
    *argv = (char **)(uintptr_t)all;
    return NX_OK;
}

nx_status flags_parse(struct flags *f, const struct flag *table, size_t n, int argc, char **argv,
                      bool *bad_value, struct nx_err *err)
{
    bool only_args = false;
    nx_status st;

    *f = (struct flags){.table = table, .n = n, .arena = arena_new(0)};
    *bad_value = false;
    f->values = f->arena ? arena_array(f->arena, n ? n : 1, sizeof *f->values) : NULL;
    if (!f->values)
        return nx_fail(err, NX_NOMEM, "out of memory");
    st = expand(f, &argc, &argv, err);
    f->args = st ? NULL : arena_array(f->arena, (size_t)argc + 1, sizeof *f->args);
    for (int i = 0; i < argc && !st; i++) {
        if (!only_args && strcmp(argv[i], "--") == 0)
            only_args = true;
        else if (!only_args && argv[i][0] == '-' && argv[i][1] == '-')
            st = parse_long(f, argc, argv, &i, bad_value, err);
        else if (!only_args && argv[i][0] == '-' && argv[i][1])
            st = parse_short(f, argc, argv, &i, bad_value, err);
        else
            f->args[f->n_args++] = argv[i];
    }
    return st;
}

void flags_done(struct flags *f)
{
    arena_free(f->arena);
    *f = (struct flags){0};
}

bool flags_given(const struct flags *f, const char *name)
{
    return f->values[known(f, name)].n > 0;
}

const char *flags_str(const struct flags *f, const char *name)
{
    size_t i = known(f, name);

    if (f->values[i].n)
        return f->values[i].v[f->values[i].n - 1];
    return f->table[i].value ? f->table[i].value : "";
}

bool flags_bool(const struct flags *f, const char *name)
{
    return strcmp(flags_str(f, name), "true") == 0;
}

int64_t flags_ms(const struct flags *f, const char *name)
{
    int64_t ms = 0;

    return num_parse_duration(nx_slice_str(flags_str(f, name)), &ms, NULL) ? 0 : ms;
}

int64_t flags_go_ns(const struct flags *f, const char *name)
{
    int64_t ns = 0;

    return parse_go_duration(flags_str(f, name), &ns, NULL) ? 0 : ns;
}

uint64_t flags_bytes(const struct flags *f, const char *name)
{
    uint64_t v = 0;

    flags_parse_bytes(flags_str(f, name), &v);
    return v;
}

int64_t flags_int(const struct flags *f, const char *name)
{
    struct nx_slice s = nx_slice_str(flags_str(f, name));
    int64_t v = 0;
    double d;

    if (f->table[known(f, name)].type == FLAG_INT64)
        return strtoll(flags_str(f, name), NULL, 0);
    if (!num_parse_i64(s, &v) && num_parse(s, &d, NULL))
        v = (int64_t)d;
    return v;
}

size_t flags_list(const struct flags *f, const char *name, const char *const **out)
{
    size_t i = known(f, name);

    if (f->values[i].n) {
        *out = f->values[i].v;
        return f->values[i].n;
    }
    *out = &f->table[i].value;
    return f->table[i].value && f->table[i].value[0] ? 1 : 0;
}

void flags_wrap(struct buf *b, const char *text, size_t indent, size_t width)
{
    size_t at = 0;

    for (bool begun = false; *text;) {
        size_t n = strcspn(text, " \n");
        if (at && at + 1 + n > width) {
            buf_char(b, '\n');
            at = 0;
        }
        if (at == 0 && begun && n)
            buf_printf(b, "%*s", (int)indent, "");
        if (at)
            buf_char(b, ' ');
        at += n + (at > 0);
        buf_append(b, text, n);
        begun = true;
        text += n;
        if (*text == '\n') {
            buf_char(b, '\n');
            at = 0;
        }
        text += *text != 0;
    }
    buf_char(b, '\n');
}

/* Breaks help text at blanks into lines that start at column 33, as Prometheus's usage looks. */
static void put_wrapped(struct buf *b, const char *text, size_t column)
{
    size_t at = column;

    while (*text) {
        size_t n = strcspn(text, " ");
        if (at > column && at + 1 + n > 80) {
            buf_printf(b, "\n%*s", (int)column, "");
            at = column;
        } else if (at > column) {
            buf_char(b, ' ');
            at++;
        }
        buf_append(b, text, n);
        at += n;
        text += n + (text[n] == ' ');
    }
    buf_char(b, '\n');
}

void flags_usage(struct buf *b, const char *head, const struct flag *table, size_t n, bool hidden)
{
    buf_str(b, head);
    buf_str(b, "\n\nFlags:\n  -h, --help                     ");
    put_wrapped(b, "Show context-sensitive help (also try --help-long and --help-man).", 33);
    buf_str(b, "      --version                  Show application version.\n");
    for (size_t i = 0; i < n; i++) {
        size_t from = b->len;
        if ((table[i].marks & FLAG_HIDDEN) && !hidden)
            continue;
        if (table[i].letter)
            buf_printf(b, "  -%c, ", table[i].letter);
        else
            buf_str(b, "      ");
        buf_printf(b, "--%s%s", table[i].type == FLAG_BOOL ? "[no-]" : "", table[i].name);
        if (table[i].type != FLAG_BOOL)
            buf_printf(b, table[i].type == FLAG_STRING ? "=\"%s\"" : "=%s", table[i].value);
        if (table[i].marks & FLAG_REPEATED)
            buf_str(b, " ...");
        buf_str(b, b->len - from < 31 ? "" : "  \n");
        buf_printf(b, "%*s", b->len - from < 31 ? (int)(33 - (b->len - from)) : 33, "");
        put_wrapped(b, table[i].help, 33);
    }
}
