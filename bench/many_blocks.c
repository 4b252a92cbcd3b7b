/* many_blocks - what a store of many small blocks costs: to open, in memory, in open files, and to ask.
 *
 *   bench_many_blocks [number of blocks] [series in each]     (3000, 20)
 *
 * Writes them into a folder under TMPDIR, opens the store, and asks for one series over the span of one block
 * and of all. */
#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "storage/block.h"
#include "storage/storage.h"

#define SPAN_MS 7200000
#define ROWS    8

static struct nx_err err;

static void must(nx_status st)
{
    if (st) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
}

static void write_block(const char *dir, int64_t min_ms, int n_series)
{
    struct block_writer_opts o = {
        .fs = fs_real(), .dir = dir, .min_ms = min_ms, .max_ms = min_ms + SPAN_MS, .fast = true};
    struct block_writer *w;
    int64_t t[ROWS];
    double v[ROWS];
    uint32_t times;

    for (int i = 0; i < ROWS; i++) {
        t[i] = min_ms + i * (SPAN_MS / ROWS);
        v[i] = i;
    }
    must(block_writer_open(&w, &o, &err));
    must(block_writer_times(w, t, ROWS, &times, &err));
    for (int i = 0; i < n_series; i++) {
        char name[20];
        struct label l[2];
        snprintf(name, sizeof name, "s%06d", i);
        l[0] = (struct label){nx_slice_str(LABEL_NAME), nx_slice_str("m")};
        l[1] = (struct label){nx_slice_str("id"), nx_slice_str(name)};
        must(block_writer_series(w, &(struct labels){l, 2}, &err));
        must(block_writer_chunk(w, times, v, ROWS, &err));
    }
    must(block_writer_commit(w, NULL, &err));
    block_writer_close(w);
}

static size_t open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static double ms_since(int64_t start_ns)
{
    return (double)(clock_mono_ns() - start_ns) / 1e6;
}

static size_t held(void)
{
    return mallinfo2().uordblks;
}

static void ask(struct storage *s, const char *what, int64_t mint, int64_t maxt)
{
    struct matcher m = {
        .type = MATCH_EQ, .name = nx_slice_str("id"), .value = nx_slice_str("s000003")};
    struct arena *a = arena_new(0);
    struct series_list list;
    struct nx_slice *names;
    struct column c = {0};
    struct querier *q;
    size_t n = 0;
    int64_t start = clock_mono_ns();

    must(storage_querier(s, mint, maxt, &q, &err));
    must(q->ops->select(q, &m, 1, mint, maxt, a, &list, &err));
    for (size_t i = 0; i < list.n; i++) {
        must(q->ops->read(q, &list.v[i], mint, maxt, &c, &err));
        n += c.n;
    }
    printf("%-28s %9.2f ms  %zu samples\n", what, ms_since(start), n);
    start = clock_mono_ns();
    must(q->ops->label_values(q, m.name, NULL, 0, mint, maxt, 0, a, &names, &n, &err));
    printf("%-28s %9.2f ms  %zu values\n", "  label values", ms_since(start), n);
    column_done(&c);
    querier_close(q);
    arena_free(a);
}

int main(int argc, char **argv)
{
    const int n = argc > 1 ? atoi(argv[1]) : 3000, series = argc > 2 ? atoi(argv[2]) : 20;
    const int64_t t0 = 1700000000000LL / SPAN_MS * SPAN_MS;
    const char *tmp = getenv("TMPDIR");
    char dir[500];
    struct storage_opts o = {.fs = fs_real(), .dir = dir, .no_worker = true};
    struct storage *s;
    size_t before;
    int64_t start;

    snprintf(dir, sizeof dir, "%s/bench_blocks.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return 1;
    start = clock_mono_ns();
    for (int i = 0; i < n; i++)
        write_block(dir, t0 + (int64_t)i * SPAN_MS, series);
    printf("%-28s %9.2f ms  %d blocks of %d series\n", "written", ms_since(start), n, series);
    before = held();
    start = clock_mono_ns();
    must(storage_open(&s, &o, &err));
    printf("%-28s %9.2f ms  %zu bytes a block, %zu open files\n", "opened", ms_since(start),
           (held() - before) / (size_t)(n ? n : 1), open_files());
    for (int round = 0; round < 2; round++) {
        ask(s, "one block's time", t0 + 10 * SPAN_MS, t0 + 11 * SPAN_MS - 1);
        ask(s, "all of the time", INT64_MIN, INT64_MAX);
    }
    printf("%-28s %zu\n", "open files at the end", open_files());
    storage_close(s);
    must(fs_remove_tree(fs_real(), dir, &err));
    return 0;
}
