/* delete.c - samples are deleted: in the head and in all blocks, for good.
 *
 * RULES   L1  A deletion waits until no flush and no merge is under way (turns.c): every sample is in one
 *             place, and stays there until that place has its tombstone.
 *         L2  What went wrong in one place is reported, and what was deleted in others stays deleted.
 *             Asking again is right and harmless.
 *         L3  Cleaning goes block by block: the new one is there before the old one goes, so it never needs
 *             the space of more than one. Between two blocks others have their turn.
 *         L4  A block that leaves the list meanwhile (retention) takes its samples with it. */
#include <stdio.h>
#include <stdlib.h>

#include "storage/compact.h"
#include "storage/storage_impl.h"

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for deleting samples");
}

char *delete_note_path(const struct storage *s)
{
    char *path;

    return asprintf(&path, "%s/wal/deleted", s->dir) < 0 ? NULL : path;
}

nx_status blocks_list(struct storage *s, struct block ***out, size_t *n_out, struct nx_err *err)
{
    struct block **v;

    nx_lock(&s->lock);
    v = malloc((s->n_blocks + 1) * sizeof(struct block *));
    for (size_t i = 0; v && i < s->n_blocks; i++)
        v[i] = block_ref(s->blocks[i]);
    *n_out = v ? s->n_blocks : 0;
    nx_unlock(&s->lock);
    *out = v;
    return v ? NX_OK : no_memory(err);
}

void blocks_list_done(struct block **v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        block_unref(v[i]);
    free(v);
}

bool blocks_has(struct storage *s, const struct block *b)
{
    bool has = false;

    nx_lock(&s->lock);
    for (size_t i = 0; i < s->n_blocks && !has; i++)
        has = s->blocks[i] == b;
    nx_unlock(&s->lock);
    return has;
}

static nx_status delete_in_blocks(struct storage *s, const struct matcher_set *set, int64_t mint,
                                  int64_t maxt, struct nx_err *err)
{
    struct block **v = NULL;
    size_t n = 0;
    struct nx_err why;
    nx_status st = blocks_list(s, &v, &n, err);

    for (size_t i = 0; i < n; i++) {
        nx_status here = block_delete(v[i], set->m, set->n, mint, maxt, NULL, &why);
        if (here && blocks_has(s, v[i])) /* L4 */
            st = nx_fail(err, here, "block %s: %s", block_meta(v[i])->ulid, why.text);
    }
    blocks_list_done(v, n);
    return st;
}

nx_status storage_delete(struct storage *s, const struct matcher_set *sets, size_t n_sets,
                         int64_t mint, int64_t maxt, struct nx_err *err)
{
    char *path = delete_note_path(s);
    nx_status st = path ? NX_OK : no_memory(err);

    work_take(s, WORK_FLUSH | WORK_MERGE); /* L1 */
    for (size_t i = 0; i < n_sets && !st; i++) {
        st = head_delete(s->head, s->fs, path, sets[i].m, sets[i].n, mint, maxt, err);
        if (!st)
            st = delete_in_blocks(s, &sets[i], mint, maxt, err);
    }
    work_give(s, WORK_FLUSH | WORK_MERGE);
    free(path);
    return st;
}

/* ---- cleaning -------------------------------------------------------------------------------- */

static bool has_tombs(struct block *b)
{
    uint64_t series, spans;

    block_count_tombs(b, &series, &spans);
    return series > 0;
}

static nx_status called_off(struct nx_err *err)
{
    return nx_fail(err, NX_CANCELED, "cleaning tombstones was called off");
}

static nx_status clean_block(struct storage *s, struct block *b, struct nx_err *err)
{
    nx_status st;

    do {
        st = NX_OK;
        work_take(s, WORK_MERGE);
        if (atomic_load(&s->no_admin))
            st = called_off(err);
        else if (has_tombs(b) && blocks_has(s, b)) /* a merge may have taken care of it */
            st = compact_rewrite(s->compactor, b, err);
        work_give(s, WORK_MERGE);
    } while (st == NX_CANCELED && !atomic_load(&s->no_admin)); /* else a deletion had its turn */
    return st && st != NX_CANCELED && !blocks_has(s, b) ? NX_OK : st; /* L4 */
}

void storage_stop_admin(struct storage *s)
{
    atomic_store(&s->no_admin, true); /* first: it is looked at after each turn */
    atomic_store(&s->give_way, true);
}

nx_status storage_clean_tombstones(struct storage *s, struct nx_err *err)
{
    struct block **v = NULL;
    size_t n = 0;
    nx_status st = blocks_list(s, &v, &n, err);

    for (size_t i = 0; i < n && !st; i++) { /* L3 */
        if (has_tombs(v[i]))
            st = clean_block(s, v[i], err);
        block_unref(v[i]); /* else its files keep their space until the end */
        v[i] = NULL;
    }
    blocks_list_done(v, n);
    return st;
}
