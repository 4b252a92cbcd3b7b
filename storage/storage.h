/* storage.h - the time-series database: rows go in, columns come out.
 *
 * A writer (a scrape target, a rule group, a remote client) holds a *group*: a set of series that are
 * sampled together. It appends *rows*, one timestamp and one value per series. A row becomes visible
 * to readers all at once, and once storage_group_append() returned NX_OK it survives kill -9.
 * A reader opens a *querier* over a time range, selects series by matchers and reads them one by one
 * as two arrays, timestamps and values. On disk: FORMAT.md.
 *
 * Units    times are Unix milliseconds, sizes bytes; ranges include both ends unless said otherwise.
 * Threads  storage_* may be called from any thread. One group is written by one thread at a time;
 *          one querier is used by one thread at a time, but for its reads (querier_ops). Readers do not
 *          block writers for longer than it takes to copy an open tail. */
#pragma once

#include "src/base/arena.h"
#include "src/base/fs.h"
#include "src/base/labels.h"
#include "src/base/memory.h"
#include "src/base/regex.h"
#include "src/base/status.h"

struct storage;
struct storage_rules;

struct storage_opts {
    struct fs *fs;                     /* borrowed; outlives the storage */
    const char *dir;                   /* copied; made if missing */
    int64_t retention_ms;              /* 0: keep for ever */
    uint64_t retention_bytes;          /* 0: no bound */
    double retention_percent;          /* of the size of the disk; 0: no bound */
    const struct storage_rules *rules; /* copied; NULL: none */
    int64_t min_block_ms;              /* span of a first block; 0: two hours */
    int64_t out_of_order_window_ms;    /* see storage_set_out_of_order_window() */
    int64_t max_block_ms;     /* span that compaction stops at; 0: min(31d, retention/10) */
    bool keep_overlapping;    /* blocks that overlap are not merged for that */
    size_t wal_segment_bytes; /* 0: the default of storage/wal.h */
    int64_t fsync_ms;         /* the log is synced at least this often; 0: 1000 */
    bool fsync_each;          /* an append returns when it is on disk; many share a sync */
    size_t cache_bytes;       /* page cache; 0: 32 MiB */
    struct memory *memory; /* borrowed; outlives the storage; NULL: no limit. One store per meter */
    bool no_lockfile;
    bool no_worker; /* no background thread; the caller runs storage_tick() (tests) */
};

/* Opens or creates the folder: takes the lock, removes unfinished files, opens blocks, replays the
 * log. A torn or damaged part is set aside, logged and counted, and the rest is served.
 * Fails with NX_UNAVAILABLE when another process has the folder, NX_IO, NX_NOMEM. */
NX_NODISCARD nx_status storage_open(struct storage **out, const struct storage_opts *opts,
                                    struct nx_err *err);
/* Opens a folder to read it, and changes nothing in it: no file is made, cut or removed and no lock is
 * taken, so the folder may be in use and need not be writable. What is seen is what was there at some
 * moment during the call. Appends work and stay in memory; storage_tick() must not be called.
 * Fails with NX_NOTFOUND when there is no such folder, and as storage_open() does. */
NX_NODISCARD nx_status storage_open_readonly(struct storage **out, const struct storage_opts *opts,
                                             struct nx_err *err);
/* Syncs the log and closes. All groups and queriers must be closed before. Accepts NULL. */
void storage_close(struct storage *s);

/* What the worker does when it may be needed: flush blocks, chunk files, retention, free what is gone; and the
 * sync, in a store without threads. */
void storage_tick(struct storage *s, int64_t now_ms);
/* Whichever bound is met first decides; 0: it is none. */
struct storage_retention {
    int64_t time_ms;
    uint64_t bytes;
    double percent; /* of the size of the disk */
};
/* Reload: takes effect with the next tick. */
void storage_set_retention(struct storage *s, const struct storage_retention *r);

/* How far ahead of the clock a sample of a scrape or of a remote client may be: what is further is refused
 * by who takes it in. Rules and imports are not limited. */
#define STORAGE_FUTURE_MS (10 * 60 * 1000)

/* ---- writing ------------------------------------------------------------------------------- */

struct storage_group;

/* Counts of samples of one append. A refused sample is not an error: the others are in. */
struct storage_appended {
    uint32_t appended;
    uint32_t duplicate;     /* same time as an existing sample, other value */
    uint32_t out_of_order;  /* older than the newest sample of the series */
    uint32_t out_of_bounds; /* too old for the head */
    uint32_t too_old;       /* older than the window for samples out of order, which is not 0 */
};

/* A writer's handle. */
NX_NODISCARD nx_status storage_group_open(struct storage *s, struct storage_group **out,
                                          struct nx_err *err);
/* Its data stays; its series stay known until they have left the head. Accepts NULL. */
void storage_group_close(struct storage_group *g);

/* Finds or adds the column of `ls` (copied; must not be empty). *created tells whether the series was
 * new to the head (may be NULL). A series that another group writes may be added: both then write
 * to the same series under its order rules. NX_LIMIT: the store takes no new series now, for want of
 * memory; a series that it knows is never refused for that. */
NX_NODISCARD nx_status storage_group_column(struct storage_group *g, const struct labels *ls,
                                            uint32_t *col, bool *created, struct nx_err *err);
/* Whether the head knows the series. Costs a look-up and no memory. */
bool storage_knows(struct storage *s, const struct labels *ls);
/* The writer is done with a column (its series went away); the number may come back for another. */
void storage_group_release(struct storage_group *g, uint32_t col);
/* The series of a column of a group of rows goes to another group of the same writer: as released here and
 * found there, without a moment in between. On failure it is where it was. */
NX_NODISCARD nx_status storage_group_move(struct storage_group *from, uint32_t col,
                                          struct storage_group *to, uint32_t *out,
                                          struct nx_err *err);

/* Appends one row: values[i] is for column cols[i]; a column twice counts the second as duplicate.
 * Columns left out have no sample in this row. Rows may come out of order: then each sample is judged
 * by its series alone. Fails with NX_NOSPACE or NX_IO when the log can't take it: nothing of the row
 * is then visible, and the caller may try again with the next row. NX_LIMIT: a group takes two thousand
 * million rows, no more; another one can go on with its series. `res` may be NULL. */
NX_NODISCARD nx_status storage_group_append(struct storage_group *g, int64_t t_ms,
                                            const uint32_t *cols, const double *values, size_t n,
                                            struct storage_appended *res, struct nx_err *err);

/* A group whose series share their times with no other: a target's lines with timestamps of their own, a
 * remote client. Columns are found and released as any group's. Its samples are kept by series, not in
 * rows; as long as many share a time, rows take less of everything. */
NX_NODISCARD nx_status storage_group_open_loose(struct storage *s, struct storage_group **out,
                                                struct nx_err *err);

struct storage_sample {
    uint32_t col;
    int64_t t_ms;
    double value;
};
#define STORAGE_SAMPLES_MAX (1u << 20)

/* Appends samples to a loose group in the order given, n at most STORAGE_SAMPLES_MAX: each is judged after
 * the ones before it. One write to the log, and all become visible at once; only those of series that
 * other groups write too follow one by one. Fails as storage_group_append() does, and then nothing, or of
 * such series some, is in. `res` may be NULL. storage_group_append() works on a loose group, too. */
NX_NODISCARD nx_status storage_group_append_samples(struct storage_group *g,
                                                    const struct storage_sample *v, size_t n,
                                                    struct storage_appended *res,
                                                    struct nx_err *err);

/* Samples that are older than the newest of their series, or than the head takes otherwise, are taken all
 * the same if they are at most so much older than the newest of all series; what was stored first at a
 * time stays. 0: they are refused. From the next append on. */
void storage_set_out_of_order_window(struct storage *s, int64_t window_ms);

/* Returns when everything that was appended before the call, by any thread, is on disk. Callers that come
 * while a sync is under way share the next. NX_IO: it may not be; what was appended stays visible, survives
 * kill -9 and is written again. With fsync_each appends do this themselves. */
NX_NODISCARD nx_status storage_sync_wait(struct storage *s, struct nx_err *err);

/* ---- reading ------------------------------------------------------------------------------- */

enum matcher_type { MATCH_EQ, MATCH_NEQ, MATCH_RE, MATCH_NRE };

/* A label matcher. A label that a series lacks counts as empty. */
struct matcher {
    enum matcher_type type;
    struct nx_slice name, value;
    const struct regex *re; /* for MATCH_RE and MATCH_NRE; borrowed */
};
bool matcher_matches(const struct matcher *m, struct nx_slice value);
bool matchers_match(const struct matcher *m, size_t n, const struct labels *ls); /* all of them */
struct matcher_set {
    const struct matcher *m;
    size_t n;
};

/* One selected series. Labels live in the arena given to select; `ref` is the querier's own. */
struct series {
    struct labels labels;
    uint64_t ref;
};
struct series_list {
    struct series *v; /* sorted by labels, each label set once */
    size_t n;
};

/* What the samples that are read are for: where only points of a coarser resolution are kept, they tell
 * different things. */
enum read_use {
    READ_VALUE, /* the newest value at a time */
    READ_MIN,   /* the least one over a time, */
    READ_MAX,   /* the greatest, */
    READ_SUM,   /* their sum, */
    READ_COUNT, /* how many there were: a point's value is its count, 1 for a sample beside points */
    READ_COUNTER, /* how far a counter rose, resets counted */
    READ_CHANGE,  /* the change from the first to the last */
    READ_FALLS,   /* how often a counter was reset */
    READ_SHAPE    /* all of them, one by one */
};
/* And how: at times `first_ms` + k * step_ms (0: at that time alone), over the range_ms before each. */
struct read_hint {
    enum read_use use;
    int64_t first_ms, step_ms, range_ms; /* range 0: the newest value */
    bool marks; /* that there is a sample, and stale markers: numbers may come as any number */
};

/* Samples of one series in time order, stale markers included. t and v are borrowed from the column
 * and valid until the column is read into again or done; a column may be reused for many reads. The reader
 * sets share and most before the first of them; all else is the querier's. */
struct column {
    /* Counts what reads allocate, until the column is done or the querier is closed. Borrowed; NULL: nobody does. With
     * it a read may be of the whole list that select() gave, which then stays until the querier is closed. */
    struct arena_share *share;
    /* A read may stop once it has more samples than this: it fails with NX_LIMIT, `over` is set, and some of
     * the first of them are there, in order or not. 0: it may not. */
    size_t most;
    bool over;
    const int64_t *t;
    const double *v;
    size_t n;
    int64_t resolution_ms; /* of the coarsest points among them; 0: all are samples */
    int64_t coarse_to_ms;  /* those up to this time may be points */
    bool exact; /* points, but for these times as good as samples: docs/DOWNSAMPLING.md */
    void *own;  /* private to the implementation of the querier */
    void (*own_free)(void *own);
};
static inline void column_done(struct column *c)
{
    if (c->own_free)
        c->own_free(c->own);
    *c = (struct column){0};
}

/* What promql/ and the API read through: the store, the test store, remote read. */
struct querier {
    const struct querier_ops *ops;
};
struct label_names { /* each once */
    const struct nx_slice *v;
    size_t n;
};
struct querier_ops {
    /* Series that match all n matchers and may have samples in [mint, maxt]. */
    nx_status (*select)(struct querier *q, const struct matcher *m, size_t n, int64_t mint,
                        int64_t maxt, struct arena *a, struct series_list *out, struct nx_err *err);
    /* All samples of `s` in [mint, maxt] into `c`, replacing what it held. */
    nx_status (*read)(struct querier *q, const struct series *s, int64_t mint, int64_t maxt,
                      struct column *c, struct nx_err *err);
    /* Sorted, distinct label names (or values of `name`) of the series that match (n may be 0: all).
     * limit 0: none; else at most limit + 1 are returned, so that the caller can tell. */
    nx_status (*label_names)(struct querier *q, const struct matcher *m, size_t n, int64_t mint,
                             int64_t maxt, size_t limit, struct arena *a, struct nx_slice **out,
                             size_t *n_out, struct nx_err *err);
    nx_status (*label_values)(struct querier *q, struct nx_slice name, const struct matcher *m,
                              size_t n, int64_t mint, int64_t maxt, size_t limit, struct arena *a,
                              struct nx_slice **out, size_t *n_out, struct nx_err *err);
    void (*close)(struct querier *q);
    /* As read, for a use; may be NULL where there are samples alone. Points may be older than mint by twice
     * their resolution, if they are not exact. */
    nx_status (*read_for)(struct querier *q, const struct series *s, const struct read_hint *h,
                          int64_t mint, int64_t maxt, struct column *c, struct nx_err *err);
    /* As select, for who wants to know what there is and no more than `most` (> 0) of it: which ones is not said,
     * and there may be more. A series may lack a part of its samples. May be NULL. */
    nx_status (*select_some)(struct querier *q, const struct matcher *m, size_t n, int64_t mint,
                             int64_t maxt, size_t most, struct arena *a, struct series_list *out,
                             struct nx_err *err);
    /* As select, for who looks at no labels but those of some names: others may be left out. Series are as many,
     * and in the same order. May be NULL. */
    nx_status (*select_for)(struct querier *q, const struct matcher *m, size_t n, int64_t mint,
                            int64_t maxt, const struct label_names *only, struct arena *a,
                            struct series_list *out, struct nx_err *err);
    /* read and read_for may be at work in several threads at a time, each with a column of its own, and nothing
     * else of the querier meanwhile. */
    bool reads_side_by_side;
};

/* A consistent view of head and blocks over [mint, maxt]. Blocks it uses stay until it is closed. */
NX_NODISCARD nx_status storage_querier(struct storage *s, int64_t mint, int64_t maxt,
                                       struct querier **out, struct nx_err *err);
static inline void querier_close(struct querier *q)
{
    if (q)
        q->ops->close(q);
}

/* ---- what is kept, series by series ---------------------------------------------------------- */

/* Series that the matchers match are kept for so long, and not for the retention's time: be it shorter or
 * longer. Bounds of size hold all the same. */
struct storage_keep_rule {
    struct matcher_set match;
    int64_t keep_ms; /* > 0 */
};
/* Blocks whose end is `after_ms` behind the newest block's are kept as points of windows of that length,
 * too, for keep_ms in all (docs/DOWNSAMPLING.md). Each level's times and resolution are above those of the one before,
 * and its resolution is a multiple. */
struct storage_level {
    int64_t after_ms, resolution_ms, keep_ms;
};
struct storage_rules {
    const struct storage_keep_rule *keep; /* the first that matches a series decides */
    size_t n_keep;
    const struct storage_level *levels; /* of downsampling; none: there is none */
    size_t n_levels;
};
/* Reload: copied; NULL: no rules any more. Blocks are gone over in time, one by one. */
NX_NODISCARD nx_status storage_set_rules(struct storage *s, const struct storage_rules *rules,
                                         struct nx_err *err);

/* ---- exemplars ------------------------------------------------------------------------------ */

/* The newest exemplars of all series together, in memory only: a restart begins with none. There is room
 * for none until storage_set_max_exemplars(). */
struct storage_exemplar {
    struct labels labels; /* as exposed: not necessarily without empty values */
    double value;
    int64_t t_ms;
    bool has_ts; /* the target wrote the time; else it is the sample's */
};
enum storage_exemplar_result {
    EXEMPLAR_OFF,
    EXEMPLAR_STORED,
    EXEMPLAR_NO_MEMORY, /* not kept: the process is at its memory limit */
    EXEMPLAR_SAME,      /* as the newest one of its series */
    EXEMPLAR_OLD        /* older than that; counted */
};

/* Keeps at most `max` exemplars, the newest of those that are there; 0 or less: off, all go. */
void storage_set_max_exemplars(struct storage *s, int64_t max);
bool storage_exemplars_on(struct storage *s); /* costs next to nothing */

/* Adds one (copied) to the series of these labels, which the store need not know. `got` may be NULL.
 * NX_BADINPUT: its labels have more than 128 characters. */
NX_NODISCARD nx_status storage_exemplar_add(struct storage *s, const struct labels *series,
                                            const struct storage_exemplar *e,
                                            enum storage_exemplar_result *got, struct nx_err *err);
/* The same for the series of a column, by the group's writer. `a` is as before when it returns. */
NX_NODISCARD nx_status storage_exemplar_add_column(struct storage *s, struct storage_group *g,
                                                   uint32_t col, const struct storage_exemplar *e,
                                                   struct arena *a,
                                                   enum storage_exemplar_result *got,
                                                   struct nx_err *err);

struct storage_exemplar_series {
    struct labels series;
    struct storage_exemplar *v; /* in time order */
    size_t n;                   /* at least one */
};
struct storage_exemplar_list {
    struct storage_exemplar_series *v; /* sorted by labels, each label set once */
    size_t n;
};
/* Exemplars in [mint, maxt] of the series that match any of the sets, copied into the arena. */
NX_NODISCARD nx_status storage_select_exemplars(struct storage *s, const struct matcher_set *sets,
                                                size_t n_sets, int64_t mint, int64_t maxt,
                                                struct arena *a, struct storage_exemplar_list *out,
                                                struct nx_err *err);

/* ---- administration -------------------------------------------------------------------------- */

/* Deletes what is stored now in [mint, maxt] of the series that match any of the sets: hidden at once from
 * new queriers, after a restart too, and gone from disk when its blocks are next written anew. Samples
 * that are appended later are visible. A failure may leave a part deleted; then it can be asked again.
 * Waits for a flush that is under way; a merge gives way to it. */
NX_NODISCARD nx_status storage_delete(struct storage *s, const struct matcher_set *sets,
                                      size_t n_sets, int64_t mint, int64_t maxt,
                                      struct nx_err *err);

/* Writes blocks with deleted samples anew without them, one after the other; those of which nothing is left
 * go. Takes as long as that takes. */
NX_NODISCARD nx_status storage_clean_tombstones(struct storage *s, struct nx_err *err);

#define STORAGE_SNAPSHOTS           "snapshots" /* the folder in the data folder */
#define STORAGE_SNAPSHOT_NAME_BYTES 34u         /* YYYYMMDDTHHMMSSZ-, 16 hex digits, a zero */

/* Makes the folder snapshots/NAME: all that is stored now, as a data folder of its own, blocks by hard links
 * where the file system has them. skip_head: without what is not in a block yet. Appends go on; flushes
 * wait. On failure there is no such folder. */
NX_NODISCARD nx_status storage_snapshot(struct storage *s, bool skip_head,
                                        char name[STORAGE_SNAPSHOT_NAME_BYTES], struct nx_err *err);

/* Calls off what the three functions above are doing that may take long: they fail with NX_CANCELED, now and
 * from now on. For an end that is near. */
void storage_stop_admin(struct storage *s);

/* ---- what is in it -------------------------------------------------------------------------- */

/* How late samples were: seconds, bounds of a histogram's buckets. */
#define STORAGE_LATE_BOUNDS 7
extern const double storage_late_bounds[STORAGE_LATE_BOUNDS];

struct storage_stats {
    uint64_t head_series, head_groups, head_chunks, head_samples_appended;
    int64_t head_min_ms, head_max_ms; /* INT64_MAX, INT64_MIN when empty */
    uint64_t series_created, series_removed;
    uint64_t out_of_order, duplicates, out_of_bounds, too_old;
    uint64_t out_of_order_appended; /* taken, as the window allows */
    uint64_t late[STORAGE_LATE_BOUNDS +
                  1]; /* of all that came out of order; not cumulative, +Inf last */
    uint64_t late_ms; /* the sum */
    uint64_t wal_bytes, wal_segment, wal_fsyncs, wal_corruptions, wal_truncations;
    uint64_t wal_append_failures, wal_replay_ms;
    uint64_t wal_written_bytes; /* since the start */
    uint64_t chunk_files, chunk_file_bytes, chunk_written_bytes, chunks_stored, chunks_damaged;
    uint64_t blocks, block_bytes, block_loads_failed, blocks_set_aside;
    int64_t oldest_ms; /* lowest timestamp stored; INT64_MAX when empty */
    int64_t newest_ms; /* none is higher; INT64_MIN when empty */
    uint64_t compactions, compactions_failed, retention_deletions, size_retention_deletions;
    struct storage_retention retention; /* as it was set */
    uint64_t downsampled;               /* blocks of points that were made */
    uint64_t rewrites, samples_expired; /* blocks written again by rules, and what those left out */
    uint64_t disk_bytes; /* size of the disk, when it was last asked for `percent`; 0: not known */
    uint64_t cache_bytes, cache_limit_bytes, symbol_bytes, symbols, label_pairs;
    uint64_t pages_damaged;
    uint64_t exemplars, exemplar_series, exemplars_max; /* held, whose, room for */
    uint64_t exemplars_appended, exemplars_out_of_order;
    int64_t exemplar_oldest_ms; /* 0: there is none */
};
void storage_get_stats(struct storage *s, struct storage_stats *out);

/* The tables of /api/v1/status/tsdb over the head; each sorted by value, largest first, `limit` rows. */
struct storage_count {
    struct nx_slice name;
    uint64_t value;
};
struct storage_cardinality {
    struct storage_count *by_metric, *values_by_label, *bytes_by_label, *by_pair; /* in the arena */
    size_t n_by_metric, n_values_by_label, n_bytes_by_label, n_by_pair;
};
NX_NODISCARD nx_status storage_get_cardinality(struct storage *s, size_t limit, struct arena *a,
                                               struct storage_cardinality *out, struct nx_err *err);

/* ---- looking into blocks --------------------------------------------------------------------- */

/* What tools show of the blocks on disk, one by one; the head is not among them. */
struct storage_block_info {
    char ulid[27];
    int64_t min_ms, max_ms; /* max exclusive */
    uint64_t samples, chunks, series, bytes;
    uint32_t level;
    int64_t resolution_ms; /* of a block of points; 0: of samples */
};
/* Tells every block of the folder, by time. Fails with NX_CORRUPT at one that does not open. */
NX_NODISCARD nx_status storage_list_blocks(struct fs *fs, const char *dir,
                                           void (*seen)(void *ctx,
                                                        const struct storage_block_info *b),
                                           void *ctx, struct nx_err *err);

/* A series of a block. */
struct storage_block_series {
    struct labels labels;   /* in the arena */
    int64_t min_ms, max_ms; /* of its first and last sample */
};
struct storage_block_chunk {
    uint64_t samples, bytes;
};
struct storage_block;
/* Opens one block of the folder; `ulid` NULL: the one with the highest ULID. `fs` is borrowed. NX_NOTFOUND. */
NX_NODISCARD nx_status storage_block_open(struct storage_block **out, struct fs *fs,
                                          const char *dir, const char *ulid, struct nx_err *err);
void storage_block_close(struct storage_block *b); /* accepts NULL */
void storage_block_get_info(const struct storage_block *b, struct storage_block_info *out);
/* Series that match all n matchers (0: all series), in label order; `each` may use the labels during the
 * call. Memory does not grow with their number unless there are matchers. */
typedef nx_status storage_block_series_fn(void *ctx, uint64_t number,
                                          const struct storage_block_series *s, struct nx_err *err);
NX_NODISCARD nx_status storage_block_each_series(struct storage_block *b, const struct matcher *m,
                                                 size_t n, storage_block_series_fn *each, void *ctx,
                                                 struct nx_err *err);
/* The chunks of series `number`. */
NX_NODISCARD nx_status storage_block_each_chunk(struct storage_block *b, uint64_t number,
                                                void (*each)(void *ctx,
                                                             const struct storage_block_chunk *c),
                                                void *ctx, struct nx_err *err);

/* Something that is not as FORMAT.md wants it. */
struct storage_problem {
    const char *file;
    int64_t offset;   /* of the page or record; -1: none in particular */
    const char *what; /* with series and times, where they can be told */
};
struct storage_verified {
    uint64_t blocks, series, samples, pages;
    uint64_t problems, notes;
};
typedef void storage_problem_fn(void *ctx, const struct storage_problem *p);
/* Checks every block of the folder: each checksum, each order rule, that everything decodes and that the
 * files say the same. Tells each problem to `problem` and what is worth knowing but no problem to `note`. Blocks
 * that are deleted meanwhile are passed over. Fails only when it can't go on. */
NX_NODISCARD nx_status storage_verify_blocks(struct fs *fs, const char *dir,
                                             storage_problem_fn *problem, storage_problem_fn *note,
                                             void *ctx, struct storage_verified *out,
                                             struct nx_err *err);

/* The same for chunk files, those records that blocks hold by now included. */
NX_NODISCARD nx_status storage_verify_head_files(struct fs *fs, const char *dir,
                                                 storage_problem_fn *problem, void *ctx,
                                                 struct storage_verified *out, struct nx_err *err);

/* ---- loading in bulk ------------------------------------------------------------------------ */

/* Writes finished blocks into a folder from samples in any order, as `tsdb create-blocks-from` does.
 * Samples are held per series in compressed form and cut into aligned blocks of block_ms. */
struct storage_import;
struct storage_import_block {
    char ulid[27];
    int64_t min_ms, max_ms; /* max exclusive */
    uint64_t samples, chunks, series, bytes;
};
/* `dir` is made when the first byte is written. */
NX_NODISCARD nx_status storage_import_open(struct storage_import **out, struct fs *fs,
                                           const char *dir, int64_t block_ms, struct nx_err *err);
/* Returns a handle for a label set (copied), to be used while the import is open. */
NX_NODISCARD nx_status storage_import_series(struct storage_import *im, const struct labels *ls,
                                             uint32_t *ref, struct nx_err *err);
NX_NODISCARD nx_status storage_import_add(struct storage_import *im, uint32_t ref, int64_t t_ms,
                                          double v, struct nx_err *err);
/* Writes the blocks and tells each to `seen` (may be NULL). */
NX_NODISCARD nx_status storage_import_finish(struct storage_import *im,
                                             void (*seen)(void *ctx,
                                                          const struct storage_import_block *b),
                                             void *ctx, struct nx_err *err);
void storage_import_close(
    struct storage_import *im); /* accepts NULL; without finish, nothing is left */

/* Names the blocks of an import: `ulid` is filled for the block of the span that begins at `from_ms`. False leaves
 * that block out (it is there already). Set before finish; NULL: names are made from the clock. */
typedef bool storage_import_name_fn(void *ctx, int64_t from_ms, char ulid[27]);
void storage_import_set_names(struct storage_import *im, storage_import_name_fn *name, void *ctx);
/* What finish dropped because the series had a sample of that time: with the same bits, with others. */
void storage_import_dropped(const struct storage_import *im, uint64_t *equal,
                            uint64_t *conflicting);

/* Writes one block from series in the order of their labels, each as a whole, so that nothing needs to be
 * held: for who has them sorted. Two rounds: survey() of all samples first, in any order, which finds the
 * timestamps that series of one (instance, job) share; then series(). Memory: those timestamps, and what the
 * index needs. */
struct storage_load;
struct storage_load_opts {
    struct fs *fs;    /* borrowed */
    const char *dir;  /* borrowed; the data folder, which must exist */
    const char *ulid; /* copied */
};
NX_NODISCARD nx_status storage_load_open(struct storage_load **out,
                                         const struct storage_load_opts *opts, struct nx_err *err);
/* t ascends strictly; n may be 0. */
NX_NODISCARD nx_status storage_load_survey(struct storage_load *l, const struct labels *ls,
                                           const int64_t *t, size_t n, struct nx_err *err);
/* NX_BADINPUT: not in order, and nothing was written; or not surveyed, and the block is to be given up. */
NX_NODISCARD nx_status storage_load_series(struct storage_load *l, const struct labels *ls,
                                           const int64_t *t, const double *v, size_t n,
                                           struct nx_err *err);
/* Publishes the block. NX_NOTFOUND: it would be empty, and there is none. */
NX_NODISCARD nx_status storage_load_finish(struct storage_load *l, struct storage_import_block *b,
                                           struct nx_err *err);
void storage_load_close(struct storage_load *l); /* accepts NULL; without finish, nothing is left */

/* Names every block that the samples in `dir` came from: those that are there, and those that were merged into
 * them. A folder that is missing has none; what can't be read is passed over. */
NX_NODISCARD nx_status storage_origins(struct fs *fs, const char *dir,
                                       nx_status (*visit)(void *ctx, const char *ulid,
                                                          struct nx_err *err),
                                       void *ctx, struct nx_err *err);
