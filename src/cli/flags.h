/* flags.h - command-line flags by a table, with the rules of Prometheus's parser: two dashes, `=` or a
 * blank before the value, --no-NAME for booleans, no flag twice unless it repeats, @FILE for arguments
 * kept in a file. Private to src/cli. Threads: start-up only. */
#pragma once

#include "src/base/arena.h"
#include "src/base/buf.h"

enum flag_type {
    FLAG_STRING,
    FLAG_BOOL,
    FLAG_DURATION,    /* milliseconds */
    FLAG_GO_DURATION, /* as Go writes it: 1h30m, 1.5s, 20us; nanoseconds */
    FLAG_BYTES,       /* 512MB, 1GiB: powers of two either way */
    FLAG_INT,
    FLAG_INT64, /* a whole number in Go's notation; kingpin takes fractions for FLAG_INT alone */
    FLAG_FLOAT,
    FLAG_ENUM
};
enum flag_marks {
    FLAG_HIDDEN = 1,
    FLAG_REPEATED = 2,
    FLAG_LATER = 4, /* accepted; has no effect yet, and a warning says so when it is given */
    FLAG_REFUSED =
        8,           /* known; giving it ends the start, because running without it would mislead */
    FLAG_AGENT = 16, /* of agent mode alone */
    FLAG_REQUIRED = 32, /* of promtool's commands: has to be given */
    FLAG_PAIRS = 64,    /* every value is KEY=VALUE (or KEY:VALUE) */
    FLAG_FILE = 128,    /* the value is a file that is there */
    FLAG_URL = 256      /* the value is a URL */
};

struct flag {
    const char *name;
    enum flag_type type;
    unsigned marks;
    const char *value; /* default; "" or NULL for none: shown as such, or as the name in capitals */
    const char *
        choices; /* FLAG_ENUM: "debug info warn error"; else what stands for the value in the usage */
    char letter; /* short form, or 0 */
    const char *help;
};

struct flags {
    const struct flag *table;
    size_t n;
    struct flag_values {
        const char **v;
        size_t n;      /* given; 0: the default holds */
    } * values;        /* parallel to the table */
    const char **args; /* what is no flag */
    size_t n_args;
    bool help, version;
    struct arena *arena;
};

/* Parses argv[0..argc). Fails with NX_BADINPUT and kingpin's text; *bad_value tells that a known flag had
 * a bad value, which Prometheus answers with another exit code. */
nx_status flags_parse(struct flags *f, const struct flag *table, size_t n, int argc, char **argv,
                      bool *bad_value, struct nx_err *err);
void flags_done(struct flags *f);

bool flags_given(const struct flags *f, const char *name);
const char *flags_str(const struct flags *f, const char *name); /* last given, or the default */
bool flags_bool(const struct flags *f, const char *name);
int64_t flags_ms(const struct flags *f, const char *name);
int64_t flags_go_ns(const struct flags *f, const char *name);
uint64_t flags_bytes(const struct flags *f, const char *name);
int64_t flags_int(const struct flags *f, const char *name);
/* All values of a repeated flag, or its default alone. */
size_t flags_list(const struct flags *f, const char *name, const char *const **out);

void flags_usage(struct buf *b, const char *head, const struct flag *table, size_t n, bool hidden);
bool flags_parse_bytes(const char *s, uint64_t *out);
/* Does a file stand there that is no folder? kingpin's words. */
nx_status flags_check_file(const char *path, struct nx_err *err);
/* The texts between two words of help, wrapped to `width` behind `indent` blanks; ends with a newline. */
void flags_wrap(struct buf *b, const char *text, size_t indent, size_t width);
