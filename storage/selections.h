/* selections.h - which series of the head a selector gave the last time, in the order of their labels.
 *
 * WHY      Rules and dashboards ask the same again and again, and series are rarely new. Looking up and sorting
 *          what a selector matches costs more than reading the few samples of it that a rule needs.
 * Owner    one per head.
 * Threads  selections_*_locked need the index lock, for reading; what they give is immutable and shared by
 *          reference. */
#pragma once

#include "storage/index.h"

struct selection {
    uint32_t refs; /* atomic */
    size_t n;
    const uint32_t *ids;   /* all that match, as labels_cmp() sorts them */
    const uint32_t *homes; /* places in ids, series of one group one after the other, by column */
};
void selection_unref(const struct selection *s); /* accepts NULL */

struct selections;
struct selections *selections_new(void); /* NULL out of memory */
void selections_free(struct selections *x);
/* Gives all up: memory is short. Any thread, without locks. */
void selections_forget(struct selections *x);

/* A reference on what is known of these matchers and is still true, or NULL. *ask: it is worth telling. */
const struct selection *selections_find_locked(struct selections *x, const struct index *ix,
                                               const struct matcher *m, size_t n, bool *ask);
/* Keeps what the matchers gave, as labels sort it; copied. A reference, or NULL: it is not kept. */
const struct selection *selections_tell_locked(struct selections *x, const struct index *ix,
                                               const struct matcher *m, size_t n, struct ids ids);
