/* layout.h - the lines of a target's last exposition, without their values. Private to src/scrape.
 *
 * Owner    one layout a target; a builder and a decoded copy belong to a worker's scratch.
 * Threads  the worker that has the target. */
#pragma once

#include "src/base/buf.h"
#include "src/base/status.h"

/* What a line is. Series kinds come first and carry bytes: all that stands before the value. */
enum line_kind {
    LINE_SERIES,    /* index: column of the target's group */
    LINE_DUPLICATE, /* a further line of a column: counted, not stored */
    LINE_STAMPED,   /* has a timestamp of its own; index: slot in the target's stamped series */
    LINE_DROPPED,   /* by metric_relabel_configs */
    LINE_NEW,      /* while a scrape is read: not known before; index: into the scrape's new series.
                     * In a layout: the store took no new series, so the line stays unknown. */
    LINE_META,     /* HELP, TYPE, UNIT as its metadata entry says; index: entry * 4 + which */
    LINE_META_ODD, /* the same, written unusually: has to be parsed */
    LINE_COMMENT
};
/* Kind, the type class its labels depend on (see type_class in ingest.c), and index in 32 bits. */
#define LINE_INDEX_BITS 27
#define LINE_MAX_INDEX  ((1u << LINE_INDEX_BITS) - 1)
static inline uint32_t line_make(enum line_kind kind, unsigned type_class, uint32_t index)
{
    return (uint32_t)kind << 29 | type_class << LINE_INDEX_BITS | index;
}
static inline enum line_kind line_kind(uint32_t what)
{
    return (enum line_kind)(what >> 29);
}
static inline unsigned line_class(uint32_t what)
{
    return what >> LINE_INDEX_BITS & 3;
}
static inline uint32_t line_index(uint32_t what)
{
    return what & LINE_MAX_INDEX;
}
static inline bool line_has_bytes(uint32_t what)
{
    return line_kind(what) <= LINE_NEW;
}

struct layout {
    uint32_t *what; /* one a line; the coded prefixes follow it in the same allocation */
    const uint8_t *coded;
    uint32_t n;
    size_t coded_bytes;
};
void layout_done(struct layout *l); /* accepts a zeroed one */
size_t layout_bytes(const struct layout *l);

/* Walks the prefixes in order. `line` is room for one; it is the caller's, kept for reuse. */
struct layout_cursor {
    const struct layout *layout;
    const uint8_t *at;
    struct buf *line;
    const char *last; /* the current prefix */
    size_t len;       /* its length */
    bool nomem;
};
void layout_cursor_init(struct layout_cursor *c, const struct layout *l, struct buf *line);
/* The next prefix that has bytes; valid until the next call. */
struct nx_slice layout_cursor_next(struct layout_cursor *c);
/* If the bytes from p to `end` begin with the next prefix, and go on after it: moves on to it and returns
 * where it ends. It is not copied then: p must stay readable until the next move. Else NULL. */
const char *layout_cursor_match(struct layout_cursor *c, const char *p, const char *end);

/* Collects lines. The memory is kept from use to use. */
struct layout_builder {
    struct buf coded;
    struct buf last; /* the last prefix */
    uint32_t *what;
    uint32_t n, cap;
    bool nomem;
};
void layout_builder_init(struct layout_builder *b);
void layout_builder_done(struct layout_builder *b);
void layout_builder_reset(struct layout_builder *b);
void layout_builder_add(struct layout_builder *b, uint32_t what, struct nx_slice prefix);
/* Replaces *l by what was collected. On NX_NOMEM *l is as before. */
NX_NODISCARD nx_status layout_builder_take(struct layout_builder *b, struct layout *l,
                                           struct nx_err *err);

/* All prefixes in full, and a table to find a line by its series. For scrapes that changed. */
struct layout_table {
    struct buf bytes;
    struct layout_table_line {
        size_t at;
        uint32_t len;        /* of the prefix */
        uint32_t series_len; /* without the blanks before the value */
        uint32_t what;
        uint32_t hash;
        bool used; /* for whoever walks the table */
    } * lines;
    uint32_t n, cap;
    uint32_t *slots; /* line + 1; 0: free */
    uint32_t mask;
};
void layout_table_init(struct layout_table *t);
void layout_table_done(struct layout_table *t);
NX_NODISCARD nx_status layout_table_load(struct layout_table *t, const struct layout *l,
                                         struct nx_err *err);
/* Adds a line that the layout did not have; an empty `series` is never found. */
NX_NODISCARD nx_status layout_table_add(struct layout_table *t, uint32_t what,
                                        struct nx_slice prefix, struct nx_slice series,
                                        struct nx_err *err);
/* The line of `series` with this type class, or -1. Of several, the first that was added. */
int64_t layout_table_find(const struct layout_table *t, struct nx_slice series,
                          unsigned type_class);
struct nx_slice layout_table_prefix(const struct layout_table *t, uint32_t line);
