/* scrape.c - what a scraped sample costs before and in the store, without a network.
 *
 *     bench_scrape [EXPOSITION...]        default: a made-up one of 1000 series
 *
 * For each exposition, in nanoseconds of CPU a sample: the parser alone; parser and labels (what a first scrape
 * does for every line); an unchanged scrape by the layout, values changing; the same with the row
 * appended to a real store with its log; and a scrape in which one line in a hundred moved. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/synth.h"
#include "src/base/clock.h"
#include "src/base/fs.h"
#include "src/scrape/ingest.h"

#define ROUNDS 200

struct body {
    char *bytes;
    size_t len;
};

struct run {
    struct body even, odd, moved; /* other values; other order */
    enum expo_format format;
    size_t samples;
    struct storage *storage;
    struct nx_mutex lock;
    struct ingest_env env;
    struct ingest in;
    struct ingest_scratch s;
    struct sample_rules rules;
    struct label own[2];
    struct labels labels;
    struct ingest_target target;
    int64_t t_ms;
};

static struct body with_fence(const struct buf *b)
{
    struct body out = {malloc(b->len + 1), b->len};

    memcpy(out.bytes, b->ptr, b->len);
    out.bytes[b->len] = '\n';
    return out;
}

/* The last digit of every third value is another. */
static struct body other_values(const struct body *from)
{
    struct body out = {malloc(from->len + 1), from->len};
    size_t line = 0;

    memcpy(out.bytes, from->bytes, from->len + 1);
    for (size_t i = 1, begin = 0; i < from->len; i++) {
        if (out.bytes[i] != '\n')
            continue;
        if (out.bytes[begin] != '#' && out.bytes[i - 1] >= '0' && out.bytes[i - 1] <= '8' &&
            ++line % 3 == 0)
            out.bytes[i - 1]++;
        begin = i + 1;
    }
    return out;
}

/* Every hundredth line goes behind the next one. */
static struct body other_order(const struct body *from)
{
    struct buf out;
    struct body made;
    const char *held = NULL, *p = from->bytes, *end = p + from->len;
    size_t held_len = 0, line = 0;

    buf_init(&out, 0);
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t len = nl ? (size_t)(nl - p) + 1 : (size_t)(end - p);
        if (*p != '#' && ++line % 100 == 0 && !held) {
            held = p;
            held_len = len;
        } else {
            buf_append(&out, p, len);
            if (held)
                buf_append(&out, held, held_len);
            held = NULL;
        }
        p += len;
    }
    made = with_fence(&out);
    buf_done(&out);
    return made;
}

static void make_up(struct buf *b)
{
    for (unsigned f = 0; b->len < 72000; f++) {
        buf_printf(b,
                   "# HELP http_requests_%u_total Requests by method, code and path.\n# TYPE "
                   "http_requests_%u_total counter\n",
                   f, f);
        for (unsigned i = 0; i < 20; i++)
            buf_printf(
                b,
                "http_requests_%u_total{method=\"GET\",code=\"%u\",path=\"/api/v1/items/%u\"} %u\n",
                f, 200 + i % 5, i, i * 7919 % 65536 * (f + 1));
    }
}

static double ns_per_sample(const struct run *r, int64_t from_ns)
{
    return (double)(clock_process_cpu_ns() - from_ns) / ROUNDS / (double)r->samples;
}

static double bench_parser(struct run *r, bool labels)
{
    struct arena *a = arena_new(0);
    int64_t from = clock_process_cpu_ns();
    struct nx_err err;

    for (int i = 0; i < ROUNDS; i++) {
        struct expo x;
        struct expo_entry e;
        struct expo_labels ls;
        expo_init(&x, r->format, r->even.bytes, r->even.len);
        r->samples = 0;
        for (;;) {
            must(expo_next(&x, &e, &err), &err);
            if (e.kind == EXPO_END)
                break;
            if (e.kind != EXPO_SERIES)
                continue;
            r->samples++;
            if (labels)
                must(expo_labels(e.series, x.type, a, &ls, &err), &err);
        }
        arena_reset(a);
    }
    arena_free(a);
    return ns_per_sample(r, from);
}

static void scrape(struct run *r, const struct body *b, bool append)
{
    const double reports[REPORT_PLAIN_COUNT] = {1, 0.01, 1000, 1000, 0};
    struct ingest_result res;
    struct nx_err err;

    r->t_ms += 15000;
    must(ingest_body(&r->in, &r->env, &r->target, r->format, b->bytes, b->len, r->t_ms, &r->s, &res,
                     &err),
         &err);
    if (append)
        must(ingest_commit(&r->in, &r->env, &r->target, r->t_ms, reports, REPORT_PLAIN_COUNT, &r->s,
                           &res, &err),
             &err);
}

static double bench_scrape(struct run *r, const struct body *a, const struct body *b, bool append)
{
    int64_t from;

    scrape(r, a, true); /* the layout is there */
    scrape(r, b, true);
    from = clock_process_cpu_ns();
    for (int i = 0; i < ROUNDS; i++)
        scrape(r, i % 2 ? b : a, append);
    return ns_per_sample(r, from);
}

static void run_one(const char *name, const struct buf *text)
{
    char dir[] = "/tmp/bench_scrape.XXXXXX";
    struct storage_opts opts = {.fs = fs_real(), .dir = mkdtemp(dir)};
    struct run r = {.format = strstr(name, ".om.") ? EXPO_OPENMETRICS : EXPO_TEXT,
                    .t_ms = 1700000000000};
    double parser, labels, layout, append, moved;
    struct nx_err err;

    must(storage_open(&r.storage, &opts, &err), &err);
    nx_mutex_init(&r.lock, NX_RANK_TARGET);
    r.env = (struct ingest_env){.storage = r.storage, .pool = intern_new(), .status_lock = &r.lock};
    r.own[0] = (struct label){nx_slice_str("instance"), nx_slice_str("127.0.0.1:9100")};
    r.own[1] = (struct label){nx_slice_str("job"), nx_slice_str("node")};
    r.labels = (struct labels){r.own, 2};
    r.target = (struct ingest_target){&r.rules, &r.labels};
    must(ingest_scratch_init(&r.s, &err), &err);
    r.even = with_fence(text);
    r.odd = other_values(&r.even);
    r.moved = other_order(&r.even);
    parser = bench_parser(&r, false);
    labels = bench_parser(&r, true);
    layout = bench_scrape(&r, &r.even, &r.odd, false);
    append = bench_scrape(&r, &r.even, &r.odd, true);
    moved = bench_scrape(&r, &r.even, &r.moved, true);
    printf("%-28s %6zu %8zu %8.1f %8.1f %8.1f %8.1f %8.1f\n", name, r.samples,
           layout_bytes(&r.in.layout), parser, labels, layout, append, moved);
    ingest_done(&r.in, r.env.pool);
    ingest_scratch_done(&r.s);
    intern_free(r.env.pool);
    storage_close(r.storage);
    must(fs_remove_tree(fs_real(), dir, &err), &err);
    free(r.even.bytes);
    free(r.odd.bytes);
    free(r.moved.bytes);
}

int main(int argc, char **argv)
{
    struct nx_err err;
    struct buf text;

    printf("%-28s %6s %8s %8s %8s %8s %8s %8s\n", "exposition", "series", "layout B", "parse",
           "+labels", "layout", "+append", "1% moved");
    for (int i = argc > 1 ? 1 : 0; i < argc; i++) {
        const char *slash = strrchr(argv[i], '/');
        buf_init(&text, 0);
        if (argc > 1)
            must(fs_read_file(fs_real(), argv[i], &text, &err), &err);
        else
            make_up(&text);
        run_one(argc > 1 ? (slash ? slash + 1 : argv[i]) : "made up", &text);
        buf_done(&text);
    }
    return 0;
}
