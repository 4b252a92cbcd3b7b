/* layout.c - the lines of a target's last exposition.
 *
 * WHY     A target sends the same lines with other values. To know a line again by comparing its bytes
 *         we must keep those bytes, for every series of every target: so they have to be few.
 * SHAPE   what[] holds four bytes a line. The bytes before the value are told by how they differ from those
 *         of the line before: how many are the same in front, how many are the same at the end, how many
 *         lie between, and those (three varints and, in practice, half a dozen bytes). Where a
 *         metric ends and the next begins only the name differs, and the labels at the end are the same; so
 *         both sides count. Where two labels differ, and what stands between them does not, that is told,
 *         too: what lies between is then in two parts, with a piece of the line before among them.
 *         HELP and TYPE lines have no bytes here; they are compared with the metadata.
 * RULES   L1  Only lines with bytes take part in the coding, in the order of the body. What is the same in
 *             front and what is the same at the end do not overlap in either line.
 *         L2  The coded form is read in order; who needs more than that loads a layout_table.
 *         L3  A layout is replaced as a whole, when a scrape that changed has succeeded.
 *         L4  While lines match, the line before in the body stands in for the prefix before: what is
 *             shared is compared with that, and nothing is copied.
 *         L5  A layout has LAYOUT_AHEAD bytes behind its coded form. So may be looked at behind a line in the
 *             body that is not its last, and then behind the one before.
 * NOT     A hash table a target: 8 bytes a series and more, to be used only when something changed. */
#include "src/scrape/layout.h"

#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "src/base/hash.h"

#define LAYOUT_AHEAD 64u

void layout_done(struct layout *l)
{
    free(l->what);
    *l = (struct layout){0};
}

size_t layout_bytes(const struct layout *l)
{
    return l->n * sizeof *l->what + l->coded_bytes;
}

/* ---- reading --------------------------------------------------------------------------------- */

void layout_cursor_init(struct layout_cursor *c, const struct layout *l, struct buf *line)
{
    static const char none[LAYOUT_AHEAD];

    *c = (struct layout_cursor){.layout = l, .at = l->coded, .line = line, .last = none};
    buf_clear(line);
}

static inline size_t take_varint(const uint8_t **p)
{
    size_t v = *(*p)++;
    unsigned shift = 7;

    if (v < 0x80)
        return v;
    v &= 0x7f;
    do
        v |= (size_t)(**p & 0x7f) << shift, shift += 7;
    while (*(*p)++ & 0x80);
    return v;
}

/* How a line differs from the one before:
 *
 *   before  front              . skip . piece ....... end
 *   line    front . more[0..cut) . piece . more[cut..) . end */
struct step {
    size_t front, end; /* bytes that are the same */
    size_t more;       /* bytes between them that are not */
    size_t cut, skip, piece;
};

static inline struct step take_step(const uint8_t **p)
{
    struct step s = {0};
    const uint8_t *b = *p;

    if (!((b[0] | b[1] | b[2]) & 0x80) &&
        !(b[2] & 1)) { /* nearly all; behind the last one is room */
        *p += 3;
        return (struct step){.front = b[0], .end = b[1], .more = b[2] >> 1};
    }

    s.front = take_varint(p);
    s.end = take_varint(p);
    s.more = take_varint(p);
    if (s.more & 1) {
        s.cut = take_varint(p);
        s.skip = take_varint(p);
        s.piece = take_varint(p);
    }
    s.more >>= 1;
    return s;
}

static inline size_t step_len(const struct step *s)
{
    return s->front + s->more + s->piece + s->end;
}

struct nx_slice layout_cursor_next(struct layout_cursor *c)
{
    struct step s = take_step(&c->at);
    size_t len = step_len(&s), piece_to = s.front + s.cut, end_to = len - s.end;
    struct buf *line = c->line;
    bool here = line->ptr && c->last == line->ptr;
    const char *last;

    NX_ASSERT(s.front + s.skip + s.piece + s.end <= c->len);
    line->len = here ? c->len : 0; /* what must survive a growth */
    if (line->cap < len && !buf_reserve(line, len - line->len)) {
        c->nomem = true;
        return nx_slice_of("", 0);
    }
    last = here ? line->ptr : c->last;
    /* In place, the end must not run over the piece, nor the piece over the end: what moves up goes first
     * from behind, what moves down from in front. */
    if (end_to <= c->len - s.end && s.piece)
        memmove(line->ptr + piece_to, last + s.front + s.skip, s.piece);
    if (s.end)
        memmove(line->ptr + end_to, last + c->len - s.end, s.end);
    if (end_to > c->len - s.end && s.piece)
        memmove(line->ptr + piece_to, last + s.front + s.skip, s.piece);
    if (!here && s.front)
        memcpy(line->ptr, last, s.front);
    if (s.cut)
        memcpy(line->ptr + s.front, c->at, s.cut);
    if (s.more > s.cut)
        memcpy(line->ptr + piece_to + s.piece, c->at + s.cut, s.more - s.cut);
    c->at += s.more;
    c->last = line->ptr;
    c->len = len;
    return nx_slice_of(line->ptr, len);
}

/* Are n bytes at a and b the same? With `ahead`, LAYOUT_AHEAD bytes of both are there to be looked at,
 * however small n: it changes from line to line, and to go by it costs more than to compare them all. */
static inline bool same_bytes(const char *a, const char *b, size_t n, bool ahead)
{
#ifdef __SSE2__
    for (; ahead; a += 64, b += 64, n -= 64) {
        uint64_t same = 0;
        for (unsigned i = 0; i < 64; i += 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(a + i));
            __m128i y = _mm_loadu_si128((const __m128i *)(const void *)(b + i));
            same |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, y)) << i;
        }
        if (n <= 64)
            return n == 0 || ~same << (64 - n) == 0;
        if (~same)
            return false;
    }
#endif
    return memcmp(a, b, n) == 0;
}

/* Is the line at p, of `len` bytes, what the step makes of the last one? */
static inline bool same_line(const struct layout_cursor *c, const struct step *s,
                             const uint8_t *more, const char *p, size_t len, bool ahead)
{
    const char *coded = (const char *)more, *piece = c->last + s->front + s->skip;
    size_t first = s->piece ? s->cut : s->more;

    if (!same_bytes(p, c->last, s->front, ahead) ||
        !same_bytes(p + s->front, coded, first, ahead) ||
        !same_bytes(p + len - s->end, c->last + c->len - s->end, s->end, ahead))
        return false;
    p += s->front + first;
    return !s->piece || (same_bytes(p, piece, s->piece, ahead) &&
                         same_bytes(p + s->piece, coded + first, s->more - first, ahead));
}

/* L4 */
const char *layout_cursor_match(struct layout_cursor *c, const char *p, const char *end)
{
    const uint8_t *at = c->at;
    struct step s = take_step(&at);
    size_t len = step_len(&s);
    bool same;

    NX_ASSERT(s.front + s.skip + s.piece + s.end <= c->len);
    if ((size_t)(end - p) <= len)
        return NULL;
    if ((size_t)(end - p) - len >= LAYOUT_AHEAD && c->last != c->line->ptr) /* L5 */
        same = same_line(c, &s, at, p, len, true);
    else
        same = same_line(c, &s, at, p, len, false);
    if (!same)
        return NULL;
    c->at = at + s.more;
    c->last = p;
    c->len = len;
    return p + len;
}

/* ---- building -------------------------------------------------------------------------------- */

void layout_builder_init(struct layout_builder *b)
{
    *b = (struct layout_builder){0};
    buf_init(&b->coded, 0);
    buf_init(&b->last, 0);
}

void layout_builder_done(struct layout_builder *b)
{
    buf_done(&b->coded);
    buf_done(&b->last);
    free(b->what);
    *b = (struct layout_builder){0};
}

static bool builder_room(struct layout_builder *b, uint32_t n)
{
    uint32_t cap = b->cap ? b->cap : 256;
    uint32_t *what;

    if (n <= b->cap)
        return true;
    while (cap < n)
        cap *= 2;
    what = reallocarray(b->what, cap, sizeof *what);
    if (!what) {
        b->nomem = true;
        return false;
    }
    b->what = what;
    b->cap = cap;
    return true;
}

void layout_builder_reset(struct layout_builder *b)
{
    buf_clear(&b->coded);
    buf_clear(&b->last);
    b->nomem = false;
    b->n = 0;
}

#define LEAST_PIECE 8u /* it costs three bytes to tell of one */
#define GRAM_SLOTS  256u

static uint32_t gram_slot(const char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return (uint32_t)((v * 0x9e3779b97f4a7c15ull) >> 56) % GRAM_SLOTS;
}

/* The longest piece of the line before (middle of it: was) in the middle of this one (now). One pass over
 * each: a place of eight bytes is looked up by its hash, of several alike the last is known. */
static struct step find_piece(struct nx_slice was, struct nx_slice now)
{
    uint8_t slot[GRAM_SLOTS] = {0}; /* place in was + 1 */
    struct step s = {0};

    if (was.len > UINT8_MAX || was.len < LEAST_PIECE)
        return s;
    for (size_t i = 0; i + LEAST_PIECE <= was.len; i++)
        slot[gram_slot(was.ptr + i)] = (uint8_t)(i + 1);
    for (size_t i = 0; i + LEAST_PIECE <= now.len;) {
        size_t at = slot[gram_slot(now.ptr + i)], n = 0;
        while (at && i + n < now.len && at - 1 + n < was.len &&
               now.ptr[i + n] == was.ptr[at - 1 + n])
            n++;
        if (n >= LEAST_PIECE && n > s.piece)
            s = (struct step){.cut = i, .skip = at - 1, .piece = n};
        i += n ? n : 1;
    }
    return s;
}

/* How `now` differs from `was`. */
static struct step find_step(struct nx_slice was, struct nx_slice now)
{
    size_t most = now.len < was.len ? now.len : was.len, front = 0, end = 0;
    struct step s = {0};

    while (front < most && now.ptr[front] == was.ptr[front])
        front++;
    while (end < most - front && now.ptr[now.len - 1 - end] == was.ptr[was.len - 1 - end])
        end++;
    if (now.len - front - end >= LEAST_PIECE)
        s = find_piece(nx_slice_of(was.ptr + front, was.len - front - end),
                       nx_slice_of(now.ptr + front, now.len - front - end));
    s.front = front;
    s.end = end;
    s.more = now.len - front - end - s.piece;
    return s;
}

void layout_builder_add(struct layout_builder *b, uint32_t what, struct nx_slice prefix)
{
    struct step s;

    if (b->nomem || !builder_room(b, b->n + 1))
        return;
    b->what[b->n++] = what;
    if (!line_has_bytes(what))
        return;
    s = find_step(buf_view(&b->last), prefix);
    buf_uvarint(&b->coded, s.front);
    buf_uvarint(&b->coded, s.end);
    buf_uvarint(&b->coded, s.more << 1 | (s.piece != 0));
    if (s.piece) {
        buf_uvarint(&b->coded, s.cut);
        buf_uvarint(&b->coded, s.skip);
        buf_uvarint(&b->coded, s.piece);
        buf_append(&b->coded, prefix.ptr + s.front, s.cut);
        buf_append(&b->coded, prefix.ptr + s.front + s.cut + s.piece, s.more - s.cut);
    } else {
        buf_append(&b->coded, prefix.ptr + s.front, s.more);
    }
    b->last.len = s.front;
    buf_append(&b->last, prefix.ptr + s.front, prefix.len - s.front);
    if (b->coded.failed || b->last.failed)
        b->nomem = true;
}

nx_status layout_builder_take(struct layout_builder *b, struct layout *l, struct nx_err *err)
{
    size_t what_bytes = b->n * sizeof *b->what;
    char *p;

    if (b->nomem)
        return nx_fail(err, NX_NOMEM, "out of memory");
    p = malloc(what_bytes + b->coded.len + LAYOUT_AHEAD);
    if (!p)
        return nx_fail(err, NX_NOMEM, "out of memory");
    if (b->n)
        memcpy(p, b->what, what_bytes);
    if (b->coded.len)
        memcpy(p + what_bytes, b->coded.ptr, b->coded.len);
    layout_done(l);
    l->what = (uint32_t *)(void *)p;
    l->coded = (const uint8_t *)p + what_bytes;
    l->n = b->n;
    l->coded_bytes = b->coded.len;
    return NX_OK;
}

/* ---- finding --------------------------------------------------------------------------------- */

void layout_table_init(struct layout_table *t)
{
    *t = (struct layout_table){0};
    buf_init(&t->bytes, 0);
}

void layout_table_done(struct layout_table *t)
{
    buf_done(&t->bytes);
    free(t->lines);
    free(t->slots);
    *t = (struct layout_table){0};
}

struct nx_slice layout_table_prefix(const struct layout_table *t, uint32_t line)
{
    const struct layout_table_line *l = &t->lines[line];

    return l->len ? nx_slice_of(t->bytes.ptr + l->at, l->len) : nx_slice_of("", 0);
}

static uint32_t key_hash(struct nx_slice series, unsigned type_class)
{
    return (uint32_t)hash_mix(hash_bytes(series.ptr, series.len), type_class);
}

static void put_slot(struct layout_table *t, uint32_t line)
{
    uint32_t at = t->lines[line].hash & t->mask;

    while (t->slots[at])
        at = (at + 1) & t->mask;
    t->slots[at] = line + 1;
}

/* Slots for `n` lines, at most half full. */
static bool make_slots(struct layout_table *t, uint32_t n)
{
    uint32_t want = t->mask ? t->mask + 1 : 512;

    while (want / 2 < n)
        want *= 2;
    if (want != t->mask + 1 || !t->slots) {
        uint32_t *slots = calloc(want, sizeof *slots);
        if (!slots)
            return false;
        free(t->slots);
        t->slots = slots;
        t->mask = want - 1;
    } else {
        memset(t->slots, 0, want * sizeof *t->slots);
    }
    return true;
}

static bool table_room(struct layout_table *t, uint32_t n)
{
    uint32_t cap = t->cap ? t->cap : 256;
    struct layout_table_line *lines;

    if (n > t->cap) {
        while (cap < n)
            cap *= 2;
        lines = reallocarray(t->lines, cap, sizeof *lines);
        if (!lines)
            return false;
        t->lines = lines;
        t->cap = cap;
    }
    if (n > (t->mask + 1) / 2 || !t->slots) {
        if (!make_slots(t, n))
            return false;
        for (uint32_t i = 0; i < t->n; i++)
            if (t->lines[i].series_len)
                put_slot(t, i);
    }
    return true;
}

nx_status layout_table_add(struct layout_table *t, uint32_t what, struct nx_slice prefix,
                           struct nx_slice series, struct nx_err *err)
{
    struct layout_table_line *line;

    if (!table_room(t, t->n + 1))
        return nx_fail(err, NX_NOMEM, "out of memory");
    line = &t->lines[t->n];
    *line = (struct layout_table_line){.at = t->bytes.len,
                                       .len = (uint32_t)prefix.len,
                                       .series_len = (uint32_t)series.len,
                                       .what = what};
    buf_append(&t->bytes, prefix.ptr, prefix.len);
    if (series.len)
        line->hash = key_hash(series, line_class(what));
    if (t->bytes.failed)
        return nx_fail(err, NX_NOMEM, "out of memory");
    t->n++;
    if (series.len)
        put_slot(t, t->n - 1);
    return NX_OK;
}

nx_status layout_table_load(struct layout_table *t, const struct layout *l, struct nx_err *err)
{
    struct layout_cursor c;
    struct buf line;
    nx_status st = NX_OK;

    buf_init(&line, 0);
    layout_cursor_init(&c, l, &line);
    buf_clear(&t->bytes);
    t->n = 0;
    if (t->slots)
        memset(t->slots, 0, (t->mask + 1) * sizeof *t->slots);
    if (!table_room(t, l->n + 64))
        st = nx_fail(err, NX_NOMEM, "out of memory");
    for (uint32_t i = 0; i < l->n && !st; i++) {
        struct nx_slice prefix = {"", 0}, series;
        if (line_has_bytes(l->what[i]))
            prefix = layout_cursor_next(&c);
        series = prefix;
        while (series.len &&
               (series.ptr[series.len - 1] == ' ' || series.ptr[series.len - 1] == '\t'))
            series.len--;
        if (line_kind(l->what[i]) == LINE_NEW)
            series.len = 0; /* the store refused it: asked again, as if never seen */
        st = c.nomem ? nx_fail(err, NX_NOMEM, "out of memory")
                     : layout_table_add(t, l->what[i], prefix, series, err);
    }
    buf_done(&line);
    return st;
}

int64_t layout_table_find(const struct layout_table *t, struct nx_slice series, unsigned type_class)
{
    uint32_t hash = key_hash(series, type_class), at = hash & t->mask;

    for (; t->slots[at]; at = (at + 1) & t->mask) {
        const struct layout_table_line *line = &t->lines[t->slots[at] - 1];
        if (line->hash == hash && line->series_len == series.len &&
            line_class(line->what) == type_class &&
            memcmp(t->bytes.ptr + line->at, series.ptr, series.len) == 0)
            return t->slots[at] - 1;
    }
    return -1;
}
