/* eval.h - the columnar evaluator's vocabulary. Private to promql/.
 *
 * A node is evaluated over all steps of the query at once. What a vector node gives is a set of
 * rows, one a series: a value and a presence byte for each step. Rows are lazy where they can be:
 * labels are known at once, values are made when a row is pulled, into the caller's buffers, so an
 * aggregation holds one row of its input at a time.
 *
 * Units    milliseconds.
 * Memory   values live in the work arena, labels in the result's; both go with the query.
 * Threads  nodes are evaluated by one thread. While it uses up the rows of one, others may pull later rows of it
 *          (eval_ahead.c), each with a fork: a struct eval of its own, where work, col, annots, lane and what is
 *          held differ, and a copy of the chain of rows. So a pull writes to its eval, its ctx and `into` alone,
 *          and a fork has a ctx of its own, if pulls write there. A pull that failed may be tried again. */
#pragma once

#include "promql/annot.h"
#include "promql/ast.h"
#include "promql/funcs.h"

/* The times a node is evaluated at: start, start + step, ... n of them, none after `end`, which is the end
 * that was asked for and need not be one of them. */
struct eval_times {
    int64_t start, step, end;
    uint32_t n;
    struct eval_counts *counts; /* where rows of these times count their samples */
};
/* Times beyond any data, so that adding durations to them can't overflow. */
static inline int64_t eval_clamp_time(int64_t t)
{
    const int64_t most = INT64_MAX / 4;

    return t > most ? most : t < -most ? -most : t;
}
static inline int64_t eval_time(const struct eval_times *tm, uint32_t k)
{
    return tm->start + (int64_t)k * tm->step;
}

struct row {
    double *v;
    uint8_t *has;
    uint32_t points; /* how many steps have one */
};

struct eval;
struct rows;
/* Makes row i: fills all tm->n values (absent ones with anything) and presence bytes. */
typedef nx_status rows_pull_fn(struct eval *ev, struct rows *r, size_t i, struct row *into,
                               struct nx_err *err);

/* Gives a copy of r for another thread what it needs for pulling, in to->work: copy->ctx, if pulls write to it.
 * copy->child is a copy already. */
typedef nx_status rows_fork_fn(struct eval *to, const struct rows *r, struct rows *copy,
                               struct nx_err *err);

struct rows {
    const struct eval_times *tm; /* lives in the work arena */
    size_t n;
    struct labels *labels;
    struct row *data;   /* not NULL: the rows are made already */
    rows_pull_fn *pull; /* else this makes them */
    void *ctx;          /* pull's own */
    rows_fork_fn *fork; /* NULL: they are one thread's alone */
    struct rows *child; /* what pull reads from; may be NULL */
    uint8_t *drop;      /* rows whose name goes when the query ends (delayed removal); NULL: none */
    uint64_t held;      /* samples counted against the limit on behalf of these rows */
    struct {
        bool on;         /* helpers may come to pull some */
        size_t look_at;  /* at this row it is thought over, */
        size_t from;     /* by what the rows from this one on took, */
        int64_t from_ns; /* which was begun then */
    } ahead;
};

/* The very same: of series of which some labels were left out, neighbours often have them in common. */
static inline bool labels_are(const struct labels *a, const struct labels *b)
{
    return a->v == b->v && a->n == b->n;
}

struct eval_selection { /* a selector that was answered: identical ones share */
    const struct matcher *m;
    size_t n;
    int64_t mint, maxt;
    struct series_list list;
    struct eval_selection *next;
};

struct eval {
    struct arena *work, *out;  /* values; labels and the result */
    struct arena_share *share; /* both count here; borrowed */
    const struct pql_source *source;
    struct querier *querier; /* NULL when nothing is selected */
    int64_t lookback_ms, default_step_ms;
    int64_t q_start_ms, q_end_ms, q_step_ms; /* the query's own; step 0 of an instant query */
    bool instant;
    bool delayed_names; /* names that functions drop stay until the end */
    uint64_t max_samples, held, peak;
    uint64_t asked;        /* the most that held was asked to be */
    size_t column_samples; /* of one series that are decoded at a time, if its window has no more */
    struct eval_counts *counts; /* newest first */
    uint8_t lane;               /* which of the tallies of each counts is this thread's */
    int64_t deadline_ns;        /* on the steady clock */
    uint64_t spent;             /* see eval_spend() */
    const int *cancel;
    struct column col; /* the one decoded series */
    struct annots annots;
    struct eval_selection *selections;
    const struct label_names
        *only;               /* what is looked at of the labels of the next selection; NULL: all */
    struct workers *helpers; /* borrowed; NULL: there are none */
    size_t ahead_rows;       /* see pql_engine_opts */
    struct crew *crew;       /* at work on rows; NULL: there is none */
    bool helped;             /* there was one, */
    size_t helped_to_bytes;  /* and when the last had gone, these were taken */
    struct leaves *leaves;   /* leaves.h; NULL: no two selectors are alike */
};

/* ---- counts.c: samples taken ------------------------------------------------------------------- */

struct eval_tally {
    uint64_t total, read; /* samples by step; those that no step before had */
};
#define EVAL_LANES 8 /* threads that may pull rows of one query */
struct eval_counts {
    struct eval_tally lanes[EVAL_LANES];  /* each is one thread's */
    uint64_t *total_at, *read_at;         /* of each step; atomic; NULL: nobody asks */
    const struct eval_times *tm, *parent; /* its own; those that it is a part of */
    enum { COUNTS_QUERY, COUNTS_ONCE, COUNTS_WINDOWS, COUNTS_RESULT } kind;
    int64_t range_ms, offset_ms; /* of a subquery */
    struct eval_counts *next;
};
/* Gives tm its counts: those of the query itself, which may be asked for each step. */
NX_NODISCARD nx_status counts_new(struct eval *ev, struct eval_times *tm, bool by_step,
                                  struct nx_err *err);
/* ... of what is evaluated at `once` and stands for all of parent. */
NX_NODISCARD nx_status counts_once(struct eval *ev, struct eval_times *once,
                                   const struct eval_times *parent, struct nx_err *err);
/* ... of a subquery whose windows the parent's steps see. */
NX_NODISCARD nx_status counts_subquery(struct eval *ev, struct eval_times *inner,
                                       const struct eval_times *parent, int64_t range_ms,
                                       int64_t offset_ms, struct nx_err *err);
/* The query's own counts, all others put into them: what it took, in the first lane. For when nothing is
 * pulled any more; NULL: none were made. The arrays are in the result arena. */
const struct eval_counts *counts_settle(struct eval *ev);

void counts_instants_at(struct eval_counts *c, const struct row *row);
/* Each point of a row is a sample. */
static inline void count_instants(struct eval *ev, const struct eval_times *tm,
                                  const struct row *row)
{
    struct eval_tally *t = &tm->counts->lanes[ev->lane];

    t->total += row->points;
    t->read += row->points;
    if (tm->counts->read_at)
        counts_instants_at(tm->counts, row);
}
/* Windows [lo, hi) of the steps [from, to), by step, over samples the first `before` of which the step before
 * `from` had; `all` samples, `fresh` of which the window before lacked; 0 where these were counted when they were
 * read. */
struct windows_seen {
    const uint32_t *lo, *hi;
    uint32_t from, to, before;
    uint64_t all, fresh;
};
void counts_windows_at(struct eval_counts *c, const struct windows_seen *w);
static inline void count_windows(struct eval *ev, const struct eval_times *tm,
                                 const struct windows_seen *w)
{
    struct eval_tally *t = &tm->counts->lanes[ev->lane];

    t->total += w->all;
    t->read += w->fresh;
    if (tm->counts->read_at)
        counts_windows_at(tm->counts, w);
}

/* ---- eval.c: nodes -------------------------------------------------------------------------- */

NX_NODISCARD nx_status eval_rows(struct eval *ev, const struct pql_expr *e,
                                 const struct eval_times *tm, struct rows **out,
                                 struct nx_err *err);
/* A scalar node: tm->n values in the work arena. */
NX_NODISCARD nx_status eval_scalar(struct eval *ev, const struct pql_expr *e,
                                   const struct eval_times *tm, double **out, struct nx_err *err);
/* The same for an argument that stands behind vectors, whose rows are lazy and made later. Of a text that both tell
 * the last place counts (annot.c, N1), and that is the scalar's: *told, which may hold what others told before, takes
 * what it told, for eval_told_behind() to repeat when row i, the last one, was pulled. */
NX_NODISCARD nx_status eval_scalar_behind(struct eval *ev, const struct pql_expr *e,
                                          const struct eval_times *tm, double **out,
                                          struct annots *told, struct nx_err *err);
void eval_told_behind(struct eval *ev, const struct rows *r, size_t i, const struct annots *told);
/* Why a query stopped: NX_TIMEOUT or NX_CANCELED, while it was in `where`. */
nx_status eval_stopped(nx_status st, const char *where, struct nx_err *err);
#define EVAL_WHERE "expression evaluation"
/* NX_TIMEOUT or NX_CANCELED when it is time to stop. */
NX_NODISCARD nx_status eval_check(const struct eval *ev, struct nx_err *err);
/* So many samples, or what costs as much, are about to be gone over: eval_check() after each million, which is some
 * milliseconds. */
#define EVAL_SPEND_MOST ((uint64_t)1 << 20)
NX_NODISCARD static inline nx_status eval_spend(struct eval *ev, uint64_t samples,
                                                struct nx_err *err)
{
    ev->spent += samples;
    if (ev->spent < EVAL_SPEND_MOST)
        return NX_OK;
    ev->spent = 0;
    return eval_check(ev, err);
}
/* Checks the durations of the tree and finds the times its selectors read. *any tells whether there
 * is a selector at all. */
NX_NODISCARD nx_status eval_span(const struct eval *ev, const struct pql_expr *e, int64_t *mint,
                                 int64_t *maxt, bool *any, struct nx_err *err);
NX_NODISCARD nx_status eval_dur(const struct eval *ev, const struct pql_dur *d,
                                bool may_be_negative, int64_t *ms, struct nx_err *err);
const struct pql_expr *eval_unparen(const struct pql_expr *e);
struct nx_slice
eval_string(const struct pql_expr *e); /* a string literal, perhaps in parentheses */
bool eval_at(const struct eval *ev, const struct pql_shift *shift,
             int64_t *at_ms); /* false: no @ */

/* ---- fold.c: constants ------------------------------------------------------------------------- */

/* A tree with the same answers in which constant scalars are numbers. It shares with `e`, which stays as it is
 * and must outlive it; new nodes are in the work arena. */
NX_NODISCARD nx_status fold_constants(struct eval *ev, const struct pql_expr *e,
                                      const struct eval_times *tm, const struct pql_expr **out,
                                      struct nx_err *err);

/* ---- eval_rows.c: rows, samples, label tables -------------------------------------------------- */

/* Rows with room for n labels (uninitialised, n set), no data. */
NX_NODISCARD nx_status rows_new(struct eval *ev, const struct eval_times *tm, size_t n,
                                struct rows **out, struct nx_err *err);
/* Rows that pull from `child` and have its labels. `pull` does not write to ctx. */
NX_NODISCARD nx_status rows_over(struct eval *ev, struct rows *child, rows_pull_fn *pull, void *ctx,
                                 struct rows **out, struct nx_err *err);
NX_NODISCARD nx_status row_new(struct eval *ev, const struct eval_times *tm, struct row *row,
                               struct nx_err *err);
/* Fills the caller's buffers, or points *row at rows made already (then not to be written to). */
NX_NODISCARD nx_status rows_pull(struct eval *ev, struct rows *r, size_t i, struct row *into,
                                 struct nx_err *err);
NX_NODISCARD nx_status rows_view(struct eval *ev, struct rows *r, size_t i,
                                 const struct row *scratch, struct row *row, struct nx_err *err);
/* Makes all rows; those without a point are left out. What views saw before is not valid any more. */
NX_NODISCARD nx_status rows_make(struct eval *ev, struct rows *r, struct nx_err *err);
/* The rows are used up: their samples no longer count. */
void rows_release(struct eval *ev, struct rows *r);

/* Two rows with equal labels become one; having a point at the same step is the labelset error. With
 * `strict` it is the error even if they have not. */
NX_NODISCARD nx_status rows_merge(struct eval *ev, struct rows *r, bool strict, struct nx_err *err);
/* Removes __name__ from all labels, then as rows_merge(); or marks all rows where that is delayed. */
NX_NODISCARD nx_status rows_drop_names(struct eval *ev, struct rows *r, bool strict,
                                       struct nx_err *err);
/* __name__, and __type__ and __unit__ that say more about it. */
bool label_goes_with_name(struct nx_slice name);
/* The names that were to be dropped go. */
NX_NODISCARD nx_status rows_settle_names(struct eval *ev, struct rows *r, struct nx_err *err);
static inline bool row_drops(const struct rows *r, size_t i)
{
    return r->drop && r->drop[i];
}

/* Counts samples that are held now; NX_EXEC with Prometheus's text past the limit. */
NX_NODISCARD nx_status eval_hold(struct eval *ev, struct rows *r, uint64_t n, struct nx_err *err);
NX_NODISCARD nx_status eval_room(struct eval *ev, uint64_t extra, struct nx_err *err);
nx_status eval_too_many(struct nx_err *err); /* its error */
/* Samples of a series, stale markers among them, that are too many in any case. */
static inline size_t eval_most(const struct eval *ev)
{
    const uint64_t most = ev->max_samples < SIZE_MAX / 4 ? 2 * ev->max_samples : SIZE_MAX / 2;

    return most > ev->column_samples ? (size_t)most : ev->column_samples;
}
/* Why the work or result arena said no, in the words of the sample limit. */
NX_NODISCARD nx_status eval_nomem(const struct eval *ev, const struct arena *a, struct nx_err *err);
/* The same of anything else that counts in ev->share and failed with `st`; err has its text already. */
NX_NODISCARD nx_status eval_no_memory(const struct eval *ev, nx_status st, struct nx_err *err);
NX_NODISCARD nx_status eval_same_labelset(struct nx_err *err);

#define LABEL_MEMO_NAMES 3u
/* Numbers label sets, or parts of them, in order of appearance. */
struct label_index {
    struct arena *a;
    const struct nx_slice *names; /* sorted; with `some` only these count (on), or all but these */
    size_t n_names;
    bool some, on;
    struct label_slot {
        uint64_t hash;
        const struct labels *ls; /* NULL: free */
        uint32_t id;
    } * slots;
    size_t cap, n;
    /* With `on`: where a set's labels are that have the names, and what their values gave before. Sets of one
     * selection share their strings, so the same places mean the same. */
    uint32_t at[LABEL_MEMO_NAMES];
    struct nx_slice at_name[LABEL_MEMO_NAMES]; /* ptr NULL: not known */
    struct label_memo *memo;
    size_t n_seen;
};
void label_index_init(struct label_index *x, struct arena *a);
void label_index_some(struct label_index *x, struct arena *a, const struct nx_slice *names,
                      size_t n, bool on);
/* Finds or adds; `ls` is borrowed while the index is in use. */
NX_NODISCARD nx_status label_index_add(struct eval *ev, struct label_index *x,
                                       const struct labels *ls, uint32_t *id, bool *created,
                                       struct nx_err *err);
/* UINT32_MAX if it is not there. */
uint32_t label_index_find(const struct label_index *x, const struct labels *ls);

/* A sorted copy of a list of names. */
NX_NODISCARD nx_status names_sorted(struct eval *ev, const struct nx_slice *names, size_t n,
                                    struct nx_slice **out, struct nx_err *err);
bool names_have(const struct nx_slice *names, size_t n, struct nx_slice name);
/* Copies what a builder holds into the result arena. */
NX_NODISCARD nx_status labels_keep(struct eval *ev, struct labels_builder *b, struct labels *out,
                                   struct nx_err *err);
/* Only `names` (on), or all labels but `names` and __name__. */
NX_NODISCARD nx_status labels_some(struct eval *ev, const struct labels *ls,
                                   const struct nx_slice *names, size_t n, bool on,
                                   struct labels *out, struct nx_err *err);

/* ---- eval_ahead.c: several threads --------------------------------------------------------------- */

/* The caller is going to view or pull all rows, in order and each once: where that pays, helpers make some of them
 * meanwhile. What a view showed is then valid until the next one. */
void rows_ahead(struct eval *ev, struct rows *r);
/* Nobody makes rows any more. rows_make() and rows_release() do that of their rows. */
void ahead_end(struct eval *ev);
/* The query, which failed for its memory, might not have without helpers. */
bool ahead_may_have_failed(const struct eval *ev);
/* rows_view() of rows with `ahead.on`. */
NX_NODISCARD nx_status ahead_view(struct eval *ev, struct rows *r, size_t i,
                                  const struct row *scratch, struct row *row, struct nx_err *err);
/* For rows whose pull does not write to their ctx. */
NX_NODISCARD nx_status rows_fork_shared(struct eval *to, const struct rows *r, struct rows *copy,
                                        struct nx_err *err);

/* ---- eval_select.c: selectors, ranges, subqueries ---------------------------------------------- */

NX_NODISCARD nx_status eval_selector(struct eval *ev, const struct pql_expr *e,
                                     const struct eval_times *tm, bool sample_times,
                                     struct rows **out, struct nx_err *err);
/* Nothing is asked of labels of the rows of `e` but what the caller looks at (and their names): it may set ev->only
 * while it has these rows made. */
bool eval_needs_only(const struct eval *ev, const struct pql_expr *e);
/* Of these rows nobody will look at the values: those of a selector need not be decoded. */
void rows_only_marks(struct rows *r);
/* Instant samples of one series over the steps; with sample_times the values are their times in s. */
void select_instants(const struct column *c, const struct eval_times *tm, const int64_t *pin,
                     int64_t offset_ms, int64_t lookback_ms, bool sample_times, struct row *into);

/* Where a function over ranges gets its samples: a range selector or a subquery. */
struct range_source {
    size_t n;
    struct labels *labels;
    int64_t range_ms, offset_ms;
    bool pinned;
    int64_t pin_ms;
    bool anchored, smoothed;
    int64_t lookback_ms;
    int64_t mint, maxt;    /* what is read, */
    struct read_hint hint; /* and what a function reads it for */
    const struct series_list *list;
    struct rows *inner; /* of a subquery */
    struct row scratch;
    int64_t *t; /* buffers for samples that are not used as they were read */
    double *v;
    size_t cap;
};
struct samples { /* no stale markers in it */
    const int64_t *t;
    const double *v;
    size_t n;
};
/* Functions of a range: one row a series. */
NX_NODISCARD nx_status eval_range_call(struct eval *ev, const struct pql_expr *e,
                                       const struct eval_times *tm, struct rows **out,
                                       struct nx_err *err);
/* A range vector as the result of an instant query. */
NX_NODISCARD nx_status eval_matrix(struct eval *ev, const struct pql_expr *e,
                                   const struct eval_times *tm, struct pql_series **out, size_t *n,
                                   struct nx_err *err);

/* One series and the windows of all steps: step k sees samples [lo[k], hi[k]). */
struct pql_slide {
    const int64_t *t;
    const double *v;
    size_t n;
    const uint32_t *lo, *hi;
    const struct eval_times *tm;
    int64_t range_ms;         /* of the selector */
    const int64_t *end;       /* end of the window of each step */
    const double *const *arg; /* scalar arguments, by step */
    struct eval *ev;
    const struct pql_expr *e; /* the call */
    nx_status *failed;        /* set by slide_stops(), with err */
    struct nx_err *err;
    bool anchored, smoothed;
    double *scratch; /* room for n + 2 values; for four times as many with PQL_F_ROOMY */
    /* Two values a step for what times alone decide. *noted tells whether the kernel has written them, for
     * a series before this one that has the same times. */
    double *notes;
    bool *noted;
};
struct pql_window {
    const int64_t *t;
    const double *v;
    size_t n;           /* at least 1 */
    int64_t start, end; /* the range is (start, end] */
    int64_t eval_ms;
    double *scratch; /* n values */
    struct eval *ev;
    const struct pql_expr *e;
    nx_status *failed; /* set by a kernel that can't go on, with err */
    struct nx_err *err;
    bool anchored, smoothed;
};

/* ---- kernels over whole nodes ------------------------------------------------------------------ */

struct pql_call {
    struct eval *ev;
    const struct pql_expr *e;
    const struct eval_times *tm;
    struct rows *rows; /* what a vector function leaves */
    double *scalar;    /* what a scalar function leaves: tm->n values */
};

NX_NODISCARD nx_status eval_aggregate(struct eval *ev, const struct pql_expr *e,
                                      const struct eval_times *tm, struct rows **out,
                                      struct nx_err *err);
NX_NODISCARD nx_status eval_vector_binop(struct eval *ev, const struct pql_expr *e,
                                         const struct eval_times *tm, struct rows **out,
                                         struct nx_err *err);
/* out[k] = a[k] op b[k]; comparisons give a[k] and clear keep[k] where they fail. */
void binop_apply(enum pql_op op, const double *a, const double *b, size_t n, double *out,
                 uint8_t *keep);
double binop_scalar(enum pql_op op, double a, double b);

/* quantile of n values (reordered), as Prometheus interpolates; NaNs sort first. n may be 0. */
double quantile_of(double q, double *values, size_t n);
static inline void kahan_add(double x, double *sum, double *c)
{
    double t = *sum + x;

    if (__builtin_isinf(t))
        *c = 0;
    else if (__builtin_fabs(*sum) >= __builtin_fabs(x))
        *c += (*sum - t) + x;
    else
        *c += (x - t) + *sum;
    *sum = t;
}
