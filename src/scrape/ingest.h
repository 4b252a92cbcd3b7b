/* ingest.h - from the bytes of one exposition to one row of the store. Private to src/scrape.
 *
 * Owner    a struct ingest belongs to a target, a struct ingest_scratch to a worker.
 * Threads  the worker that has the target; the metadata may be read by others under the status lock.
 * Order    of calls for each scrape: ingest_body() or ingest_nothing(), then ingest_commit(). */
#pragma once

#include "src/scrape/layout.h"
#include "src/scrape/meta.h"
#include "src/scrape/series.h"
#include "storage/storage.h"

/* The series that every scrape adds, in the order of report_names[]. */
enum report {
    REPORT_UP,
    REPORT_DURATION,
    REPORT_SCRAPED,
    REPORT_POST_RELABEL,
    REPORT_ADDED,
    REPORT_PLAIN_COUNT,
    REPORT_TIMEOUT = REPORT_PLAIN_COUNT, /* from here on with extra_scrape_metrics */
    REPORT_SAMPLE_LIMIT,
    REPORT_BODY_BYTES,
    REPORT_COUNT
};

/* Series with timestamps of their own. Those that came with one timestamp are together in a group if they
 * are a few: a container's samples, say, share the time of its last look. The others are in one loose
 * group. */
struct stamped_group {
    struct storage_group *group; /* NULL: a free place */
    uint32_t n_slots;            /* that are in it */
    uint32_t n_cols;             /* one more than the highest column it had */
};
#define STAMPED_LOOSE UINT32_MAX
struct stamped {
    uint32_t group, col; /* STAMPED_LOOSE: of the loose group */
    bool used;           /* false: a free slot */
};

struct ingest {
    struct storage_group *group; /* NULL until the first scrape */
    struct layout layout;
    struct stamped *stamped; /* slots */
    uint32_t n_stamped;
    uint32_t next_slot; /* no slot before it is free */
    struct stamped_group *stamped_groups;
    uint32_t n_stamped_groups;
    struct storage_group *loose; /* NULL: nothing needed it yet */
    uint32_t n_loose_cols;       /* one more than the highest column it had */
    bool ended;                  /* the series of the layout got their stale markers */
    bool relearn;                /* labels are made otherwise now: no line is known */
    uint8_t report_known;        /* bit per report: its column is there */
    uint8_t report_exposed;      /* bit per report: the target exposes the same series, and wins */
    uint32_t report_cols[REPORT_COUNT];
    uint32_t iter; /* scrapes that parsed */
    struct meta meta;
};

/* What all targets share. */
struct ingest_env {
    struct storage *storage;
    struct memory *memory;        /* NULL: no limit */
    struct intern *pool;          /* metadata texts */
    struct nx_mutex *status_lock; /* see meta.h */
};

struct fresh_series {     /* not known before this scrape */
    struct labels labels; /* in the scratch's arena */
    uint32_t what;        /* how the line is known from now on */
    bool stamped, used;
    int64_t ts_ms; /* stamped: of its first sample */
};
struct stamp { /* a sample with a timestamp of its own */
    uint32_t slot;
    uint32_t turn; /* how many samples of the series this scrape has before */
    int64_t ts_ms;
    double value;
};
struct ingest_scratch {
    struct buf line;
    struct layout_table table;
    struct layout_builder builder;
    struct layout next; /* takes the place of the target's when the row is in */
    bool changed;       /* the body was not that of the layout */
    uint32_t n_alike;   /* bodies since one that was not; a few are counted */
    bool ends;          /* a scrape without samples: all series get stale markers */
    struct relabel_work series;
    struct arena *arena;
    struct sample { /* the samples of the body, in its order */
        uint32_t what;
        double value;
        int64_t ts_ms;
    } * samples;
    uint32_t n_samples, cap_samples;
    struct fresh_series *fresh;
    uint32_t n_fresh, cap_fresh;
    uint32_t *cols; /* the row */
    double *values;
    uint32_t n_row, cap_row;
    uint32_t n_row_samples; /* of them: exposed ones, the rest are stale markers and reports */
    uint8_t *seen, *seen_stamped;      /* bit per column, per slot */
    size_t cap_seen, cap_seen_stamped; /* bytes */
    struct stamp *stamps, *sorted;     /* cap_stamps each, as stamp_cols and stamp_values */
    uint32_t *stamp_cols;
    double *stamp_values;
    uint32_t n_stamps, cap_stamps;
    uint32_t *stamp_counts; /* by group */
    uint32_t cap_stamp_counts;
    uint8_t *turns;   /* by slot; up to 255 */
    uint32_t n_turns; /* of which are good */
    uint32_t cap_turns;
    struct storage_sample *loose;
    uint32_t n_loose, cap_loose;
    struct noted_exemplar { /* of the body, in its order */
        uint32_t sample;
        struct nx_slice text; /* in the body */
    } * exemplars;
    uint32_t n_exemplars, cap_exemplars;
    uint32_t *stale_slots; /* stamped series to end */
    uint32_t n_stale_slots, cap_stale_slots;
    uint8_t exposed;          /* as report_exposed, for the next layout */
    nx_status stamped_failed; /* why a sample with a timestamp could not be appended */
};
NX_NODISCARD nx_status ingest_scratch_init(struct ingest_scratch *s, struct nx_err *err);
void ingest_scratch_done(struct ingest_scratch *s);
/* Gives back memory that an unusually large target made it take, or that bodies like the last ones don't
 * need. */
void ingest_scratch_trim(struct ingest_scratch *s);

struct ingest_result {
    uint32_t scraped, post_relabel, added;
    uint32_t refused; /* new series that the store did not take */
    uint32_t out_of_order, duplicate, out_of_bounds;
    uint32_t exemplar_out_of_order;
    bool sample_limit, label_limit; /* that limit failed the scrape */
};

struct ingest_target {
    const struct sample_rules *rules;
    const struct labels *labels; /* to be attached */
};

/* Reads a body (body[len] is '\n') and makes the row. On failure the row is that of a failed scrape:
 * stale markers for all that was there; res still tells the counts. */
NX_NODISCARD nx_status ingest_body(struct ingest *in, const struct ingest_env *env,
                                   const struct ingest_target *t, enum expo_format format,
                                   const char *body, size_t len, int64_t now_ms,
                                   struct ingest_scratch *s, struct ingest_result *res,
                                   struct nx_err *err);
/* Makes the row of a scrape without samples: failed, or successful and empty. */
NX_NODISCARD nx_status ingest_nothing(struct ingest *in, const struct ingest_env *env,
                                      const struct ingest_target *t, struct ingest_scratch *s,
                                      struct nx_err *err);
/* Adds the reports to the row and appends it at t_ms. The layout of this scrape is the target's from
 * here on, whatever the store says. */
NX_NODISCARD nx_status ingest_commit(struct ingest *in, const struct ingest_env *env,
                                     const struct ingest_target *t, int64_t t_ms,
                                     const double *reports, unsigned n_reports,
                                     struct ingest_scratch *s, struct ingest_result *res,
                                     struct nx_err *err);

/* Stale markers for all of it, reports included. For a target that is gone. */
NX_NODISCARD nx_status ingest_end(struct ingest *in, const struct ingest_env *env,
                                  const struct ingest_target *t, int64_t t_ms,
                                  struct ingest_scratch *s, struct nx_err *err);
/* The rules or the target's labels changed: the next scrape makes all labels anew; series that it does
 * not have any more get stale markers. */
void ingest_relearn(struct ingest *in);
void ingest_done(struct ingest *in, struct intern *pool);
