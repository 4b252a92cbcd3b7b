/* resolve.c - samples to columns, columns to a row.
 *
 * RULES   R1  Two lines that end as one series are one sample: the first counts, later ones are
 *             duplicates (SCR-083).
 *         R2  A report series that the target exposes itself is the target's (SCR-090): no report is
 *             written over it, and its column is never released or marked stale here.
 *         R3  Stale markers go to columns of the old layout that the new one lacks, unless they have
 *             theirs already (in->ended).
 *         R4  Columns go back to the store after the row with their stale markers is in.
 *         R5  A series that the store refuses (it is full) fails nothing: its line stays unknown and is
 *             tried again at the next scrape.
 *         R6  Samples with timestamps of their own go by group and timestamp, one row each. A new series
 *             joins the group that has its timestamp in this scrape; if there is none, but the timestamp
 *             is that of SHARE_MIN samples or more, it gets a new one; else it goes to the loose group,
 *             whose samples are appended all at once.
 *             A group whose series part, so that its rows are nearly empty, is dissolved: they go to the
 *             loose group.
 *         R7  Several samples of one series are appended in the order of their lines, so that the order
 *             rules see what the target said first. */
#include "src/scrape/resolve.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/num.h"

static const char *const report_names[REPORT_COUNT] = {
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
};

/* ---- small things ----------------------------------------------------------------------------- */

static bool bit_get(const uint8_t *bits, uint32_t i)
{
    return bits[i >> 3] >> (i & 7) & 1;
}

static void bit_set(uint8_t *bits, uint32_t i)
{
    bits[i >> 3] |= (uint8_t)(1u << (i & 7));
}

/* Cleared bits 0..n-1. */
static bool bits_ready(uint8_t **bits, size_t *cap, uint32_t n)
{
    size_t need = n / 8 + 1;

    if (need > *cap) {
        uint8_t *v = realloc(*bits, need * 2);
        if (!v)
            return false;
        *bits = v;
        *cap = need * 2;
    }
    memset(*bits, 0, need);
    return true;
}

static bool row_room(struct ingest_scratch *s, uint64_t more)
{
    uint64_t need = s->n_row + more, cap = s->cap_row ? s->cap_row : 512;
    uint32_t *cols;
    double *values;

    if (need <= s->cap_row)
        return true;
    while (cap < need)
        cap *= 2;
    cols = reallocarray(s->cols, cap, sizeof *cols);
    if (cols)
        s->cols = cols;
    values = reallocarray(s->values, cap, sizeof *values);
    if (values)
        s->values = values;
    if (!cols || !values || cap > UINT32_MAX)
        return false;
    s->cap_row = (uint32_t)cap;
    return true;
}

static void push(struct ingest_scratch *s, uint32_t col, double value)
{
    s->cols[s->n_row] = col;
    s->values[s->n_row++] = value;
}

static bool push_stale_slot(struct ingest_scratch *s, uint32_t slot)
{
    if (s->n_stale_slots == s->cap_stale_slots) {
        uint32_t cap = s->cap_stale_slots ? s->cap_stale_slots * 2 : 64;
        uint32_t *v = reallocarray(s->stale_slots, cap, sizeof *v);
        if (!v)
            return false;
        s->stale_slots = v;
        s->cap_stale_slots = cap;
    }
    s->stale_slots[s->n_stale_slots++] = slot;
    return true;
}

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory");
}

/* The report that has this column, or -1. */
static int report_of(const struct ingest *in, uint32_t col)
{
    for (int i = 0; i < REPORT_COUNT; i++)
        if ((in->report_known >> i & 1) && in->report_cols[i] == col)
            return i;
    return -1;
}

/* ---- groups and columns ------------------------------------------------------------------------ */

static nx_status find_reports(struct ingest *in, const struct ingest_target *t, unsigned n,
                              struct ingest_scratch *s, struct nx_err *err)
{
    for (unsigned i = 0; i < n; i++) {
        struct labels ls;
        nx_status st;
        if (in->report_known >> i & 1)
            continue;
        st = series_report_labels(report_names[i], t->labels, &s->series, &ls, err);
        if (!st)
            st = storage_group_column(in->group, &ls, &in->report_cols[i], NULL, err);
        if (st && st != NX_LIMIT) /* R5 */
            return st;
        if (!st)
            in->report_known |= (uint8_t)(1u << i);
    }
    return NX_OK;
}

nx_status resolve_ready(struct ingest *in, const struct ingest_env *env,
                        const struct ingest_target *t, struct ingest_scratch *s, struct nx_err *err)
{
    nx_status st = NX_OK;

    if (!in->group)
        st = storage_group_open(env->storage, &in->group, err);
    return st ? st : find_reports(in, t, REPORT_PLAIN_COUNT, s, err);
}

/* The timestamps of this scrape: how many samples have one, and which group. A small table that takes the
 * first ones; what does not fit is nobody's. */
#define MOMENTS   1024u
#define PROBES    8u
#define SHARE_MIN 8u /* a group for fewer takes more memory than they do in the loose group */
struct moment {
    int64_t ts_ms;
    uint32_t n;     /* samples; 0: a free place */
    uint32_t group; /* + 1; 0: none */
};
struct moments {
    struct moment v[MOMENTS];
};

/* NULL: there is no place for it. */
static struct moment *moment(struct moments *m, int64_t ts_ms)
{
    size_t at = (size_t)(((uint64_t)ts_ms * 0x9e3779b97f4a7c15ull) >> 54);

    for (size_t i = 0; i < PROBES; i++) {
        struct moment *x = &m->v[(at + i) % MOMENTS];
        if (x->n == 0)
            x->ts_ms = ts_ms;
        if (x->ts_ms == ts_ms)
            return x;
    }
    return NULL;
}

static void note_moments(const struct ingest *in, const struct ingest_scratch *s, struct moments *m)
{
    memset(m, 0, sizeof *m);
    for (uint32_t i = 0; i < s->n_samples; i++) {
        uint32_t what = s->samples[i].what, index = line_index(what);
        struct moment *x;
        if (line_kind(what) != LINE_STAMPED &&
            !(line_kind(what) == LINE_NEW && s->fresh[index].stamped))
            continue;
        x = moment(m, s->samples[i].ts_ms);
        if (!x)
            continue;
        x->n++;
        if (line_kind(what) == LINE_STAMPED && in->stamped[index].group != STAMPED_LOOSE)
            x->group = in->stamped[index].group + 1;
    }
}

struct storage_group *resolve_stamped_group(const struct ingest *in, uint32_t group)
{
    return group == STAMPED_LOOSE ? in->loose : in->stamped_groups[group].group;
}

static nx_status open_stamped_group(struct ingest *in, const struct ingest_env *env,
                                    uint32_t *group, struct nx_err *err)
{
    uint32_t at = 0;

    while (at < in->n_stamped_groups && in->stamped_groups[at].group)
        at++;
    if (at == in->n_stamped_groups) {
        uint32_t n = at + at / 4 + 4;
        struct stamped_group *v = reallocarray(in->stamped_groups, n, sizeof *v);
        if (!v)
            return no_memory(err);
        memset(v + at, 0, (n - at) * sizeof *v);
        in->stamped_groups = v;
        in->n_stamped_groups = n;
    }
    *group = at;
    return storage_group_open(env->storage, &in->stamped_groups[at].group, err);
}

static void close_group_if_empty(struct ingest *in, uint32_t group)
{
    if (group == STAMPED_LOOSE || in->stamped_groups[group].n_slots > 0)
        return;
    storage_group_close(in->stamped_groups[group].group);
    in->stamped_groups[group] = (struct stamped_group){0};
}

/* A free slot, or UINT32_MAX. */
static uint32_t free_slot(struct ingest *in)
{
    while (in->next_slot < in->n_stamped && in->stamped[in->next_slot].used)
        in->next_slot++;
    if (in->next_slot == in->n_stamped) {
        uint32_t n = in->n_stamped + in->n_stamped / 4 + 8;
        struct stamped *v = reallocarray(in->stamped, n, sizeof *v);
        if (!v)
            return UINT32_MAX;
        memset(v + in->n_stamped, 0, (n - in->n_stamped) * sizeof *v);
        in->stamped = v;
        in->n_stamped = n;
    }
    return in->next_slot;
}

/* One more than the highest column that the group had. */
static uint32_t *columns_of(struct ingest *in, uint32_t group)
{
    return group == STAMPED_LOOSE ? &in->n_loose_cols : &in->stamped_groups[group].n_cols;
}

/* The slot that has this column already (two texts, one series), or UINT32_MAX. */
static uint32_t slot_of(struct ingest *in, uint32_t group, uint32_t col)
{
    for (uint32_t i = 0; i < in->n_stamped && col < *columns_of(in, group); i++)
        if (in->stamped[i].used && in->stamped[i].group == group && in->stamped[i].col == col)
            return i;
    return UINT32_MAX;
}

/* R6 */
static nx_status choose_group(struct ingest *in, const struct ingest_env *env,
                              const struct moment *x, uint32_t *group, struct nx_err *err)
{
    *group = STAMPED_LOOSE;
    if (x && x->group) {
        *group = x->group - 1;
        return NX_OK;
    }
    if (x && x->n >= SHARE_MIN)
        return open_stamped_group(in, env, group, err);
    return in->loose ? NX_OK : storage_group_open_loose(env->storage, &in->loose, err);
}

static nx_status open_slot(struct ingest *in, const struct ingest_env *env,
                           const struct fresh_series *f, struct moments *m, uint32_t *slot,
                           struct nx_err *err)
{
    struct moment *x = moment(m, f->ts_ms);
    uint32_t group = STAMPED_LOOSE, col, at = free_slot(in);
    nx_status st = at == UINT32_MAX ? no_memory(err) : choose_group(in, env, x, &group, err);

    if (st)
        return st;
    st = storage_group_column(resolve_stamped_group(in, group), &f->labels, &col, NULL, err);
    if (st) {
        close_group_if_empty(in, group);
        return st;
    }
    if (group != STAMPED_LOOSE)
        x->group = group + 1;
    *slot = slot_of(in, group, col);
    if (*slot != UINT32_MAX)
        return NX_OK;
    in->stamped[at] = (struct stamped){group, col, true};
    if (group != STAMPED_LOOSE)
        in->stamped_groups[group].n_slots++;
    if (col >= *columns_of(in, group))
        *columns_of(in, group) = col + 1;
    *slot = at;
    return NX_OK;
}

static void close_slot(struct ingest *in, uint32_t slot)
{
    struct stamped *t = &in->stamped[slot];
    uint32_t group = t->group;

    if (!t->used)
        return;
    storage_group_release(resolve_stamped_group(in, group), t->col);
    *t = (struct stamped){0};
    if (group != STAMPED_LOOSE)
        in->stamped_groups[group].n_slots--;
    close_group_if_empty(in, group);
    if (slot < in->next_slot)
        in->next_slot = slot;
}

static nx_status make_fresh(struct ingest *in, const struct ingest_env *env, struct fresh_series *f,
                            struct moments *m, struct nx_err *err)
{
    uint32_t index;
    nx_status st = f->stamped ? open_slot(in, env, f, m, &index, err)
                              : storage_group_column(in->group, &f->labels, &index, NULL, err);

    if (!st && index > LINE_MAX_INDEX)
        st = nx_fail(err, NX_LIMIT, "too many series in one target");
    if (!st)
        f->what = line_make(f->stamped ? LINE_STAMPED : LINE_SERIES, 0, index);
    else
        f->what = line_make(LINE_NEW, 0, 0);
    return st;
}

/* Marks the columns and slots of the target's layout. */
static bool mark_old(const struct ingest *in, struct ingest_scratch *s, uint32_t n_cols)
{
    if (!bits_ready(&s->seen, &s->cap_seen, n_cols) ||
        !bits_ready(&s->seen_stamped, &s->cap_seen_stamped, in->n_stamped))
        return false;
    for (uint32_t i = 0; i < in->layout.n; i++) {
        if (line_kind(in->layout.what[i]) == LINE_SERIES)
            bit_set(s->seen, line_index(in->layout.what[i]));
        else if (line_kind(in->layout.what[i]) == LINE_STAMPED)
            bit_set(s->seen_stamped, line_index(in->layout.what[i]));
    }
    return true;
}

/* One more than the highest column in use. */
static uint32_t count_columns(const struct ingest *in, const struct ingest_scratch *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < in->layout.n; i++)
        if (line_kind(in->layout.what[i]) <= LINE_DUPLICATE && line_index(in->layout.what[i]) >= n)
            n = line_index(in->layout.what[i]) + 1;
    for (uint32_t i = 0; i < s->n_fresh; i++)
        if (line_kind(s->fresh[i].what) == LINE_SERIES && line_index(s->fresh[i].what) >= n)
            n = line_index(s->fresh[i].what) + 1;
    return n;
}

/* After a failure: what was made for this scrape goes, what the old layout has stays. */
static void undo_fresh(struct ingest *in, struct ingest_scratch *s, uint32_t n)
{
    s->n_fresh = n;
    if (!mark_old(in, s, count_columns(in, s)))
        return; /* the columns stay in the group, unused: harmless */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t what = s->fresh[i].what, index = line_index(what);
        if (line_kind(what) == LINE_STAMPED && !bit_get(s->seen_stamped, index)) {
            bit_set(s->seen_stamped, index); /* once; and not what the old layout has */
            close_slot(in, index);
        } else if (line_kind(what) == LINE_SERIES && !bit_get(s->seen, index) &&
                   report_of(in, index) < 0) {
            bit_set(s->seen, index); /* once */
            storage_group_release(in->group, index);
        }
    }
}

/* ---- lines ------------------------------------------------------------------------------------- */

/* What a line is now that all columns are there. */
static uint32_t settle(struct ingest *in, struct ingest_scratch *s, uint32_t what,
                       struct ingest_result *res)
{
    struct fresh_series *f = NULL;
    uint32_t index;
    int report;

    if (line_kind(what) == LINE_NEW) {
        f = &s->fresh[line_index(what)];
        what = line_make(line_kind(f->what), line_class(what), line_index(f->what));
        if (line_kind(what) == LINE_NEW) {
            res->refused++;
            return what;
        }
    }
    index = line_index(what);
    if (line_kind(what) == LINE_STAMPED)
        bit_set(s->seen_stamped, index);
    if (line_kind(what) <= LINE_DUPLICATE) {
        bool twice = bit_get(s->seen, index);
        bit_set(s->seen, index);
        what = line_make(twice ? LINE_DUPLICATE : LINE_SERIES, line_class(what), index); /* R1 */
        report = report_of(in, index);
        if (report >= 0)
            s->exposed |= (uint8_t)(1u << report);
    }
    if (f && f->used && line_kind(what) != LINE_DUPLICATE) {
        f->used = false;
        res->added++;
    }
    return what;
}

static bool settle_all(struct ingest *in, struct ingest_scratch *s, struct ingest_result *res)
{
    struct layout_builder *b = &s->builder;
    uint32_t sample = 0;

    if (!bits_ready(&s->seen, &s->cap_seen, count_columns(in, s)) ||
        !bits_ready(&s->seen_stamped, &s->cap_seen_stamped, in->n_stamped))
        return false;
    s->exposed = 0;
    for (uint32_t i = 0; i < b->n && !b->nomem; i++) {
        if (!line_has_bytes(b->what[i]))
            continue;
        NX_ASSERT(sample < s->n_samples && s->samples[sample].what == b->what[i]);
        b->what[i] = settle(in, s, b->what[i], res);
        s->samples[sample++].what = b->what[i];
    }
    return true;
}

nx_status resolve_new(struct ingest *in, const struct ingest_env *env,
                      const struct ingest_target *t, struct ingest_scratch *s,
                      struct ingest_result *res, struct nx_err *err)
{
    nx_status st = NX_OK;
    struct moments moments;
    uint32_t n = 0;

    (void)t;
    note_moments(in, s, &moments);
    for (; n < s->n_fresh && !st; n++) {
        st = make_fresh(in, env, &s->fresh[n], &moments, err);
        if (st == NX_LIMIT) /* R5 */
            st = NX_OK;
    }
    if (!st && !settle_all(in, s, res))
        st = no_memory(err);
    if (!st)
        st = layout_builder_take(&s->builder, &s->next, err);
    if (st) {
        undo_fresh(in, s, n);
        res->added = 0;
    }
    return st;
}

/* ---- rows -------------------------------------------------------------------------------------- */

static bool push_loose(struct ingest_scratch *s, uint32_t col, int64_t ts_ms, double value)
{
    if (s->n_loose == s->cap_loose) {
        uint32_t cap = s->cap_loose ? s->cap_loose * 2 : 64;
        void *loose = reallocarray(s->loose, cap, sizeof *s->loose);
        if (!loose)
            return false;
        s->loose = loose;
        s->cap_loose = cap;
    }
    s->loose[s->n_loose++] = (struct storage_sample){col, ts_ms, value};
    return true;
}

/* R7: slots from n_turns on had none yet. */
static bool take_turn(struct ingest_scratch *s, uint32_t slot, uint32_t *turn)
{
    if (slot >= s->cap_turns) {
        uint32_t cap = slot + slot / 2 + 64;
        void *turns = realloc(s->turns, cap);
        if (!turns)
            return false;
        s->turns = turns;
        s->cap_turns = cap;
    }
    for (; s->n_turns <= slot; s->n_turns++)
        s->turns[s->n_turns] = 0;
    *turn = s->turns[slot];
    s->turns[slot] = (uint8_t)(s->turns[slot] + (s->turns[slot] < UINT8_MAX));
    return true;
}

static bool push_stamp(const struct ingest *in, struct ingest_scratch *s, uint32_t slot,
                       int64_t ts_ms, double value)
{
    uint32_t turn;

    if (in->stamped[slot].group == STAMPED_LOOSE)
        return push_loose(s, in->stamped[slot].col, ts_ms, value);
    if (!take_turn(s, slot, &turn))
        return false;
    if (s->n_stamps == s->cap_stamps) {
        uint32_t cap = s->cap_stamps ? s->cap_stamps * 2 : 64;
        void *stamps = reallocarray(s->stamps, cap, sizeof *s->stamps);
        void *sorted = reallocarray(s->sorted, cap, sizeof *s->sorted);
        void *cols = reallocarray(s->stamp_cols, cap, sizeof *s->stamp_cols);
        void *values = reallocarray(s->stamp_values, cap, sizeof *s->stamp_values);
        s->stamps = stamps ? stamps : s->stamps;
        s->sorted = sorted ? sorted : s->sorted;
        s->stamp_cols = cols ? cols : s->stamp_cols;
        s->stamp_values = values ? values : s->stamp_values;
        if (!stamps || !sorted || !cols || !values)
            return false;
        s->cap_stamps = cap;
    }
    s->stamps[s->n_stamps++] = (struct stamp){slot, turn, ts_ms, value};
    return true;
}

/* Into s->sorted, by group; the order within a group stays. */
static bool sort_by_group(const struct ingest *in, struct ingest_scratch *s)
{
    uint32_t sum = 0;

    if (s->n_stamps == 0)
        return true;
    if (s->cap_stamp_counts < in->n_stamped_groups) {
        uint32_t *v = reallocarray(s->stamp_counts, in->n_stamped_groups, sizeof *v);
        if (!v)
            return false;
        s->stamp_counts = v;
        s->cap_stamp_counts = in->n_stamped_groups;
    }
    memset(s->stamp_counts, 0, in->n_stamped_groups * sizeof *s->stamp_counts);
    for (uint32_t i = 0; i < s->n_stamps; i++)
        s->stamp_counts[in->stamped[s->stamps[i].slot].group]++;
    for (uint32_t i = 0; i < in->n_stamped_groups; i++) {
        uint32_t n = s->stamp_counts[i];
        s->stamp_counts[i] = sum;
        sum += n;
    }
    for (uint32_t i = 0; i < s->n_stamps; i++)
        s->sorted[s->stamp_counts[in->stamped[s->stamps[i].slot].group]++] = s->stamps[i];
    return true;
}

static int by_time(const void *a, const void *b)
{
    const struct stamp *x = a, *y = b;

    if (x->turn != y->turn)
        return x->turn < y->turn ? -1 : 1;
    if (x->ts_ms != y->ts_ms)
        return x->ts_ms < y->ts_ms ? -1 : 1;
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

/* By turn, then by time. Nearly always all are equal. */
static void sort_by_time(struct stamp *v, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        if (by_time(&v[i - 1], &v[i]) > 0) {
            qsort(v, n, sizeof *v, by_time);
            return;
        }
    }
}

static void note_appended(struct ingest_scratch *s, nx_status st,
                          const struct storage_appended *done, struct ingest_result *res)
{
    if (st)
        s->stamped_failed = st;
    if (res && !st) {
        res->out_of_order += done->out_of_order;
        res->duplicate += done->duplicate;
        res->out_of_bounds += done->out_of_bounds + done->too_old;
    }
}

static void append_loose(const struct ingest *in, struct ingest_scratch *s,
                         struct ingest_result *res)
{
    for (uint32_t i = 0; i < s->n_loose; i += STORAGE_SAMPLES_MAX) {
        uint32_t n = s->n_loose - i < STORAGE_SAMPLES_MAX ? s->n_loose - i : STORAGE_SAMPLES_MAX;
        struct storage_appended done = {0};
        nx_status st = storage_group_append_samples(in->loose, s->loose + i, n, &done, NULL);
        note_appended(s, st, &done, res);
    }
    s->n_loose = 0;
}

static void append_stamped_row(const struct ingest *in, struct ingest_scratch *s,
                               const struct stamp *v, uint32_t n, struct ingest_result *res)
{
    struct storage_group *g = in->stamped_groups[in->stamped[v->slot].group].group;
    struct storage_appended done = {0};
    nx_status st;

    for (uint32_t i = 0; i < n; i++) {
        s->stamp_cols[i] = in->stamped[v[i].slot].col;
        s->stamp_values[i] = v[i].value;
    }
    st = storage_group_append(g, v->ts_ms, s->stamp_cols, s->stamp_values, n, &done, NULL);
    note_appended(s, st, &done, res);
}

#define SPARSE_SLOTS 64u /* what smaller groups waste is little */
#define SPARSE_CELLS 16u /* for each sample that is there */

/* R6: of v, sorted, each run of one time is a row of all slots. */
static bool is_sparse(const struct ingest *in, const struct stamp *v, uint32_t n)
{
    uint32_t slots = in->stamped_groups[in->stamped[v->slot].group].n_slots;
    uint64_t rows = 1;

    for (uint32_t i = 1; i < n; i++)
        rows += v[i].ts_ms != v[i - 1].ts_ms || v[i].turn != v[i - 1].turn;
    return slots >= SPARSE_SLOTS && rows * slots > (uint64_t)n * SPARSE_CELLS;
}

/* Without memory some are left there; it is tried again with the next scrape. */
static void dissolve(struct ingest *in, const struct ingest_env *env, uint32_t group)
{
    bool all = in->loose || !storage_group_open_loose(env->storage, &in->loose, NULL);

    for (uint32_t i = 0; i < in->n_stamped && all; i++) {
        struct stamped *x = &in->stamped[i];
        uint32_t col;
        if (!x->used || x->group != group)
            continue;
        all = !storage_group_move(in->stamped_groups[group].group, x->col, in->loose, &col, NULL);
        if (!all)
            break;
        *x = (struct stamped){STAMPED_LOOSE, col, true};
        in->stamped_groups[group].n_slots--;
        if (col >= in->n_loose_cols)
            in->n_loose_cols = col + 1;
    }
    close_group_if_empty(in, group);
}

/* All of one group, sorted. */
static void append_rows(struct ingest *in, struct ingest_scratch *s, const struct stamp *v,
                        uint32_t n, struct ingest_result *res)
{
    for (uint32_t row = 0, end; row < n; row = end) {
        for (end = row; end < n && v[end].ts_ms == v[row].ts_ms && v[end].turn == v[row].turn;)
            end++;
        append_stamped_row(in, s, v + row, end - row, res);
    }
}

/* Appends what push_stamp() collected (R6). */
static void append_stamps(struct ingest *in, const struct ingest_env *env, struct ingest_scratch *s,
                          struct ingest_result *res)
{
    if (!sort_by_group(in, s)) {
        s->stamped_failed = NX_NOMEM;
        s->n_stamps = 0;
    }
    for (uint32_t from = 0, to; from < s->n_stamps; from = to) {
        uint32_t group = in->stamped[s->sorted[from].slot].group;
        for (to = from; to < s->n_stamps && in->stamped[s->sorted[to].slot].group == group;)
            to++;
        sort_by_time(s->sorted + from, to - from);
        if (!is_sparse(in, s->sorted + from, to - from)) {
            append_rows(in, s, s->sorted + from, to - from, res);
            continue;
        }
        dissolve(in, env, group);
        for (uint32_t i = from; i < to; i++) {
            const struct stamp *x = &s->sorted[i];
            if (in->stamped[x->slot].group != STAMPED_LOOSE)
                append_stamped_row(in, s, x, 1, res);
            else if (!push_loose(s, in->stamped[x->slot].col, x->ts_ms, x->value))
                s->stamped_failed = NX_NOMEM;
        }
    }
    s->n_stamps = s->n_turns = 0;
    append_loose(in, s, res);
}

/* Stale markers for what the old layout has and the new one has not (R3). `all`: nothing is new. */
static bool push_stale(struct ingest *in, const struct ingest_target *t, struct ingest_scratch *s,
                       bool all)
{
    if (in->ended)
        return true;
    for (uint32_t i = 0; i < in->layout.n; i++) {
        uint32_t what = in->layout.what[i], index = line_index(what);
        if (line_kind(what) == LINE_SERIES && (all || !bit_get(s->seen, index)) &&
            report_of(in, index) < 0)
            push(s, index, num_from_bits(NUM_STALE_BITS));
        if (line_kind(what) == LINE_STAMPED && t->rules->track_timestamps &&
            (all || !bit_get(s->seen_stamped, index)) && !push_stale_slot(s, index))
            return false;
    }
    return true;
}

nx_status resolve_row(struct ingest *in, const struct ingest_env *env,
                      const struct ingest_target *t, int64_t now_ms, struct ingest_scratch *s,
                      struct ingest_result *res, struct nx_err *err)
{
    if (!row_room(s, (uint64_t)s->n_samples + in->layout.n + REPORT_COUNT)) {
        if (s->changed)
            undo_fresh(in, s, s->n_fresh);
        return no_memory(err);
    }
    for (uint32_t i = 0; i < s->n_samples; i++) {
        const struct sample *m = &s->samples[i];
        switch (line_kind(m->what)) {
        case LINE_SERIES:
            push(s, line_index(m->what), m->value);
            break;
        case LINE_DUPLICATE:
            res->duplicate++;
            break;
        case LINE_STAMPED:
            if (m->ts_ms > now_ms + STORAGE_FUTURE_MS)
                res->out_of_bounds++;
            else if (!push_stamp(in, s, line_index(m->what), m->ts_ms, m->value))
                s->stamped_failed = NX_NOMEM;
            break;
        default:
            break;
        }
    }
    append_stamps(in, env, s, res);
    s->n_row_samples = s->n_row;
    if (s->changed && !push_stale(in, t, s, false))
        return no_memory(err);
    return NX_OK;
}

nx_status resolve_all_stale(struct ingest *in, const struct ingest_target *t,
                            struct ingest_scratch *s, struct nx_err *err)
{
    s->ends = true;
    if (!row_room(s, (uint64_t)in->layout.n + REPORT_COUNT) || !push_stale(in, t, s, true))
        return no_memory(err);
    return NX_OK;
}

/* ---- the end of a scrape ------------------------------------------------------------------------- */

/* Columns and slots of the old layout that the new one lacks (R4). */
static void release_gone(struct ingest *in, const struct ingest_scratch *s)
{
    for (uint32_t i = 0; i < in->layout.n; i++) {
        uint32_t what = in->layout.what[i], index = line_index(what);
        if (line_kind(what) == LINE_SERIES && !bit_get(s->seen, index) && report_of(in, index) < 0)
            storage_group_release(in->group, index);
        else if (line_kind(what) == LINE_STAMPED && !bit_get(s->seen_stamped, index))
            close_slot(in, index);
    }
}

static void take_over(struct ingest *in, struct ingest_scratch *s)
{
    if (s->changed && !s->ends) {
        release_gone(in, s);
        layout_done(&in->layout);
        in->layout = s->next;
        s->next = (struct layout){0};
        in->report_exposed = s->exposed;
        in->relearn = false;
    }
    in->ended = s->ends;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

nx_status ingest_commit(struct ingest *in, const struct ingest_env *env,
                        const struct ingest_target *t, int64_t t_ms, const double *reports,
                        unsigned n_reports, struct ingest_scratch *s, struct ingest_result *res,
                        struct nx_err *err)
{
    uint8_t exposed = s->ends ? 0 : s->changed ? s->exposed : in->report_exposed;
    struct storage_appended done = {0};
    nx_status st = find_reports(in, t, n_reports, s, err);

    for (unsigned i = 0; i < n_reports; i++)
        if ((in->report_known >> i & 1) && !(exposed >> i & 1)) /* R2 */
            push(s, in->report_cols[i], reports[i]);
    for (uint32_t i = 0; i < s->n_stale_slots; i++)
        if (!push_stamp(in, s, s->stale_slots[i], t_ms, num_from_bits(NUM_STALE_BITS)))
            s->stamped_failed = NX_NOMEM;
    append_stamps(in, env, s, NULL);
    if (!st)
        st = storage_group_append(in->group, t_ms, s->cols, s->values, s->n_row, &done, err);
    /* Refused stale markers and reports are nobody's business: only exposed samples are counted. */
    res->out_of_order += smaller(done.out_of_order, s->n_row_samples);
    res->duplicate += smaller(done.duplicate, s->n_row_samples);
    res->out_of_bounds += smaller(done.out_of_bounds + done.too_old, s->n_row_samples);
    take_over(in, s);
    if (!st && s->stamped_failed)
        st = nx_fail(err, s->stamped_failed, "appending samples with timestamps: %s",
                     nx_status_text(s->stamped_failed));
    return st;
}

nx_status ingest_end(struct ingest *in, const struct ingest_env *env, const struct ingest_target *t,
                     int64_t t_ms, struct ingest_scratch *s, struct nx_err *err)
{
    const double stale = num_from_bits(NUM_STALE_BITS);
    const double reports[REPORT_COUNT] = {stale, stale, stale, stale, stale, stale, stale, stale};
    struct ingest_result res = {0};
    unsigned n = 0;
    nx_status st;

    if (!in->group)
        return NX_OK; /* never scraped */
    while (n < REPORT_COUNT && (in->report_known >> n & 1))
        n++;
    st = ingest_nothing(in, env, t, s, err);
    return st ? st : ingest_commit(in, env, t, t_ms, reports, n, s, &res, err);
}

void ingest_relearn(struct ingest *in)
{
    in->relearn = true;
}

void ingest_done(struct ingest *in, struct intern *pool)
{
    for (uint32_t i = 0; i < in->n_stamped_groups; i++)
        storage_group_close(in->stamped_groups[i].group);
    storage_group_close(in->loose);
    free(in->stamped_groups);
    free(in->stamped);
    storage_group_close(in->group);
    layout_done(&in->layout);
    meta_done(&in->meta, pool);
    *in = (struct ingest){0};
}

/* ---- scratch ------------------------------------------------------------------------------------- */

nx_status ingest_scratch_init(struct ingest_scratch *s, struct nx_err *err)
{
    *s = (struct ingest_scratch){0};
    buf_init(&s->line, 0);
    layout_table_init(&s->table);
    layout_builder_init(&s->builder);
    s->arena = arena_new(0);
    if (!s->arena)
        return no_memory(err);
    return relabel_work_init(&s->series, err);
}

void ingest_scratch_done(struct ingest_scratch *s)
{
    buf_done(&s->line);
    layout_table_done(&s->table);
    layout_builder_done(&s->builder);
    layout_done(&s->next);
    relabel_work_done(&s->series);
    arena_free(s->arena);
    free(s->samples);
    free(s->fresh);
    free(s->cols);
    free(s->values);
    free(s->seen);
    free(s->seen_stamped);
    free(s->stamps);
    free(s->sorted);
    free(s->stamp_cols);
    free(s->stamp_values);
    free(s->stamp_counts);
    free(s->turns);
    free(s->loose);
    free(s->stale_slots);
    free(s->exemplars);
    *s = (struct ingest_scratch){0};
}

#define KEEP_LINES 16384u
#define ALIKE      4u /* bodies in a row like the last scrape's: what only others need is given back */

void ingest_scratch_trim(struct ingest_scratch *s)
{
    bool alike;

    s->n_alike = s->changed ? 0 : s->n_alike + (s->n_alike < ALIKE);
    alike = s->n_alike == ALIKE;
    if (s->table.cap > (alike ? 0 : KEEP_LINES)) {
        layout_table_done(&s->table);
        layout_table_init(&s->table);
    }
    if (s->builder.cap > (alike ? 0 : KEEP_LINES)) {
        layout_builder_done(&s->builder);
        layout_builder_init(&s->builder);
    }
    if (s->n_fresh) {
        arena_reset(s->arena);
        s->n_fresh = 0;
    }
    if (s->cap_fresh > (alike ? 0 : KEEP_LINES)) {
        free(s->fresh);
        s->fresh = NULL;
        s->cap_fresh = 0;
    }
    if (s->cap_samples > KEEP_LINES) {
        free(s->samples);
        s->samples = NULL;
        s->n_samples = s->cap_samples = 0;
    }
    if (s->cap_exemplars > KEEP_LINES) {
        free(s->exemplars);
        s->exemplars = NULL;
        s->n_exemplars = s->cap_exemplars = 0;
    }
    if (s->cap_loose > KEEP_LINES) {
        free(s->loose);
        s->loose = NULL;
        s->n_loose = s->cap_loose = 0;
    }
    if (s->cap_row > KEEP_LINES) {
        free(s->cols);
        free(s->values);
        s->cols = NULL;
        s->values = NULL;
        s->n_row = s->cap_row = 0;
    }
}
