/* eval_ahead.c - the rows of a large query are made by more than one thread.
 *
 * WHY     Nearly all that a large query costs is in the rows of its leaves: chunks are decoded and functions go over
 *         windows, and no row needs another. What is done with them, sums above all, depends on their order.
 * SHAPE   Rows are dealt out in blocks. Helpers (workers.h) make blocks ahead of the consumer, each with a fork: an
 *         eval and a copy of the chain of rows of its own. The consumer pulls a block itself if nobody has begun it;
 *         if a helper is at work on it, the consumer makes a later one meanwhile, and only when there is none that it
 *         may make does it wait. Blocks lie in a ring of slots until they are used.
 * RULES   H1  Rows are used strictly in order, by one thread. With each goes what its pull counted and noted,
 *             and that is put where the pull would have put it: results, statistics, annotations and errors
 *             are those of one thread, to the bit.
 *         H2  What it costs to begin is known only from the rows themselves: the first few are pulled as ever,
 *             and the rest is dealt out if it would take long. Small queries pay for a look at the clock.
 *         H3  A fork that fails is not asked again, and its row is pulled by the consumer, which fails or not
 *             as it would have. What the consumer itself fails with ahead of time is told when it is that row's
 *             turn; a limit that the rows before it would have reached is told first.
 *         H4  Slots, forks and columns count as the query's memory. Slots take SLOT_BYTES at most, and where
 *             a row is too large for that, or the query near its bound, it goes alone: nothing is begun any more,
 *             what is made is used up, and all that helpers had is given back. A query that fails for its memory
 *             soon after that, or before it could be seen to come, is done once more without helpers (engine.c):
 *             it fails only if it needs too much by itself.
 *         H5  Nothing but pulls runs beside helpers: no node is evaluated, nothing selected, until the rows are used
 *             up or given up.
 * THREADS crew.lock guards who has which block; a slot's content is its maker's until it is MADE, and then the
 *         consumer's until its block is passed. No lock is held while a row is made. */
#include <stdlib.h>
#include <string.h>

#include "promql/eval.h"
#include "src/base/clock.h"
#include "src/base/thread.h"
#include "src/base/workers.h"

#define LEAST_ROWS    4u
#define MANY_ROWS     64u     /* so that one that takes long does not decide */
#define LEAST_LEFT_NS 1000000 /* for less it is not worth to wake somebody */
#define BLOCK_NS      120000  /* a block's work, about */
#define MOST_ROWS     512u    /* in a block */
#define BLOCKS_EACH   4u      /* slots for each thread */
#define SLOT_BYTES    (4u << 20)
#define ODDS_BYTES                                                                                 \
    (8u << 20) /* what buffers grow to depends on who pulls which rows; by less than this */
#define BLOCK_BYTES                                                                                \
    (96u << 10) /* of values, if it has more rows than one: they should stay in a cache */

/* A row that was made ahead, and what came with it. */
struct made_row {
    struct row row;
    uint64_t held, peak, asked; /* from 0 on */
    struct annots annots;       /* in the slot's arena */
};

enum slot_is { SLOT_FREE, SLOT_AT_WORK, SLOT_MADE };

struct slot {
    enum slot_is is; /* under crew.lock */
    bool own;        /* made by the consumer, */
    nx_status st;    /* which could not make the row after the last for this */
    struct nx_err err;
    size_t n; /* rows made */
    struct made_row *rows;
    struct arena *notes;
};

struct helper {
    struct work work; /* first */
    struct crew *crew;
    struct eval ev; /* the fork */
    struct rows *rows;
};

struct crew {
    /* set once */
    struct eval *ev;
    struct rows *r;
    struct workers *pool;
    size_t first, n, block_rows; /* blocks begin at row `first` */
    size_t n_slots;
    struct arena *a; /* slots and forks */
    struct slot *slots;
    struct helper *helpers;
    unsigned n_helpers;

    /* the consumer's alone */
    size_t at;   /* block that rows come from */
    bool direct; /* and it is not in a slot */

    struct nx_mutex lock;
    struct nx_cond made, room;
    /* under lock */
    size_t next, n_blocks; /* not begun yet: [next, n_blocks) */
    size_t passed;         /* blocks before this are used up */
    bool waits;            /* the consumer */
    unsigned n_waiting;    /* helpers, for room */
    bool stop;
};

/* ---- forks ------------------------------------------------------------------------------------ */

nx_status rows_fork_shared(struct eval *to, const struct rows *r, struct rows *copy,
                           struct nx_err *err)
{
    (void)to, (void)r, (void)copy, (void)err;
    return NX_OK;
}

static bool can_fork(const struct rows *r)
{
    for (; !r->data; r = r->child) {
        if (!r->fork)
            return false;
        if (!r->child)
            return true;
    }
    return true;
}

static nx_status fork_rows(struct eval *to, const struct rows *r, struct rows **out,
                           struct nx_err *err)
{
    struct rows *copy = arena_alloc(to->work, sizeof *copy);
    nx_status st = NX_OK;

    if (!copy)
        return eval_nomem(to, to->work, err);
    *copy = *r;
    copy->held = 0;
    copy->ahead.on = false;
    if (!r->data && r->child)
        st = fork_rows(to, r->child, &copy->child, err);
    if (!st && !r->data)
        st = r->fork(to, r, copy, err);
    *out = copy;
    return st;
}

static nx_status helper_fork(struct crew *c, struct helper *h, struct nx_err *err)
{
    h->crew = c;
    h->ev = *c->ev;
    h->ev.col = (struct column){0};
    h->ev.lane = (uint8_t)(1 + (h - c->helpers));
    h->ev.helpers = NULL;
    h->ev.crew = NULL;
    h->ev.work = arena_beside(c->ev->work);
    return h->ev.work ? fork_rows(&h->ev, c->r, &h->rows, err)
                      : nx_fail(err, NX_NOMEM, "making a helper");
}

static void helper_done(struct helper *h)
{
    if (!h->crew)
        return;
    column_done(&h->ev.col);
    arena_free(h->ev.work);
    h->crew = NULL;
}

/* ---- making blocks ---------------------------------------------------------------------------- */

static struct slot *slot_of(const struct crew *c, size_t block)
{
    return &c->slots[block % c->n_slots];
}

static size_t rows_in(const struct crew *c, size_t block)
{
    size_t from = c->first + block * c->block_rows, left = c->n - from;

    return left < c->block_rows ? left : c->block_rows;
}

/* Makes the rows of a block, until one fails: then its number is s->n. */
static nx_status make_rows(const struct crew *c, struct slot *s, size_t block, struct eval *ev,
                           struct rows *r, struct nx_err *err)
{
    const size_t from = c->first + block * c->block_rows, n = rows_in(c, block);
    nx_status st = NX_OK;

    arena_reset(s->notes);
    for (s->n = 0; s->n < n; s->n++) {
        struct made_row *m = &s->rows[s->n];

        ev->held = ev->peak = ev->asked = 0;
        ev->annots = (struct annots){.a = s->notes};
        st = eval_check(ev, err);
        if (!st)
            st = r->pull(ev, r, from + s->n, &m->row, err);
        m->held = ev->held;
        m->peak = ev->peak;
        m->asked = ev->asked;
        m->annots = ev->annots;
        if (st)
            break;
    }
    return st;
}

/* Nothing is begun any more but what the consumer needs next. */
static void stop_locked(struct crew *c)
{
    NX_ASSERT(nx_mutex_held(&c->lock));
    c->stop = true;
    c->n_blocks = c->next;
    nx_cond_broadcast(&c->room);
}

/* A helper at work, until there is nothing left to begin. */
static void helper_run(struct work *w)
{
    struct helper *h = (struct helper *)(void *)w;
    struct crew *c = h->crew;

    nx_lock(&c->lock);
    while (!c->stop && c->next < c->n_blocks && !workers_crowded(c->pool)) {
        if (c->next - c->passed >= c->n_slots) {
            c->n_waiting++;
            nx_cond_wait(&c->room, &c->lock);
            c->n_waiting--;
            continue;
        }
        const size_t block = c->next++;
        struct slot *s = slot_of(c, block);
        s->is = SLOT_AT_WORK;
        nx_unlock(&c->lock);
        s->own = false;
        s->st = make_rows(c, s, block, &h->ev, h->rows, NULL);
        nx_lock(&c->lock);
        s->is = SLOT_MADE;
        if (s->st) /* H3 */
            stop_locked(c);
        if (c->waits)
            nx_cond_signal(&c->made);
    }
    nx_unlock(&c->lock);
}

/* The consumer makes a block ahead of its turn. */
static void make_own(struct crew *c, size_t block)
{
    struct eval *ev = c->ev;
    struct slot *s = slot_of(c, block);
    const uint64_t held = ev->held, peak = ev->peak, asked = ev->asked;
    const struct annots annots = ev->annots;

    s->own = true;
    s->st = make_rows(c, s, block, ev, c->r, &s->err);
    ev->held = held;
    ev->peak = peak;
    ev->asked = asked;
    ev->annots = annots;
}

/* ---- beginning and ending --------------------------------------------------------------------- */

static void crew_free(struct crew *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < c->n_helpers; i++)
        helper_done(&c->helpers[i]);
    for (size_t i = 0; c->slots && i < c->n_slots; i++)
        arena_free(c->slots[i].notes);
    nx_cond_done(&c->room);
    nx_cond_done(&c->made);
    nx_mutex_done(&c->lock);
    arena_free(c->a);
}

void ahead_end(struct eval *ev)
{
    struct crew *c = ev->crew;

    if (!c)
        return;
    nx_lock(&c->lock);
    stop_locked(c);
    nx_unlock(&c->lock);
    for (unsigned i = 0; i < c->n_helpers; i++)
        workers_wait(c->pool, &c->helpers[i].work);
    ev->crew = NULL;
    c->r->ahead.on = false;
    crew_free(c);
    ev->helped = true;
    ev->helped_to_bytes = __atomic_load_n(&ev->share->bytes, __ATOMIC_RELAXED);
}

bool ahead_may_have_failed(const struct eval *ev)
{
    return ev->helped && arena_share_exceeded(ev->share) &&
           __atomic_load_n(&ev->share->bytes, __ATOMIC_RELAXED) < ev->helped_to_bytes + ODDS_BYTES;
}

/* H4: the query will be when it has `more` bytes. */
static bool near_bound(const struct arena_share *s, size_t more)
{
    return s->limit_bytes && __atomic_load_n(&s->bytes, __ATOMIC_RELAXED) + more >=
                                 s->limit_bytes - s->limit_bytes / 4;
}

/* H4: how many rows a block has, and how many slots there are; false if there is no room for any. */
static bool crew_size(struct crew *c, size_t block_rows)
{
    const size_t n = c->r->tm->n;
    const size_t row = n * (sizeof(double) + 1) + 32 + sizeof(struct made_row);
    const size_t threads = c->n_helpers + 1, left = c->n - c->first;
    size_t most = BLOCK_BYTES / row, bytes;

    if (most > MOST_ROWS)
        most = MOST_ROWS;
    if (block_rows > left / (4 * threads)) /* or one ends long before the others */
        block_rows = left / (4 * threads);
    if (block_rows > most)
        block_rows = most;
    c->block_rows = block_rows ? block_rows : 1;
    c->n_blocks = (left + c->block_rows - 1) / c->block_rows;
    c->n_slots = SLOT_BYTES / (c->block_rows * row);
    if (c->n_slots > BLOCKS_EACH * threads)
        c->n_slots = BLOCKS_EACH * threads;
    bytes = c->n_slots * c->block_rows * row;
    return c->n_slots > 1 && !near_bound(c->ev->share, 4 * bytes);
}

static bool slot_make(struct crew *c, struct slot *s)
{
    const size_t n = c->r->tm->n, n_v = (n + 1) & ~(size_t)1, n_has = (n + 15) & ~(size_t)15;
    double *v = arena_alloc(c->a, c->block_rows * n_v * sizeof *v);
    uint8_t *has = arena_alloc(c->a, c->block_rows * n_has);

    s->rows = arena_array(c->a, c->block_rows, sizeof *s->rows);
    s->notes = arena_beside(c->a);
    if (!v || !has || !s->rows || !s->notes)
        return false;
    for (size_t i = 0; i < c->block_rows; i++)
        s->rows[i].row = (struct row){v + i * n_v, has + i * n_has, 0};
    return true;
}

static struct crew *crew_new(struct eval *ev, struct rows *r, size_t first, size_t block_rows)
{
    struct arena *a = arena_beside(ev->work);
    struct crew *c = a ? arena_zalloc(a, sizeof *c) : NULL;
    const unsigned most = workers_most(ev->helpers);

    if (!c) {
        arena_free(a);
        return NULL;
    }
    *c = (struct crew){.ev = ev, .r = r, .pool = ev->helpers, .first = first, .n = r->n, .a = a};
    c->at = SIZE_MAX;
    c->n_helpers = most < EVAL_LANES ? most : EVAL_LANES - 1;
    nx_mutex_init(&c->lock, NX_RANK_QUEUE);
    nx_cond_init(&c->made);
    nx_cond_init(&c->room);
    bool ok = crew_size(c, block_rows);
    if (ok) {
        c->slots = arena_array(a, c->n_slots, sizeof *c->slots);
        c->helpers = arena_array(a, c->n_helpers, sizeof *c->helpers);
        ok = c->slots && c->helpers;
    }
    for (size_t i = 0; ok && i < c->n_slots; i++)
        ok = slot_make(c, &c->slots[i]);
    if (ok)
        return c;
    if (!c->helpers)
        c->n_helpers = 0;
    crew_free(c);
    return NULL;
}

void rows_ahead(struct eval *ev, struct rows *r)
{
    if (!ev->helpers || r->data || r->n < (ev->ahead_rows ? 2 : LEAST_ROWS) || !ev->querier ||
        !ev->querier->ops->reads_side_by_side || !can_fork(r))
        return;
    r->ahead.on = true;
    r->ahead.look_at = ev->ahead_rows ? 0 : 1;
}

/* H2: from row i on, which is to be pulled now. What the first row does for all (pages that come into the cache) is
 * not counted, and what was seen before the last look no more. */
static void consider(struct eval *ev, struct rows *r, size_t i)
{
    size_t block_rows = ev->ahead_rows;

    if (i < r->ahead.look_at || ev->crew)
        return;
    if (!block_rows) {
        const int64_t now_ns = clock_mono_ns();
        const uint64_t took_ns = (uint64_t)(now_ns - r->ahead.from_ns), seen = i - r->ahead.from;

        r->ahead.from_ns = now_ns;
        r->ahead.from = i;
        r->ahead.look_at = i == 1 && r->n >= MANY_ROWS ? 8 : 2 * i;
        if (i == 1 || !workers_idle(ev->helpers) || took_ns / seen * (r->n - i) < LEAST_LEFT_NS)
            return;
        block_rows = BLOCK_NS * seen / (took_ns + 1) + 1;
    }
    r->ahead.look_at = SIZE_MAX;
    ev->crew = crew_new(ev, r, i, block_rows);
}

/* ---- taking ----------------------------------------------------------------------------------- */

/* One more fork at work for each helper that is free. */
static void call_helpers(struct crew *c)
{
    for (unsigned i = 0; i < c->n_helpers && workers_idle(c->pool); i++) {
        struct helper *h = &c->helpers[i];

        if (h->crew && work_is_out(&h->work))
            continue;
        h->work.run = helper_run;
        if (!h->crew && helper_fork(c, h, NULL)) {
            helper_done(h);
            c->n_helpers = i;
            return;
        }
        workers_send(c->pool, &h->work);
    }
}

/* Begins a block that may be made ahead. */
static bool begin_own_locked(const struct crew *c)
{
    NX_ASSERT(nx_mutex_held(&c->lock));
    return c->next < c->n_blocks && c->next - c->passed < c->n_slots;
}

/* H4: those that have ended give back what they had. */
static void dismiss_helpers(struct crew *c)
{
    for (unsigned i = 0; i < c->n_helpers; i++)
        if (!work_is_out(&c->helpers[i].work))
            helper_done(&c->helpers[i]);
}

/* The consumer comes to a block: it is in its slot, or else the consumer pulls its rows. False: as it will all that
 * follow. */
static bool enter_block(struct crew *c, size_t block)
{
    nx_lock(&c->lock);
    if (!c->stop && near_bound(c->ev->share, 0))
        stop_locked(c);
    c->at = c->passed = block;
    if (c->next < block)
        c->next = block;
    if (c->n_waiting && c->next - c->passed <= c->n_slots / 2)
        nx_cond_broadcast(&c->room);
    c->direct = c->next == block;
    if (c->direct && block < c->n_blocks)
        c->next++;
    while (!c->direct && slot_of(c, block)->is != SLOT_MADE) {
        if (!begin_own_locked(c)) {
            c->waits = true;
            nx_cond_wait(&c->made, &c->lock);
            c->waits = false;
            continue;
        }
        const size_t other = c->next++;
        struct slot *s = slot_of(c, other);
        s->is = SLOT_AT_WORK;
        nx_unlock(&c->lock);
        make_own(c, other);
        nx_lock(&c->lock);
        s->is = SLOT_MADE;
        if (s->st)
            c->n_blocks = c->next;
    }
    const bool stop = c->stop, more = c->next < c->n_blocks, over = c->at >= c->n_blocks;
    nx_unlock(&c->lock);
    if (stop)
        dismiss_helpers(c);
    else if (more)
        call_helpers(c);
    return !stop || !over;
}

/* H1 */
static nx_status take(struct eval *ev, struct rows *r, const struct slot *s,
                      const struct made_row *m, struct row *row, struct nx_err *err)
{
    nx_status st = eval_room(ev, m->asked, err);

    if (st)
        return st;
    if (ev->held + m->peak > ev->peak)
        ev->peak = ev->held + m->peak;
    ev->held += m->held;
    if (!s->own) /* else they are counted there */
        r->held += m->held;
    if (m->annots.n || m->annots.failed)
        annots_merge(&ev->annots, &m->annots);
    *row = m->row;
    return NX_OK;
}

nx_status ahead_view(struct eval *ev, struct rows *r, size_t i, const struct row *scratch,
                     struct row *row, struct nx_err *err)
{
    struct crew *c;
    const struct slot *s = NULL;
    size_t in_block = 0;

    if (!ev->crew)
        consider(ev, r, i);
    c = ev->crew;
    if (c && c->r == r) {
        const size_t block = (i - c->first) / c->block_rows;

        if (block != c->at && !enter_block(c, block)) {
            ahead_end(ev);
        } else {
            in_block = i - c->first - block * c->block_rows;
            s = c->direct ? NULL : slot_of(c, block);
        }
    }
    if (s && in_block < s->n)
        return take(ev, r, s, &s->rows[in_block], row, err);
    if (s && s->own) { /* H3 */
        nx_status st = eval_room(ev, s->rows[s->n].asked, err);

        if (!st && err)
            *err = s->err;
        return st ? st : s->st;
    }
    *row = *scratch;
    return r->pull(ev, r, i, row, err);
}
