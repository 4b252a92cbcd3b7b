#include "src/cli/tool.h"

/* tool_backfill.c - `tsdb create-blocks-from openmetrics`.
 *
 * The input is mapped, not read: it may be larger than memory, it is read once from front to back, and
 * nobody else depends on this process. Samples of one series mostly follow each other, so the series
 * of the last line is kept at hand. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/num.h"
#include "src/expo/expo.h"
#include "storage/storage.h"

#define BLOCK_MS (2ll * 3600 * 1000)

/* A private mapping of the file with one writable byte after its end, for the newline that the parser needs. */
struct input {
    char *ptr;
    size_t len, mapped;
};

static nx_status input_open(const char *path, struct input *in, struct nx_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    nx_status status = NX_OK;

    if (fd < 0 || fstat(fd, &st)) {
        status = nx_fail(err, NX_IO, "try lock file: open %s: %s", path,
                         errno == ENOENT ? "no such file or directory" : strerror(errno));
        goto done;
    }
    in->len = (size_t)st.st_size;
    in->mapped = in->len + 1;
    in->ptr = mmap(NULL, in->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (in->ptr == MAP_FAILED) {
        in->ptr = NULL;
        status = nx_fail_errno(err, errno, "mapping %s", path);
        goto done;
    }
    if (in->len && mmap(in->ptr, in->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
                       MAP_FAILED) {
        status = nx_fail_errno(err, errno, "mapping %s", path);
        goto done;
    }
    madvise(in->ptr, in->len, MADV_SEQUENTIAL);
    in->ptr[in->len] = '\n';

done:
    if (fd >= 0)
        close(fd);
    return status;
}

struct backfill {
    struct storage_import *import;
    struct arena *arena; /* labels of one series; emptied for the next */
    struct labels_builder lb;
    struct label *extra; /* --label */
    size_t n_extra;
    struct nx_slice last; /* bytes of the series of the last line */
    uint32_t last_ref;
    bool has_last;
};

static nx_status find_series(struct backfill *bf, const struct expo_entry *e, enum expo_type type,
                             struct nx_err *err)
{
    struct expo_labels scraped;
    struct labels ls;
    nx_status st;

    if (bf->has_last && nx_slice_eq(bf->last, e->series))
        return NX_OK;
    arena_reset(bf->arena);
    st = expo_labels(e->series, type, bf->arena, &scraped, err);
    if (!st && scraped.repeated.ptr)
        st = nx_fail(err, NX_BADINPUT, "label name \"%.*s\" is not unique: invalid sample",
                     (int)scraped.repeated.len, scraped.repeated.ptr);
    if (st)
        return st;
    labels_builder_reset(&bf->lb, NULL);
    for (uint32_t i = 0; i < scraped.n; i++)
        labels_builder_set(&bf->lb, scraped.v[i].name, scraped.v[i].value);
    for (size_t i = 0; i < bf->n_extra; i++)
        labels_builder_set(&bf->lb, bf->extra[i].name, bf->extra[i].value);
    st = labels_builder_build(&bf->lb, &ls, err);
    if (!st)
        st = storage_import_series(bf->import, &ls, &bf->last_ref, err);
    bf->last = e->series;
    bf->has_last = st == NX_OK;
    return st;
}

static nx_status read_all(struct backfill *bf, const struct input *in, struct nx_err *err)
{
    struct expo x;
    struct expo_entry e;
    nx_status st;

    expo_init(&x, EXPO_OPENMETRICS, in->ptr, in->len);
    for (;;) {
        st = expo_next(&x, &e, err);
        if (st)
            return nx_context(err, "getting min and max timestamp: next");
        if (e.kind == EXPO_END)
            return NX_OK;
        if (e.kind != EXPO_SERIES) {
            bf->has_last = false; /* the type of a family changes how its le is written */
            continue;
        }
        if (!e.has_ts)
            return nx_fail(err, NX_BADINPUT,
                           "getting min and max timestamp: expected timestamp for series got none");
        st = find_series(bf, &e, x.type, err);
        if (!st)
            st = storage_import_add(bf->import, bf->last_ref, e.ts_ms, e.value, err);
        if (st)
            return st;
    }
}

static nx_status parse_labels(const struct flags *f, struct backfill *bf, struct nx_err *err)
{
    const char *const *list;
    size_t n = flags_list(f, "label", &list);

    bf->extra = arena_array(f->arena, n ? n : 1, sizeof *bf->extra);
    if (!bf->extra)
        return arena_failed(f->arena, err);
    for (size_t i = 0; i < n; i++) {
        const char *eq = strchr(list[i], '=');
        if (!eq || eq == list[i])
            return nx_fail(err, NX_BADINPUT, "expected KEY=VALUE got '%s'", list[i]);
        bf->extra[i] =
            (struct label){nx_slice_of(list[i], (size_t)(eq - list[i])), nx_slice_str(eq + 1)};
    }
    bf->n_extra = n;
    return NX_OK;
}

/* ---- the table of blocks ------------------------------------------------------------------------- */

enum { COLUMNS = 8, COLUMN_MIN = 13 };

struct table {
    bool human, quiet;
    char (*rows)[COLUMNS][40];
    size_t n;
};

/* 1MiB387KiB599B, as promtool writes sizes. */
static void human_bytes(char to[40], uint64_t v)
{
    static const char units[] = "KMGTPE";
    size_t n = 0;

    for (int u = 6; u > 0; u--) {
        uint64_t part = v >> (10 * u);
        v -= part << (10 * u);
        if (part)
            n += (size_t)snprintf(to + n, 40 - n, "%llu%ciB", (unsigned long long)part,
                                  units[u - 1]);
    }
    if (v || !n)
        snprintf(to + n, 40 - n, "%lluB", (unsigned long long)v);
}

/* Whole seconds, as promtool cuts them. */
static void human_time(char to[40], int64_t ms)
{
    char text[40];

    clock_format_rfc3339(text, (ms / 1000 - (ms % 1000 < 0)) * 1000000000);
    snprintf(to, 40, "%.10s %.8s +0000 UTC", text, text + 11);
}

/* Go's Duration.String(): 1h0m0s, 41m0s, 2.5s, 1ms. */
static void go_duration(char to[40], int64_t ms)
{
    unsigned h = (unsigned)(ms / 3600000), m = (unsigned)(ms / 60000 % 60);
    char s[24];
    size_t n = (size_t)snprintf(s, sizeof s, "%lld.%03lld", (long long)(ms / 1000 % 60),
                                (long long)(ms % 1000));

    while (s[n - 1] == '0')
        s[--n] = 0;
    if (s[n - 1] == '.')
        s[--n] = 0;
    if (ms && ms < 1000)
        snprintf(to, 40, "%dms", (int)ms);
    else if (h)
        snprintf(to, 40, "%uh%um%ss", h, m, s);
    else if (m)
        snprintf(to, 40, "%um%ss", m, s);
    else
        snprintf(to, 40, "%ss", s);
}

static void on_block(void *ctx, const struct storage_import_block *b)
{
    struct table *t = ctx;
    void *grown = t->quiet ? NULL : realloc(t->rows, (t->n + 1) * sizeof *t->rows);
    char(*row)[40];

    if (!grown)
        return;
    t->rows = grown;
    row = t->rows[t->n++];
    snprintf(row[0], 40, "%s", b->ulid);
    if (t->human) {
        human_time(row[1], b->min_ms);
        human_time(row[2], b->max_ms);
        human_bytes(row[7], b->bytes);
    } else {
        snprintf(row[1], 40, "%lld", (long long)b->min_ms);
        snprintf(row[2], 40, "%lld", (long long)b->max_ms);
        snprintf(row[7], 40, "%llu", (unsigned long long)b->bytes);
    }
    go_duration(row[3], b->max_ms - b->min_ms);
    snprintf(row[4], 40, "%llu", (unsigned long long)b->samples);
    snprintf(row[5], 40, "%llu", (unsigned long long)b->chunks);
    snprintf(row[6], 40, "%llu", (unsigned long long)b->series);
}

/* Cells are as wide as the widest of their column, at least 13, with two blanks between. */
static void print_table(const struct table *t)
{
    static const char *const head[COLUMNS] = {"BLOCK ULID",  "MIN TIME",   "MAX TIME",   "DURATION",
                                              "NUM SAMPLES", "NUM CHUNKS", "NUM SERIES", "SIZE"};
    size_t width[COLUMNS];

    for (size_t c = 0; c < COLUMNS; c++) {
        width[c] = strlen(head[c]) + 2 < COLUMN_MIN ? COLUMN_MIN : strlen(head[c]) + 2;
        for (size_t r = 0; r < t->n; r++)
            if (strlen(t->rows[r][c]) + 2 > width[c])
                width[c] = strlen(t->rows[r][c]) + 2;
    }
    for (size_t c = 0; c < COLUMNS; c++)
        printf("%-*s", c + 1 < COLUMNS ? (int)width[c] : 0, head[c]);
    putchar('\n');
    for (size_t r = 0; r < t->n; r++) {
        for (size_t c = 0; c < COLUMNS; c++)
            printf("%-*s", c + 1 < COLUMNS ? (int)width[c] : 0, t->rows[r][c]);
        putchar('\n');
    }
}

int tool_create_openmetrics(const struct flags *f)
{
    struct table table = {.human = flags_bool(f, "human-readable"),
                          .quiet = flags_bool(f, "quiet")};
    struct backfill bf = {0};
    struct input in = {0};
    struct nx_err err = {0};
    const char *dir = f->n_args > 1 ? f->args[1] : "data/";
    nx_status st = input_open(f->args[0], &in, &err);

    labels_builder_init(&bf.lb);
    bf.arena = arena_new(0);
    if (!st && !bf.arena)
        st = nx_fail(&err, NX_NOMEM, "out of memory");
    if (!st)
        st = parse_labels(f, &bf, &err);
    if (!st)
        st = storage_import_open(&bf.import, fs_real(), dir, BLOCK_MS, &err);
    if (!st)
        st = read_all(&bf, &in, &err);
    if (!st)
        st = storage_import_finish(bf.import, on_block, &table, &err);
    if (st)
        fprintf(stderr, "%s\n", err.text);
    else if (!table.quiet && table.n)
        print_table(&table);
    storage_import_close(bf.import);
    labels_builder_done(&bf.lb);
    arena_free(bf.arena);
    if (in.ptr)
        munmap(in.ptr, in.mapped);
    free(table.rows);
    return st ? 1 : 0;
}
