/* stamped.c - what samples with times of their own cost: each in a group of one series, as rows of one
 * value, and all in one loose group, a batch at a time.
 *
 *   bench_stamped [SERIES [ROUNDS [DIR]]]     default: 20000 100 /tmp/bench_stamped.PID
 *
 * Every series is sampled each 15 s, give or take 5 ms, at a time that it shares with no other. A fifth of
 * the values stay, the rest are counters, gauges and decimals. The folder is removed again. */
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

struct load {
    unsigned series, rounds;
    const char *dir;
    bool loose;
    int64_t window_ms;
};

static size_t allocated(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

static struct storage *open_store(const struct load *l)
{
    struct storage_opts o = {
        .fs = fs_real(), .dir = l->dir, .no_worker = true, .out_of_order_window_ms = l->window_ms};
    struct storage *s;
    struct nx_err err;

    must(storage_open(&s, &o, &err), &err);
    return s;
}

static uint32_t add_column(struct storage_group *g, unsigned i)
{
    char name[64], id[64];
    uint32_t col;
    struct nx_err err;

    snprintf(name, sizeof name, "container_metric_%u_total", i % 80);
    snprintf(id, sizeof id, "/docker/%016llx",
             (unsigned long long)(i / 80) * 0x9e3779b97f4a7c15ull);
    struct label v[] = {{nx_slice_str(LABEL_NAME), nx_slice_str(name)},
                        {nx_slice_str("id"), nx_slice_str(id)},
                        {nx_slice_str("instance"), nx_slice_str("cadvisor.example.org:8080")},
                        {nx_slice_str("job"), nx_slice_str("cadvisor")}};
    must(storage_group_column(g, &(struct labels){v, NX_COUNT(v)}, &col, NULL, &err), &err);
    return col;
}

static double next_value(double v, unsigned i)
{
    uint64_t r = synth_random();

    switch (i % 5) {
    case 0:
        return v;
    case 1:
    case 2:
        return v + (double)(r % 200);
    case 3:
        return (double)((r % 100000) * 4096);
    default:
        return (double)(r % 10000) / 100;
    }
}

struct run {
    struct storage *s;
    struct storage_group **g; /* one a series, or the loose one */
    uint32_t *cols;
    struct storage_sample *v;
};

static void append_round(const struct load *l, struct run *r)
{
    struct nx_err err;

    if (l->loose) {
        must(storage_group_append_samples(r->g[0], r->v, l->series, NULL, &err), &err);
        return;
    }
    for (unsigned i = 0; i < l->series; i++)
        must(storage_group_append(r->g[i], r->v[i].t_ms, &r->v[i].col, &r->v[i].value, 1, NULL,
                                  &err),
             &err);
}

static void make_round(const struct load *l, struct run *r, unsigned round)
{
    for (unsigned i = 0; i < l->series; i++) {
        struct storage_sample *x = &r->v[i];
        x->t_ms = T0 + (int64_t)round * STEP_MS + i % STEP_MS + (int64_t)(synth_random() % 10);
        if (l->window_ms && round % 4 == 3) /* half an hour late */
            x->t_ms -= 1800000;
        x->value = next_value(x->value, i);
    }
}

static void ingest(const struct load *l)
{
    struct run r = {.s = open_store(l)};
    double n = l->series, samples = n * l->rounds;
    struct storage_stats st;
    struct nx_err err;
    int64_t start, took = 0;
    size_t before, young = 0;

    r.g = calloc(l->series, sizeof(struct storage_group *));
    r.v = calloc(l->series, sizeof *r.v);
    before = allocated();
    if (l->loose)
        must(storage_group_open_loose(r.s, &r.g[0], &err), &err);
    for (unsigned i = 0; i < l->series; i++) {
        if (!l->loose)
            must(storage_group_open(r.s, &r.g[i], &err), &err);
        r.v[i].col = add_column(r.g[l->loose ? 0 : i], i);
    }
    for (unsigned round = 0; round < l->rounds; round++) {
        make_round(l, &r, round);
        start = clock_process_cpu_ns();
        append_round(l, &r);
        storage_tick(r.s, T0 + (int64_t)(round + 1) * STEP_MS);
        took += clock_process_cpu_ns() - start;
        if (round == 0)
            young = allocated();
    }
    storage_get_stats(r.s, &st);
    printf("  append    %7.0f ns of CPU per sample, the kernel's part included\n",
           (double)took / samples);
    printf("  log       %7.2f bytes per sample\n", (double)st.wal_bytes / samples);
    printf("  allocated %7.0f bytes per series with 1 sample, %.0f with %u, labels and index "
           "included\n",
           (double)(young - before) / n, (double)(allocated() - before) / n, l->rounds);
    fflush(stdout);
    _exit(0);
}

static void run_one(const struct load *l, const char *name)
{
    char cmd[4200];
    int status;
    pid_t pid;

    printf("%s\n", name);
    fflush(stdout);
    pid = fork();
    if (pid == 0)
        ingest(l);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        exit(1);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", l->dir);
    if (system(cmd))
        exit(1);
}

int main(int argc, char **argv)
{
    char own[64];
    struct load l = {20000, 100, own, false, 0};

    snprintf(own, sizeof own, "/tmp/bench_stamped.%d", (int)getpid());
    if (argc > 1)
        l.series = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        l.rounds = (unsigned)strtoul(argv[2], NULL, 10);
    if (argc > 3)
        l.dir = argv[3];
    if (l.series == 0 || l.rounds == 0) {
        fprintf(stderr, "usage: bench_stamped [SERIES [ROUNDS [DIR]]]\n");
        return 2;
    }
    printf("%u series, %u rounds\n", l.series, l.rounds);
    run_one(&l, "a group a series");
    l.loose = true;
    run_one(&l, "one loose group");
    l.window_ms = 3600000;
    run_one(&l, "one loose group, each fourth round half an hour late");
    return 0;
}
