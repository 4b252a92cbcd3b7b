/* ticker.c - the thread that runs the store's tick, and when.
 *
 * WHY     Flushes, chunk files, retention and what memory pressure asks for are done in a tick. Most of the time
 *         a tick finds nothing to do, and a thread that wakes each second for that costs a small machine more
 *         than scraping does.
 * SHAPE   The thread sleeps on an alarm. What makes work at once rings it; what is only waited for (a reader
 *         that holds something back, a disk that fails, memory that is short) is looked at each second as long
 *         as it lasts; all else, like retention by time, can wait for the next slow tick.
 * RULES   K1  These ring: a log segment that is full and rows that pass the next half of a block's span
 *             (each span's end and each flush lies on one); a sync that failed; a shortage of memory;
 *             another retention or other rules; other blocks, by a merge or points of a coarser
 *             resolution; the end.
 *         K2  The slow deadline is set before what would make a sooner one is looked at: what comes about
 *             later rings. */
#include "src/base/clock.h"
#include "storage/storage_impl.h"

#define SOON_MS    1000
#define BUSY_MS    15000 /* chunks in memory are joined as often, if many are made */
#define SLOW_MS    60000
#define BUSY_BYTES (256u << 10) /* of log, from tick to tick */

void storage_ring(struct storage *s)
{
    nx_alarm_ring(&s->worker_alarm);
}

/* K1: the head rings when its newest time comes to this. */
static void watch_time(struct storage *s)
{
    int64_t newest_ms = atomic_load(&s->head->max_ms), half = s->block_ms / 2, at = INT64_MAX;

    if (newest_ms == INT64_MIN)
        at = newest_ms + 1; /* with the first sample */
    else if (half > 0 && newest_ms < INT64_MAX - s->block_ms)
        at = (floor_div(newest_ms, half) + 1) * half;
    atomic_store(&s->head->ring_at_ms, at);
    if (at != INT64_MAX && atomic_load(&s->head->max_ms) >= at)
        storage_ring(s);
}

static void work(void *arg)
{
    struct storage *s = arg;
    int64_t soon_ms = s->fsync_ms < SOON_MS ? s->fsync_ms : SOON_MS;
    struct wal_stats log = {0};

    while (!atomic_load(&s->stop)) {
        uint64_t before = log.written_bytes;
        storage_tick(s, clock_now_ms());
        wal_get_stats(s->wal, &log);
        nx_alarm_set(&s->worker_alarm,
                     log.written_bytes - before > BUSY_BYTES ? BUSY_MS : SLOW_MS); /* K2 */
        watch_time(s);
        if (storage_waits(s))
            nx_alarm_set(&s->worker_alarm, soon_ms);
        nx_alarm_wait(&s->worker_alarm);
    }
}

nx_status ticker_open(struct storage *s, struct nx_err *err)
{
    nx_status st;

    /* Without a syncer appends sync what they write themselves. */
    wal_watch(s->wal, s->has_syncer ? &s->sync_alarm : NULL, s->fsync_ms, &s->worker_alarm);
    s->head->worker = &s->worker_alarm;
    st = nx_thread_start(&s->worker, "storage", work, s, err);
    s->has_worker = !st;
    return st;
}

void ticker_close(struct storage *s)
{
    if (!s->has_worker)
        return;
    atomic_store(&s->stop, true);
    storage_ring(s);
    nx_thread_join(&s->worker);
    s->has_worker = false;
}
