/* blocks.c - bytes per sample of a whole folder of blocks, and what loading and reading cost.
 *
 *   bench_blocks FILE.om.gz DIR [BLOCK_HOURS]
 *
 * Loads an OpenMetrics file (one sample a line, as a dump has them) into DIR, which must be new, and
 * prints the size of each file, CPU time per sample, time to open, to select and to read everything
 * back, and what one series costs to read with a cold cache. Checks every checksum on the way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "src/base/clock.h"
#include "src/base/num.h"
#include "storage/block.h"

static struct nx_err err;

static void must(nx_status st)
{
    if (st) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
}

/* name{a="b",...} without escapes beyond \" \\ \n, sorted here. */
static bool parse_series(char *s, struct labels_builder *b)
{
    char *p = strchr(s, '{');

    labels_builder_reset(b, NULL);
    if (!p) {
        labels_builder_set(b, nx_slice_str(LABEL_NAME), nx_slice_str(s));
        return true;
    }
    labels_builder_set(b, nx_slice_str(LABEL_NAME), nx_slice_of(s, (size_t)(p - s)));
    for (p++; *p && *p != '}';) {
        char *name = p, *value, *to;
        size_t name_len;

        p = strchr(p, '=');
        if (!p || p[1] != '"')
            return false;
        name_len = (size_t)(p - name);
        value = to = p += 2;
        for (; *p && *p != '"'; p++) {
            if (*p == '\\' && *++p == 'n')
                *p = '\n';
            *to++ = *p;
        }
        if (!*p)
            return false;
        labels_builder_set(b, nx_slice_of(name, name_len),
                           nx_slice_of(value, (size_t)(to - value)));
        p += p[1] == ',' ? 2 : 1;
    }
    return true;
}

static uint64_t load(struct storage_import *im, const char *path)
{
    static char line[1 << 20], series[1 << 20], work[1 << 20];
    gzFile f = gzopen(path, "rb");
    struct labels_builder b;
    uint32_t ref = 0;
    uint64_t n = 0;

    labels_builder_init(&b);
    while (f && gzgets(f, line, sizeof line)) {
        char *time, *value;
        struct labels ls;
        double v;

        line[strcspn(line, "\n")] = '\0';
        time = strrchr(line, ' ');
        if (line[0] == '#' || !time)
            continue;
        *time++ = '\0';
        value = strrchr(line, ' ');
        if (!value)
            continue;
        *value++ = '\0';
        if (!num_parse(nx_slice_str(value), &v, NULL))
            continue;
        if (strcmp(series, line) != 0) {
            strcpy(series, line);
            strcpy(work, line);
            if (!parse_series(work, &b))
                continue;
            must(labels_builder_build(&b, &ls, &err));
            must(storage_import_series(im, &ls, &ref, &err));
        }
        must(storage_import_add(im, ref, (int64_t)(strtod(time, NULL) * 1000 + 0.5), v, &err));
        n++;
    }
    labels_builder_done(&b);
    if (f)
        gzclose(f);
    return n;
}

struct total {
    const char *dir;
    uint64_t samples, bytes, blocks;
    char last[27];
};

static void seen(void *ctx, const struct storage_import_block *b)
{
    static const char *const names[] = {"meta.json", "index", "chunks"};
    struct total *t = ctx;

    printf("%s  %llu samples, %llu series, %llu chunks, %llu bytes:", b->ulid,
           (unsigned long long)b->samples, (unsigned long long)b->series,
           (unsigned long long)b->chunks, (unsigned long long)b->bytes);
    for (size_t i = 0; i < 3; i++) {
        char path[4096];
        struct fs_stat s;
        snprintf(path, sizeof path, "%s/%s/%s", t->dir, b->ulid, names[i]);
        must(fs_real()->stat(fs_real(), path, &s, &err));
        printf(" %s %llu (%.4f B/sample)", names[i], (unsigned long long)s.bytes,
               (double)s.bytes / (double)b->samples);
    }
    printf("\n");
    t->samples += b->samples;
    t->bytes += b->bytes;
    t->blocks++;
    memcpy(t->last, b->ulid, sizeof t->last);
}

static double us_since(int64_t start_ns)
{
    return (double)(clock_mono_ns() - start_ns) / 1e3;
}

static void read_back(const char *dir, const char *ulid)
{
    struct cache *cache = cache_new(32u << 20);
    struct chunk_scratch *s = chunk_scratch_new();
    struct arena *a = arena_new(0);
    struct samples all = {0};
    struct series_list list;
    struct cache_stats stats;
    struct block *b;
    char path[4096];
    int64_t start = clock_mono_ns();
    uint64_t n = 0;

    snprintf(path, sizeof path, "%s/%s", dir, ulid);
    must(block_open(&b, fs_real(), cache, path, &err));
    cache_get_stats(cache, &stats);
    printf("open: %.0f us, %llu pages in the cache\n", us_since(start),
           (unsigned long long)stats.pages);
    start = clock_mono_ns();
    must(block_select(b, NULL, 0, INT64_MIN, INT64_MAX, a, &list, &err));
    printf("select all %zu series: %.0f us, arena of %zu bytes\n", list.n, us_since(start),
           arena_bytes(a));
    cache_set_limit(cache, 0);
    cache_set_limit(cache, 32u << 20);
    start = clock_mono_ns();
    must(block_read(b, list.v[list.n / 2].ref, INT64_MIN, INT64_MAX, &all, s, &err));
    printf("read one series, cold: %.0f us for %zu samples\n", us_since(start), all.n);
    start = clock_mono_ns();
    for (int i = 0; i < 1000; i++) {
        all.n = 0;
        must(block_read(b, list.v[list.n / 2].ref, INT64_MIN, INT64_MAX, &all, s, &err));
    }
    printf("read one series, warm: %.2f us\n", us_since(start) / 1000);
    start = clock_mono_ns();
    for (size_t i = 0; i < list.n; i++) {
        all.n = 0;
        must(block_read(b, list.v[i].ref, INT64_MIN, INT64_MAX, &all, s, &err));
        n += all.n;
    }
    printf("read all: %.0f us for %llu samples, %.2f ns each\n", us_since(start),
           (unsigned long long)n, us_since(start) * 1e3 / (double)n);
    start = clock_mono_ns();
    must(block_verify(b, &err));
    printf("verify: %.0f us\n", us_since(start));
    samples_done(&all);
    arena_free(a);
    chunk_scratch_free(s);
    block_unref(b);
    cache_free(cache);
}

int main(int argc, char **argv)
{
    struct total t = {0};
    struct storage_import *im;
    int64_t start, added;
    uint64_t n;

    if (argc < 3) {
        fprintf(stderr, "usage: %s FILE.om.gz DIR [BLOCK_HOURS]\n", argv[0]);
        return 2;
    }
    t.dir = argv[2];
    start = clock_process_cpu_ns();
    must(storage_import_open(&im, fs_real(), argv[2],
                             (argc > 3 ? atoi(argv[3]) : 2) * INT64_C(3600000), &err));
    n = load(im, argv[1]);
    added = clock_process_cpu_ns();
    must(storage_import_finish(im, seen, &t, &err));
    printf("%llu samples in %llu blocks: %.4f bytes/sample; CPU %.2f s to parse and add, %.2f s to "
           "write\n",
           (unsigned long long)n, (unsigned long long)t.blocks, (double)t.bytes / (double)t.samples,
           (double)(added - start) / 1e9, (double)(clock_process_cpu_ns() - added) / 1e9);
    storage_import_close(im);
    if (t.blocks)
        read_back(t.dir, t.last);
    return 0;
}
