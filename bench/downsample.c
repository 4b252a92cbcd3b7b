/* downsample.c - what a year costs: samples, points of five minutes, points of an hour.
 *
 *     bench_downsample [SERIES [DAYS]]          100 and 30 unless said
 *
 * Made-up series, every 15 s: of twenty nine are constants, six noisy counters (one of them is reset each
 * day), two decimal gauges, one a gauge of bytes and two lines of histograms. Prints bytes for the days, and what a thousand
 * series would take in a year at that. Everything is written below /tmp and removed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "storage/compact.h"

#define EVERY_MS 15000LL
#define DAY_MS   86400000LL
#define T0       (1700000000000LL / (31 * DAY_MS) * (31 * DAY_MS))

static struct nx_err err;
static uint64_t seed = 1;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, err.text);
    exit(1);
}

static double chance(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 40) / (double)(1u << 24);
}

static double next(unsigned kind, double last, int64_t k)
{
    if (kind < 9)
        return last;
    if (kind < 15)
        return kind == 9 && k % 5760 == 0 ? 0 : last + floor(chance() * 400);
    if (kind < 17)
        return round((last * 0.95 + chance() * 5) * 100) / 100;
    if (kind < 18)
        return last + floor((chance() - 0.5) * 65536) * 4096;
    return last + (chance() < 0.3 ? floor(chance() * 8) : 0);
}

static void load(const char *dir, unsigned n_series, int64_t days)
{
    struct storage_import *im = NULL;

    if (storage_import_open(&im, fs_real(), dir, 31 * DAY_MS, &err))
        die("opening");
    for (unsigned s = 0; s < n_series; s++) {
        static const char *const ends[] = {"info", "requests_total", "seconds", "bytes", "bucket"};
        const unsigned kind = s % 20;
        char name[64], instance[32];
        struct label l[2] = {{nx_slice_str(LABEL_NAME), {0}}, {nx_slice_str("instance"), {0}}};
        struct labels ls = {l, 2};
        double v = floor(chance() * 1000) + (kind == 17 ? 1e9 : 0);
        uint32_t ref;
        snprintf(name, sizeof name, "m%02u_%s", kind,
                 ends[kind < 9    ? 0
                      : kind < 15 ? 1
                      : kind < 17 ? 2
                      : kind < 18 ? 3
                                  : 4]);
        snprintf(instance, sizeof instance, "host%u:9100", s / 20);
        l[0].value = nx_slice_str(name);
        l[1].value = nx_slice_str(instance);
        if (storage_import_series(im, &ls, &ref, &err))
            die("a series");
        for (int64_t k = 0; k * EVERY_MS < days * DAY_MS; k++) {
            v = next(kind, v, k);
            if (storage_import_add(im, ref, T0 + k * EVERY_MS + s / 20 % 15000, v, &err))
                die("a sample");
        }
    }
    if (storage_import_finish(im, NULL, NULL, &err))
        die("writing");
    storage_import_close(im);
}

/* Every block of `from` as points; bytes of what came of them. */
static uint64_t make(const char *from, const char *to, int64_t resolution_ms, uint64_t *points)
{
    struct fs *fs = fs_real();
    struct cache *cache = cache_new(8u << 20);
    struct fs_names names = {0};
    uint64_t bytes = 0;

    if (fs->list(fs, from, &names, &err) || fs_mkdirs(fs, to, &err))
        die(from);
    for (size_t i = 0; i < names.n; i++) {
        char path[512], ulid[BLOCK_ULID_LEN + 1];
        struct block *b = NULL, *made = NULL;
        struct compact_result res;
        snprintf(path, sizeof path, "%s/%s", from, names.v[i]);
        if (block_open(&b, fs, cache, path, &err))
            die(path);
        if (resolution_ms == 0) {
            bytes += block_meta(b)->bytes;
            *points += block_meta(b)->n_samples;
            block_unref(b);
            continue;
        }
        block_ulid(ulid, (int64_t)time(NULL) * 1000);
        struct compact_merge c = {.fs = fs, .dir = to, .ulid = ulid, .source = &b, .n = 1};
        snprintf(path, sizeof path, "%s/%s", to, ulid);
        if (compact_downsample(&c, resolution_ms, &res, &err) ||
            block_open(&made, fs, cache, path, &err))
            die("making points");
        bytes += block_meta(made)->bytes;
        *points += res.samples;
        block_unref(made);
        block_unref(b);
    }
    fs_names_done(&names);
    cache_free(cache);
    return bytes;
}

int main(int argc, char **argv)
{
    const unsigned n_series = argc > 1 ? (unsigned)atoi(argv[1]) : 100;
    const int64_t days = argc > 2 ? atoi(argv[2]) : 30;
    static const struct {
        const char *name, *from;
        int64_t resolution_ms;
    } levels[] = {{"raw", "raw", 0}, {"5m", "raw", 300000}, {"1h", "5m", 3600000}};
    char dir[] = "/tmp/narthex-bench-XXXXXX", from[64], to[64];

    if (!n_series || days <= 0 || !mkdtemp(dir))
        return 1;
    snprintf(to, sizeof to, "%s/raw", dir);
    load(to, n_series, days);
    printf("%u series, %lld days, every %lld s\n\n", n_series, (long long)days, EVERY_MS / 1000);
    printf("| resolution | values stored | bytes | 1,000 series for a year | CPU s "
           "|\n|---|--:|--:|--:|--:|\n");
    for (size_t i = 0; i < NX_COUNT(levels); i++) {
        const clock_t start = clock();
        uint64_t values = 0, bytes;
        snprintf(from, sizeof from, "%s/%s", dir, levels[i].from);
        snprintf(to, sizeof to, "%s/%s", dir, levels[i].name);
        bytes = make(from, to, levels[i].resolution_ms, &values);
        printf("| %s | %llu | %llu | %.0f MB | %.1f |\n", levels[i].name,
               (unsigned long long)values, (unsigned long long)bytes,
               (double)bytes / n_series * 1000 / (double)days * 365 / 1e6,
               (double)(clock() - start) / CLOCKS_PER_SEC);
    }
    if (fs_remove_tree(fs_real(), dir, &err))
        die(dir);
    return 0;
}
