/* loose.c - samples of the head that are not in rows.
 *
 * WHY     A row costs its group a value for each column. Samples that share their time with nobody would
 *         be rows of one value each: a group per series, or rows that are nearly empty. And a row can't
 *         take a sample that is older than those before it. Both kinds are kept by series instead.
 * SHAPE   A series is an entry: a sorted array of a few samples, then seals of what was in it, in the
 *         order in which they were made. A seal has samples of one block's span; small ones of a span
 *         are joined as they become many. The array and the seals may overlap in time. Seals go to chunk files in
 *         batches of many series (loose_store.c), which are kept in one list for all.
 * RULES   L1  Of two samples of one time the first one written stays: what is in rows or in blocks before
 *             what is here, an older seal before a newer one.
 *         L2  A sample in order is newer than every one of its series: newest_ms knows, which takes over
 *             what the series has in rows when a loose group begins to write it. Out of order is what is
 *             older than that, or older than the head takes rows; nothing is ever in order again below.
 *         L3  A sample is staged with memory for it at hand, then logged, then published: that can't fail.
 *         L4  A reader sees appends up to its number (G5 of group.c): samples carry theirs; a seal
 *             carries them as long as some reader needs them.
 *         L5  What a block takes is sealed and marked first. What comes meanwhile is not of it. When the
 *             block is in the list it is marked as written, and goes when no older reader is left.
 *         L6  A batch in a chunk file has, of a series and span, what was there when it was made. So batches are
 *             older than seals (L1); and at a start a sample in order that the log has, and that is not
 *             newer than the newest of its series in batches, is in one of them.
 * THREADS One lock for all, held from judging to publishing, the log's write included, as a group's is.
 *         Readers hold it to copy an array and to take references on seals and batches. */
#include "storage/loose.h"

#include <stdlib.h>
#include <string.h>

#include "storage/grow.h"
#include "storage/head.h"
#include "storage/wal_row.h"

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "the head");
}

/* ---- the table ------------------------------------------------------------------------------- */

static uint32_t place(const struct loose *l, uint32_t series)
{
    uint32_t i = (series * 0x9e3779b9u) & l->mask;

    while (l->table[i] && l->table[i]->series != series)
        i = (i + 1) & l->mask;
    return i;
}

/* Room for one more, at most three quarters full. */
static bool table_room(struct loose *l)
{
    struct loose bigger = *l;

    if ((l->n + 1) * 4ull <= (l->mask + 1ull) * 3)
        return true;
    bigger.mask = l->mask * 2 + 1;
    bigger.table = calloc((size_t)bigger.mask + 1, sizeof(struct loose_series *));
    if (!bigger.table)
        return false;
    for (uint32_t i = 0; i <= l->mask; i++) {
        if (l->table[i])
            bigger.table[place(&bigger, l->table[i]->series)] = l->table[i];
    }
    free(l->table);
    l->table = bigger.table;
    l->mask = bigger.mask;
    return true;
}

/* NULL: none. */
static struct loose_series *loose_find_locked(struct loose *l, uint32_t series)
{
    NX_ASSERT(nx_mutex_held(&l->lock));
    return l->table[place(l, series)];
}

struct loose_series *loose_get_locked(struct loose *l, uint32_t series)
{
    struct loose_series *s = loose_find_locked(l, series);

    if (s || !table_room(l))
        return s;
    s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->series = series;
    s->newest_ms = INT64_MIN;
    l->table[place(l, series)] = s;
    l->n++;
    atomic_store(&l->count, l->n + l->n_batches);
    return s;
}

void loose_seal_unref(struct loose_seal *s)
{
    if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        free(s);
}

struct loose_seal *loose_seal_ref(struct loose_seal *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

static void series_free(struct loose_series *s)
{
    for (uint32_t i = 0; i < s->n_seals; i++)
        loose_seal_unref(s->seals[i]);
    free(s->seals);
    free(s->v);
    free(s);
}

struct loose *loose_new(struct head *h, int64_t block_ms)
{
    struct loose *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->head = h;
    l->block_ms = block_ms;
    l->mask = 15;
    l->needed = UINT32_MAX;
    l->table = calloc((size_t)l->mask + 1, sizeof(struct loose_series *));
    if (!l->table) {
        free(l);
        return NULL;
    }
    nx_mutex_init(&l->lock, NX_RANK_LOOSE);
    atomic_init(&l->min_ms, INT64_MAX);
    atomic_init(&l->max_ms, INT64_MIN);
    return l;
}

void loose_free(struct loose *l)
{
    if (!l)
        return;
    for (uint32_t i = 0; i <= l->mask; i++) {
        if (l->table[i])
            series_free(l->table[i]);
    }
    for (uint32_t i = 0; i < l->n_batches; i++)
        loose_batch_unref(l->batches[i]);
    free(l->batches);
    free(l->table);
    free(l->staged);
    nx_mutex_done(&l->lock);
    free(l);
}

/* ---- seals ----------------------------------------------------------------------------------- */

static size_t loose_seal_bytes(const struct loose_seal *s)
{
    return sizeof *s + (s->keeps_seq ? s->n * sizeof s->seq[0] : 0) + s->times_bytes +
           s->values_bytes;
}

static const uint8_t *loose_seal_data(const struct loose_seal *s)
{
    return (const uint8_t *)(s->seq + (s->keeps_seq ? s->n : 0));
}

nx_status loose_seal_read(const struct loose_seal *s, int64_t *t, double *v,
                          struct chunk_scratch *scratch, struct nx_err *err)
{
    const uint8_t *times = loose_seal_data(s), *values = times + s->times_bytes;
    nx_status st = times_decode(times, s->times_bytes, t, s->n, scratch, err);

    if (st)
        return st;
    if (s->n > WAL_ROW_COLUMN_MAX)
        return chunk_decode(values, s->values_bytes, v, s->n, scratch, err);
    if (!wal_row_decode_column((struct nx_slice){(const char *)values, s->values_bytes}, v, s->n))
        return nx_fail(err, NX_CORRUPT, "a seal in memory");
    return NX_OK;
}

/* Of n samples of one span in w->t and w->v; seq NULL: every reader sees all of them. */
static nx_status seal_new(struct loose *l, struct work *w, uint32_t n,
                          const struct loose_sample *with_seq, struct loose_seal **out,
                          struct nx_err *err)
{
    struct buf *d = &w->data;
    struct loose_seal *s;
    size_t times;
    nx_status st;

    buf_clear(d);
    st = times_encode(d, w->t, n, w->scratch, err);
    times = d->len;
    if (!st && n > WAL_ROW_COLUMN_MAX)
        st = chunk_encode_fast(d, w->v, n, w->scratch, err);
    else if (!st)
        wal_row_encode_column(d, w->v, n, 0);
    if (!st)
        st = buf_status(d, err);
    if (st)
        return st;
    s = malloc(sizeof *s + (with_seq ? n * sizeof s->seq[0] : 0) + d->len);
    if (!s)
        return no_memory(err);
    *s = (struct loose_seal){.n = n,
                             .times_bytes = (uint32_t)times,
                             .values_bytes = (uint32_t)(d->len - times),
                             .min_ms = w->t[0],
                             .max_ms = w->t[n - 1],
                             .keeps_seq = with_seq != NULL,
                             .wal_epoch = head_wal_epoch(l->head)};
    atomic_init(&s->refs, 1);
    for (uint32_t i = 0; with_seq && i < n; i++)
        s->seq[i] = with_seq[i].seq;
    memcpy(s->seq + (with_seq ? n : 0), d->ptr, d->len);
    *out = s;
    return NX_OK;
}

/* How many of the array, from the first, are of the first one's span. */
static uint32_t same_span(const struct loose *l, const struct loose_series *s)
{
    int64_t span = floor_div(s->v[0].t_ms, l->block_ms);
    uint32_t n = 1;

    while (n < s->n && floor_div(s->v[n].t_ms, l->block_ms) == span)
        n++;
    return n;
}

/* The first span of the array becomes a seal. */
static nx_status seal_front(struct loose *l, struct loose_series *s, struct work *w,
                            struct nx_err *err)
{
    uint32_t n = same_span(l, s);
    uint64_t seq_last = 0, seen = head_seen_by_all(l->head);
    struct loose_seal *seal = NULL;
    nx_status st = work_room(w, n, 0, err);

    if (!st && !grow(&s->seals, s->n_seals, &s->cap_seals, sizeof(struct loose_seal *), 1))
        st = no_memory(err);
    if (st)
        return st;
    for (uint32_t i = 0; i < n; i++) {
        w->t[i] = s->v[i].t_ms;
        w->v[i] = s->v[i].v;
        seq_last = s->v[i].seq > seq_last ? s->v[i].seq : seq_last;
    }
    st = seal_new(l, w, n, seq_last > seen ? s->v : NULL, &seal, err);
    if (st)
        return st;
    seal->seq_last = seq_last;
    seal->segment = s->since;
    s->seals[s->n_seals++] = seal;
    atomic_fetch_add(&l->bytes, loose_seal_bytes(seal));
    s->n -= n;
    memmove(s->v, s->v + n, s->n * sizeof *s->v);
    return NX_OK;
}

/* ---- joining --------------------------------------------------------------------------------- */

/* Those of x[mid..) go among those of x[first..mid); both ascend. L1 */
static nx_status merge_parts(struct samples *x, size_t first, size_t mid, struct nx_err *err)
{
    size_t a = first, b = 0, n_b = x->n - mid, n_a, at;
    int64_t *t;
    double *v;

    if (n_b == 0 || mid == first || x->t[mid] > x->t[mid - 1])
        return NX_OK;
    for (size_t hi = mid; a < hi;) { /* the first that is not before all of the second part */
        size_t m = a + (hi - a) / 2;
        if (x->t[m] < x->t[mid])
            a = m + 1;
        else
            hi = m;
    }
    n_a = x->n - a;
    t = malloc(n_a * sizeof *t);
    v = malloc(n_a * sizeof *v);
    if (!t || !v) {
        free(t);
        free(v);
        return no_memory(err);
    }
    memcpy(t, x->t + a, n_a * sizeof *t);
    memcpy(v, x->v + a, n_a * sizeof *v);
    at = a;
    n_a -= n_b;
    for (size_t i = 0; i < n_a || b < n_b;) {
        bool old = i < n_a && (b == n_b || t[i] <= t[n_a + b]);
        if (old && b < n_b && t[i] == t[n_a + b])
            b++;
        size_t from = old ? i++ : n_a + b++;
        x->t[at] = t[from];
        x->v[at++] = v[from];
    }
    x->n = at;
    free(t);
    free(v);
    return NX_OK;
}

nx_status loose_add_seal(const struct loose_seal *s, uint64_t seq, int64_t mint, int64_t maxt,
                         struct work *w, struct samples *to, struct nx_err *err)
{
    size_t mid = to->n;
    nx_status st = work_room(w, s->n, 0, err);

    if (!st)
        st = loose_seal_read(s, w->t, w->v, w->scratch, err);
    if (!st)
        st = samples_reserve(to, s->n, err);
    for (uint32_t i = 0; i < s->n && !st; i++) {
        if (w->t[i] < mint || w->t[i] > maxt || (s->keeps_seq && s->seq[i] > seq))
            continue;
        to->t[to->n] = w->t[i];
        to->v[to->n++] = w->v[i];
    }
    return st ? st : merge_parts(to, 0, mid, err);
}

/* Seals of one size are joined when they have so many samples; those of that many are joined in turn, and
 * the largest are left alone. */
static const uint32_t join_at[] = {WAL_ROW_COLUMN_MAX, 256};

static unsigned size_of(const struct loose_seal *s)
{
    return s->n < join_at[0] / 2 ? 0 : s->n < join_at[1] / 2 ? 1 : 2;
}

static bool of_span(const struct loose *l, const struct loose_seal *s, int64_t span)
{
    return floor_div(s->min_ms, l->block_ms) == span;
}

/* The newest seals of a span, as long as they are of one size and every reader sees them. */
struct run {
    int64_t span;
    uint32_t from, n; /* the first one's place; seals of other spans may be among them */
    uint32_t samples;
};

static struct run find_run(const struct loose *l, const struct loose_series *s)
{
    const struct loose_seal *newest = s->seals[s->n_seals - 1];
    const uint64_t seen = head_seen_by_all(l->head);
    struct run r = {.span = floor_div(newest->min_ms, l->block_ms)};

    for (uint32_t i = s->n_seals; i-- > 0;) {
        const struct loose_seal *seal = s->seals[i];
        if (!of_span(l, seal, r.span))
            continue;
        if (size_of(seal) != size_of(newest) || seal->taken || seal->written || seal->storing ||
            seal->seq_last > seen)
            break; /* L1: what is older than it must stay before it */
        r.from = i;
        r.n++;
        r.samples += seal->n;
    }
    return r;
}

/* *seal: all of the run; its sum of samples is as many, less those of one time. */
static nx_status code_run(struct loose *l, const struct loose_series *s, const struct run *r,
                          struct work *w, struct loose_seal **out, struct nx_err *err)
{
    struct samples x = {0};
    uint64_t seq_last = 0, epoch = 0;
    uint32_t segment = UINT32_MAX;
    nx_status st = NX_OK;

    for (uint32_t i = r->from; i < s->n_seals && !st; i++) {
        const struct loose_seal *seal = s->seals[i];
        if (!of_span(l, seal, r->span))
            continue;
        st = loose_add_seal(seal, UINT64_MAX, INT64_MIN, INT64_MAX, w, &x, err);
        seq_last = seal->seq_last > seq_last ? seal->seq_last : seq_last;
        epoch = seal->wal_epoch > epoch ? seal->wal_epoch : epoch;
        segment = seal->segment < segment ? seal->segment : segment;
    }
    if (!st)
        st = work_room(w, x.n, 0, err);
    if (!st) {
        memcpy(w->t, x.t, x.n * sizeof *w->t);
        memcpy(w->v, x.v, x.n * sizeof *w->v);
        st = seal_new(l, w, (uint32_t)x.n, NULL, out, err);
    }
    if (!st) {
        (*out)->seq_last = seq_last;
        (*out)->wal_epoch = epoch;
        (*out)->segment = segment;
    }
    samples_done(&x);
    return st;
}

static void replace_run(struct loose *l, struct loose_series *s, const struct run *r,
                        struct loose_seal *joined)
{
    uint32_t kept = r->from + 1;

    for (uint32_t i = r->from; i < s->n_seals; i++) {
        struct loose_seal *seal = s->seals[i];
        if (!of_span(l, seal, r->span)) {
            s->seals[kept++] = seal;
            continue;
        }
        atomic_fetch_sub(&l->bytes, loose_seal_bytes(seal));
        loose_seal_unref(seal);
    }
    s->seals[r->from] = joined;
    s->n_seals = kept;
    atomic_fetch_add(&l->bytes, loose_seal_bytes(joined));
    atomic_fetch_sub(&l->samples, r->samples - joined->n);
}

static nx_status join_seals(struct loose *l, struct loose_series *s, struct work *w,
                            struct nx_err *err)
{
    nx_status st = NX_OK;

    while (!st) {
        struct loose_seal *joined = NULL;
        unsigned size = size_of(s->seals[s->n_seals - 1]);
        struct run r = {0};
        if (size < NX_COUNT(join_at))
            r = find_run(l, s);
        if (r.n < 2 || r.samples < join_at[size])
            break;
        st = code_run(l, s, &r, w, &joined, err);
        if (!st)
            replace_run(l, s, &r, joined);
        if (!st && r.from + 1 < s->n_seals)
            break; /* the newest one is of another span now */
    }
    return st;
}

nx_status loose_seal_all_locked(struct loose *l, struct loose_series *s, struct work *w,
                                struct nx_err *err)
{
    nx_status st = NX_OK;

    NX_ASSERT(nx_mutex_held(&l->lock));
    while (s->n && !st)
        st = seal_front(l, s, w, err);
    return st;
}

/* Without memory the array grows on, and it is tried again. */
static void seal_array(struct loose *l, struct loose_series *s)
{
    struct work *w = head_work(l->head);
    nx_status st = w ? NX_OK : NX_NOMEM;

    while (s->n && !st) {
        st = seal_front(l, s, w, NULL);
        if (!st)
            st = join_seals(l, s, w, NULL);
    }
    head_work_back(l->head, w);
}

/* ---- batches ------------------------------------------------------------------------------------ */

bool loose_batches_room_locked(struct loose *l, uint32_t n)
{
    uint32_t cap = l->n_batches + n;
    struct loose_batch **v;

    NX_ASSERT(nx_mutex_held(&l->lock));
    if (cap <= l->cap_batches)
        return true;
    v = realloc(l->batches, cap * sizeof(struct loose_batch *));
    if (!v)
        return false;
    l->batches = v;
    l->cap_batches = cap;
    return true;
}

void loose_add_batch_locked(struct loose *l, struct loose_batch *b)
{
    NX_ASSERT(nx_mutex_held(&l->lock) && l->n_batches < l->cap_batches);
    l->batches[l->n_batches++] = b;
    atomic_store(&l->count, l->n + l->n_batches);
}

/* The batch with the series' newest sample, if that is newer than *t_ms (any, unless *found), and the entry. */
static struct loose_batch *newest_batch_locked(const struct loose *l, uint32_t series, bool *found,
                                               int64_t *t_ms, uint32_t *entry)
{
    struct loose_batch *newest = NULL;

    for (uint32_t i = 0; i < l->n_batches; i++) {
        struct loose_batch *b = l->batches[i];
        if (*found && b->max_ms <= *t_ms)
            continue;
        for (uint32_t k = loose_batch_find(b, series); k < b->n && b->v[k].series == series; k++) {
            int64_t last_ms = b->min_ms + (int64_t)b->v[k].last;
            if (*found && last_ms <= *t_ms)
                continue;
            *found = true;
            *t_ms = last_ms;
            *entry = k;
            newest = b;
        }
    }
    return newest;
}

int64_t loose_stored_up_to_locked(const struct loose *l, uint32_t series)
{
    int64_t t_ms = INT64_MIN;
    bool found = false;
    uint32_t entry;

    (void)newest_batch_locked(l, series, &found, &t_ms, &entry);
    return t_ms;
}

/* Entries keep what is newest of a series as long as they are there. Then batches are asked: the newest one
 * there may have been late, but nothing that comes later can be in order before it. */
nx_status loose_newest(struct loose *l, uint32_t series, bool *found, int64_t *t_ms, double *v,
                       struct nx_err *err)
{
    const struct loose_series *s;
    struct loose_batch *b;
    struct work *w;
    uint32_t entry = 0, n = 0;
    nx_status st;

    if (atomic_load(&l->count) == 0)
        return NX_OK;
    nx_lock(&l->lock);
    s = loose_find_locked(l, series);
    if (s && s->newest_ms != INT64_MIN && (!*found || s->newest_ms > *t_ms)) {
        *found = true;
        *t_ms = s->newest_ms;
        *v = s->newest;
    }
    b = newest_batch_locked(l, series, found, t_ms, &entry);
    if (b)
        loose_batch_ref(b);
    nx_unlock(&l->lock);
    if (!b)
        return NX_OK;
    w = head_work(l->head);
    st = w ? headfile_samples(b, entry, w, &n, err) : no_memory(err);
    if (!st)
        *v = w->v[n - 1];
    else if (st == NX_CORRUPT) { /* it was counted: no value is the same as this one */
        *v = chunk_absent();
        st = NX_OK;
    }
    loose_batch_unref(b);
    head_work_back(l->head, w);
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

nx_status loose_bind(struct loose *l, uint32_t series, bool has_newest, int64_t t_ms, double v,
                     struct nx_err *err)
{
    struct loose_series *s;
    nx_status st = loose_newest(l, series, &has_newest, &t_ms, &v, err);

    if (st)
        return st;
    nx_lock(&l->lock);
    s = loose_get_locked(l, series);
    if (s) {
        s->bound = true;
        if (has_newest && t_ms > s->newest_ms) { /* L2 */
            s->newest_ms = t_ms;
            s->newest = v;
        }
    }
    nx_unlock(&l->lock);
    return s ? NX_OK : no_memory(err);
}

void loose_unbind(struct loose *l, uint32_t series)
{
    struct loose_series *s;

    nx_lock(&l->lock);
    s = loose_find_locked(l, series);
    if (s)
        s->bound = false;
    nx_unlock(&l->lock);
}

/* L3 */
static bool reserve(struct loose *l, struct loose_series *s)
{
    uint32_t need = s->n + s->reserved + 1, cap = s->cap ? s->cap : 2;
    struct loose_sample *v;

    while (cap < need)
        cap = cap < LOOSE_TAIL / 2 ? cap * 2 : cap + LOOSE_TAIL / 2;
    if (cap != s->cap) {
        v = realloc(s->v, cap * sizeof *v);
        if (!v)
            return false;
        atomic_fetch_add(&l->bytes, (cap - s->cap) * sizeof *v);
        s->v = v;
        s->cap = cap;
    }
    s->reserved++;
    return true;
}

nx_status loose_stage_locked(struct loose *l, struct loose_series *s, int64_t t_ms, double v,
                             bool late, struct nx_err *err)
{
    if (l->n_staged == l->cap_staged) {
        size_t cap = l->cap_staged * 2 + 16;
        struct loose_staged *staged = realloc(l->staged, cap * sizeof *staged);
        if (!staged)
            return no_memory(err);
        l->staged = staged;
        l->cap_staged = cap;
    }
    if (!reserve(l, s))
        return no_memory(err);
    l->staged[l->n_staged++] = (struct loose_staged){s, t_ms, v, s->newest_ms, s->newest, late};
    if (!late) {
        s->newest_ms = t_ms;
        s->newest = v;
    }
    return NX_OK;
}

nx_status loose_late_locked(struct loose *l, uint32_t series, int64_t t_ms, double v,
                            int64_t max_ms, enum loose_verdict *verdict, struct nx_err *err)
{
    int64_t window_ms = atomic_load_explicit(&l->window_ms, memory_order_relaxed), low_ms;
    struct loose_series *s;

    NX_ASSERT(nx_mutex_held(&l->lock));
    if (window_ms <= 0) {
        *verdict = LOOSE_OLD;
        return NX_OK;
    }
    if (max_ms != INT64_MIN && (__builtin_sub_overflow(max_ms, window_ms, &low_ms) == 0) &&
        t_ms < low_ms) {
        *verdict = LOOSE_TOO_OLD;
        return NX_OK;
    }
    *verdict = LOOSE_TAKEN;
    s = loose_get_locked(l, series);
    return s ? loose_stage_locked(l, s, t_ms, v, true, err) : no_memory(err);
}

nx_status loose_judge_locked(struct loose *l, uint32_t series, int64_t t_ms, double v,
                             int64_t low_ms, int64_t max_ms, enum loose_verdict *verdict,
                             struct nx_err *err)
{
    struct loose_series *s = loose_find_locked(l, series);

    NX_ASSERT_ALWAYS(s != NULL); /* bound */
    if (t_ms >= low_ms && t_ms > s->newest_ms) {
        *verdict = LOOSE_TAKEN;
        return loose_stage_locked(l, s, t_ms, v, false, err);
    }
    if (t_ms >= low_ms && t_ms == s->newest_ms) {
        *verdict = num_bits(v) == num_bits(s->newest) ? LOOSE_SAME : LOOSE_DUPLICATE;
        return NX_OK;
    }
    return loose_late_locked(l, series, t_ms, v, max_ms, verdict, err);
}

/* Into the sorted array, unless it has that time. L1 */
static bool insert(struct loose_series *s, int64_t t_ms, double v, uint64_t seq)
{
    uint32_t at = s->n;

    NX_ASSERT(s->n < s->cap);
    while (at > 0 && s->v[at - 1].t_ms > t_ms)
        at--;
    if (at > 0 && s->v[at - 1].t_ms == t_ms)
        return false;
    memmove(s->v + at + 1, s->v + at, (s->n - at) * sizeof *s->v);
    s->v[at] = (struct loose_sample){t_ms, v, seq};
    s->n++;
    return true;
}

void loose_widen(struct loose *l, int64_t t_ms)
{
    if (t_ms < atomic_load_explicit(&l->min_ms, memory_order_relaxed))
        atomic_store(&l->min_ms, t_ms);
    if (t_ms > atomic_load_explicit(&l->max_ms, memory_order_relaxed))
        atomic_store(&l->max_ms, t_ms);
}

/* The log has the sample in the segment that was written last for the series. */
static void note_segment(struct loose *l, struct loose_series *s)
{
    if (s->n == 1 || s->segment < s->since)
        s->since = s->segment;
    if (s->since < l->needed)
        l->needed = s->since;
}

void loose_publish_locked(struct loose *l, uint64_t seq)
{
    uint64_t held = 0, late = 0;

    for (size_t i = 0; i < l->n_staged; i++) {
        const struct loose_staged *x = &l->staged[i];
        bool in = insert(x->s, x->t_ms, x->v, seq);
        if (in)
            note_segment(l, x->s);
        x->s->reserved--;
        held += in;
        late += in && x->late;
        loose_widen(l, x->t_ms);
    }
    for (size_t i = 0; i < l->n_staged; i++) {
        struct loose_series *s = l->staged[i].s;
        if (s->n >= LOOSE_TAIL && s->reserved == 0)
            seal_array(l, s);
    }
    atomic_fetch_add(&l->samples, held);
    atomic_fetch_add_explicit(&l->appended, late, memory_order_relaxed);
    l->n_staged = 0;
}

void loose_undo_locked(struct loose *l)
{
    while (l->n_staged) {
        const struct loose_staged *x = &l->staged[--l->n_staged];
        x->s->reserved--;
        if (!x->late) {
            x->s->newest_ms = x->was_ms;
            x->s->newest = x->was;
        }
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

bool loose_overlaps(struct loose *l, int64_t mint, int64_t maxt)
{
    return atomic_load(&l->count) > 0 && atomic_load(&l->min_ms) <= maxt &&
           atomic_load(&l->max_ms) >= mint;
}

static bool entry_overlaps(const struct loose_batch *b, const struct loose_entry *e, int64_t mint,
                           int64_t maxt)
{
    return b->min_ms + (int64_t)e->first <= maxt && b->min_ms + (int64_t)e->last >= mint;
}

static bool batches_overlap_locked(const struct loose *l, uint32_t series, int64_t mint,
                                   int64_t maxt)
{
    for (uint32_t i = l->n_batches; i-- > 0;) {
        const struct loose_batch *b = l->batches[i];
        if (b->min_ms > maxt || b->max_ms < mint)
            continue;
        for (uint32_t k = loose_batch_find(b, series); k < b->n && b->v[k].series == series; k++) {
            if (entry_overlaps(b, &b->v[k], mint, maxt))
                return true;
        }
    }
    return false;
}

bool loose_series_overlaps(struct loose *l, uint32_t series, int64_t mint, int64_t maxt)
{
    const struct loose_series *s;
    bool found = false;

    if (!loose_overlaps(l, mint, maxt))
        return false;
    nx_lock(&l->lock);
    found = batches_overlap_locked(l, series, mint, maxt);
    s = loose_find_locked(l, series);
    for (uint32_t i = s ? s->n : 0; i-- > 0 && !found;)
        found = s->v[i].t_ms >= mint && s->v[i].t_ms <= maxt;
    for (uint32_t i = s ? s->n_seals : 0; i-- > 0 && !found;)
        found = s->seals[i]->min_ms <= maxt && s->seals[i]->max_ms >= mint;
    nx_unlock(&l->lock);
    return found;
}

struct stored {
    struct loose_batch *batch; /* a reference */
    uint32_t entry;
};

/* What a read takes under the lock. */
struct taken {
    struct stored *stored;
    uint32_t n_stored, cap_stored;
    struct loose_seal **seals;
    uint32_t n_seals;
    struct loose_sample *v;
    uint32_t n;
};

static nx_status take_stored(const struct loose *l, uint32_t series, bool pending, int64_t mint,
                             int64_t maxt, struct taken *out, struct nx_err *err)
{
    for (uint32_t i = 0; i < l->n_batches; i++) {
        struct loose_batch *b = l->batches[i];
        if (b->min_ms > maxt || b->max_ms < mint || (pending && b->written))
            continue;
        for (uint32_t k = loose_batch_find(b, series); k < b->n && b->v[k].series == series; k++) {
            if (!entry_overlaps(b, &b->v[k], mint, maxt))
                continue;
            if (!grow(&out->stored, out->n_stored, &out->cap_stored, sizeof *out->stored, 8))
                return no_memory(err);
            out->stored[out->n_stored++] = (struct stored){loose_batch_ref(b), k};
        }
    }
    return NX_OK;
}

static nx_status take(struct loose *l, uint32_t series, uint64_t seq, bool pending, int64_t mint,
                      int64_t maxt, struct taken *out, struct nx_err *err)
{
    const struct loose_series *s;
    nx_status st;

    *out = (struct taken){0};
    nx_lock(&l->lock);
    st = take_stored(l, series, pending, mint, maxt, out, err);
    s = loose_find_locked(l, series);
    if (s && s->n_seals)
        out->seals = malloc(s->n_seals * sizeof(struct loose_seal *));
    if (s && s->n)
        out->v = malloc(s->n * sizeof *out->v);
    if (!st && s && ((s->n_seals && !out->seals) || (s->n && !out->v)))
        st = no_memory(err);
    for (uint32_t i = 0; s && !st && i < s->n_seals; i++) {
        struct loose_seal *seal = s->seals[i];
        if (seal->min_ms <= maxt && seal->max_ms >= mint && !(pending && seal->written) &&
            (seal->keeps_seq || seal->seq_last <= seq))
            out->seals[out->n_seals++] = loose_seal_ref(seal);
    }
    for (uint32_t i = 0; s && !st && i < s->n; i++) {
        const struct loose_sample *x = &s->v[i];
        if (x->t_ms >= mint && x->t_ms <= maxt && x->seq <= seq)
            out->v[out->n++] = *x;
    }
    nx_unlock(&l->lock);
    return st;
}

static void taken_done(struct taken *k)
{
    for (uint32_t i = 0; i < k->n_stored; i++)
        loose_batch_unref(k->stored[i].batch);
    for (uint32_t i = 0; i < k->n_seals; i++)
        loose_seal_unref(k->seals[i]);
    free(k->stored);
    free(k->seals);
    free(k->v);
}

/* A damaged page costs its samples, as it does of rows (head_read.c, D5). */
static nx_status add_stored(const struct stored *x, int64_t mint, int64_t maxt, struct work *w,
                            struct samples *to, struct nx_err *err)
{
    const size_t mid = to->n;
    uint32_t n = 0;
    nx_status st = headfile_samples(x->batch, x->entry, w, &n, err);

    if (st)
        return st == NX_CORRUPT ? NX_OK : st;
    st = samples_add_rows(to, w->t, w->v, n, mint, maxt, err);
    return st ? st : merge_parts(to, 0, mid, err);
}

nx_status loose_read(struct loose *l, uint32_t series, uint64_t seq, bool pending, int64_t mint,
                     int64_t maxt, struct samples *to, size_t first, struct nx_err *err)
{
    struct samples x = {.share = to->share, .most = to->most};
    struct taken k;
    struct work *w = NULL;
    size_t mid;
    nx_status st;

    if (!loose_overlaps(l, mint, maxt))
        return NX_OK;
    st = take(l, series, seq, pending, mint, maxt, &k, err);
    if (!st && (k.n_seals || k.n_stored) && !(w = head_work(l->head)))
        st = no_memory(err);
    for (uint32_t i = 0; i < k.n_stored && !st; i++) /* L6 */
        st = add_stored(&k.stored[i], mint, maxt, w, &x, err);
    for (uint32_t i = 0; i < k.n_seals && !st; i++)
        st = loose_add_seal(k.seals[i], seq, mint, maxt, w, &x, err);
    mid = x.n;
    for (uint32_t i = 0; i < k.n && !st; i++)
        st = samples_add(&x, k.v[i].t_ms, k.v[i].v, err);
    if (!st)
        st = merge_parts(&x, 0, mid, err);
    mid = to->n;
    if (x.n && (!st || x.over)) { /* over: some of them tell who asked how many there are */
        nx_status full = samples_reserve(to, x.n, st ? NULL : err);
        for (size_t i = 0; i < x.n && !full; i++) {
            to->t[to->n] = x.t[i];
            to->v[to->n++] = x.v[i];
        }
        to->over = to->over || x.over;
        if (!st)
            st = full ? full : merge_parts(to, first, mid, err);
    }
    taken_done(&k);
    head_work_back(l->head, w);
    samples_done(&x);
    return st;
}

/* ---- into blocks ------------------------------------------------------------------------------ */

nx_status loose_take_locked(struct loose *l, int64_t from_ms, int64_t before_ms, bool *any,
                            struct nx_err *err)
{
    struct work *w = head_work(l->head);
    nx_status st = w ? NX_OK : no_memory(err);

    *any = false;
    for (uint32_t i = 0; i <= l->mask && !st; i++) {
        struct loose_series *s = l->table[i];
        while (s && s->n && s->v[0].t_ms < before_ms && !st)
            st = seal_front(l, s, w, err);
    }
    for (uint32_t i = 0; i <= l->mask && !st; i++) {
        struct loose_series *s = l->table[i];
        for (uint32_t k = 0; s && k < s->n_seals; k++) {
            struct loose_seal *seal = s->seals[k];
            seal->taken = seal->min_ms >= from_ms && seal->max_ms < before_ms && !seal->written;
            *any = *any || seal->taken;
        }
    }
    head_work_back(l->head, w);
    return st;
}

void loose_taken_locked(struct loose *l, bool done)
{
    for (uint32_t i = 0; i <= l->mask; i++) {
        struct loose_series *s = l->table[i];
        for (uint32_t k = 0; s && k < s->n_seals; k++) {
            s->seals[k]->written = s->seals[k]->written || (done && s->seals[k]->taken);
            s->seals[k]->taken = false;
        }
    }
    for (uint32_t i = 0; i < l->n_batches; i++) {
        struct loose_batch *b = l->batches[i];
        l->gone_untold = l->gone_untold || (done && b->taken);
        b->written = b->written || (done && b->taken);
        b->taken = false;
    }
    l->ask_needed = true;
}

void loose_take_batches_locked(struct loose *l, int64_t from_ms, int64_t before_ms, bool *any)
{
    for (uint32_t i = 0; i < l->n_batches; i++) {
        struct loose_batch *b = l->batches[i];
        b->taken = b->min_ms >= from_ms && b->max_ms < before_ms && !b->written;
        *any = *any || b->taken;
    }
}

static int time_cmp(const void *x, const void *y)
{
    int64_t a, b;

    memcpy(&a, x, sizeof a);
    memcpy(&b, y, sizeof b);
    return a < b ? -1 : a > b;
}

struct spans {
    int64_t *v;
    size_t n, cap;
};

static bool add_span(const struct loose *l, struct spans *x, int64_t t_ms)
{
    int64_t start = floor_div(t_ms, l->block_ms) * l->block_ms;

    if (x->n && x->v[x->n - 1] == start)
        return true;
    if (x->n == x->cap) {
        size_t cap = x->cap * 2 + 64;
        int64_t *more = realloc(x->v, cap * sizeof *more);
        if (!more)
            return false;
        x->v = more;
        x->cap = cap;
    }
    x->v[x->n++] = start;
    return true;
}

nx_status loose_taken_spans(struct loose *l, int64_t **starts, size_t *n, struct nx_err *err)
{
    struct spans x = {0};
    size_t kept = 0;
    bool room = true;

    nx_lock(&l->lock);
    for (uint32_t i = 0; i <= l->mask && room; i++) {
        const struct loose_series *s = l->table[i];
        for (uint32_t k = 0; s && k < s->n_seals && room; k++)
            room = !s->seals[k]->taken || add_span(l, &x, s->seals[k]->min_ms);
    }
    for (uint32_t i = 0; i < l->n_batches && room; i++) {
        const struct loose_batch *b =
            l->batches[i]; /* of one span, unless blocks were longer when it was made */
        int64_t last = floor_div(b->max_ms, l->block_ms);
        for (int64_t k = floor_div(b->min_ms, l->block_ms); b->taken && k <= last && room; k++)
            room = add_span(l, &x, k * l->block_ms);
    }
    nx_unlock(&l->lock);
    if (!room) {
        free(x.v);
        return no_memory(err);
    }
    if (x.n)
        qsort(x.v, x.n, sizeof *x.v, time_cmp);
    for (size_t i = 0; i < x.n; i++) {
        if (!kept || x.v[kept - 1] != x.v[i])
            x.v[kept++] = x.v[i];
    }
    *starts = x.v;
    *n = kept;
    return NX_OK;
}

/* ---- what leaves memory -------------------------------------------------------------------------- */

static void drop_seal(struct loose *l, struct loose_seal *seal)
{
    atomic_fetch_sub(&l->bytes, loose_seal_bytes(seal));
    atomic_fetch_sub(&l->samples, seal->n);
    loose_seal_unref(seal);
}

static void free_arrays(struct loose *l, struct loose_series *s)
{
    if (s->n_seals == 0) {
        free(s->seals);
        s->seals = NULL;
        s->cap_seals = 0;
    }
    if (s->n == 0 && s->reserved == 0 && s->v) {
        atomic_fetch_sub(&l->bytes, s->cap * sizeof *s->v);
        free(s->v);
        s->v = NULL;
        s->cap = 0;
    }
}

void loose_stored_locked(struct loose *l, struct loose_series *s, int64_t span)
{
    uint32_t kept = 0;

    NX_ASSERT(nx_mutex_held(&l->lock));
    for (uint32_t i = 0; i < s->n_seals; i++) {
        struct loose_seal *seal = s->seals[i];
        if (seal->storing && of_span(l, seal, span))
            drop_seal(l, seal);
        else
            s->seals[kept++] = seal;
    }
    s->n_seals = kept;
    free_arrays(l, s);
    l->ask_needed = true;
}

static void drop_seals(struct loose *l, struct loose_series *s)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < s->n_seals; i++) {
        if (s->seals[i]->written)
            drop_seal(l, s->seals[i]);
        else
            s->seals[kept++] = s->seals[i];
    }
    s->n_seals = kept;
    free_arrays(l, s);
}

static void drop_batches(struct loose *l)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < l->n_batches; i++) {
        if (l->batches[i]->written)
            loose_batch_unref(l->batches[i]);
        else
            l->batches[kept++] = l->batches[i];
    }
    l->n_batches = kept;
    atomic_store(&l->count, l->n + l->n_batches);
}

static void lower(const struct loose_series *s, int64_t *min_ms, int64_t *max_ms)
{
    for (uint32_t i = 0; i < s->n_seals; i++) {
        *min_ms = s->seals[i]->min_ms < *min_ms ? s->seals[i]->min_ms : *min_ms;
        *max_ms = s->seals[i]->max_ms > *max_ms ? s->seals[i]->max_ms : *max_ms;
    }
    if (s->n) {
        *min_ms = s->v[0].t_ms < *min_ms ? s->v[0].t_ms : *min_ms;
        *max_ms = s->v[s->n - 1].t_ms > *max_ms ? s->v[s->n - 1].t_ms : *max_ms;
    }
}

/* The table without those that are gone. Out of memory they stay. */
static void drop_series(struct loose *l)
{
    struct loose smaller = *l;
    uint32_t live = 0;

    for (uint32_t i = 0; i <= l->mask; i++) {
        const struct loose_series *s = l->table[i];
        live += s && (s->bound || s->n || s->n_seals || s->reserved);
    }
    if (live == l->n)
        return;
    smaller.mask = 15;
    while ((live + 1) * 4ull > (smaller.mask + 1ull) * 3)
        smaller.mask = smaller.mask * 2 + 1;
    smaller.table = calloc((size_t)smaller.mask + 1, sizeof(struct loose_series *));
    if (!smaller.table)
        return;
    for (uint32_t i = 0; i <= l->mask; i++) {
        struct loose_series *s = l->table[i];
        if (s && (s->bound || s->n || s->n_seals || s->reserved))
            smaller.table[place(&smaller, s->series)] = s;
        else if (s)
            series_free(s);
    }
    free(l->table);
    l->table = smaller.table;
    l->mask = smaller.mask;
    l->n = live;
    atomic_store(&l->count, live + l->n_batches);
}

void loose_drop(struct loose *l, bool written)
{
    int64_t min_ms = INT64_MAX, max_ms = INT64_MIN;

    if (atomic_load(&l->count) == 0)
        return;
    nx_lock(&l->lock);
    for (uint32_t i = 0; i <= l->mask && written; i++) {
        if (l->table[i])
            drop_seals(l, l->table[i]);
    }
    if (written && !l->gone_untold) /* else their files have to stay, so that it can be told */
        drop_batches(l);
    drop_series(l);
    for (uint32_t i = 0; i <= l->mask; i++) {
        if (l->table[i])
            lower(l->table[i], &min_ms, &max_ms);
    }
    for (uint32_t i = 0; i < l->n_batches; i++) {
        const struct loose_batch *b = l->batches[i];
        min_ms = b->min_ms < min_ms ? b->min_ms : min_ms;
        max_ms = b->max_ms > max_ms ? b->max_ms : max_ms;
    }
    atomic_store(&l->min_ms, min_ms);
    atomic_store(&l->max_ms, max_ms);
    nx_unlock(&l->lock);
}

bool loose_holds(struct loose *l, uint32_t series)
{
    const struct loose_series *s;
    bool holds;

    if (atomic_load(&l->count) == 0)
        return false;
    nx_lock(&l->lock);
    s = loose_find_locked(l, series);
    holds = s && (s->bound || s->n || s->n_seals || s->reserved);
    for (uint32_t i = l->n_batches; i-- > 0 && !holds;)
        holds = loose_batch_find(l->batches[i], series) < l->batches[i]->n;
    nx_unlock(&l->lock);
    return holds;
}

int64_t loose_lowest(struct loose *l, int64_t from_ms)
{
    int64_t lowest = INT64_MAX;

    if (!loose_overlaps(l, from_ms, INT64_MAX))
        return lowest;
    nx_lock(&l->lock);
    for (uint32_t i = 0; i <= l->mask; i++) {
        const struct loose_series *s = l->table[i];
        for (uint32_t k = 0; s && k < s->n_seals; k++) {
            int64_t t = s->seals[k]->min_ms < from_ms ? from_ms : s->seals[k]->min_ms;
            if (s->seals[k]->max_ms >= from_ms && t < lowest && !s->seals[k]->written)
                lowest = t;
        }
        for (uint32_t k = 0; s && k < s->n; k++) {
            if (s->v[k].t_ms >= from_ms && s->v[k].t_ms < lowest)
                lowest = s->v[k].t_ms;
        }
    }
    for (uint32_t i = 0; i < l->n_batches; i++) {
        const struct loose_batch *b = l->batches[i];
        int64_t t = b->min_ms < from_ms ? from_ms : b->min_ms;
        if (b->max_ms >= from_ms && t < lowest && !b->written)
            lowest = t;
    }
    nx_unlock(&l->lock);
    return lowest;
}

void loose_get_counts(struct loose *l, struct loose_counts *out)
{
    *out =
        (struct loose_counts){.samples = atomic_load(&l->samples), .bytes = atomic_load(&l->bytes)};
    if (atomic_load(&l->count) == 0)
        return;
    nx_lock(&l->lock);
    for (uint32_t i = 0; i <= l->mask; i++) {
        const struct loose_series *s = l->table[i];
        if (!s)
            continue;
        out->series++;
        out->seals += s->n_seals + (s->n > 0);
        out->bytes += sizeof *s + s->cap_seals * sizeof(struct loose_seal *);
    }
    out->bytes += (l->mask + 1ull) * sizeof(struct loose_series *);
    for (uint32_t i = 0; i < l->n_batches; i++) {
        out->batches++;
        out->entries += l->batches[i]->n;
        out->stored += l->batches[i]->n_samples;
        out->bytes += loose_batch_bytes(l->batches[i]);
    }
    nx_unlock(&l->lock);
}
