/* durations.c - counts by bucket, and the last few hundred with their times. */
#include "src/base/durations.h"

#include <math.h>
#include <stdlib.h>

#include "src/base/clock.h"
#include "src/base/thread.h"

#define KEPT      256
#define WINDOW_NS (600ll * 1000000000)

struct durations {
    struct nx_mutex lock;
    /* under lock */
    uint64_t count, bucket[DURATION_BUCKETS];
    double sum;
    struct {
        int64_t at_ns;
        double s;
    } last[KEPT];
};

static const double bounds[DURATION_BUCKETS - 1] = {0.01, 0.1, 1, 10};

struct durations *durations_new(void)
{
    struct durations *d = calloc(1, sizeof *d);

    if (d)
        nx_mutex_init(&d->lock, NX_RANK_STATS);
    return d;
}

void durations_free(struct durations *d)
{
    if (d)
        nx_mutex_done(&d->lock);
    free(d);
}

void durations_add(struct durations *d, double seconds)
{
    size_t i = 0;

    while (i < DURATION_BUCKETS - 1 && seconds > bounds[i])
        i++;
    nx_lock(&d->lock);
    d->last[d->count % KEPT].at_ns = clock_mono_ns();
    d->last[d->count % KEPT].s = seconds;
    d->count++;
    d->sum += seconds;
    d->bucket[i]++;
    nx_unlock(&d->lock);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void durations_read(struct durations *d, struct durations_view *out)
{
    static const double at[] = {0.01, 0.05, 0.5, 0.9, 0.99};
    int64_t now = clock_mono_ns();
    double v[KEPT];
    size_t n = 0;

    *out = (struct durations_view){0};
    for (size_t i = 0; i < NX_COUNT(at); i++)
        out->quantile[i] = (double)NAN;
    if (!d)
        return;
    nx_lock(&d->lock);
    out->count = d->count;
    out->sum = d->sum;
    for (size_t i = 0; i < DURATION_BUCKETS; i++)
        out->bucket[i] = d->bucket[i];
    for (size_t i = 0; i < KEPT && i < d->count; i++)
        if (now - d->last[i].at_ns <= WINDOW_NS)
            v[n++] = d->last[i].s;
    nx_unlock(&d->lock);
    qsort(v, n, sizeof *v, compare);
    for (size_t i = 0; n && i < NX_COUNT(at); i++)
        out->quantile[i] = v[(size_t)(at[i] * (double)(n - 1) + 0.5)];
}
