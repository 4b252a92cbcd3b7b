/* turns.c - who may change blocks now.
 *
 * WHY     A flush takes samples out of the head into a block, a merge takes them from some blocks to
 *         another. A deletion that comes in between would be true of the old place and not of the new
 *         one; a snapshot would have the samples twice or never.
 * RULES   W1  Flush and merge go on beside one another, one of each. What waits for both gets them when
 *             neither is under way, in the order of asking; nothing else begins while somebody waits.
 *         W2  The worker and the compactor do not wait: they come again. So a deletion never delays the sync
 *             of the log.
 *         W3  A merge may take minutes, so it gives way: what it wrote so far is thrown away. */
#include "storage/storage_impl.h"

bool work_try(struct storage *s, unsigned what)
{
    bool mine;

    nx_lock(&s->lock);
    mine = !(s->working & what) && s->work_ticket == s->work_served;
    if (mine)
        s->working |= what;
    if (mine && (what & WORK_MERGE))
        atomic_store(&s->give_way, false);
    nx_unlock(&s->lock);
    return mine;
}

void work_take(struct storage *s, unsigned what)
{
    uint64_t ticket;

    nx_lock(&s->lock);
    ticket = s->work_ticket++;
    while ((s->working & what) || s->work_served != ticket) {
        atomic_store(&s->give_way, true);
        nx_cond_wait(&s->work_done, &s->lock);
    }
    s->work_served++;
    s->working |= what;
    if ((what & WORK_MERGE) && s->work_served == s->work_ticket)
        atomic_store(&s->give_way, false);
    nx_cond_broadcast(&s->work_done); /* the next one may want something else */
    nx_unlock(&s->lock);
}

void work_give(struct storage *s, unsigned what)
{
    nx_lock(&s->lock);
    NX_ASSERT((s->working & what) == what);
    s->working &= ~what;
    nx_cond_broadcast(&s->work_done);
    nx_unlock(&s->lock);
}
