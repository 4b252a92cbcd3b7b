/* wal_pack.h - the rows of a group one after the other, as bits.
 *
 * Each column has a state that follows from what it did in the rows before: how often it changed, how
 * many bits its changes took, how many digits it has. Writer and reader keep the same states, so what a
 * column does as always costs next to nothing. On disk: FORMAT.md, "Packed rows".
 *
 * Threads  any; pure functions of their arguments. */
#pragma once

#include "src/base/buf.h"

typedef uint16_t wal_pack_state; /* 0: of a column that no row had yet */

/* Digits after the point that the column's changes had last; 15: they were no decimals. */
static inline unsigned wal_pack_digits(wal_pack_state s)
{
    return s >> 10 & 15u;
}

/* Appends v[0..n) to `to`, told against prev[0..n_prev) (what is missing there counts as absent), and
 * moves state[0..n) on. Failures show in buf_status(to). */
void wal_pack_encode(struct buf *to, const double *v, size_t n, const double *prev, size_t n_prev,
                     wal_pack_state *state);
/* Reads all that is left in r as n values into v, which may be prev. False when the bytes make no
 * sense; v and state are of no use then. */
bool wal_pack_decode(struct reader *r, double *v, size_t n, const double *prev, size_t n_prev,
                     wal_pack_state *state);
