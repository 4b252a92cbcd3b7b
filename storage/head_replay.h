/* head_replay.h - what head_load.c and head_replay.c share: a start under way. Private to them. */
#pragma once

#include "storage/define.h"
#include "storage/head.h"

/* A column that a segment of the log defines, while its rows are ones that a chunk file had. */
struct rdefined {
    uint32_t col, series;
};

struct rgroup {
    struct storage_group *g; /* NULL: a hole */
    uint32_t segment;        /* of the log, that last defined it */
    uint32_t next;           /* number of its next row there */
    bool judged;             /* version 1: rows have no numbers, so samples are judged by time */
    bool has_row;
    int64_t t_ms;
    double *row;            /* the one before */
    wal_pack_state *states; /* of packed rows; cap of both */
    uint32_t n, cap;
    uint32_t n_states;        /* columns that a packed row had */
    struct rdefined *defined; /* to be bound with the first row that is taken */
    uint32_t n_defined, cap_defined;
};

struct replay {
    struct head *h;
    struct loose_replay *loose; /* of the log; while chunk files are read, of those */
    struct rgroup *groups;      /* by number, open addressing */
    uint32_t mask, n;
    uint64_t samples;
    struct define_reader def;
};

/* The group of that number, made if need be; *out NULL never with NX_OK. */
NX_NODISCARD nx_status replay_group(struct replay *r, uint32_t id, struct rgroup **out,
                                    struct nx_err *err);
/* g NULL: there is none. */
struct rgroup *replay_find(struct replay *r, uint32_t id);
/* The next column of r->def and its series, made if need be. Under h->lock for writing. */
NX_NODISCARD nx_status replay_column(struct replay *r, uint32_t *col, uint32_t *from,
                                     struct memseries **out, struct nx_err *err);
/* Numbers of series and their labels, to the end: as a segment of the log calls them, or a chunk file. */
NX_NODISCARD nx_status replay_loose_series(struct replay *r, uint32_t segment, struct reader in,
                                           bool plain, struct nx_err *err);
/* The homes of series that have several, in order of time; those without samples go. */
void replay_order_homes(struct head *h);
