/* sync.c - when the log is synced, and who waits for it.
 *
 * WHY     What power loss may take is bounded by the time between two syncs, whatever else the worker does: a
 *         block takes seconds. And who acknowledges a write may want to wait until it is on disk.
 * SHAPE   One at a time works on the log's files: who has the turn. A thread sleeps until something was
 *         written and its time has come, and syncs. A waiter that finds the turn free takes it and syncs for
 *         all that came before it; the others wait for that (group commit).
 * RULES   Y1  A sync is for those that asked before it began, and its failure is theirs.
 *         Y2  After a failure the worker moves the log to a new segment and writes again what may be lost
 *             (storage.c, S3); until that is done every sync fails, and is tried again.
 *         Y3  The log sets the thread's alarm with the first frame after a sync (wal_watch). What is
 *             written while a sync is under way has its time from when that began.
 * THREADS log_lock is not held while the log is worked on. */
#include "src/base/clock.h"
#include "storage/storage_impl.h"

void log_turn_take(struct storage *s)
{
    nx_lock(&s->log_lock);
    while (s->log_busy)
        nx_cond_wait(&s->log_free, &s->log_lock);
    s->log_busy = true;
    nx_unlock(&s->log_lock);
}

void log_turn_give(struct storage *s)
{
    nx_lock(&s->log_lock);
    s->log_busy = false;
    nx_cond_broadcast(&s->log_free);
    nx_unlock(&s->log_lock);
}

/* With the turn. Y2 */
static nx_status sync_for_all(struct storage *s, struct nx_err *err)
{
    nx_status st;

    if (s->relog_due)
        return nx_fail(err, NX_IO, "%s: the log is being written again", s->dir);
    st = wal_sync(s->wal, err);
    if (!st)
        atomic_fetch_add(&s->head->wal_epoch, 1);
    else if (!atomic_exchange(&s->sync_trouble, true)) /* Y2 */
        nx_alarm_ring(&s->worker_alarm);
    return st;
}

nx_status storage_sync_wait(struct storage *s, struct nx_err *err)
{
    uint64_t mine, upto;
    nx_status st = NX_OK;
    struct nx_err why = {0};

    nx_lock(&s->log_lock);
    mine = ++s->sync_asked;
    while (s->sync_done < mine && s->sync_failed < mine) {
        if (s->log_busy) {
            nx_cond_wait(&s->log_free, &s->log_lock);
            continue;
        }
        s->log_busy = true;
        upto = s->sync_asked; /* Y1 */
        nx_unlock(&s->log_lock);
        st = sync_for_all(s, &why);
        nx_lock(&s->log_lock);
        s->log_busy = false;
        if (st) {
            s->sync_failed = upto;
            s->sync_error = why;
        } else {
            s->sync_done = upto;
        }
        nx_cond_broadcast(&s->log_free);
    }
    st = s->sync_done >= mine ? NX_OK : NX_IO;
    why = s->sync_error;
    nx_unlock(&s->log_lock);
    return st ? nx_fail(err, st, "%s", why.text) : NX_OK;
}

static void work(void *arg)
{
    struct storage *s = arg;

    nx_alarm_wait(&s->sync_alarm);
    while (!atomic_load(&s->stop_syncing)) {
        int64_t start_ns = clock_mono_ns(), left_ms;
        nx_status st = storage_sync_wait(s, NULL); /* the worker is told of a failure, and tells */

        left_ms = s->fsync_ms - (clock_mono_ns() - start_ns) / 1000000;
        if (st)
            nx_alarm_set(&s->sync_alarm, s->fsync_ms);
        else if (wal_unsynced(s->wal)) /* Y3 */
            nx_alarm_set(&s->sync_alarm, left_ms > 0 ? left_ms : 0);
        nx_alarm_wait(&s->sync_alarm);
    }
}

nx_status sync_open(struct storage *s, bool thread, struct nx_err *err)
{
    nx_status st;

    if (!thread)
        return NX_OK;
    st = nx_thread_start(&s->syncer, "sync", work, s, err);
    s->has_syncer = !st;
    return st;
}

void sync_close(struct storage *s)
{
    if (!s->has_syncer)
        return;
    atomic_store(&s->stop_syncing, true);
    nx_alarm_ring(&s->sync_alarm);
    nx_thread_join(&s->syncer);
    s->has_syncer = false;
}
