/* querier.c - one view over blocks and head.
 *
 * SHAPE   Sources are blocks by time, then the head. A selection merges the sources' sorted lists; a
 *         series of one source carries that source and its number there as its ref, a series of several
 *         the place of a list of such pairs.
 * RULES   Q1  The querier takes its references on blocks and the time from which it reads the head in one
 *             step under the store's lock, in which a flush also makes the two change together: each
 *             sample is seen once.
 *         Q2  Rows that a flush has put into a block stay in the head while an older querier is open
 *             that reads them there.
 *         Q3  Samples of several sources are in order as they come, but for blocks that overlap
 *             (imports, late samples) and late samples of the head: then they are merged, and of equal
 *             times the first source's is kept.
 *         Q4  A damaged page of chunks costs its samples, one of an index what is asked of that block:
 *             it is counted, logged when it is found, and the read goes on without.
 *         Q5  Where a time is held as samples and as points of a coarser resolution, coarse_pick.c says which is
 *             read; names and labels are those of all. */
#include <stdlib.h>
#include <string.h>

#include "src/base/log.h"
#include "storage/coarse.h"
#include "storage/coarse_pick.h"
#include "storage/storage_impl.h"

#define REF_MANY   (1ull << 63) /* the rest is a place in `many` */
#define REF_SOURCE 40           /* source << 40 | number there; source 0 is the head */
#define REF_NUMBER ((1ull << REF_SOURCE) - 1)

/* Blocks that a lane keeps pages of: few, since nobody else can have their memory. */
#define LANE_BLOCKS 8u

/* What one thread reads with. */
struct lane {
    struct head_reader *head;
    bool own_head; /* else it is the querier's */
    struct chunk_scratch *scratch;
    struct block_reader *blocks[LANE_BLOCKS]; /* by number; NULL: none was needed */
    struct coarse_points points;              /* of one read, as are these two */
    struct coarse_rise rise;
    struct samples column;
};
#define LANES 8u /* kept between reads */

struct store_querier {
    struct querier base;
    struct storage *s;
    struct store_querier *next, *prev; /* under s->lock */
    int64_t mint, maxt;
    int64_t head_from_ms;
    uint64_t entered; /* its number, from 1 */
    struct head_reader *head;
    struct block **blocks;
    size_t n_blocks, n_coarse; /* all; those of points */
    uint64_t *many;            /* runs of refs, each ended by 0 with REF_MANY set */
    size_t n_many, cap_many;
    uint64_t id;                         /* no other querier's, ever */
    atomic_uint n_columns;               /* that have read */
    atomic_bool head_lent;               /* `head` is a lane's */
    _Atomic(struct lane *) lanes[LANES]; /* NULL: none was needed, or it is at work */
};

static struct store_querier *of(struct querier *q)
{
    return (struct store_querier *)(void *)q;
}

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "reading");
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Points are read from before a range that is shorter than they lie apart. */
static bool block_reaches(const struct block_meta *m, int64_t mint, int64_t maxt)
{
    return m->min_ms <= maxt && (m->max_ms > mint || m->max_ms + 2 * m->resolution_ms > mint);
}

/* Source `i` (0: the head) has rows of its own in the range. */
static bool source_overlaps(const struct store_querier *q, size_t i, int64_t mint, int64_t maxt)
{
    if (i == 0) {
        const struct head *h = q->s->head;
        return (maxt >= q->head_from_ms && maxt >= atomic_load(&h->min_ms) &&
                mint <= atomic_load(&h->max_ms)) ||
               loose_overlaps(h->loose, mint, maxt);
    }
    return block_reaches(block_meta(q->blocks[i - 1]), mint, maxt);
}

/* ---- selecting ------------------------------------------------------------------------------- */

#define MERGE_FEW 8u /* lists that are merged without a heap */

struct source_list {
    const struct series *v;
    size_t n, at;
    uint64_t source;
};

static bool list_before(const struct source_list *a, const struct source_list *b)
{
    int c = labels_cmp(&a->v[a->at].labels, &b->v[b->at].labels);

    return c ? c < 0 : (a->source ? a->source : UINT64_MAX) < (b->source ? b->source : UINT64_MAX);
}

static void sift_down(struct source_list **heap, size_t n, size_t i)
{
    for (;;) {
        size_t least = i, l = 2 * i + 1;
        if (l < n && list_before(heap[l], heap[least]))
            least = l;
        if (l + 1 < n && list_before(heap[l + 1], heap[least]))
            least = l + 1;
        if (least == i)
            return;
        struct source_list *swap = heap[i];
        heap[i] = heap[least];
        heap[least] = swap;
        i = least;
    }
}

static bool many_add(struct store_querier *q, uint64_t ref)
{
    if (q->n_many == q->cap_many) {
        size_t cap = q->cap_many * 2 + 64;
        uint64_t *many = realloc(q->many, cap * sizeof *many);
        if (!many)
            return false;
        q->many = many;
        q->cap_many = cap;
    }
    q->many[q->n_many++] = ref;
    return true;
}

/* Adds a source to the last series of the output. */
static bool add_source(struct store_querier *q, struct series *s, uint64_t ref)
{
    if (!(s->ref & REF_MANY)) {
        uint64_t first = s->ref;
        s->ref = REF_MANY | q->n_many;
        return many_add(q, first) && many_add(q, ref) && many_add(q, REF_MANY);
    }
    q->many[q->n_many - 1] = ref; /* its run is the last one */
    return many_add(q, REF_MANY);
}

/* The next series of a list goes to the output, as one of its own or as a source of the last. */
static bool take_series(struct store_querier *q, struct source_list *l, bool same, struct series *v,
                        size_t *n_out)
{
    const struct series *s = &l->v[l->at++];
    const uint64_t ref = l->source << REF_SOURCE | s->ref;

    if (same)
        return add_source(q, &v[*n_out - 1], ref);
    v[(*n_out)++] = (struct series){s->labels, ref};
    return true;
}

/* Few lists have mostly the same series: one look at the head of each tells the least, and who has it. */
static bool merge_few(struct store_querier *q, struct source_list **lists, size_t n,
                      struct series *v, size_t *n_out)
{
    while (n) {
        size_t same[MERGE_FEW] = {0}, n_same = 1, left = 0;
        const struct labels *least = &lists[0]->v[lists[0]->at].labels;

        for (size_t i = 1; i < n; i++) {
            const struct labels *head = &lists[i]->v[lists[i]->at].labels;
            const int c = labels_cmp(head, least);

            if (c < 0) {
                least = head;
                n_same = 0;
            }
            if (c <= 0)
                same[n_same++] = i;
        }
        for (size_t i = 0; i < n_same; i++)
            if (!take_series(q, lists[same[i]], i > 0, v, n_out))
                return false;
        for (size_t i = 0; i < n; i++)
            if (lists[i]->at < lists[i]->n)
                lists[left++] = lists[i];
        n = left;
    }
    return true;
}

static bool merge_many(struct store_querier *q, struct source_list **heap, size_t n,
                       struct series *v, size_t *n_out)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(heap, n, i);
    while (n) {
        struct source_list *l = heap[0];
        bool same = *n_out && labels_eq(&v[*n_out - 1].labels, &l->v[l->at].labels);

        if (!take_series(q, l, same, v, n_out))
            return false;
        if (l->at == l->n)
            heap[0] = heap[--n];
        sift_down(heap, n, 0);
    }
    return true;
}

static nx_status merge_lists(struct store_querier *q, struct source_list *lists, size_t n,
                             struct arena *a, struct series_list *out, struct nx_err *err)
{
    nx_status st = NX_OK;
    struct source_list **heap = calloc(n + 1, sizeof(struct source_list *));
    struct series *v = NULL;
    size_t total = 0, n_heap = 0, n_out = 0;

    if (n == 1 &&
        !lists[0].source) { /* its numbers are the refs, and who reads it knows it again */
        *out = (struct series_list){(struct series *)(uintptr_t)lists[0].v, lists[0].n};
        free(heap);
        return NX_OK;
    }
    for (size_t i = 0; i < n; i++)
        total += lists[i].n;
    if (total)
        v = arena_alloc(a, total * sizeof *v);
    if (!heap || (total && !v)) {
        st = heap ? arena_failed(a, err) : no_memory(err);
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        if (lists[i].n && lists[i].source)
            heap[n_heap++] = &lists[i];
    for (size_t i = 0; i < n; i++)
        if (lists[i].n && !lists[i].source) /* the head comes last */
            heap[n_heap++] = &lists[i];
    if (!(n_heap <= MERGE_FEW ? merge_few : merge_many)(q, heap, n_heap, v, &n_out)) {
        st = no_memory(err);
        goto done;
    }
    *out = (struct series_list){v, n_out};

done:
    free(heap);
    return st;
}

/* Q4: what an operation on a block gave, that began when `damaged` pages of it were known. */
static nx_status unless_damaged(const struct block *b, uint64_t damaged, nx_status st,
                                const struct nx_err *damage, struct nx_err *err)
{
    if (st != NX_CORRUPT)
        return st ? nx_fail(err, st, "%s", damage->text) : NX_OK;
    if (block_pages_damaged(b) > damaged)
        log_error("A damaged page was left out of a result", "err", damage->text);
    return NX_OK;
}

static nx_status select_block(struct block *b, const struct matcher *m, size_t n, int64_t mint,
                              int64_t maxt, size_t most, struct arena *a, struct series_list *list,
                              struct nx_err *err)
{
    const int64_t resolution_ms = block_meta(b)->resolution_ms;
    uint64_t damaged = block_pages_damaged(b);
    struct nx_err damage;
    nx_status st;

    if (mint > INT64_MIN + 2 * resolution_ms)
        mint -= 2 * resolution_ms;
    st = block_select_some(b, m, n, mint, maxt, most, a, list, &damage);

    return unless_damaged(b, damaged, st, &damage, err);
}

static nx_status select_source(struct store_querier *q, size_t i, const struct matcher *m, size_t n,
                               int64_t mint, int64_t maxt, size_t most,
                               const struct label_names *only, struct arena *a,
                               struct source_list *out, struct nx_err *err)
{
    struct series_list list = {0};
    nx_status st;

    if (i == 0)
        st = head_select(q->head, m, n, mint, maxt, most, only, a, &list, err);
    else
        st = select_block(q->blocks[i - 1], m, n, mint, maxt, most, a, &list, err);
    *out = (struct source_list){list.v, list.n, 0, i};
    return st;
}

/* Labels of several sources are compared: then they must be there. */
static bool head_alone(const struct store_querier *q, int64_t mint, int64_t maxt)
{
    for (size_t i = 1; i <= q->n_blocks; i++)
        if (source_overlaps(q, i, mint, maxt))
            return false;
    return true;
}

static nx_status select_all(struct store_querier *q, const struct matcher *m, size_t n,
                            int64_t mint, int64_t maxt, size_t most, const struct label_names *only,
                            struct arena *a, struct series_list *out, struct nx_err *err)
{
    struct source_list *lists = calloc(q->n_blocks + 1, sizeof *lists);
    size_t n_lists = 0;
    nx_status st = NX_OK;

    if (!lists)
        return no_memory(err);
    mint = later(mint, q->mint);
    maxt = earlier(maxt, q->maxt);
    if (only && !head_alone(q, mint, maxt))
        only = NULL;
    for (size_t i = 0; i <= q->n_blocks && !st; i++) {
        if (source_overlaps(q, i, mint, maxt))
            st = select_source(q, i, m, n, mint, maxt, most, only, a, &lists[n_lists++], err);
    }
    if (!st)
        st = merge_lists(q, lists, n_lists, a, out, err);
    free(lists);
    return st;
}

/* With `most` of each source there are as many in all, if there are that many. */
static nx_status q_select_some(struct querier *base, const struct matcher *m, size_t n,
                               int64_t mint, int64_t maxt, size_t most, struct arena *a,
                               struct series_list *out, struct nx_err *err)
{
    return select_all(of(base), m, n, mint, maxt, most, NULL, a, out, err);
}

static nx_status q_select_for(struct querier *base, const struct matcher *m, size_t n, int64_t mint,
                              int64_t maxt, const struct label_names *only, struct arena *a,
                              struct series_list *out, struct nx_err *err)
{
    return select_all(of(base), m, n, mint, maxt, SIZE_MAX, only, a, out, err);
}

static nx_status q_select(struct querier *base, const struct matcher *m, size_t n, int64_t mint,
                          int64_t maxt, struct arena *a, struct series_list *out,
                          struct nx_err *err)
{
    return select_all(of(base), m, n, mint, maxt, SIZE_MAX, NULL, a, out, err);
}

static nx_status q_read_for(struct querier *base, const struct series *s, const struct read_hint *h,
                            int64_t mint, int64_t maxt, struct column *c, struct nx_err *err);

/* ---- reading --------------------------------------------------------------------------------- */

/* What a column of ours owns. */
struct column_own {
    struct samples samples;
    uint64_t querier; /* the last one that read into it, */
    unsigned lane;    /* and the lane's place there */
};

static void column_own_free(void *own)
{
    samples_done(&((struct column_own *)own)->samples);
    free(own);
}

static struct column_own *column_own_of(struct column *c)
{
    struct column_own *own = c->own;

    if (c->own_free != column_own_free) {
        if (c->own_free)
            c->own_free(c->own);
        own = calloc(1, sizeof *own);
        c->own = own;
        c->own_free = own ? column_own_free : NULL;
        if (own)
            own->samples.share = c->share;
    }
    if (own) {
        own->samples.n = 0;
        own->samples.most = c->most;
        own->samples.over = false;
    }
    return own;
}

static void lane_free(struct lane *l)
{
    if (!l)
        return;
    if (l->own_head)
        head_reader_free(l->head);
    for (size_t i = 0; i < LANE_BLOCKS; i++)
        block_reader_free(l->blocks[i]);
    chunk_scratch_free(l->scratch);
    coarse_points_done(&l->points);
    samples_done(&l->column);
    free(l);
}

static struct lane *lane_new(struct store_querier *q)
{
    struct lane *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->own_head = atomic_exchange(&q->head_lent, true);
    l->head = l->own_head ? head_reader_beside(q->head) : q->head;
    l->scratch = chunk_scratch_new();
    if (!l->head || !l->scratch) {
        if (!l->own_head)
            atomic_store(&q->head_lent, false);
        lane_free(l);
        return NULL;
    }
    return l;
}

static struct lane *lane_take(struct store_querier *q, struct column_own *own)
{
    struct lane *l;

    if (own->querier != q->id) {
        own->querier = q->id;
        own->lane = atomic_fetch_add(&q->n_columns, 1) % LANES;
    }
    l = atomic_exchange(&q->lanes[own->lane], NULL);
    return l ? l : lane_new(q);
}

static void lane_give(struct store_querier *q, const struct column_own *own, struct lane *l)
{
    struct lane *other = atomic_exchange(&q->lanes[own->lane], l);

    if (other && !other->own_head)
        atomic_store(&q->head_lent, false);
    lane_free(other);
}

static nx_status read_block(struct lane *l, const struct store_querier *q, uint64_t source,
                            uint64_t number, int64_t mint, int64_t maxt, bool marks,
                            struct samples *to, struct nx_err *err)
{
    struct block *b = q->blocks[source - 1];
    struct block_reader **r = &l->blocks[source % LANE_BLOCKS];
    uint64_t damaged = block_pages_damaged(b);
    struct nx_err damage;
    nx_status st;

    if (!*r)
        *r = block_reader_new();
    if (!*r)
        return no_memory(err);
    st = block_reader_read(*r, b, number, mint, maxt, marks, to, l->scratch, &damage);
    return unless_damaged(b, damaged, st, &damage, err);
}

static nx_status read_source(const struct store_querier *q, struct lane *l, uint64_t ref,
                             int64_t mint, int64_t maxt, bool marks, struct samples *to,
                             struct nx_err *err)
{
    uint64_t source = ref >> REF_SOURCE, number = ref & REF_NUMBER;

    if (!source_overlaps(q, source, mint, maxt))
        return NX_OK;
    if (source == 0)
        return head_read(l->head, (uint32_t)number, mint, maxt, to, err);
    return read_block(l, q, source, number, mint, maxt, marks, to, err);
}

struct indexed {
    int64_t t;
    size_t at;
};

static int indexed_cmp(const void *x, const void *y)
{
    const struct indexed *a = x, *b = y;

    if (a->t != b->t)
        return a->t < b->t ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

/* Q3 */
static nx_status put_in_order(struct samples *s, struct nx_err *err)
{
    struct indexed *ix;
    double *v;
    size_t kept = 0, i = 1;

    while (i < s->n && s->t[i] > s->t[i - 1])
        i++;
    if (i >= s->n)
        return NX_OK;
    ix = malloc(s->n * sizeof *ix);
    v = ix ? malloc(s->n * sizeof *v) : NULL;
    if (!v) {
        free(ix);
        return no_memory(err);
    }
    for (i = 0; i < s->n; i++)
        ix[i] = (struct indexed){s->t[i], i};
    memcpy(v, s->v, s->n * sizeof *v);
    qsort(ix, s->n, sizeof *ix, indexed_cmp);
    for (i = 0; i < s->n; i++) {
        if (kept && s->t[kept - 1] == ix[i].t)
            continue;
        s->t[kept] = ix[i].t;
        s->v[kept++] = v[ix[i].at];
    }
    s->n = kept;
    free(ix);
    free(v);
    return NX_OK;
}

/* ---- points beside samples ---- */

static int64_t ref_resolution(const struct store_querier *q, uint64_t ref)
{
    const uint64_t source = ref >> REF_SOURCE;

    return source ? block_meta(q->blocks[source - 1])->resolution_ms : 0;
}

/* The sources of a series: one, or a run of `many`. */
static const uint64_t *refs_of(const struct store_querier *q, const struct series *s, size_t *n)
{
    const uint64_t *refs = &s->ref;

    *n = 1;
    if (s->ref & REF_MANY) {
        refs = &q->many[s->ref & ~REF_MANY];
        for (*n = 0; !(refs[*n] & REF_MANY);)
            ++*n;
    }
    return refs;
}

/* What reading points takes besides the column counts with the column. */
static void count_in(struct lane *l, struct arena_share *share)
{
    if (l->points.share == share)
        return;
    coarse_points_done(&l->points);
    samples_done(&l->column);
    l->points.share = l->column.share = share;
}

/* Q5: the points of one part. */
static nx_status read_points(const struct store_querier *q, struct lane *l, uint64_t ref,
                             const struct pick_part *part, const struct read_hint *h, int64_t mint,
                             int64_t maxt, struct column *c, struct samples *to, struct nx_err *err)
{
    struct block *b = q->blocks[(ref >> REF_SOURCE) - 1];
    const struct block_meta *m = block_meta(b);
    const int64_t resolution_ms = m->resolution_ms;
    const bool exact = pick_is_exact(h, resolution_ms);
    const size_t had = to->n;
    uint64_t damaged = block_pages_damaged(b);
    struct nx_err damage;
    nx_status st;

    if (h && !exact && mint > INT64_MIN + 2 * resolution_ms)
        mint -= 2 * resolution_ms;
    mint = later(mint, part->from_ms);
    maxt = earlier(maxt, part->to_ms);
    if (mint > maxt)
        return NX_OK;
    count_in(l, c->share);
    l->points.n = 0;
    l->points.most = c->most;
    st = coarse_read(b, ref & REF_NUMBER, later(mint - resolution_ms, m->min_ms), maxt, &l->points,
                     &l->column, l->scratch, &damage);
    st = unless_damaged(b, damaged, st, &damage, err);
    if (!st)
        st = coarse_emit(&l->points, resolution_ms, h ? h->use : READ_VALUE, exact, mint, maxt,
                         &l->rise, to, err);
    c->coarse_to_ms = later(c->coarse_to_ms, maxt);
    if (st || to->n == had)
        return st;
    c->exact = exact && (c->exact || !c->resolution_ms);
    c->resolution_ms = later(c->resolution_ms, resolution_ms);
    return NX_OK;
}

/* Q5. Samples beside points tell what the points tell. */
static nx_status read_part(const struct store_querier *q, struct lane *l, uint64_t ref,
                           const struct pick_part *part, const struct read_hint *h, int64_t mint,
                           int64_t maxt, struct column *c, struct samples *to, struct nx_err *err)
{
    const size_t had = to->n;
    nx_status st;

    if (ref_resolution(q, ref))
        return read_points(q, l, ref, part, h, mint, maxt, c, to, err);
    if (ref >> REF_SOURCE) { /* the head has late samples before its time, too */
        mint = later(mint, part->from_ms);
        maxt = earlier(maxt, part->to_ms);
    }
    if (mint > maxt)
        return NX_OK;
    st = read_source(q, l, ref, mint, maxt, false, to, err);
    for (size_t i = had; i < to->n && h && h->use == READ_COUNT; i++)
        to->v[i] = num_is_stale(to->v[i]) ? to->v[i] : 1;
    if (h && h->use == READ_COUNTER)
        coarse_rise_samples(&l->rise, to, had);
    return st;
}

static nx_status read_mixed(const struct store_querier *q, struct lane *l, const uint64_t *refs,
                            size_t n, const struct read_hint *h, int64_t mint, int64_t maxt,
                            struct column *c, struct samples *to, struct nx_err *err)
{
    struct pick_source *v = calloc(n + 1, sizeof *v);
    struct pick_part *parts = calloc(pick_max(n) + 1, sizeof *parts);
    bool *skip = calloc(pick_max(n) + 1, sizeof *skip), points = false;
    size_t n_parts = 0, at_mint = 0;
    nx_status st = v && parts && skip ? NX_OK : no_memory(err);

    for (size_t i = 0; i < n && !st; i++) {
        const uint64_t source = refs[i] >> REF_SOURCE;
        v[i] = (struct pick_source){q->head_from_ms, INT64_MAX, 0};
        if (source) {
            const struct block_meta *m = block_meta(q->blocks[source - 1]);
            v[i] = (struct pick_source){m->min_ms, m->max_ms, m->resolution_ms};
        }
    }
    if (!st)
        n_parts = pick_parts(v, n, h, parts);
    l->rise = (struct coarse_rise){0};
    while (at_mint < n_parts && parts[at_mint].to_ms < mint)
        at_mint++;
    for (size_t i = 0; i < n_parts && !st; i++) {
        /* What ended before is read for the points that go on with it, and not where finer ones begin. */
        skip[i] = parts[i].from_ms > maxt ||
                  (parts[i].to_ms < mint && refs[parts[i].source] >> REF_SOURCE &&
                   (at_mint == n_parts ||
                    v[parts[i].source].resolution_ms != v[parts[at_mint].source].resolution_ms));
        points = points || (!skip[i] && v[parts[i].source].resolution_ms);
    }
    for (size_t i = 0; i < n_parts && !st; i++)
        if (!skip[i])
            st = read_part(q, l, refs[parts[i].source], &parts[i], points ? h : NULL, mint, maxt, c,
                           to, err);
    if (!st)
        st = put_in_order(to, err);
    free(v);
    free(parts);
    free(skip);
    return st;
}

static nx_status q_read(struct querier *base, const struct series *s, int64_t mint, int64_t maxt,
                        struct column *c, struct nx_err *err)
{
    return q_read_for(base, s, NULL, mint, maxt, c, err);
}

/* What the head alone has, it may have for a whole selection at once. That stays until the querier is closed, so it
 * is for who counts it, and keeps its lists as long. */
static bool read_together(struct store_querier *q, const struct series *s,
                          const struct read_hint *h, int64_t mint, int64_t maxt, struct column *c)
{
    const bool newest =
        h && h->use == READ_VALUE && !h->range_ms && !h->step_ms && h->first_ms == maxt;

    return c->share && !(s->ref >> REF_SOURCE) &&
           head_read_together(q->head, s, later(mint, q->mint), earlier(maxt, q->maxt), newest,
                              c->share, c);
}

static nx_status q_read_for(struct querier *base, const struct series *s, const struct read_hint *h,
                            int64_t mint, int64_t maxt, struct column *c, struct nx_err *err)
{
    struct store_querier *q = of(base);
    struct column_own *own;
    struct lane *l;
    struct samples *to;
    size_t n;
    const uint64_t *refs = refs_of(q, s, &n);
    bool points = false;
    nx_status st = NX_OK;

    c->resolution_ms = 0;
    c->coarse_to_ms = INT64_MIN;
    c->exact = false;
    if (read_together(q, s, h, mint, maxt, c))
        return NX_OK;
    own = column_own_of(c);
    l = own ? lane_take(q, own) : NULL;
    if (!l)
        return no_memory(err);
    to = &own->samples;
    mint = later(mint, q->mint);
    maxt = earlier(maxt, q->maxt);
    for (size_t i = 0; i < n && q->n_coarse; i++)
        points = points || ref_resolution(q, refs[i]);
    if (points) {
        st = read_mixed(q, l, refs, n, h, mint, maxt, c, to, err);
    } else {
        bool ordered = true;
        for (size_t i = 0; i < n && !st; i++) {
            const size_t had = to->n;
            st = read_source(q, l, refs[i], mint, maxt, h && h->marks, to, err);
            /* Q3; each source's own are in order. */
            ordered = ordered && (!had || had == to->n || to->t[had] > to->t[had - 1]);
        }
        if (!st && !ordered)
            st = put_in_order(to, err);
    }
    c->t = to->t;
    c->v = to->v;
    c->over = st == NX_LIMIT && (to->over || (c->most && l->points.n > c->most));
    lane_give(q, own, l);
    c->n = st && !c->over ? 0 : to->n;
    return st;
}

/* ---- names and values ------------------------------------------------------------------------ */

struct union_of {
    struct nx_slice *v, *spare; /* malloc'ed; the bytes are in the arena */
    size_t n;
};

static void union_done(struct union_of *u)
{
    free(u->v);
    free(u->spare);
}

/* Merges a sorted list in; what is new is copied. Sources have much in common, and their lists go. */
static nx_status union_add(struct union_of *u, const struct nx_slice *v, size_t n, struct arena *a,
                           struct nx_err *err)
{
    struct nx_slice *to, *old = u->v;
    size_t kept = 0, i = 0, k = 0;

    if (n == 0)
        return NX_OK;
    to = realloc(u->spare, (u->n + n) * sizeof *to);
    if (!to)
        return no_memory(err);
    u->spare = to;
    while (i < u->n || k < n) {
        const int c = i == u->n ? 1 : k == n ? -1 : nx_slice_cmp(old[i], v[k]);
        if (c <= 0) {
            to[kept++] = old[i++];
            k += c == 0;
            continue;
        }
        to[kept] = arena_slice(a, v[k++]);
        if (!to[kept++].ptr)
            return arena_failed(a, err);
    }
    u->v = to;
    u->spare = old;
    u->n = kept;
    return NX_OK;
}

static nx_status union_out(const struct union_of *u, size_t limit, struct arena *a,
                           struct nx_slice **out, size_t *n_out, struct nx_err *err)
{
    size_t n = limit && u->n > limit ? limit + 1 : u->n;
    struct nx_slice *v = arena_alloc(a, n * sizeof *v);

    if (!v)
        return arena_failed(a, err);
    if (n)
        memcpy(v, u->v, n * sizeof *v);
    *out = v;
    *n_out = n;
    return NX_OK;
}

static nx_status list_block(struct block *b, const struct nx_slice *name, const struct matcher *m,
                            size_t n, int64_t mint, int64_t maxt, size_t limit, struct arena *a,
                            struct nx_slice **v, size_t *nv, struct nx_err *err)
{
    uint64_t damaged = block_pages_damaged(b);
    struct nx_err damage;
    nx_status st;

    if (name)
        st = block_label_values(b, *name, m, n, mint, maxt, limit, a, v, nv, &damage);
    else
        st = block_label_names(b, m, n, mint, maxt, limit, a, v, nv, &damage);
    return unless_damaged(b, damaged, st, &damage, err);
}

/* What source `i` has of label names (values of `name`), sorted, in the arena. */
static nx_status list_source(struct store_querier *q, size_t i, const struct nx_slice *name,
                             const struct matcher *m, size_t n, int64_t mint, int64_t maxt,
                             size_t limit, struct arena *a, struct nx_slice **v, size_t *nv,
                             struct nx_err *err)
{
    if (i == 0 && name)
        return head_label_values(q->head, *name, m, n, mint, maxt, limit, a, v, nv, err);
    if (i == 0)
        return head_label_names(q->head, m, n, mint, maxt, limit, a, v, nv, err);
    return list_block(q->blocks[i - 1], name, m, n, mint, maxt, limit, a, v, nv, err);
}

/* `name` NULL: label names, else the values of that name. One source's list is in memory beside the union. */
static nx_status list_labels(struct store_querier *q, const struct nx_slice *name,
                             const struct matcher *m, size_t n, int64_t mint, int64_t maxt,
                             size_t limit, struct arena *a, struct nx_slice **out, size_t *n_out,
                             struct nx_err *err)
{
    struct union_of u = {0};
    struct arena *own = arena_beside(a);
    nx_status st = own ? NX_OK : no_memory(err);

    mint = later(mint, q->mint);
    maxt = earlier(maxt, q->maxt);
    for (size_t i = 0; i <= q->n_blocks && !st; i++) {
        struct nx_slice *v = NULL;
        size_t nv = 0;
        if (!source_overlaps(q, i, mint, maxt))
            continue;
        arena_reset(own);
        st = list_source(q, i, name, m, n, mint, maxt, limit, own, &v, &nv, err);
        if (!st)
            st = union_add(&u, v, nv, a, err);
    }
    if (!st)
        st = union_out(&u, limit, a, out, n_out, err);
    union_done(&u);
    arena_free(own);
    return st;
}

static nx_status q_label_names(struct querier *base, const struct matcher *m, size_t n,
                               int64_t mint, int64_t maxt, size_t limit, struct arena *a,
                               struct nx_slice **out, size_t *n_out, struct nx_err *err)
{
    return list_labels(of(base), NULL, m, n, mint, maxt, limit, a, out, n_out, err);
}

static nx_status q_label_values(struct querier *base, struct nx_slice name, const struct matcher *m,
                                size_t n, int64_t mint, int64_t maxt, size_t limit, struct arena *a,
                                struct nx_slice **out, size_t *n_out, struct nx_err *err)
{
    return list_labels(of(base), &name, m, n, mint, maxt, limit, a, out, n_out, err);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void q_close(struct querier *base)
{
    struct store_querier *q = of(base);
    struct storage *s = q->s;

    nx_lock(&s->lock);
    if (q->next)
        q->next->prev = q->prev;
    if (q->prev)
        q->prev->next = q->next;
    else
        s->queriers = q->next;
    nx_unlock(&s->lock);
    for (size_t i = 0; i < LANES; i++)
        lane_free(q->lanes[i]);
    for (size_t i = 0; i < q->n_blocks; i++)
        block_unref(q->blocks[i]);
    head_reader_free(q->head);
    free(q->blocks);
    free(q->many);
    free(q);
}

static const struct querier_ops ops = {.select = q_select,
                                       .select_for = q_select_for,
                                       .read = q_read,
                                       .label_names = q_label_names,
                                       .label_values = q_label_values,
                                       .close = q_close,
                                       .read_for = q_read_for,
                                       .select_some = q_select_some,
                                       .reads_side_by_side = true};

bool storage_is_read_before(struct storage *s, int64_t before_ms)
{
    bool found = false;

    nx_lock(&s->lock);
    for (const struct store_querier *q = s->queriers; q && !found; q = q->next)
        found = q->head_from_ms < before_ms && q->mint < before_ms;
    nx_unlock(&s->lock);
    return found;
}

bool storage_is_open_since(struct storage *s, uint64_t n_entered)
{
    bool found = false;

    nx_lock(&s->lock);
    for (const struct store_querier *q = s->queriers; q && !found; q = q->next)
        found = q->entered <= n_entered;
    nx_unlock(&s->lock);
    return found;
}

/* Q1 */
static nx_status enter(struct store_querier *q, struct storage *s, struct nx_err *err)
{
    nx_status st = NX_OK;

    nx_lock(&s->lock);
    if (s->n_blocks) {
        q->blocks = malloc(s->n_blocks * sizeof(struct block *));
        if (!q->blocks)
            st = no_memory(err);
    }
    for (size_t i = 0; i < s->n_blocks && !st; i++) {
        const struct block_meta *m = block_meta(s->blocks[i]);
        if (!block_reaches(m, q->mint, q->maxt))
            continue;
        q->blocks[q->n_blocks++] = block_ref(s->blocks[i]);
        q->n_coarse += m->resolution_ms > 0;
    }
    q->head_from_ms = s->head_from_ms;
    q->entered = ++s->n_entered;
    q->next = s->queriers;
    if (s->queriers)
        s->queriers->prev = q;
    s->queriers = q;
    nx_unlock(&s->lock);
    return st;
}

nx_status storage_querier(struct storage *s, int64_t mint, int64_t maxt, struct querier **out,
                          struct nx_err *err)
{
    static _Atomic uint64_t n_queriers;
    struct store_querier *q = calloc(1, sizeof *q);
    nx_status st;

    if (!q)
        return no_memory(err);
    q->id = 1 + atomic_fetch_add(&n_queriers, 1);
    q->base.ops = &ops;
    q->s = s;
    q->mint = mint;
    q->maxt = maxt;
    st = enter(q, s, err);
    if (!st)
        st = head_reader_new(&q->head, s->head, err);
    if (!st)
        head_reader_skip(q->head, q->head_from_ms, false);
    if (st) {
        q_close(&q->base);
        return st;
    }
    *out = &q->base;
    return NX_OK;
}
