/* codec.c - bytes per value and values per second of each chunk encoding, on recorded columns.
 *
 *   bench_codec FILE.om.gz [PAGE_KIB...]
 *
 * Reads the samples of an OpenMetrics file (lines of one series stand together, as a dump has them),
 * cuts them at two hours, encodes each column, and prints per encoding how many columns and values
 * it took, bytes per value and decoding speed; then all chunks in pages under LZ4 and LZ4 HC, beside
 * plain XOR (Gorilla) for comparison. */
#include <lz4.h>
#include <lz4hc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "src/base/clock.h"
#include "storage/chunk.h"

#define SPAN_MS (2 * 3600 * 1000)

struct column {
    double *v;
    size_t n;
};
struct columns {
    struct column *c;
    size_t n, cap, values;
};

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

static void add_column(struct columns *cs, const double *v, size_t n)
{
    if (n == 0)
        return;
    if (cs->n == cs->cap) {
        cs->cap = cs->cap ? cs->cap * 2 : 1024;
        cs->c = must(realloc(cs->c, cs->cap * sizeof *cs->c));
    }
    cs->c[cs->n].v = must(malloc(n * sizeof *v));
    memcpy(cs->c[cs->n].v, v, n * sizeof *v);
    cs->c[cs->n++].n = n;
    cs->values += n;
}

/* Splits "SERIES VALUE TIME"; the series part may hold blanks within quotes. */
static bool split_line(char *line, char **value, char **time)
{
    *time = strrchr(line, ' ');
    if (!*time)
        return false;
    *(*time)++ = '\0';
    *value = strrchr(line, ' ');
    if (!*value)
        return false;
    *(*value)++ = '\0';
    return true;
}

static bool load(const char *path, struct columns *cs)
{
    static char line[1 << 20], series[1 << 20];
    static double v[CHUNK_MAX_ROWS];
    gzFile f = gzopen(path, "rb");
    long long span = -1;
    size_t n = 0;

    if (!f)
        return false;
    while (gzgets(f, line, sizeof line)) {
        char *value, *time;
        long long at;
        double x;

        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#' || !split_line(line, &value, &time))
            continue;
        if (!num_parse(nx_slice_str(value), &x, NULL))
            continue;
        at = (long long)(strtod(time, NULL) * 1000) / SPAN_MS;
        if (strcmp(series, line) != 0 || at != span || n == CHUNK_MAX_ROWS) {
            add_column(cs, v, n);
            n = 0;
            strcpy(series, line);
            span = at;
        }
        v[n++] = x;
    }
    add_column(cs, v, n);
    gzclose(f);
    return true;
}

/* Gorilla's size of a column in bits, for comparison (Pelkonen et al., VLDB 2015). */
static size_t gorilla_bits(const double *v, size_t n)
{
    size_t bits = 64;
    unsigned lead = 65, trail = 0;

    for (size_t i = 1; i < n; i++) {
        uint64_t x = num_bits(v[i]) ^ num_bits(v[i - 1]);
        unsigned l, t;

        bits++;
        if (!x)
            continue;
        l = (unsigned)__builtin_clzll(x);
        t = (unsigned)__builtin_ctzll(x);
        l = l > 31 ? 31 : l;
        bits++;
        if (l < lead || t < trail) {
            lead = l;
            trail = t;
            bits += 11;
        }
        bits += 64 - lead - trail;
    }
    return bits;
}

struct tally {
    const char *name;
    size_t columns, values, bytes;
    int64_t decode_ns, rounds;
};

static struct tally *tally_of(struct tally *t, size_t *n, const char *name)
{
    for (size_t i = 0; i < *n; i++)
        if (strcmp(t[i].name, name) == 0)
            return &t[i];
    t[*n].name = name;
    return &t[(*n)++];
}

static void measure_decoding(const struct columns *cs, const struct buf *all, const size_t *at,
                             struct chunk_scratch *s, struct tally *tallies, size_t n_tallies)
{
    static double v[CHUNK_MAX_ROWS];

    for (size_t k = 0; k < n_tallies; k++) {
        int64_t start = clock_process_cpu_ns();
        for (int round = 0; round < 20; round++)
            for (size_t i = 0; i < cs->n; i++) {
                const char *p = all->ptr + at[i];
                if (strcmp(chunk_encoding_name(p, 1), tallies[k].name) != 0)
                    continue;
                if (chunk_decode(p, at[i + 1] - at[i], v, cs->c[i].n, s, NULL) ||
                    memcmp(v, cs->c[i].v, cs->c[i].n * sizeof *v) != 0) {
                    fprintf(stderr, "column %zu does not come back\n", i);
                    exit(1);
                }
                tallies[k].rounds += (int64_t)cs->c[i].n;
            }
        tallies[k].decode_ns = clock_process_cpu_ns() - start;
    }
}

static size_t paged(const struct buf *all, size_t page_bytes, int level)
{
    size_t total = 0, cap = (size_t)LZ4_compressBound((int)page_bytes);
    char *to = must(malloc(cap));

    for (size_t at = 0; at < all->len; at += page_bytes) {
        int n = (int)(all->len - at < page_bytes ? all->len - at : page_bytes);
        int got = level ? LZ4_compress_HC(all->ptr + at, to, n, (int)cap, level)
                        : LZ4_compress_default(all->ptr + at, to, n, (int)cap);
        total += (size_t)(got < n ? got : n);
    }
    free(to);
    return total;
}

static void encode_all(const struct columns *cs, struct buf *all, size_t *at,
                       struct chunk_scratch *s, bool fast)
{
    buf_clear(all);
    for (size_t i = 0; i < cs->n; i++) {
        at[i] = all->len;
        if ((fast ? chunk_encode_fast : chunk_encode)(all, cs->c[i].v, cs->c[i].n, s, NULL))
            exit(1);
    }
    at[cs->n] = all->len;
}

int main(int argc, char **argv)
{
    struct columns cs = {0};
    struct chunk_scratch *s = must(chunk_scratch_new());
    struct tally tallies[16] = {0};
    size_t n_tallies = 0, gorilla = 0, *at;
    struct buf all;
    int64_t start;

    if (argc < 2 || !load(argv[1], &cs) || cs.n == 0) {
        fprintf(stderr, "usage: %s FILE.om.gz [PAGE_KIB...]\n", argv[0]);
        return 2;
    }
    buf_init(&all, 0);
    at = must(malloc((cs.n + 1) * sizeof *at));
    for (int fast = 1; fast >= 0; fast--) {
        start = clock_process_cpu_ns();
        encode_all(&cs, &all, at, s, fast);
        printf("%s: %.4f bytes/value, %.0f ns/value to encode\n", fast ? "fast " : "small",
               (double)all.len / (double)cs.values,
               (double)(clock_process_cpu_ns() - start) / (double)cs.values);
    }
    for (size_t i = 0; i < cs.n; i++) {
        struct tally *t = tally_of(tallies, &n_tallies, chunk_encoding_name(all.ptr + at[i], 1));
        t->columns++;
        t->values += cs.c[i].n;
        t->bytes += at[i + 1] - at[i];
        gorilla += gorilla_bits(cs.c[i].v, cs.c[i].n);
    }
    measure_decoding(&cs, &all, at, s, tallies, n_tallies);
    printf("%-12s %8s %9s %10s %9s %10s\n", "encoding", "columns", "values", "bytes", "B/value",
           "Mvalues/s");
    for (size_t k = 0; k < n_tallies; k++)
        printf("%-12s %8zu %9zu %10zu %9.3f %10.0f\n", tallies[k].name, tallies[k].columns,
               tallies[k].values, tallies[k].bytes,
               (double)tallies[k].bytes / (double)tallies[k].values,
               (double)tallies[k].rounds * 1e3 / (double)tallies[k].decode_ns);
    printf("%zu columns, %zu values; plain XOR %.3f bytes/value\n", cs.n, cs.values,
           (double)gorilla / 8 / (double)cs.values);
    for (int i = 2; i < argc || i == 2; i++) {
        size_t page = (size_t)(i < argc ? atoi(argv[i]) : 64) << 10;
        printf("pages of %4zu KiB: %.4f bytes/value with LZ4, %.4f with LZ4 HC\n", page >> 10,
               (double)paged(&all, page, 0) / (double)cs.values,
               (double)paged(&all, page, 12) / (double)cs.values);
    }
    return 0;
}
