/* compact.c - what merging costs: time, memory, and what it saves.
 *
 *   bench_compact DIR
 *
 * Merges all blocks in DIR (as bench_blocks makes them) into one, which is added to DIR, and prints time,
 * CPU, how far the peak of resident memory rose, and bytes per sample before and after. The sources stay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "src/base/clock.h"
#include "storage/compact.h"

static struct nx_err err;

static void must(nx_status st)
{
    if (st) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
}

static long peak_kib(void)
{
    struct rusage u;

    return getrusage(RUSAGE_SELF, &u) ? 0 : u.ru_maxrss;
}

static int by_time(const void *x, const void *y)
{
    const struct block_meta *a = block_meta(*(struct block *const *)x),
                            *b = block_meta(*(struct block *const *)y);

    return a->min_ms < b->min_ms ? -1 : a->min_ms > b->min_ms;
}

static size_t open_all(const char *dir, struct cache *cache, struct block **v)
{
    struct fs_names names = {0};
    char path[4096];
    size_t n = 0;

    must(fs_real()->list(fs_real(), dir, &names, &err));
    for (size_t i = 0; i < names.n && n < COMPACT_MAX_SOURCES; i++) {
        if (!block_ulid_valid(names.v[i]))
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, names.v[i]);
        must(block_open(&v[n++], fs_real(), cache, path, &err));
    }
    fs_names_done(&names);
    qsort(v, n, sizeof *v, by_time);
    return n;
}

static void tell(const char *what, uint64_t bytes, uint64_t samples, uint64_t chunks)
{
    printf("%s: %llu bytes, %llu samples, %llu chunks, %.4f bytes/sample\n", what,
           (unsigned long long)bytes, (unsigned long long)samples, (unsigned long long)chunks,
           (double)bytes / (double)samples);
}

int main(int argc, char **argv)
{
    struct cache *cache = cache_new(8u << 20);
    struct block *v[COMPACT_MAX_SOURCES], *b;
    struct compact_result res;
    uint64_t bytes = 0, samples = 0, chunks = 0;
    char ulid[BLOCK_ULID_LEN + 1], path[4096];

    if (argc != 2) {
        fprintf(stderr, "usage: %s DIR\n", argv[0]);
        return 2;
    }
    size_t n = open_all(argv[1], cache, v);
    for (size_t i = 0; i < n; i++) {
        bytes += block_meta(v[i])->bytes;
        samples += block_meta(v[i])->n_samples;
        chunks += block_meta(v[i])->n_chunks;
    }
    if (n < 2) {
        fprintf(stderr, "%s holds %zu blocks\n", argv[1], n);
        return 1;
    }
    printf("%zu blocks\n", n);
    tell("before", bytes, samples, chunks);
    block_ulid(ulid, clock_now_ms());
    struct compact_merge m = {
        .fs = fs_real(), .dir = argv[1], .ulid = ulid, .source = v, .n = n, .stop = NULL};
    long before = peak_kib();
    int64_t start = clock_mono_ns(), cpu = clock_process_cpu_ns();
    must(compact_merge(&m, &res, &err));
    printf(
        "merge: %.2f s, CPU %.2f s (%.0f ns/sample), peak memory %.1f MiB, of which %.1f are new\n",
        (double)(clock_mono_ns() - start) / 1e9, (double)(clock_process_cpu_ns() - cpu) / 1e9,
        (double)(clock_process_cpu_ns() - cpu) / (double)samples, (double)peak_kib() / 1024,
        (double)(peak_kib() - before) / 1024);
    snprintf(path, sizeof path, "%s/%s", argv[1], ulid);
    must(block_open(&b, fs_real(), cache, path, &err));
    tell("after", block_meta(b)->bytes, block_meta(b)->n_samples, block_meta(b)->n_chunks);
    start = clock_mono_ns();
    must(block_verify(b, &err));
    printf("reading it back: %.2f s\n", (double)(clock_mono_ns() - start) / 1e9);
    block_unref(b);
    for (size_t i = 0; i < n; i++)
        block_unref(v[i]);
    cache_free(cache);
    return 0;
}
