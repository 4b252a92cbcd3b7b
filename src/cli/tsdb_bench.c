#include "src/cli/tool.h"

/* tsdb_bench.c - `tsdb bench write`: scrapes that change every value, written to a store of their own.
 *
 * SHAPE   Series come from a file, a thousand make a batch, a batch is one group. A round is a hundred rows
 *         of every batch, thirty seconds apart, each value a thousand above the one before; batches of
 *         a round are shared out over as many threads as there are processors. Times, values and counts
 *         are promtool's, so that a dump of either store is the same text.
 * NOT     Go's profiles beside the store: perf(1) tells of a C program. And blocks are flushed as in the
 *         server, while promtool keeps everything in memory. */

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/base/num.h"
#include "src/base/thread.h"
#include "src/cli/tsdb.h"

#define BATCH_SERIES 1000u
#define ROUND_ROWS   100
#define STEP_MS      30000
#define FIRST_VALUE  123456789.0
#define VALUE_STEP   1000.0
#define RETENTION_MS (15ll * 24 * 3600 * 1000)
#define MAX_THREADS  64

struct batch {
    struct storage_group *group;
    uint32_t cols[BATCH_SERIES];
    size_t first, n; /* of the series */
};

struct bench {
    struct arena *arena;
    struct labels *series;
    size_t n_series;
    struct storage *storage;
    struct batch *batches;
    size_t n_batches;
    /* a round */
    int64_t base_ms;
    atomic_size_t next; /* batch to be taken */
    atomic_uint_least64_t samples;
    struct nx_mutex lock; /* the first failure */
    struct nx_err err;
    nx_status failed;
};

/* ---- stages ---------------------------------------------------------------------------------- */

/* Runs and times one; *took_ns may be NULL. */
static nx_status stage(const char *name, nx_status (*run)(struct bench *, void *, struct nx_err *),
                       struct bench *b, void *arg, int64_t *took_ns, struct nx_err *err)
{
    int64_t start = clock_mono_ns(), took;
    char text[64];
    nx_status st;

    printf(">> start stage=%s\n", name);
    fflush(stdout);
    st = run(b, arg, err);
    if (st)
        return st;
    took = clock_mono_ns() - start;
    tsdb_go_duration(text, sizeof text, took);
    printf(">> completed stage=%s duration=%s\n", name, text);
    if (took_ns)
        *took_ns = took;
    return NX_OK;
}

/* ---- series ---------------------------------------------------------------------------------- */

/* promtool's reading of a line of JSON: quotes and braces are dropped, commas part the pairs, and a value
 * ends at the second colon. */
static nx_status parse_line(struct bench *b, char *line, size_t number, struct labels_builder *lb,
                            struct labels *out, struct nx_err *err)
{
    char *to = line, *save = NULL;
    struct labels built;
    nx_status st;

    for (const char *from = line; *from; from++) {
        if (!strchr("\"{}", *from))
            *to++ = *from;
    }
    *to = 0;
    labels_builder_reset(lb, NULL);
    for (char *pair = strtok_r(line, ",", &save); pair; pair = strtok_r(NULL, ",", &save)) {
        char *colon = strchr(pair, ':');
        if (!colon || colon == pair)
            return nx_fail(err, NX_BADINPUT, "line %zu: expected a label, got \"%s\"", number,
                           pair);
        labels_builder_set(lb, nx_slice_of(pair, (size_t)(colon - pair)),
                           nx_slice_of(colon + 1, strcspn(colon + 1, ":")));
    }
    st = labels_builder_build(lb, &built, err);
    if (!st && !built.n)
        st = nx_fail(err, NX_BADINPUT, "line %zu: no labels", number);
    return st ? st : labels_copy(b->arena, &built, out, err);
}

/* Whether the set is among those read; else it is noted. `slots` are places + 1, a power of two of them. */
static bool seen_before(const struct bench *b, const struct labels *ls, uint32_t *slots,
                        size_t n_slots)
{
    size_t at = labels_hash(ls) & (n_slots - 1);

    for (; slots[at]; at = (at + 1) & (n_slots - 1)) {
        if (labels_eq(&b->series[slots[at] - 1], ls))
            return true;
    }
    slots[at] = (uint32_t)b->n_series + 1;
    return false;
}

static nx_status read_lines(struct bench *b, FILE *in, size_t want, struct nx_err *err)
{
    size_t n_slots = 16, number = 0, cap = 0;
    char *line = NULL;
    struct labels_builder lb;
    uint32_t *slots;
    nx_status st = NX_OK;

    while (n_slots < want * 2)
        n_slots *= 2;
    slots = calloc(n_slots, sizeof *slots);
    b->series = arena_array(b->arena, want + 1, sizeof *b->series);
    labels_builder_init(&lb);
    if (!slots || !b->series)
        st = nx_fail(err, NX_NOMEM, "out of memory");
    while (!st && b->n_series < want) {
        ssize_t len = getline(&line, &cap, in);
        if (len < 0)
            break;
        line[strcspn(line, "\r\n")] = 0;
        st = parse_line(b, line, ++number, &lb, &b->series[b->n_series], err);
        if (!st && !seen_before(b, &b->series[b->n_series], slots, n_slots))
            b->n_series++;
    }
    labels_builder_done(&lb);
    free(slots);
    free(line);
    return st;
}

struct source {
    const char *path;
    int64_t metrics;
};

static nx_status read_data(struct bench *b, void *arg, struct nx_err *err)
{
    const struct source *src = arg;
    size_t want = src->metrics > 0 ? (size_t)src->metrics : 0;
    FILE *in = fopen(src->path, "re");
    nx_status st;

    if (!in)
        return nx_fail(err, NX_IO, "open %s: %s", src->path,
                       errno == ENOENT ? "no such file or directory" : strerror(errno));
    if (want > UINT32_MAX / 4)
        st = nx_fail(err, NX_BADINPUT, "--metrics is too large");
    else
        st = read_lines(b, in, want, err);
    fclose(in);
    return st;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static nx_status open_batch(struct bench *b, struct batch *batch, struct nx_err *err)
{
    nx_status st = storage_group_open(b->storage, &batch->group, err);

    for (size_t i = 0; i < batch->n && !st; i++)
        st = storage_group_column(batch->group, &b->series[batch->first + i], &batch->cols[i], NULL,
                                  err);
    return st;
}

static nx_status write_batch(struct bench *b, struct batch *batch, struct nx_err *err)
{
    double values[BATCH_SERIES];
    nx_status st = batch->group ? NX_OK : open_batch(b, batch, err);

    for (int row = 1; row <= ROUND_ROWS && !st; row++) {
        struct storage_appended res;
        for (size_t i = 0; i < batch->n; i++)
            values[i] = FIRST_VALUE + VALUE_STEP * row;
        st = storage_group_append(batch->group, b->base_ms + (int64_t)row * STEP_MS, batch->cols,
                                  values, batch->n, &res, err);
        if (!st && res.appended != batch->n)
            st = nx_fail(err, NX_BADINPUT, "%u of %zu samples were refused",
                         (unsigned)batch->n - res.appended, batch->n);
        if (!st)
            atomic_fetch_add(&b->samples, batch->n);
    }
    return st;
}

static void work(void *arg)
{
    struct bench *b = arg;
    struct nx_err err = {0};
    size_t i;

    while ((i = atomic_fetch_add(&b->next, 1)) < b->n_batches) {
        nx_status st = write_batch(b, &b->batches[i], &err);
        if (!st)
            continue;
        nx_lock(&b->lock);
        if (!b->failed) {
            b->failed = st;
            b->err = err;
        }
        nx_unlock(&b->lock);
        return;
    }
}

static nx_status run_round(struct bench *b, struct nx_err *err)
{
    struct nx_thread threads[MAX_THREADS] = {0};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t n = cpus > MAX_THREADS ? MAX_THREADS : cpus > 1 ? (size_t)cpus : 1;

    atomic_store(&b->next, 0);
    for (size_t i = 1; i < n && i < b->n_batches; i++) {
        if (nx_thread_start(&threads[i], "bench", work, b, NULL))
            break; /* the others do it */
    }
    work(b);
    for (size_t i = 1; i < n; i++)
        nx_thread_join(&threads[i]);
    return b->failed ? nx_fail(err, b->failed, "%s", b->err.text) : NX_OK;
}

static nx_status ingest(struct bench *b, void *arg, struct nx_err *err)
{
    const int64_t scrapes = *(const int64_t *)arg;
    nx_status st = NX_OK;

    b->n_batches = (b->n_series + BATCH_SERIES - 1) / BATCH_SERIES;
    b->batches = calloc(b->n_batches + 1, sizeof *b->batches);
    if (!b->batches)
        return nx_fail(err, NX_NOMEM, "out of memory");
    for (size_t i = 0; i < b->n_batches; i++) {
        size_t first = i * BATCH_SERIES, left = b->n_series - first;
        b->batches[i].first = first;
        b->batches[i].n = left < BATCH_SERIES ? left : BATCH_SERIES;
    }
    for (int64_t i = 0; i < scrapes && !st; i += ROUND_ROWS) {
        b->base_ms = i * STEP_MS;
        st = run_round(b, err);
    }
    if (!st)
        printf("ingestion completed\n");
    return st;
}

static void close_storage(struct bench *b)
{
    for (size_t i = 0; b->batches && i < b->n_batches; i++)
        storage_group_close(b->batches[i].group);
    storage_close(b->storage);
    free(b->batches);
    b->batches = NULL;
    b->storage = NULL;
}

static nx_status stop(struct bench *b, void *arg, struct nx_err *err)
{
    (void)arg;
    (void)err;
    close_storage(b);
    return NX_OK;
}

/* ---- the folder ------------------------------------------------------------------------------ */

/* promtool removes whatever is there. A slip of --out should not cost a home folder: what is removed is a
 * benchmark's, ours or promtool's. */
static nx_status clear_folder(const char *out, struct nx_err *err)
{
    static const char *const known[] = {"storage", "block.prof", "cpu.prof", "mem.prof",
                                        "mutex.prof"};
    struct fs *fs = fs_real();
    struct fs_names names = {0};
    nx_status st = fs->list(fs, out, &names, err);

    if (st == NX_NOTFOUND)
        return fs_mkdirs(fs, out, err);
    for (size_t i = 0; i < names.n && !st; i++) {
        bool ok = false;
        for (size_t k = 0; k < NX_COUNT(known); k++)
            ok = ok || strcmp(names.v[i], known[k]) == 0;
        if (!ok)
            st = nx_fail(err, NX_BADINPUT,
                         "%s holds %s, which is not of a benchmark: it is not removed", out,
                         names.v[i]);
    }
    fs_names_done(&names);
    if (!st)
        st = fs_remove_tree(fs, out, err);
    return st ? st : fs_mkdirs(fs, out, err);
}

static nx_status open_storage(struct bench *b, const char *out, struct nx_err *err)
{
    struct storage_opts o = {.fs = fs_real(), .retention_ms = RETENTION_MS};
    struct buf dir;
    nx_status st = clear_folder(out, err);

    buf_init(&dir, 0);
    buf_printf(&dir, "%s/storage", out);
    o.dir = buf_cstr(&dir);
    if (!st)
        st = buf_status(&dir, err);
    if (!st)
        st = storage_open(&b->storage, &o, err);
    buf_done(&dir);
    return st;
}

static nx_status run(struct bench *b, const struct flags *f, const char *out, struct nx_err *err)
{
    struct source src = {f->n_args ? f->args[0] : "../../tsdb/testdata/20kseries.json",
                         flags_int(f, "metrics")};
    int64_t scrapes = flags_int(f, "scrapes"), took_ns = 0;
    char rate[NUM_TEXT_BYTES];
    nx_status st = open_storage(b, out, err);

    if (!st)
        st = stage("readData", read_data, b, &src, NULL, err);
    if (!st)
        st = stage("ingestScrapes", ingest, b, &scrapes, &took_ns, err);
    if (st)
        return st;
    printf(" > total samples: %llu\n", (unsigned long long)atomic_load(&b->samples));
    size_t n = num_format_g(rate, (double)atomic_load(&b->samples) / ((double)took_ns / 1e9));
    printf(" > samples/sec: %.*s\n", (int)n, rate);
    return stage("stopStorage", stop, b, NULL, NULL, err);
}

int tool_tsdb_bench_write(const struct flags *f)
{
    struct bench *b = calloc(1, sizeof *b);
    const char *out = flags_str(f, "out"), *tmp = getenv("TMPDIR");
    char made[4096] = "";
    struct nx_err err = {0};
    nx_status st = NX_OK;

    if (b)
        b->arena = arena_new(0);
    if (!b || !b->arena)
        st = nx_fail(&err, NX_NOMEM, "out of memory");
    log_setup(LOG_WARN_LEVEL, LOG_FORMAT_LOGFMT);
    if (!st && !*out) {
        snprintf(made, sizeof made, "%s/tsdb_benchXXXXXX", tmp && *tmp ? tmp : "/tmp");
        out = mkdtemp(made);
        if (!out)
            st = nx_fail_errno(&err, errno, "making %s", made);
    }
    if (!st) {
        nx_mutex_init(&b->lock, NX_RANK_LOG);
        st = run(b, f, out, &err);
        close_storage(b);
        nx_mutex_done(&b->lock);
    }
    if (*made && out && fs_remove_tree(fs_real(), out, NULL))
        log_warn("The benchmark's folder could not be removed", "dir", out);
    if (st)
        fprintf(stderr, "%s\n", err.text);
    if (b)
        arena_free(b->arena);
    free(b);
    return st ? 1 : 0;
}
