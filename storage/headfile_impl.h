/* headfile_impl.h - what headfile.c and headfile_loose.c share: a set of chunk files. Private to them. */
#pragma once

#include "src/base/buf.h"
#include "storage/headfile.h"

#define HEADFILE_RECORD_BYTES 20u
#define HEADFILE_PAGE_ENTRY   16u
#define HEADFILE_PAGE_BYTES   8192u /* a page is closed when it unpacks to so much */
#define HEADFILE_PAGE_PACKED  0x80000000u
#define HEADFILE_MAX_PAGE     (16u << 20)
#define HEADFILE_MAX_ENTRIES  (1u << 22)

/* Of a page directory (FORMAT.md): the last page that begins at or before member `at`. */
static inline const uint8_t *headfile_page_of(const uint8_t *pages, uint32_t n, uint32_t at)
{
    uint32_t lo = 0, hi = n;

    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (get_u32le(pages + (size_t)mid * HEADFILE_PAGE_ENTRY) <= at)
            lo = mid;
        else
            hi = mid;
    }
    return pages + (size_t)lo * HEADFILE_PAGE_ENTRY;
}

enum headfile_record {
    RECORD_COLUMNS = 1,
    RECORD_SEAL = 2,
    RECORD_MARK = 3,
    RECORD_SERIES = 4,
    RECORD_SAMPLES = 5
};

struct headfile {
    atomic_uint refs;
    struct headfiles *set; /* set once */
    uint32_t number;       /* set once */
    uint64_t id;           /* set once; in the cache */
    struct fs_file *file;
    uint64_t bytes;   /* the worker's */
    bool damaged;     /* the worker's: kept when its time has come */
    atomic_uint told; /* times that damage of it was logged */
};

/* A record of samples whose time is over, in a file that has others. */
struct headfile_gone {
    uint64_t at;
    uint32_t number;
};

struct making;

struct headfiles {
    struct fs *fs; /* set once */
    char *dir;     /* set once */
    struct cache *cache;
    /* the worker's */
    struct headfile **v;
    size_t n, cap;
    struct headfile *out; /* that is written to; NULL: none */
    struct buf buf;       /* of it, from `written` on */
    uint64_t written, synced;
    uint32_t next_number;
    struct buf page, head, body; /* of a record in the making */
    struct making *making; /* a record of samples; NULL: there was none yet (headfile_loose.c) */
    struct headfile_gone *gone;
    size_t n_gone, cap_gone;
    /* atomic */
    atomic_uint_least64_t n_files, n_bytes, written_bytes, damaged, lost_bytes;
};

/* ---- headfile.c -------------------------------------------------------------------------------- */

/* What a page is of, should it be damaged. */
struct headfile_lost {
    struct headfile *file;
    int64_t min_ms, max_ms;
    uint32_t n_series;
};
/* Counts and logs; NX_CORRUPT. */
nx_status headfile_damage(const struct headfile_lost *lost, uint64_t at, const char *what,
                          struct nx_err *err);
/* The page of `entry` in the directory of a record whose body begins at `body`, unpacked; cache_put(). */
NX_NODISCARD nx_status headfile_page(const struct headfile_lost *lost, uint64_t body,
                                     const uint8_t *entry, struct cache_page *page,
                                     struct nx_err *err);
/* Makes the file if need be. */
NX_NODISCARD nx_status headfiles_begin_record(struct headfiles *hs, struct nx_err *err);
/* Failures show in hs->buf. */
void headfiles_put_record(struct headfiles *hs, uint8_t type, struct nx_slice head,
                          struct nx_slice body);
/* A record of columns or of series. */
NX_NODISCARD nx_status headfiles_put_payload(struct headfiles *hs, uint8_t type,
                                             struct nx_slice payload, struct nx_err *err);
void headfiles_give_up(struct headfiles *hs);
/* hs->page goes into hs->body, its entry, of the first item `from`, into `head`. */
void headfiles_end_page(struct headfiles *hs, struct buf *head, uint32_t from);
/* The checksums of pages, now that it is known where the record will be. `pages`: n entries. */
void headfiles_sum_pages(struct headfiles *hs, char *pages, uint32_t n, uint64_t body_at);
/* True: the entries ascend from item 0 on and lie within the body. */
bool headfile_pages_good(const uint8_t *pages, uint32_t n, uint64_t n_items, uint64_t body_bytes);

/* ---- headfile_loose.c -------------------------------------------------------------------------- */

/* NX_CORRUPT: it makes no sense. */
NX_NODISCARD nx_status headfile_found_samples(struct headfile *f, uint64_t at, struct nx_slice head,
                                              uint64_t body_bytes, struct loose_batch **out,
                                              struct nx_err *err);
/* Reads the note of what is gone. */
NX_NODISCARD nx_status headfiles_gone_load(struct headfiles *hs, struct nx_err *err);
bool headfiles_is_gone(const struct headfiles *hs, uint32_t number, uint64_t at);
void headfiles_loose_done(struct headfiles *hs);
