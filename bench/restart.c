/* restart.c - how long a start takes after kill -9, with samples that are not in blocks yet.
 *
 *   bench_restart [GROUPS [SERIES_PER_GROUP [ROWS [DIR]]]]     default: 100 1000 100 /tmp/bench_restart.PID
 *
 * A child appends rows and kills itself with SIGKILL in the midst of it. Another opens the folder and asks
 * for one series: that is the first right answer. Then it reads everything and counts. The load is that
 * of bench_ingest: constants, counters with noise, decimals, bytes, lines of histograms. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/synth.h"
#include "src/base/clock.h"
#include "storage/storage.h"

#define STEP_MS 15000
#define T0      1700006400000LL /* a block's start: no block is due while the rows fit one and a half */

struct load {
    unsigned groups, series, rows;
    const char *dir;
};

static void add_columns(struct storage_group *g, unsigned number, unsigned n, uint32_t *cols)
{
    struct nx_err err;
    char instance[64], name[64];

    snprintf(instance, sizeof instance, "host-%u.example.org:9100", number);
    for (unsigned i = 0; i < n; i++) {
        struct label v[] = {{nx_slice_str(LABEL_NAME), {0}},
                            {nx_slice_str("instance"), nx_slice_str(instance)},
                            {nx_slice_str("job"), nx_slice_str("node")},
                            {nx_slice_str("method"), nx_slice_str(i % 2 ? "GET" : "POST")}};
        struct labels ls = {v, NX_COUNT(v)};
        snprintf(name, sizeof name, "http_server_metric_%u_total", i);
        v[0].value = nx_slice_str(name);
        must(storage_group_column(g, &ls, &cols[i], NULL, &err), &err);
    }
}

static struct storage *open_store(const struct load *l, bool worker)
{
    /* A block takes all rows, so that all stay in the head whatever their number. */
    struct storage_opts o = {.fs = fs_real(),
                             .dir = l->dir,
                             .min_block_ms = 31ll * 24 * 3600 * 1000,
                             .no_worker = !worker};
    struct storage *s;
    struct nx_err err;

    must(storage_open(&s, &o, &err), &err);
    return s;
}

static void fill_and_die(const struct load *l)
{
    struct storage *s = open_store(l, false);
    struct storage_group **g = calloc(l->groups, sizeof(struct storage_group *));
    double *v = calloc((size_t)l->series * l->groups, sizeof *v);
    uint32_t *cols = calloc((size_t)l->series * l->groups, sizeof *cols);
    struct storage_stats st;
    struct nx_err err;

    for (unsigned i = 0; i < l->groups; i++) {
        must(storage_group_open(s, &g[i], &err), &err);
        add_columns(g[i], i, l->series, cols + (size_t)i * l->series);
    }
    for (unsigned r = 0; r < l->rows; r++) {
        for (unsigned i = 0; i < l->groups; i++) {
            size_t at = (size_t)i * l->series;
            synth_row(v + at, l->series);
            must(storage_group_append(g[i], T0 + r * STEP_MS + i, cols + at, v + at, l->series,
                                      NULL, &err),
                 &err);
        }
        storage_tick(s, T0 + (int64_t)(r + 1) * STEP_MS);
    }
    storage_get_stats(s, &st);
    printf("before the kill    %8.1f MiB of log, %.1f MiB of chunk files; written %.2f and %.2f "
           "bytes a sample\n",
           (double)st.wal_bytes / (1 << 20), (double)st.chunk_file_bytes / (1 << 20),
           (double)st.wal_written_bytes / (double)st.head_samples_appended,
           (double)st.chunk_written_bytes / (double)st.head_samples_appended);
    fflush(stdout);
    kill(getpid(), SIGKILL);
}

/* Samples of the series that match; the last one's time. */
static uint64_t read_all(struct storage *s, const struct matcher *m, size_t n, int64_t *last_ms)
{
    struct arena *a = arena_new(0);
    struct series_list list;
    struct column c = {0};
    struct querier *q;
    struct nx_err err;
    uint64_t samples = 0;

    must(storage_querier(s, INT64_MIN, INT64_MAX, &q, &err), &err);
    must(q->ops->select(q, m, n, INT64_MIN, INT64_MAX, a, &list, &err), &err);
    for (size_t i = 0; i < list.n; i++) {
        must(q->ops->read(q, &list.v[i], INT64_MIN, INT64_MAX, &c, &err), &err);
        samples += c.n;
        *last_ms = c.n ? c.t[c.n - 1] : *last_ms;
    }
    column_done(&c);
    querier_close(q);
    arena_free(a);
    return samples;
}

static int answer(const struct load *l)
{
    const struct matcher one[] = {
        {.type = MATCH_EQ,
         .name = nx_slice_str(LABEL_NAME),
         .value = nx_slice_str("http_server_metric_0_total")},
        {.type = MATCH_EQ,
         .name = nx_slice_str("instance"),
         .value = nx_slice_str("host-0.example.org:9100")},
    };
    const struct matcher all = {
        .type = MATCH_EQ, .name = nx_slice_str("job"), .value = nx_slice_str("node")};
    int64_t start = clock_mono_ns(), cpu = clock_process_cpu_ns(), open_ns, first_ns, last_ms = 0;
    struct storage *s = open_store(l, true);
    uint64_t n, want = (uint64_t)l->groups * l->series * l->rows;

    open_ns = clock_mono_ns() - start;
    cpu = clock_process_cpu_ns() - cpu;
    n = read_all(s, one, 2, &last_ms);
    first_ns = clock_mono_ns() - start;
    printf("open               %8.0f ms, CPU %.0f ms\n", (double)open_ns / 1e6, (double)cpu / 1e6);
    printf("first answer       %8.0f ms, %s\n", (double)first_ns / 1e6,
           n == l->rows && last_ms == T0 + (l->rows - 1ll) * STEP_MS ? "right" : "WRONG");
    n = read_all(s, &all, 1, &last_ms);
    printf("samples            %8llu of %llu\n", (unsigned long long)n, (unsigned long long)want);
    storage_close(s);
    return n == want ? 0 : 1;
}

int main(int argc, char **argv)
{
    char own[64];
    struct load l = {100, 1000, 100, own};
    struct nx_err err;
    int status, result;
    pid_t pid;

    snprintf(own, sizeof own, "/tmp/bench_restart.%d", (int)getpid());
    if (argc > 1)
        l.groups = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        l.series = (unsigned)strtoul(argv[2], NULL, 10);
    if (argc > 3)
        l.rows = (unsigned)strtoul(argv[3], NULL, 10);
    if (argc > 4)
        l.dir = argv[4];
    if (!l.groups || !l.series || !l.rows)
        return 2;
    printf("%u groups of %u series, %u rows: %.1f million samples in the head\n", l.groups,
           l.series, l.rows, (double)l.groups * l.series * l.rows / 1e6);
    fflush(stdout);
    pid = fork();
    if (pid == 0)
        fill_and_die(&l);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
        return 1;
    result = answer(&l);
    must(fs_remove_tree(fs_real(), l.dir, &err), &err);
    return result;
}
