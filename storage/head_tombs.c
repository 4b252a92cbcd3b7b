/* head_tombs.c - samples of the head are deleted: hidden at once, and after a restart.
 *
 * WHY     What is deleted lies in tails, seals and the log, and none of them can be changed. So readers
 *         leave it out, a flush writes a block without it, and a note tells the next start.
 * SHAPE   Tombstones by number of series, shared by reference: a reader has those of its beginning.
 *         The note has label sets in their place, since numbers do not outlive the program.
 * RULES   X1  The note is published before readers see the change: what is gone stays gone.
 *         X2  A span begins and ends with a sample that the series has: what is newer is visible when it
 *             comes. What comes late, into a span, is not.
 *         X3  A tombstone goes when the head's rows of its time have gone, or its series, and not
 *             before: until then a restart may find the samples in the log.
 *         X4  A damaged note is set aside and logged. The samples it spoke of are visible again, which is
 *             the lesser evil for a head of some hours; a block does otherwise (block_tombs.c).
 * THREADS One thread at a time changes the tombstones (storage.c sees to it). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/hash.h"
#include "src/base/limits.h"
#include "src/base/log.h"
#include "storage/head.h"

#define MAGIC          0x4c44584eu /* "NXDL" */
#define VERSION        1u
#define HEADER_BYTES   8u
#define MAX_NOTE_BYTES (512u << 20)
#define MAX_SPANS      65536u     /* of one series */
#define MAX_ALL_SPANS  (1u << 24) /* of all series */

static nx_status no_memory(struct nx_err *err)
{
    return nx_fail(err, NX_NOMEM, "out of memory for deleting samples");
}

/* Gives a reference. */
static struct tombs *current(struct head *h)
{
    struct tombs *t;

    nx_lock(&h->pool_lock);
    t = tombs_ref(h->tombs);
    nx_unlock(&h->pool_lock);
    return t;
}

/* Takes `t`. */
static void set(struct head *h, struct tombs *t)
{
    struct tombs *was;

    nx_lock(&h->pool_lock);
    was = h->tombs;
    h->tombs = t;
    nx_unlock(&h->pool_lock);
    tombs_unref(was);
}

/* ---- the note -------------------------------------------------------------------------------- */

struct noting {
    struct head *h;
    struct arena *arenas[2]; /* this series' labels and those of the one before */
    struct labels before;
    struct tspans spans;
    struct buf body;
    uint64_t n;
    int turn;
};

static uint32_t shared_pairs(const struct labels *a, const struct labels *b)
{
    uint32_t i = 0;

    while (i < a->n && i < b->n && nx_slice_eq(a->v[i].name, b->v[i].name) &&
           nx_slice_eq(a->v[i].value, b->v[i].value))
        i++;
    return i;
}

static void put_slice(struct buf *to, struct nx_slice s)
{
    buf_uvarint(to, s.len);
    buf_slice(to, s);
}

static bool same_spans(struct tspans a, struct tspans b)
{
    return a.n == b.n && memcmp(a.v, b.v, a.n * sizeof *a.v) == 0;
}

static nx_status note_series(struct noting *w, uint32_t id, struct tspans s, struct nx_err *err)
{
    struct arena *a = w->arenas[w->turn];
    struct series_list list = {0};
    uint32_t shared;
    nx_status st = NX_OK;

    arena_reset(a);
    nx_rdlock(&w->h->lock);
    if (index_series(w->h->ix, id))
        st = index_labels(w->h->ix, (struct ids){&id, 1}, a, &list, err);
    nx_rwunlock(&w->h->lock);
    if (st || list.n == 0) /* gone with all its samples */
        return st;
    shared = shared_pairs(&w->before, &list.v[0].labels);
    buf_uvarint(&w->body, shared);
    buf_uvarint(&w->body, list.v[0].labels.n - shared);
    for (uint32_t i = shared; i < list.v[0].labels.n; i++) {
        put_slice(&w->body, list.v[0].labels.v[i].name);
        put_slice(&w->body, list.v[0].labels.v[i].value);
    }
    if (w->n && same_spans(w->spans, s))
        buf_uvarint(&w->body, 0);
    else
        tspans_put(&w->body, s);
    w->before = list.v[0].labels;
    w->spans = s;
    w->turn = !w->turn;
    w->n++;
    return buf_status(&w->body, err);
}

static nx_status note_run(void *ctx, uint32_t first, uint32_t last, struct tspans s,
                          struct nx_err *err)
{
    nx_status st = NX_OK;

    for (uint64_t id = first; id <= last && !st; id++)
        st = note_series(ctx, (uint32_t)id, s, err);
    return st;
}

static nx_status publish(struct noting *w, struct fs *fs, const char *path, struct nx_err *err)
{
    struct buf file;
    nx_status st;

    buf_init(&file, MAX_NOTE_BYTES + 64);
    buf_u32le(&file, MAGIC);
    buf_u16le(&file, VERSION);
    buf_u16le(&file, 0);
    buf_uvarint(&file, w->n);
    buf_slice(&file, buf_view(&w->body));
    if (!file.failed)
        buf_u32le(&file, crc32c(0, file.ptr, file.len));
    st = buf_status(&file, err);
    if (!st)
        st = fs_publish(fs, path, file.ptr, file.len, err);
    buf_done(&file);
    return st;
}

static nx_status write_note(struct head *h, struct fs *fs, const char *path, const struct tombs *t,
                            struct nx_err *err)
{
    struct noting w = {.h = h};
    nx_status st = NX_OK;

    buf_init(&w.body, MAX_NOTE_BYTES);
    for (int i = 0; i < 2 && !st; i++) {
        w.arenas[i] = arena_new(0);
        if (!w.arenas[i])
            st = no_memory(err);
    }
    if (!st)
        st = tombs_each(t, note_run, &w, err);
    if (!st)
        st = publish(&w, fs, path, err);
    buf_done(&w.body);
    arena_free(w.arenas[0]);
    arena_free(w.arenas[1]);
    return st;
}

/* ---- reading the note ------------------------------------------------------------------------ */

struct loading {
    struct head *h;
    struct reader r;
    struct label *labels;
    uint32_t n_labels, cap_labels;
    struct tspan *spans;
    size_t n_spans;
    struct tomb *v;
    size_t n, cap;
};

static bool get_labels(struct loading *l, bool *nomem)
{
    const uint64_t shared = reader_uvarint(&l->r), more = reader_uvarint(&l->r);

    *nomem = false;
    if (l->r.bad || shared > l->n_labels || more > NX_LIMIT_LABELS_PER_SERIES ||
        more * 2 > reader_left(&l->r))
        return false;
    if (shared + more > l->cap_labels) {
        struct label *labels = realloc(l->labels, (shared + more) * sizeof *labels);
        *nomem = !labels;
        if (!labels)
            return false;
        l->labels = labels;
        l->cap_labels = (uint32_t)(shared + more);
    }
    l->n_labels = (uint32_t)(shared + more);
    for (uint64_t i = shared; i < shared + more; i++) {
        l->labels[i].name = reader_bytes(&l->r, reader_uvarint(&l->r));
        l->labels[i].value = reader_bytes(&l->r, reader_uvarint(&l->r));
        if (l->r.bad || (i && nx_slice_cmp(l->labels[i - 1].name, l->labels[i].name) >= 0))
            return false;
    }
    return true;
}

static nx_status get_series(struct loading *l, struct nx_err *err)
{
    const struct memseries *s;
    struct labels ls;
    bool nomem;
    size_t n;

    if (!get_labels(l, &nomem))
        return nomem ? no_memory(err) : nx_fail(err, NX_CORRUPT, "it does not decode");
    n = tspans_get(&l->r, l->spans, MAX_SPANS);
    if (l->r.bad || (n == 0 && l->n_spans == 0))
        return nx_fail(err, NX_CORRUPT, "it does not decode");
    l->n_spans = n ? n : l->n_spans;
    ls = (struct labels){l->labels, l->n_labels};
    s = index_find(l->h->ix, &ls, labels_hash(&ls));
    if (!s)
        return NX_OK; /* its samples were in a block when the program ended */
    if (l->n + l->n_spans > MAX_ALL_SPANS)
        return nx_fail(err, NX_CORRUPT, "it holds more than any note");
    if (l->n + l->n_spans > l->cap) {
        size_t cap = l->cap * 2 + l->n_spans;
        struct tomb *v = realloc(l->v, cap * sizeof *v);
        if (!v)
            return no_memory(err);
        l->v = v;
        l->cap = cap;
    }
    for (size_t i = 0; i < l->n_spans; i++)
        l->v[l->n++] = (struct tomb){s->id, l->spans[i]};
    return NX_OK;
}

static int by_series(const void *x, const void *y)
{
    const struct tomb *a = x, *b = y;

    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return a->span.from_ms < b->span.from_ms ? -1 : a->span.from_ms > b->span.from_ms;
}

static nx_status read_note(struct head *h, struct nx_slice b, struct tombs **out,
                           struct nx_err *err)
{
    struct loading l = {.h = h};
    uint64_t series;
    nx_status st = NX_OK;

    if (b.len < HEADER_BYTES + 4 || get_u32le(b.ptr) != MAGIC || get_u16le(b.ptr + 4) != VERSION ||
        get_u32le(b.ptr + b.len - 4) != crc32c(0, b.ptr, b.len - 4))
        return nx_fail(err, NX_CORRUPT, "it is damaged, or no such note");
    l.r = reader_of(b.ptr + HEADER_BYTES, b.len - HEADER_BYTES - 4);
    l.spans = malloc(MAX_SPANS * sizeof *l.spans);
    if (!l.spans)
        return no_memory(err);
    series = reader_uvarint(&l.r);
    for (uint64_t i = 0; i < series && !st; i++)
        st = get_series(&l, err);
    if (!st && (l.r.bad || reader_left(&l.r)))
        st = nx_fail(err, NX_CORRUPT, "it does not decode");
    if (!st && l.n)
        qsort(l.v, l.n, sizeof *l.v, by_series);
    if (!st)
        st = tombs_merge(out, NULL, l.v, l.n, err);
    free(l.labels);
    free(l.spans);
    free(l.v);
    return st;
}

/* X4 */
static void set_aside(struct fs *fs, const char *path, const char *why)
{
    char *to;

    log_error("The note on deleted samples of the newest hours is damaged and was set aside; those "
              "samples are visible again",
              "file", path, "err", why);
    if (asprintf(&to, "%s.damaged", path) < 0)
        return;
    (void)fs->rename(fs, path, to, NULL);
    free(to);
}

nx_status head_tombs_load(struct head *h, struct fs *fs, const char *path, struct nx_err *err)
{
    struct tombs *t = NULL;
    struct nx_err why;
    struct buf b;
    nx_status st;

    buf_init(&b, MAX_NOTE_BYTES + 64);
    st = fs_read_file(fs, path, &b, err);
    if (!st) {
        st = read_note(h, buf_view(&b), &t, &why);
        if (st == NX_CORRUPT)
            set_aside(fs, path, why.text);
        else if (st)
            nx_fail(err, st, "%s: %s", path, why.text);
    }
    buf_done(&b);
    if (!st && t)
        set(h, t);
    return st == NX_NOTFOUND || st == NX_CORRUPT ? NX_OK : st;
}

/* ---- deleting -------------------------------------------------------------------------------- */

/* X2; mint <= max_ms, the newest time of the head. */
static nx_status find_tombs(struct head_reader *r, const struct series_list *list, int64_t mint,
                            int64_t maxt, int64_t max_ms, struct tomb **out, size_t *n_out,
                            struct nx_err *err)
{
    struct tomb *v = malloc((list->n + 1) * sizeof *v);
    struct samples rows = {0};
    size_t n = 0;
    nx_status st = v ? NX_OK : no_memory(err);

    for (size_t i = 0; i < list->n && !st; i++) {
        const uint32_t id = (uint32_t)list->v[i].ref;
        rows.n = 0;
        st = head_read(r, id, mint, maxt, &rows, err);
        if (st == NX_CORRUPT || st == NX_IO) { /* what can't be read is deleted, too */
            v[n++] = (struct tomb){id, {mint, maxt < max_ms ? maxt : max_ms}};
            st = NX_OK;
        } else if (!st && rows.n) {
            v[n++] = (struct tomb){id, {rows.t[0], rows.t[rows.n - 1]}};
        }
    }
    samples_done(&rows);
    if (st) {
        free(v);
        return st;
    }
    if (n)
        qsort(v, n, sizeof *v, by_series);
    *out = v;
    *n_out = n;
    return NX_OK;
}

nx_status head_delete(struct head *h, struct fs *fs, const char *path, const struct matcher *m,
                      size_t n, int64_t mint, int64_t maxt, struct nx_err *err)
{
    struct arena *a = arena_new(0);
    struct head_reader *r = NULL;
    struct series_list list = {0};
    struct tombs *old = current(h), *t = NULL;
    struct tomb *add = NULL;
    size_t n_add = 0;
    const int64_t max_ms = atomic_load(&h->max_ms);
    nx_status st = a ? head_reader_new(&r, h, err) : no_memory(err);

    if (!st && mint <= maxt && mint <= max_ms)
        st = head_select(r, m, n, mint, maxt, SIZE_MAX, NULL, a, &list, err);
    if (!st)
        st = find_tombs(r, &list, mint, maxt, max_ms, &add, &n_add, err);
    if (!st && n_add)
        st = tombs_merge(&t, old, add, n_add, err);
    if (!st && tombs_n_spans(t) > MAX_ALL_SPANS)
        st = nx_fail(err, NX_LIMIT, "more than %u spans of series would be deleted in the head",
                     MAX_ALL_SPANS);
    if (!st && n_add)
        st = write_note(h, fs, path, t, err); /* X1 */
    if (!st && n_add) {
        set(h, t);
        t = NULL;
    }
    tombs_unref(t);
    tombs_unref(old);
    free(add);
    head_reader_free(r);
    arena_free(a);
    return st;
}

/* ---- forgetting ------------------------------------------------------------------------------ */

static bool is_there(void *ctx, uint32_t id)
{
    struct head *h = ctx;
    bool there;

    nx_rdlock(&h->lock);
    there = index_series(h->ix, id) != NULL;
    nx_rwunlock(&h->lock);
    return there;
}

/* X3. Failing leaves the note as it was, which says more than is needed and does no harm. */
void head_tombs_prune(struct head *h, struct fs *fs, const char *path)
{
    struct tombs *old = current(h), *t = NULL;
    const int64_t rows_ms = atomic_load(&h->min_ms), loose_ms = atomic_load(&h->loose->min_ms);
    struct nx_err err;
    nx_status st;

    if (!old)
        return;
    st = tombs_prune(&t, old, rows_ms < loose_ms ? rows_ms : loose_ms, is_there, h, &err);
    if (!st && tombs_n_spans(t) < tombs_n_spans(old)) {
        st = t ? write_note(h, fs, path, t, &err) : fs->unlink(fs, path, &err);
        if (!st || st == NX_NOTFOUND) {
            set(h, t);
            t = NULL;
            st = NX_OK;
        }
    }
    if (st)
        log_warn("The note on deleted samples could not be shortened", "err", err.text);
    tombs_unref(t);
    tombs_unref(old);
}

/* ---- who is dead ----------------------------------------------------------------------------- */

static nx_status is_dead(struct head_reader *r, uint32_t id, int64_t mint, int64_t maxt,
                         struct samples *rows, bool *dead, struct nx_err *err)
{
    struct tspans s = tombs_of(head_reader_tombs(r), id);
    struct tspan gap;
    nx_status st;

    *dead = false;
    if (s.n == 0)
        return NX_OK;
    while (tspans_gap(s, mint, maxt, &gap)) {
        rows->n = 0;
        st = head_read_all(r, id, gap.from_ms, gap.to_ms, rows, err);
        if (st == NX_CORRUPT ||
            st == NX_IO) /* it can't be told: the damage shows when it is read */
            return NX_OK;
        if (st || rows->n)
            return st;
        if (gap.to_ms >= maxt)
            break;
        mint = gap.to_ms + 1;
    }
    *dead = true;
    return NX_OK;
}

nx_status head_drop_dead(struct head_reader *r, int64_t mint, int64_t maxt,
                         struct series_list *list, struct nx_err *err)
{
    struct samples rows = {0};
    size_t kept = 0;
    nx_status st = NX_OK;

    for (size_t i = 0; i < list->n && !st; i++) {
        bool dead = false;
        st = is_dead(r, (uint32_t)list->v[i].ref, mint, maxt, &rows, &dead, err);
        if (!dead)
            list->v[kept++] = list->v[i];
    }
    list->n = kept;
    samples_done(&rows);
    return st;
}

/* ---- names and values ------------------------------------------------------------------------ */

static int slice_order(const void *a, const void *b)
{
    return nx_slice_cmp(*(const struct nx_slice *)a, *(const struct nx_slice *)b);
}

struct words {
    struct nx_slice *v;
    size_t n, cap;
};

static void tidy(struct words *w)
{
    size_t kept = 0;

    if (w->n)
        qsort(w->v, w->n, sizeof *w->v, slice_order);
    for (size_t i = 0; i < w->n; i++) {
        if (!kept || !nx_slice_eq(w->v[kept - 1], w->v[i]))
            w->v[kept++] = w->v[i];
    }
    w->n = kept;
}

static bool add_word(struct words *w, struct nx_slice s)
{
    if (w->n && w->v[w->n - 1].ptr == s.ptr) /* index_labels() shares strings */
        return true;
    if (w->n == w->cap)
        tidy(w);
    if (w->n * 2 >= w->cap) {
        size_t cap = w->cap * 2 + 256;
        struct nx_slice *v = realloc(w->v, cap * sizeof *v);
        if (!v)
            return false;
        w->v = v;
        w->cap = cap;
    }
    w->v[w->n++] = s;
    return true;
}

static nx_status gather(const struct series_list *list, const struct nx_slice *name,
                        struct words *w, struct nx_err *err)
{
    bool ok = true;

    for (size_t i = 0; i < list->n && ok; i++) {
        const struct labels *ls = &list->v[i].labels;
        for (uint32_t k = 0; k < ls->n && ok; k++) {
            if (!name)
                ok = add_word(w, ls->v[k].name);
            else if (nx_slice_eq(ls->v[k].name, *name))
                ok = add_word(w, ls->v[k].value);
        }
    }
    tidy(w);
    return ok ? NX_OK : no_memory(err);
}

nx_status head_list_alive(struct head_reader *r, const struct nx_slice *name,
                          const struct matcher *m, size_t n, int64_t mint, int64_t maxt,
                          struct arena *a, struct nx_slice **out, size_t *n_out, struct nx_err *err)
{
    struct arena *own = arena_new(0);
    struct series_list list = {0};
    struct words w = {0};
    struct nx_slice *v = NULL;
    nx_status st =
        own ? head_select(r, m, n, mint, maxt, SIZE_MAX, NULL, own, &list, err) : no_memory(err);

    if (!st)
        st = gather(&list, name, &w, err);
    if (!st) {
        v = arena_array(a, w.n, sizeof *v);
        for (size_t i = 0; i < w.n && v; i++) {
            char *copy = arena_strndup(a, w.v[i].ptr, w.v[i].len);
            v[i] = nx_slice_of(copy, w.v[i].len);
            v = copy ? v : NULL;
        }
        st = v ? NX_OK : arena_failed(a, err);
    }
    if (!st) {
        *out = v;
        *n_out = w.n;
    }
    free(w.v);
    arena_free(own);
    return st;
}
