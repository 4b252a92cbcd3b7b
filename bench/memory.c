/* memory.c - what series cost: bytes for each as their number grows, and what is left of those that are gone.
 *
 *   bench_memory [curve|churn|all [DIR]]     default: all /tmp/bench_memory.PID
 *
 * curve    10,000, 100,000 and 1,000,000 series in groups of 1,000, each in a process of its own: anonymous
 *          memory for each series with 1 row, with 15 and with 60 (15 s apart).
 * churn    20 generations of 20,000 series, two hours each, as pods that come and go. The clock is ours, so it
 *          takes seconds. Anonymous memory after each generation, beside the series and strings that are held.
 *
 * Label sets are those of a cluster: __name__, instance, job, namespace, pod and one of their own. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/synth.h"
#include "src/base/clock.h"
#include "storage/storage.h"

#define STEP_MS     15000
#define HOUR_MS     3600000LL
#define T0          1699999200000LL /* a multiple of two hours */
#define PER         1000u           /* series of a group */
#define PER_POD     50u             /* of a pod */
#define CHURN       20000u          /* series of a generation */
#define GENERATIONS 20u

static const char *dir;

static double anon_bytes(void)
{
    malloc_trim(0);
    return (double)memory_read_process(NULL);
}

static struct storage *open_store(void)
{
    struct storage_opts o = {.fs = fs_real(), .dir = dir, .no_worker = true};
    struct storage *s;
    struct nx_err err;

    must(storage_open(&s, &o, &err), &err);
    return s;
}

/* A group of PER series: 20 pods of 50. */
static struct storage_group *new_group(struct storage *s, unsigned number, uint32_t cols[PER])
{
    char instance[64], name[64], pod[64], own[64];
    struct storage_group *g;
    struct nx_err err;

    must(storage_group_open(s, &g, &err), &err);
    snprintf(instance, sizeof instance, "10.%u.%u.%u:9100", number >> 16 & 255, number >> 8 & 255,
             number & 255);
    for (unsigned i = 0; i < PER; i++) {
        struct label v[] = {{nx_slice_str(LABEL_NAME), {0}},
                            {nx_slice_str("container"), {0}},
                            {nx_slice_str("instance"), nx_slice_str(instance)},
                            {nx_slice_str("job"), nx_slice_str("kubelet")},
                            {nx_slice_str("namespace"), nx_slice_str(i / 250 % 2 ? "web" : "db")},
                            {nx_slice_str("pod"), {0}}};
        struct labels ls = {v, NX_COUNT(v)};
        snprintf(name, sizeof name, "container_metric_%u_total", i % PER_POD / 5);
        snprintf(own, sizeof own, "c%u", i % 5);
        snprintf(pod, sizeof pod, "service-%u-%08x", i / PER_POD, number * 2654435761u);
        v[0].value = nx_slice_str(name);
        v[1].value = nx_slice_str(own);
        v[5].value = nx_slice_str(pod);
        must(storage_group_column(g, &ls, &cols[i], NULL, &err), &err);
    }
    return g;
}

static void append(struct storage_group *g, const uint32_t *cols, int64_t t_ms, unsigned row)
{
    double v[PER];
    struct nx_err err;

    for (unsigned i = 0; i < PER; i++)
        v[i] = i % 20 < 9    ? i
               : i % 20 < 17 ? (double)row * (i % 7 + 1)
                             : (double)(row * i % 100) / 4;
    must(storage_group_append(g, t_ms, cols, v, PER, NULL, &err), &err);
}

static void curve(unsigned series)
{
    static const unsigned rows[] = {1, 15, 60};
    unsigned n = series / PER, done = 0;
    struct storage_group **g = calloc(n, sizeof(struct storage_group *));
    uint32_t *cols = calloc(series, sizeof *cols);
    double before;
    struct storage *s = open_store();

    memset(cols, 1, series * sizeof *cols);
    before = anon_bytes();
    for (unsigned i = 0; i < n; i++)
        g[i] = new_group(s, i, cols + (size_t)i * PER);
    printf("%9u series", series);
    for (unsigned k = 0; k < NX_COUNT(rows); k++) {
        for (; done < rows[k]; done++) {
            for (unsigned i = 0; i < n; i++)
                append(g[i], cols + (size_t)i * PER, T0 + done * STEP_MS, done);
            storage_tick(s, T0 + done * STEP_MS);
        }
        printf("  %8.1f", (anon_bytes() - before) / series);
    }
    printf("\n");
    for (unsigned i = 0; i < n; i++)
        storage_group_close(g[i]);
    storage_close(s);
    free(g);
    free(cols);
}

static void churn(unsigned generations)
{
    struct storage *s = open_store();
    static uint32_t cols[CHURN];
    struct storage_group *g[CHURN / PER];
    struct storage_stats st;
    double first = 0;

    printf("%10s %10s %10s %10s %12s\n", "generation", "series", "strings", "MiB", "of the third");
    for (unsigned k = 0; k < generations; k++) {
        int64_t from = T0 + k * 2 * HOUR_MS;
        for (unsigned i = 0; i < NX_COUNT(g); i++)
            g[i] = new_group(s, k * 1000 + i, cols + (size_t)i * PER);
        for (unsigned row = 0; row < 60; row++) {
            int64_t t_ms = from + row * 2 * HOUR_MS / 60;
            for (unsigned i = 0; i < NX_COUNT(g); i++)
                append(g[i], cols + (size_t)i * PER, t_ms, row);
            storage_tick(s, t_ms);
        }
        for (unsigned i = 0; i < NX_COUNT(g); i++)
            storage_group_close(g[i]);
        storage_get_stats(s, &st);
        double now = anon_bytes();
        if (k == 2)
            first = now;
        printf("%10u %10llu %10llu %10.2f", k + 1, (unsigned long long)st.head_series,
               (unsigned long long)st.symbols, now / (1 << 20));
        if (k >= 2)
            printf(" %12.3f", now / first);
        printf("\n");
    }
    storage_close(s);
}

/* In a process of its own, so that memory is told apart; the folder goes. */
static void in_child(void (*part)(unsigned), unsigned n)
{
    char command[512];
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        part(n);
        fflush(stdout);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        exit(1);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command))
        exit(1);
}

int main(int argc, char **argv)
{
    static char own[64];
    const char *what = argc > 1 ? argv[1] : "all";

    snprintf(own, sizeof own, "/tmp/bench_memory.%d", (int)getpid());
    dir = argc > 2 ? argv[2] : own;
    if (access(dir, F_OK) == 0) {
        fprintf(stderr, "bench_memory: %s is there already\n", dir);
        return 2;
    }
    if (strcmp(what, "churn") != 0) {
        printf("anonymous bytes a series with rows: 1, 15, 60\n");
        in_child(curve, 10000);
        in_child(curve, 100000);
        in_child(curve, 1000000);
    }
    if (strcmp(what, "curve") != 0)
        in_child(churn, GENERATIONS);
    return 0;
}
