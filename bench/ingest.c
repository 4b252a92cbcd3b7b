/* ingest.c - what it costs to take rows in: time per sample, memory per series, bytes of the log, and how
 * fast a restart reads them back.
 *
 *   bench_ingest [GROUPS [SERIES_PER_GROUP [ROWS [DIR]]]]     default: 100 1000 100 /tmp/bench_ingest.PID
 *
 * The values are those of a small setup: 45% constants, 30% counters with noise, 10% decimal gauges, 5%
 * gauges of bytes, 10% lines of histograms. The disk is the real one; the folder is removed again. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/synth.h"
#include "src/base/clock.h"
#include "storage/storage.h"

#define STEP_MS 15000
#define T0      1700000000000LL

static size_t resident_kib(const char *field)
{
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, field, strlen(field)) == 0)
            kib = strtoul(line + strlen(field) + 1, NULL, 10);
    }
    if (f)
        fclose(f);
    return kib;
}

static void add_columns(struct storage_group *g, unsigned number, unsigned n, uint32_t *cols)
{
    struct nx_err err;
    char instance[64], name[64], handler[64];

    snprintf(instance, sizeof instance, "host-%u.example.org:9100", number);
    for (unsigned i = 0; i < n; i++) {
        struct label v[] = {{nx_slice_str(LABEL_NAME), {0}},
                            {nx_slice_str("handler"), {0}},
                            {nx_slice_str("instance"), nx_slice_str(instance)},
                            {nx_slice_str("job"), nx_slice_str("node")},
                            {nx_slice_str("method"), nx_slice_str(i % 2 ? "GET" : "POST")}};
        struct labels ls = {v, NX_COUNT(v)};
        snprintf(name, sizeof name, "http_server_metric_%u_total", i / 10);
        snprintf(handler, sizeof handler, "/api/v1/path/%u", i % 10 / 2);
        v[0].value = nx_slice_str(name);
        v[1].value = nx_slice_str(handler);
        must(storage_group_column(g, &ls, &cols[i], NULL, &err), &err);
    }
}

struct load {
    unsigned groups, series, rows;
    const char *dir;
};

static struct storage *open_store(const struct load *l)
{
    struct storage_opts o = {.fs = fs_real(), .dir = l->dir, .no_worker = true};
    struct storage *s;
    struct nx_err err;

    must(storage_open(&s, &o, &err), &err);
    return s;
}

static void ingest(const struct load *l)
{
    size_t before = resident_kib("VmRSS:");
    struct storage *s = open_store(l);
    struct storage_group **g = calloc(l->groups, sizeof(struct storage_group *));
    double *v = calloc((size_t)l->series * l->groups, sizeof *v);
    uint32_t *cols = calloc((size_t)l->series * l->groups, sizeof *cols);
    struct storage_stats st;
    struct nx_err err;
    int64_t start, took = 0, values = 0;
    double n = (double)l->groups * l->series, samples = n * l->rows;

    start = clock_process_cpu_ns();
    for (unsigned i = 0; i < l->groups; i++) {
        must(storage_group_open(s, &g[i], &err), &err);
        add_columns(g[i], i, l->series, cols + (size_t)i * l->series);
    }
    printf("new series         %8.0f ns each\n", (double)(clock_process_cpu_ns() - start) / n);
    for (unsigned r = 0; r < l->rows; r++) {
        for (unsigned i = 0; i < l->groups; i++) {
            double *row = v + (size_t)i * l->series;
            start = clock_process_cpu_ns();
            synth_row(row, l->series);
            values += clock_process_cpu_ns() - start;
            start = clock_process_cpu_ns();
            must(storage_group_append(g[i], T0 + r * STEP_MS + i * 100,
                                      cols + (size_t)i * l->series, row, l->series, NULL, &err),
                 &err);
            took += clock_process_cpu_ns() - start;
        }
        start = clock_process_cpu_ns();
        storage_tick(s, T0 + (int64_t)(r + 1) * STEP_MS);
        took += clock_process_cpu_ns() - start;
    }
    storage_get_stats(s, &st);
    printf("append             %8.1f ns per sample (CPU, upkeep and the kernel's part included)\n",
           (double)took / samples);
    printf("written            %8.2f bytes per sample to the log, %.2f to chunk files\n",
           (double)st.wal_written_bytes / samples, (double)st.chunk_written_bytes / samples);
    printf("log                %8.1f MiB left for a start\n", (double)st.wal_bytes / (1 << 20));
    size_t own = n * (sizeof *v + sizeof *cols) / 1024;
    malloc_trim(0);
    size_t after = resident_kib("VmRSS:");
    printf("resident           %8.1f MiB, %.0f bytes per series (without the program and its test "
           "values)\n",
           (double)(after - before - own) / 1024, (double)(after - before - own) * 1024 / n);
    struct mallinfo2 mi = mallinfo2();
    printf("allocated          %8.1f MiB, %.0f bytes per series\n",
           (double)(mi.uordblks + mi.hblkhd) / (1 << 20) - (double)own / 1024,
           ((double)(mi.uordblks + mi.hblkhd) - (double)own * 1024) / n);
    for (unsigned i = 0; i < l->groups; i++)
        storage_group_close(g[i]);
    storage_close(s);
    free(g);
    free(v);
    free(cols);
}

static void replay(const struct load *l)
{
    int64_t start = clock_mono_ns(), took;
    struct storage *s = open_store(l);
    double samples = (double)l->groups * l->series * l->rows;

    took = clock_mono_ns() - start;
    printf(
        "replay             %8.1f million samples per second (%.0f ms), peak resident %.1f MiB\n",
        samples / ((double)took / 1e9) / 1e6, (double)took / 1e6,
        (double)resident_kib("VmHWM:") / 1024);
    storage_close(s);
}

/* Each part in a process of its own, so that memory is told apart. */
static void in_child(void (*part)(const struct load *), const struct load *l)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        part(l);
        fflush(stdout);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        exit(1);
}

int main(int argc, char **argv)
{
    char own[64];
    struct load l = {100, 1000, 100, own};
    struct nx_err err;

    snprintf(own, sizeof own, "/tmp/bench_ingest.%d", (int)getpid());
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
    printf("%u groups of %u series, %u rows\n", l.groups, l.series, l.rows);
    in_child(ingest, &l);
    in_child(replay, &l);
    must(fs_remove_tree(fs_real(), l.dir, &err), &err);
    return 0;
}
