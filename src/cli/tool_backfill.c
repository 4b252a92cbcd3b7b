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

#include "src/base/num.h"
#include "src/cli/tsdb.h"
#include "src/expo/expo.h"
#include "storage/storage.h"

#define BLOCK_MS    (2ll * 3600 * 1000)
#define BLOCK_STEPS 10 /* 2 h, 6 h, 18 h, ...: the largest is 4.5 years */

/* A private mapping of the file with one writable byte after its end, for the newline that the parser
 * needs. What can't be mapped, a pipe, is read into memory. */
struct input {
    char *ptr;
    size_t len, mapped;
    struct buf piped;
};

static nx_status read_pipe(int fd, const char *path, struct input *in, struct nx_err *err)
{
    ssize_t got = 1;

    while (got > 0) {
        char *room = buf_reserve(&in->piped, 1u << 20);
        if (!room)
            return buf_status(&in->piped, err);
        do {
            got = read(fd, room, 1u << 20);
        } while (got < 0 && errno == EINTR);
        if (got < 0)
            return nx_fail_errno(err, errno, "read %s", path);
        in->piped.len += (size_t)got;
    }
    in->len = in->piped.len;
    buf_char(&in->piped, '\n');
    in->ptr = in->piped.ptr;
    return buf_status(&in->piped, err);
}

static void input_close(struct input *in)
{
    if (in->mapped)
        munmap(in->ptr, in->mapped);
    buf_done(&in->piped);
}

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
    if (!S_ISREG(st.st_mode)) {
        status = read_pipe(fd, path, in, err);
        goto done;
    }
    in->len = (size_t)st.st_size;
    in->mapped = in->len + 1;
    in->ptr = mmap(NULL, in->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (in->ptr == MAP_FAILED) {
        in->ptr = NULL;
        in->mapped = 0;
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

static nx_status no_timestamp(struct nx_err *err)
{
    return nx_fail(err, NX_BADINPUT,
                   "getting min and max timestamp: expected timestamp for series got none");
}

/* Files are mostly sorted by series: the lines after this one differ by value and time only. */
static nx_status read_more(struct backfill *bf, struct expo *x, struct nx_slice prefix,
                           struct nx_err *err)
{
    struct expo_sample got;
    nx_status st = NX_OK;

    while (!st && expo_try_sample(x, prefix.ptr, prefix.len, &got))
        st = got.has_ts ? storage_import_add(bf->import, bf->last_ref, got.ts_ms, got.value, err)
                        : no_timestamp(err);
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
            return no_timestamp(err);
        st = find_series(bf, &e, x.type, err);
        if (!st)
            st = storage_import_add(bf->import, bf->last_ref, e.ts_ms, e.value, err);
        if (!st)
            st = read_more(bf, &x, e.prefix, err);
        if (st)
            return nx_context(err, "block creation: process blocks: add sample");
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

struct told {
    struct tsdb_table table;
    bool quiet;
};

static void on_block(void *ctx, const struct storage_import_block *b)
{
    struct told *t = ctx;

    if (t->quiet)
        return;
    tsdb_table_written(&t->table, b);
}

int64_t tsdb_block_span(int64_t max_ms)
{
    int64_t span = BLOCK_MS;

    for (int i = 1; i < BLOCK_STEPS && span * 3 <= max_ms; i++)
        span *= 3;
    return span;
}

int tool_create_openmetrics(const struct flags *f)
{
    struct told told = {.table.human = flags_bool(f, "human-readable"),
                        .quiet = flags_bool(f, "quiet")};
    struct backfill bf = {0};
    struct input in = {0};
    struct nx_err err = {0};
    const char *dir = f->n_args > 1 ? f->args[1] : "data/";
    nx_status st;

    buf_init(&in.piped, 0);
    st = input_open(f->args[0], &in, &err);
    labels_builder_init(&bf.lb);
    bf.arena = arena_new(0);
    if (!st && !bf.arena)
        st = nx_fail(&err, NX_NOMEM, "out of memory");
    if (!st)
        st = parse_labels(f, &bf, &err);
    if (!st)
        st = storage_import_open(&bf.import, fs_real(), dir,
                                 tsdb_block_span(flags_ms(f, "max-block-duration")), &err);
    if (!st)
        st = read_all(&bf, &in, &err);
    if (!st)
        st = storage_import_finish(bf.import, on_block, &told, &err);
    if (st)
        fprintf(stderr, "%s\n", err.text);
    storage_import_close(bf.import);
    labels_builder_done(&bf.lb);
    arena_free(bf.arena);
    input_close(&in);
    tsdb_table_done(&told.table);
    return st ? 1 : 0;
}
