/* define.h - which series the columns of a group are, as bytes: in the log and in chunk files.
 *
 * Neighbouring columns have most labels in common, so each is told against the one before.
 * On disk: FORMAT.md, "Columns". Threads: any; reading the index needs its lock. */
#pragma once

#include "src/base/labels.h"
#include "storage/index.h"

/* Appends column `col` of series `s`, bound to it from row `from` on (NULL: not told). `before` is the series of
 * the column before in the same payload, or NULL. */
void define_put(struct buf *to, const struct index *ix, uint32_t col, const uint32_t *from,
                const struct memseries *s, const struct memseries *before);

/* Reads columns one by one. Zero it once, then define_begin() for each payload. */
struct define_reader {
    struct reader in;
    bool with_from;
    bool plain;           /* as the first version of the log had it: each column in full */
    struct label *labels; /* of the column read last; define_done() frees */
    uint32_t n, cap;
};
/* From here on columns of `in`, to its end. */
static inline void define_begin(struct define_reader *d, struct reader in, bool with_from,
                                bool plain)
{
    d->in = in;
    d->with_from = with_from;
    d->plain = plain;
    d->n = 0;
}
/* NX_CORRUPT: the bytes make no sense. `ls` is valid until the next one, its strings as long as the payload. */
NX_NODISCARD nx_status define_get(struct define_reader *d, uint32_t *col, uint32_t *from,
                                  struct labels *ls, struct nx_err *err);
void define_done(struct define_reader *d);
