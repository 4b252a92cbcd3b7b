/* wal_row.h - one row of values as bytes, told by what changed since the row before.
 *
 * Most lines of a scrape do not change, most that do are counters that moved by a little, and most of
 * the rest are decimals of a few digits. Loose samples and small seals are kept so; the rows of a group
 * are packed closer (wal_pack.h). On disk: FORMAT.md, "Rows in the log".
 *
 * Threads  any; pure functions of their arguments. */
#pragma once

#include "src/base/buf.h"

/* Appends v[0..n) to `to`, told against prev[0..n_prev) (what is missing there counts as absent).
 * hints[0..n) is the encoder's memory per column: zero at first, kept from row to row by the caller;
 * the decoder does without. Failures show in buf_status(to). */
void wal_row_encode(struct buf *to, const double *v, size_t n, const double *prev, size_t n_prev,
                    uint8_t *hints);

/* Reads n values into v; v may be prev. False when the bytes make no sense. */
bool wal_row_decode(struct reader *r, double *v, size_t n, const double *prev, size_t n_prev);

/* The same coding down a column, each value told against the one before: for a few rows (at most
 * WAL_ROW_COLUMN_MAX) that are kept for a short time, at a tenth of what a chunk costs to make. */
#define WAL_ROW_COLUMN_MAX 64u
/* digits: that the column's values are likely to have after their points; 0: anything. */
void wal_row_encode_column(struct buf *to, const double *v, size_t n, unsigned digits);
/* All of `bytes` is the column. False when it makes no sense. */
bool wal_row_decode_column(struct nx_slice bytes, double *v, size_t n);
